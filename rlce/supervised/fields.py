"""Fields: what the strings of a CSV column are (numbers, dates or text), and the values that they become.

Everything is decided and converted for the distinct strings of a column, of which there are few in most columns.
pandas is an optional dependency, so it is imported only where it is used.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

# In a column of numbers or dates, these words (in any case) mean a missing value. In a column of text they are
# categories like any other. pandas itself reads an empty field, NA, N/A, NaN, None, null and the like as missing.
MISSING = frozenset(
    {"?", "??", "-", "--", "---", "–", "—", ".", "..", "*", "na", "n/a", "n.a.", "n. a.", "nan", "none", "null", "nil"}
    | {"(null)", "\\n", "unknown", "missing", "not available", "not applicable", "undefined", "k.a.", "k. a."}
    | {"#value!", "#ref!", "#div/0!", "#name?", "#num!", "#null!", "#n/a"}
)
ISO = "ISO8601"  # pandas' word for dates such as 2024-01-31 or 2024-01-31T12:30:00Z
_ISO = r"\d{4}-\d{2}(?:-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?\s?(?:Z|[+-]\d{2}:?\d{2})?)?"
_LIKE_A_DATE = re.compile(r"\d{1,4}[-/. ](?:\d{1,2}|[A-Za-z]{3,9})[-/. ,]|[A-Za-z]{3,9} \d{1,2}, ")
_DAY_FIRST = tuple(f"%d{mark}%m{mark}{year}" for mark in "./-" for year in ("%Y", "%y"))
_MONTH_FIRST = tuple(f"%m{mark}%d{mark}{year}" for mark in "./-" for year in ("%Y", "%y"))
_NAMED = ("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%B %d, %Y")
_YEAR_FIRST = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d")
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
UNITS = ("$", "€", "£", "¥", "₹", "%", "USD", "EUR", "GBP", "CHF", "JPY")
_UNIT = "|".join(map(re.escape, UNITS))
_BLANKS = " \u202f\u00a0\u2009"  # a blank, and those at which no line breaks
_TRUTH = {"true": 1.0, "false": 0.0}
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Field:
    """How the strings of one column are read.

    Attributes:
        kind: "number" (booleans included), "date" or "text".
        decimal: the decimal separator of a number, "." or ",".
        unit: what stands before or after a number, such as "$" or "%", or nothing.
        format: of a date: "ISO8601", or the codes of `datetime.datetime.strptime`.

    Example:
        >>> Field("number", unit="$").to_json()
        {'kind': 'number', 'unit': '$'}
    """

    kind: Literal["number", "date", "text"]
    decimal: str = "."
    unit: str = ""
    format: str = ""

    def to_json(self) -> dict[str, str]:
        """A description that JSON can hold; `from_json` reads it."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value != getattr(Field, name, None)}

    @classmethod
    def from_json(cls, name: str, entry: Any) -> Field:
        """The field that `to_json` described.

        Raises:
            ValueError: the description of the column ``name`` is not from `to_json`.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if isinstance(entry, Mapping) and set(entry) <= names and all(isinstance(v, str) for v in entry.values()):
            kind, date = entry.get("kind"), entry.get("format", "")
            if kind in ("number", "text") or (kind == "date" and (date == ISO or "%" in date)):
                field = cls(**{**entry, "kind": kind})
                if field.decimal in (".", ",") and field.unit in ("", *UNITS):
                    return field
        raise ValueError(f"reading: no description of the column {name!r}: {entry!r:.200}")


class Notes:
    """What is to be said of the columns of a table, counted over all parts of a long file.

    Example:
        >>> notes = Notes()
        >>> notes.add("age", "read as missing", {"?": 2})
        >>> notes.add("age", "read as missing", {"?": 1, "old": 1})
        >>> notes.said()
        ["column 'age', 4 rows: read as missing ('?', 'old')"]
    """

    def __init__(self) -> None:
        self._rows: collections.Counter[tuple[str, str]] = collections.Counter()
        self._examples: dict[tuple[str, str], dict[Any, None]] = collections.defaultdict(dict)

    def add(self, column: str, what: str, values: Mapping[Any, int]) -> None:
        """Count rows: what is said of the column → the values it is said of, with their numbers of rows."""
        if values:
            self._rows[column, what] += int(sum(values.values()))
            examples = self._examples[column, what]
            for value in itertools.islice(values, 4):  # one more than is shown
                if len(examples) < 4:
                    examples[value] = None

    def said(self) -> list[str]:
        """One sentence for each column and thing to say."""
        sentences = []
        for (column, what), rows in self._rows.items():
            shown = [shortened(value) for value in self._examples[column, what] if value is not None]
            examples = f" ({', '.join(shown[:3])}{', ...' * (len(shown) > 3)})" if shown else ""
            sentences.append(f"column {column!r}, {rows:,} row{'s' * (rows > 1)}: {what}{examples}")
        return sentences

    def warn(self, stacklevel: int = 2) -> None:
        """Say everything as warnings, and forget it."""
        for sentence in self.said():
            warnings.warn(sentence, stacklevel=stacklevel + 1)
        self.__init__()  # type: ignore[misc]


class Distinct(NamedTuple):
    """The distinct strings of a column, without blanks around them.

    Attributes:
        codes: for each row the position of its string, −1 if it is missing, ``[N]``.
        strings: as they stand in the file, ``[K]``.
        stripped: the same without blanks around them (several may be equal now), ``[K]``.
    """

    codes: NDArray[np.intp]
    strings: NDArray[Any]
    stripped: NDArray[Any]

    @classmethod
    def of(cls, series: pd.Series) -> Distinct:
        """Those of a column of strings, ``[N]``."""
        import pandas as pd

        codes, strings = pd.factorize(series)
        strings = np.asarray(strings, dtype=object)
        stripped = np.fromiter((string.strip() for string in strings), dtype=object, count=len(strings))
        return cls(codes, strings, stripped)

    def counts(self) -> NDArray[np.intp]:
        """The number of rows of each string, ``[K]``."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.strings))

    def rows_of(self, chosen: NDArray[np.bool_]) -> dict[str, int]:
        """The chosen strings, ``[K]`` booleans, with their numbers of rows, the most frequent first."""
        counts = collections.Counter[str]()
        for string, count in zip(self.stripped[chosen], self.counts()[chosen], strict=True):
            counts[string] += int(count)
        return dict(counts.most_common())


