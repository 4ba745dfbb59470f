"""The callback sees which episodes ended, with their last info, whatever the vectorisation; what it adds is logged."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlce import Evaluation, PolicyGradient, Progress, methods
from rlce.reinforcement.environments import info_of
from rlce.reinforcement.rollout import Episode


class Quiz(gymnasium.Env[np.ndarray, int]):
    """Three steps; the answer 1 earns a point; two points are a success. Its last info tells all about the episode."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, success: bool = True) -> None:
        self.success = success

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.answers: list[int] = []
        return np.zeros(1, np.float32), {"fresh": True, "path": np.full(3, -1)}

    def step(self, action: int) -> Any:
        self.answers.append(int(action))
        info: dict[str, Any] = {"path": np.array([*self.answers, -1, -1][:3]), "nested": {"points": sum(self.answers)}}
        done = len(self.answers) == 3
        if done:
            info |= {"note": f"answers {self.answers}"}
            if self.success:
                info["is_success"] = sum(self.answers) >= 2
        return np.zeros(1, np.float32), float(action), done, False, info


def method() -> methods.Method:
    return methods.ppo(steps=20)


def ended_in(agent: PolicyGradient, steps: int) -> list[Episode]:
    seen: list[Episode] = []

    def record(progress: Progress) -> None:
        seen.extend(progress.episodes)

    agent.learn(steps, callback=record)
    return seen


def check(episodes: list[Episode], *more: str) -> None:
    assert len(episodes) > 20
    for total, length, info in episodes:
        assert set(info) == {"path", "nested", "note", "is_success", *more}  # of the last step, not of the next reset
        assert type(info["is_success"]) is bool
        assert (length, total) == (3, info["path"].sum())
        assert info["nested"] == {"points": total}
        assert info["note"] == f"answers {info['path'].tolist()}"
        assert info["is_success"] == (total >= 2)
        assert info["path"].base is None


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_callback_sees_every_episode_with_its_last_info(mode: AutoresetMode) -> None:
    agent = PolicyGradient(SyncVectorEnv([Quiz] * 3, autoreset_mode=mode), method())
    episodes = ended_in(agent, 120)
    check(episodes)
    collector = agent._collector
    assert collector is not None
    assert [episode[:2] for episode in episodes] == list(collector.finished)
    ghosts = len(episodes) if mode is AutoresetMode.NEXT_STEP else 0
    assert 3 * len(episodes) <= agent.steps <= 3 * len(episodes) + 2 * 3
    assert agent.steps + ghosts - 3 <= 3 * 20 * agent.trainer.progress.rounds


def test_whole_episodes_and_their_infos() -> None:
    agent = PolicyGradient(Quiz, methods.reinforce(episodes=8), num_envs=3)
    episodes = ended_in(agent, 100)
    check(episodes)
    assert len(episodes) == 8 * agent.trainer.progress.rounds


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_workers_and_wrappers(mode: AutoresetMode) -> None:
    envs: VectorEnv[Any, Any, Any] = AsyncVectorEnv([Quiz] * 2, autoreset_mode=mode)
    try:
        check(ended_in(PolicyGradient(envs, method()), 80))
    finally:
        envs.close()
    if mode is AutoresetMode.NEXT_STEP:
        check(ended_in(PolicyGradient(DictInfoToList(SyncVectorEnv([Quiz] * 2)), method()), 80))
        check(ended_in(PolicyGradient(RecordEpisodeStatistics(SyncVectorEnv([Quiz] * 2)), method()), 80), "episode")


def test_a_vector_class_with_empty_infos() -> None:
    episodes = ended_in(PolicyGradient("CartPole-v1", num_envs=4), 1_000)
    assert len(episodes) > 10
    assert all(episode.info == {} and episode.episode_return == episode.length for episode in episodes)


def test_infos_in_the_formats_of_vector_environments() -> None:
    image = np.arange(12).reshape(2, 2, 3)
    with_masks = {
        "a": np.array([1, 2]),
        "_a": np.array([False, True]),
        "_b": np.array([5, 6]),
        "inner": {"c": image, "_c": np.array([True, True])},
        "_inner": np.array([True, False]),
        "version": "1.0",
        "names": ["x", "y"],
        "three": np.arange(3),
        3: np.array([1.5, 2.5]),
    }
    first, second = info_of(with_masks, 0, 2), info_of(with_masks, 1, 2)
    np.testing.assert_array_equal(first.pop("inner")["c"], image[0])
    for found, expected in (
        (first, {"_b": 5, "names": "x", 3: 1.5}),
        (second, {"a": 2, "_b": 6, "names": "y", 3: 2.5}),
    ):
        np.testing.assert_array_equal(found.pop("three"), np.arange(3))
        assert found == {"version": "1.0", **expected}
    final = {"final_info": np.array([{"a": 1}, None], object), "a": np.array([7, 8])}
    assert info_of(final, 0, 2) == {"a": 1}
    assert info_of({"final_info": {"a": np.array([1, 0])}, "_final_info": np.array([True, False])}, 0, 2) == {"a": 1}


