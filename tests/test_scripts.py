"""The command lines, run as a user would."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlce import Classifier, PolicyGradient, checkpoint, evaluate_policy, methods, tables, threads
from rlce.reinforcement.settings import Settings
from rlce.supervised.tables import Columns
from rlce.trainer import Trainer
from scripts import benchmark, reweighting, train, train_cartpole
from tests.commands import run

ROOT = Path(__file__).parents[1]


def test_train_and_evaluate_an_agent(tmp_path: Path) -> None:
    log_dir, output = tmp_path / "run", tmp_path / "result.json"
    said = run(
        *["-m", "scripts.train_cartpole", "--total-timesteps", "2000", "--evaluate-every", "1000", "--episodes", "5"],
        *("--log-dir", str(log_dir), "--output", str(output)),
        apart=True,
    )
    assert "16 environments (vector_entry_point)" in said
    assert re.search(r"^100%, eval return \d", said, flags=re.MULTILINE)
    result = json.loads(output.read_text())
    assert result["environment steps"] >= 2000
    assert {"agent.safetensors", "agent-best.safetensors"} <= {path.name for path in log_dir.iterdir()}
    said = run("-m", "scripts.evaluate", str(log_dir), "--episodes", "5", "--max-steps", "4", apart=True)
    assert "5 of 5 episodes had not ended after 4 steps" in said
    assert "greedy" in said
    assert "sampled" in said


def test_evaluating_a_file_shows_its_env_kwargs_first(tmp_path: Path) -> None:
    PolicyGradient("CartPole-v1", env_kwargs={"max_episode_steps": 9}, num_envs=2).save(tmp_path / "a")
    config, tensors = checkpoint.load(tmp_path / "a", "PolicyGradient")
    config["settings"]["env_kwargs"] = {"no_such_argument": 1}
    checkpoint.save(tmp_path / "a", "PolicyGradient", config, tensors)
    said = run("-m", "scripts.evaluate", str(tmp_path / "a"), ok=False)
    assert "a: CartPole-v1 with {'no_such_argument': 1}, 0 training steps" in said


def test_the_closing_evaluation_is_of_the_saved_agent(tmp_path: Path) -> None:
    """The last weights with the last statistics, not with those of the best round."""
    output = tmp_path / "result.json"
    run(
        *["-m", "scripts.train_cartpole", "--total-timesteps", "8000", "--evaluate-every", "1000", "--episodes", "20"],
        *[
            "--seed",
            "4",
            "--normalize-observations",
            "True",
            "--quiet",
            "--log-dir",
            str(tmp_path),
            "--output",
            str(output),
        ],
    )
    result = json.loads(output.read_text())
    last, best = (PolicyGradient.load(tmp_path / f"{name}.safetensors") for name in ("agent", "agent-best"))
    assert best.normalizer is not None
    assert last.normalizer is not None
    assert best.normalizer.count < last.normalizer.count
    for name, deterministic in (("greedy", True), ("sampled", False)):
        returns, _ = evaluate_policy(last, "CartPole-v1", 20, deterministic, seed=5)
        assert result[f"{name} return"] == f"{returns.mean():.1f} ± {returns.std():.1f} over 20 episodes"


TRAINING = {
    "train_cartpole": ("agent", ["--total-timesteps", "4000", "--episodes", "2", "--evaluate-every", "1000"]),
    "train_classifier": ("classifier", ["--epochs", "5"]),
}


@pytest.mark.parametrize("script", TRAINING)
def test_a_rerun_keeps_the_earlier_run(tmp_path: Path, script: str) -> None:
    """As `make cartpole` and `make classify` do: the same command again, and again."""
    name, flags = TRAINING[script]
    again = ("-m", f"scripts.{script}", *flags, "--quiet", "--log-dir", str(tmp_path))
    run(*again)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert f"the earlier run is now in {tmp_path / 'earlier-1'}\n" in run(*again, "--seed", "1")
    second = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "earlier-1").iterdir()} == first
    assert first[f"{name}.safetensors"] != second[f"{name}.safetensors"]
    logs = [{file for file in run_ if file.startswith("events")} for run_ in (first, second)]
    assert all(logs)
    assert not logs[0] & logs[1]
    if script == "train_cartpole":  # a shorter run without evaluation leaves no stale best agent beside its own
        assert "agent-best.safetensors" in second
        flags = ["--total-timesteps", "2000", "--episodes", "2"]
    run("-m", f"scripts.{script}", *flags, "--quiet", "--log-dir", str(tmp_path))
    assert {path.name: path.read_bytes() for path in (tmp_path / "earlier-1").iterdir()} == first
    assert {path.name: path.read_bytes() for path in (tmp_path / "earlier-2").iterdir()} == second
    files = [path.name for path in tmp_path.iterdir() if path.is_file()]
    assert sorted(file for file in files if not file.startswith("events")) == [f"{name}.safetensors"]
    if script == "train_cartpole":
        assert "CartPole-v1, 3,9" in run("-m", "scripts.evaluate", str(tmp_path), "--episodes", "2")


def test_a_training_that_never_begins_leaves_the_earlier_run_where_it_was(tmp_path: Path) -> None:
    train = ("-m", "scripts.train_classifier", "--data", "iris", "--epochs", "1", "--quiet", "--log-dir", str(tmp_path))
    run(*train)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    said = run(*train, "--dropout", "2", ok=False)
    assert said == "error: dropout must lie in [0, 1), got 2.0\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_named_by_save_is_kept_as_well(tmp_path: Path) -> None:
    model = tmp_path / "models" / "mine.safetensors"
    model.parent.mkdir()
    flags = ("--data", "iris", "--epochs", "1", "--quiet", "--save", str(model))
    run("-m", "scripts.train_classifier", *flags, "--log-dir", str(tmp_path / "one"))
    before, logs = model.read_bytes(), set((tmp_path / "one").iterdir())
    run("-m", "scripts.train_classifier", *flags, "--log-dir", str(tmp_path / "two"), "--seed", "1")
    assert (model.parent / "earlier-1" / model.name).read_bytes() == before != model.read_bytes()
    assert set((tmp_path / "one").iterdir()) == logs != set()


def started(command: list[str]) -> subprocess.Popen[str]:
    """A process that an interrupt reaches, also if the tests run in the background and ignore interrupts."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    listen = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command, cwd=ROOT, preexec_fn=listen, **pipes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", TRAINING)
