"""How steps of float values are planned: dynamic layers, and the float ops between them. Their images are rows of the last dimension."""

from __future__ import annotations

from math import prod
from typing import Any

from fxq.runtime.jit.kernel import Planned
from fxq.runtime.jit.kernels.dynamic_rows import PAIR_BYTES, QuantizeRows, RowRanges
from fxq.runtime.jit.planner import Site
from fxq.runtime.jit.row_product import gemm_for, pack_product, row_shape
from fxq.runtime.jit.views import View, row_major


def plan_dynamic_linear(site: Site) -> None:
    """Bytes of the rows, which other layers that read them share, then their products."""
    op: Any = site.step.function
    planner, shape = site.planner, row_shape(op.product)
    x, y = rows_of(site, 0), rows_at(site)
    quantized, qparams = planner.once((x, op.per_row), lambda: _quantize(site, x, shape.padded, per_row=op.per_row))
    gemm = gemm_for(shape, x.shape[0], planner.isa)
    constants = planner.constants.packed(op, lambda: pack_product(op.product, gemm.panels, planner.isa))
    site.call(Planned(gemm, constants, shape.features * shape.outputs), x=quantized, qparams=qparams, y=y)


def _quantize(site: Site, x: View, padded: int, *, per_row: bool) -> tuple[View, ...]:
    """The rows as bytes, and their qparams."""
    planner, name = site.planner, site.step.name
    rows, features = x.shape
    quantized, qparams = (planner.scratch(name, rows, nbytes) for nbytes in (padded, PAIR_BYTES))
    ranges = {}
    if not per_row:
        ranges["ranges"] = planner.scratch(name, rows, PAIR_BYTES)
        site.call(Planned(RowRanges(planner.isa, features), ()), x=x, y=ranges["ranges"])
    site.call(Planned(QuantizeRows(planner.isa, features, padded, not per_row), ()), x=x, **ranges, qparams=qparams, y=quantized)
    return quantized, qparams


def rows_of(site: Site, position: int) -> View:
    """The operand as [rows, features], rows in one piece and one after the other; by a copy where it lies otherwise."""
    rows = _dense_rows(site.view(position))
    return rows or _dense_rows(site.relaid(position, row_major(len(site.view(position).shape)))) or _never()


def rows_at(site: Site) -> View:
    """Where the step writes its result, as [rows, features]."""
    return _dense_rows(site.planner.place(site.value, row_major(len(site.kind.shape)))) or _never()


def _dense_rows(view: View) -> View | None:
    """[rows, features] of [..., features]; None where these are not adjacent."""
    shape = (prod(view.shape[:-1]), view.shape[-1])
    rows = view.moved(lambda tensor: tensor.reshape(shape))
    return rows if rows is not None and _is_dense(rows) else None


def _is_dense(rows: View) -> bool:
    return all(count == 1 or stride == wanted for count, stride, wanted in zip(rows.shape, rows.strides, (rows.shape[1], 1), strict=True))


def _never() -> View:
    raise AssertionError("what is dense in row-major order is rows")
