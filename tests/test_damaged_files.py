"""Damaged files: one documented error that names the file, and nothing large is made of what a file says."""

from __future__ import annotations

import copy
import json
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_iris
from torch import Tensor

from envs.identity import IdentityBox, IdentityMultiDiscrete, MaskedIdentity
from rlce import Classifier, Evaluation, PolicyGradient, Regressor, Stopping, checkpoint, methods, targets
from rlce.network import MLP

WRONG: list[Any] = [None, -1, 0, 1e300, 10**30, "x", [], {}]
LARGE = 10**8

X, Y = load_iris(return_X_y=True)


def agent(**settings: Any) -> PolicyGradient:
    settings = {"method": methods.ppo(steps=8), "hidden": (6, 5), "num_envs": 2, **settings}
    return PolicyGradient(settings.pop("env", "CartPole-v1"), **settings).learn(32)


def cartpole() -> PolicyGradient:
    return agent(
        normalize_observations=True,
        scale_rewards=True,
        env_kwargs={"max_episode_steps": 9},
        evaluation=Evaluation(every=16),  # so that the file has a best policy
    )


def box() -> PolicyGradient:
    return agent(env=lambda: IdentityBox((2,), bound=3.0), rescale_actions=True, method="actor_critic")


def several() -> PolicyGradient:
    return agent(env=lambda: IdentityMultiDiscrete([[3, 2], [2, 3]], start=-1), method="reinforce")


def masked() -> PolicyGradient:
    return agent(env=lambda: MaskedIdentity(n=4, start=3, mask_in_observation=True))


def classifier() -> Classifier:
    settings: dict[str, Any] = {"rule": targets.focal, "stopping": Stopping(patience=3), "validation_split": 0.2}
    return Classifier(hidden=(6,), epochs=1, class_weight={0: 2.0}, random_state=0, **settings).fit(X, Y)


def regressor() -> Regressor:
    return Regressor(hidden=(6,), epochs=1, cost="quantile", quantiles=(0.1, 0.5), random_state=0).fit(X, Y)


MAKERS: dict[str, Callable[[], Any]] = {
    maker.__name__: maker for maker in (cartpole, box, several, masked, classifier, regressor)
}


