"""What TensorBoard shows of a fit besides curves: the numbers that runs are compared by, and held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from rlce import plots
from rlce.optimization import Optimization
from rlce.supervised import calibration
from rlce.tracking import Details

SHOWN, POINTS = 20, 500  # classes, and points of a plot


def hyperparameters(settings: Mapping[str, Any], optimization: Optimization, rows: int, width: int) -> dict[str, Any]:
    """The numbers and words that runs are compared by. Capitals come first in TensorBoard.

    Args:
        settings: the estimator's parameters as JSON values.
        optimization: in force.
        rows: the number of training rows.
        width: of a row, D.

    Example:
        >>> found = hyperparameters({"rule": [{"name": "smooth"}], "random_state": 3}, Optimization(), 100, 4)
        >>> found["Method"], found["Learning rate"], found["Seed"], found["rows"]
        ('smooth', 0.001, 3, 100)
    """
    names = ("hidden", "activation", "dropout", "batch_size", "epochs", "validation_split", "class_weight", "restarts")
    if "cost" in settings:
        task, method = "regression", settings["cost"]
    else:
        rule = settings.get("rule") or []
        rules = [one["name"] if isinstance(one, dict) else one for one in (rule if isinstance(rule, list) else [rule])]
        task, method = "classification", ", ".join(map(str, rules)) or "cross-entropy"
    plain = {name: settings.get(name) for name in names}
    return {
        **{name: str(value) if isinstance(value, Mapping) else value for name, value in plain.items()},
        "Method": method,
        "Learning rate": optimization.learning_rate,
        "Seed": settings.get("random_state"),
        "Task": task,
        "optimizer": optimization.optimizer,
        "schedule": optimization.schedule if isinstance(optimization.schedule, str) else "a function",
        "weight_decay": optimization.weight_decay,
        "rows": rows,
        "features": width,
    }


def of_classes(labels: Sequence[Any], true: NDArray[Any], predicted: NDArray[Any], p: NDArray[Any]) -> Details:
    """Confusion, reliability and F1 of held-out rows.

    Args:
        labels: of the columns, ``[K]``.
        true: class indices ``[N]``; or zeros and ones ``[N, M]``, of which only F1 is shown.
        predicted: of the same shape.
        p: probabilities ``[N, K]``; not used for zeros and ones.

    Example:
        >>> true, p = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
        >>> found = of_classes(["no", "yes"], true, p.argmax(axis=1), p)
        >>> round(found.scalars["val/f1/yes"], 3), sorted(found.images)
        (0.667, ['val/confusion', 'val/reliability'])
    """
    names = [str(label) for label in labels]
    numbers = list(range(len(names)))
    _, _, f1, support = metrics.precision_recall_fscore_support(true, predicted, labels=numbers, zero_division=0)
    order = np.sort(np.argsort(-support, kind="stable")[:SHOWN])
    scalars = {f"val/f1/{' '.join(names[k].split())}": float(f1[k]) for k in order if support[k]}
    if true.ndim == 2:
        return Details(scalars=scalars)
    counts = metrics.confusion_matrix(true, predicted, labels=numbers)[np.ix_(order, order)]
    bins = calibration.reliability(true, p, classes=numbers)
    images = {
        "val/confusion": partial(plots.confusion, [names[k][:16] for k in order], counts),
        "val/reliability": partial(plots.reliability, *bins),
    }
    return Details({"val/confidence": p.max(axis=1)}, images, scalars)


def of_numbers(true: NDArray[Any], predicted: NDArray[Any], interval: NDArray[Any] | None) -> Details:
    """Residuals and intervals of held-out rows.

    Args:
        true: ``[N]``; of several targets a row, ``[N, M]``, only the residuals are shown.
        predicted: of the same shape.
        interval: lower and upper bounds for a coverage of 90 %, ``[N, 2]`` or ``[N, M, 2]``; or None.

    Example:
        >>> found = of_numbers(np.array([1.0, 2.0]), np.array([1.5, 2.0]), np.array([[1.2, 1.8], [1.0, 3.0]]))
        >>> found.histograms["val/residuals"], found.scalars
        (array([-0.5,  0. ]), {'val/coverage': 0.5})
    """
    scalars = {}
    if interval is not None:
        scalars["val/coverage"] = float(np.mean((interval[..., 0] <= true) & (true <= interval[..., 1])))
    histograms = {"val/residuals": true - predicted}
    if true.ndim == 2:
        return Details(histograms, scalars=scalars)
    some = slice(None, None, -(-len(true) // POINTS))
    bounds = None if interval is None else interval[some]
    images = {
        "val/predictions": partial(plots.predictions, true[some], predicted[some], bounds),
        "val/residuals_plot": partial(plots.residuals, true[some], predicted[some]),
    }
    return Details(histograms, images, scalars)
