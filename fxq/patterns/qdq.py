"""QDQ: rewrites of quantize and dequantize."""

from __future__ import annotations

from torch.fx import Node

from fxq.graph.qdq import qparams_of
from fxq.graph.reasons import Reason, Why
from fxq.patterns.expressions import Var, op
from fxq.patterns.matcher import Match
from fxq.patterns.rules import Rule

X = Var("X")

quantize = op("quantize")
dequantize = op("dequantize")


def same_qparams(match: Match) -> Reason | None:
    """Both stand for the same reals."""
    before, after = qparams_of(match.nodes["dequantize"]), qparams_of(match.nodes["quantize"])
    if before == after:
        return None
    return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{match.nodes['dequantize'].name} has other qparams: this is a requantization")


def bypass(match: Match) -> Node:
    """Readers of the anchor read X."""
    source: Node = match.values["X"]
    match.anchor.replace_all_uses_with(source)
    match.anchor.graph.erase_node(match.anchor)
    return source


QDQ = (
    # q(dq(x, a), a) → x, exactly: dequantizing and quantizing on the same grid gives the integer back
    Rule("cancel_qdq", quantize(dequantize(X)), when=(same_qparams,), rewrite=bypass),
)
