"""Convolutions of what is quantized as it arrives: as the reference, with the same bits in both runtimes, in every shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.dynamic.modules import make_conv
from fxq.errors import ConfigError, DataError
from fxq.graph.functional import round_to_bytes
from fxq.graph.qtypes import along
from fxq.runtime.dynamic.conv import DynamicConv
from fxq.runtime.dynamic.product import RowWeights
from fxq.runtime.integer.conv import ConvGeometry
from tests.closeness import sqnr

CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "1d": (nn.Conv1d(3, 5, 3, padding=1, stride=2), (2, 3, 17)),
    "2d": (nn.Conv2d(4, 6, 3, padding=(1, 2), dilation=2), (3, 4, 12, 9)),
    "2d_same": (nn.Conv2d(4, 6, (2, 3), padding="same", bias=False), (2, 4, 7, 8)),
    "2d_groups": (nn.Conv2d(6, 12, 3, groups=3), (2, 6, 7, 8)),
    "2d_depthwise": (nn.Conv2d(6, 6, 3, groups=6, padding=1), (2, 6, 7, 8)),
    "2d_reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 7, 8)),
    "3d": (nn.Conv3d(2, 4, 2), (2, 2, 4, 5, 6)),
    "one_image": (nn.Conv2d(4, 6, 3), (4, 7, 8)),
}
QCONFIGS = [fxq.default_dynamic_qconfig, fxq.per_channel_dynamic_qconfig, fxq.per_row_dynamic_qconfig]


@pytest.mark.parametrize("qconfig", QCONFIGS, ids=["tensor", "channel", "sample"])
@pytest.mark.parametrize("name", CASES)
def test_is_the_float_convolution_of_rounded_values(name: str, qconfig: Any) -> None:
    torch.manual_seed(0)
    module, shape = CASES[name]
    op, x = make_conv(module, qconfig), torch.randn(shape) * torch.logspace(-1, 1, shape[0]).view(-1, *[1] * (len(shape) - 1)) + 1
    exact = made_float(module, op)(round_to_bytes(x, per_row=op.per_row, dims=op.weight.ndim - 1))
    torch.testing.assert_close(op(x), exact.detach(), rtol=1e-5, atol=1e-4)
    assert sqnr(op(x), module(x)) > 30
    assert op.compiled() is not None
    op.run_with("integer")
    integer = op(x)
    op.run_with("auto")
    assert torch.equal(op(x), integer)


def made_float(module: nn.Module, op: DynamicConv) -> nn.Module:
    """The module with the weights that the op has."""
    rounded = type(module)(*_arguments(module))  # type: ignore[arg-type]
    rounded.weight.data = op.weight * along(op.scale, 0, op.weight.ndim)
    if op.bias is not None:
        rounded.bias.data = op.bias
    return rounded


def _arguments(module: Any) -> tuple[Any, ...]:
    return (
        module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding, module.dilation, module.groups,
        module.bias is not None, module.padding_mode,
    )  # fmt: skip


def test_a_sample_does_not_depend_on_the_others() -> None:
    op, x = make_conv(nn.Conv2d(3, 4, 3), fxq.per_row_dynamic_qconfig), torch.randn(3, 3, 6, 6)
    x[1] *= 100
    assert torch.equal(op(x), torch.cat([op(each) for each in x.split(1)]))


@pytest.mark.parametrize("shape", [(0, 3, 6, 6), (1, 3, 6, 6), (2, 3, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("qconfig", QCONFIGS[1:], ids=["tensor", "sample"])
def test_other_sizes_and_dtypes(shape: tuple[int, ...], dtype: torch.dtype, qconfig: Any) -> None:
    x = torch.randn(shape).to(dtype)
    y = make_conv(nn.Conv2d(3, 4, 3), qconfig)(x)
    assert y.shape == (shape[0], 4, shape[2] - 2, shape[3] - 2) and y.dtype == dtype


@pytest.mark.parametrize("qconfig", QCONFIGS[1:], ids=["tensor", "sample"])
def test_values_that_are_not_finite(qconfig: Any) -> None:
    op, x = make_conv(nn.Conv2d(3, 4, 3), qconfig), torch.randn(2, 3, 6, 6)
    x[0, 1, 2, 3] = float("inf")
    y = op(x)
    assert bool(y[0].isnan().all()) and bool(y[1].isnan().any()) is (not op.per_row)


def test_sums_that_float32_does_not_hold() -> None:
    """2^24 and more: they run by the integer ops."""
    weights = RowWeights(torch.full((1, 2000, 1, 1), 127, dtype=torch.int8), torch.ones(1), None)
    op, x = DynamicConv(weights, ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1))), torch.zeros(1, 2000, 2, 2)
    x[:, :, 0] = 255.0
    assert op.compiled() is None
    assert torch.equal(op(x)[0, 0], torch.tensor([[255.0, 255.0], [0.0, 0.0]]) * 2000 * 127)


def test_what_does_not_fit() -> None:
    op = make_conv(nn.Conv2d(3, 4, 3), fxq.default_dynamic_qconfig)
    wrong: tuple[Tensor, ...] = torch.zeros(1, 4, 6, 6), torch.zeros(3, 6), torch.zeros(1, 3, 6, 6, dtype=torch.int64)
    for x in wrong:
        with pytest.raises(DataError, match="3 channels and 2 spatial dimensions"):
            op(x)
    weights = RowWeights(torch.full((1, 70_000, 1), 127, dtype=torch.int8), torch.ones(1), None)
    with pytest.raises(ConfigError, match="32 bits"):
        DynamicConv(weights, ConvGeometry((1,), ((0, 0),), (1,)))
