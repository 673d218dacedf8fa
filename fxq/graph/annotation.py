"""What fxq knows about a node, and the only code that touches `node.meta`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import torch
from torch.fx import Node

from fxq.graph.moments import Moments
from fxq.graph.names import join_path
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.graph.reasons import Reason
from fxq.graph.weight_format import WeightFormat


@dataclass(frozen=True)
class TensorType:
    """Shape and dtype of a value, as seen with the example inputs."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        return torch.Size(self.shape).numel()


# the type of a node's value: a tensor, a tuple of types, or None for what is not made of tensors
ValueType = TensorType | tuple["ValueType", ...] | None


@dataclass(frozen=True)
class Origin:
    """Where a node comes from in the user's words; this is what a QConfigMapping is matched against.

    Attributes:
        module: dotted path of the module called, or of the one around a function call; "" is the model itself.
        object_type: qualified public name of the module type, function or method ("torch.nn.Conv2d", "torch.add", "view").
        index: which call of this object_type inside `scope` it is, from 0.
        source: "file.py:12", or "" where it is not known.
        module_type: qualified name of the type of `module`: for a module call the same as object_type, for a function or
            method call the type of the module around it; "" where it is not known.
        functions: qualified names of the functions under torch.fx.wrap around the call, outermost first.
    """

    module: str
    object_type: str
    index: int = 0
    source: str = ""
    module_type: str = ""
    functions: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """Path of the module that contains the call: the parent of a called module, the module around a function call."""
        return self.module.rpartition(".")[0] if self.module_type == self.object_type else self.module

    def below(self, path: str) -> Origin:
        """The same call, seen from a model that has this one at `path`."""
        return replace(self, module=join_path(path, self.module)) if path else self


@dataclass(frozen=True)
class NodeQuant:
    """How one node is quantized.

    Attributes:
        inputs: activation and weight operands that must arrive quantized: operand name → what is asked.
        output: what is asked of the value; None leaves it float.
        group: number of the sharing group whose qparams the output takes; None for a float value.
        rule: the rule of the QConfigMapping (or of the compiler) that decided.
        reason: why the node stays float; None for an int8 node.
        qparams: what the value is quantized with; None before calibration has found it, and for a value that stays float.
        weight: what the weight is quantized with where training has found it; None: its own values say it.
        format: how the weight of an op that computes in float is stored in few bits; None for all others.
        moments: of what a calibrated layer reads; None where it was not measured, and once the weight is rounded.
    """

    inputs: Mapping[str, QuantSpec] = field(default_factory=dict)
    output: QuantSpec | None = None
    group: int | None = None
    rule: str = ""
    reason: Reason | None = None
    qparams: QParams | None = None
    weight: QParams | None = None
    format: WeightFormat | None = None
    moments: Moments | None = None

    @property
    def is_int8(self) -> bool:
        return self.reason is None

    @property
    def is_dynamic(self) -> bool:
        """An int8 op that reads and writes float: it quantizes what it reads as it arrives."""
        return self.is_int8 and any(spec.dynamic for spec in self.inputs.values())

    @property
    def is_weight_only(self) -> bool:
        """An op that computes in float, with a weight that is stored in few bits."""
        return self.is_int8 and self.format is not None

    @property
    def is_static(self) -> bool:
        """An int8 op that reads or writes integers, whose qparams are found by calibration."""
        return self.is_int8 and not self.is_dynamic and not self.is_weight_only


@dataclass(frozen=True, eq=False)
class AttachedNorm:
    """A batch norm that is trained behind an op, and folded into it afterwards.

    Attributes:
        owner: the module that holds its tensors; while no node reads them it is nowhere else.
        path: of the owner in the user's model.
        tensors: name in torch.nn.BatchNorm2d → name in the owner.
        momentum: None: running statistics are those of all batches so far.
    """

    owner: Any
    path: str
    tensors: Mapping[str, str]
    momentum: float | None
    eps: float


@dataclass(frozen=True)
class Meaning:
    """The float op that an int8 node stands for: y = q(op(dq(x), ..., **constants)).

    Attributes:
        op: its canonical name.
        inputs: names of the operands that the node reads, in its order: activations, and sizes that the graph computes.
        constants: what the other operands are, without tensors and without what the graph computes.
    """

    op: str
    inputs: tuple[str, ...]
    constants: Mapping[str, Any]


class Resolution(Protocol):
    """What the QConfigMapping says of a node (a value of fxq.qconfig_mapping).

    Attributes:
        qconfig: None keeps the node float.
        rule: the rule that won, readable.
        explicit: some rule matched; False for a node that the mapping does not speak of.
        is_default: the rule is the one for everything that no other speaks of.
    """

    @property
    def qconfig(self) -> Any: ...
    @property
    def rule(self) -> str: ...
    @property
    def explicit(self) -> bool: ...
    @property
    def is_default(self) -> bool: ...


