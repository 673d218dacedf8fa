"""What benchmarks.zoo has measured: as values, as JSON, and as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from benchmarks.results import replace_between_marks, write_json
from fxq.report.wording import format_number, format_share


class Family(str, Enum):
    """Architectures that are looked at together."""

    CONVOLUTIONAL = "Classification, convolutional"
    TRANSFORMER = "Classification, with attention"
    SEGMENTATION = "Segmentation"
    DETECTION = "Detection, backbones"
    VIDEO = "Video"


@dataclass(frozen=True)
class Outcome:
    """What became of a model under one compiler.

    Attributes:
        sqnr: dB against float32 on the calibration batches; None where it failed.
        seconds: prepare and convert without calibration, process time; None where it failed.
        error: type and first line of what it failed with.
    """

    sqnr: float | None
    seconds: float | None
    error: str | None


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        shape: of a batch.
        nodes: of the int8 graph.
        macs: multiply-accumulates per sample.
        macs_share_int8: from 0 to 1.
        not_counted: nodes whose MACs fxq can't tell.
        stays_float: "kind of reason: type of op" → nodes.
    """

    name: str
    family: Family
    shape: tuple[int, ...]
    nodes: int
    macs: int
    macs_share_int8: float
    not_counted: tuple[str, ...]
    stays_float: Mapping[str, int]
    fxq: Outcome
    torch_ao: Outcome


# --- JSON -------------------------------------------------------------------------------------------------------------------


def read_results(path: str) -> dict[str, Result]:
    """Name → result of a file of write_results; empty where there is no file."""
    if not Path(path).exists():
        return {}
    return {row["name"]: _result(row) for row in json.loads(Path(path).read_text(encoding="utf-8"))["rows"]}


def _result(row: dict[str, Any]) -> Result:
    outcomes = {key: Outcome(**row[key]) for key in ("fxq", "torch_ao")}
    sequences = {key: tuple(row[key]) for key in ("shape", "not_counted")}
    return Result(**{**row, **outcomes, **sequences, "family": Family(row["family"])})


def write_results(path: str, results: Sequence[Result]) -> None:
    """JSON, with the machine."""
    write_json(path, [asdict(result) for result in results])


# --- text -------------------------------------------------------------------------------------------------------------------


def one_line(result: Result) -> str:
    """For the terminal, while it runs."""
    return " | ".join((result.name, *_numbers(result), _floats(result), result.fxq.error or "", result.torch_ao.error or ""))


def _numbers(result: Result) -> tuple[str, ...]:
    """input, nodes, MACs, share, fxq's and torch.ao's SQNR, seconds."""
    return (
        " × ".join(map(str, result.shape[1:])),
        f"{result.nodes:,}" if result.nodes else "–",
        f"{format_number(result.macs)}" if result.nodes else "–",
        format_share(result.macs_share_int8) + ("*" if result.not_counted else "") if result.nodes else "–",
        _decibels(result.fxq),
        _decibels(result.torch_ao),
        "–" if result.fxq.seconds is None else f"{result.fxq.seconds:.1f}",
    )


def _decibels(outcome: Outcome) -> str:
    return "fails" if outcome.sqnr is None else f"{outcome.sqnr:.1f}"


def _floats(result: Result) -> str:
    """`float-only op`: 12 softmax, 25 layer_norm; ..."""
    groups: dict[str, list[str]] = {}
    for key, count in result.stays_float.items():
        why, _, kind = key.partition(": ")
        groups.setdefault(why, []).append(f"{count} {kind}")
    return "; ".join(f"{why}: {', '.join(kinds)}" for why, kinds in groups.items())


# --- page -------------------------------------------------------------------------------------------------------------------

_COLUMNS = ("model", "input", "nodes", "MACs", "in int8", "fxq dB", "torch.ao dB", "s", "stays float")


def write_page(path: str, results: Sequence[Result], missing: Sequence[str]) -> None:
    """Replaces what the page has of an earlier run.

    Args:
        results: in the order of the tables.
        missing: names of architectures that were not measured.
    """
    tables = [line for family in Family for line in _table(family, results)]
    replace_between_marks(path, "benchmarks.zoo", [*tables, *_missing(missing), *_failures(results)])


def _table(family: Family, results: Sequence[Result]) -> Iterator[str]:
    yield from ("", f"### {family.value}", "", f"| {' | '.join(_COLUMNS)} |", f"|---|---|{'---:|' * 6}---|")
    for result in results:
        if result.family is family:
            yield f"| {' | '.join((result.name, *_numbers(result), _floats(result) or '–'))} |"


def _missing(names: Sequence[str]) -> Iterator[str]:
    if names:
        yield from ("", f"Not measured: {', '.join(names)}.")


def _failures(results: Sequence[Result]) -> Iterator[str]:
    """Every error once, with the models that have it."""
    for compiler in ("fxq", "torch_ao"):
        found: dict[str, list[str]] = {}
        for result in results:
            error = getattr(result, compiler).error
            if error is not None:
                found.setdefault(error, []).append(result.name)
        if found:
            yield from ("", f"### Where {compiler.replace('_', '.')} fails", "", "| error | models |", "|---|---|")
        for error, names in found.items():
            text = error.replace("|", "\\|")
            yield f"| `{text}` | {', '.join(names)} |"
