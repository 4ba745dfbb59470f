"""What a classifier learns besides its network: labels, class frequencies and the temperature."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from torch import Tensor
from torch.nn import functional as F

from rlce.heads import Bernoulli, Categorical
from rlce.optimization import check_number
from rlce.supervised import calibration
from rlce.supervised.rows import Rows


@dataclass(frozen=True)
class Labels:
    """The labels, and how y becomes the targets of a head.

    Attributes:
        classes: the labels, sorted, ``[K]``; 0, 1, ... for several labels a row and for rows of probabilities.
        several: True if y is zeros and ones, ``[N, M]``.
        one_vs_all: True if each class has its own sigmoid, by `rlce.targets.two_class_rows`.
    """

    classes: NDArray[Any]
    several: bool
    one_vs_all: bool

    @property
    def sigmoids(self) -> bool:
        """True if every output is the logit of a yes."""
        return self.several or self.one_vs_all

    @property
    def head(self) -> Categorical | Bernoulli:
        """What the outputs mean."""
        return Bernoulli(len(self.classes)) if self.sigmoids else Categorical(len(self.classes))

    def encode(self, y: NDArray[Any], soft: bool) -> NDArray[Any]:
        """Targets of the head: class indices ``[N]``, zeros and ones ``[N, M]``, or target weights ``[N, K]``.

        Args:
            y: the labels as given.
            soft: True if they are rows of probabilities.

        Raises:
            ValueError: y does not fit the labels.
        """
        if soft and self.several:
            raise ValueError("y: soft_targets must be False, because training had several labels a row")
        count = len(self.classes)
        if soft:
            shares = _probabilities(y)
            if shares.shape[1] != count:
                raise ValueError(f"y must hold rows of {count} probabilities, got {shares.shape[1]}")
            wrong = (shares < 0).any(axis=1) | (np.abs(shares.sum(axis=1) - 1.0) > 1e-4)
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(
                    f"y: rows must be probabilities that sum to 1, got {shares[row].tolist()} in row {row}"
                )
            return np.stack([1.0 - shares, shares], axis=-1) if self.one_vs_all else shares
        found = _distinct(y)
        if self.several != (y.ndim == 2) or (self.several and len(found) != count):
            raise ValueError(f"y must have the {count} classes of training, got shape {y.shape}")
        if self.several:
            return np.ascontiguousarray(y, dtype=np.int64)
        unseen = np.setdiff1d(found, self.classes)
        if len(unseen):
            raise ValueError(f"y holds labels that were not in training: {unseen[:5].tolist()}")
        labels = np.searchsorted(self.classes, y).astype(np.int64)
        return (labels[:, None] == np.arange(count)).astype(np.int64) if self.one_vs_all else labels


def learn_labels(y: NDArray[Any], soft: bool, one_vs_all: bool, announced: NDArray[Any] | None = None) -> Labels:
    """The labels in y.

    Args:
        y: ``[N]`` or ``[N, M]``.
        soft: True if it holds rows of probabilities.
        one_vs_all: True if each class has its own sigmoid.
        announced: all labels, if `Classifier.partial_fit` was told them.

    Raises:
        TypeError: labels that cannot be compared.
        ValueError: y does not hold labels, or only one class.

    Example:
        >>> learn_labels(np.array(["b", "a", "b"]), soft=False, one_vs_all=False).classes.tolist()
        ['a', 'b']
    """
    if soft:
        return Labels(np.arange(_probabilities(y).shape[1]), False, one_vs_all)
    classes, several = _distinct(y), y.ndim == 2
    if announced is not None:
        if several:
            raise ValueError("classes must be None if y has several labels a row: each column of y is a class")
        classes = announced
    if len(classes) < 2 and not several:
        raise ValueError(f"y must hold at least 2 classes, got one class: {classes.tolist()}")
    return Labels(classes, several, one_vs_all)


def _distinct(y: NDArray[Any]) -> NDArray[Any]:
    """The distinct labels, sorted; or the numbers of the columns."""
    try:
        check_classification_targets(y)
        if y.ndim == 1:
            return np.unique(y)
    except TypeError as error:
        raise TypeError("y: labels must be all numbers or all strings, got both, None or another type") from error
    if type_of_target(y, input_name="y") != "multilabel-indicator":
        wanted = "zeros and ones, [N, M], if a row has several labels; for probabilities, set soft_targets=True"
        raise ValueError(f"y must hold {wanted}")
    return np.arange(y.shape[1])


def _probabilities(y: NDArray[Any]) -> NDArray[np.float64]:
    if y.ndim != 2 or y.dtype.kind not in "fiub":
        got = f"{y.dtype} {list(y.shape)}"
        raise ValueError(f"y must hold rows of probabilities, [N, K], if soft_targets=True, got {got}")
    return y.astype(np.float64)


def class_values(class_weight: Mapping[Any, float] | str, classes: NDArray[Any], counts: Tensor) -> Tensor:
    """The weight of each class, ``[..., K]`` float64.

    Args:
        class_weight: "balanced", or label → number.
        classes: ``[K]``.
        counts: ``[..., K]``.

    Raises:
        ValueError: another type, a label that is not in ``classes``, or a value that is not a number >= 0.

    Example:
        >>> class_values("balanced", np.arange(2), torch.tensor([3.0, 1.0]))
        tensor([0.6667, 2.0000])
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        mean = counts.sum(dim=-1, keepdim=True) / counts.shape[-1]
        return torch.where(counts > 0, mean / counts, 1.0)
    if not isinstance(class_weight, Mapping):
        raise ValueError(f'class_weight must be a dict, "balanced" or None, got {class_weight!r}')
    labels = classes.tolist()
    absent = sorted(set(class_weight) - set(labels), key=str)
    if absent:
        raise ValueError(f"class_weight: the classes {absent[:20]} are not in y, which holds {labels[:20]}")
    for label, value in class_weight.items():
        check_number(f"class_weight[{label!r}]", value, lambda value: 0 <= value < np.inf, "be a finite number >= 0")
    return torch.tensor([float(class_weight.get(label, 1.0)) for label in labels], dtype=torch.float64)


