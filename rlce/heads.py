"""Heads: what a network's outputs mean. A head gives ``cost`` (−log p), ``entropy``, ``sample`` and ``mode``.

Training happens on torch tensors (``cost``, ``entropy``); acting on NumPy arrays (``sample``, ``mode``), because
environments are NumPy programs and a small forward pass costs a quarter there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlce.objective import cross_entropy


@dataclass(frozen=True)
class Categorical:
    """One of K classes (or actions); the outputs are logits.

    Attributes:
        classes: K.
        start: the environment's number for class 0 (`gymnasium.spaces.Discrete.start`).

    Example:
        >>> head = Categorical(3)
        >>> head.cost(torch.zeros(1, 3), torch.tensor([2]))
        tensor([1.0986])
        >>> head.mode(np.array([[0.1, 0.7, 0.2]]))
        array([1])
    """

    classes: int
    start: int = 0

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes must be at least 1, got {self.classes}")

    @property
    def n_outputs(self) -> int:
        """How many outputs the network must have."""
        return self.classes

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target): outputs ``[..., K]``; target int64 ``[...]`` or class weights ``[..., K]``; → ``[...]``."""
        return cross_entropy(outputs, target)

    def entropy(self, outputs: Tensor) -> Tensor:
        """H(p) in nats: outputs ``[..., K]`` → ``[...]``. A masked class contributes zero, value and gradient."""
        log_probabilities = torch.log_softmax(outputs, dim=-1)
        finite = log_probabilities.masked_fill(log_probabilities == -math.inf, 0.0)
        return -(log_probabilities.exp() * finite).sum(dim=-1)

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Draw by inverting the cumulative distribution, one uniform in [0, 1) a row.

        A class of probability zero is never drawn: u < 1 keeps u·total below total in float64 whatever the rounding.

        Args:
            outputs: ``[..., K]``.
            uniforms: ``[...]``.

        Returns:
            Class indices, ``[...]``.
        """
        logits = outputs.astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        cumulative = np.cumsum(np.exp(logits, out=logits), axis=-1, out=logits)
        threshold = uniforms[..., None] * cumulative[..., -1:]
        return (cumulative[..., :-1] <= threshold).sum(axis=-1)

    def mode(self, outputs: NDArray[Any]) -> NDArray[np.int64]:
        """The most probable class: ``[..., K]`` → ``[...]``."""
        return outputs.argmax(axis=-1)

    def to_action(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The environment's action for a class index."""
        return index + self.start if self.start else index


@dataclass(frozen=True)
class Gaussian:
    """A real number with a fixed spread; the one output a row is its mean. The critic is this at unit scale.

    Attributes:
        scale: the standard deviation, in the target's unit.

    Example:
        >>> Gaussian().cost(torch.tensor([[1.0]]), torch.tensor([[1.0]]))  # log sqrt(2π)
        tensor([0.9189])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale}")

    @property
    def n_outputs(self) -> int:
        """How many outputs the network must have."""
        return 1

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target), constants included: outputs and target ``[..., 1]`` → ``[...]``."""
        if outputs.shape != target.shape:
            raise ValueError(f"target must have the shape of outputs, {list(outputs.shape)}, got {list(target.shape)}")
        constant = math.log(self.scale) + 0.5 * math.log(2 * math.pi)
        return (squared(outputs, target) / self.scale**2 + constant).squeeze(-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """½ log(2πe) + log scale for every row: ``[..., 1]`` → ``[...]``."""
        value = 0.5 * math.log(2 * math.pi * math.e) + math.log(self.scale)
        return torch.full_like(outputs.squeeze(-1), value)

    def sample(self, outputs: NDArray[Any], normals: NDArray[np.float64]) -> NDArray[Any]:
        """Mean + scale × a standard normal: both ``[..., 1]`` → ``[..., 1]``."""
        return outputs + self.scale * normals

    def mode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The mean."""
        return outputs


def squared(outputs: Tensor, target: Tensor) -> Tensor:
    """½(target − outputs)²: the unit Gaussian's −log p without its constant; same shapes in and out.

    Example:
        >>> squared(torch.tensor([1.0]), torch.tensor([3.0]))
        tensor([2.])
    """
    return 0.5 * (target - outputs).square()


def head_for(space: gymnasium.Space[Any]) -> Categorical:
    """The head that serves an action space.

    Args:
        space: a single environment's action space.

    Returns:
        The head; Discrete(K) → Categorical(K).

    Raises:
        TypeError: no head serves the space; the message names those that are served.

    Example:
        >>> head_for(gymnasium.spaces.Discrete(4))
        Categorical(classes=4, start=0)
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return Categorical(int(space.n), int(space.start))
    raise TypeError(f"no head serves the action space {space}; served: Discrete")
