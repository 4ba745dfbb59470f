"""Tables: read a CSV file, turn its columns of numbers and text into rows of floats, take out the target.

Everything learnt from the columns is plain JSON. pandas is an optional dependency (``pip install 'rlce[csv]'``), so it
is imported only where it is used.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import itertools
import math
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from rlce.data import held_out

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["classification", "regression"]

_NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float")  # pandas' words for columns of numbers


def header(path: str | os.PathLike[str]) -> list[str]:
    r"""The column names in the first line of a CSV file.

    Args:
        path: the file: UTF-8, fields separated by commas.

    Returns:
        The names. Only the first may be empty, because programs write row numbers in such a column.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty or not UTF-8 text, a column has no name, or two have the same name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = Path(f"{directory}/a.csv").write_text("age,city\n30,Ulm\n")
        ...     header(f"{directory}/a.csv")
        ['age', 'city']
    """
    with _reading(path) as file:
        names = next((row for row in csv.reader(file, skipinitialspace=True) if row), [])
    where = f"path: {str(path)!r}"
    if not names:
        raise ValueError(f"{where} is empty, expected a header and rows")
    nameless = [position for position, name in enumerate(names, start=1) if not name.strip() and position > 1]
    if nameless:
        raise ValueError(f"{where}: the header gives no name to column {_listed(nameless)}")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise ValueError(f"{where}: fields must be separated by commas, the header is {names[0]!r}")
    _check_names(names, f"{where}: the header")  # pandas would silently rename the second "a" to "a.1"
    return names


def read_csv(path: str | os.PathLike[str], text: Collection[str] = ()) -> pd.DataFrame:
    r"""A CSV file as a frame; empty fields, NA and the like are missing values.

    Args:
        path: the file: a header, UTF-8, fields separated by commas. A first column without a name holds row numbers
            and is dropped.
        text: names of columns to read as text, even if they look like numbers.

    Returns:
        The frame. Every other column holds numbers or booleans if all its fields are of that type, and text otherwise.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a bad header (see `header`), no rows, rows longer or shorter than the header, or not UTF-8 text.

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
        if frame.empty:
            raise ValueError(f"path: {str(path)!r} holds a header, but no rows")
        # pandas silently fills short rows. Such a row lacks its last field, so only then look at every row.
        if frame.iloc[:, -1].isna().any():
            collections.deque(_rows(file, len(names)), maxlen=0)
    return frame if names[0].strip() else frame.drop(columns=names[0])


def read_chunks(
    path: str | os.PathLike[str], text: Collection[str] = (), rows: int = 20_000
) -> Iterator[tuple[list[list[str]], pd.DataFrame]]:
    r"""A CSV file in parts, so that a file of any length takes the same memory.

    Args:
        path: the file, as for `read_csv`.
        text: names of columns to read as text.
        rows: the largest number of rows in a part.

    Returns:
        An iterator of (fields, frame): the rows as lists of strings, unchanged, and the same rows as `read_csv` would
        read them.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: as `read_csv`, when reading reaches the faulty part.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = Path(f"{directory}/a.csv").write_text("age,city\n30,Ulm\n40,Bonn\n")
        ...     [fields for fields, _ in read_chunks(f"{directory}/a.csv", rows=1)]
        [[['30', 'Ulm']], [['40', 'Bonn']]]
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    names = header(path)
    with _reading(path) as file, _parse(path, names, text, rows) as frames:
        read = _rows(file, len(names))
        next(read)  # the header
        for frame in frames:
            if frame.empty:
                raise ValueError(f"path: {str(path)!r} holds a header, but no rows")
            yield list(itertools.islice(read, len(frame))), frame
        if any(read):
            raise ValueError(f"path: {str(path)!r} has lines of white space alone, which may or may not be rows")


@dataclass(frozen=True)
class Number:
    """A column of numbers or booleans: value minus the training rows' median, and optionally 1 if it is missing.

    Attributes:
        name: of the column.
        median: over the training rows; it replaces missing values.
        indicator: True for a second output that is 1 if the value is missing, else 0.

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

    def write(self, series: pd.Series, out: NDArray[np.float32]) -> None:
        """Write the rows of the column into ``out``, ``[N, 1]`` or ``[N, 2]``."""
        import pandas as pd

        if _kind(series) not in _NUMBERS and not series.isna().all():
            wrong = series[pd.to_numeric(series, errors="coerce").isna()].dropna().tolist() or series.dropna().tolist()
            raise ValueError(f"column {self.name!r} held numbers in training, got {wrong[0]!r}")
        values = _numbers(series)
        missing = np.isnan(values)
        values[missing] = self.median
        # Subtract in float64, so that time stamps and large ids keep their precision in float32.
        with np.errstate(over="ignore"):
            values -= self.median
            out[:, 0] = values
        if np.isinf(out[:, 0]).any():
            largest = values[np.abs(values).argmax()]
            raise ValueError(f"column {self.name!r} holds a number that is infinite or too large: {largest}")
        if self.indicator:
            out[:, 1] = missing


