"""∇J by enumeration: the library's credit, weight and objective, averaged over every trajectory of a chain.

The truth is the derivative of backward induction on the chain's tables; it shares nothing with the estimator
but the tables themselves. Everything is float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import rlce
from envs.chain import Chain, Trajectory
from rlce.heads import Categorical
from rlce.methods import Experience, Method, actor_critic, reinforce
from rlce.objective import weighted_mean

TOLERANCE = 1e-10
REWARD_TO_GO_OR_WHOLE = pytest.mark.parametrize("whole_return", [False, True], ids=["to_go", "whole"])
OBJECTIVES = pytest.mark.parametrize("discount", [1.0, 0.9])


def policy_logits(chain: Chain, seed: int = 0) -> Tensor:
    """A tabular softmax policy that prefers some actions: its logits ``[S, A]``."""
    table = np.random.default_rng([seed, 1]).normal(size=chain.reward.shape)
    return torch.tensor(table, dtype=torch.float64, requires_grad=True)


def arbitrary_values(chain: Chain) -> NDArray[np.float64]:
    """A critic that is wrong everywhere, at the terminal state most of all: ``[S]``."""
    values = np.random.default_rng(2).normal(scale=3.0, size=len(chain.reward))
    values[chain.terminal] = 1e3
    return values


def true_gradient(chain: Chain, logits: Tensor, discount: float) -> Tensor:
    """The derivative of J = Σ_s initial(s) V_H(s), with V_h by backward induction."""
    policy = logits.softmax(dim=-1)
    reward, transition, initial = (torch.tensor(x) for x in (chain.reward, chain.transition, chain.initial))
    live = torch.tensor(~chain.terminal)
    value = torch.zeros(len(reward), dtype=torch.float64)
    for _ in range(chain.horizon):
        value = live * (policy * (reward + discount * transition @ value)).sum(dim=-1)
    return torch.autograd.grad(initial @ value, logits)[0]


def as_experience(group: Sequence[Trajectory], values: NDArray[np.float64] | None = None) -> Experience:
    """One trajectory a column, padded with zeros as `Collector.episodes` pads them."""
    shape = max(len(trajectory.states) for trajectory in group), len(group)
    reward, terminated, valid = np.zeros(shape), np.zeros(shape, bool), np.zeros(shape, bool)
    time, value, next_value = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
    for column, (states, actions, rewards, _) in enumerate(group):
        length = len(states)
        reward[:length, column] = rewards
        terminated[length - 1, column] = True
        valid[:length, column] = True
        time[:length, column] = np.arange(length)
        if values is not None:
            value[:length, column] = values[states]
            # Nothing follows the last step, so what stands there must not matter. (Were it one constant, it would
            # be a baseline, and harmless.)
            next_value[:length, column] = np.append(values[states[1:]], 1e3 * (1 + actions[-1]))
    critic = (value, next_value) if values is not None else (None, None)
    return Experience(reward, terminated, np.zeros(shape, bool), valid, time, *critic)


def mean_estimate(
    chain: Chain,
    logits: Tensor,
    method: Method,
    group_size: int = 1,
    per: Literal["episodes", "steps"] = "episodes",
    values: NDArray[np.float64] | None = None,
) -> Tensor:
    """E[−∇L] over all groups of trajectories that the policy may draw."""
    trajectories = chain.trajectories(logits.detach().softmax(dim=-1).numpy())
    states, actions = np.zeros((2, chain.horizon, len(trajectories)), np.int64)
    for column, trajectory in enumerate(trajectories):
        states[: len(trajectory.states), column] = trajectory.states
        actions[: len(trajectory.states), column] = trajectory.actions
    costs = Categorical(chain.reward.shape[1]).cost(logits[states], torch.from_numpy(actions))
    total = torch.zeros((), dtype=torch.float64)
    for columns in itertools.product(range(len(trajectories)), repeat=group_size):
        group = [trajectories[column] for column in columns]
        experience = as_experience(group, values)
        valid = torch.from_numpy(experience.valid)
        cost = costs[: len(valid), list(columns)][valid]
        advantage = torch.from_numpy(method.credit(experience).advantage[experience.valid])
        log_prob = -cost.detach()
        weight = method.weight(advantage, log_prob, log_prob)
        normalizer = group_size if per == "episodes" else len(cost)
        probability = np.prod([trajectory.probability for trajectory in group])
        total = total + probability * weighted_mean(cost, weight, normalizer)
    return -torch.autograd.grad(total, logits)[0]


def assert_equal(estimate: Tensor, truth: Tensor) -> None:
    torch.testing.assert_close(estimate, truth, rtol=0.0, atol=TOLERANCE)


def off_direction(estimate: Tensor, truth: Tensor) -> float:
    """What is left of the estimate, relative to its size, beside the best multiple of the truth."""
    along = (estimate * truth).sum() / truth.square().sum() * truth
    return float((estimate - along).norm() / estimate.norm())


# -------------------------------------------------------------------------------------- one trajectory a time


@pytest.mark.parametrize(
    "settings",
    [{}, {"table_seed": 1}, {"states": 4, "actions": 3, "horizon": 2, "table_seed": 2}],
    ids=["chain", "other_tables", "more_actions"],
)
@OBJECTIVES
@REWARD_TO_GO_OR_WHOLE
@pytest.mark.parametrize("baseline", ["none", "value"])
def test_reinforce_is_the_exact_gradient(
    settings: dict[str, int], discount: float, whole_return: bool, baseline: Any
) -> None:
    chain = Chain(**settings)
    logits = policy_logits(chain)
    method = reinforce(
        baseline=baseline,
        discount=discount,
        whole_return=whole_return,
        exact_discount=discount < 1,
        episodes=1,
        per_episode=True,
    )
    values = arbitrary_values(chain) if baseline == "value" else None
    assert_equal(mean_estimate(chain, logits, method, values=values), true_gradient(chain, logits, discount))


def test_actor_critic_at_full_trace_is_the_exact_gradient_whatever_the_critic_says() -> None:
    chain = Chain()
    logits, values = policy_logits(chain), arbitrary_values(chain)
    truth = true_gradient(chain, logits, discount=1.0)
    assert_equal(mean_estimate(chain, logits, actor_critic(discount=1.0, trace=1.0), values=values), truth)
    # Below λ = 1 a wrong critic gets in.
    biased = mean_estimate(chain, logits, actor_critic(discount=1.0, trace=0.9), values=values)
    assert off_direction(biased, truth) > 0.01


def test_weighted_cross_entropy_is_the_exact_gradient() -> None:
    """The public objective, one call with every trajectory: w = probability × return, target = action."""
    chain = Chain()
    logits = policy_logits(chain)
    trajectories = chain.trajectories(logits.detach().softmax(dim=-1).numpy())
    experience = as_experience(trajectories)
    credit = reinforce(baseline="none", discount=1.0).credit(experience)
    probability = np.array([trajectory.probability for trajectory in trajectories])
    states, actions = (
        torch.from_numpy(np.concatenate([getattr(trajectory, name) for trajectory in trajectories]))
        for name in ("states", "actions")
    )
    weights = (credit.advantage * probability).T[experience.valid.T]
    loss = rlce.weighted_cross_entropy(logits[states], actions, torch.from_numpy(weights), normalizer=1.0)
    assert_equal(-torch.autograd.grad(loss, logits)[0], true_gradient(chain, logits, discount=1.0))


def test_without_discounting_by_time_it_is_not_the_gradient_of_the_discounted_objective() -> None:
    chain = Chain()
    logits = policy_logits(chain)
    usual = mean_estimate(chain, logits, reinforce(baseline="none", discount=0.9))
    for discount in (0.9, 1.0):
        assert off_direction(usual, true_gradient(chain, logits, discount)) > 0.01


def test_per_step_normaliser_is_not_the_gradient_not_even_its_direction() -> None:
    chain = Chain()
    logits = policy_logits(chain)
    method = reinforce(baseline="none", discount=1.0)
    truth = true_gradient(chain, logits, discount=1.0)
    assert off_direction(mean_estimate(chain, logits, method, per="steps"), truth) > 0.01


# ------------------------------------------------------------------------------------- groups of trajectories

GROUPS = pytest.mark.parametrize(
    ("group_size", "horizon", "discount", "whole_return"),
    [(2, 3, 1.0, False), (2, 3, 1.0, True), (2, 3, 0.9, False), (2, 2, 0.9, True), (3, 2, 1.0, False)],
    ids=["pairs", "pairs_whole", "pairs_discounted", "short_pairs_whole_discounted", "short_triples"],
)  # 84² pairs, 20² short ones, 20³ triples


def group_estimate(
    baseline: Any, group_size: int, horizon: int, discount: float, whole_return: bool
) -> tuple[Tensor, Tensor]:
    """The mean estimate with a baseline made of the group itself, and the truth."""
    chain = Chain(horizon=horizon)
    logits = policy_logits(chain)
    method = reinforce(
        baseline=baseline,
        discount=discount,
        whole_return=whole_return,
        exact_discount=discount < 1,
        episodes=group_size,
        per_episode=True,
    )
    return mean_estimate(chain, logits, method, group_size), true_gradient(chain, logits, discount)


@GROUPS
def test_leave_one_out_is_the_exact_gradient(
    group_size: int, horizon: int, discount: float, whole_return: bool
) -> None:
    assert_equal(*group_estimate("leave-one-out", group_size, horizon, discount, whole_return))


@GROUPS
def test_batch_mean_is_the_gradient_times_one_less_than_n_over_n(
    group_size: int, horizon: int, discount: float, whole_return: bool
) -> None:
    estimate, truth = group_estimate("mean", group_size, horizon, discount, whole_return)
    factor = float((estimate * truth).sum() / truth.square().sum())
    assert factor == pytest.approx((group_size - 1) / group_size, abs=TOLERANCE)
    assert_equal(estimate, (group_size - 1) / group_size * truth)
    assert float((estimate - truth).norm() / truth.norm()) > 0.3  # so the factor is no rounding matter


# ------------------------------------------------------------------------------------------- the tests' tests


def test_chain_has_what_the_tests_above_need() -> None:
    """Episodes of every length, rewards in every state, and a gradient far above the tolerance."""
    chain = Chain()
    logits = policy_logits(chain)
    lengths = {len(trajectory.states) for trajectory in chain.trajectories(logits.detach().softmax(dim=-1))}
    assert lengths == {1, 2, 3}
    assert (np.abs(chain.reward[~chain.terminal]) > 0.1).all()
    gradient = true_gradient(chain, logits, discount=1.0)
    assert (gradient[torch.tensor(~chain.terminal)].abs() > 1e-3).all()


@OBJECTIVES
def test_true_gradient_agrees_with_finite_differences_of_the_enumerated_return(discount: float) -> None:
    chain = Chain()
    logits = policy_logits(chain).detach()

    def expected_return(table: Tensor) -> float:
        return sum(
            p * float(discount ** np.arange(len(rewards)) @ rewards)
            for _, _, rewards, p in chain.trajectories(table.softmax(dim=-1).numpy())
        )

    differences, step = torch.zeros_like(logits), 1e-5
    for index in itertools.product(*map(range, logits.shape)):
        shift = torch.zeros_like(logits)
        shift[index] = step
        differences[index] = (expected_return(logits + shift) - expected_return(logits - shift)) / (2 * step)
    truth = true_gradient(chain, logits.requires_grad_(), discount)
    torch.testing.assert_close(differences, truth, rtol=0.0, atol=1e-8)
