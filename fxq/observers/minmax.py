"""Observers of the smallest and the largest value seen."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from fxq.graph.qtypes import WEIGHT_PER_CHANNEL, QParams, QuantSpec, choose_qparams
from fxq.observers.base import Extent
from fxq.observers.extremes import ExtremesObserver, check_per_channel


class MinMaxObserver(ExtremesObserver):
    """[min, max] of all batches → qparams; per channel if the spec has an axis."""

    def record(self, values: Tensor) -> None:
        """low = min(low, min(x)), high = max(high, max(x))."""
        self.widen(self.measure(values))

    def absorb(self, other: Any) -> None:
        """The extremes of both."""
        self.widen(Extent(other.low, other.high))

    def qparams(self) -> QParams:
        """choose_qparams(low, high). Raises CalibrationError if no data was seen."""
        self.check_seen()
        return choose_qparams(self.low, self.high, self.spec)


class PerChannelMinMaxObserver(MinMaxObserver):
    """[min, max] of each channel → one (scale, zero_point) per channel; axis 0 unless ch_axis says otherwise."""

    default_spec: ClassVar[QuantSpec] = WEIGHT_PER_CHANNEL

    @classmethod
    def check_spec(cls, spec: QuantSpec) -> None:
        """Raises ConfigError for a spec without a channel axis."""
        check_per_channel(cls, spec)
