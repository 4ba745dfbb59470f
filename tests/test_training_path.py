"""Every method as `PolicyGradient` runs it, against its published loss: same data, same parameters afterwards."""

from __future__ import annotations

import pytest

import rlce
from tests.training_cases import CASES, Case, largest_difference, outcome

TOLERANCE = 1e-10

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def test_every_method_of_the_catalogue_has_a_case():
    assert {case.method for case in CASES} == set(rlce.methods._MAKERS)


@each_case
def test_training_is_the_published_method(case: Case):
    run, _ = outcome(case)
    moved = (run.after.policy - run.before.policy).abs().max() / case.setting.learning_rate
    assert moved > 0.1
    assert largest_difference(case) <= TOLERANCE


@each_case
def test_what_is_logged(case: Case):
    run, repeated = outcome(case)
    for name, value in repeated.scalars.items():
        assert run.rounds[-1].scalars[name] == pytest.approx(value, rel=1e-10, abs=1e-10), name
    logged = {name for name in run.rounds[-1].scalars if name.startswith(("train/", "rollout/"))}
    assert logged - set(repeated.scalars) == {"train/loss", "train/gradient_norm", "train/learning_rate"}
