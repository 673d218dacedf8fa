"""`python -m benchmarks.fuzz_files`: loads files that were damaged or made up, and counts what comes of it.

A file may load or be a FileError. Anything else is a fault: another exception, a process that dies, an import, a file or process that is
opened, more memory than the bound, a load that does not end. Half of the mutations are of bytes; the others change the JSON, the tensors or
their table, and make the checksum fit again. What loads is called, too: it may fail there, and must not crash.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

import fxq
from benchmarks.memory import grown_since, start_counting
from benchmarks.results import write_json
from fxq.lowering.executable import choose_executor

_BATCH = 250
_MOST_SECONDS = 30
_MOST_GROWTH = 32 * 2**20  # bytes, far above 200 times the header of the files here
_CALLED = 50  # one in so many of the models that load is compiled and called, too: that takes a second

Mutation = Callable[[bytearray, random.Random], bytes]


class Subject(nn.Module):
    """A few nodes of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(2, 3, 3, padding=1), nn.LocalResponseNorm(2), nn.Linear(3, 2)
        self.shift = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor, scale: float = 2.0) -> dict[str, Tensor]:
        y = F.adaptive_avg_pool2d(self.norm(self.conv(x)).relu(), 1) * torch.ones(1, device=x.device)
        return {"y": torch.cumsum(self.fc(F.gelu(y).reshape(x.shape[0], -1)), 1) * scale + self.shift.cumprod(0)}


INPUT = (1, 2, 4, 4)


def subject() -> bytes:
    """The file that is mutated."""
    torch.manual_seed(0)
    model = fxq.quantize(Subject(), [(torch.randn(INPUT),)], progress=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "subject.fxq")
        fxq.save(model, path)
        return path.read_bytes()


# --- mutations of bytes ----------------------------------------------------------------------------------------------------


def _flip(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _truncate(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(len(content))])


def _extend(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content) + rng.randbytes(rng.randrange(1, 100))


def _overwrite(content: bytearray, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    length = rng.randrange(1, 64)
    content[start : start + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length), b""))
    return bytes(content)


def _move(content: bytearray, rng: random.Random) -> bytes:
    start, length, to = rng.randrange(len(content)), rng.randrange(1, 400), rng.randrange(len(content))
    piece = content[start : start + length]
    if rng.random() < 0.5:
        del content[start : start + length]
    content[to:to] = piece
    return bytes(content)


def _header_length(content: bytearray, rng: random.Random) -> bytes:
    content[:8] = rng.choice((0, 1, 2**24, 2**24 + 1, 2**32, 2**63, len(content), rng.randrange(2 * len(content)))).to_bytes(8, "little")
    return bytes(content)


# --- mutations that a checksum does not find -------------------------------------------------------------------------------


@dataclass
class _Parts:
    """A file taken apart.

    Attributes:
        table: of the safetensors header.
    """

    text: str
    table: dict[str, Any]
    data: bytearray
    version: str = "1"

    def joined(self) -> bytes:
        """The file, with a checksum that fits as far as there is one."""
        digest = hashlib.sha256(self.text.encode(errors="surrogatepass"))
        for name in self._listed():
            begin, end = self.table[name]["data_offsets"] if name in self.table else (0, 0)
            digest.update(self.data[begin:end])
        entry = {"fxq": f"{self.version} {digest.hexdigest()}\n{self.text}"}
        header = json.dumps({"__metadata__": entry, **self.table}).encode()
        header += b" " * (-len(header) % 8)
        return len(header).to_bytes(8, "little") + header + bytes(self.data)

    def _listed(self) -> list[str]:
        try:
            return [name for each in json.loads(self.text)["tensors"] if isinstance(name := each["name"], str)]
        except (ValueError, LookupError, TypeError, RecursionError):
            return []


def _apart(content: bytearray) -> _Parts:
    length = int.from_bytes(content[:8], "little")
    table = json.loads(content[8 : 8 + length])
    text = table.pop("__metadata__")["fxq"].partition("\n")[2]
    return _Parts(text, table, content[8 + length :])


_CODE = "__import__('os').system('true')"
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 255, 256, 2**31, 2**63, -(2**63), 10**30, 0.0, -0.5, 1e308, "", "x", "conv", "fc.weight", "y", "0",
    _CODE, f"x={_CODE}", f"a'); {_CODE}; ('", "__class__", "__init__", "forward", "os.system", "builtins.eval", "torch.load", "lambda",
    "a b", "a.b.c", "..", ".", "\x00", "\ud800", "é", "torch.nn.LSTM", "Conv", "Softmax", "op", "function", "method", "inf", "nan",
    [], {}, [[]], {"node": "x"}, {"node": "nowhere"}, {"tuple": []}, {"dict": [["a", 1]]}, {"slice": [0, None, 1]}, {"number": "nan"},
    {"dtype": "int8"}, {"device": "meta"}, {"device": "cuda"}, {"ellipsis": True}, {"code": _CODE}, {"tensor": "fc.weight"},
    [0] * 40, list(range(70)),
)  # fmt: skip


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    for key in range(len(value)) if isinstance(value, list) else list(value):
        yield value, key
        if isinstance(value[key], list | dict):
            yield from _places(value[key])


