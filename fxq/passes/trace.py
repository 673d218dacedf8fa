"""nn.Module → graph of the calls it makes: torch.fx tracing of a copy, with an Origin on every node."""

from __future__ import annotations

import copy
import inspect
import linecache
import os
import sys
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, Node, Tracer

from fxq.errors import CaptureError, StageError
from fxq.graph.annotation import Origin, set_origins, set_whole_reason
from fxq.graph.infer import infer_types
from fxq.graph.module import FxqModule
from fxq.graph.names import qualified_name
from fxq.graph.reasons import Reason, Why
from fxq.passes.attention import write_out_attention
from fxq.passes.whole import TraceOptions, find_whole, unknown_name, unwrap, unwrap_children

_REMEDIES = (
    "write it without Python control flow on tensor values (torch.where, module attributes instead of tensor tests), "
    "or wrap the function with torch.fx.wrap, or quantize the traceable submodules one by one"
)
_DEFAULT = TraceOptions()
# types of arguments that forward branches on
_SWITCHES = (type(None), bool, str)
# frames of these files are torch's and ours, not the user's
_NOT_USER_CODE = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[1]}{os.sep}")


def trace(model: nn.Module, example_inputs: Any, options: TraceOptions = _DEFAULT) -> FxqModule:
    """Traces a copy of the model; every value's shape and dtype come from running it on the example inputs.

    Modules of torch.nn are leaves, except containers, and so is what cannot be traced or should not be. DataParallel and
    DistributedDataParallel are left out. Arguments of forward that are None, a bool or a string, given or by
    default, are constants of the graph: it checks at run time that they are what they were.

    Args:
        model: left as it is.
        example_inputs: a tuple of positional inputs, one tensor, or a dict of keyword inputs.
        options: what stays one call, and what to do with code that torch.fx cannot trace.

    Raises:
        CaptureError: the model's own forward cannot be traced (with `strict`, also that of a module inside), or it does not
            run on the inputs. Names submodule, file and line.
        ConfigError: the options name a module, class or attribute that the model does not have.
    """
    if isinstance(model, FxqModule):
        raise StageError(
            "trace",
            expected="the float model",
            found=f"a model at stage {model.stage.name}",
            remedy="pass the torch.nn.Module that it was made from",
        )
    args, kwargs = split_inputs(example_inputs)
    model = unwrap(model)
    module = _capture(model, args, kwargs, options)
    infer_types(module, args, kwargs)
    return module


def _capture(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TraceOptions) -> FxqModule:
    """Traces once more where modules failed: with these whole, and a copy that no failed trace has left anything in."""
    islands: dict[str, Reason] = {}
    while True:
        duplicate = _copied(model)
        whole = find_whole(duplicate, options.whole) | {duplicate.get_submodule(path): reason for path, reason in islands.items()}
        tracer = OriginTracer(whole, options.strict)
        try:
            constants = _constant_arguments(model, args, kwargs)
            graph = tracer.trace(duplicate, concrete_args=constants or None)
            _restore_names(graph, constants)
            module = FxqModule(duplicate, graph, type(model).__name__)
        except Exception as error:
            raise _locate(tracer, error).error(model) from error
        if not tracer.failed:
            preserve_attributes(module, duplicate, options.preserved)
            return module
        islands |= tracer.failed


def _copied(model: nn.Module) -> nn.Module:
    duplicate = copy.deepcopy(model)
    unwrap_children(duplicate)
    write_out_attention(duplicate)
    return duplicate


def preserve_attributes(module: FxqModule, source: nn.Module, names: tuple[str, ...]) -> None:
    """Attributes of `source` that the module has from now on, whether its graph needs them or not.

    Raises:
        ConfigError: the source has no such attribute.
    """
    for name in names:
        if not hasattr(source, name):
            raise unknown_name(f'set_preserved_attributes "{name}"', name, [each for each in dir(source) if not each.startswith("_")])
        if not hasattr(module, name):
            setattr(module, name, getattr(source, name))
    module.preserved = tuple(dict.fromkeys([*module.preserved, *names]))


