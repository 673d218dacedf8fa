"""torch.ao's QConfigs under their names: one row each. fxq.observers.defaults says how they differ.

The symmetric ones for qnnpack differ once more: torch.ao's activations are int8 −128..127 there, these are uint8 0..255. Both
are affine, so the same reals are represented, with the zero_point 128 further up; symmetric are the weights. The profiles
take affine activations as uint8 only.

There is no `default_reuse_input_qconfig`: operations that only move values share the qparams of their input without being asked.
"""

from __future__ import annotations

from dataclasses import replace

from fxq.graph.qtypes import ACTIVATION, QNNPACK_EPS
from fxq.graph.weight_format import Bits
from fxq.observers import (
    HistogramObserver,
    NoopObserver,
    WeightOnlyObserver,
    default_debug_observer,
    default_dynamic_quant_observer,
    default_float_qparams_observer,
    default_float_qparams_observer_4bit,
    default_observer,
    default_per_channel_weight_observer,
    default_weight_observer,
    per_channel_weight_observer_range_neg_127_to_127,
    per_row_dynamic_quant_observer,
    weight_observer_range_neg_127_to_127,
)
from fxq.qconfig_mapping.qconfig import QConfig

_QNNPACK_ACTIVATION = HistogramObserver.with_args(spec=replace(ACTIVATION, eps=QNNPACK_EPS))

default_qconfig = QConfig(default_observer, default_weight_observer)
default_per_channel_qconfig = QConfig(default_observer, default_per_channel_weight_observer)
default_debug_qconfig = QConfig(default_debug_observer, default_weight_observer)
default_symmetric_qnnpack_qconfig = QConfig(_QNNPACK_ACTIVATION, weight_observer_range_neg_127_to_127)
default_per_channel_symmetric_qnnpack_qconfig = QConfig(_QNNPACK_ACTIVATION, per_channel_weight_observer_range_neg_127_to_127)

# float in, float out: 8 bits in between, with the range of each batch
default_dynamic_qconfig = QConfig(default_dynamic_quant_observer, default_weight_observer)
per_channel_dynamic_qconfig = QConfig(default_dynamic_quant_observer, default_per_channel_weight_observer)
# not torch.ao's: rows of a batch (tokens, say) do not depend on each other
per_row_dynamic_qconfig = QConfig(per_row_dynamic_quant_observer, default_per_channel_weight_observer)

# weights in few bits, everything else float32
float_qparams_weight_only_qconfig = QConfig(NoopObserver, default_float_qparams_observer)
float_qparams_weight_only_qconfig_4bit = QConfig(NoopObserver, default_float_qparams_observer_4bit)
float16_dynamic_qconfig = QConfig(NoopObserver, WeightOnlyObserver.with_args(bits=16))


def weight_only_qconfig(bits: Bits = 4, group_size: int = 128, *, symmetric: bool = False) -> QConfig:
    """Weights of linear layers and embeddings in few bits, everything else float32. Not torch.ao's.

    Args:
        bits: 4 or 8; 16 for float16.
        group_size: adjacent inputs that share a scale: a multiple of 8, or 0 for all of a row.
        symmetric: from −max to max; else from the least to the largest weight, which loses less and takes a number more for each group.

    Raises:
        ConfigError: there is no such format.
    """
    return QConfig(NoopObserver, WeightOnlyObserver.with_args(bits=bits, group_size=group_size, symmetric=symmetric))
