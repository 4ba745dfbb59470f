"""The one objective: L = −(1/Z) Σ_i Σ_k w_ik log p_ik, with the weights w held constant.

Every method of this library is this objective plus a rule for w. With S_i = Σ_k w_ik the gradient with
respect to a row's logits z_i is (S_i p_i − w_i) / Z.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Unchecked kernel: the cost −Σ_k target_k log p_k of every row.

    Args:
        logits: ``[..., K]``, natural-log scale; −inf masks a class.
        targets: class indices, int64 ``[...]``, or class weights, floating point ``[..., K]``.

    Returns:
        One cost a row, in nats, ``[...]``. A class of weight zero contributes zero even at p = 0.

    Example:
        >>> cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]))
        tensor([1.3863, 1.3863])
    """
    log_probabilities = torch.log_softmax(logits, dim=-1)
    if targets.ndim == 1 and logits.ndim == 2 and not targets.is_floating_point():
        return F.nll_loss(log_probabilities, targets, reduction="none")  # the same in one operation
    if targets.is_floating_point():
        # 0·log 0 = 0: without the fill, a masked class would make 0·(−inf) = nan.
        return -(targets * log_probabilities.masked_fill(targets == 0, 0.0)).sum(dim=-1)
    return -log_probabilities.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def objective(
    cost: Callable[[Tensor, Tensor], Tensor],
    outputs: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """L = (1/Z) Σ_i weights_i · cost(outputs, targets)_i, unchecked: what every training descends.

    Classifier, regressor, actor and critic all call it; no other function of the library sums a loss.

    Args:
        cost: (outputs ``[..., n_outputs]``, targets) → one cost a row, ``[...]``: a head's ``cost``, or
            `cross_entropy`.
        outputs: of the network, ``[..., n_outputs]``.
        targets: as ``cost`` takes them.
        weights: one signed number for each cost, ``[...]``, or None for ones. A row of weight zero contributes zero
            even where its cost is infinite.
        normalizer: Z; by default the number of costs, those of weight zero included.

    Returns:
        A scalar tensor.

    Example:
        >>> objective(cross_entropy, torch.zeros(2, 4), torch.tensor([0, 3]), torch.tensor([1.0, 3.0]))
        tensor(2.7726)
    """
    costs = cost(outputs, targets)
    if weights is not None:
        costs = weights * costs.masked_fill(weights == 0, 0.0)
    return costs.mean() if normalizer is None else costs.sum() / normalizer


def weighted_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, normalizer: float | Tensor | None = None
) -> Tensor:
    """L = −(1/Z) Σ_i weights_i Σ_k targets_ik log softmax(logits_i)_k, in nats: `objective` with checked arguments.

    No gradient flows into ``targets`` and ``weights``. The meaning of L depends on how they were made:

    * **Tier A**: the weights do not depend on the parameters. L is the loss (labels, smoothing, class weights).
    * **Tier B**: the method itself holds a weight constant. The gradient of L is the method's estimator, but the
      value of L is not the method's objective (REINFORCE, actor-critic).
    * **Tier C**: the weights reproduce another loss's gradient at the current parameters only. Compute them again at
      every step; the value and the curvature of L are not those of that loss (PPO's clip, the exact focal loss).

    **Signed weights.** With a negative weight L has no lower bound: its value says nothing about the return, and
    repeated steps on the same rows drive it to −∞. Sample new rows, use a ratio with a clip, or keep w ≥ 0.

    Args:
        logits: floating point ``[..., K]`` on any device. −inf masks a class, whose gradient is then zero.
        targets: class indices (integer, ``[...]``) or class weights (floating point, ``[..., K]``; they may have any
            sign and any sum). 0·log 0 = 0.
        weights: one signed number a row, ``[...]``; ones by default.
        normalizer: Z, a positive number or 0-d tensor. By default the number of rows, which is the product of the
            leading dimensions and includes rows of weight zero. (The sum of the weights may be zero.) A training with
            M labels a row has logits ``[B, M, 2]`` and passes B, the rows of X.

    Returns:
        A scalar tensor of the logits' dtype.

    Raises:
        TypeError: an argument is not a tensor, or has the wrong dtype.
        ValueError: shapes do not fit, the batch is empty, a class lies outside 0..K−1, an entry is NaN or infinite
            (other than a −inf logit), every class of a row is masked, a masked class has a non-zero weight, or the
            normaliser is not positive and finite.

    Source:
        Cross-entropy over target weights is standard; Williams (1992), "Simple statistical gradient-following
        algorithms for connectionist reinforcement learning", is the case weights = return, targets = action.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> weighted_cross_entropy(logits, torch.tensor([0, 0]))                       # classification
        tensor(0.7201)
        >>> weighted_cross_entropy(logits, torch.tensor([0, 0]), torch.tensor([3.0, -1.0]))  # REINFORCE
        tensor(-0.4662)
    """
    if isinstance(normalizer, Tensor):
        normalizer = normalizer.detach()
    targets, weights = _checked(logits, targets, weights, normalizer)
    return objective(cross_entropy, logits, targets, weights, normalizer)


