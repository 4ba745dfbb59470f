"""Passes each rule the values that its parameters name, in both halves of the library.

A rule is a function whose parameter names state what it needs. Its caller offers values, each under a name, and the
rule gets those that it names::

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
    """A rule with the names of the values that it takes.

    Attributes:
        rule: the function.
        by_position: the names of the values that are passed by position.
        by_name: the names of the values that are passed by keyword.

    Example:
        >>> bind(lambda x, y=2: 10 * x + y, ["x", "z"]).call({"x": 1, "z": 3})
        12
    """

    rule: Rule
    by_position: tuple[str, ...]
    by_name: tuple[str, ...]

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return name_of(self.rule)

    @property
    def takes(self) -> tuple[str, ...]:
        """The names of all values that it takes."""
        return (*self.by_position, *self.by_name)

    def call(self, known: Mapping[str, Any]) -> Any:
        """The rule's result, given all offered values by name."""
        return self.rule(*[known[name] for name in self.by_position], **{name: known[name] for name in self.by_name})


def bind(rule: Rule, offered: Collection[str], by_position: Sequence[str] = ()) -> Bound:
    """Read from a rule's signature which values to pass it.

    * A parameter with an offered name gets that value by keyword, even if it has a default, unless a
      `functools.partial` has bound it.
    * If some parameters without a default have other names, and there are exactly as many parameters without a default
      as names in ``by_position``, these values are passed by position. (A parameter with an offered name must then
      stand at the position of its value.)

    Args:
        rule: a function, a lambda, a partial or any callable object.
        offered: the names of the values that can be passed.
        by_position: the names of the values to pass by position.

    Returns:
        The rule, with the names that it takes.

    Raises:
        TypeError: the rule is not callable.
        ValueError: nothing fits a parameter, or the rule takes no value; the message lists what is offered.

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
            raise ValueError(f"rule: {name} must have a parameter with one of these names: {', '.join(offered)}")
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
    """The name of a rule in messages.

    Example:
        >>> name_of(functools.partial(max, 3))
        'max'
    """
    function = rule.func if isinstance(rule, functools.partial) else rule
    return getattr(function, "__name__", type(function).__name__)
