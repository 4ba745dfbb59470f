"""Policy-gradient methods: a rule for the weights, and the few numbers around it.

A `Method` has three parts, each replaceable alone:

* **credit**: a rollout (and the critic's values) → the advantage of every action, and the critic's target;
* **weight**: the rule, (advantage, log π now, log π when the action was taken) → the detached weight of −log π
  (`rlce.weights` has many);
* **reuse**: how many epochs of which minibatches.

So a new method is usually one function::

    def my_weight(advantage, log_prob, behaviour_log_prob):
        return advantage * (log_prob - behaviour_log_prob).exp().clamp(max=1.0)

    method = dataclasses.replace(rlce.methods.ppo(), weight=my_weight, name="mine")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from typing import Any, ParamSpec

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
from rlce.reinforcement.credit import (
    Credit as Credit,
)
from rlce.reinforcement.credit import (
    Experience as Experience,
)
from rlce.rules import weights
from rlce.rules.weights import clipped_ratio as clipped_ratio
from rlce.rules.weights import score as score

P = ParamSpec("P")
WeightRule = Callable[[Tensor, Tensor, Tensor], Tensor]
CreditRule = Callable[[Experience], Credit]


@dataclass(frozen=True)
class Method:
    """A policy-gradient method: what is collected, what it is worth, how it is weighted, how often it is used.

    Attributes:
        name: for logs and files.
        credit: `Experience` → `Credit`.
        weight: (advantage, log_prob, behaviour_log_prob), each ``[B]`` → detached weights ``[B]``.
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
    """

    name: str
    credit: CreditRule
    weight: WeightRule
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


_MAKERS: dict[str, Callable[..., Method]] = {}


def _library(maker: Callable[P, Method]) -> Callable[P, Method]:
    """Put a constructor into the catalogue, and remember its arguments, so that a file can name the method."""
    signature = inspect.signature(maker)

    @wraps(maker)
    def make(*positional: P.args, **arguments: P.kwargs) -> Method:
        bound = signature.bind(*positional, **arguments)
        bound.apply_defaults()
        return replace(maker(*positional, **arguments), arguments=dict(bound.arguments))

    _MAKERS[maker.__name__] = make
    return make


# --------------------------------------------------------------------------------------------------- named methods


@_library
def reinforce(
    *,
    baseline: Baseline = "value",
    discount: float = 0.99,
    whole_return: bool = False,
    exact_discount: bool = False,
    episodes: int | None = None,
    steps: int = 32,
    per_episode: bool = False,
    standardize: bool = False,
    entropy_weight: float = 0.0,
    value_weight: float = 0.5,
) -> Method:
    """REINFORCE: w = (G_t − b) on the action taken, each action used once (tier B).

    Args:
        baseline: "none", "mean", "leave-one-out" or "value" (see `monte_carlo`).
        discount: γ in [0, 1].
        whole_return: the return from the episode's start in place of the reward-to-go.
        exact_discount: weight by γ^t as well.
        episodes: whole episodes a round. With baseline "value" None is allowed: ``steps`` steps are collected
            and the cut tail is continued by the critic. Without a critic the default is 16.
        steps: steps of every environment a round, where ``episodes`` is None.
        per_episode: Z = episodes, which gives ∇J itself; by default Z = rows, a ratio estimator.
        standardize: advantages of a round to mean 0 and spread 1.
        entropy_weight: factor of the entropy bonus.
        value_weight: factor of the critic's cost.

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
    critic = baseline == "value"
    if episodes is None and not critic:
        episodes = 16
    if whole_return and episodes is None:
        raise ValueError("whole_return needs whole episodes: set episodes")
    if episodes == 1 and baseline in ("mean", "leave-one-out"):
        raise ValueError(f'baseline "{baseline}" compares episodes of a round and needs episodes >= 2, got 1')
    credit = partial(
        monte_carlo,
        discount=_in_unit_interval("discount", discount),
        baseline=baseline,
        whole_return=whole_return,
        exact_discount=exact_discount,
    )
    return Method(
        "reinforce",
        credit,
        score,
        critic,
        episodes,
        steps,
        per_episode=per_episode,
        standardize=standardize,
        entropy_weight=entropy_weight,
        value_weight=value_weight,
    )


