"""The environments of `envs`: Gymnasium's checker finds nothing, and the known answers are right."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from envs.chain import Chain
from envs.identity import Identity, IdentityBox, IdentityMultiBinary, IdentityMultiDiscrete, MaskedIdentity
from envs.labelled import LabelledData
from envs.loop import LoopEnv

ROWS = [[0.0, 5.0], [1.5, 5.0], [-2.0, 5.0]]  # the second column is constant
LABELS = ["b", "a", "c"]

ENVIRONMENTS: dict[str, tuple[type[gymnasium.Env[Any, Any]], dict[str, Any]]] = {
    "identity": (Identity, {}),
    "identity with a start": (Identity, {"n": 3, "length": 2, "start": -7}),
    "identity of several": (IdentityMultiDiscrete, {}),
    "identity of several, 2-D with a start": (IdentityMultiDiscrete, {"classes": [[2, 3], [4, 1]], "start": -2}),
    "identity of bits": (IdentityMultiBinary, {}),
    "identity of bits, 2-D": (IdentityMultiBinary, {"shape": (2, 2), "length": 3}),
    "identity of numbers": (IdentityBox, {}),
    "identity of numbers, 2-D": (IdentityBox, {"shape": (2, 1)}),
    "masked identity": (MaskedIdentity, {"start": 5}),
    "masked identity, mask observed": (MaskedIdentity, {"mask_in_observation": True}),
    "labelled": (LabelledData, {"X": ROWS, "y": LABELS}),
    "chain": (Chain, {}),
    "long chain": (Chain, {"states": 5, "actions": 3, "horizon": 6, "table_seed": 9}),
    "loop": (LoopEnv, {}),
}
every_environment = pytest.mark.parametrize("name", ENVIRONMENTS)


def make(name: str) -> gymnasium.Env[Any, Any]:
    entry_point, kwargs = ENVIRONMENTS[name]
    return entry_point(**kwargs)


def plain(observation: Any) -> Any:
    """In Python's own types, which compare as a whole."""
    if isinstance(observation, dict):
        return {key: plain(part) for key, part in observation.items()}
    return np.asarray(observation).tolist()


def play(env: gymnasium.Env[Any, Any], seed: int, steps: int = 40) -> list[Any]:
    """Observations, rewards and ends under random actions, over episodes that draw on one generator."""
    env.action_space.seed(0)
    record: list[Any] = [plain(env.reset(seed=seed)[0])]
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        record.append((plain(observation), reward, terminated, truncated))
        if terminated or truncated:
            record.append(plain(env.reset()[0]))
    return record


@every_environment
def test_gymnasium_checker_finds_nothing(name: str) -> None:
    entry_point, kwargs = ENVIRONMENTS[name]
    # The checker warns at an environment without a spec; through `make` it has one. Warnings are errors here.
    check_env(gymnasium.make(EnvSpec("Known-v0", entry_point=entry_point, kwargs=kwargs)).unwrapped)


@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if name != "loop"])
def test_reset_seed_fixes_all_episodes_and_another_seed_changes_them(name: str) -> None:
    assert play(make(name), seed=3) == play(make(name), seed=3)
    assert play(make(name), seed=3) != play(make(name), seed=4)


@every_environment
def test_step_is_refused_before_reset_and_after_the_end(name: str) -> None:
    env = make(name)
    env.action_space.seed(0)
    for _ in range(2):
        with pytest.raises(gymnasium.error.ResetNeeded, match="call reset first"):
            env.step(env.action_space.sample())
        env.reset(seed=0)
        for _ in range(100):
            if any(env.step(env.action_space.sample())[2:4]):
                break
        else:
            pytest.fail("no end within 100 steps")


@every_environment
def test_action_outside_the_space_is_refused(name: str) -> None:
    env = make(name)
    env.reset(seed=0)
    space = env.action_space
    outside: list[Any]
    if isinstance(space, gymnasium.spaces.Discrete):
        outside = [space.start - 1, space.start + space.n]
    elif isinstance(space, gymnasium.spaces.MultiDiscrete):
        outside = [space.start - 1, space.start + space.nvec, np.zeros(9, np.int64)]
    elif isinstance(space, gymnasium.spaces.MultiBinary):
        outside = [np.full(space.shape, 2), np.zeros(9, np.int8)]
    else:
        assert isinstance(space, gymnasium.spaces.Box)
        outside = [2 * space.high, 2 * space.low, np.zeros(9, np.float32)]
    for action in outside:
        with pytest.raises(ValueError, match=f"action must lie in {type(space).__name__}"):
            env.step(action)


