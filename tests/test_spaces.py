"""Observation spaces: flattened as Gymnasium flattens them, and made again from JSON as they were."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, OneOf, Sequence, Text, Tuple
from gymnasium.vector.utils import batch_space, iterate

from envs.identity import Identity
from rlce import PolicyGradient
from rlce.reinforcement import spaces

SPACES: dict[str, gymnasium.Space[Any]] = {
    "Box": Box(-1.0, 1.0, (4,)),
    "Box of no dimension": Box(0.0, 1.0, ()),
    "Box 3-D": Box(-2.0, 2.0, (2, 3, 2)),
    "Box unbounded": Box(-np.inf, np.inf, (3,)),
    "Box half bounded": Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 0.1], np.float32)),
    "Box float64": Box(-0.1, 0.3, (2,), np.float64),
    "Box uint8": Box(0, 255, (3, 3), np.uint8),
    "Box int64": Box(-5, 2**40, (2,), np.int64),
    "Discrete": Discrete(5),
    "Discrete with a start": Discrete(5, start=-3),
    "Discrete int32": Discrete(5, dtype=np.int32),
    "MultiDiscrete": MultiDiscrete([2, 5, 3]),
    "MultiDiscrete with a start": MultiDiscrete([2, 5, 3], start=[4, -1, 0]),
    "MultiDiscrete 2-D": MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [-1, 2]]),
    "MultiDiscrete int32": MultiDiscrete([2, 3], dtype=np.int32),
    "MultiBinary": MultiBinary(4),
    "MultiBinary 2-D": MultiBinary([2, 3]),
    "Tuple": Tuple([Discrete(3, start=1), Box(-1.0, 1.0, (2, 2))]),
    "Dict": Dict({"position": Box(-1.0, 1.0, (2,)), "mode": Discrete(3)}),
    "Dict in its own order": Dict(OrderedDict(z=Discrete(3), a=Box(-1.0, 1.0, (2,)))),
    "nested": Dict(
        {
            "b": Tuple([MultiBinary(2), Dict({"x": Discrete(2), "y": MultiDiscrete([2, 2])})]),
            "a": Box(0, 9, (2,), np.int64),
        }
    ),
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def batch_of(space: gymnasium.Space[Any], rows: int, seed: int = 0) -> Any:
    """Observations as a vector environment returns them."""
    batched = batch_space(space, rows)
    batched.seed(seed)
    return batched.sample()


def flattened_one_by_one(space: gymnasium.Space[Any], batch: Any, rows: int) -> np.ndarray:
    observations = iterate(batch_space(space, rows), batch)
    return np.stack([gymnasium.spaces.flatten(space, observation) for observation in observations])


@every_space
@pytest.mark.parametrize("rows", [1, 7])
def test_a_batch_is_flattened_as_gymnasium_flattens_its_rows(space: gymnasium.Space[Any], rows: int) -> None:
    batch = batch_of(space, rows)
    expected = flattened_one_by_one(space, batch, rows)
    found = spaces.flatten_batch(space, batch)
    assert found.dtype == np.float32
    assert found.shape == (rows, spaces.flat_width(space))
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@every_space
def test_one_observation_is_told_from_a_batch_and_flattened_as_one_row(space: gymnasium.Space[Any]) -> None:
    space.seed(1)
    one = space.sample()
    assert not spaces.is_batch(space, one)
    assert spaces.is_batch(space, batch_of(space, 3))
    expected = gymnasium.spaces.flatten(space, one).astype(np.float32)
    np.testing.assert_array_equal(spaces.flatten_batch(space, one), expected[None])


@every_space
def test_a_space_survives_json(space: gymnasium.Space[Any]) -> None:
    again = spaces.from_json(json.loads(json.dumps(spaces.to_json(space))))
    assert again == space
    assert again.dtype == space.dtype
    batch = batch_of(space, 5)
    # Equal Dicts may differ in the order of their parts, and then a saved network would see its inputs permuted.
    np.testing.assert_array_equal(spaces.flatten_batch(again, batch), spaces.flatten_batch(space, batch))


@pytest.mark.parametrize(
    ("space", "observation", "said"),
    [
        (gymnasium.spaces.Discrete(3), 3, "from 0 to 2, got 3"),
        (gymnasium.spaces.Discrete(3, start=1), np.array([1, 0]), "from 1 to 3, got 0"),
        (gymnasium.spaces.Discrete(3), 1.5, "from 0 to 2, got 1.5"),
        (gymnasium.spaces.MultiDiscrete([2, 3]), np.array([[1, 2], [2, 1]]), "from 0 to 1, got 2"),
    ],
)
def test_a_class_outside_its_space_is_no_row_of_zeros(space: Any, observation: Any, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^observation must have classes {said}$"):
        spaces.flatten_batch(space, observation)
    agent = PolicyGradient(Identity, "ppo", hidden=())
    with pytest.raises(ValueError, match="^observation must have classes from 0 to "):
        agent.predict(99)


@pytest.mark.parametrize(
    ("space", "observation", "message"),
    [
        (Box(-1.0, 1.0, (4,)), np.zeros(3), r"shape \[4\], or \[B, \.\.\.\] for a batch of B, got \[3\]"),
        (Box(-1.0, 1.0, (4,)), np.zeros((2, 3)), r"shape \[4\].*got \[2, 3\]"),
        (Box(-1.0, 1.0, (2, 2)), np.zeros((5, 1, 2, 2)), r"shape \[2, 2\].*got \[5, 1, 2, 2\]"),
        (Discrete(3), np.zeros((2, 2), int), r"shape \[\].*got \[2, 2\]"),
        (Dict({"a": MultiBinary(2)}), {"a": np.zeros(3)}, r"shape \[2\].*got \[3\]"),
        (Tuple([MultiDiscrete([2, 2])]), (np.zeros((2, 3)),), r"shape \[2\].*got \[2, 3\]"),
    ],
)
def test_neither_one_observation_nor_a_batch(space: gymnasium.Space[Any], observation: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spaces.is_batch(space, observation)


UNSERVED: list[gymnasium.Space[Any]] = [
    Text(5),
    Sequence(Discrete(2)),
    Graph(Box(-1.0, 1.0, (2,)), None),
    OneOf([Discrete(2), Discrete(3)]),
]


@pytest.mark.parametrize("use", [spaces.flat_width, spaces.to_json])
@pytest.mark.parametrize("within", ["alone", "Tuple", "Dict"])
@pytest.mark.parametrize("space", UNSERVED, ids=lambda space: type(space).__name__)
def test_a_space_without_a_fixed_width_is_named(space: gymnasium.Space[Any], within: str, use: Any) -> None:
    outer = {"alone": space, "Tuple": Tuple([Discrete(2), space]), "Dict": Dict({"a": space})}[within]
    with pytest.raises(TypeError, match=f"observation space {type(space).__name__}.*served: Box, Discrete"):
        use(outer)


def test_an_unknown_description_is_refused() -> None:
    with pytest.raises(ValueError, match="no space of kind 'Hypercube'"):
        spaces.from_json({"kind": "Hypercube"})


@pytest.mark.parametrize(
    ("low", "high", "dtype", "rescaled"),
    [
        (-2.0, 3.0, np.float32, True),
        (-np.inf, 1.0, np.float32, False),
        (np.finfo(np.float32).min, np.finfo(np.float32).max, np.float32, False),
        (np.iinfo(np.int64).min, np.iinfo(np.int64).max, np.int64, False),
        (0, 255, np.uint8, True),
    ],
)
def test_bounds_that_mean_no_bound_are_not_rescaled_by_default(low: Any, high: Any, dtype: Any, rescaled: bool) -> None:
    space = Box(low, high, (2,), dtype)
    assert spaces.Actions(space, rescale=None).rescale is rescaled
