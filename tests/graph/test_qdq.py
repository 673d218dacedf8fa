"""quantize and dequantize nodes: inserted behind a value, and read back."""

from __future__ import annotations

import pytest
import torch
from torch.fx import Node

from fxq.graph.annotation import TensorType, tensor_type
from fxq.graph.constants import tensor_at
from fxq.graph.module import FxqModule
from fxq.graph.parse import parse_graph
from fxq.graph.qdq import insert_qdq, integers_behind, is_dequantize, is_quantize, qparams_of
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL, QParams, QuantSpec
from fxq.graph.text import print_graph

TEXT = "x: f32[2, 3] = input\nl: f32[2, 4] = linear(x, @l.weight[4, 3])\nr: f32[2, 4] = relu(l)\noutput r\n"


def node(module: FxqModule, name: str) -> Node:
    return next(each for each in module.graph.nodes if each.name == name)


def channels(*zero_points: int, spec: QuantSpec = WEIGHT_PER_CHANNEL) -> QParams:
    return QParams(spec, torch.tensor([0.5, 0.25, 0.125, 1.0]), torch.tensor(zero_points, dtype=torch.int32))


def test_per_tensor() -> None:
    module = parse_graph(TEXT)
    dq = insert_qdq(node(module, "x"), QParams.per_tensor(0.5, 3), after=node(module, "x"))
    node(module, "l").replace_input_with(node(module, "x"), dq)
    assert print_graph(module) == (
        "x: f32[2, 3] = input\n"
        "x_q: u8[2, 3] = quantize(x, scale=0.5, zero_point=3)\n"
        "x_dq: f32[2, 3] = dequantize(x_q, scale=0.5, zero_point=3)\n"
        "l: f32[2, 4] = linear(x_dq, @l.weight[4, 3])\n"
        "r: f32[2, 4] = relu(l)\n"
        "output r\n"
    )
    assert (is_quantize(integers_behind(dq)), is_dequantize(dq), is_quantize(dq), is_dequantize(node(module, "l"))) == (
        True,
        True,
        False,
        False,
    )
    assert (is_quantize(3), is_dequantize(None)) == (False, False)
    assert qparams_of(dq) == qparams_of(integers_behind(dq)) == QParams.per_tensor(0.5, 3)


def test_per_channel_symmetric_stores_its_scales_next_to_the_tensor() -> None:
    module = parse_graph(TEXT)
    weight = node(module, "l_weight")
    dq = insert_qdq(weight, channels(0, 0, 0, 0), after=weight)
    assert print_graph(module).splitlines()[1:3] == [
        "l_weight_q: s8[4, 3] = quantize(@l.weight[4, 3], scale=@l.weight_scale[4], zero_point=0, qmin=-127, qmax=127, axis=0)",
        "l_weight_dq: f32[4, 3] = dequantize(l_weight_q, scale=@l.weight_scale[4], zero_point=0, qmin=-127, qmax=127, axis=0)",
    ]
    assert qparams_of(dq) == channels(0, 0, 0, 0)
    assert torch.equal(tensor_at(module, "l.weight_scale"), channels(0, 0, 0, 0).scale)


def test_per_channel_affine_stores_zero_points_too() -> None:
    module = parse_graph(TEXT)
    spec = QuantSpec(axis=1)
    dq = insert_qdq(node(module, "l_weight"), channels(0, 7, 0, 255, spec=spec), after=node(module, "l_weight"))
    assert qparams_of(dq) == channels(0, 7, 0, 255, spec=spec)
    assert tensor_at(module, "l.weight_zero_point").tolist() == [0, 7, 0, 255]
    assert tensor_type(integers_behind(dq)) == TensorType((4, 3), torch.uint8)


def test_readers_are_left_as_they_are() -> None:
    module = parse_graph(TEXT)
    insert_qdq(node(module, "l"), QParams.per_tensor(0.5, 3), after=node(module, "l"))
    assert [reader.name for reader in node(module, "l").users] == ["r", "l_q"]


def test_other_nodes_have_no_qparams() -> None:
    module = parse_graph(TEXT)
    with pytest.raises(AssertionError, match="l does not quantize"):
        qparams_of(node(module, "l"))
