"""Fitting: rows and a task become a trained network.

    X, y ─► read ─► split ─► begin ─► train ─► Fitted        (read and split: `rlce.supervised.rows`)

`rlce.Classifier` and `rlce.Regressor` differ only in how they read y and in their `Task`. An error is raised before
anything has changed. What was learnt is kept as one value, also if the training was interrupted.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from rlce import threads
from rlce.data import batches_of
from rlce.network import (
    MLP,
    Dropout,
    evaluation_mode,
    in_chunks,
    number_type,
    numpy_forward,
)
from rlce.scalars import ROWS_LAYOUT
from rlce.supervised import frames, shown
from rlce.supervised.columns import Columns
from rlce.supervised.fields import Notes
from rlce.supervised.loss import Batch
from rlce.supervised.plan import Plan
from rlce.supervised.rows import Rows, draw_seed
from rlce.supervised.scaling import Scaler, scaler_for
from rlce.tracking import Details, Tracker
from rlce.trainer import Callback, Monitor, Progress, Round, Trainer

# --------------------------------------------------------------------------------------------------- before and after


@dataclass(frozen=True)
class Training:
    """A trained network, and what another epoch needs to continue.

    Attributes:
        network: scaled inputs → outputs.
        scaler: of the columns.
        seed: of all further draws.
        history: one dict of scalars per epoch.
        optimizer_state: moments and step counts, by name.
        samples_seen: rows trained with, over all epochs.
        columns: how a DataFrame becomes rows of numbers; None if rows are numbers.
    """

    network: nn.Module
    scaler: Scaler
    seed: int
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    optimizer_state: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    samples_seen: int = 0
    columns: Columns | None = None

    def scaled(self, rows: Rows) -> Rows:
        """The rows with inputs for the network, in its number type."""
        return rows._replace(inputs=self.scaler(rows.inputs, number_type(self.network)))

    def outputs(self, inputs: Any) -> NDArray[np.float64]:
        """The network's outputs for raw rows, ``[N, D]`` → ``[N, n_outputs]``."""
        forward, dtype, notes = numpy_forward(self.network), number_type(self.network), Notes()

        def of(part: Any) -> NDArray[Any]:
            numbers = part if self.columns is None else self.columns.matrix(part, notes=notes)
            return forward(self.scaler(numbers, dtype))

        work = len(inputs) * threads.multiply_adds(self.network, self.scaler.width)
        with threads.one_thread(work, numpy_alone=isinstance(self.network, MLP)):
            outputs = in_chunks(of, inputs).astype(np.float64)
        notes.warn()
        return outputs


@dataclass(frozen=True)
class Fitted:
    """Everything that a fit leaves: what an estimator predicts with, continues from and saves.

    ``partial_fit`` makes a new one, but goes on training the same network.

    Attributes:
        training: the network and what belongs to it.
        about: what else is known: labels and class frequencies, or the unit of the targets.
        settings: the parameters at the fit, as JSON values.
    """

    training: Training
    about: Any
    settings: Mapping[str, Any]


class Start(NamedTuple):
    """Where a fit begins."""

    training: Training
    seeds: list[tuple[int, int, int]]  # for each restart: of the network, of the order of rows, of the rules
    rows: Rows  # scaled
    validation: Rows | None  # scaled


