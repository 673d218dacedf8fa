"""torch.ao's observers and QConfigs → fxq's."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fxq.compat.foreign import in_field, is_torch_aos
from fxq.errors import ConfigError
from fxq.graph.weight_format import Bits
from fxq.observers import (
    FixedQParamsObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    NoopObserver,
    Observer,
    ObserverFactory,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
    RecordingObserver,
    WeightOnlyObserver,
)
from fxq.qconfig_mapping import QConfig


@dataclass(frozen=True)
class ObserverRow:
    """A class of torch.ao, by name, and what it is here.

    Attributes:
        name: torch.ao's.
        kind: the class that takes its place.
        qscheme: torch.ao's default.
    """

    name: str
    kind: type[Observer]
    qscheme: str = "per_tensor_affine"


OBSERVER_ROWS = (
    ObserverRow("MinMaxObserver", MinMaxObserver),
    ObserverRow("MovingAverageMinMaxObserver", MovingAverageMinMaxObserver),
    ObserverRow("PerChannelMinMaxObserver", PerChannelMinMaxObserver, "per_channel_affine"),
    ObserverRow("MovingAveragePerChannelMinMaxObserver", MovingAveragePerChannelMinMaxObserver, "per_channel_affine"),
    ObserverRow("HistogramObserver", HistogramObserver),
    ObserverRow("RecordingObserver", RecordingObserver),
    ObserverRow("FixedQParamsObserver", FixedQParamsObserver),
    ObserverRow("PlaceholderObserver", PlaceholderObserver),
    ObserverRow("NoopObserver", NoopObserver),
)

# (argument of torch.ao's observers, why nothing is lost without it)
LEFT_OUT = (
    ("reduce_range", "it keeps kernels that add two products in 16 bits from saturating; none here does, and a bit is won"),
    ("upsample_rate", "histograms grow by exact doubling here, without interpolation"),
    ("factory_kwargs", "torch.ao adds it by itself: the device of the model"),
)
# what observers of dynamic quantization become, and those of their arguments that say how values are stored
_DYNAMIC = ObserverRow("PlaceholderObserver", PlaceholderObserver)
_OF_THE_SPEC = ("dtype", "qscheme", "quant_min", "quant_max", "eps", "ch_axis")

_LEFT_OUT = frozenset(name for name, _ in LEFT_OUT)

# torch.ao's modules that observe and round; here a QConfig holds the observer alone
_FAKE_QUANTIZES = ("FakeQuantize", "FusedMovingAvgObsFakeQuantize", "FixedQParamsFakeQuantize")


@dataclass(frozen=True)
class Recipe:
    """An observer class of torch.ao and its arguments, as with_args got them.

    Attributes:
        name: of the class; with its module in front where it is not torch.ao's.
        args: by name.
    """

    name: str
    args: Mapping[str, Any]


def recipe_of(given: Any) -> Recipe:
    """`MinMaxObserver`, `MinMaxObserver.with_args(...)` or functools.partial of it → its class and arguments.

    A fake-quantize module stands for the observer inside. Raises ConfigError for anything else.
    """
    partial = functools.partial(given) if isinstance(given, type) else getattr(given, "p", given)  # torch.ao wraps a partial
    kind = getattr(partial, "func", None)
    if not isinstance(kind, type) or partial.args:
        raise ConfigError(
            "observer",
            expected="an observer class, or its with_args(...) with arguments by name",
            found=repr(given)[:200],
            remedy="write Observer.with_args(dtype=..., qscheme=...), not Observer(...): each tensor gets an observer of its own",
        )
    args = {**partial.keywords, **getattr(given, "callable_args", {})}
    if not is_torch_aos(kind):
        return Recipe(f"{kind.__module__}.{kind.__qualname__}", args)
    return _inside(args) if kind.__name__ in _FAKE_QUANTIZES else Recipe(kind.__name__, args)


def _inside(args: Mapping[str, Any]) -> Recipe:
    """FakeQuantize(observer, **args) → observer(**args)."""
    if "observer" not in args:
        return Recipe("MovingAverageMinMaxObserver", args)
    observer = recipe_of(args["observer"])
    return Recipe(observer.name, {**observer.args, **{name: value for name, value in args.items() if name != "observer"}})


def import_observer(given: Any) -> ObserverFactory:
    """An observer class or with_args(...) of torch.ao → the factory of the same name.

    Defaults are torch.ao's: quint8, affine. Arguments of LEFT_OUT are dropped. With is_dynamic=True nothing is observed, whatever
    the class: torch.ao's observers of one batch become the rule that all of its values are in range. Raises ConfigError for an
    observer or an argument without a counterpart.
    """
    recipe = recipe_of(given)
    found = _of_weights_alone(recipe)
    if found is not None:
        return found
    row = _row(recipe)
    args = {name: value for name, value in recipe.args.items() if name not in _LEFT_OUT}
    if args.pop("is_dynamic", False):
        row, args = _DYNAMIC, {name: value for name, value in args.items() if name in _OF_THE_SPEC}
    return row.kind.with_args(**{"dtype": "uint8", "qscheme": row.qscheme, **args})


# dtype of weights that meet float values → their bits
_WEIGHT_BITS: Mapping[str, Bits] = {"torch.quint8": 8, "torch.quint4x2": 4, "torch.float16": 16}


def _of_weights_alone(recipe: Recipe) -> ObserverFactory | None:
    """Float scales and zeros for each row, and float16; None for observers of what becomes integers with integer zero points."""
    dtype = str(recipe.args.get("dtype", "torch.quint8"))
    is_half = recipe.name == "PlaceholderObserver" and dtype == "torch.float16"
    has_float_qparams = recipe.name == "PerChannelMinMaxObserver" and "float_qparams" in str(recipe.args.get("qscheme", ""))
    return WeightOnlyObserver.with_args(bits=_WEIGHT_BITS[dtype]) if is_half or (has_float_qparams and dtype in _WEIGHT_BITS) else None


def _row(recipe: Recipe) -> ObserverRow:
    for row in OBSERVER_ROWS:
        if row.name == recipe.name:
            return row
    reuse = "leave the rule out: ops that only move values share the qparams of their input without being asked"
    raise ConfigError(
        "observer",
        expected=f"one of torch.ao's {', '.join(row.name for row in OBSERVER_ROWS)}",
        found=recipe.name,
        remedy=reuse if recipe.name == "ReuseInputObserver" else "use one of these, or write a subclass of fxq.observers.Observer",
    )


def _unsigned(factory: ObserverFactory) -> ObserverFactory:
    """int8 affine → uint8 with all integers 128 higher: the same reals, and what the kernels take as an activation."""
    spec = factory.spec
    if spec.dtype != "int8" or spec.symmetric:
        return factory
    zero_point = factory.args.get("zero_point")
    moved = {"zero_point": zero_point + 128} if isinstance(zero_point, int) else {}
    return factory.with_args(dtype="uint8", quant_min=spec.qmin + 128, quant_max=spec.qmax + 128, **moved)


def import_qconfig(given: Any) -> QConfig | None:
    """QConfig(activation, weight) of torch.ao → fxq's; None and a QConfig of fxq stay. Raises ConfigError that names the field."""
    if given is None or isinstance(given, QConfig):
        return given
    if type(given).__name__ != "QConfig" or not is_torch_aos(type(given)):
        raise ConfigError(
            "QConfig",
            expected="a QConfig, or None to keep float",
            found=repr(given)[:200],
            remedy="write QConfig(activation=..., weight=...); for dynamic quantization the activation is default_dynamic_quant_observer",
        )
    weight = in_field("QConfig.weight", import_observer, given.weight)
    if WeightOnlyObserver.format_of(weight) is not None:
        return QConfig(NoopObserver, weight)
    return QConfig(activation=_unsigned(in_field("QConfig.activation", import_observer, given.activation)), weight=weight)
