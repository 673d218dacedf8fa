"""Every spelling of an op → one call of its canonical function. Row by row: tests/graph/test_ops.py."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fxq.errors import StageError
from fxq.graph.annotation import origins_of
from fxq.graph.text import print_graph
from fxq.passes import FUSE, Context, run_pipeline
from fxq.passes.canonicalize import canonicalize
from fxq.passes.trace import trace
from tests.passes.cases import EVERYTHING, X86, ramp, residual, text, up_to

CONTEXT = Context(X86, EVERYTHING)


def canonical(model: nn.Module, *inputs: Tensor) -> str:
    return print_graph(up_to("canonicalize", trace(model.eval(), inputs)))


def test_a_network() -> None:
    module = up_to("canonicalize", trace(residual(), torch.zeros(2, 3, 8, 8)))
    assert print_graph(module) == text("""
        x: f32[2, 3, 8, 8] = input
        stem_conv: f32[2, 4, 8, 8] = conv(x, @stem.conv.weight[4, 3, 3, 3], padding=(1, 1))
        stem_bn: f32[2, 4, 8, 8] = batch_norm(stem_conv, @stem.bn.running_mean[4], @stem.bn.running_var[4], @stem.bn.weight[4], @stem.bn.bias[4])
        stem_relu: f32[2, 4, 8, 8] = relu(stem_bn)
        body_0_conv: f32[2, 4, 8, 8] = conv(stem_relu, @body.0.conv.weight[4, 4, 3, 3], padding=(1, 1))
        body_0_bn: f32[2, 4, 8, 8] = batch_norm(body_0_conv, @body.0.bn.running_mean[4], @body.0.bn.running_var[4], @body.0.bn.weight[4], @body.0.bn.bias[4])
        body_0_relu: f32[2, 4, 8, 8] = relu(body_0_bn)
        body_1: f32[2, 4, 8, 8] = conv(body_0_relu, @body.1.weight[4, 4, 1, 1], @body.1.bias[4])
        add: f32[2, 4, 8, 8] = add(body_1, stem_relu)
        relu: f32[2, 4, 8, 8] = relu(add)
        pool: f32[2, 4, 1, 1] = adaptive_avg_pool(relu, output_size=(1, 1))
        flatten: f32[2, 4] = flatten(pool, start_dim=1)
        fc: f32[2, 5] = linear(flatten, @fc.weight[5, 4], @fc.bias[5])
        output fc
    """)  # noqa: E501
    assert set(module.state_dict()) == set(residual().state_dict())


def test_values_are_preserved() -> None:
    x = ramp(2, 3, 8, 8)
    assert torch.equal(up_to("canonicalize", trace(residual(), x))(x), residual()(x))


def test_a_second_run_changes_nothing() -> None:
    module = up_to("canonicalize", trace(residual(), torch.zeros(2, 3, 8, 8)))
    before = print_graph(module)
    assert canonicalize(module, CONTEXT) == 0
    assert print_graph(module) == before


def test_names_and_origins_stay() -> None:
    module = trace(residual(), torch.zeros(2, 3, 8, 8))
    before = {node.name: origins_of(node) for node in module.graph.nodes}
    canonicalize(module, CONTEXT)
    after = {node.name: origins_of(node) for node in module.graph.nodes if node.op != "get_attr"}
    assert after == before


class Functional(nn.Module):
    """A conv whose weights are the model's own, and forms that no row covers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 2, 1, 1))
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(input=x, weight=self.weight, stride=2)
        values, _ = self.pool(y)
        return values.view(torch.int32)


def test_what_no_row_covers_stays_as_it_was_traced() -> None:
    assert canonical(Functional(), torch.ones(1, 2, 4, 4)) == text("""
        x: f32[1, 2, 4, 4] = input
        conv2d: f32[1, 4, 2, 2] = conv(x, @weight[4, 2, 1, 1], stride=(2, 2))
        pool: (f32[1, 4, 1, 1], i64[1, 4, 1, 1]) = MaxPool2d[pool](conv2d)
        getitem: f32[1, 4, 1, 1] = call _operator.getitem(pool, 0)
        getitem_1: i64[1, 4, 1, 1] = call _operator.getitem(pool, 1)
        view: i32[1, 4, 1, 1] = method view(getitem, torch.int32)
        output view
    """)


