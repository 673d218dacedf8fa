from __future__ import annotations

import pytest

from tests.docs.architecture import PAGE, graphs, shortened
from tests.docs.blocks import Block, read_blocks, replace_blocks


def test_graphs_are_what_fxq_prints() -> None:
    """After a change that is meant: python -m tests.docs.architecture"""
    page = PAGE.read_text(encoding="utf-8")
    expected = graphs(page)
    shown = [block for block in read_blocks(page) if block.option.startswith("graph=")]
    assert [block.option for block in shown] == [
        "graph=trace", "graph=canonicalize", "graph=fuse", "graph=insert_observers", "graph=cancel_qdq", "graph=lower",
    ]  # fmt: skip
    for block in shown:
        assert block.text == expected[block.option], block.option


@pytest.mark.parametrize("same_as_before", [("canonicalize", "resolve_qconfigs"), ("fuse", "annotate"), ("annotate", "share_qparams")])
def test_passes_that_only_annotate_keep_the_text(same_as_before: tuple[str, str]) -> None:
    expected = graphs(PAGE.read_text(encoding="utf-8"))
    before, after = same_as_before
    assert expected[f"graph={before}"] == expected[f"graph={after}"]


def test_scales_are_shortened_and_nothing_else() -> None:
    assert shortened("scale=0.010427970439, zero_point=78") == "scale=0.01043, zero_point=78"
    assert shortened("scale=1.5e-08, x=0.123456789, scale=@w[8]") == "scale=1.5e-08, x=0.123456789, scale=@w[8]"


def test_blocks_are_read_and_replaced() -> None:
    document = "a\n```python\nx = 1\n```\nb\n```text graph=a\nold\nold\n```\n```text graph=b\n```\nc\n"
    assert read_blocks(document) == [Block("python", "", "x = 1\n"), Block("text", "graph=a", "old\nold\n"), Block("text", "graph=b", "")]
    assert replace_blocks(document, {"graph=a": "new\n"}) == document.replace("old\nold\n", "new\n")
