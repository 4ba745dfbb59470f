"""Arrays in memory: minibatches, held-out rows, and the standardisation of inputs that both halves share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Large arrays are handled in chunks of this many rows, so that temporary float64 copies stay small.
_CHUNK = 65_536


def minibatches(
    rows: int, batch_size: int | None, generator: torch.Generator, probabilities: Tensor | None = None
) -> Iterator[Tensor]:
    """Row indices of one pass in random order, each row once; the last batch may be smaller.

    Args:
        rows: the number of rows.
        batch_size: rows per batch; None means one batch with all rows.
        generator: the source of the order, on the CPU.
        probabilities: if given, ``rows`` indices are drawn with replacement with these probabilities, ``[rows]``.

    Returns:
        An iterator of int64 ``[B]``.

    Raises:
        ValueError: if there are no rows, or the batch size is below 1.

    Example:
        >>> [len(index) for index in minibatches(5, 2, torch.Generator().manual_seed(0))]
        [2, 2, 1]
    """
    size = rows if batch_size is None else int(batch_size)
    for name, value in (("rows", rows), ("batch_size", size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if probabilities is None:
        order = torch.randperm(rows, generator=generator)
    else:
        # torch.multinomial accepts at most 2^24 categories.
        cumulative = probabilities.double().cumsum(dim=0)
        uniforms = torch.rand(rows, generator=generator, dtype=torch.float64)
        order = torch.searchsorted(cumulative, uniforms * cumulative[-1], right=True).clamp(max=rows - 1)
    return iter(order.split(size))


def batches_of(
    fields: Iterable[Tensor | None],
    rows: int,
    batch_size: int,
    generator: torch.Generator,
    probabilities: Tensor | None = None,
) -> Iterator[tuple[Tensor | None, ...]]:
    """The rows of several tensors in `minibatches`.

    Many rows are put in order at once and the batches are views of them, which saves a copy at every step.

    Args:
        fields: tensors ``[rows, ...]``; None stays None.
        rows: the number of rows.
        batch_size: rows per batch. The last batch may be smaller; a single last row joins the batch before it.
        generator: as for `minibatches`.
        probabilities: as for `minibatches`.

    Returns:
        An iterator of tuples as long as ``fields``.

    Example:
        >>> fields = torch.arange(5.0), None
        >>> [len(first) for first, _ in batches_of(fields, 5, 3, torch.Generator().manual_seed(0))]
        [3, 2]
    """
    fields = list(fields)
    for index in minibatches(rows, max(1, _CHUNK // batch_size) * batch_size, generator, probabilities):
        sizes = [len(part) for part in index.split(batch_size)]
        if len(sizes) > 1 and sizes[-1] == 1:
            sizes[-2:] = [batch_size + 1]  # batch normalisation needs at least two rows
        block = [None if field is None else field[index.to(field.device)].split(sizes) for field in fields]
        yield from zip(*(parts or itertools.repeat(None) for parts in block), strict=False)


def held_out(groups: NDArray[Any], share: float, seed: int | None) -> NDArray[np.bool_]:
    """Choose rows to hold out: about this share of every group, but never all rows of one.

    Args:
        groups: the class of every row, ``[N]``; all the same if there are no classes.
        share: in [0, 1).
        seed: fixes the choice; None chooses anew at each call.

    Returns:
        True for the rows held out, ``[N]``.

    Example:
        >>> int(held_out(np.array([0, 0, 0, 0, 1]), 0.5, seed=0).sum())
        2
    """
    random = np.random.default_rng(seed)
    held = np.zeros(len(groups), np.bool_)
    order = random.permutation(len(groups))
    _, index, sizes = np.unique(groups[order], return_inverse=True, return_counts=True)
    for members in np.split(order[np.argsort(index, kind="stable")], np.cumsum(sizes)[:-1]):
        # Random rounding, so that many small classes together lose the right share.
        count = int(share * len(members) + random.random())
        held[members[: min(count, len(members) - 1)]] = True
    return held


class Moments(NamedTuple):
    """Mean, population variance and number (or total weight) of some rows."""

    mean: Any
    variance: Any
    rows: float


def merged(one: Moments, other: Moments) -> Moments:
    """The moments of two sets of rows together.

    Source:
        Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances".

    Example:
        >>> merged(Moments(1.0, 0.0, 1), Moments(4.0, 1.0, 2))
        Moments(mean=3.0, variance=2.6666666666666665, rows=3)
    """
    total = one.rows + other.rows
    shift = other.mean - one.mean
    mean = one.mean + shift * other.rows / total if one.rows else other.mean
    squares = one.variance * one.rows + other.variance * other.rows + shift**2 * one.rows * other.rows / total
    return Moments(mean, squares / total, total)


class Standardizer:
    """Shift and scale rows by running statistics: (x − mean) · scale. It is saved with the network behind it.

    `update` merges a batch exactly, so one call with all rows and many calls with parts agree. A call only reads
    the statistics. Before the first update, rows pass unchanged.

    A column is treated as constant, and its scale is 0, if its standard deviation is at most 1e-9 times its absolute
    mean: such differences are mostly rounding noise, and a network that was trained on them would answer at random once
    the column changed. Unix times that differ by a few seconds are still told apart.

    Args:
        width: D, the width of a row.
        clip: bound on the standardised values, in standard deviations; None for no bound.
        columns: true for the columns that `update` measures, ``[D]``; the others pass unchanged. By default all.

    Attributes:
        mean: ``[D]`` float64.
        variance: the population variance, ``[D]`` float64.
        scale: 1 / standard deviation, 0 for a constant column, ``[D]`` float64.
        count: the number of rows seen, or the sum of their weights.

    Example:
        >>> standardizer = Standardizer(2)
        >>> standardizer.update(np.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> standardizer(np.array([[3.0, 1000.0]]))
        array([[1., 0.]], dtype=float32)
    """

    def __init__(self, width: int, clip: float | None = None, columns: NDArray[np.bool_] | None = None) -> None:
        self.width, self.clip, self._columns = width, clip, columns
        self.restore(np.zeros(width), np.ones(width), 0)

    def update(self, rows: NDArray[Any], weights: NDArray[Any] | None = None) -> None:
        """Merge ``rows`` into the statistics; an empty batch changes nothing.

        Args:
            rows: ``[B, D]``.
            weights: positive sample weights, ``[B]``; a weight of 2 counts as two rows.
        """
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK].astype(np.float64)
            if weights is None:
                new = Moments(part.mean(axis=0), part.var(axis=0), float(len(part)))
            else:
                weight = weights[start : start + _CHUNK]
                count = float(weight.sum())
                mean = weight @ part / count
                new = Moments(mean, weight @ (part - mean) ** 2 / count, count)
            self.merge(new)

    def merge(self, other: Moments) -> None:
        """Merge the moments of other rows, ``[D]`` each, into the statistics."""
        both = merged(self.moments, other)
        if self._columns is not None:
            mean = np.where(self._columns, both.mean, self.mean)
            both = Moments(mean, np.where(self._columns, both.variance, self.variance), both.rows)
        self.restore(*both)

    @property
    def moments(self) -> Moments:
        """Mean, variance and count."""
        return Moments(self.mean, self.variance, self.count)

    def restore(self, mean: NDArray[np.float64], variance: NDArray[np.float64], count: float) -> None:
        """Replace the statistics: ``[D]``, ``[D]`` and the number of rows."""
        self.mean, self.variance, self.count = mean, variance, count
        constant = variance <= (1e-9 * mean) ** 2
        self.scale = np.where(constant, 0.0, 1.0 / np.sqrt(np.where(constant, 1.0, variance)))

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the statistics as tensors."""
        mean, variance = torch.tensor(self.mean), torch.tensor(self.variance)
        return {"mean": mean, "variance": variance, "count": torch.tensor(self.count, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            KeyError: if a part is missing.
            ValueError: if the statistics are of rows of another width.
        """
        for part in ("mean", "variance"):
            if state[part].shape != (self.width,):
                raise ValueError(f"statistics must be of rows of width {self.width}, got {list(state[part].shape)}")
        self.restore(state["mean"].numpy().copy(), state["variance"].numpy().copy(), state["count"].item())

    def __call__(self, rows: NDArray[Any], dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """Standardised rows: ``[B, D]`` → ``[B, D]`` of this type."""
        if len(rows) <= _CHUNK:
            result = ((rows - self.mean) * self.scale).astype(dtype)
        else:
            result = np.empty(rows.shape, dtype)
            for start in range(0, len(rows), _CHUNK):
                result[start : start + _CHUNK] = (rows[start : start + _CHUNK] - self.mean) * self.scale
        return result if self.clip is None else np.clip(result, -self.clip, self.clip, out=result)


class ReturnScale:
    """Scale of rewards: 1 / running standard deviation of the discounted return so far, g_t = γ g_{t−1} + r_t.

    The sum starts at zero in every episode, also after a truncation. Rows that are not valid are left out.

    Args:
        discount: γ in [0, 1].

    Source:
        Engstrom et al. (2020), arXiv 2005.12729, appendix; starting anew in every episode is our change.

    Example:
        >>> scale = ReturnScale(discount=1.0)
        >>> on, off = np.ones((2, 1), bool), np.zeros((2, 1), bool)
        >>> scale.update(np.array([[1.0], [2.0]]), done=off, valid=on)  # g = 1, 3
        >>> scale.factor
        1.0
    """

    def __init__(self, discount: float = 0.99) -> None:
        self.discount = discount
        self.statistics = Standardizer(1)
        self._so_far: NDArray[np.float64] | None = None

    def update(
        self,
        reward: NDArray[Any],
        done: NDArray[np.bool_],
        valid: NDArray[np.bool_],
        goes_on: NDArray[np.bool_] | bool = True,
    ) -> None:
        """Merge a rollout's rewards, all ``[T, N]``; ``goes_on`` ``[N]``: the column continues the last one."""
        so_far = np.zeros(reward.shape[1]) if self._so_far is None else np.where(goes_on, self._so_far, 0.0)
        sums = np.empty(reward.shape)
        for t in range(len(reward)):
            sums[t] = so_far = np.where(valid[t], self.discount * so_far + reward[t], so_far)
            so_far = np.where(done[t], 0.0, so_far)
        self._so_far = so_far
        self.statistics.update(sums[valid][:, None])

    @property
    def factor(self) -> float:
        """The factor on rewards; 1 before the first update and if returns never vary."""
        deviation = float(np.sqrt(self.statistics.variance[0]))
        return 1.0 / deviation if deviation > 1e-8 else 1.0
