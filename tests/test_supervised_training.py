"""The step that `fit` takes, against published losses in double precision; what a fit leaves when it is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

from rlce import Classifier, Optimization, Regressor, targets, weighted_cross_entropy

RATE = 0.5
N, D, K = 40, 3, 4
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(N, D))
LABELS = np.r_[np.arange(K), RANDOM.choice(K, N - K, p=[0.5, 0.2, 0.2, 0.1])]
WEIGHTS = RANDOM.integers(1, 4, N).astype(float)
SOFT = RANDOM.dirichlet(np.ones(K), N)
MANY = RANDOM.integers(0, 2, (N, K))
NUMBERS = 50.0 + 20.0 * X[:, 0] + 5.0 * RANDOM.standard_t(2, N)


def linear(n_inputs: int, n_outputs: int) -> nn.Module:
    """A user's network in double precision; its weights are drawn under the fixed seed of the factory."""
    return nn.Linear(n_inputs, n_outputs, dtype=torch.float64)


class Step:
    """One gradient step of `fit` on all rows: the outputs before it, its gradient and the loss that it logged."""

    def __init__(self, estimator: Any, y: Any, sample_weight: Any = None) -> None:
        made: list[nn.Module] = []

        def factory(n_inputs: int, n_outputs: int) -> nn.Module:
            made.append(linear(n_inputs, n_outputs))
            return copy.deepcopy(made[-1])

        descent = Optimization("sgd", RATE, momentum=0.0)
        self.fitted = estimator.set_params(
            network=factory, optimizer=descent, batch_size=N, epochs=1, scaling=None, random_state=0
        ).fit(X, y, sample_weight=sample_weight)
        (before,) = made
        self.parameters = list(before.parameters())
        after = list(self.fitted.network_.parameters())
        self.gradient = [(old - new) / RATE for old, new in zip(self.parameters, after, strict=True)]
        self.outputs = before(torch.from_numpy(X))
        self.loss = self.fitted.history_[0]["train/loss"]

    def is_of(self, published: Tensor, *, value: bool = True) -> None:
        """The gradient is that of a published loss, and the value too where the rule keeps it."""
        wanted = torch.autograd.grad(published, self.parameters)
        assert wanted[0].abs().max() > 1e-3
        for found, expected in zip(self.gradient, wanted, strict=True):
            assert found.dtype == torch.float64
            torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-10)
        if value:
            assert self.loss == pytest.approx(published.item(), rel=0.0, abs=1e-12)


def counts_of(weight: Any) -> Tensor:
    return torch.from_numpy(np.bincount(LABELS, weight, K))


def inverse(counts: Tensor) -> Tensor:
    return (1 / counts) * K / (1 / counts).sum()


def effective(counts: Tensor) -> Tensor:
    weight = (1 - 0.999) / (1 - 0.999**counts)
    return weight * K / weight.sum()


def margins(z: Tensor, y: Tensor, counts: Tensor) -> Tensor:
    largest = counts.pow(-0.25) / counts.pow(-0.25).max() * 0.5
    return F.cross_entropy(z - largest * y, y, reduction="none")


def p_of(z: Tensor, y: Tensor) -> Tensor:
    return (z.softmax(-1) * y).sum(-1)


