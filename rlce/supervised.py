"""What the two estimators share: reading arrays, splitting, the epochs of `rlce.trainer.Trainer`, files.

X, y ─► checked, zero weights dropped ─► split ─► standardised ─► batches ─► loss ─► best weights ─► network_
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Iterator, Mapping
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

from rlce import checkpoint
from rlce.data import Standardizer, batches_of, held_out
from rlce.network import MLP, NetworkFactory, build, evaluation_mode, in_chunks, number_type, numpy_forward
from rlce.optimization import Optimization
from rlce.tracking import Tracker
from rlce.trainer import Callback, Monitor, Progress, Round, Stopping, Trainer

# What a training leaves, beside what was learnt of the arrays before.
_LEARNT = ("network_", "history_", "n_epochs_", "_optimizer_state")


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
            callback: called after every epoch with `rlce.trainer.Progress`; a true answer stops.
            log_dir: TensorBoard directory of this run (of each restart's, in folders of its own); None for none.
            verbose: show a progress bar.

        Returns:
            The estimator.

        Raises:
            ValueError: NaN or infinity, empty or ill-shaped arrays, negative or all-zero sample weights, a setting
                that makes no sense, targets that do not fit; the message names the argument.
        """
        optimization, stopping = self._settings_of_training()
        rows = self._read(X, y, sample_weight, fresh=True)
        self.__dict__.pop("network_", None)  # of another fit; whatever fails before leaves that one as it was
        random = self._random = check_random_state(self.random_state)
        validation = None
        if validation_set is not None:
            if self.validation_split:
                raise ValueError("validation_set: give it or validation_split, not both")
            validation = self._read(*validation_set, name="validation_set")
        elif self.validation_split > 0:
            rows, validation = self._split(rows, _seed(random))
        self._check_held_out(validation is not None)
        self._standardizer = Standardizer(rows.inputs.shape[1])
        if self.standardize:
            self._standardizer.update(rows.inputs, None if (rows.weight == rows.weight[0]).all() else rows.weight)
        double = (
            self.network is None and self.device == "cpu" and len(rows.target) <= self._batch_size(len(rows.target))
        )
        # The rows as they came are not held any longer: there may be many.
        rows = self._standardized(rows, double)
        validation = None if validation is None else self._standardized(validation, double)
        best, learnt = -math.inf, dict[str, Any]()
        try:
            for restart in range(self.restarts):
                directory = (
                    None if log_dir is None else Path(log_dir) / (f"restart-{restart + 1}" * (self.restarts > 1))
                )
                score = self._run(
                    rows, validation, double, optimization, stopping, random, callback, directory, verbose
                )
                if not learnt or score > best:
                    best, learnt = score, {name: self.__dict__[name] for name in _LEARNT}
        except BaseException:
            # An interrupted training leaves what it has learnt so far, or the best of the restarts before.
            self.__dict__.update(learnt)
            if "network_" in self.__dict__:
                self._calibrate(None, None)
            raise
        self.__dict__.update(learnt)
        outputs = None if validation is None else in_chunks(numpy_forward(self.network_), validation.inputs)
        self._calibrate(outputs, validation)
        return self

    def _settings_of_training(self) -> tuple[Optimization, Stopping]:
        """Optimisation and stop conditions from the parameters, all of which are checked here."""
        for name in ("epochs", "restarts"):
            _whole(name, getattr(self, name))
        if self.batch_size != "auto":
            _whole("batch_size", self.batch_size, 'or "auto"')
        if not 0 <= self.validation_split < 1:
            raise ValueError(f"validation_split must lie in [0, 1), got {self.validation_split}")
        chosen: Any = self.optimizer
        optimization = chosen if isinstance(chosen, Optimization) else Optimization(chosen)
        given = {"learning_rate": self.learning_rate, "weight_decay": self.weight_decay}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        stopping = self.stopping if isinstance(self.stopping, Stopping) else Stopping(patience=self.stopping)
        return dataclasses.replace(optimization, **changes), stopping

    def _read(
        self, X: Any, y: Any, sample_weight: Any = None, *, fresh: bool = False, name: str = "sample_weight"
    ) -> Rows:
        """Checked arrays, without the rows of weight zero; ``fresh`` where columns and targets are learnt from them."""
        inputs, y = validate_data(self, X, y, reset=fresh, dtype=(np.float64, np.float32), multi_output=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        weight = _check_sample_weight(sample_weight, inputs, dtype=np.float64, ensure_non_negative=True)
        kept = weight > 0
        if not kept.all():
            inputs, y, weight = inputs[kept], y[kept], weight[kept]
        if len(inputs) == 0:
            raise ValueError(f"{name}: every row has weight zero")
        return Rows(inputs, self._encode(y, weight, fresh), weight)

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
        double: bool,
        optimization: Optimization,
        stopping: Stopping,
        random: np.random.RandomState,
        callback: Callback | None,
        log_dir: Path | None,
        verbose: bool,
    ) -> float:
        """One training from fresh weights; returns how good it is (more is better)."""
        batch_size = self._batch_size(len(rows.target))
        network = self._make_network(rows.inputs.shape[1], _seed(random), double)
        order, rules = (torch.Generator().manual_seed(_seed(random)) for _ in range(2))
        self._prepare(rows, rules)
        training = self._batch(rows)
        self._loss_of_two_rows(network, training)
        # Last, so that bad input leaves no directory behind.
        tracker = Tracker(log_dir)
        trainer = Trainer(network, optimization, tracker)
        self.network_, self._optimizer_state = network, trainer.optimizer.state
        self.history_: list[dict[str, float]] = []

        def record(progress: Progress) -> bool | None:
            self.history_.append(dict(progress.scalars))
            self.n_epochs_ = len(self.history_)
            return callback(progress) if callback is not None else None

        name, maximize = self._watched
        monitor = Monitor("train/loss", maximize=False)
        if validation is not None:
            monitor = Monitor(name, maximize, functools.partial(self._evaluate, network, validation))
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
            score = -self.history_[-1]["train/loss"]
            if validation is not None:
                score = trainer.restore_best() * (1.0 if maximize else -1.0)
            tracker.hyperparameters(config, [tag for tag in ("train/accuracy", name) if tag in self.history_[-1]])
        finally:
            tracker.close()
            trainer.flat.release()
            network.eval()
        return score

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """One epoch more over these rows, with the optimiser as the last call left it."""
        optimization, _ = self._settings_of_training()
        fresh = not hasattr(self, "network_")
        rows = self._read(X, y, sample_weight, fresh=fresh)
        if fresh:
            self._random = check_random_state(self.random_state)
            self._standardizer = Standardizer(rows.inputs.shape[1])
            self.history_, self._optimizer_state = [], {}
        if self.standardize:
            self._standardizer.update(rows.inputs, rows.weight)
        order, rules = (torch.Generator().manual_seed(_seed(self._random)) for _ in range(2))
        self._prepare(rows, rules)
        if fresh:
            self.network_ = self._make_network(rows.inputs.shape[1], _seed(self._random), False)
        training = self._batch(self._standardized(rows, number_type(self.network_) is np.float64))
        self._loss_of_two_rows(self.network_, training)
        trainer = Trainer(self.network_, optimization)
        self.network_.train()
        trainer.optimizer.restore(self._optimizer_state)
        try:
            epochs = self._epochs(training, self._batch_size(len(rows.target)), order, 1)
            trainer.fit(epochs, functools.partial(self._loss, self.network_))
        finally:
            trainer.flat.release()
            self.network_.eval()
        self._optimizer_state = trainer.optimizer.state
        self.history_.append(dict(trainer.progress.scalars))
        self.n_epochs_ = len(self.history_)
        if fresh:
            self._calibrate(None, None)
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
            initialization="kaiming",
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
            None if equal else torch.from_numpy((weight / weight.mean()).astype(dtype)).to(device),
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

    # ------------------------------------------------------------------------------------------------------ predicting

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """The network's outputs, ``[N, D]`` → ``[N, n_outputs]``."""
        check_is_fitted(self, "network_")
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
        check_is_fitted(self, "network_")
        checkpoint.check_json("extra", extra)
        state = {
            "features": self.n_features_in_,
            "feature_names": getattr(self, "feature_names_in_", np.array([])).tolist() or None,
            "history": self.history_,
            "double": number_type(self.network_) is np.float64,
            **self._state(),
        }
        tensors = {f"network.{name}": tensor for name, tensor in self.network_.state_dict().items()}
        tensors |= {f"standardizer.{name}": tensor for name, tensor in self._standardizer.state_dict().items()}
        config = {"settings": self._settings(), "state": state, "extra": extra}
        checkpoint.save(path, type(self).__name__, config, tensors)

    @classmethod
    def _load(
        cls, path: str | os.PathLike[str], network: NetworkFactory | None, device: str, given: Mapping[str, Any]
    ) -> Self:
        """A trained estimator from a file; ``given`` replaces saved parameters."""
        config, tensors = checkpoint.load(path, cls.__name__)
        try:
            settings, state = config["settings"], config["state"]
            if settings["network"] is not None and network is None:
                raise checkpoint.foreign_network(path)
            for name, kind in (("optimizer", Optimization), ("stopping", Stopping)):
                if isinstance(settings[name], Mapping):
                    settings[name] = kind(**settings[name])
            settings |= {"hidden": tuple(settings["hidden"]), "network": network, "device": device}
            estimator = cls(**{**settings, **cls._parameters(settings), **given})
            estimator.n_features_in_ = state["features"]
            if state["feature_names"]:
                estimator.feature_names_in_ = np.array(state["feature_names"], dtype=object)
            estimator.history_, estimator.n_epochs_ = state["history"], len(state["history"])
            estimator.extra_ = config["extra"]
            estimator._optimizer_state, estimator._random = {}, check_random_state(estimator.random_state)
            estimator._restore(state)
            double = state["double"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"path: {str(path)!r} is damaged: {error}") from error
        estimator.network_ = estimator._make_network(state["features"], seed=0, double=double)
        estimator._standardizer = Standardizer(state["features"])
        try:
            estimator.network_.load_state_dict(checkpoint.section(tensors, "network."))
            estimator._standardizer.load_state_dict(checkpoint.section(tensors, "standardizer."))
        except (RuntimeError, KeyError, ValueError) as error:
            raise ValueError(f"path: {str(path)!r} does not fit the network it names: {error}") from error
        estimator.network_.eval()
        return estimator

    @classmethod
    def _parameters(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters that JSON could not say as they were."""
        return {}

    def _settings(self) -> dict[str, Any]:
        """The parameters, as far as JSON can say them."""
        plain = self.get_params(deep=False)
        named = {name: plain[name] for name in ("optimizer", "stopping")}
        return {
            **plain,
            **{name: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for name, v in named.items()},  # type: ignore[arg-type]
            "hidden": [int(width) for width in self.hidden],
            "network": None if self.network is None else "foreign",
            "device": str(self.device),
            "random_state": int(self.random_state) if isinstance(self.random_state, int | np.integer) else None,
        }


def _seed(random: np.random.RandomState) -> int:
    return int(random.randint(np.iinfo(np.int32).max))


def _whole(name: str, value: Any, more: str = "") -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1{more and ' ' + more}, got {value!r}")
