"""A RowProduct's kernel, and its constants in the kernel's order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.dynamic.product import RowProduct
from fxq.runtime.jit.arena import aligned_copy
from fxq.runtime.jit.epilogue import form_of, header
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernels.dynamic_gemm import DynamicGemm, RowParameters, RowShape, dynamic_gemm
from fxq.runtime.jit.packing import Panel, pack_weights

# quantized rows up to this size stay in the second-level cache while each panel of weights meets all of them
_CACHED_ROWS = 1 << 20


def row_shape(product: RowProduct) -> RowShape:
    """What the code for a product depends on."""
    weights = product.weights
    return RowShape(weights.features, weights.outputs, form_of(product.output), biased=weights.bias is not None)


def gemm_for(shape: RowShape, rows: int, isa: Isa) -> DynamicGemm:
    """The kernel for about that many rows. The order of the weights is the same for any number."""
    return dynamic_gemm(shape, isa, by_panels=rows * shape.features <= _CACHED_ROWS)


def pack_product(product: RowProduct, panels: Sequence[Panel], isa: Isa) -> list[NDArray[np.uint8]]:
    """Weights and parameters."""
    weights = product.weights
    weight, scale = weights.weight.numpy(), weights.scale.numpy()
    bias = np.zeros(weights.outputs, np.float32) if weights.bias is None else weights.bias.numpy()
    parameters = RowParameters(weight.astype(np.int32).sum(1, dtype=np.int32), scale, bias)
    packed = [pack_weights(weight[:, None], panel, isa, natural=True) for panel in panels]
    blocks = [parameters.pack(panel, isa) for panel in panels]
    return [aligned_copy(np.concatenate(parts)) for parts in (packed, [header(product.output), *blocks])]
