"""Fitting: rows and a task become a trained network, as values.

    X, y ─► read ─► split ─► begin ─► standardized ─► train ─► Outcome

`rlce.Classifier` and `rlce.Regressor` differ in how they read y and in the `Task`, nowhere else. What is refused raises
before anything has changed; what was learnt comes back as one value, also where the training was interrupted.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import _check_sample_weight, check_random_state, column_or_1d, validate_data
from torch import Tensor, nn

from rlce.data import Standardizer, batches_of, held_out
from rlce.network import (
    MLP,
    NetworkFactory,
    build,
    check_factory,
    checked_device,
    evaluation_mode,
    in_chunks,
    number_type,
    numpy_forward,
)
from rlce.optimization import Optimization, check, check_flag, check_number, check_whole
from rlce.supervised.loss import Batch
from rlce.tracking import Tracker
from rlce.trainer import Callback, Monitor, Progress, Round, Stopping, Trainer

About = TypeVar("About")


class Rows(NamedTuple):
    """Rows without those of weight zero. N rows."""

    inputs: NDArray[Any]  # [N, D], as given or standardised
    target: NDArray[Any]  # [N] or [N, ...], as given or encoded
    weight: NDArray[np.float64]  # [N], positive, not scaled


# ------------------------------------------------------------------------------------------------------------ settings


@dataclass(frozen=True)
class Architecture:
    """How to make a network: the library's MLP, or what a user's factory makes."""

    hidden: Sequence[int]
    activation: str
    dropout: float
    factory: NetworkFactory | None
    device: str

    def make(self, n_inputs: int, n_outputs: int, seed: int, double: bool) -> nn.Module:
        """A fresh network on its device; a user's has the number type that the factory gave it."""
        if self.factory is not None:
            return build(self.factory, n_inputs, n_outputs, seed).to(self.device)
        network = MLP(
            n_inputs,
            n_outputs,
            self.hidden,
            activation=self.activation,
            dropout=self.dropout,
            initialization="glorot",
            seed=seed,
        )
        return network.to(self.device, torch.float64 if double else torch.float32)


@dataclass(frozen=True)
class Plan:
    """How to train: the parameters that both estimators have, checked."""

    architecture: Architecture
    optimization: Optimization
    stopping: Stopping
    batch_size: int | str
    epochs: int
    restarts: int
    standardize: bool
    validation_split: float

    def rows_a_step(self, rows: int) -> int:
        """Batch size; "auto": 64 up to 32,767 rows, then about a 256th of the rows as a power of two, at most 1,024."""
        if self.batch_size != "auto":
            return int(self.batch_size)
        return min(1_024, max(64, 2 ** int(math.log2(max(rows, 256) / 256))))

    def once_more(self) -> Plan:
        """One epoch that goes on from another training.

        Raises:
            ValueError: a schedule that must know where training ends.
        """
        schedule = self.optimization.schedule
        if schedule == "plateau" or (schedule != "constant" and self.optimization.schedule_timesteps is None):
            raise ValueError(f"optimizer: partial_fit has no end, which the {schedule} schedule needs to know")
        return dataclasses.replace(self, epochs=1, restarts=1, stopping=Stopping())


def plan_of(parameters: Mapping[str, Any]) -> Plan:
    """The plan that an estimator's parameters say.

    Raises:
        ValueError: a parameter that makes no sense; the message names it.
    """
    for name in ("epochs", "restarts"):
        check_whole(name, parameters[name])
    if parameters["batch_size"] != "auto":
        check_whole("batch_size", parameters["batch_size"], ', or "auto"')
    for name in {"standardize", "conformal", "soft_targets"} & set(parameters):
        check_flag(name, parameters[name])
    hidden = parameters["hidden"]
    check(
        "hidden", hidden, isinstance(hidden, Sequence) and not isinstance(hidden, str), "be a sequence of whole numbers"
    )
    for name in ("validation_split", "dropout"):
        check_number(name, parameters[name], lambda value: 0 <= value < 1, "lie in [0, 1)")
    check_factory(parameters["network"])
    checked_device(parameters["device"])
    chosen, stopping = parameters["optimizer"], parameters["stopping"]
    given = {name: parameters[name] for name in ("learning_rate", "weight_decay") if parameters[name] is not None}
    return Plan(
        architecture_of(parameters),
        dataclasses.replace(chosen if isinstance(chosen, Optimization) else Optimization(chosen), **given),
        stopping if isinstance(stopping, Stopping) else Stopping(patience=stopping),
        *(parameters[name] for name in ("batch_size", "epochs", "restarts", "standardize", "validation_split")),
    )


def architecture_of(parameters: Mapping[str, Any]) -> Architecture:
    """The network that an estimator's parameters say."""
    return Architecture(*(parameters[name] for name in ("hidden", "activation", "dropout", "network", "device")))


