"""STEPS: how each function of a region is planned. What has no row here is not compiled, and stays with the integer ops."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from fxq.graph import functional, movement, products
from fxq.runtime.assumptions import assume
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.integer.binary import Add, AddFixedPoint, Mul, Sub
from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.conv_transpose import ConvTranspose
from fxq.runtime.integer.elementwise import PRelu
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.matmul import MatMul
from fxq.runtime.integer.norm import GroupNorm, LayerNorm
from fxq.runtime.integer.pool import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool, Mean, Sum
from fxq.runtime.integer.resize import Bilinear, Nearest
from fxq.runtime.integer.softmax import Softmax
from fxq.runtime.integer.table import Table
from fxq.runtime.jit.attend import drops_nothing, plan_attention
from fxq.runtime.jit.floats import ARITHMETIC, CURVED, curve_of, plan_arithmetic, plan_curve, plan_dynamic_linear, plan_float_norm
from fxq.runtime.jit.kernels.conv import conv_border, plan_conv, plan_linear
from fxq.runtime.jit.kernels.conv_transpose import phase_convs, transposed_border
from fxq.runtime.jit.kernels.elementwise import plan_clip, plan_table
from fxq.runtime.jit.kernels.pool import plan_max_pool, plan_mean_pool
from fxq.runtime.jit.kernels.prelu import plan_prelu
from fxq.runtime.jit.kernels.quantize import FloatTensor, plan_dequantize, plan_quantize
from fxq.runtime.jit.kernels.resize import plan_bilinear, plan_nearest
from fxq.runtime.jit.layers import Operands
from fxq.runtime.jit.moves import (
    RESHAPES,
    SHUFFLES,
    plan_alias,
    plan_cat,
    plan_flip,
    plan_nothing,
    plan_repeat_interleave,
    plan_setitem,
    plan_shuffle,
    plan_stack,
    plan_view,
)
from fxq.runtime.jit.norms import plan_group_norm_step, plan_layer_norm_step, plan_softmax_step
from fxq.runtime.jit.pieces import bordered, plan_pad, plan_pieces
from fxq.runtime.jit.planner import Frame, KernelCall, Kind, Site, Unplannable
from fxq.runtime.jit.pointwise import CHOICES, plan_binary_step, plan_choice
from fxq.runtime.jit.products import plan_matmul_step
from fxq.runtime.jit.reductions import plan_extreme, plan_mean
from fxq.runtime.jit.views import Border, View, channels_last, row_major
from fxq.runtime.region import Step, fill_in

# (step, values so far) → sizes of its result
Shape = Callable[[Step, Mapping[int, Any]], Sequence[int]]


@dataclass(frozen=True)
class StepRow:
    """How a function is planned.

    Attributes:
        function: a class of integer ops, or a function.
        plan: places the result and appends calls.
        writes: whether the result can be written anywhere, a part of a concatenation included.
        accepts: whether an op of this class is compiled at all; shapes are not known then.
        border: of zero points that it reads around its first operand, whose size is given.
        order: the memory order that it reads operands in best, by their rank; None for the one that its readers like best.
        shape: of the result, for rows whose steps need not be run to know it.
        floats: it reads and writes floats only; bytes, whatever they stand for, are left to torch.
        bytes: it reads and writes bytes only; floats are left to torch.
        vectors: tensors of one dimension will do; others need a batch in front.
        constants: it takes vectors of the model as they are; rows of floats do anyway.
    """

    function: Any
    plan: Callable[[Site], None]
    writes: bool = False
    accepts: Callable[[Step], bool] = lambda step: True
    border: Callable[[Any, Sequence[int]], Border] | None = None
    order: Callable[[int], tuple[int, ...]] | None = None
    shape: Shape | None = None
    floats: bool = False
    bytes: bool = False
    vectors: bool = False
    constants: bool = False


# ---- ops that compute


def _plan_conv(site: Site) -> None:
    op: Any = site.step.function
    geometry, y = op.geometry, site.planner.place(site.value)
    x = site.image(0) if geometry.padding_mode == "zeros" else bordered(site, geometry.padding, geometry.padding_mode)
    order = channels_last(len(x.shape))
    residual = site.image(1) if len(site.step.args) > 1 else None
    operands = Operands(x.layout(order), y.layout(order), residual.layout(order) if residual else None, site.signed)
    planned = plan_conv(op, operands, site.planner.isa)
    site.call(planned, x=x, y=y, **({"residual": residual} if residual else {}))


def _plan_conv_transpose(site: Site) -> None:
    op: Any = site.step.function
    x, y = site.image(0), site.planner.place(site.value)
    order, calls = channels_last(len(x.shape)), []
    for phase in phase_convs(op, x.shape[2:]):
        part = y.moved(operator.itemgetter((slice(None), slice(None), *phase.outputs)))
        assert part is not None, "strides can say every other pixel"
        planned = plan_conv(phase.op, Operands(x.layout(order), part.layout(order), signed=site.signed), site.planner.isa)
        calls.append(KernelCall(planned, {"x": x, "y": part}))
    site.planner.call_together(site.step.name, calls)


def _plan_linear(site: Site) -> None:
    op: Any = site.step.function
    order = row_major(len(site.view(0).shape))
    x = site.in_order(0, order)
    y = site.planner.place(site.value, order)
    residual = site.in_order(1, order) if len(site.step.args) > 1 else None
    operands = Operands(x.layout(order), y.layout(order), residual.layout(order) if residual else None, site.signed)
    planned = plan_linear(op, operands, site.planner.isa)
    site.call(planned, x=x, y=y, **({"residual": residual} if residual else {}))


def _plan_max_pool(site: Site) -> None:
    op: Any = site.step.function
    x, y = site.image(0), site.planner.place(site.value)
    order = channels_last(len(x.shape))
    site.call(plan_max_pool(op, x.layout(order), y.layout(order), site.planner.isa), x=x, y=y)


def _plan_mean_pool(site: Site) -> None:
    op: Any = site.step.function
    x, y = site.image(0), site.planner.place(site.value)
    order = channels_last(len(x.shape))
    site.call(plan_mean_pool(op, x.layout(order), y.layout(order), site.planner.isa, signed=site.signed[0]), x=x, y=y)


def _plan_table(site: Site) -> None:
    op: Any = site.step.function
    y = site.planner.place(site.value, site.view(0).memory_order)
    order = y.memory_order
    x = site.in_order(0, order)
    site.call(plan_table(op, x.layout(order), y.layout(order), site.planner.isa), x=x, y=y)


def _plan_clamp(site: Site) -> None:
    """Of integers, whose bounds are integers, too."""
    y = site.planner.place(site.value, site.view(0).memory_order)
    order = y.memory_order
    x, stored = site.in_order(0, order), 128 * site.kind.signed
    bounds = (site.step.kwargs["min"] + stored, site.step.kwargs["max"] + stored)
    site.call(plan_clip(bounds, x.layout(order), y.layout(order), site.planner.isa), x=x, y=y)


def _plan_prelu(site: Site) -> None:
    op: Any = site.step.function
    x, y = site.image(0), site.planner.place(site.value)
    order = channels_last(len(x.shape))
    site.call(plan_prelu(op, x.layout(order), y.layout(order), site.planner.isa, signed=site.signed[0]), x=x, y=y)


def _plan_resize(site: Site) -> None:
    op: Any = site.step.function
    x, y = site.image(0), site.planner.place(site.value)
    order, plan = channels_last(len(x.shape)), plan_nearest if isinstance(op, Nearest) else plan_bilinear
    site.call(plan(op, x.layout(order), y.layout(order), site.planner.isa), x=x, y=y)


def _plan_quantize(site: Site) -> None:
    x, y = site.view(0), site.planner.place(site.value, site.planner.orders.get(site.value))
    order = y.memory_order
    site.call(plan_quantize(site.step.kwargs, _floats(x, order), y.layout(order), site.planner.isa), x=x, y=y)


def _plan_dequantize(site: Site) -> None:
    order = row_major(len(site.kind.shape))
    x, y = site.in_order(0, order), site.planner.place(site.value, order)
    site.call(plan_dequantize(site.step.kwargs, x.layout(order), _floats(y, order), site.planner.isa), x=x, y=y)


def _floats(view: View, order: tuple[int, ...]) -> FloatTensor:
    return FloatTensor(view.layout(order), view.strides[order[-1]] * view.element)


# ---- the table


def _is_undilated(step: Step) -> bool:
    op: Any = step.function
    return all(gap == 1 for gap in op.geometry.dilation)


def _is_per_tensor(step: Step) -> bool:
    return isinstance(step.kwargs.get("scale"), float) and step.kwargs.get("qmax", 255) <= 255


def _keeps_shape(step: Step) -> bool:
    return step.kwargs.get("dims", ()) is not None


def _selects_known(step: Step) -> bool:
    return isinstance(step.kwargs["index"], Tensor)


def _adds_borders(step: Step) -> bool:
    return step.kwargs.get("mode", "constant") == "constant" or all(isinstance(cells, int) and cells >= 0 for cells in step.kwargs["pad"])


def _has_sizes(step: Step) -> bool:
    op: Any = step.function
    return bool(op.in_features and op.out_features)


def _alike(step: Step, values: Mapping[int, Any]) -> Sequence[int]:
    shape: Sequence[int] = values[step.reads[0]].shape
    return shape


def _broadcast(step: Step, values: Mapping[int, Any]) -> Sequence[int]:
    shapes = [operand.shape for operand in fill_in(step.args, values) if isinstance(operand, Tensor)]
    return torch.Size(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]


def _attended(step: Step, values: Mapping[int, Any]) -> Sequence[int]:
    query, _, value = (values[argument.index].shape for argument in step.args)
    return (*query[:-1], value[-1])


def _projected(step: Step, values: Mapping[int, Any]) -> Sequence[int]:
    op: Any = step.function
    return (*_alike(step, values)[:-1], op.out_features)


_float_row = partial(StepRow, order=row_major, floats=True)
_byte_row = partial(StepRow, writes=True, bytes=True)


def _is_curve(step: Step) -> bool:
    return curve_of(step) is not None


def _is_plain(step: Step) -> bool:
    return step.kwargs.get("alpha", 1) == 1 and step.kwargs.get("act") is None


def _is_of_rows(step: Step) -> bool:
    return len(step.kwargs.get("normalized_shape", ())) == 1


_VIEWS = (
    movement.permute,
    movement.transpose,
    movement.movedim,
    movement.squeeze,
    movement.unsqueeze,
    movement.chunk,
    movement.split,
    movement.tensor_split,
    movement.narrow,
    movement.select,
    movement.expand,
    movement.unbind,
    movement.unfold,
    movement.getitem,
)
_ALIASES = (movement.contiguous, movement.clone, movement.identity, movement.dropout)
# of sizes: a program is for one set of shapes, and what a trace has assumed of them is checked when it is planned
_SIZES = (
    movement.size, movement.dim, movement.numel, movement.pieces, len, assume, operator.getitem, operator.add, operator.sub, operator.mul,
    operator.floordiv, operator.mod, operator.truediv, operator.neg, operator.eq, operator.ne, operator.lt, operator.le, operator.gt,
    operator.ge, operator.not_, math.sqrt,
)  # fmt: skip

STEPS: tuple[StepRow, ...] = (
    StepRow(Conv, _plan_conv, writes=True, border=conv_border, order=channels_last),
    StepRow(ConvTranspose, _plan_conv_transpose, writes=True, border=transposed_border, order=channels_last),
    StepRow(Linear, _plan_linear, order=row_major),
    _float_row(DynamicLinear, plan_dynamic_linear, shape=_projected, accepts=_has_sizes),
    _float_row(functional.layer_norm, plan_float_norm, shape=_alike, accepts=_is_of_rows),
    _float_row(functional.rms_norm, plan_float_norm, shape=_alike, accepts=_is_of_rows),
    StepRow(products.attention, plan_attention, shape=_attended, accepts=drops_nothing, floats=True),
    *(_float_row(function, plan_arithmetic, shape=_broadcast, accepts=_is_plain) for function in ARITHMETIC),
    *(_float_row(function, plan_curve, shape=_alike, accepts=_is_curve) for function in CURVED),
    StepRow(MatMul, plan_matmul_step, order=row_major, vectors=True),
    *(StepRow(op, plan_binary_step, writes=True, vectors=True) for op in (Add, Sub, AddFixedPoint, Mul)),
    *(_byte_row(function, plan_choice, vectors=True) for function in CHOICES),
    StepRow(Table, _plan_table, writes=True, vectors=True),
    _byte_row(functional.clamp, _plan_clamp, vectors=True),
    StepRow(PRelu, _plan_prelu, writes=True, order=channels_last),
    StepRow(Softmax, plan_softmax_step),
    StepRow(LayerNorm, plan_layer_norm_step, order=row_major),
    StepRow(GroupNorm, plan_group_norm_step, writes=True, order=channels_last),
    StepRow(Nearest, _plan_resize, writes=True, order=channels_last),
    StepRow(Bilinear, _plan_resize, writes=True, order=channels_last),
    StepRow(MaxPool, _plan_max_pool, writes=True, accepts=_is_undilated, order=channels_last),
    StepRow(AdaptiveMaxPool, _plan_max_pool, writes=True, order=channels_last),
    StepRow(AvgPool, _plan_mean_pool, writes=True, order=channels_last),
    StepRow(AdaptiveAvgPool, _plan_mean_pool, writes=True, order=channels_last),
    StepRow(Mean, plan_mean, vectors=True),
    StepRow(Sum, plan_mean, vectors=True),
    *(_byte_row(function, plan_extreme, writes=False, vectors=True) for function in (functional.amax, functional.amin)),
    StepRow(functional.quantize, _plan_quantize, writes=True, accepts=_is_per_tensor, vectors=True),
    StepRow(functional.dequantize, _plan_dequantize, accepts=_is_per_tensor, vectors=True),
    StepRow(movement.cat, plan_cat, writes=True),
    StepRow(movement.stack, plan_stack, writes=True),
    *(StepRow(function, plan_shuffle, writes=True) for function in SHUFFLES),
    *(StepRow(function, plan_pieces, writes=True, accepts=_keeps_shape) for function in (movement.roll, movement.repeat)),
    StepRow(movement.index_select, plan_pieces, writes=True, accepts=_selects_known, constants=True),
    StepRow(movement.flip, plan_flip, writes=True),
    StepRow(movement.repeat_interleave, plan_repeat_interleave, writes=True),
    _byte_row(movement.setitem, plan_setitem),
    _byte_row(movement.pad, plan_pad, accepts=_adds_borders),
    *(StepRow(function, plan_view, order=row_major, vectors=True) for function in RESHAPES),
    *(StepRow(function, plan_view, vectors=True) for function in _VIEWS),
    *(StepRow(function, plan_alias, vectors=True) for function in _ALIASES),
    *(StepRow(function, plan_nothing) for function in _SIZES),
)


@cache
def _rows() -> Mapping[Any, StepRow]:
    return {row.function: row for row in STEPS}


def row_of(step: Step) -> StepRow | None:
    """The row of a step's function; None where it is not compiled."""
    row = _rows().get(step.function) or _rows().get(type(step.function))
    return row if row is not None and row.accepts(step) else None


def frame_of(step: Step, operand: Kind) -> Frame | None:
    """The border that a step reads around its first operand."""
    row, op = row_of(step), step.function
    if row is None or row.border is None:
        return None
    rank = op.geometry.rank  # type: ignore[attr-defined]
    if len(operand.shape) != rank + 2:
        raise Unplannable(f"is given {operand.shape}, one image and no batch")
    border = row.border(op, operand.shape[2:])
    return Frame(border, op.input_zero_point + 128 * operand.signed) if any(map(any, border)) else None  # type: ignore[attr-defined]
