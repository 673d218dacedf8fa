"""Every op that can be int8, in ONNX Runtime: within one step of the scale of fxq's result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fxq.export import export_onnx
from fxq.export.translate import EMISSIONS
from fxq.graph.annotation import quant_of
from fxq.graph.ops import OPS
from tests.export.runtime import run_onnx
from tests.lowering.compiled import QCONFIG, SIGNED, compile_text
from tests.lowering.examples import EXAMPLES

CASES = [(f"{op}-{number}", text) for op, texts in EXAMPLES.items() for number, text in enumerate(texts)]
ARITHMETICS = {"x86": ("x86", QCONFIG), "qnnpack, int8": ("qnnpack", SIGNED)}

STEEPEST = 1.1  # slope of silu, which stands behind the op in most examples

# operators of a later opset than 17
LATER = {"conv-5": 19}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("profile", "qconfig"), ARITHMETICS.values(), ids=ARITHMETICS)
@pytest.mark.parametrize(("case", "text"), CASES, ids=[case for case, _ in CASES])
def test_result_is_within_a_step(case: str, text: str, profile: str, qconfig: Any, tmp_path: Path) -> None:
    """One step of one value in the graph may be several of one that is computed from it."""
    compiled = compile_text(text, profile, qconfig)
    export_onnx(compiled.lowered, tmp_path / "m.onnx", opset=LATER.get(case, 17), dynamic_batch=False)
    found = run_onnx(tmp_path / "m.onnx", *compiled.inputs)
    with torch.no_grad():
        expected = compiled.lowered(*compiled.inputs)
    scales = [float(quant.qparams.scale) for node in compiled.lowered.graph.nodes if (quant := quant_of(node)) and quant.qparams]
    for ours, theirs in zip(expected if isinstance(expected, tuple) else (expected,), found, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max()) <= STEEPEST * max(scales) + scales[-1]


def test_every_op_has_an_emission() -> None:
    assert sorted(EMISSIONS) == sorted(op.name for op in OPS)
