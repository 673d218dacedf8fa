"""The same float model through ONNX Runtime and through OpenVINO with NNCF, where they are installed (extra `bench`).

Both are quantized by their own defaults for CPUs, calibrated with the same batches, and then compiled for a number of threads; OpenVINO
for one input shape as well, which is when it is fastest.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Run = Callable[[Tensor], Tensor]

_OPSET = 17


@dataclass(frozen=True)
class Setting:
    """What a model is compiled for.

    Attributes:
        shape: of its input.
    """

    threads: int
    shape: tuple[int, ...]


# compiles a quantized model for a setting
Compile = Callable[[Setting], Run]


@dataclass(frozen=True)
class Peer:
    """A runtime beside fxq.

    Attributes:
        packages: what must be importable.
        quantize: (float model, calibration batches) → its int8 form.
    """

    name: str
    packages: tuple[str, ...]
    quantize: Callable[[nn.Module, Sequence[Tensor]], Compile]

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that are not installed."""
        return tuple(name for name in self.packages if importlib.util.find_spec(name) is None)


class _Reader:
    """Calibration batches as ONNX Runtime reads them."""

    def __init__(self, name: str, batches: Sequence[Tensor]) -> None:
        self._feeds: Iterator[dict[str, Any]] = ({name: batch.numpy()} for batch in batches)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def by_onnxruntime(model: nn.Module, batches: Sequence[Tensor]) -> Compile:
    """QDQ format, u8 activations, s8 weights with a scale per channel."""
    runtime = importlib.import_module("onnxruntime")
    quantized = _quantized_onnx(model, batches)

    def compile_for(setting: Setting) -> Run:
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = setting.threads, 1
        session = runtime.InferenceSession(quantized, options, providers=["CPUExecutionProvider"])
        return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])

    return compile_for


def _quantized_onnx(model: nn.Module, batches: Sequence[Tensor]) -> bytes:
    tools = importlib.import_module("onnxruntime.quantization")
    prepare = importlib.import_module("onnxruntime.quantization.shape_inference").quant_pre_process
    with tempfile.TemporaryDirectory() as folder, quiet():
        exported, prepared, quantized = (str(Path(folder, name)) for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}}}
        torch.onnx.export(model, (batches[0][:1],), exported, dynamo=False, opset_version=_OPSET, **names)
        prepare(exported, prepared)
        tools.quantize_static(
            prepared,
            quantized,
            _Reader("x", batches),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
        )
        return Path(quantized).read_bytes()


def by_openvino(model: nn.Module, batches: Sequence[Tensor]) -> Compile:
    """NNCF's post-training quantization, for latency, with float32 where it stays float."""
    openvino, nncf = importlib.import_module("openvino"), importlib.import_module("nncf")
    data = [image.numpy()[np.newaxis] for batch in batches for image in batch]
    with quiet():
        converted = openvino.convert_model(model, example_input=batches[0][:1])
        quantized = nncf.quantize(converted, nncf.Dataset(data), subset_size=len(data))

    def compile_for(setting: Setting) -> Run:
        fixed = quantized.clone()
        fixed.reshape(list(setting.shape))
        hints = {"INFERENCE_NUM_THREADS": setting.threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.Core().compile_model(fixed, "CPU", hints).create_infer_request()
        return lambda x: torch.from_numpy(request.infer([x.numpy()])[0])

    return compile_for


PEERS = (
    Peer("ONNX Runtime", ("onnx", "onnxruntime"), by_onnxruntime),
    Peer("OpenVINO", ("openvino", "nncf"), by_openvino),
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars, warnings and log of what quantizes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