def test_an_interrupt_saves_what_was_learnt(tmp_path: Path, script: str, number: int) -> None:
    name = TRAINING[script][0]
    forever = {"train_cartpole": ["--total-timesteps", "1000000000"], "train_classifier": ["--epochs", "1000000"]}
    command = [sys.executable, "-m", f"scripts.{script}", *forever[script], "--quiet", "--log-dir", str(tmp_path)]
    with started(command) as process:
        assert process.stderr is not None
        while not any(path.stat().st_size > 8_000 for path in tmp_path.glob("events*")):  # some rounds
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(number)
        began = time.perf_counter()
        _, said = process.communicate(timeout=60)
        assert time.perf_counter() - began < 10.0  # 0.3 s where the machine is free; a hang takes minutes
    saved = tmp_path / f"{name}-interrupted.safetensors"
    assert said.splitlines()[-1] == f"interrupted: saved {saved}"
    assert "Traceback" not in said
    assert process.returncode == 130
    if name == "agent":
        assert PolicyGradient.load(saved).steps > 0
    else:
        assert Classifier.load(saved).n_epochs_ > 0
    assert not (tmp_path / f"{name}.safetensors").exists()


# While a compiled module is loaded, Python may turn an interrupt into another error; so this waits in Python.
LOADING = "import scripts; print('loading', flush=True); import time; time.sleep(60)"
FIRST_ROUND = [*("-m", "scripts.train_cartpole", "--quiet"), *("--method-kwargs", '{"episodes": 1000000}')]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-c", LOADING], "interrupted: nothing was saved\n"),
        (
            [*FIRST_ROUND, "--recipe", "CartPole-v1/reinforce-no-critic"],
            "interrupted: nothing was learnt yet, so nothing was saved\n",
        ),
    ],
    ids=["modules load", "first round"],
)
def test_an_interrupt_before_anything_was_learnt_says_so(tmp_path: Path, arguments: list[str], said: str) -> None:
    log_dir = [] if "-c" in arguments else ["--log-dir", str(tmp_path)]
    command = [sys.executable, *arguments, *log_dir]
    with started(command) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == said
    assert process.returncode == 130
    assert list(tmp_path.glob("*.safetensors")) == []


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    program = """
import pathlib, sys, time, scripts

def slowly(path):
    print("saving", path.name, flush=True)
    time.sleep(60)

path = pathlib.Path(sys.argv[1])
with scripts.saving(path, slowly, lambda: True):
    raise KeyboardInterrupt
"""
    with started([sys.executable, "-c", program, str(tmp_path / "agent.safetensors")]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "saving agent-interrupted.safetensors\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"task": "CartPole-v1/ppo"}, "CartPole-v1 with the recipe CartPole-v1/ppo"),
        (
            {"task": "CartPole-v1"},
            "CartPole-v1 with ppo and its defaults (there is a recipe: --recipe CartPole-v1/ppo)",
        ),
        ({"task": "Acrobot-v1", "recipe": "CartPole-v1/ppo"}, "Acrobot-v1 with the recipe CartPole-v1/ppo"),
        (
            {"task": "CartPole-v1/ppo", "method": "elite"},
            "CartPole-v1 with the recipe CartPole-v1/ppo, but with elite and its defaults",
        ),
        (
            {"task": "CartPole-v1", "env_kwargs": '{"max_episode_steps": 9}'},
            "CartPole-v1 (max_episode_steps=9) with ppo and its defaults",
        ),
        (
            {"task": "CartPole-v1", "learning_rate": 0.1, "discount": 0.5, "method_kwargs": '{"clip": 0.3}'},
            "CartPole-v1 with ppo and its defaults, changed: clip=0.3, discount=0.5, learning_rate=0.1 "
            "(there is a recipe: --recipe CartPole-v1/ppo)",
        ),
        (
            {"task": "CartPole-v1/ppo", "scale_rewards": False},
            "CartPole-v1 with the recipe CartPole-v1/ppo, changed: scale_rewards=False",
        ),
    ],
)
def test_training_says_which_of_the_two_it_trains(arguments: dict[str, Any], said: str) -> None:
    given = train.Arguments(**arguments)
    agent = train.make(given, None)
    assert train.description(agent, given) == said
    if "recipe" not in said:
        assert agent.method.arguments == methods.ppo().arguments


