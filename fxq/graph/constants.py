"""Tensors and submodules of a model by dotted path, and the get_attr nodes that read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

from fxq.graph.annotation import TensorType, set_type
from fxq.graph.attributes import attribute_of, find
from fxq.graph.module import FxqModule
from fxq.graph.ops import op_of


def owner_of(module: nn.Module, path: str) -> nn.Module:
    """The submodule that holds the last name of a dotted path."""
    return module.get_submodule(path.rpartition(".")[0])


def tensor_at(module: nn.Module, path: str) -> Tensor:
    """The parameter, buffer or tensor attribute at a dotted path."""
    owner, _, name = path.rpartition(".")
    value = attribute_of(module.get_submodule(owner), name)
    assert isinstance(value, Tensor), f"{path} is {type(value).__name__}, not a tensor"
    return value


def constant_of(node: Node) -> Tensor | None:
    """The tensor that a get_attr node reads; None for a node of another kind."""
    return tensor_at(module_of(node), str(node.target)) if node.op == "get_attr" else None


def free_path(module: nn.Module, path: str) -> str:
    """path, or path_1, path_2, ...: the first that holds nothing yet."""
    taken, suffix = path, 0
    while find(module, taken) is not None:
        suffix += 1
        taken = f"{path}_{suffix}"
    return taken


def put_tensor(module: nn.Module, path: str, value: Tensor) -> None:
    """Stores a tensor at a dotted path: a Parameter stays one, anything else becomes a buffer."""
    owner, name = _make_owner(module, path), path.rpartition(".")[2]
    held: dict[str, Any] = owner._parameters if isinstance(value, nn.Parameter) else owner._buffers
    if name in held:
        held[name] = value  # what torch checks of a new one holds for the old one
        return
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
        child = owner._modules.get(name)
        if child is None:
            child = nn.Module()
            owner.add_module(name, child)
        owner = child
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

    Args:
        node: the only get_attr node of its tensor, as `merge_reads` leaves it.

    Returns:
        the get_attr node to read from: the same one where nobody else reads it, else a new one.
    """
    module, path = module_of(node), str(node.target)
    if isinstance(tensor_at(module, path), nn.Parameter) and value.is_floating_point():
        value = nn.Parameter(value)
    owner, name = owner_of(module, path), path.rpartition(".")[2]
    if len(node.users) > 1 or not (name in owner._parameters or name in owner._buffers):
        return insert_constant(node, path, value)
    put_tensor(module, path, value)
    _note_type(node, value)
    return node


def replace_by_value(node: Node, value: Any) -> None:
    """Readers of the node have the value, which is no tensor, in its place."""

    def chosen(each: Node) -> Any:
        return value if each is node else each

    for reader in list(node.users):
        args: Any = map_arg(reader.args, chosen)
        kwargs: Any = map_arg(reader.kwargs, chosen)
        reader.args, reader.kwargs = args, kwargs
    node.graph.erase_node(node)


def merge_reads(module: FxqModule) -> None:
    """get_attr w, get_attr w → one node that both readers read: its users are then all readers of the tensor."""
    first: dict[str, Node] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr" and first.setdefault(str(node.target), node) is not node:
            node.replace_all_uses_with(first[str(node.target)])
            module.graph.erase_node(node)


def remove_unread(module: FxqModule) -> None:
    """Removes constants and canonical ops that nobody reads, and the submodules that are left behind.

    What fxq does not know may have effects, and stays. The caller recompiles the module.
    """
    for node in reversed(module.graph.nodes):
        if not node.users and (node.op == "get_attr" or op_of(node) is not None):
            module.graph.erase_node(node)
    module.delete_all_unused_submodules()


def remove_unread_tensors(module: FxqModule) -> None:
    """Removes parameters and buffers that no node reads, outside of the modules that are called or preserved."""
    read = {str(node.target) for node in module.graph.find_nodes(op="get_attr")} | set(module.preserved)
    called = {str(node.target) for node in module.graph.find_nodes(op="call_module")} | set(module.preserved)
    for path, owner in list(_outside(module, "", called)):
        for name in [*owner._parameters, *owner._buffers]:
            if f"{path}{name}" not in read:
                delattr(owner, name)


def _outside(owner: nn.Module, path: str, called: set[str]) -> Iterator[tuple[str, nn.Module]]:
    """(path with a trailing dot, module) for a module and all below it, down to those that are called."""
    yield path, owner
    for name, child in owner.named_children():
        if f"{path}{name}" not in called:
            yield from _outside(child, f"{path}{name}.", called)
