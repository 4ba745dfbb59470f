"""What the two estimators share: reading arrays, splitting, the epochs of `rlce.trainer.Trainer`, files.

X, y ─► checked, zero weights dropped ─► split ─► standardised ─► batches ─► loss ─► best weights ─► network_
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    check_random_state,
    column_or_1d,
    validate_data,
)
from torch import Tensor, nn

from rlce.data import Standardizer, batches_of, held_out
from rlce.network import MLP, NetworkFactory, build, evaluation_mode, in_chunks, number_type, numpy_forward
from rlce.optimization import Optimization
from rlce.supervised import files
from rlce.tracking import Tracker
from rlce.trainer import Callback, Monitor, Progress, Round, Stopping, Trainer

# What a training leaves, beside what was learnt of the arrays before.
_LEARNT = ("network_", "history_", "n_epochs_", "_optimizer_state", "_samples_seen")


class Rows(NamedTuple):
    """Rows without those of weight zero. N rows."""

    inputs: NDArray[Any]  # [N, D], as given or standardised
    target: NDArray[Any]  # [N] or [N, ...], encoded
    weight: NDArray[np.float64]  # [N], positive, not scaled


class Batch(NamedTuple):
    """What one gradient step uses. B rows."""

    inputs: Tensor  # [B, D] standardised
    target: Tensor  # [B] or [B, ...]
    weight: Tensor | None  # [B], mean 1 over all training rows; None where all are 1


class Supervised(BaseEstimator):
    """Common ground of `rlce.Classifier` and `rlce.Regressor`, which document the parameters."""

    hidden: Any
    activation: str
    dropout: float
    optimizer: str | Optimization
    learning_rate: float | None
    weight_decay: float | None
    batch_size: int | str
    epochs: int
    standardize: bool
    validation_split: float
    stopping: int | Stopping | None
    restarts: int
    network: NetworkFactory | None
    device: str
    random_state: Any

    # What is watched on held-out rows, and whether more of it is better.
    _watched: tuple[str, bool]

    # ----------------------------------------------------------------------------------------- what each estimator says

    def _n_outputs(self) -> int:
        """Width of the network's outputs; known once targets were encoded."""
        raise NotImplementedError

    def _encode(self, y: NDArray[Any], weight: NDArray[np.float64], fresh: bool) -> NDArray[Any]:
        """Targets as numbers; what they are made of is learnt where ``fresh``, and checked against elsewhere."""
        raise NotImplementedError

    def _prepare(self, rows: Rows, generator: torch.Generator) -> None:
        """Learn from the training rows what the loss needs."""
        raise NotImplementedError

    def _loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective on a batch, and what to log."""
        raise NotImplementedError

    def _validate(self, outputs: NDArray[Any], rows: Rows) -> dict[str, float]:
        """What is logged of held-out rows, `_watched` among it."""
        raise NotImplementedError

    def _calibrate(self, outputs: NDArray[Any] | None, rows: Rows | None) -> None:
        """A last look at the held-out rows, if there are any, with the trained network."""

    @property
    def _watched_in_training(self) -> tuple[str, bool]:
        """What is watched where no rows are held out, and whether more of it is better."""
        return "train/loss", False

    def _check_held_out(self, held_out: bool) -> None:
        """Refuse parameters that need held-out rows where there are none."""

    def _targets(self, target: NDArray[Any]) -> NDArray[Any]:
        """Encoded targets in the unit that the network is trained in."""
        return target

    def _state(self) -> dict[str, Any]:
        """What a file must hold beside parameters and network, as JSON can say it."""
        raise NotImplementedError

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Put back what `_state` gave."""
        raise NotImplementedError

    def _probabilities_of_rows(self) -> Tensor | None:
        """With which the training rows are drawn; None for each once an epoch."""
        return None

    # --------------------------------------------------------------------------------------------------------- training

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        validation_set: tuple[Any, ...] | None = None,
        callback: Callback | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        verbose: bool = False,
    ) -> Self:
        """Train anew.

        Args:
            X: ``[N, D]``: an array, a list of rows, a DataFrame of numbers.
            y: the targets, ``[N]`` (see the class for other shapes).
            sample_weight: one number >= 0 a row, ``[N]``. A weight of 2 counts as a repeated row, 0 as no row at all.
            validation_set: ``(X, y)`` or ``(X, y, sample_weight)`` to watch, in place of ``validation_split``.
            callback: called after every epoch with `rlce.trainer.Progress`; a true answer stops (of several restarts,
                the present one).
            log_dir: TensorBoard directory of this run (of each restart's, in folders of its own); None for none.
            verbose: show a progress bar.

        Returns:
            The estimator.

        Raises:
            ValueError: NaN or infinity, empty or ill-shaped arrays, negative or all-zero sample weights, a setting
                that makes no sense, targets that do not fit; the message names the argument.
        """
        optimization, stopping = self._settings_of_training()
        before, best, learnt = dict(self.__dict__), -math.inf, dict[str, Any]()
        for name in (*_LEARNT, "_counts"):
            self.__dict__.pop(name, None)
        try:
            rows, validation, random = self._gather(X, y, sample_weight, validation_set)
            for restart in range(self.restarts):
                directory = (
                    log_dir if self.restarts == 1 or log_dir is None else Path(log_dir, f"restart-{restart + 1}")
                )
                score = self._run(rows, validation, optimization, stopping, random, callback, directory, verbose)
                if not learnt or score > best:
                    best, learnt = score, {name: self.__dict__[name] for name in _LEARNT}
        except BaseException:
            # An interrupted training leaves what it has learnt so far, or the best of the restarts before. What is
            # refused before it begins leaves the estimator as it was.
            self.__dict__.update(learnt)
            if "network_" in self.__dict__:
                self._calibrate(None, None)
            else:
                self.__dict__.clear()
                self.__dict__.update(before)
            raise
        self.__dict__.update(learnt)
        outputs = None if validation is None else in_chunks(numpy_forward(self.network_), validation.inputs)
        self._calibrate(outputs, validation)
        return self

    def _gather(
        self, X: Any, y: Any, sample_weight: Any, validation_set: tuple[Any, ...] | None
    ) -> tuple[Rows, Rows | None, np.random.RandomState]:
        """Standardised rows to train with and to watch, and the source of all draws."""
        rows = self._read(X, y, sample_weight, fresh=True)
        random = self._random = check_random_state(self.random_state)
        validation = None
        if validation_set is not None:
            if self.validation_split:
                raise ValueError("validation_set: give it or validation_split, not both")
            if not isinstance(validation_set, tuple | list) or len(validation_set) not in (2, 3):
                raise ValueError("validation_set must be (X, y) or (X, y, sample_weight)")
            validation = self._read(*validation_set)
        elif self.validation_split > 0:
            rows, validation = self._split(rows, _seed(random))
        self._check_held_out(validation is not None)
        self._standardizer = Standardizer(rows.inputs.shape[1])
        if self.standardize:
            self._standardizer.update(rows.inputs, None if (rows.weight == rows.weight[0]).all() else rows.weight)
        count = len(rows.target)
        double = self.network is None and self.device == "cpu" and count <= self._batch_size(count)
        # The rows as they came are not held any longer: there may be many.
        rows = self._standardized(rows, double)
        return rows, None if validation is None else self._standardized(validation, double), random

    def _settings_of_training(self) -> tuple[Optimization, Stopping]:
        """Optimisation and stop conditions from the parameters, all of which are checked here."""
        for name in ("epochs", "restarts"):
            _whole(name, getattr(self, name))
        if self.batch_size != "auto":
            _whole("batch_size", self.batch_size, 'or "auto"')
        if not isinstance(self.hidden, Sequence) or isinstance(self.hidden, str):
            raise ValueError(f"hidden must be a sequence of whole numbers, got {self.hidden!r}")
        for name in ("validation_split", "dropout"):
            number(name, getattr(self, name), lambda value: 0 <= value < 1, "lie in [0, 1)")
        if self.network is not None and not callable(self.network):
            raise ValueError(f"network must be a factory (n_inputs, n_outputs) -> nn.Module, got {self.network!r}")
        chosen: Any = self.optimizer
        optimization = chosen if isinstance(chosen, Optimization) else Optimization(chosen)
        given: dict[str, Any] = {"learning_rate": self.learning_rate, "weight_decay": self.weight_decay}
        changes = {name: value for name, value in given.items() if value is not None}
        stopping = self.stopping if isinstance(self.stopping, Stopping) else Stopping(patience=self.stopping)
        return dataclasses.replace(optimization, **changes), stopping

    def _read(self, X: Any, y: Any, sample_weight: Any = None, *, fresh: bool = False) -> Rows:
        """Checked arrays, without the rows of weight zero; ``fresh`` where columns and targets are learnt from them."""
        inputs, y = validate_data(self, X, y, reset=fresh, dtype=(np.float64, np.float32), multi_output=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        weight = _check_sample_weight(sample_weight, inputs, dtype=np.float64, ensure_non_negative=True)
        kept = weight > 0
        if not kept.all():
            inputs, y, weight = inputs[kept], y[kept], weight[kept]
        if weight.max() > 1e300 / len(weight):
            raise ValueError(f"sample_weight must have a finite sum, got up to {weight.max()} a row")
        rows = Rows(inputs, self._encode(y, weight, fresh), weight)
        if fresh:
            self._as_fitted = self._settings()
        return rows

    def _split(self, rows: Rows, seed: int) -> tuple[Rows, Rows]:
        """Training and held-out rows, class by class where a row has one class."""
        one_class = rows.target.ndim == 1 and rows.target.dtype.kind == "i"
        held = held_out(rows.target if one_class else np.zeros(len(rows.target), int), self.validation_split, seed)
        if not held.any():
            raise ValueError(f"validation_split: {self.validation_split} of {len(held)} rows leaves none to watch")
        return Rows(*(part[~held] for part in rows)), Rows(*(part[held] for part in rows))

    def _run(
        self,
        rows: Rows,
        validation: Rows | None,
        optimization: Optimization,
        stopping: Stopping,
        random: np.random.RandomState,
        callback: Callback | None,
        log_dir: str | os.PathLike[str] | None,
        verbose: bool,
    ) -> float:
        """One training from fresh weights; returns how good it is (more is better)."""
        batch_size = self._batch_size(len(rows.target))
        network = self._make_network(rows.inputs.shape[1], _seed(random), rows.inputs.dtype == np.float64)
        order, rules = (torch.Generator().manual_seed(_seed(random)) for _ in range(2))
        self._prepare(rows, rules)
        training = self._batch(rows)
        self._loss_of_two_rows(network, training)
        # Last, so that bad input leaves no directory behind.
        tracker = Tracker(log_dir)
        trainer = Trainer(network, optimization, tracker)
        self.network_, self._optimizer_state, self._samples_seen = network, trainer.optimizer.state, 0
        self.history_: list[dict[str, float]] = []
        self.n_epochs_ = 0

        def record(progress: Progress) -> bool | None:
            self.history_.append(dict(progress.scalars))
            self.n_epochs_ = len(self.history_)
            return callback(progress) if callback is not None else None

        name, maximize = self._watched_in_training
        monitor = Monitor(name, maximize)
        if validation is not None:
            name, maximize = self._watched
            evaluate = functools.partial(self._evaluate, network, validation)
            monitor = Monitor(name, maximize, evaluate, among_equals="val/loss")
        config = {**self._settings(), "rows": len(rows.target), "features": rows.inputs.shape[1]}
        tracker.open()
        tracker.config(config)
        try:
            trainer.fit(
                self._epochs(training, batch_size, order, self.epochs),
                functools.partial(self._loss, network),
                total=self.epochs * len(rows.target),
                monitor=monitor,
                stopping=stopping,
                callback=record,
                progress_bar=verbose,
            )
            self._samples_seen = trainer.progress.step
            value = self.history_[-1][name] if validation is None else trainer.restore_best()
            tracker.hyperparameters(config, [tag for tag in ("train/accuracy", name) if tag in self.history_[-1]])
        finally:
            tracker.close()
            trainer.flat.release()
            network.eval()
        return value if maximize else -value

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """One epoch more over these rows, with the optimiser as the last call left it."""
        optimization, _ = self._settings_of_training()
        if optimization.schedule == "plateau" or (
            optimization.schedule != "constant" and optimization.schedule_timesteps is None
        ):
            raise ValueError(
                f"optimizer: partial_fit has no end, which the {optimization.schedule} schedule needs to know"
            )
        fresh = not hasattr(self, "network_")
        before = self.__dict__ | ({} if fresh else {"_random": copy.deepcopy(self._random)})
        try:
            rows = self._read(X, y, sample_weight, fresh=fresh)
            if fresh:
                self._random = check_random_state(self.random_state)
                self._standardizer = Standardizer(rows.inputs.shape[1])
                self.history_, self.n_epochs_, self._optimizer_state, self._samples_seen = [], 0, {}, 0
            self._standardizer = copy.deepcopy(self._standardizer)
            if self.standardize:
                self._standardizer.update(rows.inputs, rows.weight)
            order, rules = (torch.Generator().manual_seed(_seed(self._random)) for _ in range(2))
            self._prepare(rows, rules)
            network = (
                self.network_ if not fresh else self._make_network(rows.inputs.shape[1], _seed(self._random), False)
            )
            training = self._batch(self._standardized(rows, number_type(network) is np.float64))
            self._loss_of_two_rows(network, training)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        self.network_ = network
        trainer = Trainer(network, optimization)
        network.train()
        trainer.optimizer.restore(self._optimizer_state)
        trainer.progress.step = self._samples_seen
        try:
            (epoch,) = self._epochs(training, self._batch_size(len(rows.target)), order, 1)
            trainer.fit([epoch._replace(step=self._samples_seen + epoch.step)], functools.partial(self._loss, network))
        finally:
            trainer.flat.release()
            network.eval()
            self._calibrate(None, None)
        self._optimizer_state, self._samples_seen = trainer.optimizer.state, trainer.progress.step
        self.history_ = [*self.history_, dict(trainer.progress.scalars)]
        self.n_epochs_ = len(self.history_)
        return self

    def _batch_size(self, rows: int) -> int:
        """As given; "auto": 64 up to 32,767 rows, then about a 256th of the rows as a power of two, at most 1,024."""
        if self.batch_size != "auto":
            return int(self.batch_size)
        return min(1_024, max(64, 2 ** int(math.log2(max(rows, 256) / 256))))

    def _make_network(self, n_inputs: int, seed: int, double: bool) -> nn.Module:
        """The network on its device.

        In double precision where one batch holds all rows: there it costs nothing, and a sample weight of 2 then gives
        what a repeated row gives, not just nearly.
        """
        if self.network is not None:
            return build(self.network, n_inputs, self._n_outputs(), seed).to(self.device)
        network = MLP(
            n_inputs,
            self._n_outputs(),
            self.hidden,
            activation=self.activation,
            dropout=self.dropout,
            initialization="glorot",
            seed=seed,
        )
        return network.to(self.device, torch.float64 if double else torch.float32)

    def _standardized(self, rows: Rows, double: bool) -> Rows:
        """The same rows with inputs as the network takes them."""
        return rows._replace(inputs=self._standardizer(rows.inputs, np.float64 if double else np.float32))

    def _batch(self, rows: Rows) -> Batch:
        """All standardised rows as tensors."""
        device, dtype = torch.device(self.device), rows.inputs.dtype
        # Rows that are drawn by weight count 1 each.
        weight = rows.weight if self._probabilities_of_rows() is None else np.ones_like(rows.weight)
        equal = bool((weight == weight[0]).all())
        target = self._targets(rows.target)
        target = target if target.dtype.kind == "i" else target.astype(dtype)
        return Batch(
            torch.from_numpy(rows.inputs).to(device),
            torch.from_numpy(target).to(device),
            None if equal else torch.tensor((weight / weight.mean()).astype(dtype), device=device),
        )

    def _loss_of_two_rows(self, network: nn.Module, rows: Batch) -> None:
        """A rule or cost that cannot work says so now."""
        first = Batch(rows.inputs[:2], rows.target[:2], None if rows.weight is None else rows.weight[:2])
        with evaluation_mode(network), torch.no_grad():
            self._loss(network, first)

    def _epochs(self, rows: Batch, batch_size: int, generator: torch.Generator, epochs: int) -> Iterator[Round]:
        count, probabilities = len(rows.target), self._probabilities_of_rows()
        for epoch in range(1, epochs + 1):
            batches = batches_of(rows, count, batch_size, generator, probabilities)
            yield Round(itertools.starmap(Batch, batches), epoch * count)

    def _evaluate(self, network: nn.Module, rows: Rows) -> dict[str, float]:
        return self._validate(in_chunks(numpy_forward(network), rows.inputs), rows)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    # ------------------------------------------------------------------------------------------------------ predicting

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """The network's outputs, ``[N, D]`` → ``[N, n_outputs]``."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        forward, dtype = numpy_forward(self.network_), number_type(self.network_)
        return in_chunks(lambda part: forward(self._standardizer(part, dtype)), rows).astype(np.float64)

    # --------------------------------------------------------------------------------------------- saving and loading

    def save(self, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None) -> None:
        """Write network, standardisation, targets and parameters into one file, atomically; no pickle.

        Args:
            path: the file; an existing one is replaced whole.
            extra: anything else that JSON can hold, which `load` gives back as ``extra_``.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: it cannot be written, or something is not what JSON can hold.
        """
        check_is_fitted(self)
        files.save(self, path, extra)

    @classmethod
    def _load(
        cls, path: str | os.PathLike[str], network: NetworkFactory | None, device: str, given: Mapping[str, Any]
    ) -> Self:
        """A trained estimator from a file; ``given`` replaces saved parameters."""
        return files.load(cls, path, network, device, given)

    @classmethod
    def _parameters(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters that JSON could not say as they were."""
        return {}

    def _settings(self) -> dict[str, Any]:
        """The parameters, as far as JSON can say them."""
        return files.settings(self)


def _seed(random: np.random.RandomState) -> int:
    return int(random.randint(np.iinfo(np.int32).max))


def _whole(name: str, value: Any, more: str = "") -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1{more and ' ' + more}, got {value!r}")


def number(name: str, value: Any, fits: Callable[[Any], bool], wanted: str) -> None:
    """Refuse what is no number, or does not fit.

    Raises:
        ValueError: it names the parameter.
    """
    if not isinstance(value, int | float | np.number) or isinstance(value, bool) or not fits(value):
        raise ValueError(f"{name} must {wanted}, got {value!r}")
