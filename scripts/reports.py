"""Reports of a test: measures of predicted classes or numbers, beside those of a constant guess."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics


def classes(train: NDArray[Any], test: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    """Print a report for each class and, for up to 20 classes, the confusion matrix; returns the overall measures.

    Args:
        train: labels of the training rows; the most frequent one is the constant guess, ``[N]``.
        test: labels of the test rows, ``[M]``.
        predicted: predictions for the test rows, ``[M]``.

    Example:
        >>> y = np.array(["a", "a", "b", "b"])
        >>> measures = classes(y[:3], y, np.array(["a", "a", "b", "a"]))  # doctest: +ELLIPSIS
                      precision    recall  f1-score   support
        ...
        confusion matrix: a row for each true class, a column for each predicted
                     a      b
              a      2      0
              b      1      1
        <BLANKLINE>
        >>> measures
        {'test accuracy': 0.75, 'most frequent class': 0.5, 'balanced accuracy': 0.75, 'macro F1': 0.7333}
    """
    known, counts = np.unique(train, return_counts=True)
    print(metrics.classification_report(test, predicted, zero_division=0))
    if len(known) <= 20:
        names = [str(label) for label in known]
        width = max(6, *map(len, names)) + 1
        print("confusion matrix: a row for each true class, a column for each predicted")
        print(" " * width + "".join(f"{name:>{width}}" for name in names))
        for name, row in zip(names, metrics.confusion_matrix(test, predicted, labels=known), strict=True):
            print(f"{name:>{width}}" + "".join(f"{count:{width}}" for count in row))
        print()
    measures = {
        "test accuracy": np.mean(predicted == test),
        "most frequent class": np.mean(test == known[counts.argmax()]),
        "balanced accuracy": metrics.recall_score(test, predicted, labels=np.unique(test), average="macro"),
        "macro F1": metrics.f1_score(test, predicted, average="macro", zero_division=0),
    }
    return {name: round(float(value), 4) for name, value in measures.items()}


def numbers(train: NDArray[Any], test: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float | None]:
    """Errors of the predictions, and of the mean of the training targets as a constant guess.

    Args:
        train: targets of the training rows, ``[N]``.
        test: targets of the test rows, ``[M]``.
        predicted: predictions for the test rows, ``[M]``.

    Example:
        >>> numbers(np.array([1.0, 3.0]), np.array([1.0, 3.0]), np.array([1.0, 2.0]))  # doctest: +NORMALIZE_WHITESPACE
        {'test MAE': 0.5, 'test RMSE': 0.70711, 'test R²': 0.5,
         'MAE of the mean': 1.0, 'RMSE of the mean': 1.0, 'R² of the mean': 0.0}
    """
    result: dict[str, float | None] = {}
    for pattern, guess in (("test {}", predicted), ("{} of the mean", np.full(len(test), train.mean()))):
        result[pattern.format("MAE")] = float(f"{metrics.mean_absolute_error(test, guess):.5g}")
        result[pattern.format("RMSE")] = float(f"{metrics.root_mean_squared_error(test, guess):.5g}")
        # A single row has no variance to explain.
        result[pattern.format("R²")] = round(float(metrics.r2_score(test, guess)), 4) if len(test) > 1 else None
    return result
