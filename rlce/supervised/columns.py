"""Columns: turn typed columns (numbers, dates, categories, gaps) into rows of floats.

Everything learnt from the columns is plain JSON. pandas is an optional dependency (``pip install 'rlce[csv]'``), so it
is imported only where it is used.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rlce.supervised.csv_files import Reading
from rlce.supervised.fields import Field, Notes
from rlce.supervised.splits import DATES, FEW, ID, NUMBERS, check_names, kind_of, listed, numbers

if TYPE_CHECKING:
    import pandas as pd

_CYCLES = {"year": 365.2425, "week": 7.0, "day": 1.0}  # days after which a date comes round


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

    def write(self, series: pd.Series, out: NDArray[np.float32], notes: Notes) -> None:
        """Write the rows of the column into ``out``, ``[N, 1]`` or ``[N, 2]``."""
        import pandas as pd

        if kind_of(series) not in NUMBERS and not series.isna().all():
            wrong = series[pd.to_numeric(series, errors="coerce").isna()].dropna().tolist() or series.dropna().tolist()
            raise ValueError(f"column {self.name!r} held numbers in training, got {wrong[0]!r}")
        values = numbers(series)
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
        elif missing.any():
            notes.add(self.name, f"no value, as in no training row: read as {self.median:g}", {None: missing.sum()})


@dataclass(frozen=True)
class Text:
    """A column of text: one output a category, 1 in that of the row; all zeros for a category not seen in training.

    Attributes:
        name: of the column.
        categories: those with an output; None stands for a missing value.
        others: True if training rows had more categories, which have no output.

    Example:
        >>> Text("city", ("Bonn", "Ulm", None)).outputs
        ['city = Bonn', 'city = Ulm', 'city is missing']
    """

    name: str
    categories: tuple[str | None, ...]
    others: bool = False

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return [f"{self.name} is missing" if c is None else f"{self.name} = {c}" for c in self.categories]

    def write(self, series: pd.Series, out: NDArray[np.float32], notes: Notes) -> None:
        """Write the rows of the column into ``out``, ``[N, K]`` for K categories."""
        import pandas as pd

        series = _named_categories(series)
        kind = kind_of(series)
        if kind != "string" and not series.isna().all():
            got = f"{kind}: {series.dropna().tolist()[0]!r}"
            raise ValueError(f"column {self.name!r} held text in training, got {got}")
        codes, values = pd.factorize(series)  # −1 for a missing value, which stands last in the next line
        values = [*values, None]
        known = pd.Index(self.categories, dtype=object).get_indexer(pd.Index(values, dtype=object))  # −1: no category
        rows = np.flatnonzero(known[codes] >= 0)
        out[:] = 0.0
        out[rows, known[codes[rows]]] = 1.0
        counts = np.bincount(codes % len(values), minlength=len(values)) * (known < 0)
        if counts[-1]:
            notes.add(self.name, "no value, as in no training row: read as no category", {None: int(counts[-1])})
        if not self.others:
            unseen = {values[i]: int(counts[i]) for i in np.flatnonzero(counts[:-1])}
            notes.add(self.name, "a value of no training row, read as no category", unseen)


@dataclass(frozen=True)
class Date:
    """A column of dates: days since the training rows' median, and where in the year, the week and the day it is.

    Attributes:
        name: of the column.
        median: days since 1970 (UTC), over the training rows; it replaces missing values.
        cycles: "year", "week" and "day" as far as training rows differ in it; each has a sine and a cosine as outputs,
            which are 0 if the date is missing. The week goes by whole days.
        indicator: True for another output that is 1 if the date is missing, else 0.

    Example:
        >>> Date("since", 19_000.0, ("week",), indicator=True).outputs
        ['since', 'since, week: sine', 'since, week: cosine', 'since is missing']
    """

    name: str
    median: float
    cycles: tuple[str, ...] = ()
    indicator: bool = False

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        waves = [f"{self.name}, {cycle}: {wave}" for cycle in self.cycles for wave in ("sine", "cosine")]
        return [self.name, *waves, *[f"{self.name} is missing"] * self.indicator]

    def write(self, series: pd.Series, out: NDArray[np.float32], notes: Notes) -> None:
        """Write the rows of the column into ``out``, ``[N, D]`` for D outputs."""
        if kind_of(series) not in DATES and not series.isna().all():
            raise ValueError(f"column {self.name!r} held dates in training, got {series.dropna().tolist()[0]!r}")
        days = _days(series)
        missing = np.isnan(days)
        out[:, 0] = np.where(missing, 0.0, days - self.median)
        for i, cycle in enumerate(self.cycles):
            angle = 2 * np.pi * _phase(days, cycle)
            out[:, 2 * i + 1] = np.where(missing, 0.0, np.sin(angle))
            out[:, 2 * i + 2] = np.where(missing, 0.0, np.cos(angle))
        if self.indicator:
            out[:, -1] = missing
        elif missing.any():
            said = f"no date, as in no training row: read as {np.datetime64(int(self.median), 'D')}"
            notes.add(self.name, said, {None: missing.sum()})


Column = Number | Text | Date


@dataclass(frozen=True)
class Columns:
    """How the columns of a table become rows of floats: learnt from the training rows, plain data without code.

    * Numbers and booleans: the value minus the training rows' median. A missing value becomes the median, so 0; if
      training rows had missing values, an indicator output marks them.
    * Text and pandas' categories: one output a category. Missing is a category if training rows had it; any other
      unseen value becomes zeros. Text that looks like numbers stays text.
    * Dates: days since the training rows' median, and sines and cosines of the year, the week and the day.

    Attributes:
        columns: `Number`, `Text` or `Date`, in the order of their outputs.

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

    columns: tuple[Column, ...]

    @classmethod
    def learn(
        cls,
        frame: pd.DataFrame,
        rows: NDArray[np.intp] | None = None,
        *,
        leave_out: Collection[str] = (),
        keep: Collection[str] = (),
        max_categories: int = 100,
    ) -> Columns:
        """Learn medians and categories from a frame.

        A column without information is left out with a warning: one that is entirely missing or constant, text that
        differs in nearly every row, or whole numbers that differ in every row under a name such as "id". Other whole
        numbers that grow from row to row are warned of.

        Args:
            frame: the table.
            rows: positions of the training rows, ``[N]``; None for all. Other rows have no influence.
            leave_out: names of columns that are not inputs, such as the target.
            keep: names of columns that are no identifiers, whatever they look like.
            max_categories: the largest number of categories of a text column with an output; the most frequent win.

        Raises:
            ValueError: repeated names, no rows, no column left, an infinite number, or a column of values that are
                neither numbers nor booleans nor dates nor text.
        """
        if max_categories < 1:
            raise ValueError(f"max_categories must be at least 1, got {max_categories}")
        rows = np.arange(len(frame)) if rows is None else rows
        if len(rows) == 0:
            raise ValueError("frame: no rows to learn from")
        check_names(list(frame.columns))
        learnt = []
        for name in frame.columns.difference(list(leave_out), sort=False):
            column = _learn(frame[name].iloc[rows], max_categories, name in keep)
            if isinstance(column, str):
                warnings.warn(f"column {name!r} {column}: left out", stacklevel=2)
            else:
                learnt.append(column)
        if not learnt:
            raise ValueError(f"frame: no column is left to learn from among {listed(frame.columns)}")
        return cls(tuple(learnt))

    @property
    def outputs(self) -> list[str]:
        """Names of all outputs, the columns of the matrix, ``[D]``."""
        return [name for column in self.columns for name in column.outputs]

    @property
    def text(self) -> list[str]:
        """Names of the text columns, which `read_csv` and `read_chunks` must read as text."""
        return [column.name for column in self.columns if isinstance(column, Text)]

    @property
    def reading(self) -> Reading:
        """How a CSV file with these columns was read before it was saved with the model: text as it stands."""
        text, number = Field("text"), Field("number")  # there were no dates
        return Reading(fields={c.name: text if isinstance(c, Text) else number for c in self.columns}, strip=False)

    def matrix(
        self, frame: pd.DataFrame, rows: NDArray[np.intp] | None = None, notes: Notes | None = None
    ) -> NDArray[np.float32]:
        """Turn a frame into rows of floats.

        Gaps in a column of which the training rows had none, and categories that they had not, are said.

        Args:
            frame: a table with these columns, in any order; others are ignored.
            rows: positions of the rows to take, ``[N]``; None for all.
            notes: told of what the training rows had not; None for warnings.

        Returns:
            ``[N, D]`` float32.

        Raises:
            ValueError: a column is absent or repeated, holds text instead of numbers or numbers instead of text, or
                holds a number that is infinite or too large.
        """
        needed = [column.name for column in self.columns]
        absent = [name for name in needed if name not in frame.columns]
        if absent:
            raise ValueError(f"frame: no columns {listed(absent)}; the columns are {listed(frame.columns)}")
        check_names([name for name in frame.columns if name in needed])
        rows = np.arange(len(frame)) if rows is None else rows
        result = np.empty((len(rows), len(self.outputs)), dtype=np.float32)
        said = Notes() if notes is None else notes
        stop = 0
        for column in self.columns:
            start, stop = stop, stop + len(column.outputs)
            column.write(frame[column.name].iloc[rows], result[:, start:stop], said)
        if notes is None:
            said.warn()
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
        check_names([column.name for column in columns])
        return cls(columns)


