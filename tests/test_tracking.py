"""What TensorBoard's own reader finds in the event files."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlce import Evaluation, PolicyGradient, tracking
from rlce.tracking import Tracker


def read(directory: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def documented() -> set[str]:
    assert tracking.__doc__ is not None
    return set(re.findall(r"^``([a-z_]+/[a-z_]+)``", tracking.__doc__, flags=re.MULTILINE))


def test_policy_gradient_writes_documented_scalars_over_environment_steps(tmp_path: Path) -> None:
    agent = PolicyGradient("CartPole-v1", log_dir=tmp_path, evaluation=Evaluation(every=500, episodes=5)).learn(1_500)
    events = read(tmp_path)
    written = set(events.Tags()["scalars"])
    assert written <= documented()
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "eval/mean_reward", "time/fps"} <= written
    assert {
        f"train/{name}" for name in ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
    } <= written
    assert {
        f"train/{name}" for name in ("value_mean", "return_mean", "advantage_mean", "n_updates", "learning_rate")
    } <= written
    assert {"train/explained_variance", "eval/min_reward", "eval/max_reward"} <= written
    last = events.Scalars("rollout/ep_rew_mean")[-1]
    assert last.step == agent.steps
    assert last.value == pytest.approx(agent.trainer.progress.scalars["rollout/ep_rew_mean"])
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == sorted(set(steps))


def test_config_and_hyperparameters_lie_in_the_same_run(tmp_path: Path) -> None:
    PolicyGradient("CartPole-v1", seed=11, log_dir=tmp_path).learn(600)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    events = read(tmp_path)
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"seed": 11' in text
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(events.summary_metadata)
    experiment = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    assert b"rollout/ep_rew_mean" in experiment


def test_learning_on_goes_on_in_the_same_curves(tmp_path: Path) -> None:
    agent = PolicyGradient("CartPole-v1", log_dir=tmp_path)
    agent.learn(600)
    agent.learn(600)
    steps = [event.step for event in read(tmp_path).Scalars("train/loss")]
    assert len(steps) == agent.trainer.progress.rounds
    assert steps == sorted(set(steps))


def test_files_are_read_in_the_order_in_which_they_were_opened(tmp_path: Path) -> None:
    """TensorBoard reads them in the order of their names, also when twelve are opened in one second."""
    tracker = Tracker(tmp_path)
    for step in range(1, 13):
        tracker.open(after_step=step - 1)
        tracker.scalars({"train/loss": 1.0}, step)
        tracker.close()
    assert [event.step for event in read(tmp_path).Scalars("train/loss")] == list(range(1, 13))
    assert len(list(tmp_path.iterdir())) == 12


def test_an_interrupt_while_writing_neither_hangs_nor_damages(tmp_path: Path) -> None:
    """The process waits for nobody: TensorBoard's own writer may wait two minutes for a queue."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    generator, before = random.Random(0), signal.signal(signal.SIGALRM, interrupt)
    try:
        for trial in range(100):
            tracker = Tracker(tmp_path / str(trial))
            tracker.open()
            written = 0
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, generator.uniform(0.0001, 0.01))
                while True:
                    tracker.scalars({"train/loss": 1.0, "train/entropy": 2.0}, written + 1)
                    written += 1
            began = time.perf_counter()
            tracker.scalars({"train/loss": 1.0}, written + 2)
            tracker.close()
            assert time.perf_counter() - began < 1.0
            steps = [event.step for event in read(tmp_path / str(trial)).Scalars("train/loss")]
            # Only the round that was interrupted may be missing.
            assert [step for step in steps if step != written + 1] == [*range(1, written + 1), written + 2]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_a_new_run_in_the_same_directory_hides_the_old_one(tmp_path: Path) -> None:
    PolicyGradient("CartPole-v1", log_dir=tmp_path).learn(2_000)
    agent = PolicyGradient("CartPole-v1", log_dir=tmp_path).learn(600)
    steps = [event.step for event in read(tmp_path).Scalars("train/loss")]
    assert len(steps) == agent.trainer.progress.rounds
    assert steps[-1] == agent.steps


def test_no_directory_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PolicyGradient("CartPole-v1").learn(300)
    tracker = Tracker(None)
    tracker.open()
    tracker.scalars({"train/loss": 1.0}, 0)
    tracker.config({"a": 1})
    tracker.hyperparameters({"a": 1}, ["b"])
    tracker.close()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="log_dir: cannot create the directory"):
        Tracker(tmp_path / "file" / "run")
    with pytest.raises(ValueError, match="log_dir: cannot create the directory"):
        Tracker(tmp_path / "file")


def test_a_read_only_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere, so the system's answer is staged
    with pytest.raises(ValueError, match="is not writable"):
        Tracker(tmp_path)
