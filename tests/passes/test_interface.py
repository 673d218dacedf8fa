"""QTensors in and out of a converted model."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError, DataError
from fxq.graph.module import FxqModule
from fxq.graph.text import print_graph
from fxq.passes.interface import results_of
from fxq.qconfig_mapping import PrepareCustomConfig, QConfigMapping
from fxq.runtime.qtensor import QTensor
from tests.passes.cases import EVERYTHING, UNIT, parsed, ramp, residual, text


def quantized_at(inputs: list[int], results: list[int]) -> PrepareCustomConfig:
    return PrepareCustomConfig().set_input_quantized_indexes(inputs).set_output_quantized_indexes(results)


def prepared(model: nn.Module, *data: Tensor, custom: PrepareCustomConfig, mapping: QConfigMapping = EVERYTHING) -> FxqModule:
    module = fxq.prepare_fx(model, mapping, data, custom)
    with torch.no_grad():
        module(*data)
    return module


class Conv(nn.Module):
    """scale 1/128 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            self.conv.weight.fill_(127 * UNIT)
            self.conv.bias.fill_(0.0)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


X = ramp(1, 1, 2, 2)


def test_the_reference_graph() -> None:
    module = fxq.convert_to_reference_fx(prepared(Conv().eval(), X, custom=quantized_at([0], [0])))
    scale = float(module.conv_exit.scale)
    of_weight = "scale=@conv.weight_scale[1], zero_point=0, qmin=-127, qmax=127, axis=0"
    assert print_graph(module) == text(f"""
        x: u8[1, 1, 2, 2] = input
        x_entry: u8[1, 1, 2, 2] = QTensorEntry[x_entry](x)
        x_dq: f32[1, 1, 2, 2] = dequantize(x_entry, scale=0.0078125, zero_point=0)
        conv_weight_dq: f32[1, 1, 1, 1] = dequantize(@conv.weight[s8, 1, 1, 1, 1], {of_weight})
        conv: f32[1, 1, 2, 2] = conv(x_dq, conv_weight_dq, @conv.bias[1])
        conv_q: u8[1, 1, 2, 2] = quantize(conv, scale={scale}, zero_point=0)
        conv_exit: u8[1, 1, 2, 2] = QTensorExit[conv_exit](conv_q)
        output conv_exit
    """)


def test_the_int8_graph() -> None:
    module = fxq.convert_fx(prepared(Conv().eval(), X, custom=quantized_at([0], [0])))
    assert print_graph(module) == text("""
        x: u8[1, 1, 2, 2] = input
        x_entry: u8[1, 1, 2, 2] = QTensorEntry[x_entry](x)
        conv: u8[1, 1, 2, 2] = Conv[conv](x_entry)
        conv_exit: u8[1, 1, 2, 2] = QTensorExit[conv_exit](conv)
        output conv_exit
    """)


def test_values_are_those_of_the_model_with_floats_outside() -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    module = prepared(residual(), x, custom=quantized_at([0], [0]))
    from_floats = prepared(residual(), x, custom=quantized_at([], [0]))
    int8 = fxq.convert_fx(module)
    q = QTensor.from_float(x, int8.x_entry.qparams)
    expected = fxq.convert_fx(from_floats)(x)
    for each in (int8, copy.deepcopy(int8), pickle.loads(pickle.dumps(int8))):
        result = each(q)
        assert isinstance(result, QTensor) and result.equal(expected)
    # what the reference computes in float32 may be rounded to the other side
    result = fxq.convert_to_reference_fx(module)(q)
    assert isinstance(result, QTensor) and result.qparams == expected.qparams
    assert int((result.int_repr().int() - expected.int_repr().int()).abs().max()) <= 1


def test_one_model_feeds_another() -> None:
    """The second one is calibrated on what the first one computes, so that its input has the same range."""
    x = ramp(1, 1, 4, 4)
    first = fxq.convert_fx(prepared(Conv().eval(), x, custom=quantized_at([], [0])))
    y = first(x)
    second = fxq.convert_fx(prepared(Conv().eval(), y.dequantize(), custom=quantized_at([0], [])))
    assert torch.equal(second(y), second(QTensor.from_float(y.dequantize(), second.x_entry.qparams)))


def test_floats_are_refused_at_run_time() -> None:
    int8 = fxq.convert_fx(prepared(Conv().eval(), X, custom=quantized_at([0], [])))
    with pytest.raises(DataError, match="input x"):
        int8(X)


