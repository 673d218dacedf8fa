"""Files of every version of the format, kept for ever: `python -m tests.files.versions` makes those of the current one, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import fxq
from fxq.files.container import VERSION

DATA = Path(__file__).with_name("data")
PROFILES = ("x86", "qnnpack")


class Inner(nn.Module):
    """A graph of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class Everything(nn.Module):
    """Every integer op, and every kind of record. "integers" is the same on all machines, "floats" is computed by torch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(2, 4, 3, padding=1), nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2)
        self.linear, self.to_heads, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.prelu, self.layer_norm, self.group_norm = nn.PReLU(4), nn.LayerNorm(4), nn.GroupNorm(2, 4)
        self.inner = Inner()
        self.lrn, self.shift = nn.LocalResponseNorm(2), nn.Parameter(torch.linspace(0, 1, 3))
        self.labels = ["cat", "dog"]

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        y = self.prelu(F.max_pool2d(self.conv(y), 2))
        y = self.up(y) - F.interpolate(y, scale_factor=2.0)
        y = F.leaky_relu(F.interpolate(y, size=(4, 4), mode="bilinear"), 0.1) + F.avg_pool2d(F.hardswish(y), 2, count_include_pad=False)
        y = self.group_norm(F.silu(y)) * F.adaptive_max_pool2d(y, 1)
        rows = F.silu(self.layer_norm(F.gelu(self.linear(y.flatten(2).transpose(1, 2)))))
        rows = (self.to_heads(rows) @ F.silu(rows).transpose(1, 2)).softmax(-1) @ rows
        rows = F.silu(rows.sum(1, keepdim=True)) + rows.mean(1, keepdim=True)
        x = F.relu6(self.conv(x)) + self.conv(x)
        pooled = F.adaptive_avg_pool2d(self.inner(x), 1)[..., 0, 0]
        integers = self.head(F.silu(torch.cat([pooled, rows[:, 0]], 0)))
        floats = torch.cumsum(self.lrn(self.conv(y[:, :2])), 1).abs().amax((2, 3))[:, :3].add(self.shift)
        return {"x": x, "integers": integers, "floats": [floats.to(x.dtype), (y.shape[0], None, slice(1, 2))]}


def make(profile: str) -> tuple[fxq.FxqModule, tuple[Tensor, ...]]:
    """The model, and inputs for it."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    inputs = (torch.randn(1, 2, 8, 8, generator=generator), torch.randn(1, 2, 8, 8, generator=generator))
    custom = fxq.PrepareCustomConfig().set_input_quantized_indexes([0]).set_output_quantized_indexes([0])
    custom.set_standalone_module_name("inner", None, (torch.randn(1, 4, 8, 8),), None, None).set_preserved_attributes(["labels"])
    mapping = fxq.get_default_qconfig_mapping(profile)
    prepared = fxq.prepare_fx(Everything().eval(), mapping, inputs, custom, profile=profile)
    fxq.calibrate(prepared, [inputs], progress=False)
    converted = fxq.convert_fx(prepared, fxq.ConvertCustomConfig().set_preserved_attributes(["labels"]), keep_original_weights=True)
    return converted, inputs


