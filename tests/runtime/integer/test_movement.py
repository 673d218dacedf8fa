"""Padding bytes like torch pads floats."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fxq.errors import DataError
from fxq.runtime.integer.movement import Padding, pad
from tests.runtime.integer.reference import random_bytes

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [((1, 2),), ((0, 0), (3, 1)), ((2, 0), (0, 3)), ((3, 3), (4, 4)), ((1, 0), (2, 2), (0, 1)), ((0, 0),)])
def test_like_torch(padding: Padding, mode: str, dtype: torch.dtype) -> None:
    x = random_bytes((2, 3, *(4 + dim for dim in range(len(padding)))), dtype)
    flat = [ends for pair in reversed(padding) for ends in pair]
    fill = {"value": 9} if mode == "zeros" else {}
    expected = F.pad(x.double(), flat, mode=MODES[mode], **fill)
    found = pad(x, padding, mode, 9)
    assert found.dtype == dtype
    assert torch.equal(found.double(), expected)


def test_crops() -> None:
    x = random_bytes((2, 3, 6, 7))
    assert torch.equal(pad(x, ((-1, 1), (2, -3)), value=5), F.pad(x.int(), (2, -3, -1, 1), value=5).byte())


def test_channels_last_stays() -> None:
    x = random_bytes((2, 3, 6, 7)).contiguous(memory_format=torch.channels_last)
    assert pad(x, ((1, 1), (1, 1)), value=5).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("mode", "border"), [("reflect", 4), ("circular", 5)])
def test_a_border_longer_than_the_data(mode: str, border: int) -> None:
    x = random_bytes((1, 1, 4))
    assert pad(x, ((border - 1, 0),), mode).shape == (1, 1, 4 + border - 1)
    with pytest.raises(DataError, match=f"at most {border - 1} elements"):
        pad(x, ((border, 0),), mode)
