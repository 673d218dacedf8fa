"""sensitivity(...): which layers to keep float, and what it costs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fxq.api import calibrate, convert_fx, convert_to_reference_fx, prepare_fx
from fxq.errors import ConfigError, DataError
from fxq.graph.module import FxqModule
from fxq.graph.profile import BackendProfile
from fxq.lowering.profiles import find_profile
from fxq.passes import split_inputs
from fxq.passes.whole import unwrap
from fxq.qconfig_mapping import QConfigMapping
from fxq.qconfig_mapping.mapping import as_mapping
from fxq.report.closeness import Sums
from fxq.report.coverage import report
from fxq.report.latency import measure_latency
from fxq.report.lockstep import real_tensors
from fxq.report.progress import with_progress
from fxq.tuning.results import LayerSensitivity, Proposal, Sensitivity
from fxq.tuning.simulation import Layer, Simulation

Metric = Callable[[nn.Module], float]


def sensitivity(
    model: nn.Module,
    qconfig_mapping: QConfigMapping | Mapping[str, Any],
    example_inputs: Any,
    batches: Iterable[Any],
    *,
    min_sqnr_db: float | None = None,
    metric: Metric | None = None,
    max_drop: float | None = None,
    calibration_batches: Iterable[Any] | None = None,
    profile: str | BackendProfile = "x86",
    progress: bool = True,
) -> Sensitivity:
    """Ranks the int8 layers by what keeping each of them float gives back; with a target, proposes which to keep.

    The ranking is by the SQNR of the model's results on the batches. For a proposal the layers at its top stay float, as few as reach
    the target, and of these those that are not needed become int8 again. Then the model is quantized with the proposed mapping and
    measured; as long as it misses the target, another layer stays float. Trials before that run on the reference model, in float.

    Args:
        model: float; in training mode it is ranked as it would be in eval mode. It is not changed.
        qconfig_mapping: as for prepare_fx: layers that it keeps float stay so.
        example_inputs: for tracing, and what latency is measured with.
        batches: as for fxq.compare. They are read once for each layer; an iterator is made a list.
        min_sqnr_db: the target: the least SQNR of the model's results, in dB.
        metric, max_drop: or that a function of a model, larger is better, says at most so much less than of the float model.
        calibration_batches: `batches` where it is None.
        profile: as for prepare_fx.
        progress: show bars, where standard error is a terminal.

    Raises:
        ConfigError: no layer is int8, or the target is incomplete; also as prepare_fx.
        CalibrationError, CaptureError, DataError: the model does not run on the batches, or there are none.
    """
    _require_one_target(min_sqnr_db, metric, max_drop)
    samples = list(batches) if iter(batches) is batches else batches
    job = _Job(
        copy.deepcopy(unwrap(model)).eval(),
        as_mapping(qconfig_mapping),
        example_inputs,
        samples if calibration_batches is None else calibration_batches,
        find_profile(profile),
        progress,
    )
    exact = _Exact(job.model, samples)
    prepared = job.prepare(job.mapping)
    simulation = Simulation(prepared, convert_to_reference_fx(prepared))
    if not simulation.layers:
        raise _nothing_to_rank()
    found = _rank(simulation, exact, progress)
    if min_sqnr_db is not None:
        target = _Target(f"an SQNR of at least {min_sqnr_db:g} dB", exact.sqnr_db, min_sqnr_db)
    elif metric is not None and max_drop is not None:
        target = _Target(f"a metric that drops by at most {max_drop:g}", metric, metric(job.model) - max_drop)
    else:
        return found
    by_name = {layer.name: layer for layer in simulation.layers}
    ranked = [by_name[row.name] for row in found.rows]
    kept = _fewest(ranked, lambda layers: target.is_reached(simulation.keep_float(layers)))
    return found.model_copy(update={"proposal": _propose(job, ranked, kept, target, exact)})


# --- what is asked ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Job:
    """What is to be quantized. Attributes as the arguments of `sensitivity`; the model is a copy in eval mode."""

    model: nn.Module
    mapping: QConfigMapping
    example_inputs: Any
    calibration: Iterable[Any]
    profile: BackendProfile
    progress: bool

    def prepare(self, mapping: QConfigMapping) -> FxqModule:
        """Calibrated."""
        prepared = prepare_fx(self.model, mapping, self.example_inputs, profile=self.profile)
        calibrate(prepared, self.calibration, progress=self.progress)
        return prepared


@dataclass(frozen=True, eq=False)
class _Target:
    """What a model has to reach.

    Attributes:
        text: for people.
        score: of a model; larger is better.
        least: the score that is asked for.
    """

    text: str
    score: Metric
    least: float

    def is_reached(self, model: nn.Module) -> bool:
        return self.score(model) >= self.least


class _Exact:
    """What the float model returns, batch by batch."""

    def __init__(self, model: nn.Module, batches: Iterable[Any]) -> None:
        self._batches = batches
        self._results = [real_tensors(_run(model, batch)) for batch in batches]
        if not self._results:
            raise DataError("batches", expected="at least one batch", found="none", remedy="pass a list or a DataLoader that is not empty")

    def sqnr_db(self, model: nn.Module) -> float:
        """Of another model's results."""
        sums = Sums()
        for batch, exact in zip(self._batches, self._results, strict=True):
            for x, found in zip(exact, real_tensors(_run(model, batch)), strict=True):
                sums.add(x, found)
        return sums.closeness().sqnr_db


