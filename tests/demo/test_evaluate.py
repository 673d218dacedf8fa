from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fxq.demo.digits import Split
from fxq.demo.evaluate import accuracy


class FirstPixel(nn.Module):
    """Answers with the number in the first pixel; in training mode always 0."""

    def forward(self, x: Tensor) -> Tensor:
        answers = x[:, 0, 0, 0].long() * (not self.training)
        return nn.functional.one_hot(answers, 10).float()


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_counts_right_answers(batch_size: int) -> None:
    labels = torch.tensor([1, 2, 3, 4, 5, 6, 7, 8])
    images = labels.float().reshape(8, 1, 1, 1).expand(8, 1, 8, 8).clone()
    images[:3] = 9
    assert accuracy(FirstPixel(), Split(images, labels), batch_size) == 62.5


@pytest.mark.parametrize("training", [True, False])
def test_mode_stays(training: bool) -> None:
    model = FirstPixel().train(training)
    accuracy(model, Split(torch.zeros(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64)))
    assert model.training is training
