"""Tables: read a CSV file, turn its columns of numbers and text into rows of floats, take out the target.

What is learnt from the columns is plain JSON. pandas is an optional dependency (``pip install 'rlce[csv]'``), so it is
imported where it is used.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import io
import itertools
import math
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["classification", "regression"]


# ------------------------------------------------------------------------------------------------------------ CSV files


def header(path: str | os.PathLike[str]) -> list[str]:
    r"""The column names in a CSV file's first line.

    Args:
        path: the file: UTF-8, fields separated by commas.

    Returns:
        The names. Only the first may be empty, as programs leave it above a column of row numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty or not UTF-8 text, a column has no name, or two have the same name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = Path(f"{directory}/a.csv").write_text("age,city\n30,Ulm\n")
        ...     header(f"{directory}/a.csv")
        ['age', 'city']
    """
    target = Path(path)
    with _reading(target) as file:
        names = next((row for row in csv.reader(file, skipinitialspace=True) if row), [])
    if not names:
        raise ValueError(f"path: {str(target)!r} is empty, expected a header and rows")
    nameless = [position for position, name in enumerate(names, start=1) if not name.strip() and position > 1]
    if nameless:
        raise ValueError(f"path: {str(target)!r}: the header gives no name to column {_listed(nameless)}")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise ValueError(f"path: {str(target)!r}: fields must be separated by commas, the header is {names[0]!r}")
    # pandas would silently rename the second "a" to "a.1".
    _check_names(names, f"path: {str(target)!r}: the header")
    return names


def read_csv(path: str | os.PathLike[str], text: Collection[str] = ()) -> pd.DataFrame:
    r"""A CSV file as a frame; empty fields, NA and the like are missing values.

    Args:
        path: the file: a header, UTF-8, fields separated by commas. A first column without a name holds row numbers
            and is dropped.
        text: names of columns to read as text, even where they look like numbers.

    Returns:
        The frame. Of the other columns, those whose fields are all numbers or all booleans have that type; the rest
        are text.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a bad header (see `header`), no rows, rows longer or shorter than the header, or no UTF-8 text.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = Path(f"{directory}/a.csv").write_text("age,city\n30,Ulm\n,Bonn\n")
        ...     read_csv(f"{directory}/a.csv").to_dict("list")
        {'age': [30.0, nan], 'city': ['Ulm', 'Bonn']}
    """
    names = header(path)
    with contextlib.suppress(ValueError):
        _ = [float(name) for name in names]  # fails at the first name that is not a number
        warnings.warn(f"path: {str(path)!r}: the header holds only numbers; is it a row?", stacklevel=2)
    with _reading(path) as file:
        frame = _parse(path, names, text)
        # pandas parses a long file in parts, so one column may hold numbers from one part and text from another.
        mixed = [name for name in frame if _inferred(frame[name]).startswith("mixed")]
        if mixed:
            frame = _parse(path, names, [*text, *mixed])
        if frame.empty:
            raise ValueError(f"path: {str(path)!r} holds a header, but no rows")
        # pandas silently fills short rows up. Each of them lacks its last field, so look for them only if one is.
        if frame.iloc[:, -1].isna().any():
            for _ in _rows(file, len(names)):
                pass
    return frame if names[0].strip() else frame.drop(columns=names[0])


def read_chunks(
    path: str | os.PathLike[str], text: Collection[str] = (), rows: int = 20_000
) -> Iterator[tuple[list[list[str]], pd.DataFrame]]:
    r"""A CSV file part by part, so that a file of any length takes the same memory.

    Args:
        path: the file, as for `read_csv`.
        text: names of columns to read as text.
        rows: in each part, at most.

    Returns:
        An iterator of (fields, frame): the rows as lists of strings, unchanged, and the frame of the same rows, as
        `read_csv` would read them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as for `read_csv`, when the reading gets to that part.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = Path(f"{directory}/a.csv").write_text("age,city\n30,Ulm\n40,Bonn\n")
        ...     [fields for fields, _ in read_chunks(f"{directory}/a.csv", rows=1)]
        [[['30', 'Ulm']], [['40', 'Bonn']]]
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    names, lines = header(path), list[str]()
    with _reading(path) as file:
        read = _rows(_recorded(file, lines), len(names))
        next(read)  # the header
        lines.clear()
        fields = list(itertools.islice(read, rows))
        if not fields:
            raise ValueError(f"path: {str(path)!r} holds a header, but no rows")
        while fields:
            # pandas gets the same lines that the fields were read from, so both hold the same rows.
            frame = _parse(io.StringIO("".join(lines)), names, text)
            if len(frame) != len(fields):
                raise ValueError(f"path: {str(path)!r} has lines of white space alone, which may or may not be rows")
            yield fields, frame
            lines.clear()
            fields = list(itertools.islice(read, rows))


