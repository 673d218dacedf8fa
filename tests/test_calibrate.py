from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import fxq
from fxq.errors import CalibrationError


class Endless(IterableDataset[torch.Tensor]):
    """A data set without a length; a DataLoader over it has a __len__ that raises."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(torch.ones(6, 3))


def test_batches_without_a_length() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    loaded = fxq.quantize(model, DataLoader(Endless(), batch_size=2), progress=False)
    assert torch.equal(loaded(torch.ones(2, 3)), fxq.quantize(model, [torch.ones(2, 3)] * 3)(torch.ones(2, 3)))


def test_failing_batch_is_named() -> None:
    with pytest.raises(CalibrationError) as caught:
        fxq.quantize(nn.Sequential(nn.Linear(3, 2)), [torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 4)], progress=False)
    assert caught.value.where == "calibration batch 2"
    assert re.match("RuntimeError: .*mat1 and mat2 shapes cannot be multiplied", caught.value.found)
    assert isinstance(caught.value.__cause__, RuntimeError)
