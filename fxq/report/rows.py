"""One row of a report for every node of a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from torch.fx import Node

from fxq.graph.annotation import TensorType, quant_of, refusals_of, tensor_type
from fxq.graph.islands import graphs_of, origins_in_model
from fxq.graph.module import FxqModule, StaysPython
from fxq.graph.names import join_path
from fxq.graph.qdq import is_dequantize, is_quantize, qparams_of
from fxq.graph.qtypes import QParams
from fxq.graph.reasons import Reason
from fxq.lowering.executable import compiled_nodes, refused_nodes
from fxq.report.kinds import Kind, kind_of
from fxq.report.macs import count_macs
from fxq.report.weights import Stored, stored_by
from fxq.report.wording import describe, describe_origin, short_type
from fxq.runtime.assumptions import assume


class Refusal(BaseModel):
    """A rewrite whose pattern matched and that was not done.

    Attributes:
        rule: its name in the table of rewrites.
        reason: which guard objected, and why.
    """

    model_config = ConfigDict(frozen=True)

    rule: str
    reason: Reason


class Row(BaseModel):
    """What is known of one node. Numbers are raw: bytes, MACs, shares from 0 to 1.

    Attributes:
        name: of the node in the graph.
        what: in the words of the user's model: object type and module path.
        type: the object type alone, without the modules it is in; what the compiler made has its kind here.
        module: path of the module called, or of the one around a function call; "" is the model itself.
        kind: how it runs, or will run once the model is converted.
        fused: the calls fused into it, in dataflow order, like `what`.
        rule: the rule of the QConfigMapping that decided; "" where nothing was asked.
        shape, dtype: of the value, for the example inputs; None for what is not one tensor.
        spec: what is asked of the quantized value; None for a float one.
        weight_spec: what is asked of the weight; None for an op without an int8 weight.
        scale, zero_point: of the quantized value; None before the model is calibrated and converted, and per channel.
        macs: multiply-accumulates for the example inputs; None where fxq can't tell.
        macs_share: of the sum over the model, 0 where macs is None.
        weight_bytes: tensors of the model and constants that it holds, as stored. A shared tensor counts where it is read first.
        weight_bytes_float32: the same tensors in the float model.
        compiled: whether it runs as machine code, in a compiled region or by itself.
        not_compiled: why it ran as an integer op inside a compiled region, as calls have shown; or "".
        reason: why it stays float; None for int8, and for what is neither.
        refusals: fusions that were refused here.
        source: "file.py:12" of the call, or "".
        assumed: what the graph takes for granted there and checks at run time: "True at net.py:12, `if x.shape[0] > 1:`"; or "".
    """

    model_config = ConfigDict(frozen=True)

    name: str
    what: str
    type: str
    module: str
    kind: Kind
    fused: tuple[str, ...]
    rule: str
    shape: tuple[int, ...] | None
    dtype: str | None
    spec: str | None
    weight_spec: str | None
    scale: float | None
    zero_point: int | None
    macs: int | None
    macs_share: float
    weight_bytes: int
    weight_bytes_float32: int
    compiled: bool
    reason: Reason | None
    refusals: tuple[Refusal, ...]
    source: str
    assumed: str = ""
    not_compiled: str = ""

    @property
    def is_heavy(self) -> bool:
        """It multiplies matrices: conv, linear, LSTM, matmul and the like, and modules of which fxq can't tell."""
        return self.macs != 0


@dataclass(frozen=True)
class _Costs:
    """What a node costs: MACs, those of the whole model, the tensors that no node before it has; and whether it is compiled, or why not."""

    macs: int | None
    total: int
    compiled: bool
    not_compiled: str
    stored: tuple[Stored, ...]


def make_rows(module: FxqModule) -> tuple[Row, ...]:
    """A row for every node of the graph, in order, then for what the islands in it call."""
    graphs = graphs_of(module)
    macs = {node: count_macs(node) for graph in graphs for node in graph.graph.nodes}
    total = sum(count or 0 for count in macs.values())
    stored = _first_readers(macs)
    compiled = {node for graph in graphs for node in compiled_nodes(graph)}
    refused = {node: why for graph in graphs for node, why in refused_nodes(graph).items()}
    costs = {node: _Costs(count, total, node in compiled, refused.get(node, ""), stored[node]) for node, count in macs.items()}
    rows = [_row(node, module, costs[node]) for node in module.graph.nodes]
    rows += _rows_of_islands(module)
    for graph in graphs[1:]:
        inside = [node for node in graph.graph.nodes if node.op not in ("placeholder", "output")]
        rows += [_row(node, graph, costs[node]) for node in inside]
        rows += _rows_of_islands(graph)
    return _named_apart(rows)


