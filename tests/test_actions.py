"""Action spaces: which head serves each, and what the environment gets of what the head draws."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
import torch

from rlce.heads import Bernoulli, Categorical, Gaussian, MultiCategorical
from rlce.reinforcement.spaces import Actions


def test_start_shifts_indices_to_actions() -> None:
    index = np.array([0, 1, 2])
    assert Actions(gymnasium.spaces.Discrete(3, start=-4)).to_environment(index).tolist() == [-4, -3, -2]
    assert Actions(gymnasium.spaces.Discrete(3)).to_environment(index).tolist() == [0, 1, 2]


def test_several_choices_and_bits_get_the_space_s_shape_start_and_type() -> None:
    several = gymnasium.spaces.MultiDiscrete([3, 2, 4], start=[1, 0, -5])
    assert Actions(several).to_environment(np.array([[1, 0, 2]])).tolist() == [[2, 0, -3]]
    action = Actions(gymnasium.spaces.MultiBinary((2, 2))).to_environment(np.array([[0, 1, 1, 0]]))
    assert action.tolist() == [[[0, 1], [1, 0]]]
    assert action.dtype == np.int8


def test_the_raw_sample_is_scored_and_the_clipped_one_sent() -> None:
    """Scored by the density of what was drawn: the clipped action would pull the policy towards its bounds."""
    actions = Actions(gymnasium.spaces.Box(-1.0, 1.0, (1,)))
    head = actions.head
    outputs = np.array([[0.9, 0.0]], np.float32).repeat(1000, axis=0)
    raw = head.sample(outputs, np.random.default_rng(0).random((1000, 1)))
    sent = actions.to_environment(raw)
    outside = np.abs(raw) > 1
    assert 0.3 < outside.mean() < 0.6
    assert np.abs(sent).max() == 1.0
    np.testing.assert_array_equal(sent[~outside], raw[~outside])
    mean = torch.from_numpy(outputs).double().requires_grad_()
    scores = []
    for action in (raw, sent):
        (gradient,) = torch.autograd.grad(head.cost(mean, torch.from_numpy(action).double()).mean(), mean)
        scores.append(float(gradient[:, 0].sum()))
    assert abs(scores[0]) < 4 / math.sqrt(1000)  # E ∇ log p = 0, of what was drawn
    assert scores[1] > 0.3  # and not of what was sent


BOXES = {
    "a scalar": gymnasium.spaces.Box(-2.0, 3.0, ()),
    "2-D": gymnasium.spaces.Box(-2.0, 3.0, (2, 3)),
    "unbounded": gymnasium.spaces.Box(-np.inf, np.inf, (2,)),
    "half bounded": gymnasium.spaces.Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 0.1], np.float32)),
    "float64": gymnasium.spaces.Box(-0.1, 0.3, (2,), np.float64),
    "float16": gymnasium.spaces.Box(-0.1, 0.3, (2,), np.float16),
    "integers": gymnasium.spaces.Box(-3, 5, (2,), np.int32),
    "bytes": gymnasium.spaces.Box(0, 255, (2,), np.uint8),
}


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("name", BOXES)
def test_what_is_sent_lies_in_the_box(name: str, rescale: bool) -> None:
    space = BOXES[name]
    if rescale and not space.is_bounded():
        with pytest.raises(ValueError, match="rescale needs a Box with finite bounds"):
            Actions(space, rescale=True)
        return
    actions = Actions(space, rescale=rescale)
    shape = actions.head.target_shape
    stored = (10 * np.random.default_rng(0).standard_normal((500, *shape))).astype(np.float32)
    stored[:200] /= 20
    sent = actions.to_environment(stored)
    assert sent.dtype == space.dtype
    assert all(space.contains(np.asarray(action)) for action in sent)
    if rescale:
        corners = actions.to_environment(np.array([[-1.0], [0.0], [1.0]], np.float32).repeat(shape[0], axis=1))
        np.testing.assert_array_equal(corners[0], space.low)
        np.testing.assert_array_equal(corners[2], space.high)
        middle = (space.low.astype(float) + space.high.astype(float)) / 2
        np.testing.assert_allclose(corners[1], middle, atol=0.5 if sent.dtype.kind in "iu" else 1e-4)
    as_tensors = actions.to_environment(torch.from_numpy(stored))  # as an exported policy does it
    np.testing.assert_array_equal(as_tensors.numpy(), sent)
    if sent.dtype == np.float32 and not rescale:
        inside = (stored >= space.low.ravel()) & (stored <= space.high.ravel())
        np.testing.assert_array_equal(sent.reshape(stored.shape)[inside], stored[inside])


def test_a_discrete_space_has_a_categorical_head() -> None:
    assert Actions(gymnasium.spaces.Discrete(4, start=-2)).head == Categorical(4)


def test_heads_of_several_numbers() -> None:
    space = gymnasium.spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [-1, 2]])
    assert Actions(space).head == MultiCategorical((2, 3, 4, 5))
    assert Actions(gymnasium.spaces.MultiBinary([2, 3])).head == Bernoulli(6)
    box = gymnasium.spaces.Box(-2.0, 2.0, (2, 3))
    assert Actions(box, rescale=True).head == Gaussian(None, 6)


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Discrete(4, start=-2),
        gymnasium.spaces.MultiDiscrete([2, 3]),
        gymnasium.spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [-1, 2]]),
        gymnasium.spaces.MultiBinary(3),
        gymnasium.spaces.MultiBinary([2, 3]),
        gymnasium.spaces.Box(-1.0, 1.0, (2, 2)),
    ],
    ids=str,
)
def test_the_environment_accepts_samples_and_modes(space: gymnasium.Space) -> None:
    actions, generator = Actions(space), np.random.default_rng(0)
    head = actions.head
    outputs = 2 * generator.standard_normal((200, head.n_outputs))
    for stored in (head.sample(outputs, generator.random((200, *head.target_shape))), head.mode(outputs)):
        sent = actions.to_environment(stored.astype(head.target_dtype))
        assert all(space.contains(action) for action in sent)
        np.testing.assert_array_equal(actions.to_environment(torch.from_numpy(stored)).numpy(), sent)


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2)]),
        gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)}),
        gymnasium.spaces.Text(3),
    ],
    ids=lambda space: type(space).__name__,
)
def test_a_space_that_no_head_serves_is_named_and_those_served(space: gymnasium.Space) -> None:
    served = "served: Discrete, MultiDiscrete, MultiBinary, Box"
    with pytest.raises(TypeError, match=rf"(?s){type(space).__name__}.*{served}"):
        Actions(space)


def test_only_a_box_can_be_rescaled() -> None:
    with pytest.raises(ValueError, match="rescale needs a Box with finite bounds, got the action space Discrete"):
        Actions(gymnasium.spaces.Discrete(2), rescale=True)
