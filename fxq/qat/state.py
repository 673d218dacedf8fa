"""The float model's part of a model in training."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fxq.errors import StageError
from fxq.graph.module import FxqModule
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
    if not isinstance(module, FxqModule) or ADDED not in module._modules:
        raise StageError(
            "float_state_dict",
            expected="the model that prepare_qat_fx returned",
            found=type(module).__name__,
            remedy="call it before convert_fx",
        )
    return {name: value for name, value in module.state_dict().items() if not name.startswith(f"{ADDED}.")}
