"""A report as text for people, in the order in which they ask: layer by layer, in sum, what stays float and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fxq.graph.reasons import Why
from fxq.graph.stages import Stage
from fxq.report.advice import ADVICE
from fxq.report.kinds import ROUNDED, Kind
from fxq.report.rows import Row
from fxq.report.totals import ReasonGroup, Totals
from fxq.report.wording import elide, format_number, format_share, layer_label, plural

_STYLES: Mapping[Kind, str] = {
    Kind.INT8: "green",
    Kind.DYNAMIC: "green",
    Kind.WEIGHT_ONLY: "green",
    Kind.FLOAT: "yellow",
    Kind.QUANTIZE: "cyan",
    Kind.DEQUANTIZE: "cyan",
}
_TITLE = "bold"
_PATH_LENGTH = 34  # a longer path loses its beginning: what tells two layers apart is the end
_NAMES_LENGTH = 40

# what the table of layers leaves out; the summary counts it, and the rows have it
_NOT_LISTED = frozenset({Kind.OBSERVER, Kind.SHAPE, Kind.CONSTANT, Kind.OUTPUT})
_STEPS = frozenset({Kind.QUANTIZE, Kind.DEQUANTIZE})

_HEADLINES: Mapping[Stage, str] = {
    Stage.TRACED: "Traced model: nothing is decided yet",
    Stage.FUSED: "Fused float model: nothing is decided yet",
    Stage.ANNOTATED: "Plan",
    Stage.OBSERVED: "Prepared model, to be calibrated and converted",
    Stage.REFERENCE: "Reference model: float ops between quantize and dequantize",
    Stage.LOWERED: "Converted model",
}


def render_layers(stage: Stage, profile: str | None, rows: tuple[Row, ...]) -> Iterator[RenderableType]:
    """What the model is, and the table of its layers."""
    yield Text(_HEADLINES[stage] + (f", profile {profile}" if profile else ""), style=_TITLE)
    yield Text()
    yield _layers(stage, rows)


def render_summary(stage: Stage, rows: tuple[Row, ...], totals: Totals) -> Iterator[RenderableType]:
    """The sums, what stays float, and refused fusions; without sections that have nothing to say."""
    yield _section("In sum", _summary(stage, rows, totals))
    if totals.reasons:
        yield Text()
        yield _section("What stays float, and why", _reasons(rows, totals))
    assumed = [Text(text) for text in dict.fromkeys(row.assumed for row in rows if row.assumed)]
    if assumed:
        yield Text()
        yield _section("Fixed as with the example inputs, and checked at run time", Padding(Group(*assumed), (0, 0, 0, 2)))
    not_compiled = _not_compiled(rows)
    if not_compiled.row_count:
        yield Text()
        yield _section("Runs as integer ops inside a compiled region, and why", Padding(not_compiled, (0, 0, 0, 2)))
    refused = _refusals(rows)
    if refused.row_count:
        yield Text()
        yield _section("Fusions that were refused", refused)


def _section(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(title, style=_TITLE), body)


def _grid(*columns: str) -> Table:
    """A table without lines; columns are justifications."""
    table = Table.grid(padding=(0, 2))
    for justify in columns:
        table.add_column(justify=justify)  # type: ignore[arg-type]
    return table


# --- layer by layer ---------------------------------------------------------------------------------------------------------


def _layers(stage: Stage, rows: tuple[Row, ...]) -> Table:
    hidden = _NOT_LISTED if stage is Stage.LOWERED else _NOT_LISTED | _STEPS
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style=_TITLE)
    runs_as = ("runs as" if stage is Stage.LOWERED else "will run as",) if stage >= Stage.ANNOTATED else ()
    for name in ("layer", "op", *runs_as, "fused into it"):
        table.add_column(name, overflow="fold")
    for name in ("MACs", "share", "weights"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("output", overflow="fold")
    for row in rows:
        if row.kind not in hidden:
            table.add_row(*_cells(stage, row))
    return table


def _cells(stage: Stage, row: Row) -> tuple[Text, ...]:
    macs = "?" if row.macs is None else format_number(row.macs) if row.macs else ""
    runs_as = (Text(_runs_as(stage, row), style=_STYLES.get(row.kind, "")),) if stage >= Stage.ANNOTATED else ()
    return (
        Text(elide(_layer(row), _PATH_LENGTH)),
        Text("" if runs_as and row.type == row.kind.value else row.type),
        *runs_as,
        Text(", ".join(_type_of(call) for call in row.fused)),
        Text(macs),
        Text(format_share(row.macs_share) if row.macs else ""),
        Text(format_number(row.weight_bytes, "B") if row.weight_bytes else ""),
        Text("" if row.shape is None else "×".join(map(str, row.shape)) or "scalar"),
    )


def _layer(row: Row) -> str:
    return layer_label(row.what, row.type, row.module, row.name)


def _type_of(call: str) -> str:
    return call.partition(" ")[0]


def _runs_as(stage: Stage, row: Row) -> str:
    if row.kind is Kind.INT8 and row.dtype == "float32" and stage is Stage.LOWERED:
        return "int8 → float"
    return "float, compiled" if row.kind is Kind.FLOAT and row.compiled else row.kind.value


# --- in sum -----------------------------------------------------------------------------------------------------------------


def _summary(stage: Stage, rows: tuple[Row, ...], totals: Totals) -> RenderableType:
    grid = _grid("left", "left")
    for label, text in _summary_lines(stage, rows, totals):
        grid.add_row(Text(label), text)
    return grid


def _summary_lines(stage: Stage, rows: tuple[Row, ...], totals: Totals) -> Iterator[tuple[str, Text]]:
    verb = "in int8" if stage is Stage.LOWERED else "will be in int8"
    decided = stage >= Stage.ANNOTATED
    share = f", {format_share(totals.macs_share_int8)} {verb}" if decided and totals.macs else ""
    yield "compute", Text(f"{format_number(totals.macs, 'MACs')} for the example inputs{share}{_not_counted(totals)}")
    if totals.heavy:
        yield "heavy ops", Text(f"{_heavy_types(rows)}" + (f": {totals.heavy_int8} of {totals.heavy} {verb}" if decided else ""))
    yield "weights", Text(_weights(stage, totals))
    yield "nodes", Text(f"{totals.nodes}: " + ", ".join(f"{totals.count(kind)} {kind.value}" for kind in Kind if totals.count(kind)))
    if stage is Stage.LOWERED:
        if totals.macs_int8:
            yield (
                "compiled",
                Text(f"{format_share(totals.macs_share_compiled)} of the int8 MACs run as machine code{_compiled_floats(rows)}"),
            )
        yield "boundaries", Text(f"{totals.count(Kind.QUANTIZE)} × float → int8, {totals.count(Kind.DEQUANTIZE)} × int8 → float")
    rules = Counter(row.rule for row in rows if row.kind in (*ROUNDED, Kind.FLOAT) and row.rule)
    if rules:
        yield "decided by", Text(", ".join(f"{rule} ({plural(count, 'node')})" for rule, count in rules.most_common()))
    if decided and not any(map(totals.count, ROUNDED)):
        yield "note", Text(f"no op {'runs' if stage is Stage.LOWERED else 'will run'} in int8{_first_step(totals)}", style="red")


def _compiled_floats(rows: tuple[Row, ...]) -> str:
    count = sum(row.compiled for row in rows if row.kind is Kind.FLOAT)
    return f", and {plural(count, 'float node')} between dynamic layers" if count else ""


def _not_counted(totals: Totals) -> str:
    return f"; not counted: {', '.join(totals.not_counted)}" if totals.not_counted else ""


def _heavy_types(rows: tuple[Row, ...]) -> str:
    types = Counter(row.type for row in rows if row.is_heavy)
    return ", ".join(f"{count} {name}" for name, count in types.most_common())


def _weights(stage: Stage, totals: Totals) -> str:
    before, now = (format_number(count, "B") for count in (totals.weight_bytes_float32, totals.weight_bytes))
    if stage < Stage.REFERENCE:
        return f"{now}, not quantized yet"
    if totals.weight_bytes >= totals.weight_bytes_float32:
        return now
    return f"{before} in float32 → {now}, {totals.weight_bytes_float32 / totals.weight_bytes:.1f} times smaller"


def _first_step(totals: Totals) -> str:
    """What would help most, from the group of reasons with most MACs."""
    if not totals.reasons:
        return ": the model has none that could"
    return f', mostly because of "{totals.reasons[0].why.value}": {ADVICE[totals.reasons[0].why]}'


# --- what stays float, and why ----------------------------------------------------------------------------------------------


def _reasons(rows: tuple[Row, ...], totals: Totals) -> RenderableType:
    by_name = {row.name: row for row in rows}
    return Group(*(part for group in totals.reasons for part in _reason_group(group, by_name, totals)))


def _reason_group(group: ReasonGroup, by_name: Mapping[str, Row], totals: Totals) -> Iterator[RenderableType]:
    share = f", {format_share(group.macs / totals.macs)} of MACs" if group.macs else ""
    yield Text.assemble((f"{group.why.value}", "yellow"), f" ({plural(group.count, 'node')}{share}): {ADVICE[group.why]}")
    by_detail: dict[str, list[Row]] = {}
    for row in (by_name[name] for name in group.nodes):
        by_detail.setdefault(row.reason.detail if row.reason else "", []).append(row)
    grid = _grid("left", "left", "left")
    for detail, alike in by_detail.items():
        grid.add_row(Text(_names(alike)), Text(detail), Text(_place(alike[0])))
    yield Padding(grid, (0, 0, 0, 2))


def _names(rows: list[Row]) -> str:
    """As many as fit, at least one, and how many more there are."""
    names = [elide(_layer(row), _PATH_LENGTH) for row in rows]
    lengths = accumulate(len(name) + 2 for name in names)
    count = max(1, sum(length <= _NAMES_LENGTH for length in lengths))
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if count < len(names) else "")


def _not_compiled(rows: tuple[Row, ...]) -> Table:
    grid = _grid("left", "left", "left")
    by_reason: dict[str, list[Row]] = {}
    for row in (row for row in rows if row.not_compiled):
        by_reason.setdefault(row.not_compiled, []).append(row)
    for reason, alike in by_reason.items():
        grid.add_row(Text(_names(alike)), Text(reason), Text(_place(alike[0])))
    return grid


def _refusals(rows: tuple[Row, ...]) -> Table:
    grid = _grid("left", "left", "left")
    for row in rows:
        for refusal in (refusal for refusal in row.refusals if refusal.reason.why is not Why.SWITCHED_OFF):  # as asked for
            grid.add_row(Text(elide(_layer(row), _PATH_LENGTH)), Text(f"{refusal.rule}: {refusal.reason.detail}"), Text(_place(row)))
    return grid


def _place(row: Row) -> str:
    """The file's name without its folders: the lines stay readable, and the row has all of it."""
    return row.source.replace("\\", "/").rpartition("/")[2]
