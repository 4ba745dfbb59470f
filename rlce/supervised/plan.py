"""How an estimator trains: its parameters, checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rlce.network import MLP, NetworkFactory, build, check_factory, checked_device
from rlce.optimization import Optimization, check, check_flag, check_number, check_whole
from rlce.supervised.scaling import KINDS
from rlce.trainer import Stopping


@dataclass(frozen=True)
class Plan:
    """How to train: the parameters that both estimators share, checked; ``once``: for one epoch of ``partial_fit``."""

    once: bool
    optimization: Optimization
    stopping: Stopping
    hidden: Sequence[int]
    activation: str
    dropout: float
    network: NetworkFactory | None
    device: str
    batch_size: int | str
    epochs: int | str
    restarts: int
    scaling: str | None
    validation_split: float

    def make(self, n_inputs: int, n_outputs: int, seed: int, double: bool) -> nn.Module:
        """A fresh network on its device; a user's network keeps the number type that the factory gave it."""
        if self.network is not None:
            return build(self.network, n_inputs, n_outputs, seed).to(self.device)
        more: dict[str, Any] = {"activation": self.activation, "dropout": self.dropout, "initialization": "uniform"}
        made = MLP(n_inputs, n_outputs, self.hidden, seed=seed, **more)
        return made.to(self.device, torch.float64 if double else torch.float32)

    def rows_a_step(self, rows: int) -> int:
        """Batch size. "auto" is a power of two: a sixteenth of the rows, from 16 to 256, then a 256th, up to 1,024."""
        if self.batch_size != "auto":
            return int(self.batch_size)
        small, large = (2 ** int(math.log2(max(rows / parts, 16))) for parts in (16, 256))
        return max(min(small, 256), min(large, 1_024))

    def passes(self, rows: int) -> int:
        """Epochs. "auto" gives at least 1,000 gradient steps, and 40 √N if that is more; at least 10 epochs."""
        if self.epochs != "auto":
            return int(self.epochs)
        steps_an_epoch = math.ceil(rows / self.rows_a_step(rows))
        return max(10, math.ceil(max(1_000, 40 * math.sqrt(rows)) / steps_an_epoch))


def plan_of(parameters: Mapping[str, Any], once: bool = False) -> Plan:
    """The plan from an estimator's parameters; ``once``: for one epoch of ``partial_fit``.

    Raises:
        ValueError: for a parameter that makes no sense, or for ``once`` with a schedule that must know where training
            ends; the message names the parameter.
    """
    check_whole("restarts", parameters["restarts"])
    for name in ("epochs", "batch_size"):
        if parameters[name] != "auto":
            check_whole(name, parameters[name], ', or "auto"')
    scaling = parameters["scaling"]
    known = scaling is None or (isinstance(scaling, str) and scaling in KINDS)
    check("scaling", scaling, known, 'be "robust", "standard" or None')
    for name in {"conformal", "soft_targets"} & set(parameters):
        check_flag(name, parameters[name])
    hidden = parameters["hidden"]
    sequence = isinstance(hidden, Sequence) and not isinstance(hidden, str)
    check("hidden", hidden, sequence, "be a sequence of whole numbers")
    for name in ("validation_split", "dropout"):
        check_number(name, parameters[name], lambda value: 0 <= value < 1, "lie in [0, 1)")
    check_factory(parameters["network"])
    checked_device(parameters["device"])
    chosen, stopping = parameters["optimizer"], parameters["stopping"]
    if stopping is not None and not isinstance(stopping, Stopping):
        check_whole("stopping", stopping, ", None, or an rlce.Stopping")
    given = {name: parameters[name] for name in ("learning_rate", "weight_decay") if parameters[name] is not None}
    if not isinstance(chosen, Optimization):
        chosen = Optimization(chosen, schedule="constant" if once else "cosine")
    optimization = dataclasses.replace(chosen, **given)
    stopping = stopping if isinstance(stopping, Stopping) else Stopping(patience=stopping)
    if once:
        schedule = optimization.schedule
        if schedule == "plateau" or (optimization.needs_end and optimization.schedule_timesteps is None):
            raise ValueError(f"optimizer: partial_fit has no end, which the {schedule} schedule needs to know")
        parameters = {**parameters, "epochs": 1, "restarts": 1, "validation_split": 0.0}
        stopping = Stopping()
    return Plan(once, optimization, stopping, *(parameters[field.name] for field in dataclasses.fields(Plan)[3:]))
