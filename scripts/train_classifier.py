"""Train on one of scikit-learn's data sets or on a file, test on held-out rows, save what was learnt."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import scripts  # sets the number of threads before NumPy loads

# isort: split
import numpy as np
import sklearn.datasets
import torch
import tyro
from numpy.typing import NDArray

import rlce
from agents import digits
from rlce import tables, targets
from scripts import reports

_BUNDLED = {
    "digits": sklearn.datasets.load_digits,
    "breast-cancer": sklearn.datasets.load_breast_cancer,
    "wine": sklearn.datasets.load_wine,
    "iris": sklearn.datasets.load_iris,
}


@dataclass(frozen=True)
class Arguments:
    """Train on one of scikit-learn's data sets or on a file, test on held-out rows, save what was learnt."""

    data: str = "digits"
    """digits, breast-cancer, wine, iris; a .csv file (a header; numbers, text and missing values); or a .npz file
    with the arrays X and y."""
    target: str | None = None
    """The .csv file's column to predict; the last by default."""
    task: tables.Task = "classification"
    """Classes, or numbers."""
    seed: int = 0
    """Fixes the split, weights and order."""
    epochs: int | None = None
    """Passes over the training rows, at most; by default 60, and 100 with imbalanced."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the hidden layers."""
    learning_rate: float = 1e-3
    """Step size."""
    batch_size: int | Literal["auto"] = "auto"
    """Rows a gradient step; auto is 64, and more from 32,768 rows on."""
    dropout: float | None = None
    """Probability of zeroing a hidden unit in training; by default 0, and 0.3 with imbalanced."""
    smoothing: float = 0.0
    """Label smoothing: the part of the weight spread over all classes."""
    class_weight: Literal["balanced"] | None = None
    """balanced: every class counts as much as any other, however few its rows."""
    imbalanced: bool = False
    """What docs/reweighting.md recommends for imbalanced classes: logit adjustment, generalised cross-entropy, dropout
    0.3, 100 epochs and no held-out rows."""
    cost: Literal["squared", "absolute", "huber", "quantile", "gaussian"] | None = None
    """Of a regression, squared by default; quantile and gaussian give intervals."""
    validation_split: float | None = None
    """Part of the training rows that watches the error; the best parameters on it are kept. By default 0.1, and 0 with
    imbalanced."""
    patience: int | None = None
    """Stop after this many epochs without an improvement."""
    test_fraction: float = 0.2
    """Part of all rows that is held out for the closing test."""
    log_dir: Path | None = None
    """Directory for TensorBoard and the saved file; runs/DATA-SEED by default."""
    save: Path | None = None
    """File for what was learnt; classifier.safetensors or regressor.safetensors in LOG_DIR by default."""
    output: Path | None = None
    """File for the closing table as JSON."""
    quiet: bool = False
    """No progress bar."""


Rows = tuple[NDArray[Any], NDArray[Any]]  # X, [N, D], and y, [N]


def read(arguments: Arguments) -> tuple[Rows, Rows, dict[str, Any] | None]:
    """Rows to train with, rows to test with, held out before anything is learnt, and of a .csv file what was learnt.

    Raises:
        ValueError: an unknown name, a file that is not there, or one without what it must hold.
    """
    data, path = arguments.data, Path(arguments.data)
    if data not in _BUNDLED and path.suffix not in (".csv", ".npz"):
        raise ValueError(f"data must be one of {', '.join(_BUNDLED)}, a .csv or a .npz file, got {data!r}")
    if data not in _BUNDLED and not path.is_file():
        raise ValueError(f"data: no file {data!r}")
    split = functools.partial(
        tables.hold_out,
        fraction=arguments.test_fraction,
        seed=arguments.seed,
        stratify=arguments.task == "classification",
    )
    if path.suffix == ".csv":
        frame = tables.read_csv(path)
        name = arguments.target if arguments.target is not None else str(frame.columns[-1])
        y, rows = tables.target(frame, name, arguments.task)
        train, test = split(y)
        columns = tables.Columns.learn(frame, rows[train], leave_out=[name])
        table = {"target": name, "columns": columns.to_json()}
        training, held_out = ((columns.matrix(frame, rows[part]), y[part]) for part in (train, test))
        return training, held_out, table
    if arguments.target is not None:
        raise ValueError(f"--target names a column of a .csv file, which {data!r} is not")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            if not {"X", "y"} <= set(arrays):
                raise ValueError(f"data: {data!r} must hold the arrays X and y, got {', '.join(arrays)}")
            X, y = arrays["X"], arrays["y"]
    else:
        X, y = _BUNDLED[data](return_X_y=True)
    if len(X) != len(y):
        raise ValueError(f"data: X and y must have as many rows, got {len(X)} and {len(y)}")
    train, test = split(y)
    return (X[train], y[train]), (X[test], y[test]), None


