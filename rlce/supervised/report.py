"""`Report`: how good an estimator is on held-out rows, as a value, and its forms: text, JSON, HTML, Markdown.

`rlce.report` computes it.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import math
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from rlce import plots
from rlce.checkpoint import write_atomically

SHOWN = 20  # classes and columns that a text, a table or a plot has room for
_WIDTH = 80  # of a terminal

_MEANING = {
    "accuracy": "share of right predictions",
    "balanced accuracy": "mean over classes of the share found",
    "macro F1": "mean over classes of F1",
    "log-loss": "mean of −log(probability of the true class); 0 is perfect",
    "ROC AUC": "chance that a row of a class gets a higher probability of it than another row; mean over classes",
    "average precision": "area under precision against recall; mean over classes",
    "calibration error": "mean distance of confidence and accuracy, over 15 bins of confidence; 0 is perfect",
    "MAE": "mean of |true − predicted|",
    "RMSE": "root of the mean squared error",
    "R²": "1 − squared error / squared error of the test rows' own mean; 1 is perfect",
    "coverage": "share of true values inside the interval",
    "mean width": "of the interval",
    "pinball loss": "mean over both bounds, as quantiles; less is better",
}


@dataclass(frozen=True)
class ClassRow:
    """The test rows of one class. A measure is None where it is undefined.

    Attributes:
        label: of the class.
        rows: that have this label.
        precision: share of right ones among the rows predicted to be of this class.
        recall: share of the class's rows that were found.
        f1: the harmonic mean of both.
        roc_auc: area under the ROC curve, this class against all others.
        average_precision: area under precision against recall.
    """

    label: str
    rows: int
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    average_precision: float | None


@dataclass(frozen=True)
class Confusion:
    """Counts of true and predicted classes.

    Attributes:
        labels: up to 20, ``[K]``; if there are more classes, the most frequent of the test rows.
        counts: a row for each true class, a column for each predicted, ``[K, K]``.
    """

    labels: list[str]
    counts: list[list[int]]


@dataclass(frozen=True)
class Bins:
    """The test rows by the probability of the predicted class, see `rlce.calibration.reliability`.

    Attributes:
        rows: in each bin, ``[bins]``.
        confidence: the mean probability in each bin, ``[bins]``; None in an empty one.
        accuracy: the share of right predictions in each bin, ``[bins]``; None in an empty one.
    """

    rows: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


@dataclass(frozen=True)
class Points:
    """True and predicted numbers of the test rows, or of a sample of them.

    Attributes:
        true: ``[N]``.
        predicted: ``[N]``.
        interval: lower and upper bounds, ``[N, 2]``; None if the estimator gives none.
    """

    true: list[float]
    predicted: list[float]
    interval: list[list[float]] | None


@dataclass(frozen=True)
class Importance:
    """What is lost if the values of one column are shuffled among the test rows.

    Attributes:
        score: the loss that rises: "log-loss" or "RMSE".
        columns: names, the most important first, ``[C]``.
        means: the rise, the mean over shuffles, ``[C]``.
        deviations: its standard deviation over shuffles, ``[C]``.
    """

    score: str
    columns: list[str]
    means: list[float]
    deviations: list[float]


@dataclass(frozen=True)
class Report:
    """How good an estimator is on held-out rows. ``print`` shows it.

    Attributes:
        task: "classification" or "regression".
        test_rows: the number of test rows.
        training_rows: the number of training rows; None if these were not given.
        measures: measure → its value for "test", and for "training" and "constant guess" if the training rows were
            given. None where it is undefined.
        notes: what is undefined and why, and what was measured on a part only.
        classes: a row for each class; empty for a regression.
        confusion: the confusion matrix, or None for a regression.
        reliability: confidence and accuracy, or None for a regression.
        points: true and predicted numbers, or None for a classification.
        importance: of the columns, or None if it was not measured.

    Example:
        >>> print(Report("regression", 9, None, {"MAE": {"test": 0.25}, "R²": {"test": None}}, ["R²: undefined"]))
        9 test rows
        <BLANKLINE>
             test
        MAE  0.25
        R²      —
        <BLANKLINE>
        R²: undefined
    """

    task: Literal["classification", "regression"]
    test_rows: int
    training_rows: int | None
    measures: dict[str, dict[str, float | None]]
    notes: list[str] = dataclasses.field(default_factory=list)
    classes: list[ClassRow] = dataclasses.field(default_factory=list)
    confusion: Confusion | None = None
    reliability: Bins | None = None
    points: Points | None = None
    importance: Importance | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything as values that JSON can hold: numbers are finite or None."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        parts = [self._size()]
        for title, cells in self._tables(_plain):
            parts += [f"{title}\n{_aligned(cells)}" if title else _aligned(cells)]
        parts[2:2] = ["\n".join(textwrap.fill(note, _WIDTH) for note in self.notes)] if self.notes else []
        if self.confusion is not None:
            parts += [_matrix(self.confusion, len(self.classes))]
        return "\n\n".join(parts)

    def write(self, path: str | os.PathLike[str], title: str = "Report") -> None:
        """Write one HTML file that holds its plots, or a Markdown file with PNG files beside it.

        Each file appears when it is complete, the Markdown file last. Existing files are replaced.

        Args:
            path: a name that ends in ``.html`` or ``.md``. The plots of ``report.md`` are ``report-importance.png`` and
                so on.
            title: the heading.

        Raises:
            ValueError: another ending, or a file that cannot be written.
            ModuleNotFoundError: matplotlib is not installed.
        """
        path = check_path(path)
        pictures = self._plots()
        if path.suffix == ".html":
            write_atomically(path, self._html(title, pictures).encode())
            return
        links = {}
        for name, (words, picture) in pictures.items():
            file = path.with_name(f"{path.stem}-{name}.png")
            write_atomically(file, picture)
            links[quote(file.name)] = words
        write_atomically(path, self._markdown(title, links).encode())

    def _size(self) -> str:
        training = "" if self.training_rows is None else f", {self.training_rows:,} training rows"
        return f"{self.test_rows:,} test row{'s' * (self.test_rows != 1)}{training}"

    def _remarks(self) -> list[str]:
        """The notes, and what the constant guess is, for readers who do not know it."""
        if self.training_rows is None:
            return self.notes
        what = "class frequencies" if self.task == "classification" else "mean (and quantiles)"
        return [f"constant guess: the {what} of the training rows", *self.notes]

    def _tables(self, text: Callable[[str], str], meaning: bool = False) -> Iterable[tuple[str, list[list[str]]]]:
        """Titles and cells of the tables, the header first; ``text`` makes a name of the data fit to be shown."""
        number = _decimals if self.task == "classification" else _significant
        heads = list(next(iter(self.measures.values())))
        rows = [[name, *map(number, values.values())] for name, values in self.measures.items()]
        if meaning:
            rows = [[*row, next((_MEANING[key] for key in _MEANING if row[0].startswith(key)), "")] for row in rows]
        yield "", [["", *heads, *(["meaning"] if meaning else [])], *rows]
        if self.classes:
            shown = _most_frequent(self.classes)
            cells = [["class", "rows", "precision", "recall", "F1", "ROC AUC", "av. precision"]]
            for one in shown:
                measured = (one.precision, one.recall, one.f1, one.roc_auc, one.average_precision)
                cells += [[text(one.label), f"{one.rows:,}", *map(_decimals, measured)]]
            yield f"classes{_cut(len(shown), len(self.classes), 'most frequent')}", cells
        if self.importance is not None:
            found, names = self.importance, self.importance.columns[:SHOWN]
            cells = [["column", f"rise of {found.score}", "±"]]
            # As many decimals for all as give the largest number four figures.
            largest = max(map(abs, found.means))
            decimals = max(0, 3 - math.floor(math.log10(largest))) if largest > 0 else 0
            for name, mean, deviation in zip(names, found.means, found.deviations, strict=False):
                cells += [[text(name), f"{mean:.{decimals}f}", f"{deviation:.{decimals}f}"]]
            cut = _cut(len(names), len(found.columns), "largest")
            yield f"importance: rise of {found.score} when a column is shuffled{cut}", cells

    def _plots(self) -> dict[str, tuple[str, bytes]]:
        """For each plot its name, its caption and a PNG file."""
        found = {}
        if self.confusion is not None:
            words = f"Confusion matrix{_cut(len(self.confusion.labels), len(self.classes), 'most frequent')}"
            labels = [_plain(label, 16) for label in self.confusion.labels]
            found["confusion"] = words, plots.confusion(labels, self.confusion.counts)
        if self.reliability is not None:
            rows, *shares = dataclasses.astuple(self.reliability)
            confidence, accuracy = ([float("nan") if share is None else share for share in each] for each in shares)
            words = "Reliability: confidence against accuracy"
            found["reliability"] = words, plots.reliability(rows, confidence, accuracy)
        if self.points is not None:
            true, predicted, interval = dataclasses.astuple(self.points)
            found["predictions"] = "Predicted against true", plots.predictions(true, predicted, interval)
            found["residuals"] = "Residuals", plots.residuals(true, predicted)
        if self.importance is not None:
            score, *columns = dataclasses.astuple(self.importance)
            names, means, deviations = (each[:SHOWN] for each in columns)
            words = f"Importance of columns{_cut(len(names), len(columns[0]), 'largest')}"
            labels = [_plain(name, 28) for name in names]
            found["importance"] = words, plots.importance(labels, means, deviations, score)
        return found

    def _html(self, title: str, pictures: dict[str, tuple[str, bytes]]) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"

        body = [f"<h1>{html.escape(title)}</h1>", f"<p>{self._size()}</p>"]
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self._remarks())
        tables = []
        for words, (head, *rows) in self._tables(lambda name: html.escape(_plain(name, 60)), meaning=True):
            heading = f"<h2>{words[:1].upper()}{words[1:]}</h2>" if words else ""
            lines = [row(head, "th"), *(row(cells, "td") for cells in rows)]
            # Only the first table has sentences; they stand in its last column.
            kind = "" if words else ' class="measures"'
            tables += [f'{heading}<div class="wide"><table{kind}>{"".join(lines)}</table></div>']
        body += [tables[0], f"<ul>{notes}</ul>" if notes else "", '<div class="plots">']
        for words, picture in pictures.values():
            source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
            body += [f'<figure><img alt="{words}" src="{source}"><figcaption>{words}</figcaption></figure>']
        return _PAGE.format(title=html.escape(title), body="\n".join([*body, "</div>", *tables[1:]]))

    def _markdown(self, title: str, links: dict[str, str]) -> str:
        parts = [f"# {_escaped(title)}", self._size()]
        for words, (head, *rows) in self._tables(_escaped, meaning=True):
            rule = ["---", *("---" if name == "meaning" else "---:" for name in head[1:])]
            lines = "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
            parts += [*([f"## {words[0].upper()}{words[1:]}"] if words else []), lines]
        shown = [f"![{words}]({link})" for link, words in links.items()]
        notes = "\n".join(f"* {_escaped(note, 1000)}" for note in self._remarks())
        parts[3:3] = [*([notes] if notes else []), "## Plots", *shown]
        return "\n\n".join(parts) + "\n"


def check_path(path: str | os.PathLike[str]) -> Path:
    """The path of a report, if one can be written there.

    Raises:
        ValueError: its name does not end in ``.html`` or ``.md``.
        ModuleNotFoundError: matplotlib is not installed.

    Example:
        >>> check_path("report.html").name
        'report.html'
    """
    path = Path(path)
    if path.suffix not in (".html", ".md"):
        raise ValueError(f"report: the file must end in .html or .md, got {str(path)!r}")
    plots.check_installed()
    return path


def _most_frequent(classes: list[ClassRow]) -> list[ClassRow]:
    """All classes if there is room for them, else the most frequent ones."""
    return classes if len(classes) <= SHOWN else sorted(classes, key=lambda one: -one.rows)[:SHOWN]


def _cut(shown: int, of: int, how: str) -> str:
    return "" if shown == of else f" (the {shown} {how} of {of:,})"


def _decimals(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"


def _significant(value: float | None) -> str:
    return "—" if value is None else f"{value:.5g}"


def _plain(name: str, longest: int = 22) -> str:
    """A name of the data on one line, without control characters, cut if it is long."""
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def _escaped(name: str, longest: int = 60) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#$~])", r"\\\1", _plain(name, longest))


def _aligned(rows: list[list[str]]) -> str:
    """Cells as text: the first column on the left, the others on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        rest = "".join(f"{cell:>{width + 2}}" for cell, width in zip(others, widths[1:], strict=True))
        lines.append(f"{first:<{widths[0]}}{rest}")
    return "\n".join(lines)


