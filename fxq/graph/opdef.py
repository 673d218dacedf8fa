"""What a row of OPS is, and the view of a graph node as a canonical op."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

from torch.fx import Node

from fxq.graph.qtypes import QParams
from fxq.graph.reasons import Reason


class Policy(Enum):
    """What quantization does with an op."""

    OWN = "own qparams"  # computes on integers, its output has a range of its own
    TABLE = "own qparams, through a table"  # a unary function of 8-bit data
    FIXED = "fixed qparams, through a table"  # a unary function with a known range
    SHARES = "shares its input's qparams"  # computes on integers, whose meaning stays
    MOVES = "moves elements"  # like SHARES, and computes nothing
    METADATA = "reads no element"  # shapes and sizes
    FLOAT = "float only"


class Role(Enum):
    """What an operand is."""

    ACTIVATION = "activation"
    WEIGHT = "weight"
    BIAS = "bias"
    STATE = "state"  # other tensors of the model, never quantized
    ATTRIBUTE = "attribute"


_ROLES: Mapping[str, Role] = {
    "input": Role.ACTIVATION,
    "other": Role.ACTIVATION,
    "keys": Role.ACTIVATION,
    "values": Role.ACTIVATION,
    "tensors": Role.ACTIVATION,
    "residual": Role.ACTIVATION,
    "weight": Role.WEIGHT,
    "bias": Role.BIAS,
    "running_mean": Role.STATE,
    "running_var": Role.STATE,
    "gain": Role.STATE,
    "shift": Role.STATE,
    "slope": Role.STATE,
}

Operands = dict[str, Any]


def role_of(operand: str) -> Role:
    """The role that an operand name stands for, in every op."""
    return _ROLES.get(operand, Role.ATTRIBUTE)


def operand_of(name: str) -> str:
    """The operand that a node was found in, by Call.nodes' name of the place: "size[0]" → "size"."""
    return name.partition("[")[0]


@dataclass(frozen=True)
class Parameter:
    """A tensor that belongs to the module of a spelling, by attribute name."""

    name: str


@dataclass(frozen=True)
class Attribute:
    """A spelling's target that is read as an attribute of a tensor: x.shape."""

    name: str


@dataclass(frozen=True)
class Library:
    """A spelling's target in a library that fxq does not import: a function by its qualified name."""

    name: str


@dataclass(frozen=True)
class Spelling:
    """One way to write an op.

    Attributes:
        target: module type, function, method name, Attribute or Library.
        read: what was written → operands. Takes the module, or the call's own arguments; None where attribute or parameter
            names are the op's own. Raises TypeError for a form that the op does not cover.
        in_place: it writes its result into its input.
        rank: number of spatial dimensions, for ops that leave it to the spelling.
    """

    target: Any
    read: Callable[..., Operands] | None = None
    in_place: bool = False
    rank: int = 1


def no_objection(node: str, operands: Operands) -> Reason | None:
    """Every call of the op has an integer form."""
    return None


