"""Benchmarks of the agents and of starting up; `held` measures how fast CartPole-v1 is solved for good."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import scripts
from agents import cartpole, digits
from rlce import PolicyGradient, evaluate_policy, plots, recipes, threads, tracking
from rlce.network import MLP
from rlce.scalars import POLICY_LAYOUT, SCALARS
from rlce.trainer import Round, Trainer

EVALUATE_EVERY = 2_048
SOLVED = 475.0
PEERS = ("sb3-ppo", "sb3-ppo-floor")


@dataclass(frozen=True)
class Evaluated:
    """Environment steps and CPU seconds so far, and the mean returns of 100 greedy and 100 sampled episodes."""

    steps: int
    cpu_seconds: float
    greedy: float
    sampled: float


def held_solve(evaluations: list[Evaluated]) -> Evaluated | None:
    """The first evaluation from which all (at least three) are solved, greedy and sampled, to the end of the run.

    Example:
        >>> at = lambda steps, mean: Evaluated(steps, steps / 1000, mean, mean)
        >>> held_solve([at(1, 500), at(2, 9), at(3, 480), at(4, 500), at(5, 476)]).steps
        3
        >>> held_solve([at(1, 9), at(2, 500), at(3, 500)]) is None
        True
    """
    solved = [min(one.greedy, one.sampled) >= SOLVED for one in evaluations]
    first = len(solved)
    while first > 0 and solved[first - 1]:
        first -= 1
    return evaluations[first] if len(solved) - first >= 3 else None


@dataclass(frozen=True)
class Protocol:
    """How a run is evaluated.

    Attributes:
        env: where.
        env_kwargs: keyword arguments of the environment.
        every: about how often, in environment steps.
        episodes: on how many greedy and as many sampled episodes.
        max_steps: an episode is cut here.
    """

    env: str = "CartPole-v1"
    env_kwargs: Mapping[str, Any] | None = None
    every: int = EVALUATE_EVERY
    episodes: int = 100
    max_steps: int | None = None


class Stopwatch:
    """Evaluates after the first update past each multiple of ``protocol.every``. Its clock stops during evaluations.

    Args:
        agent: the agent to evaluate.
        seed: the seed of the evaluations, which have their own generators.
        protocol: where, how often and on how many episodes.
    """

    def __init__(self, agent: Any, seed: int, protocol: Protocol = Protocol()) -> None:
        self.agent, self.protocol, self.seeds = agent, protocol, np.random.SeedSequence([seed, 475])
        self.evaluations: list[Evaluated] = []
        self.cpu_seconds, self._since = 0.0, time.process_time()

    def boundary(self, steps: int) -> None:
        """Call after every update."""
        self.cpu_seconds += time.process_time() - self._since
        last, every = self.evaluations[-1].steps if self.evaluations else 0, self.protocol.every
        if steps // every > last // every:
            greedy, sampled = self.evaluate(self.protocol.episodes)
            self.evaluations.append(Evaluated(steps, self.cpu_seconds, greedy, sampled))
        self._since = time.process_time()

    def evaluate(self, episodes: int) -> tuple[float, float]:
        """Mean returns of this many greedy and of as many sampled episodes."""
        where: dict[str, Any] = {"env_kwargs": self.protocol.env_kwargs, "max_steps": self.protocol.max_steps}
        greedy, sampled = (
            evaluate_policy(self.agent, self.protocol.env, episodes, deterministic, seed, **where).returns.mean()
            for deterministic, seed in zip((True, False), self.seeds.spawn(2), strict=True)
        )
        return float(greedy), float(sampled)


def train_ours(recipe: str, seed: int, timesteps: int) -> list[Evaluated]:
    """Train one recipe for CartPole-v1."""
    agent = PolicyGradient(recipe=recipe, seed=seed)
    stopwatch = Stopwatch(agent, seed)
    agent.learn(timesteps, callback=lambda progress: stopwatch.boundary(progress.step))
    agent.close()
    return stopwatch.evaluations


class StableBaselines3Agent:
    """A model of Stable-Baselines3 as `evaluate_policy` takes it; ``normalize`` prepares its observations."""

    def __init__(self, model: Any, normalize: Callable[[Any], Any] = lambda observation: observation) -> None:
        self.model, self.normalize = model, normalize

    def predict(
        self, observation: Any, deterministic: bool = False, *, generator: np.random.Generator | None = None
    ) -> Any:
        """Actions for a batch of observations."""
        assert generator is not None
        with torch.random.fork_rng(devices=[]):  # sampling must not disturb the training run
            torch.manual_seed(int(generator.integers(2**62)))
            return self.model.predict(self.normalize(observation), deterministic=deterministic)[0]


def stable_baselines3_callback(stopwatch: Stopwatch, timesteps: float) -> Any:
    """A callback of Stable-Baselines3 that calls the stopwatch after every update and ends the run at this step."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Watch(BaseCallback):
        def _on_rollout_start(self) -> None:
            stopwatch.boundary(self.num_timesteps)

        def _on_step(self) -> bool:
            return self.num_timesteps < timesteps

    return Watch()


