"""Reports: measures against closed forms and scikit-learn, importance of columns, what is undefined, and files."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.preprocessing import label_binarize

import rlce
from rlce import calibration, plots, tables
from tests.commands import run
from tests.test_scripts import FLAGS, table

RANDOM = np.random.default_rng(0)


class Stated(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its probabilities."""

    def __init__(self, classes: Any = ("a", "b")) -> None:
        self.classes = classes

    def fit(self, X: Any, y: Any) -> Stated:
        return self

    @property
    def classes_(self) -> Any:
        return np.asarray(self.classes)

    def predict_proba(self, X: Any) -> Any:
        return np.asarray(X)

    def predict(self, X: Any) -> Any:
        return self.classes_[np.asarray(X).argmax(axis=1)]


class Bounded(RegressorMixin, BaseEstimator):
    """A regressor whose inputs are its prediction and its interval."""

    def fit(self, X: Any, y: Any) -> Bounded:
        return self

    def predict(self, X: Any) -> Any:
        return np.asarray(X)[:, 0]

    def predict_interval(self, X: Any, coverage: float) -> Any:
        return np.asarray(X)[:, 1:3]


def where(report: rlce.Report, place: str = "test") -> dict[str, float | None]:
    return {name: values[place] for name, values in report.measures.items()}


def test_measures_of_classes_by_hand() -> None:
    X = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]]
    report = rlce.report(Stated(), X, ["a", "b", "a", "b"], training=(X[:3], ["a", "a", "b"]))
    assert where(report) == pytest.approx({
        "accuracy": 0.5,
        "balanced accuracy": 0.5,
        "macro F1": 0.5,
        "log-loss": -math.log(0.9 * 0.4 * 0.3 * 0.8) / 4,
        "ROC AUC": 3 / 4,  # of the four pairs of a "b" and an "a", only .4 against .7 is in the wrong order
        "average precision": 0.5 * 1 + 0.5 * 2 / 3,  # .8 is right; then .7 is wrong and .4 right
        "calibration error": (0.1 + 0.6 + 0.7 + 0.2) / 4,  # each in a bin of its own
    })  # fmt: skip
    assert where(report, "training")["accuracy"] == 1.0
    assert where(report, "constant guess") == pytest.approx({
        "accuracy": 0.5,
        "balanced accuracy": 0.5,
        "macro F1": 1 / 3,
        "log-loss": -(math.log(2 / 3) + math.log(1 / 3)) / 2,
        "ROC AUC": 0.5,
        "average precision": 0.5,
        "calibration error": 2 / 3 - 0.5,
    })  # fmt: skip
    assert report.confusion is not None
    assert (report.confusion.labels, report.confusion.counts) == (["a", "b"], [[1, 1], [1, 1]])
    assert report.reliability is not None
    assert sum(report.reliability.rows) == 4
    assert report.reliability.confidence[13] == pytest.approx(0.9)
    assert report.reliability.accuracy[0] is None
    assert [(one.label, one.rows, one.recall) for one in report.classes] == [("a", 2, 0.5), ("b", 2, 0.5)]


