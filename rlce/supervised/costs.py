"""Regression costs, and the heads that go with them: what outputs say about one real number.

==============  =====================================  =========================  =====================================
cost            −log p, up to a constant, of           its optimum is             head
==============  =====================================  =========================  =====================================
``squared``     a Gaussian of unit scale               the mean                   `Point`
``absolute``    a Laplace of unit scale                the median                 `Point`
``huber``       a Gaussian with Laplace tails          between the two            `Point`
``quantile``    an asymmetric Laplace, one a level     the quantiles              `Quantiles`
``gaussian``    a Gaussian whose scale is learnt, too  mean and deviation         `Normal`
==============  =====================================  =========================  =====================================
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rlce.heads import Gaussian, squared


def absolute(outputs: Tensor, target: Tensor) -> Tensor:
    """|target − outputs|; same shapes in and out.

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


class RegressionHead(Protocol):
    """What `rlce.Regressor` asks of a head; targets are one number a row, in the network's unit."""

    @property
    def n_outputs(self) -> int:
        """How many outputs a row has."""

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """``[..., n_outputs]`` and ``[...]`` → ``[...]``."""

    def centre(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The prediction: ``[N, n_outputs]`` → ``[N]``."""

    def quantiles(self, outputs: NDArray[Any], levels: NDArray[np.float64]) -> NDArray[Any]:
        """Quantiles at any levels: ``[N, n_outputs]`` and ``[L]`` → ``[N, L]``."""

    @property
    def widest(self) -> float | None:
        """The largest coverage of an interval; None where the head says nothing about spread."""

    def interval(self, outputs: NDArray[Any], coverage: float) -> NDArray[Any]:
        """Lower and upper bound of so much of the middle: ``[N, n_outputs]`` → ``[N, 2]``."""


@dataclass(frozen=True)
class Point:
    """One number and nothing about its spread.

    Attributes:
        row_cost: (outputs ``[...]``, target ``[...]``) → ``[...]``, such as `absolute`.

    Example:
        >>> Point(absolute).cost(torch.tensor([[1.0]]), torch.tensor([3.0]))
        tensor([2.])
    """

    row_cost: Callable[[Tensor, Tensor], Tensor] = squared
    n_outputs: int = 1

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """``[..., 1]`` and ``[...]`` → ``[...]``."""
        return self.row_cost(outputs.squeeze(-1), target)

    def centre(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """``[N, 1]`` → ``[N]``."""
        return outputs[:, 0]

    def quantiles(self, outputs: NDArray[Any], levels: NDArray[np.float64]) -> NDArray[Any]:
        """There are none.

        Raises:
            ValueError: always.
        """
        raise ValueError('cost: this one says nothing about spread; train with cost="quantile" or cost="gaussian"')

    @property
    def widest(self) -> None:
        """Nothing is said about spread."""
        return None

    def interval(self, outputs: NDArray[Any], coverage: float) -> NDArray[Any]:
        """The prediction twice: ``[N, 1]`` → ``[N, 2]``."""
        return np.repeat(outputs, 2, axis=1)


@dataclass(frozen=True)
class Normal:
    """Mean and deviation of a Gaussian, both functions of the input.

    Example:
        >>> Normal().quantiles(np.array([[1.0, 0.0]]), np.array([0.5, 0.975])).round(2)
        array([[1.  , 2.96]])
    """

    n_outputs: int = 2

    def cost(self, outputs: Tensor, target: Tensor) -> Tensor:
        """−log p: ``[..., 2]`` (mean, logarithm of the deviation) and ``[...]`` → ``[...]``."""
        return Gaussian(scale=None).cost(outputs, target.unsqueeze(-1))

    def centre(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The mean: ``[N, 2]`` → ``[N]``."""
        return outputs[:, 0]

    def quantiles(self, outputs: NDArray[Any], levels: NDArray[np.float64]) -> NDArray[Any]:
        """Mean + deviation × Φ⁻¹(level): ``[N, 2]`` and ``[L]`` → ``[N, L]``."""
        from scipy.special import ndtri

        return outputs[:, :1] + np.exp(outputs[:, 1:]) * ndtri(levels)

    @property
    def widest(self) -> float:
        """Any coverage below 1."""
        return 1.0

    def interval(self, outputs: NDArray[Any], coverage: float) -> NDArray[Any]:
        """Quantiles as far from the mean on either side: ``[N, 2]`` → ``[N, 2]``."""
        return self.quantiles(outputs, _either_side(coverage))


@dataclass(frozen=True)
class Quantiles:
    """Quantiles that cannot cross: the median is an output, each other one a positive step from its neighbour.

    The cost is the sum of `pinball` over the levels, the median among them whether or not it was asked for.

    Attributes:
        levels: τ_1 < … < τ_L in (0, 1), 0.5 among them (`quantile_levels` sees to both).

    Example:
        >>> head = Quantiles((0.25, 0.5, 0.75))
        >>> head.quantiles(np.array([[0.0, 3.0, 0.0]]), np.array([0.25, 0.5, 0.625, 0.75])).round(3)
        array([[2.307, 3.   , 3.347, 3.693]])
    """

    levels: tuple[float, ...]

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
        """``[..., L]`` and ``[...]`` → ``[...]``."""
        levels = torch.as_tensor(self.levels, dtype=outputs.dtype, device=outputs.device)
        return pinball(self.values(outputs), target.unsqueeze(-1), levels).sum(dim=-1)

    def centre(self, outputs: NDArray[Any]) -> NDArray[Any]:
        """The median: ``[N, L]`` → ``[N]``."""
        return outputs[:, self._middle]

    def quantiles(self, outputs: NDArray[Any], levels: NDArray[np.float64]) -> NDArray[Any]:
        """Interpolated in the level between those that were trained: ``[N, L]`` and ``[M]`` → ``[N, M]``.

        Raises:
            ValueError: a level outside those that were trained.
        """
        low, high = self.levels[0], self.levels[-1]
        outside = levels[(levels < low - 1e-12) | (levels > high + 1e-12)]
        if len(outside):
            raise ValueError(f"quantiles: {outside.tolist()} lie outside the trained levels {low} to {high}")
        known = self.values(torch.from_numpy(np.ascontiguousarray(outputs))).numpy()
        position = np.interp(levels, self.levels, np.arange(len(self.levels)))
        left = (
            np.minimum(position.astype(np.int64), len(self.levels) - 2)
            if len(self.levels) > 1
            else np.zeros(len(levels), int)
        )
        right = np.minimum(left + 1, len(self.levels) - 1)
        part = position - left
        return known[:, left] * (1.0 - part) + known[:, right] * part

    @property
    def widest(self) -> float:
        """Between the outermost levels that lie as far from the middle; 0 where they do not enclose it."""
        return max(0.0, 1.0 - 2.0 * max(self.levels[0], 1.0 - self.levels[-1]))

    def interval(self, outputs: NDArray[Any], coverage: float) -> NDArray[Any]:
        """Quantiles as far from the median in level on either side: ``[N, L]`` → ``[N, 2]``."""
        return self.quantiles(outputs, _either_side(coverage))


def _either_side(coverage: float) -> NDArray[np.float64]:
    """The levels that so much of the middle lies between; rounded, so that 0.9 gives 0.05."""
    return np.round([0.5 - 0.5 * coverage, 0.5 + 0.5 * coverage], 12)


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
