"""`python -m benchmarks.pictures`: how large the pages of fxq.visualize are, and how long Chromium takes to show them.

Needs Chromium, and playwright from the extra `test`. With --docs DIR it also takes the screenshots of docs/visualize.md.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console
from torch import Tensor, nn

import fxq
from benchmarks.architectures import build, random_batches
from benchmarks.results import write_json

CHAIN = "chain"
MODELS = ("resnet50", "mobilenet_v3_large", CHAIN)

_SIZE = 224
_MOST_SECONDS, _MOST_MEGABYTES = 3.0, 5.0
_OPENINGS = 3
_WINDOW = {"width": 1440, "height": 900}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Shown:
    """What came of one model.

    Attributes:
        nodes: of the stage with the most of them.
        megabytes: of the file.
        write_seconds: of `visualize`, with the instructions of all kernels.
        open_seconds: until the first boxes are drawn, the least of some times.
        all_seconds: from there until all modules are open, at the stage that is shown first.
        boxes: that are then drawn.
    """

    name: str
    nodes: int
    megabytes: float
    write_seconds: float
    open_seconds: float
    all_seconds: float
    boxes: int

    @property
    def is_good(self) -> bool:
        """Opens quickly, and is small enough to be sent to somebody."""
        return self.open_seconds < _MOST_SECONDS and self.megabytes < _MOST_MEGABYTES

    def __str__(self) -> str:
        sizes = f"{self.nodes:5} nodes {self.megabytes:6.2f} MB"
        times = f"write {self.write_seconds:5.2f} s  open {self.open_seconds:5.2f} s  all {self.boxes:4} boxes {self.all_seconds:5.2f} s"
        return f"{self.name:20} {sizes}  {times}  {'' if self.is_good else 'too large or too slow'}"


def chain() -> nn.Module:
    """Modules in modules: 150 blocks of ten calls."""
    blocks = (nn.Sequential(*(layer for _ in range(5) for layer in (nn.Linear(64, 64), nn.Sigmoid()))) for _ in range(150))
    return nn.Sequential(*(nn.Sequential(*(next(blocks) for _ in range(15))) for _ in range(10))).eval()


@dataclass(frozen=True)
class Pair:
    """A float model and what became of it, and an input of theirs."""

    model: nn.Module
    int8: fxq.FxqModule
    x: Tensor


def quantized(name: str) -> Pair:
    """A model of that name; the int8 one has been called, so that what is compiled is shown."""
    model, x = (chain(), torch.randn(64, 64)) if name == CHAIN else (build(name, _SIZE), random_batches(1, 1, _SIZE)[0])
    int8 = fxq.quantize(model, [x], progress=False)
    int8(x)
    return Pair(model, int8, x)


def measure(name: str, int8: fxq.FxqModule, browser: Any, folder: Path) -> Shown:
    """Writes the page of a model and opens it."""
    start = time.perf_counter()
    path = fxq.visualize(int8, folder / f"{name}.html")
    written = time.perf_counter() - start
    page = browser.new_page(viewport=_WINDOW)
    opened = min(_seconds(lambda: _open(page, path)) for _ in range(_OPENINGS))
    every = _seconds(lambda: [page.keyboard.press("]") for _ in range(4)])
    boxes = page.locator(".box").count()
    page.close()
    nodes = max(len(snapshot.nodes) for snapshot in int8.history.snapshots.values())
    return Shown(name, nodes, path.stat().st_size / 1e6, written, opened, every, boxes)


def _open(page: Any, path: Path) -> None:
    page.goto(path.as_uri())
    page.wait_for_selector(".box")


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Shot:
    """A picture for the documentation.

    Attributes:
        file: its name.
        model: what is shown.
        scheme: "light" or "dark".
        stage: to switch to.
        colour: by what.
        query: what to search, and select.
        keys: to press then.
    """

    file: str
    model: str
    scheme: str = "light"
    stage: str = "lowered"
    colour: str = "dtype"
    query: str = ""
    keys: tuple[str, ...] = ()


SHOTS = (
    Shot("visualize.png", "resnet50"),
    Shot("visualize-panel.png", "resnet50", query="layer2_0_conv2"),
    Shot("visualize-changes.png", "resnet50", stage="fused", keys=("c",)),
    Shot("visualize-sqnr.png", "mobilenet_v3_large", "dark", colour="sqnr", keys=("]", "0")),
    Shot("visualize-large.png", CHAIN, colour="ms", keys=("]", "]", "]", "0")),
)


def photograph(pair: Pair, shots: Sequence[Shot], browser: Any, folder: Path) -> None:
    """Takes pictures of one model, with all that can be measured of it."""
    times = fxq.profile(pair.int8, pair.x, runs=5)
    comparison = fxq.compare(pair.model, pair.int8, [pair.x], progress=False)
    with TemporaryDirectory() as place:
        path = fxq.visualize(pair.int8, Path(place, "page.html"), profile=times, comparison=comparison)
        for shot in shots:
            page = browser.new_page(viewport=_WINDOW, color_scheme=shot.scheme)
            _open(page, path)
            page.click(f"#stages >> text={shot.stage}")
            page.select_option("#colour", shot.colour)
            page.focus("#canvas")
            if shot.query:
                page.fill("#query", shot.query)
                page.keyboard.press("Enter")
                page.keyboard.press("Escape")
            for key in shot.keys:
                page.keyboard.press(key)
            image = (
                Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            )  # a third of the bytes
            image.save(folder / shot.file, optimize=True)
            page.close()


def main() -> None:
    """Measures the models that are named. Exits with 1 where a page is too large or too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=MODELS, help=f"{', '.join(MODELS)}, or other classifiers of torchvision")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="take the screenshots of the documentation, too")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    given = parser.parse_args()
    found: list[Shown] = []
    with sync_playwright() as playwright, TemporaryDirectory() as folder:
        path = next(filter(None, map(shutil.which, _BROWSERS)), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # which root needs
        for name in given.names:
            pair = quantized(name)
            found.append(measure(name, pair.int8, browser, Path(folder)))
            Console().print(str(found[-1]), highlight=False, soft_wrap=True)
            if given.docs is not None:
                photograph(pair, [shot for shot in SHOTS if shot.model == name], browser, given.docs)
    write_json(given.json, [asdict(shown) for shown in found])
    raise SystemExit(not all(shown.is_good for shown in found))


if __name__ == "__main__":
    main()
