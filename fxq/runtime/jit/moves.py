"""How ops that only move elements are planned: as another view of the same bytes where strides can say it, else as a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from fxq.graph import movement
from fxq.runtime.jit.kernels.copy import plan_fill
from fxq.runtime.jit.planner import Site, Unplannable
from fxq.runtime.jit.views import View, row_major
from fxq.runtime.region import Step, Value, fill_in


def plan_view(site: Site) -> None:
    """A part or another shape of the operand where strides can say it, else a copy."""
    source, planner = site.view(0), site.planner
    moved = source.moved(lambda tensor: site.step.run({**planner.values, site.operand(0): tensor}))
    if moved is not None and (site.value not in planner.frames or _is_part(site)):
        planner.views[site.value] = replace(moved, framed=source.framed and _is_part(site))
    elif moved is not None:
        planner.copy(site.step.name, moved, planner.place(site.value))
    elif site.step.function in RESHAPES:
        _copy_reshaped(site, source)
    else:
        raise Unplannable("moves elements in a way that strides cannot say")


def _copy_reshaped(site: Site, source: View) -> None:
    """Elements go in the order of the source's shape, so the target has to have that shape too."""
    planner = site.planner
    target = planner.place(site.value, planner.orders.get(site.value))
    reshaped = target.moved(lambda tensor: tensor.reshape(source.shape))
    if reshaped is None:
        rows = planner.allocate(site.value, row_major(len(target.shape)))
        planner.copy(site.step.name, source, rows.in_shape(source.shape))
        planner.copy(site.step.name, rows, target)
    else:
        planner.copy(site.step.name, source, reshaped)


def plan_flip(site: Site) -> None:
    """A copy of what is read backwards."""
    source = site.view(0)
    for dim in {dim % len(source.shape) for dim in site.step.kwargs["dims"]}:
        source = source.backwards(dim)
    site.planner.copy(site.step.name, source, site.planner.place(site.value))


def plan_repeat_interleave(site: Site) -> None:
    """[..., n, ...] → [..., n·r, ...]: each slice into r places side by side."""
    dim, repeats = site.step.kwargs["dim"], fill_in(site.step.kwargs["repeats"], site.planner.values)
    if dim is None:
        raise Unplannable("repeats elements of all dimensions in one row")
    place = dim % len(site.kind.shape)
    source = site.view(0).moved(lambda tensor: _each_repeated(tensor, place, repeats))
    target = site.planner.place(site.value).moved(lambda tensor: _split(tensor, place, (-1, repeats)))
    assert source is not None and target is not None, "strides can say any split"
    site.planner.copy(site.step.name, source, target)


def _each_repeated(tensor: Tensor, dim: int, repeats: int) -> Tensor:
    """[..., n, ...] → [..., n, r, ...], without a copy."""
    return tensor.unsqueeze(dim + 1).expand(*tensor.shape[: dim + 1], repeats, *tensor.shape[dim + 1 :])


def plan_setitem(site: Site) -> None:
    """A copy, and then its part: another tensor, or a number."""
    planner, name, (_, other) = site.planner, site.step.name, site.step.args
    y = planner.place(site.value)
    planner.copy(name, site.view(0), y)
    index = fill_in(site.step.kwargs["index"], planner.values)
    part = None if any(isinstance(leaf, Tensor) for leaf in tree_leaves(index)) else y.moved(lambda tensor: tensor[index])
    if part is None or not part.shape:
        raise Unplannable("writes into places that strides cannot say")
    if not isinstance(other, Value):
        site.call(plan_fill(part, other + 128 * site.kind.signed, planner.isa), y=part)
        return
    source = planner.views[other.index].moved(lambda tensor: tensor.expand(part.shape))
    assert source is not None, "expanding copies nothing"
    planner.copy(name, source, part)


RESHAPES = (movement.reshape, movement.flatten, movement.unflatten)


def _is_part(site: Site) -> bool:
    """Whether the result is some channels of its operand: then the border around them is the operand's."""
    before, after = site.view(0).shape, site.kind.shape
    return len(before) == len(after) > 2 and before[0] == after[0] and before[2:] == after[2:]


def plan_alias(site: Site) -> None:
    site.planner.views[site.value] = site.view(0)


