"""Custom and standalone modules, from preparation to the int8 model; original weights."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import CalibrationError, CaptureError, ConfigError
from fxq.graph.constants import tensor_at
from fxq.graph.module import FxqModule, OriginalWeights
from fxq.graph.reasons import Why
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.qconfig_mapping import ConvertCustomConfig, PrepareCustomConfig, QConfig, QConfigMapping
from tests.passes.cases import EVERYTHING, PER_CHANNEL, Block, residual

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Scale(nn.Module):
    """The user's own op."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class ObservedScale(nn.Module):
    """Notes the largest value."""

    def __init__(self, factor: float, qconfig: QConfig) -> None:
        super().__init__()
        self.factor, self.given = factor, qconfig
        self.register_buffer("largest", torch.zeros(()))

    @classmethod
    def from_float(cls, module: nn.Module) -> ObservedScale:
        assert isinstance(module, Scale)
        return cls(module.factor.item(), module.qconfig)

    def forward(self, x: Tensor) -> Tensor:
        self.largest = torch.maximum(self.largest, x.detach().abs().max())
        return x * self.factor


class QuantizedScale(nn.Module):
    """Rounds to 16 steps of what was seen."""

    def __init__(self, factor: float, step: float) -> None:
        super().__init__()
        self.factor, self.step = factor, step

    @classmethod
    def from_observed(cls, module: nn.Module) -> QuantizedScale:
        assert isinstance(module, ObservedScale)
        return cls(module.factor, float(module.largest) / 8)

    def forward(self, x: Tensor) -> Tensor:
        return (x / self.step).round() * self.step * self.factor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.scales = nn.Sequential(Scale(), Scale())
        self.block = Block(4, 4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block(self.scales(self.first(x))))


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def prepared(custom: PrepareCustomConfig, mapping: QConfigMapping = EVERYTHING, data: Tensor = X) -> FxqModule:
    module = fxq.prepare_fx(net(), mapping, data, custom)
    with torch.no_grad():
        module(data)
    return module


OBSERVED = PrepareCustomConfig().set_float_to_observed_mapping(Scale, ObservedScale)
QUANTIZED = ConvertCustomConfig().set_observed_to_quantized_mapping(ObservedScale, QuantizedScale)

# --- custom modules ------------------------------------------------------------------------------------------------------------


def test_custom_modules_are_observed_and_quantized_by_their_own_classes() -> None:
    module = prepared(OBSERVED)
    observed = module.get_submodule("scales.1")
    assert isinstance(observed, ObservedScale) and observed.given == PER_CHANNEL and not observed.training
    int8 = fxq.convert_fx(module, QUANTIZED)
    quantized = int8.get_submodule("scales.1")
    assert isinstance(quantized, QuantizedScale) and quantized.step == float(observed.largest) / 8
    assert "QuantizedScale[scales.1](scales_0)" in print_graph(int8)
    assert torch.isfinite(int8(X)).all() and torch.equal(pickle.loads(pickle.dumps(int8))(X), int8(X))


def test_the_reason_is_in_the_report() -> None:
    report = fxq.report(fxq.convert_fx(prepared(OBSERVED), QUANTIZED))
    reason = report.row("scales_0").reason
    assert reason is not None and reason.why is Why.CUSTOM
    assert report.row("first").kind.value == "int8"


def test_neither_the_users_model_nor_the_prepared_one_is_changed() -> None:
    model = net()
    module = fxq.prepare_fx(model, EVERYTHING, X, OBSERVED)
    assert type(model.scales[0]) is Scale and not hasattr(model.scales[0], "qconfig")
    module(X)
    fxq.convert_fx(module, QUANTIZED)
    assert type(module.get_submodule("scales.0")) is ObservedScale


def test_without_a_qconfig_a_custom_module_stays_as_it_is() -> None:
    mapping = QConfigMapping().set_global(PER_CHANNEL).set_module_name("scales.0", None)
    module = prepared(OBSERVED, mapping)
    assert type(module.get_submodule("scales.0")) is Scale and type(module.get_submodule("scales.1")) is ObservedScale
    reason = fxq.report(module).row("scales_0").reason
    assert reason is not None and reason.why is Why.SWITCHED_OFF
    assert type(fxq.convert_fx(module, QUANTIZED).get_submodule("scales.0")) is Scale


def test_an_observed_module_without_a_quantized_class() -> None:
    with pytest.raises(ConfigError, match=r"custom module scales\.0[\s\S]*set_observed_to_quantized_mapping\(ObservedScale, "):
        fxq.convert_fx(prepared(OBSERVED))


def test_an_observed_class_that_the_model_does_not_have() -> None:
    with pytest.raises(ConfigError, match=r"set_observed_to_quantized_mapping ObservedScale[\s\S]*Scale"):
        fxq.convert_fx(prepared(PrepareCustomConfig()), QUANTIZED)


