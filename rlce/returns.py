"""Credit: from rewards to what each action is worth. Arrays are NumPy, time-major ``[T, N]``.

One backward recursion, `discounted_sum`, serves every return. Two flags steer it: ``terminated`` gates the
bootstrap (nothing follows a terminal state), ``done`` = terminated or truncated gates the recursion (nothing
flows from one episode into the one before).
"""

from __future__ import annotations

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
