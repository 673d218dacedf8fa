"""Reference graph → integer ops at the paths of the user's modules."""

from __future__ import annotations

import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxq.api import LOWER, convert_fx, convert_to_reference_fx, prepare_fx
from fxq.errors import StageError
from fxq.graph.annotation import quant_of
from fxq.graph.module import FxqModule
from fxq.graph.reasons import Why
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.passes import Context, run_pipeline
from fxq.qconfig_mapping import QConfigMapping
from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.linear import Linear
from tests.lowering.compiled import QCONFIG, compile_text
from tests.passes.cases import EVERYTHING, PER_CHANNEL, X86, calibrate_on_ramps, network, ramp, residual, text, up_to
from tests.stepwise import op_errors


def converted(model: nn.Module, *inputs: Tensor, mapping: QConfigMapping = EVERYTHING, profile: str = "x86") -> FxqModule:
    prepared = prepare_fx(model.eval(), mapping, inputs, profile=profile)
    with torch.no_grad():
        prepared(*inputs)
    return convert_fx(prepared)


def test_a_graph_of_every_kind() -> None:
    prepared = up_to("insert_observers", network())
    calibrate_on_ramps(prepared)
    lowered = convert_fx(prepared)
    assert lowered.stage is Stage.LOWERED
    assert print_graph(lowered) == text("""
        x: f32[1, 2, 2, 4] = input
        x_q: u8[1, 2, 2, 4] = quantize(x, scale=0.0078125, zero_point=0)
        c: u8[1, 2, 2, 4] = Conv[c](x_q)
        p: u8[1, 2, 1, 2] = MaxPool[p](c)
        s: u8[1, 2, 1, 2] = Table[s](p)
        s_dq_q: u8[1, 2, 1, 2] = Table[s_dq_q](s)
        j: u8[1, 4, 1, 2] = cat((p, s_dq_q), dim=1)
        f: u8[1, 8] = flatten(j, start_dim=1)
        l: f32[1, 3] = Linear[l](f)
        output l
    """)


def test_a_network_keeps_its_paths_and_keys() -> None:
    x = ramp(2, 3, 8, 8)
    lowered = converted(residual(), x)
    (q,) = (node for node in lowered.graph.nodes if node.name == "x_q")
    scale, zero = q.kwargs["scale"], q.kwargs["zero_point"]
    assert print_graph(lowered) == text(f"""
        x: f32[2, 3, 8, 8] = input
        x_q: u8[2, 3, 8, 8] = quantize(x, scale={scale}, zero_point={zero})
        stem_conv: u8[2, 4, 8, 8] = Conv[stem.conv](x_q)
        body_0_conv: u8[2, 4, 8, 8] = Conv[body.0.conv](stem_conv)
        body_1: u8[2, 4, 8, 8] = Conv[body.1](body_0_conv, stem_conv)
        pool: u8[2, 4, 1, 1] = AdaptiveAvgPool[pool](body_1)
        flatten: u8[2, 4] = flatten(pool, start_dim=1)
        fc: f32[2, 5] = Linear[fc](flatten)
        output fc
    """)
    keys = {f"{path}.{name}" for path in ("stem.conv", "body.0.conv", "body.1", "fc") for name in ("weight", "bias", "multiplier")}
    assert set(lowered.state_dict()) == keys
    assert {key: lowered.state_dict()[key].dtype for key in keys if key.endswith("weight")} == {
        "stem.conv.weight": torch.int8, "body.0.conv.weight": torch.int8, "body.1.weight": torch.int8, "fc.weight": torch.int8,
    }  # fmt: skip
    assert list(lowered.parameters()) == []


def test_a_model_of_weights_takes_a_quarter_of_the_bytes() -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))

    def size(module: nn.Module) -> int:
        buffer = io.BytesIO()
        torch.save(module.state_dict(), buffer)
        return buffer.getbuffer().nbytes

    assert size(converted(model, ramp(4, 256))) < 0.28 * size(model)


