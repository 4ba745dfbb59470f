"""What estimators are on average: from every trajectory by the library, and from the chain's tables without it.

The library's side lists all trajectories, weights them by its rules and sums gradients of its objective. The other side
never sees a trajectory: it goes through states, step by step, with one of three tools:

* `true_gradient`: the derivative of backward induction, ∇J itself;
* `by_occupancy`: Σ_t Σ_s d_t(s) Σ_a μ(a|s) w̄_t(s, a) ∇log π(a|s), where the occupancy d and the *mean* weight w̄ come
  from forward and backward recursions on the tables;
* `by_law`: Σ_x f(x) ∇P(x) over the values x that (return, length, ratio) of an episode can take, with P differentiated
  through the recursion that makes it; ∇P takes the place of P ∇log π.

Where groups of two are compared, the weight has a closed form that contains no mean and no deviation.
The rewards are multiples of 1/16, so that sums are exact and equal returns are equal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from envs.chain import Chain
from rlce import returns, weights
from rlce.objective import cross_entropy, objective
from rlce.reinforcement.methods import Experience, reinforce
from rlce.rules.binding import Rule
from tests.enumeration import (
    arbitrary_values,
    as_experience,
    mean_estimate,
    policy_logits,
    true_gradient,
    weights_of,
)

Table = NDArray[np.floating[Any]]
TRACE, LOW, HIGH, RATIO_BOUND, TRACE_BOUND = 0.5, 0.2, 0.2, 1.1, 0.9


class Setting(NamedTuple):
    """The chain, the policy π that is differentiated, and another one, μ, that may have acted."""

    chain: Chain
    logits: Tensor  # [S, A] of π, wants a gradient
    policy: Table  # [S, A]
    behaviour: Table  # [S, A]
    values: Table  # [S], of a critic that is wrong everywhere

    @property
    def ratio(self) -> Table:
        """π/μ, ``[S, A]``."""
        return self.policy / self.behaviour


@cache
def setting() -> Setting:
    """The one that everything here is computed on."""
    chain = Chain()
    chain.reward = np.round(chain.reward * 16) / 16
    logits = policy_logits(chain)
    behaviour = (logits.detach() + 0.5 * policy_logits(chain, seed=5).detach()).softmax(dim=-1).numpy()
    values = arbitrary_values(chain)
    values[chain.terminal] = 0.0
    return Setting(chain, logits, logits.detach().softmax(dim=-1).numpy(), behaviour, values)


# ------------------------------------------------------------------------------------- the library, over trajectories


class Listed(NamedTuple):
    """All n trajectories under an acting policy, one a column."""

    experience: Experience  # [T, n]
    states: NDArray[np.int64]  # [T, n]
    actions: NDArray[np.int64]  # [T, n]
    probability: Table  # [n]

    @property
    def returned(self) -> Table:
        """Whole returns, ``[n]``."""
        return self.experience.reward.sum(axis=0)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps, ``[n]``."""
        return self.experience.valid.sum(axis=0)


def listed(policy: Table, values: Table | None = None) -> Listed:
    """All of them, and their probability under this policy."""
    trajectories = setting().chain.trajectories(policy)
    experience = as_experience(trajectories, setting().values if values is None else values)
    states, actions = np.zeros((2, *experience.valid.shape), np.int64)
    for column, trajectory in enumerate(trajectories):
        states[: len(trajectory.states), column] = trajectory.states
        actions[: len(trajectory.states), column] = trajectory.actions
    return Listed(experience, states, actions, np.array([trajectory.probability for trajectory in trajectories]))


def mean_gradient(episodes: Listed, weight: Tensor | Table) -> Tensor:
    """−∇ of the objective with weights ``[T, n]`` or ``[n]``, averaged over the trajectories."""
    valid = torch.from_numpy(episodes.experience.valid)
    total = (torch.as_tensor(weight) * torch.from_numpy(episodes.probability)).expand(valid.shape)
    rows, taken = setting().logits[episodes.states][valid], torch.from_numpy(episodes.actions)[valid]
    loss = objective(cross_entropy, rows, taken, total[valid], 1.0)
    return -torch.autograd.grad(loss, setting().logits)[0]


