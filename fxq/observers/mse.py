"""Observers of the range whose fraction of [min, max] has the least squared error in its batch."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL, QParams, QuantSpec, choose_qparams, dequantize_tensor, quantize_tensor
from fxq.observers.base import Extent, flatten
from fxq.observers.extremes import check_per_channel
from fxq.observers.histogram import PART, row_groups
from fxq.observers.minmax import MinMaxObserver

MOST_STEPS = 2**16


class MSEObserver(MinMaxObserver):
    """For each batch, argmin over f of Σ (x − dequantize(quantize(x)))² with [f·min, f·max]; the union over batches → qparams.

    f is one of 1/steps, 2/steps, ..., 1, and one f serves both ends; symmetric, [−f·max|x|, f·max|x|]. Per channel if the
    spec has an axis. This is OMSE's search for a clipping range (Choukroun et al. 2019, arXiv:1902.06822) on the values
    themselves, with the runtime's own rounding: right for weights, which are one batch. For activations HistogramObserver
    is better: it looks at all batches together and moves both ends, where the union here is as wide as the batch that
    wants the most. The cost is `steps` passes over each batch; nothing but two values per channel is kept.

    Attributes:
        steps: how many fractions are tried.
        low, high: the union of the ranges that were chosen.
    """

    def __init__(self, spec: QuantSpec | None = None, *, steps: int = 64) -> None:
        """Raises ConfigError if steps is not a whole number from 1 to 65536."""
        super().__init__(spec)
        if not (isinstance(steps, int) and 1 <= steps <= MOST_STEPS):
            raise ConfigError(
                f"{type(self).__name__}.steps",
                expected=f"a whole number from 1 to {MOST_STEPS}",
                found=repr(steps),
                remedy="use the default, 64; 1 is MinMaxObserver",
            )
        self.steps = steps

    def settings(self) -> tuple[object, ...]:
        """The fractions must be the same, too."""
        return (*super().settings(), self.steps)

    def record(self, values: Tensor) -> None:
        """Widens [low, high] by the best range of this batch."""
        extent = self.measure(values)
        self.check_channels(extent)
        fraction = torch.arange(self.steps, 0, -1, dtype=torch.float64)[:, None] / self.steps
        largest = torch.maximum(-extent.low, extent.high)
        low, high = (-largest, largest) if self.spec.symmetric else (extent.low, extent.high)
        candidates = Extent(*((end.reshape(1, -1) * fraction).to(torch.float32) for end in (low, high)))
        axis = self.spec.axis
        rows = flatten(values)[None] if axis is None else self._channels_first(values, axis)
        best = rounding_errors(rows, choose_qparams(candidates.low, candidates.high, replace(self.spec, axis=0))).argmin(0, keepdim=True)
        self.widen(Extent(*(each.gather(0, best).reshape(low.shape) for each in (candidates.low, candidates.high))))

    def extra_repr(self) -> str:
        """For print(model)."""
        return f"{super().extra_repr()}, steps={self.steps}"


class PerChannelMSEObserver(MSEObserver):
    """The fraction of each channel's [min, max] with the least squared error → one (scale, zero_point) per channel."""

    default_spec: ClassVar[QuantSpec] = WEIGHT_PER_CHANNEL

    @classmethod
    def check_spec(cls, spec: QuantSpec) -> None:
        """Raises ConfigError for a spec without a channel axis."""
        check_per_channel(cls, spec)


def rounding_errors(rows: Tensor, candidates: QParams) -> Tensor:
    """Σ (x − dequantize(quantize(x)))² of each row with each candidate: f32 [rows, n] → f64 [candidates, rows].

    Args:
        candidates: scale and zero_point [candidates, rows].
    """
    errors = torch.zeros(candidates.scale.shape, dtype=torch.float64)
    for group in row_groups(rows, most_rows=len(rows)):
        # in parts that one thread works on: then no sum depends on the number of threads
        for part in torch.split(rows[group], PART, dim=1):
            exact = part.to(torch.float64)
            for row in range(len(errors)):
                qparams = QParams(candidates.spec, candidates.scale[row, group], candidates.zero_point[row, group])
                rounded = dequantize_tensor(quantize_tensor(part, qparams), qparams)
                errors[row, group] += (rounded.to(torch.float64) - exact).square_().sum(1)
    return errors
