"""The supervised loss: the steps from a batch to the one objective.

    rows drawn ─► labels → targets ─► rows mixed ─► network ─► logits ─► current outputs ─► class weights ─► objective

The name of a rule's first parameter says at which step it works (see the table in `rlce.targets`). A rule gets only the
things it names, so no rule depends on another. A regression has no rules: its batch goes straight to the objective.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
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

# Stage of a rule, which is the name of its first parameter → the other things it may name, besides `Loss.known`.
_STAGES: dict[str, tuple[str, ...]] = {
    "all_labels": ("all_weights",),
    "labels": ("generator",),
    "inputs": ("targets", "weights", "generator"),
    "logits": ("labels",),
    "targets": ("logits",),
    "counts": (),
}
# The library's functions that take labels, logits or counts, by name.
_FUNCTIONS = {
    name: function
    for name, function in vars(targets).items()
    if inspect.isfunction(function) and function.__module__ == targets.__name__ and not name.startswith("_")
}
# Names for several rules at once. "imbalanced" is for rare classes and wrong labels: docs/imbalanced.md.
_COMBINATIONS: dict[str, tuple[Rule, ...]] = {
    "imbalanced": (targets.logit_adjusted, functools.partial(targets.generalized_cross_entropy, q=0.4)),
}
# The largest number of target weights that `prior_of` makes at once.
_BLOCK = 2**20

RuleLike = Rule | str | Sequence[Rule | str]
# What rules returned in one step: stage, rule, tensors.
Returned = list[tuple[str, Bound, Sequence[Tensor]]]


class Batch(NamedTuple):
    """The B rows of one gradient step."""

    inputs: Tensor  # [B, D] scaled
    target: Tensor  # [B] or [B, ...], as the head takes it
    weight: Tensor | None  # [B], with mean 1 over all training rows; None if all are 1


class Computed(NamedTuple):
    """The loss of a batch, and what was computed on the way."""

    loss: Tensor  # the objective, a scalar
    outputs: Tensor  # [B, n_outputs], of the network
    target: Tensor  # the targets before the rules of the current outputs
    watched: Tensor  # the objective for those targets, detached; it shows progress even if the loss itself does not
    weighted: tuple[Tensor, Tensor | None]  # targets and weights as the objective got them

    @property
    def row_weights(self) -> Tensor:
        """S = Σ_k w_k of each row, ``[B]``; labels that are indices count 1."""
        target, weights = self.weighted
        shares = target.flatten(1).sum(dim=1) if target.is_floating_point() else self.outputs.new_ones(len(target))
        return shares if weights is None else shares * weights


@dataclass(frozen=True)
class Rules:
    """Rules, sorted by stage.

    Attributes:
        stages: name of the first parameter → rules, in the order given.
        one_vs_all: True if `rlce.targets.two_class_rows` is among them, so every class has its own sigmoid.
    """

    stages: Mapping[str, Sequence[Bound]] = field(default_factory=dict)
    one_vs_all: bool = False

    def of(self, stage: str) -> Sequence[Bound]:
        """The rules of one stage."""
        return self.stages.get(stage, ())


def read_rules(rule: RuleLike | None) -> Rules:
    """Sort rules by stage.

    Args:
        rule: a function, the name of a rule, a sequence of both, or None.

    Raises:
        TypeError: something is neither a function nor a name.
        ValueError: no rule has this name, the first parameter of a rule is not a stage, or a rule needs a parameter
            that nothing provides.

    Example:
        >>> rules = read_rules(["logit_adjusted", functools.partial(targets.smooth, epsilon=0.5)])
        >>> {stage: [one.name for one in bound] for stage, bound in rules.stages.items()}
        {'logits': ['logit_adjusted'], 'labels': ['smooth']}
    """
    several = [] if rule is None else list(_functions(rule))
    stages: dict[str, list[Bound]] = {}
    for one in several:
        if one is targets.two_class_rows:
            continue
        stage = next(iter(inspect.signature(one).parameters), "")
        if stage not in _STAGES:
            names = ", ".join(_STAGES)
            raise ValueError(f"rule: the first parameter of {name_of(one)} must be one of {names}, got {stage!r}")
        stages.setdefault(stage, []).append(bind(one, (stage, *_STAGES[stage], "classes", "counts", "dtype")))
    return Rules(stages, targets.two_class_rows in several)


def _functions(rule: Any) -> Iterator[Rule]:
    """All rules as functions, in the order given."""
    if callable(rule):
        yield rule
    elif isinstance(rule, str):
        if rule not in _COMBINATIONS and rule not in _FUNCTIONS:
            names = ", ".join([*_COMBINATIONS, *_FUNCTIONS])
            raise ValueError(f"rule: no rule has the name {rule!r}; the names are {names}")
        yield from _COMBINATIONS[rule] if rule in _COMBINATIONS else [_FUNCTIONS[rule]]
    elif isinstance(rule, Sequence):
        for one in rule:
            yield from _functions(one)
    else:
        raise TypeError(f"rule must be a function, a name or a sequence of them, got {rule!r}")


@dataclass(frozen=True, eq=False)
class Loss:
    """The loss of a head under rules: a function of network and batch.

    Attributes:
        head: what the outputs mean.
        rules: see `read_rules`.
        counts: sums of the training rows' sample weights, ``[K]`` (``[M, 2]`` if every output is a sigmoid).
        class_weights: the product of all class weights, of the shape of ``counts``, or None.
        probabilities: of drawing each row, ``[N]`` on the CPU; None if each row is used once an epoch.

    Example:
        >>> rules = read_rules(["logit_adjusted", functools.partial(targets.smooth, epsilon=0.5)])
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
        """True if a rule uses the current outputs, so that the objective's value is not the loss (tier C)."""
        return bool(self.rules.of("targets"))

    @property
    def class_head(self) -> Categorical | Bernoulli:
        """The head, if it is one of classes."""
        assert isinstance(self.head, Categorical | Bernoulli), "rules are for classes"
        return self.head

    def __call__(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Computed:
        """The objective on a batch; Z is the number of its rows.

        Args:
            network: inputs → outputs, ``[B, n_outputs]``.
            batch: its target holds class indices ``[B]``, zeros and ones ``[B, M]``, rows of target weights ``[B, K]``
                (``[B, M, 2]``), or numbers ``[B, 1]``.
            generator: for rules that draw, on the CPU.

        Raises:
            ValueError: a rule returned another shape; or the loss is not finite because a rule returned NaN or
                infinity.
        """
        inputs, target, weights = batch
        known = {**self.known(inputs.dtype), "generator": generator} if self.rules.stages else {}
        returned: Returned = []
        target = self.apply("labels", target, known, returned)
        for rule in self.rules.of("inputs"):
            weights = inputs.new_ones(len(inputs)) if weights is None else weights
            inputs, target, weights = rule.call({**known, "inputs": inputs, "targets": target, "weights": weights})
            returned.append(("inputs", rule, (inputs, target, weights)))
        outputs = logits = network(inputs)
        if self.rules.of("logits"):
            rows = self.apply("logits", self.class_head.logits(outputs), {**known, "labels": target}, returned)
            logits = self.class_head.outputs_of(rows)
        weighted = target
        if self.of_outputs:
            current = self.class_head.logits(logits.detach())
            weighted = self.apply("targets", target, {**known, "logits": current}, returned)
        given = self._weighted(weighted, target, logits, weights)
        loss = objective(self.head.cost, logits, *given)
        if returned and not math.isfinite(loss.item()):  # to check every rule at every step would cost time
            _blame(returned, outputs)
        watched = loss.detach()
        if weighted is not target:
            watched = objective(self.head.cost, logits.detach(), *self._weighted(target, target, logits, weights))
        return Computed(loss, outputs, target, watched, given)

    def apply(self, stage: str, value: Tensor, known: Mapping[str, Any], returned: Returned) -> Tensor:
        """What the rules of a stage return, each given what the one before returned; the value if there are no rules.

        Args:
            stage: "labels", "logits" or "targets".
            value: labels or targets ``[...]`` or ``[..., K]``, or logits ``[..., K]``.
            known: what the rules may name.
            returned: a list to which each rule's result is added.
        """
        shape = value.shape if value.is_floating_point() else (*value.shape, self.counts.shape[-1])
        for rule in self.rules.of(stage):
            value = _check_shape(stage, rule, rule.call({**known, stage: value}), shape)
            value = value if stage == "logits" else value.detach().to(known["dtype"])
            returned.append((stage, rule, (value,)))
        return value

    def known(self, dtype: torch.dtype) -> dict[str, Any]:
        """The things that every rule may name, in the network's number type."""
        return {"classes": self.counts.shape[-1], "counts": self.counts.to(dtype), "dtype": dtype}

    def _weighted(
        self, weighted: Tensor, target: Tensor, logits: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Targets and weights for the objective; class weights follow the targets before the rules of the outputs."""
        if self.class_weights is not None and weighted is target and target.ndim == 1:
            of_class = self.class_weights[target]
            weights = of_class if weights is None else weights * of_class
        elif self.class_weights is not None:
            rows = targets.one_hot(target, self.counts.shape[-1], logits.dtype)
            if weighted is target:
                weighted = rows * self.class_weights
            else:
                # Rules of the outputs may put weight on other classes than the label's, so weight the whole row.
                weighted = weighted * (rows * self.class_weights).sum(dim=-1, keepdim=True)
        if weighted.is_floating_point():
            weighted = weighted.to(logits.dtype)
        return weighted, weights


def counts_of(labels: Tensor, weights: Tensor, head: Categorical | Bernoulli) -> Tensor:
    """Sums of sample weights by class.

    Args:
        labels: class indices ``[N]``, zeros and ones ``[N, M]``, or target weights ``[N, K]`` (``[N, M, 2]``).
        weights: ``[N]``.
        head: of K classes, or of M labels.

    Returns:
        ``[K]``, or ``[M, 2]`` for no and yes; float64.

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
    """The loss of classes, with everything that its rules need from the training rows.

    Args:
        head: what the outputs mean.
        rules: see `read_rules`.
        labels: of the training rows, as for `counts_of`.
        weights: sample weights as given, ``[N]``.
        counts: from `counts_of`, of these and all earlier rows.
        factors: more class weights, of the shape of ``counts``, or None.
        like: a tensor of the network's number type and device.

    Raises:
        ValueError: a class without rows if a rule divides by its count, or rows with several labels if a rule needs
            one class a row.
    """
    loss = Loss(head, rules, counts)
    class_weights = _product(rules, "counts", loss.known(like.dtype), counts.shape)
    if factors is not None:
        class_weights = factors if class_weights is None else class_weights * factors
    if class_weights is not None:
        class_weights = class_weights.to(like)
        if not (class_weights.cpu() * counts).sum() > 0:
            raise ValueError(f"class weights must not be zero for every class that has rows, got {class_weights}")
    if rules.of("all_labels") and counts.ndim > 1:
        name = rules.of("all_labels")[0].name
        raise ValueError(f"rule: {name} draws rows by class, so each row must have one label, not several")
    known = {**loss.known(torch.float64), "all_labels": labels, "all_weights": weights.double()}
    drawn = _product(rules, "all_labels", known, weights.shape)
    return Loss(head, rules, counts.to(like.device), class_weights, drawn)


def _product(rules: Rules, stage: str, known: Mapping[str, Any], shape: Sequence[int]) -> Tensor | None:
    """The product of the weights that the rules of a stage return; None if there are no such rules."""
    product: Tensor | None = None
    for rule in rules.of(stage):
        value = _check_shape(stage, rule, rule.call(known), shape)
        if not (value.isfinite() & (value >= 0)).all() or not value.sum() > 0:
            wanted = "return finite numbers >= 0, not all zero"
            raise ValueError(f'rule: {rule.name} (stage "{stage}") must {wanted}, got {value.min()} to {value.max()}')
        product = value if product is None else product * value
    return product


def prior_of(loss: Loss, labels: Tensor) -> NDArray[np.float64] | None:
    """The class frequencies that the network's own probabilities are for, after drawing, weights and logits.

    Args:
        loss: of one class a row, from `class_loss`.
        labels: of the training rows, ``[N]`` or rows ``[N, K]``.

    Returns:
        ``[K]``, summing to 1; None if a rule of logits does more than add a constant to each class.
    """
    loss = dataclasses.replace(loss, counts=loss.counts.cpu())
    mass, classes, drawn = loss.counts, loss.counts.shape[-1], loss.probabilities
    if drawn is not None:
        mass = counts_of(labels, drawn, Categorical(classes))
    if loss.class_weights is not None:
        mass = mass * loss.class_weights.cpu().double()
    known = {**loss.known(torch.float64), "generator": torch.Generator().manual_seed(0)}
    if loss.rules.of("labels"):
        # Rules of labels may weight classes too. Apply them to one row of each class, in blocks: all would be K × K.
        sums = []
        for block in torch.arange(classes).split(max(1, _BLOCK // classes)):
            rows = targets.one_hot(block, classes, torch.float64) if labels.is_floating_point() else block
            sums.append(loss.apply("labels", rows, known, []).sum(dim=-1))
        mass = mass * torch.cat(sums)
    # Rules of logits act in training alone, so the network learns to make up for what they add.
    zeros, probe = torch.zeros(1, classes, dtype=torch.float64), torch.arange(classes).double()[None]
    known["labels"] = torch.zeros_like(zeros)
    try:
        shift, shifted_probe = (loss.apply("logits", logits, known, []) for logits in (zeros, probe))
    except (RuntimeError, TypeError, IndexError):  # a rule that needs class indices as labels
        return None
    if not torch.allclose(shifted_probe - shift, probe, atol=1e-6):
        return None
    mass = mass * (-shift[0]).exp()
    return (mass / mass.sum()).numpy()


def to_json(rule: RuleLike | None) -> Any:
    """A rule as JSON: a name, the library's function with its arguments, or "foreign" for any other function.

    Example:
        >>> to_json(["imbalanced", functools.partial(targets.smooth, epsilon=0.2)])
        [{'name': 'imbalanced'}, {'name': 'smooth', 'arguments': {'epsilon': 0.2}}]
    """
    if rule is None:
        return None
    if isinstance(rule, str):
        return {"name": rule}
    if not callable(rule):
        return [to_json(one) for one in rule]
    function, arguments = (rule.func, rule.keywords) if isinstance(rule, functools.partial) else (rule, {})
    name = getattr(function, "__name__", "")
    if _FUNCTIONS.get(name) is function and not getattr(rule, "args", ()):
        plain = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in arguments.items()}
        return {"name": name, "arguments": plain}
    return "foreign"


def from_json(description: Any) -> Any:
    """The rule that `to_json` described; for a rule that the library does not have, one that cannot be used."""
    if description is None:
        return None
    if isinstance(description, list):
        return [from_json(one) for one in description]
    if isinstance(description, dict) and "arguments" not in description:
        return description["name"]
    if isinstance(description, str) or description["name"] not in _FUNCTIONS:
        return _missing
    function, arguments = _FUNCTIONS[description["name"]], description["arguments"]
    return functools.partial(function, **arguments) if arguments else function


def _missing(labels: Tensor) -> Tensor:
    raise ValueError("rule: the library does not have the saved rule; pass it to load(rule=...) to fit again")


def _check_shape(stage: str, rule: Bound, value: Any, shape: Sequence[int]) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != torch.Size(shape):
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f'rule: {rule.name} (stage "{stage}") must return a tensor of shape {list(shape)}, got {got}')
    return value


def _blame(returned: Returned, outputs: Tensor) -> None:
    """Refuse NaN and infinity in what a rule returned, unless the network's outputs had them before."""
    for stage, rule, values in returned:
        if stage in ("logits", "targets") and not (outputs < math.inf).all():
            return
        for value in values:
            finite = value < math.inf if stage == "logits" else value.isfinite()  # a logit of −inf masks a class
            if not finite.all():
                row = int((~finite).nonzero()[0, 0])
                got = f"{value[row].tolist()} in row {row}"
                raise ValueError(f'rule: {rule.name} (stage "{stage}") must return finite numbers, got {got}')
