"""Convolutions, products of matrices, and what holds their qparams."""

from __future__ import annotations

import math
from typing import Any

import torch

from fxq.export.elementwise import activate
from fxq.export.movement import add_borders
from fxq.export.site import Site
from fxq.export.writer import Constant
from fxq.graph.annotation import tensor_type
from fxq.graph.functional import spatial_padding
from fxq.graph.qdq import groups_of, is_dequantize, qparams_of
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.lowering.requantize import quantize_bias

_INT32 = QuantSpec("int32", -(2**31), 2**31 - 1, symmetric=True)
_INT32_PER_CHANNEL = QuantSpec("int32", -(2**31), 2**31 - 1, symmetric=True, axis=0)


def conv(site: Site) -> str:
    """Conv, with a batch of one around a single image."""
    weight, dilation = _weight(site), site["dilation"]
    rank, padding_mode = weight.values.ndim - 2, site["padding_mode"]
    pairs = spatial_padding(site["padding"], weight.values, dilation)
    x = _batched(site, rank)
    if padding_mode != "zeros":
        x = add_borders(site, x, ((0, 0), (0, 0), *pairs), padding_mode)
        pairs = tuple((0, 0) for _ in pairs)
    attributes = _geometry(site, weight, pads=[before for before, _ in pairs] + [after for _, after in pairs])
    return _epilogue(site, _unbatched(site, rank, site.emit("Conv", x, *_weights(site, weight), **attributes)))


def conv_transpose(site: Site) -> str:
    """ConvTranspose, with a batch of one around a single image."""
    weight = _weight(site)
    rank = weight.values.ndim - 2
    attributes = _geometry(site, weight, pads=[*site["padding"], *site["padding"]])
    attributes["output_padding"] = list(site["output_padding"])
    y = site.emit("ConvTranspose", _batched(site, rank), *_weights(site, weight), **attributes)
    return activate(site, _unbatched(site, rank, y), site["act"])


def _geometry(site: Site, weight: Constant, pads: list[int]) -> dict[str, Any]:
    strides, dilations = list(site["stride"]), list(site["dilation"])
    kernel = list(weight.values.shape[2:])
    return {"kernel_shape": kernel, "strides": strides, "pads": pads, "dilations": dilations, "group": site["groups"]}


def _batched(site: Site, rank: int) -> str:
    x = site.tensor("input")
    return x if site.rank() == rank + 2 else site.emit("Unsqueeze", x, site.writer.sizes([0]))


def _unbatched(site: Site, rank: int, y: str) -> str:
    return y if site.rank() == rank + 2 else site.emit("Squeeze", y, site.writer.sizes([0]))


def linear(site: Site) -> str:
    """Gemm of a matrix, MatMul of anything else."""
    weight = _weight(site)
    if site.rank() == 2:
        return _epilogue(site, site.emit("Gemm", site.tensor("input"), *_weights(site, weight), transB=1))
    y = site.emit("MatMul", site.tensor("input"), site.read(weight.transposed))
    bias = site.optional("bias")
    return _epilogue(site, y if bias is None else site.emit("Add", y, _bias(site, weight, bias)))


def matmul(site: Site) -> str:
    """MatMul"""
    return site.emit("MatMul", site.tensor("input"), site.tensor("other"))


def addmm(site: Site) -> str:
    """beta·x + alpha·MatMul"""
    y, beta, alpha = site.emit("MatMul", *map(site.read, site["tensors"])), site["beta"], site["alpha"]
    if alpha != 1:
        y = site.emit("Mul", y, site.read(alpha))
    if beta == 0:
        return y
    x = site.tensor("input")
    return site.emit("Add", x if beta == 1 else site.emit("Mul", x, site.read(beta)), y)


def addcmul(site: Site) -> str:
    """x + value·a·b"""
    product = site.emit("Mul", *map(site.read, site["tensors"]))
    scaled = product if site["value"] == 1 else site.emit("Mul", product, site.read(site["value"]))
    return site.emit("Add", site.tensor("input"), scaled)


