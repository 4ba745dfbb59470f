"""Files of fitted estimators: parameters and what was learnt as JSON, beside the network's tensors."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlce import checkpoint
from rlce.heads import cost_named
from rlce.network import NetworkFactory, check_layers, checked_device, number_type
from rlce.optimization import Optimization, check_state
from rlce.supervised.columns import Columns
from rlce.supervised.fitting import Fitted, Training
from rlce.supervised.loss import from_json, to_json
from rlce.supervised.plan import plan_of
from rlce.supervised.rows import draw_seed, stream_of
from rlce.supervised.scaling import read_scaler
from rlce.trainer import Stopping

# These describe the fitted network; their values at the fit are saved, even if they were changed afterwards.
_DESCRIBE_THE_NETWORK = ("hidden", "activation", "network", "cost", "quantiles", "delta")


def settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """An estimator's parameters as JSON values; "foreign" stands for a network factory.

    Example:
        >>> settings({"hidden": (8,), "epochs": 3, "network": None, "device": "cpu", "random_state": None})
        {'hidden': [8], 'epochs': 3, 'network': None, 'device': 'cpu', 'random_state': None}
    """
    return {name: _as_json(name, value) for name, value in parameters.items()}


def _as_json(name: str, value: Any) -> Any:
    match name, value:
        case "rule", _:
            return to_json(value)
        case "cost", str():  # one name a cost in every file
            return cost_named(value)
        case "network", _:
            return None if value is None else "foreign"
        case "device", _:
            return str(value)
        case "random_state", _:
            return int(value) if isinstance(value, int | np.integer) else None
        case "class_weight", Mapping():
            return [list(pair) for pair in value.items()]
        case ("hidden" | "quantiles", _) | ("prior", [*_] | np.ndarray()):
            return np.atleast_1d(np.asarray(value)).tolist()
        case _, Optimization():
            return value.to_json()
        case _, Stopping():
            return dataclasses.asdict(value)
    return value


def _from_json(name: str, value: Any) -> Any:
    match name, value:
        case "rule", _:
            return from_json(value)
        case "class_weight", list():
            return dict(value)
        case "hidden" | "quantiles", _:
            return tuple(value)
        case "optimizer", dict():
            return Optimization.from_json(value)
        case "stopping", dict():
            return Stopping(**value)
    return value


def save(estimator: Any, path: str | os.PathLike[str], extra: Mapping[str, Any] | None) -> None:
    """Write a fitted estimator; `rlce.supervised.estimator.Estimator.save` documents it."""
    checkpoint.check_json("extra", extra)
    fitted: Fitted = estimator.fitted_
    training = fitted.training
    state = {
        "features": estimator.n_features_in_,
        "feature_names": getattr(estimator, "feature_names_in_", np.array([])).tolist() or None,
        "history": training.history,
        "samples_seen": training.samples_seen,
        "seed": training.seed,
        "double": number_type(training.network) is np.float64,
        **({} if training.columns is None else {"columns": training.columns.to_json()}),
        **fitted.about.to_json(),
    }
    parts = {
        "network": training.network.state_dict(),
        "scaler": training.scaler.state_dict(),
        "optimizer": training.optimizer_state,
    }
    tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    as_fitted = {name: value for name, value in fitted.settings.items() if name in _DESCRIBE_THE_NETWORK}
    saved = settings(estimator.get_params(deep=False)) | as_fitted
    config = {"settings": saved, "state": state, "extra": dict(extra or {})}
    checkpoint.save(path, type(estimator).__name__, config, tensors)


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
        about: the class of what it knows besides its network.
        path: the file.
        network: the factory, if the saved network is not the library's MLP.
        device: where the network lives.
        given: parameters that replace saved ones.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another file, is damaged, or needs ``network``.
    """
    checked_device(device)
    config, tensors = checkpoint.load(path, kind.__name__)
    with checkpoint.naming(path):
        saved, state = config["settings"], config["state"]
        if saved["network"] is not None and network is None:
            raise checkpoint.foreign_network(path)
        if "standardize" in saved:  # files of earlier versions
            saved["scaling"] = "standard" if saved.pop("standardize") else None
        parameters = {name: _from_json(name, value) for name, value in saved.items()}
        estimator = kind(**{**parameters, "network": network, "device": device, **given})
        plan = plan_of(estimator.get_params(deep=False))
        known = about.from_json(state, parameters)
        columns = Columns.from_json(state["columns"]) if "columns" in state else None
        inputs = state["features"] if columns is None else len(columns.outputs)
        scaler = read_scaler(tensors, inputs)
        if network is None:
            check_layers([inputs, *saved["hidden"], known.head.n_outputs], checkpoint.section(tensors, "network."))
        made = plan.make(inputs, known.head.n_outputs, 0, state["double"])
        made.load_state_dict(checkpoint.section(tensors, "network."))
        moments = checkpoint.section(tensors, "optimizer.")
        check_state(moments, sum(p.numel() for p in made.parameters() if p.requires_grad))
        estimator.n_features_in_ = state["features"]
        if state["feature_names"]:
            estimator.feature_names_in_ = np.array(state["feature_names"], dtype=object)
        training = Training(
            made.eval(),
            scaler,
            int(state.get("seed", draw_seed(stream_of(estimator.random_state)))),
            [dict(epoch) for epoch in state["history"]],
            moments,
            int(state["samples_seen"]),
            columns,
        )
        np.random.RandomState(training.seed)  # raises if this is not a seed
        estimator.fitted_ = Fitted(training, known, settings(estimator.get_params(deep=False)))
        estimator.extra_ = config["extra"]
    return estimator
