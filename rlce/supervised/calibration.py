"""Probabilities after training: temperature, other class frequencies, and how far they can be trusted.

All are pure functions of NumPy arrays (or what becomes one), computed in float64; classes are the last axis, and labels
are indices into it. Three kinds:

* **made from logits or from other probabilities**: `softmax`, `log_softmax`, `fit_temperature`, `correct_prior`;
* **measures on held-out rows**: `log_loss`, `brier_score`, `reliability`, `expected_calibration_error`;
* **of distributions alone**: `entropy`, `cross_entropy`, `kl_divergence`, in nats or bits.

What is zero stays zero: a class of probability 0 that occurs costs infinitely much, and nothing is clipped to hide it.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Unit = Literal["nats", "bits"]
Array = NDArray[np.float64]

# The temperatures that `fit_temperature` looks at.
_COLDEST, _HOTTEST = 1e-2, 1e2
# How far the sum of a row of probabilities may be from one: float32 over thousands of classes stays well below.
_SLACK = 1e-5


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Array:
    """Probabilities exp(z_k/T) / Σ_j exp(z_j/T), without overflow.

    Args:
        logits: z, ``[..., K]``; −inf gives probability 0.
        temperature: T > 0; the higher, the closer to equal.

    Returns:
        ``[..., K]``; rows sum to 1.

    Raises:
        ValueError: T not positive and finite, or a row that has NaN or +inf, or nothing but −inf.

    Example:
        >>> softmax([[0.0, 2.0]], temperature=2.0).round(4)
        array([[0.2689, 0.7311]])
    """
    return np.exp(log_softmax(logits, temperature))


def log_softmax(logits: ArrayLike, temperature: float = 1.0) -> Array:
    """Log-probabilities z_k/T − log Σ_j exp(z_j/T), precise where the probability rounds to 0 or 1.

    Args:
        logits: z, ``[..., K]``; −inf gives −inf.
        temperature: T > 0.

    Returns:
        ``[..., K]``.

    Raises:
        ValueError: T not positive and finite, or a row that has NaN or +inf, or nothing but −inf.

    Example:
        >>> log_softmax([[0.0, 1000.0]])
        array([[-1000.,     0.]])
    """
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    return _log_normalized(_centered(logits), 1.0 / temperature)


def fit_temperature(
    logits: ArrayLike,
    targets: ArrayLike,
    sample_weight: ArrayLike | None = None,
    prior_shift: ArrayLike | None = None,
) -> float:
    """The T > 0 that minimises the mean cross-entropy of softmax(z/T + s) on held-out rows.

    The mean is convex in 1/T, so it is least where its slope in 1/T is 0, or at a bound. It falls all the way to T = 0
    where every target has its row's largest logit (held-out rows without a mistake), and to T = ∞ where the logits say
    no more than chance: the result is then the bound, 1/100 or 100. Where each row's logits are equal, every T is as
    good, and the result is 1.

    Args:
        logits: z, ``[..., K]``; any leading axes, ``[N]`` or ``[N, M]``, and each of their entries is a row.
        targets: class indices ``[...]``, or rows of probabilities ``[..., K]``.
        sample_weight: at least 0, ``[...]``; by default all 1.
        prior_shift: s, ``[K]``, such as the logarithm of the class frequencies for logits that were trained with
            `rlce.targets.logit_adjusted`.

    Returns:
        T in [1/100, 100].

    Raises:
        ValueError: shapes that do not fit, a label outside 0..K−1, targets that are no probabilities, weights that are
            negative or all 0, numbers that are not finite, or a target on a class whose logit is −inf.

    Source:
        Guo et al. (2017), "On calibration of modern neural networks", arXiv 1706.04599, section 4.2.

    Example:
        >>> temperature = fit_temperature([[math.log(9.0), 0.0]] * 4, [0, 0, 0, 1])  # promised 9 : 1, came 3 : 1
        >>> round(temperature, 6)
        2.0
    """
    from scipy.optimize import brentq

    centered = _centered(logits)
    rows, classes = centered.reshape(-1, centered.shape[-1]), centered.shape[-1]
    target = np.asarray(targets)
    if target.shape == centered.shape:
        wanted = _distributions("targets", target).reshape(rows.shape)
        wanted = wanted / wanted.sum(axis=-1, keepdims=True)
    else:
        wanted = np.eye(classes)[_labels("targets", target, centered.shape).reshape(-1)]
    weight = _weights(sample_weight, centered.shape[:-1]).reshape(-1)
    shift = np.zeros(classes) if prior_shift is None else np.asarray(prior_shift, dtype=np.float64)
    if shift.shape != (classes,) or not np.isfinite(shift).all():
        raise ValueError(f"prior_shift must be finite, of shape [K] = [{classes}], got {shift.tolist()}")
    impossible = np.isneginf(rows)
    if (wanted[impossible] > 0).any():
        raise ValueError("targets must be 0 where the logit is −inf, got a class that cannot be")
    finite = np.where(impossible, 0.0, rows)
    if not finite[weight > 0].any():
        return 1.0

    def slope(log_temperature: float) -> float:
        """Of the summed cross-entropy in 1/T: Σ_i w_i Σ_k (p_ik − q_ik) z_ik."""
        scaled = rows * math.exp(-log_temperature) + shift
        probability = np.exp(_log_normalized(scaled - scaled.max(axis=-1, keepdims=True)))
        return float(weight @ ((probability - wanted) * finite).sum(axis=-1))

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    if slope(low) <= 0.0:
        return _COLDEST
    if slope(high) >= 0.0:
        return _HOTTEST
    return math.exp(brentq(slope, low, high, xtol=1e-14))


def correct_prior(probabilities: ArrayLike, trained: ArrayLike, wanted: ArrayLike) -> Array:
    """Probabilities ∝ p_k π'_k/π_k: what p says where classes are as frequent as π' instead of π.

    Right as far as p is, and as the inputs of one class look alike under both.

    Args:
        probabilities: p, which hold for classes as frequent as ``trained``, ``[..., K]``.
        trained: π > 0, frequencies or counts, ``[K]``.
        wanted: π' >= 0, frequencies or counts, ``[K]``.

    Returns:
        ``[..., K]``; rows sum to 1.

    Raises:
        ValueError: rows that are no probabilities, other than K frequencies, a ``trained`` that is not positive, a
            ``wanted`` that is negative or all 0, or a row whose every possible class has ``wanted`` 0.

    Source:
        Saerens, Latinne and Decaestecker (2002), "Adjusting the outputs of a classifier to new a priori probabilities:
        a simple procedure", Neural Computation 14(1), equation 2.4.

    Example:
        >>> correct_prior([[0.5, 0.5]], trained=[1, 1], wanted=[3, 1])
        array([[0.75, 0.25]])
    """
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
        raise ValueError("wanted must leave every row a class that it gives a probability, got a row without one")
    with np.errstate(divide="ignore"):
        return softmax(np.log(p) + np.log(after) - np.log(before))


# ---------------------------------------------------------------------------------------- measures on held-out rows


def log_loss(
    labels: ArrayLike, probabilities: ArrayLike, sample_weight: ArrayLike | None = None, unit: Unit = "nats"
) -> float:
    """The mean of −log p_y; infinite where a label had probability 0 (scikit-learn's clips there).

    Args:
        labels: class indices y, ``[N]``.
        probabilities: p, ``[N, K]``.
        sample_weight: at least 0, ``[N]``; by default all 1.
        unit: "nats" or "bits".

    Returns:
        At least 0.

    Raises:
        ValueError: rows that are no probabilities, labels or weights that do not fit them, or another unit.

    Example:
        >>> log_loss([0, 1], [[0.5, 0.5], [0.75, 0.25]], unit="bits")
        1.5
    """
    label, p, weight = _held_out(labels, probabilities, sample_weight)
    chosen = p[np.arange(len(p)), label]
    with np.errstate(divide="ignore"):
        cost = 0.0 - np.log(chosen)
    counted = weight > 0  # 0 · ∞ would be NaN
    return float(weight[counted] @ cost[counted] / weight.sum()) / _nats(unit)


def brier_score(labels: ArrayLike, probabilities: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """The mean of Σ_k (p_k − 1[k=y])², summed over all classes: 0 at best, 2 at worst.

    Brier's own definition. For two classes it is twice the one of a single column (scikit-learn's default there).

    Args:
        labels: class indices y, ``[N]``.
        probabilities: p, ``[N, K]``.
        sample_weight: at least 0, ``[N]``; by default all 1.

    Returns:
        In [0, 2].

    Raises:
        ValueError: rows that are no probabilities, or labels or weights that do not fit them.

    Source:
        Brier (1950), "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78(1).

    Example:
        >>> brier_score([0, 0], [[1.0, 0.0], [0.5, 0.5]])
        0.25
    """
    label, p, weight = _held_out(labels, probabilities, sample_weight)
    return float(weight @ ((p - np.eye(p.shape[-1])[label]) ** 2).sum(axis=-1) / weight.sum())


class Reliability(NamedTuple):
    """What was promised and what came true, by bins of the top probability.

    Attributes:
        rows: how many are in each bin, or the sum of their weights, ``[bins]``.
        confidence: the mean top probability, ``[bins]``; NaN in an empty bin.
        accuracy: the share of rows whose most probable class is the label, ``[bins]``; NaN in an empty bin.

    Example:
        >>> Reliability(np.array([1.0]), np.array([0.75]), np.array([1.0])).rows
        array([1.])
    """

    rows: Array
    confidence: Array
    accuracy: Array


def reliability(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 15, sample_weight: ArrayLike | None = None
) -> Reliability:
    """The table behind a reliability diagram: rows by their top probability, in bins ((m−1)/M, m/M].

    Of classes that are equally probable, the first is the top.

    Args:
        labels: class indices, ``[N]``.
        probabilities: ``[N, K]``.
        bins: M, of equal width.
        sample_weight: at least 0, ``[N]``; by default all 1.

    Returns:
        Three columns, ``[bins]`` each.

    Raises:
        ValueError: rows that are no probabilities, labels or weights that do not fit them, or no bins.

    Source:
        Guo et al. (2017), arXiv 1706.04599, section 2.

    Example:
        >>> reliability([0, 1], [[0.75, 0.25], [0.75, 0.25]], bins=2)
        Reliability(rows=array([0., 2.]), confidence=array([ nan, 0.75]), accuracy=array([nan, 0.5]))
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    label, p, weight = _held_out(labels, probabilities, sample_weight)
    top, right = p.max(axis=-1), p.argmax(axis=-1) == label
    # The upper edges but the last: what rounding put above 1 is in the last bin too.
    index = np.searchsorted(np.arange(1, bins) / bins, top, side="left")
    rows, promised, came = (np.bincount(index, weight * part, bins).astype(np.float64) for part in (1.0, top, right))
    with np.errstate(invalid="ignore"):
        return Reliability(rows, promised / rows, came / rows)


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 15, sample_weight: ArrayLike | None = None
) -> float:
    """The mean distance between accuracy and confidence over the bins of `reliability`, by their rows.

    A biased estimate: with few rows a bin, even true probabilities do not get 0.

    Args:
        labels: class indices, ``[N]``.
        probabilities: ``[N, K]``.
        bins: of equal width.
        sample_weight: at least 0, ``[N]``; by default all 1.

    Returns:
        In [0, 1].

    Raises:
        ValueError: rows that are no probabilities, labels or weights that do not fit them, or no bins.

    Source:
        Naeini et al. (2015), AAAI; Guo et al. (2017), arXiv 1706.04599, equation 3.

    Example:
        >>> expected_calibration_error([0, 1], [[0.75, 0.25], [0.75, 0.25]])
        0.25
    """
    rows, confidence, accuracy = reliability(labels, probabilities, bins, sample_weight)
    filled = rows > 0
    return float(rows[filled] @ np.abs(accuracy - confidence)[filled] / rows.sum())