@dataclass(frozen=True)
class Text:
    """A column of text: one output a category, 1 in that of the row; all zeros for a category not seen in training.

    Attributes:
        name: of the column.
        categories: those with an output; None stands for a missing value.

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

    def write(self, series: pd.Series, out: NDArray[np.float32]) -> None:
        """Write the rows of the column into ``out``, ``[N, K]`` for K categories."""
        import pandas as pd

        kind, missing = _kind(series), series.isna()
        if kind != "string" and not missing.all():
            got = f"{kind}: {series.dropna().tolist()[0]!r}"
            raise ValueError(f"column {self.name!r} held text in training, got {got}")
        values = series.astype(object).where(~missing, None)
        codes = pd.Index(self.categories, dtype=object).get_indexer(values)  # −1 for any other value
        out[:] = codes[:, None] == np.arange(len(self.categories))


@dataclass(frozen=True)
class Columns:
    """How the columns of a table become rows of floats: learnt from the training rows, plain data without code.

    * Numbers and booleans: the value minus the training rows' median. A missing value becomes the median, so 0; if
      training rows had missing values, an indicator output marks them.
    * Text: one output a category. Missing is a category if training rows had it; any other unseen value becomes zeros.
      Text that looks like numbers stays text.

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

        A column without information is dropped with a warning: one that is entirely missing or constant, or text that
        differs in nearly every row.

        Args:
            frame: the table.
            rows: positions of the training rows, ``[N]``; None for all. Other rows have no influence.
            leave_out: names of columns that are not inputs, such as the target.
            max_categories: the largest number of categories of a text column with an output; the most frequent win.

        Raises:
            ValueError: repeated names, no rows, no column left, an infinite number, or a column of values that are
                neither numbers nor booleans nor text.
        """
        if max_categories < 1:
            raise ValueError(f"max_categories must be at least 1, got {max_categories}")
        rows = np.arange(len(frame)) if rows is None else rows
        if len(rows) == 0:
            raise ValueError("frame: no rows to learn from")
        _check_names(list(frame.columns))
        learnt = []
        for name in frame.columns.difference(list(leave_out), sort=False):
            column = _learn(frame[name].iloc[rows], max_categories)
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
        """Names of the text columns, which `read_csv` and `read_chunks` must read as text."""
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
        needed = [column.name for column in self.columns]
        absent = [name for name in needed if name not in frame.columns]
        if absent:
            raise ValueError(f"frame: no columns {_listed(absent)}; the columns are {_listed(frame.columns)}")
        _check_names([name for name in frame.columns if name in needed])
        rows = np.arange(len(frame)) if rows is None else rows
        result = np.empty((len(rows), len(self.outputs)), dtype=np.float32)
        stop = 0
        for column in self.columns:
            start, stop = stop, stop + len(column.outputs)
            column.write(frame[column.name].iloc[rows], result[:, start:stop])
        return result

    def to_json(self) -> list[dict[str, Any]]:
        """A description that JSON can hold; `from_json` reads it."""
        return [{"kind": type(column).__name__.lower(), **dataclasses.asdict(column)} for column in self.columns]

    @classmethod
    def from_json(cls, description: Any) -> Columns:
        """The columns that `to_json` described; their matrices are the same bit by bit.

        Raises:
            ValueError: the description is not from `to_json`.
        """
        if not isinstance(description, Sequence) or isinstance(description, str) or not description:
            raise ValueError(f"columns must be a list of descriptions, got {description!r:.200}")
        columns = tuple(_from_json(entry) for entry in description)
        _check_names([column.name for column in columns])
        return cls(columns)


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
        raise ValueError(f"target: no column {name!r}; the columns are {_listed(frame.columns)}")
    _check_names([column for column in frame.columns if column == name])
    series, column = frame[name].dropna(), f"target: column {name!r}"
    rows = np.flatnonzero(frame[name].notna())
    missing = len(frame) - len(rows)
    if len(rows) == 0:
        raise ValueError(f"{column} holds no value")
    if missing:
        warnings.warn(f"target: {missing} of {len(frame)} rows without {name!r} are left out", stacklevel=2)
    kind = _kind(series)
    if kind in _NUMBERS:
        y: NDArray[Any] = _numbers(series)
        if not np.isfinite(y).all():
            raise ValueError(f"{column} holds an infinite number")
        if task == "regression":
            return y, rows
    elif kind == "string" and task == "classification":
        y = series.to_numpy(dtype=object)
    else:
        wanted = "numbers" if task == "regression" else "numbers, booleans or text"
        raise ValueError(f"{column} must hold {wanted}, got {series.tolist()[0]!r}")
    if kind == "boolean":
        y = y.astype(bool)
    elif kind != "string":
        fractions = y[y != np.round(y)]
        if len(fractions):
            # Estimators refuse such labels, like scikit-learn's: they are almost always a quantity.
            raise ValueError(f"{column} holds numbers such as {fractions[0]}; use task='regression' for them")
        if kind == "integer" or missing:
            y = series.to_numpy(dtype=np.uint64 if series.dtype.kind == "u" else np.int64)
    distinct = series.nunique()
    if (distinct > 20 and distinct > len(y) / 2) or (distinct > 100 and kind != "string"):
        perhaps = "an identifier" if kind == "string" else "a quantity for task='regression'"
        warnings.warn(f"{column} has {distinct} classes in {len(y)} rows; is it {perhaps}?", stacklevel=2)
    return y, rows


def hold_out(
    y: NDArray[Any], fraction: float, seed: int | None = None, *, stratify: bool = True
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split the rows into training rows and test rows.

    Args:
        y: targets, ``[N]``.
        fraction: share of the rows to test with, in (0, 1).
        seed: of the random split; None gives another split at each call.
        stratify: take this share of every class. A class with a single row stays in training, with a warning.

    Returns:
        (training, test): positions of the rows, disjoint and together all rows.

    Raises:
        ValueError: one side has no row, or fewer rows than there are classes.

    Example:
        >>> training, test = hold_out(np.array(["a", "b"] * 10), 0.2, seed=0)
        >>> len(training), sorted(np.array(["a", "b"] * 10)[test].tolist())
        (16, ['a', 'a', 'b', 'b'])
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    groups, least, need = np.zeros(len(y), dtype=int), 1, "at least one row"
    if stratify:
        classes, groups, counts = np.unique(y, return_inverse=True, return_counts=True)
        alone = classes[counts == 1]
        if len(alone) == len(classes):
            raise ValueError(f"y: each of the {len(y)} rows is the only one of its class, so none can be held out")
        if len(alone):
            warnings.warn(f"y: only one row of {_listed(alone.tolist())}: kept in training", stacklevel=2)
        least = len(classes) - len(alone)
        need = f"one row of each of {least} classes; if y is a quantity, do not stratify (--task regression)"
    held = held_out(groups, fraction, seed)
    count = math.ceil(fraction * len(y)) if held.any() else 0
    if min(count, len(y) - count) < least:
        sides = f"{fraction} of {len(y)} rows leaves {len(y) - count} to train and {count} to test"
        raise ValueError(f"fraction: {sides}, but both sides need {need}")
    return np.flatnonzero(~held), np.flatnonzero(held)


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """The open file; an error while reading becomes a ValueError that names the file."""
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
        raise ValueError(f"path: {str(path)!r} is not a CSV file with rows as long as its header: {error}") from error


def _parse(path: str | os.PathLike[str], names: list[str], text: Collection[str], rows: int | None = None) -> Any:
    """The frame that pandas reads, or an iterator of frames of this many rows."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas would cut a row that is too long
        return pd.read_csv(
            path,
            header=0,
            names=names,
            dtype=dict.fromkeys(set(text) & set(names), "str"),
            index_col=False,
            chunksize=rows,
            skipinitialspace=True,
            low_memory=False,  # else a column may hold numbers from one part of a long file and text from another
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


def _learn(series: pd.Series, max_categories: int) -> Number | Text | str:
    """The column learnt from these rows, or the reason why it holds no information."""
    present, kind = series.dropna(), _kind(series)
    missing = len(present) < len(series)
    if present.empty:
        return "is entirely missing"
    if kind in _NUMBERS:
        values = _numbers(present)
        if np.isinf(values).any():
            raise ValueError(f"column {series.name!r} holds an infinite number")
        if not missing and values.min() == values.max():
            return f"is {values[0]:g} in every row"
        return Number(str(series.name), float(np.median(values)), missing)
    if kind != "string":
        got = f"{kind}: {present.tolist()[0]!r}"
        raise ValueError(f"column {series.name!r} must hold numbers, booleans or text, got {got}")
    counts = collections.Counter(present.tolist())
    if len(counts) == 1 and not missing:
        return f"is {present.iloc[0]!r} in every row"
    # More values than half the rows and than can be kept, or nearly one value a row: the column names rows.
    if len(present) >= 20 and len(counts) > max(len(present) / 2, min(0.9 * len(present), max_categories)):
        return f"has {len(counts)} distinct values in {len(present)} rows, an identifier"
    frequent = sorted(counts, key=lambda value: (-counts[value], value))[:max_categories]
    return Text(str(series.name), (*sorted(frequent), *[None] * missing))


def _kind(series: pd.Series) -> str:
    """Pandas' word for the type of the values in a column, missing ones aside."""
    from pandas.api.types import infer_dtype

    word = infer_dtype(series)
    if word == "categorical":
        word = infer_dtype(series.cat.categories)
        return word if word == "string" else f"categories of kind {word}"
    return word


def _numbers(series: pd.Series) -> NDArray[np.float64]:
    """A copy as float64, NaN where a value is missing."""
    return series.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)


def _from_json(entry: Any) -> Number | Text:
    """One column from its description; every part is checked, because the file may come from anywhere."""
    match entry:
        case {"kind": "number", "name": str(name), "median": float() | int() as median, "indicator": bool(indicator)}:
            if len(entry) == 4 and not isinstance(median, bool) and math.isfinite(median):
                return Number(name, float(median), indicator)
        case {"kind": "text", "name": str(name), "categories": [_, *_] as categories} if len(entry) == 3:
            strings = all(isinstance(category, str | None) for category in categories)
            if strings and len(set(categories)) == len(categories):
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
