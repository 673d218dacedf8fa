"""Observers → quantize and dequantize."""

from __future__ import annotations

import pytest
import torch

from fxq.errors import CalibrationError, StageError
from fxq.graph.constants import tensor_at
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.observers import Observer
from fxq.passes import CONVERT, Context, run_pipeline
from tests.passes.cases import EVERYTHING, UNIT, X86, calibrate_on_ramps, network, parsed, ramp, text, up_to

FROZEN = """
    x: f32[1, 2, 2, 4] = input
    x_q: u8[1, 2, 2, 4] = quantize(x, scale=0.0078125, zero_point=0)
    x_dq: f32[1, 2, 2, 4] = dequantize(x_q, scale=0.0078125, zero_point=0)
    c_weight_q: s8[2, 2, 1, 1] = quantize(@c.weight[2, 2, 1, 1], scale=@c.weight_scale[2], zero_point=0, qmin=-127, qmax=127, axis=0)
    c_weight_dq: f32[2, 2, 1, 1] = dequantize(c_weight_q, scale=@c.weight_scale[2], zero_point=0, qmin=-127, qmax=127, axis=0)
    c: f32[1, 2, 2, 4] = conv(x_dq, c_weight_dq, @c.bias[2], act=relu)
    c_q: u8[1, 2, 2, 4] = quantize(c, scale=0.0078125, zero_point=0)
    c_dq: f32[1, 2, 2, 4] = dequantize(c_q, scale=0.0078125, zero_point=0)
    p: f32[1, 2, 1, 2] = max_pool(c_dq, kernel_size=(2, 2), stride=(2, 2))
    p_q: u8[1, 2, 1, 2] = quantize(p, scale=0.0078125, zero_point=0)
    p_dq: f32[1, 2, 1, 2] = dequantize(p_q, scale=0.0078125, zero_point=0)
    s: f32[1, 2, 1, 2] = sigmoid(p_dq)
    s_q: u8[1, 2, 1, 2] = quantize(s, scale=0.00390625, zero_point=0)
    s_dq: f32[1, 2, 1, 2] = dequantize(s_q, scale=0.00390625, zero_point=0)
    s_dq_q: u8[1, 2, 1, 2] = quantize(s_dq, scale=0.0078125, zero_point=0)
    s_dq_dq: f32[1, 2, 1, 2] = dequantize(s_dq_q, scale=0.0078125, zero_point=0)
    j: f32[1, 4, 1, 2] = cat((p_dq, s_dq_dq), dim=1)
    j_q: u8[1, 4, 1, 2] = quantize(j, scale=0.0078125, zero_point=0)
    j_dq: f32[1, 4, 1, 2] = dequantize(j_q, scale=0.0078125, zero_point=0)
    f: f32[1, 8] = flatten(j_dq, start_dim=1)
    f_q: u8[1, 8] = quantize(f, scale=0.0078125, zero_point=0)
    f_dq: f32[1, 8] = dequantize(f_q, scale=0.0078125, zero_point=0)
    l_weight_q: s8[3, 8] = quantize(@l.weight[3, 8], scale=@l.weight_scale[3], zero_point=0, qmin=-127, qmax=127, axis=0)
    l_weight_dq: f32[3, 8] = dequantize(l_weight_q, scale=@l.weight_scale[3], zero_point=0, qmin=-127, qmax=127, axis=0)
    l: f32[1, 3] = linear(f_dq, l_weight_dq, @l.bias[3])
    output l
"""


def test_every_quantized_value_and_weight_gets_a_pair() -> None:
    module = up_to("freeze_qparams", network())
    assert module.stage is Stage.REFERENCE
    assert print_graph(module) == text(FROZEN)
    assert tensor_at(module, "c.weight_scale").tolist() == [UNIT, UNIT]
    assert not [each for each in module.modules() if isinstance(each, Observer)]