def by_rule(rule: Rule, advantage: Callable[[Listed], Table], episodes: Listed, whole: bool = False) -> Tensor:
    """The mean gradient of a weight rule; ``whole``: given log-probabilities summed over the episode."""
    valid = episodes.experience.valid
    now, then = (
        np.where(valid, np.log(table)[episodes.states, episodes.actions], 0.0)
        for table in (setting().policy, setting().behaviour)
    )
    if whole:
        now, then = (np.broadcast_to(x.sum(axis=0), x.shape) for x in (now, then))
    credit, episode = (np.broadcast_to(x, valid.shape) for x in (advantage(episodes), np.arange(valid.shape[1])))
    weight = torch.zeros(valid.shape, dtype=torch.float64)
    weight[valid] = weights_of(rule, *(torch.from_numpy(x[valid]) for x in (credit, now, then, episode)))
    return mean_gradient(episodes, weight)


def on_policy(rule: Rule, advantage: Callable[[Listed], Table], values: Table | None = None) -> Tensor:
    """π acted."""
    return by_rule(rule, advantage, listed(setting().policy, values))


def off_policy(
    rule: Rule, advantage: Callable[[Listed], Table], values: Table | None = None, whole: bool = False
) -> Tensor:
    """μ acted."""
    return by_rule(rule, advantage, listed(setting().behaviour, values), whole)


def to_go(episodes: Listed) -> Table:
    """Reward-to-go, γ = 1."""
    x = episodes.experience
    return returns.reward_to_go(x.reward, x.terminated, x.done, 1.0)


def less_value(episodes: Listed) -> Table:
    """Reward-to-go less V."""
    assert episodes.experience.value is not None
    return to_go(episodes) - episodes.experience.value


def gae(trace: float) -> Callable[[Listed], Table]:
    """The library's GAE, γ = 1."""

    def advantage(episodes: Listed) -> Table:
        x = episodes.experience
        assert x.value is not None
        assert x.next_value is not None
        return returns.gae(x.reward, x.value, x.next_value, x.terminated, x.done, 1.0, trace)

    return advantage


def vtrace(ratio: Table, ratio_bound: float = RATIO_BOUND, trace_bound: float = TRACE_BOUND) -> Any:
    """The library's V-trace advantages at ratios ``[S, A]``, γ = 1."""

    def advantage(episodes: Listed) -> Table:
        x = episodes.experience
        assert x.value is not None
        assert x.next_value is not None
        taken = np.where(x.valid, ratio[episodes.states, episodes.actions], 1.0)
        return returns.vtrace(
            x.reward,
            x.value,
            x.next_value,
            x.terminated,
            x.done,
            taken,
            1.0,
            ratio_bound=ratio_bound,
            trace_bound=trace_bound,
        )[1]

    return advantage


def in_pairs(rule: Callable[[Table, NDArray[np.int64]], Table]) -> Tensor:
    """Groups of two: a rule (returns ``[n, n, 2]``, lengths likewise) → advantages, Z = 2."""
    episodes = listed(setting().policy)

    def pairs(x: NDArray[Any]) -> NDArray[Any]:
        return np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1)

    advantage = rule(pairs(episodes.returned), pairs(episodes.lengths))
    first, second = (np.einsum("ij,j->i", x, episodes.probability) for x in (advantage[..., 0], advantage[..., 1].T))
    return mean_gradient(episodes, (first + second) / 2)


def standardized_rows(returned: Table, lengths: NDArray[np.int64]) -> Table:
    """Both episodes' rows, each with its whole return, standardised together."""
    result = np.empty_like(returned)
    for index in np.ndindex(*returned.shape[:-1]):
        rows = returns.standardized(np.repeat(returned[index], lengths[index]), floor=1e-14)
        result[index] = rows[0], rows[-1]
    return result


# ---------------------------------------------------------------------------------------------- the tables, by states


def occupancy(policy: Table) -> Table:
    """Probability of acting in a state at each step, ``[T, S]``."""
    chain = setting().chain
    result: Table = np.zeros((chain.horizon, len(chain.initial)))
    result[0] = chain.initial
    for t in range(1, chain.horizon):
        result[t] = np.einsum("s,sa,sak->k", result[t - 1], policy, chain.transition) * ~chain.terminal
    return result


def by_occupancy(acting: Table, weight: Table) -> Tensor:
    """The mean gradient with mean weights w̄_t(s, a), ``[T, S, A]``."""
    mass = torch.from_numpy(occupancy(acting)[..., None] * acting * weight).sum(dim=0)
    return torch.autograd.grad((mass * setting().logits.log_softmax(dim=-1)).sum(), setting().logits)[0]


