"""What `rlce.record` and scripts/watch.py show: which episodes, which frames, at which speed, and what they refuse."""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import tyro
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlce
from rlce import Film, PolicyGradient, Tracker, record
from rlce.reinforcement import pictures, recording, window
from rlce.reinforcement.pictures import Frame
from rlce.reinforcement.recording import Shown, playing, select
from scripts import watch
from tests import commands

ROOT = Path(__file__).parents[1]


class Walk(gymnasium.Env[np.ndarray, Any]):
    """Episodes of 3 to 12 steps with a random reward each; the picture's grey tells the step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(3, start=1)
    drawn = 0

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.length = 0, int(self.np_random.integers(3, 13))
        return self.look(), {"action_mask": np.array([1, 0, 1])}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        reward = float(self.np_random.integers(10)) + np.sum(action)
        return self.look(), reward, self.steps >= self.length, False, {"action_mask": np.array([1, 0, 1])}

    def look(self) -> np.ndarray:
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)

    def render(self) -> Any:
        assert self.render_mode == "rgb_array"
        Walk.drawn += 1
        return np.full((40, 60, 3), 20 * self.steps, np.uint8)


@pytest.fixture(autouse=True)
def _walk() -> Iterator[None]:
    gymnasium.register("Walk-v0", Walk, max_episode_steps=50)
    yield
    gymnasium.registry.pop("Walk-v0")


@pytest.fixture
def agent() -> PolicyGradient:
    return PolicyGradient("Walk-v0", num_envs=2, seed=0)


def frames_of(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """The pictures of a GIF as a viewer shows them, and how long each stays, in ms."""
    seen, durations = [], []
    with Image.open(path) as opened:
        for i in range(opened.n_frames):
            opened.seek(i)
            seen.append(np.asarray(opened.convert("RGB")).astype(int))
            durations.append(opened.info["duration"])
    return seen, durations


def greys(seen: list[np.ndarray]) -> list[float]:
    return [float(one[-5, 5, 0]) for one in seen]


# ---------------------------------------------------------------------------------------------------- which episodes


def test_episodes_are_ranked_by_their_return() -> None:
    returns, lengths = np.array([5.0, 9.0, 1.0, 7.0, 3.0]), np.array([50, 90, 10, 70, 30])
    chosen = select(returns, lengths, ("worst", "best", "median"))
    assert chosen == (Shown("worst of 5", 2, 1.0, 10), Shown("best of 5", 1, 9.0, 90), Shown("median of 5", 0, 5.0, 50))
    assert select(returns[:4], lengths[:4], ("median",)) == (Shown("median of 4", 0, 5.0, 50),)  # of 5 and 7 the lower
    alike = select(np.full(3, 500.0), np.full(3, 500), ("worst", "best", "median"))
    assert alike == (Shown("best, median, worst of 3", 0, 500.0, 500),)


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_shown_episode_is_the_one_that_was_played(agent: PolicyGradient, deterministic: bool) -> None:
    with playing(agent, deterministic=deterministic, seed=3) as playback:
        returns, lengths = playback.play(6)
        assert len(set(returns.tolist())) > 3
        for number in (4, 0, 4):
            shown = Shown("", number, returns[number], int(lengths[number]))
            shots = list(playback.frames(shown, range(100)))
            assert [shot.step for shot in shots] == list(range(shown.length + 1))
            assert [shot.picture[0, 0, 0] for shot in shots] == [20 * shot.step for shot in shots]
            assert (shots[0].total, shots[-1].total) == (0.0, shown.episode_return)
            assert [shot.last for shot in shots] == [False] * shown.length + [True]
        assert np.array_equal(playback.play(6)[0], returns)
    with playing(agent, deterministic=deterministic, seed=4) as playback:
        assert not np.array_equal(playback.play(6)[0], returns)


def test_only_shown_episodes_are_drawn_each_step_of_them_once(agent: PolicyGradient, tmp_path: Path) -> None:
    """Each step, because some environments, such as LunarLander's sparks, change when they are drawn."""
    Walk.drawn = 0
    recording = record(agent, tmp_path / "a.png", episodes=12, film=Film(show=("best", "worst"), columns=2))
    assert len(recording.returns) == len(recording.lengths) == 12
    assert Walk.drawn == 1 + sum(one.length + 1 for one in recording.shown)  # the first to see that it can be drawn
    assert recording.shown[0].episode_return == recording.returns.max()
    assert recording.shown[1].episode_return == recording.returns.min()


