"""Tables: a CSV's columns of numbers and text become rows of floats, and what was learnt for that is plain JSON.

pandas is imported where it is used, as it is an extra: ``pip install 'rlce[csv]'``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rlce.supervised.csvfiles import check_names, inferred, listed

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Number:
    """A column of numbers or booleans: its value less the training rows' median, and 1 where it is missing.

    Attributes:
        name: of the column.
        median: over the training rows; it stands for missing values.
        indicator: whether a second column of 0 and 1 says where the value is missing.

    Example:
        >>> Number("age", 31.0, indicator=True).outputs
        ['age', 'age is missing']
    """

    name: str
    median: float
    indicator: bool = False

    @property
    def outputs(self) -> list[str]:
        """Names of the columns it becomes."""
        return [self.name, f"{self.name} is missing"] if self.indicator else [self.name]

    def write(self, series: pd.Series, rows: NDArray[np.intp] | None, out: NDArray[np.float32]) -> None:
        """The column's ``rows`` into ``out``, ``[N, 1]`` or ``[N, 2]``."""
        values = _numbers(series, rows)
        missing = np.isnan(values)
        values[missing] = self.median
        # Less the median in float64 first: years, time stamps and large ids keep their precision in float32 then,
        # which takes half the memory. Standardising, which shifts anyway, gives the same.
        with np.errstate(over="ignore"):
            values -= self.median
        if len(values) and not np.abs(values).max() <= np.finfo(np.float32).max:
            largest = values[np.abs(values).argmax()]
            raise ValueError(f"column {self.name!r} holds a number that is infinite or too large: {largest}")
        out[:, 0] = values
        if self.indicator:
            out[:, 1] = missing


