"""A rule that matches nothing in the model is an error with the nearest existing names, not silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fxq.errors import ConfigError
from fxq.graph.annotation import Origin
from fxq.qconfig_mapping.presence import Presence
from fxq.qconfig_mapping.rules import AnyRule


def unmatched_error(rules: Sequence[AnyRule], origins: Iterable[Origin]) -> ConfigError | None:
    """One error for all rules that match nothing; None where each matches something."""
    presence = Presence(tuple(origins))
    lines = [f"{rule}: {rule.advice(presence)}" for rule in rules if not rule.matches(presence)]
    if not lines:
        return None
    count = "1 rule matches" if len(lines) == 1 else f"{len(lines)} rules match"
    return ConfigError(
        "QConfigMapping",
        expected="every rule to match at least one call of the model",
        found="\n    ".join([f"{count} nothing", *lines]),
        remedy="correct these names, or leave these rules out",
    )
