"""Supervised rules: from class labels to what the objective is given.

All are pure functions. A rule says by its first parameter's name what it works on, and by the others' what else it
needs; `rlce.Classifier` takes any of them as ``rule``, or several, with what is left bound by `functools.partial`::

    Classifier(rule=[partial(smooth, epsilon=0.05), logit_adjusted, partial(generalized_cross_entropy, q=0.5)])

Several rules are applied in this order, whatever the order they are given in (those of one kind in the given order):

==============  ==================================================================  ================================
first           what the rule gives                                                 rules
==============  ==================================================================  ================================
``all_labels``  probabilities ``[N]`` that the rows of an epoch are drawn with      `balanced_sampling`
``labels``      target weights ``[..., K]``                                         `smooth`, `drawn_smoothing` …
``inputs``      inputs, targets and sample weights of mixed rows                    `mixup`
``logits``      other logits, for the loss alone                                    `logit_adjusted`, `label_margin` …
``targets``     other target weights, from the current outputs                      `focal`, `squared_error` …
``counts``      class weights c ``[K]``, which the target weights are scaled with   `class_balanced` …
==============  ==================================================================  ================================

Class weights scale the target weights class by class, c_k w_k; with rules of the current outputs, whose weights may
stand on other classes than the label's, the whole row by Σ_k c_k q_k of the targets before. `two_class_rows` among the
rules is no transform: it gives every class a sigmoid, a row of two classes each, and the other rules work on those.

Rules of ``labels`` make data (tier A), as do class weights; transforms of the logits leave the targets as they are, and
the gradient flows through them (tier A). Rules of the current outputs reproduce another loss's gradient at the current
parameters, so they are made anew at every step, and the objective's value is not that loss (tier C).

``labels`` and ``targets`` are class indices, int64 ``[...]``, or rows of target weights, floating point ``[..., K]``:
for labels known only up to probabilities q, q itself is the target. ``counts`` are sums of sample weights, and
``dtype`` is the network's number type, which a rule of labels may name to lose no precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rlce.heads import Bernoulli

# ------------------------------------------------------------------------------------------------------- targets


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype | None = None) -> Tensor:
    """Weights w = e_y: all weight on the label (tier A: the loss is cross-entropy).

    Args:
        labels: class indices, int64 ``[...]``; or rows of target weights, ``[..., K]``, which stay as they are.
        classes: K.
        dtype: of the weights, where labels are indices; torch's default if None.

    Returns:
        ``[..., K]``.

    Raises:
        RuntimeError: a label outside 0..K−1.
        ValueError: rows of another length.

    Example:
        >>> one_hot(torch.tensor([2]), 3)
        tensor([[0., 0., 1.]])
    """
    if labels.is_floating_point():
        if labels.shape[-1] != classes:
            raise ValueError(f"labels: target weights must have shape [..., {classes}], got {list(labels.shape)}")
        return labels
    return F.one_hot(labels, classes).to(torch.get_default_dtype() if dtype is None else dtype)


def smooth(labels: Tensor, classes: int, epsilon: float = 0.1, dtype: torch.dtype | None = None) -> Tensor:
    """Weights w = (1−ε) e_y + ε/K: part of the weight spread over all classes (tier A: smoothed cross-entropy).

    Args:
        labels: class indices, int64 ``[...]``, or rows of probabilities ``[..., K]``.
        classes: K.
        epsilon: ε in [0, 1].
        dtype: of the weights, where labels are indices; torch's default if None.

    Returns:
        ``[..., K]``; rows sum to 1.

    Raises:
        ValueError: ε outside [0, 1].

    Source:
        Szegedy et al. (2016), arXiv 1512.00567, section 7.

    Example:
        >>> smooth(torch.tensor([0]), 2, epsilon=0.5)
        tensor([[0.7500, 0.2500]])
    """
    _in_unit_interval("epsilon", epsilon)
    return (1.0 - epsilon) * one_hot(labels, classes, dtype) + epsilon / classes


def smooth_off_class(labels: Tensor, classes: int, epsilon: float = 0.1, dtype: torch.dtype | None = None) -> Tensor:
    """Weights w_y = 1−ε and ε/(K−1) elsewhere: smoothing that leaves the label exactly 1−ε (tier A).

    It is `smooth` with ε' = εK/(K−1).

    Args:
        labels: class indices, int64 ``[...]``, or rows of probabilities ``[..., K]``.
        classes: K >= 2.
        epsilon: ε in [0, 1].
        dtype: of the weights, where labels are indices; torch's default if None.

    Returns:
        ``[..., K]``; rows sum to 1.

    Raises:
        ValueError: ε outside [0, 1], or fewer than two classes.

    Source:
        The convention of fairseq's ``label_smoothed_cross_entropy``; Szegedy et al. (2016) and PyTorch have the other.

    Example:
        >>> smooth_off_class(torch.tensor([0]), 3, epsilon=0.5)
        tensor([[0.5000, 0.2500, 0.2500]])
    """
    _in_unit_interval("epsilon", epsilon)
    if classes < 2:
        raise ValueError(f"smoothing over the other classes needs classes >= 2, got {classes}")
    label = one_hot(labels, classes, dtype)
    return (1.0 - epsilon) * label + epsilon / (classes - 1) * (1.0 - label)


def drawn_smoothing(labels: Tensor, classes: int, generator: torch.Generator, epsilon: float = 0.1) -> Tensor:
    """Weights w = e_y', y' = y but for a part ε of the rows, whose label is drawn from all classes (tier A a draw).

    The mean over draws is `smooth`, and so is the mean of the gradient; its variance is larger.

    Args:
        labels: class indices, int64 ``[...]``, or rows of probabilities ``[..., K]``.
        classes: K.
        generator: the source of the draws, on the CPU.
        epsilon: ε in [0, 1].

    Returns:
        ``[..., K]``; rows sum to 1.

    Raises:
        ValueError: ε outside [0, 1].

    Source:
        Xie et al. (2016), "DisturbLabel", arXiv 1605.00055.

    Example:
        >>> drawn_smoothing(torch.tensor([0, 0]), 2, torch.Generator().manual_seed(0), epsilon=0.5)
        tensor([[0., 1.],
                [1., 0.]])
    """
    _in_unit_interval("epsilon", epsilon)
    rows = one_hot(labels, classes)
    replaced = torch.rand(rows.shape[:-1], generator=generator) < epsilon
    drawn = torch.randint(classes, rows.shape[:-1], generator=generator)
    return torch.where(replaced.to(rows.device).unsqueeze(-1), one_hot(drawn, classes).to(rows), rows)


def mix_labels(
    labels: Tensor,
    classes: int,
    partner_labels: Tensor,
    share: float | Tensor,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Weights w = λ e_y + (1−λ) e_y': the labels of inputs λx + (1−λ)x' (tier A).

    Args:
        labels: class indices y, int64 ``[...]``, or rows of probabilities ``[..., K]``.
        classes: K.
        partner_labels: the same of the inputs mixed in.
        share: λ in [0, 1], a number or one a row, ``[...]``; the one the inputs were mixed with.
        dtype: of the weights, where labels are indices; torch's default if None.

    Returns:
        ``[..., K]``; rows sum to 1.

    Raises:
        ValueError: λ outside [0, 1], or labels of different shapes.

    Source:
        Zhang et al. (2018), arXiv 1710.09412.

    Example:
        >>> mix_labels(torch.tensor([0]), 3, torch.tensor([2]), share=0.75)
        tensor([[0.7500, 0.0000, 0.2500]])
    """
    if labels.shape != partner_labels.shape:
        raise ValueError(
            f"partner_labels must have the shape of labels, {list(labels.shape)}, got {list(partner_labels.shape)}"
        )
    one, other = one_hot(labels, classes, dtype), one_hot(partner_labels, classes, dtype)
    part = torch.as_tensor(share, dtype=one.dtype, device=labels.device)
    if not ((part >= 0) & (part <= 1)).all():
        raise ValueError(f"share must lie in [0, 1], got {share}")
    part = part.unsqueeze(-1)
    return part * one + (1.0 - part) * other


