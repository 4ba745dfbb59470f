"""What TensorBoard's own reader finds in the event files."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context
from torch.utils.tensorboard import SummaryWriter

import rlce
from rlce import Classifier, Evaluation, PolicyGradient, Regressor, methods, tracking
from rlce.reinforcement.loss import Batch, loss
from rlce.reinforcement.shown import of_round
from rlce.scalars import HISTOGRAMS, IMAGES, POLICY_LAYOUT, SCALARS
from rlce.tracking import Details, Tracker
from scripts import train, train_classifier

TEXTS = ("command", "versions", "configuration")


def read(directory: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def scalars(directory: Path) -> set[str]:
    return set(read(directory).Tags()["scalars"])


def documented(half: str) -> re.Pattern[str]:
    """What the table says that a half logs; a word in capitals stands for anything."""
    names = [line.name for line in SCALARS if half in line.halves]
    return re.compile("|".join(re.sub(r"[A-Z]{2,}", ".+", re.escape(name)) for name in names))


def hparams(directory: Path) -> tuple[list[str], list[str], dict[str, dict[str, Any]]]:
    """Columns in TensorBoard's order, metrics in its order, and for each run its values, metrics and status."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(directory))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(directory))
    backend, request = Context(TBContext(data_provider=provider)), RequestContext()
    metadata = backend.hparams_metadata(request, "")
    experiment = backend.experiment_from_metadata(
        request, "", True, metadata, backend.hparams_from_data_provider(request, "", None)
    )
    columns = [info.name for info in experiment.hparam_infos]
    metrics = [info.name for info in experiment.metric_infos]
    wanted = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        include_metrics=True,
        allowed_statuses=list(api_pb2.Status.values()),
        col_params=[api_pb2.ColParams(metric=name) for name in metrics],
    )
    found = list_session_groups.Handler(request, backend, "", wanted).run()
    rows = {}
    for group in found.session_groups:
        (session,) = group.sessions
        plain = {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()}
        results = {value.name.tag: value.value for value in group.metric_values}
        rows[session.name] = {**plain, **results, "status": api_pb2.Status.Name(session.status)}
    return columns, [name.tag for name in metrics], rows


def small_classifier(**settings: Any) -> Classifier:
    return Classifier((8,), validation_split=0.25, epochs=3, random_state=0, **settings)


DIGITS = load_digits(return_X_y=True)
DIGITS = DIGITS[0][:400], DIGITS[1][:400]
LINE = np.linspace(-1.0, 1.0, 200)[:, None]


def test_policy_gradient_writes_documented_scalars_over_environment_steps(tmp_path: Path) -> None:
    method, evaluation = replace(methods.ppo(), kl_weight=0.01), Evaluation(every=500, episodes=5)
    agent = PolicyGradient("CartPole-v1", method, log_dir=tmp_path, evaluation=evaluation).learn(5_000)
    events, written, table = read(tmp_path), scalars(tmp_path), documented("P")
    assert {name for name in written if not table.fullmatch(name)} == set()
    # All of the table, except what other tasks, methods and the scripts log.
    elsewhere = {"rollout/success_rate", "eval/success_rate", "train/action_std"}
    assert {line.name for line in SCALARS if "P" in line.halves and not line.name.startswith("end/")} == (
        written | elsewhere
    )
    last = events.Scalars("rollout/ep_rew_mean")[-1]
    assert last.step == agent.steps
    assert last.value == pytest.approx(agent.trainer.progress.scalars["rollout/ep_rew_mean"])
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == sorted(set(steps))


def test_estimators_write_documented_scalars(tmp_path: Path) -> None:
    small_classifier(rule="focal").fit(*DIGITS, log_dir=tmp_path / "C")
    Regressor((8,), "gaussian", validation_split=0.25, epochs=3, random_state=0).fit(
        LINE, LINE[:, 0], log_dir=tmp_path / "R"
    )
    for half in "CR":
        written, table = scalars(tmp_path / half), documented(half)
        assert {name for name in written if not table.fullmatch(name)} == set()
        named = [line.name for line in SCALARS if half in line.halves and not line.name.startswith("end/")]
        assert [name for name in named if name not in written] == (
            ["val/f1/CLASS", "time/evaluate_seconds"][:1] if half == "C" else []
        )
    assert {f"val/f1/{k}" for k in range(10)} <= scalars(tmp_path / "C")


