"""Weights that are split so that a saturating dot product is exact, and the convolutions that use one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fxq.runtime.integer.conv import Conv, ConvGeometry
from fxq.runtime.jit.excess import TOGETHER, split_weights
from fxq.runtime.jit.isa import ISAS, Isa
from fxq.runtime.jit.kernels.gemm import Gemm
from fxq.runtime.jit.packing import panels_of
from fxq.runtime.jit.plan import plan
from tests.examples import examples
from tests.runtime.jit.regions import EVERY_ISA, check, normal_conv, one_step, random_bytes

SAME = ConvGeometry((1, 1), ((1, 1), (1, 1)), (1, 1))
AVX2 = next(isa for isa in ISAS if isa.name == "avx2")


def normal(shape: tuple[int, ...], deviation: float, seed: int = 0) -> NDArray[np.int8]:
    return np.clip(np.random.default_rng(seed).normal(0, deviation, shape).round(), -128, 127).astype(np.int8)


def planned(op: Conv, x: torch.Tensor, isa: Isa) -> Gemm:
    region = one_step(op)
    kernels = [call.planned.kernel for call in plan(region, region.trace([x]), isa).calls]
    return next(kernel for kernel in kernels if isinstance(kernel, Gemm))


@examples(100)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 30), st.sampled_from([1, 20, 40, 60, 1000]), st.integers(0, 99))
def test_parts_fit_and_sum_up(channels: int, runs: int, run: int, deviation: float, seed: int) -> None:
    weight, isa = normal((channels, runs, run), deviation, seed), AVX2.saturating
    assert isa is not None
    panels = panels_of(channels, 0, isa, 1)
    split = split_weights(weight, panels, isa, natural=True)
    if split is None:
        return
    offsets = [1000 * number for number in range(runs)]
    taps = np.pad(split.fitting, ((0, 0), (0, 0), (0, -run % 4))).astype(np.int64)
    assert _largest_pair(taps) <= 128
    places, weights = split.places(offsets), split.weights()
    assert (len(places), len(weights)) == (split.excess.places_bytes(len(panels)), split.excess.weights_bytes(isa.vector_bytes))
    starts, steps = np.split(places.view(np.int32), [len(panels) + 1])
    for panel, (first, end) in zip(panels, pairwise(starts), strict=True):
        groups = weights.view(np.int8).reshape(-1, TOGETHER, isa.lanes, 4)[first:end]
        assert _largest_pair(np.maximum(groups, 0).sum(1)) <= 128 and _largest_pair(np.minimum(groups, 0).sum(1)) <= 128
        for place, added in zip(steps[TOGETHER * first : TOGETHER * end], groups.reshape(-1, isa.lanes, 4), strict=True):
            start = place % 1000
            assert 0 <= start <= taps.shape[2] - 4
            taps[panel.first : panel.first + panel.count, place // 1000, start : start + 4] += added[: panel.count]
    assert (taps[..., :run] == weight).all()


def _largest_pair(taps: NDArray[np.generic]) -> int:
    pairs = taps.reshape(-1, 2).astype(np.int64)
    return int(max(np.maximum(pairs, 0).sum(1).max(initial=0), -np.minimum(pairs, 0).sum(1).min(initial=0)))


@pytest.mark.parametrize("isa", EVERY_ISA)
@pytest.mark.parametrize("deviation", [10.0, 25.0, 35.0, 50.0, 1000.0])
def test_convolutions(isa: Isa, deviation: float) -> None:
    dense, strided = ConvGeometry((1, 1), ((0, 0), (0, 0)), (1, 1)), ConvGeometry((2, 1), ((2, 2), (1, 1)), (2, 1), 3)
    for output in ("shifted", "float"):
        x = [random_bytes((2, 21, 9, 8)), random_bytes((2, 19, 9, 8))]
        check(one_step(normal_conv((19, 21, 3, 3), SAME, deviation, output, residual=True), 2), x, isa)
        check(one_step(normal_conv((70, 45, 1, 1), dense, deviation, output)), [random_bytes((3, 45, 5, 5))], isa)
        check(one_step(normal_conv((27, 7, 3, 3), strided, deviation, output)), [random_bytes((2, 21, 8, 15), signed=True)], isa)


def test_only_few_further_steps_are_worth_it() -> None:
    x = random_bytes((1, 64, 7, 7))
    none, few, many = (planned(normal_conv((64, 64, 3, 3), SAME, deviation), x, AVX2).excess for deviation in (10.0, 35.0, 1000.0))
    assert none and none.groups == 0
    assert few and 8 * 9 <= TOGETHER * few.groups <= 8 * 36
    assert many is None


def test_layers_share_code_whatever_their_excess() -> None:
    x = random_bytes((1, 64, 7, 7))
    assert len({planned(normal_conv((64, 64, 3, 3), SAME, deviation), x, AVX2) for deviation in (10.0, 35.0, 1000.0)}) == 2


def test_only_the_panel_that_needs_further_steps_has_some() -> None:
    weight = normal((24, 1, 64), 10.0)
    weight[9, 0, 20:22] = 100
    assert AVX2.saturating is not None
    split = split_weights(weight, panels_of(24, 0, AVX2, 1), AVX2.saturating, natural=True)
    assert split is not None and split.places([0]).view(np.int32).tolist() == [0, 0, 1, 1, 21, 0, 0, 0]


def test_other_isas_need_none() -> None:
    x = random_bytes((1, 64, 7, 7))
    op = normal_conv((64, 64, 3, 3), SAME, 35.0)
    assert [planned(op, x, isa).excess for isa in ISAS if isa != AVX2] == [None, None]
