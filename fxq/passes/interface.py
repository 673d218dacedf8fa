"""Inputs and results that are quantized outside of the model, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from torch.fx import Graph, Node

from fxq.errors import ConfigError
from fxq.graph.annotation import NodeQuant, set_quant, set_type, type_of
from fxq.graph.constants import free_path, put_module
from fxq.graph.module import FxqModule
from fxq.graph.qdq import integers_behind, is_dequantize, is_quantize, qparams_of
from fxq.graph.qtypes import QuantSpec
from fxq.graph.reasons import Reason
from fxq.passes.pipeline import Context
from fxq.runtime.interface import QTensorEntry, QTensorExit


def results_of(graph: Graph) -> tuple[Any, ...]:
    """What the model returns, one by one: the items of a tuple or list, the values of a dict, the fields of a dataclass or named
    tuple (which is a call of its class), or the one result."""
    value = graph.output_node().args[0]
    if _is_made_of_fields(value):
        items: Any = value.args[0] if value.args else None
        return tuple(items.values()) if _is_made_of_dict(value) else (*value.args, *value.kwargs.values())
    if isinstance(value, dict):
        return tuple(value.values())
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _is_made_of_fields(value: Any) -> TypeGuard[Node]:
    return isinstance(value, Node) and value.op == "call_function" and isinstance(value.target, type)


def _is_made_of_dict(made: Node) -> bool:
    """OrderedDict({...})"""
    return len(made.args) == 1 and isinstance(made.args[0], dict)


def quantized_inputs(module: FxqModule) -> dict[int, Node]:
    """Index → input that is asked for as a QTensor. Raises ConfigError where there is no such input."""
    return _picked("input", module.graph.find_nodes(op="placeholder"), module.interface.quantized_inputs)


def quantized_results(module: FxqModule) -> dict[int, Node]:
    """Index → value that is asked for as a QTensor. Raises ConfigError where there is no such result, or it is no tensor."""
    return _picked("result", results_of(module.graph), module.interface.quantized_outputs)


def _picked(what: str, values: Any, indexes: tuple[int, ...]) -> dict[int, Node]:
    found = {index: values[index] for index in indexes if index < len(values) and isinstance(values[index], Node)}
    for index in indexes:
        if index not in found:
            raise ConfigError(
                f"quantized {what} {index}",
                expected=f"the index of a tensor, below {len(values)}",
                found="a constant" if index < len(values) else f"a model with {len(values)} {what}{'s' if len(values) != 1 else ''}",
                remedy=f"count {what}s from 0",
            )
    return found


def require_quantized(module: FxqModule, specs: Mapping[Node, QuantSpec], refused: Mapping[Node, Reason]) -> None:
    """Raises ConfigError unless the inputs and results that are asked for as QTensors will be quantized."""
    for index, node in quantized_inputs(module).items():
        if node not in specs:
            raise _stays_float(f"quantized input {index}, {node.name}", "an input that an int8 op reads", "no int8 op reads it")
    for index, node in quantized_results(module).items():
        if node not in specs or node in refused:
            found = str(refused[node]) if node in refused else f"{node.name} stays float"
            raise _stays_float(f"quantized result {index}, {node.name}", "the result of an int8 op", found)


def _stays_float(where: str, expected: str, found: str) -> ConfigError:
    return ConfigError(where, expected=expected, found=found, remedy="leave this index out, and pass a float tensor there")


def expose_integers(module: FxqModule, context: Context) -> int:
    """quantize(x) → the integers of the QTensor x;  dequantize(y), returned → the QTensor y. Returns the number of these."""
    inputs, results = quantized_inputs(module), quantized_results(module)
    for node in inputs.values():
        _enter(module, node)
    for index, node in results.items():
        _leave(module, index, node)
    return len(inputs) + len(results)


def _enter(module: FxqModule, x: Node) -> None:
    """Whoever reads the float input reads what the QTensor stands for."""
    q = next(reader for reader in x.users if is_quantize(reader))
    dq = next(reader for reader in q.users if is_dequantize(reader))
    qparams = qparams_of(q)
    path = free_path(module, f"{x.target}_entry")
    put_module(module, path, QTensorEntry(str(x.target), qparams))
    with module.graph.inserting_before(q):
        entry = module.graph.call_module(path, (x,))
    set_type(entry, type_of(q))
    set_type(x, type_of(q))
    set_quant(entry, NodeQuant(output=qparams.spec, qparams=qparams))
    q.replace_all_uses_with(entry)
    module.graph.erase_node(q)
    x.replace_all_uses_with(dq, delete_user_cb=lambda reader: reader is not entry)


def _leave(module: FxqModule, index: int, dq: Node) -> None:
    integers, qparams, output = integers_behind(dq), qparams_of(dq), module.graph.output_node()
    name = integers.all_input_nodes[0].name
    path = free_path(module, f"{name}_exit")
    put_module(module, path, QTensorExit(name, qparams))
    made = output.args[0]
    returning = made if _is_made_of_fields(made) else output
    with module.graph.inserting_before(returning):
        leaving = module.graph.call_module(path, (integers,))
    set_type(leaving, type_of(integers))
    set_quant(leaving, NodeQuant(qparams=qparams))
    if returning is output:
        output.args = (_with_result(made, index, leaving),)
    elif _is_made_of_dict(returning):
        returning.args = (_with_result(returning.args[0], index, leaving),)
    elif index < len(returning.args):
        returning.args = _with_result(returning.args, index, leaving)
    else:
        returning.kwargs = _with_result(returning.kwargs, index - len(returning.args), leaving)


def _with_result(value: Any, index: int, result: Node) -> Any:
    if isinstance(value, dict):
        return {key: result if i == index else item for i, (key, item) in enumerate(value.items())}
    if isinstance(value, list | tuple):
        items = [result if i == index else item for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    return result