def test_measures_of_several_classes_are_scikit_learn_s() -> None:
    y = RANDOM.integers(0, 4, 300)
    X = RANDOM.normal(size=(300, 3)) + np.eye(4)[y][:, :3]
    classifier = LogisticRegression().fit(X[:200], y[:200])
    report = rlce.report(classifier, X[200:], y[200:], training=(X[:200], y[:200]))
    for place, rows in (("test", slice(200, None)), ("training", slice(200))):
        true, p, predicted = y[rows], classifier.predict_proba(X[rows]), classifier.predict(X[rows])
        assert where(report, place) == pytest.approx({
            "accuracy": metrics.accuracy_score(true, predicted),
            "balanced accuracy": metrics.balanced_accuracy_score(true, predicted),
            "macro F1": metrics.f1_score(true, predicted, average="macro"),
            "log-loss": metrics.log_loss(true, p),
            "ROC AUC": metrics.roc_auc_score(true, p, multi_class="ovr", average="macro"),
            "average precision": metrics.average_precision_score(label_binarize(true, classes=range(4)), p),
            "calibration error": calibration.expected_calibration_error(true, p),
        })  # fmt: skip
    assert report.confusion is not None
    assert report.confusion.counts == metrics.confusion_matrix(y[200:], classifier.predict(X[200:])).tolist()
    (_, recall, f1, _) = metrics.precision_recall_fscore_support(y[200:], classifier.predict(X[200:]))
    assert [one.recall for one in report.classes] == pytest.approx(recall.tolist())
    assert [one.f1 for one in report.classes] == pytest.approx(f1.tolist())
    assert (report.test_rows, report.training_rows, report.notes) == (100, 200, [])


def test_measures_of_numbers_by_hand() -> None:
    X = [[1.0, 0.0, 2.0], [2.0, 1.0, 4.0], [5.0, 4.0, 6.0], [4.0, 4.0, 5.0]]
    y = [1.0, 4.0, 3.0, 8.0]  # inside, inside, below by 1, above by 3
    report = rlce.report(Bounded(), X, y, training=(X, [0.0, 0.0, 1.0, 3.0]), coverage=0.8)
    low = [0.1 * 1, 0.1 * 3, 0.9 * 1, 0.1 * 4]
    high = [0.1 * 1, 0.1 * 0, 0.1 * 3, 0.9 * 3]
    assert where(report) == pytest.approx({
        "MAE": (0 + 2 + 2 + 4) / 4,
        "RMSE": math.sqrt((0 + 4 + 4 + 16) / 4),
        "R²": 1 - 24 / (9 + 0 + 1 + 16),
        "coverage of 80 %": 0.5,
        "mean width": (2 + 3 + 2 + 1) / 4,
        "pinball loss": (sum(low) + sum(high)) / 8,
    })  # fmt: skip
    guess = where(report, "constant guess")  # the mean is 1, the levels .1 and .9 are 0 and 2.4
    assert guess["MAE"] == pytest.approx((0 + 3 + 2 + 7) / 4)
    assert guess["mean width"] == pytest.approx(2.4)
    assert guess["coverage of 80 %"] == pytest.approx(0.25)
    assert report.points is not None
    assert report.points.true == y
    assert report.points.interval == [row[1:] for row in X]


def test_importance_is_scikit_learn_s_where_a_column_is_one_input() -> None:
    X, y = RANDOM.normal(size=(200, 4)), RANDOM.integers(0, 3, 200)
    X[:, 2] += y
    classifier = LogisticRegression().fit(X, y)
    report = rlce.report(classifier, X, y, columns=["a", "b", "c", "d"], random_state=3)
    theirs = permutation_importance(classifier, X, y, scoring="neg_log_loss", n_repeats=5, random_state=3)
    assert report.importance is not None
    assert report.importance.score == "log-loss"
    assert report.importance.columns[0] == "c"
    order = ["abcd".index(name) for name in report.importance.columns]
    assert report.importance.means == pytest.approx(theirs.importances_mean[order].tolist())
    assert report.importance.deviations == pytest.approx(theirs.importances_std[order].tolist())
    assert report.importance.means == sorted(report.importance.means, reverse=True)


class OneHot(Bounded):
    """Refuses rows whose first three inputs are not one category."""

    def predict(self, X: Any) -> Any:
        assert (X[:, :3].sum(axis=1) == 1).all()
        return X[:, :3] @ [0.0, 1.0, 2.0]


