"""CartPole-v1: one recipe a method.

Held solves (greedy and sampled mean of 100 episodes >= 475 at every evaluation, each 2,048 steps, to the end; median
and range over seeds; CPU seconds of the process in training)::

    python -m scripts.benchmark held --method ppo reinforce reinforce-no-critic --seeds 20
    python -m scripts.benchmark held --method actor-critic --seeds 10

===================  ======  ========================  ==================  =========
recipe               held    env steps to it           CPU s to it         of steps
===================  ======  ========================  ==================  =========
ppo                  20/20   21,320 (11,103 to 49,821)    0.51 (0.27 to 1.21)     60,000
reinforce            18/20   22,284 (10,363 to 45,513)    0.34 (0.16 to 0.72)     60,000
reinforce-no-critic  19/20   22,193 (7,884 to 44,833)     0.28 (0.14 to 0.62)     60,000
actor-critic         9/10    43,047 (26,827 to 86,121)    0.66 (0.47 to 1.41)    100,000
===================  ======  ========================  ==================  =========

They were found by a random search on seeds 100–105 and 200–219.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from rlce import Method, Optimization, PolicyGradient, methods

TIMESTEPS = 60_000


@dataclass(frozen=True)
class Recipe:
    """What is not the library's default, and for how long to train.

    Attributes:
        method: the method with its numbers.
        num_envs: copies of the environment.
        hidden: widths of the hidden layers.
        optimization: optimiser, schedule, clipping.
        timesteps: environment steps.
        scale_rewards: divide rewards by the running deviation of their discounted sum.
    """

    method: Method
    num_envs: int
    hidden: tuple[int, ...]
    optimization: Optimization
    timesteps: int = TIMESTEPS
    scale_rewards: bool = False


def _adam(learning_rate: float, max_gradient_norm: float | None = None) -> Optimization:
    return Optimization(learning_rate=learning_rate, schedule="linear", floor=0.1, max_gradient_norm=max_gradient_norm)


RECIPES = {
    "ppo": Recipe(methods.ppo(discount=0.98, standardize=False), 32, (32, 32), _adam(5e-3, 0.5), scale_rewards=True),
    "actor-critic": Recipe(
        methods.actor_critic(discount=0.995, trace=0.99, steps=32, standardize=True),
        8,
        (32, 32),
        _adam(1e-2, 1.0),
        100_000,
        scale_rewards=True,
    ),
    "reinforce": Recipe(
        methods.reinforce(discount=0.995, episodes=8, standardize=True),
        8,
        (32, 32),
        _adam(2e-2),
        scale_rewards=True,
    ),
    "reinforce-no-critic": Recipe(
        methods.reinforce(baseline="leave-one-out", discount=1.0, episodes=8, standardize=True),
        8,
        (32, 32),
        _adam(2e-2),
    ),
    "rloo": Recipe(methods.rloo(episodes=8, standardize=True), 8, (32, 32), _adam(2e-2), 100_000),
    "grpo": Recipe(methods.grpo(episodes=8), 8, (32, 32), _adam(1e-2, 0.5), 100_000),
    "dr-grpo": Recipe(methods.grpo(episodes=8, biased=False), 8, (32, 32), _adam(1e-2, 0.5), 100_000),
    "cispo": Recipe(
        methods.cispo(discount=0.98, standardize=False), 32, (32, 32), _adam(5e-3, 0.5), 100_000, scale_rewards=True
    ),
    "v-trace": Recipe(
        methods.v_trace(discount=0.995, trace=0.99, replay=1, standardize=True),
        8,
        (32, 32),
        _adam(5e-3, 1.0),
        100_000,
        scale_rewards=True,
    ),
    "reward-weighted-regression": Recipe(
        methods.reward_weighted_regression(discount=0.98, episodes=16), 16, (32, 32), _adam(1e-2, 1.0), 100_000
    ),
    "advantage-weighted-regression": Recipe(
        methods.advantage_weighted_regression(discount=0.98, temperature=0.5),
        32,
        (32, 32),
        _adam(5e-3, 0.5),
        100_000,
        scale_rewards=True,
    ),
    "self-imitation": Recipe(
        methods.self_imitation(discount=0.98, episodes=8), 8, (32, 32), _adam(1e-2, 1.0), 100_000, scale_rewards=True
    ),
    "elite": Recipe(methods.elite(episodes=16), 16, (32, 32), _adam(1e-2, 1.0), 100_000),
}


def make(
    seed: int = 0, log_dir: str | os.PathLike[str] | None = None, *, recipe: str = "ppo", **overrides: Any
) -> PolicyGradient:
    """The untrained agent.

    Args:
        seed: of everything.
        log_dir: TensorBoard directory.
        recipe: one of ``RECIPES``.
        overrides: arguments of `rlce.PolicyGradient`, ``env`` among them, in place of the recipe's.

    Returns:
        The agent; train it for ``RECIPES[recipe].timesteps`` (``TIMESTEPS`` for the default).

    Raises:
        ValueError: no recipe of that name.

    Example:
        >>> make(seed=1).method.name
        'ppo'
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, got {recipe!r}")
    chosen = RECIPES[recipe]
    arguments: dict[str, Any] = {
        "env": "CartPole-v1",
        "method": chosen.method,
        "num_envs": chosen.num_envs,
        "hidden": chosen.hidden,
        "optimization": chosen.optimization,
        "scale_rewards": chosen.scale_rewards,
        **overrides,
    }
    return PolicyGradient(seed=seed, log_dir=log_dir, **arguments)