def _edit(tree: Any, rng: random.Random) -> None:
    places = list(_places(tree))
    container, key = rng.choice(places)
    action = rng.randrange(6)
    if action == 0:
        container.pop(key)
    elif action == 1 and isinstance(container, list):
        container.insert(rng.randrange(len(container) + 1), container[key])
    elif action == 2:
        other, place = rng.choice(places)
        container[key], other[place] = json.loads(json.dumps(other[place])), json.loads(json.dumps(container[key]))
    elif action == 3 and isinstance(container, dict):
        container[str(rng.choice(_VALUES))] = container.pop(key)
    elif action == 4 and isinstance(container[key], int) and not isinstance(container[key], bool):
        container[key] += rng.choice((-1, 1, 2, 128, -256, 2**20))
    else:
        container[key] = rng.choice(_VALUES)


def _json(content: bytearray, rng: random.Random) -> bytes:
    parts = _apart(content)
    tree = json.loads(parts.text)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        _edit(tree, rng)
    parts.text = json.dumps(tree)
    return parts.joined()


def _json_text(content: bytearray, rng: random.Random) -> bytes:
    parts = _apart(content)
    text = list(parts.text)
    for _ in range(rng.choice((1, 2, 8))):
        start = rng.randrange(len(text))
        text[start : start + rng.randrange(3)] = rng.choice('{}[]",:0123456789.-eE\\untf \n')
    parts.text = "".join(text)
    return parts.joined()


def _nested(content: bytearray, rng: random.Random) -> bytes:
    parts = _apart(content)
    depth = rng.choice((50, 99, 150, 199, 1000, 50_000))
    opening, closing = rng.choice((("[", "]"), ('{"tuple":[', "]}"), ('{"items":[', "]}"), ('{"a":', "}")))
    place = parts.text.find("[", rng.randrange(len(parts.text))) + 1
    parts.text = f"{parts.text[:place]}{opening * depth}1{closing * depth},{parts.text[place:]}"
    return parts.joined()


def _tensor_data(content: bytearray, rng: random.Random) -> bytes:
    parts = _apart(content)
    for _ in range(rng.choice((1, 8, 200))):
        parts.data[rng.randrange(len(parts.data))] = rng.randrange(256)
    return parts.joined()


def _tensor_table(content: bytearray, rng: random.Random) -> bytes:
    parts = _apart(content)
    entry = parts.table[rng.choice(list(parts.table))]
    change = rng.randrange(4)
    if change == 0:
        entry["dtype"] = rng.choice(("F64", "F32", "U8", "BOOL", "F8_E4M3", "BF16", "F4", "I64", "C64", "X", ""))
    elif change == 1:
        entry["shape"] = rng.choice(([], [0], [-1], [2**62, 4], [2**63], entry["shape"][::-1], [*entry["shape"], 1]))
    elif change == 2:
        entry["data_offsets"][rng.randrange(2)] += rng.choice((-1, 1, 8, 2**40))
    else:
        parts.table["another"] = {"dtype": "U8", "shape": [0], "data_offsets": [len(parts.data)] * 2}
    return parts.joined()


def _version(content: bytearray, rng: random.Random) -> bytes:
    parts = _apart(content)
    parts.version = rng.choice(("0", "2", "-1", "", "1" * 400, "1.0", "one", "\x00"))
    return parts.joined()


