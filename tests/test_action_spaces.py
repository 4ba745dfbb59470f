"""Every action space end to end: learnt where the answer is known, saved, loaded, and acted in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from envs.identity import Identity, IdentityBox, IdentityMultiBinary, IdentityMultiDiscrete, MaskedIdentity
from rlce import Optimization, PolicyGradient, evaluate_policy, methods
from rlce.heads import Gaussian
from rlce.network import MLP, WithLogStd
from rlce.reinforcement import loss

PPO = methods.ppo(steps=16, minibatch_size=64, epochs=6, discount=0.5)
FAST = Optimization(learning_rate=0.02, schedule="linear", floor=0.05, max_gradient_norm=0.5)

# What to learn, in how many steps, and the return of an episode of 8 steps that counts as learnt.
TASKS: dict[str, tuple[Callable[[], gymnasium.Env[Any, Any]], int, float]] = {
    "Discrete": (lambda: Identity(n=4, start=3), 1_500, 8.0),
    "Discrete, masked": (lambda: MaskedIdentity(n=4, start=3), 1_500, 8.0),
    "Discrete, mask observed": (lambda: MaskedIdentity(n=4, mask_in_observation=True), 1_500, 8.0),
    "MultiDiscrete": (lambda: IdentityMultiDiscrete([3, 2, 4], start=-1), 2_500, 8.0),
    "MultiDiscrete, 2-D": (lambda: IdentityMultiDiscrete([[3, 2], [2, 3]]), 2_500, 8.0),
    "MultiBinary": (lambda: IdentityMultiBinary((4,)), 2_500, 8.0),
    "MultiBinary, 2-D": (lambda: IdentityMultiBinary((2, 2)), 2_500, 8.0),
    # Standing still earns −8/3 and −8/3·9: a mean squared error of 0.01 of the bound's square is left.
    "Box": (lambda: IdentityBox((2,)), 4_000, -0.08),
    "Box of no dimension": (lambda: IdentityBox(()), 4_000, -0.08),
    "Box, wide, 2-D": (lambda: IdentityBox((2, 1), bound=3.0), 4_000, -0.72),
}
every_task = pytest.mark.parametrize(("make", "steps", "learnt"), TASKS.values(), ids=TASKS)


def agent_for(make: Callable[[], gymnasium.Env[Any, Any]], **settings: Any) -> PolicyGradient:
    return PolicyGradient(make, PPO, hidden=(32,), optimization=FAST, **settings)


@every_task
def test_each_head_learns_its_identity(make: Any, steps: int, learnt: float) -> None:
    agent = agent_for(make).learn(steps)
    returns, lengths = evaluate_policy(agent, make, episodes=50)
    assert returns.mean() >= learnt
    assert set(lengths) == {8}


@pytest.mark.parametrize("rescale", [True, False])
def test_actions_learn_rescaled_and_as_they_are(rescale: bool) -> None:
    def make() -> IdentityBox:
        return IdentityBox((2,), bound=3.0)

    agent = agent_for(make, rescale_actions=rescale).learn(4_000)
    assert evaluate_policy(agent, make, episodes=50).returns.mean() >= -0.72
    assert isinstance(agent.head, Gaussian)
    assert agent.actions.rescale == rescale
    assert agent_for(make).actions.rescale


@every_task
def test_save_load_and_predict(make: Any, steps: int, learnt: float, tmp_path: Path) -> None:
    agent = agent_for(make, normalize_observations=True).learn(300)
    agent.save(tmp_path / "agent")
    loaded = PolicyGradient.load(tmp_path / "agent")
    assert loaded.head == agent.head
    env = make()
    batch = agent._collector.environments.envs.observation_space  # type: ignore[union-attr]
    batch.seed(1)
    observations = batch.sample()
    if isinstance(observations, dict):
        observations["action_mask"][:] = 1
    for deterministic in (True, False):
        found, again = (
            one.predict(observations, deterministic, generator=np.random.default_rng(2)) for one in (agent, loaded)
        )
        np.testing.assert_array_equal(found, again)
        assert found.shape == (agent.num_envs, *(env.action_space.shape or ()))
        assert all(env.action_space.contains(np.asarray(action)) for action in found)
        observation, info = env.reset(seed=3)
        action = loaded.predict(observation, deterministic, info.get("action_mask"))
        assert env.action_space.contains(action)
        env.step(action)
    loaded = PolicyGradient.load(tmp_path / "agent", env=make)
    assert loaded.learn(300).steps > agent.steps
    assert loaded.trainer.flat.value.isfinite().all()


def test_the_same_seed_gives_bit_equal_parameters_for_numbers_too() -> None:
    first, again, other = (agent_for(IdentityBox, seed=seed).learn(600).trainer.flat.value for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_deviation_is_learnt_and_a_factory_makes_means_alone() -> None:
    asked: list[tuple[int, int]] = []

    def factory(n_inputs: int, n_outputs: int) -> nn.Module:
        asked.append((n_inputs, n_outputs))
        return nn.Sequential(nn.Linear(n_inputs, 16), nn.Tanh(), nn.Linear(16, n_outputs))

    agent = agent_for(lambda: IdentityBox((3,)), network=factory, initial_deviation=1.0)
    assert asked == [(3, 3), (3, 1)]
    assert isinstance(agent.policy, WithLogStd)
    assert agent.policy.log_std.tolist() == [0.0] * 3
    agent.learn(3_000)
    assert (agent.policy.log_std < -0.1).all()  # less noise pays here
    plain = agent_for(lambda: IdentityBox((3,)))
    assert isinstance(plain.policy, WithLogStd)
    assert isinstance(plain.policy.network, MLP)


def test_the_raw_action_is_what_the_ratio_sees() -> None:
    """The behaviour's log-probability is the density of the raw sample, even far beyond the bounds."""
    agent = agent_for(lambda: IdentityBox((2,), bound=0.1))
    assert agent._collector is not None
    rollout = agent._collector.steps(lambda x: np.zeros((len(x), 4), np.float32), 32)
    assert np.abs(rollout.action).max() > 2.0
    rows, _ = loss.prepare(rollout, PPO, agent.learner)
    outputs = agent.policy(rows.observation)
    peer = torch.distributions.Normal(outputs[:, :2], outputs[:, 2:].exp())
    expected = peer.log_prob(torch.from_numpy(rollout.action[rollout.valid])).sum(-1)
    torch.testing.assert_close(rows.behaviour_log_prob, expected.detach(), rtol=1e-5, atol=1e-5)
