"""What Python asks of sizes while forward is traced: the answers of the example inputs, checked at run time."""

from __future__ import annotations

import builtins
import copy
import functools
import math
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import CaptureError, DataError
from fxq.graph.annotation import origins_of, whole_reason_of
from fxq.graph.text import print_graph
from fxq.passes.arguments import split_inputs
from fxq.passes.trace import trace
from fxq.passes.whole import TraceOptions
from fxq.runtime.assumptions import assume
from tests.passes.cases import text

X = torch.randn(2, 3, 4, 4)


def of_function(function: Callable[..., Any]) -> nn.Module:
    """A model whose forward is the function; its first parameter is self."""
    return type("Model", (nn.Module,), {"forward": function})()


def condition(self: nn.Module, x: Tensor) -> Tensor:
    return x + 1 if x.shape[1] > 1 else x - 1


def loop(self: nn.Module, x: Tensor) -> Tensor:
    total = x[:, 0]
    for channel in range(1, x.size(1)):
        total = total + x[:, channel]
    return total


def integer(self: nn.Module, x: Tensor) -> Tensor:
    return x[:, : int(x.shape[1] // 2) + 1]


def assertion(self: nn.Module, x: Tensor) -> Tensor:
    assert x.dim() == 4, "expected an image"
    return x.flatten(1)


def torch_assertion(self: nn.Module, x: Tensor) -> Tensor:
    torch._assert(x.dim() == 4, "expected an image")
    return x.flatten(1)


def scripting(self: nn.Module, x: Tensor) -> Tensor:
    return x if torch.jit.is_scripting() else x.relu()


def length(self: nn.Module, x: Tensor) -> Tensor:
    return x / len(x.shape)


def iteration(self: nn.Module, x: Tensor) -> Tensor:
    total = x.new_zeros(x.shape[0])
    for channel in x.unbind(1):
        total = total + channel.sum((1, 2))
    return total


def of_dtype(self: nn.Module, x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float16, torch.bfloat16) else x * 2


def sizes_in_a_list(self: nn.Module, x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], -1)


def unpacked(self: nn.Module, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, c * h, w)


def made_with_sizes(self: nn.Module, x: Tensor) -> Tensor:
    root = torch.sqrt(torch.tensor(x.size(3), dtype=torch.float32))
    return x / root + torch.zeros((x.shape[0], 1, 1, 1)) + torch.arange(x.size(3))


def tensor_among_lists(self: nn.Module, x: Tensor) -> Tensor:
    """As in torchvision's DenseNet."""
    return torch.cat([x] if isinstance(x, Tensor) else x, 1)


def no_tensor(self: nn.Module, x: Tensor) -> Tensor:
    return x if isinstance(x, (list, tuple)) or not torch.is_tensor(x) else x * 2


def parts(self: nn.Module, x: Tensor) -> Tensor:
    found = x.split(1, dim=1)
    return found[0] if isinstance(found, tuple) and not isinstance(found, Tensor) else x


def size_or_tensor(self: nn.Module, x: Tensor) -> Tensor:
    return x + 1 if isinstance(x.shape, torch.Size) and isinstance(x.shape[0], int) and not isinstance(x.shape[0], Tensor) else x


def looked_up_by_rank(self: nn.Module, x: Tensor) -> Tensor:
    """As in the layers of einops."""
    y = x.permute({3: (0, 2, 1), 4: (0, 2, 3, 1)}[x.ndim])
    return y * 2 if x.dtype in {torch.float32, torch.float64} and x.shape[1] in {1, 3} else y


def sizes_in_numpy(self: nn.Module, x: Tensor) -> Tensor:
    """As in MONAI's Swin UNETR."""
    side = np.array(x.shape[2:])
    assert not (side % np.power(2, 2)).any()
    y = x.reshape(-1, np.prod(x.shape[1:]))
    return np.float64(0.5) * y[:, : side[0]] / np.sqrt(x.shape[-1])


def tensor_to_torchscript(self: nn.Module, x: Tensor) -> Tensor:
    """As in MONAI's BasicUNet."""
    return x * 2 if torch.jit.isinstance(x, Tensor) and torch.jit.isinstance([x], list[Tensor]) else x


FORWARDS = (
    condition, loop, integer, assertion, torch_assertion, scripting, length, iteration, of_dtype, tensor_among_lists, no_tensor, parts,
    size_or_tensor, looked_up_by_rank, sizes_in_numpy, tensor_to_torchscript,
)  # fmt: skip


def made_with_several_sizes(self: nn.Module, x: Tensor) -> Tensor:
    return x + torch.zeros(x.shape[0], 1, x.size(2), 1) + torch.ones(x.size(0), 1, 1, 1, dtype=x.dtype)


def product_of_sizes(self: nn.Module, x: Tensor) -> Tensor:
    return torch.as_tensor(x.reshape(-1, math.prod(x.shape[1:])))


def layers_made_by_forward(self: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = nn.ReflectionPad2d((0, 1, 0, 1))(x)
    return nn.Sequential(nn.ReLU(), nn.Flatten())(y)


DYNAMIC = (
    sizes_in_a_list, unpacked, made_with_sizes, made_with_several_sizes, product_of_sizes, layers_made_by_forward,
)  # fmt: skip


@pytest.mark.parametrize("forward", [*FORWARDS, *DYNAMIC], ids=lambda forward: forward.__name__)
def test_sizes_that_python_needs_are_those_of_the_example(forward: Callable[..., Any]) -> None:
    model = of_function(forward)
    traced = trace(model, X, TraceOptions(strict=True))
    for x in (X, torch.randn(5, 3, 4, 4)):  # no example is about the batch
        assert torch.equal(traced(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(traced))(X), model(X)) and torch.equal(copy.deepcopy(traced)(X), model(X))


@pytest.mark.parametrize("forward", DYNAMIC, ids=lambda forward: forward.__name__)
def test_sizes_that_only_tensor_ops_need_stay_free(forward: Callable[..., Any]) -> None:
    model = of_function(forward)
    traced = trace(model, X, TraceOptions(strict=True))
    x = torch.randn(7, 2, 3, 5)
    assert torch.equal(traced(x), model(x))


class BufferSizes(nn.Module):
    """What Hugging Face's BERT and nanoGPT do with the tensors that they keep for the longest text."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("places", torch.arange(16.0).expand(1, -1))
        self.register_buffer("earlier", torch.ones(16, 16).tril())

    def forward(self, x: Tensor) -> Tensor:
        input_shape = x.shape
        batch, tokens, _ = input_shape
        places = self.places[:, :tokens].expand(batch, tokens)
        heads = x.view(*input_shape[:-1], -1, 2) + self.places.new_zeros(batch, 1, 1, 1) + torch.eye(tokens).sum()
        lowest = torch.finfo(x.dtype).min
        scores = (x @ x.mT).masked_fill(self.earlier[:tokens, :tokens] == 0, lowest).softmax(-1)
        return (scores @ x) * places[..., None] + heads.flatten(2)


def test_parts_of_buffers_have_the_sizes_of_the_input() -> None:
    model = BufferSizes()
    traced = trace(model, torch.randn(2, 5, 4), TraceOptions(strict=True))
    for x in (torch.randn(2, 5, 4), torch.randn(3, 11, 6), torch.randn(1, 1, 2)):
        assert torch.equal(traced(x), model(x))
    before = Tensor.__getitem__, Tensor.expand
    trace(model, torch.randn(2, 5, 4))
    assert (Tensor.__getitem__, Tensor.expand) == before and "expand" not in vars(Tensor)


class Attempts(nn.Module):
    """As SpeechBrain's containers of layers, of which some take lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Weighed(), nn.ReLU()])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            try:
                x = layer(x, weight=2)
            except TypeError:
                x = layer(x)
        return x


class Weighed(nn.Module):
    def forward(self, x: Tensor, weight: int) -> Tensor:
        return x * weight


def test_forward_may_try_what_a_layer_takes() -> None:
    assert torch.equal(trace(Attempts(), X, TraceOptions(strict=True))(X), 2 * X.relu())


class Centred(nn.Module):
    """As SwinIR and what comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mean = nn.Conv2d(3, 3, 1), torch.full((1, 3, 1, 1), 0.4)

    def forward(self, x: Tensor) -> Tensor:
        self.mean = self.mean.type_as(x)
        y: Tensor = self.conv(x - self.mean)
        return y.reshape(x.shape[0], int(y.shape[1]), *x.shape[2:]) + self.mean


def test_tensors_that_forward_casts_for_good_are_cast_in_the_graph() -> None:
    model = Centred()
    traced = trace(model, X, TraceOptions(strict=True))
    assert torch.equal(traced(X), model(X)) and torch.equal(pickle.loads(pickle.dumps(traced))(X), model(X))


class Counted(nn.Module):
    """A graph would not count: it stays Python."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.calls = nn.Linear(4, 4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.fc(x)
        return y


class AfterCounted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.counted = Counted()

    def forward(self, x: Tensor) -> Tensor:
        y = self.counted(x)
        return y.view(*y.shape[:-1], 2, -1) if y.shape[-1] == 4 else y


def test_sizes_of_what_stays_python_are_known() -> None:
    model = AfterCounted()
    traced = trace(model, X)
    whole = [node for node in traced.graph.nodes if whole_reason_of(node) is not None]
    assert [node.target for node in whole] == ["counted"]
    assert torch.equal(traced(X[:1]), model(X[:1])) and traced(X).shape == (2, 3, 4, 2, 2)
    assert traced.get_submodule("counted").calls == 2  # to find the types, it ran on a copy, and its state came back


def test_the_graph_checks_what_it_takes_for_granted() -> None:
    traced = trace(of_function(condition), X)
    first = condition.__code__.co_firstlineno
    place = f"{__file__}:{first + 1}, `return x + 1 if x.shape[1] > 1 else x - 1`"
    assert print_graph(traced) == text(f"""
        x: f32[2, 3, 4, 4] = input
        getattr_1 = call getattr(x, 'shape')
        getitem = call _operator.getitem(getattr_1, 1)
        gt = call _operator.gt(getitem, 1)
        assume = call fxq.runtime.assumptions.assume(gt, True, {place!r})
        add: f32[2, 3, 4, 4] = call _operator.add(x, 1)
        output add
    """)
    with pytest.raises(
        DataError, match=r"`return x \+ 1 if x.shape\[1\] > 1[^$]*expected: True, as with the example inputs\n  found:    False"
    ):
        traced(torch.randn(2, 1, 4, 4))


def test_int8_models_check_it_too_and_the_report_says_it() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x)
            return y.view(y.shape[0], -1) if x.shape[2] == 4 else y

    int8 = fxq.quantize(Model().eval(), [X], progress=False)
    assert int8(torch.randn(6, 3, 4, 4)).shape == (6, 48)
    with pytest.raises(DataError, match="expected: True"):
        int8(torch.randn(6, 3, 5, 4))
    found = fxq.report(int8)
    assert [row.assumed.partition(" at ")[0] for row in found.rows if row.assumed] == ["True"]
    assert "Fixed as with the example inputs" in str(found) and "if x.shape[2] == 4 else y`" in str(found)


def test_what_torch_imports_meanwhile_finds_torch_as_it_is() -> None:
    """torch.compile keeps torch.finfo, for one, when it is first imported: values of the example inputs need it."""
    program = "; ".join(
        (
            "import sys, torch, fxq",
            "from torch import nn",
            "Model = type('Model', (nn.Module,), {'forward': lambda self, x: x + 1 if x.shape[1] > 1 else x})",
            "before = torch.finfo",
            "assert 'torch._dynamo' not in sys.modules",
            "fxq.passes.trace(Model(), torch.ones(2, 3))",
            "assert before in sys.modules['torch._dynamo.utils'].common_constant_types",
        )
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_cache_that_sizes_go_into_keeps_nothing_for_the_next_trace() -> None:
    @functools.cache
    def half(width: int) -> int:
        return width // 2

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, half(x.shape[3]))

    model = of_function(forward)
    for _ in range(2):
        traced = trace(model, X, TraceOptions(strict=True))
        assert torch.equal(traced(X[:1]), model(X[:1]))


def test_torch_is_left_as_it_was() -> None:
    before = torch.zeros
    traced = trace(of_function(made_with_several_sizes), X)
    assert {"torch.zeros", "torch.ones"} <= {origin.object_type for node in traced.graph.nodes for origin in origins_of(node)}
    with pytest.raises(CaptureError):
        trace(of_function(lambda self, x: x.nonsense()), X)
    assert torch.zeros is before


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4))
        self.register_buffer("shift", torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.weight if isinstance(self.weight, nn.Parameter) else x
        return y if isinstance(self.shift, nn.Parameter) or isinstance(y, nn.Parameter) else y + self.shift


def test_parameters_are_told_from_tensors() -> None:
    model = Weighted()
    assert torch.equal(trace(model, X, TraceOptions(strict=True))(X), model(X))


def test_lists_that_forward_passes_on_are_told_from_tensors() -> None:
    class Layer(nn.Module):
        def forward(self, x: Any) -> Tensor:
            found: Tensor = x * 2 if isinstance(x, Tensor) else x[0] + x[1]
            return found

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Layer()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.layer([self.layer(x), x])
            return found

    assert torch.equal(trace(Model(), X, TraceOptions(strict=True))(X), 3 * X)


def test_what_is_not_known_to_be_a_tensor_is_not_guessed() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        found = x[x > 0]  # how many there are depends on elements
        return found if isinstance(found, Tensor) else x

    with pytest.raises(CaptureError, match="does not follow from the shapes"):
        trace(of_function(forward), X, TraceOptions(strict=True))
    assert isinstance is builtins.isinstance and "isinstance" not in vars(torch)


def test_what_depends_on_elements_is_no_size() -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return x if int(x.sum()) > 0 else -x

    with pytest.raises(CaptureError, match="depends on the elements of a tensor"):
        trace(of_function(forward), X, TraceOptions(strict=True))


def test_a_model_that_asks_for_nothing_computes_nothing_while_it_is_traced() -> None:
    class Costly(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(x)
            return x

    calls: list[Any] = []
    trace(nn.Sequential(Costly()), X)
    assert len(calls) == 1  # with a stand-in


# --- inputs and results ----------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


@dataclass
class Parts:
    first: Tensor
    second: Tensor


@dataclass
class ModelOutput(OrderedDict):  # type: ignore[type-arg]
    """A dict whose items are fields, too."""

    loss: Any = None
    logits: Any = None

    def __post_init__(self) -> None:
        for name in ("loss", "logits"):
            if getattr(self, name) is not None:
                self[name] = getattr(self, name)


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b: Pair(a, b),
        lambda a, b: Parts(a, second=b),
        lambda a, b: OrderedDict(a=a, b=b),
        lambda a, b: {"a": a, "b": [b, (a, b)]},
        lambda a, b: ModelOutput(logits=b),
        lambda a, b: [a, None, 3, b],
    ],
    ids=["named tuple", "dataclass", "ordered dict", "nested", "model output", "list"],
)
def test_results_keep_their_class(make: Callable[[Any, Any], Any]) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Any:
            return make(self.conv(x), x)

    model = Model().eval()
    with torch.no_grad():
        expected, found = model(X), fxq.quantize(model, [X], progress=False)(X)
    assert type(found) is type(expected)
    leaves, exact = (torch.utils._pytree.tree_leaves(_plain(value)) for value in (found, expected))
    assert len(leaves) == len(exact)
    for leaf, value in zip(leaves, exact, strict=True):
        assert torch.allclose(leaf, value, atol=0.05) if isinstance(value, Tensor) else leaf == value


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else list(vars(value).values()) if isinstance(value, Parts) else value


