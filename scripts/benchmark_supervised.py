"""Benchmarks of `rlce.Classifier` and `rlce.Regressor` beside their usual alternatives: accuracy, time, checks.

The contenders take turns seed by seed, on the same rows, so that the load of the machine is the same for all. Times are
of `fit` alone, including the scaling of columns. skorch takes part if it is installed (`make peers` installs it).
"""

from __future__ import annotations

import collections
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import scripts
from rlce import Classifier, Optimization, Regressor, threads
from scripts.benchmark import spread
from scripts.benchmark_imbalance import imbalance
from scripts.benchmark_tables import scaling, tables

SKORCH = importlib.util.find_spec("skorch") is not None
HIDDEN, LEARNING_RATE = (128,), 1e-3
# Without dropout, and with one batch: then a sample weight of 2 equals a repeated row.
NO_CHANCE: dict[str, Any] = {"dropout": 0.0, "batch_size": 256, "epochs": 200, "learning_rate": 0.003}
# What makes our network the same as scikit-learn's.
PLAIN: dict[str, Any] = {
    "activation": "relu",
    "dropout": 0.0,
    "optimizer": Optimization("adam", LEARNING_RATE),
    "scaling": "standard",
}
Data = tuple[NDArray[Any], NDArray[Any]]  # X, [N, D], and y, [N]


def made(rows: int = 200_000) -> Data:
    """Rows of 20 columns (10 informative, 5 sums of these) in 5 classes; 1 label in 100 is wrong."""
    X, y = datasets.make_classification(
        rows, n_features=20, n_informative=10, n_redundant=5, n_classes=5, flip_y=0.01, class_sep=1.0, random_state=0
    )
    return X, y


# Name → rows, epochs, batch size.
CLASSIFICATION: dict[str, tuple[Callable[[], Data], int, int]] = {
    "digits": (lambda: datasets.load_digits(return_X_y=True), 60, 64),
    "breast-cancer": (lambda: datasets.load_breast_cancer(return_X_y=True), 60, 64),
    "wine": (lambda: datasets.load_wine(return_X_y=True), 60, 64),
    "made": (made, 10, 512),
}


def perceptron(inputs: int = 2, outputs: int = 2) -> torch.nn.Module:
    """The network for skorch: the same shape, with PyTorch's initial weights."""
    return torch.nn.Sequential(torch.nn.Linear(inputs, HIDDEN[0]), torch.nn.ReLU(), torch.nn.Linear(HIDDEN[0], outputs))


def skorch_classifier(epochs: int, batch_size: int, **module: int) -> Any:
    """A skorch classifier on `perceptron`, without held-out rows."""
    from skorch import NeuralNetClassifier

    return NeuralNetClassifier(
        perceptron,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        **{f"module__{name}": value for name, value in module.items()},
    )


def classifiers(seed: int, epochs: int, batch_size: int, inputs: int, outputs: int) -> dict[str, Any]:
    """The contenders, unfitted: 128 ReLU, Adam 0.001, the same batches and epochs, no penalty, no early stopping."""
    contenders: dict[str, Any] = {
        "rlce.Classifier": Classifier(HIDDEN, batch_size=batch_size, epochs=epochs, random_state=seed, **PLAIN),
        "MLPClassifier": make_pipeline(
            StandardScaler(),
            MLPClassifier(
                hidden_layer_sizes=HIDDEN,
                alpha=0.0,
                learning_rate_init=LEARNING_RATE,
                batch_size=batch_size,
                max_iter=epochs,
                n_iter_no_change=epochs,
                random_state=seed,
            ),
        ),
    }
    if SKORCH:
        contenders["skorch"] = make_pipeline(
            StandardScaler(),
            FunctionTransformer(np.float32),
            skorch_classifier(epochs, batch_size, inputs=inputs, outputs=outputs),
        )
    # With its default settings: 100 rounds.
    contenders["HistGradientBoosting"] = HistGradientBoostingClassifier(early_stopping=False, random_state=seed)
    return contenders


