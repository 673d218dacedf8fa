"""Measurements in processes of their own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def run_alone(measure: Callable[[T], R], subject: T) -> R:
    """measure(subject) on one thread of a new process: what it keeps in memory is gone afterwards."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_start) as executor:
        return executor.submit(measure, subject).result()


def _start() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
