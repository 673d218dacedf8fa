"""What there is to draw of a graph, whatever it is drawn with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch.fx import Node

from fxq.errors import StageError
from fxq.graph.annotation import origin_of, origins_of, tensor_type, type_of
from fxq.graph.module import FxqModule
from fxq.graph.text import format_node, format_type
from fxq.graph.verify import INTEGERS
from fxq.report.kinds import Kind, kind_of
from fxq.report.rows import qparams_known
from fxq.report.wording import format_qparams, short_type


@dataclass(frozen=True)
class Box:
    """A node.

    Attributes:
        name: of the node, unique in the graph.
        kind: gives the colour.
        lines: what is written in the box, from the top.
        detail: the node as graph text.
        scope: path of the module that the call is in; "" for the model itself.
    """

    name: str
    kind: Kind
    lines: tuple[str, ...]
    detail: str
    scope: str


@dataclass(frozen=True)
class Arrow:
    """A value on its way to a reader.

    Attributes:
        source, target: names of boxes.
        label: what the integers mean; "" for floats, and before that is known.
        is_int8: 8-bit integers flow.
    """

    source: str
    target: str
    label: str
    is_int8: bool


@dataclass(frozen=True)
class Picture:
    """Boxes in order of execution, and the arrows between them."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def draw(model: FxqModule) -> Picture:
    """model → boxes and arrows, at any stage. Constants have no box of their own: they are in the detail of their readers.

    Raises:
        StageError: the model is not one of fxq's.
    """
    require_model(model)
    nodes = [node for node in model.graph.nodes if kind_of(node) is not Kind.CONSTANT]
    return Picture(tuple(map(_box, nodes)), tuple(arrow for node in nodes for arrow in _arrows_to(node)))


def require_model(model: object) -> None:
    """Raises StageError for what is not a model of fxq's."""
    if not isinstance(model, FxqModule):
        raise StageError(
            "visualize",
            expected="a model that fxq.fuse_fx, fxq.prepare_fx, fxq.convert_fx or fxq.quantize returned",
            found=f"a {type(model).__module__}.{type(model).__qualname__}",
            remedy="trace it first: fxq.fuse_fx(model, example_inputs)",
        )


def _box(node: Node) -> Box:
    kind, origin = kind_of(node), origin_of(node)
    detail = kind.value if kind is Kind.OUTPUT else format_node(node)
    return Box(node.name, kind, tuple(line for line in _lines(node, kind) if line), detail, "" if origin is None else origin.scope)


def _lines(node: Node, kind: Kind) -> tuple[str, str, str]:
    """Name, how it runs and what it is, type of the value."""
    origin = origin_of(node)
    if kind is Kind.OUTPUT:
        return kind.value, "", ""
    name = origin.module if origin is not None and origin.object_type == origin.module_type else node.name
    calls = " + ".join(short_type(call.object_type) for call in origins_of(node))
    return name, kind.value if calls in ("", kind.value) else f"{kind.value}: {calls}", format_type(type_of(node))


def _arrows_to(node: Node) -> Iterator[Arrow]:
    for operand in node.all_input_nodes:
        if kind_of(operand) is not Kind.CONSTANT:
            value, qparams = tensor_type(operand), qparams_known(operand)
            is_int8 = value is not None and value.dtype in INTEGERS
            known = is_int8 and qparams is not None and qparams.scale.ndim == 0
            label = format_qparams(float(qparams.scale), int(qparams.zero_point)) if known and qparams is not None else ""
            yield Arrow(operand.name, node.name, label, is_int8)
