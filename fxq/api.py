"""The calls that take a user from float to int8. The wiring of passes, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from itertools import chain
from operator import length_hint
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from fxq.errors import CalibrationError, ConfigError, FxqError
from fxq.graph.module import FxqModule
from fxq.graph.profile import BackendProfile
from fxq.graph.stages import Stage
from fxq.lowering.lower import lower
from fxq.lowering.profiles import find_profile
from fxq.passes import CONVERT, FUSE, PREPARE, Context, Pass, pipeline, require_stage, run_pipeline, split_inputs, trace
from fxq.qconfig_mapping import QConfigMapping, get_default_qconfig_mapping

LOWER = pipeline(Pass("lower", Stage.REFERENCE, Stage.LOWERED, lambda module, context: lower(module, context.profile)))


def fuse_fx(model: nn.Module, example_inputs: Any) -> FxqModule:
    """relu(bn(conv(x))) = conv'(x): the float model with batch norms folded and activations and residual sums attached.

    Args:
        model: in eval mode, or nothing is folded; it is copied, not changed.
        example_inputs: a tuple of positional inputs, one tensor, or a dict of keyword inputs.

    Raises:
        CaptureError: the model cannot be traced, or does not run on the inputs.
    """
    return run_pipeline(trace(model, example_inputs), FUSE, Context(find_profile("x86")))


def prepare_fx(
    model: nn.Module,
    qconfig_mapping: QConfigMapping | Mapping[str, Any],
    example_inputs: Any,
    *,
    profile: str | BackendProfile = "x86",
) -> FxqModule:
    """Float model → the same model with observers, ready for calibration: call it on representative batches.

    Args:
        model: in eval mode; it is copied, not changed.
        qconfig_mapping: what to quantize and how; `get_default_qconfig_mapping(profile)` is a good one.
        example_inputs: a tuple of positional inputs, one tensor, or a dict of keyword inputs. Shapes may differ later.
        profile: "x86" or "qnnpack".

    Raises:
        CaptureError: the model cannot be traced, or does not run on the inputs.
        ConfigError: a rule of the mapping matches nothing, or there is no such profile.
    """
    chosen = find_profile(profile)
    mapping = _as_mapping(qconfig_mapping)
    prepared = trace(model, example_inputs)
    prepared.profile = chosen
    return run_pipeline(prepared, PREPARE, Context(chosen, mapping))


def _as_mapping(given: QConfigMapping | Mapping[str, Any]) -> QConfigMapping:
    if isinstance(given, QConfigMapping):
        return given
    if isinstance(given, Mapping):
        return QConfigMapping.from_dict(given)
    raise ConfigError(
        "qconfig_mapping",
        expected="a QConfigMapping",
        found=f"{type(given).__module__}.{type(given).__qualname__}",
        remedy="use fxq.get_default_qconfig_mapping('x86')",
    )


def convert_to_reference_fx(prepared: FxqModule) -> FxqModule:
    """Calibrated model → float ops between quantize and dequantize: what the int8 model means, in readable steps.

    Args:
        prepared: from prepare_fx, calibrated; it is copied, not changed.

    Raises:
        CalibrationError: an observer saw no data.
        StageError: the model does not come from prepare_fx.
    """
    context = _context(prepared, "convert_to_reference_fx")
    return run_pipeline(copy.deepcopy(prepared), CONVERT, context)


def convert_fx(prepared: FxqModule) -> FxqModule:
    """Calibrated model → int8 model on the integer runtime.

    Args:
        prepared: from prepare_fx, calibrated; it is copied, not changed.

    Raises:
        CalibrationError: an observer saw no data.
        StageError: the model does not come from prepare_fx.
    """
    context = _context(prepared, "convert_fx")
    return run_pipeline(copy.deepcopy(prepared), (*CONVERT, *LOWER), context)


def quantize(
    model: nn.Module,
    calibration_batches: Iterable[Any],
    profile: str | BackendProfile = "x86",
    *,
    qconfig_mapping: QConfigMapping | Mapping[str, Any] | None = None,
    progress: bool = True,
) -> FxqModule:
    """Float model and some batches → int8 model, in one call: prepare_fx, calibration with a progress bar, convert_fx.

    Args:
        model: copied and put in eval mode; the user's is not changed.
        calibration_batches: what forward takes: tensors, tuples of positional inputs or dicts of keyword inputs. Some hundred
            samples like those of use are enough.
        profile: "x86" or "qnnpack".
        qconfig_mapping: the profile's default where it is None.
        progress: show the bar, where standard error is a terminal.

    Raises:
        CalibrationError: there is no batch, or one has values that are not finite, or the model does not run on one.
        CaptureError, ConfigError: as prepare_fx.
    """
    chosen = find_profile(profile)
    batches = iter(calibration_batches)
    first = next(batches, None)
    if first is None:
        raise CalibrationError(
            "calibration_batches",
            expected="at least one batch",
            found="none",
            remedy="pass a DataLoader or a list of inputs; an iterator that was read before is empty",
        )
    mapping = get_default_qconfig_mapping(chosen.name) if qconfig_mapping is None else qconfig_mapping
    prepared = prepare_fx(copy.deepcopy(model).eval(), mapping, first, profile=chosen)
    total = length_hint(calibration_batches) or None
    calibrate(prepared, chain([first], batches), total=total, progress=progress)
    return convert_fx(prepared)


def calibrate(prepared: FxqModule, batches: Iterable[Any], *, total: int | None = None, progress: bool = True) -> None:
    """Runs the prepared model on every batch, without gradients.

    Args:
        batches: as for `quantize`.
        total: number of batches, for the progress bar; None where it is not known.
        progress: show the bar, where standard error is a terminal.

    Raises:
        CalibrationError: the model does not run on a batch, or sees values that are not finite.
    """
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    with torch.no_grad():
        for number, batch in enumerate(track(batches, "calibrating", total=total, console=console, disable=not shown)):
            _observe(prepared, batch, number)


def _observe(prepared: FxqModule, batch: Any, number: int) -> None:
    args, kwargs = split_inputs(batch)
    try:
        prepared(*args, **kwargs)
    except FxqError:
        raise
    except Exception as error:
        raise CalibrationError(
            f"calibration batch {number}",
            expected="inputs that the model runs on, like those of the first batch",
            found=f"{type(error).__name__}: {error}",
            remedy="give batches with the shapes and dtypes that the model is used with, and without labels",
        ) from error


def _context(module: FxqModule, wanted_by: str) -> Context:
    require_stage(module, Stage.OBSERVED, wanted_by)
    assert module.profile is not None
    return Context(module.profile)
