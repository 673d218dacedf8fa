"""Recurrent modules in a graph that is quantized dynamically."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError
from fxq.graph.reasons import Why
from fxq.report.kinds import Kind
from fxq.runtime.dynamic.recurrent import DynamicRNN, DynamicRNNCell
from fxq.runtime.weight_only.recurrent import WeightOnlyRNN
from tests.closeness import sqnr
from tests.files.same import assert_same, through_file

DYNAMIC = fxq.QConfigMapping().set_global(fxq.per_channel_dynamic_qconfig)


class Tagger(nn.Module):
    def __init__(self, recurrent: nn.Module, features: int) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(50, 16), recurrent, nn.Linear(features, 5)

    def forward(self, words: Tensor) -> Tensor:
        result: Tensor = self.head(self.rnn(self.embed(words))[0])
        return result


class Unrolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        h, c = self.cell(x[:, 0])
        for step in (1, 2):
            h, c = self.cell(x[:, step], (h, c))
        result: Tensor = h
        return result


@pytest.mark.parametrize(
    ("recurrent", "features"),
    [(nn.LSTM(16, 24, 2, batch_first=True, bidirectional=True), 48), (nn.GRU(16, 24), 24), (nn.RNN(16, 24, nonlinearity="relu"), 24)],
    ids=["lstm", "gru", "rnn"],
)
def test_a_model_with_a_recurrent_layer(recurrent: nn.Module, features: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, words = Tagger(recurrent, features).eval(), torch.randint(0, 50, (3, 7))
    prepared = fxq.prepare_fx(model, DYNAMIC, (words,))
    int8, reference = fxq.convert_fx(prepared), fxq.convert_to_reference_fx(prepared)
    assert isinstance(int8.get_submodule("rnn"), DynamicRNN)
    assert sqnr(int8(words), model(words)) > 35
    torch.testing.assert_close(reference(words), int8(words), rtol=0, atol=1e-5)
    report = fxq.report(int8)
    assert report.row("rnn").kind is Kind.DYNAMIC and report.totals.macs_share_int8 == 1.0
    assert report.totals.macs == fxq.report(prepared).totals.macs
    assert report.row("rnn").weight_bytes_float32 == sum(tensor.nbytes for tensor in recurrent.parameters())
    assert_same(through_file(int8, tmp_path), int8, words)


@pytest.mark.parametrize(("qconfig", "bytes_"), [(fxq.float16_dynamic_qconfig, 2.0), (fxq.weight_only_qconfig(4, 8), 0.5 + 1.0)])
def test_weights_in_few_bits(qconfig: fxq.QConfig, bytes_: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, words = Tagger(nn.GRU(16, 24), 24).eval(), torch.randint(0, 50, (3, 7))
    prepared = fxq.prepare_fx(model, fxq.QConfigMapping().set_global(qconfig), (words,))
    small, reference = fxq.convert_fx(prepared), fxq.convert_to_reference_fx(prepared)
    assert isinstance(small.get_submodule("rnn"), WeightOnlyRNN)
    torch.testing.assert_close(reference(words), small(words), rtol=0, atol=1e-5)
    row = fxq.report(small).row("rnn")
    assert row.kind is Kind.WEIGHT_ONLY and row.macs == fxq.report(prepared).row("rnn").macs
    assert row.weight_bytes_float32 == sum(tensor.nbytes for tensor in model.rnn.parameters())
    assert row.weight_bytes == 3 * 24 * (16 + 24) * bytes_ + 2 * 3 * 24 * 4
    compared = fxq.compare(model, small, [words], progress=False)
    assert compared.row("rnn").kind is Kind.WEIGHT_ONLY
    assert_same(through_file(small, tmp_path), small, words)


def test_weights_that_are_not_finite() -> None:
    model, words = Tagger(nn.GRU(16, 24), 24).eval(), torch.randint(0, 50, (3, 7))
    model.rnn.weight_ih_l0.data[0, 0] = torch.inf
    prepared = fxq.prepare_fx(model, fxq.QConfigMapping().set_object_type(nn.GRU, fxq.float16_dynamic_qconfig), (words,))
    with pytest.raises(ConfigError, match=r"(?s)GRU.weight_ih_l0.*finite"):
        fxq.convert_fx(prepared)


def test_a_cell_that_is_called_for_every_step_is_one_op() -> None:
    torch.manual_seed(0)
    model, x = Unrolled().eval(), torch.randn(4, 3, 6)
    int8 = fxq.convert_fx(fxq.prepare_fx(model, DYNAMIC, (x,)))
    assert sum(isinstance(module, DynamicRNNCell) for module in int8.modules()) == 1
    assert sqnr(int8(x), model(x)) > 35
    assert fxq.report(int8).totals.macs == 4 * 3 * (8 + 6) * 4 * 8


def test_one_call_of_a_cell_stays_float() -> None:
    torch.manual_seed(0)
    model, x = Unrolled().eval(), torch.randn(4, 3, 6)
    mapping = fxq.QConfigMapping().set_global(fxq.per_channel_dynamic_qconfig)
    mapping.set_module_name_object_type_order("", nn.LSTMCell, 1, None)
    int8 = fxq.convert_fx(fxq.prepare_fx(model, mapping, (x,)))
    kinds = [type(int8.get_submodule(str(node.target))).__name__ for node in int8.graph.find_nodes(op="call_module")]
    assert kinds == ["DynamicRNNCell", "LSTMCell", "DynamicRNNCell"]
    assert sqnr(int8(x), model(x)) > 35


def test_calls_with_two_qconfigs_are_two_ops() -> None:
    torch.manual_seed(0)
    model, x = Unrolled().eval(), torch.randn(4, 3, 6)
    mapping = fxq.QConfigMapping().set_global(fxq.per_channel_dynamic_qconfig)
    mapping.set_module_name_object_type_order("", nn.LSTMCell, 1, fxq.default_dynamic_qconfig)
    int8 = fxq.convert_fx(fxq.prepare_fx(model, mapping, (x,)))
    cells = [int8.get_submodule(str(node.target)) for node in int8.graph.find_nodes(op="call_module")]
    assert cells[0] is cells[2] is not cells[1]
    assert not torch.equal(cells[0].scale_ih_l0, cells[1].scale_ih_l0)
    assert torch.equal(cells[1].scale_ih_l0, cells[1].scale_ih_l0[:1].expand(32))


def test_beside_calibrated_layers() -> None:
    torch.manual_seed(0)
    model, words = Tagger(nn.LSTM(16, 24), 24).eval(), torch.randint(0, 50, (3, 7))
    mapping = fxq.get_default_qconfig_mapping("x86").set_object_type(nn.LSTM, fxq.per_channel_dynamic_qconfig)
    prepared = fxq.prepare_fx(model, mapping, (words,))
    fxq.calibrate(prepared, [words], progress=False)
    int8 = fxq.convert_fx(prepared)
    report = fxq.report(int8)
    assert (report.row("rnn").kind, report.row("head").kind) == (Kind.DYNAMIC, Kind.INT8)
    assert sqnr(int8(words), model(words)) > 30


def test_dropout_that_drops_stays_float() -> None:
    model, words = Tagger(nn.LSTM(16, 24, 2, dropout=0.5), 24).eval(), torch.randint(0, 50, (3, 7))
    model.rnn.train()
    prepared = fxq.prepare_fx(model, DYNAMIC, (words,))
    assert fxq.report(prepared).row("rnn").reason.why is Why.TRAINING
