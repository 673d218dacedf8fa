"""Snapshots of a graph on its way through the passes: taking one costs some microseconds per node, and no tensor is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.fx.node import map_arg

from fxq.graph.annotation import shown_annotations_of, tensor_type
from fxq.graph.constants import put_module, put_tensor
from fxq.graph.history import Called, Snapshot
from fxq.graph.module import FxqModule, NodeRecord, NodeRef, find_function, graph_of, target_name


def take(module: FxqModule, observed: Mapping[str, Any]) -> Snapshot:
    """The graph as it is now.

    Args:
        observed: what the snapshot is to hold of its observers.
    """
    reference = {node: NodeRef(node.name) for node in module.graph.nodes}
    called = {str(node.target) for node in reference if node.op == "call_module"}
    modules = {path: _called(module.get_submodule(path)) for path in called}
    return Snapshot(module.stage, tuple(_record(node, reference) for node in reference), modules, observed)


def _record(node: Node, reference: Mapping[Node, NodeRef]) -> NodeRecord:
    refer: Any = reference.__getitem__  # torch's signature knows arguments only that a graph could have
    args: Any = map_arg(node.args, refer)
    kwargs: Any = map_arg(node.kwargs, refer)
    return NodeRecord(node.op, node.name, target_name(node), args, kwargs, shown_annotations_of(node))


def restore(snapshot: Snapshot, path: str = "") -> FxqModule:
    """A model with the graph of a snapshot. It can be read, printed and drawn, but not run: its tensors have no data.

    Args:
        path: of the module in the user's model.
    """
    owner = nn.Module()
    for place, called in sorted(snapshot.called.items()):
        put_module(owner, place, _blank(called))
    graph = graph_of(snapshot.nodes)
    for node in graph.find_nodes(op="get_attr"):
        found = tensor_type(node)
        shape, dtype = ((), torch.float32) if found is None else (found.shape, found.dtype)
        put_tensor(owner, str(node.target), torch.empty(shape, dtype=dtype, device="meta"))
    restored = FxqModule(owner, graph)
    restored.stage, restored.path = snapshot.stage, path
    return restored


def _called(module: nn.Module) -> Called:
    kind = FxqModule if isinstance(module, FxqModule) else type(module)  # every GraphModule has a class of its own
    return Called(f"{kind.__module__}.{kind.__qualname__}", module._get_name())  # type: ignore[no-untyped-call]


class Unknown(nn.Module):
    """Stands for a module whose class cannot be found by its name: one that a function has defined."""


def _blank(called: Called) -> nn.Module:
    """A module of this class and name, in which nothing is: names may be made from what modules hold."""
    kind = _class_of(called)
    blank: nn.Module = kind.__new__(kind)
    nn.Module.__init__(blank)
    vars(blank)["_get_name"] = lambda: called.name
    return blank


def _class_of(called: Called) -> type[nn.Module]:
    try:
        found = find_function(called.kind)
    except (ImportError, AttributeError):
        return Unknown
    return found if isinstance(found, type) and issubclass(found, nn.Module) else Unknown
