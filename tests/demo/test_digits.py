from __future__ import annotations

import sys

import pytest
import torch

from fxq.demo.digits import CALIBRATION_SIZE, TEST_SIZE, load_digits
from fxq.errors import FxqError


def test_parts_cover_the_data_set_once() -> None:
    from sklearn import datasets

    digits = load_digits()
    assert (len(digits.train), len(digits.calibration), len(digits.test)) == (1797 - CALIBRATION_SIZE - TEST_SIZE, 128, 400)
    parts = (digits.train, digits.calibration, digits.test)
    ours = sorted((int(label), *image.flatten().tolist()) for part in parts for image, label in zip(part.images, part.labels, strict=True))
    bunch = datasets.load_digits()
    pixels = (torch.from_numpy(bunch.data).to(torch.float32) - 4.884) / 6.017
    assert ours == sorted((int(label), *image.tolist()) for image, label in zip(pixels, bunch.target, strict=True))


def test_split_is_fixed() -> None:
    digits = load_digits()
    assert digits.test.labels[:12].tolist() == [5, 5, 6, 0, 6, 0, 3, 4, 0, 6, 0, 3]
    assert torch.equal(digits.test.images, load_digits().test.images)


def test_images_are_standardized() -> None:
    images = torch.cat([part.images for part in (load_digits().train, load_digits().calibration, load_digits().test)])
    assert images.shape == (1797, 1, 8, 8) and images.dtype == torch.float32
    assert abs(images.mean().item()) < 1e-3
    assert abs(images.std().item() - 1) < 1e-3


def test_every_digit_is_in_the_calibration_images() -> None:
    assert load_digits().calibration.labels.unique().tolist() == list(range(10))


def test_batches() -> None:
    test = load_digits().test
    batches = test.batches(150)
    assert [len(batch) for batch in batches] == [150, 150, 100]
    assert torch.equal(torch.cat([batch.labels for batch in batches]), test.labels)
    assert torch.equal(torch.cat([batch.images for batch in batches]), test.images)


def test_missing_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(FxqError) as caught:
        load_digits()
    assert caught.value.remedy == "pip install 'fxq[demo]'"
