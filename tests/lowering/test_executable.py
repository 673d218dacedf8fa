"""What a converted model runs has the bits of its lowered graph, and follows it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError, DataError
from fxq.lowering.executable import regions_of


class Net(nn.Module):
    """A float layer in the middle, a concatenation, and sizes that are read on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.c = nn.Conv2d(16, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        y = torch.cat([y, torch.relu(self.b(y))], 1)
        z = torch.relu(self.c(torch.cumsum(y, 2)))
        logits: Tensor = self.fc(z.mean((2, 3)).view(z.shape[0], 8))
        return logits


def batch(seed: int = 0, count: int = 2) -> Tensor:
    return torch.randn(count, 3, 6, 7, generator=torch.Generator().manual_seed(seed))


def int8(runtime: str = "auto", seed: int = 0) -> fxq.FxqModule:
    torch.manual_seed(seed)
    return fxq.quantize(Net().eval(), [batch()], progress=False, runtime=runtime)


@pytest.fixture(autouse=True)
def no_choice_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FXQ_RUNTIME", raising=False)


def same(model: Any, x: Tensor) -> bool:
    return torch.equal(model(x), model.run_lowered(x))


def test_runtimes_have_the_same_bits_and_the_same_state() -> None:
    models = {runtime: int8(runtime) for runtime in ("integer", "jit", "auto")}
    results = [model(batch(1)) for model in models.values()]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert [len(regions_of(model)) for model in models.values()] == [0, 2, 2]
    assert models["integer"].state_dict().keys() == models["jit"].state_dict().keys()
    assert fxq.print_graph(models["integer"]) == fxq.print_graph(models["jit"])


def test_environment_decides_what_auto_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXQ_RUNTIME", "integer")
    assert int8().executor is None
    assert int8("jit").executor is not None
    monkeypatch.setenv("FXQ_RUNTIME", "fast")
    with pytest.raises(ConfigError, match=r"FXQ_RUNTIME[\s\S]*auto, jit or integer"):
        int8()


def test_unknown_runtime() -> None:
    with pytest.raises(ConfigError, match="'cuda'"):
        int8("cuda")


def test_copies_and_pickles_compile_for_themselves() -> None:
    model = int8()
    expected = model(batch(1))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert [region.programs for region in regions_of(other)] == [(), ()]
        assert torch.equal(other(batch(1)), expected)
        assert [len(region.programs) for region in regions_of(other)] == [1, 1]


def test_loaded_weights_count() -> None:
    model, other = int8(), int8(seed=1)
    before = model(batch(1))
    model.load_state_dict(other.state_dict())
    assert same(model, batch(1))
    assert not torch.equal(model(batch(1)), before)


def test_weights_changed_in_place_count_after_recompile() -> None:
    model = int8()
    before = model(batch(1))
    model.get_submodule("a").weight.zero_()
    model.recompile()
    assert same(model, batch(1))
    assert not torch.equal(model(batch(1)), before)


def test_a_changed_graph_counts() -> None:
    model = int8()
    model(batch(1))
    output = next(iter(model.graph.find_nodes(op="output")))
    with model.graph.inserting_before(output):
        output.args = (model.graph.call_function(torch.neg, (output.args[0],)),)
    model.recompile()
    assert same(model, batch(1))
    assert torch.equal(model(batch(1)), -int8()(batch(1)))


def test_hooks_of_the_model_are_called() -> None:
    model, seen = int8(), []
    model.register_forward_hook(lambda module, inputs, result: seen.append(result))
    result = model(batch(1))
    assert len(seen) == 1 and seen[0] is result


@pytest.mark.parametrize(
    "x",
    [
        batch(1, 0),
        batch(1).double(),
        batch(1).half(),
        (40 * batch(1)).to(torch.uint8),
        (40 * batch(1)).to(torch.int8),
        batch(1).contiguous(memory_format=torch.channels_last),
        batch(1).transpose(2, 3).contiguous().transpose(2, 3),
        torch.randn(2, 3, 12, 14)[:, :, ::2, ::2],
        torch.randn(1, 3, 6, 7).expand(2, 3, 6, 7),
    ],
    ids=["empty", "float64", "float16", "uint8", "int8", "channels_last", "transposed", "strided", "expanded"],
)
def test_inputs_of_any_kind(x: Tensor) -> None:
    assert same(int8(), x)


def test_inputs_elsewhere_are_an_error() -> None:
    with pytest.raises(DataError, match="expected: a tensor on the CPU"):
        int8()(batch(1).to("meta"))


def test_what_is_no_tensor_is_an_error() -> None:
    with pytest.raises(DataError, match=r"expected: tensors\n\s+found: +ndarray\n"):
        int8()(batch(1).numpy())


def test_values_that_fit_no_memory_are_an_error() -> None:
    model = int8()
    with pytest.raises(DataError, match=r"whose values fit into memory\n\s+found: +\(1, 3, 33554432, 33554432\): .*\d{10} bytes"):
        model(torch.randn(1, 1, 1, 1).expand(1, 3, 2**25, 2**25))
    assert same(model, batch(1))


def test_more_shapes_than_programs_are_kept() -> None:
    model = int8()
    for count in [*range(1, 12), 1]:
        assert same(model, batch(1, count))
    assert all(len(region._programs) <= 8 and not region.refused for region in regions_of(model))


def test_what_has_no_kernel_runs_as_an_integer_op_inside_its_region() -> None:
    model = int8()
    x = batch(1).double()
    assert same(model, x)
    assert regions_of(model)[0].refused == {"x_q": "reads torch.float64"} and len(regions_of(model)[0].latest) == 1
    assert "x_q  reads torch.float64" in str(fxq.report(model))
    times = fxq.profile(model, x, runs=1)
    assert [(row.name, row.reason) for row in times.rows if row.runs == "integer op"] == [("x_q", "reads torch.float64")]
    assert "x_q is not compiled for these shapes: reads torch.float64" in str(times)


def test_an_empty_batch_says_nothing_of_others() -> None:
    model = int8()
    assert same(model, batch(1, 0))
    assert not regions_of(model)[0].refused and fxq.report(model).totals.macs_share_compiled == 1.0


def test_the_report_counts_what_runs_as_machine_code() -> None:
    shares = {runtime: fxq.report(int8(runtime)).totals.macs_share_compiled for runtime in ("integer", "auto")}
    assert shares == {"integer": 0.0, "auto": 1.0}
