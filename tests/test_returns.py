"""Credit against brute-force sums that know no recursion, and against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlce.rules.returns import batch_mean, elite, gae, group_centred, group_standardized, leave_one_out, reward_to_go

NUMBERS = st.integers(-8, 8).map(lambda n: n / 2)
FRACTIONS = st.sampled_from([0.0, 0.3, 0.9, 1.0])
every_pattern = settings(deadline=None, max_examples=100)


class Case(NamedTuple):
    reward: np.ndarray
    value: np.ndarray
    next_value: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    @property
    def done(self) -> np.ndarray:
        return self.terminated | self.truncated


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any pattern of ends, both flags at once among them."""
    shape = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    real = hnp.arrays(np.float64, shape, elements=NUMBERS)
    flags = hnp.arrays(np.bool_, shape, elements=st.integers(0, 3).map(lambda n: n == 0))
    return Case(draw(real), draw(real), draw(real), draw(flags), draw(flags))


def consistent(case: Case) -> Case:
    """Where an episode goes on, V(s_{t+1}) is the next row's V(s_t)."""
    following = np.concatenate([case.value[1:], case.next_value[-1:]])
    return case._replace(next_value=np.where(case.done, case.next_value, following))


def each_row(case: Case, compute: Callable[[int, int], float]) -> np.ndarray:
    steps, columns = case.reward.shape
    return np.array([[compute(t, i) for i in range(columns)] for t in range(steps)])


def brute_gae(case: Case, discount: float, trace: float) -> np.ndarray:
    def delta(t: int, i: int) -> float:
        following = 0.0 if case.terminated[t, i] else case.next_value[t, i]
        return case.reward[t, i] + discount * following - case.value[t, i]

    def advantage(t: int, i: int) -> float:
        total = 0.0
        for ahead in range(len(case.reward) - t):
            open_so_far = np.prod([not case.done[t + j, i] for j in range(ahead)])
            total += (discount * trace) ** ahead * open_so_far * delta(t + ahead, i)
        return total

    return each_row(case, advantage)


def brute_n_step(case: Case, discount: float, steps: int, bootstrap: bool = True) -> np.ndarray:
    def returned(t: int, i: int) -> float:
        total, k = 0.0, 0
        while True:
            total += discount**k * case.reward[t + k, i]
            last = t + k
            k += 1
            if case.done[last, i] or k == steps or t + k == len(case.reward):
                break
        if bootstrap and not case.terminated[last, i]:
            total += discount**k * case.next_value[last, i]
        return total

    return each_row(case, returned)


def close(found: np.ndarray, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def estimates(case: Case, discount: float, trace: float) -> dict[str, np.ndarray]:
    reward, value, next_value, terminated, _ = case
    return {
        "gae": gae(reward, value, next_value, terminated, case.done, discount, trace),
        "reward_to_go": reward_to_go(reward, terminated, case.done, discount),
        "bootstrapped": reward_to_go(reward, terminated, case.done, discount, next_value),
    }


# ---------------------------------------------------------------------------------------------- brute force


@every_pattern
@given(cases(), FRACTIONS, FRACTIONS)
def test_gae_is_the_double_sum(case: Case, discount: float, trace: float) -> None:
    close(estimates(case, discount, trace)["gae"], brute_gae(case, discount, trace))


@every_pattern
@given(cases(), FRACTIONS)
def test_reward_to_go_is_the_sum_to_the_end_of_the_episode(case: Case, discount: float) -> None:
    found = estimates(case, discount, 1.0)
    close(found["reward_to_go"], brute_n_step(case, discount, steps=100, bootstrap=False))
    close(found["bootstrapped"], brute_n_step(case, discount, steps=100))


# --------------------------------------------------------------------------------------------- closed forms


@every_pattern
@given(cases(), FRACTIONS)
def test_trace_one_is_the_bootstrapped_reward_to_go_less_the_value(case: Case, discount: float) -> None:
    case = consistent(case)
    found = estimates(case, discount, 1.0)
    close(found["gae"], found["bootstrapped"] - case.value)


@every_pattern
@given(cases(), FRACTIONS)
def test_trace_zero_is_the_temporal_difference(case: Case, discount: float) -> None:
    target = case.reward + discount * np.where(case.terminated, 0.0, case.next_value)
    close(estimates(case, discount, 0.0)["gae"], target - case.value)


def test_without_discount_or_trace_the_advantage_is_what_is_left_less_the_value() -> None:
    reward = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    value = np.array([[10.0], [20.0], [30.0], [40.0], [50.0]])
    next_value = np.array([[20.0], [99.0], [40.0], [77.0], [60.0]])
    terminated = np.array([[0], [1], [0], [0], [0]], bool)
    truncated = np.array([[0], [0], [0], [1], [0]], bool)
    found = gae(reward, value, next_value, terminated, terminated | truncated, 1.0, 1.0)
    # Terminated: 99 counts for nothing. Truncated: 77 does. The tail goes on with 60.
    assert found.ravel().tolist() == [3.0 - 10, 2.0 - 20, 12.0 + 77 - 30, 8.0 + 77 - 40, 16.0 + 60 - 50]


def test_terminated_wins_where_both_flags_are_set() -> None:
    one, both = np.ones((1, 1)), np.ones((1, 1), bool)
    case = Case(one, 0 * one, 100 * one, both, both)
    found = estimates(case, 0.9, 0.9)
    assert all(estimate.item() == 1.0 for estimate in found.values())
    found = estimates(case._replace(terminated=~both), 0.9, 0.9)
    assert found.pop("reward_to_go").item() == 1.0  # no value to go on with
    assert all(estimate.item() == 91.0 for estimate in found.values())


@every_pattern
@given(cases(), st.integers(0, 5))
def test_nothing_flows_into_an_ended_episode_or_another_column(case: Case, end: int) -> None:
    end = min(end, len(case.reward) - 1)
    case.truncated[end, 0] = True
    changed = Case(*(field.copy() for field in case))
    for field in (changed.reward, changed.value, changed.next_value):
        field[end + 1 :, 0] += 100.0
    changed.terminated[end + 1 :, 0] ^= True
    before, after = estimates(case, 0.9, 0.9), estimates(changed, 0.9, 0.9)
    for name, estimate in before.items():
        np.testing.assert_array_equal(after[name][: end + 1, 0], estimate[: end + 1, 0])
        np.testing.assert_array_equal(after[name][:, 1:], estimate[:, 1:])


# ------------------------------------------------------------------------------------------ number formats


def test_float32_stays_float32() -> None:
    case = Case(*(np.ones((4, 2), np.float32) for _ in range(3)), *(np.zeros((4, 2), bool) for _ in range(2)))
    assert {estimate.dtype for estimate in estimates(case, 0.9, 0.9).values()} == {np.dtype(np.float32)}


def test_whole_rewards_are_not_cut_to_whole_returns() -> None:
    reward, off = np.ones((3, 1), np.int64), np.zeros((3, 1), bool)
    assert reward_to_go(reward, off, off, 0.5).ravel().tolist() == [1.75, 1.5, 1.0]


# ------------------------------------------------------------------------------------------ group baselines

groups = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 9)), elements=st.floats(-100, 100))


