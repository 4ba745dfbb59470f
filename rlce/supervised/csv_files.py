"""CSV files: separators, encodings and columns as they come, read whole or in parts into a typed frame.

pandas is an optional dependency (``pip install 'rlce[csv]'``), so it is imported only where it is used.
"""

from __future__ import annotations

import codecs
import collections
import contextlib
import csv
import dataclasses
import itertools
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from rlce.supervised.fields import LARGEST, Distinct, Field, Notes, convert, recognise, shortened

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 2**18  # bytes that are looked at together: few enough for a processor's cache


@dataclass(frozen=True)
class Reading:
    r"""How a CSV file is read: what the user says of it, and what was found of its columns.

    Attributes:
        separator: between fields, one character; None takes a comma, or what the header has instead: ; a tab or |.
        decimal: the decimal separator "." or ","; None finds it for each column.
        encoding: of the text, such as "utf-8" or "latin-1".
        na_values: what means a missing value in every column, besides empty fields, NA, NaN, None, null and the like.
        dates: "auto", "day-first" or "month-first" where both are possible, "off" to leave dates as text, or a format
            of `datetime.datetime.strptime` such as "%Y%m%d".
        text: names of columns that stay text, even if they look like numbers or dates.
        fields: what was found of columns; these are read this way, whatever they look like.
        strip: remove blanks around text.

    Raises:
        ValueError: a value that is not as described.

    Example:
        >>> Reading(separator=";", decimal=",").to_json()
        {'separator': ';', 'decimal': ','}
    """

    separator: str | None = None
    decimal: str | None = None
    encoding: str = "utf-8"
    na_values: tuple[str, ...] = ()
    dates: str = "auto"
    text: tuple[str, ...] = ()
    fields: Mapping[str, Field] = field(default_factory=dict)
    strip: bool = True

    def __post_init__(self) -> None:
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise ValueError(f"separator must be one character, not a quote or a line's end, got {self.separator!r}")
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"decimal must be '.' or ',', got {self.decimal!r}")
        if self.decimal is not None and self.decimal == self.separator:
            raise ValueError(f"separator and decimal must differ, got {self.decimal!r} for both")
        try:
            codecs.lookup(self.encoding)
        except (LookupError, ValueError) as error:
            raise ValueError(f"encoding: no encoding {self.encoding!r}; try utf-8, latin-1 or utf-16") from error
        if self.dates not in ("auto", "day-first", "month-first", "off") and "%" not in self.dates:
            raise ValueError(f"dates must be auto, day-first, month-first, off or a format with %, got {self.dates!r}")

    def only(self, names: Collection[str]) -> Reading:
        """The same for fewer columns."""
        return dataclasses.replace(self, fields={name: self.fields[name] for name in names if name in self.fields})

    def to_json(self) -> dict[str, Any]:
        """A description that JSON can hold; `from_json` reads it."""
        usual = Reading()
        values = {name: getattr(self, name) for name in _NAMES if getattr(self, name) != getattr(usual, name)}
        values |= {name: list(values[name]) for name in ("na_values", "text") if name in values}
        if self.fields:
            values["fields"] = {name: each.to_json() for name, each in self.fields.items()}
        return values

    @classmethod
    def from_json(cls, description: Any) -> Reading:
        """What `to_json` described.

        Raises:
            ValueError: the description is not from `to_json`.
        """
        if not isinstance(description, Mapping) or not set(description) <= set(_NAMES):
            raise ValueError(f"reading: no description of how a file is read: {description!r:.200}")
        values = dict(description)
        for name in ("separator", "decimal", "encoding", "dates"):
            if not isinstance(values.get(name, ""), str):
                raise ValueError(f"reading: {name} must be text, got {values[name]!r:.200}")
        for name in ("na_values", "text"):
            if name in values:
                if not isinstance(values[name], list) or not all(isinstance(value, str) for value in values[name]):
                    raise ValueError(f"reading: {name} must be a list of texts, got {values[name]!r:.200}")
                values[name] = tuple(values[name])
        if not isinstance(values.get("strip", True), bool) or not isinstance(values.get("fields", {}), Mapping):
            raise ValueError(f"reading: no description of how a file is read: {description!r:.200}")
        values["fields"] = {name: Field.from_json(name, entry) for name, entry in values.get("fields", {}).items()}
        return cls(**values)


_NAMES = tuple(each.name for each in dataclasses.fields(Reading))


