"""The benchmark of the estimators' defaults: its data sets, its measures, its table."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from scripts import benchmark_tables
from scripts.benchmark_tables import TABLES, behind, of_classes, of_intervals, rows_of, summary


@pytest.mark.parametrize("name", TABLES)
def test_only_training_rows_have_faults(name: str) -> None:
    table = TABLES[name]
    (X, y), (test_X, test_y) = table.split(3)
    clean_X, clean_y = table.make(3)
    assert len(X) + len(test_X) == len(clean_X)
    assert len(test_X) == pytest.approx(0.25 * len(clean_X), abs=1)
    assert np.isfinite(X).all()
    # Every test row stands in the clean set, with its own target.
    order = {row.tobytes(): target for row, target in zip(clean_X, clean_y, strict=True)}
    assert all(order[row.tobytes()] == target for row, target in zip(test_X, test_y, strict=True))
    kept = [order.get(row.tobytes()) == target for row, target in zip(X, y, strict=True)]
    assert all(kept) is (table.spoil is None)
    assert np.mean(kept) > 0.7


def test_half_of_the_sets_of_either_kind_are_untouched() -> None:
    for regression in (False, True):
        chosen = [table.chosen_on for table in TABLES.values() if table.regression is regression]
        assert abs(2 * sum(chosen) - len(chosen)) <= 1 + (len(chosen) % 2)


def test_distances_are_in_standard_errors_of_the_difference() -> None:
    losses = {"a": [1.0, 2.0, 3.0, 4.0], "b": [2.0, 2.0, 4.0, 4.0], "c": [1.5, 2.5, 3.5, 4.5]}
    differences = np.array([1.0, 0.0, 1.0, 0.0])
    assert behind(losses, "b") == pytest.approx(differences.mean() / (differences.std(ddof=1) / 2.0))
    assert behind(losses, "a") == 0.0
    assert behind(losses, "c") == math.inf  # always the same difference


def test_measures_are_those_of_their_definitions() -> None:
    X, y = np.zeros((4, 1)), np.array([0, 0, 0, 1])
    even = DummyClassifier().fit(X, [0, 0, 1, 1])  # probabilities of a half; the first class is chosen
    measures = of_classes(even, X, y)
    assert measures["log-loss"] == pytest.approx(math.log(2.0))
    assert measures["accuracy"] == 0.75
    assert measures["macro-F1"] == pytest.approx(0.5 * 6 / 7)
    assert measures["calibration error"] == pytest.approx(0.25)

    class Wide:
        def predict_interval(self, X: np.ndarray, coverage: float) -> np.ndarray:
            assert coverage == 0.9
            return np.tile([0.0, 2.0], (len(X), 1))

    found = of_intervals(Wide(), X, np.array([1.0, 1.0, 1.0, 4.0]))
    assert (found["coverage"], found["width"]) == (0.75, 2.0)
    low, high = np.mean([0.05 * 1.0] * 3 + [0.05 * 4.0]), np.mean([0.05 * 1.0] * 3 + [0.95 * 2.0])
    assert found["pinball loss"] == pytest.approx((low + high) / 2)


def test_the_table_and_its_summary() -> None:
    runs = {
        "ours": [{"RMSE": 1.0, "CPU s": 2.0}, {"RMSE": 2.0, "CPU s": 4.0}],
        "theirs": [{"RMSE": 1.5, "CPU s": 1.0}, {"RMSE": 4.5, "CPU s": 1.0}],
    }
    assert rows_of("steps", runs) == [
        "| steps | ours | 1.5 ± 0.5 | 3.00 | 0.0 |",
        "| steps | theirs | 3 ± 1.5 | 1.00 | 1.5 |",
    ]
    lines = summary({"steps": runs, "more": runs}, "RMSE")
    assert lines[1:] == ["| ours | 2 | 2 | 6.0 |", "| theirs | 2 | 0 | 2.0 |"]
    assert len(summary({"steps": runs}, "log-loss")) == 1


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark_tables.tables(("iris", "diabetes"), seeds=2, output=tmp_path / "t.json")
    said = capsys.readouterr().out
    assert "| iris * | Classifier, early stopping |" in said
    assert "| diabetes * | Regressor, quantile |" in said
    assert "| MLPRegressor | 1 |" in said
    results = json.loads((tmp_path / "t.json").read_text())
    assert [len(runs) for runs in results["tables"]["iris"].values()] == [2] * 5
    with pytest.raises(ValueError, match="--data must be some of iris, wine, .*got 'nowhere'"):
        benchmark_tables.tables(("nowhere",))


def test_the_command_of_scalings(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark_tables.scaling(("breast cancer, a broken row", "diabetes"), seeds=2)
    said = capsys.readouterr().out
    losses = [float(line.split("|")[3].split("±")[0]) for line in said.splitlines() if "a broken row" in line]
    assert losses[0] < 0.5 * losses[1]  # robust beside standard
    assert '| diabetes * | scaling="standard" |' in said
    with pytest.raises(ValueError, match="--data must be some of iris, wine, .*got 'nowhere'"):
        benchmark_tables.scaling(("nowhere",))
