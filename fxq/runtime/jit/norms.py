"""How softmax and norms are planned: which dimensions of their operand are the rows that they sum over."""

from __future__ import annotations

from math import prod
from typing import Any

from fxq.runtime.jit.kernels.norm import plan_group_norm, plan_layer_norm
from fxq.runtime.jit.kernels.softmax import LONGEST, plan_softmax
from fxq.runtime.jit.planner import Site, Unplannable
from fxq.runtime.jit.views import View, channels_last, row_major


def plan_softmax_step(site: Site) -> None:
    """Along any dimension, which becomes the innermost one; the first of the others is the batch."""
    op: Any = site.step.function
    rank, length = len(site.kind.shape), site.kind.shape[op.dim]
    dim = op.dim % rank
    if length > LONGEST:
        raise Unplannable(f"sums {length} elements along dimension {dim}")
    order = (*(other for other in range(rank) if other != dim), dim)
    x, y = (view.in_order(order) for view in (site.in_order(0, order), site.planner.place(site.value, order)))
    rows = row_major(rank)
    site.call(plan_softmax(op, x.layout(rows), y.layout(rows), site.planner.isa), x=x, y=y)


def plan_layer_norm_step(site: Site) -> None:
    """Over the last dimensions, as one where they are several."""
    op: Any = site.step.function
    rank, kept = len(site.kind.shape), len(site.kind.shape) - len(op.normalized_shape)
    if kept < 1:
        raise Unplannable(f"normalizes all dimensions of {site.kind.shape}")
    order = row_major(rank)
    x, y = site.in_order(0, order), site.planner.place(site.value, order)
    rows = _in_rows(x, kept) or _in_rows(site.relaid(0, order), kept)
    results = _in_rows(y, kept)
    if rows is None or results is None:
        raise Unplannable("normalizes rows that do not lie in one piece")
    order = row_major(kept + 1)
    site.call(plan_layer_norm(op, rows.layout(order), results.layout(order), site.planner.isa), x=rows, y=results)


def _in_rows(view: View, kept: int) -> View | None:
    """[*lead, n] of [*lead, *normalized]; None where these are no adjacent bytes."""
    shape = (*view.shape[:kept], prod(view.shape[kept:]))
    return view.moved(lambda tensor: tensor.view(shape) if tensor[(0,) * kept].is_contiguous() else tensor.clone())


def plan_group_norm_step(site: Site) -> None:
    """Statistics of each group, then each element."""
    op: Any = site.step.function
    x, y = site.image(0), site.planner.place(site.value)
    order = channels_last(len(x.shape))
    planned = plan_group_norm(op, x.layout(order), y.layout(order), site.planner.isa)
    statistics = site.planner.scratch(site.step.name, x.shape[0], planned.nbytes)
    site.call(planned.statistics, x=x, y=statistics)
    site.call(planned.apply, x=x, statistics=statistics, y=y)
