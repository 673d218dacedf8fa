"""Compiled attention against torch's in float64, on every ISA of this machine."""

from __future__ import annotations

import math
import operator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import fxq
from fxq.graph import movement, products
from fxq.lowering.executable import regions_of
from fxq.runtime.dynamic.attention import attend
from fxq.runtime.jit.attention import CompiledAttention, mask_kind
from fxq.runtime.jit.compile import compile_kernels
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.kernels.attention import BLOCK, Heads
from fxq.runtime.jit.region import CompiledRegion, accepts
from fxq.runtime.region import Region, Step, Value
from tests.closeness import sqnr
from tests.examples import examples
from tests.runtime.jit.regions import EVERY_ISA

# of the largest value, for scores and sums of the lengths here: torch's own float32 is as far from float64
CLOSE = 2e-6


def heads_of(images: int, count: int, heads: int, features: int, seed: int = 0) -> Tensor:
    """[images, heads, count, features] as a projection leaves it, seen by heads."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, count, heads * features, generator=generator).view(images, count, heads, features).transpose(1, 2)


def compiled(tensors: tuple[Tensor, Tensor, Tensor], mask: Tensor | None = None, causal: bool = False, isa: Isa | None = None) -> Tensor:
    query, keys, values = tensors
    heads = query.shape[1]
    shape = Heads(heads, heads // keys.shape[1], query.shape[3], values.shape[3], mask_kind(mask), causal)
    return CompiledAttention(shape, isa or find_isa())(query, keys, values, mask, 1 / math.sqrt(query.shape[3]))


def check(tensors: tuple[Tensor, Tensor, Tensor], mask: Tensor | None = None, causal: bool = False, isa: Isa | None = None) -> None:
    found, doubles = compiled(tensors, mask, causal, isa), [tensor.double() for tensor in tensors]
    wanted = mask.double() if mask is not None and mask.dtype == torch.float32 else mask
    expected = F.scaled_dot_product_attention(*doubles, wanted, is_causal=causal, enable_gqa=True)
    assert found.shape == expected.shape and found.transpose(1, 2).is_contiguous()
    assert float((found - expected).abs().max()) <= CLOSE * max(1.0, float(tensors[2].abs().max()))


def tensors_of(queries: int, keys: int, features: int, outputs: int, heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return heads_of(2, queries, heads, features, 1), heads_of(2, keys, heads, features, 2), heads_of(2, keys, heads, outputs, 3)


SIZES = [(1, 1, 1, 1), (5, 7, 3, 2), (7, 17, 15, 33), (13, 65, 64, 64), (25, 4, 8, 130), (11, 2 * BLOCK + 3, 20, 8)]


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("sizes", SIZES)
def test_sizes(isa: Isa, sizes: tuple[int, int, int, int]) -> None:
    check(tensors_of(*sizes), isa=isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("lengths", [(1, 1), (5, 7), (6, 16), (13, BLOCK), (25, 4), (11, 2 * BLOCK + 3)])
def test_masks(isa: Isa, lengths: tuple[int, int]) -> None:
    """Each is another code, which all lengths share."""
    tensors, (queries, keys) = tensors_of(*lengths, 8, 8), lengths
    generator = torch.Generator().manual_seed(0)
    check(tensors, causal=True, isa=isa)
    check(tensors, torch.rand(2, 1, queries, keys, generator=generator) > 0.4, isa=isa)
    check(tensors, torch.randn(1, 2, 1, keys, generator=generator), isa=isa)
    check(tensors, torch.randn(keys, queries, generator=generator).mT, isa=isa)


@examples(40)
@given(st.integers(1, 70), st.integers(1, 300), st.integers(1, 40), st.booleans(), st.integers(0, 9))
def test_any_length(queries: int, keys: int, images: int, causal: bool, seed: int) -> None:
    shapes = ((queries, 12), (keys, 12), (keys, 20))
    query, key, value = (heads_of(images, count, 2, features, seed + n) for n, (count, features) in enumerate(shapes))
    check((query, key, value), causal=causal)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_heads_that_share_keys(isa: Isa) -> None:
    check((heads_of(2, 9, 6, 8), heads_of(2, 21, 2, 8, 1), heads_of(2, 21, 2, 8, 2)), isa=isa)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_masks_that_leave_nothing(isa: Isa) -> None:
    """Zeros, as torch has it; a mask that adds the lowest number to every score gives the mean."""
    tensors = tensors_of(8, 20, 8, 8)
    rows = torch.ones(8, 20, dtype=torch.bool)
    rows[[0, 7]] = False
    rows[3, 5:] = False
    check(tensors, rows, isa=isa)
    check(tensors, torch.where(rows, 0.0, -math.inf), isa=isa)
    lowest = torch.finfo(torch.float32).min
    assert torch.allclose(compiled(tensors, torch.full((8, 20), lowest), isa=isa), tensors[2].mean(2, keepdim=True), atol=CLOSE)
    assert not compiled((tensors[0], tensors[1][:, :, :0], tensors[2][:, :, :0]), isa=isa).any()


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite(isa: Isa, value: float) -> None:
    """In one head: a query takes its own row with it, a key the queries behind it, a value its feature of all rows, as in torch."""
    finite = []
    for place in range(3):
        tensors = tensors_of(9, 20, 8, 8)
        tensors[place][0, 1, 4, 2] = value
        found = compiled(tensors, causal=True, isa=isa).isfinite()
        assert found[1].all() and found[0, 0].all()
        finite.append(found[0, 1])
    of_query, of_key, of_value = finite
    assert not of_query[4].any() and of_query[:4].all() and of_query[5:].all()
    assert of_key[:4].all() and (of_key[4:].all(1) | ~of_key[4:].any(1)).all() and not of_key.all()
    assert not of_value[4:, 2].any() and of_value[:, [0, 1, 3, 4, 5, 6, 7]].all()


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_scores_of_any_size(isa: Isa) -> None:
    query, keys, values = tensors_of(9, 50, 16, 8)
    for size in (1e-30, 1.0, 4.0):
        check((query * size, keys, values), isa=isa)
    found, largest = compiled((query * 1e15, keys, values), isa=isa), (query @ keys.mT).argmax(-1)
    assert torch.equal(found, values.gather(2, largest[..., None].expand_as(found)))


def test_parts_of_one_projection_are_read_where_they_lie() -> None:
    qkv = torch.randn(2, 30, 3, 4, 16, generator=torch.Generator().manual_seed(0)).permute(2, 0, 3, 1, 4)
    check((qkv[0], qkv[1], qkv[2]))
    turned = qkv.transpose(-1, -2).contiguous().transpose(-1, -2)
    check((turned[0], turned[1], turned[2]))


def test_nothing_is_compiled_for_another_length() -> None:
    code = CompiledAttention(Heads(2, 1, 8, 8, "", False), find_isa())
    plans = [code.plan(images, queries, keys) for images, queries, keys in ((1, 1, 1), (4, 16, 128), (8, 512, 512))]
    kernels = {call.planned.kernel for plan in plans for call in plan.calls}
    assert len(kernels) == 2
    code_of = compile_kernels(kernels)
    code(*tensors_of(100, 300, 8, 8), None, 0.5)
    assert compile_kernels(kernels) == code_of and len(code.programs) == 1


def test_several_callers_and_threads() -> None:
    batches = [tensors_of(count, 2 * count, 16, 16) for count in range(1, 40)]
    expected = [attend(*tensors) for tensors in batches]
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda tensors: attend(*tensors), batches * 3))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(expected * 3, found, strict=True))


def test_what_has_no_code_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = tensors_of(5, 6, 8, 8)
    doubles = tuple(tensor.double() for tensor in tensors)
    assert torch.equal(attend(*doubles), F.scaled_dot_product_attention(*doubles))
    monkeypatch.setenv("FXQ_RUNTIME", "integer")
    assert torch.equal(attend(*tensors), F.scaled_dot_product_attention(*tensors))


# --- as a step of a program ---------------------------------------------------------------------------------------------------


def step_of(inputs: int, **options: Any) -> Region:
    """Attention of the first three inputs; with a fourth one, that is the mask."""
    step = Step("attention", products.attention, tuple(map(Value, range(3))), {**options, **({"mask": Value(3)} if inputs > 3 else {})})
    return Region("region", inputs, (step,), (inputs,))


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": 0.3, "is_causal": True}, {"mask": None, "dropout": 0.0, "is_causal": False, "scale": None, "enable_gqa": True}],
    ids=["plain", "causal", "shared"],
)
def test_a_step_of_a_program(options: dict[str, Any]) -> None:
    shared = 2 if options.get("enable_gqa") else 6
    region = CompiledRegion(step_of(3, **options))
    for queries, keys in ((9, 21), (1, 5), (300, 40)):
        tensors = [heads_of(2, queries, 6, 8), heads_of(2, keys, shared, 8, 1), heads_of(2, keys, shared, 12, 2)]
        (found,) = region(tensors)
        assert torch.allclose(found, products.attention(*tensors, **options), atol=CLOSE)
    assert not region.refused and len(region.programs) == 3


@pytest.mark.parametrize(
    "mask",
    [
        torch.randn(2, 1, 1, 21),
        torch.randn(9, 21) > 0,
        torch.ones(1, 6, 9, 21, dtype=torch.bool),
        torch.randn(9, 21, 6).permute(2, 0, 1)[None],
        torch.randn(21, 9).mT > 0,
    ],
)
def test_masks_of_a_step(mask: Tensor) -> None:
    region = CompiledRegion(step_of(4))
    tensors = [heads_of(2, 9, 6, 8), heads_of(2, 21, 6, 8, 1), heads_of(2, 21, 6, 8, 2)]
    (found,) = region([*tensors, mask])
    assert torch.allclose(found, F.scaled_dot_product_attention(*tensors, mask), atol=CLOSE) and not region.refused


def test_whether_a_step_is_causal_may_depend_on_sizes() -> None:
    """As in a decoder, of which one token looks at all before it."""
    sizes = Step("size", movement.size, (Value(0),), {"dim": 2})
    several = Step("several", operator.gt, (Value(3), 1), {})
    attention = Step("attention", products.attention, tuple(map(Value, range(3))), {"is_causal": Value(4)})
    region = CompiledRegion(Region("region", 3, (sizes, several, attention), (5,)))
    for queries, keys in ((1, 9), (9, 9)):
        tensors = [heads_of(2, queries, 6, 8), heads_of(2, keys, 6, 8, 1), heads_of(2, keys, 6, 8, 2)]
        (found,) = region(tensors)
        assert torch.allclose(found, F.scaled_dot_product_attention(*tensors, is_causal=queries > 1), atol=CLOSE)
    assert not region.refused


def test_steps_that_are_left_to_torch() -> None:
    tensors = [heads_of(2, 9, 6, 8), heads_of(2, 21, 6, 8, 1), heads_of(2, 21, 6, 8, 2)]
    repeated = torch.randn(9, 1)
    for inputs, reason in (
        (tensors, ""),
        ([each[None] for each in tensors], "5 dimensions"),
        ([each[0, 0] for each in tensors], "2 dimensions"),
        ([*tensors, repeated], "one element for all keys"),
    ):
        region = CompiledRegion(step_of(len(inputs)))
        (found,) = region(inputs)
        assert torch.allclose(found, F.scaled_dot_product_attention(*inputs), atol=CLOSE)
        assert [reason in refused for refused in region.refused.values()] == ([True] if reason else [])
    assert not accepts(step_of(3, dropout=0.5).steps[0], False)


@pytest.mark.parametrize("mask", [None, torch.randn(6, 9, 21), torch.randn(9, 21) > 0, torch.randn(1, 1, 21)])
def test_images_without_heads(mask: Tensor | None) -> None:
    tensors = [torch.randn(6, *shape, generator=torch.Generator().manual_seed(0)) for shape in ((9, 8), (21, 8), (21, 12))]
    masks = [] if mask is None else [mask]
    region = CompiledRegion(step_of(3 + len(masks)))
    (found,) = region([*tensors, *masks])
    assert torch.allclose(found, F.scaled_dot_product_attention(*tensors, mask), atol=CLOSE) and not region.refused


class Block(nn.Module):
    """A transformer's block, as Hugging Face writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.norm = nn.LayerNorm(32)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        shape = x.shape[:-1]
        q, k, v = (layer(x).view(*shape, -1, 8).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y: Tensor = self.norm(x + self.out(mixed.transpose(1, 2).reshape(*shape, -1)))
        return y


@pytest.mark.parametrize("masked", [False, True])
def test_a_transformer_is_one_program(masked: bool) -> None:
    torch.manual_seed(0)
    blocks = nn.ModuleList(Block() for _ in range(2)).eval()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = blocks

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            for block in self.blocks:
                x = block(x, mask)
            return x

    def inputs(batch: int, length: int) -> tuple[Tensor, ...]:
        mask = (torch.arange(length) < torch.arange(1, batch + 1)[:, None])[:, None, None]
        return (torch.randn(batch, length, 32), mask) if masked else (torch.randn(batch, length, 32),)

    mapping = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    model, integer = (
        fxq.convert_fx(fxq.prepare_fx(Model().eval(), mapping, inputs(2, 5)), runtime=runtime) for runtime in ("auto", "integer")
    )
    for batch, length in ((2, 5), (1, 40), (3, 9)):
        given = inputs(batch, length)
        assert sqnr(model(*given), integer(*given)) > 60
    (region,) = regions_of(model)
    assert not region.refused and len(region.programs) == 3
    assert [call.planned.kernel.name for call in region.programs[-1].calls].count("attention") == 2


def test_attention_with_a_mask_between_int8_layers_is_compiled() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 7, 32), torch.ones(7, 7).tril() > 0
    model = fxq.quantize(Block().eval(), [inputs], progress=False)
    model(*inputs)
    kernels = [call.planned.kernel.name for region in regions_of(model) for call in region.programs[-1].calls]
    assert kernels.count("attention") == 1 and kernels.count("gemm") == 4