def begin(
    plan: Plan,
    rows: Rows,
    validation: Rows | None,
    n_outputs: int,
    random: np.random.RandomState,
    before: Training | None,
) -> Start:
    """Column statistics, a network, and the seeds of all restarts.

    The library's network is in double precision if one batch holds all rows, or there are at most 64. It costs little
    there, and without dropout a sample weight of 2 in a single batch then gives exactly what a repeated row gives.
    ``partial_fit`` knows only the first rows, and takes single precision. It goes on with the network of ``before``,
    and leaves the rest of it as it was.
    """
    seeds = [(draw_seed(random), draw_seed(random), draw_seed(random)) for _ in range(plan.restarts)]
    if plan.once:  # it draws the network's seed last
        seeds = [(network, order, rules) for order, rules, network in seeds]
    columns = None if before is None else before.columns
    if before is None and frames.is_frame(rows.inputs):
        columns = frames.learn_columns(rows.inputs)
    if columns is not None:
        rows = rows._replace(inputs=columns.matrix(rows.inputs))
        validation = validation and validation._replace(inputs=columns.matrix(validation.inputs))
    count, width = rows.inputs.shape
    equal = not plan.once and (rows.weight == rows.weight[0]).all()
    weights, old = None if equal else rows.weight, None if before is None else before.scaler
    scaler = scaler_for(plan.scaling, old, rows.inputs, weights, plan.once)
    if before is None:
        double = not plan.once and plan.device == "cpu" and count <= max(64, plan.rows_a_step(count))
        before = Training(plan.make(width, n_outputs, seeds[0][0], double), scaler, 0, columns=columns)
    training = dataclasses.replace(before, scaler=scaler, seed=draw_seed(random))
    return Start(training, seeds, training.scaled(rows), validation and training.scaled(validation))


# ------------------------------------------------------------------------------------------------------------ training


class Task(NamedTuple):
    """The difference between a classification and a regression in training."""

    about: Any  # what is known besides the network
    batch: Batch  # all training rows
    step: Callable[[nn.Module, Batch, torch.Generator], tuple[Tensor, dict[str, Tensor]]]  # the loss, and what to log
    validate: Callable[[NDArray[Any], Rows], dict[str, float]]  # outputs for held-out rows → what to log
    watched: tuple[str, bool]  # the scalar of `validate` to watch, and True if more of it is better
    watched_in_training: str = "train/loss"  # without held-out rows; less is better
    probabilities: Tensor | None = None  # [N], for drawing the training rows; None: each row once per epoch
    prepare: Callable[[nn.Module], None] | None = None  # changes the network once, when nothing can be refused any more
    calibrate: Callable[[NDArray[Any], Rows], Any] | None = None  # outputs for held-out rows → the final `about`
    # The final `about`, the network, some training rows, outputs for held-out rows → what TensorBoard shows
    details: Callable[[Any, nn.Module, Batch, NDArray[Any], Rows], Details] | None = None


class Watch(NamedTuple):
    """Who is told of a training."""

    callback: Callback | None = None  # called after every epoch
    log_dir: str | os.PathLike[str] | None = None  # TensorBoard directory
    log: str = "all"  # how much is written there
    verbose: bool = False  # show a progress bar


def train(
    plan: Plan,
    start: Start,
    task: Task,
    settings: Mapping[str, Any],
    keep: Callable[[Fitted], None],
    watch: Watch,
) -> None:
    """Train once from ``start`` and once from fresh weights for each further seed, and keep the best.

    Args:
        plan: how to train.
        start: where to begin.
        task: what to train.
        settings: the estimator's parameters as JSON, to keep and to log.
        keep: receives the best training. If one is interrupted: the best before it, or else what it has learnt so far.
        watch: who is told.

    Raises:
        ValueError: for anything refused before the first training begins.
    """
    best: _Run | None = None
    running: _Run | None = None
    about, score = task.about, -math.inf
    try:
        for restart, seeds in enumerate(start.seeds):
            directory, one = watch.log_dir, start.training
            if directory is not None and len(start.seeds) > 1:
                directory = Path(directory, f"restart-{restart + 1}")
            if restart:  # the same start with other initial weights
                double = number_type(one.network) is np.float64
                network = plan.make(one.scaler.width, about.head.n_outputs, seeds[0], double)
                one = dataclasses.replace(one, network=network)
            running = _Run(plan, one, seeds, task, settings, functools.partial(Tracker, directory, watch.log))
            value = running.finish(start.validation, watch.callback, watch.verbose)
            if best is None or value > score:
                best, score = running, value
            running = None
        assert best is not None
        best.warn_if_wrong()
        if task.calibrate is not None and start.validation is not None:
            outputs = in_chunks(numpy_forward(best.start.network), start.validation.inputs)
            about = task.calibrate(outputs, start.validation)
        best.show(about, start.validation)
    finally:
        learnt = best or running
        if learnt is not None:
            keep(Fitted(learnt.training, about, settings))