def test_the_inputs_of_a_text_column_are_shuffled_together() -> None:
    category = RANDOM.integers(0, 3, 500)
    X = np.column_stack([np.eye(3)[category], RANDOM.normal(size=500)])
    report = rlce.report(OneHot(), X, category, columns=["city", "city", "city", "age"])
    assert report.importance is not None
    assert report.importance.columns == ["city", "age"]
    # Two independent draws from a column differ by √2 deviations.
    assert report.importance.means[0] == pytest.approx(math.sqrt(2) * category.std(), rel=0.05)
    assert (report.importance.means[1], report.importance.deviations[1]) == (0.0, 0.0)


def test_columns_of_a_frame_keep_their_names_and_types() -> None:
    frame = pd.DataFrame({"age": [30, 40, 50, 60] * 5, "city": pd.Categorical(["Ulm", "Bonn"] * 10)})

    class OfFrames(Bounded):
        def predict(self, X: Any) -> Any:
            assert X.dtypes.equals(frame.dtypes)
            return X["age"].to_numpy() + 10.0 * (X["city"] == "Ulm").to_numpy()

    report = rlce.report(OfFrames(), frame, OfFrames().predict(frame))
    assert report.importance is not None
    assert sorted(report.importance.columns) == ["age", "city"]
    assert min(report.importance.means) > 1.0
    assert where(report)["RMSE"] == 0.0


def values(part: Any) -> list[Any]:
    """Every number, text and None inside."""
    if isinstance(part, dict):
        return [value for each in part.values() for value in values(each)]
    return [value for each in part for value in values(each)] if isinstance(part, list | tuple) else [part]


THREE = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])


@pytest.mark.parametrize(
    ("X", "y", "note", "undefined"),
    [
        (THREE[:2], ["a", "b"], "of the 2 of 3 classes with test rows", set()),
        (THREE, ["a", "a", "a"], "undefined, because all test rows are of one class, 'a'", {"ROC AUC"}),
        (THREE[:1], ["b"], "undefined, because all test rows are of one class, 'b'", {"ROC AUC"}),
    ],
    ids=["a class without test rows", "one class", "one row"],
)
def test_an_undefined_measure_is_said_not_made_up(X: Any, y: Any, note: str, undefined: set[str]) -> None:
    """Warnings are errors here: scikit-learn must not have been asked for what is undefined."""
    report = rlce.report(Stated(("a", "b", "c")), X, y, training=(THREE, ["a", "b", "c"]))
    assert any(note in one for one in report.notes)
    undefined |= {"average precision"} if undefined else set()
    assert {name for name, value in where(report).items() if value is None} == undefined
    absent = next(one for one in report.classes if one.label == "c")
    assert (absent.rows, absent.recall, absent.precision, absent.roc_auc) == (0, None, None, None)
    shown = str(report)
    assert re.search(r"^c +0 +— +— +— +— +—$", shown, flags=re.MULTILINE)
    assert "nan" not in shown.lower()
    json.dumps(report.to_json(), allow_nan=False)
    assert not any(isinstance(value, np.generic) for value in values(report.to_json()))


def test_the_present_classes_are_averaged() -> None:
    X = [[0.5, 0.4, 0.1], [0.6, 0.3, 0.1], [0.4, 0.2, 0.4], [0.1, 0.8, 0.1]]
    report = rlce.report(Stated(("a", "b", "c")), X, ["a", "b", "a", "b"])
    of_a = metrics.roc_auc_score([1, 0, 1, 0], [row[0] for row in X])
    of_b = metrics.roc_auc_score([0, 1, 0, 1], [row[1] for row in X])
    assert where(report)["ROC AUC"] == pytest.approx((of_a + of_b) / 2)


def test_a_single_number() -> None:
    report = rlce.report(Bounded(), [[1.0, 0.0, 2.0]], [1.5], training=([[1.0, 0.0, 2.0]], [1.0]))
    assert where(report)["R²"] is None
    assert report.notes == [
        "R²: undefined for a single test row",
        "importance: undefined for a single test row",
    ]
    assert report.importance is None
    assert "nan" not in str(report).lower()


