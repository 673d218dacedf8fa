"""Removes quantization steps that change nothing."""

from __future__ import annotations

from fxq.graph.module import FxqModule
from fxq.passes.pipeline import Context
from fxq.patterns.qdq import QDQ
from fxq.patterns.rules import rewrite


def cancel_qdq(module: FxqModule, context: Context) -> int:
    """q(dq(x, a), a) → x.  Different qparams are a requantize, and stay."""
    return len(rewrite(module, QDQ))
