"""Classifier: scikit-learn's conventions, and the objective behind them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from agents import digits
from rlce import Classifier, targets
from rlce.data import Standardizer

BLOBS = make_blobs(200, centers=3, cluster_std=1.5, random_state=0)


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


def test_the_same_random_state_gives_bit_equal_parameters_and_touches_nothing_global() -> None:
    X, y = BLOBS
    before = torch.get_rng_state()
    first, again, other = (small(random_state=s, dropout=0.2, validation_split=0.2).fit(X, y) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    weights = [classifier.network_.layers[0].weight for classifier in (first, again, other)]  # type: ignore[union-attr]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_weight_is_a_repeated_row_where_one_batch_holds_all() -> None:
    """Up to rounding, standardising and class frequencies included; a weight of zero is no row at all."""
    X, y = BLOBS[0][:60], BLOBS[1][:60]
    weight = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    repeats = weight.astype(int)
    rules: list[Any] = [None, targets.logit_adjusted, targets.class_balanced, [targets.focal, targets.smooth]]
    for rule in rules:
        one = small(rule=rule, batch_size=128)
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
        one = Classifier(hidden=(), rule=rule, batch_size=8, standardize=False, optimizer="sgd", random_state=0)
        rows = one._read(X, y, sample_weight, fresh=True)
        one._standardizer = Standardizer(2)
        network = nn.Linear(2, 3)
        with torch.no_grad():
            network.weight.copy_(torch.tensor([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.2]]))
            network.bias.zero_()
        one._prepare(rows, torch.Generator())
        batch = one._batch(rows, network)
        generator, count, batches = torch.Generator().manual_seed(0), 400, 0
        for epoch in one._epochs(batch, 8, generator, count):
            for part in epoch.batches:
                one._loss(network, part)[0].backward()
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
    settings: dict[str, Any] = {"hidden": (), "standardize": False, "batch_size": 40, "epochs": 500}
    plain, smoothed = (small(rule=r, learning_rate=0.05, **settings).fit(X, y) for r in (None, rule))
    assert plain.predict_proba(X[:1])[0, 1] == pytest.approx(0.1, abs=1e-3)
    assert smoothed.predict_proba(X[:1])[0, 1] == pytest.approx(0.5 * 0.1 + 0.5 / 2, abs=1e-3)
    by_rule = small(rule=targets.one_hot, learning_rate=0.05, **settings).fit(X, y)
    np.testing.assert_allclose(by_rule.predict_proba(X[:1]), plain.predict_proba(X[:1]), atol=1e-6)


def test_validation_restores_the_best_and_patience_stops() -> None:
    X, y = (array[:400] for array in load_digits(return_X_y=True))
    classifier = Classifier(hidden=(32,), epochs=200, validation_split=0.2, stopping=5, random_state=0).fit(X, y)
    accuracies = [epoch["val/accuracy"] for epoch in classifier.history_]
    best = int(np.argmax(accuracies))
    assert len(accuracies) == classifier.n_epochs_ == best + 1 + 5
    shorter = Classifier(hidden=(32,), epochs=best + 1, validation_split=0.2, random_state=0).fit(X, y)
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
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), small(epochs=5)), {"classifier__hidden": [(4,), (16,)]}, cv=2
    ).fit(X, y)
    assert search.best_params_["classifier__hidden"] in [(4,), (16,)]
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
    with pytest.raises(ValueError, match="rule: the saved rule is not the library's own"):
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
    with pytest.raises(ValueError, match='optimizer must be "adam"'):
        small(optimizer="lbfgs").fit(X, y)
    with pytest.raises(ValueError, match="epochs must be a whole number of at least 1, got 0"):
        small(epochs=0).fit(X, y)
    with pytest.raises(ValueError, match="features"):
        small(epochs=1).fit(X, y).predict(X[:, :1])
    with pytest.raises(NotFittedError):
        small().save("nowhere")
