"""A progress bar for what takes seconds, where somebody is watching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import TypeVar

from rich.console import Console
from rich.progress import track

_T = TypeVar("_T")


def with_progress(items: Iterable[_T], doing: str, *, total: int | None = None, progress: bool = True) -> Iterator[_T]:
    """The items, with a bar on standard error while they are read; nothing is shown where that is no terminal.

    Args:
        doing: "calibrating", "comparing".
        total: how many there are; None: as many as the iterable says, if it does.
        progress: False shows no bar.
    """
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    yield from track(items, doing, total=total or length_hint(items) or None, console=console, disable=not shown)
