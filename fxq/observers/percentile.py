"""PercentileObserver: the range that leaves a given share of the values out."""

from __future__ import annotations

import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import QParams, QuantSpec, choose_qparams
from fxq.observers.base import Extent
from fxq.observers.histogram import HistogramObserver
from fxq.observers.l2_errors import Histogram, power_of_two


class PercentileObserver(HistogramObserver):
    """[the (100 − p)-th percentile, the p-th percentile] of all batches → qparams.

    Affine, (100 − p) % of the values are left out at each end; symmetric, (100 − p) % of all |x|. Exact zeros are not
    counted: every range represents them, and after a relu they are half of the values. An end is within one bin of the
    value of that rank, and never outside of what was seen; percentile=100 is MinMaxObserver's range.

    Source: Wu et al. 2020, Integer Quantization for Deep Learning Inference, arXiv:2004.09602.

    Attributes:
        percentile: p, in (50, 100].
    """

    def __init__(self, spec: QuantSpec | None = None, *, percentile: float = 99.99, bins: int = 8192) -> None:
        """Raises ConfigError for a percentile outside (50, 100], and for bins that HistogramObserver refuses."""
        super().__init__(spec, bins=bins)
        if not (isinstance(percentile, int | float) and 50 < percentile <= 100):
            raise ConfigError(
                f"{type(self).__name__}.percentile",
                expected="a number in (50, 100], in percent",
                found=repr(percentile),
                remedy="use the default, 99.99, or another one between 99 and 100",
            )
        self.percentile = float(percentile)

    def settings(self) -> tuple[object, ...]:
        """The percentile must be the same, too."""
        return (*super().settings(), self.percentile)

    def qparams(self) -> QParams:
        """choose_qparams(the two percentiles). Raises CalibrationError if no data was seen."""
        histogram = self.histogram()
        if not bool(histogram.counts.any()):
            return choose_qparams(self.low, self.high, self.spec)
        share = self.percentile / 100
        ends = _symmetric_ends(histogram, share) if self.spec.symmetric else _ends(histogram, share)
        return choose_qparams(ends.low, ends.high, self.spec)

    def extra_repr(self) -> str:
        """For print(model)."""
        return f"{super().extra_repr()}, percentile={self.percentile}"


def quantile_position(counts: Tensor, share: float) -> float:
    """Where this share of the counted lies to the left, in bins from the left, evenly inside a bin. Something must be counted."""
    reached = counts.cumsum(0)
    wanted = share * int(reached[-1])
    position = int((reached < wanted).sum())
    return position + 1 - (int(reached[position]) - wanted) / int(counts[position])


def _ends(histogram: Histogram, share: float) -> Extent:
    half, width = histogram.counts.numel() // 2, power_of_two(histogram.exponent)
    low = (half - quantile_position(histogram.counts.flip(0), share)) * width
    high = (quantile_position(histogram.counts, share) - half) * width
    return Extent(torch.maximum(low, histogram.low), torch.minimum(high, histogram.high))


def _symmetric_ends(histogram: Histogram, share: float) -> Extent:
    negative, positive = histogram.counts.chunk(2)
    largest = torch.maximum(-histogram.low, histogram.high)
    end = quantile_position(positive + negative.flip(0), share) * power_of_two(histogram.exponent)
    end = torch.minimum(end, largest)
    return Extent(-end, end)