def test_a_float_class_that_the_model_does_not_have() -> None:
    custom = PrepareCustomConfig().set_float_to_observed_mapping(nn.LSTM, ObservedScale)
    with pytest.raises(ConfigError, match="set_float_to_observed_mapping LSTM"):
        prepared(custom)


def test_a_class_method_that_returns_no_module() -> None:
    class Wrong(nn.Module):
        @classmethod
        def from_float(cls, module: nn.Module) -> int:
            return 3

    with pytest.raises(ConfigError, match=r"Wrong\.from_float[\s\S]*found: *int"):
        prepared(PrepareCustomConfig().set_float_to_observed_mapping(Scale, Wrong))


def test_a_custom_module_cannot_be_turned_off_at_conversion() -> None:
    with pytest.raises(ConfigError, match="from_float"):
        fxq.convert_fx(prepared(OBSERVED), QUANTIZED, qconfig_mapping=QConfigMapping().set_module_name("scales", None))


# --- modules that are not traced into ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "custom",
    [
        PrepareCustomConfig().set_non_traceable_module_names(["scales.0", "scales.1"]),
        PrepareCustomConfig().set_non_traceable_module_classes([Scale]),
        {"non_traceable_module_class": [Scale]},
    ],
    ids=["names", "class", "dict"],
)
def test_non_traceable_modules_stay_one_float_call(custom: PrepareCustomConfig) -> None:
    module = fxq.prepare_fx(net(), EVERYTHING, X, custom)
    assert "Scale[scales.0](first_observer)" not in print_graph(module)  # what only float ops read is not quantized
    assert "Scale[scales.0](first)" in print_graph(module)


# --- standalone modules --------------------------------------------------------------------------------------------------------

INSIDE = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
STANDALONE = PrepareCustomConfig().set_standalone_module_name("block", None, (INSIDE,), None, None)


@pytest.mark.parametrize(
    "custom", [STANDALONE, PrepareCustomConfig().set_standalone_module_class(Block, None, (INSIDE,))], ids=["name", "class"]
)
def test_a_standalone_module_is_a_graph_in_the_graph(custom: PrepareCustomConfig) -> None:
    module = prepared(custom)
    inside = module.get_submodule("block")
    assert isinstance(inside, FxqModule) and inside.stage is Stage.OBSERVED
    int8 = fxq.convert_fx(module)
    inside = int8.get_submodule("block")
    assert isinstance(inside, FxqModule) and inside.stage is Stage.LOWERED
    assert [row.kind.value for row in fxq.report(inside).rows if row.name == "conv"] == ["int8"]
    assert "block: f32[2, 4, 8, 8] = FxqModule[block](first)" in print_graph(int8)  # which takes the two scales in
    assert "not counted: block" in str(fxq.report(int8))
    with torch.no_grad():
        expected = net()(X)
    assert (int8(X) - expected).abs().max() < 0.03 * expected.abs().max()
    for duplicate in (copy.deepcopy(int8), pickle.loads(pickle.dumps(int8))):
        assert torch.equal(duplicate(X), int8(X))


def test_a_standalone_module_converts_to_reference_with_the_model() -> None:
    inside = fxq.convert_to_reference_fx(prepared(STANDALONE)).get_submodule("block")
    assert isinstance(inside, FxqModule) and inside.stage is Stage.REFERENCE


def test_it_has_the_mapping_of_its_own_with_names_inside_it() -> None:
    mapping = QConfigMapping().set_global(PER_CHANNEL).set_module_name("conv", None)
    module = prepared(PrepareCustomConfig().set_standalone_module_name("block", mapping, INSIDE))
    inside = fxq.convert_fx(module).get_submodule("block")
    reason = fxq.report(inside).row("conv").reason
    assert reason is not None and reason.why is Why.SWITCHED_OFF


def test_without_one_it_has_what_the_models_mapping_says_of_it() -> None:
    mapping = QConfigMapping().set_global(PER_CHANNEL).set_module_name("block", None)
    inside = fxq.convert_fx(prepared(STANDALONE, mapping)).get_submodule("block")
    assert fxq.report(inside).totals.heavy_int8 == 0


def test_turned_off_at_conversion_it_is_float_inside() -> None:
    off = QConfigMapping().set_module_name("block", None)
    int8 = fxq.convert_fx(prepared(STANDALONE), qconfig_mapping=off)
    assert fxq.report(int8.get_submodule("block")).totals.heavy_int8 == 0
    assert fxq.report(int8).row("last").kind.value == "int8"


def test_it_has_a_custom_config_of_its_own() -> None:
    own = PrepareCustomConfig().set_non_traceable_module_names(["relu"]).set_preserved_attributes(["training"])
    module = prepared(PrepareCustomConfig().set_standalone_module_name("block", None, INSIDE, own))
    assert module.get_submodule("block").preserved == ("training",)
    with pytest.raises(ConfigError, match='set_non_traceable_module_names "rely"'):
        wrong = PrepareCustomConfig().set_non_traceable_module_names(["rely"])
        prepared(PrepareCustomConfig().set_standalone_module_name("block", None, INSIDE, wrong))


