"""Training for layers that quantize what they read as it arrives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.errors import CalibrationError, ConfigError
from fxq.graph.functional import round_to_bytes
from fxq.graph.qtypes import ACTIVATION, QuantSpec
from fxq.observers import MinMaxObserver, PlaceholderObserver
from fxq.qat import FakeQuantize, disable_fake_quant, disable_observer, float_state_dict
from fxq.qat.trained import TrainedOp
from fxq.qconfig_mapping import QConfig, default_dynamic_qconfig, per_channel_dynamic_qconfig, per_row_dynamic_qconfig
from fxq.runtime.dynamic.linear import DynamicLinear
from tests.qat.cases import fit


def _spec(axis: int | None) -> QuantSpec:
    return replace(ACTIVATION, axis=axis, dynamic=True)


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7), (0, 7), (5, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounds_as_the_reference_does(axis: int | None, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = (torch.randn(shape) * torch.logspace(-3, 3, shape[0] or 1)[: shape[0]].reshape(-1, *[1] * (len(shape) - 1))).to(dtype)
    made = FakeQuantize(PlaceholderObserver(_spec(axis)))(x)
    assert made.dtype == dtype
    assert torch.equal(made, round_to_bytes(x.to(torch.float32), per_row=axis is not None).to(dtype))


@pytest.mark.parametrize("axis", [None, 0])
def test_gradient_is_1_as_nothing_is_outside(axis: int | None) -> None:
    x = torch.randn(6, 9, requires_grad=True)
    FakeQuantize(PlaceholderObserver(_spec(axis)))(x).sum().backward()
    assert x.grad is not None and bool((x.grad == 1).all())


@pytest.mark.parametrize("axis", [None, 0])
def test_values_that_are_not_finite_are_an_error_in_training(axis: int | None) -> None:
    module, x = FakeQuantize(PlaceholderObserver(_spec(axis))), torch.tensor([[1.0, 2.0], [float("inf"), 3.0]])
    module.name = "input of fc"
    with pytest.raises(CalibrationError, match=r"(?s)input of fc.*finite.*learning rate"):
        module(x)
    module.eval()
    assert bool(module(x)[1].isnan().all())
    assert bool(module(x)[0].isnan().all()) is (axis is None)


def _classes(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(64, 16, generator=generator) for _ in range(count)]
    return [(x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()) for x in images]


def _prepared(qconfig: QConfig, model: nn.Module | None = None) -> fxq.FxqModule:
    torch.manual_seed(0)
    layers = [nn.Linear(16, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.Hardswish(), nn.Linear(32, 4)]
    mapping = fxq.QConfigMapping().set_global(qconfig)
    return fxq.prepare_qat_fx((model or nn.Sequential(*layers)).train(), mapping, (torch.randn(2, 16),))


@pytest.mark.parametrize("qconfig", [default_dynamic_qconfig, per_channel_dynamic_qconfig, per_row_dynamic_qconfig])
def test_trains_and_converts_to_what_was_simulated(qconfig: QConfig) -> None:
    qat, data = _prepared(qconfig), _classes(60)
    losses = fit(qat, data)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    x = data[0][0]
    int8 = fxq.convert_fx(qat.eval())
    assert [type(int8.get_submodule(path)) for path in ("0", "3", "5")] == [DynamicLinear] * 3
    assert torch.equal(fxq.convert_to_reference_fx(qat)(x), qat(x))
    assert torch.equal(int8(x), fxq.convert_fx(qat, runtime="integer")(x))
    torch.testing.assert_close(int8(x), qat(x), rtol=0, atol=1e-4)  # a float product in another order


def test_float_and_rounded_values_differ() -> None:
    qat, (x, _) = _prepared(per_row_dynamic_qconfig), _classes(1)[0]
    qat.eval()
    rounded = qat(x)
    qat.apply(disable_fake_quant)
    assert 0 < float((qat(x) - rounded).detach().abs().max()) < 0.05


def test_names_are_the_float_models() -> None:
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    assert list(float_state_dict(_prepared(per_channel_dynamic_qconfig, model))) == list(model.state_dict())


def test_convert_before_any_step_is_an_error() -> None:
    with pytest.raises(CalibrationError, match=r"(?s)input of _0.*at least one training step"):
        fxq.convert_fx(_prepared(per_channel_dynamic_qconfig))


def test_optimizer_of_the_float_model_is_warned_of() -> None:
    qat = _prepared(per_channel_dynamic_qconfig)
    qat(_classes(1)[0][0])
    with pytest.warns(UserWarning, match=r"prepared\.parameters\(\)"):
        fxq.convert_fx(qat)


def test_beside_layers_with_fixed_ranges() -> None:
    qat = fxq.prepare_qat_fx(
        nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).train(),
        fxq.get_default_qat_qconfig_mapping("x86").set_module_name("2", per_channel_dynamic_qconfig),
        (torch.randn(2, 16),),
    )
    data = _classes(5)
    fit(qat, data)
    first, last = (module for module in qat.modules() if isinstance(module, TrainedOp))
    assert first.arrival_fake_quant is None and len(first.input_fake_quant) == 1
    assert last.arrival_fake_quant is not None and last.input_fake_quant == ()
    int8, x = fxq.convert_fx(qat.eval()), data[0][0]
    assert type(int8.get_submodule("2")) is DynamicLinear
    torch.testing.assert_close(int8(x), qat(x), rtol=0, atol=1e-2)


class _Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.lstm = nn.LSTM(8, 16, batch_first=True)
        self.fc = nn.Linear(16, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.lstm(self.embedding(tokens))
        return self.fc(y)


def fit_tokens(model: nn.Module, tokens: Tensor, optimizer: torch.optim.Optimizer) -> list[float]:
    """Losses of some steps that teach the model what follows from each token."""
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model(tokens).flatten(0, 1), (tokens % 4).flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_recurrent_layers_train_in_float_and_are_quantized_afterwards() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(10, (16, 5))
    qat = fxq.prepare_qat_fx(_Tagger().train(), fxq.QConfigMapping().set_global(per_channel_dynamic_qconfig), (tokens,))
    losses = fit_tokens(qat, tokens, torch.optim.Adam(qat.parameters(), lr=1e-2))
    assert losses[-1] < 0.5 * losses[0]
    int8 = fxq.convert_fx(qat.eval())
    assert type(int8.get_submodule("lstm")).__name__ == "DynamicRNN"
    torch.testing.assert_close(int8(tokens), qat(tokens), rtol=0, atol=0.2)


def test_other_ranges_are_kept() -> None:
    """A spec of fewer levels, and a symmetric one, are rounded to their own integers."""
    spec = replace(ACTIVATION, qmax=15, dynamic=True)
    assert FakeQuantize(MinMaxObserver(spec))(torch.linspace(-1, 2, 200)).unique().numel() == 16


class _TiedTagger(nn.Module):
    """Rows and products of one weight, with a recurrent layer between them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.bag = nn.Embedding(10, 16), nn.EmbeddingBag(10, 16)
        self.gru, self.out = nn.GRU(16, 16, batch_first=True), nn.Linear(16, 10, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.gru(self.embed(tokens) + self.bag(tokens)[:, None])[0])


