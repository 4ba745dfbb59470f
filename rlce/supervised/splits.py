"""Targets and splits of a table: which column is predicted, and which rows test.

pandas is an optional dependency, so it is imported only where it is used.
"""

from __future__ import annotations

import collections
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlce.data import held_out

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["classification", "regression"]

NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float")  # pandas' words for columns of numbers
DATES = ("datetime64", "datetime", "date")  # and of dates
FEW = 20  # fewer rows tell too little of a column
# The name of a column that numbers rows: id, row_id, customerID, key ...
ID = re.compile(r"(?:^|[^a-zA-Z])(?i:id|idx|index|uid|uuid|guid|key|row|nr)$|[a-z](?:ID|Id)$")


def target(frame: pd.DataFrame, name: str, task: Task = "classification") -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The values to predict. Rows without one are dropped; a warning gives their number.

    Args:
        frame: the table.
        name: of the column.
        task: "classification" keeps the type of the labels: integers, booleans, text (as objects) or numbers. (pandas
            makes floats of integers if some are missing; they become integers again.) "regression" gives floats.

    Returns:
        (y, rows): the values and the positions of their rows in the frame, both ``[N]``.

    Raises:
        ValueError: the column is absent or entirely missing, or its values do not fit the task.

    Example:
        >>> import pandas as pd
        >>> target(pd.DataFrame({"label": ["yes", "no"]}), "label")
        (array(['yes', 'no'], dtype=object), array([0, 1]))
    """
    if task not in ("classification", "regression"):
        raise ValueError(f"task must be 'classification' or 'regression', got {task!r}")
    if name not in frame.columns:
        raise ValueError(f"target: no column {name!r}; the columns are {listed(frame.columns)}")
    check_names([column for column in frame.columns if column == name])
    series, column = frame[name].dropna(), f"target: column {name!r}"
    rows = np.flatnonzero(frame[name].notna())
    missing = len(frame) - len(rows)
    if len(rows) == 0:
        raise ValueError(f"{column} holds no value")
    if missing:
        warnings.warn(f"target: {missing} of {len(frame)} rows without {name!r} are left out", stacklevel=2)
    word = kind_of(series)
    if word in NUMBERS:
        y: NDArray[Any] = numbers(series)
        if not np.isfinite(y).all():
            raise ValueError(f"{column} holds an infinite number")
        if task == "regression":
            return y, rows
    elif word == "string" and task == "classification":
        y = series.to_numpy(dtype=object)
        _warn_of_cases(series.unique().tolist(), column)
    else:
        wanted = "numbers" if task == "regression" else "numbers, booleans or text"
        raise ValueError(f"{column} must hold {wanted}, got {series.tolist()[0]!r}")
    if word == "boolean":
        y = y.astype(bool)
    elif word != "string":
        fractions = y[y != np.round(y)]
        if len(fractions):
            # Estimators refuse such labels, like scikit-learn's: they are almost always a quantity.
            raise ValueError(f"{column} holds numbers such as {fractions[0]}; use task='regression' for them")
        if word == "integer" or missing:
            y = series.to_numpy(dtype=np.uint64 if series.dtype.kind == "u" else np.int64)
    distinct = series.nunique()
    if (distinct > 20 and distinct > len(y) / 2) or (distinct > 100 and word != "string"):
        perhaps = "an identifier" if word == "string" else "a quantity for task='regression'"
        warnings.warn(f"{column} has {distinct} classes in {len(y)} rows; is it {perhaps}?", stacklevel=2)
    return y, rows


def hold_out(
    y: NDArray[Any],
    fraction: float,
    seed: int | None = None,
    *,
    stratify: bool = True,
    groups: NDArray[Any] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split the rows into training rows and test rows.

    Args:
        y: targets, ``[N]``.
        fraction: share of the rows to test with, in (0, 1).
        seed: of the random split; None gives another split at each call.
        stratify: take this share of every class. A class with a single row stays in training, with a warning.
        groups: rows with the same value here stay on one side, ``[N]``; a group has the class of its first row.

    Returns:
        (training, test): positions of the rows, disjoint and together all rows.

    Raises:
        ValueError: one side has no row, fewer rows than there are classes, or all rows are of one group.

    Example:
        >>> training, test = hold_out(np.array(["a", "b"] * 10), 0.2, seed=0)
        >>> len(training), sorted(np.array(["a", "b"] * 10)[test].tolist())
        (16, ['a', 'a', 'b', 'b'])
        >>> hold_out(np.zeros(6), 0.4, seed=0, groups=np.array([0, 0, 1, 1, 2, 2]))[1].tolist()
        [4, 5]
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    if groups is not None:
        return _hold_out_groups(y, fraction, seed, stratify, groups)
    strata, least, need = np.zeros(len(y), dtype=int), 1, "at least one row"
    if stratify:
        classes, strata = _classes(y)
        counts = np.bincount(strata)
        alone = classes[counts == 1]
        if len(alone) == len(classes):
            raise ValueError(f"y: each of the {len(y)} rows is the only one of its class, so none can be held out")
        if len(alone):
            warnings.warn(f"y: only one row of {listed(alone.tolist())}: kept in training", stacklevel=2)
        least = len(classes) - len(alone)
        need = f"one row of each of {least} classes; if y is a quantity, do not stratify (--task regression)"
    held = held_out(strata, fraction, seed)
    count = math.ceil(fraction * len(y)) if held.any() else 0
    if min(count, len(y) - count) < least:
        sides = f"{fraction} of {len(y)} rows leaves {len(y) - count} to train and {count} to test"
        raise ValueError(f"fraction: {sides}, but both sides need {need}")
    return np.flatnonzero(~held), np.flatnonzero(held)


def _classes(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """`numpy.unique` with the inverse; text is not sorted row by row, which would take most of a long file's split."""
    if y.dtype != object:
        return np.unique(y, return_inverse=True)
    labels = y.tolist()
    classes = sorted(set(labels))
    place = {label: i for i, label in enumerate(classes)}
    strata = np.fromiter(map(place.__getitem__, labels), dtype=np.intp, count=len(labels))
    return np.array(classes, dtype=object), strata


