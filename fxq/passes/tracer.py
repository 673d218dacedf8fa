"""The torch.fx tracer: origins on nodes, modules that stay whole, and numbers for Python from the example inputs."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from inspect import Parameter, signature
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Graph, Node, Proxy, Tracer
from torch.fx.proxy import TraceError

from fxq.graph.annotation import Origin, set_origins, set_whole_reason
from fxq.graph.names import join_path, qualified_name
from fxq.graph.reasons import Reason
from fxq.graph.source import line_of_error, user_frame, user_line
from fxq.passes.arguments import Argument, called_with, keys_of, rebuilt
from fxq.passes.examples import ExampleValues
from fxq.passes.factories import RecordedFactories
from fxq.passes.instance_checks import answered_instance_checks
from fxq.passes.proxies import ShapeProxy
from fxq.passes.state import ChangedState, State
from fxq.passes.untraceable import Failure
from fxq.passes.wrapped import opened_functions
from fxq.runtime.assumptions import ADDED_BY_TRACE, assume, items_of
from fxq.runtime.integer.module import IntegerOp

# modules of torch.nn whose forward calls others, as a user's would
_COMPOSED = (
    nn.Sequential, nn.Transformer, nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.TransformerDecoder, nn.TransformerDecoderLayer,
)  # fmt: skip
# what Python may branch on, count with or compare: values without elements
_SCALARS = (bool, int, float, str, type(None), torch.dtype, torch.device)
_PLAIN = (*_SCALARS, torch.Size)


def is_leaf(module: nn.Module) -> bool:
    """Whether a trace does not go into the module: those of torch.nn that compute something themselves, and ops that are int8 already."""
    is_torchs = type(module).__module__.startswith(("torch.nn", "torch.ao.nn")) and not isinstance(module, _COMPOSED)
    return isinstance(module, IntegerOp) or is_torchs


@dataclass(frozen=True)
class Plan:
    """What a trace is told.

    Attributes:
        arguments: of the root's forward.
        whole: modules that are not traced into, and why.
        strict: what cannot be traced is an error; else it is noted in `failed`, and the trace goes on to find others.
        path: of the root in the user's model.
        counts: calls of an object type in a module, over all traces of one model.
        targets: modules and functions of the user's that are ops, and are not traced into.
    """

    arguments: tuple[Argument, ...]
    whole: Mapping[nn.Module, Reason]
    strict: bool
    path: str
    counts: Counter[tuple[str, str]]
    targets: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Progress:
    """How far a trace has come, for one that may have to go back: last node, counts, checks, and depth of modules."""

    last: Node
    counts: Counter[tuple[str, str]]
    assumed: dict[Node, Node]
    depth: int


class OriginTracer(Tracer):
    """Notes for every node which module, object type and source line it comes from, and why modules stay whole.

    Where Python needs the value of a size, it gets the one of the example inputs, and the graph checks at run time that it is
    the same. What depends on the elements of tensors is a TraceError.

    Attributes:
        failed: path of a module that could not be traced → why.
        counts: calls of an object type in a module, after those of the plan.
        is_recording: whether what is called is part of the graph.
    """

    def __init__(self, root: nn.Module, plan: Plan) -> None:
        functions = tuple(target for target in plan.targets if isinstance(target, FunctionType))
        super().__init__(autowrap_functions=functions, param_shapes_constant=False)
        self.root = root
        self.path: list[str] = [""]
        self.failed: dict[str, Reason] = {}
        self.counts = plan.counts.copy()
        self._plan = plan
        self._whole = dict(plan.whole)
        self._factories = RecordedFactories(self)
        self._examples = ExampleValues(root, self._factories.suspended)
        self._assumed: dict[Node, Node] = {}
        self._tentative: dict[Node, object] = {}
        self._functions: list[str] = []
        self._is_tracing = False

    def trace(self, root: Any, concrete_args: Any = None) -> Graph:
        self._is_tracing = True
        try:
            with self._factories, answered_instance_checks():
                return super().trace(root, concrete_args)
        finally:
            self._is_tracing = False

    @property
    def is_recording(self) -> bool:
        return self._is_tracing and not self._examples.is_computing

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._examples.is_computing:
            return forward(*args, **kwargs)
        if self._is_made_by_forward(m):
            return forward(*args, **kwargs)
        if kwargs:
            signature(m.forward).bind(*args, **kwargs)  # a TypeError, as of the call itself: forward may try another one then
        depth, height, path = len(self.path), len(self.module_stack), self.path_of_module(m)
        self.path.append(path)
        state = None if self.is_leaf_module(m, path) else State(m)
        try:
            result = super().call_module(m, forward, args, kwargs)
            if state is not None:
                state.require_unchanged()
        except Exception as error:
            if self._plan.strict or state is None:
                raise  # the path stays, to name the submodule
            self.failed[path] = self._whole[m] = locate(self, error).reason
            while len(self.module_stack) > height:
                self.module_stack.popitem()  # torch.fx leaves there what has failed
            result = self.create_proxy("call_module", path, args, kwargs)
        del self.path[depth:]
        return result

    def _is_made_by_forward(self, m: nn.Module) -> bool:
        """layers[:2], whose modules are the model's, and what has no tensors, such as nn.ReflectionPad2d(margin)(x)."""
        is_known = m in (self.submodule_paths or {})
        return not is_known and (isinstance(m, nn.Sequential) or not m.state_dict())

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A stand-in for a parameter of the model; the same each time."""
        path = self._paths.get(id(attr_val)) if isinstance(attr_val, nn.Parameter) else None
        if path is None or self._examples.is_computing:
            return attr_val
        if path not in parameter_proxy_cache:
            parameter_proxy_cache[path] = self.create_proxy("get_attr", path, (), {})
        return parameter_proxy_cache[path]

    @cached_property
    def _paths(self) -> Mapping[int, str]:
        """Of all tensors of the model, by id: torch.fx would go through them for each that forward reads."""
        tensors = (*self.root.named_buffers(), *self.root.named_parameters())
        return {id(tensor): path for path, tensor in tensors}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """What is to stay whole, and what every trace calls."""
        return m in self._whole or type(m) in self._plan.targets or is_leaf(m)

    def open(self, function: FunctionType, whole: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The calls that a function under torch.fx.wrap makes; one call of it where it cannot be traced."""
        if function in self._plan.targets:
            return whole(*args, **kwargs)
        start = _Progress(next(iter(reversed(self.graph.nodes))), self.counts.copy(), self._assumed.copy(), len(self.path))
        self._functions.append(qualified_name(function))
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever stops the trace of the function is what its call is reported with
            reason = locate(self, error).reason
            self._go_back(start)
        finally:
            self._functions.pop()
        called = whole(*args, **kwargs)
        set_whole_reason(called.node, replace(reason, node=called.node.name))
        return called

    def _go_back(self, start: _Progress) -> None:
        while (last := next(iter(reversed(self.graph.nodes)))) is not start.last:
            self.graph.erase_node(last)
        self.counts, self._assumed = start.counts, start.assumed
        del self.path[start.depth :]

    # --- inputs and results ---------------------------------------------------------------------------------------------------

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """A function without parameters that calls forward with a stand-in for every argument, and none left to pass."""
        given = called_with(self._plan.arguments, self._stand_in)

        def call() -> Any:
            state = State(self.root)
            with opened_functions(self):
                result = root_fn(self.root, *given.args, **given.kwargs)
            state.require_unchanged()
            return result

        return call, []

    def _stand_in(self, argument: Argument) -> Any:
        default = () if argument.default is Parameter.empty else (argument.default,)
        proxy = self.create_proxy("placeholder", argument.name, default, {})
        if argument.is_checked:
            self._assume(proxy.node, argument.example, f"argument {argument.name!r}")
        if argument.is_fixed:
            return argument.example
        if argument.example is not Parameter.empty:
            self._examples.give(proxy.node, argument.example)
            return self._unpacked(proxy, argument.example)
        return proxy

    def _unpacked(self, proxy: Any, example: Any) -> Any:
        """A list, tuple or dict of stand-ins for a stand-in for all of it."""
        keys = keys_of(example)
        if keys is None:
            return proxy
        values = list(example.values() if isinstance(example, dict) else example)
        items: Any = self.create_proxy("call_function", items_of, (proxy, keys), {})
        return rebuilt(example, [self._unpacked(items[place], value) for place, value in enumerate(values)])

    def create_arg(self, a: Any) -> Any:
        """Results in containers of the user's own keep their class: it is called with their items. Numbers of numpy become Python's."""
        if type(a) is ShapeProxy:
            return a.node
        if type(a) is tuple:  # most arguments, in less time than torch.fx takes for what else they might be
            return tuple(map(self.create_arg, a))
        if isinstance(a, Tensor) and id(a) in self._paths:
            return self.create_node("get_attr", self._paths[id(a)], (), {})
        if isinstance(a, np.generic):
            return a.item()
        if isinstance(a, dict) and type(a) is not dict:
            if is_dataclass(a):
                given = {each.name: self.create_arg(getattr(a, each.name)) for each in fields(a)}
                return self.create_node("call_function", type(a), (), given)
            return self.create_node("call_function", type(a), (super().create_arg(dict(a)),), {})
        return super().create_arg(a)

    # --- nodes ---------------------------------------------------------------------------------------------------------------

    def proxy(self, node: Node) -> Proxy:
        return ShapeProxy(node, self)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, name: Any = None, type_expr: Any = None) -> Node:
        stack, self.module_stack = self.module_stack, OrderedDict()  # which torch.fx would copy for every node
        try:
            node = super().create_node(kind, target, args, kwargs, name, type_expr)
        finally:
            self.module_stack = stack
        self._examples.follow(node)
        self._keep_dynamic(node)
        if kind.startswith("call_") and target not in ADDED_BY_TRACE:
            set_origins(node, (self._origin(kind, target),))
        reason = self._whole.get(self.root.get_submodule(target)) if self._whole and kind == "call_module" else None
        if reason is not None:
            set_whole_reason(node, replace(reason, node=node.name))
        return node

    def _origin(self, kind: str, target: Any) -> Origin:
        path = self.path[-1]
        called = self.scope.module_type or type(self.root)
        module_type = qualified_name(getattr(called, "stands_for", called))
        object_type = module_type if kind == "call_module" else qualified_name(target)
        scope = join_path(self._plan.path, path.rpartition(".")[0] if kind == "call_module" else path)
        index = self.counts[scope, object_type]
        self.counts[scope, object_type] += 1
        return Origin(path, object_type, index, _source(), module_type, tuple(self._functions))

    # --- values that Python asks for ---------------------------------------------------------------------------------------

    def to_bool(self, obj: Proxy) -> bool:
        return bool(self.plain(obj))

    def plain(self, stand_in: Proxy) -> Any:
        """A number, dtype, ... that Python has to know."""
        return self._plain(stand_in.node)

    def hash_of(self, stand_in: Proxy) -> int:
        """Of the number or dtype that it is, where what it then equals goes on record; of itself, where it has elements or parts."""
        is_scalar = self.is_recording and self._examples.knows(stand_in.node) and isinstance(self._known(stand_in.node), _SCALARS)
        return hash(self._known(stand_in.node)) if is_scalar else object.__hash__(stand_in)

    def known(self, stand_in: Proxy) -> Any:
        """What it stands for, without elements. Nothing is fixed: whoever asks must not let more than the type matter."""
        return self._known(stand_in.node)

    def number(self, obj: Proxy) -> Any:
        """What range() and int() get. A call that takes stand-ins may ask first: then the value stays dynamic."""
        is_new = obj.node not in self._assumed
        value = self._plain(obj.node)
        if is_new:
            self._tentative[obj.node] = _instruction()
        return value

    def length(self, obj: Proxy) -> int:
        """len(obj); TypeError where it is not known to have one."""
        value = self._known(obj.node)
        node = self.create_node("call_function", len, (obj.node,), {})
        self._assume(node, len(value), _source_and_code())
        return len(value)

    def iter(self, obj: Proxy) -> Iterator[Any]:
        """Items by index, keys of a dict."""
        value = self._known(obj.node)
        if not isinstance(value, dict):
            return iter([obj[place] for place in range(self.length(obj))])  # type: ignore[index]
        self.length(obj)
        return iter(list(value))

    def _known(self, node: Node) -> Any:
        if self._examples.knows(node):
            return self._examples.value(node)
        raise TraceError("its value does not follow from the shapes of the inputs")

    def _plain(self, node: Node) -> Any:
        value = self._known(node)
        if not isinstance(value, _PLAIN):
            what = "the elements of a tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise TraceError(f"it depends on {what}, which a trace does not have")
        self._assume(node, value, _source_and_code())
        return value

    def _assume(self, node: Node, value: Any, where: str) -> None:
        if node not in self._assumed:
            expected = tuple(value) if isinstance(value, torch.Size) else value
            self._assumed[node] = self.create_node("call_function", assume, (node, expected, where), {})

    def _keep_dynamic(self, node: Node) -> None:
        """torch.zeros((n, 3)) asks n for its number, and then calls with the stand-in after all."""
        for operand in node.all_input_nodes if self._tentative else ():
            if operand in self._tentative and self._tentative[operand] == _instruction():
                del self._tentative[operand]
                self.graph.erase_node(self._assumed.pop(operand))


# the frames that it calls: what runs the trace is no line of the model
_TRACE = OriginTracer.trace.__code__


def _source() -> str:
    """file:line, or "" where no code of the user's is being run."""
    line = user_line(_TRACE)
    return "" if line is None else line.place


def _source_and_code() -> str:
    line = user_line(_TRACE)
    return "forward" if line is None else f"{line.place}, `{line.code}`"


def _instruction() -> object:
    """Tells apart the calls of one line."""
    frame = user_frame(_TRACE)
    return None if frame is None else (id(frame), frame.f_lasti)


def locate(tracer: OriginTracer, error: Exception) -> Failure:
    """A module that is called whole fails for what it is called with: that is its caller's failure."""
    traced = (path for path in reversed(tracer.path) if not (path and tracer.is_leaf_module(tracer.root.get_submodule(path), path)))
    path = next(traced)
    if isinstance(error, ChangedState):
        return Failure(path, error.place, error.found)
    line = line_of_error(error)
    if line is None:
        return Failure(path, "", f"{type(error).__name__}: {error}")
    return Failure(path, f", {line.place}", f"`{line.code}` — {type(error).__name__}: {error}")
