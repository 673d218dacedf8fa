"""nn.Module → graph of the calls it makes: torch.fx tracing of a copy, and the same inside what has to stay Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fxq.errors import StageError
from fxq.graph.copies import copy_module
from fxq.graph.infer import infer_types
from fxq.graph.module import FxqModule
from fxq.graph.reasons import Reason
from fxq.passes.arguments import Inputs, arguments_of, split_inputs
from fxq.passes.attention import write_out_attention
from fxq.passes.open_islands import Call, call_whole, open_islands
from fxq.passes.tracer import OriginTracer, Plan, is_leaf, locate
from fxq.passes.untraceable import Untraceable
from fxq.passes.weight_hooks import keep_computed_weights
from fxq.passes.whole import TraceOptions, find_whole, unknown_name, unwrap, unwrap_children

_DEFAULT = TraceOptions()
# the name of a model that cannot be traced, in the graph that calls it
_MODEL = "model"


@dataclass(frozen=True)
class _Job:
    """What the traces of one model share.

    Attributes:
        whole: path in the user's model → why the module there stays one call.
        strict: what cannot be traced is an error.
        targets: modules and functions of the user's that are ops.
        named: classes that the user speaks of: what is one of them stays it.
        counts: calls of an object type in a module so far.
    """

    whole: Mapping[str, Reason]
    strict: bool
    targets: tuple[Any, ...]
    named: frozenset[Any]
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def whole_below(self, path: str, root: nn.Module) -> dict[nn.Module, Reason]:
        """The modules of the one at `path` that stay one call."""
        start = f"{path}." if path else ""
        return {root.get_submodule(each.removeprefix(start)): reason for each, reason in self.whole.items() if each.startswith(start)}


def trace(model: nn.Module, example_inputs: Any, options: TraceOptions = _DEFAULT) -> FxqModule:
    """Traces a copy of the model; every value's shape and dtype come from running it on the example inputs.

    Modules of torch.nn are leaves, except containers. What cannot be traced stays Python: an island, one call of the graph.
    The modules that it calls become graphs of their own, at their places in the island. DataParallel and
    DistributedDataParallel are left out.

    The graph is that of the example inputs where Python has to know a value: arguments that are None, a bool or a string, sizes in
    conditions and loops, the length of a list. It checks at run time that they are what they were. All other sizes are free.

    Args:
        model: left as it is.
        example_inputs: a tuple of positional inputs, one tensor, or a dict of keyword inputs.
        options: what stays one call, and what to do with code that torch.fx cannot trace.

    Raises:
        CaptureError: the model does not run on the inputs; with `strict`, also where it or a module inside cannot be traced.
            Names submodule, file and line.
        ConfigError: the options name a module, class, attribute or parameter that the model does not have.
    """
    if isinstance(model, FxqModule):
        raise StageError(
            "trace",
            expected="the float model",
            found=f"a model at stage {model.stage.name}",
            remedy="pass the torch.nn.Module that it was made from",
        )
    inputs = split_inputs(example_inputs)
    model = unwrap(model)
    targets = tuple(spelling.target for op in options.ops for spelling in op.spellings)
    named = frozenset((*targets, *(wish.target for wish in options.whole)))
    job = _Job(find_whole(_copied(model, named), options.whole) if options.whole else {}, options.strict, targets, named)
    try:
        module = _capture(model, inputs, "", job, options.concrete_args)
    except Untraceable as error:
        if options.strict:
            raise
        module = call_whole(_copied(model, named), _MODEL, Call("", arguments_of(model, inputs, options.concrete_args), error.reason))
    infer_types(module, inputs.args, inputs.kwargs)
    open_islands(module, inputs, lambda child, path, forms: _part(child, path, forms, job))
    if options.preserved:
        preserve_attributes(module, _copied(model, named), options.preserved)
    return module


def _part(child: nn.Module, path: str, forms: list[Inputs], job: _Job) -> FxqModule:
    """A module that an island calls, as a graph.

    Args:
        forms: what it is called with: the graph is made for the first, and has to run on all.

    Raises:
        CaptureError: it cannot be traced, or not for all forms.
    """
    inputs = forms[0]
    reason = job.whole.get(path)
    if reason is not None or is_leaf(child):
        called = Call(path, arguments_of(child, inputs, {}), reason, job.counts)
        part = call_whole(copy_module(child), path.rpartition(".")[2], called)
    else:
        part = _capture(child, inputs, path, job, {})
    for form in reversed(forms):  # the first one's types stay
        infer_types(part, form.args, form.kwargs)
    open_islands(part, inputs, lambda inner, inner_path, inner_forms: _part(inner, inner_path, inner_forms, job))
    return part


def _capture(model: nn.Module, inputs: Inputs, path: str, job: _Job, concrete_args: Mapping[str, Any]) -> FxqModule:
    """Traces once more where modules failed: with these whole, and a copy that no failed trace has left anything in.

    Raises:
        Untraceable: the model's own forward cannot be traced.
    """
    arguments = arguments_of(model, inputs, concrete_args)
    islands: dict[str, Reason] = {}
    while True:
        duplicate = _copied(model, job.named)
        whole = job.whole_below(path, duplicate) | {duplicate.get_submodule(island): reason for island, reason in islands.items()}
        tracer = OriginTracer(duplicate, Plan(arguments, whole, job.strict, path, job.counts, job.targets))
        try:
            module = FxqModule(duplicate, tracer.trace(duplicate), type(model).__name__)
        except Exception as error:
            raise locate(tracer, error).error(model) from error
        if not tracer.failed:
            job.counts.update(tracer.counts - job.counts)
            module.path = path
            return module
        islands |= tracer.failed


def _copied(model: nn.Module, named: Collection[Any]) -> nn.Module:
    duplicate = copy_module(model)
    unwrap_children(duplicate)
    keep_computed_weights(duplicate)
    write_out_attention(duplicate, named)
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
