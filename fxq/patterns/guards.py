"""Conditions of rules: each returns why a match must not be rewritten, or None."""

from __future__ import annotations

from collections.abc import Iterator

from torch.fx import Node
from torch.fx.node import map_arg

from fxq.graph.annotation import asks_for, resolution_of, tensor_type
from fxq.graph.constants import constant_of
from fxq.graph.functional import RELU
from fxq.graph.opdef import Policy
from fxq.graph.ops import call_of
from fxq.graph.reasons import Reason, Why
from fxq.patterns.matcher import Match
from fxq.patterns.rules import Guard


def single_use(label: str) -> Guard:
    """The node's value is read once, by what the rewrite removes."""

    def guard(match: Match) -> Reason | None:
        node = match.nodes[label]
        readers = sorted(user.name for user in node.users for _ in range(_times_read(node, user)))
        if len(readers) == 1:
            return None
        return Reason(Why.SHARED, match.anchor.name, f"{node.name} is read by {', '.join(readers)}")

    return guard


def _times_read(value: Node, reader: Node) -> int:
    """2 for y + y."""
    reads: list[Node] = []
    map_arg((reader.args, reader.kwargs), reads.append)
    return reads.count(value)


def eval_mode(label: str) -> Guard:
    """The op does not depend on statistics of the batch."""

    def guard(match: Match) -> Reason | None:
        if not _operand(match, label, "training"):
            return None
        return Reason(Why.TRAINING, match.anchor.name, f"{match.nodes[label].name} is in training mode; call model.eval() first")

    return guard


def bare(label: str) -> Guard:
    """Nothing has been fused behind the op yet."""

    def guard(match: Match) -> Reason | None:
        fused = [name for name in ("residual", "act") if _operand(match, label, name) is not None]
        if not fused:
            return None
        return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{match.nodes[label].name} already has its {fused[-1]} fused")

    return guard


def lets_factors_through(label: str, var: str) -> Guard:
    """Nothing has been fused behind the op, or a relu alone, which positive factors pass."""

    def guard(match: Match) -> Reason | None:
        factors = constant_of(match.values[var]) if isinstance(match.values[var], Node) else None
        if _operand(match, label, "act") == RELU and _operand(match, label, "residual") is None and factors is not None:
            is_positive = bool((factors > 0).all())
            return (
                None if is_positive else Reason(Why.NOT_FUSABLE, match.anchor.name, f"{match.values[var]} has factors that are not above 0")
            )
        return bare(label)(match)

    return guard


def no_activation(label: str) -> Guard:
    """No activation has been fused behind the op yet."""

    def guard(match: Match) -> Reason | None:
        if _operand(match, label, "act") is None:
            return None
        return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{match.nodes[label].name} already has an activation fused")

    return guard


def constant(label: str, *operands: str) -> Guard:
    """The operands are tensors of the model, or absent."""

    def guard(match: Match) -> Reason | None:
        for name in operands:
            value = _operand(match, label, name)
            if isinstance(value, Node) and value.op != "get_attr":
                return Reason(Why.NOT_CONSTANT, match.anchor.name, f"{name} of {match.nodes[label].name} is computed by {value.name}")
        return None

    return guard


def numbers(label: str, *operands: str) -> Guard:
    """The operands are plain numbers, or absent."""

    def guard(match: Match) -> Reason | None:
        for name in operands:
            value = _operand(match, label, name)
            if value is not None and not isinstance(value, int | float):
                return Reason(Why.NOT_CONSTANT, match.anchor.name, f"{name} of {match.nodes[label].name} is {value}, not a number")
        return None

    return guard


def rank_of_weight(label: str) -> Guard:
    """The value has as many dimensions as the op's weight, so that its channels are dimension 1."""

    def guard(match: Match) -> Reason | None:
        node, weight = match.nodes[label], _operand(match, label, "weight")
        found, kernel = tensor_type(node), tensor_type(weight) if isinstance(weight, Node) else None
        if found is not None and kernel is not None and len(found.shape) == len(kernel.shape):
            return None
        shape = list(found.shape) if found else "of unknown shape"
        return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{node.name} is {shape}, where dimension 1 is not its channels")

    return guard


