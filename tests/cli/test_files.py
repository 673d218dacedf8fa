"""Files that commands read and write. What fxq.load makes of damaged files: tests/files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fxq.cli import main
from tests.cli.commands import check_error, run_quantize


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "No such file"), (b"", "EOFError"), (b"garbage\n", "ValueError"), (b"PK\x03\x04garbage", "RuntimeError")],
)
def test_file_that_is_no_model(folder: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, found: str) -> None:
    if content is not None:
        (folder / "model.pt").write_bytes(content)
    assert main(["report", "model.pt"]) == 2
    check_error(capsys, "model.pt", found, "check the name")


def test_file_with_another_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torch.nn.Linear(2, 2), folder / "model.pt")
    assert main(["graph", "model.pt"]) == 2
    check_error(capsys, "model.pt", "Linear", "--out")


@pytest.mark.parametrize(
    ("content", "found", "remedy"), [(None, "no such file", "check the path"), (b"garbage\n", "bytes", "save or copy")]
)
def test_file_that_fxq_save_has_not_written(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, found: str, remedy: str
) -> None:
    if content is not None:
        (folder / "model.fxq").write_bytes(content)
    assert main(["report", "model.fxq"]) == 2
    check_error(capsys, "model.fxq", found, remedy)


def test_failed_save_leaves_the_old_file(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.pt").write_text("old")

    def half(model: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    assert run_quantize("--out", "model.pt") == 2
    check_error(capsys, "model.pt", "No space left on device", "another place")
    assert (folder / "model.pt").read_text() == "old"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_file_is_replaced_at_once(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.pt").write_text("old")

    def fails(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "replace", fails)
    assert run_quantize("--out", "model.pt") == 2
    check_error(capsys, "model.pt", "Operation not permitted", "another place")
    assert (folder / "model.pt").read_text() == "old"
