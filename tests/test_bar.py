"""What training shows on standard error: a bar that fits its terminal, and plain lines elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import warnings
from pathlib import Path
from typing import Any

import pytest

import scripts
from rlce import bar
from rlce.bar import Bar

ROOT = Path(__file__).parents[1]


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def frames(self) -> list[str]:
        """Every state of the line, without the blanks that erase the one before."""
        return [frame.rstrip() for frame in re.split(r"[\r\n]", self.getvalue()) if frame.strip()]


def frames(monkeypatch: pytest.MonkeyPatch, width: int, steps: int = 4_000, **arguments: Any) -> list[str]:
    """What a terminal of this width shows of a training that has run for 50 minutes."""
    monkeypatch.setattr(bar, "columns", lambda _: width)
    monkeypatch.setattr(Bar, "_INTERVAL", 0.0)
    value = arguments.pop("value", 20.02)
    with (
        contextlib.redirect_stderr(Terminal()) as terminal,
        Bar(**{"total": 8_000, "label": "return"} | arguments) as one,
    ):
        one.began -= 3_000.0
        one.update(steps, value)
    assert all(len(frame) < width for frame in terminal.frames)
    return terminal.frames


@pytest.mark.parametrize(
    ("width", "value", "expected"),
    [
        (40, 20.02, " 50% return 20.02 1.33/s 50:00 left"),
        (40, -1234.5, " 50% return -1234 1.33/s 50:00 left"),
        (30, 20.02, " 50% return 20.02 50:00 left"),
        (20, 20.02, " 50% return 20.02"),
        (15, 20.02, "return 20.02"),
        (8, 20.02, "20.02"),
    ],
)
def test_a_narrow_terminal_keeps_the_value_and_the_end(
    monkeypatch: pytest.MonkeyPatch, width: int, value: float, expected: str
) -> None:
    assert frames(monkeypatch, width, value=value)[-2] == expected


def test_a_wide_terminal_has_a_bar_and_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frames(monkeypatch, 120, value=0.5, label="accuracy", unit="samples")[-2]
    assert re.fullmatch(r" 50%\|[█#]+[^|]*\| accuracy 0\.5, 1\.33 samples/s, 50:00 left", frame)
    assert len(frame) == 119


def test_more_steps_than_expected_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A last round is completed: the bar stays at its end."""
    last = frames(monkeypatch, 120, steps=9_000)[-1]
    assert re.fullmatch(r"100%\|[█#]+\| return 20\.02, 3\.00 steps/s, in 50:00", last)


def test_without_an_end_there_is_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frames(monkeypatch, 80, total=None)[-2] == "4.00k steps, return 20.02, 1.33 steps/s, 50:00"


def test_elsewhere_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr("rlce.bar.time.perf_counter", lambda: now)
    with Bar(10, label="loss", every=0.5) as made:
        for step in range(1, 11):
            now = step / 8
            made.update(step, 1.0 / step)
    said = capsys.readouterr().err
    assert "\r" not in said
    assert len(said.splitlines()) == 3  # of ten updates those after 4/8 and 8/8 seconds, and the end
    assert re.fullmatch(r"100%, loss 0\.1, .* steps/s, in 0:01", said.splitlines()[-1])


def test_a_warning_stands_in_one_plain_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "argv", ["script"])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        scripts.run(lambda: warnings.warn("\x1b[33mWARN: two\n  lines\x1b[0m", stacklevel=1))
    assert capsys.readouterr().err == "warning: WARN: two lines\n"


def run_on_a_terminal(width: int, *arguments: str) -> str:
    """What a command writes to a terminal of this width."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        said = b""
        while True:
            try:
                part = os.read(leader, 65_536)
            except OSError:  # Linux's end of a terminal
                break
            if not part:
                break
            said += part
    os.close(leader)
    assert process.returncode == 0, said.decode()
    return said.decode()


def test_training_on_a_terminal_of_40_columns(tmp_path: Path) -> None:
    flags = ("--total-timesteps", "3000", "--episodes", "2", "--log", "none", "--log-dir", str(tmp_path))
    said = run_on_a_terminal(40, "-m", "scripts.train", "CartPole-v1", *flags)
    frames = [frame.rstrip() for frame in re.split(r"[\r\n]+", said) if re.match(r" *\d+%", frame)]
    assert len(frames) >= 3
    assert all(len(frame) < 40 for frame in frames)
    assert re.fullmatch(r"100% return [\d.]+ [\d.]+k?/s in 0:\d\d", frames[-1])
    table = said.replace("\r", "").split(frames[-1])[1].strip().splitlines()
    assert table[0].startswith("greedy return")  # the result first
    assert table[1].startswith("  ")  # too long for the line of its name


def test_training_into_a_pipe(tmp_path: Path) -> None:
    flags = ("--data", "iris", "--epochs", "3", "--log", "none", "--log-dir", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "scripts.train_classifier", *flags], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "\r" not in done.stderr
    assert re.search(r"^100%, loss [\d.]+, [\d.]+k? samples/s, in 0:\d\d$", done.stderr, flags=re.MULTILINE)
    table = done.stdout[done.stdout.index("test accuracy") :]
    assert table.index("test accuracy") < table.index("data ") < table.index("saved ")
