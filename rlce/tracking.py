"""Event files for TensorBoard. No other module of the library imports TensorBoard.

Each call writes its records at once, in the calling thread, in one write to the file. So an interrupt can neither hang
nor leave half a record (TensorBoard's own writer waits for a second thread, up to two minutes after an interrupt).

The x-axis is environment steps for `PolicyGradient` and samples seen for `Classifier` and `Regressor`. `rlce.scalars`
defines everything that is written; docs/scalars.md shows it with what it costs.

How much is written is ``log``:

==============  ====================================================================================================
``"all"``       scalars, text and hyperparameters; at evaluations and at the end also histograms and images, while
                each of the two takes at most a fiftieth of the time
``"scalars"``   scalars, text and hyperparameters
``"none"``      nothing; the directory is still made
==============  ====================================================================================================
"""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import mmap
import os
import platform
import shlex
import socket
import struct
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

LEVELS = ("all", "scalars", "none")
_SHARE = 0.02  # of the time, for histograms; as much again for images
_BINS = 30
_EVENTS = "events.out.tfevents.*"
_SEARCHED = 10**8  # bytes of other runs that are searched for an experiment summary
_LIBRARIES = ("rlce", "torch", "numpy", "gymnasium", "sklearn", "scipy", "tensorboard")


class Band(NamedTuple):
    """A chart of a scalar between two others.

    Example:
        >>> Band("eval/mean_reward", "eval/min_reward", "eval/max_reward").lower
        'eval/min_reward'
    """

    value: str
    lower: str
    upper: str


Layout = Mapping[str, Mapping[str, Sequence[str] | Band]]  # category → chart → scalars


class Details(NamedTuple):
    """What a run shows besides its curves.

    Attributes:
        histograms: numbers by name, of any shape.
        images: functions by name, each of which draws a PNG file.
        scalars: numbers that only an evaluation gives.

    Example:
        >>> Details(histograms={"policy/weights": [0.0, 1.0]}).images
        {}
    """

    histograms: Mapping[str, ArrayLike] = {}
    images: Mapping[str, Callable[[], bytes]] = {}
    scalars: Mapping[str, float] = {}


class _Allowance:
    """The time that histograms, or images, may take: a share of all time since the file was opened.

    Args:
        expected: seconds that the first of them is expected to take.
    """

    def __init__(self, expected: float) -> None:
        self._began, self._spent, self._latest = time.perf_counter(), 0.0, expected
        self._step: int | None = None

    def covers(self, step: int, last: bool) -> bool:
        """True if there is time for more, or if these are the last; False if they were written at this step."""
        elapsed = time.perf_counter() - self._began
        return step != self._step and (last or self._spent + self._latest <= _SHARE * elapsed)

    def book(self, step: int, began: float) -> None:
        """Count the time since ``began``."""
        self._step, self._latest = step, time.perf_counter() - began
        self._spent += self._latest


