"""Both halves meet: a labelled data set learned from its labels, and as an environment from reward alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

import rlce
from envs.labelled import LabelledData
from rlce import Classifier, Optimization, PolicyGradient, methods
from rlce.heads import Categorical
from rlce.objective import objective
from rlce.reinforcement.methods import Experience
from tests.enumeration import weights_of


def policy_on(X: Any, y: Any, rounds: int, learning_rate: float, **settings: Any) -> PolicyGradient:
    """REINFORCE with a leave-one-out baseline on the one-step environment; 64 rewards a gradient step."""
    return PolicyGradient(
        partial(LabelledData, X, y),
        methods.reinforce(baseline="leave-one-out", discount=1.0, episodes=64, per_episode=True),
        num_envs=64,
        optimization=Optimization(learning_rate=learning_rate),
        normalize_observations=False,
        scale_rewards=False,
        **settings,
    ).learn(64 * rounds)


def action_probabilities(agent: PolicyGradient, X: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return agent.policy(torch.from_numpy(X)).softmax(dim=-1).numpy()


# --------------------------------------------------------------------------------------------- same decisions


@pytest.mark.parametrize("seed", [0, 1])
def test_separable_data_labels_and_rewards_teach_the_same_decisions(seed: int) -> None:
    generator = np.random.default_rng(seed)
    centres = np.array([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])  # 3.4 apart, ten times the spread around them
    labels = generator.integers(3, size=450)
    X = (centres[labels] + generator.normal(scale=0.3, size=(450, 2))).astype(np.float32)
    y = np.array(["ash", "elm", "oak"])[labels]
    learned, unseen = slice(150), slice(150, None)

    classifier = Classifier(hidden=(16,), epochs=40, learning_rate=0.02, scaling="standard", random_state=seed)
    by_labels = classifier.fit(X[learned], y[learned]).predict(X)
    agent = policy_on(X[learned], y[learned], rounds=150, learning_rate=0.02, hidden=(16,), seed=seed)
    by_reward = classifier.classes_[agent.predict(X, deterministic=True)]

    for rows in (learned, unseen):
        np.testing.assert_array_equal(by_labels[rows], y[rows])
        np.testing.assert_array_equal(by_reward[rows], by_labels[rows])


# ------------------------------------------------------------------------------------ different probabilities

POSTERIOR = {0.0: 0.3, 1.0: 0.8}  # P(y = 1 | x)
OVERLAPPING_X = np.repeat(np.array([[0.0], [1.0]], np.float32), 10, axis=0)
OVERLAPPING_Y = np.repeat([1, 0, 1, 0], [3, 7, 8, 2])
TWO_ROWS = np.array([[0.0], [1.0]], np.float32)


def test_overlapping_data_cross_entropy_learns_the_posterior() -> None:
    classifier = Classifier(
        network=nn.Linear, epochs=300, optimizer=Optimization("adam", 0.05), batch_size=20, scaling=None, random_state=0
    ).fit(OVERLAPPING_X, OVERLAPPING_Y)
    learned = classifier.predict_proba(TWO_ROWS)[:, 1]
    # The two rows determine the linear model's two free logits, so its optimum is the posterior itself.
    np.testing.assert_allclose(learned, list(POSTERIOR.values()), rtol=0.0, atol=1e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_overlapping_data_reinforce_learns_the_argmax_of_the_posterior(seed: int) -> None:
    data = OVERLAPPING_X, OVERLAPPING_Y
    agent = policy_on(*data, rounds=200, learning_rate=0.1, network=nn.Linear, seed=seed)
    learned = action_probabilities(agent, TWO_ROWS)[:, 1]
    assert learned[0] < 0.05, "the posterior is 0.3, its argmax 0"
    assert learned[1] > 0.95, "the posterior is 0.8, its argmax 1"
    # So it earns nearly the best possible, ½ (0.7 + 0.8), where sampling the posterior would earn 0.63.
    expected_reward = 0.5 * (0.7 - 0.4 * learned[0] + 0.2 + 0.6 * learned[1])
    assert expected_reward > 0.72
    returns, _ = rlce.evaluate_policy(agent, partial(LabelledData, *data), episodes=2000, deterministic=False)
    # The mean of 2,000 draws of a reward of 0 or 1 has a deviation below ½/√2000 = 0.0112.
    assert returns.mean() == pytest.approx(expected_reward, abs=4 * 0.0112)


# ----------------------------------------------------------------------------------------- the exact identity


@pytest.mark.parametrize("baseline", ["none", "value"])
def test_expected_reinforce_gradient_is_cross_entropy_s_times_the_label_s_probability(baseline: Any) -> None:
    """E_a[∇L_REINFORCE] = p_y ∇(−log p_y) row by row, whatever the baseline; in float64."""
    rows, classes = 6, 4
    generator = np.random.default_rng(1)
    X, labels = generator.normal(size=(rows, 2)), np.array([0, 3, 1, 2, 3, 3])
    logits = torch.tensor(generator.normal(scale=2.0, size=(rows, classes)), requires_grad=True)
    reward = rewards_of(LabelledData(X, labels), rows)
    np.testing.assert_array_equal(reward.sum(axis=1), 1.0)

    # Every action in every row is a one-step episode, a column of its own.
    everywhere = np.ones((1, rows * classes), bool)
    values = np.repeat(generator.normal(size=rows), classes)[None] if baseline == "value" else None
    experience = Experience(
        reward=reward.reshape(1, -1),
        terminated=everywhere,
        truncated=~everywhere,
        valid=everywhere,
        time=np.zeros((1, rows * classes), np.int64),
        value=values,
        next_value=values,
    )
    method = methods.reinforce(baseline=baseline, discount=0.9, episodes=rows * classes)
    advantage = torch.from_numpy(method.credit(experience).advantage[0])

    probability = logits.detach().softmax(dim=-1)
    every_row = torch.arange(rows).repeat_interleave(classes)
    every_action = torch.arange(classes).repeat(rows)
    head = Categorical(classes)
    log_prob = -head.cost(logits[every_row], every_action).detach()
    weight = weights_of(method.weight, advantage, log_prob, log_prob) * probability.flatten()
    loss = objective(head.cost, logits[every_row], every_action, weight, rows)
    expected = torch.autograd.grad(loss, logits)[0]

    label = torch.from_numpy(labels)
    label_probability = probability[torch.arange(rows), label]
    assert label_probability.min() < 0.1  # so the factor differs visibly from row to row
    assert label_probability.max() > 0.5
    (of_cross_entropy,) = torch.autograd.grad(F.cross_entropy(logits, label), logits)
    torch.testing.assert_close(expected, label_probability[:, None] * of_cross_entropy, rtol=0.0, atol=1e-14)

    # The same once more as a single call: classification with w = p_y is REINFORCE on the data set.
    (weighted,) = torch.autograd.grad(rlce.weighted_cross_entropy(logits, label, label_probability), logits)
    torch.testing.assert_close(expected, weighted, rtol=0.0, atol=1e-14)


def rewards_of(env: gymnasium.Env[Any, Any], rows: int) -> NDArray[np.float64]:
    """What the environment pays for every action in every row, ``[rows, K]``."""
    assert isinstance(env.action_space, gymnasium.spaces.Discrete)
    table = np.empty((rows, int(env.action_space.n)))
    for row, action in np.ndindex(*table.shape):
        env.reset(options={"row": row})
        table[row, action] = env.step(np.int64(action))[1]
    return table
