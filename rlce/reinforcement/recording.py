"""Watching an agent: it plays episodes, and the best, the median and the worst are played again with pictures.

An episode is fixed by the seed and its number, so pictures are drawn only of episodes that are shown.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import sys
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import nn

from rlce import threads
from rlce.checkpoint import write_atomically
from rlce.heads import Bernoulli, Gaussian
from rlce.optimization import check, check_choice, check_number, check_whole
from rlce.reinforcement import environments, files, pictures
from rlce.reinforcement.environments import Environments, EnvLike
from rlce.reinforcement.evaluation import Agent, acting
from rlce.reinforcement.pictures import Bar, Frame

ENOUGH_STEPS = 1_000  # of an episode, where the task has no time limit
_RANKS = "best", "median", "worst"
_MOST_BARS = 8
_MOST_FPS = 50  # of a GIF: browsers show no frame for less than 0.02 s
_RENDERED = "rgb_array"


@dataclass(frozen=True)
class Film:
    """Which episodes are shown, and how.

    Attributes:
        show: which episodes, in this order: "best", "median", "worst" by return. Equal returns are shown once.
        width: of the picture, in pixels: by default 320 in a GIF, 220 for a frame of a strip, the environment's own
            in a video.
        fps: frames per second of a GIF, about. It leaves steps out, so its speed stays the environment's.
        columns: frames per episode in a strip: the first, the last, and some between, at equal distances.
        max_steps: episodes are cut after this many steps; None for 1,000, and no cut in a task with a time limit.

    Raises:
        ValueError: an unknown or repeated episode to show, a number below 1 (``columns``: below 2), or an ``fps`` above
            50.

    Example:
        >>> Film(show=("best",), columns=4)
        Film(show=('best',), width=None, fps=25, columns=4, max_steps=None)
    """

    show: Sequence[str] = _RANKS
    width: int | None = None
    fps: float = 25
    columns: int = 6
    max_steps: int | None = None

    def __post_init__(self) -> None:
        listed = not isinstance(self.show, str) and 0 < len(set(self.show)) == len(self.show)
        check("show", self.show, listed, f"be a sequence of some of {', '.join(_RANKS)}")
        for rank in self.show:
            check_choice("show", rank, _RANKS)
        for name in ("width", "max_steps"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), ", or None")
        check_whole("columns", self.columns, least=2)
        check_number("fps", self.fps, lambda fps: 1 <= fps <= _MOST_FPS, f"lie in [1, {_MOST_FPS}]")


class Shown(NamedTuple):
    """An episode that is shown."""

    title: str  # such as "best of 20"
    number: int  # 0 for the first episode that was played
    episode_return: float
    length: int  # steps


class Recording(NamedTuple):
    """What `record` wrote: the file, the episodes in it, and return and length of all that were played."""

    path: Path
    shown: tuple[Shown, ...]
    returns: NDArray[np.float64]  # [episodes]
    lengths: NDArray[np.int64]  # [episodes]


class Moment(NamedTuple):
    """A point of an episode: before an action or, with ``action`` None, at the end."""

    step: int
    total: float  # return so far
    action: NDArray[Any] | None
    cut: bool = False  # true at the end of an episode that was cut


def record(
    agent: Agent,
    path: str | os.PathLike[str],
    env: EnvLike | None = None,
    episodes: int = 20,
    deterministic: bool = True,
    seed: int = 0,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    film: Film | None = None,
) -> Recording:
    """Play episodes and write pictures of the best, the median and the worst.

    The same agent, arguments and seed show the same episodes. The agent's own generators are not used, so a callback
    may record in the middle of training. No display is needed.

    Args:
        agent: a `PolicyGradient`, or anything with `evaluation.Agent`'s ``predict``.
        path: the file. Its suffix says what it becomes: ".gif"; ".mp4"; or ".png", a strip of frames with the
            probabilities of the actions below them (for a Box, mean ± deviation). An existing file is replaced.
        env: an id, or a function that returns a `gymnasium.Env`; by default the id of the training. A function that has
            a parameter ``render_mode`` gets "rgb_array".
        episodes: how many are played; the median of an even number is the lower one.
        deterministic: greedy (True) or sampled actions.
        seed: of the environments and the sampled actions.
        env_kwargs: keyword arguments of ``env``, for an id.
        film: which episodes are shown, and how.

    Returns:
        The `Recording`.

    Raises:
        ValueError: another suffix, a file that cannot be written, an environment that cannot be made or rendered, no
            ``env`` for an agent that was not trained in one with an id, or a file's id that names a module.
        ModuleNotFoundError: Pillow, or the encoder of MP4, is not installed.

    Warns:
        UserWarning: episodes were cut, an environment does not repeat an episode with its seed, or a loaded agent's
            file gives the environment keyword arguments.

    Example:
        >>> import tempfile
        >>> from rlce import PolicyGradient
        >>> agent = PolicyGradient("CartPole-v1", seed=0)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     recording = record(agent, f"{directory}/cartpole.gif", episodes=3, deterministic=False)
        >>> [one.title for one in recording.shown]
        ['best of 3', 'median of 3', 'worst of 3']
    """
    film = Film() if film is None else film
    pictures.checked_kind(path)
    with playing(agent, env, env_kwargs, deterministic, seed, film.max_steps) as playback:
        returns, lengths = playback.play(episodes)
        shown = select(returns, lengths, film.show)
        write_atomically(path, encoded(playback, shown, path, film))
    return Recording(Path(path), shown, returns, lengths)


def select(returns: NDArray[np.float64], lengths: NDArray[np.int64], show: Sequence[str]) -> tuple[Shown, ...]:
    """The best, median and worst episode by return, both arrays ``[episodes]``; equal returns once.

    Example:
        >>> select(np.array([3.0, 1.0, 3.0]), np.array([9, 8, 7]), ("best", "worst", "median"))
        (Shown(title='best, median of 3', number=0, episode_return=3.0, length=9), \
Shown(title='worst of 3', number=1, episode_return=1.0, length=8))
    """
    order = np.argsort(-returns, kind="stable")
    number = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}  # of two in the middle the lower
    by_return: dict[float, list[str]] = {}
    for rank in show:
        by_return.setdefault(float(returns[number[rank]]), []).append(rank)
    shown = []
    for value, ranks in by_return.items():
        i = int(np.flatnonzero(returns == value)[0])
        names = ", ".join(sorted(ranks, key=_RANKS.index))
        title = f"{names} of {len(returns)}" if len(returns) > 1 else "1 episode"
        shown.append(Shown(title, i, value, int(lengths[i])))
    return tuple(shown)


def encoded(playback: Playback, shown: Sequence[Shown], path: str | os.PathLike[str], film: Film) -> bytes:
    """The content of a file with these episodes, of the kind that the path's suffix says."""
    kind, rate = pictures.checked_kind(path), playback.rate
    if kind == ".png":
        spread = [np.linspace(0, one.length, film.columns).round().astype(int).tolist() for one in shown]
        return pictures.strip(_all(playback, shown, spread), film.width)
    if kind == ".mp4":
        return pictures.mp4(_all(playback, shown, [range(one.length + 1) for one in shown]), rate, film.width)
    every = max(1, round(rate / film.fps), math.ceil(rate / _MOST_FPS))
    spread = [range(0, one.length + 1, every) for one in shown]
    return pictures.gif(_all(playback, shown, spread), rate, film.width or 320)