# --- parts of a split ------------------------------------------------------------------------------------------------------


class Parts(nn.Module):
    """A model with this forward."""

    def __init__(self, forward: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.of = forward

    def forward(self, x: Tensor) -> object:
        return self.of(x)


def _unpacked(x: Tensor) -> Tensor:
    first, _, third = x.chunk(4, 1)  # 6 columns in 4 chunks are 3 chunks of 2
    return first - third


def _some_by_slice(x: Tensor) -> Tensor:
    parts = x.split(2, dim=1)
    return torch.cat(parts[1:], 1) * parts[0].sum()


SPLITS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "each part by itself": (
        _unpacked,
        """
        x: f32[2, 6] = input
        getitem: f32[2, 2] = chunk(x, chunks=4, dim=1)
        getitem_2: f32[2, 2] = chunk(x, chunks=4, dim=1, item=2)
        sub: f32[2, 2] = sub(getitem, getitem_2)
        output sub
        """,
    ),
    "from the end": (
        lambda x: x.unbind(1)[-1],
        """
        x: f32[2, 6] = input
        getitem: f32[2] = unbind(x, dim=1, item=-1)
        output getitem
        """,
    ),
    "a slice of the parts as a list, beside a part": (
        _some_by_slice,
        """
        x: f32[2, 6] = input
        getitem_2: f32[2, 2] = split(x, split_size=2, dim=1, item=1)
        getitem_3: f32[2, 2] = split(x, split_size=2, dim=1, item=2)
        cat: f32[2, 4] = cat((getitem_2, getitem_3), dim=1)
        getitem_1: f32[2, 2] = split(x, split_size=2, dim=1)
        sum_1: f32[] = sum(getitem_1)
        mul: f32[2, 4] = mul(cat, sum_1)
        output mul
        """,
    ),
    "a part of a slice": (
        lambda x: x.chunk(3, 1)[1:][0],
        """
        x: f32[2, 6] = input
        chunk: (f32[2, 2], f32[2, 2], f32[2, 2]) = method chunk(x, 3, 1)
        getitem: (f32[2, 2], f32[2, 2]) = call _operator.getitem(chunk, slice(1, None, None))
        getitem_1: f32[2, 2] = call _operator.getitem(getitem, 0)
        output getitem_1
        """,
    ),
    "all parts as a list": (
        lambda x: torch.stack(x.unbind(1)[4::-2]),
        """
        x: f32[2, 6] = input
        getitem_1: f32[2] = unbind(x, dim=1, item=4)
        getitem_2: f32[2] = unbind(x, dim=1, item=2)
        getitem_3: f32[2] = unbind(x, dim=1)
        stack: f32[3, 2] = stack((getitem_1, getitem_2, getitem_3))
        output stack
        """,
    ),
    "the values of a maximum, by name and by place": (
        lambda x: x.max(1, keepdim=True)[0] + torch.min(x, dim=-1, keepdim=True).values,
        """
        x: f32[2, 6] = input
        getitem: f32[2, 1] = amax(x, dim=1, keepdim=True)
        getattr_1: f32[2, 1] = amin(x, dim=-1, keepdim=True)
        add: f32[2, 1] = add(getitem, getattr_1)
        output add
        """,
    ),
    "the values of a maximum, beside its indices": (
        lambda x: x.max(1)[0] * x.max(1).indices,
        """
        x: f32[2, 6] = input
        getitem: f32[2] = amax(x, dim=1)
        max_2: (f32[2], i64[2]) = method max(x, 1)
        getattr_1: i64[2] = call getattr(max_2, 'indices')
        mul: f32[2] = mul(getitem, getattr_1)
        output mul
        """,
    ),
    "how many parts there are, and all of them": (
        lambda x: sum(part * place for place, part in enumerate(x.split((2, 4), 1)[0].chunk(2, 1))),
        """
        x: f32[2, 6] = input
        getitem: f32[2, 2] = split(x, split_size=(2, 4), dim=1)
        len_1 = pieces(getitem, cut='chunk', by=(2,), dim=1)
        assume = call fxq.runtime.assumptions.assume(len_1, 2, PLACE)
        getitem_1: f32[2, 1] = chunk(getitem, chunks=2, dim=1)
        getitem_2: f32[2, 1] = chunk(getitem, chunks=2, dim=1, item=1)
        mul: f32[2, 1] = mul(getitem_1, 0)
        add: f32[2, 1] = add(0, mul)
        mul_1: f32[2, 1] = mul(getitem_2, 1)
        add_1: f32[2, 1] = add(add, mul_1)
        output add_1
        """,
    ),
    "all parts as the result": (
        lambda x: x.chunk(2, 1),
        """
        x: f32[2, 6] = input
        chunk: (f32[2, 3], f32[2, 3]) = method chunk(x, 2, 1)
        output chunk
        """,
    ),
}


