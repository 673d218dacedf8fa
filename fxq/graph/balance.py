"""Weights as integers, rounded so that what their errors do to the output channel cancels.

Rounded each to the nearest, the errors e of n weights turn the mean inputs μ into an offset of the channel, e·μ, the same for every sample:
averages later in a network take out noise, and leave that. Here some weights go to their other neighbour, until e·μ is about 0: those
first for which that costs least, since the variance of what they read is small, or the other neighbour nearly as close. Greedily, it is

    min  (e·μ)² + Σ e²·σ²     the expected square of the channel's error, if channels are independent

With μ = σ = 1 it is the rule for channels of SQuant (Guo et al. 2022, arXiv:2202.07471).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.graph.moments import Moments
from fxq.graph.qtypes import QParams

# weights rounded at once: they stay in the cache
_PART = 2**17
TINY = np.finfo(np.float32).tiny

Floats = NDArray[np.float32]


def quantize_balanced(weight: Tensor, qparams: QParams, axis: int = 0, groups: int = 1, moments: Moments | None = None) -> Tensor:
    """q' = q + d:  q = quantize(w), d in {−1, 0, 1}, and Σ (q' − z − w / s)·μ is about 0 in each output channel.

    A weight that is on the grid keeps its q, also 0. One beyond the range counts as if it were at its end.

    Args:
        weight: f32 of any shape.
        qparams: per tensor, or per channel of this axis.
        axis: of the output channels; where it is 1, each group has its own channels there.
        moments: of the input channels; None: the same for all.
    """
    grouped = weight.reshape(groups if axis else 1, -1, *weight.shape[1:]).movedim(axis + 1, 1)  # [groups, channels, ...]
    rows = grouped.flatten(2).flatten(0, 1).cpu()
    grid = _grid(qparams, channels=grouped.shape[1], groups=len(grouped))
    inputs = _inputs_of(rows, grouped.shape[2], groups, moments)
    step = max(_PART // max(rows.shape[1], 1), 1)
    found = torch.empty(rows.shape, dtype=qparams.spec.torch_dtype)
    for part in (slice(first, first + step) for first in range(0, len(rows), step)):
        found[part] = _round_rows(rows[part], _Grid(*(each[part] for each in grid)), inputs.rows(part))
    return found.to(weight.device).reshape(grouped.shape).movedim(1, axis + 1).flatten(0, 1).contiguous()


class _Grid(NamedTuple):
    """The integers q of each row: x · inverse + zero_point, from least + zero_point to most + zero_point. All [rows, 1]."""

    inverse: Tensor
    zero_point: Tensor
    least: Tensor
    most: Tensor


def _grid(qparams: QParams, channels: int, groups: int) -> _Grid:
    """Of the channels of each group, one group after the other."""
    scale, zero_point = (each.cpu().expand(channels).repeat(groups)[:, None] for each in (qparams.scale, qparams.zero_point))
    return _Grid(1.0 / scale, zero_point, *(bound - zero_point.to(torch.float32) for bound in (qparams.spec.qmin, qparams.spec.qmax)))


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What each weight reads: |μ|, the sign of μ, and σ² / |μ|, or 0 where μ is. [channels or 1, n]"""

    size: Floats
    sign: Floats
    spread: Floats

    def rows(self, part: slice) -> _Inputs:
        """Those of some output channels."""
        return self if len(self.size) == 1 else _Inputs(self.size[part], self.sign[part], self.spread[part])


