"""What a classifier knows beside its network: labels, class frequencies and temperature, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from torch import Tensor

from rlce.heads import Bernoulli, Categorical
from rlce.optimization import check_number
from rlce.supervised import calibration
from rlce.supervised.fitting import Rows

# -------------------------------------------------------------------------------------------------------------- labels


@dataclass(frozen=True)
class Labels:
    """What the labels are, and how y becomes the targets of a head.

    Attributes:
        classes: the labels, sorted, ``[K]``; their numbers for several labels a row and for rows of probabilities.
        several: whether y is zeros and ones, ``[N, M]``.
        one_vs_all: whether each class has a sigmoid of its own, by `rlce.targets.two_class_rows`.
    """

    classes: NDArray[Any]
    several: bool
    one_vs_all: bool

    @property
    def sigmoids(self) -> bool:
        """Whether every output is a yes or no."""
        return self.several or self.one_vs_all

    @property
    def head(self) -> Categorical | Bernoulli:
        """What the outputs mean."""
        return Bernoulli(len(self.classes)) if self.sigmoids else Categorical(len(self.classes))

    def encode(self, y: NDArray[Any], soft: bool) -> NDArray[Any]:
        """Targets of the head.

        Args:
            y: as it was given.
            soft: whether it holds rows of probabilities.

        Returns:
            Class indices ``[N]``, zeros and ones ``[N, M]``, or rows of target weights ``[N, K]`` (``[N, M, 2]``).

        Raises:
            ValueError: it does not fit the labels.
        """
        if soft and self.several:
            raise ValueError("y: soft_targets must be False where training had several labels a row")
        return self._of_probabilities(y) if soft else self._of_labels(*_sorted(y))

    def _of_labels(self, found: NDArray[Any], indices: NDArray[Any]) -> NDArray[Any]:
        several = indices.ndim == 2
        if several != self.several or (several and len(found) != len(self.classes)):
            shape = indices.shape
            raise ValueError(f"y must hold labels of {len(self.classes)} classes as in training, got shape {shape}")
        if several:
            return np.ascontiguousarray(indices, dtype=np.int64)
        unseen = np.setdiff1d(found, self.classes)
        if len(unseen):
            raise ValueError(f"y: labels that were not in training: {unseen[:5].tolist()}")
        positions: NDArray[np.int64] = np.asarray(np.searchsorted(self.classes, found), dtype=np.int64)
        labels = positions[indices]
        return (labels[:, None] == np.arange(len(self.classes))).astype(np.int64) if self.one_vs_all else labels

    def _of_probabilities(self, y: NDArray[Any]) -> NDArray[Any]:
        y = _probabilities(y)
        if y.shape[1] != len(self.classes):
            raise ValueError(f"y must hold rows of {len(self.classes)} probabilities, got {y.shape[1]}")
        if (y < 0).any() or not np.allclose(y.sum(axis=1), 1.0, atol=1e-4):
            row = int(np.argmax((y < 0).any(axis=1) | (np.abs(y.sum(axis=1) - 1.0) > 1e-4)))
            raise ValueError(f"y: rows must be probabilities that sum to 1, got {y[row].tolist()} in row {row}")
        return np.stack([1.0 - y, y], axis=-1) if self.one_vs_all else y


def learn_labels(
    y: NDArray[Any], soft: bool, one_vs_all: bool, announced: NDArray[Any] | None = None
) -> tuple[Labels, NDArray[Any]]:
    """The labels that y is made of, and y as targets.

    Args:
        y: ``[N]`` or ``[N, M]``.
        soft: whether it holds rows of probabilities.
        one_vs_all: whether each class has a sigmoid of its own.
        announced: all labels that will ever come, if they were named.

    Raises:
        ValueError: y is not labels, or is of one class.

    Example:
        >>> labels, target = learn_labels(np.array(["b", "a", "b"]), soft=False, one_vs_all=False)
        >>> labels.classes.tolist(), target.tolist()
        (['a', 'b'], [1, 0, 1])
    """
    if soft:
        labels = Labels(np.arange(_probabilities(y).shape[1]), False, one_vs_all)
        return labels, labels.encode(y, soft)
    found, indices = _sorted(y)
    several = indices.ndim == 2
    if several and announced is not None:
        raise ValueError("classes must be None where a row has several labels: there is one for each column of y")
    classes = found if announced is None else announced
    if len(classes) < 2 and not several:
        raise ValueError(f"y must hold at least 2 classes, got one class: {classes.tolist()}")
    labels = Labels(classes, several, one_vs_all)
    return labels, labels._of_labels(found, indices)


def _sorted(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The labels there are, and which of them each row has; sorted once, as a million labels of text take a while."""
    try:
        check_classification_targets(y)
        if y.ndim == 1:
            return np.unique(y, return_inverse=True)
    except TypeError as error:
        raise TypeError("y: labels must be all numbers or all strings, got both, None or another type") from error
    if type_of_target(y, input_name="y") != "multilabel-indicator":
        raise ValueError("y: several labels a row must be zeros and ones, [N, M]; for probabilities: soft_targets")
    return np.arange(y.shape[1]), y


