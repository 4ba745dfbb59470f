"""Event files for TensorBoard. No other module of the library imports TensorBoard.

Each call writes its records at once, in the calling thread, in one write to the file. So an interrupt can neither hang
nor leave half a record (TensorBoard's own writer waits for a second thread, up to two minutes after an interrupt).

The x-axis is environment steps for `PolicyGradient` and samples seen for `Classifier` and `Regressor`.

==============================  ==================================================================================
scalar                          what it is
==============================  ==================================================================================
``rollout/ep_rew_mean``         mean undiscounted, unscaled return of the last 100 finished training episodes
``rollout/ep_len_mean``         mean length of the same episodes, in steps
``rollout/success_rate``        share of successes in the last 100 finished training episodes whose last info has
                                ``is_success``
``eval/mean_reward``            mean return of the evaluation episodes, greedy or sampled as configured
``eval/std_reward``             their standard deviation
``eval/min_reward``             the lowest of their returns
``eval/max_reward``             the highest of their returns
``eval/mean_ep_length``         their mean length
``eval/success_rate``           share of successes among those whose last info has ``is_success``
``time/fps``                    environment steps (or samples) a second since `learn` (or `fit`) began
``train/loss``                  the loss: the policy's objective plus ``value_weight`` times the critic's. With signed
                                weights, an entropy bonus or a penalty its value is no measure of progress
``train/policy_loss``           −(1/Z) Σ w log π(a|s), mean over the gradient steps of the round
``train/value_loss``            mean ½(V − target)², before ``value_weight``
``train/entropy``               mean entropy of the policy, nats
``train/approx_kl``             mean of ρ − 1 − log ρ over the round, ρ = π now / π when the action was taken
``train/reference_kl``          mean KL(π‖reference), nats, for methods with a ``kl_weight``
``train/clip_fraction``         share of rows whose weight the rule set to zero although the advantage was not zero
``train/explained_variance``    1 − Var(target − V) / Var(target) over the round, before its gradient steps
``train/value_mean``            mean V(s) over the round, before its gradient steps, in the critic's unit: that of the
                                rewards after ``scale_rewards``
``train/return_mean``           mean target of the critic over the round, in the same unit
``train/advantage_mean``        mean advantage over the round, before it is standardised
``train/action_std``            mean standard deviation of the actions of a Gaussian policy while it gathered the round,
                                before they are clipped or rescaled
``train/n_updates``             the number of gradient steps so far
``train/learning_rate``         the optimiser's step size in the round
``train/gradient_norm``         mean Euclidean norm of the gradient before clipping
``train/accuracy``              share of training rows classified correctly during the epoch
``train/cross_entropy``         mean weighted cross-entropy of the targets; logged if a rule depends on the outputs,
                                because ``train/loss`` then differs from it
``val/loss``                    mean cross-entropy on the held-out rows, nats; for `Regressor` the mean cost in
                                standardised units
``val/accuracy``                share of held-out rows classified correctly (all labels of a row), 1 − zero-one error
==============================  ==================================================================================
"""

from __future__ import annotations

import io
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


class Tracker:
    """Writes scalars, the configuration and hyperparameters of one run. Does nothing without a directory, or if closed.

    Args:
        log_dir: the run's directory, created if it does not exist; None for no output.

    Raises:
        ValueError: the directory cannot be created or written to.

    Example:
        >>> Tracker(None).scalars({"train/loss": 1.0}, step=0)
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None) -> None:
        self.log_dir = None if log_dir is None else Path(log_dir)
        self._file: io.FileIO | None = None
        if self.log_dir is None:
            return
        try:
            self.log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"log_dir: cannot create the directory {str(self.log_dir)!r}: {error}") from error
        if not os.access(self.log_dir, os.W_OK | os.X_OK):
            raise ValueError(f"log_dir: the directory {str(self.log_dir)!r} is not writable")

    def open(self, after_step: int = 0) -> None:
        """Begin a new event file.

        Args:
            after_step: the x-axis position where this run begins. TensorBoard hides what earlier files of the same
                directory hold beyond it.
        """
        if self.log_dir is None or self._file is not None:
            return
        from tensorboard.compat.proto.event_pb2 import SessionLog

        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        # TensorBoard reads files in the order of their names, so the time comes first, padded.
        name = f"events.out.tfevents.{seconds:010d}.{nanoseconds:09d}.{socket.gethostname()}.{os.getpid()}"
        self._file = io.FileIO(self.log_dir / name, "x")
        step = after_step + 1 if after_step else 0
        self._write({"file_version": "brain.Event:2"}, {"session_log": SessionLog(status=SessionLog.START)}, step=step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write named numbers at an x-axis position.

        Raises:
            TypeError: a value that is no number; the message names it.
        """
        if self._file is not None:
            from tensorboard.compat.proto.summary_pb2 import Summary

            numbers = []
            for name, value in values.items():
                try:
                    numbers.append(Summary.Value(tag=name, simple_value=float(value)))
                except (TypeError, ValueError) as error:
                    raise TypeError(f"scalars to log must be numbers, got {value!r} for {name!r}") from error
            self._write({"summary": Summary(value=numbers)}, step=step)

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
            from PIL import Image  # TensorBoard requires Pillow
            from tensorboard.compat.proto.summary_pb2 import Summary

            try:
                with Image.open(io.BytesIO(encoded)) as opened:
                    width, height = opened.size
            except OSError as error:
                raise ValueError(f"encoded must be the content of an image file, got {encoded[:8]!r}...") from error
            image = Summary.Image(encoded_image_string=encoded, width=width, height=height, colorspace=3)
            self._write({"summary": Summary(value=[Summary.Value(tag=name, image=image)])}, step=step)

    def config(self, config: Mapping[str, Any]) -> None:
        """Write the run's configuration as text."""
        if self._file is not None:
            from torch.utils.tensorboard.summary import text

            listing = json.dumps(config, indent=2, default=str)
            self._write({"summary": text("config", f"```json\n{listing}\n```")})

    def hyperparameters(self, config: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """Write hyperparameters (nested ones under dotted names) and the names of the scalars that are their result."""
        if self._file is not None:
            from torch.utils.tensorboard.summary import hparams

            summaries = hparams(dict(_flat("", config)), dict.fromkeys(metrics, 0.0))
            self._write(*({"summary": summary} for summary in summaries))

    def close(self) -> None:
        """Close the file. `open` begins another one in the same directory."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, *events: dict[str, Any], step: int = 0) -> None:
        """Append all events in a single system call, which no signal can divide."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        records = io.BytesIO()
        for event in events:
            RecordWriter(records).write(Event(wall_time=time.time(), step=step, **event).SerializeToString())
        assert self._file is not None
        self._file.write(records.getbuffer())


def _flat(prefix: str, config: Mapping[str, Any]) -> Iterator[tuple[str, bool | int | float | str]]:
    """Dotted names and plain values; functions are left out."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif not callable(value):
            yield prefix + name, value if isinstance(value, bool | int | float | str) else str(value)
