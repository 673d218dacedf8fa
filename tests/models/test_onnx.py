"""Real architectures in ONNX Runtime: as accurate as in fxq."""

from __future__ import annotations

from pathlib import Path

import torch

import fxq
from benchmarks.architectures import outputs, sqnr
from tests.export.runtime import run_onnx
from tests.models.conftest import Compiled


def test_onnx_runtime_is_as_accurate(compiled: Compiled, tmp_path: Path) -> None:
    exported = fxq.export_onnx(compiled.lowered, tmp_path / "model.onnx", (compiled.float.batches[0][:1],))
    batches = compiled.float.batches
    found = torch.cat([run_onnx(exported.path, batch)[0] for batch in batches])
    ours = outputs(compiled.lowered, batches)
    assert abs(sqnr(compiled.float.exact, found) - sqnr(compiled.float.exact, ours)) < 0.5
    assert sqnr(ours, found) > sqnr(compiled.float.exact, ours) + 2.0