def test_the_agent_s_own_generator_is_not_used(tmp_path: Path) -> None:
    drawn = []
    for recorded in (False, True):
        agent = PolicyGradient("Walk-v0", num_envs=2, seed=0)
        if recorded:
            record(agent, tmp_path / "a.gif", episodes=2, deterministic=False)
        drawn.append(agent.predict(np.zeros((40, 2), np.float32)).tolist())
    assert drawn[0] == drawn[1]


def test_an_environment_that_does_not_repeat_itself_is_told(agent: PolicyGradient, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)

    class Unseeded(Walk):
        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, float(generator.normal()), *rest

    with pytest.warns(UserWarning, match=r"^env: episode \d returned .* when it was played again with the same seed"):
        record(agent, tmp_path / "a.gif", Unseeded, episodes=2)


def test_episodes_without_an_end_are_cut(agent: PolicyGradient, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"^\d of 8 episodes had not ended after 4 steps and were cut there"):
        recording = record(agent, tmp_path / "a.gif", episodes=8, film=Film(max_steps=4))
    assert recording.lengths.max() == 4

    class Endless(Walk):
        def step(self, action: Any) -> Any:
            observation, reward, _, *rest = super().step(action)
            return observation, reward, False, *rest

    with playing(agent, Endless) as playback, pytest.warns(UserWarning, match="1 of 1 episodes .* after 1,000 steps"):
        assert playback.play(1)[1].tolist() == [1_000]


# ------------------------------------------------------------------------------------------------------------- files


