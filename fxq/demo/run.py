"""The demo from end to end: train, quantize, measure, show, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from fxq.demo.compare import Compared, compare, this_machine
from fxq.demo.digits import load_digits
from fxq.demo.models import MobileNetDigits, ResNetDigits
from fxq.demo.results import show_results, write_results
from fxq.demo.train import Recipe, train
from fxq.errors import FxqError
from fxq.graph.text import print_graph
from fxq.report import report
from fxq.report.latency import one_thread
from fxq.visualize import to_dot

NETWORKS = (ResNetDigits, MobileNetDigits)
_FILES = "report.txt, report.json, graph.txt, graph.dot and model.pt"


def run_demo(out: Path, console: Console, recipe: Recipe | None = None, *, runs: int = 40) -> tuple[Compared, ...]:
    """Trains both networks, quantizes each in three ways, prints one table and writes everything to a folder.

    One to two minutes, nearly all of it training.

    Args:
        out: made if it isn't there; files of an earlier run are replaced.
        console: for the table, and for progress where it is a terminal.
        recipe: how to train; None for the default.
        runs: timed calls of each network and batch size.

    Raises:
        FxqError: the folder cannot be written, or scikit-learn is not installed.
    """
    _make_folder(out)
    with one_thread():  # more gain little on such small networks, and give other weights
        results = _train_and_compare(console, recipe, runs)
        machine = this_machine()
    console.print()
    show_results(results, machine, console)
    write_results(results, machine, out)
    _write_models(results, out)
    written = f"\nWritten to {out}: this table (results.txt, results.json), and a folder for each int8 model with {_FILES}."
    console.print(written, highlight=False, markup=False)
    return tuple(results)


def _train_and_compare(console: Console, recipe: Recipe | None, runs: int) -> list[Compared]:
    digits = load_digits()
    bars = console if console.is_terminal else None
    results = []
    for network in NETWORKS:
        console.print(f"training {network.__name__} on {len(digits.train):,} images of digits", highlight=False)
        trained = train(network, digits, recipe, bars)
        results.append(compare(network.__name__, trained.model, digits, runs=runs))
    return results


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").touch()
    except OSError as error:
        raise FxqError(
            f"--out {out}",
            expected="a folder that can be written",
            found=f"{type(error).__name__}: {error.strerror}",
            remedy="choose another folder",
        ) from None


def _write_models(results: Sequence[Compared], out: Path) -> None:
    """A folder for each int8 model: the model itself, its report and its graph, each as text and for programs."""
    for name, quantized in ((compared.name, each) for compared in results for each in compared.quantized):
        folder = out / f"{name}-{quantized.variant.folder}"
        folder.mkdir(exist_ok=True)
        made = report(quantized.model)
        (folder / "report.txt").write_text(f"{made}\n", encoding="utf-8")
        (folder / "report.json").write_text(f"{made.to_json()}\n", encoding="utf-8")
        (folder / "graph.txt").write_text(print_graph(quantized.model), encoding="utf-8")
        (folder / "graph.dot").write_text(to_dot(quantized.model), encoding="utf-8")
        torch.save(quantized.model, folder / "model.pt")
