"""The table of rules: for each method the library's weights, as trained, and its published form written out afresh.

One `Row` a method. A supervised rule is trained by `rlce.Classifier`: one batch, one step of plain gradient descent on
a table of logits, and the step is the gradient. A policy-gradient method is trained by `rlce.PolicyGradient`, in the
cases of `tests/training_cases.py`. `tests/test_target_rules.py` holds the rows against their published forms, and
`tests/methods_table.py` writes `docs/methods.md` from the same list, so nothing is claimed without its test.

Data of a case are time-major, ``[T, N]``: for supervised rows simply T·N rows. Everything is float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F

import rlce
from rlce import Optimization, targets
from tests import training_cases

CLASSES = 5


# ---------------------------------------------------------------------------------------------------- the cases


@dataclass(frozen=True)
class Case:
    """Data that a row's two losses are computed on; K is the last axis of what is ``[T, N, K]``."""

    logits: Tensor  # [T, N, K]
    labels: Tensor  # [T, N]; the action taken, too
    partner_labels: Tensor  # [T, N]
    share: Tensor  # [T, N] in (0, 1)
    sample_weights: Tensor  # [T, N] positive
    multi_hot: Tensor  # [T, N, K] zeros and ones
    counts: Tensor  # [K] rows of each class
    class_weights: Tensor  # [K]
    teacher_logits: Tensor  # [T, N, K]
    reference_logits: Tensor  # [T, N, K]
    behaviour_logits: Tensor  # [T, N, K]
    action_values: Tensor  # [T, N, K]
    reward: NDArray[np.float64]  # [T, N]
    value: NDArray[np.float64]  # [T, N]
    next_value: NDArray[np.float64]  # [T, N]; within an episode the next row's value
    terminated: NDArray[np.bool_]  # [T, N]
    done: NDArray[np.bool_]  # [T, N]
    lengths: NDArray[np.int64]  # [N], where a column is taken for one episode
    masked: bool = False  # whether the last class is masked

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Steps before the end of the column's episode, ``[T, N]``."""
        return np.arange(len(self.reward))[:, None] < self.lengths

    @property
    def returns(self) -> NDArray[np.float64]:
        """Sum of the rewards of a column's episode, ``[N]``."""
        return (self.reward * self.valid).sum(axis=0)

    @property
    def advantage(self) -> Tensor:
        """Any signed numbers, ``[T, N]``."""
        return torch.from_numpy(self.reward)

    def without_last_class(self) -> Case:
        """The same data had there never been a last class."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        cut: dict[str, Any] = {
            name: x[..., :-1] for name, x in fields.items() if isinstance(x, Tensor) and x.shape[-1:] == (CLASSES,)
        }
        return replace(self, **cut, masked=False)


def make_case(
    steps: int = 4,
    episodes: int = 6,
    seed: int = 0,
    spread: float = 1.0,
    masked: bool = False,
    equal_rewards: bool = False,
) -> Case:
    """Random data; ``spread`` is the logits' size: 0 ties all classes, 30 brings p to within 1e-13 of 0 and 1."""
    random = np.random.default_rng(seed)
    shape, wide = (steps, episodes), (steps, episodes, CLASSES)
    logits = spread * random.normal(size=wide)
    highest = CLASSES - 1 if masked else CLASSES  # no label is a masked class
    labels = random.integers(highest, size=shape)

    def near() -> Tensor:
        """Other logits, close enough that ratios stay of the order of 1."""
        other = torch.from_numpy(logits + 0.4 * random.normal(size=wide))
        if masked:
            other[..., -1] = -math.inf
        return other

    done = random.random(shape) < 0.3
    value, cut_value = random.normal(size=shape), random.normal(size=shape)
    next_value = cut_value.copy()
    next_value[:-1] = np.where(done[:-1], cut_value[:-1], value[1:])
    lengths = np.full(episodes, steps) if equal_rewards else random.integers(1, steps + 1, size=episodes)
    lengths[0] = steps
    return Case(
        logits=torch.from_numpy(logits),
        labels=torch.from_numpy(labels),
        partner_labels=torch.from_numpy(random.integers(highest, size=shape)),
        share=torch.from_numpy(random.random(shape)),
        sample_weights=torch.from_numpy(0.1 + random.random(shape)),
        multi_hot=torch.from_numpy(random.integers(2, size=wide)),
        counts=torch.tensor([3.0, 10.0, 40.0, 200.0, 1000.0], dtype=torch.float64),
        class_weights=torch.from_numpy(0.2 + random.random(CLASSES)),
        teacher_logits=near(),
        reference_logits=near(),
        behaviour_logits=near(),
        action_values=torch.from_numpy(random.normal(size=wide)),
        reward=np.full(shape, 0.1) if equal_rewards else random.normal(size=shape),
        value=value,
        next_value=next_value,
        terminated=done & (random.random(shape) < 0.5),
        done=done,
        lengths=lengths,
        masked=masked,
    )


