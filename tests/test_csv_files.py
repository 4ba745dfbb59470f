"""CSV files as they come, on the path that users take: train on one, predict for another, hear what was done."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlce import Classifier, tables
from rlce.supervised import csv_files
from rlce.supervised.fields import Distinct, Field, Notes, recognise
from rlce.supervised.tables import Columns, Date, Number, Reading, Text, hold_out, last_rows
from scripts import predict, train_classifier
from scripts.tables import Flags

ROWS = 300
GENERATOR = np.random.default_rng(0)
AGE = GENERATOR.normal(50, 10, ROWS).round(2)
NOISE = GENERATOR.normal(size=ROWS)
CITY = GENERATOR.choice(["Bonn", "Kiel", "Ulm"], ROWS)
OLD = np.where(AGE > 50, "yes", "no")


def fresh() -> np.random.Generator:
    """The same draws in every test, whichever tests run before it."""
    return np.random.default_rng(1)


def data(path: Path, text_of: str = "utf-8", sep: str = ",", **columns: Any) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False, encoding=text_of, sep=sep)
    return path


def trained(path: Path, task: Any = "classification", **flags: Any) -> tuple[dict[str, Any], list[str], Columns]:
    """The closing table of a training, what was said, and the columns that the saved file holds."""
    arguments = train_classifier.Arguments(
        data=str(path), target="label", task=task, epochs=40, hidden=(16,), learning_rate=0.01, batch_size=16,
        quiet=True, log_dir=path.parent / "run", save=path.parent / "model", csv=Flags(**flags),
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train_classifier.main(arguments)
        _, columns, _ = predict.load(path.parent / "model")
    return result, [str(one.message) for one in caught], columns


def predicted(path: Path, **flags: Any) -> tuple[list[str], list[str]]:
    """The predictions for a file by the model beside it, and what was said."""
    output = path.parent / "predictions.csv"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predict.main(predict.Arguments(path.parent / "model", path, output=output, **flags))
    with output.open(newline="", encoding="utf-8") as file:
        return [row["prediction"] for row in csv.DictReader(file)], [str(one.message) for one in caught]


def as_text(numbers: Any, **others: str) -> Any:
    """Numbers as strings, a few of which are replaced."""
    strings = np.asarray(numbers).astype(str).astype(object)
    for where, value in others.items():
        strings[int(where[1:])] = value
    return strings


# ----------------------------------------------------------------------------------------------- gaps in other words


def test_a_question_mark_is_a_missing_number(tmp_path: Path) -> None:
    path = data(tmp_path / "data.csv", age=as_text(AGE, _3="?", _7="N/A ", _8="unknown"), noise=NOISE, label=OLD)
    result, said, columns = trained(path)
    assert said == ["column 'age', 3 rows: no number, read as missing ('?', 'N/A', 'unknown')"]
    assert columns.outputs[0] == "age"
    assert result["test accuracy"] >= 0.9


def test_one_bad_field_does_not_stop_predictions(tmp_path: Path) -> None:
    trained(data(tmp_path / "data.csv", age=AGE, noise=NOISE, label=OLD))
    plain, said = predicted(data(tmp_path / "new.csv", age=AGE, noise=NOISE))
    assert said == []
    bad = as_text(AGE, _3="?", _7="old", _8="9" * 400, _9="inf", _10="1,234.50")
    found, said = predicted(data(tmp_path / "new.csv", age=bad, noise=NOISE))
    assert found[11:] == plain[11:]
    assert said[:2] == [
        "column 'age', 2 rows: no number, read as missing ('?', 'old')",
        f"column 'age', 2 rows: infinite or too large a number, read as missing ('{'9' * 29}...999999', 'inf')",
    ]
    assert said[2].startswith("column 'age', 4 rows: no value, as in no training row: read as ")


def test_an_unknown_word_among_numbers_is_said_and_a_flag_reads_it(tmp_path: Path) -> None:
    path = data(tmp_path / "data.csv", age=as_text(AGE, _3="old", _9="-999"), noise=NOISE, label=OLD)
    _, said, columns = trained(path)
    hint = "kept as text; name what means a missing value with --na-values"
    assert f"column 'age': 1 of 300 values are no numbers ('old'): {hint}" in said
    result, said, columns = trained(path, na_values=("old", "-999"))
    assert said == []
    assert columns.outputs[0] == "age"
    assert result["test accuracy"] >= 0.9
    found, said = predicted(data(tmp_path / "new.csv", age=["70", "30", "old", "very"], noise=[0, 0, 0, 0]))
    assert found[:2] == ["yes", "no"]
    assert said[0] == "column 'age', 1 row: no number, read as missing ('very')"
    _, said = predicted(tmp_path / "new.csv", na_values=("very",))
    assert not [sentence for sentence in said if "no number" in sentence]


def test_booleans_with_gaps_in_words(tmp_path: Path) -> None:
    path = data(tmp_path / "data.csv", old=as_text(AGE > 50, _3="?"), noise=NOISE, label=OLD)
    result, said, columns = trained(path)
    assert said == ["column 'old', 1 row: no number, read as missing ('?')"]
    assert isinstance(columns.columns[0], Number)
    assert result["test accuracy"] >= 0.95
    found, _ = predicted(data(tmp_path / "new.csv", old=["True", "False", "-"], noise=[0, 0, 0]))
    assert found[:2] == ["yes", "no"]


# ----------------------------------------------------------------------------------------- numbers as people write them


@pytest.mark.parametrize(
    ("write", "field"),
    [
        ("{:,.2f}", Field("number")),
        ("${:,.2f}", Field("number", unit="$")),
        ("{:,.0f} €", Field("number", unit="€")),
        ("{:.1f} %", Field("number", unit="%")),
        ("EUR {:.2f}", Field("number", unit="EUR")),
        ("+{:.2f}", Field("number")),
    ],
)
def test_money_and_percentages_are_numbers(tmp_path: Path, write: str, field: Field) -> None:
    amount = np.exp(AGE / 10).round(2)
    path = data(tmp_path / "data.csv", price=[write.format(value) for value in amount], noise=NOISE, label=OLD)
    result, said, columns = trained(path)
    assert columns.outputs == ["price", "noise"]
    assert result["test accuracy"] >= 0.9
    assert predict.load(tmp_path / "model")[2].fields["price"] == field
    if write[0] != "+":
        assert len([sentence for sentence in said if sentence.startswith("column 'price': read as numbers, ")]) == 1
    assert isinstance(columns.columns[0], Number)
    read = [float(write.format(value).strip("$€ %EUR").replace(",", "")) for value in amount]
    assert abs(columns.columns[0].median - np.median(read)) < np.ptp(read) / 5  # of the training rows
    found, _ = predicted(data(tmp_path / "new.csv", price=[write.format(value) for value in (9e3, 3.0)], noise=[0, 0]))
    assert found == ["yes", "no"]


def fields(
    strings: list[str], decimal: str | None = None, dates: str = "auto", separator: str = ","
) -> tuple[Any, ...]:
    found = recognise(Distinct.of(pd.Series(strings, dtype=object)), decimal, dates, separator)
    return found.field, found.said


@pytest.mark.parametrize(
    ("strings", "expected"),
    [
        (["1,5", "2,25", "7"], [1.5, 2.25, 7]),
        (["1.234,50", "7,00"], [1234.5, 7]),
        (["1,234.50", "7"], [1234.5, 7]),
        (["1 234,5", "7"], [1234.5, 7]),
        (["1'234.5", "7"], [1234.5, 7]),
        (["(1,200.50)", "-3", "−4", "$-5"], [-1200.5, -3, -4, -5]),
        (["$1,234", "$7"], [1234, 7]),
        (["1,234", "7"], [1234, 7]),
        (["0,123", "7"], [0.123, 7]),
        (["1e3", "2.5E-1", "?"], [1000, 0.25, np.nan]),
        ([".5", "5.", "-"], [0.5, 5, np.nan]),
    ],
)
def test_how_numbers_may_be_written(strings: list[str], expected: list[float]) -> None:
    field, _ = fields(strings)
    assert field.kind == "number"
    if strings != ["0,123", "7"]:  # three digits after the comma: thousands, as no unit says otherwise
        read = csv_files.convert(pd.Series(strings, dtype=object), field, Notes())
        np.testing.assert_allclose(read, expected)


@pytest.mark.parametrize(
    "strings",
    [["1,23,4", "7"], ["1.5.2", "3"], ["$1", "€2"], ["12%", "0.5"], ["A1", "B2"], ["12-34", "5-6"], ["1 2", "3"]],
)
def test_what_is_no_number(strings: list[str]) -> None:
    assert fields(strings)[0] == Field("text")


def test_a_comma_that_may_be_either_is_said() -> None:
    field, said = fields(["1,234", "7"])
    assert field == Field("number")
    assert said == "read as numbers, '1,234' as 1234; if its comma is a decimal comma, say --decimal ,"
    field, said = fields(["1,234", "7"], separator=";")
    assert field == Field("text")
    assert said.endswith("kept as text; say --decimal , or .")
    assert fields(["1,234", "7"], ",")[0] == Field("number", decimal=",")


def test_a_european_file(tmp_path: Path) -> None:
    price = [f"{value:_.2f}".replace(".", ",").replace("_", ".") for value in AGE * 100]
    city = np.where(CITY == "Kiel", "Köln", CITY)
    columns = {"price": price, "city": city, "noise": [str(value).replace(".", ",") for value in NOISE], "label": OLD}
    path = data(tmp_path / "data.csv", sep=";", text_of="latin-1", **columns)
    with pytest.raises(ValueError, match="data.csv' is not UTF-8 text: try --encoding latin-1"):
        trained(path)
    result, said, learnt = trained(path, encoding="latin-1")
    assert f"path: {str(path)!r}: the header has no comma, so ';' separates fields" in said
    assert learnt.outputs == ["price", "city = Bonn", "city = Köln", "city = Ulm", "noise"]
    assert result["test accuracy"] >= 0.9
    result, said, again = trained(path, encoding="latin-1", sep=";", decimal=",")
    assert not [sentence for sentence in said if "separates" in sentence]
    assert again.columns[0] == learnt.columns[0]
    new = data(
        tmp_path / "new.csv", sep=";", text_of="latin-1", price=["9.000,00", "3000"], city=["Köln"] * 2, noise=[0, 0]
    )
    assert predicted(new) == (["yes", "no"], [])
    new = data(tmp_path / "new.csv", sep="|", price=["9.000,00", "3000"], city=["Köln"] * 2, noise=[0, 0])
    assert predicted(new, encoding="utf-8", sep="|") == (["yes", "no"], [])


@pytest.mark.parametrize(("encoding", "sep"), [("utf-16", "\t"), ("utf-8-sig", ","), ("utf-8", "|")])
def test_encodings_and_separators(tmp_path: Path, encoding: str, sep: str) -> None:
    zips = np.where(AGE > 50, "01067", "1067")
    path = data(tmp_path / "data.csv", sep=sep, text_of=encoding, zip=zips, city=CITY, noise=NOISE, label=OLD)
    if encoding == "utf-16":
        with pytest.raises(ValueError, match="try --encoding utf-16"):
            trained(path)
    result, said, columns = trained(path, encoding=encoding)
    assert columns.outputs[:2] == ["zip = 01067", "zip = 1067"]
    assert result["test accuracy"] == 1
    assert ("separates fields" in said[0]) == (sep != ",")


# -------------------------------------------------------------------------------------------------------------- dates


def test_dates_are_learnt_from(tmp_path: Path) -> None:
    when = pd.Timestamp("2021-01-01") + pd.to_timedelta(fresh().integers(0, 1_000, ROWS), unit="D")
    label = np.where(when > pd.Timestamp("2022-05-15"), "yes", "no")
    path = data(tmp_path / "data.csv", when=when.strftime("%Y-%m-%d"), noise=NOISE, label=label)
    result, said, columns = trained(path)
    assert said == [f"column 'when': read as dates, '{when[0]:%Y-%m-%d}' as {when[0]:%d %B %Y}"]
    assert result["test accuracy"] >= 0.95
    assert isinstance(columns.columns[0], Date)
    assert columns.columns[0].cycles == ("year", "week")
    found, said = predicted(data(tmp_path / "new.csv", when=["2023-01-01", "2021-02-03", "soon"], noise=[0, 0, 0]))
    assert found[:2] == ["yes", "no"]
    assert said[0] == "column 'when', 1 row: no date, read as missing ('soon')"
    assert said[1].startswith("column 'when', 1 row: no date, as in no training row: read as 2022-")
    *_, columns = trained(path, dates="off", keep=("when",))
    assert columns.outputs[0].startswith("when = ")


def test_weekdays_are_learnt_from(tmp_path: Path) -> None:
    when = pd.date_range("2024-01-01 08:00", periods=ROWS, freq="D")
    path = data(
        tmp_path / "data.csv",
        when=when.strftime("%d.%m.%Y %H:%M"),
        label=np.where(when.day_of_week > 4, "free", "busy"),
    )
    result, _, columns = trained(path)
    assert result["test accuracy"] >= 0.95
    assert columns.outputs[3:] == ["when, week: sine", "when, week: cosine"]  # always eight o'clock


@pytest.mark.parametrize(
    ("strings", "form", "first"),
    [
        (["2024-02-01", "2023-12-31"], "ISO8601", "2024-02-01"),
        (["2024-02-01T12:30:00Z", "2024-02-01 12:30:00+02:00"], "ISO8601", "2024-02-01T12:30"),
        (["2024/02/01", "2023/12/31"], "%Y/%m/%d", "2024-02-01"),
        (["01.02.2024", "03.02.2024"], "%d.%m.%Y", "2024-02-01"),
        (["02/01/2024", "12/31/2023"], "%m/%d/%Y", "2024-02-01"),
        (["01/02/2024", "31/12/2023"], "%d/%m/%Y", "2024-02-01"),
        (["1.2.24 7:05", "31.12.23 23:59"], "%d.%m.%y %H:%M", "2024-02-01T07:05"),
        (["1 Feb 2024", "3 May 2023", "?"], "%d %b %Y", "2024-02-01"),
        (["Feb 1, 2024", "Dec 31, 2023"], "%b %d, %Y", "2024-02-01"),
    ],
)
def test_how_dates_may_be_written(strings: list[str], form: str, first: str) -> None:
    field, said = fields(strings)
    assert field == Field("date", format=form)
    assert said == f"read as dates, {strings[0]!r} as 01 February 2024"
    read = csv_files.convert(pd.Series(strings, dtype=object), field, Notes())
    assert read[0] == pd.Timestamp(first)


def test_dates_that_may_be_either_are_said(tmp_path: Path) -> None:
    strings = ["01/02/2024", "03/04/2024"]
    field, said = fields(strings)
    assert field == Field("text")
    assert said.endswith("may begin with the day or the month: kept as text; say --dates day-first or month-first")
    assert fields(strings, dates="day-first")[0].format == "%d/%m/%Y"
    assert fields(strings, dates="month-first")[0].format == "%m/%d/%Y"
    assert fields(["20240131T1200"], dates="%Y%m%dT%H%M")[0] == Field("date", format="%Y%m%dT%H%M")
    assert fields([*strings, "13/01/2024", "soon"])[1].startswith("1 of 4 values are no dates ('soon')")
    day = [f"{20200101 + 100 * (i % 12) + i % 28}" for i in range(ROWS)]
    path = data(tmp_path / "data.csv", day=day, noise=NOISE, label=OLD)
    _, said, columns = trained(path)
    assert said[0] == "column 'day': 20200101 and the like are read as numbers; if they are dates, say --dates %Y%m%d"
    *_, columns = trained(path, dates="%Y%m%d")
    assert [type(column) for column in columns.columns] == [Date, Number]


def test_dates_of_a_frame() -> None:
    days = pd.to_datetime(["2024-01-01 06:00", "2024-01-02 18:00", None, "2024-01-03 06:00"])
    frame = pd.DataFrame({"when": days, "kind": pd.Categorical([3, 1, 3, 1])})
    columns = Columns.learn(frame)
    assert columns.outputs == [
        *("when", "when, week: sine", "when, week: cosine", "when, day: sine", "when, day: cosine", "when is missing"),
        *("kind = 1", "kind = 3"),
    ]
    matrix = columns.matrix(frame)
    np.testing.assert_allclose(matrix[:, 0], [-1.5, 0, 0, 0.5])
    week = 2 * np.pi * (np.array([0, 1, 2]) + 4) / 7  # 1970 began on a Thursday, 2024 on a Monday
    np.testing.assert_allclose(matrix[[0, 1, 3], 1:3], np.column_stack([np.sin(week), np.cos(week)]), atol=1e-6)
    np.testing.assert_allclose(matrix[:, 3:5], [[1, 0], [-1, 0], [0, 0], [1, 0]], atol=1e-6)
    np.testing.assert_array_equal(matrix[:, 5], [0, 0, 1, 0])
    np.testing.assert_array_equal(matrix[:, 6:], [[0, 1], [1, 0], [0, 1], [1, 0]])
    assert Columns.from_json(json.loads(json.dumps(columns.to_json()))) == columns
    local = frame.assign(when=frame["when"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))
    np.testing.assert_array_equal(columns.matrix(local), matrix)
    with pytest.raises(ValueError, match="column 'when' held dates in training, got 3"):
        columns.matrix(frame.assign(when=3))


# --------------------------------------------------------------------------------- text: zip codes, blanks, categories


def test_zip_codes_keep_their_zeros(tmp_path: Path) -> None:
    zips = fresh().choice(["01067", "1067", "01099", "89073"], ROWS).astype(object)
    label = np.where(np.isin(zips, ["01067", "89073"]), "yes", "no")
    zips[5] = ""
    path = data(tmp_path / "data.csv", zip=zips, noise=NOISE, label=label)
    result, said, columns = trained(path)
    zero = next(code for code in zips if code.startswith("0"))
    assert f"column 'zip': whole numbers with leading zeros, such as {zero!r}: kept as text" in said
    assert columns.outputs[:4] == ["zip = 01067", "zip = 01099", "zip = 1067", "zip = 89073"]
    assert result["test accuracy"] >= 0.95
    found, _ = predicted(data(tmp_path / "new.csv", zip=["01067", "1067", "89073"], noise=[0, 0, 0]))
    assert found == ["yes", "no", "yes"]


@pytest.mark.parametrize("place", [100, csv_files._BLOCK])
def test_a_leading_zero_is_found_wherever_it_stands(tmp_path: Path, place: int) -> None:
    for shift in range(-3, 4):
        path = tmp_path / "data.csv"
        lines = b"zip,label\n" + b"1067,a\n" * 20
        lines += b"x" * (place + shift - len(lines)) + b"\n01,b\n"
        path.write_bytes(lines)
        assert csv_files._has_a_leading_zero(path, "utf-8")
    path.write_bytes(b"zip,label\n1067,0.5\n0,00x\n" + b"1.05,10:05\n" * 9)
    path.write_bytes(path.read_bytes().replace(b"00x", b"0"))
    assert not csv_files._has_a_leading_zero(path, "utf-8")


def test_text_by_a_flag(tmp_path: Path) -> None:
    path = data(tmp_path / "data.csv", store=fresh().integers(1, 4, ROWS), noise=NOISE, label=OLD)
    *_, columns = trained(path, text=("store",))
    assert columns.outputs[:3] == ["store = 1", "store = 2", "store = 3"]
    assert predicted(data(tmp_path / "new.csv", store=[1, 2], noise=[0, 0]))[1] == []
    with pytest.raises(ValueError, match="text: no columns 'shop' in "):
        trained(path, text=("shop",))


def test_blanks_make_no_classes_and_no_categories(tmp_path: Path) -> None:
    label, city = np.where(AGE > 50, "churn", "stays").astype(object), CITY.astype(object)
    label[:40] += " "
    city[:30] += "\t"
    path = data(tmp_path / "data.csv", **{" age ": AGE, "city": city, "label ": label})
    result, said, columns = trained(path)
    assert f"path: {str(path)!r}: blanks around the column names 'age ', 'label ' are removed" in said
    assert "column 'label', 40 rows: blanks around the text removed ('churn ', 'stays ')" in [
        sentence.replace("('stays ', 'churn ')", "('churn ', 'stays ')") for sentence in said
    ]
    assert [sentence for sentence in said if sentence.startswith("column 'city', 30 rows: blanks around the text")]
    assert result["classes"] == 2
    assert columns.outputs == ["age", "city = Bonn", "city = Kiel", "city = Ulm"]
    assert predicted(data(tmp_path / "new.csv", age=[70, 30], city=["Ulm  ", "Bonn"])) == (["churn", "stays"], [])


def test_classes_that_differ_in_case_are_said(tmp_path: Path) -> None:
    label = np.where(AGE > 50, "churn", "stays").astype(object)
    label[:40] = [text.title() for text in label[:40]]
    _, said, _ = trained(data(tmp_path / "data.csv", age=AGE, label=label))
    assert [sentence for sentence in said if sentence.endswith("; are they the same?")]


def test_an_unseen_category_is_said_once(tmp_path: Path) -> None:
    """Once for a file of several parts, with all its rows."""
    trained(data(tmp_path / "data.csv", age=AGE, city=CITY, label=OLD))
    repeats = 100
    city = np.tile(np.concatenate([["Rome", "Paris"], CITY[2:]]), repeats)
    _, said = predicted(data(tmp_path / "new.csv", age=np.tile(AGE, repeats), city=city))
    assert said == ["column 'city', 200 rows: a value of no training row, read as no category ('Rome', 'Paris')"]


def test_an_unseen_category_of_the_test_rows_is_said(tmp_path: Path) -> None:
    city = CITY.astype(object)
    city[-20:] = "Rome"
    path = data(tmp_path / "data.csv", day=np.arange(ROWS), age=AGE, city=city, label=OLD)
    _, said, _ = trained(path, time_split="day", keep=("day",))
    assert "column 'city', 20 rows: a value of no training row, read as no category ('Rome')" in said


# ------------------------------------------------------------------------------------- identifiers, repeats, splits


def by_class() -> dict[str, Any]:
    """A file sorted by class, where nothing but the row's number tells the class."""
    return {"id": np.arange(ROWS) + 17, "noise": NOISE, "label": np.repeat(["no", "yes"], ROWS // 2)}


def test_an_id_is_left_out(tmp_path: Path) -> None:
    path = data(tmp_path / "data.csv", **by_class())
    result, said, columns = trained(path)
    assert said == [
        "column 'id' has 240 distinct whole numbers in 240 rows, an identifier by its name (--keep id to learn from "
        "it): left out"
    ]
    assert columns.outputs == ["noise"]
    assert result["test accuracy"] < 0.7
    result, said, columns = trained(path, keep=("id",))
    assert columns.outputs == ["id", "noise"]
    assert result["test accuracy"] > 0.9


@pytest.mark.parametrize("name", ["ID", "customer_id", "customerId", "row", "Index", "order key"])
def test_names_of_identifiers(name: str) -> None:
    numbers = fresh().permutation(ROWS)
    with pytest.warns(UserWarning, match="an identifier by its name"):
        assert Columns.learn(pd.DataFrame({name: numbers, "noise": NOISE})).outputs == ["noise"]
    frame = pd.DataFrame({name: numbers // 2, "bid": numbers, "width": NOISE})
    assert Columns.learn(frame).outputs == [name, "bid", "width"]


def test_a_number_that_counts_the_rows_is_said(tmp_path: Path) -> None:
    rows = by_class()
    path = data(tmp_path / "data.csv", n=rows.pop("id")[::-1], **rows)
    _, said, columns = trained(path)
    assert said == ["column 'n' falls from row to row; if it numbers the rows, say --drop n"]
    assert columns.outputs == ["n", "noise"]
    _, said, columns = trained(path, drop=("n",))
    assert said == []
    assert columns.outputs == ["noise"]


def repeated(times: int = 10) -> pd.DataFrame:
    """A few rows whose label is drawn by lot, many times over."""
    frame = pd.DataFrame({"name": [f"n{i}" for i in range(30)], "a": AGE[:30], "b": NOISE[:30]})
    frame["label"] = fresh().choice(["no", "yes"], 30)
    return pd.concat([frame] * times).sample(frac=1, random_state=0)


def test_repeated_rows_stay_on_one_side(tmp_path: Path) -> None:
    frame = repeated()
    path = data(tmp_path / "data.csv", **{name: frame[name].to_numpy() for name in frame})
    result, said, _ = trained(path)
    side = "they stay on the same side of the split (unless --split-repeats)"
    assert f"270 of 300 rows repeat the inputs of others: {side}" in said
    assert result["test accuracy"] < 0.9  # of six or seven different rows with random labels
    result, _, _ = trained(path, split_repeats=True)
    assert result["test accuracy"] > 0.95  # each stands in training, too


def test_an_identifier_does_not_hide_that_rows_repeat() -> None:
    frame = repeated().reset_index(drop=True)
    frame["name"] = [f"row {i}" for i in range(ROWS)]
    first = tables.repeats(frame, ["name", "a", "b"], np.arange(ROWS))
    expected = frame.groupby(["a", "b"])["name"].transform("first").str.slice(4).astype(int)
    np.testing.assert_array_equal(first, expected)
    few = np.arange(150, 200)
    first = tables.repeats(frame, ["b", "a"], few)
    assert (frame["a"].to_numpy()[few[first]] == frame["a"].to_numpy()[few]).all()
    assert len(set(first)) == frame["a"].iloc[few].nunique()


def test_too_few_different_rows_are_split_as_they_come(tmp_path: Path) -> None:
    _, said, _ = trained(data(tmp_path / "data.csv", city=CITY, label=OLD))
    assert said == [
        "297 of 300 rows repeat the inputs of others, and too few differ: they may stand on both sides of the split"
    ]


def test_groups_stay_on_one_side(tmp_path: Path) -> None:
    number = np.repeat(np.arange(30), 10)
    label = np.where(fresh().random(30) < 0.5, "no", "yes")[number]
    patient = [f"p{each}" for each in number]
    path = data(tmp_path / "data.csv", patient=patient, height=AGE[number], noise=NOISE, label=label)
    result, _, columns = trained(path, groups="patient")
    assert columns.outputs == ["height", "noise"]
    assert result["rows"] in ("240 to train, 60 to test", "250 to train, 50 to test", "230 to train, 70 to test")
    assert result["test accuracy"] < 0.9 < trained(path)[0]["test accuracy"]
    with pytest.raises(ValueError, match="--groups: no columns 'doctor'; the columns are 'patient', 'height'"):
        trained(path, groups="doctor")
    with pytest.raises(ValueError, match="--groups: column 'label' is the target"):
        trained(path, groups="label")


@pytest.mark.parametrize("stratify", [True, False])
def test_held_out_groups_are_whole_and_of_the_right_size(stratify: bool) -> None:
    generator = np.random.default_rng(1)
    groups = generator.integers(0, 400, 3_000)
    y = (groups % 4 == 0).astype(int)
    shares = []
    for seed in range(20):
        train, test = hold_out(y, 0.2, seed, stratify=stratify, groups=groups)
        assert sorted([*train, *test]) == list(range(3_000))
        assert not set(groups[train]) & set(groups[test])
        shares.append((len(test) / 3_000, y[test].mean() / y.mean()))
        if stratify:
            assert abs(shares[-1][0] - 0.2) < 0.02
            assert abs(shares[-1][1] - 1) < 0.1
    assert abs(np.mean(shares, axis=0)[0] - 0.2) < 0.005
    assert (hold_out(y, 0.2, 3, groups=groups)[1] == hold_out(y, 0.2, 3, groups=groups)[1]).all()
    with pytest.raises(ValueError, match="groups: expected one for each of 3000 rows, got 2"):
        hold_out(y, 0.2, groups=groups[:2])
    with pytest.raises(ValueError, match="groups: all rows are of the same group"):
        hold_out(y, 0.2, groups=np.zeros(3_000))


def test_a_class_that_only_test_rows_have_is_said() -> None:
    y, groups = np.array([0, 0, 0, 1, 2]), np.array([0, 1, 2, 3, 3])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sides = [hold_out(y, 0.4, seed, stratify=False, groups=groups) for seed in range(10)]
    new = sum(3 in test for _, test in sides)
    assert 0 < new < 10
    assert [str(one.message) for one in caught] == ["y: 2 test rows are of 1, 2, of which no training row is"] * new


def test_the_last_rows_by_time_test(tmp_path: Path) -> None:
    when = pd.Timestamp("2024-01-01") + pd.to_timedelta(fresh().permutation(ROWS) // 7, unit="D")
    path = data(tmp_path / "data.csv", when=when.strftime("%d.%m.%Y"), age=AGE, label=OLD)
    result, _, _ = trained(path, time_split="when")
    border = when.sort_values()[-60]
    assert result["rows"] == f"{(when < border).sum()} to train, {(when >= border).sum()} to test"
    frame = pd.DataFrame({"when": when, "city": CITY})
    train, test = last_rows(frame, "when", np.arange(ROWS), OLD, 0.2)
    assert when[train].max() < when[test].min()
    for name, said in (("city", "column 'city' must hold dates or numbers, got "), ("x", "time: no column 'x'")):
        with pytest.raises(ValueError, match=said):
            last_rows(frame, name, np.arange(ROWS), OLD, 0.2)
    frame.loc[4, "when"] = None
    with pytest.raises(ValueError, match="time: 1 rows without 'when'"):
        last_rows(frame, "when", np.arange(ROWS), OLD, 0.2)
    with pytest.raises(ValueError, match="--groups and --time-split"):
        trained(path, time_split="when", groups="age")


# ------------------------------------------------------------------------------------------------ files and messages


@pytest.mark.parametrize("value", ["9" * 400, "9" * 60, "1e39", "-inf"])
def test_a_number_that_is_too_large_is_named_with_its_row(tmp_path: Path, value: str) -> None:
    path = data(tmp_path / "data.csv", age=as_text(AGE, _5=value), label=OLD)
    with pytest.raises(ValueError, match=r"column 'age', row 6 .the header not counted.: expected a number of at most"):
        trained(path)


def test_flags_for_csv_files_are_for_csv_files() -> None:
    with pytest.raises(ValueError, match="--time-split is for .csv files, but --data is 'iris'"):
        train_classifier.main(train_classifier.Arguments(data="iris", csv=Flags(time_split="day")))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"separator": ";;"}, "separator must be one character"),
        ({"separator": ",", "decimal": ","}, "separator and decimal must differ"),
        ({"decimal": ";"}, "decimal must be '.' or ','"),
        ({"encoding": "latin-99"}, "encoding: no encoding 'latin-99'"),
        ({"dates": "iso"}, "dates must be auto, day-first"),
    ],
)
def test_what_a_reading_may_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Reading(**settings)


def test_a_reading_is_plain_data() -> None:
    found = {"a": Field("number", ",", "€"), "b": Field("date", format="%d.%m.%Y"), "c": Field("text")}
    reading = Reading(";", ",", "latin-1", ("-999",), "day-first", ("c",), found, strip=False)
    assert Reading.from_json(json.loads(json.dumps(reading.to_json()))) == reading
    assert Reading.from_json({}) == Reading()
    assert list(reading.only(["b", "x"]).fields) == ["b"]
    for description in (
        *(None, [], {"more": 1}, {"decimal": 1}, {"encoding": "none"}, {"na_values": "x"}, {"na_values": [1]}),
        *({"strip": 1}, {"fields": []}, {"fields": {"a": {}}}, {"fields": {"a": {"kind": "code"}}}),
        *({"fields": {"a": {"kind": "date"}}}, {"fields": {"a": {"kind": "number", "decimal": ":"}}}),
        *({"fields": {"a": {"kind": "number", "unit": "("}}}, {"fields": {"a": {"kind": "text", "more": ""}}}),
    ):
        with pytest.raises(ValueError, match=r"reading|encoding"):
            Reading.from_json(description)


def test_a_model_of_an_earlier_version_predicts_as_it_did(tmp_path: Path) -> None:
    """Its file says nothing of how to read; a blank belonged to a category, and a gap of a number was the median."""
    columns = Columns((Number("age", 50.0), Text("city", ("Bonn", "Bonn "))))
    X = np.array([[20, 1, 0], [-20, 0, 1]] * 20, dtype=np.float32)
    classifier = Classifier((8,), epochs=20, learning_rate=0.1, random_state=0).fit(X, ["a", "b"] * 20)
    description = [{k: v for k, v in entry.items() if k != "others"} for entry in columns.to_json()]
    classifier.save(tmp_path / "model", extra={"table": {"target": "label", "columns": description}})
    new = data(tmp_path / "new.csv", age=["70", "30", "?"], city=["Bonn", "Bonn ", "Bonn "])
    found, said = predicted(new)
    assert found == [*classifier.predict(X[:2]), classifier.predict([[0, 0, 1]])[0]]
    assert said[0] == "column 'age', 1 row: no number, read as missing ('?')"
