"""Identity: repeat what you see. The best policy is known, and so is every return."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class Identity(gymnasium.Env[np.int64, np.int64]):
    """Reward 1 where the action names the observation, else 0; observations are drawn uniformly, one a step.

    The best policy earns ``length`` an episode, a uniform one ``length / n`` on average. Actions do not
    influence observations. The episode ends by truncation.

    Args:
        n: number of observations and of actions.
        length: steps an episode.
        start: the action that names observation 0; observation k is named by ``start + k``.

    Attributes:
        observation_space: Discrete(n).
        action_space: Discrete(n, start=start).
        length: steps an episode.

    Raises:
        ValueError: n or length below 1; from `step`, an action outside the action space.
        gymnasium.error.ResetNeeded: from `step`, before the first `reset` or after an episode's end.

    Example:
        >>> env = Identity(n=4, length=2, start=10)
        >>> observation, _ = env.reset(seed=0)
        >>> _, reward, terminated, truncated, _ = env.step(10 + observation)
        >>> reward, terminated, truncated
        (1.0, False, False)
    """

    def __init__(self, n: int = 4, length: int = 8, start: int = 0) -> None:
        for name, number in (("n", n), ("length", length)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        self.length = length
        self.observation_space = gymnasium.spaces.Discrete(n)
        self.action_space = gymnasium.spaces.Discrete(n, start=start)
        self._n, self._start = n, start
        self._observation = np.int64(0)
        self._steps_left = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Begin an episode; ``options`` are not used."""
        super().reset(seed=seed)
        self._steps_left = self.length
        return self._draw(), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Name the observation, and see the next one."""
        if self._steps_left == 0:
            raise gymnasium.error.ResetNeeded("the episode has not begun or is over: call reset first")
        if not self.action_space.contains(action):
            raise ValueError(f"action must lie in {self.action_space}, got {action!r}")
        reward = float(action - self._start == self._observation)
        self._steps_left -= 1
        return self._draw(), reward, False, self._steps_left == 0, {}

    def _draw(self) -> np.int64:
        self._observation = np.int64(self.np_random.integers(self._n))
        return self._observation
