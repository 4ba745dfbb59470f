"""Train on one of scikit-learn's data sets or on a file, test on held-out rows, save what was learnt."""

from __future__ import annotations

import functools
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import sklearn.datasets
import tyro

import rlce
import scripts
import scripts.tables
from rlce import tables, targets
from rlce.supervised.report import check_path
from scripts import reports
from scripts.tables import Rows

_BUNDLED = {
    "digits": sklearn.datasets.load_digits,
    "breast-cancer": sklearn.datasets.load_breast_cancer,
    "wine": sklearn.datasets.load_wine,
    "iris": sklearn.datasets.load_iris,
}


@dataclass(frozen=True)
class Arguments:
    """Train on one of scikit-learn's data sets or on a file, test on held-out rows, save what was learnt.

    A rerun replaces nothing: it first moves the files of the earlier run into earlier-1 (or earlier-2, ...) beside
    them. Ctrl-C saves what was learnt as classifier-interrupted.safetensors.
    """

    data: str = "digits"
    """digits, breast-cancer, wine, iris; a .csv file (a header; numbers, dates, text and missing values); or a .npz
    file with the arrays X and y."""
    target: str | None = None
    """The column of the .csv file to predict; by default the last one."""
    task: tables.Task = "classification"
    """classification predicts a class, regression a number."""
    seed: int = 0
    """Fixes the split, weights and order."""
    epochs: int | Literal["auto"] = "auto"
    """Largest number of passes over the training rows; auto makes 1,000 gradient steps, or more for many rows."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers."""
    learning_rate: Annotated[float, tyro.conf.arg(aliases=["--lr"])] = 1e-3
    """Step size at the start."""
    batch_size: int | Literal["auto"] = "auto"
    """Rows in a gradient step; auto is 16 to 256, and more for very many rows."""
    dropout: float = 0.2
    """Probability of zeroing a hidden unit in training."""
    smoothing: float = 0.0
    """Label smoothing: the part of the weight that is spread over all classes."""
    class_weight: Literal["balanced"] | None = None
    """balanced: all classes count the same, however many rows they have."""
    imbalanced: bool = False
    """Find rows of rare classes although some labels are wrong: logit adjustment and generalised cross-entropy; no rows
    are held out. With correct labels other remedies are better: docs/imbalanced.md has what to use when."""
    cost: Literal["squared", "absolute", "huber", "quantile", "gaussian"] | None = None
    """The cost of a regression, by default squared; quantile and gaussian give intervals."""
    validation_split: float | None = None
    """Part of the training rows that is held out to choose the best epoch and to draw the val/ curves; by default 0.1,
    and 0 with --imbalanced. With 0 all of them train."""
    patience: int | None = None
    """Stop after this many epochs without an improvement."""
    test_fraction: float = 0.2
    """Part of all rows that is held out for the closing test."""
    log_dir: Path | None = None
    """Directory for TensorBoard and the saved file; by default runs/DATA-SEED."""
    log: Literal["all", "scalars", "none"] = "all"
    """What TensorBoard gets: all, scalars (no histograms, no images) or none."""
    save: Path | None = None
    """File for what was learnt; by default LOG_DIR/classifier.safetensors, or regressor.safetensors."""
    output: Path | None = None
    """File for the closing table and the whole report, as JSON."""
    report: Path | None = None
    """File for the report with its plots: .html (one file) or .md (with PNG files beside it). Needs matplotlib."""
    quiet: bool = False
    """Show no progress bar."""
    csv: Annotated[scripts.tables.Flags, tyro.conf.arg(name="")] = field(default_factory=scripts.tables.Flags)
    """How a .csv file is read and split."""


def read(arguments: Arguments) -> tuple[Rows, Rows, dict[str, Any] | None]:
    """Training rows, test rows, and for a .csv file the description of its columns (learnt from the training rows).

    Raises:
        ValueError: an unknown name, no such file, or a file that cannot be learnt from.
    """
    data, path = arguments.data, Path(arguments.data)
    if data not in _BUNDLED and path.suffix not in (".csv", ".npz"):
        raise ValueError(f"--data must be one of {', '.join(_BUNDLED)}, a .csv or a .npz file, got {data!r}")
    if data not in _BUNDLED and not path.is_file():
        raise ValueError(f"--data: no file {data!r}")
    if path.suffix == ".csv":
        fraction, seed = arguments.test_fraction, arguments.seed
        return scripts.tables.read(path, arguments.target, arguments.task, fraction, seed, arguments.csv)
    if arguments.target is not None:
        raise ValueError(f"--target names a column of a .csv file, but --data is {data!r}")
    usual = scripts.tables.Flags()
    for name, value in vars(arguments.csv).items():
        if value != getattr(usual, name):
            raise ValueError(f"--{name.replace('_', '-')} is for .csv files, but --data is {data!r}")
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as arrays:
                X, y = arrays["X"], arrays["y"]
        except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"--data: {data!r} must be a .npz file of numbers, X and y: {error}") from error
    else:
        X, y = _BUNDLED[data](return_X_y=True)
    if len(X) != len(y):
        raise ValueError(f"--data: X and y must have the same number of rows, got {len(X)} and {len(y)}")
    stratify = arguments.task == "classification"
    train, test = tables.hold_out(y, arguments.test_fraction, arguments.seed, stratify=stratify)
    return (X[train], y[train]), (X[test], y[test]), None


