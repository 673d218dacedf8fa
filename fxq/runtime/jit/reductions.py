"""How sums, means and maxima over dimensions are planned: as pools with one window for each image and channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import Tensor

from fxq.graph import functional
from fxq.runtime.integer.pool import AdaptiveMaxPool
from fxq.runtime.jit.kernels.pool import plan_max_pool, plan_mean_pool
from fxq.runtime.jit.planner import Site, Unplannable
from fxq.runtime.jit.views import View, channels_last, row_major, strides_in

_SPATIAL = 3  # most dimensions of a window


@dataclass(frozen=True)
class Reduced:
    """Which dimensions go: the first of the others is the batch, the rest of them are the channels, in one.

    Attributes:
        rank: of the operand.
        dims: from 0, in order.
    """

    rank: int
    dims: tuple[int, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(dim for dim in range(self.rank) if dim not in self.dims)

    def ordered(self, tensor: Tensor) -> Tensor:
        """[batch, ..., *window], each dimension as it is; of length 1 where there is no batch."""
        ordered = tensor.permute(*self.kept, *self.dims)
        return ordered if 0 in self.kept else ordered.unsqueeze(0)

    def image(self, tensor: Tensor) -> Tensor:
        """[batch, channels, *window]"""
        ordered, window = self.ordered(tensor), len(self.dims)
        channels = ordered.ndim - window - 1
        image = ordered.flatten(1, channels) if channels else ordered.unsqueeze(1)
        return image.flatten(1 + _SPATIAL) if window > _SPATIAL else image


def plan_mean(site: Site) -> None:
    """Mean and Sum."""
    op: Any = site.step.function
    x, y = _images(site, op.dims, keepdim=op.keepdim)
    order = channels_last(len(x.shape))
    site.call(plan_mean_pool(op, x.layout(order), y.layout(order), site.planner.isa, signed=site.signed[0]), x=x, y=y)


def plan_extreme(site: Site) -> None:
    """amax and amin: the largest byte stands for the largest number."""
    dims, keepdim = site.step.kwargs.get("dim", ()), site.step.kwargs.get("keepdim", False)
    x, y = _images(site, dims if isinstance(dims, Sequence) else (dims,), keepdim=keepdim)
    order, pool = channels_last(len(x.shape)), AdaptiveMaxPool((1,) * (len(x.shape) - 2))
    smallest = site.step.function is functional.amin
    site.call(plan_max_pool(pool, x.layout(order), y.layout(order), site.planner.isa, smallest=smallest), x=x, y=y)


def _images(site: Site, dims: Sequence[int], *, keepdim: bool) -> tuple[View, View]:
    """Operand and result, [batch, channels, *window] and the same with windows of 1."""
    source = site.view(0)
    rank = len(source.shape)
    reduced = Reduced(rank, tuple(sorted(dim % rank for dim in dims)) if dims else tuple(range(rank)))
    target = site.planner.place(site.value, row_major(len(site.kind.shape)))
    whole = target if keepdim else target.moved(lambda tensor: tensor[_with_ones(reduced)])
    y = whole.moved(reduced.image) if whole is not None else None
    if y is None:
        raise Unplannable(f"writes {site.kind.shape} where its elements are not adjacent")
    x = source.moved(reduced.image)
    return x if x is not None and _has_adjacent_channels(x) else _copied(site, reduced), y


def _with_ones(reduced: Reduced) -> tuple[Any, ...]:
    """The index that puts dimensions of length 1 in the places of those that went."""
    return tuple(None if dim in reduced.dims else slice(None) for dim in range(reduced.rank))


def _has_adjacent_channels(view: View) -> bool:
    return view.strides[1] == 1 or view.shape[1] == 1


def _copied(site: Site, reduced: Reduced) -> View:
    """The operand as the kernel reads it: windows outside, channels inside."""
    ordered = site.view(0).moved(reduced.ordered)
    assert ordered is not None, "any order of dimensions has strides"
    window = range(len(ordered.shape) - len(reduced.dims), len(ordered.shape))
    order = (0, *window, *range(1, window.start))
    room = site.planner.scratch(site.step.name, ordered.shape[0], prod(ordered.shape[1:]))
    copy = replace(room, shape=ordered.shape, strides=strides_in(order, ordered.shape))
    site.planner.copy(site.step.name, ordered, copy)
    x = copy.moved(lambda tensor: Reduced(tensor.ndim, tuple(window)).image(tensor))
    assert x is not None and _has_adjacent_channels(x), "a dense copy has its channels inside"
    return x
