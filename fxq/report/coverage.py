"""report(model): what runs in int8, what stays float, and why."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text
from torch import nn

from fxq.errors import StageError
from fxq.graph.module import FxqModule
from fxq.graph.stages import Stage
from fxq.report.naming import row_named
from fxq.report.printable import Printable, as_text
from fxq.report.rendering import render_layers, render_summary
from fxq.report.rows import Row, make_rows
from fxq.report.totals import Totals, add_up


class Report(Printable):
    """What became of a model, node by node and in sum. `print(report)` is for people, `to_dict` and `to_json` for programs.

    Attributes:
        stage: name of the stage the model is at. Before LOWERED, "int8" in a row means: will be int8.
        profile: the backend it is compiled for; None where none was chosen yet.
        rows: one for every node of the graph, in order.
        totals: sums over the rows.
    """

    stage: str
    profile: str | None
    rows: tuple[Row, ...]
    totals: Totals

    def row(self, name: str) -> Row:
        """The row of a node, by its name or by the path of its module. Raises ConfigError where there is none, or more than one."""
        return row_named(self.rows, name)

    def summary(self) -> str:
        """The text without the table of layers: sums, what stays float and why, refused fusions."""
        return as_text(render_summary(Stage[self.stage], self.rows, self.totals))

    def __repr__(self) -> str:
        totals = self.totals
        return f"<Report: stage {self.stage}, {totals.nodes} nodes, {totals.heavy_int8} of {totals.heavy} heavy ones int8>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The same with colours, for rich.print."""
        stage = Stage[self.stage]
        yield from render_layers(stage, self.profile, self.rows)
        yield Text()
        yield from render_summary(stage, self.rows, self.totals)


def report(model: nn.Module) -> Report:
    """model → for every node: what it is, how it runs, what was fused into it, what it costs, and why it stays float if it does.

    Args:
        model: from fuse_fx (nothing is decided yet: costs and fusions only), prepare_fx (what will be int8), or convert_fx.
            It is not changed.

    Raises:
        StageError: the model is not one of fxq's.
    """
    if not isinstance(model, FxqModule):
        raise StageError(
            "report",
            expected="a model that fxq.prepare_fx, fxq.convert_fx or fxq.quantize returned",
            found=f"a {type(model).__module__}.{type(model).__qualname__}",
            remedy="prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping('x86'), example_inputs); fxq.report(prepared)",
        )
    rows = make_rows(model)
    return Report(stage=model.stage.name, profile=None if model.profile is None else model.profile.name, rows=rows, totals=add_up(rows))
