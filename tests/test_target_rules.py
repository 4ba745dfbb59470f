"""Every row of `tests/rules_table.py`: the rule as it is trained, against its published form by autograd."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

import rlce
from envs.identity import Identity
from rlce import methods, returns, targets, weights
from rlce.reinforcement import loss as policy_loss
from tests.enumeration import weights_of
from tests.rules_table import (
    CASES,
    TABLE,
    Case,
    Row,
    compare,
    largest_difference,
    make_case,
    training_cases_of,
)

TOLERANCE = 1e-10


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --------------------------------------------------------------------------------------------------- row by row

SUPERVISED = [row for row in TABLE if row.ours is not None]
OF_AGENTS = [row for row in TABLE if row.ours is None]


@pytest.mark.parametrize(
    ("row", "case"),
    [(row, case) for row in SUPERVISED for case in CASES if not (CASES[case].masked and row.masks == "none")],
    ids=lambda value: value if isinstance(value, str) else value.method,
)
def test_the_gradient_that_training_takes_is_the_published_one(row: Row, case: str) -> None:
    if CASES[case].masked and row.masks == "raise":  # an infinite loss; the trainer says so before it steps
        with pytest.raises(FloatingPointError, match="not finite"):
            compare(row, CASES[case])
        return
    value, gradient, published_value, published_gradient = compare(row, CASES[case])
    torch.testing.assert_close(gradient, published_gradient, rtol=0.0, atol=TOLERANCE)
    assert value.isfinite()
    if row.tier == "A":
        torch.testing.assert_close(value, published_value, rtol=0.0, atol=TOLERANCE)
    if CASES[case].masked:
        assert (gradient[..., -1] == 0).all()


@pytest.mark.parametrize("row", SUPERVISED, ids=lambda row: row.method)
def test_the_tier_is_no_more_than_true(row: Row) -> None:
    """In tier A the curvature is right as well, at any point; in tier C not even the value."""
    case = make_case(seed=11)
    value, gradient, published_value, _ = compare(row, case)
    assert gradient.abs().max() > 1e-4  # or the table's comparison would be of zeros
    if row.tier == "C":
        assert abs(value - published_value) > 1e-3
    if row.tier == "A":
        moved = replace(
            case, logits=case.logits + torch.randn(case.logits.shape, generator=torch.Generator().manual_seed(1))
        )
        # What training's gradient changes by along a direction, against the published loss's Hessian times it. An error
        # of the order of the step squared is left.
        direction, step = torch.from_numpy(np.random.default_rng(0).normal(size=case.logits.shape)), 1e-4
        assert row.ours is not None
        ahead, behind = (
            row.ours(replace(moved, logits=moved.logits + sign * step * direction)).gradient for sign in (1.0, -1.0)
        )
        torch.testing.assert_close((ahead - behind) / (2 * step), curvature(row, moved, direction), atol=1e-7, rtol=0.0)


def curvature(row: Row, case: Case, direction: Tensor) -> Tensor:
    """The published loss's Hessian times a direction."""
    assert row.published is not None
    leaf = case.logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(row.published(case, leaf), leaf, create_graph=True)
    return torch.autograd.grad((gradient * direction).sum(), leaf)[0]


@pytest.mark.parametrize("row", OF_AGENTS, ids=lambda row: row.method)
def test_a_policy_gradient_row_is_held_by_its_runs(row: Row) -> None:
    """The runs themselves are compared in test_training_path; here, that the row names the right ones."""
    cases = training_cases_of(row)
    assert cases
    assert largest_difference(row) <= TOLERANCE
    if "entropy" in row.method and "sampled" not in row.method:
        assert any(case.arguments.get("entropy_weight") for case in cases)
    if row.method == "reverse KL":
        assert any(case.arguments.get("kl_weight") for case in cases)


@pytest.mark.parametrize("method", [methods.rloo(), methods.grpo(), methods.grpo(biased=False)], ids=lambda m: m.name)
def test_equal_rewards_give_exactly_no_gradient(method: rlce.Method) -> None:
    class Constant(Identity):
        def step(self, action: Any) -> Any:
            observation, _, terminated, truncated, info = super().step(action)
            return observation, 0.1, terminated, truncated, info

    agent = rlce.PolicyGradient(Constant, method, num_envs=4, hidden=(4,)).learn(64)
    assert agent.trainer.progress.scalars["train/gradient_norm"] == 0.0


