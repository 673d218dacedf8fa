from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QuantSpec, choose_qparams
from fxq.observers import HistogramObserver, MinMaxObserver, MSEObserver, PerChannelMSEObserver
from fxq.observers.histogram import PART
from tests.observers.test_l2_search import DATA, SPECS, data, error


def observed(*batches: Tensor, spec: QuantSpec = ACTIVATION, steps: int = 64) -> MSEObserver:
    observer = MSEObserver(spec, steps=steps)
    for batch in batches:
        observer(batch)
    return observer


def brute_force(x: Tensor, spec: QuantSpec, steps: int) -> float:
    low, high = x.min().double(), x.max().double()
    if spec.symmetric:
        low, high = -torch.maximum(-low, high), torch.maximum(-low, high)
    fractions = [(step + 1) / steps for step in range(steps)]
    return min(error(x, choose_qparams((low * f).float(), (high * f).float(), spec)) for f in fractions)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("name", DATA)
def test_the_best_of_all_fractions(name: str, spec: QuantSpec) -> None:
    x = data(name)[:4000]
    # the same fractions on the same values: what is left is how the mean is summed up
    assert error(x, observed(x, spec=spec, steps=40).qparams()) <= (1 + 1e-6) * brute_force(x, spec, 40)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "relu", "outlier", "uniform"])
def test_near_the_finest_grid_for_weights(name: str) -> None:
    x = data(name)[-4000:]
    assert error(x, observed(x, spec=WEIGHT_PER_TENSOR).qparams()) <= 1.03 * brute_force(x, WEIGHT_PER_TENSOR, 1000)


def test_each_channel_has_the_bits_of_its_own_search() -> None:
    x = torch.stack([data(name)[:500] * 10.0 ** (index - 5) for index, name in enumerate(DATA)] + [torch.zeros(500)])
    for spec in (WEIGHT_PER_CHANNEL, QuantSpec("uint8", 0, 15, axis=0)):
        observer = PerChannelMSEObserver(spec)
        observer(x)
        alone = [observed(row, spec=QuantSpec(spec.dtype, spec.qmin, spec.qmax, symmetric=spec.symmetric)).qparams() for row in x]
        assert observer.qparams().scale.tolist() == [float(each.scale) for each in alone]
        assert observer.qparams().zero_point.tolist() == [int(each.zero_point) for each in alone]


def test_channels_need_no_first_axis_and_rows_may_be_long() -> None:
    x = torch.randn(2, 3, PART // 2 + 7)
    by_axis, first = MSEObserver(QuantSpec("int8", -127, 127, symmetric=True, axis=1), steps=8), PerChannelMSEObserver(steps=8)
    by_axis(x)
    first(x.movedim(1, 0))
    assert torch.equal(by_axis.qparams().scale, first.qparams().scale) and by_axis.high.shape == (3,)


def test_four_bits_clip_a_gaussian() -> None:
    spec = QuantSpec("int8", -7, 7, symmetric=True)
    x = data("gaussian")
    minmax = MinMaxObserver(spec)
    minmax(x)
    assert error(x, observed(x, spec=spec).qparams()) < 0.6 * error(x, minmax.qparams())


def test_the_union_over_batches_and_what_a_histogram_does_better() -> None:
    body, wide = data("gaussian"), torch.tensor([50.0, 0.0])
    observer = observed(body, wide)
    assert observer.high.item() == 50.0 and observer.low.item() == observed(body).low.item()
    histogram = HistogramObserver()
    histogram(torch.cat([body, wide]))
    x = torch.cat([body, wide])
    assert error(x, histogram.qparams()) <= error(x, observer.qparams())


def test_merged_shards_equal_one_pass_in_any_order() -> None:
    batches = [data(name)[:300] for name in ("gaussian", "laplace", "outlier")]
    one = observed(*batches)
    for first, second in ((batches[:1], batches[1:]), (batches[2:], batches[:2])):
        merged = observed(*first)
        merged.merge(observed(*second))
        assert merged.qparams() == one.qparams() and merged.batches == 3


def test_one_step_is_minmax() -> None:
    x = data("bimodal")
    minmax = MinMaxObserver()
    minmax(x)
    assert observed(x, steps=1).qparams() == minmax.qparams()


@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-20, 1e20, 3.4e38])
def test_tiny_and_huge_values(size: float) -> None:
    x = (torch.linspace(-1, 1, 101, dtype=torch.float64) * size).to(torch.float32)
    full = choose_qparams(x.min(), x.max(), WEIGHT_PER_TENSOR)
    scale = observed(x, spec=WEIGHT_PER_TENSOR).qparams().scale
    assert 0.9 * full.scale <= scale <= full.scale


@pytest.mark.parametrize("steps", [0, -1, 2**16 + 1, 2.5])
def test_steps_out_of_range(steps: int) -> None:
    with pytest.raises(ConfigError, match=r"MSEObserver\.steps"):
        MSEObserver(steps=steps)


def test_refuses_other_channels_other_steps_and_per_tensor() -> None:
    observer = PerChannelMSEObserver()
    observer(torch.randn(3, 4))
    with pytest.raises(CalibrationError, match="3 channels"):
        observer(torch.randn(5, 4))
    with pytest.raises(ConfigError, match="settings"):
        MSEObserver(steps=3).merge(MSEObserver(steps=4))
    with pytest.raises(ConfigError, match="use MSEObserver"):
        PerChannelMSEObserver(ACTIVATION)
