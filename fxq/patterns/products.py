"""PRODUCTS: ways to write a product → matmul or mul, and what moves elements and adds up around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.fx import Node

from fxq.graph.annotation import tensor_type
from fxq.graph.equations import Equation, parsed
from fxq.graph.reasons import Reason, Why
from fxq.patterns import guards as g
from fxq.patterns.expressions import op
from fxq.patterns.matcher import Match
from fxq.patterns.rules import Rule
from fxq.patterns.steps import Steps

_ONE = "1"  # in place of a label: a dimension of size 1, along which the other operand's elements are repeated


def expand_addmm(match: Match) -> Node:
    """addmm(c, (a, b), beta, alpha) = matmul(a, b) · alpha + c · beta"""
    operands, steps = match.calls["addmm"].operands, Steps(match.anchor)
    a, b = operands["tensors"]
    product = _times(steps, steps.call("matmul", input=a, other=b), operands["alpha"])
    if operands["beta"] == 0:
        return steps.end(product)
    return steps.end(steps.call("add", input=product, other=_times(steps, operands["input"], operands["beta"])))


def expand_addcmul(match: Match) -> Node:
    """addcmul(c, (a, b), value) = c + a · b · value"""
    operands, steps = match.calls["addcmul"].operands, Steps(match.anchor)
    a, b = operands["tensors"]
    product = steps.call("mul", input=a, other=b)
    return steps.end(steps.call("add", input=operands["input"], other=_times(steps, product, operands["value"])))


def expand_glu(match: Match) -> Node:
    """glu(x) = a · sigmoid(b), (a, b) = chunk(x, 2)"""
    operands, steps = match.calls["glu"].operands, Steps(match.anchor)
    value, gate = (steps.call("chunk", input=operands["input"], chunks=2, dim=operands["dim"], item=item) for item in (0, 1))
    return steps.end(steps.call("mul", input=value, other=steps.call("sigmoid", input=gate)))


def _times(steps: Steps, node: Node, factor: float) -> Node:
    return node if factor == 1 else steps.call("mul", input=node, other=factor)


@dataclass(frozen=True)
class Term:
    """A tensor with a label for each dimension."""

    node: Node
    labels: str


def expand_einsum(match: Match) -> Node:
    """einsum((a, b), "mk,kn->mn") = matmul(a, b), with what the equation asks for in front of it and behind.

    Sizes are not written down anywhere, so they stay free.
    """
    operands, steps = match.calls["einsum"].operands, Steps(match.anchor)
    equation = parsed(operands["equation"])
    return steps.end(_contracted(steps, operands["tensors"], equation))


def _contracted(steps: Steps, tensors: Sequence[Node], equation: Equation) -> Node:
    """From left to right, as torch does it."""
    first, *others = (
        _summed(steps, Term(node, labels), _kept(equation, place))
        for place, (node, labels) in enumerate(zip(tensors, equation.operands, strict=True))
    )
    for number, other in enumerate(others, 2):
        first = _product(steps, first, other, equation.result + "".join(equation.operands[number:]))
    return _arranged(steps, first, equation.result).node


def expand_bilinear(match: Match) -> Node:
    """bilinear(a, b, W, c)ₒ = (a · W)ₒ · b + cₒ: one product with all of W, and one of each row with a vector"""
    operands, steps = match.calls["bilinear"].operands, Steps(match.anchor)
    weight = operands["weight"]
    columns = steps.call("flatten", input=steps.call("permute", input=weight, dims=(1, 0, 2)), start_dim=1)
    product = steps.call("matmul", input=operands["input"], other=columns)
    rows = steps.call("unflatten", input=product, dim=-1, sizes=(_size(weight, 0), _size(weight, 2)))
    sums = steps.call("matmul", input=rows, other=steps.call("unsqueeze", input=operands["other"], dim=-1))
    y = steps.call("squeeze", input=sums, dim=-1)
    return steps.end(y if operands["bias"] is None else steps.call("add", input=y, other=operands["bias"]))


def _kept(equation: Equation, place: int) -> str:
    """Labels of an operand that the result or the other operand has, too."""
    return equation.result + "".join(labels for other, labels in enumerate(equation.operands) if other != place)


def _product(steps: Steps, a: Term, b: Term, result: str) -> Term:
    """Labels of both are in the result, the batch, or are summed over; the others are rows of a and columns of b.

    Args:
        result: the labels that are read later on; those of other terms may be among them, some more than once.
    """
    result = "".join(dict.fromkeys(result))
    if a.node.op == "get_attr" and b.node.op != "get_attr":
        a, b = b, a  # on the right a constant can become the weight of a linear
    batch = "".join(label for label in result if label in a.labels and label in b.labels)
    inner = "".join(label for label in a.labels if label in b.labels and label not in result)
    rows, columns = ("".join(label for label in result if label in each.labels and label not in batch) for each in (a, b))
    if not inner:
        labels = "".join(label for label in result if label in a.labels + b.labels)
        return Term(steps.call("mul", input=_spread(steps, a, labels), other=_spread(steps, b, labels)), labels)
    row, column = rows[-1:] or _ONE, columns[-1:] or _ONE
    outer = batch + rows[:-1] + columns[:-1]
    left = _flattened(steps, _spread(steps, a, outer, row + inner), -len(inner), -1)
    right = _flattened(steps, _spread(steps, b, outer, inner + column), -len(inner) - 1, -2)
    return _without_ones(steps, Term(steps.call("matmul", input=left, other=right), outer + row + column))


def _spread(steps: Steps, term: Term, outer: str, matrix: str = "") -> Node:
    """The tensor with dimensions `outer` and `matrix`, of size 1 in `outer` where it has them not; in front those are left out."""
    own = "".join(label if label in term.labels else _ONE for label in outer)
    return _arranged(steps, term, own.lstrip(_ONE) + matrix).node


def _arranged(steps: Steps, term: Term, wanted: str) -> Term:
    """The tensor with its dimensions in this order, and new ones of size 1."""
    order = tuple(term.labels.index(label) for label in wanted if label != _ONE)
    node = term.node if order == tuple(range(len(order))) else steps.call("permute", input=term.node, dims=order)
    for place, label in enumerate(wanted):
        node = steps.call("unsqueeze", input=node, dim=place) if label == _ONE else node
    return Term(node, wanted)


def _summed(steps: Steps, term: Term, kept: str) -> Term:
    dims = tuple(place for place, label in enumerate(term.labels) if label not in kept)
    labels = "".join(label for label in term.labels if label in kept)
    return Term(steps.call("sum", input=term.node, dim=dims), labels) if dims else term


def _flattened(steps: Steps, node: Node, first: int, last: int) -> Node:
    return node if first == last else steps.call("flatten", input=node, start_dim=first, end_dim=last)


def _without_ones(steps: Steps, term: Term) -> Term:
    dims = tuple(place for place, label in enumerate(term.labels) if label == _ONE)
    return Term(steps.call("squeeze", input=term.node, dim=dims), term.labels.replace(_ONE, "")) if dims else term


def expand_attention(match: Match) -> Node:
    """attention(q, k, v) = matmul(softmax(matmul(q, kᵀ) · scale), v)"""
    operands, steps = match.calls["attention"].operands, Steps(match.anchor)
    query, keys, values = (operands[name] for name in ("input", "keys", "values"))
    if operands["enable_gqa"]:
        keys, values = (_for_every_head(steps, each, _size(query, -3)) for each in (keys, values))
    scale = 1 / math.sqrt(_size(query, -1)) if operands["scale"] is None else operands["scale"]
    scores = _times(steps, steps.call("matmul", input=query, other=steps.call("transpose", input=keys, dim0=-2, dim1=-1)), scale)
    return steps.end(steps.call("matmul", input=steps.call("softmax", input=scores, dim=-1), other=values))


def _for_every_head(steps: Steps, node: Node, heads: int) -> Node:
    """Heads repeated, as the input has more of them."""
    repeats = heads // _size(node, -3)
    return node if repeats == 1 else steps.call("repeat_interleave", input=node, repeats=repeats, dim=-3)


def _size(node: Node, dim: int) -> int:
    """Of the example inputs: a model has its heads and their features from its weights."""
    found = tensor_type(node)
    assert found is not None
    return found.shape[dim]


def same_sizes(match: Match) -> Reason | None:
    """A label has one size: torch.einsum also takes 1 for any other, and sums over what is repeated."""
    operands = match.calls["einsum"].operands
    sizes: dict[str, set[int]] = {}
    for tensor, labels in zip(operands["tensors"], parsed(operands["equation"]).operands, strict=True):
        found = tensor_type(tensor)
        for label, size in zip(labels, () if found is None else found.shape, strict=True):
            sizes.setdefault(label, set()).add(size)
    for label, seen in sizes.items():
        if len(seen) > 1:
            return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{label} stands for the sizes {', '.join(map(str, sorted(seen)))}")
    return None


def of_float32(match: Match) -> Reason | None:
    """Its products could be int8."""
    found = tensor_type(match.anchor)
    if found is not None and found.dtype == torch.float32:
        return None
    return Reason(Why.DTYPE, match.anchor.name, f"its result is {found.dtype if found else 'no tensor'}, not float32")


PRODUCTS = (
    Rule("addmm_matmul", op("addmm"), when=(g.numbers("addmm", "beta", "alpha"),), rewrite=expand_addmm),
    Rule("addcmul_add", op("addcmul"), when=(g.numbers("addcmul", "value"),), rewrite=expand_addcmul),
    Rule("glu_mul", op("glu"), when=(), rewrite=expand_glu),
    Rule("bilinear_matmul", op("bilinear"), when=(g.is_quantized("bilinear"), of_float32), rewrite=expand_bilinear),
    Rule("einsum_matmul", op("einsum"), when=(same_sizes,), rewrite=expand_einsum),
    Rule(
        "attention_matmul",
        op("attention"),
        when=(g.is_quantized("attention"), g.has_integer_form("attention"), g.numbers("attention", "scale"), of_float32),
        rewrite=expand_attention,
    ),
)
