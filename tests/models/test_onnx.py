"""Real architectures in ONNX Runtime: as accurate as in fxq."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fxq
from benchmarks.architectures import build, import_models, outputs, random_batches, sqnr
from tests.export.runtime import run_onnx
from tests.models.conftest import Compiled


def test_onnx_runtime_is_as_accurate(compiled: Compiled, tmp_path: Path) -> None:
    exported = fxq.export_onnx(compiled.lowered, tmp_path / "model.onnx", (compiled.float.batches[0][:1],))
    batches = compiled.float.batches
    found = torch.cat([run_onnx(exported.path, batch)[0] for batch in batches])
    ours = outputs(compiled.lowered, batches)
    assert abs(sqnr(compiled.float.exact, found) - sqnr(compiled.float.exact, ours)) < 0.5
    assert sqnr(ours, found) > sqnr(compiled.float.exact, ours) + 2.0


def test_hardswish_and_gates(tmp_path: Path) -> None:
    """MobileNetV3, which has them, saved and loaded before it is exported."""
    try:
        import_models()
    except ImportError:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision")
    model, batches = build("mobilenet_v3_large", 64), random_batches(2, 4, 64)
    int8 = fxq.quantize(model, batches, progress=False)
    fxq.save(int8, tmp_path / "model.fxq")
    exported = fxq.export_onnx(fxq.load(tmp_path / "model.fxq"), tmp_path / "model.onnx")
    exact = outputs(model, batches)
    found = torch.cat([run_onnx(exported.path, batch)[0] for batch in batches])
    assert abs(sqnr(exact, found) - sqnr(exact, outputs(int8, batches))) < 0.5
