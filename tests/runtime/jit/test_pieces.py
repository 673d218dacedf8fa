"""roll, repeat, index_select and pad: copies of pieces, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fxq.graph import movement
from fxq.runtime.integer.conv import ConvGeometry
from fxq.runtime.integer.table import Table
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.pieces import PIECES
from fxq.runtime.jit.plan import plan
from fxq.runtime.jit.planner import Refused
from fxq.runtime.jit.steps import row_of
from fxq.runtime.region import Region, Step, Value
from tests.runtime.jit.regions import EVERY_ISA, check, conv, one_step, random_bytes

FORMS: list[tuple[Any, dict[str, Any]]] = [
    (movement.roll, {"shifts": 1, "dims": 1}),
    (movement.roll, {"shifts": (-3, 2), "dims": (2, 3)}),
    (movement.roll, {"shifts": (5, 7, 1), "dims": (-1, 0, -1)}),
    (movement.roll, {"shifts": (0,), "dims": (2,)}),
    (movement.repeat, {"repeats": (1, 3, 1, 1)}),
    (movement.repeat, {"repeats": (2, 1, 2, 3)}),
    (movement.repeat, {"repeats": (2, 1, 1, 1, 2)}),
    (movement.index_select, {"dim": 1, "index": torch.tensor([3, 4, 0, 0, 2, 1])}),
    (movement.index_select, {"dim": 0, "index": torch.tensor([1])}),
    (movement.index_select, {"dim": -1, "index": torch.tensor([5, 4, 3, 2, 1, 0, 0, 1, 2])}),
    *((movement.pad, {"pad": (2, 1, 0, 3), "mode": mode}) for mode in ("reflect", "replicate", "circular")),
]
BORDERS = [(3, 0), (0, 2, 1, 0), (1, 2, 0, 0, 3, 4), (1, 1, 2, 2, 0, 5, 1, 0), (-1, 2, -2, -1), (0, 0, 0, 0), (0, 0, 0, 0, 1, 0)]


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


@pytest.mark.parametrize("pad", BORDERS)
@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("signed", [False, True])
def test_constant_borders(isa: Isa, signed: bool, pad: tuple[int, ...]) -> None:
    x = random_bytes((2, 5, 7, 6), signed=signed)
    for layout in (x, x.contiguous(memory_format=torch.channels_last)):
        check(one_step(movement.pad, pad=pad, mode="constant", value=37), [layout], isa)
        check(region(movement.pad, {"pad": pad, "mode": "constant", "value": 200}), [layout.view(torch.uint8)], isa)


@pytest.mark.parametrize("shape", [(3, 5), (2, 5, 9), (1, 3, 4, 5, 6)])
def test_borders_of_other_ranks(shape: tuple[int, ...]) -> None:
    check(one_step(movement.pad, pad=(2, 1), mode="constant", value=9), [random_bytes(shape)], find_isa())
    check(one_step(movement.pad, pad=(2, 1) * max(1, len(shape) - 2), mode="reflect"), [random_bytes(shape)], find_isa())


def test_a_border_inside_a_concatenation_and_around_it() -> None:
    steps = (
        Step("padded", movement.pad, (Value(0),), {"pad": (0, 1, 0, 1), "mode": "constant", "value": 7}),
        Step("same", movement.pad, (Value(1),), {"pad": (0, 0, 0, 0), "mode": "constant", "value": 7}),
        Step("joined", movement.cat, ((Value(1), Value(3)),), {"dim": 1}),
        Step("convolved", conv((4, 10, 3, 3), ConvGeometry((1, 1), ((1, 1),) * 2, (1, 1))), (Value(4),), {}),
    )
    check(Region("region", 2, steps, (5, 3)), [random_bytes((2, 5, 6, 4)), random_bytes((2, 5, 7, 5), 1)], find_isa())


def test_modes_that_cut_off_are_not_accepted() -> None:
    for mode, accepted in (("constant", True), ("reflect", False)):
        assert (row_of(Step("y", movement.pad, (Value(0),), {"pad": (1, -1), "mode": mode})) is not None) is accepted


def test_what_has_no_pieces_is_not_accepted() -> None:
    assert row_of(Step("y", movement.index_select, (Value(0),), {"dim": 0, "index": Value(1)})) is None
    assert row_of(Step("y", movement.roll, (Value(0),), {"shifts": 3, "dims": None})) is None
    assert row_of(Step("y", movement.roll, (Value(0),), {"shifts": 3, "dims": 0})) is not None


def test_more_pieces_than_are_worth_planning() -> None:
    tiled = region(movement.repeat, {"repeats": (1, 1, 33, 33)})
    with pytest.raises(Refused, match="1089 pieces"):
        plan(tiled, tiled.trace([random_bytes((1, 2, 3, 3))]), find_isa())
