"""Files of fitted estimators: parameters and what was learnt, as JSON beside the network's tensors; both ways."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import check_random_state

from rlce import checkpoint
from rlce.data import Standardizer
from rlce.network import NetworkFactory, check_layers, checked_device, number_type
from rlce.optimization import Optimization
from rlce.supervised.fitting import Fitted, Training, architecture_of
from rlce.supervised.loss import from_json, to_json
from rlce.trainer import Stopping

# Parameters that were set after the fit do not describe what was fitted.
_DESCRIBE_THE_NETWORK = ("hidden", "activation", "network", "cost", "quantiles", "delta")


def _group(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


# How JSON says parameters that it cannot hold as they are; what it cannot say at all is "foreign" or None.
_SAID: dict[str, Callable[[Any], Any]] = {
    "hidden": lambda widths: [int(width) for width in widths],
    "rule": to_json,
    "class_weight": lambda given: [list(pair) for pair in given.items()] if isinstance(given, Mapping) else given,
    "prior": lambda prior: prior if prior is None or isinstance(prior, str) else np.asarray(prior).tolist(),
    "quantiles": lambda levels: np.atleast_1d(np.asarray(levels)).tolist(),
    "optimizer": _group,
    "stopping": _group,
    "network": lambda factory: None if factory is None else "foreign",
    "device": str,
    "random_state": lambda seed: int(seed) if isinstance(seed, int | np.integer) else None,
}
_READ: dict[str, Callable[[Any], Any]] = {
    "hidden": tuple,
    "rule": from_json,
    "class_weight": lambda said: dict(said) if isinstance(said, list) else said,
    "quantiles": tuple,
    "optimizer": lambda said: Optimization(**said) if isinstance(said, Mapping) else said,
    "stopping": lambda said: Stopping(**said) if isinstance(said, Mapping) else said,
}


def settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """An estimator's parameters, as far as JSON can say them.

    Example:
        >>> settings({"hidden": (8,), "epochs": 3, "network": None, "device": "cpu", "random_state": None})
        {'hidden': [8], 'epochs': 3, 'network': None, 'device': 'cpu', 'random_state': None}
    """
    return {name: _SAID.get(name, lambda same: same)(value) for name, value in parameters.items()}


def save(estimator: Any, path: str | os.PathLike[str], extra: Mapping[str, Any] | None) -> None:
    """Write a fitted estimator; `rlce.Classifier.save` documents it."""
    checkpoint.check_json("extra", extra)
    fitted: Fitted[Any] = estimator.fitted_
    training = fitted.training
    state = {
        "features": estimator.n_features_in_,
        "feature_names": getattr(estimator, "feature_names_in_", np.array([])).tolist() or None,
        "history": training.history,
        "samples_seen": training.samples_seen,
        "double": number_type(training.network) is np.float64,
        **fitted.about.to_json(),
    }
    tensors = {f"network.{name}": tensor for name, tensor in training.network.state_dict().items()}
    tensors |= {f"standardizer.{name}": tensor for name, tensor in training.standardizer.state_dict().items()}
    as_fitted = {name: value for name, value in fitted.settings.items() if name in _DESCRIBE_THE_NETWORK}
    said = settings(estimator.get_params(deep=False)) | as_fitted
    checkpoint.save(
        path, type(estimator).__name__, {"settings": said, "state": state, "extra": dict(extra or {})}, tensors
    )


def load(
    kind: type[Any],
    about: type[Any],
    path: str | os.PathLike[str],
    network: NetworkFactory | None,
    device: str,
    given: Mapping[str, Any],
) -> Any:
    """A fitted estimator.

    Args:
        kind: the estimator's class.
        about: the class of what it knows beside its network.
        path: the file.
        network: the factory, where the saved network is not the library's MLP.
        device: where the network lives.
        given: parameters in place of saved ones.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, is damaged, or needs ``network``.
    """
    checked_device(device)
    config, tensors = checkpoint.load(path, kind.__name__)
    with checkpoint.naming(path):
        said, state = config["settings"], config["state"]
        if said["network"] is not None and network is None:
            raise checkpoint.foreign_network(path)
        read = {name: _READ.get(name, lambda same: same)(value) for name, value in said.items()}
        estimator = kind(**{**read, "network": network, "device": device, **given})
        known = about.from_json(state, read)
        if tensors["standardizer.mean"].shape != (state["features"],):
            raise ValueError(f"it has statistics of other columns than {state['features']}")
        if network is None:
            widths = [state["features"], *said["hidden"], known.head.n_outputs]
            check_layers(widths, checkpoint.section(tensors, "network."))
        standardizer = Standardizer(state["features"])
        standardizer.load_state_dict(checkpoint.section(tensors, "standardizer."))
        made = architecture_of(estimator.get_params(deep=False)).make(
            state["features"], known.head.n_outputs, 0, state["double"]
        )
        made.load_state_dict(checkpoint.section(tensors, "network."))
        estimator.n_features_in_ = state["features"]
        if state["feature_names"]:
            estimator.feature_names_in_ = np.array(state["feature_names"], dtype=object)
        random, seen = check_random_state(estimator.random_state), int(state["samples_seen"])
        training = Training(made.eval(), standardizer, random, [dict(epoch) for epoch in state["history"]], {}, seen)
        estimator.fitted_ = Fitted(training, known, settings(estimator.get_params(deep=False)))
        estimator.extra_ = config["extra"]
    return estimator
