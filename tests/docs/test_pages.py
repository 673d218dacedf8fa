"""The code and commands of the pages that people read in order, run as they stand there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from fxq.cli import main
from tests.docs.blocks import DOCS, README, Block, read_blocks

PAGES = (
    README,
    *(DOCS / f"{name}.md" for name in ("quickstart", "tour", "compare", "sensitivity", "testing", "qat", "cli")),
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And what it shows as printed begins like what is printed, numbers aside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "zoo", raising=False)
    blocks = read_blocks(page.read_text(encoding="utf-8"))
    assert any(block.language == "python" for block in blocks)
    namespace: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks:
        if block.option == "printed":
            first = block.text.partition("\n")[0]
            assert _without_numbers(first) in map(_without_numbers, capsys.readouterr().out.splitlines())
        _run(block, namespace)


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


def _without_numbers(line: str) -> str:
    """Widths of columns follow the numbers in them."""
    return " ".join(re.sub(r"[-+]?\d[\d,.]*", "0", line).split())


def test_languages_are_those_that_are_run() -> None:
    blocks = [block for page in PAGES for block in read_blocks(page.read_text(encoding="utf-8"))]
    assert {(block.language, block.option.partition("=")[0]) for block in blocks} == {
        ("python", ""), ("python", "file"), ("sh", ""), ("text", ""), ("text", "printed"),
    }  # fmt: skip


def test_a_line_is_compared_without_its_numbers() -> None:
    assert _without_numbers("reached: 42.7;  SQNR 42.7 dB, +1,234") == "reached: 0; SQNR 0 dB, 0"
    assert _without_numbers("reached: 42.7") != _without_numbers("missed: 42.7")
