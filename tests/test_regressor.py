"""Regression costs and heads against closed forms, and `Regressor` on tasks whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import QuantileRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from torch import Tensor, nn
from torch.nn import functional as F

from rlce import Optimization, Regressor, checkpoint
from rlce.heads import Each, Gaussian, Quantiles, absolute, huber, pinball, quantile_levels, squared
from rlce.network import MLP
from rlce.supervised.loss import Batch, Loss
from rlce.supervised.regressor import head_of, weighted_quantiles

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)

pytestmark = pytest.mark.filterwarnings("ignore:training stopped short")  # most tests train for few epochs


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------- costs


def test_costs_are_torch_s() -> None:
    random = torch.Generator().manual_seed(0)
    outputs, target = (3 * torch.randn(200, generator=random, dtype=torch.float64) for _ in range(2))
    for delta in (0.3, 1.0, 5.0):
        torch.testing.assert_close(
            huber(outputs, target, delta), F.huber_loss(outputs, target, reduction="none", delta=delta)
        )
    torch.testing.assert_close(absolute(outputs, target), F.l1_loss(outputs, target, reduction="none"))
    torch.testing.assert_close(squared(outputs, target), 0.5 * F.mse_loss(outputs, target, reduction="none"))
    torch.testing.assert_close(pinball(outputs, target, 0.5), 0.5 * absolute(outputs, target))


@given(values=st.lists(st.floats(-100, 100), min_size=1, max_size=30), level=st.sampled_from(LEVELS))
@settings(max_examples=60, deadline=None)
def test_the_pinball_cost_is_least_at_the_quantile(values: list[float], level: float) -> None:
    target = double(*values)
    (quantile,) = weighted_quantiles(np.array(values), np.ones(len(values)), [level])
    least = pinball(double(quantile), target, level).mean()
    for other in values:
        assert least <= pinball(double(other), target, level).mean() + 1e-9


@given(st.lists(st.tuples(st.floats(-50, 50), st.integers(1, 4)), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def testweighted_quantiles_are_those_of_repeated_rows(pairs: list[tuple[float, int]]) -> None:
    values, weights = (np.array(column) for column in zip(*pairs, strict=True))
    expected = np.quantile(np.repeat(values, weights), (0.25, 0.5, 0.75), method="inverted_cdf")
    found = weighted_quantiles(values, weights / weights.mean(), (0.25, 0.5, 0.75))
    np.testing.assert_array_equal(found, expected)


def test_huber_s_gradient_is_bounded_and_continuous() -> None:
    outputs = double(0, 0, 0, 0).requires_grad_()
    huber(outputs, double(0.5, 1.0, 1.0 + 1e-9, 1e6)).sum().backward()
    torch.testing.assert_close(outputs.grad, -double(0.5, 1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="delta must be positive and finite, got 0"):
        huber(outputs, outputs, 0)


# ------------------------------------------------------------------------------------------------------- heads


@given(st.lists(st.floats(-700, 700), min_size=5, max_size=5))
@settings(max_examples=100, deadline=None)
def test_quantiles_never_cross_whatever_the_outputs(outputs: list[float]) -> None:
    head = Quantiles(LEVELS)
    values = head.values(double(*outputs))
    assert (values.diff() >= 0).all()
    assert values[2] == outputs[2]
    grid = head.quantiles(double(*outputs), np.linspace(0.05, 0.95, 19))
    assert (grid.diff() >= -1e-9).all()
    np.testing.assert_allclose(grid[[0, 4, 9, 14, 18]], values, rtol=1e-12, atol=1e-9)


def test_any_rising_quantiles_can_be_said() -> None:
    """The parametrisation loses nothing: its inverse, by hand."""
    wanted = double(-3.0, -1.0, 0.5, 0.6, 4.0)
    steps = wanted.diff().expm1().log()  # the inverse of softplus
    outputs = torch.cat((steps[:2], wanted[2:3], steps[2:]))
    torch.testing.assert_close(Quantiles(LEVELS).values(outputs), wanted)


def test_quantiles_cost_is_the_sum_of_pinballs() -> None:
    head, outputs, target = Quantiles((0.1, 0.5, 0.9)), double(0.3, 1.0, -0.2), double(2.0)
    expected = sum(
        pinball(value, target[0], level) for value, level in zip(head.values(outputs), head.levels, strict=True)
    )
    torch.testing.assert_close(head.cost(outputs, target), expected)


def test_a_gaussian_head_that_learns_its_scale_is_scipy_s() -> None:
    outputs, target = np.array([[1.0, 0.5], [-2.0, -1.0]]), np.array([0.3, -2.5])
    law = stats.norm(outputs[:, 0], np.exp(outputs[:, 1]))
    head = Gaussian(scale=None)
    cost = head.cost(torch.from_numpy(outputs), torch.from_numpy(target)[:, None])
    np.testing.assert_allclose(cost, -law.logpdf(target))
    found = head.quantiles(torch.from_numpy(outputs), np.array(LEVELS))
    np.testing.assert_allclose(found, np.stack([law.ppf(level) for level in LEVELS], axis=1))


def test_levels_always_hold_the_median() -> None:
    assert quantile_levels(0.5) == (0.5,)
    assert quantile_levels([0.9, 0.9, 0.8]) == (0.5, 0.8, 0.9)
    only = Quantiles((0.5,))
    np.testing.assert_array_equal(only.quantiles(torch.tensor([[3.0]]), np.array([0.5])), [[3.0]])


# --------------------------------------------------------------------------------------------------- estimator


def line(rows: int = 400, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    X = random.uniform(-1, 1, (rows, 1))
    return X, 2.0 * X[:, 0] + (0.2 + 0.3 * (X[:, 0] > 0)) * random.normal(size=rows)


def fit(X: Any, y: Any, **settings_: Any) -> Regressor:
    return Regressor(**{"hidden": (16,), "epochs": 200, "learning_rate": 0.01, "random_state": 0, **settings_}).fit(
        X, y
    )


def fit_to(X: Any, y: Any, validation_set: Any, **settings_: Any) -> Regressor:
    return Regressor(random_state=0, **settings_).fit(X, y, validation_set=validation_set)


def test_a_constant_input_gives_each_cost_s_optimum() -> None:
    """No input tells the rows apart: mean, median, quantiles, and mean and deviation."""
    y = np.concatenate([np.arange(99.0), [10_000.0]])
    X = np.zeros((100, 1))
    settings_: dict[str, Any] = {"hidden": (), "batch_size": 100, "epochs": 4000, "learning_rate": 0.005}
    assert fit(X, y, cost="squared", **settings_).predict(X[:1])[0] == pytest.approx(y.mean(), rel=1e-3)
    assert 48 <= fit(X, y, cost="absolute", **settings_).predict(X[:1])[0] <= 50
    quantile = fit(X, y, cost="quantile", quantiles=(0.1, 0.9), **settings_)
    low, high = quantile.predict_quantiles(X[:1])[0]
    assert 8.5 <= low <= 10.5
    assert 88.5 <= high <= 90.5
    assert 48 <= quantile.predict(X[:1])[0] <= 50
    gaussian = fit(X[:99], y[:99], cost="gaussian", **settings_)
    law = stats.norm(y[:99].mean(), y[:99].std())
    np.testing.assert_allclose(gaussian.predict_interval(X[:1], 0.5)[0], law.interval(0.5), rtol=0.01)
    by_huber = fit(X, y, cost="huber", delta=0.5, **settings_)
    centre, unit = by_huber.predict(X[:1])[0], by_huber.target_scale_
    pull = np.clip((y - centre) / unit, -0.5, 0.5).sum()  # the optimum's condition
    assert abs(pull) < 0.1


@pytest.mark.parametrize("cost", ["quantile", "gaussian"])
def test_intervals_cover_what_they_say_where_spread_varies(cost: str) -> None:
    X, y = line(4000)
    model = fit(X, y, cost=cost, epochs=60, batch_size=128, dropout=0.0)  # dropout widens the inner intervals
    test_X, test_y = line(4000, seed=1)
    for coverage in (0.5, 0.9):
        low, high = model.predict_interval(test_X, coverage).T
        inside = (low <= test_y) & (test_y <= high)
        for side in (test_X[:, 0] > 0.1, test_X[:, 0] < -0.1):
            assert inside[side].mean() == pytest.approx(coverage, abs=0.05)
    wide = np.diff(model.predict_interval([[-0.5], [0.5]], 0.9)).ravel()
    assert wide[1] / wide[0] == pytest.approx(2.5, rel=0.2)
    quantiles = model.predict_quantiles(test_X)
    assert quantiles.shape == (4000, 5)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    np.testing.assert_allclose(quantiles[:, 2], model.predict(test_X), rtol=1e-6)


@pytest.mark.parametrize("cost", ["squared", "absolute", "huber", "quantile", "gaussian"])
def test_conformal_intervals_cover_what_they_say_however_wrong_the_network(cost: str, tmp_path: Path) -> None:
    """Trained for hardly any time, so that nothing it says of spread is right: over splits the coverage still is."""
    inside: dict[float, list[float]] = {0.5: [], 0.9: []}
    for seed in range(8):
        X, y = line(600, seed=seed)
        settings_: dict[str, Any] = {"epochs": 2, "hidden": (8,), "conformal": True, "random_state": seed}
        model = fit(X[:400], y[:400], cost=cost, validation_split=0.5, **settings_)
        for coverage, parts in inside.items():
            low, high = model.predict_interval(X[400:], coverage).T
            assert (low <= high).all()
            parts.append(((low <= y[400:]) & (y[400:] <= high)).mean())
    # A split's coverage has a standard error of about sqrt(c(1-c)/200 + c(1-c)/200); the mean of 8 a third of that.
    assert np.mean(inside[0.5]) == pytest.approx(0.5, abs=0.06)
    assert np.mean(inside[0.9]) == pytest.approx(0.9, abs=0.035)
    model.save(tmp_path / "r")
    loaded = Regressor.load(tmp_path / "r")
    np.testing.assert_array_equal(loaded.predict_interval(X, 0.9), model.predict_interval(X, 0.9))


def test_conformal_widening_by_hand() -> None:
    """With a network that always says 0, the bounds are quantiles of the held-out targets' size."""

    class Zero(nn.Module):
        def __init__(self, n_inputs: int, n_outputs: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(n_outputs))

        def forward(self, x: Tensor) -> Tensor:
            return 0.0 * self.weight.expand(len(x), -1)

    held = np.arange(1.0, 20.0)  # 19 rows: the 0.9 of 20 is the 18th
    X, y = np.zeros((40, 1)), np.tile([-1.0, 1.0], 20)
    model = fit_to(X, y, network=Zero, conformal=True, epochs=1, validation_set=(np.zeros((19, 1)), held))
    np.testing.assert_allclose(model.predict_interval(X[:1], 0.9), [[-18.0, 18.0]])
    np.testing.assert_allclose(model.predict_interval(X[:1], 0.5), [[-10.0, 10.0]])