def header(path: str | os.PathLike[str], reading: Reading | None = None) -> list[str]:
    r"""The column names in the first line of a CSV file.

    Args:
        path: the file.
        reading: how to read it.

    Returns:
        The names, without blanks around them. Only the first may be empty, because programs write row numbers in such
        a column.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is empty or has another encoding, a column has no name, or two have the same name.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = Path(f"{directory}/a.csv").write_text("age,city\n30,Ulm\n")
        ...     header(f"{directory}/a.csv")
        ['age', 'city']
    """
    return _header(path, reading or Reading())[0]


def read_csv(path: str | os.PathLike[str], reading: Reading | None = None) -> tuple[pd.DataFrame, Reading]:
    r"""A CSV file as a typed frame, and how it was read. What is not plain to see is said in warnings.

    * A column is numbers or booleans if all its fields are, also with "$", "%" or "1,234.56", and with a few words for
      a missing value such as "?". Whole numbers with leading zeros are text.
    * A column is dates (datetime64) if all its fields have one format.
    * Everything else is text without blanks around it. Empty fields, NA and the like are missing values.

    Args:
        path: the file: a header and rows. A first column without a name holds row numbers and is dropped.
        reading: how to read it; by default everything is found.

    Returns:
        (frame, reading): the rows, and how later files with these columns must be read, which `read_chunks` takes.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a bad header (see `header`), no rows, rows longer or shorter than the header, another encoding, or a
            number that is infinite or too large for float32.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = Path(f"{directory}/a.csv").write_text("age,zip\n30,01067\n,89073\n")
        ...     frame, reading = read_csv(f"{directory}/a.csv", Reading(text=("zip",)))
        >>> frame.to_dict("list")
        {'age': [30.0, nan], 'zip': ['01067', '89073']}
        >>> reading.fields["age"].kind, reading.fields["zip"].kind
        ('number', 'text')
    """
    reading = reading or Reading()
    names, separator = _header(path, reading, say=True)
    absent = [name for name in reading.text if name not in names]
    if absent:
        raise ValueError(f"text: no columns {', '.join(map(repr, absent))} in {str(path)!r}")
    with contextlib.suppress(ValueError):
        _ = [float(name) for name in names]  # fails at the first name that is not a number
        warnings.warn(f"path: {str(path)!r}: the header holds only numbers; is it a row?", stacklevel=2)
    with _opened(path, reading) as file:
        frame = _parse(path, reading, separator, names)
        if frame.empty:
            raise ValueError(f"path: {str(path)!r} holds a header, but no rows")
        # pandas silently fills short rows. Such a row lacks its last field, so only then look at every row.
        if frame.iloc[:, -1].isna().any():
            collections.deque(_rows(file, len(names), separator), maxlen=0)
        if not names[0].strip():
            frame, names = frame.drop(columns=names[0]), names[1:]
        zeros = _with_leading_zeros(path, reading, separator, frame, names)
    found, notes = {}, Notes()
    for name in names:
        series, found[name] = _typed(zeros.get(name, frame[name]), reading, separator, notes)
        if series is not frame[name]:
            frame[name] = series
    notes.warn()
    return frame, dataclasses.replace(reading, fields=found)


