"""Command lines. Run them from the repository's root: ``python -m scripts.train_cartpole --help``."""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread: on networks this small a second one costs more than it brings. It must be set before NumPy
# loads.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def run(main: Callable[[], Any]) -> None:
    """Call ``main``; bad input ends in one line that says what is wrong, with exit status 1; a warning is one line."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        main()
    except (ValueError, TypeError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")


def check_writable(path: Path | None, flag: str) -> None:
    """Refuse a file that could not be written later, before anything is trained.

    Raises:
        ValueError: its directory does not exist or is not writable, or it is a directory itself.
    """
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK)):
        raise ValueError(f"{flag}: cannot write the file {str(path)!r}")


def finish(result: dict[str, Any], output: Path | None, log_dir: Path) -> None:
    """Print the closing table, and write it as JSON if asked to."""
    import json

    from rlce.checkpoint import write_atomically

    if output is not None:
        write_atomically(output, json.dumps(result, indent=2).encode())
    print("\n".join(f"{name:22} {value}" for name, value in result.items()))
    print(f"curves: make tensorboard, or tensorboard --logdir {log_dir.parent}")


def keywords(text: str, flag: str) -> dict[str, Any]:
    """Keyword arguments written as a JSON object, such as ``{"max_episode_steps": 200}``."""
    import json

    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{flag} must be a JSON object, got {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{flag} must be a JSON object, got {text!r}")
    return value
