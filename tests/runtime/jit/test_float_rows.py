"""Float ops in programs: within a few units in the last place of the true values; with the bits of torch where one rounding is all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.graph import elementary, functional
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.region import Region, Step, Value
from tests.runtime.jit.regions import EVERY_ISA, check, dynamic_linear, one_step

# of results of size 1 or less, relative to larger ones
_BOUNDS = {
    **dict.fromkeys(("relu", "negated"), 0.0),
    **dict.fromkeys(("square", "cube", "sigmoid", "tanh", "silu"), 2**-22),
    **{"gelu": 2**-20, "gelu_tanh": 2**-21},
}
_CALLS: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "relu": (functional.relu, {}),
    "sigmoid": (functional.sigmoid, {}),
    "tanh": (functional.tanh, {}),
    "silu": (functional.silu, {}),
    "negated": (elementary.neg, {}),
    "square": (elementary.square, {}),
    "cube": (elementary.pow, {"exponent": 3.0}),
    "gelu": (functional.gelu, {}),
    "gelu_tanh": (functional.gelu, {"approximate": "tanh"}),
}
_WIDTHS = (1, 5, 16, 37, 64, 130)


def run(region: Region, inputs: list[Tensor], isa: Isa | None = None) -> tuple[Tensor, ...]:
    compiled = CompiledRegion(region, isa or find_isa())
    results = compiled(inputs)
    assert not compiled.refused
    return results


def kernels(region: Region, inputs: list[Tensor]) -> list[str]:
    compiled = CompiledRegion(region, find_isa())
    compiled(inputs)
    return [call.planned.kernel.name for call in compiled.programs[0].calls]


def distance(found: Tensor, exact: Tensor) -> float:
    """The largest error, in relation to the true value where that is larger than 1."""
    return float(((found.double() - exact).abs() / exact.abs().clamp(min=1)).max())


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("name", _CALLS)
def test_curves(isa: Isa, name: str) -> None:
    function, kwargs = _CALLS[name]
    for width in _WIDTHS:
        x = torch.cat([torch.linspace(-12, 12, 40 * width), torch.logspace(-30, 10, 10 * width), -torch.logspace(-30, 10, 10 * width)])
        rows = x.view(-1, width)
        (found,) = run(one_step(function, **kwargs), [rows], isa)
        assert distance(found, function(rows.double(), **kwargs)) <= _BOUNDS[name]


@pytest.mark.parametrize("name", _CALLS)
def test_curves_of_values_that_are_not_finite(name: str) -> None:
    function, kwargs = _CALLS[name]
    (found,) = run(one_step(function, **kwargs), [torch.tensor([[torch.nan, torch.inf, 0.0, -0.0]])])
    assert found[0, 0].isnan()
    assert torch.equal(found[0, 1:], function(torch.tensor([torch.inf, 0.0, -0.0]).double(), **kwargs).float())


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("function", [functional.add, functional.sub, functional.mul])
def test_arithmetic_has_the_bits_of_torch(isa: Isa, function: Callable[..., Tensor]) -> None:
    for width in _WIDTHS:
        x = torch.randn(2, 3, width)
        for other in (torch.randn(2, 3, width), torch.randn(1, 3, width), torch.randn(2, 1, width), torch.randn(3, width)):
            check(one_step(function, 2), [x, other], isa)
        for constant in (0.3, 2, torch.randn(width), torch.tensor(0.7)):
            for arguments in ((Value(0), constant), (constant, Value(0))):
                check(Region("region", 1, (Step("step", function, arguments, {}),), (1,)), [x], isa)


def test_the_first_operand_may_be_the_smaller_one() -> None:
    check(one_step(functional.add, 2), [torch.randn(1, 3, 8), torch.randn(2, 3, 8)], find_isa())
    check(one_step(functional.sub, 2), [torch.randn(1, 3, 8), torch.randn(2, 3, 8)], find_isa())


def norm(value: int, width: int, *, gain: bool = True, shift: bool = True) -> Step:
    vectors = (torch.randn(width) if gain else None, torch.randn(width) if shift else None)
    return Step("norm", functional.layer_norm, (Value(value), *vectors), {"normalized_shape": (width,), "eps": 1e-5})


def normalized(x: Tensor, step: Step) -> Tensor:
    gain, shift = (None if vector is None else vector.double() for vector in step.args[1:])
    return F.layer_norm(x, x.shape[-1:], gain, shift, 1e-5)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("gain", [False, True])
@pytest.mark.parametrize("shift", [False, True])
def test_layer_norm(isa: Isa, gain: bool, shift: bool) -> None:
    torch.manual_seed(0)  # three values that are nearly the same enlarge the rounding of their mean
    for width in (3, 16, 37, 64, 130, 768):
        step, x = norm(0, width, gain=gain, shift=shift), 3 * torch.randn(4, 5, width) + 10
        (found,) = run(Region("region", 1, (step,), (1,)), [x], isa)
        assert distance(found, normalized(x.double(), step)) < 2e-5  # of which the mean, ten times the values, has 1e-5
        assert distance(found, normalized(x.double(), step)) < 4 * distance(step.run([x]), normalized(x.double(), step)) + 1e-6


def rms_norm(value: int, width: int, gain: Tensor | None) -> Step:
    return Step("norm", functional.rms_norm, (Value(value), gain), {"normalized_shape": (width,), "eps": None})


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("kept", [False, True])
def test_rms_norm(isa: Isa, kept: bool) -> None:
    for width in (3, 16, 37, 130, 768):
        gain = torch.randn(width) if kept else None
        a, b = 3 * torch.randn(4, 5, width) + 10, torch.randn(4, 5, width)
        exact = F.rms_norm((a + b).double(), (width,), None if gain is None else gain.double(), torch.finfo(torch.float32).eps)
        (alone,) = run(Region("region", 1, (rms_norm(0, width, gain),), (1,)), [a + b], isa)
        steps = (Step("sum", functional.add, (Value(0), Value(1)), {}), rms_norm(2, width, gain))
        region = Region("region", 2, steps, (2, 3) if kept else (3,))
        results = run(region, [a, b], isa)
        assert distance(alone, exact) < 2e-6 and torch.equal(results[-1], alone)
        assert not kept or torch.equal(results[0], a + b)
        assert kernels(region, [a, b]) == ["normrows"]


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("kept", [False, True])
def test_a_sum_is_part_of_the_norm_behind(isa: Isa, kept: bool) -> None:
    for width in (5, 37, 64, 768):
        steps = (Step("sum", functional.add, (Value(0), Value(1)), {}), norm(2, width))
        region = Region("region", 2, steps, (2, 3) if kept else (3,))
        a, b = torch.randn(2, 7, width), torch.randn(2, 7, width)
        results = run(region, [a, b], isa)
        assert distance(results[-1], normalized((a + b).double(), steps[1])) < 1e-5
        assert not kept or torch.equal(results[0], a + b)
        assert kernels(region, [a, b]) == ["normrows"]


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("name", _CALLS)
def test_a_curve_is_part_of_the_layer_in_front(isa: Isa, name: str) -> None:
    function, kwargs = _CALLS[name]
    layer = dynamic_linear(37, 70, per_row=True)
    region = Region("region", 1, (Step("layer", layer, (Value(0),), {}), Step("curve", function, (Value(1),), kwargs)), (2,))
    x = torch.randn(9, 37)
    (found,) = run(region, [x], isa)
    assert distance(found, function(layer.by_torch(x).double(), **kwargs)) <= _BOUNDS[name]
    assert kernels(region, [x]) == ["quantizerows", "dynamic_gemm"]


def test_a_curve_is_no_worse_than_torchs() -> None:
    x = torch.linspace(-8, 8, 100_000).view(-1, 100)
    (found,) = run(one_step(functional.gelu), [x])
    assert distance(found, F.gelu(x.double())) <= distance(F.gelu(x), F.gelu(x.double()))


@pytest.mark.parametrize("outputs", [(1, 2), (2, 3)])
def test_a_layer_with_other_readers_keeps_its_result(outputs: tuple[int, ...]) -> None:
    layer = dynamic_linear(37, 70, per_row=True)
    steps = (
        Step("layer", layer, (Value(0),), {}),
        Step("curve", functional.gelu, (Value(1),), {}),
        Step("double", functional.add, (Value(1), Value(1)), {}),
    )
    region, x = Region("region", 1, steps, outputs), torch.randn(9, 37)
    results = dict(zip(outputs, run(region, [x]), strict=True))
    wanted = layer.by_torch(x)
    assert distance(results[2], F.gelu(wanted.double())) <= _BOUNDS["gelu"]
    assert all(torch.equal(results[value], factor * wanted) for value, factor in ((1, 1), (3, 2)) if value in results)
