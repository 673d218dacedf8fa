"""acc = Σ_k x[m, k]·w[n, k] in exact int32, by the fastest of torch's products that is exact on this machine; and MatMul."""

from __future__ import annotations

import os
import platform
from functools import cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from fxq.errors import DataError
from fxq.runtime.integer.elementwise import empty_result, flat_parts
from fxq.runtime.integer.module import IntegerOp, check_bytes
from fxq.runtime.integer.outputs import Output, finish_into

EXACT_FLOAT32 = 2**24  # integers up to here, and sums that stay below it, have no rounding in f32
_EXACT_SETTINGS = ("ieee", "none")
_BLOCK = (EXACT_FLOAT32 - 1) // (255 * 128)  # |x·w| ≤ 255·128, so sums of this many products are exact


def int_mm(x: Tensor, w: Tensor) -> Tensor:
    """acc[m, n] = Σ_k x[m, k]·w[n, k], exact, modulo 2^32.

    Args:
        x: u8 or s8 [M, K].
        w: s8 [N, K].

    Returns:
        i32 [M, N].
    """
    if x.shape[0] == 0 or x.shape[1] == 0 or w.shape[0] == 0:
        return torch.zeros(x.shape[0], w.shape[0], dtype=torch.int32, device=x.device)
    if x.shape[1] == 1 or not has_exact_int_mm():
        return blocked_mm(x, w)
    return torch._int_mm(_dense(x), _dense(w).t())


def _dense(x: Tensor) -> Tensor:
    """x with strides (K, 1).

    torch._int_mm (seen in 2.13) misreads anything looser without a word: rows that overlap, as the windows of a one-row convolution do; a
    single row whose stride is not K, although is_contiguous() holds; and depth 1, where both strides of the transpose are 1.
    """
    return x.contiguous().as_strided(x.shape, (x.shape[1], 1))


def blocked_mm(x: Tensor, w: Tensor) -> Tensor:
    """int_mm in floating point: blocks of K so short that no sum reaches 2^24, added up in int32."""
    dtype = exact_float_dtype()
    acc = torch.zeros(x.shape[0], w.shape[0], dtype=torch.int32, device=x.device)
    for start in range(0, x.shape[1], _BLOCK):
        block = (slice(None), slice(start, start + _BLOCK))
        acc += torch.mm(x[block].to(dtype), w[block].to(dtype).t()).to(torch.int32)
    return acc


@cache
def has_exact_int_mm() -> bool:
    """Whether torch._int_mm is both fast and exact here: VNNI, and no saturation on the data that would show it.

    Without VNNI (or with oneDNN's instruction set capped) u8·s8 pairs are added in 16 bits, which saturates.
    """
    reported = getattr(torch.cpu, "_is_vnni_supported", None)
    with _disable_current_modes():  # a trace may be the first to ask, and has no values
        return bool(reported and reported()) and all(_int_mm_is_exact(rows, low) for rows in (1, 48) for low in (-128, 127))


def _int_mm_is_exact(rows: int, weight: int) -> bool:
    """255·w and −128·w over K = 256: every 16-bit pair sum would saturate."""
    w = torch.full((32, 256), weight, dtype=torch.int8)
    for fill, dtype in ((255, torch.uint8), (-128, torch.int8)):
        try:
            found = torch._int_mm(torch.full((rows, 256), fill, dtype=dtype), w.t())
        except RuntimeError:  # up to torch 2.11 there is none for uint8
            return False
        if not bool((found == 256 * fill * weight).all()):
            return False
    return True


def exact_float_dtype() -> torch.dtype:
    """float32 where torch multiplies and convolves in full float32, float64 where a setting lets it use fewer bits."""
    full = _settings_are_exact() and not torch.is_autocast_enabled("cpu") and not _fast_math_requested()
    return torch.float32 if full else torch.float64


def _settings_are_exact() -> bool:
    """Newer torch has one setting per op and lets the old one fail where both were used; older torch has only the old one."""
    conv, matmul = (getattr(torch.backends.mkldnn, op, None) for op in ("conv", "matmul"))
    if conv is None or matmul is None:
        return torch.get_float32_matmul_precision() == "highest"
    return conv.fp32_precision in _EXACT_SETTINGS and matmul.fp32_precision in _EXACT_SETTINGS


def exact_conv_dtype() -> torch.dtype:
    """float32 where torch convolves by plain multiply-add in full float32 (oneDNN on x86), float64 elsewhere.

    Other backends may choose Winograd or Fourier transforms for float32, whose intermediate values are not integers.
    """
    direct = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.enabled and _has_onednn()
    return exact_float_dtype() if direct else torch.float64