def test_a_gif_plays_at_the_environment_s_speed(agent: PolicyGradient, tmp_path: Path) -> None:
    path = tmp_path / "a.GIF"
    recording = record(agent, path, episodes=5)
    seen, durations = frames_of(path)
    assert recording.path == path
    assert len(seen) == sum(one.length + 1 for one in recording.shown)
    assert sum(durations) == sum(
        100 * one.length + 1_000 for one in recording.shown
    )  # 10 steps a second; the end stays
    assert (
        np.abs(np.subtract(greys(seen), [20 * s for one in recording.shown for s in range(one.length + 1)])).max() <= 2
    )
    assert seen[0].shape == (213 + 18, 320, 3)
    with Image.open(path) as opened:
        assert opened.info["loop"] == 0  # for ever
    record(agent, path, episodes=5, film=Film(fps=4, width=100))  # every second step
    few, durations = frames_of(path)
    assert len(few) == sum(-(-one.length // 2) + 1 for one in recording.shown)
    assert sum(durations) == sum(100 * one.length + 1_000 for one in recording.shown)
    assert few[0].shape[1] == 100


def test_a_gif_s_rate_that_no_whole_hundredth_has() -> None:
    shots = [Frame(np.full((30, 30, 3), i % 256, np.uint8), "t", i, 0.0, i == 60, ()) for i in range(61)]
    _, durations = frames_of(io.BytesIO(pictures.gif(shots, 30.0, None)))  # type: ignore[arg-type]
    assert set(durations[:-1]) == {30, 40}
    assert sum(durations) == 2_000 + 1_000


def test_a_gif_has_one_palette_and_true_colours() -> None:
    """Flat colours stay as they are, and what stands still is not written again."""
    picture = np.zeros((80, 120, 3), np.uint8)
    picture[40:] = 255
    shots = []
    for i in range(30):
        moved = picture.copy()
        moved[10:14, 2 * i : 2 * i + 4] = (230, 40, 40)  # 16 pixels of 9,600
        shots.append(Frame(moved, "title", i, 0.0, i == 29, ()))
    content = pictures.gif(shots, 20.0, None)
    seen, _ = frames_of(io.BytesIO(content))  # type: ignore[arg-type]
    for shot, one in zip(shots, seen, strict=True):
        assert np.array_equal(one[-80:], shot.picture)
    assert local_palettes(content) == 0
    assert len(content) < 30 * 9_600 / 20


def test_a_fast_environment_s_gif_leaves_steps_out(agent: PolicyGradient, tmp_path: Path) -> None:
    class Fast(Walk):
        metadata = {"render_modes": ["rgb_array"], "render_fps": 60}  # noqa: RUF012

    recording = record(agent, tmp_path / "a.gif", Fast, episodes=1, film=Film(fps=50))
    _, durations = frames_of(tmp_path / "a.gif")
    assert sum(durations) == pytest.approx(1_000 * recording.lengths[0] / 60 + 1_000, abs=10)


def test_a_missing_program_is_told(agent: PolicyGradient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(OSError, match=r"^imageio-ffmpeg finds no program ffmpeg, .*: No ffmpeg exe could be found\.$"):
        record(agent, tmp_path / "a.mp4", episodes=1)


def local_palettes(content: bytes) -> int:
    """How many frames of a GIF bring a palette of their own; by the blocks of the format, GIF89a."""
    position, found = 13 + 3 * (2 << (content[10] & 7)), 0
    assert content[10] & 0x80  # one for all
    while content[position] != 0x3B:
        if content[position] == 0x21:
            position += 2
        else:
            flags = content[position + 9]
            found += flags >> 7
            position += 11 + (3 * (2 << (flags & 7)) if flags >> 7 else 0)
        while content[position]:
            position += content[position] + 1
        position += 1
    return found


def test_a_strip_has_frames_from_the_first_to_the_last(agent: PolicyGradient, tmp_path: Path) -> None:
    film = Film(show=("best",), columns=3, width=90)
    recording = record(agent, tmp_path / "a.png", episodes=4, film=film)
    picture = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    left, gap = 8 + 45, 90 + 8
    row = picture[8 + 18 + 30]  # in the middle of the frames
    length = recording.shown[0].length
    assert [row[left + i * gap, 0] for i in range(3)] == [20 * step for step in (0, round(length / 2), length)]
    assert picture.shape[1] == 8 + 3 * gap
    bars = picture[8 + 18 + 60 + 18 :, :].reshape(-1, 3)
    assert (bars == (0xD1, 0x70, 0x2F)).all(axis=1).any()  # the action that was taken
    film = Film(columns=3, width=90)
    rows = len(record(agent, tmp_path / "a.png", episodes=4, film=film).shown)
    assert rows == 3
    assert np.asarray(Image.open(tmp_path / "a.png")).shape[0] == 3 * picture.shape[0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio-ffmpeg's reader, used below
def test_a_video_has_every_step(agent: PolicyGradient, tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    recording = record(agent, tmp_path / "a.mp4", episodes=4, film=Film(width=97))
    video = imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    described = next(video)
    assert (described["codec"], described["fps"], described["size"]) == (
        "h264",
        10.0,
        (98, 82),
    )  # even, as yuv420p asks
    seen = [np.frombuffer(frame, np.uint8).reshape(82, 98, 3)[-9, 9, 0] for frame in video]
    wanted = [20 * step for one in recording.shown for step in [*range(one.length), *[one.length] * 10]]
    assert np.abs(np.subtract(seen, wanted, dtype=int)).max() <= 12


def test_a_file_is_replaced_only_at_the_end(agent: PolicyGradient, tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(b"old")

    class Breaks(Walk):
        def render(self) -> Any:
            return super().render() if self.steps < 2 else None

    with pytest.raises(ValueError, match=r"^env: render must return a uint8 array \[height, width, 3\], got None; "):
        record(agent, path, Breaks, episodes=2)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]


# -------------------------------------------------------------------------------------------------- what a policy says


def bars_of(agent: PolicyGradient, env: Any, deterministic: bool = True) -> list[tuple[pictures.Bar, ...]]:
    with playing(agent, env, deterministic=deterministic) as playback:
        returns, lengths = playback.play(1)
        return [shot.bars for shot in playback.frames(Shown("", 0, returns[0], int(lengths[0])), range(100))]


@pytest.mark.parametrize("deterministic", [True, False])
def test_bars_of_classes_are_the_masked_probabilities(agent: PolicyGradient, deterministic: bool) -> None:
    with torch.no_grad():
        agent.policy.layers[-1].bias += torch.tensor([0.5, 9.0, 0.0])  # type: ignore[index,operator]
    *acting, end = bars_of(agent, "Walk-v0", deterministic)
    assert end == ()
    taken = set()
    for bars in acting:
        assert [(bar.label, bar.low) for bar in bars] == [("1", 0.0), ("2", 0.0), ("3", 0.0)]
        assert bars[1].high == 0.0  # forbidden by the mask
        assert sum(bar.high for bar in bars) == pytest.approx(1.0)
        (one,) = (bar for bar in bars if bar.taken)
        assert one.text == f"{one.high:.2f}"
        taken.add(one.label)
        if deterministic:
            assert one.high == max(bar.high for bar in bars)
    assert taken <= {"1", "3"}


def of(space: gymnasium.Space[Any]) -> type[Walk]:
    class Other(Walk):
        action_space = space

        def reset(self, **kwargs: Any) -> Any:
            return super().reset(**kwargs)[0], {}

        def step(self, action: Any) -> Any:
            return *super().step(action)[:4], {}

    return Other


def test_bars_of_several_choices() -> None:
    env = of(gymnasium.spaces.MultiDiscrete([2, 3], start=[0, 4]))
    for bars in bars_of(PolicyGradient(env, num_envs=2, seed=0), env)[:-1]:
        assert [bar.label for bar in bars] == ["0:0", "0:1", "1:4", "1:5", "1:6"]
        assert sum(bar.high for bar in bars[:2]) == pytest.approx(1.0)
        assert [max(part, key=lambda bar: bar.high).taken for part in (bars[:2], bars[2:])] == [True, True]
        assert sum(bar.taken for bar in bars) == 2
    env = of(gymnasium.spaces.MultiBinary(3))
    for bars in bars_of(PolicyGradient(env, num_envs=2, seed=0), env)[:-1]:
        assert [bar.taken for bar in bars] == [bar.high > 0.5 for bar in bars]
    env = of(gymnasium.spaces.Discrete(20))
    for bars in bars_of(PolicyGradient(env, num_envs=2, seed=0), env)[:-1]:
        assert len(bars) == 8  # the most probable ones
        assert any(bar.taken for bar in bars)


def test_bars_of_numbers_are_in_the_environment_s_unit() -> None:
    env = of(gymnasium.spaces.Box(np.array([0.0, -2.0], np.float32), np.array([10.0, 2.0], np.float32)))
    agent = PolicyGradient(env, num_envs=2, seed=0, initial_deviation=0.25)
    with torch.no_grad():
        for parameter in agent.policy.network.layers[-1].parameters():  # type: ignore[union-attr,operator,index]
            parameter.zero_()
        agent.policy.network.layers[-1].bias += torch.tensor([0.2, 0.9])  # type: ignore[union-attr,operator,index]
    first, second = bars_of(agent, env)[0]
    assert (first.label, first.text, second.text) == ("0", "+6.00 ± 1.25", "+1.80 ± 0.50")
    assert (first.low, first.high, first.mark) == pytest.approx((0.475, 0.725, 0.6), abs=1e-6)
    assert (second.low, second.high, second.mark) == pytest.approx((0.825, 1.0, 0.95), abs=1e-6)  # cut at the bound
    env = of(gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32))
    ((unbounded,), *_) = bars_of(PolicyGradient(env, num_envs=2, seed=0), env)
    assert 0.0 < unbounded.low < unbounded.mark < unbounded.high < 1.0  # type: ignore[operator]


def test_an_agent_that_tells_only_actions_has_no_bars(tmp_path: Path) -> None:
    class Fixed:
        def predict(self, observation: Any, deterministic: bool = False, *, generator: Any = None) -> Any:
            return np.full(len(observation), 2)

    recording = record(Fixed(), tmp_path / "a.png", Walk, episodes=3)
    assert recording.path.stat().st_size > 0
    with pytest.raises(ValueError, match=r"^env: the agent was not trained in an environment with an id; pass env, "):
        record(Fixed(), tmp_path / "a.png")


def test_a_larger_return_fits_above_the_picture() -> None:
    frame = Frame(np.zeros((40, 320, 3), np.uint8), "best, median, worst of 20", 10_000, -123_456.7, True, ())
    line = np.asarray(pictures.captioned(frame, None)).astype(int)[:-40].max(axis=(0, 2)) > 100
    gaps = np.diff(np.flatnonzero(line))
    assert (gaps > 5).sum() >= 3  # title, step, its number, return and its number stand apart
    assert np.flatnonzero(line).max() < 320 - 3


# --------------------------------------------------------------------------------------------------------- bad input


def test_another_suffix_or_place_is_refused(agent: PolicyGradient, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^path must end in \.gif, \.mp4 or \.png \(a strip of frames\), got 'a\.avi'$"
    ):
        record(agent, "a.avi")
    with pytest.raises(ValueError, match=r"^path: cannot write '.*no/a\.gif'; its directory must exist"):
        record(agent, tmp_path / "no" / "a.gif")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"show": ("first",)}, "show must be one of best, median, worst, got 'first'"),
        ({"show": ()}, "show must be a sequence of some of best, median, worst, got ()"),
        ({"show": "best"}, "show must be a sequence of some of best, median, worst, got 'best'"),
        ({"width": 0}, "width must be"),
        ({"max_steps": 0}, "max_steps must be"),
        ({"columns": 1}, "columns must be"),
        ({"fps": 0}, "fps must lie in [1, 50]"),
    ],
)
def test_settings_of_a_film(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        Film(**settings)


def test_environments_that_cannot_be_shown(agent: PolicyGradient, tmp_path: Path) -> None:
    class Blind(Walk):
        metadata = {"render_modes": ["human"]}  # noqa: RUF012

    class Fails(Walk):
        def render(self) -> Any:
            raise RuntimeError("no GL")

    class Needs(Walk):
        def render(self) -> Any:
            raise gymnasium.error.DependencyNotInstalled('run `pip install "gymnasium[mujoco]"`')

    path = tmp_path / "a.gif"
    with pytest.raises(ValueError, match=r"^env: it draws no pictures: its metadata\['render_modes'\] is \['human'\]"):
        record(agent, path, Blind)
    with pytest.raises(ValueError, match=r"^env: drawing failed: RuntimeError: no GL$"):
        record(agent, path, Fails)
    with pytest.raises(ModuleNotFoundError, match=r"gymnasium\[mujoco\]"):
        record(agent, path, Needs)
    with pytest.raises(ValueError, match=r"got None; a function must make it with render_mode='rgb_array'$"):
        record(agent, path, lambda: Silent())
    with pytest.raises(TypeError, match=r"^env must be an id, or a function that returns one environment; a VectorEnv"):
        record(agent, path, gymnasium.make_vec("CartPole-v1", 2))
    with pytest.raises(ValueError, match=r"^env: no environment 'None-v0' could be made"):
        record(agent, path, "None-v0")
    with pytest.raises(ValueError, match="^episodes must be"):
        record(agent, path, episodes=0)
    with pytest.raises(ValueError, match="^seed must be"):
        record(agent, path, seed=-1)
    assert list(tmp_path.iterdir()) == []


class Silent(Walk):
    def render(self) -> Any:
        return None


@pytest.mark.parametrize(("suffix", "module", "package"), [
    ("gif", "PIL", "pillow"), ("mp4", "imageio_ffmpeg", "imageio-ffmpeg"),
])  # fmt: skip
def test_an_encoder_that_is_not_installed(
    agent: PolicyGradient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, module: str, package: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else find(name, *rest))
    Walk.drawn = 0
    with pytest.raises(ModuleNotFoundError, match=rf"^{package} is not installed: pip install 'rlce\[watch\]'$"):
        record(agent, tmp_path / f"a.{suffix}")
    assert Walk.drawn == 0


def test_a_file_s_environment_is_not_made_in_silence(tmp_path: Path) -> None:
    """A file may come from a stranger."""
    path = tmp_path / "a.safetensors"
    PolicyGradient("Walk-v0", num_envs=2, env_kwargs={"max_episode_steps": 5}).save(path)
    loaded = PolicyGradient.load(path)
    with pytest.warns(UserWarning, match=r"^record makes the environment that the file names: 'Walk-v0' with env_kw"):
        assert record(loaded, tmp_path / "a.gif", episodes=9).lengths.max() == 5
    assert record(loaded, tmp_path / "a.gif", "Walk-v0", episodes=9).lengths.max() > 5
    loaded._env, loaded._from_file = "evil:Walk-v0", ("evil:Walk-v0",)
    with pytest.raises(
        ValueError, match=r"would import the module 'evil'\. .* if you trust it, pass env= to record\(\)"
    ):
        record(loaded, tmp_path / "a.gif")


# ------------------------------------------------------------------------------------------- TensorBoard and a window


def test_an_image_for_tensorboard(agent: PolicyGradient, tmp_path: Path) -> None:
    content = record(agent, tmp_path / "a.gif", episodes=2, film=Film(width=80)).path.read_bytes()
    tracker = Tracker(tmp_path / "log")
    tracker.image("episodes/best", content, 7)  # not open: nothing happens
    tracker.open()
    tracker.image("episodes/best", content, 7)
    with pytest.raises(ValueError, match=r"^encoded must be the content of an image file, got b'text'"):
        tracker.image("episodes/best", b"text", 8)
    tracker.close()
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    (image,) = events.Images("episodes/best")
    assert (image.step, image.width, image.encoded_image_string) == (7, 80, content)


def test_a_window_shows_every_step_and_escape_closes_it(agent: PolicyGradient, monkeypatch: pytest.MonkeyPatch) -> None:
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    window.check()
    flips, delays = [], []
    flip = pygame.display.flip
    monkeypatch.setattr(pygame.display, "flip", lambda: (flips.append(greys_on_screen(pygame)), flip()))

    class Clock:
        def tick(self, rate: float) -> None:
            delays.append(rate)

    monkeypatch.setattr(pygame.time, "Clock", Clock)
    with playing(agent) as playback:
        shown = select(*playback.play(3), ("best", "worst"))
        assert window.show(playback, shown, None)
        assert flips == [20 * step for one in shown for step in range(one.length + 1)]
        assert delays == [10.0] * sum(one.length + 15 for one in shown)
        flips.clear()
        monkeypatch.setattr(
            pygame.display, "flip",
            lambda: (flips.append(1), pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE))),
        )  # fmt: skip
        assert not window.show(playback, shown, None)
        assert len(flips) == 1


