"""QConfigs of weights only through prepare_fx and convert_fx."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.graph.reasons import Why
from fxq.report.kinds import Kind
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.integer.linear import Linear
from fxq.runtime.weight_only.embedding import WeightOnlyEmbedding, WeightOnlyEmbeddingBag
from fxq.runtime.weight_only.linear import WeightOnlyLinear
from fxq.testing import assert_int8
from tests.closeness import sqnr
from tests.export.runtime import run_onnx
from tests.files.same import assert_same, through_file

QCONFIGS = {
    "8": (fxq.weight_only_qconfig(8, 0), 35.0),
    "8_rows": (fxq.float_qparams_weight_only_qconfig, 35.0),
    "4": (fxq.weight_only_qconfig(4, 32), 14.0),
    "4_symmetric": (fxq.weight_only_qconfig(4, 32, symmetric=True), 12.0),
    "float16": (fxq.float16_dynamic_qconfig, 55.0),
}


class Words(nn.Module):
    """Rows and products in every spelling, with activations behind and a weight that three layers have."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.bag = nn.Embedding(50, 32), nn.EmbeddingBag(20, 32, mode="sum")
        self.positions = nn.Parameter(torch.randn(7, 32))
        self.up, self.act, self.down, self.out = nn.Linear(32, 64), nn.Hardswish(), nn.Linear(64, 32), nn.Linear(32, 50)
        self.mix = nn.Parameter(torch.randn(32, 32) / 6)
        self.out.weight = self.embed.weight

    def forward(self, words: Tensor, bags: Tensor) -> Tensor:
        y = self.embed(words) + F.embedding(torch.arange(words.shape[1]), self.positions) + self.bag(bags).unsqueeze(1)
        y = F.relu(self.down(self.act(self.up(y)))) @ self.mix
        return self.out(y) + F.linear(y, self.embed.weight)


def words() -> tuple[Tensor, Tensor]:
    return torch.randint(0, 50, (3, 7)), torch.randint(0, 20, (3, 4))


def prepared(model: nn.Module, qconfig: fxq.QConfig, x: tuple[Tensor, ...]) -> fxq.FxqModule:
    return fxq.prepare_fx(model.eval(), fxq.QConfigMapping().set_global(qconfig), x)


@pytest.mark.parametrize("name", QCONFIGS)
def test_every_layer_with_a_matrix(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x, (qconfig, least) = Words(), words(), QCONFIGS[name]
    before = prepared(model, qconfig, x)
    small, reference = fxq.convert_fx(before), fxq.convert_to_reference_fx(before)
    kinds = [type(module) for module in small.modules()]
    assert [kinds.count(kind) for kind in (WeightOnlyEmbedding, WeightOnlyEmbeddingBag, WeightOnlyLinear)] == [2, 1, 5]
    assert sqnr(small(*x), model(*x)) > least
    torch.testing.assert_close(small(*x), reference(*x), rtol=1e-5, atol=1e-4)
    reports = [fxq.report(each) for each in (before, small, reference)]
    assert [report.totals.count(Kind.WEIGHT_ONLY) for report in reports] == [8, 8, 8]
    assert_same(through_file(small, tmp_path), small, *x)
    assert_same(through_file(reference, tmp_path), reference, *x)


def test_a_shared_weight_takes_its_bytes_once() -> None:
    x = words()
    small = fxq.convert_fx(prepared(Words(), fxq.weight_only_qconfig(8, 0), x))
    assert small.get_submodule("embed").weight is small.get_submodule("out").weight
    report = fxq.report(small)
    assert report.row("embed").weight_bytes == 50 * (32 + 4 + 4) and report.row("out").weight_bytes == 50 * 4  # the bias
    assert small.get_submodule("up").output.activation is not None


def test_beside_layers_that_multiply_integers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(30, 16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 8)).eval()
    mapping = fxq.get_default_qconfig_mapping().set_module_name("1", fxq.per_row_dynamic_qconfig)
    mapping.set_object_type(nn.Embedding, fxq.float_qparams_weight_only_qconfig).set_module_name("5", fxq.weight_only_qconfig(8, 0))
    x = torch.randint(0, 30, (4, 5))
    before = fxq.prepare_fx(model, mapping, (x,))
    before(x)
    int8 = fxq.convert_fx(before)
    layers = [type(int8.get_submodule(path)) for path in ("0", "1", "3", "5")]
    assert layers == [WeightOnlyEmbedding, DynamicLinear, Linear, WeightOnlyLinear]
    assert sqnr(int8(x), model(x)) > 25
    with pytest.raises(AssertionError, match=r"(?s)Embedding 0.*weights only.*Linear 5"):
        assert_int8(int8)


