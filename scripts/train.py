"""Train an agent by a recipe, or in any environment; evaluate it, save it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

import scripts
from rlce import Evaluation, PolicyGradient, Stopping, evaluate_policy, methods, recipes
from scripts import processes

TIMESTEPS = 100_000


@dataclass(frozen=True)
class Arguments:
    """Train an agent by a recipe, or in any environment; evaluate it, save it.

    What is not given is the recipe's or, without a recipe, the library's default.

    A rerun replaces nothing: it first moves the files of the earlier run into earlier-1 (or earlier-2, ...) beside
    them. Ctrl-C saves what was learnt as agent-interrupted.safetensors.

    --seeds trains several seeds, each by a process and into a folder of its own. scripts.compare draws their curves.
    """

    task: Positional[str | None] = None
    """A recipe's name (CartPole-v1/ppo) or an environment's id (module:Name-v0 imports the module, also from here)."""
    recipe: str | None = None
    """A recipe, to use in the environment that is given."""
    method: Annotated[str | None, arg(aliases=["--algo"])] = None
    """A method with its defaults: ppo, actor-critic, reinforce, ..."""
    method_kwargs: str = "{}"
    """Numbers of the method, as JSON: '{"baseline": "mean"}', '{"group_size": 4}'."""
    discount: Annotated[float | None, arg(aliases=["--gamma"])] = None
    """The method's discount, γ."""
    env_kwargs: str | None = None
    """Keyword arguments of the environment, as JSON: '{"max_episode_steps": 200}'."""
    seed: int = 0
    """Fixes weights, environments, actions and minibatches."""
    seeds: int = 1
    """Number of seeds to train, from --seed on: into LOG_DIR/seed-0, LOG_DIR/seed-1, ..."""
    jobs: int = 2
    """Seeds that train at the same time."""
    total_timesteps: Annotated[int | None, arg(aliases=["--timesteps"])] = None
    """Environment steps to train for; by default the recipe's, and 100,000 without a recipe."""
    num_envs: Annotated[int | None, arg(aliases=["--n-envs"])] = None
    """Number of copies of the environment."""
    learning_rate: Annotated[float | None, arg(aliases=["--lr"])] = None
    """Step size at the start."""
    normalize_observations: bool | None = None
    """Standardise the numbers in observations by running statistics."""
    scale_rewards: bool | None = None
    """Divide rewards by the running deviation of their discounted sum."""
    evaluate_every: Annotated[int | None, arg(aliases=["--eval-freq"])] = None
    """Evaluate each time this many steps have passed, and save the best policy as agent-best.safetensors."""
    target_return: float | None = None
    """Stop once the mean return reaches this: of the evaluations if there are any, otherwise of training."""
    episodes: int = 100
    """Number of episodes of the closing evaluation: greedy, then as many sampled."""
    log_dir: Path | None = None
    """Directory for TensorBoard and the saved agent; by default runs/RECIPE-SEED or runs/METHOD-ENV-SEED;
    without -SEED if there are several seeds."""
    log: Literal["all", "scalars", "none"] = "all"
    """What TensorBoard gets: all, scalars (no histograms, no images) or none."""
    save: Path | None = None
    """File for the agent; by default LOG_DIR/agent.safetensors."""
    output: Path | None = None
    """File for the closing table, as JSON."""
    device: str = "cpu"
    """Device of the networks. The CPU is fastest for small ones."""
    quiet: bool = False
    """Show no progress bar."""


def make(arguments: Arguments, log_dir: Path | None) -> PolicyGradient:
    """The agent that the arguments describe."""
    env, recipe = task_of(arguments)
    method = (arguments.method or "").lower().replace("_", "-")
    if f"{env}/{method}" in recipes.names(env) and not hasattr(methods, method.replace("-", "_")):
        raise ValueError(f"{arguments.method} is no method but a recipe: --recipe {env}/{method}")
    numbers = numbers_of(arguments)
    every, kwargs = arguments.evaluate_every, arguments.env_kwargs
    return PolicyGradient(
        env,
        arguments.method,
        recipe=recipe,
        seed=arguments.seed,
        log_dir=log_dir,
        log=arguments.log,
        num_envs=arguments.num_envs,
        learning_rate=arguments.learning_rate,
        env_kwargs=None if kwargs is None else scripts.keywords(kwargs, "--env-kwargs"),
        evaluation=None if every is None else Evaluation(every=every),
        normalize_observations=arguments.normalize_observations,
        scale_rewards=arguments.scale_rewards,
        device=arguments.device,
        **numbers,
    )


def numbers_of(arguments: Arguments) -> dict[str, Any]:
    """The numbers of the method that the arguments change."""
    numbers = scripts.keywords(arguments.method_kwargs, "--method-kwargs")
    return numbers if arguments.discount is None else {**numbers, "discount": arguments.discount}


