"""Examples of products of matrices. See op_example.py."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.graph.op_example import Example, Examples, called, made


def _product(target: Callable[..., Any]) -> tuple[Example, ...]:
    return (
        called(lambda x, y: target(x, y), "matmul(x, y)", second=True),
        called(lambda x, y: target(x, y), "matmul(x, y)", shape=(4, 4), second=True),
    )


def _added_product(target: Callable[..., Any], shape: tuple[int, ...]) -> tuple[Example, ...]:
    return (
        called(lambda x, y: target(x, y, x), "addmm(x, (y, x))", shape=shape, second=True),
        called(lambda x, a: target(a, x, x), "addmm(@m.a[4], (x, x))", shape=shape, constants=((4,),)),
        called(lambda x: target(x, x, x, beta=0.5, alpha=2), "addmm(x, (x, x), beta=0.5, alpha=2)", shape=shape),
    )


PRODUCTS: Examples = {
    ("matmul", torch.matmul): (
        *_product(torch.matmul),
        called(lambda x, a: torch.matmul(x, a), "matmul(x, @m.a[8, 5])", constants=((8, 5),)),
        called(lambda x, a: torch.matmul(input=a, other=x), "matmul(@m.a[8], x)", constants=((8,),)),
    ),
    ("matmul", operator.matmul): _product(operator.matmul),
    ("matmul", "matmul"): _product(lambda x, y: x.matmul(y)),
    ("matmul", torch.bmm): (
        called(lambda x, y: torch.bmm(x, y), "matmul(x, y)", shape=(2, 4, 4), second=True),
        called(lambda x, a: torch.bmm(x, mat2=a), "matmul(x, @m.a[2, 8, 3])", shape=(2, 5, 8), constants=((2, 8, 3),)),
    ),
    ("matmul", torch.mm): (called(lambda x, y: torch.mm(x, y), "matmul(x, y)", shape=(4, 4), second=True),),
    ("matmul", "bmm"): (called(lambda x, y: x.bmm(y), "matmul(x, y)", shape=(2, 4, 4), second=True),),
    ("matmul", "mm"): (called(lambda x, y: x.mm(y), "matmul(x, y)", shape=(4, 4), second=True),),
    ("addmm", torch.addmm): (
        *_added_product(torch.addmm, (4, 4)),
        called(lambda x: torch.addmm(mat2=x, mat1=x, input=x, beta=0), "addmm(x, (x, x), beta=0)", shape=(4, 4)),
    ),
    ("addcmul", torch.addcmul): (
        called(lambda x, a: torch.addcmul(a, x, x, value=2), "addcmul(@m.a[8], (x, x), value=2)", constants=((8,),)),
        called(lambda x, y: torch.addcmul(x, tensor1=x, tensor2=y), "addcmul(x, (x, y))", second=True),
    ),
    ("addcmul", "addcmul"): (called(lambda x, y: x.addcmul(y, x), "addcmul(x, (y, x))", second=True),),
    ("addcmul", "addcmul_"): (called(lambda x, y: (x * 2).addcmul_(y, x), "mul(x, 2)", "addcmul(mul, (y, x))", second=True),),
    ("addmm", "addmm"): (called(lambda x: x.addmm(x, x, alpha=3), "addmm(x, (x, x), alpha=3)", shape=(4, 4)),),
    ("addmm", torch.baddbmm): (
        *_added_product(torch.baddbmm, (3, 4, 4)),
        called(lambda x: torch.baddbmm(x, batch1=x, batch2=x), "addmm(x, (x, x))", shape=(3, 4, 4)),
    ),
    ("addmm", "baddbmm"): (called(lambda x, y: x.baddbmm(y, x), "addmm(x, (y, x))", shape=(3, 4, 4), second=True),),
    ("attention", F.scaled_dot_product_attention): (
        called(lambda x, y: F.scaled_dot_product_attention(x, y, x), "attention(x, y, x)", second=True),
        called(
            lambda x, y: F.scaled_dot_product_attention(x, y, value=x, attn_mask=y, scale=0.5),
            "attention(x, y, x, mask=y, scale=0.5)",
            second=True,
        ),
        called(
            lambda x, y: F.scaled_dot_product_attention(x, y, y, None, 0.0, True, enable_gqa=True),
            "attention(x, y, y, is_causal=True, enable_gqa=True)",
            second=True,
        ),
    ),
    ("glu", nn.GLU): (made(nn.GLU, graph="glu(x)"), made(nn.GLU, 2, graph="glu(x, dim=2)")),
    ("glu", F.glu): (called(lambda x: F.glu(x), "glu(x)"), called(lambda x: F.glu(x, dim=-2), "glu(x, dim=-2)")),
    ("matmul", torch.linalg.matmul): _product(torch.linalg.matmul),
    ("matmul", torch.mv): (
        called(lambda x, a: torch.mv(x, a), "matmul(x, @m.a[4])", shape=(3, 4), constants=((4,),)),
        called(lambda x, a: torch.mv(input=a, vec=x), "matmul(@m.a[3, 4], x)", shape=(4,), constants=((3, 4),)),
    ),
    ("matmul", "mv"): (called(lambda x, a: x.mv(a), "matmul(x, @m.a[4])", shape=(3, 4), constants=((4,),)),),
    ("matmul", torch.dot): (called(lambda x, y: torch.dot(x, tensor=y), "matmul(x, y)", shape=(4,), second=True),),
    ("matmul", "dot"): (called(lambda x, y: x.dot(y), "matmul(x, y)", shape=(4,), second=True),),
    ("addmm", torch.addmv): (
        called(lambda x, a: torch.addmv(a, x, a, beta=0.5), "addmm(@m.a[4], (x, @m.a[4]), beta=0.5)", shape=(4, 4), constants=((4,),)),
    ),
    ("addmm", "addmv"): (called(lambda x, a: a.addmv(x, a), "addmm(@m.a[4], (x, @m.a[4]))", shape=(4, 4), constants=((4,),)),),
    ("bilinear", nn.Bilinear): (
        made(nn.Bilinear, 8, 8, 5, graph="bilinear(x, y, @m.weight[5, 8, 8], @m.bias[5])", second=True),
        made(nn.Bilinear, 8, 8, 5, bias=False, graph="bilinear(x, y, @m.weight[5, 8, 8])", second=True),
    ),
    ("bilinear", F.bilinear): (
        called(lambda x, a: F.bilinear(x, x, weight=a), "bilinear(x, x, @m.a[5, 8, 8])", constants=((5, 8, 8),)),
        called(lambda x, a, b: F.bilinear(x, x, a, b), "bilinear(x, x, @m.a[5, 8, 8], @m.b[5])", constants=((5, 8, 8), (5,))),
    ),
    ("einsum", torch.tensordot): (
        called(lambda x, a: torch.tensordot(x, a, 1), "einsum((x, @m.a[8, 5]), equation='abcd,df->abcf')", constants=((8, 5),)),
        called(lambda x, y: torch.tensordot(x, y), "einsum((x, y), equation='ab,ab->')", shape=(1, 2), second=True),
        called(
            lambda x, a: torch.tensordot(a, x, dims=([1], [3])), "einsum((@m.a[5, 8], x), equation='ab,cdeb->acde')", constants=((5, 8),)
        ),
    ),
    ("einsum", torch.inner): (called(lambda x, y: torch.inner(x, y), "einsum((x, y), equation='abcd,efgd->abcefg')", second=True),),
    ("einsum", "inner"): (called(lambda x, a: x.inner(a), "einsum((x, @m.a[5, 8]), equation='abcd,ed->abce')", constants=((5, 8),)),),
    ("einsum", torch.outer): (called(lambda x, y: torch.outer(x, vec2=y), "einsum((x, y), equation='a,b->ab')", shape=(4,), second=True),),
    ("einsum", "outer"): (called(lambda x, y: x.outer(y), "einsum((x, y), equation='a,b->ab')", shape=(4,), second=True),),
    ("einsum", torch.linalg.vecdot): (
        called(lambda x, y: torch.linalg.vecdot(x, y), "einsum((x, y), equation='XYZi,XYZi->XYZ')", second=True),
    ),
    ("einsum", torch.einsum): (
        called(
            lambda x, y: torch.einsum("...i,...i,...j->...j", x, y, x), "einsum((x, y, x), equation='XYZi,XYZi,XYZj->XYZj')", second=True
        ),
        called(lambda x, y: torch.einsum("bhqd, bhkd -> bhqk", x, y), "einsum((x, y), equation='bhqd,bhkd->bhqk')", second=True),
        called(lambda x, a: torch.einsum("...i,ij", x, a), "einsum((x, @m.a[8, 5]), equation='XYZi,ij->XYZj')", constants=((8, 5),)),
        called(lambda x, y: torch.einsum("...ij,...jk->i...k", [x, y]), "einsum((x, y), equation='YZij,YZjk->iYZk')", second=True),
        called(lambda x: torch.einsum("bchw->bhwc", x), "einsum((x,), equation='bchw->bhwc')"),
    ),
}
