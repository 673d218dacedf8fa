"""scikit-learn's 1,797 images of digits, as tensors in three fixed parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.errors import FxqError

CLASSES = 10
TEST_SIZE = 400
CALIBRATION_SIZE = 128

# mean and standard deviation of all pixels, which are 0..16 in the data set
_MEAN, _STD = 4.884, 6.017
_SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images.

    Attributes:
        images: f32 [N, 1, 8, 8], mean 0 and standard deviation 1 over the whole data set (background −0.81, ink up to 1.85).
        labels: i64 [N], 0..9.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Split:
        """The images at these positions (i64 [M]), in their order."""
        return Split(self.images[indices], self.labels[indices])

    def batches(self, size: int) -> tuple[Split, ...]:
        """Consecutive batches of `size` images; the last one may be smaller."""
        pairs = zip(torch.split(self.images, size), torch.split(self.labels, size), strict=True)
        return tuple(Split(images, labels) for images, labels in pairs)


@dataclass(frozen=True, eq=False)
class Digits:
    """Three parts without a common image: 1,269 to train, 128 to calibrate, 400 to test."""

    train: Split
    calibration: Split
    test: Split


def load_digits() -> Digits:
    """The data set, always split in the same way. Raises FxqError where scikit-learn is not installed."""
    everything = _read()
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    order = torch.randperm(len(everything), generator=generator)
    sizes = [len(everything) - CALIBRATION_SIZE - TEST_SIZE, CALIBRATION_SIZE, TEST_SIZE]
    train, calibration, test = (everything.take(part) for part in torch.split(order, sizes))
    return Digits(train, calibration, test)


def _read() -> Split:
    try:
        from sklearn import datasets
    except ImportError:
        raise FxqError(
            "fxq.demo",
            expected="scikit-learn, which brings the images of digits",
            found="no module named sklearn",
            remedy="pip install 'fxq[demo]'",
        ) from None
    bunch = datasets.load_digits()
    pixels = torch.from_numpy(bunch.images).to(torch.float32)
    return Split(((pixels - _MEAN) / _STD).unsqueeze(1), torch.from_numpy(bunch.target).to(torch.int64))
