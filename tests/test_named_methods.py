"""Every method of the catalogue runs through the one agent, learns, and survives saving."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

from envs.identity import Identity
from rlce import Optimization, PolicyGradient, evaluate_policy, methods
from rlce.reinforcement import loss
from rlce.reinforcement.environments import Environments
from rlce.reinforcement.methods import Method, arguments_of, named
from rlce.reinforcement.rollout import Collector, Rollout
from rlce.reinforcement.spaces import Actions

SMALL: dict[str, dict[str, Any]] = {
    "reinforce": {},
    "actor_critic": {"steps": 16},
    "ppo": {"steps": 16, "minibatch_size": 64, "epochs": 4},
    "rloo": {"per_episode": True},
    "rloo in groups": {"group_size": 4},
    "grpo": {"minibatch_size": 64},
    "grpo in groups": {"group_size": 4, "kl_weight": 0.01},
    "grpo unbiased": {"biased": False},
    "cispo": {"steps": 16, "minibatch_size": 64},
    "v_trace": {"steps": 16},
    "reward_weighted_regression": {"discount": 0.5, "temperature": 0.5},
    "advantage_weighted_regression": {"steps": 16, "minibatch_size": 64, "discount": 0.5},
    "self_imitation": {"discount": 0.5},
    "elite": {"quantile": 0.8},
}


def make(name: str) -> Method:
    return named(name.split(" ")[0], SMALL[name])


def test_the_catalogue_is_tested_whole() -> None:
    assert {name.split(" ")[0] for name in SMALL} == set(methods._MAKERS)


@pytest.mark.parametrize("name", SMALL)
def test_every_method_learns_the_identity_and_is_saved(name: str, tmp_path: Path) -> None:
    agent = PolicyGradient(
        lambda: Identity(n=2, length=8), make(name), hidden=(16,), optimization=Optimization(learning_rate=0.02)
    )
    agent.learn(20_000)
    assert evaluate_policy(agent, lambda: Identity(n=2, length=8), episodes=20).returns.min() == 8.0
    agent.save(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a", env=lambda: Identity(n=2, length=8))
    assert arguments_of(loaded.method) == arguments_of(agent.method)
    assert loaded.learn(100).steps > agent.steps


@pytest.mark.parametrize("name", sorted(methods._MAKERS))
def test_a_method_bears_the_name_of_its_constructor(name: str) -> None:
    assert named(name).name == name


def test_groups_begin_in_the_same_state_and_act_differently() -> None:
    envs = SyncVectorEnv([lambda: Identity(n=50, length=4)] * 12)
    collector = Collector(Environments(envs), Actions(envs.single_action_space), np.random.SeedSequence(0))
    rollout = collector.episodes(lambda observation: np.zeros((len(observation), 50)), 12, group_size=4)
    first = rollout.observation[0].argmax(axis=-1).reshape(3, 4)
    assert (first == first[:, :1]).all()
    assert len(set(first[:, 0])) == 3
    assert len(set(rollout.action[0])) > 4


def test_an_agent_s_groups_share_their_reset_seed() -> None:
    """Equal along a group, different across groups, new in every round."""
    seeds: list[list[int]] = []

    class Seeded(Identity):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            seeds[-1].append(-1 if seed is None else seed)
            return super().reset(seed=seed, options=options)

    seeds.append([])
    agent = PolicyGradient(lambda: Seeded(n=3, length=2), methods.rloo(episodes=6, group_size=3), hidden=(4,))
    for _ in range(2):
        seeds.append([])
        agent.learn(1)
    for first in (round_seeds[:6] for round_seeds in seeds[1:]):
        assert min(first) >= 0
        assert first[0] == first[1] == first[2] != first[3] == first[4] == first[5]
    assert seeds[1][0] != seeds[2][0]


def test_groups_need_copies_seeded_one_by_one() -> None:
    method = methods.rloo(episodes=8, group_size=4)
    agent = PolicyGradient("CartPole-v1", method)
    assert (agent.vectorization, agent.num_envs) == ("sync", 8)
    with pytest.raises(ValueError, match='groups need copies that are seeded one by one: vectorization "sync"'):
        PolicyGradient("CartPole-v1", method, vectorization="vector_entry_point").learn(1)
    with pytest.raises(ValueError, match="groups need one episode per environment: 8, got 3"):
        PolicyGradient(SyncVectorEnv([Identity] * 3), method)
    with pytest.raises(ValueError, match="rloo: episodes=8 do not fill groups of group_size=3"):
        methods.rloo(episodes=8, group_size=3)
    with pytest.raises(ValueError, match="group_size must be at least 2"):
        methods.grpo(episodes=8, group_size=1)
    with pytest.raises(ValueError, match="episodes must be at least 2, since they are compared, got 1"):
        methods.rloo(episodes=1)


def test_the_first_ratio_is_one_and_replayed_ones_are_not() -> None:
    seen: list[torch.Tensor] = []

    def spy(advantage: torch.Tensor, log_prob: torch.Tensor, behaviour_log_prob: torch.Tensor) -> torch.Tensor:
        seen.append(log_prob - behaviour_log_prob)
        return advantage

    method = dataclasses.replace(methods.v_trace(steps=8, replay=2), weight=spy, name="spy")
    agent = PolicyGradient(Identity, method, num_envs=4, optimization=Optimization(learning_rate=0.1))
    agent.learn(80, callback=lambda progress: progress.rounds == 3)
    assert len(seen[0]) < len(seen[1]) < len(seen[2])
    fresh = torch.zeros_like(seen[0])
    torch.testing.assert_close(seen[0], fresh, rtol=0, atol=1e-6)
    assert seen[2].abs().max() > 1e-3
    assert (seen[2].abs() < 1e-6).sum() >= 4 * 7  # the rows of this round


def test_rounds_are_joined_side_by_side() -> None:
    envs = SyncVectorEnv([lambda: Identity(n=3, length=5)] * 2)
    collector = Collector(Environments(envs), Actions(envs.single_action_space), np.random.SeedSequence(0))
    parts = [collector.steps(lambda observation: np.zeros((len(observation), 3)), length) for length in (3, 7)]
    joined, times = loss.join([(part, part.time.astype(np.float32)) for part in parts])
    assert joined.valid.shape == (7, 4)
    assert not joined.valid[3:, :2].any()
    np.testing.assert_array_equal(times, joined.time)
    for field in Rollout._fields:
        if getattr(joined, field) is not None:
            np.testing.assert_array_equal(getattr(joined, field)[:3, :2], getattr(parts[0], field))
            np.testing.assert_array_equal(getattr(joined, field)[:, 2:], getattr(parts[1], field))


def test_a_round_without_masks_allows_everything_beside_one_that_has_them() -> None:
    envs = SyncVectorEnv([lambda: Identity(n=3, length=5)] * 2)
    collector = Collector(Environments(envs), Actions(envs.single_action_space), np.random.SeedSequence(0))
    free, masked = (collector.steps(lambda observation: np.zeros((len(observation), 3)), 4) for _ in range(2))
    forbidding = np.ones((4, 2, 3), bool)
    forbidding[..., 2] = False
    joined, _ = loss.join(
        [(free, free.reward), (masked._replace(mask=forbidding), masked.reward)],
    )
    assert joined.mask is not None
    assert joined.mask[:, :2].all()
    np.testing.assert_array_equal(joined.mask[:, 2:], forbidding)


def test_a_saved_group_agent_learns_on(tmp_path: Path) -> None:
    PolicyGradient("CartPole-v1", methods.rloo(episodes=8, group_size=4)).save(tmp_path / "a")
    assert PolicyGradient.load(tmp_path / "a").learn(50).num_envs == 8
    PolicyGradient(Identity, methods.rloo(episodes=8)).save(tmp_path / "b")
    agent = PolicyGradient.load(tmp_path / "b", env=Identity, method=methods.rloo(episodes=4, group_size=2))
    assert agent.learn(50).num_envs == 4


def test_a_trained_policy_can_become_the_reference(tmp_path: Path) -> None:
    agent = PolicyGradient(Identity, methods.rloo(), optimization=Optimization(learning_rate=0.02)).learn(500)
    agent.save(tmp_path / "a")
    again = PolicyGradient.load(tmp_path / "a", env=Identity, method=methods.grpo(kl_weight=0.1))
    assert again.reference is not None
    for name, tensor in again.reference.state_dict().items():
        assert torch.equal(tensor, agent.policy.state_dict()[name])
    mine = dataclasses.replace(methods.grpo(kl_weight=0.1), name="mine", entropy_weight=0.01)
    agent = PolicyGradient(Identity, mine)
    agent.save(tmp_path / "b")
    loaded = PolicyGradient.load(tmp_path / "b")
    for seen in range(4):
        assert loaded.predict(seen, deterministic=True) == agent.predict(seen, deterministic=True)


def test_numbers_out_of_range_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="method rloo has no argument nope; it takes discount, episodes, group_size"):
        named("rloo", {"nope": 1})
    for make_it, message in (
        (lambda: methods.rloo(group_size=0), "group_size must be at least 2"),
        (lambda: methods.grpo(kl_weight=-1.0), "kl_weight must be at least 0"),
        (lambda: methods.v_trace(ratio_bound=0.5), "0 < trace_bound <= ratio_bound, got 1.0 and 0.5"),
        (lambda: methods.cispo(low=2.0), r"low must lie in \[0, 1\], got 2.0"),
        (lambda: methods.elite(quantile=1.1), r"quantile must lie in \[0, 1\], got 1.1"),
        (lambda: methods.elite(episodes=None), "elite: episodes must be a number, since the method has no critic"),
        (lambda: methods.elite(episodes=1), "episodes must be at least 2, since they are compared, got 1"),
        (lambda: methods.ppo(discount=1.5), r"discount must lie in \[0, 1\], got 1.5"),
        (lambda: methods.actor_critic(trace=-0.1), r"trace must lie in \[0, 1\], got -0.1"),
        (lambda: methods.reward_weighted_regression(temperature=0.0), "temperature must be positive, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            make_it()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("gamma", "discount"),
        ("gae_lambda", "trace"),
        ("lam", "trace"),
        ("clip_range", "clip"),
        ("ent_coef", "entropy_weight"),
        ("vf_coef", "value_weight"),
        ("n_steps", "steps"),
        ("n_epochs", "epochs"),
        ("batch_size", "minibatch_size"),
    ],
)
def test_a_keyword_of_another_library_is_answered_with_ours(wrong: str, right: str) -> None:
    message = rf"method ppo has no argument {wrong} \(use {right}\); it takes clip, discount, trace, steps, epochs, "
    with pytest.raises(TypeError, match=message):
        methods.ppo(**{wrong: 0.9})
    with pytest.raises(TypeError, match=message):
        named("ppo", {wrong: 0.9})
    with pytest.raises(TypeError, match=message):
        PolicyGradient(Identity, "ppo", **{wrong: 0.9})


def test_a_method_of_a_file_allocates_nothing() -> None:
    assert named("rloo", {"episodes": 10**15}).episodes == 10**15
    assert named("grpo", {"episodes": 10**15, "group_size": 10**14}).group_size == 10**14


def test_wrong_keywords_are_all_named_with_what_the_method_takes() -> None:
    takes = "it takes quantile, episodes, epochs, minibatch_size, entropy_weight"
    with pytest.raises(TypeError, match=f"method elite has no argument gamma, ent_coef .use entropy_weight.; {takes}"):
        methods.elite(gamma=0.9, ent_coef=0.1, epochs=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="method ppo takes keyword arguments only: clip, discount"):
        methods.ppo(0.9)  # type: ignore[misc]


def test_the_reference_stays_where_the_policy_began() -> None:
    agent = PolicyGradient(Identity, methods.grpo(kl_weight=0.1), optimization=Optimization(learning_rate=0.02))
    before = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
    agent.learn(500)
    assert agent.reference is not None
    for name, tensor in agent.reference.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert agent.trainer.progress.scalars["train/reference_kl"] > 0
    tight = PolicyGradient(Identity, methods.grpo(kl_weight=100.0), optimization=Optimization(learning_rate=0.02))
    tight.learn(500)
    assert tight.trainer.progress.scalars["train/reference_kl"] < agent.trainer.progress.scalars["train/reference_kl"]


def test_negative_weights_without_a_ratio_are_refused_with_the_reason() -> None:
    def signed(advantage: torch.Tensor, log_prob: torch.Tensor, behaviour_log_prob: torch.Tensor) -> torch.Tensor:
        return advantage

    method = dataclasses.replace(methods.advantage_weighted_regression(), weight=signed, name="signed")
    with pytest.raises(ValueError, match="method signed: a weight is .* without a ratio, and negative weights"):
        PolicyGradient(Identity, method).learn(100)
    for change in ({"epochs": 2}, {"replay": 1}, {"minibatch_size": 8}):
        with pytest.raises(ValueError, match="make the objective unbounded below"):
            dataclasses.replace(methods.actor_critic(), **change)


def test_an_advantage_that_is_not_finite_is_named_with_its_step() -> None:
    base = methods.actor_critic(steps=4)

    def broken(experience: methods.Experience) -> methods.Credit:
        credit = base.credit(experience)
        credit.advantage[2, 1] = np.nan
        return credit

    method = dataclasses.replace(base, credit=broken, name="broken")
    with pytest.raises(FloatingPointError, match="method broken: the advantage of step 2 in column 1 .* is nan"):
        PolicyGradient(Identity, method).learn(100)
