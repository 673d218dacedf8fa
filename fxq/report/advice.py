"""ADVICE: what a user can do about each kind of reason."""

from __future__ import annotations

from collections.abc import Mapping

from fxq.graph.reasons import Why

ADVICE: Mapping[Why, str] = {
    Why.NO_QCONFIG: "no rule speaks of these: start from fxq.get_default_qconfig_mapping(), or use set_global",
    Why.SWITCHED_OFF: "a rule of your QConfigMapping keeps these float: leave it out to have them in int8",
    Why.UNKNOWN_OP: "write these with ops that fxq knows, or leave them float",
    Why.FLOAT_ONLY: "these have no integer form and compute in float between a dequantize and a quantize",
    Why.FLOAT_INPUT: "these read what float ops have made, and are as well off in float",
    Why.FLOAT_READERS: "only float ops read these: rounding them would gain nothing",
    Why.DTYPE: "int8 ops stand for float32 ones: model.float() before prepare_fx, or fxq.quantize_dynamic, which takes any float dtype",
    Why.MUTATED: "write x = x + y instead of x += y where a view of x is read later",
    Why.NOT_CONSTANT: "weights have to be parameters or buffers, attributes plain numbers",
    Why.OPERAND: "the way these are called has no integer form; each says what is in the way",
    Why.PROFILE: "ask in the QConfig for dtypes and ranges that the profile takes, or choose another profile",
    Why.DYNAMIC: "float between dynamic layers is as it should be; a calibrated QConfig (fxq.get_default_qconfig()) would make these int8",
    Why.WEIGHT_ONLY: "float beside layers with weights in few bits is as it should be; a dynamic or calibrated QConfig makes int8",
    Why.OTHER_QCONFIG: "name these in the QConfigMapping with the QConfig that each speaks of; fxq.quantize_dynamic needs no graph",
    Why.OVERFLOW: "their sums could leave int32: smaller weights or fewer inputs per channel would fit",
    Why.NO_ELEMENTS: "these read no element: nothing to gain",
    Why.SHARED: "the value in between is read by others too",
    Why.TRAINING: "call model.eval() before fxq.prepare_fx",
    Why.HOOKS: "remove the hooks before fxq.prepare_fx",
    Why.NOT_FUSABLE: "these stand where no rule can fuse them",
    Why.UNTRACEABLE: "torch.fx can't read these: they stay Python, and only what they call is compiled; rewrite the line, or leave it",
    Why.NOT_REACHED: "the example inputs do not lead to these, in a forward that stays Python: give others, or prepare these on their own",
    Why.KEPT_WHOLE: "your custom config keeps these as they are",
    Why.CUSTOM: "these quantize inside themselves, as your custom config says",
    Why.STANDALONE: "these are compiled on their own: report(model.get_submodule(path)) says how",
}
