"""What forward changes of its module: a trace would do it once, and the graph never again."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.fx import Node, Proxy
from torch.fx.proxy import TraceError

from fxq.graph.recognise import CASTS


class ChangedState(TraceError):
    """forward has changed a tensor or a number of its module.

    Attributes:
        found: the line that does it, and what it changes.
        place: ", file.py:12", or "" where the source is not known.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        line = _line_that_changes(module, name)
        self.place, code = ("", "") if line is None else line
        self.found = f"{code}forward changes {name!r}, which the graph of a trace would not do again"
        super().__init__(self.found)


class State:
    """The tensors and numbers that a module itself holds, at one point in time."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._before = dict(_held(module))
        self._tensors = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}

    def require_unchanged(self) -> None:
        """Raises ChangedState for the first that is not what it was."""
        for name, value in list(_held(self._module)):
            before = self._before.get(name, value)  # what is new is of no use to the next call
            if value is before or value == before:
                continue
            if not self._is_cast_of_itself(name):
                raise ChangedState(self._module, name)
            setattr(self._module, name, self._tensors[name])

    def _is_cast_of_itself(self, name: str) -> bool:
        """self.mean = self.mean.type_as(x), after which the next call casts to what it is already."""
        value = vars(self._module).get(name)
        if name not in self._tensors or not isinstance(value, Proxy) or value.node.target not in CASTS:
            return False
        source = value.node.args[0]
        owner, _, own = str(source.target).rpartition(".") if isinstance(source, Node) and source.op == "get_attr" else ("", "", "")
        return own == name and value.tracer.root.get_submodule(owner) is self._module  # type: ignore[attr-defined]


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Name → a number, or which tensor it is and how often it was written to."""
    for name, value in (*module._parameters.items(), *module._buffers.items(), *vars(module).items()):
        if isinstance(value, (Tensor, Proxy)):
            yield name, (id(value), value._version if isinstance(value, Tensor) else 0)
        elif isinstance(value, bool | int | float):
            yield name, value


def _line_that_changes(module: nn.Module, name: str) -> tuple[str, str] | None:
    """(", file.py:12", "`self.steps += 1` — "): the first line of forward that looks like it."""
    try:
        lines, first = inspect.getsourcelines(type(module).forward)
    except (OSError, TypeError):
        return None
    attribute = re.escape(f"self.{name}")
    written = re.compile(rf"{attribute}\s*([-+*/@|&^]|//|\*\*)?=[^=]|{attribute}\.\w+_\(|{attribute}\[.*\]\s*=[^=]")
    offset = next((offset for offset, line in enumerate(lines) if written.search(line)), None)
    place = f", {inspect.getsourcefile(type(module).forward)}:{first + (offset or 0)}"
    return place, "" if offset is None else f"`{lines[offset].strip()}` — "
