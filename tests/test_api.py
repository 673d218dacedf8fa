"""The calls that take a user from float to int8."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import quantize_fx
from torch.utils.data import DataLoader, TensorDataset

import fxq
from fxq.errors import CalibrationError, CaptureError, ConfigError, StageError
from fxq.graph.annotation import quant_of
from fxq.graph.module import FxqModule
from fxq.graph.reasons import Why
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.observers import MovingAverageMinMaxObserver, Observer, PerChannelMinMaxObserver
from fxq.patterns.fusions import FUSIONS
from fxq.qconfig_mapping import QConfig, QConfigMapping
from tests.passes.cases import residual

MAPPING = fxq.get_default_qconfig_mapping("x86")


def batches(count: int = 4, size: int = 2, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 3, 8, 8, generator=generator) for _ in range(count)]


def prepared(profile: str = "x86") -> FxqModule:
    return fxq.prepare_fx(residual(), fxq.get_default_qconfig_mapping(profile), batches(1)[0], profile=profile)


def calibrated(profile: str = "x86") -> FxqModule:
    module = prepared(profile)
    fxq.calibrate(module, batches(), progress=False)
    return module


def run(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = module(x)
    return result


def snapshot(module: nn.Module) -> list[object]:
    """Everything that a call could change: modules, tensors bit by bit, training flags."""
    tensors = {key: (value.data_ptr(), value.clone()) for key, value in module.state_dict(keep_vars=True).items()}
    flags = [(name, id(each), each.training) for name, each in module.named_modules()]
    return [flags, {key: pointer for key, (pointer, _) in tensors.items()}, {key: value for key, (_, value) in tensors.items()}]


def same(before: list[object], after: list[object]) -> bool:
    values = zip(before[2].values(), after[2].values(), strict=True)  # type: ignore[attr-defined]
    return before[:2] == after[:2] and all(torch.equal(a, b) for a, b in values)


# --- nothing is changed that the user holds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "call",
    [
        lambda model: fxq.fuse_fx(model, batches(1)[0]),
        lambda model: fxq.prepare_fx(model, MAPPING, batches(1)[0]),
        lambda model: fxq.quantize(model, batches(), progress=False),
        lambda model: fxq.calibrate(fxq.prepare_fx(model, MAPPING, batches(1)[0]), batches(), progress=False),
    ],
    ids=["fuse_fx", "prepare_fx", "quantize", "calibrate"],
)
def test_the_users_model_is_not_changed(call: Callable[[nn.Module], object], training: bool) -> None:
    model = residual().train(training)
    before = snapshot(model)
    call(model)
    assert same(before, snapshot(model))


@pytest.mark.parametrize("convert", [fxq.convert_fx, fxq.convert_to_reference_fx])
def test_the_prepared_model_is_not_changed(convert: Callable[[FxqModule], FxqModule]) -> None:
    module = calibrated()
    before, graph, x = snapshot(module), print_graph(module), batches(1, seed=9)[0]
    expected = run(convert(module), x)
    assert same(before, snapshot(module))
    assert (print_graph(module), module.stage) == (graph, Stage.OBSERVED)
    assert torch.equal(run(convert(module), x), expected)


def test_preparing_again_after_training_on_takes_the_new_weights() -> None:
    model = residual()
    first = fxq.quantize(model, batches(), progress=False)
    with torch.no_grad():
        model.fc.weight.mul_(2.0)  # type: ignore[union-attr, operator]
    second = fxq.quantize(model, batches(), progress=False)
    x = batches(1, seed=9)[0]
    assert not torch.equal(run(first, x), run(second, x))


def test_gradients_are_not_asked_for() -> None:
    for module in (calibrated(), fxq.convert_fx(calibrated())):
        assert not run(module, batches(1)[0]).requires_grad


# --- one call, and batches in every form ---------------------------------------------------------------------------------------


def generator_of_batches() -> Iterator[Tensor]:
    yield from batches()


FORMS: dict[str, Callable[[], Any]] = {
    "list of tensors": batches,
    "tuples": lambda: [(x,) for x in batches()],
    "dicts": lambda: [{"x": x} for x in batches()],
    "generator": generator_of_batches,
    "DataLoader": lambda: DataLoader(TensorDataset(torch.cat(batches())), batch_size=2),
}


@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_quantize_is_prepare_calibrate_convert(form: Callable[[], Any], profile: str) -> None:
    found = fxq.quantize(residual(), form(), profile, progress=False)
    expected = fxq.convert_fx(calibrated(profile))
    assert found.stage is Stage.LOWERED
    assert print_graph(found) == print_graph(expected)
    x = batches(1, seed=9)[0]
    assert torch.equal(run(found, x), run(expected, x))


def test_a_mapping_and_a_dict_of_it() -> None:
    mapping = fxq.get_default_qconfig_mapping().set_module_name("fc", None)
    for given in (mapping, mapping.to_dict()):
        found = fxq.quantize(residual(), batches(), qconfig_mapping=given, progress=False)
        assert isinstance(found.get_submodule("body.1"), nn.Module)
        assert found.state_dict()["fc.weight"].dtype is torch.float32


def test_no_batches() -> None:
    with pytest.raises(CalibrationError, match="calibration_batches\n  expected: at least one batch\n  found:    none"):
        fxq.quantize(residual(), [], progress=False)
    read = iter(batches())
    list(read)
    with pytest.raises(CalibrationError, match="an iterator that was read before is empty"):
        fxq.quantize(residual(), read, progress=False)


def test_batches_with_labels_say_how_to_drop_them() -> None:
    labelled = [(x, torch.zeros(2)) for x in batches()]
    with pytest.raises(CaptureError, match=r"found:    2 positional\n  do: .*of an \(input, label\) pair only the input"):
        fxq.quantize(residual(), labelled, progress=False)
    with pytest.raises(CalibrationError, match=r"calibration batch 0\n[^$]*without labels"):
        fxq.calibrate(prepared(), labelled, progress=False)


def test_a_batch_that_does_not_fit_is_numbered() -> None:
    with pytest.raises(CalibrationError, match="calibration batch 2"):
        fxq.calibrate(prepared(), [*batches(2), torch.zeros(2, 5, 8, 8)], progress=False)


# --- wrong stages and options --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [fxq.convert_fx, fxq.convert_to_reference_fx])
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (residual, "a Residual"),
        (lambda: fxq.fuse_fx(residual(), batches(1)[0]), "stage FUSED"),
        (lambda: fxq.convert_to_reference_fx(calibrated()), "stage REFERENCE"),
        (lambda: fxq.convert_fx(calibrated()), "stage LOWERED"),
    ],
    ids=["float", "fused", "reference", "lowered"],
)
def test_converting_what_is_not_prepared(convert: Callable[[Any], Any], make: Callable[[], nn.Module], found: str) -> None:
    with pytest.raises(StageError) as caught:
        convert(make())
    assert (caught.value.where, caught.value.found) == (convert.__name__, found)
    assert caught.value.remedy == "pass the model that prepare_fx returned; convert it once"


@pytest.mark.parametrize("make", [prepared, lambda: fxq.convert_fx(calibrated())], ids=["prepared", "converted"])
def test_preparing_what_is_prepared(make: Callable[[], FxqModule]) -> None:
    with pytest.raises(StageError, match="expected: the float model"):
        fxq.prepare_fx(make(), MAPPING, batches(1)[0])


def test_options_of_the_wrong_kind() -> None:
    with pytest.raises(ConfigError, match="profile\n  expected: one of 'x86', 'qnnpack'\n  found:    'gpu'"):
        fxq.prepare_fx(residual(), MAPPING, batches(1)[0], profile="gpu")
    with pytest.raises(ConfigError, match="qconfig_mapping\n  expected: a QConfigMapping"):
        fxq.prepare_fx(residual(), "x86", batches(1)[0])  # type: ignore[arg-type]


# --- data that cannot be used --------------------------------------------------------------------------------------------------


def test_nan_in_calibration_names_tensor_and_batch() -> None:
    poisoned = batches()
    poisoned[2][0, 1, 2, 3] = float("nan")
    with pytest.raises(CalibrationError, match="tensor 'x', batch 3\n  expected: finite values\n  found:    NaN"):
        fxq.quantize(residual(), poisoned, progress=False)


def test_infinity_inside_the_model_names_the_layer() -> None:
    model = residual()
    with torch.no_grad():
        model.body[1].bias[0] = float("inf")  # type: ignore[index, union-attr]
    with pytest.raises(CalibrationError, match="tensor 'body_1', batch 1"):
        fxq.quantize(model, batches(), progress=False)


def test_never_calibrated_names_the_observer() -> None:
    with pytest.raises(CalibrationError) as caught:
        fxq.convert_fx(prepared())
    assert (caught.value.where, caught.value.found) == ("tensor 'x'", "HistogramObserver never saw data")


# --- use -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (5, 3, 8, 8), (2, 3, 16, 12), (1, 3, 3, 5)], ids=str)
@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
def test_other_batch_and_image_sizes(shape: tuple[int, ...], profile: str) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    module = calibrated(profile)
    expected, reference, lowered = run(residual(), x), run(fxq.convert_to_reference_fx(module), x), run(fxq.convert_fx(module), x)
    assert lowered.shape == expected.shape
    # steps of the float result are the accumulators': what is compared is the signal that is left, in dB
    assert sqnr(expected, lowered) > 18
    assert sqnr(reference, lowered) > 40


def sqnr(expected: Tensor, found: Tensor) -> float:
    return float(10 * torch.log10(expected.square().sum() / (expected - found).square().sum().clamp(min=1e-30)))


@pytest.mark.parametrize(
    "make", [prepared, calibrated, lambda: fxq.convert_to_reference_fx(calibrated()), lambda: fxq.convert_fx(calibrated())]
)
def test_an_empty_batch(make: Callable[[], FxqModule]) -> None:
    assert run(make(), torch.zeros(0, 3, 8, 8)).shape == (0, 5)


@pytest.mark.parametrize("stage", ["lowered", "reference"])
@pytest.mark.parametrize(
    "laid_out",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.flip(3).flip(3),
        lambda x: x.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2),
        lambda x: torch.cat([x, x], 3)[..., : x.shape[3]],
        lambda x: x[:1].expand(4, -1, -1, -1),
    ],
    ids=["channels_last", "flipped twice", "transposed", "slice", "expanded"],
)
def test_the_layout_of_the_input_does_not_matter(laid_out: Callable[[Tensor], Tensor], stage: str) -> None:
    x = laid_out(batches(1, size=4, seed=9)[0])
    if stage == "lowered":
        module = fxq.convert_fx(calibrated())
        assert torch.equal(run(module, x), run(module, x.clone(memory_format=torch.contiguous_format)))
    else:
        module = fxq.convert_to_reference_fx(calibrated())
        assert sqnr(run(module, x.contiguous()), run(module, x)) > 40


@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
def test_bits_do_not_depend_on_threads_and_batch_split(profile: str) -> None:
    module, x = fxq.convert_fx(calibrated(profile)), batches(1, size=8, seed=9)[0]
    expected, threads = run(module, x), torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for size in (1, 3, 8):
                assert torch.equal(torch.cat([run(module, part) for part in x.split(size)]), expected)
    finally:
        torch.set_num_threads(threads)


def test_training_mode_and_double_change_nothing() -> None:
    module, x = fxq.convert_fx(calibrated()), batches(1, seed=9)[0]
    expected = run(module, x)
    assert torch.equal(run(module.train(), x), expected)
    assert torch.equal(run(module.double(), x), expected)


# --- copies and files ----------------------------------------------------------------------------------------------------------


def by_torch_save(module: FxqModule) -> FxqModule:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert isinstance(loaded, FxqModule)
    return loaded


COPIES: dict[str, Callable[[FxqModule], FxqModule]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": by_torch_save,
}
STAGES: dict[str, Callable[[], FxqModule]] = {
    "observed": calibrated,
    "reference": lambda: fxq.convert_to_reference_fx(calibrated()),
    "lowered": lambda: fxq.convert_fx(calibrated()),
    "lowered for qnnpack": lambda: fxq.convert_fx(calibrated("qnnpack")),
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("make", STAGES.values(), ids=STAGES)
def test_a_copy_gives_the_same_outputs(make: Callable[[], FxqModule], duplicate: Callable[[FxqModule], FxqModule]) -> None:
    module, x = make(), batches(1, seed=9)[0]
    copied = duplicate(module)
    assert (copied.stage, copied.profile, print_graph(copied)) == (module.stage, module.profile, print_graph(module))
    assert torch.equal(run(copied, x), run(module, x))


@pytest.mark.parametrize("make", STAGES.values(), ids=STAGES)
def test_a_state_dict_carries_all_that_depends_on_data(make: Callable[[], FxqModule]) -> None:
    module, x = make(), batches(1, seed=9)[0]
    other = copy.deepcopy(module)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(module.state_dict())
    assert torch.equal(run(other, x), run(module, x))


def test_calibration_moves_by_state_dict() -> None:
    fresh, x = prepared(), batches(1, seed=9)[0]
    fresh.load_state_dict(calibrated().state_dict())
    assert torch.equal(run(fxq.convert_fx(fresh), x), run(fxq.convert_fx(calibrated()), x))


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_of_the_prepared_model_converts_to_the_same(duplicate: Callable[[FxqModule], FxqModule]) -> None:
    x = batches(1, seed=9)[0]
    assert torch.equal(run(fxq.convert_fx(duplicate(calibrated())), x), run(fxq.convert_fx(calibrated()), x))


# --- shards --------------------------------------------------------------------------------------------------------------------


def observers(module: FxqModule) -> dict[str, Observer]:
    return {name: each for name, each in module.named_modules() if isinstance(each, Observer)}


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_merged_shards_are_one_pass(cut: int) -> None:
    whole = calibrated()
    left, right = prepared(), prepared()
    fxq.calibrate(left, batches()[:cut], progress=False)
    fxq.calibrate(right, batches()[cut:], progress=False)
    others = observers(right)
    for name, observer in observers(left).items():
        observer.merge(others[name])
    merged, expected = fxq.convert_fx(left), fxq.convert_fx(whole)
    assert print_graph(merged) == print_graph(expected)
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in merged.state_dict().items())


def test_a_moving_average_depends_on_order_and_says_so() -> None:
    qconfig = QConfig(activation=MovingAverageMinMaxObserver, weight=PerChannelMinMaxObserver)
    made = [fxq.prepare_fx(residual(), QConfigMapping().set_global(qconfig), batches(1)[0]) for _ in range(2)]
    left, right = (next(iter(observers(module).values())) for module in made)
    with pytest.raises(ConfigError, match="depends on that order"):
        left.merge(right)


def test_a_model_in_training_mode_says_what_to_do() -> None:
    module = fxq.prepare_fx(residual().train(), MAPPING, batches(1)[0])
    reasons = {quant.reason for node in module.graph.nodes if (quant := quant_of(node)) is not None and quant.reason is not None}
    assert {reason.why for reason in reasons} == {Why.NO_ELEMENTS, Why.TRAINING}


# --- the calls of torch.ao -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prepare_fx", "convert_fx", "convert_to_reference_fx"])
def test_what_is_passed_by_position_to_torch_ao_is_passed_by_position_here(name: str) -> None:
    """Names may differ for the first one, the model. torch.ao's private and backend parameters come behind, and don't exist here."""
    theirs = list(inspect.signature(getattr(quantize_fx, name)).parameters)
    ours = inspect.signature(getattr(fxq, name)).parameters.values()
    positional = [parameter.name for parameter in ours if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional[1:] == theirs[1 : len(positional)] and len(positional) >= 2
    by_keyword = {parameter.name for parameter in ours if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
    missing = {"_equalization_config", "backend_config", "_remove_qconfig"}
    assert set(theirs[len(positional) :]) - missing <= by_keyword


@pytest.mark.parametrize(
    ("arguments", "found"), [((), "none"), ((fxq.FuseCustomConfig(),), "a FuseCustomConfig in their place")], ids=["alone", "with config"]
)
def test_fuse_fx_as_torch_ao_has_it_says_what_is_missing(arguments: tuple[Any, ...], found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fxq.fuse_fx(residual(), *arguments)
    assert caught.value.found == found and "example_inputs" in caught.value.remedy


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda: fxq.prepare_fx(residual(), MAPPING, batches(1)[0], 3), "prepare_custom_config"),  # type: ignore[arg-type]
        (lambda: fxq.convert_fx(calibrated(), fxq.PrepareCustomConfig()), "convert_custom_config"),  # type: ignore[arg-type]
        (lambda: fxq.fuse_fx(residual(), batches(1)[0], fxq.PrepareCustomConfig()), "fuse_custom_config"),  # type: ignore[arg-type]
    ],
)
def test_a_custom_config_of_the_wrong_kind(call: Callable[[], object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert caught.value.where == where


@pytest.mark.parametrize("rules", [FUSIONS[0], "conv_bn", ["conv_bn"], None], ids=["one", "name", "names", "None"])
def test_rules_of_the_wrong_kind(rules: Any) -> None:
    with pytest.raises(ConfigError, match="a list of Rules"):
        fxq.prepare_fx(residual(), MAPPING, batches(1)[0], rules=rules)


def test_quantize_unwraps_data_parallel() -> None:
    x = batches(1)[0]
    assert torch.equal(
        fxq.quantize(nn.DataParallel(residual()), batches(), progress=False)(x), fxq.quantize(residual(), batches(), progress=False)(x)
    )