def test_success_rates_and_what_the_callback_adds_are_logged(tmp_path: Path) -> None:
    seen: list[Episode] = []

    def record(progress: Progress) -> None:
        seen.extend(progress.episodes)
        progress.scalars["own/points"] = float(len(seen))

    agent = PolicyGradient(
        Quiz, method(), log_dir=tmp_path, evaluation=Evaluation(every=1, episodes=10, deterministic=False)
    ).learn(800, callback=record)
    log = EventAccumulator(str(tmp_path)).Reload()
    successes = [episode.info["is_success"] for episode in seen]
    assert log.Scalars("own/points")[-1].value == len(seen)
    assert log.Scalars("rollout/success_rate")[-1].value == pytest.approx(np.mean(successes[-100:]))
    assert 0 < np.mean(successes[-100:]) < 1
    scalars = agent.trainer.progress.scalars
    # A success is two points of three, so the evaluated episodes' returns bound their rate.
    assert scalars["eval/min_reward"] <= scalars["eval/mean_reward"] <= scalars["eval/max_reward"]
    assert 0.0 <= scalars["eval/success_rate"] <= 1.0
    assert 2 * scalars["eval/success_rate"] <= scalars["eval/mean_reward"] <= 1 + 2 * scalars["eval/success_rate"]


def test_no_success_rate_where_no_info_has_one() -> None:
    agent = PolicyGradient(partial(Quiz, success=False), method(), evaluation=Evaluation(every=1, episodes=3)).learn(80)
    assert not [name for name in agent.trainer.progress.scalars if "success" in name]


def test_a_callback_that_is_interrupted_loses_no_scalars(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PolicyGradient(Quiz, method(), log_dir=tmp_path).learn(80, callback=interrupt)
    assert len(EventAccumulator(str(tmp_path)).Reload().Scalars("train/loss")) == 1


def test_a_callback_s_scalar_that_is_no_number_is_named(tmp_path: Path) -> None:
    def spoil(progress: Progress) -> None:
        progress.scalars["own/text"] = "many"  # type: ignore[assignment]

    with pytest.raises(TypeError, match="scalars to log must be numbers, got 'many' for 'own/text'"):
        PolicyGradient(Quiz, method(), log_dir=tmp_path).learn(80, callback=spoil)


def test_means_of_value_return_and_advantage_are_those_of_the_round() -> None:
    """Critic and rewards are known: V = 2 everywhere, reward 1 a step, episodes of three steps, γ = 1, λ = 0."""

    class Constant(Quiz):
        def step(self, action: int) -> Any:
            observation, _, *rest = super().step(action)
            return observation, 1.0, *rest

    chosen = methods.ppo(steps=8, discount=1.0, trace=0.0, epochs=1, standardize=True)
    agent = PolicyGradient(
        SyncVectorEnv([Constant] * 2, autoreset_mode=AutoresetMode.SAME_STEP), chosen, scale_rewards=False
    )
    assert agent.critic is not None
    for parameter in agent.critic.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(list(agent.critic.parameters())[-1], 2.0)
    scalars = agent.learn(1).trainer.progress.scalars
    # Targets: 1 + V = 3, or 1 at the end of an episode, which 2 of 8 steps are.
    assert scalars["train/value_mean"] == pytest.approx(2.0)
    assert scalars["train/return_mean"] == pytest.approx(0.75 * 3 + 0.25 * 1)
    assert scalars["train/advantage_mean"] == pytest.approx(0.5)
    assert scalars["train/n_updates"] == agent.trainer.progress.updates
    assert "train/action_std" not in scalars


def test_the_deviation_of_a_gaussian_policy_is_logged() -> None:
    agent = PolicyGradient("Pendulum-v1", methods.ppo(steps=8, epochs=1), num_envs=2)
    with torch.no_grad():
        agent.policy.log_std.fill_(np.log(0.25))
    assert agent.learn(1).trainer.progress.scalars["train/action_std"] == pytest.approx(0.25)
