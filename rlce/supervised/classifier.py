"""`Classifier`: the same network, objective and loop as the agents', behind scikit-learn's conventions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from torch import Tensor, nn

from rlce.network import NetworkFactory
from rlce.optimization import Optimization
from rlce.supervised import calibration
from rlce.supervised.composition import Composition, Rule, from_json, to_json
from rlce.supervised.estimator import Batch, Rows, Supervised, number
from rlce.trainer import Stopping


class Classifier(ClassifierMixin, Supervised):
    """A multilayer perceptron classifier with scikit-learn's interface; the loss is a rule away.

    ``y`` is one label a row, of any kind, ``[N]``; zeros and ones ``[N, M]`` for any subset of M labels (an output of
    its own and a sigmoid each); or, with ``soft_targets``, rows of probabilities ``[N, K]``.

    Args:
        hidden: widths of the hidden layers.
        rule: what makes the loss another than cross-entropy: a rule of `rlce.targets`, several (they have their order,
            whatever the order here), or functions of your own; `rlce.targets.two_class_rows` among them gives every
            class a sigmoid instead of the softmax over all.
        class_weight: factor on the rows of a class, by label, 1 for labels not named; "balanced" for N / (K n_k).
        soft_targets: whether ``y`` holds rows of probabilities.
        activation: see `rlce.network.MLP`.
        dropout: probability of zeroing a hidden unit in training.
        optimizer: "adam", "sgd", "adadelta" or "rmsprop", or an `rlce.Optimization` for schedules, momentum and
            clipping.
        learning_rate: at the start; None for the optimiser's (0.001).
        weight_decay: added to the gradient, times the parameter; None for the optimiser's (0).
        batch_size: rows a gradient step; "auto" is 64, and more from 32,768 rows on.
        epochs: passes over the training rows, at most.
        standardize: shift and scale every column by the training rows' mean and deviation.
        validation_split: part of the rows, class by class, that is held out to watch the zero-one error; the
            parameters that did best on it (of equals, at the least cost) are kept. 0 for none.
        stopping: stop after so many epochs without an improvement of the zero-one error (without held-out rows, of the
            training loss; of the cross-entropy where rules look at the outputs, since the objective's value then says
            nothing), or an `rlce.Stopping`; None to run all epochs.
        restarts: train so often from fresh weights, and keep the best by the same measure.
        temperature: T of the probabilities, softmax(z/T), as it is at `fit`; "validation" for the one that fits the
            held-out rows best (after `partial_fit`, which has none, 1).
        prior: the class frequencies that `predict_proba` is for: "training", those of the training rows; ``[K]``
            numbers in the order of ``classes_``; or None for what the network learnt, which class weights, balanced
            sampling and logit adjustment shift. It is read when predicting: setting it needs no new fit.
        network: a factory ``(n_inputs, n_outputs) → nn.Module`` in place of the MLP.
        device: where the network lives.
        random_state: an int fixes weights, order, dropout, draws and the validation split (but not what the modules of
            a ``network`` factory draw from torch's global generator in training); None draws anew at each fit.

    Attributes:
        classes_: labels, sorted, ``[K]``; their numbers for several labels a row and for soft targets.
        n_features_in_: D.
        feature_names_in_: column names, where X had any, ``[D]``.
        network_: the trained network, standardised inputs → logits.
        temperature_: T.
        class_prior_: class frequencies of the training rows, ``[K]``; None for several labels a row.
        network_prior_: those that the network's own probabilities are for, ``[K]``; None likewise, for sigmoids, and
            where a rule does more to the logits than shift them.
        history_: one dict of scalars an epoch, named as in TensorBoard.
        n_epochs_: epochs run.

    Raises:
        ValueError: from `fit`: NaN or infinity, empty or ill-shaped arrays, a single class, negative or all-zero sample
            weights, a class weight for an absent class, an unknown setting; in scikit-learn's wording.

    Example:
        >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array(["a", "a", "b", "b"])
        >>> classifier = Classifier(hidden=(8,), epochs=50, learning_rate=0.05, random_state=0)
        >>> classifier.fit(X, y).predict(X).tolist()
        ['a', 'a', 'b', 'b']
    """

    _watched = ("val/accuracy", True)

    def __init__(
        self,
        hidden: Sequence[int] = (128,),
        rule: Rule | Sequence[Rule] | None = None,
        *,
        class_weight: Mapping[Any, float] | str | None = None,
        soft_targets: bool = False,
        activation: str = "relu",
        dropout: float = 0.0,
        optimizer: str | Optimization = "adam",
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | str = "auto",
        epochs: int = 100,
        standardize: bool = True,
        validation_split: float = 0.0,
        stopping: int | Stopping | None = None,
        restarts: int = 1,
        temperature: float | str = 1.0,
        prior: ArrayLike | str | None = None,
        network: NetworkFactory | None = None,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.rule = rule
        self.class_weight = class_weight
        self.soft_targets = soft_targets
        self.activation = activation
        self.dropout = dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.standardize = standardize
        self.validation_split = validation_split
        self.stopping = stopping
        self.restarts = restarts
        self.temperature = temperature
        self.prior = prior
        self.network = network
        self.device = device
        self.random_state = random_state

    # --------------------------------------------------------------------------------------------------------- training

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """One epoch over these rows, going on from what was learnt before.

        Columns are standardised by all rows so far, and class frequencies are of all rows so far.

        Args:
            X: ``[N, D]``.
            y: targets, as for `fit`.
            classes: all labels that will ever come, at the first call; by default those of this one.
            sample_weight: ``[N]``.

        Returns:
            The estimator.

        Raises:
            ValueError: as `fit`; or a label that was not among the first call's classes.
        """
        if not hasattr(self, "network_"):
            self._announced = None if classes is None else np.unique(np.asarray(classes))
        elif classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ValueError(f"classes must be those of the first call, {self.classes_.tolist()}, got {classes!r}")
        self._earlier = getattr(self, "_counts", None) if hasattr(self, "network_") else None
        try:
            return self._partial_fit(X, y, sample_weight)
        finally:
            for name in ("_announced", "_earlier", "_rules"):
                self.__dict__.pop(name, None)

    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _encode(self, y: NDArray[Any], weight: NDArray[np.float64], fresh: bool) -> NDArray[Any]:
        self._check_parameters()
        if self.soft_targets:
            return self._encode_soft(y, fresh)
        check_classification_targets(y)
        several = y.ndim == 2
        if several and type_of_target(y, input_name="y") != "multilabel-indicator":
            raise ValueError("y: several labels a row must be zeros and ones, [N, M]; for probabilities: soft_targets")
        # Sorted once, whatever follows: a million labels of text take a while.
        found, indices = (np.arange(y.shape[1]), y) if several else np.unique(y, return_inverse=True)
        if fresh:
            announced = getattr(self, "_announced", None)
            classes = found if several or announced is None else announced
            if len(classes) < 2 and not several:
                raise ValueError(f"y must hold at least 2 classes, got one class: {classes.tolist()}")
            self.classes_, self._several, self._all_alone = classes, several, self._one_vs_all
        if several != self._several or (several and y.shape[1] != len(self.classes_)):
            raise ValueError(f"y must hold labels of {len(self.classes_)} classes as in training, got shape {y.shape}")
        if several:
            return np.ascontiguousarray(indices, dtype=np.int64)
        unseen = np.setdiff1d(found, self.classes_)
        if len(unseen):
            raise ValueError(f"y: labels that were not in training: {unseen[:5].tolist()}")
        positions: NDArray[np.int64] = np.asarray(np.searchsorted(self.classes_, found), dtype=np.int64)
        labels = positions[indices]
        return np.eye(len(self.classes_), dtype=np.int64)[labels] if self._all_alone else labels

    def _encode_soft(self, y: NDArray[Any], fresh: bool) -> NDArray[Any]:
        if y.ndim != 2 or y.dtype.kind not in "fiub":
            got = f"{y.dtype} {list(y.shape)}"
            raise ValueError(f"y must hold rows of probabilities, [N, K], with soft_targets, got {got}")
        y = y.astype(np.float64)
        if fresh:
            self._several, self._all_alone, self.classes_ = False, self._one_vs_all, np.arange(y.shape[1])
        if y.shape[1] != len(self.classes_):
            raise ValueError(f"y must hold rows of {len(self.classes_)} probabilities, got {y.shape[1]}")
        if (y < 0).any() or not np.allclose(y.sum(axis=1), 1.0, atol=1e-4):
            row = int(np.argmax((y < 0).any(axis=1) | (np.abs(y.sum(axis=1) - 1.0) > 1e-4)))
            raise ValueError(f"y: rows must be probabilities that sum to 1, got {y[row].tolist()} in row {row}")
        return np.stack([1.0 - y, y], axis=-1) if self._all_alone else y

    @property
    def _one_vs_all(self) -> bool:
        return Composition(self.rule).one_vs_all

    @property
    def _sigmoids(self) -> bool:
        return self._several or self._all_alone

    @property
    def _watched_in_training(self) -> tuple[str, bool]:
        # Where weights look at the outputs, the objective's value says nothing.
        return "train/cross_entropy" if self._rules.of_outputs else "train/loss", False

    def _check_parameters(self) -> None:
        kinds = self.class_weight is None or self.class_weight == "balanced" or isinstance(self.class_weight, Mapping)
        if not kinds:
            raise ValueError(f'class_weight must be a dict, "balanced" or None, got {self.class_weight!r}')
        if isinstance(self.temperature, str):
            if self.temperature != "validation":
                raise ValueError(f'temperature must be a positive number or "validation", got {self.temperature!r}')
        else:
            wanted = 'be a positive number or "validation"'
            number("temperature", self.temperature, lambda value: 0 < value < np.inf, wanted)

    def _prepare(self, rows: Rows, generator: torch.Generator) -> None:
        self._rules = Composition(self.rule, generator)
        labels, weight = torch.tensor(rows.target), torch.tensor(rows.weight)
        classes = 2 if self._sigmoids else len(self.classes_)
        self._rules.prepare(labels, weight, classes, self._class_factors, earlier=getattr(self, "_earlier", None))
        self._counts: Tensor = self._rules.counts
        self.temperature_ = 1.0 if isinstance(self.temperature, str) else float(self.temperature)
        self.class_prior_ = self.network_prior_ = None
        if not self._sigmoids:
            self.class_prior_ = (self._counts / self._counts.sum()).numpy()
            self.network_prior_ = self._rules.prior(labels)
        wanted = self._wanted_prior()
        if wanted is not None:
            _log_ratio(wanted, self.network_prior_)  # what cannot be asked for is refused before training
        self._rules.to(torch.device(self.device))

    def _class_factors(self, counts: Tensor) -> Tensor | None:
        """``class_weight`` as factors of the counts' shape; None where it is none, or one of whole rows."""
        if self.class_weight is None or self._all_alone:
            return None
        if self._several and self.class_weight != "balanced":
            raise ValueError('class_weight must be "balanced" or None where a row has several labels')
        return self._class_values(counts)

    def _class_values(self, counts: Tensor) -> Tensor:
        """``class_weight`` as numbers, ``[..., K]``."""
        if self.class_weight == "balanced":
            mean = counts.sum(dim=-1, keepdim=True) / counts.shape[-1]
            return torch.where(counts > 0, mean / counts, 1.0)
        given, labels = dict(self.class_weight), self.classes_.tolist()  # type: ignore[arg-type]
        absent = [label for label in given if label not in labels]
        if absent:
            raise ValueError(f"class_weight: the classes {absent} are not in y, which holds {labels}")
        for label, value in given.items():
            number(f"class_weight[{label!r}]", value, lambda value: 0 <= value < np.inf, "be a finite number >= 0")
        return torch.tensor([float(given.get(label, 1.0)) for label in labels], dtype=torch.float64)

    def _batch(self, rows: Rows) -> Batch:
        if self._all_alone and self.class_weight is not None:
            # Every class has a sigmoid, and every row counts in all of them, by its own class's weight.
            yes = rows.target[..., 1] if rows.target.dtype.kind == "f" else rows.target
            values = self._class_values(self._counts[:, 1]).numpy()
            rows = rows._replace(weight=rows.weight * (yes @ values))
        return super()._batch(rows)

    def _check_held_out(self, held_out: bool) -> None:
        if self.temperature == "validation" and not held_out:
            raise ValueError('temperature="validation" needs held-out rows: validation_split or validation_set')

    def _probabilities_of_rows(self) -> Tensor | None:
        return self._rules.probabilities

    def _loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective on the rules' targets."""
        loss, outputs, target, plain = self._rules.loss(network, batch.inputs, batch.target, batch.weight)
        if self._rules.counts.ndim > 1:
            yes = target[..., 1] > 0.5 if target.is_floating_point() else target > 0
            right = ((outputs > 0) == yes).all(dim=-1)
        else:
            right = outputs.argmax(dim=-1) == (target.argmax(dim=-1) if target.is_floating_point() else target)
        scalars = {"train/accuracy": right.float().mean()}
        return loss, scalars | ({"train/cross_entropy": plain} if self._rules.of_outputs else {})

    def _validate(self, outputs: NDArray[Any], rows: Rows) -> dict[str, float]:
        share = rows.weight / rows.weight.sum()
        cost = -(self._rows_of(rows.target) * calibration.log_softmax(self._logits(outputs))).sum(axis=-1)
        predicted, wanted = self._decide(outputs), rows.target
        if wanted.dtype.kind == "f":
            wanted = wanted[..., 1] > 0.5 if self._sigmoids else wanted.argmax(axis=-1)
        right = predicted == wanted
        if right.ndim == 2:
            cost, right = cost.sum(axis=-1), right.all(axis=-1)
        return {"val/loss": float(share @ cost), "val/accuracy": float(share @ right)}

    def _calibrate(self, outputs: NDArray[Any] | None, rows: Rows | None) -> None:
        self.__dict__.pop("_rules", None)  # functions that no pickle could hold
        if outputs is None or rows is None or self.temperature != "validation":
            return
        shift = None
        if self.class_prior_ is not None and self.network_prior_ is not None:
            # Held-out rows come with the training rows' class frequencies.
            shift = _log_ratio(self.class_prior_, self.network_prior_)
        logits = self._logits(outputs)
        weight = np.broadcast_to(rows.weight.reshape(-1, *[1] * (logits.ndim - 2)), logits.shape[:-1])
        self.temperature_ = calibration.fit_temperature(logits, rows.target, weight, shift)

    # ------------------------------------------------------------------------------------------------------ predicting

    def _logits(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """``[N, K]``, or a row of two for every sigmoid, ``[N, M, 2]``."""
        outputs = outputs.astype(np.float64)
        return np.stack([np.zeros_like(outputs), outputs], axis=-1) if self._sigmoids else outputs

    def _rows_of(self, target: NDArray[Any]) -> NDArray[np.float64]:
        """Targets as rows of weights of the logits' shape."""
        return target if target.dtype.kind == "f" else np.eye(2 if self._sigmoids else len(self.classes_))[target]

    def _adjusted(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits at the temperature, for the class frequencies that are wanted."""
        wanted = self._wanted_prior()
        logits = logits / self.temperature_
        return logits if wanted is None else logits + _log_ratio(wanted, self.network_prior_)

    def _decide(self, outputs: NDArray[Any]) -> NDArray[np.int64]:
        """The choice that `predict` makes, in the targets' encoding."""
        return (outputs > 0).astype(np.int64) if self._sigmoids else self._adjusted(outputs).argmax(axis=-1)

    def _wanted_prior(self) -> NDArray[np.float64] | None:
        if self.prior is None:
            return None
        if self._sigmoids:
            raise ValueError("prior must be None where every output is a sigmoid of its own")
        if self.network_prior_ is None:
            raise ValueError("prior must be None with a rule that does more to the logits than shift each class's")
        if isinstance(self.prior, str):
            if self.prior != "training":
                raise ValueError(f'prior must be "training", {len(self.classes_)} numbers or None, got {self.prior!r}')
            return self.class_prior_
        if not isinstance(self.prior, Sequence | np.ndarray):
            raise ValueError(f"prior must hold {len(self.classes_)} numbers, got {self.prior!r}")
        wanted = np.asarray(self.prior, dtype=np.float64)
        if wanted.shape != self.classes_.shape or not (wanted >= 0).all() or not 0 < wanted.sum() < np.inf:
            raise ValueError(f"prior must hold {len(self.classes_)} numbers >= 0, not all zero, got {self.prior!r}")
        return wanted / wanted.sum()

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities, ``[N, D]`` → ``[N, K]``, in the order of ``classes_``; ``[N, M]`` of a yes for M labels."""
        logits = self._adjusted(self._logits(self._outputs(X)))
        if self._sigmoids and not self._several:
            # σ(z_k) / Σ_j σ(z_j), which all of them near zero would make 0/0 of.
            return calibration.softmax(calibration.log_softmax(logits)[..., 1])
        probabilities = calibration.softmax(logits)
        return probabilities[..., 1] if self._several else probabilities

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy, all labels of a row being right; for rows of probabilities, of their most probable class."""
        if self.soft_targets and np.ndim(y) == 2:
            y = np.asarray(y).argmax(axis=1)
        return float(super().score(X, y, sample_weight))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable labels: ``[N, D]`` → ``[N]``; zeros and ones ``[N, M]`` for several labels a row."""
        probabilities = self.predict_proba(X)
        if self._several:
            return (probabilities > 0.5).astype(np.int64)
        return self.classes_[probabilities.argmax(axis=1)]

    # --------------------------------------------------------------------------------------------- saving and loading

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        network: NetworkFactory | None = None,
        *,
        rule: Rule | Sequence[Rule] | None = None,
        device: str = "cpu",
    ) -> Self:
        """A trained classifier from a file.

        Args:
            path: the file.
            network: the factory, where the saved network is not the library's MLP.
            rule: the rule, where the saved one is not the library's own; needed to fit again, not to predict.
            device: where the network lives.

        Returns:
            The classifier; ``extra_`` is what was saved with it.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no such file, is damaged, or needs ``network``.
        """
        return cls._load(path, network, device, {} if rule is None else {"rule": rule})

    @classmethod
    def _parameters(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        weights = settings["class_weight"]
        named = dict(weights) if isinstance(weights, list) else weights
        return {"rule": from_json(settings["rule"]), "class_weight": named}

    def _settings(self) -> dict[str, Any]:
        weights, prior = self.class_weight, self.prior
        return super()._settings() | {
            "rule": to_json(self.rule),
            "class_weight": [list(pair) for pair in weights.items()] if isinstance(weights, Mapping) else weights,
            "prior": prior if prior is None or isinstance(prior, str) else np.asarray(prior).tolist(),
        }

    def _state(self) -> dict[str, Any]:
        if self.classes_.dtype.kind not in "biufUO" or not all(
            isinstance(label, bool | int | float | str) for label in self.classes_.tolist()
        ):
            raise ValueError(f"y: labels of dtype {self.classes_.dtype} cannot be saved; use numbers or strings")
        priors = (self.class_prior_, self.network_prior_)
        return {
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "several": self._several,
            "sigmoids": self._all_alone,
            "counts": self._counts.tolist(),
            "temperature": self.temperature_,
            "priors": [None if prior is None else prior.tolist() for prior in priors],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.classes_ = np.array(state["classes"], dtype=np.dtype(state["dtype"]))
        self._several, self._all_alone = bool(state["several"]), bool(state["sigmoids"])
        number("temperature", state["temperature"], lambda value: 0 < value < np.inf, "be positive")
        self.temperature_ = float(state["temperature"])
        self._counts = torch.tensor(state["counts"], dtype=torch.float64)
        self.class_prior_, self.network_prior_ = (
            None if p is None else np.array(p, dtype=np.float64).reshape(self.classes_.shape) for p in state["priors"]
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _log_ratio(wanted: NDArray[np.float64], trained: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """What is added to the logits of a network for one prior to make it one for another; −∞ where none is wanted."""
    assert trained is not None
    if ((trained == 0) & (wanted > 0)).any():
        absent = np.flatnonzero((trained == 0) & (wanted > 0)).tolist()
        raise ValueError(f"prior: classes {absent} had no weight in training, so nothing is known of them")
    with np.errstate(divide="ignore"):
        return np.where(wanted > 0, np.log(wanted) - np.log(np.where(trained > 0, trained, 1.0)), -np.inf)