def onward(values: Table) -> Table:
    """Mean value after each action, terminal states being worth nothing: ``[S]`` → ``[S, A]``."""
    chain = setting().chain
    return chain.transition @ (values * ~chain.terminal)


def backward(step: Callable[[Table, bool], tuple[Table, Table]]) -> Table:
    """Weights ``[T, S, A]`` from the last step to the first.

    ``step``: (what the step after gave for each state, ``[S]``; whether there is none) → (weight ``[S, A]``, what this
    step gives for each state).
    """
    chain = setting().chain
    following: Table = np.zeros(len(chain.initial))
    result: Table = np.zeros((chain.horizon, *chain.reward.shape))
    for t in reversed(range(chain.horizon)):
        result[t], following = step(following, t == chain.horizon - 1)
    return result


def action_values(policy: Table) -> Table:
    """Q_t(s, a), ``[T, S, A]``."""

    def step(following: Table, _: bool) -> tuple[Table, Table]:
        q = setting().chain.reward + onward(following)
        return q, (policy * q).sum(axis=-1)

    return backward(step)


def exact_values(policy: Table) -> Table:
    """V_t(s), ``[T, S]``."""
    return (policy * action_values(policy)).sum(axis=-1)


def mean_gae(trace: float) -> Table:
    """E[A_t | s, a]: the one-step error, and λ times what the next state's advantage is on average."""
    values, reward = setting().values, setting().chain.reward

    def step(following: Table, last: bool) -> tuple[Table, Table]:
        bootstrap = 0.0 if last else onward(values)
        advantage = reward + bootstrap - values[:, None] + trace * onward(following)
        return advantage, (setting().policy * advantage).sum(axis=-1)

    return backward(step)


def mean_vtrace() -> Table:
    """E[min(ρ̄, ρ)(r + v' − V) | s, a], with the mean of v by the V-trace operator under μ."""
    values, reward, ratio = setting().values, setting().chain.reward, setting().ratio
    bounded, trace = np.minimum(ratio, RATIO_BOUND), np.minimum(ratio, TRACE_BOUND)

    def step(correction: Table, last: bool) -> tuple[Table, Table]:
        bootstrap = 0.0 if last else onward(values)
        error = reward + bootstrap - values[:, None]
        flow = onward(correction)  # the mean of v − V one step on
        mean_correction = (setting().behaviour * (bounded * error + trace * flow)).sum(axis=-1)
        return bounded * (error + flow), mean_correction

    return backward(step)


def target_policy() -> Table:
    """The policy whose value V-trace aims at: ∝ min(ρ̄ μ, π)."""
    mass = np.minimum(RATIO_BOUND * setting().behaviour, setting().policy)
    return mass / mass.sum(axis=-1, keepdims=True)


def mean_gain(policy: Table) -> Table:
    """E[max(G − V, 0) | s, a] from the whole distribution of the return G, by distributional backward induction."""
    chain, values = setting().chain, setting().values
    states, actions = chain.reward.shape
    result = np.zeros((chain.horizon, states, actions))
    following: list[dict[float, float]] = [{0.0: 1.0}] * states
    for t in reversed(range(chain.horizon)):
        here: list[dict[float, float]] = []
        for s in range(states):
            of_state: dict[float, float] = defaultdict(float)
            for a in range(actions):
                for successor, p in enumerate(chain.transition[s, a]):
                    after = {0.0: 1.0} if chain.terminal[successor] else following[successor]
                    for value, q in after.items():
                        returned = float(chain.reward[s, a]) + value
                        result[t, s, a] += p * q * max(returned - float(values[s]), 0.0)
                        of_state[returned] += float(policy[s, a] * p * q)
            here.append(dict(of_state))
        following = here
    return result


Outcome = tuple[float, int, float]  # return, length, π(τ)/μ(τ)


