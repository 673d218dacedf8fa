"""infer_types: what it notes, what it leaves alone, and its errors."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import fxq
from fxq.errors import CaptureError
from fxq.graph.annotation import TensorType, ValueType, type_of, was_seen_writing
from fxq.graph.infer import infer_types, value_type
from fxq.graph.module import FxqModule
from fxq.graph.parse import parse_graph
from fxq.graph.topology import find_mutated
from fxq.passes import trace

F32 = torch.float32


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.zeros(2, 3), TensorType((2, 3), F32)),
        (torch.zeros((), dtype=torch.bool), TensorType((), torch.bool)),
        (nn.Parameter(torch.zeros(0)), TensorType((0,), F32)),
        ((torch.zeros(1), [torch.zeros(2), 3]), (TensorType((1,), F32), (TensorType((2,), F32), None))),
        (3, None),
        ("a", None),
        ((1, 2), None),
        (torch.Size([1, 2]), None),
        ([], None),
    ],
)
def test_value_type(value: Any, expected: ValueType) -> None:
    assert value_type(value) == expected


def test_numel() -> None:
    assert [TensorType(shape, F32).numel for shape in ((), (3,), (2, 3), (2, 0))] == [1, 3, 6, 0]


def types(module: FxqModule) -> dict[str, ValueType]:
    return {node.name: type_of(node) for node in module.graph.nodes if node.op != "output"}


def test_types_of_every_value() -> None:
    module = parse_graph(
        "x: f32[2, 3] = input\ns = call torch.sort(x)\ni = call _operator.getitem(s, 1)\nn = size(x)\n"
        "w = add(x, @w[s8, 3])\noutput (i, n, w)"
    )
    pair = (TensorType((2, 3), F32), TensorType((2, 3), torch.int64))
    expected = {"x": pair[0], "s": pair, "i": pair[1], "n": None, "w_1": TensorType((3,), torch.int8), "w": pair[0]}
    assert sorted(map(str, types(module).values())) == sorted(map(str, expected.values()))
    infer_types(module, (torch.zeros(5, 1, dtype=torch.float64),), {})
    assert types(module)["x"] == TensorType((5, 1), torch.float64) and types(module)["n"] is None


class Everything(nn.Module):
    """Writes to buffers, to its input, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(x.sum(0))
        return torch.nn.functional.dropout(self.bn(x.relu_()), 0.5, self.training)


def test_inputs_buffers_random_state_and_gradients_are_left_alone() -> None:
    model = Everything().train()
    x = torch.randn(4, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    input_before, random_before = x.clone(), torch.get_rng_state()
    module = trace(model, x)
    assert torch.equal(x, input_before)
    assert torch.equal(torch.get_rng_state(), random_before)
    assert (
        set(before)
        == set(module.state_dict())
        == {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked", "seen"}
    )
    for state in (model.state_dict(), module.state_dict()):
        assert [name for name, value in state.items() if not torch.equal(value, before[name])] == []
    assert module.training and torch.is_grad_enabled()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_buffers_are_put_back_after_an_error_too() -> None:
    module = trace(Everything().train(), torch.randn(4, 3))
    before = module.get_buffer("seen").clone()
    with pytest.raises(CaptureError):
        infer_types(module, (torch.randn(1, 3),), {})  # a batch norm in training mode wants more than one value per channel
    assert torch.equal(module.get_buffer("seen"), before)
    assert torch.equal(module.get_buffer("bn.running_mean"), torch.zeros(3))


# --- inputs ----------------------------------------------------------------------------------------------------------------


class Inputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor, scale: float = 2.0) -> Tensor:
        return x * scale + y


A, B = torch.zeros(2, 3), torch.zeros(3)


@pytest.mark.parametrize(
    "inputs", [((A, B), {}), ((A, B, 3.0), {}), ((A,), {"y": B}), ((), {"y": B, "x": A}), ((A,), {"scale": 1.0, "y": B})], ids=str
)
def test_inputs_by_position_name_and_default(inputs: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    module = trace(Inputs(), (A, B))
    infer_types(module, *inputs)
    assert types(module)["x"] == TensorType((2, 3), F32) and types(module)["y"] == TensorType((3,), F32)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected", "found"),
    [
        ((A,), {}, "a value for y", "none"),
        ((), {"y": B}, "a value for x", "none"),
        ((A, B, 1.0, 2.0), {}, "inputs for x, y, scale", "4 positional"),
        ((A, B), {"z": B, "q": B}, "inputs for x, y, scale", "2 positional and unknown q, z"),
        ((A, B), {"x": A}, "inputs for x, y, scale", "2 positional and unknown x"),
    ],
)
def test_wrong_inputs(args: tuple[Any, ...], kwargs: dict[str, Any], expected: str, found: str) -> None:
    module = trace(Inputs(), (A, B))
    with pytest.raises(CaptureError) as caught:
        infer_types(module, args, kwargs)
    assert (caught.value.where, caught.value.expected, caught.value.found) == ("example_inputs", expected, found)


def grown(sizes: list[int], by: dict[str, list[int]]) -> list[int]:
    """Writes into what it is given."""
    by["more"].append(1)
    sizes.extend(by["more"])
    return sizes


fx.wrap("grown")


class WritesIntoLiterals(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(grown([x.shape[0]], {"more": [x.shape[1]]}))


def test_functions_may_write_into_the_literals_of_their_calls() -> None:
    module = trace(WritesIntoLiterals(), A)
    for _ in range(2):
        infer_types(module, (A,), {})
        assert types(module)["reshape"] == TensorType((2, 3, 1), F32) and module(A).shape == (2, 3, 1)


def shifted(x: Tensor, by: Tensor) -> Tensor:
    """Its name doesn't say that it writes into x, and it can't be traced."""
    x[1:] += by if by.isfinite().all() else 0.0
    return x


fx.wrap("shifted")


class ReadsWhatWasWritten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        shifted(y, 100.0 * x[1:])
        return self.b(y)


def test_calls_that_write_into_what_they_read_are_seen() -> None:
    module = trace(ReadsWhatWasWritten(), A)
    assert [node.name for node in module.graph.nodes if was_seen_writing(node)] == ["shifted"]
    assert {value.name for value in find_mutated(module)} >= {"a", "shifted"}


def test_what_was_written_in_place_is_not_read_with_the_range_of_before() -> None:
    torch.manual_seed(0)
    model, x = ReadsWhatWasWritten().eval(), torch.randn(4, 3)
    int8 = fxq.quantize(model, [x], progress=False)
    with torch.no_grad():
        exact, found = model(x), int8(x)
    assert ((exact - found).abs() < 0.02 * exact.abs().max()).all()


def test_in_inference_mode_too() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), ReadsWhatWasWritten()).eval()
        x = torch.randn(4, 3)
        int8 = fxq.quantize(model, [x], progress=False)
        exact, found = model(x), int8(x)
    assert ((exact - found).abs() < 0.02 * exact.abs().max()).all()
    assert "shifted" in {value.name for value in find_mutated(int8)} | {node.name for node in int8.graph.nodes if was_seen_writing(node)}


def test_a_failing_op_is_named_with_its_place() -> None:
    model = nn.Sequential()
    model.add_module("block", nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 6)))
    with pytest.raises(CaptureError) as caught:
        trace(model, torch.zeros(2, 3))
    assert caught.value.where.startswith("block_1 (block.1, ")
    assert re.fullmatch(r"RuntimeError: .*mat1 and mat2 shapes cannot be multiplied \(2x4 and 5x6\)", caught.value.found)
