"""What TensorBoard shows of an agent besides curves: the numbers that runs are compared by, and pictures of a round."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from rlce import plots
from rlce.network import evaluation_mode
from rlce.optimization import Optimization
from rlce.reinforcement.loss import Learner, Transitions, weighed
from rlce.reinforcement.methods import Method
from rlce.tracking import Details

_COMPONENTS, _POINTS = 8, 500


def hyperparameters(
    env: str | None, num_envs: int, settings: Mapping[str, Any], method: Method, optimization: Optimization
) -> dict[str, Any]:
    """The numbers and words that runs are compared by. Capitals come first in TensorBoard.

    Args:
        env: the environment's id, or None.
        num_envs: of copies of it.
        settings: the agent's, as a file keeps them.
        method: its own numbers are those of its constructor or, if it was made otherwise, its fields.
        optimization: optimiser and learning rate.

    Example:
        >>> from rlce.reinforcement import methods
        >>> found = hyperparameters("CartPole-v1", 16, {"seed": 3}, methods.ppo(clip=0.1), Optimization())
        >>> found["Method"], found["Learning rate"], found["Seed"], found["clip"]
        ('ppo', 0.001, 3, 0.1)
    """
    numbers = vars(method) if method.arguments is None else method.arguments
    plain = {name: value for name, value in numbers.items() if isinstance(value, bool | int | float | str)}
    names = ("hidden", "activation", "normalize_observations", "scale_rewards", "rescale_actions")
    return {
        **plain,
        **{name: settings.get(name) for name in names},
        "Method": method.name,
        "Learning rate": optimization.learning_rate,
        "Seed": settings["seed"],
        "Task": env or "an environment of one's own",
        "envs": num_envs,
        "optimizer": optimization.optimizer,
        "schedule": optimization.schedule if isinstance(optimization.schedule, str) else "a function",
    }


def of_round(rows: Transitions, method: Method, learner: Learner, progress: float = 0.0) -> Details:
    """Weights, advantages, entropy, actions, values and returns of a round's rows, under the networks as they are now.

    Args:
        rows: of the last round.
        method: its weight rule.
        learner: the networks; nothing is changed, and no random number is drawn.
        progress: the fraction of training done.
    """
    outputs, weight, advantage = weighed(rows, method, learner, progress)
    found = {"policy/weights": weight, "policy/advantages": advantage, "policy/entropy": learner.head.entropy(outputs)}
    components = rows.action[:, None] if rows.action.ndim == 1 else rows.action.flatten(1)
    width = components.shape[1]
    for component in range(min(width, _COMPONENTS)):
        name = "policy/actions" if width == 1 else f"policy/actions/{component}"
        found[name] = components[:, component]
    images = {}
    if learner.critic is not None:
        with evaluation_mode(learner.critic), torch.no_grad():
            value = learner.critic(rows.observation)[:, 0]
        found |= {"policy/values": value, "policy/returns": rows.target[:, 0]}
        some = slice(None, None, -(-len(value) // _POINTS))
        true, said = (found[name][some].double().cpu().numpy() for name in ("policy/returns", "policy/values"))
        axes = "return (the critic's target)", "value V(s)"
        images["policy/values_and_returns"] = partial(plots.predictions, true, said, None, axes)
    return Details({name: numbers.detach().double().cpu().numpy() for name, numbers in found.items()}, images)