@dataclass(frozen=True)
class Answers:
    """The probabilities and choices for a network's outputs; an exported graph uses it too.

    Attributes:
        labels: what the outputs are for.
        temperature: T.
        shift: added to z/T to correct the class frequencies, ``[K]``, or None.

    Example:
        >>> answers = Answers(Labels(np.arange(2), False, False), temperature=2.0)
        >>> answers.probabilities(torch.tensor([[0.0, 2.0]]))
        tensor([[0.2689, 0.7311]])
    """

    labels: Labels
    temperature: float = 1.0
    shift: NDArray[np.float64] | None = None

    def adjusted(self, outputs: Tensor) -> Tensor:
        """z/T + shift: ``[N, n_outputs]`` → ``[N, n_outputs]``."""
        if self.temperature != 1.0:
            outputs = outputs / _number_like(self.temperature, outputs)
        return outputs if self.shift is None else outputs + _number_like(self.shift, outputs)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """``[N, n_outputs]`` → ``[N, K]``, rows that sum to 1; for several labels, P(yes) for each, ``[N, M]``."""
        head, outputs = self.labels.head, self.adjusted(outputs)
        if isinstance(head, Bernoulli) and not self.labels.several:
            return head.shares(outputs)
        return head.probabilities(outputs)

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """The logarithms of `probabilities`, also where these are too small for a number."""
        outputs = self.adjusted(outputs)
        if self.labels.sigmoids:
            outputs = F.logsigmoid(outputs)
        return outputs if self.labels.several else outputs.log_softmax(dim=-1)

    def scores(self, outputs: Tensor) -> Tensor:
        """What `choices` compares: logits ``[N, K]``; for two classes the second's less the first's, ``[N]``."""
        outputs = self.adjusted(outputs)
        return outputs[..., 1] - outputs[..., 0] if outputs.shape[-1] == 2 and not self.labels.several else outputs

    def choices(self, outputs: Tensor) -> Tensor:
        """``[N, n_outputs]`` → class indices ``[N]``; for several labels, zeros and ones ``[N, M]``."""
        outputs = self.adjusted(outputs)
        return Bernoulli(len(self.labels.classes)).mode(outputs) if self.labels.several else outputs.argmax(dim=-1)


def _number_like(values: ArrayLike, outputs: Tensor) -> Tensor:
    """Constants as a tensor, because the ONNX exporter writes Python's numbers in float32."""
    return torch.from_numpy(np.asarray(values, dtype=np.float64)).to(outputs)


