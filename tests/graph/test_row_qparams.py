"""Qparams of a batch that is there."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fxq.graph.qtypes import ACTIVATION, choose_qparams
from fxq.graph.row_qparams import choose_row_qparams, dequantize_rows, quantize_rows

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100)
ROWS = st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=5).map(torch.tensor)


@given(ROWS)
def test_the_affine_rule_by_row(rows: Tensor) -> None:
    found = choose_row_qparams(rows, per_row=True)
    expected = [choose_qparams(row.min(), row.max(), ACTIVATION) for row in rows]
    assert found.scale.tolist() == [float(each.scale) for each in expected]
    assert found.zero_point.tolist() == [int(each.zero_point) for each in expected]


@given(ROWS)
def test_one_pair_for_all_rows(rows: Tensor) -> None:
    found, expected = choose_row_qparams(rows, per_row=False), choose_qparams(rows.min(), rows.max(), ACTIVATION)
    assert set(found.scale.tolist()) == {float(expected.scale)} and set(found.zero_point.tolist()) == {int(expected.zero_point)}


def test_there_and_back() -> None:
    rows = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 20)[:, None]
    qparams = choose_row_qparams(rows, per_row=True)
    error = (dequantize_rows(quantize_rows(rows, qparams), qparams) - rows).abs()
    assert bool((error <= 0.5001 * qparams.scale[:, None]).all())


def test_rows_that_are_not_finite() -> None:
    rows = torch.tensor([[1.0, 2.0], [torch.nan, 0.0], [torch.inf, 1.0], [-1.0, 1.0]])
    assert choose_row_qparams(rows, per_row=True).scale.isnan().tolist() == [False, True, True, False]
    assert bool(choose_row_qparams(rows, per_row=False).scale.isnan().all())


def test_no_rows() -> None:
    assert len(choose_row_qparams(torch.zeros(0, 4), per_row=False).scale) == 0
