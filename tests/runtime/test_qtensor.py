"""QTensor against its formula, and against torch's own quantized tensors."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxq.errors import ConfigError, DataError
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.runtime.qtensor import SAFE_GLOBALS, QTensor, quantize_per_channel, quantize_per_tensor

DTYPES = ((torch.uint8, torch.quint8, 0, 255), (torch.int8, torch.qint8, -128, 127))


def per_tensor() -> QTensor:
    return quantize_per_tensor(torch.arange(24.0).reshape(2, 3, 4) - 7, 0.25, 100, torch.uint8)


def per_channel() -> QTensor:
    x = torch.arange(24.0).reshape(2, 3, 4) - 7
    return quantize_per_channel(x, torch.tensor([0.25, 0.5, 1.0]), torch.tensor([10, 20, 30]), 1, torch.int8)


@pytest.mark.parametrize(("dtype", "alias", "low", "high"), DTYPES)
def test_formula(dtype: torch.dtype, alias: torch.dtype, low: int, high: int) -> None:
    x = torch.tensor([-1e9, -1.0, -0.3, 0.0, 0.3, 0.125, 0.375, 5.0, float("inf"), float("-inf"), float("nan")])
    q = quantize_per_tensor(x, 0.25, 3, dtype)
    expected = [low, -1 if low < 0 else 0, 2, 3, 4, 3, 5, 23, high, low, low]  # 0.5 and 1.5 steps go to the even neighbour
    assert q.int_repr().tolist() == expected
    assert q.int_repr().dtype == dtype
    assert q.equal(quantize_per_tensor(x, 0.25, 3, alias))
    assert q.dequantize().tolist() == [0.25 * (value - 3) for value in expected]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from(DTYPES), st.floats(0.001, 10.0), st.floats(0, 1))
def test_like_torch_per_tensor(seed: int, dtypes: tuple[torch.dtype, torch.dtype, int, int], scale: float, place: float) -> None:
    dtype, alias, low, high = dtypes
    zero_point = round(low + place * (high - low))
    x = torch.randn(4096, generator=torch.Generator().manual_seed(seed)) * scale * 60
    ours = quantize_per_tensor(x, scale, zero_point, dtype)
    theirs = _quietly(torch.quantize_per_tensor, x, scale, zero_point, alias)
    delta = (ours.int_repr().int() - theirs.int_repr().int()).abs()
    assert int(delta.max()) <= 1
    assert int(delta.sum()) <= 4  # only where x/scale is a tie to within a rounding
    same = delta == 0
    assert torch.equal(ours.dequantize()[same], theirs.dequantize()[same])
    assert (ours.q_scale(), ours.q_zero_point()) == (float(torch.tensor(scale)), theirs.q_zero_point())


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_like_torch_per_channel(axis: int) -> None:
    x = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(1))
    scales = torch.rand(x.shape[axis], generator=torch.Generator().manual_seed(2)) * 0.02 + 0.01
    zero_points = torch.arange(x.shape[axis]) * 20
    ours = quantize_per_channel(x, scales, zero_points, axis, torch.quint8)
    theirs = _quietly(torch.quantize_per_channel, x, scales, zero_points, axis % 3, torch.quint8)
    assert int((ours.int_repr().int() - theirs.int_repr().int()).abs().max()) <= 1
    assert ours.q_per_channel_axis() == theirs.q_per_channel_axis()
    assert torch.equal(ours.q_per_channel_scales(), theirs.q_per_channel_scales().float())
    assert torch.equal(ours.q_per_channel_zero_points(), theirs.q_per_channel_zero_points().int())
    assert ours.qscheme() == torch.per_channel_affine


def _quietly(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


INDICES = (
    0,
    -1,
    slice(None),
    slice(0, 1),
    (slice(None), 1),
    (slice(None), slice(1, 3)),
    (slice(None), slice(1, 2)),
    (slice(None), slice(None, None, 2)),
    (0, slice(None), 2),
    (0, 1, 2),
    (..., 0),
    (..., slice(1, 2), slice(None)),
    (None, ..., None),
    (slice(None), None, slice(0, 2)),
    (1, None, ..., slice(0, 2)),
    (slice(None), [2, 0]),
    (slice(None), torch.tensor([True, False, True])),
    (slice(None), torch.tensor(1)),
    (torch.tensor([1, 0]), slice(1, 3)),
    ([1], 0),
)


@pytest.mark.parametrize("index", INDICES, ids=str)
@pytest.mark.parametrize("make", [per_tensor, per_channel])
def test_indexing_keeps_the_reals(make: Callable[[], QTensor], index: Any) -> None:
    q = make()
    picked = q[index]
    assert torch.equal(picked.dequantize(), q.dequantize()[index])
    assert torch.equal(picked.int_repr(), q.int_repr()[index])


@pytest.mark.parametrize(
    ("index", "axis"), [(0, 0), (slice(0, 1), 1), ((slice(None), 1), None), ((None, 0), 1), ((..., 0), 1), ((slice(None), None), 2)]
)
def test_indexing_moves_the_axis(index: Any, axis: int | None) -> None:
    assert per_channel()[index].qparams.spec.axis == axis


@pytest.mark.parametrize(
    "index", [([0, 1], [0, 1]), (torch.ones(2, 3, dtype=torch.bool),), True, (torch.zeros(2, 2, dtype=torch.int64),)], ids=str
)
def test_an_index_that_mixes_channels_is_refused(index: Any) -> None:
    with pytest.raises(DataError, match="one-dimensional index"):
        per_channel()[index]
    assert torch.equal(per_tensor()[index].dequantize(), per_tensor().dequantize()[index])


def test_slices_share_storage() -> None:
    q = per_channel()
    q[:, 1].copy_(torch.full((2, 4), 3.0))
    assert q.int_repr()[:, 1].tolist() == [[26] * 4] * 2
    q[0, 2] = torch.tensor([1.0, 2.0, 3.0, 400.0])
    assert q.int_repr()[0, 2].tolist() == [31, 32, 33, 127]
    q[:, [0, 2]] = torch.zeros(1)
    assert q.int_repr()[:, [0, 2]].tolist() == [[[10] * 4, [30] * 4]] * 2


def test_copy_requantizes_what_is_on_another_grid() -> None:
    q, other = per_tensor(), per_channel()
    real = other.dequantize()
    assert q.copy_(other) is q
    assert torch.equal(q.int_repr(), quantize_per_tensor(real, 0.25, 100, torch.uint8).int_repr())
    assert q.q_scale() == 0.25
    assert q.copy_(per_tensor()).equal(per_tensor())
    assert q.copy_(torch.tensor(1.0)).int_repr().unique().tolist() == [104]


@pytest.mark.parametrize("make", [per_tensor, per_channel])
def test_views(make: Callable[[], QTensor]) -> None:
    q = make()
    real = q.dequantize()
    assert torch.equal(q.permute(2, 0, 1).dequantize(), real.permute(2, 0, 1))
    assert torch.equal(q.permute(-1, 0, 1).dequantize(), real.permute(-1, 0, 1))
    assert torch.equal(q.transpose(-1, 1).dequantize(), real.transpose(-1, 1))
    assert torch.equal(q.reshape(2, 3, 2, 2).dequantize(), real.reshape(2, 3, 2, 2))
    assert torch.equal(q.view(2, 3, -1, 1).dequantize(), real.view(2, 3, -1, 1))
    assert torch.equal(q.transpose(0, 1).flatten(1).dequantize(), real.transpose(0, 1).flatten(1))
    assert not q.transpose(0, 2).is_contiguous()
    assert q.transpose(0, 2).contiguous().is_contiguous()
    assert torch.equal(q.transpose(0, 2).contiguous().dequantize(), real.transpose(0, 2))


def test_a_view_that_loses_the_channels_is_refused() -> None:
    with pytest.raises(DataError, match="keeps the 3 channels of axis 1"):
        per_channel().flatten()
    with pytest.raises(DataError, match="keeps the 3 channels"):
        per_channel().reshape(3, 8)
    assert per_tensor().flatten().shape == (24,)


def test_shape_queries() -> None:
    q = per_channel()
    assert (q.size(), q.size(1), q.dim(), q.ndim, q.numel(), q.stride(), len(q)) == (torch.Size((2, 3, 4)), 3, 3, 3, 24, (12, 4, 1), 2)
    assert (q.dtype, q.device.type) == (torch.int8, "cpu")
    assert [part.shape for part in q] == [(3, 4), (3, 4)]
    assert torch.equal(torch.stack([part.dequantize() for part in q]), q.dequantize())


def test_copies_are_independent() -> None:
    q = per_tensor()
    for other in (q.clone(), copy.deepcopy(q)):
        other[0] = torch.tensor(0.0)
        assert q.equal(per_tensor())
    detached = q.detach()
    detached[0] = torch.tensor(0.0)
    assert not q.equal(per_tensor())
    assert per_channel().to("cpu").equal(per_channel())


def test_equal_compares_parameters_too() -> None:
    q = per_tensor()
    assert not q.equal(QTensor(q.int_repr(), QParams.per_tensor(0.5, 100)))
    assert not q.equal(QTensor(q.int_repr(), QParams.per_tensor(0.25, 99)))
    assert not q.equal(q[0])


@pytest.mark.parametrize("make", [per_tensor, per_channel])
def test_saved_and_read_back(make: Callable[[], QTensor]) -> None:
    q = make()
    assert pickle.loads(pickle.dumps(q)).equal(q)
    file = io.BytesIO()
    torch.save({"q": q}, file)
    with torch.serialization.safe_globals([*SAFE_GLOBALS]):
        assert torch.load(io.BytesIO(file.getvalue()), weights_only=True)["q"].equal(q)
    assert torch.load(io.BytesIO(file.getvalue()), weights_only=False)["q"].equal(q)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def test_parameters_of_the_other_kind_name_the_right_method() -> None:
    for method, other in (("q_scale", "q_per_channel_scales"), ("q_zero_point", "q_per_channel_zero_points")):
        with pytest.raises(DataError, match=other):
            getattr(per_channel(), method)()
        with pytest.raises(DataError, match=method):
            getattr(per_tensor(), other)()
    with pytest.raises(DataError, match="per channel"):
        per_tensor().q_per_channel_axis()
    assert per_tensor().qscheme() == torch.per_tensor_affine


def test_wrong_parameters_are_refused() -> None:
    x = torch.zeros(2, 3)
    for scale, zero_point in ((0.0, 0), (-1.0, 0), (float("nan"), 0), (float("inf"), 0), (1.0, 256), (1.0, -1)):
        with pytest.raises(ConfigError):
            quantize_per_tensor(x, scale, zero_point, torch.uint8)
    with pytest.raises(ConfigError, match="8-bit"):
        quantize_per_tensor(x, 1.0, 0, torch.int32)
    with pytest.raises(ConfigError):
        quantize_per_tensor(x, 1.0, 0, torch.float16)
    for axis, channels in ((0, 3), (1, 2), (2, 3)):
        with pytest.raises(DataError):
            quantize_per_channel(x, torch.ones(channels), torch.zeros(channels), axis, torch.uint8)
    with pytest.raises(DataError, match="from_float"):
        QTensor(x, QParams.per_tensor(1.0, 0))


def test_printed_like_a_tensor() -> None:
    q = quantize_per_tensor(torch.tensor([[0.5, -0.25], [1.0, 2.0]]), 0.25, 100, torch.uint8)
    assert repr(q) == (
        "QTensor([[ 0.5000, -0.2500],\n"
        "         [ 1.0000,  2.0000]], size=(2, 2), dtype=torch.uint8, "
        "quantization_scheme=torch.per_tensor_affine, scale=0.25, zero_point=100)"
    )
    assert repr(per_channel()).endswith(
        "quantization_scheme=torch.per_channel_affine, axis=1, scale=[0.25, 0.5, 1.0], zero_point=[10, 20, 30])"
    )


def test_reduced_ranges_are_kept() -> None:
    spec = QuantSpec("int8", -127, 127, symmetric=True)
    q = QTensor.from_float(torch.tensor([-9.0, 9.0]), QParams.per_tensor(0.01, 0, spec))
    assert q.int_repr().tolist() == [-127, 127]
    q.copy_(torch.tensor([9.0, -9.0]))
    assert q.int_repr().tolist() == [127, -127]
