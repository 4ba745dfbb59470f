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
    "adamw": (torch.optim.AdamW, {"step", "exp_avg", "exp_avg_sq"}),
    "sgd": (torch.optim.SGD, {"momentum_buffer"}),
    "adadelta": (torch.optim.Adadelta, {"step", "square_avg", "acc_delta"}),
    "rmsprop": (torch.optim.RMSprop, {"step", "square_avg"}),
}
# Other numbers of Adam and AdamW, as in torch.optim.
_ADAM: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "amsgrad": False, "maximize": False}
_A_FUNCTION = "(a function)"  # in a file, in place of a schedule that JSON cannot hold

# A number, a pair (start, end) between which it goes linearly, or a function of the fraction of training done.
Scheduled = float | tuple[float, float] | Callable[[float], float]


def check(name: str, value: Any, holds: Any, wanted: str) -> None:
    """Raise a ValueError that names the parameter unless ``holds``."""
    if not holds:
        raise ValueError(f"{name} must {wanted}, got {value!r}")


def check_kind(name: str, value: Any, kind: type, example: str) -> None:
    """Raise a TypeError that names the parameter unless ``value`` is of this kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be an rlce.{kind.__name__}, such as {example}, got {value!r}")


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


def scheduled(name: str, number: Scheduled, progress: float, least: float = -math.inf) -> float:
    """The value of a number that may follow a schedule.

    Args:
        name: of the argument, for messages.
        number: a number, a pair (start, end), or a function of ``progress``.
        progress: the fraction of training done, in [0, 1].
        least: the smallest value allowed.

    Raises:
        ValueError: the value is not a finite number of at least ``least``.

    Example:
        >>> scheduled("clip", (0.2, 0.1), 0.5), scheduled("clip", lambda done: 0.2 * (1.0 - done), 0.5)
        (0.15000000000000002, 0.1)
    """
    value: Any = number
    if isinstance(number, tuple | list) and len(number) == 2:
        for end in number:
            scheduled(name, end, progress, least)
        value = (1.0 - progress) * number[0] + progress * number[1]
    elif callable(number):
        value = number(progress)
    bound = "" if least == -math.inf else f" of at least {least:g}"
    wanted = f"give a finite number{bound} at progress {progress:.4g} (a number, a pair (start, end), or a function)"
    check_number(name, value, lambda value: math.isfinite(value) and value >= least, wanted)
    return float(value)


@dataclass(frozen=True)
class Optimization:
    """Optimiser, learning-rate schedule and clipping.

    Attributes:
        optimizer: "adam", "adamw", "sgd", "adadelta" or "rmsprop", as in torch.optim.
        learning_rate: the step size at the start; "adadelta" works with about 1.
        schedule: "constant"; "linear" or "cosine", which fall to ``floor`` × ``learning_rate``; "plateau", which
            divides by 10 whenever the monitored value has not improved for ``plateau_patience`` evaluations; or a
            function: fraction of training done, in [0, 1] → factor of ``learning_rate`` >= 0. A file cannot hold a
            function: a loaded object predicts, and needs the optimization again to train.
        floor: where "linear" and "cosine" end, as a fraction of ``learning_rate``.
        schedule_timesteps: None: each call that trains has a schedule of its own, from its start to its end. A number:
            one schedule over all calls, from the first step to this one, in environment steps or samples; from then on
            the rate stays where the schedule ended.
        plateau_patience: for "plateau".
        max_gradient_norm: a longer gradient is scaled down to this Euclidean norm; None for no clipping.
        momentum: for "sgd"; the final momentum if it rises.
        momentum_schedule: for "sgd": "constant", or "rising" as in `momentum_at`.
        nesterov: for "sgd": Nesterov's momentum, in the form of torch.optim.SGD.
        epsilon: added to the root of the mean square gradient; None for torch's: 1e-8 (for "adadelta"
            1e-6, within the root).
        weight_decay: this times the parameter is added to the gradient (an L2 penalty); with "adamw" the parameter is
            instead multiplied by 1 − learning rate × this at each step. None for torch's: 0.01 for "adamw", else 0.

    Raises:
        ValueError: for an unknown name, a number out of range, ``nesterov`` without momentum, ``nesterov`` or a
            momentum schedule with another optimiser than "sgd", or ``epsilon`` with "sgd".

    Example:
        >>> Optimization("sgd", learning_rate=0.1, schedule="cosine").momentum
        0.9
    """

    optimizer: Literal["adam", "adamw", "sgd", "adadelta", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "linear", "cosine", "plateau"] | Callable[[float], float] = "constant"
    floor: float = 0.0
    schedule_timesteps: int | None = None
    plateau_patience: int = 10
    max_gradient_norm: float | None = None
    momentum: float = 0.9
    weight_decay: float | None = None
    momentum_schedule: Literal["constant", "rising"] = "constant"
    nesterov: bool = False
    epsilon: float | None = None

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, _OPTIMIZERS)
        if not callable(self.schedule):
            check_choice("schedule", self.schedule, ("constant", "linear", "cosine", "plateau"))
        check_choice("momentum_schedule", self.momentum_schedule, ("constant", "rising"))
        check_number("learning_rate", self.learning_rate, lambda x: 0 < x < math.inf, "be positive and finite")
        if self.weight_decay is not None:
            wanted = "be at least 0 and finite, or None"
            check_number("weight_decay", self.weight_decay, lambda x: 0 <= x < math.inf, wanted)
        check_number("floor", self.floor, lambda x: 0 <= x <= 1, "lie in [0, 1]")
        check_number("momentum", self.momentum, lambda x: 0 <= x < 1, "lie in [0, 1)")
        check_whole("plateau_patience", self.plateau_patience)
        check_flag("nesterov", self.nesterov)
        if self.schedule_timesteps is not None:
            check_whole("schedule_timesteps", self.schedule_timesteps, ", or None")
        if self.max_gradient_norm is not None:
            check_number("max_gradient_norm", self.max_gradient_norm, lambda x: x > 0, "be positive or None")
        if self.epsilon is not None:
            check_number("epsilon", self.epsilon, lambda x: 0 < x < math.inf, "be positive and finite, or None")
            if self.optimizer == "sgd":
                others = ", ".join(f'"{name}"' for name in _OPTIMIZERS if name != "sgd")
                raise ValueError(f'epsilon works only with optimizer {others}, got "sgd"')
        for name, used in (("nesterov", self.nesterov), ("momentum_schedule", self.momentum_schedule != "constant")):
            if used and self.optimizer != "sgd":
                raise ValueError(f'{name} works only with optimizer "sgd", got {self.optimizer!r}')
        if self.nesterov and self.momentum == 0:
            raise ValueError(f"nesterov needs a positive momentum, got {self.momentum}")

    def factor(self, progress: float) -> float:
        """The factor on the learning rate when this fraction of training is done.

        Raises:
            ValueError: ``schedule`` is a function, and gives no finite number of at least 0.

        Example:
            >>> Optimization(schedule="linear", floor=0.1).factor(0.5)
            0.55
        """
        progress = min(max(progress, 0.0), 1.0)
        if callable(self.schedule):
            return scheduled("schedule", self.schedule, progress, least=0.0)
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

    @property
    def decay(self) -> float:
        """The weight decay in force.

        Example:
            >>> Optimization("adamw").decay, Optimization("adam").decay
            (0.01, 0.0)
        """
        if self.weight_decay is not None:
            return self.weight_decay
        return 0.01 if self.optimizer == "adamw" else 0.0

    @property
    def needs_end(self) -> bool:
        """True if the schedule must know where training ends."""
        return self.schedule not in ("constant", "plateau")

    def to_json(self) -> dict[str, Any]:
        """The settings in JSON's types; a schedule that is a function becomes a note that there was one."""
        return {**vars(self), "schedule": _A_FUNCTION if callable(self.schedule) else self.schedule}

    @staticmethod
    def from_json(saved: Mapping[str, Any]) -> Optimization:
        """The settings that `to_json` described; a schedule that was a function raises when it is used."""
        absent = {"schedule": _absent} if saved.get("schedule") == _A_FUNCTION else {}
        return Optimization(**{**saved, **absent})


def _absent(progress: float) -> float:
    """Takes the place of a saved schedule that was a function, until it is passed again."""
    raise ValueError("optimization: its schedule is a function, which the file does not hold; pass optimization again")


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

    Adam and AdamW call torch's fused kernels directly where torch has them: the same arithmetic as
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
        self._fused: Any = getattr(torch, f"_fused_{settings.optimizer}_", None)
        if settings.optimizer in ("adam", "adamw") and self._fused and flat.value.device.type in ("cpu", "cuda"):
            self.state = {name: torch.zeros_like(flat.value) for name in ("exp_avg", "exp_avg_sq")}
            self.state["step"] = torch.zeros((), device=flat.value.device)
            return
        parameter = nn.Parameter(flat.value)
        parameter.grad = flat.gradient
        numbers: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.decay}
        if settings.optimizer == "sgd":
            numbers |= {"momentum": settings.momentum, "nesterov": settings.nesterov}
        elif settings.epsilon is not None:
            numbers["eps"] = settings.epsilon
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
        decay, epsilon = self._settings.decay, self._settings.epsilon or 1e-8
        self._fused(*tensors, lr=learning_rate, weight_decay=decay, eps=epsilon, **_ADAM)

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