# ---------------------------------------------------------------------------------------------------- columns to floats


@dataclass(frozen=True)
class Number:
    """A column of numbers or booleans: value minus the training rows' median, and optionally 1 where it is missing.

    Attributes:
        name: of the column.
        median: over the training rows; it replaces missing values.
        indicator: whether a second output of 0 and 1 marks missing values.

    Example:
        >>> Number("age", 31.0, indicator=True).outputs
        ['age', 'age is missing']
    """

    name: str
    median: float
    indicator: bool = False

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return [self.name, f"{self.name} is missing"] if self.indicator else [self.name]

    def write(self, series: pd.Series, rows: NDArray[np.intp] | None, out: NDArray[np.float32]) -> None:
        """Write the column's ``rows`` into ``out``, ``[N, 1]`` or ``[N, 2]``."""
        values = _numbers(series, rows)
        missing = np.isnan(values)
        values[missing] = self.median
        # Subtract the median in float64, so that years, time stamps and large ids keep their precision in float32,
        # which takes half the memory. Standardising later shifts anyway, so the result is the same.
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
    """A column of text: one output a category, 1 in that of the row; all zeros for a category not seen in training.

    Attributes:
        name: of the column.
        categories: those that have an output; None stands for a missing value.

    Example:
        >>> Text("city", ("Bonn", "Ulm", None)).outputs
        ['city = Bonn', 'city = Ulm', 'city is missing']
    """

    name: str
    categories: tuple[str | None, ...]

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return [f"{self.name} is missing" if c is None else f"{self.name} = {c}" for c in self.categories]

    @cached_property
    def _encoder(self) -> Any:
        from sklearn.preprocessing import OneHotEncoder

        categories = np.array(self.categories, dtype=object)
        encoder = OneHotEncoder(categories=[categories], handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        return encoder.fit(categories[:, None])

    def write(self, series: pd.Series, rows: NDArray[np.intp] | None, out: NDArray[np.float32]) -> None:
        """Write the column's ``rows`` into ``out``, ``[N, K]`` for K categories."""
        codes, distinct = _factorize(series, rows)
        # Encode every distinct value once; the missing value comes last, where its code −1 points.
        encoded = self._encoder.transform(np.array([*distinct, None], dtype=object)[:, None])
        # Write part by part: a copy of the whole block would be as large as all text columns together.
        for start in range(0, len(codes), 65_536):
            part = slice(start, start + 65_536)
            out[part] = encoded[codes[part]]


@dataclass(frozen=True)
class Columns:
    """How a table's columns become rows of floats: learnt from the training rows, plain data without code.

    * Numbers and booleans: the value minus the training rows' median. A missing value becomes the median, so 0; where
      training rows had missing values, an indicator output marks them.
    * Text: one output a category, by scikit-learn's OneHotEncoder. Missing is a category if training rows had it; any
      other unseen value becomes zeros. Text that looks like numbers stays text.

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
        """Learn medians and categories from a frame.

        Columns without information are dropped with a warning: those that are entirely missing or constant, and text
        that differs in nearly every row.

        Args:
            frame: the table.
            rows: positions of the training rows, ``[N]``; None for all. Other rows have no influence.
            leave_out: names of columns that are not inputs, such as the target.
            max_categories: how many categories of a text column get an output, the most frequent first.

        Returns:
            The columns.

        Raises:
            ValueError: repeated names, no rows, no column left, an infinite number, or a column that holds neither
                numbers nor booleans nor text.
        """
        if max_categories < 1:
            raise ValueError(f"max_categories must be at least 1, got {max_categories}")
        if (len(frame) if rows is None else len(rows)) == 0:
            raise ValueError("frame: no rows to learn from")
        _check_names(list(frame.columns))
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
            raise ValueError(f"frame: no column is left to learn from among {_listed(frame.columns)}")
        return cls(tuple(learnt))

    @property
    def outputs(self) -> list[str]:
        """Names of all outputs, the columns of the matrix, ``[D]``."""
        return [name for column in self.columns for name in column.outputs]

    @property
    def text(self) -> list[str]:
        """Names of the text columns, which `read_csv` and `read_chunks` must not read as numbers."""
        return [column.name for column in self.columns if isinstance(column, Text)]

    def matrix(self, frame: pd.DataFrame, rows: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
        """Turn a frame into rows of floats.

        Args:
            frame: a table with these columns, in any order; others are ignored.
            rows: positions of the rows to take, ``[N]``; None for all.

        Returns:
            ``[N, D]`` float32.

        Raises:
            ValueError: a column is absent or repeated, holds text instead of numbers or numbers instead of text, or
                holds a number that is infinite or too large.
        """
        absent = [column.name for column in self.columns if column.name not in frame.columns]
        if absent:
            raise ValueError(f"frame: no columns {_listed(absent)}; the columns are {_listed(frame.columns)}")
        _check_names([name for name in frame.columns if name in {column.name for column in self.columns}])
        widths = [len(column.outputs) for column in self.columns]
        result = np.empty((len(frame) if rows is None else len(rows), sum(widths)), dtype=np.float32)
        for column, stop, width in zip(self.columns, np.cumsum(widths), widths, strict=True):
            series = frame[column.name]
            _check_kind(series, "number" if isinstance(column, Number) else "text")
            column.write(series, rows, result[:, stop - width : stop])
        return result

    def to_json(self) -> list[dict[str, Any]]:
        """A description that JSON can hold; `from_json` reads it."""
        return [
            {"kind": "number", "name": column.name, "median": column.median, "indicator": column.indicator}
            if isinstance(column, Number)
            else {"kind": "text", "name": column.name, "categories": list(column.categories)}
            for column in self.columns
        ]

    @classmethod
    def from_json(cls, description: Any) -> Columns:
        """The columns that `to_json` described; their matrices are the same bit by bit.

        Raises:
            ValueError: not a description by `to_json`.
        """
        if not isinstance(description, Sequence) or isinstance(description, str) or not description:
            raise ValueError(f"columns must be a list of descriptions, got {description!r:.200}")
        columns = tuple(_from_json(entry) for entry in description)
        _check_names([column.name for column in columns])
        return cls(columns)


# -------------------------------------------------------------------------------------------- targets and held-out rows


def target(frame: pd.DataFrame, name: str, task: Task = "classification") -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The values to predict; rows without one are dropped, and a warning counts them.

    Args:
        frame: the table.
        name: of the column.
        task: "classification" keeps the type of the labels: integers, booleans, text (as objects) or numbers. Where
            some are missing, pandas has made floats of integers; they become integers again. "regression" gives
            floats.

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
        raise ValueError(f"target: no column {name!r}; the columns are {_listed(frame.columns)}")
    _check_names([column for column in frame.columns if column == name])
    missing = frame[name].isna().to_numpy()
    rows = np.flatnonzero(~missing)
    if len(rows) == 0:
        raise ValueError(f"target: column {name!r} holds no value")
    if missing.any():
        warnings.warn(f"target: {missing.sum()} of {len(missing)} rows without {name!r} are left out", stacklevel=2)
    series = frame[name].iloc[rows] if missing.any() else frame[name]
    kind, column = _kind(series), f"target: column {name!r}"
    if kind != "number" and (kind != "text" or task == "regression"):
        wanted = "numbers" if task == "regression" else "numbers, booleans or text"
        raise ValueError(f"{column} must hold {wanted}, got {_first(series)!r}")
    y: NDArray[Any] = series.to_numpy(dtype=object) if kind == "text" else _numbers(series)
    if kind == "number" and not np.isfinite(y).all():
        raise ValueError(f"{column} holds an infinite number")
    if task == "regression":
        return y, rows
    distinct = series.nunique()
    nearly_unique = distinct > 20 and distinct > len(y) / 2
    if kind == "text":
        if nearly_unique:
            warnings.warn(f"{column} has {distinct} classes in {len(y)} rows; is it an identifier?", stacklevel=2)
        return y, rows
    if series.dtype.kind == "b" or _inferred(series) == "boolean":
        return y.astype(bool), rows
    if (y != np.round(y)).any():
        # Estimators refuse such labels, as scikit-learn's do: they are almost always a quantity.
        fraction = y[y != np.round(y)][0]
        raise ValueError(f"{column} holds numbers such as {fraction}; use task='regression' for them")
    if distinct > 100 or nearly_unique:
        quantity = "is it a quantity for task='regression'?"
        warnings.warn(f"{column} has {distinct} distinct numbers, a class each; {quantity}", stacklevel=2)
    whole = series.dtype.kind in "iu" or _inferred(series) == "integer" or missing.any()
    return (series.to_numpy(dtype=np.uint64 if series.dtype.kind == "u" else np.int64) if whole else y), rows


def hold_out(
    y: NDArray[Any], fraction: float, seed: int | None = None, *, stratify: bool = True
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split the rows into some to train with and some to test with.

    Args:
        y: targets, ``[N]``.
        fraction: share of the rows to test with, in (0, 1).
        seed: of the random split; None gives another split at each call.
        stratify: whether the test rows have every class in the same share as ``y``. A class with a single row stays in
            training, with a warning.

    Returns:
        (training, test): positions of the rows, disjoint and together all rows.

    Raises:
        ValueError: one side has no row, or not one of every class.

    Example:
        >>> training, test = hold_out(np.array(["a", "b"] * 10), 0.2, seed=0)
        >>> len(training), sorted(np.array(["a", "b"] * 10)[test].tolist())
        (16, ['a', 'a', 'b', 'b'])
    """
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    rows, labels, least = np.arange(len(y)), None, 1
    single = rows[:0]
    if stratify:
        classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
        alone = counts == 1
        if alone.all():
            raise ValueError(f"y: every one of {len(y)} rows is of a class of its own, so none can test another")
        if alone.any():
            warnings.warn(f"y: one row only of {_listed(classes[alone].tolist())}: kept in training", stacklevel=2)
        rows, single = rows[~alone[labels]], rows[alone[labels]]
        labels, least = labels[rows], int((~alone).sum())
    held_out = math.ceil(fraction * len(rows))
    if min(held_out, len(rows) - held_out) < least:
        sides = f"{fraction} of {len(rows)} rows leaves {len(rows) - held_out} to train and {held_out} to test"
        each = f"one row of every class, so {least}; if y is a quantity, do not stratify" if stratify else "one row"
        raise ValueError(f"fraction: {sides}, but each side needs at least {each}")
    training, test = train_test_split(rows, test_size=fraction, stratify=labels, random_state=seed)
    return np.concatenate([training, single]), test


# ---------------------------------------------------------------------------------------------------- inside CSV files


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """The open file; whatever cannot be read in it becomes a ValueError that names the file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: no file {str(path)!r}")
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a CSV file is read with pandas: pip install 'rlce[csv]'") from error
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise ValueError(f"path: {str(path)!r} is not UTF-8 text: {error}") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        raise ValueError(f"path: {str(path)!r} is no CSV file with rows as long as its header: {error}") from error


def _parse(source: Any, names: list[str], text: Collection[str]) -> pd.DataFrame:
    """The frame that pandas reads from a path, or from lines of rows without a header."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas would cut a row that is too long
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)  # `read_csv` handles mixed columns itself
        return pd.read_csv(
            source,
            header=None if isinstance(source, io.StringIO) else 0,
            names=names,
            dtype=dict.fromkeys(set(text) & set(names), "str"),
            index_col=False,
            skipinitialspace=True,
        )