def falling(start: float, end: float = 0.0) -> Callable[[float], float]:
    """A linear schedule as Stable-Baselines3 takes it: a function of the remaining fraction of the run."""
    return lambda remaining: end + (start - end) * remaining


def train_stable_baselines3(schedule: str, seed: int, timesteps: int) -> list[Evaluated]:
    """Train Stable-Baselines3's PPO with the settings that RL Zoo publishes for CartPole-v1."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    # The published schedule falls to zero at 100,000 steps; "floor" falls to a tenth at the end of this run.
    floor, horizon = (0.1, timesteps) if schedule == "sb3-ppo-floor" else (0.0, 100_000)
    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=8, seed=seed),
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        gamma=0.98,
        n_epochs=20,
        ent_coef=0.0,
        learning_rate=falling(1e-3, 1e-3 * floor),
        clip_range=falling(0.2, 0.2 * floor),
        seed=seed,
        device="cpu",
    )
    stopwatch = Stopwatch(StableBaselines3Agent(model), seed)
    model.learn(horizon, callback=stable_baselines3_callback(stopwatch, timesteps))
    return stopwatch.evaluations


def spread(numbers: list[float], form: str) -> str:
    """Median and range."""
    if not numbers:
        return "—"
    return f"{statistics.median(numbers):{form}} ({min(numbers):{form}} to {max(numbers):{form}})"


@threads.one_thread()
def held(
    recipe: tuple[str, ...] = ("CartPole-v1/ppo",),
    seeds: int = 20,
    first_seed: int = 0,
    timesteps: Annotated[int | None, tyro.conf.arg(aliases=["--total-timesteps"])] = None,
    output: Path | None = None,
) -> None:
    """The held solve of CartPole-v1: solved, greedy and sampled, and at every later evaluation too.

    After the first update past each 2,048 environment steps, 100 greedy and 100 sampled episodes are played. A run is
    solved at the first evaluation from which all (at least three) stay >= 475, to the end of the run. CPU seconds are
    those of the process in training; making the agent does not count.

    Args:
        recipe: Recipes for CartPole-v1, and sb3-ppo, sb3-ppo-floor (Stable-Baselines3's PPO with RL Zoo's settings, and
            with a schedule that ends at a tenth; they need `make peers`). They take turns seed by seed, so that the
            load of the machine is the same for all.
        seeds: Number of seeds.
        first_seed: The first seed.
        timesteps: Environment steps of a run; by default the recipe's, and for peers that of CartPole-v1/ppo.
        output: File for all evaluations, as JSON.
    """
    scripts.check_writable(output, "--output")
    known = (*cartpole.RECIPES, *PEERS)
    for name in recipe:
        if name not in known:
            raise ValueError(f"--recipe must be one of {', '.join(known)}, got {name!r}")
    runs: dict[str, list[list[Evaluated]]] = {name: [] for name in recipe}
    for seed in range(first_seed, first_seed + seeds):
        for name in recipe:
            budget = cartpole.TIMESTEPS if name in PEERS else recipes.get(name).timesteps
            budget = budget if timesteps is None else timesteps
            if budget < EVALUATE_EVERY:
                raise ValueError(f"--timesteps must be at least {EVALUATE_EVERY:,} for an evaluation, got {budget:,}")
            train = train_stable_baselines3 if name in PEERS else train_ours
            runs[name].append(train(name, seed, budget))
            solve, last = held_solve(runs[name][-1]), runs[name][-1][-1]
            when = f"held from {solve.steps:7,} steps, {solve.cpu_seconds:6.2f} CPU s" if solve else "not held"
            print(
                f"{name:32} seed {seed:3}  {when:42} at {last.steps:,}: "
                f"greedy {last.greedy:5.1f}, sampled {last.sampled:5.1f}, {last.cpu_seconds:.2f} CPU s",
                flush=True,
            )
    print("\n| recipe | held | steps to solve | CPU s to solve | CPU s of the run | best | end, greedy / sampled |")
    print("|---|---|---|---|---|---|---|")
    for name, all_evaluations in runs.items():
        solves = [solve for evaluations in all_evaluations if (solve := held_solve(evaluations)) is not None]
        ends = [evaluations[-1] for evaluations in all_evaluations]
        # The best evaluation, by the worse of greedy and sampled.
        bests = [max(min(one.greedy, one.sampled) for one in evaluations) for evaluations in all_evaluations]
        print(
            f"| {name} | {len(solves)}/{seeds} | {spread([s.steps for s in solves], ',.0f')} "
            f"| {spread([s.cpu_seconds for s in solves], '.2f')} | {spread([e.cpu_seconds for e in ends], '.2f')} "
            f"| {spread(bests, '.0f')} | {spread([e.greedy for e in ends], '.0f')} "
            f"/ {spread([e.sampled for e in ends], '.0f')} |"
        )
    scripts.write_json(output, {name: [[asdict(one) for one in run] for run in runs[name]] for name in recipe})


@threads.one_thread()
def returns(recipe: str = "Pendulum-v1/ppo", seeds: int = 5, first_seed: int = 0) -> None:
    """Train a recipe and print the mean return of 100 greedy and 100 sampled episodes.

    Args:
        recipe: One of rlce.recipes.
        seeds: Number of seeds.
        first_seed: The first seed.
    """
    task, means = recipes.get(recipe), {name: list[float]() for name in ("greedy", "sampled")}
    for seed in range(first_seed, first_seed + seeds):
        began = time.process_time()
        agent = PolicyGradient(recipe=recipe, seed=seed).learn()
        cpu_seconds = time.process_time() - began
        for name in means:
            env, env_kwargs = task.env, task.env_kwargs
            results = evaluate_policy(agent, env, 100, name == "greedy", 1_000 + seed, env_kwargs=env_kwargs)
            means[name].append(float(results.returns.mean()))
        print(
            f"{recipe} seed {seed:3}  {agent.steps:,} steps, {cpu_seconds:.1f} CPU s: "
            f"greedy {means['greedy'][-1]:.1f}, sampled {means['sampled'][-1]:.1f}",
            flush=True,
        )
    print(f"greedy {spread(means['greedy'], '.1f')}, sampled {spread(means['sampled'], '.1f')}, {seeds} seeds")


@threads.one_thread()
def classify(seeds: int = 10) -> None:
    """Test accuracy of agents/digits.py on a stratified, held-out fifth of the rows.

    Args:
        seeds: Number of seeds (of the split and the training).
    """
    X, y = load_digits(return_X_y=True)
    scores, cpu_seconds = [], []
    for seed in range(seeds):
        train_X, test_X, train_y, test_y = train_test_split(X, y, test_size=0.2, stratify=y, random_state=seed)
        began = time.process_time()
        classifier = digits.make(seed).fit(train_X, train_y)
        cpu_seconds.append(time.process_time() - began)
        scores.append(float(classifier.score(test_X, test_y)))
    print(f"test accuracy {spread(scores, '.4f')}, {spread(cpu_seconds, '.2f')} CPU s, {seeds} seeds")


def startup(repeats: int = 5) -> None:
    """Seconds and peak memory of imports and of a CartPole training (on Linux).

    Args:
        repeats: How often each program is started, in turn.
    """
    train = "import scripts; from agents import cartpole; cartpole.make().learn()"
    programs = {
        "import torch": "import torch",
        "import rlce": "import rlce",
        "rlce.PolicyGradient": "import rlce; rlce.PolicyGradient",
        "rlce.Classifier": "import rlce; rlce.Classifier",
        "train CartPole-v1": train,
    }
    # From Linux's own count, because getrusage would include the memory of this process.
    peak = "\nimport sys; print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)"
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    memory: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", program + peak], check=True, capture_output=True, text=True)
            seconds[name].append(time.perf_counter() - began)
            memory[name].append(int(done.stderr.split()[-1]) / 1024)
    print("| program | seconds, median (range) | peak memory, MiB |\n|---|---|---|")
    for name in programs:
        print(f"| {name} | {spread(seconds[name], '.2f')} | {spread(memory[name], '.0f')} |")


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MEASURED = """
import time
from rlce import threads
{limit}
{prepare}
wall, cpu = time.perf_counter(), time.process_time()
{run}
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def one_thread(
    repeats: int = 3, timesteps: Annotated[int, tyro.conf.arg(aliases=["--total-timesteps"])] = 20_000
) -> None:
    """Wall and CPU seconds of a small training by the user's number of threads, with the library's limit and without.

    Each training runs in a fresh process, and all of them take turns, so that the load of the machine is the same.

    Args:
        repeats: How often each is run.
        timesteps: Environment steps of PPO, with its defaults, on CartPole-v1.
    """
    tasks = {
        "PPO": ("import rlce; agent = rlce.PolicyGradient('CartPole-v1', 'ppo')", f"agent.learn({timesteps})"),
        "digits, 10 epochs": (
            "from sklearn.datasets import load_digits; from agents import digits; X, y = load_digits(return_X_y=True); "
            "classifier = digits.make(epochs=10)",
            "classifier.fit(X, y)",
        ),
    }
    limits = {"with the limit": "", "without": "threads.LARGE = -1  # every network counts as large"}
    cases = [(task, number, limit) for task in tasks for number in ("1", "2", "default") for limit in limits]
    seconds: dict[tuple[str, str, str], list[tuple[float, ...]]] = {case: [] for case in cases}
    plain = {name: value for name, value in os.environ.items() if name not in THREADS}
    for case in cases * repeats:
        task, number, limit = case
        prepare, run = tasks[task]
        program = MEASURED.format(limit=limits[limit], prepare=prepare, run=run)
        environment = plain if number == "default" else {**plain, **dict.fromkeys(THREADS, number)}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        seconds[case].append(tuple(map(float, done.stdout.split())))
    print("| training | threads of the user | limit | wall s, median (range) | CPU s, median (range) |")
    print("|---|---|---|---|---|")
    for case, measured in seconds.items():
        wall, cpu = (spread(list(each), ".2f") for each in zip(*measured, strict=True))
        print(f"| {' | '.join(case)} | {wall} | {cpu} |")


