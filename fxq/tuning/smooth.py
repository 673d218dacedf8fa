"""SmoothQuant: what makes activations hard to quantize is moved into the weights, which are easy.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models" (ICML 2023): feature j of what
linear layers read is divided by s_j, and column j of their weights multiplied with it. A few features of transformers are many times as
large as all others. Either s_j = max|x_j|^α / max|w_j|^(1−α), where the strength α says how much of all differences goes over to the
weights, or s_j = max(1, max|x_j| / bound), which leaves the features below the bound alone.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxq.dynamic.modules import LINEAR_BY_NAME, call_parts
from fxq.errors import CalibrationError, ConfigError
from fxq.graph.names import qualified_name
from fxq.graph.qtypes import dequantize_tensor, quantize_tensor
from fxq.graph.row_qparams import choose_row_qparams, dequantize_rows, quantize_rows
from fxq.passes.arguments import split_inputs
from fxq.qconfig_mapping import QConfig, per_row_dynamic_qconfig
from fxq.tuning.readers import Producer, Readers, scale

# to choose from; layers for which none is better than nothing stay as they are
STRENGTHS = (0.3, 0.45, 0.6, 0.75, 0.9)
# in terms of the largest feature
BOUNDS = (1 / 2, 1 / 4, 1 / 8)
# rows of each layer's input that choices are compared on
_ROWS = 384
# features that are never used, and columns of zeros, are not divided by less
_SMALLEST = 1e-5


class Smoothed(nn.Module):
    """A linear layer behind a factor for each feature of its input.

    Args:
        layer: with the inverse factors in its weights.
        factors: f32 [in_features].
    """

    factors: Tensor

    def __init__(self, layer: nn.Module, factors: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("factors", factors)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] → [..., out_features]"""
        found: Tensor = self.layer(x * self.factors)
        return found


def smooth(model: nn.Module, batches: Iterable[Any], qconfig: QConfig = per_row_dynamic_qconfig) -> nn.Module:
    """A copy of the model, in evaluation mode, whose linear layers lose less when they are quantized.

    It computes what the model computes, up to float rounding. Layers that read the same values get the factors with which their results
    are closest to those of the float layers, on some rows of their input; where none helps they stay as they are. Factors go into the
    norm, or the linear layer, that makes these values, where nothing else reads them; else each layer gets a product in front.

    Args:
        model: left as it is.
        batches: what forward takes: tensors, tuples of positional inputs or dicts of keyword inputs. Some dozen samples are enough.
        qconfig: how the layers will be quantized: dynamic, or calibrated.

    Raises:
        CalibrationError: there is no batch, or no linear layer is called.
        ConfigError: activations stay float under the qconfig.
    """
    if qconfig.weight_format is not None:
        raise ConfigError(
            "smooth",
            expected="a QConfig that quantizes activations",
            found=str(qconfig),
            remedy='use fxq.per_row_dynamic_qconfig, or fxq.get_default_qconfig("x86") for calibrated models',
        )
    smoothed = copy.deepcopy(model).eval()
    groups = _run(smoothed, batches)
    if not groups:
        raise CalibrationError(
            "smooth",
            expected="batches on which linear layers of the model are called",
            found="none",
            remedy="pass some samples of real inputs",
        )
    chosen = [(group, moved) for group in groups if (moved := _best(group, qconfig)) is not None]
    fresh: dict[nn.Module, Smoothed] = {}
    for group, moved in chosen:
        fresh.update(_apply(group, moved))
    _replace(smoothed, fresh)
    return smoothed


def _with_own_weights(model: nn.Module) -> list[nn.Module]:
    """Modules without others inside, but for those with a parameter that other modules read as well: an embedding, say."""
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    leaves = (module for module in model.modules() if next(module.children(), None) is None)
    return [leaf for leaf in leaves if all(owners[id(parameter)] == 1 for parameter in leaf.parameters())]


def _is_linear(module: nn.Module) -> bool:
    return type(module) is nn.Linear or _is_transposed(module)


def _is_transposed(module: nn.Module) -> bool:
    return qualified_name(type(module)) in LINEAR_BY_NAME


def _matrix(layer: Any) -> Tensor:
    """[out_features, in_features], the layer's own memory."""
    found: Tensor = layer.weight.detach()
    return found.t() if _is_transposed(layer) else found