def _learn(series: pd.Series, max_categories: int, keep: bool) -> Column | str:
    """The column learnt from these rows, or the reason why it is left out."""
    series = _named_categories(series)
    name, present, kind = str(series.name), series.dropna(), kind_of(series)
    missing = len(present) < len(series)
    if present.empty:
        return "is entirely missing"
    if kind in DATES:
        return _learn_dates(name, _days(present), missing)
    if kind in NUMBERS:
        values = numbers(present)
        if np.isinf(values).any():
            raise ValueError(f"column {name!r} holds an infinite number")
        if not missing and values.min() == values.max():
            return f"is {values[0]:g} in every row"
        reason = None if keep or kind == "boolean" else _counts_rows(name, values, missing)
        return reason or Number(name, float(np.median(values)), missing)
    if kind != "string":
        got = f"{kind}: {present.tolist()[0]!r}"
        raise ValueError(f"column {name!r} must hold numbers, booleans, dates or text, got {got}")
    counts = {str(value): int(count) for value, count in present.value_counts().items() if count}
    if len(counts) == 1 and not missing:
        return f"is {present.iloc[0]!r} in every row"
    # More values than half the rows and than can be kept, or nearly one value a row: the column names rows.
    many = max(len(present) / 2, min(0.9 * len(present), max_categories))
    if not keep and len(present) >= FEW and len(counts) > many:
        return f"has {len(counts)} distinct values in {len(present)} rows, an identifier"
    if len(counts) > max_categories:
        said = f"has {len(counts)} values; the {max_categories} most frequent have an output each, the others none"
        warnings.warn(f"column {name!r} {said}", stacklevel=3)
    frequent = sorted(counts, key=lambda value: (-counts[value], value))[:max_categories]
    return Text(name, (*sorted(frequent), *[None] * missing), others=len(counts) > max_categories)


