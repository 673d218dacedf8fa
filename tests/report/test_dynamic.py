"""Layers that quantize as they go are compared and checked like those with calibrated ranges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.report import Kind
from fxq.report.closeness import closeness
from fxq.testing import assert_int8, assert_min_sqnr


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.mix, self.head = nn.Linear(16, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.relu(self.mix(self.lstm(x)[0])))
        return y


def model() -> Tagger:
    torch.manual_seed(0)
    return Tagger().eval()


def batches() -> list[Tensor]:
    return [torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def mapping() -> fxq.QConfigMapping:
    return fxq.QConfigMapping().set_global(fxq.per_channel_dynamic_qconfig)


def int8(given: fxq.QConfigMapping) -> fxq.FxqModule:
    return fxq.convert_fx(fxq.prepare_fx(model(), given, batches()[0]))


def test_every_layer_by_itself_and_with_those_before_it() -> None:
    exact, converted, x = model(), int8(mapping()), batches()[0]
    found = fxq.compare(exact, converted, [x], progress=False)
    assert {row.module: row.kind for row in found.rows} == dict.fromkeys(("lstm", "mix", "head"), Kind.DYNAMIC)
    with torch.no_grad():
        hidden = exact.lstm(x)[0]
        mixed = torch.relu(exact.mix(hidden))
        op = converted.get_submodule("mix")
        alone = closeness([mixed], [op(hidden)])
        so_far = closeness([mixed], [op(converted.get_submodule("lstm")(x)[0])])
    assert found.row("mix").alone == alone and found.row("mix").so_far == so_far
    assert found.rows == tuple(sorted(found.rows, key=lambda row: row.damage_db))
    weight = found.row("head").weight
    assert weight is not None and 40 < weight.sqnr_db < 60
    assert found.row("lstm").weight is None


@pytest.mark.parametrize(("runtime", "share"), [("auto", 1.0), ("integer", 0.0)])
def test_they_count_as_compiled(runtime: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXQ_RUNTIME", runtime)
    converted = int8(mapping())
    for _ in range(2):  # before the first call, and after it
        assert fxq.report(converted).totals.macs_share_compiled == share
        converted(batches()[0])


def test_checks_know_them() -> None:
    converted = int8(mapping())
    assert_int8(converted)
    assert_min_sqnr(model(), converted, batches(), 35.0, layers="lstm")
    with pytest.raises(AssertionError, match=r"Linear mix: kept float by set_module_name"):
        assert_int8(int8(mapping().set_module_name("mix", None)), "mix", "head")


def test_float_ops_between_dynamic_layers_are_compiled() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8), nn.Softshrink())
    prepared = fxq.prepare_fx(model.eval(), fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig), (torch.randn(2, 8),))
    report = fxq.report(fxq.convert_fx(prepared))
    assert [row.type for row in report.rows if row.kind is Kind.FLOAT and row.compiled] == ["LayerNorm", "GELU"]
    assert "machine code, and 2 float nodes between dynamic layers" in str(report)
    assert str(report).count("float, compiled") == 2
    assert "float, compiled" not in str(fxq.report(fxq.convert_fx(prepared, runtime="integer")))
