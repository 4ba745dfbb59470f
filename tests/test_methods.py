"""Methods: each weight rule against its published loss, credit against numbers made by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rlce
from rlce import Optimization, methods
from rlce.reinforcement.methods import Experience, Method
from tests.enumeration import weights_of

# ----------------------------------------------------------------------------- weights against published losses


@st.composite
def decisions(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits now (they want a gradient), log π(a|s) then, actions, and advantages of which some are exactly zero."""
    rows, classes = draw(st.integers(1, 8)), draw(st.integers(2, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    then = torch.randn(rows, classes, dtype=torch.float64, generator=generator)
    moved = draw(st.sampled_from([0.0, 0.1, 1.0]))
    now = then + moved * torch.randn(rows, classes, dtype=torch.float64, generator=generator)
    action = torch.randint(classes, (rows,), generator=generator)
    advantage = 3 * torch.randn(rows, dtype=torch.float64, generator=generator)
    advantage[torch.rand(rows, generator=generator) < 0.2] = 0.0
    behaviour = torch.distributions.Categorical(logits=then).log_prob(action)
    return now.requires_grad_(), behaviour, action, advantage


def gradients(loss: Tensor, weights: Tensor, logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    (published,) = torch.autograd.grad(loss, logits)
    (ours,) = torch.autograd.grad(rlce.weighted_cross_entropy(logits, action, weights), logits)
    return ours, published


@settings(deadline=None, max_examples=100)
@given(decisions(), st.sampled_from([0.05, 0.2]))
def test_clipped_ratio_has_the_gradient_of_ppos_loss(
    decision: tuple[Tensor, Tensor, Tensor, Tensor], clip: float
) -> None:
    logits, behaviour, action, advantage = decision
    log_prob = torch.distributions.Categorical(logits=logits).log_prob(action)
    ratio = (log_prob - behaviour).exp()
    loss = -torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
    weights = methods.clipped_ratio(advantage, log_prob.detach(), behaviour, clip)
    torch.testing.assert_close(*gradients(loss, weights, logits, action), rtol=0, atol=1e-10)


@settings(deadline=None, max_examples=50)
@given(decisions())
def test_score_has_the_gradient_of_reinforce(decision: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    logits, behaviour, action, advantage = decision
    log_prob = torch.distributions.Categorical(logits=logits).log_prob(action)
    weights = weights_of(methods.score, advantage, log_prob.detach(), behaviour)
    ours, published = gradients(-(log_prob * advantage).mean(), weights, logits, action)
    torch.testing.assert_close(ours, published, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("ratio", "advantage", "kept"),
    [
        (0.5, 1.0, True),
        (0.9, 1.0, True),
        (1.1, 1.0, True),
        (1.5, 1.0, False),
        (0.5, -1.0, False),
        (0.9, -1.0, True),
        (1.1, -1.0, True),
        (1.5, -1.0, True),
        (0.5, 0.0, True),
        (1.5, 0.0, True),
        (1.0, 1.0, True),
        (1.0, -1.0, True),
    ],
)
def test_clipped_ratio_cuts_only_where_the_policy_has_gained_enough(ratio: float, advantage: float, kept: bool) -> None:
    def as_tensor(x: float) -> Tensor:
        return torch.tensor([x], dtype=torch.float64)

    arguments = as_tensor(2 * advantage), as_tensor(math.log(ratio) - 0.3), as_tensor(-0.3)
    weight = methods.clipped_ratio(*arguments, clip=0.2)
    assert weight.item() == pytest.approx(ratio * 2 * advantage if kept else 0.0, abs=1e-12)


def test_ppo_uses_its_own_clip() -> None:
    ratio = torch.tensor([1.3]).log()
    for clip, expected in ((0.2, 0.0), (0.4, 1.3)):
        weight = weights_of(methods.ppo(clip=clip).weight, torch.ones(1), ratio, torch.zeros(1))
        assert weight.item() == pytest.approx(expected, rel=1e-6)


# --------------------------------------------------------------------------------------------- credit, by hand


def two_episodes(truncated: bool = False, critic: bool = False) -> Experience:
    """Rewards 1, 2, 3 and 4, 6: a row of padding ends the second column."""
    reward = np.array([[1.0, 4.0], [2.0, 6.0], [3.0, 0.0]])
    ends = np.array([[0, 0], [0, 1], [1, 0]], bool)
    second = np.array([[0, 0], [0, 1], [0, 0]], bool)
    value = np.array([[1.0, 2.0], [0.5, 1.0], [2.0, 0.0]])
    next_value = np.array([[0.5, 1.0], [2.0, 8.0], [9.0, 0.0]])
    return Experience(
        reward=reward,
        terminated=ends & ~second if truncated else ends,
        truncated=second if truncated else np.zeros_like(ends),
        valid=np.array([[1, 1], [1, 1], [1, 0]], bool),
        time=np.array([[0, 0], [1, 1], [2, 0]]),
        value=value if critic else None,
        next_value=next_value if critic else None,
    )


# The rewards-to-go at γ = ½ are 2.75, 3.5, 3 and 7, 6; None marks padding, which no estimate uses.
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"baseline": "none"}, [[2.75, 7], [3.5, 6], [3, None]]),
        # Means 4.875, 4.75 and (3 + 0)/2: the ended episode counts as zero.
        ({"baseline": "mean"}, [[-2.125, 2.125], [-1.25, 1.25], [1.5, None]]),
        ({"baseline": "leave-one-out"}, [[-4.25, 4.25], [-2.5, 2.5], [3, None]]),
        ({"baseline": "value"}, [[1.75, 5], [3, 5], [1, None]]),
        ({"baseline": "none", "exact_discount": True}, [[2.75, 7], [1.75, 3], [0.75, None]]),
        ({"baseline": "value", "exact_discount": True}, [[1.75, 5], [1.5, 2.5], [0.25, None]]),
        ({"baseline": "leave-one-out", "exact_discount": True}, [[-4.25, 4.25], [-1.25, 1.25], [0.75, None]]),
        ({"baseline": "none", "whole_return": True}, [[2.75, 7], [2.75, 7], [2.75, None]]),
        # The whole return is discounted from the episode's start already: γ^t has no place.
        ({"baseline": "none", "whole_return": True, "exact_discount": True}, [[2.75, 7], [2.75, 7], [2.75, None]]),
        ({"baseline": "none", "discount": 1.0}, [[6, 10], [5, 6], [3, None]]),
        ({"baseline": "none", "discount": 0.0, "exact_discount": True}, [[1, 4], [0, 0], [0, None]]),
    ],
    ids=str,
)
def test_reinforce_credits_by_hand(arguments: dict[str, Any], expected: list[list[float | None]]) -> None:
    method = methods.reinforce(**{"discount": 0.5, "episodes": 2, **arguments})
    experience = two_episodes(critic=method.critic)
    found = np.where(experience.valid, method.credit(experience).advantage, np.nan)
    np.testing.assert_allclose(found, np.array(expected, float), rtol=0, atol=1e-12)


