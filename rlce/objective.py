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

    Classifier, regressor, actor and critic call it; no other function of the library sums a loss.

    Args:
        cost: (outputs ``[..., n_outputs]``, targets) → one cost a row, ``[...]``: a head's ``cost``, or
            `cross_entropy`.
        outputs: of the network, ``[..., n_outputs]``.
        targets: as ``cost`` takes them. They and the weights are data: no gradient flows into them.
        weights: one signed number for each cost, ``[...]``, or None for ones. A row of weight zero contributes zero
            even where its cost is infinite.
        normalizer: Z, used as it is; by default the number of costs, those of weight zero included.

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
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    r"""L = −(1/Z) Σ_i weights_i Σ_k targets_ik log softmax(logits_i)_k, in nats: `objective`, its arguments checked.

    ``targets`` and ``weights`` are data: no gradient flows into them. What L *is* depends on how they were made:

    * **Tier A**, the weights do not depend on the parameters: L is the loss (labels, smoothing, class weights).
    * **Tier B**, the method itself holds a weight constant: the gradient of L is the method's estimator, its
      value is not the method's objective (REINFORCE, actor-critic).
    * **Tier C**, the weights reproduce another loss's gradient at the current parameters only and must be made
      anew at each step: the value and the curvature of L are not that loss's (PPO's clip, the exact focal loss).

    **Signed weights.** With a negative weight L has no lower bound: its value then says nothing about return, and
    repeating a step on the same rows drives it to −∞. Sample afresh, use a ratio with a clip, or keep w ≥ 0.

    Args:
        logits: floating point ``[..., K]`` on any device. −inf masks a class, whose gradient is then zero.
        targets: class indices (integer, ``[...]``) or class weights (floating point, ``[..., K]``; rows need
            not sum to 1 and may be signed). 0·log 0 = 0.
        weights: one signed number a row, ``[...]``; ones by default.
        normalizer: Z, a positive number or 0-d tensor, used as it is. By default the number of rows passed, the
            product of the leading dimensions, rows of weight zero included (never the sum of the weights,
            which may be zero). A training divides by rows of X instead: where a row has M labels, logits are
            ``[B, M, 2]``, and it passes B.

    Returns:
        A scalar tensor of the logits' dtype.

    Raises:
        TypeError: an argument is no tensor, or of the wrong dtype.
        ValueError: shapes that do not fit, an empty batch, a class outside 0..K−1, NaN or infinity (other than a
            −inf logit), a row with every class masked, a non-zero weight on a masked class, or a normaliser
            that is not positive and finite.

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
    """Check the arguments of `weighted_cross_entropy`; return targets and weights detached, in fitting dtypes."""
    for name, value in (("logits", logits), ("targets", targets), ("weights", weights)):
        if not isinstance(value, Tensor) and not (name == "weights" and value is None):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point, got {logits.dtype}")
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits must have shape [..., K] with K >= 1, got {list(logits.shape)}")
    rows, classes = logits.shape[:-1], logits.shape[-1]
    if logits.numel() == 0:
        raise ValueError(f"the batch is empty: logits have shape {list(logits.shape)}")
    values = logits.detach()
    bad = values.isnan() | (values == math.inf)
    if bad.any():
        raise ValueError(
            f"logits must be finite or -inf, got {values[bad][0].item()} at index {_first(bad)} "
            f"of shape {list(logits.shape)}"
        )
    masked = values == -math.inf
    if masked.all(dim=-1).any():
        raise ValueError(f"every class is masked (-inf) in the row of logits at {_first(masked.all(dim=-1))}")

    targets = targets.detach()
    if targets.is_floating_point():
        if targets.shape != logits.shape:
            raise ValueError(
                f"floating-point targets must have the shape of logits, {list(logits.shape)}, "
                f"got {list(targets.shape)}; "
                "class indices must be integers"
            )
        targets = targets.to(logits.dtype)
        if not targets.isfinite().all():
            raise ValueError(f"targets must be finite, got a NaN or infinity at index {_first(~targets.isfinite())}")
        on_masked = (masked & (targets != 0)).any(dim=-1)
    else:
        if targets.dtype == torch.bool or targets.is_complex():
            raise TypeError(
                f"targets must be integer class indices or floating-point class weights, got {targets.dtype}"
            )
        if targets.shape != rows:
            raise ValueError(
                f"integer targets must have the leading shape of logits, {list(rows)}, got {list(targets.shape)}; "
                "class weights must be floating point"
            )
        targets = targets.long()
        outside = (targets < 0) | (targets >= classes)
        if outside.any():
            raise ValueError(
                f"targets must be classes 0..{classes - 1}, got {targets[outside][0].item()} at index {_first(outside)}"
            )
        on_masked = masked.gather(-1, targets.unsqueeze(-1)).squeeze(-1)

    if weights is not None:
        weights = weights.detach()
        if weights.is_complex():
            raise TypeError(f"weights must be real numbers, got {weights.dtype}")
        if weights.shape != rows:
            raise ValueError(
                f"weights must hold one number a row, shape {list(rows)}, got {list(weights.shape)}; "
                "class weights belong in targets"
            )
        weights = weights.to(logits.dtype)
        if not weights.isfinite().all():
            raise ValueError(f"weights must be finite, got a NaN or infinity at index {_first(~weights.isfinite())}")
        on_masked = on_masked & (weights != 0)
    if on_masked.any():
        raise ValueError(f"a masked class (logit -inf) carries a non-zero weight in the row at {_first(on_masked)}")
    if normalizer is not None:
        if not isinstance(normalizer, Tensor | int | float | np.number):
            raise TypeError(f"normalizer must be a number or a 0-d tensor, got {type(normalizer).__name__}")
        if isinstance(normalizer, Tensor) and normalizer.ndim != 0:
            raise ValueError(f"normalizer must be a number or a 0-d tensor, got shape {list(normalizer.shape)}")
        if not 0 < float(normalizer) < math.inf:
            raise ValueError(f"normalizer must be positive and finite, got {float(normalizer)}")
    return targets, weights


def _first(where: Tensor) -> list[int]:
    """Index of the first true entry."""
    return where.nonzero()[0].tolist()
