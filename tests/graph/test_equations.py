"""Equations of einsum, written out."""

from __future__ import annotations

import pytest
import torch

from fxq.graph.equations import Equation, contraction, parsed, read_equation

CASES = {
    ("ij,jk->ik", (2, 2)): "ij,jk->ik",
    ("b i j , b j k -> b i k", (3, 3)): "bij,bjk->bik",
    ("ij,jk", (2, 2)): "ij,jk->ik",
    ("ba,cb", (2, 2)): "ba,cb->ac",
    ("aB,Bc", (2, 2)): "aB,Bc->ac",
    ("bA,Ac->", (2, 2)): "bA,Ac->",
    ("ij->ji", (2,)): "ij->ji",
    ("ij,jk,...k", (2, 2, 3)): "ij,jk,YZk->YZi",
    ("...ij,...jk->...ik", (4, 3)): "YZij,Zjk->YZik",
    ("...ij,jk", (4, 2)): "YZij,jk->YZik",
    ("i...,...i->...", (3, 1)): "iYZ,i->YZ",
    ("...->...", (0,)): "->",
    ("Z...,...->Z...", (2, 1)): "ZY,Y->ZY",
}


@pytest.mark.parametrize(("given", "expected"), CASES.items(), ids=[text for text, _ in CASES])
def test_is_written_out(given: tuple[str, tuple[int, ...]], expected: str) -> None:
    text, ranks = given
    equation = read_equation(text, ranks)
    assert str(equation) == expected and parsed(expected) == equation
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn([3] * rank, generator=generator) for rank in ranks]
    assert torch.equal(torch.einsum(expected, *tensors), torch.einsum(text, *tensors))


@pytest.mark.parametrize(
    ("ranks", "pairs", "expected"),
    [
        ((3, 2), [(2, 0)], "abc,ce->abe"),
        ((3, 3), [(2, 1), (0, 0)], "abc,acf->bf"),
        ((2, 2), [], "ab,cd->abcd"),
        ((1, 1), [(-1, -1)], "a,a->"),
    ],
)
def test_contraction(ranks: tuple[int, int], pairs: list[tuple[int, int]], expected: str) -> None:
    assert str(contraction(ranks, pairs)) == expected
    a, b = (torch.ones([3] * rank) for rank in ranks)
    assert torch.einsum(expected, a, b).shape == torch.tensordot(a, b, [list(dims) for dims in zip(*pairs, strict=True)] or 0).shape


def test_more_dimensions_than_letters() -> None:
    with pytest.raises(TypeError, match="60 dimensions are more than an equation has letters for"):
        contraction((30, 30), [])


def test_labels_by_operand() -> None:
    assert read_equation("ij,jk", (2, 2)) == Equation(("ij", "jk"), "ik")


@pytest.mark.parametrize(
    ("text", "ranks", "found"),
    [
        ("ii->i", (2,), "'ii->i' takes a diagonal"),
        ("ij,jk", (2,), "'ij,jk' is for 2 operands; there are 1"),
    ],
)
def test_what_is_not_covered(text: str, ranks: tuple[int, ...], found: str) -> None:
    with pytest.raises(TypeError) as caught:
        read_equation(text, ranks)
    assert str(caught.value) == found
