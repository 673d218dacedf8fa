"""ONNX Runtime as the other side of the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor


def run_onnx(path: Path, *inputs: Tensor, optimized: bool = True) -> list[Tensor]:
    """The outputs of the file, in order."""
    found = session(path, optimized=optimized)
    names = [each.name for each in found.get_inputs()]
    return [torch.from_numpy(value) for value in found.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})]


def session(path: Path, *, optimized: bool = True) -> Any:
    """One thread; without warnings about what it optimizes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
