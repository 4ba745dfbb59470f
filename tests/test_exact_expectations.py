"""The table of `tests/expectations.py`: each estimator's mean by the library is what the chain's tables say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.enumeration import TOLERANCE, assert_equal
from tests.expectations import (
    EXPECTATIONS,
    RATIO_BOUND,
    TRACE_BOUND,
    Expectation,
    action_values,
    bias,
    by_law,
    by_occupancy,
    expected_return,
    law,
    listed,
    setting,
    truth,
)

EACH = pytest.mark.parametrize("expectation", EXPECTATIONS, ids=lambda expectation: expectation.estimator)


@EACH
def test_mean_over_trajectories_is_what_the_tables_say(expectation: Expectation) -> None:
    assert_equal(expectation.estimate(), expectation.from_tables())


@EACH
def test_bias_is_there_where_it_is_said_to_be(expectation: Expectation) -> None:
    distance, _ = bias(expectation.estimate())
    if expectation.exact:
        assert distance < TOLERANCE
    else:
        assert distance > 0.05


@pytest.mark.parametrize(
    "name",
    [
        "GAE, λ = ½, wrong V",
        "V-trace, off policy, wrong V",
        "self-imitation, fresh data, wrong V",
        "CISPO, off policy, wrong V",
        "TOPR, off policy",
        "GRPO's 1/len alone, pairs",
        "GRPO's 1/std alone, pairs",
        "whole batch standardised, pairs, whole return",
        "Z = steps, single episodes, whole return",
    ],
)
def test_these_are_no_mere_scalings_of_the_gradient(name: str) -> None:
    (expectation,) = (expectation for expectation in EXPECTATIONS if expectation.estimator == name)
    _, cosine = bias(expectation.estimate())
    assert cosine < 0.9999


# ------------------------------------------------------------------------------------------- the tools' own tests


def test_the_tools_give_the_policy_gradient() -> None:
    assert_equal(by_occupancy(setting().policy, action_values(setting().policy)), truth())
    assert_equal(by_law(lambda outcome: outcome[0]), truth())


def test_the_law_of_an_episode_agrees_with_the_list_of_trajectories() -> None:
    total = sum(float(probability.detach()) for probability in law().values())
    assert total == pytest.approx(1.0, abs=1e-12)
    mean = sum(outcome[0] * float(probability.detach()) for outcome, probability in law().items())
    assert mean == pytest.approx(expected_return(), abs=1e-12)
    episodes = listed(setting().policy)
    assert mean == pytest.approx(float(episodes.returned @ episodes.probability), abs=1e-12)
    for length in (1, 2, 3):
        by_law_of_outcomes = sum(float(p.detach()) for (_, steps, _), p in law().items() if steps == length)
        assert by_law_of_outcomes == pytest.approx(episodes.probability[episodes.lengths == length].sum(), abs=1e-12)


def test_the_setting_has_what_the_table_needs() -> None:
    """Ratios on both sides of every bound, returns of both signs, and ties between different episodes."""
    ratio, episodes = setting().ratio[~setting().chain.terminal], listed(setting().policy)
    for bound in (0.8, TRACE_BOUND, 1.0, RATIO_BOUND, 1.2):
        assert ratio.min() < bound < ratio.max()
    assert episodes.returned.min() < -0.1
    assert episodes.returned.max() > 0.1
    assert len(np.unique(episodes.returned)) < len(episodes.returned)
    whole = torch.tensor([outcome[2] for outcome in law()])
    negative = torch.tensor([outcome[0] for outcome in law()]) < 0
    assert whole[negative].min() < 1 < whole[negative].max()
