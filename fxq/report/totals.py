"""Sums over the rows of a report."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel, ConfigDict

from fxq.graph.reasons import Why
from fxq.report.kinds import IN_INT8, Kind
from fxq.report.rows import Row


class ReasonGroup(BaseModel):
    """The nodes that stay float for one kind of reason, in order.

    Attributes:
        why: the kind of reason.
        count: number of nodes.
        macs: their multiply-accumulates.
        nodes: their names.
    """

    model_config = ConfigDict(frozen=True)

    why: Why
    count: int
    macs: int
    nodes: tuple[str, ...]


class Totals(BaseModel):
    """The whole model in a few numbers. Raw: bytes, MACs, shares from 0 to 1.

    Attributes:
        nodes: all nodes of the graph.
        kinds: how many there are of each kind that occurs.
        macs, macs_int8: multiply-accumulates for the example inputs, and those of int8 nodes.
        macs_compiled: those of int8 nodes that run as machine code.
        not_counted: nodes whose MACs fxq can't tell; they are in neither number.
        heavy, heavy_int8: conv, linear and other nodes that multiply matrices, and the int8 ones among them.
        weight_bytes, weight_bytes_float32: tensors and constants as stored, and those of the same ops in float32.
        reasons: why nodes stay float; most MACs first, then most nodes.
    """

    model_config = ConfigDict(frozen=True)

    nodes: int
    kinds: dict[Kind, int]
    macs: int
    macs_int8: int
    macs_compiled: int
    not_counted: tuple[str, ...]
    heavy: int
    heavy_int8: int
    weight_bytes: int
    weight_bytes_float32: int
    reasons: tuple[ReasonGroup, ...]

    @property
    def macs_share_int8(self) -> float:
        """Share of the MACs that int8 nodes do; 0 where there are none."""
        return self.macs_int8 / self.macs if self.macs else 0.0

    @property
    def macs_share_compiled(self) -> float:
        """Share of the int8 MACs that run as machine code; 0 where there are none."""
        return self.macs_compiled / self.macs_int8 if self.macs_int8 else 0.0

    def count(self, kind: Kind) -> int:
        """Number of nodes of a kind."""
        return self.kinds.get(kind, 0)


def add_up(rows: tuple[Row, ...]) -> Totals:
    """Rows → their totals."""
    int8 = [row for row in rows if row.kind in IN_INT8]
    return Totals(
        nodes=len(rows),
        kinds=dict(Counter(row.kind for row in rows)),
        macs=_macs(rows),
        macs_int8=_macs(int8),
        macs_compiled=_macs([row for row in int8 if row.compiled]),
        not_counted=tuple(row.name for row in rows if row.macs is None),
        heavy=sum(row.is_heavy for row in rows),
        heavy_int8=sum(row.is_heavy for row in int8),
        weight_bytes=sum(row.weight_bytes for row in rows),
        weight_bytes_float32=sum(row.weight_bytes_float32 for row in rows),
        reasons=_group(rows),
    )


def _macs(rows: tuple[Row, ...] | list[Row]) -> int:
    return sum(row.macs or 0 for row in rows)


def _group(rows: tuple[Row, ...]) -> tuple[ReasonGroup, ...]:
    kinds = dict.fromkeys(row.reason.why for row in rows if row.reason is not None)
    groups = [_reason_group(why, [row for row in rows if row.reason is not None and row.reason.why is why]) for why in kinds]
    return tuple(sorted(groups, key=lambda group: (-group.macs, -group.count)))


def _reason_group(why: Why, rows: list[Row]) -> ReasonGroup:
    return ReasonGroup(why=why, count=len(rows), macs=_macs(rows), nodes=tuple(row.name for row in rows))