def _rows(lines: Iterable[str], width: int) -> Iterator[list[str]]:
    """Rows of fields, the header first; blank lines are skipped."""
    reader = csv.reader(lines, skipinitialspace=True)
    for row in reader:
        if not row or (width > 1 and row == [""]):
            continue
        # Some programs end every line with commas: empty fields beyond the header's are dropped.
        if len(row) < width or any(row[width:]):
            raise csv.Error(f"line {reader.line_num} has {len(row)} fields, the header {width}")
        yield row[:width]


def _recorded(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    """The lines; each is also appended to ``record``."""
    for line in lines:
        record.append(line)
        yield line


# ------------------------------------------------------------------------------------------------------ inside columns


def _learn(series: pd.Series, rows: NDArray[np.intp] | None, max_categories: int) -> Number | Text | str:
    """The column learnt, or the reason why it holds no information."""
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
    # More values than half the rows and than can be kept, or nearly one value a row: the column names rows.
    rows_present = counts.sum()
    if rows_present >= 20 and len(distinct) > max(rows_present / 2, min(0.9 * rows_present, max_categories)):
        return f"has {len(distinct)} distinct values in {rows_present} rows, an identifier"
    frequent = sorted(zip((-counts).tolist(), distinct, strict=True))[:max_categories]
    categories = sorted(value for _, value in frequent)
    return Text(str(series.name), (*categories, *[None] * bool(missing)))


def _inferred(series: pd.Series) -> str:
    """Pandas' word for the values of a column, missing ones aside; "" for a column of numbers."""
    from pandas.api.types import CategoricalDtype, infer_dtype, is_numeric_dtype

    if isinstance(series.dtype, CategoricalDtype):
        word = infer_dtype(series.dtype.categories, skipna=True)
        return word if word in ("string", "empty") else f"categories of kind {word}"
    return "" if is_numeric_dtype(series.dtype) else infer_dtype(series, skipna=True)


def _kind(series: pd.Series) -> str:
    """What a column holds: "number", "text", "missing", or pandas' own word for anything else."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if (is_bool_dtype(series.dtype) or is_numeric_dtype(series.dtype)) and series.dtype.kind != "c":
        return "number"
    word = _inferred(series)
    if word in ("boolean", "integer", "floating", "mixed-integer-float"):
        return "number"
    return {"string": "text", "empty": "missing"}.get(word, word)


def _check_kind(series: pd.Series, expected: str) -> None:
    """Refuse a column of another kind than in training; one that is entirely missing may be of any kind."""
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
    """A copy as float64, NaN where a value is missing."""
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    return values.copy() if rows is None else values[rows]


def _factorize(series: pd.Series, rows: NDArray[np.intp] | None = None) -> tuple[NDArray[np.intp], list[str]]:
    """Codes, −1 for a missing value, and the distinct values that they index."""
    import pandas as pd

    codes, distinct = pd.factorize(series if rows is None else series.iloc[rows])
    return codes, list(distinct)


def _from_json(entry: Any) -> Number | Text:
    """One column from its description; every part is checked, since the file may come from anywhere."""
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


def _check_names(names: Sequence[Any], what: str = "frame") -> None:
    """Refuse names that are not text or that occur twice."""
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"{what}: column names must be text, got {_listed(wrong)}")
    repeated = sorted(name for name, count in collections.Counter(names).items() if count > 1)
    if repeated:
        raise ValueError(f"{what} has more than one column {_listed(repeated)}")


def _listed(names: Iterable[Any]) -> str:
    """Names for a message, the first twenty."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")