def test_many_classes_and_few_rows() -> None:
    count = 30
    labels = [f"class {k:02}" for k in range(count)]
    X = np.full((count + 5, count), 0.5 / (count - 1))
    y = [*range(count), 7, 7, 7, 12, 12]
    X[np.arange(len(y)), y] = 0.5
    report = rlce.report(Stated(labels), X, [labels[k] for k in y])
    assert where(report)["accuracy"] == 1.0
    assert len(report.classes) == count
    assert report.confusion is not None
    assert report.confusion.labels[:3] == ["class 07", "class 12", "class 00"]
    assert np.diag(report.confusion.counts).tolist() == [4, 3, *[1] * 18]
    shown = str(report)
    assert "classes (the 20 most frequent of 30)" in shown
    assert re.search(r"confusion matrix: .*\(the \d+ most frequent of 30\)", shown)
    assert max(map(len, shown.splitlines())) <= 80


def test_a_large_table_is_measured_in_part_and_says_so() -> None:
    X = RANDOM.normal(size=(30_000, 130))
    y = X[:, 5] + X[:, 120]
    model = LinearRegression().fit(X[:25_000], y[:25_000])
    report = rlce.report(model, X[25_000:], y[25_000:], training=(X[:25_000], y[:25_000]))
    assert report.notes == [
        "training score: of 20,000 random training rows",
        "importance: of 2,000 random test rows",
        "importance: of the first 100 of 130 columns",
    ]
    assert report.importance is not None
    assert report.importance.columns[0] == "X[:, 5]"
    assert len(report.importance.columns) == 100
    assert (report.test_rows, report.training_rows) == (5_000, 25_000)
    assert report.points is not None
    assert len(report.points.true) == 500
    assert "(the 20 largest of 100)" in str(report)
    again = rlce.report(model, X[25_000:], y[25_000:], training=(X[:25_000], y[:25_000]))
    assert again == report


def test_any_estimator_of_scikit_learn_and_none_of_importance() -> None:
    X, y = RANDOM.normal(size=(60, 3)), RANDOM.integers(0, 2, 60)
    report = rlce.report(RandomForestClassifier(5, random_state=0).fit(X, y), X, y, importance=False)
    assert report.importance is None
    assert report.training_rows is None
    assert list(report.measures["accuracy"]) == ["test"]
    squared = rlce.Regressor(hidden=(4,), epochs=2, random_state=0).fit(X, X[:, 0])
    (note,) = rlce.report(squared, X, X[:, 0]).notes
    assert note.startswith('no intervals: cost: "squared" predicts no spread; fit with cost="quantile"')


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rlce.report(Stated(), [0.5, 0.5], ["a"]), r"X: rows must have shape \[N, D\], got \[2\]"),
        (lambda: rlce.report(Stated(), [[0.5, 0.5]], [[1, 0]]), r"y must hold one label or number a row, \[N\], got"),
        (lambda: rlce.report(Stated(), [[0.5, 0.5]], ["a", "b"]), "same number of rows, at least 1, got 1 and 2"),
        (lambda: rlce.report(Stated(), np.zeros((0, 2)), []), "same number of rows, at least 1, got 0 and 0"),
        (lambda: rlce.report(Stated(), [[0.5, 0.5]], ["c"]), r"y holds labels that the estimator does not know: \['c'"),
        (
            lambda: rlce.report(Stated(), [[0.5, 0.5]], ["a"], training=([[0.5, 0.5]], [])),
            "training: X and y must have the same number of rows, at least 1, got 1 and 0",
        ),
        (lambda: rlce.report(Stated(), [[0.5, 0.5]], ["a"], columns=["x"]), "each of the 2 inputs, got 1 names"),
        (lambda: rlce.report(Bounded(), [[1.0, 0, 2]], [np.nan]), "y: the targets of a regression must be finite"),
        (lambda: rlce.report(Bounded(), [[1.0, 0, 2]], [1.0], coverage=90), r"coverage must lie in \(0, 1\), got 90"),
    ],
)
def test_what_is_wrong_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_classifier_without_probabilities_is_refused() -> None:
    X, y = [[0.0], [1.0]], [0, 1]
    with pytest.raises(TypeError, match="estimator must have predict_proba, got RidgeClassifier"):
        rlce.report(RidgeClassifier().fit(X, y), X, y)