def test_values_are_preserved_within_half_a_step_of_each_rounding() -> None:
    """x, weights and c are on the grid; the result differs by the rounding of sigmoid (1/512, then 1/256) times Σ|w|."""
    x, module = ramp(1, 2, 2, 4).mul(1 / UNIT).round().mul(UNIT), up_to("freeze_qparams", network())
    weights = tensor_at(network(), "l.weight")
    # c: half of 1/128 behind the first rounding, for each of its four pooled values; sigmoid's slope is at most 1/4
    bound = weights[:, :4].abs().sum(1) * UNIT / 2 + weights[:, 4:].abs().sum(1) * (UNIT / 8 + UNIT / 4 + UNIT / 2)
    step = tensor_at(module, "l.weight_scale")
    rounding = step / 2 * 8 * 2
    assert bool(((module(x) - network()(x)).abs() <= bound + rounding).all())


def test_a_value_with_float_readers() -> None:
    lines = "x: f32[1, 4] = input\nt = softmax(x, dim=1)\ns = silu(t)\nu = softmax(t, dim=1)\nn = size(s, dim=0)\noutput (s, u, n)"
    module = up_to("freeze_qparams", parsed(lines))
    scales = [float(node.kwargs["scale"]) for node in module.graph.nodes if "scale" in node.kwargs]
    t, s = scales[0], scales[2]
    zero = [int(node.kwargs["zero_point"]) for node in module.graph.nodes if "scale" in node.kwargs]
    assert (zero, scales) == ([0, 0, 0, 0], [t, t, s, s])
    assert print_graph(module) == text(f"""
        x: f32[1, 4] = input
        t: f32[1, 4] = softmax(x, dim=1)
        t_q: u8[1, 4] = quantize(t, scale={t}, zero_point=0)
        t_dq: f32[1, 4] = dequantize(t_q, scale={t}, zero_point=0)
        s: f32[1, 4] = silu(t_dq)
        s_q: u8[1, 4] = quantize(s, scale={s}, zero_point=0)
        s_dq: f32[1, 4] = dequantize(s_q, scale={s}, zero_point=0)
        u: f32[1, 4] = softmax(t, dim=1)
        n = size(s, dim=0)
        output (s_dq, u, n)
    """)


def test_a_dead_channels_scale_leaves_room_for_its_bias() -> None:
    """w = 2^-40, b = 1: without a larger scale b / (s_x · s_w) would be 2^47 · 127 and more."""
    weights = {"l.weight": torch.tensor([[1.0, 0.0], [2.0**-40, 0.0]]), "l.bias": torch.tensor([1.0, 1.0])}
    module = up_to("freeze_qparams", parsed("x: f32[1, 2] = input\nl = linear(x, @l.weight[2, 2], @l.bias[2])\noutput l", weights))
    scale = tensor_at(module, "l.weight_scale")
    assert float(scale[0]) == float(torch.tensor(1 / 127, dtype=torch.float32))
    assert 2.0**29 < 1.0 / (UNIT * float(scale[1])) < 2.0**30


def test_an_observer_without_data_is_an_error_that_names_it() -> None:
    module = up_to("insert_observers", network())
    with pytest.raises(CalibrationError) as caught:
        run_pipeline(module, CONVERT, Context(X86, EVERYTHING))
    assert caught.value.where == "tensor 'x'"
    assert caught.value.found == "MinMaxObserver never saw data"


def test_a_branch_that_saw_no_data_is_named() -> None:
    module = up_to("insert_observers", network())
    calibrate_on_ramps(module)
    observer = module.get_submodule("c_observer")
    fresh = type(observer)(observer.spec)
    fresh.name = observer.name
    module.c_observer = fresh
    with pytest.raises(CalibrationError, match="tensor 'c, j'"):
        run_pipeline(module, CONVERT, Context(X86, EVERYTHING))


def test_a_weight_that_is_not_finite_is_named() -> None:
    weights = {"l.weight": torch.tensor([[1.0, float("nan")]])}
    module = parsed("x: f32[1, 2] = input\nl = linear(x, @l.weight[1, 2])\noutput l", weights)
    with pytest.raises(CalibrationError, match=r"tensor 'l\.weight'"):
        up_to("freeze_qparams", module)


def test_a_second_run_is_refused() -> None:
    module = up_to("freeze_qparams", network())
    with pytest.raises(StageError, match="found:    stage REFERENCE"):
        run_pipeline(module, CONVERT, Context(X86, EVERYTHING))
