"""`export`: what onnxruntime answers is what the model answers, from the file alone."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from torch import Tensor, nn

import rlce
from rlce import Classifier, PolicyGradient, Regressor, targets
from rlce.data import Standardizer
from rlce.heads import Bernoulli
from rlce.network import numpy_forward
from rlce.reinforcement.spaces import flatten_batch
from rlce.supervised.classes import Labels

X, Y = make_blobs(200, 4, centers=3, cluster_std=3.0, random_state=0)
X = X.astype(np.float32)
NAMES = np.array(["red", "green", "blue"])[Y]
MANY = np.random.default_rng(0).normal(0.0, 6.0, (1000, 4)).astype(np.float32)
SMALL: dict[str, Any] = {"hidden": (8,), "activation": "relu", "epochs": 5, "learning_rate": 0.02, "random_state": 0}


class Deployed:
    """An exported model, as whoever has only the file sees it."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.about = json.loads(self.session.get_modelmeta().custom_metadata_map["rlce"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        assert list(self.about["outputs"]) == self.outputs
        for given in self.session.get_inputs():
            assert given.shape == self.about["inputs"][given.name]

    def __call__(self, inputs: NDArray[Any], **more: NDArray[Any]) -> Any:
        answers = self.session.run(None, {"inputs": inputs, **more})
        return answers[0] if len(answers) == 1 else answers


def deployed(path: Path, model: Any, **settings: Any) -> Deployed:
    rlce.export(model, path / "model.onnx", **settings)
    return Deployed(path / "model.onnx")


def check_classifier(path: Path, classifier: Classifier, *, atol: float = 1e-5) -> Deployed:
    """Both files of a fitted classifier: one row and a thousand through the same session."""
    before = {name: tensor.clone() for name, tensor in classifier.network_.state_dict().items()}
    double = deployed(path, classifier, double=True)
    soft, hard = deployed(path, classifier), deployed(path, classifier, hard=True)
    for rows in (MANY, MANY[:1]):
        for probabilities, dtype in ((soft(rows), np.float32), (double(rows.astype(float)), np.float64)):
            assert probabilities.dtype == dtype
            np.testing.assert_allclose(probabilities, classifier.predict_proba(rows), atol=atol, rtol=0)
        choice = hard(rows)
        assert choice.dtype == np.int64
        found = choice if choice.ndim == 2 else np.array(hard.about["classes"])[choice]
        np.testing.assert_array_equal(found, classifier.predict(rows))
    assert not {"Softmax", "Sigmoid", "Exp"} & {node.op_type for node in onnx.load(path / "model.onnx").graph.node}
    after = classifier.network_.state_dict()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    return soft


# -------------------------------------------------------------------------------------------------- classifiers


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="plain"),
        pytest.param({"batch_size": 1_000}, id="double precision"),
        pytest.param({"scaling": None, "temperature": 2.5}, id="temperature, not scaled"),
        pytest.param({"scaling": "standard"}, id="standardised"),
        pytest.param({"class_weight": "balanced", "prior": "training", "temperature": 0.5}, id="training prior"),
        pytest.param({"rule": targets.two_class_rows, "temperature": 1.5}, id="one-vs-all"),
        pytest.param({"activation": "softplus"}, id="softplus"),
        pytest.param({"hidden": (), "prior": [0.7, 0.3, 0.0]}, id="linear, a class that never comes"),
    ],
)
def test_a_classifier_answers_as_before(settings: dict[str, Any], tmp_path: Path) -> None:
    rare = np.r_[np.flatnonzero(Y < 2), np.flatnonzero(Y == 2)[:20]]
    classifier = Classifier(**{**SMALL, **settings}).fit(X[rare], NAMES[rare])
    about = check_classifier(tmp_path, classifier).about
    assert about["classes"] == ["blue", "green", "red"]
    assert (about["kind"], about["rlce"], about["hard"]) == ("Classifier", rlce.__version__, False)
    assert about["inputs"] == {"inputs": ["N", 4]}


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_smooth_activations_answer_as_before(activation: str, tmp_path: Path) -> None:
    classifier = Classifier(**{**SMALL, "activation": activation}).fit(X, NAMES)
    exported = deployed(tmp_path, classifier)
    np.testing.assert_allclose(exported(MANY), classifier.predict_proba(MANY), atol=1e-5, rtol=0)


