"""The scaling of columns in estimators, and how many steps of which size the defaults make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from sklearn.datasets import load_iris, make_regression

from rlce import Classifier, Optimization, Regressor, checkpoint
from rlce.data import Standardizer
from rlce.supervised import scaling
from rlce.supervised.plan import plan_of
from rlce.supervised.scaling import RobustScaling, read_scaler

SMALL: dict[str, Any] = {"hidden": (8,), "epochs": 3, "random_state": 0}


def rows(count: int = 300, seed: int = 0) -> NDArray[np.float64]:
    """Gaussian, log-normal with a huge tail, small integers, constant."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 2))
    return np.stack([x[:, 0], np.exp(5.0 * x[:, 1]), random.integers(0, 4, count), np.full(count, 7.0)], axis=1)


def exact(column: NDArray[Any]) -> NDArray[Any]:
    """Φ⁻¹ of the share of values below, plus half that of equal ones."""
    return norm.ppf((rankdata(column, "average") - 0.5) / len(column))


@given(st.lists(st.integers(-50, 50), min_size=20, max_size=200).filter(lambda values: len(set(values)) > 1))
def test_beside_an_outlier_values_get_their_exact_normal_scores(values: list[int]) -> None:
    column = np.array([*values, 10**6], dtype=np.float64)[:, None]
    np.testing.assert_allclose(RobustScaling.learn(column)(column, np.float64)[:, 0], exact(column[:, 0]), atol=1e-12)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=200).filter(lambda values: len(set(values)) > 1))
def test_without_outliers_a_column_is_standardised(values: list[int]) -> None:
    column = np.array(values, dtype=np.float64)
    away = np.abs(column - column.mean())
    far = away.max() / away.mean()
    found = RobustScaling.learn(column[:, None])(column[:, None], np.float64)[:, 0]
    if abs(far - 8.0) > 1e-9:
        expected = exact(column) if far > 8.0 else (column - column.mean()) / column.std()
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_more_values_are_interpolated_closely() -> None:
    X = rows(20_000)
    scaling = RobustScaling.learn(X)
    Z = scaling(X, np.float64)
    error = np.abs(Z[:, 1] - exact(X[:, 1]))
    assert error[np.abs(Z[:, 1]) < 2.5].max() < 0.02
    assert error.max() < 0.35  # the largest few of 20,000, between which the table has no values
    assert abs(Z[:, 1].std() - 1.0) < 0.01
    assert scaling.knots.shape == scaling.scores.shape
    assert 100 < scaling.knots.shape[1] <= 128
    for column in (0, 2):
        expected = (X[:, column] - X[:, column].mean()) / X[:, column].std()
        np.testing.assert_allclose(Z[:, column], expected, atol=1e-12)


def test_of_heavy_tails_only_the_order_counts() -> None:
    x = rows()[:100, 1:2]
    one, other = (RobustScaling.learn(each)(each, np.float64) for each in (x, x**3))
    np.testing.assert_array_equal(one, other)


def test_scalings_are_monotone_stay_at_their_ends_and_are_zero_for_a_constant() -> None:
    X = rows()
    scaling = RobustScaling.learn(X)
    line = np.repeat(np.linspace(-1e3, 1e3, 5_001)[:, None], 4, axis=1)
    assert (np.diff(scaling(line, np.float64), axis=0) >= 0).all()
    assert not scaling(line)[:, 3].any()
    far = scaling(np.array([[1e9] * 4, [-1e9] * 4]))
    np.testing.assert_array_equal(far[:, 0], [10.0, -10.0])
    beyond = X.copy()
    beyond[:, 1] = X[:, 1].max() * 10.0
    np.testing.assert_array_equal(scaling(beyond)[:, 1], scaling(X)[:, 1].max())
    assert scaling(X + 3.0 * X.std(axis=0))[:, 0].max() > 5.0  # it goes on beyond the training rows


def test_a_broken_row_hardly_moves_the_others() -> None:
    X = rows(2_000)
    broken = X.copy()
    broken[17] = 1e300
    before, after = RobustScaling.learn(X)(X)[:, :2], RobustScaling.learn(broken)(X)[:, :2]
    assert np.abs(before - after)[(np.abs(before) < 2.0) & (np.arange(2_000) != 17)[:, None]].max() < 0.15
    standard = Standardizer(4)
    standard.update(np.minimum(broken, 1e6))
    assert np.abs(standard(X)[:, 0]).max() < 0.03  # what standardising leaves of the column


@pytest.mark.parametrize("large", [1e308, 1e-300])
def test_extreme_values_give_finite_inputs(large: float) -> None:
    X = np.array([[-large], [0.0], [large]])
    with np.errstate(all="raise", under="ignore"):
        scaling = RobustScaling.learn(X)
        Z = scaling(X)
    end = 0.967 if large > 1.0 else 1.5**0.5
    assert Z.ravel().tolist() == pytest.approx([-end, 0.0, end], abs=1e-3)


