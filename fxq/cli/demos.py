"""fxq demo and qat-demo: what fxq does, on networks that it trains itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from fxq.cli.command import Command
from fxq.demo.qat import QATRecipe, run_qat_demo
from fxq.demo.run import run_demo
from fxq.demo.train import Recipe

_DEMO = """\
Trains two small networks on scikit-learn's images of digits, quantizes each
in three ways, and compares them. Takes one to two minutes.
"""

_QAT_DEMO = """\
Trains a small MobileNetV2 on distorted images of digits, quantizes it by
calibration and by training, and prints what each way loses. Takes some
minutes.
"""


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("fxq-demo"), metavar="DIR", help="folder for results (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the training (default: %(default)s)")


def _demo(arguments: argparse.Namespace) -> int:
    run_demo(arguments.out, Console(), Recipe(seed=arguments.seed))
    return 0


def _add_qat_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of distortions and training (default: %(default)s)")


def _qat_demo(arguments: argparse.Namespace) -> int:
    run_qat_demo(Console(), QATRecipe(seed=arguments.seed))
    return 0


DEMO = Command("demo", "train, quantize and compare two small networks", _DEMO, _add_demo, _demo)
QAT_DEMO = Command("qat-demo", "what training gains over calibration", _QAT_DEMO, _add_qat_demo, _qat_demo)
