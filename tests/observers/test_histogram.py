from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR
from fxq.observers import HistogramObserver
from fxq.observers.histogram import MIN_EXPONENT, PART, coarsen, count_bins, count_zeros, grid_exponent

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def observed(*batches: Tensor, bins: int = 8192) -> HistogramObserver:
    observer = HistogramObserver(bins=bins)
    for batch in batches:
        observer(batch)
    return observer


def exact_counts(values: list[float], exponent: int, bins: int) -> list[int]:
    """One value at a time, in Python's exact arithmetic."""
    counts = [0] * bins
    for value in values:
        numerator, denominator = abs(value).as_integer_ratio()
        size = numerator * 2 ** max(-exponent, 0) // (denominator * 2 ** max(exponent, 0))
        counts[bins // 2 + (-1 - size if value < 0 else size)] += 1
    return counts


def assert_same(a: HistogramObserver, b: HistogramObserver) -> None:
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key
    assert a.qparams() == b.qparams()


@settings(deadline=None, max_examples=100)
@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_counts_equal_exact_arithmetic(values: list[float]) -> None:
    observer = observed(torch.tensor(values), bins=256)
    assert observer.counts.tolist() == exact_counts(values, int(observer.exponent), 256)
    assert observer.zeros.item() == values.count(0.0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(FLOATS, min_size=1, max_size=6), min_size=1, max_size=6), st.randoms(use_true_random=False), st.integers(0, 5))
def test_any_split_in_any_order_has_the_bits_of_one_pass(batches: list[list[float]], random: object, cut: int) -> None:
    tensors = [torch.tensor(batch) for batch in batches]
    one = observed(*tensors, bins=256)
    random.shuffle(tensors)  # type: ignore[attr-defined]
    left, right = observed(*tensors[:cut], bins=256), observed(*tensors[cut:], bins=256)
    left.merge(right)
    assert_same(left, one)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(FLOATS, min_size=1, max_size=4), min_size=3, max_size=3))
def test_merge_is_associative_and_commutative(batches: list[list[float]]) -> None:
    def shard(index: int) -> HistogramObserver:
        return observed(torch.tensor(batches[index]), bins=256)

    left, right, inner = shard(0), shard(2), shard(1)
    left.merge(shard(1))
    left.merge(shard(2))
    inner.merge(shard(0))
    right.merge(inner)
    assert_same(left, right)


def test_merge_of_large_shards_equals_one_pass() -> None:
    generator = torch.Generator().manual_seed(1)
    shards = [torch.randn(PART + 17, generator=generator) * 10.0**k for k in (-3, 2, 0)]
    one = observed(torch.cat(shards))
    merged = observed(shards[2])
    for shard in (shards[0], shards[1]):
        merged.merge(observed(shard))
    assert torch.equal(merged.counts, one.counts) and merged.qparams() == one.qparams()
    assert int(one.counts.sum()) == 3 * (PART + 17)


@settings(deadline=None, max_examples=60)
@given(st.floats(min_value=0, width=32, allow_infinity=False), st.sampled_from([256, 8192]))
def test_grid_is_the_finest_that_fits(largest: float, bins: int) -> None:
    exponent = int(grid_exponent(torch.tensor(largest), bins))
    assert largest < math.ldexp(bins // 2, exponent)
    assert exponent == MIN_EXPONENT or largest >= math.ldexp(bins // 2, exponent - 1)


def test_one_sided_data_has_at_least_2048_bins() -> None:
    for largest in (1.0, 1.5, 1.9999):
        observer = observed(torch.tensor([0.0, largest]))
        assert 2048 <= largest / 2.0 ** int(observer.exponent) < 4096


def test_coarsen_by_hand() -> None:
    counts = torch.arange(1, 9)
    # bins −4..3 → floor(i/2): −2, −2, −1, −1, 0, 0, 1, 1
    by_shift = {
        0: counts.tolist(),
        1: [0, 0, 3, 7, 11, 15, 0, 0],
        2: [0, 0, 0, 10, 26, 0, 0, 0],
        100: [0, 0, 0, 10, 26, 0, 0, 0],
    }
    for shift, expected in by_shift.items():
        assert coarsen(counts, torch.tensor(shift)).tolist() == expected
    # one shift per channel, of one channel's counts or of each channel's own
    shifts = torch.tensor(list(by_shift))
    assert coarsen(counts, shifts).tolist() == list(by_shift.values())
    assert coarsen(counts.repeat(4, 1), shifts).tolist() == list(by_shift.values())


def test_negative_data_is_the_mirror_image() -> None:
    x, exponent = torch.randn(1, 1000), torch.tensor([-9])
    assert torch.equal(count_bins(-x, exponent, 8192), count_bins(x, exponent, 8192).flip(1))


def test_both_zeros_are_zero() -> None:
    x = torch.tensor([[0.0, -0.0, 1e-45, -1e-45]])
    assert count_zeros(x).tolist() == [2]
    assert count_bins(x, torch.tensor([-126]), 256)[0, 126:130].tolist() == [0, 1, 3, 0]


def test_memory_layout_makes_no_difference() -> None:
    x = torch.randn(2, 3, 4, 5)
    for view in (x.to(memory_format=torch.channels_last), x.transpose(0, 3)):
        assert_same(observed(view), observed(x))
    assert_same(observed(x[:, ::2]), observed(x[:, ::2].contiguous()))


def test_all_zeros() -> None:
    observer = observed(torch.zeros(10))
    assert (observer.qparams().scale.item(), observer.qparams().zero_point.item()) == (2.0**-23, 0)
    observer(torch.tensor([0.0, 2.55]))
    assert observer.qparams().zero_point.item() == 0 and 0.0099 < observer.qparams().scale.item() < 0.0101


@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-20, 1.0, 1e20, 1e38, 3.4e38])
@pytest.mark.parametrize("spec", [ACTIVATION, WEIGHT_PER_TENSOR])
def test_tiny_and_huge_values(size: float, spec: object) -> None:
    observer = HistogramObserver(spec)  # type: ignore[arg-type]
    x = torch.linspace(-1, 1, 1001, dtype=torch.float64) * size
    observer(x.to(torch.float32))
    qparams = observer.qparams()
    assert qparams.is_finite
    full = max(2 * size / 255, 2.0**-23)
    assert 0.95 * full <= qparams.scale.item() <= 1.01 * full
    assert int(observer.counts.sum()) == 1001


def test_extremes_are_exact() -> None:
    x = torch.randn(1000)
    observer = observed(x[:500], x[500:])
    assert (observer.low.item(), observer.high.item()) == (x.min().item(), x.max().item())


@pytest.mark.parametrize("bins", [0, 100, 128, 1000, 2**21, 2048.0])
def test_bins_must_be_a_power_of_two(bins: int) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        HistogramObserver(bins=bins)


def test_refuses_per_channel_and_merging_other_bins() -> None:
    with pytest.raises(ConfigError, match="PerChannelMinMaxObserver"):
        HistogramObserver(WEIGHT_PER_CHANNEL)
    with pytest.raises(ConfigError, match="settings"):
        HistogramObserver(bins=256).merge(HistogramObserver(bins=512))
