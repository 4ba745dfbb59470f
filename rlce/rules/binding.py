"""What gives a rule what it names, in both halves.

A rule is a function whose parameter names say what it needs. Whoever calls it has some things to offer, each under a
name, and the rule gets those that it names::

    def mine(labels, classes): ...                  # Classifier(rule=mine)
    def mine(advantage, log_prob, episode): ...     # rlce.methods.Method(weight=mine, ...)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

Rule = Callable[..., Any]


class Bound(NamedTuple):
    """A rule that knows what to take.

    Attributes:
        rule: the function.
        by_position: the names of what it is given by position.
        by_name: the names of what it is given by keyword.

    Example:
        >>> bind(lambda x, y=2: 10 * x + y, ["x", "z"]).call({"x": 1, "z": 3})
        12
    """

    rule: Rule
    by_position: tuple[str, ...]
    by_name: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the function, for messages."""
        return name_of(self.rule)

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of all that it is given."""
        return (*self.by_position, *self.by_name)

    def call(self, known: Mapping[str, Any]) -> Any:
        """What the rule gives, of all that is offered by name."""
        return self.rule(*[known[name] for name in self.by_position], **{name: known[name] for name in self.by_name})


def bind(rule: Rule, offered: Collection[str], by_position: Sequence[str] = ()) -> Bound:
    """Find out from a rule's signature what to give it.

    * A parameter whose name is offered is given by keyword, also over its default, unless a `functools.partial` has
      bound it.
    * Where not all parameters that must be given have offered names, and there are as many of them as
      ``by_position`` has names, those are given by position (a parameter that bears an offered name must then stand
      where that one is given).

    Args:
        rule: a function, a lambda, a partial or any callable object.
        offered: the names of what there is.
        by_position: the names of what is given by position.

    Returns:
        The rule, and what it takes.

    Raises:
        TypeError: what cannot be called.
        ValueError: a parameter that cannot be given, or a rule that takes nothing; the message lists what is offered.

    Example:
        >>> offered = "advantage", "log_prob", "behaviour_log_prob", "episode"
        >>> bind(lambda advantage, episode, clip=0.2: advantage, offered).takes
        ('advantage', 'episode')
        >>> bind(lambda a, now, then: a, offered, by_position=offered[:3]).takes
        ('advantage', 'log_prob', 'behaviour_log_prob')
    """
    if not callable(rule):
        raise TypeError(f"rule must be a function, got {rule!r}")
    name = name_of(rule)
    bound = rule.keywords if isinstance(rule, functools.partial) else {}
    try:
        parameters = inspect.signature(rule).parameters
    except ValueError as error:
        raise ValueError(f"rule: the parameters of {name} cannot be read; wrap it in a function of your own") from error
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    free = {each: p for each, p in parameters.items() if each not in bound and p.kind not in variadic}
    required = [each for each, p in free.items() if p.default is p.empty]
    named = tuple(each for each, p in free.items() if each in offered and p.kind is not p.POSITIONAL_ONLY)
    missing = [each for each in required if each not in named]
    if not missing:
        if not named:
            raise ValueError(f"rule: {name} takes nothing of what is offered: {', '.join(offered)}")
        return Bound(rule, (), named)
    in_order = all(free[each].kind is not inspect.Parameter.KEYWORD_ONLY for each in required)
    if by_position and in_order and len(required) == len(by_position):
        astray = [each for each, given in zip(required, by_position, strict=True) if each in offered and each != given]
        if not astray:
            return Bound(rule, tuple(by_position), tuple(each for each in named if each not in required))
        missing += astray
    also = f", or exactly {len(by_position)} parameters, which get {', '.join(by_position)}" if by_position else ""
    raise ValueError(
        f"rule: {name} needs {', '.join(missing)}; bind it with functools.partial "
        f"(offered by name: {', '.join(offered)}{also})"
    )


def name_of(rule: Rule) -> str:
    """What to call a rule in a message.

    Example:
        >>> name_of(functools.partial(max, 3))
        'max'
    """
    function = rule.func if isinstance(rule, functools.partial) else rule
    return getattr(function, "__name__", type(function).__name__)
