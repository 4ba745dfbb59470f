"""Spaces: observations as network inputs, actions as heads and back, and both as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return sum(map(flat_width, space.values() if isinstance(space, spaces.Dict) else space.spaces))
    if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise TypeError(
            f"no network input for the observation space {space}; "
            "served: Box, Discrete, MultiDiscrete, MultiBinary, and Tuple and Dict of these"
        )
    return spaces.flatdim(space)


def numeric_columns(space: gymnasium.Space[Any]) -> NDArray[np.bool_]:
    """True for the columns of a flattened observation that come from a Box, ``[D]``; the others are zeros and ones.

    Example:
        >>> numeric_columns(gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2), gymnasium.spaces.Box(0, 1, (1,))]))
        array([False, False,  True])
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.values() if isinstance(space, spaces.Dict) else space.spaces
        return np.concatenate([numeric_columns(part) for part in parts])
    return np.full(flat_width(space), isinstance(space, spaces.Box))


def flatten_batch(space: gymnasium.Space[Any], batch: Any) -> Observations:
    """What `gymnasium.spaces.flatten` returns for each row, computed for the whole batch at once.

    Args:
        space: the space of one observation: Box, Discrete, MultiDiscrete, MultiBinary, or Tuple and Dict of these.
        batch: observations as a vector environment returns them, batched leaf by leaf; or a single observation.

    Returns:
        ``[B, D]`` float32; discrete parts are one-hot. B is 1 for a single observation.

    Raises:
        ValueError: a class outside its space.

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
    assert space.shape is not None
    array = np.asarray(batch).reshape(-1, math.prod(space.shape))
    if isinstance(space, spaces.Discrete):
        return _one_hot(array[:, 0], space.start, space.n)
    if isinstance(space, spaces.MultiDiscrete):
        columns = zip(array.T, space.start.ravel(), space.nvec.ravel(), strict=True)
        return np.concatenate([_one_hot(*column) for column in columns], axis=1)
    return array.astype(np.float32, copy=False)


def _one_hot(values: NDArray[Any], start: int, classes: int) -> Observations:
    """``[B]`` → ``[B, classes]``. A class outside the space must not become a row of zeros, which looks like data."""
    equal = values[:, None] == np.arange(start, start + classes)
    if np.count_nonzero(equal) != len(values):
        wrong = values[~equal.any(axis=1)][0]
        raise ValueError(f"observation must have classes from {start} to {start + classes - 1}, got {wrong}")
    return equal.astype(np.float32)


def is_batch(space: gymnasium.Space[Any], observation: Any) -> bool:
    """True if an observation of this space has a leading batch dimension.

    Raises:
        ValueError: it is neither one observation nor a batch of them.

    Example:
        >>> is_batch(gymnasium.spaces.Discrete(3), 1), is_batch(gymnasium.spaces.Discrete(3), np.array([1, 2]))
        (False, True)
    """
    if isinstance(space, gymnasium.spaces.Dict):
        key = next(iter(space))
        return is_batch(space[key], observation[key])
    if isinstance(space, gymnasium.spaces.Tuple):
        return is_batch(space[0], observation[0])
    shape, expected = np.shape(observation), space.shape or ()
    if shape != expected and shape[1:] != expected:
        raise ValueError(
            f"observation must have shape {list(expected)}, or [B, ...] for a batch of B, got {list(shape)}"
        )
    return shape != expected


class Actions:
    """An action space: the head that draws targets for it, and how a target becomes an action.

    ==============  ====================  ============================================================
    action space    head                  what the environment gets
    ==============  ====================  ============================================================
    Discrete        `Categorical`         the class index plus the space's ``start``
    MultiDiscrete   `MultiCategorical`    likewise, in the space's shape
    MultiBinary     `Bernoulli`           zeros and ones in the space's shape and type
    Box             `Gaussian`, learnt    the number that was drawn, clipped to the bounds, in the
                    deviations            space's shape and type; rounded if the type is an integer
    ==============  ====================  ============================================================

    Args:
        space: a single environment's action space.
        rescale: for a Box with finite bounds, map −1 … 1 to the lower … upper bound, and clip beyond; by default
            numbers are sent unchanged. None: True for a Box whose bounds are all within ±1e9 (larger ones mostly stand
            for "no bound"), False for any other space.

    Attributes:
        head: the head that serves the space.
        rescale: whether it rescales.

    Raises:
        TypeError: no head serves the space; the message names those that are served.
        ValueError: ``rescale`` for a space that is not a Box with finite bounds.

    Example:
        >>> actions = Actions(gymnasium.spaces.Discrete(4, start=2))
        >>> actions.head
        Categorical(classes=4)
        >>> actions.to_environment(np.array([0, 3]))
        array([2, 5])
        >>> Actions(gymnasium.spaces.Box(-2.0, 2.0, (1,))).to_environment(np.array([[3.5]], np.float32))
        array([[2.]], dtype=float32)
    """

    def __init__(self, space: gymnasium.Space[Any], rescale: bool | None = False) -> None:
        spaces = gymnasium.spaces
        bounded = isinstance(space, spaces.Box) and space.is_bounded()
        if rescale and not bounded:
            raise ValueError(f"rescale needs a Box with finite bounds, got the action space {space}")
        if rescale is None and isinstance(space, spaces.Box):
            rescale = bool((np.abs([space.low, space.high], dtype=np.float64) <= 1e9).all())
        self.space, self.rescale = space, bool(rescale)
        self.head: Distribution
        if isinstance(space, spaces.Discrete):
            self.head = Categorical(int(space.n))
        elif isinstance(space, spaces.MultiDiscrete):
            self.head = MultiCategorical(tuple(map(int, space.nvec.ravel())))
        elif isinstance(space, spaces.MultiBinary):
            self.head = Bernoulli(math.prod(space.shape))
        elif isinstance(space, spaces.Box):
            self.head = Gaussian(None, math.prod(space.shape))
            self._low, self._high = space.low.astype(np.float64), space.high.astype(np.float64)
        else:
            raise TypeError(
                f"no head serves the action space {space}; served: Discrete, MultiDiscrete, MultiBinary, Box"
            )

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
        """Numbers within the bounds of a Box, rounded if its type is an integer, for arrays and tensors."""
        low: Any = self._low
        high: Any = self._high
        if isinstance(target, Tensor):
            low, high, target = torch.from_numpy(low), torch.from_numpy(high), target.double()
        else:
            target = target.astype(np.float64)
        if self.rescale:
            target = low + 0.5 * (target.clip(-1.0, 1.0) + 1.0) * (high - low)
        if np.issubdtype(self.space.dtype, np.integer):
            target = target.round()
        return target.clip(low, high)


def to_json(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """A description of the space in JSON's types, from which `from_json` makes it again.

    Example:
        >>> from_json(to_json(gymnasium.spaces.Discrete(3, start=1)))
        Discrete(3, start=1)
    """
    flat_width(space)  # refuses a space that is not served
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "parts": [[key, to_json(part)] for key, part in space.items()]}
    if isinstance(space, spaces.Tuple):
        return {"kind": "Tuple", "parts": [to_json(part) for part in space.spaces]}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
    described: dict[str, Any] = {"dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), **described}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "n": space.nvec.tolist(), "start": space.start.tolist(), **described}
    assert isinstance(space, spaces.Box)
    described |= {"low": _bound_to_json(space.low), "high": _bound_to_json(space.high)}
    return {"kind": "Box", "shape": list(space.shape), **described}


def from_json(description: Mapping[str, Any], most: int | None = None) -> gymnasium.Space[Any]:
    """The space that `to_json` described.

    Args:
        description: what `to_json` returned.
        most: the largest number of entries that a Box may have, because a Box allocates its bounds.

    Raises:
        ValueError: an unknown kind, or a larger Box.
    """
    spaces, given = gymnasium.spaces, dict(description)
    kind = given.pop("kind")
    if kind == "Dict":
        return spaces.Dict([(key, from_json(part, most)) for key, part in given["parts"]])
    if kind == "Tuple":
        return spaces.Tuple([from_json(part, most) for part in given["parts"]])
    if kind == "MultiBinary":
        return spaces.MultiBinary(**given)
    if kind not in ("Discrete", "MultiDiscrete", "Box"):
        raise ValueError(f"no space of kind {kind!r}")
    given["dtype"] = np.dtype(given["dtype"]).type
    if kind == "Discrete":
        return spaces.Discrete(**given)
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(given.pop("n"), **given)
    shape = given["shape"] = tuple(given["shape"])
    if most is not None and math.prod(shape) > most:
        raise ValueError(f"a Box of shape {list(shape)} is larger than any side of a tensor, {most}")
    for name in ("low", "high"):
        given[name] = np.broadcast_to(np.array(given[name], given["dtype"]), shape)
    return spaces.Box(**given)


def _bound_to_json(bound: NDArray[Any]) -> Any:
    """Nested lists, or one number if all are equal; infinities as strings, because JSON has none."""
    values = bound.astype(object)
    values[~np.isfinite(bound)] = bound[~np.isfinite(bound)].astype(str)
    same = bound.size and (bound == bound.flat[0]).all()
    return values.flat[0] if same else values.tolist()
