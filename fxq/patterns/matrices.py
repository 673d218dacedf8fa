"""Products with a matrix of the model, as linear: what stands on the right becomes a weight, with a scale for each output."""

from __future__ import annotations

from torch.fx import Node

from fxq.graph.constants import constant_of, replace_constant
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, ops_by_name, write_call
from fxq.graph.reasons import Reason, Why
from fxq.graph.spellings import normal_form
from fxq.patterns.matcher import Match


def weigh(match: Match) -> Node:
    """x · C = linear(x, Cᵀ)"""
    constant = constant_of(match.values["C"])
    assert constant is not None
    return _become_linear(match, replace_constant(match.values["C"], constant.detach().t().contiguous()))


def weigh_transposed(match: Match) -> Node:
    """x · Cᵀ = linear(x, C)"""
    return _become_linear(match, match.values["C"])


def _become_linear(match: Match, weight: Node) -> Node:
    linear = ops_by_name()["linear"]
    write_call(match.anchor, Call(linear, normal_form(linear, {"input": match.values["X"], "weight": weight}, 1)))
    return match.anchor


def transposes(match: Match) -> Reason | None:
    """The movement of the matrix exchanges its dimensions."""
    node = match.nodes["transposed"]
    call = call_of(node)
    assert call is not None
    operands = call.operands
    exchanged = operands["dims"][0] % 2 == 1 if call.op.name == "permute" else (operands["dim0"] - operands["dim1"]) % 2 == 1
    return None if exchanged else Reason(Why.NOT_FUSABLE, match.anchor.name, f"{node.name} leaves the dimensions in their order")
