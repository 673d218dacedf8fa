"""Ops on tensors of the model alone, and numbers from their sizes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.graph.text import print_graph
from fxq.passes import trace
from tests.passes.cases import up_to


class Model(nn.Module):
    """A third of its bias is cleared in every call, as the keys of torchvision's Swin V2 are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)))
        self.bias = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        bias = self.bias.clone()
        length = bias.numel() // 3
        bias[length : 2 * length].zero_()
        return F.linear(x, self.weight, bias)


def test_part_of_a_constant_that_is_changed() -> None:
    module = up_to("fold_constants", trace(Model(), torch.zeros(2, 4)))
    assert print_graph(module).splitlines()[1:] == [
        "linear: f32[2, 6] = linear(x, @weight[6, 4], @setitem[6])", "output linear",
    ]  # fmt: skip
    assert torch.equal(Model().bias, torch.ones(6))


def test_int8_with_the_changed_part() -> None:
    model, x = Model().eval(), torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    int8 = fxq.quantize(model, [x], progress=False)
    assert fxq.report(int8).totals.macs_share_int8 == 1.0
    assert (int8(x) - model(x)).abs().max() < 0.05
    assert torch.equal(int8(x), int8(x))


def test_constants_that_are_changed_where_fxq_cannot_follow() -> None:
    class Viewed(Model):
        def forward(self, x: Tensor) -> Tensor:
            bias = self.bias.clone()
            bias.view(2, 3)[1].zero_()
            return F.linear(x, self.weight, bias)

    model, x = Viewed().eval(), torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    int8 = fxq.quantize(model, [x], progress=False)
    assert (int8(x) - model(x)).abs().max() < 0.05 and torch.equal(int8(x), int8(x))


def test_a_second_run_changes_nothing() -> None:
    module = up_to("fold_constants", trace(Model(), torch.zeros(2, 4)))
    before = print_graph(module)
    assert print_graph(up_to("fold_constants", module)) == before


def test_weights_that_are_standardized() -> None:
    """As in networks without normalization layers: a batch norm without statistics of its own, in training mode, over the weight."""

    class Standardized(Model):
        def forward(self, x: Tensor) -> Tensor:
            weight = F.batch_norm(self.weight.reshape(1, 6, -1), None, None, training=True, momentum=0.0).reshape_as(self.weight)
            return F.linear(x, weight, self.bias)

    model, x = Standardized(), torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    module = up_to("fold_constants", trace(model, x))
    assert print_graph(module).splitlines()[1:] == ["linear: f32[2, 6] = linear(x, @reshape_as[6, 4], @bias[6])", "output linear"]
    assert torch.equal(module(x), model(x))


def test_a_batch_norm_that_keeps_statistics_stays() -> None:
    class Counting(Model):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, F.batch_norm(self.weight, self.bias[:4], self.bias[:4], training=True))

    assert "batch_norm(" in print_graph(up_to("fold_constants", trace(Counting(), torch.zeros(2, 4))))


def test_numbers_from_a_part_of_the_sizes() -> None:
    """As in a padding that is computed from the size of the kernel."""

    class Padded(Model):
        def forward(self, x: Tensor) -> Tensor:
            rows, columns = self.weight.size()[-2:]
            return F.pad(x, (rows // 2, columns // 2))

    module = up_to("fold_constants", trace(Padded(), torch.zeros(2, 4)))
    assert print_graph(module).splitlines()[1:] == ["pad: f32[2, 9] = pad(x, pad=(3, 2))", "output pad"]
    assert fxq.report(module).totals.nodes == 3
