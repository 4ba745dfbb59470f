"""PolicyGradient end to end: it learns, it is reproducible, it survives saving, and it refuses what it cannot do."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn

from envs.identity import Identity, IdentityBox
from envs.loop import LoopEnv
from rlce import Evaluation, Optimization, PolicyGradient, Stopping, checkpoint, evaluate_policy, methods
from rlce.network import MLP
from rlce.reinforcement.methods import Method
from rlce.trainer import Progress

METHODS: dict[str, Method] = {
    "reinforce, no baseline": methods.reinforce(baseline="none", episodes=16),
    "reinforce, mean": methods.reinforce(baseline="mean", episodes=16),
    "reinforce, leave-one-out": methods.reinforce(baseline="leave-one-out", episodes=16),
    "reinforce, value": methods.reinforce(baseline="value", steps=16),
    "actor-critic": methods.actor_critic(steps=16),
    "ppo": methods.ppo(steps=16, minibatch_size=64, epochs=4),
}


def parameters(agent: PolicyGradient) -> torch.Tensor:
    return agent.trainer.flat.value.clone()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_learns_the_identity(method: Method) -> None:
    agent = PolicyGradient(
        lambda: Identity(n=3, length=8, start=2),
        method,
        hidden=(16,),
        optimization=Optimization(learning_rate=0.02),
    )
    agent.learn(12_000)
    returns, lengths = evaluate_policy(agent, lambda: Identity(n=3, length=8, start=2), episodes=20)
    assert returns.min() == 8.0
    assert set(lengths) == {8}


def value_at_start(method: Method) -> float:
    agent = PolicyGradient(
        lambda: LoopEnv(length=8),
        method,
        hidden=(32,),
        num_envs=4,
        optimization=Optimization(learning_rate=5e-3),
        scale_rewards=False,  # so that the value is in the task's own units
    )
    agent.learn(40_000)
    assert agent.critic is not None
    with torch.no_grad():
        return float(agent.critic(torch.eye(4)[:1]))


def test_a_time_limit_is_no_terminal_state() -> None:
    """Reward 1 for ever at γ = 0.98 is worth 50, whatever the limit of 8 steps; and not without the bootstrap."""
    method = methods.ppo(discount=0.98, steps=32, epochs=4, minibatch_size=64)
    assert value_at_start(method) == pytest.approx(50.0, abs=1.0)

    def truncation_as_termination(experience: methods.Experience) -> methods.Credit:
        return method.credit(experience._replace(terminated=experience.done))

    wrong = value_at_start(dataclasses.replace(method, credit=truncation_as_termination))
    assert wrong < sum(0.98**k for k in range(8))


@pytest.mark.parametrize("method", [METHODS["reinforce, leave-one-out"], METHODS["ppo"]], ids=["episodes", "steps"])
def test_the_same_seed_gives_bit_equal_parameters(method: Method) -> None:
    first, again, other = (PolicyGradient("CartPole-v1", method, seed=seed).learn(2_000) for seed in (3, 3, 4))
    assert torch.equal(parameters(first), parameters(again))
    assert not torch.equal(parameters(first), parameters(other))


def test_global_generators_are_neither_read_nor_advanced() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = PolicyGradient("CartPole-v1", seed=0).learn(600)
    first.predict(np.zeros(4, np.float32))
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(parameters(first), parameters(PolicyGradient("CartPole-v1", seed=0).learn(600)))


def test_learning_in_two_calls_is_learning_in_one() -> None:
    optimization = Optimization(learning_rate=1e-3, schedule="linear", schedule_timesteps=4_096)
    method = methods.ppo(steps=32)

    def agent() -> PolicyGradient:
        return PolicyGradient(lambda: Identity(n=3), method, num_envs=8, optimization=optimization)

    whole, parts = agent().learn(2_048), agent()
    parts.learn(parts_first := 1_024)
    assert parts.steps < 1_024 + 8 * 32
    parts.learn(2_048 - parts_first - (parts.steps - parts_first) if parts.steps < 2_048 else 1)
    while parts.steps < whole.steps:
        parts.learn(1)
    assert parts.steps == whole.steps
    assert torch.equal(parameters(whole), parameters(parts))


def learning_rates(agent: PolicyGradient, steps: int) -> list[float]:
    rates: list[float] = []
    agent.learn(steps, callback=lambda progress: rates.append(progress.scalars["train/learning_rate"]))
    return rates


def test_each_call_has_a_schedule_of_its_own(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"method": methods.ppo(steps=32, epochs=1), "num_envs": 8, "hidden": (4,)}
    linear = Optimization(learning_rate=1e-3, schedule="linear", floor=0.1)
    agent = PolicyGradient("CartPole-v1", optimization=linear, **settings)
    first = learning_rates(agent, 1_000)
    assert first[0] == 1e-3
    assert 1e-4 < first[-1] < 4e-4
    assert all(later < earlier for earlier, later in itertools.pairwise(first))
    assert learning_rates(agent, 1_000)[0] == 1e-3
    agent.save(tmp_path / "a")
    assert learning_rates(PolicyGradient.load(tmp_path / "a"), 1_000)[0] == 1e-3


def test_schedule_timesteps_count_over_calls_and_files_and_their_end_is_told_once(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"method": methods.ppo(steps=32, epochs=1), "num_envs": 8, "hidden": (4,)}
    linear = Optimization(learning_rate=1e-3, schedule="linear", floor=0.1, schedule_timesteps=2_000)
    agent = PolicyGradient("CartPole-v1", optimization=linear, **settings)
    first = learning_rates(agent, 1_000)
    agent.save(tmp_path / "a")
    again = PolicyGradient.load(tmp_path / "a")
    second = learning_rates(again, 1_500)
    done = agent.steps / 2_000
    assert second[0] == pytest.approx(1e-3 * (1.0 - 0.9 * done))
    assert second[0] < first[-1]
    assert second[-1] == pytest.approx(1e-4)
    with pytest.warns(UserWarning, match="schedule_timesteps=2000 is over .* rate stays at 0.0001") as caught:
        again.learn(300)
    assert [Path(warning.filename).name for warning in caught] == [Path(__file__).name]
    assert learning_rates(again, 300)[0] == pytest.approx(1e-4)  # and no second warning, which would be an error


def test_a_schedule_that_is_a_function_must_be_passed_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"method": methods.ppo(steps=32, epochs=1), "num_envs": 8, "hidden": (4,)}
    agent = PolicyGradient("CartPole-v1", optimization=Optimization(schedule=lambda done: 1.0 - done), **settings)
    agent.learn(300)
    agent.save(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a")
    seen = np.ones(4, np.float32)
    assert loaded.predict(seen, deterministic=True) == agent.predict(seen, deterministic=True)
    with pytest.raises(ValueError, match="optimization: its schedule is a function, which the file does not hold"):
        loaded.learn(300)
    loaded.save(tmp_path / "b")
    assert PolicyGradient.load(tmp_path / "b").steps == agent.steps


@pytest.mark.parametrize("count", [4, 6])
def test_finished_episodes_give_equal_gradients_in_all_autoreset_modes(count: int) -> None:
    method = methods.reinforce(baseline="leave-one-out", episodes=count)

    def stepped(mode: AutoresetMode) -> torch.Tensor:
        envs = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 4, autoreset_mode=mode)
        sgd = Optimization("sgd", learning_rate=0.1, momentum=0.0)
        agent = PolicyGradient(envs, method, seed=5, optimization=sgd)
        agent.learn(300)
        envs.close()
        return parameters(agent)

    results = [stepped(mode) for mode in AutoresetMode]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_evaluation_during_training_keeps_the_best_and_changes_nothing() -> None:
    settings: dict[str, Any] = {"method": methods.ppo(steps=32), "num_envs": 16, "seed": 1}
    plain = PolicyGradient("CartPole-v1", **settings).learn(8_000)
    watched = PolicyGradient("CartPole-v1", **settings, evaluation=Evaluation(every=1_000, episodes=10))
    seen: list[float] = []

    def remember(progress: Progress) -> None:
        if "eval/mean_reward" in progress.scalars:
            seen.append(progress.scalars["eval/mean_reward"])

    watched.learn(8_000, callback=remember)
    assert torch.equal(parameters(plain), parameters(watched))
    assert len(seen) == 8
    assert watched.trainer.best is not None
    assert watched.restore_best() == max(seen)
    # The parameters really are those of that evaluation.
    best = watched.trainer.best[1]["module.policy.layers.0.weight"]
    assert isinstance(watched.policy, MLP)
    assert torch.equal(watched.policy.layers[0].weight, best)


def test_the_best_policy_comes_back_with_its_statistics() -> None:
    agent = PolicyGradient(
        "CartPole-v1", normalize_observations=True, evaluation=Evaluation(every=256, episodes=4), num_envs=8
    )
    seen: dict[float, int] = {}

    def remember(progress: Progress) -> None:
        assert agent.normalizer is not None
        if "eval/mean_reward" in progress.scalars:
            seen.setdefault(progress.scalars["eval/mean_reward"], agent.normalizer.count)

    agent.learn(6_000, callback=remember)
    assert agent.normalizer is not None
    best = agent.restore_best()
    assert best == max(seen)
    assert agent.normalizer.count == seen[best]


def test_the_best_policy_is_kept_in_the_file(tmp_path: Path) -> None:
    """After `load` the last policy acts; the best comes back with value and statistics, and stays the one to beat."""
    settings: dict[str, Any] = {"method": methods.ppo(steps=32), "hidden": (8,), "num_envs": 4, "scale_rewards": True}
    agent = PolicyGradient(
        "CartPole-v1", normalize_observations=True, evaluation=Evaluation(every=128, episodes=2), **settings
    )
    agent.learn(1_000)
    assert agent.trainer.best is not None
    # The best so far came early; nothing in the next calls may beat it.
    agent.trainer.best = 1e6, agent.trainer.best[1]
    agent.save(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a")
    last = parameters(agent)
    assert torch.equal(parameters(loaded), last)
    loaded.learn(300)
    loaded.save(tmp_path / "b")
    again = PolicyGradient.load(tmp_path / "b")
    assert torch.equal(parameters(again), parameters(loaded))
    assert agent.restore_best() == again.restore_best() == 1e6
    assert torch.equal(parameters(again), parameters(agent))
    assert not torch.equal(parameters(again), last)
    assert agent.normalizer is not None
    assert again.normalizer is not None
    assert agent.normalizer.count == again.normalizer.count > 0
    np.testing.assert_array_equal(agent.normalizer.mean, again.normalizer.mean)
    other_task = PolicyGradient.load(tmp_path / "a", env="CartPole-v1")
    other_task.learn(300)
    assert other_task.restore_best() < 1e6


def test_load_takes_optimization_and_number_of_environments(tmp_path: Path) -> None:
    agent = PolicyGradient("CartPole-v1", hidden=(8,), num_envs=4).learn(128)
    agent.trainer.plateau_factor = 0.1
    agent.save(tmp_path / "a")
    assert PolicyGradient.load(tmp_path / "a").trainer.plateau_factor == 0.1
    constant = Optimization(learning_rate=0.125)
    loaded = PolicyGradient.load(tmp_path / "a", optimization=constant, num_envs=2)
    assert (loaded.optimization, loaded.num_envs) == (constant, 2)
    for name, moment in agent.trainer.optimizer.state.items():
        assert torch.equal(moment, loaded.trainer.optimizer.state[name])
    assert set(learning_rates(loaded, 64)) == {0.125}
    assert loaded._collector is not None
    assert loaded._collector.environments.n == 2
    loaded.save(tmp_path / "b")
    assert PolicyGradient.load(tmp_path / "b").optimization == constant
    with pytest.raises(ValueError, match="num_envs must be"):
        PolicyGradient.load(tmp_path / "a", num_envs=0)
    with pytest.raises(ValueError, match=r"env_kwargs: they belong to env; pass both, got \{'max_episode_steps': 9\}"):
        PolicyGradient.load(tmp_path / "a", env_kwargs={"max_episode_steps": 9})


def test_a_loaded_agent_is_evaluated_when_the_next_evaluation_is_due(tmp_path: Path) -> None:
    def evaluated_at(agent: PolicyGradient, steps: int) -> list[int]:
        found: list[int] = []

        def callback(progress: Progress) -> None:
            if "eval/mean_reward" in progress.scalars:
                found.append(progress.step)

        agent.learn(steps, callback=callback)
        return found

    method = methods.ppo(steps=25, epochs=1)
    agent = PolicyGradient("CartPole-v1", method, num_envs=4, evaluation=Evaluation(every=1_000, episodes=1), seed=0)
    (first,) = evaluated_at(agent, 1_100)
    assert 1_000 <= first < 1_100 <= agent.steps
    agent.save(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a")
    assert evaluated_at(loaded, 500) == evaluated_at(agent, 500) == []
    assert len(evaluated_at(loaded, 500)) == len(evaluated_at(agent, 500)) == 1


def test_stop_conditions_and_callback() -> None:
    agent = PolicyGradient("CartPole-v1", num_envs=4, steps=32, evaluation=Evaluation(every=256, episodes=2))
    agent.learn(50_000, stopping=Stopping(target=1.0))
    assert agent.steps < 1_000
    agent = PolicyGradient("CartPole-v1")
    agent.learn(50_000, callback=lambda progress: progress.rounds >= 3)
    assert agent.trainer.progress.rounds == 3


# ------------------------------------------------------------------------------------------------------ saving, loading


def test_a_saved_agent_acts_the_same_without_its_environment(tmp_path: Path) -> None:
    agent = PolicyGradient(
        "CartPole-v1", normalize_observations=True, scale_rewards=True, hidden=(16, 8), activation="prelu"
    ).learn(3_000)
    agent.save(tmp_path / "agent.safetensors")
    loaded = PolicyGradient.load(tmp_path / "agent.safetensors")
    observations = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    for deterministic in (True, False):
        generators = [np.random.default_rng(1), np.random.default_rng(1)]
        one, other = (
            a.predict(observations, deterministic, generator=g)
            for a, g in zip((agent, loaded), generators, strict=True)
        )
        np.testing.assert_array_equal(one, other)
    assert loaded.normalizer is not None
    assert agent.normalizer is not None
    assert 0 < loaded.normalizer.count == agent.normalizer.count < agent.steps  # the last round's are not in yet
    assert loaded.steps == agent.steps
    assert [p.name for p in tmp_path.iterdir()] == ["agent.safetensors"]


def test_a_loaded_agent_learns_on(tmp_path: Path) -> None:
    agent = PolicyGradient("CartPole-v1", num_envs=4).learn(1_000)
    agent.save(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a")
    assert torch.equal(parameters(agent), parameters(loaded))
    for name, moment in agent.trainer.optimizer.state.items():
        assert torch.equal(moment, loaded.trainer.optimizer.state[name])
    loaded.learn(1_000)
    assert loaded.steps >= agent.steps + 1_000
    assert loaded.trainer.progress.scalars["train/learning_rate"] > 2.5e-4  # a schedule of its own


def test_a_loaded_agent_knows_how_far_its_momentum_has_risen(tmp_path: Path) -> None:
    optimization = Optimization("sgd", learning_rate=1e-3, momentum_schedule="rising", nesterov=True)
    agent = PolicyGradient("CartPole-v1", num_envs=4, optimization=optimization).learn(1_000)
    agent.save(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a")
    assert loaded.optimization == optimization
    count = int(loaded.trainer.optimizer.state["step"])
    assert count == agent.trainer.progress.updates == loaded.trainer.progress.updates > 0
    loaded.learn(1_000)
    assert loaded.trainer.optimizer.state["step"].item() == loaded.trainer.progress.updates > count


def test_what_json_cannot_name_must_be_passed_again(tmp_path: Path) -> None:
    def factory(n_inputs: int, n_outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n_inputs, 8), nn.ReLU(), nn.Linear(8, n_outputs))

    base = methods.actor_critic()
    mine = dataclasses.replace(base, name="mine", weight=lambda a, now, then: a.sign(), arguments=None)
    agent = PolicyGradient(lambda: Identity(n=3), mine, network=factory).learn(300)
    agent.save(tmp_path / "a")
    with pytest.raises(ValueError, match="network: .* pass its factory again"):
        PolicyGradient.load(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a", network=factory)
    assert loaded.predict(1, deterministic=True) == agent.predict(1, deterministic=True)
    with pytest.raises(ValueError, match=r"method: 'mine' is not the library's own.*pass it to load\(method="):
        loaded.learn(10)
    loaded = PolicyGradient.load(tmp_path / "a", network=factory, method=mine)
    with pytest.raises(ValueError, match="env: .* pass env"):
        loaded.learn(10)
    loaded = PolicyGradient.load(tmp_path / "a", env=lambda: Identity(n=3), network=factory, method=mine)
    assert loaded.learn(10).steps > agent.steps
    with pytest.raises(ValueError, match="observation_space"):
        PolicyGradient.load(tmp_path / "a", env="CartPole-v1", network=factory, method=mine).learn(10)


def test_a_file_s_environment_is_shown_before_it_is_made(tmp_path: Path) -> None:
    short = {"max_episode_steps": 9}
    PolicyGradient("CartPole-v1", env_kwargs=short, num_envs=2).save(tmp_path / "a")
    loaded = PolicyGradient.load(tmp_path / "a")
    shown = r"learn makes the environment that the file names: 'CartPole-v1' with env_kwargs \{'max_episode_steps': 9\}"
    with pytest.raises(UserWarning, match=shown):  # an error in these tests, so that nothing is made after it
        loaded.learn(1)
    assert loaded.vectorization == "not made yet"
    with pytest.warns(UserWarning, match=shown):
        loaded.learn(1)
    PolicyGradient.load(tmp_path / "a", env="CartPole-v1", env_kwargs=short).learn(1)  # the caller's own: no warning
    config, tensors = checkpoint.load(tmp_path / "a", "PolicyGradient")
    config["env"], config["settings"]["env_kwargs"] = "some.module:CartPole-v1", {}  # would import a module
    checkpoint.save(tmp_path / "b", "PolicyGradient", config, tensors)
    with pytest.raises(ValueError, match=r"names 'some.module:CartPole-v1', which would import .*'some.module'.*env="):
        PolicyGradient.load(tmp_path / "b").learn(1)
    PolicyGradient("CartPole-v1", evaluation=Evaluation(every=1)).save(tmp_path / "c")
    config, tensors = checkpoint.load(tmp_path / "c", "PolicyGradient")
    config["evaluation"]["env"] = "some.module:CartPole-v1"  # evaluating would import it
    checkpoint.save(tmp_path / "d", "PolicyGradient", config, tensors)
    with pytest.raises(ValueError, match=r"names 'some.module:CartPole-v1', which would import .*evaluation="):
        PolicyGradient.load(tmp_path / "d").learn(1)
    PolicyGradient.load(tmp_path / "d", evaluation=Evaluation(every=1)).learn(1)  # the caller's own: no warning


def test_the_same_seed_fixes_a_network_factory_too() -> None:
    def factory(n_inputs: int, n_outputs: int) -> nn.Module:
        return nn.Linear(n_inputs, n_outputs)

    one, other = (PolicyGradient("CartPole-v1", network=factory, seed=2) for _ in range(2))
    assert torch.equal(parameters(one), parameters(other))


# --------------------------------------------------------------------------------------------------------------- acting


class Nested(gymnasium.Env[dict[str, Any], np.int64]):
    """Rewards the action that equals the discrete part of a Dict observation."""

    observation_space = gymnasium.spaces.Dict(
        {
            "which": gymnasium.spaces.Discrete(2, start=1),
            "pair": gymnasium.spaces.Tuple([gymnasium.spaces.MultiBinary(2), gymnasium.spaces.Box(0, 1, (2, 1))]),
        }
    )
    action_space = gymnasium.spaces.Discrete(2, start=1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.state = self.observation_space.sample()
        return self.state, {}

    def step(self, action: np.int64) -> Any:
        assert self.action_space.contains(action)
        reward = float(action == self.state["which"])
        self.state = self.observation_space.sample()
        return self.state, reward, True, False, {}


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_structured_observations_in_every_autoreset_mode(mode: AutoresetMode) -> None:
    envs = SyncVectorEnv([Nested] * 4, autoreset_mode=mode)
    agent = PolicyGradient(envs, "ppo", hidden=(16,), optimization=Optimization(learning_rate=0.01))
    agent.learn(4_000)
    assert evaluate_policy(agent, Nested, episodes=50).returns.mean() == 1.0
    single = Nested()
    observation, _ = single.reset(seed=0)
    action = agent.predict(observation, deterministic=True)
    assert single.action_space.contains(action)
    assert action == observation["which"]


def test_predict_takes_one_observation_or_a_batch() -> None:
    agent = PolicyGradient("CartPole-v1")
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(agent.predict(observation))
    assert agent.predict(np.stack([observation] * 3)).shape == (3,)
    with pytest.raises(ValueError, match=r"observation must have shape \[4\]"):
        agent.predict(np.zeros(3, np.float32))


# ------------------------------------------------------------------------------------------------------------ bad input


class TwoActions(Identity):
    """An action space that no head serves."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(3)])


