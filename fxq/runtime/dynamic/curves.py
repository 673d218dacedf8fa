"""exp, sigmoid and tanh in float32, each operation rounded on its own: compiled code has the same bits.

The polynomial is that of expf in Moshier's Cephes library: exp(r) ≈ 1 + r + r²·P(r) for |r| ≤ ln(2)/2.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOG2_E = 1.44269504088896341
# ln(2) in two parts, the first so short that its product with the exponent is exact
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# exp of what lies beyond is taken as exp of these, which float32 has as normal numbers
LARGEST = 87.0


def exp(x: Tensor) -> Tensor:
    """e^x of f32, within 2 units in the last place for |x| ≤ 87, and e^±87 beyond; NaN of NaN."""
    x = x.clamp(-LARGEST, LARGEST)
    n = torch.round(x * LOG2_E)
    r = x - n * LN2_HIGH - n * LN2_LOW
    p = torch.full_like(r, POLYNOMIAL[0])
    for coefficient in POLYNOMIAL[1:]:
        p = p * r + coefficient
    power = ((n.nan_to_num().to(torch.int32) + 127) << 23).view(torch.float32)
    return (p * (r * r) + r + 1) * power


def sigmoid(x: Tensor) -> Tensor:
    """1/(1 + e^−x)"""
    return 1 / (exp(-x) + 1)


def tanh(x: Tensor) -> Tensor:
    """1 − 2/(e^2x + 1), within 2^-22 of the true value: relative precision is lost near 0"""
    return 1 - 2 / (exp(x + x) + 1)
