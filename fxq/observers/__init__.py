"""Observers: what looks at the tensors during calibration and training. Registered in OBSERVERS."""

from __future__ import annotations

from fxq.observers.base import Extent, Observer
from fxq.observers.defaults import (
    default_debug_observer,
    default_dynamic_quant_observer,
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
    default_histogram_observer,
    default_observer,
    default_per_channel_weight_observer,
    default_placeholder_observer,
    default_weight_observer,
    per_channel_weight_observer_range_neg_127_to_127,
    per_row_dynamic_quant_observer,
    weight_observer_range_neg_127_to_127,
)
from fxq.observers.entropy import EntropyObserver
from fxq.observers.factory import ObserverFactory
from fxq.observers.fixed import FixedQParamsObserver, NoopObserver, PlaceholderObserver
from fxq.observers.histogram import HistogramObserver, PerChannelHistogramObserver
from fxq.observers.minmax import MinMaxObserver, PerChannelMinMaxObserver
from fxq.observers.moving_average import MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver
from fxq.observers.mse import MSEObserver, PerChannelMSEObserver
from fxq.observers.percentile import PercentileObserver
from fxq.observers.recording import RecordingObserver
from fxq.observers.table import OBSERVERS, read_factory
from fxq.observers.together import Weight, observe_together, search_together
from fxq.observers.weight_only import WeightOnlyObserver, default_float_qparams_observer, default_float_qparams_observer_4bit

__all__ = [
    "OBSERVERS",
    "EntropyObserver",
    "Extent",
    "FixedQParamsObserver",
    "HistogramObserver",
    "MSEObserver",
    "MinMaxObserver",
    "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver",
    "NoopObserver",
    "Observer",
    "ObserverFactory",
    "PerChannelHistogramObserver",
    "PerChannelMSEObserver",
    "PerChannelMinMaxObserver",
    "PercentileObserver",
    "PlaceholderObserver",
    "RecordingObserver",
    "Weight",
    "WeightOnlyObserver",
    "default_debug_observer",
    "default_dynamic_quant_observer",
    "default_fixed_qparams_range_0to1_observer",
    "default_fixed_qparams_range_neg1to1_observer",
    "default_float_qparams_observer",
    "default_float_qparams_observer_4bit",
    "default_histogram_observer",
    "default_observer",
    "default_per_channel_weight_observer",
    "default_placeholder_observer",
    "default_weight_observer",
    "observe_together",
    "per_channel_weight_observer_range_neg_127_to_127",
    "per_row_dynamic_quant_observer",
    "read_factory",
    "search_together",
    "weight_observer_range_neg_127_to_127",
]