# --- what arrives ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Seen:
    """What a layer has read.

    Attributes:
        largest: f32 [features], max|x_j|; 0 before the first batch.
        rows: some of its rows, of every batch.
    """

    largest: Tensor = field(default_factory=lambda: torch.zeros(()))
    rows: list[Tensor] = field(default_factory=list)

    def add(self, x: Tensor) -> None:
        rows = x.detach().reshape(-1, x.shape[-1]).float()
        if rows.numel() and bool(torch.isfinite(rows).all()):
            self.largest = torch.maximum(self.largest, rows.abs().amax(0))
            self.rows.append(rows[:: max(1, len(rows) // 64)].clone())

    def sample(self) -> Tensor:
        rows = torch.cat(self.rows)
        return rows[:: max(1, len(rows) // _ROWS)]


@dataclass(frozen=True, eq=False)
class _Group:
    """Layers that read the same values; what makes these, where it is known and nothing else reads them."""

    layers: Sequence[nn.Module]
    producer: Producer | None
    seen: _Seen


def _run(model: nn.Module, batches: Iterable[Any]) -> list[_Group]:
    leaves = _with_own_weights(model)
    seen = {leaf: _Seen() for leaf in leaves if _is_linear(leaf)}
    readers = Readers(seen, leaves, lambda layer, x: seen[layer].add(x))
    with readers.watching(), torch.no_grad():
        for batch in batches:
            inputs = split_inputs(batch)
            readers.read_elsewhere(model(*inputs.args, **inputs.kwargs))
            readers.forget_values()
    groups = (_Group(layers, producer, seen[layers[0]]) for layers, producer in readers.groups().items())
    return [group for group in groups if group.seen.rows]


# --- the factors -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _best(group: _Group, qconfig: QConfig) -> Tensor | None:
    """What the features are divided by; None where nothing helps."""
    weight, rows = torch.cat([_matrix(layer).float() for layer in group.layers]), group.seen.sample()
    exact = F.linear(rows, weight)
    unmoved = _errors(exact, rows, weight, qconfig)
    whole = unmoved.clamp(min=torch.finfo(torch.float32).tiny)
    best, least = None, float((unmoved / whole).sum())
    for moved in _choices(group.seen.largest.clamp(min=_SMALLEST), weight.abs().amax(0).clamp(min=_SMALLEST)):
        found = float((_errors(exact, rows / moved, weight * moved, qconfig) / whole).sum())
        if found < least:
            best, least = moved, found
    return best


def _choices(features: Tensor, columns: Tensor) -> Iterator[Tensor]:
    yield from (features**strength / columns ** (1 - strength) for strength in STRENGTHS)
    yield from ((features / (bound * features.max())).clamp(min=1) for bound in BOUNDS)


def _errors(exact: Tensor, rows: Tensor, weight: Tensor, qconfig: QConfig) -> Tensor:
    """Σ |y − y'|², and Σ |y − y'|² / |y|², which is what a norm behind leaves of it; y' a row of the layers as they will be quantized."""
    of_weight = qconfig.weight.qparams_of(weight)
    rounded = dequantize_tensor(quantize_tensor(weight, of_weight), of_weight)
    off = (F.linear(_rounded(rows, qconfig), rounded) - exact).square().sum(1)
    return torch.stack([off.sum(), (off / exact.square().sum(1).clamp(min=_SMALLEST**2)).sum()])


def _rounded(rows: Tensor, qconfig: QConfig) -> Tensor:
    if qconfig.activation.spec.dynamic:
        of_rows = choose_row_qparams(rows, per_row=qconfig.activation.spec.axis is not None)
        return dequantize_rows(quantize_rows(rows, of_rows), of_rows)
    observer = qconfig.activation()
    observer(rows)
    qparams = observer.qparams()
    return dequantize_tensor(quantize_tensor(rows, qparams), qparams)


# --- where they go -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _apply(group: _Group, moved: Tensor) -> dict[nn.Module, Smoothed]:
    """What takes the place of layers, where the factors have not found one in what makes their input."""
    for layer in group.layers:
        _matrix(layer).mul_(moved)
    dtype = _matrix(group.layers[0]).dtype
    factors = (1 / moved).to(dtype)
    if group.producer is not None and group.producer.takes(factors):
        scale(group.producer.module, factors)
        return {}
    return {layer: Smoothed(layer, factors) for layer in group.layers}


def _replace(model: nn.Module, made: Mapping[nn.Module, Smoothed]) -> None:
    """In every place where one of the layers stands."""
    for owner in list(model.modules()):
        places = {name: made[child] for name, child in owner._modules.items() if child is not None and child in made}
        if places and not isinstance(owner, Smoothed):
            owner._modules.update(places)
            call_parts(owner)
