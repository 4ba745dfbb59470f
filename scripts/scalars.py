"""Write docs/scalars.md, the page of everything that TensorBoard shows, from `rlce.scalars`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rlce.scalars import HISTOGRAMS, IMAGES, SCALARS, Shown

PATH = Path(__file__).parents[1] / "docs" / "scalars.md"

HEAD = """# What TensorBoard shows

Written by `python -m scripts.scalars` from `rlce/scalars.py`; a test fails where this page says anything else, or where
a run logs a scalar that is not here.

`PolicyGradient(..., log_dir="runs/a")` and `fit(X, y, log_dir="runs/b")` write there, and the scripts into a directory
of `runs/` unless `--log-dir` names another. `make tensorboard`, or `tensorboard --logdir runs`, shows all runs. The
x-axis is environment steps for policies, and samples seen for classifiers and regressors.

| tab | what is there |
|---|---|
| Custom Scalars | the charts to look at first: is it learning, is it healthy, where does the time go |
| HParams | one row a run, of both halves: learning rate, method, seed, task, other settings, and the results |
| Time Series, Scalars | every scalar of the table below |
| Histograms, Images | those of the tables below |
| Text | the command, the versions and the whole configuration |

Histograms and images need something to evaluate on: `Evaluation(...)` for a policy, held-out rows for a classifier or
regressor. Images also need matplotlib (`pip install 'rlce[plots]'`).

## One flag turns it down

`log="scalars"` (`--log scalars`) leaves out histograms and images, `log="none"` everything. The default is `"all"`.

## What it costs

CPU time, measured on one core of a busy machine by `python -m scripts.benchmark writes`:

| what | CPU ms |
|---|---|
| 24 scalars of a round, in one write | 0.1 |
| a histogram of 2,048 numbers | 0.24 |
| an image of 500 points | 130 |
| loading TensorBoard's code, and the records of the start | 50 |
| loading matplotlib, and the first image | 640 |

At evaluations in training, histograms are written only while they have taken at most a fiftieth of the time, and so are
images. At the end of a training both are written, whatever they cost; for a training of seconds that is a large part.

Whole trainings by recipes of PPO, each in a fresh process, medians. Beside other work, the CPU seconds of a training
vary by more than its logs cost, so the time inside the tracker was counted:

| training | CPU s without logs | `log="scalars"` | `log="all"` |
|---|---|---|---|
| CartPole-v1, 60,000 steps, no evaluation, 5 runs each | 4.5 | 30 ms, 0.7 % | 32 ms, 0.7 % |
| LunarLander-v3, 300,000 steps, 30 evaluations, 1 run each | 65 | 66 ms, 0.1 % | 969 ms, 1.5 % |

```sh
python -m scripts.benchmark logging
python -m scripts.benchmark logging --recipe LunarLander-v3/ppo --timesteps 300000 --evaluate-every 10000 --repeats 1
```

## Bands over seeds

`python -m scripts.compare FOLDER...` reads the runs of several seeds and writes a run with `over_seeds/TAG`, the
interquartile mean of the scalar TAG, and `over_seeds/TAG/low` and `over_seeds/TAG/high`, the ends of its 95 % bootstrap
interval. The Custom Scalars tab shows them as a band. The HParams tab does not list these runs.

## HParams

TensorBoard shows five hyperparameters and five metrics until you tick others: first those that differ between the runs,
and capitals before small letters. So the names that matter begin with capitals, and results are called `end/...`.

A run of this library writes no "experiment summary", because that would set the columns of *all* runs below
TensorBoard's directory; without one, TensorBoard takes the union. A single run that has one (from
`SummaryWriter.add_hparams`, or an early revision of this library) hides the rest. Training warns if one is in its log
directory, beside it, or one level below that.

Results of your own become metrics too:

```python
import rlce

agent = rlce.PolicyGradient("CartPole-v1", log_dir="runs/mine").learn(2_000)
returns, _ = rlce.evaluate_policy(agent, "CartPole-v1", episodes=20)
rlce.Tracker("runs/mine").results({"greedy_return": returns.mean()}, step=agent.steps)
```

"""


def table(lines: Iterable[Shown], heading: str) -> str:
    """A Markdown table; P, C and R stand for the three classes."""
    rows = [f"| `{line.name}` | {' '.join(line.halves)} | {line.meaning} |" for line in lines]
    return "\n".join([f"| {heading} | of | what it is |", "|---|---|---|", *rows]) + "\n"


def page() -> str:
    """The whole page."""
    letters = "P: `PolicyGradient`, C: `Classifier`, R: `Regressor`.\n\n"
    return (
        f"{HEAD}## Scalars\n\n{letters}{table(SCALARS, 'scalar')}\n"
        f"## Histograms\n\n{table(HISTOGRAMS, 'histogram')}\n## Images\n\n{table(IMAGES, 'image')}"
    )


if __name__ == "__main__":
    PATH.write_text(page())
    print(f"wrote {PATH}")
