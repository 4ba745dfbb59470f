"""Train a classifier on one of scikit-learn's data sets or on a file, test it on held-out rows, save it."""

from __future__ import annotations

import csv
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scripts  # sets the number of threads before NumPy loads

# isort: split
import numpy as np
import sklearn.datasets
import torch
import tyro
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from agents import digits
from rlce import targets

_BUNDLED = {
    "digits": sklearn.datasets.load_digits,
    "breast-cancer": sklearn.datasets.load_breast_cancer,
    "wine": sklearn.datasets.load_wine,
    "iris": sklearn.datasets.load_iris,
}


@dataclass(frozen=True)
class Arguments:
    """Train a classifier on one of scikit-learn's data sets or on a file, test it on held-out rows, save it."""

    data: str = "digits"
    """digits, breast-cancer, wine, iris; a .csv file (a header, numbers, the label in the last column); or a .npz file
    with the arrays X and y."""
    seed: int = 0
    """Fixes the split, weights and order."""
    epochs: int = digits.EPOCHS
    """Passes over the training rows, at most."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the hidden layers."""
    learning_rate: float = 1e-3
    """Step size."""
    batch_size: int = 64
    """Rows a gradient step."""
    smoothing: float = 0.0
    """Label smoothing: the part of the weight spread over all classes."""
    dropout: float = 0.0
    """Probability of zeroing a hidden unit in training."""
    validation_fraction: float = 0.1
    """Part of the training rows that watches the zero-one error; the best parameters on it are kept."""
    patience: int | None = None
    """Stop after this many epochs without an improvement."""
    test_fraction: float = 0.2
    """Part of all rows that is held out for the closing test."""
    log_dir: Path | None = None
    """Directory for TensorBoard and the saved classifier; runs/DATA-SEED by default."""
    save: Path | None = None
    """File for the classifier; LOG_DIR/classifier.safetensors by default."""
    output: Path | None = None
    """File for the closing table as JSON."""
    quiet: bool = False
    """No progress bar."""


def read(data: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows and labels of a bundled data set or a file.

    Raises:
        ValueError: an unknown name, a file that is not there, or one without what it must hold.
    """
    if data in _BUNDLED:
        return _BUNDLED[data](return_X_y=True)
    path = Path(data)
    if path.suffix not in (".csv", ".npz"):
        raise ValueError(f"data must be one of {', '.join(_BUNDLED)}, a .csv or a .npz file, got {data!r}")
    if not path.is_file():
        raise ValueError(f"data: no file {data!r}")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            if not {"X", "y"} <= set(arrays):
                raise ValueError(f"data: {data!r} must hold the arrays X and y, got {', '.join(arrays)}")
            return arrays["X"], arrays["y"]
    with path.open(newline="") as file:
        header, *rows = [row for row in csv.reader(file) if row] or [[]]
    if not rows or len(header) < 2 or any(len(row) != len(header) for row in rows):
        raise ValueError(f"data: {data!r} must have a header, and rows of as many columns, at least two")
    table = np.array(rows)
    try:
        return table[:, :-1].astype(np.float64), table[:, -1]
    except ValueError as error:
        raise ValueError(f"data: all columns of {data!r} but the last must be numbers: {error}") from error


def main(arguments: Arguments) -> dict[str, Any]:
    """Train, test, save; returns the closing table."""
    torch.set_num_threads(1)
    for flag, path in (("--save", arguments.save), ("--output", arguments.output)):
        scripts.check_writable(path, flag)
    X, y = read(arguments.data)
    log_dir = arguments.log_dir or Path("runs") / f"{Path(arguments.data).stem}-{arguments.seed}"
    save = arguments.save or log_dir / "classifier.safetensors"
    train_X, test_X, train_y, test_y = train_test_split(
        X, y, test_size=arguments.test_fraction, stratify=y, random_state=arguments.seed
    )
    classifier = digits.make(
        arguments.seed,
        log_dir,
        hidden=arguments.hidden,
        rule=functools.partial(targets.smooth, epsilon=arguments.smoothing) if arguments.smoothing else None,
        dropout=arguments.dropout,
        learning_rate=arguments.learning_rate,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        validation_fraction=arguments.validation_fraction,
        patience=arguments.patience,
        verbose=not arguments.quiet,
    )
    began = time.perf_counter(), time.process_time()
    classifier.fit(train_X, train_y)
    result: dict[str, Any] = {
        "data": arguments.data,
        "rows": f"{len(train_X)} to train, {len(test_X)} to test",
        "classes": len(classifier.classes_),
        "epochs": classifier.n_epochs_,
        "training seconds": round(time.perf_counter() - began[0], 2),
        "training CPU seconds": round(time.process_time() - began[1], 2),
        "test accuracy": round(float(classifier.score(test_X, test_y)), 4),
        "saved": str(save),
    }
    classifier.save(save)
    scripts.finish(result, arguments.output, log_dir)
    return result


if __name__ == "__main__":
    arguments = tyro.cli(Arguments)
    scripts.run(lambda: main(arguments))
