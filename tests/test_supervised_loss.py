"""The supervised loss: the order of rules, what each is given, and what comes of them in the estimator."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs
from torch import Tensor, nn
from torch.nn import functional as F

from rlce import Classifier, targets
from rlce.heads import Bernoulli, Categorical
from rlce.supervised.loss import (
    Batch,
    Computed,
    Loss,
    class_loss,
    counts_of,
    from_json,
    read_rules,
    to_json,
)

K = 4


class Linear(nn.Module):
    """Logits that depend on the inputs, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, K, generator=torch.Generator().manual_seed(1), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def data(rows: int = 30, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(K, (rows,), generator=generator)
    labels[:K] = torch.arange(K)
    weights = torch.rand(rows, generator=generator, dtype=torch.float64) + 0.1
    return inputs, labels, weights / weights.mean()


def gradient(loss: Tensor, network: nn.Module) -> Tensor:
    return torch.autograd.grad(loss, list(network.parameters()))[0]


def prepared(rule: Any, labels: Tensor, weights: Tensor, classes: int = K) -> Loss:
    """Of one of K classes a row, or of any subset of labels, in double precision."""
    head = Bernoulli(labels.shape[-1]) if labels.ndim == 2 else Categorical(classes)
    counts = counts_of(labels, weights, head)
    return class_loss(head, read_rules(rule), labels, weights, counts, None, torch.zeros(0, dtype=torch.float64))


def computed(loss: Loss, network: nn.Module, inputs: Tensor, labels: Tensor, weights: Tensor) -> Computed:
    return loss(network, Batch(inputs, labels, weights), torch.Generator().manual_seed(0))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-10)


def test_all_stages_together_against_the_formula_written_out() -> None:
    """Class weights of focal loss on smoothed labels under adjusted logits, by autograd of the loss itself."""
    inputs, labels, weights = data()
    rules = prepared(
        [targets.inverse_frequency, partial(targets.focal, gamma=1.5), targets.logit_adjusted, targets.smooth],
        labels,
        weights,
    )
    network = Linear()
    found = gradient(computed(rules, network, inputs, labels, weights).loss, network)
    counts = torch.zeros(K, dtype=torch.float64).index_add(0, labels, weights)
    log_p = (network(inputs) + (counts / counts.sum()).log()).log_softmax(-1)
    soft = 0.9 * F.one_hot(labels, K).double() + 0.1 / K
    class_weights = (1 / counts) * K / (1 / counts).sum()
    published = -(soft * (1 - log_p.exp()) ** 1.5 * log_p).sum(-1)
    close(found, gradient((weights * (class_weights * soft).sum(-1) * published).mean(), network))


@pytest.mark.parametrize(
    "rule",
    [
        targets.focal, targets.focal_modulated, targets.generalized_cross_entropy, targets.poly_one,
        targets.expected_accuracy, targets.squared_error,
    ],
)  # fmt: skip
@pytest.mark.parametrize("classes", [2, K])
def test_class_weights_are_weights_of_rows_whatever_the_rule_of_outputs(rule: Any, classes: int) -> None:
    inputs, labels, weights = data()
    labels = labels % classes
    network = Linear()
    network.weight = nn.Parameter(network.weight[:, :classes].detach().clone())
    factor = torch.arange(1.0, classes + 1)
    by_class = prepared([rule, lambda counts: factor], labels, weights, classes)
    by_row = prepared(rule, labels, weights, classes)
    found = gradient(computed(by_class, network, inputs, labels, weights).loss, network)
    close(found, gradient(computed(by_row, network, inputs, labels, weights * factor[labels]).loss, network))
    assert (found - gradient(computed(by_row, network, inputs, labels, weights).loss, network)).abs().max() > 1e-3


