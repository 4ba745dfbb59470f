"""Every method as `PolicyGradient` runs it, against its published loss: same data, same parameters afterwards."""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace

import pytest
import torch

import rlce
from tests import published
from tests.training import record
from tests.training_cases import CASES, USERS, Case, gspo, largest_difference, outcome

TOLERANCE = 1e-10

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def test_the_published_methods_use_nothing_of_the_library():
    tree = ast.parse(inspect.getsource(published))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert "torch" in names
    assert not [name for name in names if name is None or name.startswith("rlce")]


def test_every_method_of_the_catalogue_has_a_case():
    assert {case.method for case in CASES} - set(USERS) == set(rlce.methods._MAKERS)


@each_case
def test_training_is_the_published_method(case: Case):
    run, _ = outcome(case)
    moved = (run.after.policy - run.before.policy).abs().max() / case.setting.learning_rate
    assert moved > 0.1
    assert largest_difference(case) <= TOLERANCE


@each_case
def test_what_is_logged_is_what_the_published_method_has(case: Case):
    run, repeated = outcome(case)
    logged = run.rounds[-1].scalars
    for name, value in repeated.scalars.items():
        assert logged[name] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE), name
    others = {name for name in logged if name.startswith(("train/", "rollout/"))} - set(repeated.scalars)
    elsewhere = {f"train/{name}" for name in ("advantage_mean", "value_mean", "return_mean", "action_std", "n_updates")}
    assert others - elsewhere == {"train/loss", "train/gradient_norm", "train/learning_rate"}  # see test_episodes.py


@pytest.mark.parametrize("method", ["ppo", "grpo", "cispo", "v_trace", "gspo"])
def test_the_cases_reach_every_side_of_a_bound(method):
    """Otherwise a method without its bound would pass as well."""
    seen: set[str] = set()
    for case in CASES:
        if case.method == method:
            numbers = case.arguments
            low = 1.0 - numbers.get("clip", numbers.get("low", 1.0 - numbers.get("trace_bound", 0.0)))
            high = (
                numbers["ratio_bound"] if "ratio_bound" in numbers else 1.0 + numbers.get("clip", numbers.get("high"))
            )
            for rows in outcome(case).repeated.rows:
                for advantage, ratio in zip(rows.advantage.tolist(), rows.ratio.tolist(), strict=True):
                    sign = "gain" if advantage > 0 else "loss"
                    seen.add(f"{sign} {'above' if ratio > high else 'below' if ratio < low else 'between'}")
    assert seen >= {f"{sign} {side}" for sign in ("gain", "loss") for side in ("above", "below", "between")}


def test_rounds_have_episodes_of_different_lengths_and_of_every_end():
    for case in CASES:
        steps = [step for record in outcome(case).run.rounds for copy in record.steps for step in copy]
        ends = {(step.terminated, step.truncated) for step in steps}
        assert ends >= {(False, False), (True, False), (False, True)}
        assert len({step.time for step in steps if step.terminated or step.truncated}) > 2


def test_gspo_is_a_short_rule_and_gets_whole_episodes():
    assert len(inspect.getsource(gspo).splitlines()) <= 15
    cases = [case for case in CASES if case.method == "gspo"]
    batches = [rows for case in cases for rows in outcome(case).repeated.rows]
    for rows in batches:
        counts = {episode: rows.episode.count(episode) for episode in rows.episode}
        assert all(counts[e] == length for e, length in zip(rows.episode, rows.length.tolist(), strict=True))
    assert any(len(set(rows.episode)) > 1 and len(set(rows.length.tolist())) > 1 for rows in batches)
    assert all(len(record.minibatches) > case.library.epochs for case in cases for record in outcome(case).run.rounds)


def test_a_rule_that_names_episodes_is_refused_with_fixed_steps():
    with pytest.raises(ValueError, match="gspo names episode, which needs whole episodes.*fixed steps"):
        replace(rlce.methods.ppo(), weight=gspo, name="mine")


def test_a_rule_that_names_the_value_is_refused_without_a_critic():
    with pytest.raises(ValueError, match="names value, but the method has no critic"):
        replace(rlce.methods.rloo(), weight=lambda advantage, value: advantage - value, name="mine")


def test_a_rule_that_names_what_there_is_not_is_refused():
    with pytest.raises(ValueError, match="offered by name: advantage, log_prob, behaviour_log_prob, episode, value"):
        replace(rlce.methods.ppo(), weight=lambda advantage, reward: advantage * reward, name="mine")


def test_one_seed_gives_one_training():
    """The comparison may rest on one run a case: a second is the same to the last bit."""
    case = CASES[0]
    assert torch.equal(record(case.library, case.setting).after.policy, outcome(case).run.after.policy)
