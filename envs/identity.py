"""Identity: repeat the observation, for every kind of action. The best policy and its return are known."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

Observation = TypeVar("Observation")
Action = TypeVar("Action")


class _Repeat(gymnasium.Env[Observation, Action]):
    """The base of the identity environments: draw an observation, reward the action, draw the next observation.

    Actions do not influence observations. The episode ends by truncation after ``length`` steps.
    """

    def __init__(self, length: int) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        self.length = length
        self._steps_left = 0

    @abstractmethod
    def _draw(self) -> Observation:
        """The next observation, which the next action should repeat."""

    @abstractmethod
    def _pay(self, action: Action) -> float:
        """The reward of an action for the last observation drawn."""

    def _info(self) -> dict[str, Any]:
        """The info of the last observation drawn."""
        return {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; ``options`` are not used."""
        super().reset(seed=seed)
        self._steps_left = self.length
        return self._draw(), self._info()

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Reward the action and draw the next observation."""
        if self._steps_left == 0:
            raise gymnasium.error.ResetNeeded("the episode has not begun or is over: call reset first")
        # For a Box without dimensions, a vector environment passes a number instead of an array.
        if not self.action_space.contains(np.asarray(action)):
            raise ValueError(f"action must lie in {self.action_space}, got {action!r}")
        reward = self._pay(action)
        self._steps_left -= 1
        return self._draw(), reward, False, self._steps_left == 0, self._info()


class Identity(_Repeat[np.int64, np.int64]):
    """Reward 1 if the action names the observation, else 0. Each observation is drawn uniformly.

    The best policy earns ``length`` in an episode, a uniform one ``length / n`` on average. Actions do not
    influence observations. The episode ends by truncation.

    Args:
        n: number of observations and of actions.
        length: steps of an episode.
        start: the action that names observation 0; observation k is named by ``start + k``.

    Attributes:
        observation_space: Discrete(n).
        action_space: Discrete(n, start=start).
        length: steps of an episode.

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
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        super().__init__(length)
        self.observation_space = gymnasium.spaces.Discrete(n)
        self.action_space = gymnasium.spaces.Discrete(n, start=start)
        self._n, self._start = n, start
        self._observation = np.int64(0)

    def _draw(self) -> np.int64:
        self._observation = np.int64(self.np_random.integers(self._n))
        return self._observation

    def _pay(self, action: np.int64) -> float:
        return float(action - self._start == self._observation)


class IdentityMultiDiscrete(_Repeat[NDArray[np.int64], NDArray[np.int64]]):
    """The reward is the share of correct components; the best policy earns ``length`` in an episode.

    A uniform policy earns ``length`` times the mean of 1/classes on average.

    Args:
        classes: number of classes of each component, in any shape.
        length: steps of an episode.
        start: the action that names class 0, the same for all components.

    Attributes:
        observation_space: MultiDiscrete(classes).
        action_space: MultiDiscrete(classes, start=start).
        length: steps of an episode.

    Raises:
        ValueError: a number of classes or a length below 1; from `step`, an action outside the action space.
        gymnasium.error.ResetNeeded: from `step`, before the first `reset` or after an episode's end.

    Example:
        >>> env = IdentityMultiDiscrete([2, 3], start=1)
        >>> observation, _ = env.reset(seed=0)
        >>> env.step(1 + observation)[1]
        1.0
    """

    def __init__(self, classes: Sequence[Any] = (2, 3), length: int = 8, start: int = 0) -> None:
        self._classes = np.array(classes, np.int64)
        if self._classes.size == 0 or self._classes.min() < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        super().__init__(length)
        self.observation_space = gymnasium.spaces.MultiDiscrete(self._classes)
        self.action_space = gymnasium.spaces.MultiDiscrete(self._classes, start=np.full_like(self._classes, start))
        self._start = start
        self._observation = np.zeros_like(self._classes)

    def _draw(self) -> NDArray[np.int64]:
        self._observation = self.np_random.integers(self._classes)
        return self._observation.copy()

    def _pay(self, action: NDArray[np.int64]) -> float:
        return float((action - self._start == self._observation).mean())


class IdentityMultiBinary(_Repeat[NDArray[np.int8], NDArray[np.int8]]):
    """The reward is the share of correct bits: at best ``length`` in an episode, half of it for a uniform policy.

    Args:
        shape: the shape of the bits.
        length: steps of an episode.

    Attributes:
        observation_space: MultiBinary(shape).
        action_space: MultiBinary(shape).
        length: steps of an episode.

    Raises:
        ValueError: no bits or a length below 1; from `step`, an action outside the action space.
        gymnasium.error.ResetNeeded: from `step`, before the first `reset` or after an episode's end.

    Example:
        >>> env = IdentityMultiBinary((2, 2))
        >>> observation, _ = env.reset(seed=0)
        >>> env.step(1 - observation)[1]
        0.0
    """

    def __init__(self, shape: Sequence[int] = (3,), length: int = 8) -> None:
        if not shape or min(shape) < 1:
            raise ValueError(f"shape must hold numbers of at least 1, got {shape}")
        super().__init__(length)
        self.observation_space = gymnasium.spaces.MultiBinary(tuple(shape))
        self.action_space = gymnasium.spaces.MultiBinary(tuple(shape))
        self._observation = np.zeros(shape, np.int8)

    def _draw(self) -> NDArray[np.int8]:
        self._observation = self.np_random.integers(2, size=self._observation.shape, dtype=np.int8)
        return self._observation.copy()

    def _pay(self, action: NDArray[np.int8]) -> float:
        return float((action == self._observation).mean())


