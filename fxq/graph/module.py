"""FxqModule: the model at any stage of the compilation, as a torch module that can be copied, pickled and saved."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import _get_qualified_name, map_arg

from fxq.graph.annotation import TensorType, annotations_of, set_annotations, set_type
from fxq.graph.ops import call_of
from fxq.graph.profile import BackendProfile
from fxq.graph.stages import Stage


@dataclass(frozen=True)
class _NodeRef:
    """A node, inside pickled arguments."""

    name: str


@dataclass(frozen=True)
class _NodeRecord:
    """One node in a form that pickles: functions by qualified name, argument nodes by reference."""

    op: str
    name: str
    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    annotations: dict[str, Any]


class FxqModule(GraphModule):
    """A GraphModule that keeps node annotations, stage and submodules through copy, pickle and torch.save.

    torch's GraphModule pickles its code and traces it again, which loses what is known of the nodes; this one stores its
    nodes. Functions are stored by name and looked up when loaded, so a pickle is as trustworthy as any Python pickle: load
    only files you trust.

    Attributes:
        stage: how far the compilation has come.
        profile: the backend it is compiled for; None before it was chosen.
    """

    stage: Stage = Stage.TRACED
    profile: BackendProfile | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> FxqModule:
        duplicate = _rebuild(copy.deepcopy(self._state(), memo), self._records())
        memo[id(self)] = duplicate
        return duplicate

    def __reduce__(self) -> tuple[Callable[..., FxqModule], tuple[dict[str, Any], list[_NodeRecord]]]:
        return _rebuild, (self._state(), self._records())

    def _get_name(self) -> str:
        return "FxqModule"

    def _state(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_graph"}

    def _records(self) -> list[_NodeRecord]:
        return [_record(node) for node in self.graph.nodes]


def _record(node: Node) -> _NodeRecord:
    target = node.target if isinstance(node.target, str) else _get_qualified_name(node.target)
    args, kwargs = (map_arg(value, lambda n: _NodeRef(n.name)) for value in (node.args, node.kwargs))
    return _NodeRecord(node.op, node.name, target, tuple(_plain(args)), dict(_plain(kwargs)), annotations_of(node))


def _plain(value: Any) -> Any:
    """fx's immutable lists and dicts → plain ones."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _rebuild(state: dict[str, Any], records: list[_NodeRecord]) -> FxqModule:
    module = FxqModule.__new__(FxqModule)
    module.__dict__.update(state)
    graph = Graph()
    nodes: dict[str, Node] = {}
    for record in records:
        args, kwargs = (_with_nodes(value, nodes) for value in (record.args, record.kwargs))
        target = find_function(record.target) if record.op == "call_function" else record.target
        node = graph.create_node(record.op, target, args, kwargs, name=record.name)
        set_annotations(node, record.annotations)
        nodes[record.name] = node
    module.graph = graph
    return module


def _with_nodes(value: Any, nodes: dict[str, Node]) -> Any:
    if isinstance(value, _NodeRef):
        return nodes[value.name]
    if isinstance(value, list | tuple):
        return type(value)(_with_nodes(item, nodes) for item in value)
    if isinstance(value, dict):
        return {key: _with_nodes(item, nodes) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(_with_nodes(part, nodes) for part in (value.start, value.stop, value.step)))
    return value


def find_function(qualified_name: str) -> Callable[..., Any]:
    """'torch.nn.functional.relu' → the function. The longest prefix that is a module is imported."""
    parts = qualified_name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:split]))
        except ImportError:
            continue
        for name in parts[split:]:
            found = getattr(found, name)
        return found  # type: ignore[no-any-return]
    return getattr(importlib.import_module("builtins"), qualified_name)  # type: ignore[no-any-return]


# --- tensors and submodules by path ----------------------------------------------------------------------------------------


def owner_of(module: nn.Module, path: str) -> nn.Module:
    """The submodule that holds the last name of a dotted path."""
    return module.get_submodule(path.rpartition(".")[0])


