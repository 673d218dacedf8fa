"""The clipping range with the least expected squared quantization error, from a histogram.

The error of a range is the exact expectation of (x − dequantize(quantize(x)))² for mass spread evenly over each bin. Even
mass, and not mass at the centre, because a bin can be wider than a quantization step when there are outliers: its centre
would then be taken for one value that some step happens to hit. Exact zeros are left out: 0 is always representable.
The search over ranges is the one of OMSE (Choukroun et al. 2019, arXiv:1902.06822), over both ends at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
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
# knots are filled up to a multiple of this many
KNOTS = 64
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

    def channels(self) -> Iterator[Histogram]:
        """One histogram per channel; a tensor is one channel."""
        rows = self.counts.reshape(-1, self.counts.shape[-1])
        columns = (each.reshape(-1) for each in (self.exponent, self.low, self.high))
        return (Histogram(*channel) for channel in zip(rows, *columns, strict=True))


@dataclass(frozen=True, eq=False)
class Knots:
    """Where the density of a mass changes, and by how much it falls there: f64 [.., knots], in units of 2^exponent, int64 [..]."""

    edge: Tensor
    fall: Tensor
    exponent: Tensor


@dataclass(frozen=True, eq=False)
class Mass:
    """count[j] elements, evenly between edge[j] and edge[j + 1]; f64, in units of the bin width 2^exponent.

    Edge j is j + first, but no edge is outside of the channel's own values.
    """

    edge: Tensor
    count: Tensor
    exponent: Tensor
    first: int

    @cached_property
    def knots(self) -> Knots:
        """Edges between bins of the same density are left out: of few elements, most bins are empty.

        Knots at which nothing falls fill them up to a multiple of KNOTS, so that masses of similar size can be searched at once.
        """
        width = self.edge.diff()
        density = torch.where(width > 0, self.count / width, 0.0)
        fall = torch.nn.functional.pad(density, (1, 0)) - torch.nn.functional.pad(density, (0, 1))
        changes = fall.nonzero()[:, 0]
        fill = (0, -len(changes) % KNOTS if len(changes) else KNOTS)
        edge, fall = (torch.nn.functional.pad(each[changes], fill) for each in (self.edge, fall))
        return Knots(edge, fall, self.exponent)


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
    """How the shifts [.., candidates, 2] of the two ends become ranges inside [low, high], f64 [] or [channels, 1].

    The same ends can move in all channels.
    """

    low: Tensor
    high: Tensor
    spec: QuantSpec

    @property
    def free(self) -> tuple[bool, bool]:
        """Which of the two ends can move: an end that is on the other side of 0 cannot, and a symmetric spec has one end."""
        if self.spec.symmetric:
            return False, True
        return bool((self.low < 0).any()), bool((self.high > 0).any())

    def qparams(self, shifts: Tensor) -> QParams:
        """One (scale, zero_point) per row of shifts: [.., candidates]."""
        low, high = self.low * torch.exp2(-shifts[..., 0]), self.high * torch.exp2(-shifts[..., 1])
        if self.spec.symmetric:
            high = torch.maximum(-self.low, self.high) * torch.exp2(-shifts[..., 1])
            low = -high
        return choose_qparams(low, high, replace(self.spec, axis=0))


@dataclass(frozen=True, eq=False)
class Start:
    """Where the exact search of a channel starts: its most promising shifts, [candidates, 2]."""

    knots: Knots
    ranges: Ranges
    shifts: Tensor

    @property
    def size(self) -> Hashable:
        """Those with equal sizes can be searched at once."""
        return self.ranges.free, self.knots.edge.shape, self.shifts.shape


def search_qparams(histogram: Histogram, spec: QuantSpec) -> QParams:
    """The (scale, zero_point) of the range inside [low, high] with the least squared error for this spec's levels.

    The full range is a candidate and wins ties. Deterministic. Coarse to fine: an approximate error on a 45 × 45 grid of
    ranges, each end in thirds of an octave; the exact error of the best of them and of ever closer neighbours.
    """
    return search_all([histogram], spec)[0]


def search_all(histograms: Sequence[Histogram], spec: QuantSpec) -> list[QParams]:
    """search_qparams of each: the same bits, in less time where they are small.

    A channel's search does not depend on others. Exact errors are computed for several channels at once, because for small ones
    the calls take longer than the arithmetic.
    """
    starts = [_start_of(channel, spec) for histogram in histograms for channel in histogram.channels()]
    scale, zero_point = torch.empty(len(starts)), torch.empty(len(starts), dtype=torch.int32)
    for places in _searched_at_once(starts):
        found = _search([starts[place] for place in places])
        scale[places], zero_point[places] = found.scale, found.zero_point
    sizes = [histogram.low.numel() for histogram in histograms]
    shapes = [histogram.low.shape for histogram in histograms]
    each = zip(torch.split(scale, sizes), torch.split(zero_point, sizes), shapes, strict=True)
    return [QParams(spec, scales.reshape(shape), zero_points.reshape(shape)) for scales, zero_points, shape in each]


def _start_of(channel: Histogram, spec: QuantSpec) -> Start:
    mass, ranges = _mass_of(channel), Ranges(channel.low, channel.high, spec)
    return Start(mass.knots, ranges, _coarse(mass, ranges))


def _searched_at_once(starts: Sequence[Start]) -> Iterator[list[int]]:
    """The places of starts of equal size, as many as make a group."""
    by_size: dict[Hashable, list[int]] = {}
    for place, start in enumerate(starts):
        by_size.setdefault(start.size, []).append(place)
    for places in by_size.values():
        step = max(GROUP // (len(starts[places[0]].shifts) * starts[places[0]].knots.edge.numel()), 1)
        yield from (places[first : first + step] for first in range(0, len(places), step))


def _search(starts: Sequence[Start]) -> QParams:
    """The best ranges of channels whose starts are of equal size: one (scale, zero_point) each."""
    knots = Knots(*(torch.stack([getattr(each.knots, name) for each in starts]) for name in ("edge", "fall", "exponent")))
    low, high = (torch.stack([getattr(each.ranges, end) for each in starts])[:, None] for end in ("low", "high"))
    ranges = Ranges(low, high, starts[0].ranges.spec)
    best = _fine(knots, ranges, torch.stack([each.shifts for each in starts]))
    chosen = ranges.qparams(_best(knots, ranges, torch.cat([torch.zeros_like(best), best], dim=1)))
    return QParams(ranges.spec, chosen.scale[:, 0], chosen.zero_point[:, 0])


def squared_errors(knots: Knots, candidates: QParams) -> Tensor:
    """Σ over the mass with these knots of (x − dequantize(quantize(x)))², for each candidate: f64 [.., candidates], in bins².

    With n = clip(rint(x/s)), F(x) = n·s³/12 + (x − n·s)³/3 is an antiderivative of the squared error, clipping included
    (it is continuous where n changes). A bin [a, b) with density d has error d·(F(b) − F(a)); summed by edges,
    Σ F(edge)·(density before − density after), over the knots.
    """
    steps = _steps_of(knots.exponent, candidates)
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


def _steps_of(exponent: Tensor, candidates: QParams) -> Steps:
    scale = candidates.scale.to(torch.float64) * power_of_two(-exponent)[..., None]
    zero_point = candidates.zero_point.to(torch.float64)
    spec = candidates.spec
    return Steps(scale, spec.qmin - zero_point, spec.qmax - zero_point)


def _mass_of(channel: Histogram) -> Mass:
    """The bins from the first to the last that is used; these two are cut at the exact extremes. Without any, one without width."""
    used = channel.counts.nonzero()
    if not len(used):
        return Mass(torch.zeros(2, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), channel.exponent, 0)
    start, stop = int(used[0]), int(used[-1]) + 1
    half, unit = len(channel.counts) // 2, float(power_of_two(-channel.exponent))
    first, last = start - half, stop - 1 - half
    lowest = min(max(first, float(channel.low) * unit), first + 1 - LEAST_WIDTH)
    highest = max(min(last + 1, float(channel.high) * unit), max(last, lowest) + LEAST_WIDTH)
    edge = torch.arange(first, last + 2, dtype=torch.float64).clamp_(lowest, highest)
    return Mass(edge, channel.counts[start:stop].to(torch.float64), channel.exponent, first)


def _coarse(mass: Mass, ranges: Ranges) -> Tensor:
    """The most promising shifts of the whole grid, by the approximate error, and the full range: [candidates, 2]."""
    axis = torch.arange(COARSE_SHIFTS, dtype=torch.float64) * COARSE_STEP
    shifts = torch.cartesian_prod(*(axis if free else axis[:1] for free in ranges.free))
    best = approximate_errors(mass, ranges.qparams(shifts)).topk(min(CANDIDATES, len(shifts)), largest=False).indices
    return torch.cat([shifts[:1], shifts[best]])


def _fine(knots: Knots, ranges: Ranges, shifts: Tensor) -> Tensor:
    """The best of these shifts, then the better of its neighbours at ever smaller distances: [channels, 1, 2]."""
    best = _best(knots, ranges, shifts)
    sides = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    around = torch.cartesian_prod(*(sides if free else sides[:1] for free in ranges.free))
    for step in FINE_STEPS:
        best = _best(knots, ranges, (best + step * around).clamp(min=0))
    return best


def _best(knots: Knots, ranges: Ranges, shifts: Tensor) -> Tensor:
    """Of each channel's shifts the first with the least error: [channels, 1, 2]."""
    position = squared_errors(knots, ranges.qparams(shifts)).argmin(dim=-1)
    return shifts.gather(1, position[:, None, None].expand(-1, 1, 2))


def approximate_errors(mass: Mass, candidates: QParams) -> Tensor:
    """s²/12 for the mass inside the range, (x − end)² for the mass outside: f64 [.., candidates], in bins².

    The mass of the bin that an end falls into is counted on one side as a whole; moments up to each edge make the rest
    independent of the number of bins.
    """
    steps = _steps_of(mass.exponent, candidates)
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
