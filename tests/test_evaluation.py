"""Evaluation: unbiased over vector environments, and the same for a seed."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlce import PolicyGradient, evaluate_policy
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


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="episodes must be a whole number of at least 1, got 0"):
        evaluate_policy(Anything(), "CartPole-v1", 0)
    with pytest.raises(ValueError, match="no environment"):
        evaluate_policy(Anything(), "NoSuchTask-v0")
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Evaluation(every=0)