def test_the_order_in_the_list_does_not_matter() -> None:
    inputs, labels, weights = data()
    rules: list[Any] = [targets.focal, targets.smooth, targets.logit_adjusted, targets.class_balanced]
    network = Linear()
    losses = [
        computed(prepared(order, labels, weights), network, inputs, labels, weights).loss
        for order in (rules, rules[::-1])
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("rule", "shape"),
    [(targets.one_hot, (30, K)), (partial(targets.focal, gamma=0.0), (30,))],
    ids=["one_hot", "focal 0"],
)
def test_what_changes_nothing_is_plain_cross_entropy(rule: Any, shape: tuple[int, ...]) -> None:
    inputs, labels, weights = data()
    network = Linear()
    loss, outputs, target, *_ = computed(prepared(rule, labels, weights), network, inputs, labels, weights)
    torch.testing.assert_close(loss, (weights * F.cross_entropy(network(inputs), labels, reduction="none")).mean())
    assert outputs.shape == (30, K)
    assert target.shape == shape  # focal weights rows and leaves the class indices as they are


def test_class_weights_by_index_are_those_by_rows() -> None:
    inputs, labels, weights = data()
    network = Linear()
    by_index = computed(prepared(targets.inverse_frequency, labels, weights), network, inputs, labels, weights).loss
    by_rows = prepared([targets.inverse_frequency, targets.one_hot], labels, weights)
    close(by_index, computed(by_rows, network, inputs, labels, weights).loss)


