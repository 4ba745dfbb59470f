"""Recipes: tasks with settings that are known to work. Their numbers are in ``rlce/recipes.json``.

A recipe is named "ENV/METHOD" and is complete: a later change of the library's defaults does not touch it. It is used
only where it is asked for: ``PolicyGradient(recipe="CartPole-v1/ppo").learn()``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from rlce.optimization import Optimization
from rlce.reinforcement import methods
from rlce.reinforcement.settings import Settings


@dataclass(frozen=True)
class Recipe:
    """A task and the settings that are known to work on it.

    Attributes:
        name: "ENV/METHOD".
        env: the environment's id.
        env_kwargs: keyword arguments of the environment.
        timesteps: environment steps to train for.
        settings: all settings of the agent.
    """

    name: str
    env: str
    env_kwargs: Mapping[str, Any]
    timesteps: int
    settings: Settings


def names(env: str | None = None) -> tuple[str, ...]:
    """The names of all recipes, or of those for one environment id.

    Example:
        >>> "CartPole-v1/ppo" in names("CartPole-v1")
        True
    """
    return tuple(name for name, recipe in _read().items() if env in (None, recipe["env"]))


def get(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        ValueError: there is no such recipe; the message lists those of that environment, or all.

    Example:
        >>> get("CartPole-v1/ppo").timesteps
        50000
    """
    described = _read().get(name)
    if described is None:
        env = str(name).rpartition("/")[0] or str(name)
        near = names(env) or [each for each in names() if each.startswith(f"{env}/")] or names()
        raise ValueError(f"recipe must be one of {', '.join(near)}, got {name!r}")
    task = {key: described.pop(key) for key in ("env", "env_kwargs", "timesteps")}
    method, optimization = methods.named(**described.pop("method")), Optimization(**described.pop("optimization"))
    return Recipe(name, **task, settings=Settings(method=method, optimization=optimization, **described))


def environment(recipe: Recipe | None, env: Any, env_kwargs: Mapping[str, Any] | None) -> tuple[Any, Mapping[str, Any]]:
    """The environment in force and its keyword arguments: what is given, else the recipe's.

    The recipe's keyword arguments belong to its own environment alone.

    Raises:
        ValueError: neither an environment nor a recipe is given, or the environment is the name of a recipe.
    """
    if isinstance(env, str) and env in names():
        raise ValueError(f"env: {env!r} is the name of a recipe; pass recipe={env!r}")
    if env is None and recipe is None:
        raise ValueError("env: pass an environment, or recipe= with a name of rlce.recipes.names()")
    if recipe is None or not (env is None or env == recipe.env):
        return env, {} if env_kwargs is None else env_kwargs
    return recipe.env, recipe.env_kwargs if env_kwargs is None else env_kwargs


def _read() -> dict[str, dict[str, Any]]:
    return json.loads(resources.files("rlce").joinpath("recipes.json").read_text())
