"""Inside what has to stay Python: the modules that it calls become graphs, where nothing but calls connects them to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.fx import Graph
from torch.utils._pytree import tree_map

from fxq.errors import CaptureError
from fxq.graph.annotation import Origin, set_origins, set_whole_reason
from fxq.graph.copies import copy_inputs
from fxq.graph.infer import infer_types
from fxq.graph.islands import islands_of, path_of
from fxq.graph.module import FxqModule, StaysPython
from fxq.graph.names import join_path, qualified_name
from fxq.graph.reasons import Reason, Why
from fxq.graph.source import definition_of
from fxq.passes.arguments import Argument, Inputs, called_with, is_literal
from fxq.passes.tracer import is_leaf
from fxq.passes.untraceable import Untraceable

_PARAMETERS = "parameters"
_CONTAINERS = (nn.ModuleList, nn.ModuleDict)

# (module, path in the user's model, what it is called with) → its graph
MakePart = Callable[[nn.Module, str, list[Inputs]], FxqModule]


# --- one call --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """What is known of a module that is to be called as it is.

    Attributes:
        path: of the module in the user's model.
        arguments: of its forward.
        reason: why it stays whole; None for a module that the compiler may know.
        counts: calls of an object type in a module so far.
    """

    path: str
    arguments: tuple[Argument, ...]
    reason: Reason | None
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)


def call_whole(module: nn.Module, name: str, called: Call) -> FxqModule:
    """A graph that calls the module, at the path `name`, with what it is called with itself."""
    holder, graph = nn.Module(), Graph()
    holder.add_module(name, module)
    passed = tuple(each for each in called.arguments if each.is_checked or not each.is_fixed)
    given = called_with(passed, lambda each: graph.placeholder(each.name, default_value=each.default))
    node = graph.call_module(name, given.args, dict(given.kwargs))
    graph.output(node)
    owner, _, own_name = called.path.rpartition(".")
    kind = qualified_name(getattr(module, "stands_for", type(module)))
    set_origins(node, (Origin(own_name, kind, called.counts[owner, kind], definition_of(type(module).forward), kind),))
    called.counts[owner, kind] += 1
    if called.reason is not None:
        set_whole_reason(node, Reason(called.reason.why, node.name, called.reason.detail))
    made = FxqModule(holder, graph, type(module).__name__)
    made.path = owner
    return made.train(module.training)


# --- what an island does with its children -----------------------------------------------------------------------------------


class Probe(nn.Module):
    """Stands in for a module while the model runs once, and notes what is asked of it.

    Attributes:
        watched: the module.
        calls: what it is called with, one example of each form.
        read: attributes that were read, and their values.
    """

    def __init__(self, watched: nn.Module) -> None:
        super().__init__()
        self.watched = watched
        self.calls: dict[str, Inputs] = {}
        self.read: dict[str, Any] = {}
        self.train(watched.training)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        form = _form(args, kwargs)
        if form not in self.calls:
            self.calls[form] = Inputs(*copy_inputs((args, kwargs), lambda tensor: tensor))
        return self.watched(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return self._note(name, getattr(self.watched, name))

    def __getitem__(self, key: Any) -> Any:
        return self._note("[]", self.watched[key])  # type: ignore[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._note("[]", list(self.watched)))  # type: ignore[call-overload]

    def __len__(self) -> int:
        return len(self._note("[]", self.watched))

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        return iter(self._note(_PARAMETERS, self.watched.named_parameters(*args, **kwargs)))

    def _note(self, name: str, value: Any) -> Any:
        self.read[name] = value
        return value


def _form(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The same for calls that a graph cannot tell apart."""
    return repr(tree_map(lambda value: (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else repr(value), (args, kwargs)))


@contextmanager
def watch(islands: Iterable[nn.Module]) -> Iterator[dict[nn.Module, Probe]]:
    """Module with parameters below the islands → its Probe, which is in its place while the context lasts."""
    probes: dict[nn.Module, Probe] = {}
    owners: set[nn.Module] = set()
    for island in islands:
        _put_probes(island, probes, owners)
    try:
        yield probes
    finally:
        for owner in owners:
            for name, child in owner._modules.items():
                owner._modules[name] = child.watched if isinstance(child, Probe) else child


def _put_probes(owner: nn.Module, probes: dict[nn.Module, Probe], owners: set[nn.Module]) -> None:
    if owner in owners or (is_leaf(owner) and not isinstance(owner, _CONTAINERS)):
        return
    owners.add(owner)
    for name, child in owner._modules.items():
        if child is None:
            continue
        has_weights = next(child.parameters(), None) is not None
        _put_probes(child, probes, owners)
        if has_weights and not isinstance(child, _CONTAINERS):
            owner._modules[name] = probes.setdefault(child, Probe(child))


# --- parts -----------------------------------------------------------------------------------------------------------------


def open_islands(module: FxqModule, inputs: Inputs, make_part: MakePart) -> None:
    """Puts graphs in the places of the modules that the islands of a graph call.

    A module of which an island uses more than calls and plain attributes stays as it is, and so does one whose forward cannot be
    traced, or that is not called with the inputs; what these call themselves become graphs. `module.islands` says which and why.
    """
    nodes = islands_of(module)
    if not nodes:
        return
    with watch([module.get_submodule(str(node.target)) for node in nodes]) as probes:
        try:
            infer_types(module, inputs.args, inputs.kwargs)
        except CaptureError as error:
            detail = f"stays float with all that it calls, which cannot be replaced: {error.found}"
            kept = {path_of(node, module): module.get_submodule(str(node.target)) for node in nodes}
            module.islands = {path: _stays(island, Reason(Why.UNTRACEABLE, path, detail)) for path, island in kept.items()}
            return
    opening = _Opening(probes, make_part)
    for node in nodes:
        opening.open(module.get_submodule(str(node.target)), path_of(node, module))
    module.islands = opening.kept


class _Opening:
    """The opening of the islands of one graph.

    Attributes:
        kept: path in the user's model → why the module there stays Python.
    """

    def __init__(self, probes: dict[nn.Module, Probe], make_part: MakePart) -> None:
        self.kept: dict[str, StaysPython] = {}
        self._probes = probes
        self._make_part = make_part
        self._done: dict[nn.Module, nn.Module] = {}

    def open(self, owner: nn.Module, path: str) -> None:
        for name, child in list(owner._modules.items()):
            if child is None:
                continue
            if child not in self._done:
                self._done[child] = child
                self._done[child] = self._opened(child, join_path(path, name))
            owner._modules[name] = self._done[child]

    def _opened(self, child: nn.Module, path: str) -> nn.Module:
        """The graph that takes the module's place, or the module with graphs inside."""
        probe = self._probes.get(child)
        if probe is not None and probe.calls:
            made = self._graph(probe, path)
            if isinstance(made, FxqModule):
                return made
            self.kept[path] = _stays(child, made)
            if _PARAMETERS in probe.read:
                return child  # int8 modules inside would have none
        elif probe is not None and (is_leaf(child) or next(child.children(), None) is None):
            self.kept[path] = _stays(
                child, _objection(probe, path) or Reason(Why.NOT_REACHED, path, "is not called with the example inputs")
            )
        if not is_leaf(child) or isinstance(child, _CONTAINERS):
            self.open(child, path)
        return child

    def _graph(self, probe: Probe, path: str) -> FxqModule | Reason:
        objection = _objection(probe, path)
        if objection is not None:
            return objection
        try:
            part = self._make_part(probe.watched, path, list(probe.calls.values()))
        except Untraceable as error:
            return Reason(Why.UNTRACEABLE, path, error.reason.detail)
        except CaptureError as error:
            return Reason(Why.UNTRACEABLE, path, f"its graph does not run on all that it is called with: {error.found}")
        for name, value in probe.read.items():
            setattr(part, name, value)
        part.preserved = (*part.preserved, *probe.read)
        return part


def _stays(module: nn.Module, reason: Reason) -> StaysPython:
    return StaysPython(qualified_name(type(module)), reason)


def _objection(probe: Probe, path: str) -> Reason | None:
    """What of the module a graph would not have."""
    module = probe.watched
    if module._forward_hooks or module._forward_pre_hooks:
        return Reason(Why.HOOKS, path, "has forward hooks, which a graph would not run")
    parts = [name for name, value in probe.read.items() if not is_literal(value)]
    if parts:
        names = ", ".join("its modules by index" if name == "[]" else f"its {name}" for name in parts)
        return Reason(Why.UNTRACEABLE, path, f"is no call alone: the forward that calls it also uses {names}")
    return None
