"""A training run on a scripted task, and everything that an independent re-implementation needs to repeat it.

`record` runs `rlce.PolicyGradient` and touches nothing private: the environment writes down what happened, and the
networks, which are tables of a number a state, write down which rows each gradient step used. `tests/published.py`
repeats the training from that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn

import rlce
from rlce import Method, Optimization, PolicyGradient

STATES, SHARED = 300, 2
HEIGHT = 4.0  # of the one-hot part: a step moves a state's own logits about as much as those that all states share


class Step(NamedTuple):
    """One step of one copy; a state is a number that no other observation of the run has."""

    state: int
    action: NDArray[Any]  # as the environment was given it, counted from zero
    reward: float
    terminated: bool
    truncated: bool
    next_state: int
    time: int  # steps since the episode began
    episode: int  # a number that no other episode of the run has


class Script(NamedTuple):
    """One episode: its rewards and how it ends."""

    rewards: tuple[float, ...]
    ending: Literal["terminated", "truncated", "both"]


@dataclass(frozen=True)
class Task:
    """What the copies of an environment play.

    Attributes:
        action_space: of one copy. What is done makes no difference to what happens.
        scripts: the episodes of each copy, in turn and then from the first again.
        mode: how the vector environment resets.
        masked: whether the environment forbids actions.
    """

    action_space: gymnasium.Space[Any]
    scripts: tuple[tuple[Script, ...], ...]
    mode: AutoresetMode = AutoresetMode.NEXT_STEP
    masked: bool = False

    @property
    def features(self) -> Tensor:
        """Every state's observation, ``[STATES, STATES + SHARED]``: nearly one-hot, and numbers that states share.

        Only nearly, so that no column is constant in a round: running statistics would give it no influence.
        """
        random = np.random.default_rng(5)
        shared = random.integers(-8, 9, (STATES, SHARED)) / 8.0 + (0.5, -1.0)
        noise = random.choice([-1.0, 1.0], (STATES, STATES)) / 64.0
        return torch.tensor(np.hstack([HEIGHT * np.eye(STATES) + noise, shared]))

    @property
    def classes(self) -> tuple[int, ...]:
        """Classes of each component of an action; D ones for a Box of D numbers."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return (int(space.n),)
        if isinstance(space, spaces.MultiDiscrete):
            return tuple(map(int, space.nvec))
        if isinstance(space, spaces.MultiBinary):
            return (2,) * int(space.n)
        assert space.shape is not None
        return (1,) * space.shape[0]

    def allowed(self, state: int) -> NDArray[np.bool_]:
        """Which classes an action may name in a state, the components one after the other, ``[ΣK]``."""
        random, parts = np.random.default_rng([6, state]), []
        for count in self.classes:
            part = random.random(count) < 0.6
            part[random.integers(count)] = True
            parts.append(part if self.masked else np.ones(count, bool))
        return np.concatenate(parts)


def scripts(copies: int, seed: int = 0, longest: int = 6, endings: Sequence[str] = ("terminated", "truncated")) -> Any:
    """Episodes of different lengths and rewards (multiples of 1/8) for each copy, four a copy."""
    random = np.random.default_rng(seed)

    def one(number: int) -> Script:
        length = int(random.integers(1, longest + 1))
        rewards = random.integers(-16, 17, length) / 8.0
        return Script(tuple(map(float, rewards)), endings[number % len(endings)])

    return tuple(tuple(one(copy + number) for number in range(4)) for copy in range(copies))


class Scripted(gymnasium.Env[Any, Any]):
    """Plays scripts and writes down what happened.

    Attributes:
        steps: all so far.
    """

    def __init__(self, task: Task, copy: int, numbers: itertools.count[int], episodes: itertools.count[int]) -> None:
        self.observation_space = spaces.Box(-10.0, 10.0, (STATES + SHARED,), np.float64)
        self.action_space = task.action_space
        self.steps: list[Step] = []
        self._task, self._features = task, task.features.numpy()
        self._scripts = itertools.cycle(task.scripts[copy])
        self._numbers, self._episodes = numbers, episodes

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._script, self._time, self._episode = next(self._scripts), 0, next(self._episodes)
        return self._observe(ended=False)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        before, time, script = self._state, self._time, self._script
        ended = time + 1 == len(script.rewards)
        terminated, truncated = (ended and script.ending in (name, "both") for name in ("terminated", "truncated"))
        observation, info = self._observe(ended)
        first = getattr(self.action_space, "start", 0)
        counted = np.array(action) - (first if not isinstance(self.action_space, spaces.Box) else 0)
        reward = script.rewards[time]
        self.steps.append(Step(before, counted, reward, terminated, truncated, self._state, time, self._episode))
        self._time += 1
        return observation, reward, terminated, truncated, info

    def _observe(self, ended: bool) -> tuple[NDArray[np.float64], dict[str, Any]]:
        self._state = next(self._numbers)
        if not self._task.masked:
            return self._features[self._state], {}
        mask = self._task.allowed(self._state) & (not ended)  # after its end an episode allows nothing
        return self._features[self._state], {"action_mask": mask}