def test_float_readers_of_a_quantized_input_read_what_it_stands_for() -> None:
    class Model(Conv):
        def forward(self, x: Tensor) -> Any:
            return self.conv(x), torch.cos(x), x, x.size(0)

    int8 = fxq.convert_fx(prepared(Model().eval(), X, custom=quantized_at([0], [])))
    q = QTensor.from_float(X + 0.003, int8.x_entry.qparams)
    _, cosine, same, size = int8(q)
    assert torch.equal(cosine, torch.cos(q.dequantize())) and torch.equal(same, q.dequantize()) and size == 1


def test_movement_in_front_of_a_quantized_result_works_on_integers() -> None:
    class Model(Conv):
        def forward(self, x: Tensor) -> Tensor:
            return torch.flatten(self.conv(x), 1)

    module = fxq.convert_fx(prepared(Model().eval(), X, custom=quantized_at([], [0])))
    assert print_graph(module).splitlines()[-3:] == [
        "flatten: u8[1, 4] = flatten(conv, start_dim=1)",
        "flatten_exit: u8[1, 4] = QTensorExit[flatten_exit](flatten)",
        "output flatten_exit",
    ]


class Two(NamedTuple):
    a: Tensor
    b: Tensor


@dataclass
class Both:
    a: Tensor
    b: Tensor


@pytest.mark.parametrize(
    "pack",
    [lambda a, b: (a, b), lambda a, b: [a, b], lambda a, b: {"a": a, "b": b}, Two, Both],
    ids=["tuple", "list", "dict", "named tuple", "dataclass"],
)
@pytest.mark.parametrize("index", [0, 1])
def test_one_of_several_results(pack: Any, index: int) -> None:
    class Model(Conv):
        def forward(self, x: Tensor) -> Any:
            return pack(self.conv(x), torch.relu(x) * x)

    result = fxq.convert_fx(prepared(Model().eval(), X, custom=quantized_at([], [index])))(X)
    assert type(result) is type(pack(X, X))
    found = vars(result) if isinstance(result, Both) else result
    values = list(found.values()) if isinstance(found, dict) else list(found)
    assert [isinstance(value, QTensor) for value in values] == [index == 0, index == 1]


def test_the_same_value_twice_is_quantized_where_it_is_asked_for() -> None:
    class Model(Conv):
        def forward(self, x: Tensor) -> Any:
            y = self.conv(x)
            return y, y

    left, right = fxq.convert_fx(prepared(Model().eval(), X, custom=quantized_at([], [1])))(X)
    assert isinstance(right, QTensor) and torch.equal(left, right.dequantize())


def test_the_report_knows_the_entries() -> None:
    int8 = fxq.convert_fx(prepared(Conv().eval(), X, custom=quantized_at([0], [0])))
    report = fxq.report(int8)
    assert [report.row(name).kind.value for name in ("x_entry", "conv", "conv_exit")] == ["input", "int8", "output"]
    assert report.row("x_entry").scale == UNIT and report.row("x_entry").zero_point == 0


def test_results_of() -> None:
    assert [str(each) for each in results_of(parsed("x: f32[1] = input\noutput {'a': x, 'b': (x, 2)}").graph)] == ["x", "(x, 2)"]
    assert [str(each) for each in results_of(parsed("x: f32[1] = input\noutput x").graph)] == ["x"]


# --- what can't be quantized ---------------------------------------------------------------------------------------------------


class Soft(Conv):
    def forward(self, x: Tensor) -> Any:
        return {"a": torch.cos(self.conv(x)), "b": 3}


@pytest.mark.parametrize(
    ("inputs", "results", "where", "found"),
    [
        ([1], [], "quantized input 1", "a model with 1 input"),
        ([], [2], "quantized result 2", "a model with 2 results"),
        ([], [1], "quantized result 1", "a constant"),
        ([], [0], "quantized result 0, cos", "cos: "),
    ],
)
def test_what_there_is_not(inputs: list[int], results: list[int], where: str, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepared(Soft().eval(), X, custom=quantized_at(inputs, results))
    assert caught.value.where == where and caught.value.found.startswith(found)


def test_an_input_that_no_int8_op_reads() -> None:
    with pytest.raises(ConfigError, match=r"quantized input 0, x[\s\S]*no int8 op reads it"):
        prepared(Conv().eval(), X, custom=quantized_at([0], []), mapping=QConfigMapping().set_global(None))


def test_a_result_that_the_mapping_keeps_float() -> None:
    with pytest.raises(ConfigError, match=r"quantized result 0, conv[\s\S]*kept float by set_global"):
        prepared(Conv().eval(), X, custom=quantized_at([], [0]), mapping=QConfigMapping().set_global(None))


def test_an_input_that_is_returned_is_no_result_of_an_int8_op() -> None:
    class Model(Conv):
        def forward(self, x: Tensor) -> Any:
            return self.conv(x), x

    with pytest.raises(ConfigError, match="quantized result 1, x"):
        prepared(Model().eval(), X, custom=quantized_at([], [1]))