class Shared(nn.Module):
    """One conv at two call sites whose inputs have different ranges."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x) * self.conv(x))


def test_a_conv_module_that_is_called_twice() -> None:
    """The same call twice is two ops; the first has the module's path."""
    model, x = Shared(), ramp(1, 2, 4, 4)
    prepared = prepare_fx(model.eval(), EVERYTHING, x)
    with torch.no_grad():
        prepared(x)
    reference, lowered = convert_to_reference_fx(prepared), convert_fx(prepared)
    assert [(name, type(module)) for name, module in lowered.named_modules() if isinstance(module, Conv)] == [
        ("conv", Conv), ("conv_1", Conv), ("conv_2", Conv),
    ]  # fmt: skip
    for error in op_errors(reference, lowered, (x,)):
        assert error.steps <= error.allowed
    first, last = lowered.get_submodule("conv"), lowered.get_submodule("conv_2")
    assert torch.equal(first.weight, last.weight)  # type: ignore[arg-type]
    assert not torch.equal(first.multiplier, last.multiplier)  # type: ignore[arg-type]


class Block(nn.Module):
    """A weight beside a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(2).reshape(2, 2, 1, 1))
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.conv2d(x, self.weight))


class FunctionalConv(nn.Module):
    """Weights on the root and in a block that has other children."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(2).reshape(2, 2, 1, 1))
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.block(x), self.weight)


def test_functional_convs_stand_at_their_nodes_names() -> None:
    x = ramp(1, 2, 4, 4)
    lowered = converted(FunctionalConv(), x)
    assert [name for name, module in lowered.named_modules() if isinstance(module, Conv)] == ["conv2d", "conv2d_1"]
    assert set(lowered.state_dict()) == {
        "block.norm.weight", "block.norm.bias",
        *(f"{path}.{name}" for path in ("conv2d", "conv2d_1") for name in ("weight", "bias", "multiplier")),
    }  # fmt: skip
    assert bool(((lowered(x) - FunctionalConv()(x)).abs() < 0.05).all())


