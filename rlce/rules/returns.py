"""Credit: from rewards to what each action is worth. Arrays are NumPy, time-major ``[T, N]``.

One backward recursion, `discounted_sum`, serves every return. Two flags steer it: ``terminated`` gates the
bootstrap (nothing follows a terminal state), ``done`` = terminated or truncated gates the recursion (nothing
flows from one episode into the one before).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


def discounted_sum(increments: Array, decay: Array, last: Array | float = 0.0) -> Array:
    """The backward recursion x_t = increments_t + decay_t · x_{t+1}.

    Args:
        increments: ``[T, N]``.
        decay: ``[T, N]``, how much of the next row flows back; zero cuts.
        last: x_T, the value after the last row, ``[N]`` or a number.

    Returns:
        x, ``[T, N]``, of the common dtype of both.

    Example:
        >>> discounted_sum(np.ones((3, 1)), np.full((3, 1), 0.5)).ravel()
        array([1.75, 1.5 , 1.  ])
    """
    _same_shape(increments=increments, decay=decay)
    result = np.empty(increments.shape, np.result_type(increments, decay))
    following: Array | float = last
    for t in range(len(increments) - 1, -1, -1):
        following = result[t] = increments[t] + decay[t] * following
    return result


def reward_to_go(
    reward: Array,
    terminated: Flags,
    done: Flags,
    discount: float,
    next_value: Array | None = None,
) -> Array:
    """Discounted sum of the rewards from t to the end of the episode: G_t = r_t + γ G_{t+1}.

    Args:
        reward: ``[T, N]``.
        terminated: ``[T, N]``, the episode reached a terminal state; wins where both flags are set.
        done: ``[T, N]``, terminated or truncated.
        discount: γ in [0, 1].
        next_value: V(s_{t+1}) at the true successor, ``[T, N]``. With it, a truncated episode and the tail cut at
            T−1 are continued by γV(s_{t+1}); without it (None) they end there, which is right only for whole
            episodes whose time limit belongs to the task.

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
    if next_value is None:
        return discounted_sum(reward, discount * _open(done, reward))
    _same_shape(reward=reward, next_value=next_value)
    cut = done.copy()
    cut[-1] = True
    bootstrap = np.where(cut & ~terminated, next_value, np.zeros_like(next_value))
    return discounted_sum(reward + discount * bootstrap, discount * _open(cut, reward))


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Flags,
    done: Flags,
    discount: float,
    trace: float,
) -> Array:
    """Generalised advantage estimate: δ_t = r + γ(1−terminated)V' − V;  A_t = δ_t + γλ(1−done) A_{t+1}.

    The last row bootstraps with its own ``next_value``, so a rollout may end anywhere.

    Args:
        reward: ``[T, N]``.
        value: V(s_t), ``[T, N]``.
        next_value: V(s_{t+1}) at the true successor: the final observation of an episode, not the reset one that
            may follow it, ``[T, N]``.
        terminated: ``[T, N]``, gates the bootstrap.
        done: ``[T, N]``, terminated or truncated, gates the recursion.
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
    if not 0.0 <= trace <= 1.0:
        raise ValueError(f"trace must lie in [0, 1], got {trace}")
    delta = reward + discount * np.where(terminated, np.zeros_like(next_value), next_value) - value
    return discounted_sum(delta, discount * trace * _open(done, reward))


def n_step(reward: Array, next_value: Array, terminated: Flags, done: Flags, discount: float, steps: int) -> Array:
    """n-step return: n rewards, then γ^n V; fewer where the episode or the rollout ends before.

    Args:
        reward: ``[T, N]``.
        next_value: V(s_{t+1}) at the true successor, ``[T, N]``.
        terminated: ``[T, N]``, gates the bootstrap.
        done: ``[T, N]``, terminated or truncated.
        discount: γ in [0, 1].
        steps: n >= 1.

    Returns:
        Returns, ``[T, N]``; subtract V(s_t) for the advantage.

    Source:
        Sutton and Barto (2018), "Reinforcement Learning", section 7.1.

    Example:
        >>> off = np.zeros((3, 1), bool)
        >>> n_step(np.ones((3, 1)), np.full((3, 1), 10.0), off, off, 1.0, steps=2).ravel()
        array([12., 12., 11.])
    """
    _same_shape(reward=reward, next_value=next_value, terminated=terminated, done=done)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    one_step = reward + discount * np.where(terminated, np.zeros_like(next_value), next_value)
    result = one_step
    for _ in range(min(steps, len(reward)) - 1):
        longer = one_step.copy()
        longer[:-1] = np.where(done[:-1], one_step[:-1], reward[:-1] + discount * result[1:])
        result = longer
    return result


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
    of at least 1 the target is the λ-return A + V of `gae`; at λ = 1 so is the advantage.

    Args:
        reward: ``[T, N]``.
        value: V(s_t), ``[T, N]``.
        next_value: V(s_{t+1}) at the true successor, ``[T, N]``; within an episode the next row's ``value``.
        terminated: ``[T, N]``, gates the bootstrap.
        done: ``[T, N]``, terminated or truncated, gates the recursion.
        ratio: ρ = π(a|s) now / π(a|s) when a was taken, ``[T, N]``.
        discount: γ in [0, 1].
        trace: λ in [0, 1].
        ratio_bound: ρ̄ > 0; which value function the targets aim at.
        trace_bound: c̄ in (0, ρ̄]; how fast they get there.

    Returns:
        Value targets v and advantages, ``[T, N]`` each. The actor's weight is min(ρ̄, ρ) times the advantage
        (`rlce.weights.v_trace`).

    Raises:
        ValueError: shapes that differ, λ outside [0, 1], or bounds that are not 0 < c̄ <= ρ̄.

    Source:
        Espeholt et al. (2018), arXiv 1802.01561, equation 1 and remark 1; λ as in its remark 2.

    Example:
        >>> r, v, end = np.ones((2, 1)), np.zeros((2, 1)), np.array([[False], [True]])
        >>> target, advantage = vtrace(r, v, v, end, end, ratio=np.full((2, 1), 0.5), discount=1.0)
        >>> target.ravel(), advantage.ravel()
        (array([0.75, 0.5 ]), array([1.5, 1. ]))
    """
    _same_shape(reward=reward, value=value, next_value=next_value, terminated=terminated, done=done, ratio=ratio)
    if not 0.0 <= trace <= 1.0:
        raise ValueError(f"trace must lie in [0, 1], got {trace}")
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
    """Mean over the last axis, kept: the baseline that includes a row's own return.

    With it the expected gradient is exactly (n−1)/n of the true one.

    Args:
        returns: ``[..., n]``, zero where an episode has already ended.

    Returns:
        ``[..., 1]``, to be subtracted.

    Example:
        >>> batch_mean(np.array([1.0, 2.0, 6.0]))
        array([3.])
    """
    # Counted from the first entry, so that equal returns leave exactly zero: Adam would blow up rounding noise.
    first = returns[..., :1]
    return first + (returns - first).mean(axis=-1, keepdims=True)


