"""Notes on every call of the model what the QConfigMapping says of it."""

from __future__ import annotations

from fxq.graph.annotation import origin_of, set_resolution
from fxq.graph.module import FxqModule
from fxq.passes.pipeline import Context


def resolve_qconfigs(module: FxqModule, context: Context) -> int:
    """QConfigMapping × Origin → Resolution, before fusion, so that every op the user wrote is asked about.

    Raises:
        ConfigError: a rule of the mapping matches nothing in the model.
    """
    if context.mapping is None:
        return 0
    calls = {node: origin for node in module.graph.nodes if (origin := origin_of(node)) is not None}
    context.mapping.require_matches(calls.values())
    for node, origin in calls.items():
        set_resolution(node, context.mapping.resolve(origin))
    return len(calls)
