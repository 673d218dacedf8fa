"""What PyTorch's pages on FX graph mode quantization do, call by call, with only the import changed."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
import fxq.compat.torch_ao as quantize_fx
from fxq.compat.torch_ao import (
    BackendConfig,
    BackendPatternConfig,
    DTypeConfig,
    DTypeWithConstraints,
    FakeQuantize,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    ObservationType,
    PrepareCustomConfig,
    QConfig,
    QConfigMapping,
    convert_fx,
    convert_to_reference_fx,
    default_dynamic_qconfig,
    default_qconfig,
    default_weight_observer,
    float_qparams_weight_only_qconfig,
    fuse_fx,
    get_default_qat_qconfig_mapping,
    get_default_qconfig,
    get_default_qconfig_mapping,
    prepare_fx,
    prepare_qat_fx,
    quantize_dynamic,
)
from fxq.errors import ConfigError
from fxq.graph.reasons import Why
from fxq.report.kinds import Kind
from fxq.runtime.weight_only.embedding import WeightOnlyEmbedding
from fxq.runtime.weight_only.linear import WeightOnlyLinear


class Block(nn.Module):
    """conv, batch norm and relu, and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x))) + x
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(y, 2), 1))


def loader(batches: int = 3) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64)) for _ in range(batches)]


def calibrate(model: nn.Module, data_loader: Iterable[tuple[Tensor, Tensor]]) -> None:
    model.eval()
    with torch.no_grad():
        for image, _ in data_loader:
            model(image)


def heavy_in_int8(model: Any) -> set[str]:
    """Paths of the convolutions and linear layers that run in int8."""
    return {row.module for row in fxq.report(model).rows if row.macs and row.kind is Kind.INT8}


@pytest.fixture
def float_model() -> Block:
    torch.manual_seed(0)
    return Block().eval()


def test_static_quantization(float_model: Block, tmp_path: Path) -> None:
    model_to_quantize = copy.deepcopy(float_model)
    model_to_quantize.eval()
    qconfig = get_default_qconfig("x86")
    qconfig_mapping = QConfigMapping().set_global(qconfig)
    example_inputs = next(iter(loader()))[0]  # a tensor, as on the page: the parentheses around it make no tuple
    prepared_model = prepare_fx(model_to_quantize, qconfig_mapping, example_inputs)
    assert "conv1" in str(prepared_model.graph)
    calibrate(prepared_model, loader())
    quantized_model = convert_fx(prepared_model)
    assert "Conv(3, 3" in str(quantized_model)
    assert heavy_in_int8(quantized_model) == {"conv1", "fc"}
    x = loader()[0][0]
    assert (quantized_model(x) - float_model(x)).abs().max() < 0.05
    torch.save(quantized_model, tmp_path / "quantized.pth")
    loaded = torch.load(tmp_path / "quantized.pth", weights_only=False)
    assert torch.equal(loaded(x), quantized_model(x))


def test_static_quantization_with_the_dict_of_the_first_version(float_model: Block) -> None:
    qconfig_dict = {
        "": default_qconfig,
        "object_type": [(nn.Conv2d, default_qconfig), (nn.Conv3d, None)],
        "module_name": [("fc", None)],
        "module_name_regex": [("conv[0-9]+", default_qconfig)],
    }
    prepared_model = quantize_fx.prepare_fx(float_model, qconfig_dict, (loader()[0][0],))
    calibrate(prepared_model, loader())
    assert heavy_in_int8(quantize_fx.convert_fx(prepared_model)) == {"conv1"}


def test_all_setters_of_the_mapping(float_model: Block) -> None:
    qconfig, other = get_default_qconfig(), get_default_qconfig("qnnpack")
    qconfig_mapping = (
        QConfigMapping()
        .set_global(qconfig)
        .set_object_type(torch.nn.Conv2d, other)
        .set_object_type("reshape", other)
        .set_module_name_regex("conv.*", qconfig)
        .set_module_name("fc", None)
        .set_module_name_object_type_order("", torch.flatten, 0, None)
    )
    prepared_model = prepare_fx(float_model, qconfig_mapping, (loader()[0][0],))
    calibrate(prepared_model, loader())
    assert heavy_in_int8(convert_fx(prepared_model)) == {"conv1"}