def test_linear_quantiles_are_scikit_learn_s() -> None:
    """Without hidden units the median is that of the linear program that scikit-learn solves."""
    X, y = line(300)
    exact = QuantileRegressor(quantile=0.5, alpha=0.0).fit(X, y)
    ours = fit(X, y, cost="absolute", hidden=(), epochs=3000, batch_size=300, learning_rate=0.003, scaling="standard")
    assert np.abs(ours.predict(X) - y).mean() <= np.abs(exact.predict(X) - y).mean() * 1.002


def test_robust_costs_do_not_follow_outliers() -> None:
    X, y = line(400)
    spoilt = y.copy()
    spoilt[::20] += 50.0
    clean_X, clean_y = line(400, seed=1)
    error = {
        cost: np.abs(fit(X, spoilt, cost=cost).predict(clean_X) - clean_y).mean()
        for cost in ("squared", "absolute", "huber")
    }
    assert error["squared"] > 1.5
    assert max(error["absolute"], error["huber"]) < 0.5


@pytest.mark.parametrize("cost", ["squared", "absolute", "huber", "quantile", "gaussian"])
def test_targets_in_any_unit_give_the_same_predictions(cost: str) -> None:
    X, y = line(100)
    one, other = fit(X, y, cost=cost, epochs=20), fit(X, 1000.0 * y - 5e5, cost=cost, epochs=20)
    np.testing.assert_allclose(1000.0 * one.predict(X) - 5e5, other.predict(X), rtol=1e-5)


