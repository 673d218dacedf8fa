"""`python -m benchmarks.file_bombs`: the memory that small files can make fxq.load take.

Each has a graph that is small as JSON and large as Python objects: empty lists, deep paths, graphs inside graphs. Each is loaded in a
process of its own. Exits with 1 where one takes more than docs/files.md says, or is neither a model nor a FileError.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import fxq
from benchmarks.memory import grown_since, start_counting
from benchmarks.results import write_json

# of the bytes of the header
_MOST_TIMES = 200
# what a process takes to load anything: code and tables that it sees for the first time
_SLACK = 8 * 2**20

Json = dict[str, Any]
_OUTPUT = {"name": "output", "kind": "output", "target": "output", "args": [1]}
_TENSOR = {"name": "t", "dtype": "uint8", "shape": [1]}
_SPEC = {"dtype": "int8", "qmin": -127, "qmax": 127}


def _model(**fields: Any) -> Json:
    return {"stage": "LOWERED", "profile": None, "nodes": [_OUTPUT], **fields}


def _filled(size: int, make: Callable[[int], Any]) -> list[Any]:
    """As many as fit."""
    return [make(number) for number in range(max(1, size // (1 + len(_text(make(10**5))))))]


def _nodes(make: Callable[[int], Json]) -> Callable[[int], Json]:
    return lambda size: _model(nodes=[*_filled(size, make), _OUTPUT])


def _values(make: Callable[[int], Any]) -> Callable[[int], Json]:
    return _output(args=lambda size: _filled(size, make))


def _tensors(make: Callable[[int], Json]) -> Callable[[int], Json]:
    return lambda size: _model(tensors=_filled(size, lambda number: {"tensor": "t", **make(number)}))


def _modules(make: Callable[[int], Json]) -> Callable[[int], Json]:
    return lambda size: _model(modules=_filled(size, make))


def _output(**fields: Callable[[int], Any]) -> Callable[[int], Json]:
    return lambda size: _model(nodes=[{**_OUTPUT, **{name: make(size) for name, make in fields.items()}}])


def _nested(depth: int) -> Any:
    return [] if depth == 0 else [_nested(depth - 1)]


# the graph of a file of about so many bytes
BOMBS: Mapping[str, Callable[[int], Json]] = {
    "inputs": _nodes(lambda number: {"name": f"a{number}", "kind": "input", "target": f"a{number}"}),
    "calls": _nodes(lambda number: {"name": f"a{number}", "kind": "function", "target": "torch.relu"}),
    "annotations": _nodes(lambda number: {"name": f"a{number}", "kind": "input", "target": f"a{number}", "quant": {}}),
    "empty lists": _values(lambda _: []),
    "nested lists": _values(lambda _: _nested(150)),
    "tuples": _values(lambda _: {"tuple": []}),
    "numbers": _values(lambda _: {"number": "inf"}),
    "slices": _values(lambda _: {"slice": [None, None, None]}),
    "strings": _values(str),
    "operands": _output(quant=lambda size: {"inputs": _filled(size, lambda number: {"name": f"a{number}", "spec": _SPEC})}),
    "types": _output(type=lambda size: {"items": _filled(size, lambda _: {"items": []})}),
    "tensors": _tensors(lambda number: {"path": f"a{number}"}),
    "parameters": _tensors(lambda number: {"path": f"a{number}", "is_parameter": True}),
    "deep paths": _tensors(lambda number: {"path": f"a{number}." + "a." * 490 + "w"}),
    "paths of 60 levels": _tensors(lambda number: {"path": f"a{number}." + "a." * 58 + "w"}),
    "paths of 3 levels": _tensors(lambda number: {"path": f"a{number}.a.w"}),
    "modules": _modules(lambda number: {"kind": "float", "path": f"a{number}", "module": "torch.nn.Softmax", "arguments": {}}),
    "graphs": _modules(lambda number: {"kind": "graph", "path": f"a{number}", "model": _model()}),
    "attributes": lambda size: _model(preserved=_filled(size, lambda number: {"name": f"a{number}", "is_held": False})),
    "faults": lambda size: _model(nodes=_filled(size, lambda _: {})),
}


@dataclass(frozen=True)
class Blast:
    """What came of one file.

    Attributes:
        times: bytes that the process has grown by, per byte of the header.
        outcome: "loaded", or what the error says.
    """

    name: str
    mebibytes: float
    seconds: float
    times: float
    outcome: str

    @property
    def is_harmless(self) -> bool:
        """Whether it keeps to what is promised."""
        return self.times <= _MOST_TIMES and not self.outcome.startswith("!")

    def __str__(self) -> str:
        return f"{self.name:20} {self.mebibytes:6.2f} MiB {self.seconds:7.1f} s {self.times:6.0f} times  {self.outcome}"


def explode(name: str, size: int) -> Blast:
    """Loads one."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        _write(_model(), Path(folder, "model.fxq"))
        fxq.load(Path(folder, "model.fxq"))
        header = _write(BOMBS[name](size), Path(folder, "bomb.fxq"))
        before, start = start_counting(), time.perf_counter()
        outcome = _load(Path(folder, "bomb.fxq"))
        return Blast(name, header / 2**20, time.perf_counter() - start, max(0, grown_since(before) - _SLACK) / header, outcome)


def _load(path: Path) -> str:
    try:
        fxq.load(path)
    except fxq.FileError as error:
        return error.found[:80]
    except Exception as error:  # noqa: BLE001, whatever else comes out is what this looks for
        return f"! {type(error).__name__}: {error}"[:80]
    return "loaded"


def _write(model: Json, path: Path) -> int:
    """Writes a file with this graph. Returns the bytes of its header."""
    text = _text({"writer": "nobody", "tensors": [_TENSOR], "model": model})
    value = torch.zeros(1, dtype=torch.uint8)
    digest = hashlib.sha256(text.encode() + value.numpy().tobytes()).hexdigest()
    save_file({"t": value}, path, {"fxq": f"1 {digest}\n{text}"})
    return path.stat().st_size


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def main() -> None:
    """Loads all of them and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="some of them; all, where none is given")
    parser.add_argument("--mebibytes", type=float, default=1.0, help="of JSON, about")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    given = parser.parse_args()
    found = []
    for name in given.names or BOMBS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
            found.append(executor.submit(explode, name, int(given.mebibytes * 2**20)).result())
        print(found[-1], flush=True)
    write_json(given.json, [asdict(blast) for blast in found])
    raise SystemExit(not all(blast.is_harmless for blast in found))


if __name__ == "__main__":
    main()