def test_debugging_compares_the_weights_of_the_fused_and_the_quantized_model(float_model: Block) -> None:
    x = loader()[0][0]
    with pytest.raises(ConfigError, match=r"(?s)example_inputs.*fuse_fx"):
        fuse_fx(float_model)
    fused = fuse_fx(float_model, example_inputs=x)
    prepared = prepare_fx(float_model, get_default_qconfig_mapping("x86"), (x,))
    calibrate(prepared, loader())
    reference = convert_to_reference_fx(prepared)
    kept = convert_fx(prepared, keep_original_weights=True).original_weights_lookup["conv1"][0]
    assert torch.equal(fused.conv1.weight, kept)
    assert (reference(x) - convert_fx(prepared)(x)).abs().max() < 0.02


def test_weights_of_embeddings_in_few_bits() -> None:
    """The QConfigs of the import, and torch.ao's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_aos = importlib.import_module("torch.ao.quantization")
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 4)).eval()
    for qconfig in (float_qparams_weight_only_qconfig, torch_aos.float_qparams_weight_only_qconfig_4bit):
        small = quantize_dynamic(model, {nn.Embedding: qconfig}, dtype=torch.quint8)
        assert isinstance(small[0], WeightOnlyEmbedding) and type(small[1]) is nn.Linear
    half = quantize_dynamic(model, {nn.Linear: torch_aos.float16_dynamic_qconfig})
    assert isinstance(half[1], WeightOnlyLinear) and half[1].format.bits == 16


def test_recipe_for_dynamic_quantization() -> None:
    """An LSTM and a linear layer, and a mapping that asks for both."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval(), torch.randn(5, 8)
    swapped = quantize_dynamic(model, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    prepared = prepare_fx(model, QConfigMapping().set_global(default_dynamic_qconfig), (x,))
    by_mapping = convert_fx(prepared)
    assert all(type(module).__name__ == "DynamicLinear" for module in (swapped[0], by_mapping.get_submodule("0")))
    assert (swapped(x) - model(x)).abs().max() < 0.02 and (by_mapping(x) - model(x)).abs().max() < 0.02


def train_loop(model: nn.Module, train_data: Iterable[tuple[Tensor, Tensor]]) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for image, target in train_data:
        loss = nn.functional.cross_entropy(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_quantization_aware_training(float_model: Block) -> None:
    qconfig_mapping = get_default_qat_qconfig_mapping("x86")
    example_inputs = (loader()[0][0],)
    prepared_model = prepare_qat_fx(float_model.train(), qconfig_mapping, example_inputs)
    train_loop(prepared_model, loader())
    prepared_model.apply(quantize_fx.disable_observer)
    x = loader()[0][0]
    trained = prepared_model.eval()(x)
    quantized_model = convert_fx(prepared_model)
    assert heavy_in_int8(quantized_model) == {"conv1", "fc"}
    assert (quantized_model(x) - trained).abs().max() < 0.05


def test_quantization_aware_training_with_fake_quantize_modules_in_the_qconfig(float_model: Block) -> None:
    activation = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, quant_min=0, quant_max=127, dtype=torch.quint8)
    qconfig = QConfig(activation=activation, weight=quantize_fx.default_per_channel_weight_fake_quant)
    prepared = prepare_qat_fx(float_model.train(), QConfigMapping().set_global(qconfig), (loader()[0][0],))
    train_loop(prepared, loader())
    assert heavy_in_int8(convert_fx(prepared.eval())) == {"conv1", "fc"}
    assert {module.spec.qmax for module in prepared.modules() if isinstance(module, quantize_fx.FakeQuantizeBase)} == {127}


# --- the page on quantization in PyTorch's documentation -----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["x86", "qnnpack"])
def test_the_page_on_quantization(engine: str, float_model: Block) -> None:
    """Static quantization, then training: the mapping of an engine with the default backend."""
    input_fp32 = loader()[0][0]
    static = quantize_fx.prepare_fx(copy.deepcopy(float_model), get_default_qconfig_mapping(engine), (input_fp32,))
    calibrate(static, loader())
    trained = quantize_fx.prepare_qat_fx(copy.deepcopy(float_model).train(), get_default_qat_qconfig_mapping(engine), (input_fp32,))
    train_loop(trained, loader())
    for prepared in (static, trained):
        assert heavy_in_int8(quantize_fx.convert_fx(prepared)) == {"conv1", "fc"}


# --- the user guide ----------------------------------------------------------------------------------------------------------


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if x.sum() > 0 else self.inner(-x)


class ObservedUntraceable(nn.Module):
    def __init__(self, float_module: Untraceable, qconfig: QConfig) -> None:
        super().__init__()
        self.float_module, self.observer = float_module, qconfig.activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.observer(self.float_module(x))

    @classmethod
    def from_float(cls, float_module: Any) -> ObservedUntraceable:
        return cls(float_module, float_module.qconfig)


class QuantizedUntraceable(nn.Module):
    def __init__(self, observed: ObservedUntraceable) -> None:
        super().__init__()
        self.float_module = observed.float_module
        self.scale, self.zero_point = observed.observer.calculate_qparams()

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.round(self.float_module(x) / self.scale + self.zero_point).clamp(0, 255)
        return (steps - self.zero_point) * self.scale

    @classmethod
    def from_observed(cls, observed: ObservedUntraceable) -> QuantizedUntraceable:
        return cls(observed)


class Partly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.non_traceable_submodule = Untraceable()
        self.last = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.non_traceable_submodule(self.first(x)))