@pytest.mark.parametrize(("forward", "graph"), SPLITS.values(), ids=SPLITS)
def test_parts_of_a_split(forward: Callable[[Tensor], object], graph: str) -> None:
    x = ramp(2, 6)
    module = up_to("canonicalize", trace(Parts(forward), x))
    assert re.sub(r"(assume\(.*?, .*?), '.*'\)", r"\1, PLACE)", print_graph(module)) == text(graph)
    found, expected = module(x), forward(x)
    assert all(map(torch.equal, found, expected)) if isinstance(expected, tuple) else torch.equal(found, expected)


def test_a_part_is_a_view() -> None:
    """What is written into x later is seen in the part: the writing stays in place."""
    x = ramp(2, 6)

    def forward(x: Tensor) -> Tensor:
        y = x * 2
        part = y.chunk(2, 1)[0]
        y.relu_()
        return part + 1

    module = up_to("canonicalize", trace(Parts(forward), -x))
    assert "relu_: f32[2, 6] = method relu_(mul)" in print_graph(module)
    assert torch.equal(module(-x), forward(-x))


# --- in place --------------------------------------------------------------------------------------------------------------


class Later(nn.Module):
    """What reads a value after it was changed in place reads the new one."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x * x
        before = y + 1
        y.relu_()
        return before, y + 2


def test_readers_of_a_changed_value_read_the_new_one() -> None:
    assert canonical(Later(), ramp(3)) == text("""
        x: f32[3] = input
        mul: f32[3] = mul(x, x)
        add: f32[3] = add(mul, 1)
        relu_: f32[3] = relu(mul)
        add_1: f32[3] = add(relu_, 2)
        output (add, add_1)
    """)


class ThroughView(nn.Module):
    """A change that is seen through a view made before."""

    def forward(self, x: Tensor) -> Tensor:
        y = x - 1.0
        row = y[0]
        y.relu_()
        return row + y


def test_a_change_that_a_view_shows_stays_in_place() -> None:
    x = ramp(2, 2)
    assert canonical(ThroughView(), x) == text("""
        x: f32[2, 2] = input
        sub: f32[2, 2] = sub(x, 1.0)
        getitem: f32[2] = getitem(sub, index=0)
        relu_: f32[2, 2] = method relu_(sub)
        add: f32[2, 2] = add(getitem, sub)
        output add
    """)
    assert torch.equal(up_to("canonicalize", trace(ThroughView(), x))(x), ThroughView()(x))


class OfPart(nn.Module):
    """A change of a part is one of the whole. `y[1:] *= 2` is three calls: read, multiply, write."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x - 1.0
        before = y + 0
        y[0].zero_()
        y[1:] *= 2
        return before, y


def test_a_change_of_a_part_is_one_of_the_whole() -> None:
    x = ramp(2, 2)
    assert canonical(OfPart(), x) == text("""
        x: f32[2, 2] = input
        sub: f32[2, 2] = sub(x, 1.0)
        add: f32[2, 2] = add(sub, 0)
        getitem: f32[2] = getitem(sub, index=0)
        zero_: f32[2] = fill(getitem, value=0)
        setitem_1: f32[2, 2] = setitem(sub, zero_, index=0)
        getitem_1: f32[1, 2] = getitem(setitem_1, index=slice(1, None, None))
        mul: f32[1, 2] = mul(getitem_1, 2)
        setitem: f32[2, 2] = setitem(setitem_1, mul, index=slice(1, None, None))
        output (add, setitem)
    """)
    found, expected = up_to("canonicalize", trace(OfPart(), x))(x), OfPart()(x)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("change", ["a mask", "a part of a part", "another part"])
