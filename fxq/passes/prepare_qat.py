"""Float model in training mode → the same model with fake-quantize modules: trace and PREPARE_QAT, on a copy in evaluation mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from fxq.errors import ConfigError
from fxq.graph.copies import copy_module
from fxq.graph.module import FxqModule
from fxq.passes import PREPARE_QAT
from fxq.passes.pipeline import Context
from fxq.passes.prepare import PrepareOptions, prepare
from fxq.passes.whole import unwrap
from fxq.qat.trained import TrainedNorm


def prepare_qat(model: nn.Module, example_inputs: Any, context: Context, options: PrepareOptions) -> FxqModule:
    """A copy of the model, ready to be trained. Batch norms that are in evaluation mode stay frozen.

    It is traced as it will be deployed: what forward does in training only, like auxiliary classifiers, is left out. Dropout and
    batch norms go with the mode afterwards.

    Raises:
        ConfigError: the model is in evaluation mode; also as for prepare.
        CaptureError: as for prepare.
    """
    model = unwrap(model)
    if not model.training:
        raise ConfigError(
            "prepare_qat_fx",
            expected="a model in training mode",
            found="a model in evaluation mode",
            remedy="call model.train() before it; for calibration without training there is prepare_fx",
        )
    frozen = {path for path, module in model.named_modules() if not module.training}
    prepared = prepare(copy_module(model).eval(), example_inputs, context, replace(options, steps=PREPARE_QAT))
    for module in prepared.modules():
        if isinstance(module, TrainedNorm):
            module.frozen = module.path in frozen
    _keep_order(prepared, model)
    return prepared.train()


def _keep_order(module: nn.Module, model: nn.Module) -> None:
    """Submodules in the model's order, so that parameters are numbered as in an optimizer of the model."""
    children = module._modules
    names = [*(name for name in model._modules if name in children), *(name for name in children if name not in model._modules)]
    ordered = {name: children[name] for name in names}
    children.clear()
    children.update(ordered)
    for name, child in model._modules.items():
        inside = children.get(name)
        if child is not None and inside is not None and inside is not child:
            _keep_order(inside, child)
