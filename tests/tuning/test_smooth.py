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
    assert sqnr(int8(x), fxq.quantize_dynamic(smoothed)(x)) > 40  # factors pass the relu in front: other weights are rounded


def test_calibrated() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8)).eval(), torch.randn(64, 32)
    with torch.no_grad():
        model[0].weight[[3, 17]] *= 60
        model[1].weight[:, [3, 17]] /= 60
    smoothed = fxq.smooth(model, batches(), fxq.get_default_qconfig("x86"))
    torch.testing.assert_close(smoothed(x), model(x), rtol=1e-4, atol=1e-4)
    plain, better = (fxq.quantize(each, batches(), progress=False) for each in (model, smoothed))
    assert sqnr(better(x), model(x)) > sqnr(plain(x), model(x)) + 10
    assert not [row for row in fxq.report(better).rows if row.type == "mul"]


class Block(nn.Module):
    """A norm, and two layers that read it."""

    def __init__(self, norm: nn.Module, *, with_residual: bool = False) -> None:
        super().__init__()
        self.norm, self.first, self.second = norm, nn.Linear(32, 8), nn.Linear(32, 32)
        self.with_residual = with_residual

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm(x)
        second = self.second(y.reshape(y.shape[0], -1) if self.with_residual else y)
        return self.first(y), second


@pytest.mark.parametrize("norm", [nn.LayerNorm(32), nn.RMSNorm(32), nn.Linear(32, 32)])
def test_factors_go_into_what_makes_the_input(norm: nn.Module) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        norm.get_parameter("weight")[[3, 17]] *= 60
    model, x = Block(norm).eval(), torch.randn(16, 32)
    before = norm.get_parameter("weight").clone()
    smoothed = fxq.smooth(model, batches())
    assert type(smoothed.first) is nn.Linear and type(smoothed.second) is nn.Linear
    assert not torch.equal(smoothed.first.weight, model.first.weight) and torch.equal(norm.get_parameter("weight"), before)
    for found, exact in zip(smoothed(x), model(x), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [nn.LayerNorm(32, elementwise_affine=False), nn.Sequential(nn.LayerNorm(32), nn.Identity())])
def test_layers_behind_what_takes_no_factors_get_products(norm: nn.Module) -> None:
    torch.manual_seed(0)
    model, wide = Block(norm).eval(), batches()[0] * Spiky().size
    smoothed = fxq.smooth(model, [wide])
    assert isinstance(smoothed.first, Smoothed) and smoothed.first.factors is smoothed.second.factors
    torch.testing.assert_close(smoothed(wide), model(wide), rtol=1e-4, atol=1e-4)


def test_what_else_is_read_stays() -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(32)
    with torch.no_grad():
        norm.weight[[3, 17]] *= 60
    model, x = Block(norm, with_residual=True).eval(), torch.randn(16, 32)
    smoothed = fxq.smooth(model, batches())
    assert torch.equal(smoothed.norm.weight, norm.weight) and isinstance(smoothed.first, Smoothed)
    torch.testing.assert_close(smoothed(x), model(x), rtol=1e-4, atol=1e-4)


def test_layers_of_gpt2() -> None:
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    norm = nn.LayerNorm(32)
    with torch.no_grad():
        norm.weight[[3, 17]] *= 60
    model, x = nn.Sequential(norm, Conv1D(8, 32)).eval(), torch.randn(16, 32)
    smoothed = fxq.smooth(model, batches())
    assert not torch.equal(smoothed[0].weight, norm.weight) and not torch.equal(smoothed[1].weight, model[1].weight)
    torch.testing.assert_close(smoothed(x), model(x), rtol=1e-4, atol=1e-4)


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="a QConfig that quantizes activations"):
        fxq.smooth(Spiky(), batches(), fxq.weight_only_qconfig())
    with pytest.raises(CalibrationError, match="linear layers of the model are called"):
        fxq.smooth(Spiky(), [])
    with pytest.raises(CalibrationError, match="linear layers of the model are called"):
        fxq.smooth(nn.Conv2d(1, 1, 1), [torch.zeros(1, 1, 4, 4)])
