"""One thread for small networks: who gets it, when, and whether everybody has the user's numbers afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import scipy.linalg  # noqa: F401  (its BLAS is looked up, too)
import threadpoolctl
import torch
from torch import nn

import rlce
from rlce import threads
from rlce.supervised import fitting
from rlce.trainer import Round, Trainer

USERS = (2, 2)  # torch's and the BLAS's numbers of the user


def numbers() -> tuple[int, int]:
    """Torch's number for this Python thread and the BLAS's number."""
    (blas,) = {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}
    return torch.get_num_threads(), blas


def in_a_new_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a new thread; after it, any thread may set the BLAS's number."""
    with ThreadPoolExecutor(1) as new_thread:
        return new_thread.submit(function, *arguments).result()


def numbers_of_a_new_thread() -> tuple[int, int]:
    return in_a_new_thread(numbers)


@pytest.fixture(autouse=True)
def _users_numbers() -> Iterator[None]:
    before = torch.get_num_threads()
    threads._blas.cache_clear()  # an earlier test may have looked before SciPy was loaded
    torch.set_num_threads(USERS[0])
    limits = in_a_new_thread(threadpoolctl.threadpool_limits, USERS[1], "blas")
    try:
        assert numbers() == numbers_of_a_new_thread() == USERS
        yield
        assert numbers() == numbers_of_a_new_thread() == USERS
    finally:
        in_a_new_thread(limits.restore_original_limits)
        torch.set_num_threads(before)


def make_agent(**more: Any) -> rlce.PolicyGradient:
    return rlce.PolicyGradient("CartPole-v1", rlce.methods.ppo(steps=4), num_envs=2, **more)


def learn(callback: Callable[[Any], Any]) -> None:
    make_agent().learn(8, callback=callback)


def learn_and_evaluate(callback: Callable[[Any], Any]) -> None:
    """The callback sees the numbers that an evaluation in training leaves behind."""
    make_agent(evaluation=rlce.Evaluation(every=8, episodes=2)).learn(8, callback=callback)


def fit(callback: Callable[[Any], Any]) -> None:
    rlce.Classifier(epochs=1).fit([[0.0], [1.0]], [0, 1], callback=callback)


def evaluate(callback: Callable[[Any], Any]) -> None:
    class Agent:
        policy = None

        def predict(self, observation: Any, deterministic: bool = False, *, generator: Any = None) -> Any:
            callback(None)
            return np.zeros(len(observation), np.int64)

    rlce.evaluate_policy(Agent(), "CartPole-v1", episodes=2)


def within_learn(callback: Callable[[Any], Any]) -> None:
    """All of it in the callback of another training."""

    def inner(_: Any) -> None:
        for run in (evaluate, fit, learn):
            run(callback)
        callback(None)

    learn(inner)


@pytest.mark.parametrize("run", [learn, learn_and_evaluate, fit, evaluate, within_learn])
def test_one_thread_inside(run: Callable[..., None]) -> None:
    seen: list[tuple[int, int]] = []
    run(lambda _: seen.append(numbers()))
    assert set(seen) == {(1, 1)}
    assert numbers() == USERS


@pytest.mark.parametrize("run", [learn, fit, evaluate, within_learn])
@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_exception_gives_the_numbers_back(run: Callable[..., None], error: type[BaseException]) -> None:
    def fail(_: Any) -> None:
        assert numbers() == (1, 1)
        raise error

    with pytest.raises(error):
        run(fail)
    assert numbers() == numbers_of_a_new_thread() == USERS


class Learner:
    """A training in its own Python thread that stops in its callback until it is told to end."""

    def __init__(self, executor: ThreadPoolExecutor, torch_number: int | None = None) -> None:
        self.inside, self.end = threading.Event(), threading.Event()
        self.fails = False
        self.seen: list[tuple[int, int]] = []  # before, inside (twice) and after
        self.future: Future[None] = executor.submit(self.run, torch_number)

    def run(self, torch_number: int | None) -> None:
        if torch_number is not None:
            torch.set_num_threads(torch_number)
        self.seen.append(numbers())
        try:
            learn(self.wait)
        except KeyError:
            assert self.fails
        self.seen.append(numbers())

    def wait(self, _: Any) -> None:
        self.seen.append(numbers())
        self.inside.set()
        assert self.end.wait(10)
        self.seen.append(numbers())
        if self.fails:
            raise KeyError

    def started(self) -> Learner:
        assert self.inside.wait(10)
        return self

    def ended(self, fails: bool = False) -> None:
        self.fails = fails
        self.end.set()
        self.future.result(10)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("leaving", ["first in, first out", "first in, last out"])