def test_a_column_of_rounding_noise_is_constant_and_close_times_are_not() -> None:
    noise = 1e6 + np.array([[0.0], [1e-10], [2e-10]])
    assert not RobustScaling.learn(noise)(noise).any()
    times = 1.7e9 + np.array([[0.0], [2.0], [4.0]])
    assert RobustScaling.learn(times)(times)[2, 0] > 0.9


def test_a_weight_of_two_is_a_repeated_row() -> None:
    X, weight = rows(), np.random.default_rng(1).integers(1, 4, 300)
    one, other = RobustScaling.learn(X, weight.astype(float)), RobustScaling.learn(np.repeat(X, weight, axis=0))
    np.testing.assert_array_equal(one.knots, other.knots)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert one.count == other.count == weight.sum()


def test_of_very_many_rows_a_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    X = rows(5_000)
    whole = RobustScaling.learn(X)
    monkeypatch.setattr(scaling, "_ROWS", 1_000)
    part, again = RobustScaling.learn(X), RobustScaling.learn(X)
    np.testing.assert_array_equal(part.knots, again.knots)
    assert part.count == 5_000
    assert np.abs(part(X) - whole(X))[:, 1].max() > 0.01
    assert np.abs(part(X) - whole(X))[np.abs(whole(X)) < 1.5].max() < 0.2
    weighted = RobustScaling.learn(X, np.where(np.arange(5_000) < 2_500, 3.0, 1.0))
    assert weighted.count == 10_000


# What estimators do with it.


@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_estimators_learn_from_the_order_of_heavy_tailed_values_alone(kind: Any) -> None:
    X = np.exp(3.0 * np.random.default_rng(0).normal(size=(120, 4)))
    y = (X[:, 0] > X[:, 1]).astype(int)
    one, other = (kind(**SMALL).fit(each, y) for each in (X, X**2))
    np.testing.assert_array_equal(one.predict(X), other.predict(X**2))
    standard = [kind(**SMALL, scaling="standard").fit(each, y)._outputs(each) for each in (X, X**2)]
    assert (standard[0] != standard[1]).any()


def test_the_scaling_is_that_of_the_parameter() -> None:
    X, y = load_iris(return_X_y=True)
    found = {kind: Classifier(**SMALL, scaling=kind).fit(X, y).fitted_.training.scaler for kind in
             ("robust", "standard", None)}  # fmt: skip
    np.testing.assert_array_equal(found["robust"](X), RobustScaling.learn(X)(X))
    np.testing.assert_allclose(found["standard"](X), (X - X.mean(axis=0)) / X.std(axis=0), atol=1e-6)
    np.testing.assert_array_equal(found[None](X), X.astype(np.float32))


def test_sample_weights_count_in_the_scaling() -> None:
    X, y = load_iris(return_X_y=True)
    weight = np.arange(150) % 3
    scaler = Classifier(**SMALL).fit(X, y, sample_weight=weight).fitted_.training.scaler
    np.testing.assert_array_equal(scaler(X), RobustScaling.learn(np.repeat(X, weight, axis=0))(X))


def test_partial_fit_keeps_the_scaling_of_a_fit_and_standardises_without_one() -> None:
    X, y = load_iris(return_X_y=True)
    fitted = Classifier(**SMALL).fit(X, y)
    before = fitted.fitted_.training.scaler(X)
    fitted.partial_fit(X[:100] * 50.0, y[:100])
    np.testing.assert_array_equal(fitted.fitted_.training.scaler(X), before)
    fresh = Classifier(**SMALL).partial_fit(X[::2], y[::2], classes=[0, 1, 2]).partial_fit(X[1::2], y[1::2])
    np.testing.assert_allclose(fresh.fitted_.training.scaler(X), (X - X.mean(axis=0)) / X.std(axis=0), atol=1e-5)


@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_a_file_holds_the_tables(kind: Any, tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    one = kind(**SMALL).fit(X, y)
    one.save(tmp_path / "one")
    other = kind.load(tmp_path / "one")
    np.testing.assert_array_equal(other.predict(X), one.predict(X))
    assert other.scaling == "robust"
    np.testing.assert_array_equal(other.partial_fit(X, y).predict(X), one.partial_fit(X, y).predict(X))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.update({"scaler.knots": state["scaler.knots"][:3]}), "tables of other columns than 4"),
        (lambda state: state.update({"scaler.scores": state["scaler.scores"][:, :3]}), "tables of other columns"),
        (lambda state: state["scaler.knots"].fill_(float("nan")), "must be finite and increasing"),
        (lambda state: state["scaler.scores"].neg_(), "must be finite and increasing"),
        (lambda state: state["scaler.knots"].neg_(), "must be finite and increasing"),
    ],
)
def test_damaged_tables_are_refused(spoil: Any, message: str, tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True)
    Classifier(**SMALL).fit(np.exp(3.0 * X), y).save(tmp_path / "one")
    config, tensors = checkpoint.load(tmp_path / "one", "Classifier")
    spoil(tensors)
    checkpoint.save(tmp_path / "two", "Classifier", config, tensors)
    with pytest.raises(ValueError, match=message):
        Classifier.load(tmp_path / "two")