def test_the_table_names_every_rule() -> None:
    """Every public function of the two modules of rules is trained with in some row, or by a method of the catalogue.

    A rule that draws is right only in the mean: those are in test_supervised_loss.
    """
    from tests import rules_table, test_supervised_loss, test_supervised_training, training_cases

    trained = rules_table, training_cases, test_supervised_training, methods, policy_loss
    source = "".join(map(inspect.getsource, trained))
    in_the_mean = inspect.getsource(test_supervised_loss)
    for module in (targets, weights):
        for name, member in inspect.getmembers(module, inspect.isfunction):
            if member.__module__ == module.__name__ and not name.startswith("_"):
                draws = name in ("balanced_sampling", "drawn_smoothing", "mixup")
                used = rf"\b{module.__name__.removeprefix('rlce.rules.')}\.{name}\b|import {name}\b"
                assert re.search(used, in_the_mean if draws else source), name


def test_cases_hold_what_they_promise() -> None:
    probability = CASES["p near 0 and 1"].logits.softmax(dim=-1)
    assert probability.min() < 1e-30
    assert (probability > 1 - 1e-9).any()
    assert (CASES["ties"].logits == 0).all()
    ratios = (CASES["random"].logits.log_softmax(-1) - CASES["random"].behaviour_logits.log_softmax(-1)).exp()
    assert ratios.min() < 0.7
    assert ratios.max() > 1.3
    assert {True, False} <= set((CASES["random"].done & ~CASES["random"].terminated).ravel())
    assert len(set(CASES["random"].lengths)) > 1
    totals = CASES["random"].returns
    assert totals.min() < 0 < totals.max()


# ------------------------------------------------------------------------------------------ what rows say in passing


