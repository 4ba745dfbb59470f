"""The benchmark of remedies for imbalanced classes: its data sets, its wrong labels, its measures, its tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import TunedThresholdClassifierCV

from rlce import Classifier
from scripts import benchmark_imbalance
from scripts.benchmark_imbalance import (
    LABELS,
    PLAIN,
    SETS,
    contenders,
    drawn,
    measures,
    mislabelled,
    overlooked,
    summary,
)

BINARY = [name for name in SETS if name.startswith(("1:", "breast"))]


@pytest.mark.parametrize("name", SETS)
def test_test_rows_are_others_with_correct_labels_and_weigh_as_much_as_the_training_rows(name: str) -> None:
    (X, clean), (test_X, test_y, weights) = drawn(name, "correct", 1)
    counts = np.bincount(clean)
    assert counts.max() >= 10 * counts.min()
    assert 3 <= counts.min() <= 50
    assert (len(counts) == 2) is (name in BINARY)
    np.testing.assert_allclose(np.bincount(test_y, weights), counts)
    assert np.bincount(test_y).min() >= 15
    assert {row.tobytes() for row in X}.isdisjoint({row.tobytes() for row in test_X})
    for kind in LABELS:
        (same_X, y), (same_test_X, same_test_y, same_weights) = drawn(name, kind, 1)
        np.testing.assert_array_equal(X, same_X)
        np.testing.assert_array_equal(test_X, same_test_X)
        np.testing.assert_array_equal(test_y, same_test_y)
        np.testing.assert_array_equal(weights, same_weights)
        assert np.bincount(y, minlength=len(counts)).min() >= 1  # no class is lost
        assert (y == clean).all() == (kind == "correct")


def test_a_tenth_of_the_labels_is_wrong_uniformly() -> None:
    y = np.repeat([0, 1, 2], [20_000, 20_000, 20_000])
    labels = mislabelled(0, y)
    shares = np.stack([np.bincount(labels[y == label], minlength=3) for label in range(3)]) / 20_000
    np.testing.assert_allclose(shares, np.full((3, 3), 0.05) + 0.85 * np.eye(3), atol=0.01)
    assert (mislabelled(1, y) != labels).any()
    tiny = np.array([2, 0, 1])
    np.testing.assert_array_equal(mislabelled(0, tiny, share=1.0), tiny)  # the only rows of their classes


def test_overlooked_rows_are_of_the_rarest_class_and_look_like_the_most_frequent() -> None:
    y = np.repeat([0, 1, 2], [9, 30, 12])
    labels = overlooked(0, y)
    assert np.bincount(labels).tolist() == [6, 33, 12]
    assert (y[labels != y] == 0).all()


def test_contenders_differ_by_their_remedy_alone() -> None:
    found = contenders(3, seed=7)
    plain = found[PLAIN].get_params()
    assert plain == Classifier(random_state=7).get_params()
    changed = {}
    for name, estimator in found.items():
        if isinstance(estimator, Classifier):
            params = clone(estimator).get_params()
            changed[name] = [key for key in params if repr(params[key]) != repr(plain[key])]
    assert changed.pop('class_weight="balanced"') == ["class_weight"]
    assert changed.pop(PLAIN) == []
    assert set(map(tuple, changed.values())) == {("rule",)}
    tuned = contenders(2, seed=7)["plain, threshold for macro-F1"]
    assert isinstance(tuned, TunedThresholdClassifierCV)
    assert repr(tuned.estimator.get_params()) == repr(plain)
    assert "plain, threshold for macro-F1" not in found


def test_priors_are_moved_after_training() -> None:
    (X, y), (test_X, _, _) = drawn("wine, 1:11", "correct", 0)
    found = contenders(3, seed=0)
    frequencies = np.bincount(y) / len(y)
    for one, other, factor in (
        (PLAIN, "plain, prior of equal classes", 1.0 / frequencies),
        ("logit_adjusted", 'logit_adjusted, prior="training"', frequencies),
    ):
        trained, moved = found[one], found[other]
        before = trained.set_params(epochs=2).fit(X, y).predict_proba(test_X)
        moved.fit(X, y)
        scaled = before * factor
        np.testing.assert_allclose(moved.predict_proba(test_X), scaled / scaled.sum(axis=1, keepdims=True))
        np.testing.assert_array_equal(moved.predict(test_X), scaled.argmax(axis=1))
        np.testing.assert_array_equal(trained.predict_proba(test_X), before)


def test_measures_weight_the_rows() -> None:
    """Of 4 test rows of either class, those of class 1 weigh a quarter: the frequencies are 4 to 1."""
    X, y = np.array([[0.0], [0.0], [0.0], [1.0], [0.0], [1.0], [1.0], [1.0]]), np.repeat([0, 1], 4)
    weights = np.repeat([1.0, 0.25], 4)

    class Column:
        def predict(self, X: np.ndarray) -> np.ndarray:
            return X[:, 0].astype(int)

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return np.array([[0.8, 0.2], [0.6, 0.4]])[self.predict(X)]  # a threshold below 0.4

    found = measures(Column(), X, y, weights)
    # Rows said to be 0: 3 right, 0.25 wrong; said to be 1: 0.75 right, 1 wrong.
    assert found["macro-F1"] == pytest.approx(0.5 * (2 * 3 / (4 + 3.25) + 2 * 0.75 / (1 + 1.75)))
    assert found["balanced accuracy"] == found["recall of the rarest class"] == 0.75
    assert found["average precision of the rarest class"] == pytest.approx(0.75 * 0.75 / 1.75 + 0.25 * 1 / 5)
    assert found["log-loss"] == pytest.approx(
        -(3 * np.log(0.8) + np.log(0.6) + 0.25 * np.log(0.2) + 0.75 * np.log(0.4)) / 5
    )
    assert found["calibration error"] == pytest.approx((abs(3 - 0.8 * 3.25) + abs(1 - 0.6 * 1.75)) / 5)
    prior = DummyClassifier(strategy="prior").fit(X, np.repeat([0, 1], [2, 6]))
    assert measures(prior, X, y, weights)["recall of the rarest class"] == 1.0


def test_the_summary_is_of_paired_differences() -> None:
    """On the first set ours is clearly better, on the second the difference is no larger than its error."""

    def runs(*numbers: tuple[float, float]) -> list[dict[str, float]]:
        return [{"macro-F1": f1, "log-loss": loss} for f1, loss in numbers]

    everything = {
        "a": {
            PLAIN: runs((0.5, 1.0), (0.7, 1.2)),
            "ours": runs((0.6, 1.0), (0.8, 1.2)),
            "two": runs((0.5, 1), (0.7, 1)),
        },
        "b": {PLAIN: runs((0.5, 1.0), (0.6, 1.0)), "ours": runs((0.5, 0.5), (0.9, 0.5))},
    }
    lines = summary(everything)
    assert lines[2:] == [
        "| plain | 2 | 0.575 | 1.050 |",
        "| ours | 2 | +0.125 ± 0.025 (1 better, 0 worse) | −0.250 ± 0.250 (1 better, 0 worse) |",
        "| two | 1 | +0.000 (0 better, 0 worse) | −0.100 (0 better, 0 worse) |",
    ]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(classes: int, seed: int) -> dict[str, object]:
        found = contenders(classes, seed)
        for estimator in found.values():
            for parameter in ("epochs", "estimator__epochs", "max_iter"):
                if hasattr(estimator, "get_params") and parameter in estimator.get_params():
                    estimator.set_params(**{parameter: 1})
        return found

    monkeypatch.setattr(benchmark_imbalance, "contenders", quick)
    data, labels, output = ("wine, 1:11", "breast cancer, 1:20"), ("correct", "10 % wrong"), tmp_path / "i.json"
    benchmark_imbalance.imbalance(data, labels, seeds=2, output=output)
    said = capsys.readouterr().out
    assert "**Training labels: 10 % wrong**" in said
    assert "| macro-F1 | wine, 1:11 | breast cancer, 1:20 |" in said
    assert said.count('\n| "imbalanced" | 2 | ') == 2
    assert said.count("\n| plain, threshold for macro-F1 | 1 | ") == 2
    assert "\n| plain, threshold for macro-F1 |  | 0." in said
    results = json.loads(output.read_text())
    assert list(results) == list(labels)
    first = {kind: results[kind]["breast cancer, 1:20"] for kind in labels}
    assert first["correct"][PLAIN] != first["10 % wrong"][PLAIN]
    assert len(first["correct"]["LogisticRegression, balanced"]) == 2
    for wrong in ({"data": ("wine",)}, {"labels": ("wrong",)}):
        (flag,) = wrong
        with pytest.raises(ValueError, match=f"--{flag} must be some of .*, got 'w"):
            benchmark_imbalance.imbalance(**wrong)
    with pytest.raises(ValueError, match="--seeds must be at least 2 for a spread, got 1"):
        benchmark_imbalance.imbalance(seeds=1)