def per_channel(label: str, var: str) -> Guard:
    """The constant has one element, or one for each channel of the node's weight."""

    def guard(match: Match) -> Reason | None:
        node, other = match.nodes[label], match.values[var]
        weight = _operand(match, label, "weight")
        types = tensor_type(node), tensor_type(weight) if isinstance(weight, Node) else None
        found = tensor_type(other) if isinstance(other, Node) else None
        if found is not None and types[0] is not None and types[1] is not None and found.dtype == types[0].dtype:
            rank, axis = len(types[0].shape), len(types[0].shape) - len(types[1].shape) + 1
            padded = (*[1] * (rank - len(found.shape)), *found.shape)
            if len(padded) == rank and padded[axis] in (1, types[0].shape[axis]) and found.numel == padded[axis]:
                return None
        return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{other} has not one element for each channel of {node.name}")

    return guard


def same_type(label: str, var: str) -> Guard:
    """The operand is a tensor of the node's shape and dtype: nothing is broadcast."""

    def guard(match: Match) -> Reason | None:
        node, other = match.nodes[label], match.values[var]
        if isinstance(other, Node) and other.op != "get_attr" and tensor_type(other) == tensor_type(node):
            return None
        return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{other} has not the shape and dtype of {node.name}")

    return guard


def not_normalized(label: str) -> Guard:
    """No op that normalizes reads the value, behind movement neither: it would spread the rounding of what is in it."""

    def guard(match: Match) -> Reason | None:
        node = match.nodes[label]
        for reader in _readers_behind_movement(node):
            call = call_of(reader)
            if call is not None and call.op.normalizes:
                return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{reader.name} normalizes {node.name}, which stays float for it")
        return None

    return guard


def _readers_behind_movement(node: Node) -> Iterator[Node]:
    """The readers of the node, and those of its elements in other places."""
    found, seen = list(node.users), set(node.users)
    for reader in found:
        call = call_of(reader)
        if call is not None and call.op.policy is Policy.MOVES:
            found += (behind for behind in reader.users if behind not in seen)
            seen.update(reader.users)
        yield reader


def matrix(var: str) -> Guard:
    """The constant has two dimensions."""

    def guard(match: Match) -> Reason | None:
        constant = match.values[var]
        found = tensor_type(constant)
        if found is not None and len(found.shape) == 2:
            return None
        return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{constant} is {list(found.shape) if found else 'no tensor'}, not a matrix")

    return guard


def equals(label: str, operand: str, expected: object) -> Guard:
    """An attribute has the given value."""

    def guard(match: Match) -> Reason | None:
        found = _operand(match, label, operand)
        if found == expected:
            return None
        return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{operand} is {found}, not {expected}")

    return guard


def not_switched_off(label: str) -> Guard:
    """No rule of the QConfigMapping keeps this very op float."""

    def guard(match: Match) -> Reason | None:
        node = match.nodes[label]
        resolution = resolution_of(node)
        if resolution is None or resolution.qconfig is not None or not resolution.explicit:
            return None
        return Reason(Why.SWITCHED_OFF, match.anchor.name, f"{node.name} is kept float by {resolution.rule}")

    return guard


def computed(var: str) -> Guard:
    """The operand is the result of a call, which can take what is said of the op."""

    def guard(match: Match) -> Reason | None:
        operand = match.values[var]
        if isinstance(operand, Node) and operand.op.startswith("call_"):
            return None
        return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{operand} is no result of a call")

    return guard


def not_dynamic(label: str) -> Guard:
    """The op does not read and write float, whatever is inside."""

    def guard(match: Match) -> Reason | None:
        node = match.nodes[label]
        return Reason(Why.DYNAMIC, node.name, "its sum is float, and added in float") if asks_for(node, float_outside=True) else None

    return guard


def is_quantized(label: str) -> Guard:
    """The QConfigMapping gives the op a qconfig that is calibrated."""

    def guard(match: Match) -> Reason | None:
        node = match.nodes[label]
        if asks_for(node, float_outside=False):
            return None
        return Reason(Why.NO_QCONFIG, match.anchor.name, f"{node.name} has no qconfig")

    return guard


def has_integer_form(label: str) -> Guard:
    """The op's row has no objection to this very call."""

    def guard(match: Match) -> Reason | None:
        call = match.calls[label]
        return call.op.objection(match.anchor.name, call.operands)

    return guard


def rank_from(label: str, least: int, most: int) -> Guard:
    """The value has so many dimensions."""

    def guard(match: Match) -> Reason | None:
        node = match.nodes[label]
        found = tensor_type(node)
        if found is not None and least <= len(found.shape) <= most:
            return None
        return Reason(Why.NOT_FUSABLE, match.anchor.name, f"{node.name} has not {least} to {most} dimensions")

    return guard


def _operand(match: Match, label: str, name: str) -> object:
    return match.calls[label].operands.get(name)
