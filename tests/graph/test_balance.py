"""quantize_balanced: whose weights go to the other neighbour, and what never moves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxq.graph.balance import Layer, quantize_balanced
from fxq.graph.moments import Moments
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QParams, along, choose_qparams, quantize_tensor

UNIT = QParams(WEIGHT_PER_TENSOR, torch.tensor(1.0), torch.tensor(0, dtype=torch.int32))


def alone(weight: Tensor, qparams: QParams, axis: int = 0, groups: int = 1, moments: Moments | None = None) -> Tensor:
    """One layer."""
    (found,) = quantize_balanced([Layer(weight, qparams, axis, groups, moments)])
    return found


def balanced(*weights: float) -> list[int]:
    """One channel, in steps of 1."""
    found: list[int] = alone(torch.tensor([weights]), UNIT)[0].tolist()
    return found


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((0.4, 0.4, 0.4), [1, 0, 0]),  # −1.2 steps: of equal ones the first
        ((0.25, 0.4375, 0.4375, 0.375), [0, 1, 0, 0]),  # −1.5 steps: ½ is as good as −½, and one less has moved
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


@pytest.mark.parametrize(
    ("means", "variances", "expected"),
    [
        ((1.0, 1.0, 1.0), (9.0, 9.0, 9.0), [0, 0, 0]),  # 1.2² is less than what moving one adds: 0.2 · 9 + 0.2²
        ((1.0, 1.0, 1.0), (9.0, 9.0, 0.0), [0, 0, 1]),
        ((1.0, -1.0, 1.0), (1.0, 1.0, 1.0), [0, 0, 0]),  # they cancel as they are
        ((1.0, -3.0, 1.0), (1.0, 1.0, 1.0), [0, 0, 0]),  # 0.4 already: moving the second would make it −2.6
        ((9.0, 2.0, 2.0), (1.0, 1.0, 1.0), [0, 1, 1]),  # −5.2: the first would make it 3.8, the others make it −1.2
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), [0, 0, 0]),
        ((9.0, 1.0, 1.0), (0.0, 1.0, 99.0), [0, 1, 0]),  # −4.4 → 4.6 would cost nothing, and gain nothing,
    ],
)
def test_what_is_read_decides(means: tuple[float, ...], variances: tuple[float, ...], expected: list[int]) -> None:
    moments = Moments(torch.tensor(means, dtype=torch.float64), torch.tensor(variances, dtype=torch.float64))
    assert alone(torch.full((1, 3), 0.4), UNIT, moments=moments)[0].tolist() == expected


def expected_errors(found: Tensor, steps: Tensor, moments: Moments) -> Tensor:
    """(e·μ)² + Σ e²·σ² of each output channel."""
    error = (found - steps).double()
    return (error @ moments.mean) ** 2 + error.square() @ moments.variance


def one_by_one(steps: Tensor, moments: Moments) -> Tensor:
    """The simple way, for one channel after the other: the weight that makes the expected error least goes, until none makes it less."""
    moved = steps.double().round()
    for row, exact in zip(moved, steps.double(), strict=True):
        for _ in row:
            error = row - exact
            offset, side = error @ moments.mean, error.sign()
            change = (offset - side * moments.mean) ** 2 - offset**2 + (1 - 2 * error.abs()) * moments.variance
            best = int(change.argmin())
            if change[best] >= 0:
                break
            row[best] -= side[best]
    return moved


KINDS = ("relu", "tails", "centered", "constant")


def example(channels: int, n: int, seed: int, kind: str) -> tuple[Tensor, QParams, Moments]:
    generator = torch.Generator().manual_seed(seed)
    weight, mean = torch.randn(channels, n, generator=generator), torch.randn(n, generator=generator, dtype=torch.float64)
    mean = {"relu": mean.abs(), "tails": mean**3, "centered": mean / 10, "constant": mean}[kind]
    moments = Moments(mean, torch.full_like(mean, 0.0 if kind == "constant" else 1.0))
    return weight, choose_qparams(weight.amin(1), weight.amax(1), WEIGHT_PER_CHANNEL), moments


@pytest.mark.parametrize("kind", KINDS)
def test_the_expected_error_is_close_to_what_a_slow_search_finds(kind: str) -> None:
    weight, qparams, moments = example(32, 80, 0, kind)
    steps = weight * along(1.0 / qparams.scale, 0, 2)
    found, slow = alone(weight, qparams, moments=moments), one_by_one(steps, moments)
    ours, best = (float(expected_errors(each, steps, moments).mean()) for each in (found, slow))
    unbalanced = float(expected_errors(quantize_tensor(weight, qparams), steps, moments).mean())
    assert ours - best <= 0.02 * (unbalanced - best)


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), st.integers(0, 2**31), st.sampled_from(KINDS))
def test_no_channel_is_worse_and_weights_stay_close(channels: int, n: int, seed: int, kind: str) -> None:
    weight, qparams, moments = example(channels, n, seed, kind)
    steps = (weight * along(1.0 / qparams.scale, 0, 2)).clamp(-127, 127)
    nearest, found = quantize_tensor(weight, qparams), alone(weight, qparams, moments=moments)
    before, after = (expected_errors(each, steps, moments) for each in (nearest, found))
    assert bool((after <= before + 1e-5).all())
    assert bool(((found - steps).abs() < 1).all())


def test_groups_of_a_transposed_convolution_have_their_own_channels() -> None:
    weight = torch.zeros(4, 1, 3)  # [in, out / groups, kernel], 2 groups
    weight[:2], weight[2:] = 0.4, -0.4
    found = alone(weight, UNIT, axis=1, groups=2)
    assert found.flatten(1).sum(1).tolist() == [2, 0, -2, 0]
    together = alone(weight, UNIT, axis=1)
    assert not together.any()


def test_each_group_reads_channels_of_its_own() -> None:
    moments = Moments(torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    weight = torch.full((2, 2, 3), 0.4)  # [out, in / groups, kernel]
    found = alone(weight, UNIT, groups=2, moments=moments)
    assert found.tolist() == [[[1, 0, 0], [0, 0, 0]], [[0, 0, 0], [1, 0, 0]]]
    transposed = alone(torch.full((4, 1, 3), 0.4), UNIT, axis=1, groups=2, moments=moments)
    assert transposed.tolist() == [[[1, 0, 0]], [[0, 0, 0]], [[0, 0, 0]], [[1, 0, 0]]]
