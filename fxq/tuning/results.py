"""What sensitivity has found, as values, text and JSON."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from fxq.qconfig_mapping import QConfigMapping
from fxq.report.comparison import format_db
from fxq.report.naming import row_named
from fxq.report.printable import Printable
from fxq.report.wording import elide, format_share, plural

_PATH_LENGTH = 48


class LayerSensitivity(BaseModel):
    """What keeping one layer float gives back.

    Attributes:
        name: of its node, behind the path of the graph in an island that it is in.
        what: in the words of the user's model.
        module: path of the module called, or of the one around a function call.
        sqnr_db: of the model's results with this layer float and all others int8.
        gain_db: by how much that is more than with all layers int8.
        macs_share: of the model's multiply-accumulates, 0..1.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    name: str
    what: str
    module: str
    sqnr_db: float
    gain_db: float
    macs_share: float


class Proposal(BaseModel):
    """A mapping that reaches a target, and what it costs. All numbers but `float_ms` are of models that were made with fxq.quantize.

    Attributes:
        mapping: the given one, and a rule for each layer that stays float.
        kept_float: the layers, as in `LayerSensitivity.what`; empty where int8 alone reaches the target.
        target: what was asked for: "SQNR of at least 40 dB".
        reached: SQNR in dB, or what the metric says, of the model with this mapping.
        is_reached: False where even the float graph misses the target.
        sqnr_db: of the results of the model with this mapping.
        macs_share_int8: of the model with this mapping.
        ms, int8_ms, float_ms: least milliseconds for the example inputs: with this mapping, with all layers int8, float.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    mapping: QConfigMapping
    kept_float: tuple[str, ...]
    target: str
    reached: float
    is_reached: bool
    sqnr_db: float
    macs_share_int8: float
    ms: float
    int8_ms: float
    float_ms: float


class Sensitivity(Printable):
    """Layers by what keeping them float would give back.

    Attributes:
        sqnr_db: of the model's results with all layers int8.
        rows: the layer that gives back most first.
        proposal: None where no target was asked for.
    """

    sqnr_db: float
    rows: tuple[LayerSensitivity, ...]
    proposal: Proposal | None = None

    def row(self, name: str) -> LayerSensitivity:
        """The row of a layer, by its name or by the path of its module. Raises ConfigError where there is none, or more than one."""
        return row_named(self.rows, name)

    def __repr__(self) -> str:
        return f"<Sensitivity: {format_db(self.sqnr_db)} dB in int8, {plural(len(self.rows), 'layer')}>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table and the proposal, for rich.print."""
        yield Text(f"All layers int8: {format_db(self.sqnr_db)} dB. With one layer float:", style="bold")
        table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
        table.add_column("layer", overflow="fold")
        for name in ("dB", "gain", "MACs"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            share = format_share(row.macs_share) if row.macs_share else ""
            table.add_row(Text(elide(row.what, _PATH_LENGTH)), format_db(row.sqnr_db), f"{row.gain_db:+.2f}", share)
        yield table
        if self.proposal is not None:
            yield Text()
            yield Text("\n".join(_lines(self.proposal)))


def _lines(proposal: Proposal) -> Iterator[str]:
    kept = f"keep {plural(len(proposal.kept_float), 'layer')} float" if proposal.kept_float else "int8 alone reaches it"
    yield f"Proposal for {proposal.target}: {kept}"
    yield from (f"  {what}" for what in proposal.kept_float)
    share = format_share(proposal.macs_share_int8)
    verb = "reached" if proposal.is_reached else "missed"
    yield f"{verb}: {proposal.reached:.4g}; SQNR {format_db(proposal.sqnr_db)} dB, {share} of the MACs in int8"
    yield f"latency: {proposal.ms:.3g} ms; {proposal.int8_ms:.3g} ms with all layers int8, {proposal.float_ms:.3g} ms float"
