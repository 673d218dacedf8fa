"""TRAINABLE: the rows of FUSIONS for training. Batch norms are attached to the op in front rather than folded into its weights.

Scales and shifts of layers stay ops of their own: in the weights they could not be trained. So does a product with a matrix that
would have to be transposed to be a weight: a parameter keeps its shape. Dropout stays, and drops.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.fx import Node

from fxq.graph.annotation import AttachedNorm, norm_of, set_norm, tensor_type
from fxq.graph.constants import module_of, owner_of
from fxq.graph.ops import call_of
from fxq.graph.reasons import Reason, Why
from fxq.patterns.decompositions import DECOMPOSITIONS, bn_as_conv, write_unit_conv
from fxq.patterns.fusions import FUSIONS, absorb, fold_bn, fold_scale, fold_shift
from fxq.patterns.matcher import Match
from fxq.patterns.matrices import weigh
from fxq.patterns.rules import Rule

# where everything is kept that training adds to the model
ADDED = "fxq_qat"

_STATISTICS = ("running_mean", "running_var", "weight", "bias")


def describe_norm(bn: Node) -> AttachedNorm:
    """The batch norm that a node calls: its tensors, and how its running statistics move."""
    call = call_of(bn)
    assert call is not None
    paths = {name: str(operand.target) for name in _STATISTICS if isinstance(operand := call.operands[name], Node)}
    path = paths["running_mean"].rpartition(".")[0]
    owner = owner_of(module_of(bn), paths["running_mean"])
    tensors = {name: each.rpartition(".")[2] for name, each in paths.items()}
    momentum = call.operands["momentum"]
    if isinstance(owner, nn.modules.batchnorm._BatchNorm):
        momentum = owner.momentum
        tensors |= {"num_batches_tracked": "num_batches_tracked"} if owner.num_batches_tracked is not None else {}
    return AttachedNorm(owner, path, tensors, momentum, call.operands["eps"])


def attach_bn(match: Match) -> Node:
    """bn(op(x)): the op knows its batch norm"""
    norm = describe_norm(match.anchor)
    target = next(node for label, node in match.nodes.items() if label != "batch_norm")
    set_norm(target, norm)
    return absorb(match, target)


def bn_behind_conv(match: Match) -> Node:
    """bn(x) = bn(conv(x, 1)), one 1×1 kernel for each channel: folded, what bn_as_conv makes."""
    node = match.anchor
    norm, found = describe_norm(node), tensor_type(node)
    assert found is not None
    set_norm(node, norm)
    return write_unit_conv(node, {f"{ADDED}.{node.name}_unit": torch.ones(found.shape[1])})


def _no_norm(match: Match) -> Reason | None:
    """The op has no batch norm yet."""
    attached = next((node for label, node in match.nodes.items() if label != "batch_norm" and norm_of(node) is not None), None)
    return None if attached is None else Reason(Why.NOT_FUSABLE, match.anchor.name, f"{attached.name} has a batch norm already")


def _trainable(rule: Rule) -> Rule:
    if rule.rewrite is fold_bn:
        return replace(rule, when=(*rule.when, _no_norm), rewrite=attach_bn)
    return replace(rule, rewrite=bn_behind_conv) if rule.rewrite is bn_as_conv else rule


def _is_trained_alike(rule: Rule) -> bool:
    return rule.rewrite not in (fold_scale, fold_shift, weigh) and "dropout" not in rule.pattern.ops


TRAINABLE = tuple(_trainable(rule) for rule in FUSIONS if _is_trained_alike(rule))
TRAINABLE_DECOMPOSITIONS = tuple(map(_trainable, DECOMPOSITIONS))
