"""What a user may get wrong, or do in an order nobody planned: each is refused by name, or simply works."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from envs.identity import Identity
from envs.loop import LoopEnv
from rlce import (
    Classifier,
    Evaluation,
    Monitor,
    Optimization,
    PolicyGradient,
    Round,
    Stopping,
    Trainer,
    checkpoint,
    evaluate_policy,
    methods,
    targets,
)
from rlce.reinforcement.environments import Environments
from rlce.reinforcement.rollout import Collector
from rlce.reinforcement.spaces import Actions
from rlce.rules.returns import standardized


@pytest.mark.parametrize(("count", "value"), [(1000, 0.1), (777, 1 / 3), (2048, 13.37), (1, 5.0)])
def test_equal_advantages_stay_zero_when_standardized(count: int, value: float) -> None:
    assert not standardized(np.full(count, value, np.float32)).any()


def test_standardized_advantages_have_mean_zero_and_deviation_one() -> None:
    advantage = np.random.default_rng(0).normal(1e4, 3.0, 999).astype(np.float32)
    result = standardized(advantage)
    assert result.dtype == np.float32
    assert result.mean(dtype=np.float64) == pytest.approx(0.0, abs=1e-6)
    assert result.std(dtype=np.float64) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_evaluating_where_one_trains_does_not_corrupt_training(mode: AutoresetMode) -> None:
    envs = SyncVectorEnv([lambda: Identity(n=2, length=7)] * 3, autoreset_mode=mode)
    agent = PolicyGradient(envs, methods.ppo(steps=5), hidden=(8,))
    lengths: set[float] = set()
    for _ in range(4):
        agent.learn(20, callback=lambda progress: lengths.add(progress.scalars.get("rollout/ep_len_mean", 7.0)))
        evaluate_policy(agent, envs, episodes=2)
    assert lengths == {7.0}


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_environments_that_reuse_their_arrays(mode: AutoresetMode) -> None:
    envs = SyncVectorEnv([lambda: LoopEnv(length=3)] * 2, copy=False, autoreset_mode=mode)
    collector = Collector(Environments(envs), Actions(envs.single_action_space), np.random.SeedSequence(0))
    rollout = collector.steps(lambda observation: np.zeros((len(observation), 2)), 20)
    state, following = rollout.observation.argmax(axis=-1), rollout.next_observation.argmax(axis=-1)
    np.testing.assert_array_equal(following[rollout.valid], (state[rollout.valid] + 1) % 4)


def test_rules_of_a_wrong_shape_are_named() -> None:
    base = methods.actor_critic()
    for change, message in (
        ({"weight": lambda a, now, then: a[:, None]}, r"its weight rule must give shape \[\d+\], got \[\d+, 1\]"),
        ({"weight": lambda a, now, then: 1.0}, r"its weight rule must give shape \[\d+\], got float"),
        ({"credit": lambda e: methods.Credit(e.reward[0], e.reward)}, "its credit rule must give advantage of shape"),
        ({"credit": lambda e: methods.Credit(e.reward, None)}, "its credit rule must give target of shape"),
    ):
        method: Any = dataclasses.replace(base, name="mine", **change)
        with pytest.raises(ValueError, match="method mine: " + message):
            PolicyGradient(Identity, method).learn(10)
    X, y = load_iris(return_X_y=True)
    rules: list[Any] = [lambda labels, classes: torch.ones(classes), lambda labels, classes: torch.ones(len(labels), 1)]
    for rule in rules:
        with pytest.raises(ValueError, match=r"must return a tensor of shape \[3, 3\], got"):
            Classifier(rule=rule, epochs=1).fit(X, y)


@pytest.mark.parametrize(("value", "change"), [(np.nan, {}), (np.inf, {}), (np.nan, {"entropy_weight": 0.1})])
def test_a_weight_that_is_not_finite_is_reported_with_its_rule(value: float, change: dict[str, Any]) -> None:
    def careless(advantage: Tensor, log_prob: Tensor) -> Tensor:
        return torch.where(torch.arange(len(advantage)) == 5, value, advantage)

    method = dataclasses.replace(methods.actor_critic(), name="mine", weight=careless, **change)
    message = rf"mine: weight: the rule careless gave {value} in row 5, where advantage is \S+, log_prob is -1.\d+;"
    with pytest.raises(FloatingPointError, match=message):
        PolicyGradient(Identity, method).learn(10)


def test_a_library_rule_that_overflows_is_reported() -> None:
    method = methods.reward_weighted_regression(temperature=1e-3)
    with pytest.raises(FloatingPointError, match="the rule reward_weighted gave inf in row .*, where advantage is"):
        PolicyGradient(Identity, method).learn(1000)


class Broken(nn.Linear):
    """Gives NaN in gradient steps, but not when it acts."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (np.nan if torch.is_grad_enabled() else 1.0)


