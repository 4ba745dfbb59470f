"""What both estimators share around a fit; the training itself is in `rlce.supervised.fitting`."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from rlce.optimization import Optimization
from rlce.supervised import files, fitting, frames
from rlce.supervised.fitting import Fitted, Task, Watch
from rlce.supervised.plan import plan_of
from rlce.supervised.rows import Rows, read, split, stream_of
from rlce.trainer import Callback, Stopping

# Parameters that may hold several numbers → what then holds them.
_PARTS: dict[str, type[Any]] = {"optimizer": Optimization, "stopping": Stopping}


class Estimator(BaseEstimator):
    """A scikit-learn estimator whose fit is one value, ``fitted_``.

    Attributes:
        fitted_: what was learnt, an `rlce.supervised.fitting.Fitted`; assigned once, at the end of a fit.
    """

    fitted_: Fitted
    _calibration: str  # the setting that needs held-out rows

    @property
    def network_(self) -> nn.Module:
        """The trained network; its inputs are scaled."""
        return self.fitted_.training.network

    @property
    def history_(self) -> list[dict[str, float]]:
        """One dict of scalars per epoch, named as in TensorBoard."""
        return self.fitted_.training.history

    @property
    def n_epochs_(self) -> int:
        """The number of epochs run."""
        return len(self.fitted_.training.history)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        validation_set: tuple[Any, ...] | None = None,
        callback: Callback | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        log: str = "all",
        verbose: bool = False,
    ) -> Self:
        """Train from fresh weights.

        Args:
            X: ``[N, D]``: an array, a list of rows, or a DataFrame of pandas or polars. The columns of a DataFrame may
                hold text, categories, dates and gaps (see `rlce.tables.Columns`); an array holds numbers.
            y: the targets, ``[N]`` (see the class for other shapes).
            sample_weight: one number >= 0 per row, ``[N]``. A weight of 2 acts like repeating the row, 0 like deleting
                it.
            X_val: held-out rows in place of ``validation_split``, ``[N_val, D]``. A ``Pipeline`` transforms them like X
                with ``transform_input=["X_val"]`` and ``set_fit_request(X_val=True, y_val=True)``.
            y_val: their targets.
            sample_weight_val: their weights, ``[N_val]``.
            validation_set: the same as one argument, ``(X_val, y_val)`` or ``(X_val, y_val, sample_weight_val)``.
            callback: called after every epoch with `rlce.trainer.Progress`; returning True stops this training (with
                several restarts, the next one begins). The estimator changes only when the fit ends.
            log_dir: directory for TensorBoard (with several restarts, a folder inside it for each); None for no logs.
            log: how much is written there: "all", "scalars" (no histograms, no images) or "none".
            verbose: show a progress bar.

        Returns:
            The estimator.

        Raises:
            ValueError: NaN or infinity, arrays that are empty or of a wrong shape, a single class, targets that do not
                fit, negative or all-zero sample weights, or a wrong setting; the message names the argument.

        Warns:
            sklearn.exceptions.ConvergenceWarning: if the training loss ended far above where it began; or if all epochs
                (at least 20) were used up while the loss, that of the held-out rows if there are any, was still clearly
                falling: use more ``epochs`` or a larger ``learning_rate``.
        """
        apart = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        given = [name for name, value in apart.items() if value is not None]
        if given and validation_set is not None:
            raise ValueError(f"validation_set: give it or {', '.join(given)}, not both")
        if given and not {"X_val", "y_val"} <= set(given):
            raise ValueError(f"X_val and y_val must be given together, got only {', '.join(given)}")
        if given:
            validation_set = (X_val, y_val, sample_weight_val)
        return self._fit(
            X, y, sample_weight, validation_set=validation_set, watch=Watch(callback, log_dir, log, verbose)
        )

    def save(self, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None) -> None:
        """Write everything learnt and all parameters into one file, atomically and without pickle.

        ``partial_fit`` after loading continues exactly as without the file: the optimiser's state and the seed of the
        next draws are saved. Only what a module of a ``network`` factory keeps outside its ``state_dict`` starts again.

        Args:
            path: the file; an existing one is replaced.
            extra: anything that JSON can hold; `load` returns it as ``extra_``.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: if the file cannot be written, or JSON cannot hold something.
        """
        check_is_fitted(self)
        files.save(self, path, extra)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name.

        Args:
            deep: also those of an `rlce.Optimization` or `rlce.Stopping`, such as ``optimizer__learning_rate`` and
                ``stopping__patience``.
        """
        found: dict[str, Any] = super().get_params(deep)
        for owner, kind in _PARTS.items() if deep else ():
            if isinstance(found[owner], kind):
                found |= {f"{owner}__{name}": value for name, value in vars(found[owner]).items()}
        return found

    def set_params(self, **params: Any) -> Self:
        """Change parameters by name, those that `get_params` returns.

        ``optimizer__learning_rate`` puts another `rlce.Optimization` in the place of the present one, so what another
        estimator holds does not change. ``optimizer`` itself, if it is given too, is set first.

        Returns:
            The estimator.

        Raises:
            ValueError: there is no such parameter, a value is out of range, or it would have no effect.
        """
        plain = {name: value for name, value in params.items() if not _nested(name)}
        for owner, kind in _PARTS.items():
            inner = {name.partition("__")[2]: params[name] for name in params if _nested(name) == owner}
            if not inner:
                continue
            part = plain.get(owner, getattr(self, owner))
            for name, value in inner.items():
                # These two have parameters of their own, which the fit prefers.
                own = plain.get(name, getattr(self, name)) if name in ("learning_rate", "weight_decay") else None
                if not isinstance(part, kind):
                    instead = f"set {name}" if hasattr(self, name) else f"set {owner}"
                    more = f"{instead}, or pass {owner}=rlce.{kind.__name__}(...)"
                    raise ValueError(f"{owner}__{name}: {owner}={part!r} has no parameters of its own; {more}")
                if name not in vars(part):
                    raise ValueError(f"{owner}__{name}: rlce.{kind.__name__} has only {', '.join(vars(part))}")
                if own is not None and value != vars(part)[name]:
                    raise ValueError(f"{owner}__{name} has no effect beside {name}={own!r}; set that, or {name}=None")
            plain[owner] = dataclasses.replace(part, **inner)
        return super().set_params(**plain)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        once: bool = False,
        classes: Any = None,
        validation_set: tuple[Any, ...] | None = None,
        watch: Watch | None = None,
    ) -> Self:
        """Train, and assign what was learnt and the columns, also if an interrupt ends the training.

        ``once`` and ``classes`` are for ``partial_fit``; ``watch`` is who is told, as for `rlce.supervised.fitting`.
        """
        parameters = self.get_params(deep=False)
        plan, reader = plan_of(parameters, once), copy.copy(self)
        before: Fitted | None = getattr(self, "fitted_", None) if once else None
        framed = frames.has_types(X) if before is None else before.training.columns is not None
        rows = read(reader, X, y, sample_weight, fresh=before is None, framed=framed)
        known = self._known(rows.target, before, classes)
        rows = rows._replace(target=self._targets(known, rows.target))

        def held_out(*given: Any) -> Rows:
            try:
                more = read(reader, *given, framed=framed)
                return more._replace(target=self._targets(known, more.target))
            except ValueError as error:
                raise ValueError(f"X_val, y_val: {error}") from error

        training = None if before is None else before.training
        random = stream_of(self.random_state if training is None else training.seed)
        rows, validation = split(plan.validation_split, rows, validation_set, random, held_out)
        start = fitting.begin(plan, rows, validation, known.head.n_outputs, random, training)
        del rows, validation  # the raw rows may be large

        def keep(fitted: Fitted) -> None:
            for name in ("n_features_in_", "feature_names_in_"):
                if hasattr(reader, name):
                    setattr(self, name, getattr(reader, name))
                elif hasattr(self, name):
                    delattr(self, name)
            self.fitted_ = fitted

        task = self._task(known, start.rows, before)
        if task.calibrate is not None and start.validation is None and not once:
            raise ValueError(f"{self._calibration} needs held-out rows: validation_split, or X_val and y_val")
        settings = files.settings(parameters) if before is None else before.settings
        fitting.train(plan, start, task, settings, keep, watch or Watch())
        return self

    def _known(self, y: NDArray[Any], before: Fitted | None, classes: Any) -> Any:
        """What y is, from the first rows or the fit before; its ``head`` says what the network's outputs mean."""
        raise NotImplementedError

    def _targets(self, known: Any, y: NDArray[Any]) -> NDArray[Any]:
        """The targets in y, checked."""
        raise NotImplementedError

    def _task(self, known: Any, rows: Rows, before: Fitted | None) -> Task:
        """The task for scaled rows with these targets."""
        raise NotImplementedError

    def _outputs(self, X: Any, *, masks: bool = False) -> Tensor:
        """The network's outputs, ``[N, D]`` → ``[N, n_outputs]`` float64; with ``masks``, −∞ means a masked class.

        Raises:
            ValueError: if an output is not finite.
        """
        check_is_fitted(self)
        if self.fitted_.training.columns is None:
            rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        else:
            rows = frames.as_pandas(X)
            validate_data(self, X, reset=False, skip_check_array=True)
        outputs = self.fitted_.training.outputs(rows)
        finite = np.isfinite(outputs)
        if not finite.all():
            allowed = finite | (np.isneginf(outputs) & finite.any(axis=1, keepdims=True) & masks)
            if not allowed.all():
                row = int(np.argmin(allowed.all(axis=1)))
                raise ValueError(f"X: the network's outputs are not finite in row {row}, got {outputs[row].tolist()}")
        return torch.from_numpy(outputs)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "fitted_")


def _nested(name: str) -> str:
    """Whose parameter this is: "optimizer" for "optimizer__learning_rate", nobody's ("") for "optimizer"."""
    owner, _, inner = name.partition("__")
    return owner if inner and owner in _PARTS else ""
