"""Collectors: three autoreset modes must be one, ghosts must leave no trace, and no episode may be favoured."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlce.reinforcement.environments import Environments, episode_shares, make_environments
from rlce.reinforcement.rollout import ActionStreams, Collector, Rollout
from rlce.reinforcement.spaces import Actions

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]


class Countdown(gymnasium.Env[np.ndarray, int]):
    """Episodes of a random length; the observation counts up and carries the episode's length."""

    observation_space = gymnasium.spaces.Box(0.0, 1000.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2, start=5)

    def __init__(self, truncate: bool = False) -> None:
        self.truncate = truncate

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t, self.length = 0, int(self.np_random.integers(1, 9))
        return np.array([0, self.length], np.float32), {}

    def step(self, action: int) -> Any:
        assert action in (5, 6)
        self.t += 1
        end = self.t == self.length
        observation = np.array([self.t, self.length], np.float32)
        return observation, float(action), end and not self.truncate, end and self.truncate, {}


def uniform_policy(observation: np.ndarray) -> np.ndarray:
    return np.zeros((len(observation), 2))


def collector(mode: AutoresetMode, n: int = 3, seed: int = 0, **kwargs: Any) -> Collector:
    envs = SyncVectorEnv([lambda: Countdown(**kwargs)] * n, autoreset_mode=mode)
    return Collector(Environments(envs), Actions(Countdown.action_space), np.random.SeedSequence(seed))


def valid_transitions(rollout: Rollout, i: int) -> list[tuple[Any, ...]]:
    rows = np.flatnonzero(rollout.valid[:, i])
    return [tuple(np.ravel(field[t, i]).tolist() for field in rollout if field is not None) for t in rows]


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_rows_are_true_transitions(mode: AutoresetMode, truncate: bool) -> None:
    rollout = collector(mode, truncate=truncate).steps(uniform_policy, 60)
    done = (rollout.truncated if truncate else rollout.terminated) & rollout.valid
    assert not (rollout.terminated if truncate else rollout.truncated).any()
    t, length = rollout.observation[..., 0], rollout.observation[..., 1]
    following, same_length = rollout.next_observation[..., 0], rollout.next_observation[..., 1]
    valid = rollout.valid
    np.testing.assert_array_equal(following[valid], t[valid] + 1)  # the final observation, never the reset one
    np.testing.assert_array_equal(same_length[valid], length[valid])
    np.testing.assert_array_equal(done[valid], (following == length)[valid])
    np.testing.assert_array_equal(rollout.time[valid], t[valid])
    np.testing.assert_array_equal(rollout.reward[valid], rollout.action[valid] + 5)
    assert rollout.reward.dtype == np.float64
    assert set(np.unique(rollout.action[valid])) == {0, 1}
    if mode is AutoresetMode.NEXT_STEP:
        np.testing.assert_array_equal(~valid[1:], done[:-1])  # a ghost after every end, nowhere else
        assert not rollout.reward[~valid].any()
        assert not rollout.terminated[~valid].any()
    else:
        assert valid.all()


def test_three_autoreset_modes_give_the_same_valid_transitions() -> None:
    """Across refills of the action streams and several rollouts, up to the shortest."""
    streams = []
    for mode in MODES:
        gatherer = collector(mode)
        rollouts = [gatherer.steps(uniform_policy, 150) for _ in range(6)]
        streams.append([[row for rollout in rollouts for row in valid_transitions(rollout, i)] for i in range(3)])
    for i in range(3):
        shortest = min(len(stream[i]) for stream in streams)
        assert shortest > 2 * 256  # the streams were refilled
        assert streams[0][i][:shortest] == streams[1][i][:shortest] == streams[2][i][:shortest]


