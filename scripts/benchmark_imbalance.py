"""Remedies for imbalanced classes on seven data sets, with correct and with wrong training labels.

``python -m scripts.benchmark_supervised imbalance`` runs it. Test rows are weighted so that classes are as frequent as
among the training rows: a rare class may have many test rows, and the measures still are those of imbalanced data.
"""

from __future__ import annotations

import copy
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets, metrics
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import TunedThresholdClassifierCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import scripts
from rlce import Classifier, calibration, targets, threads
from scripts.benchmark_tables import Data, Runs, check_names, mean_of, measured, paired
from scripts.reweighting import imbalanced_digits

Weighted = tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]  # X, [N, D]; y, [N]; weights of the rows, [N]

TEST_ROWS = 10_000
LOWER_IS_BETTER = ("log-loss", "calibration error", "CPU s")
PLAIN = "plain"


# The data sets: seed → training rows and test rows.


def made(rows: int, columns: int, informative: int, shares: Sequence[float], **more: Any) -> Callable[[int], Any]:
    """Clusters at the corners of a hypercube; 10,000 test rows.

    Example:
        >>> (X, y), (test_X, test_y) = made(100, 5, 3, [0.9, 0.1])(0)
        >>> X.shape, np.bincount(y).tolist(), test_X.shape
        ((100, 5), [90, 10], (10000, 5))
    """

    def draw(seed: int) -> tuple[Data, Data]:
        X, y = datasets.make_classification(
            rows + TEST_ROWS,
            columns,
            n_informative=informative,
            n_redundant=0,
            n_classes=len(shares),
            weights=list(shares),
            flip_y=0.0,
            random_state=seed,
            **more,
        )
        train_X, test_X, train_y, test_y = train_test_split(X, y, train_size=rows, stratify=y, random_state=seed)
        return (train_X, train_y), (test_X, test_y)

    return draw


def thinned(load: Callable[..., Any], keep: Mapping[int, int]) -> Callable[[int], tuple[Data, Data]]:
    """``keep`` training rows of each class, drawn anew for each seed; all others are test rows.

    Example:
        >>> (X, y), (test_X, test_y) = thinned(datasets.load_wine, {0: 44, 1: 53, 2: 5})(0)
        >>> np.bincount(y).tolist(), np.bincount(test_y).tolist()
        ([44, 53, 5], [15, 18, 43])
    """

    def draw(seed: int) -> tuple[Data, Data]:
        X, y = load(return_X_y=True)
        order = np.random.default_rng([seed, 8]).permutation(len(y))
        train = np.concatenate([order[y[order] == label][:rows] for label, rows in keep.items()])
        test = np.setdiff1d(order, train)
        return (X[train], y[train]), (X[test], y[test])

    return draw


def digits(seed: int) -> tuple[Data, Data]:
    """131 to 3 training rows a class, as in `scripts.reweighting`; the test part is balanced."""
    X, test_X, y, test_y = imbalanced_digits(seed, noise=0.0)
    return (X, y), (test_X, test_y)


TAIL = 0.5 ** np.arange(7) / np.sum(0.5 ** np.arange(7))

SETS: dict[str, Callable[[int], tuple[Data, Data]]] = {
    "1:20, overlapping": made(1_050, 6, 4, [20 / 21, 1 / 21], class_sep=0.4),
    "1:100, 15 rows": made(1_515, 10, 6, [100 / 101, 1 / 101]),
    "1:100, 40 rows": made(4_040, 20, 10, [100 / 101, 1 / 101]),
    "breast cancer, 1:20": thinned(datasets.load_breast_cancer, {1: 260, 0: 13}),
    "7 classes, 1:64": made(1_270, 16, 8, TAIL, n_clusters_per_class=1),
    "digits, 1:44": digits,
    "wine, 1:11": thinned(datasets.load_wine, {0: 44, 1: 53, 2: 5}),
}


# The training labels.


def mislabelled(seed: int, y: NDArray[Any], share: float = 0.1) -> NDArray[Any]:
    """A share of the labels is replaced by another class, uniformly drawn; the first row of a class keeps its label.

    Example:
        >>> mislabelled(0, np.array([0, 0, 0, 0, 1, 1]), share=1.0).tolist()
        [0, 1, 1, 1, 1, 0]
    """
    generator = np.random.default_rng([seed, 9])
    classes, positions = np.unique(y, return_inverse=True)
    wrong = generator.random(len(y)) < share
    wrong[np.unique(y, return_index=True)[1]] = False  # or a class could be lost
    shift = generator.integers(1, len(classes), len(y))
    return np.where(wrong, classes[(positions + shift) % len(classes)], y)


