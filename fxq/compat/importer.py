"""from_torch_ao: torch.ao's configuration objects → fxq's. They are read by their attributes; torch.ao is not imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fxq.compat.backend_config import BackendConfig
from fxq.compat.foreign import each_in_field, fields_of, in_field, is_torch_aos
from fxq.compat.observers import import_observer, import_qconfig, recipe_of
from fxq.compat.profiles import import_backend_config
from fxq.errors import ConfigError
from fxq.graph.annotation import Origin
from fxq.graph.opdef import OpDef
from fxq.graph.recognise import op_of_target
from fxq.observers import default_weight_observer
from fxq.qconfig_mapping import ConvertCustomConfig, FuseCustomConfig, PrepareCustomConfig, QConfig, QConfigMapping
from fxq.qconfig_mapping.mapping import as_mapping
from fxq.qconfig_mapping.matching import unmatched_error
from fxq.qconfig_mapping.rules import ObjectTypeRule


class SharedMapping(QConfigMapping):
    """A QConfigMapping for many models: a rule about an object type that a model does not have is fine, as in torch.ao.

    A rule about a name still has to match something.
    """

    def require_matches(self, origins: Iterable[Origin]) -> None:
        """Every rule about names matches a call of the model. Raises ConfigError."""
        error = unmatched_error([rule for rule in self.rules if not isinstance(rule, ObjectTypeRule)], origins)
        if error is not None:
            raise error


def shared_mapping(given: Any) -> SharedMapping:
    """The same rules as in a QConfigMapping or dict, about types that a model may lack. Raises ConfigError for anything else."""
    if isinstance(given, SharedMapping):
        return given
    mapping = as_mapping(given)
    return SharedMapping(**{name: getattr(mapping, name) for name in QConfigMapping.model_fields})


def from_torch_ao(given: Any) -> Any:
    """A QConfigMapping, QConfig, observer, BackendConfig or custom config of torch.ao, or a dict or list of such → fxq's.

    What is not torch.ao's is returned as it is, so that recipes may be mixed. A BackendConfig, also one of fxq.compat, becomes
    a BackendProfile, for `profile=`. docs/coming-from-torch-ao.md says what changes its meaning.

    Raises:
        ConfigError: names the field that has no equivalent, and what to do instead.
    """
    kind = given if isinstance(given, type) else type(given)
    if is_torch_aos(kind) or isinstance(given, BackendConfig):
        return _reader(kind, given)(given)
    if isinstance(given, Mapping):
        return {key: from_torch_ao(value) for key, value in given.items()}
    if type(given) in (list, tuple):
        return type(given)(from_torch_ao(value) for value in given)
    return given


def _reader(kind: type, given: Any) -> Callable[[Any], Any]:
    reader = import_observer if isinstance(given, type) else _READERS.get(kind.__name__)
    if reader is None:
        raise ConfigError(
            f"torch.ao's {kind.__name__}",
            expected=f"one of {', '.join(name for name in _READERS if not name.startswith('_'))}, or an observer",
            found=repr(given)[:200],
            remedy="docs/coming-from-torch-ao.md says what it is here",
        )
    return reader


# --- QConfigMapping ----------------------------------------------------------------------------------------------------------

_OBJECT_TYPES = "object_type_qconfigs"
_FAMILIES = ("module_name_regex_qconfigs", "module_name_qconfigs", "module_name_object_type_order_qconfigs")


def import_mapping(given: Any) -> QConfigMapping:
    """torch.ao's QConfigMapping → a SharedMapping with the same rules in the same order.

    Left out are the rules of torch.ao's presets that only say what fxq knows of an op: fixed qparams, qparams of the input.
    """
    where = "QConfigMapping"
    fields = fields_of(given, ("global_qconfig", _OBJECT_TYPES, *_FAMILIES), where)
    mapping = SharedMapping()
    if fields["global_qconfig"] is not None:
        mapping.set_global(in_field(f"{where}.global_qconfig", import_qconfig, fields["global_qconfig"]))
    for target, qconfig in (fields[_OBJECT_TYPES] or {}).items():
        in_field(f"{where}.{_OBJECT_TYPES}[{getattr(target, '__name__', target)!r}]", _set_object_type, mapping, target, qconfig)
    regexes, names, orders = (each_in_field(f"{where}.{family}", import_qconfig, fields[family] or {}) for family in _FAMILIES)
    for regex, qconfig in regexes.items():
        mapping.set_module_name_regex(regex, qconfig)
    for name, qconfig in names.items():
        mapping.set_module_name(name, qconfig)
    for (name, target, index), qconfig in orders.items():
        mapping.set_module_name_object_type_order(name, target, index, qconfig)
    return mapping


def _set_object_type(mapping: QConfigMapping, target: Any, qconfig: Any) -> None:
    op = op_of_target(target) if hasattr(qconfig, "activation") and not isinstance(qconfig, QConfig) else None
    if op is None:
        mapping.set_object_type(target, import_qconfig(qconfig))
    elif not _is_known(op, qconfig):
        mapping.set_object_type(target, import_qconfig(_with_weight(op, qconfig)))


def _is_known(op: OpDef, qconfig: Any) -> bool:
    """Whether a rule says no more than the row of the op: its fixed qparams, or that it shares those of its input."""
    recipe = recipe_of(qconfig.activation)
    match recipe.name:
        case "ReuseInputObserver":
            return op.keeps_qparams
        case "FixedQParamsObserver":
            return _is_fixed(op, recipe.args)
    return False


def _is_fixed(op: OpDef, args: Mapping[str, Any]) -> bool:
    """A softmax lies in [0, 1], too; its range is measured here."""
    asked = (args.get("scale"), args.get("zero_point", 0))
    if op.fixed is None:
        return op.name == "softmax" and asked == (1 / 256, 0)
    known = (float(op.fixed.scale), int(op.fixed.zero_point))
    if asked == known:
        return True
    raise ConfigError(
        "QConfig.activation",
        expected=f"scale {known[0]} and zero_point {known[1]}, which {op.name} has in fxq",
        found=f"scale {asked[0]} and zero_point {asked[1]}",
        remedy="leave the rule out",
    )


def _with_weight(op: OpDef, qconfig: Any) -> Any:
    """torch.ao's presets give ops without weights a weight observer that measures nothing. Here it is never asked."""
    if "weight" in op.operands or recipe_of(qconfig.weight).name not in ("PlaceholderObserver", "NoopObserver"):
        return qconfig
    return QConfig(in_field("QConfig.activation", import_observer, qconfig.activation), default_weight_observer)


