"""`python -m benchmarks.sqnr`: how far the int8 outputs are from float32, in dB, for fxq's profiles and torch.ao's engines."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.architectures import ARCHITECTURES, build, outputs, random_batches, sqnr
from benchmarks.engines import TORCH_AO_ENGINES, by_fxq, by_torch_ao
from benchmarks.results import write_json

PROFILES = ("x86", "qnnpack")
_CALIBRATION = (4, 8)  # batches, images in each


@dataclass(frozen=True)
class Accuracy:
    """SQNR in dB on the calibration batches; higher is better."""

    model: str
    fxq: dict[str, float]
    torch_ao: dict[str, float]


def measure(name: str, size: int, seed: int) -> Accuracy:
    """Every profile and engine, calibrated with and measured on the same batches."""
    model, batches = build(name, size, seed), random_batches(*_CALIBRATION, size)
    exact = outputs(model, batches)
    ours = {profile: sqnr(exact, outputs(by_fxq(model, batches, profile), batches)) for profile in PROFILES}
    theirs = {engine: _torch_ao(model, batches, engine, exact) for engine in TORCH_AO_ENGINES}
    return Accuracy(name, ours, theirs)


def _torch_ao(model: nn.Module, batches: list[Tensor], engine: str, exact: Tensor) -> float:
    return sqnr(exact, outputs(by_torch_ao(model, batches, engine), batches))


def main() -> None:
    """Prints the table; --json FILE writes it as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    found = [measure(name, given.size, given.seed) for name in given.models]
    table = Table("model", *(f"fxq {name}" for name in PROFILES), *(f"torch.ao {name}" for name in TORCH_AO_ENGINES))
    for row in found:
        table.add_row(row.model, *(f"{value:.1f}" for value in (*row.fxq.values(), *row.torch_ao.values())))
    table.title = f"SQNR against float32 in dB, {given.size} px"
    Console().print(table)
    write_json(given.json, [asdict(row) for row in found])


if __name__ == "__main__":
    main()
