from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import fxq
from fxq.graph.module import FxqModule
from tests.cli.commands import check_error, expected_output, run_json, run_quantize
from tests.visualize.pages import data_in


@pytest.mark.parametrize("model", ["zoo:build_model", "zoo:made"])
@pytest.mark.parametrize("batches", ["zoo:batches", "zoo:several", "zoo:loader"])
def test_what_the_api_makes_is_saved(folder: Path, capsys: pytest.CaptureFixture[str], model: str, batches: str) -> None:
    assert run_quantize(model=model, batches=batches) == 0
    loaded = fxq.load(folder / "model.fxq")
    assert torch.equal(loaded(sys.modules["zoo"].one), expected_output())
    printed = capsys.readouterr()
    assert "2 of 2 in int8" in printed.out
    assert printed.out.endswith(f"\n\nsaved model.fxq ({(folder / 'model.fxq').stat().st_size / 1000:,.1f} kB)\n")
    assert [path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".py"] == ["model.fxq"]


def test_json_is_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(capsys, "quantize", "zoo:build_model", "--calibrate", "zoo:batches", "--out", "model.fxq")
    assert found == fxq.report(fxq.load(folder / "model.fxq")).to_dict()


def test_qconfig_profile_report_and_picture(folder: Path) -> None:
    mapping = fxq.get_default_qconfig_mapping("qnnpack").set_module_name("4", None)
    (folder / "mapping.json").write_text(mapping.to_json())
    assert run_quantize("--profile", "qnnpack", "--qconfig", "mapping.json", "--report", "report.txt", "--visualize", "all.html") == 0
    loaded = fxq.load(folder / "model.fxq")
    assert loaded.profile is not None and loaded.profile.name == "qnnpack"
    assert (folder / "report.txt").read_text(encoding="utf-8") == f"{fxq.report(loaded)}\n"
    assert [row.kind.value for row in fxq.report(loaded).rows if row.module in ("0", "4")] == ["int8", "float"]
    assert data_in((folder / "all.html").read_text(encoding="utf-8"))["stages"][0]["name"] == "traced"


def test_a_name_for_torch_save(folder: Path) -> None:
    assert run_quantize("--out", "model.pt") == 0
    loaded = torch.load(folder / "model.pt", weights_only=False)
    assert isinstance(loaded, FxqModule)
    assert torch.equal(loaded(sys.modules["zoo"].one), expected_output())


@pytest.mark.parametrize(
    ("arguments", "where", "found", "remedy"),
    [
        (["--profile", "arm"], "profile", "'arm'", "x86"),
        (["--qconfig", "none.json"], "none.json", "No such file", "check the name"),
        (["--qconfig", "zoo.py"], "QConfigMapping JSON, line 2 column 1", "Expecting value", "to_json"),
        (["--out", "none/model.fxq"], "none/model.fxq", "no folder none", "make the folder"),
        (["--out", "."], ".", "a folder", "write model.fxq"),
        (["--report", "none/report.txt"], "none/report.txt", "no folder none", "make the folder"),
    ],
)
def test_wrong_options(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], where: str, found: str, remedy: str) -> None:
    assert run_quantize(*arguments) == 2
    check_error(capsys, where, found, remedy)
