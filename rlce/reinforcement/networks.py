"""The networks of an agent: the library's MLPs, or those that a user's factories make.

A factory is called with ``(n_inputs, n_outputs)``. If it has a parameter named ``role``, it is told "policy" or
"critic". The policy's network is made first, so that a factory may give the critic a part of it. This one makes both on
one hidden layer; each agent gets a layer of its own, and the gradients of both losses reach it::

    class SharedTrunk:
        def __call__(self, n_inputs, n_outputs, role):
            if role == "policy":
                self.trunk = nn.Sequential(nn.Linear(n_inputs, 64), nn.Tanh())
            return nn.Sequential(self.trunk, nn.Linear(64, n_outputs))

    agent = PolicyGradient("CartPole-v1", network=SharedTrunk())

``value_weight`` then also says how much the critic's loss changes the trunk. The critic's own passes change it, too:
``value_epochs=0`` leaves them out. A gradient step of both networks computes the trunk twice. A file holds it twice;
`PolicyGradient.load` calls the factory again, and so shares it again.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import log
from typing import Any

from torch import nn

from rlce.heads import Distribution, Gaussian
from rlce.network import MLP, WithLogStd, build, check_factory
from rlce.optimization import check
from rlce.reinforcement.methods import Method

Factory = Callable[..., nn.Module]  # (n_inputs, n_outputs), and perhaps role
Networks = Factory | Sequence[Factory] | Mapping[str, Factory]  # one for both, or one for each
ROLES = "policy", "critic"


def factories(networks: Networks | None) -> dict[str, Factory] | None:
    """The factory of each role, which is told its role if it has a parameter of that name; None for the library's MLPs.

    Args:
        networks: a factory for both, a pair (policy, critic), or a mapping from "policy" and "critic" to factories.

    Raises:
        ValueError: it is something else.

    Example:
        >>> def make(n_inputs, n_outputs, role):
        ...     return nn.Linear(n_inputs, n_outputs, bias=role == "critic")
        >>> made = {role: factory(4, 1) for role, factory in factories({"policy": make, "critic": make}).items()}
        >>> made["policy"].bias is None, made["critic"].bias is None
        (True, False)
    """
    if networks is None:
        return None
    if isinstance(networks, Mapping):
        each = dict(networks)
    elif isinstance(networks, Sequence):
        each = dict(zip(ROLES, networks, strict=False)) if len(networks) == 2 else {}
    else:
        check_factory(networks)
        each = dict.fromkeys(ROLES, networks)
    several = 'a pair (policy, critic) of them, or a mapping from "policy" and "critic" to them'
    complete = set(each) == set(ROLES) and None not in each.values()
    check("network", networks, complete, f"be a factory (n_inputs, n_outputs) -> nn.Module, {several}")
    for factory in each.values():
        check_factory(factory)
    return {role: partial(factory, role=role) if _asks(factory) else factory for role, factory in each.items()}


def _asks(factory: Factory) -> bool:
    """True if the factory has a parameter ``role`` that no partial has bound."""
    try:
        parameters = inspect.signature(factory).parameters
    except ValueError:  # some that are written in C have none
        return False
    return "role" in parameters and "role" not in getattr(factory, "keywords", {})


def make(
    head: Distribution,
    widths: tuple[int, int],
    method: Method,
    own: Mapping[str, Factory] | None,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
) -> dict[str, nn.Module]:
    """The policy, and the critic and the reference if the method has them.

    Args:
        head: what the policy's outputs mean.
        widths: of an observation and of the policy's outputs (for a Box, of the means).
        method: what it needs.
        own: the user's factories by role; None for the library's MLPs.
        settings: of the MLPs: ``hidden`` and ``activation``; for a Box also ``initial_deviation``.
        seeds: of the policy and of the critic.
    """
    n_inputs, n_outputs = widths

    def network(role: str, width: int, seed: int, gain: float) -> nn.Module:
        if own is not None:
            return build(own[role], n_inputs, width, seed)
        hidden, activation = settings["hidden"], settings["activation"]
        return MLP(n_inputs, width, hidden, activation=activation, output_gain=gain, seed=seed)

    policy = network("policy", n_outputs, seeds[0], 0.01)
    if isinstance(head, Gaussian):
        policy = WithLogStd(policy, n_outputs, log(settings["initial_deviation"]))
    made = {"policy": policy}
    if method.critic:
        made["critic"] = network("critic", 1, seeds[1], 1.0)
    if method.kl_weight:
        made["reference"] = copy.deepcopy(policy).requires_grad_(False).eval()
    return made
