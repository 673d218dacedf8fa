"""What prepare_fx, convert_fx and fuse_fx are told besides a QConfigMapping; names, setters and dicts are torch.ao's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fxq.errors import ConfigError
from fxq.qconfig_mapping.mapping import QConfigMapping, as_mapping
from fxq.qconfig_mapping.validation import checked

_ANY = ConfigDict(arbitrary_types_allowed=True, extra="forbid", validate_assignment=True)

# the only quantization mode of custom modules, by torch.ao's name
_STATIC = "static"


def _index(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(
            "index", expected="a number of an input or result, from 0", found=repr(value), remedy="count in the order of forward's"
        )
    return value


_Indexes = tuple[Annotated[int, BeforeValidator(_index)], ...]
_Names = tuple[str, ...]


class _CustomConfig(BaseModel):
    model_config = _ANY

    def __str__(self) -> str:
        """What was set, and nothing else."""
        given = {name: value for name, value in self if value != type(self).model_fields[name].default}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    __repr__ = __str__

    def _set(self, field: str, setter: str, value: Any) -> None:
        """Checks the value like a field of the model, and names the setter in the error."""
        if field in _LISTS.values() and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise ConfigError(setter, expected="a list", found=repr(value)[:200], remedy=f"write {setter}([...])")
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        setattr(self, field, getattr(checked(type(self), setter, {**fields, field: value}), field))


class StandaloneModule(BaseModel):
    """How a module is prepared that is compiled on its own.

    Attributes:
        qconfig_mapping: for the names inside it; None: what the model's mapping says of the module, for all of it.
        example_inputs: as for prepare_fx, of the module's forward.
        prepare_custom_config: as for prepare_fx.
    """

    model_config = _ANY

    qconfig_mapping: QConfigMapping | None
    example_inputs: Any
    prepare_custom_config: PrepareCustomConfig | None


class PrepareCustomConfig(_CustomConfig):
    """What prepare_fx does with modules of the user's own, and which inputs and results are quantized. Setters chain.

    Names are paths of modules; a class stands for the modules of exactly this class. What matches nothing in the model is an
    error of prepare_fx.
    """

    standalone_module_names: Mapping[str, StandaloneModule] = Field(default={})
    standalone_module_classes: Mapping[type, StandaloneModule] = Field(default={})
    float_to_observed_mapping: Mapping[type, type] = Field(default={})
    non_traceable_module_names: _Names = ()
    non_traceable_module_classes: tuple[type, ...] = ()
    input_quantized_indexes: _Indexes = ()
    output_quantized_indexes: _Indexes = ()
    preserved_attributes: _Names = ()

    def set_standalone_module_name(
        self,
        module_name: str,
        qconfig_mapping: QConfigMapping | Mapping[str, Any] | None,
        example_inputs: Any,
        prepare_custom_config: PrepareCustomConfig | Mapping[str, Any] | None = None,
        backend_config: None = None,
    ) -> PrepareCustomConfig:
        """The module is one call of the model's graph and has a graph of its own, prepared and converted along with the model's.

        It takes and returns float32 tensors. `backend_config` is torch.ao's and must be None: the module has the model's profile.
        """
        entry = _standalone("set_standalone_module_name", qconfig_mapping, example_inputs, prepare_custom_config, backend_config)
        self._set("standalone_module_names", "set_standalone_module_name", {**self.standalone_module_names, module_name: entry})
        return self

    def set_standalone_module_class(
        self,
        module_class: type,
        qconfig_mapping: QConfigMapping | Mapping[str, Any] | None,
        example_inputs: Any,
        prepare_custom_config: PrepareCustomConfig | Mapping[str, Any] | None = None,
        backend_config: None = None,
    ) -> PrepareCustomConfig:
        """The same for every module of a class; a name is stronger."""
        entry = _standalone("set_standalone_module_class", qconfig_mapping, example_inputs, prepare_custom_config, backend_config)
        self._set("standalone_module_classes", "set_standalone_module_class", {**self.standalone_module_classes, module_class: entry})
        return self

    def set_float_to_observed_mapping(self, float_class: type, observed_class: type, quant_type: object = _STATIC) -> PrepareCustomConfig:
        """observed_class.from_float(module) takes the place of each module of float_class that has a QConfig.

        The module given to from_float has its QConfig as `module.qconfig`. Both take and return float32 tensors: what is
        quantized inside is theirs.

        Args:
            quant_type: torch.ao's, "static" or QuantType.STATIC: there is no other.
        """
        mapping = _classes_with("set_float_to_observed_mapping", self.float_to_observed_mapping, float_class, observed_class, quant_type)
        _require_method("set_float_to_observed_mapping", observed_class, "from_float")
        self._set("float_to_observed_mapping", "set_float_to_observed_mapping", mapping)
        return self

    def set_non_traceable_module_names(self, module_names: Sequence[str]) -> PrepareCustomConfig:
        """These modules are called as they are, in float: torch.fx does not look inside."""
        self._set("non_traceable_module_names", "set_non_traceable_module_names", module_names)
        return self

    def set_non_traceable_module_classes(self, module_classes: Sequence[type]) -> PrepareCustomConfig:
        """The same for every module of these classes."""
        self._set("non_traceable_module_classes", "set_non_traceable_module_classes", module_classes)
        return self

    def set_input_quantized_indexes(self, indexes: Sequence[int]) -> PrepareCustomConfig:
        """The converted model takes these inputs as QTensors, with the qparams that calibration has found.

        The prepared model takes floats, as ever. The qparams of an input x are `int8_model.x_entry.qparams`; other ones are a
        DataError at run time.
        """
        self._set("input_quantized_indexes", "set_input_quantized_indexes", indexes)
        return self

    def set_output_quantized_indexes(self, indexes: Sequence[int]) -> PrepareCustomConfig:
        """The converted model returns these results as QTensors. A result alone has the index 0; those of a dict are counted in order."""
        self._set("output_quantized_indexes", "set_output_quantized_indexes", indexes)
        return self

    def set_preserved_attributes(self, attributes: Sequence[str]) -> PrepareCustomConfig:
        """Attributes of the model that the prepared and the converted one have, too, also where forward doesn't need them."""
        self._set("preserved_attributes", "set_preserved_attributes", attributes)
        return self

    @classmethod
    def from_dict(cls, prepare_custom_config_dict: Mapping[str, Any]) -> PrepareCustomConfig:
        """torch.ao's layout, the inverse of to_dict; every key is optional. Raises ConfigError for a key or row that doesn't fit."""
        given = _checked_keys("PrepareCustomConfig.from_dict", prepare_custom_config_dict, (*_STANDALONE, _FLOAT_TO_OBSERVED, *_LISTS))
        config = cls()
        for row in _rows(given, "standalone_module_name"):
            config.set_standalone_module_name(*row)
        for row in _rows(given, "standalone_module_class"):
            config.set_standalone_module_class(*row)
        for quant_type, classes in given.get(_FLOAT_TO_OBSERVED, {}).items():
            for float_class, observed_class in classes.items():
                config.set_float_to_observed_mapping(float_class, observed_class, quant_type)
        for key in [key for key in _LISTS if key in given]:
            config._set(_LISTS[key], key, given[key])
        return config

    def to_dict(self) -> dict[str, Any]:
        """torch.ao's layout, without what was not set; classes are kept as they are."""
        document: dict[str, Any] = {}
        for key, field in _STANDALONE.items():
            document[key] = [_row(target, entry) for target, entry in getattr(self, field).items()]
        document[_FLOAT_TO_OBSERVED] = {_STATIC: dict(self.float_to_observed_mapping)} if self.float_to_observed_mapping else {}
        document |= {key: list(getattr(self, field)) for key, field in _LISTS.items()}
        return {key: value for key, value in document.items() if value}


