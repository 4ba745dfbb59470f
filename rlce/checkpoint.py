"""One file holds tensors (safetensors) and configuration (JSON in its header). Loading runs no code.

Writing is atomic: the bytes go to a temporary file beside the target, reach the disk, and then take its name, so
a reader or a power cut sees the old file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

FORMAT = "rlce-1"


def save(path: str | os.PathLike[str], kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write atomically.

    Args:
        path: the file; its directory must exist. An existing file is replaced whole.
        kind: what the file holds, such as "PolicyGradient"; `load` checks it.
        config: anything JSON can hold.
        tensors: by name, on any device.

    Raises:
        ValueError: the directory does not exist or cannot be written to, or ``path`` is a directory.
        TypeError: ``config`` holds what JSON cannot; the old file is untouched.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     save(f"{directory}/file", "Agent", {"seed": 3}, {"weight": torch.ones(2)})
        ...     load(f"{directory}/file", "Agent")
        ({'seed': 3}, {'weight': tensor([1., 1.])})
    """
    from safetensors.torch import save as serialize

    header = {"format": FORMAT, "kind": kind, "config": json.dumps(config, default=_plain)}
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, serialize(stored, header))


def write_atomically(path: str | os.PathLike[str], payload: bytes) -> None:
    """Write a whole file, or leave what was there.

    Args:
        path: the file; its directory must exist.
        payload: what it will hold.

    Raises:
        ValueError: the directory does not exist or cannot be written to, or ``path`` is a directory.
        OSError: writing failed on the way, the disk being full, say; what was there is untouched.
    """
    with replacing(path) as file:
        file.write(payload)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to that takes its name when all is written; after an error, what was there is untouched.

    Args:
        path: the file; its directory must exist.

    Returns:
        A context whose value is the open binary file.

    Raises:
        ValueError: the directory does not exist or cannot be written to, or ``path`` is a directory.
        OSError: writing failed on the way.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with replacing(f"{directory}/file") as file:
        ...         _ = file.write(b"all of it")
        ...     Path(f"{directory}/file").read_bytes()
        b'all of it'
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"path: {str(target)!r} is a directory, expected a file name")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise ValueError(f"path: cannot write {str(target)!r}: {error}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def load(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read configuration and tensors (on the CPU).

    Args:
        path: the file.
        kind: what it must hold.

    Returns:
        (config, tensors).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file of this library, of another kind, or damaged.
    """
    with _reading(path) as (file, header):
        if header["kind"] != kind:
            raise ValueError(f"path: {str(path)!r} holds a {header['kind']}, expected a {kind}")
        tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(header["config"]), tensors


def kind_of(path: str | os.PathLike[str]) -> str:
    """What a file holds, such as "Classifier".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no file of this library.
    """
    with _reading(path) as (_, header):
        return header["kind"]


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[tuple[Any, dict[str, str]]]:
    """The open file and its header."""
    from safetensors import SafetensorError, safe_open

    target = Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"path: no file {str(target)!r}")
    try:
        with safe_open(str(target), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise ValueError(f"path: {str(target)!r} is no {FORMAT} file: format {header.get('format')!r}")
            yield file, header
    except (SafetensorError, json.JSONDecodeError, KeyError, RecursionError) as error:
        raise ValueError(f"path: {str(target)!r} is damaged or no {FORMAT} file: {error}") from error


def check_json(name: str, value: Any) -> None:
    """Refuse what a file could not hold, before anything depends on it.

    Raises:
        ValueError: JSON cannot hold the value; it names the argument.
    """
    try:
        json.dumps(value, default=_plain)
    except TypeError as error:
        raise ValueError(f"{name} must be what JSON can hold: {error}") from error


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any error inside, while a file's contents are put to use, into one `ValueError` that names the file.

    Example:
        >>> with naming("agent.safetensors"):
        ...     {}["state"]
        Traceback (most recent call last):
        ValueError: path: 'agent.safetensors' is damaged, or the arguments do not fit it: KeyError: 'state'
    """
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"path: {str(path)!r} is damaged, or the arguments do not fit it: {type(error).__name__}: {error}"
        ) from error


def foreign_network(path: str | os.PathLike[str]) -> ValueError:
    """The error of a file whose network only its factory can make again."""
    return ValueError(f"network: {str(path)!r} holds a network that is not the library's MLP; pass its factory again")


def section(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose name begins with the prefix, without it.

    Example:
        >>> section({"module.weight": torch.ones(1), "other": torch.ones(1)}, "module.")
        {'weight': tensor([1.])}
    """
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a file's configuration cannot hold a {type(value).__name__}: {value!r}")


def _sync_directory(directory: Path) -> None:
    """Make the new name itself durable, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
