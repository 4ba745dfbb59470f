"""Classifier: scikit-learn's conventions, and the objective behind them."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from agents import digits
from rlce import Classifier, Optimization, calibration, targets
from rlce.data import batches_of
from rlce.supervised.classes import Labels
from rlce.supervised.loss import Batch
from rlce.supervised.rows import Rows

BLOBS = make_blobs(200, centers=3, cluster_std=1.5, random_state=0)

pytestmark = pytest.mark.filterwarnings("ignore:training stopped short")  # most tests train for few epochs


def small(**settings: Any) -> Classifier:
    return Classifier(**{"hidden": (16,), "epochs": 20, "learning_rate": 0.01, "random_state": 0, **settings})


def test_digits_reach_their_accuracy() -> None:
    X, y = load_digits(return_X_y=True)
    scores = []
    for seed in range(3):
        train_X, test_X, train_y, test_y = train_test_split(X, y, test_size=0.2, stratify=y, random_state=seed)
        scores.append(digits.make(seed).fit(train_X, train_y).score(test_X, test_y))
    assert np.median(scores) >= 0.97


def test_string_labels_and_probabilities() -> None:
    X, y = BLOBS
    names = np.array(["red", "green", "blue"])[y]
    classifier = small().fit(X, names)
    assert classifier.classes_.tolist() == ["blue", "green", "red"]
    probabilities = classifier.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
    assert set(classifier.predict(X)) == {"red", "green", "blue"}
    np.testing.assert_array_equal(classifier.predict(X), classifier.classes_[probabilities.argmax(axis=1)])


@pytest.mark.parametrize("rule", [None, "two_class_rows"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("settings", [{}, {"temperature": 2.0, "prior": "training", "class_weight": "balanced"}])
def test_logarithms_and_scores_say_what_probabilities_and_choices_say(
    rule: Any, classes: int, settings: dict[str, Any]
) -> None:
    if rule is not None and settings:
        settings = {"temperature": 2.0}
    X, y = BLOBS[0][BLOBS[1] < classes], BLOBS[1][BLOBS[1] < classes]
    classifier = small(rule=rule, **settings).fit(X[10:], y[10:])
    probabilities = classifier.predict_proba(X)
    np.testing.assert_allclose(classifier.predict_log_proba(X), np.log(probabilities), rtol=1e-9, atol=1e-12)
    scores = classifier.decision_function(X)
    choices = (scores > 0).astype(int) if classes == 2 else scores.argmax(axis=1)
    np.testing.assert_array_equal(classifier.classes_[choices], classifier.predict(X))
    if rule is None:  # their softmax
        odds = np.exp(np.stack([0 * scores, scores], axis=1) if classes == 2 else scores)
        np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), probabilities, rtol=1e-9)
    classifier = small(rule=rule, scaling="standard", **settings).fit(X[10:], y[10:])
    far = classifier.predict_log_proba(1e4 * X)
    assert np.isfinite(far).all()
    assert far.min() < np.log(np.finfo(np.float64).tiny)


def test_logarithms_and_scores_of_several_labels() -> None:
    X, y = BLOBS
    several = np.stack([y == 0, y < 2], axis=1).astype(int)
    classifier = small(temperature=0.5).fit(X, several)
    scores = classifier.decision_function(X)
    np.testing.assert_array_equal(scores > 0, classifier.predict(X))
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), classifier.predict_proba(X), rtol=1e-9)
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(X)), classifier.predict_proba(X), rtol=1e-9)


def test_the_same_random_state_gives_bit_equal_parameters_and_touches_nothing_global() -> None:
    X, y = BLOBS
    before = torch.get_rng_state()
    first, again, other = (small(random_state=s, dropout=0.2, validation_split=0.2).fit(X, y) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    weights = [classifier.network_.layers[0].weight for classifier in (first, again, other)]  # type: ignore[union-attr]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_weight_is_a_repeated_row_where_one_batch_holds_all() -> None:
    """Up to rounding, scaling and class frequencies included; a weight of zero is no row at all."""
    X, y = BLOBS[0][:60], BLOBS[1][:60]
    weight = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    repeats = weight.astype(int)
    rules: list[Any] = [None, targets.logit_adjusted, targets.class_balanced, [targets.focal, targets.smooth]]
    for rule in rules:
        one = small(rule=rule, batch_size=128, dropout=0.0)
        weighted = one.fit(X, y, sample_weight=weight).predict_proba(X)
        repeated = one.fit(np.repeat(X, repeats, axis=0), np.repeat(y, repeats)).predict_proba(X)
        np.testing.assert_allclose(weighted, repeated, atol=1e-7)
        assert np.abs(weighted - one.fit(X, y).predict_proba(X)).max() > 1e-3


@pytest.mark.parametrize("rule", [None, targets.balanced_sampling, targets.inverse_frequency])
def test_a_weight_is_a_repeated_row_in_the_expected_gradient_of_minibatches(rule: Any) -> None:
    """The gradient at given parameters, averaged over epochs' batches of both: equal to within sampling noise."""
    X, y = BLOBS[0][:40], BLOBS[1][:40]
    weight = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)

    def mean_gradient(X: Any, y: Any, sample_weight: Any) -> torch.Tensor:
        one = Classifier(rule=rule, random_state=0)
        weights = np.ones(len(X)) if sample_weight is None else sample_weight
        rows = Rows(X.astype(np.float32), y, weights)
        task = one._task(Labels(np.arange(3), False, False), rows, None)
        network = nn.Linear(2, 3)
        with torch.no_grad():
            network.weight.copy_(torch.tensor([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.2]]))
            network.bias.zero_()
        generator, count, batches = torch.Generator().manual_seed(0), 400, 0
        for _ in range(count):
            for part in batches_of(task.batch, len(X), 8, generator, task.probabilities):
                task.step(network, Batch(*part), generator)[0].backward()
                batches += 1
        return network.weight.grad / batches  # type: ignore[operator]

    repeats = weight.astype(int)
    weighted = mean_gradient(X, y, weight)
    repeated = mean_gradient(np.repeat(X, repeats, axis=0), np.repeat(y, repeats), None)
    torch.testing.assert_close(weighted, repeated, rtol=0.0, atol=0.02 * float(repeated.norm()))
    unweighted = mean_gradient(X, y, None)
    assert (unweighted - repeated).norm() > 0.02 * repeated.norm()


