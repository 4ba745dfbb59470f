"""Command lines. Run them from the repository's root: ``python -m scripts.train_cartpole --help``."""

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ctrl-C ends in one line and exit status 130, also while modules load."""
    if not isinstance(error, KeyboardInterrupt):
        return sys.__excepthook__(kind, error, trace)
    print(f"interrupted: {error if error.args else 'nothing was saved'}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(130)  # at once: taking the interpreter down costs more than a second on a busy machine


sys.excepthook = _uncaught


def run(main: Callable[[], Any]) -> None:
    """Call ``main``. Bad input ends in one line and exit status 1, Ctrl-C (or SIGTERM) in one line and 130."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except (ValueError, TypeError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


def import_from_here() -> None:
    """Let "module:Name-v0" name a module of the working directory, however the script was started."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


@contextmanager
def earlier_run_set_aside(log_dir: Path, path: Path) -> Iterator[None]:
    """A context for a training that keeps the files of an earlier run.

    They move into ``earlier-1`` (or ``earlier-2``, ...) beside them, and back if the training never begins.

    Args:
        log_dir: the directory of TensorBoard's files.
        path: the file that the training will save.
    """
    events = "events.out.tfevents.*"
    endings = ("", "-best", "-interrupted", "-interrupted-best")
    files = [file for ending in endings if (file := path.with_stem(path.stem + ending)).is_file()]
    files += log_dir.glob(events)
    number = 1
    while any((file.parent / f"earlier-{number}").exists() for file in files):
        number += 1
    moved = {file: file.parent / f"earlier-{number}" / file.name for file in files}
    for file, target in moved.items():
        target.parent.mkdir(exist_ok=True)
        file.rename(target)
    directories = {target.parent for target in moved.values()}
    try:
        yield
    finally:
        if any(log_dir.glob(events)) or any(file.exists() for file in moved):
            for directory in directories:
                print(f"the earlier run is now in {directory}")
        else:
            for file, target in moved.items():
                target.rename(file)
            for directory in directories:
                directory.rmdir()


@contextmanager
def saving(path: Path, save: Callable[[Path], None], learnt: Callable[[], bool]) -> Iterator[Callable[[], None]]:
    """A context for training. If it is interrupted, what was learnt is saved under the name with ``-interrupted``.

    Args:
        path: the file for the finished training.
        save: writes a file.
        learnt: returns True if there is something to save.

    Returns:
        A context whose value is the function that saves the finished training.

    Raises:
        KeyboardInterrupt: the training was interrupted; the message says what was saved.
    """
    saved: list[Path] = []

    def keep(target: Path) -> None:
        save(target)
        saved.append(target)

    try:
        yield lambda: keep(path)
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        if not saved and learnt():
            keep(path.with_stem(f"{path.stem}-interrupted"))
        saying = f"saved {saved[0]}" if saved else "nothing was learnt yet, so nothing was saved"
        raise KeyboardInterrupt(saying) from None


def check_writable(path: Path | None, flag: str) -> None:
    """Check, before anything is trained, that a file can be written.

    Raises:
        ValueError: its directory does not exist or is not writable, or it is a directory itself.
    """
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK)):
        raise ValueError(f"{flag}: cannot write the file {str(path)!r}; its directory must exist and be writable")


def write_json(output: Path | None, value: Any) -> None:
    """Write a file of results, if one is asked for."""
    from rlce.checkpoint import write_atomically

    if output is not None:
        write_atomically(output, json.dumps(value, indent=2).encode())


def finish(result: dict[str, Any], output: Path | None, log_dir: Path) -> None:
    """Print the closing table, and write it as JSON if there is an output file."""
    write_json(output, result)
    print("\n".join(f"{name:22} {value}" for name, value in result.items()))
    print(f"curves: make tensorboard, or tensorboard --logdir {log_dir.parent}")


def saved_agent(run: Path, env: str | None, env_kwargs: str) -> tuple[Any, str, dict[str, Any]]:
    """Load an agent, and print what it is and where it will play.

    Args:
        run: the saved file, or the directory that holds agent.safetensors.
        env: the environment to play in; None for the one of the training.
        env_kwargs: keyword arguments of ``env``, as JSON.

    Returns:
        (agent, the environment's id, its keyword arguments).

    Raises:
        FileNotFoundError: there is no such file or directory.
        ValueError: the file is no agent's, or names an environment that only the user may import, or none.
    """
    from rlce import PolicyGradient

    import_from_here()
    path = run / "agent.safetensors" if run.is_dir() else run
    if run.is_dir() and not path.is_file():
        others = ", ".join(sorted(file.name for file in run.glob("*.safetensors"))) or "no .safetensors file"
        raise FileNotFoundError(
            f"{str(run)!r} holds no agent.safetensors, which scripts.train saves at its end; it holds {others}. "
            "Name a saved agent's file, or another run"
        )
    agent = PolicyGradient.load(path)
    trained_in, kwargs = agent.trained_in
    if env is not None:
        trained_in, kwargs = env, keywords(env_kwargs, "--env-kwargs")
    if trained_in is None:
        raise ValueError("the agent was not trained in an environment with an id; name one with --env")
    if env is None and ":" in trained_in:
        raise ValueError(
            f"env: the file names {trained_in!r}, which would import the module {trained_in.rpartition(':')[0]!r}. "
            f"A file may come from a stranger: if you trust it, pass --env {trained_in}"
        )
    # A file may come from a stranger, so its environment is shown before it is made.
    given = f" with {dict(kwargs)}" if kwargs else ""
    print(f"{path}: {trained_in}{given}, {agent.steps:,} training steps", flush=True)
    return agent, trained_in, kwargs


def keywords(text: str, flag: str) -> dict[str, Any]:
    """Keyword arguments from a JSON object, such as ``{"max_episode_steps": 200}``."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{flag} must be a JSON object, got {text!r}: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{flag} must be a JSON object, got {text!r}")
    return value
