"""Supervised rules: from class labels to the inputs of the objective.

All are pure functions. The name of a rule's first parameter states what it works on; the names of the others state what
else it needs. Pass one or several to `rlce.Classifier` as ``rule``; set numbers with `functools.partial`::

    Classifier(rule=[partial(smooth, epsilon=0.05), logit_adjusted, partial(generalized_cross_entropy, q=0.5)])

Several rules are applied in the order of this table; rules of one kind keep the order in which they were given:

==============  ==================================================================  ================================
first           what the rule returns                                               rules
==============  ==================================================================  ================================
``all_labels``  probabilities ``[N]`` of drawing each row in an epoch               `balanced_sampling`
``labels``      target weights ``[..., K]``                                         `smooth`, `drawn_smoothing` …
``inputs``      inputs, targets and sample weights of mixed rows                    `mixup`
``logits``      other logits, used in the loss alone                                `logit_adjusted`, `label_margin` …
``targets``     other target weights, computed from the current outputs             `focal`, `squared_error` …
``counts``      class weights c ``[K]``, factors of the target weights              `class_balanced` …
==============  ==================================================================  ================================

Class weights scale the target weights class by class, c_k w_k (smoothing included, as in PyTorch). Rules of the current
outputs may put weight on other classes than the label's; class weights then scale the whole row, by Σ_k c_k q_k of the
targets q before that rule.

`two_class_rows` is no transform: it gives every class a sigmoid, a row of two classes each. The other rules work on
those rows.

Rules of ``labels`` and class weights are data (tier A). Transforms of the logits leave the targets unchanged, and the
gradient flows through them (tier A). Rules of the current outputs reproduce the gradient of another loss at the current
parameters: they are recomputed at every step, and the value of the objective is not that loss (tier C).

``labels`` and ``targets`` are class indices, int64 ``[...]``, or rows of target weights, floating point ``[..., K]``.
If only probabilities q of the labels are known, q is the target. ``counts`` are sums of sample weights. ``dtype`` is
the network's number type: a rule of labels names it to lose no precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rlce.heads import Bernoulli
from rlce.rules.ranges import not_negative, positive, unit_interval


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype | None = None) -> Tensor:
    """Weights w = e_y: all weight on the label (tier A: the loss is cross-entropy).

    Args:
        labels: class indices, int64 ``[...]``; or rows of target weights, ``[..., K]``, returned unchanged.
        classes: K.
        dtype: of the weights, where labels are indices; torch's default if None.

    Returns:
        ``[..., K]``.

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
    """Weights w = (1−ε) e_y + ε/K: a share ε is spread over all classes (tier A: smoothed cross-entropy).

    Args:
        labels: class indices, int64 ``[...]``, or rows of probabilities ``[..., K]``.
        classes: K.
        epsilon: ε in [0, 1].
        dtype: of the weights, where labels are indices; torch's default if None.

    Returns:
        ``[..., K]``; rows sum to 1.

    Source:
        Szegedy et al. (2016), arXiv 1512.00567, section 7.

    Example:
        >>> smooth(torch.tensor([0]), 2, epsilon=0.5)
        tensor([[0.7500, 0.2500]])
    """
    unit_interval(epsilon=epsilon)
    return (1.0 - epsilon) * one_hot(labels, classes, dtype) + epsilon / classes


def smooth_off_class(labels: Tensor, classes: int, epsilon: float = 0.1, dtype: torch.dtype | None = None) -> Tensor:
    """Weights w_y = 1−ε, and ε/(K−1) on the other classes: the label keeps exactly 1−ε (tier A).

    It equals `smooth` with ε' = εK/(K−1).

    Args:
        labels: class indices, int64 ``[...]``, or rows of probabilities ``[..., K]``.
        classes: K >= 2.
        epsilon: ε in [0, 1].
        dtype: of the weights, where labels are indices; torch's default if None.

    Returns:
        ``[..., K]``; rows sum to 1.

    Source:
        The convention of fairseq's ``label_smoothed_cross_entropy``; Szegedy et al. (2016) and PyTorch use `smooth`.

    Example:
        >>> smooth_off_class(torch.tensor([0]), 3, epsilon=0.5)
        tensor([[0.5000, 0.2500, 0.2500]])
    """
    unit_interval(epsilon=epsilon)
    if classes < 2:
        raise ValueError(f"smoothing over the other classes needs classes >= 2, got {classes}")
    label = one_hot(labels, classes, dtype)
    return (1.0 - epsilon) * label + epsilon / (classes - 1) * (1.0 - label)


