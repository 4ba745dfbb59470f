"""Gymnasium's contract, checked at every reset and step.

Vector environments accept much of what breaks it in silence: a reward of None becomes NaN, and the text "False" becomes
True. So each single environment is wrapped in `Checked`; of a vector environment, the arrays are checked. The bounds of
a Box are not checked, because many tasks leave them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import starmap
from numbers import Real
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import iterate
from numpy.typing import NDArray

_STEP = "observation", "reward", "terminated", "truncated", "info"
_RESET = "observation", "info"

# What nearly all environments return; other types are looked at closely, which is slower.
_NUMBERS = frozenset({float, int, np.float64, np.float32, np.int64})
_FLAGS = frozenset({bool, np.bool_})
_INTEGERS = frozenset({int, np.int64, np.int32})

_GYMNASIUMS_FRAMES = "gymnasium.wrappers", "gymnasium.utils.passive_env_checker"
_STUMBLES = TypeError, ValueError, AssertionError, AttributeError, LookupError


class Checked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One environment, every reset and step of which is checked. It shows the environment's own spec and attributes.

    Args:
        env: the environment.
        index: its number in the vector environment, for messages.

    Raises:
        ValueError: in a reset or a step, the environment broke the contract; the message names the environment, the
            step and what came. The environment's own errors pass through unchanged.

    Example:
        >>> env = Checked(gymnasium.make("FrozenLake-v1"), 3)
        >>> env.reset(seed=0)
        (0, {'prob': 1})
    """

    def __init__(self, env: gymnasium.Env[Any, Any], index: int = 0) -> None:
        super().__init__(env)
        self._rlce_index, self._rlce_steps = index, 0
        self._rlce_space = env.observation_space
        self._rlce_accepts = quick_check(env.observation_space)

    @property
    def spec(self) -> Any:  # type: ignore[override]
        """The environment's own, as if it were not wrapped."""
        return self.env.spec

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and check what it returns."""
        self._rlce_steps = 0
        try:
            result = self.env.reset(**kwargs)
        except _STUMBLES as error:
            if not _raised_by_gymnasium(error):
                raise
            raise self._broken(f"reset must return {_listed(_RESET)}: {error}") from error
        if type(result) is not tuple or len(result) != 2:
            unpacked(result, self._rlce_who(), 0)
        observation, info = result
        if not (self._rlce_accepts(observation) and type(info) is dict):
            self._examine(observation, 0.0, False, False, info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act, and check what the environment returns."""
        self._rlce_steps += 1
        try:
            result = self.env.step(action)
        except _STUMBLES as error:
            if not _raised_by_gymnasium(error):
                raise
            raise self._broken(f"step must return {_listed(_STEP)}: {error}") from error
        if type(result) is not tuple or len(result) != 5:
            unpacked(result, self._rlce_who(), self._rlce_steps)
        observation, reward, terminated, truncated, info = result
        if not (
            self._rlce_accepts(observation)
            and type(reward) in _NUMBERS
            and type(terminated) in _FLAGS
            and type(truncated) in _FLAGS
            and type(info) is dict
        ):
            self._examine(observation, reward, terminated, truncated, info)
        return result

    def _examine(self, observation: Any, reward: Any, terminated: Any, truncated: Any, info: Any) -> None:
        """Raise an error if anything is wrong."""
        if wrong := fault(self._rlce_space, observation):
            raise self._broken(wrong)
        if not (isinstance(reward, Real) or _is_scalar(reward, "biuf")):
            raise self._broken(f"reward must be a number, got {_shown(reward)}")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not (_is_scalar(flag, "biu") and flag in (0, 1)):
                raise self._broken(f"{name} must be True or False, got {_shown(flag)}")
        if not isinstance(info, Mapping):
            raise self._broken(f"info must be a dict, got {_shown(info)}")

    def _broken(self, what: str) -> ValueError:
        return broken(self._rlce_who(), self._rlce_steps, what)

    def _rlce_who(self) -> str:
        name = type(self.unwrapped).__name__ if self.spec is None else self.spec.id
        return f"environment {self._rlce_index} of {name}"


def _raised_by_gymnasium(error: BaseException) -> bool:
    """True if one of Gymnasium's wrappers stumbled over what an environment returned, before `Checked` could see it."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and str(traceback.tb_frame.f_globals.get("__name__")).startswith(_GYMNASIUMS_FRAMES)


def unpacked(result: Any, who: str, steps: int) -> Any:
    """What a step or, after 0 steps, a reset returned, if it has the right number of parts."""
    parts = _STEP if steps else _RESET
    if type(result) is tuple and len(result) == len(parts):
        return result
    if isinstance(result, tuple | list) and len(result) == len(parts):
        return result
    raise broken(who, steps, f"{'step' if steps else 'reset'} must return {_listed(parts)}, got {_shown(result)}")


def are_arrays(n: int, reward: Any, terminated: Any, truncated: Any) -> bool:
    """A fast function that is true only for what `checked_arrays` returns unchanged."""
    return bool(
        type(reward) is type(terminated) is type(truncated) is np.ndarray
        and reward.shape == terminated.shape == truncated.shape == (n,)
        and reward.dtype.kind == "f"
        and terminated.dtype.kind == truncated.dtype.kind == "b"
    )


def checked_arrays(
    n: int, who: str, steps: int, reward: Any, terminated: Any, truncated: Any
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
    """What a vector environment's step returned as arrays ``[N]``, if it is that."""
    arrays = np.asarray(reward), np.asarray(terminated), np.asarray(truncated)
    for name, kinds, array in zip(_STEP[1:4], ("biuf", "b", "b"), arrays, strict=True):
        if array.shape != (n,) or array.dtype.kind not in kinds:
            wanted = "numbers" if name == "reward" else "booleans"
            raise broken(who, steps, f"{name} must be {wanted} of shape [{n}], got {_shown(array)}")
    return arrays


