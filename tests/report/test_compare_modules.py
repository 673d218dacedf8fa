"""compare for models in which modules were replaced one by one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxq
from fxq.errors import ConfigError, DataError
from fxq.report import Kind
from fxq.report.closeness import closeness


class Branching(nn.Module):
    """A forward that is no graph, with every kind of layer; the second of two calls of a layer changes what it has read."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm, self.mix = nn.Embedding(50, 16), nn.LSTM(16, 16, batch_first=True), nn.Linear(16, 16)
        self.attend, self.rare = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 16)

    def forward(self, words: Tensor) -> Tensor:
        y = self.lstm(self.embed(words))[0]
        for _ in range(2):
            y = F.relu_(self.mix(y)).add_(y)
        if float(y.sum()) < -1e6:
            y = self.rare(y)
        found: Tensor = self.attend(y, y, y)[0]
        return found


def pair() -> tuple[Branching, nn.Module]:
    torch.manual_seed(0)
    model = Branching()  # in training mode: compared as in evaluation
    table = {nn.Embedding: fxq.weight_only_qconfig(4, 8), nn.Linear: fxq.per_row_dynamic_qconfig, nn.LSTM: fxq.default_dynamic_qconfig}
    return model, fxq.quantize_dynamic(model, table)


def test_every_layer_by_itself_and_with_those_before_it() -> None:
    model, int8 = pair()
    batches = [torch.randint(0, 50, (2, 5)) for _ in range(3)]
    found = fxq.compare(model, int8, batches, progress=False)
    kinds = {row.module: row.kind for row in found.rows}
    assert kinds == {"embed": Kind.WEIGHT_ONLY, "lstm": Kind.DYNAMIC, "mix": Kind.DYNAMIC, "attend": Kind.DYNAMIC}
    assert found.rows[0].module == "embed" and found.batches == 3 and model.training
    rows = [model.embed(words).detach() for words in batches]
    alone = closeness([model.lstm(each)[0].detach() for each in rows], [int8.get_submodule("lstm")(each)[0] for each in rows])
    assert found.row("lstm").alone is not None and found.row("lstm").alone.sqnr_db == pytest.approx(alone.sqnr_db, abs=1.0)
    with torch.no_grad():
        exact = closeness([model.eval()(words) for words in batches], [int8(words) for words in batches])
    assert found.output == exact
    weight = found.row("mix").weight
    assert weight is not None and 40 < weight.sqnr_db < 60
    assert found.row("mix").so_far.elements == 3 * 2 * 2 * 5 * 16  # both calls
    assert "MultiheadAttention" in str(found)


def test_what_is_not_the_same_model() -> None:
    model, int8 = pair()
    with pytest.raises(ConfigError, match=r"(?s)embed.*given to fxq\.quantize_dynamic"):
        fxq.compare(nn.Sequential(model), int8, [torch.zeros(1, 2, dtype=torch.long)], progress=False)


def test_batches_that_it_does_not_run_on() -> None:
    model, int8 = pair()
    with pytest.raises(DataError, match="at least one batch"):
        fxq.compare(model, int8, [], progress=False)
    with pytest.raises(DataError, match=r"(?s)batch 1.*inputs that both models run on"):
        fxq.compare(model, int8, [torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2)], progress=False)
