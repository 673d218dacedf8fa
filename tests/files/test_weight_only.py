"""Weights in few bits in a file: bit by bit, in as few bytes, and refused where they do not fit each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.dynamic.modules import WEIGHT_ONLY_MODULES
from fxq.files.integer_ops import Arguments, Unbuildable, arguments_of, build_op
from fxq.graph.weight_format import WeightFormat
from fxq.report.kinds import Kind
from tests.runtime.jit.regions import weight_only_linear


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.bag, self.head = nn.Embedding(20, 32), nn.EmbeddingBag(20, 32, padding_idx=2), nn.Linear(32, 10)

    def forward(self, words: Tensor) -> Tensor:
        found: Tensor = self.head(self.embed(words).mean(1) + self.bag(words))
        return found


def test_there_and_back(tmp_path: Path) -> None:
    words = torch.randint(0, 20, (3, 5))
    table = {nn.Embedding: fxq.float_qparams_weight_only_qconfig, nn.EmbeddingBag: fxq.float_qparams_weight_only_qconfig_4bit}
    model = fxq.quantize_dynamic(Words().eval(), {**table, nn.Linear: fxq.weight_only_qconfig(4, 32)})
    converted = fxq.convert_fx(fxq.prepare_fx(model, fxq.QConfigMapping(), (words,)))
    fxq.save(converted, tmp_path / "model.fxq")
    loaded = fxq.load(tmp_path / "model.fxq")
    assert torch.equal(loaded(words), model(words))
    report = fxq.report(loaded)
    assert report.totals.count(Kind.WEIGHT_ONLY) == 3
    # weights, and scale and zero of each row
    assert [report.row(name).weight_bytes for name in ("embed", "bag", "head")] == [20 * (32 + 8), 20 * (16 + 8), 10 * (16 + 8 + 4)]
    assert report.row("head").weight_bytes_float32 == 10 * 33 * 4


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("weight", torch.zeros(6, 9, dtype=torch.uint8), "features"),
        ("weight", torch.zeros(6, 10, dtype=torch.int8), "torch.int8"),
        ("scale", torch.ones(6, 2), "groups"),
        ("scale", None, "scale is missing"),
        ("zero", torch.ones(5, 3), "zero"),
        ("bias", torch.ones(7), "bias"),
    ],
)
def test_what_does_not_fit(name: str, tensor: Tensor | None, message: str) -> None:
    given = arguments_of(weight_only_linear(20, 6, WeightFormat(4, 8)))
    tensors = {**given.tensors, name: tensor}
    with pytest.raises(Unbuildable, match=message):
        build_op("WeightOnlyLinear", Arguments(given.values, {key: value for key, value in tensors.items() if value is not None}))


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("weight_hh_l0", torch.zeros(18, 4, dtype=torch.uint8), "features"),
        ("weight_ih_l0", torch.zeros(17, 4, dtype=torch.uint8), "scale_ih_l0 is"),
        ("scale_ih_l0", torch.ones(18, 2), "groups"),
        ("zero_hh_l0", torch.ones(5, 1), "zero_hh_l0"),
        ("scale_hh_l0", None, "scale_hh_l0 is missing"),
        ("weight_ih_l7", torch.zeros(18, 4, dtype=torch.uint8), "weight_ih_l7"),
    ],
)
def test_a_recurrent_layer_that_does_not_fit(name: str, tensor: Tensor | None, message: str) -> None:
    given = arguments_of(WEIGHT_ONLY_MODULES[nn.GRU](nn.GRU(8, 6), fxq.weight_only_qconfig(4, 8)))
    tensors = {key: value for key, value in {**given.tensors, name: tensor}.items() if value is not None}
    assert build_op("WeightOnlyRNN", given) is not None
    with pytest.raises(Unbuildable, match=message):
        build_op("WeightOnlyRNN", Arguments(given.values, tensors))