def test_a_name_is_stronger_than_a_class() -> None:
    mapping = QConfigMapping().set_global(None)
    custom = PrepareCustomConfig().set_standalone_module_class(Block, mapping, INSIDE).set_standalone_module_name("block", None, INSIDE)
    assert fxq.report(prepared(custom).get_submodule("block")).totals.heavy_int8 == 1


def test_a_shared_standalone_module_by_its_second_name() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Block(3, 3)
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    module = fxq.prepare_fx(Twice().eval(), EVERYTHING, X, PrepareCustomConfig().set_standalone_module_name("second", None, X))
    assert isinstance(module.get_submodule("first"), FxqModule)
    with torch.no_grad():
        module(X)
    assert torch.isfinite(fxq.convert_fx(module)(X)).all()


def test_an_uncalibrated_standalone_module_is_found() -> None:
    with pytest.raises(CalibrationError):
        fxq.convert_fx(fxq.prepare_fx(net(), EVERYTHING, X, STANDALONE))


# --- preserved attributes ------------------------------------------------------------------------------------------------------


def test_attributes_preserved_by_either_config() -> None:
    class Model(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Conv2d(3, 3, 1))
            self.classes = ["cat", "dog"]
            self.register_buffer("mean", torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return self[0](x)

    module = fxq.prepare_fx(Model().eval(), EVERYTHING, X, PrepareCustomConfig().set_preserved_attributes(["classes", "mean"]))
    module(X)
    module.note = "calibrated"
    int8 = fxq.convert_fx(module, ConvertCustomConfig().set_preserved_attributes(["note"]))
    assert int8.classes == ["cat", "dog"] and int8.note == "calibrated" and torch.equal(int8.mean, torch.ones(3))
    with pytest.raises(ConfigError, match=r'set_preserved_attributes "node"[\s\S]*\'note\''):
        fxq.convert_fx(module, {"preserved_attributes": ["node"]})
    fused = fxq.fuse_fx(Model().eval(), X, fxq.FuseCustomConfig().set_preserved_attributes(["mean"]))
    assert torch.equal(fused.mean, torch.ones(3)) and not hasattr(fused, "classes")


# --- original weights ----------------------------------------------------------------------------------------------------------


def test_original_weights_are_the_fused_float_ones_by_path() -> None:
    model = residual()
    module = fxq.prepare_fx(model, QConfigMapping().set_global(PER_CHANNEL).set_module_name("fc", None), X)
    module(X)
    int8 = fxq.convert_fx(module, keep_original_weights=True)
    fused = fxq.fuse_fx(model, X)
    assert set(int8.original_weights_lookup) == {"stem.conv", "body.0.conv", "body.1"}
    for path, kept in int8.original_weights_lookup.items():
        assert isinstance(kept, OriginalWeights) and int8.get_submodule(path) is not None
        weight, bias = kept
        assert torch.equal(weight, tensor_at(fused, f"{path}.weight"))
        assert bias is not None and torch.equal(bias, tensor_at(fused, f"{path}.bias"))
    assert set(int8.state_dict()) == set(fxq.convert_fx(module).state_dict())
    assert fxq.convert_fx(module).original_weights_lookup == {}
    assert torch.equal(pickle.loads(pickle.dumps(int8)).original_weights_lookup["body.1"].weight, model.body[1].weight)


def test_original_weights_of_functions_and_without_bias() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(2, 3))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.w)

    model, x = Model().eval(), torch.randn(4, 3)
    module = fxq.prepare_fx(model, EVERYTHING, x)
    module(x)
    int8 = fxq.convert_fx(module, keep_original_weights=True)
    weight, bias = int8.original_weights_lookup["linear"]
    assert torch.equal(weight, model.w) and bias is None and int8.get_submodule("linear") is not None


# --- strict --------------------------------------------------------------------------------------------------------------------


def test_strict_reaches_standalone_modules_and_quantize() -> None:
    class Odd(Block):
        def forward(self, x: Tensor) -> Tensor:
            return nn.Sequential.__call__(self.wrapped, x)

        def __init__(self) -> None:
            super().__init__(3, 3)
            self.wrapped = nn.Sequential(Branch())

    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    model = nn.Sequential(nn.Conv2d(3, 3, 1), Odd()).eval()
    custom = PrepareCustomConfig().set_standalone_module_name("1", None, X)
    fxq.prepare_fx(model, EVERYTHING, X, custom)
    with pytest.raises(CaptureError, match=r"submodule 'wrapped\.0'"):
        fxq.prepare_fx(model, EVERYTHING, X, custom, strict=True)
    fxq.quantize(model, [X], progress=False)
    with pytest.raises(CaptureError, match=r"submodule '1\.wrapped\.0'"):
        fxq.quantize(model, [X], progress=False, strict=True)
