"""Make a long CSV file, and measure the time and the memory that training and predicting need to read it.

Each stage runs in a process of its own, so that its peak memory is its own. "read" is all that
`scripts.train_classifier` does before training: read the file, split the rows, learn the columns, make the rows of
floats. "predict" is `scripts.predict` from the file to the predictions, with a small network trained on the first
20,000 rows.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import scripts
from rlce import Classifier, threads

CHUNK = 50_000  # rows that are made at a time


def make(path: Path, rows: int, messy: bool) -> None:
    """Write a file of 20 columns and a label: 12 numbers, 3 whole numbers, a boolean and 4 texts.

    Two numbers have gaps in one row of 20. A messy file writes some of its columns as people do: two numbers with "?"
    in one row of a thousand, an amount as "$1,234.56", a date, and a text with stray blanks.
    """
    import pandas as pd

    generator = np.random.default_rng(0)
    for start in range(0, rows, CHUNK):
        n = min(CHUNK, rows - start)
        numbers = generator.normal(size=(n, 12)).round(5)
        frame = pd.DataFrame(numbers, columns=[f"number{i}" for i in range(12)])
        for i in range(3):
            frame[f"whole{i}"] = generator.integers(0, 10 ** (2 * i + 1), n)
        frame["boolean"] = generator.random(n) < 0.3
        for i, categories in enumerate((3, 10, 50, 1_000)):
            frame[f"text{i}"] = np.char.add("value ", generator.integers(0, categories, n).astype(str))
        for i in range(2):
            frame.loc[generator.random(n) < 0.05, f"number{i}"] = np.nan
        label = numbers[:, 2] + frame["boolean"] + (frame["text0"] == "value 1") + 0.3 * generator.normal(size=n) > 0.5
        if messy:
            for i in (3, 4):
                frame[f"number{i}"] = frame[f"number{i}"].astype(str).mask(generator.random(n) < 0.001, "?")
            frame["whole2"] = [f"${value:,.2f}" for value in frame["whole2"] / 7]
            days = pd.Timestamp("2020-01-01") + pd.to_timedelta(generator.integers(0, 1_500, n), unit="D")
            frame["number5"] = days.strftime("%Y-%m-%d")
            frame["text1"] = frame["text1"].mask(generator.random(n) < 0.01, frame["text1"] + " ")
        frame["label"] = np.where(label, "yes", "no")
        frame.to_csv(path, index=False, header=start == 0, mode="w" if start == 0 else "a")


def read(path: Path) -> None:
    """Read a file as `scripts.train_classifier` does."""
    from scripts import train_classifier

    train_classifier.read(train_classifier.Arguments(data=str(path), target="label"))


def train(path: Path, model: Path) -> None:
    """Train and save a small network on the first 20,000 rows of a file."""
    from scripts import train_classifier

    first = path.with_name("first.csv")
    with path.open() as file, first.open("w") as head:
        head.writelines(line for line, _ in zip(file, range(20_001), strict=False))
    (X, y), _, table = train_classifier.read(train_classifier.Arguments(data=str(first), target="label"))
    Classifier((16,), epochs=2, random_state=0).fit(X, y).save(model, extra={"table": table})


def predict(path: Path, model: Path) -> None:
    """Predict for a file as `scripts.predict` does."""
    from scripts import predict

    predict.main(predict.Arguments(model, path, output=path.with_name("predictions.csv")))


@threads.one_thread()
def measured(stage: Callable[..., None], arguments: tuple[Any, ...]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory in MiB of a stage; the seconds do not count imports."""
    from scripts import predict, train_classifier  # noqa: F401

    warnings.simplefilter("ignore")
    began = time.process_time(), time.perf_counter()
    stage(*arguments)
    seconds = time.process_time() - began[0], time.perf_counter() - began[1]
    return *seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(stage: Callable[..., None], *arguments: Any) -> tuple[float, float, float]:
    """`measured` in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, stage, arguments).result()


def main(rows: int = 1_000_000, repeats: int = 3, messy: bool = False) -> None:
    """Time and peak memory of reading a long CSV file for training and for predicting.

    Args:
        rows: Number of rows of the file.
        repeats: Number of times that each stage runs; the median is printed.
        messy: Write some columns as people do: "?", "$1,234.56", dates and stray blanks.
    """
    if rows < 1_000 or repeats < 1:
        raise ValueError(f"--rows must be at least 1,000 and --repeats at least 1, got {rows} and {repeats}")
    with tempfile.TemporaryDirectory() as directory:
        path, model = Path(directory) / "data.csv", Path(directory) / "model"
        alone(make, path, rows, messy)
        alone(train, path, model)
        print(f"{rows:,} rows of 20 columns and a label, {path.stat().st_size / 2**20:.0f} MiB")
        print("| stage | CPU s | wall s | peak memory, MiB |\n|---|---|---|---|")
        stages: list[tuple[Callable[..., None], tuple[Path, ...]]] = [(read, (path,)), (predict, (path, model))]
        for stage, arguments in stages:
            runs = [alone(stage, *arguments) for _ in range(repeats)]
            cpu, wall, memory = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"| {stage.__name__} | {cpu:.2f} | {wall:.2f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    scripts.run(lambda: tyro.cli(main))
