"""Weight rules of the policy gradient: the factor of −log π, given the advantage of an action.

All are pure functions of tensors, and no gradient flows through the weights. There are two kinds:

* **On the action taken**: one weight a row, ``[B]``, for `rlce.methods.Method.weight`. The library passes a rule what
  its parameters name:

  ======================  ============================================================================================
  ``advantage``           the row's advantage, ``[B]``; a return where the rule says so
  ``log_prob``            log π(a|s) now, ``[B]``
  ``behaviour_log_prob``  log π(a|s) when the action was taken, ``[B]``
  ``episode``             the number of the row's episode, int64 ``[B]``; rows with the same number belong together
  ``value``               the critic's V(s), ``[B]``, where the method has a critic
  ``progress``            the fraction of training done, a float in [0, 1]
  ======================  ============================================================================================

* **Dense**: one weight for every class of a row, ``[..., K]``, computed from logits ``[..., K]``.

The objective is linear in the weights, so weights of several rules on the same rows may be added.

`rlce.returns` has what compares episodes with each other (leave-one-out, GRPO's standardisation, the elite): that is
credit. RLOO is ``returns − leave_one_out(returns)`` under `score`; Dr. GRPO is ``group_centred(returns)`` and GRPO
``group_standardized(returns)``, divided by the episode's length, under `clipped_ratio`.

ρ = π(a|s) now / π(a|s) when the action was taken; sg means that no gradient flows. Tiers are those of
`rlce.weighted_cross_entropy`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlce.heads import entropy_terms, kl_terms
from rlce.rules.ranges import not_negative, positive, unit_interval


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
    """Weights w = sg(ρ) A: the gradient of −ρA, which corrects for actions of an older policy (tier C).

    The variance grows without bound as the two policies drift apart. `clipped_ratio` and `v_trace` limit it, at the
    price of a bias.

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
        >>> clipped_ratio(torch.tensor([1.0, -1.0]), torch.full((2,), 0.5), torch.zeros(2))  # ρ = 1.65
        tensor([ 0.0000, -1.6487])
    """
    positive(clip=clip)
    ratio, advantage = _ratio(log_prob, behaviour_log_prob), advantage.detach()
    # A > 0 is cut where ρ > 1+ε, A < 0 where ρ < 1−ε: both mean (ρ − 1)·sign(A) > ε.
    inside = (ratio - 1.0) * advantage.sign() <= clip
    return ratio * advantage * inside


def cispo(
    advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor, low: float = 1.0, high: float = 0.2
) -> Tensor:
    """Weights w = sg(clip(ρ, 1−ε_low, 1+ε_high)) A: the ratio is bounded and no row is dropped (tier B).

    PPO drops rows outside its clip; CISPO keeps them with a bounded weight. The paper uses GRPO's advantages without
    1/length, and Z = the number of rows.

    Args:
        advantage: ``[B]``.
        log_prob: log π(a|s) now, ``[B]``.
        behaviour_log_prob: log π(a|s) when the action was taken, ``[B]``.
        low: ε_low in [0, 1]; at 1, the authors' choice, the ratio has no lower bound.
        high: ε_high >= 0.

    Returns:
        Weights of −log π(a|s), ``[B]``.

    Source:
        MiniMax (2025), "MiniMax-M1", arXiv 2506.13585, equation 4.

    Example:
        >>> cispo(torch.tensor([1.0, -1.0]), torch.full((2,), 0.5), torch.zeros(2))  # ρ = 1.65
        tensor([ 1.2000, -1.2000])
    """
    unit_interval(low=low)
    not_negative(high=high)
    return _ratio(log_prob, behaviour_log_prob).clamp(1.0 - low, 1.0 + high) * advantage.detach()


def topr(advantage: Tensor, log_prob: Tensor, behaviour_log_prob: Tensor, episode: Tensor) -> Tensor:
    """Weights w = R where R >= 0, else sg(min(ρ(τ), 1)) R: tapered off-policy REINFORCE (tier B).

    ρ(τ) is the ratio of the whole episode, the product over its actions. Good episodes are imitated even if they have
    become unlikely. Bad ones lose their weight as the policy stops producing them, so the objective does not run
    to −∞.

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

    Source:
        Espeholt et al. (2018), arXiv 1802.01561, section 4.2.

    Example:
        >>> v_trace(torch.tensor([2.0, 2.0]), torch.tensor([0.5, -0.5]), torch.zeros(2))
        tensor([2.0000, 1.2131])
    """
    return _ratio(log_prob, behaviour_log_prob).clamp(max=bound) * advantage.detach()


def reward_weighted(advantage: Tensor, temperature: float = 1.0) -> Tensor:
    """Weights w = exp(R/β): reward-weighted regression, the M-step of EM (tier A within an iteration).

    No weight is negative, so the objective is bounded below, and a batch may be used until convergence.

    Args:
        advantage: the return R, ``[B]``: use credit that gives returns, without a baseline.
        temperature: β > 0.

    Returns:
        Weights of −log π(a|s), ``[B]``, all positive.

    Source:
        Peters and Schaal (2007), "Reinforcement learning by reward-weighted regression for operational space control".

    Example:
        >>> reward_weighted(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 2.7183])
    """
    positive(temperature=temperature)
    return (advantage.detach() / temperature).exp()


def advantage_weighted(advantage: Tensor, temperature: float = 1.0, bound: float = 20.0) -> Tensor:
    """Weights w = min(exp((R − V)/β), w_max): advantage-weighted regression (tier A within an iteration).

    Args:
        advantage: R − V(s), ``[B]``.
        temperature: β > 0; a small one is greedy.
        bound: w_max > 0.

    Returns:
        Weights of −log π(a|s), ``[B]``, all positive.

    Source:
        Peng et al. (2019), "Advantage-weighted regression", arXiv 1910.00177.

    Example:
        >>> advantage_weighted(torch.tensor([-1.0, 0.0, 9.0]))
        tensor([ 0.3679,  1.0000, 20.0000])
    """
    positive(bound=bound)
    return reward_weighted(advantage, temperature).clamp(max=bound)


def self_imitation(advantage: Tensor) -> Tensor:
    """Weights w = max(R − V, 0): imitate what went better than expected (tier B).

    Replayed actions get no ratio, so this is not a policy gradient: it is biased on purpose.

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