# Rule → (logits z, one-hot labels y, class counts n) → the published loss of each row; whether its value is L's.
PUBLISHED: dict[str, tuple[Any, Callable[[Tensor, Tensor, Tensor], Tensor], bool]] = {
    "none": (None, lambda z, y, n: F.cross_entropy(z, y, reduction="none"), True),
    "one_hot": (targets.one_hot, lambda z, y, n: F.cross_entropy(z, y, reduction="none"), True),
    "smooth": (
        partial(targets.smooth, epsilon=0.3),
        lambda z, y, n: F.cross_entropy(z, y.argmax(-1), reduction="none", label_smoothing=0.3),
        True,
    ),
    "smooth_off_class": (
        partial(targets.smooth_off_class, epsilon=0.3),
        lambda z, y, n: F.cross_entropy(z, 0.7 * y + 0.1 * (1 - y), reduction="none"),
        True,
    ),
    "logit_adjusted": (
        targets.logit_adjusted,
        lambda z, y, n: F.cross_entropy(z + (n / n.sum()).log(), y, reduction="none"),
        True,
    ),
    "label_margin": (targets.label_margin, margins, True),
    "tempered": (
        partial(targets.tempered, temperature=3.0),
        lambda z, y, n: F.cross_entropy(z / 3.0, y, reduction="none"),
        True,
    ),
    "inverse_frequency": (
        targets.inverse_frequency,
        lambda z, y, n: (inverse(n) * y).sum(-1) * F.cross_entropy(z, y, reduction="none"),
        True,
    ),
    "class_balanced": (
        targets.class_balanced,
        lambda z, y, n: (effective(n) * y).sum(-1) * F.cross_entropy(z, y, reduction="none"),
        True,
    ),
    "focal": (
        partial(targets.focal, gamma=1.5),
        lambda z, y, n: (1 - p_of(z, y)) ** 1.5 * -p_of(z, y).log(),
        False,
    ),
    "focal_modulated": (
        targets.focal_modulated,
        lambda z, y, n: (1 - p_of(z, y)).detach() ** 2 * -p_of(z, y).log(),
        False,
    ),
    "generalized_cross_entropy": (
        partial(targets.generalized_cross_entropy, q=0.7),
        lambda z, y, n: (1 - p_of(z, y) ** 0.7) / 0.7,
        False,
    ),
    "poly_one": (targets.poly_one, lambda z, y, n: -p_of(z, y).log() + 1 - p_of(z, y), False),
    "expected_accuracy": (targets.expected_accuracy, lambda z, y, n: -p_of(z, y), False),
    "squared_error": (targets.squared_error, lambda z, y, n: 0.5 * (z.softmax(-1) - y).square().sum(-1), False),
    "two_class_rows": (
        targets.two_class_rows,
        lambda z, y, n: F.binary_cross_entropy_with_logits(z, y, reduction="none").sum(-1),
        True,
    ),
    "smooth two_class_rows": (
        [targets.two_class_rows, partial(targets.smooth, epsilon=0.3)],
        lambda z, y, n: F.binary_cross_entropy_with_logits(z, 0.7 * y + 0.15, reduction="none").sum(-1),
        True,
    ),
    "smooth logit_adjusted": (
        [partial(targets.smooth, epsilon=0.3), targets.logit_adjusted],
        lambda z, y, n: F.cross_entropy(z + (n / n.sum()).log(), 0.7 * y + 0.3 / K, reduction="none"),
        True,
    ),
}


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_classifier_steps_down_the_published_loss(name: str, weighted: bool) -> None:
    """With sample weights: each row's loss times its weight, scaled to mean 1."""
    rule, published, value = PUBLISHED[name]
    weight = WEIGHTS if weighted else np.ones(N)
    step = Step(Classifier(rule=rule), LABELS, WEIGHTS if weighted else None)
    one_hot = F.one_hot(torch.from_numpy(LABELS), K).double()
    loss = published(step.outputs, one_hot, counts_of(weight))
    step.is_of((torch.from_numpy(weight / weight.mean()) * loss).mean(), value=value)


def test_rows_of_probabilities_and_class_weights() -> None:
    given = {0: 0.1, 2: 0.7}
    factor = torch.tensor([0.1, 1.0, 0.7, 1.0], dtype=torch.float64)
    labels = torch.from_numpy(LABELS)
    step = Step(Classifier(class_weight=given), LABELS)
    step.is_of((factor[labels] * F.cross_entropy(step.outputs, labels, reduction="none")).mean())
    step = Step(Classifier(class_weight=given, soft_targets=True), SOFT)
    step.is_of(F.cross_entropy(step.outputs, torch.from_numpy(SOFT) * factor))


def test_several_labels_are_summed_within_a_row_and_rows_are_averaged() -> None:
    """The trainer's Z is the rows of X; the public function divides by rows × labels unless it is given Z."""
    step = Step(Classifier(), MANY)
    labels = torch.from_numpy(MANY)
    step.is_of(F.binary_cross_entropy_with_logits(step.outputs, labels.double(), reduction="none").sum(-1).mean())
    rows = targets.two_class_rows(step.outputs)
    assert weighted_cross_entropy(rows, labels, normalizer=N).item() == pytest.approx(step.loss, abs=1e-12)
    assert weighted_cross_entropy(rows, labels).item() == pytest.approx(step.loss / K, abs=1e-12)


COSTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": lambda z, y: 0.5 * F.mse_loss(z[:, 0], y, reduction="none"),
    "absolute": lambda z, y: F.l1_loss(z[:, 0], y, reduction="none"),
    "huber": lambda z, y: F.huber_loss(z[:, 0], y, reduction="none", delta=0.4),
    "gaussian": lambda z, y: -torch.distributions.Normal(z[:, 0], z[:, 1].exp()).log_prob(y),
    "quantile": lambda z, y: sum(
        (
            torch.maximum(level * (y - q), (level - 1) * (y - q))
            for level, q in zip((0.1, 0.5, 0.7), rising(z).T, strict=True)
        ),
        start=torch.zeros_like(y),
    ),
}


def rising(z: Tensor) -> Tensor:
    step = z.exp().log1p()
    return torch.stack((z[:, 1] - step[:, 0], z[:, 1], z[:, 1] + step[:, 2]), dim=-1)


@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("cost", COSTS)
def test_a_regressor_steps_down_the_published_loss(cost: str, weight: Any) -> None:
    step = Step(Regressor(cost=cost, delta=0.4, quantiles=(0.1, 0.7)), NUMBERS, weight)
    unit = (NUMBERS - step.fitted.target_location_) / step.fitted.target_scale_
    share = torch.ones(N, dtype=torch.float64) if weight is None else torch.from_numpy(weight / weight.mean())
    step.is_of((share * COSTS[cost](step.outputs, torch.from_numpy(unit))).mean())


@pytest.mark.parametrize(("kind", "y"), [(Classifier, LABELS), (Regressor, NUMBERS)], ids=["labels", "numbers"])
def test_a_network_in_double_precision_all_the_way(kind: Any, y: Any, tmp_path: Any) -> None:
    one = kind(network=linear, epochs=3, batch_size=7, validation_split=0.3, restarts=2, random_state=0).fit(X, y)
    one.partial_fit(X, y)
    assert {parameter.dtype for parameter in one.network_.parameters()} == {torch.float64}
    one.save(tmp_path / "file")
    np.testing.assert_array_equal(kind.load(tmp_path / "file", network=linear).predict(X), one.predict(X))
    single = np.float32(one.history_[-1]["train/loss"])
    assert float(single) != one.history_[-1]["train/loss"]


# ----------------------------------------------------------------------------------------- refused and interrupted

both = pytest.mark.parametrize(("kind", "y"), [(Classifier, LABELS), (Regressor, NUMBERS)], ids=["labels", "numbers"])


def state(estimator: Any) -> dict[str, Any]:
    """Everything that an estimator holds, by identity."""
    return {name: id(value) for name, value in vars(estimator).items()}


@both
def test_what_is_refused_changes_nothing(kind: Any, y: Any) -> None:
    fitted, fresh = kind(epochs=1, hidden=(4,), random_state=0).fit(X, y), kind(epochs=1, hidden=(4,))
    before = pickle.dumps(fitted)
    wide = np.c_[X, X]
    bad = np.full(N, np.nan)
    for one in (fitted, fresh):
        held = state(one)
        for call, message in (
            (lambda one=one: one.fit(wide, bad), "Input y contains NaN"),
            (lambda one=one: one.fit(wide, y, validation_set=(X, y)), "X has 3 features, but"),
            (lambda one=one: one.fit(wide, y, sample_weight=-np.ones(N)), "Negative values in data passed"),
            (lambda one=one: one.partial_fit(X, bad), "Input y contains NaN"),
            (lambda one=one: one.partial_fit(X, y, sample_weight=np.zeros(N)), "at least one non-zero number"),
            (lambda one=one: one.fit(wide, y, log_dir="/dev/null/nowhere"), "log_dir: cannot create the directory"),
        ):
            with pytest.raises(ValueError, match=message):
                call()
            assert state(one) == held
    assert pickle.dumps(fitted) == before
    with pytest.raises(NotFittedError):
        fresh.predict(X)


class Fragile(nn.Linear):
    """A network that is interrupted when its fuse has burnt down; it never does in evaluation."""

    fuse = 10**9

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            Fragile.fuse -= 1
            if Fragile.fuse < 0:
                raise KeyboardInterrupt
        return super().forward(x)