def test_a_broken_network_is_not_blamed_on_the_weight_rule() -> None:
    """Its log-probabilities are NaN, and so is every weight that is computed from them."""
    with pytest.raises(FloatingPointError, match="^the loss is nan from finite data and parameters"):
        PolicyGradient(Identity, methods.ppo(), network=Broken).learn(1000)


def test_networks_of_a_wrong_shape_are_named() -> None:
    factories: list[tuple[Any, type[Exception], str]] = [
        (lambda i, o: nn.Linear(i, o + 1), ValueError, r"network: .*must be float.* \[2, \d\], got float32 \[2, \d\]"),
        (
            lambda i, o: nn.Linear(i, o).half(),
            ValueError,
            r"network: .*must be float32 or float64 \[2, \d\], got float16",
        ),
        (lambda i, o: 3, TypeError, r"network: the factory must return a torch.nn.Module, got int"),
    ]
    X, y = load_iris(return_X_y=True)
    for factory, error, message in factories:
        with pytest.raises(error, match=message):
            PolicyGradient("CartPole-v1", network=factory)
        with pytest.raises(error, match=message):
            Classifier(network=factory).fit(X, y)


def squares(network: nn.Module) -> Any:
    def loss(batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        error = (network(batch) - 1.0).square().mean()
        return error, {"error": error.detach()}

    return loss


def test_two_trainers_cannot_share_a_module() -> None:
    network = nn.Linear(1, 1)
    first, second = Trainer(network), Trainer(network)
    rounds = [Round([torch.ones(1, 1)], 1)]
    second.fit(rounds, squares(network))
    with pytest.raises(ValueError, match="module: its parameters are not this trainer's"):
        first.fit(rounds, squares(network))


def test_what_is_best_belongs_to_one_monitor() -> None:
    network = nn.Linear(1, 1)
    trainer = Trainer(network)
    trainer.fit([Round([torch.ones(1, 1)], 1)], squares(network), monitor=Monitor("error", maximize=False))
    assert trainer.best is None
    monitor = Monitor("score", evaluate=lambda: {"score": -5.0})
    trainer.fit([Round([torch.ones(1, 1)], 2)], squares(network), monitor=monitor)
    assert trainer.restore_best() == -5.0


def test_patience_is_counted_anew_in_every_call() -> None:
    network = nn.Linear(1, 1)
    trainer = Trainer(network)
    monitor = Monitor("score", evaluate=lambda: {"score": 0.0})
    for first in (1, 11):
        rounds = [Round([torch.ones(1, 1)], step) for step in range(first, first + 10)]
        before = trainer.progress.rounds
        trainer.fit(rounds, squares(network), monitor=monitor, stopping=Stopping(patience=3))
        assert trainer.progress.rounds - before == (4 if first == 1 else 3)


def test_a_mean_over_a_round_counts_rows() -> None:
    network = nn.Linear(1, 1)
    rounds = [Round([torch.zeros(9, 1), torch.zeros(1, 1)], 1)]
    lengths = iter([0.0, 10.0])
    progress = Trainer(network).fit(
        rounds, lambda batch: (network(batch).sum(), {"value": torch.tensor(next(lengths))})
    )
    assert progress.scalars["value"] == pytest.approx(1.0)


def test_a_loss_that_returns_no_pair_is_named() -> None:
    network = nn.Linear(1, 1)
    with pytest.raises(TypeError, match=r"loss must return \(scalar, tensors to log by name\), got Tensor"):
        Trainer(network).fit([Round([torch.ones(1, 1)], 1)], lambda batch: network(batch).sum())


def test_a_schedule_that_cannot_fall_is_refused() -> None:
    rounds = [Round([torch.ones(1, 1)], 1)]
    for schedule, message in (("plateau", "needs a monitor"), ("linear", "total or schedule_timesteps is needed")):
        network = nn.Linear(1, 1)
        trainer = Trainer(network, Optimization(schedule=schedule))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=message):
            trainer.fit(rounds, squares(network))
    with pytest.raises(ValueError, match="schedule_timesteps must be a whole number of at least 1, or None, got 0"):
        Optimization(schedule_timesteps=0)


def test_numpy_numbers_can_be_saved(tmp_path: Path) -> None:
    agent = PolicyGradient("CartPole-v1", methods.ppo(steps=np.int64(16)), seed=np.int64(3))  # type: ignore[arg-type]
    agent.learn(np.int64(64))  # type: ignore[arg-type]
    agent.save(tmp_path / "agent")
    assert PolicyGradient.load(tmp_path / "agent").method.steps == 16
    X, y = load_iris(return_X_y=True)
    Classifier(epochs=np.int64(2), batch_size=np.int64(8)).fit(X, y).save(tmp_path / "c")  # type: ignore[arg-type]
    assert Classifier.load(tmp_path / "c").batch_size == 8


