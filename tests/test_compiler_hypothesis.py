"""Random small models through the whole compiler: the lowered graph means what the reference graph says."""

from __future__ import annotations

import copy

import torch
from hypothesis import HealthCheck, assume, given, note, settings
from torch import Tensor

from fxq.api import convert_fx, convert_to_reference_fx
from fxq.graph.annotation import quant_of
from fxq.graph.module import FxqModule
from fxq.graph.ops import call_of
from fxq.graph.parse import parse_graph
from fxq.graph.qdq import is_quantize, qparams_of
from fxq.graph.qtypes import dequantize_tensor, quantize_tensor
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.lowering.profiles import find_profile
from fxq.passes import PREPARE, Context, run_pipeline
from tests.random_graphs import Program, programs
from tests.stepwise import Recorder, op_errors

_FLOAT_PRODUCTS = ("conv", "conv_transpose", "linear", "matmul")


def batch(prepared: FxqModule, seed: int, shift: float, size: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = prepared.graph.find_nodes(op="placeholder")
    return [torch.randn(size, 3, 4, 5, generator=generator) + shift for _ in inputs]


def prepare(program: Program) -> FxqModule:
    module = parse_graph(program.text)
    module.profile = find_profile(program.profile)
    prepared = run_pipeline(module, PREPARE, Context(module.profile, program.mapping))
    with torch.no_grad():
        for number in range(2):
            prepared(*batch(prepared, program.seed + number, program.shift))
    return prepared


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_each_integer_op_is_the_float_op_it_stands_for(program: Program) -> None:
    note(program.text)
    prepared = prepare(program)
    reference, lowered = convert_to_reference_fx(prepared), convert_fx(prepared)
    note(print_graph(reference))
    note(print_graph(lowered))
    assert (prepared.stage, reference.stage, lowered.stage) == (Stage.OBSERVED, Stage.REFERENCE, Stage.LOWERED)
    # data beyond the calibrated range too
    for shift, size in ((program.shift, 2), (program.shift + 1.0, 3)):
        inputs = batch(prepared, program.seed + 7, shift, size)
        for error in op_errors(reference, lowered, inputs):
            assert error.steps <= error.allowed, error


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_every_node_is_int8_or_float_for_a_reason(program: Program) -> None:
    prepared = prepare(program)
    for node in prepared.graph.nodes:
        quant = quant_of(node)
        if node.op not in ("output", "get_attr"):
            assert quant is not None
            assert (quant.output is None) == (quant.group is None)
            assert quant.is_int8 or quant.reason.detail


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_every_range_holds_what_calibration_showed(program: Program) -> None:
    """With min/max observers no value of the calibration data is clipped: quantization moves it by half a step."""
    assume(program.qconfig.activation.observer == "MinMaxObserver")
    prepared = prepare(program)
    reference = convert_to_reference_fx(prepared)
    qparams = {node.name: qparams_of(node) for node in reference.graph.nodes if is_quantize(node)}
    note(print_graph(reference))
    for number in range(2):
        values = Recorder(prepared).record(batch(prepared, program.seed + number, program.shift))
        for name, found in qparams.items():
            value = values.get(name.removesuffix("_q"))
            if isinstance(value, Tensor) and value.dtype == torch.float32:
                step = float(found.scale)
                moved = dequantize_tensor(quantize_tensor(value, found), found) - value
                # 1 of a sigmoid or tanh is one step beyond their fixed range
                allowed = 1.001 * step if step in (1 / 256, 1 / 128) else 0.501 * step
                assert float(moved.abs().max()) <= allowed + 1e-6 * float(value.abs().max()), name


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(programs())
def test_copies_and_split_batches_have_the_same_bits(program: Program) -> None:
    lowered = convert_fx(prepare(program))
    note(print_graph(lowered))
    # torch's own float products may sum in another order for another batch size
    assume(not any(call.op.name in _FLOAT_PRODUCTS for node in lowered.graph.nodes if (call := call_of(node)) is not None))
    inputs = batch(lowered, program.seed, program.shift, 3)
    with torch.no_grad():
        whole, copied = lowered(*inputs), copy.deepcopy(lowered)(*inputs)
        parts = [lowered(*[x[sample : sample + 1] for x in inputs]) for sample in range(3)]
    for number, value in enumerate(whole):
        assert torch.equal(value, copied[number])
        assert torch.equal(value, torch.cat([part[number] for part in parts]))
