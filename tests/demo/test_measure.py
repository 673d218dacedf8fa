from __future__ import annotations

import math
import time

import pytest
import torch
from torch import Tensor, nn

from fxq.demo.digits import Split
from fxq.demo.measure import BATCH_SIZES, measure, milliseconds, sqnr, weight_bytes


class Scaled(nn.Module):
    """[N, 1, 8, 8] → the first ten pixels, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :10] * self.factor


def test_sqnr_of_a_tenth_of_the_signal_is_20_db() -> None:
    x = torch.tensor([1.0, -2.0, 3.0])
    assert sqnr(x, 1.1 * x) == pytest.approx(20.0, abs=1e-4)
    assert sqnr(x, 0.99 * x) == pytest.approx(40.0, abs=1e-3)


def test_sqnr_of_equal_tensors_is_infinite() -> None:
    assert sqnr(torch.ones(3), torch.ones(3)) == math.inf


def test_weight_bytes_counts_every_dtype_at_its_size() -> None:
    model = nn.Module()
    model.register_buffer("a", torch.zeros(3, 5, dtype=torch.int8))
    model.register_buffer("b", torch.zeros(2, dtype=torch.float64))
    model.c = nn.Parameter(torch.zeros(7))
    assert weight_bytes(model) == 15 + 16 + 28


def test_measure_compares_with_the_first_model() -> None:
    torch.manual_seed(0)
    images = torch.randn(64, 1, 8, 8)
    labels = images.flatten(1)[:, :10].argmax(1)
    same, negated = measure([Scaled(1.0), Scaled(-1.0)], Split(images, labels), runs=1)
    assert (same.accuracy, same.sqnr, same.weight_bytes) == (100.0, math.inf, 4)
    assert negated.accuracy == 0.0
    assert negated.sqnr == pytest.approx(20 * math.log10(0.5))
    assert len(same.milliseconds) == len(BATCH_SIZES)


def test_milliseconds_are_medians_of_the_calls_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Called(nn.Module):
        """Five calls take 100 s each, the next ones as long as it says."""

        def __init__(self, name: str, *seconds: int) -> None:
            super().__init__()
            self.name, self.seconds = name, iter([100] * 5 + list(seconds))

        def forward(self, x: Tensor) -> Tensor:
            calls.append(self.name)
            now[0] += next(self.seconds)
            return x

    assert milliseconds([Called("a", 1, 3, 5), Called("b", 9, 2, 4)], torch.zeros(1), runs=3) == (3000.0, 4000.0)
    rounds = [set(calls[first : first + 2]) for first in range(0, 16, 2)]
    assert rounds == [{"a", "b"}] * 8
    assert calls != ["a", "b"] * 8, "one model is always called behind the other"