def leave_one_out(returns: Array) -> Array:
    """Mean of the other n−1 entries of the last axis: an unbiased baseline that needs no critic.

    Args:
        returns: ``[..., n]``, zero where an episode has already ended.

    Returns:
        ``[..., n]``, to be subtracted; returns − leave_one_out = n/(n−1) (returns − mean).

    Raises:
        ValueError: n < 2, where there is no other entry.

    Source:
        Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. (2024),
        arXiv 2402.14740.

    Example:
        >>> leave_one_out(np.array([1.0, 2.0, 6.0]))
        array([4. , 3.5, 1.5])
    """
    count = returns.shape[-1]
    if count < 2:
        raise ValueError(f"a leave-one-out baseline needs at least 2 episodes, got {count}")
    # Counted from the first entry, as in `batch_mean`.
    first = returns[..., :1]
    above = returns - first
    return first + (above.sum(axis=-1, keepdims=True) - above) / (count - 1)


def group_centred(returns: Array) -> Array:
    """Dr. GRPO's advantage: r − mean over the last axis, for each step of the episode.

    It is (n−1)/n of RLOO's, ``returns − leave_one_out(returns)``: the right direction, a little short.

    Args:
        returns: one return an episode, ``[..., n]``.

    Returns:
        One advantage an episode, ``[..., n]``; equal returns give exactly zero.

    Raises:
        ValueError: n < 2, where nothing can be compared.

    Source:
        Liu et al. (2025), "Understanding R1-Zero-like training", arXiv 2503.20783.

    Example:
        >>> group_centred(np.array([1.0, 2.0, 6.0]))
        array([-2., -1.,  3.])
    """
    _at_least_two(returns)
    return returns - batch_mean(returns)


