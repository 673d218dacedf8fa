"""The functions, methods and attributes that a file may name besides the ops of fxq: those that compute on tensors and nothing else.

None of them reads files, other memory than its arguments', or the state of the process; random numbers are drawn by dropout alone.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from fxq.errors import FileError
from fxq.graph.module import find_function
from fxq.graph.names import qualified_name
from fxq.graph.opdef import Library
from fxq.graph.ops import OPS
from fxq.runtime.assumptions import ADDED_BY_TRACE

# fmt: off
_ARITHMETIC = (
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow, operator.matmul,
    operator.neg, operator.pos, operator.abs, operator.invert, operator.and_, operator.or_, operator.xor, operator.not_,
    operator.lshift, operator.rshift, operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod, operator.ipow,
    operator.iand, operator.ior, operator.ixor, operator.is_, operator.is_not, operator.getitem, operator.setitem, operator.contains,
    math.ceil, math.floor, math.sqrt, math.log, math.log2, math.prod,
    builtins.len, builtins.int, builtins.float, builtins.bool, builtins.max, builtins.min, builtins.abs, builtins.round, builtins.sum,
    builtins.tuple, builtins.list, builtins.dict, OrderedDict,
)

_OF_TORCH = (
    torch.abs, torch.acos, torch.acosh, torch.adaptive_avg_pool1d, torch.adaptive_max_pool1d, torch.add, torch.addbmm, torch.addcdiv,
    torch.addcmul, torch.addmm, torch.addmv, torch.addr, torch.all, torch.allclose, torch.alpha_dropout, torch.amax, torch.amin,
    torch.aminmax, torch.any, torch.arange, torch.argmax, torch.argmin, torch.argsort, torch.asin, torch.asinh, torch.atan, torch.atan2,
    torch.atanh, torch.atleast_1d, torch.atleast_2d, torch.atleast_3d, torch.avg_pool1d, torch.baddbmm, torch.batch_norm, torch.bincount,
    torch.bitwise_and, torch.bitwise_left_shift, torch.bitwise_not, torch.bitwise_or, torch.bitwise_right_shift, torch.bitwise_xor,
    torch.block_diag, torch.bmm, torch.broadcast_tensors, torch.broadcast_to, torch.bucketize, torch.cat, torch.cdist, torch.ceil,
    torch.celu, torch.channel_shuffle, torch.chunk, torch.clamp, torch.clamp_, torch.clamp_max, torch.clamp_max_, torch.clamp_min,
    torch.clamp_min_, torch.clip, torch.clip_, torch.clone, torch.column_stack, torch.complex, torch.concat, torch.concatenate,
    torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d, torch.copysign,
    torch.cos, torch.cosh, torch.cosine_similarity, torch.count_nonzero, torch.cross, torch.cummax, torch.cummin, torch.cumprod,
    torch.cumsum, torch.deg2rad, torch.det, torch.detach, torch.diag, torch.diag_embed, torch.diagonal, torch.diff, torch.dist,
    torch.div, torch.divide, torch.dot, torch.dropout, torch.dstack, torch.einsum, torch.embedding, torch.eq,
    torch.equal, torch.erf, torch.erfc, torch.erfinv, torch.exp, torch.exp2, torch.expm1, torch.eye, torch.feature_dropout,
    torch.flatten, torch.flip, torch.fliplr, torch.flipud, torch.float_power, torch.floor, torch.floor_divide, torch.fmax, torch.fmin,
    torch.fmod, torch.frac, torch.full, torch.full_like, torch.gather, torch.ge, torch.greater, torch.greater_equal, torch.group_norm,
    torch.gt, torch.hardshrink, torch.heaviside, torch.histc, torch.hstack, torch.hypot, torch.imag, torch.index_add, torch.index_copy,
    torch.index_fill, torch.index_put, torch.index_select, torch.inner, torch.instance_norm, torch.inverse, torch.is_complex,
    torch.is_floating_point, torch.isclose, torch.isfinite, torch.isin, torch.isinf, torch.isnan, torch.kron, torch.kthvalue,
    torch.layer_norm, torch.ldexp, torch.le, torch.lerp, torch.less, torch.less_equal, torch.lgamma, torch.linspace, torch.log,
    torch.log10, torch.log1p, torch.log2, torch.log_softmax, torch.logaddexp, torch.logaddexp2, torch.logcumsumexp, torch.logical_and,
    torch.logical_not, torch.logical_or, torch.logical_xor, torch.logit, torch.logspace, torch.logsumexp, torch.lt, torch.masked_fill,
    torch.masked_scatter, torch.masked_select, torch.matmul, torch.max, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d,
    torch.maximum, torch.mean, torch.median, torch.meshgrid, torch.min, torch.minimum, torch.mm, torch.mode, torch.moveaxis,
    torch.movedim, torch.mul, torch.multiply, torch.mv, torch.nan_to_num, torch.nanmean, torch.nansum, torch.narrow, torch.ne,
    torch.neg, torch.negative, torch.nonzero, torch.norm, torch.not_equal, torch.numel, torch.ones, torch.ones_like, torch.outer,
    torch.pairwise_distance, torch.permute, torch.pixel_shuffle, torch.pixel_unshuffle, torch.polar, torch.positive, torch.pow,
    torch.prelu, torch.prod, torch.quantile, torch.rad2deg, torch.ravel, torch.real, torch.reciprocal, torch.relu, torch.relu_,
    torch.remainder, torch.renorm, torch.repeat_interleave, torch.reshape, torch.rms_norm, torch.roll, torch.rot90, torch.round,
    torch.rsqrt, torch.rsub, torch.scatter, torch.scatter_add, torch.scatter_reduce, torch.searchsorted, torch.select, torch.selu,
    torch.sgn, torch.sigmoid, torch.sigmoid_, torch.sign, torch.sin, torch.sinc, torch.sinh, torch.softmax, torch.sort, torch.split,
    torch.sqrt, torch.square, torch.squeeze, torch.stack, torch.std, torch.std_mean, torch.sub, torch.subtract, torch.sum,
    torch.swapaxes, torch.swapdims, torch.t, torch.take, torch.take_along_dim, torch.tan, torch.tanh, torch.tanh_, torch.tensor,
    torch.tensor_split, torch.tensordot, torch.threshold, torch.tile, torch.topk, torch.trace, torch.transpose, torch.tril,
    torch.tril_indices, torch.triu, torch.triu_indices, torch.true_divide, torch.trunc, torch.unbind, torch.unflatten, torch.unique,
    torch.unsqueeze, torch.var, torch.var_mean, torch.vstack, torch.where, torch.zeros, torch.zeros_like, torch._assert,
    torch.linalg.norm, torch.linalg.vector_norm, torch.linalg.matrix_norm, torch.fft.fft, torch.fft.ifft, torch.fft.rfft,
    torch.fft.irfft, torch.fft.fft2, torch.fft.ifft2, torch.fft.rfft2, torch.fft.irfft2, torch.special.expit, torch.special.logit,
)

_OF_FUNCTIONAL = (
    F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d, F.affine_grid,
    F.avg_pool2d, F.avg_pool3d, F.batch_norm, F.bilinear, F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.cosine_similarity,
    F.cross_entropy, F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.elu, F.embedding, F.embedding_bag, F.fold, F.gelu, F.glu,
    F.grid_sample, F.group_norm, F.hardsigmoid, F.hardswish, F.hardtanh, F.instance_norm, F.interpolate, F.l1_loss, F.layer_norm,
    F.leaky_relu, F.linear, F.local_response_norm, F.log_softmax, F.logsigmoid, F.lp_pool1d, F.lp_pool2d, F.max_pool1d, F.max_pool2d,
    F.max_pool3d, F.max_unpool1d, F.max_unpool2d, F.max_unpool3d, F.mish, F.mse_loss, F.multi_head_attention_forward, F.nll_loss,
    F.normalize, F.one_hot, F.pad, F.pairwise_distance, F.pdist, F.relu, F.relu6, F.rms_norm, F.rrelu, F.scaled_dot_product_attention,
    F.sigmoid, F.silu, F.smooth_l1_loss, F.softmax, F.softmin, F.softplus, F.softshrink, F.softsign, F.tanh, F.tanhshrink, F.threshold,
    F.unfold, F.upsample,
)

# torchvision's, which torch.fx does not trace into; imported where a file names one
_OF_LIBRARIES = tuple(Library(f"torchvision.{name}") for name in (
    "models.swin_transformer.shifted_window_attention", "models.swin_transformer._patch_merging_pad",
    "models.swin_transformer._get_relative_position_bias", "models.video.swin_transformer.shifted_window_attention_3d",
    "models.video.swin_transformer._compute_pad_size_3d", "models.video.swin_transformer._get_relative_position_bias",
    "models.video.swin_transformer._get_window_and_shift_size", "models.video.mvit._squeeze", "models.video.mvit._unsqueeze",
    "ops.stochastic_depth.stochastic_depth", "ops.boxes.nms", "ops.boxes.batched_nms", "ops.boxes.clip_boxes_to_image",
    "ops.roi_align.roi_align", "ops.deform_conv.deform_conv2d",
))

FUNCTIONS: tuple[Callable[..., Any] | Library, ...] = (*ADDED_BY_TRACE, *_ARITHMETIC, *_OF_TORCH, *_OF_FUNCTIONAL, *_OF_LIBRARIES)

# methods of tensors, but for those that a row of OPS spells
_METHODS = (
    "acos", "addbmm", "addcdiv", "addcmul", "addmm", "addmv", "addr", "all", "allclose", "aminmax", "any", "argmax", "argmin", "argsort",
    "asin", "atan", "atan2", "baddbmm", "bernoulli", "bfloat16", "bincount", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor",
    "bool", "broadcast_to", "byte", "ceil", "ceil_", "char", "clone", "conj", "copy_", "cos", "cosh", "count_nonzero", "cpu", "cross",
    "cummax", "cummin", "cumprod", "cumsum", "det", "detach", "diag", "diag_embed", "diagonal", "diff", "dist", "dot", "double",
    "element_size", "eq", "equal", "erf", "erfc", "exp_", "expand_as", "expm1", "fill_", "fliplr", "flipud", "float", "float_power",
    "floor", "floor_", "floor_divide", "floor_divide_", "fmax", "fmin", "fmod", "frac", "gather", "ge", "greater", "greater_equal", "gt",
    "half", "hardshrink", "index_add", "index_add_", "index_copy", "index_fill", "index_fill_", "index_put", "index_put_",
    "index_select", "inner", "int", "inverse", "is_complex", "is_contiguous", "is_floating_point", "isclose", "isfinite", "isinf",
    "isnan", "item", "kthvalue", "le", "lerp", "less", "less_equal", "log", "log10", "log1p", "log2", "log_softmax", "logaddexp",
    "logical_and", "logical_not", "logical_or", "logical_xor", "logit", "logsumexp", "long", "lt", "masked_fill", "masked_fill_",
    "masked_scatter", "masked_select", "median", "mode", "moveaxis", "movedim", "multinomial", "mv", "nan_to_num", "nan_to_num_",
    "nanmean", "nansum", "narrow", "ne", "neg_", "nelement", "new_full", "new_ones", "new_tensor", "new_zeros", "nonzero",
    "norm", "not_equal", "numel", "outer", "positive", "pow", "pow_", "prelu", "prod", "quantile", "ravel", "reciprocal", "reciprocal_",
    "remainder", "repeat_interleave", "requires_grad_", "reshape_as", "rot90", "round", "round_", "rsqrt", "rsqrt_", "scatter",
    "scatter_", "scatter_add", "scatter_add_", "scatter_reduce", "select", "sgn", "short", "sign", "sin", "sinh", "sort", "sqrt_",
    "square_", "squeeze_", "std", "stride", "sum_to_size", "t", "t_", "take", "take_along_dim", "tan", "tensor_split", "tile", "to",
    "tolist", "topk", "trace", "transpose_", "tril", "tril_", "triu", "triu_", "trunc", "type_as", "unfold", "unique", "unsqueeze_",
    "var", "view_as", "where", "zero_", "keys", "values", "items", "get", "index", "count",
)
# fmt: on

# attributes of tensors that a graph reads
ATTRIBUTES = frozenset(
    {"shape", "ndim", "dtype", "device", "layout", "itemsize", "requires_grad", "is_cuda", "T", "mT", "H", "mH", "real", "imag"}
)


@cache
def methods() -> frozenset[str]:
    """All methods that a file may name."""
    return frozenset((*_METHODS, *(spelling.target for op in OPS for spelling in op.spellings if isinstance(spelling.target, str))))


@cache
def functions_by_name() -> Mapping[str, Callable[..., Any] | Library]:
    """Qualified name → row of FUNCTIONS."""
    return {function.name if isinstance(function, Library) else qualified_name(function): function for function in FUNCTIONS}


def known_function(name: str) -> Callable[..., Any]:
    """The function of FUNCTIONS with that name.

    Raises:
        KeyError: there is none.
        FileError: it belongs to a library that is not installed, or not in a version that has it.
    """
    found = functions_by_name()[name]
    if not isinstance(found, Library):
        return found
    library = name.partition(".")[0]
    try:
        return find_function(name)
    except (ImportError, AttributeError, RuntimeError) as error:
        remedy = f"pip install {library}, in the version that the model comes from"
        raise FileError(f"function {name}", expected=f"an installed {library} that has it", found=f"{error}", remedy=remedy) from error
