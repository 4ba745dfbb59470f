"""Heads: what a network's outputs mean. Class heads, action heads and regression costs are one kind of thing.

Every head has ``cost`` (−log p of a target, up to a constant) and ``mode`` (the answer to give). A policy's head is a
`Distribution`, with ``entropy``, ``kl`` and ``sample``; a regressor's is a `RegressionHead`, with quantiles. Costs work
on torch tensors, sampling on NumPy arrays, because environments are NumPy programs, and ``mode`` on both.

=================  ===================  =================================================  ===========================
head               action space         supervised task                                    outputs
=================  ===================  =================================================  ===========================
`Categorical`      Discrete             one of K classes                                   K logits
`MultiCategorical` MultiDiscrete        –                                                  the logits of all components
`Bernoulli`        MultiBinary          any subset of the labels, one-vs-all               L logits of a yes
`Gaussian`         Box                  regression, cost "gaussian"; its optimum is mean   D means, and D logarithms of
                                        and deviation                                      deviations if learnt
`Point`            –                    regression, cost "squared" (the mean), "absolute"  D numbers
                                        (the median), "huber" (between); a critic
`Quantiles`        –                    regression, cost "quantile"                        one a level
=================  ===================  =================================================  ===========================

What belongs to an environment (the number of its first action, bounds, clipping) stands in
`rlce.reinforcement.spaces`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rlce.objective import cross_entropy

# An array or a tensor; what comes out is of the same kind.
Values = TypeVar("Values", NDArray[Any], Tensor)


class Head(Protocol):
    """What every head can do; A stands for `target_shape`."""

    @property
    def n_outputs(self) -> int:
        """How many outputs a row has."""

    @property
    def target_shape(self) -> tuple[int, ...]:
        """A: the shape of one target; ``()`` for a single number."""

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target) in nats, up to a constant: ``[..., n_outputs]`` and ``[..., *A]`` → ``[...]``.

        Class heads also take class weights of the shape of `Distribution.logits`, in floating point.
        """

    def mode(self, outputs: Values) -> Values:
        """The answer to give, the most probable target where there is one: ``[..., n_outputs]`` → ``[..., *A]``."""