@every_pattern
@given(groups)
def test_leave_one_out_is_the_mean_of_the_others(returns: np.ndarray) -> None:
    count = returns.shape[-1]
    others = [np.delete(returns, i, axis=-1).mean(axis=-1) for i in range(count)]
    close(leave_one_out(returns), np.stack(others, axis=-1))
    own_mean = returns.mean(axis=-1, keepdims=True)
    close(batch_mean(returns), own_mean)
    close(returns - leave_one_out(returns), count / (count - 1) * (returns - own_mean))


@every_pattern
@given(st.floats(-1e6, 1e6, width=32), st.integers(2, 20), st.sampled_from([np.float32, np.float64]))
def test_equal_returns_leave_exactly_nothing(value: float, count: int, dtype: type) -> None:
    """Standardising, or Adam, would blow up whatever rounding left behind."""
    returns = np.full((3, count), value / 3, dtype)
    assert not (returns - batch_mean(returns)).any()
    assert not (returns - leave_one_out(returns)).any()


@pytest.mark.parametrize("compare", [batch_mean, leave_one_out, group_centred, group_standardized, elite])
def test_one_episode_has_no_others(compare: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(ValueError, match="episodes must be at least 2, since they are compared, got 1"):
        compare(np.ones((5, 1)))


# ----------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("field", "shape"), [("value", (3, 1)), ("next_value", (4, 2)), ("terminated", (3,)), ("done", (1, 2))]
)
def test_a_shape_that_does_not_fit_is_named(field: str, shape: tuple[int, ...]) -> None:
    good: dict[str, np.ndarray] = {name: np.zeros((3, 2)) for name in ("reward", "value", "next_value")}
    good |= {name: np.zeros((3, 2), bool) for name in ("terminated", "done")}
    bad = {**good, field: np.zeros(shape, good[field].dtype)}
    message = rf"{field} must have the shape of reward, \[3, 2\], got"
    with pytest.raises(ValueError, match=message):
        gae(**bad, discount=0.9, trace=0.9)
    without_value = {name: array for name, array in bad.items() if name != "value"}
    if field != "value":
        with pytest.raises(ValueError, match=message):
            reward_to_go(**without_value, discount=0.9)


def test_rewards_without_a_column_axis_are_refused() -> None:
    flat, flags = np.zeros(3), np.zeros(3, bool)
    with pytest.raises(ValueError, match=r"reward must have shape \[T, N\], got \[3\]"):
        reward_to_go(flat, flags, flags, 0.9)


@pytest.mark.parametrize("trace", [-0.1, 1.1, np.nan])
def test_trace_outside_the_unit_interval(trace: float) -> None:
    one, off = np.ones((2, 1)), np.zeros((2, 1), bool)
    with pytest.raises(ValueError, match=r"trace must lie in \[0, 1\]"):
        gae(one, one, one, off, off, 0.9, trace)
