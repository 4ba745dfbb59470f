"""Probabilities after training: fit a temperature, correct the class frequencies, measure the calibration error.

All are pure functions of arrays, computed in float64; classes are the last axis. For the log loss, the Brier score,
the softmax and entropies, use `sklearn.metrics.log_loss`, `sklearn.metrics.brier_score_loss`, `scipy.special.softmax`
and `scipy.stats.entropy`.

Labels may be numbers, booleans or strings. ``classes`` names the label of each column, like ``classes_`` of a
classifier. By default, the columns are the distinct labels in sorted order, as in scikit-learn; if there are fewer or
more of them than columns, ``classes`` is required.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# The range in which `fit_temperature` searches.
_COLDEST, _HOTTEST = 1e-2, 1e2
# How far the sum of a row of probabilities may be from 1; float32 over thousands of classes stays well below.
_SLACK = 1e-5


def fit_temperature(
    logits: ArrayLike,
    targets: ArrayLike,
    sample_weight: ArrayLike | None = None,
    prior_shift: ArrayLike | None = None,
    *,
    classes: ArrayLike | None = None,
) -> float:
    """The T > 0 that minimises the mean cross-entropy of softmax(z/T + s) on held-out rows.

    The mean is convex in 1/T, so its minimum is where the slope in 1/T is 0, or at a bound of the range. If every
    target has the largest logit of its row, the mean falls all the way to T = 0, and the result is 1/100. If the logits
    are no better than chance, it falls to T = ∞, and the result is 100. If the logits of each row are all equal, every
    T is equally good, and the result is 1.

    Args:
        logits: z, ``[..., K]``; each entry of the leading axes, such as ``[N]`` or ``[N, M]``, is a row.
        targets: labels ``[...]``, or rows of probabilities ``[..., K]``.
        sample_weight: at least 0, ``[...]``; all 1 by default.
        prior_shift: s, ``[K]``, for example the logarithm of the class frequencies if the logits were trained with
            `rlce.targets.logit_adjusted`.
        classes: the label of each column, ``[K]``; by default the sorted distinct labels.

    Returns:
        T in [1/100, 100].

    Raises:
        ValueError: shapes that do not fit, a label that is not among the classes, targets that are not probabilities,
            weights that are negative or all 0, numbers that are not finite, or a target whose logit is −inf.

    Source:
        Guo et al. (2017), "On calibration of modern neural networks", arXiv 1706.04599, section 4.2.

    Example:
        >>> temperature = fit_temperature([[math.log(9.0), 0.0]] * 4, [0, 0, 0, 1])  # 9 : 1 predicted, 3 : 1 observed
        >>> round(temperature, 6)
        2.0
    """
    from scipy.optimize import brentq
    from scipy.special import softmax

    z, target = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    if z.ndim < 1 or z.shape[-1] < 1:
        raise ValueError(f"logits must have shape [..., K], got {list(z.shape)}")
    weight = _weights(sample_weight, z.shape[:-1]).reshape(-1)
    largest = z.max(axis=-1, keepdims=True)
    if not np.isfinite(largest).all():  # NaN and +inf are the largest of their row, wherever they are
        raise ValueError("logits must be finite or −inf, and not all −inf in a row")
    with np.errstate(over="ignore"):  # to −inf, which is right
        rows = (z - largest).reshape(-1, z.shape[-1])
    finite = np.where(np.isneginf(rows), 0.0, rows)
    if target.shape == z.shape:
        wanted = _distributions("targets", target).reshape(rows.shape)
        impossible = (wanted[np.isneginf(rows)] > 0).any()
        aim = (wanted * finite).sum(axis=-1) / wanted.sum(axis=-1)
    else:
        at = np.arange(len(rows)), _columns("targets", target, z.shape, classes).reshape(-1)
        impossible, aim = np.isneginf(rows[at]).any(), finite[at]
    if impossible:
        raise ValueError("targets must be 0 where the logit is −inf, got a positive one")
    shift = np.zeros(z.shape[-1:]) if prior_shift is None else np.asarray(prior_shift, dtype=np.float64)
    if shift.shape != z.shape[-1:] or not np.isfinite(shift).all():
        raise ValueError(f"prior_shift must be finite, of shape [K] = [{z.shape[-1]}], got {shift.tolist()}")
    if not finite[weight > 0].any():
        return 1.0

    def slope(log_temperature: float) -> float:
        """The slope in 1/T of the summed cross-entropy: Σ_i w_i Σ_k (p_ik − q_ik) z_ik."""
        with np.errstate(over="ignore"):
            probability = softmax(rows * math.exp(-log_temperature) + shift, axis=-1)
        return float(weight @ ((probability * finite).sum(axis=-1) - aim))

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    if slope(low) <= 0.0:
        return _COLDEST
    if slope(high) >= 0.0:
        return _HOTTEST
    return math.exp(brentq(slope, low, high, xtol=1e-14))


def correct_prior(probabilities: ArrayLike, trained: ArrayLike, wanted: ArrayLike) -> Array:
    """Probabilities ∝ p_k π'_k/π_k: p for class frequencies π' instead of π.

    The result is right if p is right, and if the inputs of each class are distributed alike under π and π'.

    Args:
        probabilities: p, for the class frequencies ``trained``, ``[..., K]``.
        trained: π > 0, frequencies or counts, ``[K]``.
        wanted: π' >= 0, frequencies or counts, ``[K]``.

    Returns:
        ``[..., K]``; rows sum to 1.

    Raises:
        ValueError: rows that are not probabilities, frequencies of another shape, ``trained`` not positive, ``wanted``
            negative or all 0, or a row whose possible classes all have ``wanted`` 0.

    Source:
        Saerens, Latinne and Decaestecker (2002), "Adjusting the outputs of a classifier to new a priori probabilities:
        a simple procedure", Neural Computation 14(1), equation 2.4.

    Example:
        >>> correct_prior([[0.5, 0.5]], trained=[1, 1], wanted=[3, 1])
        array([[0.75, 0.25]])
    """
    from scipy.special import softmax

    p = _distributions("probabilities", probabilities)
    before, after = (np.asarray(frequencies, dtype=np.float64) for frequencies in (trained, wanted))
    for name, frequencies in (("trained", before), ("wanted", after)):
        if frequencies.shape != p.shape[-1:]:
            raise ValueError(f"{name} must have shape [K] = {list(p.shape[-1:])}, got {list(frequencies.shape)}")
    if not ((before > 0) & np.isfinite(before)).all():
        raise ValueError(f"trained must be positive and finite, got {before.tolist()}")
    if not ((after >= 0) & np.isfinite(after)).all() or not after.any():
        raise ValueError(f"wanted must be finite, at least 0 and not all 0, got {after.tolist()}")
    if not (p @ (after > 0)).all():
        raise ValueError("wanted must be positive for a possible class of every row, got a row without one")
    with np.errstate(divide="ignore"):
        return softmax(np.log(p) + np.log(after) - np.log(before), axis=-1)


class Reliability(NamedTuple):
    """Confidence and accuracy, by bins of the largest probability.

    Attributes:
        rows: the number of rows in each bin, or the sum of their weights, ``[bins]``.
        confidence: the mean largest probability, ``[bins]``; NaN in an empty bin.
        accuracy: the share of rows whose most probable class is the label, ``[bins]``; NaN in an empty bin.

    Example:
        >>> Reliability(np.array([1.0]), np.array([0.75]), np.array([1.0])).rows
        array([1.])
    """

    rows: Array
    confidence: Array
    accuracy: Array


def reliability(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    sample_weight: ArrayLike | None = None,
    *,
    classes: ArrayLike | None = None,
) -> Reliability:
    """The table behind a reliability diagram: rows by their largest probability, in bins ((m−1)/M, m/M].

    If several classes of a row are equally probable, the first one counts.

    Args:
        labels: ``[N]``.
        probabilities: ``[N, K]``.
        bins: M, of equal width.
        sample_weight: at least 0, ``[N]``; all 1 by default.
        classes: the label of each column, ``[K]``; by default the sorted distinct labels.

    Returns:
        Three columns, ``[bins]`` each.

    Raises:
        ValueError: rows that are not probabilities, labels or weights that do not fit them, or no bins.

    Source:
        Guo et al. (2017), arXiv 1706.04599, section 2.

    Example:
        >>> reliability(["a", "b"], [[0.75, 0.25], [0.75, 0.25]], bins=2)
        Reliability(rows=array([0., 2.]), confidence=array([ nan, 0.75]), accuracy=array([nan, 0.5]))
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    p = _distributions("probabilities", probabilities)
    if p.ndim != 2:
        raise ValueError(f"probabilities must have shape [N, K], got {list(p.shape)}")
    weight = _weights(sample_weight, p.shape[:-1])
    top, right = p.max(axis=-1), p.argmax(axis=-1) == _columns("labels", labels, p.shape, classes)
    # Only inner edges, so that a probability that rounding put above 1 is in the last bin.
    index = np.searchsorted(np.arange(1, bins) / bins, top, side="left")
    rows, confidence, accuracy = (
        np.bincount(index, weight * part, bins).astype(np.float64) for part in (1.0, top, right)
    )
    with np.errstate(invalid="ignore"):
        return Reliability(rows, confidence / rows, accuracy / rows)


