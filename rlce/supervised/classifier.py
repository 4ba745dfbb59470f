"""`Classifier`: a scikit-learn estimator with the network, objective and training loop of the agents."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from rlce import threads
from rlce.network import NetworkFactory
from rlce.optimization import Optimization, check_number
from rlce.supervised import files, shown
from rlce.supervised.classes import Answers, ClassModel, Labels, class_values, is_right, learn_labels
from rlce.supervised.estimator import Estimator
from rlce.supervised.fitting import Fitted, Task, batch_of
from rlce.supervised.loss import Batch, Loss, RuleLike, class_loss, counts_of, prior_of, read_rules
from rlce.supervised.rows import Rows
from rlce.tracking import Details
from rlce.trainer import Stopping

_MANY = 500_000  # rows × classes


class Classifier(ClassifierMixin, Estimator):
    """A multilayer perceptron classifier with scikit-learn's interface; a rule changes its loss.

    ``y`` holds one label a row: numbers, booleans or strings, ``[N]``. Or it holds zeros and ones ``[N, M]`` for any
    subset of M labels (each with its own sigmoid), dense or sparse. Or, with ``soft_targets``, it holds rows of
    probabilities ``[N, K]``.

    Args:
        hidden: widths of the hidden layers.
        rule: changes the loss from cross-entropy: a rule of `rlce.targets` or its name, such as "focal", a function of
            your own, or a sequence of these (they are applied in the order documented there). "imbalanced" is
            "logit_adjusted" and "generalized_cross_entropy" with q = 0.4, which is for finding rows of rare classes
            although some labels are wrong. With correct labels "logit_adjusted" alone finds more of them, and None was
            as good as any rule in macro-F1 and probabilities (docs/imbalanced.md). "two_class_rows" gives every
            class its own sigmoid instead of one softmax.
        class_weight: a factor for the rows of each class: a dict from label to number (1 for labels not in it), or
            "balanced" for N / (K n_k). Weights that a rule computes from the class counts, such as "class_balanced",
            multiply these.
        soft_targets: True if ``y`` holds rows of probabilities.
        activation: see `rlce.network.MLP`.
        dropout: probability of zeroing a hidden unit in training.
        optimizer: "adam", "adamw", "sgd", "adadelta" or "rmsprop", whose learning rate falls along half a cosine to 0
            (in `partial_fit`, which has no end, it stays); or an `rlce.Optimization` for other schedules, momentum and
            clipping.
        learning_rate: at the start; None for the optimiser's default (0.001).
        weight_decay: see `rlce.Optimization`; None for the optimiser's default (0.01 for "adamw", else 0).
        batch_size: rows per gradient step; "auto" is about a sixteenth of the rows as a power of two, from 16 to 256,
            and more from 131,072 rows on, up to 1,024.
        epochs: the largest number of passes over the training rows; "auto" makes at least 1,000 gradient steps, or
            40 √N for N rows if that is more, and at least 10 passes.
        scaling: "standard" subtracts each column's mean and divides by its standard deviation. "robust" does the same,
            but in a column with outliers or heavy tails only the order of the values counts (see
            `rlce.supervised.scaling.RobustScaling`). None leaves the columns as they are. Both are learnt from the
            training rows, and a column that is constant there has no influence.
        validation_split: part of the rows, class by class, that is held out to choose the best epoch by ``monitor``;
            its parameters are kept. 0 for none.
        monitor: what is watched on the held-out rows: "loss", or "accuracy", that is, the zero-one error (ties are
            broken by the loss).
        stopping: stop after this many epochs without an improvement of ``monitor``, or an `rlce.Stopping`; None to run
            all epochs. Without held-out rows the training loss is watched (the cross-entropy if a rule depends on the
            outputs, because the value of such a loss means nothing).
        restarts: how many times to train from fresh weights; the best training by the same measure is kept.
        temperature: T of the probabilities, softmax(z/T), read at `fit`; "validation" chooses the T that fits the
            held-out rows best (`partial_fit` has none, so T is 1 after it).
        prior: the class frequencies that `predict_proba` is for: "training" for those of the training rows; ``[K]``
            numbers in the order of ``classes_``; or None for those that the network learnt, which class weights,
            balanced sampling and logit adjustment shift. It is read when predicting, so a change needs no new fit.
        network: a factory ``(n_inputs, n_outputs) → nn.Module`` in place of the MLP.
        device: the device of the network.
        random_state: an int fixes weights, order, dropout, draws and the validation split (but not the draws from
            torch's global generator by modules of a ``network`` factory); None draws anew at each fit.

    Attributes:
        classes_: the labels, sorted, ``[K]``; 0, 1, ... for several labels a row and for soft targets.
        n_features_in_: D.
        feature_names_in_: column names, ``[D]``, if X had any.
        network_: the trained network, from scaled inputs to logits.
        temperature_: T.
        class_prior_: class frequencies of the training rows, ``[K]``; None if every output is a sigmoid.
        network_prior_: the class frequencies that the network's own probabilities are for, ``[K]``; None if every
            output is a sigmoid, or if a rule does more to the logits than add a constant to each class.
        history_: one dict of scalars per epoch, named as in TensorBoard.
        n_epochs_: the number of epochs run.
        fitted_: all of this as one value, an `rlce.supervised.fitting.Fitted`; each fit assigns it once.

    Raises:
        ValueError: from `fit`, see there.

    Example:
        >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array(["a", "a", "b", "b"])
        >>> classifier = Classifier(hidden=(8,), epochs=50, learning_rate=0.05, random_state=0)
        >>> classifier.fit(X, y).predict(X).tolist()
        ['a', 'a', 'b', 'b']
    """

    _calibration = 'temperature="validation"'

    def __init__(
        self,
        hidden: Sequence[int] = (128, 128),
        rule: RuleLike | None = None,
        *,
        class_weight: Mapping[Any, float] | str | None = None,
        soft_targets: bool = False,
        activation: str = "silu",
        dropout: float = 0.2,
        optimizer: str | Optimization = "adam",
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | str = "auto",
        epochs: int | str = "auto",
        scaling: str | None = "robust",
        validation_split: float = 0.0,
        monitor: str = "loss",
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
        self.scaling = scaling
        self.validation_split = validation_split
        self.monitor = monitor
        self.stopping = stopping
        self.restarts = restarts
        self.temperature = temperature
        self.prior = prior
        self.network = network
        self.device = device
        self.random_state = random_state

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train one more epoch, on these rows.

        Class frequencies are those of all rows so far. A robust scaling stays as `fit` learnt it; without a `fit`
        before, columns are standardised, by the mean and deviation of all rows so far. A learning-rate schedule needs
        ``Optimization(schedule_timesteps=...)``; it counts the rows of all calls, also those of `fit`.

        Args:
            X: ``[N, D]``.
            y: targets, as for `fit`.
            classes: all labels of this and later calls, needed at the first call only; by default those in ``y``.
            sample_weight: ``[N]``.

        Returns:
            The estimator.

        Raises:
            ValueError: as `fit`, or a label that is not among the classes of the first call.
        """
        return self._fit(X, y, sample_weight, once=True, classes=classes)

    def _known(self, y: NDArray[Any], before: Fitted | None, classes: ArrayLike | None) -> Labels:
        if self.monitor not in ("accuracy", "loss"):
            raise ValueError(f'monitor must be "accuracy" or "loss", got {self.monitor!r}')
        if not (isinstance(self.temperature, str) and self.temperature == "validation"):
            wanted = 'be a positive number or "validation"'
            check_number("temperature", self.temperature, lambda value: 0 < value < np.inf, wanted)
        announced = None if classes is None else np.unique(np.asarray(classes))
        if before is None:
            return learn_labels(y, self.soft_targets, read_rules(self.rule).one_vs_all, announced)
        labels: Labels = before.about.labels
        if announced is not None and not np.array_equal(announced, labels.classes):
            raise ValueError(f"classes must be those of the first call, {labels.classes.tolist()}, got {classes!r}")
        return labels

    def _targets(self, known: Labels, y: NDArray[Any]) -> NDArray[Any]:
        return known.encode(y, self.soft_targets)

    def _task(self, known: Labels, rows: Rows, before: Fitted | None) -> Task:
        head, target, weight = known.head, torch.tensor(rows.target), torch.tensor(rows.weight)
        counts = counts_of(target, weight, head)
        counts = counts if before is None else counts + before.about.counts
        weights, factors = rows.weight, None
        if self.class_weight is not None and known.one_vs_all:
            # A row counts in the sigmoids of all classes, each time with the weight of its own class.
            yes = rows.target[..., 1] if rows.target.dtype.kind == "f" else rows.target
            weights = rows.weight * (yes @ class_values(self.class_weight, known.classes, counts[:, 1]).numpy())
        elif self.class_weight is not None:
            if known.several and self.class_weight != "balanced":
                raise ValueError('class_weight must be "balanced" or None if a row has several labels')
            factors = class_values(self.class_weight, known.classes, counts)
        like = torch.from_numpy(rows.inputs[:0]).to(self.device)
        loss = class_loss(head, read_rules(self.rule), target, weight, counts, factors, like)
        temperature = 1.0 if isinstance(self.temperature, str) else float(self.temperature)
        model = ClassModel(known, counts, temperature, None if known.sigmoids else prior_of(loss, target))
        answers = model.answers(self.prior)  # a prior that does not fit is refused before training
        return Task(
            model,
            batch_of(rows, rows.target, weights if loss.probabilities is None else None, self.device),
            step=functools.partial(_step, loss),
            validate=functools.partial(model.held_out, answers=answers),
            watched=(f"val/{self.monitor}", self.monitor == "accuracy"),
            # The objective's value says nothing if the weights depend on the outputs.
            watched_in_training="train/cross_entropy" if loss.of_outputs else "train/loss",
            probabilities=loss.probabilities,
            calibrate=model.calibrated if isinstance(self.temperature, str) else None,
            details=functools.partial(_details, loss, self.prior),
        )

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels, sorted, ``[K]``."""
        return self.fitted_.about.labels.classes

    @property
    def temperature_(self) -> float:
        """T of the probabilities."""
        return self.fitted_.about.temperature

    @property
    def class_prior_(self) -> NDArray[np.float64] | None:
        """Class frequencies of the training rows, ``[K]``."""
        return self.fitted_.about.class_prior

    @property
    def network_prior_(self) -> NDArray[np.float64] | None:
        """The class frequencies that the network's own probabilities are for, ``[K]``."""
        return self.fitted_.about.network_prior

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities, ``[N, D]`` → ``[N, K]``, in the order of ``classes_``; for M labels, P(yes), ``[N, M]``."""
        return self._answered(X, Answers.probabilities)

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logarithms of the probabilities, ``[N, D]`` → ``[N, K]``; finite also where a probability is too small."""
        return self._answered(X, Answers.log_probabilities)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Logits, with ``temperature`` and ``prior``: the largest is the choice, ``[N, D]`` → ``[N, K]``.

        For two classes, the second's less the first's: positive for ``classes_[1]``, ``[N]``. For several labels a row,
        positive for yes, ``[N, M]``.
        """
        return self._answered(X, Answers.scores)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable labels, ``[N, D]`` → ``[N]``; for several labels a row, zeros and ones ``[N, M]``."""
        choices = self._answered(X, Answers.choices)
        return choices if self.fitted_.about.labels.several else self.classes_[choices]

    def _answered(self, X: ArrayLike, of: Callable[[Answers, Tensor], Tensor]) -> NDArray[Any]:
        """What the answers say of the network's outputs."""
        outputs = self._outputs(X, masks=True)
        answers: Answers = self.fitted_.about.answers(self.prior)
        # torch shares even 5 rows among its threads: 8 ms on a busy machine instead of 0.01. Of many outputs, two
        # threads are faster than one; one row is left to one thread anyway.
        alone = len(outputs) > 1 and outputs.numel() < _MANY
        with threads.one_thread() if alone else contextlib.nullcontext():
            nothing = answers.adjusted(outputs).isneginf().all(dim=-1)
            if nothing.any() and not answers.labels.sigmoids:
                row = int(nothing.nonzero()[0])
                raise ValueError(f"prior must allow a class that the network does not mask, got none in row {row}")
            return of(answers, outputs).numpy()

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy. All labels of a row must be right; for rows of probabilities, the most probable class counts."""
        if self.soft_targets and np.ndim(y) == 2:
            y = np.asarray(y).argmax(axis=1)
        return float(super().score(X, y, sample_weight))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        network: NetworkFactory | None = None,
        *,
        rule: RuleLike | None = None,
        device: str = "cpu",
    ) -> Self:
        """A trained classifier from a file.

        Args:
            path: the file.
            network: the factory, if the saved network is not the library's MLP.
            rule: the rule, if the saved one is not the library's own; it is needed to fit again, not to predict.
            device: the device of the network.

        Returns:
            The classifier; ``extra_`` is the ``extra`` of `save`.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is not a saved classifier, is damaged, or needs ``network``.
        """
        return files.load(cls, ClassModel, path, network, device, {} if rule is None else {"rule": rule})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _step(loss: Loss, network: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective of a batch, and the scalars to log."""
    computed = loss(network, batch, generator)
    scalars = {"train/accuracy": is_right(loss.class_head, computed.outputs, computed.target).float().mean()}
    return computed.loss, scalars | ({"train/cross_entropy": computed.watched} if loss.of_outputs else {})


def _details(
    loss: Loss, prior: Any, model: ClassModel, network: nn.Module, some: Batch, outputs: NDArray[Any], rows: Rows
) -> Details:
    """What TensorBoard shows of held-out rows, and the weights of some training rows."""
    labels, answers = model.labels, model.answers(prior)
    counted = rows.weight > 0
    logits, target = torch.from_numpy(outputs[counted]).double(), rows.target[counted]
    if not labels.several:
        target = target[..., 1] if target.ndim == 3 else target
        target = target.argmax(axis=1) if target.ndim == 2 else target
    choices, p = answers.choices(logits).numpy(), answers.probabilities(logits).numpy()
    found = shown.of_classes(labels.classes.tolist(), target, choices, p)
    weights = loss(network, some, torch.Generator().manual_seed(0)).row_weights.cpu().numpy()
    return found._replace(histograms={**found.histograms, "train/row_weights": weights})
