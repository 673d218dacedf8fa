"""roll, repeat and flip: copies of pieces, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fxq.graph import movement
from fxq.runtime.integer.table import Table
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.pieces import PIECES
from fxq.runtime.jit.plan import plan
from fxq.runtime.jit.planner import Unplannable
from fxq.runtime.jit.steps import row_of
from fxq.runtime.region import Region, Step, Value
from tests.runtime.jit.regions import EVERY_ISA, check, random_bytes

FORMS: list[tuple[Any, dict[str, Any]]] = [
    (movement.roll, {"shifts": 1, "dims": 1}),
    (movement.roll, {"shifts": (-3, 2), "dims": (2, 3)}),
    (movement.roll, {"shifts": (5, 7, 1), "dims": (-1, 0, -1)}),
    (movement.roll, {"shifts": (0,), "dims": (2,)}),
    (movement.repeat, {"repeats": (1, 3, 1, 1)}),
    (movement.repeat, {"repeats": (2, 1, 2, 3)}),
    (movement.repeat, {"repeats": (2, 1, 1, 1, 2)}),
    (movement.flip, {"dims": (1,)}),
    (movement.flip, {"dims": (0, -1)}),
]


def region(function: Any, options: dict[str, Any]) -> Region:
    """Between two tables."""
    table = Table(torch.arange(255, -1, -1).to(torch.uint8))
    return Region("region", 1, (Step("a", table, (Value(0),), {}), Step("moved", function, (Value(1),), options)), (2,))


def test_every_function_has_a_form() -> None:
    assert {function for function, _ in FORMS} == set(PIECES)


@pytest.mark.parametrize(("function", "options"), FORMS)
@pytest.mark.parametrize("isa", EVERY_ISA)
def test_bits(isa: Isa, function: Any, options: dict[str, Any]) -> None:
    x = random_bytes((2, 5, 7, 6))
    for layout in (x, x.contiguous(memory_format=torch.channels_last)):
        check(region(function, options), [layout], isa)


def test_what_has_no_pieces_is_not_accepted() -> None:
    assert row_of(Step("y", movement.roll, (Value(0),), {"shifts": 3, "dims": None})) is None
    assert row_of(Step("y", movement.roll, (Value(0),), {"shifts": 3, "dims": 0})) is not None


def test_more_pieces_than_are_worth_planning() -> None:
    flips = region(movement.flip, {"dims": (2, 3)})
    with pytest.raises(Unplannable, match="1089 pieces"):
        plan(flips, flips.trace([random_bytes((1, 2, 33, 33))]), find_isa())
