"""Rollouts: `Collector` fills them, with a fixed number of steps or of whole episodes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlce.reinforcement import masks
from rlce.reinforcement.environments import Environments, episode_shares, info_of, success
from rlce.reinforcement.masks import Mask
from rlce.reinforcement.spaces import Actions, Observations

Act = Callable[[Observations], NDArray[Any]]

_STEPS_AHEAD = 256

# In a rollout of whole episodes of a task without a known time limit. An episode may have 1,000 steps in any case.
LONGEST_EPISODE = 20_000  # steps
LARGEST_ROLLOUT = 2**32  # bytes


class Rollout(NamedTuple):
    """Arrays of what happened, time-major. A column is one environment, or in `Collector.episodes` one episode."""

    observation: Observations  # [T, N, D] flattened, as the policy saw it
    action: NDArray[Any]  # [T, N, *A] as the head stores it: class indices, raw samples
    reward: NDArray[np.float64]  # [T, N] as the environment gave it
    terminated: NDArray[np.bool_]  # [T, N]
    truncated: NDArray[np.bool_]  # [T, N]
    next_observation: Observations  # [T, N, D] the true successor
    valid: NDArray[np.bool_]  # [T, N] false on ghost steps and padding, which no estimate may use
    time: NDArray[np.int64]  # [T, N] steps since the episode began
    mask: Mask | None = None  # [T, N, K] true where the environment allows a class; None without masks


class Episode(NamedTuple):
    """An episode that ended."""

    episode_return: float  # undiscounted and unscaled
    length: int  # in steps
    info: dict[str, Any]  # of its last step, as that one environment gave it


class ActionStreams:
    """One stream of uniforms per environment, advanced on real steps only.

    So the k-th real action of environment i meets the same random number in every autoreset mode. Numbers are drawn
    in blocks, which is faster than drawing at every step.

    Args:
        n: number of environments.
        seeds: spawned into one generator each.
        shape: shape of the uniforms of one action; ``()`` for a single number.
    """

    def __init__(self, n: int, seeds: np.random.SeedSequence, shape: tuple[int, ...] = ()) -> None:
        self._generators = [np.random.Generator(np.random.PCG64(child)) for child in seeds.spawn(n)]
        self._block_shape = (_STEPS_AHEAD, *shape)
        self._block = np.stack([g.random(self._block_shape) for g in self._generators], axis=1)
        self._cursor = np.zeros(n, np.int64)
        self._columns = np.arange(n)
        self._steps_until_empty = _STEPS_AHEAD

    def draw(self, real: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The next uniforms of every environment, ``[N, *shape]``; they are used up only where ``real``."""
        if self._steps_until_empty == 0:
            for i in np.flatnonzero(self._cursor == _STEPS_AHEAD):
                self._block[:, i] = self._generators[i].random(self._block_shape)
                self._cursor[i] = 0
            self._steps_until_empty = int(_STEPS_AHEAD - self._cursor.max())
        self._steps_until_empty -= 1  # before the cursor moves: an interrupt between the two does no harm
        uniforms = self._block[self._cursor, self._columns]
        self._cursor += real
        return uniforms


