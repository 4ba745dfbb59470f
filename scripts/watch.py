"""Watch a saved agent: in a window, as GIF, video or strip of frames, or in TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

import scripts
from rlce import Film, Tracker
from rlce.checkpoint import write_atomically
from rlce.reinforcement import pictures, recording, window


@dataclass(frozen=True)
class Arguments:
    """Watch a saved agent play: in a window, or with the flags below as files, which needs no display.

    It plays episodes without pictures, and then the best, the median and the worst of them again with pictures.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The saved file, or the directory that holds agent.safetensors."""
    gif: Path | None = None
    """File for a GIF."""
    video: Path | None = None
    """File for a video, .mp4."""
    strip: Path | None = None
    """File for a .png: frames in a row, with the probabilities of the actions (of numbers, mean ± deviation)."""
    tensorboard: bool = False
    """Write a GIF of each episode for TensorBoard's tab "Images", into the directory "watch" of the run."""
    episodes: int = 20
    """Number of episodes to play."""
    sampled: bool = False
    """Draw the actions, as in training; by default the most probable ones are taken."""
    seed: int = 1_000
    """Fixes the environments and the sampled actions. The same seed shows the same episodes."""
    show: tuple[str, ...] = tuple(Film.show)
    """Which of the episodes to show, by return; equal returns are shown once."""
    width: int | None = None
    """Width of the picture in pixels; by default 320 in a GIF, 220 for a frame of a strip, else the environment's."""
    fps: float = Film.fps
    """Frames per second of a GIF; it leaves steps out and keeps the environment's speed."""
    columns: int = Film.columns
    """Frames per episode in a strip."""
    max_steps: int | None = None
    """Cut episodes after this many steps; by default 1,000, and none in a task with a time limit."""
    env: str | None = None
    """Another environment with the same spaces; by default the one of the training."""
    env_kwargs: str | None = None
    """Keyword arguments of the environment, as JSON; by default those of the training, and none with --env."""


def checked_files(arguments: Arguments) -> list[Path]:
    """The files to write, after a check that each can be written and its encoder is installed."""
    files = []
    for flag, suffix in (("gif", ".gif"), ("video", ".mp4"), ("strip", ".png")):
        file = getattr(arguments, flag)
        if file is None:
            continue
        if file.suffix.lower() != suffix:
            raise ValueError(f"--{flag}: the file must end in {suffix}, got {str(file)!r}")
        pictures.checked_kind(file)
        files.append(file)
    return files


def checked_log(arguments: Arguments) -> Path:
    """The directory for TensorBoard's images, beside the event files of the training."""
    run = arguments.run if arguments.run.is_dir() else arguments.run.parent
    if not any(run.glob("events.out.tfevents.*")):
        raise ValueError(
            f"--tensorboard: {str(run)!r} holds no event files of a training; scripts.train writes them with "
            f"--log-dir {run}. --gif FILE.gif writes a file instead"
        )
    pictures.check_installed("PIL")
    return run / "watch"


def main(arguments: Arguments) -> None:
    """Play, and show or write."""
    film = Film(arguments.show, arguments.width, arguments.fps, arguments.columns, arguments.max_steps)
    files, log = checked_files(arguments), checked_log(arguments) if arguments.tensorboard else None
    in_window = not files and log is None
    if in_window:
        window.check()
    agent, env, env_kwargs = scripts.saved_agent(arguments.run, arguments.env, arguments.env_kwargs)
    how = agent, env, env_kwargs, not arguments.sampled, arguments.seed, arguments.max_steps
    with recording.playing(*how) as playback:
        returns, lengths = playback.play(arguments.episodes)
        shown = recording.select(returns, lengths, film.show)
        for one in shown:
            print(
                f"{one.title}: return {one.episode_return:.2f} in {one.length} steps (episode {one.number})", flush=True
            )
        for file in files:
            content = recording.encoded(playback, shown, file, film)
            write_atomically(file, content)
            print(f"wrote {file}: {len(content) / 1_000:,.0f} kB", flush=True)
        if log is not None:
            tracker = Tracker(log)
            tracker.open()
            for one in shown:
                name = one.title.partition(" of ")[0].replace(", ", "-").replace(" ", "-")
                tracker.image(f"episodes/{name}", recording.encoded(playback, [one], "a.gif", film), agent.steps)
            tracker.close()
            print(f"images: tensorboard --logdir {log.parent.parent}, tab Images, run {log.parent.name}/{log.name}")
        if in_window:
            window.show(playback, shown, film.width)


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
