"""How often a network is right."""

from __future__ import annotations

import torch
from torch import nn

from fxq.demo.digits import Split


@torch.no_grad()
def accuracy(model: nn.Module, split: Split, batch_size: int = 128) -> float:
    """Images whose largest output is their label, in percent (0..100).

    Args:
        model: f32 [N, 1, 8, 8] → f32 [N, 10]; evaluated in eval mode and given back in the mode it came in.
    """
    was_training = model.training
    model.eval()
    right = sum(int((model(batch.images).argmax(1) == batch.labels).sum()) for batch in split.batches(batch_size))
    model.train(was_training)
    return 100.0 * right / len(split)