def fitted(arguments: Arguments, X: NDArray[Any], y: NDArray[Any], log_dir: Path) -> Any:
    """The estimator, trained. All of its parameters are named here and nowhere else."""
    regression, imbalanced = arguments.task == "regression", arguments.imbalanced

    def default(value: float | None, usual: float, if_imbalanced: float) -> float:
        return value if value is not None else if_imbalanced if imbalanced else usual

    shared: dict[str, Any] = {
        "hidden": arguments.hidden,
        "dropout": default(arguments.dropout, 0.0, 0.3),
        "learning_rate": arguments.learning_rate,
        "batch_size": arguments.batch_size,
        "epochs": default(arguments.epochs, digits.EPOCHS, 100),
        "validation_split": default(arguments.validation_split, 0.1, 0.0),
        "stopping": arguments.patience,
        "random_state": arguments.seed,
    }
    if regression:
        estimator: Any = rlce.Regressor(cost=arguments.cost or "squared", **shared)
    else:
        rules: list[Any] = []
        if arguments.smoothing:
            rules += [functools.partial(targets.smooth, epsilon=arguments.smoothing)]
        if imbalanced:
            rules += ["imbalanced"]
        estimator = rlce.Classifier(rule=rules or None, class_weight=arguments.class_weight, **shared)
    return estimator.fit(X, y, log_dir=log_dir, verbose=not arguments.quiet)


def main(arguments: Arguments) -> dict[str, Any]:
    """Train, test, save; returns the closing table."""
    torch.set_num_threads(1)
    for_classes = {"imbalanced": False, "class_weight": None, "smoothing": 0.0}
    foreign = for_classes if arguments.task == "regression" else {"cost": None}
    given = [name for name, unset in foreign.items() if getattr(arguments, name) != unset]
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} is not for --task {arguments.task}")
    for flag, path in (("--save", arguments.save), ("--output", arguments.output)):
        scripts.check_writable(path, flag)
    classification = arguments.task == "classification"
    log_dir = arguments.log_dir or Path("runs") / f"{Path(arguments.data).stem}-{arguments.seed}"
    save = arguments.save or log_dir / ("classifier.safetensors" if classification else "regressor.safetensors")
    (X, y), (test_X, test_y), table = read(arguments)
    began = time.perf_counter(), time.process_time()
    estimator = fitted(arguments, X, y, log_dir)
    result: dict[str, Any] = {
        "data": arguments.data,
        "rows": f"{len(X)} to train, {len(test_X)} to test",
        **({"classes": len(estimator.classes_)} if classification else {}),
        "epochs": estimator.n_epochs_,
        "training seconds": round(time.perf_counter() - began[0], 2),
        "training CPU seconds": round(time.process_time() - began[1], 2),
    }
    report = reports.classes if classification else reports.numbers
    result |= {**report(y, test_y, estimator.predict(test_X)), "saved": str(save)}
    estimator.save(save, extra=None if table is None else {"table": table})
    scripts.finish(result, arguments.output, log_dir)
    return result


if __name__ == "__main__":
    arguments = tyro.cli(Arguments)
    scripts.run(lambda: main(arguments))