def _run(model: nn.Module, batch: Any) -> Any:
    inputs = split_inputs(batch)
    with torch.no_grad():
        return model(*inputs.args, **inputs.kwargs)


def _require_one_target(min_sqnr_db: float | None, metric: Metric | None, max_drop: float | None) -> None:
    whole = (metric is None) == (max_drop is None) and (min_sqnr_db is None or metric is None)
    if whole and (max_drop is None or max_drop >= 0):
        return
    given = {"min_sqnr_db": min_sqnr_db, "metric": metric, "max_drop": max_drop}
    raise ConfigError(
        "sensitivity, target",
        expected="min_sqnr_db, or metric and a max_drop of at least 0, or none of the three",
        found=", ".join(f"{name}={value}" for name, value in given.items() if value is not None),
        remedy="for example: metric=accuracy, max_drop=0.5, where accuracy(model) is in percent",
    )


def _nothing_to_rank() -> ConfigError:
    return ConfigError(
        "sensitivity",
        expected="a model and a mapping that make int8 layers",
        found="every layer stays float",
        remedy="print(fxq.report(fxq.prepare_fx(model, qconfig_mapping, example_inputs))) says why, and what to do",
    )


# --- ranking ---------------------------------------------------------------------------------------------------------------


def _rank(simulation: Simulation, exact: _Exact, progress: bool) -> Sensitivity:
    int8 = exact.sqnr_db(simulation.keep_float(()))
    total = sum(layer.macs for layer in simulation.layers)
    rows = []
    for layer in with_progress(simulation.layers, "trying layers", progress=progress):
        reached = exact.sqnr_db(simulation.keep_float([layer]))
        gain = 0.0 if reached == int8 else reached - int8
        share = layer.macs / total if total else 0.0
        module = layer.origin.module
        rows.append(LayerSensitivity(name=layer.name, what=layer.what, module=module, sqnr_db=reached, gain_db=gain, macs_share=share))
    by_gain = sorted(rows, key=lambda row: math.inf if math.isnan(row.gain_db) else -row.gain_db)
    return Sensitivity(sqnr_db=int8, rows=tuple(by_gain))


# --- proposing -------------------------------------------------------------------------------------------------------------


def _fewest(ranked: list[Layer], reaches: Callable[[list[Layer]], bool]) -> list[Layer]:
    """The shortest beginning of the ranking that reaches the target, without the layers that are not needed, the costliest tried first."""
    low, high = -1, len(ranked)  # ranked[:high] reaches it, ranked[:low] does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(ranked[:middle]) else (middle, high)
    kept = ranked[:high]
    for layer in sorted(kept, key=lambda each: -each.macs):
        without = [each for each in kept if each is not layer]
        kept = without if reaches(without) else kept
    return kept


def _propose(job: _Job, ranked: list[Layer], kept: list[Layer], target: _Target, exact: _Exact) -> Proposal:
    """Quantizes with the layers kept float, and with one more of the ranking as long as the target is missed."""
    left = [layer for layer in ranked if layer not in kept]
    while True:
        mapping = job.mapping.model_copy(deep=True)
        for layer in kept:
            layer.keep_float(mapping)
        quantized = convert_fx(job.prepare(mapping))
        reached = target.score(quantized)
        if reached >= target.least or not left:
            break
        kept = [*kept, left.pop(0)]
    models = (quantized, convert_fx(job.prepare(job.mapping)), job.model)
    ms, int8_ms, float_ms = (latency.least for latency in measure_latency(models, split_inputs(job.example_inputs)))
    return Proposal(
        mapping=mapping,
        kept_float=tuple(layer.what for layer in kept),
        target=target.text,
        reached=reached,
        is_reached=reached >= target.least,
        sqnr_db=exact.sqnr_db(quantized),
        macs_share_int8=report(quantized).totals.macs_share_int8,
        ms=ms,
        int8_ms=int8_ms,
        float_ms=float_ms,
    )
