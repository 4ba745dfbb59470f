"""Every supervised rule on imbalanced digits with wrong labels: macro-F1, accuracy, calibration error.

A stratified quarter of scikit-learn's digits is the test part, balanced and with correct labels. In the rest, the
classes, in random order, keep n₀·50^(−rank/9) rows (n₀: the smallest class; about 368 rows in all). A training label
is wrong with probability 0.2, or never. For each seed, every rule trains the same network on the same rows.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import train_test_split

import scripts
from rlce import Classifier, Optimization, targets, threads
from rlce.supervised.calibration import expected_calibration_error

NOISE = 0.2
MEASURES = ("macro-F1", "balanced accuracy", "calibration error")
COMPARED = (0, 2)  # positions of the measures whose differences are printed
# The same for all rules.
NETWORK: dict[str, Any] = {
    "hidden": (128,),
    "activation": "relu",
    "dropout": 0.0,
    "optimizer": Optimization("adam", 1e-3),
    "batch_size": 64,
}
RECOMMENDED: dict[str, Any] = {"rule": "imbalanced", "dropout": 0.3}
HELD_OUT: dict[str, Any] = {"validation_split": 0.2}

# Name → parameters of the classifier. The differences are to the first two.
RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "inverse frequency": {"rule": targets.inverse_frequency},
    "class-balanced, β=.999": {"rule": targets.class_balanced},
    "balanced sampling": {"rule": targets.balanced_sampling},
    "logit adjustment": {"rule": targets.logit_adjusted},
    "label margin (LDAM)": {"rule": targets.label_margin},
    "smoothing .1": {"rule": targets.smooth},
    "smoothing .1 off the label": {"rule": targets.smooth_off_class},
    "smoothing .1 by drawing": {"rule": targets.drawn_smoothing},
    "uncertain labels": {"soft_targets": True},
    "mixup, α=.2": {"rule": targets.mixup},
    "focal, γ=2": {"rule": targets.focal},
    "focal_modulated, γ=2": {"rule": targets.focal_modulated},
    "generalised cross-entropy, q=.7": {"rule": targets.generalized_cross_entropy},
    "generalised cross-entropy, q=.4": {"rule": partial(targets.generalized_cross_entropy, q=0.4)},
    "Poly-1, ε=1": {"rule": targets.poly_one},
    "squared error on the softmax": {"rule": targets.squared_error},
    "sigmoids, one-vs-all": {"rule": targets.two_class_rows},
    "squared error on sigmoids": {"rule": [targets.two_class_rows, targets.squared_error]},
    'inverse frequency, prior="training"': {"rule": targets.inverse_frequency, "prior": "training"},
    'logit adjustment, prior="training"': {"rule": targets.logit_adjusted, "prior": "training"},
    "plain, a fifth held out": HELD_OUT,
    "plain, a fifth held out, temperature": {**HELD_OUT, "temperature": "validation"},
    "logit adjustment, a fifth held out": {"rule": targets.logit_adjusted, **HELD_OUT},
    "logit adjustment, a fifth held out, temperature": {
        "rule": targets.logit_adjusted,
        **HELD_OUT,
        "temperature": "validation",
    },
    "plain, dropout .3": {"dropout": 0.3},
    "inverse frequency, dropout .3": {"rule": targets.inverse_frequency, "dropout": 0.3},
    "logit adjustment, dropout .3": {"rule": targets.logit_adjusted, "dropout": 0.3},
    "logit adjustment, generalised cross-entropy, q=.4": {"rule": RECOMMENDED["rule"]},
    "that and dropout .3": RECOMMENDED,
}
BASELINES = tuple(RULES)[:2]
STANDARDIZED = ("plain", "inverse frequency", "logit adjustment", *tuple(RULES)[-2:])
HEADS = [
    head
    for index, name in enumerate(MEASURES)
    for head in (name, *(f"less {baseline}'s" for baseline in BASELINES if index in COMPARED))
]


def imbalanced_digits(seed: int, noise: float) -> tuple[NDArray[Any], ...]:
    """Training inputs, test inputs, noisy training labels, clean test labels; pixels in [0, 1].

    Example:
        >>> X, test_X, y, test_y = imbalanced_digits(0, noise=0.2)
        >>> X.shape, test_X.shape, np.sort(np.bincount(imbalanced_digits(0, noise=0.0)[2])).tolist()
        ((368, 64), (450, 64), [3, 4, 6, 10, 15, 23, 36, 55, 85, 131])
    """
    X, y = load_digits(return_X_y=True)
    train_X, test_X, train_y, test_y = train_test_split(X / 16.0, y, test_size=0.25, stratify=y, random_state=seed)
    generator = np.random.default_rng(seed)
    smallest = np.bincount(train_y).min()
    kept = np.concatenate(
        [
            generator.permutation(np.flatnonzero(train_y == label))[: round(smallest * 50 ** (-rank / 9))]
            for rank, label in enumerate(generator.permutation(10))
        ]
    )
    labels = train_y[kept]
    wrong = (labels + generator.integers(1, 10, len(labels))) % 10
    return train_X[kept], test_X, np.where(generator.random(len(labels)) < noise, wrong, labels), test_y


@threads.one_thread()
def measured(seed: int, epochs: int) -> dict[str, list[float]]:
    """The measures of every rule with one seed, by "table / rule"."""
    results = {}
    for noise in (NOISE, 0.0):
        X, test_X, y, test_y = imbalanced_digits(seed, noise)
        kinds = [(name, False) for name in RULES] + [(name, True) for name in STANDARDIZED]
        for name, standardized in kinds:
            settings = {**NETWORK, "scaling": "standard" if standardized else None, "random_state": seed, **RULES[name]}
            target = targets.smooth_off_class(torch.from_numpy(y), 10, noise) if "soft_targets" in settings else y
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # all rules train for the same number of epochs
                classifier = Classifier(epochs=epochs, **settings).fit(X, target)
            p = classifier.predict_proba(test_X)
            predicted = p.argmax(axis=1)
            results[f"noise {noise}{', standardised columns' * standardized} / {name}"] = [
                float(f1_score(test_y, predicted, average="macro", zero_division=0.0)),
                float(balanced_accuracy_score(test_y, predicted)),
                expected_calibration_error(test_y, p, bins=15),
            ]
    return results


def interval(differences: NDArray[np.float64]) -> str:
    """Mean and 95 % interval of paired differences, by Student's t.

    Example:
        >>> interval(np.array([0.1, 0.2, 0.3]))
        '+0.200 (−0.048 to +0.448)'
    """
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    low, mean, high = (f"{differences.mean() + side * half:+.3f}".replace("-", "−") for side in (-1, 0, 1))
    return f"{mean} ({low} to {high})"


def main(
    seeds: int = 20,
    first_seed: int = 0,
    epochs: int = 100,
    jobs: Annotated[int, tyro.conf.arg(aliases=["--processes"])] = 2,
    output: Path | None = None,
) -> None:
    """Imbalanced digits, with and without wrong labels: every rule beside plain cross-entropy and inverse frequency.

    Prints mean ± standard deviation over seeds, and paired differences with 95 % intervals.

    Args:
        seeds: Number of seeds (of the split, the order of the classes, the noise and the training).
        first_seed: The first seed.
        epochs: Epochs of every training.
        jobs: Number of seeds that run at the same time.
        output: File for all measures, as JSON.
    """
    if seeds < 2:
        raise ValueError(f"--seeds must be at least 2 for a spread, got {seeds}")
    scripts.check_writable(output, "--output")
    ignored = (signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C this process ends its workers
    with multiprocessing.get_context("spawn").Pool(jobs, signal.signal, ignored) as pool:
        runs = pool.map(functools.partial(measured, epochs=epochs), range(first_seed, first_seed + seeds), chunksize=1)
    by_rule = {key: [run[key] for run in runs] for key in runs[0]}
    scripts.write_json(output, {"measures": MEASURES, "seeds": by_rule})
    for table in dict.fromkeys(key.split(" / ")[0] for key in runs[0]):
        print(f"\n**{table}**\n\n| rule | {' | '.join(HEADS)} |\n|---{'|---' * len(HEADS)}|")
        names = [key.split(" / ")[1] for key in runs[0] if key.startswith(f"{table} /")]
        values = {name: np.array([run[f"{table} / {name}"] for run in runs]) for name in names}  # [seeds, measures]
        for name in names:
            cells = []
            for index, column in enumerate(values[name].T):
                cells.append(f"{column.mean():.3f} ± {column.std(ddof=1):.3f}")
                if index in COMPARED:
                    cells += [interval(column - values[one][:, index]) if name != one else "" for one in BASELINES]
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    scripts.run(lambda: tyro.cli(main))
