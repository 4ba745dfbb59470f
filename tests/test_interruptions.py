"""After Ctrl-C, an environment's error or a dead worker, `learn` begins fresh episodes and reports right returns."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from envs.identity import Identity
from rlce import PolicyGradient, evaluate_policy, methods
from rlce.reinforcement.environments import Environments
from rlce.reinforcement.rollout import Collector
from rlce.reinforcement.spaces import Actions
from rlce.trainer import Progress

METHODS = {
    "steps": methods.actor_critic(steps=16),
    "episodes": methods.reinforce(episodes=4),
}


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise a TimeoutError in place of hanging."""

    def late(*_: object) -> None:
        raise TimeoutError(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Fails(gymnasium.Env[np.ndarray, np.int64]):
    """Episodes of 7 to 20 steps with reward 1 a step, so that return = length. Step ``fails_at`` of a copy fails.

    ``failure`` is an exception to raise, or an exit code to end the process with.
    """

    observation_space = gymnasium.spaces.Box(0.0, 20.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fails_at: int, failure: type[BaseException] | int = RuntimeError) -> None:
        self.fails_at, self.failure, self.steps = fails_at, failure, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(7, 21))
        return np.array([self.left], np.float32), {}

    def step(self, action: np.int64) -> Any:
        self.steps += 1
        if self.steps == self.fails_at:
            if isinstance(self.failure, int):
                os._exit(self.failure)
            raise self.failure("the environment failed")
        self.left -= 1
        return np.array([self.left], np.float32), 1.0, self.left == 0, False, {}


def fails_once(flag: Path, failure: type[BaseException] | int) -> Callable[[], Fails]:
    """A factory: the first environment made in worker 1 fails at its step 40, all others never."""

    def factory() -> Fails:
        fails = current_process().name.endswith("-1") and not flag.exists()
        if fails:
            flag.touch()
        return Fails(40 if fails else 0, failure)

    return factory


def assert_return_is_length(agent: PolicyGradient, steps: int = 600) -> None:
    before = agent.steps
    agent.learn(steps)
    assert agent.steps >= before + steps
    assert agent._collector is not None
    finished = agent._collector.finished
    assert 20 < len(finished) < 100
    assert all(total == length for total, length in finished)
    assert all(7 <= length <= 20 for _, length in finished)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_episodes_are_whole_after_a_failure_in_a_round(
    mode: AutoresetMode, method: methods.Method, failure: type[BaseException]
) -> None:
    # Step 40 of the last copy falls into the middle of a round and of an episode.
    envs = SyncVectorEnv([lambda: Fails(0)] * 3 + [lambda: Fails(40, failure)], autoreset_mode=mode)
    agent = PolicyGradient(envs, method, hidden=(4,))
    with pytest.raises(failure, match="the environment failed"):
        agent.learn(2_000)
    counted = agent.steps
    assert counted == agent.trainer.progress.step  # the steps of the round that failed do not count
    assert_return_is_length(agent)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_episodes_go_on_after_an_interrupt_between_rounds(method: methods.Method) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    agent = PolicyGradient(lambda: Fails(0), method, hidden=(4,), num_envs=4)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            agent.learn(2_000, callback=interrupt)
    assert agent.trainer.progress.rounds == 3
    assert agent.steps == agent.trainer.progress.step > 0
    assert_return_is_length(agent)


@pytest.mark.parametrize("at", [7, 8, 13, 14, 20, 33])
def test_cartpole_s_returns_are_its_lengths_wherever_ctrl_c_falls(at: int) -> None:
    """Reward 1 a step. The interrupt comes while the policy acts, in rounds of 7 steps."""
    envs = gymnasium.make_vec("CartPole-v1", 4, vectorization_mode="vector_entry_point")
    collector = Collector(Environments(envs), Actions(envs.single_action_space), np.random.SeedSequence(at))
    calls = iter(range(10**6))

    def act(observation: np.ndarray) -> np.ndarray:
        if next(calls) == at:
            raise KeyboardInterrupt
        return np.zeros((len(observation), 2))

    collector.steps(act, 7)
    for _ in range(4):
        try:
            collector.steps(act, 7)
        except KeyboardInterrupt:
            break
    for _ in range(20):
        collector.steps(act, 7)
    assert len(collector.finished) > 5
    assert all(total == length for total, length in collector.finished)


def test_scaled_rewards_begin_anew_with_the_episodes() -> None:
    """The running sum of rewards must not go on from an episode that was given up."""
    first = PolicyGradient(SyncVectorEnv([lambda: Fails(37)]), METHODS["steps"], hidden=(4,), scale_rewards=True)
    with pytest.raises(RuntimeError, match="the environment failed"):
        first.learn(1_000)
    scale = first.return_scale
    assert scale is not None
    assert scale._so_far is not None
    first.learn(16)
    assert first._collector is not None
    # γ = 0.99 and reward 1: the sum so far is that of the running episode alone, which is at most 20 steps old.
    age = int(first._collector._time[0])
    assert scale._so_far[0] == pytest.approx((1 - 0.99**age) / 0.01)


def test_returns_are_exact_beyond_float32() -> None:
    """2^24 + 1 is no float32: it would become 16,777,216."""

    class Rich(Identity):
        def step(self, action: Any) -> Any:
            observation, _, terminated, truncated, info = super().step(action)
            return observation, 16_777_217.0, terminated, truncated, info

    for method in METHODS.values():
        agent = PolicyGradient(lambda: Rich(n=2, length=1), method, hidden=(4,), num_envs=4).learn(64)
        assert agent.trainer.progress.scalars["rollout/ep_rew_mean"] == 16_777_217.0
        assert evaluate_policy(agent, lambda: Rich(n=2, length=1), 3).returns.tolist() == [16_777_217.0] * 3