@pytest.mark.parametrize("whole_return", [False, True])
def test_reinforce_with_a_critic_goes_on_where_an_episode_was_cut(whole_return: bool) -> None:
    method = methods.reinforce(baseline="value", discount=0.5, episodes=2, whole_return=whole_return)
    experience = two_episodes(truncated=True, critic=True)
    credit = method.credit(experience)
    # 6 + ½·8 = 10 and 4 + ½·10 = 9 in the second column; the first one is terminated, and its 9 counts for nothing.
    returned = [[2.75, 9], [3.5, 10], [3, 0]]
    assert credit.target is not None
    np.testing.assert_allclose(credit.target[experience.valid], [2.75, 9, 3.5, 10, 3], atol=1e-12)
    weighted = [[2.75, 9], [2.75, 9], [2.75, 0]] if whole_return else returned
    advantage = (np.array(weighted) - np.array([[1.0, 2.0], [0.5, 1.0], [2.0, 0.0]]))[experience.valid]
    np.testing.assert_allclose(credit.advantage[experience.valid], advantage, atol=1e-12)


@pytest.mark.parametrize("baseline", ["none", "mean", "leave-one-out"])
def test_reinforce_without_a_critic_has_no_target(baseline: Any) -> None:
    method = methods.reinforce(baseline=baseline)
    assert not method.critic
    assert method.episodes == 16
    assert method.credit(two_episodes()).target is None


