"""torch.ao's FX mode under its own names and call shapes, on fxq: change the imports of a script, and leave the rest.

    import fxq.compat.torch_ao as quantize_fx                                  # torch.ao.quantization.quantize_fx
    from fxq.compat.torch_ao import QConfigMapping, get_default_qconfig        # torch.ao.quantization, and its modules
    from fxq.compat.torch_ao import BackendConfig, DTypeConfig                 # torch.ao.quantization.backend_config

One module has the names of all of torch.ao's. Objects of torch.ao itself are taken, too, wherever a configuration is given.
A name that fxq has nothing for can be imported; using it is a ConfigError that says what to do (fxq.compat.absent).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fxq import api
from fxq import qconfig_mapping as presets
from fxq.compat.absent import ABSENT, Absent
from fxq.compat.backend_config import BackendConfig, BackendPatternConfig, DTypeConfig, DTypeWithConstraints, ObservationType
from fxq.compat.importer import SharedMapping as QConfigMapping
from fxq.compat.importer import from_torch_ao, shared_mapping
from fxq.compat.observers import import_qconfig
from fxq.compat.training import (
    FakeQuantize,
    FixedQParamsFakeQuantize,
    FusedMovingAvgObsFakeQuantize,
    default_affine_fixed_qparams_fake_quant,
    default_fake_quant,
    default_fixed_qparams_range_0to1_fake_quant,
    default_fixed_qparams_range_neg1to1_fake_quant,
    default_fused_act_fake_quant,
    default_fused_per_channel_wt_fake_quant,
    default_fused_wt_fake_quant,
    default_histogram_fake_quant,
    default_per_channel_symmetric_qnnpack_qat_qconfig,
    default_per_channel_weight_fake_quant,
    default_qat_qconfig,
    default_qat_qconfig_v2,
    default_symmetric_fixed_qparams_fake_quant,
    default_symmetric_qnnpack_qat_qconfig,
    default_weight_fake_quant,
    fused_per_channel_wt_fake_quant_range_neg_127_to_127,
    fused_wt_fake_quant_range_neg_127_to_127,
)
from fxq.errors import ConfigError
from fxq.graph.module import FxqModule
from fxq.graph.profile import BackendProfile
from fxq.lowering.profiles import find_profile
from fxq.observers import (
    FixedQParamsObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    NoopObserver,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
    RecordingObserver,
    default_debug_observer,
    default_dynamic_quant_observer,
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
    default_float_qparams_observer,
    default_float_qparams_observer_4bit,
    default_histogram_observer,
    default_observer,
    default_per_channel_weight_observer,
    default_placeholder_observer,
    default_weight_observer,
    per_channel_weight_observer_range_neg_127_to_127,
    weight_observer_range_neg_127_to_127,
)
from fxq.observers import Observer as ObserverBase
from fxq.qat import FakeQuantize as FakeQuantizeBase
from fxq.qat import disable_fake_quant, disable_observer, enable_fake_quant, enable_observer
from fxq.qconfig_mapping import (
    ConvertCustomConfig,
    FuseCustomConfig,
    PrepareCustomConfig,
    QConfig,
    default_debug_qconfig,
    default_dynamic_qconfig,
    default_per_channel_qconfig,
    default_per_channel_symmetric_qnnpack_qconfig,
    default_qconfig,
    default_symmetric_qnnpack_qconfig,
    float16_dynamic_qconfig,
    float_qparams_weight_only_qconfig,
    float_qparams_weight_only_qconfig_4bit,
    per_channel_dynamic_qconfig,
)
from fxq.qconfig_mapping.custom_config import StandaloneModule as StandaloneModuleConfigEntry

default_affine_fixed_qparams_observer = default_fixed_qparams_range_0to1_observer
default_symmetric_fixed_qparams_observer = default_fixed_qparams_range_neg1to1_observer
ObservedGraphModule = FxqModule

__all__ = [
    "prepare_fx", "prepare_qat_fx", "convert_fx", "convert_to_reference_fx", "fuse_fx", "ObservedGraphModule",
    "QConfig", "QConfigMapping", "get_default_qconfig", "get_default_qconfig_mapping", "qconfig_equals",
    "get_default_qat_qconfig", "get_default_qat_qconfig_mapping", "default_qat_qconfig", "default_qat_qconfig_v2",
    "default_symmetric_qnnpack_qat_qconfig", "default_per_channel_symmetric_qnnpack_qat_qconfig",
    "default_qconfig", "default_per_channel_qconfig", "default_debug_qconfig", "default_dynamic_qconfig", "per_channel_dynamic_qconfig",
    "default_symmetric_qnnpack_qconfig", "default_per_channel_symmetric_qnnpack_qconfig",
    "PrepareCustomConfig", "ConvertCustomConfig", "FuseCustomConfig", "StandaloneModuleConfigEntry",
    "BackendConfig", "BackendPatternConfig", "DTypeConfig", "DTypeWithConstraints", "ObservationType",
    "get_native_backend_config", "get_fbgemm_backend_config", "get_onednn_backend_config", "get_qnnpack_backend_config",
    "ObserverBase", "MinMaxObserver", "MovingAverageMinMaxObserver", "PerChannelMinMaxObserver", "MovingAveragePerChannelMinMaxObserver",
    "HistogramObserver", "RecordingObserver", "FixedQParamsObserver", "PlaceholderObserver", "NoopObserver",
    "default_observer", "default_histogram_observer", "default_debug_observer", "default_placeholder_observer",
    "default_dynamic_quant_observer", "quantize_dynamic",
    "float16_dynamic_qconfig", "float_qparams_weight_only_qconfig", "float_qparams_weight_only_qconfig_4bit",
    "default_float_qparams_observer", "default_float_qparams_observer_4bit",
    "default_weight_observer", "default_per_channel_weight_observer",
    "weight_observer_range_neg_127_to_127", "per_channel_weight_observer_range_neg_127_to_127",
    "default_fixed_qparams_range_0to1_observer", "default_fixed_qparams_range_neg1to1_observer",
    "default_affine_fixed_qparams_observer", "default_symmetric_fixed_qparams_observer",
    "FakeQuantizeBase", "FakeQuantize", "FusedMovingAvgObsFakeQuantize", "FixedQParamsFakeQuantize",
    "default_fake_quant", "default_histogram_fake_quant", "default_weight_fake_quant", "default_per_channel_weight_fake_quant",
    "default_fused_act_fake_quant", "default_fused_wt_fake_quant", "default_fused_per_channel_wt_fake_quant",
    "fused_wt_fake_quant_range_neg_127_to_127", "fused_per_channel_wt_fake_quant_range_neg_127_to_127",
    "default_fixed_qparams_range_0to1_fake_quant", "default_fixed_qparams_range_neg1to1_fake_quant",
    "default_affine_fixed_qparams_fake_quant", "default_symmetric_fixed_qparams_fake_quant",
    "enable_observer", "disable_observer", "enable_fake_quant", "disable_fake_quant",
]  # fmt: skip


def __getattr__(name: str) -> Absent:
    """Names that fxq has nothing for."""
    if name in ABSENT:
        return ABSENT[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# --- quantize_fx -------------------------------------------------------------------------------------------------------------


def prepare_fx(
    model: nn.Module,
    qconfig_mapping: QConfigMapping | Mapping[str, Any],
    example_inputs: Any,
    prepare_custom_config: PrepareCustomConfig | Mapping[str, Any] | None = None,
    _equalization_config: None = None,
    backend_config: BackendConfig | BackendProfile | None = None,
) -> FxqModule:
    """fxq.prepare_fx with torch.ao's parameters; the model is copied here, and a rule about an absent object type is no error.

    Raises:
        CaptureError, ConfigError: as fxq.prepare_fx; an equalization config, for which fxq has nothing.
    """
    if _equalization_config is not None:
        raise ConfigError(
            "_equalization_config", expected="None", found=type(_equalization_config).__name__, remedy="leave it out: fxq does not equalize"
        )
    mapping = shared_mapping(from_torch_ao(qconfig_mapping))
    profile = _profile(backend_config) or find_profile("x86")
    return api.prepare_fx(model, mapping, example_inputs, from_torch_ao(prepare_custom_config), profile=profile)


def prepare_qat_fx(
    model: nn.Module,
    qconfig_mapping: QConfigMapping | Mapping[str, Any],
    example_inputs: Any,
    prepare_custom_config: PrepareCustomConfig | Mapping[str, Any] | None = None,
    backend_config: BackendConfig | BackendProfile | None = None,
) -> FxqModule:
    """fxq.prepare_qat_fx with torch.ao's parameters; otherwise as prepare_fx."""
    mapping = shared_mapping(from_torch_ao(qconfig_mapping))
    profile = _profile(backend_config) or find_profile("x86")
    return api.prepare_qat_fx(model, mapping, example_inputs, from_torch_ao(prepare_custom_config), profile=profile)


