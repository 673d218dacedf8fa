"""Mermaid and SVG: whole for a small graph, well formed and complete for every stage."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

import fxq
from fxq.report import Kind
from tests.report.models import prepared_islands

SMALL = """
x: f32[1, 4] = input
x_q: u8[1, 4] = quantize(x, scale=0.5, zero_point=3)
y: f32[1, 4] = dequantize(x_q, scale=0.5, zero_point=3)
output y
"""

SMALL_MERMAID = """\
flowchart TD
  n0(["x<br>input<br>f32[1, 4]"]):::input
  n1["x_q<br>quantize<br>u8[1, 4]"]:::quantize
  n2["y<br>dequantize<br>f32[1, 4]"]:::dequantize
  n3(["output"]):::output
  n0 --> n1
  n1 ==>|"scale 0.5, zero point 3"| n2
  n2 --> n3
"""

MODELS = {"observed": lambda model: model, "reference": fxq.convert_to_reference_fx, "lowered": fxq.convert_fx}


def test_small_graph_as_mermaid() -> None:
    text = fxq.to_mermaid(fxq.parse_graph(SMALL))
    assert text.startswith(SMALL_MERMAID)
    assert re.findall(r"classDef (\w+) fill:#\w{6}", text.removeprefix(SMALL_MERMAID)) == [kind.name.lower() for kind in Kind]


@pytest.mark.parametrize("stage", MODELS)
def test_mermaid_has_every_node_and_arrow(stage: str) -> None:
    model = MODELS[stage](prepared_islands())
    nodes = [node for node in model.graph.nodes if node.op != "get_attr"]
    lines = fxq.to_mermaid(model).splitlines()
    boxes = [line for line in lines if re.fullmatch(r'  n\d+(\["[^"#<]*(<br>[^"<]*)*"\]|\(\["[^"<]*(<br>[^"<]*)*"\]\)):::\w+', line)]
    arrows = [line for line in lines if re.fullmatch(r'  n\d+ (-->|==>)(\|"[^"]*"\|)? n\d+', line)]
    assert len(boxes) == len(nodes)
    assert len(arrows) == sum(operand.op != "get_attr" for node in nodes for operand in node.all_input_nodes)
    assert len(lines) == 1 + len(boxes) + len(arrows) + len(Kind)


@pytest.mark.parametrize("stage", MODELS)
def test_svg_has_every_node_and_arrow_inside_of_the_picture(stage: str) -> None:
    model = MODELS[stage](prepared_islands())
    nodes = [node for node in model.graph.nodes if node.op != "get_attr"]
    root = ElementTree.fromstring(fxq.to_svg(model))
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text for title in root.iter(f"{space}title")]
    assert len(titles) == len(nodes)
    arrows = [path for path in root.iter(f"{space}path") if "marker-end" in path.attrib]
    assert len(arrows) == sum(operand.op != "get_attr" for node in nodes for operand in node.all_input_nodes)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for rect in root.iter(f"{space}rect"):
        x, y = float(rect.attrib.get("x", 0)), float(rect.attrib.get("y", 0))
        assert 0 <= x and x + float(rect.attrib["width"]) <= width and 0 <= y and y + float(rect.attrib["height"]) <= height
