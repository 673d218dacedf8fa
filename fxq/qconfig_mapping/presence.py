"""What a model has that a rule can be about, and the names in it that are nearest to one that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

from fxq.graph.annotation import Origin

_SHOWN = 3  # near names
_LISTED = 8  # names where none is near


def with_parents(path: str) -> Iterator[str]:
    """The path, then each of its parents: a.b.c → a.b.c, a.b, a. Nothing for "", the model itself."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def nearest(name: str, present: Iterable[str]) -> list[str]:
    """At most three of the names: those with the same last part, upper or lower case, then those spelled alike (difflib)."""
    names = sorted(filter(None, present))
    last = name.rpartition(".")[2].lower()
    same_ending = [other for other in names if last and other.rpartition(".")[2].lower() == last]
    alike = get_close_matches(name, names, n=_SHOWN)
    return list(dict.fromkeys([*same_ending, *alike]))[:_SHOWN]


def _quoted(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(f'"{name}"' for name in names[:_LISTED]) + more


@dataclass(frozen=True)
class Presence:
    """The origins of a model's calls, seen from every side a rule can look from."""

    origins: tuple[Origin, ...]

    @cached_property
    def modules(self) -> frozenset[str]:
        """Paths of the modules that are called or that call a function; "" is the model itself."""
        return frozenset(origin.module for origin in self.origins)

    @cached_property
    def paths(self) -> frozenset[str]:
        """The modules and all their parents, without the model itself."""
        return frozenset(path for module in self.modules for path in with_parents(module))

    @cached_property
    def object_types(self) -> frozenset[str]:
        """What is called, and the types of the modules and the functions around function calls."""
        return frozenset(name for each in self.origins for name in (each.object_type, each.module_type, *each.functions) if name)

    @cached_property
    def calls(self) -> frozenset[tuple[str, str, int]]:
        """(module around the call, object type, index): the key of a ModuleNameObjectTypeOrderRule."""
        return frozenset((origin.scope, origin.object_type, origin.index) for origin in self.origins)

    def indexes(self, scope: str, object_type: str) -> list[int]:
        """The indexes of the calls of a type inside a module, ascending."""
        return sorted(index for module, name, index in self.calls if (module, name) == (scope, object_type))

    def types_in(self, scope: str) -> frozenset[str]:
        """The object types called inside a module."""
        return frozenset(name for module, name, _ in self.calls if module == scope)

    def near_modules(self, path: str) -> str:
        """A sentence with the module paths that are most like this one."""
        found = nearest(path, self.paths)
        if found:
            return f"the nearest module names are {_quoted(found)}"
        top = sorted(name for name in self.paths if "." not in name)
        return f"no module name is like it; the model's own modules are {_quoted(top)}" if top else "the model calls no submodule"

    def near_object_types(self, name: str, present: Iterable[str] | None = None) -> str:
        """A sentence with the object types that are most like this one, among all or those given."""
        candidates = sorted(self.object_types if present is None else present)
        found = nearest(name, candidates)
        if found:
            return f"the nearest object types are {_quoted(found)}"
        return f"no object type is like it; there are {_quoted(candidates)}" if candidates else "the model calls nothing"
