"""torch.ao's BackendConfig under its names, and the BackendProfile that one stands for.

A pattern with an 8-bit static DTypeConfig says that its ops run on integers; the bounds of its dtypes say for which QuantSpecs.
Fusions, observers and integer modules are fxq's own, so that what torch.ao needs for these (observation types, root, fused,
reference and QAT modules, fuser methods) is taken and not used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch


class ObservationType(Enum):
    """Where torch.ao puts observers. fxq knows that of each op, by the table of ops."""

    OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT = 0
    OUTPUT_SHARE_OBSERVER_WITH_INPUT = 1
    INPUT_OUTPUT_NOT_OBSERVED = 2


@dataclass(frozen=True)
class DTypeWithConstraints:
    """A dtype, and what a QConfig may ask of it.

    Attributes:
        dtype: torch.uint8 or torch.int8, or torch.ao's names for them.
        quant_min_lower_bound, quant_max_upper_bound: the integers in use lie between these.
        scale_min_lower_bound: the smallest scale of a QConfig, its eps, is at least this.
        scale_max_upper_bound: not enforced, as in torch.ao.
        scale_exact_match, zero_point_exact_match: the qparams of an op with a fixed range.
    """

    dtype: torch.dtype | None = None
    quant_min_lower_bound: int | float | None = None
    quant_max_upper_bound: int | float | None = None
    scale_min_lower_bound: int | float | None = None
    scale_max_upper_bound: int | float | None = None
    scale_exact_match: float | None = None
    zero_point_exact_match: int | None = None


@dataclass(frozen=True)
class DTypeConfig:
    """The dtypes of a pattern's input, output, weight and bias; each of the first three may have constraints."""

    input_dtype: torch.dtype | DTypeWithConstraints | None = None
    output_dtype: torch.dtype | DTypeWithConstraints | None = None
    weight_dtype: torch.dtype | DTypeWithConstraints | None = None
    bias_dtype: torch.dtype | None = None
    is_dynamic: bool | None = None

    @property
    def input_dtype_with_constraints(self) -> DTypeWithConstraints:
        return _constrained(self.input_dtype)

    @property
    def output_dtype_with_constraints(self) -> DTypeWithConstraints:
        return _constrained(self.output_dtype)

    @property
    def weight_dtype_with_constraints(self) -> DTypeWithConstraints:
        return _constrained(self.weight_dtype)


def _constrained(dtype: torch.dtype | DTypeWithConstraints | None) -> DTypeWithConstraints:
    return dtype if isinstance(dtype, DTypeWithConstraints) else DTypeWithConstraints(dtype)


@dataclass
class BackendPatternConfig:
    """What a backend does with a pattern: an op, or a tuple of ops in dataflow order. Setters chain.

    Attributes:
        pattern: a module class, a function, the name of a tensor method, or a tuple of these.
        dtype_configs: the dtypes it runs in.
        root_module: stands for the op where the pattern is a fused class of torch.ao.
    """

    pattern: Any = None
    dtype_configs: list[DTypeConfig] = field(default_factory=list)
    root_module: type | None = None

    def set_pattern(self, pattern: Any) -> BackendPatternConfig:
        """The ops that this is about."""
        self.pattern = pattern
        return self

    def set_dtype_configs(self, dtype_configs: list[DTypeConfig]) -> BackendPatternConfig:
        """All dtypes at once."""
        self.dtype_configs = list(dtype_configs)
        return self

    def add_dtype_config(self, dtype_config: DTypeConfig) -> BackendPatternConfig:
        """One more choice of dtypes."""
        self.dtype_configs = [*self.dtype_configs, dtype_config]
        return self

    def set_root_module(self, root_module: type) -> BackendPatternConfig:
        """The op of a fused class of torch.ao."""
        self.root_module = root_module
        return self

    def set_observation_type(self, observation_type: ObservationType) -> BackendPatternConfig:
        """Taken and not used: where observers go is in fxq's table of ops."""
        return self

    def set_qat_module(self, qat_module: type) -> BackendPatternConfig:
        """Taken and not used."""
        return self

    def set_reference_quantized_module(self, reference_quantized_module: type) -> BackendPatternConfig:
        """Taken and not used: a reference model has float ops between quantize and dequantize."""
        return self

    def set_fused_module(self, fused_module: type) -> BackendPatternConfig:
        """Taken and not used: a fused op is the op, with its activation as an attribute."""
        return self

    def set_fuser_method(self, fuser_method: Any) -> BackendPatternConfig:
        """Taken and not used: fusions are fxq's; prepare_fx(rules=...) of fxq takes more."""
        return self


class BackendConfig:
    """The patterns that a backend runs on integers. Setters chain; a pattern that is set again takes the place of the first."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._by_pattern: dict[Any, BackendPatternConfig] = {}

    @property
    def configs(self) -> list[BackendPatternConfig]:
        return list(self._by_pattern.values())

    def set_name(self, name: str) -> BackendConfig:
        """What messages call it."""
        self.name = name
        return self

    def set_backend_pattern_config(self, config: BackendPatternConfig) -> BackendConfig:
        """One pattern."""
        self._by_pattern[config.pattern] = config
        return self

    def set_backend_pattern_configs(self, configs: list[BackendPatternConfig]) -> BackendConfig:
        """Several patterns."""
        for config in configs:
            self.set_backend_pattern_config(config)
        return self