def test_i2_a_multiple_of_p_changes_nothing() -> None:
    case = CASES["random"]
    logits = case.logits.clone().requires_grad_()
    row = case.action_values
    shifted = row + 3.0 * logits.detach().softmax(dim=-1)
    one, other = (torch.autograd.grad(rlce.weighted_cross_entropy(logits, w), logits)[0] for w in (row, shifted))
    torch.testing.assert_close(one, other, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(("p", "factor"), [(0.1, 1.5), (0.5, 2.4), (0.9, 2.9)])
def test_focal_with_a_detached_factor_is_another_algorithm(p: float, factor: float) -> None:
    logits, label = double(p, 1 - p).log(), torch.tensor(0)
    exact, detached = targets.focal(label, logits), targets.focal_modulated(label, logits)
    assert (exact / detached)[0].item() == pytest.approx(factor, abs=0.05)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("margin", [-800.0, -40.0, 0.0, 40.0, 800.0])
def test_focal_is_finite_at_both_ends(gamma: float, margin: float) -> None:
    weight = targets.focal(torch.tensor(0), double(margin, 0.0), gamma)[0]
    limit = (1.0 if margin < -30 else 0.0) if gamma and abs(margin) > 30 else None
    assert weight.isfinite()
    if gamma == 0:
        assert weight == 1
    elif limit is not None:
        assert weight.item() == pytest.approx(limit, abs=1e-8)


def test_smoothing_conventions_are_one_family() -> None:
    labels = torch.arange(4)
    one, other = targets.smooth(labels, 4, 0.3 * 4 / 3), targets.smooth_off_class(labels, 4, 0.3)
    torch.testing.assert_close(one, other)


def test_label_smoothing_is_forward_kl_to_uniform() -> None:
    labels = torch.tensor([0, 2])
    mixed = 0.7 * targets.one_hot(labels, 3) + 0.3 * torch.zeros(2, 3).softmax(dim=-1)
    torch.testing.assert_close(mixed, targets.smooth(labels, 3, 0.3))


def test_the_mean_gradient_of_the_sampled_kl_is_forward_kls_and_not_reverse_kls() -> None:
    case = CASES["random"]
    log_p, log_ref = case.logits.log_softmax(dim=-1), case.reference_logits.log_softmax(dim=-1)
    mean_weight = log_p.exp() * torch.expm1(log_ref - log_p)  # over a ~ p
    logits = case.logits.clone().requires_grad_()
    sampled, forward, reverse = (
        torch.autograd.grad(rlce.weighted_cross_entropy(logits, w), logits)[0]
        for w in (
            mean_weight,
            log_ref.exp(),
            weights.reverse_kl(logits, case.reference_logits),
        )
    )
    torch.testing.assert_close(sampled, forward, rtol=0.0, atol=1e-12)
    assert (sampled - reverse).norm() > 0.1 * reverse.norm()


def test_the_naive_entropy_of_the_action_has_no_mean_gradient() -> None:
    logits = CASES["random"].logits.clone().requires_grad_()
    naive = logits.detach().softmax(dim=-1)  # the weight −c on every action, in expectation
    (gradient,) = torch.autograd.grad(rlce.weighted_cross_entropy(logits, naive), logits)
    assert gradient.abs().max() < 1e-15


def test_cispo_keeps_the_rows_that_ppo_cuts() -> None:
    advantage, now, then = double(1.0, -1.0), double(1.5, 0.5).log(), double(1.0, 1.0).log()
    assert weights.clipped_ratio(advantage, now, then).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(weights.cispo(advantage, now, then), [1.2, -0.5])
    np.testing.assert_allclose(weights.cispo(advantage, now, then, low=0.2), [1.2, -0.8])


def test_topr_goes_by_the_number_of_the_episode_wherever_its_rows_stand() -> None:
    """Against the product of the ratios of each episode, in a loop; numbers have gaps and rows are shuffled."""
    episode = torch.tensor([7, 2, 2, 40, 7, 7, 40, 2])
    now = double(-1.6, -2.0, -0.5, -0.1, -1.5, -0.2, -0.4, -3.0)
    then = double(-0.7, -1.0, -0.8, -0.9, -1.9, -0.1, -0.3, -1.0)
    returned = double(-1.0, 2.0, 2.0, -3.0, -1.0, -1.0, -3.0, 2.0)
    expected = []
    for number, r in zip(episode.tolist(), returned.tolist(), strict=True):
        ratio = math.prod(math.exp(a - b) for a, b, e in zip(now, then, episode, strict=True) if e == number)
        expected.append(r if r >= 0 else min(ratio, 1.0) * r)
    assert -1.0 < expected[0] < 0.0  # one bad episode is tapered,
    assert expected[3] == -3.0  # the other has become more likely
    torch.testing.assert_close(weights.topr(returned, now, then, episode), double(*expected), rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("case", ["random", "masked class"])
def test_entropy_and_kl_take_one_factor_a_row(case: str) -> None:
    """Against Σ_i c_i H_i and Σ_i c_i KL_i, differentiated by autograd over the classes that are not masked."""
    data = CASES[case]
    factor = data.sample_weights.clone()
    factor[0, 0] = 0.0
    free = data.without_last_class() if data.masked else data
    leaf = free.logits.clone().requires_grad_()
    p = Categorical(logits=leaf)
    bonus, penalty = -(factor * p.entropy()).sum(), kl_divergence(p, Categorical(logits=free.reference_logits))
    logits = data.logits.clone()
    if data.masked:
        logits[..., -1] = -math.inf
    logits.requires_grad_()
    rows = factor.unsqueeze(-1)
    for weight, loss in (
        (weights.entropy_bonus(logits, rows), bonus),
        (weights.reverse_kl(logits, data.reference_logits, rows), (factor * penalty).sum()),
    ):
        (found,) = torch.autograd.grad(rlce.weighted_cross_entropy(logits, weight, normalizer=1.0), logits)
        (expected,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        torch.testing.assert_close(found[..., : leaf.shape[-1]], expected, rtol=0.0, atol=1e-14)
        assert (found[..., leaf.shape[-1] :] == 0).all()
        assert (weight[0, 0] == 0).all()


def test_dr_grpo_is_rloo_times_one_less_than_g_over_g() -> None:
    group = np.random.default_rng(0).normal(size=(3, 5))
    np.testing.assert_allclose(returns.group_centred(group), 4 / 5 * (group - returns.leave_one_out(group)))


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 6), st.integers(0, 1000), st.sampled_from([np.float32, np.float64]))
def test_group_statistics_by_numpy(count: int, seed: int, dtype: type) -> None:
    group = np.random.default_rng(seed).normal(size=(2, count)).astype(dtype)
    found = returns.group_standardized(group, floor=0.0)
    assert found.dtype == dtype
    tolerance = {"rtol": 0.0, "atol": 1e-4 if dtype is np.float32 else 1e-9}
    np.testing.assert_allclose(found.mean(axis=-1), 0.0, **tolerance)
    np.testing.assert_allclose(found.std(axis=-1, ddof=1), 1.0, **tolerance)
    whole = returns.standardized(group, floor=0.0)
    assert whole.dtype == dtype
    np.testing.assert_allclose([whole.mean(), whole.std()], [0.0, 1.0], **tolerance)


@pytest.mark.parametrize("floor", [0.0, 1e-8])
def test_standardising_equal_values_gives_exactly_zero(floor: float) -> None:
    equal = np.full((3, 7), 0.1, np.float32)
    assert (returns.standardized(equal, floor) == 0).all()
    assert (returns.group_standardized(equal, floor=floor) == 0).all()
    assert returns.standardized(np.array([5.0])) == 0


@pytest.mark.parametrize(
    ("quantile", "kept"),
    [(0.0, 10), (0.05, 10), (0.1, 10), (0.11, 9), (0.7, 4), (0.9, 2), (0.91, 1), (1.0, 1)],
)
def test_elite_keeps_from_the_order_statistic_upwards(quantile: float, kept: int) -> None:
    order = np.random.default_rng(0).permutation(10).astype(float)
    found = returns.elite(order, quantile)
    assert found.sum() == kept
    assert order[found == 1].min() == 10 - kept


def test_elite_is_not_misled_by_rounding() -> None:
    assert 0.55 * 100 > 55
    assert returns.elite(np.arange(100.0), 0.55).sum() == 46


def test_elite_keeps_ties_and_compares_within_the_last_axis() -> None:
    found = returns.elite(np.array([[1.0, 1.0, 0.0], [5.0, 6.0, 7.0]]), quantile=0.7)
    np.testing.assert_array_equal(found, [[1, 1, 0], [0, 0, 1]])


def test_class_weights_sum_to_k_and_meet_at_their_limits() -> None:
    counts = double(3, 10, 40, 200)
    for weight in (targets.inverse_frequency(counts), targets.class_balanced(counts, 0.99)):
        assert float(weight.sum()) == pytest.approx(4.0)
    torch.testing.assert_close(targets.class_balanced(counts, 0.0), torch.ones_like(counts))
    torch.testing.assert_close(
        targets.class_balanced(counts, 1 - 1e-7), targets.inverse_frequency(counts), rtol=1e-3, atol=0.0
    )


def test_what_a_rule_gives_carries_no_graph() -> None:
    """The objective would detach it; the loss of `PolicyGradient` must not have to."""
    case = CASES["random"]
    leaf = case.logits.clone().requires_grad_()
    now, then = (Categorical(logits=x).log_prob(case.labels) for x in (leaf, case.behaviour_logits.requires_grad_()))
    advantage = case.advantage.clone().requires_grad_()
    episode = torch.arange(case.labels.shape[1]).expand_as(case.labels)
    for rule in (
        weights.score,
        weights.importance_sampled,
        weights.clipped_ratio,
        weights.cispo,
        weights.topr,
        weights.v_trace,
        weights.reward_weighted,
        weights.advantage_weighted,
        weights.self_imitation,
    ):
        assert not weights_of(rule, *(x.flatten() for x in (advantage, now, then, episode))).requires_grad, rule
    others = case.reference_logits.clone().requires_grad_()
    factor = torch.ones(*case.labels.shape, 1, requires_grad=True)
    dense = [weights.entropy_bonus(leaf, factor), weights.reverse_kl(leaf, others, factor)]
    of_outputs = (targets.focal, targets.focal_modulated, targets.generalized_cross_entropy, targets.poly_one)
    dense += [rule(case.labels, leaf) for rule in (*of_outputs, targets.expected_accuracy)]
    assert not any(weight.requires_grad for weight in dense)


def test_a_classifier_takes_class_weights_and_keeps_them_in_its_file(tmp_path: Path) -> None:
    """Nine rows in ten are of one class and no input tells them apart: the weights decide."""
    X, y = np.zeros((200, 1), np.float32), np.repeat([0, 1], [180, 20])
    rule = targets.inverse_frequency
    classifier = rlce.Classifier(rule=rule, hidden=(4,), epochs=60, learning_rate=0.05, random_state=0).fit(X, y)
    np.testing.assert_allclose(classifier.predict_proba(X[:1]), 0.5, atol=0.05)
    classifier.save(tmp_path / "classifier")
    loaded = rlce.Classifier.load(tmp_path / "classifier")
    assert loaded.rule is rule


# -------------------------------------------------------------------------------------------------------- V-trace


def vtrace_data(seed: int) -> dict[str, Any]:
    case = make_case(steps=5, episodes=4, seed=seed)
    fields = ("reward", "value", "next_value", "terminated", "done")
    return {name: getattr(case, name) for name in fields} | {"discount": 0.9}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("trace", [0.0, 0.7, 1.0])
def test_vtrace_on_policy_is_gae(seed: int, trace: float) -> None:
    data = vtrace_data(seed)
    target, advantage = returns.vtrace(**data, ratio=np.ones((5, 4)), trace=trace)
    expected = returns.gae(**data, trace=trace)
    np.testing.assert_allclose(target, expected + data["value"], atol=1e-12)
    if trace == 1.0:
        np.testing.assert_allclose(advantage, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_vtrace_targets_by_the_papers_double_sum(seed: int) -> None:
    data = vtrace_data(seed)
    ratio = np.exp(np.random.default_rng(seed).normal(size=(5, 4)))
    found, _ = returns.vtrace(**data, ratio=ratio, trace=0.8, ratio_bound=1.5, trace_bound=1.1)
    expected = data["value"].copy()
    for start, n in np.ndindex(5, 4):
        product = 1.0
        for t in range(start, 5):
            following = 0.0 if data["terminated"][t, n] else data["next_value"][t, n]
            error = data["reward"][t, n] + 0.9 * following - data["value"][t, n]
            expected[start, n] += 0.9 ** (t - start) * product * min(1.5, ratio[t, n]) * error
            product *= 0.8 * min(1.1, ratio[t, n])
            if data["done"][t, n]:
                break
    np.testing.assert_allclose(found, expected, atol=1e-12)


# ------------------------------------------------------------------------------------------------------ bad input

ONE, LABEL = torch.zeros(1), torch.tensor([0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: targets.smooth(LABEL, 2, 1.5), r"epsilon must lie in \[0, 1\], got 1.5"),
        (lambda: targets.smooth_off_class(LABEL, 2, -0.1), r"epsilon must lie in \[0, 1\], got -0.1"),
        (lambda: targets.smooth_off_class(LABEL, 1), "classes >= 2, got 1"),
        (lambda: targets.tempered(ONE, 0.0), "temperature must be positive, got 0.0"),
        (lambda: targets.inverse_frequency([3, 0]), "counts must all be positive, got 0.0 for class 1"),
        (lambda: targets.class_balanced([3, 1], 1.0), r"beta must lie in \[0, 1\), got 1.0"),
        (lambda: targets.class_balanced(torch.tensor(3.0)), r"counts must have shape \[..., K\], got \[\]"),
        (lambda: targets.logit_adjusted(torch.zeros(1, 3), [1, 2]), r"counts must have shape \[K\] = \[3\], got \[2\]"),
        (lambda: targets.label_margin(torch.zeros(1, 2), LABEL, [1, 2], scale=0), "scale must be positive, got 0"),
        (lambda: targets.focal(LABEL, torch.zeros(1, 2), -1.0), "gamma must be at least 0, got -1.0"),
        (lambda: targets.focal_modulated(LABEL, torch.zeros(1, 2), math.nan), "gamma must be at least 0, got nan"),
        (lambda: targets.generalized_cross_entropy(LABEL, torch.zeros(1, 2), 1.2), r"q must lie in \[0, 1\], got 1.2"),
        (lambda: targets.poly_one(LABEL, torch.zeros(1, 2), -2.0), "epsilon must be at least -1, got -2.0"),
        (lambda: weights.cispo(ONE, ONE, ONE, low=1.5), r"low must lie in \[0, 1\], got 1.5"),
        (lambda: weights.cispo(ONE, ONE, ONE, high=-0.5), "high must be at least 0, got -0.5"),
        (lambda: weights.clipped_ratio(ONE, ONE, ONE, clip=0.0), "clip must be positive, got 0.0"),
        (lambda: weights.reward_weighted(ONE, temperature=-1.0), "temperature must be positive, got -1.0"),
        (lambda: weights.advantage_weighted(ONE, temperature=0.0), "temperature must be positive, got 0.0"),
        (lambda: weights.advantage_weighted(ONE, bound=-1.0), "bound must be positive, got -1.0"),
        (lambda: returns.elite(np.ones(2), 1.5), r"quantile must lie in \[0, 1\], got 1.5"),
        (lambda: returns.vtrace(**vtrace_data(0), ratio=np.ones((5, 4)), trace=1.5), r"trace must lie in \[0, 1\]"),
        (lambda: returns.vtrace(**vtrace_data(0), ratio=np.ones((5, 4)), trace_bound=2.0), "0 < trace_bound <= ratio"),
        (lambda: returns.vtrace(**vtrace_data(0), ratio=np.ones((5, 1))), "ratio must have the shape of reward"),
    ],
)
def test_bad_input_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
