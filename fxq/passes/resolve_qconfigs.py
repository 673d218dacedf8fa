"""Notes on every call of the model what the QConfigMapping says of it."""

from __future__ import annotations

from fxq.graph.annotation import set_resolution
from fxq.graph.islands import graphs_of, origins_in_model
from fxq.graph.module import FxqModule
from fxq.passes.pipeline import Context
from fxq.qconfig_mapping import QConfigMapping


def resolve_qconfigs(module: FxqModule, context: Context) -> int:
    """QConfigMapping × Origin → Resolution, before fusion, so that every op the user wrote is asked about."""
    if context.mapping is None:
        return 0
    calls = {node: origins[0] for node in module.graph.nodes if (origins := origins_in_model(node, module))}
    resolve = context.mapping.resolver
    for node, origin in calls.items():
        set_resolution(node, resolve(origin))
    return len(calls)


def require_matches(module: FxqModule, mapping: QConfigMapping) -> None:
    """Raises ConfigError where a rule of the mapping matches nothing in the model, the graphs in its islands included."""
    mapping.require_matches(
        [origin for graph in graphs_of(module) for node in graph.graph.nodes for origin in origins_in_model(node, graph)]
    )
