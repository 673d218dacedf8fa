"""What all kernels with weights have in common: the numbers of a layer, as programs need them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.outputs import Output, Residual
from fxq.runtime.jit.epilogue import Form, form_of
from fxq.runtime.jit.kernel import Layout
from fxq.runtime.jit.packing import Constants

# far above any ratio of scales; times what kernels add to bytes it is finite
_LARGE_RATIO = 2.0**30


@dataclass(frozen=True)
class Operands:
    """What a layer with weights reads and writes.

    Attributes:
        x, y, residual: where; no residual where the op has none.
        signed: whether x, and the residual behind it, are int8, stored as q + 128.
    """

    x: Layout
    y: Layout
    residual: Layout | None = None
    signed: tuple[bool, ...] = (False,)


def layer_constants(taps: NDArray[np.int8], bias: Tensor, multiplier: Tensor, *, signed_input: bool) -> Constants:
    """Weights [O, runs, bytes] and the op's own bias and multiplier; for an input stored as q + 128 the bias takes 128·Σw back."""
    shift = 128 * taps.reshape(len(taps), -1).astype(np.int64).sum(1) if signed_input else 0
    wrapped = (bias.numpy().astype(np.int64) - shift).astype(np.int32)
    return Constants(taps, wrapped, multiplier.numpy().astype(np.float32))


def layer_form(op: Conv | Linear, constants: Constants, *, residual_signed: bool = False) -> Form:
    """The epilogue of the layer."""
    form = form_of(op.output, fused=constants.fusable, largest=_largest_value(constants, op.output, op.residual))
    centered = op.residual is not None and op.residual.zero_point == -128 * residual_signed and op.residual.ratio < _LARGE_RATIO
    return replace(form, centered=centered)


def _largest_value(constants: Constants, output: Output, residual: Residual | None) -> float:
    """Bound of |v| before the rounding, in steps of the result; infinite after an activation, which may enlarge it."""
    if output.activation is not None:
        return np.inf
    own = constants.largest_sum * float(constants.multiplier.max(initial=0.0))
    return own + (255 * abs(residual.ratio) if residual else 0.0)
