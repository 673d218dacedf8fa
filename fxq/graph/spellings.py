"""Readers for the spellings whose arguments are not the canonical op's own, and the constructors of Spelling rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from fxq.graph.annotation import tensor_type
from fxq.graph.attributes import attribute_of
from fxq.graph.image_sizes import is_tuple_of_sizes
from fxq.graph.opdef import OpDef, Operands, Parameter, Spelling

# operands that hold one number per spatial dimension; a single number stands for all of them
_SPATIAL = ("kernel_size", "stride", "padding", "output_padding", "dilation", "output_size")
# arguments that change how a spelling works, not what it computes; True is refused for the second
_IN_PLACE, _INDICES = "inplace", "return_indices"
_ABSENT = object()

Reader = Callable[..., Operands]


def spelled(*targets: Any, read: Reader | None = None, rank: int = 1) -> tuple[Spelling, ...]:
    """Rows for targets that are read alike."""
    return tuple(Spelling(target, read, rank=rank) for target in targets)


def in_place(*targets: Any, read: Reader | None = None) -> tuple[Spelling, ...]:
    """Rows for targets that write into their input, like `relu_` and `operator.iadd`."""
    return tuple(Spelling(target, read, in_place=True) for target in targets)


# --- reading a call --------------------------------------------------------------------------------------------------------


def read_module(op: OpDef, spelling: Spelling, module: nn.Module) -> Operands:
    """Operands that a module carries: tensors as Parameters, attributes by value."""
    if attribute_of(module, _INDICES):
        raise TypeError(f"{_INDICES} has no integer form")
    if spelling.read is not None:
        return spelling.read(module)
    found = {name: attribute_of(module, name, _ABSENT) for name in op.carried}
    return {name: Parameter(name) if isinstance(value, Tensor) else value for name, value in found.items() if value is not _ABSENT}


def read_arguments(op: OpDef, spelling: Spelling, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Operands:
    """Operands that a call gives by position and keyword."""
    kwargs = {name: value for name, value in kwargs.items() if name != _IN_PLACE}
    if kwargs.pop(_INDICES, False):
        raise TypeError(f"{_INDICES} has no integer form")
    if spelling.read is not None:
        return spelling.read(*args, **kwargs)
    return op.bind(args, kwargs)


def writes_in_place(spelling: Spelling, module: nn.Module | None, kwargs: dict[str, Any]) -> bool:
    """True where the call changes its input."""
    return spelling.in_place or bool(kwargs.get(_IN_PLACE, getattr(module, _IN_PLACE, False)))


def normal_form(op: OpDef, operands: Operands, rank: int) -> Operands:
    """Every operand by name in the op's order, defaults filled in, lists as tuples, one number per spatial dimension."""
    given = {**op.defaults, **operands}
    if given.keys() != set(op.operands):
        op.signature.bind(**operands)  # says what is missing, or too much
    normal = {name: tuple(given[name]) if isinstance(given[name], list) else given[name] for name in op.operands}
    for name in _SPATIAL:
        if name in normal:
            normal[name] = _one_for_each_dimension(normal[name], rank)
    if "kernel_size" in normal and not normal["stride"]:
        normal["stride"] = normal["kernel_size"]
    return normal


def _one_for_each_dimension(value: Any, rank: int) -> Any:
    """Raises TypeError for a node that makes several sizes."""
    if is_tuple_of_sizes(value):
        raise TypeError(f"{value} makes several numbers")
    return value if value is None or isinstance(value, str | tuple) else (value,) * rank


# --- readers ---------------------------------------------------------------------------------------------------------------


def attributes(**operands: Any) -> Reader:
    """For a spelling that implies its operands."""
    return lambda module: dict(operands)


def batch_norm_module(module: nn.Module) -> Operands:
    """`training` becomes: are the statistics those of the batch."""
    tensors = {name: attribute_of(module, name) for name in ("running_mean", "running_var", "weight", "bias")}
    has_statistics = tensors["running_mean"] is not None
    if module.training and has_statistics and module.momentum is None:
        raise TypeError("momentum None is an average over all batches so far")
    parameters = {name: None if value is None else Parameter(name) for name, value in tensors.items()}
    return {"training": module.training or not has_statistics, "momentum": module.momentum or 0.0, "eps": module.eps, **parameters}


def channel_dropout_module(module: nn.Module) -> Operands:
    """Dropout1d, Dropout2d and Dropout3d are dropout when not training."""
    if module.training:
        raise TypeError("whole channels are zeroed in training mode")
    return {"p": module.p, "training": False}


