"""The file: written whole or not at all, and read only where it is what was written."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fxq
from fxq.files import container
from fxq.files.container import MOST_HEADER_BYTES, VERSION
from tests.files.hostile import rewrite, write


def test_other_tools_read_the_tensors(small_model: fxq.FxqModule, small_file: Path) -> None:
    found, constants = load_file(small_file), small_model.state_dict()
    assert constants.keys() <= found.keys()
    assert all(torch.equal(found[name], constants[name]) for name in constants)


def test_the_same_model_makes_the_same_file(small_model: fxq.FxqModule, small_file: Path, tmp_path: Path) -> None:
    fxq.save(small_model, tmp_path / "again.fxq")
    assert (tmp_path / "again.fxq").read_bytes() == small_file.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_truncated(share: float, small_file: Path) -> None:
    content = small_file.read_bytes()
    small_file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(fxq.FileError, match=r"small\.fxq"):
        fxq.load(small_file)


def test_flipped_bits(small_file: Path) -> None:
    """Every flipped bit is seen, in the header as in the tensors."""
    content = small_file.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 150)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        small_file.write_bytes(flipped)
        with pytest.raises(fxq.FileError):
            fxq.load(small_file)


def test_bytes_behind_the_end(small_file: Path) -> None:
    small_file.write_bytes(small_file.read_bytes() + b"\0")
    with pytest.raises(fxq.FileError):
        fxq.load(small_file)


def _zip_bomb() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("graph.json", bytes(10**6))
    return archive.getvalue()


@pytest.mark.parametrize("content", [_zip_bomb(), gzip.compress(bytes(10**6)), b"\x80\x04K\x01.", b"{}", b"\xff" * 64], ids=range(5))
def test_other_formats(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(fxq.FileError, match=r"fxq\.save"):
        fxq.load(path)


def test_headers_of_any_announced_length_are_not_read(tmp_path: Path) -> None:
    """A sparse file may be longer than memory, and its header as long as it likes to say."""
    path = tmp_path / "large"
    for length in (MOST_HEADER_BYTES + 1, 2**40, 2**63):
        with path.open("wb") as file:
            file.write(length.to_bytes(8, "little"))
            file.truncate(2**41)
        with pytest.raises(fxq.FileError):
            fxq.load(path)


def test_a_header_larger_than_the_reader_allows_names_what_allows_it(small_file: Path) -> None:
    length = int.from_bytes(small_file.read_bytes()[:8], "little")
    with pytest.raises(fxq.FileError, match=rf"fxq\.load\(path, most_header_bytes={length}\)"):
        fxq.load(small_file, most_header_bytes=length - 1)
    assert fxq.load(small_file, most_header_bytes=length).stage is fxq.load(small_file).stage


def test_a_header_larger_than_safetensors_takes_is_not_written(
    small_model: fxq.FxqModule, small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = int.from_bytes(small_file.read_bytes()[:8], "little")
    monkeypatch.setattr(container, "LARGEST_HEADER_BYTES", length - 1)
    with pytest.raises(fxq.FileError, match="save the parts of the model one by one"):
        fxq.save(small_model, tmp_path / "new.fxq")
    assert not (tmp_path / "new.fxq").exists()
    monkeypatch.setattr(container, "LARGEST_HEADER_BYTES", length + length // 2)
    fxq.save(small_model, tmp_path / "new.fxq")


def test_other_safetensors_files(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(fxq.FileError, match="without the entry 'fxq'"):
        fxq.load(path)


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path(os.devnull)):
        with pytest.raises(fxq.FileError, match=r"fxq\.save has written"):
            fxq.load(path)


def test_a_newer_version_says_so(small_file: Path) -> None:
    write(small_file, "a later fxq knows what this is", {}, version=str(VERSION + 1))
    with pytest.raises(fxq.FileError, match=rf"version {VERSION + 1}, which a newer fxq has written"):
        fxq.load(small_file)


@pytest.mark.parametrize("version", ["", "one", "0", "-1", "1.0", "9" * 5000, "²"])
def test_no_version(version: str, small_file: Path) -> None:
    write(small_file, "{}", {}, version=version)
    with pytest.raises(fxq.FileError, match="the version"):
        fxq.load(small_file)


def test_listed_tensors_and_those_in_the_file_are_the_same(small_file: Path) -> None:
    content = small_file.read_bytes()
    for key, value in (("dtype", "uint8"), ("shape", [6]), ("name", "another")):
        small_file.write_bytes(content)
        rewrite(small_file, lambda document, key=key, value=value: document["tensors"][0].update({key: value}))  # type: ignore[misc]
        with pytest.raises(fxq.FileError, match="tensor"):
            fxq.load(small_file)


def test_the_old_file_stays_where_a_save_fails(small_model: fxq.FxqModule, small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = small_file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fxq.files.container.os.fsync", full)
    with pytest.raises(fxq.FileError, match="No space left"):
        fxq.save(small_model, small_file)
    assert small_file.read_bytes() == before
    assert os.listdir(small_file.parent) == ["small.fxq"]


def test_others_may_read_it_as_the_umask_says(small_model: fxq.FxqModule, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    fxq.save(small_model, tmp_path / "model.fxq")
    assert (tmp_path / "model.fxq").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_no_folder(small_model: fxq.FxqModule, tmp_path: Path) -> None:
    with pytest.raises(fxq.FileError, match="exists"):
        fxq.save(small_model, tmp_path / "none" / "model.fxq")


def test_what_is_loaded_does_not_depend_on_the_file(small_model: fxq.FxqModule, small_file: Path) -> None:
    loaded, x = fxq.load(small_file), torch.randn(1, 2, 4, 4)
    small_file.write_bytes(b"\xff" * small_file.stat().st_size)
    assert torch.equal(loaded(x)["y"], small_model(x)["y"])
