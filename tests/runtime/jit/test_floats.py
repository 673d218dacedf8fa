"""Steps of float values in programs: dynamic layers, and what lies between them."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.graph import movement
from fxq.lowering.executable import regions_of
from fxq.runtime.dynamic.op import DynamicOp
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.plan import plan
from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.jit.shapes import trace_shapes
from fxq.runtime.region import Region, Step, Value
from tests.runtime.jit.regions import EVERY_ISA, check, dynamic_linear, one_step

_QCONFIGS = {False: fxq.per_channel_dynamic_qconfig, True: fxq.per_row_dynamic_qconfig}


class Heads(nn.Module):
    """Three layers read the same rows, whose parts change places before a fourth reads them; one of them is also a result."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(24, 24) for _ in range(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [layer(x).unflatten(-1, (4, 6)) for layer in (self.q, self.k, self.v)]
        mixed = torch.cat(parts, -1).transpose(1, 2)[:, :, :, 3:9]
        return self.out(mixed.transpose(1, 2).flatten(2)), parts[1]


def heads(*, per_row: bool = True, runtime: str = "auto") -> fxq.FxqModule:
    torch.manual_seed(0)
    mapping = fxq.QConfigMapping().set_global(_QCONFIGS[per_row])
    return fxq.convert_fx(fxq.prepare_fx(Heads().eval(), mapping, (torch.randn(2, 5, 24),)), runtime=runtime)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("shape", [(1, 16), (3, 16), (2, 7, 16), (2, 2, 3, 16)])
def test_layers_of_any_rank(isa: Isa, per_row: bool, shape: tuple[int, ...]) -> None:
    check(one_step(dynamic_linear(16, 21, "float_relu", per_row=per_row)), [torch.randn(shape)], isa)


def test_rows_that_do_not_lie_one_after_the_other() -> None:
    region = one_step(dynamic_linear(16, 21, per_row=True))
    for x in (torch.randn(16, 5).t(), torch.randn(4, 3, 16)[:, 1], torch.randn(4, 3, 16).transpose(0, 1)):
        check(region, [x], find_isa())


@pytest.mark.parametrize("per_row", [False, True])
def test_a_graph_of_dynamic_layers_is_one_program(per_row: bool) -> None:
    model, integer = heads(per_row=per_row), heads(per_row=per_row, runtime="integer")
    for batch, length in ((2, 5), (1, 1), (3, 40)):
        x = torch.randn(batch, length, 24)
        assert all(torch.equal(a, b) for a, b in zip(model(x), integer(x), strict=True))
    (region,) = regions_of(model)
    assert not region.refused and len(region.programs) == 3
    kernels = [call.planned.kernel.name for call in region.programs[-1].calls]
    assert kernels.count("dynamic_gemm") == 4
    assert kernels.count("quantizerows") == 2, "rows that several layers read are quantized once"


def test_parts_of_a_result_are_results_of_their_own() -> None:
    steps = (
        Step("linear", dynamic_linear(16, 21), (Value(0),), {}),
        Step("rows", movement.flatten, (Value(1), 0, 1), {}),
        Step("some", movement.narrow, (Value(1), 1, 1, 2), {}),
    )
    x = torch.randn(2, 4, 16)
    check(Region("results", 1, steps, (1, 2, 3)), [x], find_isa())
    whole, rows, some = CompiledRegion(Region("results", 1, steps, (1, 2, 3)), find_isa())([x])
    rows.zero_()
    assert whole.all() and some.all()


