"""Compiling without Python's search for reference cycles, which would walk through the whole growing model again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_cycle_collection() -> Iterator[None]:
    """Python's cycle collector pauses inside, if it is on; also a decorator.

    Compiling makes hundreds of long-lived objects per node and hardly any garbage but erased nodes. The collector visits all
    objects of the process each time that a quarter more have been made: up to a third of the time of a large graph, for a few
    kilobytes per erased node, which the first collection afterwards finds. Reference counting goes on, so tensors are freed as ever.
    The switch belongs to the process: cycles that other threads drop meanwhile wait for that collection, too.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