# --------------------------------------------------------------------------------------------------- identity


@pytest.mark.parametrize("start", [0, 10, -3])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_identity_pays_the_action_that_names_the_observation_alone(start: int, shift: int) -> None:
    env = Identity(n=3, length=5, start=start)
    observation, _ = env.reset(seed=1)
    rewards, ends = [], []
    for _ in range(5):
        action = np.int64(start + (observation + shift) % 3)
        observation, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
        ends.append((terminated, truncated))
    assert rewards == [1.0 if shift == 0 else 0.0] * 5
    assert ends == [(False, False)] * 4 + [(False, True)]


def test_identity_draws_observations_uniformly() -> None:
    env = Identity(n=4, length=4000)
    env.reset(seed=0)
    counts = Counter(int(env.step(np.int64(0))[0]) for _ in range(4000))
    # Binomial(4000, 1/4) has a deviation of 27.4.
    assert all(abs(counts[k] - 1000) < 5 * 27.4 for k in range(4))


@pytest.mark.parametrize("classes", [[2, 3], [[2, 3], [4, 2]]], ids=["1-D", "2-D"])
def test_identity_of_several_pays_the_share_named_rightly(classes: Any) -> None:
    env = IdentityMultiDiscrete(classes, start=3)
    observation, _ = env.reset(seed=0)
    for right in range(len(observation.ravel()) + 1):
        action = 3 + observation.ravel()
        action[right:] = 3 + (observation.ravel()[right:] + 1) % np.ravel(classes)[right:]
        observation, reward, *_ = env.step(action.reshape(observation.shape))
        assert reward == right / action.size


def test_identity_of_bits_pays_the_share_repeated_rightly() -> None:
    env = IdentityMultiBinary((2, 2))
    observation, _ = env.reset(seed=0)
    for right in range(5):
        action = observation.ravel()
        action[right:] = 1 - action[right:]
        observation, reward, *_ = env.step(action.reshape(2, 2))
        assert reward == right / 4


def test_identity_of_numbers_pays_minus_the_mean_square() -> None:
    env = IdentityBox((3,), bound=2.0)
    observation, _ = env.reset(seed=0)
    action = np.where(observation > 0, observation - 1.0, observation + 1.0).astype(np.float32)
    assert env.step(action)[1] == pytest.approx(-1.0, abs=1e-6)
    observation, _ = env.reset()
    action = observation.copy()
    action[0] -= np.sign(action[0])
    assert env.step(action)[1] == pytest.approx(-1 / 3, abs=1e-6)


