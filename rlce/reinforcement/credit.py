"""Credit rules: from a rollout (and the critic's values) to the advantage of every action and the critic's target.

A rule is a pure function `Experience` → `Credit`; its numbers are bound with `functools.partial`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlce.rules import returns

Array = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Baseline = Literal["none", "mean", "leave-one-out", "value"]
Comparison = Literal["leave-one-out", "centred", "standardized"]


class Experience(NamedTuple):
    """What a credit rule gets. Every field is time-major ``[T, N]``; rows that are not ``valid`` hold zeros."""

    reward: Array
    terminated: Flags
    truncated: Flags
    valid: Flags
    time: NDArray[np.int64]  # steps since the episode began
    value: Array | None  # V(s_t), with a critic
    next_value: Array | None  # V(s_{t+1}) at the true successor, with a critic
    log_prob: Array | None = None  # log π(a|s) now, for methods with a ratio
    behaviour_log_prob: Array | None = None  # log π(a|s) when a was taken, for methods with a ratio

    @property
    def done(self) -> Flags:
        """Terminated or truncated."""
        return self.terminated | self.truncated


class Credit(NamedTuple):
    """The advantage of each action, and the critic's target. ``[T, N]`` each."""

    advantage: Array
    target: Array | None  # None without a critic
    row_weight: Array | None = None  # a factor of all the row's terms in the policy's loss; None for ones


def monte_carlo(
    experience: Experience,
    *,
    discount: float,
    baseline: Baseline,
    whole_return: bool = False,
    exact_discount: bool = False,
) -> Credit:
    """Return minus a baseline. If there is a critic, its value continues cut episodes; otherwise they end.

    Args:
        experience: the rollout; without a critic, each column must be one whole episode.
        discount: γ in [0, 1].
        baseline: "none"; "mean" over the columns at the same time step (an ended episode counts as zero; the
            expected gradient is then exactly (n−1)/n of the true one); "leave-one-out", the mean of the other
            columns (unbiased); "value", V(s).
        whole_return: give every action of an episode the return from its start, as in Williams's first form. A critic
            still learns the reward-to-go, so as a baseline it fits the episode's first step best.
        exact_discount: multiply by γ^t, which gives the gradient of the *discounted* objective; usual practice omits
            it.

    Returns:
        Advantage, and the return as the critic's target.
    """
    reward, terminated, done = experience.reward, experience.terminated, experience.done
    returned = returns.reward_to_go(reward, terminated, done, discount, experience.next_value)
    target = returned if experience.value is not None else None
    if whole_return:
        returned = returned[:1]  # broadcast over the episode below; so is its baseline, whatever the lengths
    advantage = returned
    if baseline == "value":
        assert experience.value is not None
        advantage = returned - experience.value
    elif baseline == "mean":
        advantage = returned - returns.batch_mean(returned)
    elif baseline == "leave-one-out":
        advantage = returned - returns.leave_one_out(returned)
    if exact_discount and not whole_return:  # a whole return is discounted from the episode's start already
        advantage = advantage * discount**experience.time
    return Credit(np.where(experience.valid, advantage, 0.0), target)


def generalized_advantage(experience: Experience, *, discount: float, trace: float) -> Credit:
    """Generalised advantage estimation; the critic's target is the λ-return A + V.

    Args:
        experience: the rollout, with a critic's values.
        discount: γ in [0, 1].
        trace: λ in [0, 1].

    Returns:
        Advantage and target.

    Source:
        Schulman et al. (2016), arXiv 1506.02438.
    """
    given = _with_values(experience)
    advantage = returns.gae(*given, discount, trace)
    return Credit(advantage, advantage + given[1])


def grouped(
    experience: Experience,
    *,
    discount: float,
    comparison: Comparison,
    group_size: int | None = None,
    per_length: bool = False,
) -> Credit:
    """The return of a whole episode compared with the others of its group, the same for each of its actions.

    Args:
        experience: whole episodes, one a column; groups are neighbouring columns.
        discount: γ in [0, 1].
        comparison: "leave-one-out" (RLOO, unbiased), "centred" (Dr. GRPO, (n−1)/n of it) or "standardized" (GRPO).
        group_size: G episodes a group; None for one group of all.
        per_length: weight rows by one over their episode's length (GRPO), which biases the gradient.

    Returns:
        Advantage ``[T, N]``, no target, and the rows' weights.

    Raises:
        ValueError: the episodes do not fill groups of G, or a group has only one.

    Source:
        Ahmadian et al. (2024), arXiv 2402.14740; Shao et al. (2024), arXiv 2402.03300; Liu et al. (2025),
        arXiv 2503.20783.
    """
    episodes = experience.reward.shape[1]
    if episodes % (group_size or episodes) != 0:
        raise ValueError(f"{episodes} episodes do not fill groups of {group_size}")
    returned = returns.reward_to_go(experience.reward, experience.terminated, experience.done, discount)[0]
    groups = returned.reshape(-1, group_size or episodes)
    if comparison == "standardized":
        advantage = returns.group_standardized(groups)
    elif comparison == "leave-one-out":
        advantage = groups - returns.leave_one_out(groups)
    else:
        advantage = returns.group_centred(groups)
    valid = experience.valid
    row_weight = valid / valid.sum(axis=0) if per_length else None
    return Credit(np.where(valid, advantage.ravel(), 0.0), None, row_weight)


def elite_episodes(experience: Experience, *, quantile: float) -> Credit:
    """1 for every action of the best episodes, 0 for the rest: the cross-entropy method on episodes.

    Args:
        experience: whole episodes, one a column.
        quantile: q in [0, 1]: episodes whose undiscounted return reaches this quantile of the round's are kept.

    Returns:
        Advantage ``[T, N]``, zero or one; no target.

    Source:
        de Boer et al. (2005), "A tutorial on the cross-entropy method".
    """
    kept = returns.elite(experience.reward.sum(axis=0), quantile)
    return Credit(np.where(experience.valid, kept, 0.0), None)


def v_trace_targets(
    experience: Experience, *, discount: float, trace: float, ratio_bound: float, trace_bound: float
) -> Credit:
    """V-trace: advantages and value targets from actions of older policies.

    Args:
        experience: the rollout, with a critic's values and both log-probabilities.
        discount: γ in [0, 1].
        trace: λ in [0, 1].
        ratio_bound: ρ̄ > 0.
        trace_bound: c̄ in (0, ρ̄].

    Returns:
        Advantage and target.

    Source:
        Espeholt et al. (2018), arXiv 1802.01561.
    """
    assert experience.log_prob is not None
    assert experience.behaviour_log_prob is not None
    ratio = np.exp(experience.log_prob - experience.behaviour_log_prob)
    target, advantage = returns.vtrace(*_with_values(experience), ratio, discount, trace, ratio_bound, trace_bound)
    return Credit(advantage, target)


def _with_values(experience: Experience) -> tuple[Array, Array, Array, Flags, Flags]:
    """The first five arguments of `rlce.returns.gae` and `vtrace`."""
    value, next_value = experience.value, experience.next_value
    assert value is not None
    assert next_value is not None
    return experience.reward, value, next_value, experience.terminated, experience.done
