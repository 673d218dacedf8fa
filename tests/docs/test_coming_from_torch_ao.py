"""docs/coming-from-torch-ao.md has every public name of torch.ao's FX mode, and names nothing of fxq that isn't there."""

from __future__ import annotations

import importlib
import re
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

import fxq.compat.torch_ao as compat
from fxq.compat.absent import ABSENT, MISSING
from fxq.compat.backend_config import BackendConfig, BackendPatternConfig
from fxq.errors import ConfigError
from tests.docs.blocks import DOCS, FENCED, read_blocks

PAGE = (DOCS / "coming-from-torch-ao.md").read_text(encoding="utf-8")
TABLES = PAGE.partition("## Every name")[2]

# the modules whose public names a script may use
MODULES = (
    "torch.ao.quantization",
    "torch.ao.quantization.quantize_fx",
    "torch.ao.quantization.qconfig_mapping",
    "torch.ao.quantization.qconfig",
    "torch.ao.quantization.fx.custom_config",
    "torch.ao.quantization.backend_config",
    "torch.ao.quantization.observer",
    "torch.ao.quantization.fake_quantize",
    "torch.ao.ns._numeric_suite",
    "torch.ao.ns._numeric_suite_fx",
)


@dataclass(frozen=True)
class Entry:
    """One name of the page's tables, and what the page says of it."""

    name: str
    here: str


def read_entries(text: str) -> list[Entry]:
    """| `a`, `b` | here | → an entry for each of a and b."""
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", text, re.MULTILINE)
    return [Entry(name, here) for names, here in rows for name in re.findall(r"`(\w+)`", names)]


def public_names(module: ModuleType) -> set[str]:
    """`__all__`, or what a module without one defines; what quantize_fx imports from torch.ao is used from there, too."""
    listed = getattr(module, "__all__", None)
    if listed:
        return set(listed)
    origin = "torch.ao.quantization" if module.__name__.endswith("quantize_fx") else module.__name__
    own = {name: getattr(value, "__module__", None) or "" for name, value in vars(module).items()}
    return {name for name, where in own.items() if not name.startswith("_") and where.startswith(origin)}


def all_names() -> dict[str, str]:
    """Public name of torch.ao → a module that has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: path for path in MODULES for name in public_names(importlib.import_module(path))}


def resolved(dotted: str) -> Any:
    """fxq.a.b → the object. Raises AttributeError or ImportError."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise ImportError(dotted)


ENTRIES = read_entries(TABLES)


def test_every_public_name_of_torch_ao_is_on_the_page() -> None:
    named = {entry.name for entry in ENTRIES}
    assert {name: path for name, path in all_names().items() if name not in named} == {}


def test_the_page_names_nothing_that_torch_ao_does_not_have() -> None:
    """A name that torch.ao has dropped may leave the page."""
    known = all_names()
    assert [entry.name for entry in ENTRIES if entry.name not in known] == []


def test_no_name_is_listed_twice() -> None:
    names = [entry.name for entry in ENTRIES]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_what_the_page_names_of_fxq_exists() -> None:
    for dotted in re.findall(r"`(fxq(?:\.\w+)+)`", FENCED.sub("", PAGE)):
        resolved(dotted)


def test_a_name_of_fxq_that_does_not_exist_is_found() -> None:
    for dotted in ("fxq.prepare_effects", "fxq.observers.Observer.nothing", "fxq.nothing.at_all"):
        with pytest.raises((AttributeError, ImportError)):
            resolved(dotted)


def test_what_is_the_same_can_be_imported_and_nothing_else() -> None:
    same = {entry.name for entry in ENTRIES if entry.here.startswith("same")}
    assert same == set(compat.__all__)
    assert all(hasattr(compat, name) for name in same)


def test_every_entry_is_same_or_later_or_no() -> None:
    assert [entry for entry in ENTRIES if not re.match(r"same\b|later: \w|no: [\w`]", entry.here)] == []


def test_what_is_absent_says_so_on_the_page_and_when_it_is_used() -> None:
    here = {entry.name: entry.here for entry in ENTRIES}
    for name, absent in ABSENT.items():
        assert here[name].startswith(("later: ", "no: ")), name
        assert getattr(compat, name) is absent
        for use in (absent, absent.with_args):
            with pytest.raises(ConfigError, match=name):
                use()
        with pytest.raises(ConfigError, match=name):
            compat.QConfigMapping().set_global(absent)
    assert len(ABSENT) == sum(len(missing.names) for missing in MISSING)
    with pytest.raises(ImportError):
        exec("from fxq.compat.torch_ao import QuantStub")


def test_setters_of_the_backend_classes_are_torch_aos() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = importlib.import_module("torch.ao.quantization.backend_config")
    for kind in (BackendConfig, BackendPatternConfig):
        setters = {name for name in dir(getattr(theirs, kind.__name__)) if name.startswith(("set_", "add_"))}
        assert setters == {name for name in dir(kind) if name.startswith(("set_", "add_"))}


def test_page_runs() -> None:
    blocks = read_blocks(PAGE)
    assert [block.language for block in blocks] == ["python"] * 3
    namespace: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks:
        exec(compile(block.text, "<documentation>", "exec"), namespace)  # the page's own code
    assert namespace["quantized_model"](*namespace["example_inputs"]).shape == (4, 4, 6, 6)
    assert namespace["prepared_model"].profile.name == "qnnpack"


def test_entries_are_read_from_tables_only() -> None:
    text = "| torch.ao | here |\n|---|---|\n| `a`, `b` | same; `fxq.c` |\ntext with `d` | and more |\n"
    assert read_entries(text) == [Entry("a", "same; `fxq.c`"), Entry("b", "same; `fxq.c`")]