@_library
def actor_critic(
    *,
    discount: float = 0.99,
    trace: float = 0.95,
    steps: int = 32,
    standardize: bool = False,
    entropy_weight: float = 0.0,
    value_weight: float = 0.5,
) -> Method:
    """Advantage actor-critic: w = A_t from GAE on the action taken, each action used once (tier B).

    Args:
        discount: γ in [0, 1].
        trace: λ in [0, 1].
        steps: steps of every environment a round.
        standardize: advantages of a round to mean 0 and spread 1.
        entropy_weight: factor of the entropy bonus.
        value_weight: factor of the critic's cost.

    Returns:
        The method.

    Source:
        Mnih et al. (2016), arXiv 1602.01783; Schulman et al. (2016), arXiv 1506.02438.

    Example:
        >>> actor_critic(steps=8).epochs
        1
    """
    return Method(
        "actor_critic",
        _gae(discount, trace),
        score,
        True,
        steps=steps,
        standardize=standardize,
        entropy_weight=entropy_weight,
        value_weight=value_weight,
    )


@_library
def ppo(
    *,
    clip: float = 0.2,
    discount: float = 0.99,
    trace: float = 0.95,
    steps: int = 32,
    epochs: int = 6,
    minibatch_size: int | None = 256,
    standardize: bool = True,
    entropy_weight: float = 0.0,
    value_weight: float = 0.5,
) -> Method:
    """PPO: GAE, the ratio with a clip as a mask, several epochs of minibatches (tier C).

    Args:
        clip: ε > 0.
        discount: γ in [0, 1].
        trace: λ in [0, 1].
        steps: steps of every environment a round.
        epochs: passes over a round.
        minibatch_size: rows a gradient step; None for all.
        standardize: advantages of a round to mean 0 and spread 1.
        entropy_weight: factor of the entropy bonus.
        value_weight: factor of the critic's cost. There is no value clipping: it does not fit the objective.

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
    return Method(
        "ppo",
        _gae(discount, trace),
        partial(clipped_ratio, clip=_positive("clip", clip)),
        True,
        None,
        steps,
        epochs,
        minibatch_size,
        ratio=True,
        standardize=standardize,
        entropy_weight=entropy_weight,
        value_weight=value_weight,
    )


@_library
def rloo(
    *,
    discount: float = 1.0,
    episodes: int = 16,
    group_size: int | None = None,
    per_episode: bool = False,
    standardize: bool = False,
    entropy_weight: float = 0.0,
) -> Method:
    """RLOO: w = (R − mean R of the other episodes of the group) on every action, each used once (tier B).

    Args:
        discount: γ in [0, 1].
        episodes: whole episodes a round.
        group_size: episodes of a group start from the same reset seed; None for one group of all, from seeds of
            their own.
        per_episode: Z = episodes, which gives ∇J itself; by default Z = rows.
        standardize: advantages of a round to mean 0 and spread 1.
        entropy_weight: factor of the entropy bonus.

    Returns:
        The method.

    Source:
        Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. (2024),
        arXiv 2402.14740.

    Example:
        >>> rloo(group_size=4).episodes
        16
    """
    return Method(
        "rloo",
        partial(
            grouped, discount=_in_unit_interval("discount", discount), comparison="leave-one-out", group_size=group_size
        ),
        score,
        critic=False,
        episodes=_several("episodes", episodes),
        group_size=group_size,
        per_episode=per_episode,
        standardize=standardize,
        entropy_weight=entropy_weight,
    )


@_library
def grpo(
    *,
    clip: float = 0.2,
    discount: float = 1.0,
    episodes: int = 16,
    group_size: int | None = None,
    epochs: int = 4,
    minibatch_size: int | None = 256,
    biased: bool = True,
    kl_weight: float = 0.0,
    entropy_weight: float = 0.0,
) -> Method:
    """GRPO: group-standardised returns per step of the episode, the clipped ratio, several epochs (tier C).

    Args:
        clip: ε > 0.
        discount: γ in [0, 1].
        episodes: whole episodes a round.
        group_size: episodes of a group start from the same reset seed; None for one group of all.
        epochs: passes over a round.
        minibatch_size: rows a gradient step; None for all.
        biased: divide by the group's deviation and the episode's length, as published; False is Dr. GRPO, which does
            neither.
        kl_weight: β >= 0 of the penalty β·KL(π‖reference), in closed form over all actions and averaged over rows
            (published: sampled, and averaged over each episode first).
        entropy_weight: factor of the entropy bonus.

    Returns:
        The method.

    Source:
        Shao et al. (2024), arXiv 2402.03300; Liu et al. (2025), arXiv 2503.20783.

    Example:
        >>> grpo(biased=False).ratio
        True
    """
    return Method(
        "grpo",
        partial(
            grouped,
            discount=_in_unit_interval("discount", discount),
            comparison="standardized" if biased else "centred",
            group_size=group_size,
            per_length=biased,
        ),
        partial(clipped_ratio, clip=_positive("clip", clip)),
        critic=False,
        episodes=_several("episodes", episodes),
        group_size=group_size,
        epochs=epochs,
        minibatch_size=minibatch_size,
        ratio=True,
        per_episode=True,
        kl_weight=_not_negative("kl_weight", kl_weight),
        entropy_weight=entropy_weight,
    )


@_library
def cispo(
    *,
    low: float = 1.0,
    high: float = 0.2,
    discount: float = 0.99,
    trace: float = 0.95,
    steps: int = 32,
    epochs: int = 4,
    minibatch_size: int | None = 256,
    standardize: bool = True,
    entropy_weight: float = 0.0,
    value_weight: float = 0.5,
) -> Method:
    """CISPO: GAE under a bounded ratio that keeps every row (tier B).

    Args:
        low: ε_low; 1 leaves the ratio unbounded below.
        high: ε_high.
        discount: γ in [0, 1].
        trace: λ in [0, 1].
        steps: steps of every environment a round.
        epochs: passes over a round.
        minibatch_size: rows a gradient step; None for all.
        standardize: advantages of a round to mean 0 and spread 1.
        entropy_weight: factor of the entropy bonus.
        value_weight: factor of the critic's cost.

    Returns:
        The method.

    Source:
        MiniMax (2025), arXiv 2506.13585.

    Example:
        >>> cispo().ratio
        True
    """
    return Method(
        "cispo",
        _gae(discount, trace),
        partial(weights.cispo, low=_in_unit_interval("low", low), high=_positive("high", high)),
        critic=True,
        steps=steps,
        epochs=epochs,
        minibatch_size=minibatch_size,
        ratio=True,
        standardize=standardize,
        entropy_weight=entropy_weight,
        value_weight=value_weight,
    )


@_library
def v_trace(
    *,
    ratio_bound: float = 1.0,
    trace_bound: float = 1.0,
    discount: float = 0.99,
    trace: float = 1.0,
    steps: int = 32,
    replay: int = 1,
    minibatch_size: int | None = None,
    epochs: int = 1,
    standardize: bool = False,
    entropy_weight: float = 0.0,
    value_weight: float = 0.5,
) -> Method:
    """V-trace: an actor-critic that also learns from rounds of older policies (tier B).

    Args:
        ratio_bound: ρ̄ > 0.
        trace_bound: c̄ in (0, ρ̄].
        discount: γ in [0, 1].
        trace: λ in [0, 1].
        steps: steps of every environment a round.
        replay: how many earlier rounds are used again beside the new one.
        minibatch_size: rows a gradient step; None for all.
        epochs: passes over a round.
        standardize: advantages of a round to mean 0 and spread 1.
        entropy_weight: factor of the entropy bonus.
        value_weight: factor of the critic's cost.

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
    return Method(
        "v_trace",
        partial(
            v_trace_targets,
            discount=_in_unit_interval("discount", discount),
            trace=_in_unit_interval("trace", trace),
            ratio_bound=ratio_bound,
            trace_bound=trace_bound,
        ),
        partial(weights.v_trace, bound=ratio_bound),
        critic=True,
        steps=steps,
        epochs=epochs,
        minibatch_size=minibatch_size,
        ratio=True,
        replay=replay,
        standardize=standardize,
        entropy_weight=entropy_weight,
        value_weight=value_weight,
    )