def _hold_out_groups(
    y: NDArray[Any], fraction: float, seed: int | None, stratify: bool, groups: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """`hold_out` of whole groups: random ones of each class, until they have this share of its rows.

    scikit-learn's `StratifiedGroupKFold` does the same in a loop over groups, of which there may be a million here.
    """
    _, first, group, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    if len(group) != len(y):
        raise ValueError(f"groups: expected one for each of {len(y)} rows, got {len(group)}")
    random = np.random.default_rng(seed)
    held = np.zeros(len(first), dtype=bool)
    strata = np.unique(y[first], return_inverse=True)[1] if stratify else np.zeros(len(first), dtype=int)
    order = random.permutation(len(first))
    order = order[np.argsort(strata[order], kind="stable")]
    for members in np.split(order, np.cumsum(np.bincount(strata))[:-1]):
        # A group at the border is taken with the probability that makes the share right on average.
        taken = np.cumsum(sizes[members]) - random.random() * sizes[members] < fraction * sizes[members].sum()
        held[members[:-1]] = taken[:-1]  # never all of them
    if len(first) < 2:
        raise ValueError("groups: all rows are of the same group, expected at least two")
    held[order[0]] |= not held.any()
    test = held[group]
    _warn_of_new_classes(y, test)
    return np.flatnonzero(~test), np.flatnonzero(test)


def last_rows(
    frame: pd.DataFrame, name: str, rows: NDArray[np.intp], y: NDArray[Any], fraction: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split the rows by time: the last ones test. Rows of the same time stay on one side.

    Args:
        frame: the table.
        name: of a column of dates or numbers.
        rows: positions of the rows to split, ``[N]``.
        y: their targets, ``[N]``; a class that only test rows have is warned of.
        fraction: share of the rows to test with, in (0, 1).

    Returns:
        (training, test): positions in ``rows``, disjoint and together all.

    Raises:
        ValueError: no such column, a missing value in it, neither dates nor numbers, or a side without rows.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"year": [2003, 2001, 2002, 2003]})
        >>> training, test = last_rows(frame, "year", np.arange(4), np.zeros(4), 0.5)
        >>> training.tolist(), test.tolist()
        ([1, 2], [0, 3])
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    if name not in frame.columns:
        raise ValueError(f"time: no column {name!r}; the columns are {listed(frame.columns)}")
    times = frame[name].iloc[rows]
    if times.isna().any():
        raise ValueError(f"time: {times.isna().sum()} rows without {name!r}, expected a time in every row")
    if kind_of(times) not in (*NUMBERS, *DATES):
        raise ValueError(f"time: column {name!r} must hold dates or numbers, got {times.iloc[0]!r}")
    border = times.sort_values().iloc[-math.ceil(fraction * len(times))]
    test = (times >= border).to_numpy(dtype=bool)
    if test.all():
        raise ValueError(f"fraction: {fraction} of the rows by {name!r} leaves none to train, whose time is earlier")
    _warn_of_new_classes(y, test)
    return np.flatnonzero(~test), np.flatnonzero(test)


