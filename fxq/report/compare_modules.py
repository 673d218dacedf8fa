"""compare for what quantize_dynamic returns: two models of the same code, in one of which modules have been replaced."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from fxq.errors import ConfigError
from fxq.graph.names import qualified_name
from fxq.passes.arguments import Inputs
from fxq.report.closeness import Closeness, Sums, Tensors, closeness, same_shapes
from fxq.report.comparison import Comparison, LayerComparison
from fxq.report.kinds import WEIGHT_ONLY_OPS, Kind
from fxq.report.lockstep import real_tensors
from fxq.report.weight_errors import weight_of
from fxq.report.wording import short_type
from fxq.runtime.dynamic.attention import DynamicAttention
from fxq.runtime.dynamic.op import DynamicOp


@dataclass(frozen=True, eq=False)
class _Layer:
    """A module and what has taken its place, at one path."""

    exact: nn.Module
    rounded: nn.Module


@dataclass(frozen=True)
class _Call:
    """A call of a float module."""

    inputs: Inputs
    result: Tensors


def has_replaced_modules(model: nn.Module) -> bool:
    """Whether quantize_dynamic has been there."""
    return any(map(_is_replaced, model.modules()))


def _is_replaced(module: nn.Module) -> bool:
    return isinstance(module, (DynamicOp, DynamicAttention, *WEIGHT_ONLY_OPS))


class ModuleTally:
    """Sums over batches, for every module that has been replaced.

    Args:
        float_model, int8_model: called with the same inputs.

    Attributes:
        batches: how many were added.

    Raises:
        ConfigError: the float model has no module where the other one has a replaced one.
    """

    def __init__(self, float_model: nn.Module, int8_model: nn.Module) -> None:
        self._exact = copy.deepcopy(float_model).eval() if float_model.training else float_model
        self._int8 = int8_model
        self._layers = dict(_layers(self._exact, int8_model))
        self._so_far: dict[str, Sums] = defaultdict(Sums)
        self._alone: dict[str, Sums] = defaultdict(Sums)
        self._output = Sums()
        self.batches = 0

    @torch.no_grad()
    def add_batch(self, inputs: Inputs) -> None:
        """Runs both models. A module that one of them calls more often is compared as often as both do."""
        calls: dict[str, list[_Call]] = defaultdict(list)
        with _hooked({path: layer.exact for path, layer in self._layers.items()}, lambda path, call, _: calls[path].append(call)):
            exact = real_tensors(self._exact(*inputs.args, **dict(inputs.kwargs)))
        left = {path: iter(found) for path, found in calls.items()}

        def compare(path: str, call: _Call, module: nn.Module) -> None:
            same = next(left.get(path, iter(())), None)
            if same is not None and same_shapes(same.result, call.result):
                alone = real_tensors(module.forward(*same.inputs.args, **dict(same.inputs.kwargs)))
                self._so_far[path].add_all(same.result, call.result)
                self._alone[path].add_all(same.result, alone)

        with _hooked({path: layer.rounded for path, layer in self._layers.items()}, compare):
            found = real_tensors(self._int8(*inputs.args, **dict(inputs.kwargs)))
        self.batches += 1
        if same_shapes(exact, found):
            self._output.add_all(exact, found)

    def comparison(self) -> Comparison:
        """Of all batches."""
        rows = sorted((self._row(path) for path in self._so_far), key=lambda row: (row.damage_db, row.so_far.sqnr_db))
        return Comparison(batches=self.batches, output=self._output.closeness(), rows=tuple(rows), skipped={})

    def _row(self, path: str) -> LayerComparison:
        layer = self._layers[path]
        kind = short_type(qualified_name(type(layer.exact)))
        return LayerComparison(
            name=path,
            what=f"{kind} {path}",
            type=kind,
            module=path,
            kind=Kind.WEIGHT_ONLY if isinstance(layer.rounded, WEIGHT_ONLY_OPS) else Kind.DYNAMIC,
            fused=(),
            alone=self._alone[path].closeness(),
            so_far=self._so_far[path].closeness(),
            weight=_weights(layer),
        )


def _layers(exact: nn.Module, int8: nn.Module) -> Iterator[tuple[str, _Layer]]:
    """Those of an attention are its own: the float model has no modules for them."""
    modules, inside = dict(exact.named_modules()), ""
    for path, module in int8.named_modules():
        if not _is_replaced(module) or (inside and path.startswith(inside)):
            continue
        inside = f"{path}." if isinstance(module, DynamicAttention) else ""
        if path not in modules:
            raise ConfigError(
                f"float model, {path}",
                expected="the model that was given to fxq.quantize_dynamic",
                found="no module there",
                remedy="pass the float model itself, built with the same arguments",
            )
        if type(modules[path]) is not type(module):
            yield path, _Layer(modules[path], module)


@contextmanager
def _hooked(modules: Mapping[str, nn.Module], heard: Callable[[str, _Call, nn.Module], None]) -> Iterator[None]:
    """Says of each call of these modules what it was given and what came out, before anybody can change it."""

    def hook(path: str) -> Callable[..., None]:
        def listen(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            given, kept = tree_map_only(Tensor, torch.clone, (args, kwargs)), tree_map_only(Tensor, torch.clone, result)
            heard(path, _Call(Inputs(*given), real_tensors(kept)), module)

        return listen

    with ExitStack() as hooks:
        for path, module in modules.items():
            hooks.callback(module.register_forward_hook(hook(path), with_kwargs=True).remove)
        yield


def _weights(layer: _Layer) -> Closeness | None:
    """Of modules of torch with one matrix, outputs before inputs."""
    rounded = weight_of(layer.rounded)
    if rounded is None or not isinstance(layer.exact, nn.Linear | nn.Embedding | nn.EmbeddingBag):
        return None
    return closeness([layer.exact.weight], [rounded]) if layer.exact.weight.shape == rounded.shape else None
