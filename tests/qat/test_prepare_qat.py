"""prepare_qat_fx, training, convert_fx: what is deployed computes what training simulated."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import CalibrationError, ConfigError, StageError
from fxq.graph.annotation import quant_of
from fxq.observers import MinMaxObserver
from fxq.qat.fake_quantize import FakeQuantize
from fxq.qat.learned import get_lsq_qconfig
from fxq.qat.switches import disable_fake_quant, disable_observer, freeze_bn_stats, update_bn_stats
from fxq.qat.trained import TrainedNorm, TrainedOp
from tests.qat.cases import X86, Residual, batches, conv_bn, fit, prepared, small, step
from tests.qat.roundings import different_roundings

LSQ = fxq.QConfigMapping().set_global(get_lsq_qconfig())


@pytest.mark.parametrize("mapping", [X86, LSQ], ids=["moving average", "lsq"])
@pytest.mark.parametrize("build", [small, Residual])
def test_int8_model_rounds_as_simulated(build: type[nn.Module], mapping: fxq.QConfigMapping) -> None:
    """But for values nearer to the middle of two integers than sums of floats in another order and multipliers of 22 bits are exact."""
    qat = prepared(build(), mapping)
    fit(qat, batches(20))
    x = batches(1, 64)[0][0]
    found = different_roundings(qat.eval(), x, alone=True)
    assert found.share < 1e-4 and found.worst <= 1
    assert different_roundings(qat, x).share < 1e-3


@pytest.mark.parametrize("mapping", [X86, LSQ], ids=["moving average", "lsq"])
@pytest.mark.parametrize("build", [small, Residual])
def test_reference_model_has_the_bits_of_the_simulation(build: type[nn.Module], mapping: fxq.QConfigMapping) -> None:
    """The reference graph is made of the same float ops on the same rounded values."""
    qat = prepared(build(), mapping)
    fit(qat, batches(20))
    qat.eval()
    x = batches(1, 64)[0][0]
    assert torch.equal(qat(x), fxq.convert_to_reference_fx(qat)(x))


def test_bias_is_rounded_to_what_32_bits_hold() -> None:
    """A layer of few products has large steps for its bias: a few hundred of them are one of the result."""
    qat = fxq.prepare_qat_fx(
        nn.Sequential(nn.Conv2d(3, 3, 1, groups=3), nn.ReLU(), nn.Linear(4, 2)).train(), X86, (torch.randn(2, 3, 4, 4),)
    )
    qat(torch.randn(8, 3, 4, 4))
    op, bias = next(module for module in qat.modules() if isinstance(module, TrainedOp)), qat.get_parameter("0.bias")
    rounded = op.round_bias(bias)
    assert rounded is not None and op.weight_fake_quant is not None and not torch.equal(rounded, bias)
    steps = rounded / (op.input_fake_quant[0].scale * op.weight_fake_quant.scale)
    torch.testing.assert_close(steps, steps.round(), rtol=1e-6, atol=0)
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    assert bias.grad is not None and bias.grad.tolist() == [1, 1, 1]
    qat.apply(disable_fake_quant)
    assert op.round_bias(bias) is bias


def test_copied_op_knows_the_copied_module_of_its_input() -> None:
    twin = copy.deepcopy(prepared(small()))
    found = [module.input_fake_quant[0] for module in twin.modules() if isinstance(module, TrainedOp)]
    assert len(found) == 3 and set(found) < set(twin.modules())


def test_same_decisions_as_calibration() -> None:
    def decisions(module: fxq.FxqModule) -> dict[str, tuple[bool, object]]:
        found = {node.name: quant_of(node) for node in module.graph.nodes}
        return {name: (quant.is_int8, quant.output) for name, quant in found.items() if quant is not None and quant.rule != "observer"}

    model = Residual()
    calibrated = fxq.prepare_fx(copy.deepcopy(model).eval(), X86, (torch.randn(2, 3, 8, 8),))
    trained = decisions(prepared(model))
    del trained["dropout"]  # which drops
    assert trained == decisions(calibrated)


def test_loss_falls_and_model_converts() -> None:
    qat = prepared(small())
    losses = fit(qat, batches(60))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    int8 = fxq.convert_fx(qat)
    assert int8.stage is fxq.Stage.LOWERED
    assert type(int8.get_submodule("0")).__name__ == "Conv"


def test_without_rounding_it_is_float_training() -> None:
    """Forward, gradients and running statistics are those of the float model."""
    model = Residual()
    model.dropout.p = 0.0
    qat = prepared(model)
    qat.apply(disable_fake_quant)
    x = batches(1)[0][0]
    for each in (model, qat):
        each.zero_grad()
        each(x).square().sum().backward()
    torch.testing.assert_close(qat(x), model(x), rtol=1e-4, atol=1e-5)
    float_state = model.state_dict()
    for name, value in qat.state_dict().items():
        if not name.startswith("fxq_qat."):
            torch.testing.assert_close(value, float_state[name], rtol=1e-4, atol=1e-5)
    of_float = dict(model.named_parameters())
    for name, parameter in qat.named_parameters():
        torch.testing.assert_close(parameter.grad, of_float[name].grad, rtol=1e-3, atol=1e-4)


def test_gain_of_0_is_finite_and_trains() -> None:
    model = small()
    nn.init.zeros_(model[1].weight)  # type: ignore[arg-type]
    nn.init.constant_(model[1].bias, 0.5)  # type: ignore[arg-type]  # where relu6 has a gradient
    qat = prepared(model)
    losses = fit(qat, batches(5))
    gamma = dict(qat.named_parameters())["1.weight"]
    assert all(torch.isfinite(torch.tensor(losses)))
    assert bool(torch.isfinite(gamma).all()) and int((gamma != 0).sum()) == 8
    with torch.no_grad():
        gamma.zero_()
    int8 = fxq.convert_fx(qat)
    assert bool(torch.isfinite(int8(batches(1)[0][0])).all())


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    qat = prepared(small())
    fit(qat, batches(3))
    qat.apply(freeze_bn_stats)
    before = {name: value.clone() for name, value in qat.named_buffers() if "running" in name}
    gamma = dict(qat.named_parameters())["1.weight"].clone()
    fit(qat, batches(3))
    assert all(torch.equal(value, before[name]) for name, value in qat.named_buffers() if name in before)
    assert not torch.equal(dict(qat.named_parameters())["1.weight"], gamma)
    qat.apply(update_bn_stats)
    fit(qat, batches(1))
    assert not torch.equal(dict(qat.named_buffers())["1.running_mean"], before["1.running_mean"])


def test_batch_norms_in_evaluation_mode_start_frozen() -> None:
    model = small().train()
    model[1].eval()
    frozen = {module.path: module.frozen for module in prepared_as_is(model).modules() if isinstance(module, TrainedNorm)}
    assert frozen == {"1": True, "4": False}


def prepared_as_is(model: nn.Module) -> fxq.FxqModule:
    return fxq.prepare_qat_fx(model, X86, (torch.randn(2, 3, 8, 8),))


def test_cumulative_batch_norm() -> None:
    """momentum None: all batches weigh the same."""
    model = nn.Sequential(*conv_bn(3, 4), nn.ReLU(), nn.Conv2d(4, 4, 1))
    model[1].momentum = None
    qat = prepared(model)
    qat.apply(disable_fake_quant)
    for images, _ in batches(3):
        model(images)
        qat(images)
    torch.testing.assert_close(qat.state_dict()["1.running_var"], model.state_dict()["1.running_var"], rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 2, 1)], (8, 4, 9)),
        ([nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 1)], (4, 2, 4, 4, 4)),
        ([nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)], (16, 5)),
        ([nn.ConvTranspose2d(4, 6, 2, groups=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)], (4, 4, 5, 5)),
    ],
    ids=["conv1d", "conv3d", "linear", "grouped conv_transpose2d"],
)
def test_every_fusion_trains_and_converts(layers: list[nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    qat = fxq.prepare_qat_fx(nn.Sequential(*layers).train(), X86, (x,))
    assert sum(isinstance(module, TrainedOp) and module.norm is not None for module in qat.modules()) == 1
    optimizer = torch.optim.SGD(qat.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        qat(x).square().mean().backward()
        optimizer.step()
    qat.eval()
    int8 = fxq.convert_fx(qat)
    with torch.no_grad():
        simulated, deployed = qat(x), int8(x)
    assert different_roundings(qat, x).share < 1e-3
    assert float((simulated - deployed).square().sum() / simulated.square().sum()) < 1e-4


def test_gradient_accumulation() -> None:
    """Two backward passes add up as in float training."""
    qat, (x, _) = prepared(small()), batches(1)[0]
    qat.apply(freeze_bn_stats)
    qat(x)
    gradients = []
    for times in (1, 2):
        qat.zero_grad()
        for _ in range(times):
            qat(x).sum().backward()
        gradients.append(next(qat.parameters()).grad.clone())  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[1], 2 * gradients[0], rtol=1e-2, atol=1e-4)


def test_dropout_follows_the_mode() -> None:
    qat = prepared(Residual())
    fit(qat, batches(2))
    x = batches(1)[0][0]
    assert not torch.equal(qat(x), qat(x))
    qat.eval()
    assert torch.equal(qat(x), qat(x))


def test_layer_that_is_kept_float_still_has_its_batch_norm_trained_and_folded() -> None:
    mapping = fxq.get_default_qat_qconfig_mapping("x86").set_module_name("0", None)
    qat = prepared(small(), mapping)
    fit(qat, batches(3))
    qat.eval()
    int8 = fxq.convert_fx(qat)
    x = batches(1)[0][0]
    assert isinstance(int8(x), Tensor)
    assert not any(isinstance(module, TrainedOp | TrainedNorm | FakeQuantize) for module in int8.modules())


def test_any_qconfig_can_be_trained_with() -> None:
    mapping = fxq.QConfigMapping().set_global(fxq.QConfig(MinMaxObserver, MinMaxObserver))
    qat = prepared(small(), mapping)
    fit(qat, batches(3))
    assert fxq.convert_fx(qat.eval()).stage is fxq.Stage.LOWERED


# --- what can go wrong -----------------------------------------------------------------------------------------------------


def test_evaluation_mode_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"(?s)training mode.*model.train\(\)"):
        prepared_as_is(small().eval())


def test_convert_before_any_step_is_an_error() -> None:
    with pytest.raises(CalibrationError, match="at least one training step"):
        fxq.convert_fx(prepared(small()))


def test_wrapped_model_is_not_converted() -> None:
    with pytest.raises(StageError, match=r"(?s)OBSERVED.*DataParallel.*prepare_fx returned"):
        fxq.convert_fx(nn.DataParallel(prepared(small())))  # type: ignore[arg-type]


def test_nan_in_training_is_an_error_that_says_where() -> None:
    qat = prepared(small())
    fit(qat, batches(1))
    with torch.no_grad():
        next(qat.parameters()).fill_(float("nan"))
    with pytest.raises(CalibrationError, match=r"(?s)weight of _0.*learning rate"):
        qat(batches(1)[0][0])


def _diverge(qat: fxq.FxqModule) -> None:
    """One step with a loss that is NaN."""
    images, labels = batches(1)[0]
    step(lambda x: qat(x) * float("nan"), (images, labels), torch.optim.SGD(qat.parameters(), lr=0.1))


def test_learned_scales_that_become_nan_are_an_error_in_the_next_step() -> None:
    qat = prepared(small(), LSQ)
    fit(qat, batches(2))
    _diverge(qat)
    with pytest.raises(CalibrationError, match=r"(?s)finite scale.*learning rate"):
        qat(batches(1)[0][0])


@pytest.mark.parametrize("mapping", [X86, LSQ], ids=["moving average", "lsq"])
def test_weights_that_became_nan_behind_frozen_ranges_are_not_converted(mapping: fxq.QConfigMapping) -> None:
    qat = prepared(small(), mapping)
    fit(qat, batches(2))
    qat.apply(disable_observer)
    _diverge(qat)
    with pytest.raises(CalibrationError, match=r"(?s)weight of _0.*NaN.*learning rate"):
        fxq.convert_fx(qat)


def test_optimizer_of_the_float_model_is_warned_of() -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    qat = prepared(model)
    fit(qat, batches(2), optimizer)
    with pytest.warns(UserWarning, match=r"prepared\.parameters\(\)") as warned:
        fxq.convert_fx(qat)
    assert [each.filename for each in warned] == [__file__]


def test_trained_model_is_not_warned_of() -> None:
    qat = prepared(small())
    fit(qat, batches(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fxq.convert_fx(qat)
