"""fxq convert: a saved model → ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

from fxq.cli.command import Command, add_json, show_values, write
from fxq.cli.files import ABOUT_FILES, load_model, require_writable
from fxq.cli.look import add_file
from fxq.export import export_onnx
from fxq.report.wording import plural

_DESCRIPTION = f"""\
Writes a saved model as ONNX: float operators between QuantizeLinear and
DequantizeLinear, with weights in int8, as ONNX Runtime, OpenVINO and others
read it. Needs the package onnx: pip install fxq[onnx]

{ABOUT_FILES}"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to write it: model.onnx")
    parser.add_argument("--opset", type=int, default=17, metavar="N", help="of ONNX, 17 to 21 (default: %(default)s)")
    parser.add_argument("--fixed-batch", action="store_true", help="dimension 0 has the length that the model was prepared with")
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    require_writable(arguments.out, "model.onnx")
    made = export_onnx(load_model(arguments.model), arguments.out, opset=arguments.opset, dynamic_batch=not arguments.fixed_batch)
    stays_float = {reason.node: reason.detail for reason in made.stays_float}
    if arguments.json:
        names = {"path": str(made.path), "opset": made.opset, "inputs": list(made.inputs), "outputs": list(made.outputs)}
        show_values({**names, "bytes": made.bytes, "quantized": made.quantized, "stays_float": stays_float})
        return 0
    size = f"{made.bytes / 1000:,.1f} kB"
    write(f"wrote {made.path} ({size}, opset {made.opset}): {plural(made.quantized, 'quantized value')}; inputs {', '.join(made.inputs)}")
    for node, detail in stays_float.items():
        write(f"  {node} is float: {detail}")
    return 0


CONVERT = Command("convert", "write a saved model as ONNX", _DESCRIPTION, _add_arguments, _run)
