"""Rules put together: what a batch becomes on its way through them, in one order.

    rows drawn ─► labels → targets ─► rows mixed ─► network ─► logits ─► current outputs ─► class weights ─► objective

Each rule says by its first parameter's name where it belongs (the table in `rlce.targets`), and gets the other things
that it names, so no rule has to know of another.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlce.objective import cross_entropy, weighted_mean
from rlce.rules import targets

Rule = Callable[..., Any]

# First parameter → what else a rule of this kind may name; all may name what is known of the training rows.
_STAGES: dict[str, tuple[str, ...]] = {
    "all_labels": ("all_weights",),
    "labels": ("generator",),
    "inputs": ("targets", "weights", "generator"),
    "logits": ("labels",),
    "targets": ("logits",),
    "counts": (),
}
_ALWAYS = ("classes", "counts")


class Composition:
    """Rules in their documented order, and what they know of one set of training rows.

    Args:
        rule: one rule, several, or None for none.
        generator: for rules that draw, on the CPU.

    Attributes:
        one_vs_all: whether `rlce.targets.two_class_rows` is among the rules: every output is then a yes or no.
        classes: K, after `prepare`; 2 where every label is a yes or no.
        counts: sums of sample weights, ``[K]`` (``[M, 2]`` for M labels).
        class_weights: the product of all class weights, of `counts`' shape, or None.
        probabilities: with which rows are drawn, ``[N]``, or None for each once.

    Raises:
        TypeError: something that cannot be called.
        ValueError: a rule whose first parameter names no stage, or that needs what is not there.

    Example:
        >>> rules = Composition([targets.logit_adjusted, functools.partial(targets.smooth, epsilon=0.5)])
        >>> rules.prepare(torch.tensor([0, 0, 0, 1]), torch.ones(4), classes=2)
        >>> loss, _, target, _ = rules.loss(nn.Identity(), torch.zeros(1, 2), torch.tensor([0]), torch.ones(1))
        >>> target, loss  # 3/4 of -log 3/4 and 1/4 of -log 1/4
        (tensor([[0.7500, 0.2500]]), tensor(0.5623))
    """

    def __init__(self, rule: Rule | Sequence[Rule] | None = None, generator: torch.Generator | None = None) -> None:
        if not (rule is None or callable(rule) or isinstance(rule, Sequence)):
            raise TypeError(f"rule must be a function or a sequence of them, got {rule!r}")
        rules = [] if rule is None else [rule] if callable(rule) else list(rule)
        self.generator = generator or torch.Generator().manual_seed(0)
        self.one_vs_all = targets.two_class_rows in rules
        self._stages: dict[str, list[Callable[[Mapping[str, Any]], Any]]] = {name: [] for name in _STAGES}
        for one in rules:
            if one is not targets.two_class_rows:
                stage, apply = _placed(one)
                self._stages[stage].append(apply)
        self.classes = 0
        self.counts = torch.zeros(0)
        self.class_weights: Tensor | None = None
        self.probabilities: Tensor | None = None

    def prepare(
        self,
        labels: Tensor,
        weights: Tensor,
        classes: int,
        class_weights: Callable[[Tensor], Tensor | None] | None = None,
        earlier: Tensor | None = None,
    ) -> None:
        """Learn from the training rows what rules ask for.

        Args:
            labels: class indices ``[N]``, zeros and ones ``[N, M]``, or target weights ``[N, K]`` (``[N, M, 2]``).
            weights: sample weights as they were given, ``[N]``: a weight of 2 counts as two rows.
            classes: K; 2 for M labels.
            class_weights: makes more class weights of the counts, of their shape.
            earlier: counts of rows that came before these and are gone.

        Raises:
            ValueError: a class without a row where a rule divides by its count, or a rule for one class a row
                with several labels.
        """
        self.classes = classes
        weights = weights.double()
        if labels.ndim == 1:
            self.counts = torch.bincount(labels, weights, classes)
        elif labels.is_floating_point():
            self.counts = torch.tensordot(weights, labels.double(), dims=1)
        else:
            yes = weights @ labels.double()
            self.counts = torch.stack([weights.sum() - yes, yes], dim=-1)
        if earlier is not None:
            self.counts = self.counts + earlier
        known = {"counts": self.counts, "classes": classes, "all_labels": labels, "all_weights": weights}
        factors = [rule(known) for rule in self._stages["counts"]]
        more = None if class_weights is None else class_weights(self.counts)
        factors += [] if more is None else [more]
        for factor in factors:
            _check_weights("class weights", factor, self.counts.shape)
        self.class_weights = functools.reduce(torch.mul, factors).float() if factors else None
        if self.class_weights is not None and not (self.class_weights * self.counts).sum() > 0:
            raise ValueError(f"class weights must not be zero for every class that has rows, got {self.class_weights}")
        if self._stages["all_labels"] and self.counts.ndim > 1:
            raise ValueError("rule: rows are drawn by one class a row, and these have several labels")
        drawn = [rule(known) for rule in self._stages["all_labels"]]
        for each in drawn:
            _check_weights("probabilities of drawing rows", each, weights.shape)
        self.probabilities = functools.reduce(torch.mul, drawn) if drawn else None

    @property
    def of_outputs(self) -> bool:
        """Whether a rule looks at the current outputs, so that the objective's value is not the loss (tier C)."""
        return bool(self._stages["targets"])

    def to(self, device: torch.device) -> None:
        """Move what `loss` uses."""
        self.counts = self.counts.to(device)
        self.class_weights = None if self.class_weights is None else self.class_weights.to(device)

    def prior(self, labels: Tensor) -> NDArray[np.float64] | None:
        """The class frequencies that the network's own probabilities are for, after drawing, weights and logits.

        Args:
            labels: of the training rows, ``[N]`` or rows ``[N, K]``, as `prepare` got them.

        Returns:
            ``[K]``, summing to 1; None where a rule of logits does more than shift each class's by a constant.
        """
        mass = self.counts.cpu()
        if self.probabilities is not None:
            rows, labels = self.probabilities.cpu(), labels.cpu()
            mass = rows @ labels.double() if labels.is_floating_point() else torch.bincount(labels, rows, self.classes)
        if self.class_weights is not None:
            mass = mass * self.class_weights.cpu().double()
        # A rule of labels may weight classes, too: what it makes of a row of each class in turn, summed.
        one_each = torch.eye(self.classes) if labels.is_floating_point() else torch.arange(self.classes)
        one_each = self._targets(one_each, torch.Generator().manual_seed(0))
        mass = mass * targets.one_hot(one_each, self.classes).double().sum(dim=-1)
        # What a transform adds to the logits in training is missing from those that predict.
        zeros, probe = torch.zeros(1, self.classes, dtype=torch.float64), torch.arange(self.classes).double()[None]
        try:
            shift, shifted_probe = (self._logits(logits, torch.zeros_like(zeros)) for logits in (zeros, probe))
        except (RuntimeError, TypeError, IndexError):  # a rule that wants labels as they are
            return None
        if not torch.allclose(shifted_probe - shift, probe, atol=1e-6):
            return None
        mass = mass * (-shift[0]).exp()
        return (mass / mass.sum()).numpy()

    def loss(
        self, network: nn.Module, inputs: Tensor, labels: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The objective on a batch.

        Args:
            network: inputs → outputs, ``[B, K]`` (``[B, M]``).
            inputs: ``[B, ...]``.
            labels: class indices ``[B]``, zeros and ones ``[B, M]``, or rows ``[B, K]`` (``[B, M, 2]``).
            weights: sample weights, ``[B]``, mean 1 over all training rows; None for ones.

        Returns:
            (the objective; the outputs; the targets before the outputs had a say, as ``labels`` or rows; and the
            objective on those, which says how training goes where the first one's value does not, without a graph).

        Raises:
            ValueError: a rule's result has another shape.
        """
        target = self._targets(labels, self.generator)
        for rule in self._stages["inputs"]:
            weights = inputs.new_ones(len(inputs)) if weights is None else weights
            known = {"inputs": inputs, "targets": target, "weights": weights, "generator": self.generator}
            inputs, target, weights = rule(known | self._known(None, labels.device))
        outputs = network(inputs)
        logits = outputs if self.counts.ndim == 1 else targets.two_class_rows(outputs)
        if self._stages["logits"]:
            logits = self._logits(logits, target)
        weighted = self._weighted(target, logits.detach())
        loss = self._objective(weighted, target, logits, weights)
        plain = loss.detach() if weighted is target else self._objective(target, target, logits.detach(), weights)
        return loss, outputs, target, plain

    def _objective(self, weighted: Tensor, target: Tensor, logits: Tensor, weights: Tensor | None) -> Tensor:
        """The mean cost of target weights, with class weights by the targets that they were made of."""
        if weighted is target and self.class_weights is not None and self.counts.ndim == 1 and target.ndim == 1:
            of_class = self.class_weights[target]
            weights = of_class if weights is None else weights * of_class
        elif self.class_weights is not None:
            rows = targets.one_hot(target, self.classes).to(logits.dtype)
            if weighted is target:
                weighted = targets.scale_classes(rows, self.class_weights)
            else:
                # Weights from the outputs stand on other classes than the label's, too: the row is weighted whole.
                weighted = weighted * (rows * self.class_weights).sum(dim=-1, keepdim=True)
        if weighted.is_floating_point():
            weighted = weighted.to(logits.dtype)
        cost = cross_entropy(logits, weighted)
        return weighted_mean(cost if cost.ndim == 1 else cost.sum(dim=-1), weights)

    def _targets(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """What the rules of labels make of them; the labels themselves where there is none."""
        for rule in self._stages["labels"]:
            shape = labels.shape if labels.is_floating_point() else (*labels.shape, self.classes)
            known = {"labels": labels, "generator": generator, **self._known(None, labels.device)}
            labels = _check_shape("target weights", rule(known), shape).detach()
        return labels

    def _logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What the rules of logits make of them."""
        known = {"labels": labels, **self._known(logits.dtype, logits.device)}
        for rule in self._stages["logits"]:
            logits = _check_shape("logits", rule({**known, "logits": logits}), logits.shape)
        return logits

    def _weighted(self, target: Tensor, logits: Tensor) -> Tensor:
        """What the rules of the current outputs make of the targets; the targets themselves where there is none."""
        known = {"logits": logits, **self._known(logits.dtype, logits.device)}
        for rule in self._stages["targets"]:
            target = _check_shape("target weights", rule({**known, "targets": target}), logits.shape).detach()
        return target

    def _known(self, dtype: torch.dtype | None, device: torch.device) -> dict[str, Any]:
        return {"classes": self.classes, "counts": self.counts.to(device, dtype)}


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


def _placed(rule: Rule) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
    """The stage of a rule, and a function that gives it what it names."""
    if not callable(rule):
        raise TypeError(f"rule must be a function or a sequence of them, got {rule!r}")
    bound = rule.keywords if isinstance(rule, functools.partial) else {}
    function = rule.func if isinstance(rule, functools.partial) else rule
    name = getattr(function, "__name__", type(rule).__name__)
    parameters = inspect.signature(rule).parameters
    stage = next(iter(parameters), "")
    if stage not in _STAGES:
        raise ValueError(f"rule: the first parameter of {name} must be one of {', '.join(_STAGES)}, got {stage!r}")
    offered = {stage, *_STAGES[stage], *_ALWAYS}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [each for each, p in parameters.items() if p.default is p.empty and p.kind not in variadic]
    missing = [each for each in needed if each not in offered]
    if missing:
        raise ValueError(
            f"rule: {name} needs {', '.join(missing)}; bind it with functools.partial "
            f"(a rule of {stage} is given {', '.join(sorted(offered))})"
        )
    takes = [each for each in parameters if each in offered and each not in bound]
    return stage, lambda known: rule(**{each: known[each] for each in takes})


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
