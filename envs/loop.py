"""An endless loop that a time limit cuts: the value of every state is known exactly."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class LoopEnv(gymnasium.Env[np.int64, np.int64]):
    """Four states in a ring. Each step pays 1, whatever the action. Only a time limit ends the episode.

    With discount γ the value of every state is 1 / (1 − γ): 50 at γ = 0.98. A method that treats the time limit as a
    terminal state finds at most (1 − γ^length) / (1 − γ): 7.46 at the default length.

    Args:
        length: steps until the episode is truncated.

    Attributes:
        observation_space: Discrete(4); an episode begins in state 0, and s is followed by s + 1 modulo 4.
        action_space: Discrete(2); both actions do the same.
        length: steps until the episode is truncated.

    Raises:
        ValueError: length below 1; from `step`, an action outside the action space.
        gymnasium.error.ResetNeeded: from `step`, before the first `reset` or after an episode's end.

    Example:
        >>> env = LoopEnv(length=2)
        >>> _ = env.reset(seed=0)
        >>> [[int(state), reward, terminated, truncated] for state, reward, terminated, truncated, _ in
        ...  (env.step(np.int64(0)), env.step(np.int64(1)))]
        [[1, 1.0, False, False], [2, 1.0, False, True]]
    """

    def __init__(self, length: int = 8) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        self.length = length
        self.observation_space = gymnasium.spaces.Discrete(4)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._time = length

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Begin in state 0; ``options`` are not used."""
        super().reset(seed=seed)
        self._time = 0
        return np.int64(0), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Move on by one state."""
        if self._time == self.length:
            raise gymnasium.error.ResetNeeded("the episode has not begun or is over: call reset first")
        if not self.action_space.contains(action):
            raise ValueError(f"action must lie in {self.action_space}, got {action!r}")
        self._time += 1
        return np.int64(self._time % 4), 1.0, False, self._time == self.length, {}
