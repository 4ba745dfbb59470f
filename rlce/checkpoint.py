"""One file holds tensors (safetensors) and configuration (JSON in its header). Loading runs no code.

A file is written whole or not at all: the bytes go to a temporary file in the same directory and reach the disk. Then
the temporary file takes the name. After a crash, the old file or the new one is there, never a part of one.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

FORMAT = "rlce-1"


def save(path: str | os.PathLike[str], kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors and configuration, as `replacing` does.

    Args:
        path: the file.
        kind: the kind of object, such as "PolicyGradient"; `load` checks it.
        config: anything that JSON can hold.
        tensors: by name, on any device.

    Raises:
        ValueError: the file cannot be created.
        TypeError: JSON cannot hold ``config``; the old file stays.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     save(f"{directory}/file", "Agent", {"seed": 3}, {"weight": torch.ones(2)})
        ...     load(f"{directory}/file", "Agent")
        ({'seed': 3}, {'weight': tensor([1., 1.])})
    """
    from safetensors.torch import save as serialize

    header = {"format": FORMAT, "kind": kind, "config": json.dumps(config, default=_plain)}
    # safetensors refuses tensors that share memory.
    stored = {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    write_atomically(path, serialize(stored, header))


def write_atomically(path: str | os.PathLike[str], payload: bytes) -> None:
    """Write these bytes to a file, as `replacing` does."""
    with replacing(path) as file:
        file.write(payload)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file whose content replaces the old one at the end; after an error, the old file stays.

    A symbolic link stays a link: its target is written. An existing file keeps its mode and, if the system allows it,
    its owner.

    Args:
        path: the file; its directory must exist.

    Returns:
        A context whose value is the open binary file.

    Raises:
        ValueError: the directory does not exist, it cannot be written to, or ``path`` is not a regular file.
        OSError: writing failed, for example because the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     with replacing(f"{directory}/file") as file:
        ...         _ = file.write(b"all of it")
        ...     Path(f"{directory}/file").read_bytes()
        b'all of it'
    """
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        old = target.stat() if target.exists() else None
        if old is not None and not stat.S_ISREG(old.st_mode):
            raise ValueError(f"path: {str(path)!r} is a directory or a device, expected a file name")
        mode = 0o666 if old is None else stat.S_IMODE(old.st_mode)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise ValueError(f"path: cannot write {str(path)!r}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            if old is not None:
                _keep_owner_and_mode(temporary, old)
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(temporary, target)
        except OSError as error:  # it would name the temporary file
            raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def load(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read configuration and tensors (on the CPU).

    Args:
        path: the file.
        kind: the expected kind of object.

    Returns:
        (config, tensors).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, or not a file of this library.
    """
    with _reading(path) as (file, header):
        found = header["kind"]
        if found == kind:
            config = json.loads(header["config"])
            if not isinstance(config, dict):
                raise ValueError(f"its configuration is a {type(config).__name__}, expected a JSON object")
            return config, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    raise ValueError(f"path: {str(path)!r} holds a {found}, expected a {kind}")


def kind_of(path: str | os.PathLike[str]) -> str:
    """The kind of object in a file, such as "Classifier".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or not a file of this library.
    """
    with _reading(path) as (_, header):
        return header["kind"]


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[tuple[Any, dict[str, str]]]:
    """The open file and its header."""
    from safetensors import safe_open

    if not os.path.isfile(path):
        raise FileNotFoundError(f"path: no file {str(path)!r}")
    with naming(path), safe_open(str(path), framework="pt") as file:
        header = file.metadata() or {}
        if header.get("format") != FORMAT:
            raise ValueError(f"format {header.get('format')!r}, expected {FORMAT!r}")
        yield file, header


def check_json(name: str, value: Any) -> None:
    """Refuse a value that a file could not hold, before anything depends on it.

    Raises:
        ValueError: JSON cannot hold the value; the message names the argument.
    """
    try:
        json.dumps(value, default=_plain)
    except TypeError as error:
        raise ValueError(f"{name} must be something that JSON can hold: {error}") from error


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any error while a file is read and its contents are used into one `ValueError` that names the file.

    Example:
        >>> with naming("agent.safetensors"):
        ...     {}["state"]
        Traceback (most recent call last):
        ValueError: path: 'agent.safetensors' is damaged, no file of rlce, or not for these arguments: KeyError: 'state'
    """
    try:
        yield
    except Exception as error:
        problem = f"path: {str(path)!r} is damaged, no file of rlce, or not for these arguments"
        raise ValueError(f"{problem}: {type(error).__name__}: {error}") from error


def foreign_network(path: str | os.PathLike[str]) -> ValueError:
    """The error for a file whose network only the user's factory can build again."""
    return ValueError(f"network: {str(path)!r} holds a network of your own, not an rlce.MLP; pass its factory again")


def section(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries whose name begins with the prefix, named without it.

    Example:
        >>> section({"module.weight": torch.ones(1), "other": torch.ones(1)}, "module.")
        {'weight': tensor([1.])}
    """
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python number."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a file's configuration cannot hold a {type(value).__name__}: {value!r}")


def _keep_owner_and_mode(temporary: Path, old: os.stat_result) -> None:
    """Give the new file the owner and mode of the old one. The mode is last: a change of owner may clear bits."""
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):
            os.chown(temporary, old.st_uid, old.st_gid)
    temporary.chmod(stat.S_IMODE(old.st_mode))


def _sync_directory(directory: Path) -> None:
    """Write the new name itself to the disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
