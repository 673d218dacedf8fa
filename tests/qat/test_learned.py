from __future__ import annotations

import pytest
import torch

import fxq
from fxq.errors import ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL
from fxq.qat.fake_quantize import fake_quantize
from fxq.qat.learned import LearnedFakeQuantize, get_lsq_qconfig
from fxq.runtime.integer.conv import Conv
from tests.qat.cases import batches, fit, prepared, small


def test_starts_from_the_first_batch_and_rounds_by_the_formula() -> None:
    module = LearnedFakeQuantize(ACTIVATION)
    x = torch.randn(8, 100)
    assert torch.equal(module(x), fake_quantize(x, module.qparams()))
    scale = module.scale.item()
    module(10 * x)
    assert module.scale.item() == scale == pytest.approx(float(x.max() - x.min()) / 255)


def test_gradients_are_those_of_the_paper() -> None:
    """In float64 and element by element, from the definition."""
    module = LearnedFakeQuantize(ACTIVATION)
    x = torch.tensor([[-3.3, -0.2, 0.0, 0.7, 2.2, 600.0]])
    module.observe(x)
    module.scale.data.fill_(1.0)
    module.zero_point.data.fill_(2.0)
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    x.requires_grad_(True)
    (module(x) * weights).sum().backward()
    factor = 1 / (6 * 255) ** 0.5
    assert x.grad is not None and x.grad.tolist() == [[0, 2, 3, 4, 5, 0]]
    inside = 2 * (0 + 0.2) + 4 * (1 - 0.7) + 5 * (2 - 2.2)
    outside = 1 * (0 - 2) + 6 * (255 - 2)
    assert float(module.scale.grad) == pytest.approx((inside + outside) * factor, rel=1e-5)  # type: ignore[arg-type]
    assert float(module.zero_point.grad) == pytest.approx(-(1 + 6) * factor, rel=1e-5)  # type: ignore[union-attr, arg-type]


def test_gradients_per_channel_sum_over_each_channel() -> None:
    both = LearnedFakeQuantize(WEIGHT_PER_CHANNEL)
    weight = torch.randn(4, 9)
    both.observe(weight)
    both(weight).square().sum().backward()
    for channel in range(4):
        one = LearnedFakeQuantize(WEIGHT_PER_CHANNEL)
        one.observe(weight[channel : channel + 1])
        one(weight[channel : channel + 1]).square().sum().backward()
        assert torch.equal(one.scale.grad[0], both.scale.grad[channel])  # type: ignore[index]


def test_scale_never_becomes_0() -> None:
    module = LearnedFakeQuantize(ACTIVATION)
    module(torch.randn(10, 10))
    module.scale.data.fill_(-1.0)
    assert module.qparams().is_finite


@pytest.mark.parametrize("bits", [8, 4])
def test_trains_converts_and_keeps_learned_scales(bits: int) -> None:
    qat = prepared(small(), fxq.QConfigMapping().set_global(get_lsq_qconfig("x86", bits)))
    before = {name: value.clone() for name, value in qat.named_parameters() if name.endswith("scale")}
    assert any(value.shape == (8,) for value in before.values())
    losses = fit(qat, batches(40))
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert all(not torch.equal(value, before[name]) for name, value in qat.named_parameters() if name in before)
    qat.eval()
    x, int8 = batches(1)[0][0], fxq.convert_fx(qat)
    conv = int8.get_submodule("0")
    assert isinstance(conv, Conv)
    assert int(conv.weight.abs().max()) <= 2 ** (bits - 1) - 1
    assert torch.equal(qat(x), fxq.convert_to_reference_fx(qat)(x))


def test_bits_out_of_range() -> None:
    with pytest.raises(ConfigError, match="2 to 8"):
        get_lsq_qconfig("x86", 1)