def test_two_classes_several_labels_and_soft_targets(tmp_path: Path) -> None:
    check_classifier(tmp_path, Classifier(**SMALL).fit(X, Y > 0))
    several = np.stack([Y == 0, Y > 0, X[:, 0] > 0, X[:, 1] > 1], axis=1).astype(int)
    one = check_classifier(tmp_path, Classifier(**SMALL, temperature=3.0).fit(X, several))
    assert one.outputs == ["probabilities"]
    assert Deployed(tmp_path / "model.onnx").outputs == ["labels"]
    soft = np.eye(3)[Y] * 0.8 + 0.2 / 3
    assert check_classifier(tmp_path, Classifier(**SMALL, soft_targets=True).fit(X, soft)).about["classes"] == [0, 1, 2]


def test_a_network_of_one_s_own(tmp_path: Path) -> None:
    def factory(n_inputs: int, n_outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (1, 2, n_inputs // 2)),
            nn.Conv2d(1, 4, 2, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.LazyLinear(n_outputs),
        )

    classifier = Classifier(**SMALL, network=factory).fit(X, NAMES)
    check_classifier(tmp_path, classifier)


def test_sigmoids_that_are_all_but_zero_still_share_out_one(tmp_path: Path) -> None:
    classifier = Classifier(**SMALL, rule=targets.two_class_rows).fit(X, Y)
    with torch.no_grad():
        classifier.network_.layers[-1].bias -= 200.0  # type: ignore[union-attr,index,operator]
    probabilities = deployed(tmp_path, classifier)(MANY)
    np.testing.assert_allclose(probabilities, classifier.predict_proba(MANY), atol=1e-4, rtol=0)


def test_large_offsets_shift_as_they_did_in_training(tmp_path: Path) -> None:
    """What float32 inputs still say is used whole; float64 inputs lose nothing."""
    random = np.random.default_rng(0)
    rows = 1e6 + random.normal(0.0, 1.0, (300, 2))
    classifier = Classifier(**SMALL).fit(rows, rows.sum(axis=1) > 2e6)
    single, double = deployed(tmp_path, classifier), deployed(tmp_path, classifier, double=True)
    rounded = rows.astype(np.float32)
    np.testing.assert_allclose(single(rounded), classifier.predict_proba(rounded), atol=1e-5, rtol=0)
    assert np.abs(single(rounded) - classifier.predict_proba(rows)).max() > 1e-3
    probabilities = double(rows)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, classifier.predict_proba(rows), atol=1e-5, rtol=0)
    regressor = Regressor(**SMALL).fit(rows, 1e9 + rows[:, 0])
    predicted = deployed(tmp_path, regressor, double=True)(rows)
    np.testing.assert_allclose(predicted, regressor.predict(rows), atol=1e-4, rtol=0)


def test_columns_of_each_kind_are_scaled_as_in_training_and_end_where_they_did(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = np.stack([random.normal(size=300), random.standard_cauchy(300), random.lognormal(0, 3, 300)], axis=1)
    classifier = Classifier(**SMALL).fit(rows, rows[:, 0] + rows[:, 1] > 0)
    far = np.concatenate([scale * rows for scale in (1, 30, -30)] + [np.full((1, 3), 1e9), np.full((1, 3), -1e9)])
    far = far.astype(np.float32)
    expected = classifier.predict_proba(far)
    single, double = deployed(tmp_path, classifier), deployed(tmp_path, classifier, double=True)
    np.testing.assert_allclose(single(far), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(double(far.astype(np.float64)), expected, atol=1e-5, rtol=0)


def test_column_names_travel_along(tmp_path: Path) -> None:
    frame = pd.DataFrame(X, columns=["a", "b", "c", "ü"])
    exported = deployed(tmp_path, Classifier(**SMALL).fit(frame, Y))
    assert exported.about["feature_names"] == ["a", "b", "c", "ü"]
    assert exported.about["classes"] == [0, 1, 2]
    assert deployed(tmp_path, Classifier(**SMALL).fit(X, Y)).about["feature_names"] is None


def test_a_loaded_classifier_gives_the_same_file(tmp_path: Path) -> None:
    classifier = Classifier(**SMALL).fit(X, NAMES)
    classifier.save(tmp_path / "classifier")
    rlce.export(classifier, tmp_path / "one.onnx")
    rlce.export(Classifier.load(tmp_path / "classifier"), tmp_path / "two.onnx")
    first = (tmp_path / "one.onnx").read_bytes()
    assert first == (tmp_path / "two.onnx").read_bytes()
    assert b".py" not in first  # whose file and line a node came from


# ---------------------------------------------------------------------------------------------------- pipelines

GAPS = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X.astype(float))
STEPS: dict[str, list[Any]] = {
    "standard": [StandardScaler()],
    "one half of it": [StandardScaler(with_mean=False), StandardScaler(with_std=False)],
    "min max": [MinMaxScaler((-1.0, 2.0))],
    "clipped": [MinMaxScaler(clip=True), MaxAbsScaler()],
    "robust": [RobustScaler(), RobustScaler(with_centering=False), RobustScaler(with_scaling=False)],
    "components": [PCA(3), PCA(2, whiten=True)],
    "gaps": [SimpleImputer(strategy="median"), StandardScaler()],
    "nested": [make_pipeline("passthrough", SimpleImputer(), RobustScaler()), "passthrough", PCA(3)],
}


@pytest.mark.parametrize("name", STEPS)
def test_a_pipeline_is_one_graph(name: str, tmp_path: Path) -> None:
    """Every step is felt: the estimator does not standardise, and the columns have other places and sizes."""
    gaps = name in ("gaps", "nested")
    rows = (GAPS if gaps else X.astype(float)) * [1.0, 10.0, 0.1, 3.0] + [0.0, 5.0, 1.0, -20.0]
    pipeline = make_pipeline(*STEPS[name], Classifier(**SMALL, scaling=None)).fit(rows, NAMES)
    exported = deployed(tmp_path, pipeline, double=True)
    assert exported.about["kind"] == "Classifier"
    assert exported.about["inputs"] == {"inputs": ["N", 4]}
    assert exported.about["feature_names"] is None
    further = np.concatenate([rows, 3.0 * rows[:50], rows[:1]])
    for some in (further, further[:1]):
        np.testing.assert_allclose(exported(some), pipeline.predict_proba(some), atol=1e-6, rtol=0)
    assert (
        np.abs(exported(further) - pipeline[-1].predict_proba(np.zeros((1, pipeline[-1].n_features_in_)))).max() > 0.1
    )
    single = deployed(tmp_path, pipeline)(further.astype(np.float32))
    np.testing.assert_allclose(single, pipeline.predict_proba(further), atol=1e-4, rtol=0)
    labels = deployed(tmp_path, pipeline, hard=True, double=True)(further)
    np.testing.assert_array_equal(pipeline.classes_[labels], pipeline.predict(further))


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_a_pipeline_of_numbers_and_a_column_that_was_never_there(tmp_path: Path) -> None:
    rows = pd.DataFrame(GAPS, columns=["a", "b", "c", "d"]).assign(b=np.nan)
    pipeline = make_pipeline(SimpleImputer(), Regressor(**SMALL))
    pipeline.fit(rows, X[:, 0])
    exported = deployed(tmp_path, pipeline, double=True)
    np.testing.assert_allclose(exported(rows.to_numpy()), pipeline.predict(rows), rtol=1e-5, atol=1e-5)
    assert exported.about["feature_names"] == ["a", "b", "c", "d"]


def test_steps_that_cannot_be_exported_are_named(tmp_path: Path) -> None:
    class Doubled(StandardScaler):
        def transform(self, X: Any, copy: Any = None) -> Any:
            return 2.0 * super().transform(X, copy)

    last = Classifier(**SMALL)
    for step, message in [
        (
            QuantileTransformer(n_quantiles=10),
            r"its step 'first' \(QuantileTransformer\) cannot be written as ONNX; the steps that can",
        ),
        (Doubled(), r"its step 'first' \(Doubled\) cannot be written"),
        (make_pipeline(PolynomialFeatures()), r"'first__polynomialfeatures' \(PolynomialFeatures\) cannot be written"),
        (SimpleImputer(add_indicator=True), r"\(SimpleImputer\) cannot be written as ONNX: only with numbers"),
        (SimpleImputer(missing_values=0.0), r"\(SimpleImputer\) cannot be written as ONNX: only with numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            rlce.export(Pipeline([("first", step), ("last", last)]).fit(X, Y), tmp_path / "bad.onnx")
    with pytest.raises(TypeError, match=r"must end in an rlce.Classifier or rlce.Regressor, got 'pca' \(PCA\)"):
        rlce.export(make_pipeline(StandardScaler(), PCA()).fit(X), tmp_path / "bad.onnx")
    with pytest.raises(NotFittedError):
        rlce.export(make_pipeline(StandardScaler(), Classifier()), tmp_path / "bad.onnx")
    assert not (tmp_path / "bad.onnx").exists()


# --------------------------------------------------------------------------------------------------- regressors


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("cost", ["squared", "absolute", "huber", "quantile", "gaussian"])
def test_a_regressor_answers_as_before(cost: str, double: bool, tmp_path: Path) -> None:
    regressor = Regressor(**SMALL, cost=cost, quantiles=(0.9, 0.1, 0.3)).fit(X, 50.0 + 10.0 * X[:, 0])
    exported = deployed(tmp_path, regressor, double=double)
    spread = cost in ("quantile", "gaussian")
    assert exported.outputs == ["prediction", "quantiles"][: 1 + spread]
    assert exported.about.get("quantiles") == ([0.9, 0.1, 0.3] if spread else None)
    dtype = np.float64 if double else np.float32
    for rows in (MANY, MANY[:1]):
        answers = exported(rows.astype(dtype))
        prediction = answers[0] if spread else answers
        assert prediction.dtype == dtype
        np.testing.assert_allclose(prediction, regressor.predict(rows), rtol=1e-5, atol=1e-3)
        if spread:
            np.testing.assert_allclose(answers[1], regressor.predict_quantiles(rows), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("cost", ["squared", "quantile", "gaussian"])
def test_a_regressor_of_several_targets_answers_as_before(cost: str, tmp_path: Path) -> None:
    several = np.stack([50.0 + 10.0 * X[:, 0], X[:, 1], 1e3 * X[:, 2]], axis=1)
    regressor = Regressor(**SMALL, cost=cost, conformal=True, validation_split=0.3).fit(X, several)
    exported = deployed(tmp_path, regressor, double=True)
    spread = cost in ("quantile", "gaussian")
    meaning = {"prediction": "[N, M], in the", "quantiles": "[N, M, L], at the"}
    assert all(said.startswith(meaning[name]) for name, said in exported.about["outputs"].items())
    for rows in (MANY, MANY[:1]):
        answers = exported(rows.astype(float))
        prediction = answers[0] if spread else answers
        assert prediction.shape == (len(rows), 3)
        np.testing.assert_allclose(prediction, regressor.predict(rows), rtol=1e-5, atol=1e-3)
        if spread:
            np.testing.assert_allclose(answers[1], regressor.predict_quantiles(rows), rtol=1e-5, atol=1e-2)
    widenings = np.array(exported.about["conformal"]["widenings"])
    np.testing.assert_array_equal(widenings, regressor.conformal_[1])  # type: ignore[index]


EXACT = np.concatenate([np.linspace(-64.0, 64.0, 300), [-800.0, 800.0, 0.0]]).astype(np.float32).reshape(-1, 3)


def passes_rows_on(n_inputs: int, n_outputs: int) -> nn.Module:
    """A network whose outputs are its inputs, so that float32 rounds nothing."""
    linear = nn.Linear(n_inputs, n_outputs)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


SAME: dict[str, Any] = {"network": passes_rows_on, "scaling": None, "epochs": 1, "learning_rate": 1e-30}


@pytest.mark.parametrize("cost", ["quantile", "gaussian"])
def test_float64_quantiles_are_exact(cost: str, tmp_path: Path) -> None:
    levels = (0.1, 0.5, 0.9)
    regressor = Regressor(**SAME, cost=cost, quantiles=levels).fit(np.eye(3)[:, : 2 + (cost == "quantile")], [0, 1, 5])
    rows = EXACT if cost == "quantile" else EXACT[:, :2].clip(-20.0, 20.0)
    outputs = torch.from_numpy(rows).double()
    torch.testing.assert_close(regressor.network_(torch.from_numpy(rows)).double(), outputs, rtol=0, atol=1e-20)
    known = regressor.fitted_.about
    prediction, quantiles = deployed(tmp_path, regressor, double=True)(rows.astype(float))
    np.testing.assert_allclose(quantiles, known.quantiles(outputs, np.array(levels)), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(prediction, known.prediction(outputs), rtol=1e-12, atol=1e-12)


def test_float64_shares_of_sigmoids_are_exact(tmp_path: Path) -> None:
    classifier = Classifier(**SAME, rule=targets.two_class_rows).fit(np.eye(3), [0, 1, 2])
    outputs = torch.from_numpy(EXACT).double()
    found = deployed(tmp_path, classifier, double=True)(EXACT.astype(float))
    np.testing.assert_allclose(found, Bernoulli(3).shares(outputs), rtol=1e-12, atol=1e-12)


def test_conformal_widenings_travel_along(tmp_path: Path) -> None:
    regressor = Regressor(**SMALL, conformal=True, validation_split=0.3).fit(X, X[:, 0])
    exported = deployed(tmp_path, regressor)
    by = np.interp(0.8, exported.about["conformal"]["coverages"], exported.about["conformal"]["widenings"])
    found = exported(MANY)[:, None] + np.array([-by, by])
    np.testing.assert_allclose(found, regressor.predict_interval(MANY, 0.8), rtol=1e-5, atol=1e-4)


# ------------------------------------------------------------------------------------------------------ policies


class Task(gymnasium.Env[Any, Any]):
    """Random observations; the reward is one."""

    def __init__(self, actions: gymnasium.Space[Any], masked: bool = False) -> None:
        self.action_space = actions
        parts: dict[str, gymnasium.Space[Any]] = {"place": spaces.Discrete(3), "speed": spaces.Box(-9.0, 9.0, (2,))}
        if masked:
            parts["action_mask"] = spaces.MultiBinary(5)
        self.observation_space = spaces.Dict(parts)

    def _observation(self) -> Any:
        observation = self.observation_space.sample()
        if "action_mask" in observation:
            observation["action_mask"][:] = [0, 1, 1, 0, 1]
        return observation

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self._observation(), 1.0, self._steps >= 5, False, {}


def observations(agent: PolicyGradient, count: int) -> Any:
    agent.observation_space.seed(1)
    rows = [agent.observation_space.sample() for _ in range(count)]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 5], [1, 0]]),
        spaces.MultiBinary((2, 2)),
        spaces.Box(np.array([-0.5, -np.inf], np.float32), np.array([0.1, 0.2], np.float32)),
        spaces.Box(-3, 5, (2, 1), np.int16),
    ],
    ids=lambda space: f"{type(space).__name__} {space.dtype}",
)
def test_a_policy_acts_as_before(space: gymnasium.Space[Any], tmp_path: Path) -> None:
    bounded = isinstance(space, spaces.Box) and space.is_bounded()
    agent = PolicyGradient(lambda: Task(space), "ppo", (8,), 2, steps=32, learning_rate=0.01, rescale_actions=bounded)
    agent.learn(300)
    with torch.no_grad():  # so that actions differ, and reach their bounds
        for tensor in agent.policy.parameters():
            tensor.mul_(3.0)
    exported = deployed(tmp_path, agent, hard=True)
    for count in (500, 1):
        batch = observations(agent, count)
        batch["speed"][: count // 2] *= 100.0  # further out than the statistics are trusted
        rows = flatten_batch(agent.observation_space, batch)
        expected = agent.predict(batch, deterministic=True)
        actions = exported(rows)
        assert actions.shape == expected.shape
        np.testing.assert_allclose(actions, expected, atol=1e-5)
        if count > 1 and actions.dtype != np.float32:
            assert len(np.unique(actions)) > 1
    assert set(exported.about) >= {"observation_space", "action_space"}
    soft, double = deployed(tmp_path, agent), deployed(tmp_path, agent, double=True)(rows.astype(float))
    np.testing.assert_allclose(double, soft(rows), atol=1e-5)
    if isinstance(space, spaces.Box):
        np.testing.assert_array_equal(soft(rows), actions)
        return
    assert double.dtype == np.float64
    outputs = agent.policy(torch.from_numpy(agent.normalizer(rows))).detach()  # type: ignore[misc]
    parts = {
        "Discrete": lambda: outputs.softmax(-1),
        "MultiDiscrete": lambda: torch.cat([part.softmax(-1) for part in outputs.split((2, 3, 4, 2), -1)], -1),
        "MultiBinary": outputs.sigmoid,
    }
    np.testing.assert_allclose(soft(rows), parts[type(space).__name__](), atol=1e-5)


def test_a_mask_in_the_observation_is_an_input(tmp_path: Path) -> None:
    agent = PolicyGradient(lambda: Task(spaces.Discrete(5), masked=True), "ppo", (8,), num_envs=2).learn(64)
    batch = observations(agent, 100)
    batch["action_mask"][:, 3] = 1
    rows = flatten_batch(spaces.Dict({key: agent.observation_space[key] for key in ("place", "speed")}), batch)
    mask = batch["action_mask"].astype(bool)
    hard, soft = deployed(tmp_path, agent, hard=True), deployed(tmp_path, agent)
    np.testing.assert_array_equal(hard(rows, mask=mask), agent.predict(batch, deterministic=True))
    probabilities = soft(rows, mask=mask)
    assert (probabilities[~mask] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert soft.about["inputs"] == {"inputs": ["N", 5], "mask": ["N", 5]}


# ------------------------------------------------------------------------------------------------- bare modules


@pytest.mark.parametrize(
    ("last", "soft_name", "hard_name", "decide"),
    [
        (nn.Softmax(dim=-1), "probabilities", "label", lambda z: z.argmax(-1)),
        (nn.LogSoftmax(dim=1), "log_probabilities", "label", lambda z: z.argmax(-1)),
        (nn.Sigmoid(), "probabilities", "labels", lambda z: (z > 0).long()),
        (nn.Tanh(), "outputs", "signs", lambda z: z.sign().long()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_module_ends_hard_or_soft(
    last: nn.Module, soft_name: str, hard_name: str, decide: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.9), nn.Linear(8, 3))
    module = nn.Sequential(body, nn.Sequential(nn.Identity(), last)).double()
    soft, hard = deployed(tmp_path, module, n_inputs=4), deployed(tmp_path, module, n_inputs=4, hard=True)
    assert (soft.outputs, hard.outputs) == ([soft_name], [hard_name])
    assert module.training
    assert next(module.parameters()).dtype == torch.float64
    module.eval()
    with torch.no_grad():
        for rows in (MANY, MANY[:1]):
            inputs = torch.from_numpy(rows).double()
            np.testing.assert_allclose(soft(rows), module(inputs), atol=1e-5, rtol=0)
            np.testing.assert_array_equal(hard(rows), decide(body(inputs)))


def test_zero_is_below_the_step_and_has_no_sign(tmp_path: Path) -> None:
    rows = np.array([[-1.0, 0.0, 1e-30]], np.float32)
    assert deployed(tmp_path, nn.Sigmoid(), n_inputs=3, hard=True)(rows).tolist() == [[0, 0, 1]]
    assert deployed(tmp_path, nn.Tanh(), n_inputs=3, hard=True)(rows).tolist() == [[-1, 0, 1]]


def test_every_activation_without_an_answer_of_its_own(tmp_path: Path) -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            names = ("sigmoid", "tanh", "relu", "leaky_relu", "prelu", "silu", "gelu", "softplus")
            self.parts = nn.ModuleList(rlce.MLP(4, 2, (8, 8), activation=name, dropout=0.5) for name in names)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([part(x) for part in self.parts], dim=-1)

    network = Beside()
    exported = deployed(tmp_path, network, n_inputs=4)
    assert exported.outputs == ["outputs"]
    for rows in (MANY, 100.0 * MANY):
        expected = np.concatenate([numpy_forward(part)(rows) for part in network.parts], axis=1)
        np.testing.assert_allclose(exported(rows), expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------------- errors


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"

    class Own(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return -super().forward(x)

    class Fickle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    for model in (Classifier(), Regressor()):
        with pytest.raises(NotFittedError):
            rlce.export(model, path)
    with pytest.raises(TypeError, match="model must be a rlce.Classifier, .*got Standardizer"):
        rlce.export(Standardizer(2), path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_inputs must be the number of a module's inputs, at least 1, got None"):
        rlce.export(nn.Linear(2, 1), path)
    with pytest.raises(ValueError, match="n_inputs is for a torch.nn.Module; a Classifier knows its own, got 4"):
        rlce.export(Classifier(**SMALL).fit(X, Y), path, n_inputs=4)
    with pytest.raises(ValueError, match="hard: a regressor predicts numbers and makes no choice"):
        rlce.export(Regressor(**SMALL).fit(X, Y), path, hard=True)
    for module in (nn.Linear(2, 1), nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(), Own(nn.Sigmoid())):
        with pytest.raises(ValueError, match="hard needs a torch.nn.Sequential whose last layer is"):
            rlce.export(module, path, hard=True, n_inputs=2)
    with pytest.raises(ValueError, match=r"cannot be exported for inputs \[N, 3\]: mat1 and mat2 shapes cannot be"):
        rlce.export(nn.Linear(2, 1), path, n_inputs=3)
    with pytest.raises(ValueError, match=r"cannot be exported for inputs \[N, 4\]: .*data-dependent"):
        rlce.export(Fickle(), path, n_inputs=4)
    with pytest.raises(ValueError, match=r"for inputs \[N, 4\] and any N: its code depends on the number of rows"):
        rlce.export(nn.Unflatten(0, (2, 1)), path, n_inputs=4)
    labelled = Classifier(**SMALL).fit(X, Y)
    dates = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], dtype="datetime64[D]")
    about = dataclasses.replace(labelled.fitted_.about, labels=Labels(dates, several=False, one_vs_all=False))
    labelled.fitted_ = dataclasses.replace(labelled.fitted_, about=about)
    with pytest.raises(ValueError, match="model: its classes must be something that JSON can hold"):
        rlce.export(labelled, path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="n_inputs"):
        rlce.export(nn.Linear(2, 1), path)
    assert path.read_bytes() == b"old"
    rlce.export(nn.Linear(2, 1), path, n_inputs=2)
    onnx.checker.check_model(path, full_check=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    with pytest.raises(ValueError, match="path: cannot write"):
        rlce.export(nn.Linear(2, 1), tmp_path / "absent" / "model.onnx", n_inputs=2)


def test_without_the_extra_it_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for absent in ("onnx", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, absent, None)
            with pytest.raises(ModuleNotFoundError, match=r"pip install 'rlce\[export\]'"):
                rlce.export(nn.Linear(2, 1), tmp_path / "model.onnx", n_inputs=2)


def test_naming_it_imports_neither_onnx_nor_torch_s_compiler(tmp_path: Path) -> None:
    program = f"""
import sys, torch, rlce
rlce.export
heavy = {{"onnx", "onnxscript", "torch._dynamo"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
network = torch.nn.Linear(2, 1)
before = torch.get_rng_state()
rlce.export(network, {str(tmp_path / "model.onnx")!r}, n_inputs=2)
assert "onnxruntime" not in sys.modules
assert torch.equal(before, torch.get_rng_state())
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
