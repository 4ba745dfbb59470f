"""Optimisers over one flat tensor, learning-rate schedules, and the checks of settings that other modules share.

The cost of training a small network is mostly call overhead. All parameters are therefore views of one tensor and all
gradients views of another: a step, a clip or a copy is then one operation, whatever the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

# Name → (class, the tensors that it keeps).
_OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], set[str]]] = {
    "adam": (torch.optim.Adam, {"step", "exp_avg", "exp_avg_sq"}),
    "sgd": (torch.optim.SGD, {"momentum_buffer"}),
    "adadelta": (torch.optim.Adadelta, {"step", "square_avg", "acc_delta"}),
    "rmsprop": (torch.optim.RMSprop, {"step", "square_avg"}),
}
# Adam's other numbers, as in torch.optim.Adam.
_ADAM: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}


def check(name: str, value: Any, holds: Any, wanted: str) -> None:
    """Raise a ValueError that names the parameter unless ``holds``."""
    if not holds:
        raise ValueError(f"{name} must {wanted}, got {value!r}")


def check_number(name: str, value: Any, fits: Callable[[Any], bool], wanted: str) -> None:
    """Raise a ValueError unless ``value`` is a number that fits; True and False are not numbers."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    check(name, value, number and fits(value), wanted)


def check_whole(name: str, value: Any, otherwise: str = "", least: int = 1) -> None:
    """Raise a ValueError unless ``value`` is a whole number >= ``least``; ``otherwise`` names what else is allowed."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least
    check(name, value, whole, f"be a whole number of at least {least}{otherwise}")


def check_flag(name: str, value: Any) -> None:
    """Raise a ValueError unless ``value`` is True or False."""
    check(name, value, isinstance(value, bool | np.bool_), "be True or False")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise a ValueError unless ``value`` is one of these names."""
    check(name, value, isinstance(value, str) and value in choices, f"be one of {', '.join(choices)}")