def convert_fx(
    graph_module: FxqModule,
    convert_custom_config: ConvertCustomConfig | Mapping[str, Any] | None = None,
    _remove_qconfig: bool = True,
    qconfig_mapping: QConfigMapping | Mapping[str, Any] | None = None,
    backend_config: BackendConfig | BackendProfile | None = None,
    keep_original_weights: bool = False,
) -> FxqModule:
    """fxq.convert_fx with torch.ao's parameters. `_remove_qconfig` changes nothing: the int8 model has no qconfigs.

    Raises:
        CalibrationError, ConfigError, StageError: as fxq.convert_fx; a backend_config other than at prepare_fx.
    """
    _check_same_backend(graph_module, backend_config)
    mapping = None if qconfig_mapping is None else shared_mapping(from_torch_ao(qconfig_mapping))
    return api.convert_fx(
        graph_module, from_torch_ao(convert_custom_config), qconfig_mapping=mapping, keep_original_weights=keep_original_weights
    )


def convert_to_reference_fx(
    graph_module: FxqModule,
    convert_custom_config: ConvertCustomConfig | Mapping[str, Any] | None = None,
    _remove_qconfig: bool = True,
    qconfig_mapping: QConfigMapping | Mapping[str, Any] | None = None,
    backend_config: BackendConfig | BackendProfile | None = None,
) -> FxqModule:
    """fxq.convert_to_reference_fx with torch.ao's parameters. Raises as convert_fx."""
    _check_same_backend(graph_module, backend_config)
    mapping = None if qconfig_mapping is None else shared_mapping(from_torch_ao(qconfig_mapping))
    return api.convert_to_reference_fx(graph_module, from_torch_ao(convert_custom_config), qconfig_mapping=mapping)


