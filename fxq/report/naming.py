"""The row of a layer, by what people call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from fxq.errors import ConfigError
from fxq.qconfig_mapping.presence import nearest

_LISTED = 8  # names where none is near


class Named(Protocol):
    """A row of a report."""

    @property
    def name(self) -> str:
        """Of its node."""

    @property
    def module(self) -> str:
        """Path of the module that is called, or of the one around a function call."""


_Row = TypeVar("_Row", bound=Named)


def row_named(rows: Sequence[_Row], name: str) -> _Row:
    """The row whose node has this name, or the only row of the module at this path.

    Raises:
        ConfigError: there is none, or there are several; names what comes near.
    """
    by_node = [row for row in rows if row.name == name]
    by_module = [row for row in rows if row.module == name and name]
    if by_node or len(by_module) == 1:
        return (by_node or by_module)[0]
    several = [row.name for row in by_module]
    names = {known for row in rows for known in (row.name, row.module)}
    near = several or nearest(name, names) or [row.name for row in rows[:_LISTED]]
    raise ConfigError(
        f"row {name!r}",
        expected="the name of a node, or the path of a module with one row",
        found=f"{len(several)} rows of that module" if several else "no such row",
        remedy=f"write one of {', '.join(map(repr, near))}" if near else "there are no rows",
    )
