"""Heads: what a network's outputs mean. A head gives ``cost`` (−log p), ``entropy``, ``kl``, ``sample`` and ``mode``.

Training happens on torch tensors (``cost``, ``entropy``, ``kl``); acting on NumPy arrays (``sample``, ``mode``,
``to_action``), because environments are NumPy programs and a small forward pass costs a quarter there.

| action space | supervised task | head |
|---|---|---|
| Discrete | one of K classes | `Categorical` |
| MultiDiscrete | several labels | `MultiCategorical` |
| MultiBinary | any subset of the labels | `Bernoulli` |
| Box | regression | `Gaussian` |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rlce.objective import cross_entropy


class Head(Protocol):
    """What every head can do; A stands for `action_shape`.

    The target that is stored and scored may differ from the action that is sent: a class index from the environment's
    number for it, a raw sample from its clipped value.
    """

    @property
    def n_outputs(self) -> int:
        """How many outputs a row has."""

    @property
    def action_shape(self) -> tuple[int, ...]:
        """A: the shape of one stored target; ``()`` for a single number. A sample uses one uniform an entry."""

    @property
    def action_dtype(self) -> type[np.generic]:
        """The NumPy type of a stored target."""

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target) in nats: ``[..., n_outputs]`` and ``[..., *A]`` → ``[...]``."""

    def entropy(self, outputs: Tensor) -> Tensor:
        """H(p) in nats, in closed form: ``[..., n_outputs]`` → ``[...]``."""

    def kl(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """KL(p‖reference) in nats, in closed form: ``[..., n_outputs]`` twice → ``[...]``."""

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[Any]:
        """Draw targets by inverting the distribution function: ``[..., n_outputs]`` and ``[..., *A]`` → ``[..., *A]``.

        Uniforms lie in [0, 1); the same ones give the same target.
        """

    def mode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The most probable target: ``[..., n_outputs]`` → ``[..., *A]``."""

    def to_action(self, stored: NDArray[Any]) -> NDArray[Any]:
        """What the environment gets for a batch of targets: ``[B, *A]`` → ``[B, ...]`` as its action space wants it."""


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

    @property
    def action_shape(self) -> tuple[int, ...]:
        """One number."""
        return ()

    @property
    def action_dtype(self) -> type[np.generic]:
        """Class indices are int64."""
        return np.int64

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target): outputs ``[..., K]``; target int64 ``[...]`` or class weights ``[..., K]``; → ``[...]``."""
        return cross_entropy(outputs, target)

    def entropy(self, outputs: Tensor) -> Tensor:
        """H(p) in nats: outputs ``[..., K]`` → ``[...]``. A masked class contributes zero, value and gradient."""
        log_probabilities = torch.log_softmax(outputs, dim=-1)
        finite = log_probabilities.masked_fill(log_probabilities == -math.inf, 0.0)
        return -(log_probabilities.exp() * finite).sum(dim=-1)

    def kl(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """Σ_k p_k log(p_k / reference_k): logits ``[..., K]`` twice → ``[...]``.

        A class masked in p contributes zero, value and gradient; one that is masked in the reference alone makes it
        infinite, as it should be.
        """
        log_probabilities = torch.log_softmax(outputs, dim=-1)
        log_ratio = log_probabilities - torch.log_softmax(reference, dim=-1)
        log_ratio = log_ratio.masked_fill(log_probabilities == -math.inf, 0.0)
        return (log_probabilities.exp() * log_ratio).sum(dim=-1)

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

    def to_action(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """The environment's number for a class index."""
        return stored + self.start if self.start else stored


@dataclass(frozen=True)
class MultiCategorical:
    """D independent choices, one of K_d classes each; the outputs are the logits of all, one after the other.

    Attributes:
        classes: K_1 … K_D.
        start: the environment's number for class 0 of every component; empty for zeros.
        shape: of the environment's action, D numbers in all; empty for ``[D]``.

    Example:
        >>> head = MultiCategorical((2, 3))
        >>> head.n_outputs
        5
        >>> head.cost(torch.zeros(1, 5), torch.tensor([[1, 2]]))  # log 2 + log 3
        tensor([1.7918])
        >>> head.mode(np.array([[0.0, 1.0, 5.0, 3.0, 4.0]]))
        array([[1, 0]])
    """

    classes: tuple[int, ...]
    start: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes or min(self.classes) < 1:
            raise ValueError(f"classes must hold numbers of at least 1, at least one of them, got {self.classes}")
        if self.start and len(self.start) != len(self.classes):
            raise ValueError(f"start must hold one number a component, {len(self.classes)}, got {self.start}")
        _check_shape(self.shape, len(self.classes))

    @property
    def n_outputs(self) -> int:
        """How many outputs the network must have: Σ K_d."""
        return sum(self.classes)

    @property
    def action_shape(self) -> tuple[int, ...]:
        """``(D,)``."""
        return (len(self.classes),)

    @property
    def action_dtype(self) -> type[np.generic]:
        """Class indices are int64."""
        return np.int64

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target), summed over the components: outputs ``[..., ΣK]`` → ``[...]``.

        ``target`` is int64 ``[..., D]``, or class weights ``[..., ΣK]`` in floating point.
        """
        parts = target.split(self.classes, dim=-1) if target.is_floating_point() else target.unbind(dim=-1)
        pairs = zip(outputs.split(self.classes, dim=-1), parts, strict=True)
        return torch.stack([cross_entropy(logits, part) for logits, part in pairs]).sum(dim=0)

    def entropy(self, outputs: Tensor) -> Tensor:
        """H(p) in nats, the sum of the components': ``[..., ΣK]`` → ``[...]``."""
        parts = outputs.split(self.classes, dim=-1)
        return torch.stack([Categorical(logits.shape[-1]).entropy(logits) for logits in parts]).sum(dim=0)

    def kl(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """KL(p‖reference) in nats, the sum of the components': ``[..., ΣK]`` twice → ``[...]``."""
        pairs = zip(outputs.split(self.classes, dim=-1), reference.split(self.classes, dim=-1), strict=True)
        return torch.stack([Categorical(p.shape[-1]).kl(p, q) for p, q in pairs]).sum(dim=0)

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Every component as `Categorical.sample`: ``[..., ΣK]`` and ``[..., D]`` → class indices ``[..., D]``."""
        parts = enumerate(self._split(outputs))
        return np.stack([Categorical(self.classes[d]).sample(part, uniforms[..., d]) for d, part in parts], axis=-1)

    def mode(self, outputs: NDArray[Any]) -> NDArray[np.int64]:
        """The most probable class of every component: ``[..., ΣK]`` → ``[..., D]``."""
        return np.stack([part.argmax(axis=-1) for part in self._split(outputs)], axis=-1)

    def to_action(self, stored: NDArray[np.int64]) -> NDArray[np.int64]:
        """The environment's numbers, in its shape: ``[B, D]`` → ``[B, *shape]``."""
        action = stored + np.array(self.start) if self.start else stored
        return action.reshape(len(stored), *(self.shape or self.action_shape))

    def _split(self, outputs: NDArray[Any]) -> list[NDArray[Any]]:
        return np.split(outputs, np.cumsum(self.classes)[:-1], axis=-1)


@dataclass(frozen=True)
class Bernoulli:
    """Any subset of L labels, each yes or no by itself (one-vs-all); an output is the logit of a yes.

    Attributes:
        labels: L.
        shape: of the environment's action, L numbers in all; empty for ``[L]``.

    Example:
        >>> head = Bernoulli(2)
        >>> head.cost(torch.zeros(1, 2), torch.tensor([[1, 0]]))  # 2 log 2
        tensor([1.3863])
        >>> head.mode(np.array([[-0.5, 3.0]]))
        array([[0, 1]])
    """

    labels: int
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.labels < 1:
            raise ValueError(f"labels must be at least 1, got {self.labels}")
        _check_shape(self.shape, self.labels)

    @property
    def n_outputs(self) -> int:
        """How many outputs the network must have."""
        return self.labels

    @property
    def action_shape(self) -> tuple[int, ...]:
        """``(L,)``."""
        return (self.labels,)

    @property
    def action_dtype(self) -> type[np.generic]:
        """Zeros and ones as int64."""
        return np.int64

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target), summed over the labels: outputs and target ``[..., L]`` → ``[...]``.

        ``target`` is 0 or 1, or a probability of yes in floating point.
        """
        # From logits: log σ(z) by the logarithm of a probability would be −inf from z = −104 on in float32.
        target = target.to(outputs.dtype)
        return F.binary_cross_entropy_with_logits(outputs, target, reduction="none").sum(dim=-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """H(p) in nats, the sum of the labels': ``[..., L]`` → ``[...]``."""
        yes, no = F.logsigmoid(outputs), F.logsigmoid(-outputs)
        return -(yes.exp() * yes + no.exp() * no).sum(dim=-1)

    def kl(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """KL(p‖reference) in nats, the sum of the labels': ``[..., L]`` twice → ``[...]``."""
        yes, no = F.logsigmoid(outputs), F.logsigmoid(-outputs)
        terms = yes.exp() * (yes - F.logsigmoid(reference)) + no.exp() * (no - F.logsigmoid(-reference))
        return terms.sum(dim=-1)

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """1 where the uniform lies below the probability of yes: ``[..., L]`` twice → ``[..., L]``."""
        # tanh never overflows, where exp(−z) would: σ(z) = ½(1 + tanh(z/2)).
        return (uniforms < 0.5 * (1.0 + np.tanh(0.5 * outputs.astype(np.float64)))).astype(np.int64)

    def mode(self, outputs: NDArray[Any]) -> NDArray[np.int64]:
        """1 where yes is the more probable: ``[..., L]`` → ``[..., L]``."""
        return (outputs > 0).astype(np.int64)

    def to_action(self, stored: NDArray[np.int64]) -> NDArray[np.int8]:
        """The environment's shape and type: ``[B, L]`` → ``[B, *shape]`` int8."""
        return stored.reshape(len(stored), *(self.shape or self.action_shape)).astype(np.int8)


@dataclass(frozen=True)
class Gaussian:
    """D independent real numbers. The critic is this with one number at unit scale.

    The raw sample is what is stored and scored; only what the environment gets is brought within its bounds. (The
    density of a clipped sample is another one, and scoring it by this one would bias the gradient.)

    Attributes:
        scale: the standard deviation in the target's unit, and the outputs are the D means; None where it is learnt,
            and the outputs are the D means and then the D logarithms of the deviations.
        dimensions: D.
        space: of the environment's action, D numbers in all: its shape, type and bounds. None sends what was drawn.
        rescale: send −1 … 1 as the space's lower … upper bound, which must be finite, clipping beyond; by default
            numbers are taken as they are and clipped to the bounds.

    Raises:
        ValueError: a scale that is not positive and finite, dimensions that do not fit the space, or rescaling
            without finite bounds.

    Example:
        >>> Gaussian().cost(torch.tensor([[1.0]]), torch.tensor([[1.0]]))  # log sqrt(2π)
        tensor([0.9189])
        >>> head = Gaussian(scale=None, space=gymnasium.spaces.Box(-2.0, 2.0, (1,)))
        >>> head.n_outputs
        2
        >>> head.to_action(np.array([[3.5]], np.float32))
        array([[2.]], dtype=float32)
    """

    scale: float | None = 1.0
    dimensions: int = 1
    space: gymnasium.spaces.Box | None = None
    rescale: bool = False

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale}")
        if self.dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {self.dimensions}")
        if self.space is not None and math.prod(self.space.shape) != self.dimensions:
            raise ValueError(f"dimensions must be the space's {math.prod(self.space.shape)}, got {self.dimensions}")
        if self.rescale and (self.space is None or not self.space.is_bounded()):
            raise ValueError(f"rescale needs a space with finite bounds, got {self.space}")

    @property
    def learns_scale(self) -> bool:
        """Whether the outputs hold the logarithms of the deviations too."""
        return self.scale is None

    @property
    def n_outputs(self) -> int:
        """How many outputs a row has: D, or 2D where the scale is learnt."""
        return 2 * self.dimensions if self.learns_scale else self.dimensions

    @property
    def action_shape(self) -> tuple[int, ...]:
        """``(D,)``."""
        return (self.dimensions,)

    @property
    def action_dtype(self) -> type[np.generic]:
        """Raw samples are float32, whatever the environment's type."""
        return np.float32

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target), constants included: outputs ``[..., n_outputs]``, target ``[..., D]`` → ``[...]``."""
        mean, log_scale = self._parameters(outputs)
        if mean.shape != target.shape:
            raise ValueError(f"target must have the shape of the means, {list(mean.shape)}, got {list(target.shape)}")
        constant = log_scale + 0.5 * math.log(2 * math.pi)
        return (squared(mean, target) * (-2.0 * log_scale).exp() + constant).sum(dim=-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """Σ_d ½ log(2πe) + log scale_d: ``[..., n_outputs]`` → ``[...]``."""
        mean, log_scale = self._parameters(outputs)
        return (log_scale + 0.5 * math.log(2 * math.pi * math.e)).expand_as(mean).sum(dim=-1)

    def kl(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """KL(p‖reference) in nats: ``[..., n_outputs]`` twice → ``[...]``."""
        mean, log_scale = self._parameters(outputs)
        reference_mean, reference_log_scale = self._parameters(reference)
        log_ratio = log_scale - reference_log_scale
        distance = squared(mean, reference_mean) * (-2.0 * reference_log_scale).exp()
        return (distance + 0.5 * torch.expm1(2.0 * log_ratio) - log_ratio).sum(dim=-1)

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[np.float32]:
        """Mean + scale × Φ⁻¹(uniform): ``[..., n_outputs]`` and ``[..., D]`` → ``[..., D]`` float32, not clipped."""
        from scipy.special import ndtri

        # A generator's uniforms are multiples of 2⁻⁵³: zero, whose normal is −inf, counts as half of the next one.
        normals = ndtri(np.maximum(uniforms, 2.0**-54))
        scale = np.exp(outputs[..., self.dimensions :]) if self.scale is None else self.scale
        return (outputs[..., : self.dimensions] + scale * normals).astype(np.float32)

    def mode(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The mean: ``[..., n_outputs]`` → ``[..., D]``."""
        return outputs[..., : self.dimensions]

    def to_action(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Within the space's bounds, in its shape and type: ``[B, D]`` → ``[B, *shape]``; integers are rounded."""
        space = self.space
        if space is None:
            return stored
        action = stored.reshape(len(stored), *space.shape)
        if self.rescale:
            low, high = space.low.astype(np.float64), space.high.astype(np.float64)
            action = low + 0.5 * (np.clip(action, -1.0, 1.0) + 1.0) * (high - low)
        if np.issubdtype(space.dtype, np.integer):
            action = np.rint(action)
        return np.clip(action, space.low, space.high).astype(space.dtype, copy=False)

    def _parameters(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The means ``[..., D]``, and the logarithms of the deviations, ``[..., D]`` or 0-d."""
        if outputs.shape[-1] != self.n_outputs:
            raise ValueError(f"outputs must have shape [..., {self.n_outputs}], got {list(outputs.shape)}")
        if self.scale is None:
            mean, log_scale = outputs.split(self.dimensions, dim=-1)
            return mean, log_scale
        return outputs, outputs.new_full((), math.log(self.scale))


def squared(outputs: Tensor, target: Tensor) -> Tensor:
    """½(target − outputs)²: the unit Gaussian's −log p without its constant; same shapes in and out.

    Example:
        >>> squared(torch.tensor([1.0]), torch.tensor([3.0]))
        tensor([2.])
    """
    return 0.5 * (target - outputs).square()


def head_for(space: gymnasium.Space[Any], *, rescale: bool = False) -> Head:
    """The head that serves an action space.

    Args:
        space: a single environment's action space.
        rescale: for a Box with finite bounds, send −1 … 1 as lower … upper bound (see `Gaussian`).

    Returns:
        The head: Discrete → `Categorical`, MultiDiscrete → `MultiCategorical`, MultiBinary → `Bernoulli`, Box →
        `Gaussian` with learnt scale.

    Raises:
        TypeError: no head serves the space; the message names those that are served.
        ValueError: ``rescale`` for a space that is no Box with finite bounds.

    Example:
        >>> head_for(gymnasium.spaces.Discrete(4))
        Categorical(classes=4, start=0)
        >>> head_for(gymnasium.spaces.MultiBinary((2, 3)))
        Bernoulli(labels=6, shape=(2, 3))
    """
    spaces = gymnasium.spaces
    if isinstance(space, spaces.Box):
        return Gaussian(None, math.prod(space.shape), space, rescale)
    if rescale:
        raise ValueError(f"rescale needs a Box with finite bounds, got the action space {space}")
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        classes, start = (tuple(map(int, numbers.ravel())) for numbers in (space.nvec, space.start))
        return MultiCategorical(classes, start if any(start) else (), space.shape)
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(math.prod(space.shape), space.shape)
    raise TypeError(f"no head serves the action space {space}; served: Discrete, MultiDiscrete, MultiBinary, Box")


def _check_shape(shape: tuple[int, ...], entries: int) -> None:
    if shape and math.prod(shape) != entries:
        raise ValueError(f"shape must hold {entries} numbers in all, got {shape}")
