"""From a rollout to gradient steps: credit, minibatches, and the one loss of every policy-gradient method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rlce.data import Standardizer, minibatches
from rlce.heads import Head, squared
from rlce.network import evaluation_mode, numpy_forward
from rlce.objective import weighted_mean
from rlce.reinforcement import masks
from rlce.reinforcement.credit import Experience
from rlce.reinforcement.methods import Method
from rlce.reinforcement.rollout import Rollout
from rlce.rules import returns


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
    reward_factor: float,
    device: torch.device,
    behaviour_log_prob: NDArray[np.float32] | None = None,
) -> tuple[Transitions, dict[str, float]]:
    """Give every action its credit, and keep the valid rows.

    Args:
        rollout: what happened.
        method: its credit rule, and whether it needs log-probabilities of the policy that acted.
        head: of the policy.
        policy: observation → outputs, as it was when it acted.
        critic: observation → value, or None.
        normalizer: the statistics that the policy saw observations through; not updated here.
        reward_factor: what rewards are multiplied with.
        device: where the networks live.
        behaviour_log_prob: log π(a|s) when each action was taken, ``[T, N]``, where earlier rounds are used again;
            None where the policy has not moved since.

    Returns:
        The rows, and scalars to log.

    Raises:
        ValueError: the method's credit rule gives another shape than ``[T, N]``.
        FloatingPointError: an advantage is NaN or infinite; it names the step.
    """
    valid, shape = rollout.valid, rollout.valid.shape
    observation, next_observation = rollout.observation, rollout.next_observation
    if normalizer is not None:
        observation, next_observation = normalizer(observation), normalizer(next_observation)
    reward = rollout.reward * np.float32(reward_factor)
    value = next_value = None
    if critic is not None:
        forward = numpy_forward(critic)
        value, next_value = (
            np.where(valid, forward(x.reshape(-1, x.shape[-1])).reshape(shape), np.float32(0.0))
            for x in (observation, next_observation)
        )
    log_prob = None
    if method.ratio:
        log_prob = log_probabilities(rollout, head, policy, normalizer, device)
        behaviour_log_prob = log_prob if behaviour_log_prob is None else behaviour_log_prob
    experience = Experience(
        reward,
        rollout.terminated,
        rollout.truncated,
        valid,
        rollout.time,
        value,
        next_value,
        log_prob,
        behaviour_log_prob,
    )
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
    if not np.isfinite(advantage).all():
        t, n = np.argwhere(~np.isfinite(credit.advantage) & valid)[0]
        raise FloatingPointError(
            f"method {method.name}: the advantage of step {t} in column {n} of the round is {credit.advantage[t, n]}"
        )
    if method.standardize:
        advantage = returns.standardized(advantage)
    scalars: dict[str, float] = {}
    target = np.empty(0, np.float32)
    if credit.target is not None and value is not None:
        target = credit.target[valid]
        variance = float(target.var())
        if variance > 0:
            scalars["train/explained_variance"] = 1.0 - float((target - value[valid]).var()) / variance
    mask = np.empty(0, bool) if rollout.mask is None else rollout.mask[valid]
    behaviour = np.empty(0, np.float32) if behaviour_log_prob is None else behaviour_log_prob[valid]
    arrays = observation[valid], rollout.action[valid], advantage, behaviour, target, mask
    return Transitions(*(torch.from_numpy(array).to(device) for array in arrays)), scalars


def log_probabilities(
    rollout: Rollout, head: Head, policy: nn.Module, normalizer: Standardizer | None, device: torch.device
) -> NDArray[np.float32]:
    """Log π(a|s) of every action of a rollout under the policy as it is, zero where not valid, ``[T, N]``."""
    result = np.zeros(rollout.valid.shape, np.float32)
    observation = rollout.observation if normalizer is None else normalizer(rollout.observation)
    mask = np.empty(0, bool) if rollout.mask is None else rollout.mask[rollout.valid]
    arrays = observation[rollout.valid], rollout.action[rollout.valid], mask
    inputs, action, allowed = (torch.from_numpy(array).to(device) for array in arrays)
    with evaluation_mode(policy), torch.no_grad():  # as it acts
        result[rollout.valid] = -head.cost(_outputs(policy, inputs, allowed), action).cpu().numpy()
    return result


def join(rounds: Sequence[tuple[Rollout, NDArray[np.float32]]]) -> tuple[Rollout, NDArray[np.float32]]:
    """Several rollouts side by side, each with a ``[T, N]`` array; shorter ones are padded with rows not valid."""
    longest = max(len(rollout.valid) for rollout, _ in rounds)

    def beside(parts: Sequence[NDArray[Any] | None]) -> Any:
        given = [part for part in parts if part is not None]
        if len(given) < len(parts):
            return None
        padding = [np.zeros((longest - len(part), *part.shape[1:]), part.dtype) for part in given]
        return np.concatenate([np.concatenate(pair) for pair in zip(given, padding, strict=True)], axis=1)

    rollouts = [rollout for rollout, _ in rounds]
    masked = [rollout.mask for rollout in rollouts if rollout.mask is not None]
    if masked:
        # A round without masks allowed everything; the others' must still hold.
        everything = [np.ones((*rollout.valid.shape, masked[0].shape[-1]), bool) for rollout in rollouts]
        rollouts = [r if r.mask is not None else r._replace(mask=m) for r, m in zip(rollouts, everything, strict=True)]
    return Rollout._make(map(beside, zip(*rollouts, strict=True))), beside([array for _, array in rounds])


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
    batch: Batch,
    method: Method,
    head: Head,
    policy: nn.Module,
    critic: nn.Module | None,
    reference: nn.Module | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective on the actions taken, less the entropy bonus, plus the penalty and the critic's regression.

    Args:
        batch: rows, and Z.
        method: its weight rule and factors.
        head: of the policy.
        policy: observation → outputs.
        critic: observation → value, or None.
        reference: observation → outputs of the policy that the penalty holds on to, where the method has one.

    Returns:
        A scalar to descend, and detached scalars to log.

    Raises:
        ValueError: the method's weight rule gives another shape than ``[B]``, or a negative weight although the method
            says that it gives none.
    """
    rows, normalizer = batch
    outputs = _outputs(policy, rows.observation, rows.mask)
    cost = head.cost(outputs, rows.action)
    log_prob = -cost.detach()
    weight = method.weight(rows.advantage, log_prob, rows.behaviour_log_prob)
    if getattr(weight, "shape", None) != cost.shape:
        got = list(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"method {method.name}: its weight rule must give shape {list(cost.shape)}, got {got}")
    weight = weight.detach()
    if method.nonnegative and bool((weight < 0).any()):
        raise ValueError(
            f"method {method.name}: a weight is {float(weight.min()):.4g}, but actions are used again without a ratio, "
            "and negative weights then make the objective unbounded below"
        )
    total = policy_loss = weighted_mean(cost, weight, normalizer)
    entropy = head.entropy(outputs if method.entropy_weight else outputs.detach()).mean()
    scalars = {"train/policy_loss": policy_loss.detach(), "train/entropy": entropy.detach()}
    if method.entropy_weight:
        total = total - method.entropy_weight * entropy
    if reference is not None:
        with torch.no_grad():
            held = _outputs(reference, rows.observation, rows.mask)
        penalty = head.kl(outputs, held).mean()
        total = total + method.kl_weight * penalty
        scalars["train/reference_kl"] = penalty.detach()
    if method.ratio:
        log_ratio = log_prob - rows.behaviour_log_prob
        scalars["train/approx_kl"] = (log_ratio.exp() - 1.0 - log_ratio).mean()
        scalars["train/clip_fraction"] = ((weight == 0) & (rows.advantage != 0)).float().mean()
    if critic is not None:
        value_loss = squared(critic(rows.observation).squeeze(-1), rows.target).mean()
        total = total + method.value_weight * value_loss
        scalars["train/value_loss"] = value_loss.detach()
    return total, scalars


def _outputs(policy: nn.Module, observation: Tensor, mask: Tensor) -> Tensor:
    """What the policy says with what it may not say left out, as it was when it acted."""
    outputs = policy(observation)
    return masks.hide(outputs, mask) if len(mask) else outputs
