"""q(dq(x, a), a) → x"""

from __future__ import annotations

import torch

from fxq.graph.annotation import refusals_of
from fxq.graph.text import print_graph
from fxq.passes import Context
from fxq.passes.cancel_qdq import cancel_qdq
from tests.passes.cases import X86, network, parsed, text, up_to

PAIR = """
    x: u8[4] = input
    d: f32[4] = dequantize(x, scale=0.5, zero_point=3)
    q: u8[4] = quantize(d, scale=0.5, zero_point=3)
    e: f32[4] = dequantize(q, scale=0.5, zero_point=3)
    output e
"""
CONTEXT = Context(X86)


def test_a_pair_with_the_same_qparams_goes() -> None:
    module = parsed(PAIR)
    assert cancel_qdq(module, CONTEXT) == 1
    assert print_graph(module) == text("""
        x: u8[4] = input
        e: f32[4] = dequantize(x, scale=0.5, zero_point=3)
        output e
    """)


def test_a_second_run_changes_nothing() -> None:
    module = parsed(PAIR)
    cancel_qdq(module, CONTEXT)
    before = print_graph(module)
    assert cancel_qdq(module, CONTEXT) == 0
    assert print_graph(module) == before


def test_values_are_preserved() -> None:
    module, x = parsed(PAIR), torch.arange(256, dtype=torch.uint8)
    before = module(x)
    cancel_qdq(module, CONTEXT)
    module.recompile()
    assert torch.equal(module(x), before)


def refused(changed: str) -> str:
    """The reason why a pair with another q stays."""
    graph = PAIR.replace("quantize(d, scale=0.5, zero_point=3)", f"quantize(d, {changed})", 1)
    module = parsed(graph.replace("dequantize(q, scale=0.5, zero_point=3)", f"dequantize(q, {changed})"))
    before = print_graph(module)
    assert cancel_qdq(module, CONTEXT) == 0
    assert print_graph(module) == before
    (node,) = (node for node in module.graph.nodes if node.name == "q")
    ((rule, reason),) = refusals_of(node)
    assert rule == "cancel_qdq"
    return reason.detail


def test_another_scale_zero_point_and_range_is_a_requantization() -> None:
    for changed in ("scale=0.25, zero_point=3", "scale=0.5, zero_point=4", "scale=0.5, zero_point=3, qmax=127"):
        assert refused(changed) == "d has other qparams: this is a requantization"


def test_a_chain_collapses() -> None:
    module = parsed("""
        x: f32[4] = input
        a: u8[4] = quantize(x, scale=0.5, zero_point=0)
        b: f32[4] = dequantize(a, scale=0.5, zero_point=0)
        c: u8[4] = quantize(b, scale=0.5, zero_point=0)
        d: f32[4] = dequantize(c, scale=0.5, zero_point=0)
        e: u8[4] = quantize(d, scale=0.5, zero_point=0)
        f: f32[4] = dequantize(e, scale=0.5, zero_point=0)
        output f
    """)
    assert cancel_qdq(module, CONTEXT) == 2
    assert print_graph(module) == text("""
        x: f32[4] = input
        a: u8[4] = quantize(x, scale=0.5, zero_point=0)
        f: f32[4] = dequantize(a, scale=0.5, zero_point=0)
        output f
    """)


def test_requantization_in_front_of_cat_stays() -> None:
    assert print_graph(up_to("cancel_qdq", network())) == print_graph(up_to("quantize_constants", network()))


def test_cat_whose_scale_is_that_of_sigmoid_reads_it_directly() -> None:
    """c ranges from 0 to 255/256: its qparams are those that sigmoid always has."""
    module = up_to("cancel_qdq", parsed("""
        x: f32[2, 1] = input
        c: f32[2, 1] = linear(x, @c.weight[1, 1])
        s: f32[2, 1] = sigmoid(c)
        j: f32[2, 2] = cat((c, s), dim=1)
        z: f32[2, 2] = sigmoid(j)
        output z
    """, {"c.weight": torch.full((1, 1), 0.5)}))  # fmt: skip
    assert print_graph(module) == text("""
        x: f32[2, 1] = input
        x_q: u8[2, 1] = quantize(x, scale=0.0078125, zero_point=0)
        x_dq: f32[2, 1] = dequantize(x_q, scale=0.0078125, zero_point=0)
        c_weight_dq: f32[1, 1] = dequantize(@c.weight[s8, 1, 1], scale=@c.weight_scale[1], zero_point=0, qmin=-127, qmax=127, axis=0)
        c: f32[2, 1] = linear(x_dq, c_weight_dq)
        c_q: u8[2, 1] = quantize(c, scale=0.00390625, zero_point=0)
        c_dq: f32[2, 1] = dequantize(c_q, scale=0.00390625, zero_point=0)
        s: f32[2, 1] = sigmoid(c_dq)
        s_q: u8[2, 1] = quantize(s, scale=0.00390625, zero_point=0)
        s_dq_dq: f32[2, 1] = dequantize(s_q, scale=0.00390625, zero_point=0)
        j: f32[2, 2] = cat((c_dq, s_dq_dq), dim=1)
        j_q: u8[2, 2] = quantize(j, scale=0.00390625, zero_point=0)
        j_dq: f32[2, 2] = dequantize(j_q, scale=0.00390625, zero_point=0)
        z: f32[2, 2] = sigmoid(j_dq)
        z_q: u8[2, 2] = quantize(z, scale=0.00390625, zero_point=0)
        z_dq: f32[2, 2] = dequantize(z_q, scale=0.00390625, zero_point=0)
        output z_dq
    """)