class Recognised(NamedTuple):
    """What the strings of a column are.

    Attributes:
        field: how to read them.
        said: what is to be said about it, or nothing.
    """

    field: Field
    said: str = ""


def recognise(distinct: Distinct, decimal: str | None, dates: str, separator: str) -> Recognised:
    """Find out what the strings of a column are.

    Args:
        distinct: the strings; pandas has already found that not all of them are plain numbers.
        decimal: the decimal separator; None to find it.
        dates: "auto", "day-first", "month-first", "off", or a format of `datetime.datetime.strptime`.
        separator: what separates the fields of the file: between commas, "1,234" hardly has a decimal comma.

    Returns:
        A number or a date only if every string is one or stands in `MISSING`; else text, with a hint where most are.

    Example:
        >>> import pandas as pd
        >>> recognise(Distinct.of(pd.Series(["$1,200.50", "$3", "?"])), None, "auto", ",").field
        Field(kind='number', decimal='.', unit='$', format='')
    """
    known = np.array([string == "" or string.lower() in MISSING for string in distinct.stripped], dtype=bool)
    strings, rows = distinct.stripped[~known], distinct.counts()[~known]
    # Few looks are enough for most columns of text.
    if not any(map(str.isdigit, itertools.chain.from_iterable(strings[:100]))):
        truth = 0 < len(strings) <= 6 and all(string.lower() in _TRUTH for string in strings)
        return Recognised(Field("number" if truth else "text"))
    zeros = next((string for string in strings if string[0] == "0" and string.isdigit() and string != "0"), None)
    if zeros and np.isfinite(_numbers(strings[:200], Field("number"))).mean() > 0.5:
        return Recognised(Field("text"), f"whole numbers with leading zeros, such as {zeros!r}: kept as text")
    date = None if dates == "off" else _date(strings, rows, dates)
    if date is not None and (date.field.kind == "date" or "%" not in dates):
        return date
    return _number(strings, rows, decimal, separator) or date or Recognised(Field("text"))