def timed_fit(estimator: Any, X: NDArray[Any], y: NDArray[Any], seed: int) -> tuple[float, float]:
    """CPU and wall seconds of ``fit``."""
    torch.manual_seed(seed)  # for skorch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # every epoch is run, as asked
        began = time.process_time(), time.perf_counter()
        estimator.fit(X, y)
        return time.process_time() - began[0], time.perf_counter() - began[1]


@threads.one_thread()
def classify(
    data: tuple[str, ...] = tuple(CLASSIFICATION),
    seeds: int = 5,
    first_seed: int = 0,
    epochs: int | None = None,
    output: Path | None = None,
) -> None:
    """Test accuracy on a stratified, held-out fifth of the rows, and time to fit.

    Args:
        data: digits, breast-cancer, wine, made (make_classification with 200,000 rows of 20 columns).
        seeds: Number of seeds (of the split and the training).
        first_seed: The first seed.
        epochs: Epochs of every network; by default 60, and 10 for "made".
        output: File for all results, as JSON.
    """
    scripts.check_writable(output, "--output")
    everything: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    print("| data | contender | test accuracy | CPU s | wall s | CPU time over rlce's |\n|---|---|---|---|---|---|")
    for name in data:
        if name not in CLASSIFICATION:
            raise ValueError(f"--data must be one of {', '.join(CLASSIFICATION)}, got {name!r}")
        read, its_epochs, batch_size = CLASSIFICATION[name]
        X, y = read()
        runs = everything[name] = collections.defaultdict(list)
        for seed in range(first_seed, first_seed + seeds):
            train_X, test_X, train_y, test_y = train_test_split(X, y, test_size=0.2, stratify=y, random_state=seed)
            shape = {"inputs": X.shape[1], "outputs": len(np.unique(y))}
            if seed == first_seed:  # a first fit loads modules, which must not count
                for contender in classifiers(seed, 1, batch_size, **shape).values():
                    timed_fit(contender, train_X[:2_000], train_y[:2_000], seed)
            for who, contender in classifiers(seed, epochs or its_epochs, batch_size, **shape).items():
                seconds = timed_fit(contender, train_X, train_y, seed)
                runs[who].append((float(contender.score(test_X, test_y)), *seconds))
        ours = [cpu for _, cpu, _ in runs["rlce.Classifier"]]
        for who, results in runs.items():
            accuracy, cpu, wall = (list(column) for column in zip(*results, strict=True))
            ratios = [their / our for their, our in zip(cpu, ours, strict=True)]
            print(
                f"| {name} | {who} | {spread(accuracy, '.4f')} | {spread(cpu, '.2f')} | {spread(wall, '.2f')} "
                f"| {spread(ratios, '.2f')} |",
                flush=True,
            )
    scripts.write_json(output, everything)


COVERAGES = (0.5, 0.9)
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
PATIENCE = 30
PENALTY = 0.01  # this times the parameter is added to the gradient; scikit-learn divides its alpha by the batch size


def friedman(seed: int, rows: int = 2_000) -> tuple[Data, Data]:
    """Friedman's first function of 10 columns with noise 1; equally many test rows; 5 % gross outliers in training.

    The target of an outlier is drawn from a Gaussian with the mean and 10 times the deviation of the targets.
    """
    generator = np.random.default_rng([seed, 1])
    X, y = datasets.make_friedman1(2 * rows, n_features=10, noise=1.0, random_state=seed)
    train_y = y[:rows].copy()
    outlier = generator.random(rows) < 0.05
    train_y[outlier] = generator.normal(train_y.mean(), 10.0 * train_y.std(), outlier.sum())
    return (X[:rows], train_y), (X[rows:], y[rows:])


