"""Weights as integers, rounded so that what their errors do to the output channel cancels.

Rounded each to the nearest, the errors e of n weights turn the mean inputs μ into an offset of the channel, e·μ, the same for every sample:
averages later in a network take out noise, and leave that. Here some weights go to their other neighbour, until e·μ is about 0: those
first for which that costs least, since the variance of what they read is small, or the other neighbour nearly as close. Greedily, it is

    min  (e·μ)² + Σ e²·σ²     the expected square of the channel's error, if channels are independent

With μ = σ = 1 it is the rule for channels of SQuant (Guo et al. 2022, arXiv:2202.07471).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Layer:
    """Weights, and what they are rounded by.

    Attributes:
        weight: f32 of any shape.
        qparams: per tensor, or per channel of the axis.
        axis: of the output channels; where it is 1, each group has its own channels there.
        groups: of channels; each reads its own.
        moments: of the input channels; None: the same for all.
    """

    weight: Tensor
    qparams: QParams
    axis: int = 0
    groups: int = 1
    moments: Moments | None = None

    @property
    def by_group(self) -> Tensor:
        """[groups with output channels of their own, channels, ...]"""
        return self.weight.reshape(self.groups if self.axis else 1, -1, *self.weight.shape[1:]).movedim(self.axis + 1, 1)

    @property
    def kind(self) -> Hashable:
        """Layers of one kind can be rounded at once: their rows are of one length, and their integers of one type."""
        channels = self.groups * self.weight.shape[1] if self.axis else self.weight.shape[0]
        return self.weight.numel() // max(channels, 1), self.qparams.spec.torch_dtype


def quantize_balanced(layers: Sequence[Layer]) -> list[Tensor]:
    """q' = q + d:  q = quantize(w), d in {−1, 0, 1}, and Σ (q' − z − w / s)·μ is about 0 in each output channel.

    A weight that is on the grid keeps its q, also 0. One beyond the range counts as if it were at its end.
    """
    found: dict[int, Tensor] = {}
    for places in _batches(layers):
        batch = [layers[place] for place in places]
        rows = [_rows_of(layer) for layer in batch]
        integers = _round(_joined(rows), batch[0].qparams.spec.torch_dtype)
        of_each = torch.split(integers, [len(each.weight) for each in rows])
        found |= zip(places, map(_shaped, of_each, batch), strict=True)
    return [found[place] for place in range(len(layers))]


def _batches(layers: Sequence[Layer]) -> Iterator[list[int]]:
    """Places of layers of one kind, as many as are rounded at once, because for small ones the calls take longer than the arithmetic."""
    by_kind: dict[Hashable, list[int]] = {}
    for place, layer in enumerate(layers):
        by_kind.setdefault(layer.kind, []).append(place)
    for alike in by_kind.values():
        batch: list[int] = []
        free = _PART
        for place in alike:
            free -= layers[place].weight.numel()
            if batch and free < 0:
                yield batch
                batch, free = [], _PART - layers[place].weight.numel()
            batch.append(place)
        yield batch


@dataclass(frozen=True, eq=False)
class _Rows:
    """Weights of output channels, f32 [rows, n].

    Attributes:
        grid: the integers q of each row: x · inverse + zero_point, from least + zero_point to most + zero_point. f32 [4, rows, 1]
        inputs: what each weight reads: |μ|, the sign of μ, and σ² / |μ|, or 0 where μ is. f32 [3, rows, n], or [3, 1, n] for all rows
    """

    weight: Floats
    grid: Floats
    inputs: Floats

    def part(self, some: slice) -> _Rows:
        """Some of them."""
        return _Rows(self.weight[some], self.grid[:, some], self.inputs if self.inputs.shape[1] == 1 else self.inputs[:, some])


def _joined(rows: Sequence[_Rows]) -> _Rows:
    """Those of several layers."""
    if len(rows) == 1:
        return rows[0]
    inputs = [np.broadcast_to(each.inputs, (3, *each.weight.shape)) for each in rows]
    weight, grid = np.concatenate([each.weight for each in rows]), np.concatenate([each.grid for each in rows], 1)
    return _Rows(weight, grid, np.concatenate(inputs, 1))


def _rows_of(layer: Layer) -> _Rows:
    grouped = layer.by_group
    groups, channels = grouped.shape[:2]
    weight = grouped.flatten(2).flatten(0, 1).cpu().to(torch.float32).numpy()
    return _Rows(weight, _grid(layer.qparams, channels, groups), _inputs(layer, weight, grouped.shape[2]))


def _grid(qparams: QParams, channels: int, groups: int) -> Floats:
    """Of the channels of each group, one group after the other."""
    scale, zero_point = (np.broadcast_to(each.cpu().numpy(), channels) for each in (qparams.scale, qparams.zero_point))
    zeros = zero_point.astype(np.float32)
    return np.tile([1 / scale, zeros, qparams.spec.qmin - zeros, qparams.spec.qmax - zeros], groups)[..., None]


def _inputs(layer: Layer, weight: Floats, channels: int) -> Floats:
    """Args: channels: of each group."""
    if layer.moments is None:
        return np.ones((3, 1, weight.shape[1]), np.float32)
    mean, variance = (
        np.repeat(each.cpu().numpy().reshape(layer.groups, channels), weight.shape[1] // channels, 1)
        for each in (layer.moments.mean, layer.moments.variance)
    )
    size = np.abs(mean)
    spread = np.divide(variance, size, out=np.zeros_like(size), where=size > 0)
    of_groups = np.stack([size, np.sign(mean), spread]).astype(np.float32)
    return np.repeat(of_groups, len(weight) // layer.groups, 1) if layer.groups > 1 else of_groups


def _shaped(rows: Tensor, layer: Layer) -> Tensor:
    """Rows as the weights of their layer, in memory of their own."""
    shaped = rows.to(layer.weight.device).reshape(layer.by_group.shape).movedim(1, layer.axis + 1).flatten(0, 1)
    return shaped.clone(memory_format=torch.contiguous_format)


def _round(rows: _Rows, dtype: torch.dtype) -> Tensor:
    """[rows, n] → integers of the same shape."""
    found = torch.empty(rows.weight.shape, dtype=dtype)
    step = max(_PART // max(rows.weight.shape[1], 1), 1)
    for part in (slice(first, first + step) for first in range(0, len(found), step)):
        found[part] = torch.from_numpy(_round_part(rows.part(part)))
    return found


def _round_part(rows: _Rows) -> Floats:
    """[rows, n] → integers of the same shape, in float32."""
    inverse, zero_point, least, most = rows.grid
    steps = rows.weight * inverse
    np.fmax(steps, least, out=steps)  # NaN becomes the least
    np.minimum(steps, most, out=steps)
    nearest: Floats = np.rint(steps)
    error = np.subtract(nearest, steps, out=steps)
    moved = _worth_moving(error, rows.inputs)
    nearest.reshape(-1)[moved] -= np.sign(error.reshape(-1)[moved])
    nearest += zero_point
    return nearest


def _worth_moving(error: Floats, inputs: Floats) -> NDArray[np.intp]:
    """Places of the weights that go to their other neighbour.

    Moving a weight whose error is on the side of e·μ takes |μ| off that, and adds (1 − 2|e|)·σ² = cost·|μ| to the other term: it pays where
    cost + |μ| < 2·|e·μ|.
    """
    size, sign, spread = inputs
    signed = error * sign
    offset = np.einsum("ij,ij->i", signed, np.broadcast_to(size, error.shape))
    signed *= np.sign(offset)[:, None]
    helps = signed > 0
    # only where it helps: |e|
    signed *= -2
    signed += 1
    cost = np.multiply(signed, spread, out=signed)
    search = _Search(cost, size, np.abs(offset).astype(np.float64))
    # among those of low cost are nearly always enough
    cheap = cost <= _likely_bound(search.left, size, spread)
    moved = search.move_cheapest(np.logical_and(cheap, helps, out=cheap))
    short = search.left > size.mean(1)
    if short.any():
        moved += search.move_cheapest(helps & short[:, None])
    return np.concatenate(moved)


def _likely_bound(left: NDArray[np.float64], size: Floats, spread: Floats) -> Floats:
    """Up to which cost weights are needed, if errors are spread evenly: half have the right sign, a share of bound / spread costs less."""
    sizes = size.astype(np.float64)
    typical = (spread * sizes).mean(1, keepdims=True) / (sizes.mean(1, keepdims=True) + TINY)
    typical = spread + typical + TINY
    density, reach = (0.5 / typical).sum(1), (0.5 * sizes / typical).sum(1)
    count = left * density / (reach + TINY)
    bound: Floats = ((count + 2 * np.sqrt(count) + 2) / density).astype(np.float32)[:, None]
    return bound


@dataclass(eq=False)
class _Search:
    """Weights go to their other neighbour, those first that cost least.

    Attributes:
        cost: of each weight, 0 or more where it would help; infinite for one that has gone.
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
        row, column, cost = self._by_cost(np.flatnonzero(among))
        size = self.size[0][column] if len(self.size) == 1 else self.size[row, column]
        place, needed = row * among.shape[1] + column, cost + size
        moved = []
        for share in (1, 1, 2):
            pays = self._pays(row, size, needed, share)
            needed[pays] = np.inf
            self.left = self.left - np.bincount(row[pays], size[pays], len(self.left))
            moved.append(place[pays])
        np.put(self.cost, np.concatenate(moved), np.inf)
        return moved

    def _by_cost(self, place: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        """Row, column and cost of the weights at these places, row by row, in each by cost, and of equal ones the first in front.

        The three are sorted as one integer, of which each is some bits: floats of 0 and more are in the order of their bits.
        """
        columns = self.cost.shape[1]
        bits = max(columns - 1, 1).bit_length()
        row, column = np.divmod(place, columns)
        key = (row << 32) | np.take(self.cost, place).view(np.uint32)
        key = np.sort((key << bits) | column)
        return key >> (bits + 32), key & ((1 << bits) - 1), (key >> bits).astype(np.uint32).view(np.float32)

    def _pays(self, row: NDArray[np.intp], size: Floats, needed: Floats, share: int) -> NDArray[np.intp]:
        """Which of some weights, in their order, need less than this share of what is left when it is their turn."""
        fits = np.flatnonzero(needed < share * self.left[row])
        row, size = row[fits], size[fits]
        total = np.concatenate(([0.0], np.cumsum(size, dtype=np.float64)))
        before = total[:-1] - total[np.searchsorted(row, np.arange(len(self.left)))][row]
        pays: NDArray[np.intp] = fits[needed[fits] < share * (self.left[row] - before)]
        return pays