STEPS = ((256, 4, 64), (1_024, 4, 64), (4_096, 4, 64), (256, 500, 64), (1_024, 500, 64), (2_048, 500, 64),
         (256, 64, 256), (1_024, 64, 256), (256, 64, 1_024), (1_024, 64, 1_024))  # fmt: skip


def large(repeats: int = 5, seconds: float = 0.3) -> None:
    """Wall milliseconds of a gradient step by its size, with one thread and with a thread per core.

    Args:
        repeats: How often each is measured, in turns.
        seconds: For how long each time.
    """
    cores = os.cpu_count() or 1
    if cores == 1:
        raise ValueError("this machine has a single core")
    print(f"| rows | numbers in a row | hidden | rows × parameters | ms, 1 thread | ms, {cores} threads | ratio |")
    print("|---|---|---|---|---|---|---|")
    users, limit = torch.get_num_threads(), threads.LARGE
    threads.LARGE = -1  # all steps take the user's number
    try:
        for rows, width, hidden in STEPS:
            network = MLP(width, 4, hidden=(hidden, hidden))
            trainer, batch = Trainer(network), torch.randn(rows, width)
            found: dict[int, list[float]] = {1: [], cores: []}
            for number in [1, cores] * (repeats + 1):
                torch.set_num_threads(number)
                found[number].append(1_000 * _seconds_a_step(trainer, network, batch, seconds))
            one, all_of_them = (each[1:] for each in found.values())  # the first is to warm up
            ratio = [one_step / other for one_step, other in zip(one, all_of_them, strict=True)]
            work = rows * threads.multiply_adds(network, width)
            times = " | ".join((spread(one, ".2f"), spread(all_of_them, ".2f"), spread(ratio, ".2f")))
            print(f"| {rows:,} | {width} | {hidden}, {hidden} | {work / 1e6:.1f} million | {times} |", flush=True)
    finally:
        torch.set_num_threads(users)
        threads.LARGE = limit


