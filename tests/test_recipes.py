"""One meaning a name: a method's name is the method with its defaults, a recipe has a name of its own."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rlce
from envs.identity import Identity, IdentityBox
from rlce import Evaluation, Method, Optimization, PolicyGradient, checkpoint, evaluate_policy, methods, recipes
from rlce.reinforcement.settings import LARGER_STEPS, Settings

WRITTEN: dict[str, Any] = json.loads((Path(rlce.__file__).parent / "recipes.json").read_text())


def parameters(agent: PolicyGradient) -> torch.Tensor:
    return agent.trainer.flat.value.clone()


# -------------------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", WRITTEN)
def test_a_recipe_is_complete(name: str) -> None:
    """So a change of a default does not touch it. A new setting needs its present default written into each recipe."""
    recipe = dict(WRITTEN[name])
    assert isinstance(recipe.pop("timesteps"), int)
    assert isinstance(recipe.pop("env_kwargs"), dict)
    assert name.startswith(recipe.pop("env"))
    assert set(recipe) == {each.name for each in dataclasses.fields(Settings)}
    assert set(recipe["optimization"]) == {each.name for each in dataclasses.fields(Optimization)}
    taken = inspect.signature(getattr(methods, recipe["method"]["name"])).parameters
    assert set(recipe["method"]["arguments"]) == set(taken)
    assert recipe["rescale_actions"] is not None


@pytest.mark.parametrize("name", [name for name in WRITTEN if name.endswith("/ppo")])
def test_a_recipe_fits_its_environment(name: str) -> None:
    """One short round each: the environment is there, and takes what the recipe says."""
    agent = PolicyGradient(recipe=name, num_envs=1, steps=4, seed=0).learn(1)
    assert agent.steps > 0
    agent.close()
    env_id, env_kwargs = agent.trained_in
    env = gymnasium.make(env_id, **env_kwargs)
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(agent.predict(observation))
    env.close()


def test_a_recipe_trains_with_its_numbers_for_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recipes.get("CartPole-v1/ppo").timesteps == WRITTEN["CartPole-v1/ppo"]["timesteps"] == 50_000
    shorter = {**WRITTEN, "CartPole-v1/ppo": {**WRITTEN["CartPole-v1/ppo"], "timesteps": 1_500}}
    monkeypatch.setattr(recipes, "_read", lambda: json.loads(json.dumps(shorter)))
    agent = PolicyGradient(recipe="CartPole-v1/ppo", seed=4).learn()
    assert 1_500 <= agent.steps < 1_500 + 16 * 128
    peer = PolicyGradient(
        "CartPole-v1",
        methods.ppo(
            discount=0.995, trace=0.95, clip=0.2, steps=128, epochs=6, minibatch_size=256, standardize=True,
            entropy_weight=0.01, value_weight=0.5,
        ),
        (64, 64),
        16,
        4,
        activation="tanh",
        optimization=Optimization("adam", 2e-3, "linear", floor=0.1, max_gradient_norm=0.5),
        normalize_observations=True,
        scale_rewards=True,
    )  # fmt: skip
    assert torch.equal(parameters(peer.learn(1_500)), parameters(agent))


def test_a_recipe_s_environment_and_keyword_arguments_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {**WRITTEN["CartPole-v1/ppo"], "env_kwargs": {"max_episode_steps": 9}}
    monkeypatch.setattr(recipes, "_read", lambda: {"CartPole-v1-short/ppo": json.loads(json.dumps(short))})
    name = "CartPole-v1-short/ppo"
    assert PolicyGradient(recipe=name).trained_in == ("CartPole-v1", {"max_episode_steps": 9})
    assert PolicyGradient("CartPole-v1", recipe=name).trained_in == ("CartPole-v1", {"max_episode_steps": 9})
    assert PolicyGradient(recipe=name, env_kwargs={}).trained_in == ("CartPole-v1", {})
    other = PolicyGradient("Acrobot-v1", recipe=name)  # not the arguments of another environment
    assert other.trained_in == ("Acrobot-v1", {})
    assert other.method.arguments == recipes.get(name).settings.method.arguments
    assert other.num_envs == WRITTEN["CartPole-v1/ppo"]["num_envs"] == recipes.get(name).settings.num_envs


def test_unknown_and_missing_names_are_answered() -> None:
    for make, message in (
        (
            lambda: recipes.get("Pendulum-v1/trpo"),
            "recipe must be one of Pendulum-v1/ppo, Pendulum-v1/reinforce, got 'Pendulum-v1/trpo'",
        ),
        (lambda: recipes.get("ppo"), "recipe must be one of CartPole-v1/ppo, .*Pendulum-v1/ppo, .*, got 'ppo'"),
        (
            lambda: PolicyGradient(recipe="Pendulum-v1"),
            "recipe must be one of Pendulum-v1/ppo, Pendulum-v1/reinforce, got 'Pendulum-v1'",
        ),
        (lambda: PolicyGradient("CartPole-v1/ppo"), "is the name of a recipe; pass recipe='CartPole-v1/ppo'"),
        (PolicyGradient, "env: pass an environment, or recipe="),
        (lambda: PolicyGradient("CartPole-v1").learn(), "total_timesteps: pass a number of environment steps"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


# ------------------------------------------------------------------------------------------------------------- defaults


def test_a_name_is_the_method_with_its_defaults_wherever_there_is_a_recipe() -> None:
    ours, default = PolicyGradient("CartPole-v1", "ppo"), Settings()
    assert ours.method.arguments == methods.ppo().arguments
    assert ours.optimization == default.optimization
    assert ours.num_envs == default.num_envs
    assert torch.equal(parameters(ours.learn(600)), parameters(PolicyGradient("CartPole-v1").learn(600)))
    # Within a recipe, too: then the other settings are the recipe's.
    assert PolicyGradient(recipe="CartPole-v1/ppo", method="ppo").method.arguments == methods.ppo().arguments


def test_numbers_of_a_method_go_by_name() -> None:
    assert (
        PolicyGradient("CartPole-v1", "ppo", discount=0.98, clip=0.1).method.arguments
        == methods.ppo(discount=0.98, clip=0.1).arguments
    )
    assert PolicyGradient("CartPole-v1", discount=0.98).method.arguments == methods.ppo(discount=0.98).arguments
    arguments = WRITTEN["CartPole-v1/reinforce"]["method"]["arguments"]
    within = PolicyGradient(recipe="CartPole-v1/reinforce", episodes=4).method
    assert within.arguments == methods.reinforce(**{**arguments, "episodes": 4}).arguments


def test_the_learning_rate_alone_is_replaced() -> None:
    mine = Optimization("sgd", 0.3, momentum=0.5)
    recipe = recipes.get("CartPole-v1/ppo").settings.optimization
    for agent, base in (
        (PolicyGradient("CartPole-v1", learning_rate=0.02), Settings().optimization),
        (PolicyGradient(recipe="CartPole-v1/ppo", learning_rate=0.02), recipe),
        (PolicyGradient("CartPole-v1", learning_rate=0.02, optimization=mine), mine),
    ):
        assert agent.optimization == dataclasses.replace(base, learning_rate=0.02)


def test_methods_of_one_step_a_round_take_larger_steps_where_none_are_given() -> None:
    mine, larger, usual = Optimization("sgd", 0.3), LARGER_STEPS["reinforce"], Settings().optimization.learning_rate
    assert larger > usual
    for arguments, rate in (
        ({"method": "reinforce", "baseline": "none"}, larger),
        ({"method": methods.reinforce(value_epochs=0)}, larger),
        ({"method": "rloo"}, LARGER_STEPS["rloo"]),
        ({"method": "reinforce"}, usual),
        ({"method": "ppo"}, usual),
        ({"method": "reinforce", "baseline": "none", "learning_rate": 0.2}, 0.2),
        ({"method": "reinforce", "baseline": "none", "optimization": mine}, 0.3),
        ({"method": "reinforce", "recipe": "CartPole-v1/cispo"}, 5e-3),
        ({"method": "reinforce", "baseline": "none", "recipe": "CartPole-v1/cispo"}, 5e-3),
    ):
        assert PolicyGradient(Identity, **arguments).optimization.learning_rate == rate


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 0.9}, r"method ppo has no argument gamma \(use discount\); it takes clip, discount, trace, "),
        ({"lr": 0.1}, r"no argument lr \(use PolicyGradient\(learning_rate=...\)\); it takes clip"),
        (
            {"n_envs": 1, "clp": 2, "hiden": 3, "zoo": 4},
            r"no argument n_envs \(use PolicyGradient\(num_envs=...\)\), clp \(did you mean clip\?\), "
            r"hiden \(did you mean hidden\?\), zoo; it takes clip",
        ),
        ({"method": methods.ppo(), "gamma": 0.9}, r"got gamma, but numbers of a method go with its name.*replace"),
        ({"method": methods.ppo(), "lr": 0.9}, r"got lr \(use PolicyGradient\(learning_rate=...\)\), but numbers"),
        ({"method": methods.ppo}, r"method must be a name or a Method, such as methods.ppo\(\), got <function ppo"),
    ],
)
def test_a_wrong_keyword_is_answered(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        PolicyGradient("CartPole-v1", **arguments)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"initial_deviation": 0.0}, "initial_deviation must be positive and finite, got 0.0"),
        ({"num_envs": 0}, "num_envs must be a whole number of at least 1, got 0"),
        ({"normalize_observations": 1}, "normalize_observations must be True or False, got 1"),
        ({"rescale_actions": "yes"}, "rescale_actions must be True or False, got 'yes'"),
        ({"hidden": 64}, r"hidden must be widths, such as \(64, 64\), got 64"),
        ({"learning_rate": -1.0}, "learning_rate must be positive and finite, got -1.0"),
        ({"env_kwargs": [1]}, r"env_kwargs must be a mapping or None, got \[1\]"),
    ],
)
def test_bad_settings_are_named(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyGradient("CartPole-v1", **setting)


# ------------------------------------------------------------------------------------------- what a space makes of them


class Mixed(gymnasium.Env[Any, Any]):
    """A class, bits, and numbers far from standard."""

    observation_space = spaces.Dict(
        {"bits": spaces.MultiBinary(2), "class": spaces.Discrete(3), "number": spaces.Box(-1e3, 1e3, (2,), np.float64)}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = 5
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return self._observe(), 1.0, self._left == 0, False, {}

    def _observe(self) -> dict[str, Any]:
        random = self.np_random
        bits, number = random.integers(0, 2, 2).astype(np.int8), random.normal(100.0, 30.0, 2)
        return {"bits": bits, "class": int(random.integers(3)), "number": number}


def test_classes_stay_zero_and_one_while_numbers_are_standardised() -> None:
    agent = PolicyGradient(Mixed, num_envs=4, steps=32, hidden=(8,)).learn(400)
    rows = np.array([[0, 1, 0, 0, 1, 100.0, 130.0], [1, 0, 1, 0, 0, 70.0, 100.0]])
    seen = agent.learner.seen(rows)
    np.testing.assert_array_equal(seen[:, :5], rows[:, :5])
    np.testing.assert_allclose(seen[:, 5:], [[0.0, 1.0], [-1.0, 0.0]], atol=0.3)
    # A space of classes alone has nothing to standardise, and a file then says so.
    assert PolicyGradient(Identity, normalize_observations=True).normalizer is None


def test_files_hold_what_is_in_force(tmp_path: Path) -> None:
    for make, normalized, rescaled in ((Identity, False, False), (IdentityBox, True, True), (Mixed, True, False)):
        PolicyGradient(make, num_envs=2, hidden=(4,)).save(tmp_path / "a")
        settings = checkpoint.load(tmp_path / "a", "PolicyGradient")[0]["settings"]
        assert (settings["normalize_observations"], settings["rescale_actions"]) == (normalized, rescaled)
        assert settings["initial_deviation"] == Settings().initial_deviation
        assert settings["scale_rewards"] == Settings().scale_rewards
    config, tensors = checkpoint.load(tmp_path / "a", "PolicyGradient")
    config["settings"]["gamma"] = 1
    checkpoint.save(tmp_path / "b", "PolicyGradient", config, tensors)
    with pytest.raises(ValueError, match=r"unknown settings \['gamma'\]"):
        PolicyGradient.load(tmp_path / "b")


def test_statistics_of_classes_in_an_old_file_stay(tmp_path: Path) -> None:
    """Old files standardised the columns of classes, too, also where there are no others."""
    for make in (Identity, Mixed):
        agent = PolicyGradient(make, num_envs=2, hidden=(4,))
        agent.save(tmp_path / "a")
        config, tensors = checkpoint.load(tmp_path / "a", "PolicyGradient")
        config["settings"]["normalize_observations"] = True
        del config["settings"]["initial_deviation"]
        width = agent.policy.layers[0].in_features  # type: ignore[union-attr, index]
        mean, variance = torch.linspace(0.1, 0.4, width).double(), torch.linspace(0.2, 0.9, width).double()
        old = {"mean": mean, "variance": variance, "count": torch.tensor(50.0, dtype=torch.float64)}
        tensors |= {f"normalizer.{name}": tensor for name, tensor in old.items()}
        checkpoint.save(tmp_path / "b", "PolicyGradient", config, tensors)
        loaded = PolicyGradient.load(tmp_path / "b", env=make)
        rows = np.eye(width, dtype=np.float32)
        wanted = ((rows - mean.numpy()) / np.sqrt(variance.numpy())).astype(np.float32)
        np.testing.assert_allclose(loaded.learner.seen(rows), wanted, rtol=1e-6)
        loaded.learn(200)  # goes on with them
        np.testing.assert_allclose(loaded.learner.seen(rows)[:, :3], wanted[:, :3], rtol=1e-6)


def test_the_deviation_at_the_start_is_what_is_asked_for() -> None:
    agent = PolicyGradient(IdentityBox, initial_deviation=0.25)
    assert agent.policy.log_std.exp().tolist() == pytest.approx([0.25, 0.25])  # type: ignore[union-attr, operator]


# ------------------------------------------------------------------------------------- an environment of the user's own

MODULE = """
import gymnasium
from gymnasium import spaces


