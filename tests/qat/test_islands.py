"""Training a model whose forward stays Python."""

from __future__ import annotations

import copy
import pickle

import torch

import fxq
from fxq.qat.trained import TrainedNorm
from tests.passes.test_open_islands import Outer, X


def trained(model: Outer) -> fxq.FxqModule:
    prepared = fxq.prepare_qat_fx(model, fxq.get_default_qat_qconfig_mapping("x86"), X)
    optimizer = torch.optim.SGD(prepared.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        sum(value.square().sum() for value in prepared(X).values()).backward()
        optimizer.step()
    return prepared


def test_what_islands_call_is_trained_and_converted() -> None:
    torch.manual_seed(0)
    model = Outer().train()
    before = copy.deepcopy(model.state_dict())
    prepared = trained(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    simulated = pickle.loads(pickle.dumps(prepared)).eval()(X)
    int8 = fxq.convert_fx(prepared.eval())
    assert fxq.report(int8).totals.macs_share_int8 == 1.0
    assert all((int8(X)[name] - simulated[name]).abs().max() < 0.01 for name in simulated)


def test_the_float_models_state_has_its_names_and_trained_values() -> None:
    torch.manual_seed(0)
    model = Outer().train()
    state = fxq.qat.float_state_dict(trained(model))
    assert set(state) == set(model.state_dict())
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, state[name])]
    assert {"stem.weight", "scaled.conv.weight", "inner.block.0.weight", "inner.block.1.running_mean", "heads.1.weight"} <= set(changed)


def test_frozen_batch_norms_stay_frozen() -> None:
    model = Outer().train()
    model.inner.block[1].eval()
    prepared = fxq.prepare_qat_fx(model, fxq.get_default_qat_qconfig_mapping("x86"), X)
    assert [(norm.path, norm.frozen) for norm in prepared.modules() if isinstance(norm, TrainedNorm)] == [("inner.block.1", True)]
