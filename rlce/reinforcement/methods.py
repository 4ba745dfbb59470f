"""Policy-gradient methods: a rule for the weights, and a few numbers.

A `Method` has three parts; you can replace each of them alone:

* **credit**: a rollout (and the critic's values) → the advantage of every action, and the critic's target;
* **weight**: a rule that gives the detached weight of −log π(a|s) (`rlce.weights` has many);
* **reuse**: the number of epochs and the size of minibatches.

So a new method is usually one function. The library passes it what its parameters name::

    def my_weight(advantage, log_prob, behaviour_log_prob):
        return advantage * (log_prob - behaviour_log_prob).exp().clamp(max=1.0)

    method = dataclasses.replace(rlce.methods.ppo(), weight=my_weight, name="mine")

======================  ==================================================================  ========
name of a parameter     value                                                               shape
======================  ==================================================================  ========
``advantage``           the advantage that credit gave the action                           ``[B]``
``log_prob``            log π(a|s) now                                                      ``[B]``
``behaviour_log_prob``  log π(a|s) when the action was taken                                ``[B]``
``value``               V(s) when the round began; needs a critic                           ``[B]``
``episode``             numbers 0 … E−1; rows with the same number are one episode. Needs   ``[B]``
                        whole episodes; minibatches then hold whole episodes, and Z = E
``progress``            the fraction of training done when the round began, in [0, 1]       a float
======================  ==================================================================  ========

A rule with exactly three parameters under names of its own gets the first three by position. ``progress`` is that of
the learning-rate schedule: it grows from 0 to 1 within each call of ``learn``, or over all calls up to
``Optimization.schedule_timesteps``.

The methods below share these numbers, each with its own defaults (``help(rlce.methods.ppo)`` shows them):

==================  ======================================================================================
``discount``        γ in [0, 1]
``trace``           λ in [0, 1], of generalised advantages and of V-trace
``steps``           steps of every environment a round, where rounds are not made of whole episodes
``episodes``        whole episodes a round
``group_size``      episodes of a group start from the same reset seed; None puts all episodes of a round
                    into one group, each with its own seed
``epochs``          passes over a round
``minibatch_size``  rows a gradient step; None for all rows of the round
``replay``          the number of earlier rounds that are used again beside the new one
``per_episode``     Z = episodes, which gives ∇J itself; by default Z = rows
``target_kl``       skip the remaining epochs of a round once the mean KL(behaviour‖policy) exceeds this
``standardize``     shift and scale the advantages of a round to mean 0 and deviation 1; "minibatch" does so
                    within each minibatch
``entropy_weight``  c in the bonus c·H(π): a number or a schedule
``kl_weight``       β >= 0 in the penalty β·KL(π‖reference)
``value_weight``    factor of the critic's cost. There is no value clipping: it does not fit the objective
``value_epochs``    further passes over a round for the critic alone, in minibatches of 256
==================  ======================================================================================

A schedule (of ``entropy_weight``, and of the ``clip`` of ppo and grpo) is a pair (start, end), between which the
number goes linearly with ``progress``, or a function of ``progress``. A file holds a pair, but no function: to learn
again, pass the method to ``load``.

Methods that use each action once take one gradient step a round, which is little for a critic: ``value_epochs`` gives
it more. In these steps the policy's gradient is zero (unless the networks share a trunk), but the optimiser is one for
both: momentum carries the policy's step on, weight decay acts on it, and Adam and RMSprop, whose mean square of past
gradients counts the zeros too, make it larger. With k steps of the critic alone a round, Adam's is about √(k + 1) times
as large; by default k is 32 for actor_critic and 64 for reinforce.

``target_kl`` is compared before each epoch of a round but the first, with the estimate that ``train/approx_kl`` logs:
the mean of (ρ − 1) − log ρ, here over all rows of the round and with the policy as it is then. If the mean exceeds
``target_kl``, the remaining epochs are skipped. (Stable-Baselines3 looks at each minibatch, and stops at 1.5
times the number.)
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial, wraps
from typing import Any, Literal, ParamSpec, TypedDict, Unpack, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor

from rlce.optimization import Scheduled, check, check_number, check_whole, scheduled
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
from rlce.rules.ranges import not_negative
from rlce.rules.weights import clipped_ratio as clipped_ratio
from rlce.rules.weights import score as score

_BEFORE = {"value_epochs": 0}  # what files mean that were written before methods had these numbers

CreditRule = Callable[[Experience], Credit]
OFFERED = "advantage", "log_prob", "behaviour_log_prob", "episode", "value", "progress"


@dataclass(frozen=True)
class Method:
    """A policy-gradient method: what to collect, its credit and weight rules, and how often to use it.

    Attributes:
        name: for logs and files.
        credit: `Experience` → `Credit`.
        weight: the rule for the weights, ``[B]``; its parameters name what it needs (see `rlce.methods`).
        critic: True to train a value network beside the policy.
        episodes: collect this number of whole episodes a round; None collects ``steps`` steps of every environment.
        steps: steps of every environment a round, where ``episodes`` is None.
        epochs: passes over a round. More than one needs a ratio in ``weight``, or weights that are never negative.
        target_kl: skip the remaining epochs of a round once the mean KL(behaviour‖policy) exceeds this (see
            `rlce.methods`); None for no limit. Needs ``ratio``.
        minibatch_size: rows a gradient step; None for all rows of the round.
        ratio: True if ``weight`` corrects for changes of the policy since the action was taken.
        nonnegative: True if ``weight`` never gives a negative number. The objective is then bounded below, so that
            actions may be used again without a ratio.
        group_size: episodes of a group start from the same reset seed; None for no groups.
        replay: the number of earlier rounds that are used again beside the new one.
        per_episode: Z = number of episodes (the gradient of expected return) instead of the number of rows.
        standardize: shift and scale the advantages of a round to mean 0 and deviation 1; "minibatch" does so within
            each minibatch, where the weight rule gets them. Z and the row weights of credit stay the same.
        entropy_weight: c in the bonus c·H(π), computed exactly: a number, a pair (start, end) or a function of the
            fraction of training done.
        kl_weight: β >= 0 in the penalty β·KL(π‖reference); the reference is the policy before training.
        value_weight: factor of the critic's cost.
        value_epochs: further passes over a round for the critic alone (see `rlce.methods`). Needs a critic.
        arguments: the arguments of the constructor of a named method (see `arguments_of`); None for a method made
            by hand.

    Raises:
        ValueError: numbers that do not fit each other, or a weight rule that names what the method does not have.
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
    standardize: bool | Literal["minibatch"] = False
    entropy_weight: Scheduled = 0.0
    kl_weight: float = 0.0
    value_weight: float = 0.5
    value_epochs: int = 0
    target_kl: float | None = None
    arguments: Mapping[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("steps", 1), ("epochs", 1), ("minibatch_size", 1), ("group_size", 2)):
            number = getattr(self, name)
            if number is not None and number < least:
                raise ValueError(f"{name} must be at least {least}, got {number}")
        not_negative(replay=self.replay, kl_weight=self.kl_weight)
        check_whole("value_epochs", self.value_epochs, least=0)
        if self.value_epochs and not self.critic:
            raise ValueError(f"{self.name}: value_epochs={self.value_epochs} needs a critic")
        for progress in (0.0, 1.0):
            scheduled("entropy_weight", self.entropy_weight, progress)
        known = self.standardize in (True, False, "minibatch")
        check("standardize", self.standardize, known, 'be True, False or "minibatch"')
        if self.target_kl is not None:
            check_number("target_kl", self.target_kl, lambda kl: kl > 0, "be positive, or None")
            if not self.ratio:
                raise ValueError(f"{self.name}: target_kl needs a weight rule with a ratio (ratio=True)")
        once = {"epochs": 1, "replay": 0, "minibatch_size": None}
        again = [f"{name}={getattr(self, name)}" for name, value in once.items() if getattr(self, name) != value]
        if again and not (self.ratio or self.nonnegative):
            raise ValueError(
                f"{self.name}: {', '.join(again)} would use actions of an older policy again, and negative weights "
                "then make the objective unbounded below; use a weight rule with a ratio or without negative weights"
            )
        if self.per_episode and (self.episodes is None or self.replay):
            raise ValueError(f"{self.name}: Z = episodes needs whole episodes of one round: set episodes, no replay")
        if self.group_size is not None and (self.episodes is None or self.episodes % self.group_size != 0):
            raise ValueError(
                f"{self.name}: episodes={self.episodes} do not fill groups of group_size={self.group_size}"
            )
        rule = f"{self.name}: its weight rule {self.rule.name}"
        if self.takes("episode") and self.episodes is None:
            got = f"got fixed steps (steps={self.steps})"
            raise ValueError(f"{rule} names episode, which needs whole episodes: set episodes, {got}")
        if self.takes("value") and not self.critic:
            raise ValueError(f"{rule} names value, but the method has no critic")

    @cached_property
    def rule(self) -> Bound:
        """The weight rule, with the names that it takes."""
        try:
            return bind(self.weight, OFFERED, by_position=OFFERED[:3])
        except (TypeError, ValueError) as error:
            raise type(error)(f"method {self.name}: weight {error}") from error

    def takes(self, name: str) -> bool:
        """True if the weight rule takes the value of this name."""
        return name in self.rule.takes


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
    standardize: bool | Literal["minibatch"]
    entropy_weight: Scheduled
    kl_weight: float
    value_weight: float
    value_epochs: int
    target_kl: float | None


