"""Rewrites float ops that have no integer form of their own into ops that have one."""

from __future__ import annotations

from fxq.graph.constants import remove_unread_tensors
from fxq.graph.module import FxqModule
from fxq.passes.pipeline import Context
from fxq.patterns.decompositions import DECOMPOSITIONS
from fxq.patterns.rules import rewrite
from fxq.patterns.trainable import TRAINABLE_DECOMPOSITIONS


def decompose(module: FxqModule, context: Context) -> int:
    """bn(x) → conv(x, groups=channels), and the other rows of DECOMPOSITIONS, where they are to be quantized."""
    applied = rewrite(module, DECOMPOSITIONS)
    if applied:
        remove_unread_tensors(module)  # gains stand where the batch norm's own tensors do, so its module is not left behind
    return len(applied)


def decompose_trainable(module: FxqModule, context: Context) -> int:
    """decompose for a model in training: bn(x) → bn(conv(x, 1)), whose batch norm is trained."""
    return len(rewrite(module, TRAINABLE_DECOMPOSITIONS))
