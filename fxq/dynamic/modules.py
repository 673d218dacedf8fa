"""DYNAMIC_MODULES, WEIGHT_ONLY_MODULES: float modules → the ops of the runtime that read and write float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from fxq.graph.functional import spatial_padding
from fxq.graph.groups import group_weights
from fxq.graph.names import qualified_name
from fxq.graph.qtypes import quantize_tensor
from fxq.graph.weight_format import WeightFormat
from fxq.observers import ObserverFactory
from fxq.qconfig_mapping import QConfig
from fxq.runtime.dynamic.attention import DynamicAttention, Projections
from fxq.runtime.dynamic.conv import DynamicConv
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.dynamic.product import RowWeights
from fxq.runtime.dynamic.recurrent import DynamicRNN, DynamicRNNCell, RecurrentCell, RecurrentLayers, RecurrentShape
from fxq.runtime.dynamic.rows import RowOp
from fxq.runtime.integer.conv import ConvGeometry
from fxq.runtime.weight_only.bags import Bags
from fxq.runtime.weight_only.embedding import WeightOnlyEmbedding, WeightOnlyEmbeddingBag
from fxq.runtime.weight_only.linear import WeightOnlyLinear
from fxq.runtime.weight_only.recurrent import Stored, WeightOnlyRNN, WeightOnlyRNNCell

# (float module, its QConfig) → what takes its place; None where this very module has no form
Maker = Callable[..., nn.Module | None]


def call_parts(owner: nn.Module) -> None:
    """Has torch's transformers call their parts, which they would not: they hand the weights of these to a float kernel of their own."""
    if isinstance(owner, nn.TransformerEncoderLayer):
        vars(owner)["activation_relu_or_gelu"] = 0
    if isinstance(owner, nn.TransformerEncoder):
        owner.use_nested_tensor = False


def make_linear(module: nn.Linear, qconfig: QConfig) -> RowOp:
    """nn.Linear → DynamicLinear, or WeightOnlyLinear"""
    return _linear(module.weight, module.bias, qconfig)


def make_transposed_linear(module: Any, qconfig: QConfig) -> RowOp:
    """transformers' Conv1D, y = x·w + b → what nn.Linear becomes"""
    return _linear(module.weight.t(), module.bias, qconfig)


def _linear(weight: Tensor, bias: Tensor | None, qconfig: QConfig) -> RowOp:
    if qconfig.weight_format is not None:
        return WeightOnlyLinear(group_weights(weight, qconfig.weight_format, bias))
    return DynamicLinear(_weights(weight, bias, qconfig.weight), per_row=qconfig.activation.spec.axis is not None)


def make_conv(module: Any, qconfig: QConfig) -> DynamicConv:
    """nn.Conv1d, nn.Conv2d, nn.Conv3d → DynamicConv"""
    padding = spatial_padding(module.padding, module.weight, module.dilation)
    geometry = ConvGeometry(module.stride, padding, module.dilation, module.groups, module.padding_mode)
    weights = _weights(module.weight, module.bias, qconfig.weight)
    return DynamicConv(weights, geometry, per_row=qconfig.activation.spec.axis is not None)


def make_recurrent(module: nn.RNNBase, qconfig: QConfig) -> RecurrentLayers:
    """nn.LSTM, nn.GRU, nn.RNN → DynamicRNN, or WeightOnlyRNN; rows have qparams of their own whatever the activation's QConfig."""
    shape = RecurrentShape(
        module.mode, module.input_size, module.hidden_size, module.num_layers, module.batch_first, module.bidirectional, module.proj_size
    )
    tensors = {name: getattr(module, name) for names in module._all_weights for name in names}
    if qconfig.weight_format is not None:
        return WeightOnlyRNN(shape, qconfig.weight_format, _stored(tensors, shape, qconfig.weight_format))
    return DynamicRNN(shape, _matrices(tensors, shape, qconfig.weight))