CASES = {
    "random": make_case(),
    "other numbers": make_case(steps=3, episodes=4, seed=1, spread=2.0),
    "one row": make_case(steps=1, episodes=1, seed=2),
    "one step": make_case(steps=1, episodes=5, seed=3),
    "ties": make_case(seed=4, spread=0.0),
    "p near 0 and 1": make_case(seed=5, spread=30.0),
    "masked class": make_case(seed=6, masked=True),
    "equal rewards": make_case(seed=7, equal_rewards=True),
}

Loss = Callable[[Case, Tensor], Tensor]


class Trained(NamedTuple):
    """What one gradient step of a training did."""

    value: float  # of the loss, as it was logged
    gradient: Tensor  # [T, N, K] in the logits

    def times(self, factor: float, less: float = 0.0) -> Trained:
        """The same of a multiple of the loss, less a constant."""
        return Trained(factor * self.value - less, factor * self.gradient)


class Row(NamedTuple):
    """A method, trained by the library, and its published form.

    Attributes:
        method: its name.
        weights: w_ik.
        tier: A, B or C.
        remarks: Z, and what else must be known.
        source: where it was published.
        reference: what training is held against.
        ours: for a supervised rule, trained on a case.
        published: the same rule's loss, (case, logits ``[T, N, K]``) → scalar.
        cases: for a policy-gradient method, how the names of its cases in `tests.training_cases.CASES` begin.
        masks: "raise" where the rule puts weight on a masked class, "none" where masks make no sense.
        unit: where the numbers of tier A hold only for a batch or an iteration.
    """

    method: str
    weights: str
    tier: Literal["A", "B", "C"]
    remarks: str
    source: str
    reference: str
    ours: Callable[[Case], Trained] | None = None
    published: Loss | None = None
    cases: tuple[str, ...] = ()
    masks: Literal["agree", "raise", "none"] = "agree"
    unit: str = ""


# ----------------------------------------------------------------------------------------------- as the library trains


class Table(nn.Module):
    """Logits of each row, looked up by the row's number, which is where its one-hot input is largest."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x.argmax(dim=-1)]


def trained(case: Case, y: Tensor | None = None, sample_weight: Tensor | None = None, **settings: Any) -> Trained:
    """One step of `rlce.Classifier` over all rows of a case, with step size 1: what the logits lost is the gradient.

    Args:
        case: the data.
        y: targets ``[T, N]`` or ``[T, N, K]``; the labels by default.
        sample_weight: ``[T, N]``.
        settings: parameters of the classifier.
    """
    last = torch.arange(CLASSES) == CLASSES - 1
    logits = case.logits.masked_fill(last & case.masked, -math.inf).flatten(0, 1)
    target = (case.labels if y is None else y).flatten(0, 1).numpy()
    classifier = rlce.Classifier(
        network=lambda n_inputs, n_outputs: Table(logits),
        optimizer=Optimization("sgd", learning_rate=1.0, momentum=0.0),
        batch_size=len(logits),
        scaling=None,
        random_state=0,
        **settings,
    )
    # One epoch; unlike fit it is told the classes, all of which no small case has.
    classes = np.arange(CLASSES) if target.ndim == 1 else None
    weight = None if sample_weight is None else sample_weight.flatten().numpy()
    classifier.partial_fit(np.eye(len(logits)), target, classes, weight)
    after = classifier.network_.logits.detach()
    gradient = torch.where(logits == after, 0.0, logits - after)  # −inf stays where it is
    return Trained(classifier.history_[-1]["train/loss"], gradient.view_as(case.logits))


def of_rows(table: Callable[[Case], Tensor]) -> Callable[[Case], Any]:
    """A rule that gives every row its own target weights, ``[T, N, K]``, whatever batch it comes in."""

    def rule(case: Case) -> Any:
        rows = flat(table(case))

        def mixed(inputs: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return inputs, rows[inputs.argmax(dim=-1)], weights

        return mixed

    return rule


def compare(row: Row, case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Our value and gradient, the published ones; a published form never sees a masked class."""
    assert row.ours is not None
    assert row.published is not None
    found = row.ours(case)
    leaf = case.logits.clone().requires_grad_()
    published = row.published(case.without_last_class(), leaf[..., :-1]) if case.masked else row.published(case, leaf)
    (expected,) = torch.autograd.grad(published, leaf)
    return torch.tensor(found.value, dtype=torch.float64), found.gradient, published.detach(), expected