def test_only_a_submodule_is_quantized() -> None:
    torch.manual_seed(0)
    model, x = Partly().eval(), torch.randn(4, 8)
    model.first = prepare_fx(model.first, QConfigMapping().set_global(default_qconfig), (x,))
    model(x)
    model.first = convert_fx(model.first)
    assert len(heavy_in_int8(model.first)) == 1
    assert model(x).shape == (4, 8)


@pytest.mark.parametrize(
    "config",
    [
        {"non_traceable_module_name": ["non_traceable_submodule"]},
        {"non_traceable_module_class": [Untraceable]},
        PrepareCustomConfig().set_non_traceable_module_names(["non_traceable_submodule"]),
    ],
    ids=["name", "class", "setter"],
)
def test_non_traceable_modules_are_left_out(config: Any) -> None:
    torch.manual_seed(0)
    model, x = Partly().eval(), torch.randn(4, 8)
    prepared = prepare_fx(model, QConfigMapping().set_global(default_qconfig), (x,), prepare_custom_config=config)
    prepared(x)
    converted = convert_fx(prepared)
    assert heavy_in_int8(converted) == {"first", "last"}
    assert fxq.report(converted).row("non_traceable_submodule").reason.why is Why.KEPT_WHOLE


def test_custom_modules() -> None:
    torch.manual_seed(0)
    model, x = Partly().eval(), torch.randn(4, 8)
    prepare_custom_config = {"float_to_observed_custom_module_class": {"static": {Untraceable: ObservedUntraceable}}}
    prepared = prepare_fx(model, QConfigMapping().set_global(default_qconfig), (x,), prepare_custom_config=prepare_custom_config)
    assert type(prepared.non_traceable_submodule) is ObservedUntraceable
    prepared(x)
    convert_custom_config = {"observed_to_quantized_custom_module_class": {"static": {ObservedUntraceable: QuantizedUntraceable}}}
    converted = convert_fx(prepared, convert_custom_config)
    assert type(converted.non_traceable_submodule) is QuantizedUntraceable
    assert (converted(x) - model(x)).abs().max() < 0.05


def test_dynamic_custom_modules_say_that_they_are_not_here() -> None:
    model, x = Partly().eval(), torch.randn(4, 8)
    prepared = prepare_fx(
        model, QConfigMapping().set_global(default_qconfig), (x,), prepare_custom_config={"non_traceable_module_class": [Untraceable]}
    )
    prepared(x)
    with pytest.raises(ConfigError, match="quant_type 'static'"):
        convert_fx(prepared, {"observed_to_quantized_custom_module_class": {"dynamic": {Untraceable: QuantizedUntraceable}}})


# --- the BackendConfig tutorial ----------------------------------------------------------------------------------------------


class LinearConvSigmoid(nn.Module):
    def __init__(self, use_bn: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 3)
        self.conv = nn.Conv2d(3, 3, 3)
        self.bn = nn.BatchNorm2d(3)
        self.relu = nn.ReLU()
        self.sigmoid = nn.Sigmoid()
        self.use_bn = use_bn

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.linear(x))
        if self.use_bn:
            x = self.bn(x)
        return self.sigmoid(self.relu(x))


