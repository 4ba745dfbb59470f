"""The defaults of `rlce.PolicyGradient`, and what takes their place: an argument first, then a recipe's value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rlce.optimization import Optimization, check, check_flag, check_kind, check_number, check_whole
from rlce.reinforcement import methods
from rlce.reinforcement.methods import Method

OPTIMIZATION = Optimization(learning_rate=2e-3, schedule="linear", floor=0.1, max_gradient_norm=0.5)
# These take one gradient step on a long round, so that each must be larger. Not with `value_epochs`: under Adam, those
# make the policy's step larger.
LARGER_STEPS = {"reinforce": 1.2e-2, "rloo": 1.2e-2}


@dataclass(frozen=True)
class Settings:
    """How an agent is built and trained, whatever the environment. The values here are the library's defaults.

    Attributes:
        method: the method.
        num_envs: number of copies of the environment.
        hidden: widths of the hidden layers, of the policy and of the critic.
        activation: activation function of the MLP.
        optimization: optimiser, learning rate, schedule, clipping.
        normalize_observations: standardise the numbers in observations by running statistics.
        scale_rewards: in training, divide rewards by the running deviation of their discounted sum.
        rescale_actions: for a Box, map the policy's −1 … 1 to the lower … upper bound; None where the bounds are
            finite.
        initial_deviation: for a Box, the standard deviation of the policy at the start, in units of its numbers.

    Raises:
        ValueError: a value of another kind or outside its range.
        TypeError: the method is no `Method`, or the optimization no `Optimization`.

    Example:
        >>> Settings().method.name
        'ppo'
    """

    method: Method = field(default_factory=methods.ppo)
    num_envs: int = 16
    hidden: Sequence[int] = (64, 64)
    activation: str = "tanh"
    optimization: Optimization = OPTIMIZATION
    normalize_observations: bool = True
    scale_rewards: bool = True
    rescale_actions: bool | None = None
    initial_deviation: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):
            raise TypeError(f"method must be a name or a Method, such as methods.ppo(), got {self.method!r}")
        check_kind("optimization", self.optimization, Optimization, "Optimization(learning_rate=1e-3)")
        check_whole("num_envs", self.num_envs)
        for name in ("normalize_observations", "scale_rewards"):
            check_flag(name, getattr(self, name))
        if self.rescale_actions is not None:
            check_flag("rescale_actions", self.rescale_actions)
        check_number("initial_deviation", self.initial_deviation, lambda x: 0 < x < math.inf, "be positive and finite")
        check("hidden", self.hidden, not isinstance(self.hidden, str | int), "be widths, such as (64, 64)")

    def to_json(self) -> dict[str, Any]:
        """What a file keeps under "settings": all but the method, the optimisation and the number of environments."""
        apart = {"method", "optimization", "num_envs"}
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in apart}
        return values | {"hidden": [int(width) for width in self.hidden]}


def resolved(recipe: Settings | None, given: Mapping[str, Any], numbers: Mapping[str, Any]) -> Settings:
    """The settings in force: what is given, else the recipe's, else the defaults.

    Args:
        recipe: the settings of a recipe; None for no recipe.
        given: arguments by name, None for those that are not given. ``method`` may be a name: the method with its
            defaults. ``learning_rate`` replaces that number of the optimisation in force.
        numbers: arguments of the method by name. They replace those of the method in force.

    Raises:
        TypeError: the method takes no such number, or is a `Method` object, to which numbers do not apply.
        ValueError: an unknown method, or a value outside its range.

    Example:
        >>> resolved(None, {"method": "reinforce", "learning_rate": 0.02}, {"episodes": 8}).method.episodes
        8
    """
    base = Settings() if recipe is None else recipe
    chosen = {name: value for name, value in given.items() if value is not None}
    method, learning_rate = chosen.pop("method", None), chosen.pop("learning_rate", None)
    if isinstance(method, str):
        chosen["method"] = methods.named(method, numbers)
    elif method is not None and numbers:
        words = ", ".join(methods.hinted(word) for word in numbers)
        raise TypeError(
            f"PolicyGradient got {words}, but numbers of a method go with its name, not with a Method object: set them "
            f"in its constructor, such as methods.ppo(...), or with dataclasses.replace(method, ...)"
        )
    elif method is not None:
        chosen["method"] = method
    elif numbers:
        chosen["method"] = methods.named(base.method.name, {**(base.method.arguments or {}), **numbers})
    if recipe is None and learning_rate is None and "optimization" not in chosen:
        taken = chosen.get("method")
        learning_rate = None if getattr(taken, "value_epochs", 0) else LARGER_STEPS.get(getattr(taken, "name", ""))
    if learning_rate is not None:
        chosen["optimization"] = replace(chosen.get("optimization", base.optimization), learning_rate=learning_rate)
    return replace(base, **chosen)
