"""How attention is planned as a step of a program."""

from __future__ import annotations

import math
from typing import Any

import torch

from fxq.runtime.jit.kernel import Planned
from fxq.runtime.jit.kernels.attention import Attention, Heads, Masked
from fxq.runtime.jit.kernels.keys import Geometry, PackKeys, Steps, packed_bytes
from fxq.runtime.jit.planner import Site, Unplannable
from fxq.runtime.jit.views import View, row_major
from fxq.runtime.region import Step, Value, fill_in

# [images, heads, rows, features]: the result lies as [images, rows, heads, features], for the projection behind it
_ROWS_OUTSIDE = (0, 2, 1, 3)


def drops_nothing(step: Step) -> bool:
    """Whether all weights count."""
    return not step.kwargs.get("dropout")


def plan_attention(site: Site) -> None:
    """Packs the keys, then does the rest; all tensors are read where they lie, as long as features are adjacent."""
    planner = site.planner
    options: Any = fill_in(site.step.kwargs, planner.values)  # scale, and whether it is causal, may be found out from sizes
    rank = len(site.kind.shape)
    if rank not in (3, 4):
        raise Unplannable(f"has {rank} dimensions, not images, heads, rows and features")
    query, keys, values = (_with_heads(site.in_order(position, row_major(rank))) for position in range(3))
    mask = _mask(site, (*query.shape[:3], keys.shape[2]))
    y = _with_heads(planner.place(site.value, _ROWS_OUTSIDE if rank == 4 else row_major(3)))
    heads, shared = query.shape[1], keys.shape[1]
    kind: Masked = "" if mask is None else "bool" if mask.element == 1 else "float"
    shape = Heads(heads, heads // shared, query.shape[3], values.shape[3], kind, bool(options.get("is_causal")))
    tensors = {"x": query, "keys": keys, "values": values, **({"mask": mask} if mask else {}), "y": y}
    scale = options.get("scale")
    if isinstance(scale, torch.Tensor):
        raise Unplannable("has a tensor as its scale")
    steps = {name: _steps(view) for name, view in tensors.items()}
    words = Geometry(query.shape[2], keys.shape[2], 1 / math.sqrt(query.shape[3]) if scale is None else scale, steps).words
    packed = planner.scratch(site.step.name, keys.shape[0], shared * packed_bytes(keys.shape[2], keys.shape[3], planner.isa))
    site.call(Planned(PackKeys(planner.isa, shared, keys.shape[3]), (words,)), x=keys, y=packed)
    site.call(Planned(Attention(planner.isa, shape), (words,), shape.macs(query.shape[2], keys.shape[2])), **{**tensors, "keys": packed})


def _with_heads(view: View) -> View:
    """Of images without heads, one for each."""
    added = view if len(view.shape) == 4 else view.moved(lambda tensor: tensor.unsqueeze(1))
    assert added is not None, "a dimension more copies nothing"
    return added


def _mask(site: Site, scores: tuple[int, ...]) -> View | None:
    """The mask as it is repeated over the scores."""
    given: Any = site.step.kwargs.get("mask")
    if given is None:
        return None
    if not isinstance(given, Value) or site.planner.kind(given.index).dtype not in (torch.bool, torch.float32):
        raise Unplannable("has a mask that is neither bool nor float32")
    view = site.planner.views[given.index]
    if view.strides[-1] != 1 and view.shape[-1] > 1:
        view = site.dense(given.index, row_major(len(view.shape)))
    if len(view.shape) == len(site.kind.shape):
        view = _with_heads(view)
    repeated = view.moved(lambda mask: mask.expand(scores))
    assert repeated is not None, "expanding copies nothing"
    if repeated.strides[3] != 1 and scores[3] > 1:
        raise Unplannable("has a mask with one element for all keys")
    return repeated


def _steps(view: View) -> Steps:
    return Steps(*(stride * view.element for stride in view.strides[:3]))
