from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace

from fxq.demo.models import BasicBlock, DeepMobileNetDigits, InvertedResidual, MobileNetDigits, ResNetDigits


@pytest.mark.parametrize(
    ("network", "parameters", "size"), [(ResNetDigits, 174_970, 8), (MobileNetDigits, 123_242, 8), (DeepMobileNetDigits, 59_434, 16)]
)
def test_size_and_shape(network: type[nn.Module], parameters: int, size: int) -> None:
    model = network().eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model(torch.zeros(3, 1, size, size)).shape == (3, 10)


@pytest.mark.parametrize("network", [ResNetDigits, MobileNetDigits, DeepMobileNetDigits])
def test_traces_to_the_same_function(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = network().eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(symbolic_trace(model)(x), model(x))


def test_basic_block_projects_only_where_the_shape_changes() -> None:
    assert BasicBlock(8, 8, 1).downsample is None
    assert BasicBlock(8, 8, 2).downsample is not None
    assert BasicBlock(8, 16, 1).downsample is not None
    assert BasicBlock(8, 16, 2)(torch.zeros(1, 8, 6, 6)).shape == (1, 16, 3, 3)


def test_inverted_residual_adds_its_input_only_where_the_shape_stays() -> None:
    x = torch.randn(2, 8, 4, 4)
    block = InvertedResidual(8, 8, 1, expansion=2).eval()
    assert torch.equal(block(x), x + block.project(block.depthwise(block.expand(x))))
    for channels_out, stride in ((12, 1), (8, 2)):
        block = InvertedResidual(8, channels_out, stride, expansion=2).eval()
        assert torch.equal(block(x), block.project(block.depthwise(block.expand(x))))
