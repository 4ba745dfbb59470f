"""`Classifier`: the same network, objective and loop as the agents', behind scikit-learn's conventions."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_random_state, validate_data
from torch import Tensor, nn

from rlce import checkpoint, targets
from rlce.data import Standardizer, minibatches
from rlce.heads import Categorical
from rlce.network import MLP, NetworkFactory, build, numpy_forward
from rlce.objective import weighted_mean
from rlce.optimization import Optimization
from rlce.tracking import Tracker
from rlce.trainer import Callback, Monitor, Round, Stopping, Trainer

Rule = Callable[[Tensor, int], Tensor]


class Batch(NamedTuple):
    """What one gradient step uses. B rows."""

    inputs: Tensor  # [B, D] standardised
    labels: Tensor  # [B] class indices
    weight: Tensor  # [B], mean 1 over all rows that `fit` got


class Classifier(ClassifierMixin, BaseEstimator):
    """A multilayer perceptron classifier with scikit-learn's interface; the loss is a rule away.

    Args:
        hidden: widths of the hidden layers.
        rule: a function (labels ``[B]``, classes) → target weights ``[B, K]``, such as
            ``functools.partial(rlce.targets.smooth, epsilon=0.1)``; None for one-hot, computed by index.
        activation: see `rlce.network.MLP`.
        dropout: probability of zeroing a hidden unit in training.
        initialization: "kaiming" or "orthogonal".
        optimizer: "adam", "sgd", "adadelta" or "rmsprop".
        learning_rate: at the start.
        schedule: "constant", "linear", "cosine" (both fall to zero at the last epoch) or "plateau" (divided by 10).
        momentum: for "sgd".
        weight_decay: added to the gradient, times the parameter.
        batch_size: rows a gradient step.
        epochs: passes over the training rows, at most.
        standardize: shift and scale every column by the training rows' mean and deviation.
        validation_fraction: part of the rows, stratified, that is held out to watch the zero-one error (their sample
            weights do not count); the parameters that did best on it are restored at the end. 0 for none.
        patience: stop after this many epochs without an improvement of the validation accuracy (without validation,
            of the training loss); None to run all epochs.
        network: a factory ``(n_inputs, n_outputs) → nn.Module`` in place of the MLP.
        device: where the network lives.
        log_dir: TensorBoard directory; None for no output.
        verbose: show a progress bar.
        random_state: an int fixes weights, order, dropout and the validation split (but not what the
            modules of a ``network`` factory draw from torch's global generator); None draws anew at each fit.

    Attributes:
        classes_: labels, sorted, ``[K]``.
        n_features_in_: D.
        network_: the trained network, standardised inputs → logits.
        history_: one dict of scalars an epoch, named as in TensorBoard.
        n_epochs_: epochs run.
        extra_: after `load` alone, what the file held besides.

    Raises:
        ValueError: from `fit`: NaN or infinity, empty or ill-shaped arrays, a single class, negative or all-zero sample
            weights, an unknown setting; in scikit-learn's wording.

    Example:
        >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array(["a", "a", "b", "b"])
        >>> classifier = Classifier(hidden=(8,), epochs=50, learning_rate=0.05, random_state=0)
        >>> classifier.fit(X, y).predict(X).tolist()
        ['a', 'a', 'b', 'b']
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128,),
        rule: Rule | None = None,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        initialization: str = "kaiming",
        optimizer: Literal["adam", "sgd", "adadelta", "rmsprop"] = "adam",
        learning_rate: float = 1e-3,
        schedule: Literal["constant", "linear", "cosine", "plateau"] = "constant",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        batch_size: int = 64,
        epochs: int = 100,
        standardize: bool = True,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        network: NetworkFactory | None = None,
        device: str = "cpu",
        log_dir: str | os.PathLike[str] | None = None,
        verbose: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.rule = rule
        self.activation = activation
        self.dropout = dropout
        self.initialization = initialization
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.standardize = standardize
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.network = network
        self.device = device
        self.log_dir = log_dir
        self.verbose = verbose
        self.random_state = random_state

    # --------------------------------------------------------------------------------------------------------- training

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        callback: Callback | None = None,
    ) -> Self:
        """Train anew.

        Args:
            X: ``[N, D]``.
            y: labels of any kind, ``[N]``.
            sample_weight: one number >= 0 a row, ``[N]``; a row of weight zero counts as absent. Only ratios
                matter: the weights are scaled to mean 1.
            callback: called after every epoch with `rlce.trainer.Progress`; a true answer stops.

        Returns:
            The estimator.
        """
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        stopping = Stopping(patience=self.patience)
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie in [0, 1), got {self.validation_fraction}")
        optimization = Optimization(
            self.optimizer,
            self.learning_rate,
            self.schedule,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        rows, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(y)
        weight = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
        kept = weight > 0
        rows, labels, weight = rows[kept], np.asarray(y)[kept], weight[kept] / weight[kept].mean()
        self.classes_, labels = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold at least 2 classes, got one class: {self.classes_[0]!r}")
        random = check_random_state(self.random_state)
        network_seed, order_seed, split_seed = random.randint(np.iinfo(np.int32).max, size=3)
        held_out = None
        if self.validation_fraction > 0:
            rows, held_rows, labels, held_labels, weight, _ = train_test_split(
                rows,
                labels,
                weight,
                test_size=self.validation_fraction,
                stratify=labels,
                random_state=split_seed,
            )
            held_out = held_rows, held_labels
        self._standardizer = Standardizer(rows.shape[1])
        if self.standardize:
            self._standardizer.update(rows)
        self.network_ = self._make_network(rows.shape[1], int(network_seed))
        device = torch.device(self.device)
        training = Batch(
            torch.from_numpy(self._standardizer(rows)).to(device),
            torch.from_numpy(labels.astype(np.int64)).to(device),
            torch.from_numpy(weight.astype(np.float32)).to(device),
        )
        self._target(
            training.labels[:2], (min(2, len(rows)), len(self.classes_))
        )  # a rule that cannot work says so now
        # Last, so that bad input leaves no directory behind.
        tracker = Tracker(self.log_dir)
        trainer = Trainer(self.network_, optimization, tracker)
        self.history_: list[dict[str, float]] = []

        def record(progress: Any) -> bool | None:
            self.history_.append(dict(progress.scalars))
            return callback(progress) if callback is not None else None

        tracker.open()
        tracker.config(
            {**self._settings(), "classes": len(self.classes_), "rows": len(rows), "features": rows.shape[1]}
        )
        try:
            trainer.fit(
                self._epochs(training, torch.Generator().manual_seed(int(order_seed))),
                self._loss,
                total=self.epochs * len(rows),
                monitor=Monitor("train/loss", maximize=False)
                if held_out is None
                else Monitor("val/accuracy", evaluate=functools.partial(self._validate, *held_out)),
                stopping=stopping,
                callback=record,
                progress_bar=self.verbose,
            )
            if held_out is not None:
                trainer.restore_best()
            metrics = ["train/accuracy"] if held_out is None else ["train/accuracy", "val/accuracy"]
            tracker.hyperparameters(self._settings(), metrics)
        finally:
            tracker.close()
            self.n_epochs_ = trainer.progress.rounds
            self.network_.eval()
            for parameter in self.network_.parameters():
                parameter.grad = None
        return self

    def _make_network(self, n_inputs: int, seed: int) -> nn.Module:
        n_outputs = self._head.n_outputs
        if self.network is not None:
            return build(self.network, n_inputs, n_outputs, seed).to(self.device)
        return MLP(
            n_inputs,
            n_outputs,
            self.hidden,
            activation=self.activation,
            dropout=self.dropout,
            initialization=self.initialization,
            seed=seed,
        ).to(self.device)

    @property
    def _head(self) -> Categorical:
        return Categorical(len(self.classes_))

    def _epochs(self, rows: Batch, generator: torch.Generator) -> Iterator[Round]:
        count = len(rows.labels)
        for epoch in range(1, self.epochs + 1):
            order = minibatches(count, self.batch_size, generator)
            batches = (Batch(*(field[index.to(field.device)] for field in rows)) for index in order)
            yield Round(batches, epoch * count)

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective on the rule's targets."""
        outputs = self.network_(batch.inputs)
        loss = weighted_mean(self._head.cost(outputs, self._target(batch.labels, outputs.shape)), batch.weight)
        return loss, {"train/accuracy": (outputs.argmax(dim=-1) == batch.labels).float().mean()}

    def _target(self, labels: Tensor, shape: tuple[int, ...]) -> Tensor:
        """What the rule makes of labels ``[B]``; index targets without one."""
        if self.rule is None:
            return labels
        target = self.rule(labels, len(self.classes_))
        if getattr(target, "shape", None) != shape:
            got = list(target.shape) if isinstance(target, Tensor) else type(target).__name__
            raise ValueError(f"rule must give target weights of shape {list(shape)}, got {got}")
        return target.detach()

    def _validate(self, X: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, float]:
        log_probabilities = self._log_probabilities(X)
        return {
            "val/loss": float(-log_probabilities[np.arange(len(X)), labels].mean()),
            "val/accuracy": float((log_probabilities.argmax(axis=1) == labels).mean()),
        }

    # ------------------------------------------------------------------------------------------------------ predicting

    def _log_probabilities(self, X: NDArray[Any]) -> NDArray[np.float64]:
        logits = numpy_forward(self.network_)(self._standardizer(X)).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of the classes in the order of ``classes_``: ``[N, D]`` → ``[N, K]``."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return np.exp(self._log_probabilities(rows))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable labels: ``[N, D]`` → ``[N]``."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    # --------------------------------------------------------------------------------------------- saving and loading

    def save(self, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None) -> None:
        """Write network, standardisation, classes and settings into one file, atomically; no pickle.

        Args:
            path: the file; an existing one is replaced whole.
            extra: what else the file shall hold, as far as JSON can; `load` puts it into ``extra_``.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: it cannot be written, the labels are neither numbers, booleans nor strings, or JSON cannot
                hold ``extra``.
        """
        check_is_fitted(self)
        checkpoint.check_json("extra", extra)
        if self.classes_.dtype.kind not in "biufUO" or not all(
            isinstance(label, bool | int | float | str) for label in self.classes_.tolist()
        ):
            raise ValueError(f"y: labels of dtype {self.classes_.dtype} cannot be saved; use numbers or strings")
        state = {
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "features": self.n_features_in_,
            "feature_names": getattr(self, "feature_names_in_", np.array([])).tolist() or None,
            "epochs": self.n_epochs_,
            "history": self.history_,
        }
        tensors = {f"network.{name}": tensor for name, tensor in self.network_.state_dict().items()}
        tensors |= {f"standardizer.{name}": tensor for name, tensor in self._standardizer.state_dict().items()}
        config = {"settings": self._settings(), "state": state, "extra": dict(extra or {})}
        checkpoint.save(path, "Classifier", config, tensors)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        network: NetworkFactory | None = None,
        *,
        rule: Rule | None = None,
        device: str = "cpu",
    ) -> Self:
        """A trained classifier from a file.

        Args:
            path: the file.
            network: the factory, where the saved network is not the library's MLP.
            rule: the rule, where the saved one is not the library's own; needed to fit again, not to predict.
            device: where the network lives.

        Returns:
            The classifier.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no such file, is damaged, or needs ``network``.
        """
        config, tensors = checkpoint.load(path, "Classifier")
        try:
            settings, state = config["settings"], config["state"]
            foreign_network = settings["network"] is not None
        except (KeyError, TypeError) as error:
            raise ValueError(f"path: {str(path)!r} is damaged: no {error}") from error
        if foreign_network and network is None:
            raise checkpoint.foreign_network(path)
        settings |= {"network": network, "device": device, "rule": rule or _rule_from_json(settings["rule"])}
        classifier = cls(**settings)
        classifier.classes_ = np.array(state["classes"], dtype=np.dtype(state["dtype"]))
        classifier.n_features_in_ = state["features"]
        if state["feature_names"]:
            classifier.feature_names_in_ = np.array(state["feature_names"], dtype=object)
        classifier.n_epochs_, classifier.history_ = state["epochs"], state["history"]
        classifier.extra_ = config.get("extra", {})
        classifier.network_ = classifier._make_network(state["features"], seed=0)
        classifier._standardizer = Standardizer(state["features"])
        try:
            classifier.network_.load_state_dict(checkpoint.section(tensors, "network."))
            classifier._standardizer.load_state_dict(checkpoint.section(tensors, "standardizer."))
        except (RuntimeError, KeyError, ValueError) as error:
            raise ValueError(f"path: {str(path)!r} does not fit the network it names: {error}") from error
        return classifier

    def _settings(self) -> dict[str, Any]:
        """The parameters, as far as JSON can say them."""
        plain = self.get_params(deep=False)
        return plain | {
            "hidden": [int(width) for width in self.hidden],
            "rule": _rule_to_json(self.rule),
            "network": None if self.network is None else "foreign",
            "device": str(self.device),
            "log_dir": None,
            "random_state": int(self.random_state) if isinstance(self.random_state, int | np.integer) else None,
        }


def _rule_to_json(rule: Rule | None) -> dict[str, Any] | str | None:
    if rule is None:
        return None
    function, arguments = (rule.func, rule.keywords) if isinstance(rule, functools.partial) else (rule, {})
    if getattr(targets, getattr(function, "__name__", ""), None) is function and not getattr(rule, "args", ()):
        return {"name": function.__name__, "arguments": arguments}
    return "foreign"


def _rule_from_json(description: Mapping[str, Any] | str | None) -> Rule | None:
    if description is None:
        return None
    if isinstance(description, str):
        return _missing_rule
    function = getattr(targets, description["name"], None)
    if function is None or getattr(function, "__module__", None) != targets.__name__:
        raise ValueError(f"rule: the library has no rule {description['name']!r}")
    return functools.partial(function, **description["arguments"])


def _missing_rule(labels: Tensor, classes: int) -> Tensor:
    raise ValueError("rule: the saved rule is not the library's own; pass it to load(rule=...) to fit again")
