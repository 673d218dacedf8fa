"""MODULE:NAME, right and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxq.cli import main
from tests.cli.commands import check_error, run_quantize


@pytest.mark.parametrize(
    ("model", "where", "found", "remedy"),
    [
        ("zoo", "zoo", "'zoo'", "zoo:build_model"),
        ("zoo:build_modell", "zoo:build_modell", "no such name", "write 'build_model'"),
        ("zo:build_model", "zo:build_model", "no module named 'zo'", "in the folder that holds it"),
        ("zoo.py:build_model", "zoo.py:build_model", "no module named 'zoo.py'", "without .py"),
        ("broken:f", "broken:f", "No module named 'no_such_package'", "FXQ_DEBUG=1"),
        ("broken:f", "broken:f", "broken.py:1)", "FXQ_DEBUG=1"),
        ("unreadable:f", "unreadable:f", "SyntaxError: invalid syntax (unreadable.py, line 1)\n", "FXQ_DEBUG=1"),
        ("zoo:needs_argument", "zoo:needs_argument", "missing 1 required positional argument: 'x'\n", "FXQ_DEBUG=1"),
        ("zoo:number", "zoo:number", "int", "name a function"),
        ("zoo:nothing", "zoo:nothing", "NoneType None", "return the model"),
        ("zoo:Failing", "model (the model itself, ", "no such mode", "pass example_inputs"),
    ],
)
def test_wrong_model(folder: Path, capsys: pytest.CaptureFixture[str], model: str, where: str, found: str, remedy: str) -> None:
    assert run_quantize(model=model) == 2
    check_error(capsys, where, found, remedy)
    assert not (folder / "model.fxq").exists()


@pytest.mark.parametrize(
    ("batches", "where", "found", "remedy"),
    [
        ("zoo:nothing", "zoo:nothing", "NoneType", "return a list"),
        ("zoo:number", "zoo:number", "int", "name a function"),
        ("zoo:one", "zoo:one", "Tensor", "put it into a list"),
        ("zoo:with_labels", "example_inputs", "2 positional", "only the input"),
        ("zoo:changing", "calibration batch 1", "RuntimeError", "shapes and dtypes"),
        ("zoo:breaking", "zoo:breaking", "FileNotFoundError: images.npy", "FXQ_DEBUG=1"),
    ],
)
def test_wrong_batches(folder: Path, capsys: pytest.CaptureFixture[str], batches: str, where: str, found: str, remedy: str) -> None:
    assert run_quantize(batches=batches) == 2
    check_error(capsys, where, found, remedy)
    assert not (folder / "model.fxq").exists()


@pytest.mark.parametrize(
    ("metric", "found"), [("zoo:number", "int"), ("zoo:one", "Tensor"), ("zoo:nothing", "takes 0 positional arguments but 1 was given")]
)
def test_wrong_function(folder: Path, capsys: pytest.CaptureFixture[str], metric: str, found: str) -> None:
    assert main(["sensitivity", "zoo:made", "--batches", "zoo:several", "--metric", metric, "--max-drop", "1"]) == 2
    check_error(capsys, metric, found, "name a function" if metric != "zoo:nothing" else "FXQ_DEBUG=1")
