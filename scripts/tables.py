"""Flags for CSV files, and the rows of floats that training needs of one."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlce import tables

Rows = tuple[NDArray[Any], NDArray[Any]]  # X, [N, D], and y, [N]


@dataclass(frozen=True)
class Flags:
    """How a .csv file is read and split; docs/tables.md shows what is done with each kind of column."""

    sep: str | None = None
    """What separates the fields of the .csv file; by default a comma, or ; a tab or | if the header has no comma. Write
    a tab as tab."""
    decimal: Literal[".", ","] | None = None
    """The decimal separator; by default found for each column."""
    encoding: str = "utf-8"
    """The encoding of the .csv file, such as utf-8, latin-1 or utf-16."""
    na_values: tuple[str, ...] = ()
    """What means a missing value, besides empty fields, NA and the like; in columns of numbers and dates also ?, -,
    n/a, unknown and the like."""
    dates: str = "auto"
    """Dates such as 1/2/2024: day-first or month-first; off leaves dates as text, and a format such as %Y%m%d reads
    others."""
    text: tuple[str, ...] = ()
    """Columns to read as text (categories), even if they look like numbers or dates."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    keep: tuple[str, ...] = ()
    """Columns to learn from although they look like identifiers."""
    groups: str | None = None
    """A column whose equal values stay on one side of the split, such as a patient's number; it is no input."""
    time_split: str | None = None
    """A column of dates or numbers: the last rows by it test."""
    split_repeats: bool = False
    """Split without regard to repeated rows; by default rows with the same inputs stay on one side."""

    def reading(self) -> tables.Reading:
        """How the file is read."""
        return tables.Reading(
            separator=separator(self.sep),
            decimal=self.decimal,
            encoding=self.encoding,
            na_values=self.na_values,
            dates=self.dates,
            text=self.text,
        )


def separator(flag: str | None) -> str | None:
    r"""The separator that ``--sep`` names; a tab is hard to write in a shell.

    Example:
        >>> separator("tab"), separator(";")
        ('\t', ';')
    """
    return "\t" if flag in ("tab", "\\t") else flag


def read(
    path: Path, target: str | None, task: tables.Task, test_fraction: float, seed: int, flags: Flags
) -> tuple[Rows, Rows, dict[str, Any]]:
    """Training rows, test rows, and the description of the columns, learnt from the training rows.

    Raises:
        ValueError: a file that cannot be read or learnt from, or a flag that names no column.
    """
    frame, reading = tables.read_csv(path, flags.reading())
    name = target if target is not None else str(frame.columns[-1])
    for flag, names in (("drop", flags.drop), ("keep", flags.keep), ("groups", [flags.groups] if flags.groups else [])):
        absent = [each for each in names if each not in frame.columns]
        if absent or name in names:
            wrong = f"no columns {', '.join(map(repr, absent))}" if absent else f"column {name!r} is the target"
            raise ValueError(f"--{flag}: {wrong}; the columns are {', '.join(map(repr, frame.columns))}")
    y, rows = tables.target(frame, name, task)
    left_out = [name, *flags.drop, *([flags.groups] if flags.groups and flags.groups not in flags.keep else [])]
    inputs = [each for each in frame.columns if each not in left_out]
    if flags.time_split is not None:
        if flags.groups is not None:
            raise ValueError("--groups and --time-split: the rows can be split by one of them only")
        train, test = tables.last_rows(frame, flags.time_split, rows, y, test_fraction)
    else:
        groups = None
        if flags.groups is not None:
            groups = frame[flags.groups].iloc[rows]
            if groups.isna().any():
                raise ValueError(f"--groups: {groups.isna().sum()} rows have no {flags.groups!r}, expected one in each")
            groups = groups.astype(str).to_numpy(dtype=object)
        elif not flags.split_repeats:
            groups = _repeats(frame, inputs, rows)
        train, test = tables.hold_out(y, test_fraction, seed, stratify=task == "classification", groups=groups)
    columns = tables.Columns.learn(frame, rows[train], leave_out=left_out, keep=flags.keep)
    fields = reading.only([column.name for column in columns.columns])
    table = {"target": name, "columns": columns.to_json(), "reading": dataclasses.replace(fields, text=()).to_json()}
    training, held_out = ((columns.matrix(frame, rows[part]), y[part]) for part in (train, test))
    return training, held_out, table


def _repeats(frame: Any, inputs: list[str], rows: NDArray[np.intp]) -> NDArray[np.intp] | None:
    """Which rows must stay on one side because their inputs are equal; None if there are none, or too few others."""
    first = tables.repeats(frame, inputs, rows)
    again = int((first != np.arange(len(first))).sum())
    if not again:
        return None
    said = f"{again:,} of {len(rows):,} rows repeat the inputs of others"
    if len(rows) - again < 20:
        warnings.warn(f"{said}, and too few differ: they may stand on both sides of the split", stacklevel=3)
        return None
    warnings.warn(f"{said}: they stay on the same side of the split (unless --split-repeats)", stacklevel=3)
    return first
