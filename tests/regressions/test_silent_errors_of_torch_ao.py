"""Models on which torch.ao's FX mode is wrong without a word, fails, or ignores what was asked.

Each test compares with the float model: the signal that is left of 8 bits, in dB, is far above what a wrong fold or a lost
argument leaves.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.graph.annotation import quant_of
from fxq.graph.module import FxqModule
from fxq.graph.ops import call_of
from fxq.graph.text import print_graph
from fxq.observers import MinMaxObserver, PerChannelMinMaxObserver
from fxq.qconfig_mapping import QConfig, QConfigMapping
from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.linear import Linear

QCONFIG = QConfig(activation=MinMaxObserver, weight=PerChannelMinMaxObserver)
EVERYTHING = QConfigMapping().set_global(QCONFIG)
PROFILES = pytest.mark.parametrize("profile", ["x86", "qnnpack"])


def data(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def model_of(forward: Callable[..., Any], **modules: nn.Module) -> nn.Module:
    """A model with these submodules, seeded, and this forward; its first parameter is self."""
    model: nn.Module = type("Model", (nn.Module,), {"forward": forward})()
    for name, module in modules.items():
        model.add_module(name, module)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.4)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape) + 0.3)
    return model.eval()


def converted(model: nn.Module, x: Tensor, mapping: QConfigMapping = EVERYTHING, profile: str = "x86") -> FxqModule:
    prepared = fxq.prepare_fx(model, mapping, x, profile=profile)
    fxq.calibrate(prepared, [x], progress=False)
    return fxq.convert_fx(prepared)


def sqnr(expected: Tensor, found: Tensor) -> float:
    return float(10 * torch.log10(expected.square().sum() / (expected - found).square().sum()))


def agrees(model: nn.Module, x: Tensor, profile: str = "x86", least: float = 28.0, mapping: QConfigMapping = EVERYTHING) -> FxqModule:
    """The int8 model is the float model to `least` dB. Returns it."""
    with torch.no_grad():
        lowered = converted(model, x, mapping, profile)
        expected, found = model(x), lowered(x)
    assert found.shape == expected.shape
    assert sqnr(expected, found) > least
    return lowered


def float_ops(module: FxqModule) -> list[str]:
    """Canonical ops that compute on floats, without quantization itself."""
    names = [call.op.name for node in module.graph.nodes if (call := call_of(node)) is not None and (q := quant_of(node)) and not q.is_int8]
    return [name for name in names if name not in ("quantize", "dequantize")]


def count(module: FxqModule, kind: type[nn.Module]) -> int:
    return sum(isinstance(each, kind) for each in module.modules())


# --- silently wrong ------------------------------------------------------------------------------------------------------------


@PROFILES
@pytest.mark.parametrize("alpha", [3, -2, 0.5])
def test_add_keeps_alpha(profile: str, alpha: float) -> None:
    model = model_of(lambda self, x: torch.add(self.a(x), self.b(x), alpha=alpha), a=nn.Linear(8, 8), b=nn.Linear(8, 8))
    agrees(model, data(16, 8), profile)


@PROFILES
def test_linear_and_batch_norm_of_a_3d_input_is_not_folded_along_the_wrong_dimension(profile: str) -> None:
    model = model_of(lambda self, x: self.bn(self.fc(x)), fc=nn.Linear(6, 6), bn=nn.BatchNorm1d(6))
    agrees(model, data(16, 6, 6), profile)


@PROFILES
def test_linear_and_batch_norm_of_a_2d_input_is_folded(profile: str) -> None:
    model = model_of(lambda self, x: self.bn(self.fc(x)), fc=nn.Linear(6, 6), bn=nn.BatchNorm1d(6))
    lowered = agrees(model, data(32, 6), profile)
    assert float_ops(lowered) == []


@PROFILES
def test_conv_shared_between_calls_with_and_without_batch_norm(profile: str) -> None:
    model = model_of(lambda self, x: self.bn(self.conv(x)) + self.conv(x) * 2, conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4))
    agrees(model, data(4, 3, 8, 8), profile)


@PROFILES
def test_conv_shared_between_two_batch_norms(profile: str) -> None:
    model = model_of(
        lambda self, x: self.a(self.conv(x)) - self.b(self.conv(x)), conv=nn.Conv2d(3, 4, 3), a=nn.BatchNorm2d(4), b=nn.BatchNorm2d(4)
    )
    with torch.no_grad():
        model.b.running_mean.sub_(2.0)  # type: ignore[union-attr, operator]
    agrees(model, data(4, 3, 8, 8), profile)


@PROFILES
def test_shared_linear_has_a_scale_of_its_own_at_each_call_site(profile: str) -> None:
    """The second range is a fiftieth of the first: with one scale for both, five bits of it were lost."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        large, small = self.fc(x).tanh(), self.fc(self.shrink(x)).tanh()
        return torch.cat([large * 0.01, small], 1)

    model = model_of(forward, fc=nn.Linear(8, 8, bias=False), shrink=nn.Linear(8, 8, bias=False))
    with torch.no_grad():
        model.shrink.weight.mul_(0.05)  # type: ignore[union-attr, operator]
    agrees(model, data(32, 8), profile, least=24.0)