def make_cell(module: nn.RNNCellBase, qconfig: QConfig) -> RecurrentCell:
    """nn.LSTMCell, nn.GRUCell, nn.RNNCell → DynamicRNNCell, or WeightOnlyRNNCell"""
    mode = f"RNN_{module.nonlinearity.upper()}" if isinstance(module, nn.RNNCell) else type(module).__name__.removesuffix("Cell")
    shape = RecurrentShape(mode, module.input_size, module.hidden_size)
    tensors = {f"{name}_l0": getattr(module, name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    if qconfig.weight_format is not None:
        return WeightOnlyRNNCell(shape, qconfig.weight_format, _stored(tensors, shape, qconfig.weight_format))
    return DynamicRNNCell(shape, _matrices(tensors, shape, qconfig.weight))


def make_attention(module: nn.MultiheadAttention, qconfig: QConfig) -> DynamicAttention | None:
    """nn.MultiheadAttention → DynamicAttention; None where keys and values have constants of their own beside the inputs'."""
    if module.bias_k is not None or module.add_zero_attn:
        return None
    together = module.in_proj_weight is not None
    matrices = module.in_proj_weight.chunk(3) if together else (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    biases = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    parts = [*zip(matrices, biases, strict=True), (module.out_proj.weight, module.out_proj.bias)]
    made = (_linear(weight, bias, qconfig) for weight, bias in parts)
    return DynamicAttention(Projections(*made), module.num_heads, batch_first=module.batch_first)


def _matrices(tensors: Mapping[str, Any], shape: RecurrentShape, factory: ObserverFactory) -> dict[str, RowWeights]:
    return {name: _weights(tensors[f"weight_{name}"], tensors.get(f"bias_{name}"), factory) for name in shape.matrices()}


def _stored(tensors: Mapping[str, Any], shape: RecurrentShape, format: WeightFormat) -> dict[str, Stored]:
    parts = {
        name: group_weights(tensors[f"weight_{name}"], format, tensors.get(f"bias_{name}"), where=f"{shape.torch_name}.weight_{name}")
        for name in shape.matrices()
    }
    return {name: Stored(part.weight, part.scale, part.zero, part.bias) for name, part in parts.items()}


def _weights(weight: Tensor, bias: Tensor | None, factory: ObserverFactory) -> RowWeights:
    """f32 [O, ...] → s8 with the scales that the observer of the weights finds."""
    values = weight.detach().float()
    qparams = factory.qparams_of(values)
    scale = qparams.scale.expand(len(values)).contiguous()
    return RowWeights(quantize_tensor(values, qparams), scale, None if bias is None else bias.detach().float().clone())


def make_embedding(module: nn.Embedding, qconfig: QConfig) -> WeightOnlyEmbedding | None:
    """nn.Embedding → WeightOnlyEmbedding; None where it changes its rows as they are read."""
    if module.max_norm is not None:
        return None
    return WeightOnlyEmbedding(group_weights(module.weight, _format(qconfig)), _dtype(module))


def make_embedding_bag(module: nn.EmbeddingBag, qconfig: QConfig) -> WeightOnlyEmbeddingBag | None:
    """nn.EmbeddingBag → WeightOnlyEmbeddingBag; None where it changes its rows as they are read."""
    if module.max_norm is not None:
        return None
    bags = Bags(module.mode, module.include_last_offset, module.padding_idx)  # type: ignore[arg-type]
    return WeightOnlyEmbeddingBag(group_weights(module.weight, _format(qconfig)), bags, _dtype(module))


def _dtype(module: nn.Embedding | nn.EmbeddingBag) -> Any:
    """What its rows are, by name."""
    return str(module.weight.dtype).removeprefix("torch.")


def _format(qconfig: QConfig) -> WeightFormat:
    format = qconfig.weight_format
    assert format is not None, "a dynamic QConfig"
    return format


RECURRENT: Mapping[type[nn.Module], Callable[..., nn.Module]] = {
    nn.LSTM: make_recurrent,
    nn.GRU: make_recurrent,
    nn.RNN: make_recurrent,
    nn.LSTMCell: make_cell,
    nn.GRUCell: make_cell,
    nn.RNNCell: make_cell,
}

# those that a graph calls whole
WHOLE: Mapping[type[nn.Module], Maker] = {**RECURRENT, nn.EmbeddingBag: make_embedding_bag}

DYNAMIC_MODULES: Mapping[type[nn.Module], Maker] = {
    nn.Linear: make_linear,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), make_conv),
    **RECURRENT,
    nn.MultiheadAttention: make_attention,
}

# weights in few bits, everything else float
WEIGHT_ONLY_MODULES: Mapping[type[nn.Module], Maker] = {
    nn.Linear: make_linear,
    **RECURRENT,
    nn.Embedding: make_embedding,
    nn.EmbeddingBag: make_embedding_bag,
    nn.MultiheadAttention: make_attention,
}


# linear layers of libraries that fxq does not import, by qualified name
LINEAR_BY_NAME: Mapping[str, Maker] = {"transformers.pytorch_utils.Conv1D": make_transposed_linear}


def table_of(qconfig: QConfig) -> Mapping[type[nn.Module], Maker]:
    """The types that have a form for a QConfig, and what makes it."""
    return DYNAMIC_MODULES if qconfig.weight_format is None else WEIGHT_ONLY_MODULES


def maker_of(kind: type[nn.Module], qconfig: QConfig) -> Maker | None:
    """What makes the form of a type for a QConfig; None where it has none."""
    return table_of(qconfig).get(kind) or LINEAR_BY_NAME.get(qualified_name(kind))


def has_form(kind: type[nn.Module]) -> bool:
    """Whether a type has a form for some QConfig."""
    return kind in DYNAMIC_MODULES or kind in WEIGHT_ONLY_MODULES or qualified_name(kind) in LINEAR_BY_NAME


def spoken_for_by(kind: type[nn.Module]) -> type[nn.Module]:
    """The type whose QConfig a type has that is not named itself: a MultiheadAttention is made of linears, and nobody can name those."""
    return nn.Linear if kind is nn.MultiheadAttention or qualified_name(kind) in LINEAR_BY_NAME else kind
