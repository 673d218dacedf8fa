"""Every row of QDQ."""

from __future__ import annotations

import pytest
import torch

from fxq.graph.annotation import refusals_of
from fxq.graph.parse import parse_graph
from fxq.graph.reasons import Reason, Why
from fxq.graph.text import print_graph
from fxq.patterns.qdq import QDQ
from fxq.patterns.rules import rewrite

A = "scale=0.5, zero_point=3"


def dq_q(dq: str, q: str, dtype: str = "u8") -> str:
    return (
        f"x: {dtype}[2, 3] = input\n"
        f"d: f32[2, 3] = dequantize(x, {dq})\n"
        f"e: {dtype}[2, 3] = quantize(d, {q})\n"
        f"z: f32[2, 3] = dequantize(e, {q})\n"
        "output z\n"
    )


def left(dq: str, dtype: str = "u8") -> str:
    return f"x: {dtype}[2, 3] = input\nz: f32[2, 3] = dequantize(x, {dq})\noutput z\n"


CHANNELS = "scale=@s[3], zero_point=0, qmin=-127, qmax=127, axis=1"
SAME = {
    "per tensor": (dq_q(A, A), left(A)),
    "int8": (dq_q(f"{A}, qmin=-128, qmax=127", f"{A}, qmin=-128, qmax=127", "s8"), left(f"{A}, qmin=-128, qmax=127", "s8")),
    "per channel": (dq_q(CHANNELS, CHANNELS, "s8"), left(CHANNELS, "s8")),
}
OTHER = {
    "scale": dq_q(A, "scale=0.25, zero_point=3"),
    "zero point": dq_q(A, "scale=0.5, zero_point=4"),
    "range": dq_q(A, f"{A}, qmax=127"),
    "channels": dq_q(CHANNELS, "scale=@t[3], zero_point=0, qmin=-127, qmax=127, axis=1", "s8"),
    "axis": dq_q("scale=@s[3], zero_point=0, qmin=-127, qmax=127, axis=1", "scale=0.5, zero_point=0, qmin=-127, qmax=127", "s8"),
}
REWRITES = {"cancel_qdq": SAME}


@pytest.mark.parametrize("case", SAME)
def test_cancels(case: str) -> None:
    before, after = SAME[case]
    module = parse_graph(before)
    assert [each.rule for each in rewrite(module, QDQ)] == ["cancel_qdq"]
    assert print_graph(module) == after
    assert rewrite(module, QDQ) == []
    module.recompile()
    integers = torch.arange(6, dtype=torch.uint8 if case == "per tensor" else torch.int8).reshape(2, 3)
    assert torch.equal(module(integers), parse_graph(before)(integers))


@pytest.mark.parametrize("case", OTHER)
def test_other_qparams_are_a_requantization_and_stay(case: str) -> None:
    module = parse_graph(OTHER[case])
    assert rewrite(module, QDQ) == []
    assert print_graph(module) == OTHER[case]
    refusals = {node.name: refusals_of(node) for node in module.graph.nodes if refusals_of(node)}
    assert refusals == {"e": (("cancel_qdq", Reason(Why.NOT_FUSABLE, "e", "d has other qparams: this is a requantization")),)}


def test_a_dequantized_value_with_other_readers_stays_for_them() -> None:
    text = dq_q(A, A).replace("output z", "y: f32[2, 3] = add(d, z)\noutput y")
    module = parse_graph(text)
    assert [each.rule for each in rewrite(module, QDQ)] == ["cancel_qdq"]
    assert print_graph(module) == (
        f"x: u8[2, 3] = input\nd: f32[2, 3] = dequantize(x, {A})\nz: f32[2, 3] = dequantize(x, {A})\ny: f32[2, 3] = add(d, z)\noutput y\n"
    )


def test_an_op_between_them_stays() -> None:
    text = dq_q(A, A).replace("e: u8[2, 3] = quantize(d", "r: f32[2, 3] = relu(d)\ne: u8[2, 3] = quantize(r")
    module = parse_graph(text)
    assert rewrite(module, QDQ) == []
    assert print_graph(module) == text


def test_every_rule_has_a_row() -> None:
    assert set(REWRITES) == {rule.name for rule in QDQ}
