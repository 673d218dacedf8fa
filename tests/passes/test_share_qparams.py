"""Which values share qparams."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.api import get_default_qconfig_mapping
from fxq.graph.qtypes import QuantSpec
from fxq.graph.text import print_graph
from fxq.observers import MinMaxObserver, PerChannelMinMaxObserver
from fxq.passes import Context
from fxq.passes.share_qparams import fixed_qparams, share_qparams
from fxq.qconfig_mapping import QConfig, QConfigMapping
from tests.closeness import sqnr
from tests.passes.cases import EVERYTHING, X86, groups, parsed, ramp, up_to

CONV = "conv(x, @c.weight[2, 2, 1, 1], @c.bias[2])"
INPUT = "x: f32[1, 2, 4, 4] = input"


def shared(lines: str, mapping: QConfigMapping = EVERYTHING, profile: str = "x86") -> list[set[str]]:
    return groups(up_to("share_qparams", parsed(lines), mapping, profile))


CASES = {
    "an op with qparams of its own": (f"{INPUT}\nc = {CONV}\ns = silu(c)\noutput s", [{"x"}, {"c"}, {"s"}]),
    "max_pool keeps them": (f"{INPUT}\nc = {CONV}\np = max_pool(c, kernel_size=(2, 2))\noutput p", [{"x"}, {"c", "p"}]),
    "average pooling does not": (
        f"{INPUT}\nc = {CONV}\np = avg_pool(c, kernel_size=(2, 2))\nd = silu(p)\noutput d",
        [{"x"}, {"c"}, {"p"}, {"d"}],
    ),
    "an average to the size that is there does": (
        f"{INPUT}\nc = {CONV}\np = adaptive_avg_pool(c, output_size=(4, 4))\nm = mean(p, dim=(0,), keepdim=True)\nd = silu(m)\noutput d",
        [{"x"}, {"c", "p", "m"}, {"d"}],
    ),
    "an average to another size does not": (
        f"{INPUT}\nc = {CONV}\np = adaptive_avg_pool(c, output_size=(4, 2))\nm = mean(p, dim=(1,), keepdim=True)\nd = silu(m)\noutput d",
        [{"x"}, {"c"}, {"p"}, {"m"}, {"d"}],
    ),
    "cat and all it is made of": (
        f"{INPUT}\nc = {CONV}\ns = silu(c)\nj = cat((c, s), dim=1)\nz = silu(j)\noutput z",
        [{"x"}, {"c", "s", "j"}, {"z"}],
    ),
    "cat of the same value twice": (
        f"{INPUT}\nc = {CONV}\nj = cat((c, c), dim=1)\nz = silu(j)\noutput z",
        [{"x"}, {"c", "j"}, {"z"}],
    ),
    "cat of a conv and a sigmoid, which is requantized": (
        f"{INPUT}\nc = {CONV}\ns = sigmoid(c)\nj = cat((c, s), dim=1)\nz = silu(j)\noutput z",
        [{"x"}, {"c", "j"}, {"s"}, {"z"}],
    ),
    "cat of sigmoids keeps the fixed ones": (
        f"{INPUT}\ns = sigmoid(x)\nt = hardsigmoid(x)\nj = cat((s, t), dim=1)\nz = silu(j)\noutput z",
        [{"x"}, {"s", "t", "j"}, {"z"}],
    ),
    "sigmoid and tanh have different ones, and cat its own": (
        f"{INPUT}\ns = sigmoid(x)\nt = tanh(x)\nj = cat((s, t), dim=1)\nz = silu(j)\noutput z",
        [{"x"}, {"s"}, {"t"}, {"j"}, {"z"}],
    ),
    "nested cats": (
        f"{INPUT}\na = {CONV}\nb = silu(a)\nd = silu(b)\nj = cat((a, b), dim=1)\nk = cat((j, d), dim=1)\nz = silu(k)\noutput z",
        [{"x"}, {"a", "b", "j", "d", "k"}, {"z"}],
    ),
    "movement between int8 ops": (
        f"{INPUT}\nc = {CONV}\nf = flatten(c, start_dim=1)\nl = linear(f, @l.weight[3, 32])\noutput l",
        [{"x"}, {"c", "f"}],
    ),
    "the sum of a conv and its input": (f"{INPUT}\nc = {CONV}\na = add(c, x)\nb = silu(a)\noutput b", [{"x"}, {"c"}, {"b"}]),
    "both operands of a sum have their own": (
        f"{INPUT}\ns = silu(x)\nt = gelu(x)\na = mul(s, t)\nb = silu(a)\noutput b",
        [{"x"}, {"s"}, {"t"}, {"a"}, {"b"}],
    ),
    "x + x": (f"{INPUT}\na = add(x, x)\noutput a", [{"x"}, {"a"}]),
    "an input that is pooled first": (
        f"{INPUT}\np = max_pool(x, kernel_size=(2, 2))\nc = {CONV.replace('x', 'p')}\noutput c",
        [{"x", "p"}],
    ),
    "nothing where all is float": (f"{INPUT}\ns = softmax(x, dim=1)\noutput s", []),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), CASES.values(), ids=CASES)
def test_groups(lines: str, expected: list[set[str]]) -> None:
    assert shared(lines) == expected


def test_a_second_run_changes_nothing_and_the_graph_stays() -> None:
    lines, expected = CASES["nested cats"]
    module = up_to("annotate", parsed(lines))
    before = print_graph(module)
    assert share_qparams(module, Context(X86)) == len(expected)
    assert (groups(module), print_graph(module)) == (expected, before)
    assert share_qparams(module, Context(X86)) == len(expected)
    assert groups(module) == expected


def test_values_are_preserved() -> None:
    lines, _ = CASES["nested cats"]
    x = ramp(1, 2, 4, 4)
    assert torch.equal(up_to("share_qparams", parsed(lines))(x), parsed(lines)(x))


def spec_mapping(spec: QuantSpec) -> QConfigMapping:
    return QConfigMapping().set_global(QConfig(activation=MinMaxObserver.with_args(spec=spec), weight=PerChannelMinMaxObserver))


@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
def test_sigmoid_is_fixed_with_each_profiles_default(profile: str) -> None:
    module = up_to("share_qparams", parsed(f"{INPUT}\ns = sigmoid(x)\noutput s"), get_default_qconfig_mapping(profile), profile)
    (node,) = (node for node in module.graph.nodes if node.name == "s")
    found = fixed_qparams(node)
    assert found is not None
    assert (float(found.scale), int(found.zero_point)) == (1 / 256, 0)


@pytest.mark.parametrize("spec", [QuantSpec("int8", -127, 127, symmetric=True), QuantSpec("uint8", 0, 127)], ids=str)
def test_sigmoid_is_observed_with_other_integers(spec: QuantSpec) -> None:
    module = up_to("share_qparams", parsed(f"{INPUT}\ns = sigmoid(x)\noutput s"), spec_mapping(spec), "qnnpack")
    (node,) = (node for node in module.graph.nodes if node.name == "s")
    assert fixed_qparams(node) is None


def test_values_of_different_specs_do_not_share() -> None:
    lines = f"{INPUT}\na = {CONV}\nb = conv(a, @b.weight[2, 2, 1, 1])\nj = cat((a, b), dim=1)\nz = silu(j)\noutput z"
    signed = QConfig(
        activation=MinMaxObserver.with_args(spec=QuantSpec("int8", -127, 127, symmetric=True)), weight=PerChannelMinMaxObserver
    )
    mapping = QConfigMapping().set_global(EVERYTHING.global_rule.qconfig).set_module_name("b", signed)  # type: ignore[union-attr]
    assert shared(lines, mapping, "qnnpack") == [{"x"}, {"a", "j"}, {"b"}, {"z"}]


class Classifier(nn.Module):
    """The end of VGG, whose images of the usual size are averaged to the size that they have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.fc = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(3), nn.Linear(36, 5)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(self.pool(self.conv(x)).flatten(1))
        return found


def test_an_average_of_single_elements_changes_no_integer_and_averages_larger_images() -> None:
    torch.manual_seed(0)
    model, usual = Classifier().eval(), torch.randn(8, 3, 5, 5)
    int8 = fxq.quantize(model, [usual], progress=False)
    reference = fxq.quantize(nn.Sequential(model.conv, nn.Flatten(), model.fc), [usual], progress=False)
    assert torch.equal(int8(usual), reference(usual))
    large = torch.randn(8, 3, 9, 9)
    assert sqnr(int8(large), model(large)) > 25