class IdentityBox(_Repeat[NDArray[np.float32], NDArray[np.float32]]):
    """The reward is minus the mean squared distance to the observation: at best 0.

    Observations are uniform between −bound and bound, so doing nothing earns −length · bound² / 3 on average.

    Args:
        shape: the shape of the action and of the observation.
        bound: the bound of every number.
        length: steps of an episode.

    Attributes:
        observation_space: Box(−bound, bound, shape).
        action_space: the same.
        length: steps of an episode.

    Raises:
        ValueError: an empty shape, a bound that is not positive, or a length below 1; from `step`, an action outside
            the action space.
        gymnasium.error.ResetNeeded: from `step`, before the first `reset` or after an episode's end.

    Example:
        >>> env = IdentityBox((2,))
        >>> observation, _ = env.reset(seed=0)
        >>> env.step(observation)[1]
        0.0
    """

    def __init__(self, shape: Sequence[int] = (2,), bound: float = 1.0, length: int = 8) -> None:
        if any(number < 1 for number in shape):
            raise ValueError(f"shape must hold numbers of at least 1, got {shape}")
        if not 0 < bound < np.inf:
            raise ValueError(f"bound must be positive and finite, got {bound}")
        super().__init__(length)
        self.observation_space = gymnasium.spaces.Box(-bound, bound, tuple(shape), np.float32)
        self.action_space = gymnasium.spaces.Box(-bound, bound, tuple(shape), np.float32)
        self._bound = bound
        self._observation = np.zeros(shape, np.float32)

    def _draw(self) -> NDArray[np.float32]:
        drawn = self.np_random.uniform(-self._bound, self._bound, self._observation.shape)
        self._observation = np.asarray(drawn, np.float32)
        return self._observation.copy()

    def _pay(self, action: NDArray[np.float32]) -> float:
        return 0.0 - float(np.square(action - self._observation, dtype=np.float64).mean())


class MaskedIdentity(_Repeat[Any, np.int64]):
    """Identity with forbidden actions: at each step, each wrong action is forbidden with probability ½.

    The reward is 1 for the action that names the observation, 0 for another allowed action and −1 for a forbidden one.
    After the last step all actions are forbidden, as in a game that is over.

    Args:
        n: number of observations and of actions.
        length: steps of an episode.
        start: the action that names observation 0.
        mask_in_observation: True puts the mask into a Dict observation as "action_mask", beside "observation"; False
            into ``info["action_mask"]``.

    Attributes:
        observation_space: Discrete(n), or a Dict of it and MultiBinary(n).
        action_space: Discrete(n, start=start).
        length: steps of an episode.

    Raises:
        ValueError: n or length below 1; from `step`, an action outside the action space.
        gymnasium.error.ResetNeeded: from `step`, before the first `reset` or after an episode's end.

    Example:
        >>> env = MaskedIdentity(n=3)
        >>> observation, info = env.reset(seed=0)
        >>> int(info["action_mask"][observation])
        1
        >>> env.step(observation)[1]
        1.0
    """

    def __init__(self, n: int = 4, length: int = 8, start: int = 0, *, mask_in_observation: bool = False) -> None:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        super().__init__(length)
        named, mask = gymnasium.spaces.Discrete(n), gymnasium.spaces.MultiBinary(n)
        self._mask_in_observation = mask_in_observation
        self.observation_space = (
            gymnasium.spaces.Dict({"action_mask": mask, "observation": named}) if mask_in_observation else named
        )
        self.action_space = gymnasium.spaces.Discrete(n, start=start)
        self._n, self._start = n, start
        self._named, self._mask = np.int64(0), np.ones(n, np.int8)

    def _draw(self) -> Any:
        self._named = np.int64(self.np_random.integers(self._n))
        self._mask = self.np_random.integers(2, size=self._n, dtype=np.int8)
        self._mask[self._named] = 1
        self._mask *= self._steps_left > 0
        if self._mask_in_observation:
            return {"action_mask": self._mask.copy(), "observation": self._named}
        return self._named

    def _info(self) -> dict[str, Any]:
        return {} if self._mask_in_observation else {"action_mask": self._mask.copy()}

    def _pay(self, action: np.int64) -> float:
        index = action - self._start
        return float(index == self._named) if self._mask[index] else -1.0