def read_chunks(
    path: str | os.PathLike[str], reading: Reading | None = None, rows: int = 20_000, notes: Notes | None = None
) -> Iterator[tuple[list[list[str]], pd.DataFrame]]:
    r"""A CSV file in parts, so that a file of any length takes the same memory.

    A field that is no number or no date where `reading` has one, or a number too large for float32, becomes a missing
    value, which is said: one of them does not stop a long file.

    Args:
        path: the file, as for `read_csv`.
        reading: how to read it; what `read_csv` returned for the training rows.
        rows: the largest number of rows in a part.
        notes: told of what cannot be read; None for warnings at the end of the file.

    Returns:
        An iterator of (fields, frame): the rows as lists of strings, unchanged, and the same rows typed.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a bad header, rows longer or shorter than it, or another encoding, when reading comes to it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = Path(f"{directory}/a.csv").write_text("age,city\n30,Ulm\n40,Bonn\n")
        ...     [fields for fields, _ in read_chunks(f"{directory}/a.csv", rows=1)]
        [[['30', 'Ulm']], [['40', 'Bonn']]]
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    reading, said = reading or Reading(), Notes() if notes is None else notes
    names, separator = _header(path, reading, say=True)
    with _opened(path, reading) as file, _parse(path, reading, separator, names, rows=rows) as frames:
        read = _rows(file, len(names), separator)
        next(read)  # the header
        for frame in frames:
            if frame.empty:
                raise ValueError(f"path: {str(path)!r} holds a header, but no rows")
            for name in reading.fields:
                if name in frame.columns:
                    frame[name] = _as_learnt(frame[name], reading, said)
            yield list(itertools.islice(read, len(frame))), frame
        if any(read):
            raise ValueError(f"path: {str(path)!r} has lines of white space alone, which may or may not be rows")
    if notes is None:
        said.warn()


def _header(path: str | os.PathLike[str], reading: Reading, say: bool = False) -> tuple[list[str], str]:
    """The names and the separator; ``say`` warns of what was found."""
    where = f"path: {str(path)!r}"
    with _opened(path, reading) as file:
        line = next((line for line in file if line.strip()), "")
        others = [mark for mark in ";\t|" if mark in line]
        separator = reading.separator or ("," if "," in line or not others else max(others, key=line.count))
        file.seek(0)
        names = next((row for row in csv.reader(file, delimiter=separator, skipinitialspace=True) if row), [])
    if not names:
        raise ValueError(f"{where} is empty, expected a header and rows")
    if say and reading.separator is None and separator != ",":
        warnings.warn(f"{where}: the header has no comma, so {separator!r} separates fields", stacklevel=3)
    padded = [name for name in names if name != name.strip()]
    if say and padded:
        listed = ", ".join(map(repr, padded))
        warnings.warn(f"{where}: blanks around the column names {listed} are removed", stacklevel=3)
    names = [name.strip() for name in names]
    nameless = [str(position) for position, name in enumerate(names, start=1) if not name and position > 1]
    if nameless:
        raise ValueError(f"{where}: the header gives no name to column {', '.join(nameless)}")
    repeated = [repr(name) for name, count in sorted(collections.Counter(names).items()) if count > 1]
    if repeated:  # pandas would silently rename the second "a" to "a.1"
        raise ValueError(f"{where}: the header has more than one column {', '.join(repeated)}")
    return names, separator


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], reading: Reading) -> Iterator[TextIO]:
    """The open file; an error while reading becomes a ValueError that names the file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: no file {str(path)!r}")
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a CSV file is read with pandas: pip install 'rlce[csv]'") from error
    utf8 = codecs.lookup(reading.encoding).name == "utf-8"
    try:
        with Path(path).open(encoding="utf-8-sig" if utf8 else reading.encoding, newline="") as file:
            yield file
    except UnicodeError as error:
        with Path(path).open("rb") as beginning:
            try_ = "utf-16" if beginning.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1"
        text = f"not {'UTF-8' if utf8 else reading.encoding} text"
        raise ValueError(f"path: {str(path)!r} is {text}: try --encoding {try_} ({error})") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        raise ValueError(f"path: {str(path)!r} is not a CSV file with rows as long as its header: {error}") from error