MUTATIONS: tuple[tuple[str, int, Mutation], ...] = (
    ("bits", 15, _flip), ("truncated", 8, _truncate), ("extended", 2, _extend), ("overwritten", 10, _overwrite), ("moved", 10, _move),
    ("header length", 5, _header_length), ("json", 30, _json), ("json text", 10, _json_text), ("nested", 2, _nested),
    ("tensor data", 3, _tensor_data), ("tensor table", 4, _tensor_table), ("version", 1, _version),
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A file, and how it was made."""

    kind: str
    content: bytes


def mutant(original: bytes, seed: int) -> Mutant:
    """The file that a seed makes of the original."""
    rng = random.Random(seed)
    (kind, _, mutate) = rng.choices(MUTATIONS, [weight for _, weight, _ in MUTATIONS])[0]
    return Mutant(kind, mutate(bytearray(original), rng))


# --- running ---------------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of some files.

    Attributes:
        outcomes: "kind: outcome" → how often.
        faults: what should not have happened, with the seed.
        called: how many that loaded gave a result, or an exception.
        slowest: seconds of a load.
        growth: bytes by which the process has grown in a load, at most.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    called: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    growth: int = 0

    def add(self, other: Tally) -> None:
        """Both together."""
        self.outcomes += other.outcomes
        self.faults += other.faults
        self.called += other.called
        self.slowest, self.growth = max(self.slowest, other.slowest), max(self.growth, other.growth)


# events of the interpreter that no load may cause; what torch.fx compiles from a graph is `exec`, and checked otherwise
_FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "webbrowser.", "pickle.", "marshal.", "import")
_watching: list[str] = []
_is_loading = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _is_loading:
        return
    is_other_file = event == "open" and not str(arguments[0]).endswith(".fxq")
    if is_other_file or (event.startswith(_FORBIDDEN) and not (event == "import" and arguments[0] in sys.modules)):
        _watching.append(f"{event} {arguments[:2]}")


def _run(original: bytes, seeds: Sequence[int]) -> Tally:
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mutant.fxq")
        for seed in seeds:
            made = mutant(original, seed)
            path.write_bytes(made.content)
            _one(path, made.kind, seed, tally)
    return tally


def _one(path: Path, kind: str, seed: int, tally: Tally) -> None:
    before, start = start_counting(), time.perf_counter()
    model = None
    try:
        with _loading():
            model = fxq.load(path, runtime="integer")
        tally.outcomes[f"{kind}: loaded"] += 1
    except fxq.FileError as error:
        tally.outcomes[f"{kind}: FileError"] += 1
        if "MemoryError" in str(error):
            tally.faults.append(f"seed {seed}, {kind}: {error}")
    except Exception as error:  # noqa: BLE001, whatever else comes out is what this looks for
        tally.faults.append(f"seed {seed}, {kind}: {type(error).__name__}: {error}")
    seconds, growth = time.perf_counter() - start, grown_since(before)
    tally.slowest, tally.growth = max(tally.slowest, seconds), max(tally.growth, growth)
    if seconds > _MOST_SECONDS or growth > _MOST_GROWTH:
        tally.faults.append(f"seed {seed}, {kind}: {seconds:.1f} s, {growth / 2**20:.0f} MiB more memory")
    tally.faults += [f"seed {seed}, {kind}: {event}" for event in _watching]
    _watching.clear()
    if model is not None:
        _call(model, seed, tally)


@contextmanager
def _loading() -> Iterator[None]:
    global _is_loading
    _is_loading = True
    try:
        yield
    finally:
        _is_loading = False


def _call(model: fxq.FxqModule, seed: int, tally: Tally) -> None:
    """Runs what has loaded on its own input, and on compiled kernels now and then."""
    try:
        with torch.no_grad(), redirect_stderr(io.StringIO()):  # torch.fx prints the code in which something failed
            expected = model(torch.ones(INPUT))
            if seed % _CALLED == 0:
                model.run_with(choose_executor("auto"))
                model(torch.ones(INPUT))
        tally.called["a result" if expected is not None else "nothing"] += 1
    except Exception as error:  # noqa: BLE001, a model may compute anything: it must not take the process along
        tally.called[type(error).__name__] += 1


def _start(original: bytes) -> None:
    """Everything that a first load imports and grows by is there before it is watched."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "original.fxq")
        path.write_bytes(original)
        _call(fxq.load(path, runtime="integer"), 0, Tally())
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    sys.addaudithook(_watch)


def _batch(original: bytes, seeds: Sequence[int]) -> Tally:
    signal.alarm(_MOST_SECONDS * 10)  # ends the process: a load that hangs is a fault like one that crashes
    try:
        return _run(original, seeds)
    finally:
        signal.alarm(0)


def fuzz(count: int, jobs: int, first_seed: int) -> Tally:
    """Loads `count` files in some processes."""
    original, total = subject(), Tally()
    batches = [range(start, min(start + _BATCH, first_seed + count)) for start in range(first_seed, first_seed + count, _BATCH)]
    for group in track([batches[start : start + 40] for start in range(0, len(batches), 40)], "loading", console=Console(stderr=True)):
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start, initargs=(original,)) as executor:
            running = {executor.submit(_batch, original, seeds): seeds for seeds in group}
            for future, seeds in running.items():
                try:
                    total.add(future.result())
                except BrokenProcessPool:
                    total.faults.append(f"seeds {seeds[0]}..{seeds[-1]}: the process died")
    return total


def main() -> None:
    """Fuzzes and prints what came of it. Exits with 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--json", metavar="FILE", help="write the results")
    given = parser.parse_args()
    start = time.perf_counter()
    tally = fuzz(given.count, given.jobs, given.seed)
    print(f"{given.count} files in {time.perf_counter() - start:.0f} s on {given.jobs} processes")
    for outcome, number in sorted(tally.outcomes.items()):
        print(f"{number:8} {outcome}")
    print(f"called: {dict(tally.called.most_common())}")
    print(f"slowest load {tally.slowest:.3f} s, most memory of a load {tally.growth / 2**20:.1f} MiB")
    print(f"{len(tally.faults)} faults", *tally.faults[:40], sep="\n")
    write_json(given.json, [vars(tally)])
    raise SystemExit(bool(tally.faults))


if __name__ == "__main__":
    main()