_KEYS = (
    "fxq_type", "fxq_origins", "fxq_resolution", "fxq_quant", "fxq_refusals", "fxq_whole", "fxq_writes", "fxq_new", "fxq_norm",
    "fxq_meaning",
)  # fmt: skip
_TYPE, _ORIGINS, _RESOLUTION, _QUANT, _REFUSALS, _WHOLE, _WRITES, _NEW, _NORM, _MEANING = _KEYS
_SHOWN = (_TYPE, _ORIGINS, _QUANT, _REFUSALS, _WHOLE)
_T = TypeVar("_T")


def _get(node: Node, key: str, default: _T) -> _T:
    value: Any = node.meta.get(key, default)
    return value  # type: ignore[no-any-return]


def type_of(node: Node) -> ValueType:
    """Shape and dtype of the node's value."""
    return _get(node, _TYPE, None)


def tensor_type(node: Node) -> TensorType | None:
    """Like type_of, for a node whose value is one tensor; None for any other."""
    found = type_of(node)
    return found if isinstance(found, TensorType) else None


def set_type(node: Node, value: ValueType) -> None:
    node.meta[_TYPE] = value


def origins_of(node: Node) -> tuple[Origin, ...]:
    """The call the node was traced from, then the calls fused into it in dataflow order; () for what the compiler made."""
    return _get(node, _ORIGINS, ())


def origin_of(node: Node) -> Origin | None:
    """The call that gives a node its name and its qconfig."""
    return next(iter(origins_of(node)), None)


def set_origins(node: Node, origins: tuple[Origin, ...]) -> None:
    node.meta[_ORIGINS] = origins


def resolution_of(node: Node) -> Resolution | None:
    """What the QConfigMapping says of the node; None where there is no mapping."""
    return _get(node, _RESOLUTION, None)


def asks_for(node: Node, *, float_outside: bool) -> bool:
    """Whether the QConfigMapping gives the node a qconfig with which it reads and writes float, or one that is calibrated."""
    resolution = resolution_of(node)
    return resolution is not None and resolution.qconfig is not None and resolution.qconfig.is_float_outside is float_outside


def set_resolution(node: Node, resolution: Resolution) -> None:
    node.meta[_RESOLUTION] = resolution


def quant_of(node: Node) -> NodeQuant | None:
    """None before the ANNOTATED stage."""
    return _get(node, _QUANT, None)


def set_quant(node: Node, quant: NodeQuant) -> None:
    node.meta[_QUANT] = quant


def update_quant(node: Node, **changes: Any) -> None:
    """Replaces fields of a node's NodeQuant."""
    current = quant_of(node)
    assert current is not None, f"{node.name} has no NodeQuant"
    set_quant(node, replace(current, **changes))


def refusals_of(node: Node) -> tuple[tuple[str, Reason], ...]:
    """(rule, reason) of every rewrite whose pattern matched here and whose guard said no."""
    return _get(node, _REFUSALS, ())


def note_refusal(node: Node, rule: str, reason: Reason) -> None:
    """Adds a refusal; the same one again, by a rule that two passes try, is not another."""
    known = refusals_of(node)
    node.meta[_REFUSALS] = known if (rule, reason) in known else (*known, (rule, reason))


def whole_reason_of(node: Node) -> Reason | None:
    """Why the module that the node calls was not traced into; None for a node that was traced as usual."""
    return _get(node, _WHOLE, None)


def set_whole_reason(node: Node, reason: Reason) -> None:
    node.meta[_WHOLE] = reason


def was_seen_writing(node: Node) -> bool:
    """Whether the node changed a tensor that it read, when the types were inferred."""
    return _get(node, _WRITES, False)


def note_writing(node: Node) -> None:
    node.meta[_WRITES] = True


def was_seen_new(node: Node) -> bool:
    """Whether the node's value lay in memory of its own, apart from what it reads, when the types were inferred."""
    return _get(node, _NEW, False)


def note_new(node: Node) -> None:
    node.meta[_NEW] = True


def norm_of(node: Node) -> AttachedNorm | None:
    """The batch norm behind the node's op; None where there is none."""
    return _get(node, _NORM, None)


def set_norm(node: Node, norm: AttachedNorm | None) -> None:
    node.meta[_NORM] = norm


def meaning_of(node: Node) -> Meaning | None:
    """The float op that a lowered node stands for; None for one that is what it says."""
    return _get(node, _MEANING, None)


def set_meaning(node: Node, meaning: Meaning | None) -> None:
    node.meta[_MEANING] = meaning


def copy_annotations(source: Node, target: Node) -> None:
    """Gives target all that is known of source, for a node that takes another's place."""
    for key in _KEYS:
        if key in source.meta:
            target.meta[key] = source.meta[key]


def annotations_of(node: Node) -> dict[str, Any]:
    """All that is known of a node, for storing."""
    return {key: node.meta[key] for key in _KEYS if key in node.meta}


def shown_annotations_of(node: Node) -> dict[str, Any]:
    """What pictures show of a node: values, through which no module of the user's is kept alive."""
    return {key: node.meta[key] for key in _SHOWN if key in node.meta}


def set_annotations(node: Node, annotations: dict[str, Any]) -> None:
    """The inverse of annotations_of."""
    node.meta.update(annotations)
