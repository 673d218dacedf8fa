"""The text that people read, whole."""

from __future__ import annotations

import io
import re

import torch
from rich.console import Console
from torch import nn

import fxq
from fxq.report import Report
from tests.report.models import Block, block_input, prepared_block, prepared_islands


def _text(made: Report) -> str:
    """Without line numbers, which are those of a test file."""
    return re.sub(r"models\.py:\d+", "models.py", str(made))


OBSERVED_BLOCK = """\
Prepared model, to be calibrated and converted, profile x86

layer    op                 will run as  fused into it        MACs   share  weights  output
x                           input                                                    2×4×6×6
conv1    Conv2d             int8         BatchNorm2d, ReLU  20.7 k  66.5 %  1.18 kB  2×8×6×6
conv2    Conv2d             int8         add, ReLU          10.4 k  33.2 %    608 B  2×8×6×6
pool     AdaptiveAvgPool2d  int8                                                     2×8×1×1
flatten  flatten            int8                                                     2×8
fc       Linear             int8                                80   0.3 %    180 B  2×5

In sum
compute     31.2 kMACs for the example inputs, 100 % will be in int8
heavy ops   2 Conv2d, 1 Linear: 3 of 3 will be in int8
weights     1.97 kB, not quantized yet
nodes       20: 1 input, 5 int8, 7 observer, 6 constant, 1 output
decided by  set_global (5 nodes)
"""

LOWERED_ISLANDS = """\
Converted model, profile x86

layer          op           runs as       fused into it        MACs   share  weights  output
x                           input                                                     2×3×32×32
x_q                         quantize                                                  2×3×32×32
conv           Conv2d       int8          BatchNorm2d, relu   885 k  48.6 %    560 B  2×16×32×32
max_pool2d     max_pool2d   int8                                                      2×16×8×8
max_pool2d_dq               dequantize                                                2×16×8×8
conv2          Conv2d       int8 → float                      295 k  16.2 %  2.43 kB  2×16×8×8
bn2            BatchNorm2d  float                                              256 B  2×16×8×8
hooked         Conv2d       float                             295 k  16.2 %  9.28 kB  2×16×8×8
add            add          float                                                     2×16×8×8
permute        permute      float                                                     2×8×16×8
reshape        reshape      float                                                     2×8×128
lstm           LSTM         float                             328 k  18.0 %  82.9 kB
getitem_4_q                 quantize                                                  2×8×32
attn           Linear       int8 → float                     16.4 k   0.9 %  1.28 kB  2×8×32
softmax        softmax      float                                                     2×8×32
mul_1          mul          float                                                     2×8×32
mul_1_q                     quantize                                                  2×8×32
mean           mean         int8                                                      2×32
head           Linear       int8 → float                        640  <0.1 %    400 B  2×10

In sum
compute     1.82 MMACs for the example inputs, 65.8 % in int8
heavy ops   3 Conv2d, 2 Linear, 1 LSTM: 4 of 6 in int8
weights     109 kB in float32 → 97.2 kB, 1.1 times smaller
nodes       32: 1 input, 6 int8, 8 float, 3 quantize, 1 dequantize, 8 shape, 4 constant, 1 output
compiled    100 % of the int8 MACs run as machine code
boundaries  3 × float → int8, 1 × int8 → float
decided by  set_global (14 nodes)

What stays float, and why
another qconfig (1 node, 18.0 % of MACs): name these in the QConfigMapping with the QConfig that each speaks of;
fxq.quantize_dynamic needs no graph
  lstm  LSTM has no form under this QConfig; set_object_type(nn.LSTM, fxq.per_channel_dynamic_qconfig)      models.py
        gives it one
module hooks (1 node, 16.2 % of MACs): remove the hooks before fxq.prepare_fx
  hooked  its module has forward hooks, which an int8 op would not run; remove them or use                  models.py
          parametrizations
float input (3 nodes): these read what float ops have made, and are as well off in float
  add, mul_1  float ops make its operands, and rounding them first would gain nothing  models.py
  softmax     spreads rounding, and does not stand between int8 ops                    models.py
only float readers (2 nodes): only float ops read these: rounding them would gain nothing
  permute, reshape  computes nothing on its elements, and no int8 op reads its result  models.py
training mode (1 node): call model.eval() before fxq.prepare_fx
  bn2  it is in training mode; call model.eval() before prepare_fx  models.py

Fusions that were refused
bn2  conv_bn: bn2 is in training mode; call model.eval() first     models.py
bn2  bn_as_conv: bn2 is in training mode; call model.eval() first  models.py
"""

