"""What the command line takes from a report: the names of its columns, and the measures of the closing table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlce.supervised.report import Report
from rlce.supervised.tables import Columns

# The measures of the closing table: the name there, the measure, and where.
_CLOSING = {
    "classification": (
        ("test accuracy", "accuracy", "test"),
        ("training accuracy", "accuracy", "training"),
        ("most frequent class", "accuracy", "constant guess"),
        ("balanced accuracy", "balanced accuracy", "test"),
        ("macro F1", "macro F1", "test"),
        ("test log-loss", "log-loss", "test"),
        ("training log-loss", "log-loss", "training"),
    ),
    "regression": tuple(
        (pattern.format(measure), measure, where)
        for pattern, where in (("test {}", "test"), ("training {}", "training"), ("{} of the mean", "constant guess"))
        for measure in ("MAE", "RMSE", "R²")
    ),
}
# The scalars that TensorBoard shows as results: the measure, and the scalar's name.
_ENDS = {
    "accuracy": "test_accuracy",
    "log-loss": "test_log_loss",
    "macro F1": "test_macro_f1",
    "MAE": "test_mae",
    "RMSE": "test_rmse",
    "R²": "test_r2",
    "coverage of 90 %": "test_coverage",
}


def input_names(table: Mapping[str, Any]) -> list[str]:
    """The column of the table that each input of the network belongs to, ``[D]``.

    Args:
        table: the description of a .csv file that `scripts.train_classifier` saves.

    Example:
        >>> city = {"kind": "text", "name": "city", "categories": ["Bonn", "Ulm"]}
        >>> input_names({"columns": [city, {"kind": "number", "name": "age", "median": 31.0, "indicator": False}]})
        ['city', 'city', 'age']
    """
    return [column.name for column in Columns.from_json(table["columns"]).columns for _ in column.outputs]


def closing(report: Report) -> dict[str, float | None]:
    """The measures of the closing table, rounded.

    Args:
        report: of test rows, with the training rows.

    Example:
        >>> accuracy = {"test": 0.91, "training": 1.0, "constant guess": 0.5}
        >>> closing(Report("classification", 9, 9, {"accuracy": accuracy}))
        {'test accuracy': 0.91, 'training accuracy': 1.0, 'most frequent class': 0.5}
    """
    result: dict[str, float | None] = {}
    for name, measure, where in _CLOSING[report.task]:
        if measure in report.measures:
            value = report.measures[measure][where]
            # Errors have the unit of the target, shares have none.
            digits = None if value is None else f"{value:.5g}" if measure in ("MAE", "RMSE") else f"{value:.4f}"
            result[name] = None if digits is None else float(digits)
    return result


def ends(report: Report) -> dict[str, float | None]:
    """The measures of the test rows by the names of TensorBoard's scalars.

    Example:
        >>> ends(Report("classification", 9, 9, {"accuracy": {"test": 0.91}}))
        {'test_accuracy': 0.91}
    """
    return {name: report.measures[measure]["test"] for measure, name in _ENDS.items() if measure in report.measures}