# ---------------------------------------------------------------------------------------------------------------- rows


def read(reader: Any, X: Any, y: Any, sample_weight: Any = None, *, fresh: bool = False) -> Rows:
    """Checked arrays, without the rows of weight zero.

    Args:
        reader: a copy of the estimator, since rows may still be refused: scikit-learn notes the columns on it where
            ``fresh``, and else holds them against those noted.
        X: ``[N, D]``.
        y: ``[N]`` or ``[N, M]``.
        sample_weight: ``[N]``.
        fresh: whether these are the rows that columns are learnt from.

    Raises:
        ValueError: in scikit-learn's words.
    """
    y = y.toarray() if issparse(y) else y
    inputs, y = validate_data(reader, X, y, reset=fresh, dtype=(np.float64, np.float32), multi_output=True)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    weight = _check_sample_weight(sample_weight, inputs, dtype=np.float64, ensure_non_negative=True)
    kept = weight > 0
    if not kept.any():  # scikit-learn looks since 1.9
        raise ValueError("Sample weights must contain at least one non-zero number.")
    if not kept.all():
        inputs, y, weight = inputs[kept], y[kept], weight[kept]
    if weight.max() > 1e300 / len(weight):
        raise ValueError(f"sample_weight must have a finite sum, got up to {weight.max()} a row")
    return Rows(inputs, y, weight)


def split(
    plan: Plan,
    rows: Rows,
    validation_set: tuple[Any, ...] | None,
    random: np.random.RandomState,
    read_held_out: Callable[..., Rows],
) -> tuple[Rows, Rows | None]:
    """Rows to train with and rows to watch, drawn class by class where a row has one class.

    Args:
        plan: how to train.
        rows: encoded.
        validation_set: (X, y) or (X, y, sample_weight) in place of drawn rows, or None.
        random: the source of the draw.
        read_held_out: (X, y, sample_weight=None) → encoded rows.

    Raises:
        ValueError: both a set and a split, a set that is none, or a split that leaves no row.
    """
    if validation_set is not None:
        if plan.validation_split:
            raise ValueError("validation_set: give it or validation_split, not both")
        if not isinstance(validation_set, tuple | list) or len(validation_set) not in (2, 3):
            raise ValueError("validation_set must be (X, y) or (X, y, sample_weight)")
        return rows, read_held_out(*validation_set)
    if not plan.validation_split:
        return rows, None
    one_class = rows.target.ndim == 1 and rows.target.dtype.kind == "i"
    groups = rows.target if one_class else np.zeros(len(rows.target), int)
    held = held_out(groups, plan.validation_split, draw_seed(random))
    if not held.any():
        raise ValueError(f"validation_split: {plan.validation_split} of {len(held)} rows leaves none to watch")
    return Rows(*(part[~held] for part in rows)), Rows(*(part[held] for part in rows))


def stream_of(random_state: Any) -> np.random.RandomState:
    """A source of draws that a fit may keep: a user's generator, or NumPy's global one, gives its seed."""
    random = check_random_state(random_state)
    return random if isinstance(random_state, int | np.integer) else np.random.RandomState(draw_seed(random))


def draw_seed(random: np.random.RandomState) -> int:
    """The seed of another generator."""
    return int(random.randint(np.iinfo(np.int32).max))


# ------------------------------------------------------------------------------------------------------ what is learnt


@dataclass(frozen=True)
class Training:
    """A trained network, and what another epoch would go on from.

    Attributes:
        network: standardised inputs → outputs.
        standardizer: of the columns.
        random: the source of all further draws.
        history: one dict of scalars an epoch.
        optimizer_state: moments and the like, by name.
        samples_seen: rows trained with, over all epochs.
    """

    network: nn.Module
    standardizer: Standardizer
    random: np.random.RandomState
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    optimizer_state: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    samples_seen: int = 0

    def standardized(self, rows: Rows) -> Rows:
        """The same rows with inputs as the network takes them, in its number type."""
        return rows._replace(inputs=self.standardizer(rows.inputs, number_type(self.network)))

    def outputs(self, inputs: NDArray[Any]) -> NDArray[np.float64]:
        """The network's outputs for rows as they were given, ``[N, D]`` → ``[N, n_outputs]``."""
        forward, dtype = numpy_forward(self.network), number_type(self.network)
        return in_chunks(lambda part: forward(self.standardizer(part, dtype)), inputs).astype(np.float64)


