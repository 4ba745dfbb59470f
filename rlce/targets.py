"""Supervised rules: from class labels to rows of target weights.

A rule is a pure function ``(labels [B], classes) → targets [B, K]``; `rlce.Classifier` takes any. Parameters are
bound with `functools.partial`: ``Classifier(rule=partial(smooth, epsilon=0.2))``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Weights w = e_y: all weight on the label (tier A: the loss is cross-entropy).

    Args:
        labels: class indices, int64 ``[...]``.
        classes: K.

    Returns:
        ``[..., K]``, of torch's default dtype (float32 unless changed).

    Raises:
        RuntimeError: a label outside 0..K−1.

    Example:
        >>> one_hot(torch.tensor([2]), 3)
        tensor([[0., 0., 1.]])
    """
    return F.one_hot(labels, classes).to(torch.get_default_dtype())


def smooth(labels: Tensor, classes: int, epsilon: float = 0.1) -> Tensor:
    """Weights w = (1−ε) e_y + ε/K: part of the weight spread over all classes (tier A: smoothed cross-entropy).

    Args:
        labels: class indices, int64 ``[...]``.
        classes: K.
        epsilon: ε in [0, 1].

    Returns:
        ``[..., K]``, of torch's default dtype; rows sum to 1.

    Raises:
        ValueError: ε outside [0, 1].

    Source:
        Szegedy et al. (2016), arXiv 1512.00567, section 7.

    Example:
        >>> smooth(torch.tensor([0]), 2, epsilon=0.5)
        tensor([[0.7500, 0.2500]])
    """
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon must lie in [0, 1], got {epsilon}")
    return (1.0 - epsilon) * one_hot(labels, classes) + epsilon / classes
