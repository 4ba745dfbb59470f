"""Gymnasium vector environments: made, seeded, stepped and closed. All knowledge of autoreset lives here.

`Environments` wraps a vector environment and hides its autoreset mode: a step returns the true successor of every row
(an episode's final observation, not the reset one that may come with it), and ``real`` tells whose next step counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from rlce.optimization import check_choice, check_whole
from rlce.reinforcement import contract, masks
from rlce.reinforcement.contract import Checked
from rlce.reinforcement.masks import Mask
from rlce.reinforcement.spaces import Observations, flat_width, flatten_batch

EnvLike = str | Callable[[], gymnasium.Env[Any, Any]] | VectorEnv[Any, Any, Any]

_LOST_WORKER = (EOFError, ConnectionError)  # what a pipe to a dead process raises


def make_environments(
    env: EnvLike,
    num_envs: int,
    env_kwargs: Mapping[str, Any] | None = None,
    vectorization: str | None = None,
) -> tuple[VectorEnv[Any, Any, Any], str]:
    """A vector environment from an id or a factory, in the fastest way that the task has, or the one that is given.

    Args:
        env: an environment id; a function that returns a `gymnasium.Env`; or a `VectorEnv`, used as it is.
        num_envs: number of copies; a VectorEnv keeps its own number.
        env_kwargs: keyword arguments of the environment, for an id.
        vectorization: "vector_entry_point" (the task's own vector class), "sync" or "async"; by default the task's own
            vector class if it has one, else "sync".

    Returns:
        The environments, and how they were made: "vector_entry_point", "sync", "async" or "given".

    Raises:
        ValueError: an unknown id, an unknown vectorization, or arguments that do not fit ``env``.
        TypeError: ``env`` is none of the three.
        RuntimeError: a worker process ended while it made its environment.

    Example:
        >>> make_environments("CartPole-v1", 2)[1]
        'vector_entry_point'
    """
    check_request(num_envs, vectorization)
    if isinstance(env, VectorEnv):
        if env_kwargs or vectorization is not None:
            raise ValueError("env_kwargs and vectorization do not apply to a VectorEnv, which is made already")
        return env, "given"
    if not isinstance(env, str) and not callable(env):
        one = isinstance(env, gymnasium.Env)
        remedy = "; one environment cannot be copied: pass the function that makes it" if one else ""
        raise TypeError(f"env must be an id, a function returning a gymnasium.Env, or a VectorEnv, got {env!r}{remedy}")
    try:
        if isinstance(env, str):
            wrappers: dict[str, Any] = {"wrappers": [Checked]} if vectorization == "async" else {}
            envs = gymnasium.make_vec(env, num_envs, vectorization, **wrappers, **(env_kwargs or {}))
        elif env_kwargs:
            raise ValueError("env_kwargs apply to an environment id; let the factory bind its own arguments")
        elif vectorization == "vector_entry_point":
            raise ValueError('a factory makes single environments: vectorization must be "sync" or "async"')
        elif vectorization == "async":
            envs = AsyncVectorEnv([lambda: Checked(env())] * num_envs)
        else:
            envs = SyncVectorEnv([env] * num_envs)
        workers = envs.unwrapped
        if isinstance(workers, SyncVectorEnv):
            workers.envs = [Checked(copy, i) for i, copy in enumerate(workers.envs)]
        elif isinstance(workers, AsyncVectorEnv):
            workers.set_attr("_rlce_index", list(range(num_envs)))
    except gymnasium.error.Error as error:
        how = "" if vectorization is None else f" with vectorization={vectorization!r}"
        raise ValueError(f"env: no environment {env!r} could be made{how}: {error}") from error
    except _LOST_WORKER as error:
        if vectorization != "async":
            raise
        raise RuntimeError(
            'env: a worker process ended while it made its environment; vectorization="sync" shows its error'
        ) from error
    kinds = {SyncVectorEnv: "sync", AsyncVectorEnv: "async"}
    return envs, kinds.get(type(envs.unwrapped), "vector_entry_point")


def check_request(num_envs: int, vectorization: str | None) -> None:
    """Refuse a number or a kind of environments that cannot be made."""
    check_whole("num_envs", num_envs)
    if vectorization is not None:
        check_choice("vectorization", vectorization, ("vector_entry_point", "sync", "async"))


def close(envs: VectorEnv[Any, Any, Any], force: bool = False) -> None:
    """Close a vector environment, even if workers have died.

    Args:
        envs: the vector environment; closing it twice is no error.
        force: end the workers at once, because they may be busy with a step that nobody waits for.
    """
    workers = envs.unwrapped
    if isinstance(workers, AsyncVectorEnv) and (force or not all(each.is_alive() for each in workers.processes)):
        workers._state = AsyncState.DEFAULT  # otherwise `terminate` waits for the answer to a pending call
        workers.close(terminate=True)
    else:
        envs.close()


def _check_workers(envs: VectorEnv[Any, Any, Any], timeout: float = 0.0) -> None:
    """Raise an error that names the dead worker, if there is one, and close the environments, which cannot go on."""
    workers = envs.unwrapped
    if not isinstance(workers, AsyncVectorEnv) or workers.closed:
        return
    ended = connection.wait([process.sentinel for process in workers.processes], timeout)
    if ended:
        i = next(i for i, process in enumerate(workers.processes) if process.sentinel in ended)
        workers.processes[i].join()  # its exit code may come a moment after its pipes have closed
        code = workers.processes[i].exitcode
        close(envs, force=True)
        raise RuntimeError(
            f"env: the worker process of environment {i} ended with exit code {code}, so all environments were closed. "
            "Call learn again, which makes new ones from an id or a factory; make a VectorEnv again yourself"
        )


class Step(NamedTuple):
    """One step of every environment."""

    next_observation: Observations  # [N, D] the true successor, an episode's final observation included
    reward: NDArray[Any]  # [N]
    terminated: NDArray[np.bool_]  # [N]
    truncated: NDArray[np.bool_]  # [N]
    done: NDArray[np.bool_]  # [N] terminated or truncated
    info: Any  # as the vector environment gave it; `info_of` reads it


_LAST_RESET_BY: WeakKeyDictionary[VectorEnv[Any, Any, Any], Environments] = WeakKeyDictionary()


class Environments:
    """A vector environment with its autoreset mode hidden.

    Attributes:
        envs: the vector environment.
        n: number of copies.
        has_time_limit: true if the task is known to end every episode after some number of steps.
        observation: what to act on next, ``[N, D]``.
        raw_observation: the same as the environment returned it, for `predict`.
        real: ``[N]``, true if the next step of a copy is a step of its task. False on the ghost step that NEXT_STEP
            autoreset spends on a reset: its action is ignored and its reward is zero.
        mask: ``[N, K]``, the classes that the next action may name (see `rlce.masks`), all of them on a ghost step;
            None if the environment gives no mask.

    Raises:
        ValueError: the vector environment has no ``metadata["autoreset_mode"]``, or an action mask has the wrong width.
        TypeError: an observation space that is not served, or an action mask for actions that are not classes.
        RuntimeError: in a reset or a step, a worker process of an `AsyncVectorEnv` has died.

    What an environment returns is checked at every reset and step (see `rlce.reinforcement.contract`): single copies in
    full, of a vector class or a VectorEnv that was given the arrays.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        mode = (envs.metadata or {}).get("autoreset_mode")
        try:
            self.mode = AutoresetMode(mode)
        except ValueError:
            raise ValueError(
                f'env: {type(envs.unwrapped).__name__}.metadata["autoreset_mode"] must be a '
                f"gymnasium.vector.AutoresetMode, got {mode!r}; without it, the end of an episode cannot be told from "
                "the start of the next one"
            ) from None
        self.envs, self.n = envs, envs.num_envs
        self.has_time_limit = has_time_limit(envs)
        self.action_space = envs.single_action_space
        self.space = masks.input_space(envs.single_observation_space, self.action_space)
        self._mask_in_observation = masks.in_observation(envs.single_observation_space)
        self.width = flat_width(self.space)
        copies = envs.unwrapped
        self._name = type(copies).__name__
        self._batched = batch_space(envs.single_observation_space, self.n)
        each_is_checked = isinstance(copies, SyncVectorEnv) and all(isinstance(copy, Checked) for copy in copies.envs)
        self._accepts = None if each_is_checked else contract.quick_check(self._batched)
        self.real = np.ones(self.n, bool)
        self.observation: Observations
        self.raw_observation: Any = None
        self.mask: Mask | None = None
        self._steps = 0

    def reset(self, seeds: np.random.SeedSequence, group_size: int = 1) -> None:
        """Start new episodes everywhere.

        Args:
            seeds: source of an independent seed per copy; a vector class with one generator gets one seed.
            group_size: number of neighbouring copies that share a seed, and so begin in the same state.

        Raises:
            ValueError: groups in a vector class with one generator.
        """
        _check_workers(self.envs)
        if isinstance(self.envs.unwrapped, SyncVectorEnv | AsyncVectorEnv):
            children = seeds.spawn(self.n // group_size)
            seed: Any = [int(child.generate_state(1)[0]) for child in children for _ in range(group_size)]
        elif group_size > 1:
            raise ValueError('env: groups need copies that are seeded one by one: vectorization "sync" or "async"')
        else:
            seed = int(seeds.generate_state(1)[0])
        _LAST_RESET_BY[self.envs] = self
        self._steps = 0
        self.raw_observation, info = contract.unpacked(self.envs.reset(seed=seed), self._name, 0)
        self.observation = self._flattened()
        self.real = np.ones(self.n, bool)
        self.mask = self._checked(self._read_mask(info))

    @property
    def current(self) -> bool:
        """True if nobody else, such as an evaluation, has reset the vector environment since."""
        return _LAST_RESET_BY.get(self.envs) is self

    def step(self, action: NDArray[Any]) -> Step:
        """Act in every environment; ``action`` is ``[N, ...]``, as the environment's action space has it."""
        try:
            result = self.envs.step(action)
        except _LOST_WORKER:
            _check_workers(self.envs, timeout=5.0)
            raise
        self._steps += 1
        self.raw_observation, reward, terminated, truncated, info = contract.unpacked(result, self._name, self._steps)
        if not contract.are_arrays(self.n, reward, terminated, truncated):
            given = reward, terminated, truncated
            reward, terminated, truncated = contract.checked_arrays(self.n, self._name, self._steps, *given)
        last_info, mask = info, self._read_mask(info)
        observation = successor = self._flattened()
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
                observation = self._flattened()
                fresh = self._read_mask(info)
                if mask is not None or fresh is not None:
                    chosen, other = (np.True_ if m is None else m for m in (fresh, mask))
                    mask = np.where(done[:, None], chosen, other)
        self.observation = observation
        self.mask = self._checked(mask)
        return Step(successor, reward, terminated, truncated, done, last_info)

    def _flattened(self) -> Observations:
        if self._accepts is not None and not self._accepts(self.raw_observation):
            spaces = self.envs.single_observation_space, self._batched
            contract.check_observations(*spaces, self.raw_observation, self._name, self._steps)
        return flatten_batch(self.space, self.raw_observation)

    def _read_mask(self, info: Mapping[str, Any]) -> Mask | None:
        if self._mask_in_observation:
            return masks.from_observation(self.raw_observation, self.n)
        return masks.from_info(info, self.n, self.action_space)

    def _checked(self, mask: Mask | None) -> Mask | None:
        if mask is None:
            return None
        mask[~self.real] = True  # an episode may end with a mask that allows nothing; a ghost step's action is ignored
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
                'env: SAME_STEP autoreset must give info["final_obs"] when an episode ends, '
                f"got info with {sorted(info)}"
            )
        final, successor = info["final_obs"], observation.copy()
        if isinstance(final, np.ndarray) and final.dtype == object:
            successor[done] = np.concatenate([flatten_batch(self.space, each) for each in final[done]])
        else:
            successor[done] = flatten_batch(self.space, final)[done]
        return successor


def info_of(info: Any, i: int, n: int) -> dict[str, Any]:
    """The info that copy i of n gave in a step; at the end of an episode, the info of the episode's last step.

    Vector environments gather infos by key: ``info[key][i]`` is copy i's, and ``info["_" + key][i]`` tells whether copy
    i gave any. Without that second array, every copy did. SAME_STEP autoreset puts the last step's info under
    "final_info", because the rest is that of the next episode's reset.

    Args:
        info: what a vector environment's ``step`` returned: a mapping, or a list of one mapping per copy.
        i: the copy.
        n: number of copies.

    Returns:
        A new dict. Numbers are Python's; arrays are copies.

    Example:
        >>> info = {"speed": np.array([1.5, 0.0]), "_speed": np.array([True, False]), "lives": np.array([3, 2])}
        >>> info_of(info, 0, 2), info_of(info, 1, 2)
        ({'speed': 1.5, 'lives': 3}, {'lives': 2})
    """
    if isinstance(info, Mapping) and "final_info" in info and info.get("_final_info", np.ones(n, bool))[i]:
        info = info["final_info"]
    if not isinstance(info, Mapping):
        return dict(_plain(info[i] or {}))
    own = {}
    for key, value in info.items():
        tells_who = isinstance(key, str) and key.startswith("_") and key[1:] in info
        if not tells_who and (f"_{key}" not in info or info[f"_{key}"][i]):
            own[key] = _entry(value, i, n)
    return own


def _entry(value: Any, i: int, n: int) -> Any:
    if isinstance(value, Mapping):
        return info_of(value, i, n)
    shape = (len(value),) if isinstance(value, list | tuple) else getattr(value, "shape", ())
    if tuple(shape[:1]) == (n,):
        value = value[i]
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return value.copy()  # a view would keep the numbers of all copies
    return value.item() if isinstance(value, np.number | np.bool_) else value


def success(info: Mapping[str, Any]) -> float | None:
    """Whether the episode was a success (1 or 0), if its last info tells it under "is_success"."""
    value = info.get("is_success")
    return float(value) if isinstance(value, bool | int | float) else None


def has_time_limit(envs: VectorEnv[Any, Any, Any]) -> bool:
    """True if the task is known to end every episode after some number of steps.

    Gymnasium knows the limit of an id; elsewhere, a wrapper `gymnasium.wrappers.TimeLimit` or the spec tells.
    """
    spec = envs.spec
    if spec is not None:  # of an id; its keyword arguments may replace or remove (-1) the limit
        limit = spec.kwargs.get("max_episode_steps", spec.max_episode_steps)
        return limit is not None and limit != -1
    copies = envs.unwrapped
    return isinstance(copies, SyncVectorEnv) and all(map(_single_has_time_limit, copies.envs))


def _single_has_time_limit(env: gymnasium.Env[Any, Any]) -> bool:
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return True
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            return True
        env = env.env
    return False


def episode_shares(count: int, n: int) -> NDArray[np.int64]:
    """The number of episodes that each of n environments plays, ``count`` in all: (count + i) // n.

    The shares are fixed beforehand, because taking the first ``count`` episodes to finish would favour short ones.

    Example:
        >>> episode_shares(5, 3)
        array([1, 2, 2])
    """
    return (count + np.arange(n)) // n


def seed_sequence(seed: int) -> np.random.SeedSequence:
    """The root of all generators of a run.

    Raises:
        ValueError: a seed that is not a whole number >= 0.
    """
    check_whole("seed", seed, least=0)
    return np.random.SeedSequence(int(seed))


def spawn_ints(seeds: np.random.SeedSequence, count: int) -> Sequence[int]:
    """Independent 63-bit seeds for generators that are not NumPy's."""
    return [int(child.generate_state(1, np.uint64)[0]) >> 1 for child in seeds.spawn(count)]
