"""Estimators at their defaults on twenty tables: the data sets, the contenders and the table of results.

``python -m scripts.benchmark_supervised tables`` runs it. Half of the sets were used to choose the defaults of
`rlce.Classifier` and `rlce.Regressor`; the other half was untouched until the defaults stood.
"""

from __future__ import annotations

import functools
import statistics
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets, metrics
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import scripts
from rlce import Classifier, Regressor, calibration, threads

Data = tuple[NDArray[Any], NDArray[Any]]  # X, [N, D], and y, [N]


@dataclass(frozen=True)
class Table:
    """A data set: what a seed draws, and whether the defaults were chosen on it.

    Attributes:
        make: seed → X ``[N, D]`` and y ``[N]``; scikit-learn's own sets are the same for every seed.
        regression: False for labels.
        chosen_on: True if the defaults of our estimators were chosen on it.
        spoil: (seed, training rows) → the same with faults.
    """

    make: Callable[[int], Data]
    regression: bool = False
    chosen_on: bool = False
    spoil: Callable[[int, Data], Data] | None = None

    def split(self, seed: int) -> tuple[Data, Data]:
        """Training rows and test rows (a quarter, of each class alike); only training rows are spoilt."""
        X, y = self.make(seed)
        stratify = None if self.regression else y
        parts = train_test_split(X, y, test_size=0.25, random_state=seed, stratify=stratify)
        train, test = (parts[0], parts[2]), (parts[1], parts[3])
        return (train if self.spoil is None else self.spoil(seed, train)), test


# Classes.


def made(rows: int, columns: int, classes: int, informative: int, **more: Any) -> Callable[[int], Data]:
    """Clusters at the corners of a hypercube, with sums of the informative columns and noise columns beside them."""
    return lambda seed: datasets.make_classification(
        rows, columns, n_informative=informative, n_redundant=columns // 4, n_classes=classes, random_state=seed, **more
    )


def heavy_tails(seed: int) -> Data:
    """Three classes of 5,000 rows in 20 columns; each column is stretched so that its largest values dwarf the rest."""
    X, y = made(5_000, 20, 3, 10, class_sep=1.5)(seed)
    return np.sign(X) * np.expm1(2.0 * np.abs(X)), y


def broken_row(seed: int, data: Data) -> Data:
    """One training row holds 1e6 in every column."""
    X = data[0].copy()
    X[seed % len(X)] = 1e6
    return X, data[1]


def wrong_labels(seed: int, data: Data) -> Data:
    """A fifth of the training labels is drawn anew."""
    generator, y = np.random.default_rng([seed, 3]), data[1].copy()
    wrong = generator.random(len(y)) < 0.2
    y[wrong] = generator.choice(np.unique(y), wrong.sum())
    return data[0], y


def rules(seed: int, rows: int = 4_000) -> Data:
    """Two classes by a few thresholds on 8 columns of 12, as trees like them."""
    generator = np.random.default_rng([seed, 4])
    X = generator.random((rows, 12))
    votes = ((X[:, 0] > 0.5) & (X[:, 1] > 0.3)) | ((X[:, 2] > 0.7) ^ (X[:, 3] > 0.6)) & (X[:, 4:8].max(axis=1) > 0.8)
    flipped = generator.random(rows) < 0.05
    return X, (votes ^ flipped).astype(int)


# Numbers.


def heteroscedastic(seed: int, rows: int = 3_000) -> Data:
    """Y = sin 3x₀ + x₁² + (0.1 + |x₂|) ε over 6 uniform columns."""
    generator = np.random.default_rng([seed, 5])
    X = generator.uniform(-1.0, 1.0, (rows, 6))
    noise = (0.1 + np.abs(X[:, 2])) * generator.normal(size=rows)
    return X, np.sin(3.0 * X[:, 0]) + X[:, 1] ** 2 + noise


def steps(seed: int, rows: int = 4_000) -> Data:
    """A sum of jumps and of one product of jumps over 10 uniform columns, noise 0.3."""
    generator = np.random.default_rng([seed, 6])
    X = generator.random((rows, 10))
    y = 2.0 * (X[:, 0] > 0.4) + 3.0 * (X[:, 1] > 0.7) * (X[:, 2] > 0.5) + np.floor(4.0 * X[:, 3])
    return X, y + 0.3 * generator.normal(size=rows)


def skewed(seed: int, rows: int = 3_000) -> Data:
    """Log-normal columns and a target with outliers: 10 columns, y = log x₀ + log x₁ · log x₂ + noise."""
    generator = np.random.default_rng([seed, 7])
    logs = generator.normal(size=(rows, 10))
    return np.exp(1.5 * logs), logs[:, 0] + logs[:, 1] * logs[:, 2] + 0.3 * generator.standard_t(3, rows)