def convert(series: pd.Series, field: Field, notes: Notes, distinct: Distinct | None = None) -> pd.Series:
    """The values of a column of strings.

    Args:
        series: the strings, ``[N]``.
        field: how to read them.
        notes: told of every string that is not what the field asks for; it becomes a missing value.
        distinct: the column's, if they are known.

    Returns:
        float64; datetime64 without a time zone (UTC where the strings name one); or text without blanks around it.

    Example:
        >>> import pandas as pd
        >>> convert(pd.Series(["12 %", "7%"]), Field("number", unit="%"), Notes()).tolist()
        [12.0, 7.0]
    """
    import pandas as pd

    codes, strings, stripped = distinct = Distinct.of(series) if distinct is None else distinct
    if field.kind == "text":
        if (strings == stripped).all() and "" not in strings:
            return series
        texts = np.array([*(string or None for string in stripped), None], dtype=object)
        return pd.Series(texts[codes], index=series.index, name=series.name, dtype=series.dtype)
    values: NDArray[Any] = (
        _numbers(stripped, field) if field.kind == "number" else _dates(stripped, field.format).to_numpy()
    )
    wrong = pd.isna(values) & (stripped != "")
    notes.add(str(series.name), f"no {field.kind}, read as missing", distinct.rows_of(wrong))
    gap = np.array([np.nan if field.kind == "number" else np.datetime64("NaT")], dtype=values.dtype)
    return pd.Series(np.concatenate([values, gap])[codes], index=series.index, name=series.name)


def shortened(value: Any) -> str:
    """A value for a message, at most 40 characters of it.

    Example:
        >>> shortened("9" * 400)
        "'99999999999999999999999999999...999999'"
    """
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:30]}...{text[-7:]}"


def _pattern(decimal: str) -> str:
    """A number with groups of three figures, an exponent, a unit, or parentheses (an accountant's minus)."""
    unit, group = rf"\s?(?:{_UNIT})?\s?", f"[{'.' if decimal == ',' else ','}'’{_BLANKS}]"

    def number(name: str) -> str:
        figures = rf"(?:\d{{1,3}}(?P<{name}>{group})\d{{3}}(?:(?P={name})\d{{3}})*|\d+)"
        return rf"(?:{figures}(?:\{decimal}\d*)?|\{decimal}\d+)(?:[eE][+-]?\d+)?"

    return rf"[+\-−]?{unit}[+\-−]?{number('one')}{unit}|\({unit}{number('two')}{unit}\)"


def _numbers(strings: NDArray[Any], field: Field) -> NDArray[np.float64]:
    """The numbers, NaN where a string is none, ``[K]``; booleans are 1 and 0."""
    import pandas as pd

    simple = strings
    if field.decimal == ",":
        simple = np.array(["" if "." in string else string.replace(",", ".") for string in strings], dtype=object)
    values = np.array(pd.to_numeric(pd.Series(simple, dtype=object), errors="coerce"), dtype=np.float64)
    if field.unit == "%":
        values[:] = np.nan  # 12 beside 12 % may mean another scale; 12 beside $12 does not
    rest = np.flatnonzero(np.isnan(values))
    column = pd.Series(strings[rest], dtype=object)
    values[rest] = column.str.lower().map(_TRUTH).astype(np.float64)
    fits = column.str.fullmatch(_pattern(field.decimal)).to_numpy(dtype=bool)
    if not fits.any():
        return values
    column, rest = column[fits], rest[fits]
    units = column.str.extract(f"({_UNIT})", expand=False).fillna("")
    fits = ((units == field.unit) | ((units == "") & (field.unit != "%"))).to_numpy()
    column, rest = column[fits], rest[fits]
    group = "." if field.decimal == "," else ","
    figures = column.str.replace(rf"{_UNIT}|[+()'’{_BLANKS}{group}]", "", regex=True)
    figures = figures.str.replace("−", "-").str.replace(",", ".")
    found = pd.to_numeric(figures, errors="coerce").to_numpy(dtype=np.float64)
    values[rest] = np.where(column.str.startswith("("), -found, found)
    return values


