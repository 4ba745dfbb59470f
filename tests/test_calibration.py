"""Probabilities: closed forms, scikit-learn's and SciPy's numbers, and fitted temperatures that are stationary."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.datasets import make_blobs

from rlce import Classifier
from rlce.supervised.calibration import correct_prior, expected_calibration_error, fit_temperature, reliability

every_case = settings(deadline=None, max_examples=100)
LOGITS = hnp.arrays(np.float64, (7, 3), elements=st.floats(-30, 30))
WHOLE = hnp.arrays(np.float64, (7, 3), elements=st.integers(-9, 9).map(float))
COUNTS = hnp.arrays(np.float64, (3,), elements=st.integers(1, 9).map(float))
HALF = [[0.5, 0.5]]


def rows(seed: int, *shape: int) -> np.ndarray:
    """Probabilities, all positive."""
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])


def held_out(seed: int, count: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels that are drawn from them, and weights."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(count, classes)) * 2.0
    noise = generator.gumbel(size=logits.shape)
    return logits, (logits + noise).argmax(axis=-1), generator.random(count)


# ---------------------------------------------------------------------------------------------- temperature


def mean_loss(
    temperature: float, logits: np.ndarray, targets: np.ndarray, weight: np.ndarray, shift: np.ndarray
) -> float:
    """The definition, by loops."""
    total = 0.0
    for row, target, w in zip(logits, targets, weight, strict=True):
        scores = [z / temperature + s for z, s in zip(row, shift, strict=True)]
        partition = math.log(sum(math.exp(score) for score in scores))
        total += w * sum(q * (partition - score) for q, score in zip(target, scores, strict=True))
    return total / float(weight.sum())


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
@pytest.mark.parametrize("shifted", [False, True], ids=["plain", "shifted"])
@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_the_fitted_temperature_is_stationary_and_the_minimum(soft: bool, shifted: bool, scale: float) -> None:
    logits, labels, weight = held_out(0)
    logits = logits * scale
    shift = np.array([0.5, -1.0, 0.0, 1.0]) * shifted
    targets = rows(1, 200, 4) * 0.3 + 0.7 * np.eye(4)[labels] if soft else labels
    one_hot = targets if soft else np.eye(4)[labels]
    found = fit_temperature(logits, targets, weight, shift if shifted else None)

    def loss(temperature: float) -> float:
        return mean_loss(temperature, logits, one_hot, weight, shift)

    assert 0.01 < found < 100
    step = 1e-5 * found
    assert (loss(found + step) - loss(found - step)) / (2e-5) == pytest.approx(0.0, abs=1e-8)
    assert loss(found) < min(loss(found * 1.01), loss(found / 1.01))
    searched = minimize_scalar(lambda t: loss(math.exp(t)), bounds=(math.log(0.01), math.log(100)), method="bounded")
    assert found == pytest.approx(math.exp(searched.x), rel=1e-4)


@every_case
@given(WHOLE, st.lists(st.integers(0, 2), min_size=7, max_size=7), st.sampled_from([0.5, 3.0]))
def test_temperature_follows_the_scale_of_the_logits(logits: np.ndarray, labels: list[int], scale: float) -> None:
    first, second = (fit_temperature(z, labels, classes=range(3)) for z in (logits, scale * logits))
    assert 0.01 <= min(first, second) <= max(first, second) <= 100
    if np.ptp(logits, axis=-1).any() and min(first, second) > 0.01 and max(first, second) < 100:
        assert second == pytest.approx(scale * first, rel=1e-6)


def test_two_to_one_in_closed_form() -> None:
    """One kind of row: the best probability is the frequency, p = σ(z/T), so T = z/logit(frequency)."""
    logits = np.tile([2.0, 0.0], (10, 1))
    labels = np.array([0] * 7 + [1] * 3)
    assert fit_temperature(logits, labels) == pytest.approx(2.0 / math.log(7 / 3), rel=1e-10)
    assert fit_temperature(logits[:2], [0, 1], [7.0, 3.0]) == pytest.approx(2.0 / math.log(7 / 3), rel=1e-10)
    assert fit_temperature(logits[0], [0.7, 0.3]) == pytest.approx(2.0 / math.log(7 / 3), rel=1e-10)
    # σ(2/T + ½) = 0.7.
    shifted = fit_temperature(logits, labels, prior_shift=[0.5, 0.0])
    assert shifted == pytest.approx(2.0 / (math.log(7 / 3) - 0.5), rel=1e-10)
    assert fit_temperature(logits, labels, prior_shift=[1000.5, 1000.0]) == pytest.approx(shifted, rel=1e-10)


def test_leading_axes_are_rows() -> None:
    logits, labels, weight = held_out(3)
    flat = fit_temperature(logits, labels, weight)
    assert fit_temperature(logits.reshape(50, 4, 4), labels.reshape(50, 4), weight.reshape(50, 4)) == flat
    soft = np.eye(4)[labels].reshape(50, 4, 4)
    rounded = fit_temperature(logits, np.eye(4)[labels] * (1 + 5e-6), weight)  # as float32 might have summed
    assert rounded == pytest.approx(flat, rel=1e-12)
    assert fit_temperature(logits.reshape(50, 4, 4), soft, weight.reshape(50, 4)) == flat


def test_the_bounds_where_no_temperature_is_best() -> None:
    logits, labels, _ = held_out(4)
    assert fit_temperature(logits, logits.argmax(axis=-1)) == 0.01
    assert fit_temperature(1e4 * logits, logits.argmax(axis=-1)) == 0.01
    assert fit_temperature(logits, logits.argmin(axis=-1)) == 100.0
    assert fit_temperature(np.full((200, 4), 3.0), labels) == 1.0
    assert fit_temperature([[0.0, 1.0], [1.0, 1.0]], [0, 1], [0.0, 1.0]) == 1.0


def test_what_cannot_be_changes_no_temperature() -> None:
    logits, labels, weight = held_out(5)
    hidden = np.concatenate([logits, np.full((200, 1), -math.inf)], axis=-1)
    assert fit_temperature(hidden, labels, weight, classes=range(5)) == pytest.approx(
        fit_temperature(logits, labels, weight), rel=1e-12
    )
    with pytest.raises(ValueError, match="targets must be 0 where the logit is −inf, got a positive one"):
        fit_temperature(hidden, np.full(200, 4), classes=range(5))


# ----------------------------------------------------------------------------------------------------- priors


def test_prior_correction_by_hand() -> None:
    found = correct_prior([[0.2, 0.3, 0.5]], trained=[1, 2, 1], wanted=[2, 2, 0])
    np.testing.assert_allclose(found, [[0.4 / 0.7, 0.3 / 0.7, 0.0]], rtol=1e-14)
    np.testing.assert_allclose(correct_prior([[1e-300, 1.0]], [1e-200, 1.0], [1.0, 1.0]), [[1e-100, 1.0]], rtol=1e-12)


@every_case
@given(LOGITS, COUNTS, COUNTS, COUNTS)
def test_prior_corrections_compose_and_undo_each_other(
    logits: np.ndarray, first: np.ndarray, second: np.ndarray, third: np.ndarray
) -> None:
    p = softmax(logits, axis=-1)
    np.testing.assert_allclose(correct_prior(p, first, 7 * first), p, rtol=1e-9)
    by_two = correct_prior(correct_prior(p, first, second), second, third)
    np.testing.assert_allclose(by_two, correct_prior(p, first, third), rtol=1e-9)


def test_prior_correction_is_bayes_rule() -> None:
    """A joint table with the same p(x | k) and two priors."""
    generator = np.random.default_rng(0)
    likelihood = generator.dirichlet(np.ones(6), 3)  # [K, x]
    before, after = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])

    def posterior(prior: np.ndarray) -> np.ndarray:
        joint = prior[:, None] * likelihood
        return (joint / joint.sum(axis=0)).T

    np.testing.assert_allclose(correct_prior(posterior(before), before, after), posterior(after), rtol=1e-12)


# --------------------------------------------------------------------------------------------------- measures


def test_reliability_by_hand() -> None:
    """Four bins: (¼, ½] has 0.5, (½, ¾] has 0.6, 0.7 and the edge 0.75, (¾, 1] has 1."""
    p = np.array([[0.5, 0.5], [0.6, 0.4], [0.3, 0.7], [0.75, 0.25], [0.0, 1.0]])
    labels = [1, 0, 0, 0, 1]  # the first row's top is class 0, so it is wrong; the third is wrong
    table = reliability(labels, p, bins=4)
    np.testing.assert_allclose(table.rows, [0, 1, 3, 1])
    np.testing.assert_allclose(table.confidence, [math.nan, 0.5, 2.05 / 3, 1.0])
    np.testing.assert_allclose(table.accuracy, [math.nan, 0.0, 2 / 3, 1.0])
    assert expected_calibration_error(labels, p, bins=4) == pytest.approx((0.5 + 0.05) / 5, rel=1e-12)
    assert expected_calibration_error(labels, p, bins=1) == pytest.approx(abs(3 - 3.55) / 5, rel=1e-12)


def test_weights_are_repeated_rows() -> None:
    p, labels, times = rows(0, 30, 3), np.arange(30) % 3, np.arange(30) % 4
    many, again = p.repeat(times, axis=0), labels.repeat(times)
    found = expected_calibration_error(labels, p, sample_weight=times)
    assert found == pytest.approx(expected_calibration_error(again, many), rel=1e-12)
    for weighted, repeated in zip(reliability(labels, p, 7, times), reliability(again, many, 7), strict=True):
        np.testing.assert_allclose(weighted, repeated, rtol=1e-12)


@every_case
@given(LOGITS, st.lists(st.integers(0, 2), min_size=7, max_size=7), st.integers(1, 20))
def test_calibration_error_is_bounded_and_falls_with_fewer_bins(
    logits: np.ndarray, labels: list[int], bins: int
) -> None:
    """Merging neighbouring bins can only cancel differences."""
    p = softmax(logits, axis=-1)
    fine, coarse = (expected_calibration_error(labels, p, bins=m, classes=range(3)) for m in (2 * bins, bins))
    assert 0.0 <= coarse <= fine + 1e-12 <= 1.0 + 2e-12
    assert reliability(labels, p, bins, classes=range(3)).rows.sum() == 7


def test_labels_drawn_from_the_probabilities_are_calibrated() -> None:
    logits, labels, _ = held_out(6, count=20_000)
    # Each of 15 bins has a standard error of about √(p(1−p)/1300) <= 0.014.
    assert expected_calibration_error(labels, softmax(logits, axis=-1)) < 0.015
    assert expected_calibration_error(labels, softmax(3 * logits, axis=-1)) > 0.1
    assert fit_temperature(3 * logits, labels) == pytest.approx(3.0, rel=0.05)


# ----------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "names", [["a", "b", "c"], [1, 2, 3], [10.0, 20.0, 30.0], np.array(["x", "y", "z"], dtype=object), [False, True]]
)
def test_labels_of_any_kind_are_those_of_the_classifier(names: Any) -> None:
    names = np.asarray(names)
    X, y = make_blobs(150, centers=len(names), cluster_std=3.0, random_state=0)
    classifier = Classifier(hidden=(), epochs=5, random_state=0).fit(X[:100], names[y[:100]])
    p = classifier.predict_proba(X[100:])
    expected = expected_calibration_error(y[100:], p)
    assert 0.0 < expected < 1.0
    assert expected_calibration_error(names[y[100:]], p) == expected
    logits = np.log(p)
    assert fit_temperature(logits, names[y[100:]]) == fit_temperature(logits, y[100:])
    # A single row, and columns in another order.
    one = expected_calibration_error(names[y[:1]], p[:1], classes=classifier.classes_)
    assert one == pytest.approx(abs(p[0].max() - (p[0].argmax() == y[0])))
    turned = p[:, ::-1]
    assert expected_calibration_error(names[y[100:]], turned, classes=classifier.classes_[::-1]) == expected
    with pytest.raises(ValueError, match=f"labels: 1 distinct labels for {len(names)} columns; pass classes="):
        expected_calibration_error(names[y[:1]], p[:1])


# -------------------------------------------------------------------------------------------------------- misuse

THREE = [[0.2, 0.3, 0.5]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_temperature(0.0, 0), r"logits must have shape \[..., K\], got \[\]"),
        (lambda: fit_temperature([[0.0, math.nan]], [0]), "logits must be finite or −inf"),
        (lambda: fit_temperature([[0.0, math.inf]], [0]), "logits must be finite or −inf"),
        (lambda: fit_temperature([[-math.inf, -math.inf]], [0]), "logits must be .* not all −inf in a row"),
        (lambda: fit_temperature(THREE, [0]), "targets: 1 distinct labels for 3 columns; pass classes="),
        (lambda: fit_temperature(THREE * 4, [0, 1, 2, 3]), "targets: 4 distinct labels for 3 columns; pass classes="),
        (lambda: fit_temperature(THREE, [3], classes=range(3)), r"targets must be among the classes .*, got \[3\]"),
        (lambda: fit_temperature(THREE, ["d"], classes=["a", "b", "c"]), r"among the classes .* got \['d'\]"),
        (lambda: fit_temperature(THREE, ["a"], classes=["a", "b"]), r"classes must be 3 different labels"),
        (lambda: fit_temperature(THREE, ["a"], classes=["a", "a", "b"]), r"classes must be 3 different labels"),
        (lambda: fit_temperature(THREE, [0, 1]), r"targets must be labels of shape \[1\], got shape \[2\]"),
        (lambda: fit_temperature(THREE, [[1.0, 1.0, 0.0]]), "targets must sum to 1 over the last axis, got 2.0 to 2.0"),
        (lambda: fit_temperature(THREE, [0], [-1.0]), "sample_weight must be finite, at least 0 and not all 0"),
        (lambda: fit_temperature(THREE, [0], [0.0]), "sample_weight must be finite, at least 0 and not all 0"),
        (lambda: fit_temperature(THREE, [0], [1.0, 1.0]), r"sample_weight must have shape \[1\], got \[2\]"),
        (
            lambda: fit_temperature(THREE, [0], None, [0.0, 1.0], classes=range(3)),
            r"prior_shift must be finite, of shape \[K\] = \[3\]",
        ),
        (lambda: fit_temperature(np.zeros((0, 3)), np.zeros(0, int)), r"at least one row is needed, got shape"),
        (lambda: correct_prior(HALF, [1, 0], [1, 1]), r"trained must be positive and finite, got \[1.0, 0.0\]"),
        (
            lambda: correct_prior(HALF, [1, 1], [1, -1]),
            r"wanted must be finite, at least 0 and not all 0, got \[1",
        ),
        (lambda: correct_prior(HALF, [1, 1], [0, 0]), "wanted must be finite, at least 0 and not all 0"),
        (lambda: correct_prior(HALF, [1, 1, 1], [1, 1]), r"trained must have shape \[K\] = \[2\], got \[3\]"),
        (lambda: correct_prior(HALF, [1, 1], [1]), r"wanted must have shape \[K\] = \[2\], got \[1\]"),
        (
            lambda: correct_prior([[1.0, 0.0]], [1, 1], [0, 1]),
            "wanted must be positive for a possible class of every row",
        ),
        (lambda: reliability([0], [0.5, 0.5]), r"probabilities must have shape \[N, K\], got \[2\]"),
        (lambda: reliability([0], [[0.5, 0.4]]), "probabilities must sum to 1 over the last axis, got 0.9 to 0.9"),
        (lambda: reliability([0], [[1.5, -0.5]]), "probabilities must be finite and at least 0, got -0.5 to 1.5"),
        (lambda: reliability([0], [[math.nan, 1.0]]), "probabilities must be finite and at least 0, got nan"),
        (lambda: reliability([[0, 1]], HALF), r"labels must be labels of shape \[1\], got shape \[1, 2\]"),
        (lambda: reliability([0], HALF, bins=0), "bins must be at least 1, got 0"),
    ],
)
def test_what_is_wrong_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