def applies(row: Row, name: str) -> bool:
    """Whether the row's two losses can be compared on the case of that name."""
    return not (CASES[name].masked and row.masks != "agree")


def training_cases_of(row: Row) -> list[training_cases.Case]:
    """The runs of `rlce.PolicyGradient` that hold a row.

    Raises:
        ValueError: there is none of a name.
    """
    found = []
    for name in row.cases:
        of_name = [case for case in training_cases.CASES if case.name.startswith(name)]
        if not of_name:
            raise ValueError(f"{row.method}: no training case is named {name}…")
        found += of_name
    return found


def largest_difference(row: Row) -> float:
    """The largest absolute difference of the gradients (or of what a run moved) over all cases."""
    if row.ours is None:
        return max(map(training_cases.largest_difference, training_cases_of(row)))
    pairs = [compare(row, case) for name, case in CASES.items() if applies(row, name)]
    return max(float((found - expected).abs().max()) for _, found, _, expected in pairs)


def flat(logits: Tensor) -> Tensor:
    """Rows by classes, as PyTorch's own losses take them."""
    return logits.flatten(0, 1)


def chosen(case: Case, logits: Tensor) -> Tensor:
    """log p of the label, ``[T, N]``."""
    return Categorical(logits=logits).log_prob(case.labels)


# ------------------------------------------------------------------------------------------------- published forms


def off_class_smoothing(case: Case, logits: Tensor) -> Tensor:
    epsilon, log_p = 0.3, flat(logits).log_softmax(dim=-1)
    part = epsilon / (log_p.shape[-1] - 1)
    nll = -log_p.gather(-1, case.labels.reshape(-1, 1)).squeeze(-1)
    return ((1 - epsilon - part) * nll - part * log_p.sum(dim=-1)).mean()


def summed_by_torch(class_weights: Callable[[Case], Any], **settings: Any) -> Loss:
    """PyTorch's cross-entropy with class weights; its sum is divided by N."""

    def loss(case: Case, logits: Tensor) -> Tensor:
        weight = torch.as_tensor(class_weights(case))
        total = F.cross_entropy(flat(logits), case.labels.flatten(), weight=weight, reduction="sum", **settings)
        return total / case.labels.numel()

    return loss


def balanced_by_scikit_learn(case: Case) -> NDArray[np.float64]:
    classes = np.arange(len(case.counts))
    relative = compute_class_weight("balanced", classes=classes, y=np.repeat(classes, case.counts.int().numpy()))
    return relative / relative.sum() * len(relative)


def effective_number(case: Case) -> NDArray[np.float64]:
    beta = 0.99
    relative = (1.0 - beta) / (1.0 - np.power(beta, case.counts.numpy()))
    return relative / relative.sum() * len(relative)


def distillation(case: Case, logits: Tensor) -> Tensor:
    student, teacher = flat(logits) / 3.0, flat(case.teacher_logits) / 3.0
    return 9.0 * F.kl_div(student.log_softmax(dim=-1), teacher.softmax(dim=-1), reduction="batchmean")


def our_distillation(case: Case) -> Trained:
    target = (case.teacher_logits / 3.0).softmax(dim=-1)
    found = trained(case, target, soft_targets=True, rule=partial(targets.tempered, temperature=3.0))
    return found.times(9.0, less=9.0 * float(Categorical(probs=target).entropy().mean()))


def our_forward_kl(case: Case) -> Trained:
    reference = Categorical(logits=case.reference_logits)
    found = trained(case, rule=of_rows(lambda case: 0.7 * reference.probs)(case))
    return found.times(1.0, less=0.7 * float(reference.entropy().mean()))