def glu(site: Site) -> str:
    """a·sigmoid(b)"""
    x, axis = site.tensor("input"), site["dim"] % site.rank()
    half = site.length(axis) // 2
    value, gate = (site.slice(x, axis, start, start + half) for start in (0, half))
    return site.emit("Mul", value, site.emit("Sigmoid", gate))


def bilinear(site: Site) -> str:
    """Einsum with the weights in between, Add"""
    y = site.emit("Einsum", site.tensor("input"), site.read(_weight(site)), site.tensor("other"), equation="...i,oij,...j->...o")
    bias = site.optional("bias")
    return y if bias is None else site.emit("Add", y, site.read(bias))


def einsum(site: Site) -> str:
    """Einsum"""
    return site.emit("Einsum", *map(site.read, site["tensors"]), equation=site["equation"])


def attention(site: Site) -> str:
    """MatMul, Softmax, MatMul. A row whose scores are all masked is the mean of the values here, and 0 in torch."""
    if site["enable_gqa"] or site["dropout"]:
        found = "enable_gqa" if site["enable_gqa"] else "dropout"
        raise site.refusal("attention in evaluation with as many keys as queries", found, "repeat the heads; call model.eval() before")
    rank, scale = site.rank(), site["scale"]
    keys = site.emit("Transpose", site.tensor("keys"), perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = site.emit("MatMul", site.tensor("input"), keys)
    scores = site.emit("Mul", scores, site.read(1 / math.sqrt(site.length(rank - 1)) if scale is None else scale))
    weights = site.emit("Softmax", _masked(site, scores), axis=-1)
    return site.emit("MatMul", weights, site.tensor("values"))


def _masked(site: Site, scores: str) -> str:
    lowest = torch.finfo(site.dtype).min
    if site["is_causal"]:
        later = torch.ones(site.length(site.rank() - 2), site.length(site.rank("keys") - 2, "keys")).tril() == 0
        return site.emit("Add", scores, site.writer.read(Constant("causal", later * lowest)))
    if site["mask"] is None:
        return scores
    found = tensor_type(site.operands["mask"])
    if found is not None and found.dtype == torch.bool:
        return site.emit("Where", site.tensor("mask"), scores, site.read(lowest))
    return site.emit("Add", scores, site.tensor("mask"))


def embedding(site: Site) -> str:
    """Gather of rows."""
    if site["max_norm"] is not None:
        raise site.refusal("an embedding that leaves its rows as they are", "max_norm", "normalize the rows before")
    return site.emit("Gather", site.read(_weight(site)), site.tensor("input"), axis=0)


def batch_norm(site: Site) -> str:
    """BatchNormalization with the statistics of training."""
    mean, variance = site.optional("running_mean"), site.optional("running_var")
    if site["training"] or mean is None or variance is None:
        raise site.refusal("a batch norm in evaluation, with running statistics", "one that computes them", "call model.eval() before")
    channels = mean.values.shape[0]
    gain, shift = (_filled(site, name, value, channels) for name, value in (("weight", 1.0), ("bias", 0.0)))
    statistics = site.read(mean), site.read(variance)
    return site.emit("BatchNormalization", site.tensor("input"), gain, shift, *statistics, epsilon=float(site["eps"]))


def _filled(site: Site, operand: str, value: float, channels: int) -> str:
    constant = site.optional(operand)
    return site.writer.number([value] * channels) if constant is None else site.read(constant)


def quantize(site: Site) -> str:
    """QuantizeLinear, behind a Clip where not all integers of the dtype are in use."""
    qparams, x = qparams_of(site.node), site.tensor("input")
    spec, limits = qparams.spec, torch.iinfo(qparams.spec.torch_dtype)
    if (spec.qmin, spec.qmax) != (limits.min, limits.max):
        bounds = [float((bound - qparams.zero_point) * qparams.scale) for bound in (spec.qmin, spec.qmax)]
        x = site.emit("Clip", x, *map(site.writer.number, bounds))
    return site.writer.quantize(x, qparams, site.node.name)


def dequantize(site: Site) -> str | Constant:
    """DequantizeLinear; a weight is written where it is read, as it may have to be transposed there."""
    source, qparams = site["input"], qparams_of(site.node)
    if isinstance(source, Constant):
        return Constant(source.path, source.values, qparams)
    return site.writer.dequantize(source, qparams, site.node.name)


def dequantize_groups(site: Site) -> Constant:
    """The floats that the weights stand for: QDQ operators have integer zero points."""
    source = site["input"]
    assert isinstance(source, Constant), "weights in few bits are tensors of the model"
    return Constant(source.path, groups_of(site.node).real())


def round_to_bytes(site: Site) -> str:
    """DynamicQuantizeLinear and DequantizeLinear; by row, for which ONNX has no operator, what these compute."""
    x = site.tensor("input")
    if not site["per_row"]:
        found = site.writer.emit_several("DynamicQuantizeLinear", (x,), site.node.name, ("integers", "scale", "zero_point"))
        return site.emit("DequantizeLinear", *found)
    zero, most = site.writer.number(0.0), site.writer.number(255.0)
    dims = tuple(range(-site["dims"], 0))
    low = site.emit("Min", site.reduce("ReduceMin", x, dims, keepdims=True), zero)
    high = site.emit("Max", site.reduce("ReduceMax", x, dims, keepdims=True), zero)
    smallest = site.writer.number(torch.finfo(torch.float32).eps)
    scale = site.emit("Max", site.emit("Div", site.emit("Sub", high, low), most), smallest)
    zero_point = site.emit("Round", site.emit("Neg", site.emit("Div", low, scale)))
    integers = site.emit("Add", site.emit("Round", site.emit("Div", x, scale)), zero_point)
    return site.emit("Mul", site.emit("Sub", site.emit("Clip", integers, zero, most), zero_point), scale)


# --- weights ---------------------------------------------------------------------------------------------------------------


def _weight(site: Site) -> Constant:
    weight = site["weight"]
    if isinstance(weight, Constant):
        return weight
    raise site.refusal("a weight that is a tensor of the model", "one that is computed", "fold what computes it into the model")


def _weights(site: Site, weight: Constant) -> tuple[str, ...]:
    """Weight, and bias where there is one."""
    bias = site.optional("bias")
    return (site.read(weight),) if bias is None else (site.read(weight), _bias(site, weight, bias))


def _bias(site: Site, weight: Constant, bias: Constant) -> str:
    """b = s_x·s_w·b_q: the integers that are added to the sums of products, where these are integers too."""
    x = site.operands["input"]
    if weight.qparams is None or not is_dequantize(x):
        return site.read(bias)
    products = qparams_of(x).scale * weight.qparams.scale
    per_channel = products.ndim > 0
    products = products.repeat(bias.values.numel() // products.numel()) if per_channel else products
    integers = quantize_bias(bias.values, products)
    if int(integers.abs().max()) >= 2**31:
        return site.read(bias)
    spec = _INT32_PER_CHANNEL if per_channel else _INT32
    qparams = QParams(spec, products, torch.zeros_like(products, dtype=torch.int32))
    return site.read(Constant(bias.path, integers.to(torch.int32), qparams))


def _epilogue(site: Site, y: str) -> str:
    """act(y + residual)"""
    if site["residual"] is not None:
        y = site.emit("Add", y, site.tensor("residual"))
    return activate(site, y, site["act"])


PRODUCTS = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "linear": linear,
    "matmul": matmul,
    "addmm": addmm,
    "addcmul": addcmul,
    "bilinear": bilinear,
    "einsum": einsum,
    "attention": attention,
    "glu": glu,
    "embedding": embedding,
    "batch_norm": batch_norm,
    "quantize": quantize,
    "dequantize": dequantize,
    "dequantize_groups": dequantize_groups,
    "round_to_bytes": round_to_bytes,
}
