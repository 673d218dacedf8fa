from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fxq.demo import run as run_module
from fxq.demo.compare import VARIANTS
from fxq.demo.digits import Digits, load_digits
from fxq.demo.models import ResNetDigits
from fxq.demo.run import NETWORKS, run_demo
from fxq.demo.train import Recipe
from fxq.errors import FxqError
from fxq.graph.module import FxqModule


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Digits:
    """One network, and few images to train it with."""
    digits = load_digits()
    few = Digits(digits.train.take(torch.arange(128)), digits.calibration, digits.test)
    monkeypatch.setattr(run_module, "load_digits", lambda: few)
    monkeypatch.setattr(run_module, "NETWORKS", (ResNetDigits,))
    return few


def test_both_networks_are_shown() -> None:
    assert [network.__name__ for network in NETWORKS] == ["ResNetDigits", "MobileNetDigits"]


def test_everything_is_written(tmp_path: Path, few: Digits) -> None:
    stream = io.StringIO()
    out = tmp_path / "a" / "b"
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    (compared,) = run_demo(out, Console(file=stream, width=120), Recipe(epochs=1), runs=1)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
    assert json.loads((out / "results.json").read_text())["machine"]["threads"] == 1
    folders = [f"ResNetDigits-{variant.folder}" for variant in VARIANTS]
    assert sorted(path.name for path in out.iterdir()) == sorted([*folders, "results.json", "results.txt"])
    for folder in folders:
        assert sorted(path.name for path in (out / folder).iterdir()) == ["graph.dot", "graph.txt", "model.pt", "report.json", "report.txt"]
        assert json.loads((out / folder / "report.json").read_text())["stage"] == "LOWERED"
        assert (out / folder / "graph.dot").read_text().startswith("digraph")
    assert (out / folders[0] / "graph.txt").read_text().startswith("x: f32[32, 1, 8, 8] = input\n")
    assert stream.getvalue().startswith("training ResNetDigits on 128 images of digits\n")
    assert (out / "results.txt").read_text(encoding="utf-8").splitlines()[0] in stream.getvalue()
    assert f"Written to {out}" in stream.getvalue().replace("\n", "")
    loaded = torch.load(out / folders[0] / "model.pt", weights_only=False)
    assert isinstance(loaded, FxqModule)
    assert torch.equal(loaded(few.test.images), compared.quantized[0].model(few.test.images))


def test_folder_that_cannot_be_made_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stream = io.StringIO()
    with pytest.raises(FxqError, match="expected: a folder that can be written") as caught:
        run_demo(tmp_path / "file" / "out", Console(file=stream))
    assert caught.value.where == f"--out {tmp_path / 'file' / 'out'}"
    assert stream.getvalue() == ""
