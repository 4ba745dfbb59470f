"""CSV files: read whole or in parts, with what pandas would pass over without a word (names, lengths) checked.

pandas is imported where it is used, as it is an extra: ``pip install 'rlce[csv]'``.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def header(path: str | os.PathLike[str]) -> list[str]:
    """The names in a CSV file's first line.

    Args:
        path: the file: UTF-8, fields separated by commas.

    Returns:
        The names. The first may be empty, as where row numbers were written beside a table; no other.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, no UTF-8 text, has a column without a name or one name twice.
    """
    target = Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"path: no file {str(target)!r}")
    with _readable(target), target.open(encoding="utf-8-sig", newline="") as file:
        names = next((row for row in csv.reader(file, skipinitialspace=True) if row), [])
    if not names:
        raise ValueError(f"path: {str(target)!r} is empty, expected a header and rows")
    nameless = [position for position, name in enumerate(names, start=1) if not name.strip() and position > 1]
    if nameless:
        raise ValueError(f"path: {str(target)!r}: the header gives no name to column {listed(nameless)}")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise ValueError(f"path: {str(target)!r}: fields must be separated by commas, the header is {names[0]!r}")
    # pandas would rename the second "a" to "a.1" without a word.
    check_names(names, f"path: {str(target)!r}: the header")
    return names


def read_csv(path: str | os.PathLike[str], text: Collection[str] = ()) -> pd.DataFrame:
    r"""A CSV file as a frame; empty fields, NA and the like are missing.

    Args:
        path: the file: a header, UTF-8, fields separated by commas. A first column without a name is row numbers, and
            left out.
        text: names of columns to take as text, even where they look like numbers.

    Returns:
        The frame; its other columns are numbers or booleans where all of their fields are, and text elsewhere.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its header (see `header`), no rows, rows of another length than the header's, no UTF-8 text.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = Path(f"{directory}/a.csv").write_text("age,city\n30,Ulm\n,Bonn\n")
        ...     read_csv(f"{directory}/a.csv").to_dict("list")
        {'age': [30.0, nan], 'city': ['Ulm', 'Bonn']}
    """
    names = header(path)
    if all(_is_number(name) for name in names):
        warnings.warn(f"path: {str(path)!r}: the header holds only numbers; is it a row?", stacklevel=2)
    with _readable(path):
        frame = _parse(path, names, text)
        # Read in parts, to save memory, a column may be numbers in one and text in another: 1 and "1" in one column.
        mixed = [name for name in frame if inferred(frame[name]).startswith("mixed")]
        if mixed:
            frame = _parse(path, names, [*text, *mixed])
        if frame.empty:
            raise ValueError(f"path: {str(path)!r} holds a header, but no rows")
        # pandas fills short rows up; only where the last field is missing can there be one.
        if frame.iloc[:, -1].isna().any():
            with Path(path).open(encoding="utf-8-sig", newline="") as file:
                for _ in _rows(file, len(names)):
                    pass
    return frame if names[0].strip() else frame.drop(columns=names[0])


def read_chunks(
    path: str | os.PathLike[str], text: Collection[str] = (), rows: int = 20_000
) -> Iterator[tuple[list[list[str]], pd.DataFrame]]:
    """A CSV file in parts, so that its length does not matter: fields as they stand, and as `read_csv` has them.

    Args:
        path: the file, as for `read_csv`.
        text: names of columns to take as text.
        rows: of a part, at most.

    Returns:
        An iterator of (fields, frame): ``rows`` lists of strings, and the frame of the same rows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as for `read_csv`, when that part is reached.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    names, lines, fields = header(path), list[str](), list[list[str]]()

    def part() -> tuple[list[list[str]], pd.DataFrame]:
        # pandas gets the very lines that the rows were read from, so both hold the same rows.
        frame = _parse(io.StringIO("".join(lines)), names, text)
        if len(frame) != len(fields):
            raise ValueError(f"path: {str(path)!r} has lines of white space alone, which may or may not be rows")
        return fields, frame

    with _readable(path), Path(path).open(encoding="utf-8-sig", newline="") as file:
        read = _rows(_recorded(file, lines), len(names))
        next(read)  # the header
        lines.clear()
        row = None
        for row in read:
            fields.append(row)
            if len(fields) == rows:
                yield part()
                fields = []
                lines.clear()
        if row is None:
            raise ValueError(f"path: {str(path)!r} holds a header, but no rows")
        if fields:
            yield part()


def inferred(series: pd.Series) -> str:
    """The word that pandas has for the values of a column that is not of numbers; missing ones do not count."""
    from pandas.api.types import CategoricalDtype, infer_dtype, is_numeric_dtype

    if isinstance(series.dtype, CategoricalDtype):
        word = infer_dtype(series.dtype.categories, skipna=True)
        return word if word in ("string", "empty") else f"categories of kind {word}"
    return "" if is_numeric_dtype(series.dtype) else infer_dtype(series, skipna=True)


def check_names(names: Sequence[Any], what: str = "frame") -> None:
    """Refuse names that are no text, and such as stand twice."""
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"{what}: column names must be text, got {listed(wrong)}")
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise ValueError(f"{what} has more than one column {listed(repeated)}")


def listed(names: Iterable[Any]) -> str:
    """Names for a message, the first twenty."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")


# -------------------------------------------------------------------------------------------------------------- details


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(source: Any, names: list[str], text: Collection[str]) -> pd.DataFrame:
    """The frame that pandas parses: a path with its header, or rows without."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row too long, where pandas would cut it
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)  # of mixed columns, which `read_csv` looks at itself
        return pd.read_csv(
            source,
            header=None if isinstance(source, io.StringIO) else 0,
            names=names,
            dtype=dict.fromkeys(set(text) & set(names), "str"),
            index_col=False,
            skipinitialspace=True,
        )


def _rows(lines: Iterable[str], width: int) -> Iterator[list[str]]:
    """A CSV's rows of fields, its header first; blank lines are none."""
    reader = csv.reader(lines, skipinitialspace=True)
    for row in reader:
        if not row or (width > 1 and row == [""]):
            continue
        # Empty fields past the end are commas that a program put at every line's.
        if len(row) < width or any(row[width:]):
            raise csv.Error(f"line {reader.line_num} has {len(row)} fields, the header {width}")
        yield row[:width]


def _recorded(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    """The lines, each also appended to ``record``."""
    for line in lines:
        record.append(line)
        yield line


@contextlib.contextmanager
def _readable(path: str | os.PathLike[str]) -> Iterator[None]:
    """What reading a CSV may raise, as a ValueError that names the file."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a CSV file is read with pandas: pip install 'rlce[csv]'") from error
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"path: {str(path)!r} is not UTF-8 text: {error}") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        raise ValueError(f"path: {str(path)!r} is no CSV file with rows as long as its header: {error}") from error
