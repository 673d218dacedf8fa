"""torch.ao's names for quantization-aware training.

A QConfig of fxq holds observers in training, too: prepare_qat_fx puts each into a fake-quantize module. So what makes a
fake-quantize module in torch.ao stands for its observer here. Weights are observed as they are in each step.
"""

from __future__ import annotations

from typing import Any

from fxq.observers import (
    MovingAverageMinMaxObserver,
    Observer,
    ObserverFactory,
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
    default_histogram_observer,
    default_per_channel_weight_observer,
    default_weight_observer,
    per_channel_weight_observer_range_neg_127_to_127,
    weight_observer_range_neg_127_to_127,
)
from fxq.qconfig_mapping import get_default_qat_qconfig


class FakeQuantize:
    """FakeQuantize.with_args(observer, **args) = observer.with_args(**args)."""

    @staticmethod
    def with_args(observer: type[Observer] | ObserverFactory = MovingAverageMinMaxObserver, **args: Any) -> ObserverFactory:
        """The observer with these arguments. Raises ConfigError as it does."""
        return observer.with_args(**args)


FusedMovingAvgObsFakeQuantize = FixedQParamsFakeQuantize = FakeQuantize

default_qat_qconfig = default_qat_qconfig_v2 = get_default_qat_qconfig("x86", per_channel=False)
default_symmetric_qnnpack_qat_qconfig = get_default_qat_qconfig("qnnpack", per_channel=False)
default_per_channel_symmetric_qnnpack_qat_qconfig = get_default_qat_qconfig("qnnpack", per_channel=True)

default_fake_quant = default_fused_act_fake_quant = default_qat_qconfig.activation
default_histogram_fake_quant = default_histogram_observer
default_weight_fake_quant = default_fused_wt_fake_quant = default_weight_observer
default_per_channel_weight_fake_quant = default_fused_per_channel_wt_fake_quant = default_per_channel_weight_observer
fused_wt_fake_quant_range_neg_127_to_127 = weight_observer_range_neg_127_to_127
fused_per_channel_wt_fake_quant_range_neg_127_to_127 = per_channel_weight_observer_range_neg_127_to_127
default_fixed_qparams_range_0to1_fake_quant = default_affine_fixed_qparams_fake_quant = default_fixed_qparams_range_0to1_observer
default_fixed_qparams_range_neg1to1_fake_quant = default_symmetric_fixed_qparams_fake_quant = default_fixed_qparams_range_neg1to1_observer