class My(gymnasium.Env):
    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return 0, {}

    def step(self, action):
        self.left -= 1
        return 1, float(action), self.left == 0, False, {}


gymnasium.register("My-v0", My)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's own, of which nothing is imported yet."""
    name = "a_module_of_my_own"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)
    gymnasium.registry.pop("My-v0", None)


def test_a_module_is_imported_because_the_caller_says_so_never_a_file(module: str, tmp_path: Path) -> None:
    env = f"{module}:My-v0"
    agent = PolicyGradient(env, num_envs=2, hidden=(4,), steps=16).learn(64)
    assert len(evaluate_policy(agent, env, episodes=3).returns) == 3
    agent.save(tmp_path / "a")
    PolicyGradient("CartPole-v1", hidden=(4,), evaluation=Evaluation(every=1, env=env)).save(tmp_path / "b")
    del sys.modules[module], gymnasium.registry["My-v0"]
    for file, argument in (("a", "env="), ("b", "evaluation=")):
        loaded = PolicyGradient.load(tmp_path / file)
        with pytest.raises(ValueError, match=rf"names '{env}', which would import the module '{module}'.*{argument}"):
            loaded.learn(64)
        assert module not in sys.modules
    assert int(PolicyGradient.load(tmp_path / "a").predict(0)) in (0, 1)  # predicting needs no environment
    assert module not in sys.modules
    assert PolicyGradient.load(tmp_path / "a", env=env).learn(64).steps >= agent.steps + 64


def test_every_named_method_makes_an_agent_with_the_defaults() -> None:
    for name in methods._MAKERS:
        agent = PolicyGradient(Identity, name)
        assert isinstance(agent.method, Method)
        assert agent.method.name == name
