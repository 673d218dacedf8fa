"""One observer per sharing group, called on every value that brings data into the group."""

from __future__ import annotations

from collections import defaultdict

from torch.fx import Node

from fxq.graph.annotation import NodeQuant, quant_of, resolution_of, set_quant, set_type, type_of
from fxq.graph.constants import free_path, put_module
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Policy
from fxq.graph.ops import call_of
from fxq.graph.verify import OBSERVER_RULE
from fxq.observers import Observer
from fxq.passes.pipeline import Context
from fxq.passes.share_qparams import fixed_qparams, operands_kept


def insert_observers(module: FxqModule, context: Context) -> int:
    """x → observer(x) for every quantized value whose range is not fixed or given by the values it is made of.

    Returns:
        the number of observers.
    """
    observed = {group: sources for group, members in members_of_groups(module).items() if (sources := _sources(members))}
    for group, sources in observed.items():
        observe(module, group, sources, f"{sources[0].name}_observer", make_observer(sources[0]))
    return len(observed)


def members_of_groups(module: FxqModule) -> dict[int, list[Node]]:
    """Sharing group → the nodes whose values are in it, in order of execution."""
    groups: dict[int, list[Node]] = defaultdict(list)
    for node in module.graph.nodes:
        quant = quant_of(node)
        if quant is not None and quant.group is not None:
            groups[quant.group].append(node)
    return groups


def _sources(members: list[Node]) -> list[Node]:
    """Members that bring in values which no other member has, and whose range is not known beforehand."""
    return [node for node in members if not is_made_of_members(node) and fixed_qparams(node) is None]


def is_made_of_members(node: Node) -> bool:
    """Whether the values of an op that keeps qparams are all its group's: cat(conv, sigmoid) brings in those of sigmoid."""
    kept = operands_kept(node).values()
    return bool(kept) and len({quant.group for each in (node, *kept) if (quant := quant_of(each)) is not None}) == 1


def observe(module: FxqModule, group: int, sources: list[Node], path: str, observer: Observer) -> None:
    """x → observer(x) for every source of a group; the observer is stored at the first free path like this one."""
    observer.name = ", ".join(node.name for node in sources)
    path = free_path(module, path)
    put_module(module, path, observer)
    for node in sources:
        _insert(module, node, path, group)


def make_observer(source: Node) -> Observer:
    """By the qconfig of the op that makes the value, or of the first int8 op that reads it."""
    for node in (source, *source.users):
        quant, resolution = quant_of(node), resolution_of(node)
        if quant is not None and quant.is_static and resolution is not None:
            made: Observer = resolution.qconfig.activation()
            return made
    raise AssertionError(f"nobody wants {source.name} quantized")


def _insert(module: FxqModule, node: Node, path: str, group: int) -> None:
    quant = quant_of(node)
    assert quant is not None
    with module.graph.inserting_after(node):
        observer = module.graph.call_module(path, (node,))
    set_type(observer, type_of(node))
    set_quant(observer, NodeQuant(output=quant.output, group=group, rule=OBSERVER_RULE))
    node.replace_all_uses_with(observer, delete_user_cb=lambda reader: reader is not observer and reads_quantized(node, reader))


def reads_quantized(value: Node, reader: Node) -> bool:
    """Whether the reader of a quantized value reads what is left of it after quantization.

    The result of an int8 op exists in 8 bits only. The result of a float op is there for float readers as it was. Shapes are
    read from either. A constant may also be a weight, which is quantized for itself.
    """
    call, of_value, of_reader = call_of(reader), quant_of(value), quant_of(reader)
    if call is not None and (call.op.policy is Policy.METADATA or (value.op == "get_attr" and value not in call.activations.values())):
        return False
    value_is_int8 = of_value is not None and of_value.is_static
    return value_is_int8 or (of_reader is not None and of_reader.is_static)
