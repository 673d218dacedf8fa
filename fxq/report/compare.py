"""compare(float_model, int8_model, batches): how much each layer loses, by itself and with all that is in front of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from operator import length_hint
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from fxq.errors import ConfigError, DataError, FxqError, StageError
from fxq.graph.islands import graphs_of, islands_of, origins_in_model
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.graph.stages import Stage
from fxq.passes import split_inputs
from fxq.passes.arguments import Inputs
from fxq.passes.whole import unwrap
from fxq.report.alike import trace_alike
from fxq.report.closeness import Sums, same_shapes
from fxq.report.compare_modules import ModuleTally, has_replaced_modules
from fxq.report.comparison import Comparison, LayerComparison
from fxq.report.kinds import ROUNDED, called_module, kind_of
from fxq.report.lockstep import Lockstep, Pair, real_tensors
from fxq.report.matching import Graphs, layers_of, pair_graphs
from fxq.report.progress import with_progress
from fxq.report.weight_errors import compare_weights, fused_copy
from fxq.report.wording import describe_origin, short_type
from fxq.runtime.interface import QTensorEntry
from fxq.runtime.qtensor import QTensor

_GIVEN = "example_inputs"  # how messages call inputs


def compare(float_model: nn.Module, int8_model: nn.Module, batches: Iterable[Any], *, progress: bool = True) -> Comparison:
    """Float and int8 model on the same batches → SQNR, largest error and cosine of every layer, the most damaged layer first.

    A layer is measured in three ways: `alone`, what the int8 layer makes of the float model's values, quantized as they are in
    front of it: its own damage; `so_far`, what the int8 model has there, with the errors of all layers before it; and `weight`.
    The float value of a layer is the one behind the last call that was fused into it. Layers are sorted by the lower SQNR of `alone`
    and `weight`.

    What the models return is compared as the int8 model's runtime gives it; layers are computed with the integer ops, which have
    the same bits. Batches are read once, one at a time, and of their values only sums are kept.

    Args:
        float_model: what the int8 model was made from; in training mode it is compared as it would be in eval mode. It is not changed.
        int8_model: from convert_fx or quantize; or from quantize_dynamic, of which the modules are compared that it has replaced. It is
            not changed.
        batches: what forward takes: tensors, tuples of positional inputs or dicts of keyword inputs.
        progress: show a bar, where standard error is a terminal.

    Raises:
        StageError: the int8 model is not converted, or the float model is one of fxq's.
        ConfigError: no layer is int8, or the float model is not the one that the int8 model was made from.
        DataError: there is no batch, or a model does not run on one.
    """
    if not isinstance(int8_model, FxqModule) and has_replaced_modules(int8_model):
        return _compare_modules(float_model, int8_model, batches, progress=progress)
    int8 = require_int8(int8_model, "compare")
    left = iter(batches)
    first = next(left, None)
    if first is None:
        raise _no_batch()
    with _naming("batch 0"):
        exact = trace_alike(float_model, int8, first)
    graphs = pair_graphs(exact, int8)
    tally = _Tally(graphs, fused_copy(exact, int8))
    total = length_hint(batches) or None
    for number, batch in enumerate(with_progress(chain([first], left), "comparing", total=total, progress=progress)):
        with _naming(f"batch {number}"):
            tally.add_batch(int8, split_inputs(batch))
    return tally.comparison()


def _compare_modules(float_model: nn.Module, int8_model: nn.Module, batches: Iterable[Any], *, progress: bool) -> Comparison:
    tally = ModuleTally(unwrap(float_model), int8_model)
    for number, batch in enumerate(with_progress(batches, "comparing", progress=progress)):
        with _naming(f"batch {number}"):
            tally.add_batch(split_inputs(batch))
    if not tally.batches:
        raise _no_batch()
    return tally.comparison()


def _no_batch() -> DataError:
    return DataError("batches", expected="at least one batch", found="none", remedy="pass a list or a DataLoader that is not empty")


def require_int8(model: nn.Module, wanted_by: str) -> FxqModule:
    """The model, if it is converted and has an int8 layer.

    Raises:
        StageError, ConfigError: it is not, or has none.
    """
    if not isinstance(model, FxqModule) or model.stage is not Stage.LOWERED:
        raise StageError(
            wanted_by,
            expected="as int8_model what fxq.convert_fx or fxq.quantize returned",
            found=f"a {type(model).__name__}" + (f" at stage {model.stage.name}" if isinstance(model, FxqModule) else ""),
            remedy="int8_model = fxq.convert_fx(prepared); the float model comes first, the int8 model second",
        )
    if not any(kind_of(node) in ROUNDED for graph in graphs_of(model) for node in layers_of(graph)):
        raise ConfigError(
            wanted_by,
            expected="a model with int8 layers",
            found="none: every layer is float",
            remedy="print(fxq.report(int8_model)) says why each layer stays float, and what to do",
        )
    return model


@contextmanager
def _naming(batch: str) -> Iterator[None]:
    """Errors on a batch say which batch it is."""
    try:
        yield
    except FxqError as error:
        if isinstance(error, ConfigError | StageError):
            raise
        where, remedy = error.where.replace(_GIVEN, batch), error.remedy.replace(_GIVEN, "the batch")
        where = where if where.startswith(batch) else f"{batch}, {where}"
        raise DataError(where, expected=error.expected, found=error.found, remedy=remedy) from error
    except Exception as error:
        raise DataError(
            batch,
            expected="inputs that both models run on",
            found=f"{type(error).__name__}: {error}",
            remedy="give batches with the shapes and dtypes that the model is used with, and without labels",
        ) from error


class _Tally:
    """Sums over batches, for every layer."""

    def __init__(self, graphs: Graphs, fused: FxqModule) -> None:
        self._graphs = graphs
        self._lockstep = Lockstep(graphs, self._add)
        self._may_differ = any(map(islands_of, graphs))
        self._so_far: dict[Node, Sums] = defaultdict(Sums)
        self._alone: dict[Node, Sums] = defaultdict(Sums)
        self._skipped: Counter[Node] = Counter()
        self._output = Sums()
        self._batches = 0
        exact = pair_graphs(fused, next(iter(graphs)))
        self._weights = {node: found for graph in exact for node, found in compare_weights(exact[graph], graph).items()}

    def add_batch(self, int8: FxqModule, inputs: Inputs) -> None:
        """Runs both models."""
        given = _as_taken(int8, inputs)
        exact = self._lockstep.run(int8, inputs, given)
        with torch.no_grad():
            found = int8(*given.args, **given.kwargs)
        self._batches += 1
        if same_shapes(real_tensors(exact), real_tensors(found)):
            self._output.add_all(real_tensors(exact), real_tensors(found))

    def _add(self, pair: Pair) -> None:
        if not same_shapes(pair.exact, pair.value):
            if not self._may_differ:
                raise _other_shape(pair)
            self._skipped[pair.node] += 1
            return
        self._so_far[pair.node].add_all(pair.exact, pair.value)
        if pair.alone is not None:
            self._alone[pair.node].add_all(pair.exact, pair.alone)

    def comparison(self) -> Comparison:
        """Of all batches."""
        rows = [self._row(node, graph) for graph in self._graphs for node in layers_of(graph) if node in self._so_far]
        rows = sorted((row for row in rows if row.so_far.elements), key=_int8_layers_by_damage)
        names = {node: join_path(graph.path, node.name) for graph in self._graphs for node in graph.graph.nodes}
        skipped = {names[node]: count for node, count in self._skipped.items()}
        return Comparison(batches=self._batches, output=self._output.closeness(), rows=tuple(rows), skipped=skipped)

    def _row(self, node: Node, graph: FxqModule) -> LayerComparison:
        first, *fused = origins_in_model(node, graph)
        return LayerComparison(
            name=join_path(graph.path, node.name),
            what=describe_origin(first),
            type=short_type(first.object_type),
            module=first.module,
            kind=kind_of(node),
            fused=tuple(map(describe_origin, fused)),
            alone=self._alone[node].closeness() if node in self._alone else None,
            so_far=self._so_far[node].closeness(),
            weight=self._weights.get(node),
        )


def _int8_layers_by_damage(row: LayerComparison) -> tuple[bool, float, float]:
    return row.kind not in ROUNDED, row.damage_db, row.so_far.sqnr_db


def _other_shape(pair: Pair) -> ConfigError:
    origin = origins_in_model(pair.node, pair.graph)[-1]
    exact, found = (", ".join(str(tuple(tensor.shape)) for tensor in tensors) for tensors in (pair.exact, pair.value))
    return ConfigError(
        f"float model, {origin.module or pair.node.name}",
        expected=f"the model that the int8 one was made from: a value of shape {found} behind {describe_origin(origin)}",
        found=f"shape {exact}",
        remedy="pass the float model itself, built with the same arguments",
    )


def _as_taken(int8: FxqModule, inputs: Inputs) -> Inputs:
    """Inputs that the int8 model takes as QTensors, quantized."""
    entries = _entries(int8)
    names = [str(node.target) for node in int8.graph.find_nodes(op="placeholder")]
    args = tuple(_entering(value, entries.get(name)) for name, value in zip(names, inputs.args, strict=False))
    return Inputs(args, {name: _entering(value, entries.get(name)) for name, value in inputs.kwargs.items()})


def _entries(int8: FxqModule) -> Mapping[str, QTensorEntry]:
    readers = {node: reader for node in int8.graph.find_nodes(op="placeholder") for reader in node.users}
    found = {str(node.target): called_module(reader) for node, reader in readers.items()}
    return {name: module for name, module in found.items() if isinstance(module, QTensorEntry)}


def _entering(value: Any, entry: QTensorEntry | None) -> Any:
    return QTensor.from_float(value, entry.qparams) if entry is not None and isinstance(value, Tensor) else value