def plan_cat(site: Site) -> None:
    """Where the operands lie side by side already, or were written into their places, nothing is left to do."""
    planner = site.planner
    cat = concatenation(site.step, len(site.kind.shape))
    views, dim = [planner.views[operand] for operand in cat.operands], cat.dim
    if not any(site.value in placed for placed in (planner.views, planner.frames, planner.homes)):
        joined = _side_by_side(views, dim)
        if joined is not None:
            planner.views[site.value] = joined
            return
    target, start = planner.place(site.value), 0
    for view in views:
        place = target.part(dim, start, view.shape[dim])
        start += view.shape[dim]
        if place != view:
            planner.copy(site.step.name, view, place)


@dataclass(frozen=True)
class Concatenation:
    """The operands of a cat, and its dimension as an index from 0."""

    operands: tuple[int, ...]
    dim: int


def concatenation(step: Step, rank: int) -> Concatenation:
    """Reads a step that calls cat."""
    tensors = step.args[0] if step.args else step.kwargs["tensors"]
    dim = step.kwargs.get("dim", step.args[1] if len(step.args) > 1 else 0)
    return Concatenation(tuple(value.index for value in tensors), dim % rank)


def _side_by_side(views: list[View], dim: int) -> View | None:
    """The views as one, if each begins where the one before it ends."""
    first, extent = views[0], views[0].shape[dim]
    for view in views[1:]:
        if view != first.part(dim, extent, view.shape[dim]):
            return None
        extent += view.shape[dim]
    return first.part(dim, 0, extent)


def plan_nothing(site: Site) -> None:
    """Sizes are known when a program is planned."""


def plan_stack(site: Site) -> None:
    """Each operand into its slice."""
    planner = site.planner
    joined = concatenation(site.step, len(site.kind.shape))
    target = planner.place(site.value)
    for number, operand in enumerate(joined.operands):
        slice_of = planner.views[operand].moved(lambda tensor: tensor.unsqueeze(joined.dim))
        assert slice_of is not None, "a dimension of length 1 has any stride"
        planner.copy(site.step.name, slice_of, target.part(joined.dim, number, 1))


_split = movement.unflatten


@dataclass(frozen=True)
class Shuffle:
    """A movement that splits dimensions, permutes them, and joins some: both sides are views of one shape with more dimensions.

    Attributes:
        source: the operand, split and permuted; gets the step's other argument.
        target: the result, split alike.
    """

    source: Callable[[Tensor, int], Tensor]
    target: Callable[[Tensor, int], Tensor]


SHUFFLES: Mapping[Any, Shuffle] = {
    # [N, C·r·r, H, W] → [N, C, H·r, W·r]
    movement.pixel_shuffle: Shuffle(
        lambda x, r: _split(x, 1, (-1, r, r)).permute(0, 1, 4, 2, 5, 3),
        lambda y, r: _split(_split(y, 3, (-1, r)), 2, (-1, r)),
    ),
    # [N, C, H·r, W·r] → [N, C·r·r, H, W]
    movement.pixel_unshuffle: Shuffle(
        lambda x, r: _split(_split(x, 3, (-1, r)), 2, (-1, r)).permute(0, 1, 3, 5, 2, 4),
        lambda y, r: _split(y, 1, (-1, r, r)),
    ),
    # [N, g·C, ...] → [N, C·g, ...]
    movement.channel_shuffle: Shuffle(
        lambda x, groups: _split(x, 1, (groups, -1)).transpose(1, 2),
        lambda y, groups: _split(y, 1, (-1, groups)),
    ),
}


def plan_shuffle(site: Site) -> None:
    """One copy between the views of SHUFFLES."""
    if len(site.kind.shape) != 4:
        raise Unplannable(f"shuffles {site.kind.shape}, which is no batch of images")
    shuffle, factor = SHUFFLES[site.step.function], _factor(site.step)
    source = site.view(0).moved(lambda tensor: shuffle.source(tensor, factor))
    target = site.planner.place(site.value).moved(lambda tensor: shuffle.target(tensor, factor))
    assert source is not None and target is not None, "strides can say any split"
    site.planner.copy(site.step.name, source, target)


def _factor(step: Step) -> int:
    """The argument beside the tensor."""
    factor: int = next(value for value in (*step.args[1:], *step.kwargs.values()))
    return factor