def drawn_smoothing(labels: Tensor, classes: int, generator: torch.Generator, epsilon: float = 0.1) -> Tensor:
    """Weights w = e_y': with probability ε the label y' is drawn from all classes, else y' = y (tier A a draw).

    The expectation over draws is `smooth`, for the gradient too; the variance is larger.

    Args:
        labels: class indices, int64 ``[...]``, or rows of probabilities ``[..., K]``.
        classes: K.
        generator: the source of the draws, on the CPU.
        epsilon: ε in [0, 1].

    Returns:
        ``[..., K]``; rows sum to 1.

    Source:
        Xie et al. (2016), "DisturbLabel", arXiv 1605.00055.

    Example:
        >>> drawn_smoothing(torch.tensor([0, 0]), 2, torch.Generator().manual_seed(0), epsilon=0.5)
        tensor([[0., 1.],
                [1., 0.]])
    """
    unit_interval(epsilon=epsilon)
    rows = one_hot(labels, classes)
    replaced = torch.rand(rows.shape[:-1], generator=generator) < epsilon
    drawn = torch.randint(classes, rows.shape[:-1], generator=generator)
    return torch.where(replaced.to(rows.device).unsqueeze(-1), one_hot(drawn, classes).to(rows), rows)


def mixup(
    inputs: Tensor, targets: Tensor, classes: int, weights: Tensor, generator: torch.Generator, alpha: float = 0.2
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows λx + (1−λ)x' with targets λq + (1−λ)q': every row is mixed with a partner from its batch (tier A a draw).

    Each batch has one λ ~ Beta(α, α), as in the paper. The sample weight of a pair is the product of its rows' weights,
    because the pair would occur that often if rows were repeated instead of weighted.

    Args:
        inputs: ``[B, D]`` (or any trailing shape).
        targets: class indices, int64 ``[B]``, or target weights ``[B, K]``.
        classes: K.
        weights: sample weights ``[B]``.
        generator: the source of λ and of the partners, on the CPU.
        alpha: α, positive and finite; near 0 rows are hardly mixed, at 1 λ is uniform.

    Returns:
        (inputs ``[B, D]``, target weights ``[B, K]``, weights ``[B]``).

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
    # g/(g + g') of two Gamma variates is a Beta variate; torch's own Beta would draw from the global generator.
    pair = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator)
    share = float(pair[0] / pair.sum()) if pair.sum() > 0 else 1.0
    partner = torch.randperm(len(inputs), generator=generator).to(inputs.device)
    mixed, rows = share * inputs + (1.0 - share) * inputs[partner], one_hot(targets, classes, inputs.dtype)
    part = rows.new_tensor(share)
    return mixed, part * rows + (1.0 - part) * rows[partner], weights * weights[partner]


