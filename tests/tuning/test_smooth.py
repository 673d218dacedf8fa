"""fxq.smooth: the same function, and less lost to 8 bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import CalibrationError, ConfigError
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.tuning.smooth import Smoothed
from tests.closeness import sqnr


class Spiky(nn.Module):
    """Layers that read features of very different size, as those of transformers are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 8)
        self.register_buffer("size", torch.ones(32))
        self.size[[3, 17]] = 60.0

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(torch.relu(self.first(x * self.size)))
        return result


def batches(count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(16, 32, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("name", ["default_dynamic_qconfig", "per_channel_dynamic_qconfig", "per_row_dynamic_qconfig"])
def test_more_is_left_behind_8_bits(name: str) -> None:
    torch.manual_seed(0)
    model, qconfig, x = Spiky().eval(), getattr(fxq, name), torch.randn(64, 32)
    smoothed = fxq.smooth(model, batches(), qconfig)
    torch.testing.assert_close(smoothed(x), model(x), rtol=1e-4, atol=1e-4)
    plain, better = (fxq.quantize_dynamic(each, {nn.Linear: qconfig}) for each in (model, smoothed))
    assert sqnr(better(x), model(x)) > sqnr(plain(x), model(x)) + 3
    assert sum(isinstance(module, DynamicLinear) for module in better.modules()) == 2


def test_the_users_model_is_left_alone() -> None:
    torch.manual_seed(0)
    model = Spiky().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    smoothed = fxq.smooth(model, batches())
    assert not smoothed.training and model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in (*model.modules(), *smoothed.modules()))


def test_layers_that_lose_nothing_stay_as_they_are() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(4))
    rows = torch.tensor([0.0, 255.0, 17.0, 100.0]).repeat(8, 1)  # exact in 8 bits, and so are the products
    assert not any(isinstance(module, Smoothed) for module in fxq.smooth(model, [rows]).modules())


def test_weights_that_others_read_too_stay() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix, self.out = nn.Embedding(20, 32), Spiky(), nn.Linear(8, 20, bias=False)
            self.small = nn.Linear(32, 20, bias=False)
            self.small.weight = self.embed.weight

        def forward(self, words: Tensor) -> Tensor:
            x = self.embed(words)
            result: Tensor = self.small(x * 50) + self.out(self.mix(x))
            return result

    torch.manual_seed(0)
    model, words = Tied().eval(), torch.randint(0, 20, (4, 6))
    smoothed = fxq.smooth(model, [words])
    assert isinstance(smoothed.mix.first, Smoothed) and type(smoothed.small) is nn.Linear
    assert torch.equal(smoothed.embed.weight, model.embed.weight)
    torch.testing.assert_close(smoothed(words), model(words), rtol=1e-4, atol=1e-4)


def test_a_layer_in_two_places_is_smoothed_once() -> None:
    torch.manual_seed(0)
    shared = Spiky()
    model, x = nn.Sequential(shared, nn.Linear(8, 32), shared).eval(), torch.randn(16, 32)
    smoothed = fxq.smooth(model, [x])
    assert smoothed[0].first is smoothed[2].first
    torch.testing.assert_close(smoothed(x), model(x), rtol=1e-4, atol=1e-4)


def test_in_a_transformer_of_torch() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    x = torch.randn(2, 5, 32) * Spiky().size
    with torch.no_grad():
        smoothed = fxq.smooth(model, [x])
        assert isinstance(smoothed.linear1, Smoothed)
        torch.testing.assert_close(smoothed(x), model(x), rtol=1e-4, atol=1e-4)


def test_in_a_graph() -> None:
    torch.manual_seed(0)
    model, x = Spiky().eval(), torch.randn(16, 32)
    smoothed = fxq.smooth(model, batches())
    mapping = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    int8 = fxq.convert_fx(fxq.prepare_fx(smoothed, mapping, (x,)))
    assert fxq.report(int8).totals.macs_share_int8 == 1.0
    assert torch.equal(int8(x), fxq.quantize_dynamic(smoothed)(x))


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="a dynamic QConfig"):
        fxq.smooth(Spiky(), batches(), fxq.get_default_qconfig("x86"))
    with pytest.raises(CalibrationError, match="linear layers of the model are called"):
        fxq.smooth(Spiky(), [])
    with pytest.raises(CalibrationError, match="linear layers of the model are called"):
        fxq.smooth(nn.Conv2d(1, 1, 1), [torch.zeros(1, 1, 4, 4)])
