"""The clipping range with the least expected squared quantization error, from a histogram.

The error of a range is the exact expectation of (x − dequantize(quantize(x)))² for mass spread evenly over each bin. Even
mass, and not mass at the centre, because a bin can be wider than a quantization step when there are outliers: its centre
would then be taken for one value that some step happens to hit. Exact zeros are left out: 0 is always representable.
The search over ranges is the one of OMSE (Choukroun et al. 2019, arXiv:1902.06822), over both ends at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fxq.graph.qtypes import QParams, QuantSpec, choose_qparams

# candidates for an end are end · 2^-shift: shift 0 is the exact extreme, and each octave gets the same number of them
COARSE_SHIFTS = 45
COARSE_STEP = 1 / 3
CANDIDATES = 8
# down to a tenth of a percent: less than half a step of 8 bits
FINE_STEPS = (1 / 6, 1 / 12, 1 / 24, 1 / 48, 1 / 96, 1 / 192, 1 / 384, 1 / 768)
# elements (candidates × edges) computed at once: below 2^15 torch works in the calling thread
GROUP = 2**15 - 64
# (x + ROUND) − ROUND = rint(x) in f64 for |x| < 2^51; torch.round would start threads for each group
ROUND = 1.5 * 2.0**52
# a bin that holds a single value is taken this wide, in bins, so that density stays finite
LEAST_WIDTH = 2.0**-10


@dataclass(frozen=True, eq=False)
class Histogram:
    """counts[j] elements other than 0 lie between (j − bins/2)·2^exponent and (j + 1 − bins/2)·2^exponent; all in [low, high]."""

    counts: Tensor
    exponent: int
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Mass:
    """count[j] elements, evenly between edge[j] and edge[j + 1]; f64, in units of the bin width 2^exponent."""

    edge: Tensor
    count: Tensor
    exponent: int


@dataclass(frozen=True, eq=False)
class Steps:
    """Candidates' quantization, one row each: x → scale · clip(rint(x / scale), first, last); f64 [candidates, 1], in bins."""

    scale: Tensor
    first: Tensor
    last: Tensor


@dataclass(frozen=True, eq=False)
class Ranges:
    """How the shifts [candidates, 2] of the two ends become ranges inside [low, high]. A symmetric spec has one end."""

    low: float
    high: float
    spec: QuantSpec

    @property
    def free(self) -> tuple[bool, bool]:
        """Which of the two ends can move: an end that is on the other side of 0 cannot."""
        return (self.low < 0 and not self.spec.symmetric, self.high > 0 or self.spec.symmetric)

    def qparams(self, shifts: Tensor) -> QParams:
        """One (scale, zero_point) per row of shifts."""
        low, high = self.low * torch.exp2(-shifts[:, 0]), self.high * torch.exp2(-shifts[:, 1])
        if self.spec.symmetric:
            high = max(-self.low, self.high) * torch.exp2(-shifts[:, 1])
            low = -high
        return choose_qparams(low, high, replace(self.spec, axis=0))


def search_qparams(histogram: Histogram, spec: QuantSpec) -> QParams:
    """The (scale, zero_point) of the range inside [low, high] with the least squared error for this spec's levels.

    The full range is a candidate and wins ties. Deterministic. Coarse to fine: an approximate error on a 45 × 45 grid of
    ranges, each end in thirds of an octave; the exact error of the best of them and of ever closer neighbours.
    """
    full = torch.zeros(1, 2, dtype=torch.float64)
    ranges = Ranges(histogram.low, histogram.high, spec)
    if bool(histogram.counts.any()):
        mass = _mass_of(histogram)
        best = _fine(mass, ranges, _coarse(mass, ranges))
        errors = squared_errors(mass, ranges.qparams(torch.cat([full, best])))
        full = best if bool(errors[1] < errors[0]) else full
    chosen = ranges.qparams(full)
    return QParams(spec, chosen.scale[0].clone(), chosen.zero_point[0].clone())


