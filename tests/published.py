"""Policy-gradient methods as published, each in one short function, and the plain loop that trains with them.

Nothing of the library is used: credit is a loop over the steps of an episode, the loss is the one of the paper, its
gradient comes from autograd in float64, and a step is θ ← θ − α ∇L. `repeat` goes through the run that
`tests.training.record` wrote down.

A loss is a sum over the rows of a minibatch, not yet divided by Z:

    L = (1/Z) [ Σ_i loss_i − c Σ_i r_i H_i + β Σ_i r_i KL_i ] + v · mean_i ½ (V_i − target_i)²
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from tests.training import STATES, Parameters, Round, Run, Setting, Step, Task

Episodes = list[list[Step]]  # consecutive steps of one episode each, perhaps cut by the round's start or end


class Known(NamedTuple):
    """What credit may look at."""

    episodes: Episodes
    value: Callable[[int], float]  # V of a state at the round's start
    ratio: Callable[[Step], float]  # ρ at the round's start


class Rows(NamedTuple):
    """A minibatch, ``[B]`` each."""

    advantage: Tensor
    log_prob: Tensor  # log π(a|s), with its graph
    behaviour_log_prob: Tensor
    episode: list[int]
    length: Tensor  # of the row's episode
    value: Tensor  # V(s) at the round's start

    @property
    def ratio(self) -> Tensor:
        """ρ = π / π_old."""
        return (self.log_prob - self.behaviour_log_prob).exp()


Advantages = dict[int, float]  # by the state where the action was taken
Targets = dict[int, float]


@dataclass(frozen=True)
class Published:
    """A method.

    Attributes:
        credit: what every action was worth, and what the critic should say there.
        loss: Σ of a minibatch.
        critic: whether there is one.
        normalizer: Z of a minibatch: its rows, its share of the round's episodes, or its number of whole episodes.
        per_length: r_i = 1/length in place of 1.
        ratio: whether ρ matters.
        episodes: whole episodes a round; None for a number of steps.
        epochs: passes over a round.
        minibatch_size: rows a gradient step; None for all.
        replay: earlier rounds that are used again.
        standardize: shift and scale the advantages of a round.
        entropy_weight: c.
        kl_weight: β.
        value_weight: v.
        value_epochs: further passes for the critic alone.
    """

    credit: Callable[[Known], tuple[Advantages, Targets]]
    loss: Callable[[Rows], Tensor]
    critic: bool
    normalizer: Literal["rows", "share", "episodes"] = "rows"
    per_length: bool = False
    ratio: bool = False
    episodes: int | None = None
    epochs: int = 1
    minibatch_size: int | None = None
    replay: int = 0
    standardize: bool = False
    entropy_weight: float = 0.0
    kl_weight: float = 0.0
    value_weight: float = 0.5
    value_epochs: int = 0


# ------------------------------------------------------------------------------------------------------------- losses


def score_function(rows: Rows) -> Tensor:
    """−A log π (Williams 1992; Mnih et al. 2016; Kool et al. 2019; elite filtering with A = 0 or 1)."""
    return -(rows.advantage * rows.log_prob).sum()


def clipped_surrogate(rows: Rows, clip: float) -> Tensor:
    """−min(ρA, clip(ρ, 1−ε, 1+ε) A) (Schulman et al. 2017, equation 7)."""
    return -torch.min(rows.ratio * rows.advantage, rows.ratio.clamp(1 - clip, 1 + clip) * rows.advantage).sum()


def clipped_surrogate_per_length(rows: Rows, clip: float) -> Tensor:
    """Σ_i (1/|o_i|) Σ_t of the clipped surrogate (Shao et al. 2024, equation 3)."""
    clipped = torch.min(rows.ratio * rows.advantage, rows.ratio.clamp(1 - clip, 1 + clip) * rows.advantage)
    return -(clipped / rows.length).sum()


def clipped_weight(rows: Rows, low: float, high: float) -> Tensor:
    """−sg(clip(ρ, 1−ε_low, 1+ε_high)) A log π (MiniMax 2025, equation 4)."""
    return -(rows.ratio.detach().clamp(1 - low, 1 + high) * rows.advantage * rows.log_prob).sum()


def truncated_importance(rows: Rows, ratio_bound: float) -> Tensor:
    """−min(ρ̄, ρ) (r + γ v' − V) log π (Espeholt et al. 2018, section 4.2)."""
    return -(rows.ratio.detach().clamp(max=ratio_bound) * rows.advantage * rows.log_prob).sum()


def exponential_weight(rows: Rows, temperature: float, bound: float = math.inf) -> Tensor:
    """−min(exp(A/β), w_max) log π (Peters and Schaal 2007; Peng et al. 2019)."""
    return -((rows.advantage / temperature).exp().clamp(max=bound) * rows.log_prob).sum()


def positive_part(rows: Rows) -> Tensor:
    """−max(R − V, 0) log π (Oh et al. 2018, equation 2)."""
    return -(rows.advantage.clamp(min=0.0) * rows.log_prob).sum()


def sequence_clip(rows: Rows, clip: float) -> Tensor:
    """−Σ_i min(s_i A_i, clip(s_i, 1−ε, 1+ε) A_i), s_i = (π(o_i)/π_old(o_i))^(1/|o_i|) (Zheng et al. 2025, eq. 5)."""
    total = torch.zeros((), dtype=torch.float64)
    for episode in sorted(set(rows.episode)):
        mine = torch.tensor([number == episode for number in rows.episode])
        s, advantage = (rows.log_prob - rows.behaviour_log_prob)[mine].mean().exp(), rows.advantage[mine][0]
        total = total - torch.min(s * advantage, s.clamp(1 - clip, 1 + clip) * advantage)
    return total


def tapered(rows: Rows) -> Tensor:
    """−R log π(o) where R ≥ 0, −sg(min(ρ(o), 1)) R log π(o) where R < 0 (Le Roux et al. 2025, with a = 0, b = 1)."""
    total = torch.zeros((), dtype=torch.float64)
    for episode in sorted(set(rows.episode)):
        mine = torch.tensor([number == episode for number in rows.episode])
        R, whole = rows.advantage[mine][0], rows.log_prob[mine].sum()
        ratio = (whole.detach() - rows.behaviour_log_prob[mine].sum()).exp()
        total = total - (R if R >= 0 else ratio.clamp(max=1.0) * R) * whole
    return total


def own_log_probability(rows: Rows, coefficient: float) -> Tensor:
    """c sg(log π) log π: the score-function estimate of −c H (Williams and Peng 1991)."""
    return coefficient * (rows.log_prob.detach() * rows.log_prob).sum()


def clip_and_estimated_divergence(rows: Rows, clip: float, coefficient: float) -> Tensor:
    """PPO's surrogate and β (q/π − log(q/π) − 1), q = π_old here (Shao et al. 2024, equation 4)."""
    difference = rows.behaviour_log_prob - rows.log_prob
    return clipped_surrogate(rows, clip) + coefficient * (difference.exp() - difference - 1).sum()


def value_beside(rows: Rows, share: float) -> Tensor:
    """−sg(A π + share · V) log π: no paper's, to hold what a user's rule may name."""
    return -((rows.advantage * rows.log_prob.detach().exp() + share * rows.value) * rows.log_prob).sum()


def importance_weighted(rows: Rows) -> Tensor:
    """−ρA (Jie and Abbeel 2010)."""
    return -(rows.ratio * rows.advantage).sum()


# ------------------------------------------------------------------------------------------------------------- credit


def continuation(last: Step, known: Known) -> float:
    """What comes after the last step there is: nothing if it ended the episode's task, else what the critic says."""
    return 0.0 if last.terminated else known.value(last.next_state)


def returns_to_go(episode: list[Step], discount: float, after: float = 0.0) -> list[float]:
    """G_t = r_t + γ G_{t+1}."""
    result: list[float] = []
    for step in reversed(episode):
        after = step.reward + discount * after
        result.insert(0, after)
    return result


def monte_carlo(
    known: Known,
    discount: float,
    baseline: str,
    whole_return: bool = False,
    exact_discount: bool = False,
) -> tuple[Advantages, Targets]:
    """(G_t − b), where G_0 stands for G_t with whole_return; γ^t times that with exact_discount."""
    learnt = baseline == "value"
    to_go = [returns_to_go(e, discount, continuation(e[-1], known) if learnt else 0.0) for e in known.episodes]
    advantages: Advantages = {}
    targets: Targets = {}
    for i, episode in enumerate(known.episodes):
        for t, step in enumerate(episode):
            # What every episode still earns at this time (after its end nothing), or from its start.
            G = [g[0] if whole_return else g[t] if t < len(g) else 0.0 for g in to_go]
            if baseline == "none":
                b = 0.0
            elif baseline == "mean":
                b = sum(G) / len(G)
            elif baseline == "leave-one-out":
                b = (sum(G) - G[i]) / (len(G) - 1)
            else:
                b = known.value(step.state)
                targets[step.state] = to_go[i][t]
            factor = discount**step.time if exact_discount and not whole_return else 1.0
            advantages[step.state] = factor * (G[i] - b)
    return advantages, targets


def generalized_advantage(known: Known, discount: float, trace: float) -> tuple[Advantages, Targets]:
    """A_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{t+1} − V_t (Schulman et al. 2016, equation 16); target A + V."""
    advantages, targets = {}, {}
    for episode in known.episodes:
        delta = [
            step.reward
            + discount * (0.0 if step.terminated else known.value(step.next_state))
            - known.value(step.state)
            for step in episode
        ]
        for t, step in enumerate(episode):
            advantage = sum((discount * trace) ** (k - t) * delta[k] for k in range(t, len(episode)))
            advantages[step.state], targets[step.state] = advantage, advantage + known.value(step.state)
    return advantages, targets


def v_trace_credit(
    known: Known, discount: float, trace: float, ratio_bound: float, trace_bound: float
) -> tuple[Advantages, Targets]:
    """v_t = V_t + Σ_k γ^(k−t) (Π_{i=t}^{k−1} λ c_i) ρ_k δ_k (Espeholt et al. 2018, equation 1 and remark 2)."""
    advantages, targets = {}, {}
    for episode in known.episodes:
        V = [known.value(step.state) for step in episode] + [continuation(episode[-1], known)]
        rho = [min(ratio_bound, known.ratio(step)) for step in episode]
        c = [trace * min(trace_bound, known.ratio(step)) for step in episode]
        delta = [rho[t] * (step.reward + discount * V[t + 1] - V[t]) for t, step in enumerate(episode)]
        v = [
            V[t] + sum(discount ** (k - t) * math.prod(c[t:k]) * delta[k] for k in range(t, len(episode)))
            for t in range(len(episode))
        ] + V[-1:]
        for t, step in enumerate(episode):
            targets[step.state] = v[t]
            advantages[step.state] = step.reward + discount * v[t + 1] - V[t]
    return advantages, targets


def compared_episodes(
    known: Known, discount: float, comparison: str, group_size: int | None
) -> tuple[Advantages, Targets]:
    """R_i less the mean of its group's others (RLOO) or of the group (Dr. GRPO), that over its deviation (GRPO)."""
    R = [returns_to_go(episode, discount)[0] for episode in known.episodes]
    size = group_size or len(R)
    advantages = {}
    for i, episode in enumerate(known.episodes):
        group = R[i - i % size : i - i % size + size]
        mean = sum(group) / size
        if comparison == "leave-one-out":
            advantage = R[i] - (sum(group) - R[i]) / (size - 1)
        elif comparison == "centred":
            advantage = R[i] - mean
        else:
            advantage = (R[i] - mean) / (math.sqrt(sum((r - mean) ** 2 for r in group) / (size - 1)) + 1e-4)
        advantages |= {step.state: advantage for step in episode}
    return advantages, {}


def best_episodes(known: Known, quantile: float) -> tuple[Advantages, Targets]:
    """1 for the actions of episodes whose return is at least the ⌈qn⌉-th smallest (de Boer et al. 2005)."""
    R = [sum(step.reward for step in episode) for episode in known.episodes]
    threshold = sorted(R)[math.ceil(quantile * len(R)) - 1]
    return {s.state: float(r >= threshold) for e, r in zip(known.episodes, R, strict=True) for s in e}, {}


# ------------------------------------------------------------------------------------------------------------ methods


def reinforce(
    discount: float,
    baseline: str,
    whole_return: bool = False,
    exact_discount: bool = False,
    per_episode: bool = False,
    **rest: Any,
) -> Published:
    """REINFORCE: each action once."""
    credit = partial(
        monte_carlo, discount=discount, baseline=baseline, whole_return=whole_return, exact_discount=exact_discount
    )
    return Published(credit, score_function, baseline == "value", "share" if per_episode else "rows", **rest)


def actor_critic(discount: float, trace: float, **rest: Any) -> Published:
    """Advantage actor-critic."""
    return Published(partial(generalized_advantage, discount=discount, trace=trace), score_function, True, **rest)


def ppo(clip: float, discount: float, trace: float, **rest: Any) -> Published:
    """Proximal policy optimisation."""
    credit = partial(generalized_advantage, discount=discount, trace=trace)
    return Published(credit, partial(clipped_surrogate, clip=clip), True, ratio=True, **rest)


def rloo(discount: float, group_size: int | None = None, per_episode: bool = False, **rest: Any) -> Published:
    """REINFORCE leave-one-out."""
    credit = partial(compared_episodes, discount=discount, comparison="leave-one-out", group_size=group_size)
    return Published(credit, score_function, False, "share" if per_episode else "rows", **rest)


def grpo(clip: float, discount: float, biased: bool, group_size: int | None = None, **rest: Any) -> Published:
    """Group-relative policy optimisation; Dr. GRPO where it is not biased."""
    comparison = "standardized" if biased else "centred"
    credit = partial(compared_episodes, discount=discount, comparison=comparison, group_size=group_size)
    loss = partial(clipped_surrogate_per_length if biased else clipped_surrogate, clip=clip)
    return Published(credit, loss, False, "share", per_length=biased, ratio=True, **rest)


def gspo(clip: float, discount: float, group_size: int | None = None, **rest: Any) -> Published:
    """Group sequence policy optimisation."""
    credit = partial(compared_episodes, discount=discount, comparison="standardized", group_size=group_size)
    return Published(credit, partial(sequence_clip, clip=clip), False, "episodes", ratio=True, **rest)


def cispo(low: float, high: float, discount: float, trace: float, **rest: Any) -> Published:
    """Clipped importance-sampling weights."""
    credit = partial(generalized_advantage, discount=discount, trace=trace)
    return Published(credit, partial(clipped_weight, low=low, high=high), True, ratio=True, **rest)


def v_trace(ratio_bound: float, trace_bound: float, discount: float, trace: float, **rest: Any) -> Published:
    """IMPALA's actor-critic."""
    credit = partial(v_trace_credit, discount=discount, trace=trace, ratio_bound=ratio_bound, trace_bound=trace_bound)
    return Published(credit, partial(truncated_importance, ratio_bound=ratio_bound), True, ratio=True, **rest)


def reward_weighted_regression(temperature: float, discount: float, **rest: Any) -> Published:
    """exp of the standardised reward-to-go."""
    credit = partial(monte_carlo, discount=discount, baseline="none")
    return Published(credit, partial(exponential_weight, temperature=temperature), False, standardize=True, **rest)


def advantage_weighted_regression(temperature: float, bound: float, discount: float, **rest: Any) -> Published:
    """exp of the return less the critic's value."""
    credit = partial(monte_carlo, discount=discount, baseline="value")
    return Published(credit, partial(exponential_weight, temperature=temperature, bound=bound), True, **rest)


def self_imitation(discount: float, **rest: Any) -> Published:
    """Repeat what went better than expected."""
    return Published(partial(monte_carlo, discount=discount, baseline="value"), positive_part, True, **rest)


def elite(quantile: float, **rest: Any) -> Published:
    """The cross-entropy method on episodes."""
    return Published(partial(best_episodes, quantile=quantile), score_function, False, **rest)


def topr(discount: float, **rest: Any) -> Published:
    """Tapered off-policy REINFORCE."""
    credit = partial(monte_carlo, discount=discount, baseline="none", whole_return=True)
    return Published(credit, tapered, False, "episodes", ratio=True, **rest)


def importance_sampled(discount: float, trace: float, **rest: Any) -> Published:
    """PPO without its clip."""
    credit = partial(generalized_advantage, discount=discount, trace=trace)
    return Published(credit, importance_weighted, True, ratio=True, standardize=True, **rest)


def sampled_entropy(discount: float, trace: float, coefficient: float, **rest: Any) -> Published:
    """The entropy bonus of the action taken, alone."""
    credit = partial(generalized_advantage, discount=discount, trace=trace)
    return Published(credit, partial(own_log_probability, coefficient=coefficient), True, **rest)


def sampled_kl(discount: float, trace: float, clip: float, coefficient: float, **rest: Any) -> Published:
    """PPO with GRPO's penalty."""
    credit = partial(generalized_advantage, discount=discount, trace=trace)
    loss = partial(clip_and_estimated_divergence, clip=clip, coefficient=coefficient)
    return Published(credit, loss, True, ratio=True, standardize=True, **rest)


def with_value(discount: float, trace: float, share: float, **rest: Any) -> Published:
    """A user's rule that names ``value``."""
    credit = partial(generalized_advantage, discount=discount, trace=trace)
    return Published(credit, partial(value_beside, share=share), True, **rest)


def by_position(discount: float, trace: float, **rest: Any) -> Published:
    """A user's rule of three parameters."""
    credit = partial(generalized_advantage, discount=discount, trace=trace)
    return Published(credit, importance_weighted, True, ratio=True, **rest)


# ------------------------------------------------------------------------------------------------------- distributions


class Policy(NamedTuple):
    """π(a|s) of a task's action space; B rows."""

    task: Task

    def log_prob(self, outputs: Tensor, steps: list[Step]) -> Tensor:
        """``[B]``."""
        if isinstance(self.task.action_space, spaces.Box):
            actions = torch.tensor([step.action.tolist() for step in steps], dtype=torch.float64)
            return self._normal(outputs).log_prob(actions).sum(dim=1)
        parts = self._log_probabilities(outputs, steps)
        actions = torch.tensor([step.action.reshape(-1).tolist() for step in steps])
        return sum(part.gather(1, actions[:, d : d + 1]).squeeze(1) for d, part in enumerate(parts))

    def entropy(self, outputs: Tensor, steps: list[Step]) -> Tensor:
        """``[B]``."""
        if isinstance(self.task.action_space, spaces.Box):
            return self._normal(outputs).entropy().sum(dim=1)
        return -sum((part.exp() * part).sum(dim=1) for part in self._log_probabilities(outputs, steps))

    def divergence(self, outputs: Tensor, reference: Tensor, steps: list[Step]) -> Tensor:
        """KL(π‖reference), ``[B]``."""
        if isinstance(self.task.action_space, spaces.Box):
            return kl_divergence(self._normal(outputs), self._normal(reference)).sum(dim=1)
        pairs = zip(self._log_probabilities(outputs, steps), self._log_probabilities(reference, steps), strict=True)
        return sum((p.exp() * (p - q)).sum(dim=1) for p, q in pairs)

    def _normal(self, outputs: Tensor) -> Normal:
        mean, log_std = outputs.chunk(2, dim=1)
        return Normal(mean, log_std.exp())

    def _log_probabilities(self, outputs: Tensor, steps: list[Step]) -> list[Tensor]:
        """``[B, K_d]`` of every component; a class that is not allowed has probability exp(−10³⁰) = 0."""
        if isinstance(self.task.action_space, spaces.MultiBinary):
            outputs = torch.stack([torch.zeros_like(outputs), outputs], dim=2).flatten(1)
        allowed = torch.tensor([self.task.allowed(step.state).tolist() for step in steps])
        logits = outputs.masked_fill(~allowed, -1e30)
        return [part.log_softmax(dim=1) for part in logits.split(self.task.classes, dim=1)]


# ---------------------------------------------------------------------------------------------------------- the loop


class Gathered(NamedTuple):
    """What the gradient steps of a round use, by state; ``inputs`` are what the networks see, ``[STATES, ...]``."""

    inputs: Tensor
    steps: dict[int, Step]
    lengths: dict[int, int]
    values: Tensor
    behaviour: dict[int, float]
    advantages: Advantages
    mean_advantage: float
    targets: Targets
    episodes: int


class Repeated(NamedTuple):
    """Where the published method ends."""

    after: Parameters
    scalars: Mapping[str, float]  # of the last round
    rows: list[Rows]  # of every gradient step


def repeat(method: Published, setting: Setting, run: Run) -> Repeated:
    """Go through a recorded run with the published method: same data, same minibatches, own everything else."""
    policy, parameters, rows = Policy(run.task), run.before, []
    rounds: list[Episodes] = []
    known = 0  # the rounds whose observations the statistics hold
    behaviour: list[dict[int, float]] = []  # of each round: log π(a|s) when a was taken
    for record in run.rounds:
        sizes = [sum(map(len, episodes)) for episodes in rounds]
        if sum(sizes[known:]) >= sum(sizes[:known]):
            known = len(rounds)
        inputs = inputs_of(run.task, rounds[:known] if setting.normalize_observations else [])
        rounds.append(episodes_of(record, method.episodes))
        behaviour.append(log_probabilities(policy, parameters, inputs, rounds[-1]))
        factor = reward_factor(rounds) if setting.scale_rewards else 1.0
        used = slice(-1 - method.replay, None)
        gathered = gather(method, policy, parameters, inputs, rounds[used], behaviour[used], factor)
        deviation = None if parameters.log_std is None else float(parameters.log_std.exp().mean())
        check_minibatches(method, record.minibatches, gathered.steps)
        logged = []
        for states in record.minibatches:
            variables = Parameters(*(None if p is None else p.clone().requires_grad_() for p in parameters))
            batch, loss, scalars = loss_of(method, policy, variables, run.before, gathered, states)
            loss.backward()
            moved = (None if p is None else (p - setting.learning_rate * p.grad).detach() for p in variables)
            parameters = Parameters(*moved)
            logged.append((len(states), scalars))
            rows.append(batch)
        # The rounds of these tests are so short that a pass of the critic alone is one gradient step.
        assert list(map(sorted, record.passes)) == [sorted(gathered.steps)] * method.value_epochs
        for states in record.passes:
            assert parameters.critic is not None
            critic = parameters.critic.clone().requires_grad_()
            cost = critic_cost(critic, gathered, states)
            (gradient,) = torch.autograd.grad(method.value_weight * cost, critic)
            parameters = parameters._replace(critic=(critic - setting.learning_rate * gradient).detach())
            logged.append((len(states), {"train/value_loss": float(cost.detach())}))
    scalars = {}
    for name in logged[0][1]:
        having = [(count, each[name]) for count, each in logged if name in each]
        scalars[name] = sum(count * value for count, value in having) / sum(count for count, _ in having)
    updates = sum(len(record.minibatches) + len(record.passes) for record in run.rounds)
    scalars |= {"train/n_updates": updates, "train/advantage_mean": gathered.mean_advantage}
    if deviation is not None:
        scalars["train/action_std"] = deviation
    if gathered.targets:
        error = [target - float(gathered.values[state]) for state, target in gathered.targets.items()]
        mean_return = sum(gathered.targets.values()) / len(error)
        scalars["train/explained_variance"] = 1.0 - variance(error) / variance(gathered.targets.values())
        scalars |= {"train/return_mean": mean_return, "train/value_mean": mean_return - sum(error) / len(error)}
    return Repeated(parameters, scalars | finished(run.rounds, method.episodes), rows)


def gather(
    method: Published,
    policy: Policy,
    parameters: Parameters,
    inputs: Tensor,
    rounds: list[Episodes],
    behaviour: list[dict[int, float]],
    factor: float,
) -> Gathered:
    """Credit for every step of these rounds, with the parameters at the last one's start."""
    episodes = [[s._replace(reward=s.reward * factor) for s in episode] for one in rounds for episode in one]
    then = {state: value for one in behaviour for state, value in one.items()}
    now = log_probabilities(policy, parameters, inputs, episodes)
    values = torch.zeros(STATES) if parameters.critic is None else (inputs @ parameters.critic.T)[:, 0]
    known = Known(
        episodes,
        lambda state: float(values[state]),
        lambda step: math.exp(now[step.state] - then[step.state]),
    )
    advantages, targets = method.credit(known)
    return Gathered(
        inputs,
        {step.state: step for episode in episodes for step in episode},
        {step.state: len(episode) for episode in episodes for step in episode},
        values,
        then,
        standardized(advantages) if method.standardize else advantages,
        sum(advantages.values()) / len(advantages),
        targets,
        len(episodes),
    )


def loss_of(
    method: Published, policy: Policy, now: Parameters, at_first: Parameters, data: Gathered, states: list[int]
) -> tuple[Rows, Tensor, dict[str, float]]:
    """The loss of a minibatch, and what is logged of it."""
    steps, outputs = [data.steps[state] for state in states], outputs_of(now, data.inputs, states)
    batch = Rows(
        torch.tensor([data.advantages[state] for state in states], dtype=torch.float64),
        policy.log_prob(outputs, steps),
        torch.tensor([data.behaviour[state] for state in states], dtype=torch.float64),
        [step.episode for step in steps],
        torch.tensor([float(data.lengths[state]) for state in states], dtype=torch.float64),
        data.values[states],
    )
    Z: float = len(states)
    if method.normalizer == "share":
        Z = len(states) * data.episodes / len(data.steps)
    elif method.normalizer == "episodes":
        Z = len(set(batch.episode))
    r = 1.0 / batch.length if method.per_length else torch.ones(len(states), dtype=torch.float64)
    entropy = policy.entropy(outputs, steps)
    weight = weights_of(method, batch)
    loss = (method.loss(batch) - method.entropy_weight * (r * entropy).sum()) / Z
    scalars = {
        "train/policy_loss": -float((weight * batch.log_prob.detach()).sum()) / Z,
        "train/entropy": float(entropy.detach().mean()),
    }
    if method.kl_weight:
        divergence = policy.divergence(outputs, outputs_of(at_first, data.inputs, states), steps)
        loss = loss + method.kl_weight * (r * divergence).sum() / Z
        scalars["train/reference_kl"] = float(divergence.detach().mean())
    if method.ratio:
        ratio = batch.ratio.detach()
        scalars["train/approx_kl"] = float((ratio - 1.0 - ratio.log()).mean())
        scalars["train/clip_fraction"] = float(((weight == 0) & (batch.advantage != 0)).double().mean())
    if now.critic is not None:
        cost = critic_cost(now.critic, data, states)
        loss = loss + method.value_weight * cost
        scalars["train/value_loss"] = float(cost.detach())
    return batch, loss, scalars


def critic_cost(critic: Tensor, data: Gathered, states: list[int]) -> Tensor:
    """The mean of ½(V − target)²."""
    target = torch.tensor([data.targets[state] for state in states], dtype=torch.float64)
    return (0.5 * ((data.inputs[states] @ critic.T)[:, 0] - target) ** 2).mean()


def outputs_of(parameters: Parameters, inputs: Tensor, states: list[int]) -> Tensor:
    """What the policy gives for these states, ``[B, n_outputs]``, log-deviations last where there are some."""
    outputs = inputs[states] @ parameters.policy.T
    return outputs if parameters.log_std is None else torch.cat([outputs, parameters.log_std.expand_as(outputs)], 1)


def log_probabilities(policy: Policy, parameters: Parameters, inputs: Tensor, episodes: Episodes) -> dict[int, float]:
    """Log π(a|s) of every action, by state."""
    steps = [step for episode in episodes for step in episode]
    states = [step.state for step in steps]
    values = policy.log_prob(outputs_of(parameters, inputs, states), steps)
    return dict(zip(states, values.tolist(), strict=True))


def weights_of(method: Published, rows: Rows) -> Tensor:
    """w: the derivative of Σ loss with respect to −log π of every row, ``[B]``."""
    log_prob = rows.log_prob.detach().requires_grad_()
    return -torch.autograd.grad(method.loss(rows._replace(log_prob=log_prob)), log_prob)[0]


def check_minibatches(method: Published, minibatches: list[list[int]], steps: Iterable[int]) -> None:
    """Each epoch uses every row once, in minibatches of the size that was asked for; the last may be smaller."""
    rows = sorted(steps)
    taken = [state for states in minibatches for state in states]
    assert len(taken) == method.epochs * len(rows), (len(taken), method.epochs, len(rows))
    for epoch in range(method.epochs):
        assert sorted(taken[epoch * len(rows) : (epoch + 1) * len(rows)]) == rows
    if method.normalizer != "episodes":
        size = min(method.minibatch_size or len(rows), len(rows))
        one = [size] * (len(rows) // size) + [len(rows) % size] * (len(rows) % size > 0)
        assert [len(states) for states in minibatches] == one * method.epochs


def episodes_of(record: Round, count: int | None) -> Episodes:
    """The episodes of a round, copy by copy; of whole episodes only so many as each copy was to play."""
    result: Episodes = []
    for copy, steps in enumerate(record.steps):
        numbers = list(dict.fromkeys(step.episode for step in steps))
        pieces = [[step for step in steps if step.episode == number] for number in numbers]
        result += pieces if count is None else pieces[: (count + copy) // len(record.steps)]
    return result


def inputs_of(task: Task, rounds: list[Episodes]) -> Tensor:
    """What the networks see of every state: with rounds, shifted and scaled by what was seen in them."""
    features = task.features
    seen = [step.state for episodes in rounds for episode in episodes for step in episode]
    if not seen:
        return features
    mean, deviation = features[seen].mean(dim=0), features[seen].std(dim=0, correction=0)
    return ((features - mean) / deviation).clamp(-10.0, 10.0)


def reward_factor(rounds: list[Episodes]) -> float:
    """1 / the deviation of g_t = r_t + 0.99 g_{t−1}, from each episode's start on, over all rounds so far."""
    sums: list[float] = []
    so_far: dict[int, float] = {}
    for episode in (episode for episodes in rounds for episode in episodes):
        for step in episode:
            so_far[step.episode] = 0.99 * so_far.get(step.episode, 0.0) + step.reward
            sums.append(so_far[step.episode])
    return 1.0 / math.sqrt(variance(sums))


def standardized(advantages: Advantages) -> Advantages:
    """(A − mean) / (deviation + 10⁻⁸)."""
    mean, deviation = sum(advantages.values()) / len(advantages), math.sqrt(variance(advantages.values()))
    return {state: (value - mean) / (deviation + 1e-8) for state, value in advantages.items()}


def variance(values: Iterable[float]) -> float:
    """Of a population."""
    values = list(values)
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


def finished(rounds: list[Round], count: int | None) -> dict[str, float]:
    """Mean return and length of the episodes that ended."""
    whole: dict[int, list[Step]] = {}
    for record in rounds:
        for episode in episodes_of(record, count):
            whole.setdefault(episode[0].episode, []).extend(episode)
    ended = [steps for steps in whole.values() if steps[-1].terminated or steps[-1].truncated]
    if not ended:
        return {}
    return {
        "rollout/ep_rew_mean": sum(step.reward for steps in ended for step in steps) / len(ended),
        "rollout/ep_len_mean": sum(len(steps) for steps in ended) / len(ended),
    }


def largest_difference(got: Parameters, wanted: Parameters, unit: float) -> float:
    """Of any parameter, in this unit."""
    pairs = [(a, b) for a, b in zip(got, wanted, strict=True) if a is not None and b is not None]
    return max(float((a - b).abs().max()) for a, b in pairs) / unit
