"""Numbers of a node that do not depend on the stage: its size, what it takes, and what int8 costs it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fxq.graph.module import FxqModule
from fxq.report import Comparison, TimeProfile
from fxq.report.closeness import Closeness
from fxq.report.rows import make_rows
from fxq.visualize.kernels import KernelCall

# equal values have an infinite SQNR, which JSON cannot say; no two that differ get this far in float32
_EQUAL_DB = 160.0


@dataclass(frozen=True)
class Costs:
    """None is for what is not known, or nothing.

    Attributes:
        macs: multiply-accumulates for the example inputs.
        share: of those of the model, from 0 to 1.
        bytes: of weights.
        ms: milliseconds on one thread.
        sqnr: in dB, of the layer alone in int8.
        sqnr_so_far: in dB, with the errors of all layers before it.
        kernels: that run for it.
    """

    macs: int | None = None
    share: float | None = None
    bytes: int | None = None
    ms: float | None = None
    sqnr: float | None = None
    sqnr_so_far: float | None = None
    kernels: tuple[KernelCall, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What was measured of a model besides."""

    profile: TimeProfile | None = None
    comparison: Comparison | None = None


def make_costs(model: FxqModule, measured: Measured, kernels: Mapping[str, tuple[KernelCall, ...]]) -> dict[str, Costs]:
    """Name of a node → its numbers, of the nodes that have some."""
    times = _times(measured.profile)
    compared = {row.name: row for row in measured.comparison.rows} if measured.comparison is not None else {}
    found: dict[str, Costs] = {}
    for row in make_rows(model):
        other = compared.get(row.name)
        found[row.name] = Costs(
            macs=row.macs or None,
            share=row.macs_share or None,
            bytes=row.weight_bytes or None,
            ms=times.get(row.name),
            sqnr=None if other is None else _decibels(other.alone),
            sqnr_so_far=None if other is None else _decibels(other.so_far),
            kernels=kernels.get(row.name, ()),
        )
    return {name: costs for name, costs in found.items() if costs != Costs()}


def _times(profile: TimeProfile | None) -> dict[str, float]:
    """Name of a node → milliseconds of all kernels that run for it."""
    found: dict[str, float] = {}
    for row in profile.rows if profile is not None else ():
        found[row.name] = found.get(row.name, 0.0) + row.ms
    return found


def _decibels(found: Closeness | None) -> float | None:
    return None if found is None or math.isnan(found.sqnr_db) else max(-_EQUAL_DB, min(found.sqnr_db, _EQUAL_DB))
