"""Rollouts from Gymnasium vector environments. All knowledge of autoreset lives here.

`Environments` wraps a vector environment so that its autoreset mode no longer matters: a step gives the true
successor of every row (an episode's final observation, not the reset one that may come with it), and ``real``
says whose next step counts. `Collector` fills rollouts with it, in two ways: a fixed number of steps, or a fixed
number of whole episodes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from rlce.heads import Head
from rlce.reinforcement import masks
from rlce.reinforcement.masks import Mask
from rlce.reinforcement.spaces import Observations, flat_width, flatten_batch

EnvLike = str | Callable[[], gymnasium.Env[Any, Any]] | VectorEnv[Any, Any, Any]
Act = Callable[[Observations], NDArray[Any]]

_UNIFORMS_AHEAD = 256


class Rollout(NamedTuple):
    """What happened, time-major. In `Collector.episodes` a column is one whole episode, else one environment."""

    observation: Observations  # [T, N, D] flattened, as the policy saw it
    action: NDArray[Any]  # [T, N, *A] as the head stores it: class indices, raw samples
    reward: NDArray[np.float32]  # [T, N] as the environment gave it
    terminated: NDArray[np.bool_]  # [T, N]
    truncated: NDArray[np.bool_]  # [T, N]
    next_observation: Observations  # [T, N, D] the true successor
    valid: NDArray[np.bool_]  # [T, N] false on ghost steps and padding, which no estimate may use
    time: NDArray[np.int64]  # [T, N] steps since the episode began
    mask: Mask | None = None  # [T, N, K] true where the environment allows a class; None where it gives no masks


# ------------------------------------------------------------------------------------------------- making environments


def make_environments(
    env: EnvLike,
    num_envs: int,
    env_kwargs: Mapping[str, Any] | None = None,
    vectorization: str | None = None,
) -> tuple[VectorEnv[Any, Any, Any], str]:
    """A vector environment from an id, a factory or one that is ready, by the fastest way the task has.

    Args:
        env: an environment id; a function that returns a `gymnasium.Env`; or a `VectorEnv`, used as it is.
        num_envs: how many copies; for a VectorEnv its own number counts.
        env_kwargs: keyword arguments of the environment, for an id.
        vectorization: "vector_entry_point" (the task's own vector class), "sync" or "async"; by default the first
            where the task has one, else "sync".

    Returns:
        The environments, and how they were made: "vector_entry_point", "sync", "async" or "given".

    Raises:
        ValueError: an unknown id, an unknown vectorization, or arguments that do not fit ``env``.
        TypeError: ``env`` is none of the three.

    Example:
        >>> make_environments("CartPole-v1", 2)[1]
        'vector_entry_point'
    """
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    if vectorization not in (None, "vector_entry_point", "sync", "async"):
        raise ValueError(f'vectorization must be "vector_entry_point", "sync" or "async", got {vectorization!r}')
    if isinstance(env, VectorEnv):
        if env_kwargs or vectorization is not None:
            raise ValueError("env_kwargs and vectorization do not apply to a VectorEnv, which is made already")
        return env, "given"
    if isinstance(env, str):
        try:
            spec = gymnasium.spec(env)
        except gymnasium.error.Error as error:
            raise ValueError(f"env: no environment {env!r}: {error}") from error
        kwargs = dict(env_kwargs or {})
        if vectorization is None:
            vectorization = "sync" if spec.vector_entry_point is None else "vector_entry_point"
        try:
            return gymnasium.make_vec(env, num_envs, vectorization, **kwargs), vectorization
        except gymnasium.error.Error as error:
            raise ValueError(f"env: cannot make {env!r} ({vectorization}): {error}") from error
    if callable(env):
        if env_kwargs:
            raise ValueError("env_kwargs apply to an environment id; let the factory bind its own arguments")
        if vectorization == "vector_entry_point":
            raise ValueError('a factory makes single environments: vectorization must be "sync" or "async"')
        maker = AsyncVectorEnv if vectorization == "async" else SyncVectorEnv
        return maker([env] * num_envs), vectorization or "sync"
    raise TypeError(
        f"env must be an id, a function returning a gymnasium.Env, or a VectorEnv, got {type(env).__name__}"
    )


# ------------------------------------------------------------------------------ one face for three autoreset modes


class Step(NamedTuple):
    """One step of every environment."""

    next_observation: Observations  # [N, D] the true successor, an episode's final observation included
    reward: NDArray[Any]  # [N]
    terminated: NDArray[np.bool_]  # [N]
    truncated: NDArray[np.bool_]  # [N]
    done: NDArray[np.bool_]  # [N] terminated or truncated


_LAST_RESET_BY: WeakKeyDictionary[VectorEnv[Any, Any, Any], Environments] = WeakKeyDictionary()


class Environments:
    """A vector environment whose autoreset mode no longer matters.

    Attributes:
        envs: the vector environment.
        n: how many copies it holds.
        observation: what to act on next, ``[N, D]``.
        raw_observation: the same as the environment returned it, for `predict`.
        real: ``[N]``, whether the next step of a copy is one of its task; false on the ghost step that NEXT_STEP
            autoreset spends on a reset, where the action is ignored and the reward is zero.
        mask: ``[N, K]``, which classes the next action may name (see `rlce.masks`), all of them on a ghost step; None
            where the environment gives no mask.

    Raises:
        ValueError: the vector environment does not say in ``metadata["autoreset_mode"]`` how it resets, or an
            action mask has the wrong width.
        TypeError: an observation space that is not served, or an action mask for actions that are no classes.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        mode = (envs.metadata or {}).get("autoreset_mode")
        try:
            self.mode = AutoresetMode(mode)
        except ValueError:
            raise ValueError(
                f'env: {type(envs.unwrapped).__name__}.metadata["autoreset_mode"] must be a '
                f"gymnasium.vector.AutoresetMode, got {mode!r}; without it, an episode's end and the next one's start "
                "cannot be told apart"
            ) from None
        self.envs, self.n = envs, envs.num_envs
        self.action_space = envs.single_action_space
        self.space = masks.input_space(envs.single_observation_space, self.action_space)
        self._mask_in_observation = masks.in_observation(envs.single_observation_space)
        self.width = flat_width(self.space)
        self._all_real = np.ones(self.n, bool)
        self.real = self._all_real
        self.observation: Observations
        self.raw_observation: Any = None
        self.mask: Mask | None = None
        self._steps = 0

    def reset(self, seeds: np.random.SeedSequence, group_size: int = 1) -> None:
        """Start every episode anew.

        Args:
            seeds: copies get independent seeds from it; a vector class with one generator gets one.
            group_size: how many neighbouring copies share a seed, and so begin in the same state.

        Raises:
            ValueError: groups in a vector class with one generator, or a number of copies that they do not fill.
        """
        if isinstance(self.envs.unwrapped, SyncVectorEnv | AsyncVectorEnv):
            if self.n % group_size != 0:
                raise ValueError(f"{self.n} environments do not fill groups of {group_size}")
            children = seeds.spawn(self.n // group_size)
            seed: Any = [int(child.generate_state(1)[0]) for child in children for _ in range(group_size)]
        elif group_size > 1:
            raise ValueError('env: groups need copies that are seeded one by one: vectorization "sync" or "async"')
        else:
            seed = int(seeds.generate_state(1)[0])
        _LAST_RESET_BY[self.envs] = self
        self.raw_observation, info = self.envs.reset(seed=seed)
        self.observation = flatten_batch(self.space, self.raw_observation)
        self.real = self._all_real
        self._steps = 0
        self.mask = self._checked(self._read_mask(info))

    @property
    def current(self) -> bool:
        """Whether nobody else, such as an evaluation, has reset the vector environment since."""
        return _LAST_RESET_BY.get(self.envs) is self

    def step(self, action: NDArray[Any]) -> Step:
        """Act in every environment; ``action`` is ``[N, ...]``, as the environment's action space has it."""
        self.raw_observation, reward, terminated, truncated, info = self.envs.step(action)
        mask = self._read_mask(info)
        observation = successor = flatten_batch(self.space, self.raw_observation)
        done = terminated | truncated
        if self.mode is AutoresetMode.NEXT_STEP:
            self.real = ~done
        elif done.any():
            if self.mode is AutoresetMode.SAME_STEP:
                successor = self._final_observations(observation, done, info)
            else:
                successor = observation.copy()  # the reset may write into the array that was returned
                # A fresh dict and mask: some versions pop the key, and an environment may keep the array.
                self.raw_observation, info = self.envs.reset(options={"reset_mask": done.copy()})
                observation = flatten_batch(self.space, self.raw_observation)
                fresh = self._read_mask(info)
                if mask is not None or fresh is not None:
                    everything = np.True_
                    mask = np.where(
                        done[:, None],
                        everything if fresh is None else fresh,
                        everything if mask is None else mask,
                    )
        self.observation = observation
        self._steps += 1
        self.mask = self._checked(mask)
        return Step(successor, reward, terminated, truncated, done)

    def _read_mask(self, info: Mapping[str, Any]) -> Mask | None:
        if self._mask_in_observation:
            return masks.from_observation(self.raw_observation, self.n)
        return masks.from_info(info, self.n, self.action_space)

    def _checked(self, mask: Mask | None) -> Mask | None:
        if mask is None:
            return None
        mask[~self.real] = True  # after its end an episode may allow nothing, and the ghost step's action is ignored
        empty = masks.forbids_all(mask, masks.classes_of(self.action_space))
        if empty.any():
            raise ValueError(
                f"the action mask of environment {np.flatnonzero(empty)[0]} forbids every action, "
                f"{self._steps:,} steps after the reset of all environments"
            )
        return mask

    def _final_observations(
        self, observation: Observations, done: NDArray[np.bool_], info: Mapping[str, Any]
    ) -> Observations:
        if "final_obs" not in info:
            raise ValueError(
                'env: SAME_STEP autoreset must give info["final_obs"] where an episode ends, '
                f"got info with {sorted(info)}"
            )
        final, successor = info["final_obs"], observation.copy()
        if isinstance(final, np.ndarray) and final.dtype == object:
            for i in np.flatnonzero(done):
                flat: Any = gymnasium.spaces.flatten(self.space, final[i])
                successor[i] = flat
        else:
            successor[done] = flatten_batch(self.space, final)[done]
        return successor


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
        head: turns outputs and uniforms into actions.
        seeds: spawned into the environments' seeds and the action streams.

    Attributes:
        steps_taken: real environment steps so far; ghost steps and dropped extras do not count.
        finished: (return, length) of the last 100 finished episodes; returns are undiscounted and unscaled.
    """

    def __init__(self, environments: Environments, head: Head, seeds: np.random.SeedSequence) -> None:
        self.environments, self.head = environments, head
        self._reset_seeds, action_seeds = seeds.spawn(2)
        self._streams = ActionStreams(environments.n, action_seeds, head.action_shape)
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
        environments, n = self.environments, self.environments.n
        rollout = _allocate(length, n, environments.width, self.head)
        self._masks = []
        for t in range(length):
            self._step(act, rollout, t)
        rollout = rollout._replace(mask=masks.stacked(self._masks))
        self._finish(rollout)
        return rollout

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
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        environments, n = self.environments, self.environments.n
        if group_size > 1 and count != n:
            raise ValueError(f"groups need one episode an environment: {count} episodes, {n} environments")
        self._reset(group_size)
        missing = episode_shares(count, n)
        chunks: list[Rollout] = []
        self._masks = []
        while missing.any():
            chunk = _allocate(_UNIFORMS_AHEAD, n, environments.width, self.head)
            for t in range(_UNIFORMS_AHEAD):
                done = self._step(act, chunk, t, missing > 0)
                missing -= done & chunk.valid[t]
                if not missing.any():
                    chunk = _each(itemgetter(slice(t + 1)), chunk)
                    break
            chunks.append(chunk)
        fields = zip(*chunks, strict=True)
        stream = Rollout._make(None if rows[0] is None else np.concatenate(rows) for rows in fields)
        stream = stream._replace(mask=masks.stacked(self._masks))
        self._finish(stream)
        self._started = False  # the next rollout begins with a reset, whatever its kind
        return _one_episode_a_column(stream, count)

    def _reset(self, group_size: int = 1) -> None:
        self.environments.reset(self._reset_seeds.spawn(1)[0], group_size)
        self._started = True
        self._time[:] = 0
        self._return_so_far[:] = 0.0

    def _step(self, act: Act, rollout: Rollout, t: int, wanted: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Act once and write row t; an environment that is not ``wanted`` runs along and leaves no trace."""
        environments = self.environments
        real = environments.real if wanted is None else environments.real & wanted
        outputs = act(environments.observation)
        if environments.mask is not None:
            outputs = masks.hide(outputs, environments.mask)
        self._masks.append(environments.mask)
        action = self.head.sample(outputs, self._streams.draw(real))
        if action.dtype.kind == "f":  # before it reaches the environment, which could do anything with it
            now = len(self._masks) - 1
            self._check_finite("environment's observation", environments.observation[None], now)
            self._check_finite("policy's action", action[None], now)
        rollout.observation[t] = environments.observation
        rollout.action[t] = action
        rollout.valid[t] = real
        rollout.time[t] = self._time
        step = environments.step(self.head.to_action(action))
        rollout.next_observation[t] = step.next_observation
        rollout.reward[t] = step.reward
        rollout.terminated[t] = step.terminated
        rollout.truncated[t] = step.truncated
        self._time += real
        self._time[step.done] = 0
        return step.done

    def _finish(self, rollout: Rollout) -> None:
        """Zero what invalid rows left behind, check the rest, and keep the episode statistics up to date."""
        ghost = ~rollout.valid
        rollout.reward[ghost] = 0.0
        rollout.terminated[ghost] = False
        rollout.truncated[ghost] = False
        for name in ("observation", "reward", "next_observation"):
            self._check_finite(f"environment's {name}", getattr(rollout, name))
        self.steps_taken += int(rollout.valid.sum())
        total = np.cumsum(rollout.reward, axis=0, dtype=np.float64)
        total += self._return_so_far
        for t, i in np.argwhere(rollout.terminated | rollout.truncated):
            episode_return = float(total[t, i])
            self.finished.append((episode_return, int(rollout.time[t, i]) + 1))
            total[t:, i] -= episode_return
        self._return_so_far = total[-1]

    def _check_finite(self, name: str, values: NDArray[Any], first_step: int = 0) -> None:
        """``values`` are ``[T, N, ...]``, T steps from ``first_step`` of the rollout on."""
        # One sum costs a fraction of a test per entry, and is finite unless an entry is not (or it overflows).
        if not math.isfinite(float(values.sum(dtype=np.float64))) and not np.isfinite(values).all():
            t, i = np.argwhere(~np.isfinite(values))[0][:2]
            raise FloatingPointError(
                f"the {name} is not finite: {values[t, i]} in environment {i}, "
                f"{t + first_step} steps into the rollout that began after {self.steps_taken:,} steps"
            )


def episode_shares(count: int, n: int) -> NDArray[np.int64]:
    """How many of ``count`` episodes each of n environments runs: fixed beforehand, so that none is favoured.

    Example:
        >>> episode_shares(5, 3)
        array([1, 2, 2])
    """
    return (count + np.arange(n)) // n


def _allocate(length: int, n: int, width: int, head: Head) -> Rollout:
    return Rollout(
        observation=np.empty((length, n, width), np.float32),
        action=np.empty((length, n, *head.action_shape), head.action_dtype),
        reward=np.empty((length, n), np.float32),
        terminated=np.empty((length, n), bool),
        truncated=np.empty((length, n), bool),
        next_observation=np.empty((length, n, width), np.float32),
        valid=np.empty((length, n), bool),
        time=np.empty((length, n), np.int64),
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


def seed_sequence(seed: int) -> np.random.SeedSequence:
    """The root from which every generator of a run is spawned.

    Raises:
        ValueError: a seed that is no whole number >= 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a whole number >= 0, got {seed!r}")
    return np.random.SeedSequence(int(seed))


def spawn_ints(seeds: np.random.SeedSequence, count: int) -> Sequence[int]:
    """Independent 63-bit seeds for generators that are not NumPy's."""
    return [int(child.generate_state(1, np.uint64)[0] >> 1) for child in seeds.spawn(count)]
