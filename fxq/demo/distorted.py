"""The digits made hard: several distorted copies of every image, on a finer grid, with noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.demo.digits import Digits, Split, load_digits


@dataclass(frozen=True)
class Distortion:
    """How images are distorted; each is drawn uniformly, for each copy of each image.

    Attributes:
        size: pixels of height and width of the grid that the 8×8 images are drawn on, by linear interpolation.
        rotation: radians, to either side.
        zoom: in powers of 2, in and out, by its own factor in each direction.
        shear: pixels of width per pixel of height, to either side.
        shift: of half the width and height, to either side.
        noise: standard deviation of normal noise, where that of the undistorted images is 1.
        train_copies, calibration_copies, test_copies: how many distorted copies there are of each image.
    """

    size: int = 16
    rotation: float = 0.5
    zoom: float = 0.5
    shear: float = 0.25
    shift: float = 0.25
    noise: float = 0.3
    train_copies: int = 8
    calibration_copies: int = 2
    test_copies: int = 10
    seed: int = 0


def load_distorted_digits(distortion: Distortion) -> Digits:
    """The parts of load_digits, each distorted by itself. With 10 copies an image of the test is 0.025 points."""
    digits, generator = load_digits(), torch.Generator().manual_seed(distortion.seed)
    copies = (distortion.train_copies, distortion.calibration_copies, distortion.test_copies)
    parts = zip((digits.train, digits.calibration, digits.test), copies, strict=True)
    return Digits(*(_distorted(part, count, distortion, generator) for part, count in parts))


def _distorted(split: Split, copies: int, distortion: Distortion, generator: torch.Generator) -> Split:
    """Split of f32 [copies · N, 1, size, size]; what comes in at a border is background."""
    images, labels = split.images.repeat(copies, 1, 1, 1), split.labels.repeat(copies)
    grid = F.affine_grid(_maps(len(images), distortion, generator), [len(images), 1, distortion.size, distortion.size], align_corners=False)
    background = images.amin()
    drawn = F.grid_sample(images - background, grid, align_corners=False) + background
    return Split(drawn + distortion.noise * torch.randn(drawn.shape, generator=generator), labels)


def _maps(count: int, distortion: Distortion, generator: torch.Generator) -> Tensor:
    """f32 [count, 2, 3]: a pixel of the new image (−1..1 in both directions, and 1) → where it lies in the old one."""
    drawn = 2 * torch.rand(6, count, generator=generator) - 1
    angle, shear = distortion.rotation * drawn[0], distortion.shear * drawn[1]
    zoom_x, zoom_y = torch.exp2(distortion.zoom * drawn[2:4])
    shift_x, shift_y = distortion.shift * drawn[4:6]
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = (torch.stack((zoom_x * cos, shear - sin, shift_x)), torch.stack((sin, zoom_y * cos, shift_y)))
    return torch.stack(rows).permute(2, 0, 1)
