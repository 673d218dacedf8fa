"""Which layer is quantized, and how: QConfig, QConfigMapping and the presets of the profiles."""

from fxq.qconfig_mapping.custom_config import ConvertCustomConfig, FuseCustomConfig, PrepareCustomConfig
from fxq.qconfig_mapping.defaults import (
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
    per_row_dynamic_qconfig,
    weight_only_qconfig,
)
from fxq.qconfig_mapping.lookup import Resolution
from fxq.qconfig_mapping.mapping import QConfigMapping
from fxq.qconfig_mapping.presets import (
    PRESETS,
    Preset,
    get_default_qat_qconfig,
    get_default_qat_qconfig_mapping,
    get_default_qconfig,
    get_default_qconfig_mapping,
)
from fxq.qconfig_mapping.qconfig import QConfig

__all__ = [
    "QConfig", "QConfigMapping", "Resolution", "get_default_qconfig", "get_default_qconfig_mapping", "get_default_qat_qconfig",
    "get_default_qat_qconfig_mapping", "PRESETS", "Preset",
    "default_qconfig", "default_per_channel_qconfig", "default_debug_qconfig",
    "default_symmetric_qnnpack_qconfig", "default_per_channel_symmetric_qnnpack_qconfig",
    "default_dynamic_qconfig", "per_channel_dynamic_qconfig", "per_row_dynamic_qconfig",
    "float_qparams_weight_only_qconfig", "float_qparams_weight_only_qconfig_4bit", "float16_dynamic_qconfig", "weight_only_qconfig",
    "PrepareCustomConfig", "ConvertCustomConfig", "FuseCustomConfig",
]  # fmt: skip
