"""torch.ao's default observers under their names: one row each.

Two things differ everywhere. Activations use all 8 bits, 0..255, where torch.ao uses 0..127 so that kernels which add two
products in 16 bits don't saturate: none here does. And weights are −127..127, so that −max and +max both fit, where torch.ao
has −128..127 unless the name says otherwise.

`default_reuse_input_observer` is missing: operations that only move values (reshape, max_pool, ...) share the qparams of their
input by the table of operations, without an observer of their own. Observers for weight-only quantization are not here.
"""

from __future__ import annotations

from dataclasses import replace

from fxq.graph.qtypes import ACTIVATION, QNNPACK_EPS, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR
from fxq.observers.fixed import FixedQParamsObserver, PlaceholderObserver
from fxq.observers.histogram import HistogramObserver
from fxq.observers.minmax import MinMaxObserver, PerChannelMinMaxObserver
from fxq.observers.recording import RecordingObserver

# uint8 0..255, affine
default_observer = MinMaxObserver.with_args(spec=ACTIVATION)
default_histogram_observer = HistogramObserver.with_args(spec=ACTIVATION)
default_debug_observer = RecordingObserver.with_args(spec=ACTIVATION)

# int8 −127..127, zero_point 0
default_weight_observer = MinMaxObserver.with_args(spec=WEIGHT_PER_TENSOR)
default_per_channel_weight_observer = PerChannelMinMaxObserver.with_args(spec=WEIGHT_PER_CHANNEL)

# the same with scales of at least 2^-12, as XNNPACK asks for
weight_observer_range_neg_127_to_127 = MinMaxObserver.with_args(spec=replace(WEIGHT_PER_TENSOR, eps=QNNPACK_EPS))
per_channel_weight_observer_range_neg_127_to_127 = PerChannelMinMaxObserver.with_args(spec=replace(WEIGHT_PER_CHANNEL, eps=QNNPACK_EPS))

# no data is needed: sigmoid and softmax; tanh
default_fixed_qparams_range_0to1_observer = FixedQParamsObserver.with_args(spec=ACTIVATION, scale=1 / 256, zero_point=0)
default_fixed_qparams_range_neg1to1_observer = FixedQParamsObserver.with_args(spec=ACTIVATION, scale=2 / 256, zero_point=128)

# qparams come from each batch at run time; torch.ao's stands for float values, which here are QConfig None
default_placeholder_observer = PlaceholderObserver.with_args()
default_dynamic_quant_observer = PlaceholderObserver.with_args()
# not torch.ao's: each row of a batch has qparams of its own
per_row_dynamic_quant_observer = PlaceholderObserver.with_args(spec=replace(ACTIVATION, axis=0, dynamic=True))
