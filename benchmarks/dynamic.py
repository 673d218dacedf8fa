"""`python -m benchmarks.dynamic`: layers that quantize what arrives, beside float32 and the peers, in turns in one process.

fxq has two forms: the graph of `prepare_fx` and `convert_fx`, and `quantize_dynamic`, module by module. The peers are torch.ao,
ONNX Runtime, which reads torch's own export, and OpenVINO with weights in int8 and activations quantized in groups as they arrive.
BERT-base, GPT-2 and LLaMA's form of it are Hugging Face's, with random weights. No time is printed of a result that is far from float32.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

import fxq
from benchmarks.architectures import import_models
from benchmarks.latency import Timing, check, show, times_in_turns
from benchmarks.peers import quiet
from benchmarks.results import write_json

Run = Callable[[Tensor], Tensor]


class Bert(nn.Module):
    """i64 [batch, tokens] → f32 [batch, tokens, 768]"""

    def __init__(self) -> None:
        super().__init__()
        import_models()  # transformers imports torchvision
        from transformers import BertConfig, BertModel

        self.bert = BertModel(BertConfig())

    def forward(self, words: Tensor) -> Tensor:
        found: Tensor = self.bert(input_ids=words).last_hidden_state
        return found


class Recurrent(nn.Module):
    """f32 [steps, batch, 512] → the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(512, 512, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.lstm(x)[0]
        return found


class DecoderStep(nn.Module):
    """i64 [batch, 1] → f32 [batch, 1, words]: a decoder after 128 words whose keys and values it has kept, the same at each call."""

    def __init__(self, decoder: nn.Module, config: Any) -> None:
        super().__init__()
        self.decoder, self.config = decoder, config
        self.cache: Any = None

    def forward(self, word: Tensor) -> Tensor:
        if self.cache is None:
            self.cache = _filled_cache(self.config, len(word))
        found: Tensor = self.decoder(input_ids=word, past_key_values=self.cache, use_cache=True).logits
        self.cache.crop(-1)
        return found


def gpt2() -> DecoderStep:
    """The smallest one, of 12 layers with 768 features."""
    import_models()  # transformers imports torchvision
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config()
    return DecoderStep(GPT2LMHeadModel(config), config)


def llama() -> DecoderStep:
    """Four layers with 1024 features: rotary embeddings, heads that share keys, gated products."""
    import_models()
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "vocab_size": 32000}
    config = LlamaConfig(**sizes, num_attention_heads=16, num_key_value_heads=4)
    return DecoderStep(LlamaForCausalLM(config), config)


def _filled_cache(config: Any, batch: int) -> Any:
    """Random keys and values of 128 words, always the same."""
    from transformers import DynamicCache

    cache, generator = DynamicCache(), torch.Generator().manual_seed(0)
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    sizes = (batch, heads, 128, config.hidden_size // config.num_attention_heads)
    for layer in range(config.num_hidden_layers):
        keys, values = (torch.randn(sizes, generator=generator) for _ in range(2))
        cache.update(keys, values, layer)
    return cache


def by_torch_ao(model: nn.Module) -> nn.Module:
    """int8 by torch.ao's quantize_dynamic."""
    from torch.ao.quantization import quantize_dynamic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: nn.Module = quantize_dynamic(model, {nn.Linear, nn.LSTM}, dtype=torch.qint8)
    return made


def by_onnxruntime(model: nn.Module, example: Tensor, threads: int) -> Run:
    """int8 by ONNX Runtime's quantize_dynamic. Raises ImportError where it is not installed."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        float_file, int8_file = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        torch.onnx.export(model, (example,), str(float_file), dynamo=False, opset_version=17, input_names=["x"])
        quantize_dynamic(float_file, int8_file, weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(int8_file), options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def by_openvino(model: nn.Module, example: Tensor, threads: int) -> Run:
    """int8 weights by NNCF, for this shape; activations in groups of 128, which is faster than OpenVINO's 32. Raises ImportError."""
    nncf, openvino = importlib.import_module("nncf"), importlib.import_module("openvino")
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    with quiet():
        compressed = nncf.compress_weights(openvino.convert_model(model, example_input=example))
        compressed.reshape(list(example.shape))
        compiled = openvino.Core().compile_model(compressed, "CPU", {**hints, "DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"})
    request = compiled.create_infer_request()
    return lambda x: torch.from_numpy(request.infer([x.numpy()])[0])


_DYNAMIC = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)