def unary(input: Any, inplace: bool = False) -> Operands:
    """A function of one tensor that may write in place."""
    return {"input": input}


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Operands:
    """A function of one tensor that may write in place."""
    return {"input": input, "threshold": threshold, "value": value}


def power(input: Any, exponent: Any) -> Operands:
    """A tensor to the power of a number."""
    if not isinstance(input, Node) or not isinstance(exponent, int | float):
        raise TypeError("the exponent is not a number, or the base is one")
    return {"input": input, "exponent": exponent}


def rsqrt(input: Any) -> Operands:
    """1 / √x"""
    return power(input, -0.5)


def rrelu_module(module: nn.Module) -> Operands:
    """In evaluation its slope is the mean of those that training draws from."""
    if module.training:
        raise TypeError("its slopes are random in training mode")
    return {"negative_slope": (module.lower + module.upper) / 2}  # type: ignore[operator]


def relu6(input: Any, inplace: bool = False) -> Operands:
    """relu6 is a clamp."""
    return {"input": input, "min": 0.0, "max": 6.0}


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Operands:
    """hardtanh is a clamp."""
    return {"input": input, "min": float(min_val), "max": float(max_val)}


def hardtanh_module(module: nn.Module) -> Operands:
    """Hardtanh and ReLU6."""
    return {"min": float(module.min_val), "max": float(module.max_val)}  # type: ignore[arg-type]


def clamp_min(input: Any, min: Any) -> Operands:
    """A clamp from below."""
    return {"input": input, "min": min}


def clamp_max(input: Any, max: Any) -> Operands:
    """A clamp from above."""
    return {"input": input, "max": max}


def pad_module(mode: str) -> Reader:
    """ConstantPad, ZeroPad, ReflectionPad, ReplicationPad and CircularPad of any rank."""

    def read(module: Any) -> Operands:
        value = getattr(module, "value", None)
        return {"pad": tuple(module.padding), "mode": mode, "value": 0.0 if mode == "constant" and value is None else value}

    return read


def sizes(operand: str) -> Reader:
    """x.view(2, 3) and x.view((2, 3)): the arguments, or one sequence, are the operand. So is one node: y.size(), or one size."""

    def read(input: Any, *given: Any, **named: Any) -> Operands:
        (sizes,) = named.values() if named else given if len(given) == 1 and isinstance(given[0], list | tuple | Node) else (given,)
        if isinstance(sizes, Node):
            return {"input": input, operand: sizes}
        if not isinstance(sizes, list | tuple) or any(isinstance(size, torch.dtype) for size in sizes):
            raise TypeError(f"{operand} is not a sequence of sizes")
        return {"input": input, operand: tuple(sizes)}

    return read


def broadcast(input: Any, size: Any) -> Operands:
    """expand to a shape"""
    return {"input": input, "sizes": size}


def swapaxes(input: Any, axis0: int, axis1: int) -> Operands:
    """transpose under numpy's names"""
    return {"input": input, "dim0": axis0, "dim1": axis1}


def transposed(dim0: int, dim1: int) -> Reader:
    """A transpose that says by its name of which dimensions."""

    def read(input: Any, name: str = "") -> Operands:
        return {"input": input, "dim0": dim0, "dim1": dim1}

    return read


def reversed_dims(input: Any, name: str) -> Operands:
    """x.T"""
    return {"input": input, "dims": tuple(reversed(range(rank_of(input))))}


def setitem(input: Any, index: Any, value: Any) -> Operands:
    """input[index] = value"""
    return {"input": input, "other": value, "index": index}


def zero(input: Any) -> Operands:
    """x.zero_()"""
    return {"input": input, "value": 0}


def where(condition: Any, input: Any, other: Any) -> Operands:
    """torch.where asks for the condition first."""
    return {"input": input, "other": other, "condition": condition}


def where_method(input: Any, condition: Any, other: Any) -> Operands:
    """x.where(condition, y)"""
    return {"input": input, "other": other, "condition": condition}


def masked_fill(input: Any, mask: Any, value: Any) -> Operands:
    """where(mask, value, x)"""
    return {"input": value, "other": input, "condition": mask}


def attribute(input: Any, name: str) -> Operands:
    """x.shape and x.ndim"""
    return {"input": input}


def split(tensor: Any, split_size_or_sections: Any, dim: int = 0) -> Operands:
    """torch.split has names of its own."""
    return {"input": tensor, "split_size": split_size_or_sections, "dim": dim}


