"""Quantization-aware training: fake-quantize modules, ops as they are trained, and switches for `model.apply`."""

from fxq.qat.fake_quantize import FakeQuantize, fake_quantize
from fxq.qat.switches import disable_fake_quant, disable_observer, enable_fake_quant, enable_observer, freeze_bn_stats, update_bn_stats

__all__ = [
    "FakeQuantize", "fake_quantize",
    "enable_observer", "disable_observer", "enable_fake_quant", "disable_fake_quant", "freeze_bn_stats", "update_bn_stats",
]  # fmt: skip
