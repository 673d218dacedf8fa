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
    ("einsum", torch.einsum): (
        called(lambda x, y: torch.einsum("bhqd, bhkd -> bhqk", x, y), "einsum((x, y), equation='bhqd,bhkd->bhqk')", second=True),
        called(lambda x, a: torch.einsum("...i,ij", x, a), "einsum((x, @m.a[8, 5]), equation='XYZi,ij->XYZj')", constants=((8, 5),)),
        called(lambda x, y: torch.einsum("...ij,...jk->i...k", [x, y]), "einsum((x, y), equation='YZij,YZjk->iYZk')", second=True),
        called(lambda x: torch.einsum("bchw->bhwc", x), "einsum((x,), equation='bchw->bhwc')"),
    ),
}
