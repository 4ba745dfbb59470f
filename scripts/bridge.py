"""The bridge between the two halves: one network and one data set, learnt from labels and from rewards."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import scripts
from envs.labelled import LabelledData
from rlce import MLP, Classifier, Optimization, PolicyGradient, methods
from rlce.heads import Categorical
from rlce.objective import objective
from rlce.rules.targets import expected_accuracy
from rlce.rules.weights import importance_sampled, score

HEAD = Categorical(10)


@dataclass(frozen=True)
class Arguments:
    """Train one network on digits by labels, by sampled rewards and by all actions; compare their gradients.

    Prints the test accuracy of the three, then what holds exactly: the all-action policy gradient is cross-entropy's
    gradient times p_y in each row, and REINFORCE is an unbiased estimate of it with a variance known in closed form.
    """

    epochs: int = 30
    """Passes over the training rows; the sampled run takes as many rewards."""
    seed: int = 0
    """Fixes the split, weights, order and samples."""
    draws: int = 2_000
    """Number of sampled gradients from which mean and variance are measured."""
    log_dir: Path = Path("runs/bridge")
    """Directory for TensorBoard; each of the three runs has a directory in it."""
    log: Literal["all", "scalars", "none"] = "all"
    """What TensorBoard gets: all, scalars (no histograms, no images) or none."""


def network(seed: int) -> Callable[[int, int], nn.Module]:
    """The factory of the network, the same for all."""
    return functools.partial(
        MLP, hidden=(128,), activation="relu", initialization="kaiming", output_gain=0.01, seed=seed
    )


def by_labels(arguments: Arguments, X: NDArray[np.float32], y: NDArray[np.int64], name: str, epochs: int) -> nn.Module:
    """Train `rlce.Classifier`: with w = e_y, or with the all-action weights w = p_y e_y."""
    classifier = Classifier(
        rule=expected_accuracy if name == "all actions" else None,
        network=network(arguments.seed),
        epochs=epochs,
        batch_size=64,
        optimizer=Optimization("adam", 1e-3),
        scaling=None,
        random_state=arguments.seed,
    )
    return classifier.fit(X, y, log_dir=arguments.log_dir / name, log=arguments.log).network_


def by_rewards(arguments: Arguments, X: NDArray[np.float32], y: NDArray[np.int64]) -> nn.Module:
    """Train REINFORCE with `rlce.PolicyGradient` on the one-step environment; one reward for each row seen above."""
    agent = PolicyGradient(
        lambda: LabelledData(X, y),
        methods.reinforce(baseline="none", episodes=64),
        num_envs=64,
        seed=arguments.seed,
        network=network(arguments.seed),
        optimization=Optimization(learning_rate=1e-3),
        normalize_observations=False,
        scale_rewards=False,
        log_dir=arguments.log_dir / "sampled rewards",
        log=arguments.log,
    )
    agent.learn(arguments.epochs * len(X)).close()
    return agent.policy


def logit_gradient(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Gradient of the objective with Z = 1 in the logits, ``[B, K]``."""
    leaf = logits.detach().requires_grad_()
    objective(HEAD.cost, leaf, target, weight, normalizer=1.0).backward()
    assert leaf.grad is not None
    return leaf.grad