def overlooked(seed: int, y: NDArray[Any], share: float = 1 / 3) -> NDArray[Any]:
    """A share of the rows of the rarest class has the label of the most frequent one.

    Example:
        >>> overlooked(0, np.array([0, 0, 0, 0, 1, 1, 1])).tolist()
        [0, 0, 0, 0, 0, 1, 1]
    """
    classes, counts = np.unique(y, return_counts=True)
    rows = np.random.default_rng([seed, 10]).permutation(np.flatnonzero(y == classes[counts.argmin()]))
    labels = y.copy()
    labels[rows[: round(share * len(rows))]] = classes[counts.argmax()]
    return labels


LABELS: dict[str, Callable[[int, NDArray[Any]], NDArray[Any]]] = {
    "correct": lambda seed, y: y,
    "10 % wrong": mislabelled,
    "a third of the rarest class overlooked": overlooked,
}


def drawn(name: str, labels: str, seed: int) -> tuple[Data, Weighted]:
    """Training rows with labels of one kind, and test rows, weighted to the class frequencies of the correct labels.

    Example:
        >>> (X, y), (test_X, test_y, weights) = drawn("wine, 1:11", "overlooked", 0)
        Traceback (most recent call last):
        KeyError: 'overlooked'
        >>> (X, y), (test_X, test_y, weights) = drawn("wine, 1:11", "a third of the rarest class overlooked", 0)
        >>> np.bincount(y).tolist(), np.bincount(test_y, weights).round(9).tolist()
        ([44, 55, 3], [44.0, 53.0, 5.0])
    """
    (X, y), (test_X, test_y) = SETS[name](seed)
    weights = (np.bincount(y) / np.bincount(test_y))[test_y]
    return (X, LABELS[labels](seed, y)), (test_X, test_y, weights)


# The remedies.


class WithPrior:
    """A classifier that has been fitted, with its probabilities for other class frequencies: nothing is trained.

    Args:
        fitted: fitted before `fit` is called.
        prior: "equal", or "training" for the frequencies of the training labels.
    """

    def __init__(self, fitted: Classifier, prior: Literal["equal", "training"]) -> None:
        self.fitted, self.prior = fitted, prior

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> None:
        """Move the prior, which is read when predicting."""
        classes = len(self.fitted.classes_)
        prior = np.full(classes, 1.0 / classes) if self.prior == "equal" else self.prior
        self.moved = copy.copy(self.fitted).set_params(prior=prior)
        self.predict, self.predict_proba = self.moved.predict, self.moved.predict_proba


def contenders(classes: int, seed: int) -> dict[str, Any]:
    """The estimators, unfitted, at their defaults but for the remedy."""
    gce = functools.partial(targets.generalized_cross_entropy, q=0.4)  # as in "imbalanced"
    settings: dict[str, dict[str, Any]] = {
        PLAIN: {},
        'class_weight="balanced"': {"class_weight": "balanced"},
        "balanced_sampling": {"rule": "balanced_sampling"},
        "logit_adjusted": {"rule": "logit_adjusted"},
        "generalized_cross_entropy, q = 0.4": {"rule": gce},
        '"imbalanced"': {"rule": "imbalanced"},
    }
    estimators: dict[str, Any] = {name: Classifier(**more, random_state=seed) for name, more in settings.items()}
    estimators["plain, prior of equal classes"] = WithPrior(estimators[PLAIN], "equal")
    estimators['logit_adjusted, prior="training"'] = WithPrior(estimators["logit_adjusted"], "training")
    if classes == 2:
        estimators["plain, threshold for macro-F1"] = TunedThresholdClassifierCV(
            Classifier(random_state=seed), scoring="f1_macro", cv=3, random_state=seed
        )
    estimators["HistGradientBoosting, balanced"] = HistGradientBoostingClassifier(
        class_weight="balanced", random_state=seed
    )
    estimators["LogisticRegression, balanced"] = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1_000)
    )
    return estimators


