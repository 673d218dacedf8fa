"""The code and commands of the pages that people read in order, run as they stand there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS, Block, read_blocks
from tests.docs.pages import PAGES, PICTURES, Run, draw


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, from which Python is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "zoo", raising=False)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path) -> None:
    """And what it shows as printed begins like what is printed, numbers aside."""
    blocks = read_blocks(page.read_text(encoding="utf-8"))
    assert any(block.language == "python" for block in blocks)
    for block, printed in Run().printed(blocks):
        shown = block.text.partition("\n")[0]
        assert _without_numbers(shown) == _without_numbers(printed.partition("\n")[0])


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


def test_printed_since_the_block_before_and_by_the_last_command(folder: Path) -> None:
    shown = Block("text", "printed", "")
    blocks = [Block("python", "", "print(1)\n"), Block("python", "", "print(2)\n"), shown, Block("python", "", "x = 3\n"), shown]
    blocks += [Block("python", "", "print(4)\n"), Block("sh", "", "fxq\n"), shown]
    run = Run()
    printed = [text for _, text in run.printed(blocks)]
    assert printed[:2] == ["1\n2\n", ""] and printed[2].startswith("usage: fxq")
    assert run.namespace["x"] == 3


def test_pictures_are_there_and_shown(folder: Path) -> None:
    for name in PICTURES:
        assert (DOCS / "pictures" / name).exists()
        assert f"](pictures/{name})" in (DOCS / name).with_suffix(".md").read_text(encoding="utf-8")
    draw("some text", "a title", folder / "a.svg")
    assert "some&#160;text" in (folder / "a.svg").read_text(encoding="utf-8")
