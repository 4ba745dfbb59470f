"""Search for settings of a task with Optuna, in several processes, and print the best as a recipe.

::

    python -m scripts.sweep LunarLander-v3 --method ppo --timesteps 300000 --trials 30 --jobs 2

A trial trains one agent a seed and is worth the mean over seeds of the worse of its greedy and its sampled score (see
`scripts.results.score`). Trials that lag behind the median are ended early. Everything is kept in one file, so that a
later call goes on with the same search.
"""

from __future__ import annotations

import inspect
import json
import multiprocessing
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
import optuna
import tyro
from gymnasium.spaces import Box
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

import scripts
from rlce import PolicyGradient, methods, threads
from scripts.benchmark import Protocol, Stopwatch
from scripts.results import TASKS, Task, final_score, saved_setting

# The search space: choices, and ranges on a logarithmic scale.
CHOICES: dict[str, list[Any]] = {
    "width": [32, 64, 128, 256],
    "num_envs": [8, 16, 32, 64],
    "normalize_observations": [False, True],
    "scale_rewards": [False, True],
    "steps": [16, 32, 64, 128, 256, 512],
    "discount": [0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0],
    "trace": [0.8, 0.9, 0.95, 0.98, 1.0],
    "epochs": [2, 4, 6, 10, 20],
    "value_epochs": [0, 4, 8, 16],
    "minibatch_size": [64, 128, 256, 512, 1_024],
    "standardize": [False, True],
    "clip": [0.1, 0.2, 0.3],
}
RANGES = {"learning_rate": (1e-4, 3e-2), "entropy_weight": (1e-5, 0.1), "initial_deviation": (0.1, 2.0)}

FINISHED = TrialState.COMPLETE, TrialState.PRUNED
RESERVED = 100  # seeds below belong to the table of results


@dataclass(frozen=True)
class Arguments:
    """Search for settings of a task. A later call with the same task and budget goes on with the same search."""

    task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
    """A task of scripts/results.py, such as 'LunarLander-v3 continuous', or an environment's id."""
    method: Annotated[str, tyro.conf.arg(aliases=["--algo"])] = "ppo"
    """The method."""
    timesteps: Annotated[int, tyro.conf.arg(aliases=["--total-timesteps"])] = 100_000
    """Environment steps of a run."""
    trials: int = 30
    """Finished trials, pruned ones included, after which the search ends; those of earlier calls count."""
    jobs: int = 2
    """Processes."""
    seeds: str = "100-101"
    """Seeds, from 100 on, because the table of results has the others: the first and the last."""
    evaluations: int = 10
    """Evaluations during a run; after each a trial may be pruned."""
    env_kwargs: str = "{}"
    """Keyword arguments of the environment, as JSON."""
    name: str | None = None
    """Name of the recipe that is printed; by default TASK/METHOD."""
    storage: Path = Path("runs/sweep.journal")
    """File of the searches."""

    def __post_init__(self) -> None:
        for flag in ("timesteps", "trials", "jobs", "evaluations"):
            if getattr(self, flag) < 1:
                raise ValueError(f"--{flag} must be at least 1, got {getattr(self, flag)}")


def seeds_of(text: str) -> list[int]:
    """The seeds of a range.

    Raises:
        ValueError: the text is no range, or it contains a seed of the table of results.

    Example:
        >>> seeds_of("100-102"), seeds_of("105")
        ([100, 101, 102], [105])
    """
    try:
        ends = [int(end) for end in text.split("-", 1)]
    except ValueError:
        ends = []
    seeds = list(range(ends[0], ends[-1] + 1)) if ends else []
    if not seeds or seeds[0] < RESERVED:
        raise ValueError(f"--seeds must be a range such as 100-101, from {RESERVED} on, got {text!r}")
    return seeds


def task_of(arguments: Arguments) -> Task:
    """The task: one of the table of results, or an environment."""
    known = TASKS.get(arguments.task, Task(arguments.task))
    given = scripts.keywords(arguments.env_kwargs, "--env-kwargs")
    return replace(known, env_kwargs={**known.env_kwargs, **given})


def suggest(trial: optuna.Trial, method: str, continuous: bool) -> dict[str, Any]:
    """Arguments of `PolicyGradient` for a trial: the search space.

    Args:
        trial: the trial.
        method: the method; only numbers that it takes are searched.
        continuous: True if actions are a Box.
    """
    takes = {
        "width",
        "num_envs",
        "normalize_observations",
        "scale_rewards",
        *inspect.signature(getattr(methods, method)).parameters,
    }
    chosen = {name: trial.suggest_categorical(name, values) for name, values in CHOICES.items() if name in takes}
    chosen["hidden"] = (chosen.pop("width"),) * 2
    takes |= {"learning_rate"} | ({"initial_deviation"} if continuous else set())
    chosen |= {name: trial.suggest_float(name, *ends, log=True) for name, ends in RANGES.items() if name in takes}
    return chosen


