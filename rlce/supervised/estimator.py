"""What both estimators share around a fit; the training itself is in `rlce.supervised.fitting`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from rlce.supervised import files, fitting
from rlce.supervised.fitting import Fitted, Plan, Start, Task, Watch


class Estimator(BaseEstimator):
    """A scikit-learn estimator whose fit is one value, ``fitted_``.

    Attributes:
        fitted_: what was learnt, an `rlce.supervised.fitting.Fitted`; assigned once, at the end of a fit.
    """

    fitted_: Fitted[Any]

    @property
    def network_(self) -> nn.Module:
        """The trained network; its inputs are standardised."""
        return self.fitted_.training.network

    @property
    def history_(self) -> list[dict[str, float]]:
        """One dict of scalars per epoch, named as in TensorBoard."""
        return self.fitted_.training.history

    @property
    def n_epochs_(self) -> int:
        """The number of epochs run."""
        return len(self.fitted_.training.history)

    def save(self, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None) -> None:
        """Write everything learnt and all parameters into one file, atomically and without pickle.

        ``partial_fit`` after loading continues exactly as without the file: the optimiser's state and the seed of the
        next draws are saved. Only the random stream of dropout starts again, and so does whatever a module of a
        ``network`` factory keeps outside its ``state_dict``.

        Args:
            path: the file; an existing one is replaced.
            extra: anything that JSON can hold; `load` returns it as ``extra_``.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: if the file cannot be written, or JSON cannot hold something.
        """
        check_is_fitted(self)
        files.save(self, path, extra)

    def _train(
        self,
        reader: Any,
        plan: Plan,
        start: Start,
        about: Any,
        task: Task,
        watch: Watch | None = None,
        calibrated: Callable[[NDArray[np.float64], Any], Any] | None = None,
    ) -> Self:
        """Train, assign what was learnt and the columns noted on ``reader``, then raise what interrupted it, if any.

        ``calibrated`` makes the final ``about`` from the trained network's outputs for the held-out rows, and these
        rows. If it fails, the network is kept, as after any interrupt.
        """
        settings = start.settings or files.settings(self.get_params(deep=False))
        outcome = fitting.train(plan, start, task, (watch or Watch())._replace(settings=settings))
        error = outcome.error
        if calibrated is not None and outcome.held_out is not None:
            try:
                about = calibrated(outcome.held_out, start.validation)
            except BaseException as interrupted:
                error = interrupted
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(reader, name):
                setattr(self, name, getattr(reader, name))
            elif hasattr(self, name):
                delattr(self, name)
        self.fitted_ = Fitted(outcome.training, about, settings)
        if error is not None:
            raise error
        return self

    def _outputs(self, X: Any, *, masks: bool = False) -> Tensor:
        """The network's outputs, ``[N, D]`` → ``[N, n_outputs]`` float64; with ``masks``, −∞ means a masked class.

        Raises:
            ValueError: if an output is not finite.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
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