class _Run:
    """One training. Only its constructor may refuse; `training` is what it has learnt so far."""

    def __init__(
        self,
        plan: Plan,
        start: Training,
        seeds: tuple[int, int, int],
        task: Task,
        settings: Mapping[str, Any],
        tracker: Callable[[], Tracker],
    ) -> None:
        self.plan, self.start, self.task = plan, start, task
        self.order, rules = (torch.Generator().manual_seed(seed) for seed in seeds[1:])
        for place, dropout in enumerate(part for part in start.network.modules() if isinstance(part, Dropout)):
            dropout.restart(
                seeds[0] + 1 + place
            )  # as in a fresh MLP, so that a loaded network goes on like the saved one
        self.loss = lambda batch: task.step(start.network, batch, rules)
        with evaluation_mode(start.network), torch.no_grad():
            # Run the loss on two rows, so that a broken rule or cost fails before training.
            self.loss(_every(task.batch, slice(2)))
        self.history = list(start.history)
        self.ended: bool | None = None  # by the callback
        self.tracker = tracker()  # last, because it makes the directory, which bad input must not leave behind
        self.trainer = Trainer(start.network, plan.optimization, self.tracker)
        if not start.network.training:  # as the last training left it; a fresh network may have frozen parts
            start.network.train()
        self.trainer.optimizer.restore(start.optimizer_state)
        self.trainer.progress.step = start.samples_seen
        rows, width = len(task.batch.target), start.scaler.width
        self.tracker.open()
        named = shown.hyperparameters(settings, plan.optimization, rows, width)
        self.tracker.begin({**settings, "rows": rows, "features": width}, named, ROWS_LAYOUT)

    @property
    def training(self) -> Training:
        state, seen = self.trainer.optimizer.state, self.trainer.progress.step
        return dataclasses.replace(self.start, history=self.history, optimizer_state=state, samples_seen=seen)

    def finish(self, validation: Rows | None, callback: Callback | None, verbose: bool) -> float:
        """Train to the end and return the score (more is better)."""
        plan, task, network, count = self.plan, self.task, self.start.network, len(self.task.batch.target)
        first, history, succeeded, passes = self.start.samples_seen, self.history, False, plan.passes(count)
        monitor = Monitor(task.watched_in_training, maximize=False)
        if validation is not None:
            forward = numpy_forward(network)
            monitor = Monitor(
                *task.watched,
                evaluate=lambda: task.validate(in_chunks(forward, validation.inputs), validation),
                tie_breaker="val/loss",
            )

        def epochs() -> Iterator[Round]:
            for epoch in range(1, passes + 1):
                batches = batches_of(task.batch, count, plan.rows_a_step(count), self.order, task.probabilities)
                yield Round(itertools.starmap(Batch, batches), first + epoch * count)

        def record(progress: Progress) -> bool | None:
            history.append(dict(progress.scalars))
            self.ended = None if callback is None else callback(progress)
            return self.ended

        try:
            if task.prepare is not None:
                task.prepare(network)
            self.loss_before = self._sample_loss()
            self.trainer.fit(
                epochs(),
                self.loss,
                total=first + passes * count,
                monitor=monitor,
                stopping=plan.stopping,
                callback=record,
                progress_bar=verbose,
                unit="samples",
            )
            value = history[-1][monitor.name] if validation is None else self.trainer.restore_best()
            succeeded = True
        finally:
            self.tracker.close(succeeded)
            self.trainer.flat.release()
            network.eval()
        return value if monitor.maximize else -value

    def show(self, about: Any, validation: Rows | None) -> None:
        """Log pictures of the held-out rows, as what was kept predicts them."""
        network, make, step = self.start.network, self.task.details, self.trainer.progress.step
        if validation is None or make is None or self.tracker.log != "all":
            return

        def details() -> Details:
            outputs = in_chunks(numpy_forward(network), validation.inputs)
            with evaluation_mode(network), torch.no_grad():
                return make(about, network, self._sample(), outputs, validation)

        self.tracker.open(after_step=step)
        try:
            self.tracker.details(details, step, last=True)
        finally:
            self.tracker.close()

    def _sample(self) -> Batch:
        """About a thousand training rows, always the same ones."""
        return _every(self.task.batch, slice(None, None, 1 + len(self.task.batch.target) // 1_000))

    def _sample_loss(self) -> float:
        """The loss of the network on the sample."""
        with evaluation_mode(self.start.network), torch.no_grad():
            loss, scalars = self.task.step(self.start.network, self._sample(), torch.Generator())
            return float(scalars.get(self.task.watched_in_training, loss))

    def warn_if_wrong(self) -> None:
        """Warn if training diverged (the loss on the sample is more than 1 above twice that before) or ended too soon.

        Too soon is where all epochs were used up and the loss was `still_falling`, that of the held-out rows if there
        are any. A callback that ended the training knew why.
        """
        after = self._sample_loss()
        if after > 2.0 * abs(self.loss_before) + 1.0:
            warnings.warn(
                f"training diverged: its loss was {self.loss_before:.3g} before and is {after:.3g} now; use a smaller "
                "learning_rate",
                ConvergenceWarning,
                stacklevel=5,
            )
        new = self.history[len(self.start.history) :]
        name = "val/loss" if "val/loss" in new[-1] else self.task.watched_in_training
        if len(new) < self.plan.passes(len(self.task.batch.target)) or self.ended or self.plan.once:
            return
        if still_falling([epoch[name] for epoch in new]):
            more = "" if name == "val/loss" else " (with validation_split you see whether it helps)"
            warnings.warn(
                f"training stopped short: {name} was still falling when the {len(new)} epochs were over; use more "
                f"epochs or a larger learning_rate{more}",
                ConvergenceWarning,
                stacklevel=5,
            )


def still_falling(losses: Sequence[float]) -> bool:
    """True if a loss, one value an epoch, was clearly falling to the end.

    The mean over the last fifth of the epochs is compared with that over the fifth before. The fall between them must
    be more than 2 % of that since the first epoch, more than 10 % of the loss itself (a training loss may creep down
    for ever while the network learns its rows by heart), and more than three times its standard error. Fewer than 20
    epochs show no trend.

    Example:
        >>> still_falling([0.98**epoch for epoch in range(100)]), still_falling([0.9**epoch for epoch in range(100)])
        (True, False)
    """
    if len(losses) < 20:
        return False
    width = len(losses) // 5
    last = np.asarray(losses[-2 * width :])
    time = np.arange(2 * width) - (width - 0.5)
    noise = last - last.mean() - time * (time @ last) / (time @ time)
    error = math.sqrt(noise @ noise / (2 * width - 2) * 2 / width)
    before, after = last[:width].mean(), last[width:].mean()
    return bool(before - after > max(0.02 * (losses[0] - after), 0.1 * abs(after), 3.0 * error))


def batch_of(rows: Rows, target: NDArray[Any], weight: NDArray[np.float64] | None, device: str | torch.device) -> Batch:
    """All scaled rows as tensors, in the network's number type.

    Args:
        rows: scaled.
        target: in the unit of the loss, ``[N, ...]``.
        weight: positive, not scaled, ``[N]``; None for rows that are drawn by weight, which count 1 each.
        device: of the network.
    """
    dtype = rows.inputs.dtype
    target = target if target.dtype.kind == "i" else target.astype(dtype)
    equal = weight is None or bool((weight == weight[0]).all())
    return Batch(
        torch.from_numpy(rows.inputs).to(device),
        torch.from_numpy(target).to(device),
        None if weight is None or equal else torch.tensor((weight / weight.mean()).astype(dtype), device=device),
    )


def _every(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch."""
    return Batch(*(None if part is None else part[rows] for part in batch))  # type: ignore[arg-type]
