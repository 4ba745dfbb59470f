"""Run a script as its users do, and read all that it said."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*arguments: str, ok: bool = True, apart: bool = False, environment: Mapping[str, str] | None = None) -> str:
    """Run ``python ARGUMENTS...`` in the repository's root; returns standard output and then standard error.

    ``-m MODULE ...`` runs in this process, as the module ``__main__`` with arguments of its own: a new process would
    import PyTorch again each time, and that takes longer than what most of these commands do.

    Args:
        *arguments: all that comes after ``python``.
        ok: the command must succeed; if False, it must fail.
        apart: a process of its own, also for a module.
        environment: variables for a process of its own; without those that are empty.
    """
    if arguments[0] == "-m" and not apart and environment is None:
        code, said = _run_here(arguments[1], arguments[2:])
    else:
        variables = {name: value for name, value in {**os.environ, **(environment or {})}.items() if value}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables)
        code, said = done.returncode, done.stdout + done.stderr
    assert (code == 0) == ok, said
    return said


def _run_here(module: str, arguments: tuple[str, ...]) -> tuple[int, str]:
    output, errors, code = io.StringIO(), io.StringIO(), 0
    before = sys.argv, os.getcwd(), signal.getsignal(signal.SIGTERM)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors), warnings.catch_warnings():
        _python_s_own_filters()
        os.chdir(ROOT)
        sys.argv = [module, *arguments]
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            code = 1
        finally:
            sys.argv = before[0]
            os.chdir(before[1])
            signal.signal(signal.SIGTERM, before[2])
    return code, output.getvalue() + errors.getvalue()


def _python_s_own_filters() -> None:
    """The tests' own filters would make errors of warnings."""
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")
    warnings.filterwarnings("ignore", "'scripts", RuntimeWarning, "runpy")  # a test has imported the script