@dataclass(frozen=True)
class Fitted(Generic[About]):
    """All that a fit leaves: what an estimator predicts and goes on from, and what its file holds.

    ``partial_fit`` makes a new one, but trains the same network on.

    Attributes:
        training: the network, and what belongs to it.
        about: what is known beside: labels and class frequencies, or the unit of the targets.
        settings: the parameters at the fit, as JSON says them.
    """

    training: Training
    about: About
    settings: Mapping[str, Any]


class Seeds(NamedTuple):
    """Of one training from fresh weights."""

    network: int
    order: int
    rules: int


def draw_seeds(random: np.random.RandomState) -> Seeds:
    """Seeds in the order in which a training uses them."""
    return Seeds(*(draw_seed(random) for _ in Seeds._fields))


def begin(plan: Plan, rows: Rows, n_outputs: int, random: np.random.RandomState) -> tuple[Training, list[Seeds]]:
    """Statistics of the columns and a fresh network, and the seeds of all restarts.

    The library's network is in double precision where one batch holds all rows: there it costs nothing, and a sample
    weight of 2 then gives what a repeated row gives, not just nearly.
    """
    seeds = [draw_seeds(random) for _ in range(plan.restarts)]
    standardizer, (count, width) = Standardizer(rows.inputs.shape[1]), rows.inputs.shape
    if plan.standardize:
        standardizer.update(rows.inputs, None if (rows.weight == rows.weight[0]).all() else rows.weight)
    double = plan.architecture.device == "cpu" and count <= plan.rows_a_step(count)
    network = plan.architecture.make(width, n_outputs, seeds[0].network, double)
    return Training(network, standardizer, random), seeds


def go_on(
    plan: Plan, rows: Rows, n_outputs: int, before: Training | None, random_state: Any
) -> tuple[Training, list[Seeds]]:
    """Where another epoch over these rows begins: from the training before, or from a fresh network."""
    # What is refused after this must have drawn nothing from the training before, and moved no statistics.
    random = stream_of(random_state) if before is None else copy.deepcopy(before.random)
    standardizer = Standardizer(rows.inputs.shape[1]) if before is None else copy.deepcopy(before.standardizer)
    if plan.standardize:
        standardizer.update(rows.inputs, rows.weight)
    order, rules = draw_seed(random), draw_seed(random)
    if before is not None:
        return dataclasses.replace(before, standardizer=standardizer, random=random), [Seeds(0, order, rules)]
    seed = draw_seed(random)
    network = plan.architecture.make(rows.inputs.shape[1], n_outputs, seed, double=False)
    return Training(network, standardizer, random), [Seeds(seed, order, rules)]


# ------------------------------------------------------------------------------------------------------------ training


class Task(NamedTuple):
    """What tells a classification from a regression in training."""

    n_outputs: int
    target: NDArray[Any]  # [N, ...], of the training rows, in the unit of the loss
    weight: NDArray[np.float64]  # [N], positive, not scaled
    step: Callable[[nn.Module, Batch, torch.Generator], tuple[Tensor, dict[str, Tensor]]]  # the loss, and what to log
    validate: Callable[[NDArray[Any], Rows], dict[str, float]]  # outputs for held-out rows → what to log
    watched: tuple[str, bool]  # of `validate`, and whether more of it is better
    watched_in_training: str = "train/loss"  # where no rows are held out; less is better
    probabilities: Tensor | None = None  # [N], with which training rows are drawn; None for each once an epoch


class Watch(NamedTuple):
    """What is told of a training, and to whom."""

    callback: Callback | None = None
    log_dir: str | os.PathLike[str] | None = None
    verbose: bool = False
    settings: Mapping[str, Any] = {}  # written beside the scalars


class Outcome(NamedTuple):
    """What a training comes to; interrupted or not, it holds what was learnt."""

    training: Training
    held_out: NDArray[np.float64] | None  # the trained network's outputs for the held-out rows, where there are any
    error: BaseException | None  # what interrupted it; to be raised once what was learnt is in place


def train(
    plan: Plan, start: Training, seeds: Sequence[Seeds], task: Task, rows: Rows, validation: Rows | None, watch: Watch
) -> Outcome:
    """Train once from ``start``, and once from fresh weights for each further seed; keep the best.

    Args:
        plan: how to train.
        start: where the first training begins.
        seeds: of each training.
        task: what to train for.
        rows: the training rows, standardised.
        validation: standardised rows to watch, or None.
        watch: who looks on.

    Returns:
        The best training. If one was interrupted, the best of those before, or else what it has learnt so far.

    Raises:
        ValueError: what is refused before a first training begins.
    """
    batch = _batch(task, rows, plan.architecture.device)
    best: Training | None = None
    running: _Run | None = None
    score = -math.inf
    try:
        for restart, seed in enumerate(seeds):
            directory = watch.log_dir
            if directory is not None and len(seeds) > 1:
                directory = Path(directory, f"restart-{restart + 1}")
            one = start if restart == 0 else _anew(plan, start, task, seed.network)
            running = _Run(plan, one, seed, task, batch, watch._replace(log_dir=directory))
            value = running.finish(validation)
            if best is None or value > score:
                best, score = running.training, value
            running = None
        assert best is not None
        held = None
        if validation is not None:
            held = in_chunks(numpy_forward(best.network), validation.inputs).astype(np.float64)
        return Outcome(best, held, None)
    except BaseException as error:
        learnt = best if best is not None else running.training if running is not None else None
        if learnt is None:
            raise
        return Outcome(learnt, None, error)


