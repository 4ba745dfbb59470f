"""Evaluate a saved agent, greedy and sampled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

import scripts
from rlce import evaluate_policy


@dataclass(frozen=True)
class Arguments:
    """Evaluate a saved agent, greedy and sampled."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The saved file, or the directory that holds agent.safetensors."""
    episodes: int = 100
    """Number of episodes: greedy, then as many sampled."""
    seed: int = 1_000
    """Fixes the environments and the sampled actions."""
    env: str | None = None
    """Another environment with the same spaces; by default the one of the training."""
    env_kwargs: str | None = None
    """Keyword arguments of the environment, as JSON; by default those of the training, and none with --env."""
    max_steps: int | None = None
    """Cut episodes after this many steps; by default 10,000, and none in a task with a time limit."""


def main(arguments: Arguments) -> dict[str, float]:
    """Print mean, standard deviation and number of episodes; returns the two means."""
    agent, env, env_kwargs = scripts.saved_agent(arguments.run, arguments.env, arguments.env_kwargs)
    means = {}
    print(f"{'':8} {'mean':>9} {'std':>8} {'episodes':>9} {'length':>8}")
    for name, deterministic in (("greedy", True), ("sampled", False)):
        how = arguments.episodes, deterministic, arguments.seed
        returns, lengths = evaluate_policy(agent, env, *how, env_kwargs=env_kwargs, max_steps=arguments.max_steps)
        means[name] = float(returns.mean())
        print(f"{name:8} {returns.mean():9.2f} {returns.std():8.2f} {len(returns):9} {lengths.mean():8.1f}")
    return means


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