@pytest.mark.parametrize("make", [lambda a, b: OrderedDict(a=a, b=b), lambda a, b: Pair(a, b)], ids=["ordered dict", "named tuple"])
@pytest.mark.parametrize("index_of_result", [0, 1])
def test_quantized_results_in_containers_of_a_class(index_of_result: int, make: Callable[[Any, Any], Any]) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Any:
            results = (self.conv(x), x)
            return make(*results) if index_of_result == 0 else make(*reversed(results))

    config = fxq.PrepareCustomConfig().set_output_quantized_indexes([index_of_result])
    prepared = fxq.prepare_fx(Model().eval(), fxq.get_default_qconfig_mapping("x86"), X, config)
    fxq.calibrate(prepared, [X], progress=False)
    found = fxq.convert_fx(prepared)(X)
    values = list(found.values() if isinstance(found, dict) else found)
    assert type(found) is type(make(X, X))
    assert [isinstance(value, fxq.QTensor) for value in values] == [index_of_result == 0, index_of_result == 1]


def by_keyword(self: nn.Module, x: Tensor, *, scale: Tensor, shift: float = 1.0) -> Tensor:
    return x * scale + shift


def of_several(self: nn.Module, *xs: Tensor) -> Tensor:
    return torch.cat(xs, 1)


def of_names(self: nn.Module, x: Tensor, **rest: Tensor) -> Tensor:
    return x + rest["bias"] if "bias" in rest else x


