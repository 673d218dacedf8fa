"""Products with weights of few bits: compiled code against float64, within the bound, on every ISA of this machine."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fxq.graph.weight_format import WeightFormat
from fxq.runtime.integer.outputs import finish
from fxq.runtime.jit.grouped import CompiledGrouped
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.weight_only.linear import WeightOnlyLinear
from tests.examples import examples
from tests.runtime.jit.regions import EVERY_ISA, weight_only_linear

FORMATS = [WeightFormat(4, 32), WeightFormat(4, 0, True), WeightFormat(8, 8), WeightFormat(8, 128, True), WeightFormat(16)]


def check(op: WeightOnlyLinear, rows: Tensor, found: Tensor) -> None:
    """|y − exact| ≤ I·2⁻²³·Σ|x|·s·(|q| + |z|)"""
    weights = op.weights
    parts = weights.real().double() if weights.zero is None else _parts(op)
    bias = torch.zeros(weights.outputs) if weights.bias is None else weights.bias
    exact = finish((rows.double() @ weights.real().double().t() + bias).float(), op.output)
    bound = (weights.features + 4) * 2.0**-23 * (rows.double().abs() @ parts.abs().t() + bias.abs())
    assert bool(((found.double() - exact.double()).abs() <= bound + 1e-30).all())


def _parts(op: WeightOnlyLinear) -> Tensor:
    """s·(|q| + |z|)"""
    weights = op.weights
    assert weights.scale is not None and weights.zero is not None
    size = op.format.group or weights.features
    scale, zero = (part.repeat_interleave(size, 1)[:, : weights.features].double() for part in (weights.scale, weights.zero))
    return scale * (weights.integers().double().abs() + zero.abs())


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize(("features", "outputs"), [(1, 1), (7, 5), (32, 64), (129, 17), (300, 130)])
def test_sizes(isa: Isa, format: WeightFormat, features: int, outputs: int) -> None:
    """The tiles of any ISA, blocks of 32 rows and what is left of them; a row is computed alike alone and among others."""
    op = weight_only_linear(features, outputs, format)
    rows = torch.randn(71, features, generator=torch.Generator().manual_seed(1))
    compiled = CompiledGrouped(op.product, isa)
    together = compiled(rows)
    check(op, rows, together)
    for count in (1, 2, 5, 33):
        assert torch.equal(compiled(rows[:count].contiguous()), together[:count])


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", ["float_relu", "float_hardswish"])
@pytest.mark.parametrize("bias", [False, True])
def test_outputs(isa: Isa, output: str, bias: bool) -> None:
    op, rows = weight_only_linear(40, 70, WeightFormat(4, 16), output, bias=bias), torch.randn(3, 40)
    torch.testing.assert_close(CompiledGrouped(op.product, isa)(rows), op.by_torch(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_every_value_that_weights_can_have(isa: Isa, bits: int) -> None:
    """Each of them is what one output is."""
    values = {4: torch.arange(-8, 8), 8: torch.arange(-128, 128), 16: _halves()}[bits].float()
    op = weight_only_linear(1, len(values), WeightFormat(bits, 0, True), bias=False)
    weights = op.weights
    stored = {4: (values.to(torch.int8).view(torch.uint8) & 15), 8: values.to(torch.int8), 16: values.half()}[bits][:, None]
    op.weight = stored
    if weights.scale is not None:
        op.scale = torch.ones_like(weights.scale)
    assert torch.equal(CompiledGrouped(op.product, isa)(torch.ones(1, 1))[0], values)
    assert torch.equal(op.by_torch(torch.ones(1, 1))[0], values)


def _halves() -> Tensor:
    """All finite ones, those below the smallest normal number among them."""
    found = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.float16)
    return found[torch.isfinite(found)][::7]


@examples(40)
@given(
    st.integers(1, 300), st.integers(1, 150), st.integers(1, 40), st.sampled_from([4, 8]), st.sampled_from([0, 8, 24, 136]), st.booleans()
)
def test_any_size(features: int, outputs: int, count: int, bits: int, group: int, symmetric: bool) -> None:
    op = weight_only_linear(features, outputs, WeightFormat(bits, group, symmetric))  # type: ignore[arg-type]
    rows = torch.randn(count, features, generator=torch.Generator().manual_seed(count))
    check(op, rows, CompiledGrouped(op.product, find_isa())(rows))


def test_threads_and_copies() -> None:
    op, rows = weight_only_linear(64, 500, WeightFormat(4, 32)), torch.randn(9, 64)
    expected, before = op(rows), torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert torch.equal(op(rows), expected)
    finally:
        torch.set_num_threads(before)
    copied = copy.deepcopy(op)
    copied.scale = copied.weights.scale * 2  # type: ignore[operator]
    copied.derive()
    assert not torch.equal(copied(rows), expected) and torch.equal(op(rows), expected)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_values_that_are_not_finite_stay_in_their_row(isa: Isa) -> None:
    op, rows = weight_only_linear(40, 20, WeightFormat(4, 8)), torch.randn(9, 40)
    rows[4, 7] = torch.nan
    found = CompiledGrouped(op.product, isa)(rows)
    assert bool(found[4].isnan().all()) and int(found.isnan().any(1).sum()) == 1
