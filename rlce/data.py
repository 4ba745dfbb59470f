"""Arrays in memory: minibatches by index, and standardisation that both halves share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Rows that are handled at once where float64 copies of all of them would cost too much memory.
_CHUNK = 65_536


def minibatches(
    rows: int, batch_size: int | None, generator: torch.Generator, probabilities: Tensor | None = None
) -> Iterator[Tensor]:
    """Indices of one pass in random order, each row once; the last batch may be smaller.

    Args:
        rows: how many rows there are.
        batch_size: rows a batch; None (or at least ``rows``) for all rows in one batch.
        generator: the source of the order, on the CPU.
        probabilities: draw as many rows with these instead, each anew, ``[rows]``, on the CPU.

    Returns:
        An iterator of int64 ``[B]``.

    Raises:
        ValueError: no rows, or a batch size below 1.

    Example:
        >>> [len(index) for index in minibatches(5, 2, torch.Generator().manual_seed(0))]
        [2, 2, 1]
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if probabilities is None:
        order = torch.randperm(rows, generator=generator)
    else:
        # torch.multinomial takes no more than 2^24 categories.
        cumulative = probabilities.double().cumsum(dim=0)
        uniforms = torch.rand(rows, generator=generator, dtype=torch.float64)
        order = torch.searchsorted(cumulative, uniforms * cumulative[-1], right=True).clamp(max=rows - 1)
    return iter(order.split(rows if batch_size is None else int(batch_size)))