FUSED_BLOCK = """\
Fused float model: nothing is decided yet

layer    op                 fused into it        MACs   share  weights  output
x        input                                                          2×4×6×6
conv1    Conv2d             BatchNorm2d, ReLU  20.7 k  66.5 %  1.18 kB  2×8×6×6
conv2    Conv2d             add, ReLU          10.4 k  33.2 %    608 B  2×8×6×6
pool     AdaptiveAvgPool2d                                              2×8×1×1
flatten  flatten                                                        2×8
fc       Linear                                    80   0.3 %    180 B  2×5

In sum
compute    31.2 kMACs for the example inputs
heavy ops  2 Conv2d, 1 Linear
weights    1.97 kB, not quantized yet
nodes      13: 1 input, 5 float, 6 constant, 1 output
"""

SWITCHED_OFF_BLOCK = """\
Prepared model, to be calibrated and converted, profile x86

layer    op                 will run as  fused into it    MACs   share  weights  output
x                           input                                                2×4×6×6
conv1    Conv2d             float        BatchNorm2d    20.7 k  66.5 %  1.18 kB  2×8×6×6
relu     ReLU               float                                                2×8×6×6
conv2    Conv2d             float                       10.4 k  33.2 %    608 B  2×8×6×6
add      add                float                                                2×8×6×6
relu     ReLU               float                                                2×8×6×6
pool     AdaptiveAvgPool2d  float                                                2×8×1×1
flatten  flatten            float                                                2×8
fc       Linear             float                           80   0.3 %    180 B  2×5

In sum
compute     31.2 kMACs for the example inputs, 0 % will be in int8
heavy ops   2 Conv2d, 1 Linear: 0 of 3 will be in int8
weights     1.97 kB, not quantized yet
nodes       16: 1 input, 8 float, 6 constant, 1 output
decided by  set_global (8 nodes)
note        no op will run in int8, mostly because of "switched off": a rule of your QConfigMapping keeps these float:
            leave it out to have them in int8

What stays float, and why
switched off (8 nodes, 100 % of MACs): a rule of your QConfigMapping keeps these float: leave it out to have them in
int8
  conv1, relu, conv2, add, relu, pool and 2 more  kept float by set_global  models.py
"""


def test_prepared_model() -> None:
    assert _text(fxq.report(prepared_block())) == OBSERVED_BLOCK.rstrip("\n")


def test_converted_model_with_float_islands() -> None:
    assert _text(fxq.report(fxq.convert_fx(prepared_islands()))) == LOWERED_ISLANDS.rstrip("\n")


def test_fused_model_says_that_nothing_is_decided() -> None:
    assert _text(fxq.report(fxq.fuse_fx(Block().eval(), block_input()))) == FUSED_BLOCK.rstrip("\n")


def test_model_that_stays_float_says_why_and_what_to_do() -> None:
    kept = fxq.prepare_fx(Block().eval(), fxq.QConfigMapping().set_global(None), block_input())
    assert _text(fxq.report(kept)) == SWITCHED_OFF_BLOCK.rstrip("\n")


def test_model_with_nothing_to_quantize() -> None:
    empty = fxq.prepare_fx(nn.Sequential(), fxq.QConfigMapping(), block_input())
    assert "no op will run in int8: the model has none that could" in str(fxq.report(empty))


def test_reference_lists_ops_and_not_their_steps() -> None:
    made = fxq.report(fxq.convert_to_reference_fx(prepared_block()))
    table = str(made).partition("In sum")[0]
    assert [line.split()[0] for line in table.splitlines()[3:] if line] == ["x", "conv1", "conv2", "pool", "flatten", "fc"]


def test_summary_is_the_text_after_the_table() -> None:
    made = fxq.report(prepared_block())
    assert str(made).endswith(f"\n\n{made.summary()}")
    assert made.summary().startswith("In sum\n")


def test_lines_fit_and_long_paths_keep_their_end() -> None:
    model = _named("and_another_one_around_it", _named("a_rather_long_name_for_a_layer", nn.Linear(2, 2)))
    text = str(fxq.report(fxq.fuse_fx(model.eval(), torch.ones(2, 2))))
    assert max(map(len, text.splitlines())) <= 120
    assert text.splitlines()[4].startswith("…it.a_rather_long_name_for_a_layer  Linear")


def _named(name: str, inner: nn.Module) -> nn.Module:
    outer = nn.Sequential()
    outer.add_module(name, inner)
    return outer


def test_terminals_get_colours() -> None:
    text = io.StringIO()
    Console(file=text, force_terminal=True, width=120, color_system="standard").print(fxq.report(prepared_block()))
    assert "\x1b[32mint8" in text.getvalue()


def test_names_are_not_markup() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("[bold]", nn.Linear(2, 2))

        def forward(self, x: object) -> object:
            return getattr(self, "[bold]")(x)

    assert "[bold]" in str(fxq.report(fxq.fuse_fx(Model().eval(), torch.ones(2, 2))))


def test_repr_is_short() -> None:
    assert repr(fxq.report(prepared_block())) == "<Report: stage OBSERVED, 20 nodes, 3 of 3 heavy ones int8>"
