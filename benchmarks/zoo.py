"""`python -m benchmarks.zoo`: torchvision's architectures through fxq and torch.ao: int8 share, accuracy, what stays float, seconds.

Results are kept in a JSON file, and an architecture that it has is not measured again: a run can be stopped and go on later. The
page of the documentation is written from the same file.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from rich.console import Console
from torch import Tensor, nn

import fxq
from benchmarks.alone import run_alone
from benchmarks.architectures import import_models, sqnr, warm_batch_norms
from benchmarks.engines import convert_torch_ao, prepare_torch_ao
from benchmarks.results import without_folders
from benchmarks.zoo_page import Family, Outcome, Result, one_line, read_results, write_page, write_results
from fxq.graph.reasons import Why
from fxq.report import Kind, Report

ENGINE = "onednn"
# their backbones only: what is behind it has control flow on the boxes that are found
DETECTORS = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)

_BATCHES = 2
_HEAD_STD = 0.02
_LAYER_SCALE = "layer_scale"  # of torchvision's ConvNeXt
# what a compiler does not take is a result, too
_REFUSALS = (fxq.FxqError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_LEAST_WARMING_BATCH = 4

# built for images of one size, or for windows that tile it
_FULL_SIZE = ("vit_", "swin_", "maxvit")
_SIZES = {"inception_v3": 299}
_FULL_SIZE_VIDEO = ("mvit", "swin3d", "s3d")


@dataclass(frozen=True)
class Entry:
    """An architecture and the shape of a batch that it is fed."""

    name: str
    family: Family
    shape: tuple[int, ...]


def entries() -> list[Entry]:
    """All classifiers of images, segmentation networks, classifiers of videos, and some backbones of detectors."""
    models = import_models()
    found = [_classifier(name) for name in models.list_models(module=models)]
    found += [Entry(name, Family.SEGMENTATION, (2, 3, 128, 128)) for name in models.list_models(module=models.segmentation)]
    found += [Entry(name, Family.DETECTION, (1, 3, 320, 320)) for name in DETECTORS]
    return found + [_video(name) for name in models.list_models(module=models.video)]


def _classifier(name: str) -> Entry:
    if name.startswith(_FULL_SIZE):
        return Entry(name, Family.TRANSFORMER, (2, 3, 224, 224))
    size = _SIZES.get(name, 64)
    return Entry(name, Family.CONVOLUTIONAL, (4, 3, size, size))


def _video(name: str) -> Entry:
    return Entry(name, Family.VIDEO, (1, 3, 16, 224, 224) if name.startswith(_FULL_SIZE_VIDEO) else (2, 3, 16, 64, 64))


def build(entry: Entry, seed: int = 0) -> nn.Module:
    """Seeded random weights, warmed batch norms, in eval mode."""
    keywords: dict[str, Any] = {"weights": None}
    if entry.family in (Family.SEGMENTATION, Family.DETECTION):
        keywords["weights_backbone"] = None
    if entry.name in ("googlenet", "inception_v3"):
        keywords["init_weights"] = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = import_models().get_model(entry.name, **keywords)
        if entry.family is Family.DETECTION:
            model = cast(nn.Module, model.backbone)
        _wake(model)
        shape = (max(entry.shape[0], _LEAST_WARMING_BATCH), *entry.shape[1:])
        return warm_batch_norms(model, lambda: model(torch.randn(shape)))


def _wake(model: nn.Module) -> None:
    """Heads that are zero get small random weights, scales of layers that are nearly zero become 1: else nothing is measured."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=_HEAD_STD)
        if isinstance(getattr(module, _LAYER_SCALE, None), nn.Parameter):
            nn.init.ones_(cast(nn.Parameter, module.layer_scale))


# --- measuring --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Subject:
    """A float model, what it is calibrated with and measured on, and what it gives for it."""

    model: nn.Module
    batches: Sequence[Tensor]
    exact: Tensor


@dataclass(frozen=True)
class _Compiled:
    model: nn.Module
    seconds: float


