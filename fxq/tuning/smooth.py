"""SmoothQuant: what makes activations hard to quantize is moved into the weights, which are easy.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models" (ICML 2023): feature j of what a
linear layer reads is divided by s_j, and column j of its weights multiplied with it, s_j = max|x_j|^α / max|w_j|^(1−α). A few features of
transformers are many times as large as all others; the strength α says how much of that goes over to the weights.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxq.dynamic.modules import call_parts
from fxq.errors import CalibrationError, ConfigError
from fxq.graph.qtypes import dequantize_tensor, quantize_tensor
from fxq.graph.row_qparams import choose_row_qparams, dequantize_rows, quantize_rows
from fxq.passes.arguments import split_inputs
from fxq.qconfig_mapping import QConfig, per_row_dynamic_qconfig

# strengths to choose from; a layer for which none is better than nothing stays as it is
STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7)
# rows of each layer's input that strengths are compared on
_ROWS = 256
# features that are never used, and columns of zeros, are not divided by less
_SMALLEST = 1e-5


class Smoothed(nn.Module):
    """A linear layer behind a factor for each feature of its input.

    Args:
        layer: with the inverse factors in its weights.
        factors: f32 [in_features].
    """

    factors: Tensor

    def __init__(self, layer: nn.Linear, factors: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("factors", factors)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] → [..., out_features]"""
        found: Tensor = self.layer(x * self.factors)
        return found


def smooth(model: nn.Module, batches: Iterable[Any], qconfig: QConfig = per_row_dynamic_qconfig) -> nn.Module:
    """A copy of the model, in evaluation mode, whose linear layers lose less when they are quantized dynamically.

    It computes what the model computes, up to float rounding. Each layer gets the strength with which its result is closest to that
    of the float layer, on some rows of its input; where none helps it stays as it is.

    Args:
        model: left as it is.
        batches: what forward takes: tensors, tuples of positional inputs or dicts of keyword inputs. Some dozen samples are enough.
        qconfig: dynamic; how the layers will be quantized.

    Raises:
        CalibrationError: there is no batch, or no linear layer is called.
        ConfigError: the qconfig is not dynamic.
    """
    if not qconfig.activation.spec.dynamic:
        raise ConfigError(
            "smooth", expected="a dynamic QConfig", found=str(qconfig), remedy="use fxq.per_row_dynamic_qconfig, or leave it out"
        )
    smoothed = copy.deepcopy(model).eval()
    seen = {layer: _Seen() for layer in _with_own_weights(smoothed)}
    with _watched(seen), torch.no_grad():
        for batch in batches:
            inputs = split_inputs(batch)
            smoothed(*inputs.args, **inputs.kwargs)
    used = {layer: found for layer, found in seen.items() if found.rows}
    if not used:
        raise CalibrationError(
            "smooth",
            expected="batches on which linear layers of the model are called",
            found="none",
            remedy="pass some samples of real inputs",
        )
    made = {layer: _smoothed(layer, found, qconfig) for layer, found in used.items()}
    _replace(smoothed, {layer: new for layer, new in made.items() if new is not None})
    return smoothed


def _with_own_weights(model: nn.Module) -> list[nn.Linear]:
    """The linear layers, but for those whose weight other modules read as well: an embedding, say."""
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    return [layer for layer in model.modules() if type(layer) is nn.Linear and owners[id(layer.weight)] == 1]


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
            self.rows.append(rows[:: max(1, len(rows) // 32)].clone())

    def sample(self) -> Tensor:
        rows = torch.cat(self.rows)
        return rows[:: max(1, len(rows) // _ROWS)]


@contextmanager
def _watched(seen: Mapping[nn.Linear, _Seen]) -> Iterator[None]:
    hooks = [layer.register_forward_pre_hook(lambda module, inputs, found=found: found.add(inputs[0])) for layer, found in seen.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


# --- the strength ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _smoothed(layer: nn.Linear, seen: _Seen, qconfig: QConfig) -> Smoothed | None:
    """The layer with the best strength; None where that is none."""
    weight, rows = layer.weight.float(), seen.sample()
    exact, columns = F.linear(rows, weight), weight.abs().amax(0).clamp(min=_SMALLEST)
    best, least = None, _error(exact, rows, weight, qconfig)
    for strength in STRENGTHS:
        moved = seen.largest.clamp(min=_SMALLEST) ** strength / columns ** (1 - strength)
        found = _error(exact, rows / moved, weight * moved, qconfig)
        if found < least:
            best, least = moved, found
    if best is None:
        return None
    layer.weight.copy_(layer.weight * best)
    return Smoothed(layer, (1 / best).to(layer.weight.dtype))


def _error(exact: Tensor, rows: Tensor, weight: Tensor, qconfig: QConfig) -> float:
    """Σ (y − y')², y' of the layer as it will be quantized."""
    of_weight = qconfig.weight.qparams_of(weight)
    of_rows = choose_row_qparams(rows, per_row=qconfig.activation.spec.axis is not None)
    rounded = dequantize_tensor(quantize_tensor(weight, of_weight), of_weight)
    return float((F.linear(dequantize_rows(quantize_rows(rows, of_rows), of_rows), rounded) - exact).square().sum())


def _replace(model: nn.Module, made: Mapping[nn.Linear, Smoothed]) -> None:
    """In every place where one of the layers stands."""
    for owner in list(model.modules()):
        places = {name: made[child] for name, child in owner._modules.items() if isinstance(child, nn.Linear) and child in made}
        owner._modules.update(places)
        if places:
            call_parts(owner)
