"""A graph in the DOT language, for Graphviz: `dot -Tsvg model.dot -o model.svg`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fxq.graph.module import FxqModule
from fxq.report.kinds import Kind
from fxq.visualize.picture import Arrow, Box, Picture, draw

# fill colours, light enough for black text
COLOURS: Mapping[Kind, str] = {
    Kind.INPUT: "#ffffff",
    Kind.INT8: "#c7e9c0",
    Kind.DYNAMIC: "#e5f5b0",
    Kind.WEIGHT_ONLY: "#f0e6a0",
    Kind.FLOAT: "#fdd0a2",
    Kind.QUANTIZE: "#9ecae1",
    Kind.DEQUANTIZE: "#c6dbef",
    Kind.OBSERVER: "#dadaeb",
    Kind.SHAPE: "#eeeeee",
    Kind.CONSTANT: "#eeeeee",
    Kind.OUTPUT: "#ffffff",
}

_HEAD = (
    'graph [rankdir=TB, nodesep=0.3, ranksep=0.3, fontname="Helvetica", fontsize=11, color="#bbbbbb", fontcolor="#777777"]',
    'node [shape=box, style="rounded,filled", color="#555555", fontname="Helvetica", fontsize=11, margin="0.12,0.06"]',
    'edge [color="#777777", fontname="Helvetica", fontsize=9, arrowsize=0.6]',
)


def to_dot(model: FxqModule, *, clusters: bool = False) -> str:
    """model → DOT text, at any stage: a box for every node, coloured by how it runs, and an arrow for every value that is read.

    Boxes have the layer's name, what it is with all that is fused into it, and dtype and shape; the node as graph text is the
    tooltip. Arrows that carry integers are drawn thicker, with scale and zero point once these are known.

    Args:
        clusters: draw a frame around the calls of each module that contains calls.

    Raises:
        StageError: the model is not one of fxq's.
    """
    picture = draw(model)
    boxes = _in_frames(picture, "") if clusters else map(_box, picture.boxes)
    lines = (*_HEAD, *boxes, *map(_arrow, picture.arrows))
    return "digraph fxq {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def quote(text: str) -> str:
    """Any text as a DOT string: what it says is what is shown."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _box(box: Box) -> str:
    label, tooltip = quote("\n".join(box.lines)), quote(box.detail)
    return f'{quote(box.name)} [label={label}, tooltip={tooltip}, fillcolor="{COLOURS[box.kind]}"]'


def _arrow(arrow: Arrow) -> str:
    attributes = [f"label={quote(f' {arrow.label}')}"] if arrow.label else []
    attributes += ["penwidth=2"] if arrow.is_int8 else []
    return f"{quote(arrow.source)} -> {quote(arrow.target)}" + (f" [{', '.join(attributes)}]" if attributes else "")


def _in_frames(picture: Picture, scope: str) -> Iterator[str]:
    """The boxes of a scope, and a frame for each module inside it."""
    inside = [box for box in picture.boxes if box.scope == scope]
    yield from map(_box, inside)
    for name in dict.fromkeys(_next_scope(box.scope, scope) for box in picture.boxes if _is_below(box.scope, scope)):
        yield f"subgraph {quote(f'cluster {name}')} {{"
        yield f"label={quote(name)}"
        yield from _in_frames(picture, name)
        yield "}"


def _is_below(path: str, scope: str) -> bool:
    return path != scope and (not scope or path.startswith(f"{scope}."))


def _next_scope(path: str, scope: str) -> str:
    """The module on the way from scope to path that is one step below scope."""
    steps = path.split(".")
    return ".".join(steps[: (scope.count(".") + 2) if scope else 1])