def _seconds_a_step(trainer: Trainer, network: MLP, batch: torch.Tensor, seconds: float) -> float:
    """Wall seconds of a gradient step, from as many as fit into this time."""
    steps, spent, began = 0, 0.0, time.perf_counter()
    while steps == 0 or spent < seconds:
        trainer.fit([Round([batch] * 5, 1)], lambda rows: (network(rows).square().mean(), {}))
        steps, spent = steps + 5, time.perf_counter() - began
    return spent / steps


# Wraps what training calls of the tracker, and adds up the CPU seconds inside.
TIMED = """
from rlce.tracking import Tracker
inside, depth = [0.0], [0]
def timed(method):
    def call(*args, **kwargs):
        depth[0] += 1
        began = time.process_time()
        try:
            return method(*args, **kwargs)
        finally:
            depth[0] -= 1
            if depth[0] == 0:
                inside[0] += time.process_time() - began
    return call
for name in ("open", "begin", "scalars", "details", "close"):
    setattr(Tracker, name, timed(getattr(Tracker, name)))
"""


def logging(
    recipe: str = "CartPole-v1/ppo",
    timesteps: Annotated[int, tyro.conf.arg(aliases=["--total-timesteps"])] = 60_000,
    evaluate_every: int | None = None,
    repeats: int = 5,
) -> None:
    """CPU seconds of a training without logs, with TensorBoard's scalars, and with all that TensorBoard may get.

    Each training runs in a fresh process, so that loading TensorBoard's and matplotlib's code counts, and the three
    take turns, so that the load of the machine is the same. Where that load is not steady, CPU seconds of whole
    trainings differ by more than the logs cost; those spent inside the tracker are what the logs cost.

    Args:
        recipe: One of rlce.recipes.
        timesteps: Environment steps of each training.
        evaluate_every: Environment steps between evaluations (of 20 episodes), in all three; by default there are none,
            and so neither histograms nor images.
        repeats: How often each is run.
    """
    evaluation = "None" if evaluate_every is None else f"rlce.Evaluation(every={evaluate_every})"
    whole: dict[str, list[float]] = {"no log_dir": [], "scalars": [], "all": []}
    inside: dict[str, list[float]] = {case: [] for case in whole}
    for case in list(whole) * repeats:
        with tempfile.TemporaryDirectory() as directory:
            where = "" if case == "no log_dir" else f"log_dir={directory + '/run'!r}, log={case!r}, "
            prepare = f"import rlce; agent = rlce.PolicyGradient(recipe={recipe!r}, {where}evaluation={evaluation})"
            program = MEASURED.format(limit=TIMED, prepare=prepare, run=f"agent.learn({timesteps})")
            program += "\nprint(inside[0])"
            done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
            _, seconds, spent = map(float, done.stdout.split())
            whole[case].append(seconds)
            inside[case].append(spent)
            print(f"{recipe} {case:10} {seconds:.2f} CPU s, {1000 * spent:.0f} ms of them for the logs", flush=True)
    without = statistics.median(whole["no log_dir"])
    print("\n| log | CPU s, median (range) | of them in the tracker, ms | share |\n|---|---|---|---|")
    for case, measured in whole.items():
        milliseconds = [1000 * each for each in inside[case]]
        share = statistics.median(milliseconds) / 1000 / without
        print(f"| {case} | {spread(measured, '.2f')} | {spread(milliseconds, '.0f')} | {share:.1%} |")


