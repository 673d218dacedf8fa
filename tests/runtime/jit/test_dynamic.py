"""Dynamic ops: compiled code against the integer ops, bit for bit, on every ISA of this machine."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.jit.compile import compile_kernels
from fxq.runtime.jit.dynamic import CompiledProduct
from fxq.runtime.jit.isa import Isa, find_isa
from tests.examples import examples
from tests.runtime.jit.regions import EVERY_ISA, dynamic_linear


def rows_of(count: int, features: int, seed: int = 0) -> Tensor:
    """Rows of very different sizes, the first one 0."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, features, generator=generator) * torch.logspace(-3, 3, max(count, 1))[:count, None]
    values[:1] = 0
    return values


def check(op: DynamicLinear, rows: Tensor, isa: Isa) -> None:
    expected, found = op.by_torch(rows), CompiledProduct(op.product, isa)(rows)
    assert torch.equal(expected.isnan(), found.isnan())
    assert torch.equal(expected.nan_to_num(), found.nan_to_num())


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize(("features", "outputs"), [(1, 1), (3, 5), (15, 64), (16, 17), (33, 65), (64, 130), (257, 31)])
def test_sizes(isa: Isa, features: int, outputs: int, per_row: bool) -> None:
    op = dynamic_linear(features, outputs, per_row=per_row)
    for count in (1, 2, 4, 5, 6, 7, 13, 40):
        check(op, rows_of(count, features, count), isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("output", ["float", "float_relu", "float_hardswish"])
@pytest.mark.parametrize("bias", [False, True])
def test_outputs(isa: Isa, output: str, bias: bool) -> None:
    check(dynamic_linear(37, 70, output, bias=bias), rows_of(9, 37), isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 18, 36])
def test_values_that_are_not_finite(isa: Isa, per_row: bool, value: float, place: int) -> None:
    rows = rows_of(8, 37)
    rows[3, place] = value
    op = dynamic_linear(37, 20, per_row=per_row)
    check(op, rows, isa)
    assert bool(op(rows)[3].isnan().all())
    assert bool(op(rows)[4].isnan().all()) is not per_row


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_extreme_values(isa: Isa) -> None:
    """Ranges that double precision holds and single precision does not, values below the smallest scale, ranges beside 0."""
    biggest = torch.finfo(torch.float32).max
    rows = torch.tensor([[biggest, -biggest, 1.0], [1e-38, -1e-40, 0.0], [5.0, 6.0, 7.0], [-5.0, -6.0, -7.0]])
    for per_row in (False, True):
        check(dynamic_linear(3, 4, per_row=per_row), rows, isa)


@examples(60)
@given(st.integers(1, 90), st.integers(1, 150), st.integers(1, 30), st.booleans(), st.integers(0, 99))
def test_any_size(features: int, outputs: int, count: int, per_row: bool, seed: int) -> None:
    check(dynamic_linear(features, outputs, per_row=per_row), rows_of(count, features, seed), find_isa())


def test_nothing_is_compiled_for_another_number_of_rows() -> None:
    compiled = CompiledProduct(dynamic_linear(24, 40).product, find_isa())
    kernels = {call.planned.kernel for rows in (1, 8, 1024) for call in compiled.plan(rows).calls}
    assert len(kernels) == 3
    code_of = compile_kernels(kernels)
    compiled(rows_of(300, 24))
    assert compile_kernels(kernels) == code_of


def test_several_callers_and_threads() -> None:
    op = dynamic_linear(64, 200)
    batches = [rows_of(count, 64, count) for count in range(1, 60)]
    expected = [op.by_torch(rows) for rows in batches]
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(op, batches * 3))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(expected * 3, found, strict=True))


def test_copies_and_changed_constants_have_code_of_their_own() -> None:
    op, rows = dynamic_linear(24, 40), rows_of(4, 24)
    before = op(rows)
    copied = copy.deepcopy(op)
    copied.load_state_dict({**op.state_dict(), "scale": 2 * op.scale})
    assert torch.equal(copied(rows), copied.by_torch(rows))
    assert not torch.equal(copied(rows), before)
    assert torch.equal(pickle.loads(pickle.dumps(op))(rows), before)
    assert torch.equal(op(rows), before)
