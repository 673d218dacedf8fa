"""What a network reaches: accuracy, closeness to the float network, size and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxq.demo.digits import Split
from fxq.demo.evaluate import accuracy
from fxq.passes.arguments import Inputs
from fxq.report.closeness import closeness
from fxq.report.latency import measure_latency

BATCH_SIZES = (1, 64)
_WARM_UP = 5


@dataclass(frozen=True)
class Measured:
    """One network on the test images.

    Attributes:
        accuracy: in percent.
        sqnr: of its outputs against those of the float network, in dB; infinite for the float network itself.
        weight_bytes: of its state_dict.
        milliseconds: median time of a batch, for each of BATCH_SIZES.
    """

    accuracy: float
    sqnr: float
    weight_bytes: int
    milliseconds: tuple[float, ...]


def measure(models: Sequence[nn.Module], test: Split, *, runs: int = 40) -> tuple[Measured, ...]:
    """Measures the networks side by side; the first one is the float network that the others are compared with.

    Args:
        models: in eval mode, f32 [N, 1, 8, 8] → f32 [N, 10].
        test: at least as many images as the largest of BATCH_SIZES.
        runs: timed calls of each network and batch size.
    """
    with torch.inference_mode():
        outputs = [model(test.images) for model in models]
    times = [milliseconds(models, test.images[:size], runs) for size in BATCH_SIZES]
    return tuple(
        Measured(accuracy(model, test), sqnr(outputs[0], output), weight_bytes(model), tuple(row[i] for row in times))
        for i, (model, output) in enumerate(zip(models, outputs, strict=True))
    )


def sqnr(reference: Tensor, approximation: Tensor) -> float:
    """10 · log10(Σ x² / Σ (x − x')²) dB: signal to quantization noise. Infinite where both are equal."""
    return closeness([reference], [approximation]).sqnr_db


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all tensors of the state_dict."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def milliseconds(models: Sequence[nn.Module], images: Tensor, runs: int) -> tuple[float, ...]:
    """Median time of one call of each model. They take turns, so that whatever else the machine does hits all of them."""
    found = measure_latency(models, Inputs((images,)), runs=runs, warm_up=_WARM_UP)
    return tuple(each.median for each in found)
