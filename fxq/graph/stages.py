"""The stages of the compilation."""

from __future__ import annotations

from enum import IntEnum


class Stage(IntEnum):
    """How far a graph has come."""

    TRACED = 1  # the calls that the model makes
    FUSED = 2  # canonical ops; batch norms folded, activations and residuals attached
    ANNOTATED = 3  # every node has a NodeQuant, every quantized value a sharing group
    OBSERVED = 4  # one observer per sharing group
    REFERENCE = 5  # float ops between quantize and dequantize
    LOWERED = 6  # integer ops