def compare(logits: Tensor, y: Tensor, draws: int, seed: int) -> None:
    """Print what holds for the gradients in these logits, ``[B, K]`` float64."""
    log_p = torch.log_softmax(logits, dim=-1)
    p = log_p.exp()
    right = p.gather(-1, y.unsqueeze(-1))
    by_label, by_all = logit_gradient(logits, y), logit_gradient(logits, expected_accuracy(y, logits))
    difference = float((by_all - right * by_label).abs().max())
    print(f"largest |all-action − p_y × cross-entropy| in any logit: {difference:.1e}")
    print("So the all-action gradient ignores hard rows. Its norm relative to cross-entropy's, by p_y of the row:")
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 0.9), (0.9, 1.0)):
        rows = ((right > low) & (right <= high)).squeeze(-1)
        if rows.any():
            relative = (by_all[rows].norm(dim=-1) / by_label[rows].norm(dim=-1)).mean()
            print(f"  p_y in ({low:.1f}, {high:.1f}]: {float(relative):.3f}  ({int(rows.sum())} rows)")
    print("\n3. Sampled rewards give the same gradients on average, with a variance that is known in closed form:")
    print(f"{'estimator':32} {'expectation':>14} {'|mean − it|/s.e.':>17} {'variance':>10} {'closed form':>12}")
    generator = torch.Generator().manual_seed(seed)
    error = (by_label**2).sum(dim=-1, keepdim=True)  # |p − e_y|²
    estimators = [
        ("REINFORCE, reward 1[a=y]", False, by_all, "all actions", right * (1 - right) * error),
        ("REINFORCE, reward 1[a=y]/p_a", True, by_label, "cross-entropy", (1 / right - 1) * error),
    ]
    for name, inverse, expected, title, closed in estimators:
        total, squares = torch.zeros_like(logits), torch.zeros_like(logits)
        for _ in range(draws):
            action = torch.multinomial(p, 1, generator=generator)
            reward, behaviour = (action.squeeze(-1) == y).double(), log_p.gather(-1, action).squeeze(-1)
            # 1/p_a is the importance weight of the policy that always names the label.
            weight = importance_sampled(reward, torch.zeros_like(reward), behaviour) if inverse else score(reward)
            gradient = logit_gradient(logits, action.squeeze(-1), weight)
            total += gradient
            squares += gradient**2
        mean = total / draws
        variance = (squares / draws - mean**2).sum(dim=-1).mean()
        # Summed over rows, the sampled mean must lie within a few standard errors of the expectation.
        deviation = float((mean - expected).sum(dim=0).norm() / (closed.sum() / draws).sqrt())
        print(f"{name:32} {title:>14} {deviation:17.2f} {float(variance):10.4f} {float(closed.mean()):12.4f}")
    print("(A row of small p_y is rarely drawn and then weighs 1/p_y, so the second variance converges slowly.)")
    print("Cross-entropy and the all-action gradient are not sampled: given the rows, they have no variance.")


def main(arguments: Arguments) -> dict[str, float]:
    """Train three times, print the accuracies, compare gradients; returns the accuracies."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16.0).astype(np.float32)
    X, test_X, y, test_y = train_test_split(X, y, test_size=0.2, stratify=y, random_state=arguments.seed)
    labels = torch.from_numpy(test_y)

    def logits(network: nn.Module) -> Tensor:
        with torch.no_grad():
            return network(torch.from_numpy(test_X)).double()

    print("What this shows: a classifier and a policy gradient are one loss with other weights.")
    print("Labels give cross-entropy; rewards give REINFORCE, whose mean over all actions is a rule of labels, too.")
    print("\n1. The same network on the same rows of digits, learnt in three ways:")
    print(f"{'weights from':18} {'test accuracy':>14} {'mean p_y':>9} {'seconds':>8}")
    results: dict[str, float] = {}
    for name in ("labels", "all actions", "sampled rewards"):
        began = time.perf_counter()
        if name == "sampled rewards":
            outputs = logits(by_rewards(arguments, X, y))
        else:
            outputs = logits(by_labels(arguments, X, y, name, arguments.epochs))
        seconds = time.perf_counter() - began
        results[name] = float((outputs.argmax(dim=-1) == labels).double().mean())
        p_y = float(outputs.softmax(dim=-1).gather(-1, labels.unsqueeze(-1)).mean())
        print(f"{name:18} {results[name]:14.4f} {p_y:9.3f} {seconds:8.1f}")
    epochs = min(5, arguments.epochs)
    print(f"\n2. Gradients in the logits of {len(test_X)} held-out rows, after {epochs} epochs of training by labels:")
    compare(logits(by_labels(arguments, X, y, "labels, few epochs", epochs)), labels, arguments.draws, arguments.seed)
    return results


if __name__ == "__main__":
    scripts.run(lambda: main(tyro.cli(Arguments)))
