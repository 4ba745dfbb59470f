"""Agents that were saved before the library's house was rebuilt load, act as they did, and learn on.

The files of ``tests/files`` were written by version 0.1.0 as of November 2026, with the actions that it took.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.identity import IdentityBox, IdentityMultiBinary, IdentityMultiDiscrete, MaskedIdentity
from rlce import PolicyGradient

FILES = Path(__file__).parent / "files"
ENVIRONMENTS: dict[str, Any] = {
    "ppo": None,
    "box": lambda: IdentityBox((2,), bound=3.0),
    "several": lambda: IdentityMultiDiscrete([[3, 2], [2, 3]], start=-1),
    "bits": lambda: IdentityMultiBinary((2, 2)),
    "masked": lambda: MaskedIdentity(n=4, start=3, mask_in_observation=True),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_agent_of_before_acts_as_it_did_and_learns_on(name: str) -> None:
    with np.load(FILES / "policies.npz") as stored:
        known = {key.removeprefix(f"{name}/"): stored[key] for key in stored if key.startswith(f"{name}/")}
    observation: Any = known.get("observation")
    if observation is None:
        observation = {
            key.removeprefix("observation/"): x for key, x in known.items() if key.startswith("observation/")
        }
    agent = PolicyGradient.load(FILES / f"policy-{name}.safetensors", env=ENVIRONMENTS[name])
    greedy = agent.predict(observation, deterministic=True)
    sampled = agent.predict(observation, generator=np.random.default_rng(2))
    for found, before in ((greedy, known["greedy"]), (sampled, known["sampled"])):
        assert found.dtype == before.dtype
        if found.dtype.kind == "f":
            np.testing.assert_allclose(found, before, atol=1e-6)
        else:
            np.testing.assert_array_equal(found, before)
    steps = agent.steps
    assert agent.learn(20).steps > steps
