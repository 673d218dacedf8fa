"""Borders that are added in front of a convolution, as padding of the convolution."""

from __future__ import annotations

import torch
from torch.fx import Node

from fxq.graph.annotation import origins_of, set_origins, tensor_type
from fxq.graph.functional import spatial_padding
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, write_call
from fxq.graph.reasons import Reason, Why
from fxq.patterns.matcher import Match

_Border = tuple[int, int]  # (before, after)


def fold_pad(match: Match) -> Node:
    """conv(pad(x, p), padding=q) = conv(x, padding=p + q)"""
    node, call = match.anchor, _call(match.anchor)
    weight = torch.empty(_kernel(call), device="meta")
    own = spatial_padding(call.operands["padding"], weight, call.operands["dilation"])
    added = _borders(_call(match.nodes["pad"]).operands["pad"], len(own))
    padding = tuple((p[0] + q[0], p[1] + q[1]) for p, q in zip(added, own, strict=True))
    even = all(before == after for before, after in padding)
    folded = tuple(before for before, _ in padding) if even else padding
    write_call(node, Call(call.op, {**call.operands, "input": match.values["X"], "padding": folded}))
    set_origins(node, origins_of(node) + origins_of(match.nodes["pad"]))
    return node


def adds_zeros(match: Match) -> Reason | None:
    """The border is of zeros, known, and around the spatial dimensions only."""
    node = match.nodes["pad"]
    operands, rank = _call(node).operands, len(_kernel(_call(match.anchor))) - 2
    cells = operands["pad"]
    known = isinstance(cells, tuple) and all(isinstance(each, int) and each >= 0 for each in cells)
    if operands["mode"] == "constant" and not operands["value"] and known and not any(cells[2 * rank :]):
        return None
    return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{node.name} does more than to add zeros around the pixels")


def _borders(cells: tuple[int, ...], rank: int) -> list[_Border]:
    """The pad operand, which goes from the last dimension backwards, for each spatial dimension."""
    from_last = [*zip(cells[::2], cells[1::2], strict=True), *[(0, 0)] * rank]
    return from_last[:rank][::-1]


def _kernel(conv: Call) -> tuple[int, ...]:
    weight = tensor_type(conv.operands["weight"])
    assert weight is not None
    return weight.shape


def _call(node: Node) -> Call:
    call = call_of(node)
    assert call is not None
    return call
