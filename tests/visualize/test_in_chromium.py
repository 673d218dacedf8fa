"""The page of `visualize`, used as a person uses it, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.runtime.jit import unavailable
from tests.report.models import islands_input, prepared_islands
from tests.visualize.browser import Opened, chromium, opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def islands_html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    converted = fxq.convert_fx(prepared_islands())
    timed = fxq.profile(converted, islands_input(), runs=1)
    return fxq.visualize(converted, tmp_path_factory.mktemp("page") / "graph.html", profile=timed)


@pytest.fixture
def islands(browser: Any, islands_html: Path) -> Iterator[Opened]:
    with opened(browser, islands_html) as page:
        yield page


def test_every_stage_is_shown(islands: Opened) -> None:
    names = islands.page.locator("#stages button").all_text_contents()
    assert names == ["traced", "fused", "annotated", "observed", "reference", "lowered", "compiled"]
    assert islands.text("#stages [aria-selected=true]") == "lowered"
    islands.page.click("#stages >> text=traced")
    assert {"conv", "bn", "relu", "lstm"} <= islands.boxes()
    islands.page.keyboard.press("ArrowRight")
    assert islands.text("#story b") == "fused"
    assert not {"bn", "relu"} & islands.boxes()
    assert "fuse" in islands.text("#story .runs")
    for name in names[2:]:
        islands.page.keyboard.press("ArrowRight")
        assert islands.text("#story b") == name
        assert islands.count(".box") > 3
    assert islands.count(".frame") == islands.count(".head") >= 1  # a frame for each compiled region


def test_search_finds_names_ops_and_reasons(islands: Opened) -> None:
    for query, expected in (("conv2", "conv2"), ("lstm", "lstm"), ("module hooks", "hooked"), ("float permute", "permute")):
        islands.page.fill("#query", query)
        assert expected in islands.text("#hits")
        islands.page.keyboard.press("Enter")
        assert islands.count(".box.selected") == 1
        assert islands.text("#hits").startswith("1 of ")
        assert expected in islands.text("#panel")
    islands.page.fill("#query", "no such layer")
    assert islands.text("#hits") == "0 found"


def test_click_shows_what_is_known(islands: Opened) -> None:
    islands.page.click(".box:has-text('hooked')")
    assert "module hooks" in islands.text("#panel .why").lower()
    islands.page.keyboard.press("Escape")
    assert not islands.page.is_visible("#panel")
    islands.page.click(".box:has-text('conv') >> nth=0")
    panel = islands.text("#panel")
    assert "1. Conv2d conv" in panel.replace("\n", " ") or "BatchNorm2d bn" in panel  # fusion provenance
    for said in ("set_global", "uint8 0..255 affine per tensor", "int8 -127..127 symmetric per channel 0", "MACs", "ms", "Conv[conv](x_q)"):
        assert said in panel
    assert islands.count("#panel .histogram .bar") > 20
    assert islands.count("#panel .histogram .limit") == 1


def test_pointer_shows_what_flows(islands: Opened) -> None:
    shown = islands.page.locator(".edge[data-from='1'] title").first.text_content()
    assert shown.startswith("x_q  u8 2×3×32×32  s 0.0") and " · z " in shown
    assert "float: module hooks" in islands.page.locator(".box:has-text('hooked') > title").text_content()


def test_compiled_kernels_are_shown(islands: Opened) -> None:
    kernels = {row.name for row in fxq.profile(fxq.convert_fx(prepared_islands()), islands_input(), runs=1).rows if row.region}
    if "conv" not in kernels:
        pytest.skip("nothing is compiled on this machine")
    islands.page.click(".box:has-text('conv') >> nth=0")
    assert "region_0" in islands.text("#panel")
    islands.page.click("#panel summary >> text=assembly")
    assert "\n" in islands.text("#panel details[open] pre")


def test_links_lead_to_operands_and_other_stages(islands: Opened) -> None:
    islands.page.fill("#query", "head")
    islands.page.keyboard.press("Enter")
    before = islands.text("#panel .path")
    islands.page.click("#panel section:has(h3:text('Reads')) a >> nth=0")
    assert islands.text("#panel .path") != before
    islands.page.click("#panel .journey >> text=reference")
    assert islands.text("#story b") == "reference"
    assert islands.count(".box.selected") == 1


def test_what_the_passes_changed(islands: Opened) -> None:
    islands.page.click("#stages >> text=fused")
    islands.page.click("#changes")
    assert "BatchNorm2d bn → conv" in islands.text("#panel")
    assert islands.count(".box.changed") > 0
    islands.page.click("#changes")
    assert islands.count(".box.changed") == 0


def test_dynamic_layers_are_shown_as_such(browser: Any, tmp_path: Path) -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.GRU(4, 4)).eval(), torch.ones(2, 4)
    mapping = fxq.QConfigMapping().set_global(fxq.default_dynamic_qconfig)
    converted = fxq.convert_fx(fxq.prepare_fx(model, mapping, x))
    converted(x)
    with opened(browser, fxq.visualize(converted, tmp_path / "dynamic.html")) as page:
        assert "dynamic 2" in page.text("#legend")
        for name, text in (("0", "DynamicLinear[0]"), ("2", "DynamicGRU[2]")):
            page.page.click(f".box.dynamic:has(.title:text-is('{name}'))")
            assert page.count("#panel summary:has-text('assembly')") >= (2 if unavailable() is None else 0)
            assert {text, "uint8 0..255 affine per tensor dynamic"} <= set(page.text("#panel").replace("(", "\n").splitlines())
        for stage in ("annotated", "reference"):
            page.page.click(f"#stages >> text={stage}")
            assert page.count(".box.dynamic") == 2


def test_colours(islands: Opened) -> None:
    assert islands.page.locator("#colour option").all_text_contents() == ["dtype", "MACs", "latency"]
    assert {"int8", "float"} <= set(islands.text("#legend").split())
    islands.page.select_option("#colour", "ms")
    assert "ms" in islands.page.locator(".box.heat .badge").all_text_contents()[0]


def test_keyboard(islands: Opened) -> None:
    world = islands.page.locator("#world")
    first = world.get_attribute("transform")
    islands.page.keyboard.press("+")
    assert world.get_attribute("transform") != first
    islands.page.keyboard.press("ArrowDown")
    assert islands.count(".box.selected") == 1
    selected = islands.text("#panel .path")
    islands.page.keyboard.press("ArrowDown")
    assert islands.text("#panel .path") != selected
    islands.page.keyboard.press("/")
    assert islands.page.evaluate("document.activeElement.id") == "query"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(browser: Any, islands_html: Path, scheme: str) -> None:
    with opened(browser, islands_html, color_scheme=scheme) as page:
        light = "rgb(246, 247, 249)"
        assert (page.page.evaluate("getComputedStyle(document.body).backgroundColor") == light) == (scheme == "light")
        page.page.keyboard.press("t")
        assert (page.page.evaluate("getComputedStyle(document.body).backgroundColor") == light) == (scheme == "dark")


class Deep(nn.Module):
    """Modules in modules: 150 blocks of ten calls."""

    def __init__(self, groups: int = 10, blocks: int = 15) -> None:
        super().__init__()
        self.groups = nn.Sequential(*(nn.Sequential(*map(self.block, range(blocks))) for _ in range(groups)))

    @staticmethod
    def block(_: int) -> nn.Module:
        return nn.Sequential(*(layer for _ in range(5) for layer in (nn.Linear(2, 2), nn.Sigmoid())))

    def forward(self, x: Tensor) -> Tensor:
        return self.groups(x)


def test_1500_nodes_start_closed_and_can_all_be_opened(browser: Any, tmp_path: Path) -> None:
    html = fxq.visualize(fxq.fuse_fx(Deep().eval(), torch.ones(1, 2)), tmp_path / "deep.html")
    with opened(browser, html) as page:
        page.page.click("#stages >> text=traced")
        assert page.count(".box") <= 70
        for _ in range(3):
            page.page.keyboard.press("]")
        assert page.count(".box") == 1502
        for _ in range(3):
            page.page.keyboard.press("[")
        assert page.count(".box") <= 12
        page.page.fill("#query", "7.3.4")
        page.page.keyboard.press("Enter")
        assert page.text("#panel .path") == "groups_7_3_4"


def test_modules_open_and_close(browser: Any, tmp_path: Path) -> None:
    html = fxq.visualize(fxq.fuse_fx(Deep(4, 30).eval(), torch.ones(1, 2)), tmp_path / "deep.html")
    with opened(browser, html) as page:
        closed = page.boxes()
        page.page.click(".box.module .toggle >> nth=0")
        assert page.count(".box") == len(closed) + 29
        page.page.click(".head .toggle >> nth=-1")
        assert page.boxes() == closed
        page.page.dblclick(".box.module .face >> nth=0")
        assert page.count(".box") == len(closed) + 29
        page.page.keyboard.press("Enter")
        assert page.boxes() == closed


# [left, top, right, bottom] of every box, and of the canvas at the end
PLACES = """[...document.querySelectorAll(".box .face"), document.getElementById("canvas")].map((element) => {
  const { left, top, right, bottom } = element.getBoundingClientRect();
  return [left, top, right, bottom];
})"""


def test_long_graphs_are_cut_into_strips_that_fill_the_window(browser: Any, tmp_path: Path) -> None:
    html = fxq.visualize(fxq.fuse_fx(Deep(4, 4).eval(), torch.ones(1, 2)), tmp_path / "deep.html")
    with opened(browser, html) as page:
        for key in ("]", "]", "]", "0"):
            page.page.keyboard.press(key)
        assert page.count(".box") == 162
        widths = []
        for _ in range(2):
            *boxes, canvas = page.page.evaluate(PLACES)
            assert all(
                canvas[0] <= left and canvas[1] <= top and right <= canvas[2] and bottom <= canvas[3] for left, top, right, bottom in boxes
            )
            assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a, b in combinations(boxes, 2))
            assert "NaN" not in page.page.inner_html("#world")
            widths.append(boxes[0][2] - boxes[0][0])
            page.page.keyboard.press("w")
            page.page.keyboard.press("0")
        assert widths[0] > 3 * widths[1]


def test_text_of_the_user_stays_text(browser: Any, tmp_path: Path) -> None:
    model = nn.Sequential()
    name = "</script><img src=x onerror=alert(1)>&quot;"
    model.add_module(name, nn.Sequential(nn.Linear(2, 2), nn.Tanh()))
    html = fxq.visualize(fxq.fuse_fx(model.eval(), torch.ones(1, 2)), tmp_path / "text.html")
    with opened(browser, html) as page:
        assert page.count("img") == 0
        page.page.click(".head .title")
        assert name in page.text("#panel")
        page.page.fill("#query", "onerror")
        assert name in page.text("#hits")
        assert page.count("img") == 0
