"""MACs against sums made by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.passes import trace
from fxq.report import Kind
from tests.report.models import prepared


class One(nn.Module):
    """Calls a module or function of one tensor; a module of torch.nn stays one call."""

    def __init__(self, inner: Callable[..., Tensor]) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, a: Tensor) -> Tensor:
        return self.inner(a)


class Two(One):
    """The same of two tensors."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.inner(a, b)


class Three(One):
    """The same of three tensors."""

    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return self.inner(a, b, c)


# module, shape of its input, MACs
WEIGHTED = [
    (nn.Conv1d(3, 5, 3), (2, 3, 10), (2 * 5 * 8) * (3 * 3)),
    (nn.Conv2d(3, 5, (3, 2), stride=2), (2, 3, 9, 8), (2 * 5 * 4 * 4) * (3 * 3 * 2)),
    (nn.Conv2d(8, 12, 3, padding=1, groups=4), (2, 8, 10, 10), (2 * 12 * 100) * (2 * 9)),
    (nn.Conv2d(6, 6, 3, groups=6), (1, 6, 5, 5), (6 * 9) * 9),
    (nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), (3 * 27) * (2 * 8)),
    (nn.ConvTranspose2d(4, 6, 3, groups=2), (1, 4, 5, 5), (4 * 25) * (3 * 9)),
    (nn.Linear(6, 5), (2, 6), 2 * 5 * 6),
    (nn.Linear(6, 5, bias=False), (2, 7, 6), 2 * 7 * 5 * 6),
]


@pytest.mark.parametrize(("layer", "shape", "macs"), WEIGHTED, ids=lambda value: str(value) if isinstance(value, nn.Module) else "")
def test_weighted_ops_count_alike_at_every_stage(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    model, x = nn.Sequential(layer).eval(), torch.randn(shape)
    observed = prepared(model, x)
    stages = [trace(model, (x,)), fxq.fuse_fx(model, (x,)), observed, fxq.convert_to_reference_fx(observed), fxq.convert_fx(observed)]
    reports = [fxq.report(module) for module in stages]
    assert [made.totals.macs for made in reports] == [macs] * 5
    assert [made.totals.macs_int8 for made in reports] == [0, 0, macs, macs, macs]
    assert [made.row("_0").macs_share for made in reports] == [1.0] * 5


LEFT_FLOAT = [
    (nn.ConvTranspose2d(4, 6, 3, groups=2), [(1, 4, 5, 5)], (4 * 25) * (3 * 9)),
    (nn.LSTM(3, 4), [(5, 2, 3)], 10 * (16 * 3 + 16 * 4)),
    (nn.GRU(3, 4, num_layers=2, bidirectional=True), [(5, 2, 3)], 10 * 2 * ((12 * 3 + 12 * 4) + (12 * 8 + 12 * 4))),
    (nn.Embedding(10, 4), [(2, 3)], 0),
    (nn.LayerNorm((3, 4)), [(2, 3, 4)], 0),
    (nn.Bilinear(3, 4, 5), [(2, 3), (2, 4)], 2 * 5 * 3 * 4 + 2 * 5 * 4),
    (torch.matmul, [(2, 3, 4), (2, 4, 5)], 2 * 3 * 5 * 4),
    (lambda a, b: a @ b, [(3, 4), (4, 5)], 3 * 5 * 4),
    (lambda a, b: a.bmm(b), [(2, 3, 4), (2, 4, 5)], 2 * 3 * 5 * 4),
    (lambda a, b: torch.mm(input=a, mat2=b), [(3, 4), (4, 5)], 3 * 5 * 4),
    (torch.addmm, [(5,), (3, 4), (4, 5)], 3 * 5 * 4),
    (F.conv_transpose1d, [(2, 4, 5), (4, 3, 2)], (2 * 4 * 5) * (3 * 2)),
    (F.conv2d, [(1, 2, 5, 5), (3, 2, 3, 3)], (3 * 9) * (2 * 9)),
    (F.scaled_dot_product_attention, [(2, 3, 4), (2, 5, 4), (2, 5, 6)], 2 * 3 * 5 * 4 + 2 * 3 * 5 * 6),
    (lambda a, b: torch.einsum("ij,jk->ik", a, b), [(3, 4), (4, 5)], 3 * 5 * 4),
    (lambda a, b: torch.einsum("b...d,b...d->b", a, b), [(2, 3, 4), (2, 3, 4)], 2 * 3 * 4),
    (lambda a: torch.einsum("ij->ji", a), [(3, 4)], 0),
    (lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c), [(3, 4), (4, 5), (5, 2)], 3 * 4 * 5 + 3 * 5 * 2),
    (lambda a, b, c: torch.linalg.multi_dot([a, b, c]), [(3, 4), (4, 5), (5, 2)], None),
    (torch.tensordot, [(2, 3, 4), (3, 4, 5)], 2 * 3 * 4 * 5),
    (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 5 * 4),
    (torch.add, [(3, 4), (3, 4)], 0),
]