TABLES: dict[str, Table] = {
    "iris": Table(lambda seed: datasets.load_iris(return_X_y=True), chosen_on=True),
    "wine": Table(lambda seed: datasets.load_wine(return_X_y=True)),
    "breast cancer": Table(lambda seed: datasets.load_breast_cancer(return_X_y=True), chosen_on=True),
    "breast cancer, a broken row": Table(
        lambda seed: datasets.load_breast_cancer(return_X_y=True), chosen_on=True, spoil=broken_row
    ),
    "digits": Table(lambda seed: datasets.load_digits(return_X_y=True)),
    "clusters 15,000 × 40": Table(made(15_000, 40, 5, 20), chosen_on=True),
    "50 classes": Table(made(20_000, 30, 50, 15, n_clusters_per_class=1)),
    "wrong labels": Table(made(3_000, 20, 4, 10), chosen_on=True, spoil=wrong_labels),
    "wrong labels, digits": Table(lambda seed: datasets.load_digits(return_X_y=True), spoil=wrong_labels),
    "heavy tails": Table(heavy_tails, chosen_on=True),
    "1 in 100": Table(made(10_000, 20, 2, 8, weights=[0.99], flip_y=0.0), chosen_on=True),
    "1 in 100, overlapping": Table(made(10_000, 10, 2, 4, weights=[0.99], flip_y=0.01, class_sep=0.7)),
    "sum of squares (Hastie)": Table(lambda seed: datasets.make_hastie_10_2(12_000, random_state=seed)),
    "rules": Table(rules),
    "diabetes": Table(lambda seed: datasets.load_diabetes(return_X_y=True), True, chosen_on=True),
    "Friedman 1": Table(lambda seed: datasets.make_friedman1(2_000, noise=1.0, random_state=seed), True),
    "Friedman 2": Table(lambda seed: datasets.make_friedman2(2_000, noise=125.0, random_state=seed), True, True),
    "Friedman 3": Table(lambda seed: datasets.make_friedman3(2_000, noise=0.1, random_state=seed), True),
    "heteroscedastic": Table(heteroscedastic, True, chosen_on=True),
    "steps": Table(steps, True),
    "skewed": Table(skewed, True, chosen_on=True),
    "linear 12,000 × 30": Table(
        lambda seed: datasets.make_regression(12_000, 30, n_informative=10, noise=20.0, random_state=seed), True
    ),
}

# Ugly columns first, then clean ones.
CLEAN_AND_UGLY = (
    "breast cancer, a broken row",
    "heavy tails",
    "skewed",
    "iris",
    "breast cancer",
    "digits",
    "sum of squares (Hastie)",
    "diabetes",
    "Friedman 1",
    "linear 12,000 × 30",
)

# What a user would write to stop early.
EARLY: dict[str, Any] = {"validation_split": 0.1, "stopping": 10}


def scalings(regression: bool, seed: int) -> dict[str, Any]:
    """Our estimator with each scaling of columns, unfitted."""
    kind = Regressor if regression else Classifier
    return {f'scaling="{name}"': kind(scaling=name, random_state=seed) for name in ("robust", "standard")}


def contenders(regression: bool, seed: int) -> dict[str, Any]:
    """The estimators, unfitted, all at their defaults."""
    if regression:
        return {
            "Regressor": Regressor(random_state=seed),
            "Regressor, early stopping": Regressor(**EARLY, random_state=seed),
            "MLPRegressor": make_pipeline(StandardScaler(), MLPRegressor(random_state=seed)),
            "HistGradientBoosting": HistGradientBoostingRegressor(random_state=seed),
            "linear": make_pipeline(StandardScaler(), Ridge()),
        }
    return {
        "Classifier": Classifier(random_state=seed),
        "Classifier, early stopping": Classifier(**EARLY, random_state=seed),
        "MLPClassifier": make_pipeline(StandardScaler(), MLPClassifier(random_state=seed)),
        "HistGradientBoosting": HistGradientBoostingClassifier(random_state=seed),
        "linear": make_pipeline(StandardScaler(), LogisticRegression()),
    }


class Bounds:
    """Two models, one for each bound of a 90 % interval."""

    def __init__(self, make: Callable[[float], Any]) -> None:
        self.models = [make(level) for level in (0.05, 0.95)]

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> None:
        """``[N, D]`` and ``[N]``."""
        for model in self.models:
            model.fit(X, y)

    def predict_interval(self, X: NDArray[Any], coverage: float) -> NDArray[Any]:
        """``[N, 2]``."""
        del coverage  # the models know their levels
        return np.stack([model.predict(X) for model in self.models], axis=1)