def test_overlapping_trainings(leaving: str, fails: bool) -> None:
    with ThreadPoolExecutor(2) as executor:
        first = Learner(executor).started()
        assert numbers() == numbers_of_a_new_thread() == (2, 1)  # the BLAS's number belongs to the process
        second = Learner(executor).started()
        assert numbers() == numbers_of_a_new_thread() == (2, 1)
        early, late = (first, second) if leaving == "first in, first out" else (second, first)
        early.ended(fails)
        assert numbers() == numbers_of_a_new_thread() == (2, 1)
        late.ended()
        assert numbers() == numbers_of_a_new_thread() == USERS
        assert early.seen[1:] == [(1, 1), (1, 1), (2, 1)]
        assert late.seen[1:] == [(1, 1), (1, 1), (2, 2)]


def test_each_thread_gets_its_own_number_back() -> None:
    with ThreadPoolExecutor(2) as executor:
        first, second = Learner(executor, torch_number=3).started(), Learner(executor, torch_number=1).started()
        torch.set_num_threads(USERS[0])  # what new threads get; the two have changed it
        second.ended()
        first.ended()
    assert [seen[0] for seen in first.seen] == [3, 1, 1, 3]
    assert [seen[0] for seen in second.seen] == [1, 1, 1, 1]


def test_the_rule_for_large_networks() -> None:
    network = rlce.network.MLP(5, 3, hidden=(7,))
    assert threads.multiply_adds(network, 5) == 5 * 7 + 7 + 7 * 3 + 3
    assert threads.multiply_adds(Convolution(), 20) == 20 * (3 + 1)
    for work, inside in ((threads.LARGE, (1, 1)), (threads.LARGE + 1, USERS)):
        with threads.one_thread(work):
            assert numbers() == inside


class Convolution(nn.Module):
    """``[B, 2]`` → ``[B, 2]``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(1, 1, kernel_size=3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[:, None])[:, 0]


@pytest.mark.parametrize(
    ("network", "sizes", "expected"),
    [
        (nn.Linear(2, 2), [10, 10], [1, 1, 1]),
        (nn.Linear(2, 2), [11, 11], [2, 2, 2]),
        (nn.Linear(2, 2), [10, 11], [1, 2, 2]),  # the last number is the callback's
        (nn.Linear(2, 2), [11, 10], [2, 1, 2]),
        (Convolution(), [7, 7], [1, 1, 1]),  # 2 numbers a row × 4 parameters
        (Convolution(), [8, 7], [2, 1, 2]),
    ],
)
def test_each_gradient_step_is_judged_by_its_own_work(
    network: nn.Module, sizes: list[int], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "LARGE", 60)
    seen: list[int] = []
    between: list[tuple[int, int]] = []

    def loss(batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        seen.append(torch.get_num_threads())
        return network(batch).square().mean(), {}

    def rounds() -> Iterator[Round]:
        for step in (1, 2):
            between.append(numbers())
            yield Round([torch.ones(rows, 2) for rows in sizes], step)

    Trainer(network).fit(rounds(), loss, callback=lambda _: seen.append(torch.get_num_threads()))
    assert seen == expected * 2
    assert between == [(1, 1), (1, 1)]
    assert numbers() == USERS


def test_large_steps_in_a_row_need_no_switch_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch takes half a millisecond, and a large step may take but two."""
    network, switches, switch = nn.Linear(2, 2), list[int](), threads._set_in_this_thread

    def counted(number: int) -> None:
        switches.append(number)
        switch(number)

    monkeypatch.setattr(threads, "LARGE", 60)
    monkeypatch.setattr(threads, "_set_in_this_thread", counted)
    batches = [torch.ones(rows, 2) for rows in (10, *[11] * 20, *[10] * 20, *[11] * 20)]
    Trainer(network).fit([Round(batches, 1)], lambda batch: (network(batch).square().mean(), {}))
    assert switches == [1, 2, 1, 2, 1, 2, 1, 2]  # the whole, twice the large ones, and the round's end


