"""How good an agent is: returns of whole episodes, without the usual bias towards short ones."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray
from torch import nn

from rlce import threads
from rlce.optimization import check_number, check_whole
from rlce.reinforcement import environments
from rlce.reinforcement.environments import Environments, EnvLike, info_of, success
from rlce.reinforcement.rollout import Episode
from rlce.trainer import Monitor

ENOUGH_STEPS = 10_000  # of an episode, where the task has no time limit
WATCHED = "eval/mean_reward", True  # the scalar of evaluations to watch; more is better
_FOREIGN = "(an environment that was no id)"


class Agent(Protocol):
    """What can be evaluated."""

    def predict(
        self, observation: Any, deterministic: bool = False, *, generator: np.random.Generator | None = None
    ) -> Any:
        """Actions for a batch of observations; if not deterministic, drawn with ``generator``.

        In an environment with action masks, a ``predict`` with a parameter ``mask`` gets them.
        """


class EpisodeResults(NamedTuple):
    """Undiscounted returns and lengths in steps, both ``[episodes]``."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """Evaluation during training, with its own environments and generators.

    Attributes:
        every: environment steps between evaluations; each takes place at the end of the round that passes a multiple.
        episodes: number of episodes.
        deterministic: greedy (True) or sampled actions.
        env: another environment than the training one; needed if training was given a VectorEnv, which cannot be made
            twice.
        max_steps: as in `evaluate_policy`.

    Raises:
        ValueError: ``every``, ``episodes`` or ``max_steps`` below 1.
    """

    every: int = 10_000
    episodes: int = 20
    deterministic: bool = True
    env: EnvLike | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        check_whole("episodes", self.episodes)
        _check_max_steps(self.max_steps)
        check_number("every", self.every, lambda every: every >= 1, "be at least 1")

    def to_json(self) -> dict[str, Any]:
        """The settings in JSON's types; an environment that is not an id becomes a note that there was one."""
        return {**vars(self), "env": self.env if isinstance(self.env, str | None) else _FOREIGN}

    @staticmethod
    def from_json(saved: Mapping[str, Any] | None) -> Evaluation | None:
        """The settings that `to_json` described."""
        if saved is not None and not isinstance(saved["env"], str | None):
            raise TypeError(f"evaluation: env must be an id or None, got {saved['env']!r}")
        return None if saved is None else Evaluation(**saved)


def evaluate_policy(
    agent: Agent,
    env: EnvLike,
    episodes: int = 100,
    deterministic: bool = True,
    seed: int | np.random.SeedSequence = 0,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    max_steps: int | None = None,
) -> EpisodeResults:
    """Play whole episodes and return the return and length of each.

    Each copy of the environment plays a fixed share of the episodes, because taking the first ``episodes`` to finish
    would favour short ones. The same agent, arguments and seed give the same result (with sampled actions, also the
    same autoreset mode).

    An agent that acts through a small network plays in one thread, whatever numbers torch and the BLAS have; see
    `rlce.threads`. Its network is ``agent.policy``; an agent without one counts as small.

    Args:
        agent: anything with `Agent.predict`; its own generators are not used.
        env: an id, a factory or a VectorEnv (which is reset, and stays open).
        episodes: number of episodes.
        deterministic: greedy (True) or sampled actions.
        seed: of the environments and the sampled actions.
        env_kwargs: keyword arguments of the environment, for an id.
        max_steps: an episode that has not ended after this many steps is cut there; its return and length so far count.
            None: no episode is cut if the task has a time limit, else 10,000 steps.

    Returns:
        ``(returns, lengths)``, both ``[episodes]``.

    Raises:
        ValueError: fewer than one episode or step, an unknown environment, a bad seed, a VectorEnv without an autoreset
            mode, or an action mask that forbids every action.
        FloatingPointError: a reward is NaN or infinite.
        RuntimeError: a worker process of an `AsyncVectorEnv` died; all its workers are closed.

    Warns:
        UserWarning: episodes were cut; the message says how many of how many.

    Source:
        The bias: episode lengths 10 or 500 with mean 255 measure 78 if the first 16 of 16 environments count.

    Example:
        >>> class AlwaysLeft:
        ...     def predict(self, observation, deterministic=False, *, generator=None):
        ...         return np.zeros(len(observation), np.int64)
        >>> returns, lengths = evaluate_policy(AlwaysLeft(), "CartPole-v1", episodes=10)
        >>> bool(returns.max() <= 11)
        True
    """
    check_whole("episodes", episodes)
    _check_max_steps(max_steps)
    seeds = seed if isinstance(seed, np.random.SeedSequence) else environments.seed_sequence(seed)
    policy = getattr(agent, "policy", None)
    with _opened(env, episodes, env_kwargs) as copies:
        work = threads.multiply_adds(policy, copies.width) if isinstance(policy, nn.Module) else 0
        with threads.one_thread(work * copies.n):
            played = _play(agent, copies, episodes, deterministic, seeds, max_steps)
    return EpisodeResults(*(np.array(numbers) for numbers in zip(*(each[:2] for each in played), strict=True)))


