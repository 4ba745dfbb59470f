"""`PolicyGradient`: a policy, perhaps a critic, a method, and the one loop."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor, nn

from rlce import checkpoint, methods, spaces
from rlce.data import ReturnScale, Standardizer, minibatches
from rlce.evaluation import Evaluation, evaluate_policy, evaluation_width
from rlce.heads import head_for, squared
from rlce.methods import Experience, Method
from rlce.network import MLP, numpy_forward
from rlce.objective import weighted_mean
from rlce.optimization import Optimization
from rlce.rollout import (
    Collector,
    Environments,
    EnvLike,
    Rollout,
    make_environments,
    seed_sequence,
    spawn_ints,
)
from rlce.tracking import Tracker
from rlce.trainer import Callback, Monitor, Round, Stopping, Trainer

NetworkFactory = Callable[[int, int], nn.Module]

_DEFAULT_OPTIMIZATION = Optimization(learning_rate=2.5e-3, schedule="linear", floor=0.1, max_gradient_norm=0.5)


class Transitions(NamedTuple):
    """Rows of a rollout, ready for the loss; ghost steps and padding are gone. B rows."""

    observation: Tensor  # [B, D] as the policy saw it
    action: Tensor  # [B] class indices
    advantage: Tensor  # [B]
    behaviour_log_prob: Tensor  # [B] log π(a|s) when a was taken
    target: Tensor  # [B] for the critic; empty without one

    def rows(self, index: Tensor) -> Transitions:
        """The rows of these indices."""
        return Transitions(*(field[index] if len(field) else field for field in self))


class Batch(NamedTuple):
    """What one gradient step uses."""

    transitions: Transitions
    normalizer: float  # Z


class PolicyGradient:
    """A policy-gradient agent for a Gymnasium task with discrete actions.

    Args:
        env: an environment id, a function that returns a `gymnasium.Env`, or a `gymnasium.vector.VectorEnv`.
        method: "reinforce", "actor-critic", "ppo", or a `rlce.methods.Method`.
        hidden: widths of the hidden layers of the policy, and of the critic, which shares nothing with it.
        num_envs: copies of the environment; a VectorEnv brings its own number.
        seed: fixes everything: initial weights, environments, actions, minibatch order. Global generators are neither
            read nor advanced, except by a ``network`` factory, which is called under a fixed seed.
        log_dir: TensorBoard directory; None for no output.
        env_kwargs: keyword arguments of the environment, for an id.
        network: a factory ``(n_inputs, n_outputs) → nn.Module`` in place of the MLP, for the policy and the critic.
        activation: of the MLP (see `rlce.network.MLP`).
        optimization: optimiser, learning rate, schedule, clipping.
        evaluation: evaluate during training and keep the best policy; None for not.
        normalize_observations: standardise by running statistics, which are part of the saved policy and frozen
            outside training.
        scale_rewards: divide rewards by the running deviation of their discounted sum, for training alone.
        vectorization: "vector_entry_point", "sync" or "async"; by default the fastest that the task has.
        device: where the networks live. The CPU is the fastest place for small ones.

    Attributes:
        policy: the network observation → logits.
        critic: the network observation → value, or None.
        vectorization: how the environments were made; "given" for a VectorEnv.
        num_envs: how many there are.
        steps: environment steps so far.
        trainer: the loop's state: `Trainer.progress`, `Trainer.best`.

    Raises:
        ValueError: an unknown environment, method or setting, or a log directory that cannot be written to.
        TypeError: an action or observation space that is not served.

    Example:
        >>> agent = PolicyGradient("CartPole-v1", method="ppo", num_envs=4, seed=0).learn(256)
        >>> int(agent.predict(np.zeros(4, np.float32), deterministic=True)) in (0, 1)
        True
    """

    def __init__(
        self,
        env: EnvLike,
        method: str | Method = "ppo",
        hidden: Sequence[int] = (64, 64),
        num_envs: int = 8,
        seed: int = 0,
        log_dir: str | os.PathLike[str] | None = None,
        *,
        env_kwargs: Mapping[str, Any] | None = None,
        network: NetworkFactory | None = None,
        activation: str = "tanh",
        optimization: Optimization | None = None,
        evaluation: Evaluation | None = None,
        normalize_observations: bool = False,
        scale_rewards: bool = False,
        vectorization: str | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.method = methods.named(method) if isinstance(method, str) else method
        if evaluation is not None and evaluation.env is None and isinstance(env, VectorEnv):
            raise ValueError("evaluation.env is needed where env is a VectorEnv, which cannot be made twice")
        tracker = Tracker(log_dir)
        self._env, self._env_kwargs = env, dict(env_kwargs or {})
        self._asked_vectorization = vectorization
        envs, self.vectorization = make_environments(env, num_envs, env_kwargs, vectorization)
        self.num_envs, self._seed = envs.num_envs, seed
        self._hidden, self._activation = tuple(hidden), activation
        self._network_factory = network
        self.optimization, self.evaluation = optimization or _DEFAULT_OPTIMIZATION, evaluation
        self._normalize_observations, self._scale_rewards = normalize_observations, scale_rewards
        self.device = torch.device(device)
        self._build(envs.single_observation_space, envs.single_action_space, tracker)
        self._environments: Environments | None = Environments(envs)
        self._collector: Collector | None = Collector(self._environments, self.head, self._collector_seeds)

    def _build(self, observation_space: Any, action_space: Any, tracker: Tracker) -> None:
        """Everything that needs the spaces but no environment."""
        self.observation_space, self.action_space = observation_space, action_space
        self.head = head_for(action_space)
        width = spaces.flat_width(observation_space)
        network_seeds, self._collector_seeds, minibatch_seeds, self._evaluation_seeds, predict_seeds = seed_sequence(
            self._seed
        ).spawn(5)
        policy_seed, critic_seed = spawn_ints(network_seeds, 2)
        networks = {"policy": self._network(width, self.head.n_outputs, policy_seed, output_gain=0.01)}
        if self.method.critic:
            networks["critic"] = self._network(width, 1, critic_seed, output_gain=1.0)
        self.networks = nn.ModuleDict(networks).to(self.device)
        self.policy = self.networks["policy"]
        self.critic = self.networks["critic"] if self.method.critic else None
        self.trainer = Trainer(self.networks, self.optimization, tracker)
        self.normalizer = Standardizer(width, clip=10.0) if self._normalize_observations else None
        self.return_scale = ReturnScale() if self._scale_rewards else None
        self._minibatch_generator = torch.Generator().manual_seed(spawn_ints(minibatch_seeds, 1)[0])
        self._predict_generator = np.random.Generator(np.random.PCG64(predict_seeds))
        self._steps_before = 0

    def _network(self, n_inputs: int, n_outputs: int, seed: int, output_gain: float) -> nn.Module:
        if self._network_factory is None:
            return MLP(
                n_inputs,
                n_outputs,
                self._hidden,
                activation=self._activation,
                output_gain=output_gain,
                seed=seed,
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._network_factory(n_inputs, n_outputs)

    @property
    def steps(self) -> int:
        """Environment steps so far, ghost steps not counted."""
        return self._steps_before + (self._collector.steps_taken if self._collector is not None else 0)

    @property
    def trained_in(self) -> tuple[str | None, dict[str, Any]]:
        """The environment's id (None for a factory or a VectorEnv) and its keyword arguments."""
        return (self._env if isinstance(self._env, str) else None), self._env_kwargs

    # -------------------------------------------------------------------------------------------------------- learning

    def learn(
        self,
        total_timesteps: int,
        *,
        callback: Callback | None = None,
        stopping: Stopping | None = None,
        progress_bar: bool = False,
    ) -> Self:
        """Train for at least this many more environment steps; the last round is finished.

        Called again, it goes on: parameters, optimiser, environments, counters and the schedule, which ends where
        ``optimization.schedule_timesteps`` or the first call's total says.

        Args:
            total_timesteps: environment steps of this call.
            callback: called at the end of every round with `rlce.trainer.Progress`; a true answer stops.
            stopping: stop conditions on the evaluation's mean return (without evaluation, on the training return).
            progress_bar: show steps, speed and return.

        Returns:
            The agent.

        Raises:
            ValueError: fewer than one step, or (after `load`) no environment or method to learn with.
            FloatingPointError: NaN or infinity, named where it began.
        """
        if total_timesteps < 1:
            raise ValueError(f"total_timesteps must be at least 1, got {total_timesteps}")
        if self.method.arguments == {}:
            raise ValueError(f"method: {self.method.name!r} is not the library's own; pass it to load(method=...)")
        collector = self._ready_collector()
        tracker, end = self.trainer.tracker, self.steps + total_timesteps
        tracker.open(after_step=self.steps)
        if self.trainer.progress.rounds == 0:
            tracker.config(self._config())
        try:
            with _Evaluator(self) as evaluate:
                self.trainer.fit(
                    self._rounds(collector, end),
                    self._loss,
                    total=end,
                    monitor=Monitor("rollout/ep_rew_mean")
                    if self.evaluation is None
                    else Monitor("eval/mean_reward", evaluate=evaluate, every=self.evaluation.every),
                    stopping=stopping,
                    callback=callback,
                    progress_bar=progress_bar,
                )
            last = self.trainer.progress.scalars
            metrics = {
                f"hparam/{name}": last[name] for name in ("rollout/ep_rew_mean", "eval/mean_reward") if name in last
            }
            tracker.hyperparameters(self._flat_config(), metrics)
        finally:
            tracker.close()
        return self

    def restore_best(self) -> float:
        """Put back the policy that evaluated best in training, and return its mean return.

        Raises:
            ValueError: nothing was evaluated.
        """
        return self.trainer.restore_best()

    def _rounds(self, collector: Collector, end: int) -> Iterator[Round]:
        method = self.method
        while self.steps < end:
            policy = numpy_forward(self.policy)
            normalizer = self.normalizer
            act = policy if normalizer is None else lambda x, f=policy, g=normalizer: f(g(x))
            rollout = (
                collector.steps(act, method.steps)
                if method.episodes is None
                else collector.episodes(act, method.episodes)
            )
            if not rollout.valid.any():
                continue  # a single step that fell on ghost steps alone
            transitions, scalars = self._prepare(rollout)
            if collector.finished:
                returns, lengths = zip(*collector.finished, strict=True)
                scalars["rollout/ep_rew_mean"] = float(np.mean(returns))
                scalars["rollout/ep_len_mean"] = float(np.mean(lengths))
            yield Round(self._batches(transitions), self.steps, scalars)
            # Only now: within a round, acting and learning must see the same statistics.
            if normalizer is not None:
                normalizer.update(rollout.observation[rollout.valid])

    def _batches(self, transitions: Transitions) -> Iterator[Batch]:
        method, rows = self.method, len(transitions.action)
        # Z = episodes gives the gradient of the expected return of one episode.
        rows_per_unit = rows / method.episodes if method.per_episode and method.episodes else 1.0
        for _ in range(method.epochs):
            if method.minibatch_size is None or method.minibatch_size >= rows:
                yield Batch(transitions, rows / rows_per_unit)
                continue
            for index in minibatches(rows, method.minibatch_size, self._minibatch_generator):
                yield Batch(transitions.rows(index.to(self.device)), len(index) / rows_per_unit)

    def _prepare(self, rollout: Rollout) -> tuple[Transitions, dict[str, float]]:
        """Credit a rollout; keep its valid rows."""
        method, valid = self.method, rollout.valid
        observation, next_observation = rollout.observation, rollout.next_observation
        if self.normalizer is not None:
            observation, next_observation = self.normalizer(observation), self.normalizer(next_observation)
        reward = rollout.reward
        if self.return_scale is not None:
            done = rollout.terminated | rollout.truncated
            self.return_scale.update(reward, done, valid, fresh=method.episodes is not None)
            reward = reward * np.float32(self.return_scale.factor)
        value = next_value = None
        if self.critic is not None:
            forward, shape = numpy_forward(self.critic), valid.shape
            value, next_value = (
                np.where(valid, forward(x.reshape(-1, x.shape[-1])).reshape(shape), np.float32(0.0))
                for x in (observation, next_observation)
            )
        credit = method.credit(
            Experience(reward, rollout.terminated, rollout.truncated, valid, rollout.time, value, next_value)
        )
        advantage = credit.advantage[valid]
        if method.standardize:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        scalars: dict[str, float] = {}
        target = np.empty(0, np.float32)
        if credit.target is not None and value is not None:
            target = credit.target[valid]
            variance = float(target.var())
            if variance > 0:
                scalars["train/explained_variance"] = 1.0 - float((target - value[valid]).var()) / variance
        rows = [
            torch.from_numpy(x).to(self.device) for x in (observation[valid], rollout.action[valid], advantage, target)
        ]
        transitions = Transitions(rows[0], rows[1], rows[2], torch.empty(0), rows[3])
        if method.ratio:
            with torch.no_grad():
                log_prob = -self.head.cost(self.policy(transitions.observation), transitions.action)
            transitions = transitions._replace(behaviour_log_prob=log_prob)
        return transitions, scalars

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective on the actions taken, the bonus, and the critic's regression."""
        method, (rows, normalizer) = self.method, batch
        outputs = self.policy(rows.observation)
        cost = self.head.cost(outputs, rows.action)
        log_prob = -cost.detach()
        weight = method.weight(rows.advantage, log_prob, rows.behaviour_log_prob).detach()
        loss = policy_loss = weighted_mean(cost, weight, normalizer)
        entropy = self.head.entropy(outputs if method.entropy_weight else outputs.detach()).mean()
        scalars = {"train/policy_loss": policy_loss.detach(), "train/entropy": entropy.detach()}
        if method.entropy_weight:
            loss = loss - method.entropy_weight * entropy
        if method.ratio:
            log_ratio = log_prob - rows.behaviour_log_prob
            scalars["train/approx_kl"] = (log_ratio.exp() - 1.0 - log_ratio).mean()
            scalars["train/clip_fraction"] = ((weight == 0) & (rows.advantage != 0)).float().mean()
        if self.critic is not None:
            value_loss = squared(self.critic(rows.observation).squeeze(-1), rows.target).mean()
            loss = loss + method.value_weight * value_loss
            scalars["train/value_loss"] = value_loss.detach()
        return loss, scalars

    # ---------------------------------------------------------------------------------------------------------- acting

    def predict(
        self, observation: Any, deterministic: bool = False, *, generator: np.random.Generator | None = None
    ) -> NDArray[np.int64]:
        """Actions that the environment accepts.

        Args:
            observation: one observation of the environment, or a batch of them (leaf by leaf for Tuple and Dict
                spaces).
            deterministic: the most probable action; by default one drawn from the policy.
            generator: the source of the draw; by default the agent's own.

        Returns:
            A 0-d array for one observation, ``[B]`` for a batch.

        Raises:
            ValueError: a shape that does not fit the observation space.
        """
        batched = spaces.is_batch(self.observation_space, observation)
        if not batched:
            observation = spaces.batch_of_one(self.observation_space, observation)
        rows = spaces.flatten_batch(self.observation_space, observation)
        outputs = numpy_forward(self.policy)(rows if self.normalizer is None else self.normalizer(rows))
        if deterministic:
            index = self.head.mode(outputs)
        else:
            index = self.head.sample(outputs, (generator or self._predict_generator).random(len(outputs)))
        action = self.head.to_action(index)
        return action if batched else action[0]

    # --------------------------------------------------------------------------------------------------- saving,
    # loading

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write policy, critic, statistics and optimiser into one file, atomically; no pickle.

        Args:
            path: the file; an existing one is replaced whole.

        Raises:
            ValueError: it cannot be written.
        """
        tensors = {f"networks.{name}": tensor for name, tensor in self.networks.state_dict().items()}
        tensors |= {f"optimizer.{name}": t for name, t in self.trainer.optimizer.state.items() if isinstance(t, Tensor)}
        for name, statistics in self._statistics().items():
            tensors[f"{name}.mean"] = torch.from_numpy(statistics.mean)
            tensors[f"{name}.variance"] = torch.from_numpy(statistics.variance)
            tensors[f"{name}.count"] = torch.tensor(statistics.count)
        progress = self.trainer.progress
        state = {
            "steps": self.steps,
            "rounds": progress.rounds,
            "updates": progress.updates,
            "horizon": self.trainer.horizon,
            "plateau_factor": self.trainer.plateau_factor,
        }
        checkpoint.save(path, "PolicyGradient", {**self._config(), "state": state}, tensors)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        env: EnvLike | None = None,
        network: NetworkFactory | None = None,
        *,
        method: Method | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """An agent from a file. `predict` needs no environment; `learn` makes the saved one again, from its id.

        Going on after `load` starts new episodes with new random numbers (drawn from the seed and the steps done).

        Args:
            path: the file.
            env: where to learn on, if not in the environment that was saved by id; needed for one from a factory or
                a VectorEnv.
            network: the factory, where the saved network is not the library's MLP.
            method: the method, where the saved one is not the library's own; needed for `learn` alone.
            log_dir: TensorBoard directory.
            device: where the networks live.

        Returns:
            The agent.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no such file, is damaged, or needs ``network``.
        """
        config, tensors = checkpoint.load(path, cls.__name__)
        if config["network"] is None and network is None:
            raise ValueError(
                f"network: {str(path)!r} holds a network that is not the library's MLP; pass its factory again"
            )
        agent = cls.__new__(cls)
        agent._env, agent._env_kwargs = env if env is not None else config["env"], config["env_kwargs"]
        if env is not None:
            agent._env_kwargs = {}
        agent._asked_vectorization = config["vectorization"] if env is None else None
        agent.vectorization = "none yet"
        agent.num_envs, agent._seed = config["num_envs"], config["seed"]
        shape = config["network"] or {"hidden": (), "activation": "tanh"}
        agent._hidden, agent._activation = tuple(shape["hidden"]), shape["activation"]
        agent._network_factory = network
        agent.optimization = Optimization(**config["optimization"])
        agent.evaluation = Evaluation(**config["evaluation"]) if config["evaluation"] else None
        agent._normalize_observations, agent._scale_rewards = (
            config["normalize_observations"],
            config["scale_rewards"],
        )
        agent.device = torch.device(device)
        saved = config["method"]
        agent.method = method or (
            methods.named(saved["name"], saved["arguments"])
            if saved["arguments"] is not None
            else Method(saved["name"], _missing_rule, _missing_rule, saved["critic"], arguments={})
        )
        agent._build(
            spaces.from_json(config["observation_space"]),
            spaces.from_json(config["action_space"]),
            Tracker(log_dir),
        )
        agent._environments = agent._collector = None
        agent._restore(config["state"], tensors, path)
        return agent

    def _restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor], path: object) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}

        try:
            self.networks.load_state_dict(part("networks."))
            self.trainer.optimizer.restore(part("optimizer."))
            for name, statistics in self._statistics().items():
                saved = part(f"{name}.")
                statistics.restore(saved["mean"].numpy(), saved["variance"].numpy(), int(saved["count"]))
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"path: {str(path)!r} does not fit the network or settings it names: {error}") from error
        trainer = self.trainer
        self._steps_before = trainer.progress.step = state["steps"]
        trainer.progress.rounds, trainer.progress.updates = state["rounds"], state["updates"]
        trainer.horizon, trainer.plateau_factor = state["horizon"], state["plateau_factor"]
        *_, self._collector_seeds, self._evaluation_seeds = np.random.SeedSequence([self._seed, self.steps]).spawn(2)

    def _statistics(self) -> dict[str, Standardizer]:
        both = {
            "normalizer": self.normalizer,
            "return_scale": None if self.return_scale is None else self.return_scale.statistics,
        }
        return {name: statistics for name, statistics in both.items() if statistics is not None}

    def _ready_collector(self) -> Collector:
        if self._collector is None:
            if self._env is None:
                raise ValueError("env: the saved agent's environment was no id; pass env to load() before learning")
            envs, self.vectorization = make_environments(
                self._env, self.num_envs, self._env_kwargs, self._asked_vectorization
            )
            for name in ("observation_space", "action_space"):
                was, now = getattr(self, name), getattr(envs, f"single_{name}")
                if was != now:
                    envs.close()
                    raise ValueError(f"env: its {name} is {now}, but the agent was made for {was}")
            self._environments = Environments(envs)
            self._collector = Collector(self._environments, self.head, self._collector_seeds)
        return self._collector

    def _config(self) -> dict[str, Any]:
        """All that JSON can say of this agent."""
        evaluation = self.evaluation
        return {
            "env": self._env if isinstance(self._env, str) else None,
            "env_kwargs": self._env_kwargs,
            "num_envs": self.num_envs,
            "vectorization": self._asked_vectorization,
            "seed": self._seed,
            "observation_space": spaces.to_json(self.observation_space),
            "action_space": spaces.to_json(self.action_space),
            "method": {
                "name": self.method.name,
                "arguments": None if not self.method.arguments else dict(self.method.arguments),
                "critic": self.method.critic,
            },
            "network": None
            if self._network_factory is not None
            else {"hidden": list(self._hidden), "activation": self._activation},
            "optimization": dataclasses.asdict(self.optimization),
            "evaluation": None
            if evaluation is None
            else {
                "every": evaluation.every,
                "episodes": evaluation.episodes,
                "deterministic": evaluation.deterministic,
                "env": evaluation.env if isinstance(evaluation.env, str) else None,
            },
            "normalize_observations": self._normalize_observations,
            "scale_rewards": self._scale_rewards,
        }

    def _flat_config(self) -> dict[str, Any]:
        """The settings as a flat table, for TensorBoard's hyperparameter page."""
        config = self._config()
        method = {f"method.{name}": value for name, value in (self.method.arguments or {}).items()}
        optimization = {f"optimization.{name}": value for name, value in config["optimization"].items()}
        plain = {name: config[name] for name in ("env", "num_envs", "seed", "normalize_observations", "scale_rewards")}
        return {**plain, "method": self.method.name, "hidden": list(self._hidden), **method, **optimization}

    def close(self) -> None:
        """Close the environments that the agent made, and the log."""
        if self._environments is not None and self.vectorization != "given":
            self._environments.envs.close()
        self.trainer.tracker.close()


class _Evaluator:
    """Evaluates an agent during `learn`, on environments made once and seeds of its own."""

    def __init__(self, agent: PolicyGradient) -> None:
        self._agent = agent
        self._envs: VectorEnv[Any, Any, Any] | None = None
        self._how = "given"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._envs is not None and self._how != "given":
            self._envs.close()

    def __call__(self) -> dict[str, float]:
        agent, settings = self._agent, self._agent.evaluation
        assert settings is not None
        if self._envs is None:
            env, kwargs = (agent._env, agent._env_kwargs) if settings.env is None else (settings.env, {})
            width = evaluation_width(env, settings.episodes)
            self._envs, self._how = make_environments(env, width, kwargs)
        seeds = agent._evaluation_seeds.spawn(1)[0]
        return evaluate_policy(agent, self._envs, settings.episodes, settings.deterministic, seeds).scalars()


def _missing_rule(*_: object) -> Any:
    raise AssertionError("learn() refuses a method that was not passed again")