@cache
def law() -> dict[Outcome, Tensor]:
    """The probability of each outcome of an episode under π, with its graph."""
    chain, policy, ratio = setting().chain, setting().logits.softmax(dim=-1), setting().ratio
    finished: dict[Outcome, Tensor] = {}
    alive: dict[tuple[int, float, float], Tensor] = {
        (int(s), 0.0, 1.0): torch.tensor(chain.initial[s]) for s in np.flatnonzero(chain.initial)
    }

    def add(where: dict[Any, Tensor], key: Any, probability: Tensor) -> None:
        where[key] = where[key] + probability if key in where else probability

    for t in range(chain.horizon):
        after: dict[tuple[int, float, float], Tensor] = {}
        for (s, returned, quotient), reached in alive.items():
            for a in range(policy.shape[1]):
                total, factor = returned + float(chain.reward[s, a]), quotient * float(ratio[s, a])
                for successor, p in enumerate(chain.transition[s, a]):
                    probability = reached * policy[s, a] * p
                    if chain.terminal[successor] or t == chain.horizon - 1:
                        add(finished, (total, t + 1, factor), probability)
                    else:
                        add(after, (successor, total, factor), probability)
        alive = after
    return finished


def by_law(weight: Callable[[Outcome], float]) -> Tensor:
    """Σ_x f(x) ∇P(x)."""
    total = torch.stack([weight(outcome) * probability for outcome, probability in law().items()]).sum()
    return torch.autograd.grad(total, setting().logits, retain_graph=True)[0]


def mean_over_opponent(weight: Callable[[Outcome, Outcome], float]) -> Callable[[Outcome], float]:
    """Σ_x' P(x') f(x, x'): the other episode of a group of two."""
    opponents = [(outcome, float(probability.detach())) for outcome, probability in law().items()]
    return lambda outcome: sum(p * weight(outcome, other) for other, p in opponents)


def won(outcome: Outcome, other: Outcome) -> float:
    """1, 0 or −1."""
    return float(np.sign(outcome[0] - other[0]))


def expected_return() -> float:
    """J by backward induction."""
    return float(setting().chain.initial @ exact_values(setting().policy)[0])


def truth() -> Tensor:
    """∇J(π)."""
    return true_gradient(setting().chain, setting().logits, discount=1.0)


# ---------------------------------------------------------------------------------------------------------- the table


class Expectation(NamedTuple):
    """An estimator; both functions give its mean, ``[S, A]``."""

    estimator: str
    exact: bool  # whether the mean is ∇J(π)
    independently: str
    estimate: Callable[[], Tensor]
    from_tables: Callable[[], Tensor]


