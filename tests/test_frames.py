"""DataFrames with text, categories, dates and gaps: in the estimators, in their files, in ONNX, as a transformer."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import polars
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

import rlce
from rlce import Classifier, Regressor
from rlce.supervised.tables import Columns, TableEncoder


def table(rows: int = 300, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """A frame of every kind of column, and labels that depend on the number and the city."""
    random = np.random.default_rng(seed)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 900, rows), unit="D")
    frame = pd.DataFrame(
        {
            "age": random.normal(40.0, 10.0, rows),
            "city": random.choice(["Bonn", "Köln", "Ulm"], rows),
            "grade": pd.Categorical(random.integers(1, 5, rows)),
            "since": days,
            "member": random.random(rows) < 0.5,
        }
    )
    y = np.where((frame.age > 40.0) ^ (frame.city == "Ulm"), "yes", "no")
    frame.loc[::7, "age"] = np.nan
    frame.loc[::11, "city"] = None
    return frame, y


def without_dates(rows: int = 300) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    frame, y = table(rows)
    return frame.drop(columns="since"), y


def small(**settings: Any) -> Classifier:
    return Classifier(**{"hidden": (16,), "epochs": 19, "random_state": 0, **settings})


def test_a_frame_is_what_its_columns_make_of_it() -> None:
    """The same network as from the matrix of the columns that are learnt outside."""
    frame, y = table()
    inside = small().fit(frame, y)
    columns = Columns.learn(frame)
    matrix = columns.matrix(frame)
    outside = small().fit(matrix, y)
    assert inside.fitted_.training.columns == columns
    np.testing.assert_array_equal(inside.predict_proba(frame), outside.predict_proba(matrix))
    assert (inside.n_features_in_, outside.n_features_in_) == (5, matrix.shape[1])
    assert inside.feature_names_in_.tolist() == ["age", "city", "grade", "since", "member"]


def test_what_is_in_the_columns_is_learnt() -> None:
    frame, y = table(1_200)
    known = frame.age.notna() & frame.city.notna()  # of the others the label cannot be told
    model = small(hidden=(64,), epochs=60, learning_rate=0.01).fit(frame[:900], y[:900])
    test = known[900:]
    assert model.score(frame[900:][test], y[900:][test]) > 0.95


def test_held_out_rows_teach_the_columns_nothing() -> None:
    """Neither medians nor categories: a value of held-out rows alone is one that training has not seen."""
    frame, y = table()
    later = frame[:40].assign(city="Rom", age=1e6)
    with pytest.warns(UserWarning, match=r"column 'city', 40 rows: a value of no training row"):
        model = small().fit(frame, y, X_val=later, y_val=y[:40])
    assert model.fitted_.training.columns == Columns.learn(frame)
    drawn = small(validation_split=0.5).fit(frame, y).fitted_.training.columns
    assert drawn != Columns.learn(frame)  # another median
    weighted = small().fit(pd.concat([frame, later]), [*y, *y[:40]], sample_weight=[1.0] * 300 + [0.0] * 40)
    assert weighted.fitted_.training.columns == Columns.learn(frame)


def test_a_frame_of_numbers_is_the_matrix_that_it_was() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(80, 3)), columns=["a", "b", "c"]).assign(d=random.random(80) < 0.5)
    y = (frame.a > 0).to_numpy()
    as_frame, as_array = small().fit(frame, y), small().fit(frame.to_numpy(dtype=float), y)
    assert as_frame.fitted_.training.columns is None
    np.testing.assert_array_equal(as_frame.predict_proba(frame), as_array.predict_proba(frame.to_numpy(dtype=float)))


@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_files_keep_the_columns(kind: type, tmp_path: Path) -> None:
    frame, y = table()
    target = y if kind is Classifier else frame.member + 0.5 * (frame.city == "Ulm")
    model = kind(hidden=(8,), epochs=5, random_state=0).fit(frame, target)
    model.save(tmp_path / "m")
    loaded = kind.load(tmp_path / "m")
    assert loaded.fitted_.training.columns == model.fitted_.training.columns
    np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))
    # Another epoch goes on with the same columns, whatever the new rows hold.
    one, other = (each.partial_fit(frame[:50], target[:50]) for each in (model, loaded))
    assert one.fitted_.training.columns == other.fitted_.training.columns == Columns.learn(frame)
    np.testing.assert_array_equal(one.predict(frame), other.predict(frame))


def test_scikit_learn_s_tools_take_such_frames() -> None:
    frame, y = table()
    predicted = cross_val_predict(small(epochs=5), frame, y, cv=3)
    assert set(predicted) == {"no", "yes"}
    search = GridSearchCV(small(epochs=3), {"hidden": [(4,), (8,)]}, cv=2, error_score="raise").fit(frame, y)
    assert search.best_estimator_.fitted_.training.columns == Columns.learn(frame)
    report = rlce.report(small().fit(frame, y), frame, y)
    assert report.importance is not None
    assert set(report.importance.columns) == set(frame.columns)


def test_what_training_had_not_is_said_once() -> None:
    frame, y = table(9_000)  # more than one part of a prediction
    model = small(epochs=2).fit(frame, y)
    new = frame.assign(city="Rom", member=None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.predict(new)
    assert [str(one.message) for one in said] == [
        "column 'city', 9,000 rows: a value of no training row, read as no category ('Rom')",
        f"column 'member', 9,000 rows: no value, as in no training row: read as {np.median(frame.member):g}",
    ]


def test_numbers_are_no_identifiers_and_text_of_every_row_is() -> None:
    frame, y = table(60)
    frame["id"] = np.arange(60)
    frame["name"] = [f"n{i}" for i in range(60)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = small(epochs=1).fit(frame, y)
    assert [str(one.message) for one in said] == [
        "column 'name' has 60 distinct values in 60 rows, an identifier: left out"
    ]
    outputs = model.fitted_.training.columns.outputs
    assert "id" in outputs
    assert not [name for name in outputs if name.startswith("name")]


def test_polars() -> None:
    frame, y = table()
    theirs = polars.DataFrame(
        {
            "age": [None if np.isnan(age) else age for age in frame.age],
            "city": [None if pd.isna(city) else city for city in frame.city],
            "grade": frame.grade.astype(str).tolist(),
            "since": frame.since.dt.to_pydatetime().tolist(),
            "member": frame.member.tolist(),
        }
    )
    ours, of_polars = small().fit(frame, y), small().fit(theirs, y)
    assert of_polars.feature_names_in_.tolist() == theirs.columns
    np.testing.assert_array_equal(of_polars.predict_proba(theirs), ours.predict_proba(frame))
    numbers = polars.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) ** 2})
    assert small(epochs=1).fit(numbers, y[:20]).fitted_.training.columns is None
    np.testing.assert_array_equal(TableEncoder().fit(frame).transform(theirs), Columns.learn(frame).matrix(frame))


@pytest.mark.parametrize("double", [False, True])
def test_onnx_takes_the_columns(tmp_path: Path, double: bool) -> None:
    frame, y = without_dates()
    frame["age"] += 1e5 * double
    frame.loc[3, "city"] = "Rom"
    kind = np.float64 if double else np.float32
    training = frame.drop(index=3)
    feed = {
        "age": frame.age.to_numpy(kind)[:, None],
        "city": frame.city.fillna("").to_numpy(object)[:, None],
        "grade": frame.grade.astype(str).to_numpy(object)[:, None],
        "member": frame.member.to_numpy(kind)[:, None],
    }
    for model, answer in (
        (small().fit(training, np.delete(y, 3)), "predict_proba"),
        (Regressor(hidden=(8,), epochs=5, random_state=0).fit(training, np.arange(299.0)), "predict"),
    ):
        rlce.export(model, tmp_path / "m.onnx", double=double)
        session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
        assert [each.name for each in session.get_inputs()] == list(feed)
        with pytest.warns(UserWarning, match="Rom"):
            expected = getattr(model, answer)(frame)
        np.testing.assert_allclose(session.run(None, feed)[0], expected, rtol=1e-4, atol=1e-5)


def test_onnx_refuses_dates_by_name(tmp_path: Path) -> None:
    frame, y = table(50)
    with pytest.raises(ValueError, match="model: column 'since' cannot be written as ONNX: dates"):
        rlce.export(small(epochs=1).fit(frame, y), tmp_path / "m.onnx")
    kept = make_pipeline(TableEncoder().set_output(transform="pandas"), small(epochs=1))
    frame, y = without_dates(50)
    with pytest.raises(ValueError, match=r"its step 'tableencoder' \(TableEncoder\) cannot be written as ONNX"):
        rlce.export(kept.fit(frame, y), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_the_transformer_serves_another_estimator() -> None:
    frame, y = table()
    with pytest.warns(UserWarning, match="column 'city' has 3 values; the 2 most frequent have an output each"):
        encoder = clone(TableEncoder(max_categories=2, leave_out=["since", "grade"])).fit(frame)
    assert encoder.get_feature_names_out().tolist() == [
        "age", "age is missing", "city = Bonn", "city = Köln", "city is missing", "member"
    ]  # fmt: skip
    encoder = TableEncoder(leave_out=["since"]).fit(frame)
    assert encoder.columns_ == Columns.learn(frame, leave_out=["since"])
    assert encoder.get_feature_names_out().tolist() == encoder.columns_.outputs
    np.testing.assert_array_equal(encoder.transform(frame), encoder.columns_.matrix(frame))
    boosted = make_pipeline(TableEncoder(), HistGradientBoostingClassifier(max_iter=20)).fit(frame, y)
    assert boosted.score(frame, y) > 0.9
    named = TableEncoder().set_output(transform="pandas").fit_transform(frame)
    assert named.columns.tolist() == Columns.learn(frame).outputs


@pytest.mark.filterwarnings("ignore:column 'city' is 'Ulm' in every row")
def test_bad_input() -> None:
    frame, y = table(50)
    model = small(epochs=1).fit(frame, y)
    others = [
        (frame.to_numpy(), TypeError, "X must be a DataFrame, because the columns were learnt from one, got ndarray"),
        (frame.drop(columns="age"), ValueError, "Feature names seen at fit time, yet now missing:\n- age"),
        (frame.assign(city=1.0), ValueError, "column 'city' held text in training, got floating: 1.0"),
        (frame.assign(age="old"), ValueError, "column 'age' held numbers in training, got 'old'"),
        (frame.assign(age=np.inf), ValueError, "column 'age' holds a number that is infinite or too large"),
    ]
    for X, kind, message in others:
        with pytest.raises(kind, match=re.escape(message)):
            model.predict(X)
        with pytest.raises(kind, match=re.escape(message)):
            TableEncoder().fit(frame).transform(X)
    fits = [
        (frame.assign(age=np.inf), y, "column 'age' holds an infinite number"),
        (frame.assign(age=[[1]] * 50), y, "column 'age' must hold numbers, booleans, dates or text, got mixed: [1]"),
        (frame.rename(columns={"age": "city"}), y, "Expected unique column names, got:\n- 'city' 2 times"),
        (frame.rename(columns={name: i for i, name in enumerate(frame)}), y, "column names must be text, got 0, 1"),
        (frame[["city"]].assign(city="Ulm"), y, "no column is left to learn from"),
        (frame, y[:-1], "Found input variables with inconsistent numbers of samples: [50, 49]"),
        (frame, [np.nan, *range(49)], "Input y contains NaN"),
        (frame[:0], y[:0], "Found array with 0 sample(s)"),
    ]
    for X, target, message in fits:
        untrained = small(epochs=1)
        with pytest.raises(ValueError, match=re.escape(message)):
            untrained.fit(X, target)
        assert not hasattr(untrained, "n_features_in_")
    with pytest.raises(TypeError, match="X must be a DataFrame"):
        TableEncoder().fit([[1.0]])
