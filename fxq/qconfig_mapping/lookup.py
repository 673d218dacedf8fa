"""The precedence of a QConfigMapping's rules, laid out for fast lookup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fxq.graph.annotation import Origin
from fxq.qconfig_mapping.presence import with_parents
from fxq.qconfig_mapping.qconfig import QConfig
from fxq.qconfig_mapping.rules import (
    AnyRule,
    GlobalRule,
    ModuleNameObjectTypeOrderRule,
    ModuleNameRegexRule,
    ModuleNameRule,
    ObjectTypeRule,
)


@dataclass(frozen=True)
class Resolution:
    """What a mapping says about one call.

    Attributes:
        qconfig: how to quantize it; None: keep float.
        rule: the rule that won, as the setter that made it: `set_module_name("layer1")`.
        explicit: some rule matched. With qconfig None: it was switched off, rather than left out.
        is_default: the rule is the one for everything that no other speaks of.
    """

    qconfig: QConfig | None
    rule: str
    explicit: bool
    is_default: bool = False


NO_RULE = Resolution(None, "no rule matches", explicit=False)
NO_ORIGIN = Resolution(None, "not a call of the model", explicit=False)


@dataclass(frozen=True, eq=False)
class Lookup:
    """resolve(origin) in time independent of the number of rules, but for regexes: those are tried once per module path.

    The precedence is torch.ao's (torch/ao/quantization/fx/qconfig_mapping_utils.py): global < object type, where the type of
    the module around a function comes before functions under torch.fx.wrap around it, and these before itself < first regex
    that matches < nearest module name going up < module name, object type and index.
    """

    fallback: Resolution
    object_types: Mapping[str, Resolution]
    regexes: tuple[tuple[re.Pattern[str], Resolution], ...]
    names: Mapping[str, Resolution]
    calls: Mapping[tuple[str, str, int], Resolution]
    by_path: dict[str, Resolution | None] = field(default_factory=dict, init=False)  # module path → what names and regexes say

    def resolve(self, origin: Origin) -> Resolution:
        """The strongest rule that matches."""
        return (
            self.calls.get((origin.scope, origin.object_type, origin.index))
            or self._of_path(origin.module)
            or self.object_types.get(origin.module_type)
            or self._of_functions(origin.functions)
            or self.object_types.get(origin.object_type)
            or self.fallback
        )

    def _of_functions(self, names: tuple[str, ...]) -> Resolution | None:
        return next((self.object_types[name] for name in reversed(names) if name in self.object_types), None)

    def _of_path(self, path: str) -> Resolution | None:
        if path not in self.by_path:
            self.by_path[path] = self._of_name(path) or self._of_regex(path)
        return self.by_path[path]

    def _of_name(self, path: str) -> Resolution | None:
        return next((self.names[name] for name in with_parents(path) if name in self.names), None)

    def _of_regex(self, path: str) -> Resolution | None:
        return next((resolution for regex, resolution in self.regexes if regex.match(path)), None)


def lookup_of(rules: Sequence[AnyRule]) -> Lookup:
    """Rules, each key at most once → Lookup."""
    return Lookup(
        fallback=next((_won_by(rule) for rule in rules if isinstance(rule, GlobalRule)), NO_RULE),
        object_types={rule.object_type: _won_by(rule) for rule in rules if isinstance(rule, ObjectTypeRule)},
        regexes=tuple((re.compile(rule.module_name_regex), _won_by(rule)) for rule in rules if isinstance(rule, ModuleNameRegexRule)),
        names={rule.module_name: _won_by(rule) for rule in rules if isinstance(rule, ModuleNameRule)},
        calls={rule.key: _won_by(rule) for rule in rules if isinstance(rule, ModuleNameObjectTypeOrderRule)},
    )


def _won_by(rule: AnyRule) -> Resolution:
    return Resolution(rule.qconfig, str(rule), explicit=True, is_default=isinstance(rule, GlobalRule))
