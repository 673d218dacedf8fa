"""Conv and Linear → the kernel that computes them, and its constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.linear import Linear
from fxq.runtime.jit.epilogue import header
from fxq.runtime.jit.excess import Excess, SplitWeights, split_weights
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Layout, Planned
from fxq.runtime.jit.kernels.depthwise import accepts_depthwise, plan_depthwise
from fxq.runtime.jit.kernels.gemm import Gemm
from fxq.runtime.jit.kernels.gemm_shape import Window
from fxq.runtime.jit.layers import Operands, layer_constants, layer_form
from fxq.runtime.jit.packing import Constants, pack_parameters, pack_weights
from fxq.runtime.jit.views import Border

# from this many rows of pixels on, threads share them; below, they share the channels
_ROWS_TO_SHARE = 14


def conv_border(op: Conv, _size: Sequence[int]) -> Border:
    """The border of zero points that a convolution reads around an input of any size; others it makes itself."""
    return op.geometry.padding if op.geometry.padding_mode == "zeros" else ((0, 0),) * op.geometry.rank


def plan_conv(op: Conv, operands: Operands, isa: Isa) -> Planned:
    """The best kernel for a convolution on these layouts; x has the border of the op around it."""
    if accepts_depthwise(op, operands):
        return plan_depthwise(op, operands, isa)
    x, y, groups = operands.x, operands.y, op.geometry.groups
    window, weight = _window(op, x), _numpy(op.weight)
    taps = np.moveaxis(weight, 1, -1).reshape(len(weight), -1, window.run)
    constants = layer_constants(taps, op.bias, op.multiplier, signed_input=operands.signed[0])
    kernel = Gemm(
        isa,
        replace(x, channels=x.channels // groups),
        replace(y, channels=y.channels // groups),
        operands.residual,
        window,
        groups,
        layer_form(op, constants, residual_signed=operands.signed[-1]),
        by_panels=(y.size[-2] if len(y.size) > 1 else y.pixels) < _ROWS_TO_SHARE,
    )
    return _planned(kernel, constants, op, operands)


def plan_linear(op: Linear, operands: Operands, isa: Isa) -> Planned:
    """A matrix product: rows are the pixels of all images."""
    x = operands.x
    constants = layer_constants(_numpy(op.weight)[:, None], op.bias, op.multiplier, signed_input=operands.signed[0])
    few_rows = x.pixels < _ROWS_TO_SHARE
    vectors = 4 if few_rows and isa.registers >= 32 else 2
    window = Window(0, (), x.channels, x.strides)
    form = layer_form(op, constants, residual_signed=operands.signed[-1])
    kernel = Gemm(isa, x, operands.y, operands.residual, window, 1, form, vectors, few_rows)
    return _planned(kernel, constants, op, operands)


def _window(op: Conv, x: Layout) -> Window:
    """Neighbouring taps of a row are one run where their bytes are adjacent."""
    geometry, kernel = op.geometry, op.weight.shape[2:]
    channels = op.weight.shape[1]
    steps = [(count, gap * stride) for count, gap, stride in zip(kernel, geometry.dilation, x.strides, strict=True)]
    origin = -sum(before * stride for (before, _), stride in zip(geometry.padding, x.strides, strict=True))
    stride = tuple(step * own for step, own in zip(geometry.stride, x.strides, strict=True))
    if steps[-1][1] == channels:
        return Window(origin, tuple(steps[:-1]), kernel[-1] * channels, stride)
    return Window(origin, tuple(steps), channels, stride)


def _planned(kernel: Gemm, constants: Constants, op: Conv | Linear, operands: Operands) -> Planned:
    natural = kernel.form.floats
    split = _split(kernel, constants)
    kernel, weight = (kernel, constants.weight) if split is None else (_saturating(kernel, split.excess), split.fitting)
    weights = np.concatenate([pack_weights(weight, panel, kernel.dot, natural=natural) for panel in kernel.panels])
    blocks = [pack_parameters(constants, panel, kernel.isa, natural=natural, fused=kernel.form.fused) for panel in kernel.panels]
    parameters = np.concatenate([header(op.output, op.residual, residual_signed=operands.signed[-1]), *blocks])
    excess = (split.places(kernel.window.run_offsets), split.weights()) if split else ()
    return Planned(kernel, (weights, parameters, *excess), constants.weight.size * kernel.y.pixels)


def _split(kernel: Gemm, constants: Constants) -> SplitWeights | None:
    """The weights for a dot product that saturates; None where there is none, or an exact one is as fast."""
    isa = kernel.isa.saturating
    panels = _saturating(kernel, Excess(0)).panels
    return split_weights(constants.weight, panels, isa, natural=kernel.form.floats) if isa else None


def _saturating(kernel: Gemm, excess: Excess) -> Gemm:
    return replace(kernel, excess=excess, vectors=1)


def _numpy(tensor: Tensor) -> NDArray[np.int8]:
    array: NDArray[np.int8] = tensor.detach().numpy()
    return array
