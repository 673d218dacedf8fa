"""Names of torch.ao that fxq does not have: importing one works, using it says what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from fxq.errors import ConfigError


@dataclass(frozen=True)
class Missing:
    """Why some names are absent.

    Attributes:
        what: what they are for.
        remedy: what to use.
        names: torch.ao's.
    """

    what: str
    remedy: str
    names: tuple[str, ...]


# in the words of docs/coming-from-torch-ao.md, whose table says the same of each name
MISSING = (
    Missing(
        "float16 activations, which is not in this version",
        "quantize to int8, or weights alone to float16, with float16_dynamic_qconfig",
        ("float16_static_qconfig",),
    ),
    Missing(
        "training for dynamic quantization, which is not in this version",
        "train the float model, and quantize it with default_dynamic_qconfig",
        ("default_dynamic_qat_qconfig", "default_dynamic_fake_quant"),
    ),
    Missing(
        "a form of QConfig that torch.ao has given up",
        "write QConfig(activation=default_dynamic_quant_observer, weight=...)",
        ("QConfigDynamic",),
    ),
    Missing(
        "a QConfig of weights or activations alone, or training for one, which is not in this version",
        "store weights in few bits with float_qparams_weight_only_qconfig and quantize_dynamic",
        (
            "default_weight_only_qconfig", "default_activation_only_qconfig", "default_quint8_weight_qconfig",
            "default_embedding_qat_qconfig", "default_embedding_qat_qconfig_4bit",
            "default_embedding_fake_quant", "default_embedding_fake_quant_4bit",
        ),
    ),
    Missing(
        "an observer that shares the one of the input",
        "leave it out: ops that only move values share the qparams of their input without being asked",
        ("ReuseInputObserver", "default_reuse_input_observer", "default_reuse_input_qconfig"),
    ),
    Missing(
        "a backend of other hardware, or a dict layout that torch.ao has given up",
        "build a BackendConfig, or take get_native_backend_config()",
        (
            "get_tensorrt_backend_config", "get_tensorrt_backend_config_dict", "get_executorch_backend_config",
            "get_native_backend_config_dict", "get_default_qconfig_dict", "get_default_qat_qconfig_dict",
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Absent:
    """Stands for a name of torch.ao. Calling it, or asking it for anything, is a ConfigError that says what to do.

    Attributes:
        name: torch.ao's.
        missing: why it is not here.
    """

    name: str
    missing: Missing

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise self._error()

    def with_args(self, **kwargs: object) -> NoReturn:
        """Raises ConfigError."""
        raise self._error()

    def _error(self) -> ConfigError:
        return ConfigError(
            self.name,
            expected="a name of torch.ao that fxq has",
            found=f"{self.name}: {self.missing.what}",
            remedy=self.missing.remedy,
        )

    def __repr__(self) -> str:
        return f"{self.name} of torch.ao: {self.missing.what}; {self.missing.remedy}"


ABSENT: Mapping[str, Absent] = {name: Absent(name, missing) for missing in MISSING for name in missing.names}
