"""Files of fitted estimators: parameters and what was learnt, as JSON beside the network's tensors."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import check_random_state

from rlce import checkpoint
from rlce.data import Standardizer
from rlce.network import NetworkFactory, number_type
from rlce.optimization import Optimization
from rlce.trainer import Stopping

_DESCRIBE_THE_NETWORK = ("hidden", "activation", "network", "cost", "quantiles", "delta")


def save(estimator: Any, path: str | os.PathLike[str], extra: Mapping[str, Any] | None) -> None:
    """Write a fitted estimator; `rlce.supervised.Supervised.save` documents it."""
    checkpoint.check_json("extra", extra)
    state = {
        "features": estimator.n_features_in_,
        "feature_names": getattr(estimator, "feature_names_in_", np.array([])).tolist() or None,
        "history": estimator.history_,
        "samples_seen": estimator._samples_seen,
        "double": number_type(estimator.network_) is np.float64,
        **estimator._state(),
    }
    tensors = {f"network.{name}": tensor for name, tensor in estimator.network_.state_dict().items()}
    tensors |= {f"standardizer.{name}": tensor for name, tensor in estimator._standardizer.state_dict().items()}
    # Parameters that were set after the fit do not describe what was fitted.
    fitted = {name: value for name, value in estimator._as_fitted.items() if name in _DESCRIBE_THE_NETWORK}
    config = {"settings": estimator._settings() | fitted, "state": state, "extra": dict(extra or {})}
    checkpoint.save(path, type(estimator).__name__, config, tensors)


def load(
    kind: type[Any],
    path: str | os.PathLike[str],
    network: NetworkFactory | None,
    device: str,
    given: Mapping[str, Any],
) -> Any:
    """A fitted estimator of a kind; ``given`` replaces saved parameters.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, is damaged, or needs ``network``.
    """
    config, tensors = checkpoint.load(path, kind.__name__)
    try:
        settings, state = config["settings"], config["state"]
        if settings["network"] is not None and network is None:
            raise checkpoint.foreign_network(path)
        for name, group in (("optimizer", Optimization), ("stopping", Stopping)):
            if isinstance(settings[name], Mapping):
                settings[name] = group(**settings[name])
        settings |= {"hidden": tuple(settings["hidden"]), "network": network, "device": device}
        estimator = kind(**{**settings, **kind._parameters(settings), **given})
        estimator.n_features_in_ = state["features"]
        if state["feature_names"]:
            estimator.feature_names_in_ = np.array(state["feature_names"], dtype=object)
        estimator.history_, estimator.n_epochs_ = state["history"], len(state["history"])
        estimator.extra_ = config["extra"]
        estimator._optimizer_state, estimator._random = {}, check_random_state(estimator.random_state)
        estimator._samples_seen, estimator._as_fitted = int(state["samples_seen"]), estimator._settings()
        estimator._restore(state)
        if network is None:
            _check_widths(settings["hidden"], state["features"], tensors)
        made = estimator._make_network(state["features"], 0, state["double"])
        made.load_state_dict(checkpoint.section(tensors, "network."))
        standardizer = Standardizer(state["features"])
        standardizer.load_state_dict(checkpoint.section(tensors, "standardizer."))
    except (KeyError, TypeError, AttributeError, RuntimeError, IndexError, OverflowError) as error:
        raise ValueError(f"path: {str(path)!r} is damaged, or does not fit the network it names: {error}") from error
    estimator.network_, estimator._standardizer = made.eval(), standardizer
    return estimator


def _check_widths(hidden: Any, features: Any, tensors: Mapping[str, Any]) -> None:
    """Refuse widths that are not the tensors', before anything as large as they say is made."""
    widths = [features, *hidden]
    found = [list(tensors[f"network.layers.{i}.weight"].shape) for i in range(len(widths))]
    if [columns for _, columns in found] != widths or [rows for rows, _ in found[:-1]] != list(hidden):
        raise ValueError(f"path: is damaged: the file says widths {widths}, its tensors have shapes {found}")


def settings(estimator: Any) -> dict[str, Any]:
    """An estimator's parameters, as far as JSON can say them; what it cannot is named "foreign" or None."""
    plain = estimator.get_params(deep=False)
    for name in ("optimizer", "stopping"):
        if dataclasses.is_dataclass(plain[name]):
            plain[name] = dataclasses.asdict(plain[name])
    return {
        **plain,
        "hidden": [int(width) for width in estimator.hidden],
        "network": None if estimator.network is None else "foreign",
        "device": str(estimator.device),
        "random_state": int(plain["random_state"]) if isinstance(plain["random_state"], int | np.integer) else None,
    }
