"""Folds batch norms into weights and attaches activations and residuals to the op in front of them."""

from __future__ import annotations

from fxq.graph.module import FxqModule
from fxq.passes.pipeline import Context
from fxq.patterns.fusions import FUSIONS
from fxq.patterns.rules import rewrite
from fxq.patterns.trainable import TRAINABLE


def fuse(module: FxqModule, context: Context) -> int:
    """relu(bn(conv(x)) + r) → conv'(x, residual=r, act=relu), the other rows of FUSIONS, and the user's rules after them."""
    return len(rewrite(module, (*FUSIONS, *context.rules)))


def attach(module: FxqModule, context: Context) -> int:
    """fuse for a model in training: TRAINABLE in place of FUSIONS. The user's rules come after, as there."""
    return len(rewrite(module, (*TRAINABLE, *context.rules)))
