"""The code and commands of the pages that people start with, run as they stand there."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from fxq.cli import main
from tests.docs.blocks import DOCS, README, Block, read_blocks


def _run(block: Block, namespace: dict[str, Any]) -> None:
    kind, _, name = block.option.partition("=")
    if block.language == "python" and kind == "file":
        Path(name).write_text(block.text)
    elif block.language == "python":
        exec(compile(block.text, "<documentation>", "exec"), namespace)  # the page's own code
    elif block.language == "sh":
        for line in block.text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "fxq"
            assert main(arguments) == 0, line


@pytest.mark.parametrize("page", [DOCS / "quickstart.md", DOCS / "qat.md", README], ids=lambda page: page.name)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "zoo", raising=False)
    blocks = read_blocks(page.read_text(encoding="utf-8"))
    assert any(block.language == "python" for block in blocks)
    namespace: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks:
        _run(block, namespace)
    assert "Converted model, profile x86" in capsys.readouterr().out


def test_languages_are_those_that_are_run() -> None:
    blocks = [
        block for page in (DOCS / "quickstart.md", DOCS / "qat.md", README) for block in read_blocks(page.read_text(encoding="utf-8"))
    ]
    assert {block.language for block in blocks} <= {"python", "sh", "text"}
