"""einsum, addmm and attention become matrix products, and what stands around them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fxq
from fxq.graph.annotation import origins_of, refusals_of, tensor_type
from fxq.graph.module import FxqModule
from fxq.graph.ops import call_of
from fxq.graph.parse import parse_graph
from fxq.graph.reasons import Reason, Why
from fxq.graph.text import print_graph
from fxq.passes import Context, trace
from fxq.passes.canonicalize import canonicalize
from fxq.passes.expand_products import expand_products
from fxq.passes.resolve_qconfigs import resolve_qconfigs
from tests.closeness import sqnr
from tests.passes.cases import EVERYTHING, PER_CHANNEL, X86, decisions, up_to

CONTEXT = Context(X86)


def lines(module: FxqModule) -> list[str]:
    """name = op(operands) of every call."""
    found = (line.split(": ", 1) for line in print_graph(module).splitlines() if " = " in line and not line.endswith("input"))
    return [f"{name} = {rest.partition(' = ')[2]}" for name, rest in found]


def einsum(equation: str, *shapes: tuple[int, ...]) -> FxqModule:
    """A graph of one einsum, before it is expanded."""
    names = "abcde"[: len(shapes)]
    inputs = "".join(f"{name}: f32{list(shape)} = input\n" for name, shape in zip(names, shapes, strict=True))
    result = torch.einsum(equation, *map(torch.zeros, shapes))
    read = ", ".join(names) + ("," if len(names) == 1 else "")
    return parse_graph(f"{inputs}e: f32{list(result.shape)} = einsum(({read}), equation='{equation}')\noutput e\n")


def test_addcmul() -> None:
    graph = "x: f32[2, 3] = input\n{}c: f32[2, 3] = addcmul(@b[3], (x, @a[3]), value={})\noutput c\n"
    module = parse_graph(graph.format("", 2))
    assert expand_products(module, CONTEXT) == 1
    assert lines(module) == ["c_mul = mul(x, @a[3])", "c_mul_1 = mul(c_mul, 2)", "c = add(@b[3], c_mul_1)"]
    computed = parse_graph(graph.format("s = size(x, dim=0)\n", "s"))
    assert expand_products(computed, CONTEXT) == 0


FORMS: dict[tuple[str, tuple[tuple[int, ...], ...]], list[str]] = {
    ("mk,kn->mn", ((2, 3), (3, 4))): ["e = matmul(a, b)"],
    ("bhwc,cd->bhwd", ((2, 5, 6, 3), (3, 4))): ["e = matmul(a, b)"],
    ("bhqd,bhkd->bhqk", ((2, 3, 4, 5), (2, 3, 6, 5))): ["e_permute = permute(b, dims=(0, 1, 3, 2))", "e = matmul(a, e_permute)"],
    ("bchw,dc->bdhw", ((2, 3, 5, 6), (4, 3))): [
        "e_permute = permute(a, dims=(0, 2, 3, 1))",
        "e_permute_1 = permute(b, dims=(1, 0))",
        "e_matmul = matmul(e_permute, e_permute_1)",
        "e = permute(e_matmul, dims=(0, 3, 1, 2))",
    ],
    ("bhqd,bkd->bhqk", ((2, 3, 4, 5), (2, 6, 5))): [
        "e_permute = permute(b, dims=(0, 2, 1))",
        "e_unsqueeze = unsqueeze(e_permute, dim=1)",
        "e = matmul(a, e_unsqueeze)",
    ],
    ("bthc,hcd->btd", ((2, 3, 4, 5), (4, 5, 6))): [
        "e_flatten = flatten(a, start_dim=-2)",
        "e_flatten_1 = flatten(b, start_dim=-3, end_dim=-2)",
        "e = matmul(e_flatten, e_flatten_1)",
    ],
    ("i,i->", ((3,), (3,))): [
        "e_unsqueeze = unsqueeze(a, dim=0)",
        "e_unsqueeze_1 = unsqueeze(b, dim=1)",
        "e_matmul = matmul(e_unsqueeze, e_unsqueeze_1)",
        "e = squeeze(e_matmul, dim=(0, 1))",
    ],
    ("bchw,bc->bchw", ((2, 3, 4, 5), (2, 3))): [
        "e_unsqueeze = unsqueeze(b, dim=2)",
        "e_unsqueeze_1 = unsqueeze(e_unsqueeze, dim=3)",
        "e = mul(a, e_unsqueeze_1)",
    ],
    ("abc,c->a", ((2, 3, 4), (4,))): [
        "e_sum = sum(a, dim=(1,))",
        "e_unsqueeze = unsqueeze(b, dim=1)",
        "e_matmul = matmul(e_sum, e_unsqueeze)",
        "e = squeeze(e_matmul, dim=(1,))",
    ],
    ("bti,ir,rs->bts", ((2, 5, 3), (3, 2), (2, 4))): ["e_matmul = matmul(a, b)", "e = matmul(e_matmul, c)"],
    ("bi,i,i->b", ((2, 3), (3,), (3,))): [
        "e_mul = mul(a, b)",
        "e_unsqueeze = unsqueeze(c, dim=1)",
        "e_matmul = matmul(e_mul, e_unsqueeze)",
        "e = squeeze(e_matmul, dim=(1,))",
    ],
    ("bchw->bhwc", ((2, 3, 4, 5),)): ["e = permute(a, dims=(0, 2, 3, 1))"],
    ("abc->b", ((2, 3, 4),)): ["e = sum(a, dim=(0, 2))"],
    ("ab->ab", ((2, 3),)): ["e = identity(a)"],
}


def same_values(module: FxqModule, equation: str) -> bool:
    """Whether the module computes the einsum of its inputs, to a millionth, and has the types that it computes."""
    module.recompile()
    found = [tensor_type(node) for node in module.graph.find_nodes(op="placeholder")]
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in found if each is not None]
    node = next(iter(module.graph.find_nodes(op="output"))).all_input_nodes[0]
    result = module(*tensors)
    typed = tensor_type(node)
    assert typed is not None and typed.shape == tuple(result.shape)
    return torch.allclose(result, torch.einsum(equation, *tensors), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("form", "expected"), FORMS.items(), ids=[equation for equation, _ in FORMS])
def test_einsum(form: tuple[str, tuple[tuple[int, ...], ...]], expected: list[str]) -> None:
    equation, shapes = form
    module = einsum(equation, *shapes)
    assert expand_products(module, CONTEXT) == 1
    assert lines(module) == expected
    assert same_values(module, equation)
    assert expand_products(module, CONTEXT) == 0


LABELS = "abcdef"


@st.composite
def equations(draw: st.DrawFn) -> str:
    """Two or three operands of up to four dimensions, and a result with some of their labels."""
    operands = [draw(st.permutations(LABELS)) for _ in range(draw(st.integers(2, 3)))]
    chosen = ["".join(operand[: draw(st.integers(0, 4))]) for operand in operands]
    labels = draw(st.permutations(sorted(set("".join(chosen)))))
    return f"{','.join(chosen)}->{''.join(labels[: draw(st.integers(0, len(labels)))])}"


@settings(max_examples=150, deadline=None)
@given(equations())
def test_any_equation(equation: str) -> None:
    sizes = dict(zip(LABELS, (2, 3, 4, 5, 1, 3), strict=True))
    module = einsum(equation, *(tuple(sizes[label] for label in operand) for operand in equation.partition("->")[0].split(",")))
    expand_products(module, CONTEXT)
    assert not [line for line in lines(module) if "einsum" in line.partition(" = ")[2].partition("(")[0]]
    assert same_values(module, equation)


def test_a_size_that_is_repeated() -> None:
    """torch.einsum takes 1 for any size."""
    module = einsum("ijk,jlk->il", (2, 1, 4), (3, 5, 4))
    before = print_graph(module)
    assert expand_products(module, CONTEXT) == 0
    assert print_graph(module) == before
    (node,) = (node for node in module.graph.nodes if node.name == "e")
    assert refusals_of(node) == (("einsum_matmul", Reason(Why.NOT_FUSABLE, "e", "j stands for the sizes 1, 3")),)


ADDED = "x: f32[4, 4] = input\nb: f32[4] = input\n"
SUMS = {
    "": ["y_matmul = matmul(x, x)", "y = add(y_matmul, b)"],
    ", beta=0.5, alpha=2": ["y_matmul = matmul(x, x)", "y_mul = mul(y_matmul, 2)", "y_mul_1 = mul(b, 0.5)", "y = add(y_mul, y_mul_1)"],
    ", beta=0": ["y = matmul(x, x)"],
    ", beta=0, alpha=-1": ["y_matmul = matmul(x, x)", "y = mul(y_matmul, -1)"],
}


@pytest.mark.parametrize(("factors", "expected"), SUMS.items())
def test_addmm(factors: str, expected: list[str]) -> None:
    module = parse_graph(f"{ADDED}y: f32[4, 4] = addmm(b, (x, x){factors})\noutput y\n")
    assert expand_products(module, CONTEXT) == 1
    assert lines(module) == expected
    module.recompile()
    x, b = torch.randn(4, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    keywords = dict(eval(f"dict({factors.removeprefix(', ')})"))
    assert torch.allclose(module(x, b), torch.addmm(b, x, x, **keywords), rtol=0, atol=1e-9)


def test_a_factor_that_is_computed() -> None:
    module = parse_graph(f"{ADDED}n: f32[] = input\ny: f32[4, 4] = addmm(b, (x, x), alpha=n)\noutput y\n")
    assert expand_products(module, CONTEXT) == 0
    (node,) = (node for node in module.graph.nodes if node.name == "y")
    assert refusals_of(node) == (("addmm_matmul", Reason(Why.NOT_CONSTANT, "y", "alpha of y is n, not a number")),)


BILINEAR = (
    "a: f32[2, 3] = input\nb: f32[2, 4] = input\nw: f32[5, 3, 4] = input\nc: f32[5] = input\ny: f32[2, 5] = bilinear(a, b, w{})\noutput y\n"
)
ROWS = [
    "y_permute = permute(w, dims=(1, 0, 2))",
    "y_flatten = flatten(y_permute, start_dim=1)",
    "y_matmul = matmul(a, y_flatten)",
    "y_unflatten = unflatten(y_matmul, dim=-1, sizes=(5, 4))",
    "y_unsqueeze = unsqueeze(b, dim=-1)",
    "y_matmul_1 = matmul(y_unflatten, y_unsqueeze)",
]
ENDS = {"": ["y = squeeze(y_matmul_1, dim=-1)"], ", c": ["y_squeeze = squeeze(y_matmul_1, dim=-1)", "y = add(y_squeeze, c)"]}


@pytest.mark.parametrize("bias", ENDS)
def test_bilinear(bias: str) -> None:
    module = resolved(BILINEAR.format(bias), EVERYTHING)
    inputs = [torch.randn(shape) for shape in ((2, 3), (2, 4), (5, 3, 4), (5,))]
    exact = module(*inputs)
    assert expand_products(module, CONTEXT) == 1
    assert lines(module) == [*ROWS, *ENDS[bias]]
    module.recompile()
    assert torch.allclose(module(*inputs), exact, atol=1e-6)


def test_bilinear_that_stays_float() -> None:
    module = resolved(BILINEAR.format(""), fxq.QConfigMapping().set_global(None))
    assert expand_products(module, CONTEXT) == 0


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(8, 2, 4, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Any:
        heads = torch.einsum("btc,chd->bhtd", x, self.w)
        weights = (torch.einsum("bhqd,bhkd->bhqk", heads, heads) / math.sqrt(4)).softmax(-1)
        return torch.einsum("bhqk,bhkd->bqhd", weights, heads).flatten(2)


def test_all_calls_have_the_origin_of_the_einsum() -> None:
    module = trace(Attention(), torch.zeros(2, 5, 8))
    canonicalize(module, CONTEXT)
    expand_products(module, CONTEXT)
    found = {node.name: [(origin.object_type, origin.index) for origin in origins_of(node)] for node in module.graph.nodes}
    assert {name: origins for name, origins in found.items() if name.startswith("einsum_1")} == {
        "einsum_1_permute": [("torch.einsum", 1)], "einsum_1": [("torch.einsum", 1)],
    }  # fmt: skip


def test_attention_in_int8_for_any_batch() -> None:
    module = up_to("annotate", trace(Attention(), torch.zeros(2, 5, 8)))
    products = [node.name for node in module.graph.nodes if (call := call_of(node)) is not None and call.op.name == "matmul"]
    assert {name: decisions(module)[name] for name in products} == {
        "einsum": "int8", "einsum_1": "int8 → float", "einsum_2_matmul": "int8 → float",
    }  # fmt: skip
    model, mapping = Attention().eval(), fxq.get_default_qconfig_mapping("x86")
    batches = [torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    prepared = fxq.prepare_fx(model, mapping, batches[0])
    fxq.calibrate(prepared, batches, progress=False)
    converted = fxq.convert_fx(prepared)
    larger = torch.cat(batches)
    with torch.no_grad():
        exact, found = model(larger), converted(larger)
    assert float(10 * torch.log10(exact.square().sum() / (found - exact).square().sum())) > 25


# --- scaled_dot_product_attention ------------------------------------------------------------------------------------------

HEADS = "q: f32[2, 4, 5, 8] = input\nk: f32[2, 4, 7, 8] = input\nv: f32[2, 4, 7, 6] = input\n"
SHARED = "q: f32[2, 4, 5, 8] = input\nk: f32[2, 2, 7, 8] = input\nv: f32[2, 2, 7, 6] = input\n"
STEPS = ["y_transpose = transpose(k, dim0=-2, dim1=-1)", "y_matmul = matmul(q, y_transpose)"]
END = ["y_softmax = softmax(y_mul, dim=-1)", "y = matmul(y_softmax, v)"]
WRITTEN_OUT = {
    (HEADS, ""): [*STEPS, f"y_mul = mul(y_matmul, {1 / math.sqrt(8)!r})", *END],
    (HEADS, ", scale=0.5"): [*STEPS, "y_mul = mul(y_matmul, 0.5)", *END],
    (SHARED, ", scale=0.5, enable_gqa=True"): [
        "y_repeat_interleave = repeat_interleave(k, repeats=2, dim=-3)",
        "y_repeat_interleave_1 = repeat_interleave(v, repeats=2, dim=-3)",
        STEPS[0].replace("(k", "(y_repeat_interleave"),
        STEPS[1],
        "y_mul = mul(y_matmul, 0.5)",
        END[0],
        "y = matmul(y_softmax, y_repeat_interleave_1)",
    ],
}


def resolved(graph: str, mapping: fxq.QConfigMapping) -> FxqModule:
    module = parse_graph(graph)
    resolve_qconfigs(module, Context(X86, mapping))
    return module


@pytest.mark.parametrize(("form", "expected"), WRITTEN_OUT.items(), ids=["plain", "scale", "shared heads"])
def test_attention(form: tuple[str, str], expected: list[str]) -> None:
    inputs, options = form
    module = resolved(f"{inputs}y: f32[2, 4, 5, 6] = attention(q, k, v{options})\noutput y\n", EVERYTHING)
    tensors = [torch.randn(found.shape) for node in module.graph.find_nodes(op="placeholder") if (found := tensor_type(node))]
    exact = module(*tensors)
    assert expand_products(module, CONTEXT) == 1
    assert lines(module) == expected
    module.recompile()
    assert torch.allclose(module(*tensors), exact, atol=1e-6)
    assert expand_products(module, CONTEXT) == 0


@pytest.mark.parametrize(
    ("options", "qconfig", "why"),
    [
        (", is_causal=True", PER_CHANNEL, Why.OPERAND),
        (", mask=m", PER_CHANNEL, Why.OPERAND),
        (", dropout=0.5", PER_CHANNEL, Why.TRAINING),
        (", scale=s", PER_CHANNEL, Why.NOT_CONSTANT),
        ("", fxq.per_row_dynamic_qconfig, Why.NO_QCONFIG),
        ("", None, Why.NO_QCONFIG),
    ],
)
def test_attention_that_stays_one_float_op(options: str, qconfig: Any, why: Why) -> None:
    graph = f"{HEADS}m: b8[5, 7] = input\ns: f32[] = input\ny: f32[2, 4, 5, 6] = attention(q, k, v{options})\noutput y\n"
    module = resolved(graph, fxq.QConfigMapping().set_global(qconfig))
    before = print_graph(module)
    assert expand_products(module, CONTEXT) == 0 and print_graph(module) == before
    (node,) = (node for node in module.graph.nodes if node.name == "y")
    ((rule, reason),) = refusals_of(node)
    assert (rule, reason.why) == ("attention_matmul", why)


class Encoder(nn.Module):
    """The attention of an encoder, as transformers writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        input_shape = x.shape[:-1]
        q, k, v = (part.view(*input_shape, -1, 8).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y: Tensor = self.out(mixed.transpose(1, 2).reshape(*input_shape, -1))
        return y


@pytest.mark.parametrize("masked", [False, True])
def test_calibrated_attention_for_any_batch_and_length(masked: bool) -> None:
    torch.manual_seed(0)
    model, generator = Encoder().eval(), torch.Generator().manual_seed(1)
    inputs = [(torch.randn(3, length, 32, generator=generator),) for length in (9, 9, 9, 5)]
    if masked:
        inputs = [(x, (torch.arange(x.shape[1]) < torch.tensor([2, 4, x.shape[1]])[:, None])[:, None, None]) for (x,) in inputs]
    int8 = fxq.quantize(model, inputs[:3], progress=False)
    products = [row for row in fxq.report(int8).rows if "scaled_dot_product_attention" in row.name and row.macs]
    assert [row.kind.value for row in products] == (["float"] if masked else ["int8", "int8"])
    assert all("one op in float" in str(row.reason) for row in products if masked)
    with torch.no_grad():
        for given in inputs:
            assert sqnr(int8(*given), model(*given)) > (30 if masked else 20)


def test_switched_off() -> None:
    mapping = fxq.QConfigMapping().set_global(PER_CHANNEL).set_object_type(torch.einsum, None)
    found = decisions(up_to("annotate", trace(Attention(), torch.zeros(2, 5, 8)), mapping))
    assert {reason for name, reason in found.items() if "matmul" in name} == {'switched off: kept float by set_object_type("torch.einsum")'}
