"""The code of docs/add_an_op.md, run as it stands there."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from tests.docs.blocks import DOCS, read_blocks

PAGE = (DOCS / "add_an_op.md").read_text(encoding="utf-8")


def test_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = read_blocks(PAGE)
    assert [block.language for block in blocks] == ["python"] * 5
    module = ModuleType("documentation")
    monkeypatch.setitem(sys.modules, "documentation", module)
    for block in blocks:
        exec(compile(block.text, "<documentation>", "exec"), vars(module))  # the page's own code


def test_the_rule_gives_what_the_model_gave() -> None:
    """Through the int8 model: one table instead of two ops."""
    namespace: dict[str, Any] = {"__name__": "documentation"}
    for block in read_blocks(PAGE)[:2]:
        exec(compile(block.text, "<documentation>", "exec"), namespace)
    fxq, model, x, prepared = (namespace[name] for name in ("fxq", "model", "x", "prepared"))
    fxq.calibrate(prepared, [x], progress=False)
    int8 = fxq.convert_fx(prepared)
    assert "Table[mul](first)" in fxq.print_graph(int8)
    assert (int8(x) - model(x)).abs().max() < 0.03
