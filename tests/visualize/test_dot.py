"""DOT text: whole for a small graph, well formed and complete for every stage."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.graph.module import FxqModule
from fxq.passes import trace
from fxq.report import Kind
from fxq.visualize import to_dot, to_text
from fxq.visualize.dot import COLOURS, quote
from tests.report.models import Block, Islands, block_input, islands_input, prepared_block, prepared_islands

SMALL = """
x: f32[1, 4] = input
x_q: u8[1, 4] = quantize(x, scale=0.5, zero_point=3)
flat: u8[4] = flatten(x_q)
y: f32[4] = dequantize(flat, scale=0.5, zero_point=3)
z: f32[4] = add(y, y)
output z
"""

STYLE = """\
  graph [rankdir=TB, nodesep=0.3, ranksep=0.3, fontname="Helvetica", fontsize=11, color="#bbbbbb", fontcolor="#777777"]
  node [shape=box, style="rounded,filled", color="#555555", fontname="Helvetica", fontsize=11, margin="0.12,0.06"]
  edge [color="#777777", fontname="Helvetica", fontsize=9, arrowsize=0.6]
"""

SMALL_DOT = f"""\
digraph fxq {{
{STYLE}\
  "x" [label="x\\ninput\\nf32[1, 4]", tooltip="input", fillcolor="#ffffff"]
  "x_q" [label="x_q\\nquantize\\nu8[1, 4]", tooltip="quantize(x, scale=0.5, zero_point=3)", fillcolor="#9ecae1"]
  "flat" [label="flat\\nfloat: Flatten\\nu8[4]", tooltip="flatten(x_q)", fillcolor="#fdd0a2"]
  "y" [label="y\\ndequantize\\nf32[4]", tooltip="dequantize(flat, scale=0.5, zero_point=3)", fillcolor="#c6dbef"]
  "z" [label="z\\nfloat: add\\nf32[4]", tooltip="add(y, y)", fillcolor="#fdd0a2"]
  "output" [label="output", tooltip="output", fillcolor="#ffffff"]
  "x" -> "x_q"
  "x_q" -> "flat" [label=" scale 0.5, zero point 3", penwidth=2]
  "flat" -> "y" [penwidth=2]
  "y" -> "z"
  "z" -> "output"
}}
"""


def test_small_graph() -> None:
    assert to_dot(fxq.parse_graph(SMALL)) == SMALL_DOT


_STRING = r'"(?:[^"\\]|\\.)*"'
_ATTRIBUTES = rf"\[\w+=(?:{_STRING}|[\w.]+)(?:, \w+=(?:{_STRING}|[\w.]+))*\]"
_BOX = re.compile(rf"  ({_STRING}) {_ATTRIBUTES}")
_ARROW = re.compile(rf"  ({_STRING}) -> ({_STRING})(?: {_ATTRIBUTES})?")
_DEFAULTS = re.compile(rf"  (?:graph|node|edge) {_ATTRIBUTES}")
_FRAME = re.compile(rf"  (?:subgraph {_STRING} \{{|label={_STRING}|\}})")


def _read(dot: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Names of boxes, and arrows; fails on any line that is not DOT as fxq writes it."""
    first, *lines, last = dot.splitlines()
    assert (first, last) == ("digraph fxq {", "}")
    boxes, arrows, depth = [], [], 0
    for line in lines:
        if box := _BOX.fullmatch(line):
            boxes.append(box[1])
        elif arrow := _ARROW.fullmatch(line):
            arrows.append((arrow[1], arrow[2]))
        else:
            assert _DEFAULTS.fullmatch(line) or _FRAME.fullmatch(line), line
            depth += line.endswith("{") - line.endswith("}")
            assert depth >= 0
    assert depth == 0
    return boxes, arrows