def _probabilities(y: NDArray[Any]) -> NDArray[np.float64]:
    if y.ndim != 2 or y.dtype.kind not in "fiub":
        got = f"{y.dtype} {list(y.shape)}"
        raise ValueError(f"y must hold rows of probabilities, [N, K], with soft_targets, got {got}")
    return y.astype(np.float64)


# ------------------------------------------------------------------------------------------------------- class weights


def check_class_weight(class_weight: Any) -> None:
    """Refuse what is no ``class_weight``.

    Raises:
        ValueError: it is no mapping, "balanced" or None.
    """
    if not (class_weight is None or class_weight == "balanced" or isinstance(class_weight, Mapping)):
        raise ValueError(f'class_weight must be a dict, "balanced" or None, got {class_weight!r}')


def class_values(class_weight: Mapping[Any, float] | str, classes: NDArray[Any], counts: Tensor) -> Tensor:
    """``class_weight`` as numbers.

    Args:
        class_weight: "balanced", or label → number.
        classes: ``[K]``.
        counts: ``[..., K]``.

    Returns:
        ``[..., K]`` float64.

    Raises:
        ValueError: a label that is not there, or what is no number >= 0.

    Example:
        >>> class_values("balanced", np.arange(2), torch.tensor([3.0, 1.0]))
        tensor([0.6667, 2.0000])
    """
    if isinstance(class_weight, str):
        mean = counts.sum(dim=-1, keepdim=True) / counts.shape[-1]
        return torch.where(counts > 0, mean / counts, 1.0)
    given, labels = dict(class_weight), classes.tolist()
    absent = [label for label in given if label not in labels]
    if absent:
        raise ValueError(f"class_weight: the classes {absent} are not in y, which holds {labels}")
    for label, value in given.items():
        check_number(f"class_weight[{label!r}]", value, lambda value: 0 <= value < np.inf, "be a finite number >= 0")
    return torch.tensor([float(given.get(label, 1.0)) for label in labels], dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class Answers:
    """From a network's outputs to what is said of a row; the same for predicting and in an exported graph.

    Attributes:
        labels: what the outputs are for.
        temperature: T.
        shift: added to z/T for other class frequencies, ``[K]``, or None.

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
        """``[N, n_outputs]`` → ``[N, K]``, rows that sum to 1; of a yes each, ``[N, M]``, for several labels."""
        head, outputs = self.labels.head, self.adjusted(outputs)
        if isinstance(head, Bernoulli) and not self.labels.several:
            return head.shares(outputs)
        return head.probabilities(outputs)

    def choices(self, outputs: Tensor) -> Tensor:
        """``[N, n_outputs]`` → an index of classes ``[N]``; zeros and ones ``[N, M]`` for several labels."""
        outputs = self.adjusted(outputs)
        return Bernoulli(len(self.labels.classes)).mode(outputs) if self.labels.several else outputs.argmax(dim=-1)


def _number_like(values: ArrayLike, outputs: Tensor) -> Tensor:
    """Constants as a tensor; an exporter writes Python's numbers in float32, whatever they meet."""
    return torch.from_numpy(np.asarray(values, dtype=np.float64)).to(outputs)


def log_ratio(wanted: NDArray[np.float64], trained: NDArray[np.float64]) -> NDArray[np.float64]:
    """What turns the logits of a network for one prior into those for another.

    Args:
        wanted: class frequencies, ``[K]``.
        trained: those that the network's probabilities are for, ``[K]``.

    Returns:
        ``[K]``; −∞ where none is wanted.

    Raises:
        ValueError: a class is wanted that had no weight in training.
    """
    if ((trained == 0) & (wanted > 0)).any():
        absent = np.flatnonzero((trained == 0) & (wanted > 0)).tolist()
        raise ValueError(f"prior: classes {absent} had no weight in training, so nothing is known of them")
    with np.errstate(divide="ignore"):
        return np.where(wanted > 0, np.log(wanted) - np.log(np.where(trained > 0, trained, 1.0)), -np.inf)


@dataclass(frozen=True, eq=False)
class ClassModel:
    """What is known of the classes after a fit.

    Attributes:
        labels: what y is made of.
        counts: sums of the training rows' sample weights, ``[K]`` (``[M, 2]`` for sigmoids), float64.
        temperature: T.
        class_prior: class frequencies of the training rows, ``[K]``; None for sigmoids.
        network_prior: those that the network's own probabilities are for, ``[K]``, or None.
    """

    labels: Labels
    counts: Tensor
    temperature: float = 1.0
    class_prior: NDArray[np.float64] | None = None
    network_prior: NDArray[np.float64] | None = None

    @property
    def head(self) -> Categorical | Bernoulli:
        """What the outputs mean."""
        return self.labels.head

    def answers(self, prior: ArrayLike | str | None) -> Answers:
        """What is said of rows, for the class frequencies that are wanted.

        Raises:
            ValueError: a prior that makes no sense here.
        """
        if prior is None:
            return Answers(self.labels, self.temperature)
        if self.labels.sigmoids:
            raise ValueError("prior must be None where every output is a sigmoid of its own")
        if self.network_prior is None:
            raise ValueError("prior must be None with a rule that does more to the logits than shift each class's")
        shift = log_ratio(self._wanted(prior), self.network_prior)
        return Answers(self.labels, self.temperature, shift if shift.any() else None)

    def _wanted(self, prior: ArrayLike | str) -> NDArray[np.float64]:
        count = len(self.labels.classes)
        if isinstance(prior, str):
            if prior != "training":
                raise ValueError(f'prior must be "training", {count} numbers or None, got {prior!r}')
            assert self.class_prior is not None
            return self.class_prior
        if not isinstance(prior, Sequence | np.ndarray):
            raise ValueError(f"prior must hold {count} numbers, got {prior!r}")
        wanted = np.asarray(prior, dtype=np.float64)
        if wanted.shape != (count,) or not (wanted >= 0).all() or not 0 < wanted.sum() < np.inf:
            raise ValueError(f"prior must hold {count} numbers >= 0, not all zero, got {prior!r}")
        return wanted / wanted.sum()

    def held_out(self, outputs: NDArray[Any], rows: Rows, answers: Answers) -> dict[str, float]:
        """Cross-entropy and accuracy of held-out rows, for what the network says by itself and for its choices."""
        head, share = self.head, rows.weight / rows.weight.sum()
        logits, target = torch.from_numpy(outputs).double(), torch.from_numpy(rows.target)
        right = head.mode(answers.adjusted(logits)) == chosen(head, target)
        right = right if right.ndim == 1 else right.all(dim=-1)
        cost = head.cost(logits, target).numpy()
        return {"val/loss": float(share @ cost), "val/accuracy": float(share @ right.numpy())}

    def fitted_temperature(self, outputs: NDArray[Any], rows: Rows) -> float:
        """The temperature that fits held-out rows best, which come with the training rows' class frequencies."""
        shift = None
        if self.class_prior is not None and self.network_prior is not None:
            shift = log_ratio(self.class_prior, self.network_prior)
        logits = self.head.logits(torch.from_numpy(outputs).double()).numpy()
        weight = np.broadcast_to(rows.weight.reshape(-1, *[1] * (logits.ndim - 2)), logits.shape[:-1])
        return calibration.fit_temperature(logits, rows.target, weight, shift, classes=range(logits.shape[-1]))

    def to_json(self) -> dict[str, Any]:
        """What a file must hold.

        Raises:
            ValueError: labels that JSON cannot hold.
        """
        classes = self.labels.classes
        if classes.dtype.kind not in "biufUO" or not all(
            isinstance(label, bool | int | float | str) for label in classes.tolist()
        ):
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
        """What `to_json` said.

        Raises:
            ValueError: something in it cannot be.
        """
        classes = np.array(state["classes"], dtype=np.dtype(state["dtype"]))
        check_number("temperature", state["temperature"], lambda value: 0 < value < np.inf, "be positive")
        class_prior, network_prior = (
            None if p is None else np.array(p, dtype=np.float64).reshape(classes.shape) for p in state["priors"]
        )
        return cls(
            Labels(classes, bool(state["several"]), bool(state["sigmoids"])),
            torch.tensor(state["counts"], dtype=torch.float64),
            float(state["temperature"]),
            class_prior,
            network_prior,
        )


def chosen(head: Categorical | Bernoulli, target: Tensor) -> Tensor:
    """The choice that a target stands for: class indices ``[N]``, or zeros and ones ``[N, M]``.

    Example:
        >>> chosen(Categorical(2), torch.tensor([[0.2, 0.8]]))
        tensor([1])
    """
    if not target.is_floating_point():
        return target
    return (target[..., 1] > 0.5).long() if isinstance(head, Bernoulli) else target.argmax(dim=-1)
