"""`python -m fxq.demo`: trains both networks and shows what they reach."""

from __future__ import annotations

import time

from rich.console import Console
from rich.table import Table

from fxq.demo.digits import load_digits
from fxq.demo.models import MobileNetDigits, ResNetDigits
from fxq.demo.train import train

NETWORKS = (ResNetDigits, MobileNetDigits)


def main() -> None:
    """Under a minute on two cores."""
    console = Console()
    digits = load_digits()
    table = Table("network", "parameters", "accuracy", "training")
    for network in NETWORKS:
        start = time.perf_counter()
        trained = train(network, digits, console=console)
        seconds = time.perf_counter() - start
        parameters = sum(parameter.numel() for parameter in trained.model.parameters())
        table.add_row(network.__name__, f"{parameters:,}", f"{trained.accuracy:.2f} %", f"{seconds:.0f} s")
    console.print(table)


if __name__ == "__main__":
    main()
