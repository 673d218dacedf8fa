"""How steps of float values are planned: dynamic layers, and the float ops between them. Their images are rows of the last dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.graph import elementary, functional
from fxq.runtime.integer.outputs import FloatOutput
from fxq.runtime.jit.kernel import Planned
from fxq.runtime.jit.kernels.dynamic_rows import FLOAT, PAIR_BYTES, QuantizeRows, RowRanges
from fxq.runtime.jit.kernels.float_rows import NUMBER, Arithmetic, Curve, NormForm, NormRows
from fxq.runtime.jit.planner import Site, Unplannable
from fxq.runtime.jit.row_product import gemm_for, pack_product, row_shape
from fxq.runtime.jit.views import View, row_major, strides_in
from fxq.runtime.region import Step, Value

Function = Callable[..., Any]

# float ops that are functions of one element, as CURVES names them, or several forms of them
CURVED: Mapping[Function, str] = {
    functional.relu: "relu",
    functional.sigmoid: "sigmoid",
    functional.tanh: "tanh",
    functional.silu: "silu",
    elementary.neg: "negated",
    elementary.square: "square",
    elementary.pow: "power",
    functional.gelu: "gelu",
}
# (as CURVED has it, what it was asked for) → as CURVES has it
_FORMS: Mapping[tuple[str, Any], str] = {
    ("gelu", "none"): "gelu", ("gelu", "tanh"): "gelu_tanh", ("power", 2): "square", ("power", 3): "cube",
}  # fmt: skip
# and of two, as LLVM names them
ARITHMETIC: Mapping[Function, str] = {functional.add: "fadd", functional.sub: "fsub", functional.mul: "fmul"}
# over rows, and whether these are centered first
NORMS: Mapping[Function, bool] = {functional.layer_norm: True, functional.rms_norm: False}


def plan_dynamic_linear(site: Site) -> None:
    """Bytes of the rows, which other layers that read them share, then their products, and what a function behind makes of them."""
    op: Any = site.step.function
    planner, shape, behind = site.planner, row_shape(op.product), _curve_behind(site)
    if behind is not None:
        planner.done.add(behind.number)
        shape = replace(shape, form=replace(shape.form, activation=curve_of(behind.step)))
    x, y = rows_of(site, 0), rows_at(behind or site)
    quantized, qparams = planner.once((x, op.per_row), lambda: _quantize(site, x, shape.padded, per_row=op.per_row))
    gemm = gemm_for(shape, x.shape[0], planner.isa)
    constants = planner.constants.packed(op, lambda: pack_product(op.product, gemm.panels, planner.isa))
    site.call(Planned(gemm, constants, shape.features * shape.outputs), x=quantized, qparams=qparams, y=y)


def _curve_behind(site: Site) -> Site | None:
    """The function of one element that alone reads a linear layer's result."""
    op: Any = site.step.function
    readers = site.readers
    fits = op.output == FloatOutput() and len(readers) == 1 and not site.is_result
    return readers[0] if fits and curve_of(readers[0].step) is not None else None


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


def curve_of(step: Step) -> str | None:
    """Its key in CURVES; None for what is no function of one element."""
    name = CURVED.get(step.function)
    if name == "gelu":
        return _FORMS.get((name, step.kwargs.get("approximate", "none")))
    return _FORMS.get((name, step.kwargs.get("exponent"))) if name == "power" else name


def plan_curve(site: Site) -> None:
    """Element by element."""
    x, y, function = rows_of(site, 0), rows_at(site), curve_of(site.step)
    assert function is not None, "a curve has a name"
    site.call(Planned(Curve(site.planner.isa, x.shape[1], function), ()), x=x, y=y)


def plan_arithmetic(site: Site) -> None:
    """Two tensors, or one and a row that all of its rows meet. A sum that a norm reads is computed by the norm."""
    norm = next((reader for reader in site.readers if reader.step.function in NORMS), None)
    a, b = (_operand(site, position) for position in range(2))
    instruction, x = ARITHMETIC[site.step.function], a if isinstance(a, View) else b
    assert isinstance(x, View), "a step without tensors computes sizes"
    features, other = x.shape[1], b if x is a else a
    if isinstance(other, np.ndarray):
        kernel = Arithmetic(site.planner.isa, features, instruction, "second" if x is a else "first")
        site.call(Planned(kernel, (other.view(np.uint8),)), x=x, y=rows_at(site))
    elif instruction == "fadd" and norm is not None:
        _plan_sum_and_norm(site, norm, x=x, other=other)
    else:
        site.call(Planned(Arithmetic(site.planner.isa, features, instruction), ()), x=x, other=other, y=rows_at(site))


def _operand(site: Site, position: int) -> View | NDArray[np.float32]:
    """An operand as rows of the result's shape, by a copy where it has to be repeated; numbers and vectors of the model as one row."""
    argument, planner, shape = site.step.args[position], site.planner, site.kind.shape
    if isinstance(argument, Value) and planner.is_tensor(argument.index):
        view = site.view(position)
        return rows_of(site, position) if view.shape == shape else _repeated(site, view)
    number = planner.values[argument.index] if isinstance(argument, Value) else argument
    row = np.asarray(number.detach() if isinstance(number, Tensor) else number, np.float32)
    return np.ascontiguousarray(np.broadcast_to(row, (shape[-1],)))


def _repeated(site: Site, view: View) -> View:
    planner, shape = site.planner, site.kind.shape
    source = view.moved(lambda tensor: tensor.expand(shape))
    assert source is not None, "expanding copies nothing"
    room = planner.scratch(site.step.name, prod(shape[:-1]), FLOAT * shape[-1])
    planner.copy(site.step.name, source, replace(room, shape=shape, strides=strides_in(row_major(len(shape)), shape), element=FLOAT))
    return replace(room, shape=(room.shape[0], shape[-1]), strides=(shape[-1], 1), element=FLOAT)


def plan_float_norm(site: Site) -> None:
    """Over the last dimension."""
    x, y = rows_of(site, 0), rows_at(site)
    site.call(_planned_norm(site, x.shape[1], added=False, kept=False), x=x, y=y)


def _plan_sum_and_norm(site: Site, norm: Site, **summands: View) -> None:
    """The sum is a result of its own where somebody else reads it."""
    site.planner.done.add(norm.number)
    kept = {"sum": rows_at(site)} if site.is_result or len(site.readers) > 1 else {}
    planned = _planned_norm(norm, summands["x"].shape[1], added=True, kept=bool(kept))
    norm.call(planned, **summands, **kept, y=rows_at(norm))


def _planned_norm(site: Site, features: int, *, added: bool, kept: bool) -> Planned:
    gain, shift = (*site.step.args[1:], None, None)[:2]
    if isinstance(gain, Value) or isinstance(shift, Value):
        raise Unplannable("has weights that are computed")
    form = NormForm(NORMS[site.step.function], gained=gain is not None, shifted=shift is not None)
    kernel = NormRows(site.planner.isa, features, added, kept, form)
    parameters = np.zeros(kernel.parameter_bytes // FLOAT, np.float32)
    eps = site.step.kwargs.get("eps", 1e-5)
    parameters[0] = torch.finfo(torch.float32).eps if eps is None else eps
    parameters[NUMBER // FLOAT :] = np.concatenate([[], *(vector.detach().numpy() for vector in (gain, shift) if vector is not None)])
    return Planned(kernel, (parameters.view(np.uint8),))


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
