from __future__ import annotations

from dataclasses import dataclass

import pytest

from fxq.errors import ConfigError
from fxq.report.naming import row_named


@dataclass(frozen=True)
class Layer:
    name: str
    module: str


ROWS = (Layer("block_conv", "block.conv"), Layer("add", ""), Layer("shared", "act"), Layer("shared_1", "act"))


@pytest.mark.parametrize(("name", "index"), [("block_conv", 0), ("block.conv", 0), ("add", 1), ("shared_1", 3)])
def test_by_node_and_by_module(name: str, index: int) -> None:
    assert row_named(ROWS, name) is ROWS[index]


@pytest.mark.parametrize(
    ("name", "found", "remedy"),
    [
        ("block.cnov", "no such row", "'block.conv'"),
        ("act", "2 rows of that module", "write one of 'shared', 'shared_1'"),
        ("", "no such row", "write one of 'block_conv', 'add', 'shared', 'shared_1'"),
    ],
)
def test_no_such_row(name: str, found: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        row_named(ROWS, name)
    assert caught.value.found == found and remedy in caught.value.remedy


def test_no_rows() -> None:
    with pytest.raises(ConfigError, match="there are no rows"):
        row_named((), "conv")