def acting(agent: Agent, deterministic: bool, generator: np.random.Generator) -> Callable[[Environments], Any]:
    """A function that returns the agent's actions in environments; `Agent.predict` gets their masks if it takes them.

    Args:
        agent: anything with `Agent.predict`.
        deterministic: greedy (True) or sampled actions.
        generator: source of the sampled actions.
    """
    takes_masks = "mask" in inspect.signature(agent.predict).parameters

    def act(copies: Environments) -> Any:
        masks = {"mask": copies.mask} if takes_masks and copies.mask is not None else {}
        return agent.predict(copies.raw_observation, deterministic=deterministic, generator=generator, **masks)

    return act


def _check_max_steps(max_steps: int | None) -> None:
    if max_steps is not None:
        check_whole("max_steps", max_steps, ", or None")


def _play(
    agent: Agent,
    copies: Environments,
    episodes: int,
    deterministic: bool,
    seeds: np.random.SeedSequence,
    max_steps: int | None,
) -> list[Episode]:
    """Whole episodes, a fixed share of them in each copy, in the order in which they ended."""
    reset_seeds, action_seeds = seeds.spawn(2)
    act = acting(agent, deterministic, np.random.Generator(np.random.PCG64(action_seeds)))
    if max_steps is None and not copies.has_time_limit:
        max_steps = ENOUGH_STEPS
    played: list[Episode] = []
    copies.reset(reset_seeds)
    missing, cut = environments.episode_shares(episodes, copies.n), 0
    waiting = np.zeros(copies.n, bool)  # its episode was cut, and no single copy can be reset
    total, length = np.zeros(copies.n), np.zeros(copies.n, np.int64)
    while missing.any():
        counted = copies.real & (missing > 0) & ~waiting
        step = copies.step(act(copies))
        total += np.where(counted, step.reward, 0.0)
        length += counted
        ended = step.done & counted
        if max_steps is not None:
            late = counted & ~ended & (length >= max_steps)
            waiting, cut, ended = waiting | late, cut + int(late.sum()), ended | late
        if ended.any():
            missing -= ended
            if not np.isfinite(total[ended]).all():
                raise FloatingPointError(f"an episode's return is not finite: {total[ended]}")
            for i in np.flatnonzero(ended).tolist():
                played.append(Episode(float(total[i]), int(length[i]), info_of(step.info, i, copies.n)))
            total[ended], length[ended] = 0.0, 0
            if waiting[missing > 0].all() and missing.any():
                copies.reset(reset_seeds.spawn(1)[0])
                waiting[:] = False
    if cut:
        warnings.warn(
            f"{cut} of {episodes} episodes had not ended after {max_steps:,} steps, were cut there and count as they "
            "were; the agent may be stuck, or the task needs a time limit (gymnasium.wrappers.TimeLimit). max_steps "
            "sets how long to wait",
            stacklevel=3,
        )
    return played


def _scalars(played: list[Episode]) -> dict[str, float]:
    """What to log of evaluated episodes."""
    returns, lengths, infos = zip(*played, strict=True)
    scalars = {
        "eval/mean_reward": float(np.mean(returns)),
        "eval/std_reward": float(np.std(returns)),
        "eval/min_reward": float(min(returns)),
        "eval/max_reward": float(max(returns)),
        "eval/mean_ep_length": float(np.mean(lengths)),
    }
    successes = [each for each in map(success, infos) if each is not None]
    return scalars | ({"eval/success_rate": float(np.mean(successes))} if successes else {})


@contextlib.contextmanager
def monitored(
    agent: Agent,
    settings: Evaluation | None,
    env: EnvLike | None,
    env_kwargs: Mapping[str, Any],
    seeds: np.random.SeedSequence,
) -> Iterator[Monitor]:
    """What training watches: the mean return of evaluations, or of training episodes if there are no ``settings``.

    The environments are made once, on entering, so that a bad one is refused before training; on leaving they are
    closed.

    Args:
        agent: what to evaluate.
        settings: how; None for no evaluation.
        env: the training environment, unless the settings name another one.
        env_kwargs: keyword arguments of ``env``.
        seeds: each evaluation spawns its own from them.
    """
    if settings is None:
        yield Monitor("rollout/ep_rew_mean", label="return")
        return
    if settings.env == _FOREIGN:
        raise ValueError("evaluation: its environment is not in the file; pass evaluation to load()")
    where, kwargs = (env, env_kwargs) if settings.env is None else (settings.env, None)
    assert where is not None
    with _opened(where, settings.episodes, kwargs) as copies:

        def evaluate() -> dict[str, float]:
            how = settings.episodes, settings.deterministic, seeds.spawn(1)[0], settings.max_steps
            return _scalars(_play(agent, copies, *how))

        yield Monitor(*WATCHED, evaluate=evaluate, every=settings.every, label="eval return")


@contextlib.contextmanager
def _opened(env: EnvLike, episodes: int, env_kwargs: Mapping[str, Any] | None) -> Iterator[Environments]:
    """Environments to play this many episodes in, closed at the end unless they were given."""
    # Many copies if the task has its own vector class, few if copies take turns.
    spec = gymnasium.registry.get(env) if isinstance(env, str) else None
    most = 10 if spec is None or spec.vector_entry_point is None else 100
    envs, how = environments.make_environments(env, min(episodes, most), env_kwargs)
    try:
        yield Environments(envs)
    finally:
        if how != "given":
            environments.close(envs)
