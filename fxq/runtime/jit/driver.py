"""The functions that run a table of calls: on one thread, or shared out among several.

All threads run the same stages. A stage is cut into chunks, as many for each thread; a thread takes those of its own queue, then those
of the others, and the stage is over when its chunks are done: nobody waits for a thread that is not running. The head of a queue is
tagged with the number of the run, and chunks are taken by compare-and-exchange, so that a thread that wakes up late takes none.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir

from fxq.runtime.jit.compile import build_engine, new_module
from fxq.runtime.jit.ir import I32, I64, KERNEL_TYPE, PTR, VOID, Emitter, Value, i64
from fxq.runtime.jit.isa import Isa

# words of a row of the table of calls: address of the kernel, address of its words, units
CALL_WORDS = 3
# words of a row of the table of stages: first call, number of calls, chunks of each thread; 0 chunks: one for all threads
STAGE_WORDS = 3
# words of a control block before its table of stages, behind which come its queues: threads, stages, table of calls
BLOCK_WORDS = 8
# words of the pool's own memory: one cache line each, which has room for a pthread_mutex_t and for a pthread_cond_t on every system
EPOCH, JOB, SLEEPERS, MUTEX, CONDITION, POOL_WORDS = 0, 8, 16, 24, 32, 40

_LINE = 64
# turns of waiting for work before a thread goes to sleep, about 0.1 to 0.2 ms; and turns between two offers of the core to others
_PATIENCE, _OFFER = 3000, 64


@dataclass(frozen=True)
class Driver:
    """Addresses as functions; all of them run without the interpreter's lock.

    Attributes:
        run_alone: (table of calls, rows): every call, all of its units.
        run_shared: (pool's memory, control block): the caller is thread 0; returns when all is done.
        work: (pool's memory, thread number): what the other threads do until the process ends.
        engine: what owns the machine code.
    """

    run_alone: Callable[[int, int], None]
    run_shared: Callable[[int, int], None]
    work: Callable[[int, int], None]
    engine: Any


@cache
def driver() -> Driver:
    """Compiled once."""
    module = new_module()
    _write_run_alone(module)
    share = _write_share(module)
    _write_run_shared(module, share)
    _write_work(module, share)
    engine = build_engine(module, Isa())

    def function(name: str, second: Any) -> Any:
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p, second)(engine.get_function_address(name))

    return Driver(function("run_alone", ctypes.c_int64), function("run_shared", ctypes.c_void_p), function("work", ctypes.c_int64), engine)


def block_bytes(stages: int, threads: int) -> int:
    """Size of a control block: its words, the table of stages, a line for each queue of each stage and one for what is done."""
    table = -(-stages * 8 * STAGE_WORDS // _LINE) * _LINE
    return 8 * BLOCK_WORDS + table + stages * (threads + 1) * _LINE


def _write_run_alone(module: Any) -> None:
    e = Emitter(module, "run_alone", ir.FunctionType(VOID, [PTR, I64]))
    table, rows = e.arguments

    def call(row: Value, _: Any) -> None:
        here = e.at(table, e.mul(row, 8 * CALL_WORDS))
        _call_kernel(e, here, i64(0), e.load(here, I64, 16, 8))

    e.loop(0, rows, call)
    e.b.ret_void()


def _call_kernel(e: Emitter, row: Value, begin: Value, end: Value) -> None:
    kernel = e.load(row, KERNEL_TYPE.as_pointer(), 0, 8)
    e.b.call(kernel, [e.load(row, PTR, 8, 8), begin, end])


@dataclass(frozen=True)
class _Block:
    """Reads a control block."""

    e: Emitter
    pointer: Value

    def word(self, number: int, type: Any = I64) -> Value:
        return self.e.load(self.pointer, type, 8 * number, 8)

    def line(self, stage: Value, queue: Value, threads: Value) -> Value:
        """Of a queue of a stage; that of number `threads` counts what is done."""
        e = self.e
        number = e.b.add(e.b.mul(stage, e.b.add(threads, i64(1))), queue)
        return e.at(self.queues, e.b.mul(number, i64(_LINE)))

    def stage(self, number: Value) -> Value:
        """Its row in the table of stages."""
        return self.e.at(self.pointer, self.e.b.add(self.e.b.mul(number, i64(8 * STAGE_WORDS)), i64(8 * BLOCK_WORDS)))

    @property
    def queues(self) -> Value:
        """The first line, behind the table of stages."""
        b = self.e.b
        table = b.add(b.mul(self.word(1), i64(8 * STAGE_WORDS)), i64(_LINE - 1))
        return self.e.at(self.pointer, b.add(b.and_(table, i64(-_LINE)), i64(8 * BLOCK_WORDS)))


@dataclass(frozen=True)
class _Share:
    """Writes how one thread takes part in a run.

    Attributes:
        block: the control block.
        tag: of this run, in the upper half of the heads of its queues.
        stale: where to leave for when the run is over.
    """

    e: Emitter
    block: _Block
    tag: Value
    stale: Any

    def take_chunks(self, line: Value, each: Value, body: Callable[[Value], None]) -> None:
        """body(chunk) for chunks of a queue, until it is empty; leaves where the queue belongs to another run."""
        b, new = self.e.b, self.e.function.append_basic_block
        claim, live, take, run, empty = (new(name) for name in ("claim", "live", "take", "run", "empty"))
        b.branch(claim)
        b.position_at_end(claim)
        head = b.load_atomic(line, "monotonic", 8, typ=I64)
        chunk = b.sub(head, self.tag)
        b.cbranch(b.icmp_unsigned("<=", chunk, each), live, self.stale)
        b.position_at_end(live)
        b.cbranch(b.icmp_unsigned("<", chunk, each), take, empty)
        b.position_at_end(take)
        taken = b.cmpxchg(line, head, b.add(head, i64(1)), "acq_rel", "monotonic")
        b.cbranch(b.extract_value(taken, 1), run, claim)
        b.position_at_end(run)
        body(chunk)
        b.branch(claim)
        b.position_at_end(empty)

    def run_chunk(self, stage: Value, number: Value, chunk: Value, chunks: Value) -> None:
        """That share of the units of every call of the stage; then one chunk more is done."""
        e, b = self.e, self.e.b
        first, calls = e.load(stage, I64, 0, 8), e.load(stage, I64, 8, 8)

        def call(index: Value, _: Any) -> None:
            row = e.at(self.block.word(2, PTR), b.mul(b.add(first, index), i64(8 * CALL_WORDS)))
            units = e.load(row, I64, 16, 8)
            begin, end = (b.udiv(b.mul(units, n), chunks) for n in (chunk, b.add(chunk, i64(1))))
            e.when(b.icmp_unsigned("<", begin, end), lambda: _call_kernel(e, row, begin, end))

        e.loop(0, calls, call)
        threads = self.block.word(0)
        b.atomic_rmw("add", self.block.line(number, threads, threads), i64(1), "release")


def _write_share(module: Any) -> Any:
    """share(pool, block, thread, epoch): takes part in every stage of that run; returns at once when it is over."""
    e = Emitter(module, "share", ir.FunctionType(VOID, [PTR, PTR, I64, I64]))
    pool, pointer, thread, epoch = e.arguments
    b, block = e.b, _Block(e, pointer)
    threads, stages = block.word(0), block.word(1)
    share = _Share(e, block, b.shl(epoch, i64(32)), e.function.append_basic_block("stale"))

    def stage(number: Value, _: Any) -> None:
        row = block.stage(number)
        own = e.load(row, I64, 16, 8)
        is_single = b.icmp_signed("==", own, i64(0))
        chunks = e.select(is_single, 1, b.mul(threads, own))
        queues, each = e.select(is_single, 1, threads), e.select(is_single, 1, own)

        def queue(turn: Value, _: Any) -> None:
            place = b.urem(b.add(thread, turn), queues)
            line = block.line(number, place, threads)
            share.take_chunks(line, each, lambda chunk: share.run_chunk(row, number, b.add(b.mul(place, each), chunk), chunks))

        e.loop(0, queues, queue)
        done, complete = block.line(number, threads, threads), b.add(share.tag, chunks)
        over = e.function.append_basic_block("over")

        def is_complete() -> Value:
            return b.icmp_unsigned("==", b.load_atomic(done, "acquire", 8, typ=I64), complete)

        def is_stale() -> Value:
            return b.icmp_unsigned("!=", b.load_atomic(pool, "acquire", 8, typ=I64), epoch)

        _wait(e, [(is_complete, over), (is_stale, share.stale)])
        b.position_at_end(over)

    e.loop(0, stages, stage)
    b.branch(share.stale)
    b.position_at_end(share.stale)
    b.ret_void()
    return e.function


def _wait(e: Emitter, ends: list[tuple[Callable[[], Value], Any]], *, patience: tuple[int, Any] | None = None) -> None:
    """Until one of the conditions holds, then to its block; after `patience` turns to that block. Offers its core to others."""
    b, new = e.b, e.function.append_basic_block
    before, head, offer, following = b.block, new("wait"), new("offer"), new("following")
    b.branch(head)
    b.position_at_end(head)
    turn = b.phi(I64)
    turn.add_incoming(i64(1), before)
    for condition, target in ends:
        other = new("other")
        b.cbranch(condition(), target, other)
        b.position_at_end(other)
    if patience is not None:
        other = new("other")
        b.cbranch(b.icmp_unsigned(">", turn, i64(patience[0])), patience[1], other)
        b.position_at_end(other)
    if str(e.module.triple).startswith(("x86", "i686", "amd64")):
        e.call("llvm.x86.sse2.pause", VOID, [])
    b.cbranch(b.icmp_unsigned("==", b.urem(turn, i64(_OFFER)), i64(0)), offer, following)
    b.position_at_end(offer)
    e.call("sched_yield", I32, [])
    b.branch(following)
    b.position_at_end(following)
    turn.add_incoming(b.add(turn, i64(1)), following)
    b.branch(head)


def _write_run_shared(module: Any, share: Any) -> None:
    """Tags all queues with a new run, tells the others, and takes part."""
    e = Emitter(module, "run_shared", ir.FunctionType(VOID, [PTR, PTR]))
    pool, pointer = e.arguments
    b, block = e.b, _Block(e, pointer)
    epoch = b.add(b.load_atomic(pool, "monotonic", 8, typ=I64), i64(1))
    tag = b.shl(epoch, i64(32))
    lines, queues = b.mul(block.word(1), b.add(block.word(0), i64(1))), block.queues

    def reset(number: Value, _: Any) -> None:
        # llvmlite has no atomic store for untyped pointers
        b.atomic_rmw("xchg", e.at(queues, b.mul(number, i64(_LINE))), tag, "monotonic")

    e.loop(0, lines, reset)
    b.atomic_rmw("xchg", e.at(pool, 8 * JOB), b.ptrtoint(pointer, I64), "monotonic")
    b.atomic_rmw("xchg", pool, epoch, "seq_cst")
    sleepers = b.load_atomic(e.at(pool, 8 * SLEEPERS), "seq_cst", 8, typ=I64)
    e.when(b.icmp_signed(">", sleepers, i64(0)), lambda: _holding_mutex(e, pool, lambda: _signal_all(e, pool)))
    b.call(share, [pool, pointer, i64(0), epoch])
    b.ret_void()


def _holding_mutex(e: Emitter, pool: Value, body: Callable[[], None]) -> None:
    mutex = e.at(pool, 8 * MUTEX)
    e.call("pthread_mutex_lock", I32, [mutex])
    body()
    e.call("pthread_mutex_unlock", I32, [mutex])


def _signal_all(e: Emitter, pool: Value) -> None:
    e.call("pthread_cond_broadcast", I32, [e.at(pool, 8 * CONDITION)])


def _sleep(e: Emitter, pool: Value, is_new: Callable[[], Value]) -> None:
    """Until there is a new run. Either it sees that a thread sleeps, or the thread sees it before it sleeps."""
    b, new = e.b, e.function.append_basic_block
    look, doze, awake = (new(name) for name in ("look", "doze", "awake"))
    b.branch(look)
    b.position_at_end(look)
    b.cbranch(is_new(), awake, doze)
    b.position_at_end(doze)
    e.call("pthread_cond_wait", I32, [e.at(pool, 8 * CONDITION), e.at(pool, 8 * MUTEX)])
    b.branch(look)
    b.position_at_end(awake)


def _write_work(module: Any, share: Any) -> None:
    """Waits for a new run, first awake, then asleep; takes part where there is a place for this thread."""
    e = Emitter(module, "work", ir.FunctionType(VOID, [PTR, I64]))
    pool, thread = e.arguments
    b, new = e.b, e.function.append_basic_block
    top, busy, idle, join = (new(name) for name in ("top", "busy", "idle", "join"))
    first, entry = i64(0), b.block
    b.branch(top)
    b.position_at_end(top)
    last = b.phi(I64)
    last.add_incoming(first, entry)

    def is_new() -> Value:
        return b.icmp_unsigned("!=", b.load_atomic(pool, "seq_cst", 8, typ=I64), last)

    _wait(e, [(is_new, busy)], patience=(_PATIENCE, idle))
    b.position_at_end(idle)
    sleepers = e.at(pool, 8 * SLEEPERS)
    b.atomic_rmw("add", sleepers, i64(1), "seq_cst")
    _holding_mutex(e, pool, lambda: _sleep(e, pool, is_new))
    b.atomic_rmw("sub", sleepers, i64(1), "seq_cst")
    b.branch(busy)
    b.position_at_end(busy)
    epoch = b.load_atomic(pool, "acquire", 8, typ=I64)
    job = b.inttoptr(b.load_atomic(e.at(pool, 8 * JOB), "acquire", 8, typ=I64), PTR)
    last.add_incoming(epoch, busy)
    b.cbranch(b.icmp_unsigned("<", thread, e.load(job, I64, 0, 8)), join, top)
    b.position_at_end(join)
    b.call(share, [pool, job, thread, epoch])
    last.add_incoming(epoch, join)
    b.branch(top)
