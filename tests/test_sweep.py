"""The search for settings: a trial's value, pruning, going on, and the recipe that is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from rlce import PolicyGradient
from rlce.reinforcement import recipes
from scripts import benchmark, sweep
from scripts.results import TASKS

TINY = {"num_envs": 4, "steps": 16, "hidden": (8,)}


def arguments(tmp_path: Path, **others: Any) -> sweep.Arguments:
    given = {"timesteps": 128, "trials": 2, "jobs": 1, "evaluations": 2, "storage": tmp_path / "sweep.journal"}
    return sweep.Arguments("CartPole-v1", **{**given, **others})


def test_a_search_goes_on_where_it_ended_and_gives_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = arguments(tmp_path)
    for name, values in {"num_envs": [4, 8], "steps": [16], "width": [8, 16], "epochs": [2]}.items():
        monkeypatch.setitem(sweep.CHOICES, name, values)
    sweep.work(asked)
    assert "2 of 2" in capsys.readouterr().out
    sweep.work(asked)  # has enough
    study = sweep.study_of(asked)
    assert len(study.trials) == 2
    assert study.best_value == max(trial.value for trial in study.trials if trial.value is not None)
    found = sweep.recipe(asked, study)
    assert set(found) == {"CartPole-v1/ppo"}
    assert list(found["CartPole-v1/ppo"]) == list(recipes._read()["CartPole-v1/ppo"])
    monkeypatch.setattr(recipes, "_read", lambda: found)
    agent = PolicyGradient(recipe="CartPole-v1/ppo")
    agent.close()
    best = study.best_params
    assert agent.num_envs == best["num_envs"]
    assert agent.optimization.learning_rate == best["learning_rate"]
    assert agent.method.arguments is not None
    assert agent.method.arguments["discount"] == best["discount"]
    assert [layer.out_features for layer in agent.policy.layers[:-1]] == [best["width"]] * 2


def test_a_trial_is_worth_the_worse_of_greedy_and_sampled_averaged_over_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = iter([(1.0, 9.0), (5.0, 7.0), (30.0, 40.0), (32.0, 20.0)])  # two evaluations for each of two seeds
    monkeypatch.setattr(benchmark.Stopwatch, "evaluate", lambda *_: next(means))
    study = optuna.create_study(direction="maximize")
    trial = study.ask()
    value = sweep.value_of(trial, arguments(tmp_path), TASKS["CartPole-v1"], TINY)
    assert value == np.mean([min(3, 8), min(31, 30)])
    # Reported: what the seed under way has now, and what the seeds before it ended with.
    assert study.trials[0].intermediate_values == {1: 1.0, 2: 5.0, 4: (3 + 30) / 2, 5: (3 + 20) / 2}


def test_a_trial_that_lags_behind_ends_early(tmp_path: Path) -> None:
    class Always(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return True

    study = optuna.create_study(direction="maximize", pruner=Always())
    study.optimize(
        lambda trial: sweep.value_of(trial, arguments(tmp_path), TASKS["CartPole-v1"], TINY),
        n_trials=1,
    )
    assert study.trials[0].state == optuna.trial.TrialState.PRUNED
    assert list(study.trials[0].intermediate_values) == [1]


def test_only_numbers_that_the_method_takes_are_searched() -> None:
    study = optuna.create_study()
    assert "initial_deviation" in sweep.suggest(study.ask(), "ppo", continuous=True)
    chosen = sweep.suggest(study.ask(), "reinforce", continuous=False)
    assert not {"trace", "epochs", "clip", "minibatch_size", "initial_deviation"} & set(chosen)
    assert {"steps", "discount", "entropy_weight", "value_epochs"} <= set(chosen)


def test_a_method_has_the_names_that_it_has_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers would fail, and the search would be another than that of the usual name."""
    asked: list[str] = []

    class EnoughError(Exception):
        pass

    def study_of(arguments: sweep.Arguments) -> optuna.Study:
        asked.append(arguments.method)
        raise EnoughError

    monkeypatch.setattr(sweep, "study_of", study_of)
    for method in ("actor-critic", "Actor_Critic"):
        with pytest.raises(EnoughError):
            sweep.main(arguments(tmp_path, method=method))
    assert asked == ["actor_critic"] * 2
    with pytest.raises(ValueError, match="method must be one of"):
        sweep.main(arguments(tmp_path, method="actor"))


@pytest.mark.parametrize("seeds", ["0-1", "99", "102-101", "many", "-5"])
def test_seeds_of_the_table_are_refused(tmp_path: Path, seeds: str) -> None:
    with pytest.raises(ValueError, match=r"--seeds must be a range such as 100-101, from 100 on, got '"):
        sweep.main(arguments(tmp_path, seeds=seeds))
    assert list(tmp_path.iterdir()) == []


def test_a_task_of_the_table_brings_its_environment(tmp_path: Path) -> None:
    task = sweep.task_of(sweep.Arguments("LunarLander-v3 continuous"))
    assert (task.env, task.env_kwargs) == ("LunarLander-v3", {"continuous": True})
    task = sweep.task_of(sweep.Arguments("FrozenLake-v1", env_kwargs='{"is_slippery": false}'))
    assert task.env_kwargs == {"is_slippery": False}
    with pytest.raises(ValueError, match="--trials must be at least 1, got 0"):
        sweep.Arguments("CartPole-v1", trials=0)
