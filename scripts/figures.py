"""The figures of the README, made by the library and from its measurements.

``python -m scripts.figures loss`` draws the one loss; ``tables`` and ``agents`` draw what
``python -m scripts.benchmark_supervised tables --output runs/tables.json`` and ``python -m scripts.results`` measured.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import torch
import tyro

import rlce
import scripts
from scripts import results
from scripts.benchmark_tables import TABLES

PICTURES = Path("docs/figures")
BLUE, ORANGE, GREY = "#256c9a", "#d1702e", "#6b7280"
OURS, PEERS = ("Classifier", "Regressor"), {"MLPClassifier": "MLP", "MLPRegressor": "MLP"}


def _axes(size: tuple[float, float], columns: int = 1) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    return pyplot.subplots(1, columns, figsize=size, layout="constrained")


def _save(figure: Any, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    print(f"wrote {path}")


def loss() -> None:
    """Where descent pulls the probabilities: to the label's weights, and to the action's weights."""
    logits = torch.tensor([0.2, 0.9, -0.3, 0.4])
    figure, axes = _axes((8.6, 2.9), columns=2)
    cases = (
        ("Classification: w = one-hot(label)", "class", torch.tensor([0.0, 0.0, 1.0, 0.0])),
        ("REINFORCE: w = return × one-hot(action)", "action", torch.tensor([0.0, 0.6, 0.0, 0.0])),
    )
    for axis, (title, of, weights) in zip(axes, cases, strict=True):
        row = logits.clone().requires_grad_()
        rlce.weighted_cross_entropy(row[None], weights[None]).backward()
        assert row.grad is not None
        pulled = (weights.sum() * logits.softmax(dim=0)).tolist()  # S p; the gradient is S p − w
        for k, (p, w, gradient) in enumerate(zip(pulled, weights.tolist(), row.grad.tolist(), strict=True)):
            axis.bar(k - 0.18, p, 0.34, color=BLUE, label="S p, the network" if k == 0 else None)
            axis.bar(k + 0.18, w, 0.34, color=ORANGE, label="w, the weights" if k == 0 else None)
            arrow = {"arrowstyle": "-|>", "color": "black", "lw": 1.4, "shrinkA": 0, "shrinkB": 0}
            axis.annotate("", (k - 0.18, p - gradient), (k - 0.18, p), arrowprops=arrow)
        axis.set(title=title, xticks=range(4), xticklabels=[f"{of} {k}" for k in range(4)], ylim=(0.0, 1.12))
        axis.tick_params(length=0)
    axes[0].set_ylabel("weight")
    axes[0].legend(frameon=False, loc="upper left", fontsize=9)
    figure.suptitle("Descent pulls S p to w, along the arrow −(S p − w). Only w differs.", fontsize=10.5, color=GREY)
    _save(figure, "loss")


def tables(input: Path = Path("runs/tables.json")) -> None:
    """The loss of the defaults on each table beside scikit-learn's defaults, over the best of them.

    Args:
        input: What ``python -m scripts.benchmark_supervised tables --output FILE`` wrote.
    """
    everything = json.loads(input.read_text())["tables"]
    figure, axis = _axes((8.6, 4.6))
    markers = {"ours": ("o", BLUE, 52), "MLP": ("^", GREY, 26), "HistGradientBoosting": ("s", ORANGE, 26)}
    markers["linear"] = ("x", GREY, 26)
    shown: set[str] = set()
    for place, runs in enumerate(everything.values()):
        main = next(iter(next(iter(runs.values()))[0]))
        means = {who: statistics.fmean(one[main] for one in seeds) for who, seeds in runs.items()}
        best = min(means.values())
        for who, mean in means.items():
            what = "ours" if who in OURS else PEERS.get(who, who)
            if what not in markers:
                continue
            marker, color, size = markers[what]
            label = None if what in shown else {"ours": "rlce", "MLP": "MLPClassifier / MLPRegressor"}.get(what, what)
            shown.add(what)
            ratio = min(mean / best, 10.0)
            axis.scatter(ratio, place, size, color=color, marker=marker, label=label, zorder=3 if what == "ours" else 2)
    names = [f"{name}{'' if TABLES[name].chosen_on else ' °'}" for name in everything]
    far = "loss over that of the best estimator (log-loss or RMSE; 10 and more at the edge)"
    axis.set(xscale="log", xlim=(0.95, 11), xlabel=far)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    axis.minorticks_off()
    axis.invert_yaxis()
    axis.grid(axis="y", color="#e5e7eb", zorder=0)
    figure.legend(frameon=False, ncols=4, loc="outside upper center", fontsize=9)
    _save(figure, "tables")


def agents(folder: Path = results.FOLDER) -> None:
    """CPU seconds of the recipes until a score is reached, beside Stable-Baselines3 with RL Zoo's settings.

    Args:
        folder: Where ``python -m scripts.results run`` keeps its runs.
    """
    figure, axis = _axes((8.6, 1.9))
    rows = []
    for contender in results.STAGES["zoo"].contenders:
        task = results.TASKS[contender.task]
        records = results.read_runs(folder, "zoo", contender)
        assert task.reach is not None
        found = [results.reached(results.evaluations_of(record), task.reach) for record in records]
        label = f"{contender.task} to {task.reach:g}"
        seconds = [at.cpu_seconds for at in found if at is not None]
        rows.append((label, contender.is_peer, seconds, len(records)))
    labels = list(dict.fromkeys(label for label, *_ in rows))
    for label, peer, seconds, count in rows:
        place = labels.index(label) + (0.2 if peer else -0.2)
        color = ORANGE if peer else BLUE
        said = f"{len(seconds)} of {count} seeds"
        if seconds:
            middle = statistics.median(seconds)
            axis.barh(place, middle, 0.36, color=color)
            said = f"{middle:.1f} s" + ("" if len(seconds) == count else f", {said}")
        axis.text((statistics.median(seconds) if seconds else 0.0) + 0.3, place, said, va="center", fontsize=9)
    for color, label in ((BLUE, "rlce, recipe"), (ORANGE, "Stable-Baselines3, RL Zoo's settings")):
        axis.barh(0, 0, color=color, label=label)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_xlabel("CPU seconds of training until the score is reached (median)")
    figure.legend(frameon=False, ncols=2, loc="outside upper center", fontsize=9)
    _save(figure, "agents")


if __name__ == "__main__":
    scripts.run(lambda: tyro.extras.subcommand_cli_from_dict({"loss": loss, "tables": tables, "agents": agents}))
