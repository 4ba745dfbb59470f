"""Rollouts: `Collector` fills them, with a fixed number of steps or of whole episodes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlce.reinforcement import masks
from rlce.reinforcement.environments import Environments, Step
from rlce.reinforcement.masks import Mask
from rlce.reinforcement.spaces import Actions, Observations

Act = Callable[[Observations], NDArray[Any]]

_UNIFORMS_AHEAD = 256


class Rollout(NamedTuple):
    """What happened, time-major. In `Collector.episodes` a column is one whole episode, else one environment."""

    observation: Observations  # [T, N, D] flattened, as the policy saw it
    action: NDArray[Any]  # [T, N, *A] as the head stores it: class indices, raw samples
    reward: NDArray[np.float64]  # [T, N] as the environment gave it
    terminated: NDArray[np.bool_]  # [T, N]
    truncated: NDArray[np.bool_]  # [T, N]
    next_observation: Observations  # [T, N, D] the true successor
    valid: NDArray[np.bool_]  # [T, N] false on ghost steps and padding, which no estimate may use
    time: NDArray[np.int64]  # [T, N] steps since the episode began
    mask: Mask | None = None  # [T, N, K] true where the environment allows a class; None where it gives no masks


# ----------------------------------------------------------------------------------------------------------- collecting


class ActionStreams:
    """One stream of uniforms per environment, advanced on real steps alone.

    So the k-th real action of environment i meets the same random number in every autoreset mode. Numbers are
    drawn ahead in blocks, which costs nothing per step.

    Args:
        n: number of environments.
        seeds: spawned into one generator each.
        shape: of what one action uses: ``()`` for a single uniform.
    """

    def __init__(self, n: int, seeds: np.random.SeedSequence, shape: tuple[int, ...] = ()) -> None:
        self._generators = [np.random.Generator(np.random.PCG64(child)) for child in seeds.spawn(n)]
        self._block_shape = (_UNIFORMS_AHEAD, *shape)
        self._block = np.stack([g.random(self._block_shape) for g in self._generators], axis=1)
        self._cursor = np.zeros(n, np.int64)
        self._columns = np.arange(n)
        self._steps_until_empty = _UNIFORMS_AHEAD

    def draw(self, real: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The next uniforms of every environment, ``[N, *shape]``; only where ``real`` are they used up."""
        if self._steps_until_empty == 0:
            self._refill()
        uniforms = self._block[self._cursor, self._columns]
        self._cursor += real
        self._steps_until_empty -= 1
        return uniforms

    def _refill(self) -> None:
        for i in np.flatnonzero(self._cursor == _UNIFORMS_AHEAD):
            self._block[:, i] = self._generators[i].random(self._block_shape)
            self._cursor[i] = 0
        self._steps_until_empty = int(_UNIFORMS_AHEAD - self._cursor.max())


