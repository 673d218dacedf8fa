"""BackendConfigs of torch.ao and of fxq.compat → profiles."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import fxq
import fxq.compat.torch_ao as compat
from fxq.compat.importer import from_torch_ao
from fxq.errors import ConfigError
from fxq.graph.profile import BackendProfile
from fxq.lowering.profiles import find_profile

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch.ao.quantization.backend_config as their_backends
    import torch.ao.quantization.quantize_fx


class Custom(nn.Linear):
    pass


UINT8_INT8 = {"input_dtype": torch.quint8, "output_dtype": torch.quint8, "weight_dtype": torch.qint8, "bias_dtype": torch.float}


def backend(module: Any, *patterns: tuple[Any, dict[str, Any]]) -> Any:
    """A BackendConfig of torch.ao or of fxq.compat, by module, with one DTypeConfig per pattern."""
    config = module.BackendConfig("mine")
    for pattern, dtypes in patterns:
        config.set_backend_pattern_config(module.BackendPatternConfig(pattern).add_dtype_config(module.DTypeConfig(**dtypes)))
    return config


@pytest.mark.parametrize("module", [their_backends, compat], ids=["torch.ao", "compat"])
def test_patterns_become_the_ops_of_a_profile(module: Any) -> None:
    given = backend(module, ((nn.Linear, nn.ReLU), UINT8_INT8), (torch.add, {**UINT8_INT8, "weight_dtype": None}), ("view", UINT8_INT8))
    profile = compat._profile(given)
    assert isinstance(profile, BackendProfile)
    assert (profile.name, profile.ops) == ("mine", {"linear", "relu", "add", "reshape"})
    x86 = find_profile("x86")
    assert (profile.activations, profile.weights, profile.multiplier_bits) == (x86.activations, x86.weights, x86.multiplier_bits)


@pytest.mark.parametrize("module", [their_backends, compat], ids=["torch.ao", "compat"])
@pytest.mark.parametrize(
    "dtypes",
    [
        {**UINT8_INT8, "is_dynamic": True},
        {**UINT8_INT8, "input_dtype": torch.float16, "weight_dtype": torch.float16},
        {"input_dtype": torch.float, "output_dtype": torch.float, "weight_dtype": torch.quint8},
    ],
    ids=["dynamic", "float16", "weight only"],
)
def test_patterns_in_other_dtypes_are_left_out(module: Any, dtypes: dict[str, Any]) -> None:
    assert compat._profile(backend(module, (nn.Linear, dtypes), (nn.Conv2d, UINT8_INT8))).ops == {"conv"}
    with pytest.raises(ConfigError, match="none that the kernels take"):
        compat._profile(backend(module, (nn.Linear, dtypes)))


@pytest.mark.parametrize("module", [their_backends, compat], ids=["torch.ao", "compat"])
def test_a_pattern_of_the_users_own_op_is_an_error(module: Any) -> None:
    with pytest.raises(ConfigError, match="Custom") as caught:
        compat._profile(backend(module, ((nn.Linear, Custom), UINT8_INT8)))
    assert "set_float_to_observed_mapping" in caught.value.remedy


@pytest.mark.parametrize("module", [their_backends, compat], ids=["torch.ao", "compat"])
def test_two_bounds_for_one_dtype_are_an_error(module: Any) -> None:
    narrow = module.DTypeWithConstraints(dtype=torch.quint8, quant_min_lower_bound=0, quant_max_upper_bound=127)
    other = {**UINT8_INT8, "input_dtype": narrow, "output_dtype": narrow}
    with pytest.raises(ConfigError, match="the same bounds for uint8 in all patterns"):
        compat._profile(backend(module, (nn.Linear, UINT8_INT8), (nn.Conv2d, other)))


@pytest.mark.parametrize("name", ["native", "fbgemm", "onednn", "qnnpack", "executorch"])
def test_torch_aos_own_backends(name: str) -> None:
    """The ops that torch.ao quantizes and fxq knows; the built-in names of fxq.compat are whole profiles."""
    profile = from_torch_ao(getattr(their_backends, f"get_{name}_backend_config")())
    base = find_profile("qnnpack" if name == "qnnpack" else "x86")
    assert {"conv", "linear", "add", "cat", "max_pool"} <= profile.ops <= base.ops
    assert all(row in profile.activations for row in base.activations if row.dtype == "uint8")
    mine = getattr(compat, f"get_{name}_backend_config")
    assert name == "executorch" or mine() == base


@pytest.mark.parametrize("module", [their_backends, compat], ids=["torch.ao", "compat"])
def test_setters_of_the_pattern(module: Any) -> None:
    dtypes = module.DTypeConfig(**UINT8_INT8)
    pattern = module.BackendPatternConfig().set_pattern(nn.Conv2d).set_dtype_configs([dtypes, dtypes])
    config = module.BackendConfig().set_name("two").set_backend_pattern_configs([pattern, pattern])
    assert len(config.configs) == 1
    assert compat._profile(config).ops == {"conv"}


def test_what_is_no_backend_config_is_an_error() -> None:
    with pytest.raises(ConfigError, match="backend_config"):
        compat.prepare_fx(nn.Linear(2, 2), fxq.get_default_qconfig_mapping(), torch.randn(1, 2), backend_config="x86")
    with pytest.raises(ConfigError, match="_equalization_config"):
        compat.prepare_fx(nn.Linear(2, 2), fxq.get_default_qconfig_mapping(), torch.randn(1, 2), _equalization_config={"": None})
