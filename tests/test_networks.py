"""The user's networks: one factory or two, told their role or not, apart or with a shared trunk."""

from __future__ import annotations

import dataclasses
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from envs.identity import IdentityBox
from rlce import Optimization, PolicyGradient, methods
from rlce.onnx import export
from rlce.reinforcement import loss, networks

SMALL: dict[str, Any] = {"num_envs": 4, "seed": 0}
PPO = methods.ppo(steps=16, epochs=2, minibatch_size=32)


def wide(n_inputs: int, n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_inputs, 16), nn.Tanh(), nn.Linear(16, n_outputs))


def flat(n_inputs: int, n_outputs: int) -> nn.Module:
    return nn.Linear(n_inputs, n_outputs)


def by_role(n_inputs: int, n_outputs: int, role: str) -> nn.Module:
    return {"policy": wide, "critic": flat}[role](n_inputs, n_outputs)


class SharedTrunk:
    """Makes policy and critic on one hidden layer, as the documentation has it."""

    def __call__(self, n_inputs: int, n_outputs: int, role: str) -> nn.Module:
        if role == "policy":
            self.trunk = nn.Sequential(nn.Linear(n_inputs, 6), nn.Tanh())
        return nn.Sequential(self.trunk, nn.Linear(6, n_outputs))


def parameters(agent: PolicyGradient) -> Tensor:
    return agent.trainer.flat.value.clone()


@pytest.mark.parametrize(
    "network",
    [(wide, flat), [wide, flat], {"critic": flat, "policy": wide}, by_role, partial(by_role)],
    ids=["pair", "list", "mapping", "role", "partial"],
)
def test_two_factories_are_the_factory_that_is_told_its_role(network: Any, tmp_path: Path) -> None:
    agent = PolicyGradient("CartPole-v1", PPO, network=network, **SMALL).learn(128)
    assert isinstance(agent.policy, nn.Sequential)
    assert isinstance(agent.critic, nn.Linear)
    expected = PolicyGradient("CartPole-v1", PPO, network={"policy": wide, "critic": flat}, **SMALL).learn(128)
    assert torch.equal(parameters(agent), parameters(expected))
    agent.save(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a", network=network)
    assert torch.equal(parameters(loaded), parameters(agent))


def test_a_role_that_is_bound_is_not_told_again() -> None:
    agent = PolicyGradient("CartPole-v1", PPO, network=partial(by_role, role="policy"), **SMALL)
    assert isinstance(agent.critic, nn.Sequential)


@pytest.mark.parametrize(
    "network",
    [(wide,), (wide, flat, flat), (wide, None), {"policy": wide}, {"policy": wide, "value": flat}, 3, "MLP", (wide, 3)],
)
def test_what_is_no_factory_is_named(network: Any) -> None:
    with pytest.raises(ValueError, match=r"^network must be a factory \(n_inputs, n_outputs\) -> nn.Module"):
        PolicyGradient("CartPole-v1", PPO, network=network)


def test_a_shared_trunk_is_held_once_and_trained_by_both_losses() -> None:
    agent = PolicyGradient("CartPole-v1", PPO, network=SharedTrunk(), **SMALL)
    assert agent.critic is not None
    assert agent.policy[0] is agent.critic[0]  # type: ignore[index]
    assert len(agent.trainer.flat.value) == (4 * 6 + 6) + (6 * 2 + 2) + (6 + 1)
    (batch, *_) = next(agent._rounds(agent._collector, 32)).batches  # type: ignore[arg-type]
    weight = agent.policy[0][0].weight  # type: ignore[index]

    def gradient(method: methods.Method, learner: loss.Learner = agent.learner) -> Tensor:
        agent.trainer.flat.gradient.zero_()
        loss.loss(batch, method, learner)[0].backward()
        return weight.grad.clone()

    of_policy = gradient(PPO, dataclasses.replace(agent.learner, critic=None))
    both = gradient(PPO)
    of_critic = (gradient(dataclasses.replace(PPO, value_weight=1.5)) - both) / 1.0  # 1.5 - 0.5
    assert of_policy.abs().max() > 1e-4
    assert of_critic.abs().max() > 1e-4
    torch.testing.assert_close(both, of_policy + 0.5 * of_critic, rtol=1e-4, atol=1e-6)
    before = weight.detach().clone()
    agent.learn(64)
    assert not torch.equal(before, weight)
    assert agent.policy[0][0].weight is agent.critic[0][0].weight  # type: ignore[index]


@pytest.mark.parametrize("env", ["CartPole-v1", lambda: IdentityBox((2,))], ids=["classes", "Box"])
def test_a_shared_trunk_is_saved_loaded_and_exported(env: Any, tmp_path: Path) -> None:
    factory = SharedTrunk()
    agent = PolicyGradient(env, PPO, network=factory, **SMALL).learn(64)
    agent.save(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a", network=factory, env=env)
    assert torch.equal(parameters(loaded), parameters(agent))
    trunk = getattr(loaded.policy, "network", loaded.policy)[0]
    assert trunk is loaded.critic[0]  # type: ignore[index]
    assert trunk is not getattr(agent.policy, "network", agent.policy)[0]
    seen = agent.observation_space.sample()
    np.testing.assert_array_equal(loaded.predict(seen, deterministic=True), agent.predict(seen, deterministic=True))
    agent.learn(64)
    assert not torch.equal(parameters(loaded), parameters(agent))  # nothing is shared between the two agents
    loaded.learn(64)
    assert trunk is loaded.critic[0]  # type: ignore[index]
    export(agent, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").stat().st_size > 0


def test_a_reference_has_a_trunk_of_its_own() -> None:
    class Both(SharedTrunk):
        pass

    method = dataclasses.replace(PPO, kl_weight=0.1, name="mine", arguments=None)
    agent = PolicyGradient("CartPole-v1", method, network=Both(), optimization=Optimization("sgd", 0.1), **SMALL)
    assert agent.reference is not None
    before = agent.reference[0][0].weight.clone()  # type: ignore[index]
    agent.learn(64)
    assert torch.equal(agent.reference[0][0].weight, before)  # type: ignore[index]
    assert not torch.equal(agent.policy[0][0].weight, before)  # type: ignore[index]


def test_the_factory_of_the_documentation_is_the_one_tested() -> None:
    assert networks.__doc__ is not None
    code = networks.__doc__.partition("::\n\n")[2].partition("\n\n``value_weight``")[0]
    names: dict[str, Any] = {"nn": nn, "PolicyGradient": PolicyGradient}
    exec(textwrap.dedent(code), names)
    assert names["agent"].policy[0] is names["agent"].critic[0]


def test_a_network_that_wants_another_shape_is_told_what_it_gets() -> None:
    with pytest.raises(ValueError, match=r"network: it fails on two rows \(rows reach it flat, here \[2, 4\]; .*conv"):
        PolicyGradient("CartPole-v1", network=lambda n_inputs, n_outputs: nn.Conv2d(1, n_outputs, 3))
