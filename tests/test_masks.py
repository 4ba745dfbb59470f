"""Masks: a forbidden action is never taken, has probability zero and no gradient, whatever the autoreset mode."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.identity import IdentityBox, MaskedIdentity
from rlce import Optimization, PolicyGradient, evaluate_policy, masks, methods
from rlce.heads import Categorical, MultiCategorical
from rlce.reinforcement import loss
from rlce.reinforcement.environments import Environments
from rlce.reinforcement.rollout import Collector, Rollout
from rlce.reinforcement.spaces import Actions

MODES = list(AutoresetMode)
WHERE = pytest.mark.parametrize("observed", [False, True], ids=["in info", "in the observation"])


class Strict(MaskedIdentity):
    """A masked identity in which a forbidden action is an error, and the last mask forbids everything."""

    def _pay(self, action: np.int64) -> float:
        assert self._mask[action - self._start]
        return super()._pay(action)


class SeveralMasked(gymnasium.Env[np.ndarray, np.ndarray]):
    """Two choices; the masks leave one class of the first and all but one of the second. Episodes of 3 steps."""

    observation_space = gymnasium.spaces.Box(0.0, 3.0, (1,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([3, 2], start=[1, 0])

    def __init__(self, as_tuple: bool = False) -> None:
        self.as_tuple = as_tuple

    def _info(self) -> dict[str, Any]:
        first, second = np.arange(3) == self.t % 3, np.array([True, self.t % 2 == 0])
        return {"action_mask": (first, second) if self.as_tuple else np.concatenate([first, second])}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), self._info()

    def step(self, action: np.ndarray) -> Any:
        assert self.action_space.contains(action)
        assert action[0] == 1 + self.t % 3
        assert action[1] == 0 or self.t % 2 == 0
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, self.t == 3, False, self._info()


def gather(
    mode: AutoresetMode, observed: bool, length: int = 60, episodes: int = 0, seed: int = 0
) -> tuple[Rollout, Collector]:
    envs = SyncVectorEnv(
        [lambda: Strict(n=4, length=3, start=2, mask_in_observation=observed)] * 3, autoreset_mode=mode
    )
    collector = Collector(Environments(envs), Actions(envs.single_action_space), np.random.SeedSequence(seed))

    def act(observation: np.ndarray) -> np.ndarray:
        return np.zeros((len(observation), 4), np.float32)

    return collector.episodes(act, episodes) if episodes else collector.steps(act, length), collector


@WHERE
@pytest.mark.parametrize("mode", MODES)
def test_the_mask_of_the_moment_is_kept_and_obeyed(mode: AutoresetMode, observed: bool) -> None:
    rollout, _ = gather(mode, observed)
    assert rollout.mask is not None
    assert rollout.mask.shape == (60, 3, 4)
    assert rollout.mask.dtype == bool
    assert rollout.observation.shape == (60, 3, 4)  # the mask is no input
    valid = rollout.valid
    named = rollout.observation.argmax(axis=-1)
    assert np.take_along_axis(rollout.mask, named[..., None], -1)[valid].all()  # it belongs to this very observation
    assert np.take_along_axis(rollout.mask, rollout.action[..., None], -1)[valid].all()
    assert rollout.mask[~valid].all()
    others = (rollout.mask[valid].sum() - valid.sum()) / (3 * valid.sum())
    assert others == pytest.approx(0.5, abs=0.1)


@WHERE
def test_three_autoreset_modes_agree_under_masks(observed: bool) -> None:
    rollouts = [gather(mode, observed)[0] for mode in MODES]
    for i in range(3):
        rows = [[[np.ravel(field[t, i]).tolist() for field in rollout if field is not None]
                 for t in np.flatnonzero(rollout.valid[:, i])] for rollout in rollouts]  # fmt: skip
        shortest = min(map(len, rows))
        assert shortest >= 45
        assert rows[0][:shortest] == rows[1][:shortest] == rows[2][:shortest]
    first, *others = (gather(mode, observed, episodes=7)[0] for mode in MODES)
    assert first.mask is not None
    assert first.mask.shape == (3, 7, 4)
    for other in others:
        for one, another in zip(first, other, strict=True):
            np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize("as_tuple", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_several_choices_obey_a_flat_mask_or_one_a_component(mode: AutoresetMode, as_tuple: bool) -> None:
    envs = SyncVectorEnv([lambda: SeveralMasked(as_tuple)] * 2, autoreset_mode=mode)
    agent = PolicyGradient(envs, methods.ppo(steps=16, minibatch_size=8), hidden=(8,)).learn(400)
    returns, _ = evaluate_policy(agent, SyncVectorEnv([lambda: SeveralMasked(as_tuple)] * 2, autoreset_mode=mode), 5)
    assert set(returns) == {3.0}  # the environment itself refuses what is forbidden
    returns, _ = evaluate_policy(agent, lambda: SeveralMasked(as_tuple), 5, deterministic=False)
    assert set(returns) == {3.0}


def batch_of(agent: PolicyGradient, rollout: Rollout) -> loss.Transitions:
    rows, _ = loss.prepare(rollout, agent.method, agent.learner)
    return rows


def test_the_ratio_is_one_before_the_first_step_under_masks() -> None:
    agent = PolicyGradient(lambda: Strict(n=4, length=3, start=2), methods.ppo(), hidden=(8,), seed=1)
    with torch.no_grad():
        for parameter in agent.policy.parameters():  # far from uniform
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    rows = batch_of(agent, gather(AutoresetMode.NEXT_STEP, False)[0])
    assert not rows.mask.all()
    ratios: list[torch.Tensor] = []

    def weight(advantage: torch.Tensor, log_prob: torch.Tensor, behaviour: torch.Tensor) -> torch.Tensor:
        ratios.append((log_prob - behaviour).exp())
        return advantage

    spied = replace(agent.method, weight=weight)
    loss.loss(loss.Batch(rows, len(rows.action)), spied, agent.learner)
    assert torch.equal(ratios[0], torch.ones(len(rows.action)))
    # And it is the probability among what is allowed, not among all.
    logits = agent.policy(rows.observation).masked_fill(~rows.mask, -math.inf)
    expected = torch.distributions.Categorical(logits=logits).log_prob(rows.action)
    torch.testing.assert_close(rows.behaviour_log_prob, expected.detach())
    unmasked = torch.distributions.Categorical(logits=agent.policy(rows.observation)).log_prob(rows.action)
    assert (expected - unmasked).max() > 0.1


@pytest.mark.parametrize("head", [Categorical(5), MultiCategorical((2, 3))], ids=["Categorical", "MultiCategorical"])
def test_a_forbidden_class_has_no_probability_and_no_gradient(head: Categorical | MultiCategorical) -> None:
    mask = torch.tensor([[True, False, True, False, True], [True, True, False, True, False]])
    logits = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    reference = torch.zeros(2, 5, dtype=torch.float64)
    hidden = masks.hide(logits, mask)
    target = torch.tensor([2, 0]) if isinstance(head, Categorical) else torch.tensor([[0, 2], [1, 1]])
    for value in (head.cost(hidden, target), head.entropy(hidden), head.kl(hidden, masks.hide(reference, mask))):
        (gradient,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert value.isfinite().all()
        assert (gradient[~mask] == 0).all()
        assert (gradient != 0).any()
    outputs = np.broadcast_to(hidden.detach().numpy()[:, None], (2, 2000, 5))
    drawn = head.sample(outputs, np.random.default_rng(0).random((2, 2000, *head.target_shape)))
    drawn = drawn[..., None] if isinstance(head, Categorical) else drawn + np.array([0, 2])
    for row in range(2):
        assert set(np.unique(drawn[row])) == set(np.flatnonzero(mask[row].numpy()))


def test_the_loss_leaves_forbidden_logits_alone_in_float64() -> None:
    """A policy that is a table of logits, so that a gradient on a forbidden entry would show as such."""

    class Table(torch.nn.Module):
        def __init__(self, rows: int) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.logits = torch.nn.Parameter(torch.randn(rows, 4, dtype=torch.float64, generator=generator))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.logits

    rollout, _ = gather(AutoresetMode.NEXT_STEP, False)
    method = methods.ppo(entropy_weight=0.1)
    agent = PolicyGradient(lambda: Strict(n=4, start=2), method)
    rows = batch_of(agent, rollout)
    table = Table(len(rows.action))
    total, _ = loss.loss(loss.Batch(rows, 1.0), method, replace(agent.learner, policy=table, critic=None))
    total.backward()
    assert table.logits.grad is not None
    assert (table.logits.grad[~rows.mask] == 0).all()
    assert (table.logits.grad[rows.mask] != 0).any()
    # Shifting all allowed logits of a row changes nothing: its gradient sums to zero.
    np.testing.assert_allclose(table.logits.grad.sum(dim=-1), 0.0, atol=1e-6)


@WHERE
@pytest.mark.parametrize("mode", MODES)
def test_masked_identity_is_learnt_without_one_forbidden_action(mode: AutoresetMode, observed: bool) -> None:
    def make() -> Strict:
        return Strict(n=4, length=8, start=2, mask_in_observation=observed)

    envs = SyncVectorEnv([make] * 8, autoreset_mode=mode)
    method = methods.ppo(steps=16, minibatch_size=64, entropy_weight=0.001)
    agent = PolicyGradient(envs, method, hidden=(16,), optimization=Optimization(learning_rate=0.02))
    agent.learn(4_000)
    for deterministic in (True, False):
        again = SyncVectorEnv([make] * 4, autoreset_mode=mode)
        returns, _ = evaluate_policy(agent, again, 20, deterministic)
        assert returns.min() >= (8.0 if deterministic else 6.0)


# ------------------------------------------------------------------------------------------------------- predicting


def test_predict_obeys_a_mask_for_one_or_many(tmp_path: Any) -> None:
    agent = PolicyGradient(lambda: MaskedIdentity(n=3, start=4), hidden=(8,))
    only = np.eye(3, dtype=bool)
    for k in range(3):
        for deterministic in (True, False):
            assert agent.predict(np.int64(0), deterministic, mask=only[k]) == 4 + k
            assert agent.predict(np.int64(0), deterministic, only[k][None].tolist()) == 4 + k
    assert agent.predict(np.zeros(3, np.int64), mask=only).tolist() == [4, 5, 6]
    agent.save(tmp_path / "agent")
    loaded = PolicyGradient.load(tmp_path / "agent")
    assert loaded.predict(np.zeros(3, np.int64), mask=only).tolist() == [4, 5, 6]


def test_predict_finds_the_mask_in_the_observation(tmp_path: Any) -> None:
    agent = PolicyGradient(lambda: MaskedIdentity(n=3, start=4, mask_in_observation=True), hidden=(8,))
    agent.save(tmp_path / "agent")
    for one in (agent, PolicyGradient.load(tmp_path / "agent")):
        observations = {"action_mask": np.eye(3, dtype=np.int8), "observation": np.zeros(3, np.int64)}
        assert one.predict(observations).tolist() == [4, 5, 6]
        single = {"action_mask": np.array([0, 1, 0], np.int8), "observation": np.int64(2)}
        assert one.predict(single) == 5
        # One that is passed goes before it.
        assert one.predict(single, mask=[0, 0, 1]) == 6
        assert one.predict({"observation": np.int64(2)}, mask=[0, 0, 1]) == 6


def test_an_agent_without_masks_can_be_evaluated_in_an_environment_with_them() -> None:
    class AlwaysFirst:
        def predict(self, observation: Any, deterministic: bool = False, *, generator: Any = None) -> Any:
            return np.zeros(len(observation), np.int64)

    returns, _ = evaluate_policy(AlwaysFirst(), lambda: MaskedIdentity(n=4, length=5), 10)
    assert returns.min() < 0


# -------------------------------------------------------------------------------------------------------- bad input


class Shut(MaskedIdentity):
    """Forbids everything from the third step of every episode on."""

    def _draw(self) -> Any:
        drawn = super()._draw()
        if self._steps_left <= self.length - 2:
            self._mask[:] = 0
        return drawn


def test_a_mask_that_forbids_everything_is_named_with_environment_and_step() -> None:
    message = "action mask of environment {} forbids every action, {} steps after the reset"
    agent = PolicyGradient(SyncVectorEnv([MaskedIdentity, Shut]), methods.ppo(steps=16))
    with pytest.raises(ValueError, match=message.format(1, 2)):
        agent.learn(100)
    with pytest.raises(ValueError, match=message.format(0, 2)):
        evaluate_policy(agent, Shut, 2)
    with pytest.raises(ValueError, match="mask forbids every action in row 1"):
        agent.predict(np.zeros(2, np.int64), mask=[[1, 0, 0, 0], [0, 0, 0, 0]])
    several = masks.forbids_all(np.array([[True, True, False, False], [True, False, True, False]]), (2, 2))
    assert several.tolist() == [True, False]


class MaskedBox(IdentityBox):
    def _info(self) -> dict[str, Any]:
        return {"action_mask": np.ones(2, np.int8)}


class ShortMask(MaskedIdentity):
    def _info(self) -> dict[str, Any]:
        return {"action_mask": np.ones(2, np.int8)}


def test_masks_that_do_not_fit_are_named() -> None:
    with pytest.raises(TypeError, match="action masks are for Discrete and MultiDiscrete actions, but .* is Box"):
        PolicyGradient(MaskedBox).learn(10)
    with pytest.raises(TypeError, match="action masks are for Discrete and MultiDiscrete"):
        PolicyGradient(IdentityBox).predict(np.zeros(2, np.float32), mask=[1, 1])
    with pytest.raises(ValueError, match=r"must have 4 entries, one per class, got 2"):
        PolicyGradient(ShortMask).learn(10)
    with pytest.raises(ValueError, match=r"mask must have shape \[2, 4\], one entry per class, got \[4\]"):
        PolicyGradient(MaskedIdentity).predict(np.zeros(2, np.int64), mask=np.ones(4))
    spaces = gymnasium.spaces
    whole = spaces.Dict({"action_mask": spaces.MultiBinary(3), "hand": spaces.Discrete(2)})
    with pytest.raises(ValueError, match=r"the observation's 'action_mask' must have 4 entries, one per class, got 3"):
        masks.input_space(whole, spaces.Discrete(4))
    # A part of that name that cannot be a mask is an input like any other.
    other = spaces.Dict({"action_mask": spaces.Discrete(3)})
    assert masks.input_space(other, spaces.Discrete(3)) is other


def test_a_copy_that_gives_no_mask_is_free() -> None:
    info = {"action_mask": np.array([[0, 1], [0, 0]]), "_action_mask": np.array([True, False])}
    assert masks.from_info(info, 2, gymnasium.spaces.Discrete(2)).tolist() == [[False, True], [True, True]]  # type: ignore[union-attr]
    assert masks.from_info({}, 2, gymnasium.spaces.Discrete(2)) is None
    # Rows of Python's own types come as objects, as a wrapper or an environment may give them.
    rows = np.empty(3, object)
    rows[:2] = [[0, 1, 1], (np.array([1]), np.array([0, 1]))]
    info = {"action_mask": rows, "_action_mask": np.array([True, True, False])}
    found = masks.from_info(info, 3, gymnasium.spaces.MultiDiscrete([1, 2]))
    assert found.tolist() == [[False, True, True], [True, False, True], [True, True, True]]  # type: ignore[union-attr]
    free, forced = np.ones((2, 2), bool), np.array([[True, False]] * 2)
    assert masks.stacked([None, forced]).tolist() == [free.tolist(), forced.tolist()]  # type: ignore[union-attr]
    assert masks.stacked([None, None]) is None


def test_a_masked_head_still_comes_from_the_action_space_alone() -> None:
    assert Actions(MaskedIdentity(n=3, start=4).action_space).head == Categorical(3)
