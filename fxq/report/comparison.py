"""What compare has found, as values, text and JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from fxq.report.closeness import Closeness
from fxq.report.kinds import Kind
from fxq.report.naming import row_named
from fxq.report.printable import Printable
from fxq.report.wording import elide, layer_label, plural

_PATH_LENGTH = 30
_ALIKE_DB = 3.0  # between weights that have nothing to do with each other it is about −3
_BAD_DB, _POOR_DB = 10.0, 20.0  # for colours: a tenth of the signal is noise, a hundredth


class LayerComparison(BaseModel):
    """One layer of the int8 model beside the float model.

    Attributes:
        name: of its node, behind the path of the graph in an island that it is in.
        what: in the words of the user's model: object type and module path.
        type: the object type alone.
        module: path of the module called, or of the one around a function call; "" is the model itself.
        kind: int8, dynamic int8 or float.
        fused: the calls fused into it, in dataflow order, like `what`.
        alone: the int8 layer on the float model's values: its own damage; None for a float layer, which has none.
        so_far: the int8 model's value, with the errors of all layers before it.
        weight: the int8 weights beside the float ones, batch norms folded in; None where there are none.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    name: str
    what: str
    type: str
    module: str
    kind: Kind
    fused: tuple[str, ...]
    alone: Closeness | None
    so_far: Closeness
    weight: Closeness | None

    @property
    def damage_db(self) -> float:
        """The lower SQNR of `alone` and `weight`: a sum with a large residual hides in the values what happened to the weights.

        Infinite for a float layer; −infinite where it is not a number.
        """
        found = [each.sqnr_db for each in (self.alone, self.weight) if each is not None]
        return -math.inf if any(map(math.isnan, found)) else min(found, default=math.inf)


class Comparison(Printable):
    """A float model beside its int8 model.

    Attributes:
        batches: how many were compared.
        output: of what the models return.
        rows: one for every layer, the most damaged first.
        skipped: name of a layer → how often the two models had values of different shapes there, which can be where a forward
            decides by values; these are in no number.
    """

    batches: int
    output: Closeness
    rows: tuple[LayerComparison, ...]
    skipped: dict[str, int]

    def row(self, name: str) -> LayerComparison:
        """The row of a layer, by its name or by the path of its module. Raises ConfigError where there is none, or more than one."""
        return row_named(self.rows, name)

    @property
    def weights_differ(self) -> bool:
        """Whether the weights of no layer are alike: then the models have the same graph, and nothing to do with each other."""
        found = [row.weight.sqnr_db for row in self.rows if row.weight is not None]
        return bool(found) and max(found) < _ALIKE_DB

    def __repr__(self) -> str:
        return f"<Comparison: {format_db(self.output.sqnr_db)} dB at the output, {plural(len(self.rows), 'layer')}>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, for rich.print."""
        table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
        table.add_column("layer", overflow="fold")
        table.add_column("op", overflow="fold")
        for name in ("alone dB", "error", "cosine", "so far dB", "error", "cosine", "weight dB"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*_cells(row))
        yield table
        yield Text()
        yield Text("\n".join(self._summary()))

    def _summary(self) -> Iterator[str]:
        found, batches = self.output, "1 batch" if self.batches == 1 else f"{self.batches} batches"
        yield f"output: {format_db(found.sqnr_db)} dB, error {found.max_error:.3g}, cosine {_cosine(found)}, over {batches}"
        yield "alone: the int8 layer on the float model's values; so far: with the errors of all layers before it; error: the largest"
        if self.weights_differ:
            yield "no weight of one model is like that of the other: is this the float model that the int8 one was made from?"
        if self.skipped:
            counts = ", ".join(f"{name} (in {count} calls)" for name, count in self.skipped.items())
            yield f"not compared, as the shapes differ: {counts}"


def _cells(row: LayerComparison) -> Iterator[Text]:
    yield Text(elide(layer_label(row.what, row.type, row.module, row.name), _PATH_LENGTH))
    yield Text("+".join((row.type, *(call.partition(" ")[0] for call in row.fused))))
    yield from _numbers(row.alone)
    yield from _numbers(row.so_far)
    yield Text() if row.weight is None else _coloured_db(row.weight)


def _numbers(found: Closeness | None) -> tuple[Text, Text, Text]:
    if found is None:
        return Text(), Text(), Text()
    return _coloured_db(found), Text(f"{found.max_error:.3g}"), Text(_cosine(found))


def _coloured_db(found: Closeness) -> Text:
    style = "red" if found.sqnr_db < _BAD_DB else "yellow" if found.sqnr_db < _POOR_DB else ""
    return Text(format_db(found.sqnr_db), style=style)


def _cosine(found: Closeness) -> str:
    return f"{found.cosine:.5f}"


def format_db(value: float) -> str:
    """38.2; "exact" for an infinite SQNR."""
    return "exact" if value == math.inf else f"{value:.1f}"
