from __future__ import annotations

import copy

import pytest
import torch

from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, QParams
from fxq.observers import FixedQParamsObserver, NoopObserver, PlaceholderObserver


def test_fixed_needs_no_data_and_ignores_it() -> None:
    observer = FixedQParamsObserver(scale=1 / 128, zero_point=128)
    assert observer.qparams() == QParams.per_tensor(1 / 128, 128)
    observer(torch.tensor([1e30]))
    assert observer.qparams() == QParams.per_tensor(1 / 128, 128) and observer.batches == 1


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0, 0), (-1.0, 0), (float("inf"), 0), (float("nan"), 0), (1.0, 256), (1.0, -1)])
def test_fixed_refuses_what_does_not_fit(scale: float, zero_point: int) -> None:
    with pytest.raises(ConfigError, match="positive finite scale"):
        FixedQParamsObserver(scale=scale, zero_point=zero_point)


def test_fixed_refuses_per_channel() -> None:
    with pytest.raises(ConfigError, match="per-tensor"):
        FixedQParamsObserver(WEIGHT_PER_CHANNEL, scale=1.0)


def test_fixed_merges_with_the_same_constants_only() -> None:
    observer = FixedQParamsObserver(scale=0.5)
    observer(torch.ones(1))
    observer.merge(copy.deepcopy(observer))
    assert observer.batches == 2
    with pytest.raises(ConfigError, match="settings"):
        observer.merge(FixedQParamsObserver(scale=0.25))


@pytest.mark.parametrize("kind", [PlaceholderObserver, NoopObserver])
def test_nothing_is_recorded(kind: type[PlaceholderObserver]) -> None:
    observer = kind()
    observer.name = "fc"
    observer(torch.tensor([float("nan")]))
    observer(torch.tensor([1]))
    observer.merge(kind())
    assert observer.batches == 0
    with pytest.raises(CalibrationError, match="'fc'"):
        observer.qparams()


def test_placeholder_is_dynamic_and_noop_is_not() -> None:
    assert PlaceholderObserver().spec.dynamic
    assert NoopObserver().spec == ACTIVATION
