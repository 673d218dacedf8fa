"""Keeps a graph as it is between passes, for pictures. No pass reads what is kept."""

from __future__ import annotations

from fxq.graph.module import FxqModule
from fxq.graph.snapshots import take
from fxq.observers import Observer
from fxq.observers.distribution import Distribution


def record(module: FxqModule) -> None:
    """Puts a snapshot of the graph, with what its observers have seen, into the module's history."""
    module.history = module.history.with_snapshot(take(module, distributions_of(module)))


def distributions_of(module: FxqModule) -> dict[str, Distribution]:
    """Name of an observer's node → what it has seen, of those that saw something."""
    calls = {node.name: module.get_submodule(str(node.target)) for node in module.graph.find_nodes(op="call_module")}
    found = {name: observer.distribution() for name, observer in calls.items() if isinstance(observer, Observer)}
    return {name: distribution for name, distribution in found.items() if distribution is not None}