def of_lists(self: nn.Module, xs: list[Tensor], named: dict[str, Any]) -> Tensor:
    total = named["start"]
    for i, x in enumerate(xs):
        total = total + x * (i + 1)
    return total * len(xs) + named["more"][0]


@pytest.mark.parametrize(
    ("forward", "inputs"),
    [
        (by_keyword, {"x": X, "scale": torch.tensor(2.0)}),
        (by_keyword, {"x": X, "scale": torch.tensor(2.0), "shift": 3.0}),
        (of_several, (X, X + 1, X)),
        (of_names, {"x": X, "bias": torch.ones(4)}),
        (of_names, {"x": X}),
        (of_lists, ([X, X + 1], {"start": X, "more": (X,)})),
    ],
    ids=["keyword-only", "all keywords", "*args", "**kwargs", "no **kwargs", "containers"],
)
def test_inputs_of_every_form(forward: Callable[..., Any], inputs: Any) -> None:
    model, given = of_function(forward), split_inputs(inputs)
    traced = trace(model, inputs, TraceOptions(strict=True))
    for each in (traced, pickle.loads(pickle.dumps(traced))):
        assert torch.equal(each(*given.args, **given.kwargs), model(*given.args, **given.kwargs))


def test_a_list_of_another_length_is_an_error() -> None:
    traced = trace(of_function(of_lists), ([X, X + 1], {"start": X, "more": (X,)}))
    with pytest.raises(DataError, match=r"a list or tuple of 2, as with the example inputs\n  found:    a list of 3"):
        traced([X, X, X], {"start": X, "more": (X,)})
    with pytest.raises(DataError, match=r"a dict with the keys \['start', 'more'\]"):
        traced([X, X], {"start": X})