class NamedLikeAnOp(nn.Module):
    """The node of torch.add is called `add`, and so is a block with an int8 and a float layer."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.add = nn.Sequential(nn.Linear(4, 4), nn.Softmin(-1))

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = torch.add(x, x)
        x = self.add(x)
        return x if self.first else torch.add(x, x)


@pytest.mark.parametrize("first", [True, False])
def test_an_op_does_not_take_the_place_of_a_block_with_its_nodes_name(first: bool) -> None:
    model, x = NamedLikeAnOp(first).eval(), ramp(3, 4)
    lowered = converted(model, x)
    assert isinstance(lowered.get_submodule("add.0"), Linear)
    assert isinstance(lowered.get_submodule("add.1"), nn.Softmin)
    assert bool(((lowered(x) - model(x)).abs() < 0.1).all())


def test_an_accumulator_that_can_overflow_keeps_the_layer_float() -> None:
    """Σ|w| · 230 reaches 2^31 with 73,519 weights of 127."""
    depth = 80_000
    constants = {"l.weight": torch.full((1, depth), 1.0), "l.bias": torch.zeros(1)}
    graph = f"x: f32[1, {depth}] = input\ns = silu(x)\nl = linear(s, @l.weight[1, {depth}], @l.bias[1])\nr = silu(l)\noutput r"
    compiled = compile_text(graph, constants=constants)
    (node,) = (node for node in compiled.lowered.graph.nodes if node.name == "l")
    quant = quant_of(node)
    assert quant is not None
    assert quant.reason is not None
    assert quant.reason.why is Why.OVERFLOW
    assert quant.reason.detail.startswith("its 32-bit accumulator can overflow: |acc| of channel 0 may reach ")
    names = [line.split(":")[0] for line in print_graph(compiled.lowered).splitlines()[:-1]]
    assert names == ["x", "x_q", "s", "s_dq", "l_weight_dq", "l", "l_q", "r", "r_dq"]
    assert torch.equal(compiled.lowered(*compiled.inputs), compiled.reference(*compiled.inputs))


def test_one_weight_less_fits() -> None:
    depth = 66_000
    constants = {"l.weight": torch.full((1, depth), 1.0)}
    compiled = compile_text(f"x: f32[1, {depth}] = input\nl = linear(x, @l.weight[1, {depth}])\noutput l", constants=constants)
    assert isinstance(compiled.lowered.get_submodule("l"), Linear)


def test_requantization_of_each_foreign_operand() -> None:
    compiled = compile_text("x: f32[4, 8] = input\ns = sigmoid(x)\nt = tanh(x)\nj = cat((s, t), dim=0)\nz = silu(j)\noutput z")
    lines = [line.partition(" = ")[2] for line in print_graph(compiled.lowered).splitlines()]
    assert lines[2:6] == ["Table[s](x_q)", "Table[s_dq_q](s)", "Table[t](x_q)", "Table[t_dq_q](t)"]
    for error in op_errors(compiled.reference, compiled.lowered, compiled.inputs):
        assert error.steps <= error.allowed


def test_a_value_read_by_int8_and_float_ops() -> None:
    compiled = compile_text("x: f32[4, 8] = input\ns = silu(x)\nt = tanh(s)\nu = softmax(s, dim=1)\noutput (t, u, s)")
    lines = [line.partition(" = ")[2] for line in print_graph(compiled.lowered).splitlines()]
    assert [line.partition("(")[0] for line in lines[1:7]] == ["quantize", "Table[s]", "dequantize", "Table[t]", "dequantize", "softmax"]


def test_weights_tied_with_a_float_reader_stay_float_for_it() -> None:
    graph = "x: f32[2, 2] = input\na = linear(x, @shared.weight[2, 2])\nb = call torch.hypot(a, @shared.weight[2, 2])\noutput b"
    compiled = compile_text(graph, constants={"shared.weight": torch.eye(2)})
    dtypes = {key: value.dtype for key, value in compiled.lowered.state_dict().items()}
    assert dtypes["shared.weight"] is torch.float32
    assert torch.int8 in dtypes.values()


def test_weights_tied_with_an_activation_are_stored_as_both() -> None:
    """A linear reads the tensor with its weights' qparams, a product with those of an activation."""
    graph = "x: f32[2, 2] = input\na = linear(x, @shared.weight[2, 2])\nb = mul(a, @shared.weight[2, 2])\noutput b"
    compiled = compile_text(graph, constants={"shared.weight": torch.eye(2)})
    integers = {value.dtype: value.tolist() for value in compiled.lowered.state_dict().values() if value.shape == (2, 2)}
    assert integers == {torch.uint8: [[255, 0], [0, 255]], torch.int8: [[127, 0], [0, 127]]}
    assert bool(((compiled.lowered(*compiled.inputs) - compiled.reference(*compiled.inputs)).abs() < 0.05).all())


def test_a_second_run_is_refused() -> None:
    lowered = converted(residual(), ramp(2, 3, 8, 8))
    with pytest.raises(StageError, match="lower\n  expected: a model at stage REFERENCE\n  found:    stage LOWERED"):
        run_pipeline(lowered, LOWER, Context(X86))


def test_types_of_values_follow() -> None:
    lowered = converted(residual(), ramp(2, 3, 8, 8))
    values: dict[str, Tensor] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            values[n.name] = super().run_node(n)
            return values[n.name]

    Recorder(lowered).run(ramp(2, 3, 8, 8))
    lines = print_graph(lowered).splitlines()[:-1]
    names = {torch.float32: "f32", torch.uint8: "u8"}
    for line in lines:
        name, found = line.partition(" = ")[0].split(": ")
        assert found == f"{names[values[name].dtype]}{list(values[name].shape)}"


def test_layers_kept_float_stay_the_users() -> None:
    mapping = QConfigMapping().set_global(PER_CHANNEL).set_module_name("body", None)
    model = residual()
    lowered = converted(model, ramp(2, 3, 8, 8), mapping=mapping)
    assert torch.equal(lowered.state_dict()["body.1.weight"], model.state_dict()["body.1.weight"])
    assert QCONFIG == PER_CHANNEL