def test_a_recipe_given_as_a_method_is_pointed_to() -> None:
    with pytest.raises(
        ValueError, match=r"^reinforce-no-critic is no method but a recipe: --recipe CartPole-v1/reinforce-no-critic$"
    ):
        train.make(train.Arguments("CartPole-v1", method="reinforce-no-critic"), None)


def test_cartpole_trains_its_recipe_unless_a_method_or_a_recipe_is_named() -> None:
    for arguments, recipe, method in (
        ({}, "CartPole-v1/ppo", None),
        ({"method": "ppo"}, None, "ppo"),
        ({"recipe": "CartPole-v1/reinforce"}, "CartPole-v1/reinforce", None),
    ):
        chosen = train_cartpole.chosen(train.Arguments(train_cartpole.ENV, **arguments))
        assert (train.task_of(chosen)[1], chosen.method) == (recipe, method)


def test_familiar_words(tmp_path: Path) -> None:
    flags = ("--algo", "ppo", "--gamma", "0.5", "--lr", "0.02", "--eval-freq", "100", "--n-envs", "2")
    quick = ("--total-timesteps", "200", "--episodes", "2", "--quiet", "--log-dir", str(tmp_path))
    said = run("-m", "scripts.train", "CartPole-v1", *flags, *quick, "--method-kwargs", '{"steps": 16}')
    changed = "changed: steps=16, discount=0.5, learning_rate=0.02 (there is a recipe: --recipe CartPole-v1/ppo)"
    assert f"CartPole-v1 with ppo and its defaults, {changed}: 2 environments" in said
    agent = PolicyGradient.load(tmp_path / "agent.safetensors")
    assert agent.method.arguments == methods.ppo(discount=0.5, steps=16).arguments
    assert agent.optimization == dataclasses.replace(Settings().optimization, learning_rate=0.02)
    assert (tmp_path / "agent-best.safetensors").is_file()
    said = run("-m", "scripts.train", "CartPole-v1", "--method-kwargs", '{"n_steps": 8}', ok=False)
    assert said.startswith("error: method ppo has no argument n_steps (use steps); it takes clip, discount, ")
    assert said.count("\n") == 1
    for arguments, message in (
        ([], "error: env: pass an environment, or recipe= with a name of rlce.recipes.names()\n"),
        (["CartPole-v1/ppo", "--recipe", "Pendulum-v1/ppo"], "error: two recipes: CartPole-v1/ppo and --recipe Pend"),
        (
            ["Pendulum-v1/pp0"],
            "error: recipe must be one of Pendulum-v1/ppo, Pendulum-v1/reinforce, got 'Pendulum-v1/pp0'\n",
        ),
    ):
        assert run("-m", "scripts.train", *arguments, ok=False).startswith(message)


