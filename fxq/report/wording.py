"""Origins and numbers as people read them."""

from __future__ import annotations

from torch.fx import Node

from fxq.graph.annotation import Origin, origin_of
from fxq.report.kinds import Kind, called_module, kind_of

_PREFIXES = ("", "k", "M", "G", "T", "P")


def short_type(object_type: str) -> str:
    """torch.nn.Conv2d → Conv2d"""
    return object_type.rpartition(".")[2]


def describe_origin(origin: Origin) -> str:
    """`Conv2d layer1.0.conv1` for a module; `add in layer1.0` for a call inside a module; `add` for one in the model itself."""
    name = short_type(origin.object_type)
    if not origin.module:
        return name
    return f"{name} {origin.module}" if origin.object_type == origin.module_type else f"{name} in {origin.module}"


def describe(node: Node) -> str:
    """What a node is, in the words of the user's model; for what the compiler made, what it does."""
    origin = origin_of(node)
    if origin is not None:
        return describe_origin(origin)
    kind = kind_of(node)
    if kind in (Kind.QUANTIZE, Kind.DEQUANTIZE, Kind.INT8):
        value = node.all_input_nodes[0]
        verb = "requantize" if kind is Kind.INT8 else kind.value
        return f"{verb} {value.target if value.op == 'get_attr' else value.name}"
    if kind is Kind.OBSERVER:
        return f"{type(called_module(node)).__name__} of {node.all_input_nodes[0].name}"
    return f"constant {node.target}" if kind is Kind.CONSTANT else str(kind.value)


def layer_label(what: str, object_type: str, module: str, node: str) -> str:
    """How a table names a layer: the path of a module; the node's name for a function, behind the module that it is called in."""
    if what == f"{object_type} {module}":
        return module
    return f"{module}: {node.rpartition('.')[2]}" if module else node


def format_number(value: float, unit: str = "") -> str:
    """1814073344 → 1.81 G: three significant digits and a decimal prefix (k = 1000), in front of the unit."""
    power = 0
    while round_to_digits(value) >= 1000 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    text = f"{value:.0f}" if power == 0 else f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"
    return f"{text} {_PREFIXES[power]}{unit}".rstrip()


def round_to_digits(value: float, digits: int = 3) -> float:
    """999.6 → 1000.0: the number that is shown with so many significant digits."""
    return float(f"{value:.{digits}g}")


def format_share(share: float) -> str:
    """0.0638 → 6.4 %. Says 0 % and 100 % only where that is exact."""
    if share in (0, 1):
        return f"{share * 100:.0f} %"
    if share < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if share >= 0.9995 else f"{share * 100:.1f} %"


def format_qparams(scale: float, zero_point: int) -> str:
    """scale 0.0281, zero point 133"""
    return f"scale {scale:.4g}, zero point {zero_point}"


def elide(text: str, length: int) -> str:
    """encoder.layers.0.mlp → …layers.0.mlp: the end of a text that is too long."""
    return text if len(text) <= length else f"…{text[1 - length :]}"


def plural(count: int, singular: str) -> str:
    """1 node, 2 nodes"""
    return f"{count} {singular}{'' if count == 1 else 's'}"