def batches_of(
    fields: Iterable[Tensor | None],
    rows: int,
    batch_size: int,
    generator: torch.Generator,
    probabilities: Tensor | None = None,
) -> Iterator[tuple[Tensor | None, ...]]:
    """The rows of several tensors in `minibatches`.

    Many rows are put in order at once, and batches are views of them: one copy now and then instead of one a step.

    Args:
        fields: ``[rows, ...]`` each, or None, which stays None.
        rows: how many rows there are.
        batch_size: rows a batch, except perhaps the last, which is smaller, or larger by one rather than one row alone.
        generator: as for `minibatches`.
        probabilities: likewise.

    Returns:
        An iterator of tuples as long as ``fields``.

    Example:
        >>> fields = torch.arange(5.0), None
        >>> [len(first) for first, _ in batches_of(fields, 5, 3, torch.Generator().manual_seed(0))]
        [3, 2]
    """
    fields = list(fields)
    for index in minibatches(rows, max(1, _CHUNK // batch_size) * batch_size, generator, probabilities):
        sizes = [batch_size] * (len(index) // batch_size) + [len(index) % batch_size] * (len(index) % batch_size > 0)
        if len(sizes) > 1 and sizes[-1] == 1:
            sizes[-2:] = [batch_size + 1]  # a batch of one row has no statistics, which some networks need
        block = [None if field is None else field[index.to(field.device)].split(sizes) for field in fields]
        yield from zip(*(parts or itertools.repeat(None) for parts in block), strict=False)


def held_out(groups: NDArray[Any], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows to hold out: about this share of every group, and never all of one.

    Args:
        groups: the class of every row, ``[N]`` (all the same for no classes).
        share: in [0, 1).
        seed: fixes which.

    Returns:
        ``[N]``.

    Example:
        >>> int(held_out(np.array([0, 0, 0, 0, 1]), 0.5, seed=0).sum())
        2
    """
    random = np.random.default_rng(seed)
    held = np.zeros(len(groups), np.bool_)
    order = random.permutation(len(groups))
    _, index, sizes = np.unique(groups[order], return_inverse=True, return_counts=True)
    for members in np.split(order[np.argsort(index, kind="stable")], np.cumsum(sizes)[:-1]):
        # Rounded at random, so that many small classes together give the share that was asked for.
        count = int(share * len(members) + random.random())
        held[members[: min(count, len(members) - 1)]] = True
    return held


@dataclass
class Standardizer:
    """Running mean and variance of rows; a call shifts and scales them. Part of whatever was trained behind it.

    `update` merges a batch exactly (Chan et al. 1979), so one call with all rows and many calls with parts agree.
    Calls never update: evaluation is frozen by construction.

    Attributes:
        width: D, the width of a row.
        clip: bound on the standardised values, in standard deviations; None for no bound.
        mean: ``[D]`` float64.
        variance: ``[D]`` float64, the population variance.
        scale: ``[D]`` float64, what shifted rows are multiplied with; 1 for a constant column.
        count: rows seen, or the sum of their weights.

    Example:
        >>> standardizer = Standardizer(1)
        >>> standardizer.update(np.array([[1.0], [3.0]]))
        >>> standardizer(np.array([[3.0]]))
        array([[1.]], dtype=float32)
    """

    width: int
    clip: float | None = None
    mean: NDArray[np.float64] = field(init=False)
    variance: NDArray[np.float64] = field(init=False)
    scale: NDArray[np.float64] = field(init=False)
    count: float = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.restore(np.zeros(self.width), np.ones(self.width), 0)

    def update(self, rows: NDArray[Any], weights: NDArray[Any] | None = None) -> None:
        """Merge ``rows``, ``[B, D]``, into the statistics; no rows change nothing.

        Args:
            rows: ``[B, D]``.
            weights: positive sample weights, ``[B]``; a weight of 2 counts as two rows.
        """
        for start in range(0, len(rows), _CHUNK):  # so that copies stay small
            part = None if weights is None else weights[start : start + _CHUNK]
            self._merge(rows[start : start + _CHUNK].astype(np.float64), part)

    def _merge(self, rows: NDArray[np.float64], weights: NDArray[Any] | None) -> None:
        if weights is None:
            mean, variance, count = rows.mean(axis=0), rows.var(axis=0), float(len(rows))
        else:
            count = float(weights.sum())
            mean = weights @ rows / count
            variance = weights @ (rows - mean) ** 2 / count
        total = self.count + count
        shift = mean - self.mean if self.count else np.zeros(self.width)
        merged = mean if self.count == 0 else self.mean + shift * count / total
        squares = self.variance * self.count + variance * count + shift**2 * self.count * count / total
        self.restore(merged, squares / total, total)

    def restore(self, mean: NDArray[np.float64], variance: NDArray[np.float64], count: float) -> None:
        """Put back statistics that were saved: ``[D]``, ``[D]`` and a number of rows."""
        self.mean, self.variance, self.count = mean, variance, count
        # A column that never varied leaves rounding noise behind; dividing by that would blow it up.
        constant = variance <= (1e-12 * mean) ** 2
        self.scale = 1.0 / np.sqrt(np.where(constant, 1.0, variance))

    def state_dict(self) -> dict[str, Tensor]:
        """The statistics as tensors, copied, for files and snapshots."""
        mean, variance = torch.tensor(self.mean), torch.tensor(self.variance)
        return {"mean": mean, "variance": variance, "count": torch.tensor(self.count, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state_dict` gave.

        Raises:
            KeyError: a part is missing.
            ValueError: the statistics are of rows of another width.
        """
        if state["mean"].shape != (self.width,):
            raise ValueError(f"statistics must be of rows of width {self.width}, got {list(state['mean'].shape)}")
        self.restore(state["mean"].numpy().copy(), state["variance"].numpy().copy(), state["count"].item())

    def __call__(self, rows: NDArray[Any], dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """Standardised rows: ``[B, D]`` → ``[B, D]``, float32 unless told otherwise."""
        if len(rows) <= _CHUNK:
            result = ((rows - self.mean) * self.scale).astype(dtype)
        else:
            result = np.empty(rows.shape, dtype)
            for start in range(0, len(rows), _CHUNK):
                result[start : start + _CHUNK] = (rows[start : start + _CHUNK] - self.mean) * self.scale
        return result if self.clip is None else np.clip(result, -self.clip, self.clip, out=result)


class ReturnScale:
    """Scale of rewards: 1 / running standard deviation of the discounted return so far, g_t = γ g_{t−1} + r_t.

    The sum starts at zero in every episode (carrying it across a truncation would mix two episodes), and
    rows that are not valid do not count.

    Args:
        discount: γ in [0, 1].

    Source:
        Engstrom et al. (2020), arXiv 2005.12729, appendix; the resets are ours.

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

    def update(self, reward: NDArray[Any], done: NDArray[np.bool_], valid: NDArray[np.bool_]) -> None:
        """Merge a rollout's rewards, all ``[T, N]``; a column goes on where the last rollout's stopped."""
        so_far = np.zeros(reward.shape[1]) if self._so_far is None else self._so_far
        sums = np.empty(reward.shape)
        for t in range(len(reward)):
            sums[t] = so_far = np.where(valid[t], self.discount * so_far + reward[t], so_far)
            so_far = np.where(done[t], 0.0, so_far)
        self._so_far = so_far
        self.statistics.update(sums[valid][:, None])

    @property
    def factor(self) -> float:
        """What rewards are multiplied with; 1 before anything was seen or where returns never vary."""
        deviation = float(np.sqrt(self.statistics.variance[0]))
        return 1.0 / deviation if deviation > 1e-8 else 1.0
