"""CartPole-v1: one agent per method, with settings that solve it and stay solved."""

from __future__ import annotations

import os
from typing import Any

from rlce import Method, Optimization, PolicyGradient, methods

TIMESTEPS = 60_000
METHODS = ("ppo", "actor-critic", "reinforce", "reinforce-loo")


def budget(method: str = "ppo") -> int:
    """Environment steps that the method's recipe trains for."""
    return {"ppo": TIMESTEPS}.get(method, 300_000)


def settings(method: str = "ppo") -> tuple[Method, int, Optimization]:
    """Method, number of environments and optimisation of a recipe.

    Raises:
        ValueError: no recipe of that name.
    """
    if method == "ppo":
        optimization = Optimization(learning_rate=5e-3, schedule="linear", floor=0.1, max_gradient_norm=0.5)
        return methods.ppo(discount=0.98, steps=32, epochs=6, minibatch_size=256), 32, optimization
    if method == "reinforce":
        return (
            methods.reinforce(),
            32,
            Optimization(learning_rate=5e-3, schedule="linear", floor=0.1, max_gradient_norm=0.5),
        )
    raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")


def make(
    seed: int = 0, log_dir: str | os.PathLike[str] | None = None, *, method: str = "ppo", **overrides: Any
) -> PolicyGradient:
    """The untrained agent; ``overrides`` are `rlce.PolicyGradient`'s arguments.

    Example:
        >>> make(seed=1).method.name
        'ppo'
    """
    chosen, num_envs, optimization = settings(method)
    arguments: dict[str, Any] = {
        "method": chosen,
        "num_envs": num_envs,
        "optimization": optimization,
        **overrides,
    }
    return PolicyGradient(arguments.pop("env", "CartPole-v1"), seed=seed, log_dir=log_dir, **arguments)
