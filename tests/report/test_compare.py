from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError, DataError, StageError
from fxq.graph.balance import Layer, quantize_balanced
from fxq.graph.moments import Moments
from fxq.graph.qtypes import QParams, dequantize_tensor, quantize_tensor
from fxq.passes.arguments import Inputs
from fxq.report import Comparison, compare
from fxq.report.alike import trace_alike
from fxq.report.closeness import closeness
from fxq.report.lockstep import Lockstep, Pair
from fxq.report.matching import pair_graphs
from fxq.report.rows import qparams_known
from tests.report.models import Block, block_input


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def block() -> Block:
    torch.manual_seed(0)
    return Block().eval()


def images() -> list[Tensor]:
    return [random(2, 4, 6, 6, seed=seed) for seed in range(3)]


def int8_block(runtime: str = "auto", profile: str = "x86") -> fxq.FxqModule:
    return fxq.quantize(block(), images(), profile, runtime=runtime, progress=False)


# --- numbers ---------------------------------------------------------------------------------------------------------------


def test_a_layer_alone_and_with_those_before_it() -> None:
    """By hand: the second layer of the int8 model on its own input, and on the float model's."""
    model, int8, x = block(), int8_block(), block_input()
    qparams = {node.name: qparams for node in int8.graph.nodes if (qparams := qparams_known(node)) is not None}
    with torch.no_grad():
        first = model.relu(model.bn1(model.conv1(x)))
        second = model.relu(model.conv2(first) + first)
        int8_first = int8.conv1(quantize_tensor(x, qparams["x_q"]))
        so_far = int8.conv2(int8_first, int8_first)
        quantized = quantize_tensor(first, qparams["conv1"])
        alone = int8.conv2(quantized, quantized)
    row = compare(model, int8, [x]).row("conv2")
    assert row.so_far == closeness([second], [dequantize_tensor(so_far, qparams["conv2"])])
    assert row.alone == closeness([second], [dequantize_tensor(alone, qparams["conv2"])])
    assert row.alone.sqnr_db > row.so_far.sqnr_db
    assert (row.type, row.fused) == ("Conv2d", ("add", "ReLU relu"))


def test_weights_are_those_with_the_batch_norm_folded_in() -> None:
    model, int8 = block(), int8_block()
    gain = model.bn1.weight / torch.sqrt(model.bn1.running_var + model.bn1.eps)
    exact = (model.conv1.weight * gain[:, None, None, None]).detach()
    scale = exact.flatten(1).abs().amax(1) / 127
    qparams = QParams(fxq.QuantSpec("int8", -127, 127, symmetric=True, axis=0), scale, torch.zeros(8, dtype=torch.int32))
    seen = torch.cat(images()).double()
    moments = Moments(seen.mean((0, 2, 3)), seen.var((0, 2, 3), correction=0))
    (rounded,) = quantize_balanced([Layer(exact, qparams, moments=moments)])
    expected = closeness([exact], [dequantize_tensor(rounded, qparams)])
    found = compare(model, int8, images()).row("conv1").weight
    assert found is not None
    assert found.sqnr_db == pytest.approx(expected.sqnr_db, abs=1e-3)
    assert found.max_error == pytest.approx(expected.max_error, rel=1e-4)


def test_the_output_is_what_the_models_return() -> None:
    model, int8 = block(), int8_block()
    with torch.no_grad():
        expected = closeness([torch.cat([model(x) for x in images()])], [torch.cat([int8(x) for x in images()])])
    found = compare(model, int8, images())
    assert found.batches == 3
    assert found.output.sqnr_db == pytest.approx(expected.sqnr_db, abs=1e-6)
    assert found.row("fc").so_far == found.output


@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
def test_runtimes_have_the_same_numbers(profile: str) -> None:
    compiled, integer = (compare(block(), int8_block(runtime, profile), images()) for runtime in ("jit", "integer"))
    assert compiled == integer


def test_most_damaged_layer_is_first() -> None:
    int8 = int8_block("integer")
    int8.conv2.multiplier.mul_(1.5)
    found = compare(block(), int8, images())
    assert found.rows[0].name == "conv2"
    assert found.rows[0].weight is not None and found.rows[0].weight.max_error == pytest.approx(
        0.5 * block().conv2.weight.abs().max().item(), rel=0.02
    )
    own = [row.damage_db for row in found.rows if row.alone is not None]
    assert own == sorted(own) and len(own) == 4


