"""The supervised loss: what a batch becomes on its way to the one objective.

    rows drawn ─► labels → targets ─► rows mixed ─► network ─► logits ─► current outputs ─► class weights ─► objective

Each rule says by its first parameter's name where it belongs (the table in `rlce.targets`), and gets the other things
that it names, so no rule has to know of another. A regression has no rules: its batch goes straight to the objective.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlce.heads import Bernoulli, Categorical, RegressionHead
from rlce.objective import objective
from rlce.rules import targets
from rlce.rules.binding import Bound, Rule, bind, name_of

# First parameter → what else a rule of this kind may name; all may name what is known of the training rows.
_STAGES: dict[str, tuple[str, ...]] = {
    "all_labels": ("all_weights",),
    "labels": ("generator",),
    "inputs": ("targets", "weights", "generator"),
    "logits": ("labels",),
    "targets": ("logits",),
    "counts": (),
}
_ALWAYS = ("classes", "counts", "dtype")


class Batch(NamedTuple):
    """What one gradient step uses. B rows."""

    inputs: Tensor  # [B, D] standardised
    target: Tensor  # [B] or [B, ...], as the head takes it
    weight: Tensor | None  # [B], mean 1 over all training rows; None where all are 1


class Computed(NamedTuple):
    """The loss of a batch, and what it was made of."""

    loss: Tensor  # the objective, a scalar
    outputs: Tensor  # [B, n_outputs], as the network gave them
    target: Tensor  # before the outputs had a say: as in the batch, or rows of target weights
    watched: Tensor  # the objective of those, detached: it says how training goes where the loss itself does not


@dataclass(frozen=True)
class Rules:
    """Rules in their documented order.

    Attributes:
        stages: first parameter → rules, in the given order.
        one_vs_all: whether `rlce.targets.two_class_rows` is among them: every output is then a yes or no.
    """

    stages: Mapping[str, tuple[Bound, ...]] = field(default_factory=dict)
    one_vs_all: bool = False

    def of(self, stage: str) -> tuple[Bound, ...]:
        """The rules of one stage."""
        return self.stages.get(stage, ())


def read_rules(rule: Rule | Sequence[Rule] | None) -> Rules:
    """Sort rules by stage.

    Args:
        rule: one rule, several, or None for none.

    Returns:
        The rules, each of which knows what to take.

    Raises:
        TypeError: something that cannot be called.
        ValueError: a rule whose first parameter names no stage, or that needs what is not there.

    Example:
        >>> rules = read_rules([targets.logit_adjusted, functools.partial(targets.smooth, epsilon=0.5)])
        >>> {stage: [one.name for one in bound] for stage, bound in rules.stages.items()}
        {'logits': ['logit_adjusted'], 'labels': ['smooth']}
    """
    if not (rule is None or callable(rule) or isinstance(rule, Sequence)):
        raise TypeError(f"rule must be a function or a sequence of them, got {rule!r}")
    several = [] if rule is None else [rule] if callable(rule) else list(rule)
    stages: dict[str, tuple[Bound, ...]] = {}
    for one in several:
        if one is not targets.two_class_rows:
            if not callable(one):
                raise TypeError(f"rule must be a function or a sequence of them, got {one!r}")
            stage = next(iter(inspect.signature(one).parameters), "")
            if stage not in _STAGES:
                raise ValueError(
                    f"rule: the first parameter of {name_of(one)} must be one of {', '.join(_STAGES)}, got {stage!r}"
                )
            stages[stage] = (*stages.get(stage, ()), bind(one, (stage, *_STAGES[stage], *_ALWAYS)))
    return Rules(stages, targets.two_class_rows in several)


@dataclass(frozen=True, eq=False)
class Loss:
    """The loss of a head under rules, a function of network and batch.

    Attributes:
        head: what the outputs mean.
        rules: see `read_rules`.
        counts: sums of the training rows' sample weights, ``[K]`` (``[M, 2]`` where every output is a yes or no).
        class_weights: the product of all class weights, of ``counts``' shape, or None.
        probabilities: with which rows are drawn, ``[N]`` on the CPU, or None for each once.

    Example:
        >>> rules = read_rules([targets.logit_adjusted, functools.partial(targets.smooth, epsilon=0.5)])
        >>> loss = Loss(Categorical(2), rules, counts=torch.tensor([3.0, 1.0]))
        >>> batch = Batch(torch.zeros(1, 2), torch.tensor([0]), None)
        >>> computed = loss(nn.Identity(), batch, torch.Generator())
        >>> computed.target, computed.loss  # 3/4 of -log 3/4 and 1/4 of -log 1/4
        (tensor([[0.7500, 0.2500]]), tensor(0.5623))
    """

    head: Categorical | Bernoulli | RegressionHead
    rules: Rules = Rules()
    counts: Tensor = field(default_factory=lambda: torch.zeros(0))
    class_weights: Tensor | None = None
    probabilities: Tensor | None = None

    @property
    def of_outputs(self) -> bool:
        """Whether a rule looks at the current outputs, so that the objective's value is not the loss (tier C)."""
        return bool(self.rules.of("targets"))

    def __call__(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Computed:
        """The objective on a batch; Z is its rows.

        Args:
            network: inputs → outputs, ``[B, n_outputs]``.
            batch: its target holds class indices ``[B]``, zeros and ones ``[B, M]``, rows of target weights ``[B, K]``
                (``[B, M, 2]``), or numbers ``[B, 1]``.
            generator: for rules that draw, on the CPU.

        Raises:
            ValueError: a rule's result has another shape.
        """
        inputs, target, weights = batch
        dtype = inputs.dtype
        target = self.of_labels(target, generator, dtype)
        for rule in self.rules.of("inputs"):
            weights = inputs.new_ones(len(inputs)) if weights is None else weights
            known = {"inputs": inputs, "targets": target, "weights": weights, "generator": generator}
            inputs, target, weights = rule.call(known | self.known(dtype))
        outputs = logits = network(inputs)
        if self.rules.of("logits"):
            logits = self.class_head.outputs_of(self.of_logits(self.class_head.logits(outputs), target))
        weighted = self._weighted(target, logits.detach())
        loss = self._objective(weighted, target, logits, weights)
        watched = loss.detach() if weighted is target else self._objective(target, target, logits.detach(), weights)
        return Computed(loss, outputs, target, watched)

    def of_labels(self, labels: Tensor, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """What the rules of labels make of them; the labels themselves where there is none."""
        for rule in self.rules.of("labels"):
            shape = labels.shape if labels.is_floating_point() else (*labels.shape, self.counts.shape[-1])
            known = {"labels": labels, "generator": generator, **self.known(dtype)}
            labels = _check_shape("target weights", rule.call(known), shape).detach().to(dtype)
        return labels

    def of_logits(self, rows: Tensor, labels: Tensor) -> Tensor:
        """What the rules of logits make of the head's rows."""
        known = {"labels": labels, **self.known(rows.dtype)}
        for rule in self.rules.of("logits"):
            rows = _check_shape("logits", rule.call({**known, "logits": rows}), rows.shape)
        return rows

    def _weighted(self, target: Tensor, logits: Tensor) -> Tensor:
        """What the rules of the current outputs make of the targets; the targets themselves where there is none."""
        if not self.of_outputs:
            return target
        rows = self.class_head.logits(logits)
        known = {"logits": rows, **self.known(rows.dtype)}
        for rule in self.rules.of("targets"):
            target = _check_shape("target weights", rule.call({**known, "targets": target}), rows.shape).detach()
        return target

    def _objective(self, weighted: Tensor, target: Tensor, logits: Tensor, weights: Tensor | None) -> Tensor:
        """The objective of target weights, with class weights by the targets that they were made of."""
        if self.class_weights is not None and weighted is target and target.ndim == 1:
            of_class = self.class_weights[target]
            weights = of_class if weights is None else weights * of_class
        elif self.class_weights is not None:
            rows = targets.one_hot(target, self.counts.shape[-1], logits.dtype)
            if weighted is target:
                weighted = rows * self.class_weights
            else:
                # Weights from the outputs stand on other classes than the label's, too: the row is weighted whole.
                weighted = weighted * (rows * self.class_weights).sum(dim=-1, keepdim=True)
        if weighted.is_floating_point():
            weighted = weighted.to(logits.dtype)
        return objective(self.head.cost, logits, weighted, weights)

    def known(self, dtype: torch.dtype) -> dict[str, Any]:
        """What every rule may name, in the network's number type."""
        return {"classes": self.counts.shape[-1], "counts": self.counts.to(dtype), "dtype": dtype}

    @property
    def class_head(self) -> Categorical | Bernoulli:
        """The head, where it is one of classes."""
        assert isinstance(self.head, Categorical | Bernoulli), "rules are for classes"
        return self.head


def counts_of(labels: Tensor, weights: Tensor, head: Categorical | Bernoulli) -> Tensor:
    """Sums of sample weights by class.

    Args:
        labels: class indices ``[N]``, zeros and ones ``[N, M]``, or target weights ``[N, K]`` (``[N, M, 2]``).
        weights: ``[N]``: a weight of 2 counts as two rows.
        head: of K classes, or of M labels.

    Returns:
        ``[K]``, or ``[M, 2]``: of no and of yes; float64.

    Example:
        >>> counts_of(torch.tensor([0, 2, 2]), torch.tensor([1.0, 1.0, 3.0]), Categorical(3))
        tensor([1., 0., 4.], dtype=torch.float64)
    """
    weights = weights.double()
    if labels.is_floating_point():
        return torch.tensordot(weights, labels.double(), dims=1)
    if isinstance(head, Categorical):
        return torch.bincount(labels, weights, head.classes)
    yes = weights @ labels.double()
    return torch.stack([weights.sum() - yes, yes], dim=-1)


def class_loss(
    head: Categorical | Bernoulli,
    rules: Rules,
    labels: Tensor,
    weights: Tensor,
    counts: Tensor,
    factors: Tensor | None,
    like: Tensor,
) -> Loss:
    """The loss of classes, with what its rules ask of the training rows.

    Args:
        head: what the outputs mean.
        rules: see `read_rules`.
        labels: of the training rows, as for `counts_of`.
        weights: sample weights as they were given, ``[N]``.
        counts: of these rows and of those that came before, as `counts_of` gives them.
        factors: more class weights, of the counts' shape, or None.
        like: a tensor of the network's number type, where the network lives.

    Raises:
        ValueError: a class without a row where a rule divides by its count, or a rule for one class a row with several
            labels.
    """
    weights = weights.double()
    loss = Loss(head, rules, counts)
    made = [rule.call(loss.known(like.dtype)) for rule in rules.of("counts")]
    made += [] if factors is None else [factors]
    for factor in made:
        _check_weights("class weights", factor, counts.shape)
    class_weights = functools.reduce(torch.mul, made).to(like.dtype) if made else None
    if class_weights is not None and not (class_weights * counts).sum() > 0:
        raise ValueError(f"class weights must not be zero for every class that has rows, got {class_weights}")
    if rules.of("all_labels") and counts.ndim > 1:
        raise ValueError("rule: rows are drawn by one class a row, and these have several labels")
    known = {**loss.known(torch.float64), "all_labels": labels, "all_weights": weights}
    drawn = [rule.call(known) for rule in rules.of("all_labels")]
    for each in drawn:
        _check_weights("probabilities of drawing rows", each, weights.shape)
    return Loss(
        head,
        rules,
        counts.to(like.device),
        None if class_weights is None else class_weights.to(like.device),
        functools.reduce(torch.mul, drawn) if drawn else None,
    )


def prior_of(loss: Loss, labels: Tensor) -> NDArray[np.float64] | None:
    """The class frequencies that the network's own probabilities are for, after drawing, weights and logits.

    Args:
        loss: of one class a row, as `class_loss` made it.
        labels: of the training rows, ``[N]`` or rows ``[N, K]``.

    Returns:
        ``[K]``, summing to 1; None where a rule of logits does more than shift each class's by a constant.
    """
    mass, classes, rows = loss.counts.cpu(), loss.counts.shape[-1], loss.probabilities
    if rows is not None:
        mass = rows @ labels.double() if labels.is_floating_point() else torch.bincount(labels, rows, classes)
    if loss.class_weights is not None:
        mass = mass * loss.class_weights.cpu().double()
    # A rule of labels may weight classes, too: what it makes of a row of each class in turn, summed.
    loss = Loss(loss.head, loss.rules, loss.counts.cpu())
    one_each = torch.eye(classes, dtype=torch.float64) if labels.is_floating_point() else torch.arange(classes)
    one_each = loss.of_labels(one_each, torch.Generator().manual_seed(0), torch.float64)
    mass = mass * targets.one_hot(one_each, classes, torch.float64).sum(dim=-1)
    # What a transform adds to the logits in training is missing from those that predict.
    zeros, probe = torch.zeros(1, classes, dtype=torch.float64), torch.arange(classes).double()[None]
    try:
        shift, shifted_probe = (loss.of_logits(logits, torch.zeros_like(zeros)) for logits in (zeros, probe))
    except (RuntimeError, TypeError, IndexError):  # a rule that wants labels as they are
        return None
    if not torch.allclose(shifted_probe - shift, probe, atol=1e-6):
        return None
    mass = mass * (-shift[0]).exp()
    return (mass / mass.sum()).numpy()


def to_json(rule: Rule | Sequence[Rule] | None) -> Any:
    """A rule as JSON can say it: the library's own by name and arguments, any other as "foreign".

    Example:
        >>> to_json(functools.partial(targets.smooth, epsilon=0.2))
        {'name': 'smooth', 'arguments': {'epsilon': 0.2}}
    """
    if rule is None:
        return None
    if not callable(rule):
        return [to_json(one) for one in rule]
    function, arguments = (rule.func, rule.keywords) if isinstance(rule, functools.partial) else (rule, {})
    if getattr(targets, getattr(function, "__name__", ""), None) is function and not getattr(rule, "args", ()):
        return {"name": function.__name__, "arguments": {name: _plain(value) for name, value in arguments.items()}}
    return "foreign"


def from_json(description: Any) -> Rule | list[Rule] | None:
    """What `to_json` said; a foreign rule is one that refuses to be used.

    Raises:
        ValueError: the library has no such rule.
    """
    if description is None:
        return None
    if isinstance(description, list):
        return [rule for one in description if callable(rule := from_json(one))]
    if isinstance(description, str):
        return _missing
    function = getattr(targets, description["name"], None)
    if function is None or getattr(function, "__module__", None) != targets.__name__:
        raise ValueError(f"rule: the library has no rule {description['name']!r}")
    return functools.partial(function, **description["arguments"]) if description["arguments"] else function


def _missing(labels: Tensor) -> Tensor:
    raise ValueError("rule: the saved rule is not the library's own; pass it to load(rule=...) to fit again")


def _check_shape(what: str, value: Any, shape: Sequence[int]) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != torch.Size(shape):
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"rule must give {what} of shape {list(shape)}, got {got}")
    return value


def _check_weights(what: str, value: Any, shape: Sequence[int]) -> None:
    """Refuse what is negative or not finite, besides what has another shape."""
    _check_shape(what, value, shape)
    if not (value.isfinite() & (value >= 0)).all() or not value.sum() > 0:
        raise ValueError(f"rule must give finite {what} >= 0, not all zero, got {value.min()} to {value.max()}")


def _plain(value: Any) -> Any:
    """Arrays and tensors as lists."""
    return value.tolist() if isinstance(value, Tensor | np.ndarray | np.generic) else value
