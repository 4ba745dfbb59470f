"""rlce: every method is one objective plus a rule for its target weights.

    L(θ) = −(1/Z) Σ_i Σ_k w_ik log p_θ(k | x_i)

A one-hot label in w is classification; return × one-hot(action) in w is REINFORCE. Names resolve when they are first
used, so ``import rlce`` costs no more than ``import torch``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rlce import (
        calibration,
        checkpoint,
        costs,
        csvfiles,
        heads,
        masks,
        methods,
        network,
        returns,
        rollout,
        tables,
        targets,
        weights,
    )
    from rlce.classifier import Classifier
    from rlce.deployment import export
    from rlce.evaluation import Evaluation, evaluate_policy
    from rlce.methods import Method
    from rlce.network import MLP
    from rlce.objective import weighted_cross_entropy
    from rlce.optimization import Optimization
    from rlce.policy_gradient import PolicyGradient
    from rlce.regressor import Regressor
    from rlce.tracking import Tracker
    from rlce.trainer import Monitor, Progress, Round, Stopping, Trainer

__all__ = [
    "MLP",
    "Classifier",
    "Evaluation",
    "Method",
    "Monitor",
    "Optimization",
    "PolicyGradient",
    "Progress",
    "Regressor",
    "Round",
    "Stopping",
    "Tracker",
    "Trainer",
    "calibration",
    "checkpoint",
    "costs",
    "csvfiles",
    "evaluate_policy",
    "export",
    "heads",
    "masks",
    "methods",
    "network",
    "returns",
    "rollout",
    "tables",
    "targets",
    "weighted_cross_entropy",
    "weights",
]

_HOME = {
    "Classifier": "classifier",
    "Evaluation": "evaluation",
    "MLP": "network",
    "Method": "methods",
    "Monitor": "trainer",
    "Optimization": "optimization",
    "PolicyGradient": "policy_gradient",
    "Progress": "trainer",
    "Regressor": "regressor",
    "Round": "trainer",
    "Stopping": "trainer",
    "Tracker": "tracking",
    "Trainer": "trainer",
    "evaluate_policy": "evaluation",
    "export": "deployment",
    "weighted_cross_entropy": "objective",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"rlce.{_HOME[name]}"), name)
    if name in __all__:
        return import_module(f"rlce.{name}")
    raise AttributeError(f"module 'rlce' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
