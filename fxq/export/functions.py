"""What a graph calls besides canonical ops and has an ONNX form."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Node
from torch.fx.node import map_arg

from fxq.export.elementwise import Emission
from fxq.export.site import Site
from fxq.export.writer import Constant
from fxq.graph.constants import module_of
from fxq.graph.opdef import Operands


@dataclass(frozen=True)
class Function:
    """A function of torch that is no canonical op.

    Attributes:
        spellings: functions, names of methods, types of modules.
        operands: names of its arguments, in order, and of the module's attributes behind the first.
        emission: writes it.
    """

    spellings: tuple[Any, ...]
    operands: tuple[str, ...]
    emission: Emission


def _unary(op_type: str) -> Emission:
    return lambda site: site.emit(op_type, site.tensor("input"))


def _log_softmax(site: Site) -> str:
    return site.emit("LogSoftmax", site.tensor("input"), axis=site["dim"])


def _compared(op_type: str) -> Emission:
    return lambda site: site.emit(op_type, site.tensor("input"), site.tensor("other"))


def _evaluated(site: Site) -> Constant:
    """What is the same whenever the model runs."""
    args, kwargs = map_arg((site.node.args, site.node.kwargs), site.scope.values.__getitem__)
    assert callable(site.node.target)
    return Constant(site.node.name, site.node.target(*args, **kwargs))


def _unchanged(site: Site) -> Any:
    return site["input"]


_PAIR = ("input", "other")

FUNCTIONS = (
    Function((torch.log_softmax, F.log_softmax, "log_softmax", nn.LogSoftmax), ("input", "dim"), _log_softmax),
    Function((torch.log, "log"), ("input",), _unary("Log")),
    Function((torch.sin, "sin"), ("input",), _unary("Sin")),
    Function((torch.cos, "cos"), ("input",), _unary("Cos")),
    Function((torch.floor, "floor"), ("input",), _unary("Floor")),
    Function((torch.ceil, "ceil"), ("input",), _unary("Ceil")),
    Function((torch.reciprocal, "reciprocal"), ("input",), _unary("Reciprocal")),
    Function((torch.gt, operator.gt, "gt"), _PAIR, _compared("Greater")),
    Function((torch.ge, operator.ge, "ge"), _PAIR, _compared("GreaterOrEqual")),
    Function((torch.lt, operator.lt, "lt"), _PAIR, _compared("Less")),
    Function((torch.le, operator.le, "le"), _PAIR, _compared("LessOrEqual")),
    Function((torch.arange, torch.zeros, torch.ones, torch.full, torch.tensor), (), _evaluated),
    Function(("detach", "float"), ("input",), _unchanged),
)


def find_function(node: Node) -> Function | None:
    """The row of what the node calls."""
    called = type(module_of(node).get_submodule(str(node.target))) if node.op == "call_module" else node.target
    return next((row for row in FUNCTIONS if called in row.spellings), None)


def operands_of(node: Node, row: Function) -> Operands:
    """The arguments by name; those of a module are its attributes."""
    given = {**dict(zip(row.operands, node.args, strict=False)), **node.kwargs}
    if node.op != "call_module":
        return given
    module = module_of(node).get_submodule(str(node.target))
    return {**given, **{name: getattr(module, name) for name in row.operands[1:]}}
