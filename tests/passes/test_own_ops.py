"""Ops of the user's are int8 from end to end."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError
from fxq.graph.module import FxqModule
from fxq.graph.opdef import OpDef, Policy
from fxq.graph.spellings import spelled
from fxq.patterns.expressions import Var, op
from fxq.patterns.rules import Rule
from tests.passes.own_ops import ATAN, ROT90, SWISHIER, Swishier, atan, swishier

X = torch.linspace(-2, 2, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
        self.act = Swishier(1.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.first(x))
        y = torch.rot90(y.atan(), 1, (2, 3))
        result: Tensor = self.last(swishier(y, beta=2.0))
        return result


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.mark.parametrize("copied", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["itself", "copy", "pickle"])
def test_all_is_int8_and_as_accurate_as_its_reference(copied: Callable[[FxqModule], FxqModule]) -> None:
    model = net()
    prepared = copied(fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), X, ops=[SWISHIER, ATAN, ROT90]))
    fxq.calibrate(prepared, [X], progress=False)
    reference, int8 = copied(fxq.convert_to_reference_fx(prepared)), copied(fxq.convert_fx(prepared))
    assert "act_q: u8[2, 4, 4, 4] = quantize(act" in fxq.print_graph(reference) and "act: f32[2, 4, 4, 4] = swishier(" in fxq.print_graph(
        reference
    )
    rows = fxq.report(int8).rows
    assert [row.kind.value for row in rows if row.type in ("Swishier", "atan", "rot90", "swishier")] == ["int8"] * 4
    exact = model(X)
    assert (int8(X) - exact).abs().max() < 0.05 * exact.abs().max()
    assert (int8(X) - reference(X)).abs().max() < 0.01 * exact.abs().max()


def test_without_them_they_stay_float() -> None:
    rows = fxq.report(fxq.quantize(net(), [X], progress=False)).rows
    assert {row.reason.why.value for row in rows if row.type in ("atan", "rot90") and row.reason is not None} == {"unknown op"}


def test_quantize_takes_ops_and_rules_that_speak_of_them() -> None:
    """atan(atan(x)) has no meaning but this test's: it is removed."""
    x = Var("X")

    def drop(match: Any) -> Any:
        match.anchor.replace_all_uses_with(match.values["X"])
        match.anchor.graph.erase_node(match.anchor)
        return match.values["X"]

    model = nn.Sequential(nn.Conv2d(3, 3, 1), Twice(), nn.Conv2d(3, 3, 1)).eval()
    int8 = fxq.quantize(
        model, [X], progress=False, ops=[ATAN], rules=[Rule("atan_atan", op("atan")(op("atan", label="inner")(x)), (), drop)]
    )
    assert (int8(X) - model[2](model[0](X))).abs().max() < 0.05


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.atan(torch.atan(x))


def two_inputs(input: Tensor, other: Tensor) -> Tensor:
    return input + other


@pytest.mark.parametrize(
    ("ops", "found"),
    [
        ([atan], "function atan"),
        ([replace(ATAN, policy=Policy.OWN)], "policy OWN"),
        ([replace(ATAN, name="relu")], "a name that another op has"),
        ([ATAN, replace(ATAN, name="atan2")], "a spelling that another op has"),
        ([replace(ATAN, spellings=spelled(torch.relu))], "a spelling that another op has"),
        ([OpDef("two", two_inputs, Policy.TABLE)], "operands input, other"),
        ([OpDef("local", lambda input: input, Policy.TABLE)], "<lambda>, which cannot be imported"),
    ],
)
def test_what_is_no_op_that_can_be_added(ops: Any, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        fxq.prepare_fx(net(), fxq.get_default_qconfig_mapping("x86"), X, ops=ops)