@cache
def _fast_math_requested() -> bool:
    """oneDNN reads these once, when it starts."""
    modes = (os.environ.get(name, "") for name in ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"))
    return any(mode.upper() not in ("", "STRICT") for mode in modes)


@cache
def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class MatMul(IntegerOp):
    """y = clip(rint(fl(f32(Σ_k (a − z_a)(b − z_b))·m)) + z_y), m = fl(fl(s_a·s_b)·inv_y), or float32 with FloatOutput.

    No bias and one multiplier, both operands activations: torch.matmul, with its broadcasting. The sum is exact in int32 for depths
    K with K·max|a − z_a|·max|b − z_b| < 2^31; with uint8 and any zero points that is every K ≤ 33,025.

    Args:
        a_zero_point, b_zero_point: in the range of each operand's dtype.
        multiplier: m, an f32 value; fl(s_a·s_b) for FloatOutput.
    """

    def __init__(self, a_zero_point: int, b_zero_point: int, multiplier: float, output: Output) -> None:
        super().__init__()
        self.a_zero_point, self.b_zero_point, self.multiplier, self.output = a_zero_point, b_zero_point, multiplier, output

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a u8 or s8 [..., M, K] or [K], b u8 or s8 [..., K, N] or [K] → y of torch.matmul's shape.

        Raises:
            DataError: other dtypes, shapes that don't multiply, or a K whose sums may leave int32.
        """
        check_bytes("MatMul.a", a)
        check_bytes("MatMul.b", b)
        _check_shapes(a, b)
        block = self._exact_depth(a, b, EXACT_FLOAT32)
        if a.shape[-1] > self._exact_depth(a, b, 2**31):
            raise DataError(
                "MatMul",
                expected=f"a depth of at most {self._exact_depth(a, b, 2**31)}, whose sums fit in 32 bits",
                found=f"depth {a.shape[-1]}",
                remedy="split the product, or leave it float",
            )
        acc = _blocked_matmul(_centered(a, self.a_zero_point), _centered(b, self.b_zero_point), block)
        y = empty_result((acc,), self.output)
        for out, part in flat_parts(y, (acc,)):
            finish_into(out, part.to(torch.float32).mul_(self.multiplier), self.output)
        return y

    def _exact_depth(self, a: Tensor, b: Tensor, limit: int) -> int:
        """The largest K for which no sum of K products reaches the limit."""
        return (limit - 1) // (_furthest(a.dtype, self.a_zero_point) * _furthest(b.dtype, self.b_zero_point))

    def extra_repr(self) -> str:
        return f"a: zero_point={self.a_zero_point}, b: zero_point={self.b_zero_point}, multiplier={self.multiplier:.6g}, y: {self.output}"


def _centered(q: Tensor, zero_point: int) -> Tensor:
    """q − zero_point, exact, in a float dtype that torch multiplies in full."""
    return q.to(exact_float_dtype()).sub_(zero_point)


def _furthest(dtype: torch.dtype, zero_point: int) -> int:
    bounds = torch.iinfo(dtype)
    return max(zero_point - bounds.min, bounds.max - zero_point)


def _blocked_matmul(a: Tensor, b: Tensor, block: int) -> Tensor:
    """torch.matmul of integers in floats, exact: one product where K ≤ block, int32 sums of several otherwise."""
    depth, axis = a.shape[-1], max(0, b.ndim - 2)
    if depth <= block:
        return torch.matmul(a, b)
    starts = range(0, depth, block)
    first, *others = ((start, min(block, depth - start)) for start in starts)
    acc = torch.matmul(a.narrow(-1, *first), b.narrow(axis, *first)).to(torch.int32)
    for piece in others:
        acc += torch.matmul(a.narrow(-1, *piece), b.narrow(axis, *piece)).to(torch.int32)
    return acc


def _check_shapes(a: Tensor, b: Tensor) -> None:
    """Raises DataError unless torch.matmul takes these shapes."""
    depth_b = b.shape[max(0, b.ndim - 2)] if b.ndim else -1
    fits = a.ndim > 0 and a.shape[-1] == depth_b
    leading = zip(reversed(a.shape[:-2]), reversed(b.shape[:-2]), strict=False)
    if fits and all(one == other or 1 in (one, other) for one, other in leading):
        return
    raise DataError(
        "MatMul",
        expected="[..., M, K] and [..., K, N] (or [K]) whose leading dimensions broadcast",
        found=f"shapes {tuple(a.shape)} and {tuple(b.shape)}",
        remedy="give operands that torch.matmul takes",
    )
