"""Scripts as processes beside each other."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path


def finished(
    commands: Mapping[Path, Sequence[str]], jobs: int, cwd: Path | None = None
) -> Generator[tuple[Path, int], None, None]:
    """Run commands, a few at a time.

    If the caller closes the iterator early, or an exception such as Ctrl-C comes up in it, the commands that run are
    ended by SIGTERM and waited for, so that they may save what they have. Ctrl-C while they save kills them.

    Args:
        commands: the file for what a command prints → its words.
        jobs: processes at a time.
        cwd: their working directory; by default this process's.

    Yields:
        The file and the exit status of each command, in the order in which they end.
    """
    waiting, running = list(commands.items()), dict[Path, subprocess.Popen[bytes]]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                path, command = waiting.pop(0)
                with path.open("wb") as log:
                    # In a process group of its own: a terminal sends Ctrl-C to all of its group, and a second signal
                    # would end a script that is saving.
                    running[path] = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0, cwd=cwd
                    )
            for path, process in list(running.items()):
                if process.poll() is not None:
                    del running[path]
                    yield path, process.returncode
            time.sleep(0.1)
    finally:
        for process in running.values():
            process.terminate()
        try:
            for process in running.values():
                process.wait()
        except KeyboardInterrupt:
            for process in running.values():
                process.kill()
            raise