def test_several_labels_are_rows_of_two_classes() -> None:
    """Against torch's own binary cross-entropy, plain, smoothed and balanced by label."""
    inputs, _, weights = data()
    labels = torch.randint(2, (30, K), generator=torch.Generator().manual_seed(3))
    network = Linear()
    logits = network(inputs)
    plain = computed(prepared(None, labels, weights, 2), network, inputs, labels, weights).loss
    binary = F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none").sum(-1)
    close(plain, (weights * binary).mean())
    smoothed = computed(prepared(targets.smooth, labels, weights, 2), network, inputs, labels, weights).loss
    binary = F.binary_cross_entropy_with_logits(logits, 0.9 * labels.double() + 0.05, reduction="none").sum(-1)
    close(smoothed, (weights * binary).mean())
    yes = weights @ labels.double()
    no = weights.sum() - yes
    balanced = computed(prepared(targets.inverse_frequency, labels, weights, 2), network, inputs, labels, weights).loss
    factor = 2 * torch.where(labels == 1, 1 / yes, 1 / no) / (1 / yes + 1 / no)
    binary = (factor * F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none")).sum(-1)
    close(balanced, (weights * binary).mean())


def test_squared_error_on_softmax_and_on_sigmoids() -> None:
    inputs, labels, weights = data()
    network = Linear()
    on_softmax = computed(prepared(targets.squared_error, labels, weights), network, inputs, labels, weights).loss
    p, q = network(inputs).softmax(-1), F.one_hot(labels, K).double()
    close(gradient(on_softmax, network), gradient((weights * 0.5 * ((p - q) ** 2).sum(-1)).mean(), network))
    multi = F.one_hot(labels, K)
    rules = prepared([targets.two_class_rows, targets.squared_error], multi, weights, 2)
    assert rules.rules.one_vs_all
    on_sigmoids = computed(rules, network, inputs, multi, weights).loss
    p = network(inputs).sigmoid()
    close(gradient(on_sigmoids, network), gradient((weights * ((p - q) ** 2).sum(-1)).mean(), network))


# ------------------------------------------------------------------------------------------------- rules that draw


def test_drawn_smoothing_is_smoothing_in_the_mean() -> None:
    labels = torch.tensor([0, 1, 2, 2])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([targets.drawn_smoothing(labels, 3, generator, epsilon=0.3) for _ in range(20_000)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    # The standard error of a frequency is at most 0.5/sqrt(20,000) = 0.0035.
    torch.testing.assert_close(drawn.mean(0), targets.smooth(labels, 3, epsilon=0.3), rtol=0.0, atol=0.015)
    assert torch.equal(targets.drawn_smoothing(labels, 3, generator, 0.0), targets.one_hot(labels, 3))


def test_balanced_sampling_draws_classes_alike_and_rows_by_weight() -> None:
    labels, weights = torch.tensor([0, 0, 0, 2]), torch.tensor([1.0, 1.0, 2.0, 5.0])
    found = targets.balanced_sampling(labels, weights, classes=3)  # class 1 has no row
    torch.testing.assert_close(found, torch.tensor([0.125, 0.125, 0.25, 0.5], dtype=torch.float64))
    rows = targets.one_hot(labels, 3)
    torch.testing.assert_close(targets.balanced_sampling(rows, weights, classes=3), found)


def test_balanced_sampling_in_the_estimator_reaches_every_class_alike() -> None:
    X, y = np.zeros((200, 1)), np.repeat([0, 1], [180, 20])
    settings: dict[str, Any] = {"hidden": (), "epochs": 100, "learning_rate": 0.02, "batch_size": 50, "random_state": 0}
    drawn = Classifier(rule=targets.balanced_sampling, **settings).fit(X, y)
    np.testing.assert_allclose(drawn.predict_proba(X[:1]), 0.5, atol=0.1)
    np.testing.assert_allclose(drawn.network_prior_, 0.5)
    np.testing.assert_allclose(drawn.class_prior_, [0.9, 0.1])


def test_mixup_mixes_inputs_and_targets_with_one_share() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2, 3])
    inputs = targets.one_hot(labels, K)  # so that inputs must stay equal to the targets
    shares = []
    for _ in range(2_000):
        mixed, target, weights = targets.mixup(inputs, labels, K, torch.ones(4), generator, alpha=0.5)
        torch.testing.assert_close(mixed, target)
        assert torch.equal(weights, torch.ones(4))
        shares.append(float(target.amax(-1).min()))
    values = torch.distributions.Beta(0.5, 0.5).sample((100_000,))
    kept = torch.tensor([share for share in shares if share < 1.0])  # 1 where every row is its own partner
    expected = torch.maximum(values, 1 - values).mean()
    assert abs(kept.mean() - expected) < 0.02


def test_mixup_of_weights_is_mixup_of_repeated_rows() -> None:
    """The expected loss, as the mean of many draws: weight 2 equals a repeated row."""
    inputs, labels, _ = data(rows=5)
    weight = torch.tensor([1.0, 2.0, 1.0, 6.0, 1.0], dtype=torch.float64)
    network, again = Linear(), weight.long()

    def expected(x: Tensor, y: Tensor, w: Tensor, draws: int = 4_000) -> float:
        generator, total = torch.Generator().manual_seed(0), 0.0
        for _ in range(draws):
            mixed, target, products = targets.mixup(x, y, K, w, generator, alpha=0.5)
            total += float(products @ -(target * network(mixed).detach().log_softmax(-1)).sum(-1))
        return total / draws * len(w) / float(w.sum()) ** 2

    repeated = expected(inputs.repeat_interleave(again, 0), labels.repeat_interleave(again), torch.ones(11).double())
    assert expected(inputs, labels, weight) == pytest.approx(repeated, rel=0.02)


# ----------------------------------------------------------------------------------------------- priors


@pytest.mark.parametrize(
    "rule", [None, targets.inverse_frequency, targets.class_balanced, targets.logit_adjusted, targets.balanced_sampling]
)
def test_prior_correction_undoes_every_re_weighting(rule: Any) -> None:
    """Two inputs, whose true class probabilities are counts: after correction every rule finds the same ones."""
    X = np.repeat([[0.0], [1.0]], [300, 100], axis=0)
    y = np.concatenate([np.repeat([0, 1], [285, 15]), np.repeat([0, 1], [60, 40])])
    settings: dict[str, Any] = {"hidden": (), "epochs": 1500, "learning_rate": 0.02, "random_state": 0}
    settings["batch_size"] = 400
    one = Classifier(rule=rule, prior="training", **settings).fit(X, y)
    tolerance = 0.06 if rule is targets.balanced_sampling else 2e-3  # drawing leaves noise
    np.testing.assert_allclose(one.predict_proba([[0.0], [1.0]])[:, 1], [0.05, 0.4], atol=tolerance)
    one.set_params(prior=[0.5, 0.5])
    odds = np.array([15 / 285, 40 / 60]) * (345 / 55)
    np.testing.assert_allclose(one.predict_proba([[0.0], [1.0]])[:, 1], odds / (1 + odds), atol=2 * tolerance)


def test_class_weights_inside_a_rule_of_labels_count_for_the_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlce.supervised.loss._BLOCK", 2)  # one class at a time, as with many classes
    X = np.repeat([[0.0], [1.0]], [300, 100], axis=0)
    y = np.concatenate([np.repeat([0, 1], [285, 15]), np.repeat([0, 1], [60, 40])])

    def rule(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
        return targets.one_hot(labels, classes, dtype) * torch.tensor([1.0, 9.0])

    settings: dict[str, Any] = {
        "hidden": (),
        "random_state": 0,
        "epochs": 1500,
        "learning_rate": 0.02,
        "batch_size": 400,
    }
    one = Classifier(rule=rule, prior="training", **settings).fit(X, y)
    np.testing.assert_allclose(one.predict_proba([[0.0], [1.0]])[:, 1], [0.05, 0.4], atol=2e-3)


# ------------------------------------------------------------------------------------------------- rules by name

RECOMMENDED = [targets.logit_adjusted, partial(targets.generalized_cross_entropy, q=0.4)]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("focal", targets.focal),
        (["smooth", partial(targets.focal, gamma=1.0)], [targets.smooth, partial(targets.focal, gamma=1.0)]),
        ("two_class_rows", targets.two_class_rows),
        ("imbalanced", RECOMMENDED),
        (["imbalanced", "smooth"], [*RECOMMENDED, targets.smooth]),
    ],
)
def test_a_rule_by_its_name_is_the_rule(name: Any, rule: Any, tmp_path: Path) -> None:
    X, y = make_blobs(60, centers=3, random_state=0)
    settings: dict[str, Any] = {"hidden": (), "epochs": 3, "random_state": 0}
    plain, expected, named = (Classifier(rule=each, **settings).fit(X, y) for each in (None, rule, name))
    np.testing.assert_array_equal(named.predict_proba(X), expected.predict_proba(X))
    assert np.abs(named.predict_proba(X) - plain.predict_proba(X)).max() > 1e-6
    named.save(tmp_path / "c")
    loaded = Classifier.load(tmp_path / "c")
    assert str(loaded.rule) == str(loaded.get_params()["rule"]) == str(clone(loaded).rule)
    assert loaded.rule == name or not isinstance(name, str)
    np.testing.assert_array_equal(loaded.fit(X, y).predict_proba(X), expected.predict_proba(X))


