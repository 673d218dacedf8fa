from __future__ import annotations

import pytest
import torch

from fxq.errors import ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QuantSpec
from fxq.observers.spec_args import args_from_spec, plain_args, spec_from_args

ROWS = [
    ({}, ACTIVATION),
    ({"dtype": torch.quint8}, ACTIVATION),
    ({"dtype": torch.qint8}, QuantSpec("int8", -128, 127)),
    ({"dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric}, WEIGHT_PER_TENSOR),
    ({"dtype": "int8", "qscheme": "per_channel_symmetric"}, WEIGHT_PER_CHANNEL),
    ({"dtype": torch.int8, "qscheme": torch.per_channel_affine, "ch_axis": 1}, QuantSpec("int8", -128, 127, axis=1)),
    ({"qscheme": torch.per_tensor_symmetric}, QuantSpec("uint8", 0, 255, symmetric=True)),
    ({"quant_min": 0, "quant_max": 127}, QuantSpec("uint8", 0, 127)),
    ({"dtype": torch.qint8, "quant_min": -100}, QuantSpec("int8", -100, 127)),
    ({"quant_min": None, "quant_max": None}, ACTIVATION),
    ({"reduce_range": True}, QuantSpec("uint8", 0, 127)),
    ({"dtype": torch.qint8, "reduce_range": True}, QuantSpec("int8", -64, 63)),
    ({"dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric, "reduce_range": True}, QuantSpec("int8", -63, 63, symmetric=True)),
    ({"eps": 2**-12, "is_dynamic": True}, QuantSpec(eps=2.0**-12, dynamic=True)),
    ({"spec": WEIGHT_PER_CHANNEL, "ch_axis": 1}, QuantSpec("int8", -127, 127, symmetric=True, axis=1)),
]


@pytest.mark.parametrize(("args", "expected"), ROWS)
def test_torch_ao_arguments(args: dict[str, object], expected: QuantSpec) -> None:
    assert spec_from_args(ACTIVATION, plain_args(args)) == expected


def test_the_default_gives_what_is_not_said() -> None:
    default = QuantSpec("int8", -100, 100, symmetric=True, axis=2)
    assert spec_from_args(default, {}) == default
    assert spec_from_args(default, {"dtype": "uint8"}) == QuantSpec("uint8", 0, 255, symmetric=True, axis=2)
    assert spec_from_args(default, {"qscheme": "per_tensor_symmetric"}) == QuantSpec("int8", -100, 100, symmetric=True)


@pytest.mark.parametrize("spec", [expected for _, expected in ROWS])
@pytest.mark.parametrize("default", [ACTIVATION, WEIGHT_PER_CHANNEL])
def test_there_and_back(spec: QuantSpec, default: QuantSpec) -> None:
    assert spec_from_args(default, args_from_spec(spec)) == spec


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"dtype": torch.float16}, "float16"),
        ({"qscheme": torch.per_channel_affine_float_qparams}, "per_channel_affine_float_qparams"),
        ({"ch_axis": 0}, "per-channel qscheme"),
        ({"quant_min": 0, "quant_max": 256}, "qmax=256"),
        ({"quant_min": "low"}, "quant_min"),
        ({"spec": "uint8"}, "a QuantSpec"),
        ({"bins": torch.ones(2)}, "JSON"),
    ],
)
def test_what_does_not_fit_is_named(args: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec_from_args(ACTIVATION, plain_args(args))
