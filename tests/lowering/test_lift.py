"""lift(lower(reference)) is the reference again."""

from __future__ import annotations

import pytest
import torch

from fxq.graph.module import FxqModule
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.lowering.lift import lift
from fxq.lowering.lower import lower
from tests.lowering.compiled import compile_text
from tests.lowering.examples import EXAMPLES
from tests.passes.cases import text

CASES = [(f"{op}-{number}", graph) for op, graphs in EXAMPLES.items() for number, graph in enumerate(graphs)]


def relowered(module: FxqModule) -> FxqModule:
    lifted = lift(module)
    assert lifted.profile is not None
    lower(lifted, lifted.profile)
    lifted.stage = Stage.LOWERED
    lifted.recompile()
    return lifted


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("case", "graph"), CASES, ids=[case for case, _ in CASES])
def test_lowering_again_gives_the_same_model(case: str, graph: str) -> None:
    """Up to the last bit of a multiplier, which may turn a tie over."""
    compiled = compile_text(graph)
    again = relowered(compiled.lowered)
    assert print_graph(again) == print_graph(compiled.lowered)
    with torch.no_grad():
        expected, found = compiled.lowered(*compiled.inputs), again(*compiled.inputs)
    for ours, theirs in zip(*(value if isinstance(value, tuple) else (value,) for value in (expected, found)), strict=True):
        assert float((ours - theirs).abs().max()) <= 0.02 * float(ours.abs().max())
        assert float((ours != theirs).float().mean()) <= 0.02


def test_graph() -> None:
    graph = "x: f32[2, 4, 6, 6] = input\ny = conv(x, @c.weight[4, 4, 1, 1], @c.bias[4], residual=x, act=relu)\nz = relu(y)\noutput z"
    compiled = compile_text(graph)
    lifted = lift(compiled.lowered)
    found = "\n".join(line.partition(", scale=")[0] for line in print_graph(lifted).splitlines())
    assert found + "\n" == text("""
        x: f32[2, 4, 6, 6] = input
        x_q: u8[2, 4, 6, 6] = quantize(x
        x_dq: f32[2, 4, 6, 6] = dequantize(x_q
        c_weight_dq: f32[4, 4, 1, 1] = dequantize(@c.weight[s8, 4, 4, 1, 1]
        y: f32[2, 4, 6, 6] = conv(x_dq, c_weight_dq, @c.bias[4], residual=x_dq, act=relu)
        y_q: u8[2, 4, 6, 6] = quantize(y
        y_dq: f32[2, 4, 6, 6] = dequantize(y_q
        z: f32[2, 4, 6, 6] = relu(y_dq)
        z_q: u8[2, 4, 6, 6] = quantize(z
        z_dq: f32[2, 4, 6, 6] = dequantize(z_q
        output z_dq
        """)
    assert lifted.stage is Stage.REFERENCE


def test_model_is_not_changed() -> None:
    compiled = compile_text(EXAMPLES["conv"][0])
    before = print_graph(compiled.lowered)
    (weight,) = (each for name, each in compiled.lowered.named_buffers() if name.endswith("weight"))
    lifted = lift(compiled.lowered)
    assert print_graph(compiled.lowered) == before and compiled.lowered.stage is Stage.LOWERED
    assert any(each is weight for each in lifted.buffers())
