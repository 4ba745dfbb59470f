"""Heads: cost against torch.distributions, entropy as −E log p, samples against the probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from torch.nn import functional as F

from rlce.heads import Bernoulli, Categorical, Gaussian, Head, MultiCategorical, head_for, squared

INF = math.inf
ALMOST_ONE = np.nextafter(1.0, 0.0)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------ Categorical


def test_categorical_cost_is_minus_the_log_probability() -> None:
    logits, labels = 2 * normal(4, 3, 5), torch.arange(12).reshape(4, 3) % 5
    expected = -torch.distributions.Categorical(logits=logits).log_prob(labels)
    torch.testing.assert_close(Categorical(5).cost(logits, labels), expected)
    dense = Categorical(5).cost(logits, F.one_hot(labels, 5).double())
    torch.testing.assert_close(dense, expected)


def test_categorical_entropy_is_minus_the_expected_log_probability() -> None:
    head, logits = Categorical(5), 2 * normal(4, 3, 5)
    # All five targets with their own probability: the exact sum over outcomes.
    costs = torch.stack([head.cost(logits, torch.full((4, 3), k)) for k in range(5)], dim=-1)
    expected = (logits.softmax(-1) * costs).sum(-1)
    assert head.entropy(logits).shape == (4, 3)
    torch.testing.assert_close(head.entropy(logits), expected, rtol=1e-13, atol=1e-13)
    uniform = Categorical(7).entropy(torch.full((2, 7), 3.0, dtype=torch.float64))
    np.testing.assert_allclose(uniform, math.log(7), rtol=1e-14)


def test_categorical_entropy_ignores_masked_classes_in_value_and_gradient() -> None:
    small = normal(6, 3).requires_grad_()
    masked = torch.cat([small.detach(), torch.full((6, 1), -INF, dtype=torch.float64)], dim=1).requires_grad_()
    without, within = Categorical(3).entropy(small), Categorical(4).entropy(masked)
    torch.testing.assert_close(within, without, rtol=1e-14, atol=1e-14)
    (expected,) = torch.autograd.grad(without.sum(), small)
    (found,) = torch.autograd.grad(within.sum(), masked)
    torch.testing.assert_close(found[:, :3], expected, rtol=1e-13, atol=1e-13)
    assert (found[:, 3] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_categorical_frequencies_match_the_probabilities(dtype: type) -> None:
    logits = np.array([0.0, -1.0, 2.0, 1.0, -3.0], dtype)
    draws = 100_000
    uniforms = np.random.default_rng(0).random(draws)
    sample = Categorical(5).sample(np.tile(logits, (draws, 1)), uniforms)
    observed = np.bincount(sample, minlength=5)
    expected = draws * torch.from_numpy(logits).double().softmax(-1).numpy()
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert statistic < chi2.ppf(1 - 1e-4, df=4)  # a right sampler fails with one seed in 10,000; the seed is fixed


@pytest.mark.parametrize("uniform", [0.0, 0.5, ALMOST_ONE])
@pytest.mark.parametrize("impossible", [-INF, -2000.0], ids=["masked", "underflow"])
@pytest.mark.parametrize("possible", [[0], [2], [4], [1, 3], [0, 1, 2], [2, 3, 4]], ids=str)
def test_a_class_of_probability_zero_is_never_drawn(possible: list[int], impossible: float, uniform: float) -> None:
    generator = np.random.default_rng(0)
    logits = np.full((200, 5), impossible)
    logits[:, possible] = generator.normal(scale=5, size=(200, len(possible)))  # 200 roundings of the total
    drawn = Categorical(5).sample(logits, np.full(200, uniform))
    assert set(drawn.tolist()) <= set(possible)
    if uniform != 0.5:
        assert (drawn == (possible[0] if uniform == 0.0 else possible[-1])).all()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(-20, 20), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_the_sample_inverts_the_cumulative_distribution(logits: list[float], seed: int) -> None:
    uniforms = np.sort(np.random.default_rng(seed).random(50))
    sample = Categorical(len(logits)).sample(np.tile(logits, (50, 1)), uniforms)
    assert (np.diff(sample) >= 0).all()  # monotone in the uniform
    p = torch.tensor(logits, dtype=torch.float64).softmax(-1).numpy()
    above, below = np.cumsum(p)[sample], np.cumsum(p)[sample] - p[sample]
    assert (below - 1e-12 <= uniforms).all()
    assert (uniforms <= above + 1e-12).all()


def test_categorical_sample_leaves_its_input_alone_and_keeps_leading_dimensions() -> None:
    logits = np.array([[[0.0, 9.0], [9.0, 0.0]]])
    before = logits.copy()
    assert Categorical(2).sample(logits, np.array([[0.5, 0.5]])).tolist() == [[1, 0]]
    assert Categorical(2).mode(logits).tolist() == [[1, 0]]
    np.testing.assert_array_equal(logits, before)


def test_start_shifts_indices_to_actions() -> None:
    assert Categorical(3, start=-4).to_action(np.array([0, 1, 2])).tolist() == [-4, -3, -2]
    assert Categorical(3).to_action(np.array([0, 1, 2])).tolist() == [0, 1, 2]


# --------------------------------------------------------------------------------------------------- Gaussian


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_gaussian_cost_is_minus_the_log_density(scale: float) -> None:
    mean, target = normal(4, 3, 1), normal(4, 3, 1, seed=1)
    expected = -torch.distributions.Normal(mean, scale).log_prob(target).squeeze(-1)
    cost = Gaussian(scale).cost(mean, target)
    assert cost.shape == (4, 3)
    torch.testing.assert_close(cost, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_gaussian_entropy_and_moments_by_sampling(scale: float) -> None:
    head, draws = Gaussian(scale), 200_000
    mean = np.full((draws, 1), -2.0)
    sample = head.sample(mean, np.random.default_rng(0).random((draws, 1)))
    costs = head.cost(torch.from_numpy(mean), torch.from_numpy(sample))
    entropy = head.entropy(torch.from_numpy(mean))
    assert entropy.shape == (draws,)
    # Four standard errors: a right head fails with one seed in 16,000; the seed is fixed.
    assert abs(costs.mean() - entropy[0]) < 4 * costs.std() / math.sqrt(draws)
    assert abs(sample.mean() + 2.0) < 4 * scale / math.sqrt(draws)
    assert abs(sample.std() / scale - 1.0) < 4 / math.sqrt(2 * draws)


def test_gaussian_mode_is_the_mean() -> None:
    assert Gaussian(2.0).mode(np.array([[1.5], [-3.0]])).tolist() == [[1.5], [-3.0]]


def test_squared_is_the_unit_gaussian_without_its_constant() -> None:
    outputs, target = normal(6, 1).requires_grad_(), normal(6, 1, seed=1)
    cost, error = Gaussian().cost(outputs, target), squared(outputs, target)
    difference = (cost - error.squeeze(-1)).detach()
    np.testing.assert_allclose(difference, 0.5 * math.log(2 * math.pi), rtol=1e-13)
    (expected,) = torch.autograd.grad(cost.sum(), outputs)
    (found,) = torch.autograd.grad(error.sum(), outputs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(found, (outputs - target).detach(), rtol=0, atol=1e-15)


LEARNT = Gaussian(scale=None, dimensions=3)


def as_normal(head: Gaussian, outputs: torch.Tensor) -> torch.distributions.Distribution:
    mean = outputs[..., : head.dimensions]
    scale = outputs[..., head.dimensions :].exp() if head.scale is None else torch.full_like(mean, head.scale)
    return torch.distributions.Independent(torch.distributions.Normal(mean, scale), 1)


def test_learnt_gaussian_cost_and_entropy_are_torch_s_with_their_gradients() -> None:
    outputs, target = normal(4, 2, 6).requires_grad_(), normal(4, 2, 3, seed=1)
    expected = as_normal(LEARNT, outputs)
    cost, entropy = LEARNT.cost(outputs, target), LEARNT.entropy(outputs)
    for found, wanted in ((cost, -expected.log_prob(target)), (entropy, expected.entropy())):
        assert found.shape == (4, 2)
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)
        gradients = [torch.autograd.grad(value.sum(), outputs, retain_graph=True)[0] for value in (found, wanted)]
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_a_normal_is_made_of_its_uniform_and_none_is_infinite() -> None:
    uniforms = np.array([[0.0, 0.5, ALMOST_ONE], [0.025, 0.5, 0.975]])
    outputs = np.tile([1.0, 2.0, 3.0, 0.0, np.log(2.0), np.log(0.5)], (2, 1))
    sample = LEARNT.sample(outputs, uniforms)
    assert sample.dtype == np.float32
    assert np.isfinite(sample).all()
    np.testing.assert_allclose(sample[1], [1.0 - 1.959964, 2.0, 3.0 + 0.5 * 1.959964], rtol=1e-6)
    np.testing.assert_allclose(sample[0], [1.0 - 8.2924, 2.0, 3.0 + 0.5 * 8.2095], rtol=1e-4)
    np.testing.assert_array_equal(LEARNT.mode(outputs), outputs[:, :3])


def test_the_raw_sample_is_scored_and_the_clipped_one_sent() -> None:
    """Scored by the density of what was drawn: the clipped action would pull the policy towards its bounds."""
    head = head_for(gymnasium.spaces.Box(-1.0, 1.0, (1,)))
    outputs = np.array([[0.9, 0.0]], np.float32).repeat(1000, axis=0)
    raw = head.sample(outputs, np.random.default_rng(0).random((1000, 1)))
    sent = head.to_action(raw)
    outside = np.abs(raw) > 1
    assert 0.3 < outside.mean() < 0.6
    assert np.abs(sent).max() == 1.0
    np.testing.assert_array_equal(sent[~outside], raw[~outside])
    mean = torch.from_numpy(outputs).double().requires_grad_()
    scores = []
    for action in (raw, sent):
        (gradient,) = torch.autograd.grad(head.cost(mean, torch.from_numpy(action).double()).mean(), mean)
        scores.append(float(gradient[:, 0].sum()))
    assert abs(scores[0]) < 4 / math.sqrt(1000)  # E ∇ log p = 0, of what was drawn
    assert scores[1] > 0.3  # and not of what was sent


BOXES = {
    "a scalar": gymnasium.spaces.Box(-2.0, 3.0, ()),
    "2-D": gymnasium.spaces.Box(-2.0, 3.0, (2, 3)),
    "unbounded": gymnasium.spaces.Box(-np.inf, np.inf, (2,)),
    "half bounded": gymnasium.spaces.Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 0.1], np.float32)),
    "float64": gymnasium.spaces.Box(-0.1, 0.3, (2,), np.float64),
    "float16": gymnasium.spaces.Box(-0.1, 0.3, (2,), np.float16),
    "integers": gymnasium.spaces.Box(-3, 5, (2,), np.int32),
    "bytes": gymnasium.spaces.Box(0, 255, (2,), np.uint8),
}


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("name", BOXES)
def test_what_is_sent_lies_in_the_box(name: str, rescale: bool) -> None:
    space = BOXES[name]
    if rescale and not space.is_bounded():
        with pytest.raises(ValueError, match="rescale needs a space with finite bounds"):
            head_for(space, rescale=True)
        return
    head = head_for(space, rescale=rescale)
    stored = (10 * np.random.default_rng(0).standard_normal((500, *head.action_shape))).astype(np.float32)
    stored[:200] /= 20
    sent = head.to_action(stored)
    assert sent.dtype == space.dtype
    assert all(space.contains(np.asarray(action)) for action in sent)
    if rescale:
        corners = head.to_action(np.array([[-1.0], [0.0], [1.0]], np.float32).repeat(head.action_shape[0], axis=1))
        np.testing.assert_array_equal(corners[0], space.low)
        np.testing.assert_array_equal(corners[2], space.high)
        middle = (space.low.astype(float) + space.high.astype(float)) / 2
        np.testing.assert_allclose(corners[1], middle, atol=0.5 if sent.dtype.kind in "iu" else 1e-4)
    elif sent.dtype == np.float32:
        inside = (stored >= space.low.ravel()) & (stored <= space.high.ravel())
        np.testing.assert_array_equal(sent.reshape(stored.shape)[inside], stored[inside])


# ----------------------------------------------------------------------------- MultiCategorical and Bernoulli

SEVERAL = MultiCategorical((3, 2, 4), start=(1, 0, -5))


def parts_of(outputs: torch.Tensor) -> list[torch.distributions.Categorical]:
    return [torch.distributions.Categorical(logits=part) for part in outputs.split((3, 2, 4), dim=-1)]


def every_subset(labels: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.tensor([0, 1])] * labels).reshape(-1, labels)


def test_several_choices_cost_and_entropy_are_sums_and_exact() -> None:
    outputs = 2 * normal(4, 2, 9)
    every_target = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(4))
    costs = torch.stack([SEVERAL.cost(outputs, target.expand(4, 2, 3)) for target in every_target], dim=-1)
    for j, target in enumerate(every_target):
        expected = -sum(part.log_prob(k) for part, k in zip(parts_of(outputs), target, strict=True))
        torch.testing.assert_close(costs[..., j], expected, rtol=1e-13, atol=1e-13)
    # The exact sum over all 24 outcomes, whose probabilities sum to one.
    np.testing.assert_allclose((-costs).exp().sum(-1), 1.0, rtol=1e-13)
    torch.testing.assert_close(SEVERAL.entropy(outputs), ((-costs).exp() * costs).sum(-1), rtol=1e-13, atol=1e-13)
    one_hot = torch.cat([F.one_hot(every_target[:, d], k) for d, k in enumerate((3, 2, 4))], dim=-1).double()
    row = outputs[0, :1].expand(24, 9)
    torch.testing.assert_close(SEVERAL.cost(row, one_hot), costs[0, 0], rtol=1e-13, atol=1e-13)


def test_bernoulli_cost_and_entropy_are_exact() -> None:
    head, outputs = Bernoulli(4), 3 * normal(5, 4)
    peer = torch.distributions.Independent(torch.distributions.Bernoulli(logits=outputs), 1)
    costs = torch.stack([head.cost(outputs, subset.expand(5, 4)) for subset in every_subset(4)], dim=-1)
    expected = torch.stack([-peer.log_prob(subset.double()) for subset in every_subset(4)], dim=-1)
    torch.testing.assert_close(costs, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(head.entropy(outputs), ((-costs).exp() * costs).sum(-1), rtol=1e-13, atol=1e-13)
    soft = outputs.sigmoid()  # a target may be a probability: at the head's own, the cost is the entropy
    torch.testing.assert_close(head.cost(outputs, soft), head.entropy(outputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_is_finite_at_extreme_logits(dtype: torch.dtype) -> None:
    head, outputs = Bernoulli(2), torch.tensor([[1000.0, -1000.0]], dtype=dtype, requires_grad=True)
    for value in (head.cost(outputs, torch.tensor([[0, 0]])), head.entropy(outputs), head.kl(outputs, -outputs)):
        (gradient,) = torch.autograd.grad(value.sum(), outputs)
        assert value.isfinite().all()
        assert gradient.isfinite().all()
    assert head.cost(outputs, torch.tensor([[0, 0]])).tolist() == [1000.0]
    assert head.cost(outputs, torch.tensor([[1, 0]])).tolist() == [0.0]


def test_several_choices_and_bits_are_drawn_with_their_probabilities_independently() -> None:
    draws, generator = 100_000, np.random.default_rng(0)
    logits = normal(9, seed=3).numpy()
    sample = SEVERAL.sample(np.tile(logits, (draws, 1)), generator.random((draws, 3)))
    joint = np.einsum("i,j,k->ijk", *(part.probs.numpy() for part in parts_of(torch.from_numpy(logits))))
    observed = np.zeros((3, 2, 4))
    np.add.at(observed, tuple(sample.T), 1)
    assert ((observed - draws * joint) ** 2 / (draws * joint)).sum() < chi2.ppf(1 - 1e-4, df=23)
    bits = Bernoulli(3).sample(np.tile(logits[:3], (draws, 1)), generator.random((draws, 3)))
    p = 1 / (1 + np.exp(-logits[:3]))
    joint = np.einsum("i,j,k->ijk", *np.stack([1 - p, p], axis=1))
    observed = np.zeros((2, 2, 2))
    np.add.at(observed, tuple(bits.T), 1)
    assert ((observed - draws * joint) ** 2 / (draws * joint)).sum() < chi2.ppf(1 - 1e-4, df=7)


def test_modes_and_actions_of_several_choices_and_bits() -> None:
    outputs = np.array([[0.0, 1.0, 0.5, 3.0, 2.0, 0.0, 0.0, 9.0, 0.0]])
    assert SEVERAL.mode(outputs).tolist() == [[1, 0, 2]]
    assert SEVERAL.to_action(np.array([[1, 0, 2]])).tolist() == [[2, 0, -3]]
    assert Bernoulli(4, (2, 2)).mode(np.array([[-1.0, 2.0, 0.1, -0.1]])).tolist() == [[0, 1, 1, 0]]
    action = Bernoulli(4, (2, 2)).to_action(np.array([[0, 1, 1, 0]]))
    assert action.tolist() == [[[0, 1], [1, 0]]]
    assert action.dtype == np.int8


# ------------------------------------------------------------------------------------------------- every head

HEADS: dict[str, Head] = {
    "Categorical": Categorical(5),
    "MultiCategorical": SEVERAL,
    "Bernoulli": Bernoulli(3),
    "Gaussian, fixed": Gaussian(0.5, 2),
    "Gaussian, learnt": LEARNT,
}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


def peers(head: Head, outputs: torch.Tensor) -> list[torch.distributions.Distribution]:
    """Independent parts of the same distribution, by torch."""
    if isinstance(head, Categorical):
        return [torch.distributions.Categorical(logits=outputs)]
    if isinstance(head, MultiCategorical):
        return list(parts_of(outputs))
    if isinstance(head, Bernoulli):
        return [torch.distributions.Independent(torch.distributions.Bernoulli(logits=outputs), 1)]
    assert isinstance(head, Gaussian)
    return [as_normal(head, outputs)]


@every_head
def test_kl_and_entropy_and_their_gradients_are_torch_s(head: Head) -> None:
    outputs, reference = (normal(4, 2, head.n_outputs, seed=seed).requires_grad_() for seed in (0, 1))
    kl = head.kl(outputs, reference)
    pairs = zip(peers(head, outputs), peers(head, reference), strict=True)
    expected = sum(torch.distributions.kl_divergence(p, q) for p, q in pairs)
    assert kl.shape == (4, 2)
    torch.testing.assert_close(kl, expected, rtol=1e-12, atol=1e-12)
    for one in (outputs, reference):
        found, wanted = (torch.autograd.grad(value.sum(), one, retain_graph=True)[0] for value in (kl, expected))
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(head.kl(outputs, outputs).detach(), 0.0, atol=1e-15)
    entropy = sum(part.entropy() for part in peers(head, outputs))
    torch.testing.assert_close(head.entropy(outputs), entropy, rtol=1e-12, atol=1e-12)


@every_head
def test_entropy_is_minus_the_expected_log_probability_of_samples(head: Head) -> None:
    draws = 100_000
    outputs = normal(head.n_outputs, seed=5).expand(draws, -1)
    uniforms = np.random.default_rng(0).random((draws, *head.action_shape))
    sample = head.sample(outputs.numpy(), uniforms)
    assert sample.shape == (draws, *head.action_shape)
    assert sample.dtype == head.action_dtype
    costs = head.cost(outputs, torch.from_numpy(sample))
    # Four standard errors: a right head fails with one seed in 16,000; the seed is fixed.
    assert abs(float(costs.mean() - head.entropy(outputs)[0])) < 4 * float(costs.std()) / math.sqrt(draws)


@every_head
def test_cost_gradient_by_finite_differences(head: Head) -> None:
    outputs = normal(2, head.n_outputs).requires_grad_()
    target = torch.from_numpy(head.sample(outputs.detach().numpy(), np.full((2, *head.action_shape), 0.3)))
    if target.is_floating_point():
        target = target.double()
    assert torch.autograd.gradcheck(lambda x: head.cost(x, target), outputs)


@every_head
def test_acting_leaves_the_outputs_alone_and_keeps_leading_dimensions(head: Head) -> None:
    outputs = normal(2, 3, head.n_outputs).numpy()
    before = outputs.copy()
    uniforms = np.random.default_rng(0).random((2, 3, *head.action_shape))
    assert head.sample(outputs, uniforms).shape == (2, 3, *head.action_shape)
    assert head.mode(outputs).shape == (2, 3, *head.action_shape)
    np.testing.assert_array_equal(outputs, before)


def test_kl_ignores_a_class_masked_in_both_and_is_infinite_where_only_the_reference_masks() -> None:
    small, reference = normal(6, 3).requires_grad_(), normal(6, 3, seed=1)
    masked = torch.full((6, 1), -INF, dtype=torch.float64)
    within = Categorical(4).kl(torch.cat([small, masked], 1), torch.cat([reference, masked], 1))
    without = Categorical(3).kl(small, reference)
    torch.testing.assert_close(within, without, rtol=1e-14, atol=1e-14)
    found, expected = (torch.autograd.grad(value.sum(), small, retain_graph=True)[0] for value in (within, without))
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    open_logit = torch.zeros(6, 1, dtype=torch.float64)
    assert (Categorical(4).kl(torch.cat([small, open_logit], 1), torch.cat([reference, masked], 1)) == INF).all()
    # The other way round a class of probability zero adds nothing.
    assert Categorical(4).kl(torch.cat([small, masked], 1), torch.cat([reference, open_logit], 1)).isfinite().all()


def test_number_of_outputs() -> None:
    numbers = {"Categorical": 5, "MultiCategorical": 9, "Bernoulli": 3, "Gaussian, fixed": 2, "Gaussian, learnt": 6}
    assert {name: head.n_outputs for name, head in HEADS.items()} == numbers
    assert Gaussian().n_outputs == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Categorical(0), "classes must be at least 1, got 0"),
        (lambda: MultiCategorical(()), "at least one of them"),
        (lambda: MultiCategorical((2, 0)), "classes must hold numbers of at least 1"),
        (lambda: MultiCategorical((2, 3), start=(1,)), "start must hold one number a component, 2"),
        (lambda: MultiCategorical((2, 3), shape=(3,)), "shape must hold 2 numbers"),
        (lambda: Bernoulli(0), "labels must be at least 1"),
        (lambda: Bernoulli(4, (2, 3)), "shape must hold 4 numbers"),
        (lambda: Gaussian(0.0), "scale must be positive and finite"),
        (lambda: Gaussian(None, 0), "dimensions must be at least 1"),
        (lambda: Gaussian(None, 2, gymnasium.spaces.Box(0.0, 1.0, (3,))), "dimensions must be the space's 3, got 2"),
        (lambda: Gaussian(None, rescale=True), "rescale needs a space with finite bounds"),
        (lambda: LEARNT.cost(torch.zeros(4, 6), torch.zeros(4, 2)), r"shape of the means, \[4, 3\], got \[4, 2\]"),
        (lambda: LEARNT.cost(torch.zeros(4, 3), torch.zeros(4, 3)), r"outputs must have shape \[\.\.\., 6\]"),
    ],
)
def test_heads_name_what_is_wrong(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --------------------------------------------------------------------------------------------------- head_for


def test_head_for_discrete_knows_its_start() -> None:
    assert head_for(gymnasium.spaces.Discrete(4, start=-2)) == Categorical(4, start=-2)


def test_head_for_several_knows_shape_and_start() -> None:
    space = gymnasium.spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [-1, 2]])
    assert head_for(space) == MultiCategorical((2, 3, 4, 5), (1, 0, -1, 2), (2, 2))
    assert head_for(gymnasium.spaces.MultiBinary([2, 3])) == Bernoulli(6, (2, 3))
    box = gymnasium.spaces.Box(-2.0, 2.0, (2, 3))
    assert head_for(box, rescale=True) == Gaussian(None, 6, box, rescale=True)


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Discrete(4, start=-2),
        gymnasium.spaces.MultiDiscrete([2, 3]),
        gymnasium.spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [-1, 2]]),
        gymnasium.spaces.MultiBinary(3),
        gymnasium.spaces.MultiBinary([2, 3]),
        gymnasium.spaces.Box(-1.0, 1.0, (2, 2)),
    ],
    ids=str,
)
def test_the_environment_accepts_samples_and_modes(space: gymnasium.Space) -> None:
    head, generator = head_for(space), np.random.default_rng(0)
    outputs = 2 * generator.standard_normal((200, head.n_outputs))
    for stored in (head.sample(outputs, generator.random((200, *head.action_shape))), head.mode(outputs)):
        assert all(space.contains(action) for action in head.to_action(stored.astype(head.action_dtype)))


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2)]),
        gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)}),
        gymnasium.spaces.Text(3),
    ],
    ids=lambda space: type(space).__name__,
)
def test_head_for_names_the_space_and_those_served(space: gymnasium.Space) -> None:
    served = "served: Discrete, MultiDiscrete, MultiBinary, Box"
    with pytest.raises(TypeError, match=rf"(?s){type(space).__name__}.*{served}"):
        head_for(space)


def test_only_a_box_can_be_rescaled() -> None:
    with pytest.raises(ValueError, match="rescale needs a Box with finite bounds, got the action space Discrete"):
        head_for(gymnasium.spaces.Discrete(2), rescale=True)
