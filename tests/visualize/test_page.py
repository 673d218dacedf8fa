"""What the page of `visualize` is told: every stage, its numbers, and where they come from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import fxq
from fxq.visualize.costs import Measured
from fxq.visualize.page import page
from tests.report.models import Block, Islands, block_input, islands_input, prepared_block, prepared_islands
from tests.visualize.pages import data_in


def data(model: fxq.FxqModule, **measured: Any) -> Any:
    return data_in(page(model, Measured(**measured)))


def card(stage: Any, name: str) -> Any:
    return next(each for each in stage["cards"] if each["id"] == name)


def test_stages_of_a_model_on_its_way() -> None:
    fused, prepared = fxq.fuse_fx(Block().eval(), block_input()), prepared_block()
    names = [[stage["name"] for stage in data(model)["stages"]] for model in (fused, prepared, fxq.convert_to_reference_fx(prepared))]
    assert names == [
        ["traced", "fused"],
        ["traced", "fused", "annotated", "observed"],
        ["traced", "fused", "annotated", "observed", "reference"],
    ]


@pytest.mark.parametrize("runtime", ["integer", "auto"])
def test_every_node_of_every_stage_is_in_one_frame(runtime: str) -> None:
    for stage in data(fxq.convert_fx(prepared_islands(), runtime=runtime))["stages"]:
        numbers = [box for frame in stage["frames"] for box in frame["boxes"] if isinstance(box, int)]
        assert sorted(numbers) == list(range(len(stage["cards"])))
        assert len({each["id"] for each in stage["cards"]}) == len(stage["cards"])
        assert all(operand < number for number, each in enumerate(stage["cards"]) for operand in each["reads"])


def test_numbers_are_those_of_the_report() -> None:
    model = fxq.convert_fx(prepared_block())
    found = data(model)
    lowered = next(stage for stage in found["stages"] if stage["name"] == "lowered")
    for row in fxq.report(model).rows:
        if row.kind.value != "constant":
            shown = card(lowered, row.name)
            assert (shown["kind"], shown.get("rule", "")) == (row.kind.name.lower(), row.rule)
            assert found["costs"].get(row.name, {}).get("macs", 0) == (row.macs or 0)
            assert row.scale is None or (shown["scale"]["scale"], shown["scale"]["zero_point"]) == (row.scale, row.zero_point)


def test_histograms_are_there_before_and_after_conversion() -> None:
    prepared = prepared_block()
    before, after = data(prepared), data(fxq.convert_fx(prepared))
    assert before["groups"] == after["groups"] != {}
    observed = before["stages"][-1]
    assert card(observed, "conv1")["scale"] == card(after["stages"][-1], "conv1")["scale"]
    assert sum(before["groups"][card(observed, "x")["group"]]["counts"]) == block_input().numel()


def test_reasons_and_refusals_are_shown() -> None:
    lowered = data(fxq.convert_fx(prepared_islands(), runtime="integer"))["stages"][-1]
    assert card(lowered, "hooked")["reason"]["why"] == "module hooks"
    assert card(lowered, "conv")["calls"][1] == "BatchNorm2d bn"


def test_measured_numbers_are_shown() -> None:
    prepared = prepared_islands()
    model = fxq.convert_fx(prepared)
    comparison = fxq.compare(Islands().eval(), model, [islands_input()], progress=False)
    costs = data(model, profile=fxq.profile(model, islands_input(), runs=1), comparison=comparison)["costs"]
    assert costs["conv"]["ms"] > 0
    worst = comparison.rows[0]
    assert worst.alone is not None and costs[worst.name]["sqnr"] == worst.alone.sqnr_db


def test_uncalibrated_model_has_no_ranges() -> None:
    prepared = fxq.prepare_fx(Block().eval(), fxq.get_default_qconfig_mapping("x86"), block_input())
    found = data(prepared)
    assert found["groups"] == {}
    assert all("scale" not in each for each in found["stages"][-1]["cards"])


def test_page_is_one_file_that_asks_for_no_other(tmp_path: Path) -> None:
    path = fxq.visualize(prepared_block(), tmp_path / "graph.html")
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!#)", text) and "@import" not in text and "url(" not in text.replace("url(#arrow)", "")


def test_other_modules_and_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(fxq.StageError, match=r"fxq\.fuse_fx"):
        fxq.visualize(nn.Linear(2, 2), tmp_path / "graph.html")  # type: ignore[arg-type]
    with pytest.raises(fxq.DataError, match="choose another place"):
        fxq.visualize(prepared_block(), tmp_path / "missing" / "graph.html")