@pytest.mark.parametrize(("layer", "shapes", "macs"), LEFT_FLOAT)
def test_other_products(layer: Callable[..., Tensor], shapes: list[tuple[int, ...]], macs: int | None) -> None:
    inputs = [torch.zeros(shape, dtype=torch.int64) if isinstance(layer, nn.Embedding) else torch.randn(shape) for shape in shapes]
    made = fxq.report(fxq.fuse_fx((One, Two, Three)[len(inputs) - 1](layer), tuple(inputs)))
    (row,) = (row for row in made.rows if row.kind is Kind.FLOAT)
    assert row.macs == macs
    assert made.totals.macs == (macs or 0)
    assert made.totals.not_counted == ((row.name,) if macs is None else ())
    assert row.is_heavy == (macs != 0)


def test_product_of_activations_counts_alike_at_every_stage() -> None:
    inputs = (torch.randn(2, 3, 4), torch.randn(2, 4, 5))
    observed = fxq.prepare_fx(Two(torch.matmul).eval(), fxq.get_default_qconfig_mapping("x86"), inputs)
    fxq.calibrate(observed, [inputs])
    stages = [trace(Two(torch.matmul), inputs), observed, fxq.convert_to_reference_fx(observed), fxq.convert_fx(observed)]
    totals = [fxq.report(module).totals for module in stages]
    assert [each.macs for each in totals] == [2 * 3 * 5 * 4] * 4
    assert [each.macs_int8 for each in totals] == [0, *[2 * 3 * 5 * 4] * 3]


class Wrapped(nn.Module):
    """A call that torch.fx does not go into, of the input and a tensor of the model."""

    def __init__(self, function: Callable[..., Tensor], tensor: Tensor) -> None:
        super().__init__()
        self.function, self.tensor = function, nn.Buffer(tensor)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.tensor)


@pytest.mark.parametrize(
    ("function", "tensor", "x", "macs"),
    [
        (torch.kron, torch.randn(5, 4), torch.randn(3, 4), None),
        (torch.hypot, torch.randn(4), torch.randn(3, 4), 0),
        (lambda x, weight: F.embedding(x, weight), torch.randn(5, 4), torch.tensor([1, 2]), 0),
    ],
    ids=["matrix", "vector", "looked up"],
)
def test_unknown_functions_of_matrices(function: Callable[..., Tensor], tensor: Tensor, x: Tensor, macs: int | None) -> None:
    made = fxq.report(fxq.fuse_fx(Wrapped(function, tensor), (x,)))
    (row,) = (row for row in made.rows if row.kind is Kind.FLOAT)
    assert row.macs == macs and made.totals.not_counted == ((row.name,) if macs is None else ())


@pytest.mark.parametrize("batch_first", [False, True])
def test_attention_module(batch_first: bool) -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

        def forward(self, query: Tensor, memory: Tensor) -> Tensor:
            return self.attention(query, memory, memory)[0]

    queries, keys, batch, width = 3, 5, 2, 8
    inputs = [torch.randn(batch, length, width) if batch_first else torch.randn(length, batch, width) for length in (queries, keys)]
    projections = batch * (2 * queries + 2 * keys) * width * width
    scores = batch * queries * keys * width
    assert fxq.report(fxq.fuse_fx(Attend(), tuple(inputs))).totals.macs == projections + 2 * scores