# --- custom configs ----------------------------------------------------------------------------------------------------------

_LISTS = (
    "non_traceable_module_names",
    "non_traceable_module_classes",
    "input_quantized_indexes",
    "output_quantized_indexes",
    "preserved_attributes",
)


def import_prepare_config(given: Any) -> PrepareCustomConfig:
    """torch.ao's PrepareCustomConfig → fxq's; standalone modules with the mappings inside them."""
    known = ("standalone_module_names", "standalone_module_classes", "float_to_observed_mapping", *_LISTS)
    fields = fields_of(given, known, "PrepareCustomConfig")
    config = PrepareCustomConfig()
    for name, entry in (fields["standalone_module_names"] or {}).items():
        config.set_standalone_module_name(name, *_standalone(entry))
    for kind, entry in (fields["standalone_module_classes"] or {}).items():
        config.set_standalone_module_class(kind, *_standalone(entry))
    for quant_type, classes in (fields["float_to_observed_mapping"] or {}).items():
        for float_class, observed_class in classes.items():
            config.set_float_to_observed_mapping(float_class, observed_class, quant_type)
    for name in _LISTS:
        getattr(config, f"set_{name}")(fields[name] or [])
    return config


def _standalone(entry: Any) -> tuple[Any, ...]:
    """qconfig_mapping, example_inputs, prepare_custom_config, backend_config."""
    return (
        from_torch_ao(entry.qconfig_mapping),
        entry.example_inputs,
        from_torch_ao(entry.prepare_custom_config),
        entry.backend_config,
    )


def import_convert_config(given: Any) -> ConvertCustomConfig:
    """torch.ao's ConvertCustomConfig → fxq's."""
    fields = fields_of(given, ("observed_to_quantized_mapping", "preserved_attributes"), "ConvertCustomConfig")
    config = ConvertCustomConfig().set_preserved_attributes(fields["preserved_attributes"] or [])
    for quant_type, classes in (fields["observed_to_quantized_mapping"] or {}).items():
        for observed_class, quantized_class in classes.items():
            config.set_observed_to_quantized_mapping(observed_class, quantized_class, quant_type)
    return config


def import_fuse_config(given: Any) -> FuseCustomConfig:
    """torch.ao's FuseCustomConfig → fxq's."""
    return FuseCustomConfig().set_preserved_attributes(
        fields_of(given, ("preserved_attributes",), "FuseCustomConfig")["preserved_attributes"]
    )


# class of torch.ao → what reads it
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "QConfigMapping": import_mapping,
    "QConfig": import_qconfig,
    "QConfigDynamic": import_qconfig,
    "_PartialWrapper": import_observer,
    "BackendConfig": import_backend_config,
    "PrepareCustomConfig": import_prepare_config,
    "ConvertCustomConfig": import_convert_config,
    "FuseCustomConfig": import_fuse_config,
}
