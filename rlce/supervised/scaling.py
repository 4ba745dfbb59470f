"""Scaling of columns: by mean and deviation, and by ranks where a few values would dwarf the rest."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from rlce import checkpoint
from rlce.data import Standardizer

KINDS = ("robust", "standard")
_FAR = 8.0  # mean absolute deviations
_BOUND = 10.0  # standard deviations
_KNOTS = 128
_ROWS = 200_000  # a table is learnt from this many rows at most


class RobustScaling:
    """Each column through a monotone, piecewise-linear table, so that outliers neither dwarf the rest nor dominate.

    A column has outliers if a training value is farther from the mean than eight times the mean distance from it.

    * Without outliers it is standardised, (x − mean) / standard deviation, and kept within ±10.
    * With outliers, or heavy tails, a training value x becomes its normal score Φ⁻¹(u), where u is the share of
      training rows below x plus half the share of those equal to it. Only the order of the values counts then: a value
      of 1e6 is just the largest one. Between the values of the table the score is linear, beyond its ends constant.
      Of more than 128 distinct values the table holds at most 128, evenly spread in the score.

    A column becomes 0 if its values differ by no more than 1e-9 of the largest. A weight of 2 acts like repeating the
    row. Of more than 200,000 rows a random part is looked at, the same one in every fit.

    Args:
        knots: x, increasing, ``[D, K]``; the last value of a column is repeated up to K.
        scores: z of each, ``[D, K]``.
        count: the number of rows, or the sum of their weights.

    Attributes:
        width: D.

    Source:
        Normal scores: van der Waerden (1952), "Order tests for the two-sample problem and their power".
        scikit-learn's ``QuantileTransformer(output_distribution="normal")`` treats ties, the ends and the choice of
        knots in other ways. Which columns get them is our choice.

    Example:
        >>> scaling = RobustScaling.learn(np.r_[np.arange(19.0), 1e6][:, None])
        >>> scaling(np.array([[0.0], [9.0], [18.0], [1e6], [1e9]]), np.float64).round(2).ravel().tolist()
        [-1.96, -0.06, 1.44, 1.96, 1.96]
    """

    def __init__(self, knots: NDArray[np.float64], scores: NDArray[np.float64], count: float) -> None:
        self.knots, self.scores, self.count = knots, scores, count
        self.width = len(knots)

    @classmethod
    def learn(cls, rows: NDArray[Any], weights: NDArray[Any] | None = None) -> RobustScaling:
        """The tables of some rows.

        Args:
            rows: ``[N, D]``, finite.
            weights: positive, ``[N]``.
        """
        count = float(len(rows) if weights is None else weights.sum())
        if len(rows) > _ROWS:
            part = np.sort(np.random.default_rng(0).choice(len(rows), _ROWS, replace=False))
            rows, weights = rows[part], None if weights is None else weights[part]
        tables = [_table(column.astype(np.float64), weights) for column in rows.T]
        longest = max((len(values) for values, _ in tables), default=1)
        padded = [[np.pad(part, (0, longest - len(part)), mode="edge") for part in table] for table in tables]
        knots, scores = np.array(padded).reshape(len(tables), 2, longest).swapaxes(0, 1)
        return cls(knots, scores, count)

    def __call__(self, rows: NDArray[Any], dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
        """Scores: ``[B, D]`` → ``[B, D]`` of this type."""
        result = np.empty(rows.shape, dtype)
        for column, (knots, scores) in enumerate(zip(self.knots, self.scores, strict=True)):
            result[:, column] = np.interp(rows[:, column], knots, scores)
        return result

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the tables as tensors."""
        count = torch.tensor(self.count, dtype=torch.float64)
        return {"knots": torch.tensor(self.knots), "scores": torch.tensor(self.scores), "count": count}


Scaler = Standardizer | RobustScaling


def _table(
    column: NDArray[np.float64], weights: NDArray[Any] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The knots of one column and their scores, as `RobustScaling` says."""
    if weights is None:
        values, share = np.unique(column, return_counts=True)
    else:
        values, place = np.unique(column, return_inverse=True)
        share = np.bincount(place, weights, len(values))
    if values[-1] / 2 - values[0] / 2 <= 0.5e-9 * np.abs(values[[0, -1]]).max():
        return values[:1], np.zeros(1)
    share = share / share.sum()
    mean = share @ values
    farthest = np.abs(values[[0, -1]] - mean).max()
    away = (values - mean) / farthest  # its square cannot overflow
    if _FAR * (share @ np.abs(away)) >= 1.0 and farthest < 1e300:
        deviation = farthest * np.sqrt(share @ away**2)
        return mean + np.array([-_BOUND, _BOUND]) * deviation, np.array([-_BOUND, _BOUND])
    below = np.cumsum(share)
    below = np.cumsum(share)
    scores = ndtri(below - share / 2)
    if len(values) > _KNOTS:
        wanted = np.linspace(scores[0], scores[-1], _KNOTS)
        kept = np.unique(np.searchsorted(scores, wanted).clip(0, len(values) - 1))
        kept[[0, -1]] = 0, len(values) - 1  # rounding may have moved the ends
        values, scores = values[kept], scores[kept]
    return values, scores


def scaler_for(
    kind: str | None, before: Scaler | None, rows: NDArray[Any], weights: NDArray[Any] | None, once: bool
) -> Scaler:
    """The scaling of a fit.

    Args:
        kind: "robust", "standard", or None for no scaling.
        before: that of the fit to go on from; it is not changed.
        rows: ``[N, D]``.
        weights: positive, ``[N]``, or None.
        once: True for ``partial_fit``. It knows only the first rows, and a table cannot take up more of them,
            so it begins with the mean and deviation.

    Example:
        >>> rows = np.array([[1.0], [2.0], [9.0]])
        >>> scaler_for("standard", None, rows, None, once=False)(rows).mean() < 1e-7
        np.True_
    """
    if before is None and kind == "robust" and not once:
        return RobustScaling.learn(rows, weights)
    scaler = Standardizer(rows.shape[1]) if before is None else copy.deepcopy(before)
    if kind is not None and isinstance(scaler, Standardizer):
        scaler.update(rows, weights)
    return scaler


def read_scaler(tensors: Mapping[str, Tensor], width: int) -> Scaler:
    """The scaling that a file holds: what ``state_dict`` gave, under "scaler.", or "standardizer." in earlier files.

    Raises:
        KeyError: a part is missing.
        ValueError: it is for rows of another width, or its tables make no sense.
    """
    state = checkpoint.section(tensors, "scaler.") or checkpoint.section(tensors, "standardizer.")
    if "knots" not in state:
        standardizer = Standardizer(width)
        standardizer.load_state_dict(state)
        return standardizer
    knots, scores = (state[name].numpy().astype(np.float64) for name in ("knots", "scores"))
    if knots.ndim != 2 or knots.shape != scores.shape or len(knots) != width:
        shapes = f"knots {list(knots.shape)} and scores {list(scores.shape)}"
        raise ValueError(f"it has tables of other columns than {width}: {shapes}")
    if not (np.isfinite([knots, scores]).all() and (np.diff(knots) >= 0).all() and (np.diff(scores) >= 0).all()):
        raise ValueError("the tables of its columns must be finite and increasing")
    return RobustScaling(knots, scores, state["count"].item())
