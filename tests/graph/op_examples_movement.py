"""Examples of ops that move elements. See op_example.py."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxq.graph.opdef import Attribute, Library
from tests.graph.op_example import D1, D2, D3, Example, Examples, called, made


def _joins(function: Callable[..., Any]) -> tuple[Example, ...]:
    return (
        called(lambda x, y: function([x, y], 1), "cat((x, y), dim=1)", second=True),
        called(lambda x, y: function((x, y, x)), "cat((x, y, x))", second=True),
        called(lambda x, a: function(tensors=(x, a), dim=-1), "cat((x, @m.a[2, 3, 8, 1]), dim=-1)", constants=((2, 3, 8, 1),)),
    )


def _pads(constant: type[nn.Module], size: int, shape: tuple[int, ...]) -> Example:
    pads = tuple(range(1, 2 * size + 1))
    return made(constant, pads, 1.5, graph=f"pad(x, pad={pads}, value=1.5)", shape=shape)


def _padded(kind: type[nn.Module], rank: int, tail: str) -> tuple[Example, ...]:
    shape = (D1, D2, D3)[rank - 1]
    pads = (1, 2, 1, 0, 2, 1)[: 2 * rank]
    return (
        made(kind, pads, graph=f"pad(x, pad={pads}{tail})", shape=shape),
        made(kind, 1, graph=f"pad(x, pad={(1,) * (2 * rank)}{tail})", shape=shape),
    )


def stochastic_depth(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    """torchvision's function as far as tracing sees it: its name, its arguments, and that it is not looked into."""
    return torch.dropout(input, p, training)


stochastic_depth.__module__ = "torchvision.ops.stochastic_depth"
torch.fx.wrap("stochastic_depth")


def _halves(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 2)
    return first * second


def _overwritten(x: Tensor) -> Tensor:
    y = x * 2
    y[..., 1] = x[..., 0]
    return y


def _cleared(x: Tensor) -> Tensor:
    y = x * 2
    y[y > 0] = 0
    return y


def _zeroed(x: Tensor) -> Tensor:
    y = x * 2
    y[0].zero_()
    return y


_MASK = ("call _operator.gt(x, 0)",)
_CHOSEN = ("getitem(x, index=(0, 0, 0, slice(None, 2, None)))", "method sign(getitem)", "method long(sign)", "abs(long)")

_SLICED = ("getitem(x, index=slice(None, 1, None))",)

