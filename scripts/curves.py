"""Curves over seeds: the one aggregation of ``scripts.results`` and ``scripts.compare``, its plot, its words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_BATCH = 1_000  # resamples in memory at a time

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""One seed's positions, ascending, and its values there, both ``[points]``."""


# Numbers: pure functions of scores.


def interquartile_mean(scores: ArrayLike, axis: int = 0) -> Any:
    """The mean without the lowest and the highest quarter of the scores (rounded down).

    Example:
        >>> float(interquartile_mean([1, 2, 3, 100]))
        2.5
        >>> float(interquartile_mean([1, 2, 6]))
        3.0
    """
    return stats.trim_mean(np.asarray(scores, np.float64), 0.25, axis=axis)


def interval(scores: ArrayLike) -> NDArray[np.float64]:
    """The 95 % bootstrap interval of the interquartile mean.

    Args:
        scores: ``[seeds, ...]``.

    Returns:
        ``[2, ...]``, the low and the high end; NaN if there is one seed only.

    Example:
        >>> interval([500, 500, 500]).tolist()
        [500.0, 500.0]
    """
    scores = np.asarray(scores, np.float64)
    if len(scores) < 2:
        return np.full((2, *scores.shape[1:]), np.nan)
    resampled = stats.bootstrap(
        (scores,), interquartile_mean, n_resamples=10_000, batch=_BATCH, axis=0, method="percentile", random_state=0
    )
    return np.array(resampled.confidence_interval)


def ending(values: Sequence[float] | NDArray[np.float64]) -> float:
    """The score of a run: the mean of its last three values.

    Example:
        >>> ending([0.0, 7.0, 8.0, 9.0]), ending([4.0])
        (8.0, 4.0)
    """
    return float(np.mean(values[-3:]))


def common(seeds: Sequence[Curve], points: int | None = None, *, hold: bool = False) -> Curve:
    """The curves of all seeds at common positions, from the last of their beginnings to the first of their ends.

    Args:
        seeds: the curve of each.
        points: number of positions; None for that of the longest curve.
        hold: True to go on to the last of the ends; a seed that has ended keeps its last value.

    Returns:
        Positions ``[points]`` and values ``[seeds, points]``, by linear interpolation between a seed's values.

    Raises:
        ValueError: a seed begins after another has ended.

    Example:
        >>> early = np.array([0.0, 2.0]), np.array([0.0, 20.0])
        >>> late = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])
        >>> positions, values = common([early, late])
        >>> positions.tolist(), values.tolist()
        ([1.0, 1.5, 2.0], [[10.0, 15.0, 20.0], [1.0, 1.5, 2.0]])
    """
    low, high = max(x[0] for x, _ in seeds), (max if hold else min)(x[-1] for x, _ in seeds)
    if low > high:
        raise ValueError(f"the seeds have no part of the x-axis in common: one begins at {low:g}, one ends at {high:g}")
    positions = np.linspace(low, high, max(len(x) for x, _ in seeds) if points is None else points)
    return positions, np.stack([np.interp(positions, x, y) for x, y in seeds])


# The plot, and words.


def draw(axes: Any, positions: ArrayLike, values: NDArray[np.float64], label: str) -> NDArray[np.float64]:
    """Draw the interquartile mean over seeds as a line, and its 95 % interval as a band.

    Args:
        axes: matplotlib's.
        positions: ``[points]``.
        values: ``[seeds, points]``.
        label: for the legend; the number of seeds is added.

    Returns:
        The interquartile mean, ``[points]``.
    """
    mean = interquartile_mean(values)
    (line,) = axes.plot(positions, mean, label=f"{label}, {len(values)} seed{'s' * (len(values) > 1)}")
    axes.fill_between(positions, *interval(values), alpha=0.2, color=line.get_color(), linewidth=0)
    return np.asarray(mean)


def number(value: float, digits: int) -> str:
    """A number with a minus sign that typesets well."""
    return f"{value:,.{digits}f}".replace("-", "−")


def with_interval(scores: Sequence[float], digits: int) -> str:
    """Interquartile mean and interval."""
    low, high = interval(scores)
    ends = "" if np.isnan(low) else f" [{number(low, digits)}, {number(high, digits)}]"
    return number(interquartile_mean(scores), digits) + ends


def table(header: str, rows: Iterable[Iterable[object]]) -> list[str]:
    """The lines of a Markdown table. The header's cells are separated by a bar."""
    names = header.split("|")
    lines = [f"| {' | '.join(name.strip() for name in names)} |", "|" + "---|" * len(names)]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]