def _all(playback: Playback, shown: Sequence[Shown], spread: Sequence[Container[int]]) -> Iterator[Frame]:
    return chain.from_iterable(map(playback.frames, shown, spread))


@contextlib.contextmanager
def playing(
    agent: Agent,
    env: EnvLike | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    deterministic: bool = True,
    seed: int = 0,
    max_steps: int | None = None,
) -> Iterator[Playback]:
    """An agent beside its environment, made twice: to play fast, and to draw pictures. Closed at the end.

    Arguments and errors are those of `record`.
    """
    if env is None:
        env, env_kwargs = _own_environment(agent, env_kwargs)
    if isinstance(env, VectorEnv):
        raise TypeError("env must be an id, or a function that returns one environment; a VectorEnv plays several")
    environments.seed_sequence(seed)
    with _opened(env, env_kwargs, None) as plain:
        modes = plain.envs.metadata.get("render_modes") or []
        if _RENDERED not in modes:
            raise ValueError(
                f"env: it draws no pictures: its metadata['render_modes'] is {modes}, without {_RENDERED!r}"
            )
        policy = getattr(agent, "policy", None)
        work = threads.multiply_adds(policy, plain.width) if isinstance(policy, nn.Module) else 0
        with _opened(env, env_kwargs, _RENDERED) as filmed, threads.one_thread(work):
            yield Playback(agent, plain, filmed, deterministic, seed, max_steps)