def measures(estimator: Any, X: NDArray[Any], y: NDArray[Any], weights: NDArray[np.float64]) -> dict[str, float]:
    """Of the predicted classes (macro-F1, ...), of the ranking of the rarest class, and of the probabilities.

    Args:
        estimator: fitted to classes 0 to K − 1.
        X: ``[N, D]``.
        y: ``[N]``, rows of every class.
        weights: ``[N]``; the rarest class is the one with the least sum.
    """
    predicted = estimator.predict(X)
    p = np.asarray(estimator.predict_proba(X), np.float64)
    p /= p.sum(axis=1, keepdims=True)
    rarest = int(np.bincount(y, weights).argmin())
    more: dict[str, Any] = {"sample_weight": weights}
    return {
        "macro-F1": float(metrics.f1_score(y, predicted, average="macro", zero_division=0.0, **more)),
        "balanced accuracy": float(metrics.balanced_accuracy_score(y, predicted, **more)),
        "recall of the rarest class": float(np.mean(predicted[y == rarest] == rarest)),
        "average precision of the rarest class": float(
            metrics.average_precision_score(y == rarest, p[:, rarest], **more)
        ),
        "log-loss": float(metrics.log_loss(y, p, **more)),
        "calibration error": calibration.expected_calibration_error(y, p, **more),
    }


# The tables.


def values(runs: Runs, who: str, measure: str) -> list[float]:
    """A contender's results, seed by seed."""
    return [one[measure] for one in runs[who]]


def by_set(everything: Mapping[str, Runs], measure: str) -> list[str]:
    """A row a contender, a column a set: the mean over seeds with its standard error."""
    lines = [f"| {measure} | {' | '.join(everything)} |", f"|---{'|---' * len(everything)}|"]
    for who in dict.fromkeys(who for runs in everything.values() for who in runs):
        cells = []
        for runs in everything.values():
            cells.append("{:.3f} ± {:.3f}".format(*mean_of(values(runs, who, measure))) if who in runs else "")
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return lines


def summary(everything: Mapping[str, Runs]) -> list[str]:
    """What each remedy changes beside plain training, over all sets that it is for.

    A cell has the mean over sets of the mean difference over seeds, with its standard error over sets (none for a
    single set), and on how many sets it is better and worse by more than 2 standard errors over seeds.
    """
    names = list(next(iter(next(iter(everything.values())).values()))[0])
    lines = [f"| contender | sets | {' | '.join(names)} |", f"|---|---{'|---' * len(names)}|"]
    for who in dict.fromkeys(who for runs in everything.values() for who in runs):
        of = [runs for runs in everything.values() if who in runs]
        cells = []
        for measure in names:
            if who == PLAIN:
                cells.append(f"{statistics.fmean(statistics.fmean(values(runs, who, measure)) for runs in of):.3f}")
                continue
            differences = [paired(values(runs, who, measure), values(runs, PLAIN, measure)) for runs in of]
            means = [mean for mean, _ in differences]
            sign = -1.0 if measure in LOWER_IS_BETTER else 1.0
            better, worse = (sum(side * mean > 2.0 * error for mean, error in differences) for side in (sign, -sign))
            cell = "{:+.3f} ± {:.3f}".format(*mean_of(means)) if len(means) > 1 else f"{means[0]:+.3f}"
            cells.append(f"{cell} ({better} better, {worse} worse)".replace("-", "−"))
        lines.append(f"| {who} | {len(of)} | {' | '.join(cells)} |")
    return lines


@threads.one_thread()
def imbalance(
    data: tuple[str, ...] = tuple(SETS),
    labels: tuple[str, ...] = tuple(LABELS),
    seeds: int = 5,
    first_seed: int = 0,
    output: Path | None = None,
) -> None:
    """Remedies for imbalanced classes beside plain training, with correct and with wrong training labels.

    Args:
        data: Names of data sets; by default all.
        labels: Kinds of training labels; by default all.
        seeds: Number of seeds (of the data or the split, the wrong labels and the training), at least 2.
        first_seed: The first seed.
        output: File for all results, as JSON.
    """
    if seeds < 2:
        raise ValueError(f"--seeds must be at least 2 for a spread, got {seeds}")
    scripts.check_writable(output, "--output")
    check_names("--data", data, SETS)
    check_names("--labels", labels, LABELS)
    results: dict[str, dict[str, Runs]] = {}
    with threadpool_limits(1):  # gradient boosting has threads of its own
        for kind in labels:
            everything = results[kind] = {}
            for name in data:
                draw = functools.partial(drawn, name, kind)
                make = functools.partial(contenders, len(np.unique(draw(first_seed)[0][1])))
                everything[name] = measured(draw, range(first_seed, first_seed + seeds), make, measures)
                scripts.write_json(output, results)  # as it goes: an interrupted run keeps its results
            print(f"\n**Training labels: {kind}**\n")
            for measure in next(iter(everything.values()))[PLAIN][0]:
                print("\n".join(by_set(everything, measure)) + "\n")
            print("\n".join(summary(everything)), flush=True)