def _inputs_of(rows: Tensor, channels: int, groups: int, moments: Moments | None) -> _Inputs:
    """Args: rows: [output channels, channels of the group · size of the kernel]."""
    if moments is None:
        ones = np.ones((1, rows.shape[1]), np.float32)
        return _Inputs(ones, ones, ones)
    mean, variance = (
        each.cpu().reshape(groups, channels).repeat_interleave(rows.shape[1] // channels, 1).numpy()
        for each in (moments.mean, moments.variance)
    )
    size = np.abs(mean)
    spread = np.divide(variance, size, out=np.zeros_like(size), where=size > 0)
    each = (size, np.sign(mean), spread)
    repeats = len(rows) // groups if groups > 1 else 1
    return _Inputs(*(np.repeat(values.astype(np.float32), repeats, 0) for values in each))


def _round_rows(rows: Tensor, grid: _Grid, inputs: _Inputs) -> Tensor:
    """[channels, n] → integers of the same shape, in float32."""
    product = (rows.to(torch.float32) * grid.inverse).numpy()
    steps = np.fmax(product, grid.least.numpy(), out=product)  # NaN becomes the least
    np.minimum(steps, grid.most.numpy(), out=steps)
    nearest = np.rint(steps)
    error = np.subtract(nearest, steps, out=steps)
    row, column = _worth_moving(error, inputs)
    nearest[row, column] -= np.sign(error[row, column])
    return torch.from_numpy(nearest).add_(grid.zero_point)


def _worth_moving(error: Floats, inputs: _Inputs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the weights that go to their other neighbour.

    Moving a weight whose error is on the side of e·μ takes |μ| off that, and adds (1 − 2|e|)·σ² = cost·|μ| to the other term: it pays where
    cost + |μ| < 2·|e·μ|.
    """
    signed = error * inputs.sign
    size = np.broadcast_to(inputs.size, error.shape)
    offset = np.einsum("ij,ij->i", signed, size)
    signed *= np.sign(offset)[:, None]
    helps = signed > 0
    # only where it helps: |e|
    cost = (1 - 2 * signed) * inputs.spread
    search = _Search(cost, size, np.abs(offset).astype(np.float64))
    # among those of low cost are nearly always enough
    moved = search.move_cheapest(helps & (cost <= _likely_bound(search.left, inputs)))
    short = search.left > inputs.size.mean(1)
    if short.any():
        moved += search.move_cheapest(helps & short[:, None])
    row, column = np.divmod(np.concatenate(moved), error.shape[1])
    return row, column


def _likely_bound(left: NDArray[np.float64], inputs: _Inputs) -> Floats:
    """Up to which cost weights are needed, if errors are spread evenly: half have the right sign, a share of bound / spread costs less."""
    size = inputs.size.astype(np.float64)
    typical = (inputs.spread * size).mean(1, keepdims=True) / (size.mean(1, keepdims=True) + TINY)
    spread = inputs.spread + typical + TINY
    density, reach = (0.5 / spread).sum(1), (0.5 * size / spread).sum(1)
    count = left * density / (reach + TINY)
    bound: Floats = ((count + 2 * np.sqrt(count) + 2) / density).astype(np.float32)[:, None]
    return bound


@dataclass(eq=False)
class _Search:
    """Weights go to their other neighbour, those first that cost least.

    Attributes:
        cost: of each weight; infinite for one that would not help, or has gone.
        size: |μ| of what it reads.
        left: |e·μ| of each row; below 0 once it is on the other side.
    """

    cost: Floats
    size: Floats
    left: NDArray[np.float64]

    def move_cheapest(self, among: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
        """Moves those that pay, and returns where they are.

        The large ones first leave what they are too large for to smaller ones; at last one may go that is up to twice what is left.
        """
        place = np.flatnonzero(among)
        row = place // among.shape[1]
        cost, size = np.take(self.cost, place), self.size[row, place - row * among.shape[1]]
        order = np.lexsort((cost, row))
        place, row, size, needed = place[order], row[order], size[order], (cost + size)[order]
        moved = []
        for share in (1, 1, 2):
            pays = self._pays(row, size, needed, share)
            needed[pays] = np.inf
            self.left = self.left - np.bincount(row[pays], size[pays], len(self.left))
            moved.append(place[pays])
        np.put(self.cost, np.concatenate(moved), np.inf)
        return moved

    def _pays(self, row: NDArray[np.intp], size: Floats, needed: Floats, share: int) -> NDArray[np.intp]:
        """Which of some weights, in their order, need less than this share of what is left when it is their turn."""
        fits = np.flatnonzero(needed < share * self.left[row])
        row, size = row[fits], size[fits]
        total = np.concatenate(([0.0], np.cumsum(size, dtype=np.float64)))
        before = total[:-1] - total[np.searchsorted(row, np.arange(len(self.left)))][row]
        pays: NDArray[np.intp] = fits[needed[fits] < share * (self.left[row] - before)]
        return pays
