"""`python -m benchmarks.file_round_trips`: every architecture of torchvision through fxq.save and fxq.load.

Each is quantized on one random image, stored and loaded; results must have the same bits as the original's in both runtimes, and the
reports must be equal. Prints bytes and the least of some loading times.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from torch.utils._pytree import tree_leaves

import fxq
from benchmarks.alone import run_alone
from benchmarks.results import write_json
from benchmarks.zoo import Entry, build, entries
from benchmarks.zoo_page import Family

_LOADS = 3


@dataclass(frozen=True)
class Trip:
    """What came of one architecture.

    Attributes:
        nodes: of the graph.
        megabytes: of the file.
        float_megabytes: parameters and buffers of the float model.
        save_seconds, load_seconds: the latter without compiling, which the first call does.
        fault: "" where the loaded model is the same.
    """

    name: str
    nodes: int
    megabytes: float
    float_megabytes: float
    save_seconds: float
    load_seconds: float
    fault: str

    def __str__(self) -> str:
        sizes = f"{self.float_megabytes:8.1f} MB float {self.megabytes:8.2f} MB"
        times = f"save {self.save_seconds:6.3f} s  load {self.load_seconds:6.3f} s"
        return f"{self.name:34} {self.nodes:5} nodes {sizes}  {times}  {self.fault or 'same'}"


def measure(entry: Entry) -> Trip:
    """Quantizes, stores, loads and compares one architecture."""
    small = replace(entry, shape=(1, *entry.shape[1:]))
    model, x = build(entry), torch.randn(small.shape, generator=torch.Generator().manual_seed(1))
    floats = sum(tensor.nbytes for tensor in model.state_dict().values())
    try:
        int8 = fxq.quantize(model, [x], progress=False)
    except fxq.FxqError as error:
        return Trip(entry.name, 0, 0.0, floats / 1e6, 0.0, 0.0, f"not quantized: {error.found}")
    del model
    with TemporaryDirectory() as folder:
        return _round_trip(entry.name, int8, x, Path(folder, "model.fxq"), floats)


def _round_trip(name: str, int8: fxq.FxqModule, x: torch.Tensor, path: Path, floats: int) -> Trip:
    start = time.perf_counter()
    try:
        fxq.save(int8, path)
    except fxq.FileError as error:
        return Trip(name, len(int8.graph.nodes), 0.0, floats / 1e6, 0.0, 0.0, f"not stored: {error.where}, {error.found}")
    saved = time.perf_counter() - start
    seconds = []
    for _ in range(_LOADS):
        start = time.perf_counter()
        loaded = fxq.load(path)
        seconds.append(time.perf_counter() - start)
    size = path.stat().st_size / 1e6
    return Trip(name, len(int8.graph.nodes), size, floats / 1e6, saved, min(seconds), _fault(int8, loaded, x))


@torch.no_grad()
def _fault(model: fxq.FxqModule, loaded: fxq.FxqModule, x: torch.Tensor) -> str:
    if fxq.report(loaded) != fxq.report(model):  # before a call: which compiled regions take the shapes is part of it afterwards
        return "another report"
    expected = tree_leaves(model.run_lowered(x))
    for runtime, found in (("integer", loaded.run_lowered(x)), ("jit", loaded(x))):
        if not all(torch.equal(value, other) for value, other in zip(tree_leaves(found), expected, strict=True)):
            return f"other results, {runtime}"
    return ""


def main() -> None:
    """Measures all architectures, or those that are named, each in a process of its own. Exits with 1 where one is not the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all, where none is given")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    given = parser.parse_args()
    found: list[Trip] = []
    for entry in entries():
        if entry.family is not Family.DETECTION and (not given.names or entry.name in given.names):
            found.append(run_alone(measure, entry))
            Console().print(str(found[-1]), highlight=False, soft_wrap=True)
    write_json(given.json, [asdict(trip) for trip in found])
    raise SystemExit(any(trip.fault for trip in found))


if __name__ == "__main__":
    main()
