"""`Regressor`: the network and loop of the classifier under a regression cost, behind scikit-learn's conventions."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rlce.heads import squared
from rlce.network import NetworkFactory
from rlce.objective import weighted_mean
from rlce.optimization import Optimization
from rlce.supervised.costs import Normal, Point, Quantiles, RegressionHead, absolute, huber, quantile_levels
from rlce.supervised.estimator import Batch, Rows, Supervised, number
from rlce.trainer import Stopping

# Coverages that held-out rows are asked about; between them is interpolated.
_COVERAGES = np.concatenate([np.arange(1, 100) / 100, [0.995, 0.999]])
_COSTS = ("squared", "absolute", "huber", "quantile", "gaussian")


class Regressor(RegressorMixin, Supervised):
    """A multilayer perceptron regressor with scikit-learn's interface.

    Targets are shifted and scaled inside, by mean and standard deviation for "squared" and "gaussian", else by the
    median and the quartiles' distance over 1.349 (the deviation of a Gaussian), which outliers do not move.

    Args:
        hidden: widths of the hidden layers.
        cost: "squared" (the mean is predicted), "absolute" (the median), "huber" (in between), "quantile" (several
            quantiles, which never cross) or "gaussian" (mean and deviation).
        quantiles: levels in (0, 1) for "quantile", which always learns the median as well; the default of
            `predict_quantiles`.
        delta: δ of Huber's cost, in deviations of the target.
        activation: see `rlce.network.MLP`.
        dropout: probability of zeroing a hidden unit in training.
        optimizer: "adam", "sgd", "adadelta" or "rmsprop", or an `rlce.Optimization` for schedules, momentum and
            clipping.
        learning_rate: at the start; None for the optimiser's (0.001).
        weight_decay: added to the gradient, times the parameter; None for the optimiser's (0).
        batch_size: rows a gradient step; "auto" is 64, and more from 32,768 rows on.
        epochs: passes over the training rows, at most.
        standardize: shift and scale every column of X by the training rows' mean and deviation.
        validation_split: part of the rows that is held out to watch the cost; the parameters that did best on it are
            kept. 0 for none.
        stopping: stop after so many epochs without an improvement of the cost on held-out rows (else of the training
            loss), or an `rlce.Stopping`; None to run all epochs.
        restarts: train so often from fresh weights, and keep the best by the same measure.
        conformal: shift the bounds of `predict_interval` so that it covers the part of the held-out rows that it is
            asked for; it then works for every cost. What a network says of its own spread is mostly too narrow. (The
            same rows choose the epoch, so a little optimism is left; after `partial_fit`, which has none, it is off.)
        network: a factory ``(n_inputs, n_outputs) → nn.Module`` in place of the MLP.
        device: where the network lives.
        random_state: an int fixes weights, order, dropout and the validation split; None draws anew at each fit.

    Attributes:
        n_features_in_: D.
        feature_names_in_: column names, where X had any, ``[D]``.
        network_: the trained network, standardised inputs → standardised outputs.
        target_location_: what was taken from the targets.
        target_scale_: what they were divided by.
        conformal_: with ``conformal``, coverages and by how much intervals of each are widened, in the targets' unit,
            two arrays ``[G]``; else None.
        history_: one dict of scalars an epoch, named as in TensorBoard.
        n_epochs_: epochs run.

    Raises:
        ValueError: from `fit`: NaN or infinity, empty or ill-shaped arrays, negative or all-zero sample weights, a
            quantile outside (0, 1), an unknown setting; in scikit-learn's wording.

    Example:
        >>> X = np.linspace(-1.0, 1.0, 50)[:, None]
        >>> regressor = Regressor(hidden=(16,), learning_rate=0.01, epochs=300, random_state=0).fit(X, 3.0 * X[:, 0])
        >>> regressor.predict([[0.5]]).round(1)
        array([1.5])
    """

    _watched = ("val/loss", False)

    def __init__(
        self,
        hidden: Sequence[int] = (128,),
        cost: str = "squared",
        *,
        quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        delta: float = 1.0,
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
        conformal: bool = False,
        network: NetworkFactory | None = None,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.cost = cost
        self.quantiles = quantiles
        self.delta = delta
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
        self.conformal = conformal
        self.network = network
        self.device = device
        self.random_state = random_state

    # --------------------------------------------------------------------------------------------------------- training

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """One epoch over these rows, going on from what was learnt before.

        Columns are standardised by all rows so far; the targets' shift and scale are those of the first call, whose
        rows should therefore be like the others.

        Args:
            X: ``[N, D]``.
            y: ``[N]``.
            sample_weight: ``[N]``.

        Returns:
            The estimator.

        Raises:
            ValueError: as `fit`.
        """
        return self._partial_fit(X, y, sample_weight)

    def _made_head(self) -> RegressionHead:
        """What the parameters say now; a fitted estimator goes on with the head that it was fitted with."""
        if self.cost not in _COSTS:
            raise ValueError(f"cost must be one of {', '.join(_COSTS)}, got {self.cost!r}")
        levels = quantile_levels(self.quantiles)
        number("delta", self.delta, lambda value: 0 < value < np.inf, "be positive and finite")
        if self.cost == "gaussian":
            return Normal()
        if self.cost == "quantile":
            return Quantiles(levels)
        if self.cost == "huber":
            return Point(functools.partial(huber, delta=self.delta))
        return Point(squared if self.cost == "squared" else absolute)

    def _n_outputs(self) -> int:
        return self._head.n_outputs

    def _encode(self, y: NDArray[Any], weight: NDArray[np.float64], fresh: bool) -> NDArray[Any]:
        if y.ndim != 1:
            raise ValueError(f"y must hold one number a row, [N], got shape {list(y.shape)}")
        if y.dtype.kind not in "biufO":
            raise ValueError(f"y must hold numbers, got {y.dtype}")
        y = y.astype(np.float64)
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
        if fresh:
            self._head = self._made_head()
            self._levels = tuple(np.atleast_1d(np.asarray(self.quantiles, dtype=np.float64)).tolist())
        return y

    def _prepare(self, rows: Rows, generator: torch.Generator) -> None:
        if hasattr(self, "network_"):
            return
        y, weight = rows.target, rows.weight
        if self.cost in ("squared", "gaussian"):
            location = float(weight @ y / weight.sum())
            with np.errstate(over="ignore"):
                scale = float(np.sqrt(weight @ (y - location) ** 2 / weight.sum()))
        else:
            low, location, high = _weighted_quantiles(y, weight, (0.25, 0.5, 0.75))
            # Half of the targets may be one number: then any distance from it that there is.
            scale = (high - low) / 1.349 or float(weight @ np.abs(y - location) / weight.sum())
        if not np.isfinite([location, scale]).all():
            raise ValueError(f"y: its values are too large to be scaled, up to {np.abs(y).max()}")
        self.target_location_, self.target_scale_ = location, scale if scale > 1e-12 * abs(location) else 1.0

    def _targets(self, target: NDArray[Any]) -> NDArray[Any]:
        return (target - self.target_location_) / self.target_scale_

    def _loss(self, network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective on the cost of a row."""
        return weighted_mean(self._head.cost(network(batch.inputs), batch.target), batch.weight), {}

    def _validate(self, outputs: NDArray[Any], rows: Rows) -> dict[str, float]:
        target = torch.from_numpy(self._targets(rows.target))
        cost = self._head.cost(torch.from_numpy(outputs).double(), target).numpy()
        return {"val/loss": float(rows.weight @ cost / rows.weight.sum())}

    def _check_held_out(self, held_out: bool) -> None:
        if self.conformal and not held_out:
            raise ValueError("conformal needs held-out rows: validation_split or validation_set")
        if self.conformal and self._head.widest is not None and self._head.widest < _COVERAGES[0]:
            raise ValueError(f"conformal needs quantiles on both sides of the median, got {self.quantiles!r}")

    def _calibrate(self, outputs: NDArray[Any] | None, rows: Rows | None) -> None:
        self.conformal_: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        if not self.conformal or outputs is None or rows is None:
            return
        count, widest = len(rows.target), self._head.widest
        # One more row, the one to come, is as likely to be anywhere among them; beyond the last nothing is known.
        ranks = _COVERAGES * (1.0 + 1.0 / count)
        known = (ranks <= 1.0) & ((1.0 if widest is None else widest) + 1e-9 >= _COVERAGES)
        widenings = []
        for coverage, rank in zip(_COVERAGES[known], ranks[known], strict=True):
            low, high = self._in_their_unit(self._head.interval(outputs, coverage)).T
            widenings += _weighted_quantiles(np.maximum(low - rows.target, rows.target - high), rows.weight, [rank])
        self.conformal_ = _COVERAGES[known], np.array(widenings)

    # ------------------------------------------------------------------------------------------------------ predicting

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """The mean, or the median for "absolute" and "quantile": ``[N, D]`` → ``[N]``, in the targets' unit."""
        outputs = self._outputs(X)
        return self._in_their_unit(self._head.centre(outputs))

    def _in_their_unit(self, standardized: NDArray[Any]) -> NDArray[np.float64]:
        return self.target_location_ + self.target_scale_ * standardized

    def predict_quantiles(self, X: ArrayLike, quantiles: Sequence[float] | None = None) -> NDArray[np.float64]:
        """Quantiles of the target given the input, which never cross: ``[N, D]`` → ``[N, L]``.

        Args:
            X: ``[N, D]``.
            quantiles: levels in (0, 1), ``[L]``; by default those at `fit`. Between trained levels they
                are interpolated; for "gaussian" they are the Gaussian's.

        Returns:
            ``[N, L]`` in the order of the levels, in the targets' unit.

        Raises:
            ValueError: a level outside (0, 1) or outside the trained ones, or a cost that says nothing about spread.
        """
        check_is_fitted(self)
        wanted = self._levels if quantiles is None else quantiles
        quantile_levels(wanted)
        levels = np.atleast_1d(np.asarray(wanted, dtype=np.float64))
        outputs = self._outputs(X)
        return self._in_their_unit(self._head.quantiles(outputs, levels))

    def predict_interval(self, X: ArrayLike, coverage: float = 0.9) -> NDArray[np.float64]:
        """The interval that leaves out as much below as above: ``[N, D]`` → lower and upper bound, ``[N, 2]``.

        Args:
            X: ``[N, D]``.
            coverage: the part of the targets that it is to hold, in (0, 1).

        Returns:
            ``[N, 2]`` in the targets' unit; with ``conformal``, as far apart as held-out rows want them.

        Raises:
            ValueError: a coverage outside (0, 1) or wider than the trained quantiles, or a cost that says nothing
                about spread, without ``conformal``.

        Source:
            Romano, Patterson and Candès (2019), "Conformalized quantile regression", arXiv 1905.03222.
        """
        number("coverage", coverage, lambda value: 0 < value < 1, "lie in (0, 1)")
        outputs, head = self._outputs(X), self._head
        if head.widest is None and self.conformal_ is None:
            raise ValueError(f'cost "{self.cost}" says nothing about spread: take "quantile", "gaussian" or conformal')
        if head.widest is not None and coverage > head.widest + 1e-9:
            raise ValueError(f"coverage: {coverage} is wider than the trained quantiles, which hold {head.widest:.6g}")
        if self.conformal_ is not None and (not len(self.conformal_[0]) or coverage > self.conformal_[0][-1] + 1e-9):
            most = self.conformal_[0][-1] if len(self.conformal_[0]) else 0.0
            raise ValueError(
                f"coverage: the held-out rows are too few for {coverage}, the most they can tell is {most}"
            )
        interval = self._in_their_unit(head.interval(outputs, coverage))
        if self.conformal_ is not None:
            widening, middle = np.interp(coverage, *self.conformal_), interval.mean(axis=1)
            # Where it narrows, bounds meet in the middle rather than cross.
            lower, upper = interval[:, 0] - widening, interval[:, 1] + widening
            interval = np.stack([np.minimum(lower, middle), np.maximum(upper, middle)], axis=1)
        return interval

    # --------------------------------------------------------------------------------------------- saving and loading

    @classmethod
    def load(cls, path: str | os.PathLike[str], network: NetworkFactory | None = None, *, device: str = "cpu") -> Self:
        """A trained regressor from a file.

        Args:
            path: the file.
            network: the factory, where the saved network is not the library's MLP.
            device: where the network lives.

        Returns:
            The regressor; ``extra_`` is what was saved with it.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no such file, is damaged, or needs ``network``.
        """
        return cls._load(path, network, device, {})

    @classmethod
    def _parameters(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {"quantiles": tuple(settings["quantiles"])}

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"quantiles": np.atleast_1d(np.asarray(self.quantiles)).tolist()}

    def _state(self) -> dict[str, Any]:
        conformal = None if self.conformal_ is None else [part.tolist() for part in self.conformal_]
        return {"location": self.target_location_, "scale": self.target_scale_, "conformal": conformal}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._head = self._made_head()
        self._levels = tuple(self.quantiles)
        self.target_location_, self.target_scale_ = float(state["location"]), float(state["scale"])
        if not 0 < self.target_scale_ < np.inf:
            raise ValueError(f"scale must be positive and finite, got {self.target_scale_}")
        conformal = state["conformal"]
        self.conformal_ = None if conformal is None else (np.array(conformal[0]), np.array(conformal[1]))


def _weighted_quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], levels: Sequence[float]
) -> list[float]:
    """The smallest values whose weight, with all below, is at least the level's part of the whole."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    # Less a rounding error, so that repeated rows and weights agree.
    positions = np.searchsorted(cumulative, np.asarray(levels) * cumulative[-1] * (1.0 - 1e-12))
    return values[order[np.minimum(positions, len(values) - 1)]].tolist()