def diabetes(seed: int, rows: int = 442) -> tuple[Data, Data]:
    """442 patients, of which a fifth is held out."""
    X, y = datasets.load_diabetes(return_X_y=True)
    split = train_test_split(X[:rows], y[:rows], test_size=0.2, random_state=seed)
    return (split[0], split[2]), (split[1], split[3])


REGRESSION: dict[str, Callable[..., tuple[Data, Data]]] = {"diabetes": diabetes, "outliers": friedman}


class GradientBoostingQuantiles:
    """One `HistGradientBoostingRegressor` for each level; the prediction is the median."""

    def __init__(self, **settings: Any) -> None:
        self.models = [HistGradientBoostingRegressor(loss="quantile", quantile=q, **settings) for q in LEVELS]

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> None:
        """``[N, D]`` and ``[N]``."""
        for model in self.models:
            model.fit(X, y)

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """The median."""
        return self.models[LEVELS.index(0.5)].predict(X)

    def predict_interval(self, X: NDArray[Any], coverage: float) -> NDArray[Any]:
        """``[N, 2]``; the bounds may cross."""
        sides = (round(0.5 + side * 0.5 * coverage, 12) for side in (-1, 1))
        return np.stack([self.models[LEVELS.index(level)].predict(X) for level in sides], axis=1)


def regressors(seed: int, epochs: int) -> dict[str, Any]:
    """The contenders, unfitted. All but the linear one hold out a fifth of the training rows to stop early."""
    # Costs without intervals get conformal ones; the others are run without and with.
    ours = [("squared", True), ("absolute", True), ("huber", True)]
    ours += [("quantile", False), ("quantile", True), ("gaussian", False), ("gaussian", True)]
    contenders: dict[str, Any] = {
        f"rlce.Regressor, {cost}{', conformal' * conformal}": Regressor(
            HIDDEN,
            cost,
            quantiles=LEVELS,
            weight_decay=PENALTY,
            batch_size=64,
            epochs=epochs,
            validation_split=0.2,
            stopping=PATIENCE,
            conformal=conformal,
            random_state=seed,
            **PLAIN,
        )
        for cost, conformal in ours
    }
    perceptron = MLPRegressor(
        hidden_layer_sizes=HIDDEN,
        alpha=64 * PENALTY,
        learning_rate_init=LEARNING_RATE,
        batch_size=64,
        max_iter=epochs,
        early_stopping=True,
        validation_fraction=0.2,
        n_iter_no_change=PATIENCE,
        tol=0.0,
        random_state=seed,
    )
    # `Regressor` scales its targets itself.
    contenders["MLPRegressor"] = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), perceptron), transformer=StandardScaler()
    )
    boosting: dict[str, Any] = {
        "learning_rate": 0.03,
        "max_iter": epochs,
        "early_stopping": True,
        "validation_fraction": 0.2,
        "random_state": seed,
    }
    for loss in ("squared_error", "absolute_error"):
        contenders[f"HistGradientBoosting, {loss}"] = HistGradientBoostingRegressor(loss=loss, **boosting)
    contenders["HistGradientBoosting, quantile"] = GradientBoostingQuantiles(**boosting)
    contenders["LinearRegression"] = LinearRegression()
    return contenders