def test_a_rich_episode_leaves_nothing_in_the_returns_of_the_next_ones() -> None:
    """One sum over a whole rollout would: 1e17 + 1 is 1e17."""

    class Cycle(Identity):
        episodes = 0

        def step(self, action: Any) -> Any:
            observation, _, terminated, truncated, info = super().step(action)
            reward = 1e16 if self.episodes % 3 == 0 else 1.0
            self.episodes += terminated or truncated
            return observation, reward, terminated, truncated, info

    for method in METHODS.values():
        agent = PolicyGradient(lambda: Cycle(n=2, length=10), method, hidden=(4,), num_envs=1).learn(90)
        assert agent._collector is not None
        finished = list(agent._collector.finished)[:9]
        assert finished == [(1e17, 10), (10.0, 10), (10.0, 10)] * 3


# ------------------------------------------------------------------------------------------------------ dead workers

REMEDY = r"env: the worker process of environment 1 ended with exit code 7.*make"


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_dead_worker_is_named_and_learning_goes_on_in_new_environments(
    method: methods.Method, tmp_path: Path
) -> None:
    with at_most(60):
        factory = fails_once(tmp_path / "failed", 7)
        agent = PolicyGradient(factory, method, hidden=(4,), num_envs=2, vectorization="async")
        with pytest.raises(RuntimeError, match=REMEDY):
            agent.learn(2_000)
        agent.close()
        assert_return_is_length(agent)
        agent.close()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium's report of the worker's error
def test_an_error_in_a_worker_is_raised_and_learning_goes_on_in_new_environments(tmp_path: Path) -> None:
    with at_most(60):
        factory = fails_once(tmp_path / "failed", ZeroDivisionError)
        agent = PolicyGradient(factory, METHODS["steps"], hidden=(4,), num_envs=2, vectorization="async")
        with pytest.raises(ZeroDivisionError, match="the environment failed"):
            agent.learn(2_000)
        assert_return_is_length(agent)
        agent.close()


def with_workers() -> PolicyGradient:
    return PolicyGradient(lambda: Fails(0), METHODS["steps"], hidden=(4,), num_envs=2, vectorization="async")


def its_workers(agent: PolicyGradient) -> Any:
    """The vector environment whose processes a test interrupts or kills."""
    assert agent._collector is not None
    return agent._collector.environments.envs


def test_workers_interrupted_while_they_step_are_replaced() -> None:
    with at_most(60):
        agent = with_workers()
        agent.learn(64)
        envs = its_workers(agent)
        envs.step_async(np.zeros(2, np.int64))  # as if Ctrl-C had come while it waited
        with pytest.raises(gymnasium.error.AlreadyPendingCallError):
            agent.learn(64)
        assert_return_is_length(agent)
        agent.close()


def test_ctrl_c_that_reaches_the_workers_between_rounds() -> None:
    """The terminal interrupts all processes; the workers' interrupts must not come out of the next call."""
    with at_most(60):
        agent = with_workers()

        def interrupt(progress: Progress) -> None:
            envs = its_workers(agent)
            for process in envs.processes:
                os.kill(process.pid, signal.SIGINT)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            agent.learn(64, callback=interrupt)
        assert_return_is_length(agent)
        agent.close()


def test_a_worker_that_dies_between_two_calls_is_noticed() -> None:
    with at_most(60):
        agent = with_workers()
        agent.learn(64)
        envs = its_workers(agent)
        envs.processes[1].kill()
        envs.processes[1].join()
        agent.close()  # used to raise BrokenPipeError
        assert_return_is_length(agent)
        envs = its_workers(agent)
        envs.processes[0].kill()
        envs.processes[0].join()
        with pytest.raises(RuntimeError, match="worker process of environment 0 ended with exit code -9"):
            agent.learn(64)
        assert_return_is_length(agent)
        agent.close()


def test_a_dead_worker_of_given_environments_is_named_and_they_can_be_closed() -> None:
    with at_most(60):
        envs = AsyncVectorEnv([lambda: Fails(0), lambda: Fails(40, 7)])
        agent = PolicyGradient(envs, METHODS["steps"], hidden=(4,))
        with pytest.raises(RuntimeError, match=REMEDY):
            agent.learn(2_000)
        with pytest.raises(gymnasium.error.ClosedEnvironmentError):  # what was given cannot be made again
            agent.learn(2_000)
        agent.close()
        envs.close()


def test_a_dead_worker_is_named_in_an_evaluation() -> None:
    with at_most(60):
        agent = PolicyGradient(lambda: Fails(0), hidden=(4,))
        envs = AsyncVectorEnv([lambda: Fails(0), lambda: Fails(40, 7)])
        with pytest.raises(RuntimeError, match=REMEDY):
            evaluate_policy(agent, envs, 100)
        envs.close()


def test_a_worker_that_dies_while_it_starts_is_explained() -> None:
    class Stillborn(Fails):
        def __init__(self) -> None:
            super().__init__(0)
            if os.getpid() != test_process:
                os._exit(7)

    test_process = os.getpid()
    with at_most(60), pytest.raises(RuntimeError, match='env: a worker process ended .* vectorization="sync"'):
        PolicyGradient(Stillborn, hidden=(4,), num_envs=2, vectorization="async")


def test_a_closed_agent_learns_on_in_new_environments() -> None:
    for vectorization in ("sync", "async"):
        with at_most(60):
            agent = PolicyGradient(lambda: Fails(0), METHODS["steps"], num_envs=2, vectorization=vectorization)
            agent.learn(64)
            agent.close()
            agent.close()
            assert_return_is_length(agent)
            agent.close()
