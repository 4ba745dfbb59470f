"""Write docs/scalars.md, the page of everything that TensorBoard shows, from `rlce.scalars`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rlce.scalars import HISTOGRAMS, IMAGES, SCALARS, Shown

PATH = Path(__file__).parents[1] / "docs" / "scalars.md"

HEAD = """# What TensorBoard shows

Written by `python -m scripts.scalars` from `rlce/scalars.py`; a test fails where this page says anything else, or where a
run logs a scalar that is not here.

`PolicyGradient(..., log_dir="runs/a")` and `fit(X, y, log_dir="runs/b")` write there, and the scripts into `runs/` unless
`--log-dir` names another directory. `make tensorboard`, or `tensorboard --logdir runs`, shows all runs. The x-axis is
environment steps for policies, and samples seen for classifiers and regressors.

| tab | what is there |
|---|---|
| Custom Scalars | the charts to look at first: is it learning, is it healthy, where does the time go |
| HParams | one row a run, of both halves: learning rate, method, seed and task, then the other settings, then the results |
| Time Series, Scalars | every scalar of the table below |
| Images, Histograms | the pictures below: at the end, and for policies at evaluations |
| Text | the command, the versions and the whole configuration |

Images are drawn by matplotlib (`pip install 'rlce[plots]'`). They need something to evaluate on: `Evaluation(...)` for a
policy, held-out rows for a classifier or regressor.

## One flag turns it down

`log="scalars"` (`--log scalars`) leaves out histograms and images, `log="none"` everything. The default is `"all"`.

## What it costs

During training, histograms and images are written at evaluations only, and each of the two only while it has taken at
most a fiftieth of the time; so a short training has them at its end alone. A write of all scalars of a round takes
COST_WRITE, a histogram COST_HISTOGRAM, an image COST_IMAGE, and loading matplotlib COST_MATPLOTLIB, once
(`python -m scripts.benchmark writes`).

COST_TABLE

## HParams

TensorBoard shows five hyperparameters and five metrics until you tick others: first those that differ between the
runs, and capitals before small letters. So the names that matter begin with capitals, and results are called `end/...`.

A run's directory holds its hyperparameters, but no "experiment summary", which would say which columns *all* runs below
TensorBoard's directory have. Without one, TensorBoard takes the union. A single run that has one (from
`SummaryWriter.add_hparams`, or an early revision of this library) hides the rest. Training warns of those that it finds
in its log directory, beside it, and one level below.

Results of your own go there too:

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