def entropy_bonus(logits: Tensor, coefficient: float | Tensor = 1.0) -> Tensor:
    """Weights w_k = −c sg(p_k log p_k): the gradient of the loss −cH(p) (tier C).

    Args:
        logits: ``[..., K]``; a masked class (−inf) gets weight zero.
        coefficient: c, positive for a bonus: a number, or a tensor that broadcasts against ``[..., K]``; one factor
            a row is ``[..., 1]``.

    Returns:
        ``[..., K]``.

    Source:
        Williams and Peng (1991), "Function optimization using connectionist reinforcement learning algorithms"; as a
        regulariser of classifiers, Pereyra et al. (2017), arXiv 1701.06548.

    Example:
        >>> entropy_bonus(torch.tensor([0.0, 0.0, -torch.inf]))
        tensor([0.3466, 0.3466, 0.0000])
    """
    return (coefficient * entropy_terms(logits)).detach()


def reverse_kl(logits: Tensor, reference_logits: Tensor, coefficient: float | Tensor = 1.0) -> Tensor:
    """Weights w_k = β sg(p_k (log ref_k − log p_k)): the gradient of β KL(p‖ref) (tier C).

    Args:
        logits: ``[..., K]``; a masked class (−inf) gets weight zero.
        reference_logits: ``[..., K]``, finite wherever ``logits`` are.
        coefficient: β >= 0: a number, or a tensor that broadcasts against ``[..., K]``; one factor a row is
            ``[..., 1]``.

    Returns:
        ``[..., K]``.

    Source:
        Ziegler et al. (2019), "Fine-tuning language models from human preferences", arXiv 1909.08593.

    Example:
        >>> reverse_kl(torch.zeros(2), torch.tensor([3.0, 1.0]).log())  # ½ log(ref_k/½)
        tensor([ 0.2027, -0.3466])
    """
    return (-coefficient * kl_terms(logits, reference_logits)).detach()


def _ratio(log_prob: Tensor, behaviour_log_prob: Tensor) -> Tensor:
    """The ratio ρ, without a graph."""
    return (log_prob.detach() - behaviour_log_prob.detach()).exp()