def test_each_part_of_a_round_is_judged_by_its_own_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acting in 2 environments is less work than a gradient step of a round's 8 rows."""
    seen: dict[int, set[tuple[int, int]]] = {}

    class Policy(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.setdefault(len(x), set()).add(numbers())
            return super().forward(x)

    def agent() -> rlce.PolicyGradient:
        """No episode of CartPole-v1 ends in the four steps of a round."""
        method = rlce.methods.reinforce(steps=4, value_epochs=0)
        return rlce.PolicyGradient("CartPole-v1", method, num_envs=2, network=(Policy, nn.Linear))

    parameters = sum(one.numel() for one in agent().trainer.module.parameters())
    for large, acting, learning in (
        (8 * parameters, (1, 1), (1, 1)),
        (8 * parameters - 1, (1, 1), USERS),
        (2 * parameters, (1, 1), USERS),
        (2 * parameters - 1, USERS, USERS),
    ):
        monkeypatch.setattr(threads, "LARGE", large)
        one = agent()
        seen.clear()  # what has been tried when it was made
        one.learn(8)
        assert seen == {2: {acting}, 8: {learning}}


def test_the_innermost_work_decides_unless_a_context_holds_for_everything() -> None:
    large = threads.LARGE + 1
    with threads.one_thread(0):
        assert numbers() == (1, 1)
        with threads.one_thread(large):
            assert numbers() == numbers_of_a_new_thread() == USERS
            with threads.one_thread(0, numpy_alone=True):
                assert numbers() == (2, 1)
            with threads.one_thread():
                assert numbers() == (1, 1)
                with threads.one_thread(large):
                    assert numbers() == (1, 1)
                assert numbers() == (1, 1)
            assert numbers() == USERS
        assert numbers() == (1, 1)
        with threads.one_thread(large, numpy_alone=True):
            assert numbers() == (1, 2)
        assert numbers() == (1, 1)
    with ThreadPoolExecutor(1) as executor:  # what another thread holds stays held
        other = Learner(executor).started()
        with threads.one_thread(0), threads.one_thread(large):
            assert numbers() == (2, 1)
        other.ended()


def test_a_limit_that_fails_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def limit(self, limits: int) -> None:
            raise OSError(limits)

    with monkeypatch.context() as patch:
        patch.setattr(threads, "_blas", Broken)
        with pytest.raises(OSError, match="1"), threads.one_thread():
            pass
    assert numbers() == USERS
    with threads.one_thread():
        assert numbers() == (1, 1)


@pytest.mark.parametrize(
    ("network", "large", "expected"),
    [
        (nn.Linear(5, 2), 4 * 12, 1),  # four copies of the environment, twelve parameters
        (nn.Linear(5, 2), 4 * 12 - 1, 2),
        (Convolution(), 4 * 4 * 4, 1),  # four numbers in an observation, four parameters
        (Convolution(), 4 * 4 * 4 - 1, 2),
    ],
)
def test_evaluating_a_large_policy_keeps_the_users_numbers(
    network: nn.Module, large: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "LARGE", large)
    seen = set()

    class Agent:
        policy = network

        def predict(self, observation: Any, deterministic: bool = False, *, generator: Any = None) -> Any:
            seen.add(torch.get_num_threads())
            return np.zeros(len(observation), np.int64)

    rlce.evaluate_policy(Agent(), "CartPole-v1", episodes=4)
    assert seen == {expected}


class Watched(nn.Linear):
    """A user's network that notes the numbers under which it runs."""

    seen: ClassVar[list[tuple[int, int]]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(numbers())
        return super().forward(x)


def test_predictions_of_estimators(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = [[0.0], [1.0]], [0, 1]
    watched, own = (rlce.Classifier(epochs=1, network=network).fit(X, y) for network in (Watched, None))
    Watched.seen.clear()
    watched.predict(X)
    assert Watched.seen == [(1, 1)]
    seen: list[tuple[int, int]] = []

    def in_chunks(function: Any, rows: Any) -> Any:
        seen.append(numbers())
        return function(rows)

    monkeypatch.setattr(fitting, "in_chunks", in_chunks)
    own.predict(X)
    monkeypatch.setattr(threads, "LARGE", 2)
    own.predict(X)
    assert seen == [(2, 1), USERS]  # NumPy computes alone
    X = [[0.0, 1.0], [1.0, 0.0]]
    convolution = rlce.Classifier(epochs=1, network=lambda n_inputs, n_outputs: Convolution()).fit(X, y)
    seen.clear()
    for large in (2 * 2 * 4, 2 * 2 * 4 - 1):  # two rows of two numbers, four parameters
        monkeypatch.setattr(threads, "LARGE", large)
        convolution.predict(X)
    assert seen == [(1, 1), USERS]


def test_acting_changes_no_numbers() -> None:
    agent = make_agent(network=Watched)
    Watched.seen.clear()
    agent.predict(np.zeros(4, np.float32))
    assert Watched.seen == [USERS]


class Numbers(gymnasium.Env[Any, Any]):
    """An environment that shows the numbers of threads of the process that it runs in."""

    observation_space = gymnasium.spaces.Box(0.0, 100.0, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.array(numbers(), np.float32), {}

    def step(self, action: Any) -> Any:
        return np.array(numbers(), np.float32), 0.0, False, True, {}


def test_workers_of_environments_are_not_limited() -> None:
    agent = rlce.PolicyGradient(Numbers, rlce.methods.ppo(steps=2), hidden=(8,), num_envs=2, vectorization="async")
    for _ in range(2):  # the second time in new workers
        agent.learn(4)
        collector = agent._collector
        assert collector is not None
        assert collector.environments.raw_observation.tolist() == [list(USERS)] * 2
        agent.close()