@pytest.mark.parametrize("make", [methods.actor_critic, methods.ppo])
def test_generalised_advantage_and_its_target_by_hand(make: Any) -> None:
    experience = two_episodes(truncated=True, critic=True)
    credit = make(discount=0.5, trace=0.0).credit(experience)
    # r + ½V' − V, with V' = 0 at the terminated end and 8 at the truncated one.
    one_step = np.array([[0.25, 2.5], [2.5, 9.0], [1.0, 0.0]])
    np.testing.assert_allclose(credit.advantage, one_step, rtol=0, atol=1e-12)
    credit = make(discount=0.5, trace=0.5).credit(experience)
    expected = np.array([[0.25 + 0.25 * 2.75, 2.5 + 0.25 * 9.0], [2.5 + 0.25 * 1.0, 9.0], [1.0, 0.0]])
    np.testing.assert_allclose(credit.advantage, expected, rtol=0, atol=1e-12)
    assert experience.value is not None
    np.testing.assert_allclose(credit.target, expected + experience.value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("whole_return", [False, True])
@pytest.mark.parametrize("baseline", ["mean", "leave-one-out"])
@pytest.mark.parametrize("episodes", [2, 3, 7])
def test_equal_rewards_give_exactly_no_gradient(episodes: int, baseline: Any, whole_return: bool) -> None:
    steps = 4
    shape = steps, episodes
    ends = np.zeros(shape, bool)
    ends[-1] = True
    time = np.repeat(np.arange(steps)[:, None], episodes, axis=1)
    reward = np.full(shape, 0.1, np.float32)
    experience = Experience(reward, ends, np.zeros_like(ends), np.ones(shape, bool), time, None, None)
    method = methods.reinforce(baseline=baseline, episodes=episodes, whole_return=whole_return)
    advantage = torch.from_numpy(method.credit(experience).advantage)
    logits = torch.randn(*shape, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    action = torch.randint(3, shape, generator=torch.Generator().manual_seed(1))
    weights = weights_of(method.weight, advantage, torch.zeros(shape), torch.zeros(shape))
    rlce.weighted_cross_entropy(logits, action, weights).backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: methods.reinforce(baseline="median"),  # type: ignore[arg-type]
            "baseline must be one of none, mean, leave-one-out, value, got 'median'",
        ),
        (
            lambda: methods.named("trpo"),
            "method must be one of reinforce, actor_critic, ppo, .*or a Method, got 'trpo' .*recipe=",
        ),
        (
            lambda: methods.reinforce(baseline="leave-one-out", episodes=1),
            "episodes must be at least 2, .*, got 1",
        ),
        (
            lambda: methods.reinforce(baseline="mean", episodes=1),
            "episodes must be at least 2, .*, got 1",
        ),
        (lambda: methods.reinforce(baseline="value", whole_return=True), "whole_return needs whole episodes"),
        (lambda: methods.reinforce(baseline="value", per_episode=True), "Z = episodes needs whole episodes"),
        (lambda: methods.reinforce(episodes=0), "episodes must be at least 1, got 0"),
        (lambda: dataclasses.replace(methods.actor_critic(), epochs=2), "epochs=2.*a weight rule with a ratio"),
        (lambda: dataclasses.replace(methods.actor_critic(), minibatch_size=8), "minibatch_size=8.*with a ratio"),
        (lambda: dataclasses.replace(methods.ppo(), per_episode=True), "Z = episodes needs whole episodes"),
        (lambda: methods.actor_critic(value_epochs=-1), "value_epochs must be a whole number of at least 0, got -1"),
        (lambda: methods.actor_critic(value_epochs=1.5), "value_epochs must be a whole number of at least 0, got 1.5"),
        (lambda: methods.reinforce(baseline="none", value_epochs=-3), "value_epochs must be a whole number .*, got -3"),
        (lambda: dataclasses.replace(methods.rloo(), value_epochs=2), "rloo: value_epochs=2 needs a critic"),
        (lambda: methods.ppo(epochs=0), "epochs must be at least 1, got 0"),
        (lambda: methods.ppo(steps=-3), "steps must be at least 1, got -3"),
        (lambda: methods.ppo(minibatch_size=0), "minibatch_size must be at least 1, got 0"),
        (lambda: methods.ppo(clip=0.0), "clip must be positive, got 0.0"),
        (lambda: methods.ppo(clip=math.nan), "clip must be positive, got nan"),
    ],
)
def test_bad_settings_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (methods.reinforce, "discount"),
        (methods.actor_critic, "discount"),
        (methods.actor_critic, "trace"),
        (methods.ppo, "discount"),
        (methods.ppo, "trace"),
    ],
)
def test_discount_and_trace_lie_in_the_unit_interval(make: Any, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\], got {value}"):
        make(**{name: value})


@pytest.mark.parametrize("name", ["actor-critic", "actor_critic"])
def test_named_takes_hyphens_and_arguments(name: str) -> None:
    method = methods.named(name, {"steps": 7})
    assert (method.name, method.steps) == ("actor_critic", 7)
    assert methods.named("reinforce", {"baseline": "mean"}).episodes == 16
    assert methods.named("ppo").ratio


# --------------------------------------------------------------------------------------- the critic's own passes


def first_round(method: Method) -> tuple[rlce.PolicyGradient, list[Tensor], list[Tensor]]:
    """An agent after a round of about 600 rows, and the rows of each gradient step of its policy and of its critic."""
    seen: dict[str, list[Tensor]] = {"policy": [], "critic": []}
    optimization = Optimization("sgd", 0.01, momentum=0.0)
    agent = rlce.PolicyGradient("CartPole-v1", method, num_envs=10, hidden=(8,), seed=3, optimization=optimization)
    assert agent.critic is not None
    for name, network in (("policy", agent.policy), ("critic", agent.critic)):
        network.register_forward_hook(lambda _, inputs, __, name=name: seen[name].append(inputs[0].clone()))
    agent.learn(500)
    assert agent.trainer.progress.rounds == 1
    return agent, seen["policy"], seen["critic"]


