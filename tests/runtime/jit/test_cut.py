"""Regions cut around steps that have no kernel: the same results, as few sections as there can be, and reasons."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from fxq.graph import movement
from fxq.runtime.integer.binary import Add, Operand
from fxq.runtime.integer.conv import ConvGeometry
from fxq.runtime.integer.outputs import IntegerOutput
from fxq.runtime.integer.pool import Mean
from fxq.runtime.integer.softmax import Softmax
from fxq.runtime.integer.table import Table
from fxq.runtime.jit.cut import cut
from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.region import Region, Step, Value
from tests.examples import examples
from tests.runtime.jit.regions import OUTPUTS, conv, random_bytes

TABLE = Table(torch.arange(255, -1, -1).to(torch.uint8))
SUM = Add(Operand(10, 0.4), Operand(200, 0.5), OUTPUTS["shifted"])


def table(name: str, value: int) -> Step:
    return Step(name, TABLE, (Value(value),), {})


# two branches, a size of one of them that both read, and their sum
BRANCHES = Region(
    "branches",
    1,
    (
        table("a", 0),
        Step("count", movement.size, (Value(1), 0), {}),
        Step("rows", movement.reshape, (Value(1), (Value(2), -1)), {}),
        table("b", 3),
        table("c", 0),
        Step("columns", movement.reshape, (Value(5), (Value(2), -1)), {}),
        Step("sum", SUM, (Value(4), Value(6)), {}),
        table("d", 7),
    ),
    (8, 4),
)


@given(st.sets(st.sampled_from([0, 2, 3, 4, 5, 6, 7])))
@examples(60)
def test_sections_of_any_choice(refused: set[int]) -> None:
    x = random_bytes((3, 4, 5))
    values = BRANCHES.trace([x])
    sections = cut(BRANCHES, values, refused)
    found = {0: x}
    for section in sections:
        found.update(zip(section.makes, section.region.run([found[value] for value in section.reads]), strict=True))
        for value in section.frees:
            del found[value]
    assert all(torch.equal(found[value], values[value]) for value in BRANCHES.outputs) and set(found) <= {0, *BRANCHES.outputs}
    sides = [{step.name in {BRANCHES.steps[n].name for n in refused} for step in s.region.steps if step.name != "count"} for s in sections]
    assert sides == [{section.is_refused} for section in sections]
    assert all(a != b for a, b in pairwise(sides))


def softmax(name: str, value: int) -> Step:
    """Over the rows of an image: sums of more than 2^15 elements have no kernel."""
    return Step(name, Softmax(0.001, 2, IntegerOutput("uint8", 0, 0, 255, 256.0)), (Value(value),), {})


LONG, REASON = 2**15 + 1, "sums 32769 elements along dimension 2"


def test_what_is_before_and_behind_runs_as_machine_code() -> None:
    layer = conv((4, 4, 3, 1), ConvGeometry((1, 1), ((1, 1), (0, 0)), (1, 1)))
    steps = (
        Step("first", layer, (Value(0),), {}),
        softmax("rows", 1),
        Step("second", layer, (Value(2),), {}),
        Step("sum", SUM, (Value(1), Value(3)), {}),
        softmax("again", 4),
    )
    region = Region("region", 1, steps, (5, 3))
    compiled = CompiledRegion(region)
    for images in (2, 3):
        x = random_bytes((images, 4, LONG, 1))
        assert all(map(torch.equal, compiled([x]), region.run([x])))
    assert compiled.refused == {"rows": REASON, "again": REASON}
    assert [[call.step for call in program.calls if call.planned.macs] for program in compiled.latest] == [["first"], ["second"]]
    assert len(compiled.programs) == 4 and len(compiled._cuts) == 1, "sections are the same for all shapes that are cut alike"
    timed = compiled.run_timed([x])
    assert all(map(torch.equal, timed.outputs, region.run([x])))
    assert [call.step for call in timed.calls if call.runs == "integer op"] == ["rows", "again"]


def test_shapes_that_are_planned_are_not_cut() -> None:
    region = Region("region", 1, (table("a", 0), softmax("rows", 1)), (2,))
    compiled = CompiledRegion(region)
    for length in (5, LONG, 6):
        x = random_bytes((1, 2, length, 1))
        assert torch.equal(compiled([x])[0], region.run([x])[0])
        assert {call.step for call in compiled.latest[0].calls} >= ({"a"} if length == LONG else {"a", "rows"})
    assert compiled.refused == {"rows": REASON}


def test_a_section_is_cut_again_where_what_it_reads_has_no_kernel_either() -> None:
    """One number is no batch, which shows before anything is placed; long sums show only when they are planned."""
    steps = (table("a", 0), softmax("rows", 1), table("b", 2), Step("mean", Mean((), 1.1, 100, OUTPUTS["shifted"]), (Value(3),), {}))
    region = Region("region", 1, steps, (4, 3))
    compiled = CompiledRegion(region)
    x = random_bytes((1, 2, LONG, 1))
    assert all(map(torch.equal, compiled([x]), region.run([x])))
    assert compiled.refused == {"rows": REASON, "mean": "a value of shape () is no batch"} and len(compiled.latest) == 2