def _number(strings: NDArray[Any], rows: NDArray[np.intp], decimal: str | None, separator: str) -> Recognised | None:
    """The way in which all strings are numbers, or text with a hint where most are; None if they are something else."""
    few = strings[:200]
    units = collections.Counter(unit for string in few for unit in UNITS if unit in string).most_common(1)
    fields = [Field("number", mark, unit=units[0][0] if units else "") for mark in (decimal or ".,")]
    # A column of another kind is given up after its first strings.
    fields = [field for field in fields if 2 * rows[:200][np.isnan(_numbers(few, field))].sum() < rows[:200].sum()]
    found = {field: _numbers(strings, field) for field in fields}
    fitting = {field: values for field, values in found.items() if not np.isnan(values).any()}
    if len(fitting) == 2 and np.array_equal(fitting[fields[0]], fitting[fields[1]]):
        del fitting[fields[1]]  # no comma and no point at all
    if not fitting:
        for values in found.values():
            wrong = np.isnan(values)
            if 2 * rows[wrong].sum() < rows.sum():
                return _almost("number", strings[wrong], int(rows[wrong].sum()), int(rows.sum()))
        return None
    example = shortened(max(few, key=len))
    if len(fitting) == 2 and separator != ",":
        said = f"{example} may have a decimal comma or commas between thousands: kept as text; say --decimal , or ."
        return Recognised(Field("text"), said)
    field, values = next(iter(fitting.items()))
    if field == Field("number", decimal or ".") and not any(set(string) & set(f"('’,{_BLANKS}") for string in few):
        return Recognised(field)
    unless = "; if its comma is a decimal comma, say --decimal ," if len(fitting) == 2 else ""
    read = values[np.flatnonzero(strings == max(few, key=len))[0]]
    return Recognised(field, f"read as numbers, {example} as {read:.15g}{unless}")


def _almost(kind: Literal["number", "date"], wrong: NDArray[Any], rows: int, total: int) -> Recognised:
    """Text, because some values are not of the kind that most are."""
    examples = ", ".join(map(shortened, wrong[:3]))
    hint = "name what means a missing value with --na-values"
    return Recognised(Field("text"), f"{rows:,} of {total:,} values are no {kind}s ({examples}): kept as text; {hint}")


def _dates(strings: NDArray[Any], form: str) -> pd.Series:
    """The dates as datetime64[us], NaT where a string is none, ``[K]``."""
    import pandas as pd

    column = pd.Series(strings, dtype=object)
    if form == ISO:  # pandas would also take 2024 and 202401
        column = column.where(column.str.fullmatch(_ISO).astype(bool))
    found = pd.to_datetime(column, format=form, errors="coerce", utc=True)
    return found.dt.tz_localize(None).astype("datetime64[us]")


def _date(strings: NDArray[Any], rows: NDArray[np.intp], dates: str) -> Recognised | None:
    """The format in which all strings are dates, or text with a hint; None if they are something else."""
    few = strings[:200]
    if "%" in dates and _dates(few, dates).notna().any():
        forms = [dates]
    elif not any(map(_LIKE_A_DATE.match, few[:20])) and not re.fullmatch(_ISO, few[0]):
        return None
    else:
        days = {"day-first": _DAY_FIRST, "month-first": _MONTH_FIRST}.get(dates, _DAY_FIRST + _MONTH_FIRST)
        forms = [ISO, *(day + time for day in (*_YEAR_FIRST, *_NAMED, *days) for time in _TIMES)]
        forms = [form for form in forms if any(_is_date(string, form) for string in few[:3])]
    best, fitting = 1.0, []
    for form in forms:
        wrong = _dates(strings, form).isna().to_numpy()
        share = rows[wrong].sum() / rows.sum()
        if share == 0:
            fitting.append(form)
        elif share < min(best, 0.5):
            best, almost = share, wrong
    if not fitting:
        return _almost("date", strings[almost], int(rows[almost].sum()), int(rows.sum())) if best < 1 else None
    example, found = shortened(few[0]), [_dates(strings, form) for form in fitting]
    # A point stands after the day almost everywhere; 1/2 and 1-2 are written both ways.
    if all(found[0].equals(other) for other in found) or fitting[0].startswith("%d."):
        said = f"read as dates, {example} as {found[0].iloc[0]:%d %B %Y}"
        return Recognised(Field("date", format=fitting[0]), said)
    said = f"{example} may begin with the day or the month: kept as text; say --dates day-first or month-first"
    return Recognised(Field("text"), said)


def _is_date(string: str, form: str) -> bool:
    """Python's own answer, which is quick for a single string."""
    if form == ISO:
        return re.fullmatch(_ISO, string) is not None
    try:
        return datetime.strptime(string, form) is not None
    except ValueError:
        return False
