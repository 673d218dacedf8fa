"""Smooth functions of vectors of floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

from fxq.runtime.dynamic.curves import LARGEST, LN2_HIGH, LN2_LOW, LOG2_E, POLYNOMIAL
from fxq.runtime.jit.ir import I32, Emitter, Value, splat, vec

# (Φ(x) − 1/2)/x ≈ P(2x²/T − 1) for x² ≤ T, Φ the normal distribution: least maximum of x²·|error|, from Chebyshev polynomials, degree 14.
# Beyond, Φ is 0 or 1 within 2^-23. In float32, x·(1/2 + x·P) lies within 2^-20·max(1, |x|) of x·Φ(x), as torch's does.
_NORMAL_SQUARE = 27.04
_NORMAL = (
    1.652159117e-04, -5.300982157e-04, 7.085271063e-04, -1.069125021e-03, 2.542272909e-03, -4.970405251e-03, 8.074781857e-03,
    -1.240249351e-02, 1.811666228e-02, -2.475154027e-02, 3.196441382e-02, -3.992661089e-02, 5.002602190e-02, -6.774377078e-02,
    1.359499842e-01,
)  # fmt: skip
_CUBE = 0.044715


@dataclass(frozen=True)
class Curves:
    """exp, sigmoid and tanh are those of fxq.runtime.dynamic.curves: the same operations in the same order.

    Attributes:
        reals: the type of the vectors.
    """

    e: Emitter
    reals: Any

    def exp(self, x: Value) -> Value:
        """e^x"""
        b, number = self.e.b, self._number
        raised = b.select(b.fcmp_ordered("<", x, number(-LARGEST)), number(-LARGEST), x)
        x = b.select(b.fcmp_ordered(">", raised, number(LARGEST)), number(LARGEST), raised)
        n = self.e.call(f"llvm.roundeven.v{self.reals.count}f32", self.reals, [b.fmul(x, number(LOG2_E))])
        r = b.fsub(b.fsub(x, b.fmul(n, number(LN2_HIGH))), b.fmul(n, number(LN2_LOW)))
        p = number(POLYNOMIAL[0])
        for coefficient in POLYNOMIAL[1:]:
            p = b.fadd(b.fmul(p, r), number(coefficient))
        finite = b.select(b.fcmp_ordered("ord", n, n), n, number(0.0))
        integers = vec(I32, self.reals.count)
        power = b.shl(b.add(b.fptosi(finite, integers), splat(integers, 127)), splat(integers, 23))
        value = b.fadd(b.fadd(b.fmul(p, b.fmul(r, r)), r), number(1.0))
        return b.fmul(value, b.bitcast(power, self.reals))

    def sigmoid(self, x: Value) -> Value:
        """1/(1 + e^−x)"""
        b = self.e.b
        return b.fdiv(self._number(1.0), b.fadd(self.exp(b.fneg(x)), self._number(1.0)))

    def tanh(self, x: Value) -> Value:
        """1 − 2/(e^2x + 1)"""
        b = self.e.b
        return b.fsub(self._number(1.0), b.fdiv(self._number(2.0), b.fadd(self.exp(b.fadd(x, x)), self._number(1.0))))

    def relu(self, x: Value) -> Value:
        """max(x, 0)"""
        return self.e.b.select(self.e.b.fcmp_ordered("<", x, self._number(0.0)), self._number(0.0), x)

    def silu(self, x: Value) -> Value:
        """x·sigmoid(x)"""
        return self.e.b.fmul(x, self.sigmoid(x))

    def negated(self, x: Value) -> Value:
        """−x"""
        return self.e.b.fneg(x)

    def square(self, x: Value) -> Value:
        """x·x"""
        return self.e.b.fmul(x, x)

    def cube(self, x: Value) -> Value:
        """x·x·x"""
        return self.e.b.fmul(self.square(x), x)

    def gelu(self, x: Value) -> Value:
        """x·Φ(x)"""
        b, number = self.e.b, self._number
        square = b.fmul(x, x)
        place = self._fma(square, number(2 / _NORMAL_SQUARE), number(-1.0))
        p = number(_NORMAL[0])
        for coefficient in _NORMAL[1:]:
            p = self._fma(p, place, number(coefficient))
        inside = b.fmul(x, self._fma(x, p, number(0.5)))
        return b.select(b.fcmp_ordered(">", square, number(_NORMAL_SQUARE)), self.relu(x), inside)

    def gelu_tanh(self, x: Value) -> Value:
        """x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 = x·sigmoid(2·√(2/π)·(x + 0.044715·x³))"""
        factor = self._fma(self.e.b.fmul(x, x), self._number(_CUBE), self._number(1.0))
        return self.e.b.fmul(x, self.sigmoid(self.e.b.fmul(self.e.b.fmul(x, factor), self._number(2 * sqrt(2 / pi)))))

    def _fma(self, a: Value, b: Value, c: Value) -> Value:
        """a·b + c, rounded once where the CPU can."""
        return self.e.call(f"llvm.fmuladd.v{self.reals.count}f32", self.reals, [a, b, c])

    def _number(self, value: float) -> Value:
        return splat(self.reals, value)


CURVES: Mapping[str, Callable[[Curves, Value], Value]] = {
    "relu": Curves.relu,
    "sigmoid": Curves.sigmoid,
    "tanh": Curves.tanh,
    "silu": Curves.silu,
    "negated": Curves.negated,
    "square": Curves.square,
    "cube": Curves.cube,
    "gelu": Curves.gelu,
    "gelu_tanh": Curves.gelu_tanh,
}
