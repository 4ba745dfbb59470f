"""Every method of the catalogue, on every kind of action and reset, as `PolicyGradient` runs it and as published."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from torch import Tensor

import rlce
from rlce import weights
from rlce.reinforcement.credit import grouped
from tests import published
from tests.training import Run, Script, Setting, Task, record, scripts

DISCRETE = spaces.Discrete(3, start=2)
PAIR = spaces.MultiDiscrete([2, 4])
LABELS = spaces.MultiBinary(3)
BOX = spaces.Box(-math.inf, math.inf, (2,), np.float32)
SAME, OFF = AutoresetMode.SAME_STEP, AutoresetMode.DISABLED


@dataclass(frozen=True)
class Case:
    """A method with its arguments, and what it is run on.

    Attributes:
        name: of the case.
        method: of the catalogue, or of `USERS`.
        setting: what it is run on.
        arguments: of the library's constructor and, but for ``steps``, of the published one.
    """

    name: str
    method: str
    setting: Setting
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def library(self) -> rlce.Method:
        """The library's method."""
        if self.method in USERS:
            return USERS[self.method](**self.arguments)
        # As published, unless a case says otherwise; the library's defaults may be others.
        plain = {
            "reinforce": {"entropy_weight": 0.0, "value_epochs": 0},
            "actor_critic": {"standardize": False, "value_epochs": 0},
        }.get(self.method, {})
        return rlce.methods.named(self.method, {**plain, **self.arguments})

    @property
    def published(self) -> published.Published:
        """The method of the paper."""
        known = {name: value for name, value in self.arguments.items() if name != "steps"}
        return getattr(published, self.method)(**known)


def whole(action_space: spaces.Space[Any] = DISCRETE, copies: int = 4, seed: int = 0, **rest: Any) -> Task:
    """A task for methods that collect whole episodes."""
    return Task(action_space, scripts(copies, seed), **rest)


def stream(action_space: spaces.Space[Any] = DISCRETE, copies: int = 3, seed: int = 1, **rest: Any) -> Task:
    """A task for methods that collect steps: episodes end in every way, and rounds cut them."""
    endings = "terminated", "truncated", "both"
    return Task(action_space, scripts(copies, seed, endings=endings), **rest)


EQUAL_RETURNS = (
    (Script((1.0, 0.5), "terminated"), Script((0.25,), "truncated")),
    (Script((1.5,), "truncated"), Script((-1.0, 1.0, 0.25), "terminated")),
    (Script((2.0, -1.0, 0.5), "terminated"),),
    (Script((-1.0, 0.5, 0.25, 0.25), "truncated"),),
)  # of the first two copies, whatever the round


def _case(name: str, method: str, task: Task, arguments: Mapping[str, Any], **setting: Any) -> Case:
    return Case(f"{method}: {name}", method, Setting(task, **setting), arguments)


# ------------------------------------------------------------------------------------------------------- users' rules


def gspo(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor, episode: Tensor, clip: float = 0.2) -> Tensor:
    """Weights w = s m(s) A / length, with s the geometric mean of the episode's ratios (Zheng et al. 2025)."""
    number, lengths = torch.unique(episode, return_inverse=True, return_counts=True)[1:]
    total = log_prob.new_zeros(len(lengths)).index_add(0, number, log_prob - behaviour_log_prob)
    s = (total / lengths).exp()[number]
    inside = (s - 1.0) * advantage.sign() <= clip
    return s * inside * advantage / lengths[number]


def gspo_method(clip: float, discount: float, group_size: int | None = None, **rest: Any) -> rlce.Method:
    """GSPO: GRPO's advantages and its reuse under a user's rule."""
    credit = partial(grouped, discount=discount, comparison="standardized", group_size=group_size)
    method = rlce.methods.grpo(biased=False, clip=clip, discount=discount, group_size=group_size, **rest)
    return replace(method, weight=partial(gspo, clip=clip), credit=credit, name="gspo")


def value_beside(advantage: Tensor, value: Tensor, log_prob: Tensor, share: float) -> Tensor:
    """A rule that names the critic's value, and leaves a name out."""
    return advantage * log_prob.exp() + share * value


def value_method(share: float, **rest: Any) -> rlce.Method:
    """An actor-critic under `value_beside`."""
    method = rlce.methods.actor_critic(standardize=False, entropy_weight=0.0, value_epochs=0, **rest)
    return replace(method, weight=partial(value_beside, share=share), name="with_value")


