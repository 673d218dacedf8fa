from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from torch import Tensor, nn

import fxq
from benchmarks.architectures import ARCHITECTURES, build, import_models, outputs, random_batches

SIZE = 64
CALIBRATION = (3, 8)  # batches, images in each


@dataclass(frozen=True)
class Built:
    """A float architecture and what it gives for the calibration batches."""

    name: str
    model: nn.Module
    batches: list[Tensor]
    exact: Tensor


@dataclass(frozen=True)
class Compiled:
    """An architecture, calibrated for a profile; converted when that is asked for."""

    float: Built
    profile: str
    prepared: fxq.FxqModule

    @cached_property
    def lowered(self) -> fxq.FxqModule:
        return fxq.convert_fx(self.prepared)

    @cached_property
    def reference(self) -> fxq.FxqModule:
        return fxq.convert_to_reference_fx(self.prepared)


@pytest.fixture(scope="session", params=ARCHITECTURES)
def built(request: pytest.FixtureRequest) -> Built:
    try:
        import_models()
    except ImportError:
        pytest.skip("torchvision is not installed: pip install --no-deps torchvision")
    model, batches = build(request.param, SIZE), random_batches(*CALIBRATION, SIZE)
    return Built(request.param, model, batches, outputs(model, batches))


@pytest.fixture(scope="session", params=["x86", "qnnpack"])
def compiled(request: pytest.FixtureRequest, built: Built) -> Compiled:
    mapping = fxq.get_default_qconfig_mapping(request.param)
    prepared = fxq.prepare_fx(built.model, mapping, (built.batches[0],), profile=request.param)
    fxq.calibrate(prepared, built.batches)
    return Compiled(built, request.param, prepared)


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads is as before afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