def _matrix(confusion: Confusion, classes: int) -> str:
    """The confusion matrix as text, cut to what fits a terminal."""
    labels = [_plain(label, 16) for label in confusion.labels]
    cell = max(3, *(len(str(number)) for row in confusion.counts for number in row))
    named = max(map(len, labels)) <= max(cell, 7)
    if not named:  # long names stand beside the rows alone, numbers above the columns
        labels = [f"{number} {label}" for number, label in enumerate(labels, start=1)]
    heads = [label if named else label.partition(" ")[0] for label in labels]
    cell = max(cell, *map(len, heads)) + 2
    count = max(2, (_WIDTH - max(map(len, labels))) // cell)
    cells = [[str(number) for number in row[:count]] for row in confusion.counts[:count]]
    cut = _cut(len(cells), classes, "most frequent") if len(labels) < classes else ""
    if len(cells) < len(labels) == classes:
        cut = f" (the first {len(cells)} of {classes} classes)"
    rows = [["", *heads[:count]], *([label, *row] for label, row in zip(labels, cells, strict=False))]
    return f"confusion matrix: rows true, columns predicted{cut}\n{_aligned(rows)}"


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }}
th:first-child, td:first-child, .measures td:last-child, .measures th:last-child {{ text-align: left; }}
.measures td:last-child {{ color: #666; white-space: normal; }}
.wide {{ overflow-x: auto; }}
.plots {{ display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-end; }}
figure {{ margin: 1rem 0; }} img {{ max-width: 100%; }} figcaption {{ color: #666; text-align: center; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
