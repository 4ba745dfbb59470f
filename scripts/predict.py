"""Add predictions to a CSV file with a model that scripts.train_classifier saved."""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

import rlce
import scripts
from rlce import checkpoint, tables
from rlce.supervised.tables import Columns, Notes, Reading
from scripts.tables import separator

_NUMBERS = 1_000_000  # that predictions may hold in memory at a time


@dataclass(frozen=True)
class Arguments:
    """Add predictions to a CSV file with a model that scripts.train_classifier saved."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The saved file, or the directory that holds classifier.safetensors or regressor.safetensors."""
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """The .csv file to predict for. It needs the columns of the training file, in any order, but not the target."""
    output: Path = Path("predictions.csv")
    """File for the columns of the data and the new ones: prediction, and for classes confidence (the probability of
    the predicted class) and "probability of CLASS" for every class, for a regression with intervals lower and upper.
    - writes to the standard output. The file appears when it is complete."""
    coverage: float = 0.9
    """Nominal probability that the interval of a regression holds the true value."""
    sep: str | None = None
    """What separates the fields, where it differs from the training file."""
    encoding: str | None = None
    """The encoding, where it differs from the training file's."""
    na_values: tuple[str, ...] = ()
    """More words that mean a missing value."""


def load(path: Path) -> tuple[Any, Columns, Reading]:
    """The saved estimator, the description of its columns, and how the training file was read.

    Raises:
        FileNotFoundError: there is no such file or directory.
        ValueError: the file holds something else, or a model that was not trained on a .csv file.
    """
    kinds = {"Classifier": "classifier.safetensors", "Regressor": "regressor.safetensors"}
    path = scripts.saved_file(path, "model", kinds, "scripts.train_classifier")
    estimator = getattr(rlce, checkpoint.kind_of(path)).load(path)
    match estimator.extra_:
        case {"table": {"columns": columns, "reading": reading}}:
            return estimator, Columns.from_json(columns), Reading.from_json(reading)
        case {"table": {"columns": description}}:  # of an earlier version
            columns = Columns.from_json(description)
            return estimator, columns, columns.reading
    raise ValueError(f"model: {str(path)!r} was not trained on a .csv file")


def predictor(estimator: Any, coverage: float) -> tuple[list[str], Callable[[Any], list[Any]]]:
    """The names of the columns to add, and the function ``[N, D]`` → those columns, each ``[N]``."""
    if not hasattr(estimator, "classes_"):
        if getattr(estimator, "cost", None) not in ("quantile", "gaussian") and estimator.conformal_ is None:
            return ["prediction"], lambda X: [estimator.predict(X)]
        return ["prediction", "lower", "upper"], lambda X: [
            estimator.predict(X),
            *estimator.predict_interval(X, coverage).T,
        ]

    def classify(X: Any) -> list[Any]:
        probabilities = estimator.predict_proba(X)
        rounded = probabilities.round(6)
        return [estimator.classes_[probabilities.argmax(axis=1)], rounded.max(axis=1), *rounded.T]

    return ["prediction", "confidence", *(f"probability of {label}" for label in estimator.classes_.tolist())], classify


@contextmanager
def writing(path: Path) -> Iterator[Any]:
    """A text file to write to: the standard output, or a file that appears when it is complete."""
    if str(path) == "-":
        yield sys.stdout
        return
    with checkpoint.replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.detach()  # flushes the text, and leaves the binary file open


def main(arguments: Arguments) -> int:
    """Predict in chunks, so that memory does not grow with the file; returns the number of rows."""
    estimator, columns, reading = load(arguments.model)
    if not arguments.data.is_file():
        wrong = "is a directory" if arguments.data.is_dir() else "does not exist"
        raise ValueError(f"data: {str(arguments.data)!r} {wrong}, expected a .csv file")
    if str(arguments.output) != "-":
        scripts.check_writable(arguments.output, "--output")
    reading = dataclasses.replace(
        reading,
        separator=separator(arguments.sep) or reading.separator,
        encoding=arguments.encoding or reading.encoding,
        na_values=reading.na_values + arguments.na_values,
    )
    names, predict = predictor(estimator, arguments.coverage)
    header, rows, notes = tables.header(arguments.data, reading), 0, Notes()
    if "lower" in names:
        # An impossible coverage must fail before anything is written.
        estimator.predict_interval(np.zeros((1, estimator.n_features_in_)), arguments.coverage)
    taken = [name for name in names if name in header][:5]
    if taken:
        raise ValueError(f"data: {str(arguments.data)!r} already has a column {', '.join(map(repr, taken))}; rename it")
    with writing(arguments.output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, *names])
        # With many classes a part has fewer rows, so that memory does not grow with their number either.
        part = max(1, min(20_000, _NUMBERS // len(names)))
        for fields, frame in tables.read_chunks(arguments.data, reading, part, notes):
            added = [column.tolist() for column in predict(columns.matrix(frame, notes=notes))]
            writer.writerows([*row, *more] for row, *more in zip(fields, *added, strict=True))
            rows += len(fields)
    notes.warn()
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    print(f"{arguments.output}: {rows:,} rows with {', '.join(names[:5])}{more}", file=sys.stderr)
    return rows


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
