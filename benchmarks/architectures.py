"""torchvision's architectures with seeded random weights and warmed batch norms: real graphs and real sizes, without a download."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.library import Library
from torch.nn.modules.batchnorm import _BatchNorm

ARCHITECTURES = ("resnet18", "resnet50", "mobilenet_v2", "vgg11_bn", "squeezenet1_1")

_WARMING_SIZE = 8
# what torchvision's Python part expects of its compiled part when it is imported; nothing here calls these
_DETECTION_OPS = ("nms", "qnms")
_defined: list[Library] = []


def import_models() -> Any:
    """torchvision.models, also of an installation whose compiled part does not belong to this torch.

    Raises:
        ImportError: torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError:
        library = Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in _DETECTION_OPS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        _defined.append(library)
        return importlib.import_module("torchvision.models")


def build(name: str, size: int, seed: int = 0) -> nn.Module:
    """An architecture in eval mode whose batch norms have seen a few batches of images of this size.

    Args:
        name: one of ARCHITECTURES, or any other classifier of torchvision.
        size: height and width in pixels.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = getattr(import_models(), name)(weights=None)
        return warm_batch_norms(model, lambda: model(torch.randn(_WARMING_SIZE, 3, size, size)))


@torch.no_grad()
def warm_batch_norms(model: nn.Module, run: Callable[[], object], batches: int = 5) -> nn.Module:
    """The model in eval mode, after that many calls of `run` in training mode where it has batch norms.

    Args:
        run: calls the model on a batch of its own.
    """
    model.train()
    for _ in range(batches if any(isinstance(module, _BatchNorm) for module in model.modules()) else 0):
        run()
    return model.eval()


def random_batches(count: int, batch: int, size: int, seed: int = 1) -> list[Tensor]:
    """f32 [batch, 3, size, size], standard normal."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, size, size, generator=generator) for _ in range(count)]


@torch.no_grad()
def outputs(model: nn.Module, batches: Sequence[Tensor]) -> Tensor:
    """The model's results on all batches, one after the other."""
    return torch.cat([model(batch) for batch in batches])


def sqnr(exact: Tensor, approximate: Tensor) -> float:
    """10·log10(Σ exact² / Σ (exact − approximate)²) in dB."""
    exact, approximate = exact.to(torch.float64), approximate.to(torch.float64)
    return float(10 * torch.log10(exact.square().sum() / (exact - approximate).square().sum()))
