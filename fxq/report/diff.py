"""diff(a, b): what differs between two models, op by op, in structure and in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.fx import Node

from fxq.graph.constants import constant_of
from fxq.graph.islands import graphs_of, outside_of_graphs
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.graph.ops import call_of
from fxq.graph.text import format_value, is_default
from fxq.report.coverage import Report, report
from fxq.report.difference import Change, Difference, Fact, OpDiff, TensorChange
from fxq.report.kinds import Kind, called_module, kind_of
from fxq.report.rows import Row
from fxq.report.wording import format_number, format_share

_BETWEEN = frozenset({Kind.QUANTIZE, Kind.DEQUANTIZE, Kind.OBSERVER})
_NO_OPS = _BETWEEN | {Kind.CONSTANT, Kind.OUTPUT}


def diff(a: nn.Module, b: nn.Module) -> Difference:
    """Two models of fxq's, at any stage → ops added, removed and changed; dtypes, scales, zero points, attributes and weights.

    Ops are the same op where their nodes have the same name: for one user's model these are the same however it was quantized. What
    quantizes, dequantizes or observes a value is a fact about that value, and no op.

    Args:
        a, b: from fuse_fx, prepare_fx, convert_fx or quantize.

    Raises:
        StageError: one is not one of fxq's.
    """
    reports = report(a), report(b)
    assert isinstance(a, FxqModule) and isinstance(b, FxqModule)
    first, second = _ops(a, reports[0]), _ops(b, reports[1])
    both = [name for name in second if name in first]
    found = {name: _compared(first[name], second[name]) for name in both}
    changed = tuple(each for each in found.values() if each.changes or each.tensors)
    return Difference(
        model=tuple(_changes(_facts_of_model(reports[0]), _facts_of_model(reports[1]))),
        added=tuple(OpDiff(name=name, what=op.row.what) for name, op in second.items() if name not in first),
        removed=tuple(OpDiff(name=name, what=op.row.what) for name, op in first.items() if name not in second),
        changed=changed,
        same=len(both) - len(changed),
    )


@dataclass(frozen=True, eq=False)
class _Op:
    """What is compared of one node.

    Attributes:
        row: in the report.
        form: "call" or "module": the attributes of the two have other names.
        reads: the values that it computes with.
        attributes: of a canonical op, those that are not as by default; of a module, what it prints of itself.
        tensors: its constants.
    """

    row: Row
    form: str = ""
    reads: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def _ops(model: FxqModule, found: Report) -> dict[str, _Op]:
    """Name → op, in the order of the report. What islands call and no graph has is in the report only."""
    nodes = {join_path(graph.path, node.name): node for graph in graphs_of(model) for node in graph.graph.nodes}
    rows = {row.name: row for row in found.rows if row.kind not in _NO_OPS}
    return {name: _op(row, nodes[name]) if name in nodes else _Op(row) for name, row in rows.items()}


def _op(row: Row, node: Node) -> _Op:
    values = dict.fromkeys(value for operand in node.all_input_nodes if kind_of(value := _value(operand)) is not Kind.CONSTANT)
    form = "module" if node.op == "call_module" else "call"
    return _Op(row, form, ", ".join(value.name for value in values), dict(_attributes(node)), dict(_tensors(node)))


def _value(node: Node) -> Node:
    return _value(node.all_input_nodes[0]) if kind_of(node) in _BETWEEN else node


def _attributes(node: Node) -> Iterator[tuple[str, str]]:
    call, module = call_of(node), called_module(node)
    if module is not None:
        yield "settings", module.extra_repr()
    if call is not None:
        defaults = {name: parameter.default for name, parameter in call.op.signature.parameters.items()}
        plain = {name: value for name, value in call.operands.items() if not isinstance(value, Node | list)}
        yield from ((name, format_value(value)) for name, value in plain.items() if not is_default(value, defaults[name]))


def _tensors(node: Node) -> Iterator[tuple[str, Tensor]]:
    module, call = called_module(node), call_of(node)
    for owner in () if module is None else outside_of_graphs(module):
        yield from ((name, tensor) for name, tensor in (*owner._parameters.items(), *owner._buffers.items()) if tensor is not None)
    operands = {} if call is None else call.operands
    for name, value in operands.items():
        constant = constant_of(_value(value)) if isinstance(value, Node) else None
        if constant is not None:
            yield name, constant


def _compared(before: _Op, after: _Op) -> OpDiff:
    changes = [*_changes(_facts(before), _facts(after))]
    if before.form == after.form:
        changes += _changes(before.attributes, after.attributes)
    shared = [name for name in after.tensors if name in before.tensors]
    changes += _changes(*({f"{name} type": _type(op.tensors[name]) for name in shared} for op in (before, after)))
    tensors = [each for name in shared if (each := _tensor_change(name, before.tensors[name], after.tensors[name])) is not None]
    return OpDiff(name=after.row.name, what=after.row.what, changes=tuple(changes), tensors=tuple(tensors))


def _changes(before: Mapping[str, Fact], after: Mapping[str, Fact]) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield Change(fact=name, before=before.get(name), after=after.get(name))


def _type(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _facts(op: _Op) -> dict[str, Fact]:
    row = op.row
    return {
        "op": row.type,
        "kind": row.kind.value,
        "reads": op.reads,
        "fused": ", ".join(row.fused),
        "shape": None if row.shape is None else str(list(row.shape)),
        "dtype": row.dtype,
        "quantized to": row.spec,
        "scale": row.scale,
        "zero point": row.zero_point,
        "weight quantized to": row.weight_spec,
        "stays float": None if row.reason is None else f"{row.reason.why.value}, {row.reason.detail}",
    }


def _facts_of_model(found: Report) -> dict[str, Fact]:
    totals = found.totals
    return {
        "stage": found.stage,
        "profile": found.profile,
        "MACs in int8": format_share(totals.macs_share_int8),
        "weights": format_number(totals.weight_bytes, "B"),
        "float → int8": totals.count(Kind.QUANTIZE),
        "int8 → float": totals.count(Kind.DEQUANTIZE),
    }


def _tensor_change(name: str, before: Tensor, after: Tensor) -> TensorChange | None:
    """None where they are equal, or cannot be compared number by number: that is a change of type."""
    if before.shape != after.shape or before.dtype != after.dtype or torch.equal(before, after):
        return None
    distance = (after.detach().to(torch.float64) - before.detach().to(torch.float64)).abs()
    return TensorChange(tensor=name, elements=after.numel(), changed=int((distance != 0).sum()), max_change=float(distance.max()))
