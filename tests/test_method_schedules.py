"""Numbers of a method that follow the course of training: schedules, ``target_kl``, advantages per minibatch."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.identity import Identity, IdentityBox
from rlce import Optimization, PolicyGradient, methods, weights
from rlce.reinforcement import loss
from rlce.reinforcement.loss import Batch
from rlce.reinforcement.methods import Method, arguments_of, named

SGD = Optimization("sgd", learning_rate=0.5, momentum=0.0)
SMALL: dict[str, Any] = {"steps": 8, "epochs": 2, "minibatch_size": 16}  # rounds of 32 steps


def trained(method: Method, steps: int = 128, optimization: Optimization = SGD, **settings: Any) -> PolicyGradient:
    settings = {"env": lambda: Identity(n=3, length=5), "hidden": (8,), "num_envs": 4, **settings}
    agent = PolicyGradient(settings.pop("env"), method, optimization=optimization, **settings)
    return agent if steps == 0 else agent.learn(steps)


def parameters(agent: PolicyGradient) -> Tensor:
    return agent.trainer.flat.value.clone()


# ------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("schedule_timesteps", [None, 512])
def test_a_rule_that_names_progress_gets_the_fraction_of_training_done(schedule_timesteps: int | None) -> None:
    """It is that of the learning rate, and known if the rate is constant."""
    seen: list[float] = []
    begins: list[int] = []

    def rule(advantage: Tensor, progress: float) -> Tensor:
        if not seen or begins[-1] != agent.trainer.progress.step:
            seen.append(progress)
            begins.append(agent.trainer.progress.step)
        return advantage

    begins.append(-1)
    method = dataclasses.replace(methods.actor_critic(steps=8), weight=rule, name="mine")
    agent = trained(method, 0, Optimization("sgd", momentum=0.0, schedule_timesteps=schedule_timesteps))
    first = agent.learn(128).steps
    agent.learn(256)
    spans = [(0, 128, first), (first, first + 256, agent.steps)] if schedule_timesteps is None else [(0, 512, 10**9)]
    for begin, progress in zip(begins[1:], seen, strict=True):
        start, end, _ = next(span for span in spans if span[0] <= begin < span[2])
        assert progress == (begin - start) / (end - start)
    assert len(seen) > 8


PAIR = (0.4, 0.02)
AS_FUNCTION = lambda done: (1.0 - done) * 0.4 + done * 0.02  # noqa: E731


def clipped_by_hand(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor, progress: float) -> Tensor:
    return weights.clipped_ratio(advantage, log_prob, behaviour_log_prob, 0.4 - 0.38 * progress)


@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_a_scheduled_clip_is_the_clip_of_that_time(name: str) -> None:
    numbers = SMALL if name == "ppo" else {"episodes": 8, "epochs": 3, "minibatch_size": 16}
    pair, function = (trained(named(name, {**numbers, "clip": clip})) for clip in (PAIR, AS_FUNCTION))
    by_hand = trained(dataclasses.replace(named(name, numbers), weight=clipped_by_hand, name="by hand"))
    torch.testing.assert_close(parameters(pair), parameters(by_hand), rtol=0, atol=1e-6)
    assert torch.equal(parameters(pair), parameters(function))
    for fixed in PAIR:
        assert not torch.equal(parameters(pair), parameters(trained(named(name, {**numbers, "clip": fixed}))))


@pytest.mark.parametrize("env", [lambda: Identity(n=3, length=5), lambda: IdentityBox((2,))], ids=["classes", "Box"])
def test_a_scheduled_entropy_weight_is_the_weight_of_that_time(env: Any) -> None:
    """The gradient of one batch equals that under the number, and a pair trains as its function does."""
    base = methods.actor_critic(steps=8, value_epochs=0)
    agent = trained(base, 0, env=env)
    rounds = agent._rounds(agent._collector, 32)  # type: ignore[arg-type]
    (batch,) = next(rounds).batches

    def gradient(weight: Any, progress: float) -> Tensor:
        agent.trainer.flat.gradient.zero_()
        method = dataclasses.replace(base, entropy_weight=weight)
        loss.loss(batch._replace(progress=progress), method, agent.learner)[0].backward()
        return agent.trainer.flat.gradient.clone()

    for progress, now in ((0.0, 0.5), (0.25, 0.375), (1.0, 0.0)):
        torch.testing.assert_close(gradient((0.5, 0.0), progress), gradient(now, 0.9), rtol=1e-6, atol=1e-7)
    assert not torch.equal(gradient((0.5, 0.0), 0.0), gradient((0.5, 0.0), 0.5))
    asked: list[float] = []

    def function(done: float) -> float:
        asked.append(done)
        return (1.0 - done) * 0.5

    pair = trained(dataclasses.replace(base, entropy_weight=(0.5, 0.0)), env=env)
    by_function = trained(dataclasses.replace(base, entropy_weight=function), env=env)
    assert torch.equal(parameters(pair), parameters(by_function))
    assert len(set(asked)) == by_function.trainer.progress.rounds + 1  # and 1, when the method was made
    constant = trained(dataclasses.replace(base, entropy_weight=0.5), env=env)
    assert not torch.equal(parameters(pair), parameters(constant))


def test_a_file_holds_a_pair_and_no_function(tmp_path: Path) -> None:
    agent = trained(methods.ppo(clip=[0.3, 0.1], entropy_weight=(0.01, 0), **SMALL), env="CartPole-v1")  # type: ignore[arg-type]
    agent.save(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a")
    assert loaded.method.entropy_weight == (0.01, 0)
    assert arguments_of(loaded.method) == arguments_of(agent.method)
    loaded.learn(32)
    for number in ({"clip": lambda done: 0.2}, {"entropy_weight": lambda done: 0.01}):
        method = methods.ppo(**SMALL, **number)  # type: ignore[arg-type]
        assert arguments_of(method) is None
        agent = trained(method, env="CartPole-v1", log_dir=tmp_path / "log")
        agent.save(tmp_path / "b")
        loaded = PolicyGradient.load(tmp_path / "b")
        seen = np.ones(4, np.float32)
        assert loaded.predict(seen, deterministic=True) == agent.predict(seen, deterministic=True)
        with pytest.raises(ValueError, match=r"method: 'ppo' .* pass it to load\(method="):
            loaded.learn(32)
        PolicyGradient.load(tmp_path / "b", method=method).learn(32)
        assert PolicyGradient.load(tmp_path / "b", method="ppo").method.arguments == methods.ppo().arguments


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"clip": (0.2, -0.1)}, "clip must give a finite number of at least 0 at progress 0 .*, got -0.1"),
        ({"clip": lambda done: -done}, "clip must give a finite number of at least 0 at progress 1 .*, got -1.0"),
        ({"clip": (0.2, 0.1, 0.0)}, r"clip must .*a pair \(start, end\), or a function\), got \(0.2, 0.1, 0.0\)"),
        ({"clip": "0.2"}, "clip must give a finite number .*, got '0.2'"),
        ({"clip": (0.2, None)}, "clip must give a finite number .*, got None"),
        ({"entropy_weight": (0.01, math.nan)}, "entropy_weight must give a finite number at progress 0 .*, got nan"),
        ({"entropy_weight": lambda done: "x"}, "entropy_weight must give a finite number at progress 0 .*, got 'x'"),
        ({"entropy_weight": "0.01"}, "entropy_weight must give a finite number .*, got '0.01'"),
        ({"standardize": "batch"}, "standardize must be True, False or \"minibatch\", got 'batch'"),
        ({"target_kl": 0.0}, "target_kl must be positive, or None, got 0.0"),
    ],
)
def test_numbers_that_make_no_sense_are_named_at_once(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methods.ppo(**numbers)


def test_a_schedule_that_fails_later_is_named_then() -> None:
    method = methods.ppo(entropy_weight=lambda done: math.inf if 0.4 < done < 0.9 else 0.01, **SMALL)
    with pytest.raises(ValueError, match=r"entropy_weight must give a finite number at progress 0\.\d+ .*, got inf"):
        trained(method)


def test_a_clip_may_fall_to_zero() -> None:
    method = methods.ppo(clip=(0.2, 0.0), **SMALL)
    agent = trained(method, 128, Optimization(schedule="constant", schedule_timesteps=64))
    assert agent.trainer.fraction == 1.0
    assert agent.trainer.progress.scalars["train/clip_fraction"] > 0.1


# ------------------------------------------------------------------------------------------------------- target_kl


def kl_before_each_epoch(method: Method, steps: int) -> tuple[list[float], PolicyGradient]:
    """Of a method whose minibatch is the whole round, the KL estimate before each gradient step."""
    found: list[float] = []

    def spy(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor) -> Tensor:
        ratio = (log_prob - behaviour_log_prob).double().exp()
        found.append(float((ratio - 1.0 - ratio.log()).mean()))
        return weights.clipped_ratio(advantage, log_prob, behaviour_log_prob)

    agent = trained(dataclasses.replace(method, weight=spy, name="spy"), steps)
    return found, agent


def test_a_round_ends_once_the_policy_is_too_far_from_the_one_that_acted() -> None:
    method = methods.ppo(steps=8, epochs=7, minibatch_size=None)
    free, agent = kl_before_each_epoch(method, 1)
    assert agent.trainer.progress.rounds == 1
    assert len(free) == agent.trainer.progress.updates == 7
    assert free[0] == pytest.approx(0.0, abs=1e-9)
    stops = set()
    for limit in (0.999 * kl for kl in free[1:]):
        epochs = next(epoch for epoch in range(1, 7) if free[epoch] > limit)
        held, agent = kl_before_each_epoch(dataclasses.replace(method, target_kl=limit), 1)
        assert agent.trainer.progress.updates == epochs
        assert held == free[:epochs]
        stops.add(epochs)
    assert len(stops) >= 3
    held, agent = kl_before_each_epoch(dataclasses.replace(method, target_kl=2.0 * max(free)), 1)
    assert held == free


def test_the_critic_s_own_passes_follow_a_round_that_ended_early() -> None:
    method = dataclasses.replace(methods.ppo(steps=8, epochs=7, minibatch_size=None, target_kl=1e-12), value_epochs=3)
    agent = trained(method, 1)
    assert agent.trainer.progress.rounds == 1
    assert agent.trainer.progress.updates == 1 + 3


@pytest.mark.parametrize("name", ["ppo", "cispo", "grpo"])
def test_target_kl_counts_in_every_round_and_leaves_minibatches_whole(name: str) -> None:
    numbers = {"episodes": 8} if name == "grpo" else {"steps": 10}
    numbers |= {"epochs": 3, "minibatch_size": 8}
    for target_kl, epochs in ((1e-12, 1), (1e9, 3), (None, 3)):
        agent, ends = trained(named(name, {**numbers, "target_kl": target_kl}), 0), [0]
        agent.learn(120, callback=lambda progress, ends=ends: ends.append(progress.step))
        batches = sum(math.ceil((end - start) / 8) for start, end in itertools.pairwise(ends))
        assert len(ends) > 3
        assert agent.trainer.progress.updates == batches * epochs
    with pytest.raises(ValueError, match="target_kl needs a weight rule with a ratio"):
        dataclasses.replace(methods.advantage_weighted_regression(), target_kl=0.1)


# --------------------------------------------------------------------------------------------- per minibatch


def standardized_by_hand(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor) -> Tensor:
    exact = advantage.double()
    exact = (exact - exact.mean()) / (exact.std(correction=0) + 1e-8)
    return weights.clipped_ratio(exact.to(advantage.dtype), log_prob, behaviour_log_prob)


def test_advantages_are_standardized_within_each_minibatch() -> None:
    of_round, none = (methods.ppo(**SMALL, standardize=each) for each in (True, False))
    minibatch = methods.ppo(**SMALL, standardize="minibatch")
    by_hand = dataclasses.replace(none, weight=standardized_by_hand, name="by hand")
    found = parameters(trained(minibatch))
    torch.testing.assert_close(found, parameters(trained(by_hand)), rtol=0, atol=1e-5)
    assert (found - parameters(trained(of_round))).abs().max() > 1e-3
    whole = [
        parameters(trained(methods.ppo(steps=8, epochs=2, minibatch_size=None, standardize=each)))  # type: ignore[arg-type]
        for each in (True, "minibatch")
    ]
    torch.testing.assert_close(*whole, rtol=0, atol=1e-5)


def test_a_minibatch_of_one_or_of_equal_advantages_gives_no_gradient_to_the_policy() -> None:
    agent = trained(methods.ppo(**SMALL), 0)
    (first, *_) = next(agent._rounds(agent._collector, 32)).batches  # type: ignore[arg-type]
    equal = first.transitions._replace(advantage=torch.full_like(first.transitions.advantage, 3.7))
    method = methods.ppo(standardize="minibatch", entropy_weight=0.0)
    for rows in (equal, first.transitions.rows(torch.tensor([4]))):
        agent.trainer.flat.gradient.zero_()
        loss.loss(Batch(rows, 7.0), method, agent.learner)[0].backward()
        assert all((p.grad == 0).all() for p in agent.policy.parameters() if p.grad is not None)


def test_row_weights_and_z_stay_as_they_are() -> None:
    """GRPO's 1/length weighs the standardised advantage, and Z is the share of episodes."""
    agent = trained(methods.grpo(episodes=8, minibatch_size=16), 0)
    (batch, *_) = next(agent._rounds(agent._collector, 32)).batches  # type: ignore[arg-type]
    rows = batch.transitions
    exact = (rows.advantage - rows.advantage.mean()) / (rows.advantage.std(correction=0) + 1e-8)
    by_hand = batch._replace(transitions=rows._replace(advantage=exact))
    assert (rows.row_weight != 1.0).all()
    expected = loss.loss(by_hand, agent.method, agent.learner)[0]
    found = loss.loss(batch, dataclasses.replace(agent.method, standardize="minibatch"), agent.learner)[0]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.item() != pytest.approx(loss.loss(batch, agent.method, agent.learner)[0].item(), rel=1e-3)


def test_a_partial_of_the_rule_keeps_its_own_progress() -> None:
    """What a partial binds is not passed again."""

    def rule(advantage: Tensor, progress: float) -> Tensor:
        assert progress == 0.5
        return advantage

    trained(dataclasses.replace(methods.actor_critic(steps=8), weight=partial(rule, progress=0.5), name="bound"))
