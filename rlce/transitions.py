"""From a rollout to gradient steps: credit, minibatches, and the one loss of every policy-gradient method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlce import masks
from rlce.credit import Experience
from rlce.data import ReturnScale, Standardizer, minibatches
from rlce.heads import Head, squared
from rlce.methods import Method
from rlce.network import evaluation_mode, numpy_forward
from rlce.objective import weighted_mean
from rlce.rollout import Rollout


class Transitions(NamedTuple):
    """Rows of a rollout, ready for the loss; ghost steps and padding are gone. B rows."""

    observation: Tensor  # [B, D] as the policy saw it
    action: Tensor  # [B, *A] as the head stores it
    advantage: Tensor  # [B]
    behaviour_log_prob: Tensor  # [B] log π(a|s) when a was taken
    target: Tensor  # [B] for the critic; empty without one
    mask: Tensor  # [B, K] true where a class is allowed; empty where the environment gives no masks

    def rows(self, index: Tensor) -> Transitions:
        """The rows of these indices."""
        return Transitions(*(field[index] if len(field) else field for field in self))


class Batch(NamedTuple):
    """What one gradient step uses."""

    transitions: Transitions
    normalizer: float  # Z


def prepare(
    rollout: Rollout,
    method: Method,
    head: Head,
    policy: nn.Module,
    critic: nn.Module | None,
    normalizer: Standardizer | None,
    return_scale: ReturnScale | None,
    device: torch.device,
) -> tuple[Transitions, dict[str, float]]:
    """Give every action its credit, and keep the valid rows.

    Args:
        rollout: what happened.
        method: its credit rule, and whether it needs log-probabilities of the policy that acted.
        head: of the policy.
        policy: observation → outputs, as it was when it acted.
        critic: observation → value, or None.
        normalizer: the statistics that the policy saw observations through; not updated here.
        return_scale: updated with the rollout's rewards, then applied to them.
        device: where the networks live.

    Returns:
        The rows, and scalars to log.

    Raises:
        ValueError: the method's credit rule gives another shape than ``[T, N]``.
    """
    valid, shape = rollout.valid, rollout.valid.shape
    observation, next_observation = rollout.observation, rollout.next_observation
    if normalizer is not None:
        observation, next_observation = normalizer(observation), normalizer(next_observation)
    reward = rollout.reward
    if return_scale is not None:
        done = rollout.terminated | rollout.truncated
        return_scale.update(reward, done, valid, fresh=method.episodes is not None)
        reward = reward * np.float32(return_scale.factor)
    value = next_value = None
    if critic is not None:
        forward = numpy_forward(critic)
        value, next_value = (
            np.where(valid, forward(x.reshape(-1, x.shape[-1])).reshape(shape), np.float32(0.0))
            for x in (observation, next_observation)
        )
    experience = Experience(reward, rollout.terminated, rollout.truncated, valid, rollout.time, value, next_value)
    credit = method.credit(experience)
    for name, array in credit._asdict().items():
        if array is None and name == "target" and critic is None:
            continue
        if getattr(array, "shape", None) != shape:
            raise ValueError(
                f"method {method.name}: its credit rule must give {name} of shape {list(shape)}, "
                f"got {list(np.shape(array))}"
            )
    advantage = credit.advantage[valid]
    if method.standardize:
        advantage = standardized(advantage)
    scalars: dict[str, float] = {}
    target = np.empty(0, np.float32)
    if credit.target is not None and value is not None:
        target = credit.target[valid]
        variance = float(target.var())
        if variance > 0:
            scalars["train/explained_variance"] = 1.0 - float((target - value[valid]).var()) / variance
    mask = np.empty(0, bool) if rollout.mask is None else rollout.mask[valid]
    arrays = observation[valid], rollout.action[valid], advantage, np.empty(0, np.float32), target, mask
    rows = Transitions(*(torch.from_numpy(array).to(device) for array in arrays))
    if method.ratio:
        with evaluation_mode(policy), torch.no_grad():  # as it acted
            rows = rows._replace(behaviour_log_prob=-head.cost(_outputs(policy, rows), rows.action))
    return rows, scalars


def standardized(advantage: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Shifted and scaled to mean 0 and deviation 1; exactly zero where all are equal up to rounding.

    Args:
        advantage: ``[B]``.

    Returns:
        ``[B]``, of the same dtype.

    Example:
        >>> standardized(np.array([1.0, 3.0])), standardized(np.full(1000, 0.1, np.float32)).any()
        (array([-1.,  1.]), np.False_)
    """
    # Counted from the first entry in double precision: dividing rounding noise by itself would make it as large as 1.
    centred = advantage.astype(np.float64) - advantage[0]
    centred -= centred.mean()
    deviation = centred.std()
    if deviation <= 1e-6 * np.abs(advantage).max():
        return np.zeros_like(advantage)
    return (centred / deviation).astype(advantage.dtype)