class Collector:
    """Gathers rollouts, and keeps its own statistics of finished episodes.

    Args:
        environments: what to act in.
        actions: turns outputs and uniforms into actions.
        seeds: spawned into the environments' seeds and the action streams.

    Attributes:
        steps_taken: real environment steps so far; ghost steps and dropped extras do not count.
        finished: (return, length) of the last 100 finished episodes; returns are undiscounted and unscaled.
    """

    def __init__(self, environments: Environments, actions: Actions, seeds: np.random.SeedSequence) -> None:
        self.environments, self.actions = environments, actions
        self._reset_seeds, action_seeds = seeds.spawn(2)
        self._streams = ActionStreams(environments.n, action_seeds, actions.head.target_shape)
        self.steps_taken = 0
        self.finished: deque[tuple[float, int]] = deque(maxlen=100)
        self._started = False
        self._masks: list[Mask | None] = []  # of the rollout that is being gathered, one a step
        self._time = np.zeros(environments.n, np.int64)
        self._return_so_far = np.zeros(environments.n)

    def steps(self, act: Act, length: int) -> Rollout:
        """``length`` steps of every environment, going on where the last rollout stopped.

        Args:
            act: observations ``[N, D]`` → outputs ``[N, K]``.
            length: T.

        Returns:
            A rollout of ``[T, N]`` rows, ghost steps marked not ``valid``.

        Raises:
            FloatingPointError: a reward, an observation or a continuous action is NaN or infinite; it names the step.
            ValueError: an action mask forbids every action; it names the environment and the step.
        """
        if not self._started or not self.environments.current:
            self._reset()
        rollout = self._allocate(length)
        for t in range(length):
            counted = self.environments.real
            step = self.environments.step(self._choose(act, rollout, t, counted))
            self._record(rollout, t, counted, step)
        return self._finished(rollout)

    def episodes(self, act: Act, count: int, group_size: int = 1) -> Rollout:
        """``count`` whole episodes, all from a fresh reset, each started and finished here.

        Each environment runs a fixed share, (count + i) // N of them, and what it does beyond is dropped: taking
        the first ``count`` to finish would favour short ones. A task whose episodes never end never returns from here.

        Args:
            act: observations ``[N, D]`` → outputs ``[N, K]``.
            count: how many.
            group_size: how many neighbouring columns begin from the same reset seed; above 1, each environment must
                play one episode.

        Returns:
            A rollout with one episode a column, ``[longest, count]``, padding marked not ``valid``.

        Raises:
            FloatingPointError: a reward, an observation or a continuous action is NaN or infinite; it names the step.
            ValueError: an action mask forbids every action; it names the environment and the step.
        """
        if group_size > 1 and count != self.environments.n:
            raise ValueError(
                f"groups need one episode an environment: {count} episodes, {self.environments.n} environments"
            )
        self._reset(group_size)
        chunks: list[Rollout] = []
        t = -1

        def choose(counted: NDArray[np.bool_]) -> NDArray[Any]:
            nonlocal t
            t = (t + 1) % _UNIFORMS_AHEAD
            if t == 0:
                chunks.append(self._allocate(_UNIFORMS_AHEAD, first=not chunks))
            return self._choose(act, chunks[-1], t, counted)

        for counted, step in self.environments.play(count, choose):
            self._record(chunks[-1], t, counted, step)
        chunks[-1] = _each(itemgetter(slice(t + 1)), chunks[-1])
        fields = zip(*chunks, strict=True)
        stream = Rollout._make(None if rows[0] is None else np.concatenate(rows) for rows in fields)
        self._started = False  # the next rollout begins with a reset, whatever its kind
        return _one_episode_a_column(self._finished(stream), count)

    def _reset(self, group_size: int = 1) -> None:
        self.environments.reset(self._reset_seeds.spawn(1)[0], group_size)
        self._started = True
        self._time[:] = 0
        self._return_so_far[:] = 0.0

    def _choose(self, act: Act, rollout: Rollout, t: int, counted: NDArray[np.bool_]) -> NDArray[Any]:
        """Draw actions, note in row t what they were drawn from, and return them as the environment wants them."""
        environments = self.environments
        outputs = act(environments.observation)
        if environments.mask is not None:
            outputs = masks.hide(outputs, environments.mask)
        self._masks.append(environments.mask)
        action = self.actions.head.sample(outputs, self._streams.draw(counted))
        if action.dtype.kind == "f":  # before it reaches the environment, which could do anything with it
            now = len(self._masks) - 1
            self._check_finite("environment's observation", environments.observation[None], now)
            self._check_finite("policy's action", action[None], now)
        rollout.observation[t] = environments.observation
        rollout.action[t] = action
        rollout.valid[t] = counted
        rollout.time[t] = self._time
        return self.actions.to_environment(action)

    def _record(self, rollout: Rollout, t: int, counted: NDArray[np.bool_], step: Step) -> None:
        """Note in row t what the actions led to."""
        rollout.next_observation[t] = step.next_observation
        rollout.reward[t] = step.reward
        rollout.terminated[t] = step.terminated
        rollout.truncated[t] = step.truncated
        self._time += counted
        self._time[step.done] = 0

    def _finished(self, rollout: Rollout) -> Rollout:
        """Zero what rows that do not count left behind, check the rest, and keep the episode statistics up to date."""
        rollout = rollout._replace(mask=masks.stacked(self._masks))
        ghost = ~rollout.valid
        rollout.reward[ghost] = 0.0
        rollout.terminated[ghost] = False
        rollout.truncated[ghost] = False
        for name in ("observation", "reward", "next_observation"):
            self._check_finite(f"environment's {name}", getattr(rollout, name))
        self.steps_taken += int(rollout.valid.sum())
        total = np.cumsum(rollout.reward, axis=0)
        total += self._return_so_far
        for t, i in np.argwhere(rollout.terminated | rollout.truncated):
            episode_return = float(total[t, i])
            self.finished.append((episode_return, int(rollout.time[t, i]) + 1))
            total[t:, i] -= episode_return
        self._return_so_far = total[-1]
        return rollout

    def _allocate(self, length: int, first: bool = True) -> Rollout:
        """Room for so many steps; ``first`` where a rollout begins."""
        if first:
            self._masks = []
        n, head, width = self.environments.n, self.actions.head, self.environments.width
        return Rollout(
            observation=np.empty((length, n, width), np.float32),
            action=np.empty((length, n, *head.target_shape), head.target_dtype),
            reward=np.empty((length, n)),
            terminated=np.empty((length, n), bool),
            truncated=np.empty((length, n), bool),
            next_observation=np.empty((length, n, width), np.float32),
            valid=np.empty((length, n), bool),
            time=np.empty((length, n), np.int64),
        )

    def _check_finite(self, name: str, values: NDArray[Any], first_step: int = 0) -> None:
        """``values`` are ``[T, N, ...]``, T steps from ``first_step`` of the rollout on."""
        # One sum costs a fraction of a test per entry, and is finite unless an entry is not (or it overflows).
        if not math.isfinite(float(values.sum(dtype=np.float64))) and not np.isfinite(values).all():
            t, i = np.argwhere(~np.isfinite(values))[0][:2]
            raise FloatingPointError(
                f"the {name} is not finite: {values[t, i]} in environment {i}, "
                f"{t + first_step} steps into the rollout that began after {self.steps_taken:,} steps"
            )


def _each(function: Callable[[NDArray[Any]], NDArray[Any]], rollout: Rollout) -> Rollout:
    """The same done to every field that is there."""
    return Rollout._make(None if rows is None else function(rows) for rows in rollout)


def _one_episode_a_column(stream: Rollout, count: int) -> Rollout:
    """Lay the episodes of a stream side by side, environment by environment, each from row 0."""
    n = stream.valid.shape[1]
    done = stream.terminated | stream.truncated
    pieces: list[tuple[int, NDArray[np.int64]]] = []
    for i in range(n):
        real = np.flatnonzero(stream.valid[:, i])
        ends = np.flatnonzero(done[real, i]) + 1
        pieces.extend((i, rows) for rows in np.split(real, ends)[: len(ends)])
    assert len(pieces) == count
    longest = max(len(rows) for _, rows in pieces)
    result = _each(lambda rows: np.zeros((longest, count, *rows.shape[2:]), rows.dtype), stream)
    for column, (i, rows) in enumerate(pieces):
        for source, destination in zip(stream, result, strict=True):
            if source is not None and destination is not None:
                destination[: len(rows), column] = source[rows, i]
    return result
