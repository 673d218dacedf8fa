"""Every op that can be int8: LOWERED against REFERENCE, and against numerics.md written out in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.graph.opdef import Policy
from fxq.graph.ops import OPS, ops_by_name
from fxq.lowering.lowerings import LOWERINGS
from tests.lowering.compiled import QCONFIG, SIGNED, Compiled, compile_text
from tests.lowering.examples import EXAMPLES
from tests.stepwise import EXACT, op_errors

ARITHMETICS = {"x86": ("x86", QCONFIG), "qnnpack": ("qnnpack", QCONFIG), "qnnpack, int8": ("qnnpack", SIGNED)}
CASES = [(op, number, text) for op, texts in EXAMPLES.items() for number, text in enumerate(texts)]

# the share of integers that may be one step off: where a float op's last bit, m's 22 bits or the bias's rounding to whole
# accumulators turns a tie over. Bound for every op of these examples; the ops in EXACT have none.
# Where weights are halves and quarters (bilinear interpolation), the exact result itself is often a tie.
RATE, RATE_OF_TIES = 0.01, 0.2


@pytest.mark.parametrize(("profile", "qconfig"), ARITHMETICS.values(), ids=ARITHMETICS)
@pytest.mark.parametrize(("op", "text"), [(op, text) for op, _, text in CASES], ids=[f"{op}-{number}" for op, number, _ in CASES])
def test_lowered_is_the_reference_within_a_step(op: str, text: str, profile: str, qconfig: object) -> None:
    compiled = compile_text(text, profile, qconfig)  # type: ignore[arg-type]
    errors = op_errors(compiled.reference, compiled.lowered, compiled.inputs)
    assert op in {error.op for error in errors}
    for error in errors:
        assert error.steps <= error.allowed, error
        assert error.rate <= (0.0 if error.op in EXACT else RATE_OF_TIES if error.op == "interpolate" else RATE), error


def test_every_op_that_can_be_int8_has_an_example() -> None:
    quantizable = [op.name for op in OPS if op.policy not in (Policy.FLOAT, Policy.METADATA)]
    assert sorted(EXAMPLES) == sorted(quantizable)


def test_every_row_of_lowerings_is_an_op_that_can_be_int8() -> None:
    assert set(LOWERINGS) <= set(EXAMPLES)
    assert not [name for name in LOWERINGS if ops_by_name()[name].policy in (Policy.TABLE, Policy.FIXED)]


def test_exact_ops_are_those_that_keep_qparams() -> None:
    """Interpolation rounds between neighbours."""
    assert {op.name for op in OPS if op.keeps_qparams} == EXACT | {"interpolate"}


# --- numerics.md in numpy ------------------------------------------------------------------------------------------------------

f32 = np.float32


def scale_of(compiled: Compiled, name: str) -> np.float32:
    return f32(compiled.qparams(name).scale.item())


def zero_of(compiled: Compiled, name: str) -> int:
    return int(compiled.qparams(name).zero_point)


def centered(compiled: Compiled, name: str, integers: Tensor) -> np.ndarray:
    return integers.numpy().astype(np.int64) - zero_of(compiled, name)


def to_22_bits(multiplier: np.ndarray) -> np.ndarray:
    """Nearest even at 22 significant bits, by way of exact fractions of a power of two."""
    mantissa, exponent = np.frexp(multiplier.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 2.0**22) / 2.0**22, exponent).astype(f32)


def clip(compiled: Compiled, name: str, values: np.ndarray, low: float = -math.inf) -> np.ndarray:
    spec, zero = compiled.qparams(name).spec, zero_of(compiled, name)
    inverse = f32(1) / scale_of(compiled, name)
    least = spec.qmin if low == -math.inf else max(spec.qmin, int(np.rint(f32(low) * inverse)) + zero)
    return np.clip(np.rint(values.astype(f32)) + zero, least, spec.qmax)


def expected_accumulators(compiled: Compiled, name: str, products: Callable[[Tensor, Tensor], Tensor]) -> np.ndarray:
    """f32(acc + b_q), channels in dimension 1: the products are computed in float64, where they are exact."""
    weight, w = compiled.weight(name)
    x = torch.from_numpy(centered(compiled, "x", compiled.values()["x_q"])).double()
    acc = products(x, weight.double()).numpy()
    step = scale_of(compiled, "x") * w.scale.numpy()
    bias = np.rint(compiled.bias(name).numpy() * (f32(1) / step))
    shape = (1, -1) + (1,) * (acc.ndim - 2)
    return (acc + bias.reshape(shape)).astype(f32)


def multiplier(compiled: Compiled, name: str, bits: int) -> np.ndarray:
    _, w = compiled.weight(name)
    exact = scale_of(compiled, "x") * w.scale.numpy() * (f32(1) / scale_of(compiled, name))
    assert exact.dtype == f32
    return exact if bits == 24 else to_22_bits(exact)


@pytest.mark.parametrize(("profile", "bits"), [("x86", 22), ("qnnpack", 24)])
@pytest.mark.parametrize("act", ["", ", act=relu"])
def test_conv(profile: str, bits: int, act: str) -> None:
    text = f"x: f32[2, 4, 6, 6] = input\ny = conv(x, @c.weight[5, 4, 3, 3], @c.bias[5], padding=(1, 1){act})\nz = silu(y)\noutput z"
    compiled = compile_text(text, profile)
    values = expected_accumulators(compiled, "y", lambda x, w: F.conv2d(x, w, padding=1))
    scaled = values * multiplier(compiled, "y", bits).reshape(1, -1, 1, 1)
    assert np.array_equal(compiled.values()["y"].numpy(), clip(compiled, "y", scaled, 0.0 if act else -math.inf))


@pytest.mark.parametrize(("profile", "bits"), [("x86", 22), ("qnnpack", 24)])
def test_linear(profile: str, bits: int) -> None:
    compiled = compile_text("x: f32[9, 33] = input\ny = linear(x, @l.weight[7, 33], @l.bias[7])\nz = silu(y)\noutput z", profile)
    values = expected_accumulators(compiled, "y", F.linear)
    scaled = values * multiplier(compiled, "y", bits).reshape(1, -1)
    assert np.array_equal(compiled.values()["y"].numpy(), clip(compiled, "y", scaled))


def test_linear_that_writes_floats() -> None:
    """y = f32(acc + b_q) · fl(s_x · s_w), the multiplier in full on every profile."""
    compiled = compile_text("x: f32[9, 33] = input\ny = linear(x, @l.weight[7, 33], @l.bias[7])\noutput y")
    values = expected_accumulators(compiled, "y", F.linear)
    _, w = compiled.weight("y")
    step = scale_of(compiled, "x") * w.scale.numpy()
    assert np.array_equal(compiled.values()["y"].numpy(), values * step.reshape(1, -1))


@pytest.mark.parametrize("act", ["", ", act=relu"])
def test_conv_with_residual(act: str) -> None:
    text = (
        f"x: f32[2, 4, 5, 5] = input\nr = silu(x)\ny = conv(x, @c.weight[4, 4, 1, 1], @c.bias[4], residual=r{act})\nz = silu(y)\noutput z"
    )
    compiled = compile_text(text)
    values = expected_accumulators(compiled, "y", F.conv2d) * multiplier(compiled, "y", 22).reshape(1, -1, 1, 1)
    residual = centered(compiled, "r", compiled.values()["r"]).astype(f32) * (scale_of(compiled, "r") / scale_of(compiled, "y"))
    assert np.array_equal(compiled.values()["y"].numpy(), clip(compiled, "y", values + residual, 0.0 if act else -math.inf))


@pytest.mark.parametrize(("op", "sign"), [("add", 1), ("sub", -1)])
@pytest.mark.parametrize("alpha", [1, 3, -0.5])
def test_add_and_sub_on_x86(op: str, sign: int, alpha: float) -> None:
    extra = f", alpha={alpha}" if alpha != 1 else ""
    compiled = compile_text(f"x: f32[9, 64] = input\ns = silu(x)\ny = {op}(x, s{extra})\noutput y")
    values = compiled.values()
    a = centered(compiled, "x", values["x_q"]).astype(f32) * (scale_of(compiled, "x") / scale_of(compiled, "y"))
    b = centered(compiled, "s", values["s"]).astype(f32) * (f32(alpha) * (scale_of(compiled, "s") / scale_of(compiled, "y")))
    total = a + b if sign > 0 else a - b
    assert np.array_equal(values["y"].numpy(), clip(compiled, "y", total))


def test_add_on_qnnpack() -> None:
    """Fixed point: e = exponent of the larger ratio, m = rint(ratio · 2^(21 − e)), shifted right by 21 − e with ties away from 0."""
    compiled = compile_text("x: f32[9, 64] = input\ns = silu(x)\ny = add(x, s)\noutput y", "qnnpack")
    values = compiled.values()
    ratios = [float(scale_of(compiled, name) / scale_of(compiled, "y")) for name in ("x", "s")]
    exponent = math.frexp(max(ratios))[1] - 1
    shift = 21 - exponent
    factors = [round(math.ldexp(ratio, shift)) for ratio in ratios]
    terms = (centered(compiled, "x", values["x_q"]), centered(compiled, "s", values["s"]))
    total = terms[0] * factors[0] + terms[1] * factors[1]
    rounded = np.sign(total) * ((np.abs(total) + (1 << (shift - 1))) >> shift)
    spec = compiled.qparams("y").spec
    assert np.array_equal(values["y"].numpy(), np.clip(rounded + zero_of(compiled, "y"), spec.qmin, spec.qmax))


@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
def test_mul(profile: str) -> None:
    compiled = compile_text("x: f32[9, 64] = input\ns = silu(x)\ny = mul(x, s)\noutput y", profile)
    values = compiled.values()
    product = centered(compiled, "x", values["x_q"]) * centered(compiled, "s", values["s"])
    factor = (scale_of(compiled, "x") * scale_of(compiled, "s")) * (f32(1) / scale_of(compiled, "y"))
    assert np.array_equal(values["y"].numpy(), clip(compiled, "y", product.astype(f32) * factor))


@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
@pytest.mark.parametrize("include", [True, False])
def test_avg_pool(profile: str, include: bool) -> None:
    pool = f"avg_pool(x, kernel_size=(3, 3), padding=(1, 1), count_include_pad={include})"
    text = f"x: f32[2, 3, 7, 7] = input\ny = {pool}\nz = silu(y)\noutput z"
    compiled = compile_text(text, profile)
    values = compiled.values()
    padded = np.pad(centered(compiled, "x", values["x_q"]), ((0, 0), (0, 0), (1, 1), (1, 1)))
    inside = np.pad(np.ones((7, 7), np.int64), 1)
    windows = [(slice(3 * i, 3 * i + 3), slice(3 * j, 3 * j + 3)) for i in range(3) for j in range(3)]
    sums = np.stack([padded[..., rows, columns].sum((2, 3)) for rows, columns in windows], -1).reshape(2, 3, 3, 3)
    counts = np.array([9 if include else inside[rows, columns].sum() for rows, columns in windows]).reshape(3, 3)
    step = scale_of(compiled, "x") * (f32(1) / scale_of(compiled, "y"))
    assert np.array_equal(values["y"].numpy(), clip(compiled, "y", sums.astype(f32) * (step / counts.astype(f32))))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

FUNCTIONS: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "tanh": math.tanh,
    "hardsigmoid": lambda v: min(max(v + 3, 0.0), 6.0) / 6,
    "hardswish": lambda v: v * min(max(v + 3, 0.0), 6.0) / 6,
    "silu": lambda v: v / (1 + math.exp(-v)),
    "gelu": lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))),
    "mish": lambda v: v * math.tanh(math.log1p(math.exp(v))),
    "softplus": lambda v: math.log1p(math.exp(v)),
    "neg": lambda v: -v,
    "abs": abs,
    "exp": math.exp,
    "sqrt": lambda v: math.sqrt(v) if v >= 0 else math.nan,
    "square": lambda v: v * v,
    "pow": lambda v: v**3,
    "expm1": math.expm1,
    "log1p": lambda v: math.log1p(v) if v > -1 else math.nan,
    "erf": math.erf,
    "hardshrink": lambda v: v if abs(v) > 0.5 else 0.0,
    "softshrink": lambda v: math.copysign(max(abs(v) - 0.5, 0.0), v),
    "tanhshrink": lambda v: v - math.tanh(v),
    "threshold": lambda v: v if v > 0.1 else -0.7,
    "selu": lambda v: SELU_SCALE * (v if v > 0 else SELU_ALPHA * math.expm1(v)),
    "celu": lambda v: max(v, 0.0) + min(0.0, math.expm1(v)),
    "softsign": lambda v: v / (1 + abs(v)),
    "logsigmoid": lambda v: -math.log1p(math.exp(-v)),
    "elu": lambda v: v if v > 0 else math.expm1(v),
    "leaky_relu": lambda v: v if v >= 0 else 0.01 * v,
}


# what stands in front of a function: it is defined for what comes out, or takes nothing but 8 bits
BEFORE = {"sqrt": "sigmoid", "log1p": "sigmoid", "square": "silu", "pow": "silu"}
ATTRIBUTES = {"pow": ", exponent=3", "threshold": ", threshold=0.1, value=-0.7"}


def test_every_table_has_a_formula() -> None:
    assert sorted(FUNCTIONS) == sorted(op.name for op in OPS if op.policy in (Policy.TABLE, Policy.FIXED))


@pytest.mark.parametrize(("profile", "qconfig"), ARITHMETICS.values(), ids=ARITHMETICS)
@pytest.mark.parametrize("op", FUNCTIONS)
def test_tables_are_the_float64_formula(op: str, profile: str, qconfig: object) -> None:
    """All 256 integers, whichever the input has; exact but for what a last bit of float64 could turn over: nothing."""
    source = "s" if op in BEFORE else "x"
    lines = f"s = {BEFORE.get(op, 'silu')}(x)\ny = {op}({source}{ATTRIBUTES.get(op, '')})\nz = silu(y)"
    compiled = compile_text(f"x: f32[4, 64] = input\n{lines}\noutput z", profile, qconfig)  # type: ignore[arg-type]
    x, y = compiled.qparams(source), compiled.qparams("y")
    first = -128 if x.spec.dtype == "int8" else 0
    inverse = float(f32(1) / f32(y.scale.item()))
    reals = [float(x.scale) * (q - int(x.zero_point)) for q in range(first, first + 256)]
    values = [FUNCTIONS[op](real) * inverse for real in reals]
    rounded = [y.spec.qmin if math.isnan(value) else round(value) + int(y.zero_point) for value in values]
    table = compiled.lowered.get_submodule("y").table
    assert isinstance(table, Tensor)
    assert table.tolist() == [min(max(value, y.spec.qmin), y.spec.qmax) for value in rounded]
