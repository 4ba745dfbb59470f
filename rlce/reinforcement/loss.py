"""From a rollout to gradient steps: credit, minibatches, and the loss of every policy-gradient method.

rollout ─► credit ─► rows ─► minibatches ─┬─► weights of the action, the entropy, the penalty ─► objective ─┐
                                          └─► the critic's targets ─────────────────────────► objective ─┴─► loss
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rlce.data import Standardizer, minibatches
from rlce.heads import Distribution, Point
from rlce.network import evaluation_mode, number_type, numpy_forward
from rlce.objective import objective
from rlce.optimization import scheduled
from rlce.reinforcement import masks
from rlce.reinforcement.credit import Credit, Experience
from rlce.reinforcement.methods import Method
from rlce.reinforcement.rollout import Rollout
from rlce.rules import returns, weights

CRITIC = Point()  # a regression on the credit's target: ½(V − target)²
CRITIC_ROWS = 256  # of a gradient step of the critic alone


@dataclass(frozen=True)
class Learner:
    """The networks, and the statistics that normalise their observations.

    Attributes:
        head: the meaning of the policy's outputs.
        policy: observation ``[B, D]`` → outputs.
        critic: observation → value ``[B, 1]``, or None.
        reference: the policy that the penalty compares with, or None.
        normalizer: statistics of observations, or None; nothing here updates them.
        device: where the networks live.
    """

    head: Distribution
    policy: nn.Module
    critic: nn.Module | None
    reference: nn.Module | None
    normalizer: Standardizer | None
    device: torch.device

    @cached_property
    def number(self) -> type[np.floating[Any]]:
        """The NumPy type of the networks' numbers."""
        return number_type(self.policy)

    def seen(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Observations, normalised and in the networks' number type, ``[..., D]``."""
        if self.normalizer is None:
            return observation.astype(self.number, copy=False)
        return self.normalizer(observation, self.number)

    def look(self, rollout: Rollout) -> Rollout:
        """The rollout with normalised observations."""
        seen = self.seen(rollout.observation)
        following = rollout.next_observation if self.critic is None else self.seen(rollout.next_observation)
        return rollout._replace(observation=seen, next_observation=following)

    def value(self, seen: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The critic's value of every observation, ``[T, N, D]`` → ``[T, N]``; 0 for rows that are not valid."""
        assert self.critic is not None
        value = numpy_forward(self.critic)(seen.reshape(-1, seen.shape[-1])).reshape(valid.shape)
        return np.where(valid, value, 0.0).astype(np.float64)

    def log_prob(self, seen: Rollout) -> NDArray[np.floating[Any]]:
        """Log π(a|s) of every action under the current policy, ``[T, N]``; 0 for rows that are not valid."""
        valid = seen.valid
        mask = np.empty(0, bool) if seen.mask is None else seen.mask[valid]
        observation, action, allowed = map(self.tensor, (seen.observation[valid], seen.action[valid], mask))
        result = np.zeros(valid.shape, self.number)
        result[valid] = self.log_prob_of(observation, action, allowed).cpu().numpy()
        return result

    def log_prob_of(self, observation: Tensor, action: Tensor, mask: Tensor) -> Tensor:
        """Log π(a|s) of rows of observations as the policy sees them: ``[B]``, without a graph."""
        with evaluation_mode(self.policy), torch.no_grad():  # as when it acts
            return -self.head.cost(_outputs(self.policy, observation, mask), action)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """An array on the networks' device, real numbers in their type."""
        if array.dtype.kind == "f":
            array = array.astype(self.number, copy=False)
        return torch.from_numpy(array).to(self.device)


class Transitions(NamedTuple):
    """Rows of a rollout, ready for the loss, without ghost steps and padding. Each field has B rows, or 0 if unused."""

    observation: Tensor  # [B, D] as the policy saw it
    action: Tensor  # [B, *A] as the head stores it
    advantage: Tensor  # [B]
    behaviour_log_prob: Tensor  # [B] log π(a|s) when a was taken, for methods that ask for it
    value: Tensor  # [B] V(s) when the round began, for rules that name it
    target: Tensor  # [B, 1] for the critic
    row_weight: Tensor  # [B] if credit weights rows
    episode: Tensor  # [B] the number of the row's episode
    mask: Tensor  # [B, K] true where a class is allowed, if the environment gives masks

    def rows(self, index: Tensor) -> Transitions:
        """The rows of these indices."""
        return Transitions(*(field[index] if len(field) else field for field in self))


class Batch(NamedTuple):
    """What one gradient step uses."""

    transitions: Transitions
    normalizer: float  # Z of the policy's loss
    progress: float = 0.0  # the fraction of training done
    critic_only: bool = False  # the critic alone learns from it


def prepare(
    rollout: Rollout,
    method: Method,
    learner: Learner,
    reward_factor: float = 1.0,
    behaviour_log_prob: NDArray[Any] | None = None,
) -> tuple[Transitions, dict[str, float]]:
    """Give every action its credit, and keep the valid rows.

    Args:
        rollout: the round's steps.
        method: its credit rule, and the names that its weight rule takes.
        learner: the networks as they were when the policy acted.
        reward_factor: a factor of all rewards.
        behaviour_log_prob: log π(a|s) when each action was taken, ``[T, N]``, if earlier rounds are used again; None
            if the policy has not changed since.

    Returns:
        The rows, and scalars to log.

    Raises:
        ValueError: the method's credit rule does not give arrays of shape ``[T, N]``.
        FloatingPointError: an advantage is NaN or infinite; the message names the step.
    """
    seen, valid = learner.look(rollout), rollout.valid
    value = next_value = log_prob = None
    if learner.critic is not None:
        value, next_value = learner.value(seen.observation, valid), learner.value(seen.next_observation, valid)
    if method.ratio or method.takes("behaviour_log_prob"):
        log_prob = learner.log_prob(seen)
        behaviour_log_prob = log_prob if behaviour_log_prob is None else behaviour_log_prob
    flags = rollout.terminated, rollout.truncated, valid, rollout.time
    experience = Experience(rollout.reward * reward_factor, *flags, value, next_value, log_prob, behaviour_log_prob)
    credit = method.credit(experience)
    _check_credit(credit, experience, method)
    advantage = credit.advantage[valid]
    scalars = {"train/advantage_mean": float(advantage.mean())}
    if method.standardize and method.standardize != "minibatch":
        advantage = returns.standardized(advantage)
    if credit.target is not None and value is not None:
        target, predicted = credit.target[valid], value[valid]
        scalars |= {"train/value_mean": float(predicted.mean()), "train/return_mean": float(target.mean())}
        variance = float(target.var())
        if variance > 0:
            scalars["train/explained_variance"] = 1.0 - float((target - predicted).var()) / variance

    def kept(array: NDArray[Any] | None) -> Tensor:
        return learner.tensor(np.empty(0) if array is None else array[valid])

    rows = Transitions(
        observation=kept(seen.observation),
        action=kept(rollout.action),
        advantage=learner.tensor(advantage),
        behaviour_log_prob=kept(behaviour_log_prob),
        value=kept(value if method.takes("value") else None),
        target=kept(None if credit.target is None else credit.target[..., None]),
        row_weight=kept(credit.row_weight),
        episode=learner.tensor(np.nonzero(valid)[1] if method.takes("episode") else np.empty(0)),
        mask=kept(rollout.mask),
    )
    return rows, scalars


def _check_credit(credit: Credit, experience: Experience, method: Method) -> None:
    """Refuse arrays of a wrong shape, and advantages that are not finite."""
    valid = experience.valid
    rule = f"method {method.name}: its credit rule must give"
    for name, array in credit._asdict().items():
        needed = name == "advantage" or (name == "target" and experience.value is not None)
        if np.shape(array) != valid.shape and (needed or array is not None):
            raise ValueError(f"{rule} {name} of shape {list(valid.shape)}, got {list(np.shape(array))}")
    if credit.row_weight is not None and not ((credit.row_weight >= 0) & (credit.row_weight < np.inf))[valid].all():
        raise ValueError(f"{rule} finite row weights of at least 0")
    wrong = ~np.isfinite(credit.advantage) & valid
    if wrong.any():
        t, n = np.argwhere(wrong)[0]
        raise FloatingPointError(
            f"method {method.name}: the advantage of step {t} in column {n} of the round is {credit.advantage[t, n]}"
        )


def join(rounds: Sequence[tuple[Rollout, NDArray[Any]]]) -> tuple[Rollout, NDArray[Any]]:
    """Several rollouts side by side, each with a ``[T, N]`` array; invalid rows pad the shorter ones."""
    rollouts, arrays = zip(*rounds, strict=True)
    longest = max(map(len, arrays))
    masked = next((rollout.mask for rollout in rollouts if rollout.mask is not None), None)
    if masked is not None:  # a round without masks allowed everything
        free = [np.ones((*array.shape, masked.shape[-1]), bool) for array in arrays]
        rollouts = [r._replace(mask=f) if r.mask is None else r for r, f in zip(rollouts, free, strict=True)]

    def beside(parts: Sequence[NDArray[Any] | None]) -> Any:
        given = [part for part in parts if part is not None]
        padding = [[(0, longest - len(part)), *[(0, 0)] * (part.ndim - 1)] for part in given]
        return np.concatenate(list(map(np.pad, given, padding)), axis=1) if given else None

    return Rollout._make(map(beside, zip(*rollouts, strict=True))), beside(arrays)


def batches(
    rows: Transitions, method: Method, generator: torch.Generator, learner: Learner, progress: float = 0.0
) -> Iterator[Batch]:
    """The method's epochs of minibatches, then those of the critic alone, drawn while the learner trains on them.

    Args:
        rows: of one round.
        method: its epochs, minibatch size, normaliser, ``target_kl`` and ``value_epochs``.
        generator: the source of the order.
        learner: the networks; at the start of each epoch but the first they are compared with the policy that acted.
        progress: the fraction of training done.

    Yields:
        One batch a gradient step. Z is its number of rows, or its share of the round's episodes. If the weight rule
        names ``episode``, a batch holds whole episodes and Z is their number.
    """
    count = len(rows.action)
    size = method.minibatch_size or count
    share = method.episodes / count if method.per_episode and method.episodes else 1.0
    for epoch in range(method.epochs):
        if method.target_kl is not None and epoch > 0:
            drift = _kl_estimate(learner.log_prob_of(rows.observation, rows.action, rows.mask), rows)
            if drift.mean() > method.target_kl:
                break
        if method.takes("episode"):
            parts = _whole_episodes(rows, size, generator)
        elif size >= count:
            parts = iter([Batch(rows, count * share)])
        else:
            parts = (Batch(part, len(part.action) * share) for part in _parts(rows, size, generator))
        yield from (batch._replace(progress=progress) for batch in parts)
    for _ in range(method.value_epochs):
        for part in _parts(rows, CRITIC_ROWS, generator):
            yield Batch(part, float(len(part.action)), progress, critic_only=True)


def _parts(rows: Transitions, size: int, generator: torch.Generator) -> Iterator[Transitions]:
    """Rows in random order, in parts of ``size``."""
    for index in minibatches(len(rows.action), size, generator):
        yield rows.rows(index.to(rows.action.device))


def _whole_episodes(rows: Transitions, size: int, generator: torch.Generator) -> Iterator[Batch]:
    """Batches of whole episodes in random order: at most ``size`` rows, or one longer episode."""
    lengths = torch.bincount(rows.episode).tolist()
    groups: list[list[int]] = []
    filled = size
    for index in map(int, minibatches(len(lengths), 1, generator)):
        if filled + lengths[index] > size:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += lengths[index]
    for group in groups:
        chosen = rows.rows(torch.isin(rows.episode, torch.tensor(group, device=rows.episode.device)).nonzero()[:, 0])
        numbered = chosen.episode.unique(return_inverse=True)[1]
        yield Batch(chosen._replace(episode=numbered), float(len(group)))


def _kl_estimate(log_prob: Tensor, rows: Transitions) -> Tensor:
    """An estimate of KL(behaviour‖policy) from each action, never negative: (ρ − 1) − log ρ."""
    log_ratio = log_prob - rows.behaviour_log_prob
    return log_ratio.exp() - 1.0 - log_ratio


def _standardized(advantage: Tensor) -> Tensor:
    """`returns.standardized` for tensors: equal advantages, and a single one, give zero."""
    above = advantage - advantage[:1]
    return (above - above.mean()) / (above.std(correction=0) + 1e-8)


def loss(batch: Batch, method: Method, learner: Learner) -> tuple[Tensor, dict[str, Tensor]]:
    """The policy's objective on the actions taken, with bonus and penalty, plus the critic's objective.

    Args:
        batch: rows, and Z.
        method: its weight rule and factors.
        learner: the networks.

    Returns:
        A scalar to descend: `rlce.objective.objective` of the policy plus ``value_weight`` times that of the critic,
        whose Z is the number of rows; for a batch of the critic alone only the latter. And detached values to log.

    Raises:
        ValueError: the method's weight rule does not give shape ``[B]``, or gives a negative weight although the method
            is ``nonnegative``.
        FloatingPointError: the weight rule gives NaN or infinity; the message names the rule and the row.
    """
    if batch.critic_only:
        value_loss = _value_loss(batch.transitions, learner)
        return method.value_weight * value_loss, {"train/value_loss": value_loss.detach()}
    rows, normalizer, progress, _ = batch
    rows = _within_minibatch(rows, method)
    bonus = scheduled("entropy_weight", method.entropy_weight, progress)
    head = learner.head
    outputs = _outputs(learner.policy, rows.observation, rows.mask)
    fixed, held = outputs.detach(), None
    if learner.reference is not None:
        with torch.no_grad():
            held = _outputs(learner.reference, rows.observation, rows.mask)
    plain = not bonus and held is None
    costs = head.cost(outputs if plain else fixed, rows.action)  # computed once, for the weights as well
    log_prob = -costs.detach()
    offered = _offered(rows, log_prob, progress)
    weight = _action_weight(rows, method, offered)
    policy_loss = objective(lambda *_: costs, outputs, rows.action, weight, normalizer)
    if not math.isfinite(policy_loss.detach()):
        _check_finite(weight, method, offered)
    coefficients = bonus, method.kl_weight
    total = policy_loss if plain else _regularized(batch, head, outputs, held, weight, coefficients)
    scalars = {"train/policy_loss": policy_loss.detach(), "train/entropy": head.entropy(fixed)}
    if held is not None:
        scalars["train/reference_kl"] = head.kl(fixed, held)
    if method.ratio:
        scalars["train/approx_kl"] = _kl_estimate(log_prob, rows)
        scalars["train/clip_fraction"] = (weight == 0) & (rows.advantage != 0)
    if learner.critic is not None:
        value_loss = _value_loss(rows, learner)
        total = total + method.value_weight * value_loss
        scalars["train/value_loss"] = value_loss.detach()
    return total, scalars


def _value_loss(rows: Transitions, learner: Learner) -> Tensor:
    """The critic's objective; Z is the number of rows."""
    assert learner.critic is not None
    return objective(CRITIC.cost, learner.critic(rows.observation), rows.target)


def weighed(rows: Transitions, method: Method, learner: Learner, progress: float) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs ``[B, ...]``, weights and advantages ``[B]`` of rows as the loss has them, without a graph.

    Args:
        rows: of whole rounds.
        method: its weight rule.
        learner: the networks as they are now.
        progress: the fraction of training done.
    """
    rows = _within_minibatch(rows, method)
    if len(rows.episode):
        rows = rows._replace(episode=rows.episode.unique(return_inverse=True)[1])
    with evaluation_mode(learner.policy), torch.no_grad():
        outputs = _outputs(learner.policy, rows.observation, rows.mask)
        log_prob = -learner.head.cost(outputs, rows.action)
    offered = _offered(rows, log_prob, progress)
    return outputs, _action_weight(rows, method, offered), rows.advantage


def _within_minibatch(rows: Transitions, method: Method) -> Transitions:
    if method.standardize == "minibatch":
        rows = rows._replace(advantage=_standardized(rows.advantage))
    return rows


def _offered(rows: Transitions, log_prob: Tensor, progress: float) -> dict[str, Any]:
    """What a weight rule may name."""
    return rows._asdict() | {"log_prob": log_prob, "progress": progress}


def _action_weight(rows: Transitions, method: Method, offered: Mapping[str, Any]) -> Tensor:
    """The weights of the method's rule, checked, times the row weights of its credit: ``[B]``."""
    weight = method.rule.call(offered)
    shape = list(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
    if shape != [len(rows.advantage)]:
        raise ValueError(f"method {method.name}: its weight rule must give shape [{len(rows.advantage)}], got {shape}")
    weight = weight.detach()
    if method.nonnegative and bool((weight < 0).any()):
        raise ValueError(
            f"method {method.name}: a weight is {float(weight[weight < 0][0]):.4g}, but actions are used again without "
            "a ratio, and negative weights then make the objective unbounded below"
        )
    return weight * rows.row_weight if len(rows.row_weight) else weight


def _check_finite(weight: Tensor, method: Method, offered: Mapping[str, Any]) -> None:
    """Report a weight that is NaN or infinite although its rule got finite numbers, with the row's numbers."""
    wrong, given = ~weight.isfinite(), {name: offered[name] for name in method.rule.takes if name != "progress"}
    if wrong.any() and all(bool(values.isfinite().all()) for values in given.values()):
        row = int(wrong.nonzero()[0])
        where = ", ".join(f"{name} is {values[row].item():.4g}" for name, values in given.items())
        raise FloatingPointError(
            f"method {method.name}: weight: the rule {method.rule.name} gave {weight[row].item()} in row {row}, where "
            f"{where}; clamp ratios and exponentials so that every weight is finite"
        )


def _regularized(
    batch: Batch,
    head: Distribution,
    outputs: Tensor,
    held: Tensor | None,
    weight: Tensor,
    coefficients: tuple[float, float],
) -> Tensor:
    """The policy's objective with entropy bonus −c·H(π) and penalty β·KL(π‖held), all under one Z.

    A class head has a weight for every class. The objective is linear in the weights, so those of the action, the
    entropy and the penalty are added. A density has no classes: its closed forms are further costs of the row.
    """
    rows, normalizer = batch.transitions, batch.normalizer
    bonus, penalty = coefficients
    share = rows.row_weight if len(rows.row_weight) else torch.ones_like(weight)
    logits = head.logits(outputs.detach())
    if logits is not None:
        per_row = (-1, *(1,) * (logits.ndim - 1))  # one number for all classes of a row
        share = share.view(per_row)
        dense = weight.view(per_row) * F.one_hot(rows.action, logits.shape[-1])
        dense = dense + weights.entropy_bonus(logits, bonus * share)
        if held is not None:
            reference = head.logits(held)
            assert reference is not None
            dense = dense + weights.reverse_kl(logits, reference, penalty * share)
        return objective(head.cost, outputs, dense, normalizer=normalizer)

    def costs(outputs: Tensor, action: Tensor) -> Tensor:
        parts = [head.cost(outputs, action), head.entropy(outputs)]
        return torch.stack(parts if held is None else [*parts, head.kl(outputs, held)])

    factors = torch.stack([weight, -bonus * share] if held is None else [weight, -bonus * share, penalty * share])
    return objective(costs, outputs, rows.action, factors, normalizer)


def _outputs(policy: nn.Module, observation: Tensor, mask: Tensor) -> Tensor:
    """Policy outputs with forbidden actions masked."""
    outputs = policy(observation)
    return masks.hide(outputs, mask) if len(mask) else outputs
