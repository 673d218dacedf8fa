"""Products of two activations: compiled code against the integer op, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fxq.graph import movement
from fxq.runtime.integer.matmul import MatMul
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.plan import plan
from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.region import Region, Step, Value
from tests.examples import examples
from tests.runtime.jit.regions import EVERY_ISA, OUTPUTS, check, one_step, random_bytes


def product(depth: int, output: str = "shifted", zero_points: tuple[int, int] = (3, 77)) -> MatMul:
    """A multiplier that spreads the sums over the result's range."""
    result = OUTPUTS[output]
    span = 6.0 if result.activation or output.startswith("float") else 100.0
    return MatMul(*zero_points, span / (100.0**2 * depth**0.5), result)


def operands(lead: tuple[int, ...], rows: int, depth: int, columns: int) -> list[Tensor]:
    return [random_bytes((*lead, rows, depth)).contiguous(), random_bytes((*lead, depth, columns), 1).contiguous()]


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("columns", [1, 16, 17, 33, 67])
@pytest.mark.parametrize(("rows", "depth"), [(1, 1), (3, 4), (7, 63), (14, 64), (15, 65), (29, 130)])
def test_tiles(isa: Isa, rows: int, depth: int, columns: int) -> None:
    check(one_step(product(depth), 2), operands((2, 2), rows, depth, columns), isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize(("rows", "depth", "columns"), [(5, 3, 7), (17, 65, 33), (9, 200, 70)])
def test_transposed_operands(isa: Isa, rows: int, depth: int, columns: int) -> None:
    a, b = random_bytes((2, 3, depth, rows)).contiguous(), random_bytes((2, 3, columns, depth), 1).contiguous()
    plain = operands((2, 3), rows, depth, columns)
    for left, right in ((a.mT, b.mT), (a.mT, plain[1]), (plain[0], b.mT)):
        check(one_step(product(depth), 2), [left, right], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", OUTPUTS)
def test_outputs(isa: Isa, output: str) -> None:
    check(one_step(product(40, output), 2), operands((3,), 11, 40, 37), isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("zero_points", [(0, 0), (0, 128), (128, 0), (255, 255)])
@pytest.mark.parametrize("a_signed", [False, True])
@pytest.mark.parametrize("b_signed", [False, True])
def test_zero_points_of_both_types(isa: Isa, zero_points: tuple[int, int], a_signed: bool, b_signed: bool) -> None:
    signs = (a_signed, b_signed)
    a, b = (random_bytes(shape, signed=signed) for shape, signed in zip(((2, 9, 70), (2, 70, 20)), signs, strict=True))
    shifted = tuple(zero - 128 * signed for zero, signed in zip(zero_points, signs, strict=True))
    check(one_step(product(70, zero_points=(shifted[0], shifted[1])), 2), [a, b], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize(
    ("left", "right"),
    [((9, 12), (12, 5)), ((3, 9, 12), (12, 5)), ((9, 12), (3, 12, 5)), ((2, 3, 9, 12), (3, 12, 5)), ((2, 1, 9, 12), (1, 4, 12, 5)),
     ((2, 3, 2, 9, 12), (2, 3, 2, 12, 5)), ((2, 3, 2, 9, 12), (12, 5))],
)  # fmt: skip
def test_broadcasting(isa: Isa, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    check(one_step(product(12), 2), [random_bytes(left), random_bytes(right, 1)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize(
    ("left", "right"), [((9, 12), (12,)), ((12,), (12, 5)), ((2, 3, 9, 12), (12,)), ((12,), (2, 3, 12, 5)), ((4, 9, 70), (70,))]
)
@pytest.mark.parametrize("output", ["shifted", "float"])
def test_vectors(isa: Isa, left: tuple[int, ...], right: tuple[int, ...], output: str) -> None:
    check(one_step(product(12, output), 2), [random_bytes(left), random_bytes(right, 1)], isa)


def test_batches_that_repeat_along_some_of_their_inner_dimensions_stay_with_the_integer_op() -> None:
    region = one_step(product(12), 2)
    inputs = [random_bytes((2, 3, 1, 9, 12)), random_bytes((3, 2, 12, 5), 1)]
    compiled = CompiledRegion(region)
    assert torch.equal(compiled(inputs)[0], region.run(inputs)[0])
    assert "repeats (2, 3, 1, 9, 12)" in next(iter(compiled.refused.values()))


def test_extreme_depth() -> None:
    """The largest sums that the op takes: they fill 31 bits."""
    depth = 33_000
    a, b = torch.full((1, 2, depth), 255, dtype=torch.uint8), torch.full((1, depth, 3), 255, dtype=torch.uint8)
    b[..., 1], b[..., 2] = 0, 128
    for zero_points in ((0, 0), (255, 255), (0, 128)):
        check(one_step(product(depth, zero_points=zero_points), 2), [a, b], find_isa())


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_attention_moves_nothing(isa: Isa) -> None:
    """Heads are read and written where they lie in rows of the linear layers around."""
    n, s, h, d = 2, 19, 3, 24
    steps = (
        Step("heads", movement.reshape, (Value(0), (n, s, 3, h, d)), {}),
        Step("apart", movement.permute, (Value(1), (2, 0, 3, 1, 4)), {}),
        Step("parts", movement.unbind, (Value(2),), {"dim": 0, "item": 0}),
        Step("keys", movement.unbind, (Value(2),), {"dim": 0, "item": 1}),
        Step("values", movement.unbind, (Value(2),), {"dim": 0, "item": 2}),
        Step("turned", movement.transpose, (Value(4), -2, -1), {}),
        Step("scores", product(d), (Value(3), Value(6)), {}),
        Step("mixed", product(s), (Value(7), Value(5)), {}),
        Step("back", movement.transpose, (Value(8), 1, 2), {}),
        Step("joined", movement.reshape, (Value(9), (n, s, h * d)), {}),
    )
    region, x = Region("region", 1, steps, (10,)), [random_bytes((n, s, 3 * h * d)).contiguous()]
    check(region, x, isa)
    program = plan(region, region.trace(x), isa)
    assert [call.planned.kernel.name for call in program.calls] == ["copy", "pack", "matmul", "pack", "matmul", "copy"]


@examples(60)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    rows, depth, columns = (data.draw(st.integers(1, 80)) for _ in range(3))
    lead = tuple(data.draw(st.lists(st.integers(1, 3), max_size=2)))
    zero_points = (data.draw(st.integers(0, 255)), data.draw(st.integers(0, 255)))
    op = product(depth, data.draw(st.sampled_from(sorted(OUTPUTS))), zero_points)
    a, b = operands(lead, rows, depth, columns)
    left, right = data.draw(st.booleans()), data.draw(st.booleans())
    check(one_step(op, 2), [a.mT.contiguous().mT if left else a, b.mT.contiguous().mT if right else b], find_isa())