def tensor_at(module: nn.Module, path: str) -> Tensor:
    """The parameter, buffer or tensor attribute at a dotted path."""
    value = getattr(owner_of(module, path), path.rpartition(".")[2])
    assert isinstance(value, Tensor), f"{path} is {type(value).__name__}, not a tensor"
    return value


def constant_of(node: Node) -> Tensor | None:
    """The tensor that a get_attr node reads; None for a node of another kind."""
    return tensor_at(module_of(node), str(node.target)) if node.op == "get_attr" else None


def free_path(module: nn.Module, path: str) -> str:
    """path, or path_1, path_2, ...: the first that holds nothing yet."""
    taken, suffix = path, 0
    while _holds(module, taken):
        suffix += 1
        taken = f"{path}_{suffix}"
    return taken


def _holds(module: nn.Module, path: str) -> bool:
    owner: Any = module
    for name in path.split("."):
        owner = getattr(owner, name, None)
        if owner is None:
            return False
    return True


def put_tensor(module: nn.Module, path: str, value: Tensor) -> None:
    """Stores a tensor at a dotted path: a Parameter stays one, anything else becomes a buffer."""
    owner, name = _make_owner(module, path), path.rpartition(".")[2]
    if hasattr(owner, name):
        delattr(owner, name)
    if isinstance(value, nn.Parameter):
        owner.register_parameter(name, value)
    else:
        owner.register_buffer(name, value)


def put_module(module: nn.Module, path: str, value: nn.Module) -> None:
    """Stores a submodule at a dotted path."""
    setattr(_make_owner(module, path), path.rpartition(".")[2], value)


def _make_owner(module: nn.Module, path: str) -> nn.Module:
    owner = module
    for name in path.split(".")[:-1]:
        if not hasattr(owner, name):
            owner.add_module(name, nn.Module())
        owner = owner.get_submodule(name)
    return owner


def module_of(node: Node) -> FxqModule:
    """The module whose graph the node is in."""
    module = node.graph.owning_module
    assert isinstance(module, FxqModule), f"{node.name} belongs to no FxqModule"
    return module


def read_constant(before: Node, path: str) -> Node:
    """A get_attr node in front of `before` that reads the tensor at a path."""
    with before.graph.inserting_before(before):
        node = before.graph.create_node("get_attr", path, name=path.replace(".", "_"))
    _note_type(node, tensor_at(module_of(before), path))
    return node


def _note_type(node: Node, value: Tensor) -> None:
    set_type(node, TensorType(tuple(value.shape), value.dtype))


def insert_constant(before: Node, path: str, value: Tensor) -> Node:
    """A get_attr node in front of `before` that reads `value`, stored at the first free path."""
    module = module_of(before)
    path = free_path(module, path)
    put_tensor(module, path, value)
    return read_constant(before, path)


def replace_constant(node: Node, value: Tensor) -> Node:
    """Gives one reader of a constant a new value; other readers of the same tensor keep theirs.

    Returns:
        the get_attr node to read from: the same one where nobody else reads the tensor, else a new one.
    """
    module, path = module_of(node), str(node.target)
    if isinstance(tensor_at(module, path), nn.Parameter) and value.is_floating_point():
        value = nn.Parameter(value)
    readers = [user for other in node.graph.find_nodes(op="get_attr", target=path) for user in other.users]
    owner, name = owner_of(module, path), path.rpartition(".")[2]
    if len(readers) > 1 or not (name in owner._parameters or name in owner._buffers):
        return insert_constant(node, path, value)
    put_tensor(module, path, value)
    _note_type(node, value)
    return node


def remove_unread(module: FxqModule) -> None:
    """Removes constants and canonical ops that nobody reads, and the tensors and submodules that are left behind.

    What fxq does not know may have effects, and stays.
    """
    module.graph.eliminate_dead_code(is_impure_node=lambda node: node.op != "get_attr" and call_of(node) is None)
    module.delete_all_unused_submodules()
    module.recompile()