P = ParamSpec("P")
_MAKERS: dict[str, Callable[..., Method]] = {}
_OTHER_LIBRARIES = {  # their names → ours
    "gamma": "discount",
    "gae_lambda": "trace",
    "lam": "trace",
    "n_steps": "steps",
    "n_epochs": "epochs",
    "batch_size": "minibatch_size",
    "clip_range": "clip",
    "ent_coef": "entropy_weight",
    "vf_coef": "value_weight",
    "normalize_advantage": "standardize",
    "norm_adv": "standardize",
    "clip_coef": "clip",
    "clip_ratio": "clip",
    "entropy_coef": "entropy_weight",
    "value_coef": "value_weight",
    "num_steps": "steps",
    "update_epochs": "epochs",
    "mini_batch_size": "minibatch_size",
}
_OF_THE_AGENT = {  # likewise, for what a method does not take: it belongs to the agent
    "lr": "PolicyGradient(learning_rate=...)",
    "learning_rate": "PolicyGradient(learning_rate=...)",
    "lr_schedule": "PolicyGradient(optimization=Optimization(schedule=...))",
    "learning_rate_schedule": "PolicyGradient(optimization=Optimization(schedule=...))",
    "max_grad_norm": "PolicyGradient(optimization=Optimization(max_gradient_norm=...))",
    "n_envs": "PolicyGradient(num_envs=...)",
    "env_id": "PolicyGradient(env=...)",
    "net_arch": "PolicyGradient(hidden=...)",
    "hidden_sizes": "PolicyGradient(hidden=...)",
    "activation_fn": "PolicyGradient(activation=...)",
    "policy": "PolicyGradient(hidden=..., activation=...) or PolicyGradient(network=...)",
    "policy_kwargs": "PolicyGradient(hidden=..., activation=...) or PolicyGradient(network=...)",
    "log_std_init": "PolicyGradient(initial_deviation=...), a deviation and not its logarithm",
    "tensorboard_log": "PolicyGradient(log_dir=...)",
    "eval_freq": "PolicyGradient(evaluation=Evaluation(every=...))",
    "eval_env": "PolicyGradient(evaluation=Evaluation(env=...))",
    "total_timesteps": "learn(total_timesteps)",
    "verbose": "learn(progress_bar=True)",
    "callback": "learn(callback=...)",
}