def mixup(
    inputs: Tensor, targets: Tensor, classes: int, weights: Tensor, generator: torch.Generator, alpha: float = 0.2
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows λx + (1−λ)x' with targets λq + (1−λ)q': every row of a batch and a partner drawn from it (tier A a draw).

    One λ ~ Beta(α, α) a batch, as the authors have it. A pair's sample weight is the product of its rows', since that
    is how often a pair comes up where rows are repeated instead.

    Args:
        inputs: ``[B, D]`` (or any trailing shape).
        targets: class indices, int64 ``[B]``, or target weights ``[B, K]``.
        classes: K.
        weights: sample weights ``[B]``, mean 1 over all rows.
        generator: the source of λ and of the partners, on the CPU.
        alpha: α > 0; towards 0 rows stay as they are, at 1 λ is uniform.

    Returns:
        (inputs ``[B, D]``, target weights ``[B, K]``, weights ``[B]``).

    Raises:
        ValueError: α not positive.

    Source:
        Zhang et al. (2018), arXiv 1710.09412.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
        >>> inputs, targets, _ = mixup(x, y, 2, torch.ones(2), torch.Generator().manual_seed(2), alpha=1.0)
        >>> bool((inputs == targets[:, 1:]).all())
        True
    """
    if not 0.0 < alpha < math.inf:
        raise ValueError(f"alpha must be positive and finite, got {alpha}")
    # A Beta variate is a quotient of two Gamma variates; torch's own Beta would draw from the global generator.
    pair = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator)
    share = float(pair[0] / pair.sum()) if pair.sum() > 0 else 1.0
    partner = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    mixed = share * inputs + (1.0 - share) * inputs[partner]
    return mixed, mix_labels(targets, classes, targets[partner], share, mixed.dtype), weights * weights[partner]


def distill(teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Weights w_k = softmax(teacher/T)_k: a teacher's softened probabilities (tier A).

    At T ≠ 1 the student's logits must be divided by T too (`tempered`); multiply the loss by T² (or pass Z/T² as
    normaliser) to keep its gradient's size. The value is T² KL(teacher‖student) plus the teacher's entropy times T².

    Args:
        teacher_logits: ``[..., K]``.
        temperature: T > 0.

    Returns:
        ``[..., K]``, of the teacher's dtype; rows sum to 1.

    Raises:
        ValueError: T not positive.

    Source:
        Hinton et al. (2015), arXiv 1503.02531, section 2.

    Example:
        >>> distill(torch.tensor([0.0, 2.0]), temperature=2.0)
        tensor([0.2689, 0.7311])
    """
    return tempered(teacher_logits.detach(), temperature).softmax(dim=-1)


def scale_classes(targets: Tensor, class_weights: Tensor | Sequence[float]) -> Tensor:
    """Weights w_k = c_k q_k: any row of targets with its classes re-weighted (tier A).

    The objective's default Z = N gives PyTorch's ``cross_entropy(weight=c)`` with *probability* targets. PyTorch's
    *index* targets, smoothed or not, have the same w and Z = Σ_i c_{y_i} (`class_weight_sum`).

    Args:
        targets: class indices, int64 ``[...]``, or rows q, ``[..., K]``.
        class_weights: c, ``[K]``.

    Returns:
        ``[..., K]``.

    Raises:
        ValueError: other than K class weights.

    Source:
        PyTorch's documentation of ``torch.nn.CrossEntropyLoss``.

    Example:
        >>> scale_classes(torch.tensor([[0.5, 0.5]]), [1.0, 3.0])
        tensor([[0.5000, 1.5000]])
    """
    if not targets.is_floating_point():
        targets = one_hot(targets, len(class_weights))
    weights = torch.as_tensor(class_weights, dtype=targets.dtype, device=targets.device)
    if weights.ndim == 0 or weights.shape != targets.shape[targets.ndim - weights.ndim :]:
        raise ValueError(f"class_weights must have shape [K] = {list(targets.shape[-1:])}, got {list(weights.shape)}")
    return targets * weights


def class_weighted(
    labels: Tensor,
    classes: int,
    class_weights: Tensor | Sequence[float],
    epsilon: float = 0.0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Weights w_k = c_k ((1−ε)1[k=y] + ε/K): class weights, with smoothing as PyTorch combines them (tier A).

    Note c_k on the smoothed part, not c_y. Z = N by default; PyTorch divides by `class_weight_sum`.

    Args:
        labels: class indices, int64 ``[...]``.
        classes: K.
        class_weights: c, ``[K]``, such as `class_balanced` gives.
        epsilon: ε in [0, 1].
        dtype: of the weights, where labels are indices; torch's default if None.

    Returns:
        ``[..., K]``; w = c_y e_y at ε = 0.

    Raises:
        ValueError: ε outside [0, 1], or other than K class weights.

    Source:
        PyTorch's documentation of ``torch.nn.CrossEntropyLoss``.

    Example:
        >>> class_weighted(torch.tensor([0, 1]), 2, [1.0, 3.0])
        tensor([[1., 0.],
                [0., 3.]])
    """
    return scale_classes(smooth(labels, classes, epsilon, dtype), class_weights)


# ---------------------------------------------------------------------------------------------- which rows are drawn


def balanced_sampling(all_labels: Tensor, all_weights: Tensor, classes: int) -> Tensor:
    """Probabilities of drawing a class first, each as likely, then one of its rows by sample weight (tier A a draw).

    Args:
        all_labels: of all training rows: class indices, int64 ``[N]``, or rows of probabilities ``[N, K]``.
        all_weights: their sample weights, ``[N]``; they are used up here, and the drawn rows count 1 each.
        classes: K. A class without a row is passed over.

    Returns:
        ``[N]`` float64; sums to 1.

    Source:
        Standard; Shen et al. (2016), arXiv 1512.05830, call it class-aware sampling.

    Example:
        >>> balanced_sampling(torch.tensor([0, 0, 0, 1]), torch.ones(4), 2)
        tensor([0.1667, 0.1667, 0.1667, 0.5000], dtype=torch.float64)
    """
    weights = all_weights.double()
    if all_labels.is_floating_point():
        share = weights.unsqueeze(-1) * all_labels
        total = share.sum(dim=0)
        return (share / torch.where(total > 0, total, 1.0)).sum(dim=-1) / (total > 0).sum()
    total = torch.bincount(all_labels, weights, classes)
    return weights / total[all_labels] / (total > 0).sum()


# ------------------------------------------------------------------------------------------------- class weights


def class_weight_sum(labels: Tensor, class_weights: Tensor | Sequence[float]) -> Tensor:
    """Z = Σ_i c_{y_i}: what PyTorch divides by with class weights and index targets.

    Args:
        labels: class indices, int64 ``[...]``.
        class_weights: c, ``[K]``.

    Returns:
        A 0-d tensor, the ``normalizer`` of the objective.

    Example:
        >>> class_weight_sum(torch.tensor([0, 1, 1]), [1.0, 3.0])
        tensor(7.)
    """
    weights = torch.as_tensor(class_weights, device=labels.device)
    return weights[labels].sum()


def inverse_frequency(counts: Tensor | Sequence[float]) -> Tensor:
    """Class weights c_k ∝ 1/n_k, scaled to sum K: every class the same say (scikit-learn's "balanced", up to scale).

    Args:
        counts: n, rows of each class in the training data, ``[K]`` (``[..., K]`` for several sets of classes).

    Returns:
        c, ``[K]``.

    Raises:
        ValueError: a class without a row, whose weight would be infinite.

    Source:
        Standard; see Cui et al. (2019), arXiv 1901.05555, for what it is worth.

    Example:
        >>> inverse_frequency([30, 10])
        tensor([0.5000, 1.5000])
    """
    return _scaled(1.0 / _counts(counts))


def class_balanced(counts: Tensor | Sequence[float], beta: float = 0.999) -> Tensor:
    """Class weights c_k ∝ (1−β)/(1−β^{n_k}), scaled to sum K: one over the effective number of rows.

    β = 0 weights nothing, β → 1 is `inverse_frequency`.

    Args:
        counts: n, rows of each class in the training data, ``[K]`` (``[..., K]`` for several sets of classes).
        beta: β in [0, 1).

    Returns:
        c, ``[K]``.

    Raises:
        ValueError: β outside [0, 1), or a class without a row.

    Source:
        Cui et al. (2019), "Class-balanced loss based on effective number of samples", arXiv 1901.05555.

    Example:
        >>> class_balanced([1, 2], beta=0.5)
        tensor([1.2000, 0.8000])
    """
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"beta must lie in [0, 1), got {beta}")
    number = _counts(counts)
    # 1 − β^n without cancellation where β is near 1. At β = 0 the logarithm is −∞ and the result exactly 1.
    effective = -torch.expm1(number * torch.tensor(beta, dtype=number.dtype).log())
    return _scaled((1.0 - beta) / effective)


# --------------------------------------------------------------------------------------- of the current outputs


def focal(targets: Tensor, logits: Tensor, gamma: float = 2.0) -> Tensor:
    """Weights w = sg[(1−p)^γ − γ p (1−p)^{γ−1} log p] e_y: the exact gradient of −(1−p)^γ log p, p = p_y (tier C).

    Args:
        targets: class indices, int64 ``[...]``, or target weights q, ``[..., K]``.
        logits: ``[..., K]``, the current outputs.
        gamma: γ >= 0; 0 is cross-entropy.

    Returns:
        ``[..., K]``.

    Raises:
        ValueError: γ negative.

    Source:
        Lin et al. (2017), arXiv 1708.02002, equation 4.

    Example:
        >>> focal(torch.tensor([0]), torch.zeros(1, 2))  # (1/2)² + 2·½·½·log 2
        tensor([[0.5966, 0.0000]])
    """
    _not_negative("gamma", gamma)
    log_probability = _log_probabilities(logits)
    rest = -torch.expm1(log_probability)  # 1 − p, precise where p is near 1
    # (1−p)^{γ−1} log p = (1−p)^γ · log p/(1−p), whose second factor tends to −1 as p → 1.
    slope = torch.where(rest > 0, log_probability / rest, -1.0)
    return _scaled_targets(targets, rest.pow(gamma) * (1.0 - gamma * log_probability.exp() * slope))


def focal_modulated(targets: Tensor, logits: Tensor, gamma: float = 2.0) -> Tensor:
    """Weights w = sg[(1−p)^γ] e_y: cross-entropy with a detached modulating factor. NOT focal loss's gradient (tier B).

    Often taken for the focal loss; the term that is missing is as large as the one that is there (see `focal`).

    Args:
        targets: class indices, int64 ``[...]``, or target weights q, ``[..., K]``.
        logits: ``[..., K]``, the current outputs.
        gamma: γ >= 0.

    Returns:
        ``[..., K]``.

    Raises:
        ValueError: γ negative.

    Example:
        >>> focal_modulated(torch.tensor([0]), torch.zeros(1, 2))
        tensor([[0.2500, 0.0000]])
    """
    _not_negative("gamma", gamma)
    return _scaled_targets(targets, (-torch.expm1(_log_probabilities(logits))).pow(gamma))


def generalized_cross_entropy(targets: Tensor, logits: Tensor, q: float = 0.7) -> Tensor:
    """Weights w = sg[p_y^q] e_y: the gradient of (1 − p_y^q)/q, robust to wrong labels (tier C).

    q → 0 is cross-entropy, q = 1 the mean absolute error 1 − p_y.

    Args:
        targets: class indices, int64 ``[...]``, or target weights q, ``[..., K]``.
        logits: ``[..., K]``, the current outputs.
        q: in [0, 1].

    Returns:
        ``[..., K]``.

    Raises:
        ValueError: q outside [0, 1].

    Source:
        Zhang and Sabuncu (2018), arXiv 1805.07836.

    Example:
        >>> generalized_cross_entropy(torch.tensor([0]), torch.zeros(1, 4), q=0.5)
        tensor([[0.5000, 0.0000, 0.0000, 0.0000]])
    """
    _in_unit_interval("q", q)
    return _scaled_targets(targets, (q * _log_probabilities(logits)).exp())


def poly_one(targets: Tensor, logits: Tensor, epsilon: float = 1.0) -> Tensor:
    """Weights w = sg[1 + ε p_y] e_y: the gradient of −log p_y + ε(1 − p_y), Poly-1 (tier C).

    Args:
        targets: class indices, int64 ``[...]``, or target weights q, ``[..., K]``.
        logits: ``[..., K]``, the current outputs.
        epsilon: ε >= −1; below, the loss would not fall with p_y everywhere.

    Returns:
        ``[..., K]``.

    Raises:
        ValueError: ε below −1.

    Source:
        Leng et al. (2022), arXiv 2204.12511.

    Example:
        >>> poly_one(torch.tensor([0]), torch.zeros(1, 2))
        tensor([[1.5000, 0.0000]])
    """
    if not epsilon >= -1.0:
        raise ValueError(f"epsilon must be at least -1, got {epsilon}")
    return _scaled_targets(targets, 1.0 + epsilon * _log_probabilities(logits).exp())


def expected_accuracy(targets: Tensor, logits: Tensor) -> Tensor:
    """Weights w = sg[p_y] e_y: the gradient of −p_y, the expected number of right draws (tier C).

    It is the all-action policy gradient with reward 1[k=y], so rows with small p_y hardly count.

    Args:
        targets: class indices, int64 ``[...]``, or target weights q, ``[..., K]``.
        logits: ``[..., K]``, the current outputs.

    Returns:
        ``[..., K]``.

    Example:
        >>> expected_accuracy(torch.tensor([0]), torch.zeros(1, 4))
        tensor([[0.2500, 0.0000, 0.0000, 0.0000]])
    """
    return _scaled_targets(targets, _log_probabilities(logits).exp())


def squared_error(targets: Tensor, logits: Tensor) -> Tensor:
    """Weights w_k = sg[(q_k − p_k) p_k]: the gradient of ½ Σ_k (p_k − q_k)², squared error on probabilities (tier C).

    What cross-entropy is compared with: the factor p_k makes a row that is wrong and sure of it hardly count. On
    `two_class_rows` it is squared error on sigmoids, (σ − q)² a label.

    Args:
        targets: class indices, int64 ``[...]``, or target weights q, ``[..., K]``.
        logits: ``[..., K]``, the current outputs.

    Returns:
        ``[..., K]``, signed.

    Source:
        Brier (1950), "Verification of forecasts expressed in terms of probability", as a loss.

    Example:
        >>> squared_error(torch.tensor([0]), torch.zeros(1, 2))
        tensor([[ 0.2500, -0.2500]])
    """
    p = _log_probabilities(logits).exp()
    return (one_hot(targets, logits.shape[-1]).to(p) - p) * p


# ------------------------------------------------------------------------------------------------- of the logits


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits z/T, as distillation at a temperature wants them of the student (tier A).

    Args:
        logits: ``[..., K]``.
        temperature: T > 0.

    Returns:
        ``[..., K]``.

    Raises:
        ValueError: T not positive.

    Example:
        >>> tempered(torch.tensor([4.0, 0.0]), 2.0)
        tensor([2., 0.])
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return logits / temperature


def logit_adjusted(logits: Tensor, counts: Tensor | Sequence[float], tau: float = 1.0) -> Tensor:
    """Logits z_k + τ log π_k with the class frequencies π: for training on a long tail; predict with z (tier A).

    τ = 1 is the balanced softmax, whose z is right for classes as frequent as each other.

    Args:
        logits: ``[..., K]``.
        counts: rows of each class in the training data, ``[K]``.
        tau: τ.

    Returns:
        ``[..., K]``.

    Raises:
        ValueError: a class without a row, or other than K counts.

    Source:
        Menon et al. (2021), arXiv 2007.07314; balanced softmax, Ren et al. (2020), arXiv 2007.10740.

    Example:
        >>> logit_adjusted(torch.zeros(1, 2), [3, 1]).softmax(dim=-1)
        tensor([[0.7500, 0.2500]])
    """
    number = _counts(counts, like=logits)
    return logits + tau * (number / number.sum(dim=-1, keepdim=True)).log()


def label_margin(
    logits: Tensor,
    labels: Tensor,
    counts: Tensor | Sequence[float],
    largest: float = 0.5,
    scale: float = 1.0,
) -> Tensor:
    """Logits s(z_k − Δ_k 1[k=y]) with Δ_k ∝ n_k^{−1/4}: LDAM, a larger margin for rarer classes (tier A).

    Args:
        logits: ``[..., K]``.
        labels: class indices, int64 ``[...]``, or rows q ``[..., K]``, whose margin is Δ_k q_k.
        counts: rows of each class in the training data, ``[K]``.
        largest: margin of the rarest class.
        scale: s > 0; the authors take 30, with logits that are cosines.

    Returns:
        ``[..., K]``.

    Raises:
        ValueError: a class without a row, other than K counts, or a scale that is not positive.

    Source:
        Cao et al. (2019), arXiv 1906.07413.

    Example:
        >>> label_margin(torch.zeros(1, 2), torch.tensor([0]), [16, 1])
        tensor([[-0.2500,  0.0000]])
    """
    if not scale > 0.0:
        raise ValueError(f"scale must be positive, got {scale}")
    margin = _counts(counts, like=logits).pow(-0.25)
    margin = largest * margin / margin.amax(dim=-1, keepdim=True)
    return scale * (logits - margin * one_hot(labels, logits.shape[-1]).to(logits))


def two_class_rows(logits: Tensor) -> Tensor:
    """Logits (0, z_m) of one two-class row a label: one-vs-all sigmoids as cross-entropy (tier A).

    The targets are the labels themselves as class indices, 0 or 1, ``[..., M]``; softmax(0, z) is sigmoid(z). Z counts
    labels by default, as PyTorch's mean does.

    Args:
        logits: one a label, ``[..., M]``.

    Returns:
        ``[..., M, 2]``.

    Example:
        >>> two_class_rows(torch.tensor([[1.0, -1.0]]))
        tensor([[[ 0.,  1.],
                 [ 0., -1.]]])
    """
    return Bernoulli(logits.shape[-1]).rows(logits)


def _log_probabilities(logits: Tensor) -> Tensor:
    """Log-probabilities without a graph, ``[..., K]``."""
    return logits.detach().log_softmax(dim=-1)


def _scaled_targets(targets: Tensor, factor: Tensor) -> Tensor:
    """Targets times factors ``[..., K]``, of the factors' dtype; zero where the target is, whatever the factor."""
    rows = one_hot(targets, factor.shape[-1]).to(factor)
    return torch.where(rows == 0, 0.0, rows * factor)


def _counts(counts: Tensor | Sequence[float], like: Tensor | None = None) -> Tensor:
    """Checked counts: of the type of ``like``, else of their own if it is floating point, else of torch's default."""
    if like is not None:
        number = torch.as_tensor(counts, dtype=like.dtype, device=like.device)
    elif isinstance(counts, Tensor) and counts.is_floating_point():
        number = counts
    else:
        number = torch.as_tensor(counts, dtype=torch.get_default_dtype())
    if number.ndim == 0 or (like is not None and number.shape != like.shape[like.ndim - number.ndim :]):
        wanted = "[..., K]" if like is None else f"[K] = {list(like.shape[-1:])}"
        raise ValueError(f"counts must have shape {wanted}, got {list(number.shape)}")
    if not (number > 0).all():
        where = (~(number > 0)).nonzero()[0].tolist()
        raise ValueError(f"counts must all be positive, got {number[tuple(where)].item()} for class {where[-1]}")
    return number


def _scaled(weights: Tensor) -> Tensor:
    """Scaled to sum K."""
    return weights * (weights.shape[-1] / weights.sum(dim=-1, keepdim=True))


def _in_unit_interval(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")


def _not_negative(name: str, value: float) -> None:
    if not value >= 0.0:
        raise ValueError(f"{name} must be at least 0, got {value}")
