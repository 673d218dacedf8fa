"""Shapes and dtypes of every value, found by running the graph once on example inputs."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node
from torch.fx.immutable_collections import immutable_dict, immutable_list
from torch.utils._pytree import tree_leaves

from fxq.errors import CaptureError
from fxq.graph.annotation import TensorType, ValueType, note_new, note_writing, origin_of, set_type
from fxq.graph.attributes import find
from fxq.graph.copies import copy_inputs
from fxq.graph.module import FxqModule
from fxq.graph.source import line_of_error


def infer_types(module: FxqModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Runs the graph without gradients; notes the type of every value, which calls write into what they read, and which return
    memory of their own.

    Inputs, buffers and random state are left as they were.

    Raises:
        CaptureError: a node failed on the example inputs.
    """
    with torch.inference_mode(False), torch.no_grad(), _unchanged_state(module), torch.random.fork_rng(devices=[]):
        inputs = copy_inputs(placeholder_values(module, args, kwargs), torch.clone)  # the first op may write into them
        _TypeRecorder(module).run(*inputs)


def value_type(value: Any) -> ValueType:
    """Type of a run-time value."""
    if isinstance(value, Tensor):
        return TensorType(tuple(value.shape), value.dtype)
    if isinstance(value, list | tuple):
        types = tuple(map(value_type, value))
        return types if any(each is not None for each in types) else None
    return None


_ADDED_BY_FX = "\n\nWhile executing"  # torch.fx repeats the node behind the message


class GraphInterpreter(Interpreter):
    """Runs a graph node by node, as its code would."""

    def fetch_attr(self, target: str) -> Any:
        """Like torch's, which takes three times as long."""
        found = find(self.module, target)
        return super().fetch_attr(target) if found is None else found

    def fetch_args_kwargs_from_env(self, n: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Literals are made anew for every call, as the module's code makes them: what is called may write into them."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return _writable(args), {name: _writable(value) for name, value in kwargs.items()}


class _TypeRecorder(GraphInterpreter):
    def run_node(self, n: Node) -> Any:
        before = self._versions(n)
        try:
            value = super().run_node(n)
        except Exception as error:
            raise _failed(n, error) from error
        set_type(n, value_type(value))
        if self._versions(n) != before:
            note_writing(n)
        memory = _memory(value)
        if all(memory.isdisjoint(_memory(self.env.get(operand))) for operand in n.all_input_nodes):
            note_new(n)
        return value

    def _versions(self, n: Node) -> list[int]:
        """How often each tensor that the node reads was written to."""
        reads = (self.env.get(operand) for operand in n.all_input_nodes)
        return [value._version for value in reads if isinstance(value, Tensor) and not value.is_inference()]


def _memory(value: Any) -> set[int]:
    """Addresses of the storages that the tensors of a value lie in."""
    leaves = [value] if isinstance(value, Tensor) else tree_leaves(value)
    return {leaf.untyped_storage().data_ptr() for leaf in leaves if isinstance(leaf, Tensor) and leaf.layout is torch.strided}


def _writable(value: Any) -> Any:
    if isinstance(value, immutable_list):
        return [_writable(item) for item in value]
    if isinstance(value, immutable_dict):
        return {key: _writable(item) for key, item in value.items()}
    return tuple(map(_writable, value)) if type(value) is tuple else value


def _failed(node: Node, error: Exception) -> CaptureError:
    origin = origin_of(node)
    place = f" ({origin.module or 'the model itself'}, {origin.source or 'source not known'})" if origin else ""
    line = line_of_error(error)
    found = f"{type(error).__name__}: {str(error).partition(_ADDED_BY_FX)[0]}"
    return CaptureError(
        f"{node.name}{place}",
        expected="every operation of the model runs on example_inputs",
        found=found if line is None else f"`{line.code}` — {found}, {line.place}",
        remedy="pass example_inputs of the shapes and dtypes that the model is used with",
    )


def placeholder_values(module: FxqModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """Positional and keyword inputs in the order of the placeholders; trailing ones may fall back to their defaults.

    Raises:
        CaptureError: there are too many, one is missing, or one has an unknown name.
    """
    placeholders = module.graph.find_nodes(op="placeholder")
    names = [str(node.target) for node in placeholders]
    unknown = sorted(set(kwargs) - set(names[len(args) :]))
    if unknown or len(args) > len(names):
        raise CaptureError(
            "example_inputs",
            expected=f"inputs for {', '.join(names)}",
            found=f"{len(args)} positional" + (f" and unknown {', '.join(unknown)}" if unknown else ""),
            remedy="pass a tuple in the order of forward's parameters, or a dict by their names; of an (input, label) pair only the input",
        )
    values = list(args)
    for node in placeholders[len(args) :]:
        if str(node.target) in kwargs:
            values.append(kwargs[str(node.target)])
        elif node.args:
            values.append(node.args[0])
        else:
            raise CaptureError("example_inputs", expected=f"a value for {node.target}", found="none", remedy="add it to example_inputs")
    return values


@contextmanager
def _unchanged_state(module: nn.Module) -> Iterator[None]:
    """Puts all buffers back, and the numbers that modules count in.

    Batch norms in training mode write to their buffers, and torch doesn't count it in `_version`.
    """
    owners = list(module.modules())
    present = ((owner, name, buffer) for owner in owners for name, buffer in owner._buffers.items() if buffer is not None)
    held = [each for each in present if not each[2].is_inference()]  # which nothing can write to here
    buffers = [(owner, name, buffer, buffer.clone()) for owner, name, buffer in held]
    attributes = [(vars(owner), vars(owner).copy()) for owner in owners]
    try:
        yield
    finally:
        with torch.no_grad():
            for owner, name, buffer, value in buffers:
                buffer.copy_(value)
                owner._buffers[name] = buffer
        for now, before in attributes:
            if len(now) != len(before) or not all(map(operator.is_, now.values(), before.values())):
                now.update({name: value for name, value in before.items() if isinstance(value, int | float)})
