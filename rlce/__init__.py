"""rlce: every method is one objective plus a rule for its target weights.

    L(θ) = −(1/Z) Σ_i Σ_k w_ik log p_θ(k | x_i)

A one-hot label in w is classification; return × one-hot(action) in w is REINFORCE. Names resolve when they are first
used, so ``import rlce`` costs no more than ``import torch``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rlce.version import __version__ as __version__

if TYPE_CHECKING:
    from rlce import checkpoint, heads, network
    from rlce.network import MLP
    from rlce.objective import weighted_cross_entropy
    from rlce.onnx import export
    from rlce.optimization import Optimization
    from rlce.reinforcement import credit, environments, masks, methods, rollout
    from rlce.reinforcement.evaluation import Evaluation, evaluate_policy
    from rlce.reinforcement.methods import Method
    from rlce.reinforcement.policy_gradient import PolicyGradient
    from rlce.rules import returns, targets, weights
    from rlce.supervised import calibration, tables
    from rlce.supervised.classifier import Classifier
    from rlce.supervised.regressor import Regressor
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
    "credit",
    "environments",
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

_MODULES = (
    *("calibration", "checkpoint", "credit", "environments", "heads", "masks", "methods", "network"),
    *("returns", "rollout", "tables", "targets", "weights"),
)
# Where each public name lives: the folder of a module, the module of anything else.
_HOME = {
    **dict.fromkeys(("checkpoint", "heads", "network"), ""),
    **dict.fromkeys(("returns", "targets", "weights"), "rules"),
    **dict.fromkeys(("calibration", "tables"), "supervised"),
    **dict.fromkeys(("credit", "environments", "masks", "methods", "rollout"), "reinforcement"),
    "MLP": "network",
    "weighted_cross_entropy": "objective",
    "export": "onnx",
    "Optimization": "optimization",
    "Tracker": "tracking",
    **dict.fromkeys(("Monitor", "Progress", "Round", "Stopping", "Trainer"), "trainer"),
    "Classifier": "supervised.classifier",
    "Regressor": "supervised.regressor",
    **dict.fromkeys(("Evaluation", "evaluate_policy"), "reinforcement.evaluation"),
    "Method": "reinforcement.methods",
    "PolicyGradient": "reinforcement.policy_gradient",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rlce' has no attribute {name!r}")
    home = f"rlce.{_HOME[name]}".rstrip(".")
    return import_module(f"{home}.{name}") if name in _MODULES else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
