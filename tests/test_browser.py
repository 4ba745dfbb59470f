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
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlce
from rlce.scalars import POLICY_LAYOUT, ROWS_LAYOUT
from scripts import train, train_classifier

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

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
    """A TensorBoard that runs, a browser, and the folder of the pictures."""

    runs: Path
    address: str
    browser: Browser
    pictures: Path

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
            "CartPole-v1",
            total_timesteps=3_000,
            num_envs=4,  # short rounds, so that curves have several points
            evaluate_every=500,
            episodes=10,
            quiet=True,
            log_dir=folder / "cartpole",
        )
    )
    train_classifier.main(train_classifier.Arguments("iris", epochs=20, seed=1, quiet=True, log_dir=folder / "iris"))
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
        sync_playwright() as playwright,
        # Without 3-D, TensorBoard draws SVG. It would draw WebGL in software, which takes far longer.
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-3d-apis"], timeout=PATIENCE) as browser,
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stderr is not None
            found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in server.stderr)))
            yield Board(runs, found[0], browser, pictures)
        finally:
            server.terminate()


@pytest.fixture
def page(board: Board, request: pytest.FixtureRequest) -> Iterator[Page]:
    """An empty page. Its picture is kept however the test ends, and no script on it may fail."""
    opened, errors = board.browser.new_page(viewport={"width": 1500, "height": 1000}), []
    opened.set_default_timeout(PATIENCE)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.screenshot(path=board.pictures / f"{request.node.name.removeprefix('test_')}.png")
    opened.close()
    assert errors == []


def numbers(text: str) -> list[float]:
    """All numbers in a text of TensorBoard: "1,198.4", "3.959k"."""
    found = re.findall(r"(-?\d[\d,]*\.?\d*(?:e-?\d+)?)(k?)\b", text.replace("−", "-"))
    return [float(number.replace(",", "")) * (1_000 if suffix else 1) for number, suffix in found]


def shows(text: str, *wanted: float) -> bool:
    """True if all these numbers, of which TensorBoard shows at least four digits, stand in the text."""
    return all(any(abs(number - value) <= 5e-4 * abs(value) for number in numbers(text)) for value in wanted)


def hover(page: Page, chart: Locator, line: str, value: float, step: int) -> None:
    """Point at the end of a chart's curves until the tooltip's line has the value and the step."""
    chart.scroll_into_view_if_needed()
    rows = page.locator("vz-line-chart-tooltip tr")
    texts: list[str] = []
    # A curve of one point lies in the middle. A page that is still drawing shows no tooltip: so, several times.
    for part in (0.95, 0.9, 0.57) * 10:
        box = chart.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + part * box["width"], box["y"] + 0.5 * box["height"])
        page.wait_for_timeout(200)
        texts = [text for text in rows.all_inner_texts() if line in text]
        if any(shows(text, value, step) for text in texts):
            return
    raise AssertionError(f"no tooltip of {line} shows {value} at step {step}: {texts}")


def test_time_series(board: Board, page: Page) -> None:
    tags = {
        "rollout/ep_rew_mean": "cartpole",
        "eval/mean_reward": "cartpole",
        "val/accuracy": "iris",
        "val/coverage": "diabetes",
    }
    page.goto(f"{board.address}?tagFilter={'|'.join(tags)}&smoothing=0#timeseries")
    for tag, run in tags.items():
        group, _, name = tag.partition("/")
        card = page.locator("scalar-card").filter(has_text=re.compile(rf"{group}\s*/{name}"))
        row = card.locator("tb-data-table-content-row").filter(has_text=run)
        row.wait_for()
        assert shows(row.inner_text(), *board.last(run, tag)), (tag, row.inner_text())
    for run in RUNS:
        assert page.locator("runs-data-table").get_by_text(run, exact=True).is_visible()


def test_scalars(board: Board, page: Page) -> None:
    tags = {"rollout/ep_rew_mean": "cartpole", "val/accuracy": "iris", "val/coverage": "diabetes"}
    page.goto(f"{board.address}#scalars&tagFilter={'|'.join(tags)}&_smoothingWeight=0")
    page.get_by_text("Ignore outliers in chart scaling").click()  # it would hide the ends of curves
    for tag, run in tags.items():
        card = page.locator("tf-scalar-card").filter(has_text=f"tag: {tag}").locator("visible=true").first
        card.wait_for()
        hover(page, card.locator("vz-line-chart2"), run, *board.last(run, tag))


def test_custom_scalars(board: Board, page: Page) -> None:
    page.goto(f"{board.address}#custom_scalars&_smoothingWeight=0")
    page.get_by_text("Ignore outliers in chart scaling").click()  # it would hide the ends of curves
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
        hover(page, card.locator("vz-line-chart2"), f"{tag} ({run})", *board.last(run, tag))
    assert dashboard.locator("tf-custom-scalar-margin-chart-card").count() == 1


def test_images(board: Board, page: Page) -> None:
    page.goto(f"{board.address}#images")
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


def test_histograms(board: Board, page: Page) -> None:
    tags = {
        "policy/weights": "cartpole",
        "policy/advantages": "cartpole",
        "train/row_weights": "iris",
        "val/residuals": "diabetes",
    }
    page.goto(f"{board.address}#histograms&tagFilter={'|'.join(tags)}")  # without it, groups below wait for a scroll
    for tag, run in tags.items():
        histogram = page.locator("tf-histogram-loader").filter(has_text=f"tag: {tag}").filter(has_text=run).first
        histogram.scroll_into_view_if_needed()
        histogram.locator("svg .histogram").first.wait_for(state="attached")
        outline = histogram.locator("svg .histogram path").first.get_attribute("d")
        assert outline is not None
        assert outline.count("L") >= 3
    page.mouse.wheel(0, -10_000)


def test_text(board: Board, page: Page) -> None:
    page.goto(f"{board.address}#text&tagFilter=versions|configuration")
    for tag, run, cells in (
        ("run/versions", "iris", ("rlce", rlce.__version__)),
        ("run/configuration", "cartpole", ("env", "CartPole-v1")),
        ("run/configuration", "diabetes", ("cost", "gaussian")),
    ):
        table = page.locator("tf-text-loader").filter(has_text=f"tag: {tag}").filter(has_text=run)
        table.locator("table").first.wait_for()
        rows = [tuple(row.split("\t")) for row in table.locator("tr").all_inner_texts()]
        assert cells in rows, rows


def test_hparams(board: Board, page: Page) -> None:
    page.goto(f"{board.address}#hparams")
    page.set_viewport_size({"width": 2200, "height": 700})
    grid = page.locator("tf-hparams-table-view")
    grid.get_by_text("cross-entropy", exact=True).wait_for()
    cells: list[tuple[float, str]] = grid.locator("vaadin-grid-cell-content").evaluate_all(
        "cells => cells.map(cell => [Math.round(cell.getBoundingClientRect().top), cell.innerText.trim()])"
    )
    rows = [[text for y, text in cells if y == top] for top in {y for y, _ in cells}]
    assert any({"Learning rate", "Method", "Seed", "Task", "end/greedy_return"} <= set(row) for row in rows)
    for run, method, task, result in (
        ("cartpole", "ppo", "CartPole-v1", "end/greedy_return"),
        ("diabetes", "gaussian", "regression", "end/test_coverage"),
        ("iris", "cross-entropy", "classification", "end/test_accuracy"),
    ):
        (row,) = (row for row in rows if run in row)
        assert {method, task} <= set(row)
        value, _ = board.last(run, result)
        assert any(shows(text, value) for text in row), (value, row)  # five digits
