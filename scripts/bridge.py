"""The bridge between the two halves: one network, one data set, three rules for the weights."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import scripts  # sets the number of threads before NumPy loads

# isort: split
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from envs.labelled import LabelledData
from rlce import MLP, Optimization, PolicyGradient, Progress, Round, Tracker, Trainer, methods
from rlce.data import minibatches
from rlce.heads import Categorical
from rlce.objective import objective
from rlce.rules.binding import Rule, bind
from rlce.rules.targets import expected_accuracy, one_hot

HEAD = Categorical(10)


@dataclass(frozen=True)
class Arguments:
    """Train one network on digits by labels, by sampled rewards and by all actions; compare their gradients."""

    epochs: int = 30
    """Passes over the training rows; the sampled run takes as many rewards."""
    seed: int = 0
    """Fixes the split, weights, order and samples."""
    draws: int = 2_000
    """Sampled gradients from which mean and variance are measured."""
    log_dir: Path = Path("runs/bridge")
    """TensorBoard directory; the three runs lie below it."""


def sampled(labels: Tensor, logits: Tensor, generator: torch.Generator, inverse: bool = False) -> Tensor:
    """REINFORCE: a ~ p, w = 1[a = y] e_a; with ``inverse`` the reward is 1[a = y]/sg(p_a)."""
    p = torch.softmax(logits.detach(), dim=-1)
    action = torch.multinomial(p, 1, generator=generator).squeeze(-1)
    weights = one_hot(labels, HEAD.n_outputs) * (action == labels).unsqueeze(-1)
    return weights / p if inverse else weights


def loss_of(rule: Rule, logits: Tensor, labels: Tensor, normalizer: float | None = None) -> Tensor:
    """The objective with the weights of a rule, which is given what it names; both trainings by labels descend it."""
    offered = {"labels": labels, "targets": labels, "classes": HEAD.n_outputs, "logits": logits}
    weights = bind(rule, offered).call(offered)
    return objective(HEAD.cost, logits, weights, normalizer=normalizer)


def logit_gradient(logits: Tensor, labels: Tensor, rule: Rule) -> Tensor:
    """Gradient of the objective with Z = 1 in every row's logits, ``[B, K]``."""
    leaf = logits.detach().requires_grad_()
    loss_of(rule, leaf, labels, normalizer=1.0).backward()
    assert leaf.grad is not None
    return leaf.grad


