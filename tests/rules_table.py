"""The table of rules: for each method the library's weights, and its published form written out afresh.

One `Row` a method. `tests/test_target_rules.py` holds each row's two losses against each other, and
`scripts/methods_table.py` writes `docs/methods.md` from the same list, so nothing is claimed without its test.

Data of a case are time-major, ``[T, N]``: for supervised rows simply T·N rows. Everything is float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F

import rlce
from rlce import returns, targets, weights
from rlce.objective import cross_entropy

CLASSES, DISCOUNT, TRACE, CLIP = 5, 0.9, 0.8, 0.2


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


class Row(NamedTuple):
    """A method. Its two losses are functions of (case, logits ``[T, N, K]``) and give a scalar."""

    method: str
    weights: str  # w_ik
    tier: Literal["A", "B", "C"]
    remarks: str  # Z, and what else must be known
    source: str
    reference: str  # what the rule is held against
    ours: Loss
    published: Loss
    masks: Literal["agree", "raise", "none"] = "agree"  # "raise": the rule puts weight on a masked class
    needs_two: bool = False  # compares the episodes of a group, and one alone is an error
    level: bool = False  # equal rewards give no gradient at all
    unit: str = ""  # where the numbers of tier A hold only for a batch or an iteration


@contextmanager
def double_precision() -> Iterator[None]:
    """Supervised rules make targets of the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def compare(row: Row, case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Our loss and gradient, the published loss and gradient; a published form never sees a masked class."""
    leaf = case.logits.clone().requires_grad_()
    last = torch.arange(CLASSES) == CLASSES - 1
    with double_precision():
        ours = row.ours(case, leaf.masked_fill(last & case.masked, -math.inf))
        published = (
            row.published(case.without_last_class(), leaf[..., :-1]) if case.masked else row.published(case, leaf)
        )
    found, expected = (torch.autograd.grad(loss, leaf)[0] for loss in (ours, published))
    return ours.detach(), found, published.detach(), expected


def applies(row: Row, name: str) -> bool:
    """Whether the row's two losses can be compared on the case of that name."""
    return not (CASES[name].masked and row.masks != "agree") and not (row.needs_two and name == "one row")


def largest_difference(row: Row) -> float:
    """The largest absolute difference of the gradients over all cases."""
    pairs = [compare(row, case) for name, case in CASES.items() if applies(row, name)]
    return max(float((found - expected).abs().max()) for _, found, _, expected in pairs)


# ------------------------------------------------------------------------------------------------ how both are built


def supervised(rule: Callable[[Case, Tensor], Tensor], normalizer: Callable[[Case], Any] = lambda _: None) -> Loss:
    """The objective on a rule's targets."""
    return lambda case, logits: rlce.weighted_cross_entropy(logits, rule(case, logits), normalizer=normalizer(case))


def on_action(rule: Callable[[Case, Tensor, Tensor], Tensor], per_episode: bool = False) -> Loss:
    """The objective on the actions taken; the rule is a function of (case, log π now, log π then), ``[T, N]`` each."""

    def loss(case: Case, logits: Tensor) -> Tensor:
        now, then = (-cross_entropy(outputs.detach(), case.labels) for outputs in (logits, case.behaviour_logits))
        weight = rule(case, now, then)
        normalizer = len(case.lengths) if per_episode else None
        return rlce.weighted_cross_entropy(logits, case.labels, weight, normalizer=normalizer)

    return loss


def in_episode(case: Case, advantage: NDArray[np.floating[Any]]) -> Tensor:
    """One number an episode, ``[N]``, for each of its steps; 0 after its end: ``[T, N]``."""
    return torch.from_numpy(np.where(case.valid, advantage, 0.0))


def flat(logits: Tensor) -> Tensor:
    """Rows by classes, as PyTorch's own losses take them."""
    return logits.flatten(0, 1)


def chosen(case: Case, logits: Tensor) -> Tensor:
    """log p of the label, ``[T, N]``."""
    return Categorical(logits=logits).log_prob(case.labels)


def ratio(case: Case, logits: Tensor) -> Tensor:
    """π(a|s)/μ(a|s) as a quotient of probabilities, with its graph, ``[T, N]``."""
    index = case.labels.unsqueeze(-1)
    now, then = (x.softmax(dim=-1).gather(-1, index).squeeze(-1) for x in (logits, case.behaviour_logits))
    return now / then


def episodes(case: Case) -> Iterator[tuple[int, int]]:
    """Number and length of every episode, where a column is one."""
    yield from ((number, int(length)) for number, length in enumerate(case.lengths))


# ------------------------------------------------------------------------------------------------- published forms


def off_class_smoothing(case: Case, logits: Tensor) -> Tensor:
    epsilon, log_p = 0.3, flat(logits).log_softmax(dim=-1)
    part = epsilon / (log_p.shape[-1] - 1)
    nll = -log_p.gather(-1, case.labels.reshape(-1, 1)).squeeze(-1)
    return ((1 - epsilon - part) * nll - part * log_p.sum(dim=-1)).mean()


def weighted_by_counts(class_weights: Callable[[Case], NDArray[np.float64]]) -> Loss:
    """PyTorch's cross-entropy with class weights scaled to sum K; its sum is divided by N."""

    def loss(case: Case, logits: Tensor) -> Tensor:
        relative = class_weights(case)
        weight = torch.from_numpy(relative / relative.sum() * len(relative))
        total = F.cross_entropy(flat(logits), case.labels.flatten(), weight=weight, reduction="sum")
        return total / case.labels.numel()

    return loss


def balanced_by_scikit_learn(case: Case) -> NDArray[np.float64]:
    classes = np.arange(len(case.counts))
    return compute_class_weight("balanced", classes=classes, y=np.repeat(classes, case.counts.int().numpy()))


def effective_number(case: Case) -> NDArray[np.float64]:
    beta = 0.99
    return (1.0 - beta) / (1.0 - np.power(beta, case.counts.numpy()))


def distillation(case: Case, logits: Tensor) -> Tensor:
    student, teacher = flat(logits) / 3.0, flat(case.teacher_logits) / 3.0
    return 9.0 * F.kl_div(student.log_softmax(dim=-1), teacher.softmax(dim=-1), reduction="batchmean")


def our_distillation(case: Case, logits: Tensor) -> Tensor:
    target = targets.distill(case.teacher_logits, 3.0)
    rows = case.labels.numel()
    loss = rlce.weighted_cross_entropy(targets.tempered(logits, 3.0), target, normalizer=rows / 9.0)
    return loss - 9.0 * Categorical(probs=target).entropy().mean()


def our_forward_kl(case: Case, logits: Tensor) -> Tensor:
    target = weights.forward_kl(case.reference_logits, 0.7)
    return rlce.weighted_cross_entropy(logits, target) - 0.7 * Categorical(probs=target).entropy().mean()


def filtered_cloning(case: Case, logits: Tensor) -> Tensor:
    """Maximum likelihood on the best episodes alone: of N, all that reach the ⌈0.7N⌉-th smallest return."""
    log_prob, total = chosen(case, logits), logits.new_zeros(())
    bar = sorted(case.returns)[-(-7 * len(case.lengths) // 10) - 1]
    for number, length in episodes(case):
        if case.returns[number] >= bar:
            total = total - log_prob[:length, number].sum()
    return total / len(case.lengths)


def reward_weighted_likelihood(case: Case, logits: Tensor) -> Tensor:
    log_prob, total = chosen(case, logits), logits.new_zeros(())
    for number, length in episodes(case):
        total = total - math.exp(0.5 * case.returns[number]) * log_prob[:length, number].sum()
    return total / len(case.lengths)


def advantage_weighted_likelihood(case: Case, logits: Tensor) -> Tensor:
    terms = [
        -min(math.exp(float(a) / 0.5), 3.0) * log_p
        for a, log_p in zip(case.advantage.flatten(), chosen(case, logits).flatten(), strict=True)
    ]
    return torch.stack(terms).mean()


def later(case: Case, t: int, n: int) -> Iterator[int]:
    """Rows t, t+1, ... to the end of the episode or of the data."""
    for row in range(t, len(case.reward)):
        yield row
        if case.done[row, n]:
            return


def reinforce_with_baseline(case: Case, logits: Tensor) -> Tensor:
    """Σ of later rewards less V, by the double sum; episodes end where they are cut."""
    log_prob, total = chosen(case, logits), logits.new_zeros(())
    for t, n in np.ndindex(*case.reward.shape):
        returned = sum(DISCOUNT ** (row - t) * case.reward[row, n] for row in later(case, t, n))
        total = total - (returned - case.value[t, n]) * log_prob[t, n]
    return total / len(case.lengths)


def temporal_difference(case: Case, t: int, n: int) -> float:
    following = 0.0 if case.terminated[t, n] else case.next_value[t, n]
    return float(case.reward[t, n] + DISCOUNT * following - case.value[t, n])


def generalized_advantage(case: Case, logits: Tensor) -> Tensor:
    log_prob, total = chosen(case, logits), logits.new_zeros(())
    for t, n in np.ndindex(*case.reward.shape):
        parts = ((DISCOUNT * TRACE) ** (row - t) * temporal_difference(case, row, n) for row in later(case, t, n))
        total = total - sum(parts) * log_prob[t, n]
    return total / log_prob.numel()


def leave_one_out(case: Case, logits: Tensor) -> Tensor:
    log_prob, total = chosen(case, logits), logits.new_zeros(())
    for number, length in episodes(case):
        others = [float(r) for other, r in enumerate(case.returns) if other != number]
        advantage = float(case.returns[number]) - sum(others) / len(others)
        total = total - advantage * log_prob[:length, number].sum()
    return total / len(case.lengths)


def grpo(by_length: bool = True, by_deviation: bool = True, kl: float = 0.0) -> Loss:
    """Equations 3 and 4 of the paper, episode by episode and token by token."""

    def loss(case: Case, logits: Tensor) -> Tensor:
        rewards = torch.from_numpy(case.returns)
        advantages = rewards - rewards.mean()
        if by_deviation:
            advantages = advantages / (rewards.std() + 1e-4)
        quotient, log_prob = ratio(case, logits), chosen(case, logits)
        reference = Categorical(logits=case.reference_logits).log_prob(case.labels)
        total = logits.new_zeros(())
        for number, length in episodes(case):
            tokens = logits.new_zeros(())
            for t in range(length):
                rho, a = quotient[t, number], advantages[number]
                difference = reference[t, number] - log_prob[t, number]
                tokens = tokens + torch.min(rho * a, rho.clamp(1 - CLIP, 1 + CLIP) * a)
                tokens = tokens - kl * (difference.exp() - difference - 1)
            total = total - (tokens / length if by_length else tokens)
        return total / len(case.lengths)

    return loss


def our_grpo(kl: float = 0.0) -> Loss:
    def rule(case: Case, now: Tensor, then: Tensor) -> Tensor:
        advantage = in_episode(case, returns.group_standardized(case.returns, case.lengths, floor=1e-4))
        reference = -cross_entropy(case.reference_logits, case.labels)
        penalty = weights.sampled_kl(now, reference, kl) * in_episode(case, 1.0 / case.lengths)
        return weights.clipped_ratio(advantage, now, then, CLIP) + penalty

    return on_action(rule, per_episode=True)


def v_trace_actor(case: Case, logits: Tensor) -> Tensor:
    """Targets by the sum of products of the paper's equation 1."""
    rho = ratio(case, logits).detach()
    bounded, trace = rho.clamp(max=1.2).tolist(), rho.clamp(max=0.9).tolist()

    def target(t: int, n: int) -> float:
        total, product = float(case.value[t, n]), 1.0
        for row in later(case, t, n):
            total += product * bounded[row][n] * temporal_difference(case, row, n)
            product *= DISCOUNT * trace[row][n]
        return total

    log_prob, loss = chosen(case, logits), logits.new_zeros(())
    for t, n in np.ndindex(*case.reward.shape):
        if case.terminated[t, n]:
            following = 0.0
        elif case.done[t, n] or t + 1 == len(case.reward):
            following = float(case.next_value[t, n])
        else:
            following = target(t + 1, n)
        advantage = case.reward[t, n] + DISCOUNT * following - case.value[t, n]
        loss = loss - bounded[t][n] * advantage * log_prob[t, n]
    return loss / log_prob.numel()


def our_v_trace(case: Case, now: Tensor, then: Tensor) -> Tensor:
    _, advantage = returns.vtrace(
        case.reward,
        case.value,
        case.next_value,
        case.terminated,
        case.done,
        (now - then).exp().numpy(),
        DISCOUNT,
        ratio_bound=1.2,
        trace_bound=0.9,
    )
    return weights.v_trace(torch.from_numpy(advantage), now, then, bound=1.2)


def tapered(case: Case, logits: Tensor) -> Tensor:
    """The ratio of an episode is the product over its actions."""
    quotient, log_prob, total = ratio(case, logits).detach(), chosen(case, logits), logits.new_zeros(())
    for number, length in episodes(case):
        factor = float(case.returns[number])
        if factor < 0:
            factor *= min(math.prod(quotient[:length, number].tolist()), 1.0)
        total = total - factor * log_prob[:length, number].sum()
    return total / len(case.lengths)


def our_topr(case: Case, now: Tensor, then: Tensor) -> Tensor:
    valid, weight = torch.from_numpy(case.valid), torch.zeros_like(now)
    episode = torch.arange(len(case.lengths)).expand_as(now)
    rows = (x[valid] for x in (in_episode(case, case.returns), now, then, episode))
    weight[valid] = weights.topr(*rows)
    return weight


def clipped_objective(case: Case, logits: Tensor) -> Tensor:
    quotient, advantage = ratio(case, logits), case.advantage
    return -torch.min(quotient * advantage, quotient.clamp(1 - CLIP, 1 + CLIP) * advantage).mean()


def our_sampled_entropy(case: Case, logits: Tensor) -> Tensor:
    """Its expectation over the action: every action that can be drawn, times how likely it is."""
    total = logits.new_zeros(())
    for action in range(CLASSES - case.masked):
        taken = torch.full_like(case.labels, action)
        log_prob = -cross_entropy(logits.detach(), taken)
        weight = log_prob.exp() * weights.sampled_entropy(log_prob, 0.3)
        total = total + rlce.weighted_cross_entropy(logits, taken, weight)
    return total


def kl_estimate(case: Case, logits: Tensor) -> Tensor:
    quotient = Categorical(logits=case.reference_logits).log_prob(case.labels) - chosen(case, logits)
    return 0.3 * (quotient.exp() - quotient - 1).mean()


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
        "cross-entropy",
        "e_y",
        "A",
        "Z = N",
        "–",
        "torch cross_entropy",
        supervised(lambda case, _: targets.one_hot(case.labels, CLASSES)),
        lambda case, logits: F.cross_entropy(flat(logits), case.labels.flatten()),
    ),
    Row(
        "sample weights",
        "s_i e_y",
        "A",
        "Z = N, the default",
        "–",
        "torch cross_entropy(reduction='none')",
        lambda case, logits: rlce.weighted_cross_entropy(logits, case.labels, case.sample_weights),
        lambda case, logits: (
            F.cross_entropy(flat(logits), case.labels.flatten(), reduction="none") * case.sample_weights.flatten()
        ).mean(),
    ),
    Row(
        "sample weights, their mean",
        "s_i e_y",
        "A",
        "Z = Σ s_i, as `normalizer`",
        "–",
        "torch cross_entropy(reduction='none')",
        lambda case, logits: rlce.weighted_cross_entropy(
            logits, case.labels, case.sample_weights, normalizer=case.sample_weights.sum()
        ),
        lambda case, logits: (
            F.cross_entropy(flat(logits), case.labels.flatten(), reduction="none")
            @ (case.sample_weights.flatten() / case.sample_weights.sum())
        ),
    ),
    Row(
        "class weights, index targets",
        "c_y e_y",
        "A",
        "Z = Σ_i c_{y_i}: `class_weight_sum`",
        "PyTorch's documentation",
        "torch cross_entropy(weight=c)",
        supervised(
            lambda case, _: targets.class_weighted(case.labels, CLASSES, case.class_weights),
            lambda case: targets.class_weight_sum(case.labels, case.class_weights),
        ),
        lambda case, logits: F.cross_entropy(flat(logits), case.labels.flatten(), weight=case.class_weights),
    ),
    Row(
        "class weights, probability targets",
        "c_k q_k",
        "A",
        "Z = N, so PyTorch's two forms differ on one-hot q",
        "PyTorch's documentation",
        "torch cross_entropy(weight=c), probabilities",
        supervised(lambda case, _: targets.scale_classes(case.teacher_logits.softmax(dim=-1), case.class_weights)),
        lambda case, logits: F.cross_entropy(
            flat(logits), flat(case.teacher_logits).softmax(dim=-1), weight=case.class_weights
        ),
    ),
    Row(
        "inverse class frequency",
        "c_y e_y, c_k ∝ 1/n_k",
        "A",
        "Z = N; c scaled to sum K",
        "1901.05555",
        "scikit-learn's compute_class_weight, torch cross_entropy",
        supervised(
            lambda case, _: targets.class_weighted(case.labels, CLASSES, targets.inverse_frequency(case.counts))
        ),
        weighted_by_counts(balanced_by_scikit_learn),
        masks="none",
    ),
    Row(
        "class-balanced",
        "c_y e_y, c_k ∝ (1−β)/(1−β^{n_k})",
        "A",
        "Z = N; c scaled to sum K",
        "1901.05555",
        "the paper's formula in NumPy, torch cross_entropy",
        supervised(
            lambda case, _: targets.class_weighted(case.labels, CLASSES, targets.class_balanced(case.counts, 0.99))
        ),
        weighted_by_counts(effective_number),
        masks="none",
    ),
    Row(
        "label smoothing",
        "(1−ε) e_y + ε/K",
        "A",
        "Z = N",
        "1512.00567",
        "torch cross_entropy(label_smoothing=ε)",
        supervised(lambda case, _: targets.smooth(case.labels, CLASSES, 0.3)),
        lambda case, logits: F.cross_entropy(flat(logits), case.labels.flatten(), label_smoothing=0.3),
        masks="raise",
    ),
    Row(
        "label smoothing off the class",
        "(1−ε) e_y + ε/(K−1) (1 − e_y)",
        "A",
        "Z = N; the other convention",
        "fairseq",
        "its two-term form written out",
        supervised(lambda case, _: targets.smooth_off_class(case.labels, CLASSES, 0.3)),
        off_class_smoothing,
        masks="raise",
    ),
    Row(
        "smoothing with class weights",
        "c_k((1−ε)1[k=y] + ε/K)",
        "A",
        "Z = Σ_i c_{y_i}; not c_y times the smoothed row",
        "PyTorch's documentation",
        "torch cross_entropy(weight=c, label_smoothing=ε)",
        supervised(
            lambda case, _: targets.class_weighted(case.labels, CLASSES, case.class_weights, 0.3),
            lambda case: targets.class_weight_sum(case.labels, case.class_weights),
        ),
        lambda case, logits: F.cross_entropy(
            flat(logits), case.labels.flatten(), weight=case.class_weights, label_smoothing=0.3
        ),
        masks="raise",
    ),
    Row(
        "uncertain labels",
        "q_k",
        "A",
        "Z = N; q itself is the target",
        "–",
        "torch cross_entropy, probabilities",
        supervised(lambda case, _: case.teacher_logits.softmax(dim=-1)),
        lambda case, logits: F.cross_entropy(flat(logits), flat(case.teacher_logits).softmax(dim=-1)),
    ),
    Row(
        "distillation",
        "softmax(teacher/T)_k on z/T",
        "A",
        "Z = N/T²; the value less T² times the teacher's entropy",
        "1503.02531",
        "torch kl_div",
        our_distillation,
        distillation,
    ),
    Row(
        "mixup",
        "λ e_y + (1−λ) e_y'",
        "A",
        "Z = N; inputs mixed with the same λ",
        "1710.09412",
        "two torch cross_entropy",
        supervised(lambda case, _: targets.mix_labels(case.labels, CLASSES, case.partner_labels, case.share)),
        lambda case, logits: (
            case.share.flatten() * F.cross_entropy(flat(logits), case.labels.flatten(), reduction="none")
            + (1 - case.share.flatten())
            * F.cross_entropy(flat(logits), case.partner_labels.flatten(), reduction="none")
        ).mean(),
    ),
    Row(
        "logit adjustment, balanced softmax",
        "e_y on z_k + τ log π_k",
        "A",
        "Z = N; a transform of the logits, not a weight; τ = 1 is balanced softmax",
        "2007.07314, 2007.10740",
        "the papers' quotient by logsumexp",
        lambda case, logits: rlce.weighted_cross_entropy(
            targets.logit_adjusted(logits, case.counts[: logits.shape[-1]], 1.5), case.labels
        ),
        adjusted_softmax,
    ),
    Row(
        "LDAM",
        "e_y on s(z_k − Δ_k 1[k=y]), Δ_k ∝ n_k^{−1/4}",
        "A",
        "Z = N; a transform of the logits",
        "1906.07413",
        "the authors' steps in NumPy, torch cross_entropy",
        lambda case, logits: rlce.weighted_cross_entropy(
            targets.label_margin(logits, case.labels, case.counts, largest=0.5, scale=3.0), case.labels
        ),
        label_distribution_aware_margin,
    ),
    Row(
        "multi-label, one-vs-all sigmoids",
        "e_{y_m} on (0, z_m), a row a label",
        "A",
        "Z = rows × labels",
        "–",
        "torch binary_cross_entropy_with_logits",
        lambda case, logits: rlce.weighted_cross_entropy(targets.two_class_rows(logits), case.multi_hot),
        lambda case, logits: F.binary_cross_entropy_with_logits(logits, case.multi_hot.double()),
        masks="none",
    ),
    Row(
        "generalised cross-entropy",
        "p_y^q e_y",
        "C",
        "Z = N",
        "1805.07836",
        "autograd of (1 − p_y^q)/q",
        supervised(lambda case, logits: targets.generalized_cross_entropy(case.labels, logits, 0.7)),
        lambda case, logits: ((1 - chosen(case, logits).exp() ** 0.7) / 0.7).mean(),
    ),
    Row(
        "Poly-1",
        "(1 + ε p_y) e_y",
        "C",
        "Z = N",
        "2204.12511",
        "autograd of −log p_y + ε(1 − p_y)",
        supervised(lambda case, logits: targets.poly_one(case.labels, logits, 2.0)),
        lambda case, logits: (
            F.cross_entropy(flat(logits), case.labels.flatten()) + 2.0 * (1 - chosen(case, logits).exp()).mean()
        ),
    ),
    Row(
        "focal loss",
        "[(1−p)^γ − γ p (1−p)^{γ−1} log p] e_y",
        "C",
        "Z = N",
        "1708.02002",
        "autograd of −(1−p)^γ log p",
        supervised(lambda case, logits: targets.focal(case.labels, logits, 2.0)),
        lambda case, logits: -((1 - chosen(case, logits).exp()) ** 2.0 * chosen(case, logits)).mean(),
    ),
    Row(
        "focal factor, detached",
        "(1−p)^γ e_y",
        "B",
        "Z = N; not focal loss: its weight is 1.5, 2.4, 2.9 times this at p = .1, .5, .9 (γ = 2)",
        "–",
        "autograd of −sg((1−p)^γ) log p",
        supervised(lambda case, logits: targets.focal_modulated(case.labels, logits, 2.0)),
        lambda case, logits: -(((1 - chosen(case, logits).exp()) ** 2.0).detach() * chosen(case, logits)).mean(),
    ),
    Row(
        "squared error on softmax",
        "(q_k − p_k) p_k",
        "C",
        "Z = N; on two-class rows it is squared error on sigmoids",
        "Brier 1950",
        "autograd of ½ Σ_k (p_k − q_k)²",
        supervised(lambda case, logits: targets.squared_error(case.teacher_logits.softmax(dim=-1), logits)),
        lambda case, logits: (
            0.5 * (flat(logits).softmax(dim=-1) - flat(case.teacher_logits).softmax(dim=-1)).square().sum(dim=-1).mean()
        ),
    ),
    Row(
        "expected accuracy",
        "p_y e_y",
        "C",
        "Z = N; all-action gradient with reward 1[k=y]",
        "–",
        "autograd of −p_y",
        supervised(lambda case, logits: targets.expected_accuracy(case.labels, logits)),
        lambda case, logits: -flat(logits).softmax(dim=-1).gather(-1, case.labels.reshape(-1, 1)).mean(),
    ),
    Row(
        "elite filtering, cross-entropy method on episodes",
        "1[R_i ≥ quantile] e_a",
        "A",
        "Z = episodes, those left out included; over whole episodes",
        "de Boer et al. 2005",
        "maximum likelihood on the best episodes, in loops",
        on_action(lambda case, *_: in_episode(case, returns.elite(case.returns, 0.7)), per_episode=True),
        filtered_cloning,
        unit="batch",
    ),
    Row(
        "reward-weighted regression",
        "f(R_i) e_a, f ≥ 0",
        "A",
        "Z = episodes; EM's M-step",
        "Peters and Schaal 2007",
        "weighted likelihood in loops",
        on_action(
            lambda case, *_: (
                weights.reward_weighted(torch.from_numpy(case.returns), lambda r: (0.5 * r).exp())
                * torch.from_numpy(case.valid)
            ),
            per_episode=True,
        ),
        reward_weighted_likelihood,
        unit="iteration",
    ),
    Row(
        "advantage-weighted regression",
        "min(exp((R−V)/β), w_max) e_a",
        "A",
        "Z = rows; V detached",
        "1910.00177",
        "weighted likelihood in loops",
        on_action(lambda case, *_: weights.advantage_weighted(case.advantage, temperature=0.5, bound=3.0)),
        advantage_weighted_likelihood,
        unit="iteration",
    ),
    Row(
        "REINFORCE, reward-to-go",
        "(Σ_{t'≥t} γ^{t'−t} r_{t'} − b(s_t)) e_a",
        "B",
        "Z = episodes for ∇J; γ^t more for the discounted objective",
        "Williams 1992",
        "the double sum in loops",
        on_action(
            lambda case, *_: weights.score(
                torch.from_numpy(returns.reward_to_go(case.reward, case.terminated, case.done, DISCOUNT) - case.value)
            ),
            per_episode=True,
        ),
        reinforce_with_baseline,
    ),
    Row(
        "actor-critic, GAE",
        "sg(A_t) e_a",
        "B",
        "Z = rows; the critic is a regression of its own",
        "1506.02438",
        "the double sum of γλ-discounted errors in loops",
        on_action(
            lambda case, *_: weights.score(
                torch.from_numpy(
                    returns.gae(case.reward, case.value, case.next_value, case.terminated, case.done, DISCOUNT, TRACE)
                )
            )
        ),
        generalized_advantage,
    ),
    Row(
        "RLOO",
        "(r_j − mean of the other G−1) e_a",
        "B",
        "Z = G; = G/(G−1) (r_j − mean)",
        "2402.14740",
        "mean of the others in loops",
        on_action(
            lambda case, *_: weights.score(in_episode(case, case.returns - returns.leave_one_out(case.returns))),
            per_episode=True,
        ),
        leave_one_out,
        needs_two=True,
        level=True,
    ),
    Row(
        "self-imitation",
        "max(R−V, 0) e_a",
        "B",
        "Z = rows; replayed without a ratio",
        "1806.05635",
        "relu, torch cross_entropy",
        on_action(lambda case, *_: weights.self_imitation(case.advantage)),
        lambda case, logits: (
            F.cross_entropy(flat(logits), case.labels.flatten(), reduction="none") * case.advantage.flatten().relu()
        ).mean(),
    ),
    Row(
        "V-trace actor",
        "min(ρ̄, sg(ρ)) (r + γ v' − V) e_a",
        "B",
        "Z = rows; v' never crosses episodes",
        "1802.01561",
        "the paper's sum of products in loops",
        on_action(our_v_trace),
        v_trace_actor,
    ),
    Row(
        "CISPO",
        "sg(clip(ρ, 1−ε_low, 1+ε_high)) A e_a",
        "B",
        "Z = rows; no row is dropped",
        "2506.13585",
        "autograd of −sg(clip(ρ)) A log π",
        on_action(lambda case, now, then: weights.cispo(case.advantage, now, then, low=0.3, high=0.2)),
        lambda case, logits: (
            -(ratio(case, logits).clamp(0.7, 1.2).detach() * case.advantage * chosen(case, logits)).mean()
        ),
    ),
    Row(
        "TOPR",
        "R e_a where R ≥ 0, else sg(min(ρ(τ), 1)) R e_a",
        "B",
        "Z = episodes; ρ(τ) is of the whole episode",
        "2503.14286",
        "products of ratios in loops",
        on_action(our_topr, per_episode=True),
        tapered,
    ),
    Row(
        "importance-sampled policy gradient",
        "sg(ρ) A e_a",
        "C",
        "Z = rows",
        "Jie and Abbeel 2010",
        "autograd of −ρA",
        on_action(lambda case, now, then: weights.importance_sampled(case.advantage, now, then)),
        lambda case, logits: -(ratio(case, logits) * case.advantage).mean(),
    ),
    Row(
        "PPO's clip",
        "sg(ρ) A e_a · 1[not ((A>0 and ρ>1+ε) or (A<0 and ρ<1−ε))]",
        "C",
        "Z = rows; ρ and mask anew in each minibatch",
        "1707.06347",
        "autograd of −min(ρA, clip(ρ)A)",
        on_action(lambda case, now, then: weights.clipped_ratio(case.advantage, now, then, CLIP)),
        clipped_objective,
    ),
    Row(
        "GRPO",
        "sg(ρ m)(r_j − mean)/(std+δ)/len_j · e_a, m = PPO's mask",
        "C",
        "Z = G; std of a sample (G−1)",
        "2402.03300",
        "autograd of the paper's sum in loops",
        our_grpo(),
        grpo(),
        needs_two=True,
        level=True,
    ),
    Row(
        "GRPO with its KL",
        "as above, plus β(ref/p − 1)/len_j · e_a",
        "C",
        "Z = G; the KL stands inside the mean over the episode",
        "2402.03300",
        "autograd of the paper's sum in loops",
        our_grpo(kl=0.3),
        grpo(kl=0.3),
        needs_two=True,
    ),
    Row(
        "Dr. GRPO",
        "sg(ρ m)(r_j − mean) e_a",
        "C",
        "Z = G; (G−1)/G of RLOO at ρ = 1",
        "2503.20783",
        "autograd of the paper's sum in loops",
        on_action(
            lambda case, now, then: weights.clipped_ratio(
                in_episode(case, returns.group_centred(case.returns)), now, then, CLIP
            ),
            per_episode=True,
        ),
        grpo(by_length=False, by_deviation=False),
        needs_two=True,
        level=True,
    ),
    Row(
        "all-action policy gradient",
        "sg(p_k Q_k)",
        "C",
        "Z = rows",
        "Sutton et al. 2000",
        "autograd of −Σ_k p_k Q_k",
        supervised(lambda case, logits: weights.all_action(logits, case.action_values)),
        lambda case, logits: -(logits.softmax(dim=-1) * case.action_values).sum(dim=-1).mean(),
    ),
    Row(
        "entropy bonus",
        "−c p_k log p_k",
        "C",
        "Z = rows",
        "Williams and Peng 1991, 1701.06548",
        "autograd of −c torch.distributions' entropy",
        supervised(lambda case, logits: weights.entropy_bonus(logits, 0.3)),
        lambda case, logits: -0.3 * Categorical(logits=logits).entropy().mean(),
    ),
    Row(
        "entropy bonus, sampled",
        "−c sg(log p_a) e_a",
        "B",
        "Z = rows; here its expectation over a ~ p. The naive −log p_a has zero mean gradient",
        "Williams and Peng 1991",
        "autograd of −c torch.distributions' entropy",
        our_sampled_entropy,
        lambda case, logits: -0.3 * Categorical(logits=logits).entropy().mean(),
    ),
    Row(
        "reverse KL",
        "β p_k (log ref_k − log p_k)",
        "C",
        "Z = rows",
        "1909.08593",
        "autograd of torch.distributions' KL(p‖ref)",
        supervised(lambda case, logits: weights.reverse_kl(logits, case.reference_logits, 0.7)),
        lambda case, logits: (
            0.7 * kl_divergence(Categorical(logits=logits), Categorical(logits=case.reference_logits)).mean()
        ),
    ),
    Row(
        "forward KL",
        "β ref_k",
        "A",
        "Z = rows; the value less β times the reference's entropy",
        "1503.02531",
        "torch.distributions' KL(ref‖p)",
        our_forward_kl,
        lambda case, logits: (
            0.7 * kl_divergence(Categorical(logits=case.reference_logits), Categorical(logits=logits)).mean()
        ),
    ),
    Row(
        "KL penalty, sampled (k3)",
        "β(ref/p − 1) e_a",
        "C",
        "Z = rows; its mean gradient over a ~ p is forward KL's, not reverse KL's",
        "2402.03300",
        "autograd of β(ref/p − log(ref/p) − 1)",
        on_action(
            lambda case, now, _: weights.sampled_kl(now, -cross_entropy(case.reference_logits, case.labels), 0.3)
        ),
        kl_estimate,
    ),
]
