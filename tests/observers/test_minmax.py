from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QuantSpec
from fxq.observers import MinMaxObserver, PerChannelMinMaxObserver


def test_affine_by_hand() -> None:
    # s = (3 − (−1))/255, z = 0 − rint(−1/s) = rint(63.75) = 64
    observer = MinMaxObserver()
    observer(torch.tensor([-1.0, 0.5]))
    observer(torch.tensor([[3.0], [2.0]]))
    qparams = observer.qparams()
    assert qparams.scale.item() == torch.tensor(4 / 255, dtype=torch.float32).item()
    assert qparams.zero_point.item() == 64
    assert qparams.spec == ACTIVATION


def test_zero_is_always_inside() -> None:
    observer = MinMaxObserver()
    observer(torch.tensor([2.0, 5.1]))
    assert observer.qparams().scale.item() == torch.tensor(torch.tensor(5.1).double().item() / 255).float().item()
    assert observer.qparams().zero_point.item() == 0


def test_all_zeros_give_the_smallest_scale() -> None:
    observer = MinMaxObserver()
    observer(torch.zeros(3))
    assert (observer.qparams().scale.item(), observer.qparams().zero_point.item()) == (2.0**-23, 0)


def test_symmetric_weight_by_hand() -> None:
    # s = max|x| / 127, so that both −254 and 254 fit
    observer = MinMaxObserver(WEIGHT_PER_TENSOR)
    observer(torch.tensor([-254.0, 100.0]))
    assert (observer.qparams().scale.item(), observer.qparams().zero_point.item()) == (2.0, 0)


def test_per_channel_by_hand() -> None:
    observer = PerChannelMinMaxObserver()
    observer(torch.tensor([[[127.0, -1.0]], [[0.0, -63.5]], [[0.0, 0.0]]]))
    qparams = observer.qparams()
    assert qparams.scale.tolist() == [1.0, 0.5, 2.0**-23]
    assert qparams.zero_point.tolist() == [0, 0, 0]
    assert qparams.spec == WEIGHT_PER_CHANNEL


@pytest.mark.parametrize("axis", [1, -2])
def test_channel_axis_counts_from_either_end(axis: int) -> None:
    observer = PerChannelMinMaxObserver(QuantSpec("int8", -127, 127, symmetric=True, axis=axis))
    x = torch.randn(2, 3, 4)
    observer(x)
    assert torch.equal(observer.low, x.amin((0, 2))) and torch.equal(observer.high, x.amax((0, 2)))


def test_minmax_takes_a_per_channel_spec() -> None:
    x = torch.randn(3, 4)
    a, b = MinMaxObserver(WEIGHT_PER_CHANNEL), PerChannelMinMaxObserver()
    a(x)
    b(x)
    assert a.qparams() == b.qparams()


def test_per_channel_refuses_a_per_tensor_spec() -> None:
    with pytest.raises(ConfigError, match="use MinMaxObserver"):
        PerChannelMinMaxObserver(ACTIVATION)


def test_number_of_channels_must_stay() -> None:
    observer = PerChannelMinMaxObserver()
    observer(torch.randn(3, 4))
    with pytest.raises(CalibrationError, match="batch 2"):
        observer(torch.randn(1, 4))
    other = PerChannelMinMaxObserver()
    other(torch.randn(5, 4))
    with pytest.raises(CalibrationError, match="5 channels"):
        observer.merge(other)
    assert observer.low.shape == (3,) and observer.batches == 1


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_missing_channel_axis_is_named(shape: tuple[int, ...]) -> None:
    observer = PerChannelMinMaxObserver(QuantSpec("int8", -127, 127, symmetric=True, axis=1))
    with pytest.raises(CalibrationError, match="channel axis 1"):
        observer(torch.ones(shape))


def test_memory_layout_makes_no_difference() -> None:
    x = torch.randn(2, 3, 4, 5)
    a, b = MinMaxObserver(), MinMaxObserver()
    a(x)
    b(x.to(memory_format=torch.channels_last)[:, :, ::1])
    assert torch.equal(a.low, b.low) and torch.equal(a.high, b.high)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=5), min_size=1, max_size=6),
    st.randoms(),
)
def test_merged_shards_equal_one_pass(batches: list[list[float]], random: object) -> None:
    one = MinMaxObserver()
    shards = []
    for batch in batches:
        one(torch.tensor(batch))
        shards.append(MinMaxObserver())
        shards[-1](torch.tensor(batch))
    random.shuffle(shards)  # type: ignore[attr-defined]
    for shard in shards[1:]:
        shards[0].merge(shard)
    assert shards[0].qparams() == one.qparams() and shards[0].batches == one.batches


def test_per_channel_merge_equals_one_pass() -> None:
    x = torch.randn(2, 3, 4)
    one, a, b = (PerChannelMinMaxObserver() for _ in range(3))
    one(torch.cat([x[0], x[1]], 1))
    a(x[0])
    b(x[1])
    a.merge(b)
    assert a.qparams() == one.qparams()
