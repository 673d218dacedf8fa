"""A graph as a Mermaid flowchart, which Markdown pages of many sites draw: GitHub's and GitLab's, for example."""

from __future__ import annotations

from fxq.graph.module import FxqModule
from fxq.report.kinds import Kind
from fxq.visualize.dot import COLOURS
from fxq.visualize.picture import Arrow, Box, draw


def to_mermaid(model: FxqModule) -> str:
    """model → Mermaid text, at any stage: what `to_dot` draws, with a thick arrow where integers flow.

    Raises:
        StageError: the model is not one of fxq's.
    """
    picture = draw(model)
    # names of the user's may be words of the language, such as "end"
    ids = {box.name: f"n{number}" for number, box in enumerate(picture.boxes)}
    boxes = [f"{ids[box.name]}{_shape(box)}:::{_class(box.kind)}" for box in picture.boxes]
    arrows = [_arrow(arrow, ids[arrow.source], ids[arrow.target]) for arrow in picture.arrows]
    styles = [f"classDef {_class(kind)} fill:{COLOURS[kind]},stroke:#555,color:#000" for kind in Kind]
    return "flowchart TD\n" + "".join(f"  {line}\n" for line in (*boxes, *arrows, *styles))


def _class(kind: Kind) -> str:
    """A single word, which what people read need not be."""
    return kind.name.lower()


def _shape(box: Box) -> str:
    text = "<br>".join(map(_quoted, box.lines))
    return f'(["{text}"])' if box.kind in (Kind.INPUT, Kind.OUTPUT) else f'["{text}"]'


def _arrow(arrow: Arrow, source: str, target: str) -> str:
    line = "==>" if arrow.is_int8 else "-->"
    return f'{source} {line}|"{_quoted(arrow.label)}"| {target}' if arrow.label else f"{source} {line} {target}"


def _quoted(text: str) -> str:
    """Text inside of quotes: marks of the language as entities, which Mermaid writes with # in front."""
    return "".join(f"#{ord(mark)};" if mark in '"#<>&`' else mark for mark in text)
