"""Plots as PNG files in memory, for reports and for TensorBoard.

matplotlib is an optional dependency (``pip install 'rlce[plots]'``).
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#2a6f97", "#d1702f", "#8a8f94"
_DPI = 110


def check_installed() -> None:
    """Check that plots can be drawn, before hours are spent on what they should show.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("plots are drawn with matplotlib: pip install 'rlce[plots]'")


def reliability(rows: ArrayLike, confidence: ArrayLike, accuracy: ArrayLike) -> bytes:
    """The share of right rows against their confidence, and a histogram of the confidence.

    Args:
        rows: in each bin, ``[bins]``; the bins are of equal width and cover [0, 1].
        confidence: the mean largest probability in each bin, ``[bins]``; NaN in an empty one.
        accuracy: the share of right rows in each bin, ``[bins]``; NaN in an empty one.

    Returns:
        A PNG file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    count = np.asarray(rows, dtype=np.float64)
    with _drawing((4.6, 4.8)) as (figure, file):
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        above.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="as sure as right")
        # A bin of few rows lies off the line by chance, so its point is small.
        above.plot(confidence, accuracy, color=_BLUE, linewidth=1, alpha=0.6)
        above.scatter(
            confidence, accuracy, s=12 + 150 * count / count.max(), color=_BLUE, label="held-out rows, by bin"
        )
        above.set(xlim=(0, 1.02), ylim=(-0.03, 1.03), ylabel="share of right predictions")
        above.legend(loc="upper left", frameon=False, markerscale=0.5)
        edges = np.linspace(0.0, 1.0, len(count) + 1)
        below.bar(edges[:-1], count, width=np.diff(edges), align="edge", color=_BLUE, alpha=0.6)
        below.set(xlabel="probability of the predicted class", ylabel="rows")
        _no_frame(above, below)
    return file.getvalue()


def confusion(labels: Sequence[str], counts: ArrayLike) -> bytes:
    """Counts of true and predicted classes; the shade is the share of the true class.

    Args:
        labels: ``[K]``.
        counts: a row for each true class, a column for each predicted, ``[K, K]``.

    Returns:
        A PNG file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    table = np.asarray(counts)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.42 * max(4, len(labels))
    # A cell is 0.42 inches wide, wider if there are few; a letter takes 0.08.
    upright = 0.08 * max(map(len, labels)) * len(labels) > 0.42 * max(4, len(labels))
    with _drawing((side, side)) as (figure, file):
        axes = figure.subplots()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(labels)), labels, rotation=90 if upright else 0)
        axes.set_yticks(range(len(labels)), labels)
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        size = 9 if len(str(table.max())) < 5 else 6.5
        for (row, column), number in np.ndenumerate(table):
            if number:
                colour = "white" if share[row, column] > 0.55 else "black"
                axes.text(column, row, str(number), ha="center", va="center", fontsize=size, color=colour)
    return file.getvalue()


def importance(names: Sequence[str], means: ArrayLike, deviations: ArrayLike, score: str) -> bytes:
    """Bars for the rise of a loss when a column is shuffled.

    Args:
        names: of the columns, the most important first, ``[C]``.
        means: the rise, ``[C]``.
        deviations: its standard deviation over shuffles, ``[C]``.
        score: the name of the loss.

    Returns:
        A PNG file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    with _drawing((6.4, 1.1 + 0.25 * len(names))) as (figure, file):
        axes = figure.subplots()
        axes.barh(range(len(names)), means, xerr=deviations, color=_BLUE, ecolor=_GREY, height=0.7)
        axes.set_yticks(range(len(names)), names)
        axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=f"rise of the {score} when the column is shuffled")
        axes.axvline(0.0, color="black", linewidth=0.8)
        axes.tick_params(axis="y", length=0)
        _no_frame(axes)
        axes.spines["left"].set_visible(False)
    return file.getvalue()


def predictions(
    true: ArrayLike,
    predicted: ArrayLike,
    interval: ArrayLike | None,
    axes_names: tuple[str, str] = ("true", "predicted"),
) -> bytes:
    """Predicted against true numbers, with their intervals.

    Args:
        true: ``[N]``.
        predicted: ``[N]``.
        interval: lower and upper bounds, ``[N, 2]``, or None.
        axes_names: what stands below and beside the plot.

    Returns:
        A PNG file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    x, y = np.asarray(true), np.asarray(predicted)
    bounds = None if interval is None else np.asarray(interval)
    with _drawing((4.8, 4.4)) as (figure, file):
        axes = figure.subplots()
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axes.plot(ends, ends, color=_GREY, linestyle="--", linewidth=1)
        if bounds is None:
            axes.scatter(x, y, s=10, color=_BLUE, alpha=0.6, linewidth=0)
        else:
            inside = (bounds[:, 0] <= x) & (x <= bounds[:, 1])
            for part, colour, words in ((inside, _BLUE, "inside"), (~inside, _ORANGE, "outside")):
                axes.vlines(x[part], *bounds[part].T, color=colour, alpha=0.35, linewidth=1)
                axes.scatter(x[part], y[part], s=10, color=colour, linewidth=0, label=f"{words} the interval")
            figure.legend(loc="outside upper right", frameon=False, ncols=2)
        axes.set(xlabel=axes_names[0], ylabel=axes_names[1])
        _no_frame(axes)
    return file.getvalue()


def residuals(true: ArrayLike, predicted: ArrayLike) -> bytes:
    """Residuals, true minus predicted, against the prediction.

    Args:
        true: ``[N]``.
        predicted: ``[N]``.

    Returns:
        A PNG file.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    y = np.asarray(predicted)
    with _drawing((4.8, 4.4)) as (figure, file):
        axes = figure.subplots()
        axes.axhline(0.0, color=_GREY, linestyle="--", linewidth=1)
        axes.scatter(y, np.asarray(true) - y, s=10, color=_BLUE, alpha=0.6, linewidth=0)
        axes.set(xlabel="predicted", ylabel="residual: true minus predicted")
        _no_frame(axes)
    return file.getvalue()


@contextmanager
def _drawing(size: tuple[float, float]) -> Iterator[tuple[Figure, io.BytesIO]]:
    """A figure to draw on, in inches, and the file that holds it afterwards; no global state of matplotlib changes."""
    check_installed()
    import matplotlib
    from matplotlib.figure import Figure

    file = io.BytesIO()
    # Names come from data: a "$" is no formula, and a letter that the font lacks is no reason to warn.
    with matplotlib.rc_context({"text.parse_math": False, "font.size": 9}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        yield figure, file
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})


def _no_frame(*plots: Axes | Any) -> None:
    for axes in plots:
        axes.spines[["top", "right"]].set_visible(False)