def task_of(arguments: Arguments) -> tuple[str | None, str | None]:
    """The environment and the recipe that the arguments name."""
    task, recipe = arguments.task, arguments.recipe
    if task is None or task.rpartition("/")[0] not in {name.rpartition("/")[0] for name in recipes.names()}:
        return task, recipe
    recipes.get(task)  # raises if the recipe's name is misspelt
    if recipe is not None:
        raise ValueError(f"two recipes: {task} and --recipe {recipe}; give one, or an environment and one")
    return None, task


def run_name(arguments: Arguments) -> str:
    """The name of a run's directory, or of the directory of several seeds.

    Example:
        >>> run_name(Arguments("CartPole-v1/ppo")), run_name(Arguments("CartPole-v1", seed=3))
        ('CartPole-v1-ppo-0', 'ppo-CartPole-v1-3')
        >>> run_name(Arguments("CartPole-v1/ppo", seeds=10))
        'CartPole-v1-ppo'
    """
    env, recipe = task_of(arguments)
    if recipe is not None and env == recipes.get(recipe).env:
        env = None
    method = arguments.method or ("ppo" if recipe is None else None)
    seed = str(arguments.seed) if arguments.seeds == 1 else None
    parts = [part for part in (recipe, method, env, seed) if part is not None]
    return "-".join(parts).replace("/", "-").replace(":", "-")


def description(agent: PolicyGradient, arguments: Arguments) -> str:
    """What is trained, in one line."""
    (env, env_kwargs), (_, recipe) = agent.trained_in, task_of(arguments)
    method = agent.method.name
    made = f"{env} ({', '.join(f'{name}={value}' for name, value in env_kwargs.items())})" if env_kwargs else env
    if recipe is not None:
        other = "" if arguments.method is None else f", but with {method} and its defaults"
        return f"{made} with the recipe {recipe}{other}{changed(arguments)}"
    known = [name for name in recipes.names(env) if dict(recipes.get(name).env_kwargs) == env_kwargs]
    known = [name for name in known if recipes.get(name).settings.method.name == method]
    there_is = f" (there is a recipe: --recipe {known[0]})" if known else ""
    return f"{made} with {method} and its defaults{changed(arguments)}{there_is}"


def changed(arguments: Arguments) -> str:
    """The numbers that the arguments change.

    Example:
        >>> changed(Arguments("CartPole-v1", discount=0.98, learning_rate=3e-3))
        ', changed: discount=0.98, learning_rate=0.003'
    """
    others = "learning_rate", "normalize_observations", "scale_rewards"
    numbers = numbers_of(arguments) | {name: getattr(arguments, name) for name in others}
    texts = [f"{name}={value}" for name, value in numbers.items() if value is not None]
    return f", changed: {', '.join(texts)}" if texts else ""


def save(agent: PolicyGradient, path: Path) -> None:
    """Save the agent and, if it was evaluated in training, the best one beside it."""
    agent.save(path)
    if agent.trainer.best is not None:
        last = agent.trainer.state_dict()
        try:
            agent.restore_best()
            agent.save(path.with_stem(f"{path.stem}-best"))
        finally:
            agent.trainer.load_state_dict(last)


def flags(arguments: Arguments) -> list[str]:
    """The command line that means these arguments.

    Example:
        >>> flags(Arguments("CartPole-v1", seed=3, scale_rewards=False, quiet=True))
        ['CartPole-v1', '--seed=3', '--scale-rewards=False', '--quiet']
    """
    texts = [] if arguments.task is None else [arguments.task]
    for one in dataclasses.fields(arguments):
        value, flag = getattr(arguments, one.name), f"--{one.name.replace('_', '-')}"
        if one.name != "task" and value != one.default:
            texts.append(flag if value is True and one.default is False else f"{flag}={value}")
    return texts


