"""Transposed convolutions: compiled code against the integer op, bit for bit."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fxq.graph import movement
from fxq.runtime.integer.conv_transpose import ConvTransposeGeometry as Geometry
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.plan import plan
from fxq.runtime.region import Region, Step, Value
from tests.examples import examples
from tests.runtime.jit.regions import EVERY_ISA, OUTPUTS, check, conv_transpose, one_step, random_bytes


def geometry(rank: int = 2, *, stride: int = 2, padding: int = 0, more: int = 0, dilation: int = 1, groups: int = 1) -> Geometry:
    return Geometry((stride,) * rank, (padding,) * rank, (more,) * rank, (dilation,) * rank, groups)


# kernel, stride, padding, output_padding, dilation: kernels that are no multiple of the stride, shorter than it, cropped, spread
GEOMETRIES = [
    *((2, 2, 0, 0, 1), (4, 2, 1, 0, 1), (3, 2, 1, 1, 1), (3, 1, 1, 0, 1)),
    *((1, 3, 0, 2, 1), (3, 2, 2, 0, 2), (3, 3, 1, 2, 2), (5, 4, 0, 0, 1)),
]


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize(("kernel", "stride", "padding", "more", "dilation"), GEOMETRIES)
def test_geometries(isa: Isa, kernel: int, stride: int, padding: int, more: int, dilation: int) -> None:
    for groups in (1, 3):
        where = geometry(stride=stride, padding=padding, more=more, dilation=dilation, groups=groups)
        check(one_step(conv_transpose((6, 35, kernel, kernel), where)), [random_bytes((2, 6, 5, 7))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", ["signed", "hardswish", "float"])
def test_outputs(isa: Isa, output: str) -> None:
    check(one_step(conv_transpose((20, 17, 3, 3), geometry(padding=1), output)), [random_bytes((1, 20, 6, 5))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks_and_signed_inputs(isa: Isa, rank: int) -> None:
    x = random_bytes((2, 5, *(6, 4, 5)[:rank]), signed=True)
    check(one_step(conv_transpose((5, 18, *(3,) * rank), geometry(rank, padding=1, more=1))), [x], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_depthwise(isa: Isa) -> None:
    check(one_step(conv_transpose((40, 1, 4, 4), geometry(padding=1, groups=40))), [random_bytes((2, 40, 6, 7))], isa)


def test_written_into_a_concatenation() -> None:
    """As in a U-Net: no pixel is copied."""
    steps = (
        Step("up", conv_transpose((12, 9, 2, 2), geometry()), (Value(0),), {}),
        Step("again", conv_transpose((9, 8, 3, 3), geometry(stride=1, padding=1)), (Value(1),), {}),
        Step("cat", movement.cat, ((Value(2), Value(1)),), {"dim": 1}),
    )
    region, x = Region("region", 1, steps, (3,)), [random_bytes((2, 12, 5, 6))]
    check(region, x, find_isa())
    names = [call.planned.kernel.name for call in plan(region, region.trace(x), find_isa()).calls]
    assert names.count("copy") + names.count("transpose") == 2  # where the image enters and where it leaves
    assert names.count("gemm") == 5


@examples(40)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 3))
    dims = st.tuples(*[st.integers(1, 3)] * rank)
    kernel, stride, dilation = data.draw(dims), data.draw(dims), data.draw(dims)
    padding = data.draw(st.tuples(*[st.integers(0, 2)] * rank))
    more = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    groups, inputs, outputs = data.draw(st.sampled_from([1, 1, 2, 5])), data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40))
    size = data.draw(st.tuples(*[st.integers(1, 8)] * rank))
    where = Geometry(stride, padding, more, dilation, groups)
    ends = zip(size, kernel, stride, padding, more, dilation, strict=True)
    assume(all((n - 1) * s - 2 * p + d * (k - 1) + m + 1 > 0 for n, k, s, p, m, d in ends))
    op = conv_transpose((groups * inputs, outputs, *kernel), where, data.draw(st.sampled_from(sorted(OUTPUTS))))
    check(one_step(op), [random_bytes((2, groups * inputs, *size), data.draw(st.integers(0, 9)))], find_isa())
