"""The training loop of all methods. It knows no method, no environment and no data set.

    rounds ─► batches ─► loss(batch) ─► backward ─► clip ─► step ─► log

A round is one rollout or one epoch. Rounds and batches are drawn lazily, so a source of rounds can use the network as
it is after the last step; this is how a policy gathers its own data.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlce import threads
from rlce.bar import Bar
from rlce.checkpoint import section
from rlce.optimization import FlatParameters, Optimization, Optimizer, check_kind, check_number, check_whole
from rlce.tracking import Details, Tracker

Loss = Callable[[Any], tuple[Tensor, Mapping[str, Tensor]]]


class Round(NamedTuple):
    """Batches, one gradient step each.

    Attributes:
        batches: an iterable of batches.
        step: the position on the x-axis where the round ends: environment steps, or samples.
        scalars: more to log.
        episodes: what ended while the round was gathered, for the callback; the loop does not look at it.

    Example:
        >>> Round(batches=[torch.ones(2, 1)], step=2).scalars
        {}
    """

    batches: Iterable[Any]
    step: int
    scalars: Mapping[str, float] = {}
    episodes: Sequence[Any] = ()


@dataclass(frozen=True)
class Stopping:
    """When to stop before the rounds run out.

    Attributes:
        target: stop when the monitored value reaches this (from below, or from above if less is better).
        patience: stop after this many evaluations in a row without an improvement.
        seconds: stop at the first end of a round after this many seconds of a call.
        tolerance: an improvement must exceed this to count for ``patience``, like scikit-learn's ``tol``. The best
            parameters and the "plateau" schedule count every improvement.
        smallest_step: stop after a round that moved the parameters by less than this times their Euclidean norm.

    Raises:
        ValueError: for a patience that is not a whole number of at least 1, a target or seconds that are no numbers, or
            a tolerance or smallest step that is negative or not finite.

    Example:
        >>> Stopping(target=475.0, seconds=60.0).patience is None
        True
    """

    target: float | None = None
    patience: int | None = None
    seconds: float | None = None
    tolerance: float = 0.0
    smallest_step: float | None = None

    def __post_init__(self) -> None:
        if self.patience is not None:
            check_whole("patience", self.patience, ", or None")
        for name, limit in (("target", self.target), ("seconds", self.seconds)):
            if limit is not None:
                check_number(name, limit, lambda x: not math.isnan(x), "be a number other than NaN, or None")
        check_number("tolerance", self.tolerance, lambda x: 0 <= x < math.inf, "be at least 0 and finite")
        if self.smallest_step is not None:
            wanted = "be at least 0 and finite, or None"
            check_number("smallest_step", self.smallest_step, lambda x: 0 <= x < math.inf, wanted)


@dataclass(frozen=True)
class Monitor:
    """A scalar to watch.

    Attributes:
        name: of the scalar.
        maximize: True if more is better.
        evaluate: returns scalars that include ``name``; None if the rounds or the loss log it. The best parameters are
            kept only if this is given, because only then was the value measured with exactly these parameters.
        every: steps between evaluations, which happen at the first end of a round after each multiple.
        details: returns what the tracker shows besides scalars, after an evaluation if there is time for it.
        label: what the progress bar calls it; by default the end of ``name``.
        tie_breaker: a scalar to minimise when values tie (accuracy on few rows often does). A tie in which it falls
            is an improvement, also for ``patience``. None: a tie is no improvement.

    Example:
        >>> Monitor("val/loss", maximize=False, evaluate=lambda: {"val/loss": 0.5}).evaluate()
        {'val/loss': 0.5}
    """

    name: str
    maximize: bool = True
    evaluate: Callable[[], Mapping[str, float]] | None = None
    every: int = 1
    tie_breaker: str | None = None
    details: Callable[[], Details] | None = None
    label: str | None = None


@dataclass
class Progress:
    """The state of training; a callback receives it at the end of every round.

    Attributes:
        step: the position on the x-axis: environment steps, or samples.
        rounds: the number of rollouts or epochs so far.
        updates: the number of gradient steps so far.
        seconds: since this call began.
        scalars: logged for this round, after the callback; what the callback adds is logged too.
        episodes: the episodes that ended in this round, each an `rlce.rollout.Episode` with return, length and the info
            of its last step. Empty for supervised learning.

    Example:
        >>> stop_after_ten_rounds = lambda progress: progress.rounds >= 10
        >>> stop_after_ten_rounds(Progress(rounds=9))
        False
    """

    step: int = 0
    rounds: int = 0
    updates: int = 0
    seconds: float = 0.0
    scalars: dict[str, float] = field(default_factory=dict)
    episodes: Sequence[Any] = ()


Callback = Callable[[Progress], bool | None]
_WORST = (-math.inf, -math.inf)  # the monitored value and the tie-breaker, with signs such that more is better


class Trainer:
    """Trains a module by gradient descent on a loss.

    Args:
        module: the network; move it to its device first. Its parameters become views of one flat tensor.
        optimization: optimiser, schedule, clipping.
        tracker: receives the scalars.
        companions: objects with ``state_dict`` and ``load_state_dict`` that belong to the module, such as statistics of
            its inputs, by name (or None). They are saved and restored together with the module.

    Attributes:
        progress: the state of training over all calls of `fit`.
        best: the best monitored value and the model's state there; None before the first evaluation.
        monitored: the name of the scalar of `best`, and True if more of it is better.

    Example:
        >>> network = nn.Linear(1, 1, bias=False)
        >>> trainer = Trainer(network, Optimization("sgd", learning_rate=0.5, momentum=0.0))
        >>> x = torch.ones(1, 1)
        >>> progress = trainer.fit(
        ...     (Round(batches=[x], step=i) for i in range(1, 21)),
        ...     lambda batch: (0.5 * (network(batch) - 3.0).square().mean(), {}),
        ... )
        >>> progress.updates, round(network.weight.item(), 3)
        (20, 3.0)
    """

    def __init__(
        self,
        module: nn.Module,
        optimization: Optimization | None = None,
        tracker: Tracker | None = None,
        companions: Mapping[str, Any] | None = None,
    ) -> None:
        self.module = module
        self.optimization = optimization or Optimization()
        self.tracker = tracker or Tracker(None)
        self.companions = {name: part for name, part in (companions or {}).items() if part is not None}
        self.flat = FlatParameters(module)
        self.optimizer = Optimizer(self.flat, self.optimization)
        self.progress = Progress()
        self._schedule: tuple[int, int | None] = 0, self.optimization.schedule_timesteps
        self.best: tuple[float, dict[str, Tensor]] | None = None
        self.plateau_factor = 1.0
        self._best_score = _WORST
        self._without_improvement = 0  # over all calls, for the schedule
        self._patience_used = 0  # in this call, for stopping
        self.monitored: tuple[str, bool] | None = None
        self._told = False
        self._last_evaluation = 0

    def fit(
        self,
        rounds: Iterable[Round],
        loss: Loss,
        *,
        total: int | None = None,
        monitor: Monitor | None = None,
        stopping: Stopping | None = None,
        callback: Callback | None = None,
        progress_bar: bool = False,
        unit: str = "steps",
    ) -> Progress:
        """Train until the rounds run out, a stop condition holds, or the callback returns True.

        A small network is trained in one thread, whatever numbers torch and the BLAS have; see `rlce.threads`.

        Args:
            rounds: the source of data.
            loss: batch → (scalar to minimise, detached tensors to log by name: scalars, or one number per row). Their
                means over the round are logged, each over the batches that have its name; a batch counts by the
                length of its first tensor.
            total: the position on the x-axis where ``rounds`` will end, for the progress bar and for the schedule,
                which goes from the start of this call to there unless there are ``schedule_timesteps``.
            monitor: the scalar to watch, for stop conditions, "plateau" and the best parameters.
            stopping: stop conditions.
            callback: called at the end of each round, after evaluation and before its scalars are logged; training
                stops if it returns True.
            progress_bar: show the monitored value, the speed and the time left on standard error (see `rlce.bar`).
            unit: what `Round.step` counts, for the progress bar.

        Returns:
            The state of training.

        Warns:
            UserWarning: once, if all of ``schedule_timesteps`` is over before the call begins.

        Raises:
            ValueError: for a stop condition or the plateau schedule without a monitor, a schedule without an end, one
                whose function gives no finite number of at least 0, or a module that was moved or given to another
                trainer.
            TypeError: if the loss does not return a pair, or for a callback or stop condition of another kind.
            FloatingPointError: if a loss or a gradient is NaN or infinite. The message names where this began; the
                parameters are those before the step.
        """
        stopping = stopping or Stopping()
        check_kind("stopping", stopping, Stopping, "Stopping(target=475.0)")
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be a function of rlce.Progress, got {callback!r}")
        progress, began, first_step = self.progress, time.perf_counter(), self.progress.step
        schedule = self.optimization.schedule
        if monitor is None and (stopping.target is not None or stopping.patience is not None):
            raise ValueError("stopping: target and patience need a monitor to watch")
        if monitor is None and schedule == "plateau":
            raise ValueError("the plateau schedule needs a monitor to watch")
        if self.optimization.schedule_timesteps is None:
            self._schedule = first_step, total
        if self._schedule[1] is None and self.optimization.needs_end:
            raise ValueError(f"total or schedule_timesteps is needed by the {schedule} schedule")
        rate = self._learning_rate()  # a function that fails should fail before the first round
        if self.optimization.needs_end and self.fraction == 1.0 and not self._told:
            self._told = True
            warnings.warn(
                f"optimization.schedule_timesteps={self._schedule[1]} is over before training begins: the learning "
                f"rate stays at {rate:g}; use a larger number, or None for a schedule of each call",
                stacklevel=3,
            )
        if not self.flat.intact:
            raise ValueError("module: its parameters are not this trainer's; was it moved, or given to another one?")
        if monitor is not None and (monitor.name, monitor.maximize) != self.monitored:
            # The best value of another scalar cannot be compared.
            self.monitored, self._best_score, self.best = (monitor.name, monitor.maximize), _WORST, None
            self._without_improvement = 0
        if monitor is not None and self.best is not None and self._best_score == _WORST:  # `best` is from a file
            self._best_score = self.best[0] if monitor.maximize else -self.best[0], math.inf  # a tie is no improvement
        self._patience_used, self._last_evaluation = 0, first_step
        work: int | None = None  # of a row; the first batch shows its width
        watched, label = ("", "") if monitor is None else (monitor.name, monitor.label)
        label = watched.rpartition("/")[2].replace("_", " ") if label is None else label
        remaining = None if total is None else total - first_step
        with Bar(remaining, unit, label) if progress_bar else contextlib.nullcontext() as bar, threads.one_thread(0):
            ready = time.perf_counter()
            for round_ in rounds:
                gathered = time.perf_counter()
                learning_rate = self._learning_rate()
                before = self.flat.value.clone() if stopping.smallest_step else None
                logged, largest = [], 0
                with contextlib.ExitStack() as alike:  # steps in a row share a context: to lift the limit takes 0.5 ms
                    large = False
                    for batch in round_.batches:
                        rows, *row = _shape(batch)
                        work = work or threads.multiply_adds(self.module, math.prod(row))
                        largest = max(largest, work * rows)
                        was, large = large, work * rows > threads.LARGE
                        if large != was:
                            alike.close()
                            alike.enter_context(threads.one_thread(work * rows))
                        logged.append((rows, self._step(batch, loss, learning_rate)))
                learnt = time.perf_counter()
                progress.rounds += 1
                progress.step = round_.step
                progress.seconds = learnt - began
                speed = (progress.step - first_step) / max(progress.seconds, 1e-9)
                progress.scalars = {**round_.scalars, **_means(logged), "train/n_updates": progress.updates}
                progress.scalars |= {"train/learning_rate": learning_rate, "time/fps": speed}
                progress.scalars |= {"time/gather_seconds": gathered - ready, "time/learn_seconds": learnt - gathered}
                progress.episodes = round_.episodes
                with threads.one_thread(largest):  # evaluating a large network is large work, too
                    stop = monitor is not None and self._watch(monitor, stopping)
                    if stopping.smallest_step and before is not None and logged:  # an empty round moves nothing
                        moved = torch.linalg.vector_norm(self.flat.value - before)
                        stop |= bool(moved < stopping.smallest_step * torch.linalg.vector_norm(before))
                    try:
                        if callback is not None and callback(progress):
                            stop = True
                    finally:  # with what the callback added, and also if it was interrupted
                        self.tracker.scalars(progress.scalars, progress.step)
                if bar is not None:
                    bar.update(progress.step - first_step, progress.scalars.get(watched))
                if stop or (stopping.seconds is not None and progress.seconds >= stopping.seconds):
                    break
                ready = time.perf_counter()
        return progress

    def restore_best(self) -> float:
        """Restore the best evaluated parameters and return their value.

        Raises:
            ValueError: if nothing was evaluated.
        """
        if self.best is None:
            raise ValueError("there are no best parameters: nothing was evaluated in training")
        value, state = self.best
        self._restore_model(state)
        return value

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all tensors that training has changed: module, companions, optimiser."""
        moments = {f"optimizer.{name}": t.clone() for name, t in self.optimizer.state.items() if isinstance(t, Tensor)}
        return self._model_state() | moments

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            RuntimeError, KeyError, ValueError: if it does not fit.
        """
        self._restore_model(state)
        self.optimizer.restore(section(state, "optimizer."))

    def _model_state(self) -> dict[str, Tensor]:
        state = {f"module.{name}": tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        for name, companion in self.companions.items():
            state |= {f"{name}.{part}": tensor for part, tensor in companion.state_dict().items()}
        return state

    def _restore_model(self, state: Mapping[str, Tensor]) -> None:
        self.module.load_state_dict(section(state, "module."))
        for name, companion in self.companions.items():
            companion.load_state_dict(section(state, f"{name}."))

    @property
    def fraction(self) -> float:
        """The fraction of training done when the round began, in [0, 1]; 0 if the end is not known.

        Training is the present or last call of `fit`, or all steps from 0 to ``schedule_timesteps``.
        """
        start, end = self._schedule
        return 0.0 if end is None else min(max((self.progress.step - start) / max(end - start, 1), 0.0), 1.0)

    def _learning_rate(self) -> float:
        return self.optimization.learning_rate * self.optimization.factor(self.fraction) * self.plateau_factor

    def _step(self, batch: Any, loss: Loss, learning_rate: float) -> dict[str, Tensor]:
        """Take one gradient step; return the tensors to log."""
        gradient = self.flat.gradient
        gradient.zero_()
        result = loss(batch)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"loss must return (scalar, tensors to log by name), got {type(result).__name__}")
        value, scalars = result
        value.backward()
        norm = torch.linalg.vector_norm(gradient)
        size = float(norm)
        if not math.isfinite(size + float(value.detach())):
            raise FloatingPointError(self._explain(batch, value))
        limit = self.optimization.max_gradient_norm
        if limit is not None and size > limit:
            gradient.mul_(limit / size)
        self.optimizer.step(learning_rate)
        self.progress.updates += 1
        return {"train/loss": value.detach(), **scalars, "train/gradient_norm": norm}

    def _watch(self, monitor: Monitor, stopping: Stopping) -> bool:
        """Evaluate if it is time, keep the best, and return True if training should stop."""
        progress = self.progress
        if monitor.evaluate is not None and progress.step // monitor.every > self._last_evaluation // monitor.every:
            self._last_evaluation = progress.step
            began = time.perf_counter()
            progress.scalars.update(monitor.evaluate())
            progress.scalars["time/evaluate_seconds"] = time.perf_counter() - began
            if monitor.details is not None:
                self.tracker.details(monitor.details, progress.step)
        value = progress.scalars.get(monitor.name)
        if value is None:
            return False
        sign = 1.0 if monitor.maximize else -1.0
        tie = progress.scalars.get(monitor.tie_breaker or "", 0.0)
        score = sign * value, -tie
        if score > self._best_score:  # never for NaN, which compares false with everything
            small = 0.0 < score[0] - self._best_score[0] <= stopping.tolerance
            self._patience_used = self._patience_used + 1 if small else 0
            self._best_score, self._without_improvement = score, 0
            if monitor.evaluate is not None:
                self.best = value, self._model_state()
        else:
            self._without_improvement += 1
            self._patience_used += 1
            patience = self.optimization.plateau_patience
            if self.optimization.schedule == "plateau" and self._without_improvement % patience == 0:
                self.plateau_factor /= 10.0
        reached = stopping.target is not None and sign * value >= sign * stopping.target
        return reached or (stopping.patience is not None and self._patience_used >= stopping.patience)

    def _explain(self, batch: Any, value: Tensor) -> str:
        """Name the first source of a NaN or an infinity: the batch, the parameters, the loss or the gradient."""
        where = f"at gradient step {self.progress.updates + 1}, after {self.progress.step:,} steps of data"
        parts = (("batch's", _tensors("batch", batch)), ("parameter", self.module.named_parameters()))
        for part, named in parts:
            for name, tensor in named:
                if not tensor.isfinite().all():
                    return f"the {part} {name} is not finite, {where}"
        if not value.isfinite():
            return f"the loss is {value.item()} from finite data and parameters, {where}"
        for name, parameter in self.module.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return f"the gradient of {name} is not finite although the loss is {value.item():.4g}, {where}"
        return f"the gradient's norm overflows, {where}; a smaller learning rate or target scale may help"


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a batch with the names of their fields."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, tuple | list):
        for part, inner in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
            yield from _tensors(str(part), inner)
    elif isinstance(value, Mapping):
        for part, inner in value.items():
            yield from _tensors(str(part), inner)


def _shape(batch: Any) -> Sequence[int]:
    """The shape of the batch's first tensor: rows, and what a row is."""
    return next((tensor.shape for _, tensor in _tensors("batch", batch) if tensor.ndim > 0), (1,))


def _means(logged: list[tuple[int, dict[str, Tensor]]]) -> dict[str, float]:
    """The mean of each scalar over the steps of a round that log it, by rows, in one transfer from the device."""
    if not logged:
        return {}
    like = next(iter(logged[0][1].values()))  # the loss comes first
    counts = torch.tensor([float(rows) for rows, _ in logged], device=like.device, dtype=like.dtype)
    means = {}
    for name in dict.fromkeys(name for _, scalars in logged for name in scalars):
        having = [step for step, (_, scalars) in enumerate(logged) if name in scalars]
        values = [torch.as_tensor(logged[step][1][name]) for step in having]
        if values[0].ndim == 0:
            weights = counts if len(having) == len(logged) else counts[having]
            means[name] = torch.stack(values).to(like) @ (weights / weights.sum())
        else:  # one number per row
            means[name] = (torch.cat(values) if len(values) > 1 else values[0]).to(like).mean()
    return dict(zip(means, torch.stack(list(means.values())).tolist(), strict=True))
