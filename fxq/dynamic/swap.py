"""quantize_dynamic: modules are replaced one by one, and the model around them stays the Python that it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fxq.dynamic.modules import DYNAMIC_MODULES, RECURRENT, WEIGHT_ONLY_MODULES, call_parts, has_form, maker_of, spoken_for_by, table_of
from fxq.errors import ConfigError
from fxq.graph.copies import copy_module
from fxq.graph.names import join_path, qualified_name
from fxq.qconfig_mapping import (
    QConfig,
    float16_dynamic_qconfig,
    float_qparams_weight_only_qconfig,
    float_qparams_weight_only_qconfig_4bit,
    per_row_dynamic_qconfig,
)
from fxq.qconfig_mapping.presence import nearest
from fxq.runtime.choice import wanted_runtime
from fxq.runtime.dynamic.op import DynamicOp

# types of torch that have a form that reads and writes float
_MODULES = tuple(dict.fromkeys([*DYNAMIC_MODULES, *WEIGHT_ONLY_MODULES]))


@dataclass(frozen=True)
class _Default:
    """What a dtype stands for.

    Attributes:
        qconfig: for what is named without one.
        types: what is replaced where nothing is named.
    """

    qconfig: QConfig
    types: tuple[type[nn.Module], ...]


# convolutions gain little time, and small ones none: they are quantized where they are named
_BYTES = _Default(per_row_dynamic_qconfig, (nn.Linear, *RECURRENT))
# by their names: torch's quantized dtypes are on their way out
_DEFAULTS: Mapping[str, _Default] = {
    "torch.int8": _BYTES,
    "torch.qint8": _BYTES,
    "torch.float16": _Default(float16_dynamic_qconfig, (nn.Linear, *RECURRENT)),
    "torch.quint8": _Default(float_qparams_weight_only_qconfig, (nn.Embedding, nn.EmbeddingBag)),
    "torch.quint4x2": _Default(float_qparams_weight_only_qconfig_4bit, (nn.Embedding, nn.EmbeddingBag)),
}

_OTHER_FORM = "give embeddings a QConfig of weights only in a dict, such as fxq.weight_only_qconfig(), and convolutions a dynamic one"

Key = type[nn.Module] | str
Wanted = Mapping[Key, QConfig | None]


def swap_dynamic(model: nn.Module, spec: Any, dtype: Any, *, inplace: bool, runtime: str) -> nn.Module:
    """See fxq.quantize_dynamic."""
    if has_form(type(model)):
        model = nn.Sequential(model)
        return swap_dynamic(model, spec, dtype, inplace=inplace, runtime=runtime)[0]  # type: ignore[index,no-any-return]
    wanted_runtime(runtime)
    wanted = _read_spec(spec, dtype)
    _require_present(model, wanted)
    changed = (model if inplace else copy_module(model)).eval()
    swap = _Swap(wanted)
    swap.below(changed, "", None)
    for module in changed.modules():
        if isinstance(module, DynamicOp):
            module.run_with(runtime)
    return changed


@dataclass
class _Swap:
    """Replaces modules of one model; one that stands in several places by one.

    Attributes:
        wanted: type or path → QConfig, or None to keep float.
        done: what stands in for a module.
    """

    wanted: Wanted
    done: dict[nn.Module, nn.Module] = field(default_factory=dict)

    def below(self, owner: nn.Module, path: str, inherited: QConfig | None) -> None:
        """Replaces what is inside the owner; what is said of a path holds for all below it."""
        for name, child in list(owner._modules.items()):
            if child is None:
                continue
            here = join_path(path, name)
            qconfig = self._asked(child, here, inherited)
            if child not in self.done:
                self.done[child] = self._made(child, here, qconfig) or child
            owner._modules[name] = self.done[child]
        call_parts(owner)

    def _asked(self, child: nn.Module, path: str, inherited: QConfig | None) -> QConfig | None:
        """By path first, then by type, then what the module around it was asked for."""
        keys = (path, type(child), spoken_for_by(type(child)))
        return next((self.wanted[key] for key in keys if key in self.wanted), inherited)

    def _made(self, child: nn.Module, path: str, qconfig: QConfig | None) -> nn.Module | None:
        if not has_form(type(child)):
            self.below(child, path, qconfig)
            return None
        if qconfig is None or child._forward_hooks or child._forward_pre_hooks:
            return None
        make = maker_of(type(child), qconfig)
        made = None if make is None else make(child, qconfig)
        return None if made is None else made.eval()


def _read_spec(spec: Any, dtype: Any) -> dict[Key, QConfig | None]:
    """A set of types and names, a dict of QConfigs, or None for all types that there are."""
    default = _DEFAULTS.get(str(dtype))
    if default is None:
        raise ConfigError(
            "dtype",
            expected="one of " + ", ".join(_DEFAULTS),
            found=str(dtype),
            remedy="use torch.int8, or give QConfigs in a dict",
        )
    given = default.types if spec is None else spec
    if isinstance(given, Mapping):
        found = dict(given)
    elif isinstance(given, Collection) and not isinstance(given, str):
        found = dict.fromkeys(given, default.qconfig)
    else:
        raise ConfigError(
            "qconfig_spec", expected="a set of module types and names, or a dict from these to QConfigs", found=repr(given),
            remedy="write {nn.Linear, nn.LSTM}",
        )  # fmt: skip
    for key, qconfig in found.items():
        _check_entry(key, qconfig)
    return found


def _check_entry(key: object, qconfig: object) -> None:
    if qconfig is None:
        return
    if not (isinstance(qconfig, QConfig) and qconfig.is_float_outside):
        raise ConfigError(
            f"qconfig_spec, {key}", expected="a QConfig, dynamic or of weights only, or None to keep float", found=str(qconfig),
            remedy="use fxq.per_channel_dynamic_qconfig, fxq.per_row_dynamic_qconfig or fxq.weight_only_qconfig()",
        )  # fmt: skip
    if isinstance(key, type):
        _check_type(f"qconfig_spec, {qualified_name(key)}", key, qconfig)


def _check_type(where: str, kind: type[nn.Module], qconfig: QConfig) -> None:
    """The type has a form for the QConfig."""
    if maker_of(kind, qconfig) is None:
        other = has_form(kind)
        raise ConfigError(
            where, expected="one of " + ", ".join(map(qualified_name, table_of(qconfig))),
            found=f"{qualified_name(kind)}, which has no form for: {qconfig}" if other else "a type without a dynamic form",
            remedy=_OTHER_FORM if other else "leave it out, or quantize the model with fxq.prepare_fx and fxq.convert_fx",
        )  # fmt: skip


def _require_present(model: nn.Module, wanted: Wanted) -> None:
    """Every name is one of the model's, and something is there to be quantized."""
    paths = {path: module for path, module in model.named_modules(remove_duplicate=False) if path}
    for name in (key for key in wanted if isinstance(key, str)):
        if name not in paths:
            near = nearest(name, list(paths)) or list(paths)[:8]
            raise ConfigError(
                f'qconfig_spec, "{name}"', expected="the path of a module", found="no module of this name",
                remedy=f"write one of {', '.join(near)}" if near else "leave it out: the model has no modules",
            )  # fmt: skip
        kind, qconfig = type(paths[name]), wanted[name]
        if qconfig is not None and has_form(kind):
            _check_type(f'qconfig_spec, "{name}"', kind, qconfig)
    if not any(has_form(type(module)) for module in paths.values()):
        raise ConfigError(
            "model", expected="at least one of " + ", ".join(map(qualified_name, _MODULES)), found="none",
            remedy="use fxq.prepare_fx and fxq.convert_fx, which also know functions",
        )  # fmt: skip
