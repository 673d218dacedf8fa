"""Cards: all that the picture says of a node, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from torch.fx import Node

from fxq.graph.annotation import NodeQuant, Origin, origin_of, quant_of, refusals_of, type_of, whole_reason_of
from fxq.graph.islands import graphs_of, origins_in_model
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.graph.qtypes import QParams
from fxq.graph.reasons import Reason
from fxq.graph.text import format_node, format_type
from fxq.observers.distribution import Distribution
from fxq.report.kinds import Kind, kind_of
from fxq.report.rows import qparams_known
from fxq.report.wording import describe, short_type


@dataclass(frozen=True)
class Scale:
    """What the integers of a value mean: real = scale · (q − zero_point), from `low` to `high`."""

    scale: float
    zero_point: int
    low: float
    high: float


@dataclass(frozen=True)
class Card:
    """A node at a stage, or a kernel call.

    Attributes:
        id: unique at its stage; the same node has the same one at other stages.
        scope: path of the module around it.
        kind: how it runs, or will run.
        title: the last part of its path; the node's name where it has none.
        what: the calls that it stands for, or what the compiler made it for.
        type: dtype and shape of the value.
        text: the node as graph text.
        reads: ids of the nodes whose values it takes.
        path: of the module called, or of the one around a function call.
        origins: the calls in it, in dataflow order.
        source: "file.py:12", or "".
        rule: of the QConfigMapping, or of the compiler, that decided.
        reason: why it stays float.
        refusals: fusions that were not done here, and why.
        spec, input_spec, weight_spec: what is asked of the value, of a dynamic op's input, and of the weight; "" where nothing is.
        scale: of the value, where it is one and known.
        group: values of one number have the same scale; "" for a float one.
    """

    id: str
    scope: str
    kind: Kind
    title: str
    what: str
    type: str
    text: str
    reads: tuple[str, ...]
    path: str = ""
    origins: tuple[Origin, ...] = ()
    source: str = ""
    rule: str = ""
    reason: Reason | None = None
    refusals: tuple[str, ...] = ()
    spec: str = ""
    input_spec: str = ""
    weight_spec: str = ""
    scale: Scale | None = None
    group: str = ""


@dataclass(frozen=True)
class Known:
    """What is known of a model's values from elsewhere: group → its qparams, group → what its observer has seen."""

    qparams: Mapping[str, QParams]
    seen: Mapping[str, Distribution]


def make_cards(model: FxqModule, known: Known) -> tuple[Card, ...]:
    """A card for every node but constants, of the model's graph and of those in its islands."""
    return tuple(card for graph in graphs_of(model) for card in _cards_of(graph, known))


def group_of(node: Node, graph: FxqModule) -> str:
    """Which values have the scale of the node's; for quantize and dequantize, of what they read. "" for a float value."""
    quant = quant_of(node)
    if quant is not None and quant.group is not None:
        return f"{graph.path}#{quant.group}"
    reads = node.all_input_nodes
    return group_of(reads[0], graph) if kind_of(node) in (Kind.QUANTIZE, Kind.DEQUANTIZE) and reads else ""


def scale_of(qparams: QParams | None) -> Scale | None:
    """Of a tensor with one pair; None per channel and where there is none."""
    if qparams is None or qparams.scale.ndim:
        return None
    scale, zero_point, spec = float(qparams.scale), int(qparams.zero_point), qparams.spec
    return Scale(scale, zero_point, scale * (spec.qmin - zero_point), scale * (spec.qmax - zero_point))


def _cards_of(graph: FxqModule, known: Known) -> Iterator[Card]:
    scopes: dict[str, str] = {}
    for node in graph.graph.nodes:
        if kind_of(node) is not Kind.CONSTANT:
            scopes[node.name] = _scope(node, graph, scopes)
            yield _card(node, graph, scopes[node.name], known)


def _scope(node: Node, graph: FxqModule, scopes: Mapping[str, str]) -> str:
    """Of the call; what the compiler has made stands beside the value that it reads, or the reader of the weight that it makes."""
    origin = origin_of(node)
    if origin is not None:
        return join_path(graph.path, origin.scope)
    if node.op in ("placeholder", "output"):
        return graph.path
    operand = next((scopes[operand.name] for operand in node.all_input_nodes if operand.name in scopes), None)
    return _scope(next(iter(node.users)), graph, scopes) if operand is None and node.users else operand or graph.path


def _card(node: Node, graph: FxqModule, scope: str, known: Known) -> Card:
    kind, quant, group = kind_of(node), quant_of(node) or NodeQuant(), group_of(node, graph)
    origins = origins_in_model(node, graph)
    origin = next(iter(origins), None)
    qparams = qparams_known(node) or (known.qparams.get(group) if quant.output is not None else None)
    return Card(
        id=join_path(graph.path, node.name),
        scope=scope,
        kind=kind,
        title=_title(node, origin),
        what=" + ".join(short_type(each.object_type) for each in origins) or describe(node),
        type=format_type(type_of(node)),
        text=kind.value if node.op == "output" else format_node(node),
        reads=tuple(join_path(graph.path, operand.name) for operand in node.all_input_nodes if kind_of(operand) is not Kind.CONSTANT),
        path="" if origin is None else origin.module,
        origins=origins,
        source="" if origin is None else "/".join(PurePath(origin.source).parts[-2:]),
        rule=quant.rule,
        reason=(quant.reason or whole_reason_of(node)) if kind is Kind.FLOAT else None,
        refusals=tuple(f"{rule}: {reason.detail}" for rule, reason in refusals_of(node)),
        spec=str(quant.output or (qparams.spec if qparams is not None else "")),
        input_spec=str(quant.inputs["input"] if quant.is_dynamic else ""),
        weight_spec=str(quant.inputs.get("weight", "")),
        scale=scale_of(qparams),
        group=group,
    )


def _title(node: Node, origin: Origin | None) -> str:
    """`conv1`; `downsample.0` for a number; the function's name for a call of one."""
    if origin is None:
        return node.name
    if origin.object_type != origin.module_type:
        return short_type(origin.object_type)
    *_, parent, last = ["", *origin.module.split(".")]
    return f"{parent}.{last}" if last.isdigit() and parent else last