class Tracker:
    """Writes what TensorBoard shows of one run. Does nothing without a directory, or if closed.

    Args:
        log_dir: the run's directory, created if it does not exist; None for no output.
        log: "all", "scalars" or "none": how much is written (see `rlce.tracking`).

    Raises:
        ValueError: another ``log``, or the directory cannot be created or written to.

    Example:
        >>> Tracker(None).scalars({"train/loss": 1.0}, step=0)
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None, log: str = "all") -> None:
        if log not in LEVELS:
            raise ValueError(f"log must be one of {', '.join(map(repr, LEVELS))}, got {log!r}")
        self.log_dir, self.log = None if log_dir is None else Path(log_dir), log
        self._file: io.FileIO | None = None
        if self.log_dir is None:
            return
        try:
            self.log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"log_dir: cannot create the directory {str(self.log_dir)!r}: {error.strerror}") from error
        if not os.access(self.log_dir, os.W_OK | os.X_OK):
            raise ValueError(f"log_dir: the directory {str(self.log_dir)!r} is not writable")

    def open(self, after_step: int = 0) -> None:
        """Begin a new event file.

        Args:
            after_step: the x-axis position where this run begins. TensorBoard hides what earlier files of the same
                directory hold beyond it.

        Warns:
            UserWarning: another run in the directory, or beside it, hides this one's hyperparameters.
        """
        if self.log_dir is None or self.log == "none" or self._file is not None:
            return
        from tensorboard.compat.proto.event_pb2 import SessionLog

        _warn_of_experiments(self.log_dir)
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        # TensorBoard reads files in the order of their names, so the time comes first, padded.
        name = f"events.out.tfevents.{seconds:010d}.{nanoseconds:09d}.{socket.gethostname()}.{os.getpid()}"
        self._file = io.FileIO(self.log_dir / name, "x")
        step = after_step + 1 if after_step else 0
        self._write({"file_version": "brain.Event:2"}, {"session_log": SessionLog(status=SessionLog.START)}, step=step)
        self._histograms, self._images = _Allowance(expected=0.01), _Allowance(expected=1.0)

    def begin(
        self, configuration: Mapping[str, Any], hyperparameters: Mapping[str, Any] | None, layout: Layout
    ) -> None:
        """Write what is known before training.

        Args:
            configuration: everything, for the Text tab; nested mappings get dotted names.
            hyperparameters: the few numbers and words that runs are compared by, for the HParams tab. TensorBoard sorts
                names that differ between runs before others, and then capitals before small letters, and shows the
                first five. A value of None is left out. None instead of a mapping: the tab does not list the run.
            layout: of the Custom Scalars tab.
        """
        if self._file is None:
            return
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

        # No experiment summary: it would say which columns all runs below TensorBoard's directory have, so that runs of
        # another kind show blank ones. Without any, TensorBoard takes the union.
        info = SessionStartInfo(start_time_secs=time.time())
        for name, value in (hyperparameters or {}).items():
            if isinstance(value, bool):
                info.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                info.hparams[name].number_value = value
            elif value is not None:
                info.hparams[name].string_value = _word(value)
        start = HParamsPluginData(session_start_info=info)
        modules = {name: sys.modules[name] for name in _LIBRARIES if name in sys.modules}
        versions = {name: getattr(module, "__version__", "?") for name, module in modules.items()}
        versions = {"Python": platform.python_version(), **versions, "system": platform.platform()}
        self._summary(
            _tensor("run/command", "text", f"| command |\n|---|\n| {_cell(shlex.join(sys.orig_argv))} |"),
            _tensor("run/versions", "text", _markdown(versions)),
            _tensor("run/configuration", "text", _markdown(dict(_flat("", configuration)))),
            _tensor("custom_scalars__config__", "custom_scalars", _serialized(layout)),
            *([] if hyperparameters is None else [_hparams("session_start_info", start)]),
        )

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write named numbers at an x-axis position.

        Raises:
            TypeError: a value that is no number; the message names it.
        """
        if self._file is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = []
        for name, value in values.items():
            try:
                numbers.append(Summary.Value(tag=name, simple_value=float(value)))
            except (TypeError, ValueError) as error:
                raise TypeError(f"scalars to log must be numbers, got {value!r} for {name!r}") from error
        self._summary(*numbers, step=step)

    def image(self, name: str, encoded: bytes, step: int) -> None:
        """Write an image at an x-axis position; TensorBoard's tab "Images" shows it.

        Args:
            name: of the image, such as "episodes/best".
            encoded: the content of a PNG, GIF or JPEG file. A GIF plays.
            step: the x-axis position.

        Raises:
            ValueError: it is no image file.
        """
        if self._file is not None:
            self._summary(_image(name, encoded), step=step)

    def details(self, make: Callable[[], Details], step: int, *, last: bool = False) -> None:
        """Write histograms and images at an x-axis position, as far as ``log`` and the time allow.

        Args:
            make: computes them; not called if they are not written.
            step: the position.
            last: True at the end, where they are written whatever they cost.

        Warns:
            UserWarning: there are images, but matplotlib is not installed.
        """
        if self._file is None or self.log != "all":
            return
        numbers = self._histograms.covers(step, last)
        images = (numbers or last) and self._images.covers(step, last)
        if not (numbers or images):
            return
        began = time.perf_counter()
        details = make()
        if numbers:
            found = {name: np.asarray(values, dtype=np.float64) for name, values in details.histograms.items()}
            finite = {name: values[np.isfinite(values)] for name, values in found.items()}
            self._summary(*(_histogram(name, values) for name, values in finite.items() if values.size), step=step)
            self.scalars(details.scalars, step)
            self._histograms.book(step, began)
            began = time.perf_counter()
        if images and details.images:
            if importlib.util.find_spec("matplotlib") is None:
                what = "TensorBoard gets no images, because matplotlib is not installed: pip install 'rlce[plots]'"
                warnings.warn(what, stacklevel=2)
                return
            self._summary(*(_image(name, draw()) for name, draw in details.images.items()), step=step)
            self._images.book(step, began)

    def results(self, values: Mapping[str, float | None], step: int) -> None:
        """Write what was measured after training as scalars ``end/NAME``, so that the HParams tab shows it first.

        Args:
            values: numbers by name; None is left out.
            step: the x-axis position where training ended.

        Example:
            >>> Tracker(None).results({"greedy_return": 500.0}, step=50_000)
        """
        self.open(after_step=step)
        self.scalars({f"end/{name}": value for name, value in values.items() if value is not None}, step)
        self.close()

    def close(self, succeeded: bool | None = None) -> None:
        """Close the file. `open` begins another one in the same directory.

        Args:
            succeeded: how the training ended, for the HParams tab; None to say nothing.
        """
        if self._file is None:
            return
        try:
            if succeeded is not None:
                from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
                from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

                status = STATUS_SUCCESS if succeeded else STATUS_FAILURE
                info = SessionEndInfo(status=status, end_time_secs=time.time())
                self._summary(_hparams("session_end_info", HParamsPluginData(session_end_info=info)))
        finally:
            self._file.close()
            self._file = None

    def _summary(self, *values: Any, step: int = 0) -> None:
        """Append one event with all values."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if values:
            self._write({"summary": Summary(value=values)}, step=step)

    def _write(self, *events: dict[str, Any], step: int = 0) -> None:
        """Append all events in a single system call, which no signal can divide."""
        from tensorboard.compat.proto.event_pb2 import Event

        records = bytearray()
        for event in events:
            data = Event(wall_time=time.time(), step=step, **event).SerializeToString()
            length = struct.pack("<Q", len(data))
            records += length + _checksum(length) + data + _checksum(data)
        assert self._file is not None
        self._file.write(records)


# ------------------------------------------------------------------------------------------------ what a record holds


@functools.cache
def _remainders() -> tuple[int, ...]:
    """CRC-32C of every byte (Castagnoli's polynomial, reflected)."""
    remainders = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        remainders.append(value)
    return tuple(remainders)


def _checksum(data: bytes) -> bytes:
    """The masked CRC-32C of a record. TensorBoard's own function is the same, but importing it takes 0.15 s."""
    remainders, crc = _remainders(), 0xFFFFFFFF
    for byte in data:
        crc = remainders[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _tensor(tag: str, plugin: str, content: str | bytes) -> Any:
    """A text, or another string that a plugin reads."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    data = content.encode() if isinstance(content, str) else content
    return Summary.Value(tag=tag, metadata=metadata, tensor=TensorProto(dtype=DT_STRING, string_val=[data]))


def _hparams(name: str, content: Any) -> Any:
    """A record of the HParams tab, all of which stands in the metadata."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_FLOAT

    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    metadata, nothing = SummaryMetadata(plugin_data=plugin), TensorProto(dtype=DT_FLOAT, float_val=[0.0])
    return Summary.Value(tag=f"_hparams_/{name}", metadata=metadata, tensor=nothing)


def _histogram(tag: str, numbers: Any) -> Any:
    """Counts of finite numbers in bins of equal width; whole numbers of a small range get a bin each."""
    from tensorboard.compat.proto.histogram_pb2 import HistogramProto
    from tensorboard.compat.proto.summary_pb2 import Summary

    low, high = float(numbers.min()), float(numbers.max())
    if high - low < _BINS and (numbers == np.floor(numbers)).all():
        edges = np.arange(low, high + 2.0) - 0.5
    else:
        edges = np.linspace(low, high if high > low else low + max(1e-6 * abs(low), 1e-12), _BINS + 1)
    counts, _ = np.histogram(numbers, edges)
    proto = HistogramProto(
        min=edges[0],
        max=edges[-1],
        num=numbers.size,
        sum=numbers.sum(),
        sum_squares=np.square(numbers).sum(),
        bucket_limit=edges[1:],
        bucket=counts,
    )
    return Summary.Value(tag=tag, histo=proto)


def _image(tag: str, encoded: bytes) -> Any:
    """A PNG, GIF or JPEG file as a summary."""
    from PIL import Image  # TensorBoard requires Pillow
    from tensorboard.compat.proto.summary_pb2 import Summary

    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            width, height = opened.size
    except OSError as error:
        raise ValueError(f"encoded must be the content of an image file, got {encoded[:8]!r}...") from error
    image = Summary.Image(encoded_image_string=encoded, width=width, height=height, colorspace=3)
    return Summary.Value(tag=tag, image=image)


def _serialized(layout: Layout) -> bytes:
    """The layout of the Custom Scalars tab."""
    from tensorboard.plugins.custom_scalar import layout_pb2 as pb

    def chart(title: str, shown: Any) -> Any:
        if isinstance(shown, Band):
            band = pb.MarginChartContent(series=[pb.MarginChartContent.Series(**shown._asdict())])
            return pb.Chart(title=title, margin=band)
        # Names are regular expressions there, which match from the start.
        return pb.Chart(title=title, multiline=pb.MultilineChartContent(tag=[f"{name}$" for name in shown]))

    categories = [
        pb.Category(title=title, chart=[chart(*each) for each in charts.items()]) for title, charts in layout.items()
    ]
    return bytes(pb.Layout(category=categories).SerializeToString())


# ------------------------------------------------------------------------------------------------------- words, tables


def _flat(prefix: str, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Dotted names and plain values."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield prefix + str(name), value


def _word(value: Any) -> str:
    """A value as a short text.

    Example:
        >>> _word((64, 64)), _word("adam"), _word(None)
        ('64, 64', 'adam', 'None')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(_word, value))
    return value if isinstance(value, str) else str(value)


def _markdown(rows: Mapping[str, Any]) -> str:
    r"""A table of names and values.

    Example:
        >>> print(_markdown({"env": "CartPole-v1", "rule": "a|b"}))
        | name | value |
        |---|---|
        | env | CartPole-v1 |
        | rule | a\|b |
    """
    lines = (f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items())
    return "\n".join(["| name | value |", "|---|---|", *lines])


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = text if len(text) <= 1_000 else f"{text[:1_000]} ..."
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def experiments(log_dir: Path) -> list[Path]:
    """Event files with an experiment summary, in a run's directory, in those beside it, and one level below.

    Each of them says which columns TensorBoard's HParams tab has for all runs. No more than 100 MB are read.

    Args:
        log_dir: the directory of a run; TensorBoard is usually started on the one above.
    """
    found, left = [], _SEARCHED
    for path in sorted(path for below in ("", "*/", "*/*/") for path in log_dir.parent.glob(f"{below}{_EVENTS}")):
        try:
            left -= path.stat().st_size
            if left < 0:
                break
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(b"_hparams_/experiment") >= 0:
                    found.append(path)
        except (OSError, ValueError):  # no longer there, not readable, empty
            continue
    return found


def _warn_of_experiments(log_dir: Path) -> None:
    found = experiments(log_dir)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        warnings.warn(
            f"log_dir: {str(found[0].parent)!r}{more} holds an experiment summary: a TensorBoard that shows it beside "
            "this run hides this run's hyperparameters and results in the HParams tab; keep them in two directories",
            stacklevel=4,
        )