def batches(rows: Transitions, method: Method, generator: torch.Generator) -> Iterator[Batch]:
    """As many epochs of minibatches as the method wants.

    Args:
        rows: of one round.
        method: its epochs, minibatch size and normaliser.
        generator: the source of the order.

    Yields:
        One batch a gradient step. Z is its number of rows, or its share of the round's episodes.
    """
    count = len(rows.action)
    rows_per_unit = count / method.episodes if method.per_episode and method.episodes else 1.0
    for _ in range(method.epochs):
        if method.minibatch_size is None or method.minibatch_size >= count:
            yield Batch(rows, count / rows_per_unit)
            continue
        for index in minibatches(count, method.minibatch_size, generator):
            yield Batch(rows.rows(index.to(rows.action.device)), len(index) / rows_per_unit)


def loss(
    batch: Batch, method: Method, head: Head, policy: nn.Module, critic: nn.Module | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective on the actions taken, less the entropy bonus, plus the critic's regression.

    Args:
        batch: rows, and Z.
        method: its weight rule and factors.
        head: of the policy.
        policy: observation → outputs.
        critic: observation → value, or None.

    Returns:
        A scalar to descend, and detached scalars to log.

    Raises:
        ValueError: the method's weight rule gives another shape than ``[B]``.
    """
    rows, normalizer = batch
    outputs = _outputs(policy, rows)
    cost = head.cost(outputs, rows.action)
    log_prob = -cost.detach()
    weight = method.weight(rows.advantage, log_prob, rows.behaviour_log_prob)
    if getattr(weight, "shape", None) != cost.shape:
        got = list(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"method {method.name}: its weight rule must give shape {list(cost.shape)}, got {got}")
    weight = weight.detach()
    total = policy_loss = weighted_mean(cost, weight, normalizer)
    entropy = head.entropy(outputs if method.entropy_weight else outputs.detach()).mean()
    scalars = {"train/policy_loss": policy_loss.detach(), "train/entropy": entropy.detach()}
    if method.entropy_weight:
        total = total - method.entropy_weight * entropy
    if method.ratio:
        log_ratio = log_prob - rows.behaviour_log_prob
        scalars["train/approx_kl"] = (log_ratio.exp() - 1.0 - log_ratio).mean()
        scalars["train/clip_fraction"] = ((weight == 0) & (rows.advantage != 0)).float().mean()
    if critic is not None:
        value_loss = squared(critic(rows.observation).squeeze(-1), rows.target).mean()
        total = total + method.value_weight * value_loss
        scalars["train/value_loss"] = value_loss.detach()
    return total, scalars


def _outputs(policy: nn.Module, rows: Transitions) -> Tensor:
    """What the policy says with what it may not say left out, as it was when it acted."""
    outputs = policy(rows.observation)
    return masks.hide(outputs, rows.mask) if len(rows.mask) else outputs
