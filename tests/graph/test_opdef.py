"""Rows of OPS seen as signatures, and nodes seen as calls."""

from __future__ import annotations

import pytest
from torch.fx import Graph

from fxq.graph.opdef import Call, OpDef, Policy, Role, role_of
from fxq.graph.ops import OPS, call_of, ops_by_name, write_call
from fxq.graph.parse import parse_graph

OPERANDS = {
    "conv": ("input", "weight", "bias"),
    "linear": ("input", "weight", "bias"),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias"),
    "add": ("input", "other"),
    "sub": ("input", "other"),
    "mul": ("input", "other"),
    "div": ("input", "other"),
    "matmul": ("input", "other"),
    "maximum": ("input", "other"),
    "minimum": ("input", "other"),
    "conv_transpose": ("input", "weight", "bias"),
    "prelu": ("input", "slope"),
    "layer_norm": ("input", "gain", "shift"),
    "rms_norm": ("input", "gain"),
    "instance_norm": ("input", "gain", "shift"),
    "group_norm": ("input", "gain", "shift"),
    "cat": ("tensors",),
    "stack": ("tensors",),
    "addmm": ("input", "tensors"),
    "bilinear": ("input", "other", "weight", "bias"),
    "addcmul": ("input", "tensors"),
    "einsum": ("tensors",),
    "attention": ("input", "keys", "values"),
    "embedding": ("input", "weight"),
    "setitem": ("input", "other"),
    "where": ("input", "other"),
}


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_tensors_are_written_by_position(op: OpDef) -> None:
    assert op.positional == OPERANDS.get(op.name, ("input",))
    assert op.operands[: len(op.positional)] == op.positional


def test_names_and_functions_are_those_of_one_row() -> None:
    assert len(ops_by_name()) == len({op.call for op in OPS}) == len(OPS)
    targets = [spelling.target for op in OPS for spelling in op.spellings]
    assert len(set(targets)) == len(targets)


def test_fixed_qparams_belong_to_fixed_ops() -> None:
    assert {op.name for op in OPS if op.fixed is not None} == {op.name for op in OPS if op.policy is Policy.FIXED}
    assert {op.name: (float(op.fixed.scale), int(op.fixed.zero_point)) for op in OPS if op.fixed is not None} == {
        "sigmoid": (1 / 256, 0), "tanh": (1 / 128, 128), "hardsigmoid": (1 / 256, 0),
    }  # fmt: skip
    assert all(op.keeps_qparams == (op.policy in (Policy.SHARES, Policy.MOVES)) for op in OPS)


@pytest.mark.parametrize(
    ("operand", "role"),
    [
        ("input", Role.ACTIVATION), ("other", Role.ACTIVATION), ("tensors", Role.ACTIVATION), ("residual", Role.ACTIVATION),
        ("weight", Role.WEIGHT), ("bias", Role.BIAS), ("running_mean", Role.STATE), ("running_var", Role.STATE),
        ("act", Role.ATTRIBUTE), ("dim", Role.ATTRIBUTE),
    ],
)  # fmt: skip
def test_roles(operand: str, role: Role) -> None:
    assert role_of(operand) is role


def test_operands_of_a_call_by_role() -> None:
    module = parse_graph(
        "x: f32[1, 2, 4] = input\nc: f32[1, 2, 4] = conv(x, @w[2, 2, 1], @b[2], residual=x)\n"
        "t: f32[3, 2, 4] = cat((c, x, c))\ns: f32[3, 2, 4] = add(1, t)\noutput s"
    )
    conv, cat, add = (call for node in module.graph.nodes if (call := call_of(node)) is not None)
    names = {role: {name: node.name for name, node in conv.nodes(role).items()} for role in Role}
    assert names == {
        Role.ACTIVATION: {"input": "x", "residual": "x"}, Role.WEIGHT: {"weight": "w"}, Role.BIAS: {"bias": "b"},
        Role.STATE: {}, Role.ATTRIBUTE: {},
    }  # fmt: skip
    assert {name: node.name for name, node in cat.activations.items()} == {"tensors[0]": "c", "tensors[1]": "x", "tensors[2]": "c"}
    assert {name: node.name for name, node in add.activations.items()} == {"other": "t"}


@pytest.mark.parametrize(
    ("line", "is_table", "follows_readers"),
    [
        ("silu(x)", True, False),
        ("sigmoid(x)", True, False),
        ("relu(x)", False, False),
        ("flatten(x)", False, True),
        ("add(x, x)", False, False),
        ("add(x, @k[4])", False, False),
        ("add(x, 2)", True, True),
        ("sub(1, x)", True, True),
        ("mul(x, 0.5, act=relu)", True, True),
        ("div(x, 3)", True, True),
    ],
)
def test_what_a_call_with_a_number_is(line: str, is_table: bool, follows_readers: bool) -> None:
    module = parse_graph(f"x: f32[4] = input\ny: f32[4] = {line}\noutput y")
    (call,) = (call for node in module.graph.nodes if (call := call_of(node)) is not None)
    assert (call.is_table, call.follows_readers) == (is_table, follows_readers)


def test_only_ops_of_two_operands_take_numbers() -> None:
    assert {op.name for op in OPS if op.is_arithmetic} == {"add", "sub", "mul", "div"}


def test_write_call_is_the_inverse_of_call_of() -> None:
    module = parse_graph("x: f32[1, 2, 4] = input\nc: f32[1, 2, 4] = conv(x, @w[2, 2, 1], padding=(0,), act=relu)\noutput c")
    node = next(node for node in module.graph.nodes if node.name == "c")
    call = call_of(node)
    assert call is not None
    target = Graph().call_function(print)
    write_call(target, Call(call.op, {**call.operands, "input": None, "weight": None}))
    assert target.args == (None, None, None) and list(target.kwargs) == [
        name for name in call.op.operands if name not in call.op.positional
    ]
    again = call_of(target)
    assert again is not None and again.operands == {**call.operands, "input": None, "weight": None}


@pytest.mark.parametrize("line", ["n: f32[4] = call torch.neg(x)", "n: f32[4] = method neg(x)", "n: f32[4] = call torch.relu(x)"])
def test_other_nodes_are_no_calls(line: str) -> None:
    module = parse_graph(f"x: f32[4] = input\n{line}\noutput n")
    assert [call_of(node) for node in module.graph.nodes] == [None, None, None]