def train_seeds(arguments: Arguments) -> list[dict[str, Any]]:
    """Train several seeds by processes of their own; returns their closing tables, by seed.

    Raises:
        ValueError: a file is named for all of them, or a training failed; the message ends with what it said.
        KeyboardInterrupt: the trainings were interrupted; the message says how many were finished.
    """
    if arguments.save is not None:
        raise ValueError("--save names one file, and --seeds trains several agents; leave one of the two out")
    make(arguments, None).close()  # what is wrong for one seed is wrong for all
    folder = arguments.log_dir or Path("runs") / run_name(arguments)
    results: dict[int, dict[str, Any]] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as outputs:
        commands, seeds = {}, {}
        for seed in range(arguments.seed, arguments.seed + arguments.seeds):
            log_dir, log = folder / f"seed-{seed}", folder / f"seed-{seed}.log"
            log_dir.mkdir(parents=True, exist_ok=True)
            output = Path(outputs) / f"{seed}.json"
            single = dataclasses.replace(arguments, seed=seed, seeds=1, log_dir=log_dir, output=output, quiet=True)
            commands[log], seeds[log] = [sys.executable, "-m", "scripts.train", *flags(single)], seed
        print(f"{len(commands)} seeds, {min(arguments.jobs, len(commands))} at a time, into {folder}", flush=True)
        try:
            with contextlib.closing(processes.finished(commands, arguments.jobs)) as ended:
                for log, status in ended:
                    left = f"{len(commands) - len(results) - len(failed) - 1} left"
                    if status:
                        said = log.read_text().strip().splitlines() or [f"exit status {status}"]
                        failed.append(f"seed {seeds[log]} ({log}): {said[-1].removeprefix('error: ')}")
                        print(f"failed: seed {seeds[log]}, {left}", flush=True)
                        continue
                    log.unlink()
                    found = results[seeds[log]] = json.loads((Path(outputs) / f"{seeds[log]}.json").read_text())
                    scores = f"greedy {found['greedy return']}, sampled {found['sampled return']}"
                    print(f"seed {seeds[log]}: {scores}, {left}", flush=True)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"{len(results)} of {len(commands)} seeds are finished in {folder}; what another had learnt is its "
                "agent-interrupted.safetensors"
            ) from None
    closing = [results[seed] for seed in sorted(results)]
    scripts.write_json(arguments.output, closing)
    if failed:
        raise ValueError(f"{len(failed)} of {len(commands)} seeds failed; {failed[0]}")
    print(f"compare: python -m scripts.compare {shlex.quote(str(folder))}")
    return closing


def main(arguments: Arguments) -> dict[str, Any] | list[dict[str, Any]]:
    """Train, save, evaluate; returns the closing table, or those of several seeds."""
    scripts.import_from_here()
    scripts.check_writable(arguments.save, "--save")
    scripts.check_writable(arguments.output, "--output")
    for flag in ("episodes", "seeds", "jobs"):
        if getattr(arguments, flag) < 1:
            raise ValueError(f"--{flag} must be at least 1, got {getattr(arguments, flag)}")
    return train_one(arguments) if arguments.seeds == 1 else train_seeds(arguments)


def train_one(arguments: Arguments) -> dict[str, Any]:
    """Train one seed, save it, evaluate it; returns the closing table."""
    _, recipe = task_of(arguments)
    log_dir = arguments.log_dir or Path("runs") / run_name(arguments)
    path = arguments.save or log_dir / "agent.safetensors"
    agent = make(arguments, log_dir)
    print(f"{description(agent, arguments)}: {agent.num_envs} environments ({agent.vectorization})", flush=True)
    began = time.perf_counter(), time.process_time()
    progress, timesteps = agent.trainer.progress, arguments.total_timesteps
    saving = scripts.saving(path, functools.partial(save, agent), lambda: progress.updates > 0)
    with scripts.earlier_run_set_aside(log_dir, path), saving as keep:
        agent.learn(
            TIMESTEPS if timesteps is None and recipe is None else timesteps,
            stopping=Stopping(target=arguments.target_return),
            progress_bar=not arguments.quiet,
        )
        env_id, env_kwargs = agent.trained_in
        assert env_id is not None
        about: dict[str, Any] = {
            "env": env_id,
            **({} if recipe is None else {"recipe": recipe}),
            "method": agent.method.name,
            "seed": arguments.seed,
            "environment steps": agent.steps,
            "training seconds": round(time.perf_counter() - began[0], 2),
            "training CPU seconds": round(time.process_time() - began[1], 2),
        }
        keep()
        result: dict[str, Any] = {}
        ends: dict[str, float | None] = {}
        for kind, deterministic in (("greedy", True), ("sampled", False)):
            returns, _ = evaluate_policy(
                *(agent, env_id, arguments.episodes, deterministic, arguments.seed + 1), env_kwargs=env_kwargs
            )
            result[f"{kind} return"] = f"{returns.mean():.1f} ± {returns.std():.1f} over {len(returns)} episodes"
            ends[f"{kind}_return"] = returns.mean()
        if agent.trainer.best is not None:
            result["best evaluation"] = agent.trainer.best[0]
        agent.trainer.tracker.results(ends, agent.steps)
    result |= {**about, "saved": str(path)}
    scripts.finish(result, arguments.output, log_dir)
    named = f" --env {shlex.quote(env_id)}" if ":" in env_id else ""  # a file may not import a module by itself
    run = shlex.quote(str(path if arguments.save else log_dir))
    print(
        f"watch: python -m scripts.watch {run}{named}    # or with --gif FILE.gif, --strip FILE.png, --video FILE.mp4"
    )
    return result


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
