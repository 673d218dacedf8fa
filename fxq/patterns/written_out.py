"""WRITTEN_OUT: what models write out with sums, products and powers → the op that it is."""

from __future__ import annotations

import math
from typing import Any

from torch.fx import Node

from fxq.graph.annotation import tensor_type
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, ops_by_name, write_call
from fxq.graph.reasons import Reason, Why
from fxq.patterns import guards as g
from fxq.patterns.expressions import OpPattern, Var, op
from fxq.patterns.matcher import Match
from fxq.patterns.rules import Rule
from fxq.patterns.written_attention import WRITTEN_ATTENTION

X, Y, C = Var("X"), Var("Y"), Var("C", is_constant=True)
HALF, ONE, FACTOR, CUBIC, EPS = (Var(name) for name in ("HALF", "ONE", "FACTOR", "CUBIC", "EPS"))

_product, _sum = op("mul", label="product", commutative=True), op("add", label="sum", commutative=True)
_root, _square, _mean = op("pow", label="root"), op("pow", label="square"), op("mean")
_cast, _norm, _tanh = op("identity", label="cast"), op("rms_norm"), op("tanh")

# tanh's own factor, √(2/π), and that of x³
_GELU = {"HALF": 0.5, "ONE": 1.0, "FACTOR": math.sqrt(2 / math.pi), "CUBIC": 0.044715}


def join_rms_norm(match: Match) -> Node:
    """x · (mean(x²) + eps)^−½ = rms_norm(x)"""
    value = match.values["X"]
    operand = call_of(value)
    if operand is not None and operand.op.name == "identity":
        value = operand.operands["input"]  # float32 was made of it, which it is
    found = tensor_type(value)
    assert found is not None
    return _write(match.anchor, "rms_norm", input=value, gain=None, normalized_shape=(found.shape[-1],), eps=match.values["EPS"])


def attach_gain(match: Match) -> Node:
    """rms_norm(x) · γ = rms_norm(x, γ)"""
    norm = match.calls["rms_norm"].operands
    return _write(match.anchor, "rms_norm", **{**norm, "gain": match.values["C"]})


def join_gelu(match: Match) -> Node:
    """½ · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) = gelu(x, approximate="tanh")"""
    return _write(match.anchor, "gelu", input=match.values["X"], approximate="tanh")


def _write(node: Node, name: str, **operands: Any) -> Node:
    write_call(node, Call(ops_by_name()[name], operands))
    return node


def is_of_rows(match: Match) -> Reason | None:
    """The mean is that of the squares of the last dimension, which stays as one of size 1; what is added to it is a number."""
    mean, square, root = (match.calls[label].operands for label in ("mean", "square", "root"))
    found = tensor_type(match.nodes["square"])
    last = (-1, (-1,), *(() if found is None else (len(found.shape) - 1, (len(found.shape) - 1,))))
    numbers = (square["exponent"], root["exponent"]) == (2, -0.5) and isinstance(match.values["EPS"], int | float)
    if mean["dim"] in last and mean["keepdim"] and numbers:
        return None
    return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{match.nodes['mean'].name} is no mean of the squares of a row")


def is_gain(match: Match) -> Reason | None:
    """The constant has a factor for each feature, and the norm has none yet."""
    norm, found = match.calls["rms_norm"].operands, tensor_type(match.values["C"])
    if norm["gain"] is None and found is not None and found.shape == norm["normalized_shape"]:
        return None
    return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{match.values['C']} is no first factor for each feature")


def is_gelu(match: Match) -> Reason | None:
    """The numbers are those of gelu, up to what is left out when they are written down."""
    found = {name: match.values[name] for name in _GELU}
    are_numbers = all(isinstance(value, int | float) for value in found.values()) and match.calls["cube"].operands["exponent"] == 3
    if are_numbers and all(math.isclose(found[name], number, rel_tol=1e-4) for name, number in _GELU.items()):
        return None
    return Reason(Why.NOT_FUSABLE, match.anchor.name, f"its numbers are {', '.join(map(str, found.values()))}, not those of gelu")


def _rms_norm(square: OpPattern) -> OpPattern:
    return _product(X, _root(_sum(_mean(square), EPS)))


_ROOT_OF_MEAN = (is_of_rows, *map(g.single_use, ("root", "sum", "mean", "square")))
_CUBE = op("mul", label="third", commutative=True)(op("pow", label="cube")(X), CUBIC)
_INSIDE = op("mul", label="inside", commutative=True)(op("add", label="cubic", commutative=True)(X, _CUBE), FACTOR)
_HALVED = op("mul", label="halved", commutative=True)(X, HALF)

WRITTEN_OUT = (
    Rule("rms_norm", _rms_norm(_square(X)), when=_ROOT_OF_MEAN, rewrite=join_rms_norm),
    # squares are those of x in float32, which it is in already
    Rule("rms_norm_of_cast", _rms_norm(_square(_cast(X))), when=(*_ROOT_OF_MEAN, g.single_use("cast")), rewrite=join_rms_norm),
    Rule("rms_norm_gain", _product(_norm(X), C), when=(is_gain, g.single_use("rms_norm")), rewrite=attach_gain),
    Rule(
        "rms_norm_cast_gain",
        _product(_cast(_norm(X)), C),
        when=(is_gain, g.single_use("rms_norm"), g.single_use("cast")),
        rewrite=attach_gain,
    ),
    Rule(
        "gelu_tanh",
        _product(_HALVED, _sum(_tanh(_INSIDE), ONE)),
        when=(is_gelu, *map(g.single_use, ("halved", "sum", "tanh", "inside", "cubic", "third", "cube"))),
        rewrite=join_gelu,
    ),
    WRITTEN_ATTENTION,
)