# --------------------------------------------------------------------------------------------------------------- files

PNG = b"\x89PNG\r\n\x1a\n"
UGLY = ["<b>&\"'", "a|b $x$ _y_ \x1b[31m\n`z`"]  # tags, formulas, Markdown, a terminal's escape sequence


def ugly() -> rlce.Report:
    X = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8]])
    return rlce.report(Stated(UGLY), X, [UGLY[0], UGLY[1], UGLY[0], UGLY[1]], columns=["$\\frac$", "日本 <i>"])


class Page(HTMLParser):
    """Text of the cells, and the sources of the pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += f"|{data}|"


def test_one_html_file_holds_everything(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    ugly().write(path, title="A & <B>")
    page = Page(path.read_text())
    assert len(page.sources) == page.tags.count("img") == 3
    assert all(source.startswith("data:image/png;base64,iVBORw0KGgo") for source in page.sources)
    assert not {"b", "i", "script", "link"} & set(page.tags)
    assert "|A & <B>|" in page.text
    assert f"|{UGLY[0]}|" in page.text
    assert "|log-loss|" in page.text
    assert f"|{-math.log(0.9 * 0.4 * 0.3 * 0.8) / 4:.4f}|" in page.text
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_markdown_stands_beside_its_plots(tmp_path: Path) -> None:
    path = tmp_path / "my report.md"
    ugly().write(path)
    text = path.read_text()
    names = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert names == [f"my%20report-{name}.png" for name in ("confusion", "reliability", "importance")]
    for name in names:
        assert (tmp_path / name.replace("%20", " ")).read_bytes().startswith(PNG)
    assert r"| a\|b \$x\$ \_y\_  \[31m \`z\` | 2 |" in text
    assert f"| log-loss | {-math.log(0.9 * 0.4 * 0.3 * 0.8) / 4:.4f} |" in text
    assert {file.name for file in tmp_path.iterdir()} == {path.name, *(name.replace("%20", " ") for name in names)}
    columns = [line.count("|") - line.count(r"\|") for line in text.splitlines() if line.startswith("|")]
    assert set(columns) == {4, 8}  # every row of a table is as long as its header


def test_names_of_the_data_cannot_disturb_a_terminal() -> None:
    assert "\x1b" not in str(ugly())
    assert str(ugly()).count("\n\n") == 5  # measures, the note, classes, importance, confusion matrix


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> bytes:
        raise RuntimeError("no plot")

    for name in ("report.html", "report.md"):
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(plots, "importance", fail)
    for name in ("report.html", "report.md"):
        with pytest.raises(RuntimeError, match="no plot"):
            ugly().write(tmp_path / name)
        assert (tmp_path / name).read_text() == "old"
    with pytest.raises(ValueError, match=r"report: the file must end in \.html or \.md, got 'report\.pdf'"):
        ugly().write("report.pdf")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("interval", [None, [[0.0, 2.0], [1.0, 1.5]]])
def test_plots_of_numbers(interval: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plots.predictions([1.0, 2.0], [1.5, 1.25], interval).startswith(PNG)
        assert plots.residuals([1.0], [1.0]).startswith(PNG)


# -------------------------------------------------------------------------------------------------------- command line


def test_without_matplotlib_one_line_names_the_extra(tmp_path: Path) -> None:
    program = "import sys; sys.modules['matplotlib'] = None; sys.argv = sys.argv[1:]; import runpy; " + (
        "runpy.run_module('scripts.train_classifier', run_name='__main__', alter_sys=True)"
    )
    flags = ("--data", "iris", "--epochs", "1", "--quiet", "--log-dir", str(tmp_path / "run"))
    said = run("-c", program, "-", *flags, "--report", str(tmp_path / "r.html"), ok=False)
    assert said == "error: plots are drawn with matplotlib: pip install 'rlce[plots]'\n"
    assert list(tmp_path.iterdir()) == []  # nothing was trained for a report that cannot be written
    assert "log-loss" in run("-c", program, "-", *flags)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("r.pdf", "error: report: the file must end in .html or .md, got "),
        ("none/r.html", "error: --report: cannot write the file"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_training(tmp_path: Path, path: str, said: str) -> None:
    flags = ("--data", "iris", "--log-dir", str(tmp_path / "run"), "--report", str(tmp_path / path))
    assert said in run("-m", "scripts.train_classifier", *flags, ok=False)
    assert list(tmp_path.iterdir()) == []


def test_from_a_csv_file_to_a_report(tmp_path: Path) -> None:
    data, model, output, page = (tmp_path / name for name in ("data.csv", "model", "result.json", "report.html"))
    rows = table(data, "text")
    files = ("--save", str(model), "--output", str(output), "--log-dir", str(tmp_path / "run"), "--report", str(page))
    said = run("-m", "scripts.train_classifier", "--data", str(data), *files, *FLAGS)
    result = json.loads(output.read_text())
    written = result["report"]
    assert re.search(rf"^accuracy +{result['test accuracy']:.4f} +{result['training accuracy']:.4f} ", said, re.M)
    assert re.search(r"^training accuracy +\d\.\d+$", said, re.M)
    assert said.index("log-loss") < said.index("importance: ") < said.index("confusion matrix")
    assert sorted(written["importance"]["columns"]) == ["age", "city", "since"]  # not "city = Ulm", not "name"
    assert "since" not in written["importance"]["columns"][:1]
    assert result["report file"] == str(page)
    assert f"|{data}, seed 0|" in Page(page.read_text()).text

    # The same numbers from the saved model, the split and scikit-learn.
    frame, _ = tables.read_csv(data)
    y, _ = tables.target(frame, "label")
    training, test = tables.hold_out(y, 0.2, seed=0)
    classifier = rlce.Classifier.load(model)
    columns = tables.Columns.from_json(classifier.extra_["table"]["columns"])
    p = classifier.predict_proba(columns.matrix(frame, test))
    measures = written["measures"]
    assert measures["log-loss"]["test"] == pytest.approx(metrics.log_loss(y[test], p))
    assert measures["ROC AUC"]["test"] == pytest.approx(metrics.roc_auc_score(y[test] == "yes", p[:, 1]))
    score = classifier.score(columns.matrix(frame, training), y[training])
    assert measures["accuracy"]["training"] == pytest.approx(score)
    assert len(rows) == len(training) + len(test)


def test_a_regression_s_report_has_intervals(tmp_path: Path) -> None:
    data, output, page = tmp_path / "data.csv", tmp_path / "result.json", tmp_path / "report.md"
    table(data, "number")
    flags = ("--task", "regression", "--cost", "quantile", "--report", str(page), "--output", str(output), *FLAGS)
    said = run("-m", "scripts.train_classifier", "--data", str(data), "--log-dir", str(tmp_path / "run"), *flags)
    measures = json.loads(output.read_text())["report"]["measures"]
    assert 0.5 < measures["coverage of 90 %"]["test"] <= 1.0
    assert measures["pinball loss"]["test"] < measures["pinball loss"]["constant guess"]
    assert re.search(r"^coverage of 90 % +(0\.\d+|1) ", said, re.M)
    for name in ("predictions", "residuals", "importance"):
        assert (tmp_path / f"report-{name}.png").read_bytes().startswith(PNG)


def test_names_of_a_bundled_set_and_of_its_columns(tmp_path: Path) -> None:
    said = run("-m", "scripts.train_classifier", "--data", "iris", "--quiet", "--log-dir", str(tmp_path))
    assert re.search(r"^petal (width|length) \(cm\) +\d\.\d+ +\d\.\d+$", said, re.M)


def saved(tmp_path: Path, estimator: Any, y: Any) -> tuple[Path, Path, Any]:
    """A model that was trained in Python on a CSV file, the file, and its rows."""
    data, model = tmp_path / "data.csv", tmp_path / "model"
    data.write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in RANDOM.normal(size=(len(y), 2)).tolist()))
    frame, _ = tables.read_csv(data)
    columns = tables.Columns.learn(frame)
    estimator.fit(columns.matrix(frame), y).save(model, extra={"table": {"columns": columns.to_json()}})
    return model, data, columns.matrix(frame)


def predicted_for(model: Path, data: Path, *flags: str) -> list[dict[str, str]]:
    output = data.with_name("predictions.csv")
    run("-m", "scripts.predict", str(model), str(data), "--output", str(output), *flags)
    with output.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_carry_every_class_s_probability(tmp_path: Path) -> None:
    labels = ["no", "perhaps, later", "yes"]
    classifier = rlce.Classifier(hidden=(4,), epochs=2, random_state=0)
    model, data, X = saved(tmp_path, classifier, np.array(labels * 30))
    rows = predicted_for(model, data)
    names = [f"probability of {label}" for label in labels]
    assert list(rows[0]) == ["a", "b", "prediction", "confidence", *names]
    shown = np.array([[float(row[name]) for name in names] for row in rows])
    np.testing.assert_allclose(shown, classifier.predict_proba(X), atol=5.1e-7)
    assert [row["prediction"] for row in rows] == classifier.predict(X).tolist()
    assert [float(row["confidence"]) for row in rows] == shown.max(axis=1).tolist()
    clash = tmp_path / "clash.csv"
    clash.write_text("a,b,probability of yes\n1,2,3\n")
    assert "already has a column 'probability of yes'; rename it" in run(
        "-m", "scripts.predict", str(model), str(clash), ok=False
    )


def test_many_classes_are_predicted_in_small_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts import predict

    classifier = rlce.Classifier(hidden=(2,), epochs=1, random_state=0)
    model, data, X = saved(tmp_path, classifier, np.arange(90) % 30)
    parts: list[int] = []
    whole = tables.read_chunks

    def counted(path: Any, reading: Any, rows: int, notes: Any) -> Any:
        parts.append(rows)
        return whole(path, reading, rows, notes)

    monkeypatch.setattr(tables, "read_chunks", counted)
    monkeypatch.setattr(predict, "_NUMBERS", 1_000)
    assert predict.main(predict.Arguments(model, data, tmp_path / "p.csv")) == 90
    assert parts == [1_000 // 32]
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    np.testing.assert_allclose(np.array(rows, dtype=float)[:, 4:], classifier.predict_proba(X), atol=5.1e-7)


def test_conformal_intervals_are_predicted_too(tmp_path: Path) -> None:
    regressor = rlce.Regressor(hidden=(4,), epochs=3, conformal=True, validation_split=0.4, random_state=0)
    model, data, X = saved(tmp_path, regressor, RANDOM.normal(size=100))
    rows = predicted_for(model, data, "--coverage", "0.8")
    shown = [[float(row["lower"]), float(row["upper"])] for row in rows]
    np.testing.assert_allclose(shown, regressor.predict_interval(X, 0.8), rtol=1e-6)


def test_importing_the_library_or_printing_a_report_loads_no_matplotlib() -> None:
    program = """
import sys, rlce
print(rlce.report(rlce.Regressor(epochs=2).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]), [[0.5], [1.0]], [0.5, 2.0]))
assert not {"matplotlib", "gymnasium", "tensorboard"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