class ConvertCustomConfig(_CustomConfig):
    """What convert_fx does with modules of the user's own. Setters chain."""

    observed_to_quantized_mapping: Mapping[type, type] = Field(default={})
    preserved_attributes: _Names = ()

    def set_observed_to_quantized_mapping(
        self, observed_class: type, quantized_class: type, quant_type: object = _STATIC
    ) -> ConvertCustomConfig:
        """quantized_class.from_observed(module) takes the place of each module of observed_class; it takes and returns float32."""
        setter = "set_observed_to_quantized_mapping"
        mapping = _classes_with(setter, self.observed_to_quantized_mapping, observed_class, quantized_class, quant_type)
        _require_method(setter, quantized_class, "from_observed")
        self._set("observed_to_quantized_mapping", setter, mapping)
        return self

    def set_preserved_attributes(self, attributes: Sequence[str]) -> ConvertCustomConfig:
        """Attributes of the prepared model that the converted one has, too. Those preserved when preparing are kept anyway."""
        self._set("preserved_attributes", "set_preserved_attributes", attributes)
        return self

    @classmethod
    def from_dict(cls, convert_custom_config_dict: Mapping[str, Any]) -> ConvertCustomConfig:
        """torch.ao's layout, the inverse of to_dict; every key is optional. Raises ConfigError for a key that doesn't fit."""
        given = _checked_keys("ConvertCustomConfig.from_dict", convert_custom_config_dict, (_OBSERVED_TO_QUANTIZED, _PRESERVED))
        config = cls().set_preserved_attributes(given.get(_PRESERVED, ()))
        for quant_type, classes in given.get(_OBSERVED_TO_QUANTIZED, {}).items():
            for observed_class, quantized_class in classes.items():
                config.set_observed_to_quantized_mapping(observed_class, quantized_class, quant_type)
        return config

    def to_dict(self) -> dict[str, Any]:
        """torch.ao's layout, without what was not set; classes are kept as they are."""
        classes = {_STATIC: dict(self.observed_to_quantized_mapping)} if self.observed_to_quantized_mapping else {}
        document = {_OBSERVED_TO_QUANTIZED: classes, _PRESERVED: list(self.preserved_attributes)}
        return {key: value for key, value in document.items() if value}


