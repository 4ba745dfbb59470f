"""Train an agent on CartPole-v1 (or another task), evaluate it, save it."""

from __future__ import annotations

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
    """Train an agent on CartPole-v1 (or another task), evaluate it, save it."""

    method: Literal[tuple(cartpole.RECIPES)] = "ppo"  # type: ignore[valid-type]
    """Which recipe of agents/cartpole.py."""
    method_kwargs: str = "{}"
    """Arguments of the method in place of the recipe's, as JSON: '{"baseline": "mean"}', '{"group_size": 4}'."""
    env: str = "CartPole-v1"
    """A Gymnasium id; the recipe was made for CartPole-v1."""
    env_kwargs: str = "{}"
    """Keyword arguments of the environment as JSON: '{"max_episode_steps": 200}'."""
    seed: int = 0
    """Fixes weights, environments, actions and minibatches."""
    total_timesteps: int | None = None
    """Environment steps to train for; by default the recipe's."""
    num_envs: int | None = None
    """Copies of the environment; by default the recipe's."""
    learning_rate: float | None = None
    """Step size at the start; by default the recipe's."""
    normalize_observations: bool = False
    """Standardise observations by running statistics."""
    scale_rewards: bool = False
    """Divide rewards by the running deviation of their discounted sum, whatever the recipe says."""
    evaluate_every: int | None = None
    """Evaluate after every so many steps during training, and save the best policy beside the last."""
    target: float | None = None
    """Stop once the mean return (of evaluation, if there is one) is at least this."""
    episodes: int = 100
    """Episodes of the closing evaluation, greedy and again sampled."""
    log_dir: Path | None = None
    """Directory for TensorBoard and the saved agent; runs/METHOD-ENV-SEED by default."""
    save: Path | None = None
    """File for the agent; LOG_DIR/agent.safetensors by default."""
    output: Path | None = None
    """File for the closing table as JSON."""
    device: str = "cpu"
    """Where the networks live; the CPU is fastest for small ones."""
    quiet: bool = False
    """No progress bar."""


def make(arguments: Arguments, log_dir: Path) -> PolicyGradient:
    """The agent that the arguments ask for."""
    overrides: dict[str, Any] = {
        "env": arguments.env,
        "env_kwargs": scripts.keywords(arguments.env_kwargs, "--env-kwargs"),
        "normalize_observations": arguments.normalize_observations,
        "device": arguments.device,
    }
    method_kwargs = scripts.keywords(arguments.method_kwargs, "--method-kwargs")
    if method_kwargs:
        method = cartpole.RECIPES[arguments.method].method
        overrides["method"] = methods.named(method.name, {**(method.arguments or {}), **method_kwargs})
    if arguments.scale_rewards:
        overrides["scale_rewards"] = True
    if arguments.num_envs is not None:
        overrides["num_envs"] = arguments.num_envs
    if arguments.learning_rate is not None:
        recipe = cartpole.RECIPES[arguments.method]
        overrides["optimization"] = replace(recipe.optimization, learning_rate=arguments.learning_rate)
    if arguments.evaluate_every is not None:
        overrides["evaluation"] = Evaluation(every=arguments.evaluate_every)
    return cartpole.make(arguments.seed, log_dir, recipe=arguments.method, **overrides)


def main(arguments: Arguments) -> dict[str, Any]:
    """Train, evaluate, save; returns the closing table."""
    torch.set_num_threads(1)
    for flag, path in (("--save", arguments.save), ("--output", arguments.output)):
        scripts.check_writable(path, flag)
    if arguments.episodes < 1:
        raise ValueError(f"--episodes must be at least 1, got {arguments.episodes}")
    name = f"{arguments.method}-{arguments.env}-{arguments.seed}".replace("/", "-")
    log_dir = arguments.log_dir or Path("runs") / name
    save = arguments.save or log_dir / "agent.safetensors"
    agent = make(arguments, log_dir)
    print(f"{name}: {agent.num_envs} environments ({agent.vectorization})")
    began = time.perf_counter(), time.process_time()
    agent.learn(
        cartpole.RECIPES[arguments.method].timesteps
        if arguments.total_timesteps is None
        else arguments.total_timesteps,
        stopping=Stopping(target=arguments.target),
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
    agent.save(save)
    if arguments.evaluate_every is not None and agent.trainer.best is not None:
        last = {name: tensor.clone() for name, tensor in agent.networks.state_dict().items()}
        result["best evaluation"] = agent.restore_best()
        agent.save(save.with_stem(save.stem + "-best"))
        agent.networks.load_state_dict(last)
    for name, deterministic in (("greedy", True), ("sampled", False)):
        returns, _ = evaluate_policy(
            agent, arguments.env, arguments.episodes, deterministic, arguments.seed + 1, env_kwargs=agent.trained_in[1]
        )
        result[f"{name} return"] = f"{returns.mean():.1f} ± {returns.std():.1f} over {arguments.episodes} episodes"
    result["saved"] = str(save)
    scripts.finish(result, arguments.output, log_dir)
    return result


if __name__ == "__main__":
    arguments = tyro.cli(Arguments)
    scripts.run(lambda: main(arguments))
