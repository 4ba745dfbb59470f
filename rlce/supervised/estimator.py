"""What both estimators show of what they learnt; training is in `rlce.supervised.fitting`."""

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

from rlce.supervised import files
from rlce.supervised.fitting import Fitted, Outcome

_COLUMNS = ("n_features_in_", "feature_names_in_")


class Estimator(BaseEstimator):
    """A scikit-learn estimator whose fit is one value, ``fitted_``.

    Attributes:
        fitted_: what was learnt, an `rlce.supervised.fitting.Fitted`; assigned once, at the end of a fit.
    """

    fitted_: Fitted[Any]

    @property
    def network_(self) -> nn.Module:
        """The trained network, from standardised inputs."""
        return self.fitted_.training.network

    @property
    def history_(self) -> list[dict[str, float]]:
        """One dict of scalars an epoch, named as in TensorBoard."""
        return self.fitted_.training.history

    @property
    def n_epochs_(self) -> int:
        """Epochs run."""
        return len(self.fitted_.training.history)

    def save(self, path: str | os.PathLike[str], *, extra: Mapping[str, Any] | None = None) -> None:
        """Write network, standardisation, targets and parameters into one file, atomically; no pickle.

        Args:
            path: the file; an existing one is replaced whole.
            extra: anything else that JSON can hold, which `load` gives back as ``extra_``.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: it cannot be written, or something is not what JSON can hold.
        """
        check_is_fitted(self)
        files.save(self, path, extra)

    def _keep(
        self,
        reader: Any,
        outcome: Outcome,
        about: Any,
        settings: Mapping[str, Any],
        calibrated: Callable[[NDArray[np.float64]], Any] | None = None,
    ) -> Self:
        """Assign what was learnt, and the columns noted on ``reader``. Then raise what interrupted it, if anything did.

        ``calibrated`` makes the last of ``about``, from the trained network's outputs for the held-out rows. What fails
        there costs no training: the network is kept, as after any interrupt.
        """
        error = outcome.error
        if calibrated is not None and outcome.held_out is not None:
            try:
                about = calibrated(outcome.held_out)
            except BaseException as interrupted:
                error = interrupted
        for name in _COLUMNS:
            if hasattr(reader, name):
                setattr(self, name, getattr(reader, name))
            elif hasattr(self, name):
                delattr(self, name)
        self.fitted_ = Fitted(outcome.training, about, settings)
        if error is not None:
            raise error
        return self

    def _outputs(self, X: Any, *, masks: bool = False) -> Tensor:
        """The network's outputs, ``[N, D]`` → ``[N, n_outputs]`` float64; with ``masks``, −∞ stands for a class masked.

        Raises:
            ValueError: outputs that are not finite.
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
