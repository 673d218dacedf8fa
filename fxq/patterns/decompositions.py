"""DECOMPOSITIONS: float ops without an integer form of their own → ops that have one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.fx import Node

from fxq.graph.annotation import origin_of, tensor_type
from fxq.graph.constants import insert_constant
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, ops_by_name, write_call
from fxq.graph.spellings import normal_form
from fxq.patterns import guards as g
from fxq.patterns.expressions import Var
from fxq.patterns.fusions import ACTIVATIONS, FOLDABLE, affine_of, batch_norm
from fxq.patterns.matcher import Match
from fxq.patterns.rules import Rule

X = Var("X")


def bn_as_conv(match: Match) -> Node:
    """bn(x) = conv(x, g, β − μ · g): one 1×1 kernel for each channel.

    Per channel its only weight is ±127, so it loses nothing in 8 bits; with one scale per tensor small gains do.
    """
    node, affine = match.anchor, affine_of(match.anchor)
    origin = origin_of(node)
    path = origin.module if origin is not None and origin.module else node.name
    return write_unit_conv(node, {f"{path}.gain": affine.gain, f"{path}.shift": affine.shift})


def write_unit_conv(node: Node, constants: Mapping[str, Tensor]) -> Node:
    """op(x) becomes conv(x, weight, bias) with a 1×1 kernel for each channel.

    Args:
        constants: path of the weight, and of the bias if there is one, to its values, [channels].
    """
    call, found, conv = call_of(node), tensor_type(node), ops_by_name()["conv"]
    assert call is not None and found is not None
    rank, (weight, *_) = len(found.shape) - 2, constants.values()
    shapes = ((-1, *[1] * (rank + 1)), (-1,))
    stored = [
        insert_constant(node, path, constants[path].reshape(shape).to(found.dtype)) for path, shape in zip(constants, shapes, strict=False)
    ]
    operands = {"input": call.operands["input"], "groups": len(weight), "stride": (1,) * rank}
    operands |= dict(zip(("weight", "bias"), stored, strict=False))
    write_call(node, Call(conv, normal_form(conv, operands, rank)))
    return node


DECOMPOSITIONS = (
    # a batch norm that no conv in front can take in: behind a cat, in front of a conv, behind a value that others read
    Rule(
        "bn_as_conv",
        batch_norm(X),
        when=(*FOLDABLE, g.not_switched_off("batch_norm"), g.is_quantized("batch_norm"), g.rank_from("batch_norm", 3, 5)),
        rewrite=bn_as_conv,
    ),
    *ACTIVATIONS,
)