MOVEMENT: Examples = {
    ("cat", torch.cat): _joins(torch.cat),
    ("cat", torch.concat): _joins(torch.concat),
    ("cat", torch.concatenate): _joins(torch.concatenate),
    ("pad", F.pad): (
        called(lambda x: F.pad(x, (1, 2, 1, 0)), "pad(x, pad=(1, 2, 1, 0))"),
        called(lambda x: F.pad(x, [1, 2], "constant", 3.0), "pad(x, pad=(1, 2), value=3.0)"),
        called(lambda x: F.pad(x, pad=(1, 1, 2, 2), mode="reflect"), "pad(x, pad=(1, 1, 2, 2), mode='reflect')"),
        called(lambda x: F.pad(x, (-1, 2)), "pad(x, pad=(-1, 2))"),
    ),
    ("pad", nn.ConstantPad1d): (_pads(nn.ConstantPad1d, 1, D1),),
    ("pad", nn.ConstantPad2d): (_pads(nn.ConstantPad2d, 2, D2),),
    ("pad", nn.ConstantPad3d): (_pads(nn.ConstantPad3d, 3, D3),),
    ("pad", nn.ZeroPad1d): _padded(nn.ZeroPad1d, 1, ", value=0.0"),
    ("pad", nn.ZeroPad2d): _padded(nn.ZeroPad2d, 2, ", value=0.0"),
    ("pad", nn.ZeroPad3d): _padded(nn.ZeroPad3d, 3, ", value=0.0"),
    ("pad", nn.ReflectionPad1d): _padded(nn.ReflectionPad1d, 1, ", mode='reflect'"),
    ("pad", nn.ReflectionPad2d): _padded(nn.ReflectionPad2d, 2, ", mode='reflect'"),
    ("pad", nn.ReflectionPad3d): _padded(nn.ReflectionPad3d, 3, ", mode='reflect'"),
    ("pad", nn.ReplicationPad1d): _padded(nn.ReplicationPad1d, 1, ", mode='replicate'"),
    ("pad", nn.ReplicationPad2d): _padded(nn.ReplicationPad2d, 2, ", mode='replicate'"),
    ("pad", nn.ReplicationPad3d): _padded(nn.ReplicationPad3d, 3, ", mode='replicate'"),
    ("pad", nn.CircularPad1d): _padded(nn.CircularPad1d, 1, ", mode='circular'"),
    ("pad", nn.CircularPad2d): _padded(nn.CircularPad2d, 2, ", mode='circular'"),
    ("pad", nn.CircularPad3d): _padded(nn.CircularPad3d, 3, ", mode='circular'"),
    ("flatten", nn.Flatten): (made(nn.Flatten, graph="flatten(x, start_dim=1)"), made(nn.Flatten, 2, -1, graph="flatten(x, start_dim=2)")),
    ("flatten", torch.flatten): (
        called(lambda x: torch.flatten(x), "flatten(x)"),
        called(lambda x: torch.flatten(x, 1, end_dim=2), "flatten(x, start_dim=1, end_dim=2)"),
    ),
    ("flatten", "flatten"): (called(lambda x: x.flatten(1), "flatten(x, start_dim=1)"),),
    ("reshape", torch.reshape): (
        called(lambda x: torch.reshape(x, (2, -1)), "reshape(x, shape=(2, -1))"),
        called(lambda x: torch.reshape(x, shape=[6, 64]), "reshape(x, shape=(6, 64))"),
        called(lambda x: torch.reshape(x, (x.size(0), -1)), "size(x, dim=0)", "reshape(x, shape=(size, -1))"),
    ),
    ("reshape", "reshape"): (
        called(lambda x: x.reshape(2, -1), "reshape(x, shape=(2, -1))"),
        called(lambda x: x.reshape((2, -1)), "reshape(x, shape=(2, -1))"),
        called(lambda x: x.reshape(shape=(2, -1)), "reshape(x, shape=(2, -1))"),
        called(lambda x: x.reshape(-1), "reshape(x, shape=(-1,))"),
        called(lambda x, y: x.reshape(y.shape), "size(y)", "reshape(x, shape=getattr_1)", second=True),
        called(lambda x: x.reshape(x.shape[0], -1), "size(x)", "call _operator.getitem(getattr_1, 0)", "reshape(x, shape=(getitem, -1))"),
    ),
    ("reshape", "view"): (
        called(lambda x: x.view(2, -1), "reshape(x, shape=(2, -1))"),
        called(lambda x: x.view([6, 64]), "reshape(x, shape=(6, 64))"),
        called(lambda x: x.view(x.size(0), 3, 64), "size(x, dim=0)", "reshape(x, shape=(size, 3, 64))"),
        called(lambda x: x.view(-1), "reshape(x, shape=(-1,))"),
        called(lambda x, y: x.view(y.size()), "size(y)", "reshape(x, shape=size)", second=True),
        called(lambda x: x.view(x.numel()), "numel(x)", "reshape(x, shape=numel)"),
    ),
    ("permute", torch.permute): (
        called(lambda x: torch.permute(x, (0, 2, 3, 1)), "permute(x, dims=(0, 2, 3, 1))"),
        called(lambda x: torch.permute(x, dims=[0, 2, 3, 1]), "permute(x, dims=(0, 2, 3, 1))"),
    ),
    ("permute", "permute"): (
        called(lambda x: x.permute(0, 2, 3, 1), "permute(x, dims=(0, 2, 3, 1))"),
        called(lambda x: x.permute((0, 2, 3, 1)), "permute(x, dims=(0, 2, 3, 1))"),
        called(lambda x: x.permute(dims=(0, 2, 3, 1)), "permute(x, dims=(0, 2, 3, 1))"),
    ),
    ("transpose", torch.transpose): (
        called(lambda x: torch.transpose(x, 1, -1), "transpose(x, dim0=1, dim1=-1)"),
        called(lambda x: torch.transpose(x, dim0=0, dim1=1), "transpose(x, dim0=0, dim1=1)"),
    ),
    ("transpose", torch.swapdims): (
        called(lambda x: torch.swapdims(x, 1, -1), "transpose(x, dim0=1, dim1=-1)"),
        called(lambda x: torch.swapdims(x, dim0=0, dim1=1), "transpose(x, dim0=0, dim1=1)"),
    ),
    ("transpose", "swapdims"): (called(lambda x: x.swapdims(-1, -2), "transpose(x, dim0=-1, dim1=-2)"),),
    ("transpose", torch.swapaxes): (
        called(lambda x: torch.swapaxes(x, 1, -1), "transpose(x, dim0=1, dim1=-1)"),
        called(lambda x: torch.swapaxes(x, axis0=0, axis1=1), "transpose(x, dim0=0, dim1=1)"),
    ),
    ("transpose", "swapaxes"): (called(lambda x: x.swapaxes(-1, -2), "transpose(x, dim0=-1, dim1=-2)"),),
    ("transpose", "transpose"): (called(lambda x: x.transpose(-1, -2), "transpose(x, dim0=-1, dim1=-2)"),),
    ("squeeze", torch.squeeze): (
        called(lambda x: torch.squeeze(x), "squeeze(x)", shape=(1, 3, 1)),
        called(lambda x: torch.squeeze(x, dim=2), "squeeze(x, dim=2)", shape=(1, 3, 1)),
        called(lambda x: torch.squeeze(x, (0, 2)), "squeeze(x, dim=(0, 2))", shape=(1, 3, 1)),
    ),
    ("squeeze", "squeeze"): (
        called(lambda x: x.squeeze(), "squeeze(x)", shape=(1, 3, 1)),
        called(lambda x: x.squeeze(-1), "squeeze(x, dim=-1)", shape=(1, 3, 1)),
    ),
    ("unsqueeze", torch.unsqueeze): (called(lambda x: torch.unsqueeze(x, 1), "unsqueeze(x, dim=1)"),),
    ("unsqueeze", "unsqueeze"): (called(lambda x: x.unsqueeze(dim=-1), "unsqueeze(x, dim=-1)"),),
    ("contiguous", "contiguous"): (
        called(lambda x: x.transpose(1, 2).contiguous(), "transpose(x, dim0=1, dim1=2)", "contiguous(transpose)"),
    ),
    ("getitem", operator.getitem): (
        called(lambda x: x[:, 1], "getitem(x, index=(slice(None, None, None), 1))"),
        called(lambda x: x[..., 1:7:2, None], "getitem(x, index=(Ellipsis, slice(1, 7, 2), None))"),
        called(lambda x: x[0], "getitem(x, index=0)"),
    ),
    ("identity", nn.Identity): (made(nn.Identity, graph="identity(x)"), made(nn.Identity, 54, unused=True, graph="identity(x)")),
    ("dropout", nn.Dropout): (
        made(nn.Dropout, graph="dropout(x, training=False)"),
        made(nn.Dropout, 0.2, True, graph="dropout(x, p=0.2, training=False)"),
    ),
    ("dropout", nn.Dropout1d): (made(nn.Dropout1d, graph="dropout(x, training=False)", shape=D1),),
    ("dropout", nn.Dropout2d): (made(nn.Dropout2d, 0.2, graph="dropout(x, p=0.2, training=False)"),),
    ("dropout", nn.Dropout3d): (made(nn.Dropout3d, graph="dropout(x, training=False)", shape=D3),),
    ("dropout", F.dropout): (
        called(lambda x: F.dropout(x, 0.1, False), "dropout(x, p=0.1, training=False)"),
        called(lambda x: F.dropout(x, training=False), "dropout(x, training=False)"),
    ),
    ("expand", torch.broadcast_to): (
        called(lambda x: torch.broadcast_to(x[:1], (2, 3, 8, 8)), *_SLICED, "expand(getitem, sizes=(2, 3, 8, 8))"),
        called(lambda x: torch.broadcast_to(x[:1], size=x.shape), *_SLICED, "size(x)", "expand(getitem, sizes=getattr_1)"),
    ),
    ("expand", "broadcast_to"): (called(lambda x: x[:1].broadcast_to((2, 3, 8, 8)), *_SLICED, "expand(getitem, sizes=(2, 3, 8, 8))"),),
    ("unfold", "unfold"): (called(lambda x: x.unfold(2, 4, step=2), "unfold(x, dimension=2, size=4, step=2)"),),
    ("size", "size"): (
        called(lambda x: x.size(), "size(x)"),
        called(lambda x: x.size(1), "size(x, dim=1)"),
        called(lambda x: x.size(dim=-1), "size(x, dim=-1)"),
    ),
    ("size", Attribute("shape")): (called(lambda x: x.shape, "size(x)"),),
    ("numel", "numel"): (called(lambda x: x.numel(), "numel(x)"),),
    ("numel", "nelement"): (called(lambda x: x.nelement(), "numel(x)"),),
    ("numel", torch.numel): (called(lambda x: torch.numel(x), "numel(x)"),),
    ("device", Attribute("device")): (
        called(lambda x: torch.ones(1, device=x.device), "device(x)", "call torch.ones(1, device=getattr_1)"),
    ),
    ("dim", "dim"): (called(lambda x: x.dim(), "dim(x)"),),
    ("dim", "ndimension"): (called(lambda x: x.ndimension(), "dim(x)"),),
    ("dim", Attribute("ndim")): (called(lambda x: x.ndim, "dim(x)"),),
    ("dropout", Library("torchvision.ops.stochastic_depth.stochastic_depth")): (
        called(lambda x: stochastic_depth(x, 0.2, "row", False), "dropout(x, p=0.2, training=False)"),
        called(lambda x: stochastic_depth(x, p=0.2, mode="batch", training=False), "dropout(x, p=0.2, training=False)"),
    ),
    ("stack", torch.stack): (
        called(lambda x, y: torch.stack([x, y], 1), "stack((x, y), dim=1)", second=True),
        called(lambda x, y: torch.stack((x, y, x)), "stack((x, y, x))", second=True),
        called(lambda x, a: torch.stack(tensors=(x, a), dim=-1), "stack((x, @m.a[2, 3, 8, 8]), dim=-1)", constants=((2, 3, 8, 8),)),
    ),
    ("chunk", torch.chunk): (
        called(lambda x: torch.chunk(x, 2, 2)[1], "chunk(x, chunks=2, dim=2, item=1)"),
        called(lambda x: torch.chunk(x, chunks=2, dim=1)[-1], "chunk(x, chunks=2, dim=1, item=-1)"),
    ),
    ("chunk", "chunk"): (
        called(lambda x: x.chunk(2)[0], "chunk(x, chunks=2)"),
        called(_halves, "chunk(x, chunks=2, dim=2)", "chunk(x, chunks=2, dim=2, item=1)", "mul(getitem, getitem_1)"),
    ),
    ("split", torch.split): (
        called(lambda x: torch.split(x, 3, dim=3)[2], "split(x, split_size=3, dim=3, item=2)"),
        called(lambda x: torch.split(x, [1, 2], 1)[1], "split(x, split_size=(1, 2), dim=1, item=1)"),
        called(lambda x: torch.split(tensor=x, split_size_or_sections=1)[0], "split(x, split_size=1)"),
    ),
    ("split", "split"): (
        called(lambda x: x.split(3, 3)[-1], "split(x, split_size=3, dim=3, item=-1)"),
        called(lambda x: x.split((5, 3), dim=2)[0], "split(x, split_size=(5, 3), dim=2)"),
        called(lambda x: x.split(split_size=1)[1], "split(x, split_size=1, item=1)"),
    ),
    ("tensor_split", torch.tensor_split): (
        called(lambda x: torch.tensor_split(x, 3, dim=3)[0], "tensor_split(x, sections=3, dim=3)"),
        called(lambda x: torch.tensor_split(x, indices=(1, 5), dim=-1)[2], "tensor_split(x, sections=(1, 5), dim=-1, item=2)"),
    ),
    ("tensor_split", "tensor_split"): (called(lambda x: x.tensor_split([1], dim=1)[1], "tensor_split(x, sections=(1,), dim=1, item=1)"),),
    ("narrow", torch.narrow): (called(lambda x: torch.narrow(x, 1, 1, 2), "narrow(x, dim=1, start=1, length=2)"),),
    ("narrow", "narrow"): (
        called(lambda x: x.narrow(dim=-1, start=-3, length=2), "narrow(x, dim=-1, start=-3, length=2)"),
        called(lambda x: x.narrow(0, 0, x.size(0)), "size(x, dim=0)", "narrow(x, dim=0, start=0, length=size)"),
    ),
    ("select", torch.select): (called(lambda x: torch.select(x, 1, 2), "select(x, dim=1, index=2)"),),
    ("select", "select"): (called(lambda x: x.select(dim=-1, index=-1), "select(x, dim=-1, index=-1)"),),
    ("index_select", torch.index_select): (
        called(lambda x: torch.index_select(x, 1, x[0, 0, 0, :2].sign().long().abs()), *_CHOSEN, "index_select(x, dim=1, index=abs_1)"),
    ),
    ("index_select", "index_select"): (
        called(lambda x: x.index_select(index=x[0, 0, 0, :2].sign().long().abs(), dim=1), *_CHOSEN, "index_select(x, dim=1, index=abs_1)"),
    ),
    ("setitem", operator.setitem): (
        called(_overwritten, "mul(x, 2)", "getitem(x, index=(Ellipsis, 0))", "setitem(mul, getitem, index=(Ellipsis, 1))"),
        called(_cleared, "mul(x, 2)", "call _operator.gt(mul, 0)", "setitem(mul, 0, index=gt)"),
    ),
    ("fill", "zero_"): (called(_zeroed, "mul(x, 2)", "getitem(mul, index=0)", "fill(getitem, value=0)", "setitem(mul, zero_, index=0)"),),
    ("fill", "fill_"): (called(lambda x: (x * 2).fill_(0.5), "mul(x, 2)", "fill(mul, value=0.5)"),),
    ("where", torch.where): (
        called(lambda x, y: torch.where(x > y, x, y), "call _operator.gt(x, y)", "where(x, y, condition=gt)", second=True),
        called(lambda x: torch.where(x > 0, 0.0, x), *_MASK, "where(0.0, x, condition=gt)"),
        called(lambda x, a: torch.where(x > 0, input=x, other=a), *_MASK, "where(x, @m.a[8], condition=gt)", constants=((8,),)),
    ),
    ("where", "where"): (called(lambda x, y: x.where(x > 0, y), *_MASK, "where(x, y, condition=gt)", second=True),),
    ("where", torch.masked_fill): (called(lambda x: torch.masked_fill(x, x > 0, 0), *_MASK, "where(0, x, condition=gt)"),),
    ("where", "masked_fill"): (called(lambda x: x.masked_fill(x > 0, value=-1e9), *_MASK, "where(-1000000000.0, x, condition=gt)"),),
    ("where", "masked_fill_"): (
        called(lambda x: x.sin().masked_fill_(x > 0, 0.5), "method sin(x)", *_MASK, "where(0.5, sin, condition=gt)"),
    ),
    ("clone", torch.clone): (called(lambda x: torch.clone(x), "clone(x)"),),
    ("clone", "clone"): (called(lambda x: x.clone(), "clone(x)"),),
    ("movedim", torch.movedim): (called(lambda x: torch.movedim(x, 1, -1), "movedim(x, source=1, destination=-1)"),),
    ("movedim", torch.moveaxis): (called(lambda x: torch.moveaxis(x, (0, 1), (2, 0)), "movedim(x, source=(0, 1), destination=(2, 0))"),),
    ("movedim", "movedim"): (called(lambda x: x.movedim(source=[1], destination=[3]), "movedim(x, source=(1,), destination=(3,))"),),
    ("movedim", "moveaxis"): (called(lambda x: x.moveaxis(0, 1), "movedim(x, source=0, destination=1)"),),
    ("transpose", torch.t): (called(lambda x: torch.t(x), "transpose(x, dim0=0, dim1=1)", shape=(3, 4)),),
    ("transpose", "t"): (called(lambda x: x.t(), "transpose(x, dim0=0, dim1=1)", shape=(3, 4)),),
    ("transpose", Attribute("mT")): (called(lambda x: x.mT, "transpose(x, dim0=-2, dim1=-1)"),),
    ("permute", Attribute("T")): (called(lambda x: x.T, "permute(x, dims=(1, 0))", shape=(3, 4)),),
    ("repeat_interleave", torch.repeat_interleave): (
        called(lambda x: torch.repeat_interleave(x, 2), "repeat_interleave(x, repeats=2)"),
        called(lambda x: torch.repeat_interleave(x, repeats=3, dim=1), "repeat_interleave(x, repeats=3, dim=1)"),
    ),
    ("repeat_interleave", "repeat_interleave"): (called(lambda x: x.repeat_interleave(2, -1), "repeat_interleave(x, repeats=2, dim=-1)"),),
    ("unbind", torch.unbind): (called(lambda x: torch.unbind(x, dim=1)[2], "unbind(x, dim=1, item=2)"),),
    ("unbind", "unbind"): (
        called(lambda x: x.unbind()[0], "unbind(x)"),
        called(lambda x: x.unbind(-1)[-8], "unbind(x, dim=-1, item=-8)"),
    ),
    ("expand", "expand"): (
        called(lambda x: x.expand(5, -1, 4), "expand(x, sizes=(5, -1, 4))", shape=(3, 1)),
        called(lambda x: x.expand((3, 4)), "expand(x, sizes=(3, 4))", shape=(3, 1)),
        called(lambda x: x[:1].expand(x.shape), *_SLICED, "size(x)", "expand(getitem, sizes=getattr_1)"),
    ),
    ("repeat", "repeat"): (
        called(lambda x: x.repeat(2, 1, 1, 3), "repeat(x, repeats=(2, 1, 1, 3))"),
        called(lambda x: x.repeat([2, 1, 1, 1, 1]), "repeat(x, repeats=(2, 1, 1, 1, 1))"),
        called(lambda x: x.repeat(repeats=(1, 2, 1, 1)), "repeat(x, repeats=(1, 2, 1, 1))"),
    ),
    ("roll", torch.roll): (
        called(lambda x: torch.roll(x, 3), "roll(x, shifts=3)"),
        called(lambda x: torch.roll(x, shifts=[1, -2], dims=[1, 2]), "roll(x, shifts=(1, -2), dims=(1, 2))"),
    ),
    ("roll", "roll"): (called(lambda x: x.roll(-1, 2), "roll(x, shifts=-1, dims=2)"),),
    ("flip", torch.flip): (
        called(lambda x: torch.flip(x, [2]), "flip(x, dims=(2,))"),
        called(lambda x: torch.flip(x, dims=(0, -1)), "flip(x, dims=(0, -1))"),
    ),
    ("flip", "flip"): (
        called(lambda x: x.flip(2), "flip(x, dims=(2,))"),
        called(lambda x: x.flip(2, 3), "flip(x, dims=(2, 3))"),
        called(lambda x: x.flip([0]), "flip(x, dims=(0,))"),
        called(lambda x: x.flip(dims=(1,)), "flip(x, dims=(1,))"),
    ),
    ("unflatten", torch.unflatten): (
        called(lambda x: torch.unflatten(x, 2, (2, 4)), "unflatten(x, dim=2, sizes=(2, 4))"),
        called(lambda x: torch.unflatten(x, dim=-1, sizes=[-1, 2]), "unflatten(x, dim=-1, sizes=(-1, 2))"),
    ),
    ("unflatten", "unflatten"): (called(lambda x: x.unflatten(1, (3, 1)), "unflatten(x, dim=1, sizes=(3, 1))"),),
    ("unflatten", nn.Unflatten): (made(nn.Unflatten, 2, (2, 4), graph="unflatten(x, dim=2, sizes=(2, 4))"),),
    ("pixel_shuffle", nn.PixelShuffle): (made(nn.PixelShuffle, 2, graph="pixel_shuffle(x, upscale_factor=2)", shape=(2, 8, 3, 5)),),
    ("pixel_shuffle", F.pixel_shuffle): (
        called(lambda x: F.pixel_shuffle(x, 2), "pixel_shuffle(x, upscale_factor=2)", shape=(2, 8, 3, 5)),
        called(lambda x: F.pixel_shuffle(x, upscale_factor=3), "pixel_shuffle(x, upscale_factor=3)", shape=(9, 2, 2)),
    ),
    ("pixel_unshuffle", nn.PixelUnshuffle): (made(nn.PixelUnshuffle, 2, graph="pixel_unshuffle(x, downscale_factor=2)"),),
    ("pixel_unshuffle", F.pixel_unshuffle): (called(lambda x: F.pixel_unshuffle(x, 4), "pixel_unshuffle(x, downscale_factor=4)"),),
    ("channel_shuffle", nn.ChannelShuffle): (made(nn.ChannelShuffle, 2, graph="channel_shuffle(x, groups=2)", shape=(2, 6, 3, 3)),),
    ("channel_shuffle", F.channel_shuffle): (
        called(lambda x: F.channel_shuffle(x, 3), "channel_shuffle(x, groups=3)", shape=(2, 6, 3, 3)),
    ),
}
