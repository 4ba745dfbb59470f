"""Spaces: observations as network inputs, actions as heads and back, and both as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlce.heads import Bernoulli, Categorical, Distribution, Gaussian, MultiCategorical, Values

Observations = NDArray[np.float32]


def flat_width(space: gymnasium.Space[Any]) -> int:
    """Width D of a flattened observation.

    Raises:
        TypeError: a space without a fixed width; the message names those that are served.

    Example:
        >>> flat_width(gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(3), gymnasium.spaces.Box(0, 1, (2, 2))]))
        7
    """
    _check_served(space)
    return gymnasium.spaces.flatdim(space)


def flatten_batch(space: gymnasium.Space[Any], batch: Any) -> Observations:
    """Rows of `gymnasium.spaces.flatten`, made for a whole batch at once.

    Args:
        space: the space of one observation: Box, Discrete, MultiDiscrete, MultiBinary, or Tuple and Dict of these.
        batch: observations as a vector environment returns them, batched leaf by leaf.

    Returns:
        ``[B, D]`` float32; discrete parts are one-hot.

    Example:
        >>> flatten_batch(gymnasium.spaces.Discrete(3, start=1), np.array([1, 3]))
        array([[1., 0., 0.],
               [0., 0., 1.]], dtype=float32)
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict):
        return np.concatenate([flatten_batch(part, batch[key]) for key, part in space.items()], axis=1)
    if isinstance(space, spaces.Tuple):
        return np.concatenate([flatten_batch(p, b) for p, b in zip(space.spaces, batch, strict=True)], axis=1)
    array = np.asarray(batch)
    if isinstance(space, spaces.Discrete):
        return (array[:, None] == np.arange(space.start, space.start + space.n)).astype(np.float32)
    array = array.reshape(len(array), -1)
    if isinstance(space, spaces.MultiDiscrete):
        columns = zip(array.T, space.nvec.ravel(), space.start.ravel(), strict=True)
        parts = [column[:, None] == np.arange(start, start + n) for column, n, start in columns]
        return np.concatenate(parts, axis=1).astype(np.float32)
    return array.astype(np.float32, copy=False)


def is_batch(space: gymnasium.Space[Any], observation: Any) -> bool:
    """Whether an observation of this space has a leading batch dimension.

    Raises:
        ValueError: it is neither one observation nor a batch of them.

    Example:
        >>> is_batch(gymnasium.spaces.Discrete(3), 1), is_batch(gymnasium.spaces.Discrete(3), np.array([1, 2]))
        (False, True)
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict):
        key = next(iter(space))
        return is_batch(space[key], observation[key])
    if isinstance(space, spaces.Tuple):
        return is_batch(space.spaces[0], observation[0])
    shape, expected = np.shape(observation), space.shape or ()
    if shape == expected:
        return False
    if shape[1:] == expected:
        return True
    raise ValueError(f"observation must have shape {list(expected)}, or [B, ...] for a batch of B, got {list(shape)}")


def batch_of_one(space: gymnasium.Space[Any], observation: Any) -> Any:
    """One observation with a leading batch dimension, leaf by leaf."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: batch_of_one(part, observation[key]) for key, part in space.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(batch_of_one(p, o) for p, o in zip(space.spaces, observation, strict=True))
    return np.asarray(observation)[None]


def _check_served(space: gymnasium.Space[Any]) -> None:
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for part in space.values() if isinstance(space, spaces.Dict) else space.spaces:
            _check_served(part)
    elif not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise TypeError(
            f"no network input for the observation space {space}; "
            "served: Box, Discrete, MultiDiscrete, MultiBinary, and Tuple and Dict of these"
        )


