"""Distributions: every value is in the bar that covers it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fxq
from fxq.observers import Observer
from fxq.observers.distribution import MOST_BARS, Distribution
from fxq.qat.fake_quantize import FakeQuantize


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50), st.sampled_from([256, 8192]))
def test_bars_count_the_values_that_they_cover(values: list[float], bins: int) -> None:
    observer = fxq.HistogramObserver(bins=bins)
    observer.observe(torch.tensor(values))
    found = observer.distribution()
    assert found is not None
    assert 1 <= len(found.counts) <= MOST_BARS
    edges = [found.start + found.width * number for number in range(len(found.counts) + 1)]
    expected = [sum(low <= value + 0.0 < high for value in values) for low, high in pairwise(edges)]
    negative_edges = any(value < 0 and value in edges for value in values)  # a bin below 0 holds its lower end, of larger |x|, open
    assert sum(found.counts) == len(values)
    assert negative_edges or list(found.counts) == expected


def test_long_tails_leave_room_for_the_rest() -> None:
    observer = fxq.HistogramObserver()
    observer.observe(torch.cat([torch.linspace(-1, 1, 1001), torch.tensor([40.0])]))
    found = observer.distribution()
    assert found is not None and MOST_BARS // 2 <= len(found.counts) <= MOST_BARS
    assert found.start <= -1 and found.start + found.width * len(found.counts) > 40


@pytest.mark.parametrize("kind", [fxq.MinMaxObserver, fxq.MovingAverageMinMaxObserver, fxq.PerChannelMinMaxObserver])
def test_observers_of_a_range_have_no_bars(kind: type[Observer]) -> None:
    observer = kind()
    assert observer.distribution() is None
    observer.observe(torch.tensor([[-2.0, 1.0], [0.0, 3.0]]))
    assert observer.distribution() == Distribution(-2.0, 3.0)


def test_recorded_values_are_counted() -> None:
    observer = fxq.RecordingObserver()
    observer.observe(torch.linspace(0, 1, 100))
    found = observer.distribution()
    assert found is not None and sum(found.counts) == 100
    constant = fxq.RecordingObserver()
    constant.observe(torch.ones(3))
    assert constant.distribution() == Distribution(1.0, 1.0)


def test_fake_quantize_shows_the_observer_inside() -> None:
    module = FakeQuantize(fxq.MinMaxObserver())
    module.train()(torch.tensor([-1.0, 2.0]))
    assert module.distribution() == Distribution(-1.0, 2.0)


def test_observers_without_data_of_their_own_have_none() -> None:
    assert fxq.PlaceholderObserver().distribution() is None