# ------------------------------------------------------------------------------------------- of distributions alone


def entropy(probabilities: ArrayLike, unit: Unit = "nats") -> Array:
    """Entropy −Σ_k p_k log p_k, with 0 log 0 = 0.

    Args:
        probabilities: p, ``[..., K]``.
        unit: "nats" or "bits".

    Returns:
        ``[...]``.

    Raises:
        ValueError: rows that are no probabilities, or another unit.

    Example:
        >>> entropy([[0.5, 0.5], [1.0, 0.0]], unit="bits")
        array([1., 0.])
    """
    from scipy.special import xlogy

    p = _distributions("probabilities", probabilities)
    return (0.0 - xlogy(p, p).sum(axis=-1)) / _nats(unit)


def cross_entropy(p: ArrayLike, q: ArrayLike, unit: Unit = "nats") -> Array:
    """Cross-entropy −Σ_k p_k log q_k, with 0 log 0 = 0: the mean length of a code made for q where p holds.

    Args:
        p: ``[..., K]``.
        q: ``[..., K]``; leading axes broadcast against those of p.
        unit: "nats" or "bits".

    Returns:
        ``[...]``; infinite where q = 0 < p.

    Raises:
        ValueError: rows that are no probabilities, shapes that do not fit each other, or another unit.

    Example:
        >>> cross_entropy([[0.5, 0.5]], [[0.25, 0.75], [1.0, 0.0]], unit="bits").round(4)
        array([1.2075,    inf])
    """
    from scipy.special import xlogy

    p, q = _pair(p, q)
    return (0.0 - xlogy(p, q).sum(axis=-1)) / _nats(unit)