def test_smoothing_by_a_rule_is_label_smoothing() -> None:
    """The optimum of smoothed cross-entropy on one repeated input is the smoothed label itself."""
    X, y = np.ones((40, 1)), np.array([0, 1] * 4 + [0] * 32)
    rule = functools.partial(targets.smooth, epsilon=0.5)
    settings: dict[str, Any] = {"hidden": (), "scaling": None, "batch_size": 40, "epochs": 500}
    plain, smoothed = (small(rule=r, learning_rate=0.05, **settings).fit(X, y) for r in (None, rule))
    assert plain.predict_proba(X[:1])[0, 1] == pytest.approx(0.1, abs=1e-3)
    assert smoothed.predict_proba(X[:1])[0, 1] == pytest.approx(0.5 * 0.1 + 0.5 / 2, abs=1e-3)
    by_rule = small(rule=targets.one_hot, learning_rate=0.05, **settings).fit(X, y)
    np.testing.assert_allclose(by_rule.predict_proba(X[:1]), plain.predict_proba(X[:1]), atol=1e-6)


def test_validation_restores_the_best_and_patience_stops() -> None:
    X, y = (array[:400] for array in load_digits(return_X_y=True))
    settings: dict[str, Any] = {"hidden": (32,), "monitor": "accuracy", "validation_split": 0.2, "random_state": 1}
    settings["optimizer"] = Optimization("adam")  # with a schedule, a shorter training would be another one
    classifier = Classifier(epochs=200, stopping=3, **settings).fit(X, y)
    accuracies = [epoch["val/accuracy"] for epoch in classifier.history_]
    first = int(np.argmax(accuracies))
    equal = [epoch for epoch, accuracy in enumerate(accuracies) if accuracy == accuracies[first]]
    best = min(equal, key=lambda epoch: classifier.history_[epoch]["val/loss"])
    assert best > first  # so that the tie matters here: it is an improvement
    assert len(accuracies) == classifier.n_epochs_ == best + 1 + 3
    shorter = Classifier(epochs=best + 1, **settings).fit(X, y)
    np.testing.assert_array_equal(shorter.predict_proba(X), classifier.predict_proba(X))