def log_ratio(wanted: NDArray[np.float64], trained: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(π'_k/π_k), to add to the logits: ``[K]``; −∞ where π' is 0.

    Args:
        wanted: the class frequencies π' to predict for, ``[K]``.
        trained: the class frequencies π that the network's probabilities are for, ``[K]``.

    Raises:
        ValueError: a class with π' > 0 had no weight in training.
    """
    absent = np.flatnonzero((trained == 0) & (wanted > 0)).tolist()
    if absent:
        raise ValueError(f"prior: classes {absent[:20]} had no weight in training, so their probability is unknown")
    with np.errstate(divide="ignore"):
        return np.where(wanted > 0, np.log(wanted) - np.log(np.where(trained > 0, trained, 1.0)), -np.inf)


@dataclass(frozen=True, eq=False)
class ClassModel:
    """What a fit learns about the classes.

    Attributes:
        labels: of the training rows.
        counts: sums of the training rows' sample weights, ``[K]`` (``[M, 2]`` for sigmoids), float64.
        temperature: T.
        network_prior: the class frequencies that the network's own probabilities are for, ``[K]``, or None.
    """

    labels: Labels
    counts: Tensor
    temperature: float = 1.0
    network_prior: NDArray[np.float64] | None = None

    @property
    def head(self) -> Categorical | Bernoulli:
        """What the outputs mean."""
        return self.labels.head

    @property
    def class_prior(self) -> NDArray[np.float64] | None:
        """Class frequencies of the training rows, ``[K]``; None for sigmoids."""
        return None if self.labels.sigmoids else (self.counts / self.counts.sum()).numpy()

    def answers(self, prior: ArrayLike | str | None) -> Answers:
        """Probabilities and choices for these class frequencies.

        Raises:
            ValueError: a prior that does not fit.
        """
        if prior is None:
            return Answers(self.labels, self.temperature)
        if self.labels.sigmoids:
            raise ValueError("prior must be None if every output has its own sigmoid")
        if self.network_prior is None:
            raise ValueError("prior must be None if a rule does more to the logits than add a constant to each class")
        shift = log_ratio(self._wanted(prior), self.network_prior)
        return Answers(self.labels, self.temperature, shift if shift.any() else None)

    def _wanted(self, prior: ArrayLike | str) -> NDArray[np.float64]:
        count = len(self.labels.classes)
        if isinstance(prior, str) and prior == "training":
            assert self.class_prior is not None
            return self.class_prior
        if isinstance(prior, Sequence | np.ndarray) and not isinstance(prior, str):
            wanted = np.asarray(prior, dtype=np.float64)
            if wanted.shape == (count,) and (wanted >= 0).all() and 0 < wanted.sum() < np.inf:
                return wanted / wanted.sum()
        raise ValueError(f'prior must be "training", {count} numbers >= 0, not all zero, or None, got {prior!r}')

    def held_out(self, outputs: NDArray[Any], rows: Rows, answers: Answers) -> dict[str, float]:
        """Cross-entropy of the network's own probabilities for held-out rows, and accuracy of the choices."""
        share = rows.weight / rows.weight.sum()
        logits, target = torch.from_numpy(outputs).double(), torch.from_numpy(rows.target)
        right = is_right(self.head, answers.adjusted(logits), target).numpy()
        return {"val/loss": float(share @ self.head.cost(logits, target).numpy()), "val/accuracy": float(share @ right)}

    def calibrated(self, outputs: NDArray[Any], rows: Rows) -> ClassModel:
        """The model with the temperature that fits held-out rows best.

        They are assumed to have the class frequencies of training.
        """
        shift = None
        if self.class_prior is not None and self.network_prior is not None:
            shift = log_ratio(self.class_prior, self.network_prior)
        logits = self.head.logits(torch.from_numpy(outputs).double()).numpy()
        weight = np.broadcast_to(rows.weight.reshape(-1, *[1] * (logits.ndim - 2)), logits.shape[:-1])
        fitted = calibration.fit_temperature(logits, rows.target, weight, shift, classes=range(logits.shape[-1]))
        return dataclasses.replace(self, temperature=fitted)

    def to_json(self) -> dict[str, Any]:
        """The contents of a file.

        Raises:
            ValueError: labels that JSON cannot hold.
        """
        classes = self.labels.classes
        if not all(isinstance(label, bool | int | float | str) for label in classes.tolist()):
            raise ValueError(f"y: labels of dtype {classes.dtype} cannot be saved; use numbers or strings")
        return {
            "classes": classes.tolist(),
            "dtype": classes.dtype.str,
            "several": self.labels.several,
            "sigmoids": self.labels.one_vs_all,
            "counts": self.counts.tolist(),
            "temperature": self.temperature,
            "priors": [None if p is None else p.tolist() for p in (self.class_prior, self.network_prior)],
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any], parameters: Mapping[str, Any]) -> ClassModel:
        """The model that `to_json` wrote.

        Raises:
            ValueError: an entry that does not fit.
        """
        classes = np.array(state["classes"], dtype=np.dtype(state["dtype"]))
        check_number("temperature", state["temperature"], lambda value: 0 < value < np.inf, "be positive")
        labels = Labels(classes, bool(state["several"]), bool(state["sigmoids"]))
        counts = torch.tensor(state["counts"], dtype=torch.float64)
        prior = state["priors"][1]  # the first one follows from the counts
        prior = None if prior is None else np.array(prior, dtype=np.float64).reshape(classes.shape)
        return cls(labels, counts, float(state["temperature"]), prior)


def is_right(head: Categorical | Bernoulli, outputs: Tensor, target: Tensor) -> Tensor:
    """True for each row whose choice is the target's: ``[N, n_outputs]`` and targets of the head → ``[N]``.

    Example:
        >>> is_right(Categorical(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[0.2, 0.8], [0.2, 0.8]]))
        tensor([ True, False])
    """
    if target.is_floating_point():
        target = (target[..., 1] > 0.5).long() if isinstance(head, Bernoulli) else target.argmax(dim=-1)
    right = head.mode(outputs) == target
    return right if right.ndim == 1 else right.all(dim=-1)