class Distribution(Head, Protocol):
    """A head to draw from, as a policy needs. The target that is stored and scored is what was drawn."""

    @property
    def target_dtype(self) -> type[np.generic]:
        """The NumPy type of a stored target."""

    def logits(self, outputs: Tensor) -> Tensor | None:
        """The logits of each choice among K classes that a target consists of: ``[..., n_outputs]`` → ``[..., *A, K]``.

        −inf where a choice has fewer classes than another. None for a density, which has closed forms instead.
        """

    def entropy(self, outputs: Tensor) -> Tensor:
        """H(p) in nats, in closed form: ``[..., n_outputs]`` → ``[...]``."""

    def kl(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """KL(p‖reference) in nats, in closed form: ``[..., n_outputs]`` twice → ``[...]``.

        A class masked in p contributes zero, value and gradient; one that is masked in the reference alone makes it
        infinite.
        """

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[Any]:
        """Draw targets by inverting the distribution function: ``[..., n_outputs]`` and ``[..., *A]`` → ``[..., *A]``.

        Uniforms lie in [0, 1); the same ones give the same target.
        """


class RegressionHead(Head, Protocol):
    """A head for real numbers; quantiles and intervals are of a single one, ``D = 1``."""

    @property
    def widest(self) -> float | None:
        """The largest coverage of an interval; None where the head says nothing about spread."""

    def quantiles(self, outputs: Tensor, levels: NDArray[np.float64]) -> Tensor:
        """Quantiles at any levels: ``[..., n_outputs]`` and ``[L]`` → ``[..., L]``."""

    def interval(self, outputs: Tensor, coverage: float) -> Tensor:
        """Lower and upper bound of the middle part of this probability: ``[..., n_outputs]`` → ``[..., 2]``."""


# -------------------------------------------------------------------------------------------------------- class heads


@dataclass(frozen=True)
class Categorical:
    """One of K classes (or actions); the outputs are logits.

    Attributes:
        classes: K.

    Raises:
        ValueError: K below 1.

    Example:
        >>> head = Categorical(3)
        >>> head.cost(torch.zeros(1, 3), torch.tensor([2]))
        tensor([1.0986])
        >>> head.mode(np.array([[0.1, 0.7, 0.2]]))
        array([1])
    """

    classes: int

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes must be at least 1, got {self.classes}")

    @property
    def n_outputs(self) -> int:
        """K."""
        return self.classes

    @property
    def target_shape(self) -> tuple[int, ...]:
        """One number."""
        return ()

    @property
    def target_dtype(self) -> type[np.generic]:
        """Class indices are int64."""
        return np.int64

    def logits(self, outputs: Tensor) -> Tensor:
        """The outputs themselves, ``[..., K]``."""
        return outputs

    def outputs_of(self, logits: Tensor) -> Tensor:
        """The outputs with these `logits`: themselves, ``[..., K]``."""
        return logits

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target): ``[..., K]``; target int64 ``[...]`` or class weights ``[..., K]``; → ``[...]``."""
        return cross_entropy(outputs, target)

    def entropy(self, outputs: Tensor) -> Tensor:
        """H(p) in nats: ``[..., K]`` → ``[...]``. A masked class contributes zero, value and gradient."""
        return _entropy(outputs)

    def kl(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """Σ_k p_k log(p_k / reference_k): logits ``[..., K]`` twice → ``[...]``."""
        return _kl(outputs, reference)

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

    def mode(self, outputs: Values) -> Values:
        """The most probable class: ``[..., K]`` → ``[...]``."""
        return outputs.argmax(-1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Softmax: ``[..., K]`` → ``[..., K]``."""
        return outputs.softmax(dim=-1)