def test_an_environment_of_one_s_own_but_never_one_that_a_file_names(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text("""
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

print("my module is imported")
gymnasium.register("My-v0", CartPoleEnv, max_episode_steps=20)
""")

    def here(script: str, *arguments: str, ok: bool = True) -> str:
        """Run from the user's directory, with nothing of it on Python's path."""
        command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert (done.returncode == 0) == ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    said = here("train", "my_module:My-v0", "--total-timesteps", "300", "--episodes", "2", "--quiet")
    assert f"my_module:My-v0 with ppo and its defaults: {Settings().num_envs} environments (sync)" in said
    saved = next((tmp_path / "runs").iterdir())
    assert saved.name == "ppo-my_module-My-v0-0"
    said = here("evaluate", str(saved), ok=False)
    assert said == (
        "error: env: the file names 'my_module:My-v0', which would import the module 'my_module'. A file may come from "
        "a stranger: if you trust it, pass --env my_module:My-v0\n"
    )
    assert "greedy" in here("evaluate", str(saved), "--env", "my_module:My-v0", "--episodes", "2")


def test_another_task_from_a_path(tmp_path: Path) -> None:
    run(
        "scripts/train.py",
        *("Acrobot-v1", "--env-kwargs", '{"max_episode_steps": 50}', "--num-envs", "4", "--quiet"),
        *("--method", "actor-critic", "--total-timesteps", "400", "--episodes", "2", "--log-dir", str(tmp_path)),
    )
    said = run("scripts/evaluate.py", str(tmp_path), "--episodes", "3")
    assert "agent.safetensors: Acrobot-v1 with {'max_episode_steps': 50}, " in said
    assert re.search(r"greedy +-50\.00 +0\.00 +3 +50\.0\n", said)  # the same environment as in training


@pytest.mark.parametrize(
    ("recipe", "kwargs", "said"),
    [
        (
            "CartPole-v1/reinforce-no-critic",
            '{"baseline": "mean"}',
            "baseline=mean: 8 environments (vector_entry_point)",
        ),
        ("CartPole-v1/rloo", '{"group_size": 4}', "group_size=4: 8 environments (sync)"),
    ],
)
def test_a_method_s_arguments_from_the_command_line(tmp_path: Path, recipe: str, kwargs: str, said: str) -> None:
    flags = ("--recipe", recipe, "--method-kwargs", kwargs, "--quiet", "--log-dir", str(tmp_path))
    assert f"CartPole-v1 with the recipe {recipe}, changed: {said}" in run(
        "-m", "scripts.train_cartpole", *flags, "--total-timesteps", "300", "--episodes", "2"
    )


def test_unknown_environment_ends_in_one_clear_line(tmp_path: Path) -> None:
    said = run("-m", "scripts.train", "NoSuchTask-v0", "--log-dir", str(tmp_path), ok=False)
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


def table(path: Path, labels: str, rows: int = 200) -> list[dict[str, str]]:
    """A CSV of numbers, text and missing values whose label follows from its number and its city."""
    generator = np.random.default_rng(0)
    names = {"text": ("no", "yes"), "int": ("3", "7"), "bool": ("False", "True")}
    written = []
    for _ in range(rows):
        age, city = generator.normal(50, 10), generator.choice(["Bonn", "Kiel", "Ulm"])
        row = {
            "age": f"{age:.2f}",
            "name": f"n{len(written)}",
            "city": str(city),
            "since": str(2000 + len(written) % 9),
        }
        row["label"] = f"{age + 20 * (city == 'Ulm'):.3f}"
        if labels != "number":
            row["label"] = names[labels][int(age > 50 or city == "Ulm")]
        if len(written) % 10 == 3:
            row["since"] = row["city"] = ""
        written.append(row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(written[0]))
        writer.writeheader()
        writer.writerows(written)
    return written


FLAGS = ("--learning-rate", "0.01", "--hidden", "16", "--batch-size", "16", "--quiet")


@pytest.mark.parametrize("labels", ["text", "int", "bool"])
def test_from_a_csv_file_to_predictions(tmp_path: Path, labels: str) -> None:
    data, model, output = tmp_path / "data.csv", tmp_path / "model", tmp_path / "result.json"
    rows = table(data, labels)
    files = ("--save", str(model), "--output", str(output), "--log-dir", str(tmp_path / "run"))
    said = run(*("-m", "scripts.train_classifier", "--data", str(data), "--target", "label", *files, *FLAGS))
    assert "warning: column 'name' has 160 distinct values in 160 rows, an identifier: left out\n" in said
    assert re.search(r"^macro F1 +\d\.\d\d\d\d", said, flags=re.MULTILINE)
    assert "confusion matrix" in said
    result = json.loads(output.read_text())
    assert result["rows"] == "160 to train, 40 to test"
    assert result["test accuracy"] >= 0.85 > result["most frequent class"]
    assert {"balanced accuracy", "macro F1"} <= set(result)

    config, _ = checkpoint.load(model, "Classifier")  # safetensors and JSON alone
    assert config["extra"]["table"]["target"] == "label"
    columns = Columns.from_json(config["extra"]["table"]["columns"])
    assert columns.outputs == [
        "age",
        "city = Bonn",
        "city = Kiel",
        "city = Ulm",
        "city is missing",
        *columns.outputs[5:],
    ]

    # Other columns, another order, an unseen city, missing values, no label.
    new, predictions = tmp_path / "new.csv", tmp_path / "predictions.csv"
    header = ["city", "more", "age", "since"]
    lines = [[row["city"], "a, b", row["age"], row["since"]] for row in rows] + [["Rome", "", "", "2001"]]
    with new.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    said = run("-m", "scripts.predict", str(model), str(new), "--output", str(predictions))
    assert "warning: column 'city', 1 row: a value of no training row, read as no category ('Rome')\n" in said
    with predictions.open(newline="") as file:
        names, *predicted = list(csv.reader(file))
    added = [
        "prediction",
        "confidence",
        *(f"probability of {label}" for label in sorted({row["label"] for row in rows})),
    ]
    assert names == [*header, *added]
    assert [row[:4] for row in predicted] == lines
    agree = [row[4] == true["label"] for row, true in zip(predicted, rows, strict=False)]
    assert np.mean(agree) >= 0.85
    assert all(0.5 <= float(row[5]) <= 1 for row in predicted)
    assert predicted[-1][4] in {row["label"] for row in rows}
    same = run("-m", "scripts.predict", str(model), str(new), "--output", "-")
    assert predictions.read_text() in same

    loaded = Classifier.load(model)
    ((_, frame),) = tables.read_chunks(new, tables.Reading.from_json(config["extra"]["table"]["reading"]))
    matrix = columns.matrix(frame, notes=tables.Notes())
    assert [str(label) for label in loaded.predict(matrix).tolist()] == [row[4] for row in predicted]
    assert isinstance(loaded.classes_.tolist()[0], {"text": str, "int": int, "bool": bool}[labels])


def test_predict_refuses_and_leaves_what_was_there(tmp_path: Path) -> None:
    data, model, output = tmp_path / "data.csv", tmp_path / "model", tmp_path / "out.csv"
    table(data, "text", rows=60)
    train = ("-m", "scripts.train_classifier", "--log-dir", str(tmp_path / "run"), "--epochs", "1", "--quiet")
    run(*train, "--data", str(data), "--save", str(model))
    output.write_text("old")
    for text, said in (
        ("age,city,since,prediction\n1,Ulm,2000,x\n", "already has a column 'prediction'"),
        ("city\nUlm\n", "frame: no columns 'age', 'since'; the columns are 'city'"),
        ("age,city,since\n" + "1,Ulm,2000\n" * 60_000 + "1,Ulm\n", "line 60002 has 2 fields, the header 3"),
    ):
        new = tmp_path / "new.csv"
        new.write_text(text)
        complaint = run("-m", "scripts.predict", str(model), str(new), "--output", str(output), ok=False)
        assert said in complaint
        assert "Traceback" not in complaint
        assert output.read_text() == "old"
    run(*train, "--data", "iris", "--save", str(model))
    said = run("-m", "scripts.predict", str(model), str(data), "--output", str(output), ok=False)
    assert "was not trained on a .csv file" in said
    assert {path.name for path in tmp_path.iterdir()} == {"data.csv", "model", "earlier-1", "out.csv", "new.csv", "run"}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--target", "price"), "error: target: no column 'price'; the columns are 'age', 'name', 'city'"),
        (("--target", "age"), "error: target: column 'age' holds numbers such as"),
        (("--data", "iris", "--target", "age"), "error: --target names a column of a .csv file, but --data is 'iris'"),
        (("--test-fraction", "0.01"), "error: fraction: 0.01 of 60 rows leaves 59 to train and 1 to test"),
        (("--data", "none.csv"), "error: --data: no file 'none.csv'"),
        (("--data", "{folder}/empty.npz"), "empty.npz' must be a .npz file of numbers, X and y: "),
        (("--data", "{folder}/short.npz"), "short.npz' must be a .npz file of numbers, X and y: 'y"),
        (("--data", "{folder}/holes.npz"), "error: Input X contains NaN. Classifier does not accept"),
    ],
)
def test_a_table_that_cannot_be_learnt_from(tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    data = tmp_path / "data.csv"
    table(data, "text", rows=60)
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "short.npz", X=np.zeros((9, 2)))
    np.savez(tmp_path / "holes.npz", X=np.full((90, 2), np.nan), y=np.arange(90) % 3)
    flags = tuple(flag.format(folder=tmp_path) for flag in flags)
    log_dir = ("--log-dir", str(tmp_path / "run"))
    complaint = run("-m", "scripts.train_classifier", "--data", str(data), *log_dir, *flags, ok=False)
    assert said in complaint
    assert len([line for line in complaint.splitlines() if not line.startswith("warning: ")]) == 1
    assert not (tmp_path / "run").exists()