def make(arguments: Arguments) -> rlce.Classifier | rlce.Regressor:
    """The untrained estimator. All of its parameters are named here and nowhere else."""
    split = arguments.validation_split
    shared: dict[str, Any] = {
        "hidden": arguments.hidden,
        "dropout": arguments.dropout,
        "learning_rate": arguments.learning_rate,
        "batch_size": arguments.batch_size,
        "epochs": arguments.epochs,
        "validation_split": (0.0 if arguments.imbalanced else 0.1) if split is None else split,
        "stopping": arguments.patience,
        "random_state": arguments.seed,
    }
    if arguments.task == "regression":
        return rlce.Regressor(cost=arguments.cost or "squared", **shared)
    rules: list[Any] = []
    if arguments.smoothing:
        rules += [functools.partial(targets.smooth, epsilon=arguments.smoothing)]
    if arguments.imbalanced:
        rules += ["imbalanced"]
    return rlce.Classifier(rule=rules or None, class_weight=arguments.class_weight, **shared)


def input_names(arguments: Arguments, table: dict[str, Any] | None) -> list[str] | None:
    """The column that each input of the network belongs to, ``[D]``; None if they have no names."""
    if table is not None:
        return reports.input_names(table)
    return list(_BUNDLED[arguments.data]().feature_names) if arguments.data in _BUNDLED else None


def main(arguments: Arguments) -> dict[str, Any]:
    """Train, test, save; returns the closing table."""
    classification = arguments.task == "classification"
    foreign = {"cost": None} if classification else {"imbalanced": False, "class_weight": None, "smoothing": 0.0}
    for name, unset in foreign.items():
        if getattr(arguments, name) != unset:
            raise ValueError(f"--{name.replace('_', '-')} is not for --task {arguments.task}")
    if arguments.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {arguments.seed}")
    scripts.check_writable(arguments.save, "--save")
    scripts.check_writable(arguments.output, "--output")
    scripts.check_writable(arguments.report, "--report")
    if arguments.report is not None:
        check_path(arguments.report)
    log_dir = arguments.log_dir or Path("runs") / f"{Path(arguments.data).stem}-{arguments.seed}"
    path = arguments.save or log_dir / ("classifier.safetensors" if classification else "regressor.safetensors")
    (X, y), (test_X, test_y), table = read(arguments)
    estimator, extra = make(arguments), None if table is None else {"table": table}
    began = time.perf_counter(), time.process_time()

    def learnt() -> bool:
        return hasattr(estimator, "fitted_") and estimator.n_epochs_ > 0

    saving = scripts.saving(path, functools.partial(estimator.save, extra=extra), learnt)
    with scripts.earlier_run_set_aside(log_dir, path), saving as keep:
        estimator.fit(X, y, log_dir=log_dir, log=arguments.log, verbose=not arguments.quiet)
        about: dict[str, Any] = {
            "data": arguments.data,
            "rows": f"{len(X)} to train, {len(test_X)} to test",
            **({"classes": len(estimator.classes_)} if isinstance(estimator, rlce.Classifier) else {}),
            "epochs": estimator.n_epochs_,
            "training seconds": round(time.perf_counter() - began[0], 2),
            "training CPU seconds": round(time.process_time() - began[1], 2),
        }
        keep()
        report = rlce.report(estimator, test_X, test_y, training=(X, y), columns=input_names(arguments, table))
        print(f"{report}\n")
        if arguments.report is not None:
            report.write(arguments.report, f"{arguments.data}, seed {arguments.seed}")
        written = {} if arguments.report is None else {"report file": str(arguments.report)}
        samples = estimator.fitted_.training.samples_seen
        rlce.Tracker(log_dir, arguments.log).results(reports.ends(report), samples)
        result = {**reports.closing(report), **about, "saved": str(path), **written}
    scripts.write_json(arguments.output, {**result, "report": report.to_json()})
    scripts.finish(result, None, log_dir)
    return result


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