def test_a_change_of_what_is_no_part_or_of_what_others_see(change: str) -> None:
    """Same values, whether the change stays in place or not."""

    def forward(x: Tensor) -> Tensor:
        y = x - 1.0
        other = y[:, 1]
        part = {"a mask": y[y > 0], "a part of a part": y[1:][0], "another part": y[1]}[change]
        part.zero_()
        return y + (other[:, None] if change == "another part" else 0)

    x = ramp(2, 2)
    assert torch.equal(up_to("canonicalize", trace(Parts(forward), x))(x), forward(x))


class InPlaceModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Hardtanh(-1, 1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = x + x
        self.act(y)
        return y


def test_a_module_that_writes_into_its_input() -> None:
    assert canonical(InPlaceModule(), ramp(2)) == text("""
        x: f32[2] = input
        add: f32[2] = add(x, x)
        act: f32[2] = clamp(add, min=-1.0, max=1.0)
        output act
    """)


# --- tensors of the model --------------------------------------------------------------------------------------------------


def test_a_parametrized_weight_has_the_value_of_now() -> None:
    conv = parametrizations.weight_norm(nn.Conv2d(2, 3, 1))
    x = ramp(1, 2, 2, 2)
    module = up_to("canonicalize", trace(nn.Sequential(conv), x))
    assert torch.equal(module(x), conv(x))
    assert print_graph(module) == text("""
        input_1: f32[1, 2, 2, 2] = input
        _0: f32[1, 3, 2, 2] = conv(input_1, @0.weight[3, 2, 1, 1], @0.bias[3])
        output _0
    """)


def test_inputs_of_modules_that_are_none_by_name_are_not_given() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose1d(2, 2, 2)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.up(x, output_size=None)
            return found

    assert canonical(Model(), ramp(1, 2, 4)).splitlines()[1] == ("up: f32[1, 2, 5] = conv_transpose(x, @up.weight[2, 2, 2], @up.bias[2])")


class Sub(nn.Linear):
    """Its forward is Linear's."""


class Other(nn.Linear):
    """Its forward is not Linear's."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


def test_a_subclass_is_its_base_where_it_inherits_forward() -> None:
    assert (
        canonical(nn.Sequential(Sub(2, 2)), ramp(1, 2)).splitlines()[1]
        == "linear: f32[1, 2] = linear(input_1, @0.weight[2, 2], @0.bias[2])"
    )
    x = ramp(1, 2)
    model = nn.Sequential(Other(2, 2))
    assert torch.equal(up_to("canonicalize", trace(model, x))(x), model(x))


def test_only_a_traced_model_is_taken() -> None:
    module = up_to("fuse", trace(residual(), torch.zeros(2, 3, 8, 8)))
    with pytest.raises(StageError, match="canonicalize\n  expected: a model at stage TRACED\n  found:    stage FUSED"):
        run_pipeline(module, FUSE, CONTEXT)


def test_methods_that_take_a_tensor_for_its_shape() -> None:
    class Like(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.sum(1, keepdim=True).expand_as(x)
            return y.view_as(other=x)

    assert canonical(Like(), ramp(2, 6)) == text("""
        x: f32[2, 6] = input
        sum_1: f32[2, 1] = sum(x, dim=1, keepdim=True)
        getattr_1 = size(x)
        expand_as: f32[2, 6] = expand(sum_1, sizes=getattr_1)
        getattr_2 = size(x)
        view_as: f32[2, 6] = reshape(expand_as, shape=getattr_2)
        output view_as
    """)


def test_casts_to_what_it_is_already() -> None:
    class Cast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = (x * 2).float().to(x.dtype)
            return (
                (y.detach().type_as(x) + torch.zeros(6, dtype=y.dtype, device=y.device)).to(y, copy=True).softmax(-1, dtype=torch.float32)
            )

    assert canonical(Cast(), ramp(2, 6)) == text("""
        x: f32[2, 6] = input
        mul: f32[2, 6] = mul(x, 2)
        float_1: f32[2, 6] = identity(mul)
        getattr_1 = call getattr(x, 'dtype')
        to: f32[2, 6] = identity(float_1)
        detach: f32[2, 6] = identity(to)
        type_as: f32[2, 6] = identity(detach)
        getattr_3 = device(to)
        zeros: f32[6] = call torch.zeros(6, dtype=torch.float32, device=getattr_3)
        add: f32[2, 6] = add(type_as, zeros)
        to_1: f32[2, 6] = method to(add, to, copy=True)
        softmax: f32[2, 6] = softmax(to_1, dim=-1)
        output softmax
    """)


def test_gradients_stop_where_a_model_in_training_says_so() -> None:
    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 2).detach()

    module = trace(Detached(), ramp(2, 6))
    assert module.training and "method detach(mul)" in print_graph(up_to("canonicalize", module))


def test_checks_of_the_rank_are_no_readers_of_what_is_fused() -> None:
    """As in layers that are a batch norm with an activation."""

    class Checked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x.sigmoid())
            torch._assert(y.ndim == 4, "one image")
            return torch.relu(self.norm(y))

    module = up_to("fuse", trace(Checked().eval(), torch.zeros(2, 3, 4, 4)))
    assert print_graph(module) == text("""
        x: f32[2, 3, 4, 4] = input
        sigmoid: f32[2, 3, 4, 4] = sigmoid(x)
        getattr_1 = dim(x)
        eq = call _operator.eq(getattr_1, 4)
        _assert = call torch._assert(eq, 'one image')
        conv: f32[2, 4, 4, 4] = conv(sigmoid, @conv.weight[4, 3, 1, 1], @conv.bias[4], act=relu)
        output conv
    """)


def test_a_vector_of_the_model_that_chooses_places() -> None:
    class Choice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("order", torch.tensor([2, 0, 1, 1]))
            self.register_buffer("backwards", torch.tensor([-1, 0]))

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return x[:, self.order], x[self.order], x[:, :, self.backwards], x[:, self.order, 1:], x[:, :, self.order.argmax()]

    module = up_to("canonicalize", trace(Choice(), (torch.rand(3, 3, 4),)))
    calls = [line.partition(" = ")[2] for line in print_graph(module).splitlines() if line.startswith("getitem")]
    assert calls[:2] == ["index_select(x, dim=1, index=@order[i64, 4])", "index_select(x, dim=0, index=@order[i64, 4])"]
    assert all(call.startswith("getitem(x, ") for call in calls[2:])
    x = torch.rand(5, 3, 4)
    assert all(map(torch.equal, module(x), Choice()(x)))


def test_a_window_as_large_as_the_image() -> None:
    """Whatever the image's size is; sizes of another tensor are no constants, and the call stays as it was traced."""

    class Pools(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
            rows = x.flatten(2)
            return (
                F.avg_pool2d(x, x.size()[2:]),
                F.max_pool2d(x, kernel_size=(x.shape[-2], x.size(3)), stride=1),
                F.max_pool1d(rows, rows.size(2)),
                F.avg_pool2d(x, y.shape[2:]),
                F.avg_pool2d(x, (x.shape[2], x.shape[2])),
            )

    module = up_to("canonicalize", trace(Pools(), (torch.rand(2, 3, 5, 6), torch.rand(1, 1, 2, 2))))
    calls = [line.partition(" = ")[2] for line in print_graph(module).splitlines() if "pool" in line.partition("(")[0]]
    assert calls[:3] == [
        "adaptive_avg_pool(x, output_size=(1, 1))",
        "adaptive_max_pool(x, output_size=(1, 1))",
        "adaptive_max_pool(flatten, output_size=(1,))",
    ]
    assert calls[3] == "call torch._C._nn.avg_pool2d(x, getitem_2)" and calls[4].startswith("avg_pool(x, kernel_size=(getitem")
    x, y = torch.rand(3, 3, 6, 6), torch.rand(1, 1, 3, 2)
    assert max(float((a - b).abs().max()) for a, b in zip(module(x, y), Pools()(x, y), strict=True)) < 1e-6