@pytest.mark.parametrize("make", [methods.actor_critic, methods.reinforce])
def test_the_critic_goes_over_every_row_again_in_minibatches_and_the_policy_does_not(make: Any) -> None:
    agent, policy, critic = first_round(make(steps=61, value_epochs=2))
    plain, *_ = first_round(make(steps=61, value_epochs=0))
    steps = agent.trainer.progress.scalars["train/n_updates"], len(policy), [len(part) for part in critic]
    (whole,), (first, *passes) = policy, critic
    count = len(whole)
    assert 512 < count < 768
    assert steps == (7, 1, [count, 256, 256, count - 512, 256, 256, count - 512])
    assert torch.equal(first, whole)
    for one in (torch.cat(passes[:3]), torch.cat(passes[3:])):
        assert not torch.equal(one, whole)  # in random order
        for found, known in zip(*(rows.unique(dim=0, return_counts=True) for rows in (one, whole)), strict=True):
            assert torch.equal(found, known)
    assert not torch.equal(passes[0], passes[3])
    for network, same in (("policy", True), ("critic", False)):
        after = [torch.cat([p.flatten() for p in getattr(each, network).parameters()]) for each in (agent, plain)]
        assert torch.equal(*after) == same
    # The policy's scalars are those of its one step; the critic's cost falls from pass to pass.
    for name in ("policy_loss", "entropy"):
        assert agent.trainer.progress.scalars[f"train/{name}"] == plain.trainer.progress.scalars[f"train/{name}"]
    assert agent.trainer.progress.scalars["train/value_loss"] < plain.trainer.progress.scalars["train/value_loss"]


def test_methods_without_a_critic_have_no_passes_of_it() -> None:
    for baseline in ("none", "mean", "leave-one-out"):
        assert methods.reinforce(baseline=baseline).value_epochs == 0  # type: ignore[arg-type]
    assert methods.reinforce().value_epochs == methods.actor_critic().value_epochs == 8
    assert methods.ppo().value_epochs == 0


def test_a_file_of_before_has_no_passes_of_the_critic() -> None:
    for method in (methods.actor_critic(), methods.reinforce(), methods.ppo(), methods.reinforce(baseline="none")):
        saved = methods.to_json(method)
        assert methods.from_json(saved).value_epochs == method.value_epochs
        earlier = {name: value for name, value in saved["arguments"].items() if name != "value_epochs"}
        assert methods.from_json({**saved, "arguments": earlier}).value_epochs == 0


# ------------------------------------------------------------------------------------------------ a rule of one's own


def truncated_ratio(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor) -> Tensor:
    return advantage * (log_prob - behaviour_log_prob).exp().clamp(max=1.0)


def train(method: Method, seed: int = 0) -> rlce.PolicyGradient:
    return rlce.PolicyGradient("CartPole-v1", method=method, num_envs=4, hidden=(16,), seed=seed).learn(256)


def test_a_new_rule_trains_without_a_change_to_the_library() -> None:
    method = dataclasses.replace(methods.ppo(minibatch_size=64), weight=truncated_ratio, name="truncated")
    agent, again, ordinary = train(method), train(method), train(methods.ppo(minibatch_size=64))
    assert agent.steps >= 256
    assert torch.equal(agent.trainer.flat.value, again.trainer.flat.value)
    assert agent.trainer.flat.value.isfinite().all()
    assert not torch.equal(agent.trainer.flat.value, ordinary.trainer.flat.value)  # the rule was used
    assert agent.trainer.progress.scalars["train/loss"] == again.trainer.progress.scalars["train/loss"]


@pytest.mark.parametrize("name", ["ppo", "truncated"])
def test_a_changed_method_is_not_taken_for_the_one_it_was_made_from(name: str, tmp_path: Path) -> None:
    """A file cannot name a rule of one's own: it must be passed again to learn, and never be swapped in silence."""
    method = dataclasses.replace(methods.ppo(), weight=truncated_ratio, name=name)
    rlce.PolicyGradient("CartPole-v1", method=method, num_envs=2, hidden=(8,)).save(tmp_path / "agent")
    agent = rlce.PolicyGradient.load(tmp_path / "agent")
    assert agent.predict(np.zeros((3, 4), np.float32)).shape == (3,)
    with pytest.raises(ValueError, match="method"):
        agent.learn(8)
    agent = rlce.PolicyGradient.load(tmp_path / "agent", method=method).learn(8)
    assert agent.method.weight is truncated_ratio