def _checked(
    logits: Tensor, targets: Tensor, weights: Tensor | None, normalizer: float | Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Check the arguments of `weighted_cross_entropy`; return targets and weights detached, in the right dtypes."""
    for name, value in (("logits", logits), ("targets", targets), ("weights", weights)):
        if not isinstance(value, Tensor) and not (name == "weights" and value is None):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}")
    if logits.ndim == 0 or 0 in logits.shape:
        raise ValueError(f"logits must have shape [..., K], not empty and with K >= 1, got {list(logits.shape)}")
    values, classes = logits.detach(), logits.shape[-1]
    masked = values == -math.inf
    _refuse(values.isnan() | (values == math.inf), "logits must be finite or -inf", values)
    _refuse(masked.all(dim=-1), "every class is masked (-inf) in the row of logits")

    targets = targets.detach()
    if targets.is_floating_point():
        _check_shape("floating-point targets", targets, logits.shape, "class indices must be integers")
        targets = targets.to(logits.dtype)
        _refuse(~targets.isfinite(), "targets must be finite", targets)
        on_masked = (masked & (targets != 0)).any(dim=-1)
    elif targets.dtype == torch.bool or targets.is_complex():
        raise TypeError(f"targets must be integer class indices or floating-point class weights, got {targets.dtype}")
    else:
        _check_shape("integer targets", targets, logits.shape[:-1], "class weights must be floating point")
        targets = targets.long()
        _refuse((targets < 0) | (targets >= classes), f"targets must be classes 0..{classes - 1}", targets)
        on_masked = masked.gather(-1, targets.unsqueeze(-1)).squeeze(-1)

    if weights is not None:
        weights = weights.detach()
        if weights.is_complex():
            raise TypeError(f"weights must be real numbers, got {weights.dtype}")
        _check_shape("weights", weights, logits.shape[:-1], "class weights belong in targets")
        weights = weights.to(logits.dtype)
        _refuse(~weights.isfinite(), "weights must be finite", weights)
        on_masked = on_masked & (weights != 0)
    _refuse(on_masked, "a masked class (logit -inf) carries a non-zero weight in the row")
    if normalizer is not None and not (np.ndim(normalizer) == 0 and 0 < normalizer < math.inf):
        raise ValueError(f"normalizer must be positive and finite, a number or a 0-d tensor, got {normalizer}")
    return targets, weights


def _refuse(wrong: Tensor, problem: str, values: Tensor | None = None) -> None:
    """Raise an error that names the first entry where ``wrong`` is true."""
    if wrong.any():
        index = wrong.nonzero()[0].tolist()
        got = "" if values is None else f", got {values[tuple(index)].item()}"
        raise ValueError(f"{problem}{got} at index {index}")


def _check_shape(name: str, value: Tensor, shape: torch.Size, hint: str) -> None:
    if value.shape != shape:
        raise ValueError(f"{name} must have the shape that fits logits, {list(shape)}, got {list(value.shape)}; {hint}")
