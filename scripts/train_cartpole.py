"""Train an agent on CartPole-v1, by the recipe CartPole-v1/ppo unless another recipe or a method is named."""

from __future__ import annotations

import inspect
from dataclasses import replace

import tyro

import scripts
from scripts import train

ENV = "CartPole-v1"


def chosen(arguments: train.Arguments) -> train.Arguments:
    """The arguments, with the recipe if they name neither a recipe nor a method.

    Example:
        >>> chosen(train.Arguments(ENV)).recipe, chosen(train.Arguments(ENV, method="ppo")).recipe
        ('CartPole-v1/ppo', None)
    """
    named = arguments.task != ENV or arguments.recipe is not None or arguments.method is not None
    return arguments if named else replace(arguments, recipe=f"{ENV}/ppo")


if __name__ == "__main__":
    default = train.Arguments(ENV)
    *_, details = (inspect.getdoc(train.Arguments) or "").partition("\n")
    scripts.run(
        lambda: train.main(chosen(tyro.cli(train.Arguments, default=default, description=f"{__doc__}\n{details}")))
    )
