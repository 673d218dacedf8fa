"""fxq: PyTorch models in int8 on ordinary CPUs.

    int8_model = fxq.quantize(model, calibration_batches)
    print(fxq.report(int8_model))

or step by step, as with torch.ao.quantization.quantize_fx:

    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), example_inputs)
    for batch in calibration_batches: prepared(batch)
    int8_model = fxq.convert_fx(prepared)
"""

from fxq.api import (
    calibrate,
    convert_fx,
    convert_to_reference_fx,
    fuse_fx,
    prepare_fx,
    prepare_qat_fx,
    quantize,
    quantize_dynamic,
)
from fxq.compat import from_torch_ao
from fxq.errors import CalibrationError, CaptureError, ConfigError, DataError, ExportError, FileError, FxqError, StageError
from fxq.export import OnnxExport, export_onnx
from fxq.files import load, save
from fxq.graph.module import FxqModule
from fxq.graph.parse import parse_graph
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.graph.reasons import Reason
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.lowering.profiles import PROFILES
from fxq.observers import (
    EntropyObserver,
    FixedQParamsObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    MSEObserver,
    NoopObserver,
    PercentileObserver,
    PerChannelHistogramObserver,
    PerChannelMinMaxObserver,
    PerChannelMSEObserver,
    PlaceholderObserver,
    RecordingObserver,
)
from fxq.qconfig_mapping import (
    ConvertCustomConfig,
    FuseCustomConfig,
    PrepareCustomConfig,
    QConfig,
    QConfigMapping,
    default_debug_qconfig,
    default_dynamic_qconfig,
    default_per_channel_qconfig,
    default_per_channel_symmetric_qnnpack_qconfig,
    default_qconfig,
    default_symmetric_qnnpack_qconfig,
    float16_dynamic_qconfig,
    float_qparams_weight_only_qconfig,
    float_qparams_weight_only_qconfig_4bit,
    get_default_qat_qconfig,
    get_default_qat_qconfig_mapping,
    get_default_qconfig,
    get_default_qconfig_mapping,
    per_channel_dynamic_qconfig,
    per_row_dynamic_qconfig,
    weight_only_qconfig,
)
from fxq.report import Comparison, Difference, Report, TimeProfile, compare, diff, profile, report
from fxq.runtime.qtensor import QTensor
from fxq.tuning import Sensitivity, sensitivity, smooth
from fxq.visualize import to_dot, to_mermaid, to_svg, visualize

__version__ = "0.1.0"

__all__ = [
    # float → int8
    "quantize", "prepare_fx", "prepare_qat_fx", "calibrate", "convert_fx", "convert_to_reference_fx", "fuse_fx",
    "quantize_dynamic", "smooth",
    # what to quantize, and how
    "QConfig", "QConfigMapping", "get_default_qconfig", "get_default_qconfig_mapping",
    "get_default_qat_qconfig", "get_default_qat_qconfig_mapping", "PROFILES",
    "default_qconfig", "default_per_channel_qconfig", "default_debug_qconfig",
    "default_symmetric_qnnpack_qconfig", "default_per_channel_symmetric_qnnpack_qconfig",
    "default_dynamic_qconfig", "per_channel_dynamic_qconfig", "per_row_dynamic_qconfig",
    "float_qparams_weight_only_qconfig", "float_qparams_weight_only_qconfig_4bit", "float16_dynamic_qconfig", "weight_only_qconfig",
    "PrepareCustomConfig", "ConvertCustomConfig", "FuseCustomConfig", "from_torch_ao",
    "MinMaxObserver", "MovingAverageMinMaxObserver", "PerChannelMinMaxObserver", "MovingAveragePerChannelMinMaxObserver",
    "HistogramObserver", "PerChannelHistogramObserver", "PercentileObserver", "EntropyObserver", "MSEObserver", "PerChannelMSEObserver",
    "RecordingObserver", "FixedQParamsObserver", "PlaceholderObserver", "NoopObserver",
    # what came of it
    "report", "Report", "compare", "Comparison", "sensitivity", "Sensitivity", "diff", "Difference", "profile", "TimeProfile",
    "FxqModule", "Stage", "Reason", "print_graph", "parse_graph",
    "visualize", "to_dot", "to_svg", "to_mermaid",
    # on disk, and for other runtimes
    "save", "load", "export_onnx", "OnnxExport",
    # quantized values
    "QuantSpec", "QParams", "QTensor",
    # what can go wrong
    "FxqError", "CaptureError", "ConfigError", "CalibrationError", "StageError", "DataError", "FileError", "ExportError",
]  # fmt: skip
