"""Weights as integers."""

from __future__ import annotations

import torch
from torch import nn

import fxq
from fxq.graph.constants import tensor_at
from fxq.graph.text import print_graph
from fxq.observers import MinMaxObserver, default_weight_observer
from fxq.passes import Context
from fxq.passes.quantize_constants import quantize_constants
from fxq.qconfig_mapping import QConfig, QConfigMapping
from tests.passes.cases import EVERYTHING, PER_CHANNEL, UNIT, X86, network, parsed, ramp, text, up_to
from tests.passes.test_freeze_qparams import FROZEN

TWICE = """
    x: f32[1, 2] = input
    a: f32[1, 2] = linear(x, @shared.weight[2, 2], @shared.bias[2])
    b: f32[1, 2] = linear(a, @shared.weight[2, 2], @shared.bias[2])
    output b
"""


def without_weight_quantization(frozen: str) -> str:
    """The text in which every quantized weight is stored as integers."""
    lines = [line for line in text(frozen).splitlines(keepends=True) if "_weight_q: s8" not in line]
    joined = "".join(lines)
    return joined.replace("(c_weight_q,", "(@c.weight[s8, 2, 2, 1, 1],").replace("(l_weight_q,", "(@l.weight[s8, 3, 8],")


def test_weights_become_integers() -> None:
    module = up_to("quantize_constants", network())
    assert print_graph(module) == without_weight_quantization(FROZEN)
    assert tensor_at(module, "c.weight").tolist() == [[[[127]], [[0]]], [[[0]], [[127]]]]
    assert {key: value.dtype for key, value in module.state_dict().items()} == {
        "c.weight": torch.int8, "c.bias": torch.float32, "c.weight_scale": torch.float32,
        "l.weight": torch.int8, "l.bias": torch.float32, "l.weight_scale": torch.float32,
    }  # fmt: skip


def test_errors_of_each_output_channel_cancel() -> None:
    lines = "x: f32[1, 6, 2, 2] = input\na = conv_transpose(x, @w[6, 1, 1, 2], groups=3, stride=(1, 1))\noutput a"
    weight = torch.full((6, 1, 1, 2), 0.4)
    weight[0, 0, 0, 0] = 127.0  # one scale for all, which is 1
    per_tensor = QConfig(activation=MinMaxObserver, weight=default_weight_observer)
    module = up_to("quantize_constants", parsed(lines, {"w": weight}), QConfigMapping().set_global(per_tensor))
    assert tensor_at(module, "w").flatten().tolist() == [127, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_qnnpack_has_the_nearest_integers() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(40, 6)).eval(), torch.randn(3, 40)
    layers = [fxq.quantize(model, [x], profile=profile, progress=False).get_submodule("0") for profile in ("x86", "qnnpack")]
    balanced, nearest = (layer.get_buffer("weight").float() for layer in layers)
    steps = model[0].weight / (model[0].weight.abs().amax() / 127)
    assert torch.equal(nearest, steps.round())
    assert not torch.equal(balanced, (model[0].weight / (model[0].weight.abs().amax(1, keepdim=True) / 127)).round())


def test_activations_stay_as_they_are() -> None:
    lines = "x: f32[1, 4] = input\ns = silu(x)\noutput s"
    assert print_graph(up_to("quantize_constants", parsed(lines))) == print_graph(up_to("freeze_qparams", parsed(lines)))


def test_a_weight_that_is_read_twice_is_stored_once() -> None:
    module = up_to("quantize_constants", parsed(TWICE, {"shared.bias": torch.zeros(2)}))
    readers = [node for node in module.graph.find_nodes(op="get_attr") if tensor_at(module, str(node.target)).dtype == torch.int8]
    assert len({str(node.target) for node in readers}) == 1
    assert sum(value.dtype == torch.int8 for value in module.state_dict().values()) == 1