def kl_divergence(p: ArrayLike, q: ArrayLike, unit: Unit = "nats") -> Array:
    """Divergence KL(p‖q) = Σ_k p_k log(p_k/q_k), with 0 log 0 = 0: what a code made for q wastes where p holds.

    Args:
        p: ``[..., K]``.
        q: ``[..., K]``; leading axes broadcast against those of p.
        unit: "nats" or "bits".

    Returns:
        ``[...]``; infinite where q = 0 < p.

    Raises:
        ValueError: rows that are no probabilities, shapes that do not fit each other, or another unit.

    Source:
        Kullback and Leibler (1951), "On information and sufficiency", Annals of Mathematical Statistics 22(1).

    Example:
        >>> kl_divergence([[1.0, 0.0], [0.5, 0.5]], [0.5, 0.5], unit="bits")
        array([1., 0.])
    """
    from scipy.special import rel_entr

    return rel_entr(*_pair(p, q)).sum(axis=-1) / _nats(unit)


# ------------------------------------------------------------------------------------------------------------ checks


def _centered(logits: ArrayLike) -> Array:
    """Logits less each row's largest, ``[..., K]``, so that no exponential overflows."""
    z = np.asarray(logits, dtype=np.float64)
    if z.ndim < 1 or z.shape[-1] < 1:
        raise ValueError(f"logits must have shape [..., K], got {list(z.shape)}")
    largest = z.max(axis=-1, keepdims=True)
    if not np.isfinite(largest).all():  # NaN and +inf are the largest of their row, wherever they are
        raise ValueError("logits must be finite or −inf, and not −inf alone, got a row with NaN or inf or nothing else")
    with np.errstate(over="ignore"):  # to −inf, as it should
        return z - largest


