"""The clipping range with the least expected squared quantization error, from a histogram.

The error of a range is the exact expectation of (x − dequantize(quantize(x)))² for mass spread evenly over each bin. Even
mass, and not mass at the centre, because a bin can be wider than a quantization step when there are outliers: its centre
would then be taken for one value that some step happens to hit. Exact zeros are left out: 0 is always representable.
The search over ranges is the one of OMSE (Choukroun et al. 2019, arXiv:1902.06822), over both ends at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

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
    """counts[.., j] elements other than 0 lie between (j − bins/2)·2^exponent and (j + 1 − bins/2)·2^exponent; all in [low, high].

    Attributes:
        counts: int64 [bins] per tensor, [channels, bins] per channel.
        exponent: int64 [], or [channels].
        low, high: f64 of the same shape.
    """

    counts: Tensor
    exponent: Tensor
    low: Tensor
    high: Tensor

    def channels(self, part: slice) -> Histogram:
        """Some of the channels; a tensor is one channel."""
        rows = self.counts.reshape(-1, self.counts.shape[-1])
        return Histogram(rows[part], *(each.reshape(-1)[part] for each in (self.exponent, self.low, self.high)))


@dataclass(frozen=True, eq=False)
class Knots:
    """Where the density of a mass changes, and by how much it falls there; f64 [.., knots]."""

    edge: Tensor
    fall: Tensor


@dataclass(frozen=True, eq=False)
class Mass:
    """count[.., j] elements, evenly between edge[.., j] and edge[.., j + 1]; f64, in units of the bin width 2^exponent.

    Edge j is j + first, but no edge is outside of the channel's own values.
    """

    edge: Tensor
    count: Tensor
    exponent: Tensor
    first: int

    @cached_property
    def knots(self) -> Knots:
        """Edges between bins of the same density, in all channels, are left out: of few elements, most bins are empty."""
        width = self.edge.diff()
        density = torch.where(width > 0, self.count / width, 0.0)
        fall = torch.nn.functional.pad(density, (1, 0)) - torch.nn.functional.pad(density, (0, 1))
        changes = (fall != 0).reshape(-1, fall.shape[-1]).any(0)
        return Knots(self.edge[..., changes], fall[..., changes])


@dataclass(frozen=True, eq=False)
class Steps:
    """Candidates' quantization: x → scale · clip(rint(x / scale), first, last); f64 [.., candidates], in bins."""

    scale: Tensor
    first: Tensor
    last: Tensor

    def rows(self, part: slice) -> Steps:
        """Some of the candidates, one row each: [.., candidates, 1]."""
        return Steps(*(each[..., part, None] for each in (self.scale, self.first, self.last)))


@dataclass(frozen=True, eq=False)
class Ranges:
    """How the shifts [channels, candidates, 2] of the two ends become ranges inside [low, high], f64 [channels, 1].

    A symmetric spec has one end.
    """

    low: Tensor
    high: Tensor
    spec: QuantSpec

    @property
    def free(self) -> tuple[bool, bool]:
        """Which of the two ends can move, in any channel: an end that is on the other side of 0 cannot."""
        low, high = self.free_ends.any(0).flatten().tolist()
        return low, high

    @property
    def free_ends(self) -> Tensor:
        """Which of the two ends can move in each channel: bool [channels, 1, 2]."""
        if self.spec.symmetric:
            return torch.tensor([False, True]).expand(len(self.low), 1, 2)
        return torch.stack([self.low < 0, self.high > 0], dim=-1)

    def qparams(self, shifts: Tensor) -> QParams:
        """One (scale, zero_point) per row of shifts: [channels, candidates]."""
        low, high = self.low * torch.exp2(-shifts[..., 0]), self.high * torch.exp2(-shifts[..., 1])
        if self.spec.symmetric:
            high = torch.maximum(-self.low, self.high) * torch.exp2(-shifts[..., 1])
            low = -high
        return choose_qparams(low, high, replace(self.spec, axis=0))


