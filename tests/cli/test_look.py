"""fxq report, graph and diff."""

from __future__ import annotations

from pathlib import Path

import pytest

import fxq
from fxq.cli import main
from fxq.visualize import to_mermaid, to_svg
from tests.cli.commands import check_error, run_json, run_quantize


def test_report_and_graph_of_a_saved_model(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = fxq.load("model.fxq")
    for command, expected in (
        (["report", "model.fxq"], str(fxq.report(loaded))),
        (["graph", "model.fxq"], fxq.print_graph(loaded)),
        (["graph", "model.fxq", "--format", "dot"], fxq.to_dot(loaded)),
        (["graph", "model.fxq", "--format", "svg"], to_svg(loaded)),
        (["graph", "model.fxq", "--format", "mermaid"], to_mermaid(loaded)),
    ):
        assert main(command) == 0
        assert capsys.readouterr().out.rstrip("\n") == expected.rstrip("\n"), command
    assert run_json(capsys, "report", "model.fxq") == fxq.report(loaded).to_dict()


def test_too_little_in_int8(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mapping.json").write_text(fxq.get_default_qconfig_mapping().set_module_name("4", None).to_json())
    assert run_quantize("--qconfig", "mapping.json") == 0
    capsys.readouterr()
    assert main(["report", "model.fxq", "--min-int8-macs", "0.5"]) == 0
    assert "less than" not in capsys.readouterr().out
    assert main(["report", "model.fxq", "--min-int8-macs", "0.99"]) == 1
    assert capsys.readouterr().out.endswith("\n\n84.4 % of the MACs are in int8, less than 99.0 %\n")
    run_json(capsys, "report", "model.fxq", "--min-int8-macs", "0.99", code=1)


def test_difference_of_two_models(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "model.fxq", "model.fxq"]) == 0
    capsys.readouterr()
    (saved / "mapping.json").write_text(fxq.get_default_qconfig_mapping().set_module_name("4", None).to_json())
    assert run_quantize("--qconfig", "mapping.json", "--out", "other.fxq") == 0
    capsys.readouterr()
    expected = fxq.diff(fxq.load("model.fxq"), fxq.load("other.fxq"))
    assert main(["diff", "model.fxq", "other.fxq"]) == 1
    assert capsys.readouterr().out == f"{expected}\n"
    assert run_json(capsys, "diff", "model.fxq", "other.fxq", code=1) == expected.to_dict()


def test_picture_of_a_saved_model(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["visualize", "model.fxq", "--out", "model.html"]
    assert main(command) == 0
    text = (saved / "model.html").read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"wrote model.html ({len(text.encode()) / 1000:,.1f} kB)\n"
    assert main([*command, "--float", "zoo:made", "--batches", "zoo:several", "--times"]) == 0
    assert len((saved / "model.html").read_text(encoding="utf-8")) > len(text)


def test_picture_beside_a_float_model_needs_batches(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["visualize", "model.fxq", "--out", "model.html", "--float", "zoo:made"]) == 2
    check_error(capsys, "--float", "none", "--batches")