def test_a_constant_target_is_predicted() -> None:
    for cost in ("squared", "absolute", "quantile"):
        np.testing.assert_allclose(
            fit(np.arange(20.0)[:, None], np.full(20, 7.0), cost=cost).predict([[3.0]]), 7.0, atol=0.05
        )


@pytest.mark.parametrize("cost", ["squared", "huber", "quantile", "gaussian"])
def test_saved_and_loaded(tmp_path: Path, cost: str) -> None:
    X, y = load_diabetes(return_X_y=True)
    model = fit(X, y, cost=cost, epochs=3, quantiles=[0.1, 0.9])
    model.save(tmp_path / "r")
    loaded = Regressor.load(tmp_path / "r")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    if cost in ("quantile", "gaussian"):
        np.testing.assert_array_equal(loaded.predict_quantiles(X), model.predict_quantiles(X))
    loaded.fit(X, y)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize("cost", ["squared", "absolute", "huber", "quantile", "gaussian"])
def test_the_unit_of_targets_follows_all_calls_of_partial_fit(cost: str) -> None:
    """Five nearly equal targets first: with their scale for ever, R² stayed below 0."""
    X, y = line(3205)
    one = Regressor(cost=cost, learning_rate=0.01, hidden=(16,), random_state=0)
    one.partial_fit(X[:5], 3.0 + 1e-9 * y[:5])
    for start in range(5, 3205, 16):
        one.partial_fit(X[start : start + 16], y[start : start + 16])
    test_X, test_y = line(1000, seed=1)
    assert one.score(test_X, test_y) > 0.8
    if cost in ("squared", "gaussian"):
        seen = np.r_[3.0 + 1e-9 * y[:5], y[5:]]
        assert one.target_location_ == pytest.approx(seen.mean())
        assert one.target_scale_ == pytest.approx(seen.std())


