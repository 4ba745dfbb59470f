"""Credit: from rewards to the worth of each action. Arrays are NumPy, time-major ``[T, N]``.

One backward recursion, `discounted_sum`, serves every return. Two flags control it: ``terminated`` stops the bootstrap
(nothing follows a terminal state), ``done`` = terminated or truncated stops the recursion (nothing flows from one
episode into the one before).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlce.rules.ranges import unit_interval

Array = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


def discounted_sum(increments: Array, decay: Array) -> Array:
    """The backward recursion x_t = increments_t + decay_t · x_{t+1}, with x_T = 0.

    Args:
        increments: ``[T, N]``.
        decay: ``[T, N]``, the part of the next row that flows back; zero cuts.

    Returns:
        x, ``[T, N]``, of the common dtype of both.

    Example:
        >>> discounted_sum(np.ones((3, 1)), np.full((3, 1), 0.5)).ravel()
        array([1.75, 1.5 , 1.  ])
    """
    _same_shape(increments=increments, decay=decay)
    result = np.empty(increments.shape, np.result_type(increments, decay))
    following: Array | float = 0.0
    for t in range(len(increments) - 1, -1, -1):
        following = result[t] = increments[t] + decay[t] * following
    return result


def reward_to_go(
    reward: Array, terminated: Flags, done: Flags, discount: float, next_value: Array | None = None
) -> Array:
    """Discounted sum of the rewards from t to the end of the episode: G_t = r_t + γ G_{t+1}.

    Args:
        reward: ``[T, N]``.
        terminated: ``[T, N]``, the episode reached a terminal state; wins where both flags are set.
        done: ``[T, N]``, terminated or truncated.
        discount: γ in [0, 1].
        next_value: V(s_{t+1}) at the true successor, ``[T, N]``: γV(s_{t+1}) then continues a truncated episode, and
            the tail cut at T−1. With None both end there, which is right only for whole episodes whose time limit
            belongs to the task.

    Returns:
        G, ``[T, N]``.

    Source:
        Williams (1992); the bootstrap at time limits, Pardo et al. (2018), arXiv 1712.00378.

    Example:
        >>> off = np.zeros((3, 1), bool)
        >>> reward_to_go(np.ones((3, 1)), off, off, 1.0).ravel()
        array([3., 2., 1.])
        >>> reward_to_go(np.ones((3, 1)), off, off, 1.0, next_value=np.full((3, 1), 10.0)).ravel()
        array([13., 12., 11.])
    """
    _same_shape(reward=reward, terminated=terminated, done=done)
    unit_interval(discount=discount)
    if next_value is None:
        return discounted_sum(reward, discount * _open(done, reward))
    _same_shape(reward=reward, next_value=next_value)
    cut = done.copy()
    cut[-1] = True
    bootstrap = np.where(cut & ~terminated, next_value, np.zeros_like(next_value))
    return discounted_sum(reward + discount * bootstrap, discount * _open(cut, reward))


def gae(
    reward: Array, value: Array, next_value: Array, terminated: Flags, done: Flags, discount: float, trace: float
) -> Array:
    """Generalised advantage estimate: δ_t = r + γ(1−terminated)V' − V;  A_t = δ_t + γλ(1−done) A_{t+1}.

    The last row bootstraps with its own ``next_value``, so a rollout may end anywhere.

    Args:
        reward: ``[T, N]``.
        value: V(s_t), ``[T, N]``.
        next_value: V(s_{t+1}) at the true successor, ``[T, N]``: the final observation of an episode, not the first
            one of the next episode.
        terminated: ``[T, N]``, stops the bootstrap.
        done: ``[T, N]``, terminated or truncated, stops the recursion.
        discount: γ in [0, 1].
        trace: λ in [0, 1]; 0 gives the one-step advantage, 1 the bootstrapped reward-to-go less V.

    Returns:
        A, ``[T, N]``; A + V is the λ-return, the critic's target.

    Source:
        Schulman et al. (2016), arXiv 1506.02438.

    Example:
        >>> r, v = np.ones((2, 1)), np.zeros((2, 1))
        >>> end = np.array([[False], [True]])
        >>> gae(r, v, v, end, end, discount=1.0, trace=1.0).ravel()
        array([2., 1.])
    """
    _same_shape(reward=reward, value=value, next_value=next_value, terminated=terminated, done=done)
    unit_interval(discount=discount, trace=trace)
    delta = reward + discount * np.where(terminated, np.zeros_like(next_value), next_value) - value
    return discounted_sum(delta, discount * trace * _open(done, reward))


def vtrace(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Flags,
    done: Flags,
    ratio: Array,
    discount: float,
    trace: float = 1.0,
    ratio_bound: float = 1.0,
    trace_bound: float = 1.0,
) -> tuple[Array, Array]:
    """V-trace: off-policy value targets, and the advantages of its actor.

    v_t − V_t = min(ρ̄, ρ_t) δ_t + γ(1−done) λ min(c̄, ρ_t) (v_{t+1} − V_{t+1}),  δ_t = r + γ(1−terminated)V' − V;
    the advantage is r + γ v' − V, where v' = v_{t+1} within an episode and V' where it was cut. With ρ = 1 and bounds
    of at least 1 the target is the λ-return A + V of `gae`; at λ = 1 the advantage is also that of `gae`.

    Args:
        reward: ``[T, N]``.
        value: V(s_t), ``[T, N]``.
        next_value: V(s_{t+1}) at the true successor, ``[T, N]``; within an episode the next row's ``value``.
        terminated: ``[T, N]``, stops the bootstrap.
        done: ``[T, N]``, terminated or truncated, stops the recursion.
        ratio: ρ = π(a|s) now / π(a|s) when a was taken, ``[T, N]``.
        discount: γ in [0, 1].
        trace: λ in [0, 1].
        ratio_bound: ρ̄ > 0; it decides which policy's value function is the fixed point.
        trace_bound: c̄ in (0, ρ̄]; it decides how fast the targets get there.

    Returns:
        Value targets v and advantages, ``[T, N]`` each. The actor's weight is min(ρ̄, ρ) times the advantage
        (`rlce.weights.v_trace`).

    Source:
        Espeholt et al. (2018), arXiv 1802.01561, equation 1 and remark 1; λ as in its remark 2.

    Example:
        >>> r, v, end = np.ones((2, 1)), np.zeros((2, 1)), np.array([[False], [True]])
        >>> target, advantage = vtrace(r, v, v, end, end, ratio=np.full((2, 1), 0.5), discount=1.0)
        >>> target.ravel(), advantage.ravel()
        (array([0.75, 0.5 ]), array([1.5, 1. ]))
    """
    _same_shape(reward=reward, value=value, next_value=next_value, terminated=terminated, done=done, ratio=ratio)
    unit_interval(discount=discount, trace=trace)
    if not 0.0 < trace_bound <= ratio_bound:
        raise ValueError(f"bounds must be 0 < trace_bound <= ratio_bound, got {trace_bound} and {ratio_bound}")
    bootstrap = np.where(terminated, np.zeros_like(next_value), next_value)
    delta = np.minimum(ratio, ratio_bound) * (reward + discount * bootstrap - value)
    flow = _open(done, reward)
    correction = discounted_sum(delta, discount * trace * flow * np.minimum(ratio, trace_bound))
    following = np.zeros_like(correction)
    following[:-1] = correction[1:]
    return value + correction, reward + discount * (bootstrap + flow * following) - value


def batch_mean(returns: Array) -> Array:
    """Mean over the last axis: a baseline that includes a row's own return.

    With it the expected gradient is exactly (n−1)/n of the true one.

    Args:
        returns: ``[..., n]``, zero where an episode has already ended.

    Returns:
        ``[..., 1]``, to be subtracted.

    Example:
        >>> batch_mean(np.array([1.0, 2.0, 6.0]))
        array([3.])
    """
    _at_least_two(returns)
    # Count from the first entry, so that equal returns give exactly zero: Adam would magnify rounding errors.
    first = returns[..., :1]
    return first + (returns - first).mean(axis=-1, keepdims=True)


def leave_one_out(returns: Array) -> Array:
    """Mean of the other n−1 entries of the last axis: an unbiased baseline that needs no critic.

    Args:
        returns: ``[..., n]``, n >= 2, zero where an episode has already ended.

    Returns:
        ``[..., n]``, to be subtracted; returns − leave_one_out = n/(n−1) (returns − mean).

    Source:
        Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. (2024),
        arXiv 2402.14740.

    Example:
        >>> leave_one_out(np.array([1.0, 2.0, 6.0]))
        array([4. , 3.5, 1.5])
    """
    _at_least_two(returns)
    first = returns[..., :1]  # as in `batch_mean`
    above = returns - first
    return first + (above.sum(axis=-1, keepdims=True) - above) / (returns.shape[-1] - 1)


def group_centred(returns: Array) -> Array:
    """Dr. GRPO's advantage: r − mean over the last axis, for each step of the episode.

    It is (n−1)/n of RLOO's, ``returns − leave_one_out(returns)``: the same direction, a little shorter.

    Args:
        returns: one return an episode, ``[..., n]``, n >= 2.

    Returns:
        One advantage an episode, ``[..., n]``; equal returns give exactly zero.

    Source:
        Liu et al. (2025), "Understanding R1-Zero-like training", arXiv 2503.20783.

    Example:
        >>> group_centred(np.array([1.0, 2.0, 6.0]))
        array([-2., -1.,  3.])
    """
    return returns - batch_mean(returns)


def group_standardized(returns: Array, floor: float = 1e-4) -> Array:
    """GRPO's advantage before it is divided by the episode's length: (r − mean)/(std + δ) over the last axis.

    The standard deviation is that of a sample (n−1). Dividing by it biases the expected gradient: groups whose returns
    hardly differ count as much as any other. `group_centred` does not divide.

    Args:
        returns: one return an episode, ``[..., n]``, n >= 2.
        floor: δ >= 0. Equal returns give zero for any δ.

    Returns:
        One advantage an episode, for each of its steps, ``[..., n]``.

    Source:
        Shao et al. (2024), arXiv 2402.03300; on the bias, Liu et al. (2025), arXiv 2503.20783.

    Example:
        >>> group_standardized(np.array([1.0, 3.0]), floor=0.0).round(4)
        array([-0.7071,  0.7071])
    """
    _at_least_two(returns)
    return _standardized(returns, returns[..., :1], floor, axis=-1, ddof=1)


def standardized(advantage: Array, floor: float = 1e-8) -> Array:
    """(A − mean)/(std + δ) over all entries: a whole batch shifted and scaled, as is usual with PPO.

    The standard deviation is that of a population (n), so a single entry gives zero. The statistics depend on the very
    actions that they weight, so the expected gradient is not a multiple of ∇J.

    Args:
        advantage: any shape, without padding.
        floor: δ >= 0. Equal advantages give zero for any δ.

    Returns:
        The same shape.

    Source:
        Engstrom et al. (2020), "Implementation matters in deep policy gradients", arXiv 2005.12729.

    Example:
        >>> standardized(np.array([1.0, 3.0]), floor=0.0)
        array([-1.,  1.])
    """
    return _standardized(advantage, advantage.ravel()[:1], floor, axis=None, ddof=0)


def elite(returns: Array, quantile: float = 0.7) -> Array:
    """1[R_i >= the quantile], over whole episodes: the cross-entropy method on episodes, or filtered cloning.

    The threshold is the ⌈qn⌉-th smallest return, so of n different returns the best n − ⌈qn⌉ + 1 are kept; episodes
    that tie with the threshold are kept too.

    Args:
        returns: one return an episode, ``[..., n]``, n >= 2.
        quantile: q in [0, 1].

    Returns:
        1 or 0 an episode, for each of its steps, ``[..., n]``.

    Source:
        de Boer et al. (2005), "A tutorial on the cross-entropy method", algorithm 2.1.

    Example:
        >>> elite(np.array([3.0, 1.0, 2.0, 0.0]), quantile=0.75)
        array([1., 0., 1., 0.])
    """
    unit_interval(quantile=quantile)
    _at_least_two(returns)
    # The small step back undoes rounding such as 0.55 · 100 = 55.00000000000001.
    rank = max(math.ceil(quantile * returns.shape[-1] - 1e-9), 1)
    threshold = np.sort(returns, axis=-1)[..., rank - 1 : rank]
    return (returns >= threshold).astype(returns.dtype)


def _at_least_two(returns: Array) -> None:
    if returns.shape[-1] < 2:
        raise ValueError(f"episodes must be at least 2, since they are compared, got {returns.shape[-1]}")


def _standardized(values: Array, first: Array, floor: float, axis: int | None, ddof: int) -> Array:
    above = values - first  # so that equal values give exactly zero, as in `batch_mean`
    centred = above - above.mean(axis=axis, keepdims=True)
    spread = above.std(axis=axis, ddof=ddof, keepdims=True) + floor
    return centred / np.where(spread > 0, spread, np.ones_like(spread))  # equal values without a floor: 0/0


def _open(closed: Flags, like: Array) -> Array:
    """1 − closed in the dtype of ``like``."""
    return (~closed).astype(like.dtype)


def _same_shape(**arrays: NDArray[Any]) -> None:
    (first_name, first), *rest = arrays.items()
    if first.ndim != 2:
        raise ValueError(f"{first_name} must have shape [T, N], got {list(first.shape)}")
    for name, array in rest:
        if array.shape != first.shape:
            raise ValueError(
                f"{name} must have the shape of {first_name}, {list(first.shape)}, got {list(array.shape)}"
            )
