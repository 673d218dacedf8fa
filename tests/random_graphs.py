"""Random small models for hypothesis: graphs as text, with a mapping that may switch ops off, for either profile."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from fxq.graph.qtypes import QuantSpec
from fxq.observers import HistogramObserver, MinMaxObserver, ObserverFactory, PerChannelMinMaxObserver
from fxq.qconfig_mapping import QConfig, QConfigMapping

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A name of the graph, and the shape behind it."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Program:
    """What one example compiles.

    Attributes:
        text: for parse_graph.
        profile: "x86" or "qnnpack".
        qconfig: of the whole graph.
        float_modules: paths that are kept float.
        seed: of calibration data.
        shift: added to calibration data, so that ranges lie on one side of 0.
    """

    text: str
    profile: str
    qconfig: QConfig
    float_modules: tuple[str, ...]
    seed: int
    shift: float

    @property
    def mapping(self) -> QConfigMapping:
        mapping = QConfigMapping().set_global(self.qconfig)
        for path in self.float_modules:
            mapping.set_module_name(path, None)
        return mapping


_UNARY = (
    "relu",
    "sigmoid",
    "tanh",
    "hardsigmoid",
    "hardswish",
    "silu",
    "gelu",
    "mish",
    "elu",
    "softplus",
    "leaky_relu",
    "identity",
    "contiguous",
)
_ACTS = ("", "", ", act=relu", ", act=relu6", ", act=clamp(-0.5, 0.75)")


class _Builder:
    def __init__(self, draw: DrawFn) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.values: list[Value] = []
        self.modules: list[str] = []

    def pick(self, *choices: object) -> object:
        return self.draw(st.sampled_from(choices))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def any_value(self) -> Value:
        """Later values more often: graphs become deep."""
        return self.values[max(self.number(0, len(self.values) - 1), self.number(0, len(self.values) - 1))]

    def add(self, prefix: str, text: str, shape: Shape) -> None:
        name = f"{prefix}{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.values.append(Value(name, shape))

    # --- ops -----------------------------------------------------------------------------------------------------------

    def unary(self, x: Value) -> None:
        self.add("u", f"{self.pick(*_UNARY)}({x.name})", x.shape)

    def clamp(self, x: Value) -> None:
        self.add("k", f"clamp({x.name}, {self.pick('min=-0.4, max=0.9', 'max=0.25', 'min=0.0, max=6.0', 'min=0.5')})", x.shape)

    def binary(self, x: Value) -> None:
        others = [value for value in self.values if value.shape == x.shape]
        other = others[self.number(0, len(others) - 1)]
        kind = str(self.pick("add", "add", "sub", "mul"))
        alpha = "" if kind == "mul" else str(self.pick("", "", ", alpha=2", ", alpha=-0.5"))
        act = "" if kind == "sub" else str(self.pick("", "", ", act=relu"))
        self.add("b", f"{kind}({x.name}, {other.name}{alpha}{act})", x.shape)

    def number_operand(self, x: Value) -> None:
        self.add("n", f"{self.pick('add', 'mul')}({x.name}, {self.pick('0.5', '2')})", x.shape)

    def conv(self, x: Value) -> None:
        if len(x.shape) != 4:
            self.linear(x)
            return
        n, c, h, w = x.shape
        groups = int(str(self.pick(1, 1, 1, c)))
        outputs = groups * self.number(1, 2) if groups > 1 else self.number(1, 6)
        size, stride, pad = self.number(1, min(3, h, w)), self.number(1, 2), self.number(0, 1)
        path = self._path("conv")
        bias = self.pick(f", @{path}.bias[{outputs}]", "")
        geometry = f", stride=({stride}, {stride}), padding=({pad}, {pad})" + (f", groups={groups}" if groups > 1 else "")
        spatial = tuple((length + 2 * pad - size) // stride + 1 for length in (h, w))
        weight = f"@{path}.weight[{outputs}, {c // groups}, {size}, {size}]"
        self.add("c", f"conv({x.name}, {weight}{bias}{geometry}{self.pick(*_ACTS)})", (n, outputs, *spatial))

    def linear(self, x: Value) -> None:
        path, outputs = self._path("fc"), self.number(1, 6)
        bias = self.pick(f", @{path}.bias[{outputs}]", "")
        self.add("l", f"linear({x.name}, @{path}.weight[{outputs}, {x.shape[-1]}]{bias}{self.pick(*_ACTS)})", (*x.shape[:-1], outputs))

    def batch_norm(self, x: Value) -> None:
        if len(x.shape) < 2:
            return
        path, c = self._path("bn"), x.shape[1]
        tensors = ", ".join(f"@{path}.{name}[{c}]" for name in ("running_mean", "running_var", "weight", "bias"))
        self.add("s", f"batch_norm({x.name}, {tensors})", x.shape)

    def pool(self, x: Value) -> None:
        if len(x.shape) != 4 or min(x.shape[2:]) < 2:
            return
        n, c, h, w = x.shape
        kind = self.pick("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
        if str(kind).startswith("adaptive"):
            self.add("p", f"{kind}({x.name}, output_size=(1, 2))", (n, c, 1, 2))
        else:
            extra = str(self.pick("", ", padding=(1, 1)"))
            pad = 1 if extra else 0
            self.add("p", f"{kind}({x.name}, kernel_size=(2, 2){extra})", (n, c, (h + 2 * pad) // 2, (w + 2 * pad) // 2))

    def mean(self, x: Value) -> None:
        if len(x.shape) < 3:
            return
        keep = self.draw(st.booleans())
        shape = (*x.shape[:-1], 1) if keep else x.shape[:-1]
        self.add("m", f"mean({x.name}, dim=-1, keepdim={keep})", shape)

    def cat(self, x: Value) -> None:
        fits = [v for v in self.values if len(v.shape) == len(x.shape) and v.shape[:1] + v.shape[2:] == x.shape[:1] + x.shape[2:]]
        if len(x.shape) < 2:
            return
        parts = [x, *(fits[self.number(0, len(fits) - 1)] for _ in range(self.number(1, 2)))]
        channels = sum(part.shape[1] for part in parts)
        if channels <= 16:
            names = ", ".join(part.name for part in parts)
            self.add("j", f"cat(({names}), dim=1)", (x.shape[0], channels, *x.shape[2:]))

    def move(self, x: Value) -> None:
        rank = len(x.shape)
        kind = self.pick("flatten", "transpose", "permute", "unsqueeze", "getitem", "pad", "reshape", "dropout")
        if kind == "flatten" and rank > 2:
            self.add("v", f"flatten({x.name}, start_dim=-2)", (*x.shape[:-2], x.shape[-2] * x.shape[-1]))
        elif kind == "transpose" and rank > 2:
            self.add("v", f"transpose({x.name}, dim0=-1, dim1=-2)", (*x.shape[:-2], x.shape[-1], x.shape[-2]))
        elif kind == "permute" and rank == 3:
            self.add("v", f"permute({x.name}, dims=(0, 2, 1))", (x.shape[0], x.shape[2], x.shape[1]))
        elif kind == "unsqueeze" and rank < 4:
            self.add("v", f"unsqueeze({x.name}, dim=1)", (x.shape[0], 1, *x.shape[1:]))
        elif kind == "getitem":
            self.add("v", f"getitem({x.name}, index=(Ellipsis, slice(0, 1, None)))", (*x.shape[:-1], 1))
        elif kind == "pad":
            value = self.pick("", ", value=0.5", ", value=-2.0")
            self.add("v", f"pad({x.name}, pad=(1, 0){value})", (*x.shape[:-1], x.shape[-1] + 1))
        elif kind == "reshape" and rank > 2:
            self.add("v", f"reshape({x.name}, shape=(-1, {_product(x.shape[1:])}))", (x.shape[0], _product(x.shape[1:])))
        elif kind == "dropout":
            self.add("v", f"dropout({x.name}, training=False)", x.shape)

    def normalize(self, x: Value) -> None:
        path, length, rank = self._path("norm"), x.shape[-1], len(x.shape)
        channels = x.shape[1] if rank > 2 else 1
        kinds = {
            "softmax": f"softmax({x.name}, dim=-1)",
            "layer": f"layer_norm({x.name}, @{path}.weight[{length}], @{path}.bias[{length}], normalized_shape=({length},))",
            "group": f"group_norm({x.name}, @{path}.weight[{channels}], @{path}.bias[{channels}], num_groups={channels})",
        }
        kind = str(self.pick(*kinds)) if rank > 2 and length > 1 else "softmax"
        self.add("f", kinds[kind], x.shape)

    def conv_transpose(self, x: Value) -> None:
        if len(x.shape) != 4:
            return
        n, c, h, w = x.shape
        outputs, size, stride, path = self.number(1, 4), self.number(1, 3), self.number(1, 2), self._path("up")
        bias = self.pick(f", @{path}.bias[{outputs}]", "")
        spatial = tuple((length - 1) * stride + size for length in (h, w))
        if _product(spatial) <= 300:
            weight = f"@{path}.weight[{c}, {outputs}, {size}, {size}]"
            text = f"conv_transpose({x.name}, {weight}{bias}, stride=({stride}, {stride}){self.pick(*_ACTS)})"
            self.add("t", text, (n, outputs, *spatial))

    def product(self, x: Value) -> None:
        """x · xᵀ, or x · y for a value that fits."""
        if len(x.shape) < 3:
            return
        fits = [value for value in self.values if value.shape[:-2] == x.shape[:-2] and value.shape[-2:-1] == x.shape[-1:]]
        outer = "abcd"[: len(x.shape) - 2]
        if fits and self.draw(st.booleans()):
            other = fits[self.number(0, len(fits) - 1)]
            self.add("q", f"matmul({x.name}, {other.name})", (*x.shape[:-1], other.shape[-1]))
        else:
            self.add("q", f"einsum(({x.name}, {x.name}), equation='{outer}ij,{outer}kj->{outer}ik')", (*x.shape[:-1], x.shape[-2]))

    def part(self, x: Value) -> None:
        """Some of the elements, and the others as they were."""
        length = x.shape[-1]
        item = self.number(0, 1) if length > 1 else 0
        sizes = (length // 2, length - length // 2) if length > 1 else (1,)
        mask = f"mask{len(self.lines)}"
        kinds = {
            "chunk": (f"chunk({x.name}, chunks=2, dim=-1, item=0)", -(-length // 2)),
            "split": (f"split({x.name}, split_size={sizes}, dim=-1, item={item})", sizes[item]),
            "narrow": (f"narrow({x.name}, dim=-1, start={length - 1}, length=1)", 1),
            "where": (f"where({self.pick('0', x.name)}, {x.name}, condition={mask})", length),
            "setitem": (f"setitem({x.name}, {self.pick('0', x.name)}, index=Ellipsis)", length),
            "roll": (f"roll({x.name}, shifts=1, dims=-1)", length),
            "repeat": (f"repeat_interleave({x.name}, repeats=2, dim=-1)", 2 * length),
        }
        kind = str(self.pick(*kinds))
        if kind == "where":
            self.lines.append(f"{mask} = call torch.gt({x.name}, 0.1)")
        text, found = kinds[kind]
        if found <= 32:
            self.add("w", text, (*x.shape[:-1], found))

    def _path(self, kind: str) -> str:
        path = f"{kind}{len(self.modules)}"
        self.modules.append(path)
        return path


def _product(sizes: Shape) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def _weight(draw: DrawFn) -> ObserverFactory:
    return draw(
        st.sampled_from([PerChannelMinMaxObserver.with_args(), MinMaxObserver.with_args(spec=QuantSpec("int8", -127, 127, symmetric=True))])
    )


def _activation(draw: DrawFn, profile: str) -> ObserverFactory:
    choices = [MinMaxObserver.with_args(), HistogramObserver.with_args(), MinMaxObserver.with_args(spec=QuantSpec("uint8", 0, 127))]
    if profile == "qnnpack":
        choices.append(MinMaxObserver.with_args(spec=QuantSpec("int8", -127, 127, symmetric=True)))
    return draw(st.sampled_from(choices))


@st.composite
def programs(draw: DrawFn, max_ops: int = 9) -> Program:
    """Graphs of up to max_ops ops with shared values and several outputs."""
    builder = _Builder(draw)
    inputs = [Value("x", (2, 3, 4, 5))] + ([Value("z", (2, 3, 4, 5))] if draw(st.booleans()) else [])
    builder.values.extend(inputs)
    makers = (
        builder.unary, builder.clamp, builder.binary, builder.number_operand, builder.conv, builder.conv, builder.conv, builder.linear,
        builder.batch_norm, builder.pool, builder.mean, builder.cat, builder.move, builder.move, builder.normalize,
        builder.conv_transpose, builder.product, builder.product, builder.part, builder.part,
    )  # fmt: skip
    for _ in range(draw(st.integers(1, max_ops))):
        draw(st.sampled_from(makers))(builder.any_value())
    outputs = [builder.values[-1], *(builder.any_value() for _ in range(draw(st.integers(0, 2))))]
    header = [f"{value.name}: f32{list(value.shape)} = input" for value in inputs]
    text = "\n".join([*header, *builder.lines, f"output ({', '.join(value.name for value in outputs)},)"])
    profile = draw(st.sampled_from(["x86", "qnnpack"]))
    off = draw(st.lists(st.sampled_from(builder.modules), max_size=2, unique=True)) if builder.modules else []
    qconfig = QConfig(activation=_activation(draw, profile), weight=_weight(draw))
    return Program(text, profile, qconfig, tuple(off), draw(st.integers(0, 99)), draw(st.sampled_from([0.0, 3.0, -3.0])))
