from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.commands import run_quantize

ZOO = """
import torch
from torch import nn

def build_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()

made = build_model()

def batches():
    for seed in range(4):
        yield torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))

several = list(batches())
one = several[0]
number = 3

class Loader:
    def __len__(self):
        raise TypeError("no length")
    def __iter__(self):
        return iter(several)

loader = Loader()

def with_labels():
    return [(batch, torch.zeros(2)) for batch in several]

def changing():
    return [torch.zeros(2, 3, 8, 8), torch.zeros(2, 4, 8, 8)]

def breaking():
    yield one
    raise FileNotFoundError("images.npy")

def needs_argument(x):
    return made

def nothing():
    return None

def accuracy(model):
    expected = [made(batch).sum(1) > 0 for batch in several]
    found = [model(batch).sum(1) > 0 for batch in several]
    return 100 * float((torch.cat(expected) == torch.cat(found)).float().mean())

def none_at_all():
    return []

class Failing(nn.Module):
    def forward(self, x):
        raise ValueError("no such mode")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the user's module zoo.py in it."""
    (tmp_path / "zoo.py").write_text(ZOO)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    (tmp_path / "unreadable.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("zoo", "broken", "unreadable"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delenv("FXQ_DEBUG", raising=False)
    return tmp_path


@pytest.fixture
def saved(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder, with model.fxq in it."""
    assert run_quantize() == 0
    capsys.readouterr()
    return folder
