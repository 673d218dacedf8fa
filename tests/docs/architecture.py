"""The graphs of docs/architecture.md. `python -m tests.docs.architecture` writes them into the page."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stderr
from typing import Any
from unittest import mock

import fxq
from fxq.passes import trace
from tests.docs.blocks import DOCS, read_blocks, replace_blocks

PAGE = DOCS / "architecture.md"


def graphs(document: str) -> dict[str, str]:
    """Option of a block → the graph that belongs into it, for the model in the page's first block."""
    namespace: dict[str, Any] = {}
    exec(read_blocks(document)[0].text, namespace)  # the page's own code
    model, batches = namespace["model"], namespace["batches"]
    dumped = io.StringIO()
    with mock.patch.dict(os.environ, {"FXQ_DUMP": "1"}), redirect_stderr(dumped):
        fxq.quantize(model, batches, progress=False)
    found = {"graph=trace": fxq.print_graph(trace(model, batches[0]))}
    for name, text in re.findall(r"^--- (\w+): .*\n((?:.+\n)*)", dumped.getvalue(), re.MULTILINE):
        found[f"graph={name}"] = text
    return {option: shortened(text) for option, text in found.items()}


def shortened(text: str) -> str:
    """Scales with four significant digits: the digits behind them may depend on the machine."""
    return re.sub(r"(?<=scale=)[\d.e-]+", lambda match: f"{float(match[0]):.4g}", text)


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replace_blocks(page, graphs(page)), encoding="utf-8")
