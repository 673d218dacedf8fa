from __future__ import annotations

import sys
from pathlib import Path

import pytest

import fxq
from fxq.cli import main
from tests.cli.commands import check_error, run_json, run_quantize


def test_what_is_written_is_said(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = fxq.export_onnx(fxq.load("model.fxq"), "expected.onnx")
    assert main(["convert", "model.fxq", "--out", "model.onnx"]) == 0
    size = f"{expected.bytes / 1000:,.1f} kB"
    assert capsys.readouterr().out == f"wrote model.onnx ({size}, opset 17): {expected.quantized} quantized values; inputs input\n"
    assert (saved / "model.onnx").read_bytes() == (saved / "expected.onnx").read_bytes()


def test_options_and_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mapping.json").write_text(fxq.get_default_qconfig_mapping().set_module_name("4", None).to_json())
    assert run_quantize("--qconfig", "mapping.json") == 0
    capsys.readouterr()
    expected = fxq.export_onnx(fxq.load("model.fxq"), "expected.onnx", opset=21, dynamic_batch=False)
    found = run_json(capsys, "convert", "model.fxq", "--out", "model.onnx", "--opset", "21", "--fixed-batch")
    assert found == {
        "path": "model.onnx",
        "opset": 21,
        "inputs": ["input"],
        "outputs": ["output"],
        "bytes": expected.bytes,
        "quantized": expected.quantized,
        "stays_float": {
            "_3": "computes nothing on its elements, and no int8 op reads its result",
            "_4": 'kept float by set_module_name("4")',
        },
    }
    assert (folder / "model.onnx").read_bytes() == (folder / "expected.onnx").read_bytes()
    assert main(["convert", "model.fxq", "--out", "model.onnx"]) == 0
    assert capsys.readouterr().out.endswith('\n  _4 is float: kept float by set_module_name("4")\n')


def test_wrong_options(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "model.fxq", "--out", "none/model.onnx"]) == 2
    check_error(capsys, "none/model.onnx", "no folder none", "make the folder")
    assert main(["convert", "model.fxq", "--out", "model.onnx", "--opset", "3"]) == 2
    check_error(capsys, "opset", "3", "leave it out")


def test_missing_package(saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["convert", "model.fxq", "--out", "model.onnx"]) == 2
    check_error(capsys, "export_onnx", "onnx", "pip install")
