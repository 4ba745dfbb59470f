"""Measures of an estimator on held-out rows: what `rlce.report` puts into a `Report`.

The standard measures are scikit-learn's. Where one is undefined, it is None with a note; no number is made up.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import inspection, metrics
from sklearn.base import is_classifier
from sklearn.dummy import DummyRegressor

from rlce import threads
from rlce.optimization import check_number
from rlce.supervised import calibration
from rlce.supervised.report import SHOWN, Bins, ClassRow, Confusion, Importance, Points, Report

# What a report may cost: rows that are shuffled, columns, shuffles of each; training rows; points of a plot.
_SHUFFLED_ROWS, _COLUMNS, _SHUFFLES = 2_000, 100, 5
_TRAINING_ROWS = 20_000
_POINTS = 500

Measures = dict[str, float | None]
Areas = tuple[float | None, float | None]  # under the ROC curve, and under precision against recall
_UNDEFINED: Areas = (None, None)


def report(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    training: tuple[Any, Any] | None = None,
    columns: Sequence[str] | None = None,
    coverage: float = 0.9,
    importance: bool = True,
    random_state: int = 0,
) -> Report:
    """Measure how good a fitted estimator is on rows that it was not trained on.

    Works for every scikit-learn classifier with ``predict_proba`` and every regressor, so that reports of several can
    be compared.

    * Classification: accuracy, balanced accuracy, macro F1, log-loss, ROC AUC (one class against the others), average
      precision, calibration error; for each class precision, recall, F1 and its areas; the confusion matrix and the
      reliability of the probabilities.
    * Regression: MAE, RMSE, R²; if ``estimator.predict_interval`` gives intervals, their coverage, mean width and
      pinball loss.
    * Importance of a column: how much the log-loss (RMSE) rises when its values are shuffled among the rows, 5 times.
      Columns that say the same stand in for each other, so that each of them may look unimportant.

    Of very large tables a random part is measured, and a note says so: 2,000 rows and the first 100 columns for the
    importance, 20,000 training rows.

    Args:
        estimator: a fitted classifier or regressor.
        X: held-out rows, ``[N, D]``: an array, a list of rows, or a DataFrame.
        y: their labels or numbers, ``[N]``.
        training: ``(X, y)`` of the training rows, for the training score and for the constant guess: the class
            frequencies of the training rows, or the mean (and quantiles for the interval) of their numbers.
        columns: the name of the column that each input belongs to, ``[D]``. Inputs of one name, such as the categories
            of a text column, are shuffled together. By default the names that X or the estimator has.
        coverage: nominal probability that an interval holds the true value.
        importance: False leaves out the importance of columns, which takes most of the time.
        random_state: of the shuffles and random parts.

    Returns:
        A value to print, to write with `Report.write`, or to store as JSON with `Report.to_json`.

    Raises:
        TypeError: the estimator is a classifier without ``predict_proba``.
        ValueError: shapes that do not fit, a label that the estimator does not know, a target that is not finite, or a
            coverage outside (0, 1).

    Source:
        Permutation importance: Breiman (2001), "Random forests", Machine Learning 45, section 10.

    Example:
        >>> from sklearn.dummy import DummyRegressor
        >>> print(report(DummyRegressor().fit([[0.0]], [2.0]), [[0.0], [1.0]], [1.0, 3.0], importance=False))
        2 test rows
        <BLANKLINE>
              test
        MAE      1
        RMSE     1
        R²       0
    """
    random = np.random.default_rng(random_state)
    rows, target = _table("X", X), _targets("y", y)
    if len(rows) != len(target) or not len(target):
        raise ValueError(f"X and y must have the same number of rows, at least 1, got {len(rows)} and {len(target)}")
    names = _names(estimator, rows, columns)
    known, learnt, notes = None, None, []
    if training is not None:
        training_rows, known = _table("training", training[0]), _targets("training", training[1])
        if len(training_rows) != len(known) or not len(known):
            got = f"{len(training_rows)} and {len(known)}"
            raise ValueError(f"training: X and y must have the same number of rows, at least 1, got {got}")
        chosen = _sample(random, len(known), _TRAINING_ROWS)
        learnt = _take(training_rows, chosen), known[chosen]
        if len(chosen) < len(known):
            notes += [f"training score: of {len(chosen):,} random training rows"]
    if is_classifier(estimator):
        if not hasattr(estimator, "predict_proba"):
            raise TypeError(f"estimator must have predict_proba, got {type(estimator).__name__}")
        with warnings.catch_warnings():
            # With few rows of many classes, scikit-learn asks whether they are numbers.
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            found = _classification(estimator, rows, target, learnt, known)
        name, loss = "log-loss", _log_loss
    else:
        check_number("coverage", coverage, lambda value: 0 < value < 1, "lie in (0, 1)")
        found = _regression(estimator, rows, target, learnt, known, coverage, random)
        name, loss = "RMSE", _rmse
    notes += found.pop("notes")
    measured = None
    if importance and len(target) > 1:
        chosen = _sample(random, len(target), _SHUFFLED_ROWS)
        if len(chosen) < len(target):
            notes += [f"importance: of {len(chosen):,} random test rows"]
        if len(dict.fromkeys(names)) > _COLUMNS:
            notes += [f"importance: of the first {_COLUMNS} of {len(dict.fromkeys(names)):,} columns"]
        part = _take(rows, chosen)
        with threads.one_thread(_work(estimator, part)):
            measured = Importance(name, *_importance(loss(estimator, target[chosen]), part, names, random_state))
    elif importance:
        notes += ["importance: undefined for a single test row"]
    return Report(
        test_rows=len(target),
        training_rows=None if known is None else len(known),
        notes=notes,
        importance=measured,
        **found,
    )


def _classification(
    estimator: Any,
    X: Any,
    y: NDArray[Any],
    training: tuple[Any, NDArray[Any]] | None,
    known: NDArray[Any] | None,
) -> dict[str, Any]:
    """What the report of a classifier holds."""
    classes = np.asarray(estimator.classes_)
    for name, given in (("y", y), ("training", known)):
        unknown = [] if given is None else sorted(set(given.tolist()) - set(classes.tolist()), key=str)
        if unknown:
            raise ValueError(f"{name} holds labels that the estimator does not know: {unknown[:5]}")
    labels = [str(label) for label in classes.tolist()]
    predicted, p = np.asarray(estimator.predict(X)), np.asarray(estimator.predict_proba(X))
    areas = _areas(y, p, classes)
    columns = {"test": _class_measures(y, predicted, p, classes, areas)}
    if training is not None and known is not None:
        rows, truth = training
        shares = np.asarray(estimator.predict_proba(rows))
        chosen, known_areas = np.asarray(estimator.predict(rows)), _areas(truth, shares, classes)
        columns["training"] = _class_measures(truth, chosen, shares, classes, known_areas)
        frequencies = np.mean([known == label for label in classes], axis=1)
        constant = np.broadcast_to(frequencies, p.shape)
        guess = np.full(len(y), classes[frequencies.argmax()], dtype=classes.dtype)
        columns["constant guess"] = _class_measures(y, guess, constant, classes, _areas(y, constant, classes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        y, predicted, labels=classes, zero_division=np.nan
    )
    per_class = [
        ClassRow(label, int(support[k]), _number(precision[k]), _number(recall[k]), _number(f1[k]), *areas[k])
        for k, label in enumerate(labels)
    ]
    order = np.arange(len(classes))
    if len(classes) > SHOWN:
        order = np.argsort(-support, kind="stable")[:SHOWN]
    counts = metrics.confusion_matrix(y, predicted, labels=classes)[np.ix_(order, order)]
    bins = calibration.reliability(y, p, classes=classes)
    return {
        "task": "classification",
        "measures": _side_by_side(columns),
        "notes": _about_areas(labels, per_class),
        "classes": per_class,
        "confusion": Confusion([labels[k] for k in order], counts.tolist()),
        "reliability": Bins([int(n) for n in bins.rows], *([_number(v) for v in each] for each in bins[1:])),
    }


def _class_measures(
    y: NDArray[Any],
    predicted: NDArray[Any],
    p: NDArray[np.float64],
    classes: NDArray[Any],
    areas: list[Areas],
) -> Measures:
    # Of two classes, the second is the positive one, as in scikit-learn; its ROC curve has the first one's area.
    counted = [area for area in (areas[-1:] if len(classes) == 2 else areas) if area != _UNDEFINED]
    roc_auc, average_precision = np.mean(np.array(counted or [_UNDEFINED], dtype=np.float64), axis=0)
    measures = {
        "accuracy": np.mean(predicted == y),
        "balanced accuracy": metrics.recall_score(y, predicted, labels=np.unique(y), average="macro"),
        "macro F1": metrics.f1_score(y, predicted, average="macro", zero_division=0),
        "log-loss": metrics.log_loss(y, p, labels=classes),
        "ROC AUC": roc_auc,
        "average precision": average_precision,
        "calibration error": calibration.expected_calibration_error(y, p, classes=classes),
    }
    return {name: _number(value) for name, value in measures.items()}


def _areas(y: NDArray[Any], p: NDArray[np.float64], classes: NDArray[Any]) -> list[Areas]:
    """ROC AUC and average precision of each class against the others; None if all rows are of it, or none."""
    found: list[Areas] = []
    for k, label in enumerate(classes):
        positive = y == label
        if positive.all() or not positive.any():
            found += [_UNDEFINED]
        else:
            of = positive, p[:, k]
            found += [(float(metrics.roc_auc_score(*of)), float(metrics.average_precision_score(*of)))]
    return found


def _about_areas(labels: list[str], classes: list[ClassRow]) -> list[str]:
    """What the reader must know of the areas under curves."""
    defined = [one for one in classes if one.roc_auc is not None]
    if not defined:
        (only,) = (one.label for one in classes if one.rows)
        return [f"ROC AUC, average precision: undefined, because all test rows are of one class, {only!r}"]
    if len(classes) == 2:
        return [f"average precision: of the class {labels[1]!r}"]
    if len(defined) < len(classes):
        return [f"ROC AUC, average precision: of the {len(defined)} of {len(classes)} classes with test rows"]
    return []


def _regression(
    estimator: Any,
    X: Any,
    y: NDArray[Any],
    training: tuple[Any, NDArray[Any]] | None,
    known: NDArray[Any] | None,
    coverage: float,
    random: np.random.Generator,
) -> dict[str, Any]:
    """What the report of a regressor holds."""
    for name, numbers in (("y", y), ("training", known)):
        if numbers is not None and (numbers.dtype.kind not in "biuf" or not np.isfinite(numbers).all()):
            raise ValueError(f"{name}: the targets of a regression must be finite numbers, got {numbers[:5].tolist()}")
    predicted, notes = np.asarray(estimator.predict(X), dtype=np.float64), []
    interval = None
    if hasattr(estimator, "predict_interval"):
        try:
            interval = np.asarray(estimator.predict_interval(X, coverage), dtype=np.float64)
        except ValueError as error:  # the estimator says why it gives none
            notes += [f"no intervals: {error}"]
    columns = {"test": _number_measures(y, predicted, interval, coverage)}
    if training is not None and known is not None:
        rows, truth = training
        bounds = None if interval is None else estimator.predict_interval(rows, coverage)
        columns["training"] = _number_measures(truth, np.asarray(estimator.predict(rows)), bounds, coverage)
        middle = np.full(len(y), known.mean())
        outer = np.quantile(known, [(1 - coverage) / 2, (1 + coverage) / 2])
        constant = None if interval is None else np.broadcast_to(outer, (len(y), 2))
        columns["constant guess"] = _number_measures(y, middle, constant, coverage)
    if len(y) == 1:
        notes += ["R²: undefined for a single test row"]
    shown = _sample(random, len(y), _POINTS)
    points = None if interval is None else interval[shown].tolist()
    return {
        "task": "regression",
        "measures": _side_by_side(columns),
        "notes": notes,
        "points": Points(y[shown].astype(float).tolist(), predicted[shown].tolist(), points),
    }


def _number_measures(y: NDArray[Any], predicted: NDArray[Any], interval: Any, coverage: float) -> Measures:
    measures: Measures = {
        "MAE": float(metrics.mean_absolute_error(y, predicted)),
        "RMSE": float(metrics.root_mean_squared_error(y, predicted)),
        # A single row has no variance to explain.
        "R²": float(metrics.r2_score(y, predicted)) if len(y) > 1 else None,
    }
    if interval is not None:
        lower, upper = np.asarray(interval).T
        levels = ((lower, (1 - coverage) / 2), (upper, (1 + coverage) / 2))
        pinball = [metrics.mean_pinball_loss(y, bound, alpha=level) for bound, level in levels]
        measures[f"coverage of {coverage * 100:.4g} %"] = float(np.mean((lower <= y) & (y <= upper)))
        measures["mean width"] = float(np.mean(upper - lower))
        measures["pinball loss"] = float(np.mean(pinball))
    return measures


def _importance(
    loss: Callable[[Any], float], X: Any, names: list[str], random_state: int
) -> tuple[list[str], list[float], list[float]]:
    """Names, the rise of ``loss(rows)`` and its deviation, for the columns of the table, the most important first."""
    columns = list(dict.fromkeys(names))[:_COLUMNS]
    inputs = [np.flatnonzero(np.array(names, dtype=object) == column) for column in columns]
    # scikit-learn shuffles the columns of a matrix. This one holds row numbers: a column for each of the table's
    # columns, however many inputs of the network it became.
    own = np.arange(len(X))
    numbers = np.repeat(own[:, None], len(columns), axis=1)

    def scored(_: Any, numbers: NDArray[np.intp], __: Any) -> float:
        shuffled = X.copy()
        for position in np.flatnonzero((numbers != own[:, None]).any(axis=0)):
            for column in inputs[position]:
                if hasattr(X, "iloc"):
                    shuffled.isetitem(column, X.iloc[:, column].array.take(numbers[:, position]))
                else:
                    shuffled[:, column] = X[numbers[:, position], column]
        return -loss(shuffled)

    found = inspection.permutation_importance(
        DummyRegressor(), numbers, own, scoring=scored, n_repeats=_SHUFFLES, random_state=random_state
    )
    order = np.argsort(-found.importances_mean, kind="stable")
    means, deviations = found.importances_mean[order], found.importances_std[order]
    return [columns[position] for position in order], means.tolist(), deviations.tolist()


def _log_loss(estimator: Any, y: NDArray[Any]) -> Callable[[Any], float]:
    """The log-loss of rows with these labels; `sklearn.metrics.log_loss` checks more than it computes."""
    column = {label: k for k, label in enumerate(np.asarray(estimator.classes_).tolist())}
    of = np.arange(len(y)), np.array([column[label] for label in y.tolist()])
    smallest = np.finfo(np.float64).eps
    return lambda X: float(-np.log(np.maximum(np.asarray(estimator.predict_proba(X))[of], smallest)).mean())


def _rmse(estimator: Any, y: NDArray[Any]) -> Callable[[Any], float]:
    return lambda X: float(metrics.root_mean_squared_error(y, estimator.predict(X)))


def _work(estimator: Any, X: Any) -> float:
    """Multiply-adds of predicting these rows; infinite if it is not ours to say how many threads are best."""
    network = getattr(estimator, "network_", None)
    return np.inf if network is None else len(X) * threads.multiply_adds(network, X.shape[1])


def _table(name: str, X: Any) -> Any:
    """A DataFrame as it is, anything else as an array, ``[N, D]``."""
    rows = X if hasattr(X, "iloc") else np.asarray(X)
    if rows.ndim != 2:
        raise ValueError(f"{name}: rows must have shape [N, D], got {list(rows.shape)}")
    return rows


def _targets(name: str, y: Any) -> NDArray[Any]:
    targets = np.asarray(y)
    if targets.ndim != 1:
        raise ValueError(f"{name} must hold one label or number a row, [N], got shape {list(targets.shape)}")
    return targets


def _take(X: Any, rows: NDArray[np.intp]) -> Any:
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _sample(random: np.random.Generator, count: int, largest: int) -> NDArray[np.intp]:
    """All positions if there are few, else a random part, in order."""
    return np.arange(count) if count <= largest else np.sort(random.choice(count, largest, replace=False))


def _names(estimator: Any, X: Any, columns: Sequence[str] | None) -> list[str]:
    """The column that each input belongs to, ``[D]``."""
    width = X.shape[1]
    if columns is None and hasattr(X, "iloc"):
        columns = [str(name) for name in X.columns]
    elif columns is None and hasattr(estimator, "feature_names_in_"):
        columns = [str(name) for name in estimator.feature_names_in_]
    elif columns is None:
        columns = [f"X[:, {column}]" for column in range(width)]
    if len(columns) != width:
        raise ValueError(f"columns must name the column of each of the {width} inputs, got {len(columns)} names")
    return list(columns)


def _side_by_side(columns: dict[str, Measures]) -> dict[str, dict[str, float | None]]:
    """Turn where → measure → value into measure → where → value."""
    return {name: {where: measures[name] for where, measures in columns.items()} for name in columns["test"]}


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if np.isfinite(value) else None