@dataclass(frozen=True)
class MultiCategorical:
    """D independent choices, one of K_d classes each; the outputs are the logits of all, one after the other.

    Attributes:
        classes: K_1 … K_D.

    Raises:
        ValueError: no component, or one with fewer than one class.

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

    def __post_init__(self) -> None:
        if not self.classes or min(self.classes) < 1:
            raise ValueError(f"classes must hold numbers of at least 1, at least one of them, got {self.classes}")

    @property
    def n_outputs(self) -> int:
        """Σ K_d."""
        return sum(self.classes)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """``(D,)``."""
        return (len(self.classes),)

    @property
    def target_dtype(self) -> type[np.generic]:
        """Class indices are int64."""
        return np.int64

    def logits(self, outputs: Tensor) -> Tensor:
        """The logits of each component, −inf beyond its own classes: ``[..., ΣK]`` → ``[..., D, max K]``."""
        most = max(self.classes)
        return torch.stack(
            [F.pad(part, (0, most - part.shape[-1]), value=-math.inf) for part in self._parts(outputs)], -2
        )

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target), summed over the components: outputs ``[..., ΣK]`` → ``[...]``.

        ``target`` is int64 ``[..., D]``, or class weights ``[..., D, max K]`` in floating point.
        """
        return cross_entropy(self.logits(outputs), target).sum(dim=-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """H(p) in nats, the sum of the components': ``[..., ΣK]`` → ``[...]``."""
        return _entropy(self.logits(outputs)).sum(dim=-1)

    def kl(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """KL(p‖reference) in nats, the sum of the components': ``[..., ΣK]`` twice → ``[...]``."""
        return _kl(self.logits(outputs), self.logits(reference)).sum(dim=-1)

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Every component as `Categorical.sample`: ``[..., ΣK]`` and ``[..., D]`` → class indices ``[..., D]``."""
        parts = enumerate(self._parts(outputs))
        return np.stack([Categorical(self.classes[d]).sample(part, uniforms[..., d]) for d, part in parts], axis=-1)

    def mode(self, outputs: Values) -> Values:
        """The most probable class of every component: ``[..., ΣK]`` → ``[..., D]``."""
        best = [part.argmax(-1) for part in self._parts(outputs)]
        return torch.stack(best, -1) if isinstance(outputs, Tensor) else np.stack(best, -1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """The softmax of every component in turn: ``[..., ΣK]`` → ``[..., ΣK]``."""
        return torch.cat([part.softmax(dim=-1) for part in self._parts(outputs)], dim=-1)

    def _parts(self, outputs: Values) -> list[Values]:
        """The outputs of each component, ``[..., K_d]``."""
        ends = np.cumsum(self.classes).tolist()
        return [outputs[..., end - width : end] for end, width in zip(ends, self.classes, strict=True)]


@dataclass(frozen=True)
class Bernoulli:
    """Any subset of L labels, each yes or no by itself; an output is the logit of a yes.

    Attributes:
        labels: L.

    Raises:
        ValueError: L below 1.

    Example:
        >>> head = Bernoulli(2)
        >>> head.cost(torch.zeros(1, 2), torch.tensor([[1, 0]]))  # 2 log 2
        tensor([1.3863])
        >>> head.mode(np.array([[-0.5, 3.0]]))
        array([[0, 1]])
    """

    labels: int

    def __post_init__(self) -> None:
        if self.labels < 1:
            raise ValueError(f"labels must be at least 1, got {self.labels}")

    @property
    def n_outputs(self) -> int:
        """L."""
        return self.labels

    @property
    def target_shape(self) -> tuple[int, ...]:
        """``(L,)``."""
        return (self.labels,)

    @property
    def target_dtype(self) -> type[np.generic]:
        """Zeros and ones as int64."""
        return np.int64

    def logits(self, outputs: Tensor) -> Tensor:
        """Logits (0, z) of a no and a yes, a row a label: ``[..., L]`` → ``[..., L, 2]``; softmax(0, z) is σ(z)."""
        return torch.stack((torch.zeros_like(outputs), outputs), dim=-1)

    def outputs_of(self, logits: Tensor) -> Tensor:
        """The outputs with these `logits`, up to a constant of each label: ``[..., L, 2]`` → ``[..., L]``."""
        return logits[..., 1] - logits[..., 0]

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target), summed over the labels: ``[..., L]`` → ``[...]``.

        ``target`` is 0 or 1, int64 ``[..., L]``, or weights of a no and a yes ``[..., L, 2]`` in floating point.
        """
        return cross_entropy(self.logits(outputs), target).sum(dim=-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """H(p) in nats, the sum of the labels': ``[..., L]`` → ``[...]``."""
        return _entropy(self.logits(outputs)).sum(dim=-1)

    def kl(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """KL(p‖reference) in nats, the sum of the labels': ``[..., L]`` twice → ``[...]``."""
        return _kl(self.logits(outputs), self.logits(reference)).sum(dim=-1)

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """1 where the uniform lies below the probability of yes: ``[..., L]`` twice → ``[..., L]``."""
        # tanh never overflows, where exp(−z) would: σ(z) = ½(1 + tanh(z/2)).
        return (uniforms < 0.5 * (1.0 + np.tanh(0.5 * outputs.astype(np.float64)))).astype(np.int64)

    def mode(self, outputs: Values) -> Values:
        """1 where yes is the more probable: ``[..., L]`` → ``[..., L]``."""
        return (outputs > 0) * 1  # int64, of arrays and of tensors

    def probabilities(self, outputs: Tensor) -> Tensor:
        """σ(z), of a yes: ``[..., L]`` → ``[..., L]``."""
        return outputs.sigmoid()

    def shares(self, outputs: Tensor) -> Tensor:
        """σ(z_k) / Σ_j σ(z_j), where exactly one label applies: ``[..., L]`` → ``[..., L]``; rows sum to 1."""
        # By logarithms: the sigmoids themselves are all zero where every label is very unlikely.
        return (-F.softplus(-outputs)).softmax(dim=-1)


ClassHead = Categorical | MultiCategorical | Bernoulli


def _entropy(logits: Tensor) -> Tensor:
    """−Σ_k p_k log p_k: ``[..., K]`` → ``[...]``; a class of logit −inf contributes zero, value and gradient."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    finite = log_probabilities.masked_fill(log_probabilities == -math.inf, 0.0)
    return -(log_probabilities.exp() * finite).sum(dim=-1)


def _kl(logits: Tensor, reference: Tensor) -> Tensor:
    """Σ_k p_k log(p_k / reference_k): ``[..., K]`` twice → ``[...]``; a class of logit −inf contributes zero."""
    log_probabilities = torch.log_softmax(logits, dim=-1)
    log_ratio = log_probabilities - torch.log_softmax(reference, dim=-1)
    log_ratio = log_ratio.masked_fill(log_probabilities == -math.inf, 0.0)
    return (log_probabilities.exp() * log_ratio).sum(dim=-1)


# ------------------------------------------------------------------------------------------------------- real numbers


@dataclass(frozen=True)
class Gaussian:
    """D independent real numbers with their deviations. What was drawn is stored and scored, unclipped.

    (The density of a clipped sample is another one, and scoring it by this one would bias a policy's gradient.)

    Attributes:
        scale: the standard deviation in the target's unit, and the outputs are the D means; None where it is learnt,
            and the outputs are the D means and then the D logarithms of the deviations.
        dimensions: D.

    Raises:
        ValueError: a scale that is not positive and finite, or D below 1.

    Example:
        >>> Gaussian().cost(torch.tensor([[1.0]]), torch.tensor([[1.0]]))  # log sqrt(2π)
        tensor([0.9189])
        >>> head = Gaussian(scale=None)
        >>> head.n_outputs
        2
        >>> head.quantiles(torch.tensor([[1.0, 0.0]]), np.array([0.5, 0.975]))
        tensor([[1.0000, 2.9600]])
    """

    scale: float | None = 1.0
    dimensions: int = 1

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale}")
        _check_dimensions(self.dimensions)

    @property
    def learns_scale(self) -> bool:
        """Whether the outputs hold the logarithms of the deviations too."""
        return self.scale is None

    @property
    def n_outputs(self) -> int:
        """D, or 2D where the scale is learnt."""
        return 2 * self.dimensions if self.learns_scale else self.dimensions

    @property
    def target_shape(self) -> tuple[int, ...]:
        """``(D,)``."""
        return (self.dimensions,)

    @property
    def target_dtype(self) -> type[np.generic]:
        """What is drawn is float32, whatever the environment's type."""
        return np.float32

    def logits(self, outputs: Tensor) -> None:
        """None: a density has no classes."""
        return

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

    def mode(self, outputs: Values) -> Values:
        """The mean: ``[..., n_outputs]`` → ``[..., D]``."""
        return outputs[..., : self.dimensions]

    @property
    def widest(self) -> float:
        """Any coverage below 1."""
        return 1.0

    def quantiles(self, outputs: Tensor, levels: NDArray[np.float64]) -> Tensor:
        """Mean + deviation × Φ⁻¹(level): ``[..., n_outputs]`` of one number and ``[L]`` → ``[..., L]``."""
        from scipy.special import ndtri

        mean, log_scale = self._parameters(outputs)
        return mean + log_scale.exp() * _constants(ndtri(levels), mean)

    def interval(self, outputs: Tensor, coverage: float) -> Tensor:
        """Quantiles as far from the mean on either side: ``[..., n_outputs]`` → ``[..., 2]``."""
        return self.quantiles(outputs, _either_side(coverage))

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


def absolute(outputs: Tensor, target: Tensor) -> Tensor:
    """|target − outputs|, a Laplace of unit scale; same shapes in and out.

    Example:
        >>> absolute(torch.tensor([1.0]), torch.tensor([3.0]))
        tensor([2.])
    """
    return (target - outputs).abs()


def huber(outputs: Tensor, target: Tensor, delta: float = 1.0) -> Tensor:
    """½ r² where |r| ≤ δ and δ (|r| − ½ δ) beyond, r = target − outputs: a row's gradient is bounded by δ.

    Args:
        outputs: ``[...]``.
        target: ``[...]``.
        delta: δ > 0.

    Returns:
        ``[...]``.

    Raises:
        ValueError: δ not positive.

    Source:
        Huber (1964), "Robust estimation of a location parameter".

    Example:
        >>> huber(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 3.0]), delta=1.0)
        tensor([0.5000, 2.5000])
    """
    if not 0.0 < delta < math.inf:
        raise ValueError(f"delta must be positive and finite, got {delta}")
    size = (target - outputs).abs()
    inner = size.clamp(max=delta)
    return inner * (size - 0.5 * inner)


def pinball(outputs: Tensor, target: Tensor, level: float | Tensor) -> Tensor:
    """Max(τ r, (τ − 1) r), r = target − outputs: least in the mean where the output is the τ-quantile.

    Args:
        outputs: ``[...]``.
        target: ``[...]``.
        level: τ in (0, 1), a number or ``[...]``.

    Returns:
        ``[...]``.

    Source:
        Koenker and Bassett (1978), "Regression quantiles".

    Example:
        >>> pinball(torch.tensor([0.0, 0.0]), torch.tensor([1.0, -1.0]), 0.9)
        tensor([0.9000, 0.1000])
    """
    difference = target - outputs
    return torch.maximum(level * difference, (level - 1.0) * difference)


@dataclass(frozen=True)
class Point:
    """D numbers, and nothing about their spread: a regression under any cost of one number, or a critic.

    Attributes:
        of_one: (outputs ``[...]``, target ``[...]``) → ``[...]``, such as `absolute`.
        dimensions: D.

    Raises:
        ValueError: D below 1.

    Example:
        >>> Point(absolute).cost(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
        tensor([2.])
    """

    of_one: Callable[[Tensor, Tensor], Tensor] = squared
    dimensions: int = 1

    def __post_init__(self) -> None:
        _check_dimensions(self.dimensions)

    @property
    def n_outputs(self) -> int:
        """D."""
        return self.dimensions

    @property
    def target_shape(self) -> tuple[int, ...]:
        """``(D,)``."""
        return (self.dimensions,)

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """``[..., D]`` twice → ``[...]``, summed over the D numbers."""
        costs = self.of_one(outputs, target)
        return costs.squeeze(-1) if self.dimensions == 1 else costs.sum(dim=-1)

    def mode(self, outputs: Values) -> Values:
        """The outputs themselves."""
        return outputs

    @property
    def widest(self) -> None:
        """Nothing is said about spread."""
        return None

    def quantiles(self, outputs: Tensor, levels: NDArray[np.float64]) -> Tensor:
        """There are none.

        Raises:
            ValueError: always.
        """
        raise ValueError('cost: this one says nothing about spread; train with cost="quantile" or cost="gaussian"')

    def interval(self, outputs: Tensor, coverage: float) -> Tensor:
        """The prediction twice: ``[..., 1]`` → ``[..., 2]``."""
        return outputs.expand(*outputs.shape[:-1], 2)


@dataclass(frozen=True)
class Quantiles:
    """Quantiles that cannot cross: the median is an output, each other one a positive step from its neighbour.

    The cost is the sum of `pinball` over the levels, the median among them whether or not it was asked for.

    Attributes:
        levels: τ_1 < … < τ_L in (0, 1), 0.5 among them (`quantile_levels` sees to both).

    Example:
        >>> head = Quantiles((0.25, 0.5, 0.75))
        >>> head.quantiles(torch.tensor([[0.0, 3.0, 0.0]]), np.array([0.25, 0.5, 0.625, 0.75]))
        tensor([[2.3069, 3.0000, 3.3466, 3.6931]])
    """

    levels: tuple[float, ...]

    @property
    def n_outputs(self) -> int:
        """One a level."""
        return len(self.levels)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """``(1,)``."""
        return (1,)

    @property
    def _middle(self) -> int:
        return self.levels.index(0.5)

    def values(self, outputs: Tensor) -> Tensor:
        """Quantiles at the levels: ``[..., L]`` → ``[..., L]``, rising."""
        steps, m = F.softplus(outputs), self._middle
        median = outputs[..., m : m + 1]
        below = median - steps[..., :m].flip(-1).cumsum(dim=-1).flip(-1)
        return torch.cat((below, median, median + steps[..., m + 1 :].cumsum(dim=-1)), dim=-1)

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """``[..., L]`` and ``[..., 1]`` → ``[...]``."""
        levels = torch.as_tensor(self.levels, dtype=outputs.dtype, device=outputs.device)
        return pinball(self.values(outputs), target, levels).sum(dim=-1)

    def mode(self, outputs: Values) -> Values:
        """The median: ``[..., L]`` → ``[..., 1]``."""
        return outputs[..., self._middle : self._middle + 1]

    @property
    def widest(self) -> float:
        """Between the outermost levels that lie as far from the middle; 0 where they do not enclose it."""
        return max(0.0, 1.0 - 2.0 * max(self.levels[0], 1.0 - self.levels[-1]))

    def quantiles(self, outputs: Tensor, levels: NDArray[np.float64]) -> Tensor:
        """Interpolated in the level between those that were trained: ``[..., L]`` and ``[M]`` → ``[..., M]``.

        Raises:
            ValueError: a level outside those that were trained.
        """
        low, high = self.levels[0], self.levels[-1]
        outside = levels[(levels < low - 1e-12) | (levels > high + 1e-12)]
        if len(outside):
            raise ValueError(f"quantiles: {outside.tolist()} lie outside the trained levels {low} to {high}")
        known, last = self.values(outputs), len(self.levels) - 1
        position = np.interp(levels, self.levels, np.arange(last + 1))
        left = np.minimum(position.astype(np.int64), max(last - 1, 0))
        part = _constants(position - left, known)
        return known[..., left.tolist()] * (1.0 - part) + known[..., np.minimum(left + 1, last).tolist()] * part

    def interval(self, outputs: Tensor, coverage: float) -> Tensor:
        """Quantiles as far from the median in level on either side: ``[..., L]`` → ``[..., 2]``."""
        return self.quantiles(outputs, _either_side(coverage))


def quantile_levels(quantiles: Any) -> tuple[float, ...]:
    """Sorted levels, each once, 0.5 among them.

    Raises:
        ValueError: none, or one outside (0, 1).

    Example:
        >>> quantile_levels([0.9, 0.1])
        (0.1, 0.5, 0.9)
    """
    levels = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"quantiles must be numbers in (0, 1), at least one, got {quantiles!r}")
    return tuple(sorted({*levels.tolist(), 0.5}))


def _either_side(coverage: float) -> NDArray[np.float64]:
    """The levels that so much of the middle lies between; rounded, so that 0.9 gives 0.05."""
    return np.round([0.5 - 0.5 * coverage, 0.5 + 0.5 * coverage], 12)


def _constants(values: NDArray[np.float64], like: Tensor) -> Tensor:
    """Numbers of a tensor's type, where it lives."""
    return torch.from_numpy(np.asarray(values, dtype=np.float64)).to(like)


def _check_dimensions(dimensions: int) -> None:
    if dimensions < 1:
        raise ValueError(f"dimensions must be at least 1, got {dimensions}")
