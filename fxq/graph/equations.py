"""Equations of einsum: "bij,bjk->bik"."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

_ELLIPSIS, _ARROW = "...", "->"


@dataclass(frozen=True)
class Equation:
    """One label for each dimension of the operands and of the result. A label stands once in an operand, and once in the result."""

    operands: tuple[str, ...]
    result: str

    def __str__(self) -> str:
        return f"{','.join(self.operands)}{_ARROW}{self.result}"


def read_equation(text: str, ranks: Sequence[int]) -> Equation:
    """What torch.einsum understands by the text, written out: no blanks, no ellipsis, the result given.

    Args:
        ranks: number of dimensions of every operand.

    Raises:
        TypeError: the equation takes a diagonal, or is for another number of operands.
    """
    written, arrow, result = text.replace(" ", "").partition(_ARROW)
    operands = written.split(",")
    if len(operands) != len(ranks):
        raise TypeError(f"{text!r} is for {len(operands)} operands; there are {len(ranks)}")
    unused = "".join(label for label in string.ascii_letters if label not in text)
    widths = [rank - len(operand.replace(_ELLIPSIS, "")) for operand, rank in zip(operands, ranks, strict=True)]
    spread = unused[len(unused) - max(widths) :]  # widths are 0 without an ellipsis
    spelled = [operand.replace(_ELLIPSIS, spread[len(spread) - width :]) for operand, width in zip(operands, widths, strict=True)]
    if any(len(set(operand)) < len(operand) for operand in spelled):
        raise TypeError(f"{text!r} takes a diagonal")
    return Equation(tuple(spelled), result.replace(_ELLIPSIS, spread) if arrow else spread + _labels_of_result(operands))


def contraction(ranks: Sequence[int], pairs: Sequence[Sequence[int]]) -> Equation:
    """The product of two tensors over pairs of their dimensions, one of each; what is left of both is the result: torch.tensordot's.

    Raises:
        TypeError: more dimensions than letters.
    """
    labels = iter(string.ascii_letters)
    if sum(ranks) > len(string.ascii_letters):
        raise TypeError(f"{sum(ranks)} dimensions are more than an equation has letters for")
    left, right = ([next(labels) for _ in range(rank)] for rank in ranks)
    inner = [left[a] for a, _ in pairs]
    for a, b in pairs:
        right[b] = left[a]
    return Equation(("".join(left), "".join(right)), "".join(label for label in left + right if label not in inner))


def parsed(written_out: str) -> Equation:
    """The inverse of str(equation)."""
    operands, _, result = written_out.partition(_ARROW)
    return Equation(tuple(operands.split(",")), result)


def _labels_of_result(operands: Sequence[str]) -> str:
    """Without an arrow the result has the labels that stand once, in alphabetical order: capitals first."""
    labels = "".join(operands).replace(_ELLIPSIS, "")
    return "".join(sorted(label for label in labels if labels.count(label) == 1))