def test_hyperparameters_of_both_halves_stand_in_one_table(tmp_path: Path) -> None:
    run = train.Arguments("CartPole-v1", total_timesteps=600, episodes=5, quiet=True, seed=11, log_dir=tmp_path / "ppo")
    train.main(run)
    train_classifier.main(
        train_classifier.Arguments(data="iris", epochs=3, quiet=True, log_dir=tmp_path / "iris", log="scalars")
    )
    columns, metrics, rows = hparams(tmp_path)
    assert columns[:4] == ["Learning rate", "Method", "Seed", "Task"]
    assert metrics[:2] == ["end/greedy_return", "end/sampled_return"]
    assert metrics[2].startswith("end/test_")
    assert set(rows) == {"ppo", "iris"}
    ppo, iris = rows["ppo"], rows["iris"]
    assert (ppo["Method"], ppo["Seed"], ppo["Task"], ppo["clip"]) == ("ppo", 11.0, "CartPole-v1", 0.2)
    assert ppo["Learning rate"] == pytest.approx(2e-3)
    assert (iris["Method"], iris["Task"], iris["rows"]) == ("cross-entropy", "classification", 108.0)
    assert (ppo["status"], iris["status"]) == ("STATUS_SUCCESS", "STATUS_SUCCESS")
    assert ppo["end/greedy_return"] > 5
    assert 0.2 < iris["end/test_accuracy"] <= 1.0
    for run, half in (("ppo", "P"), ("iris", "C")):
        assert [name for name in scalars(tmp_path / run) if not documented(half).fullmatch(name)] == []
    # The results are read after training and hide nothing of it.
    ended = read(tmp_path / "ppo")
    assert ended.Scalars("train/loss")[-1].step == ended.Scalars("end/greedy_return")[0].step


def test_a_training_that_failed_is_said_to_have(tmp_path: Path) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    for name, learn in (
        ("P", lambda: PolicyGradient("CartPole-v1", log_dir=tmp_path / "P").learn(600, callback=interrupt)),
        ("C", lambda: small_classifier().fit(*DIGITS, log_dir=tmp_path / "C", callback=interrupt)),
    ):
        with pytest.raises(KeyboardInterrupt):
            learn()
        assert hparams(tmp_path)[2][name]["status"] == "STATUS_FAILURE"


def test_an_experiment_summary_that_hides_other_runs_is_named(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path / "runs" / "old")) as writer:
        writer.add_hparams({"lr": 0.1}, {"accuracy": 0.5})
    with pytest.warns(UserWarning, match=r"old.* holds an experiment summary"):
        PolicyGradient("CartPole-v1", log_dir=tmp_path / "runs" / "new").learn(300)
    # A run of this library has none.
    PolicyGradient("CartPole-v1", log_dir=tmp_path / "elsewhere" / "a").learn(300)
    PolicyGradient("CartPole-v1", log_dir=tmp_path / "elsewhere" / "b").learn(300)


def test_text_is_command_versions_and_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "my train.py", "--a|b"])
    PolicyGradient("CartPole-v1", seed=11, log_dir=tmp_path).learn(600)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    events = read(tmp_path)
    texts = {name: events.Tensors(f"run/{name}")[0].tensor_proto.string_val[0].decode() for name in TEXTS}
    assert texts["configuration"].startswith("| name | value |\n|---|---|\n| env | CartPole-v1 |\n")
    assert "| settings.seed | 11 |" in texts["configuration"]
    assert f"| rlce | {rlce.__version__} |" in texts["versions"]
    assert "python 'my train.py' '--a" in texts["command"]


def test_layout_opens_on_what_matters(tmp_path: Path) -> None:
    PolicyGradient("CartPole-v1", log_dir=tmp_path / "P").learn(300)
    small_classifier().fit(*DIGITS, log_dir=tmp_path / "C")
    known = {line.name for line in SCALARS}
    for half, first in (("P", "rollout/ep_rew_mean$"), ("C", "val/loss$")):
        written = read(tmp_path / half).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
        layout = layout_pb2.Layout.FromString(written)
        charts = [chart for category in layout.category for chart in category.chart]
        assert charts[0].multiline.tag[0] == first
        bands = [part for chart in charts for part in chart.margin.series]
        series = {name for part in bands for name in (part.value, part.lower, part.upper)}
        assert {name.rstrip("$") for chart in charts for name in chart.multiline.tag} | series <= known
        assert bool(series) == (half == "P")


def pictures(directory: Path) -> tuple[set[str], set[str]]:
    tags = read(directory).Tags()
    return set(tags["histograms"]), set(tags["images"])


