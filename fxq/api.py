"""The calls that take a user from float to int8. The wiring of passes, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import length_hint
from typing import Any

import torch
from torch import nn

from fxq.dynamic.swap import swap_dynamic
from fxq.errors import CalibrationError, ConfigError, FxqError
from fxq.graph.module import FxqModule
from fxq.graph.opdef import OpDef
from fxq.graph.profile import BackendProfile
from fxq.graph.stages import Stage
from fxq.lowering.executable import choose_executor, run_with
from fxq.lowering.lower import lower
from fxq.lowering.profiles import find_profile
from fxq.passes import CONVERT, FUSE, Context, Pass, pipeline, require_stage, run_pipeline, split_inputs, trace
from fxq.passes.convert import ConvertOptions, convert
from fxq.passes.garbage import without_cycle_collection
from fxq.passes.own_ops import as_ops
from fxq.passes.prepare import PrepareOptions, prepare
from fxq.passes.prepare_qat import prepare_qat
from fxq.passes.whole import TraceOptions, unwrap
from fxq.patterns.rules import Rule, as_rules
from fxq.qconfig_mapping import QConfigMapping, get_default_qconfig_mapping
from fxq.qconfig_mapping.custom_config import ConvertCustomConfig, FuseCustomConfig, PrepareCustomConfig, as_custom_config
from fxq.qconfig_mapping.mapping import as_mapping
from fxq.report.progress import with_progress

LOWER = pipeline(Pass("lower", Stage.REFERENCE, Stage.LOWERED, lambda module, context: lower(module, context.profile)))


def fuse_fx(
    model: nn.Module,
    example_inputs: Any = None,
    fuse_custom_config: FuseCustomConfig | Mapping[str, Any] | None = None,
) -> FxqModule:
    """relu(bn(conv(x))) = conv'(x): the float model with batch norms folded and activations and residual sums attached.

    Args:
        model: in eval mode, or nothing is folded; it is copied, not changed.
        example_inputs: a tuple of positional inputs, one tensor, or a dict of keyword inputs. torch.ao's fuse_fx has none; fxq
            has to know shapes to fuse only what means the same.
        fuse_custom_config: attributes that the fused model keeps.

    Raises:
        CaptureError: the model does not run on the inputs.
        ConfigError: there are no example inputs, or the model lacks an attribute.
    """
    if example_inputs is None or isinstance(example_inputs, FuseCustomConfig):
        raise ConfigError(
            "fuse_fx",
            expected="example_inputs, from which the shapes of all values come",
            found="none" if example_inputs is None else "a FuseCustomConfig in their place",
            remedy="call fuse_fx(model, example_inputs, fuse_custom_config)",
        )
    config = as_custom_config(FuseCustomConfig, fuse_custom_config, "fuse_custom_config")
    traced = trace(model, example_inputs, TraceOptions(preserved=config.preserved_attributes))
    return run_pipeline(traced, FUSE, Context(find_profile("x86")))


def prepare_fx(
    model: nn.Module,
    qconfig_mapping: QConfigMapping | Mapping[str, Any],
    example_inputs: Any,
    prepare_custom_config: PrepareCustomConfig | Mapping[str, Any] | None = None,
    *,
    profile: str | BackendProfile = "x86",
    strict: bool = False,
    concrete_args: Mapping[str, Any] | None = None,
    rules: Sequence[Rule] = (),
    ops: Sequence[OpDef] = (),
) -> FxqModule:
    """Float model → the same model with observers, ready for calibration: call it on representative batches.

    The forward of a module that torch.fx cannot trace stays Python, the model's own too; what it calls is prepared. The report
    says which line is in the way, and what was fixed as it is with the example inputs.

    Args:
        model: in eval mode; it is copied, not changed.
        qconfig_mapping: what to quantize and how; `get_default_qconfig_mapping(profile)` is a good one.
        example_inputs: a tuple of positional inputs, one tensor, or a dict of keyword inputs. Shapes may differ later.
        prepare_custom_config: modules to keep whole or to quantize in another way, quantized inputs and results.
        profile: "x86" or "qnnpack", or a BackendProfile of your own.
        strict: a module that cannot be traced is a CaptureError.
        concrete_args: parameter of forward → the one value that the model is prepared for, as in torch.fx.symbolic_trace; example
            inputs and callers may leave it out.
        rules, ops: fusions and unary ops of your own, besides those of fxq; see docs/add_an_op.md.

    Raises:
        CaptureError: the model does not run on the inputs.
        ConfigError: a rule of the mapping or a name in the custom config or concrete_args matches nothing, or there is no such
            profile.
    """
    context = Context(find_profile(profile), as_mapping(qconfig_mapping), as_rules(rules), as_ops(ops))
    custom = as_custom_config(PrepareCustomConfig, prepare_custom_config, "prepare_custom_config")
    return prepare(model, example_inputs, context, PrepareOptions(custom, strict, concrete_args=concrete_args or {}))


def prepare_qat_fx(
    model: nn.Module,
    qconfig_mapping: QConfigMapping | Mapping[str, Any],
    example_inputs: Any,
    prepare_custom_config: PrepareCustomConfig | Mapping[str, Any] | None = None,
    *,
    profile: str | BackendProfile = "x86",
    strict: bool = False,
    concrete_args: Mapping[str, Any] | None = None,
    rules: Sequence[Rule] = (),
    ops: Sequence[OpDef] = (),
) -> FxqModule:
    """Float model → the same model with fake-quantize modules, ready for training; then convert_fx.

    What becomes int8 is decided as by prepare_fx. Batch norms are trained as if they were folded into the weights in front.
    Parameters and buffers keep their names: `fxq.qat.float_state_dict` gives those of the float model.

    Args:
        model: in training mode; it is copied, not changed: make the optimizer from the parameters of the result.
        qconfig_mapping: `get_default_qat_qconfig_mapping(profile)` is a good one.
        example_inputs, prepare_custom_config, profile, strict, concrete_args, rules, ops: as for prepare_fx.

    Raises:
        ConfigError: the model is in evaluation mode; also as for prepare_fx.
        CaptureError: as for prepare_fx.
    """
    context = Context(find_profile(profile), as_mapping(qconfig_mapping), as_rules(rules), as_ops(ops))
    custom = as_custom_config(PrepareCustomConfig, prepare_custom_config, "prepare_custom_config")
    return prepare_qat(model, example_inputs, context, PrepareOptions(custom, strict, concrete_args=concrete_args or {}))


def convert_to_reference_fx(
    prepared: FxqModule,
    convert_custom_config: ConvertCustomConfig | Mapping[str, Any] | None = None,
    *,
    qconfig_mapping: QConfigMapping | Mapping[str, Any] | None = None,
) -> FxqModule:
    """Calibrated model → float ops between quantize and dequantize: what the int8 model means, in readable steps.

    Args, Raises: as convert_fx.
    """
    require_stage(prepared, Stage.OBSERVED, "convert_to_reference_fx")
    return convert(prepared, CONVERT, _convert_options(convert_custom_config, qconfig_mapping))


def convert_fx(
    prepared: FxqModule,
    convert_custom_config: ConvertCustomConfig | Mapping[str, Any] | None = None,
    *,
    qconfig_mapping: QConfigMapping | Mapping[str, Any] | None = None,
    keep_original_weights: bool = False,
    runtime: str = "auto",
) -> FxqModule:
    """Calibrated or trained model → int8 model.

    Args:
        prepared: from prepare_fx, calibrated, or from prepare_qat_fx, trained; it is copied, not changed.
        convert_custom_config: what becomes of observed custom modules; attributes to preserve.
        qconfig_mapping: its rules with the QConfig None keep layers float after all; others must be as in prepare_fx. A
            layer that no rule speaks of is converted as it was prepared.
        keep_original_weights: the float weights stay in `original_weights_lookup`: path of the int8 layer → (weight, bias),
            with batch norms folded in. They are in no state_dict.
        runtime: "jit": regions of int8 ops are compiled for this CPU and the shapes of the inputs, when they are first called;
            "integer": torch's integer ops, one by one; "auto": compiled where LLVM has a target. All have the same results.

    Raises:
        CalibrationError: an observer saw no data.
        ConfigError: the mapping asks for something else than prepare_fx was given, or matches nothing; a custom module has
            no quantized class; there is no such runtime.
        StageError: the model does not come from prepare_fx.
    """
    require_stage(prepared, Stage.OBSERVED, "convert_fx")
    options = _convert_options(convert_custom_config, qconfig_mapping, keep_original_weights)
    choose_executor(runtime)  # an error now, and not behind the work
    with without_cycle_collection():
        converted = convert(prepared, (*CONVERT, *LOWER), options)
        run_with(converted, runtime)
    return converted


def _convert_options(custom: Any, mapping: Any, keep_original_weights: bool = False) -> ConvertOptions:
    config = as_custom_config(ConvertCustomConfig, custom, "convert_custom_config")
    return ConvertOptions(config, None if mapping is None else as_mapping(mapping), keep_original_weights)


def quantize(
    model: nn.Module,
    calibration_batches: Iterable[Any],
    profile: str | BackendProfile = "x86",
    *,
    qconfig_mapping: QConfigMapping | Mapping[str, Any] | None = None,
    progress: bool = True,
    strict: bool = False,
    concrete_args: Mapping[str, Any] | None = None,
    rules: Sequence[Rule] = (),
    ops: Sequence[OpDef] = (),
    runtime: str = "auto",
) -> FxqModule:
    """Float model and some batches → int8 model, in one call: prepare_fx, calibration with a progress bar, convert_fx.

    Args:
        model: copied and put in eval mode; the user's is not changed.
        calibration_batches: what forward takes: tensors, tuples of positional inputs or dicts of keyword inputs. Some hundred
            samples like those of use are enough.
        profile: "x86" or "qnnpack".
        qconfig_mapping: the profile's default where it is None.
        progress: show the bar, where standard error is a terminal.
        strict, concrete_args, rules, ops: as for prepare_fx.
        runtime: as for convert_fx.

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
    float_model = copy.deepcopy(unwrap(model)).eval()
    options: dict[str, Any] = {"strict": strict, "concrete_args": concrete_args, "rules": rules, "ops": ops}
    prepared = prepare_fx(float_model, mapping, first, profile=chosen, **options)
    total = length_hint(calibration_batches) or None
    calibrate(prepared, chain([first], batches), total=total, progress=progress)
    return convert_fx(prepared, runtime=runtime)


