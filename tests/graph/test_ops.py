"""Every spelling of every row of OPS becomes the canonical op, with the same bits."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxq.graph.names import qualified_name
from fxq.graph.opdef import Attribute, Library
from fxq.graph.ops import OPS
from fxq.graph.reasons import Reason, Why
from fxq.graph.recognise import recognise
from fxq.graph.text import print_graph
from fxq.lowering.profiles import find_profile
from fxq.passes.canonicalize import canonicalize
from fxq.passes.pipeline import Context
from fxq.passes.trace import trace
from tests.graph import op_examples_movement as movement
from tests.graph.op_example import Example, Key, called, made
from tests.graph.op_examples import EXAMPLES


def name_of(target: Any) -> str:
    return target.name if isinstance(target, Attribute | Library) else qualified_name(target)


CASES = [(key, example) for key, examples in EXAMPLES.items() for example in examples]
IDS = [f"{name}-{name_of(target)}-{number}" for (name, target), row in EXAMPLES.items() for number, _ in enumerate(row)]


def lines(text: str) -> tuple[str, ...]:
    """Right sides of the lines between inputs and output."""
    return tuple(line.partition(" = ")[2] for line in text.splitlines() if not line.endswith("= input") and not line.startswith("output"))


def run(model: Any, inputs: tuple[torch.Tensor, ...]) -> Any:
    """Result on copies of the inputs."""
    with torch.no_grad():
        return model(*(value.clone() for value in inputs))


def same(found: Any, expected: Any) -> bool:
    """The same bits, type and shape."""
    if isinstance(expected, torch.Tensor):
        return found.dtype == expected.dtype and torch.equal(found, expected)
    return bool(found == expected)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(("key", "example"), CASES, ids=IDS)
def test_spelling(key: Key, example: Example) -> None:
    model = example.model()
    module = trace(model, example.inputs())
    canonicalize(module, Context(find_profile("x86")))
    assert lines(print_graph(module)) == example.graph
    module.recompile()
    for seed in (1, 2):
        assert same(run(module, example.inputs(seed)), run(copy.deepcopy(model), example.inputs(seed)))


def test_every_spelling_has_an_example() -> None:
    spellings = {(op.name, spelling.target) for op in OPS for spelling in op.spellings}
    assert {str(key) for key in spellings ^ EXAMPLES.keys()} == set()


# --- forms that a row does not cover ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """A call that stays as it was traced, and what is said of it."""

    example: Example
    detail: str
    why: Why = Why.OPERAND
    training: bool = False


class _OwnForward(nn.ReLU):
    __module__ = "torch.nn"  # so that tracing takes it for one of torch's, and does not go inside

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) * 2


def _hooked() -> nn.Module:
    module = nn.ReLU()
    module.register_forward_hook(lambda module, inputs, result: result + 1)
    return module


REFUSED = {
    "module returns indices": Refused(
        made(nn.MaxPool2d, 2, return_indices=True, graph="MaxPool2d[m](x)"),
        "MaxPool2d is called in a form that max_pool does not cover: return_indices has no integer form",
    ),
    "mean in another dtype": Refused(
        called(lambda x: torch.mean(x, 1, dtype=torch.float64), "call torch.mean(x, 1, dtype=torch.float64)"),
        "mean is called in a form that mean does not cover: got an unexpected keyword argument 'dtype'",
    ),
    "view of bits": Refused(
        called(lambda x: x.view(torch.int32), "method view(x, torch.int32)"),
        "view is called in a form that reshape does not cover: shape is not a sequence of sizes",
    ),
    "view of bits by keyword": Refused(
        called(lambda x: x.view(dtype=torch.int32), "method view(x, dtype=torch.int32)"),
        "view is called in a form that reshape does not cover: shape is not a sequence of sizes",
    ),
    "softmax of any dimension": Refused(
        called(lambda x: F.softmax(x), "call torch.nn.functional.softmax(x, dim=None, _stacklevel=3, dtype=None)"),
        "softmax is called in a form that softmax does not cover: softmax needs dim, and computes in float32",
    ),
    "softmax in another dtype": Refused(
        called(
            lambda x: F.softmax(x, 1, dtype=torch.float64),
            "call torch.nn.functional.softmax(x, dim=1, _stacklevel=3, dtype=torch.float64)",
        ),
        "softmax is called in a form that softmax does not cover: softmax needs dim, and computes in float32",
    ),
    "softmax method in another dtype, by position": Refused(
        called(lambda x: x.softmax(1, torch.float64), "method softmax(x, 1, torch.float64)"),
        "softmax is called in a form that softmax does not cover: softmax needs dim, and computes in float32",
    ),
    "another memory format": Refused(
        called(lambda x: x.contiguous(memory_format=torch.channels_last), "method contiguous(x, memory_format=torch.channels_last)"),
        "contiguous is called in a form that contiguous does not cover: got an unexpected keyword argument 'memory_format'",
    ),
    "attribute that is no shape": Refused(
        called(lambda x: x.is_cuda, "call getattr(x, 'is_cuda')"), "getattr is not an op that fxq knows", Why.UNKNOWN_OP
    ),
    "largest element along a dimension, with its index": Refused(
        called(lambda x: torch.max(x, 1)[1], "call torch.max(x, 1)", "call _operator.getitem(max_1, 1)"),
        "max is called in a form that maximum does not cover: only the form with two tensors has an integer form",
    ),
    "largest element of all": Refused(
        called(lambda x: x.min(), "method min(x)"),
        "min is called in a form that minimum does not cover: of_two() missing 1 required positional argument: 'other'",
    ),
    "division rounded to whole numbers": Refused(
        called(lambda x: torch.div(x, 2, rounding_mode="floor"), "call torch.div(x, 2, rounding_mode='floor')"),
        "div is called in a form that div does not cover: got an unexpected keyword argument 'rounding_mode'",
    ),
    "reversed subtraction of a multiple": Refused(
        called(lambda x: torch.rsub(x, 1, alpha=2), "call torch.rsub(x, 1, alpha=2)"),
        "rsub is called in a form that sub does not cover: alpha belongs to the first operand here",
    ),
    "sum in another dtype": Refused(
        called(lambda x: x.sum(1, dtype=torch.float64), "method sum(x, 1, dtype=torch.float64)"),
        "sum is called in a form that sum does not cover: got an unexpected keyword argument 'dtype'",
    ),
    "diagonal": Refused(
        called(lambda x: torch.einsum("bcii->bci", x), "call torch.functional.einsum('bcii->bci', x)"),
        "einsum is called in a form that einsum does not cover: 'bcii->bci' takes a diagonal",
    ),
    "stochastic depth in training": Refused(
        called(
            lambda x: movement.stochastic_depth(x, 0.5, "row", True),
            "call torchvision.ops.stochastic_depth.stochastic_depth(x, 0.5, 'row', True)",
        ),
        "stochastic_depth is called in a form that dropout does not cover: it is in training mode",
        training=True,
    ),
    "instance norm with running statistics": Refused(
        made(nn.InstanceNorm2d, 3, track_running_stats=True, graph="InstanceNorm2d[m](x)"),
        "InstanceNorm2d is called in a form that instance_norm does not cover: running statistics make it a batch norm",
    ),
    "channels dropped in training": Refused(
        made(nn.Dropout2d, graph="Dropout2d[m](x)"),
        "Dropout2d is called in a form that dropout does not cover: whole channels are zeroed in training mode",
        training=True,
    ),
    "statistics averaged over all batches": Refused(
        made(nn.BatchNorm2d, 3, momentum=None, graph="BatchNorm2d[m](x)"),
        "BatchNorm2d is called in a form that batch_norm does not cover: momentum None is an average over all batches so far",
        training=True,
    ),
    "a forward of its own": Refused(
        made(_OwnForward, graph="_OwnForward[m](x)"), "_OwnForward is not an op that fxq knows", Why.UNKNOWN_OP
    ),
    "hooks": Refused(
        Example(_hooked, ("ReLU[m](x)",)),
        "its module has forward hooks, which an int8 op would not run; remove them or use parametrizations",
        Why.HOOKS,
    ),
    "unknown module": Refused(made(nn.Softmin, 1, graph="Softmin[m](x)"), "Softmin is not an op that fxq knows", Why.UNKNOWN_OP),
    "unknown function": Refused(called(lambda x: torch.atan(x), "call torch.atan(x)"), "atan is not an op that fxq knows", Why.UNKNOWN_OP),
    "unknown method": Refused(called(lambda x: x.tril(1), "method tril(x, 1)"), "tril is not an op that fxq knows", Why.UNKNOWN_OP),
    "float-only function": Refused(
        called(lambda x: torch.sin(x), "call torch.sin(x)"), "sin needs more of a large angle than 8 bits", Why.FLOAT_ONLY
    ),
    "float-only method": Refused(
        called(lambda x: x.argmax(1), "method argmax(x, 1)"), "argmax gives indices, also where it gives values as well", Why.FLOAT_ONLY
    ),
    "float-only module": Refused(
        made(nn.LogSoftmax, 1, graph="LogSoftmax[m](x)"), "LogSoftmax gives logarithms, which span more than 8 bits resolve", Why.FLOAT_ONLY
    ),
}


@pytest.mark.filterwarnings("ignore:Implicit dimension choice for softmax")
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_odd_form_stays_as_traced(case: Refused) -> None:
    model = case.example.model().train(case.training)
    module = trace(model, case.example.inputs())
    canonicalize(module, Context(find_profile("x86")))
    assert lines(print_graph(module)) == case.example.graph
    node = list(module.graph.nodes)[1]
    assert recognise(node, module.get_submodule("m") if node.op == "call_module" else None) == Reason(case.why, node.name, case.detail)


def test_number_arithmetic_is_not_an_op_on_tensors() -> None:
    example = called(
        lambda x: x.view(x.size(0) * x.size(1), -1),
        "size(x, dim=0)",
        "size(x, dim=1)",
        "call _operator.mul(size, size_1)",
        "reshape(x, shape=(mul, -1))",
    )
    module = trace(example.model(), example.inputs())
    canonicalize(module, Context(find_profile("x86")))
    assert lines(print_graph(module)) == example.graph


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d, nn.BatchNorm2d])
def test_training_mode_computes_the_same(kind: type[nn.Module]) -> None:
    example = made(kind, 3 if kind is nn.BatchNorm2d else 0.5, graph="")
    model = example.model().train()
    expected_model, module = copy.deepcopy(model), trace(model, example.inputs())
    canonicalize(module, Context(find_profile("x86")))
    module.recompile()
    torch.manual_seed(5)
    expected = run(expected_model, example.inputs())
    torch.manual_seed(5)
    assert same(run(module, example.inputs()), expected)
    statistics = {name: value for name, value in expected_model.named_buffers() if name.startswith("m.running")}
    assert all(torch.equal(module.state_dict()[name], value) for name, value in statistics.items())


# --- writing in place ------------------------------------------------------------------------------------------------------


def _later_reader(x: torch.Tensor) -> torch.Tensor:
    y = x.sin()
    before = y * 2
    y.relu_()
    return before + y


def _later_view(x: torch.Tensor) -> torch.Tensor:
    y = x.sin()
    y.relu_()
    return y.view(-1) + 1


def _seen_through_view(x: torch.Tensor) -> torch.Tensor:
    y = x.sin()
    view = y.view(-1)
    y.relu_()
    return view + 1


def _result_is_the_input(x: torch.Tensor) -> torch.Tensor:
    y = x.sin()
    y.relu_()
    view = y.view(-1)
    y.add_(1)
    return view


def _twice(x: torch.Tensor) -> torch.Tensor:
    y = x.sin()
    y += x
    y *= 2
    return y.clamp_(max=1) + y


IN_PLACE = {
    "later reader": (_later_reader, ("method sin(x)", "mul(sin, 2)", "relu(sin)", "add(mul, relu_)")),
    "later view": (_later_view, ("method sin(x)", "relu(sin)", "reshape(relu_, shape=(-1,))", "add(view, 1)")),
    "seen through a view": (_seen_through_view, ("method sin(x)", "reshape(sin, shape=(-1,))", "method relu_(sin)", "add(view, 1)")),
    "result is the input": (_result_is_the_input, ("method sin(x)", "relu(sin)", "reshape(relu_, shape=(-1,))", "method add_(relu_, 1)")),
    "twice": (_twice, ("method sin(x)", "add(sin, x)", "mul(add, 2)", "clamp(mul, max=1)", "add(clamp_, clamp_)")),
}


@pytest.mark.parametrize(("function", "graph"), IN_PLACE.values(), ids=IN_PLACE)
def test_later_readers_see_what_was_written(function: Any, graph: tuple[str, ...]) -> None:
    test_spelling(("", ""), called(function, *graph))


class _Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.total.add_(x)


def test_state_of_the_model_is_still_written() -> None:
    x = torch.arange(8.0)
    module = trace(_Counts(), x)
    canonicalize(module, Context(find_profile("x86")))
    assert print_graph(module) == "x: f32[8] = input\nadd_: f32[8] = method add_(@total[8], x)\noutput add_\n"
    module.recompile()
    assert torch.equal(module(x), x) and torch.equal(module(x), 2 * x) and torch.equal(module.total, 2 * x)