def _parse(
    path: str | os.PathLike[str],
    reading: Reading,
    separator: str,
    names: list[str],
    *,
    rows: int | None = None,
    as_text: Collection[str] = (),
) -> Any:
    """The frame that pandas reads, or an iterator of frames of so many rows; ``as_text`` reads these columns alone."""
    import pandas as pd

    ours = {name for name, field in reading.fields.items() if not _plain(field, reading)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas would cut a row that is too long
        return pd.read_csv(
            path,
            sep=separator,
            header=0,
            names=names,
            usecols=list(as_text) or None,
            dtype=dict.fromkeys({*ours, *reading.text, *as_text} & set(names), "str"),
            decimal=reading.decimal or ".",
            encoding=reading.encoding,
            na_values=list(reading.na_values) or None,
            index_col=False,
            chunksize=rows,
            skipinitialspace=True,
            low_memory=False,  # else a column may hold numbers from one part of a long file and text from another
        )


def _plain(field: Field, reading: Reading) -> bool:
    """True for numbers that pandas reads itself."""
    return field == Field("number", decimal=reading.decimal or ".")


def _rows(lines: Iterable[str], width: int, separator: str) -> Iterator[list[str]]:
    """Rows of fields, the header first; blank lines are skipped."""
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    for row in reader:
        if not row or (width > 1 and row == [""]):
            continue
        # Some programs end every line with commas: empty fields beyond the header's are dropped.
        if len(row) != width:
            if len(row) < width or any(row[width:]):
                raise csv.Error(f"line {reader.line_num} has {len(row)} fields, the header {width}")
            row = row[:width]
        yield row


def _with_leading_zeros(
    path: str | os.PathLike[str], reading: Reading, separator: str, frame: pd.DataFrame, names: list[str]
) -> dict[str, pd.Series]:
    """Columns of whole numbers, some of which have leading zeros in the file: as strings."""
    whole = [name for name in names if _whole(frame[name])]
    if not whole or not _has_a_leading_zero(Path(path), reading.encoding):
        return {}
    every = [*names] if len(names) == len(frame.columns) else ["", *names]
    texts = _parse(path, reading, separator, every, as_text=whole)
    return {name: texts[name] for name in whole if texts[name].str.match(r"\s*0\d").any()}


def _whole(series: pd.Series) -> bool:
    """True for a column of whole numbers (floats where some are missing)."""
    if series.dtype.kind != "f":
        return series.dtype.kind in "iu"
    # The first rows tell for nearly every column that is not.
    return all(bool((part.isna() | (part == np.floor(part))).all()) for part in (series.iloc[:100], series))


def _has_a_leading_zero(path: Path, encoding: str) -> bool:
    """True if a field of the file may begin with a zero and another digit."""
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        return True
    begins = np.isin(np.arange(256), list(b',;|\t\r\n" '))  # what may stand before a field
    with path.open("rb") as file:
        before = b"\n"
        while block := file.read(_BLOCK):
            data = np.frombuffer(before + block, dtype=np.uint8)
            before = block[-2:]
            # A difference below zero wraps around.
            zeros = np.flatnonzero((data[1:-1] == ord("0")) & (data[2:] - np.uint8(ord("0")) < 10))
            if begins[data[zeros]].any():
                return True
    return False


def _typed(series: pd.Series, reading: Reading, separator: str, notes: Notes) -> tuple[pd.Series, Field]:
    """A column of the file with the values that it holds, and how they were read."""
    name, plain = str(series.name), Field("number", decimal=reading.decimal or ".")
    texts, whole = _texts(series), series.dtype.kind in "iu"
    if whole and "%" in reading.dates:
        texts = series.astype(str)
    if texts is None:
        _check_size(series, series)
        if whole:
            _warn_of_dates(series)
        return series, plain
    distinct = Distinct.of(texts)
    said = ""
    if name in reading.text:
        recognised = Field("text")
    else:
        recognised, said = recognise(distinct, reading.decimal, reading.dates, separator)
    if whole and recognised.kind != "date":
        return series, plain
    if said:
        warnings.warn(f"column {name!r}: {said}", stacklevel=3)
    padded = distinct.strings != distinct.stripped
    if recognised.kind == "text" and reading.strip and padded.any():
        rows = dict(zip(distinct.strings[padded], distinct.counts()[padded].tolist(), strict=True))
        notes.add(name, "blanks around the text removed", rows)
    values = convert(texts, recognised, notes, distinct) if reading.strip or recognised.kind != "text" else texts
    _check_size(values, texts)
    return values, recognised


def _as_learnt(series: pd.Series, reading: Reading, notes: Notes) -> pd.Series:
    """A column of a later file, read as that of the training file was."""
    field, texts = reading.fields[str(series.name)], _texts(series)
    if texts is not None and (reading.strip or field.kind != "text"):
        series = convert(texts, field, notes)
    large = _too_large(series)
    if large.any():
        values = series if texts is None else texts
        rows = collections.Counter(str(value) for value in values[large])
        notes.add(str(series.name), "infinite or too large a number, read as missing", rows)
        series = series.astype(np.float64).mask(large)
    return series


def _texts(series: pd.Series) -> pd.Series | None:
    """A column of strings; None for one that pandas has read as numbers or booleans."""
    from pandas.api.types import infer_dtype

    if series.dtype.kind in "iufb":
        return None
    kind = infer_dtype(series)
    # Whole numbers beyond 64 bits are Python's.
    return series if kind in ("string", "empty") else None if kind == "boolean" else series.map(str, na_action="ignore")


def _too_large(series: pd.Series) -> NDArray[np.bool_]:
    """Which numbers are infinite or too large for float32, ``[N]``."""
    if series.dtype.kind != "f" or not (series.max() > LARGEST or series.min() < -LARGEST):
        return np.zeros(len(series), dtype=bool)
    return np.abs(series.to_numpy()) > LARGEST


def _check_size(series: pd.Series, source: pd.Series) -> None:
    """Refuse numbers that are infinite or too large for float32; the message shows what stands in the file."""
    rows = np.flatnonzero(_too_large(series))
    if len(rows):
        where = f"column {series.name!r}, row {rows[0] + 1} (the header not counted)"
        got = shortened(str(source.iloc[rows[0]]))
        raise ValueError(f"{where}: expected a number of at most 3.4e38, got {got}")


def _warn_of_dates(series: pd.Series) -> None:
    """Warn if all whole numbers of a column are like 20240131."""
    low, high = int(series.min()), int(series.max())
    if 19000101 <= low < high <= 21001231:
        months, days = series // 100 % 100, series % 100
        if months.between(1, 12).all() and days.between(1, 31).all():
            hint = "if they are dates, say --dates %Y%m%d"
            warnings.warn(f"column {series.name!r}: {low} and the like are read as numbers; {hint}", stacklevel=4)
