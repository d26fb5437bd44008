"""The CuPy backend: arrays on a GPU, and host Blocks that are streamed there through a ring of page-locked memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import numpy as np

from ooclearn.blocks import Blocks
from ooclearn.exceptions import BackendError, BlockMemoryError
from ooclearn.ring import Device, Ledger
from ooclearn.rowmaps import RowMap
from ooclearn.sending import SendingReading
from ooclearn.types import Array
from ooclearn_backends.array_api import ArrayApiBackend

__all__ = ["BACKEND", "CupyBackend", "CupyDevice"]

T = TypeVar("T")

# Giving the device the work on some rows takes 0.1 to 0.3 ms; on so many it does that work for as long.
_RUN = 2**30

# cudaErrorMemoryAllocation, for which CuPy has no name.
_NO_MEMORY = 2

# What is longer is copied by way of page-locked memory: CuPy's own way through it takes one thread for all.
_STAGED = 2**20


class CupyBackend(SendingReading, ArrayApiBackend):
    """Blocks on a CUDA device; work is done there, and states of a few numbers come back."""

    name = "cupy"
    generic = False

    def __init__(self) -> None:
        self._devices: dict[int, CupyDevice] = {}
        self._own = threading.local()

    def device(self) -> Device:
        """Return the device that is current in this thread."""
        cp = _cupy()
        number = int(cp.cuda.Device().id)
        with self._lock:
            if number not in self._devices:
                self._devices[number] = CupyDevice(cp, number)
            return self._devices[number]

    def owns(self, x: object, /) -> bool:
        """Say whether `x` is a CuPy array, or Blocks of such."""
        if isinstance(x, Blocks):
            return x.backend_name == self.name
        return type(x).__module__.partition(".")[0] == "cupy"

    def run_bytes(self) -> int:
        """Return how many bytes of an array in memory are worked on as one; temporary arrays take several times that."""
        return int(min(_RUN, self.device().free_bytes() // 16))

    def taken_along(self) -> Callable[[], AbstractContextManager[Any]]:
        """Return what threads that work for this one enter first: its current device and stream."""
        cp = _cupy()
        number, stream = cp.cuda.Device().id, cp.cuda.get_current_stream()

        @contextmanager
        def there() -> Iterator[None]:
            with cp.cuda.Device(number), stream:
                yield

        return there

    def map(self, row_map: RowMap, x: Any, /) -> Any:
        """Apply `row_map`: at once to an array, on its device, when they are read to Blocks."""
        try:
            return super().map(row_map, x)
        except BlockMemoryError:
            raise
        except MemoryError as error:
            raise BlockMemoryError(
                f"the device has not enough memory to map an array of {x.nbytes:,} bytes as one ({error}). Pass "
                "ooclearn.scan(X, block_rows=...) of fewer rows: they are mapped block by block, when they are read"
            ) from error

    def to_host(self, block: Array, /) -> np.ndarray[Any, Any]:
        """Copy one block to host memory."""
        if isinstance(block, np.ndarray):
            return block
        host: np.ndarray[Any, Any] = _cupy().asnumpy(block)
        ledger = self.device().ledger
        ledger.down += host.nbytes
        ledger.waits += 1
        return host

    def from_host(self, values: Array, /, *, like: Array | None = None) -> Array:  # noqa: ARG002  (the current device)
        """Copy host values to the device; text stays where it is."""
        values = np.asarray(values)
        if values.dtype.kind not in "fiubc":
            return values
        cp = _cupy()
        self.device().ledger.up += values.nbytes
        if values.nbytes < _STAGED:
            return cp.asarray(values)
        staged = self.device().pinned(values.nbytes).view(values.dtype).reshape(values.shape)
        staged[...] = values
        # Its memory belongs to the current stream, in whose order it is used and recycled; the copy has a stream of
        # this thread's own, so that those of several threads do not wait for one another's work.
        out = cp.empty(values.shape, values.dtype)
        stream = getattr(self._own, "stream", None)
        if stream is None:
            stream = self._own.stream = cp.cuda.Stream(non_blocking=True)
        stream.wait_event(cp.cuda.get_current_stream().record())
        out.set(staged, stream=stream)
        stream.synchronize()
        return out


class _Stream:
    """A CUDA stream, with the two verbs of :class:`ooclearn.ring.Stream`."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def wait(self, event: Any, /) -> None:
        """Let what is given from now on begin after `event`."""
        self.stream.wait_event(event)

    def record(self, event: Any, /) -> None:
        """Set the mark behind what has been given."""
        event.record(self.stream)