@pytest.fixture(scope="module", params=MAKERS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A fitted object, and its file."""
    made = MAKERS[request.param]()
    path = tmp_path_factory.mktemp(request.param) / "whole"
    made.save(path)
    return made, path


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every part of a JSON value."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], object]) -> Any:
    """A copy of a JSON value with ``change(parent, key)`` made at one place."""
    root = [copy.deepcopy(value)]
    parent, key = root, 0
    for step in path:
        parent, key = parent[key], step
    change(parent, key)
    return root[0] if root else None


def damaged_configs(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key and element removed, and replaced by every wrong value."""
    for path in places(config):
        name = "/".join(map(str, path))
        if path:
            yield f"{name} removed", changed(config, path, lambda parent, key: parent.pop(key))
        for wrong in WRONG:
            yield f"{name} = {wrong!r}", changed(config, path, lambda parent, key, w=wrong: parent.__setitem__(key, w))


def write(path: Path, kind: str, config: Any, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, path, {"format": checkpoint.FORMAT, "kind": kind, "config": json.dumps(config)})


def outcome(made: Any, path: Path) -> str | None:
    """None if the file loads and what it holds works, else what went wrong; "refused" for the documented error."""
    try:
        loaded = type(made).load(path)
    except ValueError as error:
        return "refused" if "damaged file" in str(error) else f"names no file: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if isinstance(loaded, PolicyGradient):
        loaded.observation_space.seed(0)
        loaded.predict(loaded.observation_space.sample())
    elif loaded.get_params().get("prior") is None:  # a parameter of prediction, checked there
        loaded.predict(X)
    return None


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_every_damage_to_the_settings_is_one_error_that_names_the_file(saved: tuple[Any, Path], tmp_path: Path) -> None:
    made, whole = saved
    kind, path = type(made).__name__, tmp_path / "damaged file"
    config, tensors = checkpoint.load(whole, kind)
    found = {}
    for name, damaged in damaged_configs(config):
        write(path, kind, damaged, tensors)
        found[name] = outcome(made, path)
    assert {name: what for name, what in found.items() if what not in (None, "refused")} == {}
    loaded = {name for name, what in found.items() if what is None}
    # What is needed to make the same networks and statistics again cannot be left out, nor be anything else.
    needed = ["settings", "state", "settings/hidden", "settings/hidden/0"]
    if isinstance(made, PolicyGradient):
        flags = ["normalize_observations", "rescale_actions", "scale_rewards"]
        needed += ["num_envs", "method", "optimization", "observation_space", "action_space", "state/steps"]
        needed += [f"settings/{name}" for name in ("seed", "env_kwargs", "activation", *flags)]
    for name in needed:
        assert f"{name} removed" not in loaded
        for wrong in ("None", "-1", "1e+300", "'x'", "[]"):
            assert f"{name} = {wrong}" not in loaded or f"{name} = {wrong}" == "settings/env_kwargs = None"


def test_every_damage_to_the_tensors_is_one_error_that_names_the_file(saved: tuple[Any, Path], tmp_path: Path) -> None:
    made, whole = saved
    kind, path = type(made).__name__, tmp_path / "damaged file"
    config, tensors = checkpoint.load(whole, kind)
    for name, tensor in tensors.items():
        damages: list[Tensor | None] = [None, torch.zeros(3, *tensor.shape[1:])]
        damages += [tensor[:0].clone(), tensor[None].clone()] if tensor.ndim else []
        for damage in damages:
            if damage is not None and damage.shape == tensor.shape:
                continue
            others = {key: value for key, value in tensors.items() if key != name}
            write(path, kind, config, others if damage is None else {**others, name: damage})
            what = outcome(made, path)
            # Without them, the reference is the policy as it was saved, and the optimiser begins anew.
            optional = name.startswith(("module.reference.", "optimizer.")) and damage is None
            assert what == "refused" or optional, f"{name}: {what}"


@pytest.fixture
def no_large_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network with a wide layer is an error that no test expects."""
    make = MLP.__init__

    def small(self: MLP, n_inputs: int, n_outputs: int, hidden: Sequence[int] = (), **others: Any) -> None:
        assert max(n_inputs, n_outputs, *hidden) < 100, "a large network was made"
        make(self, n_inputs, n_outputs, hidden, **others)

    monkeypatch.setattr(MLP, "__init__", small)


@pytest.mark.usefixtures("no_large_network")
def test_nothing_large_is_made_of_the_sizes_that_a_file_says(saved: tuple[Any, Path], tmp_path: Path) -> None:
    """A file of 3.6 kB with hidden layers of 6,000, or a space of 10^8, took 30 s and up to 6 GB."""
    made, whole = saved
    kind, path = type(made).__name__, tmp_path / "damaged file"
    config, tensors = checkpoint.load(whole, kind)
    type(made).load(whole)
    sizes: list[tuple[tuple[Any, ...], Any]] = [(("settings", "hidden"), hidden) for hidden in ([6000, 6000], [LARGE])]
    if isinstance(made, PolicyGradient):
        shape = {"low": -1.0, "high": 1.0, "dtype": "float32", "shape": [LARGE]}
        large = [
            {"kind": "Discrete", "n": LARGE, "start": 0, "dtype": "int64"},
            {"kind": "MultiDiscrete", "n": [LARGE, LARGE], "start": [0, 0], "dtype": "int64"},
            {"kind": "MultiBinary", "n": LARGE},
            {"kind": "MultiBinary", "n": [LARGE, 2]},
            {"kind": "Box", **shape},
            {"kind": "Tuple", "parts": [{"kind": "Box", **shape}]},
            {"kind": "Dict", "parts": [["a", {"kind": "Box", **shape}]]},
        ]
        sizes += [((f"{which}_space",), space) for which in ("observation", "action") for space in large]
    else:
        sizes += [(("state", "features"), LARGE)]
    for place, size in sizes:
        write(path, kind, changed(config, place, lambda parent, key, to=size: parent.__setitem__(key, to)), tensors)
        tracemalloc.start()
        with pytest.raises(ValueError, match="path: .*damaged file' is damaged") as error:
            type(made).load(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "a large network was made" not in str(error.value)
        assert peak < 10**7, f"{place}: {peak:,} bytes for {size}"