# --- failing -------------------------------------------------------------------------------------------------------------------


CONVS: dict[str, Callable[..., Tensor]] = {
    "omitted": lambda self, x: F.conv2d(x, self.c.weight),
    "positional": lambda self, x: F.conv2d(x, self.c.weight, self.c.bias, 2, 1, 1, 1),
    "int": lambda self, x: F.conv2d(x, self.c.weight, self.c.bias, stride=2, padding=1),
    "list": lambda self, x: F.conv2d(x, self.c.weight, self.c.bias, [2, 1], [1, 0], [1, 2]),
    "keywords": lambda self, x: F.conv2d(padding=(1, 1), bias=self.c.bias, weight=self.c.weight, input=x),
    "string": lambda self, x: F.conv2d(x, self.c.weight, None, padding="same"),
}


@PROFILES
@pytest.mark.parametrize("forward", CONVS.values(), ids=CONVS)
def test_functional_conv_in_every_form(forward: Callable[..., Tensor], profile: str) -> None:
    lowered = agrees(model_of(forward, c=nn.Conv2d(3, 4, 3)), data(4, 3, 8, 8), profile)
    assert (float_ops(lowered), count(lowered, Conv)) == ([], 1)


@pytest.mark.parametrize(
    ("forward", "layer", "shape"),
    [
        (lambda self, x: F.conv1d(x, self.c.weight, padding=1), nn.Conv1d(3, 4, 3), (4, 3, 9)),
        (lambda self, x: F.conv3d(x, self.c.weight, stride=(1, 2, 1)), nn.Conv3d(2, 3, 2), (2, 2, 4, 5, 4)),
        (lambda self, x: F.linear(x, self.c.weight), nn.Linear(6, 4), (4, 6)),
        (lambda self, x: F.linear(input=x, bias=self.c.bias, weight=self.c.weight), nn.Linear(6, 4), (4, 6)),
        (lambda self, x: torch.add(input=self.c(x), other=x), nn.Linear(6, 6), (4, 6)),
    ],
    ids=["conv1d", "conv3d", "linear without bias", "linear by keywords", "add by keywords"],
)
def test_functions_with_omitted_and_keyword_arguments(forward: Callable[..., Tensor], layer: nn.Module, shape: tuple[int, ...]) -> None:
    assert float_ops(agrees(model_of(forward, c=layer), data(*shape))) == []


PADDINGS: dict[str, dict[str, Any]] = {
    "same": {"padding": "same"},
    "same, even kernel": {"padding": "same", "kernel_size": 4},
    "same, dilated": {"padding": "same", "dilation": 2},
    "valid": {"padding": "valid"},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "replicate": {"padding": (2, 1), "padding_mode": "replicate"},
    "reflect": {"padding": 1, "padding_mode": "reflect"},
    "same, circular": {"padding": "same", "padding_mode": "circular"},
}


@PROFILES
@pytest.mark.parametrize("options", PADDINGS.values(), ids=PADDINGS)
def test_padding(options: dict[str, Any], profile: str) -> None:
    model = model_of(lambda self, x: self.c(x), c=nn.Conv2d(3, 4, **{"kernel_size": 3, **options}))
    lowered = agrees(model, data(4, 3, 8, 8), profile)
    assert (float_ops(lowered), count(lowered, Conv)) == ([], 1)


@PROFILES
def test_conv_of_an_unbatched_image(profile: str) -> None:
    model = model_of(lambda self, x: torch.relu(self.c(x)), c=nn.Conv2d(3, 4, 3, padding=1))
    assert count(agrees(model, data(3, 8, 8), profile), Conv) == 1


@PROFILES
def test_linear_of_a_vector(profile: str) -> None:
    model = model_of(lambda self, x: self.b(torch.relu(self.a(x))), a=nn.Linear(32, 32), b=nn.Linear(32, 32))
    assert count(agrees(model, data(32), profile), Linear) == 2


def test_object_type_for_conv_alone_when_a_relu_follows() -> None:
    """The relu, which no rule speaks of, becomes part of the conv that one does speak of."""
    mapping = QConfigMapping().set_object_type(nn.Conv2d, QCONFIG)
    model = model_of(lambda self, x: self.r(self.c(x)), c=nn.Conv2d(3, 4, 3), r=nn.ReLU())
    lowered = agrees(model, data(4, 3, 8, 8), mapping=mapping)
    assert (float_ops(lowered), count(lowered, Conv)) == ([], 1)


def test_linear_switched_off_by_type_stays_float_when_a_relu_follows() -> None:
    mapping = QConfigMapping().set_global(QCONFIG).set_object_type(nn.Linear, None)
    model = model_of(lambda self, x: self.r(self.fc(x)), fc=nn.Linear(6, 6), r=nn.ReLU())
    lowered = agrees(model, data(16, 6), mapping=mapping)
    (node,) = (node for node in lowered.graph.nodes if node.name == "fc")
    quant = quant_of(node)
    assert quant is not None
    assert quant.reason is not None
    assert quant.reason.detail == 'kept float by set_object_type("torch.nn.Linear")'
    assert torch.equal(lowered.state_dict()["fc.weight"], model.state_dict()["fc.weight"])
    assert count(lowered, Linear) == 0


