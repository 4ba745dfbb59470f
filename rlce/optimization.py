"""Optimisers by name over one flat tensor, and learning-rate schedules.

Small networks are bound by call overhead. With all parameters as views of one tensor and all gradients of
another, a step, a clip and a copy are one operation each, whatever the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Optimization:
    """How parameters are stepped.

    Attributes:
        optimizer: "adam", "sgd", "adadelta" or "rmsprop", as in torch.optim.
        learning_rate: the step size at the start; "adadelta" wants about 1.
        schedule: "constant"; "linear" or "cosine", falling to ``floor`` × ``learning_rate``; "plateau", divided by
            10 each time the monitored value has not improved ``plateau_patience`` times in a row.
        floor: where "linear" and "cosine" end, as a fraction of ``learning_rate``.
        schedule_timesteps: where they end, in environment steps (or samples); by default the first call's total.
        plateau_patience: for "plateau", how many monitored values without an improvement.
        max_gradient_norm: the gradient is scaled down to this Euclidean norm; None for no clipping.
        momentum: for "sgd"; the largest where it rises.
        momentum_schedule: for "sgd": "constant"; "rising", from 1/2 as in `momentum_at`.
        nesterov: for "sgd": Nesterov's momentum, with the gradient where momentum alone would lead; the form of
            torch.optim.SGD, whose parameters are those where the gradient is taken.
        weight_decay: added to the gradient, times the parameter (not to be confused with AdamW's).

    Raises:
        ValueError: an unknown name, a number outside its range, ``nesterov`` without momentum, or ``nesterov`` or a
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
        if self.optimizer not in ("adam", "sgd", "adadelta", "rmsprop"):
            raise ValueError(f'optimizer must be "adam", "sgd", "adadelta" or "rmsprop", got {self.optimizer!r}')
        if self.schedule not in ("constant", "linear", "cosine", "plateau"):
            raise ValueError(f'schedule must be "constant", "linear", "cosine" or "plateau", got {self.schedule!r}')
        for name in ("learning_rate", "floor", "momentum", "weight_decay"):
            if not isinstance(getattr(self, name), int | float | np.number):
                raise ValueError(f"{name} must be a number, got {getattr(self, name)!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must lie in [0, 1], got {self.floor}")
        if self.max_gradient_norm is not None and not self.max_gradient_norm > 0:
            raise ValueError(f"max_gradient_norm must be positive or None, got {self.max_gradient_norm}")
        if self.schedule_timesteps is not None and self.schedule_timesteps < 1:
            raise ValueError(f"schedule_timesteps must be at least 1 or None, got {self.schedule_timesteps}")
        if self.plateau_patience < 1:
            raise ValueError(f"plateau_patience must be at least 1, got {self.plateau_patience}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.momentum_schedule not in ("constant", "rising"):
            raise ValueError(f'momentum_schedule must be "constant" or "rising", got {self.momentum_schedule!r}')
        if self.optimizer != "sgd" and (self.nesterov or self.momentum_schedule != "constant"):
            which = "nesterov" if self.nesterov else "momentum_schedule"
            raise ValueError(f'{which} is for optimizer "sgd" alone, got {self.optimizer!r}')
        if self.nesterov and self.momentum == 0:
            raise ValueError(f"nesterov needs a positive momentum, got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0 and finite, got {self.weight_decay}")

    def factor(self, progress: float) -> float:
        """What the learning rate is multiplied with when ``progress`` of the schedule is done.

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
        """The momentum of a gradient step: min(1 − 2^(−1 − log2(⌊t/250⌋ + 1)), largest) where it rises.

        Args:
            step: t, gradient steps before this one.

        Returns:
            In [0, 1).

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
    """All trainable parameters of a module as one tensor, and their gradients as one other.

    Make it after the module is on its device; parameters are replaced by views, values unchanged.

    Args:
        module: the network, or several in one container.

    Attributes:
        value: ``[P]``.
        gradient: ``[P]``.

    Raises:
        ValueError: no trainable parameter, or several dtypes or devices.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> flat = FlatParameters(layer)
        >>> _ = flat.value.zero_()
        >>> layer(torch.ones(2)).item()
        0.0
    """

    def __init__(self, module: nn.Module) -> None:
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError("network: there is no trainable parameter")
        kinds = {(p.dtype, p.device) for p in parameters}
        if len(kinds) > 1:
            raise ValueError(f"network: parameters must share one dtype and device, got {sorted(map(str, kinds))}")
        self.value = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradient = torch.zeros_like(self.value)
        self._parameters = parameters
        start = 0
        for p in parameters:
            end = start + p.numel()
            p.data = self.value[start:end].view_as(p)
            p.grad = self.gradient[start:end].view_as(p)
            start = end

    @property
    def intact(self) -> bool:
        """Whether the module's parameters are still views of ``value``."""
        return self._parameters[0].data_ptr() == self.value.data_ptr()

    def release(self) -> None:
        """Give every parameter memory of its own, so that a pickle of one does not hold all; drop the gradients."""
        for p in self._parameters:
            p.data = p.data.clone()
            p.grad = None


class Optimizer:
    """One of torch.optim's optimisers over `FlatParameters`, chosen by name.

    Adam calls torch's fused kernel itself where there is one: the same arithmetic as ``torch.optim.Adam(fused=True)``
    at a third of the cost, and without loading torch._dynamo, which takes seconds.

    Args:
        flat: what to step.
        settings: which optimiser, and its numbers.
    """

    def __init__(self, flat: FlatParameters, settings: Optimization) -> None:
        self.state: dict[str, Tensor]
        self._flat, self._settings = flat, settings
        self._optimizer: torch.optim.Optimizer | None = None
        if (
            settings.optimizer == "adam"
            and hasattr(torch, "_fused_adam_")
            and flat.value.device.type in ("cpu", "cuda")
        ):
            self.state = {
                "step": torch.zeros((), device=flat.value.device),
                "exp_avg": torch.zeros_like(flat.value),
                "exp_avg_sq": torch.zeros_like(flat.value),
            }
            return
        self._parameter = nn.Parameter(flat.value)
        self._parameter.grad = flat.gradient
        self._optimizer = _torch_optimizer(self._parameter, settings)
        self.state = self._optimizer.state[self._parameter]
        if settings.momentum_schedule == "rising":
            # Beside torch's own, so that it is saved and put back with it.
            self.state["step"] = torch.zeros((), dtype=torch.int64)

    def step(self, learning_rate: float) -> None:
        """Step along the gradient that `FlatParameters` holds."""
        if self._optimizer is not None:
            group = self._optimizer.param_groups[0]
            group["lr"] = learning_rate
            if self._settings.momentum_schedule == "rising":
                group["momentum"] = self._settings.momentum_at(int(self.state["step"]))
                self.state["step"] += 1
            self._optimizer.step()
            return
        self.state["step"] += 1
        torch._fused_adam_(
            [self._flat.value],
            [self._flat.gradient],
            [self.state["exp_avg"]],
            [self.state["exp_avg_sq"]],
            [],
            [self.state["step"]],
            lr=learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=self._settings.weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back a state that was saved."""
        self.state.update({name: tensor.to(self._flat.value.device) for name, tensor in state.items()})


def _torch_optimizer(parameter: nn.Parameter, settings: Optimization) -> torch.optim.Optimizer:
    makers: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "sgd": torch.optim.SGD,
        "adadelta": torch.optim.Adadelta,
        "rmsprop": torch.optim.RMSprop,
    }
    more: dict[str, Any] = {}
    if settings.optimizer == "sgd":
        more = {"momentum": settings.momentum, "nesterov": settings.nesterov}
    return makers[settings.optimizer](
        [parameter], lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=False, **more
    )
