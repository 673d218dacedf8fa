from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from fxq.graph.copies import copy_inputs, copy_module


class Shared(nn.Module):
    """Two modules and two names of one, a registry that both write to, a buffer that is a view of another, a list of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.same = self.conv
        self.bn = nn.BatchNorm2d(3)
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.first = nn.Parameter(torch.eye(3))
        self.register_buffer("whole", torch.arange(6.0))
        self.register_buffer("part", self.whole[:3], persistent=False)
        self.registry: dict[str, Tensor] = {}
        self.bn.registry = self.registry
        self.hidden = [nn.ReLU()]
        self.owner = (self,)

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden[0](self.tied(self.bn(self.same(x)).mean((2, 3))) + self.part)


def test_a_copy_computes_the_same_and_shares_nothing_with_its_model() -> None:
    model = Shared().eval()
    duplicate = copy_module(model)
    x = torch.randn(2, 2, 4, 4)
    assert torch.equal(duplicate(x), model(x))
    assert not {id(each) for each in model.modules()} & {id(each) for each in duplicate.modules()}
    for ours, theirs in zip(duplicate.state_dict().values(), model.state_dict().values(), strict=True):
        assert ours.data_ptr() != theirs.data_ptr()


def test_what_was_one_object_is_one_again() -> None:
    duplicate = copy_module(Shared())
    assert duplicate.same is duplicate.conv
    assert duplicate.tied.weight is duplicate.first
    assert duplicate.bn.registry is duplicate.registry
    assert duplicate.owner == (duplicate,)
    duplicate.whole[0] = 7
    assert duplicate.part[0] == 7


def test_what_is_not_persistent_stays_so() -> None:
    assert list(copy_module(Shared()).state_dict()) == list(Shared().state_dict())


class Own(nn.Module):
    """Says itself how it is copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Own:
        made = Own()
        made.copied = True
        return made


class Restored(nn.Module):
    """Makes something anew that is not stored."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.copied = True


@pytest.mark.parametrize("kind", [Own, Restored])
def test_a_class_that_copies_in_its_own_way_does(kind: type[nn.Module]) -> None:
    model = nn.Sequential(nn.ReLU(), kind())
    assert copy_module(model)[1].copied
    assert not hasattr(model[1], "copied")


@pytest.mark.parametrize("make", [Shared, lambda: parametrizations.weight_norm(nn.Linear(2, 2)), lambda: nn.LSTM(2, 3), nn.ReLU6])
def test_the_same_attributes_as_by_deepcopy(make: type[nn.Module]) -> None:
    model = make()
    for ours, theirs in zip(copy_module(model).modules(), copy.deepcopy(model).modules(), strict=True):
        assert type(ours) is type(theirs) or type(ours).__name__ == type(theirs).__name__
        assert list(vars(ours)) == list(vars(theirs))
        assert [type(value) for value in vars(ours).values()] == [type(value) for value in vars(theirs).values()]


class Cache:
    """What a module may be given to write into."""

    def __init__(self, *rows: Any) -> None:
        self.rows = list(rows)


class Handle:
    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
        raise TypeError("there is only one")


def test_objects_among_inputs_are_copied_with_what_they_share() -> None:
    x, module, cache = torch.ones(2), nn.ReLU(), Cache(torch.zeros(2))
    cache.rows.append(x)
    (one, two), keywords = copy_inputs(((x, module), {"cache": cache, "again": [cache]}), torch.clone)
    assert one is not x and torch.equal(one, x) and two is module
    copied = keywords["cache"]
    assert copied is not cache and keywords["again"][0] is copied and copied.rows[1] is one
    copied.rows[0] += 1
    assert not cache.rows[0].any()


def test_inputs_that_cannot_be_copied_are_themselves() -> None:
    x, handle = torch.ones(2), Handle()
    copied = copy_inputs((x, handle), torch.clone)
    assert copied[0] is not x and torch.equal(copied[0], x) and copied[1] is handle
