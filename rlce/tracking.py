"""TensorBoard, and nothing else in the library knows it. Scalars leave the loop as plain numbers.

The x-axis is environment steps for `PolicyGradient` and samples seen for `Classifier` and `Regressor`.

==============================  ==================================================================================
scalar                          what it is
==============================  ==================================================================================
``rollout/ep_rew_mean``         mean undiscounted, unscaled return of the last 100 finished training episodes
``rollout/ep_len_mean``         mean length of the same episodes, in steps
``eval/mean_reward``            mean return of the evaluation episodes, greedy or sampled as configured
``eval/std_reward``             their standard deviation
``eval/mean_ep_length``         their mean length
``time/fps``                    environment steps (or samples) a second since `learn` (or `fit`) began
``train/loss``                  the value of what was descended: the policy's objective plus ``value_weight`` times the
                                critic's. With signed weights, an entropy bonus or a penalty it says nothing
``train/policy_loss``           −(1/Z) Σ w log π(a|s), mean over the gradient steps of the round
``train/value_loss``            mean ½(V − target)², before ``value_weight``
``train/entropy``               mean entropy of the policy, nats
``train/approx_kl``             mean of ρ − 1 − log ρ over the round, ρ = π now / π when the action was taken
``train/reference_kl``          mean KL(π‖reference), nats, for methods with a ``kl_weight``
``train/clip_fraction``         share of rows whose weight the rule set to zero although the advantage was not zero
``train/explained_variance``    1 − Var(target − V) / Var(target) over the round, before its gradient steps
``train/learning_rate``         the optimiser's step size in the round
``train/gradient_norm``         mean Euclidean norm of the gradient before clipping
``train/accuracy``              share of training rows classified rightly in the epoch, while it trained
``train/cross_entropy``         mean weighted cross-entropy of the targets, where rules that look at the outputs make
                                ``train/loss`` another thing
``val/loss``                    mean cross-entropy on the held-out rows, nats; for `Regressor` its mean cost in
                                standardised units
``val/accuracy``                share of held-out rows classified rightly (all labels of a row), 1 − zero-one error
==============================  ==================================================================================
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_EVENTS = "events.out.tfevents.*"


class Tracker:
    """Writes scalars, text and hyperparameters of one run; with no directory, or unless open, it does nothing.

    Args:
        log_dir: the run's directory, made if need be; None for no output.

    Raises:
        ValueError: the directory cannot be written to; nothing has been trained by then.

    Example:
        >>> Tracker(None).scalars({"train/loss": 1.0}, step=0)
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None) -> None:
        self.log_dir = None if log_dir is None else Path(log_dir)
        self._writer: Any = None
        if self.log_dir is None:
            return
        try:
            self.log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"log_dir: cannot make the directory {str(self.log_dir)!r}: {error}") from error
        if not os.access(self.log_dir, os.W_OK | os.X_OK):
            raise ValueError(f"log_dir: the directory {str(self.log_dir)!r} is not writable")

    def open(self, after_step: int = 0) -> None:
        """Begin to write.

        Args:
            after_step: where on the x-axis this run begins; TensorBoard hides what an earlier run in the same directory
                wrote beyond it.
        """
        if self.log_dir is not None and self._writer is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            before = {path.name for path in self.log_dir.glob(_EVENTS)}
            self._writer = SummaryWriter(str(self.log_dir), purge_step=after_step + 1 if after_step else 0)
            made = {path.name for path in self.log_dir.glob(_EVENTS)} - before
            second = len(_EVENTS) - 1 + 10  # the part of the name up to the second
            if any(old[:second] == new[:second] and new < old for old in before for new in made):
                # Files are read in the order of their names: second, process, and a count that is not padded, so the
                # tenth file of one second would be read before the ninth.
                self.close()
                for name in made:
                    (self.log_dir / name).unlink()
                time.sleep(1.0 - time.time() % 1.0)
                self.open(after_step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write named numbers at an x-axis position."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def config(self, config: Mapping[str, Any]) -> None:
        """Write the run's configuration as text."""
        if self._writer is not None:
            listing = json.dumps(config, indent=2, default=str)
            self._writer.add_text("config", f"```json\n{listing}\n```")

    def hyperparameters(self, config: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """Write hyperparameters (nested ones under dotted names) into the same run, and which scalars are their result.

        SummaryWriter.add_hparams would start a sub-run at every call.
        """
        if self._writer is not None:
            from torch.utils.tensorboard.summary import hparams

            flat = dict(_flat("", config))
            for summary in hparams(flat, dict.fromkeys(metrics, 0.0)):
                self._writer.file_writer.add_summary(summary)

    def flush(self) -> None:
        """Put on disk what was written."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Put on disk what was written and close the file; `open` begins another in the same directory."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _flat(prefix: str, config: Mapping[str, Any]) -> Iterator[tuple[str, bool | int | float | str]]:
    """Names joined with dots, and plain values; functions have no place in a table."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif not callable(value):
            yield prefix + name, value if isinstance(value, bool | int | float | str) else str(value)