def fuse_fx(
    model: nn.Module,
    fuse_custom_config: FuseCustomConfig | Mapping[str, Any] | None = None,
    backend_config: None = None,
    *,
    example_inputs: Any = None,
) -> FxqModule:
    """fxq.fuse_fx with torch.ao's parameters, and example_inputs, without which it is a ConfigError: fusions depend on shapes."""
    return api.fuse_fx(model, example_inputs, from_torch_ao(fuse_custom_config))


def _profile(backend_config: Any) -> BackendProfile | None:
    profile = from_torch_ao(backend_config)
    if profile is None or isinstance(profile, BackendProfile):
        return profile
    raise ConfigError(
        "backend_config",
        expected="a BackendConfig, a BackendProfile or None",
        found=repr(backend_config)[:200],
        remedy="build one with BackendConfig(), or take get_native_backend_config()",
    )


def _check_same_backend(prepared: Any, backend_config: Any) -> None:
    profile = _profile(backend_config)
    if profile is not None and isinstance(prepared, FxqModule) and profile != prepared.profile:
        raise ConfigError(
            "backend_config",
            expected="what prepare_fx was given, or None",
            found=f"another one, {profile.name!r}",
            remedy="leave it out: the prepared model knows its profile",
        )


# --- quantize ----------------------------------------------------------------------------------------------------------------


def quantize_dynamic(
    model: nn.Module, qconfig_spec: Any = None, dtype: Any = torch.int8, mapping: None = None, inplace: bool = False
) -> nn.Module:
    """fxq.quantize_dynamic. `mapping` is torch.ao's, from float modules to its own: there is one here, and another is a ConfigError."""
    if mapping is not None:
        raise ConfigError("mapping", expected="None", found="another one", remedy="leave it out: fxq has its own int8 modules")
    spec = {key: import_qconfig(qconfig) for key, qconfig in qconfig_spec.items()} if isinstance(qconfig_spec, Mapping) else qconfig_spec
    return api.quantize_dynamic(model, spec, dtype, inplace=inplace)


# --- qconfig_mapping, qconfig, observer, backend_config ------------------------------------------------------------------------


def get_default_qconfig(backend: str = "x86", version: int = 0) -> QConfig:
    """fxq.get_default_qconfig(backend). `version` is torch.ao's: there is one."""
    return presets.get_default_qconfig(backend)


def get_default_qconfig_mapping(backend: str = "x86", version: int = 0) -> QConfigMapping:
    """get_default_qconfig(backend) for the whole model."""
    return shared_mapping(presets.get_default_qconfig_mapping(backend))


def get_default_qat_qconfig(backend: str = "x86", version: int = 1) -> QConfig:
    """fxq.get_default_qat_qconfig(backend). `version` is torch.ao's: there is one."""
    return presets.get_default_qat_qconfig(backend)


def get_default_qat_qconfig_mapping(backend: str = "x86", version: int = 1) -> QConfigMapping:
    """get_default_qat_qconfig(backend) for the whole model."""
    return shared_mapping(presets.get_default_qat_qconfig_mapping(backend))


def qconfig_equals(q1: QConfig | None, q2: QConfig | None) -> bool:
    """q1 == q2: QConfigs are values."""
    return q1 == q2


def get_native_backend_config() -> BackendProfile:
    """Profile x86."""
    return find_profile("x86")


def get_fbgemm_backend_config() -> BackendProfile:
    """Profile x86."""
    return find_profile("x86")


def get_onednn_backend_config() -> BackendProfile:
    """Profile x86."""
    return find_profile("x86")


def get_qnnpack_backend_config() -> BackendProfile:
    """Profile qnnpack."""
    return find_profile("qnnpack")