# ----------------------------------------------------------------------------------------- rules that return NaN


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("stage", ["labels", "logits", "targets"])
@pytest.mark.parametrize("later", [False, True], ids=["at once", "in training"])
def test_nan_from_a_rule_names_the_rule_and_the_stage(stage: str, value: float, later: bool) -> None:
    steps = 0

    def spoilt(rows: Tensor) -> Tensor:
        nonlocal steps
        steps += len(rows) == 60 and torch.is_grad_enabled()  # a gradient step; it uses all rows
        return torch.where(torch.arange(len(rows))[:, None] == 1, value, rows) if steps == 3 or not later else rows

    def of_labels(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
        return spoilt(targets.one_hot(labels, classes, dtype))

    def of_logits(logits: Tensor) -> Tensor:
        return spoilt(logits)

    def of_targets(targets: Tensor, logits: Tensor) -> Tensor:
        return spoilt(targets)

    rule = {"labels": of_labels, "logits": of_logits, "targets": of_targets}[stage]
    X, y = make_blobs(60, centers=3, random_state=0)
    rules = ["one_hot", rule, "focal", "logit_adjusted"]
    one = Classifier(rule=rules, hidden=(), epochs=5, batch_size=60, random_state=0)
    message = rf'rule: of_{stage} \(stage "{stage}"\) must return finite numbers, got .*{value}.* in row 1'
    with pytest.raises(ValueError, match=message):
        one.fit(X, y)
    assert hasattr(one, "fitted_") == later  # what was learnt before is kept, without the spoilt step
    if later:
        assert one.n_epochs_ == 2
        assert np.isfinite(one.predict_proba(X)).all()


def test_a_rule_is_not_blamed_for_the_network() -> None:
    X, y = make_blobs(60, centers=3, random_state=0)
    one = Classifier(rule="focal", hidden=(8,), optimizer="sgd", learning_rate=1e30, epochs=20, random_state=0)
    with pytest.raises(FloatingPointError, match="at gradient step"):
        one.fit(X, y)


# -------------------------------------------------------------------------------------------- files and bad input


def test_rules_as_json() -> None:
    rules: list[Any] = [
        targets.focal,
        partial(targets.smooth, epsilon=0.2),
        partial(targets.logit_adjusted, counts=torch.ones(2)),
    ]
    written = to_json(rules)
    assert written == [
        {"name": "focal", "arguments": {}},
        {"name": "smooth", "arguments": {"epsilon": 0.2}},
        {"name": "logit_adjusted", "arguments": {"counts": [1.0, 1.0]}},
    ]
    read = from_json(written)
    assert isinstance(read, list)
    assert read[0] is targets.focal
    assert read[1].keywords == {"epsilon": 0.2}  # type: ignore[attr-defined]
    assert to_json(lambda labels: labels) == "foreign"
    for name in ("os", "Tensor", "a_rule_of_an_earlier_version"):
        unknown = from_json({"name": name, "arguments": {"path": "x"}})
        with pytest.raises(ValueError, match="the library does not have the saved rule; pass it to load"):
            Classifier(rule=unknown).fit([[0.0], [1.0]], [0, 1])


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (3, TypeError, "rule must be a function, a name or a sequence of them, got 3"),
        ([None], TypeError, "rule must be a function, a name or a sequence of them, got None"),
        ("focall", ValueError, "no rule has the name 'focall'; the names are imbalanced, one_hot, .*, focal, "),
        (["smooth", "tempered"], ValueError, "tempered needs temperature; bind it with functools.partial"),
        (lambda y, k: y, ValueError, "the first parameter of <lambda> must be one of all_labels, labels, .* got 'y'"),
        (lambda labels, teacher: labels, ValueError, "<lambda> needs teacher; bind it with functools.partial"),
        (lambda labels: labels, ValueError, r'rule: <lambda> \(stage "labels"\) must return .* \[2, 2\], got \[2\]'),
        (lambda labels, classes: 1.0, ValueError, r"must return a tensor of shape \[2, 2\], got float"),
        (lambda logits: logits[:, :1], ValueError, r'\(stage "logits"\) must .* of shape \[1, 2\], got \[1, 1\]'),
        (lambda targets, logits: logits.sum(), ValueError, r'\(stage "targets"\) must .* shape \[2, 2\], got \[\]'),
        (lambda counts: counts.sum(), ValueError, r'\(stage "counts"\) must return .* of shape \[2\], got \[\]'),
        (
            lambda counts: torch.tensor([3.0, -1.0]),
            ValueError,
            r'\(stage "counts"\) must return finite numbers >= 0, not all zero, got -1.0 to 3.0',
        ),
        (
            lambda counts: counts * torch.nan,
            ValueError,
            "must return finite numbers >= 0, not all zero, got nan to nan",
        ),
        (lambda counts: -counts, ValueError, "must return finite numbers >= 0, not all zero, got -5.0 to -5.0"),
        (lambda all_labels: 0.0 * all_labels, ValueError, r'\(stage "all_labels"\) must return finite numbers >= 0'),
        (lambda all_labels: torch.ones(3), ValueError, r"must return a tensor of shape \[10\], got \[3\]"),
        (partial(targets.focal, gamma=-1.0), ValueError, "gamma must be at least 0, got -1.0"),
    ],
)
def test_rules_that_cannot_work_say_so_before_training(rule: Any, error: type[Exception], message: str) -> None:
    X, y = np.arange(10.0)[:, None], np.repeat([0, 1], 5)
    with pytest.raises(error, match=message):
        Classifier(rule=rule, hidden=(), epochs=1).fit(X, y)
