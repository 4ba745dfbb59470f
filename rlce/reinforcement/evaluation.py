"""How good an agent is: returns of whole episodes, without the usual bias towards short ones."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from rlce.optimization import check_number, check_whole
from rlce.reinforcement import environments
from rlce.reinforcement.environments import Environments, EnvLike
from rlce.trainer import Monitor

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

    def scalars(self) -> dict[str, float]:
        """Mean and standard deviation under the names that TensorBoard shows."""
        return {
            "eval/mean_reward": float(self.returns.mean()),
            "eval/std_reward": float(self.returns.std()),
            "eval/mean_ep_length": float(self.lengths.mean()),
        }


@dataclass(frozen=True)
class Evaluation:
    """Evaluation during training, with its own environments and generators.

    Attributes:
        every: environment steps between evaluations; each takes place at the end of the round that passes a multiple.
        episodes: number of episodes.
        deterministic: greedy (True) or sampled actions.
        env: another environment than the training one; needed if training was given a VectorEnv, which cannot be made
            twice.

    Raises:
        ValueError: ``every`` or ``episodes`` below 1.
    """

    every: int = 10_000
    episodes: int = 20
    deterministic: bool = True
    env: EnvLike | None = None

    def __post_init__(self) -> None:
        check_whole("episodes", self.episodes)
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
) -> EpisodeResults:
    """Play whole episodes and return the return and length of each.

    Each copy of the environment plays a fixed share of the episodes, because taking the first ``episodes`` to finish
    would favour short ones. The same agent, arguments and seed give the same result (with sampled actions, also the
    same autoreset mode).

    Args:
        agent: anything with `Agent.predict`; its own generators are not used.
        env: an id, a factory or a VectorEnv (which is reset, and stays open).
        episodes: number of episodes.
        deterministic: greedy (True) or sampled actions.
        seed: of the environments and the sampled actions.
        env_kwargs: keyword arguments of the environment, for an id.

    Returns:
        ``(returns, lengths)``, both ``[episodes]``.

    Raises:
        ValueError: fewer than one episode, an unknown environment, a bad seed, a VectorEnv without an autoreset mode,
            or an action mask that forbids every action.
        FloatingPointError: a reward is NaN or infinite.
        RuntimeError: a worker process of an `AsyncVectorEnv` died; all its workers are closed.

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
    seeds = seed if isinstance(seed, np.random.SeedSequence) else environments.seed_sequence(seed)
    reset_seeds, action_seeds = seeds.spawn(2)
    generator = np.random.Generator(np.random.PCG64(action_seeds))
    takes_masks = "mask" in inspect.signature(agent.predict).parameters
    returns: list[float] = []
    lengths: list[int] = []
    with _opened(env, episodes, env_kwargs) as copies:
        copies.reset(reset_seeds)
        missing = environments.episode_shares(episodes, copies.n)
        total, length = np.zeros(copies.n), np.zeros(copies.n, np.int64)
        while missing.any():
            counted, mask = copies.real & (missing > 0), copies.mask
            masks = {"mask": mask} if takes_masks and mask is not None else {}
            observation = copies.raw_observation
            action = agent.predict(observation, deterministic=deterministic, generator=generator, **masks)
            step = copies.step(action)
            total += np.where(counted, step.reward, 0.0)
            length += counted
            ended = step.done & counted
            if ended.any():
                missing -= ended
                if not np.isfinite(total[ended]).all():
                    raise FloatingPointError(f"an episode's return is not finite: {total[ended]}")
                returns.extend(total[ended].tolist())
                lengths.extend(length[ended].tolist())
                total[ended] = 0.0
                length[ended] = 0
    return EpisodeResults(np.array(returns), np.array(lengths))


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
        yield Monitor("rollout/ep_rew_mean")
        return
    if settings.env == _FOREIGN:
        raise ValueError("evaluation: its environment is not in the file; pass evaluation to load()")
    where, kwargs = (env, env_kwargs) if settings.env is None else (settings.env, None)
    assert where is not None
    with _opened(where, settings.episodes, kwargs) as copies:

        def evaluate() -> dict[str, float]:
            how = settings.episodes, settings.deterministic, seeds.spawn(1)[0]
            return evaluate_policy(agent, copies.envs, *how).scalars()

        yield Monitor("eval/mean_reward", evaluate=evaluate, every=settings.every)


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