@_library
def reward_weighted_regression(
    *,
    temperature: float = 1.0,
    discount: float = 0.99,
    episodes: int = 16,
    epochs: int = 4,
    minibatch_size: int | None = 256,
    entropy_weight: float = 0.0,
) -> Method:
    """Reward-weighted regression: w = exp(G/β) with G the standardised reward-to-go (tier A within a round).

    Args:
        temperature: β > 0, in standard deviations of the reward-to-go; far below 1, exp overflows.
        discount: γ in [0, 1].
        episodes: whole episodes a round.
        epochs: passes over a round; no ratio is needed, since no weight is negative.
        minibatch_size: rows a gradient step; None for all.
        entropy_weight: factor of the entropy bonus.

    Returns:
        The method.

    Source:
        Peters and Schaal (2007), "Reinforcement learning by reward-weighted regression for operational space control".

    Example:
        >>> reward_weighted_regression().nonnegative
        True
    """
    return Method(
        "reward_weighted_regression",
        partial(monte_carlo, discount=_in_unit_interval("discount", discount), baseline="none"),
        partial(
            weights.reward_weighted, transform=partial(_exponential, temperature=_positive("temperature", temperature))
        ),
        critic=False,
        episodes=episodes,
        epochs=epochs,
        minibatch_size=minibatch_size,
        nonnegative=True,
        standardize=True,
        entropy_weight=entropy_weight,
    )


