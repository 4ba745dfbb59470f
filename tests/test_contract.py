"""An environment that breaks Gymnasium's contract is named, with the step and what came, wherever it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rlce import PolicyGradient, evaluate_policy, methods
from rlce.reinforcement import contract, environments, rollout
from rlce.reinforcement.contract import fault, quick_check
from rlce.reinforcement.environments import make_environments

BOX = gymnasium.spaces.Box(0.0, 1.0, (2,), np.float32)
CLASSES = gymnasium.spaces.MultiDiscrete([3, 2])
FOUR = gymnasium.spaces.Discrete(4, start=1)
SPACES = gymnasium.spaces.Dict({"place": BOX, "hand": gymnasium.spaces.Tuple([FOUR, CLASSES])})


class Task(gymnasium.Env[Any, Any]):
    """Six steps an episode; in step 3 of its second episode (and in no other), or in a reset, ``spoil`` acts."""

    def __init__(
        self,
        space: gymnasium.Space[Any] = BOX,
        spoil: Callable[[list[Any]], Any] | None = None,
        spoil_reset: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self.observation_space, self.action_space = space, gymnasium.spaces.Discrete(2)
        self.spoil, self.spoil_reset = spoil, spoil_reset
        self.episode = 0

    def seen(self) -> Any:
        return self.observation_space.sample()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        returned = [self.seen(), {}]
        return tuple(returned) if self.spoil_reset is None else self.spoil_reset(returned)

    def step(self, action: Any) -> Any:
        self.t += 1
        returned = [self.seen(), 1.0, self.t == 6, False, {}]
        spoilt = self.spoil is not None and (self.episode, self.t) == (2, 3)
        return self.spoil(returned) if self.spoil is not None and spoilt else tuple(returned)


def put(index: int, value: Any) -> Callable[[list[Any]], Any]:
    return lambda returned: tuple(value if i == index else part for i, part in enumerate(returned))


class Named:
    def __repr__(self) -> str:
        return "what came"


STEPS: dict[str, tuple[gymnasium.Space[Any], Callable[[list[Any]], Any], str]] = {
    "a longer observation": (BOX, put(0, np.zeros(3)), r"observation must be float32 of shape \[2\], got an array of"),
    "no observation": (BOX, put(0, None), r"observation must be float32 of shape \[2\], got None"),
    "text": (BOX, put(0, "north"), "observation must be float32 .* got 'north'"),
    "an object": (BOX, put(0, Named()), "observation must be .* got what came"),
    "ragged": (BOX, put(0, [[1.0], [1.0, 2.0]]), r"observation must be .* got \[\[1.0\], \[1.0, 2.0\]\]"),
    "a class that is too high": (FOUR, put(0, 5), r"observation must be in Discrete\(4, start=1\), got 5"),
    "a class below the start": (FOUR, put(0, 0), r"observation must be in Discrete\(4, start=1\), got 0"),
    "half a class": (FOUR, put(0, 1.5), r"observation must be int64 of shape \[\], got 1.5"),
    "a class of several": (CLASSES, put(0, np.array([2, 2])), r"observation must be in MultiDiscrete\(.* got \[2 2\]"),
    "a part": (
        SPACES,
        put(0, {"place": np.zeros(2), "hand": (5, np.zeros(2, int))}),
        r"observation\['hand'\]\[0\] must",
    ),
    "a part that is missing": (
        SPACES,
        put(0, {"place": np.zeros(2)}),
        r"observation must be a dict with \['hand', 'pl",
    ),
    "no reward": (BOX, put(1, None), "reward must be a number, got None"),
    "a reward in words": (BOX, put(1, "1.5"), "reward must be a number, got '1.5'"),
    "two rewards": (BOX, put(1, np.zeros(2)), r"reward must be a number, got an array of float64 of shape \[2\]"),
    "terminated in words": (BOX, put(2, "False"), "terminated must be True or False, got 'False'"),
    "terminated is None": (BOX, put(2, None), "terminated must be True or False, got None"),
    "truncated is None": (BOX, put(3, None), "truncated must be True or False, got None"),
    "truncated is 2": (BOX, put(3, 2), "truncated must be True or False, got 2"),
    "no info": (BOX, put(4, None), "info must be a dict, got None"),
    "four values": (
        BOX,
        lambda returned: tuple(returned[:4]),
        r"step must return \(observation, reward, terminated, truncated, info\), got 4 values \(ndarray, float",
    ),
    "nothing": (BOX, lambda returned: None, r"step must return \(.*\), got None"),
}


class Anything:
    def predict(
        self, observation: Any, deterministic: bool = False, *, generator: np.random.Generator | None = None
    ) -> Any:
        while isinstance(observation, dict | tuple):
            observation = observation["place" if isinstance(observation, dict) else 0]
        return np.zeros(len(observation), np.int64)


def only_the_third(make: Callable[..., Task], *arguments: Any) -> Callable[[], Task]:
    """A factory whose third copy is spoilt, by position among the copies that are made."""
    made = iter(range(10**6))
    return lambda: make(arguments[0], *(arguments[1:] if next(made) == 2 else ()))


def learn(env: Any, **more: Any) -> None:
    PolicyGradient(env, methods.ppo(steps=30), num_envs=3, **more).learn(120)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", STEPS)
def test_a_step_that_breaks_the_contract(case: str) -> None:
    space, spoil, message = STEPS[case]
    expected = rf"env: environment 2 of Task broke Gymnasium's contract in step 3 after its reset: {message}"
    with pytest.raises(ValueError, match=expected):
        learn(only_the_third(Task, space, spoil))
    with pytest.raises(ValueError, match=expected):
        evaluate_policy(Anything(), only_the_third(Task, space, spoil), 30)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda returned: returned[0], r"must return \(observation, info\), got an array of float32 of shape \[2\]"),
        (put(1, None), "info must be a dict, got None"),
        (put(0, np.zeros(5)), r"observation must be float32 of shape \[2\], got an array of float64 of shape \[5\]"),
    ],
)
def test_a_reset_that_breaks_the_contract(spoil: Any, message: str) -> None:
    expected = f"env: environment 2 of Task broke Gymnasium's contract in a reset: .*{message}"
    with pytest.raises(ValueError, match=expected):
        learn(only_the_third(Task, BOX, None, spoil))
    with pytest.raises(ValueError, match=expected):
        evaluate_policy(Anything(), only_the_third(Task, BOX, None, spoil), 3)


@pytest.mark.parametrize(
    ("index", "value", "message"), [(1, None, "reward must be a"), (2, "False", "terminated must")]
)
@pytest.mark.filterwarnings("ignore")
def test_workers_name_their_environment(index: int, value: Any, message: str) -> None:
    """Several may be spoilt, and Gymnasium reports the last of their errors; each has its own number."""
    envs, _ = make_environments(partial(Task, BOX, put(index, value)), 3, vectorization="async")
    assert envs.get_attr("_rlce_index") == (0, 1, 2)  # type: ignore[attr-defined]
    environments.close(envs)
    expected = rf"env: environment [012] of Task broke Gymnasium's contract in step 3 after its reset: {message}"
    with pytest.raises(ValueError, match=expected):
        learn(partial(Task, BOX, put(index, value)), vectorization="async")


@pytest.fixture
def registered() -> Iterator[Callable[..., str]]:
    def register(**kwargs: Any) -> str:
        gymnasium.register("Spoilt-v0", partial(Task, BOX, **kwargs), max_episode_steps=50)
        return "Spoilt-v0"

    yield register
    gymnasium.registry.pop("Spoilt-v0", None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_ids_are_checked_too(registered: Callable[..., str], vectorization: str) -> None:
    name = registered(spoil=put(2, "False"))
    expected = r"env: environment \d of Spoilt-v0 broke .* step 3 .* terminated must be True or False"
    with pytest.raises(ValueError, match=expected):
        learn(name, vectorization=vectorization)


@pytest.mark.filterwarnings("ignore")
def test_what_gymnasium_s_wrappers_stumble_over_is_named(registered: Callable[..., str]) -> None:
    """A TimeLimit unpacks five values itself."""
    name = registered(spoil=lambda returned: tuple(returned[:4]))
    with pytest.raises(
        ValueError,
        match=r"env: environment 0 of Spoilt-v0 .* in step 3 after its reset: step must .*expected 5, got 4",
    ):
        learn(name)
    gymnasium.registry.pop(name)
    name = registered(spoil_reset=lambda returned: returned[0])
    expected = r"env: environment 0 of Spoilt-v0 .* in a reset: reset must return \(observation, info\)"
    with pytest.raises(ValueError, match=expected):
        evaluate_policy(Anything(), name, 3)


def fail(returned: list[Any]) -> Any:
    raise ValueError("the robot fell over")


def test_an_environment_s_own_error_passes_through(registered: Callable[..., str]) -> None:
    for env in (partial(Task, BOX, fail), registered(spoil=fail)):
        with pytest.raises(ValueError, match=r"^the robot fell over$") as caught:
            learn(env)
        assert caught.value.__cause__ is None


def test_wrapped_environments_show_their_own_spec_and_attributes() -> None:
    envs, _ = make_environments("FrozenLake-v1", 2, {"render_mode": "rgb_array"}, "sync")
    assert isinstance(envs, SyncVectorEnv)
    envs.reset(seed=0)
    plain = gymnasium.make("FrozenLake-v1", render_mode="rgb_array")
    assert envs.envs[0].spec == plain.spec
    assert envs.get_attr("desc")[0].shape == (4, 4)
    assert envs.render()[0].shape == (256, 256, 3)
    again = gymnasium.make(envs.envs[0].spec)
    assert str(again) == str(plain)
    envs.close()


class Batch(VectorEnv[Any, Any, Any]):
    """A vector class of three copies; what it returns in its fourth step may be spoilt."""

    def __init__(self, single: gymnasium.Space[Any] = BOX, spoil: Callable[[list[Any]], Any] = tuple) -> None:
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.num_envs = 3
        self.single_observation_space, self.single_action_space = single, gymnasium.spaces.Discrete(2)
        self.observation_space = gymnasium.vector.utils.batch_space(single, 3)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, 3)
        self.spoil = spoil

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, actions: Any) -> Any:
        self.t += 1
        no = np.zeros(3, bool)
        returned = [self.observation_space.sample(), np.ones(3), np.full(3, self.t % 10 == 0), no, {}]
        return self.spoil(returned) if self.t == 4 else tuple(returned)


@pytest.mark.parametrize(
    ("single", "spoil", "who", "message"),
    [
        (
            BOX,
            put(0, np.zeros((3, 4))),
            "environment 0 of Batch",
            r"observation must be float32 of shape \[2\], got an array of float64 of shape \[4\]",
        ),
        (
            FOUR,
            put(0, np.array([1, 5, 2])),
            "environment 1 of Batch",
            r"observation must be in Discrete\(4, start=1\), got 5",
        ),
        (
            BOX,
            put(1, np.ones((3, 1))),
            "Batch",
            r"reward must be numbers of shape \[3\], got an array of float64 of shape \[3, 1",
        ),
        (BOX, put(1, [1.0, None, 2.0]), "Batch", r"reward must be numbers of shape \[3\], got an array of object"),
        (
            BOX,
            put(2, np.array(["False"] * 3)),
            "Batch",
            r"terminated must be booleans of shape \[3\], got an array of <U5",
        ),
        (BOX, put(0, np.zeros(())), "Batch", r"observation must be float32 of shape \[3, 2\], got array\(0"),
        (BOX, put(3, None), "Batch", r"truncated must be booleans of shape \[3\], got array\(None"),
        (BOX, lambda returned: tuple(returned[:4]), "Batch", r"step must return .* got 4 values"),
    ],
)
def test_a_vector_class_that_breaks_the_contract(single: Any, spoil: Any, who: str, message: str) -> None:
    for use in (learn, lambda envs: evaluate_policy(Anything(), envs, 3)):
        with pytest.raises(
            ValueError, match=rf"env: {who} broke Gymnasium's contract in step 4 after its reset: {message}"
        ):
            use(Batch(single, spoil))


def test_lists_and_other_number_types_are_no_breach() -> None:
    learn(Batch(BOX, lambda returned: (returned[0].tolist(), [1, 2, 3], *map(list, returned[2:4]), {})))
    for spoil in (
        put(0, [0.0, 1.0]),
        put(0, np.array([0, 1])),
        put(1, np.float16(1)),
        put(1, np.array(1.0)),
        put(1, True),
        put(2, 1),
        put(3, np.array(False)),
    ):
        learn(partial(Task, BOX, spoil))
    learn(partial(Task, FOUR, put(0, np.uint8(4))))
    learn(partial(Task, SPACES))


@pytest.mark.parametrize("space", [BOX, FOUR, CLASSES, SPACES, gymnasium.spaces.MultiBinary([2, 2])])
def test_the_quick_check_accepts_nothing_that_is_wrong(space: gymnasium.Space[Any]) -> None:
    accepts = quick_check(space)
    for _ in range(20):
        sample = space.sample()
        assert accepts(sample)
        assert fault(space, sample) is None
    for value in (None, "x", 0, 7, -1, 1.5, np.zeros(3), np.zeros((2, 2)) + 0.5, {}, (1,), np.array([9, 9]), [1, [2]]):
        assert not accepts(value) or fault(space, value) is None


class Endless(gymnasium.Env[Any, Any]):
    """The first copy's episodes end after 5 steps, the others' never."""

    observation_space, action_space = BOX, gymnasium.spaces.Discrete(2)
    made = 0

    def __init__(self) -> None:
        self.ends, Endless.made = Endless.made % 3 == 0, Endless.made + 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return np.zeros(2, np.float32), 1.0, self.ends and self.t == 5, False, {}


def test_whole_episodes_of_an_endless_task_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rollout.LONGEST_EPISODE == 20_000
    monkeypatch.setattr(rollout, "LONGEST_EPISODE", 300)
    monkeypatch.setattr(Endless, "made", 0)
    agent = PolicyGradient(Endless, methods.reinforce(episodes=6), num_envs=3)
    with pytest.raises(RuntimeError, match=r"environment 1 has not ended after 300 steps, .* fixed number of steps"):
        agent.learn(100)
    assert agent.steps == 0
    monkeypatch.setattr(Endless, "made", 1)
    limited = partial(gymnasium.wrappers.TimeLimit, Endless(), 400)
    assert PolicyGradient(limited, methods.reinforce(episodes=1), num_envs=1).learn(10).steps == 400
    assert PolicyGradient(Endless, methods.ppo(steps=350), num_envs=3).learn(1_000).steps > 1_000


def test_endless_episodes_of_large_observations_are_refused_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "LARGEST_ROLLOUT", 10)
    monkeypatch.setattr(Endless, "made", 1)
    with pytest.raises(RuntimeError, match=r"environment 0 has not ended after 1,000 steps, .* fixed number of steps"):
        PolicyGradient(Endless, methods.reinforce(episodes=1), num_envs=1).learn(100)


def test_long_episodes_that_end_are_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts the steps of one episode, not of the rollout."""
    monkeypatch.setattr(rollout, "LONGEST_EPISODE", 6)
    assert PolicyGradient(Task, methods.reinforce(episodes=8), num_envs=1).learn(10).steps == 48


def test_where_an_error_comes_from_is_known_without_a_traceback() -> None:
    assert not contract._raised_by_gymnasium(ValueError("never raised"))
