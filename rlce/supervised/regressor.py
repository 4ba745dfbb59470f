"""`Regressor`: the classifier's network and training loop with a regression cost, and scikit-learn's interface."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rlce.data import Moments, merged
from rlce.heads import (
    Each,
    Gaussian,
    Point,
    Quantiles,
    RegressionHead,
    absolute,
    cost_named,
    huber,
    quantile_levels,
    squared,
)
from rlce.network import MLP, NetworkFactory
from rlce.optimization import Optimization, check, check_number
from rlce.supervised import files, shown
from rlce.supervised.estimator import Estimator
from rlce.supervised.fitting import Fitted, Task, batch_of
from rlce.supervised.loss import Loss
from rlce.supervised.rows import Rows
from rlce.tracking import Details
from rlce.trainer import Stopping

# Coverages at which conformal intervals are calibrated; others are interpolated.
_COVERAGES = np.concatenate([np.arange(1, 100) / 100, [0.995, 0.999]])
_ROBUST = ("absolute", "huber", "quantile")  # the unit of their targets is measured by quartiles


# A number, or one for each of M targets, [M].
Numbers = float | NDArray[np.float64]


def head_of(cost: str, quantiles: Any, delta: float) -> Gaussian | Point | Quantiles:
    """The head of a cost by name, the library's or scikit-learn's.

    Raises:
        ValueError: for an unknown cost, levels outside (0, 1), or a δ that is not positive.

    Example:
        >>> head_of("quantile", [0.9], 1.0)
        Quantiles(levels=(0.5, 0.9))
    """
    levels = quantile_levels(quantiles)
    check_number("delta", delta, lambda value: 0 < value < np.inf, "be positive and finite")
    heads: dict[str, Gaussian | Point | Quantiles] = {
        "squared": Point(squared),
        "absolute": Point(absolute),
        "huber": Point(functools.partial(huber, delta=delta)),
        "quantile": Quantiles(levels),
        "gaussian": Gaussian(scale=None),
    }
    name = cost_named(cost) if isinstance(cost, str) else cost
    known = isinstance(name, str) and name in heads
    check("cost", cost, known, f"be one of {', '.join(heads)} (or squared_error, absolute_error)")
    return heads[name]


@dataclass(frozen=True, eq=False)
class NumberModel:
    """What a regressor knows besides its network: what the outputs mean, and the unit of the targets.

    Attributes:
        head: what the outputs mean.
        levels: of the quantiles asked for at the fit, ``[L]``.
        location: is subtracted from the targets; a number, or ``[M]`` for M targets.
        spread: of the targets so far; they are divided by it unless it is 0. A number or ``[M]``.
        rows: the total weight of the targets so far.
        conformal: coverages ``[G]`` and how much the intervals of each are widened, ``[G]`` or ``[G, M]``; or None.

    Example:
        >>> model = NumberModel(Point(), (0.5,), location=100.0, spread=10.0)
        >>> model.prediction(torch.tensor([[0.5]]))
        tensor([105.])
    """

    head: RegressionHead
    levels: tuple[float, ...]
    location: Numbers = 0.0
    spread: Numbers = 0.0
    rows: float = 0.0
    conformal: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    @property
    def scale(self) -> Numbers:
        """The divisor of the targets: ``spread``, or 1 where they are constant to rounding; a number or ``[M]``."""
        return np.where(self.spread > 1e-12 * np.abs(self.location), self.spread, 1.0)[()]

    @property
    def several(self) -> int | None:
        """M; None if a row's target is a number."""
        return self.head.targets if isinstance(self.head, Each) else None

    def updated(self, y: NDArray[np.float64], weight: NDArray[np.float64], robust: bool) -> NumberModel:
        """The model with these targets counted in, ``[N]`` or ``[N, M]``; ``robust`` measures them by quartiles.

        The location and squared spread of several calls are merged like means and variances. Without ``robust`` this is
        exact; with it, outliers in one call still do not move that call's share.

        Raises:
            ValueError: if the targets are too large.
        """
        location: Numbers
        spread: Numbers
        if y.ndim == 1:
            location, spread = location_and_spread(y, weight, robust)
        else:
            location, spread = np.transpose([location_and_spread(column, weight, robust) for column in y.T])
        total = float(weight.sum())
        if self.rows:
            now = Moments(location, spread**2, total)
            location, variance, total = merged(Moments(self.location, self.spread**2, self.rows), now)
            spread = np.sqrt(variance)
        if not (np.isfinite(location).all() and np.isfinite(spread).all()):
            raise ValueError(f"y: its values are too large to be scaled, up to {np.abs(y).max()}")
        return dataclasses.replace(self, location=location, spread=spread, rows=total)

    def keep_predictions(self, network: nn.Module, before: NumberModel) -> None:
        """Rescale the last layer of the library's MLP, so that it predicts the same in this unit as in the one before.

        This holds for the mean or the median; the predicted spread follows the scale of the targets. Any other network
        adapts by training.
        """
        if isinstance(network, MLP):
            layer, rows = network.layers[-1], self.head.mode(torch.arange(self.head.n_outputs))
            assert isinstance(layer, nn.Linear)
            moved = before.scale / self.scale, (before.location - self.location) / self.scale
            ratio, shift = (torch.as_tensor(value).reshape(-1).to(layer.weight) for value in moved)
            layer.weight.data[rows] *= ratio[:, None]
            layer.bias.data[rows] = ratio * layer.bias.data[rows] + shift

    def standardized(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Targets in the network's unit: ``[N]`` → ``[N, 1]``, or ``[N, M]`` → ``[N, M]``."""
        return ((y - self.location) / self.scale).reshape(len(y), -1)

    def in_their_unit(self, standardized: Tensor) -> Tensor:
        """Numbers in the targets' unit, ``[N, ...]``, or ``[N, M, ...]`` for M targets; same shapes in and out."""
        # An exporter writes Python's numbers in float32, whatever they meet.
        location, scale = (torch.as_tensor(value, dtype=torch.float64) for value in (self.location, self.scale))
        if self.several:  # [M] beside [N, M, ...]
            shape = (-1, *[1] * (standardized.ndim - 2))
            location, scale = location.reshape(shape), scale.reshape(shape)
        return location.to(standardized) + scale.to(standardized) * standardized

    def prediction(self, outputs: Tensor) -> Tensor:
        """``[N, n_outputs]`` → ``[N]``, or ``[N, M]`` for M targets."""
        mode = self.head.mode(outputs)
        return self.in_their_unit(mode if self.several else mode[..., 0])

    def quantiles(self, outputs: Tensor, levels: NDArray[np.float64]) -> Tensor:
        """``[N, n_outputs]`` and ``[L]`` → ``[N, L]``, or ``[N, M, L]`` for M targets."""
        return self.in_their_unit(self.head.quantiles(outputs, levels))

    def interval(self, outputs: Tensor, coverage: float) -> NDArray[np.float64]:
        """The head's lower and upper bound: ``[N, n_outputs]`` → ``[N, 2]``, or ``[N, M, 2]`` for M targets."""
        return self.in_their_unit(self.head.interval(outputs, coverage)).numpy()

    def widened(self, interval: NDArray[np.float64], coverage: float) -> NDArray[np.float64]:
        """An interval, ``[N, 2]`` or ``[N, M, 2]``, with the conformal widening of this coverage, if there is any."""
        if self.conformal is None:
            return interval
        coverages, widenings = self.conformal
        by_target = widenings.reshape(len(coverages), -1).T  # [1 or M, G]
        widening, middle = np.array([np.interp(coverage, coverages, one) for one in by_target]), interval.mean(-1)
        # An interval that narrows ends in its middle; the bounds never cross.
        lower, upper = interval[..., 0] - widening, interval[..., 1] + widening
        return np.stack([np.minimum(lower, middle), np.maximum(upper, middle)], axis=-1)

    def details(self, outputs: NDArray[Any], rows: Rows) -> Details:
        """What TensorBoard shows of held-out rows."""
        tensor, interval, coverage = torch.from_numpy(outputs).double(), None, 0.9
        conformal = None if self.conformal is None else self.conformal[0].max(initial=0.0)
        known = [most for most in (self.head.widest, conformal) if most is not None]
        if known and coverage <= min(known) + 1e-9:
            interval = self.widened(self.interval(tensor, coverage), coverage)
        return shown.of_numbers(rows.target, self.prediction(tensor).numpy(), interval)

    def held_out(self, outputs: NDArray[Any], rows: Rows) -> dict[str, float]:
        """The cost of held-out rows."""
        target = torch.from_numpy(self.standardized(rows.target))
        cost = self.head.cost(torch.from_numpy(outputs).double(), target).numpy()
        return {"val/loss": float(rows.weight @ cost / rows.weight.sum())}

    def conformed(self, outputs: NDArray[Any], rows: Rows) -> NumberModel:
        """The model with intervals widened to have the right coverage on held-out rows, each target by itself."""
        count, widest = len(rows.target), self.head.widest
        # The row to be predicted may lie anywhere among the held-out ones; beyond the last nothing is known.
        ranks = _COVERAGES * (1.0 + 1.0 / count)
        known = (ranks <= 1.0) & ((1.0 if widest is None else widest) + 1e-9 >= _COVERAGES)
        widenings, tensor = [], torch.from_numpy(outputs).double()
        for coverage, rank in zip(_COVERAGES[known], ranks[known], strict=True):
            low, high = np.moveaxis(self.interval(tensor, coverage), -1, 0)
            beyond = np.maximum(low - rows.target, rows.target - high).reshape(count, -1)
            widenings.append([weighted_quantiles(column, rows.weight, [rank])[0] for column in beyond.T])
        shape = (-1, self.several) if self.several else (-1,)
        return dataclasses.replace(self, conformal=(_COVERAGES[known], np.array(widenings).reshape(shape)))

    def to_json(self) -> dict[str, Any]:
        """What a file must hold."""
        conformal = None if self.conformal is None else [part.tolist() for part in self.conformal]
        location, spread = (np.asarray(value).tolist() for value in (self.location, self.spread))
        return {"location": location, "scale": spread, "rows": self.rows, "conformal": conformal}

    @classmethod
    def from_json(cls, state: Mapping[str, Any], parameters: Mapping[str, Any]) -> NumberModel:
        """The model that `to_json` wrote; the parameters name the head.

        Raises:
            ValueError: for a value that is not possible.
        """
        one = head_of(parameters["cost"], parameters["quantiles"], parameters["delta"])
        location, spread = (np.asarray(state[name], dtype=np.float64) for name in ("location", "scale"))
        head = Each(one, len(location)) if location.ndim else one
        conformal = state["conformal"]
        # Files of earlier versions do not hold the number of rows: it is the samples per epoch.
        rows = float(state.get("rows", state["samples_seen"] / max(1, len(state["history"]))))
        fits = location.ndim <= 1 and location.shape == spread.shape
        if not (fits and (spread >= 0).all() and 0 <= rows < np.inf and np.isfinite([location, spread]).all()):
            raise ValueError(f"location, scale and rows must be finite, two of them >= 0, got {location, spread, rows}")
        arrays = None if conformal is None else (np.array(conformal[0]), np.array(conformal[1]))
        if arrays is not None and arrays[1].shape != (len(arrays[0]), *location.shape):
            raise ValueError(f"conformal must hold a number for each coverage and target, got shape {arrays[1].shape}")
        return cls(head, _levels(parameters["quantiles"]), location[()], spread[()], rows, arrays)


class Regressor(RegressorMixin, Estimator):
    """A multilayer perceptron regressor with scikit-learn's interface, for one or several targets.

    ``y`` holds one number a row, ``[N]``, or M numbers, ``[N, M]``. One network learns the M targets together: each is
    standardised by itself, and the loss is the mean over them. (A column ``[N, 1]`` is read as ``[N]``, with
    scikit-learn's warning.) Intervals and quantiles are those of each target by itself, not of all jointly.

    Targets are standardised inside: by mean and standard deviation for "squared" and "gaussian", otherwise by the
    median and the interquartile range / 1.349 (for a Gaussian, the standard deviation), which outliers do not move.

    Args:
        hidden: widths of the hidden layers.
        cost: "squared" (predicts the mean), "absolute" (the median), "huber" (between the two), "quantile" (several
            quantiles, which never cross) or "gaussian" (mean and standard deviation). scikit-learn's words
            "squared_error" and "absolute_error" mean "squared" and "absolute"; files and messages use the short names.
        quantiles: levels in (0, 1) for "quantile", and the default of `predict_quantiles`. The median is always learnt
            too.
        delta: δ of Huber's cost, in units of the targets' scale.
        activation: see `rlce.network.MLP`.
        dropout: probability of zeroing a hidden unit in training.
        optimizer: "adam", "adamw", "sgd", "adadelta" or "rmsprop", whose learning rate falls along half a cosine to 0
            (in `partial_fit`, which has no end, it stays); or an `rlce.Optimization` for other schedules, momentum and
            clipping.
        learning_rate: at the start; None for that of ``optimizer`` (default 0.001).
        weight_decay: see `rlce.Optimization`; None for the optimiser's default (0.01 for "adamw", else 0).
        batch_size: rows per gradient step; "auto" is about a sixteenth of the rows as a power of two, from 16 to 256,
            and more from 131,072 rows on, up to 1,024.
        epochs: the largest number of passes over the training rows; "auto" makes at least 1,000 gradient steps, or
            40 √N for N rows if that is more, and at least 10 passes.
        scaling: "standard" subtracts each column's mean and divides by its standard deviation. "robust" does the same,
            but in a column with outliers or heavy tails only the order of the values counts (see
            `rlce.supervised.scaling.RobustScaling`). None leaves the columns as they are. Both are learnt from the
            training rows, and a column that is constant there has no influence.
        validation_split: fraction of the training rows held out to choose the best epoch; 0 for none.
        stopping: stop after this many epochs in which the cost of held-out rows (or, without these, the training loss)
            does not improve, or an `rlce.Stopping`; None to run all epochs.
        restarts: train this many times from fresh weights, and keep the best by the same measure.
        conformal: widen or narrow `predict_interval` so that it has the stated coverage on held-out rows. It then works
            for every cost. Without it, the spread that a network predicts is mostly too small. The same rows choose the
            epoch, so the coverage remains slightly optimistic. `partial_fit` switches it off: it holds out no rows.
        network: a factory ``(n_inputs, n_outputs) → nn.Module`` that replaces the MLP.
        device: where the network lives.
        random_state: an int fixes weights, order, dropout and the validation split; None draws anew at each fit.

    Attributes:
        n_features_in_: D.
        feature_names_in_: column names if X had any, ``[D]``.
        network_: the trained network, scaled inputs → standardised outputs.
        target_location_: is subtracted from the targets; a number, or ``[M]``.
        target_scale_: divides the targets; a number, or ``[M]``.
        conformal_: with ``conformal``: coverages ``[G]``, and how much the intervals of each are widened in the
            targets' unit, ``[G]`` or ``[G, M]``; otherwise None.
        history_: one dict of scalars per epoch, named as in TensorBoard.
        n_epochs_: the number of epochs run.
        fitted_: everything learnt as one value, an `rlce.supervised.fitting.Fitted`; it is assigned once per fit.

    Raises:
        ValueError: from `fit`, in scikit-learn's words: for NaN or infinity, empty or misshapen arrays, negative or
            all-zero sample weights, a quantile outside (0, 1), or an unknown setting.

    Example:
        >>> X = np.linspace(-1.0, 1.0, 50)[:, None]
        >>> regressor = Regressor(random_state=0).fit(X, 3.0 * X[:, 0])
        >>> regressor.predict([[0.5]]).round(1)
        array([1.5])
    """

    _calibration = "conformal"

    def __init__(
        self,
        hidden: Sequence[int] = (128, 128),
        cost: str = "squared",
        *,
        quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        delta: float = 1.0,
        activation: str = "silu",
        dropout: float = 0.2,
        optimizer: str | Optimization = "adam",
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | str = "auto",
        epochs: int | str = "auto",
        scaling: str | None = "robust",
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
        self.scaling = scaling
        self.validation_split = validation_split
        self.stopping = stopping
        self.restarts = restarts
        self.conformal = conformal
        self.network = network
        self.device = device
        self.random_state = random_state

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """One epoch over these rows, continuing from what was learnt before.

        Targets are standardised by running statistics of all rows so far, those of `fit` included. A robust scaling of
        columns stays as `fit` learnt it; without a `fit` before, columns are standardised by running statistics, too.
        When the location or scale of the targets changes, the last layer is rescaled so that the predicted mean or
        median does not change; predicted spreads follow the scale. (A network of your own adapts by training instead.)
        A learning-rate schedule needs ``Optimization(schedule_timesteps=...)``: it counts the rows of all calls, those
        of `fit` included.

        Args:
            X: ``[N, D]``.
            y: ``[N]`` or ``[N, M]``, as in the first call.
            sample_weight: ``[N]``.

        Returns:
            The estimator.

        Raises:
            ValueError: as `fit`.
        """
        return self._fit(X, y, sample_weight, once=True)

    def _known(self, y: NDArray[Any], before: Fitted | None, classes: None) -> NumberModel:
        if before is not None:
            return dataclasses.replace(before.about, conformal=None)
        one = head_of(self.cost, self.quantiles, self.delta)
        model = NumberModel(one if y.ndim == 1 else Each(one, y.shape[1]), _levels(self.quantiles))
        if self.conformal and model.head.widest is not None and model.head.widest < _COVERAGES[0]:
            raise ValueError(f"conformal needs quantiles on both sides of the median, got {self.quantiles!r}")
        return model

    def _targets(self, known: NumberModel, y: NDArray[Any]) -> NDArray[np.float64]:
        if y.shape[1:] != ((known.several,) if known.several else ()):
            wanted = (
                f"{known.several} numbers a row, [N, {known.several}]" if known.several else "one number a row, [N]"
            )
            raise ValueError(f"y must hold {wanted}, as in training, got shape {list(y.shape)}")
        if y.dtype.kind not in "biufO":
            raise ValueError(f"y must hold numbers, got {y.dtype}")
        y = y.astype(np.float64)
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
        return y

    def _task(self, known: NumberModel, rows: Rows, before: Fitted | None) -> Task:
        cost = cost_named(self.cost) if before is None else before.settings["cost"]
        model = known.updated(rows.target, rows.weight, robust=cost in _ROBUST)
        loss = Loss(model.head)
        return Task(
            model,
            batch_of(rows, model.standardized(rows.target), rows.weight, self.device),
            step=lambda network, batch, generator: (loss(network, batch, generator).loss, {}),
            validate=model.held_out,
            watched=("val/loss", False),
            prepare=None if before is None else functools.partial(model.keep_predictions, before=known),
            calibrate=model.conformed if self.conformal else None,
            details=lambda about, network, some, outputs, rows: about.details(outputs, rows),
        )

    # ----------------------------------------------------------------------------------------------- what was learnt

    @property
    def target_location_(self) -> Numbers:
        """The number subtracted from the targets, or ``[M]``."""
        return self.fitted_.about.location

    @property
    def target_scale_(self) -> Numbers:
        """The number that divides the targets, or ``[M]``."""
        return self.fitted_.about.scale

    @property
    def conformal_(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Coverages ``[G]`` and how much the intervals of each are widened, ``[G]`` or ``[G, M]``; or None."""
        return self.fitted_.about.conformal

    # ------------------------------------------------------------------------------------------------------ predicting

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """The mean, or the median for "absolute" and "quantile", in the targets' unit.

        ``[N, D]`` → ``[N]``, or ``[N, M]`` for M targets.
        """
        outputs = self._outputs(X)
        return _finite(self.fitted_.about.prediction(outputs).numpy())

    def predict_quantiles(self, X: ArrayLike, quantiles: Sequence[float] | None = None) -> NDArray[np.float64]:
        """Quantiles of the target given the input, which never cross: ``[N, D]`` → ``[N, L]``.

        Args:
            X: ``[N, D]``.
            quantiles: levels in (0, 1), ``[L]``; by default those of `fit`. Quantiles between trained levels are
                interpolated; for "gaussian" they are those of the Gaussian.

        Returns:
            ``[N, L]`` in the order of the levels, in the targets' unit; ``[N, M, L]`` for M targets.

        Raises:
            ValueError: for a level outside (0, 1) or outside the trained ones, or a cost that predicts no spread.
        """
        check_is_fitted(self)
        model = self.fitted_.about
        wanted = model.levels if quantiles is None else quantiles
        quantile_levels(wanted)
        return _finite(model.quantiles(self._outputs(X), np.array(_levels(wanted))).numpy())

    def predict_interval(self, X: ArrayLike, coverage: float = 0.9) -> NDArray[np.float64]:
        """The central prediction interval: ``[N, D]`` → lower and upper bound, ``[N, 2]``.

        Args:
            X: ``[N, D]``.
            coverage: the fraction of targets that should lie inside, in (0, 1).

        Returns:
            ``[N, 2]`` in the targets' unit; with ``conformal``, calibrated on held-out rows. ``[N, M, 2]`` for M
            targets, each with this coverage by itself.

        Raises:
            ValueError: for a coverage outside (0, 1) or wider than the trained quantiles, or for a cost that predicts
                no spread, without ``conformal``.

        Source:
            Romano, Patterson and Candès (2019), "Conformalized quantile regression", arXiv 1905.03222.
        """
        check_number("coverage", coverage, lambda value: 0 < value < 1, "lie in (0, 1)")
        outputs = self._outputs(X)
        model, head, conformal = self.fitted_.about, self.fitted_.about.head, self.conformal_
        if head.widest is None and conformal is None:
            cost = self.fitted_.settings["cost"]
            raise ValueError(f'cost: "{cost}" predicts no spread; fit with cost="quantile" or "gaussian", or conformal')
        if head.widest is not None and coverage > head.widest + 1e-9:
            raise ValueError(
                f"coverage: {coverage} is wider than the trained quantiles, which hold {head.widest:.6g}; "
                "fit with quantiles further out"
            )
        if conformal is not None and coverage > (most := conformal[0].max(initial=0.0)) + 1e-9:
            raise ValueError(f"coverage: there are too few held-out rows for {coverage}; at most {most}")
        return _finite(model.widened(model.interval(outputs, coverage), coverage))

    # --------------------------------------------------------------------------------------------- saving and loading

    @classmethod
    def load(cls, path: str | os.PathLike[str], network: NetworkFactory | None = None, *, device: str = "cpu") -> Self:
        """A trained regressor from a file.

        Args:
            path: the file.
            network: the factory, if the saved network is not the library's MLP.
            device: where the network lives.

        Returns:
            The regressor; ``extra_`` holds what was saved with it.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is another file, is damaged, or needs ``network``.
        """
        return files.load(cls, NumberModel, path, network, device, {})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _finite(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The answers, if all are finite."""
    if not np.isfinite(answers).all():
        row = int(np.argmin(np.isfinite(answers.reshape(len(answers), -1)).all(axis=1)))
        raise ValueError(f"X: the prediction for row {row} is not finite, got {answers[row].tolist()}")
    return answers


def _levels(quantiles: Any) -> tuple[float, ...]:
    """Quantile levels in the given order."""
    return tuple(np.atleast_1d(np.asarray(quantiles, dtype=np.float64)).tolist())


def location_and_spread(y: NDArray[np.float64], weight: NDArray[np.float64], robust: bool) -> tuple[float, float]:
    """Weighted mean and standard deviation of numbers ``[N]``; median and interquartile range / 1.349 if ``robust``.

    Example:
        >>> location_and_spread(np.array([1.0, 3.0, 5.0]), np.ones(3), robust=True)[0]
        3.0
    """
    if robust:
        low, location, high = weighted_quantiles(y, weight, (0.25, 0.5, 0.75))
        # Half of the numbers may be equal; then take the mean distance from them.
        return location, (high - low) / 1.349 or float(weight @ np.abs(y - location) / weight.sum())
    location = float(weight @ y / weight.sum())
    with np.errstate(over="ignore"):
        return location, float(np.sqrt(weight @ (y - location) ** 2 / weight.sum()))


def weighted_quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], levels: Sequence[float]
) -> list[float]:
    """The smallest values whose cumulative weight is at least each level's share of the total.

    Example:
        >>> weighted_quantiles(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]), (0.25, 0.5, 0.8))
        [1.0, 2.0, 3.0]
    """
    # The level is lowered by a rounding error, so that a factor on all weights changes nothing.
    lowered = np.asarray(levels) * (1.0 - 1e-12)
    return np.quantile(values, lowered, weights=weights, method="inverted_cdf").tolist()
