"""Rewrites float ops that have no integer form of their own into ops that have one."""

from __future__ import annotations

from fxq.graph.module import FxqModule
from fxq.passes.pipeline import Context
from fxq.patterns.decompositions import DECOMPOSITIONS
from fxq.patterns.rules import rewrite


def decompose(module: FxqModule, context: Context) -> int:
    """bn(x) → conv(x, groups=channels), and the other rows of DECOMPOSITIONS, where they are to be quantized."""
    return len(rewrite(module, DECOMPOSITIONS))
