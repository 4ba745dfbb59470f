"""Policy-gradient methods: a rule for the weights, and the few numbers around it.

A `Method` has three parts, each replaceable alone:

* **credit**: a rollout (and the critic's values) → the advantage of every action, and the critic's target;
* **weight**: a rule that gives the detached weight of −log π(a|s) (`rlce.weights` has many);
* **reuse**: how many epochs of which minibatches.

So a new method is usually one function. It gets what its parameters name::

    def my_weight(advantage, log_prob, behaviour_log_prob):
        return advantage * (log_prob - behaviour_log_prob).exp().clamp(max=1.0)

    method = dataclasses.replace(rlce.methods.ppo(), weight=my_weight, name="mine")

======================  ==================================================================  ========
a weight rule may name  what it is given                                                    shape
======================  ==================================================================  ========
``advantage``           what credit gave the action                                         ``[B]``
``log_prob``            log π(a|s) now                                                      ``[B]``
``behaviour_log_prob``  log π(a|s) when the action was taken                                ``[B]``
``value``               V(s) when the round began; needs a critic                           ``[B]``
``episode``             numbers 0 … E−1: rows of one number are one episode; needs whole    ``[B]``
                        episodes, and minibatches then hold whole episodes, with Z = E
======================  ==================================================================  ========

A rule with exactly three parameters under names of its own gets the first three by position.

The methods below share these numbers, each with its own defaults (``help(rlce.methods.ppo)`` shows them):

==================  ======================================================================================
``discount``        γ in [0, 1]
``trace``           λ in [0, 1], of generalised advantages and of V-trace
``steps``           steps of every environment a round, where whole episodes are not collected
``episodes``        whole episodes a round
``group_size``      episodes of a group start from the same reset seed; None for one group of all episodes
                    of a round, from seeds of their own
``epochs``          passes over a round
``minibatch_size``  rows a gradient step; None for all rows of the round
``replay``          how many earlier rounds are used again beside the new one
``per_episode``     Z = episodes, which gives ∇J itself; by default Z = rows
``standardize``     shift and scale the advantages of a round to mean 0 and deviation 1
``entropy_weight``  c in the bonus c·H(π)
``kl_weight``       β >= 0 in the penalty β·KL(π‖reference)
``value_weight``    factor of the critic's cost. There is no value clipping: it does not fit the objective
==================  ======================================================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, wraps
from typing import Any, ParamSpec, TypedDict, Unpack

import torch
from torch import Tensor

from rlce.reinforcement.credit import (
    Baseline,
    elite_episodes,
    generalized_advantage,
    grouped,
    monte_carlo,
    v_trace_targets,
)
from rlce.reinforcement.credit import Credit as Credit
from rlce.reinforcement.credit import Experience as Experience
from rlce.rules import weights
from rlce.rules.binding import Bound, Rule, bind
from rlce.rules.weights import clipped_ratio as clipped_ratio
from rlce.rules.weights import score as score

CreditRule = Callable[[Experience], Credit]
OFFERED = "advantage", "log_prob", "behaviour_log_prob", "episode", "value"


@dataclass(frozen=True)
class Method:
    """A policy-gradient method: what is collected, what it is worth, how it is weighted, how often it is used.

    Attributes:
        name: for logs and files.
        credit: `Experience` → `Credit`.
        weight: the rule for the weights, ``[B]``; it is given what it names (see `rlce.methods`).
        critic: whether a value network is trained beside the policy.
        episodes: collect this many whole episodes a round; None collects ``steps`` steps of every environment.
        steps: steps of every environment a round, where ``episodes`` is None.
        epochs: passes over a round. More than one needs a ratio in ``weight``.
        minibatch_size: rows a gradient step; None for all rows of the round.
        ratio: whether ``weight`` corrects for the policy having moved since the action was taken.
        nonnegative: whether ``weight`` never gives a negative number, which bounds the objective from below; then
            actions may be used again without a ratio.
        group_size: episodes of a group start from the same reset seed; None for no groups.
        replay: how many earlier rounds are used again beside the new one.
        per_episode: Z = number of episodes (the gradient of expected return) in place of the number of rows.
        standardize: shift and scale the advantages of a round to mean 0 and spread 1.
        entropy_weight: c in the bonus c·H(π), whose closed form is used.
        kl_weight: β >= 0 in the penalty β·KL(π‖reference); the reference is the policy as it was at first.
        value_weight: factor on the critic's cost.
        arguments: what the constructor of a named method was called with (see `arguments_of`); None for one made by
            hand.

    Raises:
        ValueError: numbers that do not fit each other, or a weight rule that names what the method cannot give.
    """

    name: str
    credit: CreditRule
    weight: Rule
    critic: bool
    episodes: int | None = None
    steps: int = 32
    epochs: int = 1
    minibatch_size: int | None = None
    ratio: bool = False
    nonnegative: bool = False
    group_size: int | None = None
    replay: int = 0
    per_episode: bool = False
    standardize: bool = False
    entropy_weight: float = 0.0
    kl_weight: float = 0.0
    value_weight: float = 0.5
    arguments: Mapping[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("episodes", "steps", "epochs", "minibatch_size"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        again = [
            f"{name}={getattr(self, name)}" for name in ("epochs", "replay") if getattr(self, name) > (name == "epochs")
        ]
        again += [f"minibatch_size={self.minibatch_size}"] if self.minibatch_size is not None else []
        if again and not (self.ratio or self.nonnegative):
            raise ValueError(
                f"{self.name}: {', '.join(again)} would use actions of a policy that has since moved, and signed "
                "weights then make the objective unbounded below; use a weight rule with a ratio, or one without "
                "negative weights"
            )
        if self.replay < 0:
            raise ValueError(f"replay must be at least 0, got {self.replay}")
        if self.per_episode and (self.episodes is None or self.replay):
            raise ValueError(
                f"{self.name}: Z = episodes needs whole episodes of one round: set episodes, and no replay"
            )
        if self.group_size is not None and self.group_size < 2:
            raise ValueError(f"group_size must be at least 2 to compare episodes, got {self.group_size}")
        if self.group_size is not None and (self.episodes is None or self.episodes % self.group_size != 0):
            raise ValueError(
                f"{self.name}: episodes={self.episodes} do not fill groups of group_size={self.group_size}"
            )
        if self.takes("episode") and self.episodes is None:
            raise ValueError(
                f"{self.name}: its weight rule {self.rule.name} names episode, which needs whole episodes: set "
                f"episodes, got fixed steps (steps={self.steps})"
            )
        if self.takes("value") and not self.critic:
            raise ValueError(f"{self.name}: its weight rule {self.rule.name} names value, but the method has no critic")

    @cached_property
    def rule(self) -> Bound:
        """The weight rule, and what it takes."""
        try:
            return bind(self.weight, OFFERED, by_position=OFFERED[:3])
        except (TypeError, ValueError) as error:
            raise type(error)(f"method {self.name}: weight {error}") from error

    def takes(self, name: str) -> bool:
        """Whether the weight rule is given what has this name."""
        return name in self.rule.by_position or name in self.rule.by_name


class Numbers(TypedDict, total=False):
    """The numbers that methods share (see `rlce.methods`); each method takes some of them."""

    discount: float
    trace: float
    steps: int
    episodes: int | None
    group_size: int | None
    epochs: int
    minibatch_size: int | None
    replay: int
    per_episode: bool
    standardize: bool
    entropy_weight: float
    kl_weight: float
    value_weight: float


P = ParamSpec("P")
_MAKERS: dict[str, Callable[..., Method]] = {}


def _library(**defaults: Any) -> Callable[[Callable[P, Method]], Callable[P, Method]]:
    """Put a constructor into the catalogue, with these defaults of the shared numbers that it takes.

    The method bears the constructor's name and remembers its arguments, so that a file can name it.
    """

    def put(maker: Callable[P, Method]) -> Callable[P, Method]:
        build: Callable[..., Method] = maker
        own = [p for p in inspect.signature(maker).parameters.values() if p.kind is p.KEYWORD_ONLY]
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
            for name, default in defaults.items()
        ]
        signature = inspect.Signature([*own, *shared], return_annotation="Method")

        @wraps(maker)
        def make(*_: P.args, **arguments: P.kwargs) -> Method:
            bound = signature.bind(*_, **arguments)
            bound.apply_defaults()
            return replace(build(**bound.arguments), arguments=dict(bound.arguments))

        make.__signature__ = signature  # type: ignore[attr-defined]
        _MAKERS[maker.__name__] = make
        return make

    hints = Numbers.__annotations__
    return put


def _made(name: str, credit: CreditRule, weight: Rule, numbers: Numbers, **own: Any) -> Method:
    """A method with the shared numbers that `Method` has; γ and λ belong to its credit."""
    shared = {key: value for key, value in numbers.items() if key not in ("discount", "trace")}
    return Method(name, credit, weight, **{**shared, **own})


# --------------------------------------------------------------------------------------------------- named methods


@_library(
    discount=0.99, episodes=None, steps=32, per_episode=False, standardize=False, entropy_weight=0.0, value_weight=0.5
)  # fmt: skip
def reinforce(
    *,
    baseline: Baseline = "value",
    whole_return: bool = False,
    exact_discount: bool = False,
    **numbers: Unpack[Numbers],
) -> Method:
    """REINFORCE: w = (G_t − b) on the action taken, each action used once (tier B).

    Args:
        baseline: "none", "mean", "leave-one-out" or "value" (see `rlce.reinforcement.credit.monte_carlo`).
        whole_return: the return from the episode's start in place of the reward-to-go.
        exact_discount: weight by γ^t as well.
        numbers: with baseline "value" ``episodes`` may be None: ``steps`` steps are collected and the cut tail is
            continued by the critic. Without a critic the default is 16.

    Returns:
        The method.

    Raises:
        ValueError: an unknown baseline, whole_return without whole episodes, or a group baseline with one episode.

    Source:
        Williams (1992), "Simple statistical gradient-following algorithms for connectionist reinforcement learning".

    Example:
        >>> reinforce(baseline="leave-one-out").episodes
        16
    """
    if baseline not in ("none", "mean", "leave-one-out", "value"):
        raise ValueError(f'baseline must be "none", "mean", "leave-one-out" or "value", got {baseline!r}')
    critic, episodes = baseline == "value", numbers["episodes"]
    if episodes is None and not critic:
        episodes = 16
    if whole_return and episodes is None:
        raise ValueError("whole_return needs whole episodes: set episodes")
    if episodes == 1 and baseline in ("mean", "leave-one-out"):
        raise ValueError(f'baseline "{baseline}" compares episodes of a round and needs episodes >= 2, got 1')
    credit = partial(
        monte_carlo,
        discount=_discount(numbers),
        baseline=baseline,
        whole_return=whole_return,
        exact_discount=exact_discount,
    )
    return _made("reinforce", credit, score, numbers, critic=critic, episodes=episodes)


@_library(discount=0.99, trace=0.95, steps=32, standardize=False, entropy_weight=0.0, value_weight=0.5)
def actor_critic(**numbers: Unpack[Numbers]) -> Method:
    """Advantage actor-critic: w = A_t from GAE on the action taken, each action used once (tier B).

    Returns:
        The method.

    Source:
        Mnih et al. (2016), arXiv 1602.01783; Schulman et al. (2016), arXiv 1506.02438.

    Example:
        >>> actor_critic(steps=8).epochs
        1
    """
    return _made("actor_critic", _gae(numbers), score, numbers, critic=True)


@_library(
    discount=0.99, trace=0.95, steps=32, epochs=6, minibatch_size=256, standardize=True, entropy_weight=0.0,
    value_weight=0.5,
)  # fmt: skip
def ppo(*, clip: float = 0.2, **numbers: Unpack[Numbers]) -> Method:
    """PPO: GAE, the ratio with a clip as a mask, several epochs of minibatches (tier C).

    Args:
        clip: ε > 0.

    Returns:
        The method.

    Raises:
        ValueError: clip not positive.

    Source:
        Schulman et al. (2017), arXiv 1707.06347.

    Example:
        >>> ppo(clip=0.1).arguments["clip"]
        0.1
    """
    weight = partial(clipped_ratio, clip=_positive("clip", clip))
    return _made("ppo", _gae(numbers), weight, numbers, critic=True, ratio=True)


@_library(discount=1.0, episodes=16, group_size=None, per_episode=False, standardize=False, entropy_weight=0.0)
def rloo(**numbers: Unpack[Numbers]) -> Method:
    """RLOO: w = (R − mean R of the other episodes of the group) on every action, each used once (tier B).

    Returns:
        The method.

    Source:
        Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. (2024),
        arXiv 2402.14740.

    Example:
        >>> rloo(group_size=4).episodes
        16
    """
    credit = partial(grouped, **_groups(numbers), comparison="leave-one-out")
    return _made("rloo", credit, score, numbers, critic=False)


@_library(
    discount=1.0, episodes=16, group_size=None, epochs=4, minibatch_size=256, kl_weight=0.0, entropy_weight=0.0
)  # fmt: skip
def grpo(*, clip: float = 0.2, biased: bool = True, **numbers: Unpack[Numbers]) -> Method:
    """GRPO: group-standardised returns, the clipped ratio, each row by 1/length of its episode (tier C). Z = episodes.

    The entropy bonus and the penalty stand under the same Z with the same weights of rows.

    Args:
        clip: ε > 0.
        biased: divide by the group's deviation and the episode's length, as published; False is Dr. GRPO, which does
            neither.
        numbers: the penalty of ``kl_weight`` is the divergence in closed form, over all actions (published: estimated
            from the sampled action).

    Returns:
        The method.

    Source:
        Shao et al. (2024), arXiv 2402.03300; Liu et al. (2025), arXiv 2503.20783.

    Example:
        >>> grpo(biased=False).ratio
        True
    """
    credit = partial(grouped, **_groups(numbers), comparison="standardized" if biased else "centred", per_length=biased)
    weight = partial(clipped_ratio, clip=_positive("clip", clip))
    _not_negative("kl_weight", numbers["kl_weight"])
    return _made("grpo", credit, weight, numbers, critic=False, ratio=True, per_episode=True)


@_library(
    discount=0.99, trace=0.95, steps=32, epochs=4, minibatch_size=256, standardize=True, entropy_weight=0.0,
    value_weight=0.5,
)  # fmt: skip
def cispo(*, low: float = 1.0, high: float = 0.2, **numbers: Unpack[Numbers]) -> Method:
    """CISPO: GAE under a bounded ratio that keeps every row (tier B).

    Args:
        low: ε_low; 1 leaves the ratio unbounded below.
        high: ε_high.

    Returns:
        The method.

    Source:
        MiniMax (2025), arXiv 2506.13585.

    Example:
        >>> cispo().ratio
        True
    """
    weight = partial(weights.cispo, low=_in_unit_interval("low", low), high=_positive("high", high))
    return _made("cispo", _gae(numbers), weight, numbers, critic=True, ratio=True)


@_library(
    discount=0.99, trace=1.0, steps=32, replay=1, minibatch_size=None, epochs=1, standardize=False,
    entropy_weight=0.0, value_weight=0.5,
)  # fmt: skip
def v_trace(*, ratio_bound: float = 1.0, trace_bound: float = 1.0, **numbers: Unpack[Numbers]) -> Method:
    """V-trace: an actor-critic that also learns from rounds of older policies (tier B).

    Args:
        ratio_bound: ρ̄ > 0.
        trace_bound: c̄ in (0, ρ̄].

    Returns:
        The method.

    Source:
        Espeholt et al. (2018), arXiv 1802.01561.

    Example:
        >>> v_trace().replay
        1
    """
    if not 0.0 < trace_bound <= ratio_bound:
        raise ValueError(f"bounds must be 0 < trace_bound <= ratio_bound, got {trace_bound} and {ratio_bound}")
    credit = partial(
        v_trace_targets,
        discount=_discount(numbers),
        trace=_in_unit_interval("trace", numbers["trace"]),
        ratio_bound=ratio_bound,
        trace_bound=trace_bound,
    )
    weight = partial(weights.v_trace, bound=ratio_bound)
    return _made("v_trace", credit, weight, numbers, critic=True, ratio=True)


@_library(discount=0.99, episodes=16, epochs=4, minibatch_size=256, entropy_weight=0.0)
def reward_weighted_regression(*, temperature: float = 1.0, **numbers: Unpack[Numbers]) -> Method:
    """Reward-weighted regression: w = exp(G/β) with G the standardised reward-to-go (tier A within a round).

    Several epochs need no ratio, since no weight is negative.

    Args:
        temperature: β > 0, in standard deviations of the reward-to-go; far below 1, exp overflows.

    Returns:
        The method.

    Source:
        Peters and Schaal (2007), "Reinforcement learning by reward-weighted regression for operational space control".

    Example:
        >>> reward_weighted_regression().nonnegative
        True
    """
    credit = partial(monte_carlo, discount=_discount(numbers), baseline="none")
    transform = partial(_exponential, temperature=_positive("temperature", temperature))
    weight = partial(weights.reward_weighted, transform=transform)
    return _made(
        "reward_weighted_regression", credit, weight, numbers, critic=False, nonnegative=True, standardize=True
    )


@_library(
    discount=0.99, steps=32, replay=0, epochs=4, minibatch_size=256, standardize=True, entropy_weight=0.0,
    value_weight=0.5,
)  # fmt: skip
def advantage_weighted_regression(
    *, temperature: float = 1.0, bound: float = 20.0, **numbers: Unpack[Numbers]
) -> Method:
    """Advantage-weighted regression: w = min(exp((G − V)/β), w_max) (tier A within a round).

    Several epochs need no ratio, since no weight is negative.

    Args:
        temperature: β > 0.
        bound: w_max > 0.

    Returns:
        The method.

    Source:
        Peng et al. (2019), arXiv 1910.00177.

    Example:
        >>> advantage_weighted_regression().epochs
        4
    """
    weight = partial(
        weights.advantage_weighted,
        temperature=_positive("temperature", temperature),
        bound=_positive("bound", bound),
    )
    credit = partial(monte_carlo, discount=_discount(numbers), baseline="value")
    return _made("advantage_weighted_regression", credit, weight, numbers, critic=True, nonnegative=True)


@_library(discount=0.99, episodes=8, replay=4, epochs=1, minibatch_size=256, entropy_weight=0.01, value_weight=0.5)
def self_imitation(**numbers: Unpack[Numbers]) -> Method:
    """Self-imitation: w = max(G − V, 0) over this and earlier rounds, without a ratio (tier B).

    Biased on purpose: it repeats what once went better than expected. Published beside an actor-critic, here alone.

    Returns:
        The method.

    Source:
        Oh et al. (2018), "Self-imitation learning", arXiv 1806.05635.

    Example:
        >>> self_imitation().replay
        4
    """
    credit = partial(monte_carlo, discount=_discount(numbers), baseline="value")
    return _made("self_imitation", credit, weights.self_imitation, numbers, critic=True, nonnegative=True)


@_library(episodes=16, epochs=4, minibatch_size=256, entropy_weight=0.0)
def elite(*, quantile: float = 0.7, **numbers: Unpack[Numbers]) -> Method:
    """Elite filtering, the cross-entropy method on episodes: w = 1 for the actions of the best (tier A within a round).

    Several epochs need no ratio, since no weight is negative.

    Args:
        quantile: episodes whose return reaches this quantile of the round's are imitated, in [0, 1).

    Returns:
        The method.

    Source:
        de Boer et al. (2005), "A tutorial on the cross-entropy method".

    Example:
        >>> elite(quantile=0.5).critic
        False
    """
    if not 0.0 <= quantile < 1.0:
        raise ValueError(f"quantile must lie in [0, 1), got {quantile}")
    credit = partial(elite_episodes, quantile=quantile)
    _several("episodes", numbers["episodes"])
    return _made("elite", credit, score, numbers, critic=False, nonnegative=True)


# ---------------------------------------------------------------------------------------------------- by their names


def arguments_of(method: Method) -> dict[str, Any] | None:
    """What `named` needs to make this method again, or None if it is not the library's own as it stands.

    Example:
        >>> from dataclasses import replace
        >>> arguments_of(ppo(clip=0.1))["clip"]
        0.1
        >>> arguments_of(replace(ppo(), weight=score)) is None
        True
    """
    if method.arguments is None or method.name not in _MAKERS:
        return None

    def parts(one: Method) -> list[Any]:
        values = (getattr(one, name) for name in one.__dataclass_fields__ if name != "arguments")
        return [_comparable(value) for value in values]

    arguments = dict(method.arguments)
    return arguments if parts(method) == parts(named(method.name, arguments)) else None


def named(name: str, arguments: Mapping[str, Any] | None = None) -> Method:
    """The library's method of that name, hyphens or underscores, with these arguments.

    Args:
        name: of one of the constructors above.
        arguments: keyword arguments of the constructor; its defaults where left out.

    Returns:
        The method.

    Raises:
        ValueError: no method has that name, or it takes no such argument; the message lists those there are.

    Example:
        >>> named("actor-critic").name
        'actor_critic'
    """
    maker = _MAKERS.get(name.replace("-", "_"))
    if maker is None:
        raise ValueError(f"method must be one of {', '.join(_MAKERS)}, or a Method, got {name!r}")
    known = inspect.signature(maker).parameters
    unknown = set(arguments or {}) - set(known)
    if unknown:
        raise ValueError(f"method {name} has no argument {', '.join(sorted(unknown))}; it takes {', '.join(known)}")
    return maker(**(arguments or {}))


def to_json(method: Method) -> dict[str, Any]:
    """What `from_json` needs; rules that are not the library's own stay behind.

    Example:
        >>> arguments_of(from_json(to_json(ppo(clip=0.1))))["clip"]
        0.1
    """
    arguments = arguments_of(method)
    return {"name": method.name, "arguments": arguments, "critic": method.critic, "kl_weight": method.kl_weight}


def from_json(saved: Mapping[str, Any]) -> Method:
    """The method that `to_json` described; one that refuses to learn where its rules stayed behind.

    Raises:
        ValueError: the library has no such method, or it takes no such argument.
    """
    if saved["arguments"] is not None:
        return named(saved["name"], saved["arguments"])
    return Method(saved["name"], absent, absent, saved["critic"], kl_weight=saved["kl_weight"])


def absent(advantage: Any) -> Any:
    """Stands for the rules of a saved method that is not the library's own, until they are passed again."""
    raise ValueError("method: its rules are not in the file; pass the method again")


