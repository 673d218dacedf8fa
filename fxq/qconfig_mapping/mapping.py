"""QConfigMapping: which QConfig each call of a model gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator
from torch.fx import Node

from fxq.errors import ConfigError
from fxq.graph.annotation import Origin, origin_of
from fxq.qconfig_mapping.documents import read_dict, read_json, require_observers_of_fxq, rows_of
from fxq.qconfig_mapping.lookup import NO_ORIGIN, Lookup, Resolution, lookup_of
from fxq.qconfig_mapping.matching import unmatched_error
from fxq.qconfig_mapping.qconfig import QConfig
from fxq.qconfig_mapping.rules import (
    FAMILIES,
    AnyRule,
    GlobalRule,
    ModuleNameObjectTypeOrderRule,
    ModuleNameRegexRule,
    ModuleNameRule,
    ObjectTypeRule,
    last_of_each_key,
)
from fxq.qconfig_mapping.validation import checked

TargetType = type | Callable[..., Any] | str


class QConfigMapping(BaseModel):
    """global < object type < first name regex that matches < module name, else its parents < module name + type + index.

    The setters and their precedence are torch.ao's; each returns the mapping, so they chain. The QConfig None means: keep
    float. Setting a key again replaces its QConfig and keeps its place.

        mapping = (
            get_default_qconfig_mapping("x86")
            .set_object_type(nn.Linear, linear_qconfig)
            .set_module_name("head", None)
        )

    Attributes:
        global_rule: the default; None where none was set.
        object_type, module_name_regex, module_name, module_name_object_type_order: the rules in the order they were set.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, populate_by_name=True)

    global_rule: GlobalRule | None = Field(default=None, alias="global")
    object_type: tuple[ObjectTypeRule, ...] = ()
    module_name_regex: tuple[ModuleNameRegexRule, ...] = ()
    module_name: tuple[ModuleNameRule, ...] = ()
    module_name_object_type_order: tuple[ModuleNameObjectTypeOrderRule, ...] = ()

    _lookup: Lookup | None = PrivateAttr(default=None)  # made from the rules when first needed

    _replace_in_place = field_validator(*FAMILIES)(last_of_each_key)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name != "_lookup":
            self._lookup = None

    def __eq__(self, other: object) -> bool:
        """Equal means: the same rules in the same order."""
        return self.rules == other.rules if isinstance(other, QConfigMapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @property
    def rules(self) -> tuple[AnyRule, ...]:
        """All rules, in increasing strength; within a kind as they were set."""
        first = () if self.global_rule is None else (self.global_rule,)
        return (*first, *self.object_type, *self.module_name_regex, *self.module_name, *self.module_name_object_type_order)

    # --- setters -----------------------------------------------------------------------------------------------------------

    def set_global(self, global_qconfig: QConfig | None) -> QConfigMapping:
        """The default of every call that no other rule is about."""
        self.global_rule = checked(GlobalRule, "set_global", {"qconfig": global_qconfig})
        return self

    def set_object_type(self, object_type: TargetType, qconfig: QConfig | None) -> QConfigMapping:
        """Every call of a module class, a function, or a tensor method given by its name.

        A class of modules that are traced through also stands for the functions called directly in its forward.
        """
        rule = checked(ObjectTypeRule, "set_object_type", {"object_type": object_type, "qconfig": qconfig})
        self.object_type = (*self.object_type, rule)
        return self

    def set_module_name_regex(self, module_name_regex: str, qconfig: QConfig | None) -> QConfigMapping:
        """Every call in a module whose path matches from its beginning (re.match). Of several that match the first one set wins."""
        rule = checked(ModuleNameRegexRule, "set_module_name_regex", {"module_name_regex": module_name_regex, "qconfig": qconfig})
        self.module_name_regex = (*self.module_name_regex, rule)
        return self

    def set_module_name(self, module_name: str, qconfig: QConfig | None) -> QConfigMapping:
        """Every call in this module and inside it: "layer1.0.conv1" falls back to "layer1.0", then to "layer1"."""
        rule = checked(ModuleNameRule, "set_module_name", {"module_name": module_name, "qconfig": qconfig})
        self.module_name = (*self.module_name, rule)
        return self

    def set_module_name_object_type_order(
        self, module_name: str, object_type: TargetType, index: int, qconfig: QConfig | None
    ) -> QConfigMapping:
        """Call number `index`, from 0, of an object type in the forward of this module; "" is the model itself."""
        fields = {"module_name": module_name, "object_type": object_type, "index": index, "qconfig": qconfig}
        rule = checked(ModuleNameObjectTypeOrderRule, "set_module_name_object_type_order", fields)
        self.module_name_object_type_order = (*self.module_name_object_type_order, rule)
        return self

    # --- questions ---------------------------------------------------------------------------------------------------------

    def resolve(self, origin: Origin) -> Resolution:
        """The QConfig of a call, and the rule that gave it. No rule: QConfig None, explicit False."""
        return self.resolver(origin)

    @property
    def resolver(self) -> Callable[[Origin], Resolution]:
        """resolve, for many calls: rules that are added later are not among those that it goes by."""
        if self._lookup is None:
            self._lookup = lookup_of(self.rules)
        return self._lookup.resolve

    def explain(self, node: Node) -> Resolution:
        """The QConfig of a node of a traced graph, and the rule that gave it."""
        origin = origin_of(node)
        return NO_ORIGIN if origin is None else self.resolve(origin)

    def require_matches(self, origins: Iterable[Origin]) -> None:
        """Every rule matches a call of the model, or there is one error for all that don't.

        A rule that a stronger one overrules everywhere still matches; the global one always does.

        Raises:
            ConfigError: names each rule that matches nothing, and the nearest names in the model.
        """
        error = unmatched_error(self.rules, origins)
        if error is not None:
            raise error

    # --- in and out --------------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Indented JSON, object types by their qualified names; what was not set is left out.

        Raises:
            ConfigError: an observer is of a class of the user's, which a file cannot name.
        """
        require_observers_of_fxq(self.rules)
        return self.model_dump_json(indent=2, by_alias=True, exclude_defaults=True)

    @classmethod
    def from_json(cls, text: str) -> QConfigMapping:
        """The inverse of to_json. Raises ConfigError that names the line or the field that is wrong."""
        return cls(**read_json(text))

    def to_dict(self) -> dict[str, Any]:
        """torch.ao's layout: {"": qconfig, "object_type": [(name, qconfig), ...], "module_name_regex": ..., ...}.

        Object types are qualified names. The key "" is missing where no global QConfig was set.
        """
        return rows_of(self.rules)

    @classmethod
    def from_dict(cls, qconfig_dict: Mapping[str, Any]) -> QConfigMapping:
        """The inverse of to_dict; every key is optional. Raises ConfigError for a key or row that doesn't fit."""
        return cls(**read_dict(qconfig_dict))

    def __str__(self) -> str:
        """One rule a line, strongest first; of module names the longest path first, as the nearest one wins."""
        strongest_first = (
            *self.module_name_object_type_order,
            *sorted(self.module_name, key=lambda rule: -rule.module_name.count(".")),
            *self.module_name_regex,
            *self.object_type,
            *(() if self.global_rule is None else (self.global_rule,)),
        )
        lines = [f"  {rule}: {rule.qconfig or 'keep float'}" for rule in strongest_first]
        return "\n".join(["QConfigMapping, strongest rule first:", *(lines or ["  no rules: everything stays float"])])

    __repr__ = __str__


def as_mapping(given: Any, where: str = "qconfig_mapping") -> QConfigMapping:
    """A QConfigMapping, or one in torch.ao's dict layout. Raises ConfigError for anything else."""
    if isinstance(given, QConfigMapping):
        return given
    if isinstance(given, Mapping):
        return QConfigMapping.from_dict(given)
    raise ConfigError(
        where,
        expected="a QConfigMapping",
        found=f"{type(given).__module__}.{type(given).__qualname__}",
        remedy="use fxq.get_default_qconfig_mapping('x86'); fxq.from_torch_ao reads torch.ao's",
    )