# --- inputs and kinds of models ----------------------------------------------------------------------------------------------


class TwoInputs(nn.Module):
    """Results in a dict, one of them an integer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor, scale: Tensor | None = None, double: bool = False) -> dict[str, Any]:
        y = torch.relu(self.first(x))
        y = y if scale is None else y * scale
        y = self.second(y)
        return {"logits": y + y if double else y, "label": y.argmax(-1), "pair": (y.softmax(-1), 3)}


@pytest.mark.parametrize(
    "batch",
    [
        random(5, 4),
        (random(5, 4),),
        [random(5, 4), random(5, 1)],
        {"x": random(5, 4)},
        {"x": random(5, 4), "scale": random(5, 1), "double": True},
    ],
)
def test_tensors_tuples_and_dicts(batch: Any) -> None:
    model = TwoInputs().eval()
    int8 = fxq.quantize(model, [batch], progress=False)
    found = compare(model, int8, [batch, batch])
    assert found.output.elements == 2 * 2 * 5 * 3
    assert {"first", "second"} <= {row.name for row in found.rows}
    assert found.output.sqnr_db > 20


def test_arguments_that_prepare_has_fixed() -> None:
    model, x = TwoInputs().eval(), random(5, 4)
    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), (x,), concrete_args={"double": True})
    fxq.calibrate(prepared, [x], progress=False)
    found = compare(model, fxq.convert_fx(prepared), [x])
    assert found.row("second").so_far.sqnr_db > 20


class Island(nn.Module):
    """A forward that torch.fx cannot read, which calls one of its modules twice."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.step(x)
        if x.sum() > -1:
            x = self.step(x)
        y: Tensor = self.head(x)
        return y


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front, self.island = nn.Linear(4, 4), Island()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.island(self.front(x))
        return y


@pytest.mark.parametrize(("made", "prefix"), [(Island, ""), (Around, "island.")])
def test_layers_inside_islands(made: Callable[[], nn.Module], prefix: str) -> None:
    torch.manual_seed(0)
    model = made().eval()
    int8 = fxq.quantize(model, [random(8, 4)], progress=False)
    found = compare(model, int8, [random(8, 4), random(8, 4, seed=1)])
    step = found.row(f"{prefix}step._0" if f"{prefix}step._0" in {row.name for row in found.rows} else f"{prefix}step.0")
    assert step.so_far.elements == 2 * 2 * 8 * 4
    assert step.alone is not None and 30 < step.alone.sqnr_db < math.inf
    assert step.weight is not None
    assert found.row(f"{prefix}head").so_far == found.output
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in int8.modules())


