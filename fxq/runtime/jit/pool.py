"""The threads that programs are shared out among: one set for the process, as many as torch uses."""

from __future__ import annotations

import ctypes
import os
import threading

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.arena import aligned_bytes
from fxq.runtime.jit.driver import CONDITION, MUTEX, POOL_WORDS, block_bytes, driver


class WorkerPool:
    """Runs one program at a time on several threads; who finds it busy runs alone.

    Threads start when they are first asked for, sleep when nothing runs, and end with the process. A forked child starts its own.
    """

    def __init__(self) -> None:
        self._memory = aligned_bytes(8 * POOL_WORDS)
        self._busy = threading.Lock()
        self._workers = 0
        for name, word in (("pthread_mutex_init", MUTEX), ("pthread_cond_init", CONDITION)):
            _check(name, getattr(ctypes.CDLL(None), name)(ctypes.c_void_p(self._memory.ctypes.data + 8 * word), None))

    def run(self, block: NDArray[np.int64], threads: int) -> bool:
        """Whether the program of the control block was run; not where the pool was busy."""
        if not self._busy.acquire(blocking=False):
            return False
        try:
            self._start(threads - 1)
            driver().run_shared(self._memory.ctypes.data, block.ctypes.data)
        finally:
            self._busy.release()
        return True

    def _start(self, workers: int) -> None:
        while self._workers < workers:
            self._workers += 1
            arguments = (self._memory.ctypes.data, self._workers)
            threading.Thread(target=driver().work, args=arguments, daemon=True, name=f"fxq worker {self._workers}").start()


def _check(function: str, error: int) -> None:
    if error:
        raise OSError(error, f"{function}: {os.strerror(error)}")


class ControlBlocks:
    """Memory of control blocks. It is never given back to the system: a thread that wakes up late may still look at it."""

    def __init__(self) -> None:
        self._free: dict[int, list[NDArray[np.int64]]] = {}

    def take(self, stages: int, threads: int) -> NDArray[np.int64]:
        """A block for that many stages and threads, of zeros: runs count from 1, so that no queue belongs to one."""
        size = block_bytes(stages, threads)
        free = self._free.setdefault(size, [])
        block = free.pop() if free else aligned_bytes(size).view(np.int64)
        block[:] = 0
        return block

    def give_back(self, block: NDArray[np.int64]) -> None:
        """For the next program of that size."""
        self._free.setdefault(block.nbytes, []).append(block)


_pool: WorkerPool | None = None
_starting = threading.Lock()
BLOCKS = ControlBlocks()


def worker_pool() -> WorkerPool:
    """The pool of this process."""
    global _pool
    if _pool is None:
        with _starting:
            if _pool is None:
                _pool = WorkerPool()
    return _pool


def _forget_pool() -> None:
    """A child has none of its parent's threads."""
    global _pool, _starting
    _pool, _starting = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