def test_bags_and_recurrent_layers_in_few_bits_train_in_float_and_are_stored_afterwards() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(10, (16, 5))
    mapping = fxq.QConfigMapping().set_global(fxq.weight_only_qconfig(8, 0)).set_object_type(nn.GRU, per_channel_dynamic_qconfig)
    qat = fxq.prepare_qat_fx(_TiedTagger().train(), mapping, (tokens,))
    losses = fit_tokens(qat, tokens, torch.optim.Adam(qat.parameters(), lr=1e-2))
    assert losses[-1] < 0.5 * losses[0]
    small = fxq.convert_fx(qat.eval())
    names = [type(small.get_submodule(path)).__name__ for path in ("embed", "bag", "gru", "out")]
    assert names == ["WeightOnlyEmbedding", "WeightOnlyEmbeddingBag", "DynamicRNN", "WeightOnlyLinear"]
    assert small.get_submodule("embed").weight is small.get_submodule("out").weight
    torch.testing.assert_close(small(tokens), qat(tokens), rtol=0, atol=0.2)


@pytest.mark.parametrize(
    "qconfig", [fxq.weight_only_qconfig(4, 8), fxq.weight_only_qconfig(4, 0, symmetric=True), fxq.float16_dynamic_qconfig]
)
def test_weights_in_few_bits_train_as_they_will_be_stored(qconfig: QConfig) -> None:
    torch.manual_seed(0)
    model, tokens = nn.Sequential(nn.Embedding(10, 16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10)).train(), torch.randint(10, (16, 5))
    qat = fxq.prepare_qat_fx(model, fxq.QConfigMapping().set_global(qconfig), (tokens,))
    losses = fit_tokens(qat, tokens, torch.optim.Adam(qat.parameters(), lr=1e-2))
    assert losses[-1] < 0.5 * losses[0]
    assert list(float_state_dict(qat)) == list(model.state_dict())
    qat.eval().apply(disable_observer)  # scales follow the weights all the same
    assert torch.equal(fxq.convert_to_reference_fx(qat)(tokens), qat(tokens))
    torch.testing.assert_close(fxq.convert_fx(qat)(tokens), qat(tokens), rtol=0, atol=1e-4)  # a float product in another order
    rounded = qat(tokens)
    assert not torch.equal(qat.apply(disable_fake_quant)(tokens), rounded)


def test_a_batch_norm_behind_weights_in_few_bits() -> None:
    qat, data = _prepared(fxq.weight_only_qconfig(4, 8)), _classes(30)
    losses = fit(qat, data)
    assert sum(losses[-5:]) < sum(losses[:5])
    x = data[0][0]
    assert torch.equal(fxq.convert_to_reference_fx(qat.eval())(x), qat(x))


def test_weights_in_few_bits_that_are_not_finite() -> None:
    qat, (x, _) = _prepared(fxq.weight_only_qconfig(4, 8)), _classes(1)[0]
    with torch.no_grad():
        next(iter(qat.parameters())).fill_(torch.nan)
    with pytest.raises(ConfigError, match=r"(?s)weight of _0.*finite"):
        qat(x)