class FuseCustomConfig(_CustomConfig):
    """What fuse_fx keeps besides the graph."""

    preserved_attributes: _Names = ()

    def set_preserved_attributes(self, attributes: Sequence[str]) -> FuseCustomConfig:
        """Attributes of the model that the fused one has, too."""
        self._set("preserved_attributes", "set_preserved_attributes", attributes)
        return self

    @classmethod
    def from_dict(cls, fuse_custom_config_dict: Mapping[str, Any]) -> FuseCustomConfig:
        """torch.ao's layout, the inverse of to_dict. Raises ConfigError for a key that doesn't fit."""
        given = _checked_keys("FuseCustomConfig.from_dict", fuse_custom_config_dict, (_PRESERVED,))
        return cls().set_preserved_attributes(given.get(_PRESERVED, ()))

    def to_dict(self) -> dict[str, Any]:
        """torch.ao's layout, without what was not set."""
        return {_PRESERVED: list(self.preserved_attributes)} if self.preserved_attributes else {}


_Config = TypeVar("_Config", PrepareCustomConfig, ConvertCustomConfig, FuseCustomConfig)


def as_custom_config(kind: type[_Config], given: _Config | Mapping[str, Any] | None, where: str) -> _Config:
    """A custom config of this kind; from torch.ao's dict layout, or the empty one for None. Raises ConfigError for anything else."""
    if given is None:
        return kind()
    if isinstance(given, kind):
        return given
    if isinstance(given, Mapping):
        return kind.from_dict(given)
    found = f"{type(given).__module__}.{type(given).__qualname__}"
    remedy = f"use fxq.{kind.__name__}(); fxq.from_torch_ao reads torch.ao's"
    raise ConfigError(where, expected=f"a {kind.__name__} of fxq, a dict, or None", found=found, remedy=remedy)


