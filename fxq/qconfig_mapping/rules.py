"""The rules of a QConfigMapping: one small model per setter, in increasing strength.

Each rule knows its key (a second rule with the same key takes the place of the first), its text, whether anything in a
model matches it, and what it may have been meant to say when nothing does.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Hashable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from fxq.errors import ConfigError
from fxq.graph.names import qualified_name
from fxq.qconfig_mapping.presence import Presence
from fxq.qconfig_mapping.qconfig import QConfig

ObjectType = Annotated[str, BeforeValidator(qualified_name)]


class Rule(BaseModel):
    """Which calls a QConfig is meant for. The QConfig None means: keep float."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What the rule is about; unique among the rules of its kind."""

    @abstractmethod
    def matches(self, presence: Presence) -> bool:
        """Whether it matches something in the model, be it overruled there or not."""

    @abstractmethod
    def advice(self, presence: Presence) -> str:
        """What it may have been meant to say, for a rule that matches nothing."""


class GlobalRule(Rule):
    """Everything that no other rule is about."""

    qconfig: QConfig | None

    @property
    def key(self) -> Hashable:
        return ""

    def __str__(self) -> str:
        return "set_global"

    def matches(self, presence: Presence) -> bool:
        """A default is about whatever is left, if only nothing."""
        return True

    def advice(self, presence: Presence) -> str:
        return ""


class ObjectTypeRule(Rule):
    """Every call of a module type, function or method, and functions called directly in the forward of a module type."""

    object_type: ObjectType
    qconfig: QConfig | None

    @property
    def key(self) -> Hashable:
        return self.object_type

    def __str__(self) -> str:
        return f'set_object_type("{self.object_type}")'

    def matches(self, presence: Presence) -> bool:
        return self.object_type in presence.object_types

    def advice(self, presence: Presence) -> str:
        return presence.near_object_types(self.object_type)


class ModuleNameRegexRule(Rule):
    """Every call in a module whose path matches a regex from its beginning (re.match)."""

    module_name_regex: str
    qconfig: QConfig | None

    @field_validator("module_name_regex")
    @classmethod
    def _compiles(cls, regex: str) -> str:
        try:
            re.compile(regex)
        except re.error as error:
            raise ConfigError(
                "module_name_regex",
                expected="a Python regex",
                found=f"{regex!r}: {error}",
                remedy=f"correct it; the regex that matches just this text is {re.escape(regex)!r}",
            ) from None
        return regex

    @property
    def key(self) -> Hashable:
        return self.module_name_regex

    def __str__(self) -> str:
        return f'set_module_name_regex("{self.module_name_regex}")'

    def matches(self, presence: Presence) -> bool:
        """Some module path does, from its beginning; parents are not looked at."""
        match = re.compile(self.module_name_regex).match
        return any(match(path) for path in presence.modules)

    def advice(self, presence: Presence) -> str:
        """A regex that matches inside a path was meant to; else the text is taken for a path."""
        search = re.compile(self.module_name_regex).search
        inside = next((path for path in presence.modules if search(path)), None)
        if inside is not None:
            return f'a path must match from its beginning: ".*{self.module_name_regex}" matches "{inside}"'
        return presence.near_modules(self.module_name_regex)


class ModuleNameRule(Rule):
    """Every call in a module and in the modules inside it, unless one of these has a rule of its own."""

    module_name: str
    qconfig: QConfig | None

    @field_validator("module_name")
    @classmethod
    def _is_a_path(cls, path: str) -> str:
        if not path:
            raise ConfigError(
                "module_name", expected='the path of a submodule, like "layer1.0"', found="''", remedy="for the whole model: set_global"
            )
        return path

    @property
    def key(self) -> Hashable:
        return self.module_name

    def __str__(self) -> str:
        return f'set_module_name("{self.module_name}")'

    def matches(self, presence: Presence) -> bool:
        return self.module_name in presence.paths

    def advice(self, presence: Presence) -> str:
        return presence.near_modules(self.module_name)


class ModuleNameObjectTypeOrderRule(Rule):
    """One call: number `index` (from 0) of those of an object type in the forward of module `module_name` ("": the model)."""

    module_name: str
    object_type: ObjectType
    index: Annotated[int, Field(ge=0)]
    qconfig: QConfig | None

    @property
    def key(self) -> tuple[str, str, int]:
        return self.module_name, self.object_type, self.index

    def __str__(self) -> str:
        return f'set_module_name_object_type_order("{self.module_name}", "{self.object_type}", {self.index})'

    def matches(self, presence: Presence) -> bool:
        return self.key in presence.calls

    def advice(self, presence: Presence) -> str:
        """The part of the key that is wrong: the index, else the object type, else the module."""
        indexes = presence.indexes(self.module_name, self.object_type)
        if indexes:
            return f'"{self.object_type}" is called in "{self.module_name}" with index {", ".join(map(str, indexes))}'
        types = presence.types_in(self.module_name)
        return presence.near_object_types(self.object_type, types) if types else presence.near_modules(self.module_name)


AnyRule = GlobalRule | ObjectTypeRule | ModuleNameRegexRule | ModuleNameRule | ModuleNameObjectTypeOrderRule

# the lists of a QConfigMapping in increasing strength, by the names that torch.ao's dict layout and the JSON files use
FAMILIES: Mapping[str, type[Rule]] = {
    "object_type": ObjectTypeRule,
    "module_name_regex": ModuleNameRegexRule,
    "module_name": ModuleNameRule,
    "module_name_object_type_order": ModuleNameObjectTypeOrderRule,
}


def last_of_each_key(rules: Any) -> Any:
    """[a=1, b=2, a=3] → (a=3, b=2): a rule that is set again keeps its place."""
    return tuple({rule.key: rule for rule in rules}.values())
