"""A dynamic QConfig through prepare_fx and convert_fx."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.graph.annotation import quant_of
from fxq.report.kinds import Kind, kind_of
from fxq.runtime.dynamic.conv import DynamicConv
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.integer.linear import Linear
from tests.closeness import sqnr
from tests.export.runtime import run_onnx
from tests.files.same import assert_same, through_file


class Mlp(nn.Module):
    """Linear in three spellings, with activations behind."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act = nn.Linear(12, 32), nn.Hardswish()
        self.weight, self.bias = nn.Parameter(torch.randn(16, 32) / 6), nn.Parameter(torch.randn(16))
        self.last = nn.Parameter(torch.randn(16, 8) / 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.first(x))
        return F.relu(F.linear(y, self.weight, self.bias)) @ self.last


def converted(model: nn.Module, qconfig: fxq.QConfig, x: Tensor) -> fxq.FxqModule:
    return fxq.convert_fx(fxq.prepare_fx(model.eval(), fxq.QConfigMapping().set_global(qconfig), (x,)))


@pytest.mark.parametrize("name", ["default_dynamic_qconfig", "per_channel_dynamic_qconfig", "per_row_dynamic_qconfig"])
def test_no_calibration_is_needed(name: str) -> None:
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(6, 12)
    quantized = converted(model, getattr(fxq, name), x)
    layers = [module for module in quantized.modules() if isinstance(module, DynamicLinear)]
    assert len(layers) == 3
    assert [str(layer.output) for layer in layers] == ["hardswish, float32", "float32 [0.0, inf]", "float32"]
    assert all(layer.per_row is name.startswith("per_row") for layer in layers)
    assert sqnr(quantized(x), model(x)) > 30
    assert torch.equal(quantized(x), quantized.run_lowered(x))


def test_the_reference_means_the_same() -> None:
    torch.manual_seed(0)
    model, x = Mlp(), torch.randn(6, 12)
    prepared = fxq.prepare_fx(model.eval(), fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig), (x,))
    reference, lowered = fxq.convert_to_reference_fx(prepared), fxq.convert_fx(prepared)
    assert "round_to_bytes(x, per_row=True)" in fxq.print_graph(reference)
    assert float((reference(x) - lowered(x)).detach().abs().max()) < 1e-5


def test_beside_calibrated_layers() -> None:
    """A dynamic layer reads float, whatever its neighbours do, and asks nobody for integers."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)), torch.randn(5, 8)
    mapping = fxq.get_default_qconfig_mapping().set_module_name("2", fxq.default_dynamic_qconfig)
    prepared = fxq.prepare_fx(model.eval(), mapping, (x,))
    prepared(x)
    quantized = fxq.convert_fx(prepared)
    kinds = [type(module) for module in quantized.modules() if isinstance(module, Linear | DynamicLinear)]
    assert kinds == [Linear, DynamicLinear, Linear]
    assert sqnr(quantized(x), model(x)) > 25


def test_a_sum_with_a_residual_stays_float() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.inner(x) + x)

    quantized = converted(Residual(), fxq.default_dynamic_qconfig, torch.randn(4, 8))
    assert "add(" in fxq.print_graph(quantized)


def test_reports_show_them_as_such() -> None:
    x = torch.randn(6, 12)
    quantized = converted(Mlp(), fxq.default_dynamic_qconfig, x)
    report = fxq.report(quantized)
    assert report.totals.macs_share_int8 == 1.0 and report.totals.count(Kind.DYNAMIC) == 3
    assert "dynamic int8" in str(report)
    assert [kind_of(node) for node in quantized.graph.nodes if node.op == "call_module"] == [Kind.DYNAMIC] * 3


def test_turned_off_at_conversion() -> None:
    x = torch.randn(6, 12)
    prepared = fxq.prepare_fx(Mlp().eval(), fxq.QConfigMapping().set_global(fxq.default_dynamic_qconfig), (x,))
    quantized = fxq.convert_fx(prepared, qconfig_mapping=fxq.QConfigMapping().set_module_name("first", None))
    kept = next(node for node in quantized.graph.nodes if node.name == "first")
    quant = quant_of(kept)
    assert quant is not None and quant.reason is not None and "first" in quant.reason.detail


def test_sums_that_could_overflow_stay_float() -> None:
    x = torch.randn(2, 70_000)
    model = nn.Sequential(nn.Linear(70_000, 1))
    nn.init.ones_(model[0].weight)
    quantized = converted(model, fxq.default_dynamic_qconfig, x)
    assert "overflow" in str(fxq.report(quantized))
    assert quantized(x).shape == (2, 1)


@pytest.mark.parametrize("name", ["per_channel_dynamic_qconfig", "per_row_dynamic_qconfig"])
def test_through_a_file(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 12)
    quantized = converted(Mlp(), getattr(fxq, name), x)
    assert_same(through_file(quantized, tmp_path), quantized, x)


@pytest.mark.parametrize("name", ["per_channel_dynamic_qconfig", "per_row_dynamic_qconfig"])
def test_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    """Rounding to 8 bits differs where a quotient is near the middle of two integers."""
    torch.manual_seed(0)
    x = torch.randn(6, 12)
    quantized = converted(Mlp(), getattr(fxq, name), x)
    fxq.export_onnx(quantized, tmp_path / "m.onnx", dynamic_batch=False)
    (found,) = run_onnx(tmp_path / "m.onnx", x)
    assert sqnr(found, quantized(x)) > 60


class Convolving(nn.Module):
    """A convolution with a batch norm and an activation behind it, and one whose sum with a residual stays float."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.inner = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.bn(self.conv(x)))
        return F.relu(self.inner(y) + y)


@pytest.mark.parametrize("name", ["default_dynamic_qconfig", "per_channel_dynamic_qconfig", "per_row_dynamic_qconfig"])
def test_convolutions(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Convolving().eval(), torch.randn(2, 3, 9, 9)
    prepared = fxq.prepare_fx(model, fxq.QConfigMapping().set_object_type(nn.Conv2d, getattr(fxq, name)), (x,))
    quantized, reference = fxq.convert_fx(prepared), fxq.convert_to_reference_fx(prepared)
    layers = [module for module in quantized.modules() if isinstance(module, DynamicConv)]
    assert [str(layer.output) for layer in layers] == ["hardswish, float32", "float32"]
    assert sqnr(quantized(x), model(x)) > 30
    torch.testing.assert_close(reference(x), quantized(x), rtol=0, atol=1e-5)
    assert_same(through_file(quantized, tmp_path), quantized, x)
    report = fxq.report(quantized)
    assert report.totals.macs_share_int8 == 1.0 and report.totals.macs == fxq.report(prepared).totals.macs
    alone = fxq.compare(model, quantized, [x], progress=False).row("inner").alone
    assert alone is not None and alone.sqnr_db > 30
    fxq.export_onnx(quantized, tmp_path / "model.onnx")
    torch.testing.assert_close(run_onnx(tmp_path / "model.onnx", x)[0], quantized(x), rtol=0, atol=0.02)