def _own_environment(agent: Any, env_kwargs: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any]]:
    """The environment of the training, if it has an id that may be made."""
    env, kwargs = getattr(agent, "trained_in", (None, {}))
    if env is None:
        raise ValueError("env: the agent was not trained in an environment with an id; pass env, an id or a function")
    given = kwargs if env_kwargs is None else env_kwargs
    named = [name for name in getattr(agent, "_from_file", ()) if name == env]
    files.announce(tuple(named[:1]), given if env_kwargs is None else {}, "record")
    return env, given


@contextlib.contextmanager
def _opened(env: EnvLike, env_kwargs: Mapping[str, Any] | None, render_mode: str | None) -> Iterator[Environments]:
    """One copy of an environment, closed at the end."""
    kwargs = {name: value for name, value in (env_kwargs or {}).items() if name != "render_mode"}
    if render_mode is not None and isinstance(env, str):
        kwargs["render_mode"] = render_mode
    elif render_mode is not None and callable(env) and "render_mode" in inspect.signature(env).parameters:
        env = partial(cast(Callable[..., Any], env), render_mode=render_mode)
    envs, _ = environments.make_environments(env, 1, kwargs, "sync")
    try:
        yield Environments(envs)
    finally:
        environments.close(envs)


class Playback:
    """Plays an agent's episodes, the same ones each time; `playing` makes it.

    Attributes:
        rate: steps per second at the environment's own speed (30 if it names none).

    Raises:
        ValueError: the environment cannot be rendered.
        ModuleNotFoundError: it needs a package for rendering that is not installed.
    """

    def __init__(
        self,
        agent: Agent,
        plain: Environments,
        filmed: Environments,
        deterministic: bool,
        seed: int,
        max_steps: int | None,
    ) -> None:
        self._agent, self._plain, self._filmed = agent, plain, filmed
        self._deterministic, self._seed = deterministic, seed
        limit = None if plain.has_time_limit else ENOUGH_STEPS
        self._max_steps: float = max_steps or limit or math.inf
        self.rate = float(plain.envs.metadata.get("render_fps") or 30)
        filmed.reset(np.random.SeedSequence(seed))
        self._picture()  # whatever is missing is missed before anything is played

    def play(self, episodes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns and lengths of episodes 0, 1, ..., both ``[episodes]``.

        Raises:
            ValueError: fewer than one episode.
            FloatingPointError: a return is NaN or infinite.

        Warns:
            UserWarning: episodes were cut.
        """
        check_whole("episodes", episodes)
        ends = []
        for number in range(episodes):
            *_, end = self._moments(self._plain, number)
            if not math.isfinite(end.total):
                raise FloatingPointError(f"the return of episode {number} is not finite: {end.total}")
            ends.append(end)
        if cut := sum(end.cut for end in ends):
            warnings.warn(
                f"{cut} of {episodes} episodes had not ended after {self._max_steps:,} steps and were cut there; "
                "max_steps sets how many",
                stacklevel=3,
            )
        return np.array([end.total for end in ends]), np.array([end.step for end in ends])

    def frames(self, shown: Shown, steps: Container[int]) -> Iterator[Frame]:
        """Play an episode again, with pictures of these steps and of its end.

        Warns:
            UserWarning: the episode was another one than before.
        """
        filmed = self._filmed
        for moment in self._moments(filmed, shown.number):
            # Each step is drawn, also where a frame is left out: LunarLander's sparks age when they are drawn.
            picture, last = self._picture(), moment.action is None
            if last or moment.step in steps:
                bars = () if last else self._bars(moment.action)
                yield Frame(picture, shown.title, moment.step, moment.total, last, bars)
        if (moment.total, moment.step) != (shown.episode_return, shown.length):
            warnings.warn(
                f"env: episode {shown.number} returned {shown.episode_return:g} in {shown.length} steps, and "
                f"{moment.total:g} in {moment.step} when it was played again with the same seed; this one is shown",
                stacklevel=2,
            )

    def _moments(self, copies: Environments, number: int) -> Iterator[Moment]:
        """One episode, fixed by the seed and its number."""
        reset_seeds, action_seeds = np.random.SeedSequence(self._seed, spawn_key=(number,)).spawn(2)
        act = acting(self._agent, self._deterministic, np.random.Generator(np.random.PCG64(action_seeds)))
        copies.reset(reset_seeds)
        total, done = 0.0, False
        for step in count():
            if done or step >= self._max_steps:
                yield Moment(step, total, None, cut=not done)
                return
            action = act(copies)
            yield Moment(step, total, action)
            taken = copies.step(action)
            total, done = total + float(taken.reward[0]), bool(taken.done[0])

    def _picture(self) -> NDArray[np.uint8]:
        """What the environment looks like now, ``[height, width, 3]``."""
        try:
            with _without_a_display():
                (picture,) = self._filmed.envs.render() or (None,)
        except gymnasium.error.DependencyNotInstalled as error:
            raise ModuleNotFoundError(f"the environment needs a package to draw: {error}") from error
        except Exception as error:
            raise ValueError(f"env: drawing failed: {type(error).__name__}: {error}") from error
        if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,)):
            got = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else repr(picture)
            how = "; a function must make it with render_mode='rgb_array'" if picture is None else ""
            raise ValueError(f"env: render must return a uint8 array [height, width, 3], got {got}{how}")
        return picture.copy()  # an environment may draw the next one into the same array

    def _bars(self, action: Any) -> tuple[Bar, ...]:
        """What the policy says of the actions, for an agent that tells it."""
        agent: Any = self._agent
        if not (hasattr(agent, "outputs") and hasattr(agent, "actions")):
            return ()
        outputs = torch.from_numpy(agent.outputs(self._filmed.raw_observation, self._filmed.mask))
        if isinstance(agent.actions.head, Gaussian):
            mean, log_scale = outputs[0].double().chunk(2)
            return _number_bars(agent.actions, mean.numpy(), log_scale.exp().numpy(), np.ravel(action).astype(float))
        return _class_bars(agent.actions, agent.actions.head.probabilities(outputs)[0].tolist(), np.ravel(action))


@contextlib.contextmanager
def _without_a_display() -> Iterator[None]:
    """Without a display, SDL says so on standard error before it draws into memory; its dummy driver does not."""
    if sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"} & set(os.environ):
        yield
        return
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    try:
        yield
    finally:
        os.environ.pop("SDL_VIDEODRIVER", None)


def _class_bars(actions: Any, probabilities: Sequence[float], taken: NDArray[Any]) -> tuple[Bar, ...]:
    """A bar per class, the most probable ones if there are many; a label of MultiDiscrete is "component:class"."""
    space, spaces = actions.space, gymnasium.spaces
    if isinstance(actions.head, Bernoulli):
        names = [(str(i), bool(bit)) for i, bit in enumerate(taken)]
    elif isinstance(space, spaces.MultiDiscrete):
        components = zip(space.start.ravel(), space.nvec.ravel(), taken, strict=True)
        names = [
            (f"{d}:{start + k}", bool(start + k == chosen))
            for d, (start, classes, chosen) in enumerate(components)
            for k in range(classes)
        ]
    else:
        names = [(str(space.start + k), bool(space.start + k == taken[0])) for k in range(space.n)]
    order = np.argsort(-np.asarray(probabilities), kind="stable")[:_MOST_BARS]
    return tuple(
        Bar(names[i][0], 0.0, probabilities[i], f"{probabilities[i]:.2f}", names[i][1]) for i in sorted(order.tolist())
    )


def _number_bars(
    actions: Any, means: NDArray[np.float64], deviations: NDArray[np.float64], taken: NDArray[np.float64]
) -> tuple[Bar, ...]:
    """A bar per number of a Box, from mean − deviation to mean + deviation, in the environment's unit."""
    low, high = (np.ravel(bound).astype(float) for bound in (actions.space.low, actions.space.high))
    if actions.rescale:
        means, deviations = low + 0.5 * (means + 1.0) * (high - low), 0.5 * deviations * (high - low)
    bars = []
    for i in range(min(len(means), _MOST_BARS)):
        mean, deviation, bottom, top = float(means[i]), float(deviations[i]), float(low[i]), float(high[i])
        if not math.isfinite(top - bottom):
            top = max(abs(mean) + 2 * deviation, abs(float(taken[i])))
            bottom = -top
        along = np.clip([mean - deviation, mean + deviation, taken[i]], bottom, top) - bottom
        begin, end, mark = (along / (top - bottom)).tolist()
        text = f"{np.clip(mean, bottom, top):+z.2f} ± {deviation:.2f}"
        bars.append(Bar(str(i), begin, end, text, mark=mark))
    return tuple(bars)