def search_qparams(histogram: Histogram, spec: QuantSpec) -> QParams:
    """The (scale, zero_point) of the range inside [low, high] with the least squared error for this spec's levels.

    The full range is a candidate and wins ties. Deterministic. Coarse to fine: an approximate error on a 45 × 45 grid of
    ranges, each end in thirds of an octave; the exact error of the best of them and of ever closer neighbours. Channels
    don't depend on each other; those that fit are searched at once.
    """
    step = max(GROUP // histogram.counts.shape[-1], 1)
    starts = range(0, histogram.low.numel(), step)
    found = [_search(histogram.channels(slice(start, start + step)), spec) for start in starts]
    scale, zero_point = torch.cat([each.scale for each in found]), torch.cat([each.zero_point for each in found])
    return QParams(spec, scale.reshape(histogram.low.shape), zero_point.reshape(histogram.low.shape))


def _search(histogram: Histogram, spec: QuantSpec) -> QParams:
    """The same for the few channels of `histogram.channels(...)`."""
    full = torch.zeros(len(histogram.low), 1, 2, dtype=torch.float64)
    ranges = Ranges(histogram.low[:, None], histogram.high[:, None], spec)
    if bool(histogram.counts.any()):
        mass = _mass_of(histogram)
        best = _fine(mass, ranges, _coarse(mass, ranges))
        full = _best(mass, ranges, torch.cat([full, best], dim=1))
    chosen = ranges.qparams(full)
    return QParams(spec, chosen.scale[:, 0], chosen.zero_point[:, 0])


def squared_errors(mass: Mass, candidates: QParams) -> Tensor:
    """Σ over the mass of (x − dequantize(quantize(x)))², for each candidate: f64 [.., candidates], in bins².

    With n = clip(rint(x/s)), F(x) = n·s³/12 + (x − n·s)³/3 is an antiderivative of the squared error, clipping included
    (it is continuous where n changes). A bin [a, b) with density d has error d·(F(b) − F(a)); summed by edges,
    Σ F(edge)·(density before − density after), over the knots.
    """
    knots, steps = mass.knots, _steps_of(mass, candidates)
    edge, fall = knots.edge[..., None, :], knots.fall[..., None, :]
    rows = max(GROUP // edge.numel(), 1)
    groups = (steps.rows(slice(start, start + rows)) for start in range(0, steps.scale.shape[-1], rows))
    return torch.cat([_antiderivative(edge, group).mul_(fall).sum(-1) for group in groups], dim=-1)


def _antiderivative(x: Tensor, steps: Steps) -> Tensor:
    """F(x) = n·s³/12 + (x − n·s)³/3 with n = clip(rint(x/s)): [.., candidates, edges]."""
    n = (x / steps.scale).add_(ROUND).sub_(ROUND).clamp_(steps.first, steps.last)
    rest = x - n * steps.scale
    cube = (rest * rest).mul_(rest).div_(3)
    return cube.addcmul_(n, steps.scale**3 / 12)


def power_of_two(exponent: Tensor) -> Tensor:
    """2^e exactly, f64: the bits of its exponent field. int64 e from −1022 to 1023, any shape."""
    return ((exponent + 1023) << 52).view(torch.float64)


def _steps_of(mass: Mass, candidates: QParams) -> Steps:
    scale = candidates.scale.to(torch.float64) * power_of_two(-mass.exponent)[..., None]
    zero_point = candidates.zero_point.to(torch.float64)
    spec = candidates.spec
    return Steps(scale, spec.qmin - zero_point, spec.qmax - zero_point)


def _mass_of(histogram: Histogram) -> Mass:
    """The bins from the first to the last that some channel uses; its outermost ones are cut at its exact extremes."""
    occupied = histogram.counts > 0
    used = occupied.any(0).nonzero()
    start, stop = int(used[0]), int(used[-1]) + 1
    half, bins = histogram.counts.shape[-1] // 2, stop - start
    first = occupied.to(torch.uint8).argmax(1) - half
    last = histogram.counts.shape[-1] - 1 - occupied.flip(1).to(torch.uint8).argmax(1) - half
    unit = power_of_two(-histogram.exponent)
    lowest = torch.minimum(torch.maximum(first, histogram.low * unit), first + 1 - LEAST_WIDTH)
    highest = torch.maximum(torch.minimum(last + 1, histogram.high * unit), torch.maximum(last, lowest) + LEAST_WIDTH)
    edge = torch.arange(start - half, start - half + bins + 1, dtype=torch.float64).clamp(lowest[:, None], highest[:, None])
    return Mass(edge, histogram.counts[:, start:stop].to(torch.float64), histogram.exponent, start - half)


def _coarse(mass: Mass, ranges: Ranges) -> Tensor:
    """The most promising shifts of the whole grid, by the approximate error, and the full range: [channels, candidates, 2]."""
    axis = torch.arange(COARSE_SHIFTS, dtype=torch.float64) * COARSE_STEP
    shifts = torch.cartesian_prod(*(axis if free else axis[:1] for free in ranges.free))
    # an end that cannot move in this channel gives the same range again and again
    repeated = ((shifts > 0) & ~ranges.free_ends).any(-1)
    error = approximate_errors(mass, ranges.qparams(shifts)).masked_fill(repeated, torch.inf)
    best = error.topk(min(CANDIDATES, len(shifts)), largest=False).indices
    return torch.cat([shifts[:1].expand(len(best), 1, 2), shifts[best]], dim=1)


def _fine(mass: Mass, ranges: Ranges, shifts: Tensor) -> Tensor:
    """The best of these shifts, then the better of its neighbours at ever smaller distances: [channels, 1, 2]."""
    best = _best(mass, ranges, shifts)
    sides = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    around = torch.cartesian_prod(*(sides if free else sides[:1] for free in ranges.free))
    for step in FINE_STEPS:
        best = _best(mass, ranges, (best + step * around).clamp(min=0))
    return best


def _best(mass: Mass, ranges: Ranges, shifts: Tensor) -> Tensor:
    """Of each channel's shifts the first with the least error: [channels, 1, 2]."""
    position = squared_errors(mass, ranges.qparams(shifts)).argmin(dim=-1)
    return shifts.gather(1, position[:, None, None].expand(-1, 1, 2))


def approximate_errors(mass: Mass, candidates: QParams) -> Tensor:
    """s²/12 for the mass inside the range, (x − end)² for the mass outside: f64 [.., candidates], in bins².

    The mass of the bin that an end falls into is counted on one side as a whole; moments up to each edge make the rest
    independent of the number of bins.
    """
    steps = _steps_of(mass, candidates)
    left, right = mass.edge[..., :-1], mass.edge[..., 1:]
    powers = torch.stack([torch.ones_like(left), (left + right) / 2, (left * left + left * right + right * right) / 3])
    moments = torch.nn.functional.pad((powers * mass.count).cumsum(-1), (1, 0))
    below, above = steps.scale * steps.first, steps.scale * steps.last
    at_low, at_high = _moments_at(mass, moments, below), _moments_at(mass, moments, above)
    inside = (at_high[0] - at_low[0]) * steps.scale**2 / 12
    return inside + _clipped(at_low, below) + _clipped(moments[..., -1:] - at_high, above)


def _moments_at(mass: Mass, moments: Tensor, end: Tensor) -> Tensor:
    """The moments up to the edge that is nearest to each end: [3, .., candidates]."""
    edge = (end - mass.first).round().clamp(0, mass.count.shape[-1]).to(torch.int64)
    return moments.gather(-1, edge.expand(3, *edge.shape))


def _clipped(moment: Tensor, end: Tensor) -> Tensor:
    """Σ (x − end)² from Σ 1, Σ x and Σ x²."""
    return moment[2] - 2 * end * moment[1] + end * end * moment[0]