def switched(self: nn.Module, x: Tensor, twice: Any, times: int = 2) -> Tensor:
    for _ in range(times):
        x = x * 2 if twice else x + 1
    return x


def test_concrete_args_are_values_fixed_at_tracing() -> None:
    model = of_function(switched)
    traced = trace(model, X, TraceOptions(concrete_args={"twice": True, "times": 3}))
    assert torch.equal(traced(X), model(X, True, 3)) and torch.equal(traced(X, True, times=3), model(X, True, 3))
    with pytest.raises(DataError, match=r"argument 'times'\n  expected: 3"):
        traced(X, times=2)
    with pytest.raises(fxq.ConfigError, match=r"concrete_args 'time'[\s\S]*write one of 'times'"):
        trace(model, X, TraceOptions(concrete_args={"time": 3}))


def test_quantize_takes_concrete_args() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor, flip: Tensor | None = None, mode: str = "same") -> Tensor:
            y: Tensor = self.conv(x)
            return -y if mode == "minus" else y

    model = Model().eval()
    int8 = fxq.quantize(model, [X], progress=False, concrete_args={"mode": "minus"}, strict=True)
    assert (int8(X) - model(X, mode="minus")).abs().max() < 0.05


# --- what forward changes ----------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        y: Tensor = self.conv(x)
        return y + self.steps


