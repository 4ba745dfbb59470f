"""rlce: every method is the same loss with its own rule for the target weights.

    L(θ) = −(1/Z) Σ_i Σ_k w_ik log p_θ(k | x_i)

With a one-hot label in w it is classification; with return × one-hot(action) it is REINFORCE. Modules are loaded when a
name is first used, so ``import rlce`` takes no longer than ``import torch``.
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
    from rlce.reinforcement import credit, environments, masks, methods, recipes, rollout
    from rlce.reinforcement.evaluation import Evaluation, evaluate_policy
    from rlce.reinforcement.methods import Method
    from rlce.reinforcement.policy_gradient import PolicyGradient
    from rlce.reinforcement.recording import Film, record
    from rlce.rules import returns, targets, weights
    from rlce.supervised import calibration, tables
    from rlce.supervised.classifier import Classifier
    from rlce.supervised.measuring import report
    from rlce.supervised.regressor import Regressor
    from rlce.supervised.report import Report
    from rlce.tracking import Tracker
    from rlce.trainer import Monitor, Progress, Round, Stopping, Trainer

__all__ = [
    "MLP",
    "Classifier",
    "Evaluation",
    "Film",
    "Method",
    "Monitor",
    "Optimization",
    "PolicyGradient",
    "Progress",
    "Regressor",
    "Report",
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
    "recipes",
    "record",
    "report",
    "returns",
    "rollout",
    "tables",
    "targets",
    "weighted_cross_entropy",
    "weights",
]

# The modules and names of each place, loaded when they are first used.
_HOMES = {
    "rlce": ("checkpoint", "heads", "network"),
    "rlce.rules": ("returns", "targets", "weights"),
    "rlce.supervised": ("calibration", "tables"),
    "rlce.reinforcement": ("credit", "environments", "masks", "methods", "recipes", "rollout"),
    "rlce.network": ("MLP",),
    "rlce.objective": ("weighted_cross_entropy",),
    "rlce.onnx": ("export",),
    "rlce.optimization": ("Optimization",),
    "rlce.tracking": ("Tracker",),
    "rlce.trainer": ("Monitor", "Progress", "Round", "Stopping", "Trainer"),
    "rlce.supervised.classifier": ("Classifier",),
    "rlce.supervised.measuring": ("report",),
    "rlce.supervised.regressor": ("Regressor",),
    "rlce.supervised.report": ("Report",),
    "rlce.reinforcement.evaluation": ("Evaluation", "evaluate_policy"),
    "rlce.reinforcement.methods": ("Method",),
    "rlce.reinforcement.policy_gradient": ("PolicyGradient",),
    "rlce.reinforcement.recording": ("Film", "record"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            inside = vars(import_module(home))
            return inside[name] if name in inside else import_module(f"{home}.{name}")
    raise AttributeError(f"module 'rlce' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