@pytest.mark.parametrize(("half", "extra"), [("P", "policy/actions/COMPONENT"), ("C", ""), ("R", "")])
def test_each_half_has_its_documented_pictures(tmp_path: Path, half: str, extra: str) -> None:
    if half == "P":
        evaluation = Evaluation(every=600, episodes=2)
        PolicyGradient("CartPole-v1", num_envs=4, log_dir=tmp_path, evaluation=evaluation).learn(1_200)
    elif half == "C":
        small_classifier(temperature="validation").fit(*DIGITS, log_dir=tmp_path)
    else:
        Regressor((8,), validation_split=0.25, epochs=3, conformal=True, random_state=0).fit(
            LINE, LINE[:, 0], log_dir=tmp_path
        )
        assert "val/coverage" in scalars(tmp_path)
    histograms, images = pictures(tmp_path)
    assert histograms == {line.name for line in HISTOGRAMS if half in line.halves} - {extra}
    assert images == {line.name for line in IMAGES if half in line.halves}
    for name in images:
        (image,) = read(tmp_path).Images(name)
        assert image.encoded_image_string.startswith(b"\x89PNG")
        assert image.width > 300


def test_several_components_of_an_action_have_a_histogram_each(tmp_path: Path) -> None:
    def env() -> gymnasium.Env[Any, Any]:
        class Two(gymnasium.Wrapper[Any, Any, Any, Any]):
            action_space = gymnasium.spaces.MultiDiscrete([2, 3])

            def step(self, action: Any) -> Any:
                return self.env.step(int(action[0]))

        return Two(gymnasium.make("CartPole-v1"))

    PolicyGradient(env, num_envs=2, log_dir=tmp_path, evaluation=Evaluation(every=100, episodes=1)).learn(256)
    assert {"policy/actions/0", "policy/actions/1"} <= pictures(tmp_path)[0]
    # Classes of an action have a bin each.
    assert len(read(tmp_path).Histograms("policy/actions/1")[-1].histogram_value.bucket) == 3


def test_histograms_are_of_the_weights_that_train(tmp_path: Path) -> None:
    """With the score function, w is the advantage; under an unchanged policy, so is the clipped ratio's."""
    agent = PolicyGradient(
        "CartPole-v1", "actor_critic", seed=0, log_dir=tmp_path, evaluation=Evaluation(every=100, episodes=1)
    ).learn(600)
    events = read(tmp_path)
    weights, advantages = (events.Histograms(f"policy/{name}")[-1] for name in ("weights", "advantages"))
    assert weights.step == agent.steps
    assert weights.histogram_value == advantages.histogram_value
    value = weights.histogram_value
    assert sum(value.bucket) == value.num
    assert value.sum / value.num == pytest.approx(0.0, abs=1e-4)  # they were standardised
    assert value.sum_squares / value.num == pytest.approx(1.0, abs=1e-2)


def test_clipped_rows_have_no_weight(tmp_path: Path) -> None:
    """The pictures of a round show what one more step of the loss on it would report."""
    agent = PolicyGradient("CartPole-v1", epochs=6, learning_rate=0.01, clip=0.05, seed=0)
    shown_and_lost = []

    def look(_: object) -> None:
        rows, method, learner = agent._round, agent.method, agent.learner
        assert rows is not None
        shown = of_round(rows, method, learner).histograms
        _, lost = loss(Batch(rows, float(len(rows.action))), method, learner)
        clipped = (shown["policy/weights"] == 0.0) & (shown["policy/advantages"] != 0.0)
        shown_and_lost.append((clipped.mean(), lost["train/clip_fraction"].double().mean().item()))
        np.testing.assert_allclose(np.mean(shown["policy/entropy"]), lost["train/entropy"].mean().item(), rtol=1e-5)

    agent.learn(4_000, callback=look)
    shown, lost = zip(*shown_and_lost, strict=True)
    assert shown == pytest.approx(lost)
    assert max(shown) > 0.05


def test_weights_of_rows_are_those_of_classes_and_samples(tmp_path: Path) -> None:
    X, y = DIGITS
    weight = np.where(y == 0, 4.0, 1.0)
    small_classifier(class_weight={1: 0.5}).fit(X, y, weight, log_dir=tmp_path)
    value = read(tmp_path).Histograms("train/row_weights")[-1].histogram_value
    assert value.max / value.min == pytest.approx(8.0, rel=1e-6)


def test_intervals_are_those_of_the_calibrated_regressor(tmp_path: Path) -> None:
    y = LINE[:, 0] + np.random.default_rng(0).normal(0.0, 1.0, 200)
    settings: dict[str, Any] = {"cost": "gaussian", "conformal": True, "epochs": 200, "learning_rate": 0.01}
    regressor = Regressor((32,), random_state=0, **settings)
    regressor.fit(LINE[::2], y[::2], X_val=LINE[1::2], y_val=y[1::2], log_dir=tmp_path)
    lower, upper = regressor.predict_interval(LINE[1::2], 0.9).T
    expected = np.mean((lower <= y[1::2]) & (y[1::2] <= upper))
    assert read(tmp_path).Scalars("val/coverage")[-1].value == pytest.approx(expected)
    assert expected == pytest.approx(0.91, abs=0.005)  # ⌈.9 · 101⌉ of 100


