"""Checks for the tests of people who ship quantized models: an AssertionError says which layers, and why.

from fxq.testing import assert_graph_snapshot, assert_int8, assert_min_int8_macs, assert_min_sqnr

assert_int8(int8_model, "layer1.*", "fc")
assert_min_int8_macs(int8_model, 0.99)
assert_min_sqnr(float_model, int8_model, batches, 30.0)
assert_graph_snapshot(int8_model, "tests/model.graph.txt")
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import nn
from torch.fx import Node

from fxq.errors import ConfigError, DataError
from fxq.graph.annotation import quant_of, type_of
from fxq.graph.islands import graphs_of, origins_in_model
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.graph.reasons import Reason, Why
from fxq.graph.text import format_node, format_type, format_value
from fxq.qconfig_mapping.presence import nearest
from fxq.report import Report, compare, report
from fxq.report.advice import ADVICE
from fxq.report.kinds import IN_INT8, ROUNDED, Kind, kind_of
from fxq.report.matching import layers_of
from fxq.report.wording import describe_origin, format_share, plural

__all__ = ["assert_graph_snapshot", "assert_int8", "assert_min_int8_macs", "assert_min_sqnr", "graph_snapshot"]

_SHOWN = 10  # layers in a message
_HOW_TO_WRITE = "run the test once with FXQ_UPDATE_SNAPSHOTS=1 to write it"
_NUMBERS = re.compile(r", (?:scale|zero_point)=-?[\d.e+-]+")  # of calibration: two machines need not agree on the last digit


# --- what runs in int8 -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """A call that computes: the paths by which a pattern finds it, and why it is float, if it is."""

    name: str
    what: str
    paths: tuple[str, ...]
    is_int8: bool = True
    reason: Reason | None = None

    def matches(self, pattern: str) -> bool:
        return any(fnmatchcase(path, pattern) for path in self.paths)


def assert_int8(model: nn.Module, *patterns: str) -> None:
    """Every layer that a pattern matches runs in int8, or will, in a prepared model.

    Args:
        patterns: paths with `*` and `?`: "layer1.*", "features.?.conv", "*". A layer is found by its own path and by those of what was
            fused into it; functions by the path of the module that calls them. None: every layer of the model.

    Raises:
        AssertionError: some do not; says which, and why.
        ConfigError: a pattern matches nothing; names the nearest paths.
    """
    report(model)
    assert isinstance(model, FxqModule)
    layers = list(_layers(model))
    wanted = patterns or ("*",)
    for pattern in wanted:
        if not any(layer.matches(pattern) for layer in layers):
            raise _no_match(pattern, layers)
    matching = [layer for layer in layers if any(map(layer.matches, wanted))]
    lost = [layer for layer in matching if not layer.is_int8]
    if lost:
        raise AssertionError(_not_int8(lost, len(matching), patterns))


def _layers(model: FxqModule) -> Iterator[_Layer]:
    for graph in graphs_of(model):
        for node in layers_of(graph):
            origins, quant, name = origins_in_model(node, graph), quant_of(node), join_path(graph.path, node.name)
            paths = tuple(dict.fromkeys((name, *(origin.module for origin in origins))))
            reason = None if quant is None else quant.reason
            if quant is not None and quant.is_weight_only:
                reason = Reason(Why.WEIGHT_ONLY, name, "computes in float, its qconfig speaks of weights only")
            yield _Layer(name, describe_origin(origins[0]), paths, kind_of(node) in IN_INT8, reason)


def _no_match(pattern: str, layers: list[_Layer]) -> ConfigError:
    paths = {path for layer in layers for path in layer.paths}
    near = nearest(pattern, paths) or sorted(paths)[:8]
    return ConfigError(
        f"assert_int8, {pattern!r}",
        expected="a pattern that matches a layer of the model",
        found="no layer of such a name",
        remedy=f"write one of {', '.join(map(repr, near))}" if near else "the model computes nothing",
    )


def _not_int8(lost: list[_Layer], count: int, patterns: tuple[str, ...]) -> str:
    which = f" that match {', '.join(map(repr, patterns))}" if patterns else ""
    lines = [f"{len(lost)} of {plural(count, 'layer')}{which} are not int8:"]
    for layer in lost[:_SHOWN]:
        lines.append(f"  {layer.what}: {'not decided yet' if layer.reason is None else layer.reason.detail}")
    if len(lost) > _SHOWN:
        lines.append(f"  and {len(lost) - _SHOWN} more")
    kinds = dict.fromkeys(layer.reason.why for layer in lost if layer.reason is not None)
    return "\n".join((*lines, *(f"{why.value}: {ADVICE[why]}" for why in kinds)))


def assert_min_int8_macs(model: nn.Module, share: float) -> None:
    """At least this share of the multiply-accumulates, 0..1, runs in int8, or will, in a prepared model.

    Raises:
        AssertionError: less does; says what stays float, and why.
        ConfigError: the share is no number from 0 to 1, or the model multiplies nothing.
    """
    if not 0 <= share <= 1:
        raise ConfigError("assert_min_int8_macs, share", expected="a number from 0 to 1", found=str(share), remedy="write 0.99 for 99 %")
    found = report(model)
    if not found.totals.macs:
        raise ConfigError(
            "assert_min_int8_macs",
            expected="a model with matrix products or convolutions",
            found="none whose multiplications are counted",
            remedy="leave the check out for this model",
        )
    if found.totals.macs_share_int8 < share:
        raise AssertionError(_too_few_macs(found, share))


def _too_few_macs(found: Report, share: float) -> str:
    heaviest = sorted((row for row in found.rows if row.kind is Kind.FLOAT and row.macs), key=lambda row: -row.macs_share)
    lines = [f"{format_share(found.totals.macs_share_int8)} of the MACs are in int8, less than {format_share(share)}; in float are:"]
    for row in heaviest[:_SHOWN]:
        why = "not decided yet" if row.reason is None else row.reason.detail
        lines.append(f"  {row.what}, {format_share(row.macs_share)} of the MACs: {why}")
    return "\n".join(lines)


# --- numbers ---------------------------------------------------------------------------------------------------------------


def assert_min_sqnr(
    float_model: nn.Module, int8_model: nn.Module, batches: Iterable[Any], min_db: float, *, layers: str | None = None
) -> None:
    """The int8 model's results have at least this SQNR, in dB, over all batches; with `layers`, the values of these layers too.

    Args:
        float_model, int8_model, batches: as for fxq.compare.
        layers: a pattern as for assert_int8.

    Raises:
        AssertionError: they have less; says which layers lose most.
        ConfigError: the pattern matches nothing, or the models do not belong together.
    """
    found = compare(float_model, int8_model, batches, progress=False)
    low = [f"the output has {found.output.sqnr_db:.1f} dB"] if found.output.sqnr_db < min_db else []
    if layers is not None:
        by_layer = {_Layer(row.name, row.what, (row.name, row.module)): row for row in found.rows}
        matching = [row for layer, row in by_layer.items() if layer.matches(layers)]
        if not matching:
            raise _no_match(layers, list(by_layer))
        low += [f"{row.what} has {row.so_far.sqnr_db:.1f} dB" for row in matching if row.so_far.sqnr_db < min_db][:_SHOWN]
    if low:
        worst = (f"  {row.what}: {row.damage_db:.1f} dB" for row in found.rows[:_SHOWN] if row.kind in ROUNDED)
        raise AssertionError("\n".join((f"{', '.join(low)}: less than {min_db:.1f} dB; most is lost in", *worst)))


# --- the graph -------------------------------------------------------------------------------------------------------------


def graph_snapshot(model: nn.Module) -> str:
    """The model as text that only changes with its structure: every call, its dtype and shape, what was fused into it, why it is float.

    Scales and zero points are left out: they depend on the data, and in the last digit on the machine. fxq.diff compares these.

    Raises:
        StageError: the model is not one of fxq's.
    """
    found = report(model)
    assert isinstance(model, FxqModule)
    lines = [f"# stage {found.stage}, profile {found.profile}"]
    for graph in graphs_of(model):
        lines += [] if graph is model else ["", f"# graph {graph.path or 'inside the model'}"]
        lines += [_NUMBERS.sub("", _line(node, graph)) for node in graph.graph.nodes if node.op != "get_attr"]
    return "\n".join(lines) + "\n"


def _line(node: Node, graph: FxqModule) -> str:
    if node.op == "output":
        return f"output {format_value(node.args[0])}"
    found = format_type(type_of(node))
    origins, quant = origins_in_model(node, graph), quant_of(node)
    notes = [" + ".join(map(describe_origin, origins))] if len(origins) > 1 else []
    notes += [f"float: {quant.reason.why.value}"] if quant is not None and quant.reason is not None and kind_of(node) is Kind.FLOAT else []
    return f"{node.name}{': ' + found if found else ''} = {format_node(node)}" + (f"  # {'; '.join(notes)}" if notes else "")


def assert_graph_snapshot(model: nn.Module, path: str | os.PathLike[str], *, update: bool = False) -> None:
    """The model's `graph_snapshot` is what the file says. FXQ_UPDATE_SNAPSHOTS=1, or `update`, writes it instead.

    Raises:
        AssertionError: it is not, or there is no file; shows the lines that differ.
        DataError: the file cannot be read or written.
    """
    found, place = graph_snapshot(model), Path(path)
    try:
        if update or os.environ.get("FXQ_UPDATE_SNAPSHOTS") == "1":
            place.write_text(found, encoding="utf-8")
            return
        expected = place.read_text(encoding="utf-8") if place.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), expected="a text file", found=str(error), remedy="check the path") from error
    if expected is None:
        raise AssertionError(f"there is no snapshot {path}; {_HOW_TO_WRITE}, look at it and commit it")
    if expected != found:
        lines = unified_diff(expected.splitlines(), found.splitlines(), f"{path}", "the model", lineterm="", n=1)
        raise AssertionError("\n".join(("the graph has changed:", *lines, f"if that is meant, {_HOW_TO_WRITE}")))
