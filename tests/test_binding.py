"""What gives a rule what it names: by keyword, over defaults, past partials, by position, or not at all."""

from __future__ import annotations

import dataclasses
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.identity import Identity
from rlce import MLP, PolicyGradient, methods
from rlce.network import numpy_forward
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
        (lambda: 1.0, "<lambda> must have a parameter with one of these names: advantage, log_prob"),
        (lambda *everything: 1.0, "must have a parameter"),
        (partial(with_default, advantage=1.0, episode=1.0), "with_default must have a parameter"),
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
        r"mine: its weight rule of_episodes names episode, which needs whole episodes: .* got fixed steps \(steps=128"
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


def test_methods_and_agents_can_be_pickled() -> None:
    """Process pools hand them on."""
    for name in methods._MAKERS:
        method = methods.named(name)
        again = pickle.loads(pickle.dumps(method))
        assert methods.arguments_of(again) == methods.arguments_of(method)
        assert again.rule.takes == method.rule.takes
    agent = PolicyGradient("CartPole-v1", "ppo", num_envs=2, hidden=(4,)).learn(64)
    again = pickle.loads(pickle.dumps(agent))
    observation = np.zeros((3, 4), np.float32)
    np.testing.assert_array_equal(again.predict(observation, True), agent.predict(observation, True))


def test_a_rule_that_names_episodes_gets_whole_ones_numbered_from_zero() -> None:
    """In minibatches of at most as many rows as asked for, exactly as many where episodes fill them."""
    seen: list[Tensor] = []

    def spy(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor, episode: Tensor) -> Tensor:
        seen.append(episode)
        return advantage

    method = dataclasses.replace(methods.grpo(episodes=5, epochs=1, minibatch_size=8), weight=spy, name="spy")
    PolicyGradient(lambda: Identity(n=3, length=4), method, num_envs=5, hidden=()).learn(1)
    assert [len(episode) for episode in seen] == [8, 8, 4]
    for episode in seen:
        assert episode.unique().tolist() == list(range(len(episode) // 4))
        assert (torch.bincount(episode) == 4).all()
    seen.clear()
    small = dataclasses.replace(method, minibatch_size=3)  # less than an episode: one episode a minibatch
    PolicyGradient(lambda: Identity(n=3, length=4), small, num_envs=5, hidden=()).learn(1)
    assert [len(episode) for episode in seen] == [4] * 5


def test_the_first_ratio_is_one_under_dropout() -> None:
    """What was the probability when the action was taken is that of the policy as it acts, without dropout."""
    ratios: list[Tensor] = []

    def spy(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor) -> Tensor:
        ratios.append(behaviour_log_prob)
        return advantage

    def factory(n_inputs: int, n_outputs: int) -> torch.nn.Module:
        return MLP(n_inputs, n_outputs, (32,), dropout=0.5, seed=1)

    method = dataclasses.replace(methods.ppo(steps=16, epochs=1, minibatch_size=None), weight=spy, name="spy")
    agent = PolicyGradient(lambda: Identity(n=3), method, num_envs=4, network=factory)
    rollouts: list[Any] = []
    gather = agent._collector.steps  # type: ignore[union-attr]
    agent._collector.steps = lambda *given: rollouts.append(gather(*given)) or rollouts[-1]  # type: ignore
    outputs = [numpy_forward(agent.policy)(np.eye(3, dtype=np.float32))]
    agent.learn(1)
    (rollout,) = rollouts
    logits = torch.from_numpy(outputs[0][rollout.observation[rollout.valid].argmax(axis=-1)])
    expected = torch.distributions.Categorical(logits=logits).log_prob(torch.from_numpy(rollout.action[rollout.valid]))
    torch.testing.assert_close(ratios[0], expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_row_weights_that_make_no_sense_are_refused(wrong: float) -> None:
    base = methods.reward_weighted_regression(episodes=4)

    def credit(experience: methods.Experience) -> methods.Credit:
        return base.credit(experience)._replace(row_weight=np.full(experience.valid.shape, wrong))

    method = dataclasses.replace(base, credit=credit, name="mine")
    with pytest.raises(ValueError, match="method mine: its credit rule must give finite row weights of at least 0"):
        PolicyGradient(Identity, method, num_envs=2).learn(10)


def test_a_rule_that_gives_no_tensor_is_named() -> None:
    method = dataclasses.replace(methods.actor_critic(), weight=lambda advantage: advantage.numpy(), name="mine")
    with pytest.raises(ValueError, match=r"method mine: its weight rule must give shape \[\d+\], got ndarray"):
        PolicyGradient(Identity, method, num_envs=2).learn(10)