@dataclass(frozen=True)
class Optimization:
    """Optimiser, learning-rate schedule and clipping.

    Attributes:
        optimizer: "adam", "sgd", "adadelta" or "rmsprop", as in torch.optim.
        learning_rate: the step size at the start; "adadelta" works with about 1.
        schedule: "constant"; "linear" or "cosine", which fall to ``floor`` × ``learning_rate``; "plateau", which
            divides by 10 whenever the monitored value has not improved for ``plateau_patience`` evaluations.
        floor: where "linear" and "cosine" end, as a fraction of ``learning_rate``.
        schedule_timesteps: where they end, in environment steps or samples; None means the total of the first call.
        plateau_patience: for "plateau".
        max_gradient_norm: a longer gradient is scaled down to this Euclidean norm; None for no clipping.
        momentum: for "sgd"; the final momentum if it rises.
        momentum_schedule: for "sgd": "constant", or "rising" as in `momentum_at`.
        nesterov: for "sgd": Nesterov's momentum, in the form of torch.optim.SGD.
        weight_decay: L2 penalty: this times the parameter is added to the gradient (AdamW's decay is another one).

    Raises:
        ValueError: for an unknown name, a number out of range, ``nesterov`` without momentum, or ``nesterov`` or a
            momentum schedule with another optimiser than "sgd".

    Example:
        >>> Optimization("sgd", learning_rate=0.1, schedule="cosine").momentum
        0.9
    """

    optimizer: Literal["adam", "sgd", "adadelta", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "linear", "cosine", "plateau"] = "constant"
    floor: float = 0.0
    schedule_timesteps: int | None = None
    plateau_patience: int = 10
    max_gradient_norm: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    momentum_schedule: Literal["constant", "rising"] = "constant"
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, _OPTIMIZERS)
        check_choice("schedule", self.schedule, ("constant", "linear", "cosine", "plateau"))
        check_choice("momentum_schedule", self.momentum_schedule, ("constant", "rising"))
        check_number("learning_rate", self.learning_rate, lambda x: 0 < x < math.inf, "be positive and finite")
        check_number("weight_decay", self.weight_decay, lambda x: 0 <= x < math.inf, "be at least 0 and finite")
        check_number("floor", self.floor, lambda x: 0 <= x <= 1, "lie in [0, 1]")
        check_number("momentum", self.momentum, lambda x: 0 <= x < 1, "lie in [0, 1)")
        check_whole("plateau_patience", self.plateau_patience)
        check_flag("nesterov", self.nesterov)
        if self.schedule_timesteps is not None:
            check_whole("schedule_timesteps", self.schedule_timesteps, ", or None")
        if self.max_gradient_norm is not None:
            check_number("max_gradient_norm", self.max_gradient_norm, lambda x: x > 0, "be positive or None")
        for name, used in (("nesterov", self.nesterov), ("momentum_schedule", self.momentum_schedule != "constant")):
            if used and self.optimizer != "sgd":
                raise ValueError(f'{name} works only with optimizer "sgd", got {self.optimizer!r}')
        if self.nesterov and self.momentum == 0:
            raise ValueError(f"nesterov needs a positive momentum, got {self.momentum}")

    def factor(self, progress: float) -> float:
        """The factor on the learning rate when this fraction of the schedule is done.

        Example:
            >>> Optimization(schedule="linear", floor=0.1).factor(0.5)
            0.55
        """
        progress = min(max(progress, 0.0), 1.0)
        if self.schedule == "linear":
            return 1.0 - (1.0 - self.floor) * progress
        if self.schedule == "cosine":
            return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
        return 1.0

    def momentum_at(self, step: int) -> float:
        """The momentum after t gradient steps; if it rises: min(1 − 2^(−1 − log2(⌊t/250⌋ + 1)), ``momentum``).

        Source:
            Sutskever et al. (2013), "On the importance of initialization and momentum in deep learning", ICML,
            equation 5.

        Example:
            >>> rising = Optimization("sgd", momentum=0.99, momentum_schedule="rising")
            >>> [rising.momentum_at(step) for step in (0, 249, 250, 750, 100_000)]
            [0.5, 0.5, 0.75, 0.875, 0.99]
        """
        if self.momentum_schedule == "constant":
            return self.momentum
        return min(1.0 - 0.5 / (step // 250 + 1), self.momentum)


class FlatParameters:
    """All trainable parameters of a module as one tensor, and all their gradients as another.

    Make it after the module is on its device. The parameters become views; their values do not change.

    Args:
        module: the network, or several in one container.

    Attributes:
        value: ``[P]``.
        gradient: ``[P]``.

    Raises:
        ValueError: if there is no trainable parameter, or there are several dtypes or devices.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> flat = FlatParameters(layer)
        >>> _ = flat.value.zero_()
        >>> layer(torch.ones(2)).item()
        0.0
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        if not self._parameters:
            raise ValueError("network: there is no trainable parameter")
        kinds = {(p.dtype, p.device) for p in self._parameters}
        if len(kinds) > 1:
            raise ValueError(f"network: parameters must share one dtype and device, got {sorted(map(str, kinds))}")
        self.value = torch.cat([p.detach().reshape(-1) for p in self._parameters])
        self.gradient = torch.zeros_like(self.value)
        sizes = [p.numel() for p in self._parameters]
        views = zip(self._parameters, self.value.split(sizes), self.gradient.split(sizes), strict=True)
        for p, value, gradient in views:
            p.data, p.grad = value.view_as(p), gradient.view_as(p)

    @property
    def intact(self) -> bool:
        """True while the module's parameters are views of ``value``."""
        return self._parameters[0].data_ptr() == self.value.data_ptr()

    def release(self) -> None:
        """Give every parameter its own memory, so that a pickle of one does not hold all, and drop the gradients."""
        for p in self._parameters:
            p.data = p.data.clone()
            p.grad = None


class Optimizer:
    """One of torch.optim's optimisers over `FlatParameters`.

    Adam calls torch's fused kernel directly where torch has one: the same arithmetic as
    ``torch.optim.Adam(fused=True)`` at a third of the cost, and without importing torch._dynamo, which takes seconds.

    Args:
        flat: the parameters.
        settings: the optimiser and its numbers.

    Attributes:
        state: moments and step counts by name.
    """

    def __init__(self, flat: FlatParameters, settings: Optimization) -> None:
        self._flat, self._settings = flat, settings
        self._optimizer: torch.optim.Optimizer | None = None
        self._rising = settings.momentum_schedule == "rising"
        self.state: dict[str, Tensor]
        fused = hasattr(torch, "_fused_adam_") and flat.value.device.type in ("cpu", "cuda")
        if settings.optimizer == "adam" and fused:
            self.state = {name: torch.zeros_like(flat.value) for name in ("exp_avg", "exp_avg_sq")}
            self.state["step"] = torch.zeros((), device=flat.value.device)
            return
        parameter = nn.Parameter(flat.value)
        parameter.grad = flat.gradient
        numbers: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        if settings.optimizer == "sgd":
            numbers |= {"momentum": settings.momentum, "nesterov": settings.nesterov}
        self._optimizer = _OPTIMIZERS[settings.optimizer][0]([parameter], foreach=False, **numbers)
        self.state = self._optimizer.state[parameter]
        if self._rising:
            self.state["step"] = torch.zeros((), dtype=torch.int64)  # saved and restored with torch's own state

    def step(self, learning_rate: float) -> None:
        """Step along the gradient that `FlatParameters` holds."""
        if self._optimizer is not None:
            group = self._optimizer.param_groups[0]
            group["lr"] = learning_rate
            if self._rising:
                group["momentum"] = self._settings.momentum_at(int(self.state["step"]))
                self.state["step"] += 1
            self._optimizer.step()
            return
        flat, state = self._flat, self.state
        state["step"] += 1
        tensors: Any = [flat.value], [flat.gradient], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]]
        torch._fused_adam_(*tensors, lr=learning_rate, weight_decay=self._settings.weight_decay, **_ADAM)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a saved state. The state of another optimiser is ignored: training then starts with a fresh one.

        Raises:
            ValueError: if the state is of another network.
        """
        if set(state) != _OPTIMIZERS[self._settings.optimizer][1] | ({"step"} if self._rising else set()):
            return
        check_state(state, len(self._flat.value))
        for name, tensor in state.items():
            self.state[name] = tensor.to(self.state.get(name, self._flat.value if tensor.ndim else tensor))


def check_state(state: Mapping[str, Tensor], size: int) -> None:
    """Raise a ValueError unless the tensors have the shapes of an optimiser's state for ``size`` parameters."""
    for name, tensor in state.items():
        wanted = [] if name == "step" else [size]
        if list(tensor.shape) != wanted:
            raise ValueError(f"optimizer: {name} must have shape {wanted}, got {list(tensor.shape)}")
