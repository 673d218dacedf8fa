"""A network that resizes to the size of what it skipped: every size that comes, one program."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
import fxq.testing
from fxq.lowering.executable import regions_of
from tests.closeness import sqnr


class UNet(nn.Module):
    """Two steps down and up; resizes to a shape, to two numbers, and to the input's own size."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.third = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.up, self.top, self.head = nn.Conv2d(28, 12, 3, padding=1), nn.Conv2d(20, 8, 3, padding=1), nn.Conv2d(8, 4, 1, stride=2)
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.first(x))
        b = torch.relu(self.second(a))
        c = torch.relu(self.third(b))
        d = torch.relu(self.up(torch.cat([F.interpolate(c, b.shape[2:], mode=self.mode), b], 1)))
        height, width = a.shape[-2], a.shape[-1]
        e = torch.relu(self.top(torch.cat([F.interpolate(d, size=(height, width), mode=self.mode), a], 1)))
        y: Tensor = self.last(F.interpolate(self.head(e), x.shape[-2:], mode=self.mode))
        return y


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_resizes_to_computed_sizes_on_integers(mode: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, batches = UNet(mode).eval(), [torch.randn(2, 3, 31, 33) for _ in range(3)]
    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping(), (batches[0],))
    for batch in batches:
        prepared(batch)
    int8, integer = fxq.convert_fx(prepared), fxq.convert_fx(prepared, runtime="integer")
    fxq.testing.assert_int8(int8, "interpolate*")
    fxq.save(int8, tmp_path / "unet.fxq")
    loaded = fxq.load(tmp_path / "unet.fxq")
    for shape in ((2, 3, 31, 33), (1, 3, 20, 27), (3, 3, 5, 6)):
        x = torch.randn(shape)
        found = int8(x)
        assert sqnr(found, model(x)) > 35
        assert torch.equal(integer(x), found)
        assert torch.equal(loaded(x), found)
    (region,) = regions_of(int8)
    assert not region.refused
