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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rlce import returns
from rlce.weights import clipped_ratio as clipped_ratio
from rlce.weights import score as score

Array = NDArray[np.floating[Any]]


class Experience(NamedTuple):
    """What credit may look at. Every field is time-major ``[T, N]``; rows that are not ``valid`` hold zeros."""

    reward: Array
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    time: NDArray[np.int64]  # steps since the episode began
    value: Array | None  # V(s_t), with a critic
    next_value: Array | None  # V(s_{t+1}) at the true successor, with a critic

    @property
    def done(self) -> NDArray[np.bool_]:
        """Terminated or truncated."""
        return self.terminated | self.truncated


class Credit(NamedTuple):
    """What an action was worth, and what the critic should have said. ``[T, N]`` each."""

    advantage: Array
    target: Array | None


WeightRule = Callable[[Tensor, Tensor, Tensor], Tensor]
CreditRule = Callable[[Experience], Credit]
Baseline = Literal["none", "mean", "leave-one-out", "value"]


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
        per_episode: Z = number of episodes (the gradient of expected return) in place of the number of rows.
        standardize: shift and scale the advantages of a round to mean 0 and spread 1.
        entropy_weight: c in the bonus c·H(π), whose closed form is used.
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
    per_episode: bool = False
    standardize: bool = False
    entropy_weight: float = 0.0
    value_weight: float = 0.5
    arguments: Mapping[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("episodes", "steps", "epochs", "minibatch_size"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if self.epochs > 1 and not self.ratio:
            raise ValueError(
                f"{self.name}: epochs={self.epochs} would reuse actions of a policy that has since moved, and "
                "signed weights "
                "then make the objective unbounded below; use epochs=1 or a weight rule with a ratio"
            )
        if self.minibatch_size is not None and not self.ratio:
            raise ValueError(
                f"{self.name}: minibatch_size={self.minibatch_size} would take several steps on actions of one policy; "
                "use minibatch_size=None or a weight rule with a ratio"
            )
        if self.per_episode and self.episodes is None:
            raise ValueError(f"{self.name}: Z = episodes needs whole episodes: set episodes")


# ---------------------------------------------------------------------------------------------------- credit rules


def monte_carlo(
    experience: Experience,
    *,
    discount: float,
    baseline: Baseline,
    whole_return: bool = False,
    exact_discount: bool = False,
) -> Credit:
    """Return less a baseline. With a critic, cut episodes are continued by its value; without, they end.

    Args:
        experience: the rollout; without a critic its columns must be whole episodes, one a column.
        discount: γ in [0, 1].
        baseline: "none"; "mean" over the columns at the same time step (an ended episode counts as zero; the
            expected gradient is then exactly (n−1)/n of the true one); "leave-one-out", the mean of the other
            columns (unbiased); "value", V(s).
        whole_return: weight every action of an episode with the return from its start, as in Williams's first form. A
            critic still learns the reward-to-go, so as a baseline it fits the episode's first step best.
        exact_discount: multiply by γ^t, which makes it the gradient of the *discounted* objective; usual practice
            omits it.

    Returns:
        Advantage, and the return as the critic's target.
    """
    reward, done = experience.reward, experience.done
    advantage: Array
    returned: Array = returns.reward_to_go(reward, experience.terminated, done, discount, experience.next_value)
    target = returned if experience.value is not None else None
    if whole_return:
        returned = returned[:1]  # broadcast over the episode below; so is its baseline, whatever the lengths
    if baseline == "value":
        assert experience.value is not None
        advantage = returned - experience.value
    elif baseline == "mean":
        advantage = returned - returns.batch_mean(returned)
    elif baseline == "leave-one-out":
        advantage = returned - returns.leave_one_out(returned)
    else:
        advantage = returned
    if exact_discount:
        # With the whole return the discounting already counts from the episode's start.
        advantage = advantage if whole_return else advantage * discount**experience.time
    return Credit(np.where(experience.valid, advantage, 0.0).astype(reward.dtype), target)


def generalized_advantage(experience: Experience, *, discount: float, trace: float) -> Credit:
    """Generalised advantage estimation; the critic's target is the λ-return A + V.

    Args:
        experience: the rollout, with a critic's values.
        discount: γ in [0, 1].
        trace: λ in [0, 1].

    Returns:
        Advantage and target.

    Source:
        Schulman et al. (2016), arXiv 1506.02438.
    """
    assert experience.value is not None
    assert experience.next_value is not None
    advantage = returns.gae(
        experience.reward,
        experience.value,
        experience.next_value,
        experience.terminated,
        experience.done,
        discount,
        trace,
    )
    return Credit(advantage, advantage + experience.value)


# --------------------------------------------------------------------------------------------------- named methods


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
    arguments = dict(locals())
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
        arguments=arguments,
    )


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
    arguments = dict(locals())
    credit = partial(
        generalized_advantage,
        discount=_in_unit_interval("discount", discount),
        trace=_in_unit_interval("trace", trace),
    )
    return Method(
        "actor_critic",
        credit,
        score,
        True,
        steps=steps,
        standardize=standardize,
        entropy_weight=entropy_weight,
        value_weight=value_weight,
        arguments=arguments,
    )


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
    arguments = dict(locals())
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip}")
    credit = partial(
        generalized_advantage,
        discount=_in_unit_interval("discount", discount),
        trace=_in_unit_interval("trace", trace),
    )
    return Method(
        "ppo",
        credit,
        partial(clipped_ratio, clip=clip),
        True,
        None,
        steps,
        epochs,
        minibatch_size,
        ratio=True,
        standardize=standardize,
        entropy_weight=entropy_weight,
        value_weight=value_weight,
        arguments=arguments,
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
        # Two partials of one function with the same arguments are equal to us, but not to Python.
        return [(v.func, v.args, v.keywords) if isinstance(v, partial) else v for v in values]

    arguments = dict(method.arguments)
    return arguments if parts(method) == parts(named(method.name, arguments)) else None


def named(name: str, arguments: Mapping[str, Any] | None = None) -> Method:
    """The library's method of that name, hyphens or underscores, with these arguments.

    Args:
        name: "reinforce", "actor-critic" or "ppo".
        arguments: keyword arguments of the constructor; its defaults where left out.

    Returns:
        The method.

    Raises:
        ValueError: no method has that name; the message lists those there are.

    Example:
        >>> named("actor-critic").name
        'actor_critic'
    """
    maker = _MAKERS.get(name.replace("-", "_"))
    if maker is None:
        raise ValueError(f"method must be one of {', '.join(_MAKERS)}, or a Method, got {name!r}")
    return maker(**(arguments or {}))


_MAKERS: dict[str, Callable[..., Method]] = {"reinforce": reinforce, "actor_critic": actor_critic, "ppo": ppo}


def absent(*_: Any) -> Any:
    """Stands for the rules of a saved method that is not the library's own, until they are passed again."""
    raise ValueError("method: its rules are not in the file; pass the method again")


def _in_unit_interval(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")
    return value