def test_files_of_earlier_versions_have_a_standardizer() -> None:
    standardizer = Standardizer(4)
    standardizer.update(rows())
    state = {f"standardizer.{name}": value for name, value in standardizer.state_dict().items()}
    np.testing.assert_array_equal(read_scaler(state, 4)(rows()), standardizer(rows()))
    with pytest.raises(ValueError, match="must be of rows of width 3"):
        read_scaler(state, 3)


def test_a_wrong_scaling_is_refused() -> None:
    for wrong in ("quantile", True, 1):
        with pytest.raises(ValueError, match=f'scaling must be "robust", "standard" or None, got {wrong!r}'):
            Classifier(scaling=wrong).fit([[0.0], [1.0]], [0, 1])  # type: ignore[arg-type]


# The default numbers of steps and rows a step.


@pytest.mark.parametrize(
    ("count", "batch_size", "epochs"),
    [
        (5, 16, 1_000),
        (112, 16, 143),  # 7 steps an epoch
        (426, 16, 38),
        (2_250, 128, 106),
        (11_250, 256, 97),
        (131_071, 256, 29),
        (131_072, 512, 57),
        (1_000_000, 1_024, 41),
    ],
)
def test_small_data_get_a_thousand_steps_and_large_data_40_root_n(count: int, batch_size: int, epochs: int) -> None:
    plan = plan_of(Classifier().get_params())
    assert (plan.rows_a_step(count), plan.passes(count)) == (batch_size, epochs)
    steps = -(-count // batch_size)
    assert (epochs - 1) * steps < max(1_000, 40 * count**0.5) <= epochs * steps


@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_the_defaults_train_as_long_as_they_say(kind: Any) -> None:
    X, y = load_iris(return_X_y=True)
    one = kind(hidden=(4,), random_state=0).fit(X, y)
    assert one.n_epochs_ == 100  # ⌈1,000 / ⌈150 / 16⌉⌉
    assert Classifier(hidden=(4,), batch_size=150, random_state=0).fit(X, y).n_epochs_ == 1_000


@pytest.mark.parametrize(
    ("function", "share"), [(lambda x: 3.0 * x, 0.03), (lambda x: np.sin(4.0 * x), 0.15)], ids=["line", "sine"]
)
def test_the_defaults_learn_a_function_of_one_column(function: Any, share: float) -> None:
    """Weights that begin too small in the first layer, or bends all in one place, learn next to nothing of it."""
    X, between = np.linspace(-1.0, 1.0, 200)[:, None], np.linspace(-0.95, 0.95, 333)
    predicted = Regressor(random_state=0).fit(X, function(X[:, 0])).predict(between[:, None])
    wanted = function(between)
    assert np.sqrt(np.mean((predicted - wanted) ** 2)) < share * wanted.std()


def test_an_optimiser_by_name_goes_down_a_cosine_but_not_in_partial_fit() -> None:
    X, y = make_regression(64, 3, random_state=0)
    rates = [epoch["train/learning_rate"] for epoch in Regressor(hidden=(4,), epochs=10).fit(X, y).history_]
    factors = 0.5 * (1.0 + np.cos(np.pi * np.arange(10) / 10))  # changes from epoch to epoch
    np.testing.assert_allclose(rates, 1e-3 * factors, rtol=1e-5)
    constant = Regressor(hidden=(4,), epochs=3, optimizer=Optimization("adam", 0.01)).fit(X, y)
    assert [epoch["train/learning_rate"] for epoch in constant.history_] == [0.01] * 3
    assert constant.partial_fit(X, y).history_[-1]["train/learning_rate"] == 0.01
    named = Regressor(hidden=(4,), epochs=3, optimizer="adamw", learning_rate=0.02).fit(X, y).partial_fit(X, y)
    assert named.history_[-1]["train/learning_rate"] == 0.02


def test_dropout_draws_each_unit_with_its_rate_and_keeps_the_mean() -> None:
    from rlce.network import Dropout

    dropout = Dropout(0.2, seed=3).train()
    x = torch.ones(1_001, 999, requires_grad=True)
    y = dropout(x)
    dropped = (y == 0).float()
    assert abs(dropped.mean().item() - 0.2) < 0.002
    assert abs(y.mean().item() - 1.0) < 0.003
    assert dropped.mean(dim=0).std().item() == pytest.approx((0.16 / 1_001) ** 0.5, rel=0.1)  # units are independent
    neighbours = np.corrcoef(dropped[:, :-1].ravel(), dropped[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.005
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach(), rtol=0, atol=0)
    assert Dropout(0.999999, seed=0).train()(x).isfinite().all()