@pytest.mark.parametrize("cost", ["squared", "absolute", "huber", "quantile", "gaussian"])
def test_predictions_stay_where_the_unit_of_targets_moves(cost: str) -> None:
    """Ten targets far off, with a learning rate that learns nothing from them."""
    X, y = line(400)
    one = fit(X, y, cost=cost, epochs=30, scaling=None)
    before, unit = one.predict(X), one.target_scale_
    one.set_params(learning_rate=1e-12).partial_fit(X[:10], 1_000.0 + y[:10])
    assert one.target_scale_ > 50 * unit
    np.testing.assert_allclose(one.predict(X), before, atol=1e-3)


def test_predictions_that_overflow_are_refused() -> None:
    X = np.linspace(-1.0, 1.0, 40)[:, None]
    one = fit(X, 1e153 * X[:, 0], cost="gaussian", epochs=3)
    with torch.no_grad():
        one.network_.layers[-1].bias += 600.0  # type: ignore[union-attr,index,operator]
    with pytest.raises(ValueError, match="X: the prediction for row 0 is not finite"):
        one.predict_interval(X)
    with pytest.raises(ValueError, match="X: the prediction for row 0 is not finite"):
        one.predict_quantiles(X)


def test_a_network_of_one_s_own(tmp_path: Path) -> None:
    X, y = line(200)

    def factory(n_inputs: int, n_outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n_inputs, 8), nn.GELU(), nn.Linear(8, n_outputs))

    model = fit(X, y, cost="quantile", network=factory)
    assert model.score(X, y) > 0.8
    model.save(tmp_path / "r")
    np.testing.assert_array_equal(Regressor.load(tmp_path / "r", network=factory).predict(X), model.predict(X))


COSTS = r"cost must be one of squared, absolute, huber, quantile, gaussian \(or squared_error, absolute_error\), "


