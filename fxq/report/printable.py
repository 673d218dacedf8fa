"""What every result for people and programs can do."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_COLUMNS = 120


class Printable(BaseModel):
    """Values with names. `print` is for people, `rich.print` has colours, `to_dict` and `to_json` are for programs.

    Numbers that are infinite or not a number are "Infinity", "-Infinity" and "NaN" in JSON.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts, as JSON has them."""
        return self.model_dump(mode="json")

    def to_json(self, indent: int | None = 2) -> str:
        """What `model_validate_json` of the class reads back."""
        return self.model_dump_json(indent=indent)

    def __str__(self) -> str:
        """Plain text, at most 120 columns."""
        return as_text([self])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What is printed; every result has its own."""
        raise NotImplementedError


def as_text(parts: Iterable[RenderableType]) -> str:
    """Plain text, at most 120 columns, without blanks at the ends of lines."""
    text = io.StringIO()
    console = Console(file=text, width=_COLUMNS, color_system=None, force_terminal=False, force_jupyter=False, legacy_windows=False)
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
