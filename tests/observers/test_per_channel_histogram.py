from __future__ import annotations

import random

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, QuantSpec
from fxq.observers import HistogramObserver, PerChannelHistogramObserver
from fxq.observers.histogram import MAX_BINS, PART
from tests.observers.test_l2_search import DATA, SPECS, data

CHANNELS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3)


def per_channel(spec: QuantSpec, axis: int = 0) -> QuantSpec:
    return QuantSpec(spec.dtype, spec.qmin, spec.qmax, symmetric=spec.symmetric, axis=axis)


def channel(observer: PerChannelHistogramObserver, row: Tensor) -> HistogramObserver:
    spec = observer.spec
    alone = HistogramObserver(QuantSpec(spec.dtype, spec.qmin, spec.qmax, symmetric=spec.symmetric), bins=observer.bins)
    alone(row)
    return alone


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_each_channel_has_the_bits_of_its_own_histogram(spec: QuantSpec) -> None:
    # all kinds of data beside each other, of very different sizes: two-sided, one-sided, dead, constant
    rows = [data(name)[:3000] * 10.0 ** (index - 5) for index, name in enumerate(DATA)]
    x = torch.stack([*rows, torch.zeros(3000), torch.full((3000,), -2.5)])
    observer = PerChannelHistogramObserver(per_channel(spec))
    observer(x)
    qparams = observer.qparams()
    assert qparams.spec == per_channel(spec) and qparams.scale.shape == (len(x),)
    for index, row in enumerate(x):
        alone = channel(observer, row)
        assert torch.equal(observer.counts[index], alone.counts) and observer.zeros[index] == alone.zeros
        assert observer.exponent[index] == alone.exponent
        expected = alone.qparams()
        # sums of more or fewer zero terms may be rounded otherwise, and so decide between neighbours of equal error
        assert abs(qparams.scale[index] - expected.scale) <= 0.002 * expected.scale
        assert abs(qparams.zero_point[index] - expected.zero_point) <= 1


@settings(deadline=None, max_examples=40)
@given(st.lists(CHANNELS, min_size=2, max_size=6), st.randoms(use_true_random=False), st.integers(1, 5))
@example([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]], random.Random(0), 1)  # neither part can hold a zero, the whole could
def test_any_split_in_any_order_has_the_bits_of_one_pass(columns: list[list[float]], order: random.Random, cut: int) -> None:
    one, left, right = (PerChannelHistogramObserver(bins=256) for _ in range(3))
    one(torch.tensor(columns).T)
    order.shuffle(columns)
    for index, column in enumerate(columns):
        (left if index < cut else right)(torch.tensor(column)[:, None])
    left.merge(right)
    for key, value in one.state_dict().items():
        assert key == "batches_seen" or torch.equal(value, left.state_dict()[key]), key
    assert left.qparams() == one.qparams()


@pytest.mark.parametrize("axis", [1, -3])
def test_channel_axis_and_memory_layout(axis: int) -> None:
    x = torch.randn(2, 3, 4, 5) * torch.tensor([1.0, 100.0, 0.01])[:, None, None]
    expected, layout = PerChannelHistogramObserver(), PerChannelHistogramObserver(per_channel(ACTIVATION, axis))
    expected(x.movedim(1, 0))
    layout(x.to(memory_format=torch.channels_last))
    assert torch.equal(expected.counts, layout.counts)
    assert layout.qparams().scale.shape == (3,)


@pytest.mark.parametrize(("shape", "bins"), [((3, PART + 5), 256), ((70, PART // 8), 256), ((300, 1), MAX_BINS // 64)])
def test_long_rows_and_many_rows(shape: tuple[int, int], bins: int) -> None:
    x = torch.randn(shape) * torch.logspace(-5, 5, shape[0])[:, None]
    x[:, 0] = 0
    observer = PerChannelHistogramObserver(bins=bins)
    observer(x)
    assert observer.counts.sum(1).tolist() == [shape[1]] * shape[0]
    assert observer.zeros.tolist() == (x == 0).sum(1).tolist()
    for row in (0, shape[0] // 2, shape[0] - 1):
        assert torch.equal(observer.counts[row], channel(observer, x[row]).counts)


def test_number_of_channels_must_stay() -> None:
    observer, other = PerChannelHistogramObserver(), PerChannelHistogramObserver()
    observer(torch.randn(3, 4))
    other(torch.randn(5, 4))
    before = observer.counts
    for mistake in (lambda: observer(torch.randn(1, 4)), lambda: observer.merge(other)):
        with pytest.raises(CalibrationError, match="channels"):
            mistake()
    assert observer.counts is before and observer.batches == 1


def test_another_number_of_bins_is_not_loaded() -> None:
    saved = PerChannelHistogramObserver(bins=256)
    saved(torch.randn(3, 4))
    with pytest.raises(RuntimeError, match="counts"):
        PerChannelHistogramObserver(bins=512).load_state_dict(saved.state_dict())


def test_refuses_a_per_tensor_spec() -> None:
    with pytest.raises(ConfigError, match="use HistogramObserver"):
        PerChannelHistogramObserver(ACTIVATION)
    assert PerChannelHistogramObserver().spec == WEIGHT_PER_CHANNEL
