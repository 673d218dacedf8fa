"""Observers of the moving average of each batch's smallest and largest value."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL, QuantSpec, in_f64, in_torch
from fxq.observers.extremes import check_per_channel
from fxq.observers.minmax import MinMaxObserver


class MovingAverageMinMaxObserver(MinMaxObserver):
    """low += c · (min(x) − low), high += c · (max(x) − high), from the first batch's min and max → qparams.

    The result depends on the order of the batches, so these cannot be merged: `merge` raises ConfigError.

    Attributes:
        averaging_constant: c, the weight of the newest batch, in (0, 1]. Jacob et al. 2018, section 3.1.
    """

    mergeable: ClassVar[bool] = False

    def __init__(self, spec: QuantSpec | None = None, *, averaging_constant: float = 0.01) -> None:
        """Raises ConfigError for an averaging_constant outside (0, 1]."""
        super().__init__(spec)
        if not 0 < averaging_constant <= 1:
            raise ConfigError(
                f"{type(self).__name__}.averaging_constant",
                expected="a number in (0, 1]",
                found=repr(averaging_constant),
                remedy="use the default, 0.01; 1 keeps only the newest batch",
            )
        self.averaging_constant = averaging_constant

    def record(self, values: Tensor) -> None:
        """One step of the average; the first batch is taken as it is."""
        extent = self.measure(values)
        self.check_channels(extent)
        first = self.batches == 0
        self.low = extent.low if first else self._step(self.low, extent.low)
        self.high = extent.high if first else self._step(self.high, extent.high)

    def _step(self, average: Tensor, newest: Tensor) -> Tensor:
        # the difference of two f32 can be larger than the largest f32
        wide = in_f64(average)
        return in_torch((wide + self.averaging_constant * (in_f64(newest) - wide)).astype(np.float32), newest)


class MovingAveragePerChannelMinMaxObserver(MovingAverageMinMaxObserver):
    """The moving average of [min, max] of each channel → one (scale, zero_point) per channel."""

    default_spec: ClassVar[QuantSpec] = WEIGHT_PER_CHANNEL

    @classmethod
    def check_spec(cls, spec: QuantSpec) -> None:
        """Raises ConfigError for a spec without a channel axis."""
        check_per_channel(cls, spec)
