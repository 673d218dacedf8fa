"""Reference graph → ONNX graph, node by node."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves, tree_map_only

from fxq.errors import ExportError
from fxq.export.elementwise import ELEMENTWISE
from fxq.export.functions import find_function, operands_of
from fxq.export.indexing import INDEXING
from fxq.export.movement import MOVEMENT
from fxq.export.products import PRODUCTS
from fxq.export.reductions import REDUCTIONS
from fxq.export.site import FIXED, Scope, Shape, Site, place_of
from fxq.export.sizes import BatchSizeNeeded
from fxq.export.writer import Constant, Writer
from fxq.graph.annotation import tensor_type, type_of
from fxq.graph.constants import constant_of
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Operands
from fxq.graph.ops import call_of
from fxq.runtime.assumptions import ADDED_BY_TRACE

# canonical op → what writes it; gives the name of its value, or a Constant or a Python value where there is nothing to write
EMISSIONS: Mapping[str, Callable[[Site], Any]] = {**PRODUCTS, **ELEMENTWISE, **REDUCTIONS, **MOVEMENT, **INDEXING}

# Python that is called with tensors and computes nothing
_CONTAINERS = (operator.getitem, *ADDED_BY_TRACE)

_SHOWN = 10  # nodes in one message


@dataclass(frozen=True)
class TensorShape:
    """A tensor that the model takes or gives."""

    shape: Shape
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class Translated:
    """The graph that was written.

    Attributes:
        inputs: name → shape.
        result: what forward returns, with names of values in the place of tensors.
        types: of the values that belong to nodes of the model.
    """

    writer: Writer
    inputs: Mapping[str, TensorShape]
    result: Any
    types: Mapping[str, TensorShape]


@dataclass(frozen=True)
class _Emission:
    """How one node is written."""

    write: Callable[[Site], Any]
    operands: Operands


def translate(module: FxqModule, inputs: Mapping[Node, Any], shapes: Mapping[Node, Shape], opset: int) -> Translated:
    """Writes every node.

    Args:
        inputs: placeholder → what is passed there, with a TensorShape for every tensor.
        shapes: of all nodes whose value is one tensor.

    Raises:
        ExportError: nodes have no ONNX form.
    """
    emissions = _emissions(module)
    scope = Scope(Writer(opset), {}, shapes)
    given: dict[str, TensorShape] = {}
    types: dict[str, TensorShape] = {}
    for node in module.graph.nodes:
        if node.op == "output":
            return Translated(scope.writer, given, map_arg(node.args[0], lambda each: _named(each, scope)), types)
        value = _enter(node, inputs[node], scope, given) if node.op == "placeholder" else _written(node, emissions.get(node), scope)
        scope.values[node] = value
        found = tensor_type(node)
        if isinstance(value, str) and found is not None:
            types[value] = TensorShape(shapes[node], found.dtype)
    raise AssertionError(f"{module.path or 'the graph'} has no output")


def _named(node: Node, scope: Scope) -> Any:
    """The node's value, of which a tensor of the model gets a name, too."""
    return tree_map_only(Constant, scope.writer.read, scope.values[node])


def _enter(node: Node, value: Any, scope: Scope, given: dict[str, TensorShape]) -> Any:
    """One input for every tensor in the value of a placeholder."""
    single = isinstance(value, TensorShape)

    def enter(tensor: TensorShape) -> str:
        name = scope.writer.name(str(node.target) if single else f"{node.target}_{len(given)}")
        given[name] = tensor
        return name

    return tree_map_only(TensorShape, enter, value)


def _written(node: Node, emission: _Emission | None, scope: Scope) -> Any:
    if node.op == "get_attr":
        values = constant_of(node)
        assert values is not None
        return Constant(str(node.target), values)
    try:
        if emission is not None:
            return emission.write(Site(scope, node, emission.operands))
        return _computed(node, scope)
    except BatchSizeNeeded:
        raise ExportError(
            place_of(node), expected="Python that does not ask for the size of the batch", found=f"{node.name} does", remedy=FIXED
        ) from None


def _computed(node: Node, scope: Scope) -> Any:
    """What Python makes of sizes and containers."""
    args, kwargs = map_arg((node.args, node.kwargs), scope.values.__getitem__)
    assert callable(node.target)
    return node.target(*args, **kwargs)


# --- which nodes have an ONNX form -----------------------------------------------------------------------------------------


def _emissions(module: FxqModule) -> dict[Node, _Emission]:
    """How each node is written that is not plain Python. Raises ExportError with the names of those that nothing writes."""
    found = {node: _emission(node) for node in module.graph.nodes if node.op.startswith("call_") and not _is_python(node)}
    missing = [node for node, emission in found.items() if emission is None]
    if not missing:
        return {node: emission for node, emission in found.items() if emission is not None}
    more = f", and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    raise ExportError(
        place_of(missing[0]),
        expected="ops that fxq can write in ONNX",
        found=", ".join(f"{node.name} ({_called(node)})" for node in missing[:_SHOWN]) + more,
        remedy="replace them in the model by ops that are listed in docs/export.md, or leave them outside of the model that is exported",
    )


def _emission(node: Node) -> _Emission | None:
    call = call_of(node)
    if call is not None:
        write = EMISSIONS.get(call.op.name)
        return None if write is None else _Emission(write, call.operands)
    row = find_function(node)
    return None if row is None else _Emission(row.emission, operands_of(node, row))


def _is_python(node: Node) -> bool:
    """Whether it computes with sizes and containers alone."""
    if node.op != "call_function" or call_of(node) is not None:
        return False
    return node.target in _CONTAINERS or isinstance(node.target, type) or _reads_no_tensor(node)


def _reads_no_tensor(node: Node) -> bool:
    return not any(leaf is not None for operand in (node, *node.all_input_nodes) for leaf in tree_leaves(type_of(operand)))


def _called(node: Node) -> str:
    if node.op == "call_module":
        module = node.graph.owning_module
        assert module is not None
        return type(module.get_submodule(str(node.target))).__qualname__
    return node.target if isinstance(node.target, str) else getattr(node.target, "__qualname__", str(node.target))