def group_standardized(returns: Array, lengths: NDArray[Any] | None = None, floor: float = 1e-4) -> Array:
    """GRPO's advantage: (r − mean)/(std + δ) over the last axis, divided by the episode's length.

    The standard deviation is that of a sample (n−1). Both divisions bias the expected gradient: by std, groups in which
    the episodes hardly differ count as much as any; by length, long failures are blamed less a step. Without either it
    is `group_centred`.

    Args:
        returns: one return an episode, ``[..., n]``.
        lengths: steps of each episode, ``[..., n]``, all at least 1; None for no division by length.
        floor: δ >= 0. Equal returns give zero whatever it is.

    Returns:
        One advantage an episode, for each of its steps, ``[..., n]``.

    Raises:
        ValueError: n < 2, where nothing can be compared; a length below 1.

    Source:
        Shao et al. (2024), arXiv 2402.03300; on the two biases, Liu et al. (2025), arXiv 2503.20783.

    Example:
        >>> group_standardized(np.array([1.0, 3.0]), np.array([1, 2]), floor=0.0).round(4)
        array([-0.7071,  0.3536])
    """
    _at_least_two(returns)
    if lengths is not None and (lengths < 1).any():
        raise ValueError(f"lengths must be at least 1, got {lengths.min()}")
    advantage = _standardized(returns, floor, axis=-1, freedom=1)
    return advantage if lengths is None else (advantage / lengths).astype(advantage.dtype)


def standardized(advantage: Array, floor: float = 1e-8) -> Array:
    """(A − mean)/(std + δ) over all entries: a whole batch shifted and scaled, as is usual with PPO.

    The standard deviation is that of a population (n), so a single entry gives zero. The statistics depend on the very
    actions they weight: the expected gradient is not a multiple of ∇J.

    Args:
        advantage: any shape, padding left out.
        floor: δ >= 0. Equal advantages give zero whatever it is.

    Returns:
        The same shape.

    Source:
        Engstrom et al. (2020), "Implementation matters in deep policy gradients", arXiv 2005.12729.

    Example:
        >>> standardized(np.array([1.0, 3.0]), floor=0.0)
        array([-1.,  1.])
    """
    return _standardized(advantage, floor, axis=None, freedom=0)


def elite(returns: Array, quantile: float = 0.7) -> Array:
    """1[R_i >= the quantile], over whole episodes: the cross-entropy method on episodes, or filtered cloning.

    The threshold is the ⌈qn⌉-th smallest return, so of n different returns the best n − ⌈qn⌉ + 1 are kept; episodes
    that tie with the threshold are kept too.

    Args:
        returns: one return an episode, ``[..., n]``.
        quantile: q in [0, 1].

    Returns:
        1 or 0 an episode, for each of its steps, ``[..., n]``.

    Raises:
        ValueError: q outside [0, 1], or no episode.

    Source:
        de Boer et al. (2005), "A tutorial on the cross-entropy method", algorithm 2.1.

    Example:
        >>> elite(np.array([3.0, 1.0, 2.0, 0.0]), quantile=0.75)
        array([1., 0., 1., 0.])
    """
    if not 0.0 <= quantile <= 1.0:
        raise ValueError(f"quantile must lie in [0, 1], got {quantile}")
    count = returns.shape[-1]
    if count < 1:
        raise ValueError("elite needs at least 1 episode, got 0")
    # The small step back undoes rounding such as 0.55 · 100 = 55.00000000000001.
    rank = max(math.ceil(quantile * count - 1e-9), 1)
    threshold = np.sort(returns, axis=-1)[..., rank - 1 : rank]
    return (returns >= threshold).astype(returns.dtype)


def _at_least_two(returns: Array) -> None:
    if returns.shape[-1] < 2:
        raise ValueError(f"episodes of a group are compared, which needs at least 2, got {returns.shape[-1]}")


def _standardized(values: Array, floor: float, axis: int | None, freedom: int) -> Array:
    if not floor >= 0.0:
        raise ValueError(f"floor must be at least 0, got {floor}")
    # Counted from the first entry, so that equal values leave exactly zero, as in `batch_mean`.
    above = values - (values[..., :1] if axis is not None else values.ravel()[:1].reshape((1,) * values.ndim))
    centred = above - above.mean(axis=axis, keepdims=True)
    spread = above.std(axis=axis, ddof=freedom, keepdims=True) + floor
    # Equal values: 0/0 without a floor.
    return centred / np.where(spread > 0, spread, np.ones_like(spread))


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
