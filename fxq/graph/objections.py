"""Why a particular call of an op has no integer form, whoever asks: objections of rows in OPS."""

from __future__ import annotations

import math

from torch.fx import Node

from fxq.graph.annotation import tensor_type
from fxq.graph.opdef import Operands
from fxq.graph.reasons import Reason, Why


def in_training(node: str, operands: Operands) -> Reason | None:
    """The op draws random numbers or uses statistics of the batch."""
    if not operands["training"]:
        return None
    return Reason(Why.TRAINING, node, "it is in training mode; call model.eval() before prepare_fx")


def changes_rows(node: str, operands: Operands) -> Reason | None:
    """Rows that are too long are shortened in the weight itself, as they are read."""
    if operands["max_norm"] is None:
        return None
    return Reason(Why.MUTATED, node, f"max_norm={operands['max_norm']} changes rows as they are read; normalize them before")


def border_not_0(node: str, operands: Operands) -> Reason | None:
    """Qparams stay only if the border is a value that every range contains, or −∞, a border for max pools: any range has a lowest."""
    if not operands["value"] or operands["value"] == -math.inf:
        return None
    return Reason(Why.OPERAND, node, f"its border is {operands['value']}, and the range of its input need not contain that")


def copies_number(node: str, operands: Operands) -> Reason | None:
    """The result has the qparams of its tensors, and of all numbers only 0 is sure to be in their range."""
    values = [operands[name] for name in ("input", "other")]
    if not any(isinstance(value, Node) for value in values):
        return Reason(Why.OPERAND, node, "it copies nothing but numbers")
    number = next((value for value in values if _is_number(value) and value != 0), None)
    if number is None:
        return None
    return Reason(Why.OPERAND, node, f"it copies the number {number}, and the range of its other values need not contain that")


def _is_number(value: object) -> bool:
    """A number, or a tensor of one: the −1e9 of a mask, say."""
    found = tensor_type(value) if isinstance(value, Node) else None
    return not isinstance(value, Node) or (found is not None and found.numel == 1)


def bounds_without_0(node: str, operands: Operands) -> Reason | None:
    """Qparams stay only if the bounds are in the input's range, or beyond it on both sides: every range contains 0."""
    low, high = operands["min"], operands["max"]
    if not ((isinstance(low, int | float) and low > 0) or (isinstance(high, int | float) and high < 0)):
        return None
    return Reason(Why.OPERAND, node, f"its bounds, {low} and {high}, leave 0 out, and the range of its input need not reach that far")


def steep_power(node: str, operands: Operands) -> Reason | None:
    """Near a pole the result for neighbouring integers differs by more than all other results do."""
    if operands["exponent"] >= 0:
        return None
    return Reason(Why.OPERAND, node, f"x^{operands['exponent']} has no bounds near 0, where the steps of 8 bits are too coarse for it")


def divides_by_tensor(node: str, operands: Operands) -> Reason | None:
    """Only a division by a number is a unary function."""
    if isinstance(operands["other"], int | float):
        return None
    return Reason(Why.OPERAND, node, f"it divides by {operands['other']}, not by a number")


def masked(node: str, operands: Operands) -> Reason | None:
    """docs/decisions/0007-attention.md: int8 products with a masked softmax between them take longer than one op in float."""
    if operands["dropout"]:
        return Reason(Why.TRAINING, node, f"it drops {operands['dropout']} of the weights; call model.eval() before prepare_fx")
    if operands["mask"] is not None or operands["is_causal"]:
        return Reason(Why.OPERAND, node, "with a mask it is one op in float, which is faster than int8 products around a masked softmax")
    return None


def one_image(node: str, operands: Operands) -> Reason | None:
    """The integer form counts on a batch dimension."""
    found = tensor_type(operands["input"])
    if found is None or len(found.shape) == operands["rank"] + 2:
        return None
    return Reason(Why.OPERAND, node, f"its input has no batch dimension: {list(found.shape)}")


def not_resized(node: str, operands: Operands) -> Reason | None:
    """Nearest and bilinear have integer forms."""
    if operands["mode"] in ("nearest", "nearest-exact", "linear", "bilinear") and not operands["antialias"]:
        return None
    mode = f"{operands['mode']} with antialias" if operands["antialias"] else operands["mode"]
    return Reason(Why.OPERAND, node, f"interpolation by {mode} has no integer form")
