from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fxq.errors import CalibrationError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, QParams, QuantSpec, dequantize_tensor, quantize_tensor
from fxq.observers import FixedQParamsObserver, HistogramObserver, MinMaxObserver, MovingAverageMinMaxObserver, PerChannelMinMaxObserver
from fxq.qat.fake_quantize import FakeQuantize, fake_quantize
from fxq.qat.switches import disable_fake_quant, disable_observer, enable_fake_quant, enable_observer


def _ties(scale: float) -> Tensor:
    """Values between two integers of a grid, inside and outside of its range."""
    return (torch.arange(-400, 400).to(torch.float32) + 0.5) * scale


@pytest.mark.parametrize("scale", [2.0**-23, 0.0123, 1 / 3, 7.0])
@pytest.mark.parametrize("zero_point", [0, 1, 128, 255])
def test_is_dequantize_of_quantize(scale: float, zero_point: int) -> None:
    qparams = QParams.per_tensor(scale, zero_point)
    special = torch.tensor([float("inf"), -float("inf"), 0.0, -0.0])
    x = torch.cat([_ties(scale), torch.randn(10_000) * 100 * scale, special])
    assert torch.equal(fake_quantize(x, qparams), dequantize_tensor(quantize_tensor(x, qparams), qparams))


@pytest.mark.parametrize("axis", [0, 1])
def test_is_dequantize_of_quantize_per_channel(axis: int) -> None:
    spec = QuantSpec("int8", -127, 127, symmetric=True, axis=axis)
    x = torch.randn(6, 6, 3, 3)
    qparams = QParams(spec, torch.rand(6) * 0.02 + 1e-3, torch.zeros(6, dtype=torch.int32))
    assert torch.equal(fake_quantize(x, qparams), dequantize_tensor(quantize_tensor(x, qparams), qparams))


def test_gradient_is_1_inside_and_0_outside() -> None:
    # steps of 1 from −10 to 245: what rounds to −11 or 246 is outside
    x = torch.tensor([-10.6, -10.4, 0.0, 3.3, 245.4, 245.6], requires_grad=True)
    fake_quantize(x, QParams.per_tensor(1.0, 10)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("scale", [2.0**-23, 0.0123, 1 / 3, 7.0])
@pytest.mark.parametrize("zero_point", [0, 1, 128, 255])
def test_gradient_ends_at_the_very_value_where_the_range_does(scale: float, zero_point: int) -> None:
    qparams = QParams.per_tensor(scale, zero_point)
    edges = torch.tensor([(bound - zero_point) * scale for bound in (-0.5, 255.5)])
    near = (edges.view(torch.int32)[:, None] + torch.arange(-6, 7, dtype=torch.int32)).view(torch.float32).flatten()
    x = torch.cat([near, _ties(scale)]).requires_grad_(True)
    fake_quantize(x, qparams).sum().backward()
    integers = torch.round(x.detach() * (1.0 / qparams.scale)) + zero_point
    assert x.grad is not None
    assert torch.equal(x.grad, ((integers >= 0) & (integers <= 255)).to(torch.float32))


def test_nan_stays_nan() -> None:
    assert bool(fake_quantize(torch.tensor([float("nan")]), QParams.per_tensor(0.1, 3)).isnan())


def test_keeps_bf16_and_observes_in_f32() -> None:
    module = FakeQuantize(MinMaxObserver())
    made = module(torch.randn(64, dtype=torch.bfloat16))
    assert made.dtype == torch.bfloat16
    assert module.scale.dtype == torch.float32


def test_observes_in_training_only() -> None:
    module = FakeQuantize(MinMaxObserver())
    module.eval()
    x = torch.tensor([-1.0, 1.234])
    assert module(x) is x  # no range yet
    module.train()
    module(x)
    module.eval()
    module(10 * x)
    assert module.batches == 1
    assert float(module(torch.tensor([100.0]))) == pytest.approx(1.234, abs=1e-2)


def test_qparams_are_those_of_the_observer() -> None:
    module, observer = FakeQuantize(MovingAverageMinMaxObserver()), MovingAverageMinMaxObserver()
    for _ in range(3):
        x = torch.randn(100)
        module(x)
        observer(x)
    assert module.qparams() == observer.qparams()


def test_forgets_earlier_weights() -> None:
    module = FakeQuantize(PerChannelMinMaxObserver(), forgets=True)
    module(torch.full((3, 4), 10.0))
    module(torch.full((3, 4), 1.0))
    assert module.qparams().scale.tolist() == [pytest.approx(1 / 127)] * 3


def test_forgets_what_a_histogram_has_seen() -> None:
    weight = torch.randn(1000)
    module, observer = FakeQuantize(HistogramObserver(), forgets=True), HistogramObserver()
    module(1000 * torch.randn(1000))
    module(weight)
    observer(weight)
    assert module.qparams() == observer.qparams()


def test_fixed_qparams() -> None:
    module = FakeQuantize(FixedQParamsObserver(ACTIVATION, scale=1 / 256, zero_point=0))
    assert module(torch.tensor([0.0, 0.3, 2.0])).tolist() == [0.0, 77 / 256, 255 / 256]


def test_dynamic_qparams_are_those_of_the_batch() -> None:
    module = FakeQuantize(MinMaxObserver(QuantSpec(dynamic=True))).eval()
    for width in (1.0, 100.0):
        made = module(torch.linspace(0, 255 * width, 256))
        assert made.tolist() == torch.linspace(0, 255 * width, 256).tolist()


def test_switches() -> None:
    module, x = FakeQuantize(MinMaxObserver()), torch.tensor([0.0, 1.0])
    module(x)
    module.apply(disable_fake_quant)
    odd = torch.tensor([0.33371])
    assert module(odd) is odd
    module.apply(enable_fake_quant)
    assert module(odd) is not odd
    module.apply(disable_observer)
    module(torch.tensor([50.0]))
    assert float(module.qparams().scale) == pytest.approx(1 / 255)
    module.apply(enable_observer)
    module(torch.tensor([51.0]))
    assert float(module.qparams().scale) == pytest.approx(51 / 255)


def test_state_dict_holds_ranges_and_switches() -> None:
    first, second = FakeQuantize(PerChannelMinMaxObserver(), forgets=True), FakeQuantize(PerChannelMinMaxObserver(), forgets=True)
    first(torch.randn(5, 7))
    first.apply(disable_observer)
    second.load_state_dict(first.state_dict())
    assert second.qparams() == first.qparams()
    assert not second.enabled and second.fake_quant_enabled


def test_values_that_are_not_finite_are_an_error_that_speaks_of_training() -> None:
    module = FakeQuantize(MinMaxObserver())
    module.name = "conv1"
    with pytest.raises(CalibrationError, match=r"(?s)conv1.*finite.*NaN.*learning rate"):
        module(torch.tensor([float("nan")]))
    assert module.batches == 0


def test_no_training_step_is_an_error() -> None:
    with pytest.raises(CalibrationError, match=r"(?s)training step.*prepared.train\(\)"):
        FakeQuantize(MinMaxObserver()).qparams()


def test_weight_spec_is_the_observers() -> None:
    assert FakeQuantize(PerChannelMinMaxObserver()).spec == WEIGHT_PER_CHANNEL