def by_graph(model: nn.Module, example: Tensor) -> Run:
    """int8 by prepare_fx and convert_fx."""
    return fxq.convert_fx(fxq.prepare_fx(model, _DYNAMIC, (example,)))


def step_by_graph(model: nn.Module, example: Tensor) -> Run:
    """The decoder as one graph, which takes the kept keys and values as an argument."""
    decoder, config = model.get_submodule("decoder"), model.config
    inputs = {"input_ids": example, "past_key_values": _filled_cache(config, len(example)), "use_cache": True}
    return DecoderStep(fxq.convert_fx(fxq.prepare_fx(decoder, _DYNAMIC, inputs)), config)


@dataclass(frozen=True)
class Subject:
    """A model.

    Attributes:
        input: of a length and a batch.
        graph: how it becomes a graph of int8 layers.
        peers: besides torch.ao, by what of _OTHERS it is made int8.
        least: SQNR in dB of a result that counts.
    """

    name: str
    make: Callable[[], nn.Module]
    input: Callable[[int, int], Tensor]
    lengths: tuple[int, ...]
    graph: Callable[[nn.Module, Tensor], Run] = by_graph
    peers: tuple[str, ...] = ()
    least: float = 20.0


_OTHERS = {"onnxruntime": by_onnxruntime, "openvino": by_openvino}
SUBJECTS = (
    Subject("bert_base", Bert, lambda length, batch: torch.randint(0, 30000, (batch, length)), (32, 128), peers=tuple(_OTHERS)),
    Subject("lstm_512x2", Recurrent, lambda length, batch: torch.randn(length, batch, 512), (35,)),
    Subject("gpt2_step", gpt2, lambda length, batch: torch.randint(0, 50000, (batch, length)), (1,), step_by_graph),
    Subject("llama_step", llama, lambda length, batch: torch.randint(0, 32000, (batch, length)), (1,), step_by_graph, least=15.0),
)


def contenders(subject: Subject, model: nn.Module, example: Tensor, threads: int) -> dict[str, Run]:
    """float32, fxq, torch.ao, and the others where they are installed and have a form for the model."""
    found: dict[str, Run] = {"float32": model, "fxq": subject.graph(model, example)}
    found |= {"fxq by modules": fxq.quantize_dynamic(model), "torch.ao": by_torch_ao(model)}
    for name in subject.peers:
        try:
            found[name] = _OTHERS[name](model, example, threads)
        except ImportError as missing:
            print(f"{name}: not installed ({missing.name})")
    return found


def measure(subject: Subject, threads: int, batch: int, rounds: int) -> Iterator[Timing]:
    """Every contender with every length, its result checked first."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = subject.make().eval()
    for length in subject.lengths:
        x = subject.input(length, batch)
        runs = contenders(subject, model, x, threads)
        with torch.inference_mode():
            exact = model(x)
            for name, run in runs.items():
                check(f"{name}, {subject.name}", exact, run(x), subject.least)
        for name, taken in zip(runs, times_in_turns(list(runs.values()), x, rounds), strict=True):
            yield Timing(f"{subject.name}, {length}", name, threads, batch, min(taken), statistics.median(taken))


def main() -> None:
    """Prints the table; --json FILE writes it as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=[subject.name for subject in SUBJECTS])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", metavar="FILE")
    given: Any = parser.parse_args()
    chosen = [subject for subject in SUBJECTS if subject.name in given.models]
    settings = [(subject, threads, batch) for subject in chosen for threads in given.threads for batch in given.batches]
    timings = [timing for subject, threads, batch in settings for timing in measure(subject, threads, batch, given.rounds)]
    show(timings, Console())
    write_json(given.json, [asdict(each) for each in timings])


if __name__ == "__main__":
    main()