def repeats(frame: pd.DataFrame, names: Iterable[str], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Find rows that repeat others.

    Args:
        frame: the table.
        names: of the columns to compare. An identifier that differs in every row (text, or whole numbers with a name
            such as "id") is not compared.
        rows: positions of the rows, ``[N]``.

    Returns:
        For each row the position in ``rows`` of the first row that is equal to it, ``[N]``.

    Example:
        >>> import pandas as pd
        >>> repeats(pd.DataFrame({"a": [1, 2, 1, None], "b": ["x", "x", "x", "y"]}), ["a", "b"], np.arange(4)).tolist()
        [0, 1, 0, 3]
    """
    import pandas as pd

    first = np.arange(len(rows))
    alike, codes = first, np.zeros(len(rows), dtype=np.int64)  # rows that still equal another, and in what they do
    # A column of real numbers tells nearly all rows apart, so it comes first.
    for name in sorted(names, key=lambda name: "fiuM".find(frame[name].dtype.kind) % 5):
        column = frame[name].iloc[rows]
        identifier = column.dtype.kind not in "fiuM" or (column.dtype.kind in "iu" and ID.search(name))
        if identifier and len(rows) >= FEW and column.is_unique:
            continue
        values, distinct = pd.factorize(column.iloc[alike])
        together = codes * (len(distinct) + 1) + values
        codes = pd.factorize(together)[0] if codes.any() or (values < 0).any() else values
        several = np.bincount(codes)[codes] > 1
        alike, codes = alike[several], codes[several]
        if not len(alike):
            break
    _, firsts, codes = np.unique(codes, return_index=True, return_inverse=True)
    first[alike] = alike[firsts][codes]
    return first


def _warn_of_cases(labels: list[str], column: str) -> None:
    """Warn of labels that differ only in upper and lower case."""
    seen: dict[str, str] = {}
    for label in labels:
        other = seen.setdefault(label.casefold(), label)
        if other != label:
            warnings.warn(f"{column} has the classes {other!r} and {label!r}; are they the same?", stacklevel=3)


def _warn_of_new_classes(y: NDArray[Any], test: NDArray[np.bool_]) -> None:
    """Warn of classes that only test rows have."""
    new = np.setdiff1d(y[test], y[~test])
    if len(new) and y.dtype.kind != "f":
        said = f"{np.isin(y[test], new).sum()} test rows are of {listed(new.tolist())}, of which no training row is"
        warnings.warn(f"y: {said}", stacklevel=4)


def kind_of(series: pd.Series) -> str:
    """Pandas' word for the type of the values in a column, missing ones aside."""
    from pandas.api.types import infer_dtype

    word = infer_dtype(series)
    if word == "categorical":
        word = infer_dtype(series.cat.categories)
        return word if word == "string" else f"categories of kind {word}"
    return word


def numbers(series: pd.Series) -> NDArray[np.float64]:
    """A copy as float64, NaN where a value is missing."""
    return series.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)


def check_names(names: Sequence[Any], what: str = "frame") -> None:
    """Refuse names that are not text or that occur twice."""
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"{what}: column names must be text, got {listed(wrong)}")
    repeated = sorted(name for name, count in collections.Counter(names).items() if count > 1)
    if repeated:
        raise ValueError(f"{what} has more than one column {listed(repeated)}")


def listed(names: Iterable[Any]) -> str:
    """Names for a message, the first twenty."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")