def _learn_dates(name: str, days: NDArray[np.float64], missing: bool) -> Date | str:
    """A column of dates from the days of those present."""
    if not missing and days.min() == days.max():
        return f"is {np.datetime64(int(days[0]), 'D')} in every row"
    months = np.floor(12 * _phase(days, "year"))
    parts = {"year": months, "week": _phase(days, "week"), "day": _phase(days, "day")}
    cycles = tuple(cycle for cycle, part in parts.items() if (part != part[0]).any())
    return Date(name, float(np.median(days)), cycles, missing)


def _counts_rows(name: str, values: NDArray[np.float64], missing: bool) -> str | None:
    """Why a column of numbers is an identifier, or None; one that may be is warned of."""
    some = values[:1000]  # they tell for nearly every column
    if len(values) < FEW or (some != np.floor(some)).any() or len(np.unique(some)) < len(some):
        return None
    steps = np.diff(values)
    grows = not missing and bool((steps > 0).all() or (steps < 0).all())
    if not (grows or ID.search(name)) or (values != np.floor(values)).any() or len(np.unique(values)) < len(values):
        return None
    if ID.search(name):
        distinct = f"has {len(values)} distinct whole numbers in {len(values)} rows, an identifier by its name"
        return f"{distinct} (--keep {name} to learn from it)"
    way = "grows" if steps[0] > 0 else "falls"
    warnings.warn(f"column {name!r} {way} from row to row; if it numbers the rows, say --drop {name}", stacklevel=4)
    return None


def _days(series: pd.Series) -> NDArray[np.float64]:
    """Days since 1970 (UTC), NaN where a date is missing."""
    import pandas as pd

    dates = pd.to_datetime(series, utc=True).dt.tz_localize(None)
    return ((dates - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64)


def _phase(days: NDArray[np.float64], cycle: str) -> NDArray[np.float64]:
    """Where in its year, week or day each date is, in [0, 1)."""
    return (np.floor(days) if cycle == "week" else days) / _CYCLES[cycle] % 1.0


def _named_categories(series: pd.Series) -> pd.Series:
    """The column; pandas' categories that are numbers or booleans become text."""
    if isinstance(series.dtype.name, str) and series.dtype.name == "category" and kind_of(series) != "string":
        return series.cat.rename_categories(str)
    return series


def _from_json(entry: Any) -> Column:
    """One column from its description; every part is checked, because the file may come from anywhere."""
    match entry:
        case {"kind": "number", "name": str(name), "median": float() | int() as median, "indicator": bool(indicator)}:
            if len(entry) == 4 and not isinstance(median, bool) and math.isfinite(median):
                return Number(name, float(median), indicator)
        case {"kind": "text", "name": str(name), "categories": [_, *_] as categories}:
            strings = all(isinstance(category, str | None) for category in categories)
            # Earlier versions kept at most 100 categories, and did not write down whether there were more.
            others = entry.get("others", len(categories) >= 100)
            known = set(entry) <= {"kind", "name", "categories", "others"} and isinstance(others, bool)
            if known and strings and len(set(categories)) == len(categories):
                return Text(name, tuple(categories), others)
        case {
            "kind": "date",
            "name": str(name),
            "median": float() as median,
            "cycles": [*cycles],
            "indicator": bool(indicator),
        }:
            if len(entry) == 5 and math.isfinite(median) and cycles == [cycle for cycle in _CYCLES if cycle in cycles]:
                return Date(name, median, tuple(cycles), indicator)
    raise ValueError(f"columns: no description of a column: {entry!r:.200}")