def squared_errors(mass: Mass, candidates: QParams) -> Tensor:
    """Σ over the mass of (x − dequantize(quantize(x)))², for each candidate: f64 [candidates], in bins².

    With n = clip(rint(x/s)), F(x) = n·s³/12 + (x − n·s)³/3 is an antiderivative of the squared error, clipping included
    (it is continuous where n changes). A bin [a, b) with density d has error d·(F(b) − F(a)); summed by edges,
    Σ F(edge)·(density before − density after).
    """
    density = mass.count / mass.edge.diff()
    zero = density.new_zeros(1)
    weight = torch.cat([zero, density]) - torch.cat([density, zero])
    steps = _steps_of(mass, candidates)
    rows = max(GROUP // len(mass.edge), 1)
    groups = zip(*(torch.split(column, rows) for column in (steps.scale, steps.first, steps.last)), strict=True)
    return torch.cat([_antiderivative(mass.edge, Steps(*group)).mul_(weight).sum(1) for group in groups])


def _antiderivative(x: Tensor, steps: Steps) -> Tensor:
    """F(x) = n·s³/12 + (x − n·s)³/3 with n = clip(rint(x/s)): [candidates, edges]."""
    n = (x / steps.scale).add_(ROUND).sub_(ROUND).clamp_(steps.first, steps.last)
    rest = x - n * steps.scale
    cube = (rest * rest).mul_(rest).div_(3)
    return cube.addcmul_(n, steps.scale**3 / 12)


def _steps_of(mass: Mass, candidates: QParams) -> Steps:
    scale = candidates.scale.to(torch.float64) * 2.0**-mass.exponent
    zero_point = candidates.zero_point.to(torch.float64)
    spec = candidates.spec
    return Steps(scale[:, None], (spec.qmin - zero_point)[:, None], (spec.qmax - zero_point)[:, None])


def _mass_of(histogram: Histogram) -> Mass:
    """The bins from the first to the last that is not empty, the outermost ones cut at the exact extremes."""
    occupied = histogram.counts.nonzero()
    first, last = int(occupied[0]), int(occupied[-1])
    edge = torch.arange(first, last + 2, dtype=torch.float64) - histogram.counts.numel() // 2
    unit = 2.0**-histogram.exponent
    edge[0] = min(max(float(edge[0]), histogram.low * unit), float(edge[1]) - LEAST_WIDTH)
    edge[-1] = max(min(float(edge[-1]), histogram.high * unit), float(edge[-2]) + LEAST_WIDTH)
    return Mass(edge, histogram.counts[first : last + 1].to(torch.float64), histogram.exponent)


def _coarse(mass: Mass, ranges: Ranges) -> Tensor:
    """The most promising shifts of the whole grid, by the approximate error, and the full range: [candidates, 2]."""
    axis = torch.arange(COARSE_SHIFTS, dtype=torch.float64) * COARSE_STEP
    shifts = torch.cartesian_prod(*(axis if free else axis[:1] for free in ranges.free))
    error = approximate_errors(mass, ranges.qparams(shifts))
    best = error.topk(min(CANDIDATES, len(shifts)), largest=False).indices
    return torch.cat([shifts[:1], shifts[best]])


def _fine(mass: Mass, ranges: Ranges, shifts: Tensor) -> Tensor:
    """The best of these shifts, then the better of its neighbours at ever smaller distances: [1, 2]."""
    best = _best(mass, ranges, shifts)
    sides = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    around = torch.cartesian_prod(*(sides if free else sides[:1] for free in ranges.free))
    for step in FINE_STEPS:
        best = _best(mass, ranges, (best + step * around).clamp(min=0))
    return best


def _best(mass: Mass, ranges: Ranges, shifts: Tensor) -> Tensor:
    position = int(squared_errors(mass, ranges.qparams(shifts)).argmin())
    return shifts[position : position + 1]


def approximate_errors(mass: Mass, candidates: QParams) -> Tensor:
    """s²/12 for the mass inside the range, (x − end)² for the mass outside: f64 [candidates], in bins².

    The mass of the bin that an end falls into is counted on one side as a whole; moments up to each edge make the rest
    independent of the number of bins.
    """
    steps = _steps_of(mass, candidates)
    left, right = mass.edge[:-1], mass.edge[1:]
    powers = torch.stack([torch.ones_like(left), (left + right) / 2, (left * left + left * right + right * right) / 3])
    moments = torch.nn.functional.pad((powers * mass.count).cumsum(1), (1, 0))
    below, above = (steps.scale * steps.first)[:, 0], (steps.scale * steps.last)[:, 0]
    start = mass.edge[0].floor()
    at_low = moments[:, (below - start).round().clamp(0, len(left)).to(torch.int64)]
    at_high = moments[:, (above - start).round().clamp(0, len(left)).to(torch.int64)]
    inside = (at_high[0] - at_low[0]) * steps.scale[:, 0] ** 2 / 12
    return inside + _clipped(at_low, below) + _clipped(moments[:, -1:] - at_high, above)


def _clipped(moment: Tensor, end: Tensor) -> Tensor:
    """Σ (x − end)² from Σ 1, Σ x and Σ x²."""
    return moment[2] - 2 * end * moment[1] + end * end * moment[0]