def _first_readers(nodes: Iterable[Node]) -> Mapping[Node, tuple[Stored, ...]]:
    """The tensors of every node, each at the first node that has it."""
    seen: set[int] = set()
    found: dict[Node, tuple[Stored, ...]] = {}
    for node in nodes:
        found[node] = tuple(tensor for tensor in stored_by(node) if tensor.key not in seen)
        seen.update(tensor.key for tensor in found[node])
    return found


def _named_apart(rows: list[Row]) -> tuple[Row, ...]:
    """Graphs that an island calls may have nodes of one name: the second is name_1."""
    count: Counter[str] = Counter()
    found = []
    for row in rows:
        number = count[row.name]
        count[row.name] += 1
        found.append(row.model_copy(update={"name": f"{row.name}_{number}"}) if number else row)
    return tuple(found)


def _row(node: Node, graph: FxqModule, costs: _Costs) -> Row:
    kind, quant, value, qparams = kind_of(node), quant_of(node), tensor_type(node), qparams_known(node)
    origins = origins_in_model(node, graph)
    origin = next(iter(origins), None)
    return Row(
        name=join_path(graph.path, node.name),
        what=describe(node) if origin is None else describe_origin(origin),
        type=kind.value if origin is None else short_type(origin.object_type),
        module="" if origin is None else origin.module,
        kind=kind,
        fused=tuple(map(describe_origin, origins[1:])),
        rule="" if quant is None else quant.rule,
        shape=None if value is None else value.shape,
        dtype=None if value is None else dtype_name(value),
        spec=_text(None if qparams is None else qparams.spec) or _text(None if quant is None else quant.output),
        weight_spec=None if quant is None else _text(quant.inputs.get("weight")),
        scale=None if qparams is None or qparams.scale.ndim else float(qparams.scale),
        zero_point=None if qparams is None or qparams.scale.ndim else int(qparams.zero_point),
        macs=costs.macs,
        macs_share=costs.macs / costs.total if costs.macs else 0.0,
        weight_bytes=sum(tensor.bytes for tensor in costs.stored),
        weight_bytes_float32=sum(tensor.bytes_float32 for tensor in costs.stored),
        compiled=costs.compiled,
        reason=quant.reason if quant is not None and kind is Kind.FLOAT else None,
        refusals=tuple(Refusal(rule=rule, reason=reason) for rule, reason in refusals_of(node)),
        source="" if origin is None else origin.source,
        assumed=f"{node.args[1]!r} at {node.args[2]}" if node.target is assume else "",
        not_compiled=costs.not_compiled,
    )


def _rows_of_islands(graph: FxqModule) -> list[Row]:
    """What islands call and no graph has; what it holds is counted with the island."""
    return [_row_of_island(path, kept) for path, kept in graph.islands.items()]


def _row_of_island(path: str, kept: StaysPython) -> Row:
    kind = short_type(kept.object_type)
    return Row(
        name=path,
        what=f"{kind} {path}",
        type=kind,
        module=path,
        kind=Kind.FLOAT,
        fused=(),
        rule="",
        shape=None,
        dtype=None,
        spec=None,
        weight_spec=None,
        scale=None,
        zero_point=None,
        macs=0,
        macs_share=0.0,
        weight_bytes=0,
        weight_bytes_float32=0,
        compiled=False,
        reason=kept.reason,
        refusals=(),
        source="",
    )


def _text(spec: object | None) -> str | None:
    return None if spec is None else str(spec)


def dtype_name(value: TensorType) -> str:
    """torch.uint8 → uint8"""
    return str(value.dtype).removeprefix("torch.")


def qparams_known(node: Node) -> QParams | None:
    """What the node's value is quantized with, or was, for a dequantize node; None where it is not known."""
    if is_quantize(node) or is_dequantize(node):
        return qparams_of(node)
    quant = quant_of(node)
    return None if quant is None else quant.qparams
