"""Command lines. Run them from the repository's root: ``python -m scripts.train_cartpole --help``."""

import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
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


_EXPECTED = ValueError, TypeError, OSError, FloatingPointError, ModuleNotFoundError
_DEBUG = "--debug"


def run(main: Callable[[], Any]) -> None:
    """Call ``main``. An error ends in one line and exit status 1, Ctrl-C (or SIGTERM) in one line and 130.

    Every script takes ``--debug``, which shows the whole trace of an error instead. A warning is one line, too.
    """
    debug = _DEBUG in sys.argv[1:]
    sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != _DEBUG]
    warnings.showwarning = _show_warning
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except SystemExit as end:
        if not end.code and {"-h", "--help"} & set(sys.argv):
            print(f"Every script takes {_DEBUG}: show the whole trace of an error.")
        raise
    except Exception as error:
        if debug:
            raise
        sys.exit(f"error: {described(error)}")


def described(error: BaseException) -> str:
    r"""An error in one line.

    Example:
        >>> described(ValueError("x: too large,\n    expected 1"))
        'x: too large, expected 1'
        >>> described(FileNotFoundError(2, "No such file or directory", "x.csv"))
        "'x.csv': No such file or directory"
        >>> described(KeyError("x"))
        "KeyError: 'x' (--debug shows where)"
    """
    if isinstance(error, OSError) and error.strerror is not None and error.filename is not None:
        return f"{error.filename!r}: {error.strerror}"
    text = " ".join(str(error).split())
    return text if text and isinstance(error, _EXPECTED) else f"{type(error).__name__}: {text} ({_DEBUG} shows where)"


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning in one line, without its colours and its line of code, above a progress bar if there is one."""
    from tqdm import tqdm

    text = re.sub(r"\x1b\[[0-9;]*m", "", str(message))
    tqdm.write(f"warning: {' '.join(text.split())}", file=sys.stderr)


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
    from rlce.bar import columns

    write_json(output, result)
    print("\n".join(rows(result, columns(sys.stdout) if sys.stdout.isatty() else None)))
    print(f"curves: make tensorboard, or tensorboard --logdir {log_dir.parent}")


def rows(result: Mapping[str, Any], width: int | None) -> list[str]:
    """A line for each result; where the terminal is narrower, its value stands below its name.

    Example:
        >>> rows({"greedy return": 500.0, "saved": "runs/a/agent"}, 26)
        ['greedy return  500.0', 'saved', '  runs/a/agent']
    """
    column = max(map(len, result)) + 2
    lines = []
    for name, value in result.items():
        line = f"{name:{column}}{value}"
        lines += [line] if width is None or len(line) <= width else [name, f"  {value}"]
    return lines


def saved_file(path: Path, argument: str, kinds: Mapping[str, str], script: str) -> Path:
    """The file of what a script saved.

    Args:
        path: the file, or the directory of a run that holds it.
        argument: what the user calls it, for errors.
        kinds: what the file may hold, such as "Classifier", and the name of such a file in the directory of a run.
        script: the script that saves such files, for errors.

    Raises:
        FileNotFoundError: there is no such file, or none in the directory.
        ValueError: the file is damaged, or holds something else.
    """
    from rlce.checkpoint import kind_of

    wanted = " or ".join(kinds.values())
    if path.is_dir():
        found = [file for name in kinds.values() if (file := path / name).is_file()]
        if len(found) != 1:
            others = ", ".join(sorted(file.name for file in path.glob("*.safetensors"))) or "no .safetensors file"
            raise FileNotFoundError(
                f"{argument}: the directory {str(path)!r} holds {others}, expected one {wanted} (from {script}); "
                "name the file, or another directory"
            )
        path = found[0]
    if not path.exists():
        raise FileNotFoundError(f"{argument}: no file or directory {str(path)!r}")
    try:
        kind = kind_of(path)
    except ValueError as error:
        raise ValueError(f"{argument}: {str(path)!r} is no file that {script} saved, or it is damaged") from error
    if kind not in kinds:
        used = _USED_BY.get(kind, "")
        raise ValueError(f"{argument}: {str(path)!r} holds a {kind}{used}, expected a file from {script}")
    return path


_USED_BY = dict.fromkeys(("Classifier", "Regressor"), " (for scripts.predict)")
_USED_BY["PolicyGradient"] = " (for scripts.evaluate and scripts.watch)"


def saved_agent(run: Path, env: str | None, env_kwargs: str | None) -> tuple[Any, str, dict[str, Any]]:
    """Load an agent, and print what it is and where it will play.

    Args:
        run: the saved file, or the directory that holds agent.safetensors.
        env: the environment to play in; None for the one of the training.
        env_kwargs: keyword arguments of the environment, as JSON; None for those of the training, and none for ``env``.

    Returns:
        (agent, the environment's id, its keyword arguments).

    Raises:
        FileNotFoundError: there is no such file or directory.
        ValueError: the file is no agent's, or names an environment that only the user may import, or none.
    """
    from rlce import PolicyGradient

    import_from_here()
    path = saved_file(run, "run", {"PolicyGradient": "agent.safetensors"}, "scripts.train")
    agent = PolicyGradient.load(path)
    trained_in, kwargs = agent.trained_in
    if env is not None:
        trained_in, kwargs = env, {}
    if env_kwargs is not None:
        kwargs = keywords(env_kwargs, "--env-kwargs")
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
