"""BackendConfig, of torch.ao or of fxq.compat → BackendProfile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from fxq.errors import ConfigError
from fxq.graph.names import qualified_name
from fxq.graph.opdef import OpDef
from fxq.graph.profile import Accepted, BackendProfile
from fxq.graph.qtypes import QDType, qdtype
from fxq.graph.recognise import op_of_target
from fxq.lowering.profiles import find_profile


def import_backend_config(given: Any) -> BackendProfile:
    """The ops and dtypes of a BackendConfig, on the kernels of profile x86, or of qnnpack for one of that name.

    An op is in the profile if a pattern names it that has an 8-bit static DTypeConfig. Ops of torch that fxq has no integer
    form for stay float, and the report says so.

    Raises:
        ConfigError: a pattern is about a function or class of the user's own; two patterns have different bounds for one
            dtype; no pattern has dtypes that the kernels take.
    """
    base = find_profile("qnnpack" if given.name == "qnnpack" else "x86")
    patterns = [(config, rows) for config in given.configs if (rows := _static_rows(config, base))]
    activations = _common(given, [[_bounded(row.input_dtype_with_constraints, base.activations) for row in rows] for _, rows in patterns])
    weights = _common(given, [[_bounded(row.weight_dtype_with_constraints, base.weights) for row in rows] for _, rows in patterns])
    if not activations:
        raise ConfigError(
            f"BackendConfig {given.name!r}",
            expected="a pattern with a static DTypeConfig of 8-bit dtypes, such as torch.quint8 with weights torch.qint8",
            found="none that the kernels take",
            remedy="add_dtype_config(DTypeConfig(input_dtype=torch.quint8, output_dtype=torch.quint8, weight_dtype=torch.qint8))",
        )
    ops = frozenset(op.name for config, _ in patterns for op in _ops(config)) & base.ops
    name = given.name or "backend_config"
    return replace(base, name=name, activations=activations, weights=weights or base.weights, ops=ops)


def _static_rows(config: Any, base: BackendProfile) -> list[Any]:
    """The DTypeConfigs of a pattern that are 8-bit throughout."""
    return [dtypes for dtypes in config.dtype_configs if not dtypes.is_dynamic and _is_8_bit(dtypes, base)]


def _is_8_bit(dtypes: Any, base: BackendProfile) -> bool:
    activations = dtypes.input_dtype_with_constraints, dtypes.output_dtype_with_constraints
    weight = dtypes.weight_dtype_with_constraints
    taken = all(_base_row(each, base.activations) is not None for each in activations)
    return taken and (weight.dtype is None or _base_row(weight, base.weights) is not None)


def _base_row(constrained: Any, accepted: tuple[Accepted, ...]) -> Accepted | None:
    try:
        dtype = qdtype(constrained.dtype)
    except ConfigError:
        return None
    return next((row for row in accepted if row.dtype == dtype), None)


def _bounded(constrained: Any, accepted: tuple[Accepted, ...]) -> Accepted | None:
    """What the kernels take, within the bounds. None without a dtype, and for an op whose qparams are fixed."""
    row = _base_row(constrained, accepted)
    if row is None or constrained.scale_exact_match is not None:
        return None
    return replace(
        row, qmin=constrained.quant_min_lower_bound, qmax=constrained.quant_max_upper_bound, eps=constrained.scale_min_lower_bound
    )


def _common(given: Any, patterns: Sequence[Sequence[Accepted | None]]) -> tuple[Accepted, ...]:
    """What all patterns take that take a dtype at all: a profile has one answer for all its ops."""
    choices: dict[QDType, set[frozenset[Accepted]]] = defaultdict(set)
    for rows in patterns:
        for dtype in {row.dtype for row in rows if row is not None}:
            choices[dtype].add(frozenset(row for row in rows if row is not None and row.dtype == dtype))
    for dtype, choice in choices.items():
        if len(choice) > 1:
            raise ConfigError(
                f"BackendConfig {given.name!r}",
                expected=f"the same bounds for {dtype} in all patterns",
                found="; ".join(sorted(" or ".join(sorted(map(str, rows))) for rows in choice)),
                remedy="give all patterns one DTypeWithConstraints, and layers that need a narrower range a QConfig with that range",
            )
    return tuple(sorted((row for choice in choices.values() for row in next(iter(choice))), key=str))


def _ops(config: Any) -> Iterator[OpDef]:
    pattern = config.pattern if config.pattern is not None else getattr(config, "_pattern_complex_format", None)
    for target in _leaves(pattern):
        spelled = config.root_module if _is_fused_class(target) else target
        op = None if spelled is None else op_of_target(spelled)
        if op is not None:
            yield op
        elif spelled is not None and not _is_torchs(spelled):
            raise ConfigError(
                f"BackendPatternConfig({qualified_name(spelled)})",
                expected="ops that fxq has an integer form for",
                found=qualified_name(spelled),
                remedy="quantize it by PrepareCustomConfig.set_float_to_observed_mapping, or add it as docs/add_an_op.md says",
            )


def _is_fused_class(target: Any) -> bool:
    """A class that only torch.ao itself puts into models, such as ConvReLU2d or MatchAllNode; its root module is what the user wrote."""
    return isinstance(target, type) and target.__module__.startswith(("torch.ao.", "torch.nn.intrinsic", "torch.nn.qat"))


def _leaves(pattern: Any) -> Iterator[Any]:
    if isinstance(pattern, tuple | list):
        for part in pattern:
            yield from _leaves(part)
    elif pattern is not None:
        yield pattern


def _is_torchs(target: Any) -> bool:
    """A method name, or a class or function of torch or the operator module: fxq knows it, or leaves it float with a Reason."""
    return isinstance(target, str) or qualified_name(target).partition(".")[0] in ("torch", "operator")
