"""The documentation: pages that are generated are up to date, and code on pages runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from tests.methods_table import PATH, page
from tests.rules_table import TABLE, largest_difference

DOCS = Path(__file__).parents[1] / "docs"


def without_measured_differences(text: str) -> str:
    """They may differ by a power of ten from machine to machine; the tests bound them by 1e-10 anyway."""
    return re.sub(r"\| 1e-\d+ \|$", "| measured |", text, flags=re.MULTILINE)


def test_methods_page_is_what_the_tables_say() -> None:
    written = PATH.read_text()
    assert without_measured_differences(written) == without_measured_differences(page()), (
        "run python -m tests.methods_table"
    )
    measured = [float(number) for number in re.findall(r"\| (1e-\d+) \|$", written, flags=re.MULTILINE)]
    assert len(measured) == len(TABLE)
    assert max(measured) <= 1e-10
    assert max(map(largest_difference, TABLE)) <= 1e-10


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_new_rule_page_runs() -> None:
    found = blocks(DOCS / "new_rule.md")
    assert len(found) == 6
    names: dict[str, object] = {}
    for number, block in enumerate(found):
        exec(compile(block, f"new_rule.md, block {number + 1}", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_") and inspect.isfunction(value)]
    assert len(tests) == 2
    for test in tests:
        test()


def test_new_rules_take_at_most_fifteen_lines() -> None:
    method, _, _, of_episodes, rule, _ = blocks(DOCS / "new_rule.md")
    for block in (method, of_episodes.partition("\n\n\n")[2].partition("\n\n\n")[0], rule):
        code = [line for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        assert 1 < len(code) <= 15


def test_supervised_page_runs() -> None:
    found = blocks(DOCS / "supervised.md")
    assert len(found) == 6
    names: dict[str, object] = {}
    for number, block in enumerate(found):
        exec(compile(block, f"supervised.md, block {number + 1}", "exec"), names)


def test_reweighting_page_runs() -> None:
    found = blocks(DOCS / "reweighting.md")
    assert len(found) == 3
    names: dict[str, object] = {}
    for number, block in enumerate(found):
        exec(compile(block, f"reweighting.md, block {number + 1}", "exec"), names)
