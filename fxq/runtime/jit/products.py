"""How a product of two activations is planned: which batches of matrices its operands are."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from fxq.runtime.jit.kernels.matmul import plan_matmul
from fxq.runtime.jit.kernels.pack import Matrices
from fxq.runtime.jit.planner import Site, Unplannable
from fxq.runtime.jit.views import View, row_major


def plan_matmul_step(site: Site) -> None:
    """Packs the second operand, multiplies. Where the first one has its groups inside rows, as heads in attention, the result has too."""
    planner, is_vector = site.planner, [len(site.view(position).shape) == 1 for position in range(2)]
    placed = planner.place(site.value, _order(site.view(0), len(site.kind.shape)))
    whole = _with_one(placed, _ROW if is_vector[0] else _COLUMN) if any(is_vector) else placed
    a, b = _operand(site, 0, whole.shape, adjacent=(-1,)), _operand(site, 1, whole.shape, adjacent=(-1, -2))
    y = _batched(whole, whole.shape)
    assert y is not None, "the result is dense in an order that keeps its groups together"
    op: Any = site.step.function
    planned = plan_matmul(op, (_matrices(a), _matrices(b), _matrices(y)), planner.isa, signed=site.signed)
    packed = planner.scratch(site.step.name, b.shape[0] if b.strides[0] else 1, planned.packed_bytes)
    site.call(planned.pack, x=b, y=packed)
    site.call(planned.product, x=a, packed=packed, y=y)


# where a vector gets its other dimension, of length 1: as the first operand and in the result, or as the second one
_ROW, _COLUMN = -2, -1


def _operand(site: Site, position: int, whole: tuple[int, ...], adjacent: tuple[int, ...]) -> View:
    """[images, groups, rows, columns], where it lies if one of those dimensions is adjacent bytes and groups have one step; else a copy."""
    view = _as_matrix(site.view(position), position)
    if any(view.strides[dim] == 1 or view.shape[dim] == 1 for dim in adjacent):
        batched = _batched(view, whole)
        if batched is not None:
            return batched
    copied = site.relaid(position, row_major(len(site.view(position).shape)))
    batched = _batched(_as_matrix(copied, position), whole)
    if batched is None:
        raise Unplannable(f"repeats {view.shape} along some of the outer dimensions of {whole}, and not along others")
    return batched


def _as_matrix(view: View, position: int) -> View:
    return _with_one(view, (_ROW, _COLUMN)[position]) if len(view.shape) == 1 else view


def _with_one(view: View, dim: int) -> View:
    moved = view.moved(lambda tensor: tensor.unsqueeze(dim))
    assert moved is not None, "a dimension of length 1 has any stride"
    return moved


def _order(a: View, rank: int) -> tuple[int, ...]:
    """The result's memory order: groups outside of rows, or inside where a has them there."""
    inside = rank > 3 and len(a.shape) == rank and a.strides[1] < a.strides[-2]
    return (0, rank - 2, *range(1, rank - 2), rank - 1) if inside else row_major(rank)


def _batched(view: View, whole: tuple[int, ...]) -> View | None:
    """[images, groups, rows, columns] of the shape of the product, with steps of 0 where it repeats; None if groups have several."""
    lead = whole[:-2]
    missing = len(lead) - (len(view.shape) - 2)
    shape, strides = ((1,) * missing + view.shape, (0,) * missing + view.strides)
    steps = [0 if own == 1 else stride for own, stride in zip(shape[:-2], strides[:-2], strict=True)]
    images, image = (lead[0], steps[0]) if lead else (1, 0)
    group = _collapsed(lead[1:], steps[1:])
    if group is None:
        return None
    return replace(view, shape=(images, prod(lead[1:]), *shape[-2:]), strides=(image, group, *strides[-2:]))


def _collapsed(shape: tuple[int, ...], strides: Any) -> int | None:
    """One step for all these dimensions together; None where they have none."""
    step, count = 0, 1
    for length, stride in reversed([pair for pair in zip(shape, strides, strict=True) if pair[0] > 1]):
        if count > 1 and stride != step * count:
            return None
        step = stride if count == 1 else step
        count *= length
    return step


def _matrices(view: View) -> Matrices:
    """Of a view [images, groups, rows, columns]; in bytes."""
    image, group, row, column = (stride * view.element for stride in view.strides)
    return Matrices(view.shape[2], view.shape[3], view.shape[1], row, column, group, image)
