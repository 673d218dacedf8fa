"""What was trained → canonical ops again, with batch norms folded into their weights: from here on as after calibration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.errors import CalibrationError
from fxq.graph.annotation import update_quant
from fxq.graph.constants import constant_of, merge_reads, remove_unread, replace_constant
from fxq.graph.islands import graphs_of
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call
from fxq.graph.ops import ops_by_name, write_call
from fxq.patterns.fusions import new_weights
from fxq.qat.fake_quantize import DIVERGED, FakeQuantize
from fxq.qat.grouped import GroupedFakeQuantize
from fxq.qat.trained import Folded, TrainedDropout, TrainedNorm, TrainedOp


def fold_trained(module: FxqModule) -> int:
    """TrainedOp(x, @w, @b, @running_mean, ...) → conv(x, @w', @b'), with the weights that training has simulated.

    Returns:
        the number of modules that are gone; 0 for a model that was only calibrated.

    Raises:
        CalibrationError: weights are not finite.
    """
    folded = [node for node, trained in _called(module).items() if _fold(node, trained)]
    if folded:
        merge_reads(module)
        remove_unread(module)
    return len(folded)


def _fold(node: Node, trained: object) -> bool:
    if isinstance(trained, TrainedOp):
        _fold_op(node, trained)
    elif isinstance(trained, TrainedNorm):
        _write(node, "batch_norm", {**dict(zip(trained.names, node.args[1:], strict=True)), "eps": trained.eps})
    elif isinstance(trained, TrainedDropout):
        _write(node, "dropout", {"p": trained.p, "training": False})
    return isinstance(trained, TrainedOp | TrainedNorm | TrainedDropout)


def _fold_op(node: Node, trained: TrainedOp) -> None:
    tensors, fake_quant = tuple(map(_value, node.args)), trained.weight_fake_quant
    if trained.arrival_fake_quant is not None:
        trained.arrival_fake_quant.check_seen()
    with torch.no_grad():
        folded = trained.fold(tensors)
        _require_finite(node, folded)
        if fake_quant is not None and fake_quant.follows_weights:
            fake_quant.observe(folded.weight)
        bias = trained.round_bias(folded.bias)
    op, operands = ops_by_name()[trained.op_name], dict(zip(trained.names, node.args, strict=False))
    call = Call(op, {name: operands.get(name, trained.attributes.get(name)) for name in op.operands})
    write_call(node, call)
    if trained.norm is not None:
        assert bias is not None
        write_call(node, Call(op, {**call.operands, **new_weights(node, call, folded.weight, bias)}))
    elif bias is not None and bias is not folded.bias:
        write_call(node, Call(op, {**call.operands, "bias": replace_constant(call.operands["bias"], bias)}))
    if fake_quant is not None and not isinstance(fake_quant, GroupedFakeQuantize):
        update_quant(node, weight=fake_quant.qparams())


def _value(operand: object) -> Tensor:
    """The tensor that a node reads; anything for one that is computed, whose values fold does not need."""
    found = constant_of(operand) if isinstance(operand, Node) else None
    return torch.zeros(()) if found is None else found


def _write(node: Node, name: str, operands: Mapping[str, Any]) -> None:
    op = ops_by_name()[name]
    defaults = {each: parameter.default for each, parameter in op.signature.parameters.items()}
    known = {each: value for each, value in operands.items() if each in defaults}
    write_call(node, Call(op, {**defaults, **known, "input": node.args[0]}))


def _require_finite(node: Node, folded: Folded) -> None:
    """Raises CalibrationError: ranges that are frozen or learned do not see that weights have become NaN."""
    for role, value in (("weight", folded.weight), ("bias", folded.bias)):
        if value is not None and not bool(torch.isfinite(value).all()):
            raise CalibrationError(
                f"{role} of {node.name}",
                expected="finite values after training",
                found=f"{int((~torch.isfinite(value)).sum())} of {value.numel()} that are NaN or infinite",
                remedy=DIVERGED,
            )


def _called(module: FxqModule) -> dict[Node, object]:
    return {node: module.get_submodule(str(node.target)) for node in module.graph.find_nodes(op="call_module")}


def warn_if_untrained(module: FxqModule) -> None:
    """A warning where batches went through the model in training mode, and all weights are what they were when it was prepared."""
    called = {node: each for graph in graphs_of(module) for node, each in _called(graph).items()}
    was_run = any(isinstance(each, FakeQuantize) and not each.forgets and each.batches for each in module.modules())
    trained = {node: each for node, each in called.items() if isinstance(each, TrainedOp)}
    if was_run and trained and all(_is_as_prepared(node, each) for node, each in trained.items()):
        warnings.warn(
            "convert_fx: no weight has changed since prepare_qat_fx. It copies the model: an optimizer that was made before it "
            "trains the parameters of the float model. Make the optimizer from prepared.parameters().",
            UserWarning,
            stacklevel=5,  # where convert_fx is called
        )


def _is_as_prepared(node: Node, trained: TrainedOp) -> bool:
    weight = _value(dict(zip(trained.names, node.args, strict=False))["weight"])
    return float(weight.detach().sum(dtype=torch.float64)) == trained.first_sum