def _in_unit_interval(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")
    return value


def _comparable(value: Any) -> Any:
    """Two partials of one function with the same arguments are equal to us, but not to Python."""
    if isinstance(value, partial):
        return value.func, value.args, {name: _comparable(part) for name, part in value.keywords.items()}
    return value


def _positive(name: str, value: float) -> float:
    if not value > 0.0:
        raise ValueError(f"{name} must be positive, got {value}")
    return value


def _not_negative(name: str, value: float) -> None:
    if not value >= 0.0:
        raise ValueError(f"{name} must be at least 0, got {value}")


def _several(name: str, value: int | None) -> None:
    if value is None or value < 2:
        raise ValueError(f"{name} must be at least 2, since episodes are compared, got {value}")


def _discount(numbers: Numbers) -> float:
    return _in_unit_interval("discount", numbers["discount"])


def _gae(numbers: Numbers) -> CreditRule:
    trace = _in_unit_interval("trace", numbers["trace"])
    return partial(generalized_advantage, discount=_discount(numbers), trace=trace)


def _groups(numbers: Numbers) -> dict[str, Any]:
    """What credit that compares episodes asks for."""
    _several("episodes", numbers["episodes"])
    return {"discount": _discount(numbers), "group_size": numbers["group_size"]}


def _exponential(returned: Tensor, temperature: float) -> Tensor:
    return torch.exp(returned / temperature)
