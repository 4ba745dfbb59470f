"""Break the library on purpose, one place at a time, and see whether the tests notice.

Each mutation of ``tests/mutants.toml`` names a file, a text that occurs in it once, its replacement, and the tests that
should then fail. The tests run on a copy of the working tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

import scripts

ROOT = Path(__file__).parents[1]
CATALOGUE = ROOT / "tests" / "mutants.toml"

Verdict = Literal["killed", "SURVIVED", "NO LONGER APPLIES", "BROKEN"]


@dataclass(frozen=True)
class Arguments:
    """Apply each mutation, run the tests that should fail, print the result. The exit status is 1 if one survived."""

    only: str = ""
    """Run only the mutations whose name contains this."""
    jobs: int = 2
    """Number of mutations at the same time, each on its own copy."""


@dataclass(frozen=True)
class Mutant:
    """One mutation.

    Attributes:
        name: what is broken.
        file: where, from the root.
        find: a text that occurs in the file exactly once.
        replace: its replacement.
        tests: arguments of pytest; at least one of these tests must fail.
    """

    name: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]


def catalogue(path: Path = CATALOGUE) -> list[Mutant]:
    """All mutations, in the order of the file.

    Raises:
        ValueError: two mutations have the same name.
    """
    entries = tomllib.loads(path.read_text())["mutant"]
    mutants = [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]
    names = [mutant.name for mutant in mutants]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(f"{path.name}: names must differ, got {sorted(repeated)} twice")
    return mutants


def mutated(mutant: Mutant, root: Path = ROOT) -> str | None:
    """The file's text with the mutation; None if it no longer applies."""
    path = root / mutant.file
    text = path.read_text() if path.is_file() else ""
    return text.replace(mutant.find, mutant.replace) if text.count(mutant.find) == 1 else None


def run_tests(tree: Path, tests: tuple[str, ...], *flags: str) -> int:
    """Pytest's exit status: 0 if all passed, 1 if one failed."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *flags, *tests]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode


def judge(mutant: Mutant, tree: Path) -> Verdict:
    """Apply one mutation to a copy of the tree and run its tests."""
    text = mutated(mutant, tree)
    if text is None:
        return "NO LONGER APPLIES"
    (tree / mutant.file).write_text(text)
    verdicts: dict[int, Verdict] = {0: "SURVIVED", 1: "killed"}
    # BROKEN: no test was collected, or a module cannot be imported.
    return verdicts.get(run_tests(tree, mutant.tests), "BROKEN")


def copy_tree(to: Path) -> Path:
    """Copy the files that git tracks, and new ones that it does not ignore, as they are now."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in listing.stdout.splitlines():
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def main(arguments: Arguments) -> int:
    """Print one line for each mutation and the total; returns the number that was not killed."""
    mutants = [mutant for mutant in catalogue() if arguments.only in mutant.name]
    if not mutants:
        raise ValueError(f"--only: no mutation's name contains {arguments.only!r}")
    began = time.monotonic()

    def judged(mutant: Mutant) -> Verdict:
        with tempfile.TemporaryDirectory() as directory:
            return judge(mutant, copy_tree(Path(directory)))

    with tempfile.TemporaryDirectory() as directory:
        tests = tuple(sorted({test for mutant in mutants for test in mutant.tests}))
        if run_tests(copy_tree(Path(directory)), tests, "-n", str(arguments.jobs), "--dist", "worksteal") != 0:
            print("the tests fail without any mutation")
            return len(mutants)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        verdicts = []
        for mutant, verdict in zip(mutants, pool.map(judged, mutants), strict=True):
            verdicts.append(verdict)
            print(f"{verdict:18} {mutant.file}: {mutant.name}", flush=True)
    killed = verdicts.count("killed")
    print(f"{killed} of {len(mutants)} mutations killed, {time.monotonic() - began:.0f} s")
    return len(mutants) - killed


if __name__ == "__main__":
    scripts.run(lambda: sys.exit(min(main(tyro.cli(Arguments)), 1)))
