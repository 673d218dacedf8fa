from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fxq.report.closeness import Closeness, closeness, sqnr_db


def test_formulas() -> None:
    found = closeness([torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])], [torch.tensor([3.0, 0.5]), torch.tensor([[3.0]])])
    assert found.sqnr_db == pytest.approx(10 * math.log10(25 / 1.25), abs=1e-9)
    assert found.max_error == 1.0
    assert found.cosine == pytest.approx((9 + 12) / (5 * math.sqrt(9 + 0.25 + 9)), abs=1e-12)
    assert found.elements == 3


def test_sums_are_in_double_precision() -> None:
    exact = torch.full((2**12,), 1.0)
    approximate = exact + 2.0**-20
    assert closeness([exact], [approximate]).sqnr_db == pytest.approx(20 * math.log10(2**20), abs=1e-6)


@pytest.mark.parametrize(
    ("exact", "approximate", "sqnr", "cosine"),
    [
        (torch.ones(3), torch.ones(3), math.inf, 1.0),
        (torch.zeros(3), torch.zeros(3), math.inf, 1.0),
        (torch.zeros(3), torch.ones(3), -math.inf, 0.0),
        (torch.ones(3), torch.zeros(3), 0.0, 0.0),
        (torch.ones(3), -torch.ones(3), 10 * math.log10(1 / 4), -1.0),
        (torch.ones(0), torch.ones(0), math.inf, 1.0),
    ],
)
def test_extremes(exact: Tensor, approximate: Tensor, sqnr: float, cosine: float) -> None:
    found = closeness([exact], [approximate])
    assert (found.sqnr_db, found.cosine) == (pytest.approx(sqnr), pytest.approx(cosine))


def test_what_is_not_a_number_stays_so() -> None:
    found = closeness([torch.ones(2), torch.ones(2)], [torch.tensor([math.nan, 1.0]), torch.ones(2)])
    assert all(map(math.isnan, (found.sqnr_db, found.max_error, found.cosine)))
    assert math.isnan(sqnr_db(math.nan, 1.0))


def test_infinity_survives_json() -> None:
    found = closeness([torch.ones(2)], [torch.ones(2)])
    assert '"sqnr_db":"Infinity"' in found.model_dump_json()
    assert Closeness.model_validate_json(found.model_dump_json()) == found
