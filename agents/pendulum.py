"""Pendulum-v1: PPO with a Gaussian of learnt deviation. The loss uses the raw sample, the environment the clipped one.

The task pays −16 to 0 at each of 200 steps, and its actions lie in −2 ... 2. Both are far from the size of a fresh
network's outputs, so the defaults of "ppo" scale rewards and rescale actions. The recipe is these defaults for 300,000
steps (``rlce/recipes.json``). ``docs/results.md`` has what it reaches over ten seeds; a few are seen with::

    python -m scripts.benchmark returns --recipe Pendulum-v1/ppo --seeds 3
"""

from __future__ import annotations

import os
from typing import Any

from rlce import PolicyGradient, recipes

TIMESTEPS = recipes.get("Pendulum-v1/ppo").timesteps


def make(
    seed: int = 0, log_dir: str | os.PathLike[str] | None = None, *, recipe: str = "Pendulum-v1/ppo", **overrides: Any
) -> PolicyGradient:
    """The untrained agent; ``learn()`` trains it for the recipe's number of environment steps.

    Args:
        seed: the seed.
        log_dir: directory for TensorBoard; None for no output.
        recipe: the name of a recipe for Pendulum-v1.
        overrides: arguments of `rlce.PolicyGradient` that replace the recipe's.

    Raises:
        ValueError: an unknown recipe.

    Example:
        >>> make(seed=1).head.learns_scale
        True
    """
    return PolicyGradient(recipe=recipe, seed=seed, log_dir=log_dir, **overrides)
