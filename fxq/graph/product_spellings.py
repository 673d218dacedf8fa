"""Readers for the spellings of products: what torch gives names, orders and forms of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fxq.graph.equations import contraction, read_equation
from fxq.graph.opdef import Operands
from fxq.graph.spellings import Reader, rank_of


def product(second: str) -> Reader:
    """Of two tensors, the other one by the name that the spelling has for it."""

    def read(*given: Any, **named: Any) -> Operands:
        operands = {**dict(zip(("input", second), given, strict=False)), **named}
        if operands.keys() != {"input", second}:
            raise TypeError(f"it is given {', '.join(operands)}")
        return {"input": operands["input"], "other": operands[second]}

    return read


def addmm(input: Any, mat1: Any, mat2: Any, *, beta: float = 1, alpha: float = 1) -> Operands:
    """The two factors are a list of their own."""
    return {"input": input, "tensors": (mat1, mat2), "beta": beta, "alpha": alpha}


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Operands:
    """The two factors are a list of their own."""
    return {"input": input, "tensors": (tensor1, tensor2), "value": value}


def baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Operands:
    """addmm of batches"""
    return addmm(input, batch1, batch2, beta=beta, alpha=alpha)


def addmv(input: Any, mat: Any, vec: Any, *, beta: float = 1, alpha: float = 1) -> Operands:
    """addmm of a matrix and a vector"""
    return addmm(input, mat, vec, beta=beta, alpha=alpha)


def einsum(equation: Any, *operands: Any) -> Operands:
    """Written out, as Equation has it."""
    tensors = tuple(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    if not isinstance(equation, str):
        raise TypeError("the equation is not a string")
    return {"tensors": tensors, "equation": str(read_equation(equation, tuple(map(rank_of, tensors))))}


def tensordot(a: Any, b: Any, dims: Any = 2, out: None = None) -> Operands:
    """So many dimensions, those at the end of one and in front of the other, or a list of dimensions of each."""
    first = rank_of(a) - dims if isinstance(dims, int) else 0
    left, right = (range(first, first + dims), range(dims)) if isinstance(dims, int) else dims
    return _contracted(a, b, list(zip(left, right, strict=True)))


def inner(input: Any, other: Any) -> Operands:
    """Products of all vectors, which lie along the last dimensions."""
    return _contracted(input, other, [(-1, -1)] if rank_of(input) and rank_of(other) else [])


def outer(input: Any, vec2: Any) -> Operands:
    """Products of all numbers."""
    return _contracted(input, vec2, [])


def vecdot(x: Any, y: Any, dim: int = -1) -> Operands:
    """The product of each vector with its counterpart."""
    if dim != -1:
        raise TypeError("its vectors do not lie along the last dimension")
    return einsum("...i,...i->...", x, y)


def _contracted(a: Any, b: Any, pairs: Sequence[tuple[int, int]]) -> Operands:
    return {"tensors": (a, b), "equation": str(contraction((rank_of(a), rank_of(b)), pairs))}


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Operands:
    """Its two inputs are numbered."""
    return {"input": input1, "other": input2, "weight": weight, "bias": bias}


def attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: Any = 0.0, is_causal: Any = False,
    scale: Any = None, enable_gqa: Any = False,
) -> Operands:  # fmt: skip
    """F.scaled_dot_product_attention's own names mean other things in other ops."""
    options = {"mask": attn_mask, "dropout": dropout_p, "is_causal": is_causal, "scale": scale, "enable_gqa": enable_gqa}
    return {"input": query, "keys": key, "values": value, **options}