class _Run:
    """One training; its constructor is the last that refuses. `training` is what it has learnt so far."""

    def __init__(self, plan: Plan, start: Training, seeds: Seeds, task: Task, batch: Batch, watch: Watch) -> None:
        self.plan, self.start, self.task, self.batch, self.watch = plan, start, task, batch, watch
        self.order, rules = (torch.Generator().manual_seed(seed) for seed in (seeds.order, seeds.rules))
        self.loss = lambda batch: task.step(start.network, batch, rules)
        # A rule or cost that cannot work fails here, on two rows, before anything is written or changed.
        with evaluation_mode(start.network), torch.no_grad():
            self.loss(Batch(*(None if part is None else part[:2] for part in batch)))  # type: ignore[arg-type]
        self.history = list(start.history)
        self.tracker = Tracker(watch.log_dir)
        self.trainer = Trainer(start.network, plan.optimization, self.tracker)
        if not start.network.training:  # as the last training left it; a fresh network may have frozen parts
            start.network.train()
        self.trainer.optimizer.restore(start.optimizer_state)
        self.trainer.progress.step = start.samples_seen
        self.config = {**watch.settings, "rows": len(batch.target), "features": start.standardizer.width}
        self.tracker.open()
        self.tracker.config(self.config)

    @property
    def training(self) -> Training:
        state, seen = self.trainer.optimizer.state, self.trainer.progress.step
        return dataclasses.replace(self.start, history=self.history, optimizer_state=state, samples_seen=seen)

    def finish(self, validation: Rows | None) -> float:
        """Train to the end; returns how good it is (more is better)."""
        plan, task, network, count = self.plan, self.task, self.start.network, len(self.batch.target)
        name, maximize = task.watched if validation is not None else (task.watched_in_training, False)
        monitor = Monitor(name, maximize)
        if validation is not None:
            forward = numpy_forward(network)

            def evaluate() -> dict[str, float]:
                return task.validate(in_chunks(forward, validation.inputs), validation)

            monitor = Monitor(name, maximize, evaluate, tie_breaker="val/loss")
        try:
            self.trainer.fit(
                self._epochs(),
                self.loss,
                total=self.start.samples_seen + plan.epochs * count,
                monitor=monitor,
                stopping=plan.stopping,
                callback=self._record,
                progress_bar=self.watch.verbose,
            )
            value = self.history[-1][name] if validation is None else self.trainer.restore_best()
            results = [tag for tag in ("train/accuracy", name) if tag in self.history[-1]]
            self.tracker.hyperparameters(self.config, results)
        finally:
            self.tracker.close()
            self.trainer.flat.release()
            network.eval()
        return value if maximize else -value

    def _epochs(self) -> Iterator[Round]:
        count = len(self.batch.target)
        for epoch in range(1, self.plan.epochs + 1):
            batches = batches_of(self.batch, count, self.plan.rows_a_step(count), self.order, self.task.probabilities)
            yield Round(itertools.starmap(Batch, batches), self.start.samples_seen + epoch * count)

    def _record(self, progress: Progress) -> bool | None:
        self.history.append(dict(progress.scalars))
        return None if self.watch.callback is None else self.watch.callback(progress)


def _anew(plan: Plan, start: Training, task: Task, seed: int) -> Training:
    """The same beginning with other initial weights."""
    double = number_type(start.network) is np.float64
    return dataclasses.replace(
        start, network=plan.architecture.make(start.standardizer.width, task.n_outputs, seed, double)
    )


def _batch(task: Task, rows: Rows, device: str) -> Batch:
    """All standardised rows as tensors, in the network's number type."""
    dtype = rows.inputs.dtype
    # Rows that are drawn by weight count 1 each.
    weight = task.weight if task.probabilities is None else np.ones_like(task.weight)
    equal = bool((weight == weight[0]).all())
    target = task.target if task.target.dtype.kind == "i" else task.target.astype(dtype)
    return Batch(
        torch.from_numpy(rows.inputs).to(device),
        torch.from_numpy(target).to(device),
        None if equal else torch.tensor((weight / weight.mean()).astype(dtype), device=device),
    )
