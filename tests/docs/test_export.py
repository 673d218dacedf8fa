"""The code of the page on export, run as it stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import DOCS, read_blocks


def test_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = read_blocks((DOCS / "export.md").read_text(encoding="utf-8"))
    assert {block.language for block in blocks} == {"python"}
    namespace: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks:
        exec(compile(block.text, "<documentation>", "exec"), namespace)  # the page's own code
    assert "inputs ('x',), outputs ('output',)" in capsys.readouterr().out