def measure(entry: Entry) -> Result:
    """Both compilers, calibrated with and measured on the same batches of standard normal values."""
    model = build(entry)
    generator = torch.Generator().manual_seed(1)
    batches = [torch.randn(entry.shape, generator=generator) for _ in range(_BATCHES)]
    subject = _Subject(model, batches, outputs(model, batches))
    reports: list[Report] = []
    ours = _outcome(lambda: _by_fxq(subject, reports), subject)
    theirs = _outcome(lambda: _by_torch_ao(subject), subject)
    return _result(entry, reports[0] if reports else None, ours, theirs)


def _result(entry: Entry, report: Report | None, ours: Outcome, theirs: Outcome) -> Result:
    if report is None:
        return Result(entry.name, entry.family, entry.shape, 0, 0, 0.0, (), {}, ours, theirs)
    totals = report.totals
    return Result(
        name=entry.name,
        family=entry.family,
        shape=entry.shape,
        nodes=totals.nodes,
        macs=totals.macs // entry.shape[0],
        macs_share_int8=totals.macs_share_int8,
        not_counted=totals.not_counted,
        stays_float=stays_float(report),
        fxq=ours,
        torch_ao=theirs,
    )


def stays_float(report: Report) -> Mapping[str, int]:
    """ "kind of reason: type of op" → how many nodes compute in float for it, most first; without what only moves elements."""
    floats = [(row.reason.why, row.type) for row in report.rows if row.kind is Kind.FLOAT and row.reason is not None]
    return dict(Counter(f"{why.value}: {type}" for why, type in floats if why is not Why.FLOAT_READERS).most_common())


def _outcome(compiled_by: Callable[[], _Compiled], subject: _Subject) -> Outcome:
    try:
        compiled = compiled_by()
        found = sqnr(subject.exact, outputs(compiled.model, subject.batches))
    except _REFUSALS as error:
        first_line = (str(error).strip() or "-").splitlines()[0]
        return Outcome(None, None, f"{type(error).__name__}: {without_folders(first_line)}")
    return Outcome(found, compiled.seconds, None)


def _by_fxq(subject: _Subject, reports: list[Report]) -> _Compiled:
    start = time.process_time()
    prepared = fxq.prepare_fx(subject.model, fxq.get_default_qconfig_mapping("x86"), (subject.batches[0],))
    prepare_seconds = time.process_time() - start
    fxq.calibrate(prepared, subject.batches, progress=False)
    start = time.process_time()
    converted = fxq.convert_fx(prepared)
    seconds = prepare_seconds + time.process_time() - start
    reports.append(fxq.report(converted))
    return _Compiled(converted, seconds)


@torch.no_grad()
def _by_torch_ao(subject: _Subject) -> _Compiled:
    start = time.process_time()
    prepared = prepare_torch_ao(subject.model, subject.batches[0], ENGINE)
    prepare_seconds = time.process_time() - start
    for batch in subject.batches:
        prepared(batch)
    start = time.process_time()
    converted = convert_torch_ao(prepared)
    return _Compiled(converted, prepare_seconds + time.process_time() - start)


@torch.no_grad()
def outputs(model: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """The results on all batches one after the other; of a dict all values side by side."""
    return torch.cat([_as_one(model(batch)) for batch in batches])


def _as_one(result: Tensor | Mapping[str, Tensor]) -> Tensor:
    return result if isinstance(result, Tensor) else torch.cat([value.flatten(1) for value in result.values()], 1)


def main() -> None:
    """Measures what the file does not have yet, and writes the file after each architecture and the page at the end.

    Each architecture has a process of its own: torch.ao keeps a copy of every model that it has converted in memory.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all, where none is given")
    parser.add_argument("--json", metavar="FILE", default="zoo.json", help="results so far, read and written")
    parser.add_argument("--page", metavar="FILE", help="write the page from the results")
    given = parser.parse_args()
    results, order = read_results(given.json), [entry.name for entry in entries()]
    for entry in entries():
        if entry.name not in results and (not given.names or entry.name in given.names):
            results[entry.name] = run_alone(measure, entry)
            Console().print(one_line(results[entry.name]), highlight=False, soft_wrap=True)
            write_results(given.json, sorted(results.values(), key=lambda result: order.index(result.name)))
    if given.page is not None:
        done = sorted(results.values(), key=lambda result: order.index(result.name))
        write_page(given.page, done, [name for name in order if name not in results])


if __name__ == "__main__":
    main()