@dataclass(frozen=True)
class OpDef:
    """A canonical op: a row of OPS, or one of the user's that a model brings along.

    Attributes:
        name: as it appears in graph text.
        call: the canonical function; its parameter names are the operand names.
        policy: what quantization does with it.
        spellings: every way to write it.
        fixed: output qparams of a FIXED op.
        objection: (node name, operands) → why this very call has no integer form, or None.
        weight_axis: the axis of its weight that belongs to the output channels.
        is_arithmetic: a sum, difference, product or quotient, element by element. One of its two operands may be a number; it is
            a unary function then, and runs through a table.
        normalizes: it divides by a deviation or a sum of its input, and with it the input's rounding errors; or takes the powers
            from which such a divisor is made.
        enlarges: it makes many elements out of few.
        copies: it moves elements to memory of their own, never a view.
        float_output: its integer kernel can write float32 from the accumulators, so that a value read by float ops only is
            not rounded to 8 bits first.
        computed: attributes that its integer form takes with each call where the graph computes them from sizes.
        is_input_at_its_shape: a result with the shape of the input is the input: an average pool to the size that it reads.
    """

    name: str
    call: Callable[..., Any]
    policy: Policy
    spellings: tuple[Spelling, ...] = field(default=(), repr=False)
    fixed: QParams | None = None
    objection: Callable[[str, Operands], Reason | None] = no_objection
    weight_axis: int = 0
    is_arithmetic: bool = False
    normalizes: bool = False
    enlarges: bool = False
    copies: bool = False
    float_output: bool = False
    computed: tuple[str, ...] = ()
    is_input_at_its_shape: bool = False

    @cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.call)

    @cached_property
    def operands(self) -> tuple[str, ...]:
        return tuple(self.signature.parameters)

    @cached_property
    def _by_place(self) -> tuple[str, ...]:
        """Operands that a call may give by position."""
        return tuple(name for name, each in self.signature.parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Operands:
        """What a call gives, by operand. Raises TypeError for what is missing, no operand, or given twice."""
        given = self.bind_partial(args, kwargs)
        if len(self.defaults.keys() | given.keys()) < len(self.operands):
            self.signature.bind(*args, **kwargs)  # says what is missing
        return given

    def bind_partial(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Operands:
        """The same for a call that need not give all."""
        if not kwargs and len(args) <= len(self._by_place):
            return dict(zip(self._by_place, args, strict=False))  # a tenth of the time that the signature takes
        return dict(self.signature.bind_partial(*args, **kwargs).arguments)

    @cached_property
    def carried(self) -> tuple[str, ...]:
        """Operands that may be attributes of a module: all but what its call gives."""
        return tuple(name for name in self.operands if role_of(name) is not Role.ACTIVATION)

    @cached_property
    def defaults(self) -> Operands:
        """What the operands are that a call leaves out; without those that it has to give."""
        return {name: each.default for name, each in self.signature.parameters.items() if each.default is not each.empty}

    @cached_property
    def by_role(self) -> Mapping[Role, tuple[str, ...]]:
        """The operands of each role."""
        return {role: tuple(name for name in self.operands if role_of(name) is role) for role in Role}

    @cached_property
    def positional(self) -> tuple[str, ...]:
        """Operands that are written by position in a canonical call: the tensors, up to the first attribute."""
        leading = [name for name in self.operands if role_of(name) is not Role.ATTRIBUTE and name != "residual"]
        return tuple(leading)

    @property
    def takes_numbers(self) -> bool:
        """Whether a number may stand for one of the tensors."""
        return self.is_arithmetic or self.policy is Policy.MOVES

    @property
    def may_view(self) -> bool:
        """Whether its result may lie in the memory of its input."""
        return self.policy is Policy.MOVES and not self.copies

    @property
    def keeps_qparams(self) -> bool:
        return self.policy in (Policy.SHARES, Policy.MOVES)


class Call(NamedTuple):
    """A node seen as a canonical op: the row, and every operand by name, defaults filled in.

    Operand values are nodes and constants, and Parameters as long as the node is spelled as a module. Passes make many for each
    node, and a tuple is made in a third of the time of a dataclass.
    """

    op: OpDef
    operands: Operands
    in_place: bool = False

    def nodes(self, role: Role) -> dict[str, Node]:
        """Operands of a role that are nodes: name → node; "tensors[1]" is the second of a list."""
        found: dict[str, Node] = {}
        for name in self.op.by_role[role]:
            value = self.operands.get(name)
            if isinstance(value, Node):
                found[name] = value
            elif isinstance(value, list | tuple):
                found.update((f"{name}[{i}]", item) for i, item in enumerate(value) if isinstance(item, Node))
        return found

    @property
    def activations(self) -> dict[str, Node]:
        return self.nodes(Role.ACTIVATION)

    @property
    def computed(self) -> Operands:
        """Attributes that the graph computes from sizes, and that its integer form takes with each call."""
        read = {operand_of(name) for name in self.nodes(Role.ATTRIBUTE)} if self.op.computed else ()
        return {name: self.operands[name] for name in self.op.computed if name in read}

    @property
    def has_number(self) -> bool:
        """One of the two operands is a number: x + 1, 1 − x."""
        return self.op.is_arithmetic and len(self.activations) == 1

    @property
    def is_table(self) -> bool:
        """A unary function: on 8-bit data a table of 256 entries."""
        return self.op.policy in (Policy.TABLE, Policy.FIXED) or self.has_number

    @property
    def follows_readers(self) -> bool:
        """Worth doing on integers only if an int8 op reads the result: nothing is computed, or a number is added or multiplied; or the
        result has more elements than what it is made of, and each would be rounded."""
        return self.op.policy is Policy.MOVES or self.has_number or self.op.enlarges
