"""Every trajectory of a chain: the truth by backward induction, and the library's estimate averaged over all of them.

The two share nothing but the chain's tables. Everything is float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.chain import Chain, Trajectory
from rlce.heads import Categorical
from rlce.objective import objective
from rlce.reinforcement.methods import Experience, Method
from rlce.rules.binding import Rule, bind

TOLERANCE = 1e-10


def weights_of(rule: Rule, advantage: Tensor, now: Tensor, then: Tensor, episode: Tensor | None = None) -> Tensor:
    """The weights of a rule of the action, which is given what it names; all ``[B]``."""
    offered = {"advantage": advantage, "log_prob": now, "behaviour_log_prob": then}
    if episode is not None:
        offered["episode"] = episode
    return bind(rule, offered, tuple(offered)[:3]).call(offered)


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


def as_experience(group: Sequence[Trajectory], values: NDArray[np.floating[Any]] | None = None) -> Experience:
    """One trajectory a column, padded with zeros as `Collector.episodes` pads them.

    The values are ``[S]`` or, where they know the time, ``[T, S]``.
    """
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
            by_time = np.broadcast_to(values, (length, values.shape[-1])) if values.ndim == 1 else values
            steps = np.arange(length)
            value[:length, column] = by_time[steps, states]
            # Nothing follows the last step, so what stands there must not matter. (Were it one constant, it would
            # be a baseline, and harmless.)
            next_value[:length, column] = np.append(by_time[steps[1:], states[1:]], 1e3 * (1 + actions[-1]))
    critic = (value, next_value) if values is not None else (None, None)
    return Experience(reward, terminated, np.zeros(shape, bool), valid, time, *critic)


def mean_estimate(
    chain: Chain,
    logits: Tensor,
    method: Method,
    group_size: int = 1,
    per: Literal["episodes", "steps"] = "episodes",
    values: NDArray[np.floating[Any]] | None = None,
) -> Tensor:
    """E[−∇L] over all groups of trajectories that the policy may draw."""
    trajectories = chain.trajectories(logits.detach().softmax(dim=-1).numpy())
    states, actions = np.zeros((2, chain.horizon, len(trajectories)), np.int64)
    for column, trajectory in enumerate(trajectories):
        states[: len(trajectory.states), column] = trajectory.states
        actions[: len(trajectory.states), column] = trajectory.actions
    head = Categorical(chain.reward.shape[1])
    total = torch.zeros((), dtype=torch.float64)
    for columns in itertools.product(range(len(trajectories)), repeat=group_size):
        group = [trajectories[column] for column in columns]
        experience = as_experience(group, values)
        valid = experience.valid
        rows = logits[states[: len(valid), columns][valid]]
        taken = torch.from_numpy(actions[: len(valid), columns][valid])
        advantage = torch.from_numpy(method.credit(experience).advantage[valid])
        log_prob = -head.cost(rows, taken).detach()
        weight = weights_of(method.weight, advantage, log_prob, log_prob)
        normalizer = group_size if per == "episodes" else len(taken)
        probability = math.prod(trajectory.probability for trajectory in group)
        total = total + probability * objective(head.cost, rows, taken, weight, normalizer)
    return -torch.autograd.grad(total, logits)[0]


def assert_equal(estimate: Tensor, truth: Tensor) -> None:
    torch.testing.assert_close(estimate, truth, rtol=0.0, atol=TOLERANCE)


def off_direction(estimate: Tensor, truth: Tensor) -> float:
    """What is left of the estimate, relative to its size, beside the best multiple of the truth."""
    along = (estimate * truth).sum() / truth.square().sum() * truth
    return float((estimate - along).norm() / estimate.norm())