def test_a_class_with_a_single_row_is_learnt_from(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    table(data, "text", rows=60)
    with data.open("a") as file:
        file.write("50,,Ulm,2000,perhaps\n51,,Ulm,2000,\n")
    flags = ("--class-weight", "balanced", "--epochs", "2", "--quiet", "--log-dir", str(tmp_path / "run"))
    said = run("-m", "scripts.train_classifier", "--data", str(data), *flags)
    assert "warning: target: 1 of 62 rows without 'label' are left out" in said
    assert "warning: y: only one row of 'perhaps': kept in training" in said


def test_imbalanced_is_the_rule_of_that_name(tmp_path: Path) -> None:
    """With all rows to train on, and only where no flag says otherwise."""
    train = ("-m", "scripts.train_classifier", "--data", "iris", "--quiet", "--log-dir", str(tmp_path))
    run(*train, "--imbalanced")
    fitted = Classifier.load(tmp_path / "classifier.safetensors")
    assert fitted.n_epochs_ == 125  # of 120 rows, 16 a step: a thousand steps
    assert fitted.validation_split == 0
    assert fitted.rule == [reweighting.RECOMMENDED["rule"]] == ["imbalanced"]
    run(*train, "--imbalanced", "--epochs", "2", "--dropout", "0")
    fitted = Classifier.load(tmp_path / "classifier.safetensors")
    assert (fitted.n_epochs_, fitted.dropout, fitted.rule) == (2, 0, ["imbalanced"])
    run(*train, "--epochs", "2")
    fitted = Classifier.load(tmp_path / "classifier.safetensors")
    assert (fitted.rule, fitted.dropout, fitted.validation_split) == (None, 0.2, 0.1)
    flags = ("--task", "regression", "--imbalanced")
    assert "error: --imbalanced is not for --task regression" in run(*train, *flags, ok=False)


@pytest.mark.parametrize("cost", ["squared", "gaussian"])
def test_regression_from_a_csv_file(tmp_path: Path, cost: str) -> None:
    data, model, output = tmp_path / "data.csv", tmp_path / "model", tmp_path / "result.json"
    table(data, "number")
    files = ("--save", str(model), "--output", str(output), "--log-dir", str(tmp_path / "run"))
    flags = ("--task", "regression", "--cost", cost, *files, *FLAGS)
    run("-m", "scripts.train_classifier", "--data", str(data), *flags)
    result = json.loads(output.read_text())
    assert result["test R²"] > 0.7 > result["R² of the mean"]
    assert result["test RMSE"] < result["RMSE of the mean"]
    predictions = tmp_path / "predictions.csv"
    run("-m", "scripts.predict", str(model), str(data), "--output", str(predictions))
    with predictions.open(newline="") as file:
        predicted = list(csv.DictReader(file))
    if cost == "squared":
        assert list(predicted[0])[-1] == "prediction"
    else:
        inside = [float(row["lower"]) <= float(row["label"]) <= float(row["upper"]) for row in predicted]
        assert 0.7 <= np.mean(inside) <= 1


@pytest.mark.parametrize(
    ("script", "explained"),
    [
        (
            "train_cartpole",
            ["--evaluate-every", "A rerun replaces nothing", "runs/RECIPE-SEED or runs/METHOD-ENV-SEED"],
        ),
        ("train_classifier", ["--imbalanced", "A rerun replaces nothing", "The column of the .csv file to predict"]),
        ("predict", ["--coverage", "The .csv file to predict for"]),
        ("evaluate", ["--episodes", "The saved file, or the directory that holds agent.safetensors"]),
        ("watch", ["--gif", "in a window, or with the flags below as files", "The same seed shows the same episodes"]),
        ("bridge", ["--draws", "compare their gradients", "--debug: show the whole trace of an error"]),
        ("benchmark", ["held", "The held solve of CartPole-v1", "startup"]),
        ("benchmark_supervised", ["classify", "imbalance", "How many of scikit-learn's checks"]),
        ("reweighting", ["--processes", "Number of seeds that run at the same time"]),
        (
            "compare",
            ["Folders of seeds, as scripts.train --seeds writes them", "by default the first of eval/mean_reward"],
        ),
        ("mutants", ["--jobs", "Run only the mutations whose name contains this"]),
    ],
)
def test_help(script: str, explained: list[str]) -> None:
    said = " ".join(run("-m", f"scripts.{script}", "--help").replace("│", " ").split())
    for words in explained:
        assert words in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evaluate", "{files}/classifier-plain.safetensors"), "run: '{files}/classifier-plain.safetensors' holds a "),
        (("evaluate", "{files}"), "run: the directory '{files}' holds classifier-one"),
        (("predict", "{here}", "{here}/t.csv"), "model: the directory '{here}' holds no .safetensors file, expected "),
        (("predict", "{here}/none", "t.csv"), "model: no file or directory '{here}/none'"),
        (("predict", "{here}/t.csv", "t.csv"), "model: '{here}/t.csv' is no file that scripts.train_classifier saved"),
    ],
)
def test_a_wrong_file_is_named_in_one_plain_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    places = {"files": str(ROOT / "tests" / "files"), "here": str(tmp_path)}
    script, *rest = (argument.format(**places) for argument in arguments)
    complaint = run("-m", f"scripts.{script}", *rest, ok=False)
    assert complaint.startswith(f"error: {said.format(**places)}")
    assert complaint.count("\n") == 1
    if said.startswith("model: no file"):
        assert "Traceback" in run("-m", f"scripts.{script}", *rest, "--debug", ok=False)


