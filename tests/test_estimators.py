"""What holds for both estimators: scikit-learn's own checks, pickles, parts of training they share."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from rlce import Classifier, Optimization, PolicyGradient, Regressor, Stopping, checkpoint, targets
from rlce.supervised.fitting import still_falling
from rlce.supervised.plan import plan_of

pytestmark = pytest.mark.filterwarnings("ignore:training stopped short")  # most tests train for few epochs

X, LABELS = make_blobs(120, centers=3, cluster_std=1.5, random_state=0)
NUMBERS = X[:, 0] - 2.0 * X[:, 1]


def small(kind: type, **settings: Any) -> Any:
    return kind(**{"hidden": (16,), "epochs": 10, "learning_rate": 0.01, "random_state": 0, **settings})


both = pytest.mark.parametrize(("kind", "y"), [(Classifier, LABELS), (Regressor, NUMBERS)], ids=["labels", "numbers"])


WHOLE: dict[str, Any] = {"dropout": 0.0, "batch_size": 256, "epochs": 200, "learning_rate": 0.003}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize(
    "estimator",
    [
        Classifier(**WHOLE),
        Regressor(**WHOLE),
        Regressor(**WHOLE, cost="quantile", quantiles=(0.05, 0.5, 0.95)),
        Regressor(**WHOLE, cost="gaussian"),
        Regressor(**WHOLE, cost="absolute"),
        Regressor(**WHOLE, cost="huber"),
    ],
    ids=["classes", "squared", "quantile", "gaussian", "absolute", "huber"],
)
def test_scikit_learn_s_own_checks(estimator: Any) -> None:
    """All pass; the one or two that are skipped, scikit-learn skips for its own estimators, too."""
    results = check_estimator(estimator, on_fail=None)
    by_status: dict[str, list[Any]] = {}
    for result in results:
        by_status.setdefault(result["status"], []).append(result)
    assert [f"{one['check_name']}: {one['exception']}" for one in by_status.get("failed", [])] == []
    assert {one["check_name"] for one in by_status.get("skipped", [])} <= {
        "check_array_api_input",  # unless SCIPY_ARRAY_API is set
    }
    passed = {one["check_name"] for one in by_status["passed"]}
    assert "check_sample_weight_equivalence_on_dense_data" in passed
    assert len(passed) >= 50


WEIGHTS = "check_sample_weight_equivalence_on_dense_data"
ENDLESS = dict.fromkeys(
    ("check_fit_score_takes_y", "check_n_features_in_after_fitting", "check_estimators_partial_fit_n_features"),
    "they call partial_fit, which refuses a schedule whose end it does not know: schedule_timesteps gives it one",
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize(
    ("estimator", "cannot"),
    [
        (
            Classifier(),
            {WEIGHTS: "dropout draws for each row, and batches are drawn by rows: a repeated row is met twice"},
        ),
        (
            Classifier(**{**WHOLE, "learning_rate": 1e-3}, monitor="accuracy", validation_split=0.2, stopping=5),
            {
                WEIGHTS: "held-out rows are drawn by rows: one of two equal rows may train while the other is held out",
                "check_class_weight_classifiers": "the best epoch is chosen by the accuracy of held-out rows, in which "
                "every row counts the same; class weights are for training",
            },
        ),
        (
            Regressor(**WHOLE, validation_split=0.2, stopping=5),
            {WEIGHTS: "held-out rows are drawn by rows: one of two equal rows may train while the other is held out"},
        ),
        (Classifier(**WHOLE, optimizer=Optimization(schedule="cosine")), ENDLESS),
        (
            Regressor(**WHOLE, optimizer=Optimization(schedule="cosine", schedule_timesteps=1_000_000)),
            {WEIGHTS: "schedule_timesteps counts rows, and a repeated row is two"},
        ),
    ],
    ids=["defaults", "early stopping", "early stopping, numbers", "cosine", "cosine with its end"],
)
def test_scikit_learn_s_own_checks_of_other_settings(estimator: Any, cannot: dict[str, str]) -> None:
    """Exactly the checks fail that cannot apply, each for the reason that stands here and in the documentation."""
    results = check_estimator(estimator, on_fail=None, expected_failed_checks=cannot)
    assert [f"{one['check_name']}: {one['exception']}" for one in results if one["status"] == "failed"] == []
    assert {one["check_name"] for one in results if one["status"] == "xfail"} == set(cannot)


@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_at_most_twenty_one_flat_parameters(kind: type) -> None:
    names = set(inspect.signature(kind).parameters)
    assert len(names) <= 21
    assert "random_state" in names
    assert names == set(kind().get_params())


@both
def test_pickles_and_copies_predict_the_same_and_stay_small(kind: type, y: Any) -> None:
    fitted = small(kind, hidden=(64, 64)).fit(X, y)
    numbers = sum(parameter.numel() * parameter.element_size() for parameter in fitted.network_.parameters())
    pickled = pickle.dumps(fitted)
    assert len(pickled) < 5 * numbers + 50_000  # the parameters once, the optimiser's moments, the history
    for other in (pickle.loads(pickled), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(other.predict(X), fitted.predict(X))
        other.partial_fit(X, y)
        once_more = copy.deepcopy(fitted).partial_fit(X, y)
        np.testing.assert_array_equal(other.predict(X), once_more.predict(X))


@both
def test_data_frames_and_their_column_names(kind: type, y: Any) -> None:
    frame = pd.DataFrame(X, columns=["first", "second"])
    fitted = small(kind).fit(frame, pd.Series(y))
    assert fitted.feature_names_in_.tolist() == ["first", "second"]
    np.testing.assert_array_equal(fitted.predict(frame), small(kind).fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame.rename(columns={"first": "other"}))


@both
def test_pipelines_clones_and_grid_search_over_nested_settings(kind: type, y: Any) -> None:
    name = kind.__name__.lower()
    momentum, still = Optimization("sgd", momentum=0.5), Optimization("sgd", learning_rate=1e-12)
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), small(kind, epochs=30, learning_rate=None)),
        {f"{name}__optimizer": [still, "adam"], f"{name}__stopping": [None, 2, Stopping(patience=2)]},
        cv=2,
        error_score="raise",
    ).fit(X, y)
    assert search.best_params_[f"{name}__optimizer"] == "adam"
    assert clone(small(kind, optimizer=momentum)).optimizer == momentum


@both
def test_a_grid_over_the_numbers_of_the_optimiser_and_of_stopping(kind: type, y: Any) -> None:
    """As scikit-learn names the parameters of a part; what the caller holds never changes."""
    name = kind.__name__.lower()
    optimizer, stopping = Optimization("sgd", momentum=0.5), Stopping(patience=50)
    pipeline = make_pipeline(
        MinMaxScaler(), small(kind, epochs=30, learning_rate=None, optimizer=optimizer, stopping=stopping)
    )
    rates, patience = f"{name}__optimizer__learning_rate", f"{name}__stopping__patience"
    search = GridSearchCV(pipeline, {rates: [1e-12, 0.05], patience: [3, 7]}, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_[rates] == 0.05
    best = search.best_estimator_[-1]
    assert best.optimizer == Optimization("sgd", 0.05, momentum=0.5)
    assert {epoch["train/learning_rate"] for epoch in best.history_} == {0.05}
    assert best.stopping == Stopping(patience=search.best_params_[patience])
    assert (optimizer, stopping) == (Optimization("sgd", momentum=0.5), Stopping(patience=50))
    assert (pipeline[-1].optimizer, pipeline[-1].stopping) == (optimizer, stopping)


@both
def test_nested_parameters_are_read_and_set_by_name(kind: type, y: Any) -> None:
    one = small(kind, learning_rate=None, optimizer=Optimization("sgd"), stopping=3)
    deep, flat = one.get_params(), one.get_params(deep=False)
    assert deep.items() >= flat.items()
    assert {name for name in deep if "__" in name} == {f"optimizer__{name}" for name in vars(Optimization())}
    twin = clone(one).set_params(optimizer__momentum=0.0, epochs=7)
    assert (twin.optimizer, twin.epochs) == (Optimization("sgd", momentum=0.0), 7)
    assert one.optimizer == Optimization("sgd")
    one.set_params(optimizer__learning_rate=0.5, optimizer=Optimization("adamw"))  # in any order
    assert one.optimizer == Optimization("adamw", 0.5)
    for settings in ({}, {"learning_rate": 0.1}):
        one.set_params(**settings).set_params(**one.get_params())
    one.set_params(learning_rate=None)
    assert one.optimizer == Optimization("adamw", 0.5)
    for parameters, message in [
        ({"optimizer__rate": 1.0}, "optimizer__rate: rlce.Optimization has only optimizer, learning_rate, schedule,"),
        ({"optimizer__learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        (
            {"learning_rate": 0.1, "optimizer__learning_rate": 0.2},
            "optimizer__learning_rate has no effect beside learning_rate=0.1; set that, or learning_rate=None",
        ),
        (
            {"optimizer": "adam", "optimizer__learning_rate": 0.2},
            "optimizer__learning_rate: optimizer='adam' has no parameters of its own; set learning_rate, or pass",
        ),
        (
            {"stopping__patience": 3, "epochs": 99},
            "stopping__patience: stopping=3 has no parameters of its own; set stopping, or pass stopping=rlce.Stopping",
        ),
        ({"epoch": 3}, "Invalid parameter 'epoch'"),
    ]:
        before = one.get_params()
        with pytest.raises(ValueError, match=message):
            one.set_params(**parameters)
        assert one.get_params() == before


@both
def test_saved_with_nested_settings_and_extra(kind: Any, y: Any, tmp_path: Path) -> None:
    optimizer = Optimization("sgd", 0.05, schedule="cosine")
    fitted = small(kind, optimizer=optimizer, learning_rate=None, stopping=Stopping(patience=4)).fit(X, y)
    fitted.save(tmp_path / "file", extra={"columns": ["a", "b"]})
    loaded = kind.load(tmp_path / "file")
    assert loaded.get_params() == {**fitted.get_params()}
    assert loaded.extra_ == {"columns": ["a", "b"]}
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    other = Regressor if kind is Classifier else Classifier
    with pytest.raises(ValueError, match=f"holds a {kind.__name__}, expected a {other.__name__}"):
        other.load(tmp_path / "file")
    with pytest.raises(ValueError, match="extra must be something that JSON can hold"):
        fitted.save(tmp_path / "file", extra={"a": object()})
    with pytest.raises(NotFittedError):
        small(kind).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


@both
def test_validation_set_in_place_of_a_split(kind: type, y: Any) -> None:
    seen: list[float] = []
    fitted = small(kind).fit(
        X[:80], y[:80], validation_set=(X[80:], y[80:]), callback=lambda progress: seen.append(progress.step)
    )
    assert seen == [80 * epoch for epoch in range(1, 11)]
    loss = [epoch["val/loss"] for epoch in fitted.history_]
    if kind is Regressor:  # the parameters with the least cost on held-out rows are those that predict
        error = (fitted.predict(X[80:]) - y[80:]) / fitted.target_scale_
        assert min(loss) == pytest.approx(0.5 * (error**2).mean(), rel=1e-6)
    weight = np.arange(40.0)
    weighted = small(kind).fit(X[:80], y[:80], validation_set=(X[80:], y[80:], weight))
    dropped = small(kind).fit(X[:80], y[:80], validation_set=(X[81:], y[81:], weight[1:]))
    assert weighted.history_[-1]["val/loss"] == dropped.history_[-1]["val/loss"] != loss[-1]
    for held in ({"validation_set": (X, y)}, {"X_val": X, "y_val": y}):
        with pytest.raises(
            ValueError, match=r"validation_split: give it or held-out rows \(X_val and y_val\), not both"
        ):
            small(kind, validation_split=0.1).fit(X, y, **held)
    weight = np.arange(40.0)
    apart = small(kind).fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:], sample_weight_val=weight)
    assert [epoch["val/loss"] for epoch in apart.history_] == [epoch["val/loss"] for epoch in weighted.history_]
    np.testing.assert_array_equal(apart.predict(X), weighted.predict(X))
    for held, message in [
        ({"X_val": X}, "X_val and y_val must be given together, got only X_val"),
        ({"sample_weight_val": weight}, "X_val and y_val must be given together, got only sample_weight_val"),
        ({"X_val": X, "y_val": y, "validation_set": (X, y)}, "validation_set: give it or X_val, y_val, not both"),
        ({"X_val": X[:, :1], "y_val": y}, "X_val, y_val: X has 1 features, but"),
        ({"X_val": X, "y_val": y[1:]}, "X_val, y_val: Found input variables with inconsistent numbers"),
        ({"X_val": X, "y_val": np.full(len(X), np.nan)}, "X_val, y_val: Input y contains NaN"),
        ({"X_val": X, "y_val": y, "sample_weight_val": 0 * y}, "X_val, y_val: Sample weights must contain"),
    ]:
        with pytest.raises(ValueError, match=message):
            small(kind).fit(X, y, **held)


@both
def test_validation_rows_go_through_a_pipeline_like_the_training_rows(kind: Any, y: Any) -> None:
    """By scikit-learn's metadata routing; without the scaler the held-out rows would be a thousand times too large."""
    rows, held = 1e3 * X[:80], 1e3 * X[80:]
    one = small(kind, scaling=None)
    scaler = StandardScaler().fit(rows)
    by_hand = clone(one).fit(scaler.transform(rows), y[:80], X_val=scaler.transform(held), y_val=y[80:])
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(one).set_fit_request(X_val=True, y_val=True, sample_weight_val=True)
        pipeline = make_pipeline(StandardScaler(), routed, transform_input=["X_val"])
        fitted = pipeline.fit(rows, y[:80], X_val=held, y_val=y[80:])
        assert fitted[-1].history_[-1]["val/loss"] == by_hand.history_[-1]["val/loss"]
        np.testing.assert_array_equal(fitted.predict(held), by_hand.predict(scaler.transform(held)))
        weights = {"sample_weight_val": np.arange(40.0)}
        weighted = clone(pipeline).fit(rows, y[:80], X_val=held, y_val=y[80:], **weights)
        assert weighted[-1].history_[-1]["val/loss"] != by_hand.history_[-1]["val/loss"]
        search = GridSearchCV(pipeline, {f"{kind.__name__.lower()}__hidden": [(4,), (16,)]}, cv=2, error_score="raise")
        best = search.fit(rows, y[:80], X_val=held, y_val=y[80:]).best_estimator_[-1]
        assert "val/loss" in best.history_[-1]
        with pytest.raises(TypeError, match="X_val"):  # nobody asked for it
            make_pipeline(StandardScaler(), clone(one).set_fit_request(X_val=False, y_val=False)).fit(
                rows, y[:80], X_val=held, y_val=y[80:]
            )


