"""What diff has found, as values, text and JSON."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from fxq.report.printable import Printable
from fxq.report.wording import plural

Fact = str | int | float | None

_SHORT = 4  # words


class Change(BaseModel):
    """One fact about an op that is not the same in both models.

    Attributes:
        fact: "kind", "dtype", "scale", "zero point", "reads", ...
        before, after: in the first and in the second model; None where it has no such fact.
    """

    model_config = ConfigDict(frozen=True)

    fact: str
    before: Fact
    after: Fact


class TensorChange(BaseModel):
    """A weight, bias or other constant with other numbers, of the same shape and dtype.

    Attributes:
        tensor: as the op calls it.
        elements: how many it has.
        changed: how many of them differ.
        max_change: the largest difference.
    """

    model_config = ConfigDict(frozen=True)

    tensor: str
    elements: int
    changed: int
    max_change: float


class OpDiff(BaseModel):
    """An op that one model has and the other has not, or that differs.

    Attributes:
        name: of its node, behind the path of the graph in an island that it is in.
        what: in the words of the user's model; of the second model where both have it.
        changes, tensors: what differs; empty for an op that only one model has.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    what: str
    changes: tuple[Change, ...] = ()
    tensors: tuple[TensorChange, ...] = ()


class Difference(Printable):
    """The second model as seen from the first.

    Attributes:
        model: facts about the models as wholes: stage, profile, share of MACs in int8, bytes of weights.
        added, removed: ops that only the second, only the first has, in order of execution.
        changed: ops of both that differ.
        same: how many are the same.
    """

    model: tuple[Change, ...]
    added: tuple[OpDiff, ...]
    removed: tuple[OpDiff, ...]
    changed: tuple[OpDiff, ...]
    same: int

    @property
    def is_empty(self) -> bool:
        """Both models are the same, in structure and numbers."""
        return not (self.model or self.added or self.removed or self.changed)

    def __repr__(self) -> str:
        return f"<Difference: {self._counts()}>"

    def _counts(self) -> str:
        return f"{len(self.added)} added, {len(self.removed)} removed, {len(self.changed)} changed, {self.same} the same"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """+ for what only the second model has, − for what only the first has, ~ for what both have."""
        yield Text("the models are the same" if self.is_empty else f"ops: {self._counts()}", style="bold")
        table = Table.grid(padding=(0, 2))
        for change in self.model:
            table.add_row("~", Text(change.fact), Text(_arrow(change)))
        for sign, style, ops in (("+", "green", self.added), ("−", "red", self.removed)):
            for op in ops:
                table.add_row(Text(sign, style=style), Text(op.name, style=style), Text(op.what))
        for op in self.changed:
            table.add_row(Text("~", style="yellow"), Text(op.name, style="yellow"), Text("\n".join(_lines(op))))
        if table.row_count:
            yield table


def _lines(op: OpDiff) -> Iterator[str]:
    yield from (f"{change.fact}: {_arrow(change)}" for change in op.changes)
    for tensor in op.tensors:
        yield f"{tensor.tensor}: {tensor.changed} of {plural(tensor.elements, 'element')} changed, by at most {tensor.max_change:.4g}"


def _arrow(change: Change) -> str:
    before, after = change.before, change.after
    if isinstance(before, str) and isinstance(after, str):
        before, after = _where_they_differ(before.split(" "), after.split(" "))
    return f"{_shown(before)} → {_shown(after)}"


def _where_they_differ(before: list[str], after: list[str]) -> tuple[str, str]:
    """Long texts without the words that both begin and end with; short ones as they are."""
    if max(len(before), len(after)) <= _SHORT:
        return " ".join(before), " ".join(after)
    shorter = min(len(before), len(after))
    start = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    end = next((i for i in range(shorter - start) if before[-1 - i] != after[-1 - i]), shorter - start)
    return " ".join(before[start : len(before) - end]), " ".join(after[start : len(after) - end])


def _shown(fact: Fact) -> str:
    if fact is None or fact == "":
        return "none"
    return f"{fact:.6g}" if isinstance(fact, float) else str(fact)