def test_environment_arguments_hold_without_env(tmp_path: Path) -> None:
    PolicyGradient("CartPole-v1", num_envs=2).save(tmp_path / "agent.safetensors")
    limit = ("--env-kwargs", '{"max_episode_steps": 3}')
    said = run("-m", "scripts.evaluate", str(tmp_path), "--episodes", "2", *limit)
    assert re.search(r"^greedy +3\.00 +0\.00 +2 +3\.0$", said, flags=re.MULTILINE)


def test_predict_takes_a_run_s_directory_but_no_directory_of_data(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    table(data, "text", rows=60)
    run("-m", "scripts.train_classifier", "--data", str(data), "--log-dir", str(tmp_path / "run"), *FLAGS)
    said = run("-m", "scripts.predict", str(tmp_path / "run"), str(data), "--output", "-")
    assert len(re.findall(r",[\d.e-]+,[\d.e-]+,[\d.e-]+$", said, flags=re.MULTILINE)) == 60
    complaint = run("-m", "scripts.predict", str(tmp_path / "run"), str(tmp_path), ok=False)
    assert complaint == f"error: data: {str(tmp_path)!r} is a directory, expected a .csv file\n"
    complaint = run("-m", "scripts.predict", str(tmp_path / "run"), str(data), "--output", "no/x.csv", ok=False)
    assert complaint.startswith("error: --output: cannot write the file 'no/x.csv'")


def test_the_bridge_shows_what_is_true(tmp_path: Path) -> None:
    said = run("-m", "scripts.bridge", "--epochs", "3", "--draws", "200", "--log-dir", str(tmp_path))
    difference = float(re.search(r"p_y × cross-entropy\| in any logit: (\S+)", said)[1])  # type: ignore[index]
    assert difference < 1e-12
    for name in (r"REINFORCE, reward 1\[a=y\] ", r"REINFORCE, reward 1\[a=y\]/p_a"):
        *_, deviation, variance, closed = re.search(rf"{name}.*", said)[0].split()  # type: ignore[index]
        assert float(deviation) < 5.0  # standard errors, of ten logits together
        assert float(variance) == pytest.approx(float(closed), rel=0.1)
    assert {"labels", "all actions", "sampled rewards"} <= {path.name for path in tmp_path.iterdir()}


def test_held_benchmark_evaluates_each_2048_steps(tmp_path: Path) -> None:
    output = tmp_path / "evaluations.json"
    arguments = (
        "--recipe",
        "CartPole-v1/reinforce-no-critic",
        "--seeds",
        "1",
        "--timesteps",
        "4200",
        "--output",
        str(output),
    )
    said = run("-m", "scripts.benchmark", "held", *arguments)
    assert "| CartPole-v1/reinforce-no-critic | 0/1 | — |" in said  # two evaluations are too few to hold
    (evaluations,) = json.loads(output.read_text())["CartPole-v1/reinforce-no-critic"]
    first, last = (one["steps"] for one in evaluations)
    assert 2_048 <= first < 4_096 <= last < 2 * 4_096
    for one in evaluations:
        assert all(8 < one[kind] <= 500 for kind in ("greedy", "sampled"))
    assert f"at {last:,}: greedy {evaluations[-1]['greedy']:5.1f}" in said
    assert 0 < evaluations[0]["cpu_seconds"] < evaluations[1]["cpu_seconds"]


def test_the_benchmark_of_large_steps_sets_the_numbers_of_threads_and_gives_them_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_num_threads(), threads.LARGE
    seen: list[int] = []
    step = Trainer._step

    def watched(self: Trainer, *arguments: Any) -> Any:
        seen.append(torch.get_num_threads())
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", watched)
    monkeypatch.setattr(benchmark, "STEPS", ((8, 2, 3),))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    benchmark.large(repeats=2, seconds=1e-9)
    assert seen == [number for number in [1, 2] * 3 for _ in range(5)]
    assert (torch.get_num_threads(), threads.LARGE) == before
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.startswith("| rows | numbers in a row | hidden | rows × parameters | ms, 1 thread | ms, 2 threads |")
    assert row.startswith("| 8 | 2 | 3, 3 | 0.0 million | ")
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(ValueError, match="a single core"):
        benchmark.large()


def test_held_benchmark_s_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of three runs one is solved from its second evaluation on, one only at times, one at its end alone."""
    returns = iter([(9, 480, 490, 500), (500, 9, 480, 500), (9, 400, 500, 500)])

    def train(method: str, seed: int, timesteps: int) -> list[benchmark.Evaluated]:
        means = next(returns)
        return [benchmark.Evaluated(2_048 * (i + 1), 0.5 * (i + 1), mean, mean) for i, mean in enumerate(means)]

    monkeypatch.setattr(benchmark, "train_ours", train)
    benchmark.held(("CartPole-v1/ppo",), seeds=3, timesteps=8_192)
    row = capsys.readouterr().out.splitlines()[-1]
    assert row == (
        "| CartPole-v1/ppo | 1/3 | 4,096 (4,096 to 4,096) | 1.00 (1.00 to 1.00) | 2.00 (2.00 to 2.00) "
        "| 500 (500 to 500) | 500 (500 to 500) / 500 (500 to 500) |"
    )


def test_reweighting_compares_every_rule(tmp_path: Path) -> None:
    output = tmp_path / "measures.json"
    flags = ("--seeds", "2", "--epochs", "1", "--processes", "1", "--output", str(output))
    said = run("-m", "scripts.reweighting", *flags)
    assert len(re.findall(r"^\| that and dropout .3 \| 0\.", said, flags=re.MULTILINE)) == 4
    measures = json.loads(output.read_text())["seeds"]
    assert {len(seeds) for seeds in measures.values()} == {2}
    # Without noise, nothing is uncertain.
    assert measures["noise 0.0 / uncertain labels"][0] == pytest.approx(measures["noise 0.0 / plain"][0], abs=1e-6)
    assert measures["noise 0.2 / plain"] != measures["noise 0.0 / plain"]
    assert "error: --seeds must be at least 2" in run("-m", "scripts.reweighting", "--seeds", "1", ok=False)


def test_supervised_benchmarks_print_their_tables(tmp_path: Path) -> None:
    benchmark = ("-m", "scripts.benchmark_supervised")
    output = tmp_path / "results.json"
    said = run(*benchmark, "classify", "--data", "wine", "--seeds", "1", "--epochs", "1", "--output", str(output))
    for contender in ("rlce.Classifier", "MLPClassifier", "HistGradientBoosting"):
        assert f"| wine | {contender} | " in said
        assert len(json.loads(output.read_text())["wine"][contender]) == 1
    said = run(*benchmark, "regress", "--seeds", "1", "--epochs", "2", "--rows", "100")
    for data in ("diabetes", "outliers"):
        assert f"| {data} | rlce.Regressor, squared, conformal | " in said
        assert f"| {data} | HistGradientBoosting, quantile | " in said
    said = run(*benchmark, "classify", "--data", "digit", ok=False)
    assert "error: --data must be one of digits, breast-cancer, wine, made, got 'digit'" in said


def test_checks_are_counted() -> None:
    said = run("-m", "scripts.benchmark_supervised", "checks", "--estimator", "rlce.Regressor, no chance")
    row = re.search(r"\| rlce.Regressor, no chance \| (\d+) \| (\d+) \| (\d+) \| (\d+) ", said)
    assert row is not None
    checks, passed, failed, skipped = map(int, row.groups())
    assert checks == passed + skipped
    assert failed == 0
    said = run("-m", "scripts.benchmark_supervised", "checks", "--estimator", "Regressor", ok=False)
    assert "error: --estimator must be one of rlce.Classifier, rlce.Classifier, no chance, rlce.Regressor, " in said
