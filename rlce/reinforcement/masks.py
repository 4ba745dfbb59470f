"""Invalid-action masks: read from environments, checked, and applied to logits.

A mask ``[..., K]`` is true for the classes that an action may name; for a MultiDiscrete action space, K counts the
classes of all components, one after the other. A forbidden class gets the logit −inf: it is never drawn, its
probability is zero, and the gradient with respect to its logit is zero.

An environment gives its mask in ``info["action_mask"]``, at every reset and step, or as the part ``"action_mask"`` of a
Dict observation; that part is not an input of the network. A copy that gives no mask at some step allows everything.

Source:
    Huang & Ontañón (2022), "A closer look at invalid action masking in policy gradient algorithms", arXiv 2006.14171.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

KEY = "action_mask"

Mask = NDArray[np.bool_]
Logits = TypeVar("Logits", NDArray[Any], Tensor)


def classes_of(action_space: gymnasium.Space[Any]) -> tuple[int, ...]:
    """The number of classes of each component of the action.

    Raises:
        TypeError: actions that are not choices among classes.

    Example:
        >>> classes_of(gymnasium.spaces.MultiDiscrete([2, 3]))
        (2, 3)
    """
    if isinstance(action_space, gymnasium.spaces.Discrete):
        return (int(action_space.n),)
    if isinstance(action_space, gymnasium.spaces.MultiDiscrete):
        return tuple(map(int, action_space.nvec.ravel()))
    raise TypeError(f"action masks are for Discrete and MultiDiscrete actions, but the action space is {action_space}")


def in_observation(observation_space: gymnasium.Space[Any]) -> bool:
    """True if the observation is a Dict with a part "action_mask" that is MultiBinary or Box."""
    part = observation_space.get(KEY) if isinstance(observation_space, gymnasium.spaces.Dict) else None
    return isinstance(part, gymnasium.spaces.MultiBinary | gymnasium.spaces.Box)


def input_space(observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]) -> gymnasium.Space[Any]:
    """The network's input: the observation space without the mask.

    Raises:
        TypeError: a mask for actions that are not choices among classes.
        ValueError: a mask without exactly one entry per class.

    Example:
        >>> spaces = gymnasium.spaces
        >>> whole = spaces.Dict({"action_mask": spaces.MultiBinary(3), "hand": spaces.Discrete(5)})
        >>> input_space(whole, spaces.Discrete(3))
        Dict('hand': Discrete(5))
    """
    if not in_observation(observation_space):
        return observation_space
    assert isinstance(observation_space, gymnasium.spaces.Dict)
    width, expected = gymnasium.spaces.flatdim(observation_space[KEY]), sum(classes_of(action_space))
    if width != expected:
        raise ValueError(f"the observation's {KEY!r} must have {expected} entries, one per class, got {width}")
    return gymnasium.spaces.Dict([(key, part) for key, part in observation_space.items() if key != KEY])


def from_observation(observation: Mapping[str, Any], rows: int) -> Mask:
    """The mask in a batch of Dict observations: ``[rows, K]``."""
    return np.asarray(observation[KEY]).reshape(rows, -1).astype(bool)


def from_info(info: Mapping[str, Any], rows: int, action_space: gymnasium.Space[Any]) -> Mask | None:
    """The mask in a vector environment's info, or None if it has none.

    Args:
        info: has the masks of all copies under "action_mask", and under "_action_mask" which copies gave one.
        rows: number of copies.
        action_space: action space of one copy.

    Returns:
        ``[rows, K]``, all true for a copy that gave none.

    Example:
        >>> info = {"action_mask": np.array([[0, 1], [0, 0]]), "_action_mask": np.array([True, False])}
        >>> from_info(info, 2, gymnasium.spaces.Discrete(2))
        array([[False,  True],
               [ True,  True]])
    """
    if KEY not in info:
        return None
    width = sum(classes_of(action_space))
    values, given = info[KEY], np.asarray(info.get(f"_{KEY}", np.ones(rows, bool)), bool)
    if isinstance(values, np.ndarray) and values.dtype != object:
        mask = values.reshape(rows, -1).astype(bool)
        _check_width(mask.shape[1], width)
        mask[~given] = True
        return mask
    mask = np.ones((rows, width), bool)
    for i in np.flatnonzero(given):
        # A mask may be a tuple with one array per component, as for Gymnasium's MultiDiscrete.sample.
        row = np.concatenate([np.ravel(part) for part in values[i]])
        _check_width(row.size, width)
        mask[i] = row.astype(bool)
    return mask


def _check_width(found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"info[{KEY!r}] must have {expected} entries, one per class, got {found}")


def forbids_all(mask: Mask, classes: Sequence[int]) -> NDArray[np.bool_]:
    """True for rows that leave a component of the action without any class: ``[..., K]`` → ``[...]``.

    Example:
        >>> forbids_all(np.array([[True, False, True], [True, True, False]]), (2, 1))
        array([False,  True])
    """
    starts = np.cumsum((0, *classes[:-1]))
    return np.logical_not(np.logical_or.reduceat(mask, starts, axis=-1).all(axis=-1))


def checked(mask: ArrayLike, rows: int, action_space: gymnasium.Space[Any]) -> Mask:
    """A caller's mask as ``[rows, K]``; ``[K]`` is enough for one row.

    Example:
        >>> checked([1, 0], 1, gymnasium.spaces.Discrete(2))
        array([[ True, False]])
    """
    classes = classes_of(action_space)
    found, expected = np.asarray(mask).astype(bool), (rows, sum(classes))
    if found.shape != expected and not (rows == 1 and found.shape == expected[1:]):
        raise ValueError(f"mask must have shape {list(expected)}, one entry per class, got {list(found.shape)}")
    found = found.reshape(expected)
    empty = forbids_all(found, classes)
    if empty.any():
        raise ValueError(f"mask forbids every action in row {np.flatnonzero(empty)[0]}")
    return found


def stacked(masks: Sequence[Mask | None]) -> Mask | None:
    """The masks of T steps, ``[T, N, K]``; a step without a mask allows everything. None if no step has a mask."""
    known = [mask for mask in masks if mask is not None]
    if not known:
        return None
    return np.stack([np.ones_like(known[0]) if mask is None else mask for mask in masks])


def hide(outputs: Logits, mask: Any) -> Logits:
    """Logits, −inf where the mask is false: ``[..., K]`` twice → ``[..., K]``, both arrays or both tensors.

    Example:
        >>> hide(np.zeros(3), np.array([True, False, True]))
        array([  0., -inf,   0.])
    """
    if isinstance(outputs, Tensor):
        return outputs.masked_fill(~mask, -math.inf)
    return np.where(mask, outputs, outputs.dtype.type(-math.inf))