@threads.one_thread()
def regress(
    data: tuple[str, ...] = tuple(REGRESSION),
    seeds: int = 5,
    first_seed: int = 0,
    epochs: int = 300,
    rows: int | None = None,
    output: Path | None = None,
) -> None:
    """Errors of the prediction, and coverage of 50 % and 90 % intervals, on held-out rows without outliers.

    Args:
        data: diabetes; outliers (2,000 rows of Friedman's first function, 5 % of their targets replaced by outliers).
        seeds: Number of seeds (of the split and the training).
        first_seed: The first seed.
        epochs: Largest number of epochs of every network.
        rows: Number of rows; by default all.
        output: File for all results, as JSON.
    """
    scripts.check_writable(output, "--output")
    measures = ["MAE", "RMSE", *(f"{what} of {c:.0%}" for c in COVERAGES for what in ("coverage", "width")), "CPU s"]
    everything: dict[str, dict[str, list[dict[str, float]]]] = {}
    print(f"| data | contender | {' | '.join(measures)} |\n|---|---{'|---' * len(measures)}|")
    for name in data:
        if name not in REGRESSION:
            raise ValueError(f"--data must be one of {', '.join(REGRESSION)}, got {name!r}")
        runs = everything[name] = collections.defaultdict(list)
        for seed in range(first_seed, first_seed + seeds):
            (X, y), (test_X, test_y) = REGRESSION[name](seed, **({} if rows is None else {"rows": rows}))
            for who, contender in regressors(seed, epochs).items():
                result = {"CPU s": timed_fit(contender, X, y, seed)[0]}
                predicted = contender.predict(test_X)
                result["MAE"] = float(mean_absolute_error(test_y, predicted))
                result["RMSE"] = float(root_mean_squared_error(test_y, predicted))
                for coverage in COVERAGES if hasattr(contender, "predict_interval") else ():
                    low, high = contender.predict_interval(test_X, coverage).T
                    result[f"coverage of {coverage:.0%}"] = float(((low <= test_y) & (test_y <= high)).mean())
                    result[f"width of {coverage:.0%}"] = float((high - low).mean())
                runs[who].append(result)
        for who, results in runs.items():
            columns = [[one[measure] for one in results if measure in one] for measure in measures]
            # Two decimals, or none where the numbers are large.
            cells = [
                spread(column, ".0f" if column and statistics.fmean(column) > 100 else ".2f") for column in columns
            ]
            print(f"| {name} | {who} | {' | '.join(cells)} |", flush=True)
    scripts.write_json(output, everything)


def checks(estimator: tuple[str, ...] = ()) -> None:
    """How many of scikit-learn's checks each estimator passes.

    Args:
        estimator: Names of estimators; by default all: rlce's, scikit-learn's and, if it is installed, skorch's.
    """
    estimators: dict[str, Any] = {
        "rlce.Classifier": Classifier(),
        "rlce.Classifier, no chance": Classifier(**NO_CHANCE),
        "rlce.Regressor": Regressor(),
        "rlce.Regressor, no chance": Regressor(**NO_CHANCE),
        "MLPClassifier": MLPClassifier(),
        "MLPRegressor": MLPRegressor(),
        "HistGradientBoostingClassifier": HistGradientBoostingClassifier(),
        "HistGradientBoostingRegressor": HistGradientBoostingRegressor(),
    }
    if SKORCH:
        estimators["skorch"] = skorch_classifier(epochs=10, batch_size=128)
    for name in estimator:
        if name not in estimators:
            raise ValueError(f"--estimator must be one of {', '.join(estimators)}, got {name!r}")
    print(
        "| estimator | checks | passed | failed | skipped | which failed or were skipped |\n|---|---|---|---|---|---|"
    )
    for name in estimator or estimators:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = check_estimator(estimators[name], on_skip=None, on_fail=None)
        by_status: dict[str, list[str]] = collections.defaultdict(list)
        for result in results:
            by_status[result["status"]].append(result["check_name"])
        numbers = [len(by_status[status]) for status in ("passed", "failed", "skipped")]
        others = sorted({check for status in ("failed", "skipped", "xfail") for check in by_status[status]})
        named = ", ".join(others) if len(others) <= 5 else f"{len(others)} of them"
        print(f"| {name} | {len(results)} | {' | '.join(map(str, numbers))} | {named} |", flush=True)


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {
        "classify": classify,
        "regress": regress,
        "tables": tables,
        "scaling": scaling,
        "imbalance": imbalance,
        "checks": checks,
    }
    scripts.run(lambda: tyro.extras.subcommand_cli_from_dict(commands))