def test_bad_input_is_refused_early(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no environment 'NoSuchTask-v0'"):
        PolicyGradient("NoSuchTask-v0")
    with pytest.raises(ValueError, match="method must be one of reinforce, actor_critic, ppo"):
        PolicyGradient("CartPole-v1", method="q-learning")
    with pytest.raises(TypeError, match="no head serves the action space Tuple.*served: Discrete, MultiDiscrete"):
        PolicyGradient(TwoActions)
    with pytest.raises(ValueError, match="rescale needs a Box"):
        PolicyGradient("CartPole-v1", rescale_actions=True)
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, got -1"):
        PolicyGradient("CartPole-v1", seed=-1)
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(ValueError, match="log_dir: cannot create the directory"):
        PolicyGradient("CartPole-v1", log_dir=occupied / "run")
    with pytest.raises(ValueError, match="evaluation.env is needed"):
        PolicyGradient(SyncVectorEnv([Identity]), evaluation=Evaluation())
    with pytest.raises(ValueError, match="total_timesteps must be a number of at least 1, got 0"):
        PolicyGradient("CartPole-v1").learn(0)
    with pytest.raises(ValueError, match="nothing was evaluated"):
        PolicyGradient("CartPole-v1").restore_best()
    with pytest.raises(FileNotFoundError, match="no file"):
        PolicyGradient.load(tmp_path / "nothing")


def test_one_row_and_constant_advantages_are_finite() -> None:
    method = methods.actor_critic(steps=1, standardize=True)
    agent = PolicyGradient(Identity, method, num_envs=1).learn(20)
    assert parameters(agent).isfinite().all()


def test_equal_returns_give_no_gradient_with_a_group_baseline() -> None:
    class Constant(Identity):
        def step(self, action: Any) -> Any:
            observation, _, terminated, truncated, info = super().step(action)
            return observation, 1.0, terminated, truncated, info

    for baseline in ("mean", "leave-one-out"):
        agent = PolicyGradient(Constant, methods.reinforce(baseline=baseline, episodes=4, entropy_weight=0.0))
        before = parameters(agent)
        agent.learn(64)
        assert agent.trainer.progress.scalars["train/gradient_norm"] == 0.0
        assert torch.equal(parameters(agent), before)


def test_statistics_take_every_observation_once() -> None:
    """A round of one step in one environment falls on a ghost step alone, again and again."""
    agent = PolicyGradient(
        lambda: IdentityBox(length=2), methods.actor_critic(steps=1), num_envs=1, normalize_observations=True
    )
    agent.learn(20)
    assert agent.normalizer is not None
    assert agent.normalizer.count + agent._unseen.count == agent.steps


def test_statistics_change_when_the_observations_have_doubled() -> None:
    """Otherwise the inputs shift in every round, to the end of training."""
    agent = PolicyGradient(lambda: IdentityBox(length=5), methods.actor_critic(steps=4), num_envs=3)
    seen: list[tuple[int, float]] = []  # steps before the round, and the count that was in force in it
    before = [0]

    def watch(progress: Progress) -> None:
        assert agent.normalizer is not None
        seen.append((before[0], agent.normalizer.count))
        before[0] = progress.step

    agent.learn(300, callback=watch)
    assert seen[:2] == [(0, 0), (seen[1][0], seen[1][0])]  # all of the first round
    assert all(steps - count < count for steps, count in seen[1:])  # not too late
    counts = sorted({count for _, count in seen[1:]})
    assert all(later >= 2 * earlier for earlier, later in itertools.pairwise(counts))  # not too early
    assert len(counts) > 3
