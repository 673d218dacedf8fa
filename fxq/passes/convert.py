"""Calibrated model → reference or int8 model: the given passes, and the same for what is compiled on its own inside."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor
from torch.fx import Node

from fxq.errors import ConfigError
from fxq.graph.annotation import quant_of, resolution_of
from fxq.graph.constants import constant_of, put_module
from fxq.graph.copies import copy_storages
from fxq.graph.islands import graphs_of
from fxq.graph.module import FxqModule, OriginalWeights
from fxq.graph.names import join_path, qualified_name
from fxq.graph.ops import call_of
from fxq.graph.reasons import Why
from fxq.passes.fold_trained import fold_trained, warn_if_untrained
from fxq.passes.freeze_qparams import observers_of
from fxq.passes.garbage import without_cycle_collection
from fxq.passes.pipeline import Context, Pipeline, run_pipeline
from fxq.passes.prepare import calls_by_path, made_module
from fxq.passes.resolve_qconfigs import require_matches
from fxq.passes.trace import preserve_attributes
from fxq.passes.turn_off import turn_off
from fxq.passes.whole import unknown_name
from fxq.qconfig_mapping import QConfigMapping
from fxq.qconfig_mapping.custom_config import ConvertCustomConfig


@dataclass(frozen=True)
class ConvertOptions:
    """What convert_fx is told besides the model.

    Attributes:
        custom: modules of the user's own, preserved attributes.
        mapping: layers that stay float after all; None: as prepared.
        keep_original_weights: whether the model gets an `original_weights_lookup`.
    """

    custom: ConvertCustomConfig = field(default_factory=ConvertCustomConfig)
    mapping: QConfigMapping | None = None
    keep_original_weights: bool = False


@without_cycle_collection()
def convert(prepared: FxqModule, steps: Pipeline, options: ConvertOptions) -> FxqModule:
    """A copy of the prepared model, converted by the steps.

    Raises:
        CalibrationError: an observer saw no data, or trained weights are not finite.
        ConfigError: an option is about something that the model does not have, or a custom module has no quantized class.
    """
    present = {type(module) for module in prepared.modules()}
    for kind in options.custom.observed_to_quantized_mapping:
        if kind not in present:
            name = qualified_name(kind)
            raise unknown_name(f"set_observed_to_quantized_mapping {kind.__qualname__}", name, map(qualified_name, present))
    warn_if_untrained(prepared)
    graphs = [each for each in prepared.modules() if isinstance(each, FxqModule)]
    # what is only read is not copied: observers, and weights in whose place integers will be
    only_read = [each for graph in graphs for each in (*observers_of(graph).values(), *_replaced_tensors(graph))]
    module = copy.deepcopy(prepared, {id(each): each for each in only_read})
    preserve_attributes(module, module, options.custom.preserved_attributes)
    converted = _convert(module, steps, options)
    copy_storages(converted, [each for each in only_read if isinstance(each, Tensor)])
    return converted


def _replaced_tensors(graph: FxqModule) -> Iterator[Tensor]:
    """What layers read whose weights will be stored in integers: most of it goes, but a bias may stay, or have another reader."""
    for node in graph.graph.nodes:
        quant = quant_of(node)
        if quant is not None and ("weight" in quant.inputs or quant.is_weight_only):
            yield from (found for operand in node.all_input_nodes if (found := constant_of(operand)) is not None)


def _convert(module: FxqModule, steps: Pipeline, options: ConvertOptions) -> FxqModule:
    assert module.profile is not None
    context = Context(module.profile, options.mapping)
    if options.mapping is not None:
        require_matches(module, options.mapping)
    graphs = graphs_of(module)
    for graph in graphs:
        fold_trained(graph)
        if options.mapping is not None:
            turn_off(graph, context)
        _convert_custom(graph, options.custom)
        for path, node in calls_by_path(graph, Why.STANDALONE).items():
            _convert_standalone(graph, node, path, steps, options)
    originals = {graph: _original_weights(graph) for graph in graphs} if options.keep_original_weights else {}
    run_pipeline(module, steps, context)
    module.original_weights_lookup = {path: kept for graph in originals for path, kept in _by_int8_layer(graph, originals[graph])}
    return module


def _by_int8_layer(graph: FxqModule, originals: Mapping[str, OriginalWeights]) -> Iterator[tuple[str, OriginalWeights]]:
    """(path of the int8 layer in the model, its float weights), of the layers that did become int8."""
    for node in graph.graph.find_nodes(op="call_module"):
        if node.name in originals:
            yield join_path(graph.path, str(node.target)), originals[node.name]


def _convert_custom(module: FxqModule, custom: ConvertCustomConfig) -> None:
    """module → Quantized.from_observed(module), for every module of an observed class that is called."""
    unconverted = calls_by_path(module, Why.CUSTOM)
    for path in dict.fromkeys(str(node.target) for node in module.graph.find_nodes(op="call_module")):
        observed = module.get_submodule(path)
        quantized_class = custom.observed_to_quantized_mapping.get(type(observed))
        if quantized_class is not None:
            put_module(module, path, made_module(quantized_class, "from_observed", observed))
        elif path in unconverted and _is_observed(unconverted[path]):
            raise ConfigError(
                f"custom module {path}",
                expected=f"a quantized class for {type(observed).__qualname__}",
                found="none in the ConvertCustomConfig",
                remedy=f"ConvertCustomConfig().set_observed_to_quantized_mapping({type(observed).__name__}, ...)",
            )


def _is_observed(node: Node) -> bool:
    quant = quant_of(node)
    return quant is not None and quant.reason is not None and quant.reason.why is Why.CUSTOM


def _convert_standalone(module: FxqModule, node: Node, path: str, steps: Pipeline, options: ConvertOptions) -> None:
    """The mapping's names are those of the model around it: inside, it can only turn off everything."""
    inside, resolution = module.get_submodule(path), resolution_of(node)
    assert isinstance(inside, FxqModule)
    is_off = options.mapping is not None and resolution is not None and resolution.qconfig is None
    mapping = QConfigMapping().set_global(None) if is_off else None
    put_module(module, path, _convert(inside, steps, replace(options, mapping=mapping)))


def _original_weights(module: FxqModule) -> dict[str, OriginalWeights]:
    """Name of a node that becomes int8 → its float weights."""
    found: dict[str, OriginalWeights] = {}
    for node in module.graph.nodes:
        call, quant = call_of(node), quant_of(node)
        if call is not None and quant is not None and ("weight" in quant.inputs or quant.is_weight_only):
            weight, bias = (_copied(call.operands.get(name)) for name in ("weight", "bias"))
            assert weight is not None
            found[node.name] = OriginalWeights(weight, bias)
    return found


def _copied(operand: object) -> Tensor | None:
    value = constant_of(operand) if isinstance(operand, Node) else None
    return None if value is None else value.detach().clone()
