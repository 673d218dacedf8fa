"""Calls of an op that have no integer form although the op has one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.fx import Graph, Node

from fxq.graph import objections
from fxq.graph.annotation import TensorType, set_type
from fxq.graph.ops import OPS, ops_by_name
from fxq.graph.reasons import Reason, Why
from fxq.graph.spellings import normal_form


def typed(*shape: int) -> Node:
    """A value of this shape."""
    node = Graph().placeholder("x")
    set_type(node, TensorType(shape, torch.float32))
    return node


CONDITION = Graph().placeholder("c")
MASKED = "with a mask it is one op in float, which is faster than int8 products around a masked softmax"

CASES: list[tuple[str, dict[str, Any], Reason | None]] = [
    ("attention", {}, None),
    ("attention", {"scale": 0.5, "enable_gqa": True}, None),
    *(("attention", masked, Reason(Why.OPERAND, "n", MASKED)) for masked in ({"mask": CONDITION}, {"is_causal": True})),
    (
        "attention",
        {"dropout": 0.1, "is_causal": True},
        Reason(Why.TRAINING, "n", "it drops 0.1 of the weights; call model.eval() before prepare_fx"),
    ),
    ("batch_norm", {"training": False}, None),
    ("batch_norm", {"training": True}, Reason(Why.TRAINING, "n", "it is in training mode; call model.eval() before prepare_fx")),
    ("dropout", {"training": False}, None),
    ("dropout", {}, Reason(Why.TRAINING, "n", "it is in training mode; call model.eval() before prepare_fx")),
    ("pad", {"pad": (1, 1)}, None),
    ("pad", {"pad": (1, 1), "value": 0.0}, None),
    ("pad", {"pad": (1, 1), "value": -math.inf}, None),
    ("pad", {"pad": (1, 1), "mode": "reflect"}, None),
    (
        "pad",
        {"pad": (1, 1), "value": -1.5},
        Reason(Why.OPERAND, "n", "its border is -1.5, and the range of its input need not contain that"),
    ),
    ("where", {"input": typed(2, 3), "other": typed(3), "condition": CONDITION}, None),
    ("where", {"input": 0, "other": typed(3), "condition": CONDITION}, None),
    (
        "where",
        {"input": -1e9, "other": typed(3), "condition": CONDITION},
        Reason(Why.OPERAND, "n", "it copies the number -1000000000.0, and the range of its other values need not contain that"),
    ),
    (
        "where",
        {"input": typed(2, 3), "other": typed(), "condition": CONDITION},
        Reason(Why.OPERAND, "n", "it copies the number x, and the range of its other values need not contain that"),
    ),
    ("where", {"input": 0, "other": 0.0, "condition": CONDITION}, Reason(Why.OPERAND, "n", "it copies nothing but numbers")),
    ("setitem", {"input": typed(2, 3), "other": typed(3), "index": 0}, None),
    (
        "setitem",
        {"input": typed(2, 3), "other": 2.5, "index": 0},
        Reason(Why.OPERAND, "n", "it copies the number 2.5, and the range of its other values need not contain that"),
    ),
    ("div", {"other": 2}, None),
    ("div", {"other": 0.5}, None),
    ("div", {"other": "y"}, Reason(Why.OPERAND, "n", "it divides by y, not by a number")),
    ("pow", {"exponent": 2}, None),
    ("pow", {"exponent": 0.5}, None),
    (
        "pow",
        {"exponent": -1},
        Reason(Why.OPERAND, "n", "x^-1 has no bounds near 0, where the steps of 8 bits are too coarse for it"),
    ),
    ("instance_norm", {"input": typed(2, 3, 4, 4)}, None),
    ("instance_norm", {"input": typed(2, 3, 4), "rank": 1}, None),
    (
        "instance_norm",
        {"input": typed(3, 4, 4)},
        Reason(Why.OPERAND, "n", "its input has no batch dimension: [3, 4, 4]"),
    ),
    ("interpolate", {"size": 4}, None),
    ("interpolate", {"size": 4, "mode": "bilinear"}, None),
    ("interpolate", {"size": 4, "mode": "bicubic"}, Reason(Why.OPERAND, "n", "interpolation by bicubic has no integer form")),
    (
        "interpolate",
        {"size": 4, "mode": "bilinear", "antialias": True},
        Reason(Why.OPERAND, "n", "interpolation by bilinear with antialias has no integer form"),
    ),
    ("clamp", {}, None),
    ("clamp", {"min": 0, "max": 6.0}, None),
    ("clamp", {"min": -1, "max": 0}, None),
    ("clamp", {"min": "a tensor"}, None),
    ("embedding", {"max_norm": None}, None),
    ("embedding", {"max_norm": 2.0}, Reason(Why.MUTATED, "n", "max_norm=2.0 changes rows as they are read; normalize them before")),
    (
        "clamp",
        {"min": 0.5},
        Reason(Why.OPERAND, "n", "its bounds, 0.5 and None, leave 0 out, and the range of its input need not reach that far"),
    ),
    (
        "clamp",
        {"min": -3, "max": -1},
        Reason(Why.OPERAND, "n", "its bounds, -3 and -1, leave 0 out, and the range of its input need not reach that far"),
    ),
]


@pytest.mark.parametrize(("name", "operands", "expected"), CASES)
def test_objection(name: str, operands: dict[str, Any], expected: Reason | None) -> None:
    op = ops_by_name()[name]
    assert op.objection("n", normal_form(op, {**dict.fromkeys(op.positional), **operands}, 1)) == expected


def test_every_objection_has_a_yes_and_a_no() -> None:
    own = {op.name for op in OPS if getattr(op.objection, "__module__", "") == objections.__name__}
    assert {(name, objects) for name in own for objects in (True, False)} == {(name, reason is not None) for name, _, reason in CASES}


@pytest.mark.parametrize("op", [op for op in OPS if op.name not in {name for name, _, _ in CASES}], ids=lambda op: op.name)
def test_other_ops_never_object(op: Any) -> None:
    assert op.objection("n", {}) is None
