"""profile(model, inputs): where the time of a converted model goes, kernel by kernel."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from torch import nn

from fxq.errors import ConfigError, StageError
from fxq.graph.module import FxqModule
from fxq.graph.stages import Stage
from fxq.lowering.timing import Part, time_parts
from fxq.passes.arguments import split_inputs
from fxq.report.latency import one_thread
from fxq.report.printable import Printable
from fxq.report.wording import format_share
from fxq.runtime.jit import find_isa, peak_macs, unavailable

_SHORTEST = 1e-7  # seconds; a clock does not tell less


class TimeRow(BaseModel):
    """One kernel call of a compiled region, a step of one that no kernel is for, or one call of the graph outside of them.

    Attributes:
        name: of the layer's node.
        region: which region it is in; None outside.
        runs: the kernel's family; "integer op" for a step of a region that has none for these shapes; else what is called.
        shape: of its result; None where that is no tensor.
        ms: milliseconds on one thread, the least of several runs.
        macs: multiplications; 0 for kernels that only move or map values, and outside of regions, where they are not counted.
        gmacs: 10⁹ multiplications per second.
        peak_share: gmacs in relation to what the machine's dot product can do.
        reason: why a step of a region has no kernel; None for all else.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    region: str | None
    runs: str
    shape: tuple[int, ...] | None
    ms: float
    macs: int
    gmacs: float
    peak_share: float
    reason: str | None = None


class TimeProfile(Printable):
    """Times of a model's parts. `print` is for people, `to_dict` and `to_json` for programs.

    Attributes:
        isa: what regions are compiled for; None where this machine has no compiler.
        peak_gmacs: 10⁹ multiplications per second that its dot product reaches on one thread, measured; 0 without isa.
        rows: the slowest first.
    """

    isa: str | None
    peak_gmacs: float
    rows: tuple[TimeRow, ...]

    @property
    def ms(self) -> float:
        """Of all rows."""
        return sum(row.ms for row in self.rows)

    @property
    def macs(self) -> int:
        """Of all compiled regions."""
        return sum(row.macs for row in self.rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, for rich.print."""
        table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
        for name in ("layer", "runs", "region", "output"):
            table.add_column(name, overflow="fold")
        for name in ("ms", "of the time", "MMAC", "GMAC/s", "of the peak"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(*self._cells(row))
        yield table
        peak = f"; the peak of {self.isa} is {self.peak_gmacs:.0f} GMAC/s" if self.isa else ""
        yield f"{self.ms:.3f} ms on one thread, {self.macs / 1e6:.1f} MMAC in compiled regions{peak}"
        for row in (row for row in self.rows if row.reason):
            yield f"{row.name} is not compiled for these shapes: {row.reason}"

    def _cells(self, row: TimeRow) -> tuple[str, ...]:
        shape = "" if row.shape is None else "×".join(map(str, row.shape)) or "scalar"
        work = (f"{row.macs / 1e6:.2f}", f"{row.gmacs:.1f}", format_share(row.peak_share)) if row.macs else ("", "", "")
        return (row.name, row.runs, row.region or "", shape, f"{row.ms:.4f}", format_share(row.ms / self.ms if self.ms else 0.0), *work)


def profile(model: nn.Module, example_inputs: Any, *, runs: int = 10) -> TimeProfile:
    """Times every kernel of a converted model's compiled regions, and every call outside of them, on one thread.

    The parts run in the order of the model, so caches are as they are in use; of each the least of its times counts. What happens
    between the parts is not in them, nor is what other threads would save.

    Args:
        model: from convert_fx or quantize.
        example_inputs: a tuple of positional inputs, one tensor, or a dict of keyword inputs. Times are for these shapes.
        runs: how often the model is run.

    Raises:
        StageError: the model is not converted.
        ConfigError: runs is less than 1.
    """
    if not isinstance(model, FxqModule) or model.stage is not Stage.LOWERED:
        raise StageError(
            "profile",
            expected="a model that fxq.convert_fx or fxq.quantize returned",
            found=f"a {type(model).__name__}" + (f" at stage {model.stage.name}" if isinstance(model, FxqModule) else ""),
            remedy="int8_model = fxq.convert_fx(prepared); fxq.profile(int8_model, example_inputs)",
        )
    if runs < 1:
        raise ConfigError("profile, runs", expected="at least 1", found=str(runs), remedy="leave it out for 10")
    inputs = split_inputs(example_inputs)
    isa = None if unavailable() else find_isa()
    with one_thread(), torch.no_grad():
        model(*inputs.args, **inputs.kwargs)
        peak = 0.0 if isa is None else peak_macs(isa)
        least = time_parts(model, inputs.args, inputs.kwargs, runs)
    rows = sorted((_row(part, seconds, peak) for part, seconds in least.items()), key=lambda row: -row.ms)
    return TimeProfile(isa=None if isa is None else isa.name, peak_gmacs=peak / 1e9, rows=tuple(rows))


def _row(part: Part, seconds: float, peak: float) -> TimeRow:
    speed = part.macs / max(seconds, _SHORTEST)
    return TimeRow(
        name=part.name,
        region=part.region,
        runs=part.runs,
        shape=part.shape,
        ms=1e3 * seconds,
        macs=part.macs,
        gmacs=speed / 1e9,
        peak_share=speed / peak if peak else 0.0,
        reason=part.reason,
    )
