"""All mutations apply to the code as it is, and the tool gives the right verdict. `make mutants` runs them."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from scripts.mutants import ROOT, Mutant, catalogue, judge, mutated

MUTANTS = catalogue()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutation_applies_and_is_python(mutant: Mutant) -> None:
    text = mutated(mutant)
    assert text is not None
    assert text != (ROOT / mutant.file).read_text()
    ast.parse(text)
    assert mutant.tests
    for test in mutant.tests:
        assert (ROOT / test).is_file()


def test_there_are_enough_of_them_everywhere() -> None:
    folders = Counter(Path(mutant.file).parent.name for mutant in MUTANTS)
    assert set(folders) == {"rlce", "rules", "reinforcement", "supervised", "scripts"}
    assert len(MUTANTS) >= 40


@pytest.mark.parametrize(
    ("find", "replace", "verdict"),
    [
        ("return 1", "return 2", "killed"),
        ("# one", "# two", "SURVIVED"),
        ("return 3", "return 4", "NO LONGER APPLIES"),
        ("return 1", "return (", "BROKEN"),
    ],
)
def test_the_verdict_on_a_mutation(tmp_path: Path, find: str, replace: str, verdict: str) -> None:
    code = "def one():\n    return 1  # one\n"
    (tmp_path / "code_.py").write_text(code)
    (tmp_path / "test_code.py").write_text("from code_ import one\n\n\ndef test():\n    assert one() == 1\n")
    mutant = Mutant("a name", "code_.py", find, replace, ("test_code.py",))
    assert judge(mutant, tmp_path) == verdict
