"""Tables: what is learnt of columns, what becomes of them, and what is refused; CSV files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import OneHotEncoder

from rlce import tables
from rlce.supervised.tables import Columns, Notes, Number, Reading, Text, hold_out, target


def mixed(rows: int = 60, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": generator.integers(18, 80, rows).astype(float),
            "time": generator.permutation(rows) + 1_600_000_000,
            "married": generator.random(rows) < 0.5,
            "city": generator.choice(["Ulm", "Bonn", "Kiel"], rows),
            "zip": generator.choice(["01067", "1067", "89073"], rows),
            "day": generator.choice(["2024-01-01", "2024-02-01"], rows),
        }
    )
    frame.loc[generator.random(rows) < 0.2, "age"] = np.nan
    frame.loc[generator.random(rows) < 0.2, "city"] = None
    return frame


def written(tmp_path: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# ---------------------------------------------------------------------------------------------------- columns to floats


def test_the_matrix_is_medians_indicators_and_one_hot_columns() -> None:
    frame = mixed()
    columns = Columns.learn(frame)
    matrix = columns.matrix(frame)
    assert matrix.dtype == np.float32
    assert matrix.shape == (60, len(columns.outputs))
    age = frame["age"]
    expected = [age.fillna(age.median()) - age.median(), age.isna(), frame["time"] - frame["time"].median()]
    np.testing.assert_array_equal(matrix[:, :3], np.column_stack(expected).astype(np.float32))
    married = frame["married"].to_numpy().astype(float)
    np.testing.assert_array_equal(matrix[:, 3], married - np.median(married))
    text = frame[["city", "zip", "day"]].astype(object).where(frame[["city", "zip", "day"]].notna(), None)
    encoder = OneHotEncoder(sparse_output=False).fit(text)
    np.testing.assert_array_equal(matrix[:, 4:], encoder.transform(text))
    assert columns.outputs[:5] == ["age", "age is missing", "time", "married", "city = Bonn"]
    assert columns.text == ["city", "zip", "day"]


@pytest.mark.parametrize("dtype", [object, "str", "string", "category"])
def test_every_type_of_text_gives_the_same(dtype: Any) -> None:
    if dtype == "str" and pd.__version__ < "3":
        pytest.skip("a type of text since pandas 3")
    frame = mixed()
    names = ["city", "zip", "day"]
    columns = Columns.learn(frame)
    other = frame.astype(dict.fromkeys(names, dtype))
    if dtype == "str":
        assert other["city"].dtype == "str"
    assert Columns.learn(other) == columns
    np.testing.assert_array_equal(columns.matrix(other), columns.matrix(frame))


@pytest.mark.parametrize("dtype", [object, "Int64", "float32", "Float64"])
def test_every_type_of_number_gives_the_same(dtype: Any) -> None:
    plain = pd.DataFrame({"x": [1.0, 2.0, np.nan, 5.0]})
    other = plain.astype(dtype)
    assert Columns.learn(other) == Columns.learn(plain) == Columns((Number("x", 2.0, indicator=True),))
    np.testing.assert_array_equal(Columns.learn(other).matrix(other), [[-1, 0], [0, 0], [0, 1], [3, 0]])


@pytest.mark.parametrize("values", [[True, False, None], pd.array([True, False, None], dtype="boolean")])
def test_booleans_with_missing_values(values: Any) -> None:
    frame = pd.DataFrame({"b": values})
    columns = Columns.learn(frame)
    np.testing.assert_array_equal(columns.matrix(frame), [[0.5, 0], [-0.5, 0], [0, 1]])


def test_large_numbers_keep_their_precision() -> None:
    """Seconds since 1970 differ by 64 or more in float32; less their median they are exact."""
    frame = pd.DataFrame({"time": 1_700_000_000 + np.arange(1_001)})
    with pytest.warns(
        UserWarning, match="column 'time' grows from row to row; if it numbers the rows, say --drop time"
    ):
        columns = Columns.learn(frame)
    np.testing.assert_array_equal(columns.matrix(frame)[:, 0], np.arange(-500, 501))


def test_rows_order_and_other_columns() -> None:
    frame = mixed()
    columns = Columns.learn(frame)
    rows = np.array([5, 0, 17])
    turned = frame[frame.columns[::-1]].assign(more="ignored")
    np.testing.assert_array_equal(columns.matrix(turned, rows), columns.matrix(frame)[rows])


def test_nothing_is_learnt_from_other_rows_than_the_training_s() -> None:
    frame = mixed()
    train = np.arange(40)
    columns = Columns.learn(frame, train)
    frame.loc[40:, ["age", "time"]] = 1_000
    frame.loc[40:, "city"] = "Rome"
    assert Columns.learn(frame, train) == columns == Columns.learn(frame.iloc[:40])


def test_unseen_and_missing_categories_are_zeros_and_missing_numbers_the_median() -> None:
    train = pd.DataFrame({"x": [1.0, 2.0, 4.0], "c": ["a", "b", "a"]})
    columns = Columns.learn(train)
    assert columns.outputs == ["x", "c = a", "c = b"]
    new = pd.DataFrame({"x": [np.nan, 2.0], "c": ["z", None]})
    notes = Notes()
    np.testing.assert_array_equal(columns.matrix(new, notes=notes), np.zeros((2, 3)))
    assert notes.said() == [
        "column 'x', 1 row: no value, as in no training row: read as 2",
        "column 'c', 1 row: no value, as in no training row: read as no category",
        "column 'c', 1 row: a value of no training row, read as no category ('z')",
    ]
    empty = pd.DataFrame({"x": [None, None], "c": [np.nan, np.nan]})
    with pytest.warns(UserWarning, match="column 'x', 2 rows"), pytest.warns(UserWarning, match="column 'c', 2 rows"):
        np.testing.assert_array_equal(columns.matrix(empty), np.zeros((2, 3)))
    assert columns.matrix(train.iloc[:0]).shape == (0, 3)


def test_the_most_frequent_categories_are_kept() -> None:
    frame = pd.DataFrame({"c": ["a"] * 2 + ["b"] * 5 + ["d"] * 4 + ["c"] * 4 + [None] * 3})
    with pytest.warns(UserWarning, match="column 'c' has 4 values; the 2 most frequent have an output each"):
        columns = Columns.learn(frame, max_categories=2)
    assert columns.columns == (Text("c", ("b", "c", None), others=True),)
    assert columns.matrix(frame).sum(axis=0).tolist() == [5, 4, 3]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0] * 30, "'x' is 1 in every row"),
        (["a"] * 30, "'x' is 'a' in every row"),
        ([None] * 30, "'x' is entirely missing"),
        ([np.nan] * 30, "'x' is entirely missing"),
        ([f"name {i}" for i in range(30)], "'x' has 30 distinct values in 30 rows, an identifier"),
    ],
)
def test_columns_that_tell_nothing_are_left_out(values: list[Any], said: str) -> None:
    frame = pd.DataFrame({"x": values, "y": np.arange(30) % 7})
    with pytest.warns(UserWarning, match=said):
        columns = Columns.learn(frame)
    assert columns.outputs == ["y"]
    with (
        pytest.warns(UserWarning, match=said),
        pytest.raises(ValueError, match="frame: no column is left to learn from among 'x', 'y'"),
    ):
        Columns.learn(frame, leave_out=["y"])


def test_many_categories_are_no_identifier_while_they_repeat() -> None:
    frame = pd.DataFrame({"c": [f"c{i % 150}" for i in range(400)]})
    with pytest.warns(UserWarning, match="column 'c' has 150 values; the 100 most frequent"):
        columns = Columns.learn(frame)
    assert len(columns.outputs) == 100
    assert Columns.learn(frame, keep=["c"], max_categories=150).outputs[0] == "c = c0"
    with pytest.warns(UserWarning, match="identifier"):
        Columns.learn(pd.DataFrame({"c": [f"c{i % 250}" for i in range(400)], "x": np.arange(400) % 9}))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"x": [1.0, np.inf]}), "column 'x' holds an infinite number"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "frame has more than one column 'a'"),
        (pd.DataFrame([[1, 2]]), "frame: column names must be text, got 0, 1"),
        (pd.DataFrame({"x": []}), "frame: no rows to learn from"),
        (
            pd.DataFrame({"x": ["a", 1]}, dtype=object),
            "column 'x' must hold numbers, booleans, dates or text, got mixed",
        ),
        (pd.DataFrame({"x": pd.to_timedelta([1], "D")}), "column 'x' must hold .*, got timedelta64: Timedelta"),
        (pd.DataFrame({"x": [1j, 2j]}), "column 'x' must hold numbers, booleans, dates or text"),
    ],
)
def test_what_cannot_be_learnt_from(frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Columns.learn(frame)


def test_what_does_not_fit_the_training_s_columns() -> None:
    columns = Columns.learn(pd.DataFrame({"x": [1.0, 2.0], "y": [1, 2], "c": ["a", "b"]}))
    good = pd.DataFrame({"x": [1.0, 2.0], "y": [1, 2], "c": ["a", "b"]})
    for frame, said in (
        (good[["y"]], "frame: no columns 'x', 'c'; the columns are 'y'"),
        (good.assign(x=["1.5", "many"]), "column 'x' held numbers in training, got 'many'"),
        (good.assign(x=["1.5", "2"]), "column 'x' held numbers in training, got '1.5'"),
        (good.assign(c=[1, 2]), "column 'c' held text in training, got integer: 1"),
        (good.assign(x=[1.0, np.inf]), "column 'x' holds a number that is infinite or too large: inf"),
        (good.assign(x=[1.0, 1e300]), "column 'x' holds a number that is infinite or too large: 1e+"),
        (pd.concat([good, good[["x"]]], axis=1), "frame has more than one column 'x'"),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is looked at below)
            columns.matrix(frame)
        assert said in str(caught.value)


def test_max_categories_must_be_positive() -> None:
    with pytest.raises(ValueError, match="max_categories must be at least 1, got 0"):
        Columns.learn(mixed(), max_categories=0)


def test_json_there_and_back_gives_bit_equal_matrices() -> None:
    frame = mixed()
    frame["third"] = np.random.default_rng(1).normal(size=60) / 3
    columns = Columns.learn(frame, np.arange(45))
    again = Columns.from_json(json.loads(json.dumps(columns.to_json())))
    assert again == columns
    assert again.matrix(frame).tobytes() == columns.matrix(frame).tobytes()


GOOD: dict[str, Any] = {"kind": "number", "name": "x", "median": 1.0, "indicator": False}
DATE: dict[str, Any] = {"kind": "date", "name": "x", "median": 1.0, "cycles": ["year", "day"], "indicator": False}


@pytest.mark.parametrize("description", [None, "x", [], {}, 3])
def test_a_description_is_a_list(description: Any) -> None:
    with pytest.raises(ValueError, match="columns must be a list"):
        Columns.from_json(description)


@pytest.mark.parametrize(
    "description",
    [
        *([3], [[]]),
        [{**GOOD, "kind": "code"}],
        [{**GOOD, "more": 1}],
        [{**GOOD, "median": float("nan")}],
        [{**GOOD, "median": "1"}],
        [{**GOOD, "median": True}],
        [{**GOOD, "indicator": 1}],
        [{**GOOD, "name": 1}],
        [GOOD, GOOD],
        [{"kind": "text", "name": "c", "categories": []}],
        [{"kind": "text", "name": "c", "categories": "ab"}],
        [{"kind": "text", "name": "c", "categories": ["a", "a"]}],
        [{"kind": "text", "name": "c", "categories": ["a", 1]}],
        [{"kind": "text", "name": "c", "categories": ["a"], "more": 1}],
        [{"kind": "text", "name": "c", "categories": ["a"], "others": 1}],
        [{**DATE, "median": 3}],
        [{**DATE, "cycles": ["day", "year"]}],
        [{**DATE, "cycles": ["hour"]}],
        [{**DATE, "more": 1}],
    ],
)
def test_a_stranger_s_description_is_checked(description: Any) -> None:
    assert Columns.from_json([GOOD]).outputs == ["x"]
    assert len(Columns.from_json([DATE]).outputs) == 5
    message = "more than one column 'x'" if description == [GOOD, GOOD] else "columns: no description of a column"
    with pytest.raises(ValueError, match=message):
        Columns.from_json(description)


# -------------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([3, 1, 3], "i", [3, 1, 3]),
        ([3.0, 1.0, 3.0], "f", [3.0, 1.0, 3.0]),
        ([3.0, None, 1.0], "i", [3, 1]),
        (pd.array([3, None, 1], dtype="Int64"), "i", [3, 1]),
        ([True, False, True], "b", [True, False, True]),
        (pd.Series([True, None, False], dtype=object), "b", [True, False]),
        (["a", "b", "a"], "O", ["a", "b", "a"]),
        (pd.Series(["a", None, "b"], dtype=object), "O", ["a", "b"]),
        (pd.Series(["a", None, "b"], dtype="category"), "O", ["a", "b"]),
    ],
)
@pytest.mark.filterwarnings("ignore:target. 1 of 3 rows without 'y' are left out")
def test_labels_keep_their_type(values: Any, kind: str, expected: list[Any]) -> None:
    frame = pd.DataFrame({"x": [1, 2, 3], "y": values})
    y, rows = target(frame, "y")
    assert y.dtype.kind == kind
    assert y.tolist() == expected
    assert rows.tolist() == np.flatnonzero(frame["y"].notna()).tolist()


def test_missing_targets_are_counted() -> None:
    frame = pd.DataFrame({"y": [1.5, np.nan, np.nan, 2.5]})
    with pytest.warns(UserWarning, match="target: 2 of 4 rows without 'y' are left out"):
        y, rows = target(frame, "y", "regression")
    assert y.tolist() == [1.5, 2.5]
    assert rows.tolist() == [0, 3]


@pytest.mark.parametrize(
    ("values", "task", "said"),
    [
        ([np.nan, np.nan], "classification", "target: column 'y' holds no value"),
        ([1.5, 2.5], "classification", r"holds numbers such as 1.5; use task='regression' for them"),
        ([1.0, np.inf], "regression", "target: column 'y' holds an infinite number"),
        (["a", "b"], "regression", "target: column 'y' must hold numbers, got 'a'"),
        (pd.to_datetime(["2024-01-01"] * 2), "classification", "must hold numbers, booleans or text, got Timestamp"),
        ([1, 2], "ranking", "task must be 'classification' or 'regression', got 'ranking'"),
    ],
)
def test_targets_that_do_not_fit(values: Any, task: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        target(pd.DataFrame({"y": values}), "y", task)


def test_an_absent_target_names_what_there_is() -> None:
    with pytest.raises(ValueError, match="target: no column 'y'; the columns are 'a', 'b'"):
        target(pd.DataFrame({"a": [1], "b": [2]}), "y")


def test_targets_that_are_no_classes_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="column 'y' has 30 classes in 30 rows; is it an identifier"):
        target(pd.DataFrame({"y": [f"name {i}" for i in range(30)]}), "y")
    with pytest.warns(UserWarning, match="column 'y' has 120 classes in 600 rows; is it a quantity"):
        target(pd.DataFrame({"y": np.arange(600) % 120}), "y")


def test_held_out_rows_are_stratified_disjoint_and_all() -> None:
    y = np.array(["a"] * 80 + ["b"] * 20)
    train, test = hold_out(y, 0.25, seed=0)
    assert sorted([*train, *test]) == list(range(100))
    assert (y[test] == "b").sum() == 5
    assert hold_out(y, 0.25, seed=0)[1].tolist() == test.tolist()
    assert hold_out(y, 0.25, seed=1)[1].tolist() != test.tolist()
    train, test = hold_out(np.arange(10) / 10, 0.2, seed=0, stratify=False)
    assert (len(train), len(test)) == (8, 2)


def test_a_class_with_a_single_row_stays_in_training() -> None:
    y = np.array(["a"] * 10 + ["b"] * 10 + ["lonely"])
    with pytest.warns(UserWarning, match="y: only one row of 'lonely': kept in training"):
        train, test = hold_out(y, 0.2, seed=0)
    assert 20 in train
    assert len(train) + len(test) == 21


@pytest.mark.parametrize(
    ("y", "fraction", "said"),
    [
        (["a", "b"] * 5, 0.0, "fraction must lie in"),
        (["a", "b", "c"] * 2, 0.2, "0.2 of 6 rows leaves 4 to train and 2 to test, .*one row of each of 3 classes"),
        (["a", "b"], 0.2, "each of the 2 rows is the only one of its class"),
    ],
)
def test_what_cannot_be_held_out(y: list[str], fraction: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        hold_out(np.array(y), fraction, seed=0)
    with pytest.raises(ValueError, match="0.5 of 1 rows leaves 1 to train and 0 to test"):
        hold_out(np.ones(1), 0.5, stratify=False)


# ------------------------------------------------------------------------------------------------------------ CSV files


def test_a_file_s_types_and_missing_values(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufeffn, t,b,z\r\n1,"a, b",True,\r\n\r\nNA,,False,x\r\n3,é,,y\r\n')
    frame, reading = tables.read_csv(path)
    assert frame.columns.tolist() == ["n", "t", "b", "z"]
    assert frame["n"].fillna(-1).tolist() == [1, -1, 3]
    assert frame["t"].fillna("?").tolist() == ["a, b", "?", "é"]
    assert frame["b"].dropna().tolist() == [True, False]
    assert tables.read_csv(path, Reading(text=("n",)))[0]["n"].dropna().tolist() == ["1", "3"]
    ((fields, part),) = tables.read_chunks(path, reading)
    assert fields == [["1", "a, b", "True", ""], ["NA", "", "False", "x"], ["3", "é", "", "y"]]
    pd.testing.assert_frame_equal(part, frame)


def test_parts_together_are_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    mixed(47).to_csv(path, index=False)
    with pytest.warns(UserWarning, match="column") as caught:
        whole, reading = tables.read_csv(path)
    assert [str(one.message) for one in caught] == [
        "column 'zip': whole numbers with leading zeros, such as '01067': kept as text",
        "column 'day': read as dates, '2024-02-01' as 01 February 2024",
    ]
    parts = list(tables.read_chunks(path, reading, rows=10))
    assert [len(fields) for fields, _ in parts] == [10, 10, 10, 10, 7]
    pd.testing.assert_frame_equal(pd.concat([part for _, part in parts], ignore_index=True), whole)
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        next(tables.read_chunks(path, rows=0))


def test_a_long_file_s_column_is_of_one_type(tmp_path: Path) -> None:
    """pandas reads in parts of 256 KiB, and would leave 1 and "1" in one column."""
    path = written(tmp_path, "a,b\n" + "1,2\n" * 300_000 + "x,3\n")
    with pytest.warns(UserWarning, match="column 'a': 1 of 300,001 values are no numbers .'x'.: kept as text; name"):
        frame, _ = tables.read_csv(path)
    assert set(frame["a"]) == {"1", "x"}
    assert frame["b"].dtype == np.int64


def test_row_numbers_without_a_name_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_csv(path)
    assert tables.read_csv(path)[0].to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}


def test_commas_at_every_line_s_end_are_no_fields(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b\n1,2,\n3,4,\n")
    assert tables.read_csv(path)[0].to_dict("list") == {"a": [1, 3], "b": [2, 4]}
    assert [fields for fields, _ in tables.read_chunks(path)] == [[["1", "2"], ["3", "4"]]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty, expected a header and rows"),
        ("a,b,a,c,b\n1,2,3,4,5\n", "the header has more than one column 'a', 'b'"),
        ("a,,b,\n1,2,3,4\n", "the header gives no name to column 2, 4"),
        ("a,b\n", "holds a header, but no rows"),
        ("a,b\n1,2\n3\n", "is not a CSV file with rows as long as its header: line 3 has 1 fields, the header 2"),
        ("a,b\n1,2\n3,4,5\n", "is not a CSV file with rows as long as its header"),
        ("a,b\n1,2,3\n3,4,5\n", "is not a CSV file with rows as long as its header"),
        ('a,b\n1,"2\n', "is not a CSV file with rows as long as its header"),
        ("a,b\n1,é\n".encode("latin-1"), "is not UTF-8 text"),
    ],
)
@pytest.mark.parametrize("parts", [False, True])
def test_files_that_are_refused(tmp_path: Path, text: str | bytes, said: str, parts: bool) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=said) as caught:
        list(tables.read_chunks(path)) if parts else tables.read_csv(path)
    assert "data.csv" in str(caught.value)


def test_no_file_and_no_header(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="path: no file .*none.csv"):
        tables.read_csv(tmp_path / "none.csv")
    with pytest.warns(UserWarning, match="the header holds only numbers; is it a row?"):
        tables.read_csv(written(tmp_path, "1,2\n3,4\n"))


def test_without_pandas_a_csv_file_says_what_to_install(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b\n1,2\n")
    program = f"import sys; sys.modules['pandas'] = None; from rlce import tables; tables.read_csv({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "a CSV file is read with pandas: pip install 'rlce[csv]'" in done.stderr
