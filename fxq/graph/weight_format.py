"""WeightFormat: how weights of few bits are stored that meet float32 values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from fxq.errors import ConfigError

Bits = Literal[4, 8, 16]

# of a weight, by the dtype that it is stored in: two of 4 bits share a byte
BITS: Mapping[torch.dtype, Bits] = {torch.uint8: 4, torch.int8: 8, torch.float16: 16}


@dataclass(frozen=True)
class WeightFormat:
    """How weights are stored.

    Attributes:
        bits: 4 or 8 of integers, 16 of float16.
        group: inputs that share a scale: a multiple of 8, or 0 for all of a row. float16 has no groups.
        symmetric: w' = s·q; else w' = s·(q − z), from the least weight of a group to its largest.

    Raises:
        ConfigError: there is no such format.
    """

    bits: Bits
    group: int = 0
    symmetric: bool = False

    def __post_init__(self) -> None:
        if self.bits not in (4, 8, 16):
            raise ConfigError("bits", expected="4, 8, or 16 for float16", found=repr(self.bits), remedy="4 bits are the smallest")
        if self.group < 0 or self.group % 8:
            raise ConfigError(
                "group_size", expected="a multiple of 8, or 0 for a whole row", found=repr(self.group), remedy="32, 64 and 128 are usual"
            )

    def groups(self, features: int) -> int:
        """Of a row."""
        return -(-features // (self.group or max(features, 1)))

    def __str__(self) -> str:
        if self.bits == 16:
            return "float16"
        return f"{self.bits}-bit {'symmetric' if self.symmetric else 'affine'} {f'in groups of {self.group}' if self.group else 'per row'}"
