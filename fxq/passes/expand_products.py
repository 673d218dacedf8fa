"""Writes out einsum, addmm, addcmul, glu, and what is to be int8 of bilinear layers and attention."""

from __future__ import annotations

from fxq.graph.module import FxqModule
from fxq.passes.pipeline import Context
from fxq.patterns.products import PRODUCTS
from fxq.patterns.rules import rewrite


def expand_products(module: FxqModule, context: Context) -> int:
    """einsum("bqd,bkd->bqk", q, k) → matmul(q, permute(k, (0, 2, 1))), and the other rows of PRODUCTS."""
    return len(rewrite(module, PRODUCTS))
