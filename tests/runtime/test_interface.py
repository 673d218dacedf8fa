"""QTensors at the border of a model."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from fxq.errors import DataError
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.runtime.interface import QTensorEntry, QTensorExit
from fxq.runtime.qtensor import QTensor

QPARAMS = QParams.per_tensor(0.5, 3)
INTEGERS = torch.arange(6, dtype=torch.uint8).reshape(2, 3)


def test_entry_and_exit_are_inverse_and_copy_nothing() -> None:
    q = QTensor(INTEGERS, QPARAMS)
    entered = QTensorEntry("x", QPARAMS)(q)
    assert entered is INTEGERS
    left = QTensorExit("y", QPARAMS)(entered)
    assert left.equal(q) and left.int_repr() is INTEGERS


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (torch.zeros(2), "a tensor of torch.float32"),
        (INTEGERS, "a tensor of torch.uint8"),
        (3, "int"),
        (QTensor(INTEGERS, QParams.per_tensor(0.5, 4)), "zero point 4"),
        (QTensor(INTEGERS, QParams.per_tensor(0.25, 3)), "scale 0.25"),
        (QTensor(INTEGERS.to(torch.int8), QParams.per_tensor(0.5, 3, QuantSpec("int8", -128, 127))), "int8 -128..127"),
        (QTensor(INTEGERS, QParams(QuantSpec(axis=1), torch.full((3,), 0.5), torch.full((3,), 3, dtype=torch.int32))), "per channel 1"),
    ],
    ids=["floats", "integers", "no tensor", "zero point", "scale", "dtype", "per channel"],
)
def test_other_data_is_an_error_that_says_what_to_pass(given: object, found: str) -> None:
    with pytest.raises(DataError) as caught:
        QTensorEntry("x", QPARAMS)(given)
    error = caught.value
    assert error.where == "input x" and found in error.found
    assert error.expected == "a QTensor, uint8 0..255 affine per tensor, scale 0.5, zero point 3"
    assert error.remedy == "pass fxq.QTensor.from_float(x, model.x_entry.qparams)"


@pytest.mark.parametrize("kind", [QTensorEntry, QTensorExit])
def test_copies_files_and_casts_keep_the_qparams(kind: type[QTensorEntry] | type[QTensorExit]) -> None:
    module = kind("x", QPARAMS)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    assert torch.load(file, weights_only=False).qparams == QPARAMS
    assert copy.deepcopy(module).half().double().qparams == QPARAMS
    other = kind("x", QParams.per_tensor(1.0, 0))
    other.load_state_dict(module.state_dict())
    assert other.qparams == QPARAMS