def writes(repeats: int = 200) -> None:
    """CPU milliseconds of what goes to TensorBoard: a round's scalars, a histogram, an image, and loading code.

    Args:
        repeats: How often scalars and histograms are written; an image is drawn a tenth as often.
    """

    def timed(call: Callable[[int], Any], count: int) -> float:
        began = time.process_time()
        for step in range(count):
            call(step)
        return 1000 * (time.process_time() - began) / count

    numbers = np.random.default_rng(0).normal(size=(2, 2_048))
    scalars = {line.name: 0.5 for line in SCALARS[:24]}
    images = {"policy/values_and_returns": lambda: plots.predictions(numbers[0, :500], numbers[1, :500], None)}
    with tempfile.TemporaryDirectory() as directory:
        tracker = tracking.Tracker(f"{directory}/run")
        loading = timed(lambda _: tracker.open(), 1) + timed(lambda _: tracker.begin({}, {"Seed": 0}, POLICY_LAYOUT), 1)
        first = timed(lambda _: tracker.details(lambda: tracking.Details(images=images), -1, last=True), 1)
        found = {
            f"{len(scalars)} scalars of a round": timed(lambda step: tracker.scalars(scalars, step), repeats),
            "a histogram of 2,048 numbers": timed(
                lambda step: tracker.details(lambda: tracking.Details({"policy/weights": numbers[0]}), step, last=True),
                repeats,
            ),
            "an image of 500 points": timed(
                lambda step: tracker.details(lambda: tracking.Details(images=images), repeats + step, last=True),
                max(1, repeats // 10),
            ),
            "loading TensorBoard's code, and the records of the start": loading,
            "loading matplotlib, and the first image": first,
        }
        tracker.close()
    print("| what | CPU ms |\n|---|---|")
    for what, milliseconds in found.items():
        print(f"| {what} | {milliseconds:.2g} |")


if __name__ == "__main__":
    commands: dict[str, Callable[..., Any]] = {
        "held": held,
        "returns": returns,
        "digits": classify,
        "startup": startup,
        "threads": one_thread,
        "large": large,
        "logging": logging,
        "writes": writes,
    }
    scripts.run(lambda: tyro.extras.subcommand_cli_from_dict(commands))