def my_backend() -> BackendConfig:
    quint8_with_constraints = DTypeWithConstraints(
        dtype=torch.quint8,
        quant_min_lower_bound=0,
        quant_max_upper_bound=255,
        scale_min_lower_bound=2**-12,
    )
    weighted_int8_dtype_config = DTypeConfig(
        input_dtype=quint8_with_constraints, output_dtype=quint8_with_constraints, weight_dtype=torch.qint8, bias_dtype=torch.float
    )
    linear_config = (
        BackendPatternConfig(torch.nn.Linear)
        .set_observation_type(ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT)
        .add_dtype_config(weighted_int8_dtype_config)
        .set_root_module(torch.nn.Linear)
        .set_qat_module(torch.ao.nn.qat.Linear)
        .set_reference_quantized_module(torch.ao.nn.quantized.reference.Linear)
    )
    conv_relu_config = (
        BackendPatternConfig((torch.nn.Conv2d, torch.nn.ReLU))
        .set_fused_module(torch.ao.nn.intrinsic.ConvReLU2d)
        .set_fuser_method(lambda is_qat, conv, relu: torch.ao.nn.intrinsic.ConvReLU2d(conv, relu))
    )
    fused_conv_relu_config = (
        BackendPatternConfig()
        .set_pattern(torch.ao.nn.intrinsic.ConvReLU2d)
        .set_observation_type(ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT)
        .add_dtype_config(weighted_int8_dtype_config)
        .set_root_module(torch.nn.Conv2d)
        .set_qat_module(torch.ao.nn.intrinsic.qat.ConvReLU2d)
        .set_reference_quantized_module(torch.ao.nn.quantized.reference.Conv2d)
    )
    return (
        BackendConfig("my_backend")
        .set_backend_pattern_config(linear_config)
        .set_backend_pattern_config(conv_relu_config)
        .set_backend_pattern_config(fused_conv_relu_config)
    )


def my_mapping() -> Any:
    activation_observer = MinMaxObserver.with_args(quant_min=0, quant_max=127, eps=2**-12)
    qconfig = QConfig(activation=activation_observer, weight=default_weight_observer)
    return (
        QConfigMapping()
        .set_object_type(torch.nn.Linear, qconfig)
        .set_object_type(torch.nn.Conv2d, qconfig)
        .set_object_type(torch.nn.BatchNorm2d, qconfig)
        .set_object_type(torch.nn.ReLU, qconfig)
    )


@pytest.mark.parametrize("use_bn", [False, True])
def test_backend_config_runs_its_patterns_and_nothing_else(use_bn: bool) -> None:
    """With a batch norm, too: fxq folds it whatever the patterns say."""
    torch.manual_seed(0)
    example_inputs = (torch.rand(1, 3, 10, 10, dtype=torch.float),)
    model = LinearConvSigmoid(use_bn=use_bn).eval()
    prepared = prepare_fx(model, my_mapping(), example_inputs, backend_config=my_backend())
    prepared(*example_inputs)
    converted = convert_fx(prepared, backend_config=my_backend())
    assert heavy_in_int8(converted) == {"linear", "conv"}
    assert fxq.report(converted).row("sigmoid").kind is Kind.FLOAT
    assert (converted(*example_inputs) - model(*example_inputs)).abs().max() < 0.02


def test_backend_config_refuses_a_qconfig_outside_its_bounds() -> None:
    example_inputs = (torch.rand(1, 3, 10, 10),)
    prepared = prepare_fx(LinearConvSigmoid(True).eval(), get_default_qconfig_mapping(), example_inputs, backend_config=my_backend())
    prepared(*example_inputs)
    converted = convert_fx(prepared, backend_config=my_backend())
    assert heavy_in_int8(converted) == set()
    reason = str(fxq.report(converted).row("linear").reason)
    assert "profile my_backend takes activations as uint8 per tensor, qmin at least 0, qmax at most 255, eps at least 0.000244" in reason


def test_convert_with_another_backend_is_an_error() -> None:
    x = torch.randn(2, 8)
    prepared = prepare_fx(nn.Sequential(nn.Linear(8, 8)).eval(), get_default_qconfig_mapping(), (x,))
    prepared(x)
    with pytest.raises(ConfigError, match="what prepare_fx was given"):
        convert_fx(prepared, backend_config=quantize_fx.get_qnnpack_backend_config())
    convert_fx(prepared, backend_config=quantize_fx.get_native_backend_config())


def test_recipe_with_an_lstm(tmp_path: Path) -> None:
    """From 8 features to 8, and so large that constants do not count."""

    def size(model: nn.Module) -> int:
        torch.save(model.state_dict(), tmp_path / "model.pt")
        return (tmp_path / "model.pt").stat().st_size

    torch.manual_seed(0)
    lstm, inputs = nn.LSTM(8, 8), torch.randn(5, 3, 8)
    quantized = quantize_dynamic(lstm, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    (out, (h, c)), (expected, states) = quantized(inputs), lstm(inputs)
    assert (out - expected).abs().max() < 0.02
    assert (h - states[0]).abs().max() < 0.02 and (c - states[1]).abs().max() < 0.04
    large = nn.LSTM(512, 512)
    assert size(large) / size(quantize_dynamic(large, {nn.LSTM}, dtype=torch.qint8)) > 3.9
