"""Normal forms, and the readers of spellings that are not the op's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import Graph

from fxq.graph import product_spellings as of
from fxq.graph import spellings as read
from fxq.graph.opdef import Parameter, Spelling
from fxq.graph.ops import ops_by_name
from fxq.graph.spellings import in_place, normal_form, read_arguments, read_module, spelled, writes_in_place


@pytest.mark.parametrize(
    ("op", "given", "rank", "expected"),
    [
        ("conv", {"stride": 2, "padding": "same"}, 2, {"stride": (2, 2), "padding": "same", "dilation": (1, 1), "groups": 1}),
        ("conv", {"stride": [2, 1], "padding": 1}, 2, {"stride": (2, 1), "padding": (1, 1)}),
        ("max_pool", {"kernel_size": 3}, 1, {"kernel_size": (3,), "stride": (3,), "padding": (0,)}),
        ("max_pool", {"kernel_size": [3, 2], "stride": []}, 2, {"kernel_size": (3, 2), "stride": (3, 2)}),
        ("avg_pool", {"kernel_size": 2, "stride": 1}, 3, {"kernel_size": (2, 2, 2), "stride": (1, 1, 1)}),
        ("adaptive_avg_pool", {"output_size": (None, 3)}, 2, {"output_size": (None, 3)}),
        ("mean", {"dim": [1, 2]}, 1, {"dim": (1, 2), "keepdim": False}),
    ],
)
def test_normal_form(op: str, given: dict[str, Any], rank: int, expected: dict[str, Any]) -> None:
    row = ops_by_name()[op]
    found = normal_form(row, {**dict.fromkeys(row.positional), **given}, rank)
    assert list(found) == list(row.operands)
    assert {name: found[name] for name in expected} == expected


def test_rows() -> None:
    assert spelled(nn.ReLU, "relu", rank=2) == (Spelling(nn.ReLU, rank=2), Spelling("relu", rank=2))
    assert in_place("relu_", read=read.unary) == (Spelling("relu_", read.unary, in_place=True),)


def test_tensors_of_a_module_are_parameters_and_the_rest_values() -> None:
    module = nn.Conv2d(3, 4, 3, bias=False)
    found = read_module(ops_by_name()["conv"], Spelling(nn.Conv2d), module)
    assert found == {
        "weight": Parameter("weight"), "bias": None, "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1,
        "padding_mode": "zeros",
    }  # fmt: skip


def test_arguments_are_bound_to_operands() -> None:
    op = ops_by_name()["leaky_relu"]
    assert read_arguments(op, Spelling("f"), ("x", 0.2), {"inplace": True}) == {"input": "x", "negative_slope": 0.2}
    with pytest.raises(TypeError, match="missing a required argument: 'input'"):
        read_arguments(op, Spelling("f"), (), {})
    with pytest.raises(TypeError, match="return_indices has no integer form"):
        read_arguments(ops_by_name()["max_pool"], Spelling("f"), ("x", 2), {"return_indices": True})
    assert read_arguments(ops_by_name()["max_pool"], Spelling("f"), ("x", 2), {"return_indices": False}) == {"input": "x", "kernel_size": 2}


@pytest.mark.parametrize(
    ("spelling", "module", "kwargs", "expected"),
    [
        (Spelling("relu_", in_place=True), None, {}, True),
        (Spelling("relu"), None, {"inplace": True}, True),
        (Spelling("relu"), None, {"inplace": False}, False),
        (Spelling(nn.ReLU), nn.ReLU(inplace=True), {}, True),
        (Spelling(nn.ReLU), nn.ReLU(), {}, False),
        (Spelling(nn.Sigmoid), nn.Sigmoid(), {}, False),
    ],
)
def test_writes_in_place(spelling: Spelling, module: nn.Module | None, kwargs: dict[str, Any], expected: bool) -> None:
    assert writes_in_place(spelling, module, kwargs) is expected


NODE = Graph().placeholder("n")


@pytest.mark.parametrize(
    ("args", "kwargs", "shape"),
    [
        ((2, 3), {}, (2, 3)),
        (((2, 3),), {}, (2, 3)),
        (([2, 3],), {}, (2, 3)),
        ((-1,), {}, (-1,)),
        ((), {"size": [2, 3]}, (2, 3)),
        ((NODE,), {}, NODE),
        ((NODE, 3), {}, (NODE, 3)),
        ((), {"shape": NODE}, NODE),
    ],
)
def test_sizes(args: tuple[Any, ...], kwargs: dict[str, Any], shape: Any) -> None:
    assert read.sizes("shape")("x", *args, **kwargs) == {"input": "x", "shape": shape}


@pytest.mark.parametrize(("args", "kwargs"), [((torch.int8,), {}), ((), {"dtype": torch.int8}), ((), {"size": 3})])
def test_what_is_no_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="shape is not a sequence of sizes"):
        read.sizes("shape")("x", *args, **kwargs)


@pytest.mark.parametrize(
    ("args", "found"),
    [((NODE, NODE), "the equation is not a string"), (("i->", NODE), "n is not a tensor"), (("i->", 3), "3 is not a tensor")],
)
def test_what_is_no_equation(args: tuple[Any, ...], found: str) -> None:
    with pytest.raises(TypeError) as caught:
        of.einsum(*args)
    assert str(caught.value) == found
