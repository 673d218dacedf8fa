"""quantize_balanced: whose weights go to the other neighbour, and what never moves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxq.graph.balance import quantize_balanced
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QParams, along, choose_qparams, quantize_tensor

UNIT = QParams(WEIGHT_PER_TENSOR, torch.tensor(1.0), torch.tensor(0, dtype=torch.int32))


def balanced(*weights: float) -> list[int]:
    """One channel, in steps of 1."""
    found: list[int] = quantize_balanced(torch.tensor([weights]), UNIT)[0].tolist()
    return found


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((0.4, 0.4, 0.4), [1, 0, 0]),  # −1.2 steps: of equal ones the first
        ((0.25, 0.4375, 0.4375, 0.375), [0, 1, 1, 0]),  # −1.5 steps: a tie goes away from 0
        ((-0.4, 0.4, -0.4, -0.45), [0, 0, 0, -1]),
        ((2.0, -3.0, 0.0, 127.0), [2, -3, 0, 127]),
        ((0.4,), [0]),
        ((0.6, 0.4), [1, 0]),
        ((300.0, -127.3, 0.4), [127, -127, 0]),  # beyond the range is as good as at its end
        ((float("nan"), float("inf"), 5.0), [-127, 127, 5]),
        ((127.4, 126.6, 126.6, 126.6), [127, 126, 127, 127]),  # never out of the range
    ],
)
def test_the_closest_to_their_other_neighbour_go_there(weights: tuple[float, ...], expected: list[int]) -> None:
    assert balanced(*weights) == expected


def one_by_one(steps: list[float], nearest: list[int]) -> list[int]:
    """The rule in plain Python, for one channel."""
    errors = [int((q - x) * 2**20) for q, x in zip(nearest, steps, strict=True)]
    sign = 1 if sum(errors) > 0 else -1
    farthest = sorted(range(len(errors)), key=lambda i: (-sign * errors[i], i))[: (abs(sum(errors)) + 2**19) // 2**20]
    return [q - sign if i in farthest else q for i, q in enumerate(nearest)]


@given(st.integers(1, 5), st.integers(1, 400), st.integers(0, 2**31), st.sampled_from(["normal", "one-sided", "few values"]))
def test_each_channel_is_right_to_half_a_step(channels: int, n: int, seed: int, kind: str) -> None:
    weight = torch.randn(channels, n, generator=torch.Generator().manual_seed(seed))
    # errors that point the same way, and equal ones: many have to move, and the choice among them is not by size
    weight = {"normal": weight, "one-sided": (40 * weight).round() + 0.45, "few values": (2 * weight).round() / 3}[kind]
    qparams = UNIT if kind == "one-sided" else choose_qparams(weight.amin(1), weight.amax(1), WEIGHT_PER_CHANNEL)
    found, nearest = quantize_balanced(weight, qparams), quantize_tensor(weight, qparams)
    steps = (weight * along(1.0 / qparams.scale, qparams.spec.axis, 2)).clamp(-127, 127)
    assert bool(((found - steps).double().sum(1).abs() <= 0.5 + 1e-3).all())
    assert found.tolist() == [one_by_one(*row) for row in zip(steps.tolist(), nearest.tolist(), strict=True)]


def test_groups_of_a_transposed_convolution_have_their_own_channels() -> None:
    weight = torch.zeros(4, 1, 3)  # [in, out / groups, kernel], 2 groups
    weight[:2], weight[2:] = 0.4, -0.4
    found = quantize_balanced(weight, UNIT, axis=1, groups=2)
    assert found.flatten(1).sum(1).tolist() == [2, 0, -2, 0]
    together = quantize_balanced(weight, UNIT, axis=1)
    assert not together.any()
