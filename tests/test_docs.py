"""The documentation: pages that are generated are up to date, and code on pages runs."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlce.reinforcement.loss import CRITIC_ROWS
from rlce.reinforcement.settings import Settings, resolved
from scripts import compare, scalars, train, watch
from tests.methods_table import PATH, page
from tests.rules_table import TABLE, largest_difference

DOCS = Path(__file__).parents[1] / "docs"


def without_measured_differences(text: str) -> str:
    """They may differ by a power of ten from machine to machine; the tests bound them by 1e-10 anyway."""
    return re.sub(r"\| 1e-\d+ \|$", "| measured |", text, flags=re.MULTILINE)


def test_scalars_page_is_what_the_tables_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scalars.PATH.read_text() == scalars.page()
    (example,) = blocks(scalars.PATH)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "scalars.md", "exec"), {})
    assert len(list(Path("runs/mine").iterdir())) == 2


def test_methods_page_is_what_the_tables_say() -> None:
    written = PATH.read_text()
    assert without_measured_differences(written) == without_measured_differences(page()), (
        "run python -m tests.methods_table"
    )
    measured = [float(number) for number in re.findall(r"\| (1e-\d+) \|$", written, flags=re.MULTILINE)]
    assert len(measured) == len(TABLE)
    assert max(measured) <= 1e-10
    assert max(map(largest_difference, TABLE)) <= 1e-10


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_new_rule_page_runs() -> None:
    found = blocks(DOCS / "new_rule.md")
    assert len(found) == 6
    names: dict[str, object] = {}
    for number, block in enumerate(found):
        exec(compile(block, f"new_rule.md, block {number + 1}", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_") and inspect.isfunction(value)]
    assert len(tests) == 2
    for test in tests:
        test()


def test_new_rules_take_at_most_fifteen_lines() -> None:
    method, _, _, of_episodes, rule, _ = blocks(DOCS / "new_rule.md")
    for block in (method, of_episodes.partition("\n\n\n")[2].partition("\n\n\n")[0], rule):
        code = [line for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        assert 1 < len(code) <= 15


def test_supervised_page_runs() -> None:
    found = blocks(DOCS / "supervised.md")
    assert len(found) == 10
    names: dict[str, object] = {}
    for number, block in enumerate(found):
        exec(compile(block, f"supervised.md, block {number + 1}", "exec"), names)


def test_tables_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    found = blocks(DOCS / "tables.md")
    assert len(found) == 4
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        for number, block in enumerate(found):
            exec(compile(block, f"tables.md, block {number + 1}", "exec"), names)
    assert "'price': Field(kind='number', decimal='.', unit='€', format='')" in capsys.readouterr().out


def test_reweighting_page_runs() -> None:
    found = blocks(DOCS / "reweighting.md")
    assert len(found) == 3
    names: dict[str, object] = {}
    for number, block in enumerate(found):
        exec(compile(block, f"reweighting.md, block {number + 1}", "exec"), names)


def test_page_of_imbalanced_classes_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(DOCS / "imbalanced.md")
    exec(compile(block, "imbalanced.md", "exec"), {})
    printed = re.findall(r"balanced accuracy (0\.\d+)", capsys.readouterr().out)
    assert len(printed) == 6
    plain, *_, moved = map(float, printed)
    assert moved > plain + 0.1


def test_reinforcement_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(DOCS / "reinforcement.md")
    assert len(found) == 16
    monkeypatch.chdir(tmp_path)  # it saves files
    names: dict[str, Any] = {}
    try:
        for number, block in enumerate(found):
            exec(compile(block, f"reinforcement.md, block {number + 1}", "exec"), names)
    finally:
        gymnasium.registry.pop("Side-v0", None)
    assert names["greedy"].returns.mean() > 8  # of 10: "it takes seconds"
    assert names["shared"].policy[0] is names["shared"].critic[0]
    assert names["apart"].policy is not names["apart"].critic
    assert any(Path("runs/side").iterdir())
    assert names["recording"].returns.mean() > 25
    events = EventAccumulator("runs/cartpole")
    events.Reload()
    assert len(events.Images("episodes/median")) == 2


def test_reinforcement_page_states_the_defaults() -> None:
    page = (DOCS / "reinforcement.md").read_text()
    settings = Settings()
    ppo, optimization, numbers = settings.method, settings.optimization, settings.method.arguments
    assert numbers is not None
    for statement in (
        f"{settings.num_envs} environments × {ppo.steps} steps, then {ppo.epochs} epochs of minibatches of "
        f"{ppo.minibatch_size} |",
        f"γ = {numbers['discount']}, λ = {numbers['trace']}, clip {numbers['clip']}, ",
        f"entropy weight {ppo.entropy_weight}, advantages standardised in each round |",
        f"gradient norm at most {optimization.max_gradient_norm} |",
        f"`initial_deviation` (default {settings.initial_deviation})",
    ):
        assert statement in page
    assert (optimization.optimizer, optimization.learning_rate) == ("adam", 2e-3)
    assert (optimization.schedule, optimization.floor) == ("linear", 0.1)
    assert (settings.hidden, settings.activation, ppo.standardize) == ((64, 64), "tanh", True)
    assert (settings.normalize_observations, settings.scale_rewards, settings.rescale_actions) == (True, True, None)
    others = {name: resolved(None, {"method": name}, {}) for name in ("actor_critic", "reinforce")}
    assert [each.method.epochs for each in others.values()] == [1, 1]
    assert [each.method.minibatch_size for each in others.values()] == [None, None]
    critic, reinforce = others["actor_critic"], others["reinforce"]
    text = " ".join(page.split())
    trace = (critic.method.arguments or {})["trace"]
    assert f'"actor_critic" takes rounds of {critic.method.steps} steps and λ = {trace}, ' in text
    assert f'"reinforce" rounds of {reinforce.method.steps} steps' in text
    assert critic.method.value_epochs == reinforce.method.value_epochs == 8
    assert f"{critic.method.value_epochs} more times (`value_epochs`), in minibatches of {CRITIC_ROWS}" in text
    assert "does not standardise advantages" in text
    assert (critic.method.standardize, reinforce.method.standardize) == (True, False)
    for each in others.values():
        assert dataclasses.replace(each, method=settings.method) == settings
        assert each.method.entropy_weight == ppo.entropy_weight
        assert (each.method.arguments or {})["discount"] == numbers["discount"]


def test_command_lines_of_the_reinforcement_page_are_understood() -> None:
    page = (DOCS / "reinforcement.md").read_text()
    lines = re.findall(r"^python -m scripts\.train (.*)$", page, flags=re.MULTILINE)
    tasks = [tyro.cli(train.Arguments, args=shlex.split(line, comments=True)).task for line in lines]
    recorded = ["LunarLander-v3/ppo", "LunarLander-v3/ppo", "CartPole-v1/ppo"]
    seeds = ["CartPole-v1/ppo", "CartPole-v1/reinforce"]
    assert tasks == ["CartPole-v1/ppo", "LunarLander-v3", "mymodule:Side-v0", *seeds, *recorded]
    (line,) = re.findall(r"^python -m scripts\.compare (.*)$", page, flags=re.MULTILINE)
    compared = tyro.cli(compare.Arguments, args=shlex.split(line)).runs
    assert [str(one) for one in compared] == [f"runs/{train.run_name(train.Arguments(one, seeds=10))}" for one in seeds]


def test_the_pictures_of_episodes_are_those_that_the_page_s_commands_write() -> None:
    page = (DOCS / "reinforcement.md").read_text()
    lines = re.findall(r"^python -m scripts\.watch (.*)$", page, flags=re.MULTILINE)
    given = [tyro.cli(watch.Arguments, args=shlex.split(line)) for line in lines]
    written = {str(file) for each in given for file in (each.gif, each.strip) if file is not None}
    shown = {f"docs/{name}" for name in re.findall(r"\]\((watch/.*?)\)", page)}
    assert shown == {name for name in written if name.startswith("docs/")}
    assert shown == {f"docs/watch/{path.name}" for path in (DOCS / "watch").iterdir()}
    sizes = [round((DOCS.parent / name).stat().st_size / 1_000) for name in shown]
    assert all(f"{size} kB" in page for size in sizes)
    assert max(sizes) <= 1_000