def _library(**defaults: Any) -> Callable[[Callable[P, Method]], Callable[P, Method]]:
    """Add a constructor to the catalogue, with these defaults of the shared numbers that it takes.

    The method remembers the constructor's arguments, so that a file can name them.
    """

    def put(maker: Callable[P, Method]) -> Callable[P, Method]:
        build: Callable[..., Method] = maker
        name, hints = maker.__name__, get_type_hints(Numbers)
        signature = inspect.signature(maker, eval_str=True)  # so that `help` shows types
        *own, _ = signature.parameters.values()  # the last one is **numbers
        shared = [
            inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[each])
            for each, default in defaults.items()
        ]
        usual = {p.name: p.default for p in own} | defaults
        takes = ", ".join(usual)

        @wraps(maker)
        def make(*positional: P.args, **arguments: P.kwargs) -> Method:
            if positional:
                raise TypeError(f"method {name} takes keyword arguments only: {takes}")
            unknown = [hinted(each, usual) for each in arguments if each not in usual]
            if unknown:
                raise TypeError(f"method {name} has no argument {', '.join(unknown)}; it takes {takes}")
            # A pair from a file is a list.
            complete = {each: tuple(v) if isinstance(v, list) else v for each, v in (usual | arguments).items()}
            method = replace(build(**complete), arguments=complete)
            _try(method)
            return method

        make.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
        _MAKERS[name] = make
        return make

    return put


