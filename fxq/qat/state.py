"""The float model's part of a model in training."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fxq.errors import StageError
from fxq.graph.islands import graphs_of, islands_of, path_of
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.patterns.trainable import ADDED


def float_state_dict(prepared: nn.Module) -> dict[str, Tensor]:
    """The state_dict of the float model, with the parameters and statistics that training has come to: the same keys, in order.

    The other way, `prepared.load_state_dict(float_model.state_dict(), strict=False)` takes a float checkpoint in.

    Args:
        prepared: from prepare_qat_fx; in DistributedDataParallel or not.

    Raises:
        StageError: it is another model.
    """
    module = prepared.module if isinstance(prepared, DistributedDataParallel) else prepared
    graphs = graphs_of(module) if isinstance(module, FxqModule) else []
    if not any(ADDED in graph._modules for graph in graphs):
        raise StageError(
            "float_state_dict",
            expected="the model that prepare_qat_fx returned",
            found=type(module).__name__,
            remedy="call it before convert_fx",
        )
    paths = {path: inside for path, inside in module.named_modules() if inside in graphs}
    names = {key: _name_in_model(key, paths) for key in module.state_dict()}
    return {names[key]: value for key, value in module.state_dict().items() if names[key]}


def _name_in_model(key: str, graphs: dict[str, nn.Module]) -> str:
    """The key of the float model that a key of ours is about; "" for what was added.

    Args:
        graphs: where graphs are: the model itself, and those that stand in its islands.
    """
    path = max((path for path in graphs if not path or key.startswith(f"{path}.")), key=len)
    graph, rest = graphs[path], key.removeprefix(f"{path}.") if path else key
    assert isinstance(graph, FxqModule)
    if rest.startswith(f"{ADDED}."):
        return ""
    whole = next((f"{node.target}." for node in islands_of(graph) if not path_of(node, graph)), "")  # the model itself
    return join_path(graph.path, rest.removeprefix(whole))
