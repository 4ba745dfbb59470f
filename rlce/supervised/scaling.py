"""Scaling of columns: by mean and deviation, or by ranks, which neither heavy tails nor a broken row can spoil."""

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

KINDS = ("quantile", "standard")
_KNOTS = 128
_ROWS = 200_000  # a table is learnt from this many rows at most


class NormalScores:
    """Each column through a monotone, piecewise-linear table that gives its training rows a Gaussian's distribution.

    A training value x becomes z = Φ⁻¹(u), where u is the share of training rows below x plus half the share of those
    equal to it. Between the values of the table z is linear, and beyond its ends it stays as it is. So only the order
    of the values counts: x, log x and x³ become almost the same inputs, and a value of 1e6 is just the largest one.

    If a column has more than 128 distinct values, the table holds at most 128 of them, evenly spread in z. A weight of
    2 acts like repeating the row. A column becomes 0 if its values differ by no more than 1e-9 of the largest. Of more
    than 200,000 rows a random part is looked at, the same one in every fit.

    Args:
        knots: x, increasing, ``[D, K]``; the last value of a column is repeated up to K.
        scores: z of each, ``[D, K]``.
        count: the number of rows, or the sum of their weights.

    Attributes:
        width: D.

    Source:
        van der Waerden (1952), "Order tests for the two-sample problem and their power". scikit-learn's
        ``QuantileTransformer(output_distribution="normal")`` treats ties, the ends and the choice of knots in other
        ways.

    Example:
        >>> scores = NormalScores.learn(np.array([[1.0], [2.0], [1e6]]))
        >>> scores(np.array([[1.0], [2.0], [1e6], [1e9]])).round(2).ravel().tolist()
        [-0.97, 0.0, 0.97, 0.97]
    """

    def __init__(self, knots: NDArray[np.float64], scores: NDArray[np.float64], count: float) -> None:
        self.knots, self.scores, self.count = knots, scores, count
        self.width = len(knots)

    @classmethod
    def learn(cls, rows: NDArray[Any], weights: NDArray[Any] | None = None) -> NormalScores:
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


Scaler = Standardizer | NormalScores


def _table(
    column: NDArray[np.float64], weights: NDArray[Any] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The knots of one column and their scores."""
    if weights is None:
        values, share = np.unique(column, return_counts=True)
    else:
        values, place = np.unique(column, return_inverse=True)
        share = np.bincount(place, weights, len(values))
    if values[-1] / 2 - values[0] / 2 <= 0.5e-9 * np.abs(values[[0, -1]]).max():
        return values[:1], np.zeros(1)
    below = np.cumsum(share)
    scores = ndtri((below - share / 2) / below[-1])
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
        kind: "quantile", "standard", or None for no scaling.
        before: that of the fit to go on from; it is not changed.
        rows: ``[N, D]``.
        weights: positive, ``[N]``, or None.
        once: True for ``partial_fit``. It knows only the first rows, and a table of ranks cannot take up more of them,
            so it begins with the mean and deviation.

    Example:
        >>> rows = np.array([[1.0], [2.0], [9.0]])
        >>> scaler_for("quantile", None, rows, None, once=False)(rows).round(2).ravel().tolist()
        [-0.97, 0.0, 0.97]
    """
    if before is None and kind == "quantile" and not once:
        return NormalScores.learn(rows, weights)
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
    return NormalScores(knots, scores, state["count"].item())