@pytest.mark.filterwarnings("ignore:training stopped short")
@both
def test_an_interrupted_partial_fit_keeps_its_steps_and_goes_on(kind: Any, y: Any, monkeypatch: Any) -> None:
    one = kind(network=Fragile, batch_size=10, random_state=0, validation_split=0.2).fit(X, y)
    before, epochs, seen = one.fitted_.training.outputs(X), one.n_epochs_, one.fitted_.training.samples_seen
    parameters = copy.deepcopy(one.network_.state_dict())
    monkeypatch.setattr(Fragile, "fuse", 2)
    with pytest.raises(KeyboardInterrupt):
        one.partial_fit(X, y)
    assert any(not torch.equal(parameters[name], now) for name, now in one.network_.state_dict().items())
    assert not one.network_.training
    assert all(parameter.grad is None for parameter in one.network_.parameters())
    assert one.n_epochs_ == epochs
    assert one.fitted_.training.samples_seen == seen
    assert not np.array_equal(one.fitted_.training.outputs(X), before)
    monkeypatch.setattr(Fragile, "fuse", 10**9)
    assert pickle.loads(pickle.dumps(one)).partial_fit(X, y).n_epochs_ == epochs + 1


@both
def test_an_interrupted_refit_is_of_the_new_rows(kind: Any, y: Any, tmp_path: Any) -> None:
    """Columns, network and history belong together, whichever fit they are of."""

    def interrupt(progress: Any) -> None:
        if progress.rounds == 2:
            raise KeyboardInterrupt

    one = kind(epochs=5, hidden=(4,), random_state=0).fit(X, y)
    with pytest.raises(KeyboardInterrupt):
        one.fit(X[:, :2], y, callback=interrupt)
    assert (one.n_features_in_, one.n_epochs_) == (2, 2)
    one.save(tmp_path / "file")
    np.testing.assert_array_equal(kind.load(tmp_path / "file").predict(X[:, :2]), one.predict(X[:, :2]))
    assert one.partial_fit(X[:, :2], y).n_epochs_ == 3


@both
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_named(kind: Any, y: Any, value: float) -> None:
    one = kind(network=linear, epochs=1, random_state=0).fit(X, y)
    with torch.no_grad():
        one.network_.bias[0] = value
    answers = [one.predict, one.predict_proba] if kind is Classifier else [one.predict]
    for answer in answers:
        with pytest.raises(ValueError, match="X: the network's outputs are not finite in row 0"):
            answer(X)


def test_a_network_may_mask_a_class() -> None:
    one = Classifier(network=linear, epochs=1, random_state=0).fit(X, LABELS)
    with torch.no_grad():
        one.network_.bias[1] = -np.inf  # type: ignore[operator,index]
    probabilities = one.predict_proba(X)
    assert (probabilities[:, 1] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


def test_what_was_learnt_cannot_be_set_by_halves() -> None:
    one = Classifier(epochs=1).fit(X, LABELS)
    for name in ("network_", "history_", "classes_", "temperature_", "class_prior_"):
        with pytest.raises(AttributeError):
            setattr(one, name, None)


def test_early_stopping_on_small_data_goes_on_while_the_loss_falls(tmp_path: Path) -> None:
    """Few held-out rows have many ties in accuracy: iris had .802 after 19 epochs on average, over 10 seeds."""
    X, y = load_iris(return_X_y=True)
    settings: dict[str, Any] = {"epochs": 400, "validation_split": 0.2, "stopping": 10}
    score: dict[str, list[float]] = {"accuracy": [], "loss": []}
    for seed in range(10):
        parts = train_test_split(X, y, test_size=0.3, random_state=seed, stratify=y)
        for monitor, scores in score.items():
            one = Classifier(**settings, monitor=monitor, random_state=seed).fit(parts[0], parts[2])
            scores.append(one.score(parts[1], parts[3]))
            watched, best = ("val/accuracy", max) if monitor == "accuracy" else ("val/loss", min)
            values = [epoch[watched] for epoch in one.history_]
            assert best(values) in values[-11:] or one.n_epochs_ == 400
    assert np.mean(score["accuracy"]) > 0.84
    assert np.mean(score["loss"]) > 0.92
    one.save(tmp_path / "file")
    assert Classifier.load(tmp_path / "file").monitor == "loss"
    with pytest.raises(ValueError, match='monitor must be "accuracy" or "loss", got \'val_loss\''):
        Classifier(monitor="val_loss").fit(X, y)
