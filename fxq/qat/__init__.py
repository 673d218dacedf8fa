"""Quantization-aware training: fake-quantize modules, ops as they are trained, switches, schedules, learned scales."""

from fxq.qat.fake_quantize import FakeQuantize, fake_quantize
from fxq.qat.learned import LearnedFakeQuantize, get_lsq_qconfig
from fxq.qat.schedule import QATCallback, QATSchedule
from fxq.qat.state import float_state_dict
from fxq.qat.switches import (
    disable_fake_quant,
    disable_observer,
    enable_fake_quant,
    enable_observer,
    freeze_bn_stats,
    synchronize_bn_stats,
    update_bn_stats,
)

__all__ = [
    "FakeQuantize", "LearnedFakeQuantize", "fake_quantize", "get_lsq_qconfig",
    "enable_observer", "disable_observer", "enable_fake_quant", "disable_fake_quant", "freeze_bn_stats", "update_bn_stats",
    "synchronize_bn_stats",
    "QATSchedule", "QATCallback", "float_state_dict",
]  # fmt: skip
