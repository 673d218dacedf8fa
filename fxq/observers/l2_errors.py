"""The expected squared error of quantizing the values of a histogram.

It is the exact expectation of (x − dequantize(quantize(x)))² for mass spread evenly over each bin. Even mass, and not mass at the
centre, because a bin can be wider than a quantization step when there are outliers: its centre would then be taken for one value that
some step happens to hit. Exact zeros are left out: 0 is always representable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.graph.qtypes import QParams

# elements (candidates × edges) computed at once: below 2^15 torch works in the calling thread
GROUP = 2**15 - 64
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
class Knots:
    """Where the density of a mass changes, and by how much it falls there: f64 [.., knots], in units of 2^exponent, int64 [..]."""

    edge: Tensor
    fall: Tensor
    exponent: Tensor


def mass_of(channel: Histogram) -> Mass:
    """The bins in use, the first and the last of them cut at the exact extremes. Where none is: a single empty one.

    In numpy, where calls on few numbers take a fraction of torch's.
    """
    counts = channel.counts.numpy()
    half = len(counts) // 2
    edges = _edges_in_use(counts) if counts.any() else np.array([half, half + 1])
    first, last, unit = float(edges[0] - half), float(edges[-1] - half - 1), math.ldexp(1.0, -int(channel.exponent))
    lowest = min(max(first, float(channel.low) * unit), first + 1 - LEAST_WIDTH)
    highest = max(min(last + 1, float(channel.high) * unit), max(last, lowest) + LEAST_WIDTH)
    size = _filled_up(len(edges))
    whole = _lengthened((edges - half).astype(np.float64), size, last + 1)
    count = _lengthened(counts[edges[:-1]].astype(np.float64), size - 1, 0.0)
    edge = np.minimum(np.maximum(whole, lowest), highest)
    return Mass(torch.from_numpy(edge), torch.from_numpy(count), channel.exponent, torch.from_numpy(whole))


def _edges_in_use(counts: NDArray[np.int64]) -> NDArray[np.intp]:
    """Both edges of every bin that holds something, in order."""
    used = np.zeros(len(counts) + 1, bool)
    np.not_equal(counts, 0, out=used[:-1])
    used[1:] |= used[:-1]
    return np.flatnonzero(used)


def _filled_up(count: int) -> int:
    """To a multiple of KNOTS that is not 0."""
    return max(-(-count // KNOTS), 1) * KNOTS


def _lengthened(values: NDArray[np.float64], size: int, filler: float) -> NDArray[np.float64]:
    longer = np.full(size, filler)
    longer[: len(values)] = values
    return longer


@dataclass(frozen=True, eq=False)
class Steps:
    """Candidates' quantization: x → scale · clip(rint(x / scale), first, last); f64 [.., candidates], in bins."""

    scale: Tensor
    first: Tensor
    last: Tensor

    def split(self, channels: list[int]) -> Iterator[Steps]:
        """Those of so many channels each time: [channels, candidates]."""
        return (Steps(*part) for part in zip(*(torch.split(each, channels) for each in (self.scale, self.first, self.last)), strict=True))

    def rows(self, part: slice) -> Steps:
        """Some of the candidates, one row each: [.., candidates, 1]."""
        return Steps(self.scale[..., part, None], self.first[..., part, None], self.last[..., part, None])


def steps_of(exponent: Tensor, candidates: QParams) -> Steps:
    """The candidates' steps in bins of width 2^exponent, int64 [..]."""
    scale = candidates.scale.to(torch.float64) * power_of_two(-exponent)[..., None]
    zero_point = candidates.zero_point.to(torch.float64)
    spec = candidates.spec
    return Steps(scale, spec.qmin - zero_point, spec.qmax - zero_point)


def power_of_two(exponent: Tensor) -> Tensor:
    """2^e exactly, f64: the bits of its exponent field. int64 e from −1022 to 1023, any shape."""
    return ((exponent + 1023) << 52).view(torch.float64)


def squared_errors(knots: Knots, steps: Steps) -> Tensor:
    """Σ over the mass with these knots of (x − dequantize(quantize(x)))², for each candidate: f64 [.., candidates], in bins².

    With n = clip(rint(x/s)), F(x) = n·s³/12 + (x − n·s)³/3 is an antiderivative of the squared error, clipping included
    (it is continuous where n changes). A bin [a, b) with density d has error d·(F(b) − F(a)); summed by edges,
    Σ F(edge)·(density before − density after), over the knots.
    """
    edge, fall = knots.edge[..., None, :], knots.fall[..., None, :]
    errors, count = torch.empty_like(steps.scale), max(GROUP // edge.numel(), 1)
    for part in (slice(first, first + count) for first in range(0, errors.shape[-1], count)):
        errors[..., part] = _antiderivative(edge, steps.rows(part)).mul_(fall).sum(-1)
    return errors


def _antiderivative(x: Tensor, steps: Steps) -> Tensor:
    """F(x) = n·s³/12 + (x − n·s)³/3 with n = clip(rint(x/s)): [.., candidates, edges]."""
    n = (x / steps.scale).add_(ROUND).sub_(ROUND).clamp_(steps.first, steps.last)
    rest = x - n * steps.scale
    cube = (rest * rest).mul_(rest).div_(3)
    return cube.addcmul_(n, steps.scale**3 / 12)


def approximate_errors(mass: Mass, steps: Steps) -> Tensor:
    """s²/12 for the mass inside the range, (x − end)² for the mass outside: f64 [.., candidates], in bins².

    The mass of the bin that an end falls into is counted on one side as a whole; moments up to each edge make the rest
    independent of the number of bins.
    """
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
