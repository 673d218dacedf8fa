"""torch.ao's default observers and ours, field by field. What differs on purpose is written in the table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch

import fxq.observers
from fxq.errors import ConfigError
from fxq.graph.qtypes import QuantSpec
from fxq.observers import ObserverFactory, read_factory
from fxq.observers import defaults as ours

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.ao.quantization import observer as theirs

SEVEN_BITS = {"quant_max": (255, 127)}
NOT_MINUS_128 = {"quant_min": (-127, -128)}

# name → field → (ours, torch.ao's); the other fields are the same
DIFFERENCES: Mapping[str, Mapping[str, tuple[object, object]]] = {
    "default_observer": SEVEN_BITS,
    "default_histogram_observer": SEVEN_BITS,
    "default_weight_observer": NOT_MINUS_128,
    "default_per_channel_weight_observer": NOT_MINUS_128,
    "weight_observer_range_neg_127_to_127": {},
    "per_channel_weight_observer_range_neg_127_to_127": {},
    "default_fixed_qparams_range_0to1_observer": {},
    "default_fixed_qparams_range_neg1to1_observer": {},
    # torch.ao's has no integers and no scheme
    "default_debug_observer": {"quant_min": (0, None), "quant_max": (255, None)},
    "default_dynamic_quant_observer": {},
    "default_placeholder_observer": {
        "dtype": ("uint8", "float32"),
        "quant_max": (255, None),
        "quant_min": (0, None),
        "dynamic": (True, False),
    },
}

LEFT_OUT = {
    "default_reuse_input_observer": "sharing is in the table of operations",
    "default_float_qparams_observer": "weight only",
    "default_float_qparams_observer_4bit": "weight only",
    "default_symmetric_fixed_qparams_observer": "old name of default_fixed_qparams_range_neg1to1_observer",
    "default_affine_fixed_qparams_observer": "old name of default_fixed_qparams_range_0to1_observer",
}

DTYPES = {torch.quint8: "uint8", torch.qint8: "int8", torch.float32: "float32"}


def default_names(module: Any) -> set[str]:
    return {name for name in vars(module) if name.startswith("default_") or "_range_neg_127" in name}


def our_fields(factory: ObserverFactory) -> dict[str, object]:
    made = factory()
    spec: QuantSpec = made.spec
    return {
        "class": type(made).__name__,
        "dtype": spec.dtype,
        "quant_min": spec.qmin,
        "quant_max": spec.qmax,
        "symmetric": spec.symmetric,
        "axis": spec.axis,
        "dynamic": spec.dynamic,
        "eps": spec.eps,
        "scale": getattr(made, "scale", None),
        "zero_point": getattr(made, "zero_point", None),
    }


def their_fields(factory: Any) -> dict[str, object]:
    """A range that torch.ao doesn't have is None; its default of eps is that of all others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = factory()
    scheme = str(getattr(made, "qscheme", torch.per_tensor_affine))
    scale, zero_point = getattr(made, "scale", None), getattr(made, "zero_point", None)
    return {
        "class": type(made).__name__,
        "dtype": DTYPES[made.dtype],
        "quant_min": getattr(made, "quant_min", None),
        "quant_max": getattr(made, "quant_max", None),
        "symmetric": "symmetric" in scheme,
        "axis": getattr(made, "ch_axis", None) if "per_channel" in scheme else None,
        "dynamic": getattr(made, "is_dynamic", False),
        "eps": float(made.eps) if hasattr(made, "eps") and made.eps is not None else 2.0**-23,
        "scale": None if scale is None else float(scale),
        "zero_point": None if zero_point is None else int(zero_point),
    }


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_fields_of_torch_ao_but_for_the_listed_differences(name: str) -> None:
    mine, peer = our_fields(getattr(ours, name)), their_fields(getattr(theirs, name))
    assert {field: (mine[field], peer[field]) for field in mine if mine[field] != peer[field]} == DIFFERENCES[name]


def test_every_name_of_torch_ao_is_here_or_left_out_for_a_reason() -> None:
    assert default_names(ours) == set(DIFFERENCES)
    assert default_names(theirs) == set(DIFFERENCES) | set(LEFT_OUT)
    assert set(DIFFERENCES) <= set(fxq.observers.__all__)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_json_there_and_back(name: str) -> None:
    factory: ObserverFactory = getattr(ours, name)
    assert read_factory(factory.model_dump(mode="json")) == factory


def test_more_arguments_as_with_torch_ao() -> None:
    assert fxq.observers.default_observer.with_args(quant_max=127).spec == QuantSpec("uint8", 0, 127)
    assert fxq.observers.default_weight_observer.with_args(dtype=torch.qint8, quant_min=-63, quant_max=63)().spec.qmax == 63
    with pytest.raises(ConfigError, match="bins"):
        fxq.observers.default_observer.with_args(bins=256)