EXPECTATIONS = [
    Expectation("REINFORCE, reward-to-go", True, "∇J", lambda: on_policy(weights.score, to_go), truth),
    Expectation("REINFORCE less a wrong V(s)", True, "∇J", lambda: on_policy(weights.score, less_value), truth),
    Expectation(
        "RLOO, pairs",
        True,
        "∇J",
        lambda: in_pairs(lambda returned, _: returned - returns.leave_one_out(returned)),
        truth,
    ),
    Expectation("GAE, λ = 1, wrong V", True, "∇J", lambda: on_policy(weights.score, gae(1.0)), truth),
    Expectation(
        "GAE, λ = ½, exact V",
        True,
        "∇J",
        lambda: on_policy(weights.score, gae(TRACE), exact_values(setting().policy)),
        truth,
    ),
    Expectation(
        "GAE, λ = ½, wrong V",
        False,
        "backward recursion of E[A given s, a]",
        lambda: on_policy(weights.score, gae(TRACE)),
        lambda: by_occupancy(setting().policy, mean_gae(TRACE)),
    ),
    Expectation(
        "V-trace, on policy, wrong V",
        True,
        "∇J",
        lambda: on_policy(weights.score, vtrace(np.ones_like(setting().policy), 1.0, 1.0)),
        truth,
    ),
    Expectation(
        "V-trace, off policy, wrong V",
        False,
        "backward recursion of the V-trace operator",
        lambda: off_policy(partial(weights.v_trace, bound=RATIO_BOUND), vtrace(setting().ratio)),
        lambda: by_occupancy(setting().behaviour, mean_vtrace()),
    ),
    Expectation(
        "V-trace, off policy, exact V of its target policy",
        False,
        "Q − V of the policy ∝ min(ρ̄μ, π)",
        lambda: off_policy(
            partial(weights.v_trace, bound=RATIO_BOUND), vtrace(setting().ratio), exact_values(target_policy())
        ),
        lambda: by_occupancy(
            setting().behaviour,
            np.minimum(setting().ratio, RATIO_BOUND)
            * (action_values(target_policy()) - exact_values(target_policy())[..., None]),
        ),
    ),
    Expectation(
        "self-imitation, fresh data, wrong V",
        False,
        "distribution of the return by backward induction",
        lambda: on_policy(weights.self_imitation, less_value),
        lambda: by_occupancy(setting().policy, mean_gain(setting().policy)),
    ),
    Expectation(
        "self-imitation, replayed from μ, wrong V",
        False,
        "distribution of the return by backward induction",
        lambda: off_policy(weights.self_imitation, less_value),
        lambda: by_occupancy(setting().behaviour, mean_gain(setting().behaviour)),
    ),
    Expectation(
        "importance-sampled, one action's ratio, wrong V",
        False,
        "π in place of μρ; Q and states are μ's",
        lambda: off_policy(weights.importance_sampled, less_value),
        lambda: by_occupancy(
            setting().behaviour,
            setting().ratio * (action_values(setting().behaviour) - setting().values[:, None]),
        ),
    ),
    Expectation(
        "importance-sampled, the episode's ratio",
        True,
        "∇J",
        lambda: off_policy(weights.importance_sampled, lambda episodes: episodes.returned, whole=True),
        truth,
    ),
    Expectation(
        "CISPO, off policy, wrong V",
        False,
        "Q of μ; μρ̂ as mass between 0.8 μ and 1.2 μ",
        lambda: off_policy(partial(weights.cispo, low=LOW, high=HIGH), less_value),
        lambda: by_occupancy(
            setting().behaviour,
            np.median(
                np.stack([(1 - LOW) * setting().behaviour, setting().policy, (1 + HIGH) * setting().behaviour]), axis=0
            )
            / setting().behaviour
            * (action_values(setting().behaviour) - setting().values[:, None]),
        ),
    ),
    Expectation(
        "TOPR, off policy",
        False,
        "Σ ∇P; R < 0 has mass min(μ, π)",
        lambda: off_policy(weights.topr, lambda episodes: episodes.returned),
        lambda: by_law(lambda x: x[0] / x[2] if x[0] >= 0 else x[0] * min(1.0, 1.0 / x[2])),
    ),
    Expectation(
        "Dr. GRPO, pairs",
        False,
        "½∇J",
        lambda: in_pairs(lambda returned, _: returns.group_centred(returned)),
        lambda: truth() / 2,
    ),
    Expectation(
        "GRPO's 1/len alone, pairs",
        False,
        "Σ ∇P (R − J)/2len",
        lambda: in_pairs(lambda returned, lengths: returns.group_centred(returned) / lengths),
        lambda: by_law(lambda x: (x[0] - expected_return()) / (2 * x[1])),
    ),
    Expectation(
        "GRPO's 1/std alone, pairs",
        False,
        "gradient of the win rate, by √½",
        lambda: in_pairs(lambda returned, _: returns.group_standardized(returned, floor=1e-14)),
        lambda: by_law(mean_over_opponent(lambda x, other: won(x, other) * math.sqrt(0.5))),
    ),
    Expectation(
        "GRPO, pairs",
        False,
        "the same by 1/len",
        lambda: in_pairs(lambda returned, lengths: returns.group_standardized(returned, floor=1e-14) / lengths),
        lambda: by_law(mean_over_opponent(lambda x, other: won(x, other) * math.sqrt(0.5) / x[1])),
    ),
    Expectation(
        "whole batch standardised, pairs, whole return",
        False,
        "win or loss by √(len'/len)",
        lambda: in_pairs(standardized_rows),
        lambda: by_law(mean_over_opponent(lambda x, other: won(x, other) * math.sqrt(other[1] / x[1]))),
    ),
    Expectation(
        "Z = steps, single episodes, whole return",
        False,
        "Σ ∇P R/len",
        lambda: mean_estimate(
            setting().chain,
            setting().logits,
            reinforce(baseline="none", discount=1.0, whole_return=True, episodes=1),
            per="steps",
        ),
        lambda: by_law(lambda x: x[0] / x[1]),
    ),
]


def bias(mean: Tensor) -> tuple[float, float]:
    """‖mean − ∇J‖/‖∇J‖, and the cosine between both."""
    exact = truth()
    cosine = float((mean * exact).sum() / (mean.norm() * exact.norm()))
    return float((mean - exact).norm() / exact.norm()), cosine