@_library
def advantage_weighted_regression(
    *,
    temperature: float = 1.0,
    bound: float = 20.0,
    discount: float = 0.99,
    steps: int = 32,
    replay: int = 0,
    epochs: int = 4,
    minibatch_size: int | None = 256,
    standardize: bool = True,
    entropy_weight: float = 0.0,
    value_weight: float = 0.5,
) -> Method:
    """Advantage-weighted regression: w = min(exp((G − V)/β), w_max) (tier A within a round).

    Args:
        temperature: β > 0.
        bound: w_max > 0.
        discount: γ in [0, 1].
        steps: steps of every environment a round.
        replay: how many earlier rounds are used again beside the new one.
        epochs: passes over a round; no ratio is needed, since no weight is negative.
        minibatch_size: rows a gradient step; None for all.
        standardize: advantages of a round to mean 0 and spread 1.
        entropy_weight: factor of the entropy bonus.
        value_weight: factor of the critic's cost.

    Returns:
        The method.

    Source:
        Peng et al. (2019), arXiv 1910.00177.

    Example:
        >>> advantage_weighted_regression().epochs
        4
    """
    return Method(
        "advantage_weighted_regression",
        partial(monte_carlo, discount=_in_unit_interval("discount", discount), baseline="value"),
        partial(
            weights.advantage_weighted,
            temperature=_positive("temperature", temperature),
            bound=_positive("bound", bound),
        ),
        critic=True,
        steps=steps,
        epochs=epochs,
        minibatch_size=minibatch_size,
        nonnegative=True,
        replay=replay,
        standardize=standardize,
        entropy_weight=entropy_weight,
        value_weight=value_weight,
    )


@_library
def self_imitation(
    *,
    discount: float = 0.99,
    episodes: int = 8,
    replay: int = 4,
    epochs: int = 1,
    minibatch_size: int | None = 256,
    entropy_weight: float = 0.01,
    value_weight: float = 0.5,
) -> Method:
    """Self-imitation: w = max(G − V, 0) over this and earlier rounds, without a ratio (tier B).

    Biased on purpose: it repeats what once went better than expected. Published beside an actor-critic, here alone.

    Args:
        discount: γ in [0, 1].
        episodes: whole episodes a round.
        replay: how many earlier rounds are used again beside the new one.
        epochs: passes over a round.
        minibatch_size: rows a gradient step; None for all.
        entropy_weight: factor of the entropy bonus.
        value_weight: factor of the critic's cost.

    Returns:
        The method.

    Source:
        Oh et al. (2018), "Self-imitation learning", arXiv 1806.05635.

    Example:
        >>> self_imitation().replay
        4
    """
    return Method(
        "self_imitation",
        partial(monte_carlo, discount=_in_unit_interval("discount", discount), baseline="value"),
        weights.self_imitation,
        critic=True,
        episodes=episodes,
        epochs=epochs,
        minibatch_size=minibatch_size,
        nonnegative=True,
        replay=replay,
        entropy_weight=entropy_weight,
        value_weight=value_weight,
    )


@_library
def elite(
    *,
    quantile: float = 0.7,
    episodes: int = 16,
    epochs: int = 4,
    minibatch_size: int | None = 256,
    entropy_weight: float = 0.0,
) -> Method:
    """Elite filtering, the cross-entropy method on episodes: w = 1 for the actions of the best (tier A within a round).

    Args:
        quantile: episodes whose return reaches this quantile of the round's are imitated, in [0, 1).
        episodes: whole episodes a round.
        epochs: passes over a round; no ratio is needed, since no weight is negative.
        minibatch_size: rows a gradient step; None for all.
        entropy_weight: factor of the entropy bonus.

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
    return Method(
        "elite",
        partial(elite_episodes, quantile=quantile),
        score,
        critic=False,
        episodes=_several("episodes", episodes),
        epochs=epochs,
        minibatch_size=minibatch_size,
        nonnegative=True,
        entropy_weight=entropy_weight,
    )


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
    unknown = set(arguments or {}) - set(inspect.signature(maker).parameters)
    if unknown:
        known = ", ".join(inspect.signature(maker).parameters)
        raise ValueError(f"method {name} has no argument {', '.join(sorted(unknown))}; it takes {known}")
    return maker(**(arguments or {}))


def absent(*_: Any) -> Any:
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


def _not_negative(name: str, value: float) -> float:
    if not value >= 0.0:
        raise ValueError(f"{name} must be at least 0, got {value}")
    return value


def _several(name: str, value: int) -> int:
    if value < 2:
        raise ValueError(f"{name} must be at least 2, since episodes are compared, got {value}")
    return value


def _gae(discount: float, trace: float) -> CreditRule:
    return partial(
        generalized_advantage,
        discount=_in_unit_interval("discount", discount),
        trace=_in_unit_interval("trace", trace),
    )


def _exponential(returned: Tensor, temperature: float) -> Tensor:
    return torch.exp(returned / temperature)
