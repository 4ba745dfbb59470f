"""∇J by enumeration: the library's credit, weight and objective, averaged over every trajectory of a chain.

The truth is the derivative of backward induction on the chain's tables; it shares nothing with the estimator
but the tables themselves. Everything is float64.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rlce
from envs.chain import Chain
from rlce.reinforcement.methods import actor_critic, reinforce
from tests.enumeration import (
    TOLERANCE,
    arbitrary_values,
    as_experience,
    assert_equal,
    mean_estimate,
    off_direction,
    policy_logits,
    true_gradient,
)

REWARD_TO_GO_OR_WHOLE = pytest.mark.parametrize("whole_return", [False, True], ids=["to_go", "whole"])
OBJECTIVES = pytest.mark.parametrize("discount", [1.0, 0.9])


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
