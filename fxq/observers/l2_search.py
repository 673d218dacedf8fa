"""The clipping range with the least expected squared quantization error, from a histogram.

The search over ranges is the one of OMSE (Choukroun et al. 2019, arXiv:1902.06822), over both ends at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from fxq.graph.qtypes import QParams, QuantSpec, choose_qparams
from fxq.observers.l2_errors import GROUP, Histogram, Knots, Mass, approximate_errors, mass_of, squared_errors, steps_of

# candidates for an end are end · 2^-shift: shift 0 is the exact extreme, and each octave gets the same number of them
COARSE_SHIFTS = 45
COARSE_STEP = 1 / 3
CANDIDATES = 8
# down to a tenth of a percent: less than half a step of 8 bits
FINE_STEPS = (1 / 6, 1 / 12, 1 / 24, 1 / 48, 1 / 96, 1 / 192, 1 / 384, 1 / 768)


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
        return bool((self.low.numpy() < 0).any()), bool((self.high.numpy() > 0).any())

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
        return GROUP // max(candidates, 3 * len(self.mass.edge))


@dataclass(frozen=True, eq=False)
class Start:
    """Where the exact search of a channel starts: its most promising shifts, [candidates, 2]."""

    knots: Knots
    ranges: Ranges
    shifts: Tensor

    @property
    def size(self) -> Hashable:
        """Those with equal sizes can be searched at once."""
        return self.ranges.free

    @property
    def most(self) -> int:
        """How many of equal size make a group."""
        return GROUP // len(self.shifts)


def search_qparams(histogram: Histogram, spec: QuantSpec) -> QParams:
    """The (scale, zero_point) of the range inside [low, high] with the least squared error for this spec's levels.

    The full range is a candidate and wins ties. Deterministic. Coarse to fine: an approximate error on a 45 × 45 grid of
    ranges, each end in thirds of an octave; the exact error of the best of them and of ever closer neighbours.
    """
    return search_all([histogram], spec)[0]


def search_all(histograms: Iterable[Histogram], spec: QuantSpec) -> list[QParams]:
    """search_qparams of each: the same bits, in less time where they are small.

    A channel's search does not depend on others. Errors are computed for several channels at once, because for small ones
    the calls take longer than the arithmetic.
    """
    channels, lows = [], []
    for histogram in histograms:
        channels += [Channel(mass_of(each), Ranges(each.low, each.high, spec)) for each in histogram.channels()]
        lows.append(histogram.low)
    found = iter(_at_once(_at_once(channels, _coarse), _fine))
    return [_shaped(list(islice(found, low.numel())), low) for low in lows]


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


def _coarse(channels: Sequence[Channel]) -> Iterable[Start]:
    """The most promising shifts of the whole grid, by the approximate error, and the full range."""
    mass = Mass(*_stacked([channel.mass for channel in channels], "edge", "count", "exponent", "whole"))
    ranges = _together([channel.ranges for channel in channels])
    axis = torch.arange(COARSE_SHIFTS, dtype=torch.float64) * COARSE_STEP
    shifts = torch.cartesian_prod(*(axis if free else axis[:1] for free in ranges.free))
    errors = approximate_errors(mass, steps_of(mass.exponent, ranges.qparams(shifts)))
    best = errors.topk(min(CANDIDATES, len(shifts)), largest=False).indices
    promising = torch.cat([shifts[:1].expand(len(channels), 1, 2), shifts[best]], dim=1)
    return (Start(channel.mass.knots, channel.ranges, each) for channel, each in zip(channels, promising, strict=True))


@dataclass(frozen=True, eq=False)
class Front:
    """Channels whose ranges are searched side by side.

    Attributes:
        ranges, exponent: of all of them.
        parts: the knots of as many channels as make a group, one part behind the other.
    """

    ranges: Ranges
    exponent: Tensor
    parts: Sequence[Knots]

    def errors(self, shifts: Tensor) -> Tensor:
        """Of the ranges with the shifts [channels, candidates, 2]: [channels, candidates]."""
        steps = steps_of(self.exponent, self.ranges.qparams(shifts)).split([len(part.edge) for part in self.parts])
        return torch.cat([squared_errors(*each) for each in zip(self.parts, steps, strict=True)])


def _front(starts: Sequence[Start]) -> Front:
    """Of starts in the order of their number of knots."""
    parts = []
    for size, alike in groupby(starts, key=_number_of_knots):
        each, step = list(alike), max(GROUP // (CANDIDATES * size), 1)
        parts += [each[first : first + step] for first in range(0, len(each), step)]
    knots = [Knots(*_stacked([start.knots for start in part], "edge", "fall", "exponent")) for part in parts]
    return Front(_together([start.ranges for start in starts]), torch.cat([each.exponent for each in knots]), knots)


def _number_of_knots(start: Start) -> int:
    return len(start.knots.edge)


def _fine(starts: Sequence[Start]) -> Iterable[QParams]:
    """The best of each start's shifts, then the better of its neighbours at ever smaller distances."""
    order = sorted(range(len(starts)), key=lambda place: _number_of_knots(starts[place]))
    front = _front([starts[place] for place in order])
    shifts = torch.stack([starts[place].shifts for place in order])
    errors = front.errors(shifts)
    of_all, (least, best) = errors[:, :1], _least(errors, shifts)
    sides = torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64)
    around = torch.cartesian_prod(*(sides if free else sides[:1] for free in front.ranges.free))[1:]
    for step in FINE_STEPS:
        near = (best + step * around).clamp(min=0)
        least, best = _least(torch.cat([least, front.errors(near)], 1), torch.cat([best, near], 1))
    _, best = _least(torch.cat([of_all, least], 1), torch.cat([torch.zeros_like(best), best], 1))
    chosen = front.ranges.qparams(best)
    in_order = zip(order, chosen.scale[:, 0].unbind(), chosen.zero_point[:, 0].unbind(), strict=True)
    found = {place: QParams(front.ranges.spec, scale, zero_point) for place, scale, zero_point in in_order}
    return (found[place] for place in range(len(starts)))


def _least(errors: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Of each channel's candidates the first with the least error: [channels, 1], and its shifts, [channels, 1, 2]."""
    position = errors.argmin(dim=1, keepdim=True)
    return errors.gather(1, position), shifts.gather(1, position[..., None].expand(-1, -1, 2))
