"""The table of results: its numbers by closed forms, its runs, and that they resume."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts import results
from scripts.results import Contender, Stage, Task

CARTPOLE = Contender("CartPole-v1", "ppo", 50_000)


def record(seed: int, scores: list[float], timesteps: int = 50_000, cpu_seconds: float = 2.0) -> dict[str, Any]:
    """A finished run whose evaluations are these, greedy; sampled ones are 10 lower."""
    evaluations = [
        {"steps": 1_000 * (i + 1), "cpu_seconds": 0.5 * (i + 1), "greedy": value, "sampled": value - 10}
        for i, value in enumerate(scores)
    ]
    closing = {"greedy": 400.0, "sampled": 300.0}
    return {
        "seed": seed, "timesteps": timesteps, "steps": timesteps + 48, "cpu_seconds": cpu_seconds, "peak_mib": 300.0,
        "evaluations": evaluations, "closing": closing, "setting": {}, "versions": {"commit": "abc"},
    }  # fmt: skip


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end() -> None:
    middle = [4.0, 5.0, 6.0, 7.0, 8.0, 12.0]
    assert results.interquartile_mean([-1e9, 0.0, *middle, 1e6, 1e9]) == 7.0
    assert results.interquartile_mean([1.0, 2.0, 9.0]) == 4.0
    assert results.interquartile_mean(np.array([[1.0, 5.0], [3.0, 7.0]])).tolist() == [2.0, 6.0]


def test_the_interval_has_the_width_that_theory_gives() -> None:
    assert results.interval([7.0] * 10).tolist() == [7.0, 7.0]
    assert np.isnan(results.interval([7.0])).all()
    # Of two seeds, the resampled means are 0, ½ and 1 with probabilities ¼, ½, ¼: both ends lie in the outer quarters.
    assert results.interval([0.0, 1.0]).tolist() == [0.0, 1.0]
    drawn = np.random.default_rng(0).normal(size=400)
    low, high = results.interval(drawn)
    assert low < results.interquartile_mean(drawn) < high
    # The trimmed mean of a normal sample has 1/√.8365 times the mean's deviation (trimming a quarter at either end).
    assert (high - low) == pytest.approx(2 * 1.96 * np.sqrt(1 / 0.8365 / 400) * drawn.std(), rel=0.1)


def test_a_curve_meets_the_evaluations_of_every_seed() -> None:
    runs = [record(0, [0.0, 10.0, 20.0, 30.0]), record(1, [5.0, 5.0, 5.0, 7.0])]
    steps, scores = results.curve(runs)
    assert steps.tolist() == [1_000.0, 2_000.0, 3_000.0, 4_000.0]
    assert scores.tolist() == [[0.0, 10.0, 20.0, 30.0], [5.0, 5.0, 5.0, 7.0]]
    later = record(2, [1.0, 2.0, 3.0])
    for one in later["evaluations"]:
        one["steps"] += 500
    steps, scores = results.curve([runs[0], later])
    assert (steps[0], steps[-1]) == (1_500.0, 3_500.0)
    assert scores[:, 0].tolist() == [5.0, 1.0]


def test_a_target_is_met_only_if_all_its_conditions_are() -> None:
    task = Task("E", {}, "", 100, 50_000, each=90, cpu_seconds=3)
    good = [record(seed, [0.0, 99.0, 100.0, 101.0]) for seed in range(4)]
    assert results.score(good[0], "greedy") == 100.0
    assert results.score(good[0], "sampled") == 90.0
    assert results.misses(task, good) == []
    low = [record(seed, [99.0] * 3) for seed in range(4)]
    assert results.misses(task, low) == ["mean"]
    assert results.misses(task, [record(9, [80.0] * 3), *good]) == ["a seed"]
    assert results.misses(task, [record(0, [100.0] * 3, timesteps=60_000, cpu_seconds=4.0)]) == ["steps", "CPU"]


def test_the_page_says_what_is_met_missed_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, absent = Contender("CartPole-v1", "CartPole-v1/ppo"), Contender("Acrobot-v1", "Acrobot-v1/ppo")
    theirs = Contender("CartPole-v1", "sb3 defaults", 50_000)
    stages = {
        "a": Stage("Defaults", (CARTPOLE,), 3),
        "b": Stage("Recipes", (recipe, absent), 2, "Tuned by hand."),
        "sb3": Stage("Peers", (CARTPOLE, theirs), 2),
        "d": Stage("Large", (Contender("Hopper-v5", "Hopper-v5/ppo"),), 3),
    }
    monkeypatch.setattr(results, "STAGES", stages)
    monkeypatch.setattr(results, "setting_of", lambda contender: {})
    runs = {
        ("a", CARTPOLE): [[9.0, 480.0, 490.0, 500.0], [9.0, 9.0, 9.0, 9.0]],
        ("b", recipe): [[500.0] * 3] * 2,
        ("sb3", CARTPOLE): [[500.0] * 3] * 2,
        ("sb3", theirs): [[200.0, 300.0, 400.0]] * 2,
    }
    for (stage, contender), curves in runs.items():
        for seed, scores in enumerate(curves):
            path = results.file_of(tmp_path / "runs", stage, contender, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record(seed, scores)))
    earlier = record(2, [-1e6] * 3) | {"setting": {"num_envs": 1}}  # of another setting: left out
    results.file_of(tmp_path / "runs", "a", CARTPOLE, 2).write_text(json.dumps(earlier))
    short = record(3, [-3e6, -2e6, -1e6], timesteps=1_000)  # of another length: left out, too
    results.file_of(tmp_path / "runs", "a", CARTPOLE, 3).write_text(json.dumps(short))
    page = tmp_path / "results.md"
    results.write(tmp_path / "runs", page)
    text = page.read_text()
    scores_cell = "249.5 [9.0, 490.0] | 239.5 [−1.0, 480.0] | 9.0 / −1.0"
    assert f"| CartPole-v1 | ppo | 2 | 50,048 | {scores_cell} | 400.0 / 300.0 | 2.0 | 300 |" in text
    goal = "≥ 500, within 50,000, every seed ≥ 475"
    assert f"| 500 (100k–500k) | {goal} | met |" in text
    assert "| CartPole-v1 | 500.0 [500.0, 500.0] | 300.0 [300.0, 300.0] | better | 2.0 | 2.0 |" in text
    assert "| CartPole-v1/ppo | 2/2 | 1,000 (1,000 to 1,000) | 0.50 (0.50 to 0.50) |" in text
    assert "| ppo | 0/2 | — | — |" in text  # sampled evaluations are below 475
    assert "* Defaults:\n  - 2 of 3 seeds: CartPole-v1 (ppo)\n" in text
    assert "* Recipes:\n  - 0 of 2 seeds: Acrobot-v1 (Acrobot-v1/ppo)\n" in text
    assert "* Large: not run\n" in text
    assert "* commit: abc" in text
    assert "## Recipes\n\nTuned by hand.\n\n| task" in text
    assert "![CartPole-v1: return against steps](results/CartPole-v1.png)" in text
    assert 1_000 < (tmp_path / "results" / "CartPole-v1.png").stat().st_size < 150_000
    stages["b"] = Stage("Recipes", (recipe, absent), 3)
    results.write(tmp_path / "runs", page)
    assert f"| 500 (100k–500k) | {goal} | not finished |" in page.read_text()
    results.write(tmp_path / "runs", page, timesteps=1_000)
    assert "| CartPole-v1 | ppo | 1 | 1,048 |" in page.read_text()


def test_short_runs_do_not_take_the_place_of_the_table_s() -> None:
    for out in (results.FOLDER, results.ROOT / results.FOLDER):
        with pytest.raises(ValueError, match=r"--timesteps: short runs .* in docs/results/records; pass another --out"):
            results.run(("a",), timesteps=1_000, out=out)


def test_a_run_is_measured_and_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"timesteps": 6_000, "seeds": 1, "only": "CartPole-v1 ppo", "out": tmp_path}
    results.run(("a",), **arguments)
    assert "a: CartPole-v1, ppo, seed 0: greedy" in capsys.readouterr().out
    path = results.file_of(tmp_path, "a", CARTPOLE, 0)
    assert [one.name for one in tmp_path.rglob("*.*")] == [path.name]
    done = json.loads(path.read_text())
    steps = [one["steps"] for one in done["evaluations"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == done["steps"] >= 6_000
    seconds = [one["cpu_seconds"] for one in done["evaluations"]]
    assert 0 < seconds[0] < seconds[-1] <= done["cpu_seconds"] < done["wall_seconds"]
    assert 50 < done["peak_mib"] < 5_000
    assert done["setting"]["settings"]["seed"] == 0
    results.run(("a",), **arguments)
    assert capsys.readouterr().out == "0 runs to do\n"
    # Another setting makes a finished run void.
    done["setting"]["num_envs"] += 1
    path.write_text(json.dumps(done))
    left = list(results.missing_runs("a", tmp_path, 2, 6_000, "CartPole-v1 ppo"))
    assert [(contender.name, seed) for contender, seed, _ in left] == [("ppo", 0), ("ppo", 1)]


def test_what_cannot_run_is_said_and_the_rest_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    nowhere, peer = Contender("CartPole-v1", "Nowhere-v0/ppo"), Contender("CartPole-v1", "sb3 defaults", 1_000)
    monkeypatch.setattr(results, "STAGES", {"a": Stage("Defaults", (nowhere, peer, CARTPOLE), 2)})
    monkeypatch.setattr(results, "PEERS", Path("no-such-venv/bin/python"))
    left = list(results.missing_runs("a", tmp_path, None, None, ""))
    assert left == [(CARTPOLE, 0, 50_000), (CARTPOLE, 1, 50_000)]
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("not run: CartPole-v1, Nowhere-v0/ppo: ")
    assert said[1].endswith("no-such-venv/bin/python does not exist: make peers")
    with pytest.raises(ValueError, match=r"stages must be some of a, got z"):
        results.run(("z",), out=tmp_path)


def test_every_contender_names_a_task_and_a_file_of_its_own(tmp_path: Path) -> None:
    for name, stage in results.STAGES.items():
        assert {one.task for one in stage.contenders} <= set(results.TASKS)
        files = {results.file_of(tmp_path, name, one, 0) for one in stage.contenders}
        assert len(files) == len(stage.contenders)
        for one in stage.contenders:
            assert one.timesteps is not None or one.is_recipe
    assert dataclasses.replace(CARTPOLE, name="CartPole-v1/ppo").is_recipe


def test_records_of_other_runs_leave_the_commit_clean_and_changed_code_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        author = "-c", "user.name=author", "-c", "user.email=author@example.org"
        subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True)

    code, written = tmp_path / "code.py", tmp_path / "docs" / "record.json"
    written.parent.mkdir()
    code.write_text("first = 1")
    written.write_text("{}")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(results, "ROOT", tmp_path)
    commit = results.versions()["commit"]
    assert len(commit) == 10
    written.write_text('{"seed": 0}')
    assert results.versions()["commit"] == commit
    code.write_text("first = 2")
    assert results.versions()["commit"] == f"{commit}-dirty"
