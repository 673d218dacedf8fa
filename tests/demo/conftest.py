from __future__ import annotations

import pytest

from fxq.demo.compare import Compared, compare
from fxq.demo.digits import load_digits
from fxq.demo.models import ResNetDigits
from fxq.demo.train import Recipe, train


@pytest.fixture(scope="session")
def compared() -> Compared:
    """ResNetDigits after a short training."""
    digits = load_digits()
    return compare("ResNetDigits", train(ResNetDigits, digits, Recipe(epochs=3)).model, digits, runs=1)
