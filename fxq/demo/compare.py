"""A trained network, quantized in every way that the demo shows."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fxq.api import quantize
from fxq.demo.digits import Digits
from fxq.demo.measure import Measured, measure
from fxq.graph.module import FxqModule
from fxq.qconfig_mapping import get_default_qconfig_mapping

CALIBRATION_BATCH = 32


@dataclass(frozen=True)
class Variant:
    """One way to quantize.

    Attributes:
        name: for people.
        folder: for files.
        profile, per_channel: arguments of get_default_qconfig_mapping.
    """

    name: str
    folder: str
    profile: str
    per_channel: bool


VARIANTS = (
    Variant("int8 x86", "x86", "x86", per_channel=True),
    Variant("int8 qnnpack", "qnnpack", "qnnpack", per_channel=False),
    Variant("int8 qnnpack per channel", "qnnpack-per-channel", "qnnpack", per_channel=True),
)


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantized network and what it reaches."""

    variant: Variant
    model: FxqModule
    measured: Measured


@dataclass(frozen=True, eq=False)
class Compared:
    """A network in float32 and in all VARIANTS."""

    name: str
    float32: Measured
    quantized: tuple[Quantized, ...]


@dataclass(frozen=True)
class Machine:
    """Where times were taken."""

    cpu: str
    threads: int
    torch: str


def compare(name: str, network: nn.Module, digits: Digits, *, runs: int = 40) -> Compared:
    """Quantizes the network in all VARIANTS, calibrated on digits.calibration, and measures them on digits.test.

    Args:
        network: trained; left as it is.
        runs: as for `measure`.
    """
    batches = [batch.images for batch in digits.calibration.batches(CALIBRATION_BATCH)]
    mappings = [get_default_qconfig_mapping(variant.profile, variant.per_channel) for variant in VARIANTS]
    models = [
        quantize(network, batches, variant.profile, qconfig_mapping=mapping, progress=False)
        for variant, mapping in zip(VARIANTS, mappings, strict=True)
    ]
    float32, *measured = measure([network.eval(), *models], digits.test, runs=runs)
    return Compared(name, float32, tuple(map(Quantized, VARIANTS, models, measured)))


def this_machine() -> Machine:
    """The CPU, and the threads that torch uses."""
    return Machine(_cpu_name(), torch.get_num_threads(), str(torch.__version__))


def _cpu_name() -> str:
    named = next(_lines_named("model name", Path("/proc/cpuinfo")), "")
    return named or platform.processor() or platform.machine()


def _lines_named(name: str, path: Path) -> Iterator[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return (value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == name)
