"""Arithmetic, activations and other functions of single elements."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fxq.export.site import Site
from fxq.export.writer import Constant
from fxq.graph.functional import Act

Emission = Callable[[Site], Any]

_SOFTPLUS_IS_LINEAR = 17.0  # log(1 + exp(x)) − x < 2^-24 from here on


def activate(site: Site, y: str, act: Act | None) -> str:
    """The activation that is part of an op."""
    if act is None:
        return y
    kind, *numbers = act
    return _ACTIVATIONS[kind](site, y, *numbers)


def _clip(site: Site, y: str, low: float | None, high: float | None) -> str:
    if low == 0 and high in (None, math.inf):
        return site.emit("Relu", y)
    bounds = ["" if bound is None or math.isinf(bound) else site.writer.number(bound, site.dtype) for bound in (low, high)]
    return site.emit("Clip", y, *bounds) if any(bounds) else y


def _hardsigmoid(site: Site, y: str) -> str:
    return site.emit("HardSigmoid", y, alpha=1 / 6, beta=0.5)


_ACTIVATIONS: dict[str, Callable[..., str]] = {
    "clamp": _clip,
    "hardswish": lambda site, y: site.emit("HardSwish", y),
    "hardsigmoid": _hardsigmoid,
    "leaky_relu": lambda site, y, slope: site.emit("LeakyRelu", y, alpha=float(slope)),
}


def _plain(op_type: str, **renamed: str) -> Emission:
    """An operator of one input; its attributes from the operands of these names."""

    def emission(site: Site) -> str:
        return site.emit(op_type, site.tensor("input"), **{name: float(site[operand]) for name, operand in renamed.items()})

    return emission


def _two(op_type: str) -> Emission:
    """An operator of two inputs, with the multiple of the second one that add and sub may ask for, and an activation."""

    def emission(site: Site) -> str:
        alpha, other = site.operands.get("alpha", 1), site.tensor("other")
        if alpha != 1:
            other = site.emit("Mul", other, site.read(alpha))
        return activate(site, site.emit(op_type, site.tensor("input"), other), site.operands.get("act"))

    return emission


def clamp(site: Site) -> str:
    """Clip"""
    return _clip(site, site.tensor("input"), site["min"], site["max"])


def square(site: Site) -> str:
    """x·x"""
    x = site.tensor("input")
    return site.emit("Mul", x, x)


def silu(site: Site) -> str:
    """x·sigmoid(x)"""
    x = site.tensor("input")
    return site.emit("Mul", x, site.emit("Sigmoid", x))


def mish(site: Site) -> str:
    """x·tanh(softplus(x))"""
    x = site.tensor("input")
    return site.emit("Mul", x, site.emit("Tanh", site.emit("Softplus", x)))


def softplus(site: Site) -> str:
    """log(1 + exp(β·x))/β, and x where β·x is beyond the threshold."""
    x, beta, threshold = site.tensor("input"), site["beta"], site["threshold"]
    scaled = x if beta == 1 else site.emit("Mul", x, site.read(beta))
    bent = site.emit("Softplus", scaled)
    y = bent if beta == 1 else site.emit("Div", bent, site.read(beta))
    if threshold >= _SOFTPLUS_IS_LINEAR:
        return y
    return site.emit("Where", site.emit("Greater", scaled, site.read(threshold)), x, y)


def logsigmoid(site: Site) -> str:
    """−softplus(−x)"""
    return site.emit("Neg", site.emit("Softplus", site.emit("Neg", site.tensor("input"))))


def expm1(site: Site) -> str:
    """exp(x) − 1"""
    return site.emit("Sub", site.emit("Exp", site.tensor("input")), site.writer.number(1.0))


def log1p(site: Site) -> str:
    """log(x + 1)"""
    return site.emit("Log", site.emit("Add", site.tensor("input"), site.writer.number(1.0)))


def tanhshrink(site: Site) -> str:
    """x − tanh(x)"""
    x = site.tensor("input")
    return site.emit("Sub", x, site.emit("Tanh", x))


def threshold(site: Site) -> str:
    """x where it is greater, else the value"""
    x = site.tensor("input")
    return site.emit("Where", site.emit("Greater", x, site.read(site["threshold"])), x, site.read(site["value"]))


def gelu(site: Site) -> str:
    """x·(1 + erf(x/√2))/2, or x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2"""
    x, number = site.tensor("input"), site.writer.number
    if site["approximate"] == "tanh":
        cubed = site.emit("Mul", site.emit("Mul", x, x), x)
        inner = site.emit("Add", x, site.emit("Mul", cubed, number(0.044715)))
        bent = site.emit("Tanh", site.emit("Mul", inner, number(math.sqrt(2 / math.pi))))
    else:
        bent = site.emit("Erf", site.emit("Div", x, number(math.sqrt(2))))
    return site.emit("Mul", site.emit("Mul", x, site.emit("Add", bent, number(1.0))), number(0.5))


def prelu(site: Site) -> str:
    """PRelu; its slopes stand in dimension 1."""
    slope = site.optional("slope")
    assert slope is not None
    if slope.values.numel() > 1:
        slope = Constant(slope.path, slope.values.reshape(-1, *(1 for _ in range(site.rank() - 2))))
    return site.emit("PRelu", site.tensor("input"), site.read(slope))


ELEMENTWISE: dict[str, Emission] = {
    "add": _two("Add"),
    "sub": _two("Sub"),
    "mul": _two("Mul"),
    "div": _two("Div"),
    "maximum": _two("Max"),
    "minimum": _two("Min"),
    "relu": _plain("Relu"),
    "clamp": clamp,
    "leaky_relu": _plain("LeakyRelu", alpha="negative_slope"),
    "elu": _plain("Elu", alpha="alpha"),
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "hardsigmoid": lambda site: _hardsigmoid(site, site.tensor("input")),
    "hardswish": _plain("HardSwish"),
    "silu": silu,
    "gelu": gelu,
    "mish": mish,
    "softplus": softplus,
    "neg": _plain("Neg"),
    "abs": _plain("Abs"),
    "exp": _plain("Exp"),
    "sqrt": _plain("Sqrt"),
    "square": square,
    "pow": lambda site: site.emit("Pow", site.tensor("input"), site.writer.number(float(site["exponent"]), site.dtype)),
    "expm1": expm1,
    "log1p": log1p,
    "erf": _plain("Erf"),
    "hardshrink": _plain("Shrink", lambd="lambd"),
    "softshrink": _plain("Shrink", lambd="lambd", bias="lambd"),
    "tanhshrink": tanhshrink,
    "threshold": threshold,
    "selu": _plain("Selu"),
    "celu": _plain("Celu", alpha="alpha"),
    "softsign": _plain("Softsign"),
    "logsigmoid": logsigmoid,
    "prelu": prelu,
}