class Picky(nn.Module):
    """Keeps the rows that are positive: the int8 model keeps other ones."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.front(x)
        kept = torch.stack([row for row in y if row[0] > 0])
        z: Tensor = self.head(kept)
        return z.mean(0)


def test_shapes_that_depend_on_values_are_skipped() -> None:
    torch.manual_seed(0)
    model = Picky().eval()
    int8 = fxq.quantize(model, [random(64, 4)], progress=False)
    with torch.no_grad():
        assert model.front.bias is not None
        model.front.bias[0] -= 0.3
    found = compare(model, int8, [random(64, 4)])
    assert found.skipped == {"head": 1}
    assert str(found).endswith("not compared, as the shapes differ: head (in 1 calls)")
    assert [row.name for row in found.rows] == ["front", "model"]


def test_quantized_inputs_and_results() -> None:
    custom = fxq.PrepareCustomConfig().set_input_quantized_indexes([0]).set_output_quantized_indexes([0])
    prepared = fxq.prepare_fx(block(), fxq.get_default_qconfig_mapping("x86"), (block_input(),), custom)
    fxq.calibrate(prepared, images(), progress=False)
    found = compare(block(), fxq.convert_fx(prepared), images())
    assert found.row("fc").so_far == found.output


def test_training_mode_is_compared_as_eval_mode() -> None:
    model = block().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert compare(model, int8_block(), images()) == compare(block(), int8_block(), images())
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- memory ----------------------------------------------------------------------------------------------------------------


def test_values_are_dropped_as_soon_as_they_are_compared() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(20)]).eval(), random(4, 8)
    int8 = fxq.quantize(model, [x], progress=False)
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def observe(pair: Pair) -> None:
        nonlocal most
        alive.extend(map(weakref.ref, (*pair.exact, *pair.value)))
        most = max(most, sum(each() is not None for each in alive))

    graphs = pair_graphs(trace_alike(model, int8, x), int8)
    Lockstep(graphs, observe).run(int8, Inputs((x,)), Inputs((x,)))
    assert len(alive) == 40
    assert most <= 6


def test_batches_are_read_one_at_a_time() -> None:
    read = []

    def batches() -> Iterator[Tensor]:
        for number, x in enumerate(images()):
            read.append(number)
            yield x

    assert compare(block(), int8_block(), batches()).batches == len(read) == 3


# --- results ---------------------------------------------------------------------------------------------------------------


def test_text_and_json() -> None:
    found = compare(block(), int8_block(), images())
    assert Comparison.model_validate_json(found.to_json()) == found
    lines = str(found).splitlines()
    assert lines[0].split() == ["layer", "op", "alone", "dB", "error", "cosine", "so", "far", "dB", "error", "cosine", "weight", "dB"]
    assert [line.split()[0] for line in lines[1:5]] == [row.module for row in found.rows]
    assert lines[6].startswith(f"output: {found.output.sqnr_db:.1f} dB") and lines[6].endswith("over 3 batches")
    assert all(len(line) <= 120 for line in lines)
    assert repr(found) == f"<Comparison: {found.output.sqnr_db:.1f} dB at the output, 4 layers>"
    with pytest.raises(ConfigError, match="conv9"):
        found.row("conv9")


# --- what cannot be compared -------------------------------------------------------------------------------------------------


def test_the_same_network_with_other_weights() -> None:
    """As from a function that builds a network and loads no weights."""
    other = block()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    found = compare(other, int8_block("integer"), images())
    assert found.weights_differ and "is this the float model" in str(found)
    assert not compare(block(), int8_block("integer"), images()).weights_differ


class Other(Block):
    def __init__(self) -> None:
        super().__init__()
        self.conv_2 = self.conv2
        del self.conv2

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        y: Tensor = self.fc(self.pool(self.relu(self.conv_2(x) + x)).flatten(1))
        return y


class Wider(Block):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 7)


@pytest.mark.parametrize(
    ("model", "where", "expected", "found"),
    [
        (Other(), "float model, conv2", "with Conv2d conv2", "no such call; it has conv_2"),
        (Wider(), "float model, fc", "a value of shape (2, 5) behind Linear fc", "shape (2, 7)"),
    ],
)
def test_another_float_model(model: nn.Module, where: str, expected: str, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compare(model.eval(), int8_block(), images())
    assert caught.value.where == where
    assert expected in caught.value.expected and found in caught.value.found
    assert "the float model itself" in caught.value.remedy


def test_model_without_int8_layers() -> None:
    prepared = fxq.prepare_fx(block(), fxq.QConfigMapping(), (block_input(),))
    with pytest.raises(ConfigError, match=r"none: every layer is float\n.*fxq.report"):
        compare(block(), fxq.convert_fx(prepared), images())


def test_models_that_are_not_converted() -> None:
    prepared = fxq.prepare_fx(block(), fxq.get_default_qconfig_mapping("x86"), (block_input(),))
    with pytest.raises(StageError, match=r"a Block\n.*the float model comes first"):
        compare(int8_block(), block(), images())
    with pytest.raises(StageError, match="at stage OBSERVED"):
        compare(block(), prepared, images())
    with pytest.raises(StageError, match="expected: the float model"):
        compare(int8_block(), int8_block(), images())


@pytest.mark.parametrize(
    ("batches", "where", "found"),
    [
        ([], "batches", "none"),
        ([(random(2, 4, 6, 6), torch.zeros(2))], "batch 0", "2 positional"),
        ([{"y": random(2, 4, 6, 6)}], "batch 0", "unknown y"),
        ([random(2, 4, 6, 6), {}], "batch 1", "none"),
        ([random(2, 4, 6, 6), random(2, 3, 6, 6)], "batch 1", "RuntimeError"),
        ([3], "batch 0", "int"),
    ],
)
def test_wrong_batches(batches: list[Any], where: str, found: str) -> None:
    with pytest.raises(DataError) as caught:
        compare(block(), int8_block(), batches)
    assert caught.value.where == where
    assert found in caught.value.found