def hinted(word: str, takes: Collection[str] = ()) -> str:
    """A keyword that does not fit, with the one to use instead: another library's word for it, or a misspelt one.

    Example:
        >>> hinted("gamma", ["discount"]), hinted("hiden")
        ('gamma (use discount)', 'hiden (did you mean hidden?)')
    """
    ours = _OTHER_LIBRARIES.get(word)
    ours = ours if ours in takes else _OF_THE_AGENT.get(word)
    if ours is not None:
        return f"{word} (use {ours})"
    of_the_agent = re.findall(r"PolicyGradient\((\w+)=", " ".join(_OF_THE_AGENT.values()))
    near = difflib.get_close_matches(word, [*takes, *of_the_agent], n=1, cutoff=0.75)
    return f"{word} (did you mean {near[0]}?)" if near else word


def _try(method: Method) -> None:
    """Run both rules on one step, so that they refuse a number outside its range before training starts."""
    if method.episodes is None and not method.critic:
        raise ValueError(f"{method.name}: episodes must be a number, since the method has no critic, got None")
    shape = 1, min(method.episodes or 1, 2)  # a file may ask for any number of episodes and any size of group
    zeros, true = np.zeros(shape), np.ones(shape, bool)
    credit: Callable[..., Credit] = method.credit
    credit = partial(credit, group_size=None) if method.group_size else credit
    credit(Experience(zeros, true, true, true, np.zeros(shape, np.int64), zeros, zeros, zeros, zeros))
    for progress in (0.0, 1.0):
        method.rule.call({name: torch.zeros(1) for name in OFFERED} | {"progress": progress})


def _made(name: str, credit: Callable[..., Credit], weight: Rule, numbers: Numbers, **own: Any) -> Method:
    """A method with the shared numbers. γ and λ belong to its credit alone, the size of groups to both."""
    of_credit = {key: value for key, value in numbers.items() if key in ("discount", "trace", "group_size")}
    shared: dict[str, Any] = {key: value for key, value in numbers.items() if key not in ("discount", "trace")}
    return Method(name, partial(credit, **of_credit), weight, **{**shared, **own})


