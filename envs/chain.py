"""A tabular chain so small that all trajectories can be listed, so every expectation can be computed exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray


class Trajectory(NamedTuple):
    """One whole episode of L steps and its probability."""

    states: NDArray[np.int64]  # [L], where each action was taken, without the final state
    actions: NDArray[np.int64]  # [L]
    rewards: NDArray[np.float64]  # [L]
    probability: float


class Chain(gymnasium.Env[np.int64, np.int64]):
    """A Markov decision process of a few states with random tables, a terminal state and a horizon.

    The horizon belongs to the task: reaching it *terminates* the episode, so no episode is truncated. The time is not
    observed, so a baseline V(s) cannot be exact.

    Args:
        states: S, the number of states; the last one is terminal.
        actions: A, the number of actions.
        horizon: the largest number of steps of an episode.
        table_seed: seed of the tables: initial and transition probabilities come from a flat Dirichlet distribution,
            rewards from a standard normal one. (The seed of `reset` draws episodes.)

    Attributes:
        observation_space: Discrete(S).
        action_space: Discrete(A).
        initial: probability of each state at the start, ``[S]``; 0 for the terminal state.
        transition: probability of each next state, ``[S, A, S]``; the terminal state leads to itself.
        reward: reward of an action in a state, ``[S, A]``; 0 in the terminal state.
        terminal: True if entering the state ends the episode, ``[S]``.
        horizon: the largest number of steps of an episode.

    Raises:
        ValueError: fewer than two states, or fewer than one action or step; from `step`, an action outside
            the action space.
        gymnasium.error.ResetNeeded: from `step`, before the first `reset` or after an episode's end.

    Example:
        >>> chain = Chain(states=3, actions=2, horizon=3)
        >>> uniform = np.full((3, 2), 0.5)
        >>> episodes = chain.trajectories(uniform)
        >>> len(episodes), round(sum(episode.probability for episode in episodes), 12)
        (84, 1.0)
    """

    def __init__(self, states: int = 3, actions: int = 2, horizon: int = 3, table_seed: int = 0) -> None:
        for name, number, least in (("states", states, 2), ("actions", actions, 1), ("horizon", horizon, 1)):
            if number < least:
                raise ValueError(f"{name} must be at least {least}, got {number}")
        generator = np.random.default_rng(table_seed)
        self.horizon = horizon
        self.terminal = np.arange(states) == states - 1
        self.initial = np.append(generator.dirichlet(np.ones(states - 1)), 0.0)
        self.transition = generator.dirichlet(np.ones(states), size=(states, actions))
        self.transition[self.terminal] = self.terminal
        self.reward = generator.standard_normal((states, actions))
        self.reward[self.terminal] = 0.0
        for table in (self.terminal, self.initial, self.transition, self.reward):
            table.setflags(write=False)
        self.observation_space = gymnasium.spaces.Discrete(states)
        self.action_space = gymnasium.spaces.Discrete(actions)
        self._state = np.int64(0)
        self._steps_left = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Draw the first state; ``options`` are not used."""
        super().reset(seed=seed)
        self._steps_left = self.horizon
        return self._enter(self.initial), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Earn the reward of (state, action) and draw the next state."""
        if self._steps_left == 0:
            raise gymnasium.error.ResetNeeded("the episode has not begun or is over: call reset first")
        if not self.action_space.contains(action):
            raise ValueError(f"action must lie in {self.action_space}, got {action!r}")
        reward = float(self.reward[self._state, action])
        self._enter(self.transition[self._state, action])
        self._steps_left = 0 if self.terminal[self._state] else self._steps_left - 1
        return self._state, reward, self._steps_left == 0, False, {}

    def trajectories(self, policy: ArrayLike) -> list[Trajectory]:
        """All possible episodes with their probabilities, in an order that does not depend on the policy.

        Episodes that differ only in the state after the last action are one entry.

        Args:
            policy: probability of each action in each state, ``[S, A]``; the row of the terminal state is not used.

        Returns:
            The episodes; their probabilities sum to 1.

        Raises:
            ValueError: the policy has another shape, or its rows are not probabilities.
        """
        table, expected = np.asarray(policy, np.float64), self.reward.shape
        if table.shape != expected:
            raise ValueError(f"policy must have shape [S, A] = {list(expected)}, got {list(table.shape)}")
        if not ((table >= 0).all() and np.allclose(table.sum(axis=1), 1.0)):
            raise ValueError(f"policy must hold probabilities, and every row must sum to 1, got {table.tolist()}")
        return [
            trajectory
            for state in np.flatnonzero(self.initial)
            for trajectory in self._continued(table, [int(state)], [], float(self.initial[state]))
        ]

    def _continued(
        self, policy: NDArray[np.float64], states: list[int], actions: list[int], probability: float
    ) -> Iterator[Trajectory]:
        """All episodes that continue from the last of ``states``."""
        state = states[-1]
        for action in range(policy.shape[1]):
            taken, reached = [*actions, action], probability * float(policy[state, action])
            if len(taken) == self.horizon:
                yield Trajectory(np.array(states), np.array(taken), self.reward[states, taken], reached)
                continue
            for successor in np.flatnonzero(self.transition[state, action]):
                onward = reached * float(self.transition[state, action, successor])
                if self.terminal[successor]:
                    yield Trajectory(np.array(states), np.array(taken), self.reward[states, taken], onward)
                else:
                    yield from self._continued(policy, [*states, int(successor)], taken, onward)

    def _enter(self, probabilities: NDArray[np.float64]) -> np.int64:
        self._state = np.int64(self.np_random.choice(len(probabilities), p=probabilities))
        return self._state
