"""Train an agent on CartPole-v1 (or another task), evaluate it, save it."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import scripts  # sets the number of threads before NumPy loads

# isort: split
import torch
import tyro

from agents import cartpole
from rlce import Evaluation, PolicyGradient, Stopping, evaluate_policy, methods


@dataclass(frozen=True)
class Arguments:
    """Train an agent on CartPole-v1 (or another task), evaluate it, save it.

    A rerun replaces nothing: it first moves the files of the earlier run into earlier-1 (or earlier-2, ...) beside
    them. Ctrl-C saves what was learnt as agent-interrupted.safetensors.
    """

    method: Literal[tuple(cartpole.RECIPES)] = "ppo"  # type: ignore[valid-type]
    """Which recipe of agents/cartpole.py."""
    method_kwargs: str = "{}"
    """Arguments of the method that replace the recipe's, as JSON: '{"baseline": "mean"}', '{"group_size": 4}'."""
    env: str = "CartPole-v1"
    """A Gymnasium id. The recipes were made for CartPole-v1."""
    env_kwargs: str = "{}"
    """Keyword arguments of the environment, as JSON: '{"max_episode_steps": 200}'."""
    seed: int = 0
    """Fixes weights, environments, actions and minibatches."""
    total_timesteps: int | None = None
    """Environment steps to train for; by default the recipe's."""
    num_envs: int | None = None
    """Number of copies of the environment; by default the recipe's."""
    learning_rate: float | None = None
    """Step size at the start; by default the recipe's."""
    normalize_observations: bool = False
    """Standardise observations by running statistics."""
    scale_rewards: bool = False
    """Divide rewards by the running deviation of their discounted sum, even if the recipe does not."""
    evaluate_every: int | None = None
    """Evaluate each time this many steps have passed, and save the best policy as agent-best.safetensors."""
    target_return: float | None = None
    """Stop once the mean return reaches this: of the evaluations if there are any, otherwise of training."""
    episodes: int = 100
    """Number of episodes of the closing evaluation: greedy, then as many sampled."""
    log_dir: Path | None = None
    """Directory for TensorBoard and the saved agent; by default runs/METHOD-ENV-SEED."""
    save: Path | None = None
    """File for the agent; by default LOG_DIR/agent.safetensors."""
    output: Path | None = None
    """File for the closing table, as JSON."""
    device: str = "cpu"
    """Device of the networks. The CPU is fastest for small ones."""
    quiet: bool = False
    """Show no progress bar."""


def make(arguments: Arguments, log_dir: Path) -> PolicyGradient:
    """The agent that the arguments describe."""
    recipe = cartpole.RECIPES[arguments.method]
    overrides: dict[str, Any] = {
        "env": arguments.env,
        "env_kwargs": scripts.keywords(arguments.env_kwargs, "--env-kwargs"),
        "num_envs": arguments.num_envs,
        "normalize_observations": arguments.normalize_observations,
        "scale_rewards": arguments.scale_rewards or None,
        "device": arguments.device,
    }
    if method_kwargs := scripts.keywords(arguments.method_kwargs, "--method-kwargs"):
        overrides["method"] = methods.named(recipe.method.name, {**(recipe.method.arguments or {}), **method_kwargs})
    if arguments.learning_rate is not None:
        overrides["optimization"] = replace(recipe.optimization, learning_rate=arguments.learning_rate)
    if arguments.evaluate_every is not None:
        overrides["evaluation"] = Evaluation(every=arguments.evaluate_every)
    given = {name: value for name, value in overrides.items() if value is not None}
    return cartpole.make(arguments.seed, log_dir, recipe=arguments.method, **given)


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


def main(arguments: Arguments) -> dict[str, Any]:
    """Train, save, evaluate; returns the closing table."""
    torch.set_num_threads(1)
    scripts.check_writable(arguments.save, "--save")
    scripts.check_writable(arguments.output, "--output")
    if arguments.episodes < 1:
        raise ValueError(f"--episodes must be at least 1, got {arguments.episodes}")
    name = f"{arguments.method}-{arguments.env}-{arguments.seed}".replace("/", "-")
    log_dir = arguments.log_dir or Path("runs") / name
    path = arguments.save or log_dir / "agent.safetensors"
    recipe, agent = cartpole.RECIPES[arguments.method], make(arguments, log_dir)
    print(f"{name}: {agent.num_envs} environments ({agent.vectorization})", flush=True)
    began = time.perf_counter(), time.process_time()
    progress = agent.trainer.progress
    saving = scripts.saving(path, functools.partial(save, agent), lambda: progress.updates > 0)
    with scripts.earlier_run_set_aside(log_dir, path), saving as keep:
        agent.learn(
            recipe.timesteps if arguments.total_timesteps is None else arguments.total_timesteps,
            stopping=Stopping(target=arguments.target_return),
            progress_bar=not arguments.quiet,
        )
        result: dict[str, Any] = {
            "env": arguments.env,
            "method": arguments.method,
            "seed": arguments.seed,
            "environment steps": agent.steps,
            "training seconds": round(time.perf_counter() - began[0], 2),
            "training CPU seconds": round(time.process_time() - began[1], 2),
        }
        keep()
        if agent.trainer.best is not None:
            result["best evaluation"] = agent.trainer.best[0]
        for kind, deterministic in (("greedy", True), ("sampled", False)):
            returns, _ = evaluate_policy(
                *(agent, arguments.env, arguments.episodes, deterministic, arguments.seed + 1),
                env_kwargs=agent.trained_in[1],
            )
            result[f"{kind} return"] = f"{returns.mean():.1f} ± {returns.std():.1f} over {len(returns)} episodes"
    result["saved"] = str(path)
    scripts.finish(result, arguments.output, log_dir)
    return result


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