@_library(
    discount=0.99, episodes=None, steps=128, per_episode=False, standardize=False, entropy_weight=0.01,
    value_weight=0.5, value_epochs=8,
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
        whole_return: use the return from the episode's start instead of the reward-to-go.
        exact_discount: multiply the weight by γ^t.
        numbers: with baseline "value" ``episodes`` may be None: each round then collects ``steps`` steps, and the
            critic's value continues the cut episodes. Without a critic ``episodes`` is 16 by default, and
            ``value_weight`` and ``value_epochs`` have no effect.

    Raises:
        ValueError: the baseline is unknown, ``whole_return`` lacks whole episodes, or a baseline that compares
            episodes has only one.

    Source:
        Williams (1992), "Simple statistical gradient-following algorithms for connectionist reinforcement learning".

    Example:
        >>> reinforce(baseline="leave-one-out").episodes
        16
    """
    if baseline not in get_args(Baseline):
        raise ValueError(f"baseline must be one of {', '.join(get_args(Baseline))}, got {baseline!r}")
    critic, episodes = baseline == "value", numbers["episodes"]
    if episodes is None and not critic:
        episodes = 16
    if whole_return and episodes is None:
        raise ValueError("whole_return needs whole episodes: set episodes")
    if not critic:
        check_whole("value_epochs", numbers["value_epochs"], least=0)
        numbers["value_epochs"] = 0
    credit = partial(monte_carlo, baseline=baseline, whole_return=whole_return, exact_discount=exact_discount)
    return _made("reinforce", credit, score, numbers, critic=critic, episodes=episodes)


@_library(
    discount=0.99, trace=0.95, steps=64, standardize=True, entropy_weight=0.01, value_weight=0.5, value_epochs=8
)  # fmt: skip
def actor_critic(**numbers: Unpack[Numbers]) -> Method:
    """Advantage actor-critic: w = A_t from GAE on the action taken, each action used once (tier B).

    With λ = 1 the advantage is that of Mnih et al.: rewards to the end of the round, then the critic. They take rounds
    of 5 steps and no ``value_epochs``.

    Args:
        numbers: see `rlce.methods`.

    Source:
        Mnih et al. (2016), arXiv 1602.01783; Schulman et al. (2016), arXiv 1506.02438.

    Example:
        >>> actor_critic(steps=8).value_epochs
        8
    """
    return _made("actor_critic", generalized_advantage, score, numbers, critic=True)


@_library(
    discount=0.99, trace=0.95, steps=128, epochs=6, minibatch_size=256, standardize=True, entropy_weight=0.01,
    value_weight=0.5, target_kl=None,
)  # fmt: skip
def ppo(*, clip: Scheduled = 0.2, **numbers: Unpack[Numbers]) -> Method:
    """PPO: GAE and the clipped ratio as a mask, several epochs of minibatches (tier C).

    Args:
        clip: ε > 0, or a schedule, which may fall to 0 (see `rlce.methods`).
        numbers: see `rlce.methods`.

    Source:
        Schulman et al. (2017), arXiv 1707.06347.

    Example:
        >>> ppo(clip=0.1).arguments["clip"]
        0.1
    """
    return _made("ppo", generalized_advantage, _clipped_ratio(clip), numbers, critic=True, ratio=True)


@_library(discount=1.0, episodes=16, group_size=None, per_episode=False, standardize=False, entropy_weight=0.0)
def rloo(**numbers: Unpack[Numbers]) -> Method:
    """RLOO: w = (R − mean R of the other episodes of the group) on every action, each used once (tier B).

    Source:
        Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. (2024),
        arXiv 2402.14740.

    Example:
        >>> rloo(group_size=4).episodes
        16
    """
    return _made("rloo", partial(grouped, comparison="leave-one-out"), score, numbers, critic=False)


@_library(
    discount=1.0, episodes=16, group_size=None, epochs=4, minibatch_size=256, kl_weight=0.0, entropy_weight=0.0,
    target_kl=None,
)  # fmt: skip
def grpo(*, clip: Scheduled = 0.2, biased: bool = True, **numbers: Unpack[Numbers]) -> Method:
    """GRPO: group-standardised returns, the clipped ratio, each row weighted by 1/length (tier C). Z = episodes.

    The entropy bonus and the penalty have the same Z and the same row weights.

    Args:
        clip: ε > 0, or a schedule, which may fall to 0 (see `rlce.methods`).
        biased: divide by the group's deviation and by the episode's length, as published; False is Dr. GRPO, which
            does neither.
        numbers: the penalty of ``kl_weight`` is the exact divergence over all actions (published: estimated from the
            sampled action).

    Source:
        Shao et al. (2024), arXiv 2402.03300; Liu et al. (2025), arXiv 2503.20783.

    Example:
        >>> grpo(biased=False).ratio
        True
    """
    credit = partial(grouped, comparison="standardized" if biased else "centred", per_length=biased)
    return _made("grpo", credit, _clipped_ratio(clip), numbers, critic=False, ratio=True, per_episode=True)


@_library(
    discount=0.99, trace=0.95, steps=128, epochs=4, minibatch_size=256, standardize=True, entropy_weight=0.01,
    value_weight=0.5, target_kl=None,
)  # fmt: skip
def cispo(*, low: float = 1.0, high: float = 0.2, **numbers: Unpack[Numbers]) -> Method:
    """CISPO: GAE times a bounded ratio; no row is dropped (tier B).

    Args:
        low: ε_low in [0, 1]; at 1 the ratio has no lower bound.
        high: ε_high >= 0.

    Source:
        MiniMax (2025), arXiv 2506.13585.

    Example:
        >>> cispo().ratio
        True
    """
    weight = partial(weights.cispo, low=low, high=high)
    return _made("cispo", generalized_advantage, weight, numbers, critic=True, ratio=True)


@_library(
    discount=0.99, trace=1.0, steps=32, replay=1, minibatch_size=None, epochs=1, standardize=False,
    entropy_weight=0.0, value_weight=0.5,
)  # fmt: skip
def v_trace(*, ratio_bound: float = 1.0, trace_bound: float = 1.0, **numbers: Unpack[Numbers]) -> Method:
    """V-trace: an actor-critic that also learns from rounds of older policies (tier B).

    Args:
        ratio_bound: ρ̄ > 0.
        trace_bound: c̄ in (0, ρ̄].

    Source:
        Espeholt et al. (2018), arXiv 1802.01561.

    Example:
        >>> v_trace().replay
        1
    """
    credit = partial(v_trace_targets, ratio_bound=ratio_bound, trace_bound=trace_bound)
    weight = partial(weights.v_trace, bound=ratio_bound)
    return _made("v_trace", credit, weight, numbers, critic=True, ratio=True)


@_library(discount=0.99, episodes=16, epochs=4, minibatch_size=256, entropy_weight=0.0)
def reward_weighted_regression(*, temperature: float = 1.0, **numbers: Unpack[Numbers]) -> Method:
    """Reward-weighted regression: w = exp(G/β) with G the standardised reward-to-go (tier A within a round).

    No weight is negative, so several epochs need no ratio.

    Args:
        temperature: β > 0, in standard deviations of the reward-to-go; far below 1, exp overflows.

    Source:
        Peters and Schaal (2007), "Reinforcement learning by reward-weighted regression for operational space control".

    Example:
        >>> reward_weighted_regression().nonnegative
        True
    """
    weight = partial(weights.reward_weighted, temperature=temperature)
    credit = partial(monte_carlo, baseline="none")
    own = {"critic": False, "nonnegative": True, "standardize": True}
    return _made("reward_weighted_regression", credit, weight, numbers, **own)


@_library(
    discount=0.99, steps=32, replay=0, epochs=4, minibatch_size=256, standardize=True, entropy_weight=0.0,
    value_weight=0.5,
)  # fmt: skip
def advantage_weighted_regression(
    *, temperature: float = 1.0, bound: float = 20.0, **numbers: Unpack[Numbers]
) -> Method:
    """Advantage-weighted regression: w = min(exp((G − V)/β), w_max) (tier A within a round).

    No weight is negative, so several epochs need no ratio.

    Args:
        temperature: β > 0.
        bound: w_max > 0.

    Source:
        Peng et al. (2019), arXiv 1910.00177.

    Example:
        >>> advantage_weighted_regression().epochs
        4
    """
    weight = partial(weights.advantage_weighted, temperature=temperature, bound=bound)
    credit = partial(monte_carlo, baseline="value")
    return _made("advantage_weighted_regression", credit, weight, numbers, critic=True, nonnegative=True)


@_library(discount=0.99, episodes=8, replay=4, epochs=1, minibatch_size=256, entropy_weight=0.01, value_weight=0.5)
def self_imitation(**numbers: Unpack[Numbers]) -> Method:
    """Self-imitation: w = max(G − V, 0) over this and earlier rounds, without a ratio (tier B).

    It is biased on purpose: it repeats what once went better than expected. The paper trains it beside an
    actor-critic; here it trains alone.

    Source:
        Oh et al. (2018), "Self-imitation learning", arXiv 1806.05635.

    Example:
        >>> self_imitation().replay
        4
    """
    credit = partial(monte_carlo, baseline="value")
    return _made("self_imitation", credit, weights.self_imitation, numbers, critic=True, nonnegative=True)


@_library(episodes=16, epochs=4, minibatch_size=256, entropy_weight=0.0)
def elite(*, quantile: float = 0.7, **numbers: Unpack[Numbers]) -> Method:
    """Elite filtering, the cross-entropy method on episodes: w = 1 for the actions of the best (tier A within a round).

    No weight is negative, so several epochs need no ratio.

    Args:
        quantile: q in [0, 1]: the policy imitates the episodes whose return reaches this quantile of the round's.

    Source:
        de Boer et al. (2005), "A tutorial on the cross-entropy method".

    Example:
        >>> elite(quantile=0.5).critic
        False
    """
    credit = partial(elite_episodes, quantile=quantile)
    return _made("elite", credit, score, numbers, critic=False, nonnegative=True)


def _clipped_ratio(clip: Scheduled) -> Rule:
    """The clipped ratio with this ε."""
    if isinstance(clip, int | float | np.number):
        return partial(clipped_ratio, clip=float(clip))
    return partial(_scheduled_clip, clip=clip)


def _scheduled_clip(
    advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor, progress: float, clip: Scheduled
) -> Tensor:
    """The clipped ratio with the ε of this time; a millionth stands for the 0 to which a schedule may fall."""
    now = scheduled("clip", clip, progress, least=0.0)
    return clipped_ratio(advantage, log_prob, behaviour_log_prob, max(now, 1e-6))


def arguments_of(method: Method) -> dict[str, Any] | None:
    """The arguments with which `named` makes this method again.

    None if it is not one of the library's own, or an argument is a function.

    Example:
        >>> from dataclasses import replace
        >>> arguments_of(ppo(clip=0.1))["clip"]
        0.1
        >>> arguments_of(replace(ppo(), weight=score)) is None
        True
    """
    if method.arguments is None or method.name not in _MAKERS:
        return None
    arguments = dict(method.arguments)
    if any(map(callable, arguments.values())):
        return None
    return arguments if _parts(method) == _parts(named(method.name, arguments)) else None


def named(name: str, arguments: Mapping[str, Any] | None = None) -> Method:
    """The library's method of that name, with these arguments.

    Args:
        name: of one of the constructors above, with hyphens or underscores, in any case.
        arguments: keyword arguments of the constructor; defaults fill in the others.

    Raises:
        ValueError: no method has that name (the message lists all names), or a number is out of range.
        TypeError: the method has no such argument.

    Example:
        >>> named("actor-critic").name, named("PPO").name
        ('actor_critic', 'ppo')
    """
    maker = _MAKERS.get(name.lower().replace("-", "_"))
    if maker is None:
        known = f"{', '.join(_MAKERS)}, or a Method"
        raise ValueError(f"method must be one of {known}, got {name!r} (a recipe is asked for with recipe=)")
    return maker(**(arguments or {}))


def to_json(method: Method) -> dict[str, Any]:
    """What `from_json` needs; rules that are not the library's own are left out.

    Example:
        >>> arguments_of(from_json(to_json(ppo(clip=0.1))))["clip"]
        0.1
    """
    arguments = arguments_of(method)
    return {"name": method.name, "arguments": arguments, "critic": method.critic, "kl_weight": method.kl_weight}


def from_json(saved: Mapping[str, Any]) -> Method:
    """The method that `to_json` described; without its rules if those are not the library's own.

    Raises:
        ValueError: the library has no such method.
        TypeError: the method has no such argument.
    """
    if saved["arguments"] is not None:
        takes = inspect.signature(_MAKERS[saved["name"]]).parameters if saved["name"] in _MAKERS else ()
        earlier = {name: value for name, value in _BEFORE.items() if name in takes}
        return named(saved["name"], {**earlier, **saved["arguments"]})
    return Method(saved["name"], absent, absent, saved["critic"], kl_weight=saved["kl_weight"])


def absent(advantage: Any) -> Any:
    """Takes the place of the rules of a saved method that is not the library's own, until they are passed again."""
    raise ValueError("method: its rules are not in the file; pass the method again")


def _parts(method: Method) -> list[Any]:
    """The fields to compare. Partials become tuples, because Python calls equal partials unequal."""
    values = [getattr(method, each.name) for each in fields(method) if each.compare]
    return [(v.func, v.args, v.keywords) if isinstance(v, partial) else v for v in values]
