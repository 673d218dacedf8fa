"""Tensors and submodules by dotted path, and their readers in the graph."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from fxq.graph.annotation import TensorType, tensor_type
from fxq.graph.constants import (
    constant_of,
    free_path,
    insert_constant,
    module_of,
    owner_of,
    put_module,
    put_tensor,
    read_constant,
    remove_unread,
    remove_unread_tensors,
    replace_constant,
    tensor_at,
)
from fxq.graph.module import FxqModule
from fxq.graph.parse import parse_graph
from fxq.graph.text import print_graph

ONE, TWO = torch.ones(3), torch.full((2,), 2.0)


def model(**constants: Tensor) -> FxqModule:
    """Two linears, the second of which is read twice."""
    text = (
        "x: f32[1, 3] = input\n"
        "a: f32[1, 3] = linear(x, @l.a.weight[3, 3], @l.a.bias[3])\n"
        "b: f32[1, 3] = linear(a, @l.b.weight[3, 3])\n"
        "c: f32[1, 3] = linear(b, @l.b.weight[3, 3])\n"
        "output c\n"
    )
    return parse_graph(text, {path.replace("_", "."): value for path, value in constants.items()})


def node(module: FxqModule, name: str) -> Node:
    return next(each for each in module.graph.nodes if each.name == name)


def test_tensors_by_path() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    module.plain = ONE
    assert owner_of(module, "1.running_mean") is module[1] and owner_of(module, "plain") is module
    assert tensor_at(module, "1.running_mean") is module[1].running_mean
    assert tensor_at(module, "plain") is ONE
    with pytest.raises(AttributeError):
        tensor_at(module, "2.weight")


def test_only_readers_of_constants_have_a_constant() -> None:
    module = model(l_a_bias=ONE)
    assert constant_of(node(module, "l_a_bias")) is tensor_at(module, "l.a.bias")
    assert torch.equal(tensor_at(module, "l.a.bias"), ONE)
    assert constant_of(node(module, "a")) is None and constant_of(node(module, "x")) is None


def test_free_path() -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    module.register_buffer("s", ONE)
    module.register_buffer("s_1", ONE)
    assert [free_path(module, path) for path in ("s", "t", "0.weight", "0.scale", "9.weight", "0.weight.grad_scale")] == [
        "s_2", "t", "0.weight_1", "0.scale", "9.weight", "0.weight.grad_scale",
    ]  # fmt: skip


def test_put_tensor_keeps_parameters_and_makes_buffers() -> None:
    module = nn.Module()
    put_tensor(module, "a.b.weight", nn.Parameter(ONE))
    put_tensor(module, "a.b.scale", TWO)
    assert [name for name, _ in module.named_parameters()] == ["a.b.weight"]
    assert [name for name, _ in module.named_buffers()] == ["a.b.scale"]


@pytest.mark.parametrize("old", [nn.Parameter(ONE), ONE], ids=["parameter", "buffer"])
@pytest.mark.parametrize("new", [nn.Parameter(TWO), TWO, torch.tensor([1, 2], dtype=torch.int8)], ids=["parameter", "buffer", "int8"])
def test_put_tensor_takes_the_place_of_another(old: Tensor, new: Tensor) -> None:
    module = nn.Module()
    put_tensor(module, "w", old)
    put_tensor(module, "w", new)
    assert tensor_at(module, "w") is new
    assert list(module.state_dict()) == ["w"]
    assert len(list(module.parameters())) == isinstance(new, nn.Parameter)


def test_put_module_makes_the_modules_around_it() -> None:
    module, linear, relu = nn.Module(), nn.Linear(2, 2), nn.ReLU()
    put_module(module, "a.b.c", linear)
    assert module.get_submodule("a.b.c") is linear
    put_module(module, "a.b.c", relu)
    assert module.get_submodule("a.b.c") is relu


def test_nodes_of_other_modules_have_no_fxq_module() -> None:
    graph = Graph()
    with pytest.raises(AssertionError, match="x belongs to no FxqModule"):
        module_of(graph.placeholder("x"))


def test_read_and_insert_constant() -> None:
    module = model()
    again = read_constant(node(module, "b"), "l.a.bias")
    made = insert_constant(node(module, "b"), "l.a.bias", torch.tensor([1], dtype=torch.int8))
    assert (again.op, again.target, tensor_type(again)) == ("get_attr", "l.a.bias", TensorType((3,), torch.float32))
    assert (made.op, made.target, tensor_type(made)) == ("get_attr", "l.a.bias_1", TensorType((1,), torch.int8))
    order = [each.name for each in module.graph.nodes]
    assert order[order.index("b") - 2 : order.index("b")] == [again.name, made.name]


def test_a_constant_with_one_reader_is_replaced() -> None:
    module = model(l_a_weight=nn.Parameter(torch.eye(3)))
    weight = node(module, "l_a_weight")
    assert replace_constant(weight, 2 * torch.eye(3)) is weight
    assert isinstance(tensor_at(module, "l.a.weight"), nn.Parameter)
    assert torch.equal(tensor_at(module, "l.a.weight"), 2 * torch.eye(3))


def test_integers_in_place_of_a_parameter_are_a_buffer() -> None:
    module = model(l_a_weight=nn.Parameter(torch.eye(3)))
    weight = node(module, "l_a_weight")
    assert replace_constant(weight, torch.eye(3, dtype=torch.int8)) is weight
    assert [name for name, _ in module.named_parameters()] == []
    assert tensor_type(weight) == TensorType((3, 3), torch.int8)


def test_a_constant_with_another_reader_is_kept_for_it() -> None:
    module = model(l_b_weight=torch.eye(3))
    before = node(module, "l_b_weight")
    made = replace_constant(before, 3 * torch.eye(3))
    assert made is not before and made.target == "l.b.weight_1"
    assert torch.equal(tensor_at(module, "l.b.weight"), torch.eye(3))
    assert torch.equal(tensor_at(module, "l.b.weight_1"), 3 * torch.eye(3))


def test_one_node_with_two_readers_counts_as_two() -> None:
    module = parse_graph("x: f32[3] = input\ny: f32[3] = mul(x, @w[3])\nz: f32[3] = mul(y, y)\noutput z", {"w": ONE})
    node(module, "z").replace_input_with(node(module, "y"), node(module, "w"))
    assert replace_constant(node(module, "w"), 2 * ONE).target == "w_1"


def test_a_tensor_under_two_paths_is_replaced_under_one() -> None:
    shared = nn.Parameter(torch.eye(3))
    module = model(l_a_weight=shared, l_b_weight=shared)
    replace_constant(node(module, "l_a_weight"), 2 * torch.eye(3))
    assert tensor_at(module, "l.b.weight") is shared
    assert torch.equal(tensor_at(module, "l.a.weight"), 2 * torch.eye(3))


def test_a_computed_tensor_gets_a_place_of_its_own() -> None:
    module = model()
    module.get_submodule("l.a").register_buffer("bias", None)
    delattr(module.get_submodule("l.a"), "bias")
    vars(module.get_submodule("l.a"))["bias"] = ONE  # a plain attribute
    assert replace_constant(node(module, "l_a_bias"), TWO).target == "l.a.bias_1"
    assert tensor_at(module, "l.a.bias") is ONE


def test_remove_unread() -> None:
    module = parse_graph(
        "x: f32[3] = input\n"
        "a: f32[3] = mul(x, @gone.w[3])\n"
        "b: f32[3] = relu(a)\n"
        "s: f32[3] = call torch.neg(x)\n"
        "y: f32[3] = mul(x, @kept.w[3])\n"
        "output y\n"
    )
    module.kept.register_buffer("unread", ONE)
    remove_unread(module)
    assert print_graph(module) == "x: f32[3] = input\ns: f32[3] = call torch.neg(x)\ny: f32[3] = mul(x, @kept.w[3])\noutput y\n"
    assert list(module.state_dict()) == ["kept.w", "kept.unread"]
    remove_unread_tensors(module)
    assert list(module.state_dict()) == ["kept.w"]


def test_tensors_inside_of_called_modules_are_kept() -> None:
    module = parse_graph("x: f32[3] = input\ny: f32[3] = relu(x)\noutput y\n")
    put_module(module, "a.norm", nn.BatchNorm1d(3))
    put_tensor(module, "a.unread", ONE)
    with module.graph.inserting_before(node(module, "y")):
        module.graph.call_module("a.norm", (node(module, "x"),))
    module.delete_all_unused_submodules()
    remove_unread_tensors(module)
    assert list(module.state_dict()) == [f"a.norm.{name}" for name in nn.BatchNorm1d(3).state_dict()]