def position_method(**rest: Any) -> rlce.Method:
    """PPO under a rule of three parameters whose names mean nothing."""
    return replace(
        rlce.methods.ppo(entropy_weight=0.0, **rest),
        weight=lambda a, now, then: a * (now - then).exp(),
        name="by_position",
    )


def topr_method(**rest: Any) -> rlce.Method:
    """Tapered off-policy REINFORCE on whole returns."""
    method = rlce.methods.reinforce(baseline="none", whole_return=True, discount=rest.pop("discount"), episodes=8)
    return replace(method, weight=weights.topr, ratio=True, entropy_weight=0.0, name="topr", **rest)


def importance_method(**rest: Any) -> rlce.Method:
    """PPO without its clip."""
    return replace(
        rlce.methods.ppo(entropy_weight=0.0, **rest), weight=weights.importance_sampled, name="importance_sampled"
    )


def sampled_entropy_method(coefficient: float, **rest: Any) -> rlce.Method:
    """A bonus alone, estimated from the action taken."""

    def weight(log_prob: Tensor) -> Tensor:
        return -coefficient * log_prob

    method = rlce.methods.actor_critic(standardize=False, entropy_weight=0.0, value_epochs=0, **rest)
    return replace(method, weight=weight, name="sampled_entropy")


def sampled_kl_method(coefficient: float, clip: float, **rest: Any) -> rlce.Method:
    """PPO with GRPO's estimated penalty; the policy that acted is what it holds on to."""

    def weight(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor) -> Tensor:
        penalty = coefficient * torch.expm1(behaviour_log_prob - log_prob)
        return weights.clipped_ratio(advantage, log_prob, behaviour_log_prob, clip) + penalty

    return replace(rlce.methods.ppo(clip=clip, entropy_weight=0.0, **rest), weight=weight, name="sampled_kl")


USERS: Mapping[str, Callable[..., rlce.Method]] = {
    "topr": topr_method,
    "importance_sampled": importance_method,
    "sampled_entropy": sampled_entropy_method,
    "sampled_kl": sampled_kl_method,
    "gspo": gspo_method,
    "with_value": value_method,
    "by_position": position_method,
}


_GAE = {"discount": 0.9, "trace": 0.8, "steps": 9}
_AGAIN = {"epochs": 3, "minibatch_size": 10}