class Table(nn.Module):
    """A linear map of the observation without a bias; it remembers what it computed gradients for.

    Attributes:
        seen: the inputs of each such call, ``[B, STATES + SHARED]``.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            self.seen.append(x.detach().clone())
        return x.to(self.weight.dtype) @ self.weight.T


class Round(NamedTuple):
    """One round of the run."""

    steps: list[list[Step]]  # of each copy
    minibatches: list[list[int]]  # the states of each gradient step's rows
    passes: list[list[int]]  # the same of the steps that the critic alone takes after those
    scalars: Mapping[str, float]


class Parameters(NamedTuple):
    """All there are. Policy ``[n_outputs, STATES + SHARED]``, critic ``[1, ...]``, log_std ``[D]``."""

    policy: Tensor
    critic: Tensor | None
    log_std: Tensor | None


class Run(NamedTuple):
    """What `record` gives."""

    task: Task
    before: Parameters
    after: Parameters
    rounds: list[Round]


@dataclass(frozen=True)
class Setting:
    """How a method is run.

    Attributes:
        task: what is played.
        learning_rate: of plain gradient descent; large, so that ratios pass their bounds.
        rounds: how many.
        spread: deviation of the initial logits.
        normalize_observations: as for the agent.
        scale_rewards: as for the agent.
    """

    task: Task
    learning_rate: float = 1.0
    rounds: int = 3
    spread: float = 1.0
    normalize_observations: bool = False
    scale_rewards: bool = False
    seed: int = field(default=0, kw_only=True)


def record(method: Method, setting: Setting) -> Run:
    """Train an agent, and say what happened."""
    task, numbers, episodes = setting.task, itertools.count(), itertools.count()
    copies = [Scripted(task, copy, numbers, episodes) for copy in range(len(task.scripts))]
    envs = SyncVectorEnv([partial(_same, copy) for copy in copies], autoreset_mode=task.mode)
    tables: list[Table] = []

    def network(n_inputs: int, n_outputs: int) -> nn.Module:
        tables.append(Table(_initial(n_outputs, n_inputs, setting.spread if not tables else 1.0, setting.seed)))
        return tables[-1]

    agent = PolicyGradient(
        envs,
        method,
        network=network,
        seed=setting.seed,
        optimization=Optimization("sgd", learning_rate=setting.learning_rate, momentum=0.0),
        normalize_observations=setting.normalize_observations,
        scale_rewards=setting.scale_rewards,
    )

    def parameters() -> Parameters:
        log_std = dict(agent.policy.named_parameters()).get("log_std")
        values = [table.weight.detach().clone() for table in tables]
        deviations = None if log_std is None else log_std.detach().clone()
        return Parameters(values[0], values[1] if method.critic else None, deviations)

    before, rounds = parameters(), []

    def at_the_end(progress: rlce.Progress) -> bool:
        minibatches, passes = [_states(inputs) for inputs in tables[0].seen], []
        if method.critic:
            of_critic = [_states(inputs) for inputs in tables[1].seen]
            assert of_critic[: len(minibatches)] == minibatches
            passes = of_critic[len(minibatches) :]
        rounds.append(Round([copy.steps for copy in copies], minibatches, passes, dict(progress.scalars)))
        for copy in copies:
            copy.steps = []
        for table in tables:
            table.seen.clear()
        return len(rounds) == setting.rounds

    agent.learn(10**9, callback=at_the_end)
    assert next(numbers) < STATES
    return Run(task, before, parameters(), rounds)


def _same(env: Scripted) -> Scripted:
    return env


def _states(inputs: Tensor) -> list[int]:
    """The states of rows of inputs: their own column is the largest of the one-hot part, standardised or not."""
    return inputs[:, :STATES].argmax(dim=1).tolist()


def _initial(n_outputs: int, n_inputs: int, spread: float, seed: int) -> Tensor:
    """Ordinary states, every seventh with ties, and every ninth with one output that towers over the others."""
    random = np.random.default_rng([seed, n_outputs])
    weight = random.normal(size=(n_outputs, n_inputs)) * spread / HEIGHT
    weight[:, :STATES:7] = 0.0
    weight[random.integers(n_outputs, size=len(weight[0, :STATES:9])), range(0, STATES, 9)] += 12.0 * spread / HEIGHT
    weight[:, STATES:] *= 0.5 * HEIGHT
    return torch.tensor(weight)


Credit = tuple[float, float | None]
Builder = Callable[..., Any]