def test_validation_split_takes_lists_and_leaves_out_rows_of_weight_zero() -> None:
    X, y = BLOBS
    weight = (np.arange(len(X)) % 5 > 0).astype(float)
    classifier = small(validation_split=0.2).fit(X.tolist(), y.tolist(), sample_weight=weight)
    fewer = small(validation_split=0.2).fit(X[weight > 0], y[weight > 0])
    np.testing.assert_array_equal(classifier.predict_proba(X), fewer.predict_proba(X))


def test_callback_stops_and_history_is_kept() -> None:
    X, y = BLOBS
    classifier = small().fit(X, y, callback=lambda progress: progress.rounds == 3)
    assert classifier.n_epochs_ == len(classifier.history_) == 3
    assert {"train/loss", "train/accuracy", "train/learning_rate"} <= set(classifier.history_[0])


def test_pipelines_clone_and_grid_search() -> None:
    X, y = BLOBS
    pipeline = make_pipeline(MinMaxScaler(), small(epochs=5, random_state=1))
    search = GridSearchCV(pipeline, {"classifier__learning_rate": [1e-9, 0.05]}, cv=2).fit(X, y)
    assert search.best_params_ == {"classifier__learning_rate": 0.05}
    assert search.best_score_ > np.min(search.cv_results_["mean_test_score"]) + 0.2
    assert clone(small(rule=targets.one_hot)).get_params()["rule"] is targets.one_hot


@pytest.mark.parametrize("labels", [["a", "b", "c"], [10, 20, 30], [1.0, 2.0, 3.0]])
def test_saved_and_loaded(tmp_path: Path, labels: list[Any]) -> None:
    X, y = BLOBS
    rule = functools.partial(targets.smooth, epsilon=0.2)
    classifier = small(rule=rule, activation="prelu", dropout=0.1).fit(X, np.array(labels)[y])
    classifier.save(tmp_path / "c")
    loaded = Classifier.load(tmp_path / "c")
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert loaded.history_ == classifier.history_
    loaded.fit(X, np.array(labels)[y])
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))


def test_a_foreign_network_and_rule(tmp_path: Path) -> None:
    X, y = BLOBS

    def factory(n_inputs: int, n_outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n_inputs, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, n_outputs))

    classifier = small(network=factory, rule=lambda labels, classes: targets.one_hot(labels, classes)).fit(X, y)
    assert classifier.score(X, y) > 0.8
    classifier.save(tmp_path / "c")
    with pytest.raises(ValueError, match="network: .* pass its factory again"):
        Classifier.load(tmp_path / "c")
    loaded = Classifier.load(tmp_path / "c", network=factory)
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    with pytest.raises(ValueError, match="rule: the library does not have the saved rule"):
        loaded.fit(X, y)
    again = Classifier.load(tmp_path / "c", network=factory, rule=targets.one_hot)
    assert again.rule is targets.one_hot


