"""The command `fxq`: quantizing one's own model, looking at the result, measuring and shipping it."""

from fxq.cli.main import main

__all__ = ["main"]