def test_one_reader_that_stays_float_keeps_the_float_weight() -> None:
    lines = "x: f32[2, 2] = input\na = linear(x, @shared.weight[2, 2])\nb = call torch.hypot(a, @shared.weight[2, 2])\noutput b"
    module = up_to("quantize_constants", parsed(lines), QConfigMapping().set_global(PER_CHANNEL))
    dtypes = sorted(str(value.dtype) for key, value in module.state_dict().items() if "scale" not in key)
    assert dtypes == ["torch.float32", "torch.int8"]
    x = ramp(2, 2)
    assert bool(((module(x) - parsed(lines)(x)).abs() < 8 * UNIT).all())


def test_values_are_preserved() -> None:
    x = ramp(1, 2, 2, 4)
    assert torch.equal(up_to("quantize_constants", network())(x), up_to("freeze_qparams", network())(x))


def test_a_second_run_changes_nothing() -> None:
    module = up_to("quantize_constants", network())
    before = print_graph(module)
    assert quantize_constants(module, Context(X86, EVERYTHING)) == 0
    assert print_graph(module) == before


# --- constants as activations ----------------------------------------------------------------------------------------------

SCALED = """
    x: f32[1, 2, 2] = input
    a: f32[1, 2, 2] = mul(x, @gain[2, 1])
    b: f32[1, 2, 2] = add(@offset[2, 2], a)
    output b
"""
SCALED_CONSTANTS = {"gain": torch.tensor([[1.0], [255 * UNIT]]), "offset": torch.tensor([[-1.0, 0.0], [0.5, 127 * UNIT]])}


def test_a_constant_that_is_an_activation_is_observed_and_becomes_integers() -> None:
    module = up_to("quantize_constants", parsed(SCALED, SCALED_CONSTANTS))
    assert {key: value.dtype for key, value in module.state_dict().items()} == {"gain": torch.uint8, "offset": torch.uint8}
    assert tensor_at(module, "gain").tolist() == [[128], [255]]  # 1/128 a step, from 0
    assert tensor_at(module, "offset").tolist() == [[0, 128], [192, 255]]  # 1/128 a step, 0 at 128
    x = ramp(1, 2, 2)
    assert bool(((module(x) - parsed(SCALED, SCALED_CONSTANTS)(x)).abs() < 8 * UNIT).all())


def test_the_range_of_a_constant_is_its_own_whatever_is_calibrated_with() -> None:
    once, twice = (up_to("insert_observers", parsed(SCALED, SCALED_CONSTANTS)) for _ in range(2))
    for module, inputs in ((once, (ramp(1, 2, 2),)), (twice, (ramp(1, 2, 2), 3 * ramp(1, 2, 2)))):
        for x in inputs:
            module(x)
    of_gain = [module.get_submodule("gain_observer").qparams() for module in (once, twice)]
    of_result = [module.get_submodule("b_observer").qparams() for module in (once, twice)]
    assert of_gain[0] == of_gain[1] and of_result[0] != of_result[1]
    assert float(of_gain[0].scale) == UNIT and int(of_gain[0].zero_point) == 0


def test_a_constant_that_two_ops_read_with_other_qparams_is_stored_for_each() -> None:
    lines = "x: f32[2, 2] = input\na: f32[2, 2] = linear(x, @shared.weight[2, 2])\nb: f32[2, 2] = mul(a, @shared.weight[2, 2])\noutput b"
    weight = torch.tensor([[255 * UNIT, 0.0], [0.0, 255 * UNIT]])
    module = up_to("quantize_constants", parsed(lines, {"shared.weight": weight}))
    stored = {value.dtype: value.tolist() for key, value in module.state_dict().items() if "scale" not in key}
    assert stored == {torch.uint8: [[255, 0], [0, 255]], torch.int8: [[127, 0], [0, 127]]}


def test_a_constant_beside_a_float_op_stays_float() -> None:
    beside_float = SCALED.replace("mul(x, @gain[2, 1])", "call torch.hypot(x, @gain[2, 1])")
    module = up_to("quantize_constants", parsed(beside_float, SCALED_CONSTANTS))
    assert {key: value.dtype for key, value in module.state_dict().items()} == {"gain": torch.float32, "offset": torch.float32}
