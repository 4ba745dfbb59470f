"""The progress of a training on standard error: a bar in a terminal, elsewhere a plain line every few seconds."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Any, Self, TextIO

_SHORTEST = 10  # columns of a bar that is worth its place


class Bar:
    """Shows a monitored value, the speed and the time left in the columns that there are.

    A narrow terminal loses the bar first, then words, the speed and the time; the value stays. Where standard error is
    no terminal, it gets a line every few seconds and one at the end, without carriage returns.

    Args:
        total: steps until the end; None if that is not known.
        unit: what is counted: "steps" or "samples".
        label: what the value is called.
        every: seconds between lines where standard error is no terminal.

    Example:
        >>> import contextlib
        >>> with contextlib.redirect_stderr(sys.stdout), Bar(200, label="return") as bar:
        ...     bar.update(200, 9.5)  # doctest: +ELLIPSIS
        100%, return 9.5, ... steps/s, in 0:00
    """

    _INTERVAL = 0.1  # seconds between two states of a bar

    def __init__(self, total: int | None, unit: str = "steps", label: str = "", every: float = 5.0) -> None:
        from tqdm import tqdm

        self.total, self.unit, self.label = total, unit, label
        self.terminal = sys.stderr.isatty()
        self.every = self._INTERVAL if self.terminal else every
        self.began = self.drawn = time.perf_counter()
        self.steps, self.value = 0, ""
        self._size = tqdm.format_sizeof
        self._tqdm: Any = tqdm(total=total, disable=not self.terminal, bar_format="{desc}", file=sys.stderr)
        if self.terminal:
            self._draw()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._draw(over=True)
        self._tqdm.close()

    def update(self, steps: int, value: float | None = None) -> None:
        """Show this many steps since the bar began, and the value if there is a new one."""
        self.steps = steps
        if value is not None:
            self.value = f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.4g}"
        if time.perf_counter() - self.drawn >= self.every:
            self._draw()

    def _draw(self, over: bool = False) -> None:
        self.drawn = time.perf_counter()
        texts = self._texts(self.drawn - self.began, over)
        if not self.terminal:
            print(texts[0].strip(), file=sys.stderr, flush=True)
            return
        bar, self._tqdm.ncols = self._tqdm, columns(sys.stderr) - 1  # a full line would wrap in some terminals
        if self.total is not None and bar.ncols >= len(texts[0]) + _SHORTEST:
            bar.bar_format = "{percentage:3.0f}%|{bar}| {desc}"
            text = texts[0][len("100%, ") :]
        else:
            bar.bar_format = "{desc}"
            text = next((text for text in texts if len(text) <= bar.ncols), texts[-1])
        bar.n = self.steps if self.total is None else min(self.steps, self.total)  # the last round is completed
        bar.set_description_str(text, refresh=not over)  # closing draws

    def _texts(self, seconds: float, over: bool) -> list[str]:
        """What can be shown, from the longest to the shortest."""
        speed = self.steps / max(seconds, 1e-9)
        rate = f"{self._size(speed)}{{}}/s" if speed else ""
        value = f"{self.label} {self.value}".strip() if self.value else ""
        if self.total is None:
            done, left = f"{self._size(self.steps)} {self.unit}", _clock(seconds)
        else:
            done, rest = f"{100 * min(self.steps / max(self.total, 1), 1.0):3.0f}%", max(self.total - self.steps, 0)
            left = f"{_clock(rest / speed)} left" if speed else ""
        if over:
            left = f"in {_clock(seconds)}"
        texts = [", ".join(part for part in (done, value, rate.format(f" {self.unit}"), left) if part)]
        for parts in ((done, value, rate.format(""), left), (done, value, left), (done, value), (value or done,)):
            texts.append(" ".join(part for part in parts if part))
        return [*texts, self.value or done.strip()]


def _clock(seconds: float) -> str:
    """A duration in few characters.

    Example:
        >>> _clock(62.4), _clock(3_720), _clock(100_000)
        ('1:02', '1h02', '1d03h')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d{hours % 24:02}h"
    return f"{hours}h{minutes:02}" if hours else f"{minutes}:{rest:02}"


def columns(stream: TextIO) -> int:
    """The width of a stream's terminal; 80 if it has none and the environment's ``COLUMNS`` does not say.

    Example:
        >>> columns(sys.stderr) > 0
        True
    """
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        width = 0
    return width or shutil.get_terminal_size().columns
