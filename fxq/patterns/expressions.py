"""Patterns: expressions over canonical ops, written in dataflow order.

    X, W, B = Var("X"), Var("W"), Var("B")
    relu(conv(X, W, B))

is a relu of a convolution. The operands of a pattern stand for the leading tensor operands of the op; a Var matches
anything, an absent operand included, and the same thing wherever it appears twice.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Var:
    """Matches any value, or any constant of the model, and gives it a name."""

    name: str
    is_constant: bool = False


@dataclass(frozen=True)
class OpPattern:
    """Matches a node that is one of the ops and whose leading tensor operands match.

    Attributes:
        label: the name under which a match knows the node.
        ops: canonical op names.
        operands: patterns of the leading tensor operands; () leaves all of them open.
        commutative: the first two operands may be exchanged.
    """

    label: str
    ops: frozenset[str]
    operands: tuple[Pattern, ...] = ()
    commutative: bool = False

    def __call__(self, *operands: Pattern) -> OpPattern:
        return OpPattern(self.label, self.ops, operands, self.commutative)


Pattern = OpPattern | Var


def op(*names: str, label: str = "", commutative: bool = False) -> OpPattern:
    """A pattern for one of the named ops; its label is the first name."""
    return OpPattern(label or names[0], frozenset(names), (), commutative)


def size_of(pattern: Pattern) -> int:
    """Number of ops in a pattern: the bound on the work of one attempt to match."""
    return 0 if isinstance(pattern, Var) else 1 + sum(map(size_of, pattern.operands))
