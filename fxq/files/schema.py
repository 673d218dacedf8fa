"""What the JSON of a file may hold, as pydantic models. Values of arguments are checked when they are read: fxq/files/values.py."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, JsonValue, ValidationError, model_validator

from fxq.graph.annotation import Origin
from fxq.graph.module import Interface
from fxq.graph.profile import Accepted
from fxq.graph.qtypes import QuantSpec
from fxq.graph.reasons import Reason
from fxq.graph.weight_format import WeightFormat

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16, "uint8": torch.uint8,
    "int8": torch.int8, "int16": torch.int16, "int32": torch.int32, "int64": torch.int64, "bool": torch.bool, "complex64": torch.complex64,
}  # fmt: skip

# modules inside modules
MOST_LEVELS = 64
# to make a list of more takes memory, and nobody reads it
_MOST_FAULTS = 1000
# that hold other modules and have no record of their own: some, and some for each record
_MOST_OWNERS, _OWNERS_PER_RECORD = 1000, 2
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_NOT_IN_PATHS = re.compile(r"[\"'\\]")


def is_identifier(name: str) -> bool:
    """Whether the name may stand in the code that torch.fx writes for a graph."""
    return _IDENTIFIER.fullmatch(name) is not None and not keyword.iskeyword(name)


def is_path(path: str) -> bool:
    """Whether the dotted path may stand there: its parts are not too many, and none is empty, private to Python or has a quote in it."""
    parts = path.split(".")
    is_plain = path.isprintable() and not _NOT_IN_PATHS.search(path) and all(part and not part.startswith("__") for part in parts)
    return is_plain and len(parts) <= MOST_LEVELS


def first_fault(error: ValidationError) -> str:
    """What is wrong, in a few words."""
    if error.error_count() > _MOST_FAULTS:
        return f"a graph with {error.error_count()} faults"
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))[:200]
    return f"a graph whose {place or 'JSON'} is not valid: {first['msg'][:200]}"


def _identifier(name: str) -> str:
    if not is_identifier(name):
        raise ValueError("is no name of Python's")
    return name


def _path(path: str) -> str:
    if not is_path(path):
        raise ValueError("is no path of a module")
    return path


def _printable(text: str) -> str:
    if not text.replace("\n", "").replace("\t", "").isprintable():
        raise ValueError("has control characters")
    return text


Identifier = Annotated[str, Field(max_length=1000), AfterValidator(_identifier)]
Path = Annotated[str, Field(max_length=1000), AfterValidator(_path)]
Size = Annotated[int, Field(ge=0, lt=2**48)]
DType = Annotated[str, Field(pattern=f"^({'|'.join(DTYPES)})$")]


class Record(BaseModel):
    """Base of all records: nothing besides the fields, and no guesses about types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="strings")


class TensorRecord(Record):
    """A tensor of the file.

    Attributes:
        name: in the safetensors part.
    """

    name: str
    dtype: DType
    shape: tuple[Size, ...]


# --- what is known of a node -----------------------------------------------------------------------------------------------


class TypeRecord(Record):
    """Shape and dtype of a value, as seen with the example inputs: TensorType."""

    dtype: str
    shape: tuple[Size, ...]


class TupleTypeRecord(Record):
    """Of a value that is a tuple."""

    items: Annotated[tuple[ValueTypeRecord, ...], FailFast()]


ValueTypeRecord = TypeRecord | TupleTypeRecord | None


class QParamsRecord(Record):
    """QParams: numbers per tensor, names of tensors per channel."""

    spec: QuantSpec
    scale: float | str
    zero_point: int | str


class OperandRecord(Record):
    """What is asked of one operand."""

    name: str
    spec: QuantSpec


class QuantRecord(Record):
    """NodeQuant."""

    inputs: Annotated[tuple[OperandRecord, ...], FailFast()] = ()
    output: QuantSpec | None = None
    group: int | None = None
    rule: str = ""
    reason: Reason | None = None
    qparams: QParamsRecord | None = None
    weight: QParamsRecord | None = None
    format: WeightFormat | None = None


class MeaningRecord(Record):
    """Meaning."""

    op: str
    inputs: tuple[str, ...] = ()
    constants: dict[str, JsonValue] = {}


class RefusalRecord(Record):
    """A rewrite that was refused at a node."""

    rule: str
    reason: Reason


NodeKind = Literal["input", "tensor", "op", "function", "method", "attribute", "module", "known", "output"]