class CupyDevice:
    """One GPU, as the ring sees it.

    Parameters
    ----------
    cp : module
        CuPy.
    number : int
        Of the device.
    """

    def __init__(self, cp: Any, number: int) -> None:
        self._cp = cp
        self.number = number
        self.ledger = Ledger()
        with cp.cuda.Device(number):
            self.copying = _Stream(cp.cuda.Stream(non_blocking=True))
            self.computing = _Stream(cp.cuda.Stream(non_blocking=True))
            self.fetching = _Stream(cp.cuda.Stream(non_blocking=True))

    @contextmanager
    def working(self) -> Iterator[None]:
        """Have the device be the current one; at the end all work that it was given is done."""
        streams = [one.stream for one in (self.copying, self.computing, self.fetching)]
        with self._cp.cuda.Device(self.number):
            # What the caller has given its own stream comes before: row maps keep arrays that were sent on it.
            before = self._cp.cuda.get_current_stream().record()
            for stream in streams:
                stream.wait_event(before)
            try:
                yield
            finally:
                for stream in streams:
                    stream.synchronize()

    def event(self) -> Any:
        """Return a new event; one that takes no time is cheaper, and who waits for it leaves the processor to others."""
        return self._cp.cuda.Event(block=True, disable_timing=True)

    def pinned(self, nbytes: int, /) -> Array:
        """Return page-locked host memory, as bytes; CuPy's pool keeps it for the next pass."""
        import cupyx

        try:
            memory: Array = cupyx.empty_pinned((nbytes,), np.uint8)
        except self._cp.cuda.runtime.CUDARuntimeError as error:
            # Of the device's memory CuPy raises a MemoryError, of the host's this.
            if error.status != _NO_MEMORY:
                raise
            raise MemoryError(f"{nbytes:,} bytes of page-locked memory of the host cannot be had") from error
        return memory

    def room(self, nbytes: int, /) -> Any:
        """Return memory of the device."""
        # CuPy recycles memory within a stream, in the order of its work. What the computing stream lets go may be in
        # use there yet, and must not be copied to: rooms are the copying stream's.
        with self.copying.stream:
            return self._cp.empty(nbytes, dtype=np.uint8)

    def view(self, room: Any, start: int, shape: tuple[int, ...], dtype: np.dtype[Any], /) -> Array:
        """Return an array that lies in a room."""
        return self._cp.ndarray(shape, dtype=dtype, memptr=room.data + start)

    def copy(self, source: Array, room: Any, start: int, /) -> None:
        """Have bytes of pinned memory copied to a room, on the copying stream."""
        (room.data + start).copy_from_host_async(source.ctypes.data, source.nbytes, self.copying.stream)

    def fetch(self, room: Any, start: int, target: Array, /) -> None:
        """Have bytes of a room copied to pinned memory, on the fetching stream."""
        (room.data + start).copy_to_host_async(target.ctypes.data, target.nbytes, self.fetching.stream)

    def is_pinned(self, values: Array, /) -> bool:
        """Say whether a host array lies in page-locked memory: both its ends do."""
        runtime = self._cp.cuda.runtime
        first = values.ctypes.data
        with self._cp.cuda.Device(self.number):
            kinds = [runtime.pointerGetAttributes(at).type for at in (first, first + values.nbytes - 1)]
        return all(kind == runtime.memoryTypeHost for kind in kinds)

    def launch(self, work: Callable[[], T], /) -> Callable[[], T]:
        """Do what gives the device work, on the computing stream."""
        # Not held over a `yield`: the current stream belongs to the thread.
        with self.computing.stream:
            result = work()
        return lambda: result

    def let_go(self, room: Any, /) -> None:
        """Do nothing: memory of a GPU need not be poisoned."""

    def free_bytes(self) -> int:
        """Return how much memory is left, within the limit of CuPy's pool."""
        cp = self._cp
        with cp.cuda.Device(self.number):
            pool = cp.get_default_memory_pool()
            free = int(cp.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())
            limit = int(pool.get_limit())
            return min(free, limit - int(pool.used_bytes())) if limit else free


def _cupy() -> Any:
    """Return CuPy, or say what to install."""
    try:
        import cupy
    except ImportError as error:
        raise BackendError(
            'CuPy is not installed; for a CUDA 12 driver: pip install "ooclearn[cuda12]", for CUDA 13: '
            'pip install "ooclearn[cuda13]"'
        ) from error
    if not cupy.cuda.is_available():
        raise BackendError(
            "CuPy is installed but finds no CUDA device, or the driver is too old for it; look at nvidia-smi, and "
            'install the extra that fits the driver: "ooclearn[cuda12]" or "ooclearn[cuda13]"'
        )
    return cupy


BACKEND = CupyBackend()