# --- torch.ao's dict layout ------------------------------------------------------------------------------------------------

_FLOAT_TO_OBSERVED = "float_to_observed_custom_module_class"
_OBSERVED_TO_QUANTIZED = "observed_to_quantized_custom_module_class"
_PRESERVED = "preserved_attributes"

# key → field
_STANDALONE: Mapping[str, str] = {
    "standalone_module_name": "standalone_module_names",
    "standalone_module_class": "standalone_module_classes",
}
_LISTS: Mapping[str, str] = {
    "non_traceable_module_name": "non_traceable_module_names",
    "non_traceable_module_class": "non_traceable_module_classes",
    "input_quantized_idxs": "input_quantized_indexes",
    "output_quantized_idxs": "output_quantized_indexes",
    _PRESERVED: _PRESERVED,
}


def _checked_keys(where: str, document: Mapping[str, Any], known: Sequence[str]) -> Mapping[str, Any]:
    for key in document:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            raise ConfigError(
                where,
                expected=f"only the keys {', '.join(map(repr, known))}",
                found=repr(key),
                remedy=f"write {near[0]!r}" if near else "remove it",
            )
    return document


def _rows(document: Mapping[str, Any], key: str) -> list[Sequence[Any]]:
    rows: list[Sequence[Any]] = list(document.get(key, ()))
    for row in rows:
        if not isinstance(row, tuple | list) or not 3 <= len(row) <= 5:
            columns = "(name, qconfig_mapping, example_inputs, prepare_custom_config, None)"
            raise ConfigError(f"PrepareCustomConfig.from_dict[{key!r}]", expected=columns, found=repr(row)[:200], remedy="write such rows")
    return rows


def _row(target: str | type, entry: StandaloneModule) -> tuple[Any, ...]:
    mapping = None if entry.qconfig_mapping is None else entry.qconfig_mapping.to_dict()
    custom = None if entry.prepare_custom_config is None else entry.prepare_custom_config.to_dict()
    return target, mapping, entry.example_inputs, custom, None


# --- what the setters check ------------------------------------------------------------------------------------------------


def _standalone(setter: str, mapping: Any, example_inputs: Any, custom: Any, backend_config: object) -> StandaloneModule:
    if backend_config is not None:
        raise ConfigError(
            setter, expected="no backend_config", found=type(backend_config).__name__, remedy="choose a profile in prepare_fx"
        )
    config = None if custom is None else as_custom_config(PrepareCustomConfig, custom, f"{setter}.prepare_custom_config")
    if config is not None and (config.input_quantized_indexes or config.output_quantized_indexes):
        raise ConfigError(
            setter,
            expected="a standalone module that takes and returns floats",
            found=f"quantized inputs {list(config.input_quantized_indexes)}, results {list(config.output_quantized_indexes)}",
            remedy="leave these indexes out: the model around it gives and takes float32 tensors",
        )
    return StandaloneModule(
        qconfig_mapping=None if mapping is None else as_mapping(mapping, f"{setter}.qconfig_mapping"),
        example_inputs=example_inputs,
        prepare_custom_config=config,
    )


def _classes_with(setter: str, present: Mapping[type, type], source: type, target: type, quant_type: object) -> dict[type, type]:
    name = str(getattr(quant_type, "name", quant_type)).lower()
    if name != _STATIC:
        raise ConfigError(setter, expected="quant_type 'static'", found=repr(quant_type), remedy="leave quant_type out")
    return {**present, source: target}


def _require_method(setter: str, kind: type, method: str) -> None:
    if not callable(getattr(kind, method, None)):
        raise ConfigError(
            setter,
            expected=f"a class with a class method {method}",
            found=getattr(kind, "__qualname__", repr(kind)),
            remedy=f"add {method}(cls, module), which returns the module that takes its place",
        )
