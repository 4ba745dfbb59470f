"""Command lines. Run them from the repository's root: ``python -m scripts.train_cartpole --help``."""

import os
import sys
from collections.abc import Callable
from typing import Any

# One thread: on networks this small a second one costs more than it brings. It must be set before NumPy
# loads.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


def run(main: Callable[[], Any]) -> None:
    """Call ``main``; bad input ends in one line that says what is wrong, with exit status 1."""
    try:
        main()
    except (ValueError, TypeError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


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
