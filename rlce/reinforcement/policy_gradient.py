"""`PolicyGradient`: an agent of a policy, a method and, for some methods, a critic."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self, cast

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import ArrayLike, NDArray
from torch import nn

from rlce import checkpoint, threads
from rlce.data import ReturnScale, Standardizer
from rlce.network import WithLogStd, checked_device, numpy_forward
from rlce.optimization import Optimization, check, check_kind, check_number
from rlce.reinforcement import environments, files, loss, masks, methods, networks, recipes, shown, spaces
from rlce.reinforcement.environments import Environments, EnvLike
from rlce.reinforcement.evaluation import Evaluation, monitored
from rlce.reinforcement.files import Saved
from rlce.reinforcement.loss import Learner
from rlce.reinforcement.methods import Method
from rlce.reinforcement.networks import Networks
from rlce.reinforcement.rollout import Collector, Rollout
from rlce.reinforcement.settings import resolved
from rlce.scalars import POLICY_LAYOUT
from rlce.tracking import Details, Tracker
from rlce.trainer import Callback, Round, Stopping, Trainer


class PolicyGradient:
    """A policy-gradient agent for a Gymnasium task.

    Actions may be Discrete, MultiDiscrete, MultiBinary or Box (see `rlce.heads`). If the environment gives action
    masks, the agent never takes a forbidden action (see `rlce.masks`).

    An argument that is None takes the recipe's value or, without a recipe, the default of
    `rlce.reinforcement.settings.Settings`.

    Args:
        env: an environment id, a function that returns a `gymnasium.Env`, or a `gymnasium.vector.VectorEnv`. The id
            "module:Name-v0" imports the module first, which registers the environment.
        method: the name of one of `rlce.methods`, with its defaults, or a `rlce.methods.Method`.
        hidden: widths of the hidden layers of the policy and of the critic; the two networks share nothing.
        num_envs: number of copies of the environment. A VectorEnv has its own number; a method with groups makes one
            copy for each episode of a round.
        seed: fixes everything: initial weights, environments, actions, minibatch order. Global generators are neither
            used nor changed, except by the modules of a ``network`` factory (such as torch.nn.Dropout); the factory
            itself is called under a fixed seed.
        log_dir: TensorBoard directory; None for no output.
        log: how much is written there: "all", "scalars" (no histograms, no images) or "none".
        recipe: the name of one of `rlce.recipes`, which gives the environment and all settings. With another ``env``,
            its settings are used there.
        learning_rate: replaces the learning rate of the optimisation in force and keeps its other numbers.
        env_kwargs: keyword arguments of the environment, for an id.
        network: a factory ``(n_inputs, n_outputs) → nn.Module`` in place of the MLP, for the policy and the critic; if
            it has a parameter ``role``, it is told which of the two. Or two factories: a pair (policy, critic), or a
            mapping from "policy" and "critic". For a Box of D numbers, the policy's ``n_outputs`` is D: the means.
            Policy and critic may share a part (see `rlce.reinforcement.networks`).
        activation: activation function of the MLP (see `rlce.network.MLP`).
        optimization: optimiser, learning rate, schedule, clipping.
        evaluation: evaluate during training and keep the best policy; None for no evaluation.
        normalize_observations: standardise the numbers of a Box in observations by running statistics; classes stay 0
            and 1. The statistics change at the start of a round, when the observations have doubled in number since
            they last changed. They are saved with the policy and do not change outside training.
        rescale_actions: for a Box, map the policy's −1 … 1 to the lower … upper bound (the default where the bounds are
            finite); False sends its numbers unchanged, and clipped to the bounds.
        scale_rewards: in training, divide rewards by the running deviation of their discounted sum (γ = 0.99).
        initial_deviation: for a Box, the standard deviation of the policy at the start, in units of its numbers.
        vectorization: "vector_entry_point", "sync" or "async"; by default the fastest way that the task has.
        device: device of the networks. The CPU is the fastest for small ones.
        method_arguments: numbers of the method by name, such as ``discount=0.98``, if ``method`` is no Method object.

    Attributes:
        actions: the action space: the policy's head, and how its samples become actions.
        head: what the policy's outputs mean.
        policy: the network observation → outputs.
        critic: the network observation → value, or None.
        reference: the initial policy, if the method penalises the distance from it, else None. It sees observations
            through the current statistics.
        vectorization: how the environments were made; "given" for a VectorEnv.
        learner: head, networks and statistics together, as the loss takes them.
        num_envs: number of environments.
        steps: environment steps of all finished rounds.
        trainer: the state of training: `Trainer.progress`, `Trainer.best`.

    Raises:
        ValueError: an unknown environment, recipe, method or setting, or a log directory that cannot be written to.
        TypeError: an action or observation space that is not served, or an argument that neither the agent nor the
            method takes; the message lists those of the method.

    Example:
        >>> agent = PolicyGradient("CartPole-v1", method="ppo", num_envs=4, seed=0).learn(256)
        >>> int(agent.predict(np.zeros(4, np.float32), deterministic=True)) in (0, 1)
        True
    """

    def __init__(
        self,
        env: EnvLike | Saved | None = None,
        method: str | Method | None = None,
        hidden: Sequence[int] | None = None,
        num_envs: int | None = None,
        seed: int = 0,
        log_dir: str | os.PathLike[str] | None = None,
        *,
        log: str = "all",
        recipe: str | None = None,
        learning_rate: float | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        network: Networks | None = None,
        activation: str | None = None,
        optimization: Optimization | None = None,
        evaluation: Evaluation | None = None,
        normalize_observations: bool | None = None,
        rescale_actions: bool | None = None,
        scale_rewards: bool | None = None,
        initial_deviation: float | None = None,
        vectorization: str | None = None,
        device: str | torch.device = "cpu",
        **method_arguments: Any,
    ) -> None:
        given = {
            "method": method, "num_envs": num_envs, "hidden": hidden, "activation": activation,
            "optimization": optimization, "learning_rate": learning_rate, "scale_rewards": scale_rewards,
            "normalize_observations": normalize_observations, "rescale_actions": rescale_actions,
            "initial_deviation": initial_deviation,
        }  # fmt: skip
        task = None if recipe is None else recipes.get(recipe)
        chosen = resolved(None if task is None else task.settings, given, method_arguments)
        env, env_kwargs = recipes.environment(task, env, env_kwargs)
        saved = env if isinstance(env, Saved) else None
        self._env: EnvLike | None = cast(EnvLike, env) if saved is None else saved.env
        self._from_file = () if saved is None else saved.from_file
        self.method, self.optimization, self.num_envs = chosen.method, chosen.optimization, chosen.num_envs
        self._timesteps = None if task is None else task.timesteps
        if evaluation is not None:
            check_kind("evaluation", evaluation, Evaluation, "Evaluation(every=10_000)")
            if evaluation.env is None and isinstance(self._env, VectorEnv):
                raise ValueError("evaluation.env is needed if env is a VectorEnv, which cannot be made twice")
        environments.check_request(self.num_envs, vectorization)
        check("env_kwargs", env_kwargs, isinstance(env_kwargs, Mapping), "be a mapping or None")
        checkpoint.check_json("env_kwargs", dict(env_kwargs))
        own = {"seed": seed, "env_kwargs": dict(env_kwargs), "vectorization": vectorization}
        self._settings: dict[str, Any] = chosen.to_json() | own
        self._factories, self.evaluation = networks.factories(network), evaluation
        self.device = checked_device(device)
        network_seeds, *others = environments.seed_sequence(seed).spawn(5)
        self._seed_generators(others)
        self.vectorization = "not made yet"
        self._collector: Collector | None = None
        if saved is not None:
            self.observation_space, self.action_space = saved.observation_space, saved.action_space
            self._build(network_seeds, (log_dir, log), loaded=True)
            return
        envs = self._make_environments()
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space
        try:
            self._build(network_seeds, (log_dir, log), loaded=False)
            self._collector = Collector(Environments(envs), self.actions, self._collector_seeds)
        except BaseException:
            self._close(envs)
            raise

    def _build(
        self, network_seeds: np.random.SeedSequence, where: tuple[str | os.PathLike[str] | None, str], loaded: bool
    ) -> None:
        """Make networks, statistics and trainer, which need the spaces but no environment."""
        self.actions = spaces.Actions(self.action_space, self._settings["rescale_actions"])
        self.head = self.actions.head
        self._settings["rescale_actions"] = self.actions.rescale  # files hold what is in force, not the default
        self._input_space = masks.input_space(self.observation_space, self.action_space)
        width = spaces.flat_width(self._input_space)
        widths, seeds = (width, spaces.flat_width(self.action_space)), environments.spawn_ints(network_seeds, 2)
        made = networks.make(self.head, widths, self.method, self._factories, self._settings, seeds)
        self.networks = nn.ModuleDict(made).to(self.device)
        self.policy, self.critic, self.reference = made["policy"], made.get("critic"), made.get("reference")
        numeric = spaces.numeric_columns(self._input_space)
        if not loaded:  # old files have statistics of classes, too
            self._settings["normalize_observations"] &= bool(numeric.any())
        normalized = self._settings["normalize_observations"]
        self.normalizer = Standardizer(width, clip=10.0, columns=numeric) if normalized else None
        self.learner = Learner(self.head, self.policy, self.critic, self.reference, self.normalizer, self.device)
        self.return_scale = ReturnScale() if self._settings["scale_rewards"] else None
        self._unseen = Standardizer(width)  # of the observations that the normalizer's statistics do not hold yet
        self._replay: deque[tuple[Rollout, NDArray[Any]]] = deque(maxlen=self.method.replay + 1)
        self._steps_before = 0
        self._round: loss.Transitions | None = None  # the last one's rows
        # Last, because it makes the log directory, which bad input must not leave behind.
        scale = None if self.return_scale is None else self.return_scale.statistics
        statistics = {"normalizer": self.normalizer, "return_scale": scale}
        self.trainer = Trainer(self.networks, self.optimization, Tracker(*where), statistics)

    def _seed_generators(self, seeds: Sequence[np.random.SeedSequence]) -> None:
        self._collector_seeds, minibatch_seeds, self._evaluation_seeds, predict_seeds = seeds
        self._minibatch_generator = torch.Generator().manual_seed(environments.spawn_ints(minibatch_seeds, 1)[0])
        self._predict_generator = np.random.Generator(np.random.PCG64(predict_seeds))

    @property
    def steps(self) -> int:
        """Environment steps of all finished rounds, without ghost steps."""
        return self._steps_before + (self._collector.steps_taken if self._collector is not None else 0)

    @property
    def trained_in(self) -> tuple[str | None, dict[str, Any]]:
        """The environment's id (None for a factory or a VectorEnv) and its keyword arguments."""
        return (self._env if isinstance(self._env, str) else None), self._settings["env_kwargs"]

    def learn(
        self,
        total_timesteps: int | None = None,
        *,
        callback: Callback | None = None,
        stopping: Stopping | None = None,
        progress_bar: bool = False,
    ) -> Self:
        """Train for at least this many more environment steps; the last round is completed.

        A second call continues with the same parameters, optimiser, environments and counters. Each call has a
        learning-rate schedule of its own, from its start to its end; with ``optimization.schedule_timesteps`` one
        schedule covers all calls, also those after `load`, and when it is over the rate stays where it ended. Each call
        completes its last round, so many short calls make more steps than their sum; they train about as well as one.

        Small networks are trained in one thread, whatever numbers torch and the BLAS have; see `rlce.threads`.

        An error or an interrupt in the middle of a round discards the round: its steps do not count, and the next call
        begins new episodes (with "async" in new environments, after any error).

        Args:
            total_timesteps: environment steps of this call; None for the recipe's.
            callback: called at the end of every round with `rlce.trainer.Progress`, which has the episodes that ended
                in it; what it adds to ``progress.scalars`` is logged. If it returns True, training stops.
            stopping: stop conditions on the mean return of evaluations (without evaluation, of training episodes).
            progress_bar: show return, speed and time left on standard error.

        Returns:
            The agent.

        Raises:
            ValueError: fewer than one step, none without a recipe, or (after `load`) no environment or method to learn
                with, or an environment whose id in the file names a module, which only you may import.
            FloatingPointError: NaN or infinity; the message names where it began.
            RuntimeError: a worker process of the environments died.

        Warns:
            UserWarning: after `load`, the environment is made from the id and keyword arguments in the file; or the
                whole schedule of ``optimization.schedule_timesteps`` is over before the call begins.
        """
        total = self._timesteps if total_timesteps is None else total_timesteps
        if total is None:
            raise ValueError("total_timesteps: pass a number of environment steps; only a recipe has its own")
        check_number("total_timesteps", total, lambda steps: steps >= 1, "be a number of at least 1")
        if self.method.weight is methods.absent:
            which = "is not the library's own, or has a number that is a function"
            raise ValueError(f"method: {self.method.name!r} {which}; pass it to load(method=...)")
        env_kwargs = self._settings["env_kwargs"]
        files.announce(self._from_file, env_kwargs)
        self._from_file = ()  # once is enough
        self.optimization.factor(0.0)  # raises if the schedule is a function that the file does not hold
        collector = self._ready_collector()
        tracker, end, succeeded = self.trainer.tracker, self.steps + int(total), False
        named = shown.hyperparameters(self.trained_in[0], self.num_envs, self._settings, self.method, self.optimization)
        try:
            with monitored(self, self.evaluation, self._env, env_kwargs, self._evaluation_seeds) as monitor:
                if monitor.evaluate is not None:
                    monitor = dataclasses.replace(monitor, details=self._details)
                tracker.open(after_step=self.steps)
                tracker.begin({**self._config(), "vectorization": self.vectorization}, named, POLICY_LAYOUT)
                self.trainer.fit(
                    self._rounds(collector, end),
                    partial(loss.loss, method=self.method, learner=self.learner),
                    total=end,
                    monitor=monitor,
                    stopping=stopping,
                    callback=callback,
                    progress_bar=progress_bar,
                )
                if monitor.details is not None:
                    tracker.details(monitor.details, self.steps, last=True)
            succeeded = True
        except BaseException:
            if self.vectorization == "async":  # Ctrl-C reaches the workers too, and one may still compute a step
                environments.close(collector.environments.envs, force=True)
            raise
        finally:
            tracker.close(succeeded)
            self._round = None
        return self

    def _details(self) -> Details:
        assert self._round is not None
        return shown.of_round(self._round, self.method, self.learner, self.trainer.fraction)

    def restore_best(self) -> float:
        """Restore the policy, with its statistics, that evaluated best in training, and return its mean return.

        `save` keeps it in the file. After `load`, `learn` goes on comparing with it, unless ``env`` or ``evaluation``
        was passed to `load`.

        Raises:
            ValueError: nothing was evaluated.
        """
        return self.trainer.restore_best()

    def _rounds(self, collector: Collector, end: int) -> Iterator[Round]:
        method, normalizer = self.method, self.normalizer
        a_row = threads.multiply_adds(self.trainer.module, collector.environments.width)
        while self.steps < end:
            if normalizer is not None and self._unseen.count > 0 and self._unseen.count >= normalizer.count:
                # Not earlier: acting, learning and evaluating must see the same statistics throughout a round. And
                # seldom: the networks must learn anew what their inputs mean, and late in training that does harm.
                normalizer.merge(self._unseen.moments)
                self._unseen = Standardizer(normalizer.width)
            with threads.one_thread(collector.environments.n * a_row):
                rollout = self._gather(collector)
            if not rollout.valid.any():
                continue  # a single step that fell on ghost steps alone
            with threads.one_thread(rollout.valid.size * a_row):
                rows, scalars = self._prepare(rollout)
            self._round = rows
            scalars |= collector.scalars()
            if isinstance(self.policy, WithLogStd):
                scalars["train/action_std"] = float(self.policy.log_std.detach().exp().mean())
            self._unseen.update(rollout.observation[rollout.valid])
            batches = loss.batches(rows, method, self._minibatch_generator, self.learner, self.trainer.fraction)
            yield Round(batches, self.steps, scalars, collector.ended)

    def _gather(self, collector: Collector) -> Rollout:
        """What the policy does in a round."""
        method, policy = self.method, numpy_forward(self.policy)
        act = policy if self.normalizer is None else lambda x: policy(self.learner.seen(x))
        if method.episodes is None:
            return collector.steps(act, method.steps)
        return collector.episodes(act, method.episodes, method.group_size or 1)

    def _prepare(self, rollout: Rollout) -> tuple[loss.Transitions, dict[str, float]]:
        """Rows of this round and of the earlier rounds that the method uses again."""
        method, factor, behaviour = self.method, 1.0, None
        if self.return_scale is not None:
            done = rollout.terminated | rollout.truncated
            self.return_scale.update(rollout.reward, done, rollout.valid, goes_on=rollout.time[0] > 0)
            factor = self.return_scale.factor
        if method.replay:
            self._replay.append((rollout, self.learner.log_prob(self.learner.look(rollout))))
            rollout, behaviour = loss.join(self._replay)
        return loss.prepare(rollout, method, self.learner, factor, behaviour)

    def __repr__(self) -> str:
        """What is trained, and how far.

        Example:
            >>> PolicyGradient("CartPole-v1", "ppo")
            <PolicyGradient: ppo on CartPole-v1, 0 steps>
        """
        env = self.trained_in[0] or "environments of one's own"
        return f"<{type(self).__name__}: {self.method.name} on {env}, {self.steps:,} steps>"

    def predict(
        self,
        observation: Any,
        deterministic: bool = False,
        mask: ArrayLike | None = None,
        *,
        generator: np.random.Generator | None = None,
    ) -> NDArray[Any]:
        """Actions that the environment accepts.

        Args:
            observation: one observation of the environment, or a batch of them (leaf by leaf for Tuple and Dict
                spaces).
            deterministic: the most probable action; by default one drawn from the policy.
            mask: ``[K]`` or ``[B, K]``, true for allowed classes (see `rlce.masks`). By default the mask in the
                observation, if it has one, else everything is allowed.
            generator: source of the draw; by default the agent's own.

        Returns:
            One action for one observation, or ``[B, ...]`` actions for a batch.

        Raises:
            ValueError: a shape that does not fit the observation space, a class outside it, a mask that forbids every
                action, or an observation for which the policy's outputs are NaN or infinite.
            TypeError: a mask for actions that are not choices among classes.
        """
        batched = spaces.is_batch(self._input_space, observation)
        outputs = self.outputs(observation, mask)
        if deterministic:
            stored = self.head.mode(outputs)
        else:
            shape = (len(outputs), *self.head.target_shape)
            stored = self.head.sample(outputs, (generator or self._predict_generator).random(shape))
        action = self.actions.to_environment(stored)
        if batched:
            return action
        return np.asarray(action[0]) if self.head.target_shape else action[0]  # a Box of no dimension wants an array

    def outputs(self, observation: Any, mask: ArrayLike | None = None) -> NDArray[Any]:
        """What the policy's network returns; `head` says what it means.

        Args:
            observation: as in `predict`.
            mask: as in `predict`.

        Returns:
            ``[B, n_outputs]``, B = 1 for one observation. For classes, these are logits, −inf for a forbidden one; for
            a Box of D numbers, D means and the logarithms of D deviations, in the policy's own unit.

        Raises:
            ValueError: as in `predict`.
            TypeError: as in `predict`.

        Example:
            >>> agent = PolicyGradient("CartPole-v1", seed=0)
            >>> agent.head.probabilities(torch.from_numpy(agent.outputs(np.zeros(4), mask=[True, False])))
            tensor([[1., 0.]])
        """
        rows = spaces.flatten_batch(self._input_space, observation)
        outputs = numpy_forward(self.policy)(self.learner.seen(rows))
        if not np.isfinite(outputs).all():
            raise ValueError(f"observation: the policy's outputs are not finite for {observation!r}")
        if mask is None and masks.in_observation(self.observation_space):
            mask = masks.from_observation(observation, len(rows))
        if mask is None:
            return outputs
        return masks.hide(outputs, masks.checked(mask, len(rows), self.action_space))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the policy (the last and the best), critic, statistics and optimiser into one file, atomically.

        The file holds no pickle. A loaded agent acts as the last policy; `restore_best` changes to the best one.

        Args:
            path: the file; an existing one is replaced.

        Raises:
            ValueError: the file cannot be written.
        """
        files.save(self, path, self._config())

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        env: EnvLike | None = None,
        network: Networks | None = None,
        *,
        method: str | Method | None = None,
        evaluation: Evaluation | None = None,
        optimization: Optimization | None = None,
        num_envs: int | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        log: str = "all",
        device: str | torch.device = "cpu",
    ) -> Self:
        """Load an agent. `predict` needs no environment; `learn` makes the saved one from its id.

        `learn` then begins new episodes with new random numbers (drawn from the seed and the number of steps), and with
        nothing to replay.

        Args:
            path: the file.
            env: the environment to learn in; by default the one whose id was saved. Needed if the agent was trained in
                one from a factory, or in a VectorEnv.
            network: the factory or factories; needed if the saved networks are not the library's MLPs.
            method: the method, or the name of one with its defaults; needed for `learn` if the saved one is not the
                library's own.
            evaluation: replaces the saved one; needed for `learn` if the saved one's environment was not an id.
            optimization: replaces the saved one; needed for `learn` if the saved schedule was a function. The same
                optimiser keeps its moments.
            num_envs: replaces the saved number of environments.
            env_kwargs: keyword arguments of ``env``, for an id.
            log_dir: TensorBoard directory.
            log: how much is written there, as for the constructor.
            device: device of the networks.

        Returns:
            The agent.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is of another kind or damaged, needs ``network``, or does not fit the other arguments;
                or ``env_kwargs`` came without ``env``.
        """
        given = {"method": method, "evaluation": evaluation, "optimization": optimization, "num_envs": num_envs}
        agent: Self = files.load(cls, path, env, env_kwargs, network, given, checked_device(device))
        agent.trainer.tracker = Tracker(log_dir, log)
        return agent

    def _ready_collector(self) -> Collector:
        """The collector; with new environments if there are none, or if the agent's own were closed."""
        collector = self._collector
        if collector is not None and (
            self.vectorization == "given" or not collector.environments.envs.unwrapped.closed
        ):
            return collector
        if self._env is None:
            raise ValueError("env: the saved agent's environment was not an id; pass env to load() before learning")
        envs = self._make_environments()
        for name in ("observation_space", "action_space"):
            was, now = getattr(self, name), getattr(envs, f"single_{name}")
            if was != now:
                self._close(envs)
                raise ValueError(f"env: its {name} is {now}, but the agent was made for {was}")
        if collector is None:
            collector = self._collector = Collector(Environments(envs), self.actions, self._collector_seeds)
        else:
            collector.environments = Environments(envs)
        return collector

    def _make_environments(self) -> VectorEnv[Any, Any, Any]:
        """Make the environments that the settings and the method ask for."""
        settings, groups = self._settings, self.method.group_size is not None
        vectorization = settings["vectorization"]
        if groups and not isinstance(self._env, VectorEnv):
            # Each copy plays one episode, from a seed that it shares with the other copies of its group.
            self.num_envs, vectorization = self.method.episodes or self.num_envs, vectorization or "sync"
        assert self._env is not None
        made = environments.make_environments(self._env, self.num_envs, settings["env_kwargs"], vectorization)
        envs, self.vectorization = made
        self.num_envs = envs.num_envs
        if groups and envs.num_envs != self.method.episodes:
            raise ValueError(f"groups need one episode per environment: {self.method.episodes}, got {envs.num_envs}")
        return envs

    def _close(self, envs: VectorEnv[Any, Any, Any]) -> None:
        if self.vectorization != "given":
            environments.close(envs)

    def close(self) -> None:
        """Close the log and the environments that the agent made; a later `learn` opens new ones."""
        if self._collector is not None:
            self._close(self._collector.environments.envs)
        self.trainer.tracker.close()

    def _config(self) -> dict[str, Any]:
        """The agent's configuration in JSON's types."""
        return {
            "env": self.trained_in[0],
            "num_envs": self.num_envs,
            "settings": self._settings,
            "method": methods.to_json(self.method),
            "optimization": self.optimization.to_json(),
            "evaluation": None if self.evaluation is None else self.evaluation.to_json(),
            "foreign_network": self._factories is not None,
            "observation_space": spaces.to_json(self.observation_space),
            "action_space": spaces.to_json(self.action_space),
        }