def value_of(trial: optuna.Trial, arguments: Arguments, task: Task, chosen: dict[str, Any]) -> float:
    """Train an agent a seed and return the trial's value.

    Raises:
        optuna.TrialPruned: the trial lags behind the median of the others, or diverges.
    """
    scores: list[float] = []
    every = max(arguments.timesteps // arguments.evaluations, 1)
    protocol = Protocol(task.env, task.env_kwargs, every, task.episodes, task.max_steps)
    for number, seed in enumerate(seeds_of(arguments.seeds)):
        agent = PolicyGradient(task.env, arguments.method, env_kwargs=task.env_kwargs, seed=seed, **chosen)
        stopwatch = Stopwatch(agent, seed, protocol)
        pruned = False

        def callback(progress: Any, stopwatch: Stopwatch = stopwatch, number: int = number) -> bool:
            nonlocal pruned
            before = len(stopwatch.evaluations)
            stopwatch.boundary(progress.step)
            if len(stopwatch.evaluations) > before:
                # The mean over the seeds so far; other trials are compared at the same seed and the same step.
                last = stopwatch.evaluations[-1]
                step = number * (arguments.evaluations + 1) + min(progress.step // every, arguments.evaluations)
                trial.report(float(np.mean([*scores, min(last.greedy, last.sampled)])), step)
                pruned = trial.should_prune()
            return pruned

        try:
            agent.learn(arguments.timesteps, callback=callback)
        except FloatingPointError as error:
            raise optuna.TrialPruned(str(error)) from error
        finally:
            agent.close()
        if pruned:
            raise optuna.TrialPruned
        scores.append(min(final_score(stopwatch.evaluations, way) for way in ("greedy", "sampled")))
    return float(np.mean(scores))


def study_of(arguments: Arguments) -> optuna.Study:
    """The search of a task, method and budget, from the file or new."""
    arguments.storage.parent.mkdir(parents=True, exist_ok=True)
    task = task_of(arguments)
    what = [task.env, task.env_kwargs, arguments.method, arguments.timesteps, arguments.seeds, arguments.evaluations]
    return optuna.create_study(
        study_name=json.dumps(what),
        storage=JournalStorage(JournalFileBackend(str(arguments.storage))),
        sampler=optuna.samplers.TPESampler(constant_liar=True),  # processes then try different settings
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=arguments.evaluations // 3),
        direction="maximize",
        load_if_exists=True,
    )


@threads.one_thread()
def work(arguments: Arguments) -> None:
    """Run trials in this process until the search has enough."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, task = study_of(arguments), task_of(arguments)
    with gymnasium.make(task.env, **task.env_kwargs) as env:
        continuous = isinstance(env.action_space, Box)

    def objective(trial: optuna.Trial) -> float:
        return value_of(trial, arguments, task, suggest(trial, arguments.method, continuous))

    def report(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        value = "" if trial.value is None else f" {trial.value:.2f}"
        done = len(study.get_trials(deepcopy=False, states=FINISHED))
        print(f"trial {trial.number}: {trial.state.name.lower()}{value}, {done} of {arguments.trials}", flush=True)

    if len(study.get_trials(deepcopy=False, states=FINISHED)) < arguments.trials:
        enough = optuna.study.MaxTrialsCallback(arguments.trials, states=FINISHED)
        study.optimize(objective, callbacks=[report, enough])


def recipe(arguments: Arguments, study: optuna.Study) -> dict[str, Any]:
    """The best trial as an entry of ``rlce/recipes.json``."""
    task, best = task_of(arguments), optuna.trial.FixedTrial(study.best_params)
    chosen = suggest(best, arguments.method, "initial_deviation" in study.best_params)
    agent = PolicyGradient(task.env, arguments.method, env_kwargs=task.env_kwargs, seed=0, **chosen)
    setting = saved_setting(agent)
    agent.close()
    kept = "normalize_observations", "scale_rewards", "rescale_actions", "initial_deviation"
    described = {
        "env": task.env,
        "env_kwargs": task.env_kwargs,
        "timesteps": arguments.timesteps,
        "method": {"name": agent.method.name, "arguments": dict(agent.method.arguments or {})},
        "num_envs": setting["num_envs"],
        **{name: setting["settings"][name] for name in ("hidden", "activation")},
        "optimization": asdict(agent.optimization),
        **{name: setting["settings"][name] for name in kept},
    }
    name = arguments.name or f"{arguments.task}/{arguments.method}".replace(" ", "-").replace("_", "-")
    return {name: described}


def main(arguments: Arguments) -> None:
    """Search, then print the best settings."""
    seeds_of(arguments.seeds)
    arguments = replace(arguments, method=methods.named(arguments.method).name)  # "actor-critic" is a name, too
    task = task_of(arguments)
    PolicyGradient(task.env, arguments.method, env_kwargs=task.env_kwargs).close()  # bad input ends here
    study = study_of(arguments)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(arguments,), daemon=True) for _ in range(arguments.jobs)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the finished trials are kept; the same command goes on") from None
    if any(worker.exitcode for worker in workers):
        raise ValueError("a process of the search failed; the trials so far are kept")
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ValueError("no trial was completed: all were pruned; use more trials")
    print(f"best of {len(study.trials)} trials: {study.best_value:.2f}", file=sys.stderr)
    print(json.dumps(recipe(arguments, study), indent=2))


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
