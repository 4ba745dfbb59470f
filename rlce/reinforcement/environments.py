"""Gymnasium vector environments: made, seeded and stepped. All knowledge of autoreset lives here.

`Environments` wraps a vector environment so that its autoreset mode no longer matters: a step gives the true
successor of every row (an episode's final observation, not the reset one that may come with it), and ``real``
says whose next step counts. `Environments.play` plays whole episodes, for collecting and for evaluating.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from rlce.reinforcement import masks
from rlce.reinforcement.masks import Mask
from rlce.reinforcement.spaces import Observations, flat_width, flatten_batch

EnvLike = str | Callable[[], gymnasium.Env[Any, Any]] | VectorEnv[Any, Any, Any]


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

    def play(
        self, count: int, act: Callable[[NDArray[np.bool_]], NDArray[Any]]
    ) -> Iterator[tuple[NDArray[np.bool_], Step]]:
        """Play ``count`` whole episodes, from a reset that was just made; what a copy does beyond its share is ignored.

        Each copy plays a fixed share, (count + i) // N of them: taking the first ``count`` to finish would favour
        short ones. A task whose episodes never end never stops.

        Args:
            count: how many.
            act: which rows count, ``[N]`` → the actions of all copies, ``[N, ...]``.

        Yields:
            Which rows counted, ``[N]``, and the step.

        Raises:
            ValueError: fewer than one episode.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        missing = episode_shares(count, self.n)
        while missing.any():
            counted = self.real & (missing > 0)
            step = self.step(act(counted))
            missing -= step.done & counted
            yield counted, step

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


def evaluation_width(env: EnvLike, episodes: int) -> int:
    """How many copies to play on: many where the task is vectorised in itself, few where copies take turns."""
    if isinstance(env, VectorEnv):
        return env.num_envs
    if isinstance(env, str):
        spec = gymnasium.registry.get(env)
        if spec is not None and spec.vector_entry_point is not None:
            return min(episodes, 100)
    return min(episodes, 10)


def episode_shares(count: int, n: int) -> NDArray[np.int64]:
    """How many of ``count`` episodes each of n environments runs: fixed beforehand, so that none is favoured.

    Example:
        >>> episode_shares(5, 3)
        array([1, 2, 2])
    """
    return (count + np.arange(n)) // n


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