def test_an_evaluation_environment_is_checked_before_training(tmp_path: Path) -> None:
    agent = PolicyGradient("CartPole-v1", evaluation=Evaluation(every=10**9, env="NoSuchTask-v0"))
    with pytest.raises(ValueError, match="no environment 'NoSuchTask-v0'"):
        agent.learn(64)
    assert agent.steps == 0
    agent = PolicyGradient(Identity, evaluation=Evaluation(every=64, episodes=2, env=Identity))
    agent.save(tmp_path / "a")
    with pytest.raises(
        ValueError, match=r"evaluation: its environment is not in the file; pass evaluation to load\(\)"
    ):
        PolicyGradient.load(tmp_path / "a", env=Identity).learn(64)
    again = Evaluation(every=64, episodes=2, env=Identity)
    assert PolicyGradient.load(tmp_path / "a", env=Identity, evaluation=again).learn(64).trainer.best is not None


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    for kind, load in (("PolicyGradient", PolicyGradient.load), ("Classifier", Classifier.load)):
        checkpoint.save(tmp_path / kind, kind, {}, {})
        with pytest.raises(ValueError, match="is damaged"):
            load(tmp_path / kind)


class Unserved(Identity):
    def __init__(self) -> None:
        super().__init__()
        self.action_space: Any = gymnasium.spaces.Tuple([self.action_space, self.action_space])


def test_nothing_is_left_behind_by_bad_input(tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    bad: list[tuple[dict[str, Any], Any, str]] = [
        ({}, np.where(X > 7, np.nan, X), "Input X contains NaN"),
        ({"batch_size": 0}, X, "batch_size must be a whole number"),
        ({"stopping": 0}, X, "stopping must be a whole number"),
        ({"temperature": "validation"}, X, "needs held-out rows"),
        ({"rule": lambda labels, classes: targets.smooth(labels, classes, epsilon=-1.0)}, X, "epsilon must lie in"),
    ]
    for settings, rows, message in bad:
        classifier = Classifier(**settings)
        with pytest.raises(ValueError, match=message):
            classifier.fit(rows, y, log_dir=tmp_path / "run")
        with pytest.raises(NotFittedError):
            classifier.predict(X)
    with pytest.raises(ValueError, match="env_kwargs must be something that JSON can hold"):
        PolicyGradient("CartPole-v1", env_kwargs={"render_mode": object()}, log_dir=tmp_path / "run")
    with pytest.raises(TypeError, match="no head serves"):
        PolicyGradient(Unserved, log_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_fit_leaves_an_estimator_that_can_be_saved(tmp_path: Path) -> None:
    def interrupt(progress: Any) -> bool:
        raise KeyboardInterrupt

    X, y = load_iris(return_X_y=True)
    classifier = Classifier(epochs=5)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(X, y, callback=interrupt)
    classifier.save(tmp_path / "c")
    assert Classifier.load(tmp_path / "c").n_epochs_ == 1
    np.testing.assert_array_equal(Classifier.load(tmp_path / "c").predict(X), classifier.predict(X))


def test_of_interrupted_restarts_the_best_before_is_kept() -> None:
    seen: list[float] = []

    def interrupt(progress: Any) -> None:
        seen.append(progress.scalars["train/loss"])
        if len(seen) == 7:
            raise KeyboardInterrupt

    X, y = load_iris(return_X_y=True)
    classifier = Classifier(epochs=3, restarts=3, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(X, y, callback=interrupt)
    assert classifier.history_[-1]["train/loss"] == min(seen[2], seen[5])


def test_observations_that_are_not_finite_are_refused() -> None:
    agent = PolicyGradient("CartPole-v1")
    with pytest.raises(ValueError, match="observation: the policy's outputs are not finite"):
        agent.predict(np.array([np.nan, 0, 0, 0], np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimization": "sgd"}, r"optimization must be an rlce\.Optimization, such as .*, got 'sgd'"),
        ({"evaluation": 5_000}, r"evaluation must be an rlce\.Evaluation, such as .*, got 5000"),
        ({"env": Identity(n=2, length=3)}, "env must be .*, got .*: pass the function that makes it"),
    ],
)
def test_agents_name_an_argument_of_another_kind(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        PolicyGradient(**{"env": lambda: Identity(n=2, length=3), **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"total_timesteps": "100"}, ValueError, "total_timesteps must be a number of at least 1, got '100'"),
        ({"callback": 3}, TypeError, r"callback must be a function of rlce\.Progress, got 3"),
        ({"stopping": 475.0}, TypeError, r"stopping must be an rlce\.Stopping, such as .*, got 475\.0"),
    ],
)
def test_learn_names_an_argument_of_another_kind(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    agent = PolicyGradient(lambda: Identity(n=2, length=3), methods.ppo(steps=2), hidden=(2,), num_envs=1)
    with pytest.raises(error, match=message):
        agent.learn(**{"total_timesteps": 2, **arguments})
    assert agent.steps == 0


def test_help_on_a_method_shows_types() -> None:
    signature = str(inspect.signature(methods.ppo))
    assert "discount: float = 0.99" in signature
    assert "minibatch_size: int | None = 256" in signature
    assert "ForwardRef" not in signature