def results(model: fxq.FxqModule, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """What the model gives for these inputs, of which it takes the first one quantized."""
    with torch.no_grad():
        found = model(fxq.QTensor.from_float(x, model.get_submodule("x_entry").qparams), y)
    return {"x": found["x"].int_repr().contiguous(), "integers": found["integers"], "floats": found["floats"][0]}


# --- layers that quantize what arrives, and layers whose weights alone are quantized -----------------------------------------


class Arriving(nn.Module):
    """Every dynamic and every weight-only op."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.bag = nn.Embedding(20, 16), nn.EmbeddingBag(20, 3)
        self.lstm, self.cell = nn.LSTM(16, 8, 2, bidirectional=True, proj_size=4), nn.GRUCell(16, 8)
        self.head, self.last = nn.Linear(16, 32), nn.Linear(32, 3)

    def forward(self, words: Tensor) -> dict[str, Tensor]:
        x = self.embed(words)
        y = self.head(torch.cat([self.lstm(x)[0][-1], self.cell(x[0])], 1))
        return {"y": y, "floats": self.last(y) + self.bag(words.t())}


def make_arriving() -> tuple[fxq.FxqModule, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    words = torch.randint(0, 20, (5, 2), generator=torch.Generator().manual_seed(0))
    by_weight = {nn.Embedding: fxq.float_qparams_weight_only_qconfig, nn.EmbeddingBag: fxq.float_qparams_weight_only_qconfig_4bit}
    swapped = fxq.quantize_dynamic(Arriving(), {**by_weight, "last": fxq.weight_only_qconfig(4, 32)})
    mapping = fxq.QConfigMapping().set_global(fxq.per_row_dynamic_qconfig)
    return fxq.convert_fx(fxq.prepare_fx(swapped, mapping, (words,))), (words,)


def results_arriving(model: fxq.FxqModule, words: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return {name: value.contiguous() for name, value in model(words).items()}


# --- convolutions of what arrives --------------------------------------------------------------------------------------------


class Convolving(nn.Module):
    """In 1, 2 and 3 dimensions, with borders and groups."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, 6, 3, padding=1, groups=2)
        self.second = nn.Conv2d(1, 4, (2, 3), padding="same", bias=False)
        self.third = nn.Conv3d(1, 2, 2, stride=2, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = F.hardswish(self.second(F.relu(self.first(x))[:, None]))
        y = self.third(y[:, None])
        return {"y": y, "floats": torch.cumsum(y, 1)}


def make_convolving() -> tuple[fxq.FxqModule, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0))
    mapping = fxq.QConfigMapping().set_module_name("second", fxq.per_row_dynamic_qconfig)
    for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        mapping.set_object_type(kind, fxq.per_channel_dynamic_qconfig)
    return fxq.convert_fx(fxq.prepare_fx(Convolving().eval(), mapping, (x,))), (x,)


# --- recurrent layers whose weights alone are stored in few bits -------------------------------------------------------------


class Remembering(nn.Module):
    """Layers and a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.cell = nn.GRU(6, 8, bidirectional=True), nn.LSTMCell(16, 8)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"floats": self.cell(self.gru(x)[0][-1])[0]}


def make_remembering() -> tuple[fxq.FxqModule, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    x = torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(0))
    mapping = fxq.QConfigMapping().set_global(fxq.weight_only_qconfig(4, 8)).set_object_type(nn.LSTMCell, fxq.float16_dynamic_qconfig)
    return fxq.convert_fx(fxq.prepare_fx(Remembering().eval(), mapping, (x,))), (x,)


# --- files -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A model that is kept.

    Attributes:
        make: gives it, and inputs for it.
        results: what it gives for them; "floats" are not the same on all machines.
    """

    make: Callable[[], tuple[fxq.FxqModule, tuple[Tensor, ...]]]
    results: Callable[..., dict[str, Tensor]]


KEPT = {
    **{profile: Kept(partial(make, profile), results) for profile in PROFILES},
    "arriving": Kept(make_arriving, results_arriving),
    "convolving": Kept(make_convolving, results_arriving),
    "remembering": Kept(make_remembering, results_arriving),
}


def main() -> None:
    for name, kept in KEPT.items():
        path = DATA / f"version-{VERSION}-{name}.fxq"
        if path.exists():
            continue  # it stays as it is
        model, inputs = kept.make()
        fxq.save(model, path)
        given = {f"input.{letter}": value for letter, value in zip("xy", inputs, strict=False)}
        save_file({**given, **kept.results(model, *inputs)}, path.with_suffix(".safetensors"))


if __name__ == "__main__":
    main()