def split_method(input: Any, split_size: Any, dim: int = 0) -> Operands:
    """The method has the op's."""
    return {"input": input, "split_size": split_size, "dim": dim}


def tensor_split(input: Any, sections: Any = None, dim: int = 0, *, indices: Any = None) -> Operands:
    """A number of parts, or where they begin."""
    return {"input": input, "sections": sections if indices is None else indices, "dim": dim}


def unflatten_module(module: nn.Module) -> Operands:
    """unflattened_size becomes sizes."""
    if not isinstance(module.dim, int):
        raise TypeError("named dimensions have no integer form")
    return {"dim": module.dim, "sizes": tuple(module.unflattened_size)}  # type: ignore[arg-type]


def stochastic_depth(input: Any, p: float, mode: str, training: bool = True) -> Operands:
    """In evaluation the input itself."""
    if training:
        raise TypeError("it is in training mode")
    return {"input": input, "p": p, "training": False}


def softmax(input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Operands:
    """Softmax with its dimension given, in float32."""
    wanted = _stacklevel if isinstance(_stacklevel, torch.dtype) else dtype  # torch.softmax takes its dtype third
    found = tensor_type(input) if isinstance(input, Node) else None
    if dim is None or (wanted is not None and (wanted != torch.float32 or found is None or found.dtype != torch.float32)):
        raise TypeError("softmax needs dim, and computes in float32")
    return {"input": input, "dim": dim}


def reversed_operands(input: Any, other: Any, alpha: float = 1) -> Operands:
    """rsub(x, y) = y − x"""
    if alpha != 1:
        raise TypeError("alpha belongs to the first operand here")
    return {"input": other, "other": input}


def of_two(input: Any, other: Any) -> Operands:
    """torch.max of two tensors; the other forms of torch.max also give indices, or reduce."""
    if not isinstance(other, Node):
        raise TypeError("only the form with two tensors has an integer form")
    return {"input": input, "other": other}


def rank_of(value: Any) -> int:
    """Raises TypeError for what is no tensor."""
    found = tensor_type(value) if isinstance(value, Node) else None
    if found is None:
        raise TypeError(f"{value} is not a tensor")
    return len(found.shape)


def norm_module(what: str) -> Reader:
    """LayerNorm and GroupNorm: `what` is normalized over; weight and bias are gain and shift."""

    def read(module: nn.Module) -> Operands:
        return {what: getattr(module, what), "eps": module.eps, **_gain_and_shift(module)}

    return read


def instance_norm_module(rank: int) -> Reader:
    """InstanceNorm of so many spatial dimensions; weight and bias are gain and shift."""

    def read(module: nn.Module) -> Operands:
        if module.track_running_stats:
            raise TypeError("running statistics make it a batch norm")
        return {"rank": rank, "eps": module.eps, **_gain_and_shift(module)}

    return read


def _gain_and_shift(module: nn.Module) -> Operands:
    tensors = {"gain": "weight", "shift": "bias"}
    return {operand: Parameter(name) for operand, name in tensors.items() if getattr(module, name, None) is not None}


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Operands:
    """weight and bias are gain and shift."""
    return {"input": input, "normalized_shape": normalized_shape, "gain": weight, "shift": bias, "eps": eps}


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Operands:
    """weight is the gain."""
    return {"input": input, "normalized_shape": normalized_shape, "gain": weight, "eps": eps}


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Operands:
    """weight and bias are gain and shift."""
    return {"input": input, "num_groups": num_groups, "gain": weight, "shift": bias, "eps": eps}


def instance_norm(input: Any, *given: Any, **named: Any) -> Operands:
    """weight and bias are gain and shift; input is [N, C, *spatial]."""
    names = ("running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps")
    options = {**dict(zip(names, given, strict=False)), **named}
    if not options.get("use_input_stats", True):
        raise TypeError("running statistics make it a batch norm")
    if options.get("running_mean") is not None or options.get("running_var") is not None:
        raise TypeError("it writes running statistics")
    affine = {"gain": options.get("weight"), "shift": options.get("bias")}
    return {"input": input, **affine, "rank": rank_of(input) - 2, "eps": options.get("eps", 1e-5)}


def prelu(input: Any, weight: Any) -> Operands:
    """weight is the slope."""
    return {"input": input, "slope": weight}


def prelu_module(module: nn.Module) -> Operands:
    """weight is the slope."""
    return {"slope": Parameter("weight")}
