"""Norms against Python integers and floats, and against torch's in float64."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.errors import ConfigError, DataError
from fxq.runtime.integer.norm import Affine, GroupNorm, LayerNorm
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output
from tests.runtime.integer.reference import random_bytes

U8 = IntegerOutput("uint8", 121, 0, 255, inverse=float(np.float32(1) / np.float32(0.0231)))
OUTPUTS = (U8, IntegerOutput("int8", -5, -5, 127, inverse=U8.inverse), FloatOutput(), FloatOutput(-1.0, 1.5))
SCALE = float(np.float32(0.0371))


def affine(shape: tuple[int, ...], seed: int = 0) -> Affine:
    generator = torch.Generator().manual_seed(seed)
    return Affine(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))


def row(q: list[int], eps: float, scale: float) -> list[float]:
    """(n·q − S)·r of one row, in Python integers and floats."""
    count, total = len(q), sum(q)
    variance = count * sum(value * value for value in q) - total * total
    under = math.sqrt(float(variance) + float(count * count) * (eps / scale / scale))
    reciprocal = 1.0 / under if under else math.inf
    return [float(count * value - total) * reciprocal for value in q]


def finished(values: Tensor, where: Affine, output: Output) -> Tensor:
    """weight and bias broadcast already."""
    inverse = 1.0 if isinstance(output, FloatOutput) else output.inverse
    assert inverse is not None
    scaled = values * ((1.0 if where.weight is None else where.weight.double()) * inverse)
    shifted = scaled if where.bias is None else scaled + where.bias.double() * inverse
    if isinstance(output, FloatOutput):
        return shifted.clamp(output.low, output.high).float()
    return (shifted.round() + output.zero_point).nan_to_num(output.low).clamp(output.low, output.high).to(getattr(torch, output.dtype))


def layer_norm(x: Tensor, rank: int, eps: float, where: Affine, output: Output) -> Tensor:
    rows = x.reshape(-1, math.prod(x.shape[-rank:])).tolist()
    return finished(torch.tensor([row(q, eps, SCALE) for q in rows], dtype=torch.float64).reshape(x.shape), where, output)


def group_norm(x: Tensor, groups: int, eps: float, where: Affine, output: Output) -> Tensor:
    rows = x.reshape(x.shape[0] * groups, -1).tolist()
    values = torch.tensor([row(q, eps, SCALE) for q in rows], dtype=torch.float64).reshape(x.shape)
    shape = (-1, *(1 for _ in x.shape[2:]))
    wide = Affine(*(None if part is None else part.reshape(shape) for part in (where.weight, where.bias)))
    return finished(values, wide, output)


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_layer_norm_equals_the_formula(output: Output, dtype: torch.dtype, eps: float) -> None:
    for shape, rank in (((3, 64), 1), ((2, 3, 5, 7), 2), ((768,), 1), ((4, 1), 1), ((2, 3, 4), 3)):
        x, inner = random_bytes(shape, dtype), tuple(shape[-rank:])
        full = affine(inner)
        for where in (full, Affine(), Affine(full.weight), Affine(None, full.bias)):
            found, expected = LayerNorm(inner, SCALE, eps, where, output)(x), layer_norm(x, rank, eps, where, output)
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_group_norm_equals_the_formula(output: Output, dtype: torch.dtype) -> None:
    for shape, groups in (((3, 8), 2), ((2, 6, 5), 3), ((2, 6, 5, 4), 6), ((2, 6, 5, 4), 1), ((1, 4, 2, 3, 4), 2)):
        x, full = random_bytes(shape, dtype), affine((shape[1],))
        for where in (full, Affine(), Affine(full.weight), Affine(None, full.bias)):
            found, expected = GroupNorm(groups, SCALE, 1e-5, where, output)(x), group_norm(x, groups, 1e-5, where, output)
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-5])
def test_extremes(eps: float) -> None:
    halves = torch.tensor([0, 255], dtype=torch.uint8).repeat(50_000)
    lone = torch.zeros(100_000, dtype=torch.uint8)
    lone[7] = 255
    for x in (halves, lone, torch.full_like(lone, 255), torch.full_like(lone, 0)):
        found = LayerNorm((100_000,), SCALE, eps, Affine(), U8)(x)
        assert torch.equal(found, layer_norm(x, 1, eps, Affine(), U8))


def test_a_constant_row_is_the_bias_and_without_eps_the_lowest_value() -> None:
    x = torch.full((2, 9), 77, dtype=torch.uint8)
    assert LayerNorm((9,), SCALE, 1e-5, Affine(None, torch.zeros(9)), U8)(x).unique().tolist() == [121]
    assert LayerNorm((9,), SCALE, 0.0, Affine(), U8)(x).unique().tolist() == [0]


@pytest.mark.parametrize("zero_point", [0, 100, 255])
@pytest.mark.parametrize("scale", [0.0005, 0.0371, 3.0])
def test_like_torchs_norms_of_the_real_values(zero_point: int, scale: float) -> None:
    scale = float(np.float32(scale))
    x, full = random_bytes((4, 12, 5, 6)), affine((12,))
    real = (x.double() - zero_point) * scale
    assert full.weight is not None
    assert full.bias is not None
    weight, bias = full.weight.double(), full.bias.double()
    assert U8.inverse is not None
    for groups in (1, 3, 12):
        expected = F.group_norm(real, groups, weight, bias, 1e-3)
        found = GroupNorm(groups, scale, 1e-3, full, U8)(x)
        assert torch.equal(found, ((expected * U8.inverse).round() + 121).clamp(0, 255).byte())
        assert (GroupNorm(groups, scale, 1e-3, full, FloatOutput())(x) - expected).abs().max() < 1e-6
    wide = affine((5, 6))
    expected = F.layer_norm(real, (5, 6), wide.weight.double(), wide.bias.double(), 1e-3)  # type: ignore[union-attr]
    found = LayerNorm((5, 6), scale, 1e-3, wide, U8)(x)
    assert torch.equal(found, ((expected * U8.inverse).round() + 121).clamp(0, 255).byte())


def test_layouts_and_empty_batches() -> None:
    x, full = random_bytes((4, 6, 5, 3)), affine((6,))
    op = GroupNorm(2, SCALE, 1e-5, full, U8)
    expected = group_norm(x, 2, 1e-5, full, U8)
    others = (x.contiguous(memory_format=torch.channels_last), x.transpose(0, 3).contiguous().transpose(0, 3))
    for other in others:
        assert torch.equal(op(other), expected)
    layer = LayerNorm((5, 3), SCALE, 1e-5, Affine(), U8)
    assert torch.equal(layer(others[0]), layer_norm(x, 2, 1e-5, Affine(), U8))
    assert torch.equal(layer(x[::2]), layer_norm(x[::2], 2, 1e-5, Affine(), U8))
    for empty in (op(x[:0]), layer(x[:0])):
        assert (empty.shape, empty.dtype) == ((0, 6, 5, 3), torch.uint8)


def test_constants_are_saved_and_keep_their_dtype() -> None:
    x, op = random_bytes((4, 6)), LayerNorm((6,), SCALE, 1e-5, affine((6,)), U8)
    other = LayerNorm((6,), SCALE, 1e-5, affine((6,), seed=1), U8)
    other.load_state_dict(op.state_dict())
    assert torch.equal(other(x), op(x))
    assert torch.equal(copy.deepcopy(op).half()(x), op(x))


def test_what_is_refused() -> None:
    layer, group = LayerNorm((4,), SCALE, 1e-5, Affine(), U8), GroupNorm(2, SCALE, 1e-5, affine((6,)), U8)
    with pytest.raises(DataError, match="uint8 or int8"):
        layer(torch.zeros(2, 4))
    for x in (random_bytes((4, 5)), random_bytes(())):
        with pytest.raises(DataError, match="last dimensions"):
            layer(x)
    for x in (random_bytes((2, 8, 3)), random_bytes((6,))):
        with pytest.raises(DataError, match=r"\[N, C, ...\] with C 6"):
            group(x)
    with pytest.raises(DataError, match="multiple of 4"):
        GroupNorm(4, SCALE, 1e-5, Affine(), U8)(random_bytes((2, 6)))
    with pytest.raises(ConfigError, match="inverse"):
        LayerNorm((4,), SCALE, 1e-5, Affine(), IntegerOutput("uint8", 0, 0, 255))
    with pytest.raises(DataError, match="at most 2\\^23"):
        GroupNorm(1, SCALE, 1e-5, Affine(), U8)(torch.zeros(1, dtype=torch.uint8).expand(1, 1, 2**23 + 1))


def test_reads_like_a_layer() -> None:
    assert repr(LayerNorm((4,), 0.5, 1e-5, affine((4,)), FloatOutput())) == (
        "LayerNorm((4,), x: scale=0.5, eps=1e-05, weight, bias, y: float32)"
    )
    assert repr(GroupNorm(2, 0.5, 1e-5, Affine(), U8)) == "GroupNorm(groups=2, x: scale=0.5, eps=1e-05, y: uint8 zero_point=121 [0, 255])"
