"""Softmax, norms, PReLU and resizing: compiled code against the integer ops, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxq.graph import movement
from fxq.runtime.integer.elementwise import PRelu
from fxq.runtime.integer.norm import Affine, GroupNorm, LayerNorm
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output
from fxq.runtime.integer.resize import Bilinear, Nearest, ResizeTarget
from fxq.runtime.integer.softmax import Softmax
from fxq.runtime.integer.table import Table
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.region import Region, Step, Value
from tests.examples import examples
from tests.runtime.jit.regions import EVERY_ISA, check, one_step, random_bytes

RESULTS: dict[str, Output] = {
    "bytes": IntegerOutput("uint8", 128, 0, 255, 40.0),
    "clipped": IntegerOutput("uint8", 128, 90, 200, 40.0),
    "signed": IntegerOutput("int8", -5, -128, 127, 40.0),
    "float": FloatOutput(),
    "float_relu": FloatOutput(0.0, 1.5),
}
SHARES: dict[str, Output] = {
    "bytes": IntegerOutput("uint8", 0, 0, 255, 256.0),
    "signed": IntegerOutput("int8", -128, -128, 127, 256.0),
    "float": FloatOutput(),
}


def affine(shape: tuple[int, ...], kind: str) -> Affine:
    weight, bias = torch.randn(2, *shape, generator=torch.Generator().manual_seed(len(kind)))
    return Affine(weight if "weight" in kind else None, bias if "bias" in kind else None)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", SHARES)
@pytest.mark.parametrize("length", [1, 7, 64, 65, 197, 300])
def test_softmax(isa: Isa, output: str, length: int) -> None:
    for scale in (0.003, 0.05, 3.0):
        check(one_step(Softmax(scale, -1, SHARES[output])), [random_bytes((2, 3, 5, length))], isa)
    check(one_step(Softmax(0.02, 1, SHARES[output])), [random_bytes((2, length), signed=True)], isa)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
@pytest.mark.parametrize("output", ["bytes", "float"])
def test_softmax_along_any_dimension(dim: int, output: str) -> None:
    check(one_step(Softmax(0.05, dim, SHARES[output])), [random_bytes((2, 9, 5, 6))], find_isa())


@pytest.mark.parametrize("shape", [(3, 4), (70, 5, 6), (2, 3, 4, 5)])
def test_softmax_along_the_batch_between_other_steps(shape: tuple[int, ...]) -> None:
    table = Table(torch.arange(255, -1, -1).to(torch.uint8))
    softmax, moved = (
        Step("softmax", Softmax(0.05, 0, SHARES["bytes"]), (Value(1),), {}),
        Step("moved", movement.flatten, (Value(2),), {"start_dim": 1}),
    )
    steps = (Step("a", table, (Value(0),), {}), softmax, moved, Step("b", table, (Value(2),), {}))
    check(Region("region", 1, steps, (2, 3, 4)), [random_bytes(shape)], find_isa())


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", RESULTS)
@pytest.mark.parametrize("constants", ["weight bias", "weight", "none"])
def test_layer_norm(isa: Isa, output: str, constants: str) -> None:
    for shape, normalized in (((2, 1), (1,)), ((3, 37), (37,)), ((2, 5, 96), (96,)), ((2, 4, 3, 17), (3, 17)), ((2, 3, 4, 33), (33,))):
        op = LayerNorm(normalized, 0.04, 1e-5, affine(normalized, constants), RESULTS[output])
        check(one_step(op), [random_bytes(shape).contiguous()], isa)
        check(one_step(op), [random_bytes(shape, 1, signed=True)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_layer_norm_of_the_channels_of_an_image(isa: Isa) -> None:
    """As in ConvNeXt: the permutation before and behind it costs nothing."""
    steps = (
        Step("last", movement.permute, (Value(0), (0, 2, 3, 1)), {}),
        Step("norm", LayerNorm((40,), 0.1, 1e-6, affine((40,), "weight bias"), RESULTS["bytes"]), (Value(1),), {}),
        Step("first", movement.permute, (Value(2), (0, 3, 1, 2)), {}),
    )
    check(Region("region", 1, steps, (3,)), [random_bytes((2, 40, 5, 6))], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", RESULTS)
@pytest.mark.parametrize(("channels", "groups"), [(6, 6), (12, 3), (64, 2), (96, 32), (35, 5), (100, 1), (38, 38)])
def test_group_norm(isa: Isa, output: str, channels: int, groups: int) -> None:
    for size in ((5, 6), (7,), (2, 3, 4)):
        op = GroupNorm(groups, 0.04, 1e-5, affine((channels,), "weight bias" if groups > 1 else "none"), RESULTS[output])
        check(one_step(op), [random_bytes((2, channels, *size))], isa)
        check(one_step(op), [random_bytes((2, channels, *size), 1, signed=True)], isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_norms_of_one_value(isa: Isa, value: int, eps: float) -> None:
    """0/0 becomes the lowest result, or NaN."""
    x = torch.full((2, 24, 3, 3), value, dtype=torch.uint8)
    for output in ("bytes", "signed"):
        check(one_step(GroupNorm(3, 0.1, eps, affine((24,), "bias"), RESULTS[output])), [x], isa)
        check(one_step(LayerNorm((3,), 0.1, eps, affine((3,), "bias"), RESULTS[output])), [x], isa)
    floats = CompiledRegion(one_step(LayerNorm((3,), 0.1, eps, Affine(), FloatOutput())), isa)([x])[0]
    assert bool(floats.isnan().all()) == (eps == 0)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", RESULTS)
@pytest.mark.parametrize("shape", [(2, 5), (2, 17, 3, 4), (1, 70, 6), (2, 3, 2, 3, 4)])
def test_prelu(isa: Isa, output: str, shape: tuple[int, ...]) -> None:
    for slopes in (torch.randn(shape[1]), torch.tensor([0.25])):
        op = PRelu(slopes, 0.05, 110, RESULTS[output])
        check(one_step(op), [random_bytes(shape)], isa)
    check(one_step(PRelu(torch.randn(shape[1]), 0.05, -9, RESULTS[output])), [random_bytes(shape, signed=True)], isa)


TARGETS = [
    ResizeTarget(scale_factor=2.0),
    ResizeTarget(size=11),
    ResizeTarget(scale_factor=0.4),
    ResizeTarget(size=1),
    ResizeTarget(scale_factor=1.0),
]


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("channels", [1, 16, 67])
def test_resizing(isa: Isa, target: ResizeTarget, channels: int) -> None:
    for size in ((5,), (7, 4), (3, 5, 4)):
        ops: list[Any] = [Nearest(target), Nearest(target, exact=True)]
        ops += [Bilinear(target, align_corners=corners) for corners in (False, True)] if len(size) < 3 else []
        for op in ops:
            check(one_step(op), [random_bytes((2, channels, *size))], isa)
            check(one_step(op), [random_bytes((2, channels, *size), 1, signed=True)], isa)


def test_resized_into_a_concatenation() -> None:
    steps = (
        Step("up", Bilinear(ResizeTarget(scale_factor=2.0)), (Value(0),), {}),
        Step("cat", movement.cat, ((Value(1), Value(2)),), {"dim": 1}),
    )
    check(Region("region", 2, steps, (3,)), [random_bytes((2, 12, 5, 6)), random_bytes((2, 7, 10, 12))], find_isa())


@examples(60)
@given(data=st.data())
def test_any_norm(data: st.DataObject) -> None:
    groups, members = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40))
    size = tuple(data.draw(st.lists(st.integers(1, 6), max_size=3)))
    output = RESULTS[data.draw(st.sampled_from(sorted(RESULTS)))]
    x = random_bytes((2, groups * members, *size), data.draw(st.integers(0, 9)), signed=data.draw(st.booleans()))
    constants = data.draw(st.sampled_from(["weight bias", "weight", "bias", "none"]))
    scale, eps = data.draw(st.sampled_from([0.001, 0.05, 7.0])), data.draw(st.sampled_from([1e-3, 1e-5, 1e-12]))
    check(one_step(GroupNorm(groups, scale, eps, affine((groups * members,), constants), output)), [x], find_isa())
    check(one_step(LayerNorm(tuple(x.shape[1:]), scale, eps, affine(tuple(x.shape[1:]), constants), output)), [x], find_isa())
    check(one_step(Softmax(scale, data.draw(st.integers(1, x.ndim - 1)), SHARES["bytes"])), [x], find_isa())