@dataclass(frozen=True)
class Text:
    """A column of text: 1 in the column of its category; a row of zeros where that was not seen in training.

    Attributes:
        name: of the column.
        categories: those that have a column; None is the missing value.

    Example:
        >>> Text("city", ("Bonn", "Ulm", None)).outputs
        ['city = Bonn', 'city = Ulm', 'city is missing']
    """

    name: str
    categories: tuple[str | None, ...]

    @property
    def outputs(self) -> list[str]:
        """Names of the columns it becomes."""
        return [f"{self.name} is missing" if c is None else f"{self.name} = {c}" for c in self.categories]

    @cached_property
    def _encoder(self) -> Any:
        from sklearn.preprocessing import OneHotEncoder

        categories = np.array(self.categories, dtype=object)
        encoder = OneHotEncoder(categories=[categories], handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        return encoder.fit(categories[:, None])

    def write(self, series: pd.Series, rows: NDArray[np.intp] | None, out: NDArray[np.float32]) -> None:
        """The column's ``rows`` into ``out``, ``[N, K]`` for K categories."""
        codes, distinct = _factorize(series, rows)
        # The encoder sees every distinct value once, the missing one last, where code −1 finds it.
        encoded = self._encoder.transform(np.array([*distinct, None], dtype=object)[:, None])
        # A part at a time: a copy of the whole block would be as large as all text columns together.
        for start in range(0, len(codes), 65_536):
            part = slice(start, start + 65_536)
            out[part] = encoded[codes[part]]


@dataclass(frozen=True)
class Columns:
    """How a table's columns become rows of floats; learnt from training rows, and data only, without code.

    Numbers and booleans: the value less the training rows' median; missing ones are the median (so 0), with an
    indicator column where training rows had any. Text: one column a category by scikit-learn's OneHotEncoder; missing
    is a category where training rows had it, and what they had not is all zeros. Number-like text stays text.

    Attributes:
        columns: `Number` or `Text`, in the order of their outputs.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"age": [30.0, None, 40.0], "city": ["Ulm", "Bonn", "Ulm"]})
        >>> columns = Columns.learn(frame)
        >>> columns.outputs
        ['age', 'age is missing', 'city = Bonn', 'city = Ulm']
        >>> columns.matrix(frame).tolist()
        [[-5.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0], [5.0, 0.0, 0.0, 1.0]]
        >>> Columns.from_json(columns.to_json()) == columns
        True
    """

    columns: tuple[Number | Text, ...]

    @classmethod
    def learn(
        cls,
        frame: pd.DataFrame,
        rows: NDArray[np.intp] | None = None,
        *,
        leave_out: Collection[str] = (),
        max_categories: int = 100,
    ) -> Columns:
        """Medians and categories of a frame's columns.

        Columns that cannot tell anything are dropped with a warning: those entirely missing or constant, and text
        where nearly every row has a value of its own.

        Args:
            frame: the table.
            rows: positions of the training rows, ``[N]``; None for all. Nothing is learnt from others.
            leave_out: names of columns that are no input, such as the target.
            max_categories: a text column's most frequent values that get a column each.

        Returns:
            The columns.

        Raises:
            ValueError: repeated names, no rows, no column left, an infinite number, or a column that is neither
                numbers nor booleans nor text.
        """
        if max_categories < 1:
            raise ValueError(f"max_categories must be at least 1, got {max_categories}")
        if (len(frame) if rows is None else len(rows)) == 0:
            raise ValueError("frame: no rows to learn from")
        check_names(list(frame.columns))
        learnt = []
        for name in frame.columns:
            if name in leave_out:
                continue
            column = _learn(frame[name], rows, max_categories)
            if isinstance(column, str):
                warnings.warn(f"column {name!r} {column}: left out", stacklevel=2)
            else:
                learnt.append(column)
        if not learnt:
            raise ValueError(f"frame: no column is left to learn from among {listed(frame.columns)}")
        return cls(tuple(learnt))

    @property
    def outputs(self) -> list[str]:
        """Names of the matrix's columns, ``[D]``."""
        return [name for column in self.columns for name in column.outputs]

    @property
    def text(self) -> list[str]:
        """Names of the text columns, for `rlce.csvfiles.read_csv` to take as they are."""
        return [column.name for column in self.columns if isinstance(column, Text)]

    def matrix(self, frame: pd.DataFrame, rows: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """Rows of floats.

        Args:
            frame: a table with these columns, in any order; others are ignored.
            rows: positions of the rows wanted, ``[N]``; None for all.

        Returns:
            ``[N, D]`` float32.

        Raises:
            ValueError: columns are absent or repeated, text stands where numbers were or numbers where text was, or a
                number is infinite.
        """
        absent = [column.name for column in self.columns if column.name not in frame.columns]
        if absent:
            raise ValueError(f"frame: no columns {listed(absent)}; the columns are {listed(frame.columns)}")
        check_names([name for name in frame.columns if name in {column.name for column in self.columns}])
        widths = [len(column.outputs) for column in self.columns]
        result = np.empty((len(frame) if rows is None else len(rows), sum(widths)), dtype=np.float32)
        for column, stop, width in zip(self.columns, np.cumsum(widths), widths, strict=True):
            series = frame[column.name]
            _check_kind(series, "number" if isinstance(column, Number) else "text")
            column.write(series, rows, result[:, stop - width : stop])
        return result

    def to_json(self) -> list[dict[str, Any]]:
        """What JSON can hold; `from_json` reads it."""
        return [
            {"kind": "number", "name": column.name, "median": column.median, "indicator": column.indicator}
            if isinstance(column, Number)
            else {"kind": "text", "name": column.name, "categories": list(column.categories)}
            for column in self.columns
        ]

    @classmethod
    def from_json(cls, description: Any) -> Columns:
        """The columns that `to_json` described, as equal as can be: their matrices are the same bit by bit.

        Raises:
            ValueError: it is no such description.
        """
        if not isinstance(description, Sequence) or isinstance(description, str) or not description:
            raise ValueError(f"columns must be a list of descriptions, got {description!r:.200}")
        columns = tuple(_from_json(entry) for entry in description)
        check_names([column.name for column in columns])
        return cls(columns)


# -------------------------------------------------------------------------------------------- targets and held-out rows


def target(frame: pd.DataFrame, name: str, task: Task = "classification") -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The target column, and where it is there; rows without are left out with a warning that counts them.

    Args:
        frame: the table.
        name: of the column.
        task: "classification" keeps labels as they are: integers, booleans, text (as objects), numbers. Where some are
            missing, whole numbers are integers, as in the file. "regression" makes floats of numbers.

    Returns:
        (y, rows): values and their rows' positions in the frame, both ``[N]``.

    Raises:
        ValueError: there is no such column, it is entirely missing, or its values do not fit the task.

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
    missing = frame[name].isna().to_numpy()
    rows = np.flatnonzero(~missing)
    if len(rows) == 0:
        raise ValueError(f"target: column {name!r} holds no value")
    if missing.any():
        warnings.warn(f"target: {missing.sum()} of {len(missing)} rows without {name!r} are left out", stacklevel=2)
    series = frame[name].iloc[rows] if missing.any() else frame[name]
    kind = _kind(series)
    if kind == "text" and task == "classification":
        y: NDArray[Any] = series.to_numpy(dtype=object)
        distinct = len(_factorize(series)[1])
        if distinct > 20 and distinct > len(y) / 2:
            warnings.warn(
                f"target: column {name!r} has {distinct} classes in {len(y)} rows; is it an identifier?", stacklevel=2
            )
        return y, rows
    if kind != "number":
        raise ValueError(f"target: column {name!r} must hold {_WANTED[task]}, got {_first(series)!r}")
    y = _numbers(series)
    if not np.isfinite(y).all():
        raise ValueError(f"target: column {name!r} holds an infinite number")
    if task == "regression":
        return y, rows
    if series.dtype.kind == "b" or inferred(series) == "boolean":
        return y.astype(bool), rows
    if (y != np.round(y)).any():
        # Estimators refuse such labels, as scikit-learn's do: almost always they are a quantity.
        fraction = y[y != np.round(y)][0]
        raise ValueError(f"target: column {name!r} holds numbers such as {fraction}; use task='regression' for them")
    distinct = len(np.unique(y))
    if distinct > 100 or (distinct > 20 and distinct > len(y) / 2):
        warnings.warn(
            f"target: column {name!r} has {distinct} distinct numbers, a class each; is it a quantity for "
            "task='regression'?",
            stacklevel=2,
        )
    whole = series.dtype.kind in "iu" or inferred(series) == "integer" or missing.any()
    return (series.to_numpy(dtype=np.uint64 if series.dtype.kind == "u" else np.int64) if whole else y), rows


def hold_out(
    y: NDArray[Any], fraction: float, seed: int | None = None, *, stratify: bool = True
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions of rows to train with and of rows to test with.

    Args:
        y: targets, ``[N]``.
        fraction: part of the rows to test with, in (0, 1).
        seed: of the draw; None draws anew.
        stratify: every class's part among the test rows is as in ``y``. A class with a single row stays in training,
            with a warning.

    Returns:
        (training, test), disjoint and together all rows.

    Raises:
        ValueError: the fraction leaves no row, or fewer rows than classes, on either side.

    Example:
        >>> training, test = hold_out(np.array(["a", "b"] * 10), 0.2, seed=0)
        >>> len(training), sorted(np.array(["a", "b"] * 10)[test].tolist())
        (16, ['a', 'a', 'b', 'b'])
    """
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    rows = np.arange(len(y))
    if not stratify:
        _check_sides(fraction, len(rows), 1, "row")
        training, test = train_test_split(rows, test_size=fraction, random_state=seed)
        return training, test
    classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    alone = counts == 1
    if alone.all():
        raise ValueError(f"y: every one of {len(y)} rows is of a class of its own, so none can test another")
    if alone.any():
        warnings.warn(f"y: one row only of {listed(classes[alone].tolist())}: kept in training", stacklevel=2)
    rows, single = rows[~alone[labels]], rows[alone[labels]]
    _check_sides(fraction, len(rows), max(1, int((~alone).sum())), "row of every class")
    training, test = train_test_split(rows, test_size=fraction, stratify=labels[rows], random_state=seed)
    return np.concatenate([training, single]), test


# -------------------------------------------------------------------------------------------------------------- details

_WANTED = {"classification": "numbers, booleans or text", "regression": "numbers"}


def _learn(series: pd.Series, rows: NDArray[np.intp] | None, max_categories: int) -> Number | Text | str:
    """What a column is, or why it tells nothing."""
    kind = _kind(series)
    if kind == "number":
        values = _numbers(series, rows)
        if np.isinf(values).any():
            raise ValueError(f"column {series.name!r} holds an infinite number")
        present = values[~np.isnan(values)]
        if len(present) == 0:
            return "is entirely missing"
        if len(present) == len(values) and present.min() == present.max():
            return f"is {present[0]:g} in every row"
        indicator = len(present) < len(values)
        return Number(str(series.name), float(np.median(present, overwrite_input=True)), indicator)
    if kind not in ("text", "missing"):
        raise ValueError(f"column {series.name!r} must hold numbers, booleans or text, got {kind}: {_first(series)!r}")
    codes, distinct = _factorize(series, rows)
    if not distinct:
        return "is entirely missing"
    counts = np.bincount(codes + 1, minlength=len(distinct) + 1)
    missing, counts = counts[0] > 0, counts[1:]
    if len(distinct) == 1 and not missing:
        return f"is {distinct[0]!r} in every row"
    # Half the rows with a value of their own and more values than can be kept, or nearly all of them: it names rows.
    rows_present = counts.sum()
    if rows_present >= 20 and len(distinct) > max(rows_present / 2, min(0.9 * rows_present, max_categories)):
        return f"has {len(distinct)} distinct values in {rows_present} rows, an identifier"
    frequent = sorted(zip((-counts).tolist(), distinct, strict=True))[:max_categories]
    categories = sorted(value for _, value in frequent)
    return Text(str(series.name), (*categories, *[None] * bool(missing)))


def _kind(series: pd.Series) -> str:
    """What a column holds: "number", "text", "missing", or a word of pandas' for anything else."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if (is_bool_dtype(series.dtype) or is_numeric_dtype(series.dtype)) and series.dtype.kind != "c":
        return "number"
    word = inferred(series)
    if word in ("boolean", "integer", "floating", "mixed-integer-float"):
        return "number"
    return {"string": "text", "empty": "missing"}.get(word, word)


def _check_kind(series: pd.Series, expected: str) -> None:
    """Refuse a column that is not what it was in training; one entirely missing may be of any kind."""
    import pandas as pd

    kind = _kind(series)
    if kind in (expected, "missing") or series.isna().all():
        return
    if expected == "number":
        wrong = series[series.notna() & pd.to_numeric(series, errors="coerce").isna()]
        raise ValueError(f"column {series.name!r} held numbers in training, got {_first(wrong, series)!r}")
    raise ValueError(f"column {series.name!r} held text in training, got {kind}: {_first(series)!r}")


def _first(*several: pd.Series) -> Any:
    """The first value that is not missing."""
    return next((value for series in several for value in series.dropna().tolist()), None)


def _numbers(series: pd.Series, rows: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
    """Float64 of their own, missing ones NaN."""
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    return values.copy() if rows is None else values[rows]


def _factorize(series: pd.Series, rows: NDArray[np.intp] | None = None) -> tuple[NDArray[np.intp], list[str]]:
    """Codes, −1 for missing ones, and the distinct values that they index."""
    import pandas as pd

    codes, distinct = pd.factorize(series if rows is None else series.iloc[rows])
    return codes, list(distinct)


def _check_sides(fraction: float, rows: int, least: int, what: str) -> None:
    """Refuse a split with fewer than ``least`` rows on a side."""
    test = math.ceil(fraction * rows)
    if min(test, rows - test) < least:
        raise ValueError(
            f"fraction: {fraction} of {rows} rows leaves {rows - test} to train and {test} to test, expected at least "
            f"one {what} on either side, so {least}"
        )


def _from_json(entry: Any) -> Number | Text:
    """One column from its description, checked part by part: the file may be a stranger's."""
    match entry:
        case {"kind": "number", "name": str(name), "median": float() | int() as median, "indicator": bool(indicator)}:
            if len(entry) == 4 and not isinstance(median, bool) and math.isfinite(median):
                return Number(name, float(median), indicator)
        case {"kind": "text", "name": str(name), "categories": [_, *_] as categories} if len(entry) == 3:
            if len(set(map(repr, categories))) == len(categories) and all(
                isinstance(category, str | None) for category in categories
            ):
                return Text(name, tuple(categories))
    raise ValueError(f"columns: no description of a column: {entry!r:.200}")
