"""FxqModule: the model at any stage of the compilation, as a torch module that can be copied, pickled and saved."""

from __future__ import annotations

import copy
import importlib
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import _get_qualified_name, map_arg

from fxq.graph.annotation import annotations_of, set_annotations
from fxq.graph.copies import note_copies
from fxq.graph.history import History
from fxq.graph.opdef import OpDef
from fxq.graph.profile import BackendProfile
from fxq.graph.reasons import Reason
from fxq.graph.stages import Stage


@dataclass(frozen=True)
class NodeRef:
    """A node, inside pickled arguments."""

    name: str


class NodeRecord(NamedTuple):
    """One node in a form that pickles: functions by qualified name, argument nodes by reference."""

    op: str
    name: str
    target: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    annotations: dict[str, Any]


class OriginalWeights(NamedTuple):
    """The float weights that an int8 layer was made from, batch norms folded in."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class StaysPython:
    """A module that an island calls, and that is called as it is.

    Attributes:
        object_type: qualified name of its class.
        reason: why no graph takes its place.
    """

    object_type: str
    reason: Reason


@dataclass(frozen=True)
class Interface:
    """Which inputs and results of the converted model are QTensors, by index; the others are tensors, as in the float model."""

    quantized_inputs: tuple[int, ...] = ()
    quantized_outputs: tuple[int, ...] = ()


class Executor(Protocol):
    """Makes what a model runs in place of its graph: compiled code with the same results."""

    def build(self, module: FxqModule) -> Callable[..., Any]:
        """A function with the signature of the model's forward."""


# attributes that GraphModule sets when it generates the code of forward
_CODE = ("_code", "_lineno_map", "_prologue_start")
# what is not stored with the nodes: the graph, its code, and what runs in its place
_MADE_FROM_NODES = frozenset(("_graph", *_CODE, "forward"))


class _Forward:
    """Stands for the forward of a graph until somebody looks it up: then its code is generated and takes this one's place.

    That takes as long as most passes; of the graphs between float model and int8 model none is run, nor is one that an executor compiles.
    """

    _generating = threading.RLock()

    def __init__(self, module: FxqModule) -> None:
        self._module = weakref.ref(module)

    def __get__(self, instance: FxqModule | None, owner: type[FxqModule]) -> Callable[..., Any]:
        module = self._module()
        assert module is not None, "a class that has outlived its only instance"
        with self._generating:
            if vars(owner).get("forward") is self:  # else another thread was here first
                GraphModule.recompile(module)
        return (owner if instance is None else instance).forward