def test_avg_pool_without_a_qconfig_between_quantized_ops() -> None:
    mapping = QConfigMapping().set_global(QCONFIG).set_object_type(nn.AvgPool2d, None)
    model = model_of(lambda self, x: self.b(self.p(self.a(x))), a=nn.Conv2d(3, 4, 3), p=nn.AvgPool2d(2), b=nn.Conv2d(4, 2, 1))
    lowered = agrees(model, data(4, 3, 8, 8), mapping=mapping)
    assert (float_ops(lowered), count(lowered, Conv)) == (["avg_pool"], 2)


@PROFILES
def test_conv_behind_a_cat_by_keyword_is_int8(profile: str) -> None:
    model = model_of(
        lambda self, x: self.b(torch.cat(tensors=[self.a(x), x], dim=1)), a=nn.Conv2d(3, 2, 3, padding=1), b=nn.Conv2d(5, 4, 1)
    )
    lowered = agrees(model, data(4, 3, 8, 8), profile)
    assert (float_ops(lowered), count(lowered, Conv)) == ([], 2)


def test_prepared_and_converted_models_pickle() -> None:
    model, x = model_of(lambda self, x: torch.relu(self.c(x)), c=nn.Conv2d(3, 4, 3)), data(4, 3, 8, 8)
    prepared = pickle.loads(pickle.dumps(fxq.prepare_fx(model, EVERYTHING, x)))
    fxq.calibrate(prepared, [x], progress=False)
    lowered = fxq.convert_fx(pickle.loads(pickle.dumps(prepared)))
    assert torch.equal(pickle.loads(pickle.dumps(lowered))(x), lowered(x))
    assert torch.equal(copy.deepcopy(lowered)(x), lowered(x))
    assert sqnr(model(x).detach(), lowered(x)) > 28


def test_code_that_reads_the_device_of_a_layers_weight() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x.to(self.fc.weight.device))
        return y

    lowered = agrees(model_of(forward, fc=nn.Linear(6, 6)), data(16, 6))
    assert count(lowered, Linear) == 1


def test_code_that_reads_the_dtype_of_a_layers_weight() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x.to(self.fc.weight.dtype))
        return y

    agrees(model_of(forward, fc=nn.Linear(6, 6)), data(16, 6))


def test_scalars_strings_and_nothing_in_outputs() -> None:
    def forward(self: nn.Module, x: Tensor) -> dict[str, Any]:
        y = self.fc(x)
        return {"logits": y, "loss": 0.5, "name": "head", "none": None, "shape": x.shape[0], "nested": [(y, 3)]}

    model, x = model_of(forward, fc=nn.Linear(6, 6)), data(16, 6)
    with torch.no_grad():
        expected, found = model(x), converted(model, x)(x)
    assert {key: value for key, value in found.items() if not key.startswith(("logits", "nested"))} == {
        "loss": 0.5, "name": "head", "none": None, "shape": 16,
    }  # fmt: skip
    assert sqnr(expected["logits"], found["logits"]) > 28
    assert found["nested"][0][1] == 3
    assert torch.equal(found["nested"][0][0], found["logits"])


def test_tuples_and_masks_pass_by() -> None:
    """chunk gives a tuple, the mask is of bools, and neither is observed."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        first, second = torch.chunk(self.fc(x), 2, 1)
        return self.out(torch.where(first > 0, second, first))

    lowered = agrees(model_of(forward, fc=nn.Linear(6, 8), out=nn.Linear(4, 4)), data(32, 6))
    assert count(lowered, Linear) == 2


def test_int8_activations_are_refused_aloud_on_x86_and_int8_on_qnnpack() -> None:
    signed = MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric, quant_min=-127, quant_max=127)
    mapping = QConfigMapping().set_global(QConfig(activation=signed, weight=PerChannelMinMaxObserver))
    model, x = model_of(lambda self, x: torch.relu(self.c(x)), c=nn.Conv2d(3, 4, 3)), data(4, 3, 8, 8)
    (reason,) = (quant.reason for node in converted(model, x, mapping).graph.nodes if node.name == "c" and (quant := quant_of(node)))
    assert reason is not None
    assert reason.detail.startswith("profile x86 takes activations as uint8 per tensor")
    assert count(agrees(model, x, "qnnpack", mapping=mapping), Conv) == 1


def test_activations_behind_conv_are_fused() -> None:
    """relu6 becomes bounds of the conv, where torch.ao makes an op of it."""
    model = model_of(lambda self, x: F.relu6(self.c(x)), c=nn.Conv2d(3, 4, 3))
    assert print_graph(fxq.fuse_fx(model, data(1, 3, 4, 4))).splitlines()[1:-1] == [
        "c: f32[1, 4, 2, 2] = conv(x, @c.weight[4, 3, 3, 3], @c.bias[4], act=relu6)"
    ]
