"""CELLS: what one step of a recurrent layer does with its gates, in float32 operations whose order is part of the definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.runtime.dynamic.curves import sigmoid, tanh

States = tuple[Tensor, ...]


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent layer.

    Attributes:
        name: of torch's module, with the nonlinearity of an RNN behind it.
        gates: how many blocks of hidden_size rows its weights have.
        states: hidden state, and cell state where there is one.
        step: (what the input adds to the gates, what the hidden state adds, the states) → the new states; the first is the output.
    """

    name: str
    gates: int
    states: int
    step: Callable[[Tensor, Tensor, States], States]


def lstm_step(x: Tensor, h: Tensor, states: States) -> States:
    """c' = f·c + i·g, h' = o·tanh(c'); gates i, f, g, o."""
    i, f, g, o = (x + h).chunk(4, 1)
    c = sigmoid(f) * states[1] + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def gru_step(x: Tensor, h: Tensor, states: States) -> States:
    """h' = n + z·(h − n), n = tanh(x_n + r·h_n); gates r, z, n."""
    x_r, x_z, x_n = x.chunk(3, 1)
    h_r, h_z, h_n = h.chunk(3, 1)
    n = tanh(x_n + sigmoid(x_r + h_r) * h_n)
    return (n + sigmoid(x_z + h_z) * (states[0] - n),)


def tanh_step(x: Tensor, h: Tensor, states: States) -> States:
    """h' = tanh(x + h)"""
    return (tanh(x + h),)


def relu_step(x: Tensor, h: Tensor, states: States) -> States:
    """h' = max(x + h, 0)"""
    return (torch.relu(x + h),)


CELLS: Mapping[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("LSTM", 4, 2, lstm_step),
        Cell("GRU", 3, 1, gru_step),
        Cell("RNN_TANH", 1, 1, tanh_step),
        Cell("RNN_RELU", 1, 1, relu_step),
    )
}
