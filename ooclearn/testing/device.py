"""A device without hardware: array-api-strict's second one, behind streams that run late and memory that is poisoned."""

from __future__ import annotations

import queue
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from ooclearn.backend import register
from ooclearn.blocks import Blocks
from ooclearn.folding import ThreadedReading
from ooclearn.ring import Ledger
from ooclearn.rowmaps import RowMap
from ooclearn.sending import SendingReading
from ooclearn.sources import SourceBlocks
from ooclearn.storage.arrays import ArraySource
from ooclearn.testing.syncs import values_of
from ooclearn.types import Array

__all__ = ["FakeBackend", "FakeDevice", "register_fake"]

T = TypeVar("T")

NAME = "device"
# Of array-api-strict; it refuses to be mixed with others, and makes float32 where nothing is said.
DEVICE = "device2"


class FakeEvent:
    """A mark in the work of a stream, with the meaning that CUDA's have: a wait is for the last record before it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.recorded = 0
        self._come = 0

    def complete(self, ticket: int) -> None:
        with self._changed:
            self._come = max(self._come, ticket)
            self._changed.notify_all()

    def wait_for(self, ticket: int) -> None:
        with self._changed:
            while self._come < ticket:
                self._changed.wait()

    def synchronize(self) -> None:
        """Wait on the host until the stream has come to the mark."""
        self.wait_for(self.recorded)


class FakeStream:
    """A thread that does in order what it is given, each a little late."""

    def __init__(self, name: str, seed: int, delay: float) -> None:
        self._name = name
        self._random = random.Random(seed)  # noqa: S311  (delays, no secrets)
        self._delay = delay
        self._given: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.failed: BaseException | None = None

    def start(self) -> None:
        self.failed = None
        self._thread = threading.Thread(target=self._work, name=f"fake-{self._name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        assert self._thread is not None
        self._given.put(None)
        self._thread.join()
        self._thread = None

    def _work(self) -> None:
        while (task := self._given.get()) is not None:
            if self._delay:
                time.sleep(self._random.uniform(0, self._delay))
            task()

    def give(self, task: Callable[[], Any]) -> None:
        self._given.put(task)

    def wait(self, event: FakeEvent, /) -> None:
        """Let what is given from now on begin after `event`."""
        ticket = event.recorded
        self.give(lambda: event.wait_for(ticket))

    def record(self, event: FakeEvent, /) -> None:
        """Set the mark behind what has been given."""
        event.recorded += 1
        ticket = event.recorded
        self.give(lambda: event.complete(ticket))


class FakeDevice:
    """A :class:`~ooclearn.ring.Device` of threads.

    Parameters
    ----------
    delay : float
        Seconds by which each thing given to a stream may be late.
    seed : int
        Of the delays.
    memory : int
        Bytes that rooms may take together.

    Attributes
    ----------
    ledger : Ledger
        What was moved, and how often the device was waited for.
    taken, most_taken : int
        Bytes that rooms take now, and the most that they have taken at a time.
    """

    def __init__(self, *, delay: float = 0.0, seed: int = 0, memory: int = 2**40) -> None:
        self.ledger = Ledger()
        self.memory = memory
        self.taken = self.most_taken = 0
        self._counted = threading.RLock()  # what is let go may be collected at any time, in any thread
        self.copying = FakeStream("copy", seed, delay)
        self.computing = FakeStream("compute", seed + 1, delay)
        self.fetching = FakeStream("fetch", seed + 2, delay)
        self._locked: list[Array] = []

    @contextmanager
    def working(self) -> Iterator[None]:
        """Have the streams run for the length of a ``with`` block."""
        streams = (self.copying, self.computing, self.fetching)
        for stream in streams:
            stream.start()
        try:
            yield
        finally:
            for stream in streams:
                stream.stop()

    def event(self) -> FakeEvent:
        """Return a new event."""
        return FakeEvent()

    def pinned(self, nbytes: int, /) -> Array:
        """Return host memory, poisoned."""
        return np.full(nbytes, 0xFF, dtype=np.uint8)

    def page_lock(self, values: Array, /) -> Array:
        """Return an array of the host as one that lies in page-locked memory from now on."""
        self._locked.append(values)
        return values

    def is_pinned(self, values: Array, /) -> bool:
        """Say whether a host array lies in memory that was page-locked by :meth:`page_lock`."""
        return any(np.may_share_memory(values, one) for one in self._locked)

    def room(self, nbytes: int, /) -> Array:
        """Return memory of the device, poisoned: bytes that no program of the host looks at."""
        self._count(nbytes)
        room = np.full(nbytes, 0xFF, dtype=np.uint8)
        # Views of it, which arrays of a device are, keep it from being let go.
        weakref.finalize(room, self._count, -nbytes)
        return room

    def _count(self, nbytes: int) -> None:
        with self._counted:
            if nbytes > self.free_bytes():
                raise MemoryError(f"{nbytes} bytes")
            self.taken += nbytes
            self.most_taken = max(self.most_taken, self.taken)

    def view(self, room: Array, start: int, shape: tuple[int, ...], dtype: np.dtype[Any], /) -> Array:
        """Return an array of array-api-strict in a room."""
        xp = _strict()
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        values = room[start : start + nbytes].view(dtype).reshape(shape)
        return xp.asarray(values, device=xp.Device(DEVICE), copy=False)

    def copy(self, source: Array, room: Array, start: int, /) -> None:
        """Copy, some time; then poison a slot, so that who fills it too early loses nothing unseen."""
        given = self.is_pinned(source)

        def do() -> None:
            room[start : start + len(source)] = source
            if not given:
                source[:] = 0xFF

        self.copying.give(do)

    def fetch(self, room: Array, start: int, target: Array, /) -> None:
        """Copy back, some time; until then the target is poison, so that nobody reads or keeps it unseen.

        What was copied is poison afterwards, so that who writes to the room too early loses nothing unseen.
        """
        target[:] = 0xFF

        def do() -> None:
            target[:] = room[start : start + len(target)]
            room[start : start + len(target)] = 0xFF

        self.fetching.give(do)

    def launch(self, work: Callable[[], T], /) -> Callable[[], T]:
        """Do `work`, some time; after an error nothing more is done."""
        results: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        stream = self.computing

        def do() -> None:
            result = None
            if stream.failed is None:
                try:
                    result = work()
                except BaseException as error:  # noqa: BLE001  (it is raised where the result is asked for)
                    stream.failed = error
            results.put(result)

        def result() -> T:
            came = results.get()
            if stream.failed is not None:
                raise stream.failed
            return came  # type: ignore[return-value]  # None stands for a failure alone

        stream.give(do)
        return result

    def let_go(self, room: Array, /) -> None:
        """Poison a room when what was given before is done: who still looks at it sees NaN."""
        self.computing.give(lambda: room.fill(0xFF))

    def free_bytes(self) -> int:
        """Return how much memory is left."""
        return self.memory - self.taken


class FakeBackend(SendingReading, ThreadedReading):
    """The backend of a :class:`FakeDevice`; its arrays are array-api-strict's, on a device of their own."""

    name = NAME
    generic = False

    def __init__(self, **options: Any) -> None:
        self._options = options

    def new_device(self) -> Any:
        """Return the device."""
        return FakeDevice(**self._options)

    def owns(self, x: object, /) -> bool:
        """Say whether `x` lies on the device, or is Blocks of such."""
        if isinstance(x, Blocks):
            return x.backend_name == self.name
        if not type(x).__module__.startswith("array_api_strict"):
            return False
        return str(getattr(x, "device", "")) == str(_strict().Device(DEVICE))

    def workers(self) -> int:
        """Return 1: a device works through one queue."""
        return 1

    def run_bytes(self) -> int:
        """Return how many bytes of an array in memory are worked on as one."""
        return 2**12

    def blocks(self, x: Any, /, *, name: str | None = None) -> Blocks:
        """Return an array as Blocks, views of it."""
        if isinstance(x, Blocks):
            return x
        return SourceBlocks(ArraySource(x, name=name or "device array"), backend_name=self.name)

    def map(self, row_map: RowMap, x: Any, /) -> Any:
        """Apply `row_map`, lazily to Blocks."""
        return x.map(row_map) if isinstance(x, Blocks) else row_map(x)

    def to_host(self, block: Array, /) -> np.ndarray[Any, Any]:
        """Copy one block to host memory, and count it."""
        if isinstance(block, np.ndarray):
            return block
        host = np.array(values_of(block))
        ledger = self.device().ledger
        ledger.down += host.nbytes
        ledger.waits += 1
        return host

    def from_host(self, values: Array, /, *, like: Array | None = None) -> Array:  # noqa: ARG002  (there is one device)
        """Copy host values to the device; text stays where it is."""
        values = np.asarray(values)
        if values.dtype.kind not in "fiubc":
            return values
        self.device().ledger.up += values.nbytes
        xp = _strict()
        return xp.asarray(values, device=xp.Device(DEVICE), copy=True)


def register_fake(**options: Any) -> FakeBackend:
    """Register a fake device under the name ``"device"`` for this process, and return its backend."""
    backend = FakeBackend(**options)
    register(backend)
    return backend


def _strict() -> Any:
    import array_api_strict  # a test's library, not this one's

    return array_api_strict
