"""The int8 model in the formats of other runtimes."""

from fxq.export.export import OnnxExport, export_onnx

__all__ = ["OnnxExport", "export_onnx"]