@pytest.mark.parametrize(("word", "name"), [("squared_error", "squared"), ("absolute_error", "absolute")])
def test_scikit_learn_s_words_for_costs(word: str, name: str, tmp_path: Path) -> None:
    """The same fit, also where the unit of the targets depends on the cost; the file has one name a cost."""
    X, y = line(100)
    one, other = fit(X, y, cost=word, epochs=3), fit(X, y, cost=name, epochs=3)
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    np.testing.assert_array_equal(one.partial_fit(X, y).predict(X), other.partial_fit(X, y).predict(X))
    assert one.get_params()["cost"] == clone(one).cost == word
    with pytest.raises(ValueError, match=f'cost: "{name}" predicts no spread'):
        one.predict_interval(X)
    one.save(tmp_path / "r")
    loaded = Regressor.load(tmp_path / "r")
    assert loaded.cost == name
    np.testing.assert_array_equal(loaded.predict(X), one.predict(X))
    search = GridSearchCV(Regressor(hidden=(), epochs=1, random_state=0), {"cost": [name, word]}, cv=2).fit(X, y)
    assert np.ptp(search.cv_results_["mean_test_score"]) == 0


def test_bad_input() -> None:
    X, y = line(40)
    for quantiles in ((0.0, 0.5), (1.0,), (-0.1,), (np.nan,), (), ((0.1, 0.2), (0.3, 0.4))):
        with pytest.raises(ValueError, match=r"quantiles must be numbers in \(0, 1\)"):
            fit(X, y, cost="quantile", quantiles=quantiles)
    with pytest.raises(ValueError, match=COSTS + "got 'l2'"):
        fit(X, y, cost="l2")
    with pytest.raises(ValueError, match=COSTS + "got None"):
        fit(X, y, cost=None)
    with pytest.raises(ValueError, match="delta must be positive"):
        fit(X, y, cost="huber", delta=-1.0)
    with pytest.raises(ValueError, match=r"y must hold one number a row, \[N\], as in training, got shape \[40, 2\]"):
        fit(X, y, epochs=1).partial_fit(X, np.stack([y, y], axis=1))
    model = fit(X, y, cost="quantile", quantiles=(0.25, 0.75), epochs=1)
    with pytest.raises(ValueError, match=r"quantiles: \[0.05, 0.95\] lie outside the trained levels 0.25 to 0.75"):
        model.predict_quantiles(X, [0.05, 0.95])
    with pytest.raises(ValueError, match="coverage: 0.9 is wider than the trained quantiles, which hold 0.5"):
        model.predict_interval(X, 0.9)
    with pytest.raises(ValueError, match='cost: "squared" predicts no spread; fit with cost="quantile" or'):
        fit(X, y, epochs=1).predict_interval(X, 0.9)
    with pytest.raises(ValueError, match="conformal needs held-out rows"):
        fit(X, y, conformal=True)
    with pytest.raises(ValueError, match=r"coverage must lie in \(0, 1\), got 1.0"):
        model.predict_interval(X, 1.0)
    with pytest.raises(ValueError, match='cost: this one has no quantiles; train with cost="quantile"'):
        fit(X, y, epochs=1).predict_quantiles(X)


# ------------------------------------------------------------------------------------------------ several targets


COST_NAMES = ["squared", "absolute", "huber", "quantile", "gaussian"]


def three(rows: int, seed: int = 0) -> tuple[Any, Any]:
    """Targets in three units."""
    X, y = line(rows, seed)
    return X, np.stack([y, 1e4 - 100.0 * X[:, 0], np.abs(X[:, 0])], axis=1)


@pytest.mark.parametrize("cost", COST_NAMES)
def test_the_gradient_of_several_targets_is_the_mean_of_those_of_each(cost: str) -> None:
    """In float64, through the loss that trains; with sample weights."""
    random = torch.Generator().manual_seed(0)
    one = head_of(cost, LEVELS, 0.5)
    network = MLP(2, 3 * one.n_outputs, (8,), seed=0).double()
    inputs, target, weight = (torch.randn(shape, generator=random).double() for shape in ((20, 2), (20, 3), (20,)))

    def gradients(head: Any, outputs: Any, target: Tensor) -> Tensor:
        network.zero_grad()
        Loss(head)(outputs, Batch(inputs, target, weight.abs()), random).loss.backward()
        return torch.cat([p.grad.reshape(-1).clone() for p in network.parameters()])  # type: ignore[union-attr]

    each = torch.stack(
        [
            gradients(one, lambda x, m=m: network(x)[:, m * one.n_outputs : (m + 1) * one.n_outputs], target[:, [m]])
            for m in range(3)
        ]
    )
    torch.testing.assert_close(gradients(Each(one, 3), network, target), each.mean(dim=0), rtol=1e-12, atol=1e-14)
    assert (each != 0).any(dim=1).all()