def split_inputs(example_inputs: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """What a user passes as inputs → positional and keyword arguments of forward."""
    if isinstance(example_inputs, Mapping):
        return (), example_inputs
    if isinstance(example_inputs, list | tuple):
        return tuple(example_inputs), {}
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    raise CaptureError(
        "example_inputs",
        expected="a tuple of inputs, one tensor, or a dict of keyword inputs",
        found=type(example_inputs).__name__,
        remedy="pass example_inputs=(torch.randn(1, 3, 224, 224),), with the shapes that the model takes",
    )


def _constant_arguments(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of forward that the trace holds for one value of: what control flow usually asks for."""
    parameters = inspect.signature(model.forward).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    values = {**defaults, **dict(zip(parameters, args, strict=False)), **kwargs}
    return {name: value for name, value in values.items() if name in parameters and isinstance(value, _SWITCHES)}


def _restore_names(graph: Graph, constants: Mapping[str, Any]) -> None:
    """torch.fx numbers the parameters that it makes constant; callers know them by their own names."""
    for node in graph.find_nodes(op="placeholder"):
        name, _, number = str(node.target).rpartition("_")
        if name in constants and number.isdigit():
            node.target = name


class OriginTracer(Tracer):
    """Notes for every node which module, object type and source line it comes from.

    Args:
        whole: modules that are not traced into, and why.
        strict: what cannot be traced is an error; else it is noted in `failed`, and the trace goes on to find others.
    """

    def __init__(self, whole: Mapping[nn.Module, Reason], strict: bool) -> None:
        super().__init__(param_shapes_constant=False)
        self.path: list[str] = [""]
        self.whole = dict(whole)
        self.strict = strict
        self.failed: dict[str, Reason] = {}
        self._calls: Counter[tuple[str, str]] = Counter()

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        depth, height, path = len(self.path), len(self.module_stack), self.path_of_module(m)
        self.path.append(path)
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Exception as error:
            if self.strict or self.is_leaf_module(m, path):
                raise  # the path stays, to name the submodule
            self.failed[path] = self.whole[m] = _locate(self, error).reason
            while len(self.module_stack) > height:
                self.module_stack.popitem()  # torch.fx leaves there what has failed
            result = self.create_proxy("call_module", path, args, kwargs)
        del self.path[depth:]
        return result

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self.whole or super().is_leaf_module(m, module_qualified_name)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, name: Any = None, type_expr: Any = None) -> Node:
        node = super().create_node(kind, target, args, kwargs, name, type_expr)
        if kind.startswith("call_"):
            set_origins(node, (self._origin(kind, target),))
        reason = self.whole.get(self.root.get_submodule(target)) if kind == "call_module" else None
        if reason is not None:
            set_whole_reason(node, replace(reason, node=node.name))
        return node

    def _origin(self, kind: str, target: Any) -> Origin:
        path = self.path[-1]
        called = type(self.root.get_submodule(path))
        module_type = qualified_name(getattr(called, "stands_for", called))
        object_type = module_type if kind == "call_module" else qualified_name(target)
        scope = path.rpartition(".")[0] if kind == "call_module" else path
        index = self._calls[scope, object_type]
        self._calls[scope, object_type] += 1
        return Origin(path, object_type, index, _user_line(), module_type)


def is_user_code(filename: str) -> bool:
    """Whether a stack frame's file is the user's: not torch's, not fxq's, and a file at all."""
    return not filename.startswith((*_NOT_USER_CODE, "<"))


def _user_line() -> str:
    """file:line of the innermost frame that is the user's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        if is_user_code(filename):
            return f"{filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@dataclass(frozen=True)
class _Failure:
    """Where a trace ended.

    Attributes:
        path: of the innermost module that was being traced.
        place: ", file.py:12", or "" where no line of the user's took part.
        found: the line and the error.
    """

    path: str
    place: str
    found: str

    def error(self, model: nn.Module) -> CaptureError:
        submodule = f"submodule {self.path!r}" if self.path else "the model itself"
        where = f"{type(model).__name__}, {submodule}{self.place}"
        return CaptureError(where, expected="code that torch.fx can trace", found=self.found, remedy=_REMEDIES)

    @property
    def reason(self) -> Reason:
        return Reason(Why.UNTRACEABLE, self.path, f"cannot be traced: {self.found}{self.place}")


def _locate(tracer: OriginTracer, error: Exception) -> _Failure:
    """A module that is called whole fails for what it is called with: that is its caller's failure."""
    traced = (path for path in reversed(tracer.path) if not (path and tracer.is_leaf_module(tracer.root.get_submodule(path), path)))
    path = next(traced)
    user_frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_user_code(frame.filename)]
    if not user_frames:
        return _Failure(path, "", f"{type(error).__name__}: {error}")
    frame = user_frames[-1]
    construct = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return _Failure(path, f", {frame.filename}:{frame.lineno}", f"`{construct}` — {type(error).__name__}: {error}")
