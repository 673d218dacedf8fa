"""exp, sigmoid and tanh of their own: how far from the true values, and what of extreme ones."""

from __future__ import annotations

import torch

from fxq.runtime.dynamic import curves

X = torch.cat([torch.linspace(-100, 100, 400_001), torch.linspace(-1e-3, 1e-3, 1001)])
ULP = 2.0**-23


def test_exp() -> None:
    inside = X[X.abs() <= curves.LARGEST]
    error = (curves.exp(inside).double() / inside.double().exp() - 1).abs().max()
    assert float(error) <= 2 * ULP


def test_sigmoid_and_tanh() -> None:
    assert float((curves.sigmoid(X).double() - X.double().sigmoid()).abs().max()) <= ULP
    assert float((curves.tanh(X).double() - X.double().tanh()).abs().max()) <= 2 * ULP


def test_extremes() -> None:
    x = torch.tensor([-torch.inf, 0.0, torch.inf, torch.nan])
    assert torch.equal(curves.tanh(x)[:3], torch.tensor([-1.0, 0.0, 1.0]))
    assert torch.equal(curves.sigmoid(x)[1:3], torch.tensor([0.5, 1.0])) and float(curves.sigmoid(x)[0]) < 1e-37
    assert all(bool(f(x)[3].isnan()) for f in (curves.exp, curves.sigmoid, curves.tanh))