@pytest.mark.parametrize("observed", [False, True])
def test_masked_identity_forbids_half_of_the_others_and_everything_at_the_end(observed: bool) -> None:
    env = MaskedIdentity(n=3, length=2000, mask_in_observation=observed)
    observation, info = env.reset(seed=0)
    allowed, rewards = [], Counter[tuple[bool, float]]()
    for step in range(2000):
        mask = observation["action_mask"] if observed else info["action_mask"]
        named = observation["observation"] if observed else observation
        assert mask[named] == 1
        action = np.int64((named + step) % 3)
        if action != named:
            allowed.append(int(mask[action]))
        observation, reward, _, truncated, info = env.step(action)
        rewards[bool(mask[action]), reward] += 1
    assert abs(np.mean(allowed) - 0.5) < 5 * 0.5 / np.sqrt(len(allowed))
    assert set(rewards) == {(True, 1.0), (True, 0.0), (False, -1.0)}
    assert truncated
    assert not (observation["action_mask"] if observed else info["action_mask"]).any()


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (lambda: IdentityMultiDiscrete([2, 0]), "classes must be at least 1"),
        (lambda: IdentityMultiDiscrete([]), "classes must be at least 1"),
        (lambda: IdentityMultiBinary(()), "shape must hold"),
        (lambda: IdentityMultiBinary((2, 0)), "shape must hold"),
        (lambda: IdentityBox((0,)), "shape must hold"),
        (lambda: IdentityBox(bound=0.0), "bound must be positive"),
        (lambda: MaskedIdentity(n=0), "n must be at least 1"),
    ],
)
def test_identities_name_what_is_wrong(make_one: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_one()


# ---------------------------------------------------------------------------------------------- labelled data


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("action", range(3))
def test_labelled_row_pays_its_own_class_alone_and_ends(row: int, action: int) -> None:
    env = LabelledData(ROWS, LABELS)
    observation, _ = env.reset(seed=0, options={"row": row})
    np.testing.assert_array_equal(observation, np.array(ROWS[row], np.float32), strict=True)
    final, reward, terminated, truncated, _ = env.step(np.int64(action))
    np.testing.assert_array_equal(final, observation)
    assert (reward, terminated, truncated) == (float("abc"[action] == LABELS[row]), True, False)


def test_labelled_rows_are_drawn_uniformly() -> None:
    env = LabelledData([[0.0], [1.0], [2.0], [3.0]], [0, 0, 0, 1])
    env.reset(seed=0)
    counts = Counter(float(env.reset()[0][0]) for _ in range(4000))
    assert sorted(counts) == [0.0, 1.0, 2.0, 3.0]
    assert all(abs(count - 1000) < 5 * 27.4 for count in counts.values())


def test_labelled_bounds_are_the_data_s_and_observations_are_copies() -> None:
    env = LabelledData(ROWS, LABELS)
    box = env.observation_space
    assert isinstance(box, gymnasium.spaces.Box)
    assert box.low.tolist() == [-2.0, 5.0]
    assert box.high.tolist() == [1.5, float(np.nextafter(np.float32(5), np.float32(6)))]
    env.reset(seed=0, options={"row": 0})[0][:] = 99.0
    assert env.reset(options={"row": 0})[0].tolist() == ROWS[0]


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([0.0, 1.0], [0, 1], r"X must have shape \[N, D\]"),
        (np.empty((0, 2)), [], r"X must have shape \[N, D\]"),
        (np.empty((2, 0)), [0, 1], r"X must have shape \[N, D\]"),
        ([[0.0], [np.nan]], [0, 1], "finite in float32, got nan at row 1, column 0"),
        ([[0.0], [1e300]], [0, 1], r"finite in float32, got 1e\+300 at row 1, column 0"),
        ([["0"], ["1"]], [0, 1], "real numbers"),
        ([[0.0], [1.0]], [0, 1, 1], r"one label for each row, shape \[2\], got \[3\]"),
        ([[0.0], [1.0]], [[0], [1]], r"one label for each row, shape \[2\], got \[2, 1\]"),
        ([[0.0], [1.0]], [0.0, np.inf], "y must be finite"),
        ([[0.0], [1.0]], [7, 7], "at least 2 classes"),
    ],
)
def test_labelled_data_names_what_is_wrong(X: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelledData(X, y)


@pytest.mark.parametrize("row", [-1, 3])
def test_labelled_row_outside_the_data_is_refused(row: int) -> None:
    with pytest.raises(ValueError, match=rf"must lie in 0\.\.2, got {row}"):
        LabelledData(ROWS, LABELS).reset(options={"row": row})


# ------------------------------------------------------------------------------------------------------ chain


def random_policy(chain: Chain, seed: int = 0) -> Any:
    return np.random.default_rng(seed).dirichlet(np.ones(chain.reward.shape[1]), size=len(chain.reward))


CHAINS = [
    {},
    {"states": 4, "actions": 3, "horizon": 2, "table_seed": 5},
    {"states": 2, "actions": 2, "horizon": 1},
]


@pytest.mark.parametrize("settings", CHAINS)
def test_chain_trajectories_are_all_of_them_and_consistent_with_the_tables(settings: dict[str, int]) -> None:
    chain = Chain(**settings)
    policy = random_policy(chain)
    episodes = chain.trajectories(policy)
    S, A = chain.reward.shape
    # Every live state goes on by A actions to S−1 live ones; each (state, action) can also be the last.
    live, expected = S - 1, 0
    for _ in range(chain.horizon):
        expected += live * A
        live *= A * (S - 1)
    assert len(episodes) == expected
    assert len({(tuple(e.states), tuple(e.actions)) for e in episodes}) == expected
    assert sum(e.probability for e in episodes) == pytest.approx(1.0, abs=1e-14)
    for states, actions, rewards, _ in episodes:
        assert len(states) == len(actions) == len(rewards) <= chain.horizon
        assert not chain.terminal[states].any()
        np.testing.assert_array_equal(rewards, chain.reward[states, actions])


@pytest.mark.parametrize("settings", CHAINS)
@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_chain_expected_return_by_trajectories_equals_backward_induction(
    settings: dict[str, int], discount: float
) -> None:
    chain = Chain(**settings)
    policy = random_policy(chain)
    value = np.zeros(len(chain.reward))
    for _ in range(chain.horizon):
        value = (policy * (chain.reward + discount * chain.transition @ value)).sum(axis=1)
        value[chain.terminal] = 0.0
    total = sum(p * (discount ** np.arange(len(r)) * r).sum() for _, _, r, p in chain.trajectories(policy))
    assert total == pytest.approx(float(chain.initial @ value), abs=1e-13)


def test_chain_steps_as_its_tables_say() -> None:
    chain = Chain()
    policy = random_policy(chain)
    generator, episodes = np.random.default_rng(1), 4000
    chain.reset(seed=0)
    seen: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
    for _ in range(episodes):
        state, ended = chain.reset()[0], False
        states, actions, rewards = [], [], []
        while not ended:
            states.append(int(state))
            actions.append(int(generator.random() >= policy[state, 0]))
            state, reward, ended, truncated, _ = chain.step(np.int64(actions[-1]))
            rewards.append(reward)
            assert not truncated
        assert ended == (bool(chain.terminal[state]) or len(states) == chain.horizon)
        assert rewards == chain.reward[states, actions].tolist()
        seen[tuple(states), tuple(actions)] += 1
    listed = {(tuple(e.states), tuple(e.actions)): e.probability for e in chain.trajectories(policy)}
    assert seen.keys() <= listed.keys()
    expected = episodes * np.array(list(listed.values()))
    counts = np.array([seen[key] for key in listed])
    # Pearson's statistic has mean 83 and deviation √(2·83) = 12.9 here if the tables are the truth.
    assert ((counts - expected) ** 2 / expected).sum() < 83 + 5 * 12.9


def test_chain_tables_follow_their_seed_and_cannot_be_changed() -> None:
    first, again, other = Chain(table_seed=1), Chain(table_seed=1), Chain(table_seed=2)
    for name in ("initial", "transition", "reward"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert (getattr(first, name) != getattr(other, name)).any()
        with pytest.raises(ValueError, match="read-only"):
            getattr(first, name)[0] = 0.0


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.full((2, 3), 1 / 3), r"shape \[S, A\] = \[3, 2\], got \[2, 3\]"),
        (np.full((3, 2), 0.6), "every row must sum to 1, got"),
        (np.tile([1.5, -0.5], (3, 1)), "must hold probabilities"),
        (np.full((3, 2), np.nan), "must hold probabilities"),
    ],
)
def test_chain_refuses_a_table_that_is_no_policy(policy: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chain().trajectories(policy)


# ------------------------------------------------------------------------------------------------------- loop


def test_loop_pays_one_goes_round_and_is_cut_but_never_terminates() -> None:
    env = LoopEnv()
    for episode in range(2):
        states, ends = [int(env.reset(seed=episode)[0])], []
        for t in range(8):
            state, reward, terminated, truncated, _ = env.step(np.int64(t % 2))
            states.append(int(state))
            ends.append((terminated, truncated))
            assert reward == 1.0
        assert states == [0, 1, 2, 3, 0, 1, 2, 3, 0]
        assert ends == [(False, False)] * 7 + [(False, True)]


# ----------------------------------------------------------------------------------------------- constructors


@pytest.mark.parametrize(
    ("entry_point", "argument"),
    [
        (Identity, "n"),
        (Identity, "length"),
        (IdentityMultiDiscrete, "length"),
        (IdentityMultiBinary, "length"),
        (IdentityBox, "length"),
        (MaskedIdentity, "length"),
        (LoopEnv, "length"),
        (Chain, "states"),
        (Chain, "actions"),
        (Chain, "horizon"),
    ],
)
def test_a_size_of_zero_is_refused_by_name(entry_point: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=rf"{argument} must be at least [12], got 0"):
        entry_point(**{argument: 0})