class NodeRecord(Record):
    """A node of a graph. Later nodes and the attributes of a call refer to it by name.

    Attributes:
        kind: what `target` is: the name of an input; path of a tensor or module; a canonical op of fxq; a function, method or
            attribute of its tables; a function or class that the reader has to be given.
        args, kwargs: see fxq/files/values.py.
    """

    name: Identifier
    kind: NodeKind
    target: str
    args: tuple[JsonValue, ...] = ()
    kwargs: dict[str, JsonValue] = {}
    type: ValueTypeRecord = None
    origins: Annotated[tuple[Origin, ...], FailFast()] = ()
    quant: QuantRecord | None = None
    meaning: MeaningRecord | None = None
    refusals: Annotated[tuple[RefusalRecord, ...], FailFast()] = ()
    whole: Reason | None = None
    writes: bool = False


# --- what a model is made of -----------------------------------------------------------------------------------------------


class HeldRecord(Record):
    """A tensor in a module.

    Attributes:
        path: below the module.
        tensor: its name in the file; the same for the same tensor.
        is_parameter, requires_grad: as torch.nn.Module has it.
    """

    path: Path
    tensor: str
    is_parameter: bool = False
    requires_grad: bool = False


class IntegerRecord(Record):
    """An integer op.

    Attributes:
        op: its class.
        arguments: of the class, but for tensors.
        tensors: those among its arguments.
    """

    kind: Literal["integer"]
    path: Path
    op: str
    arguments: dict[str, JsonValue]
    tensors: Annotated[tuple[HeldRecord, ...], FailFast()] = ()


class FloatRecord(Record):
    """A module of torch.nn.

    Attributes:
        module: its class.
        arguments: of the class.
        tensors: its parameters and buffers.
    """

    kind: Literal["float"]
    path: Path
    module: str
    arguments: dict[str, JsonValue]
    tensors: Annotated[tuple[HeldRecord, ...], FailFast()] = ()
    training: bool = False


class GraphRecord(Record):
    """A module with a graph of its own."""

    kind: Literal["graph"]
    path: Path
    model: ModelRecord


ModuleRecord = Annotated[IntegerRecord | FloatRecord | GraphRecord, Field(discriminator="kind")]


class OriginalRecord(Record):
    """The float weights of an int8 layer.

    Attributes:
        layer: its path.
        weight, bias: names of tensors.
    """

    layer: str
    weight: str
    bias: str | None


class PreservedRecord(Record):
    """An attribute that stays, whether the graph needs it or not.

    Attributes:
        is_held: it is one of the tensors and modules that are listed; else it is `value`.
    """

    name: Path
    is_held: bool
    value: JsonValue = None


class ProfileRecord(Record):
    """BackendProfile."""

    name: str
    activations: Annotated[tuple[Accepted, ...], FailFast()]
    weights: Annotated[tuple[Accepted, ...], FailFast()]
    ops: Annotated[tuple[str, ...], FailFast()]
    multiplier_bits: Literal[22, 24]
    fixed_point_add: bool
    dynamic: Annotated[tuple[str, ...], FailFast()] = ()
    weight_only: Annotated[tuple[str, ...], FailFast()] = ()
    balanced_weights: bool = False


class ModelRecord(Record):
    """FxqModule."""

    stage: str
    profile: ProfileRecord | None
    path: str = ""
    training: bool = False
    interface: Interface = Interface()
    nodes: Annotated[tuple[NodeRecord, ...], FailFast()]
    tensors: Annotated[tuple[HeldRecord, ...], FailFast()] = ()
    modules: Annotated[tuple[ModuleRecord, ...], FailFast()] = ()
    preserved: Annotated[tuple[PreservedRecord, ...], FailFast()] = ()
    originals: Annotated[tuple[OriginalRecord, ...], FailFast()] = ()


class Document(Record):
    """All of a file but its tensors.

    Attributes:
        writer: the fxq that has written it, for people.
    """

    writer: str
    tensors: Annotated[tuple[TensorRecord, ...], FailFast()]
    model: ModelRecord

    @model_validator(mode="after")
    def _has_few_owners(self) -> Document:
        """A module takes a thousand times the memory of a level in a path."""
        graphs = list(_graphs_in(self.model))
        most = _MOST_OWNERS + _OWNERS_PER_RECORD * sum(len(each.nodes) + len(each.tensors) + len(each.modules) for each in graphs)
        if sum(map(_count_owners, graphs)) > most:
            raise ValueError(f"there are more than {most} modules that only hold others")
        return self


def _graphs_in(model: ModelRecord) -> Iterator[ModelRecord]:
    yield model
    for each in model.modules:
        if isinstance(each, GraphRecord):
            yield from _graphs_in(each.model)


def _count_owners(model: ModelRecord) -> int:
    owners = (each.path.rpartition(".")[0] for each in (*model.tensors, *model.modules))
    return len({prefix for owner in owners if owner for prefix in accumulate(owner.split("."), "{}.{}".format)})


GraphRecord.model_rebuild()