class Prefixed(nn.Module):
    """A vector of the model becomes rows of it, in front of others."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix, self.gain, self.linear = nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(16)), nn.Linear(16, 21)

    def forward(self, x: Tensor) -> Tensor:
        whole = torch.cat([self.prefix.expand(x.shape[0], 1, -1), x * self.gain], 1)
        return cast(Tensor, self.linear(whole))


def test_vectors_of_the_model_among_the_operands() -> None:
    mapping = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    prepared = fxq.prepare_fx(Prefixed().eval(), mapping, (torch.randn(2, 5, 16),))
    model, integer = fxq.convert_fx(prepared), fxq.convert_fx(prepared, runtime="integer")
    for shape in ((2, 5, 16), (3, 1, 16)):
        x = torch.randn(shape)
        assert torch.equal(model(x), integer(x))
    assert not any(region.refused for region in regions_of(model))


def test_weights_are_packed_once_for_all_shapes() -> None:
    model = heads()
    for length in (5, 9, 40):
        model(torch.randn(1, length, 24))
    (region,) = regions_of(model)
    blocks = {id(block) for program in region.programs for block in program.constants if block.nbytes > 512}
    assert len(blocks) == len({id(block) for block in region.programs[0].constants if block.nbytes > 512})
    assert not any(op.programs for op in model.modules() if isinstance(op, DynamicOp)), "no layer has code of its own beside"


def test_other_dtypes_and_no_rows_are_left_to_the_layers() -> None:
    model, integer = heads(), heads(runtime="integer")
    for x in (torch.randn(2, 5, 24).double(), torch.randn(0, 5, 24), torch.randn(2, 0, 24)):
        assert all(torch.equal(a, b) and a.dtype == x.dtype for a, b in zip(model(x), integer(x), strict=True))
    assert set(regions_of(model)[0].refused.values()) == {"reads torch.float64"}


def test_what_is_only_measured_may_be_anything() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(24, 24)

        def forward(self, x: Tensor, ids: Tensor) -> Tensor:
            rows: Tensor = self.linear(x).view(ids.shape[0], -1, 24)
            return rows

    x, ids = torch.randn(2, 5, 24), torch.arange(2)
    mapping = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    model = fxq.convert_fx(fxq.prepare_fx(Sized().eval(), mapping, (x, ids)))
    assert torch.equal(model(x, ids), model.run_lowered(x, ids))
    assert not regions_of(model)[0].refused


def test_int8_and_dynamic_layers_are_regions_of_their_own() -> None:
    torch.manual_seed(0)
    float_model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Unflatten(1, (2, 4)), nn.Flatten(), nn.Linear(8, 8))
    mapping = fxq.get_default_qconfig_mapping().set_module_name("2", fxq.per_row_dynamic_qconfig)
    x = torch.randn(5, 8)
    prepared = fxq.prepare_fx(float_model.eval(), mapping, (x,))
    prepared(x)
    model = fxq.convert_fx(prepared)
    assert [[step.name for step in compiled.region.steps] for compiled in regions_of(model)] == [
        ["input_1_q", "_0"],
        ["_2"],
        ["_2_q", "_3", "_4", "_5"],
    ]
    assert torch.equal(model(x), model.run_lowered(x))


def test_moves_alone_stay_with_torch() -> None:
    model = fxq.convert_fx(
        fxq.prepare_fx(nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Flatten(), nn.Softshrink()), fxq.QConfigMapping(), (torch.randn(5, 8),))
    )
    assert regions_of(model) == []


def test_shapes_are_found_without_data() -> None:
    """A new length costs planning, no run of the integer ops."""
    layer = dynamic_linear(16, 21)
    region = Region("region", 1, (Step("layer", layer, (Value(0),), {}), Step("turned", movement.transpose, (Value(1), 0, 1), {})), (2,))
    values = trace_shapes(region, [torch.randn(3, 16)])
    assert all(value.is_meta for value in values.values())
    assert plan(region, values, find_isa()).outputs[0].shape == (21, 3)
    x = torch.randn(3, 16)
    assert torch.equal(CompiledRegion(region)([x])[0], layer.by_torch(x).t())


def test_torch_compile_and_export() -> None:
    model, x = heads(), torch.randn(2, 5, 24)
    expected = model(x)
    for traced in (torch.compile(model, backend="eager", fullgraph=True), torch.export.export(model, (x,)).module()):
        assert all(torch.equal(a, b) for a, b in zip(traced(x), expected, strict=True))
