"""Models on disk: one file with the graph as JSON and the tensors as safetensors. Loading it builds known ops, and runs nothing."""

from fxq.files.store import load, save

__all__ = ["load", "save"]
