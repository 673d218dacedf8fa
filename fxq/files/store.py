"""save and load."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from fxq.errors import FileError, StageError
from fxq.files.container import MOST_HEADER_BYTES, read_file, write_file
from fxq.files.reading import STAGES, Given, Unknown, build_model
from fxq.files.writing import contents_of
from fxq.graph.islands import graphs_of
from fxq.graph.module import FxqModule
from fxq.graph.names import qualified_name
from fxq.graph.opdef import OpDef
from fxq.lowering.executable import choose_executor, run_with
from fxq.runtime.dynamic.op import DynamicOp


def save(model: FxqModule, path: str | os.PathLike[str], *, known: Iterable[Any] = ()) -> None:
    """Stores a converted model in one file: its graph, all that `fxq.report` knows of it, and its tensors. No code is stored.

    The file is written beside its place and then put there: there is the whole new file, or what was there before.

    Args:
        model: from convert_fx, quantize, convert_to_reference_fx or fuse_fx.
        path: any name; `.fxq` is usual.
        known: functions and classes of yours that the graph calls, such as the dataclass that it returns. The file has their names only:
            give the same ones to `load`.

    Raises:
        FileError: something in the model has no form in a file, and nothing was written; or the file cannot be written.
        StageError: the model is not converted.
    """
    _require_stage(model)
    contents = contents_of(model, _by_name(known), f"fxq {_version()}")
    write_file(Path(path), contents)


# what to do with a model that is Python, with int8 layers in it
_SWAPPED = (
    "make a graph of it: fxq.convert_fx(fxq.prepare_fx(model, fxq.QConfigMapping(), example_inputs)) computes the same; or keep "
    "model.state_dict(), and load it into what fxq.quantize_dynamic makes of the float model with the same arguments"
)


def load(
    path: str | os.PathLike[str], *, runtime: str = "auto", known: Iterable[Any] = (), most_header_bytes: int = MOST_HEADER_BYTES
) -> FxqModule:
    """The model that `save` has stored, with the same bits in its results, and the same report.

    Files of strangers are safe to load: nothing in a file is run, only ops that fxq knows are built, and at most the size of the file and
    200 times the size of its header, which is 16 MiB at most, is taken as memory. What the model computes, once it is called, is up to
    whoever made it.

    Args:
        runtime: as for convert_fx.
        known: functions, classes and OpDefs of yours that the graph calls, as given to `save` and to `prepare_fx`.
        most_header_bytes: a file with a larger header, which has the graph, is refused. The default is enough for 7,000 int8 layers.

    Raises:
        FileError: there is no such file, it is damaged, no model, of a newer version, or needs something that was not given.
        ConfigError: there is no such runtime.
    """
    choose_executor(runtime)  # an error now, and not behind the work
    given = tuple(known)
    own_ops = tuple(each for each in given if isinstance(each, OpDef))
    contents = read_file(Path(path), most_header_bytes)
    try:
        model = build_model(contents, Given(_by_name(given), own_ops))
    except Unknown as error:
        raise _not_given(path, error.name) from error
    except FileError:
        raise
    except Exception as error:
        raise FileError(
            str(path),
            expected="a model that fxq.save has stored",
            found=f"{type(error).__name__}: {str(error)[:500]}",
            remedy="save the model again, with the fxq that has made it",
        ) from error
    run_with(model, runtime)
    return model


def _by_name(known: Iterable[Any]) -> dict[str, Any]:
    """Functions and classes by qualified name. A model has its OpDefs already."""
    return {qualified_name(each): each for each in known if not isinstance(each, OpDef)}


def _version() -> str:
    try:
        return version("fxq")
    except PackageNotFoundError:
        return "from source"


def _require_stage(model: Any) -> None:
    if isinstance(model, FxqModule) and model.stage in STAGES and all(graph.stage in STAGES for graph in graphs_of(model)):
        return
    is_graph = isinstance(model, FxqModule)
    found = f"a model at stage {model.stage.name}" if is_graph else f"a {type(model).__qualname__}"
    is_swapped = isinstance(model, nn.Module) and not is_graph and any(isinstance(each, DynamicOp) for each in model.modules())
    raise StageError(
        "fxq.save",
        expected="a graph: a model that fxq.convert_fx or fxq.quantize returned",
        found=f"{found} with layers that fxq.quantize_dynamic has replaced" if is_swapped else found,
        remedy=_SWAPPED if is_swapped else "convert it first; a prepared model is stored by its state_dict, a float one by torch.save",
    )


def _not_given(path: str | os.PathLike[str], name: str) -> FileError:
    short = name.rpartition(".")[2]
    return FileError(
        str(path),
        expected=f"{name} among `known`",
        found="nothing of that name: the graph calls it, and a file has names only",
        remedy=f"if you trust this function or class of yours: fxq.load(path, known=[{short}])",
    )