def test_f1_and_confusion_are_those_of_the_kept_network(tmp_path: Path) -> None:
    X, y = DIGITS
    classifier = small_classifier().set_params(validation_split=0.0)
    classifier.fit(X[:300], y[:300], X_val=X[300:], y_val=y[300:], log_dir=tmp_path)
    events, expected = read(tmp_path), f1_score(y[300:], classifier.predict(X[300:]), average=None)
    written = [events.Scalars(f"val/f1/{k}")[-1].value for k in range(10)]
    np.testing.assert_allclose(written, expected, atol=1e-6)


@pytest.mark.parametrize("log", ["scalars", "none"])
def test_one_flag_turns_it_down(tmp_path: Path, log: str) -> None:
    evaluation = Evaluation(every=300, episodes=2)
    PolicyGradient("CartPole-v1", log_dir=tmp_path / "P", log=log, evaluation=evaluation).learn(600)
    small_classifier().fit(*DIGITS, log_dir=tmp_path / "C", log=log)
    for half in "PC":
        if log == "none":
            assert list((tmp_path / half).iterdir()) == []
        else:
            assert pictures(tmp_path / half) == (set(), set())
            assert "train/loss" in scalars(tmp_path / half)
            assert len(list((tmp_path / half).iterdir())) == 1


def test_a_rerun_without_logs_keeps_both_agents(tmp_path: Path) -> None:
    run = train.Arguments("CartPole-v1", total_timesteps=300, episodes=2, quiet=True, log_dir=tmp_path, log="none")
    for seed in (0, 1):
        train.main(replace(run, seed=seed))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.safetensors", "earlier-1"]
    agents = [PolicyGradient.load(tmp_path / path) for path in ("earlier-1/agent.safetensors", "agent.safetensors")]
    assert [agent._settings["seed"] for agent in agents] == [0, 1]


def test_another_level_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="log must be one of 'all', 'scalars', 'none', got 'most'"):
        PolicyGradient("CartPole-v1", log_dir=tmp_path / "P", log="most")
    with pytest.raises(ValueError, match="log must be one of"):
        small_classifier().fit(*DIGITS, log_dir=tmp_path / "C", log="most")
    assert list(tmp_path.iterdir()) == []


def test_logs_do_not_change_what_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_SHARE", 1e9)  # pictures at every evaluation
    agents = [
        PolicyGradient("CartPole-v1", seed=3, log_dir=where, evaluation=Evaluation(every=300, episodes=2)).learn(6_000)
        for where in (None, tmp_path)
    ]
    first, second = (agent.trainer.state_dict() for agent in agents)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len(read(tmp_path).Images("policy/values_and_returns")) > 1


def test_pictures_take_a_fiftieth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(tracking.time, "perf_counter", lambda: clock[0])
    tracker, drawn = Tracker(tmp_path), []
    tracker.open()

    def make() -> Details:
        clock[0] += 0.02
        drawn.append(clock[0])
        return Details({"policy/weights": [0.5, 0.5, np.nan]})

    for step in range(1, 1001):
        clock[0] += 0.1
        tracker.details(make, step)
    assert 0.9 * 100 < len(drawn) <= 102  # 0.02 s every second
    tracker.details(make, 1001, last=True)
    assert drawn[-1] == clock[0]
    tracker.details(make, 1001, last=True)  # once a step
    tracker.close()
    written = read(tmp_path).Histograms("policy/weights")
    assert [written[-1].step, written[-1].histogram_value.num] == [1001, 2.0]


def test_without_matplotlib_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="matplotlib is not installed: pip install 'rlce.plots.'"):
        small_classifier().fit(*DIGITS, log_dir=tmp_path)
    histograms, images = pictures(tmp_path)
    assert histograms
    assert not images


def test_checksums_are_tensorboard_s() -> None:
    for data in (b"", b"123456789", bytes(range(256)) * 5):
        assert struct.unpack("<I", tracking._checksum(data))[0] == masked_crc32c(data)


def test_numbers_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.open()
    with pytest.raises(TypeError, match="got 'much' for 'own'"):
        tracker.scalars({"own": "much"}, 0)  # type: ignore[dict-item]
    tracker.close()


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
    tracker.begin({"a": 1}, {"Method": "a"}, POLICY_LAYOUT)
    tracker.details(lambda: Details({"a": [1.0]}), 0, last=True)
    tracker.results({"accuracy": 1.0}, 0)
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