def test_compared_layer_by_layer() -> None:
    torch.manual_seed(0)
    model, x = Words().eval(), words()
    found = fxq.compare(model, fxq.convert_fx(prepared(model, fxq.weight_only_qconfig(8, 0), x)), [x], progress=False)
    rounded = [row for row in found.rows if row.kind is Kind.WEIGHT_ONLY]
    assert len(rounded) == 8 and found.rows[:8] == tuple(rounded)
    assert all(row.alone is not None and row.alone.sqnr_db > 35 for row in rounded)
    weight = found.row("up").weight
    assert weight is not None and 40 < weight.sqnr_db < 60


def test_exported_as_the_floats_that_they_stand_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Embedding(30, 16), nn.Linear(16, 8), nn.ReLU()), torch.randint(0, 30, (4, 5))
    small = fxq.convert_fx(prepared(model, fxq.weight_only_qconfig(4, 8), (x,)))
    fxq.export_onnx(small, tmp_path / "model.onnx")
    torch.testing.assert_close(run_onnx(tmp_path / "model.onnx", x)[0], small(x), rtol=1e-5, atol=1e-5)


def test_what_stays_float_says_why() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clipped, self.bag = nn.Embedding(9, 4, max_norm=1.0), nn.EmbeddingBag(9, 4, max_norm=1.0)
            self.conv = nn.Conv1d(4, 4, 1)

        def forward(self, words: Tensor, weight: Tensor) -> Tensor:
            y = self.conv(self.clipped(words).transpose(1, 2)).transpose(1, 2) + self.bag(words).unsqueeze(1)
            return F.linear(y, weight)

    x = torch.randint(0, 9, (2, 3)), torch.randn(5, 4)
    report = fxq.report(fxq.convert_fx(prepared(Mixed(), fxq.weight_only_qconfig(8, 0), x)))
    reasons = {row.name: row.reason for row in report.rows if row.reason is not None}
    expected = {"clipped": Why.MUTATED, "bag": Why.MUTATED, "conv": Why.WEIGHT_ONLY, "linear": Why.NOT_CONSTANT}
    assert {name: reasons[name].why for name in expected} == expected
    assert "max_norm=1.0" in reasons["bag"].detail


def test_turned_off_at_conversion() -> None:
    x = words()
    off = fxq.QConfigMapping().set_module_name("up", None).set_object_type(nn.EmbeddingBag, None)
    small = fxq.convert_fx(prepared(Words(), fxq.weight_only_qconfig(8, 0), x), qconfig_mapping=off)
    report = fxq.report(small)
    assert [report.row(name).kind for name in ("up", "bag", "down")] == [Kind.FLOAT, Kind.FLOAT, Kind.WEIGHT_ONLY]


def test_original_weights_are_kept() -> None:
    model, x = Words(), words()
    small = fxq.convert_fx(prepared(model, fxq.weight_only_qconfig(8, 0), x), keep_original_weights=True)
    kept = small.original_weights_lookup
    assert torch.equal(kept["embed"].weight, model.embed.weight) and torch.equal(kept["up"].weight, model.up.weight)


@pytest.mark.parametrize("length", [0, 1, 9])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_any_number_of_tokens(batch: int, length: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(30, 16), nn.Linear(16, 8)).eval()
    small = fxq.convert_fx(prepared(model, fxq.weight_only_qconfig(8, 0), (torch.randint(0, 30, (2, 3)),)))
    x = torch.randint(0, 30, (batch, length))
    torch.testing.assert_close(small(x), model(x), rtol=0, atol=0.05)


def test_a_model_in_half_precision_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Embedding(30, 16), nn.Linear(16, 8)).to(torch.bfloat16)
    x = torch.randint(0, 30, (2, 3))
    small = fxq.convert_fx(prepared(model, fxq.weight_only_qconfig(8, 0), (x,)))
    report = fxq.report(small)
    assert [reason.why for reason in (report.row("_0").reason, report.row("_1").reason) if reason is not None] == [Why.DTYPE] * 2
    assert torch.equal(small(x), model(x))
    assert "model.float()" in str(report) and "quantize_dynamic" in str(report)
