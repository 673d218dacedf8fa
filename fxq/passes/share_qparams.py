"""Values that must mean the same get one sharing group, and with it one set of qparams."""

from __future__ import annotations

from dataclasses import replace

from torch.fx import Node

from fxq.graph.annotation import quant_of, tensor_type, update_quant
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, op_of
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.graph.topology import classes
from fxq.passes.pipeline import Context


def share_qparams(module: FxqModule, context: Context) -> int:
    """y = max_pool(x): x and y in one group; y = cat(a, b): a, b and y in one group. Returns the number of groups.

    A value with fixed qparams (of sigmoid, say) shares only with values that have the same ones; an op that wants other
    qparams reads it requantized.
    """
    quantized = [node for node in module.graph.nodes if _output_spec(node) is not None]
    fixed: dict[Node, QParams | None] = {}
    pairs: list[tuple[Node, Node]] = []
    for node in quantized:
        operands = list(operands_kept(node).values())
        fixed[node] = _fixed(node, [fixed[operand] for operand in operands])
        pairs += [(operand, node) for operand in operands if fixed[operand] == fixed[node] and _output_spec(operand) == _output_spec(node)]
    groups = classes(quantized, pairs)
    for number, group in enumerate(groups):
        for node in group:
            update_quant(node, group=number)
    return len(groups)


def _output_spec(node: Node) -> QuantSpec | None:
    quant = quant_of(node)
    return None if quant is None else quant.output


def operands_kept(node: Node) -> dict[str, Node]:
    """Inputs whose qparams the node's result takes, by name; none for an op with qparams of its own.

    An op that computes nothing at these shapes takes them, too: rounding again would only lose. At other shapes its result fits as well,
    since an average lies between its elements.
    """
    call, quant = call_of(node), quant_of(node)
    if call is None or quant is None or not quant.is_int8:
        return {}
    return call.activations if call.op.keeps_qparams or _is_input(node, call) else {}


def _is_input(node: Node, call: Call) -> bool:
    return call.op.is_input_at_its_shape and tensor_type(node) == tensor_type(call.operands["input"])


def _fixed(node: Node, of_operands: list[QParams | None]) -> QParams | None:
    """Qparams that are known before any data is."""
    if of_operands:
        return of_operands[0] if all(qparams == of_operands[0] for qparams in of_operands) else None
    return fixed_qparams(node)


def fixed_qparams(node: Node) -> QParams | None:
    """The qparams that an int8 op's result always has; None where they are observed.

    They hold for the integers they are written for; with others (int8 activations) the result is observed like any other.
    """
    op, quant = op_of(node), quant_of(node)
    if op is None or quant is None or not quant.is_int8 or op.fixed is None or quant.output is None:
        return None
    of_op = op.fixed.spec
    # eps bounds scales that are measured; this one is known
    return op.fixed if replace(quant.output, eps=of_op.eps) == of_op else None
