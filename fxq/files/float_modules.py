"""Modules of torch.nn that stay float between int8 regions, as records: class, arguments of its constructor, tensors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from pydantic import JsonValue
from torch import nn

from fxq.files.values import UnknownValue, from_json, to_json
from fxq.graph.constants import tensor_at
from fxq.graph.names import qualified_name
from fxq.passes.attention import Attention

# fmt: off
FLOAT_MODULES: tuple[type[nn.Module], ...] = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear, nn.Bilinear, nn.Identity,
    nn.Embedding, nn.EmbeddingBag, nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell, nn.MultiheadAttention, Attention,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm, nn.GroupNorm,
    nn.RMSNorm, nn.LocalResponseNorm, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.GLU, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Tanhshrink, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink,
    nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Threshold, nn.Softmax, nn.Softmin, nn.Softmax2d, nn.LogSoftmax, nn.Dropout,
    nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d, nn.Flatten,
    nn.Unflatten, nn.Fold, nn.Unfold, nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.ZeroPad1d, nn.ZeroPad2d,
    nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d, nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d,
    nn.CosineSimilarity, nn.PairwiseDistance,
)
# fmt: on

# parameters of constructors that ask for a tensor: where that is
_ASK_FOR_TENSORS: tuple[tuple[type[nn.Module], str, str], ...] = (
    (nn.MultiheadAttention, "bias", "in_proj_bias"),
    (nn.MultiheadAttention, "add_bias_kv", "bias_k"),
    (nn.Module, "bias", "bias"),
)
# a number of these is made by a loop, and has tensors
_LAYERS = "num_layers"


class Unrebuildable(Exception):
    """A module is not what its class and arguments say. The message says why."""


@cache
def modules_by_name() -> Mapping[str, type[nn.Module]]:
    """Qualified name → row of FLOAT_MODULES."""
    return {qualified_name(kind): kind for kind in FLOAT_MODULES}


def module_arguments(module: nn.Module) -> dict[str, JsonValue]:
    """The arguments of the constructor that makes a module like this one: its attributes of their names.

    Raises:
        Unrebuildable: the constructor makes another one of them.
    """
    try:
        given = {name: to_json(value) for name, value in _attributes(module).items()}
    except UnknownValue as error:
        raise Unrebuildable(f"it has {error} among its attributes") from error
    made = build_module(qualified_name(type(module)), given, sum(1 for _ in module.parameters()))
    different = next((name for name in _plain(module) if name not in _plain(made) or _plain(made)[name] != _plain(module)[name]), None)
    if different is not None:
        raise Unrebuildable(f"its attribute {different} is not what the constructor of its class makes of the others")
    if _shapes(made) != _shapes(module):
        raise Unrebuildable("it has other parameters or buffers than its class")
    return given


def build_module(name: str, arguments: Mapping[str, JsonValue], tensors: int) -> nn.Module:
    """The module with tensors that have shapes and no values yet.

    Args:
        tensors: how many it is said to have.

    Raises:
        Unrebuildable: there is no such class, or the arguments do not fit it.
    """
    kind = modules_by_name().get(name)
    if kind is None:
        raise Unrebuildable(f"there is no module {name[:100]!r} in the table")
    try:
        given = {key: from_json(value, {}) for key, value in arguments.items()}
        if given.keys() - set(_names(kind)) or given.get(_LAYERS, 0) > tensors:
            raise Unrebuildable(f"{name} cannot have the arguments {sorted(given)[:8]}")
        with torch.device("meta"):
            return kind(**given)
    except (UnknownValue, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError, AssertionError) as error:
        raise Unrebuildable(f"{name}: {error}") from error


def _names(kind: type[nn.Module]) -> tuple[str, ...]:
    """Parameters of the constructor; device and dtype are those of the tensors."""
    made_by = nn.MultiheadAttention if kind is Attention else kind
    parameters = inspect.signature(made_by).parameters.values()
    names = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    if issubclass(kind, nn.RNNBase):
        names = [
            name for name in inspect.signature(nn.RNNBase).parameters if name not in ("mode", *([] if kind is nn.LSTM else ["proj_size"]))
        ]
        names += ["nonlinearity"] if kind is nn.RNN else []
    return tuple(name for name in names if name not in ("device", "dtype") and not name.startswith("_"))


def _attributes(module: nn.Module) -> dict[str, Any]:
    tensors = {name: path for kind, name, path in reversed(_ASK_FOR_TENSORS) if isinstance(module, kind)}
    found = {}
    for name in _names(type(module)):
        value = getattr(module, tensors.get(name, name), None)
        is_tensor = name in tensors and not isinstance(value, bool)
        if is_tensor or hasattr(module, name):
            found[name] = value is not None if is_tensor else value
    return found


def _plain(module: nn.Module) -> dict[str, Any]:
    """What a module has besides tensors and submodules."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_") and name != "training"}


def state_paths(module: nn.Module) -> list[str]:
    """Paths of the parameters and buffers of a module and those in it."""
    return [name for name, _ in (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))]


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor_at(module, name).shape) for name in state_paths(module)}
