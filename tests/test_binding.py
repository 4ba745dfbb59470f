"""What gives a rule what it names: by keyword, over defaults, past partials, by position, or not at all."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.identity import Identity
from rlce import PolicyGradient, methods
from rlce.reinforcement.methods import OFFERED
from rlce.rules.binding import bind, name_of

KNOWN = {"advantage": 1.0, "log_prob": 2.0, "behaviour_log_prob": 3.0, "episode": 4.0, "value": 5.0}


def given(rule: Any) -> Any:
    return bind(rule, OFFERED, by_position=OFFERED[:3]).call(KNOWN)


class Callable:
    def __call__(self, advantage: float, value: float) -> tuple[float, float]:
        return advantage, value


def with_default(advantage: float, episode: float = -1.0, clip: float = 0.2) -> tuple[float, ...]:
    return advantage, episode, clip


def positional_only(advantage: float, now: float, then: float, /) -> tuple[float, ...]:
    return advantage, now, then


CASES: dict[str, tuple[Any, Any]] = {
    "a lambda by name": (lambda value, advantage: (value, advantage), (5.0, 1.0)),
    "a lambda with three names of its own": (lambda a, now, then: (a, now, then), (1.0, 2.0, 3.0)),
    "some of the three names offered, where they belong": (lambda advantage, now, then: (advantage, now), (1.0, 2.0)),
    "all three by name in another order": (
        lambda behaviour_log_prob, log_prob, advantage: (behaviour_log_prob, log_prob, advantage),
        (3.0, 2.0, 1.0),
    ),
    "also over a default": (with_default, (1.0, 4.0, 0.2)),
    "unless a partial binds it": (partial(with_default, episode=7.0), (1.0, 7.0, 0.2)),
    "a partial by keyword of what is not offered": (partial(with_default, clip=0.5), (1.0, 4.0, 0.5)),
    "a partial by position": (partial(lambda scale, advantage: scale * advantage, 10.0), 10.0),
    "a partial by position before three of its own": (partial(lambda c, a, b, d: (c, a, b, d), 0), (0, 1.0, 2.0, 3.0)),
    "a partial of a partial": (partial(partial(with_default, clip=0.5), episode=7.0), (1.0, 7.0, 0.5)),
    "a callable object": (Callable(), (1.0, 5.0)),
    "by keyword alone": (lambda *, log_prob, value: (log_prob, value), (2.0, 5.0)),
    "by position alone": (positional_only, (1.0, 2.0, 3.0)),
    "three of its own and one by name over its default": (
        lambda a, b, c, episode=None: (a, b, c, episode),
        (1, 2, 3, 4),
    ),
    "what else it could take is left out": (
        lambda advantage, *more, **others: (advantage, more, others),
        (1.0, (), {}),
    ),
}


@pytest.mark.parametrize(("rule", "expected"), CASES.values(), ids=CASES)
def test_a_rule_is_given_what_it_names(rule: Any, expected: Any) -> None:
    assert given(rule) == expected


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda a, now: a, "<lambda> needs a, now; bind it"),
        (lambda advantage, teacher: advantage, "<lambda> needs teacher; bind it"),
        (lambda a, b, c, d: a, "needs a, b, c, d"),
        (lambda log_prob, advantage, other: 0, "needs other, log_prob, advantage"),  # names at another's place
        (lambda *, a, b, c: a, "needs a, b, c"),
        (lambda: 1.0, "takes nothing of what is offered"),
        (lambda *everything: 1.0, "takes nothing"),
        (partial(with_default, advantage=1.0, episode=1.0), "with_default takes nothing"),
        (
            partial(lambda a, b, c, d: a, a=1),
            "needs b, c, d",
        ),  # the rest can no longer go by position
        (torch.exp, "the parameters of exp cannot be read"),
    ],
)
def test_anything_else_is_an_error_that_lists_what_is_offered(rule: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"rule: .*{message}") as caught:
        given(rule)
    if "cannot be read" not in message:
        assert "advantage, log_prob, behaviour_log_prob, episode, value" in str(caught.value)
    with pytest.raises(ValueError, match="method mine: weight rule"):
        dataclasses.replace(methods.actor_critic(), weight=rule, name="mine")


def test_what_cannot_be_called_is_named() -> None:
    with pytest.raises(TypeError, match="rule must be a function, got 3"):
        bind(3, OFFERED)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="method mine: weight rule must be a function, got None"):
        dataclasses.replace(methods.actor_critic(), weight=None, name="mine")  # type: ignore[arg-type]
    assert name_of(partial(with_default, clip=1.0)) == "with_default"
    assert name_of(Callable()) == "Callable"


def test_without_names_for_positions_three_of_its_own_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"needs a, b, c; bind it with functools.partial \(offered by name: x\)"):
        bind(lambda a, b, c: a, ["x"])


def test_a_method_refuses_a_rule_that_names_what_it_has_not() -> None:
    def of_episodes(advantage: Tensor, episode: Tensor) -> Tensor:
        return advantage

    def of_values(advantage: Tensor, value: Tensor) -> Tensor:
        return advantage

    message = (
        r"mine: its weight rule of_episodes names episode, which needs whole episodes: .* got fixed steps \(steps=32"
    )
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(methods.ppo(), weight=of_episodes, name="mine")
    with pytest.raises(ValueError, match="mine: its weight rule of_values names value, but the method has no critic"):
        dataclasses.replace(methods.rloo(), weight=of_values, name="mine")


def test_the_value_is_the_critic_s_when_the_round_began() -> None:
    seen: list[Tensor] = []

    def spy(advantage: Tensor, value: Tensor) -> Tensor:
        seen.append(value)
        return advantage

    method = dataclasses.replace(methods.actor_critic(steps=8), weight=spy, name="spy")
    agent = PolicyGradient(lambda: Identity(n=3, length=4), method, num_envs=2, hidden=())
    assert agent.critic is not None
    before = [p.detach().clone() for p in agent.critic.parameters()]
    agent.learn(8)
    weight, bias = before
    possible = (weight + bias).ravel()  # observations are one-hot
    assert len(seen) == 1
    assert all(np.isclose(value, possible, atol=1e-6).any() for value in seen[0])
    assert len(seen[0].unique()) > 1


def test_a_log_probability_that_nobody_names_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a forward pass."""
    from rlce.reinforcement.loss import Learner

    calls: list[str] = []
    monkeypatch.setattr(Learner, "log_prob", lambda *_: calls.append("log_prob"))
    PolicyGradient(Identity, methods.actor_critic(), num_envs=2).learn(64)
    assert calls == []
