"""The digits made hard: several noisy copies of every image."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fxq.demo.digits import Digits, Split, load_digits


@dataclass(frozen=True)
class Noise:
    """What is added to the images.

    Attributes:
        deviation: of normal noise, where the images' own standard deviation is 1.
        train_copies, test_copies: how many noisy copies there are of each image; calibration has one.
    """

    deviation: float = 0.8
    train_copies: int = 2
    test_copies: int = 8
    seed: int = 0


def load_noisy_digits(noise: Noise) -> Digits:
    """The parts of load_digits, each with noise of its own. With 8 copies an image of the test is 0.03 points."""
    digits, generator = load_digits(), torch.Generator().manual_seed(noise.seed)
    parts = ((digits.train, noise.train_copies), (digits.calibration, 1), (digits.test, noise.test_copies))
    return Digits(*(_noisy(part, copies, noise.deviation, generator) for part, copies in parts))


def _noisy(split: Split, copies: int, deviation: float, generator: torch.Generator) -> Split:
    images = split.images.repeat(copies, 1, 1, 1)
    return Split(images + deviation * torch.randn(images.shape, generator=generator), split.labels.repeat(copies))
