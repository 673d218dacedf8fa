"""`python -m benchmarks.train_step`: milliseconds of a training step in float32, with fxq's fake-quantize modules, and with torch.ao's.

All three train the same architecture on the same batch, in turns in one process; what counts is the ratio of their best times. With
one thread these are the process's own CPU seconds, in which other work on the machine hardly shows. A time is printed only where the
loss has fallen.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import fxq
from benchmarks.architectures import import_models
from benchmarks.results import write_json

_MODELS = ("mobilenet_v2", "resnet18", "mobilenet_v3_large", "shufflenet_v2_x1_0")
_CLASSES = 4
_WARM_UP = 2


@dataclass(frozen=True)
class Step:
    """Best time of a training step.

    Attributes:
        milliseconds: of forward, backward and the optimizer's step.
        first_loss, last_loss: in nats.
    """

    model: str
    contender: str
    milliseconds: float
    first_loss: float
    last_loss: float


def contenders(name: str, x: Tensor) -> dict[str, nn.Module]:
    """float32, and prepare_qat_fx by fxq and by torch.ao with their defaults for x86."""
    from torch.ao.quantization import get_default_qat_qconfig_mapping, quantize_fx

    torch.manual_seed(0)
    model = getattr(import_models(), name)(num_classes=_CLASSES).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_torch_ao = quantize_fx.prepare_qat_fx(copy.deepcopy(model), get_default_qat_qconfig_mapping("x86"), (x,))
    by_fxq = fxq.prepare_qat_fx(model, fxq.get_default_qat_qconfig_mapping("x86"), (x,))
    return {"float32": model, "fxq": by_fxq, "torch.ao": by_torch_ao}


def measure(name: str, batch: int, size: int, steps: int) -> list[Step]:
    """Trains all contenders in turns on one batch of images whose brightness is their class."""
    labels = torch.arange(batch) % _CLASSES
    x = torch.randn(batch, 3, size, size) + labels.reshape(-1, 1, 1, 1) / 2
    models = contenders(name, x)
    optimizers = {contender: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9) for contender, model in models.items()}
    times: dict[str, list[float]] = {contender: [] for contender in models}
    losses: dict[str, list[float]] = {contender: [] for contender in models}
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for _ in range(_WARM_UP + steps):
        for contender, model in models.items():
            start = clock()
            losses[contender].append(_step(model, x, labels, optimizers[contender]))
            times[contender].append(1e3 * (clock() - start))
    return [Step(name, each, min(times[each][_WARM_UP:]), losses[each][0], losses[each][-1]) for each in models]


def _step(model: nn.Module, x: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> float:
    loss = F.cross_entropy(model(x), labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


def table(found: Sequence[Step]) -> Table:
    """A row for each model."""
    made = Table("model", "float32 ms", "fxq ms", "torch.ao ms", "fxq / float32", "fxq / torch.ao")
    for name in dict.fromkeys(step.model for step in found):
        of = {step.contender: step for step in found if step.model == name}
        if any(step.last_loss >= step.first_loss for step in of.values()):
            made.add_row(name, "a loss did not fall")
            continue
        ms: Any = {contender: step.milliseconds for contender, step in of.items()}
        made.add_row(
            name,
            *(f"{each:.0f}" for each in ms.values()),
            f"{ms['fxq'] / ms['float32']:.2f}",
            f"{ms['fxq'] / ms['torch.ao']:.2f}",
        )
    return made


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=_MODELS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=96, help="pixels")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = [step for name in arguments.models for step in measure(name, arguments.batch, arguments.size, arguments.steps)]
    Console().print(table(found))
    write_json(arguments.json, [asdict(step) for step in found])


if __name__ == "__main__":
    main()
