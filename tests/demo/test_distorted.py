from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fxq.demo.digits import load_digits
from fxq.demo.distorted import Distortion, load_distorted_digits

STILL = Distortion(size=8, rotation=0.0, zoom=0.0, shear=0.0, shift=0.0, noise=0.0, train_copies=1, calibration_copies=1, test_copies=1)


def test_without_distortion_they_are_the_digits() -> None:
    found, digits = load_distorted_digits(STILL), load_digits()
    for part in ("train", "calibration", "test"):
        torch.testing.assert_close(getattr(found, part).images, getattr(digits, part).images, rtol=0, atol=1e-5)
        assert torch.equal(getattr(found, part).labels, getattr(digits, part).labels)


def test_same_for_a_seed_and_of_the_promised_size() -> None:
    first, second = (load_distorted_digits(Distortion(train_copies=1, calibration_copies=3, test_copies=2, seed=3)) for _ in range(2))
    assert torch.equal(first.test.images, second.test.images)
    assert (len(first.train), len(first.calibration), len(first.test)) == (1269, 384, 800)
    assert first.test.images.shape == (800, 1, 16, 16)
    assert not torch.equal(first.test.images[:400], first.test.images[400:])
    assert torch.equal(first.test.labels[:400], first.test.labels[400:])


@pytest.mark.parametrize("kind", ["rotation", "zoom", "shear", "shift", "noise"])
def test_every_kind_moves_every_image_by_its_own_amount(kind: str) -> None:
    still, moved = (load_distorted_digits(each).test.images for each in (STILL, replace(STILL, **{kind: 0.4})))  # type: ignore[arg-type]
    change = (moved - still).abs().mean((1, 2, 3))
    assert bool((change > 0).all())
    assert len(change.unique()) == len(change)


def test_what_comes_in_is_background() -> None:
    images = load_distorted_digits(replace(STILL, zoom=1.0, shift=1.0)).test.images
    background = load_digits().test.images.amin()
    assert float(images.amin()) == pytest.approx(float(background), abs=1e-5)
