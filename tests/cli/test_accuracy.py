"""fxq compare and sensitivity."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import fxq
from fxq.cli import main
from tests.cli.commands import check_error, run_json

COMPARE = ("compare", "zoo:made", "model.fxq", "--batches", "zoo:batches")
SENSITIVITY = ("sensitivity", "zoo:made", "--batches", "zoo:batches")


def test_compare_prints_what_the_api_finds(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo = sys.modules["zoo"]
    expected = fxq.compare(zoo.made, fxq.load("model.fxq"), zoo.several)
    assert main([*COMPARE]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    assert run_json(capsys, *COMPARE) == expected.to_dict()
    first = run_json(capsys, *COMPARE, "--top", "1")
    assert first["rows"] == expected.to_dict()["rows"][:1] and first["output"] == expected.to_dict()["output"]


def test_compare_with_a_bound(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMPARE, "--min-sqnr", "10"]) == 0
    assert main([*COMPARE, "--min-sqnr", "200"]) == 1
    assert capsys.readouterr().out.endswith("dB at the output, less than 200 dB\n")
    run_json(capsys, *COMPARE, "--min-sqnr", "200", code=1)


@pytest.mark.parametrize(
    ("batches", "where", "found", "remedy"),
    [
        ("zoo:none_at_all", "batches", "none", "DataLoader"),
        ("zoo:changing", "batch 1", "RuntimeError", "shapes and dtypes"),
        ("zoo:with_labels", "batch 0", "2 positional", "only the input"),
    ],
)
def test_compare_on_wrong_batches(
    saved: Path, capsys: pytest.CaptureFixture[str], batches: str, where: str, found: str, remedy: str
) -> None:
    assert main(["compare", "zoo:made", "model.fxq", "--batches", batches]) == 2
    check_error(capsys, where, found, remedy)


def test_model_without_an_int8_layer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = fxq.QConfigMapping().set_global(None)
    (folder / "none.json").write_text(nothing.to_json())
    assert main(["quantize", "zoo:made", "--calibrate", "zoo:batches", "--out", "model.fxq", "--qconfig", "none.json"]) == 0
    assert "0 of 2 in int8" in capsys.readouterr().out
    assert main([*COMPARE]) == 2
    check_error(capsys, "compare", "every layer is float", "says why each layer stays float")
    assert main([*SENSITIVITY, "--qconfig", "none.json"]) == 2
    check_error(capsys, "sensitivity", "every layer stays float", "says why")


def test_sensitivity_ranks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo_ranking = run_json(capsys, *SENSITIVITY)
    zoo = sys.modules["zoo"]
    expected = fxq.sensitivity(zoo.made, fxq.get_default_qconfig_mapping(), zoo.one, zoo.several)
    assert zoo_ranking == expected.to_dict()
    assert main([*SENSITIVITY]) == 0
    assert capsys.readouterr().out == f"{expected}\n"


def test_proposal_is_a_mapping_for_quantize(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(capsys, *SENSITIVITY)
    target = (found["sqnr_db"] + found["rows"][0]["sqnr_db"]) / 2
    assert main([*SENSITIVITY, "--min-sqnr", str(target), "--out", "mapping.json"]) == 0
    assert main(["quantize", "zoo:made", "--calibrate", "zoo:batches", "--out", "model.fxq", "--qconfig", "mapping.json"]) == 0
    assert main([*COMPARE, "--min-sqnr", str(target)]) == 0


def test_target_that_is_missed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SENSITIVITY, "--metric", "zoo:accuracy", "--max-drop", "100"]) == 0
    assert "int8 alone reaches it" in capsys.readouterr().out
    assert main([*SENSITIVITY, "--min-sqnr", "1000"]) == 1
    assert "missed:" in capsys.readouterr().out


def test_sensitivity_of_wrong_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sensitivity", "zoo:made", "--batches", "zoo:none_at_all"]) == 2
    check_error(capsys, "zoo:none_at_all", "none", "DataLoader")
    assert main([*SENSITIVITY, "--max-drop", "1"]) == 2
    check_error(capsys, "sensitivity, target", "max_drop=1.0", "metric=accuracy")
    assert main([*SENSITIVITY, "--min-sqnr", "30", "--out", "none/mapping.json"]) == 2
    check_error(capsys, "none/mapping.json", "no folder none", "make the folder")
