"""Evaluation: unbiased over vector environments, and the same for a seed."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlce import PolicyGradient, evaluate_policy, methods
from rlce.reinforcement import evaluation
from rlce.reinforcement.evaluation import Evaluation


class ShortOrLong(gymnasium.Env[np.ndarray, np.int64]):
    """Episodes of 10 or 50 steps, with equal probability, reward 1 a step."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = int(self.np_random.choice([10, 50]))
        return np.zeros(1, np.float32), {}

    def step(self, action: np.int64) -> Any:
        self.left -= 1
        return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}


class Anything:
    def predict(
        self, observation: Any, deterministic: bool = False, *, generator: np.random.Generator | None = None
    ) -> Any:
        return np.zeros(len(observation), np.int64)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_short_episodes_are_not_favoured(mode: AutoresetMode) -> None:
    envs = SyncVectorEnv([ShortOrLong] * 16, autoreset_mode=mode)
    means = [evaluate_policy(Anything(), envs, episodes=16, seed=seed).returns.mean() for seed in range(40)]
    # The mean of 640 episodes has standard error 20/sqrt(640) = 0.8; the first 16 to finish would measure about 13.
    assert np.mean(means) == pytest.approx(30.0, abs=2.4)


@pytest.mark.parametrize("episodes", [1, 7, 16, 33])
def test_exactly_the_episodes_asked_for(episodes: int) -> None:
    returns, lengths = evaluate_policy(Anything(), SyncVectorEnv([ShortOrLong] * 4), episodes=episodes)
    assert returns.shape == lengths.shape == (episodes,)
    assert set(lengths.tolist()) <= {10, 50}
    np.testing.assert_array_equal(returns, lengths)


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_same_seed_gives_the_same_result_and_leaves_the_agent_alone(deterministic: bool) -> None:
    agent = PolicyGradient("CartPole-v1", seed=0)
    results = [evaluate_policy(agent, "CartPole-v1", 20, deterministic, seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(results[0].returns, results[1].returns)
    assert not np.array_equal(results[0].returns, results[2].returns)
    untouched = PolicyGradient("CartPole-v1", seed=0)
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_array_equal(agent.predict(observations), untouched.predict(observations))


def test_time_limits_end_episodes() -> None:
    returns, lengths = evaluate_policy(Anything(), "CartPole-v1", 5, env_kwargs={"max_episode_steps": 3})
    assert set(lengths.tolist()) == {3}
    assert set(returns.tolist()) == {3.0}


class Stuck(ShortOrLong):
    """Episodes of 3 steps, or without an end, with equal probability."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = int(self.np_random.choice([3, -1]))
        return np.zeros(1, np.float32), {}


@pytest.mark.parametrize("episodes", [1, 4, 30])
def test_an_episode_without_an_end_is_cut_and_counted(episodes: int) -> None:
    """The same in every autoreset mode; a copy's other episodes begin from a reset, not where it was cut."""
    results = []
    for mode in AutoresetMode:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results.append(
                evaluate_policy(Anything(), SyncVectorEnv([Stuck] * 4, autoreset_mode=mode), episodes, max_steps=7)
            )
        returns, lengths = results[-1]
        np.testing.assert_array_equal(returns, lengths)
        assert len(lengths) == episodes
        assert set(lengths.tolist()) <= {3, 7}
        cut = int((lengths == 7).sum())
        messages = [str(each.message) for each in caught]
        assert len(messages) == (cut > 0)
        if cut:
            assert f"{cut} of {episodes} episodes had not ended after 7 steps, were cut there" in messages[0]
            assert "max_steps sets how long to wait" in messages[0]
            assert caught[0].filename == __file__
    for result in results[1:]:  # ghost steps change the order
        np.testing.assert_array_equal(sorted(result.lengths), sorted(results[0].lengths))
    if episodes == 30:
        assert {3, 7} == set(results[0].lengths.tolist())


def test_cut_episodes_leave_the_others_their_shares() -> None:
    """Half of all episodes are short, whichever copy plays them: with 400, a deviation of 4 standard errors is 0.1."""
    with pytest.warns(UserWarning, match="were cut there"):
        lengths = evaluate_policy(Anything(), SyncVectorEnv([Stuck] * 8), episodes=400, max_steps=5).lengths
    assert np.mean(lengths == 3) == pytest.approx(0.5, abs=0.1)


def test_without_a_limit_of_the_task_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "ENOUGH_STEPS", 6)
    with pytest.warns(UserWarning, match="2 of 2 episodes had not ended after 6 steps"):
        assert set(evaluate_policy(Anything(), "CliffWalking-v1", 2).lengths.tolist()) == {6}
    limited = partial(gymnasium.wrappers.TimeLimit, Stuck(), 20)
    for env, kwargs in (("CliffWalking-v1", {"max_episode_steps": 9}), (limited, None), ("Taxi-v4", None)):
        longest = evaluate_policy(Anything(), env, 4, env_kwargs=kwargs).lengths.max()
        assert longest in (9, 20, 200)
    with pytest.warns(UserWarning, match="had not ended after 6 steps"):
        evaluate_policy(Anything(), "Taxi-v4", 1, env_kwargs={"max_episode_steps": -1})
    with pytest.warns(UserWarning, match="1 of 1 episodes had not ended after 4 steps"):
        assert evaluate_policy(Anything(), "Taxi-v4", 1, max_steps=4).lengths.tolist() == [4]


def test_evaluations_in_training_are_cut_too(tmp_path: Path) -> None:
    settings = Evaluation(every=1, episodes=2, max_steps=8)
    agent = PolicyGradient("CliffWalking-v1", methods.ppo(steps=8), num_envs=2, evaluation=settings)
    with pytest.warns(UserWarning, match="of 2 episodes had not ended after 8 steps"):
        agent.learn(16)
    assert agent.trainer.progress.scalars["eval/mean_ep_length"] == 8.0
    agent.save(tmp_path / "agent")
    assert PolicyGradient.load(tmp_path / "agent").evaluation == settings


def test_bad_input() -> None:
    for make in (lambda: evaluate_policy(Anything(), "CartPole-v1", 1, max_steps=0), lambda: Evaluation(max_steps=0)):
        with pytest.raises(ValueError, match="max_steps must be a whole number of at least 1, or None, got 0"):
            make()
    with pytest.raises(ValueError, match="episodes must be a whole number of at least 1, got 0"):
        evaluate_policy(Anything(), "CartPole-v1", 0)
    with pytest.raises(ValueError, match="no environment"):
        evaluate_policy(Anything(), "NoSuchTask-v0")
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Evaluation(every=0)