def _log_normalized(centered: Array, scale: float = 1.0) -> Array:
    """Log-probabilities of logits whose largest is 0, times a scale."""
    with np.errstate(over="ignore"):
        scaled = centered * scale
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


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


def _pair(p: ArrayLike, q: ArrayLike) -> tuple[Array, Array]:
    first, second = _distributions("p", p), _distributions("q", q)
    if first.shape[-1] != second.shape[-1]:
        raise ValueError(f"q must have the classes of p, {first.shape[-1]}, got {second.shape[-1]}")
    return first, second


def _labels(name: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.integer]:
    """Class indices for the rows of an array of this shape, ``[..., K]``."""
    label = np.asarray(value)
    if label.shape != shape[:-1] or label.dtype.kind not in "iu":
        expected = f"integers of shape {list(shape[:-1])}"
        raise ValueError(f"{name} must be {expected}, got {label.dtype} of shape {list(label.shape)}")
    if label.size and not (label.min() >= 0 and label.max() < shape[-1]):
        raise ValueError(f"{name} must lie in 0..{shape[-1] - 1}, got {label.min()} to {label.max()}")
    return label


def _weights(sample_weight: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    weight = np.ones(shape) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != shape:
        raise ValueError(f"sample_weight must have shape {list(shape)}, got {list(weight.shape)}")
    if not weight.size:
        raise ValueError(f"there is no row to take the mean over, got shape {list(shape)}")
    if not ((weight >= 0) & np.isfinite(weight)).all() or not weight.any():
        raise ValueError(
            f"sample_weight must be finite, at least 0 and not all 0, got {weight.min()} to {weight.max()}"
        )
    return weight


def _held_out(
    labels: ArrayLike, probabilities: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[NDArray[np.integer], Array, Array]:
    p = _distributions("probabilities", probabilities)
    if p.ndim != 2:
        raise ValueError(f"probabilities must have shape [N, K], got {list(p.shape)}")
    return _labels("labels", labels, p.shape), p, _weights(sample_weight, p.shape[:-1])


def _nats(unit: Unit) -> float:
    """How many nats one of the unit is."""
    if unit not in ("nats", "bits"):
        raise ValueError(f'unit must be "nats" or "bits", got {unit!r}')
    return math.log(2.0) if unit == "bits" else 1.0