def train(
    name: str, rule: Rule, arguments: Arguments, X: Tensor, y: Tensor, test: tuple[Tensor, NDArray[np.int64]]
) -> MLP:
    """The same network, order and optimiser; only the rule differs."""
    network = MLP(64, 10, (128,), activation="relu", initialization="kaiming", output_gain=0.01, seed=arguments.seed)
    tracker = Tracker(arguments.log_dir / name)
    tracker.open()
    generator = torch.Generator().manual_seed(arguments.seed)

    def loss(rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return loss_of(rule, network(X[rows]), y[rows]), {}

    def rounds() -> Iterator[Round]:
        for epoch in range(1, arguments.epochs + 1):
            yield Round(minibatches(len(X), 64, generator), epoch * len(X))

    def watch(progress: Progress) -> None:
        tracker.scalars({"val/accuracy": accuracy(network, *test)}, progress.step)

    Trainer(network, Optimization(learning_rate=1e-3), tracker).fit(rounds(), loss, callback=watch)
    tracker.close()
    return network


def train_on_rewards(arguments: Arguments, X: Tensor, y: Tensor, test: tuple[Tensor, NDArray[np.int64]]) -> MLP:
    """REINFORCE through `rlce.PolicyGradient` on the one-step environment, as many rewards as rows seen above."""
    agent = PolicyGradient(
        lambda: LabelledData(X.numpy(), y.numpy()),
        methods.reinforce(baseline="none", episodes=64),
        num_envs=64,
        seed=arguments.seed,
        network=lambda n_in, n_out: MLP(
            n_in, n_out, (128,), activation="relu", initialization="kaiming", output_gain=0.01, seed=arguments.seed
        ),
        optimization=Optimization(learning_rate=1e-3),
        log_dir=arguments.log_dir / "sampled rewards",
    )
    network = agent.policy
    assert isinstance(network, MLP)

    def watch(progress: Progress) -> None:
        agent.trainer.tracker.scalars({"val/accuracy": accuracy(network, *test)}, progress.step)

    agent.learn(arguments.epochs * len(X), callback=watch)
    agent.close()
    return network


def accuracy(network: MLP, X: Tensor, y: NDArray[np.int64]) -> float:
    """Share of rows classified rightly."""
    with torch.no_grad():
        return float((network(X).argmax(dim=-1).numpy() == y).mean())


def compare(network: MLP, X: Tensor, y: Tensor, draws: int, seed: int) -> None:
    """Print what is true of the gradients at a network's parameters, in double precision."""
    with torch.no_grad():
        logits = network(X).double()
    p = torch.softmax(logits, dim=-1)
    right = p.gather(-1, y.unsqueeze(-1))
    by_label, by_all = (logit_gradient(logits, y, rule) for rule in (one_hot, expected_accuracy))
    difference = float((by_all - right * by_label).abs().max())
    print(f"largest |all-action − p_y × cross-entropy| in any logit: {difference:.1e}")
    print("so the all-action gradient ignores hard rows; its norm relative to cross-entropy's, by p_y of the row:")
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.0)):
        rows = ((right > low) & (right <= high)).squeeze(-1)
        if rows.any():
            relative = (by_all[rows].norm(dim=-1) / by_label[rows].norm(dim=-1)).mean()
            print(f"  p_y in ({low:.1f}, {high:.1f}]: {float(relative):.3f}  ({int(rows.sum())} rows)")
    print(f"\n{'estimator':32} {'expectation':>14} {'|mean − it|/s.e.':>17} {'variance':>10} {'closed form':>12}")
    generator = torch.Generator().manual_seed(seed)
    error = (by_label**2).sum(dim=-1, keepdim=True)  # |p − e_y|²
    rows_ = [
        ("REINFORCE, reward 1[a=y]", False, by_all, "all actions", right * (1 - right) * error),
        ("REINFORCE, reward 1[a=y]/p_a", True, by_label, "cross-entropy", (1 / right - 1) * error),
    ]
    for name, inverse, expected, title, closed in rows_:
        rule = functools.partial(sampled, generator=generator, inverse=inverse)
        total, squares = torch.zeros_like(logits), torch.zeros_like(logits)
        for _ in range(draws):
            gradient = logit_gradient(logits, y, rule)
            total += gradient
            squares += gradient**2
        mean = total / draws
        variance = (squares / draws - mean**2).sum(dim=-1).mean()
        # Summed over rows, the sampled mean must lie within a few standard errors of the expectation.
        deviation = float((mean - expected).sum(dim=0).norm() / (closed.sum() / draws).sqrt())
        print(f"{name:32} {title:>14} {deviation:17.2f} {float(variance):10.4f} {float(closed.mean()):12.4f}")
    print("(A row of small p_y is drawn rarely and then weighs 1/p_y, so the second variance converges slowly.)")
    print("Cross-entropy and the all-action gradient are no samples: given the rows, they have no variance.")


def main(arguments: Arguments) -> dict[str, float]:
    """Train three times, print accuracies, compare gradients; returns the accuracies."""
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X = (X / 16.0).astype(np.float32)
    split = train_test_split(X, y, test_size=0.2, stratify=y, random_state=arguments.seed)
    train_X, test_X, train_y = (torch.from_numpy(array) for array in split[:3])
    test = test_X, split[3]
    print(f"{'rule':18} {'test accuracy':>14} {'mean p_y':>9} {'seconds':>8}")
    results: dict[str, float] = {}
    runs: dict[str, Callable[[], MLP]] = {
        "labels": lambda: train("labels", one_hot, arguments, train_X, train_y, test),
        "all actions": lambda: train("all actions", expected_accuracy, arguments, train_X, train_y, test),
        "sampled rewards": lambda: train_on_rewards(arguments, train_X, train_y, test),
    }
    networks = {}
    for name, run in runs.items():
        began = time.perf_counter()
        networks[name] = run()
        results[name] = accuracy(networks[name], *test)
        with torch.no_grad():
            p_y = torch.softmax(networks[name](test_X), dim=-1)[torch.arange(len(test_X)), torch.from_numpy(split[3])]
        print(f"{name:18} {results[name]:14.4f} {float(p_y.mean()):9.3f} {time.perf_counter() - began:8.1f}")
    few = replace(arguments, epochs=min(5, arguments.epochs))
    half_trained = train("labels, few epochs", one_hot, few, train_X, train_y, test)
    print(f"\nGradients in the logits of {len(test_X)} held-out rows, after {few.epochs} epochs of training by labels:")
    compare(half_trained, test_X, torch.from_numpy(split[3]), arguments.draws, arguments.seed)
    return results


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