CASES = (
    # ------------------------------------------------------------------------------------------------------ each once
    _case("return", "reinforce", whole(), {"discount": 0.9, "baseline": "none", "episodes": 6}),
    _case(
        "whole return, Z = episodes",
        "reinforce",
        whole(mode=SAME),
        {
            "discount": 0.9,
            "baseline": "none",
            "whole_return": True,
            "episodes": 6,
            "per_episode": True,
            "entropy_weight": 0.3,
        },
    ),
    _case(
        "mean, exact discount",
        "reinforce",
        whole(PAIR),
        {"discount": 0.8, "baseline": "mean", "exact_discount": True, "episodes": 6, "standardize": True},
    ),
    _case(
        "leave one out, Z = episodes",
        "reinforce",
        whole(LABELS),
        {"discount": 0.9, "baseline": "leave-one-out", "episodes": 6, "per_episode": True, "entropy_weight": 0.3},
    ),
    _case(
        "leave one out of whole returns",
        "reinforce",
        whole(),
        {"discount": 0.9, "baseline": "leave-one-out", "whole_return": True, "episodes": 5},
    ),
    _case(
        "critic, steps",
        "reinforce",
        stream(mode=SAME),
        {"discount": 0.9, "baseline": "value", "steps": 9, "entropy_weight": 0.2, "value_weight": 0.8},
    ),
    _case(
        "critic, Z = episodes",
        "reinforce",
        whole(),
        {
            "discount": 0.9,
            "baseline": "value",
            "episodes": 6,
            "per_episode": True,
            "entropy_weight": 0.3,
            "value_weight": 0.7,
        },
        learning_rate=0.3,
    ),
    _case(
        "critic, whole return, exact discount",
        "reinforce",
        whole(BOX),
        {
            "discount": 0.8,
            "baseline": "value",
            "episodes": 6,
            "whole_return": True,
            "exact_discount": True,
            "value_weight": 0.5,
        },
        learning_rate=0.1,
    ),
    _case(
        "passes of the critic",
        "reinforce",
        stream(LABELS, mode=SAME),
        {
            "discount": 0.9,
            "baseline": "value",
            "steps": 9,
            "entropy_weight": 0.2,
            "value_weight": 0.4,
            "value_epochs": 3,
        },
        learning_rate=0.3,
    ),
    _case(
        "passes of the critic",
        "actor_critic",
        stream(BOX),
        {**_GAE, "entropy_weight": 0.2, "value_weight": 0.3, "standardize": True, "value_epochs": 2},
        learning_rate=0.1,
    ),
    _case(
        "two components",
        "actor_critic",
        stream(PAIR),
        {**_GAE, "entropy_weight": 0.2, "value_weight": 0.3, "standardize": True},
    ),
    _case(
        "masks",
        "actor_critic",
        stream(PAIR, mode=OFF, masked=True),
        {**_GAE, "entropy_weight": 0.5, "value_weight": 0.3},
    ),
    _case(
        "running statistics",
        "actor_critic",
        stream(mode=SAME),
        {**_GAE, "entropy_weight": 0.2, "value_weight": 0.3},
        learning_rate=0.05,
        normalize_observations=True,
        scale_rewards=True,
    ),
    _case("one group", "rloo", whole(), {"discount": 0.9, "episodes": 6, "standardize": True}),
    _case(
        "groups of two, Z = episodes",
        "rloo",
        whole(LABELS, mode=SAME),
        {"discount": 1.0, "episodes": 4, "group_size": 2, "per_episode": True, "entropy_weight": 0.3},
    ),
    # ------------------------------------------------------------------------------------------------- with a ratio
    _case(
        "minibatches",
        "ppo",
        stream(),
        {**_GAE, **_AGAIN, "clip": 0.2, "standardize": True, "entropy_weight": 0.1, "value_weight": 0.3},
        learning_rate=1.5,
    ),
    _case(
        "whole rounds",
        "ppo",
        stream(LABELS, mode=SAME),
        {
            **_GAE,
            "epochs": 5,
            "minibatch_size": None,
            "clip": 0.1,
            "standardize": False,
            "value_weight": 0.4,
            "entropy_weight": 0.0,
        },
    ),
    _case(
        "deviations",
        "ppo",
        stream(BOX),
        {**_GAE, **_AGAIN, "clip": 0.3, "standardize": True, "entropy_weight": 0.1, "value_weight": 0.3},
        learning_rate=0.1,
    ),
    _case(
        "masks, running statistics",
        "ppo",
        stream(masked=True),
        {**_GAE, **_AGAIN, "clip": 0.2, "standardize": False, "entropy_weight": 0.1, "value_weight": 0.3},
        learning_rate=0.05,
        normalize_observations=True,
        scale_rewards=True,
    ),
    _case(
        "groups of two",
        "grpo",
        whole(),
        {
            "clip": 0.2,
            "discount": 0.9,
            "episodes": 4,
            "group_size": 2,
            **_AGAIN,
            "minibatch_size": 6,
            "biased": True,
            "kl_weight": 0.3,
            "entropy_weight": 0.2,
        },
    ),
    _case(
        "deviations",
        "grpo",
        whole(BOX, mode=SAME),
        {
            "clip": 0.3,
            "discount": 1.0,
            "episodes": 6,
            **_AGAIN,
            "biased": True,
            "kl_weight": 0.2,
            "entropy_weight": 0.2,
        },
        learning_rate=0.05,
    ),
    _case(
        "masks, running statistics",
        "grpo",
        whole(PAIR, masked=True),
        {"clip": 0.2, "discount": 1.0, "episodes": 6, **_AGAIN, "biased": True, "kl_weight": 0.3},
        learning_rate=0.1,
        normalize_observations=True,
        scale_rewards=True,
    ),
    _case(
        "a group of equal returns",
        "grpo",
        Task(DISCRETE, EQUAL_RETURNS),
        {"clip": 0.1, "discount": 1.0, "episodes": 4, "group_size": 2, **_AGAIN, "biased": False, "kl_weight": 0.3},
        learning_rate=0.3,
    ),
    _case(
        "Dr. GRPO",
        "grpo",
        whole(LABELS),
        {
            "clip": 0.2,
            "discount": 0.9,
            "episodes": 4,
            "group_size": 2,
            **_AGAIN,
            "biased": False,
            "kl_weight": 0.3,
            "entropy_weight": 0.2,
        },
        learning_rate=0.3,
    ),
    _case(
        "both bounds",
        "cispo",
        stream(),
        {**_GAE, **_AGAIN, "low": 0.3, "high": 0.15, "standardize": True, "entropy_weight": 0.1, "value_weight": 0.3},
        learning_rate=1.5,
    ),
    _case(
        "replay",
        "v_trace",
        stream(mode=OFF),
        {
            **_GAE,
            **_AGAIN,
            "ratio_bound": 1.4,
            "trace_bound": 0.7,
            "replay": 2,
            "entropy_weight": 0.1,
            "value_weight": 0.3,
        },
    ),
    _case(
        "running statistics",
        "v_trace",
        stream(PAIR, mode=SAME, masked=True),
        {**_GAE, "epochs": 2, "ratio_bound": 1.2, "trace_bound": 1.0, "replay": 1, "value_weight": 0.3},
        learning_rate=0.1,
        normalize_observations=True,
        scale_rewards=True,
    ),
    # ---------------------------------------------------------------------------------- again, with weights >= 0
    _case(
        "minibatches",
        "reward_weighted_regression",
        whole(),
        {"temperature": 0.6, "discount": 0.9, "episodes": 6, **_AGAIN, "entropy_weight": 0.1},
    ),
    _case(
        "replay",
        "advantage_weighted_regression",
        stream(PAIR),
        {
            "temperature": 0.7,
            "bound": 1.8,
            "discount": 0.9,
            "steps": 9,
            "replay": 1,
            **_AGAIN,
            "standardize": True,
            "entropy_weight": 0.1,
            "value_weight": 0.3,
        },
    ),
    _case(
        "as it is",
        "advantage_weighted_regression",
        stream(BOX, mode=SAME),
        {
            "temperature": 2.0,
            "bound": 3.0,
            "discount": 0.9,
            "steps": 9,
            "epochs": 2,
            "minibatch_size": None,
            "standardize": False,
            "value_weight": 0.3,
        },
        learning_rate=0.05,
    ),
    _case(
        "replay",
        "self_imitation",
        whole(),
        {
            "discount": 0.9,
            "episodes": 6,
            "replay": 2,
            "epochs": 2,
            "minibatch_size": 10,
            "entropy_weight": 0.1,
            "value_weight": 0.3,
        },
    ),
    _case(
        "running statistics",
        "self_imitation",
        whole(BOX, mode=SAME),
        {"discount": 0.9, "episodes": 6, "replay": 1, "entropy_weight": 0.1, "value_weight": 0.3},
        learning_rate=0.05,
        normalize_observations=True,
        scale_rewards=True,
    ),
    _case(
        "the best third",
        "elite",
        whole(PAIR),
        {"quantile": 0.6, "episodes": 7, **_AGAIN, "entropy_weight": 0.1},
    ),
    # ------------------------------------------------------------------------------------------------- users' rules
    _case(
        "two minibatches",
        "gspo",
        whole(),
        {"clip": 0.1, "discount": 0.9, "episodes": 8, "epochs": 4, "minibatch_size": 16},
    ),
    _case(
        "groups, entropy and penalty",
        "gspo",
        whole(PAIR, mode=SAME),
        {
            "clip": 0.2,
            "discount": 1.0,
            "episodes": 4,
            "group_size": 2,
            **_AGAIN,
            "minibatch_size": 6,
            "kl_weight": 0.1,
            "entropy_weight": 0.1,
        },
    ),
    _case("episode's ratio", "topr", whole(), {"discount": 0.9, "episodes": 8, "epochs": 4, "minibatch_size": 12}),
    _case("no clip", "importance_sampled", stream(LABELS), {**_GAE, **_AGAIN, "value_weight": 0.3}, learning_rate=0.5),
    _case("alone", "sampled_entropy", stream(masked=True), {**_GAE, "coefficient": 0.8, "value_weight": 0.3}),
    _case(
        "beside a clip",
        "sampled_kl",
        stream(PAIR),
        {**_GAE, **_AGAIN, "clip": 0.2, "coefficient": 0.7, "value_weight": 0.3},
        learning_rate=0.5,
    ),
    _case("V(s)", "with_value", stream(), {**_GAE, "share": 0.3, "value_weight": 0.3}),
    _case("three parameters", "by_position", stream(), {**_GAE, **_AGAIN, "standardize": True, "value_weight": 0.3}),
)


class Outcome(NamedTuple):
    """A run, and the same with the published method."""

    run: Run
    repeated: published.Repeated


@functools.cache
def _outcome(number: int) -> Outcome:
    case = CASES[number]
    run = record(case.library, case.setting)
    return Outcome(run, published.repeat(case.published, case.setting, run))


def outcome(case: Case) -> Outcome:
    """Train twice; the result is kept."""
    return _outcome(CASES.index(case))


def largest_difference(case: Case) -> float:
    """Between the two trainings' final parameters, in units of the learning rate."""
    run, repeated = outcome(case)
    return published.largest_difference(run.after, repeated.after, case.setting.learning_rate)
