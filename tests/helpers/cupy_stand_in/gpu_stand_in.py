"""One GPU of host memory, behind the stand-in for CuPy: streams, events, memory, and what went over the bus.

It proves that calls of CuPy exist and fit together, and that no wait is missing between streams. It shows nothing about
speed, rounding, or hardware. What it does that a GPU does too:

- A copy between page-locked memory and the device is done as late as is allowed: when something waits for it. What it
  goes to is poison until then; what it comes from must not change until then. Other work is done when it is given, so
  a host that does not wait for it is not always found; ooclearn.testing.device.FakeDevice, whose work is late, finds it.
- Each use of memory is compared with those before it. Two of which one writes, on different streams and with no event
  or synchronisation between them, are a `HazardError`, whichever would have come first. Memory that is let go is given again
  on the stream that it was made on, as CuPy's pool does, so that use by another stream is found there, too.
- Waits of the host are counted where it did not know yet that the work is done.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np

POISON = 0xFF
ALIGNMENT = 512
lock = threading.RLock()


class HazardError(AssertionError):
    """What a GPU would do differently from one time to the next, or not at all."""


@dataclass
class Ledger:
    """What was asked of the GPU: bytes and copies up and down, waits for all of a stream, waits for an event."""

    up: int = 0
    down: int = 0
    copies_up: int = 0
    copies_down: int = 0
    waits: int = 0
    event_waits: int = 0

    def sent(self, nbytes: int) -> None:
        self.up += nbytes
        self.copies_up += 1

    def fetched(self, nbytes: int) -> None:
        self.down += nbytes
        self.copies_down += 1


@dataclass
class Gpu:
    """The device, and what a test may set of it."""

    memory: int = 2**34
    page_locked: int = 2**34  # bytes of the host that may be page-locked
    devices: int = 1
    ledger: Ledger = field(default_factory=Ledger)
    hazards: list[str] = field(default_factory=list)
    host: dict[int, int] = field(default_factory=dict)  # what the host knows to be done, by stream
    queues: list[Queue] = field(default_factory=list)

    def hazard(self, text: str) -> None:
        self.hazards.append(text)
        raise HazardError(text)

    def forget(self) -> None:
        """Have nothing left of what went wrong on purpose."""
        with lock:
            self.hazards.clear()
            for queue in self.queues:
                queue.pending.clear()
                _join(self.host, queue.clock)


_numbers = itertools.count()


def _join(clock: dict[int, int], other: dict[int, int]) -> None:
    for number, tick in other.items():
        if clock.get(number, 0) < tick:
            clock[number] = tick


class Queue:
    """What a stream is given, in order; its clock says what of itself and of others comes before what it is given next."""

    def __init__(self, *, blocking: bool, device: int = 0) -> None:
        self.number = next(_numbers)
        self.device = device
        self.blocking = blocking
        self.clock: dict[int, int] = {}
        self.pending: deque = deque()
        with lock:
            gpu.queues.append(self)

    def begin(self) -> int:
        """Take a place behind all that was given before."""
        _join(self.clock, gpu.host)
        if self.blocking:  # the null stream waits for those that block, and they for it
            for other in gpu.queues:
                if other.blocking and other.device == self.device and (self in null or other in null):
                    _join(self.clock, other.clock)
        tick = self.clock[self.number] = self.clock.get(self.number, 0) + 1
        return tick

    def settle(self) -> None:
        """Let be done what comes before that is given next."""
        _settle(self.clock)

    def later(self, tick: int, run) -> None:
        self.pending.append((tick, dict(self.clock), run))

    def mark(self) -> dict[int, int]:
        """Return what an event stands for that is recorded now."""
        with lock:
            self.begin()
            return dict(self.clock)

    def synchronize(self) -> None:
        with lock:
            if self in null:
                for other in gpu.queues:
                    if other.blocking and other.device == self.device:
                        _join(self.clock, other.clock)
            if self.clock.get(self.number, 0) > gpu.host.get(self.number, 0):
                gpu.ledger.waits += 1
            known(self.clock)


def known(clock: dict[int, int]) -> None:
    """Take note that the host knows that this much is done."""
    with lock:
        _join(gpu.host, clock)
        _settle(clock)


def _settle(clock: dict[int, int]) -> None:
    for queue in gpu.queues:
        while queue.pending and queue.pending[0][0] <= clock.get(queue.number, 0):
            _, before, run = queue.pending.popleft()
            _settle(before)
            run()


class Chunk:
    """Memory of the device, and who uses it."""

    _next = 0x7F0000000000

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        skip = -raw.ctypes.data % ALIGNMENT
        self.memory = raw[skip : skip + nbytes]
        self.address = self.memory.ctypes.data
        self.ptr, Chunk._next = Chunk._next, Chunk._next + nbytes + ALIGNMENT
        self.queue = self.device = -1
        self.uses: list[tuple[int, int, int, int, bool]] = []

    def note(self, lo: int, hi: int, queue: Queue, tick: int, *, write: bool) -> None:
        """Take note of a use of bytes `lo` to `hi`, or say with which other it collides."""
        kept = []
        for use in self.uses:
            begin, end, other, when, wrote = use
            if when <= gpu.host.get(other, 0):
                continue
            if begin < hi and lo < end:
                if (write or wrote) and queue.clock.get(other, 0) < when:
                    verbs = ["reads", "writes"]
                    gpu.hazard(
                        f"stream {queue.number} {verbs[write]} bytes {lo} to {hi} of memory that stream {other} "
                        f"{verbs[wrote]} ({begin} to {end}), and does not wait for it"
                    )
                if lo <= begin and end <= hi and (write or (not wrote and other == queue.number)):
                    continue
            kept.append(use)
        kept.append((lo, hi, queue.number, tick, write))
        self.uses = kept


class Pool:
    """CuPy's pool: memory that is let go is given again on the same stream."""

    def __init__(self) -> None:
        self.limit = 0
        self.total = 0
        self.used = 0
        self.free: dict[tuple[int, int], list[Chunk]] = {}
        self.returned: deque[Chunk] = deque()

    def tidy(self) -> None:
        while self.returned:
            chunk = self.returned.popleft()
            self.used -= chunk.nbytes
            self.free.setdefault((chunk.queue, chunk.nbytes), []).append(chunk)

    def get(self, nbytes: int, queue: Queue) -> Chunk | None:
        """Return memory for the work of a stream; None if there is none left."""
        nbytes = -(-nbytes // ALIGNMENT) * ALIGNMENT
        with lock:
            self.tidy()
            found = self.free.get((queue.number, nbytes))
            if found:
                chunk = found.pop()
            else:
                most = min(self.limit or gpu.memory, gpu.memory)
                if self.total + nbytes > most:
                    self.free_all()
                if self.total + nbytes > most:
                    gc.collect()
                    self.free_all()
                if self.total + nbytes > most:
                    return None
                chunk = Chunk(nbytes)
                chunk.queue, chunk.device = queue.number, queue.device
                self.total += nbytes
            self.used += nbytes
            return chunk

    def free_all(self) -> None:
        with lock:
            self.tidy()
            for queue in list(gpu.queues) if self.free else ():  # as cudaFree does
                queue.synchronize()
            self.total -= sum(chunk.nbytes for chunks in self.free.values() for chunk in chunks)
            self.free.clear()

    def free_bytes(self) -> int:
        with lock:
            self.tidy()
            return self.total - self.used


class Pinned:
    """Page-locked memory: made in powers of two, poisoned when let go, and then given again."""

    def __init__(self) -> None:
        self.all: list[np.ndarray] = []
        self.free: dict[int, list[np.ndarray]] = {}

    def get(self, nbytes: int):
        """Return an object with a buffer of so many bytes, which gives its memory back in the end; None if there is none."""
        size = ALIGNMENT
        while size < nbytes:
            size *= 2
        with lock:
            free = self.free.get(size)
            if free:
                memory = free.pop()
            else:
                if sum(map(len, self.all)) + size > gpu.page_locked:
                    return None
                memory = np.full(size, POISON, np.uint8)
                self.all.append(memory)
        held = _held(nbytes).from_buffer(memory)
        held.home = (self, memory)
        return held

    def give(self, memory: np.ndarray) -> None:
        with lock:
            memory[:] = POISON
            self.free.setdefault(len(memory), []).append(memory)

    def free_all(self) -> None:
        with lock:
            gone = {id(one) for free in self.free.values() for one in free}
            self.all = [one for one in self.all if id(one) not in gone]
            self.free.clear()

    def find(self, ptr: int, nbytes: int = 1) -> np.ndarray | None:
        """Return page-locked bytes at an address."""
        for memory in self.all:
            start = memory.ctypes.data
            if start <= ptr and ptr + nbytes <= start + len(memory):
                return memory[ptr - start : ptr - start + nbytes]
        return None


def _held(nbytes: int) -> type:
    def give(self) -> None:
        pool, memory = self.home
        pool.give(memory)

    return type("PinnedMemoryPointer", (ctypes.c_uint8 * nbytes,), {"__del__": give})


gpu = Gpu()
null: list[Queue] = []  # of each device
null += [Queue(blocking=True, device=k) for k in range(2)]
pool = Pool()
pinned = Pinned()
