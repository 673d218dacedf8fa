"""MomentsObserver: mean and variance of each channel that a layer with weights reads, by which its weights are rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxq.errors import CalibrationError
from fxq.graph.moments import Moments
from fxq.graph.qtypes import QuantSpec, in_f64, in_torch
from fxq.observers.base import Observer


class MomentsObserver(Observer):
    """Σ x and Σ x² of each channel. The compiler puts it in front of layers with weights; it asks for no quantization.

    A batch is summed up in float32, and batches in float64. That is exact, whatever their order, unless the sums of a channel differ by
    more than 2^29.

    Attributes:
        channels: how many there are.
        axis: theirs, counted from the end.
        sums: f64 [2, channels]
        count: int64, how many elements each channel had.
    """

    sums: Tensor
    count: Tensor

    def __init__(self, spec: QuantSpec | None = None, *, channels: int, axis: int) -> None:
        """Has seen nothing."""
        super().__init__(spec)
        self.channels, self.axis = channels, axis
        self.register_buffer("sums", torch.zeros(2, channels, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def settings(self) -> tuple[object, ...]:
        """The same channels."""
        return (*super().settings(), self.channels, self.axis)

    def record(self, values: Tensor) -> None:
        """Adds the batch to the sums, unless it has other channels: the layer behind says then what it cannot multiply."""
        if values.ndim < -self.axis or values.shape[self.axis] != self.channels:
            return
        others = [axis for axis in range(values.ndim) if axis != values.ndim + self.axis]
        # of no axes torch would sum all
        of_batch = [each.sum(others) if others else each for each in (values, values * values)]
        self.sums = self.sums + torch.stack(of_batch)
        self.count = self.count + values.numel() // self.channels

    def absorb(self, other: Any) -> None:
        """The sums of both."""
        self.sums, self.count = self.sums + other.sums, self.count + other.count

    def moments(self) -> Moments | None:
        """None where nothing was seen, or a sum was too large for float32."""
        sums, count = in_f64(self.sums), int(self.count)
        if count == 0 or not np.isfinite(sums).all():
            return None
        mean, mean_square = sums / count
        return Moments(in_torch(mean, self.sums), in_torch(np.maximum(mean_square - mean * mean, 0), self.sums))

    def qparams(self) -> Any:
        """Raises CalibrationError: weights are rounded by what this observer sees, and activations are not quantized by it."""
        raise CalibrationError(
            self.label,
            expected="an observer of ranges",
            found=type(self).__name__,
            remedy="use MinMaxObserver or HistogramObserver, which stands in front of it",
        )