class Pulled(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point that the action moves; the episode is over when it is far, so actions decide on lengths."""

    observation_space = gymnasium.spaces.Box(-100.0, 100.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-0.5, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.at = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.at.copy(), {}

    def step(self, action: np.ndarray) -> Any:
        assert self.action_space.contains(action)
        self.at = self.at + action
        return self.at.copy(), float(action.sum()), bool(np.abs(self.at).max() > 2.0), False, {}


def test_three_autoreset_modes_agree_for_a_continuous_action_space() -> None:
    """The raw sample is in the record, the clipped one has moved the point."""

    def gatherer(mode: AutoresetMode) -> Collector:
        envs = SyncVectorEnv([Pulled] * 3, autoreset_mode=mode)
        return Collector(Environments(envs), Actions(Pulled.action_space), np.random.SeedSequence(0))

    def act(observation: np.ndarray) -> np.ndarray:
        return np.tile([0.2, 0.0, 0.0, -0.5], (len(observation), 1))

    streams, episodes = [], []
    for mode in MODES:
        one = gatherer(mode)
        rollouts = [one.steps(act, 150) for _ in range(4)]
        streams.append([[row for rollout in rollouts for row in valid_transitions(rollout, i)] for i in range(3)])
        episodes.append(gatherer(mode).episodes(act, 7))
    for i in range(3):
        shortest = min(len(stream[i]) for stream in streams)
        assert shortest > 256  # the streams were refilled
        assert streams[0][i][:shortest] == streams[1][i][:shortest] == streams[2][i][:shortest]
    for other in episodes[1:]:
        for field, another in zip(episodes[0], other, strict=True):
            np.testing.assert_array_equal(field, another)
    action, valid = rollouts[0].action, rollouts[0].valid
    assert action.shape == (150, 3, 2)
    assert action.dtype == np.float32
    assert action[valid].min() < -0.5
    assert action[valid].max() > 1.0
    moved = rollouts[0].next_observation - rollouts[0].observation
    np.testing.assert_allclose(moved[valid], np.clip(action, -0.5, 1.0)[valid], atol=1e-6)


def test_a_continuous_action_that_is_not_finite_is_the_policy_s_and_goes_nowhere() -> None:
    """Named where it starts, before the environment sees it."""
    envs = SyncVectorEnv([Pulled] * 2)
    gatherer = Collector(Environments(envs), Actions(Pulled.action_space), np.random.SeedSequence(0))
    calls = iter(range(100))

    def act(observation: np.ndarray) -> np.ndarray:
        outputs = np.zeros((2, 4))
        outputs[1, 0] = np.nan if next(calls) == 3 else 0.0
        return outputs

    gatherer.steps(act, 2)
    with pytest.raises(FloatingPointError, match=r"policy's action is not finite: .* in environment 1, 1 steps into"):
        gatherer.steps(act, 5)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_three_autoreset_modes_give_the_same_episodes(count: int) -> None:
    """Twice in a row: what the first call's dropped extras consumed must not matter to the second."""
    results = []
    for mode in MODES:
        gatherer = collector(mode)
        results.append([gatherer.episodes(uniform_policy, count) for _ in range(2)])
    for first, *others in zip(*results, strict=True):
        for other in others:
            for one, another in zip(first, other, strict=True):
                np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize("mode", MODES)
def test_an_episode_a_column_whole_and_from_its_start(mode: AutoresetMode) -> None:
    gatherer = collector(mode)
    rollout = gatherer.episodes(uniform_policy, 8)
    assert rollout.valid.shape == (rollout.valid.sum(axis=0).max(), 8)
    lengths = rollout.observation[0, :, 1].astype(int)
    np.testing.assert_array_equal(rollout.valid, np.arange(len(rollout.valid))[:, None] < lengths)
    np.testing.assert_array_equal(rollout.terminated.argmax(axis=0), lengths - 1)
    np.testing.assert_array_equal(rollout.terminated.sum(axis=0), np.ones(8))
    np.testing.assert_array_equal(rollout.time[rollout.valid], rollout.observation[..., 0][rollout.valid])
    assert gatherer.steps_taken == lengths.sum()
    assert sorted(gatherer.finished) == sorted(zip(rollout.reward.sum(axis=0).tolist(), lengths.tolist(), strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_statistics_of_episodes_that_span_rollouts(mode: AutoresetMode) -> None:
    gatherer = collector(mode)
    rollouts = [gatherer.steps(uniform_policy, 7) for _ in range(9)]
    expected: list[tuple[float, int]] = []
    for i in range(3):
        total, length = 0.0, 0
        for rollout in rollouts:
            for t in np.flatnonzero(rollout.valid[:, i]):
                total, length = total + float(rollout.reward[t, i]), length + 1
                if rollout.terminated[t, i]:
                    expected.append((total, length))
                    total, length = 0.0, 0
    assert sorted(gatherer.finished) == sorted(expected)
    assert gatherer.steps_taken == sum(int(rollout.valid.sum()) for rollout in rollouts)


def test_action_streams_do_not_depend_on_ghosts() -> None:
    rng = np.random.default_rng(0)
    streams, drawn = ActionStreams(4, np.random.SeedSequence(1)), [[] for _ in range(4)]
    for _ in range(1500):
        real = rng.random(4) < [0.3, 0.9, 1.0, 0.5]
        uniforms = streams.draw(real)
        for i in np.flatnonzero(real):
            drawn[i].append(uniforms[i])
    for numbers, seed in zip(drawn, np.random.SeedSequence(1).spawn(4), strict=True):
        expected = np.random.Generator(np.random.PCG64(seed)).random(len(numbers))
        np.testing.assert_array_equal(numbers, expected)


def test_action_streams_of_several_numbers_an_action() -> None:
    streams, drawn = ActionStreams(3, np.random.SeedSequence(1), (2,)), [[] for _ in range(3)]
    for step in range(700):
        real = np.array([True, step % 2 == 0, step % 3 != 0])
        uniforms = streams.draw(real)
        assert uniforms.shape == (3, 2)
        for i in np.flatnonzero(real):
            drawn[i].append(uniforms[i])
    for numbers, seed in zip(drawn, np.random.SeedSequence(1).spawn(3), strict=True):
        expected = np.random.Generator(np.random.PCG64(seed)).random((len(numbers), 2))
        np.testing.assert_array_equal(numbers, expected)


def test_shares_are_fixed_and_complete() -> None:
    for count in range(1, 30):
        for n in range(1, 12):
            shares = episode_shares(count, n)
            assert shares.sum() == count
            assert shares.max() - shares.min() <= 1


def test_copies_start_from_different_and_reproducible_states() -> None:
    def first(seed: int) -> np.ndarray:
        envs, _ = make_environments("CartPole-v1", 4, vectorization="sync")
        environments = Environments(envs)
        environments.reset(np.random.SeedSequence(seed))
        return environments.observation

    assert len(np.unique(first(0), axis=0)) == 4
    np.testing.assert_array_equal(first(0), first(0))
    shared = (first(0)[:, None] == first(1)[None]).all(axis=-1)
    assert not shared.any()  # with seed + i, runs 0 and 1 would share three of four


def test_a_task_s_own_vector_class_is_preferred_and_said() -> None:
    assert make_environments("CartPole-v1", 2)[1] == "vector_entry_point"
    assert make_environments("Acrobot-v1", 2)[1] == "sync"
    assert make_environments(Countdown, 2)[1] == "sync"
    envs, how = make_environments(SyncVectorEnv([Countdown]), 5)
    assert (how, envs.num_envs) == ("given", 1)


def test_async_environments_agree_with_sync() -> None:
    rollouts = []
    for vectorization in ("sync", "async"):
        envs, how = make_environments(Countdown, 2, vectorization=vectorization)
        assert how == vectorization
        gatherer = Collector(Environments(envs), Actions(Countdown.action_space), np.random.SeedSequence(3))
        rollouts.append(gatherer.steps(uniform_policy, 20))
        envs.close()
    for one, other in zip(*rollouts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_native_vector_class_collects_true_transitions() -> None:
    envs, _ = make_environments("CartPole-v1", 8)
    gatherer = Collector(Environments(envs), Actions(envs.single_action_space), np.random.SeedSequence(0))
    rollout = gatherer.steps(uniform_policy, 200)
    assert (~rollout.valid).mean() == pytest.approx(0.043, abs=0.01)  # ghost steps of a random policy
    assert gatherer.steps_taken == rollout.valid.sum()
    # Every valid row obeys the task's own equation of motion.
    expected = rollout.observation[..., 0] + 0.02 * rollout.observation[..., 1]
    valid = rollout.valid
    np.testing.assert_allclose(rollout.next_observation[..., 0][valid], expected[valid], atol=1e-5)


class Broken(Countdown):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def step(self, action: int) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.t == 2:
            if self.what == "reward":
                reward = float("nan")
            else:
                observation = np.array([np.inf, 0.0], np.float32)
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize(("what", "name"), [("reward", "reward"), ("observation", "observation")])
def test_nan_is_reported_where_it_starts(what: str, name: str) -> None:
    envs = SyncVectorEnv([lambda: Broken(what)] * 2)
    gatherer = Collector(Environments(envs), Actions(Countdown.action_space), np.random.SeedSequence(0))
    with pytest.raises(FloatingPointError, match=f"environment's {name} is not finite: .* in environment [01], "):
        gatherer.steps(uniform_policy, 50)


def test_bad_environments_are_named() -> None:
    with pytest.raises(ValueError, match="no environment 'NoSuchTask-v0'"):
        make_environments("NoSuchTask-v0", 1)
    with pytest.raises(TypeError, match="env must be an id, a function"):
        make_environments(3, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_envs must be a whole number of at least 1, got 0"):
        make_environments("CartPole-v1", 0)
    with pytest.raises(ValueError, match="vectorization must be"):
        make_environments("CartPole-v1", 1, vectorization="threads")
    with pytest.raises(ValueError, match="env_kwargs apply to an environment id"):
        make_environments(Countdown, 1, env_kwargs={"truncate": True})
    silent = SyncVectorEnv([Countdown])
    silent.metadata = {}
    with pytest.raises(ValueError, match="autoreset_mode"):
        Environments(silent)
