"""EntropyObserver: the range with the least Kullback–Leibler divergence between the values and the quantized values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.graph.qtypes import QParams, QuantSpec, choose_qparams
from fxq.observers.histogram import HistogramObserver
from fxq.observers.l2_errors import Histogram, power_of_two

# thresholds are 2^(-i/PER_OCTAVE) of the largest |x|: each 2 % below the one before
PER_OCTAVE, OCTAVES = 32, 10


class EntropyObserver(HistogramObserver):
    """argmin over t of KL(P ‖ Q): [max(low, −t), min(high, t)] → qparams.

    P is the histogram with what is outside of ±t added to the outermost bins inside; Q is the histogram inside ±t, of which
    each level of the spec keeps its total, spread evenly over its bins that are not empty. Both are normalized. So clipping
    makes P differ from Q at the ends, and coarse levels make it differ everywhere else.

    Source: Migacz 2017, 8-bit Inference with TensorRT (GTC 2017, S7310), which merges bins into 128 levels of |x|. Here the
    bins are rounded to the levels that the spec has. Two more differences: exact zeros are left out, as every range
    represents them, and what is clipped goes to a bin that is not empty, so that no gap in a thin tail makes the divergence
    infinite. Thresholds at which a level is narrower than a bin are not looked at: less than a bin tells nothing.
    """

    def qparams(self) -> QParams:
        """The range with the least divergence; of equal ones the widest. Raises CalibrationError if no data was seen."""
        histogram = self.histogram()
        if not bool(histogram.counts.any()):
            return choose_qparams(self.low, self.high, self.spec)
        thresholds = _thresholds(histogram, self.spec)
        divergences = [divergence(histogram, threshold) for threshold in thresholds]
        return thresholds[int(torch.tensor(divergences).argmin())].qparams


@dataclass(frozen=True, eq=False)
class Threshold:
    """What is clipped at ± this many bins, and the qparams of what is left."""

    bins: int
    qparams: QParams


def divergence(histogram: Histogram, threshold: Threshold) -> float:
    """KL(P ‖ Q) = Σ P·ln(P/Q), in nats; inf if P has mass where Q has none."""
    half = histogram.counts.numel() // 2
    start, stop = half - threshold.bins, half + threshold.bins
    inside = histogram.counts[start:stop]
    occupied = inside.nonzero()[:, 0]
    if len(occupied) == 0:
        return float("inf")
    kept = inside[occupied].to(torch.float64)
    clipped = kept.clone()
    clipped[0] += int(histogram.counts[:start].sum())
    clipped[-1] += int(histogram.counts[stop:].sum())
    center = (occupied - threshold.bins + 0.5) * power_of_two(histogram.exponent)
    p, q = clipped / clipped.sum(), _spread_over_levels(kept / kept.sum(), center, threshold.qparams)
    return float((p * (p / q).log()).sum())


def _spread_over_levels(mass: Tensor, center: Tensor, qparams: QParams) -> Tensor:
    """The mass of bins that become the same level, evenly over these bins; from the lowest bin to the highest."""
    spec = qparams.spec
    level = torch.round(center / qparams.scale.to(torch.float64)) + qparams.zero_point
    level = level.clamp(spec.qmin, spec.qmax)
    row = (level.diff(prepend=level[:1]) != 0).cumsum(0)
    return (torch.bincount(row, weights=mass) / torch.bincount(row))[row]


def _thresholds(histogram: Histogram, spec: QuantSpec) -> list[Threshold]:
    """From the widest to the narrowest; the full range is the first."""
    width = power_of_two(histogram.exponent)
    largest = torch.maximum(-histogram.low, histogram.high)
    # the largest |x| of all may be the lower edge of its bin
    most = (largest / width).floor() + 1
    shifts = torch.arange(PER_OCTAVE * OCTAVES, dtype=torch.float64) / PER_OCTAVE
    rounded = (most * torch.exp2(-shifts)).round().clamp(min=1)
    bins = torch.tensor(list(dict.fromkeys(rounded.tolist())), dtype=torch.float64)
    end = bins * width
    qparams = choose_qparams(torch.maximum(-end, histogram.low), torch.minimum(end, histogram.high), spec)
    wide = (qparams.scale >= width).tolist()
    return [
        Threshold(int(bins[row]), QParams(spec, qparams.scale[row], qparams.zero_point[row]))
        for row in range(len(bins))
        if row == 0 or wide[row]
    ]