@pytest.mark.parametrize("cost", COST_NAMES)
def test_targets_that_share_no_parameters_are_fitted_as_if_alone(cost: str) -> None:
    """A linear network from zero by gradient descent: with M times the step, each target goes its own way exactly."""

    def zero(n_inputs: int, n_outputs: int) -> nn.Module:
        layer = nn.Linear(n_inputs, n_outputs).double()
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    X, Y = three(60)
    settings_: dict[str, Any] = {"cost": cost, "network": zero, "batch_size": 100, "epochs": 15}

    def of(rate: float, y: Any) -> Regressor:
        weight = np.linspace(0.5, 2.0, len(y))
        optimizer = Optimization("sgd", rate, momentum=0.0)
        return Regressor(**settings_, optimizer=optimizer, random_state=0).fit(X, y, sample_weight=weight)

    together, alone = of(0.03, Y), [of(0.01, y) for y in Y.T]
    np.testing.assert_allclose(together.predict(X), np.stack([one.predict(X) for one in alone], 1), rtol=1e-10)
    np.testing.assert_allclose(together.target_scale_, [one.target_scale_ for one in alone], rtol=1e-14)
    losses = [[epoch["train/loss"] for epoch in one.history_] for one in (together, *alone)]
    np.testing.assert_allclose(losses[0], np.mean(losses[1:], axis=0), rtol=1e-10)
    if cost in ("quantile", "gaussian"):
        expected = np.stack([one.predict_quantiles(X, (0.9, 0.1)) for one in alone], axis=1)
        np.testing.assert_allclose(together.predict_quantiles(X, (0.9, 0.1)), expected, rtol=1e-10)


@pytest.mark.parametrize("cost", COST_NAMES)
def test_several_targets_are_predicted_saved_and_continued(cost: str, tmp_path: Path) -> None:
    X, Y = three(400)
    model = fit(X, Y, cost=cost, epochs=120, conformal=True, validation_split=0.3)
    assert model.predict(X).shape == (400, 3)
    assert model.score(X, Y) == pytest.approx(np.mean([r2_score(Y[:, m], model.predict(X)[:, m]) for m in range(3)]))
    assert model.score(X, Y) > 0.8
    test_X, test_Y = three(2000, seed=1)
    interval = model.predict_interval(test_X, 0.8)
    assert interval.shape == (2000, 3, 2)
    inside = (interval[..., 0] <= test_Y) & (test_Y <= interval[..., 1])
    np.testing.assert_allclose(inside.mean(axis=0), 0.8, atol=0.12)  # 120 held-out rows: a standard error of 0.037
    if cost in ("quantile", "gaussian"):
        quantiles = model.predict_quantiles(X)
        assert quantiles.shape == (400, 3, 5)
        np.testing.assert_allclose(quantiles[..., 2], model.predict(X), rtol=1e-6)
    model.save(tmp_path / "r")
    loaded = Regressor.load(tmp_path / "r")
    np.testing.assert_array_equal(loaded.predict_interval(X, 0.8), model.predict_interval(X, 0.8))
    for _ in range(2):
        model.partial_fit(X[:50], Y[:50] + 30.0)
        loaded.partial_fit(X[:50], Y[:50] + 30.0)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert np.shape(model.target_location_) == (3,)
    for other in (Y[:, :2], Y[:, 0]):
        with pytest.raises(ValueError, match=r"y must hold 3 numbers a row, \[N, 3\], as in training, got shape"):
            model.partial_fit(X, other)
    with pytest.raises(ValueError, match=r"X_val, y_val: y must hold 3 numbers a row"):
        fit_to(X, Y, (X, Y[:, 0]))