class FxqModule(GraphModule):
    """A GraphModule that keeps node annotations, stage and submodules through copy, pickle and torch.save.

    torch's GraphModule pickles its code and traces it again, which loses what is known of the nodes; this one stores its
    nodes. Functions are stored by name and looked up when loaded, so a pickle is as trustworthy as any Python pickle: load
    only files you trust.

    Attributes:
        stage: how far the compilation has come.
        profile: the backend it is compiled for; None before it was chosen.
        preserved: names of attributes of the user's model that stay, even where no node needs them.
        interface: which inputs and results are quantized.
        ops: canonical ops of the user's, besides those of fxq.
        path: of the module in the user's model that the graph is of; "" for the model itself.
        islands: what is no graph in the islands that this graph calls: path in the user's model → what it is and why.
        original_weights_lookup: path of an int8 layer → its float weights; empty unless convert_fx was asked to keep them.
        executor: what makes the compiled form that runs in place of the graph; None where the graph itself runs.
        history: the stages that it went through, for pictures; no pass reads it.
    """

    stage: Stage = Stage.TRACED
    profile: BackendProfile | None = None
    preserved: tuple[str, ...] = ()
    interface: Interface = Interface()
    ops: tuple[OpDef, ...] = ()
    path: str = ""
    islands: Mapping[str, StaysPython] = MappingProxyType({})
    original_weights_lookup: Mapping[str, OriginalWeights] = MappingProxyType({})
    executor: Executor | None = None
    history: History = History()
    _lineno_map: dict[int, int | None] | None = None  # of the code, once there is some; torch.compile looks at it

    def get_submodule(self, target: str) -> nn.Module:
        """Like torch's, which takes four times as long."""
        found: nn.Module | None = self
        for name in target.split(".") if target else ():
            found = found._modules.get(name) if found is not None else None
        return super().get_submodule(target) if found is None else found

    def run_with(self, executor: Executor | None) -> None:
        """From now on forward is what the executor builds; the graph itself with None."""
        self.executor = executor
        self._build_executable()

    def run_lowered(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the graph as it is written, node by node, whatever the executor."""
        return type(self).forward(self, *args, **kwargs)

    def recompile(self) -> None:  # type: ignore[override]
        """Forward is made anew from the graph, when it is needed."""
        type(self).forward = _Forward(self)  # type: ignore[assignment]
        for name in _CODE:
            self.__dict__.pop(name, None)
        self._build_executable()

    @property
    def _code(self) -> str:
        """The Python code of forward: GraphModule writes it when it generates it, and reads it in several places."""
        if "_code" not in self.__dict__:
            type(self).forward  # noqa: B018, generated by looking
        return str(self.__dict__["_code"])

    @_code.setter
    def _code(self, code: str) -> None:
        self.__dict__["_code"] = code

    def _build_executable(self) -> None:
        """Whenever graph or weights have changed. What it compiles it compiles when it is called."""
        self.__dict__.pop("forward", None)
        if self.executor is not None:
            self.__dict__["forward"] = self.executor.build(self)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._build_executable()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FxqModule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._build_executable()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FxqModule:
        note_copies(self, memo)
        duplicate = _with_graph(copy.deepcopy(self._state(), memo), _copied(self.graph))
        memo[id(self)] = duplicate
        return duplicate

    def __reduce__(self) -> tuple[Callable[..., FxqModule], tuple[dict[str, Any], list[NodeRecord]]]:
        return _rebuild, (self._state(), self._records())

    def delete_all_unused_submodules(self) -> None:
        """Removes submodules that no node calls or reads a tensor of. Linear in the graph; torch's own is quadratic."""
        called = {str(node.target) for node in self.graph.find_nodes(op="call_module")} | set(self.preserved)
        read = {str(node.target) for node in self.graph.find_nodes(op="get_attr")}
        owners = {target.rpartition(".")[0] for target in called | read}
        used = called | read | {prefix for owner in owners for prefix in accumulate(owner.split("."), "{}.{}".format)}
        _remove_unused(self, "", used, called)

    def _get_name(self) -> str:
        return "FxqModule"

    def _state(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in _MADE_FROM_NODES}

    def _records(self) -> list[NodeRecord]:
        return [_record(node) for node in self.graph.nodes]


def _remove_unused(owner: nn.Module, path: str, used: set[str], called: set[str]) -> None:
    """Of what is inside a called module, everything is used."""
    for name, child in list(owner._modules.items()):
        if f"{path}{name}" not in used:
            delattr(owner, name)
        elif child is not None and f"{path}{name}" not in called:
            _remove_unused(child, f"{path}{name}.", used, called)


def _record(node: Node) -> NodeRecord:
    return NodeRecord(node.op, node.name, target_name(node), _without_nodes(node.args), _without_nodes(node.kwargs), annotations_of(node))


def target_name(node: Node) -> str:
    """What a node calls or reads, a function by its qualified name."""
    return node.target if isinstance(node.target, str) else _get_qualified_name(node.target)


def _without_nodes(value: Any) -> Any:
    return _mapped(value, lambda leaf: NodeRef(leaf.name) if isinstance(leaf, Node) else leaf)


def _rebuild(state: dict[str, Any], records: list[NodeRecord]) -> FxqModule:
    return _with_graph(state, graph_of(records))


def _with_graph(state: dict[str, Any], graph: Graph) -> FxqModule:
    module = FxqModule.__new__(FxqModule)
    module.__dict__.update(state)
    module.graph = graph
    return module


def _copied(graph: Graph) -> Graph:
    """The same nodes once more, with what is known of them."""
    duplicate = Graph()
    copies: dict[Node, Node] = {}
    for node in graph.nodes:
        made = copies[node] = duplicate.create_node(
            node.op, node.target, map_arg(node.args, copies.__getitem__), map_arg(node.kwargs, copies.__getitem__), name=node.name
        )
        set_annotations(made, annotations_of(node))
    return duplicate


def graph_of(records: Iterable[NodeRecord]) -> Graph:
    """The graph of these nodes, in their order."""
    graph = Graph()
    nodes: dict[str, Node] = {}
    for record in records:
        args, kwargs = (_with_nodes(value, nodes) for value in (record.args, record.kwargs))
        target = find_function(record.target) if record.op == "call_function" else record.target
        node = graph.create_node(record.op, target, args, kwargs, name=record.name)
        set_annotations(node, record.annotations)
        nodes[record.name] = node
    return graph


def _with_nodes(value: Any, nodes: Mapping[str, Node]) -> Any:
    return _mapped(value, lambda leaf: nodes[leaf.name] if isinstance(leaf, NodeRef) else leaf)


def _mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """The same arguments in plain tuples, lists, dicts and slices, with the function applied to everything inside."""
    if isinstance(value, tuple):
        return tuple(_mapped(item, function) for item in value)
    if isinstance(value, list):
        return [_mapped(item, function) for item in value]
    if isinstance(value, dict):
        return {key: _mapped(item, function) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(_mapped(part, function) for part in (value.start, value.stop, value.step)))
    return function(value)


def find_function(qualified_name: str) -> Callable[..., Any]:
    """'torch.nn.functional.relu' → the function. The longest prefix that is a module is imported."""
    parts = qualified_name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:split]))
        except ImportError:
            continue
        for name in parts[split:]:
            found = getattr(found, name)
        return found  # type: ignore[no-any-return]
    return getattr(importlib.import_module("builtins"), qualified_name)  # type: ignore[no-any-return]
