"""softmax(q·kᵀ·scale + mask)·v, written out by a model → the op attention, which is one kernel."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch.fx import Node

from fxq.graph.annotation import asks_for, tensor_type
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, ops_by_name, write_call
from fxq.graph.reasons import Reason, Why
from fxq.graph.recognise import op_of_target
from fxq.graph.spellings import normal_form
from fxq.patterns import guards as g
from fxq.patterns.expressions import Var, op
from fxq.patterns.matcher import Match
from fxq.patterns.rules import Rule
from fxq.patterns.steps import Steps

# what is filled in for scores that do not count, or is below it, is as good as −∞ beside any score
_FAR_BELOW = -1e4


@dataclass(frozen=True, eq=False)
class Factor:
    """What scores are multiplied with: a number, or a node that computes one from sizes; or what they are divided by."""

    value: float | Node
    divides: bool

    def written(self, place: Node) -> float | Node:
        """As one factor, in front of a node."""
        if not self.divides:
            return self.value
        if not isinstance(self.value, Node):
            return 1 / self.value
        with place.graph.inserting_before(place):
            return place.graph.call_function(operator.truediv, (1.0, self.value))


@dataclass(frozen=True, eq=False)
class Scores:
    """q·kᵀ·factor + mask, or with a number in the place of some.

    Attributes:
        product: the node of q·kᵀ.
        steps: the nodes from there to the softmax.
        mask: a summand; None where there is none.
        fill: the number, and the condition for it.
    """

    product: Node
    steps: tuple[Node, ...]
    factor: Factor | None = None
    mask: Node | None = None
    fill: tuple[float, Node] | None = None

    @property
    def rank(self) -> int:
        """Of the product."""
        found = tensor_type(self.product)
        assert found is not None
        return len(found.shape)


def read_scores(node: Node) -> Scores | None:
    """What a softmax reads, taken apart; None where it is anything else."""
    return next((found for found in (_scaled(node), *_masked(node)) if found is not None), None)


def _scaled(node: object) -> Scores | None:
    if not isinstance(node, Node):
        return None
    call = call_of(node)
    if call is not None and call.op.name == "matmul":
        return Scores(node, (node,))
    found = _factor(node, call)
    inner = None if found is None else _scaled(found[0])
    if found is None or inner is None or inner.factor is not None:
        return None
    return replace(inner, steps=(*inner.steps, node), factor=found[1])


def _factor(node: Node, call: Call | None) -> tuple[object, Factor] | None:
    """The other operand, and the number; mul(x, n) is no canonical call where n is computed."""
    op = call.op if call is not None else op_of_target(node.target) if node.op == "call_function" else None
    if op is None or op.name not in ("mul", "div") or (call is None and len(node.args) != 2):
        return None
    x, number = node.args[:2] if call is None else (call.operands["input"], call.operands["other"])
    if op.name == "mul" and _is_number(x):
        x, number = number, x
    plain = call is None or call.operands["act"] is None
    return (x, Factor(cast(float | Node, number), op.name == "div")) if plain and _is_number(number) else None


def _is_number(value: object) -> bool:
    return tensor_type(value) is None if isinstance(value, Node) else isinstance(value, int | float)


def _masked(node: Node) -> Iterator[Scores | None]:
    call = call_of(node)
    if call is None or call.op.name not in ("add", "where"):
        return
    operands = call.operands
    for name, beside in (("input", operands["other"]), ("other", operands["input"])):
        inner = _scaled(operands[name])
        if inner is None:
            continue
        if call.op.name == "add" and isinstance(beside, Node) and operands["alpha"] == 1 and operands["act"] is None:
            yield replace(inner, steps=(*inner.steps, node), mask=beside)
        elif call.op.name == "where" and name == "other" and isinstance(beside, int | float) and beside <= _FAR_BELOW:
            yield replace(inner, steps=(*inner.steps, node), fill=(beside, operands["condition"]))


def join_attention(match: Match) -> Node:
    """softmax(q·kᵀ·scale + mask)·v = attention(q, k, v, mask)"""
    scores = read_scores(match.values["S"])
    product = None if scores is None else call_of(scores.product)
    assert scores is not None and product is not None
    steps = Steps(match.anchor)
    turned = product.operands["other"]
    keys = _untransposed(turned, scores.rank) or steps.call("transpose", input=turned, dim0=-2, dim1=-1)
    mask = scores.mask
    if scores.fill is not None:
        mask = steps.call("where", input=scores.fill[0], other=0.0, condition=scores.fill[1])
    scale = 1.0 if scores.factor is None else scores.factor.written(match.anchor)
    joined = {"input": product.operands["input"], "keys": keys, "values": match.values["V"], "mask": mask, "scale": scale}
    attention = ops_by_name()["attention"]
    write_call(match.anchor, Call(attention, normal_form(attention, joined, 1)))
    for step in (match.nodes["softmax"], *reversed(scores.steps)):
        step.graph.erase_node(step)
    return match.anchor


def _untransposed(node: Node, rank: int) -> Node | None:
    """k, where the node is kᵀ."""
    call = call_of(node)
    if call is None or call.op.name != "transpose":
        return None
    dims = {call.operands[name] % rank for name in ("dim0", "dim1")}
    return call.operands["input"] if dims == {rank - 2, rank - 1} else None


def is_attention(match: Match) -> Reason | None:
    """The softmax goes over keys, and reads scores that nobody else reads."""
    scores, dim = read_scores(match.values["S"]), match.calls["softmax"].operands["dim"]
    if scores is None or dim not in (-1, scores.rank - 1):
        return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{match.values['S']} is no product of queries and keys")
    read = next((step for step in scores.steps if len(step.users) > 1), None)
    if read is not None:
        return Reason(Why.SHARED, match.anchor.name, f"{read.name} is read by {', '.join(sorted(user.name for user in read.users))}")
    product = call_of(scores.product)
    assert product is not None
    if _are_of_heads(*product.activations.values(), match.values["V"]) and tensor_type(scores.steps[-1]) == tensor_type(scores.product):
        return None
    return Reason(Why.NOT_FUSABLE, match.anchor.name, "its operands are not float32 of the same images and heads")


def _are_of_heads(*operands: Any) -> bool:
    """[images, heads, rows, columns] each, or images without heads."""
    types = [found for operand in operands if (found := tensor_type(operand)) is not None]
    alike = len({(len(found.shape), found.shape[:-2]) for found in types}) == 1
    return alike and all(found.dtype == torch.float32 and len(found.shape) in (3, 4) for found in types)


def not_calibrated(match: Match) -> Reason | None:
    """Its products are not to be int8."""
    if not asks_for(match.anchor, float_outside=False):
        return None
    return Reason(Why.NOT_FUSABLE, match.anchor.name, "its products are int8 each")


_S, _V = Var("S"), Var("V")

WRITTEN_ATTENTION = Rule(
    "attention",
    op("matmul", label="mixed")(op("softmax")(_S), _V),
    when=(not_calibrated, g.single_use("softmax"), is_attention),
    rewrite=join_attention,
)