def check_observations(
    single: gymnasium.Space[Any], batched: gymnasium.Space[Any], observations: Any, who: str, steps: int
) -> None:
    """Raise an error that names the first environment at fault, if a batch of observations is none of the space."""
    wrong = fault(batched, observations)
    if wrong is None:
        return
    try:
        rows = [fault(single, row) for row in iterate(batched, observations)]
    except _STUMBLES:
        rows = []
    for i, found in enumerate(rows):
        if found is not None:
            raise broken(f"environment {i} of {who}", steps, found)
    raise broken(who, steps, wrong)


def quick_check(space: gymnasium.Space[Any]) -> Callable[[Any], bool]:
    """A fast function that is true only for observations in which `fault` finds nothing.

    Example:
        >>> accepts = quick_check(gymnasium.spaces.Discrete(3))
        >>> accepts(2), accepts(3)
        (True, False)
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Discrete):
        first, last = int(space.start), int(space.start + space.n) - 1
        return partial(_is_class, first, last)
    if isinstance(space, spaces.Box):
        kinds = np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"
        shape, castable = space.shape, {kind for kind in kinds if np.can_cast(kind, space.dtype, "same_kind")}
        return partial(_is_array, shape, castable)
    return partial(_is_faultless, space)


# Functions of the module, because an agent that holds one can then be pickled.


def _is_class(first: int, last: int, value: Any) -> bool:
    return type(value) in _INTEGERS and first <= value <= last


def _is_array(shape: tuple[int, ...], kinds: Collection[str], value: Any) -> bool:
    return type(value) is np.ndarray and value.shape == shape and value.dtype.char in kinds


def _is_faultless(space: gymnasium.Space[Any], value: Any) -> bool:
    return fault(space, value) is None


def fault(space: gymnasium.Space[Any], value: Any, name: str = "observation") -> str | None:
    """What is wrong with an observation of this space, or None. Only spaces that agents serve are looked at.

    Example:
        >>> fault(gymnasium.spaces.Box(0, 1, (2,)), np.zeros(3))
        'observation must be float32 of shape [2], got an array of float64 of shape [3]'
    """
    spaces = gymnasium.spaces
    parts: list[tuple[Any, Any, str]]
    if isinstance(space, spaces.Dict):
        if not isinstance(value, Mapping) or any(key not in value for key in space):
            return f"{name} must be a dict with {list(space)}, got {_shown(value)}"
        parts = [(part, value[key], f"{name}[{key!r}]") for key, part in space.items()]
        return next(filter(None, starmap(fault, parts)), None)
    if isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space):
            return f"{name} must be a tuple of {len(space)}, got {_shown(value)}"
        parts = [(part, each, f"{name}[{i}]") for i, (part, each) in enumerate(zip(space, value, strict=True))]
        return next(filter(None, starmap(fault, parts)), None)
    if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        array = np.array(None)
    assert space.dtype is not None
    assert space.shape is not None
    if array.shape != space.shape or not np.can_cast(array.dtype, space.dtype, "same_kind"):
        return f"{name} must be {space.dtype} of shape {list(space.shape)}, got {_shown(value)}"
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        classes = space.n if isinstance(space, spaces.Discrete) else space.nvec
        if ((array < space.start) | (array >= space.start + classes)).any():
            return f"{name} must be in {space}, got {array}"
    return None


def _is_scalar(value: Any, kinds: str) -> bool:
    return (np.isscalar(value) or getattr(value, "shape", None) == ()) and np.asarray(value).dtype.kind in kinds


def broken(who: str, steps: int, what: str) -> ValueError:
    """The error that names the environment, the step (0 for a reset) and what came."""
    when = f"in step {steps:,} after its reset" if steps else "in a reset"
    return ValueError(f"env: {who} broke Gymnasium's contract {when}: {what}")


def _listed(parts: tuple[str, ...]) -> str:
    return f"({', '.join(parts)})"


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return f"an array of {value.dtype} of shape {list(value.shape)}"
    if isinstance(value, tuple):
        return f"{len(value)} values ({', '.join(type(each).__name__ for each in value)})"
    text = repr(value)
    return text if len(text) <= 100 else f"{type(value).__name__} {text[:100]}…"
