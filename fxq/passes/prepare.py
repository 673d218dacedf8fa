"""Float model → model with observers: trace and PREPARE, and the same for what is compiled on its own inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.fx import Node

from fxq.errors import ConfigError
from fxq.graph.annotation import quant_of, resolution_of, whole_reason_of
from fxq.graph.constants import put_module
from fxq.graph.islands import graphs_of, path_of
from fxq.graph.module import FxqModule, Interface
from fxq.graph.reasons import Why
from fxq.passes import PREPARE
from fxq.passes.garbage import without_cycle_collection
from fxq.passes.own_ops import profile_with
from fxq.passes.pipeline import Context, Pipeline, run_pipeline
from fxq.passes.resolve_qconfigs import require_matches
from fxq.passes.trace import trace
from fxq.passes.whole import TraceOptions, Whole, unwrap
from fxq.qconfig_mapping import QConfigMapping
from fxq.qconfig_mapping.custom_config import PrepareCustomConfig, StandaloneModule


@dataclass(frozen=True)
class PrepareOptions:
    """What prepare_fx is told besides model, mapping and profile.

    Attributes:
        custom: modules of the user's own, quantized inputs and results.
        strict: a module that cannot be traced is an error.
        steps: PREPARE, or PREPARE_QAT.
        concrete_args: parameter of forward → the one value that the model is prepared for.
    """

    custom: PrepareCustomConfig = field(default_factory=PrepareCustomConfig)
    strict: bool = False
    steps: Pipeline = PREPARE
    concrete_args: Mapping[str, Any] = field(default_factory=dict)


@without_cycle_collection()
def prepare(model: nn.Module, example_inputs: Any, context: Context, options: PrepareOptions) -> FxqModule:
    """A copy of the model with observers. Custom modules become observed ones, standalone modules are prepared themselves.

    Raises:
        CaptureError: the model cannot be traced, or does not run on the inputs.
        ConfigError: the mapping or the custom config is about something that the model does not have.
    """
    custom = options.custom
    wishes = TraceOptions(tuple(_wishes(custom)), options.strict, custom.preserved_attributes, options.concrete_args, context.ops)
    prepared = trace(model, example_inputs, wishes)
    prepared.interface = Interface(custom.input_quantized_indexes, custom.output_quantized_indexes)
    if context.mapping is not None:
        require_matches(prepared, context.mapping)
    context = replace(context, profile=profile_with(context.profile, context.ops))
    for graph in graphs_of(prepared):
        graph.profile, graph.ops = context.profile, context.ops
    run_pipeline(prepared, options.steps, context)
    standalone = _by_first_path(unwrap(model), custom)
    for graph in graphs_of(prepared):
        for path, node in calls_by_path(graph, Why.CUSTOM).items():
            _observe_custom(graph, path, node, custom)
        for node in calls_by_path(graph, Why.STANDALONE).values():
            _prepare_standalone(graph, node, standalone[path_of(node, graph)], context, options)
    return prepared


def calls_by_path(module: FxqModule, why: Why) -> dict[str, Node]:
    """Path of a module that stays whole for this reason → the first node that calls it."""
    found: dict[str, Node] = {}
    for node in module.graph.find_nodes(op="call_module"):
        whole = whole_reason_of(node)
        if whole is not None and whole.why is why:
            found.setdefault(str(node.target), node)
    return found


def _wishes(custom: PrepareCustomConfig) -> Iterator[Whole]:
    """Names are stronger than classes, and what is quantized in its own way than what stays float."""
    yield from (Whole(path, Why.STANDALONE, "set_standalone_module_name") for path in custom.standalone_module_names)
    yield from (Whole(kind, Why.STANDALONE, "set_standalone_module_class") for kind in custom.standalone_module_classes)
    yield from (Whole(path, Why.KEPT_WHOLE, "set_non_traceable_module_names") for path in custom.non_traceable_module_names)
    yield from (Whole(kind, Why.CUSTOM, "set_float_to_observed_mapping") for kind in custom.float_to_observed_mapping)
    yield from (Whole(kind, Why.KEPT_WHOLE, "set_non_traceable_module_classes") for kind in custom.non_traceable_module_classes)


def _observe_custom(prepared: FxqModule, path: str, node: Node, custom: PrepareCustomConfig) -> None:
    """module → Observed.from_float(module), where the mapping gives it a QConfig."""
    quant, resolution = quant_of(node), resolution_of(node)
    if resolution is None or quant is None or quant.reason is None or quant.reason.why is not Why.CUSTOM:
        return
    module = prepared.get_submodule(path)
    observed_class = custom.float_to_observed_mapping[type(module)]
    module.qconfig = resolution.qconfig
    put_module(prepared, path, made_module(observed_class, "from_float", module))


def made_module(kind: type, method: str, module: nn.Module) -> nn.Module:
    """kind.from_float(module), say. Raises ConfigError where that is no module."""
    made = getattr(kind, method)(module)
    if isinstance(made, nn.Module):
        return made.train(module.training)
    name = f"{kind.__qualname__}.{method}"
    raise ConfigError(name, expected="a torch.nn.Module", found=type(made).__name__, remedy="return the module that takes its place")


# --- standalone modules ----------------------------------------------------------------------------------------------------


def _by_first_path(model: nn.Module, custom: PrepareCustomConfig) -> dict[str, StandaloneModule]:
    """Path under which a trace calls a module → how it is prepared: a shared module has several paths."""
    if not (custom.standalone_module_names or custom.standalone_module_classes):
        return {}
    first = {module: path for path, module in model.named_modules()}
    found: dict[str, StandaloneModule] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        entry = custom.standalone_module_names.get(path)
        if entry is not None:
            found[first[module]] = entry
        elif type(module) in custom.standalone_module_classes:
            found.setdefault(first[module], custom.standalone_module_classes[type(module)])
    return found


def _prepare_standalone(prepared: FxqModule, node: Node, entry: StandaloneModule, context: Context, options: PrepareOptions) -> None:
    resolution = resolution_of(node)
    assert resolution is not None
    path = str(node.target)
    mapping = entry.qconfig_mapping or QConfigMapping().set_global(resolution.qconfig)
    own = replace(options, custom=entry.prepare_custom_config or PrepareCustomConfig(), concrete_args={})
    inside = prepare(prepared.get_submodule(path), entry.example_inputs, replace(context, mapping=mapping), own)
    put_module(prepared, path, inside)