def with_intervals(seed: int) -> dict[str, Any]:
    """Estimators of 90 % intervals, at their defaults but for the cost."""
    return {
        "Regressor, quantile": Regressor(cost="quantile", quantiles=(0.05, 0.5, 0.95), random_state=seed),
        "Regressor, gaussian": Regressor(cost="gaussian", random_state=seed),
        "Regressor, conformal": Regressor(conformal=True, validation_split=0.2, random_state=seed),
        "HistGradientBoosting, quantile": Bounds(
            lambda level: HistGradientBoostingRegressor(loss="quantile", quantile=level, random_state=seed)
        ),
    }


# Measures.


def fitted(estimator: Any, X: NDArray[Any], y: NDArray[Any]) -> float:
    """Fit, and return the CPU seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # defaults as they are
        began = time.process_time()
        estimator.fit(X, y)
        return time.process_time() - began


def of_classes(estimator: Any, X: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    """Measures of probabilities and of the most probable class."""
    probabilities = np.asarray(estimator.predict_proba(X), np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    classes = estimator.classes_
    predicted = classes[probabilities.argmax(axis=1)]
    return {
        "log-loss": float(metrics.log_loss(y, probabilities, labels=classes)),
        "accuracy": float(np.mean(predicted == y)),
        "macro-F1": float(metrics.f1_score(y, predicted, average="macro", zero_division=0)),
        "calibration error": float(calibration.expected_calibration_error(y, probabilities, classes=classes)),
    }


def of_numbers(estimator: Any, X: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    """The error of the predicted mean."""
    return {"RMSE": float(metrics.root_mean_squared_error(y, estimator.predict(X)))}


def of_intervals(estimator: Any, X: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    """Mean pinball loss, coverage and width of 90 % intervals."""
    low, high = estimator.predict_interval(X, 0.9).T
    losses = [metrics.mean_pinball_loss(y, bound, alpha=level) for bound, level in ((low, 0.05), (high, 0.95))]
    return {
        "pinball loss": float(np.mean(losses)),
        "coverage": float(((low <= y) & (y <= high)).mean()),
        "width": float((high - low).mean()),
    }


def check_names(flag: str, chosen: Sequence[str], known: Collection[str]) -> None:
    """Refuse a name that is not known."""
    for name in chosen:
        if name not in known:
            raise ValueError(f"{flag} must be some of {', '.join(known)}, got {name!r}")


Runs = dict[str, list[dict[str, float]]]  # contender → its measures, seed by seed


def measured(
    split: Callable[[int], tuple[Data, tuple[NDArray[Any], ...]]],
    seeds: Sequence[int],
    make: Callable[[int], Mapping[str, Any]],
    measure: Callable[..., dict[str, float]],
) -> Runs:
    """Fit every contender on every seed, in turns, and measure it on the test rows.

    Args:
        split: seed → training rows, and test rows: what ``measure`` takes after the estimator.
        seeds: the seeds.
        make: seed → the contenders, unfitted.
        measure: (fitted estimator, test rows) → its measures.
    """
    runs: Runs = {}
    for seed in seeds:
        train, test = split(seed)
        for who, estimator in make(seed).items():
            seconds = fitted(estimator, *train)
            runs.setdefault(who, []).append({**measure(estimator, *test), "CPU s": seconds})
    return runs


# The tables.


def mean_of(values: Sequence[float]) -> tuple[float, float]:
    """The mean over seeds, at least two, and its standard error.

    Example:
        >>> mean_of([1.0, 3.0])
        (2.0, 1.0)
    """
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """Mean difference on the same seeds, ours less theirs, and its standard error.

    Example:
        >>> paired([2.0, 4.0], [1.0, 1.0])
        (2.0, 1.0)
    """
    return mean_of([one - other for one, other in zip(ours, theirs, strict=True)])


def behind(losses: Mapping[str, Sequence[float]], who: str) -> float:
    """How far a contender's mean loss is behind the best mean, in standard errors of the difference over seeds.

    Args:
        losses: contender → losses on the same seeds in the same order, at least two.
        who: the contender.

    Returns:
        0 for the best; infinity if the difference is the same on every seed.

    Example:
        >>> round(behind({"a": [1.0, 2.0, 3.0], "b": [1.5, 2.0, 4.0]}, "b"), 2)
        1.73
        >>> behind({"a": [1.0, 2.0, 3.0], "b": [1.5, 2.0, 4.0]}, "a")
        0.0
    """
    best = min(losses, key=lambda name: statistics.fmean(losses[name]))
    mean, error = paired(losses[who], losses[best])
    if mean == 0.0:
        return 0.0
    return mean / error if error else float("inf")


def rows_of(name: str, runs: Runs) -> list[str]:
    """The rows of a table: means over seeds, the first measure with its standard error."""
    lines = []
    main = next(iter(next(iter(runs.values()))[0]))
    losses = {who: [one[main] for one in results] for who, results in runs.items()}
    for who, results in runs.items():
        cells = []
        for measure in results[0]:
            values = [one[measure] for one in results]
            form = ".2f" if measure == "CPU s" else ".4g"
            cell = f"{statistics.fmean(values):{form}}"
            if measure == main and len(values) > 1:
                cell += f" ± {mean_of(values)[1]:.2g}"
            cells.append(cell)
        distance = f"{behind(losses, who):.1f}" if len(results) > 1 else "—"
        lines.append(f"| {name}{' *' * TABLES[name].chosen_on} | {who} | {' | '.join(cells)} | {distance} |")
    return lines


def summary(everything: Mapping[str, Runs], measure: str) -> list[str]:
    """For each contender: on how many sets it is the best or within one standard error of it, and the CPU time."""
    lines = [f"| contender | sets | best or within 1 standard error ({measure}) | CPU s, all sets |\n|---|---|---|---|"]
    tables = [runs for runs in everything.values() if measure in next(iter(runs.values()))[0]]
    for who in tables[0] if tables else ():
        near = 0
        for runs in tables:
            near += behind({name: [one[measure] for one in results] for name, results in runs.items()}, who) <= 1.0
        seconds = sum(statistics.fmean(one["CPU s"] for one in runs[who]) for runs in tables)
        lines.append(f"| {who} | {len(tables)} | {near} | {seconds:.1f} |")
    return lines


@threads.one_thread()
def tables(
    data: tuple[str, ...] = tuple(TABLES),
    seeds: int = 5,
    first_seed: int = 0,
    output: Path | None = None,
) -> None:
    """Our estimators beside scikit-learn's, all at their defaults, on held-out rows.

    Args:
        data: Names of data sets; by default all.
        seeds: Number of seeds (of the data, the split and the training).
        first_seed: The first seed.
        output: File for all results, as JSON.
    """
    scripts.check_writable(output, "--output")
    check_names("--data", data, TABLES)
    numbers = range(first_seed, first_seed + seeds)
    everything: dict[str, Runs] = {}
    intervals: dict[str, Runs] = {}
    with threadpool_limits(1):  # gradient boosting has threads of its own
        for regression, measure in ((False, of_classes), (True, of_numbers)):
            chosen = [name for name in data if TABLES[name].regression is regression]
            for place, name in enumerate(chosen):
                runs = measured(TABLES[name].split, numbers, functools.partial(contenders, regression), measure)
                everything[name] = runs
                if place == 0:
                    print(heading(runs))
                print("\n".join(rows_of(name, runs)), flush=True)
            if chosen:
                print()
        regressions = [name for name in data if TABLES[name].regression]
        for place, name in enumerate(regressions):
            runs = intervals[name] = measured(TABLES[name].split, numbers, with_intervals, of_intervals)
            if place == 0:
                print(heading(runs))
            print("\n".join(rows_of(name, runs)), flush=True)
    if seeds > 1:
        for loss in ("log-loss", "RMSE"):
            print("\n" + "\n".join(summary(everything, loss)))
    print("\n* the defaults of our estimators were chosen on this set")
    scripts.write_json(output, {"tables": everything, "intervals": intervals})


@threads.one_thread()
def scaling(
    data: tuple[str, ...] = CLEAN_AND_UGLY, seeds: int = 5, first_seed: int = 0, output: Path | None = None
) -> None:
    """Our estimators with robust and with plain standardisation of columns, on ugly columns and on clean ones.

    Args:
        data: Names of data sets.
        seeds: Number of seeds (of the data, the split and the training).
        first_seed: The first seed.
        output: File for all results, as JSON.
    """
    scripts.check_writable(output, "--output")
    check_names("--data", data, TABLES)
    everything: dict[str, Runs] = {}
    for regression, measure in ((False, of_classes), (True, of_numbers)):
        make = functools.partial(scalings, regression)
        for place, name in enumerate(name for name in data if TABLES[name].regression is regression):
            numbers = range(first_seed, first_seed + seeds)
            runs = everything[name] = measured(TABLES[name].split, numbers, make, measure)
            print("\n".join([heading(runs)] * (place == 0) + rows_of(name, runs)), flush=True)
        print()
    scripts.write_json(output, everything)


def heading(runs: Runs) -> str:
    """The first two lines of a table."""
    measures = list(next(iter(runs.values()))[0])
    columns = ["data", "contender", *measures, "standard errors behind the best"]
    return f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|"
