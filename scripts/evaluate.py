"""Evaluate a saved agent, greedy and sampled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

import scripts
from rlce import PolicyGradient, evaluate_policy


@dataclass(frozen=True)
class Arguments:
    """Evaluate a saved agent, greedy and sampled."""

    run: Annotated[Path, tyro.conf.Positional]
    """The saved file, or the directory that holds agent.safetensors."""
    episodes: int = 100
    """Number of episodes: greedy, then as many sampled."""
    seed: int = 1_000
    """Fixes the environments and the sampled actions."""
    env: str | None = None
    """Another environment with the same spaces; by default the one of the training."""
    env_kwargs: str = "{}"
    """Keyword arguments of that environment, as JSON."""
    max_steps: int | None = None
    """Cut episodes after this many steps; by default 10,000, and none in a task with a time limit."""


def main(arguments: Arguments) -> dict[str, float]:
    """Print mean, standard deviation and number of episodes; returns the two means."""
    scripts.import_from_here()
    path = arguments.run / "agent.safetensors" if arguments.run.is_dir() else arguments.run
    agent = PolicyGradient.load(path)
    env, env_kwargs = agent.trained_in
    if arguments.env is not None:
        env, env_kwargs = arguments.env, scripts.keywords(arguments.env_kwargs, "--env-kwargs")
    if env is None:
        raise ValueError("the agent was not trained in an environment with an id; name one with --env")
    if arguments.env is None and ":" in env:
        raise ValueError(
            f"env: the file names {env!r}, which would import the module {env.rpartition(':')[0]!r}. A file may come "
            f"from a stranger: if you trust it, pass --env {env}"
        )
    means = {}
    # A file may come from a stranger, so its environment is shown before it is made.
    given = f" with {dict(env_kwargs)}" if env_kwargs else ""
    print(f"{path}: {env}{given}, {agent.steps:,} training steps", flush=True)
    print(f"{'':8} {'mean':>9} {'std':>8} {'episodes':>9} {'length':>8}")
    for name, deterministic in (("greedy", True), ("sampled", False)):
        how = arguments.episodes, deterministic, arguments.seed
        returns, lengths = evaluate_policy(agent, env, *how, env_kwargs=env_kwargs, max_steps=arguments.max_steps)
        means[name] = float(returns.mean())
        print(f"{name:8} {returns.mean():9.2f} {returns.std():8.2f} {len(returns):9} {lengths.mean():8.1f}")
    return means


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
