"""The float model of an int8 model as a graph of the same calls."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn

from fxq.graph.annotation import whole_reason_of
from fxq.graph.copies import copy_module
from fxq.graph.islands import graphs_of, path_of
from fxq.graph.module import FxqModule
from fxq.graph.reasons import Why
from fxq.passes import FUSE, Context, run_pipeline, trace
from fxq.passes.whole import TraceOptions, Whole, unwrap
from fxq.runtime.assumptions import assume


def trace_alike(float_model: nn.Module, int8: FxqModule, example_inputs: Any) -> FxqModule:
    """float model → canonical ops, traced with what was kept whole and fixed when the int8 model was prepared.

    Canonical ops write into nothing that they read, so that a value stays what it was until it is compared.

    Args:
        float_model: left as it is. Where it is in training mode, its graph is that of eval mode.

    Raises:
        CaptureError: it does not run on the inputs.
        StageError: it is one of fxq's models already.
    """
    assert int8.profile is not None
    model = _evaluating(unwrap(float_model))
    options = TraceOptions(tuple(_kept_whole(int8)), concrete_args=_fixed_arguments(int8, model), ops=int8.ops)
    return run_pipeline(trace(model, example_inputs, options), FUSE[:1], Context(int8.profile, ops=int8.ops))


def _evaluating(model: nn.Module) -> nn.Module:
    """What trains is copied first; a model in eval mode keeps what it has in training mode inside, as prepare_fx does."""
    return copy_module(model).eval() if model.training and not isinstance(model, FxqModule) else model


def _kept_whole(int8: FxqModule) -> Iterator[Whole]:
    for graph in graphs_of(int8):
        for node in graph.graph.find_nodes(op="call_module"):
            reason = whole_reason_of(node)
            if reason is not None and reason.why is not Why.UNTRACEABLE:
                yield Whole(path_of(node, graph), reason.why, "the int8 model")


def _fixed_arguments(int8: FxqModule, model: nn.Module) -> dict[str, Any]:
    """Parameter of forward → the value that the graph takes for granted."""
    parameters = inspect.signature(model.forward).parameters
    checks = [node for node in int8.graph.find_nodes(op="call_function", target=assume) if node.args[0].op == "placeholder"]
    fixed = {str(node.args[0].target): node.args[1] for node in checks}
    return {name: value for name, value in fixed.items() if name in parameters}
