"""Saving and loading agents. All sizes in a file are compared with its tensors before anything is made."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rlce import checkpoint
from rlce.network import check_layers
from rlce.optimization import Optimization, check, check_number, check_whole
from rlce.reinforcement import masks, methods, spaces
from rlce.reinforcement.environments import EnvLike
from rlce.reinforcement.evaluation import WATCHED, Evaluation
from rlce.reinforcement.networks import Networks

# A file must have these, because with a default in their place the policy would act differently.
_NEEDED = "hidden", "seed", "env_kwargs", "activation", "normalize_observations", "rescale_actions", "scale_rewards"
_OTHERS = "initial_deviation", "vectorization"


class Saved(NamedTuple):
    """Takes the place of the environment in a loaded agent, until `learn` makes it."""

    env: EnvLike | None  # None if the saved environment was not an id
    from_file: tuple[str, ...]  # the environments that the file names, not the caller: to learn in and to evaluate in
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]


def save(agent: Any, path: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
    """Write an agent with this configuration; `rlce.PolicyGradient.save` documents it."""
    trainer, tensors = agent.trainer, agent.trainer.state_dict()
    state = {
        "steps": agent.steps,
        "rounds": trainer.progress.rounds,
        "updates": trainer.progress.updates,
        "plateau_factor": trainer.plateau_factor,
    }
    if trainer.best is not None:
        state["best"], best = trainer.best
        tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    checkpoint.save(path, "PolicyGradient", {**config, "state": state}, tensors)


def load(
    kind: type[Any],
    path: str | os.PathLike[str],
    env: EnvLike | None,
    env_kwargs: Mapping[str, Any] | None,
    network: Networks | None,
    given: Mapping[str, Any],
    device: str | torch.device,
) -> Any:
    """Load an agent of this class; `rlce.PolicyGradient.load` documents arguments and errors.

    Of ``given``, arguments that are not None replace saved ones.
    """
    if env is None and env_kwargs:
        raise ValueError(f"env_kwargs: they belong to env; pass both, got {dict(env_kwargs)} without env")
    config, tensors = checkpoint.load(path, "PolicyGradient")
    if config.get("foreign_network") and network is None:
        raise checkpoint.foreign_network(path)
    with checkpoint.naming(path):
        settings = config["settings"]
        check_whole("num_envs", config["num_envs"])
        if missing := [name for name in _NEEDED if settings.get(name) is None]:
            raise ValueError(f"it has no settings {missing}")
        if unknown := sorted(set(settings) - {*_NEEDED, *_OTHERS}):
            raise ValueError(f"it has unknown settings {unknown}")
        if env is not None:
            settings |= {"env_kwargs": dict(env_kwargs or {}), "vectorization": None}
        elif not isinstance(config["env"], str | None):
            raise TypeError(f"env must be an id, got {config['env']!r}")
        most = max(max(tensor.shape, default=1) for tensor in tensors.values()) if network is None else None
        observed, action = (spaces.from_json(config[f"{name}_space"], most) for name in ("observation", "action"))
        if network is None:
            _check_widths(observed, action, settings["hidden"], tensors)
        named = [] if env is not None else [config["env"]]
        evaluation, method, optimization = given["evaluation"], given["method"], given["optimization"]
        if evaluation is None:
            evaluation = Evaluation.from_json(config["evaluation"])
            named += [] if evaluation is None else [evaluation.env]
        from_file = tuple(name for name in named if isinstance(name, str))
        agent = kind(
            Saved(config["env"] if env is None else env, from_file, observed, action),
            methods.from_json(config["method"]) if method is None else method,
            num_envs=config["num_envs"] if given["num_envs"] is None else given["num_envs"],
            network=network,
            optimization=Optimization.from_json(config["optimization"]) if optimization is None else optimization,
            evaluation=evaluation,
            device=device,
            **settings,
        )
        state = config["state"]
        if optimization is not None:
            state |= {"plateau_factor": 1.0}
        _restore(agent, state, tensors)
        if env is not None or given["evaluation"] is not None:
            agent.trainer.monitored = None  # the next evaluations cannot be compared with the saved best
    return agent


def _restore(agent: Any, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Restore what `save` wrote."""
    trainer, last = agent.trainer, {name: t for name, t in tensors.items() if not name.startswith("best.")}
    if state.get("best") is None:
        last = dict(tensors)  # tensors of a best policy without its value are refused below
    else:
        check_number("best", state["best"], math.isfinite, "be a finite number")
        best = _complete(agent, checkpoint.section(tensors, "best."), last)
        trainer.best, trainer.monitored = (float(state["best"]), best), WATCHED
        trainer.restore_best()  # raises if it does not fit; then the last policy takes its place
    trainer.load_state_dict(_complete(agent, last, last))
    for name in ("steps", "rounds", "updates"):
        check_whole(name, state[name], least=0)
        check(name, state[name], state[name] < 2**63, "be below 2^63")
    check_number("plateau_factor", state["plateau_factor"], lambda factor: 0 < factor <= 1, "lie in (0, 1]")
    agent._steps_before = trainer.progress.step = state["steps"]
    trainer.progress.rounds, trainer.progress.updates = state["rounds"], state["updates"]
    trainer.plateau_factor = float(state["plateau_factor"])
    agent._seed_generators(np.random.SeedSequence([agent._settings["seed"], agent.steps]).spawn(4))


def _complete(agent: Any, tensors: Mapping[str, Tensor], last: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with a reference if, and only if, the method has one: if the file has none, the last policy."""
    policy = checkpoint.section(last, "module.policy.") if agent.reference is not None else {}
    reference = {f"module.reference.{name}": tensor for name, tensor in policy.items()}
    used = {name: t for name, t in tensors.items() if reference or not name.startswith("module.reference.")}
    groups = {name.partition(".")[0] for name in used}
    if unused := groups - {"module", "optimizer", *agent.trainer.companions}:
        raise ValueError(f"it has tensors that its settings do not use: {sorted(unused)}")
    return reference | used


def announce(named: tuple[str, ...], env_kwargs: Mapping[str, Any], call: str = "learn") -> None:
    """Refuse environments of a file that would import a module, and warn of those that get keyword arguments.

    Args:
        named: the environments that the file names, not the caller.
        env_kwargs: the keyword arguments in the file.
        call: what makes the environment: "learn", whose environment is passed to `load`, or "record".

    Raises:
        ValueError: an id "module:Name-v0".
    """
    remedies = {
        "learn": ("env= (or evaluation=, for evaluations) to load()", "env, env_kwargs and evaluation to load()"),
        "record": ("env= to record()", "env and env_kwargs to record()"),
    }
    trusting, choosing = remedies[call]
    for name in named:
        if ":" in name:
            raise ValueError(
                f"env: the file names {name!r}, which would import the module {name.rpartition(':')[0]!r}. A file may "
                f"come from a stranger: if you trust it, pass {trusting}"
            )
    if named and env_kwargs:
        warnings.warn(
            f"{call} makes the environment that the file names: {', '.join(map(repr, named))} with "
            f"env_kwargs {env_kwargs}; pass {choosing} to choose them",
            stacklevel=3,
        )


def _check_widths(
    observed: gymnasium.Space[Any], action: gymnasium.Space[Any], hidden: list[int], tensors: Mapping[str, Tensor]
) -> None:
    """Refuse sizes that differ from the policy's tensors."""
    widths = [spaces.flat_width(masks.input_space(observed, action)), *hidden, spaces.flat_width(action)]
    means = "network." if isinstance(action, gymnasium.spaces.Box) else ""
    check_layers(widths, checkpoint.section(tensors, f"module.policy.{means}"))
