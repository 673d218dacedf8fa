"""Weights as integers, rounded so that the errors of each output channel cancel.

Rounded each to the nearest, n weights miss their sum by about √(n / 12) steps; what a layer reads with a mean other than 0, as it does
behind a relu, turns that into an offset of the channel. Here the few weights that are closest to their other neighbour go there, until
the sum is right to half a step. This is the rule for channels of SQuant (Guo et al. 2022, arXiv:2202.07471).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.graph.qtypes import QParams

# a step, in the whole numbers that errors are counted in: their sums are exact, in any order
_STEP = 2**20
# weights rounded at once: they stay in the cache
_PART = 2**17


def quantize_balanced(weight: Tensor, qparams: QParams, axis: int = 0, groups: int = 1) -> Tensor:
    """q' = q + d:  q = quantize(w), d in {−1, 0, 1}, and |Σ (q' − z − w / s)| ≤ ½ in each output channel.

    A weight that is on the grid keeps its q, also 0. One beyond the range counts as if it were at its end.

    Args:
        weight: f32 of any shape.
        qparams: per tensor, or per channel of this axis.
        axis: of the output channels; where it is 1, each group has its own channels there.
    """
    grouped = weight.reshape(groups if axis else 1, -1, *weight.shape[1:]).movedim(axis + 1, 1)  # [groups, channels, ...]
    rows = grouped.flatten(2).flatten(0, 1).cpu()
    grid = _grid(qparams, channels=grouped.shape[1], groups=len(grouped))
    step = max(_PART // max(rows.shape[1], 1), 1)
    found = torch.empty(rows.shape, dtype=qparams.spec.torch_dtype)
    for part in (slice(first, first + step) for first in range(0, len(rows), step)):
        found[part] = _round_rows(rows[part], _Grid(*(each[part] for each in grid)))
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


def _round_rows(rows: Tensor, grid: _Grid) -> Tensor:
    """[channels, n] → integers of the same shape, in float32."""
    product = (rows.to(torch.float32) * grid.inverse).numpy()
    steps = np.fmax(product, grid.least.numpy(), out=product)  # NaN becomes the least
    np.minimum(steps, grid.most.numpy(), out=steps)
    nearest = np.rint(steps)
    excess = ((nearest - steps) * np.float32(_STEP)).astype(np.int32)
    total = excess.sum(1, keepdims=True, dtype=np.int64)
    sign, count = np.sign(total).astype(np.int32), (np.abs(total) + _STEP // 2) // _STEP
    row, column = _farthest(np.multiply(excess, sign, out=excess), count[:, 0])
    nearest[row, column] -= sign[row, 0]
    return torch.from_numpy(nearest).add_(grid.zero_point)


def _farthest(errors: NDArray[np.int32], count: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the largest errors of each row are, as many as its count says; of equal ones the first. [channels, n] → rows, columns.

    Errors are at most half a step, and a row of them adds up to count ± ½ steps, so that many are above 0. If they are spread evenly, as
    rounding errors are, those above the first bound are enough.
    """
    channels, n = errors.shape
    bound = np.maximum(_STEP // 2 - (_STEP * (count + 4 * np.sqrt(count) + 4) / n).astype(np.int32), 0)
    bound[count == 0] = _STEP
    row, column = np.divmod(np.flatnonzero(errors > bound[:, None]), n)
    short = np.bincount(row, minlength=channels) < count
    if short.any():
        row, column = np.divmod(np.flatnonzero(errors > np.where(short, 0, bound)[:, None]), n)
    order = np.argsort(row * (2 * _STEP) - errors[row, column], kind="stable")
    row, column = row[order], column[order]
    chosen = np.arange(len(row)) - np.searchsorted(row, np.arange(channels))[row] < count[row]
    return row[chosen], column[chosen]
