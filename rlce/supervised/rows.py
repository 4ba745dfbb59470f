"""Rows: checked inputs, targets and weights; those to train with and those to hold out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_consistent_length,
    check_random_state,
    column_or_1d,
    validate_data,
)

from rlce.data import held_out
from rlce.supervised import frames


class Rows(NamedTuple):
    """N rows, without those of weight zero."""

    inputs: Any  # [N, D]: an array or a DataFrame of pandas; for the network, scaled
    target: NDArray[Any]  # [N] or [N, ...], raw or encoded
    weight: NDArray[np.float64]  # [N], positive, not scaled


def read(reader: Any, X: Any, y: Any, sample_weight: Any = None, *, fresh: bool = False, framed: bool = False) -> Rows:
    """Checked arrays, without the rows of weight zero.

    Args:
        reader: a copy of the estimator, because the rows may still be refused. scikit-learn notes the columns on it if
            ``fresh``; otherwise it compares the columns with those noted.
        X: ``[N, D]``.
        y: ``[N]`` or ``[N, M]``.
        sample_weight: ``[N]``.
        fresh: True if these are the first rows.
        framed: True to keep a DataFrame with its types; `begin` turns it into numbers.

    Raises:
        TypeError: ``framed``, but X is no DataFrame.
        ValueError: in scikit-learn's words.
    """
    y = y.toarray() if issparse(y) else y
    inputs: Any
    if framed:
        inputs = frames.as_pandas(X)
        validate_data(reader, X, reset=fresh, skip_check_array=True)
        y = _check_y(y, multi_output=True, estimator=reader)
        check_consistent_length(inputs, y)
    else:
        inputs, y = validate_data(reader, X, y, reset=fresh, dtype=(np.float64, np.float32), multi_output=True)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
    kept = weight > 0
    if not kept.any():  # scikit-learn checks this since 1.9
        raise ValueError("Sample weights must contain at least one non-zero number.")
    if not kept.all():
        inputs, y, weight = inputs[kept], y[kept], weight[kept]
    if weight.max() > 1e300 / len(weight):
        raise ValueError(f"sample_weight must have a finite sum, got up to {weight.max()} a row")
    return Rows(inputs, y, weight)


def split(
    share: float,
    rows: Rows,
    validation_set: tuple[Any, ...] | None,
    random: np.random.RandomState,
    read_held_out: Callable[..., Rows],
) -> tuple[Rows, Rows | None]:
    """Rows to train with and rows to hold out, drawn from each class if every row has one class.

    Args:
        share: ``validation_split``: the part to hold out, in [0, 1).
        rows: encoded.
        validation_set: (X, y) or (X, y, sample_weight) to use in place of drawn rows, or None.
        random: the source of the draw.
        read_held_out: (X, y, sample_weight=None) → encoded rows.

    Raises:
        ValueError: if both a set and a split are given, the set is malformed, or the split holds out no row.
    """
    if validation_set is not None:
        if share:
            raise ValueError("validation_split: give it or held-out rows (X_val and y_val), not both")
        if not isinstance(validation_set, tuple | list) or len(validation_set) not in (2, 3):
            raise ValueError("validation_set must be (X, y) or (X, y, sample_weight)")
        return rows, read_held_out(*validation_set)
    if not share:
        return rows, None
    one_class = rows.target.ndim == 1 and rows.target.dtype.kind == "i"
    groups = rows.target if one_class else np.zeros(len(rows.target), int)
    held = held_out(groups, share, draw_seed(random))
    if not held.any():
        raise ValueError(f"validation_split: {share} of {len(held)} samples holds out none; use a larger one")
    return Rows(*(part[~held] for part in rows)), Rows(*(part[held] for part in rows))


def stream_of(random_state: Any) -> np.random.RandomState:
    """A generator for one fit; a user's generator, or NumPy's global one, only gives its seed."""
    random = check_random_state(random_state)
    return random if isinstance(random_state, int | np.integer) else np.random.RandomState(draw_seed(random))


def draw_seed(random: np.random.RandomState) -> int:
    """A seed for another generator."""
    return int(random.randint(np.iinfo(np.int32).max))