def quantize_dynamic(
    model: nn.Module, qconfig_spec: Any = None, dtype: torch.dtype = torch.int8, *, inplace: bool = False, runtime: str = "auto"
) -> nn.Module:
    """Float model → the same model with int8 linear, recurrent and attention layers, which quantize their inputs as they arrive;
    or with weights of linear layers and embeddings in few bits, and everything else float.

    Nothing is traced and nothing calibrated: modules are replaced one by one, so any model will do.

    Args:
        model: copied unless `inplace`; the result is in evaluation mode.
        qconfig_spec: what to replace: a set of module types and paths, or a dict from these to QConfigs that are dynamic or of
            weights only, None for float.
            A path speaks for all below it and goes before a type; nn.Linear also speaks for the linears of nn.MultiheadAttention.
            Without it: all types that have one. A set stands for `per_row_dynamic_qconfig`: one scale for each output
            channel of the weights, and for each row of what arrives.
        dtype: what is meant where no QConfig says it: torch.int8; torch.float16: linear layers with such weights; torch.quint8 and
            torch.quint4x2: embeddings of 8 and 4 bits.
        inplace: replace the modules of the model itself.
        runtime: as for convert_fx.

    Raises:
        ConfigError: there is nothing to replace; a type has no dynamic form, a path no module, or a QConfig is one for calibration.
    """
    return swap_dynamic(model, qconfig_spec, dtype, inplace=inplace, runtime=runtime)


def calibrate(prepared: FxqModule, batches: Iterable[Any], *, total: int | None = None, progress: bool = True) -> None:
    """Runs the prepared model on every batch, without gradients.

    Args:
        batches: as for `quantize`.
        total: number of batches, for the progress bar; None where it is not known.
        progress: show the bar, where standard error is a terminal.

    Raises:
        CalibrationError: the model does not run on a batch, or sees values that are not finite.
    """
    with torch.no_grad():
        for number, batch in enumerate(with_progress(batches, "calibrating", total=total, progress=progress)):
            _observe(prepared, batch, number)


def _observe(prepared: FxqModule, batch: Any, number: int) -> None:
    inputs = split_inputs(batch)
    try:
        prepared(*inputs.args, **inputs.kwargs)
    except FxqError:
        raise
    except Exception as error:
        raise CalibrationError(
            f"calibration batch {number}",
            expected="inputs that the model runs on, like those of the first batch",
            found=f"{type(error).__name__}: {error}",
            remedy="give batches with the shapes and dtypes that the model is used with, and without labels",
        ) from error
