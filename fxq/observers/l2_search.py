"""The clipping range with the least expected squared quantization error, from a histogram.

The error of a range is the exact expectation of (x − dequantize(quantize(x)))² for mass spread evenly over each bin. Even
mass, and not mass at the centre, because a bin can be wider than a quantization step when there are outliers: its centre
would then be taken for one value that some step happens to hit. Exact zeros are left out: 0 is always representable.
The search over ranges is the one of OMSE (Choukroun et al. 2019, arXiv:1902.06822), over both ends at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
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
# numbers rounded at once by torch.round: below 2^11, for the same reason
ROUNDED = 2**11 - 1
# (x + ROUND) − ROUND = rint(x) in f64 for |x| < 2^51; torch.round would start threads for each group
ROUND = 1.5 * 2.0**52
# edges and knots are filled up to a multiple of this many, so that those of similar size can be searched at once
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
        """One histogram per channel, in the memory of the CPU; a tensor is one channel."""
        if self.low.ndim == 0:
            return iter([Histogram(self.counts.cpu(), self.exponent.cpu(), self.low.cpu(), self.high.cpu())])
        rows = self.counts.reshape(-1, self.counts.shape[-1]).cpu()
        columns = (each.reshape(-1).cpu() for each in (self.exponent, self.low, self.high))
        return (Histogram(*channel) for channel in zip(rows, *columns, strict=True))


@dataclass(frozen=True, eq=False)
class Knots:
    """Where the density of a mass changes, and by how much it falls there: f64 [.., knots], in units of 2^exponent, int64 [..]."""

    edge: Tensor
    fall: Tensor
    exponent: Tensor


@dataclass(frozen=True, eq=False)
class Mass:
    """count[.., j] elements, evenly between edge[.., j] and edge[.., j + 1]; f64, in units of the bin width 2^exponent.

    Both edges of every bin in use are here; the empty bins between two of them are one. Edges are whole numbers, but none is
    outside of the channel's own values. The last one is repeated, with nothing in between, to fill up to a multiple of KNOTS.

    Attributes:
        whole: the edges before the outer two were moved to the channel's extremes.
    """

    edge: Tensor
    count: Tensor
    exponent: Tensor
    whole: Tensor

    @property
    def knots(self) -> Knots:
        """Of a single channel. Edges between bins of the same density are left out."""
        edge, count = self.edge.numpy(), self.count.numpy()
        width, fall = np.diff(edge), np.zeros_like(edge)
        density = np.divide(count, width, out=np.zeros_like(count), where=width > 0)
        fall[1:] += density
        fall[:-1] -= density
        changes = np.flatnonzero(fall)
        size = _filled_up(len(changes))
        at_changes = [torch.from_numpy(_lengthened(each[changes], size, 0.0)) for each in (edge, fall)]
        return Knots(at_changes[0], at_changes[1], self.exponent)


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

    @cached_property
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
class Channel:
    """What is searched for the best range of a single channel."""

    mass: Mass
    ranges: Ranges

    @property
    def size(self) -> Hashable:
        """Those with equal sizes can be searched at once."""
        return self.ranges.free, len(self.mass.edge)

    @property
    def most(self) -> int:
        """How many of equal size make a group."""
        candidates: int = COARSE_SHIFTS ** sum(self.ranges.free)
        return min(ROUNDED // candidates, GROUP // (3 * len(self.mass.edge)))


@dataclass(frozen=True, eq=False)
class Start:
    """Where the exact search of a channel starts: its most promising shifts, [candidates, 2]."""

    knots: Knots
    ranges: Ranges
    shifts: Tensor

    @property
    def size(self) -> Hashable:
        """Those with equal sizes can be searched at once."""
        return self.ranges.free, len(self.knots.edge)

    @property
    def most(self) -> int:
        """How many of equal size make a group."""
        return GROUP // (len(self.shifts) * len(self.knots.edge))


def search_qparams(histogram: Histogram, spec: QuantSpec) -> QParams:
    """The (scale, zero_point) of the range inside [low, high] with the least squared error for this spec's levels.

    The full range is a candidate and wins ties. Deterministic. Coarse to fine: an approximate error on a 45 × 45 grid of
    ranges, each end in thirds of an octave; the exact error of the best of them and of ever closer neighbours.
    """
    return search_all([histogram], spec)[0]


def search_all(histograms: Sequence[Histogram], spec: QuantSpec) -> list[QParams]:
    """search_qparams of each: the same bits, in less time where they are small.

    A channel's search does not depend on others. Errors are computed for several channels at once, because for small ones
    the calls take longer than the arithmetic.
    """
    channels = [Channel(_mass_of(each), Ranges(each.low, each.high, spec)) for histogram in histograms for each in histogram.channels()]
    found = iter(_at_once(_at_once(channels, _coarse), _fine))
    return [_shaped(list(islice(found, histogram.low.numel())), histogram.low) for histogram in histograms]


_Searched = TypeVar("_Searched", Channel, Start)
_Found = TypeVar("_Found")


def _at_once(searched: Sequence[_Searched], search: Callable[[Sequence[_Searched]], Iterable[_Found]]) -> list[_Found]:
    """What the search finds for each, made for those of equal size, as many as make a group."""
    by_size: dict[Hashable, list[int]] = {}
    for place, each in enumerate(searched):
        by_size.setdefault(each.size, []).append(place)
    found: dict[int, _Found] = {}
    for places in by_size.values():
        step = max(searched[places[0]].most, 1)
        for part in (places[first : first + step] for first in range(0, len(places), step)):
            found |= zip(part, search([searched[place] for place in part]), strict=True)
    return [found[place] for place in range(len(searched))]


def _stacked(parts: Sequence[Any], *names: str) -> Iterator[Tensor]:
    """The tensors of these names, of several parts as one: [parts, ..]."""
    return (torch.stack([getattr(part, name) for part in parts]) for name in names)


def _together(ranges: Sequence[Ranges]) -> Ranges:
    """Of several channels: [channels, 1]."""
    low, high = _stacked(ranges, "low", "high")
    return Ranges(low[:, None], high[:, None], ranges[0].spec)


def _shaped(found: list[QParams], like: Tensor) -> QParams:
    """The qparams of a tensor from those of its channels, in the shape and on the device of the other tensor."""
    scale, zero_point = (each.reshape(like.shape).to(like.device) for each in _stacked(found, "scale", "zero_point"))
    return QParams(found[0].spec, scale, zero_point)


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
    """The bins in use, the first and the last of them cut at the exact extremes. Where none is: a single empty one.

    In numpy, where calls on few numbers take a fraction of torch's.
    """
    counts = channel.counts.numpy()
    half = len(counts) // 2
    used = np.flatnonzero(counts) if counts.any() else np.array([half])
    edges = np.union1d(used, used + 1)
    first, last, unit = float(edges[0] - half), float(edges[-1] - half - 1), math.ldexp(1.0, -int(channel.exponent))
    lowest = min(max(first, float(channel.low) * unit), first + 1 - LEAST_WIDTH)
    highest = max(min(last + 1, float(channel.high) * unit), max(last, lowest) + LEAST_WIDTH)
    size = _filled_up(len(edges))
    whole = _lengthened((edges - half).astype(np.float64), size, last + 1)
    count = _lengthened(counts[edges[:-1]].astype(np.float64), size - 1, 0.0)
    edge = np.minimum(np.maximum(whole, lowest), highest)
    return Mass(torch.from_numpy(edge), torch.from_numpy(count), channel.exponent, torch.from_numpy(whole))


def _filled_up(count: int) -> int:
    """To a multiple of KNOTS that is not 0."""
    return max(-(-count // KNOTS), 1) * KNOTS


def _lengthened(values: NDArray[np.float64], size: int, filler: float) -> NDArray[np.float64]:
    longer = np.full(size, filler)
    longer[: len(values)] = values
    return longer


def _coarse(channels: Sequence[Channel]) -> Iterable[Start]:
    """The most promising shifts of the whole grid, by the approximate error, and the full range."""
    mass = Mass(*_stacked([channel.mass for channel in channels], "edge", "count", "exponent", "whole"))
    ranges = _together([channel.ranges for channel in channels])
    axis = torch.arange(COARSE_SHIFTS, dtype=torch.float64) * COARSE_STEP
    shifts = torch.cartesian_prod(*(axis if free else axis[:1] for free in ranges.free))
    best = approximate_errors(mass, ranges.qparams(shifts)).topk(min(CANDIDATES, len(shifts)), largest=False).indices
    promising = torch.cat([shifts[:1].expand(len(channels), 1, 2), shifts[best]], dim=1)
    return (Start(channel.mass.knots, channel.ranges, each) for channel, each in zip(channels, promising, strict=True))


def _fine(starts: Sequence[Start]) -> Iterable[QParams]:
    """The best of each start's shifts, then the better of its neighbours at ever smaller distances."""
    knots = Knots(*_stacked([start.knots for start in starts], "edge", "fall", "exponent"))
    ranges = _together([start.ranges for start in starts])
    best = _best(knots, ranges, torch.stack([start.shifts for start in starts]))
    sides = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    around = torch.cartesian_prod(*(sides if free else sides[:1] for free in ranges.free))
    for step in FINE_STEPS:
        best = _best(knots, ranges, (best + step * around).clamp(min=0))
    chosen = ranges.qparams(_best(knots, ranges, torch.cat([torch.zeros_like(best), best], dim=1)))
    each = zip(chosen.scale[:, 0], chosen.zero_point[:, 0], strict=True)
    return (QParams(ranges.spec, scale, zero_point) for scale, zero_point in each)


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
    """The moments up to the edge of a bin that is nearest to each end: [3, .., candidates]."""
    first = mass.whole[..., :1]
    nearest = (end - first).add_(ROUND).sub_(ROUND).add_(first)
    place = torch.searchsorted(mass.whole, nearest).clamp_(max=mass.whole.shape[-1] - 1)
    return moments.gather(-1, place.expand(3, *place.shape))


def _clipped(moment: Tensor, end: Tensor) -> Tensor:
    """Σ (x − end)² from Σ 1, Σ x and Σ x²."""
    return moment[2] - 2 * end * moment[1] + end * end * moment[0]
