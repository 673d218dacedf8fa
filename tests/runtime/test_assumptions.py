"""What a trace takes for granted, checked at run time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fxq.errors import DataError
from fxq.runtime.assumptions import assume, items_of


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "mean", (1, 2), torch.float32])
def test_the_same_value_is_fine(value: Any) -> None:
    assume(value, value, "argument 'x'")


@pytest.mark.parametrize(
    ("value", "expected", "found"),
    [
        (2, 3, "2"),
        (torch.ones(2, 3), None, r"a tensor of shape \(2, 3\)"),
        (torch.ones(()), 1, r"a tensor of shape \(\)"),
        ([torch.ones(1)], None, "a list of 1"),
        ({"a": 1}, False, r"a dict with the keys \['a'\]"),
    ],
)
def test_another_value_is_an_error(value: Any, expected: Any, found: str) -> None:
    with pytest.raises(DataError, match=rf"net.py:3\n  expected: {expected}, as with the example inputs\n  found:    {found}\n"):
        assume(value, expected, "net.py:3")


def test_items() -> None:
    assert items_of([1, 2], 2) == (1, 2) == items_of((1, 2), 2)
    assert items_of({"b": 2, "a": 1}, ["a", "b"]) == (1, 2)


@pytest.mark.parametrize(
    ("container", "keys"), [([1], 2), ([1, 2, 3], 2), (3, 2), ({"a": 1}, ["a", "b"]), ({"a": 1, "b": 2}, ["a"]), ([1], ["a"])]
)
def test_other_items_are_an_error(container: Any, keys: Any) -> None:
    with pytest.raises(DataError, match="as with the example inputs"):
        items_of(container, keys)
