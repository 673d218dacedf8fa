"""Pools, reductions, norms and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fxq.export.site import Site
from fxq.export.writer import Array
from fxq.runtime.integer.windows import bins


def max_pool(site: Site) -> str:
    """MaxPool"""
    return _on_batch(site, "MaxPool", **_windows(site), dilations=list(site["dilation"]))


def avg_pool(site: Site) -> str:
    """AveragePool; another divisor is a factor behind it."""
    divisor, kernel = site["divisor_override"], list(site["kernel_size"])
    include = int(bool(site["count_include_pad"]) or divisor is not None)
    y = _on_batch(site, "AveragePool", **_windows(site), count_include_pad=include)
    if divisor is None:
        return y
    if site["ceil_mode"]:
        raise site.refusal("divisor_override without ceil_mode", "both", "leave one of them out")
    return site.emit("Mul", y, site.writer.number(float(np.prod(kernel)) / divisor))


def _windows(site: Site) -> dict[str, Any]:
    padding = list(site["padding"])
    stride = site["stride"] or site["kernel_size"]
    return {
        "kernel_shape": list(site["kernel_size"]),
        "strides": list(stride),
        "pads": padding * 2,
        "ceil_mode": int(bool(site["ceil_mode"])),
    }


def _on_batch(site: Site, op_type: str, **attributes: Any) -> str:
    """The pool of a batch, or of one image in a batch of its own."""
    x, axis = site.tensor("input"), site.writer.sizes([0])
    if site.rank() == len(attributes["kernel_shape"]) + 2:
        return site.emit(op_type, x, **attributes)
    return site.emit("Squeeze", site.emit(op_type, site.emit("Unsqueeze", x, axis), **attributes), axis)


def adaptive_avg_pool(site: Site) -> str:
    """Means of everything, of equal windows, or a product with a matrix of weights for each dimension."""
    sizes = site["output_size"]
    if all(size == 1 for size in sizes):
        is_batch = site.rank() == len(sizes) + 2
        x = site.tensor("input")
        return site.emit("GlobalAveragePool", x) if is_batch else site.reduce("ReduceMean", x, _last(site, sizes), keepdims=True)
    if _divides(site, sizes):
        return _on_batch(site, "AveragePool", **_even_windows(site, sizes))
    y = site.tensor("input")
    for axis, size in zip(_last(site, sizes), sizes, strict=True):
        y = _mix(site, y, axis, _mean_weights(site.length(axis), size))
    return y


def adaptive_max_pool(site: Site) -> str:
    """The largest of equal windows, or of one slice for each place of each dimension."""
    sizes = site["output_size"]
    if _divides(site, sizes):
        return _on_batch(site, "MaxPool", **_even_windows(site, sizes))
    y = site.tensor("input")
    for axis, size in zip(_last(site, sizes), sizes, strict=True):
        parts = [site.slice(y, axis, part.start, part.stop) for part in bins(site.length(axis), size)]
        y = site.emit("Concat", *(site.reduce("ReduceMax", part, [axis], keepdims=True) for part in parts), axis=axis)
    return y


def _last(site: Site, sizes: Sequence[Any]) -> list[int]:
    """The spatial dimensions, counted from the front."""
    return [site.rank() - len(sizes) + place for place in range(len(sizes))]


def _divides(site: Site, sizes: Sequence[int | None]) -> bool:
    lengths = [site.length(axis) for axis in _last(site, sizes)]
    return all(size is None or length % size == 0 for length, size in zip(lengths, sizes, strict=True))


def _even_windows(site: Site, sizes: Sequence[int | None]) -> dict[str, Any]:
    lengths = [site.length(axis) for axis in _last(site, sizes)]
    kernel = [length // (size or length) for length, size in zip(lengths, sizes, strict=True)]
    return {"kernel_shape": kernel, "strides": kernel}


def _mean_weights(length: int, count: int | None) -> Array:
    """[length, count]: 1/n for the n elements of each window."""
    parts = bins(length, count)
    weights = np.zeros((length, len(parts)), dtype=np.float32)
    for place, part in enumerate(parts):
        weights[part.start : part.stop, place] = 1 / len(part)
    return weights


def _mix(site: Site, x: str, axis: int, weights: Array) -> str:
    """One dimension times a matrix."""
    order = list(range(site.rank()))
    order[axis], order[-1] = order[-1], order[axis]
    product = site.emit("MatMul", site.emit("Transpose", x, perm=order), site.writer.tensor(f"{site.node.name}_windows", weights))
    return site.emit("Transpose", product, perm=order)


def _reduced(op_type: str) -> Any:
    def emission(site: Site) -> str:
        dims = site["dim"]
        given = () if dims is None else dims if isinstance(dims, tuple | list) else (dims,)
        axes = sorted(dim % site.rank() for dim in given)
        return site.reduce(op_type, site.tensor("input"), axes, bool(site["keepdim"]))

    return emission


# --- norms -----------------------------------------------------------------------------------------------------------------


def softmax(site: Site) -> str:
    """Softmax"""
    return site.emit("Softmax", site.tensor("input"), axis=site["dim"])


def layer_norm(site: Site) -> str:
    """LayerNormalization over the last dimensions."""
    given = site["normalized_shape"]
    shape = given if isinstance(given, tuple | list) else (given,)
    gain, shift = site.optional("gain"), site.optional("shift")
    scale = site.writer.number(np.ones(tuple(shape))) if gain is None else site.read(gain)
    optional = () if shift is None else (site.read(shift),)
    return site.emit("LayerNormalization", site.tensor("input"), scale, *optional, axis=-len(shape), epsilon=float(site["eps"]))


def rms_norm(site: Site) -> str:
    """x / sqrt(mean of squares + eps), and the gain: opset 23 has a node of its own for it."""
    given = site["normalized_shape"]
    axes = range(-len(given) if isinstance(given, tuple | list) else -1, 0)
    x, gain, eps = site.tensor("input"), site.optional("gain"), site["eps"]
    squares = site.reduce("ReduceMean", site.emit("Mul", x, x), [axis + site.rank() for axis in axes], keepdims=True)
    added = site.writer.number(torch.finfo(torch.float32).eps if eps is None else eps)
    y = site.emit("Div", x, site.emit("Sqrt", site.emit("Add", squares, added)))
    return y if gain is None else site.emit("Mul", y, site.read(gain))


def group_norm(site: Site) -> str:
    """InstanceNormalization of each group as one channel; gains and shifts of the channels behind it."""
    groups, number = site["num_groups"], site.writer.number
    rows = site.emit("Reshape", site.tensor("input"), site.writer.sizes([0, groups, -1]))
    epsilon = float(site["eps"])
    normal = site.emit("InstanceNormalization", rows, number([1.0] * groups), number([0.0] * groups), epsilon=epsilon)
    y = site.reshape(normal, site.shape)
    for op_type, operand in (("Mul", "gain"), ("Add", "shift")):
        constant = site.optional(operand)
        if constant is not None:
            values = constant.values.reshape(-1, *(1 for _ in range(site.rank() - 2)))
            y = site.emit(op_type, y, site.writer.tensor(constant.path, values.detach().numpy()))
    return y


def instance_norm(site: Site) -> str:
    """InstanceNormalization, with a batch of one around a single image."""
    gain, shift = site.optional("gain"), site.optional("shift")
    x, single = site.tensor("input"), site.rank() == site["rank"] + 1
    channels = site.length(0 if single else 1)
    axis, number = site.writer.sizes([0]), site.writer.number
    scale = number([1.0] * channels) if gain is None else site.read(gain)
    bias = number([0.0] * channels) if shift is None else site.read(shift)
    y = site.emit("InstanceNormalization", site.emit("Unsqueeze", x, axis) if single else x, scale, bias, epsilon=float(site["eps"]))
    return site.emit("Squeeze", y, axis) if single else y


# --- resampling ------------------------------------------------------------------------------------------------------------

# torch's mode → what ONNX calls it, and which element is the nearest
_MODES: dict[str, dict[str, str]] = {
    "nearest": {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"},
    "nearest-exact": {"mode": "nearest", "nearest_mode": "round_prefer_ceil", "coordinate_transformation_mode": "half_pixel"},
    "linear": {"mode": "linear"},
    "bilinear": {"mode": "linear"},
    "trilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic"},
}


def interpolate(site: Site) -> str:
    """Resize, to the size that the result has or by the factors that were given."""
    mode = site["mode"]
    if mode not in _MODES:
        raise site.refusal(f"one of the modes {', '.join(_MODES)}", f"mode {mode!r}", "resize outside of the model")
    attributes: dict[str, Any] = dict(_MODES[mode])
    if "coordinate_transformation_mode" not in attributes:
        attributes["coordinate_transformation_mode"] = "align_corners" if site["align_corners"] else "half_pixel"
    if mode == "bicubic":
        attributes["cubic_coeff_a"] = -0.75
    if site["antialias"]:
        site.needs_opset(18, "antialias")
        attributes["antialias"] = 1
    return site.emit("Resize", site.tensor("input"), "", *_target(site), **attributes)


def _target(site: Site) -> tuple[str, ...]:
    """Factors; or no factors and sizes, of which the first two are those of the input."""
    factors, leading = site["scale_factor"], 2
    spatial = site.rank() - leading
    if factors is not None and not site["recompute_scale_factor"]:
        given = factors if isinstance(factors, tuple | list) else [factors] * spatial
        return (site.writer.number([1.0] * leading + [float(factor) for factor in given]),)
    kept = site.emit("Shape", site.tensor("input"), start=0, end=leading)
    sizes = [size for size in site.shape[leading:] if size is not None]
    return "", site.emit("Concat", kept, site.writer.sizes(sizes), axis=0)


REDUCTIONS = {
    "max_pool": max_pool,
    "adaptive_max_pool": adaptive_max_pool,
    "avg_pool": avg_pool,
    "adaptive_avg_pool": adaptive_avg_pool,
    "mean": _reduced("ReduceMean"),
    "sum": _reduced("ReduceSum"),
    "amax": _reduced("ReduceMax"),
    "amin": _reduced("ReduceMin"),
    "softmax": softmax,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "interpolate": interpolate,
}