def test_tensorboard_over_samples(tmp_path: Path) -> None:
    X, y = BLOBS
    small(validation_split=0.25, epochs=4, batch_size=50).fit(X, y, log_dir=tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for tag in ("train/loss", "train/accuracy", "val/loss", "val/accuracy"):
        assert [event.step for event in events.Scalars(tag)] == [150, 300, 450, 600]


def test_bad_input() -> None:
    X, y = BLOBS
    with pytest.raises(ValueError, match="contains NaN"):
        small().fit(np.where(X > 3, np.nan, X), y)
    with pytest.raises(ValueError, match="one class"):
        small().fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero number"):
        small().fit(X, y, sample_weight=np.zeros(len(X)))
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        small().fit(X, y, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="optimizer must be one of adam, adamw, sgd"):
        small(optimizer="lbfgs").fit(X, y)
    with pytest.raises(ValueError, match='epochs must be a whole number of at least 1, or "auto", got 0'):
        small(epochs=0).fit(X, y)
    with pytest.raises(ValueError, match="features"):
        small(epochs=1).fit(X, y).predict(X[:, :1])
    with pytest.raises(NotFittedError):
        small().save("nowhere")


MEMORY = """
import resource
import numpy as np
from rlce import Classifier

def fit(classes, rule):
    y = np.arange(classes).repeat(2)
    X = np.random.default_rng(0).normal(size=(len(y), 2))
    one = Classifier(hidden=(), rule=rule, epochs=1, temperature="validation", random_state=0)
    one.fit(X, y, validation_set=(X[:20], y[:20]))
    assert one.network_prior_.shape == one.class_prior_.shape == (classes,)

rules = None, "smooth", "imbalanced"
for rule in rules:
    fit(10, rule)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for rule in rules:
    fit(4_000, rule)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_square_of_the_number_of_classes() -> None:
    """4,000 × 4,000 numbers of 8 bytes are 128 MB; training needs blocks of 64 × 4,000."""
    # With a fixed threshold, glibc gives large blocks back at once, so what is measured is what is in use.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, env=environment)
    unit = 1 if sys.platform == "darwin" else 1024
    assert max(map(int, done.stdout.split())) * unit < 100e6


# ---------------------------------------------------------------------------------------- what y may be


def several_labels(rows: int = 300, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 4))
    return X, (X @ random.normal(size=(4, 3)) + [0.0, 1.0, -1.0] > 0).astype(int)


def test_several_labels_a_row() -> None:
    X, y = several_labels()
    classifier = small(epochs=60).fit(X, y)
    probabilities, predicted = classifier.predict_proba(X), classifier.predict(X)
    assert probabilities.shape == predicted.shape == (300, 3)
    assert predicted.dtype == np.int64
    np.testing.assert_array_equal(predicted, probabilities > 0.5)
    assert classifier.score(X, y) > 0.85  # all three right
    assert classifier.classes_.tolist() == [0, 1, 2]
    assert classifier.network_prior_ is None
    rare = small(epochs=60, class_weight="balanced").fit(X, y).predict(X)[:, 2].mean()
    assert rare > predicted[:, 2].mean()  # the label that few rows have comes up more often
    with pytest.raises(ValueError, match="prior must be None"):
        small(prior="training").fit(X, y)
    with pytest.raises(ValueError, match='class_weight must be "balanced" or None'):
        small(class_weight={0: 2.0}).fit(X, y)
    with pytest.raises(ValueError, match="balanced_sampling draws rows by class, so each row must have one label"):
        small(rule=targets.balanced_sampling).fit(X, y)


@pytest.mark.parametrize("sparse", [csr_matrix, csr_array])
def test_sparse_labels_are_dense_labels(sparse: Any) -> None:
    X, y = several_labels()
    dense = small(validation_split=0.2).fit(X, y)
    one = small(validation_split=0.2).fit(X, sparse(y))
    np.testing.assert_array_equal(one.predict_proba(X), dense.predict_proba(X))
    assert one.score(X, sparse(y)) == dense.score(X, y)
    again = small().partial_fit(X, sparse(y)).predict_proba(X)
    np.testing.assert_array_equal(again, small().partial_fit(X, y).predict_proba(X))
    with pytest.raises(TypeError, match=r"Sparse data was passed for X, .* Use '.toarray\(\)'"):
        small().fit(sparse(X), y)


def test_several_labels_are_independent_binary_classifiers() -> None:
    """Without hidden units, and all rows in one batch, an output is scikit-learn's logistic regression of a label."""
    X, y = several_labels(200)
    y[::7] = 1 - y[::7]  # not separable
    settings: dict[str, Any] = {"hidden": (), "epochs": 3000, "learning_rate": 0.02, "batch_size": 200, "scaling": None}
    ours = small(**settings).fit(X, y).predict_proba(X)
    for label in range(3):
        exact = LogisticRegression(C=1e10).fit(X, y[:, label]).predict_proba(X)[:, 1]
        np.testing.assert_allclose(ours[:, label], exact, atol=1e-3)


def test_soft_targets_are_rows_of_weights() -> None:
    """One-hot rows give what labels give; the optimum on one repeated input is the mean row."""
    X, y = BLOBS
    rows = np.eye(3)[y]
    soft, plain = (small(soft_targets=flag).fit(X, t) for flag, t in ((True, rows), (False, y)))
    np.testing.assert_allclose(soft.predict_proba(X), plain.predict_proba(X), atol=1e-5)
    random = np.random.default_rng(0).dirichlet([1.0, 2.0, 3.0], size=50)
    settings: dict[str, Any] = {"hidden": (), "scaling": None, "batch_size": 50, "epochs": 800}
    one = small(soft_targets=True, **settings).fit(np.ones((50, 1)), random)
    np.testing.assert_allclose(one.predict_proba([[1.0]])[0], random.mean(axis=0), atol=1e-3)
    assert one.classes_.tolist() == [0, 1, 2]
    held = small(soft_targets=True, validation_split=0.3).fit(X, rows)
    assert held.history_[-1]["val/accuracy"] > 0.5


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full((4, 2), 0.4), "rows must be probabilities that sum to 1, got .* in row 0"),
        (np.array([[1.0, 0.0], [1.2, -0.2], [0, 1], [0, 1]]), r"got \[1.2, -0.2\] in row 1"),
        (np.arange(4), r"y must hold rows of probabilities, \[N, K\], if soft_targets=True"),
    ],
)
def test_soft_targets_that_are_none(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(soft_targets=True).fit(np.arange(4.0)[:, None], y)


def test_labels_that_make_no_sense() -> None:
    X, y = BLOBS
    for bad, message in [
        (np.zeros(len(X)), r"y must hold at least 2 classes, got one class: \[0.0\]"),
        (X[:, 0], "Unknown label type: continuous"),
        (
            np.stack([y, y], axis=1),
            "y must hold zeros and ones",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            small().fit(X, bad)
    for bad in (["a", 1, "b"], ["a", None, "b"]):
        with pytest.raises(TypeError, match="y: labels must be all numbers or all strings, got both, None or another"):
            small().fit(X[:3], np.array(bad, dtype=object))
    with pytest.raises(ValueError, match=r"labels that were not in training: \[9\]"):
        small().fit(X, y, validation_set=(X, np.where(y == 0, 9, y)))
    with pytest.raises(ValueError, match=r"class_weight: the classes \[5\] are not in y, which holds \[0, 1, 2\]"):
        small(class_weight={0: 1.0, 5: 2.0}).fit(X, y)
    with pytest.raises(ValueError, match=r"class_weight\[0\] must be a finite number >= 0, got -1.0"):
        small(class_weight={0: -1.0}).fit(X, y)
    with pytest.raises(ValueError, match="class_weight must be a dict, \"balanced\" or None, got 'even'"):
        small(class_weight="even").fit(X, y)


def test_class_weights_are_sample_weights_of_a_class() -> None:
    X, y = BLOBS[0][:50], BLOBS[1][:50]
    # Sample weights count in the columns' mean and deviation, class weights do not.
    settings: dict[str, Any] = {"batch_size": 50, "scaling": None}
    given = small(class_weight={0: 3.0, 2: 0.5}, **settings).fit(X, y)
    by_row = small(**settings).fit(X, y, sample_weight=np.array([3.0, 1.0, 0.5])[y])
    # The scale of the weights differs, which Adam hardly sees.
    np.testing.assert_allclose(given.predict_proba(X), by_row.predict_proba(X), atol=1e-4)
    balanced = small(class_weight="balanced", **settings).fit(X, y)
    counts = np.bincount(y)
    by_row = small(**settings).fit(X, y, sample_weight=(50 / (3 * counts))[y])
    np.testing.assert_allclose(balanced.predict_proba(X), by_row.predict_proba(X), atol=1e-7)


# -------------------------------------------------------------------------------- probabilities one can trust


def test_temperature_scaling_on_held_out_rows() -> None:
    """An overfitted network is too sure; the temperature that fits held-out rows makes their loss least."""
    X, y = make_blobs(300, centers=3, cluster_std=4.0, random_state=0)
    settings: dict[str, Any] = {"hidden": (64,), "epochs": 60, "learning_rate": 0.02, "random_state": 0}
    held = X[200:], y[200:]
    sure = Classifier(**settings).fit(X[:200], y[:200])
    scaled = Classifier(temperature="validation", **settings).fit(X[:200], y[:200], validation_set=held)
    assert scaled.temperature_ > 1.2
    cost, best = {}, scaled.temperature_
    for temperature in (best / 1.05, best, best * 1.05):
        about = dataclasses.replace(scaled.fitted_.about, temperature=temperature)
        scaled.fitted_ = dataclasses.replace(scaled.fitted_, about=about)
        cost[temperature] = log_loss(held[1], scaled.predict_proba(held[0]))
    assert sorted(cost, key=lambda each: cost[each])[0] == list(cost)[1]
    softer = Classifier(temperature=2.0, **settings).fit(X[:200], y[:200])
    log_odds = np.log(sure.predict_proba(X)) @ [1, -1, 0]
    np.testing.assert_allclose(np.log(softer.predict_proba(X)) @ [1, -1, 0], log_odds / 2, atol=1e-6)
    np.testing.assert_array_equal(softer.predict(X), sure.predict(X))
    with pytest.raises(ValueError, match='temperature="validation" needs held-out rows'):
        Classifier(temperature="validation").fit(X, y)
    with pytest.raises(ValueError, match='temperature must be a positive number or "validation", got 0'):
        Classifier(temperature=0).fit(X, y)


def test_temperature_of_re_weighted_probabilities_is_fitted_under_the_training_prior(tmp_path: Path) -> None:
    """Held-out rows are as imbalanced as the others; what is fitted there must not pull the logits back to them."""
    random = np.random.default_rng(0)
    y = (random.random(4000) < 0.05).astype(int)
    X = random.normal(size=(4000, 2)) + 1.5 * y[:, None]
    settings: dict[str, Any] = {"hidden": (), "epochs": 40, "random_state": 0}
    one = Classifier(rule=targets.logit_adjusted, temperature="validation", **settings)
    one.fit(X[:2000], y[:2000], validation_set=(X[2000:], y[2000:]))
    logits, shift = one._outputs(X[2000:]), np.log(one.class_prior_) - np.log(one.network_prior_)
    np.testing.assert_allclose(np.exp(shift) / np.exp(shift).sum(), one.class_prior_)
    assert one.temperature_ == pytest.approx(calibration.fit_temperature(logits, y[2000:], prior_shift=shift))
    assert abs(one.temperature_ - calibration.fit_temperature(logits, y[2000:])) > 0.1
    one.save(tmp_path / "c")
    loaded = Classifier.load(tmp_path / "c")
    assert loaded.temperature_ == one.temperature_
    np.testing.assert_array_equal(loaded.predict_proba(X), one.predict_proba(X))
    for prior in ("training", [0.5, 0.5], None):
        loaded.set_params(prior=prior)
        one.set_params(prior=prior)
        np.testing.assert_array_equal(loaded.predict_proba(X), one.predict_proba(X))


def test_prior_of_another_length_is_refused() -> None:
    for prior, message in [
        ([0.5, 0.5], 'prior must be "training", 3 numbers'),
        ("test", 'prior must be "training", 3 numbers'),
    ]:
        with pytest.raises(ValueError, match=message):
            small(prior=prior).fit(*BLOBS)


@pytest.mark.parametrize(
    "rule", [targets.squared_error, [targets.two_class_rows], [targets.two_class_rows, targets.squared_error]]
)
def test_other_outputs_and_costs_learn(rule: Any, tmp_path: Path) -> None:
    X, y = BLOBS
    names = np.array(["red", "green", "blue"])[y]
    classifier = small(rule=rule, epochs=60).fit(X, names)
    assert classifier.score(X, names) > 0.9 * small(epochs=60).fit(X, names).score(X, names)
    np.testing.assert_allclose(classifier.predict_proba(X).sum(axis=1), 1.0, atol=1e-12)
    classifier.save(tmp_path / "c")
    np.testing.assert_array_equal(Classifier.load(tmp_path / "c").predict(X), classifier.predict(X))


@pytest.mark.parametrize(
    "rule",
    [
        targets.one_hot, targets.smooth, targets.smooth_off_class, targets.drawn_smoothing, targets.mixup,
        targets.focal, targets.focal_modulated, targets.generalized_cross_entropy, targets.poly_one,
        targets.expected_accuracy, targets.inverse_frequency, targets.class_balanced, targets.balanced_sampling,
        targets.logit_adjusted, targets.label_margin, functools.partial(targets.tempered, temperature=2.0),
        [targets.drawn_smoothing, targets.mixup, targets.focal, targets.class_balanced, targets.logit_adjusted],
    ],
)  # fmt: skip
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "soft"])
def test_every_rule_trains_a_classifier_and_its_file_keeps_it(rule: Any, soft: bool, tmp_path: Path) -> None:
    X, y = BLOBS
    target = np.eye(3)[y] * 0.9 + 0.1 / 3 if soft else y
    classifier = small(rule=rule, epochs=60, soft_targets=soft).fit(X, target)
    assert (classifier.predict(X) == y).mean() > 0.7
    classifier.save(tmp_path / "c")
    loaded = Classifier.load(tmp_path / "c")
    np.testing.assert_array_equal(loaded.fit(X, target).predict_proba(X), classifier.predict_proba(X))


# ------------------------------------------------------------------------------------------- a network of one's own


class Convolutional(nn.Sequential):
    """8×8 images as rows of 64 pixels."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, n_outputs),
        )


def test_convolutional_network_on_digits_as_images(tmp_path: Path) -> None:
    X, y = load_digits(return_X_y=True)
    train_X, test_X, train_y, test_y = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    settings: dict[str, Any] = {"scaling": None, "learning_rate": 0.003, "epochs": 30, "random_state": 0}
    classifier = Classifier(network=Convolutional, **settings).fit(train_X / 16, train_y)
    assert classifier.score(test_X / 16, test_y) >= 0.97
    classifier.save(tmp_path / "c")
    loaded = Classifier.load(tmp_path / "c", network=Convolutional)
    np.testing.assert_array_equal(loaded.predict(test_X), classifier.predict(test_X))


# --------------------------------------------------------------------- rules that look at the outputs, and priors


def test_without_held_out_rows_cross_entropy_is_watched_where_the_objective_s_value_says_nothing() -> None:
    X, y = (array[:600] for array in load_digits(return_X_y=True))
    settings: dict[str, Any] = {"hidden": (32,), "rule": targets.squared_error, "epochs": 60, "random_state": 0}
    settings |= {"activation": "relu", "dropout": 0.0, "batch_size": 64, "optimizer": Optimization("adam", 3e-3)}
    stopped = Classifier(stopping=5, **settings).fit(X, y)
    losses, costs = ([epoch[f"train/{name}"] for epoch in stopped.history_] for name in ("loss", "cross_entropy"))
    assert int(np.argmin(losses)) + 1 + 5 < 60  # watching the objective's value would have stopped here
    assert int(np.argmin(costs)) + 1 + 5 > stopped.n_epochs_ == 60
    assert stopped.score(X, y) > 0.95
    best = Classifier(**{**settings, "epochs": 5, "restarts": 3}).fit(X, y)
    assert best.history_[-1]["train/accuracy"] == max(
        Classifier(**{**settings, "epochs": 5, "restarts": n}).fit(X, y).history_[-1]["train/accuracy"]
        for n in (1, 2, 3)
    )


@pytest.mark.parametrize(
    "rule", [targets.squared_error, targets.focal, [targets.two_class_rows, targets.squared_error]]
)
def test_class_weights_matter_under_every_rule(rule: Any) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 2))
    y = (X[:, 0] + random.normal(size=400) > 1.3).astype(int)
    rates = [
        small(hidden=(), rule=rule, class_weight=weights, epochs=30).fit(X, y).predict(X).mean()
        for weights in ({0: 9, 1: 1}, None, {0: 1, 1: 9})
    ]
    assert rates[0] < rates[1] < rates[2]


@pytest.mark.parametrize(
    "rule",
    [
        functools.partial(targets.tempered, temperature=4.0),
        functools.partial(targets.label_margin, scale=5.0),
        lambda logits, labels, classes: logits - nn.functional.one_hot(labels, classes),
    ],
    ids=["tempered", "label_margin", "own"],
)
def test_no_prior_where_logits_are_more_than_shifted(rule: Any) -> None:
    X, y = BLOBS
    assert small(rule=rule).fit(X, y).network_prior_ is None
    with pytest.raises(ValueError, match="prior must be None if a rule does more to the logits than add a constant"):
        small(rule=rule, prior="training").fit(X, y)


def test_a_class_without_weight_has_no_prior_to_be_corrected() -> None:
    X, y = BLOBS
    with pytest.raises(ValueError, match=r"prior: classes \[1\] had no weight in training"):
        small(class_weight={1: 0.0}, prior="training").fit(X, y)
    with pytest.raises(ValueError, match="class weights must not be zero for every class that has rows"):
        small(class_weight={0: 0.0, 1: 0.0, 2: 0.0}).fit(X, y)


def test_sigmoids_that_are_all_near_zero_still_give_probabilities() -> None:
    X, y = BLOBS
    classifier = small(rule=targets.two_class_rows).fit(X, y)
    far = classifier.predict_proba(1e5 * X)
    assert np.isfinite(far).all()
    np.testing.assert_allclose(far.sum(axis=1), 1.0, atol=1e-12)
    logits = classifier._outputs(X).numpy()
    sigmoid = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(classifier.predict_proba(X), sigmoid / sigmoid.sum(axis=1, keepdims=True), rtol=1e-6)


def test_parameters_set_after_a_fit_do_not_re_label_it() -> None:
    X, y = BLOBS
    classifier = small().fit(X, y)
    before = classifier.predict_proba(X)
    classifier.set_params(rule=targets.two_class_rows, temperature=100.0)
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_soft_targets_are_scored_by_their_most_probable_class() -> None:
    X, y = BLOBS
    rows = np.eye(3)[y] * 0.7 + 0.1
    classifier = small(soft_targets=True, epochs=60).fit(X, rows)
    assert classifier.score(X, rows) == classifier.score(X, y) > 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weight": [1, 2]}, r'class_weight must be a dict, "balanced" or None, got \[1, 2\]'),
        ({"temperature": None}, 'temperature must be a positive number or "validation", got None'),
        ({"prior": {0: 0.5}}, 'prior must be "training", 3 numbers'),
    ],
)
def test_parameters_of_a_wrong_type(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**settings).fit(*BLOBS)


@pytest.mark.parametrize("rule", [targets.focal, targets.poly_one, targets.squared_error])
def test_stopping_does_not_end_with_the_majority(rule: Any) -> None:
    """Training accuracy stands still at the majority's share for many epochs; what is watched moves."""
    random = np.random.default_rng(1)
    y = (random.random(1000) < 0.04).astype(int)
    X = random.normal(size=(1000, 6)) + 0.8 * y[:, None]
    stopped = Classifier(rule=rule, stopping=5, epochs=60, random_state=0).fit(X, y)
    assert stopped.predict(X)[y == 1].sum() >= 10


def test_restarts_are_compared_with_weights() -> None:
    X, y = BLOBS
    weight = np.random.default_rng(0).integers(1, 30, len(X))
    settings: dict[str, Any] = {"rule": targets.focal, "batch_size": 10_000, "epochs": 3, "hidden": (4,), "restarts": 4}
    settings["dropout"] = 0.0
    for seed in range(6):
        one = Classifier(**settings, learning_rate=0.02, random_state=seed)
        weighted = one.fit(X, y, sample_weight=weight).predict_proba(X)
        repeated = one.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight)).predict_proba(X)
        np.testing.assert_allclose(weighted, repeated, atol=1e-7)
