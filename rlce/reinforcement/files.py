"""Loading agents from files. All sizes in a file are compared with its tensors before anything is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import torch
from torch import Tensor

from rlce import checkpoint
from rlce.network import NetworkFactory, check_layers
from rlce.optimization import Optimization
from rlce.reinforcement import masks, methods, spaces
from rlce.reinforcement.environments import EnvLike
from rlce.reinforcement.evaluation import Evaluation

# A file must have these, because with a default in their place the policy would act differently.
_NEEDED = "hidden", "seed", "env_kwargs", "activation", "normalize_observations", "rescale_actions", "scale_rewards"


class Saved(NamedTuple):
    """Takes the place of the environment in a loaded agent, until `learn` makes it."""

    env: EnvLike | None  # None if the saved environment was not an id
    from_file: tuple[str, ...]  # the environments that the file names, not the caller: to learn in and to evaluate in
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]


def load(
    kind: type[Any],
    path: str | os.PathLike[str],
    env: EnvLike | None,
    env_kwargs: Mapping[str, Any] | None,
    network: NetworkFactory | None,
    method: methods.Method | None,
    evaluation: Evaluation | None,
    device: str | torch.device,
) -> Any:
    """Load an agent of this class; `rlce.PolicyGradient.load` documents arguments and errors."""
    config, tensors = checkpoint.load(path, "PolicyGradient")
    if config.get("foreign_network") and network is None:
        raise checkpoint.foreign_network(path)
    with checkpoint.naming(path):
        settings = config["settings"]
        if missing := [name for name in _NEEDED if name not in settings]:
            raise ValueError(f"it has no settings {missing}")
        if env is not None:
            settings |= {"env_kwargs": dict(env_kwargs or {}), "vectorization": None}
        elif not isinstance(config["env"], str | None):
            raise TypeError(f"env must be an id, got {config['env']!r}")
        most = max(max(tensor.shape, default=1) for tensor in tensors.values()) if network is None else None
        observed, action = (spaces.from_json(config[f"{name}_space"], most) for name in ("observation", "action"))
        if network is None:
            _check_widths(observed, action, settings["hidden"], tensors)
        named = [] if env is not None else [config["env"]]
        if evaluation is None:
            evaluation = Evaluation.from_json(config["evaluation"])
            named += [] if evaluation is None else [evaluation.env]
        from_file = tuple(name for name in named if isinstance(name, str))
        agent = kind(
            Saved(config["env"] if env is None else env, from_file, observed, action),
            methods.from_json(config["method"]) if method is None else method,
            num_envs=config["num_envs"],
            network=network,
            optimization=Optimization.from_json(config["optimization"]),
            evaluation=evaluation,
            device=device,
            **settings,
        )
        agent._restore(config["state"], tensors)
    return agent


def _check_widths(
    observed: gymnasium.Space[Any], action: gymnasium.Space[Any], hidden: list[int], tensors: Mapping[str, Tensor]
) -> None:
    """Refuse sizes that differ from the policy's tensors."""
    widths = [spaces.flat_width(masks.input_space(observed, action)), *hidden, spaces.flat_width(action)]
    means = "network." if isinstance(action, gymnasium.spaces.Box) else ""
    check_layers(widths, checkpoint.section(tensors, f"module.policy.{means}"))
