"""torch.ao's observers and QConfigs → fxq's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fxq.compat.foreign import in_field, is_torch_aos
from fxq.errors import ConfigError
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
_LEFT_OUT = frozenset(name for name, _ in LEFT_OUT)

_FAKE_QUANTIZE = "FakeQuantize"


@dataclass(frozen=True)
class Recipe:
    """An observer class of torch.ao and its arguments, as with_args got them."""

    kind: type
    args: Mapping[str, Any]


def recipe_of(given: Any) -> Recipe:
    """`MinMaxObserver`, `MinMaxObserver.with_args(...)` or functools.partial of it → its class and arguments.

    Raises ConfigError for anything else.
    """
    if isinstance(given, type):
        return Recipe(given, {})
    partial = getattr(given, "p", given)  # torch.ao wraps a functools.partial
    kind = getattr(partial, "func", None)
    args: Mapping[str, Any] = {**getattr(partial, "keywords", {}), **getattr(given, "callable_args", {})}
    if not isinstance(kind, type) or partial.args:
        raise ConfigError(
            "observer",
            expected="an observer class, or its with_args(...) with arguments by name",
            found=repr(given)[:200],
            remedy="write Observer.with_args(dtype=..., qscheme=...), not Observer(...): each tensor gets an observer of its own",
        )
    return Recipe(kind, args)


def import_observer(given: Any) -> ObserverFactory:
    """An observer class or with_args(...) of torch.ao → the factory of the same name.

    Defaults are torch.ao's: quint8, affine. Arguments of LEFT_OUT are dropped. Raises ConfigError for an observer or an
    argument without a counterpart, and for dynamic quantization.
    """
    recipe = recipe_of(given)
    row = _row(recipe)
    args = {name: value for name, value in recipe.args.items() if name not in _LEFT_OUT}
    if args.get("is_dynamic"):
        raise ConfigError(
            "is_dynamic",
            expected="static quantization",
            found="is_dynamic=True",
            remedy="dynamic quantization is not in this version: use get_default_qconfig_mapping and calibrate, or QConfig None for float",
        )
    return row.kind.with_args(**{"dtype": "uint8", "qscheme": row.qscheme, **args})


def _row(recipe: Recipe) -> ObserverRow:
    name = recipe.kind.__name__
    found = next((row for row in OBSERVER_ROWS if row.name == name), None)
    if found is not None and is_torch_aos(recipe.kind):
        return found
    if name.endswith(_FAKE_QUANTIZE):
        observer = recipe.args.get("observer")
        instead = f"{observer.__name__}.with_args(...)" if isinstance(observer, type) else "get_default_qconfig()"
        remedy = f"fake-quantize modules are for training; after training is over use an observer: {instead}"
    elif name == "ReuseInputObserver":
        remedy = "leave the rule out: ops that only move values share the qparams of their input without being asked"
    else:
        remedy = "use one of these, or write a subclass of fxq.observers.Observer"
    names = ", ".join(row.name for row in OBSERVER_ROWS)
    raise ConfigError("observer", expected=f"one of torch.ao's {names}", found=f"{recipe.kind.__module__}.{name}", remedy=remedy)


def import_qconfig(given: Any) -> QConfig | None:
    """QConfig(activation, weight) of torch.ao → fxq's; None and a QConfig of fxq stay. Raises ConfigError that names the field."""
    if given is None or isinstance(given, QConfig):
        return given
    if type(given).__name__ != "QConfig" or not is_torch_aos(type(given)):
        raise ConfigError(
            "QConfig",
            expected="a QConfig, or None to keep float",
            found=repr(given)[:200],
            remedy="write QConfig(activation=..., weight=...); QConfigDynamic is dynamic quantization, which is not in this version",
        )
    return QConfig(
        activation=in_field("QConfig.activation", import_observer, given.activation),
        weight=in_field("QConfig.weight", import_observer, given.weight),
    )