@pytest.fixture(scope="module")
def stages() -> dict[str, FxqModule]:
    observed = prepared_islands()
    return {
        "traced": trace(Islands().eval(), islands_input()),
        "fused": fxq.fuse_fx(Islands().eval(), islands_input()),
        "observed": observed,
        "reference": fxq.convert_to_reference_fx(observed),
        "lowered": fxq.convert_fx(observed),
    }


@pytest.mark.parametrize("clusters", [False, True])
@pytest.mark.parametrize("stage", ["traced", "fused", "observed", "reference", "lowered"])
def test_every_node_has_a_box_and_every_value_an_arrow(stages: dict[str, FxqModule], stage: str, clusters: bool) -> None:
    nodes = [node for node in stages[stage].graph.nodes if node.op != "get_attr"]
    boxes, arrows = _read(to_dot(stages[stage], clusters=clusters))
    assert sorted(boxes) == sorted(f'"{node.name}"' for node in nodes)
    read = [(operand.name, node.name) for node in nodes for operand in node.all_input_nodes if operand.op != "get_attr"]
    assert sorted(arrows) == sorted((f'"{source}"', f'"{target}"') for source, target in read)


def test_frames_are_those_of_the_modules_that_contain_calls() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Sigmoid()))
            self.b = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    lines = to_dot(fxq.fuse_fx(Two().eval(), torch.ones(2)), clusters=True).splitlines()[4:]
    assert [re.sub(r" \[label.*", "", line.strip()) for line in lines] == [
        '"x"', '"b"', '"output"',
        'subgraph "cluster a" {', 'label="a"', '"a_0"',
        'subgraph "cluster a.1" {', 'label="a.1"', '"a_1_0"', "}", "}",
        '"x" -> "a_0"', '"a_0" -> "a_1_0"', '"a_1_0" -> "b"', '"b" -> "output"', "}",
    ]  # fmt: skip


def test_labels_speak_of_the_users_model() -> None:
    dot = to_dot(fxq.convert_fx(prepared_block()))
    assert r'[label="conv1\nint8: Conv2d + BatchNorm2d + ReLU\nu8[2, 8, 6, 6]", tooltip="Conv[conv1](x_q)", fillcolor="#c7e9c0"]' in dot


def test_scales_stand_at_every_integer_value_of_a_converted_model() -> None:
    model = fxq.convert_fx(prepared_block())
    rows = [row for row in fxq.report(model).rows if row.dtype == "uint8"]
    labels = {row.name: f'[label=" scale {row.scale:.4g}, zero point {row.zero_point}", penwidth=2]' for row in rows}
    values = [(operand.name, node.name) for node in model.graph.nodes for operand in node.all_input_nodes]
    expected = [f'  "{source}" -> "{target}" {labels[source]}' for source, target in values if source in labels]
    assert [line for line in to_dot(model).splitlines() if "->" in line and "[" in line] == expected


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("plain", '"plain"'), ('say "x"', r'"say \"x\""'), ("a\\nb", r'"a\\nb"'), ("two\nlines", r'"two\nlines"'), ("\\", r'"\\"')],
)
def test_quotes(text: str, quoted: str) -> None:
    assert quote(text) == quoted
    assert re.fullmatch(_STRING, quoted)


def test_text_of_the_user_is_quoted() -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("ij,jk->ik", x, x)

    dot = to_dot(trace(Model(), torch.ones(2, 2)))
    _read(dot)
    assert "tooltip=\"call torch.functional.einsum('ij,jk->ik', x, x)\"" in dot


def test_every_kind_has_a_colour() -> None:
    assert set(COLOURS) == set(Kind)


def test_text_is_the_printed_graph() -> None:
    fused = fxq.fuse_fx(Block().eval(), block_input())
    assert to_text(fused) == fxq.print_graph(fused)


def test_other_modules_are_refused() -> None:
    with pytest.raises(fxq.StageError, match=r"found: +a torch\.nn\.modules\.linear\.Linear"):
        to_dot(nn.Linear(2, 2))  # type: ignore[arg-type]
