"""Files: what is written is read back, a failed write leaves the old file, and foreign bytes are refused."""

from __future__ import annotations

import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from rlce import Classifier, checkpoint

CONFIG = {"hidden": [64, 32], "rate": 1e-3, "nothing": None, "name": "Größe", "nested": {"on": True, "far": math.inf}}
BASE = torch.arange(12, dtype=torch.float32).reshape(3, 4)
TENSORS = {
    "weight": BASE,
    "transposed": BASE.T,  # not contiguous
    "view": BASE[1],  # shares memory
    "same": BASE,
    "scalar": torch.tensor(7),
    "empty": torch.zeros(0, 3),
    "double": torch.tensor([1 / 3], dtype=torch.float64),
    "flags": torch.tensor([True, False]),
    "wants a gradient": torch.ones(2, requires_grad=True),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that holds version 1."""
    file = tmp_path / "agent.rlce"
    checkpoint.save(file, "Agent", {"version": 1}, {"x": torch.ones(3)})
    return file


def version(path: Path) -> Any:
    return checkpoint.load(path, "Agent")[0]["version"]


@pytest.mark.parametrize("as_path", [str, Path])
def test_round_trip(tmp_path: Path, as_path: Any) -> None:
    file = as_path(tmp_path / "file")
    checkpoint.save(file, "Thing", CONFIG, TENSORS)
    config, tensors = checkpoint.load(file, "Thing")
    assert config == CONFIG
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert tensor.shape == TENSORS[name].shape
        assert torch.equal(tensor, TENSORS[name])
    tensors["weight"].zero_()
    assert torch.equal(tensors["same"], BASE)


def test_without_tensors_and_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint.save("bare", "Thing", {}, {})
    assert checkpoint.load("bare", "Thing") == ({}, {})


def test_the_bytes_are_safetensors_and_json(path: Path) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    meta = header.pop("__metadata__")
    assert meta["kind"] == "Agent"
    assert json.loads(meta["config"]) == {"version": 1}
    assert list(header) == ["x"]
    assert data[8 + length :] == torch.ones(3).numpy().tobytes()
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(data)


def test_a_file_is_replaced_whole_and_keeps_the_usual_permissions(path: Path) -> None:
    checkpoint.save(path, "Agent", {"version": 2}, {})
    assert version(path) == 2
    assert checkpoint.load(path, "Agent")[1] == {}
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    path: Path, step: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(error)):
            checkpoint.save(path, "Agent", {"version": 2}, {"x": torch.zeros(3)})
    assert version(path) == 1
    assert os.listdir(path.parent) == [path.name]


def test_a_config_that_json_cannot_hold_leaves_the_old_file(path: Path) -> None:
    with pytest.raises(TypeError, match="a file.s configuration cannot hold a object"):
        checkpoint.save(path, "Agent", {"version": object()}, {})
    assert version(path) == 1
    assert os.listdir(path.parent) == [path.name]


def test_saving_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path: .*is a directory or a device, expected a file name"):
        checkpoint.save(tmp_path, "Agent", {}, {})
    with pytest.raises(ValueError, match="path: cannot write .*No such file or directory"):
        checkpoint.save(tmp_path / "missing" / "file", "Agent", {}, {})
    (tmp_path / "plain").touch()
    with pytest.raises(ValueError, match="path: cannot write .*Not a directory"):
        checkpoint.save(tmp_path / "plain" / "file", "Agent", {}, {})
    assert os.listdir(tmp_path) == ["plain"]


def test_there_is_no_such_file(tmp_path: Path) -> None:
    for file in (tmp_path / "missing", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"path: no file {str(file)!r}"):
            checkpoint.load(file, "Agent")


def test_a_file_of_another_kind(path: Path) -> None:
    with pytest.raises(ValueError, match="path: .*holds a Agent, expected a Classifier"):
        checkpoint.load(path, "Classifier")


@pytest.mark.parametrize("kept", [0, 7, 8, 20, -13, -1], ids=str)
def test_a_truncated_file(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"path: .*agent\.rlce.*damaged"):
        checkpoint.load(path, "Agent")


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "data",
    [b"garbage" * 10, b"\xff" * 64, b"\0" * 64, pickle.dumps(Evil()), b'{"format": "rlce-1"}'],
    ids=["text", "ones", "zeros", "pickle", "json"],
)
def test_bytes_of_something_else(path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"path: .*agent\.rlce.*damaged, no file of rlce"):
        checkpoint.load(path, "Agent")
    assert os.listdir() == [path.name]  # no code ran


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "format None, expected 'rlce-1'"),
        ({"format": "pt"}, "format 'pt'"),
        ({"format": "rlce-0", "kind": "Agent", "config": "{}"}, "format 'rlce-0'"),
        ({"format": "rlce-1", "kind": "Agent"}, "damaged"),
        ({"format": "rlce-1", "kind": "Agent", "config": "{"}, "damaged"),
    ],
)
def test_a_foreign_safetensors_file(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    file = tmp_path / "foreign"
    file.write_bytes(safetensors.torch.save({"x": torch.ones(2)}, metadata))
    with pytest.raises(ValueError, match=f"path: .*{message}"):
        checkpoint.load(file, "Agent")


def test_a_classifier_s_file_holds_what_else_is_given(tmp_path: Path) -> None:
    X, y = np.arange(8.0)[:, None], np.arange(8) > 3
    classifier = Classifier(hidden=(4,), epochs=1, random_state=0).fit(X, y)
    classifier.save(tmp_path / "file", extra={"fills": [0.1, None], "names": {"a": np.float64(1 / 3)}})
    assert Classifier.load(tmp_path / "file").extra_ == {"fills": [0.1, None], "names": {"a": 1 / 3}}
    assert checkpoint.kind_of(tmp_path / "file") == "Classifier"
    before = (tmp_path / "file").read_bytes()
    with pytest.raises(ValueError, match="extra must be something that JSON can hold"):
        classifier.save(tmp_path / "file", extra={"code": print})
    assert (tmp_path / "file").read_bytes() == before
    classifier.save(tmp_path / "file")
    assert Classifier.load(tmp_path / "file").extra_ == {}


def test_a_file_written_in_parts_replaces_the_old_one_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="half way"), checkpoint.replacing(target) as file:  # noqa: PT012
        file.write(b"new")
        file.flush()
        raise RuntimeError("half way")
    assert target.read_bytes() == b"old"
    with checkpoint.replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(FileNotFoundError, match="no file"):
        checkpoint.kind_of(tmp_path / "none")
    with pytest.raises(ValueError, match="is damaged, no file of rlce"):
        checkpoint.kind_of(target)


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "file"
    link = tmp_path / "link"
    link.symlink_to("elsewhere/file")  # dangling until something is saved
    for number in (1, 2):
        checkpoint.save(link, "Agent", {"version": number}, {})
        assert link.is_symlink()
        assert version(target) == version(link) == number
    assert os.listdir(target.parent) == ["file"]


def test_an_existing_file_keeps_its_mode_and_owner(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, 1234, 2345)
    for mode in (0o600, 0o664, 0o444):
        path.chmod(mode)
        before = path.stat()
        with checkpoint.replacing(path) as file:
            assert os.fstat(file.fileno()).st_mode == before.st_mode  # never open to more readers than before
        after = path.stat()
        assert after.st_ino != before.st_ino
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_an_owner_that_cannot_be_kept_does_not_stop_saving(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    path.chmod(0o640)
    checkpoint.save(path, "Agent", {"version": 2}, {})
    assert version(path) == 2
    assert path.stat().st_mode & 0o777 == 0o640


def test_names_as_long_as_the_system_allows(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / ("n" * 255), "Agent", {"version": 1}, {})
    assert version(tmp_path / ("n" * 255)) == 1
    with pytest.raises(ValueError, match="path: cannot write .*File name too long"):
        checkpoint.save(tmp_path / ("n" * 256), "Agent", {}, {})


@pytest.mark.parametrize("config", ["[]", "3", "null", "", "{", "[" * 100_000, "1" * 5_000])
def test_a_configuration_that_is_no_json_object(tmp_path: Path, config: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(safetensors.torch.save({}, {"format": "rlce-1", "kind": "Agent", "config": config}))
    with pytest.raises(ValueError, match=f"path: '{file}' is damaged"):
        checkpoint.load(file, "Agent")


@pytest.mark.parametrize("shape", [[2**63], [2**62, 4], [0, 2**63], [-1], [1.5]], ids=str)
def test_absurd_sizes_in_the_header(tmp_path: Path, shape: list[Any]) -> None:
    meta = {"format": "rlce-1", "kind": "Agent", "config": "{}"}
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
    header = json.dumps({"__metadata__": meta, "x": tensor}).encode()
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="path: .*is damaged"):
        checkpoint.load(tmp_path / "file", "Agent")


def test_every_damage_is_one_error(path: Path) -> None:
    """Cut anywhere, or with any bit of the header flipped: a file loads or is refused by name, nothing else."""
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    flipped = [(place, bit) for place in range(header) for bit in range(8)]
    damaged = [whole[:kept] for kept in range(len(whole))]
    damaged += [whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :] for place, bit in flipped]
    damaged += [size.to_bytes(8, "little") + whole[8:] for size in (0, 2**31, 2**40, 2**63 - 1, 2**64 - 1)]
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            checkpoint.load(path, "Agent")
        except ValueError as error:
            assert f"path: {str(path)!r}" in str(error)  # noqa: PT017
            refused += 1
    assert refused > 0.9 * len(damaged)  # a flipped bit may give another letter of a name
