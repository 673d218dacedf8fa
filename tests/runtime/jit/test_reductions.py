"""Sums, means and maxima over any dimensions, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fxq.graph.functional import amax, amin
from fxq.runtime.integer.pool import Mean, Sum
from fxq.runtime.integer.table import Table
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.region import Region, Step, Value
from tests.runtime.jit.regions import EVERY_ISA, OUTPUTS, check, one_step, random_bytes

# shapes and what is reduced: features, tokens, pixels, channels, the batch, and dimensions on both sides of what stays
FORMS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 70), (1,)),
    ((3, 70), (0,)),
    ((2, 9, 37), (1,)),
    ((2, 9, 37), (-1,)),
    ((2, 9, 37), (0, 2)),
    ((2, 9, 37), (1, 2)),
    ((2, 3, 9, 17), (2,)),
    ((2, 20, 5, 6), (1,)),
    ((2, 20, 5, 6), (3,)),
    ((2, 20, 5, 6), (1, 3)),
    ((2, 20, 5, 6), (1, 2, 3)),
    ((2, 20, 5, 6), (0, 2, 3)),
    ((2, 17, 3, 4, 5), (2, 3, 4)),
    ((2, 3, 2, 3, 2, 5), (1, 2, 3, 4)),
]


@pytest.mark.parametrize(("shape", "dims"), FORMS)
@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("keepdim", [False, True])
def test_bits(isa: Isa, shape: tuple[int, ...], dims: tuple[int, ...], keepdim: bool) -> None:
    for x in (random_bytes(shape), random_bytes(shape).transpose(1, -1).contiguous().transpose(1, -1), random_bytes(shape, signed=True)):
        for op in (Mean(dims, 1.1, 100, OUTPUTS["shifted"], keepdim), Sum(dims, 0.01, 100, OUTPUTS["float"], keepdim)):
            check(one_step(op), [x], isa)
        for extreme in (amax, amin):
            check(one_step(extreme, dim=dims if len(dims) > 1 else dims[0], keepdim=keepdim), [x], isa)


def test_a_vector_of_results_is_computed_on() -> None:
    steps: list[Any] = [Mean((1,), 1.1, 100, OUTPUTS["shifted"], False), Table(torch.arange(255, -1, -1).to(torch.uint8))]
    region = Region("region", 1, tuple(Step(f"step{n}", op, (Value(n),), {}) for n, op in enumerate(steps)), (2, 1))
    check(region, [random_bytes((7, 40))], find_isa())


def test_one_number_is_left_to_torch() -> None:
    compiled = CompiledRegion(one_step(Mean((), 1.1, 100, OUTPUTS["shifted"])))
    compiled([random_bytes((3, 4))])
    assert list(compiled.refused.values()) == ["a value of shape () is no batch"]
