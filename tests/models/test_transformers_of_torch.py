"""nn.TransformerEncoder and its kin: torch.fx calls their layers whole, fxq looks inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn

import fxq
from benchmarks.architectures import sqnr


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 32)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(self.embed(x)))


class Causal(nn.Module):
    """Norms in front, gelu, tokens first, and a mask."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 3, 64, activation="gelu", norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(6))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layers(x.transpose(0, 1), mask=self.mask, is_causal=True))


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Transformer(12, 3, 1, 1, 64, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.both(x, x[:, :4]))


@pytest.mark.parametrize("make", [Encoder, Causal, Translator])
@pytest.mark.parametrize("is_dynamic", [False, True])
@pytest.mark.parametrize("has_gradients", [False, True])
def test_layers_inside_are_int8(make: Callable[[], nn.Module], is_dynamic: bool, has_gradients: bool) -> None:
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(3, 6, 12)
    mapping = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig) if is_dynamic else fxq.get_default_qconfig_mapping("x86")
    with torch.set_grad_enabled(has_gradients):
        int8 = fxq.quantize(model, [x], qconfig_mapping=mapping, progress=False)
    report = fxq.report(int8)
    linears = [row for row in report.rows if row.type == "Linear"]
    assert linears and all(row.kind.value != "float" for row in linears)
    assert report.totals.macs_share_int8 > 0.9
    with torch.no_grad():
        assert sqnr(model(x), int8(x)) > 30
        assert sqnr(model(x[:1]), int8(x[:1])) > 30
