"""Heads: the meaning of a network's outputs. Class heads, action heads and regression costs are one kind of thing.

Every head has ``cost`` (−log p of a target, up to a constant) and ``mode`` (the answer to give). A policy's head is a
`Distribution`, with ``entropy``, ``kl`` and ``sample``; a regressor's is a `RegressionHead`, with quantiles. Costs work
on torch tensors, sampling on NumPy arrays (environments are NumPy programs), and ``mode`` on both.

=================  ===================  =================================================  ===========================
head               action space         supervised task                                    outputs
=================  ===================  =================================================  ===========================
`Categorical`      Discrete             one of K classes                                   K logits
`MultiCategorical` MultiDiscrete        –                                                  the logits of all components
`Bernoulli`        MultiBinary          any subset of the labels, one-vs-all               L logits
`Gaussian`         Box                  regression, cost "gaussian"; learns the mean and   D means, then D logarithms
                                        the deviation                                      of deviations if learnt
`Point`            –                    regression, cost "squared" (the mean), "absolute"  D numbers
                                        (the median), "huber" (in between); a critic
`Quantiles`        –                    regression, cost "quantile"                        one a level
`Each`             –                    regression on several targets                      those of one target, for each
=================  ===================  =================================================  ===========================

Every head has these attributes: ``n_outputs`` is the number of outputs of a row, ``target_shape`` is A, the shape of
one target (``()`` for a single number), and a `Distribution` has ``target_dtype``, the NumPy type of a stored target.

`rlce.reinforcement.spaces` has what belongs to an environment (the number of its first action, bounds, clipping).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rlce.objective import cross_entropy

# An array or a tensor; the result is of the same kind.
Values = TypeVar("Values", NDArray[Any], Tensor)


def entropy_terms(logits: Tensor) -> Tensor:
    """−p_k log p_k of every class, whose sum is the entropy in nats.

    Args:
        logits: ``[..., K]``; a masked class (−inf) contributes zero, value and gradient.

    Returns:
        ``[..., K]``.

    Example:
        >>> entropy_terms(torch.tensor([0.0, 0.0, -torch.inf]))
        tensor([0.3466, 0.3466, 0.0000])
    """
    log_p = logits.log_softmax(dim=-1)
    return log_p.exp() * (-log_p).masked_fill(log_p == -math.inf, 0.0)


def kl_terms(logits: Tensor, reference: Tensor) -> Tensor:
    """p_k log(p_k / reference_k) of every class, whose sum is KL(p‖reference) in nats.

    Args:
        logits: ``[..., K]``; a masked class (−inf) contributes zero, value and gradient.
        reference: logits ``[..., K]``; a class that is masked here alone makes the sum infinite.

    Returns:
        ``[..., K]``.

    Example:
        >>> kl_terms(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor([-0.2027,  0.3466])
    """
    log_p = logits.log_softmax(dim=-1)
    log_ratio = log_p - reference.log_softmax(dim=-1)
    return log_p.exp() * log_ratio.masked_fill(log_p == -math.inf, 0.0)


class _Choices:
    """What the heads of classes share. A target is one choice, or several independent ones, whose terms are summed."""

    target_dtype: ClassVar[type[np.generic]] = np.int64

    @property
    def target_shape(self) -> tuple[int, ...]:
        """A: ``()`` for one choice."""
        return ()

    def logits(self, outputs: Tensor) -> Tensor:
        """The logits of each choice, −inf beyond its own classes: ``[..., n_outputs]`` → ``[..., *A, K]``."""
        raise NotImplementedError

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p(target) in nats: ``[..., n_outputs]`` → ``[...]``.

        ``target`` holds class indices, int64 ``[..., *A]``, or class weights, floating point ``[..., *A, K]``.
        """
        return self._total(cross_entropy(self.logits(outputs), target))

    def entropy(self, outputs: Tensor) -> Tensor:
        """H(p) in nats: ``[..., n_outputs]`` → ``[...]``. A masked class contributes zero, value and gradient."""
        return self._total(entropy_terms(self.logits(outputs)).sum(dim=-1))

    def kl(self, outputs: Tensor, reference: Tensor) -> Tensor:
        """KL(p‖reference) in nats: ``[..., n_outputs]`` twice → ``[...]``; masked classes as in `kl_terms`."""
        return self._total(kl_terms(self.logits(outputs), self.logits(reference)).sum(dim=-1))

    def _total(self, of_choices: Tensor) -> Tensor:
        return of_choices.sum(dim=-1) if self.target_shape else of_choices


@dataclass(frozen=True)
class Categorical(_Choices):
    """One of K classes (or actions); the outputs are logits.

    Attributes:
        classes: K.

    Raises:
        ValueError: K is below 1.

    Example:
        >>> head = Categorical(3)
        >>> head.cost(torch.zeros(1, 3), torch.tensor([2]))
        tensor([1.0986])
        >>> head.mode(np.array([[0.1, 0.7, 0.2]]))
        array([1])
    """

    classes: int

    def __post_init__(self) -> None:
        _at_least_one(classes=self.classes)

    @property
    def n_outputs(self) -> int:
        """K."""
        return self.classes

    def logits(self, outputs: Tensor) -> Tensor:
        """The outputs themselves, ``[..., K]``."""
        return outputs

    def outputs_of(self, logits: Tensor) -> Tensor:
        """The outputs that have these `logits`: the same tensor."""
        return logits

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Draw classes by inverting the cumulative distribution: ``[..., K]`` and ``[...]`` → ``[...]``.

        The uniforms lie in [0, 1); the same uniforms give the same classes. A class of probability zero is never drawn:
        u < 1 keeps u·total below total in float64, in spite of rounding.
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
class MultiCategorical(_Choices):
    """D independent choices, one of K_d classes each; the outputs are the logits of all, one after the other.

    Attributes:
        classes: K_1 … K_D.

    Raises:
        ValueError: there is no component, or one has no class.

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

    def logits(self, outputs: Tensor) -> Tensor:
        """The logits of each component, −inf beyond its own classes: ``[..., ΣK]`` → ``[..., D, max K]``."""
        most = max(self.classes)
        padded = [F.pad(part, (0, most - part.shape[-1]), value=-math.inf) for part in self._parts(outputs)]
        return torch.stack(padded, dim=-2)

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Every component as in `Categorical.sample`: ``[..., ΣK]`` and ``[..., D]`` → class indices ``[..., D]``."""
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
class Bernoulli(_Choices):
    """Any subset of L labels, each 0 or 1 independently; an output is the logit of 1.

    Attributes:
        labels: L.

    Raises:
        ValueError: L is below 1.

    Example:
        >>> head = Bernoulli(2)
        >>> head.cost(torch.zeros(1, 2), torch.tensor([[1, 0]]))  # 2 log 2
        tensor([1.3863])
        >>> head.mode(np.array([[-0.5, 3.0]]))
        array([[0, 1]])
    """

    labels: int

    def __post_init__(self) -> None:
        _at_least_one(labels=self.labels)

    @property
    def n_outputs(self) -> int:
        """L."""
        return self.labels

    @property
    def target_shape(self) -> tuple[int, ...]:
        """``(L,)``."""
        return (self.labels,)

    def logits(self, outputs: Tensor) -> Tensor:
        """The logits (0, z) of the answers 0 and 1, since softmax(0, z) is σ(z): ``[..., L]`` → ``[..., L, 2]``."""
        return torch.stack((torch.zeros_like(outputs), outputs), dim=-1)

    def outputs_of(self, logits: Tensor) -> Tensor:
        """The outputs that have these `logits`, up to a constant of each label: ``[..., L, 2]`` → ``[..., L]``."""
        return logits[..., 1] - logits[..., 0]

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """1 where the uniform lies below the probability of 1: ``[..., L]`` twice → ``[..., L]``."""
        # tanh never overflows, but exp(−z) would: σ(z) = ½(1 + tanh(z/2)).
        return (uniforms < 0.5 * (1.0 + np.tanh(0.5 * outputs.astype(np.float64)))).astype(np.int64)

    def mode(self, outputs: Values) -> Values:
        """1 where it is more probable than 0: ``[..., L]`` → ``[..., L]``."""
        return (outputs > 0) * 1  # int64, of arrays and of tensors

    def probabilities(self, outputs: Tensor) -> Tensor:
        """σ(z), the probability of 1: ``[..., L]`` → ``[..., L]``."""
        return outputs.sigmoid()

    def shares(self, outputs: Tensor) -> Tensor:
        """σ(z_k) / Σ_j σ(z_j), where exactly one label applies: ``[..., L]`` → ``[..., L]``; rows sum to 1."""
        # In logarithms, because the sigmoids themselves are all zero where every label is very unlikely.
        return F.logsigmoid(outputs).softmax(dim=-1)


@dataclass(frozen=True)
class Gaussian:
    """D independent real numbers with their deviations. Samples are stored and scored unclipped.

    (A clipped sample has another density; scoring it by this one would bias a policy's gradient.)

    Attributes:
        scale: the standard deviation in the target's unit; the outputs are the D means. None to learn it; the outputs
            are then the D means and the D logarithms of the deviations.
        dimensions: D.

    Raises:
        ValueError: the scale is not positive and finite, or D is below 1.

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
    target_dtype: ClassVar[type[np.generic]] = np.float32  # samples are float32, whatever the environment's type
    widest: ClassVar[float] = 1.0  # an interval may have any coverage below 1

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale}")
        _at_least_one(dimensions=self.dimensions)

    @property
    def learns_scale(self) -> bool:
        """True if the outputs hold the logarithms of the deviations too."""
        return self.scale is None

    @property
    def n_outputs(self) -> int:
        """D, or 2D if the scale is learnt."""
        return 2 * self.dimensions if self.learns_scale else self.dimensions

    @property
    def target_shape(self) -> tuple[int, ...]:
        """``(D,)``."""
        return (self.dimensions,)

    def logits(self, outputs: Tensor) -> None:
        """None: a density has no classes."""

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
        """KL(p‖reference) in nats, in closed form: ``[..., n_outputs]`` twice → ``[...]``."""
        mean, log_scale = self._parameters(outputs)
        reference_mean, reference_log_scale = self._parameters(reference)
        log_ratio = log_scale - reference_log_scale
        distance = squared(mean, reference_mean) * (-2.0 * reference_log_scale).exp()
        return (distance + 0.5 * torch.expm1(2.0 * log_ratio) - log_ratio).sum(dim=-1)

    def sample(self, outputs: NDArray[Any], uniforms: NDArray[np.float64]) -> NDArray[np.float32]:
        """Mean + scale × Φ⁻¹(uniform): ``[..., n_outputs]`` and ``[..., D]`` → ``[..., D]`` float32, not clipped."""
        from scipy.special import ndtri

        # Φ⁻¹(0) is −inf. A generator's uniforms are multiples of 2⁻⁵³, so use half of the smallest one instead.
        normals = ndtri(np.maximum(uniforms, 2.0**-54))
        scale = np.exp(outputs[..., self.dimensions :]) if self.scale is None else self.scale
        return (outputs[..., : self.dimensions] + scale * normals).astype(np.float32)

    def mode(self, outputs: Values) -> Values:
        """The mean: ``[..., n_outputs]`` → ``[..., D]``."""
        return outputs[..., : self.dimensions]

    def quantiles(self, outputs: Tensor, levels: NDArray[np.float64]) -> Tensor:
        """Mean + deviation × Φ⁻¹(level), for D = 1: ``[..., n_outputs]`` and ``[L]`` → ``[..., L]``."""
        from scipy.special import ndtri

        mean, log_scale = self._parameters(outputs)
        return mean + log_scale.exp() * mean.new_tensor(ndtri(levels))

    def interval(self, outputs: Tensor, coverage: float) -> Tensor:
        """The central interval of this coverage: ``[..., n_outputs]`` → lower and upper bound ``[..., 2]``."""
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
        delta: δ, positive and finite.

    Returns:
        ``[...]``.

    Source:
        Huber (1964), "Robust estimation of a location parameter".

    Example:
        >>> huber(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 3.0]), delta=1.0)
        tensor([0.5000, 2.5000])
    """
    if not 0.0 < delta < math.inf:
        raise ValueError(f"delta must be positive and finite, got {delta}")
    return F.huber_loss(outputs, target, reduction="none", delta=delta)


def pinball(outputs: Tensor, target: Tensor, level: float | Tensor) -> Tensor:
    """Max(τ r, (τ − 1) r), r = target − outputs: its mean is smallest where the output is the τ-quantile.

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
    """D numbers without a spread: a regression under any cost of one number, or a critic.

    Attributes:
        of_one: (outputs ``[...]``, target ``[...]``) → ``[...]``, such as `absolute`.
        dimensions: D.

    Raises:
        ValueError: D is below 1.

    Example:
        >>> Point(absolute).cost(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
        tensor([2.])
    """

    of_one: Callable[[Tensor, Tensor], Tensor] = squared
    dimensions: int = 1
    widest: ClassVar[None] = None  # no spread, so no interval

    def __post_init__(self) -> None:
        _at_least_one(dimensions=self.dimensions)

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

    def quantiles(self, outputs: Tensor, levels: NDArray[np.float64]) -> Tensor:
        """Refused: this head has no quantiles."""
        raise ValueError('cost: this one has no quantiles; train with cost="quantile" or cost="gaussian"')

    def interval(self, outputs: Tensor, coverage: float) -> Tensor:
        """The prediction twice: ``[..., 1]`` → ``[..., 2]``."""
        return outputs.expand(*outputs.shape[:-1], 2)


@dataclass(frozen=True)
class Quantiles:
    """Quantiles that cannot cross: the median is an output; each other one is a positive step from its neighbour.

    The cost is the sum of `pinball` over the levels, the median always included.

    Attributes:
        levels: τ_1 < … < τ_L in (0, 1), 0.5 among them, as `quantile_levels` returns them.

    Example:
        >>> head = Quantiles((0.25, 0.5, 0.75))
        >>> head.quantiles(torch.tensor([[0.0, 3.0, 0.0]]), np.array([0.25, 0.5, 0.625, 0.75]))
        tensor([[2.3069, 3.0000, 3.3466, 3.6931]])
    """

    levels: tuple[float, ...]
    target_shape: ClassVar[tuple[int, ...]] = (1,)

    @property
    def n_outputs(self) -> int:
        """One a level."""
        return len(self.levels)

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
        return pinball(self.values(outputs), target, outputs.new_tensor(self.levels)).sum(dim=-1)

    def mode(self, outputs: Values) -> Values:
        """The median: ``[..., L]`` → ``[..., 1]``."""
        return outputs[..., self._middle : self._middle + 1]

    @property
    def widest(self) -> float:
        """The largest coverage of an interval: that of the outermost levels equally far from 0.5, or 0 without such."""
        return max(0.0, 1.0 - 2.0 * max(self.levels[0], 1.0 - self.levels[-1]))

    def quantiles(self, outputs: Tensor, levels: NDArray[np.float64]) -> Tensor:
        """Interpolated in the level between trained levels: ``[..., L]`` and ``[M]`` → ``[..., M]``.

        Raises:
            ValueError: a level lies outside the trained ones.
        """
        low, high = self.levels[0], self.levels[-1]
        outside = levels[(levels < low - 1e-12) | (levels > high + 1e-12)]
        if len(outside):
            raise ValueError(f"quantiles: {outside.tolist()} lie outside the trained levels {low} to {high}")
        known = self.values(outputs)
        position = np.interp(levels, self.levels, np.arange(len(self.levels)))
        left, right = np.floor(position).astype(int).tolist(), np.ceil(position).astype(int).tolist()
        part = known.new_tensor(position % 1.0)
        return known[..., left] * (1.0 - part) + known[..., right] * part

    def interval(self, outputs: Tensor, coverage: float) -> Tensor:
        """The quantiles at ½ ± ½ coverage: ``[..., L]`` → lower and upper bound ``[..., 2]``."""
        return self.quantiles(outputs, _either_side(coverage))


@dataclass(frozen=True)
class Each:
    """M targets under the same head of one target; the cost is the mean over them.

    The outputs of one target stand together. A mean, unlike a sum, keeps the size of a gradient step whatever M is.

    Attributes:
        head: of one target.
        targets: M.

    Raises:
        ValueError: M is below 1.

    Example:
        >>> head = Each(Point(absolute), 2)
        >>> head.cost(torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 5.0]]))
        tensor([1.])
        >>> Each(Gaussian(scale=None), 2).mode(np.array([[1.0, 0.0, 2.0, 0.0]]))
        array([[1., 2.]])
    """

    head: Gaussian | Point | Quantiles
    targets: int

    def __post_init__(self) -> None:
        _at_least_one(targets=self.targets)

    @property
    def n_outputs(self) -> int:
        """M times those of one target."""
        return self.targets * self.head.n_outputs

    @property
    def target_shape(self) -> tuple[int, ...]:
        """``(M,)``."""
        return (self.targets,)

    @property
    def widest(self) -> float | None:
        """The largest coverage of an interval, as for one target."""
        return self.head.widest

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """``[..., n_outputs]`` and ``[..., M]`` → ``[...]``."""
        return self.head.cost(self._parts(outputs), target.unsqueeze(-1)).mean(dim=-1)

    def mode(self, outputs: Values) -> Values:
        """``[..., n_outputs]`` → ``[..., M]``."""
        return self.head.mode(self._parts(outputs))[..., 0]

    def quantiles(self, outputs: Tensor, levels: NDArray[np.float64]) -> Tensor:
        """``[..., n_outputs]`` and ``[L]`` → ``[..., M, L]``."""
        return self.head.quantiles(self._parts(outputs), levels)

    def interval(self, outputs: Tensor, coverage: float) -> Tensor:
        """Lower and upper bound of each target: ``[..., n_outputs]`` → ``[..., M, 2]``."""
        return self.head.interval(self._parts(outputs), coverage)

    def _parts(self, outputs: Values) -> Values:
        """The outputs of each target, ``[..., M, n]``."""
        return outputs.reshape(*outputs.shape[:-1], self.targets, self.head.n_outputs)


ClassHead = Categorical | MultiCategorical | Bernoulli
Distribution = ClassHead | Gaussian
RegressionHead = Gaussian | Point | Quantiles | Each


def cost_named(word: str) -> str:
    """The library's name of a cost: "squared" for scikit-learn's "squared_error", "absolute" for "absolute_error".

    Example:
        >>> cost_named("squared_error"), cost_named("huber")
        ('squared', 'huber')
    """
    return {"squared_error": "squared", "absolute_error": "absolute"}.get(word, word)


def quantile_levels(quantiles: Any) -> tuple[float, ...]:
    """Sorted levels, each once, 0.5 among them.

    Raises:
        ValueError: there is no level, or one outside (0, 1).

    Example:
        >>> quantile_levels([0.9, 0.1])
        (0.1, 0.5, 0.9)
    """
    levels = np.atleast_1d(np.asarray(quantiles, dtype=np.float64))
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"quantiles must be numbers in (0, 1), at least one, got {quantiles!r}")
    return tuple(sorted({*levels.tolist(), 0.5}))


def _either_side(coverage: float) -> NDArray[np.float64]:
    """The levels ½ ± ½ coverage; rounded, so that coverage 0.9 gives 0.05."""
    return np.round([0.5 - 0.5 * coverage, 0.5 + 0.5 * coverage], 12)


def _at_least_one(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
