"""A QConfigMapping at conversion: layers that were prepared for int8 and stay float after all."""

from __future__ import annotations

from functools import cache

from torch.fx import Node

from fxq.errors import ConfigError
from fxq.graph.annotation import Origin, Resolution, quant_of, resolution_of, set_resolution, update_quant, whole_reason_of
from fxq.graph.islands import origins_in_model
from fxq.graph.module import FxqModule
from fxq.graph.names import qualified_name
from fxq.graph.opdef import Library
from fxq.graph.ops import ops_by_name
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.graph.reasons import Why
from fxq.graph.recognise import CASTS
from fxq.passes.annotate import annotate
from fxq.passes.freeze_qparams import found_qparams, remove_observers
from fxq.passes.pipeline import Context
from fxq.passes.share_qparams import share_qparams
from fxq.qconfig_mapping import QConfigMapping


def turn_off(module: FxqModule, context: Context) -> int:
    """Calls that the mapping gives the QConfig None → float; the rest is decided anew, with the qparams that were found.

    A call that no rule speaks of stays as it was prepared. Of an op with others fused into it, one that is turned off turns
    off all. Returns the number of nodes that are turned off.

    Raises:
        ConfigError: a rule asks for another QConfig than prepare_fx was given.
        CalibrationError: an observer never saw data.
    """
    mapping = context.mapping
    assert mapping is not None
    off = {node: resolution for node in module.graph.nodes if (resolution := _turning_off(module, node, mapping)) is not None}
    known = _qparams_by_value(module)
    moments = remove_observers(module)
    for node, resolution in off.items():
        set_resolution(node, resolution)
    annotate(module, context)
    share_qparams(module, context)
    for node in module.graph.nodes:
        quant = quant_of(node)
        if quant is not None and quant.output is not None:
            update_quant(node, qparams=_fitting(node, known[node], quant.output))
        if node in moments:
            update_quant(node, moments=moments[node])
    return len(off)


def _turning_off(module: FxqModule, node: Node, mapping: QConfigMapping) -> Resolution | None:
    """The rule that keeps the node float; None where it stays as it was prepared."""
    origins, prepared = origins_in_model(node, module), resolution_of(node)
    if not origins or prepared is None:
        return None
    wanted = mapping.resolve(origins[0])
    if wanted.explicit and wanted.qconfig is not None and wanted.qconfig != prepared.qconfig:
        raise _not_as_prepared(node, prepared, wanted)
    parts = [wanted, *(mapping.resolve(origin) for origin in origins[1:] if not _is_folded(origin))]
    off = next((part for part in parts if part.explicit and part.qconfig is None), None)
    whole = whole_reason_of(node)
    if off is not None and prepared.qconfig is not None and whole is not None and whole.why is Why.CUSTOM:
        raise ConfigError(
            f"qconfig_mapping, {off.rule}",
            expected="a layer that fxq has prepared",
            found=f"{node.name}, which its from_float has",
            remedy="keep it float in the mapping of prepare_fx",
        )
    return off if prepared.qconfig is not None else None


def _is_folded(origin: Origin) -> bool:
    """A batch norm becomes part of the weights, in float, and what gives its input back goes: to turn it off means nothing."""
    return origin.object_type in _folded()


@cache
def _folded() -> frozenset[str]:
    rows = (ops_by_name()[name] for name in ("batch_norm", "identity", "dropout"))
    targets = (*CASTS, *(spelling.target for row in rows for spelling in row.spellings))
    return frozenset(target.name if isinstance(target, Library) else qualified_name(target) for target in targets)


def _not_as_prepared(node: Node, prepared: Resolution, wanted: Resolution) -> ConfigError:
    return ConfigError(
        f"qconfig_mapping, {wanted.rule}, {node.name}",
        expected=f"None, to keep it float, or what prepare_fx was given: {prepared.qconfig or None}",
        found=str(wanted.qconfig),
        remedy="only prepare_fx can choose another QConfig: its observers have seen the data",
    )


def _qparams_by_value(module: FxqModule) -> dict[Node, QParams]:
    by_group = found_qparams(module)
    quants = {node: quant_of(node) for node in module.graph.nodes}
    return {node: by_group[quant.group] for node, quant in quants.items() if quant is not None and quant.group is not None}


def _fitting(node: Node, known: QParams, wanted: QuantSpec) -> QParams:
    """The value is read with the spec that it was observed with; another one could come from a reader's QConfig."""
    spec = known.spec
    if (spec.dtype, spec.qmin, spec.qmax, spec.axis) == (wanted.dtype, wanted.qmin, wanted.qmax, wanted.axis):
        return known
    raise ConfigError(
        f"qconfig_mapping, {node.name}",
        expected=f"readers that ask for {known.spec}, with which it was observed",
        found=str(wanted),
        remedy="turn its layer off in the mapping of prepare_fx, or give its readers the same activation",
    )
