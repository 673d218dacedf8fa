"""Convolutions and linear layers: compiled code against the integer ops, bit for bit, on every ISA of this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxq.runtime.integer.conv import ConvGeometry
from fxq.runtime.integer.outputs import IntegerOutput, Residual
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.region import Region, Step, Value
from tests.examples import examples
from tests.runtime.jit.regions import EVERY_ISA, OUTPUTS, check, conv, linear, one_step, random_bytes


def geometry(rank: int = 2, *, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1) -> ConvGeometry:
    return ConvGeometry((stride,) * rank, ((padding, padding),) * rank, (dilation,) * rank, groups)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("channels", [1, 15, 16, 17, 31, 32, 33, 67])
@pytest.mark.parametrize("width", [1, 3, 4, 13, 14, 15, 29])
def test_pointwise_tiles(isa: Isa, channels: int, width: int) -> None:
    op = conv((channels, 20, 1, 1), geometry())
    check(one_step(op), [random_bytes((2, 20, 3, width))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(5, 5), (7, 7), (9, 14), (15, 30)])
def test_three_by_three(isa: Isa, stride: int, height: int, width: int) -> None:
    op = conv((40, 24, 3, 3), geometry(stride=stride, padding=1))
    check(one_step(op), [random_bytes((2, 24, height, width))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_one_run_that_is_longer_than_a_pixel(isa: Isa) -> None:
    """Its taps are adjacent bytes, yet rows of the input and of the result are not the same."""
    check(one_step(conv((6, 4, 3), geometry(1))), [random_bytes((8, 4, 9))], isa)
    check(one_step(conv((6, 4, 1, 3), geometry())), [random_bytes((2, 4, 9, 9))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("residual", [False, True])
def test_outputs(isa: Isa, output: str, residual: bool) -> None:
    op = conv((37, 8, 3, 3), geometry(padding=1), output, residual=residual)
    inputs = [random_bytes((2, 8, 6, 9)), random_bytes((2, 37, 6, 9), 5)]
    check(one_step(op, 1 + residual), inputs[: 1 + residual], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("bits", [22, 24])
def test_long_sums_and_all_multipliers(isa: Isa, bits: int) -> None:
    """2304 taps reach 2^26, beyond what one fma can convert; 24-bit multipliers cannot be fused either."""
    check(one_step(conv((33, 256, 3, 3), geometry(padding=1), bits=bits)), [random_bytes((1, 256, 5, 5))], isa)
    check(one_step(conv((33, 8, 1, 1), geometry(), bits=bits)), [random_bytes((1, 8, 5, 5))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("kernel", [(1, 3), (3, 1), (5, 5), (7, 7), (2, 2)])
@pytest.mark.parametrize("channels", [3, 4, 5])
def test_few_channels(isa: Isa, kernel: tuple[int, int], channels: int) -> None:
    op = conv((34, channels, *kernel), ConvGeometry((2, 2), ((kernel[0] // 2,) * 2, (kernel[1] // 2,) * 2), (1, 1)))
    check(one_step(op), [random_bytes((1, channels, 17, 19))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize(("groups", "channels", "outputs"), [(2, 8, 64), (4, 16, 16), (3, 9, 105), (8, 8, 16), (32, 128, 128)])
def test_groups(isa: Isa, groups: int, channels: int, outputs: int) -> None:
    op = conv((outputs, channels // groups, 3, 3), geometry(padding=1, groups=groups))
    check(one_step(op), [random_bytes((2, channels, 7, 9))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("dilation", [2, 3])
def test_dilation(isa: Isa, dilation: int) -> None:
    check(one_step(conv((20, 6, 3, 3), geometry(padding=dilation, dilation=dilation))), [random_bytes((1, 6, 11, 13))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_other_ranks(isa: Isa, rank: int, stride: int) -> None:
    op = conv((18, 5, *(3,) * rank), geometry(rank, stride=stride, padding=1))
    check(one_step(op), [random_bytes((2, 5, *(8, 5, 6)[:rank]))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("kernel", [3, 5, 7, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [2, 16, 24, 35, 64, 100])
def test_depthwise(isa: Isa, kernel: int, stride: int, channels: int) -> None:
    op = conv((channels, 1, kernel, kernel), geometry(stride=stride, padding=kernel // 2, groups=channels))
    check(one_step(op), [random_bytes((2, channels, 9, 17))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", OUTPUTS)
def test_depthwise_outputs(isa: Isa, output: str) -> None:
    op = conv((72, 1, 3, 3), geometry(padding=1, groups=72), output)
    check(one_step(op), [random_bytes((1, 72, 16, 6))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_depthwise_dilation_and_one_dimension(isa: Isa) -> None:
    check(one_step(conv((40, 1, 3, 3), geometry(padding=2, dilation=2, groups=40))), [random_bytes((1, 40, 9, 11))], isa)
    check(one_step(conv((40, 1, 5), geometry(1, padding=2, groups=40))), [random_bytes((3, 40, 21))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 14, 31])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (7, 10), (64, 64), (130, 100)])
def test_linear(isa: Isa, rows: int, inputs: int, outputs: int) -> None:
    check(one_step(linear(inputs, outputs)), [random_bytes((rows, inputs))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", OUTPUTS)
def test_linear_on_sequences(isa: Isa, output: str) -> None:
    op = linear(48, 70, output, residual=True)
    check(one_step(op, 2), [random_bytes((2, 19, 48)), random_bytes((2, 19, 70), 3)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_signed_inputs(isa: Isa) -> None:
    op = conv((37, 8, 3, 3), geometry(padding=1), "signed", residual=True)
    op.input_zero_point = -20
    check(one_step(op, 2), [random_bytes((1, 8, 6, 9), signed=True), random_bytes((1, 37, 6, 9), 5, signed=True)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", ["bytes", "signed", "float"])
@pytest.mark.parametrize("ratio", [2.0**-140, 0.37, 2.0**120])
@pytest.mark.parametrize(("zero_point", "signed"), [(0, False), (255, False), (-128, True), (127, True)])
def test_residuals(isa: Isa, output: str, ratio: float, zero_point: int, signed: bool) -> None:
    """In panels of one, two and four vectors."""
    for op, shape in ((conv((49, 8, 1, 1), geometry(), output, residual=True), (4, 7)), (linear(8, 100, output, residual=True), ())):
        op.residual = Residual(zero_point, ratio)
        check(one_step(op, 2), [random_bytes((1, 8, *shape)), random_bytes((1, len(op.weight), *shape), 5, signed=signed)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("input_zero_point", [0, 128, 255])
@pytest.mark.parametrize("output_zero_point", [0, 128, 255])
@pytest.mark.parametrize("groups", [1, 48])
def test_extreme_data(isa: Isa, input_zero_point: int, output_zero_point: int, groups: int) -> None:
    """Largest bytes meet largest weights of one sign: products that saturate midway, or rows of the border that differ, would show."""
    op = conv((48, 48 // groups, 3, 3), geometry(padding=1, groups=groups))
    op.weight.copy_(torch.where(torch.arange(48) % 2 == 0, -127, 127).view(48, 1, 1, 1).expand_as(op.weight))
    # so small that not all results are at a bound; a power of two leaves the multipliers their 22 bits
    op.multiplier.mul_(1 / 16 if groups == 1 else 1 / 8)
    op.input_zero_point, op.output = input_zero_point, IntegerOutput("uint8", output_zero_point, 0, 255)
    op.derive()
    for byte in (0, 255):
        check(one_step(op), [torch.full((1, 48, 5, 8), byte, dtype=torch.uint8)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("images", [1, 2, 3])
@pytest.mark.parametrize("size", [(7, 7), (5, 5), (3, 5), (11, 9)])
def test_tiles_that_divide_an_image(isa: Isa, images: int, size: tuple[int, int]) -> None:
    """Tiles of a matrix are chosen for one image, and run over the ends of several."""
    for inputs in (24, 64):
        check(one_step(conv((40, inputs, 1, 1), geometry())), [random_bytes((images, inputs, *size))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("groups", [1, 12])
def test_borders_of_other_elements(isa: Isa, mode: Any, groups: int) -> None:
    """Two convolutions read one image, with borders of their own."""
    uneven, even = (
        replace(geometry(groups=groups), padding=padding, padding_mode=mode) for padding in (((1, 2), (3, 0)), ((1, 1), (1, 1)))
    )
    residual = conv((12, 12 // groups, 3, 3), even, residual=True)
    steps = (Step("a", conv((12, 12 // groups, 4, 4), uneven), (Value(0),), {}), Step("b", residual, (Value(0), Value(1)), {}))
    for x in (random_bytes((2, 12, 7, 9)), random_bytes((2, 12, 7, 9), signed=True).contiguous(memory_format=torch.channels_last)):
        check(Region("region", 1, steps, (2,)), [x], isa)
    check(one_step(conv((5, 3, 3), replace(geometry(1, stride=2), padding=((2, 1),), padding_mode=mode))), [random_bytes((2, 3, 9))], isa)


@examples(60)
@given(data=st.data())
def test_any_geometry(data: st.DataObject) -> None:
    """Sizes, strides, paddings on each side, dilations and groups that nobody thought of."""
    rank = data.draw(st.integers(1, 3))
    dims = st.tuples(*[st.integers(1, 3)] * rank)
    kernel, stride, dilation = data.draw(dims), data.draw(dims), data.draw(dims)
    padding = data.draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * rank))
    groups, inner = data.draw(st.sampled_from([1, 1, 2, 5])), data.draw(st.integers(1, 9))
    outputs = groups * data.draw(st.integers(1, 40))
    size = [gap * (k - 1) + 1 + data.draw(st.integers(0, 12)) for k, gap in zip(kernel, dilation, strict=True)]
    op = conv((outputs, inner, *kernel), ConvGeometry(stride, padding, dilation, groups), data.draw(st.sampled_from(sorted(OUTPUTS))))
    x = random_bytes((data.draw(st.integers(1, 3)), groups * inner, *size), data.draw(st.integers(0, 9)))
    check(one_step(op), [x], find_isa())


def test_row_major_images_are_read_too() -> None:
    x = random_bytes((2, 8, 6, 9))
    op = conv((16, 8, 3, 3), geometry(padding=1))
    for layout in (x.contiguous(), x.contiguous(memory_format=torch.channels_last), random_bytes((2, 8, 12, 18))[:, :, ::2, ::2]):
        check(one_step(op), [layout], find_isa())
