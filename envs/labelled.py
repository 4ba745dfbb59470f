"""A labelled data set as an environment: classification, learnt from rewards only."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray


class LabelledData(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Episodes of one step: see a random row, name its class, earn 1 if correct and 0 if not.

    The expected reward of a policy is its expected accuracy on the data. If equal rows have different labels, the best
    policy names the most frequent one, whereas cross-entropy learns their frequencies.

    Args:
        X: the rows, real numbers, ``[N, D]``; kept as float32.
        y: their labels, numbers or strings, ``[N]``, at least two different ones.

    Attributes:
        observation_space: Box ``[D]``, float32, bounded by the smallest and the largest value of each column
            (a constant column by its value and the next larger float).
        action_space: Discrete(K); action k names the class ``classes[k]``.
        classes: the different labels, sorted, ``[K]``.

    Raises:
        ValueError: X or y empty, ill-shaped, of different lengths, not finite (in float32) or no real
            numbers; a single class; from `reset`, ``options["row"]`` outside 0..N−1; from `step`, an action
            outside the action space.
        gymnasium.error.ResetNeeded: from `step`, before the first `reset` or after an episode's end.

    Example:
        >>> env = LabelledData([[0.0], [1.0]], ["cat", "dog"])
        >>> env.reset(seed=0, options={"row": 1})[0]
        array([1.], dtype=float32)
        >>> _, reward, terminated, truncated, _ = env.step(np.int64(1))
        >>> str(env.classes[1]), reward, terminated, truncated
        ('dog', 1.0, True, False)
    """

    def __init__(self, X: ArrayLike, y: ArrayLike) -> None:
        self._rows = _finite_rows(X)
        labels, count = np.asarray(y), len(self._rows)
        if labels.shape != (count,):
            raise ValueError(f"y must hold one label for each row, shape [{count}], got {list(labels.shape)}")
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise ValueError(f"y must be finite, got {labels[~np.isfinite(labels)][0]}")
        self.classes: NDArray[Any]
        self.classes, self._labels = np.unique(labels, return_inverse=True)
        if len(self.classes) < 2:
            raise ValueError(f"y must hold at least 2 classes, got one: {self.classes[0]!r}")
        low, high = self._rows.min(axis=0), self._rows.max(axis=0)
        # Gymnasium's checker refuses equal bounds.
        high = np.where(low == high, np.nextafter(high, np.float32(np.inf)), high)
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Discrete(len(self.classes))
        self._row: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw a row, or take the row of the index ``options["row"]``."""
        super().reset(seed=seed)
        row = (options or {}).get("row")
        if row is None:
            row = self.np_random.integers(len(self._rows))
        elif not 0 <= row < len(self._rows):
            raise ValueError(f'options["row"] must lie in 0..{len(self._rows) - 1}, got {row}')
        self._row = int(row)
        return self._rows[self._row].copy(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Name the class of the row, which ends the episode. The final observation is the same row."""
        if self._row is None:
            raise gymnasium.error.ResetNeeded("the episode has not begun or is over: call reset first")
        if not self.action_space.contains(action):
            raise ValueError(f"action must lie in {self.action_space}, got {action!r}")
        row, self._row = self._row, None
        return self._rows[row].copy(), float(action == self._labels[row]), True, False, {}


def _finite_rows(X: ArrayLike) -> NDArray[np.float32]:
    """A float32 copy of ``X``, checked."""
    given = np.asarray(X)
    if given.dtype.kind not in "biuf":
        raise ValueError(f"X must hold real numbers, got dtype {given.dtype}")
    with np.errstate(over="ignore"):
        rows = given.astype(np.float32)
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"X must have shape [N, D] with N, D >= 1, got {list(rows.shape)}")
    if not np.isfinite(rows).all():
        i, j = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(f"X must be finite in float32, got {given[i, j]} at row {i}, column {j}")
    return rows
