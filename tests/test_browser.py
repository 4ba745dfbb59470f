"""TensorBoard's pages in a real browser, over runs of both halves in one log directory.

`make browser` runs these tests. They train in seconds, start TensorBoard on loopback, and open each tab in a headless
Chromium. `RLCE_SCREENSHOTS=FOLDER` keeps the pictures of the tabs there.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlce
from rlce.scalars import POLICY_LAYOUT, ROWS_LAYOUT
from scripts import train, train_classifier

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = (
    "no Chromium on the path: apt-get install chromium"
    if CHROMIUM is None
    else "playwright is not installed: pip install 'rlce[browser]'"
    if importlib.util.find_spec("playwright") is None
    else ""
)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

RUNS = ("cartpole", "diabetes", "iris")
PATIENCE = 120_000  # milliseconds, for machines that do other things; nothing waits longer than it must


class Board(NamedTuple):
    """A TensorBoard that runs, and how to look at it."""

    runs: Path
    open: Callable[[str], Page]
    keep: Callable[[Page, str], None]

    def last(self, run: str, tag: str) -> tuple[float, int]:
        """Value and step of the last point that TensorBoard's own reader finds."""
        events = EventAccumulator(str(self.runs / run), size_guidance={"scalars": 0})
        event = events.Reload().Scalars(tag)[-1]
        return event.value, event.step


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a policy, a classifier and a regressor, by the commands that users run."""
    folder = tmp_path_factory.mktemp("runs")
    rows = tmp_path_factory.mktemp("data") / "diabetes.npz"
    X, y = load_diabetes(return_X_y=True)
    np.savez(rows, X=X, y=y)
    train.main(
        train.Arguments(
            *("CartPole-v1/ppo",),
            total_timesteps=3_000,
            evaluate_every=1_000,
            episodes=10,
            quiet=True,
            log_dir=folder / "cartpole",
        )
    )
    train_classifier.main(train_classifier.Arguments("iris", epochs=20, quiet=True, log_dir=folder / "iris"))
    train_classifier.main(
        train_classifier.Arguments(
            str(rows), task="regression", cost="gaussian", epochs=20, quiet=True, log_dir=folder / "diabetes"
        )
    )
    return folder


@pytest.fixture(scope="module")
def board(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """TensorBoard on loopback, as `make tensorboard` starts it, and a browser."""
    from playwright.sync_api import sync_playwright

    pictures = Path(os.environ.get("RLCE_SCREENSHOTS") or tmp_path_factory.mktemp("pictures"))
    pictures.mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-m", "tensorboard.main", "--logdir", str(runs), "--host", "127.0.0.1", "--port", "0")
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server,
        sync_playwright() as playwright,
        # Without 3-D, TensorBoard draws SVG. It would draw WebGL in software, which takes far longer.
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-3d-apis"], timeout=PATIENCE) as browser,
    ):
        try:
            assert server.stderr is not None
            address = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in server.stderr)))

            def page(path: str) -> Page:
                opened = browser.new_page(viewport={"width": 1500, "height": 1000})
                opened.set_default_timeout(PATIENCE)
                opened.on("pageerror", lambda error: errors.append(str(error)))
                opened.goto(f"{address[0]}{path}")
                return opened

            def keep(page: Page, name: str) -> None:
                page.screenshot(path=pictures / f"{name}.png")
                page.close()

            errors: list[str] = []
            yield Board(runs, page, keep)
            assert errors == []
        finally:
            server.terminate()


def numbers(text: str) -> list[float]:
    return [
        float(found.replace(",", "").replace("−", "-")) for found in re.findall(r"[-−]?\d[\d,]*\.?\d*(?:e-?\d+)?", text)
    ]


def shows(text: str, value: float, step: int) -> bool:
    """True if the value, as TensorBoard rounds it, and the step stand in the text."""
    found = numbers(text)
    return step in found and any(abs(number - value) <= 1e-4 * max(1.0, abs(value)) for number in found)


def hover(page: Page, chart: Locator, value: float, step: int) -> str:
    """Point at a chart's right end until its tooltip has the value; the tooltip's text."""
    chart.scroll_into_view_if_needed()
    tooltip = page.locator("vz-chart-tooltip, .vz-chart-tooltip").locator("visible=true")
    for part in (0.95, 0.9, 0.97, 0.85, 0.93) * 4:
        box = chart.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + part * box["width"], box["y"] + 0.5 * box["height"])
        page.wait_for_timeout(250)
        text = "\n".join(tooltip.all_inner_texts())
        if shows(text, value, step):
            return text
    raise AssertionError(f"no tooltip shows {value} at step {step}: {text!r}")


def test_time_series(board: Board) -> None:
    tags = {
        "rollout/ep_rew_mean": "cartpole",
        "eval/mean_reward": "cartpole",
        "val/accuracy": "iris",
        "val/coverage": "diabetes",
    }
    page = board.open(f"?tagFilter={'|'.join(tags)}&smoothing=0#timeseries")
    for tag, run in tags.items():
        group, _, name = tag.partition("/")
        card = page.locator("scalar-card").filter(has_text=re.compile(rf"{group}\s*/{name}"))
        row = card.locator("tb-data-table-content-row").filter(has_text=run)
        row.wait_for()
        assert shows(row.inner_text(), *board.last(run, tag)), (tag, row.inner_text())
    for run in RUNS:
        assert page.locator("runs-data-table").get_by_text(run, exact=True).is_visible()
    board.keep(page, "time-series")


def test_scalars(board: Board) -> None:
    tags = {"rollout/ep_rew_mean": "cartpole", "val/accuracy": "iris", "val/coverage": "diabetes"}
    page = board.open(f"#scalars&tagFilter={'|'.join(tags)}&_smoothingWeight=0")
    for tag, run in tags.items():
        card = page.locator("tf-scalar-card").filter(has_text=f"tag: {tag}").locator("visible=true").first
        card.wait_for()
        assert run in hover(page, card.locator("vz-line-chart2"), *board.last(run, tag))
    board.keep(page, "scalars")


def test_custom_scalars(board: Board) -> None:
    page = board.open("#custom_scalars&_smoothingWeight=0")
    dashboard = page.locator("tf-custom-scalar-dashboard")
    for title in {*POLICY_LAYOUT, *ROWS_LAYOUT}:
        dashboard.get_by_role("button", name=title).wait_for()
    for tag, run, chart in (
        ("eval/mean_reward", "cartpole", "return"),
        ("val/accuracy", "iris", "accuracy"),
        ("val/loss", "diabetes", "loss"),
    ):
        card = dashboard.locator("tf-custom-scalar-multi-line-chart-card").filter(
            has=page.get_by_text(chart, exact=True)
        )
        text = hover(page, card.locator("vz-line-chart2").first, *board.last(run, tag))
        assert run in text
    assert dashboard.locator("tf-custom-scalar-margin-chart-card").count() == 1
    board.keep(page, "custom-scalars")


def test_images(board: Board) -> None:
    page = board.open("#images")
    for tag, run in (
        ("policy/values_and_returns", "cartpole"),
        ("val/confusion", "iris"),
        ("val/reliability", "iris"),
        ("val/predictions", "diabetes"),
        ("val/residuals_plot", "diabetes"),
    ):
        image = page.locator("tf-image-loader").filter(has_text=f"tag: {tag}").filter(has_text=run)
        image.locator("img").wait_for()
        image.scroll_into_view_if_needed()
        page.wait_for_function("image => image.naturalWidth > 300", arg=image.locator("img").element_handle())
    page.mouse.wheel(0, -10_000)
    board.keep(page, "images")


def test_histograms(board: Board) -> None:
    page = board.open("#histograms")
    for tag, run in (
        ("policy/weights", "cartpole"),
        ("policy/advantages", "cartpole"),
        ("train/row_weights", "iris"),
        ("val/residuals", "diabetes"),
    ):
        histogram = page.locator("tf-histogram-loader").filter(has_text=f"tag: {tag}").filter(has_text=run)
        histogram.scroll_into_view_if_needed()
        histogram.locator("svg .histogram").first.wait_for(state="attached")
        outline = histogram.locator("svg .histogram path").first.get_attribute("d")
        assert outline is not None
        assert outline.count("L") >= 3
    page.mouse.wheel(0, -10_000)
    board.keep(page, "histograms")


def test_text(board: Board) -> None:
    page = board.open("#text&tagFilter=versions|configuration")
    for tag, run, cells in (
        ("run/versions", "iris", ("rlce", rlce.__version__)),
        ("run/configuration", "cartpole", ("env", "CartPole-v1")),
        ("run/configuration", "diabetes", ("cost", "gaussian")),
    ):
        table = page.locator("tf-text-loader").filter(has_text=f"tag: {tag}").filter(has_text=run)
        table.locator("table").first.wait_for()
        rows = [tuple(row.split("\t")) for row in table.locator("tr").all_inner_texts()]
        assert cells in rows, rows
    board.keep(page, "text")


def test_hparams(board: Board) -> None:
    page = board.open("#hparams")
    page.set_viewport_size({"width": 2200, "height": 700})
    grid = page.locator("tf-hparams-table-view")
    grid.get_by_text("cross-entropy", exact=True).wait_for()
    page.wait_for_timeout(0)
    expected: dict[str, list[Any]] = {
        "cartpole": ["ppo", "CartPole-v1", board.last("cartpole", "end/greedy_return")[0]],
        "diabetes": ["gaussian", "regression"],
        "iris": ["cross-entropy", "classification", board.last("iris", "end/test_accuracy")[0]],
    }
    texts = [text.strip() for text in grid.locator("vaadin-grid-cell-content").all_inner_texts()]
    for run, values in expected.items():
        assert run in texts
        for value in values:
            # TensorBoard shows five significant digits.
            there = (
                value in texts
                if isinstance(value, str)
                else any(abs(number - value) <= 1e-4 * abs(value) for text in texts for number in numbers(text))
            )
            assert there, (run, value, texts)
    assert {"Learning rate", "Method", "Seed", "Task", "end/greedy_return"} <= set(texts)
    board.keep(page, "hparams")
