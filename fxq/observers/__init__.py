"""Observers: what looks at the tensors during calibration and training. Registered in OBSERVERS."""

from __future__ import annotations

from fxq.observers.base import Extent, Observer
from fxq.observers.factory import ObserverFactory
from fxq.observers.fixed import FixedQParamsObserver, NoopObserver, PlaceholderObserver
from fxq.observers.histogram import HistogramObserver
from fxq.observers.minmax import MinMaxObserver, PerChannelMinMaxObserver
from fxq.observers.moving_average import MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver
from fxq.observers.table import OBSERVERS, read_factory

__all__ = [
    "OBSERVERS",
    "Extent",
    "FixedQParamsObserver",
    "HistogramObserver",
    "MinMaxObserver",
    "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver",
    "NoopObserver",
    "Observer",
    "ObserverFactory",
    "PerChannelMinMaxObserver",
    "PlaceholderObserver",
    "read_factory",
]