def expected_calibration_error(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 15,
    sample_weight: ArrayLike | None = None,
    *,
    classes: ArrayLike | None = None,
) -> float:
    """The mean of |accuracy − confidence| over the bins of `reliability`, each weighted by its rows.

    The estimate is biased: with few rows in a bin, even true probabilities do not get 0.

    Args:
        labels: ``[N]``.
        probabilities: ``[N, K]``.
        bins: of equal width.
        sample_weight: at least 0, ``[N]``; all 1 by default.
        classes: the label of each column, ``[K]``; by default the sorted distinct labels.

    Returns:
        In [0, 1].

    Raises:
        ValueError: as `reliability`.

    Source:
        Naeini et al. (2015), AAAI; Guo et al. (2017), arXiv 1706.04599, equation 3.

    Example:
        >>> expected_calibration_error(["no", "yes"], [[0.75, 0.25], [0.75, 0.25]])
        0.25
    """
    rows, confidence, accuracy = reliability(labels, probabilities, bins, sample_weight, classes=classes)
    filled = rows > 0
    return float(rows[filled] @ np.abs(accuracy - confidence)[filled] / rows.sum())


def _distributions(name: str, value: ArrayLike) -> Array:
    p = np.asarray(value, dtype=np.float64)
    if p.ndim < 1 or p.shape[-1] < 1:
        raise ValueError(f"{name} must have shape [..., K], got {list(p.shape)}")
    if not ((p >= 0) & np.isfinite(p)).all():
        raise ValueError(f"{name} must be finite and at least 0, got {p.min()} to {p.max()}")
    sums = p.sum(axis=-1)
    if not (np.abs(sums - 1.0) <= _SLACK).all():
        raise ValueError(f"{name} must sum to 1 over the last axis, got {sums.min()} to {sums.max()}")
    return p


