"""Pendulum-v1: PPO with a Gaussian of learnt deviation, whose raw sample is scored and whose clipped one is sent.

The task pays −16 to 0 at each of 200 steps, too much for a critic at these step sizes: rewards are scaled. The effects
of an action are soon over, so γ = 0.95 and λ = 0.9 cost little bias.

Measured, greedy over 100 episodes after 98,848 environment steps: −187.3, −211.8, −169.4, −182.8, −183.7 for seeds 0–4,
on which the settings were chosen among a dozen; −163.1, −167.5, −297.0, −170.4, −169.8 for seeds 5–9, which had no
part in that. Mean of the ten −190.3, spread 38.0 (population). Made by::

    python -c "
    from agents import pendulum
    from rlce import evaluate_policy
    for seed in range(10):
        agent = pendulum.make(seed).learn(pendulum.TIMESTEPS)
        print(seed, agent.steps, evaluate_policy(agent, 'Pendulum-v1', seed=1000 + seed).returns.mean().round(1))"
"""

from __future__ import annotations

import os
from typing import Any

from rlce import Optimization, PolicyGradient, methods

TIMESTEPS = 98_000  # a round is up to 1,024 steps, and the last one is finished: 100,000 are never passed


def make(seed: int = 0, log_dir: str | os.PathLike[str] | None = None, **overrides: Any) -> PolicyGradient:
    """The untrained agent; train it for ``TIMESTEPS``.

    Args:
        seed: of everything.
        log_dir: TensorBoard directory.
        overrides: arguments of `rlce.PolicyGradient`, ``env`` among them, in place of the recipe's.

    Returns:
        The agent.

    Example:
        >>> make(seed=1).head.learns_scale
        True
    """
    arguments: dict[str, Any] = {
        "env": "Pendulum-v1",
        "method": methods.ppo(discount=0.95, trace=0.9, steps=32, epochs=10, minibatch_size=256),
        "num_envs": 32,
        "hidden": (64, 64),
        "activation": "relu",
        "optimization": Optimization(learning_rate=2e-3, schedule="linear", floor=0.1, max_gradient_norm=0.5),
        "scale_rewards": True,
        **overrides,
    }
    return PolicyGradient(seed=seed, log_dir=log_dir, **arguments)
