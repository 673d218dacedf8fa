"""Islands: modules whose forward stays Python, and the graphs of the modules that they call."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.fx import Node

from fxq.graph.annotation import Origin, origin_of, origins_of, whole_reason_of
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.graph.reasons import Why


def islands_of(module: FxqModule) -> list[Node]:
    """The first call of every island in a graph."""
    found: dict[str, Node] = {}
    for node in module.graph.find_nodes(op="call_module"):
        whole = whole_reason_of(node)
        if whole is not None and whole.why is Why.UNTRACEABLE:
            found.setdefault(str(node.target), node)
    return list(found.values())


def parts_of(island: nn.Module) -> Iterator[FxqModule]:
    """The nearest modules inside that have graphs, each once, in the order of their paths' first appearance."""
    yield from named_parts_of(island).values()


def named_parts_of(island: nn.Module, prefix: str = "") -> dict[str, FxqModule]:
    """The same, by their paths in the island. A graph's own `path` may be that of the module around it."""
    found: dict[str, FxqModule] = {}
    for name, child in island.named_children():
        path = join_path(prefix, name)
        found.update({path: child} if isinstance(child, FxqModule) else named_parts_of(child, path))
    return found


def outside_of_graphs(module: nn.Module) -> Iterator[nn.Module]:
    """The module, and those below it that belong to no graph of its parts; a module that is a graph itself, with all below it."""
    if isinstance(module, FxqModule):
        yield from module.modules()
        return
    yield module
    for child in module.children():
        if not isinstance(child, FxqModule):
            yield from outside_of_graphs(child)


def graphs_of(module: FxqModule) -> list[FxqModule]:
    """The module itself, and behind it the parts of its islands, of the islands in these, and so on; each once."""
    found = [module]
    for node in islands_of(module):
        for part in parts_of(module.get_submodule(str(node.target))):
            found.extend(graphs_of(part))
    return list(dict.fromkeys(found))


def path_of(node: Node, module: FxqModule) -> str:
    """Where the node's module is in the user's model; "" is the model itself."""
    origin = origin_of(node)
    return module.path if origin is None else join_path(module.path, origin.module)


def origins_in_model(node: Node, module: FxqModule) -> tuple[Origin, ...]:
    """The node's origins with their paths in the user's model, of which the graph may be a part."""
    return tuple(origin.below(module.path) for origin in origins_of(node))