class Averaging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        y: Tensor = self.conv(x)
        return y - self.mean


class AveragingInPlace(Averaging):
    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(0.1 * x.mean())
        y: Tensor = self.conv(x)
        return y - self.mean


class CountingInPython(Counting):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.conv(x)
        return y + self.calls


@pytest.mark.parametrize("kind", [Counting, Averaging, AveragingInPlace, CountingInPython])
@pytest.mark.parametrize("nested", [False, True], ids=["model", "submodule"])
def test_state_that_forward_changes_goes_on_changing(kind: type[nn.Module], nested: bool) -> None:
    torch.manual_seed(0)
    model = (nn.Sequential(kind(), nn.ReLU()) if nested else kind()).eval()
    exact = copy.deepcopy(model)
    prepared = fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), X)
    with torch.no_grad():
        for x in (X, X + 1, X):
            assert torch.allclose(prepared(x), exact(x), atol=1e-5)  # tracing has not counted
        int8 = fxq.convert_fx(prepared)
        for x in (X, X + 1):
            assert (int8(x) - exact(x)).abs().max() < 0.1
    assert fxq.report(int8).totals.heavy_int8 == 1


def test_the_reason_says_what_is_changed_and_where() -> None:
    traced = trace(Counting(), X)
    (reason,) = (reason for node in traced.graph.nodes if (reason := whole_reason_of(node)) is not None)
    line = Counting.forward.__code__.co_firstlineno + 1
    changed = "cannot be traced: `self.steps += 1` — forward changes 'steps', which the graph of a trace would not do again"
    assert reason.detail == f"{changed}, {__file__}:{line}"


def test_layers_cut_out_of_a_container() -> None:
    class Stages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layers[2:](self.layers[:2](x))
            return y

    module = trace(Stages().eval(), torch.zeros(2, 3))
    assert [node.target for node in module.graph.find_nodes(op="call_module")] == ["layers.0", "layers.1", "layers.2"]


def test_kind_of_a_device() -> None:
    """It has to be a string where torch asks for it, and is checked like any other value that Python has needed."""

    class Careful(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            with torch.autocast(device_type=y.device.type, enabled=False):
                return y if y.device.type == "cpu" else x

    module = trace(Careful().eval(), torch.zeros(2, 3))
    assert [node.args[1] for node in module.graph.nodes if node.target is assume] == ["cpu", "cpu"]
