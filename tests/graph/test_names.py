"""One public name per object."""

from __future__ import annotations

import math
import operator
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fxq.errors import ConfigError
from fxq.graph.names import qualified_name

NAMES = (
    (nn.Conv2d, "torch.nn.Conv2d"),
    (nn.Sequential, "torch.nn.Sequential"),
    (nn.utils.parametrize.ParametrizationList, "torch.nn.utils.parametrize.ParametrizationList"),
    (torch.add, "torch.add"),
    (torch.flatten, "torch.flatten"),
    (torch.split, "torch.split"),
    (operator.add, "operator.add"),
    (operator.iadd, "operator.iadd"),
    (operator.getitem, "operator.getitem"),
    (F.relu, "torch.nn.functional.relu"),
    (torch.relu, "torch.relu"),
    (F.gelu, "torch.nn.functional.gelu"),
    (F.linear, "torch.nn.functional.linear"),
    (F.max_pool2d, "torch.nn.functional.max_pool2d"),
    (torch.max_pool2d, "torch.max_pool2d"),
    (F.avg_pool2d, "torch.nn.functional.avg_pool2d"),
    (F.scaled_dot_product_attention, "torch.nn.functional.scaled_dot_product_attention"),
    (F.threshold, "torch.nn.functional.threshold"),
    (F.logsigmoid, "torch.nn.functional.logsigmoid"),
    (torch.special.expit, "torch.special.expit"),
    (torch.linalg.norm, "torch.linalg.norm"),
    (torch.fft.fft, "torch.fft.fft"),
    (torch.mm, "torch.mm"),
    (torch.ops.aten.add.Tensor, "torch.ops.aten.add.Tensor"),
    (torch.ops.aten.add, "torch.ops.aten.add"),
    (torch.Tensor.view, "view"),
    (torch.Tensor.split, "split"),
    (math.sqrt, "math.sqrt"),
    (getattr, "builtins.getattr"),
    ("view", "view"),
    ("torch.nn.Linear", "torch.nn.Linear"),
)


@pytest.mark.parametrize(("target", "name"), NAMES, ids=[name for _, name in NAMES])
def test_public_names(target: object, name: str) -> None:
    assert qualified_name(target) == name


def test_one_object_has_one_name() -> None:
    assert F.conv2d is torch.conv2d
    assert qualified_name(F.conv2d) == qualified_name(torch.conv2d) == "torch.conv2d"
    assert qualified_name(torch.dsmm) == qualified_name(torch.mm) == "torch.mm"
    assert qualified_name(operator.__add__) == "operator.add"


def test_every_exported_module_type_is_called_by_its_export() -> None:
    exported = {name: value for name, value in vars(nn).items() if isinstance(value, type) and issubclass(value, nn.Module)}
    assert len(exported) > 100
    assert {name: qualified_name(kind) for name, kind in exported.items()} == {name: f"torch.nn.{name}" for name in exported}


class Conv2d(nn.Module):
    """Of the same name as torch's, and another class."""


def scale(x: torch.Tensor) -> torch.Tensor:
    return x * 2


def test_user_definitions_are_called_by_their_module() -> None:
    class Inner(nn.Module):
        pass

    assert qualified_name(Conv2d) == f"{__name__}.Conv2d"
    assert qualified_name(scale) == f"{__name__}.scale"
    assert qualified_name(Inner) == f"{__name__}.test_user_definitions_are_called_by_their_module.<locals>.Inner"


@pytest.mark.parametrize(
    "target", [nn.Linear(2, 2), 3, None, [nn.Linear], partial(torch.add, alpha=2)], ids=lambda target: type(target).__name__
)
def test_what_has_no_name_is_an_error(target: object) -> None:
    with pytest.raises(ConfigError, match="pass the class instead of an instance") as caught:
        qualified_name(target)
    assert caught.value.found.startswith(type(target).__name__)
