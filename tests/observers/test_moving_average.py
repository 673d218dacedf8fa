from __future__ import annotations

import copy

import pytest
import torch

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import choose_qparams
from fxq.observers import MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver


def test_by_hand() -> None:
    observer = MovingAverageMinMaxObserver(averaging_constant=0.25)
    observer(torch.tensor([-4.0, 8.0]))
    assert (observer.low.item(), observer.high.item()) == (-4.0, 8.0)
    observer(torch.tensor([-8.0, 4.0]))
    # −4 + ¼·(−8 + 4) = −5, 8 + ¼·(4 − 8) = 7
    assert (observer.low.item(), observer.high.item()) == (-5.0, 7.0)
    assert observer.qparams() == choose_qparams(torch.tensor(-5.0), torch.tensor(7.0), observer.spec)


def test_default_constant_is_one_percent() -> None:
    observer = MovingAverageMinMaxObserver()
    observer(torch.tensor([0.0]))
    observer(torch.tensor([100.0]))
    assert observer.high.item() == 1.0


def test_per_channel_by_hand() -> None:
    observer = MovingAveragePerChannelMinMaxObserver(averaging_constant=0.5)
    observer(torch.tensor([[1.0, -1.0], [2.0, 0.0]]))
    observer(torch.tensor([[3.0, -3.0], [0.0, 0.0]]))
    assert observer.low.tolist() == [-2.0, 0.0] and observer.high.tolist() == [2.0, 1.0]
    with pytest.raises(CalibrationError, match="2 channels"):
        observer(torch.ones(3, 2))


def test_opposite_extremes_of_float32_do_not_overflow() -> None:
    observer = MovingAverageMinMaxObserver(averaging_constant=0.5)
    observer(torch.tensor([3e38]))
    observer(torch.tensor([-3e38]))
    assert observer.high.item() == 0.0


@pytest.mark.parametrize("kind", [MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver])
def test_merge_is_refused_because_of_the_order(kind: type[MovingAverageMinMaxObserver]) -> None:
    observer = kind()
    observer(torch.ones(2, 2))
    assert not kind.mergeable
    with pytest.raises(ConfigError, match="order"):
        observer.merge(copy.deepcopy(observer))
    assert observer.batches == 1


@pytest.mark.parametrize("constant", [0.0, -0.1, 1.5])
def test_constant_out_of_range(constant: float) -> None:
    with pytest.raises(ConfigError, match="averaging_constant"):
        MovingAverageMinMaxObserver(averaging_constant=constant)


def test_per_channel_refuses_a_per_tensor_spec() -> None:
    with pytest.raises(ConfigError, match="use MovingAverageMinMaxObserver"):
        MovingAveragePerChannelMinMaxObserver(MovingAverageMinMaxObserver.default_spec)
