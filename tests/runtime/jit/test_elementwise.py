"""Sums, products, tables, pools, quantization and moves: compiled code against the integer ops, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fxq.graph import movement
from fxq.graph.functional import clamp, dequantize, maximum, minimum, quantize
from fxq.graph.movement import where
from fxq.runtime.integer.binary import Add, AddFixedPoint, Mul, Operand, Sub
from fxq.runtime.integer.outputs import IntegerOutput
from fxq.runtime.integer.pool import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, Divisor, MaxPool, Mean, PoolGeometry, Sum
from fxq.runtime.integer.table import Table
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.plan import plan
from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.region import Region, Step, Value
from tests.runtime.jit.regions import EVERY_ISA, OUTPUTS, check, one_step, random_bytes

SHAPES = [(1, 1), (2, 63), (3, 64, 5), (2, 3, 7, 5), (1, 16, 4, 4), (2, 65, 3, 9), (1, 130, 2, 2)]


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_and_products(isa: Isa, output: str, shape: tuple[int, ...]) -> None:
    result = OUTPUTS[output]
    size = 0.02 if result.activation or output.startswith("float") else 0.7
    inputs = [random_bytes(shape), random_bytes(shape, 1)]
    for op in (
        Add(Operand(10, size), Operand(200, size / 3), result),
        Sub(Operand(10, size), Operand(0, size), result),
        Mul(3, 128, size / 90, result),
    ):
        check(one_step(op, 2), inputs, isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("shape", SHAPES)
def test_fixed_point_sums(isa: Isa, shape: tuple[int, ...]) -> None:
    op = AddFixedPoint.from_ratios(Operand(10, 0.7), Operand(255, 0.9), IntegerOutput("uint8", 128, 0, 255))
    check(one_step(op, 2), [random_bytes(shape), random_bytes(shape, 1)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("gate", [(2, 40, 1, 1), (2, 1, 5, 6), (2, 1, 1, 1), (2, 40, 5, 1)])
def test_gates(isa: Isa, gate: tuple[int, ...]) -> None:
    op = Mul(3, 0, 0.01, OUTPUTS["relu"])
    check(one_step(op, 2), [random_bytes((2, 40, 5, 6)), random_bytes(gate, 1)], isa)
    check(one_step(op, 2), [random_bytes(gate, 1), random_bytes((2, 40, 5, 6))], isa)


@pytest.mark.parametrize("scales", [(40, 1, 1), (1, 40, 1, 1), (1, 1, 1, 1)])
@pytest.mark.parametrize("images", [1, 2])
def test_constants_without_a_batch(scales: tuple[int, ...], images: int) -> None:
    """As the scales of layers that a model learns: the same for all images."""
    for operands in ([(images, 40, 5, 6), scales], [scales, (images, 40, 5, 6)]):
        tensors = [random_bytes(shape, number) for number, shape in enumerate(operands)]
        for op in (Mul(3, 0, 0.01, OUTPUTS["relu"]), Add(Operand(10, 0.4), Operand(200, 0.5), OUTPUTS["shifted"])):
            check(one_step(op, 2), tensors, find_isa())


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("count", [1, 5, 70])
def test_vectors(isa: Isa, count: int) -> None:
    """A bias or a scale for the last dimension, and what is computed of vectors alone."""
    tables = [Step(name, Table(torch.arange(255, -1, -1).to(torch.uint8)), (Value(value),), {}) for name, value in (("a", 1), ("b", 2))]
    total = Step("total", Add(Operand(10, 0.4), Operand(200, 0.5), OUTPUTS["shifted"]), (Value(2), Value(3)), {})
    product = Step("product", Mul(3, 9, 0.01, OUTPUTS["relu"]), (Value(0), Value(4)), {})
    floats = Step("floats", dequantize, (Value(4),), {"scale": 0.1, "zero_point": 7})
    for shape in ((2, 3, count), (4, count), (count,)):
        region = Region("region", 2, (*tables, total, product, floats), (5, 6, 4))
        check(region, [random_bytes(shape), random_bytes((count,), 1)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("choice", [maximum, minimum])
def test_larger_and_smaller(isa: Isa, shape: tuple[int, ...], choice: Callable[..., Any]) -> None:
    for signed in (False, True):
        a, b = (random_bytes(shape, seed, signed=signed) for seed in range(2))
        check(one_step(choice, 2), [a, b], isa)
        check(one_step(choice, 2), [a, b[:1]], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("signed", [False, True])
def test_where(isa: Isa, shape: tuple[int, ...], signed: bool) -> None:
    """Conditions of every shape, and numbers in the place of either value."""
    a, b = (random_bytes(shape, seed, signed=signed) for seed in range(2))
    for condition in (a > b, (a > b)[:1], (a > b)[..., :1], (a > b)[0], (a > b).transpose(0, -1).contiguous().transpose(0, -1)):
        check(Region("region", 3, (Step("y", where, (Value(0), Value(1)), {"condition": Value(2)}),), (3,)), [a, b, condition], isa)
        for values in ((Value(0), -7 if signed else 200), (3, Value(0))):
            check(Region("region", 2, (Step("y", where, values, {"condition": Value(1)}),), (2,)), [a, condition], isa)


def test_what_no_operand_has_the_shape_of_is_left_to_torch() -> None:
    region = Region("region", 2, (Step("y", where, (Value(0), 3), {"condition": Value(1)}),), (2,))
    compiled, inputs = CompiledRegion(region), [random_bytes((4, 1)), torch.rand(1, 5) > 0.5]
    assert torch.equal(compiled(inputs)[0], region.run(inputs)[0])
    assert compiled.refused == {"y": "broadcasts (4, 1) with (1, 5)"}


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_tables(isa: Isa, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    entries = torch.randint(0, 256, (256,)).to(torch.uint8).view(dtype)
    check(one_step(Table(entries)), [random_bytes(shape)], isa)
    check(one_step(Table(entries)), [random_bytes(shape, signed=True)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("signed", [False, True])
def test_clamps(isa: Isa, shape: tuple[int, ...], signed: bool) -> None:
    low, high = (-128, 127) if signed else (0, 255)
    for bounds in ((low + 37, high), (low, high - 60), (low + 100, low + 101)):
        check(one_step(clamp, min=bounds[0], max=bounds[1]), [random_bytes(shape, signed=signed)], isa)


POOLS: dict[str, Callable[[Any], Any]] = {
    "max": lambda output: MaxPool(PoolGeometry((3, 3), (2, 2), (1, 1))),
    "max_ceil": lambda output: MaxPool(PoolGeometry((3, 2), (2, 3), (0, 1), (), True)),
    "adaptive_max": lambda output: AdaptiveMaxPool((2, 3)),
    "average": lambda output: AvgPool(PoolGeometry((3, 3), (2, 2), (1, 1)), 0.9, 100, output),
    "average_inside": lambda output: AvgPool(PoolGeometry((3, 3), (1, 1), (1, 1)), 0.9, 100, output, Divisor(include_padding=False)),
    "average_by_five": lambda output: AvgPool(PoolGeometry((2, 3), (2, 2), (0, 0), (), True), 0.9, 100, output, Divisor(override=5)),
    "adaptive": lambda output: AdaptiveAvgPool((2, 3), 1.1, 100, output),
    "global": lambda output: AdaptiveAvgPool((1, 1), 1.1, 100, output),
    "mean": lambda output: Mean((2, 3), 1.1, 100, output, keepdim=False),
    "mean_kept": lambda output: Mean((-1, -2), 1.1, 100, output, keepdim=True),
    "sum": lambda output: Sum((2, 3), 0.01, 100, output, keepdim=False),
}


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("channels", [1, 16, 67])
def test_pools(isa: Isa, pool: str, channels: int) -> None:
    signed = pool.startswith(("max", "adaptive_max"))
    for output in ("shifted", "relu") if signed else ("shifted", "hardswish", "float", "signed"):
        op = POOLS[pool](OUTPUTS[output])
        check(one_step(op), [random_bytes((2, channels, 7, 9), signed=signed)], isa)


FLOATS = torch.tensor([0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 0.05, 0.15, -0.25])


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("shape", [(2, 3, 5, 37), (1, 35, 4, 40), (2, 1, 6, 6), (2, 20, 3, 5), (3, 70), (2, 9, 21)])
@pytest.mark.parametrize(("qmin", "qmax", "zero_point"), [(0, 255, 0), (0, 255, 131), (-128, 127, -3), (0, 127, 64)])
def test_quantize_and_dequantize(isa: Isa, shape: tuple[int, ...], qmin: int, qmax: int, zero_point: int) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 20
    x.view(-1)[:: max(1, x.numel() // 9)] = FLOATS[: len(x.view(-1)[:: max(1, x.numel() // 9)])]
    spec = {"scale": 0.1, "zero_point": zero_point, "qmin": qmin, "qmax": qmax}
    layouts = [x] if x.ndim != 4 else [x, x.contiguous(memory_format=torch.channels_last), x[:, :, :, ::2]]
    for layout in layouts:
        check(one_step(quantize, **spec), [layout], isa)
    check(one_step(dequantize, **spec), [quantize(x, **spec)], isa)


def _round_trip(*steps: Step) -> Region:
    return Region("region", 1, steps, (len(steps),))


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("shape", [(2, 12, 4, 6), (1, 58, 7, 7)])
def test_channel_shuffle(isa: Isa, shape: tuple[int, ...]) -> None:
    n, c, h, w = shape
    region = _round_trip(
        Step("split", movement.reshape, (Value(0), (n, 2, c // 2, h, w)), {}),
        Step("swap", movement.transpose, (Value(1), 1, 2), {}),
        Step("dense", movement.contiguous, (Value(2),), {}),
        Step("join", movement.reshape, (Value(3), (n, c, h, w)), {}),
        Step("half", movement.chunk, (Value(4), 2), {"dim": 1, "item": 1}),
    )
    check(region, [random_bytes(shape)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_flatten_and_cat(isa: Isa) -> None:
    x = random_bytes((2, 5, 3, 4))
    check(one_step(movement.flatten, start_dim=1), [x], isa)
    for dim in (1, 2, 3):
        region = Region("region", 2, (Step("cat", movement.cat, ((Value(0), Value(1), Value(0)),), {"dim": dim}),), (2,))
        check(region, [x, random_bytes((2, 5, 3, 4), 1)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize(("rows", "columns"), [(3, 40), (4, 4), (5, 16), (15, 17), (16, 33), (70, 64)])
def test_other_elements_side_by_side(isa: Isa, rows: int, columns: int) -> None:
    """Around the squares that change places in registers, of floats and of bytes, within images of several planes."""
    floats = torch.randn(2, columns, rows, generator=torch.Generator().manual_seed(0)).transpose(1, 2)
    check(one_step(movement.contiguous), [floats], isa)
    check(one_step(movement.contiguous), [torch.stack([floats, floats + 1], 1)], isa)
    for signed in (False, True):
        table = Table(torch.arange(-128, 128).to(torch.int8) if signed else torch.arange(255, -1, -1).to(torch.uint8))
        steps = Step("a", table, (Value(0),), {}), Step("b", movement.transpose, (Value(1),), {"dim0": 1, "dim1": 2})
        x = random_bytes((2, rows, columns), signed=signed)
        spec = {"scale": 0.1, "zero_point": 7, "qmin": -128 * signed, "qmax": 255 - 128 * signed}
        check(_round_trip(*steps, Step("c", dequantize, (Value(2),), spec)), [x], isa)
        check(_round_trip(*steps), [x.transpose(1, 2).contiguous().transpose(1, 2)], isa)


MOVES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "narrow": (movement.narrow, {"dim": 2, "start": 1, "length": 3}),
    "select": (movement.select, {"dim": 2, "index": 1}),
    "movedim": (movement.movedim, {"source": 1, "destination": 3}),
    "tensor_split": (movement.tensor_split, {"sections": 3, "dim": 1, "item": 1}),
    "expand": (movement.expand, {"sizes": (2, 12, 4, 6)}),
    "clone": (movement.clone, {}),
    "reshape": (movement.reshape, {"shape": (2, 6, 8, 6)}),
    "flatten": (movement.flatten, {"start_dim": 2}),
    "pixel_shuffle": (movement.pixel_shuffle, {"upscale_factor": 2}),
    "pixel_unshuffle": (movement.pixel_unshuffle, {"downscale_factor": 2}),
    "channel_shuffle": (movement.channel_shuffle, {"groups": 3}),
    "flip": (movement.flip, {"dims": (1, -1)}),
    "flip_images": (movement.flip, {"dims": (0, 2)}),
    "repeat_interleave": (movement.repeat_interleave, {"repeats": 3, "dim": 1}),
    "repeat_rows": (movement.repeat_interleave, {"repeats": 2, "dim": -2}),
}


@pytest.mark.parametrize("move", MOVES)
def test_moves(move: str) -> None:
    """Between two tables, so that what is moved lies as programs have it."""
    function, kwargs = MOVES[move]
    table = Table(torch.arange(255, -1, -1).to(torch.uint8))
    steps = Step("before", table, (Value(0),), {}), Step("move", function, (Value(1),), kwargs), Step("after", table, (Value(2),), {})
    x = random_bytes((2, 1 if move == "expand" else 12, 4, 6))
    check(_round_trip(*steps), [x], find_isa())
    for layout in (x.contiguous(), x.contiguous(memory_format=torch.channels_last)):
        check(_round_trip(Step("move", function, (Value(0),), kwargs)), [layout], find_isa())


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_results_are_written_where_the_caller_reads_them(isa: Isa) -> None:
    table, x = Table(torch.arange(255, -1, -1).to(torch.uint8)), random_bytes((2, 12, 4, 6))
    spec = {"scale": 0.1, "zero_point": 7}
    floats = Step("floats", dequantize, (Value(1),), spec)
    region = Region("region", 1, (Step("a", table, (Value(0),), {}), floats, Step("b", table, (Value(1),), {})), (2, 3, 1))
    check(region, [x], isa)
    copies = [call.step for call in plan(region, region.trace([x]), isa).calls if call.planned.kernel.name == "copy"]
    assert copies == ["input 0", "output 2"]


@pytest.mark.parametrize("shape", [(2, 5, 9, 70), (3, 37), (2, 4, 1, 3)])
@pytest.mark.parametrize("isa", EVERY_ISA)
def test_what_is_read_backwards(isa: Isa, shape: tuple[int, ...]) -> None:
    """By rows, by bytes, and by squares that change places."""
    x = random_bytes(shape)
    for dims in ((0,), (1,), (-1,), (0, 1), tuple(range(len(shape)))):
        for layout in (x, x.transpose(1, -1).contiguous().transpose(1, -1)):
            check(one_step(movement.flip, dims=dims), [layout], isa)


PARTS: list[tuple[Any, tuple[int, ...]]] = [
    ((slice(None), 1), (2, 4, 6)),
    ((slice(None), slice(2, 7, 2)), (1, 3, 4, 6)),
    (0, (12, 4, 6)),
    ((..., slice(1, 3)), (4, 1)),
]


@pytest.mark.parametrize(("index", "shape"), PARTS, ids=lambda value: str(value)[:30])
def test_parts_that_are_replaced(index: Any, shape: tuple[int, ...]) -> None:
    for signed in (False, True):
        x, other = random_bytes((2, 12, 4, 6), signed=signed), random_bytes(shape, 1, signed=signed)
        for values, inputs in (((Value(0), Value(1)), [x, other]), ((Value(0), -5 if signed else 250), [x])):
            step = Step("y", movement.setitem, values, {"index": index})
            check(Region("region", len(inputs), (step,), (len(inputs),)), inputs, find_isa())


def test_parts_that_a_mask_chooses_are_left_to_torch() -> None:
    x = random_bytes((4, 6))
    region = Region("region", 1, (Step("y", movement.setitem, (Value(0), 7), {"index": x > 9}),), (1,))
    compiled = CompiledRegion(region)
    assert torch.equal(compiled([x])[0], region.run([x])[0])
    assert compiled.refused == {"y": "writes into places that strides cannot say"}


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_stacks(dim: int) -> None:
    step = Step("stack", movement.stack, ((Value(0), Value(1), Value(0)),), {"dim": dim})
    check(Region("region", 2, (step,), (2,)), [random_bytes((2, 5, 3, 4)), random_bytes((2, 5, 3, 4), 1)], find_isa())


def test_two_readers_share_one_border() -> None:
    """A value that is concatenated, padded by two convolutions and returned."""
    from fxq.runtime.integer.conv import ConvGeometry
    from tests.runtime.jit.regions import conv

    near, far = ConvGeometry((1, 1), ((1, 1),) * 2, (1, 1)), ConvGeometry((1, 1), ((2, 2),) * 2, (2, 2))
    first = conv((8, 4, 3, 3), near)
    steps = (
        Step("a", first, (Value(0),), {}),
        Step("b", conv((8, 8, 3, 3), near), (Value(1),), {}),
        Step("cat", movement.cat, ((Value(1), Value(2)),), {"dim": 1}),
        Step("c", conv((8, 16, 3, 3), far), (Value(3),), {}),
        Step("d", conv((8, 16, 3, 3), near), (Value(3),), {}),
    )
    x: Tensor = random_bytes((2, 4, 9, 9))
    check(Region("region", 1, steps, (4, 5, 3, 1)), [x], find_isa())