def balanced_sampling(all_labels: Tensor, all_weights: Tensor, classes: int) -> Tensor:
    """Probability of each row when first a class is drawn, uniformly, then one of its rows by weight (tier A a draw).

    Args:
        all_labels: of all training rows: class indices, int64 ``[N]``, or rows of probabilities ``[N, K]``.
        all_weights: their sample weights, ``[N]``. They only change the draw: each drawn row has weight 1.
        classes: K. Classes without rows are never drawn.

    Returns:
        ``[N]`` float64, which sums to 1.

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


def inverse_frequency(counts: Tensor | Sequence[float]) -> Tensor:
    """Class weights c_k ∝ 1/n_k, scaled to sum K: all classes count alike (scikit-learn's "balanced", up to scale).

    Args:
        counts: n >= 1, the training rows of each class, ``[K]`` (``[..., K]`` for several sets of classes).

    Returns:
        c, ``[K]``; of the counts' type if they are a floating-point tensor, else of torch's default type.

    Source:
        Standard; Cui et al. (2019), arXiv 1901.05555, compare it with `class_balanced`.

    Example:
        >>> inverse_frequency([30, 10])
        tensor([0.5000, 1.5000])
    """
    return _scaled(1.0 / _counts(counts))


def class_balanced(counts: Tensor | Sequence[float], beta: float = 0.999) -> Tensor:
    """Class weights c_k ∝ (1−β)/(1−β^{n_k}), scaled to sum K: one over the effective number of rows.

    At β = 0 all classes have weight 1; β → 1 gives `inverse_frequency`.

    Args:
        counts: n >= 1, the training rows of each class, ``[K]`` (``[..., K]`` for several sets of classes).
        beta: β in [0, 1).

    Returns:
        c, ``[K]``; of the counts' type if they are a floating-point tensor, else of torch's default type.

    Source:
        Cui et al. (2019), "Class-balanced loss based on effective number of samples", arXiv 1901.05555.

    Example:
        >>> class_balanced([1, 2], beta=0.5)
        tensor([1.2000, 0.8000])
    """
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"beta must lie in [0, 1), got {beta}")
    number = _counts(counts)
    # 1 − β^n without cancellation where β is near 1; at β = 0 the logarithm is −∞ and the result exactly 1.
    effective = -torch.expm1(number * torch.tensor(beta, dtype=number.dtype).log())
    return _scaled((1.0 - beta) / effective)


def focal(targets: Tensor, logits: Tensor, gamma: float = 2.0) -> Tensor:
    """Weights w = sg[(1−p)^γ − γ p (1−p)^{γ−1} log p] e_y: the exact gradient of −(1−p)^γ log p, p = p_y (tier C).

    Args:
        targets: class indices, int64 ``[...]``, or target weights q, ``[..., K]``.
        logits: ``[..., K]``, the current outputs.
        gamma: γ >= 0; 0 is cross-entropy.

    Returns:
        ``[..., K]``.

    Source:
        Lin et al. (2017), arXiv 1708.02002, equation 4.

    Example:
        >>> focal(torch.tensor([0]), torch.zeros(1, 2))  # (1/2)² + 2·½·½·log 2
        tensor([[0.5966, 0.0000]])
    """
    not_negative(gamma=gamma)
    log_probability = _log_probabilities(logits)
    rest = -torch.expm1(log_probability)  # 1 − p, precise where p is near 1
    # (1−p)^{γ−1} log p = (1−p)^γ · log p/(1−p), whose second factor tends to −1 as p → 1.
    slope = torch.where(rest > 0, log_probability / rest, -1.0)
    return _scaled_targets(targets, rest.pow(gamma) * (1.0 - gamma * log_probability.exp() * slope))


def focal_modulated(targets: Tensor, logits: Tensor, gamma: float = 2.0) -> Tensor:
    """Weights w = sg[(1−p)^γ] e_y: cross-entropy with a detached focal factor, NOT the focal loss (tier B).

    It is often mistaken for the focal loss, but it lacks the second term of `focal`, which is of similar size.

    Args:
        targets: class indices, int64 ``[...]``, or target weights q, ``[..., K]``.
        logits: ``[..., K]``, the current outputs.
        gamma: γ >= 0; 0 is cross-entropy.

    Returns:
        ``[..., K]``.

    Example:
        >>> focal_modulated(torch.tensor([0]), torch.zeros(1, 2))
        tensor([[0.2500, 0.0000]])
    """
    not_negative(gamma=gamma)
    return _scaled_targets(targets, (-torch.expm1(_log_probabilities(logits))).pow(gamma))


def generalized_cross_entropy(targets: Tensor, logits: Tensor, q: float = 0.7) -> Tensor:
    """Weights w = sg[p_y^q] e_y: the gradient of (1 − p_y^q)/q, which is robust to wrong labels (tier C).

    q → 0 gives cross-entropy, q = 1 the mean absolute error 1 − p_y.

    Args:
        targets: class indices, int64 ``[...]``, or target weights q, ``[..., K]``.
        logits: ``[..., K]``, the current outputs.
        q: in [0, 1].

    Returns:
        ``[..., K]``.

    Source:
        Zhang and Sabuncu (2018), arXiv 1805.07836.

    Example:
        >>> generalized_cross_entropy(torch.tensor([0]), torch.zeros(1, 4), q=0.5)
        tensor([[0.5000, 0.0000, 0.0000, 0.0000]])
    """
    unit_interval(q=q)
    return _scaled_targets(targets, (q * _log_probabilities(logits)).exp())


def poly_one(targets: Tensor, logits: Tensor, epsilon: float = 1.0) -> Tensor:
    """Weights w = sg[1 + ε p_y] e_y: the gradient of −log p_y + ε(1 − p_y), Poly-1 (tier C).

    Args:
        targets: class indices, int64 ``[...]``, or target weights q, ``[..., K]``.
        logits: ``[..., K]``, the current outputs.
        epsilon: ε >= −1; below −1 the loss would not decrease in p_y everywhere.

    Returns:
        ``[..., K]``.

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
    """Weights w = sg[p_y] e_y: the gradient of −p_y, minus the expected accuracy of a drawn class (tier C).

    It is the all-action policy gradient with reward 1[k=y], so rows with a small p_y have a small gradient.

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

    The factor p_k shrinks the gradient of confidently wrong rows. On `two_class_rows` it is squared error on sigmoids,
    (σ − q)² a label.

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


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits z/T (tier A): the student's, in distillation at temperature T.

    To distil, train on the rows softmax(teacher/T) with ``soft_targets=True``; gradients shrink to about 1/T².

    Args:
        logits: ``[..., K]``.
        temperature: T > 0.

    Returns:
        ``[..., K]``.

    Example:
        >>> tempered(torch.tensor([4.0, 0.0]), 2.0)
        tensor([2., 0.])
    """
    positive(temperature=temperature)
    return logits / temperature


def logit_adjusted(logits: Tensor, counts: Tensor | Sequence[float], tau: float = 1.0) -> Tensor:
    """Logits z_k + τ log π_k with class frequencies π, to train on a long tail; predict with z itself (tier A).

    τ = 1 is the balanced softmax: its z assumes classes of equal frequency.

    Args:
        logits: ``[..., K]``.
        counts: the training rows of each class, at least 1 each, ``[K]``.
        tau: τ.

    Returns:
        ``[..., K]``.

    Source:
        Menon et al. (2021), arXiv 2007.07314; balanced softmax, Ren et al. (2020), arXiv 2007.10740.

    Example:
        >>> logit_adjusted(torch.zeros(1, 2), [3, 1]).softmax(dim=-1)
        tensor([[0.7500, 0.2500]])
    """
    number = _counts(counts, like=logits)
    return logits + tau * (number / number.sum(dim=-1, keepdim=True)).log()


def label_margin(
    logits: Tensor, labels: Tensor, counts: Tensor | Sequence[float], largest: float = 0.5, scale: float = 1.0
) -> Tensor:
    """Logits s(z_k − Δ_k 1[k=y]) with Δ_k ∝ n_k^{−1/4}: LDAM, a larger margin for rarer classes (tier A).

    Args:
        logits: ``[..., K]``.
        labels: class indices, int64 ``[...]``, or rows q ``[..., K]``, whose margin is Δ_k q_k.
        counts: the training rows of each class, at least 1 each, ``[K]``.
        largest: the margin of the rarest class.
        scale: s > 0; the authors use 30, with cosines as logits.

    Returns:
        ``[..., K]``.

    Source:
        Cao et al. (2019), arXiv 1906.07413.

    Example:
        >>> label_margin(torch.zeros(1, 2), torch.tensor([0]), [16, 1])
        tensor([[-0.2500,  0.0000]])
    """
    positive(scale=scale)
    margin = _counts(counts, like=logits).pow(-0.25)
    margin = largest * margin / margin.amax(dim=-1, keepdim=True)
    return scale * (logits - margin * one_hot(labels, logits.shape[-1]).to(logits))


def two_class_rows(logits: Tensor) -> Tensor:
    """Logits (0, z_m) of one two-class row a label: one-vs-all sigmoids as cross-entropy (tier A).

    The targets are the labels themselves as class indices, 0 or 1, ``[..., M]``; softmax(0, z) is sigmoid(z).

    Args:
        logits: one a label, ``[..., M]``.

    Returns:
        ``[..., M, 2]``.

    Example:
        >>> two_class_rows(torch.tensor([[1.0, -1.0]]))
        tensor([[[ 0.,  1.],
                 [ 0., -1.]]])
    """
    return Bernoulli(logits.shape[-1]).logits(logits)


def _log_probabilities(logits: Tensor) -> Tensor:
    """Log-probabilities without a graph, ``[..., K]``."""
    return logits.detach().log_softmax(dim=-1)


def _scaled_targets(targets: Tensor, factor: Tensor) -> Tensor:
    """Targets times factors ``[..., K]``, in their dtype; 0 where the target is 0, even if the factor is infinite."""
    rows = one_hot(targets, factor.shape[-1]).to(factor)
    return torch.where(rows == 0, 0.0, rows * factor)


def _counts(counts: Tensor | Sequence[float], like: Tensor | None = None) -> Tensor:
    """Checked counts ``[..., K]``, floating point; in the dtype and on the device of the logits ``like``."""
    number = torch.as_tensor(counts)
    if like is not None:
        number = number.to(like)
    elif not number.is_floating_point():
        number = number.to(torch.get_default_dtype())
    if number.ndim == 0 or (like is not None and number.shape != like.shape[like.ndim - number.ndim :]):
        wanted = "[..., K]" if like is None else f"[K] = {list(like.shape[-1:])}"
        raise ValueError(f"counts must have shape {wanted}, got {list(number.shape)}")
    if not (number > 0).all():
        where = (~(number > 0)).nonzero()[0].tolist()
        raise ValueError(f"counts must all be positive, got {number[tuple(where)].item()} for class {where[-1]}")
    return number


def _scaled(weights: Tensor) -> Tensor:
    """Weights ``[..., K]`` scaled to sum K."""
    return weights * (weights.shape[-1] / weights.sum(dim=-1, keepdim=True))
