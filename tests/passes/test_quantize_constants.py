"""Weights as integers."""

from __future__ import annotations

import torch

from fxq.graph.constants import tensor_at
from fxq.graph.text import print_graph
from fxq.passes import Context
from fxq.passes.quantize_constants import quantize_constants
from fxq.qconfig_mapping import QConfigMapping
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


def test_activations_stay_as_they_are() -> None:
    lines = "x: f32[1, 4] = input\ns = silu(x)\noutput s"
    assert print_graph(up_to("quantize_constants", parsed(lines))) == print_graph(up_to("freeze_qparams", parsed(lines)))


def test_a_weight_that_is_read_twice_is_stored_once() -> None:
    module = up_to("quantize_constants", parsed(TWICE, {"shared.bias": torch.zeros(2)}))
    readers = [node for node in module.graph.find_nodes(op="get_attr") if tensor_at(module, str(node.target)).dtype == torch.int8]
    assert len({str(node.target) for node in readers}) == 1
    assert sum(value.dtype == torch.int8 for value in module.state_dict().values()) == 1


def test_one_reader_that_stays_float_keeps_the_float_weight() -> None:
    lines = "x: f32[2, 2] = input\na: f32[2, 2] = linear(x, @shared.weight[2, 2])\nb: f32[2, 2] = mul(a, @shared.weight[2, 2])\noutput b"
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