@dataclass(frozen=True)
class Actions:
    """An action space as a policy needs it: the head that draws targets, and the way from a target to an action.

    ==============  ====================  ============================================================
    action space    head                  what the environment gets
    ==============  ====================  ============================================================
    Discrete        `Categorical`         the class index plus the space's ``start``
    MultiDiscrete   `MultiCategorical`    likewise, in the space's shape
    MultiBinary     `Bernoulli`           zeros and ones in the space's shape and type
    Box             `Gaussian`, learnt    the number that was drawn, clipped to the bounds, in the
                    deviations            space's shape and type; rounded where that is an integer
    ==============  ====================  ============================================================

    Attributes:
        space: a single environment's action space.
        rescale: for a Box with finite bounds, send −1 … 1 as the lower … upper bound, clipping beyond; by default the
            policy's numbers are taken as they are.

    Raises:
        TypeError: no head serves the space; the message names those that are served.
        ValueError: ``rescale`` for a space that is no Box with finite bounds.

    Example:
        >>> actions = Actions(gymnasium.spaces.Discrete(4, start=2))
        >>> actions.head
        Categorical(classes=4)
        >>> actions.to_environment(np.array([0, 3]))
        array([2, 5])
        >>> Actions(gymnasium.spaces.Box(-2.0, 2.0, (1,))).to_environment(np.array([[3.5]], np.float32))
        array([[2.]], dtype=float32)
    """

    space: gymnasium.Space[Any]
    rescale: bool = False

    def __post_init__(self) -> None:
        bounded = isinstance(self.space, gymnasium.spaces.Box) and self.space.is_bounded()
        if self.rescale and not bounded:
            raise ValueError(f"rescale needs a Box with finite bounds, got the action space {self.space}")
        _ = self.head  # a space that is not served is refused at once

    @cached_property
    def head(self) -> Distribution:
        """The head that serves the space."""
        space, spaces = self.space, gymnasium.spaces
        if isinstance(space, spaces.Discrete):
            return Categorical(int(space.n))
        if isinstance(space, spaces.MultiDiscrete):
            return MultiCategorical(tuple(map(int, space.nvec.ravel())))
        if isinstance(space, spaces.MultiBinary):
            return Bernoulli(math.prod(space.shape))
        if isinstance(space, spaces.Box):
            return Gaussian(None, math.prod(space.shape))
        raise TypeError(f"no head serves the action space {space}; served: Discrete, MultiDiscrete, MultiBinary, Box")

    def to_environment(self, target: Values) -> Values:
        """What the environment gets for the head's targets, arrays or tensors: ``[B, *A]`` → ``[B, ...]``."""
        space, spaces = self.space, gymnasium.spaces
        if isinstance(space, spaces.Discrete):
            return target + int(space.start) if space.start else target
        assert space.shape is not None
        assert space.dtype is not None
        target = target.reshape(-1, *space.shape)
        if isinstance(space, spaces.MultiDiscrete):
            if not space.start.any():
                return target
            return target + (torch.from_numpy(space.start) if isinstance(target, Tensor) else space.start)
        if isinstance(space, spaces.Box):
            target = self._within_bounds(target)
        if isinstance(target, Tensor):
            return target.to(torch.from_numpy(np.empty(0, space.dtype)).dtype)
        return target.astype(space.dtype, copy=False)

    def _within_bounds(self, target: Any) -> Any:
        """Numbers between the bounds of a Box, whole ones where its type is of integers; arrays and tensors alike."""
        low, high = self._bounds
        if isinstance(target, Tensor):
            low, high, target = torch.from_numpy(low), torch.from_numpy(high), target.double()
        else:
            target = target.astype(np.float64)
        if self.rescale:
            target = low + 0.5 * (target.clip(-1.0, 1.0) + 1.0) * (high - low)
        if np.issubdtype(self.space.dtype, np.integer):
            target = target.round()
        return target.clip(low, high)

    @cached_property
    def _bounds(self) -> tuple[Any, Any]:
        """Of a Box, in double precision."""
        assert isinstance(self.space, gymnasium.spaces.Box)
        return self.space.low.astype(np.float64), self.space.high.astype(np.float64)


def to_json(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """What `from_json` needs to make the space again, in JSON's types.

    Example:
        >>> from_json(to_json(gymnasium.spaces.Discrete(3, start=1)))
        Discrete(3, start=1)
    """
    _check_served(space)
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "parts": [[key, to_json(part)] for key, part in space.items()]}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "parts": [to_json(part) for part in space.spaces]}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "kind": "MultiDiscrete",
            "n": space.nvec.tolist(),
            "start": space.start.tolist(),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
    assert isinstance(space, spaces.Box)
    bounds = {"low": _bound_to_json(space.low), "high": _bound_to_json(space.high)}
    return {"kind": "Box", "dtype": str(space.dtype), "shape": list(space.shape), **bounds}


def from_json(description: dict[str, Any], most: int | None = None) -> gymnasium.Space[Any]:
    """The space that `to_json` described.

    Args:
        description: what `to_json` returned.
        most: the largest number of entries that a Box may have, because a Box allocates its bounds.

    Raises:
        ValueError: an unknown kind, or a larger Box.
    """
    spaces, kind = gymnasium.spaces, description["kind"]
    if kind == "Dict":
        return spaces.Dict([(key, from_json(part, most)) for key, part in description["parts"]])
    if kind == "Tuple":
        return spaces.Tuple([from_json(part, most) for part in description["parts"]])
    if kind == "Discrete":
        return spaces.Discrete(description["n"], start=description["start"], dtype=np.dtype(description["dtype"]).type)
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(
            np.array(description["n"]), np.dtype(description["dtype"]).type, start=np.array(description["start"])
        )
    if kind == "MultiBinary":
        return spaces.MultiBinary(description["n"])
    if kind == "Box":
        dtype = np.dtype(description["dtype"])
        shape = tuple(description["shape"])
        if most is not None and math.prod(shape) > most:
            raise ValueError(f"a Box of shape {list(shape)} is larger than any tensor's side, {most}")
        low, high = (np.broadcast_to(np.array(description[name], dtype), shape) for name in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    raise ValueError(f"no space of kind {kind!r}")


def _bound_to_json(bound: NDArray[Any]) -> Any:
    """Nested lists, or one number where all are equal; infinities as strings, since JSON has none."""
    if bound.size and (bound == bound.flat[0]).all():
        bound = bound.flat[0]

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(part) for part in value]
        return value if math.isfinite(value) else str(value)

    return plain(bound.tolist())
