"""Weight rules of the policy gradient: the factor of −log π, given what an action was worth.

All are pure functions of tensors, and the weights they return carry no graph. There are two kinds:

* **On the action taken**: one weight a row, ``[B]``, for `rlce.methods.Method.weight`. The names of a rule's parameters
  state what it needs, and the library passes exactly that:

  ======================  ============================================================================================
  ``advantage``           what credit gave the row, ``[B]``: an advantage, or a return where the rule says so
  ``log_prob``            log π(a|s) now, ``[B]``
  ``behaviour_log_prob``  log π(a|s) when the action was taken, ``[B]``
  ``episode``             the number of the row's episode, int64 ``[B]``; rows with the same number belong together
  ``value``               the critic's V(s), ``[B]``, where the method has a critic
  ======================  ============================================================================================

* **Dense**: one weight for every class of a row, ``[..., K]``, computed from logits ``[..., K]``: targets of the
  objective.

The objective is linear in the weights, so the weights of several rules on the same rows may be added: an entropy bonus
is the dense weight of `entropy_bonus` plus the weight of the action.

What compares the episodes of a group or batch with each other (leave-one-out, GRPO's standardisation, the elite) is
credit, and stands in `rlce.returns`: RLOO is ``returns − leave_one_out(returns)`` under `score`; Dr. GRPO is
``group_centred(returns)`` and GRPO ``group_standardized(returns, lengths)`` under `clipped_ratio`, whose mask depends
on the sign of the advantage alone.

ρ = π(a|s) now / π(a|s) when the action was taken; sg means that no gradient flows. Tiers are those of
`rlce.weighted_cross_entropy`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# ------------------------------------------------------------------------------------------- on the action taken


def score(advantage: Tensor) -> Tensor:
    """Weights w = sg(A): the score-function weight of REINFORCE and actor-critic (tier B).

    Args:
        advantage: ``[B]``, of actions drawn from the current policy.

    Returns:
        Weights of −log π(a|s), ``[B]``.

    Source:
        Williams (1992), "Simple statistical gradient-following algorithms for connectionist reinforcement learning".

    Example:
        >>> score(torch.tensor([2.0, -1.0]))
        tensor([ 2., -1.])
    """
    return advantage.detach()


def importance_sampled(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor) -> Tensor:
    """Weights w = sg(ρ) A: the gradient of −ρA, which corrects for an older policy having acted (tier C).

    The variance grows without bound as the two policies drift apart; `clipped_ratio` and `v_trace` accept a bias to
    limit it.

    Args:
        advantage: ``[B]``.
        log_prob: log π(a|s) now, ``[B]``.
        behaviour_log_prob: log π(a|s) when the action was taken, ``[B]``.

    Returns:
        Weights of −log π(a|s), ``[B]``.

    Source:
        Jie and Abbeel (2010), "On a connection between importance sampling and the likelihood ratio policy gradient".

    Example:
        >>> importance_sampled(torch.ones(2), torch.tensor([0.0, 0.5]).log(), torch.tensor([1.0, 0.25]).log())
        tensor([0., 2.])
    """
    return _ratio(log_prob, behaviour_log_prob) * advantage.detach()


def clipped_ratio(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor, clip: float = 0.2) -> Tensor:
    """Weights w = sg(ρ) A · 1[not ((A > 0 and ρ > 1+ε) or (A < 0 and ρ < 1−ε))]: PPO's clip as a mask (tier C).

    The gradient equals that of −min(ρA, clip(ρ, 1−ε, 1+ε)A) at the current parameters; the value does not.

    Args:
        advantage: ``[B]``.
        log_prob: log π(a|s) now, ``[B]``.
        behaviour_log_prob: log π(a|s) when the action was taken, ``[B]``.
        clip: ε > 0.

    Returns:
        Weights of −log π(a|s), ``[B]``.

    Source:
        Schulman et al. (2017), arXiv 1707.06347, equation 7.

    Example:
        >>> one = torch.ones(2)
        >>> clipped_ratio(torch.tensor([1.0, -1.0]), 0.5 * one, 0 * one)  # ρ = 1.65: only the gain is cut
        tensor([ 0.0000, -1.6487])
    """
    ratio, advantage = _ratio(log_prob, behaviour_log_prob), advantage.detach()
    # A > 0 is cut where ρ > 1+ε, A < 0 where ρ < 1−ε: both mean (ρ − 1)·sign(A) > ε.
    inside = (ratio - 1.0) * advantage.sign() <= clip
    return ratio * advantage * inside


def cispo(
    advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor, low: float = 1.0, high: float = 0.2
) -> Tensor:
    """Weights w = sg(clip(ρ, 1−ε_low, 1+ε_high)) A: the ratio is bounded and no row is dropped (tier B).

    PPO drops rows outside its clip; CISPO keeps them with a bounded weight. The published method uses GRPO's advantages
    without 1/length, and Z = the number of rows, which is the default here.

    Args:
        advantage: ``[B]``.
        log_prob: log π(a|s) now, ``[B]``.
        behaviour_log_prob: log π(a|s) when the action was taken, ``[B]``.
        low: ε_low in [0, 1]; at 1, the authors' choice, the ratio has no lower bound.
        high: ε_high >= 0.

    Returns:
        Weights of −log π(a|s), ``[B]``.

    Raises:
        ValueError: ``low`` lies outside [0, 1], or ``high`` is negative.

    Source:
        MiniMax (2025), "MiniMax-M1", arXiv 2506.13585, equation 4.

    Example:
        >>> cispo(torch.tensor([1.0, -1.0]), torch.full((2,), 0.5), torch.zeros(2))  # ρ = 1.65
        tensor([ 1.2000, -1.2000])
    """
    if not 0.0 <= low <= 1.0:
        raise ValueError(f"low must lie in [0, 1], got {low}")
    if not high >= 0.0:
        raise ValueError(f"high must be at least 0, got {high}")
    return _ratio(log_prob, behaviour_log_prob).clamp(1.0 - low, 1.0 + high) * advantage.detach()


def topr(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor, episode: Tensor) -> Tensor:
    """Weights w = R where R >= 0, else sg(min(ρ(τ), 1)) R: tapered off-policy REINFORCE (tier B).

    ρ(τ) is the ratio of the whole episode, the product over its actions. Good episodes are imitated however unlikely
    they have become; bad ones are pushed away only as long as the policy still produces them, which keeps the objective
    from running to −∞.

    Args:
        advantage: R, the return of the row's whole episode, possibly minus a constant, ``[B]``.
        log_prob: log π(a|s) now, ``[B]``.
        behaviour_log_prob: log π(a|s) when the action was taken, ``[B]``.
        episode: number of the row's episode, int64 ``[B]``. All rows of an episode must be among the rows.

    Returns:
        Weights of −log π(a|s), ``[B]``.

    Source:
        Le Roux et al. (2025), "Tapered off-policy REINFORCE", arXiv 2503.14286.

    Example:
        >>> returned, episode = torch.tensor([1.0, -1.0, -1.0, -1.0]), torch.tensor([0, 1, 1, 2])
        >>> topr(returned, torch.tensor([-9.0, -0.5, -0.5, 1.0]), torch.zeros(4), episode)
        tensor([ 1.0000, -0.3679, -0.3679, -1.0000])
    """
    numbers, index = episode.unique(return_inverse=True)
    log_ratio, returned = (log_prob - behaviour_log_prob).detach(), advantage.detach()
    ratio = log_ratio.new_zeros(len(numbers)).index_add(0, index, log_ratio).exp()
    return torch.where(returned >= 0, returned, ratio.clamp(max=1.0)[index] * returned)


def v_trace(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor, bound: float = 1.0) -> Tensor:
    """Weights w = min(ρ̄, sg(ρ)) (r + γv' − V): the actor of V-trace (tier B).

    Args:
        advantage: r + γv' − V with the V-trace target v' of the next state, ``[B]``, from `rlce.returns.vtrace`.
        log_prob: log π(a|s) now, ``[B]``.
        behaviour_log_prob: log π(a|s) when the action was taken, ``[B]``.
        bound: ρ̄ > 0.

    Returns:
        Weights of −log π(a|s), ``[B]``.

    Raises:
        ValueError: ``bound`` is not positive.

    Source:
        Espeholt et al. (2018), arXiv 1802.01561, section 4.2.

    Example:
        >>> v_trace(torch.tensor([2.0, 2.0]), torch.tensor([0.5, -0.5]), torch.zeros(2))
        tensor([2.0000, 1.2131])
    """
    if not bound > 0.0:
        raise ValueError(f"bound must be positive, got {bound}")
    return _ratio(log_prob, behaviour_log_prob).clamp(max=bound) * advantage.detach()


def reward_weighted(advantage: Tensor, transform: Callable[[Tensor], Tensor] = torch.exp) -> Tensor:
    """Weights w = f(R) with f >= 0: reward-weighted regression, the M-step of EM (tier A within an iteration).

    No weight is negative, so the objective is bounded below, and a batch may be used until convergence.

    Args:
        advantage: the return R, ``[B]``: use credit that gives returns, without a baseline.
        transform: f, from ``[B]`` to non-negative ``[B]``; exp by default.

    Returns:
        Weights of −log π(a|s), ``[B]``.

    Raises:
        ValueError: f gave a negative weight.

    Source:
        Peters and Schaal (2007), "Reinforcement learning by reward-weighted regression for operational space control".

    Example:
        >>> reward_weighted(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 2.7183])
    """
    weights = transform(advantage.detach())
    if (weights < 0).any():
        raise ValueError(f"transform must not be negative, got {weights.min().item()}")
    return weights


def advantage_weighted(advantage: Tensor, temperature: float = 1.0, bound: float = 20.0) -> Tensor:
    """Weights w = min(exp((R − V)/β), w_max): advantage-weighted regression (tier A within an iteration).

    Args:
        advantage: R − V(s), ``[B]``.
        temperature: β > 0; the smaller, the greedier.
        bound: w_max > 0.

    Returns:
        Weights of −log π(a|s), ``[B]``, all positive.

    Raises:
        ValueError: ``temperature`` or ``bound`` is not positive.

    Source:
        Peng et al. (2019), "Advantage-weighted regression", arXiv 1910.00177.

    Example:
        >>> advantage_weighted(torch.tensor([-1.0, 0.0, 9.0]))
        tensor([ 0.3679,  1.0000, 20.0000])
    """
    for name, number in (("temperature", temperature), ("bound", bound)):
        if not number > 0.0:
            raise ValueError(f"{name} must be positive, got {number}")
    return (advantage.detach() / temperature).exp().clamp(max=bound)


def self_imitation(advantage: Tensor) -> Tensor:
    """Weights w = max(R − V, 0): imitate what went better than expected (tier B).

    Replayed actions get no ratio, so this is not a policy gradient; it is biased on purpose.

    Args:
        advantage: R − V(s), ``[B]``.

    Returns:
        Weights of −log π(a|s), ``[B]``.

    Source:
        Oh et al. (2018), "Self-imitation learning", arXiv 1806.05635.

    Example:
        >>> self_imitation(torch.tensor([2.0, -1.0]))
        tensor([2., 0.])
    """
    return advantage.detach().clamp(min=0.0)


def sampled_entropy(log_prob: Tensor, coefficient: float = 1.0) -> Tensor:
    """Weights w = −c sg(log π(a|s)): the entropy bonus +cH from the sampled action (tier B).

    Its expectation over a ~ π is `entropy_bonus`. Differentiating −log π(a|s) itself would be a weight of −c on every
    action, whose expected gradient is zero.

    Args:
        log_prob: log π(a|s) now, ``[B]``.
        coefficient: c.

    Returns:
        Weights of −log π(a|s), ``[B]``, to add to the method's own.

    Source:
        Williams and Peng (1991), "Function optimization using connectionist reinforcement learning algorithms".

    Example:
        >>> sampled_entropy(torch.tensor([-2.0]), 0.5)
        tensor([1.])
    """
    return -coefficient * log_prob.detach()


def sampled_kl(log_prob: Tensor, reference_log_prob: Tensor, coefficient: float = 1.0) -> Tensor:
    """Weights w = β(ref/p − 1): GRPO's KL penalty, whose gradient is that of β(ref/p − log(ref/p) − 1) (tier C).

    The estimate is unbiased for KL(p‖ref), but its *gradient* is not: over a ~ p its expectation is the gradient of the
    forward KL(ref‖p).

    Args:
        log_prob: log p(a|s) now, ``[B]``.
        reference_log_prob: log ref(a|s), ``[B]``.
        coefficient: β.

    Returns:
        Weights of −log p(a|s), ``[B]``, to add to the method's own; GRPO divides both by the episode's length.

    Source:
        Shao et al. (2024), arXiv 2402.03300, equation 4.

    Example:
        >>> sampled_kl(torch.tensor([0.5]).log(), torch.tensor([0.75]).log())
        tensor([0.5000])
    """
    return coefficient * torch.expm1(reference_log_prob.detach() - log_prob.detach())


# --------------------------------------------------------------------------------------------------------- dense


def all_action(logits: Tensor, action_values: Tensor) -> Tensor:
    """Weights w_k = sg(p_k Q_k): the policy gradient summed over all actions, taken or not (tier C).

    It is the gradient of −Σ_k p_k Q_k. A baseline b would add b p_k, whose gradient is zero.

    Args:
        logits: ``[..., K]``; −inf masks an action.
        action_values: Q(s, k), ``[..., K]``.

    Returns:
        ``[..., K]``.

    Source:
        Sutton et al. (2000), "Policy gradient methods for reinforcement learning with function approximation".

    Example:
        >>> all_action(torch.zeros(2), torch.tensor([4.0, -2.0]))
        tensor([ 2., -1.])
    """
    return logits.detach().softmax(dim=-1) * action_values.detach()


def entropy_bonus(logits: Tensor, coefficient: float | Tensor = 1.0) -> Tensor:
    """Weights w_k = −c sg(p_k log p_k): the gradient of the loss −cH(p) (tier C).

    Args:
        logits: ``[..., K]``; a masked class (−inf) gets weight zero.
        coefficient: c, positive for a bonus: a number, or a tensor that broadcasts against ``[..., K]``; one factor a
            row is ``[..., 1]``.

    Returns:
        ``[..., K]``.

    Source:
        Williams and Peng (1991), "Function optimization using connectionist reinforcement learning algorithms"; as a
        regulariser of classifiers, Pereyra et al. (2017), arXiv 1701.06548.

    Example:
        >>> entropy_bonus(torch.tensor([0.0, 0.0, -torch.inf]))
        tensor([0.3466, 0.3466, 0.0000])
        >>> entropy_bonus(torch.zeros(2, 2), torch.tensor([[1.0], [2.0]]))
        tensor([[0.3466, 0.3466],
                [0.6931, 0.6931]])
    """
    return (coefficient * torch.special.entr(logits.softmax(dim=-1))).detach()


def reverse_kl(logits: Tensor, reference_logits: Tensor, coefficient: float | Tensor = 1.0) -> Tensor:
    """Weights w_k = β sg(p_k (log ref_k − log p_k)): the gradient of β KL(p‖ref) (tier C).

    Args:
        logits: ``[..., K]``; a masked class (−inf) gets weight zero.
        reference_logits: ``[..., K]``, finite wherever ``logits`` are.
        coefficient: β >= 0: a number, or a tensor that broadcasts against ``[..., K]``; one factor a row is
            ``[..., 1]``.

    Returns:
        ``[..., K]``.

    Raises:
        ValueError: the reference masks a class that ``logits`` do not, so the divergence is infinite.

    Source:
        Ziegler et al. (2019), "Fine-tuning language models from human preferences", arXiv 1909.08593.

    Example:
        >>> reverse_kl(torch.zeros(2), torch.tensor([3.0, 1.0]).log())  # ½ log(ref_k/½)
        tensor([ 0.2027, -0.3466])
    """
    if (reference_logits.isneginf() & ~logits.isneginf()).any():
        raise ValueError("reference_logits: a class that is masked there and not in logits makes KL(p||ref) infinite")
    probability, log_probability = _probabilities(logits)
    return (coefficient * probability * (_probabilities(reference_logits)[1] - log_probability)).detach()


def forward_kl(reference_logits: Tensor, coefficient: float = 1.0) -> Tensor:
    """Weights w_k = β ref_k: the loss is β KL(ref‖p) plus β times the reference's entropy (tier A).

    This is distillation; with a uniform reference it is the part that label smoothing adds.

    Args:
        reference_logits: ``[..., K]``.
        coefficient: β >= 0.

    Returns:
        ``[..., K]``; each row sums to β.

    Source:
        Hinton et al. (2015), "Distilling the knowledge in a neural network", arXiv 1503.02531.

    Example:
        >>> forward_kl(torch.zeros(4), 0.4)
        tensor([0.1000, 0.1000, 0.1000, 0.1000])
    """
    return coefficient * reference_logits.detach().softmax(dim=-1)


def _ratio(log_prob: Tensor, behaviour_log_prob: Tensor) -> Tensor:
    """The ratio ρ, without a graph."""
    return (log_prob.detach() - behaviour_log_prob.detach()).exp()


def _probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and their logarithms, without a graph; log p is 0 where p is masked, so that 0·log 0 = 0."""
    log_probability = logits.detach().log_softmax(dim=-1)
    return log_probability.exp(), log_probability.masked_fill(log_probability.isneginf(), 0.0)