def greys_on_screen(pygame: Any) -> int:
    return pygame.display.get_surface().get_at((5, 45))[0]


def test_a_display_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OSError, match=r"^no window can be opened, .*: --gif FILE\.gif writes a file instead$"):
        window.check()


# ------------------------------------------------------------------------------------------------------- the command


def run(*arguments: str, ok: bool = True, **environment: str) -> str:
    said = commands.run("-m", *arguments, ok=ok, environment={"SDL_VIDEODRIVER": "dummy", **environment})
    assert "Traceback" not in said
    return said


def test_from_a_training_to_pictures(tmp_path: Path) -> None:
    log_dir = tmp_path / "a run"
    quick = ("--total-timesteps", "300", "--episodes", "2", "--quiet", "--log-dir", str(log_dir))
    said = run("scripts.train", "CartPole-v1", "--num-envs", "2", *quick)
    (command,) = re.findall(r"^watch: python -m scripts\.watch (.*)$", said, flags=re.MULTILINE)
    assert tyro.cli(watch.Arguments, args=shlex.split(command, comments=True)) == watch.Arguments(log_dir)
    files = {name: tmp_path / f"a.{name}" for name in ("gif", "png")}
    flags = ("--gif", str(files["gif"]), "--strip", str(files["png"]), "--tensorboard", "--episodes", "3")
    said = run("scripts.watch", str(log_dir), *flags, "--show", "best", "worst", "--sampled")
    assert f"{log_dir / 'agent.safetensors'}: CartPole-v1, " in said
    best, worst = re.findall(r"^(best|worst) of 3: return (\S+) in (\d+) steps", said, flags=re.MULTILINE)
    assert float(best[1]) == int(best[2]) > int(worst[2])
    seen, durations = frames_of(files["gif"])
    assert sum(durations) == sum(20 * int(length) + 1_000 for _, _, length in (best, worst))  # 50 steps a second
    assert len(seen) == sum(-(-int(length) // 2) + 1 for _, _, length in (best, worst))
    assert f"wrote {files['png']}: " in said
    events = EventAccumulator(str(log_dir / "watch"))
    events.Reload()
    assert events.Tags()["images"] == ["episodes/best", "episodes/worst"]
    assert events.Images("episodes/best")[0].step == PolicyGradient.load(log_dir / "agent.safetensors").steps
    run("scripts.watch", str(log_dir), "--episodes", "1", "--max-steps", "3")  # a window
    again = tmp_path / "again.gif"
    nowhere = dict.fromkeys(("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"), "")
    flags = (*flags[4:], "--show", "best", "worst", "--sampled")
    assert "XDG_RUNTIME_DIR" not in run("scripts.watch", str(log_dir), "--gif", str(again), *flags, **nowhere)
    assert again.read_bytes() == files["gif"].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["{}", "--gif", "{}/a.gif"],
            "run: the directory '{}' holds no .safetensors file, expected one agent.safetensors ",
        ),
        (["{}/a", "--gif", "{}/a.gif"], "run: no file or directory '{}/a'"),
        (["{}/agent", "--gif", "{}/a.mp4"], "--gif: the file must end in .gif, got '{}/a.mp4'"),
        (["{}/agent", "--gif", "{}/no/a.gif"], "path: cannot write '{}/no/a.gif'; its directory must exist"),
        (["{}/agent", "--tensorboard"], "--tensorboard: '{}' holds no event files of a training; "),
        (["{}/agent", "--strip", "{}/a.png", "--columns", "0"], "columns must be a whole number of at least 2, got 0"),
        (["tests/files/classifier-plain.safetensors", "--gif", "{}/a.gif"], "run: 'tests/files/classifier-plain"),
    ],
)
def test_bad_input_of_the_command(tmp_path: Path, arguments: list[str], said: str) -> None:
    PolicyGradient("CartPole-v1", num_envs=2).save(tmp_path / "agent")
    here = str(tmp_path)
    given = tyro.cli(watch.Arguments, args=[argument.replace("{}", here) for argument in arguments])
    with pytest.raises((ValueError, OSError), match=f"^{re.escape(said.replace('{}', here))}"):
        watch.main(given)
    assert [file.name for file in tmp_path.iterdir()] == ["agent"]


def test_bad_input_ends_in_one_line(tmp_path: Path) -> None:
    assert run("scripts.watch", str(tmp_path), "--gif", "a.gif", ok=False).count("\n") == 1


def test_recording_loads_no_encoder_before_it_is_used() -> None:
    program = "import sys, rlce; rlce.record; assert not {'PIL', 'pygame', 'imageio_ffmpeg'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert rlce.record is recording.record
