"""A language model of characters, trained on real text: what its perplexity loses."""

from __future__ import annotations

import math
from pydoc_data.topics import topics

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.runtime.dynamic.recurrent import DynamicRNN

LENGTH = 64


class Characters(nn.Module):
    """Predicts the next character."""

    def __init__(self, count: int, recurrent: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embed, self.recurrent, self.out = nn.Embedding(count, 32), recurrent(32, 128, batch_first=True), nn.Linear(128, count)

    def forward(self, text: Tensor) -> Tensor:
        found: Tensor = self.out(self.recurrent(self.embed(text))[0])
        return found


def text() -> Tensor:
    """i64 [characters] of the documentation that Python brings along; rare characters count as one."""
    raw = "".join(topics.values()).encode("ascii", "replace")
    known = {byte: number for number, byte in enumerate(sorted(set(raw)))}
    return torch.tensor([known[byte] for byte in raw])


def loss(model: nn.Module, rows: Tensor) -> Tensor:
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def train(recurrent: type[nn.RNNBase], found: Tensor) -> Characters:
    model = Characters(int(found.max()) + 1, recurrent)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        starts = torch.randint(0, len(found) - LENGTH - 1, (32, 1))
        step = loss(model, found[starts + torch.arange(LENGTH + 1)])
        optimizer.zero_grad()
        step.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def perplexity(model: nn.Module, found: Tensor) -> float:
    return math.exp(loss(model, found[: 100 * (LENGTH + 1)].view(100, LENGTH + 1)))


@pytest.mark.parametrize("recurrent", [nn.LSTM, nn.GRU])
def test_perplexity_stays(recurrent: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    found = text()
    seen, unseen = found[: len(found) * 9 // 10], found[len(found) * 9 // 10 :]
    model = train(recurrent, seen)
    swapped = fxq.quantize_dynamic(model, {nn.Linear, recurrent})
    mapping = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    in_a_graph = fxq.convert_fx(fxq.prepare_fx(model, mapping, (unseen[None, :LENGTH],)))
    exact = perplexity(model, unseen)
    assert exact < 12, "it has learned little"
    for int8 in (swapped, in_a_graph):
        assert isinstance(int8.get_submodule("recurrent"), DynamicRNN)
        assert perplexity(int8, unseen) == pytest.approx(exact, rel=0.01)