def adjusted_softmax(case: Case, logits: Tensor) -> Tensor:
    """−log(n_y^τ e^{z_y} / Σ_k n_k^τ e^{z_k}) at τ = 1.5."""
    factor = case.counts.log() * 1.5
    own = logits.gather(-1, case.labels.unsqueeze(-1)).squeeze(-1) + factor[case.labels]
    return (torch.logsumexp(logits + factor, dim=-1) - own).mean()


def label_distribution_aware_margin(case: Case, logits: Tensor) -> Tensor:
    """As the authors' program computes it: margins 1/√√n, the largest of them scaled to 0.5."""
    margins = 1.0 / np.sqrt(np.sqrt(case.counts.numpy()))
    margins = margins * (0.5 / margins.max())
    shift = F.one_hot(case.labels, logits.shape[-1]) * torch.from_numpy(margins)
    return F.cross_entropy(flat(3.0 * (logits - shift)), case.labels.flatten())


# ------------------------------------------------------------------------------------------------------- the table

TABLE = [
    Row(
        "cross-entropy", "e_y", "A", "Z = N", "–", "torch cross_entropy",
        trained,
        lambda case, logits: F.cross_entropy(flat(logits), case.labels.flatten()),
    ),
    Row(
        "sample weights", "s_i e_y", "A", "Z = Σ s_i: weights are scaled to mean 1 over the training rows", "–",
        "torch cross_entropy(reduction='none')",
        lambda case: trained(case, sample_weight=case.sample_weights),
        lambda case, logits: (
            F.cross_entropy(flat(logits), case.labels.flatten(), reduction="none")
            @ (case.sample_weights.flatten() / case.sample_weights.sum())
        ),
    ),
    Row(
        "class weights, index targets", "c_y e_y", "A",
        "Z = N; PyTorch's Z is Σ_i c_{y_i}", "PyTorch's documentation",
        "torch cross_entropy(weight=c), its sum",
        lambda case: trained(case, class_weight=dict(enumerate(case.class_weights.tolist()))),
        summed_by_torch(lambda case: case.class_weights),
    ),
    Row(
        "class weights, probability targets", "c_k q_k", "A",
        "Z = N, so PyTorch's two forms differ on one-hot q", "PyTorch's documentation",
        "torch cross_entropy(weight=c), probabilities",
        lambda case: trained(
            case,
            case.teacher_logits.softmax(dim=-1),
            soft_targets=True,
            class_weight=dict(enumerate(case.class_weights.tolist())),
        ),
        lambda case, logits: F.cross_entropy(
            flat(logits), flat(case.teacher_logits).softmax(dim=-1), weight=case.class_weights
        ),
    ),
    Row(
        "inverse class frequency", "c_y e_y, c_k ∝ 1/n_k", "A", "Z = N; c scaled to sum K", "1901.05555",
        "scikit-learn's compute_class_weight, torch cross_entropy",
        lambda case: trained(case, rule=lambda counts: targets.inverse_frequency(case.counts)),
        summed_by_torch(balanced_by_scikit_learn),
        masks="none",
    ),
    Row(
        "class-balanced", "c_y e_y, c_k ∝ (1−β)/(1−β^{n_k})", "A", "Z = N; c scaled to sum K", "1901.05555",
        "the paper's formula in NumPy, torch cross_entropy",
        lambda case: trained(case, rule=lambda counts: targets.class_balanced(case.counts, 0.99)),
        summed_by_torch(effective_number),
        masks="none",
    ),
    Row(
        "label smoothing", "(1−ε) e_y + ε/K", "A", "Z = N", "1512.00567", "torch cross_entropy(label_smoothing=ε)",
        lambda case: trained(case, rule=partial(targets.smooth, epsilon=0.3)),
        lambda case, logits: F.cross_entropy(flat(logits), case.labels.flatten(), label_smoothing=0.3),
        masks="raise",
    ),
    Row(
        "label smoothing off the class", "(1−ε) e_y + ε/(K−1) (1 − e_y)", "A", "Z = N; the other convention", "fairseq",
        "its two-term form written out",
        lambda case: trained(case, rule=partial(targets.smooth_off_class, epsilon=0.3)),
        off_class_smoothing,
        masks="raise",
    ),
    Row(
        "smoothing with class weights", "c_k((1−ε)1[k=y] + ε/K)", "A",
        "Z = N, PyTorch's Σ_i c_{y_i}; not c_y times the smoothed row", "PyTorch's documentation",
        "torch cross_entropy(weight=c, label_smoothing=ε), its sum",
        lambda case: trained(
            case,
            rule=partial(targets.smooth, epsilon=0.3),
            class_weight=dict(enumerate(case.class_weights.tolist())),
        ),
        summed_by_torch(lambda case: case.class_weights, label_smoothing=0.3),
        masks="raise",
    ),
    Row(
        "uncertain labels", "q_k", "A", "Z = N; q itself is the target", "–", "torch cross_entropy, probabilities",
        lambda case: trained(case, case.teacher_logits.softmax(dim=-1), soft_targets=True),
        lambda case, logits: F.cross_entropy(flat(logits), flat(case.teacher_logits).softmax(dim=-1)),
    ),
    Row(
        "distillation", "softmax(teacher/T)_k on z/T", "A",
        "Z = N; times T² to keep the gradient's size; the value less the teacher's entropy", "1503.02531",
        "torch kl_div",
        our_distillation,
        distillation,
    ),
    Row(
        "mixup", "λ e_y + (1−λ) e_y'", "A", "Z = N; inputs mixed with the same λ", "1710.09412",
        "two torch cross_entropy",
        lambda case: trained(
            case,
            torch.lerp(
                *(F.one_hot(labels, CLASSES).double() for labels in (case.partner_labels, case.labels)),
                case.share.unsqueeze(-1),
            ),
            soft_targets=True,
        ),
        lambda case, logits: (
            case.share.flatten() * F.cross_entropy(flat(logits), case.labels.flatten(), reduction="none")
            + (1 - case.share.flatten())
            * F.cross_entropy(flat(logits), case.partner_labels.flatten(), reduction="none")
        ).mean(),
    ),
    Row(
        "logit adjustment, balanced softmax", "e_y on z_k + τ log π_k", "A",
        "Z = N; a transform of the logits, not a weight; τ = 1 is balanced softmax", "2007.07314, 2007.10740",
        "the papers' quotient by logsumexp",
        lambda case: trained(case, rule=partial(targets.logit_adjusted, counts=case.counts, tau=1.5)),
        adjusted_softmax,
    ),
    Row(
        "LDAM", "e_y on s(z_k − Δ_k 1[k=y]), Δ_k ∝ n_k^{−1/4}", "A", "Z = N; a transform of the logits", "1906.07413",
        "the authors' steps in NumPy, torch cross_entropy",
        lambda case: trained(case, rule=partial(targets.label_margin, counts=case.counts, largest=0.5, scale=3.0)),
        label_distribution_aware_margin,
    ),
    Row(
        "multi-label, one-vs-all sigmoids", "e_{y_m} on (0, z_m), a row a label", "A",
        "Z = N: a row's labels are summed", "–", "torch binary_cross_entropy_with_logits",
        lambda case: trained(case, case.multi_hot),
        lambda case, logits: F.binary_cross_entropy_with_logits(
            flat(logits), flat(case.multi_hot).double(), reduction="sum"
        ) / case.labels.numel(),
        masks="none",
    ),
    Row(
        "one-vs-all sigmoids of one label", "e_{1[k=y]} on (0, z_k), a row a class", "A",
        "Z = N: a row's classes are summed", "–", "torch binary_cross_entropy_with_logits",
        lambda case: trained(case, rule=targets.two_class_rows),
        lambda case, logits: F.binary_cross_entropy_with_logits(
            flat(logits), F.one_hot(case.labels.flatten(), CLASSES).double(), reduction="sum"
        ) / case.labels.numel(),
        masks="none",
    ),
    Row(
        "generalised cross-entropy", "p_y^q e_y", "C", "Z = N", "1805.07836", "autograd of (1 − p_y^q)/q",
        lambda case: trained(case, rule=partial(targets.generalized_cross_entropy, q=0.7)),
        lambda case, logits: ((1 - chosen(case, logits).exp() ** 0.7) / 0.7).mean(),
    ),
    Row(
        "Poly-1", "(1 + ε p_y) e_y", "C", "Z = N", "2204.12511", "autograd of −log p_y + ε(1 − p_y)",
        lambda case: trained(case, rule=partial(targets.poly_one, epsilon=2.0)),
        lambda case, logits: (
            F.cross_entropy(flat(logits), case.labels.flatten()) + 2.0 * (1 - chosen(case, logits).exp()).mean()
        ),
    ),
    Row(
        "focal loss", "[(1−p)^γ − γ p (1−p)^{γ−1} log p] e_y", "C", "Z = N", "1708.02002",
        "autograd of −(1−p)^γ log p",
        lambda case: trained(case, rule=partial(targets.focal, gamma=2.0)),
        lambda case, logits: -((1 - chosen(case, logits).exp()) ** 2.0 * chosen(case, logits)).mean(),
    ),
    Row(
        "focal factor, detached", "(1−p)^γ e_y", "B",
        "Z = N; not focal loss: its weight is 1.5, 2.4, 2.9 times this at p = .1, .5, .9 (γ = 2)", "–",
        "autograd of −sg((1−p)^γ) log p",
        lambda case: trained(case, rule=partial(targets.focal_modulated, gamma=2.0)),
        lambda case, logits: -(((1 - chosen(case, logits).exp()) ** 2.0).detach() * chosen(case, logits)).mean(),
    ),
    Row(
        "squared error on softmax", "(q_k − p_k) p_k", "C", "Z = N; on two-class rows it is squared error on sigmoids",
        "Brier 1950", "autograd of ½ Σ_k (p_k − q_k)²",
        lambda case: trained(
            case, case.teacher_logits.softmax(dim=-1), soft_targets=True, rule=targets.squared_error
        ),
        lambda case, logits: (
            0.5 * (flat(logits).softmax(dim=-1) - flat(case.teacher_logits).softmax(dim=-1)).square().sum(dim=-1).mean()
        ),
    ),
    Row(
        "expected accuracy", "p_y e_y", "C", "Z = N; all-action gradient with reward 1[k=y]", "–", "autograd of −p_y",
        lambda case: trained(case, rule=targets.expected_accuracy),
        lambda case, logits: -flat(logits).softmax(dim=-1).gather(-1, case.labels.reshape(-1, 1)).mean(),
    ),
    Row(
        "elite filtering, cross-entropy method on episodes", "1[R_i ≥ quantile] e_a", "A",
        "Z = rows, those left out included; over whole episodes", "de Boer et al. 2005",
        "maximum likelihood on the best episodes, in loops", cases=("elite",), unit="batch",
    ),
    Row(
        "reward-weighted regression", "exp(G/β) e_a, G standardised", "A", "Z = rows; EM's M-step",
        "Peters and Schaal 2007", "weighted likelihood in loops", cases=("reward_weighted",), unit="iteration",
    ),
    Row(
        "advantage-weighted regression", "min(exp((R−V)/β), w_max) e_a", "A", "Z = rows; V detached", "1910.00177",
        "weighted likelihood in loops", cases=("advantage_weighted",), unit="iteration",
    ),
    Row(
        "REINFORCE", "(Σ_{t'≥t} γ^{t'−t} r_{t'} − b(s_t)) e_a", "B",
        "Z = rows, or episodes for ∇J; whole returns, γ^t and four baselines likewise", "Williams 1992",
        "sums over episodes in loops", cases=("reinforce",),
    ),
    Row(
        "actor-critic, GAE", "sg(A_t) e_a", "B", "Z = rows; the critic is a regression of its own", "1506.02438",
        "the double sum of γλ-discounted errors in loops", cases=("actor_critic",),
    ),
    Row(
        "RLOO", "(r_j − mean of the other G−1) e_a", "B", "Z = rows, or episodes; = G/(G−1) (r_j − mean)", "2402.14740",
        "mean of the others in loops", cases=("rloo",),
    ),
    Row(
        "self-imitation", "max(R−V, 0) e_a", "B", "Z = rows; replayed without a ratio", "1806.05635",
        "the positive part, in loops", cases=("self_imitation",),
    ),
    Row(
        "V-trace", "min(ρ̄, sg(ρ)) (r + γ v' − V) e_a", "B", "Z = rows; v' never crosses episodes", "1802.01561",
        "the paper's sum of products in loops", cases=("v_trace",),
    ),
    Row(
        "CISPO", "sg(clip(ρ, 1−ε_low, 1+ε_high)) A e_a", "B", "Z = rows; no row is dropped", "2506.13585",
        "autograd of −sg(clip(ρ)) A log π", cases=("cispo",),
    ),
    Row(
        "TOPR", "R e_a where R ≥ 0, else sg(min(ρ(τ), 1)) R e_a", "B", "Z = episodes; ρ(τ) is of the whole episode",
        "2503.14286", "sums of log-ratios in loops", cases=("topr",),
    ),
    Row(
        "importance-sampled policy gradient", "sg(ρ) A e_a", "C", "Z = rows", "Jie and Abbeel 2010",
        "autograd of −ρA", cases=("importance_sampled", "by_position"),
    ),
    Row(
        "PPO's clip", "sg(ρ) A e_a · 1[not ((A>0 and ρ>1+ε) or (A<0 and ρ<1−ε))]", "C",
        "Z = rows; ρ and mask anew in each minibatch", "1707.06347", "autograd of −min(ρA, clip(ρ)A)", cases=("ppo",),
    ),
    Row(
        "GRPO", "sg(ρ m)(r_j − mean)/(std+δ)/len_j · e_a, m = PPO's mask", "C",
        "Z = episodes; std of a sample (G−1); penalty and bonus carry 1/len_j, too", "2402.03300",
        "autograd of the paper's sum, KL in closed form",
        cases=("grpo: groups of two", "grpo: deviations", "grpo: masks"),
    ),
    Row(
        "Dr. GRPO", "sg(ρ m)(r_j − mean) e_a", "C", "Z = episodes; (G−1)/G of RLOO at ρ = 1", "2503.20783",
        "autograd of the paper's sum", cases=("grpo: Dr. GRPO", "grpo: a group of equal returns"),
    ),
    Row(
        "GSPO, as a user's rule", "s m(s) A / len_j · e_a, s = (Π ρ)^{1/len_j}", "C",
        "Z = episodes of the minibatch, which holds whole ones", "2507.18071",
        "autograd of −Σ min(s A, clip(s) A) over episodes", cases=("gspo",),
    ),
    Row(
        "all-action policy gradient, as a user's rule", "sg(p_k Q_k)", "C", "Z = rows", "Sutton et al. 2000",
        "autograd of −Σ_k p_k Q_k",
        lambda case: trained(
            case,
            rule=[
                of_rows(lambda case: case.action_values)(case),
                lambda targets, logits: logits.softmax(dim=-1) * targets,
            ],
        ),
        lambda case, logits: (
            -(logits.softmax(dim=-1) * case.action_values[..., : logits.shape[-1]]).sum(dim=-1).mean()
        ),
    ),
    Row(
        "entropy bonus", "−c p_k log p_k", "C", "the policy's Z and rows' weights; closed form for a Gaussian",
        "Williams and Peng 1991, 1701.06548", "autograd of −c torch.distributions' entropy",
        cases=("actor_critic", "reinforce: critic", "ppo: minibatches", "grpo"),
    ),
    Row(
        "entropy bonus, sampled, as a user's rule", "−c sg(log p_a) e_a", "B",
        "Z = rows. The naive −log p_a has zero mean gradient",
        "Williams and Peng 1991", "autograd of c sg(log π) log π", cases=("sampled_entropy",),
    ),
    Row(
        "reverse KL", "β p_k (log ref_k − log p_k)", "C",
        "the policy's Z and rows' weights; closed form for a Gaussian", "1909.08593", "autograd of KL(p‖ref)",
        cases=("grpo", "gspo: groups"),
    ),
    Row(
        "forward KL, as a user's rule", "β ref_k", "A", "Z = rows; the value less β times the reference's entropy",
        "1503.02531",
        "torch.distributions' KL(ref‖p)",
        our_forward_kl,
        lambda case, logits: (
            0.7 * kl_divergence(Categorical(logits=case.reference_logits), Categorical(logits=logits)).mean()
        ),
    ),
    Row(
        "KL penalty, sampled (k3), as a user's rule", "β(ref/p − 1) e_a", "C",
        "Z = rows; its mean gradient over a ~ p is forward KL's, not reverse KL's", "2402.03300",
        "autograd of β(ref/p − log(ref/p) − 1)", cases=("sampled_kl",),
    ),
]  # fmt: skip