def test_predictions_of_several_targets_stay_where_their_units_move() -> None:
    X, Y = three(400)
    one = fit(X, Y, epochs=30, scaling=None)
    before, unit = one.predict(X), one.target_scale_
    one.set_params(learning_rate=1e-12).partial_fit(X[:10], Y[:10] + np.array([1e3, 1e5, 1e2]))
    assert (one.target_scale_ > 10 * np.asarray(unit)).all()
    np.testing.assert_allclose(one.predict(X), before, rtol=1e-4, atol=1e-3)


def test_one_column_is_one_target() -> None:
    X, y = line(60)
    with pytest.warns(DataConversionWarning, match="column-vector y was passed"):
        column = fit(X, y[:, None], epochs=3)
    np.testing.assert_array_equal(column.predict(X), fit(X, y, epochs=3).predict(X))


def test_files_of_several_targets_that_say_what_cannot_be(tmp_path: Path) -> None:
    X, Y = three(60)
    fit(X, Y, epochs=1, conformal=True, validation_split=0.5).save(tmp_path / "r")
    config, tensors = checkpoint.load(tmp_path / "r", "Regressor")
    coverages, widenings = config["state"]["conformal"]
    for name, value in [
        ("location", [0.0, 0.0]),
        ("location", 0.0),
        ("location", [0.0, None, 0.0]),
        ("location", [[0.0], [0.0], [0.0]]),
        ("scale", [1.0, -1.0, 1.0]),
        ("conformal", [coverages, [row[:2] for row in widenings]]),
    ]:
        damaged = {**config, "state": {**config["state"], name: value}}
        checkpoint.save(tmp_path / "bad", "Regressor", damaged, tensors)
        with pytest.raises(ValueError, match="path: .*bad'"):
            Regressor.load(tmp_path / "bad")


def test_parameters_set_after_a_fit_do_not_re_label_it() -> None:
    X, y = line(60)
    model = fit(X, y, cost="quantile", quantiles=(0.05, 0.5, 0.95), epochs=5)
    before, interval = model.predict_quantiles(X), model.predict_interval(X, 0.9)
    model.set_params(quantiles=(0.01, 0.99), cost="gaussian")
    np.testing.assert_array_equal(model.predict_quantiles(X), before)
    np.testing.assert_array_equal(model.predict_interval(X, 0.9), interval)
    with pytest.raises(ValueError, match="coverage: 0.98 is wider than the trained quantiles, which hold 0.9"):
        model.predict_interval(X, 0.98)


def test_conformal_says_where_held_out_rows_are_too_few() -> None:
    X, y = line(60)
    model = fit_to(X, y, conformal=True, epochs=1, validation_set=(X[:6], y[:6]))
    model.predict_interval(X, 0.85)  # 6/7
    with pytest.raises(ValueError, match="there are too few held-out rows for 0.95; at most 0.85"):
        model.predict_interval(X, 0.95)
    model.partial_fit(X, y)
    with pytest.raises(ValueError, match="predicts no spread"):
        model.predict_interval(X, 0.5)
    with pytest.raises(ValueError, match="conformal needs quantiles on both sides of the median"):
        fit(X, y, cost="quantile", quantiles=0.5, conformal=True, validation_split=0.5)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([None, *range(39)], dtype=object), "y contains NaN"),
        (np.array(["0.5"] * 40), "y must hold numbers"),
        (np.arange(40).astype("datetime64[D]"), "y must hold numbers"),
        (np.array([1e200, -1e200] * 20), "y: its values are too large to be scaled"),
    ],
)
def test_targets_that_are_no_numbers(y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(line(40)[0], y)


def test_the_order_of_quantiles_is_the_order_asked_for() -> None:
    X, y = line(60)
    model = fit(X, y, cost="quantile", quantiles=(0.9, 0.1, 0.5), epochs=5)
    found = model.predict_quantiles(X)
    np.testing.assert_array_equal(found, model.predict_quantiles(X, (0.1, 0.5, 0.9))[:, [2, 0, 1]])
