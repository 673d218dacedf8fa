"""What rounding has done to the weights of each int8 layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor, nn
from torch.fx import Node

from fxq.graph.annotation import origins_of
from fxq.graph.constants import constant_of
from fxq.graph.module import FxqModule
from fxq.graph.ops import call_of
from fxq.graph.qtypes import along
from fxq.graph.stages import Stage
from fxq.lowering.requantize import transposed_rows
from fxq.passes import PREPARE, Context, run_pipeline
from fxq.report.closeness import Closeness, closeness
from fxq.report.kinds import called_module
from fxq.report.matching import call_key
from fxq.report.rows import qparams_known
from fxq.runtime.dynamic.conv import DynamicConv
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.conv_transpose import ConvTranspose
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.outputs import FloatOutput
from fxq.runtime.weight_only.op import WeightOnlyOp

_FUSE = tuple(step for step in PREPARE if step.gives <= Stage.FUSED)


def fused_copy(exact: FxqModule, int8: FxqModule) -> FxqModule:
    """The float model with batch norms folded into weights, as they were before they were rounded."""
    assert int8.profile is not None
    return run_pipeline(copy.deepcopy(exact), _FUSE, Context(int8.profile, ops=int8.ops))


def compare_weights(fused: FxqModule, int8: FxqModule) -> Mapping[Node, Closeness]:
    """Int8 layer with weights → its weights beside the float ones. Layers into which other calls were fused are left out.

    Args:
        fused: the float graph of the same part of the model, from `fused_copy`.
    """
    exact = {_calls(node): weight for node in fused.graph.nodes if (weight := _float_weight(node)) is not None}
    found: dict[Node, Closeness] = {}
    for node in int8.graph.nodes:
        rounded, weight = _int8_weight(node), exact.get(_calls(node))
        if rounded is not None and weight is not None and rounded.shape == weight.shape:
            found[node] = closeness([weight], [rounded])
    return found


def _calls(node: Node) -> tuple[object, ...]:
    return tuple(map(call_key, origins_of(node)))


def _float_weight(node: Node) -> Tensor | None:
    """[O, ...], the output channels first."""
    call = call_of(node)
    weight = call.operands.get("weight") if call is not None else None
    tensor = constant_of(weight) if isinstance(weight, Node) else None
    if tensor is None or call is None:
        return None
    return transposed_rows(tensor, call.operands["groups"]) if call.op.name == "conv_transpose" else tensor


def weight_of(module: nn.Module) -> Tensor | None:
    """w' of an op that reads and writes float; None of one with several matrices, or none."""
    if isinstance(module, DynamicLinear | DynamicConv):
        return module.weight * along(module.scale, 0, module.weight.ndim)
    return module.weights.real() if isinstance(module, WeightOnlyOp) else None


def _int8_weight(node: Node) -> Tensor | None:
    """w' = s_w·w_q, [O, ...]. Where x has a known scale s_w[c] = m[c]·s_y/s_x: the multiplier has it to 22 bits."""
    module = called_module(node)
    if isinstance(module, DynamicLinear | DynamicConv | WeightOnlyOp):
        return weight_of(module)
    if not isinstance(module, Conv | Linear | ConvTranspose):
        return None
    x, y = qparams_known(node.all_input_nodes[0]), qparams_known(node)
    assert x is not None
    rows = transposed_rows(module.weight, module.geometry.groups) if isinstance(module, ConvTranspose) else module.weight
    is_real = isinstance(module.output, FloatOutput) or module.output.activation is not None
    scale = module.multiplier / x.scale * (1.0 if is_real or y is None else y.scale)
    return rows.to(scale.dtype) * along(scale, 0, rows.ndim)
