"""What export_onnx writes, what it refuses, and that it writes all or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import fxq
from fxq.export.export import OPSETS
from tests.export.runtime import run_onnx, session


class Net(nn.Module):
    """A convolution with a residual sum, a pool and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.stem(x))
        y = torch.relu(self.conv(y) + y)
        return torch.log_softmax(self.fc(y.mean((2, 3))), 1)


class Of(nn.Module):
    """A function behind a linear layer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.fc, self.function = nn.Linear(6, 6), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.fc(x))


class Boxes(NamedTuple):
    left: Tensor
    right: Tensor


X = torch.randn(4, 3, 10, 10, generator=torch.Generator().manual_seed(1))
ROWS = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))


def quantized(model: nn.Module, *inputs: Any, **options: Any) -> fxq.FxqModule:
    return fxq.quantize(model, [inputs], progress=False, **options)


@pytest.fixture(scope="module")
def net() -> fxq.FxqModule:
    torch.manual_seed(0)
    return quantized(Net().eval(), X)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def tensors(path: Path) -> Mapping[str, Any]:
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


def test_runs_on_batches_of_any_size(net: fxq.FxqModule, path: Path) -> None:
    fxq.export_onnx(net, path, (X[:1],))
    for count in (1, 2, 4):
        (found,) = run_onnx(path, X[:count])
        torch.testing.assert_close(found, net(X[:count]), rtol=0, atol=1e-5)
    assert session(path).get_inputs()[0].shape == ["batch", 3, 10, 10]
    assert session(path).get_outputs()[0].shape == ["batch", 5]


def test_examples_are_those_of_prepare_where_none_are_given(net: fxq.FxqModule, path: Path) -> None:
    fxq.export_onnx(net, path, dynamic_batch=False)
    assert session(path).get_inputs()[0].shape == [4, 3, 10, 10]
    torch.testing.assert_close(run_onnx(path, X)[0], net(X), rtol=0, atol=1e-5)


def test_other_sizes_of_images(net: fxq.FxqModule, path: Path) -> None:
    large = torch.randn(2, 3, 21, 17)
    fxq.export_onnx(net, path, (large,))
    torch.testing.assert_close(run_onnx(path, large)[0], net(large), rtol=0, atol=1e-5)


def test_weights_are_int8_per_channel_and_biases_int32(net: fxq.FxqModule, path: Path) -> None:
    fxq.export_onnx(net, path)
    found = tensors(path)
    assert found["stem.weight"].dtype == "int8" and found["stem.weight"].shape == (8, 3, 3, 3)
    assert found["stem.weight_scale"].shape == (8,) and found["stem.bias"].dtype == "int32"
    assert found["stem.bias_scale"].shape == (8,)
    assert {node.op_type for node in onnx.load(path).graph.node} >= {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm", "LogSoftmax"}


def test_a_reference_model_gives_the_same_file(path: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    prepared = fxq.prepare_fx(Net().eval(), fxq.get_default_qconfig_mapping(), (X,))
    prepared(X)
    fxq.export_onnx(fxq.convert_to_reference_fx(prepared), path)
    fxq.export_onnx(fxq.convert_fx(prepared), tmp_path / "lowered.onnx")
    for name, values in tensors(path).items():
        again = tensors(tmp_path / "lowered.onnx")[name]
        assert again.dtype == values.dtype and abs(again - values).max() <= 1e-6 * abs(values).max(), name


def test_a_model_from_a_file_gives_the_same_file(net: fxq.FxqModule, path: Path, tmp_path: Path) -> None:
    fxq.save(net, tmp_path / "net.fxq")
    fxq.export_onnx(net, path)
    fxq.export_onnx(fxq.load(tmp_path / "net.fxq"), tmp_path / "loaded.onnx")
    assert path.read_bytes() == (tmp_path / "loaded.onnx").read_bytes()


def test_model_is_not_changed(net: fxq.FxqModule, path: Path) -> None:
    before, expected = fxq.print_graph(net), net(X)
    fxq.export_onnx(net, path)
    assert fxq.print_graph(net) == before and torch.equal(net(X), expected)


def test_summary(net: fxq.FxqModule, path: Path) -> None:
    found = fxq.export_onnx(net, path)
    assert (found.path, found.opset, found.inputs, found.outputs) == (path, 17, ("x",), ("output",))
    assert found.bytes == path.stat().st_size and found.quantized == 4
    assert [reason.node for reason in found.stays_float if reason.node == "log_softmax"] == ["log_softmax"]


@pytest.mark.parametrize("opset", OPSETS)
def test_opsets(net: fxq.FxqModule, path: Path, opset: int) -> None:
    fxq.export_onnx(net, path, opset=opset)
    assert onnx.load(path).opset_import[0].version == opset
    torch.testing.assert_close(run_onnx(path, X)[0], net(X), rtol=0, atol=1e-5)


SIZES = {
    "times": lambda y: y.reshape(y.size(0) * 2, -1),
    "both ways": lambda y: y.reshape(2 * y.shape[0] // 2, 3 + 0 * y.shape[0], -1),
    "expand": lambda y: y[:1].expand(y.shape[0], -1) + y,
    "repeat": lambda y: y[:1].repeat(y.size(0), 1),
    "all": lambda y: y.reshape(y.shape),
    "flatten": lambda y: y.unsqueeze(2).unsqueeze(1).flatten(2),
}


@pytest.mark.parametrize("function", SIZES.values(), ids=SIZES)
def test_sizes_that_follow_the_batch(function: Callable[[Tensor], Tensor], path: Path) -> None:
    model = quantized(Of(function).eval(), ROWS[:2])
    fxq.export_onnx(model, path, (ROWS[:2],))
    for count in (1, 2, 4):
        torch.testing.assert_close(run_onnx(path, ROWS[:count])[0], model(ROWS[:count]), rtol=0, atol=1e-5)


attend = nn.functional.scaled_dot_product_attention
HEADS = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(3))
MASK = torch.randn(5, 5, generator=torch.Generator().manual_seed(4))
ATTENTION = {
    "causal": lambda y: attend(y, y[:, :, :4], y[:, :, :4], is_causal=True),
    "mask": lambda y: attend(y, y, y, attn_mask=MASK < 1, scale=0.3),
    "summand": lambda y: attend(y, y, y, attn_mask=MASK),
}


@pytest.mark.parametrize("function", ATTENTION.values(), ids=ATTENTION)
def test_attention_with_a_mask(function: Callable[[Tensor], Tensor], path: Path) -> None:
    model = quantized(Of(function).eval(), HEADS[:1])
    fxq.export_onnx(model, path, (HEADS[:1],))
    torch.testing.assert_close(run_onnx(path, HEADS)[0], model(HEADS), rtol=0, atol=1e-5)


def test_attention_with_shared_heads_has_no_form(path: Path) -> None:
    model = quantized(Of(lambda y: attend(y, y[:, :1], y[:, :1], is_causal=True, enable_gqa=True)).eval(), HEADS)
    with pytest.raises(fxq.ExportError, match="enable_gqa"):
        fxq.export_onnx(model, path)


RESULTS = {
    "pair": (lambda y: (y, y.relu()), ("output_0", "output_1")),
    "dict": (lambda y: {"out": y, "aux": (y.relu(), None)}, ("out", "aux_0")),
    "named": (lambda y: Boxes(y, y.relu()), ("left", "right")),
    "twice": (lambda y: (y, y), ("output_0", "output_1")),
}


@pytest.mark.parametrize(("function", "names"), RESULTS.values(), ids=RESULTS)
def test_results_have_names(function: Callable[[Tensor], Any], names: tuple[str, ...], path: Path) -> None:
    model = quantized(Of(function).eval(), ROWS)
    assert fxq.export_onnx(model, path).outputs == names
    flat = torch.utils._pytree.tree_leaves(model(ROWS))
    for ours, theirs in zip([each for each in flat if each is not None], run_onnx(path, ROWS), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, pair: tuple[Tensor, Tensor], *, scale: Tensor, twice: bool = False) -> Tensor:
        y = self.fc(pair[0]) + self.fc(pair[1]) * scale
        return y + y if twice else y


def test_nested_and_keyword_inputs(path: Path) -> None:
    inputs = {"pair": (ROWS, ROWS.flip(0)), "scale": ROWS.abs(), "twice": True}
    model = fxq.quantize(Nested().eval(), [inputs], progress=False)
    assert fxq.export_onnx(model, path, inputs).inputs == ("pair_0", "pair_1", "scale")
    torch.testing.assert_close(run_onnx(path, ROWS, ROWS.flip(0), ROWS.abs())[0], model(**inputs), rtol=0, atol=1e-5)


def test_qtensors_are_integers(path: Path) -> None:
    custom = fxq.PrepareCustomConfig().set_input_quantized_indexes([0]).set_output_quantized_indexes([0])
    prepared = fxq.prepare_fx(Of(torch.relu).eval(), fxq.get_default_qconfig_mapping(), (ROWS,), custom)
    prepared(ROWS)
    model = fxq.convert_fx(prepared)
    (entry,) = (each for name, each in model.named_modules() if name.endswith("_entry"))
    x = fxq.QTensor.from_float(ROWS, entry.qparams)
    fxq.export_onnx(model, path, (x,))
    (found,) = run_onnx(path, x.int_repr())
    assert found.dtype == torch.uint8 and torch.equal(found, model(x).int_repr())


# --- refusals --------------------------------------------------------------------------------------------------------------


def test_ops_without_an_onnx_form_are_named_before_anything_is_written(path: Path) -> None:
    path.write_text("what was there")
    model = quantized(Of(lambda y: torch.cumsum(torch.special.i0(y), 1)).eval(), ROWS)
    with pytest.raises(fxq.ExportError, match=r"(?s)node special_i0.*test_export\.py.*special_i0.*cumsum"):
        fxq.export_onnx(model, path)
    assert path.read_text() == "what was there" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("layer", "qconfig", "name"),
    [
        (nn.GRU(6, 6), fxq.per_row_dynamic_qconfig, "DynamicRNN"),
        (nn.LSTM(6, 6), fxq.float16_dynamic_qconfig, "WeightOnlyRNN"),
        (nn.RNN(6, 6), None, "RNN"),
        (nn.EmbeddingBag(9, 6), fxq.float_qparams_weight_only_qconfig, "WeightOnlyEmbeddingBag"),
    ],
)
def test_layers_that_are_called_whole_are_named(layer: nn.Module, qconfig: fxq.QConfig | None, name: str, path: Path) -> None:
    x = torch.randint(0, 9, (4, 3)) if isinstance(layer, nn.EmbeddingBag) else ROWS
    prepared = fxq.prepare_fx(nn.Sequential(layer).eval(), fxq.QConfigMapping().set_global(qconfig), (x,))
    kind = type(layer).__name__
    with pytest.raises(fxq.ExportError, match=rf"(?s)node _0, torch\.nn\.{kind}.*_0 \({name}\).*docs/export\.md"):
        fxq.export_onnx(fxq.convert_fx(prepared), path)
    assert not path.exists()


def test_python_that_stays_is_named(path: Path) -> None:
    class Loops(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            while y.sum() > 1:
                y = y / 2
            return y

    model = quantized(nn.Sequential(nn.Linear(6, 6), Loops()).eval(), ROWS)
    with pytest.raises(fxq.ExportError, match="Loops"):
        fxq.export_onnx(model, path)


@pytest.mark.parametrize(
    "function", [lambda y: y.relu() if y.shape[0] > 1 else y, lambda y: y.reshape(4, 2, 3), lambda y: y.chunk(2, 0)[1]]
)
def test_a_batch_that_is_fixed(function: Callable[[Tensor], Tensor], path: Path) -> None:
    model = quantized(Of(function).eval(), ROWS)
    with pytest.raises(fxq.FxqError, match="dynamic_batch=False"):
        fxq.export_onnx(model, path)
    assert not path.exists()
    fxq.export_onnx(model, path, dynamic_batch=False)
    torch.testing.assert_close(run_onnx(path, ROWS)[0], model(ROWS), rtol=0, atol=1e-5)


def test_what_is_no_converted_model(path: Path) -> None:
    with pytest.raises(fxq.StageError, match="a converted model"):
        fxq.export_onnx(nn.Linear(6, 6), path)
    with pytest.raises(fxq.StageError, match="OBSERVED"):
        fxq.export_onnx(fxq.prepare_fx(nn.Linear(6, 6).eval(), fxq.get_default_qconfig_mapping(), (ROWS,)), path)


def test_no_such_opset(net: fxq.FxqModule, path: Path) -> None:
    with pytest.raises(fxq.ExportError, match="17 to 21"):
        fxq.export_onnx(net, path, opset=13)


def test_an_operator_of_a_later_opset(path: Path) -> None:
    model = quantized(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")).eval(), X)
    with pytest.raises(fxq.ExportError, match="opset=19"):
        fxq.export_onnx(model, path)


def test_the_package_is_missing(net: fxq.FxqModule, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(fxq.ExportError, match=r"pip install 'fxq\[onnx\]'"):
        fxq.export_onnx(net, path)


def test_where_no_file_can_be(net: fxq.FxqModule, tmp_path: Path) -> None:
    with pytest.raises(fxq.DataError, match="a folder"):
        fxq.export_onnx(net, tmp_path)
    with pytest.raises(fxq.DataError, match="make the folder"):
        fxq.export_onnx(net, tmp_path / "missing" / "model.onnx")
