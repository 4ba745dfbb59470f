"""Arrays in memory: one pass sees each row once, statistics merge exactly, and reward scaling stays in its episode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import StandardScaler

from rlce.data import ReturnScale, Standardizer, minibatches


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------- minibatches


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 60), st.one_of(st.none(), st.integers(1, 70)))
def test_a_pass_sees_each_row_once(rows: int, batch_size: int | None) -> None:
    batches = list(minibatches(rows, batch_size, seeded()))
    size = min(batch_size or rows, rows)
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert len(batches[-1]) == rows - size * (len(batches) - 1) > 0
    assert sorted(torch.cat(batches).tolist()) == list(range(rows))


def test_the_generator_fixes_the_order_and_each_pass_has_its_own() -> None:
    generator = seeded(3)
    first, second = (torch.cat(list(minibatches(100, 7, generator))) for _ in range(2))
    assert torch.equal(torch.cat(list(minibatches(100, 7, seeded(3)))), first)
    assert not torch.equal(first, second)
    assert first.tolist() != list(range(100))


@pytest.mark.parametrize(
    ("rows", "batch_size", "message"),
    [(0, 4, "rows must be at least 1, got 0"), (5, 0, "batch_size must be at least 1, got 0")],
)
def test_no_rows_or_no_batch_size(rows: int, batch_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(minibatches(rows, batch_size, seeded()))


# --------------------------------------------------------------------------------------------- Standardizer


def standardized(rows: np.ndarray, *parts: np.ndarray, clip: float | None = None) -> tuple[np.ndarray, Standardizer]:
    standardizer = Standardizer(rows.shape[1], clip)
    for part in parts or (rows,):
        standardizer.update(part)
    return standardizer(rows), standardizer


@settings(deadline=None, max_examples=100)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.just(2)), elements=st.floats(-1e3, 1e3)),
    st.lists(st.integers(0, 30), max_size=5),
)
def test_parts_merge_into_the_whole(rows: np.ndarray, cuts: list[int]) -> None:
    """Empty parts among them."""
    _, merged = standardized(rows, *np.split(rows, sorted(min(cut, len(rows)) for cut in cuts)))
    np.testing.assert_allclose(merged.mean, rows.mean(axis=0), rtol=0, atol=1e-9)
    np.testing.assert_allclose(merged.variance, rows.var(axis=0), rtol=1e-9, atol=1e-9)
    assert merged.count == len(rows)


@pytest.mark.parametrize(
    ("offset", "spread"),
    [(0.0, 1.0), (-3.0, 20.0), (1e6, 10.0), (1e6, 0.5), (1e9, 100.0), (0.0, 1e-7), (1e-5, 1e-8), (0.0, 1e12)],
)
def test_equals_scikit_learns_scaler(offset: float, spread: float) -> None:
    rows = offset + spread * np.random.default_rng(0).standard_normal((500, 3))
    found, _ = standardized(rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, StandardScaler().fit_transform(rows), rtol=1e-5, atol=1e-5)


def test_a_large_offset_in_many_parts_loses_nothing() -> None:
    spread = np.random.default_rng(0).standard_normal((2000, 2)) * [1.0, 100.0]
    rows = 1e8 + spread  # E x² − (E x)² would have no digit left
    _, standardizer = standardized(rows, *np.split(rows, 400))
    exact = rows - 1e8
    np.testing.assert_allclose(standardizer.variance, exact.var(axis=0), rtol=1e-7)
    np.testing.assert_allclose(standardizer.mean - 1e8, exact.mean(axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e9 / 3])
@pytest.mark.parametrize("noise", [0.0, 1e-10])
def test_a_column_that_is_nearly_constant_has_no_influence(value: float, noise: float) -> None:
    rows = value * (1.0 + noise * np.random.default_rng(0).standard_normal((301, 1)))
    found, standardizer = standardized(rows, *np.array_split(rows, 7))
    np.testing.assert_array_equal(found, 0.0)
    np.testing.assert_array_equal(standardizer(rows + 1e9), 0.0)
    standardizer.update(rows + 1.0 + abs(value))  # now it varies
    assert standardizer(rows + 1.0 + abs(value)).min() > 0.5


@pytest.mark.parametrize(("offset", "dtype"), [(1e6, np.float32), (1.7e9, np.float64)])  # the second: Unix times
def test_a_column_that_varies_little_keeps_its_influence(offset: float, dtype: type) -> None:
    rows = (offset + 3.0 * np.arange(4.0)[:, None]).astype(dtype)
    np.testing.assert_allclose(standardized(rows)[0], StandardScaler().fit_transform(rows), rtol=1e-6)


def test_clip_bounds_what_a_call_returns() -> None:
    rows = np.array([[-1.0], [1.0]])
    _, standardizer = standardized(rows, clip=2.0)
    assert standardizer(np.array([[-9.0], [0.5], [9.0]])).tolist() == [[-2.0], [0.5], [2.0]]


def test_a_call_changes_neither_the_statistics_nor_its_input_and_none_are_needed() -> None:
    rows = np.array([[1.0, -5.0], [3.0, 5.0]])
    assert Standardizer(2)(rows).tolist() == rows.tolist()
    _, standardizer = standardized(rows)
    later = np.array([[100.0, 100.0]])
    standardizer(later)
    assert standardizer.mean.tolist() == [2.0, 0.0]
    assert standardizer.variance.tolist() == [1.0, 25.0]
    assert later.tolist() == [[100.0, 100.0]]


def test_restored_statistics_scale_alike() -> None:
    rows = np.random.default_rng(0).normal(3.0, 2.0, (50, 2))
    expected, standardizer = standardized(rows)
    twin = Standardizer(2)
    twin.restore(standardizer.mean, standardizer.variance, standardizer.count)
    np.testing.assert_array_equal(twin(rows), expected)
    twin.update(rows + 1)
    standardizer.update(rows + 1)
    np.testing.assert_array_equal(twin(rows), standardizer(rows))


# ---------------------------------------------------------------------------------------------- ReturnScale


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 3), st.sampled_from([0.0, 0.9, 1.0]))
def test_return_scale_follows_each_episode_alone(seed: int, steps: int, columns: int, discount: float) -> None:
    """Two rollouts in a row; episodes go on from one to the next."""
    generator = np.random.default_rng(seed)
    scale, sums = ReturnScale(discount), []
    carried = [0.0] * columns
    for _ in range(2):
        reward = generator.normal(size=(steps, columns))
        valid = generator.random((steps, columns)) < 0.8
        done = valid & (generator.random((steps, columns)) < 0.3)
        scale.update(reward, done, valid)
        for i in range(columns):
            so_far = carried[i]
            for t in range(steps):
                if valid[t, i]:  # the reward of a ghost row is rubbish here, and must not count
                    so_far = discount * so_far + reward[t, i]
                    sums.append(so_far)
                    if done[t, i]:
                        so_far = 0.0
            carried[i] = so_far
    assert scale.statistics.count == len(sums)
    deviation = np.std(sums) if sums else 1.0
    assert scale.factor == pytest.approx(1 / deviation if deviation > 1e-8 else 1.0, rel=1e-8)


def test_return_scale_by_hand() -> None:
    scale = ReturnScale(discount=0.5)
    assert scale.factor == 1.0
    reward = np.array([[2.0], [4.0], [100.0], [7.0]])
    done, valid = (np.array([flags], bool).T for flags in ([0, 1, 0, 0], [1, 1, 0, 1]))
    scale.update(reward, done, valid)
    # g = 2, ½·2 + 4 = 5, then the end, a ghost, and 7 anew.
    assert scale.statistics.mean.item() == pytest.approx(14 / 3)
    assert scale.factor == pytest.approx(1 / np.std([2, 5, 7]))


def test_returns_that_never_vary_are_not_scaled() -> None:
    scale = ReturnScale(discount=0.0)
    on = np.ones((9, 2), bool)
    scale.update(np.full((9, 2), 3.0), ~on, on)
    assert scale.factor == 1.0