class Collector:
    """Gathers rollouts, and keeps the returns and lengths of finished episodes.

    An error or an interrupt in the middle of a rollout discards the rollout: its steps do not count, and the next one
    begins with a reset.

    Args:
        environments: where to act.
        actions: turns outputs and uniforms into actions.
        seeds: spawned into the environments' seeds and the action streams.

    Attributes:
        environments: where to act; may be replaced by others of the same kind and number.
        steps_taken: real environment steps of all rollouts so far; ghost steps and dropped extras do not count.
        finished: (return, length) of the last 100 finished episodes; returns are undiscounted and unscaled.
        ended: the episodes that ended in the last rollout.

    Raises:
        FloatingPointError: while collecting, a reward, an observation or a continuous action is NaN or infinite; the
            message names the step.
        ValueError: while collecting, an action mask forbids every action; the message names environment and step.
    """

    def __init__(self, environments: Environments, actions: Actions, seeds: np.random.SeedSequence) -> None:
        self.environments, self.actions = environments, actions
        self._reset_seeds, action_seeds = seeds.spawn(2)
        self._streams = ActionStreams(environments.n, action_seeds, actions.head.target_shape)
        self.steps_taken = 0
        self.finished: deque[tuple[float, int]] = deque(maxlen=100)
        self.ended: list[Episode] = []
        self._successes: deque[float] = deque(maxlen=100)
        self._goes_on = False  # the next rollout may continue where the last one stopped
        self._masks: list[Mask | None] = []  # one per step of the rollout that is being gathered
        self._infos: dict[tuple[int, int], dict[str, Any]] = {}  # of the steps (t, i) in it that ended an episode
        self._time = np.zeros(environments.n, np.int64)
        self._return_so_far = np.zeros(environments.n)

    def scalars(self) -> dict[str, float]:
        """Means over the last 100 finished episodes, to log."""
        found: dict[str, float] = {}
        if self.finished:
            returns, lengths = zip(*self.finished, strict=True)
            found |= {"rollout/ep_rew_mean": float(np.mean(returns)), "rollout/ep_len_mean": float(np.mean(lengths))}
        if self._successes:
            found["rollout/success_rate"] = float(np.mean(self._successes))
        return found

    def steps(self, act: Act, length: int) -> Rollout:
        """``length`` steps of every environment, from where the last rollout stopped.

        Args:
            act: observations ``[N, D]`` → outputs ``[N, K]``.
            length: T.

        Returns:
            A rollout of ``[T, N]`` rows; ghost steps are not ``valid``.
        """
        if not self._goes_on or not self.environments.current:
            self._reset()
        self._goes_on = False  # until this rollout is complete
        rollout = self._allocate(length)
        for t in range(length):
            self._step(act, rollout, t, self.environments.real)
        rollout = self._finished(rollout)
        self._goes_on = True
        return rollout

    def episodes(self, act: Act, count: int, group_size: int = 1) -> Rollout:
        """``count`` whole episodes from a fresh reset.

        Each environment plays a fixed share of them (see `episode_shares`); what it does beyond is dropped.

        Args:
            act: observations ``[N, D]`` → outputs ``[N, K]``.
            count: number of episodes.
            group_size: number of neighbouring columns that begin from the same reset seed; above 1, each environment
                must play one episode.

        Returns:
            A rollout with one episode per column, ``[longest, count]``; padding is not ``valid``.

        Raises:
            RuntimeError: the task has no known time limit, and an episode has not ended after 20,000 steps, or after
                1,000 if the rollout takes more than 4 GiB.
        """
        self._goes_on = False
        self._reset(group_size)
        missing, chunks, taken = episode_shares(count, self.environments.n), [], 0
        while missing.any():
            t = taken % _STEPS_AHEAD
            if t == 0:
                chunks.append(self._allocate(_STEPS_AHEAD))
                step_bytes = sum(field.nbytes for field in chunks[0] if field is not None) // _STEPS_AHEAD
                longest = min(LONGEST_EPISODE, max(1_000, LARGEST_ROLLOUT // step_bytes))
            counted = self.environments.real & (missing > 0)
            missing -= self._step(act, chunks[-1], t, counted) & counted
            taken += 1
            if taken >= longest and not self.environments.has_time_limit:
                self._refuse_endless_episodes((self._time >= longest) & (missing > 0))
        fields = zip(*chunks, strict=True)
        stream = Rollout._make(None if parts[0] is None else np.concatenate(parts)[:taken] for parts in fields)
        return _one_episode_a_column(self._finished(stream), count)

    def _refuse_endless_episodes(self, endless: NDArray[np.bool_]) -> None:
        if endless.any():
            i = int(endless.argmax())
            raise RuntimeError(
                f"env: an episode of environment {i} has not ended after {self._time[i]:,} steps, and no time limit of "
                "the task is known. Train with a fixed number of steps (a method with steps=..., not "
                "episodes=...), or give the task a limit (gymnasium.wrappers.TimeLimit)"
            )

    def _reset(self, group_size: int = 1) -> None:
        self.environments.reset(self._reset_seeds.spawn(1)[0], group_size)
        self._masks, self._infos = [], {}
        self._time[:] = 0
        self._return_so_far[:] = 0.0

    def _step(self, act: Act, rollout: Rollout, t: int, counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Act once, write everything into row t, and return which episodes ended."""
        environments = self.environments
        observation, mask = environments.observation, environments.mask
        outputs = act(observation)
        if mask is not None:
            outputs = masks.hide(outputs, mask)
        action = self.actions.head.sample(outputs, self._streams.draw(counted))
        if action.dtype.kind == "f":  # before it reaches the environment, which may do anything with a NaN
            self._check_finite("environment's observation", observation[None], len(self._masks))
            self._check_finite("policy's action", action[None], len(self._masks))
        row = len(self._masks)
        self._masks.append(mask)
        rollout.observation[t] = observation
        rollout.action[t] = action
        rollout.valid[t] = counted
        rollout.time[t] = self._time
        step = environments.step(self.actions.to_environment(action))
        rollout.next_observation[t] = step.next_observation
        rollout.reward[t] = step.reward
        rollout.terminated[t] = step.terminated
        rollout.truncated[t] = step.truncated
        if step.info and step.done.any():
            for i in np.flatnonzero(step.done & counted).tolist():
                self._infos[row, i] = info_of(step.info, i, environments.n)
        self._time += counted
        self._time[step.done] = 0
        return step.done

    def _finished(self, rollout: Rollout) -> Rollout:
        """Zero the rows that do not count, check the others, and update the episode statistics."""
        rollout = rollout._replace(mask=masks.stacked(self._masks))
        infos, self._masks, self._infos = self._infos, [], {}
        for field in (rollout.reward, rollout.terminated, rollout.truncated):
            field[~rollout.valid] = 0
        for name in ("observation", "reward", "next_observation"):
            self._check_finite(f"environment's {name}", getattr(rollout, name))
        self.steps_taken += int(rollout.valid.sum())
        self.ended, begin = [], np.zeros(self.environments.n, np.int64)
        for t, i in np.argwhere(rollout.terminated | rollout.truncated):
            total = self._return_so_far[i] + rollout.reward[begin[i] : t + 1, i].sum()
            episode = Episode(float(total), int(rollout.time[t, i]) + 1, infos.get((t, i), {}))
            self.ended.append(episode)
            self.finished.append(episode[:2])
            if (succeeded := success(episode.info)) is not None:
                self._successes.append(succeeded)
            begin[i], self._return_so_far[i] = t + 1, 0.0
        for i, t in enumerate(begin):
            self._return_so_far[i] += rollout.reward[t:, i].sum()
        return rollout

    def _allocate(self, length: int) -> Rollout:
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
        """Check ``[T, N, ...]`` values; their first row is step ``first_step`` of the rollout."""
        # One sum is much faster than a test per entry. It is finite if all entries are (unless it overflows).
        if not math.isfinite(float(values.sum(dtype=np.float64))) and not np.isfinite(values).all():
            t, i = np.argwhere(~np.isfinite(values))[0][:2]
            raise FloatingPointError(
                f"the {name} is not finite: {values[t, i]} in environment {i}, "
                f"{t + first_step} steps into the rollout that began after {self.steps_taken:,} steps"
            )


def _one_episode_a_column(stream: Rollout, count: int) -> Rollout:
    """Lay the episodes of a stream side by side, environment by environment, each from row 0."""
    environment, row = np.nonzero(stream.valid.T)
    done = (stream.terminated | stream.truncated)[row, environment]
    time = stream.time[row, environment]
    episode: NDArray[np.int64] = np.cumsum(done) - done
    shape = (int(time.max()) + 1, count)

    def side_by_side(field: NDArray[Any]) -> NDArray[Any]:
        result = np.zeros((*shape, *field.shape[2:]), field.dtype)
        result[time, episode] = field[row, environment]
        return result

    return Rollout._make(None if field is None else side_by_side(field) for field in stream)