@both
def test_of_several_restarts_the_best_is_kept(kind: type, y: Any, tmp_path: Path) -> None:
    one = small(kind, restarts=3, epochs=2, validation_split=0.3)
    tries: list[float] = []
    fitted = one.fit(X, y, callback=lambda progress: tries.append(progress.scalars["val/loss"]), log_dir=tmp_path)
    assert len(tries) == 6
    assert min(epoch["val/loss"] for epoch in fitted.history_) == min(tries)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["restart-1", "restart-2", "restart-3"]


@both
def test_partial_fit_learns_over_calls_and_standardises_by_all_rows(kind: type, y: Any) -> None:
    one = small(kind)
    parts = np.array_split(np.random.default_rng(0).permutation(len(X)), 4)
    for part in parts * 15:
        one.partial_fit(X[part], y[part], **({"classes": [0, 1, 2]} if kind is Classifier else {}))
    assert one.score(X, y) > 0.7
    assert one.n_epochs_ == 60
    np.testing.assert_allclose(one.fitted_.training.scaler.mean, X.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(one.fitted_.training.scaler.variance, X.var(axis=0), atol=1e-12)


def test_partial_fit_keeps_the_optimiser_s_moments() -> None:
    """Two calls are two epochs of one training: not so if Adam began anew."""
    settings: dict[str, Any] = {"hidden": (), "batch_size": 200, "scaling": None, "random_state": 0}
    twice = Regressor(**settings).partial_fit(X, NUMBERS).partial_fit(X, NUMBERS)
    network = Regressor(**settings).partial_fit(X, NUMBERS)
    anew = dataclasses.replace(network.fitted_.training, optimizer_state={})
    network.fitted_ = dataclasses.replace(network.fitted_, training=anew)
    network.partial_fit(X, NUMBERS)
    assert np.abs(twice.predict(X) - network.predict(X)).max() > 1e-6
    assert float(twice.fitted_.training.optimizer_state["step"]) == 2.0


def test_classes_of_partial_fit_are_those_of_the_first_call() -> None:
    one = small(Classifier).partial_fit(X, LABELS, classes=[0, 1, 2, 3])
    assert one.predict_proba(X).shape == (120, 4)
    with pytest.raises(ValueError, match=r"labels that were not in training: \[7\]"):
        one.partial_fit(X[:1], [7])
    with pytest.raises(ValueError, match=r"classes must be those of the first call, \[0, 1, 2, 3\]"):
        one.partial_fit(X, LABELS, classes=[0, 1])


@both
def test_momentum_that_rises_and_a_plateau_that_divides(kind: type, y: Any) -> None:
    optimizer = Optimization(
        "sgd", 0.05, momentum=0.99, momentum_schedule="rising", nesterov=True, schedule="plateau", plateau_patience=3
    )
    fitted = small(kind, optimizer=optimizer, learning_rate=None, epochs=150, batch_size=16).fit(X, y)
    assert fitted.score(X, y) > 0.7
    rates = {epoch["train/learning_rate"] for epoch in fitted.history_}
    assert min(rates) <= 0.005 * (1 + 1e-9)
    assert max(rates) == 0.05


@both
def test_training_stops_on_a_small_decrease_or_a_small_step(kind: type, y: Any) -> None:
    by_cost = small(kind, epochs=500, stopping=Stopping(patience=1, tolerance=0.01)).fit(X, y)
    assert 2 <= by_cost.n_epochs_ < 200
    by_step = small(kind, epochs=500, learning_rate=1e-6, stopping=Stopping(smallest_step=1e-3)).fit(X, y)
    assert by_step.n_epochs_ == 1


@both
def test_large_inputs_take_larger_batches_and_are_predicted_in_parts(kind: type, y: Any) -> None:
    plan = plan_of(small(kind).get_params())
    assert [plan.rows_a_step(rows) for rows in (10, 511, 512, 200_000, 10**7)] == [16, 16, 32, 512, 1_024]
    fitted = small(kind).fit(X, y)
    many = np.tile(X, (150, 1))
    assert len(many) > 2 * 8_192
    np.testing.assert_allclose(fitted.predict(many), np.tile(fitted.predict(X), 150), rtol=1e-12)


@both
def test_double_precision_for_few_rows_or_where_one_batch_holds_all(kind: type, y: Any) -> None:
    def dtype(rows: int, **settings: Any) -> torch.dtype:
        return next(small(kind, **settings).fit(X[:rows], y[:rows]).network_.parameters()).dtype

    assert [dtype(rows) for rows in (64, 65)] == [torch.float64, torch.float32]
    assert [dtype(rows, batch_size=80) for rows in (80, 81)] == [torch.float64, torch.float32]


@both
def test_a_failed_refit_leaves_the_fit_as_it_was(kind: type, y: Any) -> None:
    fitted = small(kind).fit(X, y)
    before = fitted.predict(X)
    bad = X.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        fitted.fit(bad, y)
    np.testing.assert_array_equal(fitted.predict(X), before)


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, r"epochs must be a whole number of at least 1, or \"auto\", got 0"),
        ({"restarts": 1.5}, "restarts must be a whole number of at least 1, got 1.5"),
        ({"batch_size": "all"}, "batch_size must be a whole number of at least 1, or \"auto\", got 'all'"),
        ({"validation_split": 1.0}, r"validation_split must lie in \[0, 1\), got 1.0"),
        ({"validation_split": 1e-9}, "holds out none; use a larger one"),
        ({"optimizer": "lbfgs"}, "optimizer must be one of adam, adamw, sgd, adadelta, rmsprop, got 'lbfgs'"),
        ({"learning_rate": -1.0}, "learning_rate must be positive and finite, got -1.0"),
        ({"stopping": 0}, "stopping must be a whole number of at least 1, None, or an rlce.Stopping, got 0"),
        ({"activation": "swish"}, "activation must be one of"),
    ],
)
def test_settings_that_make_no_sense(kind: type, y: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(kind, **settings).fit(X, y)


@both
def test_input_that_makes_no_sense(kind: type, y: Any) -> None:
    infinite = X.copy()
    infinite[0, 0] = np.inf
    weight = np.ones(len(X))
    for arguments, message in [
        ((infinite, y), "contains infinity"),
        ((X[:0], y[:0]), r"Found array with 0 sample\(s\)"),
        ((X, y[:-1]), "inconsistent numbers of samples"),
        ((X, y, -weight), "Negative values in data passed to `sample_weight`"),
        ((X, y, 0 * weight), "Sample weights must contain at least one non-zero number"),
        ((X, y, weight * np.nan), "sample_weight contains NaN"),
        ((X, np.where(np.arange(len(X)) == 5, np.nan, y)), "y contains NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            small(kind).fit(*arguments)
    with pytest.raises(ValueError, match="X has 1 features, but"):
        small(kind).fit(X, y).predict(X[:, :1])


def test_a_million_of_offset_is_no_trouble_for_targets() -> None:
    X, y = load_diabetes(return_X_y=True)
    settings: dict[str, Any] = {"epochs": 20, "random_state": 0}
    near, far = Regressor(**settings).fit(X, y), Regressor(**settings).fit(X, 1e6 + 1e-3 * y)
    np.testing.assert_allclose(1e3 * (far.predict(X) - 1e6), near.predict(X), rtol=1e-3)


@both
@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_a_column_that_was_constant_in_training_has_no_influence(kind: type, y: Any, noise: float) -> None:
    """Its weights are the random initial ones: a constant 5 that became 1,000 flipped three of four decisions."""
    column = 5.0 + noise * np.random.default_rng(0).standard_normal((len(X), 1))
    fitted = small(kind).fit(np.c_[X, column], y)
    later = fitted.predict(np.c_[X, np.full(len(X), 1_000.0)])
    np.testing.assert_array_equal(later, fitted.predict(np.c_[X, column]))


@both
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", Optimization("sgd", 0.01, momentum_schedule="rising")])
def test_a_loaded_estimator_goes_on_as_without_the_file(kind: Any, y: Any, optimizer: Any, tmp_path: Path) -> None:
    """Bit for bit: the optimiser's state, the draws and the unit of the targets are in the file."""
    one = small(kind, optimizer=optimizer, learning_rate=None, batch_size=16).partial_fit(X, y)
    one.save(tmp_path / "file")
    loaded = kind.load(tmp_path / "file")
    for part in (slice(50), slice(50, None)):
        np.testing.assert_array_equal(
            loaded.partial_fit(X[part], y[part]).predict(X), one.partial_fit(X[part], y[part]).predict(X)
        )
    assert "step" in loaded.fitted_.training.optimizer_state


@both
def test_partial_fit_with_another_optimiser_starts_its_state_anew(kind: Any, y: Any) -> None:
    one = small(kind, optimizer="sgd").partial_fit(X, y).set_params(optimizer="rmsprop").partial_fit(X, y)
    assert set(one.fitted_.training.optimizer_state) == {"step", "square_avg"}


@both
def test_a_training_that_diverged_is_said_to_have(kind: Any, y: Any) -> None:
    with pytest.warns(ConvergenceWarning, match="training diverged: its loss was .* use a smaller learning_rate"):
        small(kind, learning_rate=1e3).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(kind, dropout=0.8, epochs=1, batch_size=8).fit(X, y)
        noise = np.random.default_rng(0).permutation(y)
        small(kind, epochs=60, learning_rate=0.05).fit(X, noise)
        # A few rows with nearly all of the loss, which a sample may miss.
        many, rare = np.random.default_rng(0).normal(size=(5_000, 2)), np.zeros(5_000)
        rare[[13, 14]] = 1.0
        if kind is Classifier:
            small(kind, class_weight="balanced", epochs=1).fit(many, rare.astype(int))
        else:
            small(kind, cost="absolute", epochs=2).fit(many, many[:, 0] + 1e6 * rare)


@both
def test_a_training_that_was_stopped_short_is_said_to_be(kind: Any, y: Any) -> None:
    y = NUMBERS > 0 if kind is Classifier else y  # separable, so that the loss falls for long
    constant: dict[str, Any] = {"optimizer": Optimization("adam"), "dropout": 0.0, "batch_size": 64}
    short: dict[str, Any] = {**constant, "learning_rate": 3e-3, "epochs": 30}
    said = "training stopped short: {} was still falling when the 30 epochs were over; use more epochs or a larger"
    with pytest.warns(ConvergenceWarning, match=said.format("train/loss")) as warned:
        one = small(kind, **short).fit(X, y)
    assert [Path(warning.filename).name for warning in warned] == [Path(__file__).name]  # the caller's line
    with pytest.warns(ConvergenceWarning, match=said.format("val/loss")):
        small(kind, validation_split=0.3, **short).fit(X, y)
    with pytest.warns(ConvergenceWarning) as warned:  # once, whatever the number of restarts
        small(kind, restarts=2, **short).fit(X, y)
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            one.partial_fit(X, y)
        small(kind, **{**short, "epochs": 19}).fit(X, y)  # too few for a trend
        small(kind, **constant, learning_rate=0.02, epochs=300).fit(X, y)
        for last in (29, 30):  # the callback knew what it did
            small(kind, **short).fit(X, y, callback=lambda progress, last=last: progress.rounds == last)
        small(kind, stopping=Stopping(seconds=1e-9), **short).fit(X, y)
        small(kind, stopping=Stopping(patience=1, tolerance=0.5), **short).fit(X, y)
        # The network learns noise by heart: the training loss falls to the end, that of the held-out rows does not.
        noise = np.random.default_rng(0).permutation(y)
        by_heart = small(kind, **constant, hidden=(256,), epochs=40, validation_split=0.3).fit(X, noise)
    losses = [epoch["train/loss"] for epoch in by_heart.history_]
    assert losses[-1] < losses[20] < losses[0]


def test_what_a_loss_that_is_still_falling_is() -> None:
    epochs, noise = np.arange(100.0), np.random.default_rng(0).normal(size=100)
    for losses, falls in [
        (0.98**epochs, True),
        (0.98**epochs - 0.3, True),  # crosses zero, as the cost of a Gaussian may
        (0.98**epochs + 10.0, False),  # little beside what is left
        (0.9**epochs, False),  # little beside what was won
        (1.0 + 0.3 * noise, False),
        (0.98**epochs + 0.02 * noise, True),
        (0.99**epochs + 0.3 * noise, False),  # too noisy to tell
        (1.02**epochs, False),
        ((0.9**epochs)[:19], False),
        ((0.9**epochs)[:20], True),
        (np.full(100, np.nan), False),
        (np.zeros(100), False),
    ]:
        assert still_falling(losses.tolist()) == falls, losses


# ------------------------------------------------------------------------------------------- nothing half-done


@both
def test_a_refit_is_the_same_fit(kind: type, y: Any) -> None:
    one = small(
        kind, validation_split=0.3, **({"temperature": 50.0, "prior": [0.6, 0.3, 0.1]} if kind is Classifier else {})
    )
    first = one.fit(X, y).predict(X), one.history_
    again = one.fit(X, y).predict(X), one.history_
    np.testing.assert_array_equal(first[0], again[0])
    assert [epoch["val/loss"] for epoch in first[1]] == [epoch["val/loss"] for epoch in again[1]]


@both
def test_what_is_refused_leaves_the_fit_as_it_was(kind: Any, y: Any) -> None:
    frame = pd.DataFrame(X, columns=["a", "b"])
    fitted = small(kind, scaling="standard").fit(frame, y)
    before, value = fitted.predict(frame), fitted.fitted_
    statistics = value.training.scaler.mean.copy()
    bad = np.zeros(len(X)) if kind is Classifier else np.array(["x"] * len(X))
    too_wide = {"dropout": 0.0, "network": lambda a, b: torch.nn.Linear(a, b + 1)}
    for settings, message in (({"dropout": 2.0}, "dropout must lie"), (too_wide, "network: for inputs")):
        with pytest.raises(ValueError, match=message):
            fitted.set_params(**settings).fit(frame, y)
        np.testing.assert_array_equal(fitted.set_params(network=None).predict(frame), before)
        assert fitted.fitted_ is value
    known = "y must hold at least 2 classes" if kind is Classifier else "y must hold numbers"
    unknown, absent = (
        (np.full(len(X), 9), "y holds labels that were not in training") if kind is Classifier else (bad, known)
    )
    for call, message in (
        (lambda: fitted.fit(frame[["b", "a"]], bad), known),
        (lambda: fitted.partial_fit(frame + 100.0, unknown), absent),
    ):
        with pytest.raises(ValueError, match=message):
            call()
        np.testing.assert_array_equal(fitted.set_params(network=None).predict(frame), before)
        assert fitted.fitted_ is value
        assert fitted.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(value.training.scaler.mean, statistics)


@both
def test_an_estimator_that_was_never_trained_is_not_fitted(kind: Any, y: Any) -> None:
    one = small(kind, activation="swish")
    with pytest.raises(ValueError, match="activation"):
        one.fit(X, y)
    with pytest.raises(NotFittedError):
        one.predict(X)


@both
def test_an_interrupted_fit_can_be_pickled_and_goes_on(kind: Any, y: Any) -> None:
    def interrupt(progress: Any) -> None:
        raise KeyboardInterrupt

    one = small(kind, **({"rule": [targets.focal, targets.class_balanced]} if kind is Classifier else {}))
    with pytest.raises(KeyboardInterrupt):
        one.fit(X, y, callback=interrupt)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).predict(X), one.predict(X))
    one.partial_fit(X, y)
    if kind is Classifier:
        assert one.fitted_.about.counts.sum() == 2 * len(X)


@both
def test_schedules_over_calls_of_partial_fit(kind: Any, y: Any) -> None:
    optimizer = Optimization(schedule="linear", schedule_timesteps=4 * len(X))
    one = small(kind, optimizer=optimizer, learning_rate=0.01)
    for _ in range(4):
        one.partial_fit(X, y)
    np.testing.assert_allclose([epoch["train/learning_rate"] for epoch in one.history_], [0.01, 0.0075, 0.005, 0.0025])
    for schedule in ("linear", "plateau"):
        with pytest.raises(ValueError, match=f"partial_fit has no end, which the {schedule} schedule needs to know"):
            small(kind, optimizer=Optimization(schedule=schedule)).partial_fit(X, y)


@both
def test_a_schedule_that_is_a_function_must_be_passed_again(kind: Any, y: Any, tmp_path: Path) -> None:
    fitted = small(kind, optimizer=Optimization(schedule=lambda done: 1.0 - done), learning_rate=0.01).fit(X, y)
    rates = [epoch["train/learning_rate"] for epoch in fitted.history_]
    np.testing.assert_allclose(rates, 0.01 * np.linspace(1.0, 0.0, len(rates), endpoint=False))
    fitted.save(tmp_path / "file")
    loaded = kind.load(tmp_path / "file")
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    with pytest.raises(ValueError, match="its schedule is a function, which the file does not hold"):
        loaded.fit(X, y)
    loaded.set_params(optimizer="adam").fit(X, y)


@both
def test_a_loaded_estimator_goes_on_as_the_saved_one(kind: Any, y: Any, tmp_path: Path) -> None:
    fitted = small(kind, optimizer=Optimization("sgd", 0.01, momentum=0.0), learning_rate=None, batch_size=200).fit(
        X, y
    )
    fitted.save(tmp_path / "file")
    loaded = kind.load(tmp_path / "file")
    part = slice(0, 50)
    fitted.partial_fit(X[part], y[part])
    loaded.partial_fit(X[part], y[part])
    np.testing.assert_allclose(loaded.predict(X), fitted.predict(X), rtol=1e-6)
    if kind is Classifier:
        np.testing.assert_array_equal(loaded.class_prior_, fitted.class_prior_)


@both
def test_files_that_say_what_cannot_be(kind: Any, y: Any, tmp_path: Path) -> None:
    fitted = small(kind).fit(X, y)
    fitted.save(tmp_path / "file")
    config, tensors = checkpoint.load(tmp_path / "file", kind.__name__)
    changes: list[tuple[str, str, Any]] = [
        ("settings", "hidden", [10**9, 10**9]),
        ("settings", "hidden", 3),
        ("settings", "dropout", "x"),
        ("settings", "activation", []),
        ("state", "features", True),
        ("state", "features", 10**12),
        ("state", "history", 5),
    ]
    changes += (
        [
            ("state", "temperature", "x"),
            ("state", "temperature", -1.0),
            ("state", "classes", 5),
            ("state", "priors", [1]),
        ]
        if kind is Classifier
        else [("state", "scale", -1.0), ("state", "rows", -1), ("state", "location", None), ("state", "conformal", [1])]
    )
    for section, name, value in changes:
        damaged = {**config, section: {**config[section], name: value}}
        checkpoint.save(tmp_path / "bad", kind.__name__, damaged, tensors)
        with pytest.raises(ValueError, match="path: .*bad'"):
            kind.load(tmp_path / "bad")


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 5}, "hidden must be a sequence of whole numbers, got 5"),
        ({"validation_split": None}, r"validation_split must lie in \[0, 1\), got None"),
        ({"dropout": "x"}, r"dropout must lie in \[0, 1\), got 'x'"),
        ({"learning_rate": "x"}, "learning_rate must be positive and finite, got 'x'"),
        ({"stopping": 1.5}, "stopping must be a whole number of at least 1, None, or an rlce.Stopping, got 1.5"),
        ({"network": 5}, "network must be a factory"),
        ({"network": torch.nn.Linear(2, 3)}, "network must be a factory .* that makes a new network, got the module"),
        ({"stopping": True}, "stopping must be a whole number of at least 1, None, or an rlce.Stopping, got True"),
        ({"stopping": "5"}, "stopping must be a whole number of at least 1, None, or an rlce.Stopping, got '5'"),
        ({"epochs": True}, r"epochs must be a whole number of at least 1, or \"auto\", got True"),
        ({"batch_size": True}, 'batch_size must be a whole number of at least 1, or "auto", got True'),
        ({"hidden": (True,)}, r"hidden .* must be whole numbers of at least 1, got \[2, True, "),
        ({"learning_rate": True}, "learning_rate must be positive and finite, got True"),
        ({"optimizer": Optimization}, "optimizer must be one of adam, adamw, sgd, adadelta, rmsprop, got <class"),
        ({"device": "gpu"}, "device: 'gpu' cannot be used here .*use \"cpu\""),
    ],
)
def test_parameters_of_a_wrong_type(kind: type, y: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(kind, **settings).fit(X, y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the device can be used")
@both
def test_a_device_that_this_torch_does_not_have_is_refused(kind: Any, y: Any, tmp_path: Path) -> None:
    said = "device: 'cuda' cannot be used here .*use \"cpu\""
    with pytest.raises(ValueError, match=said):
        small(kind, device="cuda").fit(X, y)
    small(kind).fit(X, y).save(tmp_path / "file")
    with pytest.raises(ValueError, match=said):
        kind.load(tmp_path / "file", device="cuda")
    with pytest.raises(ValueError, match=said):
        PolicyGradient("CartPole-v1", device="cuda")


def test_a_flag_is_true_or_false() -> None:
    for one, name in (
        (small(Classifier, soft_targets="no"), "soft_targets"),
        (small(Regressor, conformal=0), "conformal"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be True or False, got"):
            one.fit(X, LABELS)


@both
def test_a_network_with_batch_statistics_never_gets_one_row_alone(kind: Any, y: Any) -> None:
    def factory(n_inputs: int, n_outputs: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(n_inputs, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, n_outputs))

    small(kind, network=factory, batch_size=40).fit(X[:81], y[:81])


@both
def test_weights_that_are_read_only_or_too_large(kind: Any, y: Any) -> None:
    weight = np.linspace(1.0, 2.0, len(X))
    weight.flags.writeable = False
    small(kind).fit(X, y, sample_weight=weight)
    with pytest.raises(ValueError, match=r"sample_weight must have a finite sum, got up to 1.7e\+308 a row"):
        small(kind).fit(X, y, sample_weight=np.full(len(X), 1.7e308))
    for arguments in ((X,), (X, y, weight, weight)):
        with pytest.raises(ValueError, match=r"validation_set must be \(X, y\) or \(X, y, sample_weight\)"):
            small(kind).fit(X, y, validation_set=arguments)


@both
def test_parameters_set_after_a_fit_are_not_in_its_file(kind: Any, y: Any, tmp_path: Path) -> None:
    fitted = small(kind).fit(X, y)
    before = fitted.predict(X)
    more = {"cost": "quantile", "quantiles": (0.4, 0.6)} if kind is Regressor else {"rule": targets.two_class_rows}
    fitted.set_params(hidden=(99,), activation="tanh", network=torch.nn.Linear, **more)
    fitted.save(tmp_path / "file")
    np.testing.assert_array_equal(kind.load(tmp_path / "file").predict(X), before)


@both
def test_a_refused_partial_fit_draws_nothing(kind: Any, y: Any) -> None:
    one, other = (small(kind, batch_size=10).partial_fit(X, y) for _ in range(2))
    with pytest.raises(ValueError, match="network must be a factory"):
        one.set_params(network=3).partial_fit(X, y)
    with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero number"):
        one.set_params(network=None).partial_fit(X, y, sample_weight=np.zeros(len(X)))
    if kind is Classifier:
        with pytest.raises(ValueError, match="class_weight"):
            one.set_params(class_weight={"z": 1.0}).partial_fit(X, y)
        one.set_params(class_weight=None)
    one.network_.requires_grad_(False)  # found out last, after all draws
    with pytest.raises(ValueError, match="there is no trainable parameter"):
        one.partial_fit(X, y)
    one.network_.requires_grad_(True)
    np.testing.assert_array_equal(one.partial_fit(X, y).predict(X), other.partial_fit(X, y).predict(X))


@both
def test_a_calibration_that_is_interrupted_costs_no_training(kind: Any, y: Any, monkeypatch: Any) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    last = {"temperature": "validation"} if kind is Classifier else {"conformal": True}
    one = small(kind, validation_split=0.3, **last)
    name = "rlce.supervised.calibration.fit_temperature" if kind is Classifier else None
    monkeypatch.setattr(name or "rlce.supervised.regressor.weighted_quantiles", interrupt)
    with pytest.raises(KeyboardInterrupt):
        one.fit(X, y)
    assert one.n_epochs_ == 10
    assert one.score(X, y) > 0.5
    assert (one.temperature_ == 1.0) if kind is Classifier else (one.conformal_ is None)


@both
def test_parameters_of_a_file_are_those_at_the_fit(kind: Any, y: Any, tmp_path: Path) -> None:
    one = small(kind)
    one.fit(X, y, callback=lambda _: one.set_params(hidden=(3,), activation="tanh"))
    before = one.predict(X)
    one.save(tmp_path / "file")
    np.testing.assert_array_equal(kind.load(tmp_path / "file").predict(X), before)


@both
def test_estimators_without_a_seed_have_draws_of_their_own(kind: Any, y: Any) -> None:
    """And so do two that share a generator: neither keeps it."""
    shared = np.random.RandomState(0)
    for random_state in (None, shared):
        one, other = (small(kind, random_state=random_state).fit(X, y) for _ in range(2))
        assert one.fitted_.training.seed != other.fitted_.training.seed


@both
def test_a_refit_forgets_the_names_of_columns(kind: Any, y: Any) -> None:
    fitted = small(kind).fit(pd.DataFrame(X, columns=["a", "b"]), y).fit(X, y)
    assert not hasattr(fitted, "feature_names_in_")


def test_the_cost_s_numbers_are_those_at_the_fit(tmp_path: Path) -> None:
    one = small(Regressor, cost="huber", delta=0.3).fit(X, NUMBERS)
    one.set_params(delta=5.0).save(tmp_path / "file")
    assert Regressor.load(tmp_path / "file").delta == 0.3


def test_a_prior_that_leaves_a_row_without_a_class_is_refused() -> None:
    class Masking(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + torch.tensor([0.0, -torch.inf, 0.0])

    kept = LABELS != 1
    one = small(Classifier, network=Masking).partial_fit(X[kept], LABELS[kept], classes=[0, 1, 2])
    assert (one.predict_proba(X)[:, 1] == 0).all()
    one.fitted_ = dataclasses.replace(
        one.fitted_, about=dataclasses.replace(one.fitted_.about, network_prior=np.full(3, 1 / 3))
    )
    for predict in (one.set_params(prior=[0.0, 1.0, 0.0]).predict_proba, one.predict):
        with pytest.raises(
            ValueError, match="prior must allow a class that the network does not mask, got none in row 0"
        ):
            predict(X)


def test_labels_of_another_kind_than_before_are_refused() -> None:
    several = np.stack([LABELS == 0, LABELS > 0], axis=1).astype(int)
    one = small(Classifier).fit(X, several)
    with pytest.raises(ValueError, match="soft_targets must be False, because training had several labels a row"):
        one.set_params(soft_targets=True).partial_fit(X, several / 2)
    with pytest.raises(ValueError, match="classes must be None if y has several labels a row"):
        small(Classifier).partial_fit(X, several, classes=[0, 1, 2])
