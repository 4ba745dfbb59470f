"""Pendulum-v1: PPO with a Gaussian of learnt deviation, whose raw sample is scored and whose clipped one is sent.

The task pays −16 to 0 at each of 200 steps, too much for a critic at these step sizes: rewards are scaled. The effects
of an action are soon over, so γ = 0.95 and λ = 0.9 cost little bias.

Measured over 100 episodes after 98,848 environment steps, seeds 0–4, median and range: greedy −168.0 (−235.9 to
−158.5), sampled −169.9 (−234.6 to −159.8), about 6 CPU seconds each. The settings were chosen among a dozen on these
seeds::

    python -m scripts.benchmark returns --recipe pendulum --seeds 5
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
