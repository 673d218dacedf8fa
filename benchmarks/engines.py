"""The same float model through fxq and through torch.ao's FX mode, calibrated with the same batches."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import fxq

TORCH_AO_ENGINES = ("onednn", "x86", "qnnpack")


def by_fxq(model: nn.Module, batches: Sequence[Tensor], profile: str = "x86") -> nn.Module:
    """int8 by fxq's defaults for the profile."""
    return fxq.quantize(model, batches, profile, progress=False)


def prepare_torch_ao(model: nn.Module, example: Tensor, engine: str) -> Any:
    """prepare_fx of torch.ao with the engine's defaults, on a copy; the engine stays chosen."""
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

    torch.backends.quantized.engine = engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantize_fx.prepare_fx(copy.deepcopy(model), get_default_qconfig_mapping(engine), (example,))


def convert_torch_ao(prepared: Any) -> nn.Module:
    """convert_fx of torch.ao."""
    from torch.ao.quantization import quantize_fx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted: nn.Module = quantize_fx.convert_fx(prepared)
    return converted


@torch.no_grad()
def by_torch_ao(model: nn.Module, batches: Sequence[Tensor], engine: str) -> nn.Module:
    """int8 by torch.ao's defaults for the engine, which must be the chosen one when the result is run."""
    prepared = prepare_torch_ao(model, batches[0], engine)
    for batch in batches:
        prepared(batch)
    return convert_torch_ao(prepared)
