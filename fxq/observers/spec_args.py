"""From the arguments of torch.ao's observers to a QuantSpec, and back to plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from fxq.errors import ConfigError
from fxq.graph.qtypes import QDType, QuantSpec, qdtype


@dataclass(frozen=True)
class QScheme:
    """What the name of one of torch's quantization schemes says."""

    name: str
    symmetric: bool
    per_channel: bool


QSCHEMES = (
    QScheme("per_tensor_affine", symmetric=False, per_channel=False),
    QScheme("per_tensor_symmetric", symmetric=True, per_channel=False),
    QScheme("per_channel_affine", symmetric=False, per_channel=True),
    QScheme("per_channel_symmetric", symmetric=True, per_channel=True),
)


@dataclass(frozen=True)
class IntRange:
    """The integers in use, both included."""

    qmin: int
    qmax: int


def qscheme(value: object) -> QScheme:
    """`torch.per_tensor_affine` or `"per_tensor_affine"` → its row of QSCHEMES. Raises ConfigError for any other."""
    name = str(value).removeprefix("torch.")
    for row in QSCHEMES:
        if row.name == name:
            return row
    raise ConfigError(
        "qscheme",
        expected="one of " + ", ".join(row.name for row in QSCHEMES),
        found=repr(value),
        remedy="choose one of these, as torch.<name> or as a string",
    )


def default_range(dtype: QDType, symmetric: bool) -> IntRange:
    """uint8 0..255; int8 −128..127, symmetric −127..127, so that −max and +max both fit; int32 likewise."""
    if dtype == "uint8":
        return IntRange(0, 255)
    top = 127 if dtype == "int8" else 2**31 - 1
    return IntRange(-top if symmetric else -top - 1, top)


def halve(full: IntRange) -> IntRange:
    """Half the levels: 0..255 → 0..127, −128..127 → −64..63, −127..127 → −63..63."""
    return IntRange(-(-full.qmin // 2), full.qmax // 2)


def spec_from_args(default: QuantSpec, args: Mapping[str, Any]) -> QuantSpec:
    """What is asked, from torch.ao's arguments: dtype, qscheme, quant_min, quant_max, ch_axis, eps, reduce_range, is_dynamic.

    What is not given comes from `default`; its range only where dtype and symmetry are its own.
    reduce_range halves the levels, also of a given range, as torch.ao does.
    Raises ConfigError for a value that does not fit.
    """
    dtype = qdtype(args.get("dtype", default.dtype))
    scheme = qscheme(args["qscheme"]) if "qscheme" in args else None
    symmetric = default.symmetric if scheme is None else scheme.symmetric
    same_kind = (dtype, symmetric) == (default.dtype, default.symmetric)
    full = IntRange(default.qmin, default.qmax) if same_kind else default_range(dtype, symmetric)
    given = IntRange(args.get("quant_min", full.qmin), args.get("quant_max", full.qmax))
    used = halve(given) if args.get("reduce_range", False) else given
    return QuantSpec(
        dtype,
        used.qmin,
        used.qmax,
        symmetric=symmetric,
        axis=_axis(default, scheme, args.get("ch_axis")),
        dynamic=args.get("is_dynamic", default.dynamic),
        eps=args.get("eps", default.eps),
    )


def args_from_spec(spec: QuantSpec) -> dict[str, JsonValue]:
    """The arguments that spec_from_args turns into this spec, whatever the default."""
    kind = (spec.symmetric, spec.axis is not None)
    args: dict[str, JsonValue] = {
        "dtype": spec.dtype,
        "qscheme": next(row.name for row in QSCHEMES if (row.symmetric, row.per_channel) == kind),
        "quant_min": spec.qmin,
        "quant_max": spec.qmax,
        "eps": spec.eps,
        "is_dynamic": spec.dynamic,
    }
    return args if spec.axis is None else {**args, "ch_axis": spec.axis}


# how the value of each spec argument becomes a JSON value
SPEC_ARGS: dict[str, Callable[[Any], JsonValue]] = {
    "dtype": qdtype,
    "qscheme": lambda value: qscheme(value).name,
    "quant_min": int,
    "quant_max": int,
    "ch_axis": int,
    "eps": float,
    "reduce_range": bool,
    "is_dynamic": bool,
}


def plain_args(args: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Arguments as a user writes them → JSON values. `spec` is spelled out; None means the default, as in torch.ao."""
    rest = {name: value for name, value in args.items() if name != "spec" and not (value is None and name in SPEC_ARGS)}
    spec = args.get("spec")
    stated = {} if spec is None else args_from_spec(_as_spec(spec))
    return {**stated, **{name: _plain(name, value) for name, value in rest.items()}}


def _as_spec(value: object) -> QuantSpec:
    if isinstance(value, QuantSpec):
        return value
    raise ConfigError("spec", expected="a QuantSpec", found=repr(value), remedy="pass spec=QuantSpec(...), or dtype=, qscheme=, ...")


def _plain(name: str, value: Any) -> JsonValue:
    try:
        plain: JsonValue = SPEC_ARGS[name](value) if name in SPEC_ARGS else json.loads(json.dumps(value))
        return plain
    except (TypeError, ValueError):
        raise ConfigError(
            name,
            expected="a number, string, list or dict that JSON can hold",
            found=repr(value),
            remedy="pass a plain value; tensor.item() and tensor.tolist() give one",
        ) from None


def _axis(default: QuantSpec, scheme: QScheme | None, given: int | None) -> int | None:
    per_channel = default.axis is not None if scheme is None else scheme.per_channel
    if per_channel:
        return given if given is not None else default.axis if default.axis is not None else 0
    if given is not None:
        raise ConfigError(
            "ch_axis",
            expected="a per-channel qscheme beside it",
            found=f"ch_axis={given} with one (scale, zero_point) per tensor",
            remedy="add qscheme=torch.per_channel_symmetric, or drop ch_axis",
        )
    return None