def _columns(name: str, value: ArrayLike, shape: tuple[int, ...], classes: ArrayLike | None) -> NDArray[np.intp]:
    """The column of each label in an array of this shape, ``[..., K]``."""
    label = np.asarray(value)
    if label.shape != shape[:-1]:
        raise ValueError(f"{name} must be labels of shape {list(shape[:-1])}, got shape {list(label.shape)}")
    found, inverse = np.unique(label, return_inverse=True)
    if classes is None and len(found) != shape[-1]:
        remedy = "pass classes=, the label of each column (classes_ of a classifier)"
        raise ValueError(f"{name}: {len(found)} distinct labels for {shape[-1]} columns; {remedy}")
    known = {each: column for column, each in enumerate((found if classes is None else np.asarray(classes)).tolist())}
    if len(known) != shape[-1]:
        raise ValueError(f"classes must be {shape[-1]} different labels, one for each column, got {classes!r}")
    unknown = [each for each in found.tolist() if each not in known]
    if unknown:
        raise ValueError(f"{name} must be among the classes {list(known)[:20]}, got {unknown[:5]}")
    return np.array([known[each] for each in found.tolist()], dtype=np.intp)[inverse].reshape(label.shape)


def _weights(sample_weight: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    weight = np.ones(shape) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != shape:
        raise ValueError(f"sample_weight must have shape {list(shape)}, got {list(weight.shape)}")
    if not weight.size:
        raise ValueError(f"at least one row is needed, got shape {list(shape)}")
    if not ((weight >= 0) & np.isfinite(weight)).all() or not weight.any():
        got = f"{weight.min()} to {weight.max()}"
        raise ValueError(f"sample_weight must be finite, at least 0 and not all 0, got {got}")
    return weight
