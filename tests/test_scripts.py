"""The command lines, run as a user would."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str, ok: bool = True) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_train_and_evaluate_an_agent(tmp_path: Path) -> None:
    log_dir, output = tmp_path / "run", tmp_path / "result.json"
    said = run(
        *["-m", "scripts.train_cartpole", "--total-timesteps", "2000", "--evaluate-every", "1000", "--episodes", "5"],
        *("--log-dir", str(log_dir), "--output", str(output)),
    )
    assert "32 environments (vector_entry_point)" in said
    assert "rollout/ep_rew_mean" in said or "eval/mean_reward" in said
    result = json.loads(output.read_text())
    assert result["environment steps"] >= 2000
    assert {"agent.safetensors", "agent-best.safetensors"} <= {path.name for path in log_dir.iterdir()}
    said = run("-m", "scripts.evaluate", str(log_dir), "--episodes", "5")
    assert "greedy" in said
    assert "sampled" in said


def test_another_task_from_a_path(tmp_path: Path) -> None:
    run(
        "scripts/train_cartpole.py",
        *("--env", "Acrobot-v1", "--env-kwargs", '{"max_episode_steps": 50}', "--num-envs", "4", "--quiet"),
        *("--method", "actor-critic", "--total-timesteps", "400", "--episodes", "2", "--log-dir", str(tmp_path)),
    )


@pytest.mark.parametrize(
    ("method", "kwargs", "said"),
    [
        ("reinforce-no-critic", '{"baseline": "mean"}', "8 environments (vector_entry_point)"),
        ("rloo", '{"group_size": 4}', "8 environments (sync)"),
    ],
)
def test_a_method_s_arguments_from_the_command_line(tmp_path: Path, method: str, kwargs: str, said: str) -> None:
    flags = ("--method", method, "--method-kwargs", kwargs, "--quiet", "--log-dir", str(tmp_path))
    assert said in run("-m", "scripts.train_cartpole", *flags, "--total-timesteps", "300", "--episodes", "2")


def test_unknown_environment_ends_in_one_clear_line(tmp_path: Path) -> None:
    said = run("-m", "scripts.train_cartpole", "--env", "NoSuchTask-v0", "--log-dir", str(tmp_path), ok=False)
    assert "error: env: no environment 'NoSuchTask-v0'" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", ["iris", "csv", "npz"])
def test_train_a_classifier(tmp_path: Path, data: str) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(120, 3))
    y = np.where(X[:, 0] > 0, "yes", "no")
    if data == "csv":
        data = str(tmp_path / "data.csv")
        rows = "\n".join(",".join([*map(str, row), label]) for row, label in zip(X.tolist(), y, strict=True))
        Path(data).write_text(f"a,b,c,label\n{rows}\n")
    elif data == "npz":
        data = str(tmp_path / "data.npz")
        np.savez(data, X=X, y=y)
    output = tmp_path / "result.json"
    arguments = f"--epochs 40 --learning-rate 0.01 --quiet --log-dir {tmp_path / 'run'} --output {output}".split()
    run("-m", "scripts.train_classifier", "--data", data, *arguments)
    assert json.loads(output.read_text())["test accuracy"] >= 0.85
    assert (tmp_path / "run" / "classifier.safetensors").is_file()


@pytest.mark.parametrize("script", ["train_cartpole", "train_classifier", "evaluate", "benchmark", "bridge"])
def test_help(script: str) -> None:
    assert "--help" in run("-m", f"scripts.{script}", "--help")


def test_the_bridge_shows_what_is_true(tmp_path: Path) -> None:
    said = run("-m", "scripts.bridge", "--epochs", "3", "--draws", "200", "--log-dir", str(tmp_path))
    difference = float(re.search(r"p_y × cross-entropy\| in any logit: (\S+)", said)[1])  # type: ignore[index]
    assert difference < 1e-12
    for name in (r"REINFORCE, reward 1\[a=y\] ", r"REINFORCE, reward 1\[a=y\]/p_a"):
        *_, deviation, variance, closed = re.search(rf"{name}.*", said)[0].split()  # type: ignore[index]
        assert float(deviation) < 5.0  # standard errors, of ten logits together
        assert float(variance) == pytest.approx(float(closed), rel=0.1)
    assert {"labels", "all actions", "sampled rewards"} <= {path.name for path in tmp_path.iterdir()}


def test_held_benchmark_prints_its_table() -> None:
    arguments = ("--method", "reinforce-no-critic", "--seeds", "1", "--timesteps", "2500")
    assert "| reinforce-no-critic | 0/1 | — |" in run("-m", "scripts.benchmark", "held", *arguments)
