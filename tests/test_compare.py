"""Several seeds, and the comparison of runs: what is written, what is read, what is refused."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from rlce import Tracker
from scripts import compare, curves, processes, train
from tests.commands import run

ROOT = Path(__file__).parents[1]
STEPS = [100, 200, 300, 400]
RISE = [[0.0, 10.0, 20.0, 30.0], [1.0, 12.0, 20.0, 38.0], [2.0, 11.0, 25.0, 34.0], [3.0, 99.0, 27.0, 32.0]]
TAG = "eval/mean_reward"


def recorded(folder: Path, values: Sequence[float], *tags: str, steps: Sequence[int] = STEPS, **settings: int) -> Path:
    """A finished run."""
    tracker = Tracker(folder)
    tracker.open()
    tracker.begin({}, settings, {})
    for step, value in zip(steps, values, strict=False):
        tracker.scalars({**dict.fromkeys(tags or (TAG,), value), "time/fps": 1.0}, step)
    tracker.close()
    return folder


def group(folder: Path, tag: str = TAG) -> Path:
    for seed, values in enumerate(RISE):
        recorded(folder / f"seed-{seed}", values, tag, Seed=seed)
    return folder


def compared(*runs: Path, out: Path, tag: str | None = None) -> None:
    compare.main(compare.Arguments(runs, tag, out))


def test_the_band_in_tensorboard_is_the_aggregate_of_the_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "compare"
    group(tmp_path / "a")
    for _ in range(2):  # the second time in place of the first
        compared(tmp_path / "a", out=out)
    (file,) = (out / "a").glob("events*")
    events = EventAccumulator(str(file)).Reload()
    low, high = curves.interval(RISE)
    for end, expected in (("", curves.interquartile_mean(RISE)), ("/low", low), ("/high", high)):
        found = events.Scalars(f"over_seeds/{TAG}{end}")
        assert [one.step for one in found] == STEPS
        np.testing.assert_allclose([one.value for one in found], expected, rtol=1e-6)
    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    (chart,) = layout.category[0].chart
    (band,) = chart.margin.series
    assert (band.value, band.lower, band.upper) == tuple(f"over_seeds/{TAG}{end}" for end in ("", "/low", "/high"))
    with pytest.raises(KeyError):
        events.PluginTagToContent("hparams")  # no row for it among the trainings
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (out / "compare.svg").read_bytes()
    text = (out / "compare.md").read_text()
    assert "| a | 4 | 400 |" in text
    ends = [np.mean(one[-3:]) for one in RISE]
    assert f"| {curves.with_interval(ends, 2)} | 20.00 to 52.67 |" in text
    assert text in capsys.readouterr().out


def test_a_scalar_of_rounds_where_there_is_no_evaluation_and_of_classifiers(tmp_path: Path) -> None:
    for number, tag in enumerate(compare.TAGS):
        compared(group(tmp_path / tag.replace("/", "-"), tag), out=tmp_path / str(number))
        assert (tmp_path / str(number) / "compare.md").read_text().count(f"\n{tag}. End") == 1
    runs = [compare.read(recorded(tmp_path / "both", RISE[0], "val/loss", TAG))]
    assert compare.chosen_tag(runs, None) == TAG
    assert compare.chosen_tag(runs, "val/loss") == "val/loss"


def test_seeds_that_are_named_one_by_one_are_one_group(tmp_path: Path) -> None:
    for number in (0, 9, 10):
        recorded(tmp_path / "a" / f"seed-{number}", RISE[0])
    recorded(tmp_path / "a" / "earlier-1", RISE[0])
    lone = recorded(tmp_path / "b" / "mine-3", RISE[0])
    recorded(lone / "earlier-1", RISE[1])
    names = {"a": ["seed-0", "seed-9", "seed-10"]}
    given = [tmp_path / "a" / name for name in names["a"]]
    for paths in ([tmp_path / "a"], given, [*given, tmp_path / "a"]):
        assert {key: [one.name for one in seeds] for key, seeds in compare.folders_of(paths).items()} == names
    assert compare.folders_of([lone]) == {"mine-3": [lone]}
    recorded(tmp_path / "c" / "a", RISE[0])
    assert list(compare.folders_of([tmp_path / "a", tmp_path / "c" / "a"])) == [f"{tmp_path.name}/a", "c/a"]


def test_one_seed_has_a_curve_and_no_band(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path / "long" / "seed-0", [1.0, 2.0, 3.0, 4.0])
    recorded(tmp_path / "long" / "seed-1", [1.0, 2.0])
    compared(recorded(tmp_path / "one", RISE[0]), tmp_path / "long", out=tmp_path / "out")
    said = capsys.readouterr().out
    assert "one: one seed has no band; python -m scripts.train --seeds 10 trains several" in said
    assert "long: the curve ends at 200 steps with the shortest seed; the longest has 400" in said
    assert set(compare.read(tmp_path / "out" / "one").scalars) == {f"over_seeds/{TAG}"}


def test_over_seconds_a_finished_seed_keeps_its_last_value() -> None:
    early, late = (np.array([[1.0, 2.0], [second, second + 1.0], [5.0, 7.0]]) for second in (0.0, 3.0))
    seconds, values = compare.Group("g", (early, late)).over(1)
    assert (seconds[0], seconds[-1]) == (3.0, 4.0)
    assert values[:, 0].tolist() == [7.0, 5.0]
    assert values[:, -1].tolist() == [7.0, 7.0]


def test_what_cannot_be_compared_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    good, out = group(tmp_path / "above" / "good"), tmp_path / "out"
    (tmp_path / "empty").mkdir()
    recorded(tmp_path / "mixed" / "seed-0", RISE[0], steps=STEPS, clip=1)
    recorded(tmp_path / "mixed" / "seed-1", RISE[0], steps=STEPS, clip=2)
    recorded(tmp_path / "apart" / "seed-0", RISE[0])
    recorded(tmp_path / "apart" / "seed-1", RISE[0], steps=[900, 901, 902, 903])
    recorded(tmp_path / "twice", RISE[0], steps=[100, 200, 50, 60])
    recorded(tmp_path / "nothing", [])
    other = recorded(tmp_path / "other", RISE[0], "mine")
    compared(good, out=tmp_path / "made")
    for runs, tag, said in (
        ([], None, "name at least one run"),
        ([tmp_path / "no"], None, "is no folder; name the --log-dir of a training"),
        ([tmp_path / "empty"], None, "has no event files, nor have the folders in it; train with --log-dir"),
        ([tmp_path / "above"], None, f"nor have the folders in it; name {good}"),
        ([tmp_path / "mixed"], None, "mixed: seed-0 and seed-1 differ in clip, so they are not seeds of one setting"),
        ([tmp_path / "apart"], None, "apart: the seeds have no part of the x-axis in common"),
        ([tmp_path / "twice"], None, "go back, so it holds two runs; move one elsewhere"),
        ([tmp_path / "nothing"], None, "hold no scalars yet"),
        ([good, other], None, "is in every run; choose one with --tag: time/fps"),
        ([good], "eval/mean", f"has no 'eval/mean'; choose one with --tag: {TAG}, time/fps"),
        ([tmp_path / "made" / "good"], None, "was written by scripts.compare; name the runs that it was made from"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            compared(*runs, out=out, tag=tag)
        assert not out.exists()
    with pytest.raises(ValueError, match="holds a run that scripts.compare did not write; name another folder"):
        compared(recorded(tmp_path / "again" / "other", RISE[0]), out=tmp_path)
    assert compare.read(other).scalars["mine"][2].tolist() == RISE[0]


def test_flags_say_what_the_arguments_are() -> None:
    for arguments in (
        train.Arguments("CartPole-v1/ppo"),
        train.Arguments("m:E-v0", method="ppo", env_kwargs='{"a": "b c"}', normalize_observations=False, seed=-1),
        train.Arguments(recipe="CartPole-v1/ppo", learning_rate=3e-3, log="none", quiet=True, log_dir=Path("a b")),
    ):
        assert tyro.cli(train.Arguments, args=train.flags(arguments)) == arguments


def test_several_seeds_train_into_one_folder_and_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)  # children import the scripts from there
    folder, output = tmp_path / "seeds", tmp_path / "all.json"
    sizes = {"total_timesteps": 5000, "episodes": 2, "log": "scalars"}
    tables = train.main(train.Arguments("CartPole-v1/ppo", seeds=2, seed=3, log_dir=folder, output=output, **sizes))
    assert [one["seed"] for one in tables] == [3, 4]
    assert json.loads(output.read_text()) == tables
    assert sorted(one.name for one in folder.iterdir()) == ["seed-3", "seed-4"]
    assert all((folder / one / "agent.safetensors").exists() for one in ("seed-3", "seed-4"))
    assert f"python -m scripts.compare {folder}" in capsys.readouterr().out
    compared(folder, out=tmp_path / "out")
    assert "| seeds | 2 |" in (tmp_path / "out" / "compare.md").read_text()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"jobs": 0}, "--jobs must be at least 1, got 0"),
        ({"save": Path("agent.safetensors")}, "--save names one file, and --seeds trains several agents"),
        ({"task": "Nothing-v0"}, "Nothing"),
    ],
)
def test_what_is_wrong_for_one_seed_is_said_once(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    arguments = {"task": "CartPole-v1", "seeds": 2, "log_dir": tmp_path / "runs", **changed}
    with pytest.raises(Exception, match=said):
        train.main(train.Arguments(**arguments))
    assert not (tmp_path / "runs").exists()


SAVES = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.3)
    pathlib.Path(sys.argv[1]).write_text("saved")
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""


def test_an_interrupt_ends_what_runs_and_lets_it_save(tmp_path: Path) -> None:
    quick, slow, never = (tmp_path / name for name in ("quick", "slow", "never"))
    saved = tmp_path / "saved"
    commands = {
        quick: [sys.executable, "-c", "print('done')"],
        slow: [sys.executable, "-c", SAVES, str(saved)],
        never: [sys.executable, "-c", SAVES, str(tmp_path / "other")],
    }

    def interrupt() -> None:
        while not all(path.exists() and path.read_text() == "ready\n" for path in (slow, never)):
            pass_time.wait(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    pass_time, ended = threading.Event(), []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            ended.extend(processes.finished(commands, 2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert quick.read_text() == "done\n"
    assert saved.read_text() == "saved"
    assert (tmp_path / "other").read_text() == "saved"


def test_no_more_processes_than_asked_for_and_the_status_of_each(tmp_path: Path) -> None:
    mark = (
        "import pathlib, time; p = pathlib.Path('mark'); assert not p.exists(); p.touch(); time.sleep(.1); p.unlink()"
    )
    alone = [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {mark}"]
    commands = {
        tmp_path / "a": alone,
        tmp_path / "b": alone,
        tmp_path / "c": [sys.executable, "-c", "raise SystemExit(3)"],
    }
    assert dict(processes.finished(commands, 1)) == {tmp_path / "a": 0, tmp_path / "b": 0, tmp_path / "c": 3}


def test_the_command_line_ends_in_one_line(tmp_path: Path) -> None:
    said = run("-m", "scripts.compare", str(tmp_path), ok=False)
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
