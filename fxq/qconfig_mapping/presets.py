"""The QConfigs that a backend profile starts with, by the names of torch.ao's engines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches

from fxq.errors import ConfigError
from fxq.graph.qtypes import ACTIVATION, EPS, QNNPACK_EPS, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR
from fxq.observers import HistogramObserver, MinMaxObserver, MovingAverageMinMaxObserver, ObserverFactory, PerChannelMinMaxObserver
from fxq.qconfig_mapping.mapping import QConfigMapping
from fxq.qconfig_mapping.qconfig import QConfig


@dataclass(frozen=True)
class Preset:
    """What a profile quantizes with, unless the user says otherwise.

    Attributes:
        profile: name of the backend profile.
        aliases: engines of torch.ao that it takes the place of.
        per_channel: one weight scale per output channel.
        eps: the smallest scale, of activations and weights.
    """

    profile: str
    aliases: tuple[str, ...]
    per_channel: bool
    eps: float


PRESETS = (
    Preset("x86", aliases=("fbgemm", "onednn"), per_channel=True, eps=EPS),
    Preset("qnnpack", aliases=(), per_channel=False, eps=QNNPACK_EPS),
)


def get_default_qconfig(profile: str = "x86", per_channel: bool | None = None) -> QConfig:
    """Histogram observer for uint8 activations, min/max observer for int8 weights.

    torch.ao's of the same name differ so: "x86" and "fbgemm" reduce activations to 0..127 there, weights are −128..127, and
    "qnnpack" has the smallest scale 2^-23 of the others.

    Args:
        profile: "x86" ("fbgemm" and "onednn" mean the same) or "qnnpack".
        per_channel: a weight scale per output channel, or one per tensor; None: as the profile has it (x86 does, qnnpack doesn't).

    Raises:
        ConfigError: no such profile; per_channel is not one of True, False, None.
    """
    preset = _preset(profile)
    if not isinstance(per_channel, bool | None):
        # torch.ao's second parameter is a version number, and 0 must not pass for False
        raise ConfigError("per_channel", expected="True, False or None", found=repr(per_channel), remedy="leave it out")
    activation = HistogramObserver.with_args(spec=replace(ACTIVATION, eps=preset.eps))
    return QConfig(activation=activation, weight=_weight(preset.eps, preset.per_channel if per_channel is None else per_channel))


def get_default_qconfig_mapping(profile: str = "x86", per_channel: bool | None = None) -> QConfigMapping:
    """get_default_qconfig for the whole model. Arguments and errors are the same."""
    return QConfigMapping().set_global(get_default_qconfig(profile, per_channel))


def get_default_qat_qconfig(profile: str = "x86", per_channel: bool | None = None) -> QConfig:
    """For training: moving averages of each batch's smallest and largest activation, min/max of the weights as they are.

    Arguments and errors are those of get_default_qconfig.
    """
    qconfig = get_default_qconfig(profile, per_channel)
    return QConfig(MovingAverageMinMaxObserver.with_args(spec=qconfig.activation.spec), qconfig.weight)


def get_default_qat_qconfig_mapping(profile: str = "x86", per_channel: bool | None = None) -> QConfigMapping:
    """get_default_qat_qconfig for the whole model. Arguments and errors are the same."""
    return QConfigMapping().set_global(get_default_qat_qconfig(profile, per_channel))


def _weight(eps: float, per_channel: bool) -> ObserverFactory:
    if per_channel:
        return PerChannelMinMaxObserver.with_args(spec=replace(WEIGHT_PER_CHANNEL, eps=eps))
    return MinMaxObserver.with_args(spec=replace(WEIGHT_PER_TENSOR, eps=eps))


def _preset(profile: str) -> Preset:
    for preset in PRESETS:
        if profile == preset.profile or profile in preset.aliases:
            return preset
    known = [name for preset in PRESETS for name in (preset.profile, *preset.aliases)]
    near = get_close_matches(str(profile), known, n=1)
    raise ConfigError(
        "profile",
        expected=f"one of {', '.join(known)}",
        found=repr(profile),
        remedy=f'use "{near[0] if near else known[0]}"',
    )
